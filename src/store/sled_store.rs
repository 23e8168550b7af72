//! The store on disk: the only file that names sled.
//!
//! sled 0.34 is fenced in here. It may panic on a damaged file, so each call runs under `catch_unwind`. It refuses
//! everything after one failed write (a full disk), so a store that failed is opened anew at the next call. It flushes
//! when it likes, so `commit` flushes before it returns. Opening reads every record once, since sled finds most damage
//! only when it reads, and compares what is there with the chain (`chain`, `witness`), since sled drops what it can't
//! read of its log without a word.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sled::Transactional as _;

use super::batch::PACKS;
use super::chain::{self, Chain, Links};
use super::layout::StateDir;
use super::scan::key_range;
use super::witness::{Mark, Witness};
use super::{Batch, Entry, FORMAT, FORMAT_KEY, FORMAT_OF_ROWS, ScanOrder, Store, StoreError, Tree, Verified, show_key};

mod copied;
mod guard;
mod older;
mod opening;
mod outside;

use guard::{close, identity, is_held, is_of_the_system, panic_text};
use outside::{Outside, Stub, is_outside};

/// Memory for pages. A homelab's state is a few MiB, since old runs lie outside of it.
const CACHE_BYTES: u64 = 4 << 20;

/// Where the chain is in sled's own default tree.
const CHAIN_KEY: &str = "chain";

/// Where the id of the state directory that a store belongs to is in sled's own default tree.
const STATE_KEY: &str = "state";

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
    /// Which directory was opened: another one in its place is not opened anew.
    identity: Option<(u64, u64)>,
    /// None after a failure, until it is opened anew.
    open: RwLock<Option<Open>>,
    /// Batches that were committed since it was opened.
    writes: AtomicU64,
    /// How far its chain is known to have come.
    sequence: AtomicU64,
    // Below `open`, so it is let go after sled is.
    _lock: std::fs::File,
}

#[derive(Debug)]
struct Open {
    db: sled::Db,
    /// Those of [`Tree::ALL`], then sled's own default tree, which has the chain.
    trees: Vec<sled::Tree>,
    /// Held by whoever writes.
    tail: Mutex<Tail>,
    outside: Outside,
}

/// Where the store's chain ends.
#[derive(Debug)]
struct Tail {
    chain: Chain,
    witness: Witness,
}

impl SledStore {
    fn of(path: PathBuf, open: Open, lock: std::fs::File) -> Self {
        let identity = identity(&path);
        let (open, writes, sequence) = (RwLock::new(Some(open)), AtomicU64::new(0), AtomicU64::new(0));
        Self { path, identity, open, writes, sequence, _lock: lock }
    }

    /// A new store in the directory `path`, whose place nobody else has.
    fn empty(path: &Path) -> Result<Self, StoreError> {
        let refuse = |source| StoreError::Open { path: path.to_owned(), source };
        // The lock of the state directory is held, and this file stands in for it.
        let lock = std::fs::File::open(path).map_err(refuse)?;
        let (db, trees) = open_sled(path)?;
        let witness = Witness::begin(path, &Chain::default(), Mark::Done).map_err(refuse)?;
        let tail = Mutex::new(Tail { chain: Chain::default(), witness });
        let open = Open { db, trees, tail, outside: Outside::of(path) };
        Ok(Self::of(path.to_owned(), open, lock))
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
                if identity(&self.path) != self.identity {
                    let source = io::Error::new(ErrorKind::NotFound, "it is not the directory that was opened");
                    return Err(StoreError::Open { path: self.path.clone(), source });
                }
                tracing::warn!(path = %self.path.display(), "the state store is opened anew after a failure");
                let open = open_trees(&self.path)?;
                let at = open.tail.lock().unwrap_or_else(PoisonError::into_inner).chain.sequence;
                if at < self.sequence.load(Ordering::Relaxed) {
                    close(Some(open));
                    let detail = "it has less than was written".to_owned();
                    return Err(StoreError::Damaged { path: self.path.clone(), detail });
                }
                *guard = Some(open);
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
        self.with(StoreError::Read, |open| {
            let Some(stored) = open.tree(tree)?.get(key)? else { return Ok(None) };
            open.value(tree, key, &stored).map(Some)
        })
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: ScanOrder,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let Some(range) = key_range(prefix, after, order) else { return Ok(Vec::new()) };
        self.with(StoreError::Read, |open| {
            let found = open.tree(tree)?.range(range);
            let entry = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
                let (key, stored) = entry?;
                Ok((key.to_vec(), open.value(tree, &key, &stored)?))
            };
            match order {
                ScanOrder::Ascending => found.map(entry).take(limit).collect(),
                ScanOrder::Descending => found.rev().map(entry).take(limit).collect(),
            }
        })
    }

    /// When this fails on the disk, the batch is in doubt: it is there whole or not at all once the store works again.
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        // Later writes to a key win, and each key counts once.
        let mut last: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
        for (tree, key, value) in batch.writes {
            last.insert((tree, key), value);
        }
        let sequence = self.with(StoreError::Write, |open| open.write(last))?;
        self.sequence.fetch_max(sequence, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn verify(&self) -> Result<(), StoreError> {
        self.with(StoreError::Read, |open| open.verify().map(drop))
    }

    fn verify_files(&self) -> Result<Verified, StoreError> {
        copied::verify(self)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = &open
            && let Err(error) = open.tail.lock().unwrap_or_else(PoisonError::into_inner).witness.settle()
        {
            tracing::warn!(%error, "the second chain of the state store cannot be written");
        }
        close(open);
    }
}

