//! Packs lie in files beside those of the trees: the trees keep what was read of them in memory, and old runs are rarely
//! asked for.
//!
//! ```text
//! store/packs/<key in hex>-<checksum in hex>    the value
//! the tree                                      in place of the value: a mark, the checksum, the length
//! ```
//! The file is whole on the disk before the tree says that it is there, and removed only when that says so no more. Its
//! name has its checksum, so another value of the same key is another file. What a process that was killed left of either
//! is removed by the next start. The chain counts the value's checksum, wherever the value is.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::batch::PACKS;
use crate::store::chain;
use crate::store::{Tree, VALUE_BYTES_MAX, show_key};

/// Below the store's directory, so that it moves with it.
const DIR: &str = "packs";

/// What stands in the tree for a value that lies in a file. No record starts so, and no value that carries its checksum.
const MARK: u8 = 2;

/// The mark, the checksum, the length.
const STUB_BYTES: usize = 1 + 8 + 4;

/// Files that are waited for one by one; of more, the whole file system is.
const SYNCED_ALONE_MAX: usize = 4;

/// What stands in the tree for a value.
#[derive(Clone, Copy)]
pub(super) struct Stub {
    pub(super) checksum: u64,
    bytes: u32,
}

impl Stub {
    pub(super) fn of(tree: Tree, key: &[u8], value: &[u8]) -> Self {
        let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
        Self { checksum: chain::checksum(tree, key, value), bytes }
    }

    /// None: the value itself is there.
    pub(super) fn read(stored: &[u8]) -> Option<Self> {
        let stored: &[u8; STUB_BYTES] = stored.try_into().ok()?;
        let (mark, rest) = stored.split_first()?;
        let (checksum, bytes) = rest.split_first_chunk::<8>()?;
        let bytes = u32::from_be_bytes(*bytes.first_chunk()?);
        (*mark == MARK).then_some(Self { checksum: u64::from_be_bytes(*checksum), bytes })
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut stub = vec![MARK];
        stub.extend(self.checksum.to_be_bytes());
        stub.extend(self.bytes.to_be_bytes());
        stub
    }

    fn name(self, key: &[u8]) -> String {
        format!("{}-{:016x}", hex::encode(key), self.checksum)
    }
}

/// Whether the value of a key lies in a file.
pub(super) fn is_outside(tree: Tree, key: &[u8]) -> bool {
    tree == Tree::Runs && key.len() == 17 && key.first() == Some(&PACKS)
}

/// The files of one store.
#[derive(Debug)]
pub(super) struct Outside {
    dir: PathBuf,
}

impl Outside {
    pub(super) fn of(store: &Path) -> Self {
        Self { dir: store.join(DIR) }
    }

    /// The value, when it is what the tree says.
    ///
    /// # Errors
    /// Damage when it is not, or when there is none.
    pub(super) fn read(&self, tree: Tree, key: &[u8], stub: Stub) -> io::Result<Vec<u8>> {
        let damaged =
            |why: &str| io::Error::new(ErrorKind::InvalidData, format!("the record {} {why}", show_key(tree, key)));
        let file = match File::open(self.dir.join(stub.name(key))) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged("has no file any more")),
            Err(error) => return Err(error),
        };
        let mut value = Vec::new();
        file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut value)?;
        let is_it = value.len() == stub.bytes as usize && chain::checksum(tree, key, &value) == stub.checksum;
        if is_it { Ok(value) } else { Err(damaged("is not what its checksum says")) }
    }

    /// Writes values; they are on the disk when it returns.
    pub(super) fn write(&self, values: &[(&[u8], &[u8], Stub)]) -> io::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => File::open(self.dir.parent().unwrap_or(&self.dir))?.sync_all()?,
        }
        for (key, value, stub) in values {
            // One of before with this name was never said to be there.
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(self.dir.join(stub.name(key)))?;
            file.write_all(value)?;
            if values.len() <= SYNCED_ALONE_MAX {
                file.sync_all()?;
            }
        }
        let dir = File::open(&self.dir)?;
        if values.len() > SYNCED_ALONE_MAX {
            rustix::fs::syncfs(&dir)?;
        }
        dir.sync_all()
    }

    /// Removes what the tree says no more; what cannot be removed is tried again by the next start.
    pub(super) fn remove(&self, gone: &[(Vec<u8>, Stub)]) {
        for (key, stub) in gone {
            if let Err(error) = std::fs::remove_file(self.dir.join(stub.name(key))) {
                tracing::warn!(%error, "an old part of the history cannot be removed");
            }
        }
    }

    /// Removes every file but those of `stubs`.
    pub(super) fn keep_only(&self, stubs: &[(Vec<u8>, Stub)]) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        let known: BTreeSet<String> = stubs.iter().map(|(key, stub)| stub.name(key)).collect();
        for entry in entries.flatten().filter(|entry| !known.contains(&*entry.file_name().to_string_lossy())) {
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(%error, "a part of the history that nobody names cannot be removed");
            }
        }
    }
}
