//! The store on disk: the only file that names sled.
//!
//! sled 0.34 is fenced in here. It may panic on a damaged file, so each call runs under `catch_unwind`. It refuses
//! everything after one failed write (a full disk), so a store that failed is opened anew at the next call. It flushes
//! when it likes, so `commit` flushes before it returns. Opening reads every record once, since sled finds most damage
//! only when it reads.

use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sled::Transactional as _;

use super::layout::StateDir;
use super::scan::key_range;
use super::{Batch, Entry, FORMAT, FORMAT_KEY, Order, Store, StoreError, Tree, export};

/// Memory for pages. A homelab's state is a few MiB; 70,000 records idle at some 20 MB resident with this.
const CACHE_BYTES: u64 = 4 << 20;

/// How long to wait for sled's threads to let go of the file.
const LET_GO_MAX: Duration = Duration::from_secs(5);

/// A store that is open, and what had to be done for it.
#[derive(Debug)]
pub struct Opened {
    pub store: SledStore,
    /// Where a damaged store was moved to; none: it opened as it was.
    pub set_aside: Option<PathBuf>,
    /// The export that an empty store was filled from.
    pub restored: Option<PathBuf>,
    pub state: StateDir,
    /// Random, made once: tells this state's children from those of another.
    pub state_id: String,
}

/// Trees in a directory, held by one process at a time.
#[derive(Debug)]
pub struct SledStore {
    path: PathBuf,
    /// None after a failure, until it is opened anew.
    open: RwLock<Option<Open>>,
    // Below `open`, so it is let go after sled is.
    _lock: std::fs::File,
}

#[derive(Debug)]
struct Open {
    db: sled::Db,
    trees: Vec<sled::Tree>,
}

impl SledStore {
    /// Opens the store of the state directory `dir`, which is made when only it is missing.
    ///
    /// A damaged store is set aside; an empty one is filled from the newest export that can be read.
    ///
    /// # Errors
    /// `InUse` when another process holds the directory, `Open` when the file system refuses, `Newer` when a later
    /// Larder wrote it.
    pub fn open(dir: &Path) -> Result<Opened, StoreError> {
        let state = StateDir::new(dir);
        state.make()?;
        let lock = state.lock()?;
        let state_id = state.id()?;
        let path = state.store();
        let (open, set_aside) = match open_checked(&path) {
            Ok(open) => (open, None),
            Err(StoreError::Damaged { detail, .. }) => {
                let aside = state.set_aside(Timestamp::now())?;
                tracing::error!(path = %path.display(), aside = %aside.display(), detail, "the state store is damaged and was set aside");
                (open_checked(&path)?, Some(aside))
            }
            Err(error) => return Err(error),
        };
        let store = Self { path, open: RwLock::new(Some(open)), _lock: lock };
        let restored = store.prepare(&state)?;
        Ok(Opened { store, set_aside, restored, state, state_id })
    }

    /// Checks the format, or gives a fresh store its first content.
    fn prepare(&self, state: &StateDir) -> Result<Option<PathBuf>, StoreError> {
        if let Some(found) = self.get(Tree::Meta, FORMAT_KEY.as_bytes())? {
            return match serde_json::from_slice::<u64>(&found) {
                Ok(found) if found > FORMAT => Err(StoreError::Newer { path: self.path.clone(), found }),
                _ => Ok(None),
            };
        }
        // The format is written in the import's one batch: killed before it, the next start does the same again.
        let restored = export::restore_newest(self, &state.export())?;
        if restored.is_none() {
            let mut batch = Batch::default();
            batch.put(Tree::Meta, FORMAT_KEY, FORMAT.to_string());
            self.commit(batch)?;
        }
        Ok(restored)
    }

    /// Calls `act` with an open store; after a panic or failed write the next call opens it anew.
    fn with<T>(
        &self,
        wrap: fn(io::Error) -> StoreError,
        act: impl FnOnce(&Open) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let answer = loop {
            {
                let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(open) = guard.as_ref() {
                    break guarded(&self.path, wrap, || act(open));
                }
            }
            let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
            if guard.is_none() {
                tracing::warn!(path = %self.path.display(), "the state store is opened anew after a failure");
                *guard = Some(open_trees(&self.path)?);
            }
        };
        if answer.is_err() {
            let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
            close(guard.take());
        }
        answer
    }
}

