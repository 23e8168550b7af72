//! Which snapshots we made and did not forget, one small record each, and what each repository was seen to hold.
//!
//! ```text
//! meta  kept/<destination>/<target>/<policy>/<snapshot>   Known
//! meta  holdings/<destination>                            Holdings, without what is said of single jobs
//! meta  found/<destination>/<target>/<policy>             Found
//! meta  site/id                                           SiteId
//! ```
//! A snapshot is written down when a listing shows it for the first time, marked before it is forgotten, and taken out
//! when it is gone. So what is here, unmarked and not in the repository vanished without us.
//!
//! What is found of a job has a record of its own, since a value is bounded and the number of jobs is not: one that was left
//! out would not be held.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, parse};
use super::{Batch, StoreError, Tree};
use crate::run::holdings::altered::Altered;
use crate::run::holdings::newer::Newer;
use crate::run::holdings::places::Orders;
use crate::run::holdings::{Books, Holdings, Known, Missing};
use crate::types::site::SiteId;
use crate::types::{JobId, Name, RunId};

const KEPT: &str = "kept/";
const HOLDINGS: &str = "holdings/";
const FOUND: &str = "found/";
const SITE: &str = "site/id";
const HIGHEST: &str = "kept-highest";

/// What a listing shows of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<Missing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing_orphaned: Option<Missing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newer: Option<Newer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    altered: Option<Altered>,
}

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
        let Some(holdings) = self.meta_get(&format!("{HOLDINGS}{destination}"))? else { return Ok(None) };
        self.with_found(destination, holdings).map(Some)
    }

    /// What every repository was seen to hold the last time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_holdings(&self) -> Result<Vec<(Name, Holdings)>, StoreError> {
        let mut all = Vec::new();
        for (key, holdings) in self.meta_list::<Holdings>(HOLDINGS)? {
            let Some(Ok(name)) = key.strip_prefix(HOLDINGS).map(Name::parse) else { continue };
            let holdings = self.with_found(&name, holdings)?;
            all.push((name, holdings));
        }
        Ok(all)
    }

    /// Puts what a repository was seen to hold: of the jobs only what changed.
    ///
    /// # Errors
    /// When the store cannot be read or the records cannot be written as JSON.
    pub fn put_holdings(&self, batch: &mut Batch, destination: &Name, holdings: &Holdings) -> Result<(), StoreError> {
        let (before, after) = (self.found(destination)?, found_in(holdings));
        let jobs: BTreeSet<&JobId> = before.keys().chain(after.keys()).collect();
        for job in jobs {
            let key = format!("{FOUND}{destination}/{job}");
            match after.get(job) {
                Some(found) if before.get(job) == Some(found) => {}
                Some(found) => batch.meta_put(&key, found)?,
                None => batch.meta_remove(&key),
            }
        }
        let (missing, missing_orphaned) = (Vec::new(), Vec::new());
        let rest = Holdings { missing, missing_orphaned, newer: Vec::new(), altered: Vec::new(), ..holdings.clone() };
        batch.put_fitted(Tree::Meta, format!("{HOLDINGS}{destination}"), &rest)
    }

    /// The order of the runs of all jobs of `targets` in other repositories than `destination`, and those of them that are
    /// known to be right: no older state was found by them there, or that was accepted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn orders_elsewhere(
        &self,
        destination: &Name,
        targets: &BTreeSet<&Name>,
    ) -> Result<(Orders, BTreeSet<RunId>), StoreError> {
        let (mut orders, mut right) = (Orders::new(), BTreeSet::new());
        if targets.is_empty() {
            return Ok((orders, right));
        }
        for (name, holdings) in self.all_holdings()?.into_iter().filter(|(name, _)| name != destination) {
            for target in targets {
                let prefix = format!("{KEPT}{name}/");
                for (key, known) in self.meta_list::<Known>(&format!("{prefix}{target}/"))? {
                    let job = key.strip_prefix(&prefix).and_then(|rest| rest.rsplit_once('/')?.0.parse::<JobId>().ok());
                    let (Some(job), Some(run)) = (job, known.run) else { continue };
                    if !holdings.newer.iter().any(|newer| newer.job == job) {
                        right.insert(run);
                    }
                    orders.entry(job).or_default().insert(run, known.order);
                }
            }
        }
        Ok((orders, right))
    }

    fn found(&self, destination: &Name) -> Result<BTreeMap<JobId, Found>, StoreError> {
        let prefix = format!("{FOUND}{destination}/");
        let mut all = BTreeMap::new();
        for (key, found) in self.meta_list::<Found>(&prefix)? {
            if let Some(Ok(job)) = key.strip_prefix(&prefix).map(str::parse) {
                all.insert(job, found);
            }
        }
        Ok(all)
    }

    /// `holdings` with what was found of each job, by job; an older Larder wrote all into one record.
    fn with_found(&self, destination: &Name, mut holdings: Holdings) -> Result<Holdings, StoreError> {
        for (_, found) in self.found(destination)? {
            holdings.missing.extend(found.missing);
            holdings.missing_orphaned.extend(found.missing_orphaned);
            holdings.newer.extend(found.newer);
            holdings.altered.extend(found.altered);
        }
        Ok(holdings)
    }
}

