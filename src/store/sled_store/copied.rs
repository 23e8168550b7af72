//! Whether the files of a store that is in use are whole: a copy of them is opened as a start would open it.
//!
//! The open store has pages in its memory, and reads of its log only what it is asked for, so asking it tells nothing of
//! its files. Its second chain is copied with them: what was cut off is missed. Nobody writes while they are copied, so the
//! copy lies beside the store, on the disk that writes wait for anyhow, and is of bounded size; it is read beside everybody.
//! Nothing that is found here changes the open store: it goes on with what it has in its memory, and its next start sets
//! the files aside.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::guard::close;
use super::{SledStore, StoreError, open_counted};
use crate::store::Verified;
use crate::store::layout::LOOKED_AT;
use crate::types::ByteSize;

/// Copies that must be damaged before the store is called so: its own threads may cut its log while it is copied.
const LOOKS: u32 = 2;

/// A larger store is not copied: a disk writes so much in a second or two, and writes of the daemon wait for that.
const COPY_BYTES_MAX: u64 = 256 << 20;

const CHUNK_BYTES: usize = 1 << 20;

/// One look at a time, all over the process.
static LOOKING: Mutex<()> = Mutex::new(());

/// Why a copy was not made.
enum Failed {
    /// The store's own files.
    Unreadable(PathBuf, io::Error),
    Unwritable(io::Error),
}

/// Reads the files of `store` anew, by copies beside it. Blocking.
pub(super) fn verify(store: &SledStore) -> Result<Verified, StoreError> {
    let Ok(_one) = LOOKING.try_lock() else {
        return Ok(Verified::Not("another look at its files is under way".to_owned()));
    };
    if let Some(why) = too_large(&store.path).map_err(StoreError::Read)? {
        return Ok(Verified::Not(why));
    }
    let copy = store.path.with_file_name(LOOKED_AT);
    let mut damaged = None;
    for _ in 0..LOOKS {
        let looked = look(store, &copy);
        let removed = std::fs::remove_dir_all(&copy);
        match looked {
            Ok(records) => return removed.map(|()| Verified::Whole(records)).map_err(StoreError::Write),
            Err(StoreError::Damaged { detail, .. }) => damaged = Some(detail),
            // What was found before stays found.
            Err(error) => return damaged.map_or(Err(error), |detail| Err(of_store(store, detail))),
        }
    }
    damaged.map_or(Ok(Verified::Not("it was not looked at".to_owned())), |detail| Err(of_store(store, detail)))
}

/// Not by the name of the copy.
fn of_store(store: &SledStore, detail: String) -> StoreError {
    StoreError::Damaged { path: store.path.clone(), detail }
}

fn too_large(path: &Path) -> io::Result<Option<String>> {
    let bytes = size(path)?;
    let about = nix::sys::statvfs::statvfs(path)?;
    let free = about.blocks_available().saturating_mul(about.fragment_size());
    let needs = format!("a look at its files takes a copy of {}", ByteSize(bytes));
    Ok(match bytes {
        _ if bytes > COPY_BYTES_MAX => Some(format!("{needs}, which is left to the next start")),
        // Never the last room: runs need some.
        _ if bytes.saturating_mul(2) > free => Some(format!("{needs}, and only {} are free", ByteSize(free))),
        _ => None,
    })
}

fn size(directory: &Path) -> io::Result<u64> {
    std::fs::read_dir(directory)?.try_fold(0, |sum: u64, entry| {
        let entry = entry?;
        let about = entry.metadata()?;
        Ok(sum.saturating_add(if about.is_dir() { size(&entry.path())? } else { about.len() }))
    })
}

fn look(store: &SledStore, copy: &Path) -> Result<u64, StoreError> {
    match std::fs::remove_dir_all(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::Write(error)),
        _ => {}
    }
    // A copy that fails is no failure of the store, which would be opened anew after one.
    let copied = store.with(StoreError::Read, |open| {
        let _nobody_writes = open.tail.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(copy_all(&store.path, copy))
    })?;
    copied.map_err(|failed| match failed {
        Failed::Unreadable(path, error) => of_store(store, format!("{} cannot be read: {error}", path.display())),
        Failed::Unwritable(error) => StoreError::Write(error),
    })?;
    let (open, records) = open_counted(copy, None)?;
    close(Some(open));
    Ok(records)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Failed> {
    let unreadable = |error| Failed::Unreadable(from.to_owned(), error);
    DirBuilder::new().mode(0o700).create(to).map_err(Failed::Unwritable)?;
    for entry in std::fs::read_dir(from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(unreadable)?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Tells apart which of both does not work, as `std::fs::copy` does not.
fn copy_file(from: &Path, to: &Path) -> Result<(), Failed> {
    let unreadable = |error| Failed::Unreadable(from.to_owned(), error);
    let mut source = match File::open(from) {
        // The store took it away meanwhile; if it is one of those that a start needs, that start says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(unreadable)?,
    };
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create_new(true).mode(0o600).open(to).map_err(Failed::Unwritable)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = source.read(&mut chunk).map_err(unreadable)?;
        match chunk.get(..read) {
            Some([]) | None => return Ok(()),
            Some(bytes) => target.write_all(bytes).map_err(Failed::Unwritable)?,
        }
    }
}
