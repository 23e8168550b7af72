//! The figures of each repository and of the targets in it, with a short history of them.
//!
//! ```text
//! meta  statistics/<destination>                  Statistics
//! meta  target-statistics/<destination>/<target>  TargetStatistics
//! ```
//! A hundred days of a destination are 5 KiB, thirty of a target 2 KiB. A state that was lost begins them anew.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::{Batch, StoreError, Tree};
use crate::run::statistics::{Statistics, TargetStatistics};
use crate::types::Name;

const DESTINATIONS: &str = "statistics/";
const TARGETS: &str = "target-statistics/";

impl Ledger {
    /// What is known of a destination; nothing, where nobody has looked.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn statistics(&self, destination: &Name) -> Result<Statistics, StoreError> {
        Ok(self.meta_get(&format!("{DESTINATIONS}{destination}"))?.unwrap_or_default())
    }

    /// What is known of every destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_statistics(&self) -> Result<BTreeMap<Name, Statistics>, StoreError> {
        let all = self.meta_list(DESTINATIONS)?.into_iter();
        Ok(all.filter_map(|(key, each)| Some((Name::parse(key.strip_prefix(DESTINATIONS)?).ok()?, each))).collect())
    }

    /// What is known of the targets in a destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn target_statistics(&self, destination: &Name) -> Result<BTreeMap<Name, TargetStatistics>, StoreError> {
        let prefix = format!("{TARGETS}{destination}/");
        let all = self.meta_list(&prefix)?.into_iter();
        Ok(all.filter_map(|(key, each)| Some((Name::parse(key.strip_prefix(&prefix)?).ok()?, each))).collect())
    }
}

impl Batch {
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put_statistics(&mut self, destination: &Name, statistics: &Statistics) -> Result<(), StoreError> {
        self.put_fitted(Tree::Meta, format!("{DESTINATIONS}{destination}"), statistics)
    }

    /// Puts what is known of a target, or that nothing of it is there any more.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put_target_statistics(
        &mut self,
        destination: &Name,
        target: &Name,
        statistics: Option<&TargetStatistics>,
    ) -> Result<(), StoreError> {
        let key = format!("{TARGETS}{destination}/{target}");
        match statistics {
            Some(statistics) => self.meta_put(&key, statistics),
            None => {
                self.meta_remove(&key);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::civil::Date;

    use super::*;
    use crate::run::statistics::{DAYS_MAX, Day, Figures, NextForget, Size, TARGET_DAYS_MAX, put_day};
    use crate::store::memory::MemoryStore;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// As long as they get.
    fn days(days_max: usize) -> Vec<Day> {
        let mut days = Vec::new();
        for after in 0..200 {
            let date = Date::constant(2026, 1, 1).saturating_add(jiff::Span::new().days(after));
            put_day(&mut days, Day { date, stored: u64::MAX, logical: u64::MAX }, days_max);
        }
        days
    }

    #[test]
    fn what_is_known_is_read_back_by_destination_and_target_and_stays_small() {
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        assert_eq!(ledger.statistics(&name("nas")).unwrap(), Statistics::default());
        let at = "2026-11-30T03:00:00Z".parse().unwrap();
        let size = Size { snapshots: 3, logical: 9, uncompressed: 6, stored: 5 };
        let next_forget = NextForget::Frees { snapshots: 1, bytes: 2 };
        let figures = Figures { at, size, others: 1, unneeded: None, next_forget, measured: None };
        let known = Statistics { tried: Some(at), trouble: None, figures: Some(figures), days: days(DAYS_MAX) };
        let days = days(TARGET_DAYS_MAX);
        let of_target = TargetStatistics { at, size, newest_logical: Some(3), mark: "1234abcd".to_owned(), days };
        let mut batch = Batch::default();
        batch.put_statistics(&name("nas"), &known).unwrap();
        batch.put_target_statistics(&name("nas"), &name("photos"), Some(&of_target)).unwrap();
        batch.put_target_statistics(&name("nas-2"), &name("photos"), Some(&of_target)).unwrap();
        let bytes: Vec<usize> = batch.writes.iter().map(|(_, _, value)| value.as_ref().unwrap().len()).collect();
        assert!(bytes[0] < 7 * 1024 && bytes[1] < 2200, "{bytes:?}");
        ledger.commit(batch).unwrap();
        assert_eq!(ledger.statistics(&name("nas")).unwrap(), known);
        assert_eq!(ledger.all_statistics().unwrap(), BTreeMap::from([(name("nas"), known)]));
        assert_eq!(ledger.target_statistics(&name("nas")).unwrap(), BTreeMap::from([(name("photos"), of_target)]));
        let mut batch = Batch::default();
        batch.put_target_statistics(&name("nas"), &name("photos"), None).unwrap();
        ledger.commit(batch).unwrap();
        assert!(ledger.target_statistics(&name("nas")).unwrap().is_empty());
        assert_eq!(ledger.target_statistics(&name("nas-2")).unwrap().len(), 1);
    }
}
