//! What databases had at the run before and have now: one that was emptied or is gone is never a plain success; pure.
//!
//! What a database had is handed on from run to run in the figures until it has something again or the config accepts
//! that it has not, since the run that tells of it first is published too.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::server::{KEYS, LIBRARIES};

/// Figures: how many tables (of a Redis: keys) a database has, how many it had before it was lost, and how long its
/// container's dump is in bytes.
const NOW: &str = "tables.";
const HAD: &str = "had.";
const DUMPED: &str = "dumped.";
/// A dump that is shorter than this part of the one before tells of a loss, whatever tables there are.
const SHRUNK_TO: u64 = 10;
/// Shorter ones than this in bytes are not compared.
const SHRUNK_BYTES_MIN: u64 = 64 << 10;

/// What was found now.
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// By `container/database`.
    pub(super) tables: BTreeMap<String, u64>,
    /// Bytes of dumps, by `container/database`.
    pub(super) dumped: BTreeMap<String, u64>,
    /// Databases of a Redis, by `container/database`, whose keys all run out by themselves.
    pub(super) passing: BTreeSet<String>,
    /// Containers that are there and were not asked: they stand still, or the config is not about them any more.
    pub(super) unasked: BTreeSet<String>,
}

/// What it means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) warnings: Vec<Trouble>,
    /// What may be as it should.
    pub(super) notices: Vec<Trouble>,
    /// What was accepted.
    pub(super) accepted: Vec<Trouble>,
    pub(super) figures: BTreeMap<String, u64>,
}

impl Stock {
    /// Compares it with the figures of the run before; `accept` names what may be empty or gone.
    pub(super) fn compare(&self, before: &BTreeMap<String, u64>, accept: &[String]) -> Compared {
        let mut compared = Compared::default();
        compared.figures.extend(self.tables.iter().map(|(key, count)| (format!("{NOW}{key}"), *count)));
        compared.figures.extend(self.dumped.iter().map(|(key, bytes)| (format!("{DUMPED}{key}"), *bytes)));
        let of = |prefix: &str, name: &str| name.strip_prefix(prefix).map(str::to_owned);
        let mut had: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in before {
            if let Some(key) = of(NOW, name).or_else(|| of(HAD, name)) {
                let most = had.entry(key).or_default();
                *most = (*most).max(*count);
            }
        }
        had.retain(|_, count| *count > 0);
        for (key, count) in &had {
            let Some((container, database)) = key.split_once('/') else { continue };
            if let Some(now) = self.tables.get(key).filter(|now| **now > 0) {
                compared.notices.extend(fewer(key, *now, *count));
                continue;
            }
            // That all keys of it are gone is told once.
            let is_of_redis = self.tables.get(&format!("{container}/{KEYS}"));
            let is_part =
                database != KEYS && is_of_redis == Some(&0) && had.contains_key(&format!("{container}/{KEYS}"));
            if self.passing.contains(key) || is_part || self.moved(container, database) {
                continue;
            }
            if self.unasked.contains(container) {
                compared.figures.insert(format!("{HAD}{key}"), *count);
                continue;
            }
            // A Redis lists no database without a key.
            let told = match self.tables.get(key).or(is_of_redis) {
                Some(_) => Trouble::new(codes::DATABASE_EMPTIED, format!("{} is empty; it had {count}", shown(key))),
                None => Trouble::new(codes::DATABASE_GONE, format!("{} is gone; it had {count}", shown(key))),
            };
            if accept.contains(key) {
                compared.accepted.push(told);
            } else {
                compared.figures.insert(format!("{HAD}{key}"), *count);
                let hint =
                    format!("look what became of it; older backups have it; if that is right: `accept: [{key}]`");
                compared.warnings.push(told.with_hint(hint));
            }
        }
        self.never_filled(&had, accept, &mut compared);
        for (key, bytes) in &self.dumped {
            let then = before.get(&format!("{DUMPED}{key}")).copied().unwrap_or(0);
            if then >= SHRUNK_BYTES_MIN && bytes.saturating_mul(SHRUNK_TO) < then && !accept.contains(key) {
                let told = format!("the dump of {} has {bytes} bytes; it had {then}", shown(key));
                let trouble = Trouble::new(codes::DATABASE_SHRUNK, told);
                compared.warnings.push(trouble.with_hint(format!(
                    "look whether something was deleted in it; older backups have it; if that is right: `accept: [{key}]`"
                )));
            }
        }
        compared
    }

