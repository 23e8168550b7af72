//! Fills an empty store: from the rows of an export, or of a store from before there were packs.
//!
//! Rows come in the order of their trees and keys, so that a run meets its log: two readers go side by side, one over
//! everything, one over the logs. What waits to be packed is bounded, however long the history is.

use std::collections::BTreeMap;
use std::iter::Peekable;

use super::batch::OPEN_PREFIX;
use super::pack::{PACK_RUNS_MAX, Pack, Packed};
use super::packing::{Head, LOOSE_RUNS_MIN, log_of};
use super::record::Trigger;
use super::{Batch, Entry, FORMAT, FORMAT_KEY, ScanOrder, Store, StoreError, Tree};
use crate::types::JobId;

/// How much is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// What waits to be packed, in bytes of all jobs together; above it, the job with the most is packed at once.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Rows that are read from a store at once.
const PAGE_ROWS: usize = 256;

/// A tree, a key and a value.
pub(super) type Row = (Tree, Vec<u8>, Vec<u8>);

/// What an import makes again from the runs, and what every store has.
pub(super) fn is_derived(tree: Tree, key: &[u8]) -> bool {
    match tree {
        Tree::JobRuns => true,
        Tree::Meta => key.starts_with(OPEN_PREFIX.as_bytes()) || key == FORMAT_KEY.as_bytes(),
        _ => false,
    }
}

/// Writes rows into an empty store, some at a time.
pub(super) struct Filler<'a> {
    store: &'a dyn Store,
    batch: Batch,
    bytes: usize,
}

impl<'a> Filler<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        let mut batch = Batch::default();
        // Until it is full it has none.
        batch.remove(Tree::Meta, FORMAT_KEY);
        Self { store, batch, bytes: 0 }
    }

    /// Puts a row as it is, with what is derived from it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn put(&mut self, (tree, key, value): Row) -> Result<(), StoreError> {
        if tree == Tree::Runs {
            match Head::of(&key, &value) {
                Some(head) => self.batch.index_run(&head.job, head.id, head.state),
                None => self.batch.index_pack(&key, &value),
            }
        }
        self.bytes += key.len() + value.len();
        self.batch.put(tree, key, value);
        self.write_above(WRITE_BYTES)
    }

    fn put_pack(&mut self, pack: &Pack, value: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += value.len() * 2;
        self.batch.put_pack(pack, value);
        self.write_above(WRITE_BYTES)
    }

    fn write_above(&mut self, bytes: usize) -> Result<(), StoreError> {
        if self.bytes < bytes {
            return Ok(());
        }
        self.bytes = 0;
        self.store.commit(std::mem::take(&mut self.batch))
    }

    /// Writes what is left, and which format the store has: without that it is not whole.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.batch.put(Tree::Meta, FORMAT_KEY, FORMAT.to_string());
        self.store.commit(self.batch)
    }
}

/// Puts the rows of a store or an export of format 1, with finished runs packed; what `rows` has of logs and of what is
/// derived is passed over.
///
/// # Errors
/// When rows cannot be read or the store cannot be written.
pub(super) fn pack_all(
    rows: impl Iterator<Item = Result<Row, StoreError>>,
    logs: impl Iterator<Item = Result<Row, StoreError>>,
    into: &mut Filler<'_>,
) -> Result<(), StoreError> {
    let mut logs = Logs { rows: logs.peekable() };
    let mut waiting = Waiting::default();
    for row in rows {
        let (tree, key, value) = row?;
        if tree == Tree::Events || is_derived(tree, &key) {
            continue;
        }
        if tree != Tree::Runs {
            into.put((tree, key, value))?;
            continue;
        }
        let log = logs.of(&key, into)?;
        match Head::of_finished(&key, &value) {
            Some(head) => {
                let found_again = head.trigger == Trigger::FoundAgain;
                let run = Packed { id: head.id, found_again, record: value, log: log_of(&log) };
                waiting.push(head.job, run, into)?;
            }
            None => {
                into.put((tree, key, value))?;
                log.into_iter().try_for_each(|(key, value)| into.put((Tree::Events, key, value)))?;
            }
        }
    }
    logs.rest(into)?;
    waiting.finish(into)
}

