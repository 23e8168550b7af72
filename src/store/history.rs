//! Runs in order: newest first, by job, target or policy, and bounded by count.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{PACKS, job_run_key, job_runs_prefix, open_key};
use super::ledger::{Ledger, parse};
use super::pack::{Pack, Packed};
use super::packing::{Place, events_of, id_behind};
use super::record::{RunEvent, RunRecord, Trigger};
use super::{Batch, ScanOrder, StoreError, Tree, show_key};
use crate::run::RunState;
use crate::run::recovery::{Recovery, recover};
use crate::types::{JobId, Name, RunId};

/// Runs kept for each job when nothing else is asked for.
pub const KEEP_RUNS_DEFAULT: usize = 1000;

/// Runs that one batch prunes at most: enough to catch up, small enough for one write.
const PRUNE_RUNS_MAX: usize = 50;

/// Longest list of runs that is answered at once.
pub const RUNS_MAX: usize = 1000;

/// Which runs to list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    pub target: Option<Name>,
    pub policy: Option<Name>,
    /// Only runs older than this one: the last of the page before.
    pub before: Option<RunId>,
    /// At most [`RUNS_MAX`].
    pub limit: usize,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self { target: None, policy: None, before: None, limit: 50 }
    }
}

impl RunRecord {
    /// Which try this is, counted from 1; 0 for a run that is no retry.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self.trigger {
            Trigger::Retry { attempt, .. } => attempt,
            Trigger::Scheduled { .. }
            | Trigger::Missed { .. }
            | Trigger::Manual
            | Trigger::Returned { .. }
            | Trigger::FoundAgain => 0,
        }
    }

    /// What becomes of this run when a daemon starts and finds it with this log.
    #[must_use]
    pub fn recovery(&self, events: &[RunEvent]) -> Recovery {
        let log: Vec<RunState> = events.iter().map(|event| event.state).collect();
        recover(self.state, &log, self.attempt())
    }
}

