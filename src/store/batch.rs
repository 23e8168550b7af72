//! Typed writers: records into a batch, with the index entries that belong to them.

use serde::Serialize;

use super::fit::fitted;
use super::record::{ConfigRecord, DestinationRecord, JobRecord, RunEvent, RunRecord};
use super::{Batch, StoreError, Tree, show_key};
use crate::run::RunState;
use crate::types::{JobId, RunId};

/// Where the config record is in the tree `meta`.
pub const CONFIG_KEY: &str = "config";

/// What the keys of unfinished runs start with in the tree `meta`; the run's sixteen bytes follow.
pub const OPEN_PREFIX: &str = "open/";

/// What the keys of packs start with in the tree `runs`. No run's id does: its first six bytes are a time, and this one is
/// eight thousand years off.
pub(super) const PACKS: u8 = 0xff;

impl Batch {
    /// Puts `value` as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put_json(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: &impl Serialize) -> Result<(), StoreError> {
        self.put_written(tree, key.into(), serde_json::to_vec(value))
    }

    /// Puts a record that Larder wrote for people to read; what makes it too large is cut.
    pub(super) fn put_fitted(
        &mut self,
        tree: Tree,
        key: impl Into<Vec<u8>>,
        record: &impl Serialize,
    ) -> Result<(), StoreError> {
        self.put_written(tree, key.into(), fitted(record))
    }

    fn put_written(&mut self, tree: Tree, key: Vec<u8>, json: serde_json::Result<Vec<u8>>) -> Result<(), StoreError> {
        let json = json.map_err(|source| StoreError::Record { key: show_key(tree, &key), source })?;
        self.put(tree, key, json);
        Ok(())
    }

    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_job(&mut self, job: &JobRecord) -> Result<(), StoreError> {
        self.put_fitted(Tree::Jobs, job_key(&job.id), job)?;
        if !job.usual.peaks.parts.is_empty() {
            self.put_peaks(&job.id, &job.usual.peaks)?;
        }
        if !job.usual.mounts.is_empty() {
            self.put_mounts(&job.id, &job.usual.mounts)?;
        }
        Ok(())
    }

    /// Puts a run, its place in the job's history, and whether it is open (not finished).
    ///
    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_run(&mut self, run: &RunRecord) -> Result<(), StoreError> {
        self.put_fitted(Tree::Runs, run.id.to_bytes(), run)?;
        self.index_run(&run.job, run.id, run.state);
        Ok(())
    }

    /// Puts what is derived from a run.
    pub(super) fn index_run(&mut self, job: &JobId, id: RunId, state: RunState) {
        self.put(Tree::JobRuns, job_run_key(job, id), []);
        if state.is_finished() {
            self.remove(Tree::Meta, open_key(id));
        } else {
            self.put(Tree::Meta, open_key(id), "true");
        }
    }

    /// Puts the event `sequence` (from 0) of a run.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn push_event(&mut self, run: RunId, sequence: u32, event: &RunEvent) -> Result<(), StoreError> {
        let mut key = run.to_bytes().to_vec();
        key.extend(sequence.to_be_bytes());
        self.put_fitted(Tree::Events, key, event)
    }

    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_destination(&mut self, destination: &DestinationRecord) -> Result<(), StoreError> {
        self.put_fitted(Tree::Destinations, destination.name.as_str(), destination)
    }

    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_config_record(&mut self, record: &ConfigRecord) -> Result<(), StoreError> {
        self.put_fitted(Tree::Meta, CONFIG_KEY, record)
    }

    /// Puts a small thing of another module; `key` starts with the module's name: `alert/…`.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn meta_put(&mut self, key: &str, value: &impl Serialize) -> Result<(), StoreError> {
        self.put_json(Tree::Meta, key, value)
    }

    pub fn meta_remove(&mut self, key: &str) {
        self.remove(Tree::Meta, key);
    }
}

/// `target/policy`.
#[must_use]
pub fn job_key(job: &JobId) -> Vec<u8> {
    job.to_string().into_bytes()
}

/// What the keys of a job's history start with.
#[must_use]
pub fn job_runs_prefix(job: &JobId) -> Vec<u8> {
    let mut key = job_key(job);
    key.push(0);
    key
}

#[must_use]
pub fn job_run_key(job: &JobId, run: RunId) -> Vec<u8> {
    let mut key = job_runs_prefix(job);
    key.extend(run.to_bytes());
    key
}

/// What the keys of a job's packs start with in its history: behind its runs of their own, before every other job.
#[must_use]
pub(super) fn pack_index_prefix(job: &JobId) -> Vec<u8> {
    let mut key = job_key(job);
    key.push(1);
    key
}

/// Where the history of a job says what a pack has, by the pack's newest run.
#[must_use]
pub(super) fn pack_index_key(job: &JobId, newest: RunId) -> Vec<u8> {
    let mut key = pack_index_prefix(job);
    key.extend(newest.to_bytes());
    key
}

/// Where a pack is in the tree `runs`: behind every run.
#[must_use]
pub(super) fn pack_key(newest: RunId) -> Vec<u8> {
    let mut key = vec![PACKS];
    key.extend(newest.to_bytes());
    key
}

#[must_use]
pub fn open_key(run: RunId) -> Vec<u8> {
    let mut key = OPEN_PREFIX.as_bytes().to_vec();
    key.extend(run.to_bytes());
    key
}