impl Store for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(StoreError::Read, |open| Ok(open.tree(tree)?.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let Some(range) = key_range(prefix, after, order) else { return Ok(Vec::new()) };
        self.with(StoreError::Read, |open| {
            let found = open.tree(tree)?.range(range);
            let entry = |entry: sled::Result<(sled::IVec, sled::IVec)>| entry.map(|(k, v)| (k.to_vec(), v.to_vec()));
            match order {
                Order::Ascending => found.map(entry).take(limit).collect(),
                Order::Descending => found.rev().map(entry).take(limit).collect(),
            }
        })
    }

    /// When this fails on the disk, the batch is in doubt: it is there whole or not at all once the store works again.
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut batches: Vec<sled::Batch> = Tree::ALL.iter().map(|_| sled::Batch::default()).collect();
        for (tree, key, value) in batch.writes {
            let Some(writes) = batches.get_mut(place(tree)) else { continue };
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.with(StoreError::Write, |open| {
            let applied = open.trees.as_slice().transaction(|trees| {
                for (tree, writes) in trees.iter().zip(&batches) {
                    tree.apply_batch(writes)?;
                }
                Ok::<_, sled::transaction::ConflictableTransactionError<()>>(())
            });
            match applied {
                Ok(()) | Err(sled::transaction::TransactionError::Abort(())) => {}
                Err(sled::transaction::TransactionError::Storage(error)) => return Err(error),
            }
            open.db.flush().map(|_| ())
        })
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        close(self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Open {
    fn tree(&self, tree: Tree) -> Result<&sled::Tree, sled::Error> {
        self.trees.get(place(tree)).ok_or_else(|| sled::Error::Unsupported(format!("no tree {}", tree.as_str())))
    }
}

/// Where a tree stands in [`Tree::ALL`], and so in `Open::trees`.
fn place(tree: Tree) -> usize {
    Tree::ALL.iter().position(|each| *each == tree).unwrap_or(usize::MAX)
}

/// Opens the store and reads every record once.
fn open_checked(path: &Path) -> Result<Open, StoreError> {
    let open = open_trees(path)?;
    let read = guarded(path, StoreError::Read, || {
        for tree in &open.trees {
            for entry in tree {
                entry?;
            }
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok(open),
        Err(error) => {
            close(Some(open));
            Err(match error {
                StoreError::Read(source) => StoreError::Open { path: path.to_owned(), source },
                other => other,
            })
        }
    }
}

fn open_trees(path: &Path) -> Result<Open, StoreError> {
    let refuse = |source| StoreError::Open { path: path.to_owned(), source };
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(_) if path.is_dir() => {}
        Err(source) => return Err(refuse(source)),
    }
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let open = guarded(path, StoreError::Read, || {
        let db = open_once_let_go(&config)?;
        let trees = Tree::ALL.iter().map(|tree| db.open_tree(tree.as_str())).collect::<Result<_, _>>()?;
        db.flush()?;
        Ok(Open { db, trees })
    });
    open.map_err(|error| match error {
        StoreError::Read(source) => refuse(source),
        other => other,
    })
}

/// Opens sled. Its threads may hold the file for some milliseconds after its last owner dropped it; no other process can,
/// since the state directory's lock is ours.
fn open_once_let_go(config: &sled::Config) -> Result<sled::Db, sled::Error> {
    let begun = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_held(&error) && begun.elapsed() < LET_GO_MAX => {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => return answer,
        }
    }
}

/// Drops sled; it writes when it is dropped and may panic there too.
fn close(open: Option<Open>) {
    if catch_unwind(AssertUnwindSafe(|| drop(open))).is_err() {
        tracing::warn!("the state store panicked while it was closed");
    }
}

/// Calls sled; a panic and an error that only damage explains become `Damaged`, what the system refused becomes `wrap`.
fn guarded<T>(
    path: &Path,
    wrap: fn(io::Error) -> StoreError,
    act: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, StoreError> {
    let damaged = |detail: String| StoreError::Damaged { path: path.to_owned(), detail };
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_of_the_system(&error) => Err(wrap(error)),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(format!("sled panicked: {}", panic_text(panic.as_ref())))),
    }
}

/// Whether the file system refused, rather than that what it gave made no sense.
///
/// By kind alone: sled copies errors by kind and text, so the number of the system's error is lost.
fn is_of_the_system(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => false,
        ErrorKind::Other => is_held(error),
        _ => true,
    }
}

/// Whether sled's lock on its file is held; sled says that with an error of its own making.
fn is_held(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_senseless_content_are_damage_and_a_refusal_of_the_system_is_not() {
        let told = |answer: Result<(), sled::Error>| guarded(Path::new("/s"), StoreError::Read, || answer).unwrap_err();
        let io = |kind: ErrorKind, text: &str| told(Err(sled::Error::Io(io::Error::new(kind, text))));
        let damaged = [
            guarded::<()>(Path::new("/s"), StoreError::Read, || panic!("tried to serialize Uninitialized"))
                .unwrap_err(),
            told(Err(sled::Error::Corruption { at: None, bt: () })),
            io(ErrorKind::UnexpectedEof, "failed to fill whole buffer"),
            io(ErrorKind::Other, "bad header"),
        ];
        for error in damaged {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
            assert!(error.hint().contains("sets the damaged store aside"));
        }
        let refused = [
            io(ErrorKind::StorageFull, "no space"),
            io(ErrorKind::PermissionDenied, "no"),
            io(ErrorKind::ReadOnlyFilesystem, "no"),
            io(ErrorKind::Other, "could not acquire lock on \"/s/db\""),
        ];
        for error in refused {
            assert!(matches!(error, StoreError::Read(_)), "{error:?}");
        }
    }
}