impl Open {
    fn tree(&self, tree: Tree) -> Result<&sled::Tree, sled::Error> {
        self.trees.get(place(tree)).ok_or_else(|| sled::Error::Unsupported(format!("no tree {}", tree.as_str())))
    }

    /// Writes records and chain in one transaction, between the two marks of the witness; answers how far the chain is.
    fn write(&self, writes: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>) -> Result<u64, sled::Error> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = tail.chain.clone();
        next.sequence += 1;
        let mut batches: Vec<sled::Batch> = self.trees.iter().map(|_| sled::Batch::default()).collect();
        let of_packs = writes.iter().filter(|((tree, key), _)| is_outside(*tree, key));
        let packs: Vec<(&[u8], &[u8], Stub)> = of_packs
            .filter_map(|((tree, key), value)| {
                let value = value.as_ref()?;
                Some((key.as_slice(), value.as_slice(), Stub::of(*tree, key, value)))
            })
            .collect();
        self.outside.write(&packs)?;
        let mut gone = Vec::new();
        for ((tree, key), value) in &writes {
            let at = place(*tree);
            let (Some(batch), Some(links)) = (batches.get_mut(at), next.trees.get_mut(at)) else { continue };
            let stub = value.as_ref().filter(|_| is_outside(*tree, key)).map(|value| Stub::of(*tree, key, value));
            if let Some(old) = self.tree(*tree)?.get(key)? {
                let before = Stub::read(&old);
                links.take(before.map_or_else(|| chain::counted(*tree, key, &old), |stub| stub.checksum));
                let stays = |before: &Stub| stub.is_some_and(|stub| stub.checksum == before.checksum);
                gone.extend(before.filter(|before| !stays(before)).map(|before| (key.clone(), before)));
            }
            match (value, stub) {
                (_, Some(stub)) => {
                    links.add(stub.checksum);
                    batch.insert(key.as_slice(), stub.to_bytes());
                }
                (Some(value), None) => {
                    let (sealed, checksum) = chain::seal(*tree, key, value);
                    links.add(checksum);
                    batch.insert(key.as_slice(), sealed);
                }
                (None, None) => batch.remove(key.as_slice()),
            }
        }
        if let Some(own) = batches.last_mut() {
            own.insert(CHAIN_KEY, next.to_bytes());
        }
        tail.witness.intend(&next)?;
        let applied = self.trees.as_slice().transaction(|trees| {
            for (tree, writes) in trees.iter().zip(&batches) {
                tree.apply_batch(writes)?;
            }
            Ok::<_, sled::transaction::ConflictableTransactionError<()>>(())
        });
        match applied {
            Ok(()) | Err(sled::transaction::TransactionError::Abort(())) => {}
            Err(sled::transaction::TransactionError::Storage(error)) => return Err(error),
        }
        self.db.flush()?;
        if let Err(error) = tail.witness.done(&next) {
            // The write is durable; without the mark it only counts as intended.
            tracing::warn!(%error, "the second chain of the state store cannot be written");
        }
        tail.chain = next;
        self.outside.remove(&gone);
        Ok(tail.chain.sequence)
    }

    /// The value of a key, wherever it is.
    fn value(&self, tree: Tree, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, sled::Error> {
        match Stub::read(stored) {
            Some(stub) => Ok(self.outside.read(tree, key, stub)?),
            None => chain::unseal(tree, key, stored).map(|(value, _)| value).ok_or_else(|| damaged_record(tree, key)),
        }
    }

    /// Removes what a process that was killed left of packs that it wrote or removed.
    fn tidy(&self) -> Result<(), sled::Error> {
        let _nobody_writes = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stubs = Vec::new();
        for entry in self.tree(Tree::Runs)?.scan_prefix([PACKS]) {
            let (key, stored) = entry?;
            stubs.extend(Stub::read(&stored).map(|stub| (key.to_vec(), stub)));
        }
        self.outside.keep_only(&stubs);
        Ok(())
    }

    /// Reads every record and compares them with the chain; nobody writes meanwhile. Answers how many there are.
    fn verify(&self) -> Result<u64, sled::Error> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.count()?;
        let records = found.iter().map(|links| links.count).sum();
        tail.chain.differs_from(&found).map_or(Ok(records), |detail| Err(senseless(detail)))
    }

    /// Whether the store is that of the state directory with this `id`; one of before, or without an id beside it, may be.
    fn check_home(&self, id: Option<&str>) -> Result<(), sled::Error> {
        let inside = self.trees.last().map(|tree| tree.get(STATE_KEY)).transpose()?.flatten();
        match (inside, id) {
            (Some(inside), Some(id)) if &*inside != id.as_bytes() => {
                Err(senseless("it is the store of another state directory".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// What the trees hold.
    fn count(&self) -> Result<[Links; Tree::ALL.len()], sled::Error> {
        let mut found = [Links::default(); Tree::ALL.len()];
        for (tree, links) in Tree::ALL.into_iter().zip(&mut found) {
            for entry in self.tree(tree)? {
                let (key, stored) = entry?;
                if let Some(stub) = Stub::read(&stored) {
                    self.outside.read(tree, &key, stub)?;
                    links.add(stub.checksum);
                    continue;
                }
                let (_, checksum) = chain::unseal(tree, &key, &stored).ok_or_else(|| damaged_record(tree, &key))?;
                links.add(checksum);
            }
        }
        Ok(found)
    }
}

/// Where a tree stands in [`Tree::ALL`], and so in `Open::trees`.
fn place(tree: Tree) -> usize {
    Tree::ALL.iter().position(|each| *each == tree).unwrap_or(usize::MAX)
}

fn damaged_record(tree: Tree, key: &[u8]) -> sled::Error {
    senseless(format!("the record {} is not what its checksum says", show_key(tree, key)))
}

/// An error that [`guarded`] takes for damage.
fn senseless(detail: String) -> sled::Error {
    sled::Error::Io(io::Error::new(ErrorKind::InvalidData, detail))
}

/// Opens the store, reads every record once, and compares what is there with both chains.
fn open_whole(path: &Path, id: Option<&str>) -> Result<Open, StoreError> {
    open_counted(path, id).map(|(open, _)| open)
}

/// As [`open_whole`], with the number of records.
fn open_counted(path: &Path, id: Option<&str>) -> Result<(Open, u64), StoreError> {
    let open = open_trees(path)?;
    let read = guarded(path, StoreError::Read, || open.verify()).and_then(|records| {
        check_format(path, &open)?;
        guarded(path, StoreError::Read, || open.check_home(id))?;
        Ok(records)
    });
    match read {
        Ok(records) => Ok((open, records)),
        Err(error) => {
            close(Some(open));
            Err(match error {
                StoreError::Read(source) => StoreError::Open { path: path.to_owned(), source },
                other => other,
            })
        }
    }
}

fn check_format(path: &Path, open: &Open) -> Result<(), StoreError> {
    match format_of(path, open)? {
        Some(found) if found > FORMAT => Err(StoreError::Newer { path: path.to_owned(), found }),
        _ => Ok(()),
    }
}

/// Which format the records have; none: it never was whole.
fn format_of(path: &Path, open: &Open) -> Result<Option<u64>, StoreError> {
    let key = FORMAT_KEY.as_bytes();
    let stored = guarded(path, StoreError::Read, || open.tree(Tree::Meta)?.get(key))?;
    let value = stored.and_then(|stored| chain::unseal(Tree::Meta, key, &stored));
    // What cannot be read is as it was before it was raised.
    Ok(value.map(|(value, _)| serde_json::from_slice(&value).unwrap_or(FORMAT_OF_ROWS)))
}

/// Opens sled and takes up the chain where it ends; the records themselves are not read.
fn open_trees(path: &Path) -> Result<Open, StoreError> {
    let refuse = |source| StoreError::Open { path: path.to_owned(), source };
    let damaged = |detail| StoreError::Damaged { path: path.to_owned(), detail };
    let (db, trees) = open_sled(path)?;
    let inside = guarded(path, StoreError::Read, || db.get(CHAIN_KEY));
    let tail = inside.and_then(|stored| match stored {
        Some(stored) => {
            let chain = Chain::from_bytes(&stored).ok_or_else(|| damaged("its chain is damaged".to_owned()))?;
            let witness = Witness::check(path, &chain).map_err(refuse)?.map_err(damaged)?;
            Ok(Tail { chain, witness })
        }
        None if Witness::was_there(path).map_err(refuse)? => Err(damaged("its chain is gone".to_owned())),
        None => adopt(path, &db, &trees),
    });
    match tail {
        Ok(tail) => Ok(Open { db, trees, tail: Mutex::new(tail), outside: Outside::of(path) }),
        Err(error) => {
            drop(trees);
            close(Some(db));
            Err(match error {
                StoreError::Read(source) => refuse(source),
                other => other,
            })
        }
    }
}

/// Begins the chain of a store from before there was one.
fn adopt(path: &Path, db: &sled::Db, trees: &[sled::Tree]) -> Result<Tail, StoreError> {
    let refuse = |source| StoreError::Open { path: path.to_owned(), source };
    let mut chain = Chain { sequence: 1, ..Chain::default() };
    let mut has_format = false;
    guarded(path, StoreError::Read, || {
        for ((tree, sled), links) in Tree::ALL.into_iter().zip(trees).zip(&mut chain.trees) {
            for entry in sled {
                let (key, stored) = entry?;
                let (_, checksum) = chain::unseal(tree, &key, &stored).ok_or_else(|| damaged_record(tree, &key))?;
                links.add(checksum);
            }
        }
        let meta = trees.get(place(Tree::Meta)).map(|meta| meta.get(FORMAT_KEY)).transpose()?.flatten();
        // Every store of before has its format; one without lost it, unless it was never filled.
        has_format = meta.is_some();
        if !has_format && chain.trees.iter().any(|links| links.count > 0) {
            Err(senseless("its format is gone".to_owned()))
        } else {
            Ok(())
        }
    })?;
    let witness = Witness::begin(path, &chain, Mark::Intended).map_err(refuse)?;
    guarded(path, StoreError::Write, || {
        if let Some(meta) = trees.get(place(Tree::Meta)).filter(|_| has_format) {
            // So that a Larder from before refuses the store instead of misreading it. Its sum is that of what it means.
            meta.insert(
                FORMAT_KEY,
                chain::seal(Tree::Meta, FORMAT_KEY.as_bytes(), FORMAT_OF_ROWS.to_string().as_bytes()).0,
            )?;
        }
        db.insert(CHAIN_KEY, chain.to_bytes())?;
        db.flush().map(|_| ())
    })?;
    witness.done(&chain).map_err(refuse)?;
    Ok(Tail { chain, witness })
}

fn open_sled(path: &Path) -> Result<(sled::Db, Vec<sled::Tree>), StoreError> {
    let refuse = |source| StoreError::Open { path: path.to_owned(), source };
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let open = guarded(path, StoreError::Read, || {
        let db = open_once_let_go(&config)?;
        let mut trees: Vec<sled::Tree> =
            Tree::ALL.iter().map(|tree| db.open_tree(tree.as_str())).collect::<Result<_, _>>()?;
        db.flush()?;
        trees.push((*db).clone());
        Ok((db, trees))
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