impl Ledger {
    /// A run, wherever it is.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        if let Some(run) = self.record(Tree::Runs, &id.to_bytes())? {
            return Ok(Some(run));
        }
        let Some(packed) = self.packed(id)? else { return Ok(None) };
        let refuse = |source| StoreError::Record { key: show_key(Tree::Runs, &id.to_bytes()), source };
        serde_json::from_slice(&packed.record).map(Some).map_err(refuse)
    }

    /// Whether there is a record of a job's run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_run(&self, job: &JobId, id: RunId) -> Result<bool, StoreError> {
        Ok(self.store().get(Tree::Runs, &id.to_bytes())?.is_some() || self.packed_in(job, id)?.is_some())
    }

    /// Whether what a job's run did is known; of one that was found again in its manifest it is not.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn remembers(&self, job: &JobId, id: RunId) -> Result<bool, StoreError> {
        match self.record::<RunRecord>(Tree::Runs, &id.to_bytes())? {
            Some(run) => Ok(run.trigger != Trigger::FoundAgain),
            None => Ok(self.packed_in(job, id)?.is_some_and(|(_, found_again)| !found_again)),
        }
    }

    /// A run's log, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events(&self, run: RunId) -> Result<Vec<RunEvent>, StoreError> {
        let rows = self.log_rows(run)?;
        if !rows.is_empty() || self.store().get(Tree::Runs, &run.to_bytes())?.is_some() {
            return Ok(events_of(&rows));
        }
        let log = self.packed(run)?.and_then(|packed| parse(Tree::Events, &run.to_bytes(), &packed.log));
        Ok(log.unwrap_or_default())
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        let limit = filter.limit.min(RUNS_MAX);
        if filter.target.is_none() && filter.policy.is_none() {
            return self.all_runs(filter.before, limit);
        }
        let mut places = Vec::new();
        for job in self.jobs_with_runs(filter)? {
            places.extend(self.places(&job, filter.before, limit)?);
        }
        places.sort_unstable_by(|a, b| b.cmp(a));
        let (mut reader, mut runs) = (Reader::new(self), Vec::new());
        for place in places {
            if runs.len() >= limit {
                break;
            }
            runs.extend(reader.run(place)?);
        }
        Ok(runs)
    }

    /// The id of the newest run of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_run_id(&self) -> Result<Option<RunId>, StoreError> {
        let (mut after, mut loose) = (vec![PACKS], None);
        // A key that is no run's says nothing of the others.
        while loose.is_none() {
            let newest = self.store().scan(Tree::Runs, &[], Some(&after), ScanOrder::Descending, 1)?;
            let Some((key, _)) = newest.into_iter().next() else { break };
            loose = id_behind(&[], &key);
            after = key;
        }
        Ok(loose.max(self.newest_packed()?))
    }

    /// The newest run of all that are in packs.
    fn newest_packed(&self) -> Result<Option<RunId>, StoreError> {
        let newest = self.store().scan(Tree::Runs, &[PACKS], None, ScanOrder::Descending, 1)?;
        Ok(newest.first().and_then(|(key, _)| id_behind(&[PACKS], key)))
    }

    /// The ids of the snapshots that the runs of a job made, as far as its history goes, and of those that its next runs
    /// compare with.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshots_made(&self, job: &JobId) -> Result<BTreeSet<String>, StoreError> {
        let mut made = BTreeSet::new();
        let mut reader = Reader::new(self);
        for place in self.places(job, None, RUNS_MAX)? {
            let shipments = reader.run(place)?.map(|run| run.shipments).unwrap_or_default();
            made.extend(shipments.into_iter().filter_map(|shipment| shipment.snapshot));
        }
        made.extend(self.job(job)?.into_iter().flat_map(|job| job.parents.into_values()));
        Ok(made)
    }

    /// The oldest run of a job whose history is as long as it gets; none: it is not, so nothing was removed from it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_of_full(&self, job: &JobId) -> Result<Option<RunId>, StoreError> {
        self.oldest_kept(job, KEEP_RUNS_DEFAULT)
    }

    /// The newest run of a job.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_run(&self, job: &JobId) -> Result<Option<RunRecord>, StoreError> {
        match self.places(job, None, 1)?.first() {
            Some(place) => Reader::new(self).run(*place),
            None => Ok(None),
        }
    }

    /// Adds to `batch` what keeps the history of a job short and cheap: runs beyond the newest `keep` go, and old ones are
    /// packed.
    ///
    /// Meant for the batch that finishes a run, of which it knows nothing yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tidy_history(&self, job: &JobId, keep: usize, batch: &mut Batch) -> Result<(), StoreError> {
        self.prune_history(job, keep, batch)?;
        let oldest_kept = self.oldest_kept(job, keep)?;
        self.pack_history(job, oldest_kept, batch).map(drop)
    }

    /// Adds to `batch` the removal of the job's runs beyond the newest `keep`, with their events; answers how many. A pack
    /// goes when all of it is beyond.
    ///
    /// Reads `keep` keys of one job, never all runs; an open run stays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn prune_history(&self, job: &JobId, keep: usize, batch: &mut Batch) -> Result<usize, StoreError> {
        let Some(oldest) = self.oldest_kept(job, keep)? else { return Ok(0) };
        let mut pruned = self.prune_packs(job, oldest, batch)?;
        for id in self.loose_ids(job, Some(oldest), PRUNE_RUNS_MAX)? {
            if self.store().get(Tree::Meta, &open_key(id))?.is_none() {
                self.remove_loose(job, id, batch)?;
                pruned += 1;
            }
        }
        Ok(pruned)
    }

    /// The oldest of the newest `keep` runs of a job; none: it has fewer.
    fn oldest_kept(&self, job: &JobId, keep: usize) -> Result<Option<RunId>, StoreError> {
        let kept = self.places(job, None, keep.max(1))?;
        Ok(kept.last().filter(|_| kept.len() >= keep.max(1)).map(|place| place.id))
    }

    fn all_runs(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (mut loose, mut done) = (BTreeMap::new(), false);
        let mut after = before.map_or_else(|| vec![PACKS], |before| before.to_bytes().to_vec());
        // Each record that is read is checked: no more of them than are asked for.
        while !done {
            let missing = limit - loose.len();
            let page = self.store().scan(Tree::Runs, &[], Some(&after), ScanOrder::Descending, missing)?;
            done = page.len() < missing;
            for (key, value) in page {
                loose.extend(parse::<RunRecord>(Tree::Runs, &key, &value).map(|run| (run.id, run)));
                after = key;
            }
            done = done || loose.len() >= limit;
        }
        let above = loose.first_key_value().map(|(id, _)| *id).filter(|_| loose.len() >= limit);
        let mut places: Vec<Place> = loose.keys().map(|id| Place { id: *id, pack: None }).collect();
        if self.newest_packed()? > above {
            for job in self.jobs_with_runs(&RunFilter::default())? {
                places.extend(self.packed_places(&job, before, above, limit)?);
            }
        }
        in_order(&mut places);
        let (mut reader, mut runs) = (Reader::new(self), Vec::new());
        for place in places {
            if runs.len() >= limit {
                break;
            }
            runs.extend(match loose.remove(&place.id) {
                Some(run) => Some(run),
                None => reader.run(place)?,
            });
        }
        Ok(runs)
    }

    /// Where the newest runs of one job are, at most `limit`, older than `before`; newest first.
    fn places(&self, job: &JobId, before: Option<RunId>, limit: usize) -> Result<Vec<Place>, StoreError> {
        let loose = self.loose_ids(job, before, limit)?;
        let above = loose.last().copied().filter(|_| loose.len() >= limit);
        let mut places = self.packed_places(job, before, above, limit)?;
        places.extend(loose.into_iter().map(|id| Place { id, pack: None }));
        in_order(&mut places);
        places.truncate(limit);
        Ok(places)
    }

    /// The newest ids of one job that are in no pack, at most `limit`, older than `before`.
    fn loose_ids(&self, job: &JobId, before: Option<RunId>, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let prefix = job_runs_prefix(job);
        let after = before.map(|id| job_run_key(job, id));
        let found = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), ScanOrder::Descending, limit)?;
        Ok(found.iter().filter_map(|(key, _)| id_behind(&prefix, key)).collect())
    }

    /// A run that is in a pack of any job.
    fn packed(&self, id: RunId) -> Result<Option<Packed>, StoreError> {
        for job in self.jobs_with_runs(&RunFilter::default())? {
            if let Some((Place { pack: Some(newest), .. }, _)) = self.packed_in(&job, id)? {
                return Ok(self.pack(newest)?.take(id));
            }
        }
        Ok(None)
    }

    /// The jobs in the index that `filter` names: one seek a job, however many runs it has.
    pub(super) fn jobs_with_runs(&self, filter: &RunFilter) -> Result<Vec<JobId>, StoreError> {
        let prefix = match (&filter.target, &filter.policy) {
            (Some(target), Some(policy)) => {
                return Ok(vec![JobId { target: target.clone(), policy: policy.clone() }]);
            }
            (Some(target), None) => format!("{target}/").into_bytes(),
            _ => Vec::new(),
        };
        let mut jobs = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), ScanOrder::Ascending, 1)?;
            let Some((key, _)) = page.first() else { return Ok(jobs) };
            let end = key.iter().position(|byte| *byte < 2).unwrap_or(key.len());
            let (name, _) = key.split_at(end);
            let job = std::str::from_utf8(name).ok().and_then(|name| name.parse::<JobId>().ok());
            jobs.extend(job.filter(|job| filter.policy.as_ref().is_none_or(|policy| job.policy == *policy)));
            // Behind every run of this job, and every pack: the bytes 0 and 1 follow its name.
            let mut behind = name.to_vec();
            behind.push(2);
            after = Some(behind);
        }
    }
}

