//! Runs in order: newest first, by job, target or policy, and bounded by count.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::batch::{job_run_key, job_runs_prefix, open_key};
use super::ledger::{Ledger, parse};
use super::record::{RunEvent, RunRecord, Trigger};
use super::scan::walk;
use super::{Batch, Order, StoreError, Tree};
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
            Trigger::Scheduled { .. } | Trigger::Missed { .. } | Trigger::Manual | Trigger::FoundAgain => 0,
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
    /// Runs, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        let limit = filter.limit.min(RUNS_MAX);
        if filter.target.is_none() && filter.policy.is_none() {
            return self.all_runs(filter.before, limit);
        }
        let mut ids = Vec::new();
        for job in self.jobs_with_runs(filter)? {
            ids.extend(self.run_ids(&job, filter.before, limit)?);
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut runs = Vec::new();
        for id in ids {
            if runs.len() >= limit {
                break;
            }
            runs.extend(self.listed_run(id)?);
        }
        Ok(runs)
    }

    /// The id of the newest run of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_run_id(&self) -> Result<Option<RunId>, StoreError> {
        let newest = self.store().scan(Tree::Runs, &[], None, Order::Descending, 1)?;
        let id = newest.first().and_then(|(key, _)| <[u8; 16]>::try_from(key.as_slice()).ok());
        Ok(id.map(RunId::from_bytes))
    }

    /// The ids of the snapshots that the runs of a job made, as far as its history goes, and of those that its next runs
    /// compare with.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshots_made(&self, job: &JobId) -> Result<BTreeSet<String>, StoreError> {
        let mut made = BTreeSet::new();
        for id in self.run_ids(job, None, RUNS_MAX)? {
            let shipments = self.listed_run(id)?.map(|run| run.shipments).unwrap_or_default();
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
        let kept = self.run_ids(job, None, KEEP_RUNS_DEFAULT)?;
        Ok(kept.last().copied().filter(|_| kept.len() >= KEEP_RUNS_DEFAULT))
    }

    /// The newest run of a job.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_run(&self, job: &JobId) -> Result<Option<RunRecord>, StoreError> {
        match self.run_ids(job, None, 1)?.first() {
            Some(id) => self.listed_run(*id),
            None => Ok(None),
        }
    }

    /// Adds to `batch` the removal of the job's runs beyond the newest `keep`, with their events; answers how many.
    ///
    /// Meant for the batch that finishes a run. Reads `keep` keys of one job, never all runs; an open run stays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn prune_history(&self, job: &JobId, keep: usize, batch: &mut Batch) -> Result<usize, StoreError> {
        let kept = self.run_ids(job, None, keep.max(1))?;
        let Some(oldest_kept) = kept.last().filter(|_| kept.len() >= keep.max(1)) else { return Ok(0) };
        let mut pruned = 0;
        for id in self.run_ids(job, Some(*oldest_kept), PRUNE_RUNS_MAX)? {
            if self.store().get(Tree::Meta, &open_key(id))?.is_some() {
                continue;
            }
            batch.remove(Tree::JobRuns, job_run_key(job, id));
            batch.remove(Tree::Runs, id.to_bytes());
            self.each(Tree::Events, &id.to_bytes(), |key, _| batch.remove(Tree::Events, key))?;
            pruned += 1;
        }
        Ok(pruned)
    }

    fn all_runs(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs = Vec::new();
        let after = before.map(RunId::to_bytes);
        walk(
            self.store(),
            Tree::Runs,
            &[],
            after.as_ref().map(<[u8; 16]>::as_slice),
            Order::Descending,
            |key, value| {
                if runs.len() >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                runs.extend(parse::<RunRecord>(Tree::Runs, &key, &value));
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(runs)
    }

    /// The newest ids of one job, at most `limit`, older than `before`.
    fn run_ids(&self, job: &JobId, before: Option<RunId>, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let prefix = job_runs_prefix(job);
        let after = before.map(|id| job_run_key(job, id));
        let found = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), Order::Descending, limit)?;
        let id = |key: &[u8]| key.get(prefix.len()..).and_then(|id| <[u8; 16]>::try_from(id).ok());
        Ok(found.iter().filter_map(|(key, _)| id(key)).map(RunId::from_bytes).collect())
    }

    /// The jobs in the index that `filter` names: one seek a job, however many runs it has.
    fn jobs_with_runs(&self, filter: &RunFilter) -> Result<Vec<JobId>, StoreError> {
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
            let page = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), Order::Ascending, 1)?;
            let Some((key, _)) = page.first() else { return Ok(jobs) };
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            let (name, _) = key.split_at(end);
            let job = std::str::from_utf8(name).ok().and_then(|name| name.parse::<JobId>().ok());
            jobs.extend(job.filter(|job| filter.policy.as_ref().is_none_or(|policy| job.policy == *policy)));
            // Behind every run of this job: a NUL follows its name, so the next byte value comes after all of them.
            let mut behind = name.to_vec();
            behind.push(1);
            after = Some(behind);
        }
    }
}
