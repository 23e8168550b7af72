//! The second place of the chain: a small file outside of the store's own files.
//!
//! A log whose tail is cut reads well up to the cut, so it can't tell what it lost. Here stands what it must reach.
//!
//! Two slots, used in turn. Before write `n` its chain is put into slot `n % 2`, *intended*, and is on the disk before the
//! store is touched; when the store has it, the slot is marked *done*. So whenever the process is killed:
//!
//! - before the intent is whole: the other slot says `n - 1`, done, and the store is there;
//! - after it: the store is at `n - 1` or at `n`, and either is right;
//! - after the mark: only `n` is right.
//!
//! The mark is not waited for. A power cut may lose it, and then the last write is one of which nobody can say more than
//! that it was intended; a kill of the process, or a copy of the files, does not lose it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::chain::{CHAIN_BYTES, Chain};
use super::layout::write_whole;

/// Beside the store's own files, so that it moves with them.
pub(super) const FILE_NAME: &str = "chain";

/// One sector for each slot, so that none is written by half and none touches the other.
const SLOT_BYTES: usize = 512;

/// How far a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Intended,
    Done,
}

impl Mark {
    fn word(self) -> &'static [u8; WORD_BYTES] {
        match self {
            Self::Intended => b"intended",
            Self::Done => b"done----",
        }
    }
}

const WORD_BYTES: usize = 8;

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    chain: Chain,
    done: bool,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

impl Witness {
    /// Writes the file anew: the store is at `chain`.
    pub(super) fn begin(dir: &Path, chain: &Chain, mark: Mark) -> io::Result<Self> {
        let mut bytes = vec![0; SLOT_BYTES * 2];
        let at = place(chain.sequence);
        if let Some(slot) = bytes.get_mut(at..at + SLOT_BYTES) {
            slot.copy_from_slice(&written(chain, mark));
        }
        let path = dir.join(FILE_NAME);
        write_whole(&path, &bytes)?;
        Ok(Self { file: OpenOptions::new().write(true).mode(0o600).open(path)? })
    }

    /// Opens the file when it agrees with a store that is at `inside`; begins it anew when it only says less.
    ///
    /// # Errors
    /// `Err` with what the file says when the store lost something that it had.
    pub(super) fn check(dir: &Path, inside: &Chain) -> io::Result<Result<Self, String>> {
        let slots = read(dir)?;
        for Slot { chain, done } in &slots {
            let ahead = chain.sequence.saturating_sub(inside.sequence);
            if ahead > 1 || (ahead == 1 && *done) {
                return Ok(Err(format!("its last {ahead} writes are lost")));
            }
            if ahead == 0 && chain.sequence == inside.sequence && chain != inside {
                return Ok(Err("its two chains differ".to_owned()));
            }
        }
        let file = if slots.iter().any(|slot| slot.chain == *inside) {
            let witness = Self { file: OpenOptions::new().write(true).open(dir.join(FILE_NAME))? };
            witness.done(inside)?;
            witness
        } else {
            tracing::warn!(path = %dir.join(FILE_NAME).display(), "the store's second chain was missing or damaged and is written anew");
            Self::begin(dir, inside, Mark::Done)?
        };
        Ok(Ok(file))
    }

    /// Whether a store of this directory ever had a chain.
    pub(super) fn was_there(dir: &Path) -> io::Result<bool> {
        Ok(dir.join(FILE_NAME).try_exists()? && read(dir)?.iter().any(|slot| slot.done))
    }

    /// The store is about to go to `next`; durable when it returns.
    pub(super) fn intend(&self, next: &Chain) -> io::Result<()> {
        self.put(next, Mark::Intended)?;
        self.file.sync_data()
    }

    /// The store is at `chain`.
    pub(super) fn done(&self, chain: &Chain) -> io::Result<()> {
        self.put(chain, Mark::Done)
    }

    /// Waits until the last mark is on the disk.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn put(&self, chain: &Chain, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&written(chain, mark), place(chain.sequence) as u64)
    }
}

fn place(sequence: u64) -> usize {
    if sequence.is_multiple_of(2) { 0 } else { SLOT_BYTES }
}

fn written(chain: &Chain, mark: Mark) -> Vec<u8> {
    let mut bytes = chain.to_bytes();
    bytes.extend(mark.word());
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

/// The slots that are whole; none when there is no file.
fn read(dir: &Path) -> io::Result<Vec<Slot>> {
    let bytes = match std::fs::read(dir.join(FILE_NAME)) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let slot = |bytes: &[u8]| {
        let chain = Chain::from_bytes(bytes.get(..CHAIN_BYTES)?)?;
        // A mark that is neither of the two is taken for the weaker one.
        Some(Slot { chain, done: bytes.get(CHAIN_BYTES..CHAIN_BYTES + WORD_BYTES)? == Mark::Done.word() })
    };
    Ok(bytes.chunks(SLOT_BYTES).take(2).filter_map(slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(sequence: u64) -> Chain {
        let mut chain = Chain { sequence, ..Chain::default() };
        chain.trees[0].add(sequence);
        chain
    }

    fn refused(dir: &Path, inside: &Chain) -> Option<String> {
        Witness::check(dir, inside).unwrap().err()
    }

    #[test]
    fn an_intended_write_may_be_there_or_not_and_one_that_is_done_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let witness = Witness::begin(dir.path(), &chain(1), Mark::Done).unwrap();
        witness.intend(&chain(2)).unwrap();
        assert_eq!(refused(dir.path(), &chain(1)), None);
        witness.done(&chain(2)).unwrap();
        assert_eq!(refused(dir.path(), &chain(2)), None);
        assert_eq!(refused(dir.path(), &chain(1)), Some("its last 1 writes are lost".to_owned()));
        witness.intend(&chain(3)).unwrap();
        assert!(refused(dir.path(), &chain(1)).is_some());
        let other = Chain { sequence: 2, ..chain(9) };
        assert_eq!(refused(dir.path(), &other), Some("its two chains differ".to_owned()));
    }

    #[test]
    fn a_file_that_is_missing_damaged_or_old_says_nothing_against_a_store_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for bytes in [None, Some(Vec::new()), Some(vec![7; 2000])] {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => assert!(!path.exists()),
            }
            assert!(!Witness::was_there(dir.path()).unwrap());
            assert_eq!(refused(dir.path(), &chain(4)), None);
            assert!(Witness::was_there(dir.path()).unwrap());
            assert!(refused(dir.path(), &chain(3)).is_some(), "it was written anew");
            assert_eq!(refused(dir.path(), &chain(8)), None, "an old one");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn an_intent_that_was_written_by_half_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let witness = Witness::begin(dir.path(), &chain(5), Mark::Done).unwrap();
        witness.intend(&chain(6)).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40..200].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(refused(dir.path(), &chain(5)), None);
    }
}
