//! Finished runs leave their own rows: a log becomes one value when its run ends, and what is old goes into packs.
//!
//! ```text
//! runs      <run>                        a run that is open or recent: a RunRecord
//! runs      FF <newest run>              a pack: finished runs of one job, see `pack`
//! events    <run> <sequence>             the log of an open run
//! events    <run>                        the log of a finished run that is in no pack: a list of RunEvent
//! job_runs  <job> 00 <run>               the first kind
//! job_runs  <job> 01 <newest run>        a pack: what its runs are
//! ```
//! Packs of a job do not overlap. A run that came between two of them later keeps its row.

use serde::Deserialize;

use super::batch::{PACKS, job_run_key, job_runs_prefix, pack_index_key, pack_index_prefix, pack_key};
use super::ledger::{Ledger, parse};
use super::pack::{PACK_RUNS_MAX, Pack, Packed, indexed};
use super::record::{RunEvent, Trigger};
use super::{Batch, Entry, ScanOrder, StoreError, Tree, show_key};
use crate::run::RunState;
use crate::types::{JobId, RunId};

/// Newest finished runs of a job that have rows of their own: what is asked for most is read without unpacking. More of
/// them would be more memory: 32 of each of 70 jobs were 5 MB.
pub(super) const LOOSE_RUNS_MIN: usize = 8;

/// Packs that one batch makes at most: enough to catch up, small enough for one write.
const PACKS_AT_ONCE: usize = 4;

/// What a pack asks of a record.
#[derive(Deserialize)]
pub(super) struct Head {
    pub id: RunId,
    pub job: JobId,
    pub state: RunState,
    pub trigger: Trigger,
}

impl Head {
    /// Of a record under the key of its run.
    pub(super) fn of(key: &[u8], record: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(record).ok()?;
        (head.id.to_bytes() == *key).then_some(head)
    }

    /// Of a record that may be packed.
    pub(super) fn of_finished(key: &[u8], record: &[u8]) -> Option<Self> {
        Self::of(key, record).filter(|head| head.state.is_finished())
    }
}

/// Where one run of a job's history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub id: RunId,
    /// The newest run of the pack that it is in.
    pub pack: Option<RunId>,
}

impl Batch {
    /// Puts a pack and what is derived from it.
    pub(super) fn put_pack(&mut self, pack: &Pack, value: Vec<u8>) {
        let Some(newest) = pack.newest() else { return };
        self.put(Tree::Runs, pack_key(newest), value);
        self.put(Tree::JobRuns, pack_index_key(&pack.job, newest), pack.index());
    }

    /// Puts what is derived from a pack, where `key` and `value` are one.
    pub(super) fn index_pack(&mut self, key: &[u8], value: &[u8]) {
        let Some(newest) = id_behind(&[PACKS], key) else { return };
        match Pack::from_value(value) {
            Ok(pack) if pack.newest() == Some(newest) => {
                self.put(Tree::JobRuns, pack_index_key(&pack.job, newest), pack.index());
            }
            Ok(_) => tracing::warn!(key = show_key(Tree::Runs, key), "a pack has another name than its newest run"),
            Err(error) => tracing::warn!(key = show_key(Tree::Runs, key), error, "a pack cannot be understood"),
        }
    }

    fn remove_pack(&mut self, job: &JobId, newest: RunId) {
        self.remove(Tree::Runs, pack_key(newest));
        self.remove(Tree::JobRuns, pack_index_key(job, newest));
    }
}

impl Ledger {
    /// Puts the last event of a run, and its whole log as one value.
    ///
    /// # Errors
    /// When the store cannot be read or the log cannot be written as JSON.
    pub fn close_log(&self, run: RunId, last: &RunEvent, batch: &mut Batch) -> Result<(), StoreError> {
        let rows = self.log_rows(run)?;
        let mut log = events_of(&rows);
        log.push(last.clone());
        for (key, _) in rows {
            batch.remove(Tree::Events, key);
        }
        batch.put_fitted(Tree::Events, run.to_bytes(), &log)
    }