/// What is found of each job.
fn found_in(holdings: &Holdings) -> BTreeMap<JobId, Found> {
    let mut all: BTreeMap<JobId, Found> = BTreeMap::new();
    for missing in &holdings.missing {
        all.entry(missing.job.clone()).or_default().missing = Some(missing.clone());
    }
    for missing in &holdings.missing_orphaned {
        all.entry(missing.job.clone()).or_default().missing_orphaned = Some(missing.clone());
    }
    for newer in &holdings.newer {
        all.entry(newer.job.clone()).or_default().newer = Some(newer.clone());
    }
    for altered in &holdings.altered {
        all.entry(altered.job.clone()).or_default().altered = Some(altered.clone());
    }
    all
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
        Known::new(order, "2026-11-29T02:00:00Z".parse().unwrap())
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
    fn what_is_found_of_each_of_many_jobs_is_kept_and_what_is_well_again_goes() {
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        let at: jiff::Timestamp = "2026-11-29T02:00:00Z".parse().unwrap();
        let job = |n: u32| -> JobId { format!("target-with-a-long-name-{n:04}/daily").parse().unwrap() };
        let newer = |n: u32| Newer {
            job: job(n),
            snapshots: 1,
            gone: 0,
            since: at,
            from: at,
            to: at,
            order: 1,
            beside: false,
            on: None,
            mark: String::new(),
        };
        let missing = |n: u32| Missing {
            job: job(n),
            snapshots: 1,
            newest: true,
            since: at,
            from: at,
            to: at,
            mark: String::new(),
        };
        let mut holdings = Holdings {
            at,
            snapshots: 9,
            ours: 9,
            future: 0,
            foreign: Vec::new(),
            missing: (500..1000).map(missing).collect(),
            missing_orphaned: vec![missing(1000)],
            newer: (0..700).map(newer).collect(),
            altered: Vec::new(),
            copies: 0,
        };
        // As an older Larder wrote it, and as it is written anew.
        let mut batch = Batch::default();
        let few = Holdings { missing: vec![missing(1)], newer: vec![newer(2)], ..holdings.clone() };
        batch.meta_put("holdings/nas", &few).unwrap();
        ledger.commit(batch).unwrap();
        assert_eq!(ledger.holdings(&name("nas")).unwrap(), Some(few));
        for _ in 0..2 {
            let mut batch = Batch::default();
            ledger.put_holdings(&mut batch, &name("nas"), &holdings).unwrap();
            ledger.commit(batch).unwrap();
            assert_eq!(ledger.holdings(&name("nas")).unwrap().as_ref(), Some(&holdings));
            assert_eq!(ledger.all_holdings().unwrap(), [(name("nas"), holdings.clone())]);
            holdings.missing.remove(7);
            holdings.newer.remove(7);
        }
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
