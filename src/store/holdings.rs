//! Which snapshots we made and did not forget, one small record each, and what each repository was seen to hold.
//!
//! ```text
//! meta  kept/<destination>/<target>/<policy>/<snapshot>   Known
//! meta  holdings/<destination>                            Holdings
//! meta  site/id                                           SiteId
//! ```
//! A snapshot is written down when a listing shows it for the first time, marked before it is forgotten, and taken out
//! when it is gone. So what is here, unmarked and not in the repository vanished without us.

use super::ledger::{Ledger, parse};
use super::{Batch, StoreError, Tree};
use crate::run::holdings::{Books, Holdings, Known};
use crate::types::site::SiteId;
use crate::types::{JobId, Name};

const KEPT: &str = "kept/";
const HOLDINGS: &str = "holdings/";
const SITE: &str = "site/id";
const HIGHEST: &str = "kept-highest";

impl Ledger {
    /// The identity of this site; none before its first use.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn site_id(&self) -> Result<Option<SiteId>, StoreError> {
        self.meta_get(SITE)
    }

    /// What is known of a repository.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn books(&self, destination: &Name) -> Result<Books, StoreError> {
        let mut books = Books { highest: self.meta_get(HIGHEST)?.unwrap_or(0), ..Books::default() };
        let prefix = format!("{KEPT}{destination}/");
        self.each(Tree::Meta, prefix.as_bytes(), |key, value| {
            let Some((job, id)) = place(key, prefix.len()) else { return };
            let Some(known) = parse::<Known>(Tree::Meta, key, value) else { return };
            books.highest = books.highest.max(known.order);
            books.by_job.entry(job).or_default().insert(id, known);
        })?;
        Ok(books)
    }

    /// What a repository was seen to hold the last time; none: it was never looked at.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn holdings(&self, destination: &Name) -> Result<Option<Holdings>, StoreError> {
        self.meta_get(&format!("{HOLDINGS}{destination}"))
    }

    /// What every repository was seen to hold the last time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_holdings(&self) -> Result<Vec<(Name, Holdings)>, StoreError> {
        let all = self.meta_list::<Holdings>(HOLDINGS)?;
        let named =
            |(key, holdings): (String, Holdings)| Some((Name::parse(key.strip_prefix(HOLDINGS)?).ok()?, holdings));
        Ok(all.into_iter().filter_map(named).collect())
    }
}

impl Batch {
    /// # Errors
    /// When the identity cannot be written as JSON.
    pub fn put_site_id(&mut self, site: &SiteId) -> Result<(), StoreError> {
        self.meta_put(SITE, site)
    }

    /// Writes down that a snapshot is there.
    ///
    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_known(&mut self, destination: &Name, job: &JobId, id: &str, known: &Known) -> Result<(), StoreError> {
        self.meta_put(&key(destination, job, id), known)
    }

    /// Takes a snapshot out: we forgot it, or its loss was accepted.
    pub fn remove_known(&mut self, destination: &Name, job: &JobId, id: &str) {
        self.meta_remove(&key(destination, job, id));
    }

    /// The highest order that was given.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put_highest_order(&mut self, order: u64) -> Result<(), StoreError> {
        self.meta_put(HIGHEST, &order)
    }

    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_holdings(&mut self, destination: &Name, holdings: &Holdings) -> Result<(), StoreError> {
        self.put_fitted(Tree::Meta, format!("{HOLDINGS}{destination}"), holdings)
    }
}

fn key(destination: &Name, job: &JobId, id: &str) -> String {
    format!("{KEPT}{destination}/{}/{}/{id}", job.target, job.policy)
}

/// The job and snapshot of a key whose first `prefix` bytes are known.
fn place(key: &[u8], prefix: usize) -> Option<(JobId, String)> {
    let rest = std::str::from_utf8(key.get(prefix..)?).ok()?;
    let (job, id) = rest.rsplit_once('/')?;
    Some((job.parse().ok()?, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::memory::MemoryStore;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn known(order: u64) -> Known {
        Known { order, time: "2026-11-29T02:00:00Z".parse().unwrap(), run: None, leaving: false, missing: false }
    }

    #[test]
    fn what_is_written_down_of_a_repository_is_read_back_by_job_and_of_no_other_repository() {
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        let (photos, etc): (JobId, JobId) = ("photos/daily".parse().unwrap(), "etc/daily".parse().unwrap());
        let mut batch = Batch::default();
        batch.put_known(&name("nas"), &photos, "aa", &known(1)).unwrap();
        batch.put_known(&name("nas"), &photos, "bb", &known(3)).unwrap();
        batch.put_known(&name("nas"), &etc, "cc", &known(2)).unwrap();
        batch.put_known(&name("nas2"), &etc, "dd", &known(9)).unwrap();
        batch.remove_known(&name("nas"), &photos, "aa");
        ledger.commit(batch).unwrap();
        let books = ledger.books(&name("nas")).unwrap();
        assert_eq!(books.highest, 3);
        assert_eq!(books.by_job[&photos].keys().collect::<Vec<_>>(), ["bb"]);
        assert_eq!(books.by_job[&etc]["cc"], known(2));
        assert_eq!(books.by_job.len(), 2);
    }

    #[test]
    fn the_order_goes_on_behind_what_was_forgotten() {
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        let mut batch = Batch::default();
        batch.put_highest_order(7).unwrap();
        ledger.commit(batch).unwrap();
        assert_eq!(ledger.books(&name("nas")).unwrap().highest, 7);
    }
}