    /// Adds to `batch` the packs that old runs of a job are due for; answers how many runs they take in.
    ///
    /// Runs that are not newer than `older` are left alone.
    pub(super) fn pack_history(
        &self,
        job: &JobId,
        older: Option<RunId>,
        batch: &mut Batch,
    ) -> Result<usize, StoreError> {
        let behind = older.max(self.newest_pack(job)?);
        let prefix = job_runs_prefix(job);
        let after = behind.map(|id| job_run_key(job, id));
        let limit = LOOSE_RUNS_MIN + (PACKS_AT_ONCE + 1) * PACK_RUNS_MAX;
        let loose = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), ScanOrder::Ascending, limit)?;
        if loose.len() < LOOSE_RUNS_MIN + PACK_RUNS_MAX {
            return Ok(0);
        }
        let mut old = Vec::new();
        for (key, _) in loose.iter().take(loose.len() - LOOSE_RUNS_MIN) {
            let Some(id) = key.get(prefix.len()..) else { continue };
            let Some(record) = self.store().get(Tree::Runs, id)? else { continue };
            let Some(head) = Head::of_finished(id, &record) else { continue };
            let log = log_of(&self.log_rows(head.id)?);
            old.push(Packed { id: head.id, found_again: head.trigger == Trigger::FoundAgain, record, log });
        }
        let (mut rest, mut packed) = (old.as_slice(), 0);
        for _ in 0..PACKS_AT_ONCE {
            if rest.len() < PACK_RUNS_MAX {
                break;
            }
            let Some((pack, value)) = Pack::of(job, rest) else { break };
            for run in &pack.runs {
                self.remove_loose(job, run.id, batch)?;
            }
            rest = rest.get(pack.runs.len()..).unwrap_or_default();
            packed += pack.runs.len();
            batch.put_pack(&pack, value);
        }
        Ok(packed)
    }

    /// Adds to `batch` the removal of a run's own rows.
    pub(super) fn remove_loose(&self, job: &JobId, id: RunId, batch: &mut Batch) -> Result<(), StoreError> {
        batch.remove(Tree::JobRuns, job_run_key(job, id));
        batch.remove(Tree::Runs, id.to_bytes());
        self.each(Tree::Events, &id.to_bytes(), |key, _| batch.remove(Tree::Events, key))
    }

    /// Adds to `batch` the removal of the packs of a job that have no run as new as `kept`; answers how many runs they had.
    pub(super) fn prune_packs(&self, job: &JobId, kept: RunId, batch: &mut Batch) -> Result<usize, StoreError> {
        let (prefix, mut pruned) = (pack_index_prefix(job), 0);
        for (key, index) in self.store().scan(Tree::JobRuns, &prefix, None, ScanOrder::Ascending, PACKS_AT_ONCE)? {
            match id_behind(&prefix, &key) {
                Some(newest) if newest < kept => {
                    batch.remove_pack(job, newest);
                    pruned += indexed(&index).count();
                }
                _ => break,
            }
        }
        Ok(pruned)
    }

    /// The runs of a job that are in packs, newest first, at most `limit`: older than `before`, newer than `above`.
    pub(super) fn packed_places(
        &self,
        job: &JobId,
        before: Option<RunId>,
        above: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let prefix = pack_index_prefix(job);
        let mut places = Vec::new();
        let mut take = |newest: RunId, index: &[u8]| {
            let fits = |id: &RunId| before.is_none_or(|before| *id < before) && above.is_none_or(|above| *id > above);
            let ids = indexed(index).rev().map(|(id, _)| id).filter(fits);
            places.extend(ids.map(|id| Place { id, pack: Some(newest) }));
            places.len() >= limit || above.is_some_and(|above| newest <= above)
        };
        let mut done = limit == 0;
        if let Some((newest, index)) = before.map(|before| self.pack_from(job, before)).transpose()?.flatten() {
            done = take(newest, &index);
        }
        let mut after = before.map(|before| pack_index_key(job, before));
        while !done {
            let page = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), ScanOrder::Descending, 4)?;
            done = page.is_empty();
            for (key, index) in page {
                let newest = id_behind(&prefix, &key);
                done = done || newest.is_some_and(|newest| take(newest, &index));
                after = Some(key);
            }
        }
        places.truncate(limit);
        Ok(places)
    }

    /// The pack of a job that may have `id`: the first whose newest run is not older, and what its index says.
    fn pack_from(&self, job: &JobId, id: RunId) -> Result<Option<(RunId, Vec<u8>)>, StoreError> {
        let prefix = pack_index_prefix(job);
        let just_before = u128::from_be_bytes(id.to_bytes()).checked_sub(1);
        let after = just_before.map(|id| pack_index_key(job, RunId::from_bytes(id.to_be_bytes())));
        let found = self.store().scan(Tree::JobRuns, &prefix, after.as_deref(), ScanOrder::Ascending, 1)?;
        Ok(found.into_iter().next().and_then(|(key, index)| Some((id_behind(&prefix, &key)?, index))))
    }

    /// Whether a pack of the job has the run: its place, and whether it was found again.
    pub(super) fn packed_in(&self, job: &JobId, id: RunId) -> Result<Option<(Place, bool)>, StoreError> {
        let Some((newest, index)) = self.pack_from(job, id)? else { return Ok(None) };
        let found = indexed(&index).find(|(each, _)| *each == id);
        Ok(found.map(|(id, found_again)| (Place { id, pack: Some(newest) }, found_again)))
    }

    /// The pack whose newest run is `newest`.
    ///
    /// # Errors
    /// `Pack` when it is gone or cannot be understood.
    pub(super) fn pack(&self, newest: RunId) -> Result<Pack, StoreError> {
        let key = pack_key(newest);
        let value = self.store().get(Tree::Runs, &key)?;
        let pack = value.ok_or_else(|| "it is gone".to_owned()).and_then(|value| Pack::from_value(&value));
        pack.map_err(|detail| StoreError::Pack { key: show_key(Tree::Runs, &key), detail })
    }

    /// The newest run of the newest pack of a job.
    fn newest_pack(&self, job: &JobId) -> Result<Option<RunId>, StoreError> {
        let prefix = pack_index_prefix(job);
        let newest = self.store().scan(Tree::JobRuns, &prefix, None, ScanOrder::Descending, 1)?;
        Ok(newest.first().and_then(|(key, _)| id_behind(&prefix, key)))
    }

    /// The rows of a log that is in no pack.
    pub(super) fn log_rows(&self, run: RunId) -> Result<Vec<Entry>, StoreError> {
        let mut rows = Vec::new();
        self.each(Tree::Events, &run.to_bytes(), |key, value| rows.push((key.to_vec(), value.to_vec())))?;
        Ok(rows)
    }
}

/// The events in the rows of one log.
pub(super) fn events_of(rows: &[Entry]) -> Vec<RunEvent> {
    let events = |(key, value): &Entry| {
        if is_whole_log(key) {
            return parse::<Vec<RunEvent>>(Tree::Events, key, value).unwrap_or_default();
        }
        parse::<RunEvent>(Tree::Events, key, value).into_iter().collect()
    };
    rows.iter().flat_map(events).collect()
}

/// The rows of one log as one JSON list; what cannot be understood is left out, with a warning.
pub(super) fn log_of(rows: &[Entry]) -> Vec<u8> {
    match rows {
        [(key, value)] if is_whole_log(key) => value.clone(),
        _ => serde_json::to_vec(&events_of(rows)).unwrap_or_else(|_| b"[]".to_vec()),
    }
}

fn is_whole_log(key: &[u8]) -> bool {
    key.len() == 16
}

pub(super) fn id_behind(prefix: &[u8], key: &[u8]) -> Option<RunId> {
    key.strip_prefix(prefix).and_then(|id| <[u8; 16]>::try_from(id).ok()).map(RunId::from_bytes)
}
