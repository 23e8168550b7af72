//! A repository in a bucket with versions, brought back to what it was at an instant.
//!
//! Name by name, as the list goes. The packs come first and `config` last: whoever is cut short leaves a repository that cannot be opened,
//! not one that lacks what it names, and the next attempt finds what is still to do. Only what bears a name of restic's is
//! looked at; locks are not, and no version of data is ever removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::bulk::{Kept, REMOVED_MAX, Removal};
use super::names::{Kind, Names, patiently};
use super::past::{Entry, Remedy, remedy};
use super::{S3, Version};
use crate::storage::StorageError;

/// The largest object that a server copies in one call, in bytes: S3's own rule.
const COPIED_BYTES_MAX: u64 = 5 << 30;
/// How many that did not come back are named.
const FAILURES_MAX: usize = 20;
/// How many files of a kind are named.
const NAMED_MAX: usize = 5;

/// What is done with what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindAct {
    Look,
    BringBack,
}

/// What was found of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// There at that time, and now.
    pub unchanged: u64,
    pub deleted: u64,
    pub overwritten: u64,
    /// Of those that were deleted or overwritten.
    pub bytes: u64,
    /// The first of those.
    pub names: Vec<String>,
    /// Those of them that are back.
    pub back: u64,
    /// That came later, and are there: they stay.
    pub later: u64,
    /// That came later and are not there: another time brings them back.
    pub later_deleted: u64,
}

impl Tally {
    /// How many were there and are not, or not as they were.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.deleted + self.overwritten
    }
}

/// What was found, and what came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewound {
    pub tallies: BTreeMap<Kind, Tally>,
    /// Versions and marks that were looked at.
    pub looked_at: u64,
    /// The oldest of them.
    pub oldest: Option<Timestamp>,
    pub failed: u64,
    /// The first of those.
    pub failures: Vec<Kept>,
    /// It was stopped before the end.
    pub is_stopped: bool,
}

impl Rewound {
    #[must_use]
    pub fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies.values().map(of).sum()
    }

    fn fail(&mut self, kept: Kept) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(kept);
        }
    }
}

/// A file that is there again without these marks.
struct Covered {
    name: String,
    marks: Vec<String>,
}

/// One rewind on its way.
struct Rewind<'a> {
    client: &'a S3,
    to: Timestamp,
    act: RewindAct,
    tell: &'a mut dyn FnMut(&Rewound) -> ControlFlow<()>,
    done: Rewound,
    covered: Vec<Covered>,
    marks_count: usize,
}

impl S3 {
    /// Looks for what was there at `to` and was deleted or overwritten since, and brings it back where `act` says so.
    /// `tell` hears how far it is, and stops it.
    ///
    /// # Errors
    /// As every call; what is refused for one file alone is in the answer.
    pub fn rewind(
        &self,
        to: Timestamp,
        act: RewindAct,
        tell: &mut dyn FnMut(&Rewound) -> ControlFlow<()>,
    ) -> Result<Rewound, StorageError> {
        let (done, covered) = (Rewound::default(), Vec::new());
        let mut rewind = Rewind { client: self, to, act, tell, done, covered, marks_count: 0 };
        for kind in Kind::ALL {
            rewind.done.tallies.insert(kind, Tally::default());
            if rewind.kind(kind)?.is_break() {
                rewind.done.is_stopped = true;
                break;
            }
        }
        Ok(rewind.done)
    }
}

impl Rewind<'_> {
    fn kind(&mut self, kind: Kind) -> Result<ControlFlow<()>, StorageError> {
        let mut names = Names::of(self.client, kind);
        while let Some(page) = names.next_page()? {
            for (name, versions) in page {
                let entries = versions.into_iter().map(|version| self.entry(version)).collect::<Result<_, _>>()?;
                if self.name(kind, name, entries)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if (self.tell)(&self.done).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.uncover(kind)?;
        Ok((self.tell)(&self.done))
    }

    fn entry(&mut self, version: Version) -> Result<Entry, StorageError> {
        self.done.looked_at += 1;
        let Some(at) = version.modified else {
            return Err(self.client.unexpected(&version.name, "a version of it has no time".to_owned()));
        };
        self.done.oldest = Some(self.done.oldest.map_or(at, |oldest| oldest.min(at)));
        let Version { id, is_latest, is_delete_marker: is_mark, bytes, etag, .. } = version;
        Ok(Entry { id, etag, at, bytes, is_latest, is_mark })
    }

    fn name(&mut self, kind: Kind, name: String, mut entries: Vec<Entry>) -> Result<ControlFlow<()>, StorageError> {
        let remedy = remedy(&mut entries, self.to);
        let tally = self.done.tallies.entry(kind).or_default();
        let bytes_lost = match remedy {
            Remedy::Unchanged => {
                tally.unchanged += 1;
                return Ok(ControlFlow::Continue(()));
            }
            Remedy::CameLater => {
                tally.later += 1;
                return Ok(ControlFlow::Continue(()));
            }
            Remedy::CameAndWent => {
                tally.later_deleted += 1;
                return Ok(ControlFlow::Continue(()));
            }
            Remedy::NeverThere => return Ok(ControlFlow::Continue(())),
            Remedy::Uncover { bytes, .. } => {
                tally.deleted += 1;
                bytes
            }
            Remedy::Copy { bytes, .. } => {
                tally.overwritten += 1;
                bytes
            }
        };
        tally.bytes += bytes_lost;
        if tally.names.len() < NAMED_MAX {
            tally.names.push(name.clone());
        }
        match (self.act, remedy) {
            (RewindAct::BringBack, Remedy::Uncover { marks, .. }) => {
                self.marks_count += marks.len();
                self.covered.push(Covered { name, marks });
                if self.marks_count >= REMOVED_MAX {
                    self.uncover(kind)?;
                    return Ok((self.tell)(&self.done));
                }
            }
            (RewindAct::BringBack, Remedy::Copy { id, bytes }) => {
                self.copy(kind, name, &id, bytes)?;
                return Ok((self.tell)(&self.done));
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Removes the marks that were gathered.
    fn uncover(&mut self, kind: Kind) -> Result<(), StorageError> {
        let covered = std::mem::take(&mut self.covered);
        self.marks_count = 0;
        let removals: Vec<Removal> = covered
            .iter()
            .flat_map(|each| each.marks.iter().map(|id| Removal { name: each.name.clone(), id: id.clone() }))
            .collect();
        let client = self.client;
        let kept = patiently(|| client.remove_versions(&removals))?;
        let mut failed = BTreeSet::new();
        for each in kept {
            if failed.insert(each.name.clone()) {
                self.done.fail(each);
            }
        }
        let count = covered.iter().filter(|each| !failed.contains(&each.name)).count();
        self.done.tallies.entry(kind).or_default().back += count as u64;
        Ok(())
    }

    fn copy(&mut self, kind: Kind, name: String, id: &str, bytes: u64) -> Result<(), StorageError> {
        if bytes > COPIED_BYTES_MAX {
            let why = format!("it has more than 5 GiB, which no server copies at once; its version is {id}");
            self.done.fail(Kept { name, why });
            return Ok(());
        }
        let client = self.client;
        match patiently(|| client.copy_back(&name, id)) {
            Ok(()) => self.done.tallies.entry(kind).or_default().back += 1,
            Err(error) if error.is_of_the_way() || error.is_of_the_login() => return Err(error),
            Err(error) => self.done.fail(Kept { name, why: error.to_string() }),
        }
        Ok(())
    }
}
