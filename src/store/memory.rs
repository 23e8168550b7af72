//! A store in memory, for tests and for programs that only look: the same semantics, nothing survives.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::scan::key_range;
use super::{Batch, Entry, ScanOrder, Store, StoreError, Tree};

type Trees = BTreeMap<Tree, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Ordered maps under one lock.
#[derive(Debug, Default)]
pub struct MemoryStore {
    trees: Mutex<Trees>,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn trees(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.trees().get(&tree).and_then(|entries| entries.get(key).cloned()))
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: ScanOrder,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let trees = self.trees();
        let (Some(entries), Some(range)) = (trees.get(&tree), key_range(prefix, after, order)) else {
            return Ok(Vec::new());
        };
        let found = entries.range(range).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            ScanOrder::Ascending => found.take(limit).collect(),
            ScanOrder::Descending => found.rev().take(limit).collect(),
        })
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        let mut trees = self.trees();
        for (tree, key, value) in batch.writes {
            let entries = trees.entry(tree).or_default();
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }
}