    /// A server of which no database ever had a table: somebody waits for a backup of it.
    fn never_filled(&self, had: &BTreeMap<String, u64>, accept: &[String], compared: &mut Compared) {
        let containers: BTreeSet<&str> = self.tables.keys().filter_map(|key| Some(key.split_once('/')?.0)).collect();
        for container in containers {
            let of_it = |key: &&String| key.split_once('/').is_some_and(|(name, _)| name == container);
            let total: u64 = self.tables.iter().filter(|(key, _)| of_it(key)).map(|(_, count)| count).sum();
            let keys: Vec<&String> = self.tables.keys().filter(of_it).collect();
            // A Redis without a key is as it is made; it is told only when it had some.
            let is_cache = keys.iter().all(|key| key.ends_with("/keys"));
            if total > 0 || is_cache || had.keys().any(|key| of_it(&key)) {
                continue;
            }
            let told = Trouble::new(codes::DATABASE_EMPTY, format!("no database of {container} has a table"));
            let is_accepted = |name: &String| name == container || of_it(&name);
            if accept.iter().any(is_accepted) {
                compared.accepted.push(told);
            } else {
                let hint = format!("if that is right: `accept: [{container}]`; else look what became of it");
                compared.warnings.push(told.with_hint(hint));
            }
        }
    }

    /// Its container has another name now, such as of another version of compose.
    fn moved(&self, container: &str, database: &str) -> bool {
        let plain = |name: &str| name.replace('_', "-");
        let is_it = |key: &String| {
            key.split_once('/')
                .is_some_and(|(other, name)| other != container && name == database && plain(other) == plain(container))
        };
        self.tables.iter().any(|(key, now)| *now > 0 && is_it(key))
    }
}

/// Fewer tables than there were; keys come and go.
fn fewer(key: &str, now: u64, had: u64) -> Option<Trouble> {
    let (_, name) = key.split_once('/')?;
    let number = name.strip_prefix("db").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if now >= had || number || [KEYS, LIBRARIES].contains(&name) {
        return None;
    }
    let told = format!("{} has {now} tables; it had {had} at the last backup", shown(key));
    Some(
        Trouble::new(codes::TABLE_GONE, told)
            .with_hint("nothing is to be done if that is right; else older backups have them"),
    )
}

