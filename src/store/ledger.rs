//! Typed reads over a store. Cheap to clone; every read asks the store, nothing is kept here.
//!
//! One record that cannot be understood is an error that names it; in a list it is left out with a warning, so that one
//! bad record never hides the others.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::batch::{CONFIG_KEY, OPEN_PREFIX, job_key};
use super::record::{ConfigRecord, DestinationRecord, JobRecord, RunRecord};
use super::scan::walk;
use super::{Batch, ScanOrder, Store, StoreError, Tree, show_key};
use crate::types::{JobId, Name, RunId};

/// A store with its records' types.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    #[must_use]
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Writes everything in `batch` or nothing; durable when it returns.
    ///
    /// # Errors
    /// When a value is too large or the write fails.
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }

    /// What is known of the watched branch; the default when nothing is.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn config_record(&self) -> Result<ConfigRecord, StoreError> {
        Ok(self.record(Tree::Meta, CONFIG_KEY.as_bytes())?.unwrap_or_default())
    }

    /// All jobs, orphaned ones too, in order of their ids.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, StoreError> {
        let mut jobs = self.list(Tree::Jobs, &[])?;
        self.join_peaks(&mut jobs)?;
        self.join_mounts(&mut jobs)?;
        Ok(jobs)
    }

    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        let Some(mut job) = self.record::<JobRecord>(Tree::Jobs, &job_key(id))? else { return Ok(None) };
        self.join_peaks(std::slice::from_mut(&mut job))?;
        self.join_mounts(std::slice::from_mut(&mut job))?;
        Ok(Some(job))
    }

    /// The runs that are not finished, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        let mut ids = Vec::new();
        self.each(Tree::Meta, OPEN_PREFIX.as_bytes(), |key, _| {
            let id = key.get(OPEN_PREFIX.len()..).and_then(|id| <[u8; 16]>::try_from(id).ok());
            ids.extend(id.map(RunId::from_bytes));
        })?;
        let mut runs = Vec::new();
        for id in ids {
            runs.extend(self.listed_run(id)?.filter(|run| !run.state.is_finished()));
        }
        Ok(runs)
    }

    /// All destinations that were ever used, in order of their names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn destinations(&self) -> Result<Vec<DestinationRecord>, StoreError> {
        self.list(Tree::Destinations, &[])
    }

    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn destination(&self, name: &Name) -> Result<Option<DestinationRecord>, StoreError> {
        self.record(Tree::Destinations, name.as_str().as_bytes())
    }

    /// A small thing that another module put with `Batch::meta_put`.
    ///
    /// # Errors
    /// When the store cannot be read or the value cannot be understood.
    pub fn meta_get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.record(Tree::Meta, key.as_bytes())
    }

    /// The small things whose key starts with `prefix`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn meta_list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StoreError> {
        let mut found = Vec::new();
        self.each(Tree::Meta, prefix.as_bytes(), |key, value| {
            if let (Ok(name), Some(value)) = (std::str::from_utf8(key), parse(Tree::Meta, key, value)) {
                found.push((name.to_owned(), value));
            }
        })?;
        Ok(found)
    }

    /// A run for a list: none, with a warning, when it cannot be understood.
    pub(super) fn listed_run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let key = id.to_bytes();
        Ok(self.store.get(Tree::Runs, &key)?.and_then(|value| parse(Tree::Runs, &key, &value)))
    }

    pub(super) fn record<T: DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(value) = self.store.get(tree, key)? else { return Ok(None) };
        serde_json::from_slice(&value)
            .map(Some)
            .map_err(|source| StoreError::Record { key: show_key(tree, key), source })
    }

    fn list<T: DeserializeOwned>(&self, tree: Tree, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.each(tree, prefix, |key, value| found.extend(parse(tree, key, value)))?;
        Ok(found)
    }

    pub(super) fn each(&self, tree: Tree, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        walk(self.store(), tree, prefix, None, ScanOrder::Ascending, |key, value| {
            each(&key, &value);
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// A record of a list: none, with a warning, when it cannot be understood.
pub(super) fn parse<T: DeserializeOwned>(tree: Tree, key: &[u8], value: &[u8]) -> Option<T> {
    match serde_json::from_slice(value) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(key = show_key(tree, key), %error, "a record cannot be understood and is left out");
            None
        }
    }
}