/// Newest first; a run that was packed between two reads is there once.
fn in_order(places: &mut Vec<Place>) {
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.dedup_by_key(|place| place.id);
}

/// Reads runs from wherever they are; the packs that were read last are kept, since neighbours share one.
struct Reader<'a> {
    ledger: &'a Ledger,
    packs: BTreeMap<RunId, Pack>,
}

/// Packs that a reader keeps: some seven megabytes.
const READ_PACKS_MAX: usize = 100;

impl<'a> Reader<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, packs: BTreeMap::new() }
    }

    /// None, with a warning, when it cannot be understood.
    fn run(&mut self, place: Place) -> Result<Option<RunRecord>, StoreError> {
        let Some(newest) = place.pack else {
            if let Some(run) = self.ledger.listed_run(place.id)? {
                return Ok(Some(run));
            }
            // It may have been packed since its place was read.
            let packed = self.ledger.packed(place.id)?;
            return Ok(packed.and_then(|run| parse(Tree::Runs, &run.id.to_bytes(), &run.record)));
        };
        if !self.packs.contains_key(&newest) {
            let pack = match self.ledger.pack(newest) {
                Ok(pack) => pack,
                Err(error @ StoreError::Pack { .. }) => {
                    tracing::warn!(%error, "a part of a job's history is left out");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            // What is read is read from the newest on.
            while self.packs.len() >= READ_PACKS_MAX {
                self.packs.pop_last();
            }
            self.packs.insert(newest, pack);
        }
        let runs = self.packs.get(&newest).map(|pack| pack.runs.as_slice()).unwrap_or_default();
        let run = runs.iter().find(|run| run.id == place.id);
        Ok(run.and_then(|run| parse(Tree::Runs, &run.id.to_bytes(), &run.record)))
    }
}