/// `container/database` in words.
fn shown(key: &str) -> String {
    match key.split_once('/') {
        Some((container, KEYS)) => format!("the Redis in {container}"),
        Some((container, LIBRARIES)) => format!("the library of functions of the Redis in {container}"),
        Some((container, database)) => format!("the database {database} in {container}"),
        None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(tables: &[(&str, u64)]) -> Stock {
        Stock { tables: tables.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect(), ..Stock::default() }
    }

    fn codes(compared: &Compared) -> Vec<&str> {
        compared.warnings.iter().map(|trouble| trouble.code.as_str()).collect()
    }

    #[test]
    fn a_database_that_is_emptied_and_then_dropped_is_told_until_it_is_accepted() {
        let first = stock(&[("db/shop", 6), ("db/postgres", 0)]).compare(&BTreeMap::new(), &[]);
        assert_eq!(codes(&first), Vec::<&str>::new());
        let emptied = stock(&[("db/shop", 0), ("db/postgres", 0)]);
        let second = emptied.compare(&first.figures, &[]);
        assert_eq!(codes(&second), ["database_emptied"]);
        let dropped = stock(&[("db/postgres", 0)]);
        let third = dropped.compare(&second.figures, &[]);
        let fourth = dropped.compare(&third.figures, &[]);
        for told in [&third, &fourth] {
            assert_eq!(codes(told), ["database_gone"]);
            assert!(told.warnings[0].message.contains("it had 6"), "{told:?}");
        }
        let accepted = dropped.compare(&fourth.figures, &["db/shop".to_owned(), "db".to_owned()]);
        assert_eq!((codes(&accepted), accepted.accepted.len()), (vec![], 1));
        let after = dropped.compare(&accepted.figures, &["db/shop".to_owned()]);
        assert_eq!((codes(&after), after.accepted.len()), (vec![], 1), "whoever accepts the loss is not asked again");
        let back = stock(&[("db/shop", 2)]).compare(&fourth.figures, &[]);
        assert_eq!((codes(&back), back.figures.len()), (vec![], 1));
    }

    #[test]
    fn one_database_of_a_redis_and_its_functions_are_missed_and_what_runs_out_by_itself_is_not() {
        let before = stock(&[("r/keys", 4000), ("r/db0", 2000), ("r/db3", 2000), ("r/functions", 1)]);
        let before = before.compare(&BTreeMap::new(), &[]).figures;
        let told = stock(&[("r/keys", 2000), ("r/db0", 1), ("r/functions", 0)]).compare(&before, &[]);
        assert_eq!(codes(&told), ["database_emptied", "database_emptied"]);
        assert!(told.warnings[0].message.contains("db3") && told.warnings[1].message.contains("functions"), "{told:?}");
        assert!(told.notices.is_empty());
        let mut passing = stock(&[("r/keys", 2001), ("r/db0", 2000), ("r/functions", 1)]);
        passing.passing.insert("r/db3".to_owned());
        assert_eq!(codes(&passing.compare(&before, &[])), Vec::<&str>::new());
        let all = stock(&[("r/keys", 0), ("r/functions", 1)]).compare(&before, &[]);
        assert_eq!(codes(&all), ["database_emptied"], "it is told once");
    }

    #[test]
    fn fewer_tables_are_said_and_no_loss() {
        let before = BTreeMap::from([("tables.db/shop".to_owned(), 6)]);
        let told = stock(&[("db/shop", 5)]).compare(&before, &[]);
        assert_eq!((codes(&told), told.notices.len()), (vec![], 1));
        assert!(told.notices[0].message.contains("has 5 tables; it had 6"), "{told:?}");
        assert!(stock(&[("db/shop", 6)]).compare(&before, &[]).notices.is_empty());
    }

    #[test]
    fn what_was_not_asked_is_remembered_and_no_loss() {
        let before = BTreeMap::from([("tables.db/shop".to_owned(), 6)]);
        let still = Stock { unasked: BTreeSet::from(["db".to_owned()]), ..Stock::default() };
        let told = still.compare(&before, &[]);
        assert_eq!((codes(&told), told.figures.get("had.db/shop")), (vec![], Some(&6)));
        let renamed = stock(&[("p-db-1/shop", 6)]);
        let before = BTreeMap::from([("tables.p_db_1/shop".to_owned(), 6)]);
        assert_eq!(codes(&renamed.compare(&before, &[])), Vec::<&str>::new());
    }

    #[test]
    fn a_server_without_any_table_and_a_dump_that_lost_most_are_told_and_an_empty_cache_is_not() {
        assert_eq!(codes(&stock(&[("db/app", 0)]).compare(&BTreeMap::new(), &[])), ["database_empty"]);
        assert_eq!(codes(&stock(&[("cache/keys", 0)]).compare(&BTreeMap::new(), &[])), Vec::<&str>::new());
        let mut now = stock(&[("db/app", 3)]);
        now.dumped.insert("db/app".to_owned(), 20_000);
        let before = BTreeMap::from([("dumped.db/app".to_owned(), 900_000)]);
        assert_eq!(codes(&now.compare(&before, &[])), ["database_shrunk"]);
    }
}