/// The events, side by side with the runs.
struct Logs<I: Iterator<Item = Result<Row, StoreError>>> {
    rows: Peekable<I>,
}

impl<I: Iterator<Item = Result<Row, StoreError>>> Logs<I> {
    /// The log of the run `id`; what comes before it belongs to no run and is put as it is.
    fn of(&mut self, id: &[u8], into: &mut Filler<'_>) -> Result<Vec<Entry>, StoreError> {
        let mut log = Vec::new();
        while let Some(row) = self.rows.next_if(|row| row.as_ref().map_or(true, |(_, key, _)| is_up_to(key, id))) {
            let (tree, key, value) = row?;
            if key.starts_with(id) {
                log.push((key, value));
            } else {
                into.put((tree, key, value))?;
            }
        }
        Ok(log)
    }

    fn rest(self, into: &mut Filler<'_>) -> Result<(), StoreError> {
        self.rows.into_iter().try_for_each(|row| into.put(row?))
    }
}

fn is_up_to(key: &[u8], id: &[u8]) -> bool {
    key < id || key.starts_with(id)
}

/// Finished runs that wait until there are enough for a pack, by job, oldest first.
#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<JobId, Vec<Packed>>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, job: JobId, run: Packed, into: &mut Filler<'_>) -> Result<(), StoreError> {
        self.bytes += run.plain_bytes();
        let runs = self.jobs.entry(job.clone()).or_default();
        runs.push(run);
        if runs.len() >= LOOSE_RUNS_MIN + PACK_RUNS_MAX {
            return self.pack(&job, into);
        }
        if self.bytes > WAITING_BYTES_MAX {
            let most = self.jobs.iter().max_by_key(|(_, runs)| runs.iter().map(Packed::plain_bytes).sum::<usize>());
            let Some(job) = most.map(|(job, _)| job.clone()) else { return Ok(()) };
            return self.pack(&job, into);
        }
        Ok(())
    }

    fn pack(&mut self, job: &JobId, into: &mut Filler<'_>) -> Result<(), StoreError> {
        let Some(runs) = self.jobs.get_mut(job) else { return Ok(()) };
        let packed = Pack::of(job, runs);
        let count = packed.as_ref().map_or(1, |(pack, _)| pack.runs.len());
        let gone: Vec<Packed> = runs.drain(..count.min(runs.len())).collect();
        self.bytes = self.bytes.saturating_sub(gone.iter().map(Packed::plain_bytes).sum());
        match packed {
            Some((pack, value)) => into.put_pack(&pack, value),
            // What fits into no pack keeps its rows.
            None => gone.into_iter().try_for_each(|run| put_loose(run, into)),
        }
    }

    fn finish(self, into: &mut Filler<'_>) -> Result<(), StoreError> {
        self.jobs.into_values().flatten().try_for_each(|run| put_loose(run, into))
    }
}

fn put_loose(run: Packed, into: &mut Filler<'_>) -> Result<(), StoreError> {
    let id = run.id.to_bytes().to_vec();
    if run.log != b"[]" {
        into.put((Tree::Events, id.clone(), run.log))?;
    }
    into.put((Tree::Runs, id, run.record))
}

/// The rows of a store, tree after tree.
pub(super) fn rows_of<'a>(
    store: &'a dyn Store,
    trees: &'a [Tree],
) -> impl Iterator<Item = Result<Row, StoreError>> + 'a {
    trees.iter().flat_map(move |tree| {
        let (tree, mut after, mut page, mut done) = (*tree, None::<Vec<u8>>, Vec::new().into_iter(), false);
        std::iter::from_fn(move || {
            loop {
                if let Some((key, value)) = page.next() {
                    return Some(Ok((tree, key, value)));
                }
                if done {
                    return None;
                }
                match store.scan(tree, &[], after.as_deref(), ScanOrder::Ascending, PAGE_ROWS) {
                    Ok(found) => {
                        done = found.len() < PAGE_ROWS;
                        after = found.last().map(|(key, _): &Entry| key.clone());
                        page = found.into_iter();
                    }
                    Err(error) => {
                        done = true;
                        return Some(Err(error));
                    }
                }
            }
        })
    })
}
