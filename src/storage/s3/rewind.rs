//! A repository in a bucket with versions, brought back to what it was at an instant.
//!
//! Name by name, as the list goes: what is kept in memory are the versions of a page, and those of the one name that goes
//! on behind it. The packs come first and `config` last: whoever is cut short leaves a repository that cannot be opened,
//! not one that lacks what it names, and the next attempt finds what is still to do. Only what bears a name of restic's is
//! looked at; locks are not, and no version of data is ever removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use super::bulk::{Kept, REMOVED_MAX, Removal};
use super::past::{Entry, Remedy, remedy};
use super::{S3, Version};
use crate::storage::StorageError;

/// The largest object that a server copies in one call, in bytes: S3's own rule.
const COPIED_BYTES_MAX: u64 = 5 << 30;
/// How many that did not come back are named.
const FAILURES_MAX: usize = 20;
/// How many files of a kind are named.
const NAMED_MAX: usize = 5;
/// A call that fails for now is made again after these.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// What a file of a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Data,
    Index,
    Snapshot,
    Key,
    Config,
}

impl Kind {
    /// In the order in which they come back.
    pub const ALL: [Self; 5] = [Self::Data, Self::Index, Self::Snapshot, Self::Key, Self::Config];

    /// What all their names begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Data => "data/",
            Self::Index => "index/",
            Self::Snapshot => "snapshots/",
            Self::Key => "keys/",
            Self::Config => "config",
        }
    }

    /// For people: `data`, `config`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.prefix().trim_end_matches('/')
    }

    /// Whether restic gives such a name. Whoever has the keys can put anything there.
    fn is_of(self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix()) else { return false };
        let is_id = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (self, rest.split_once('/')) {
            (Self::Config, _) => rest.is_empty(),
            (Self::Data, Some((directory, id))) => is_id(id) && id.get(..2) == Some(directory),
            (_, Some(_)) => false,
            (_, None) => is_id(rest),
        }
    }
}

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
        let client = self.client;
        let front = client.front();
        let mut open: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        // All that comes before it is whole.
        let mut border = String::new();
        let mut after = None;
        loop {
            let page = patiently(|| client.versions(kind.prefix(), after.as_ref()))?;
            for version in page.versions {
                self.done.looked_at += 1;
                if version.name < border {
                    let detail = format!("{:?} stands behind {border:?}", version.name);
                    return Err(client.unexpected("a list of versions", detail));
                }
                if kind.is_of(&version.name) {
                    let (name, entry) = self.entry(version)?;
                    open.entry(name).or_default().push(entry);
                }
            }
            let whole = match &page.next {
                Some((key, _)) => {
                    key.strip_prefix(&front).unwrap_or_default().clone_into(&mut border);
                    let rest = open.split_off(&border);
                    std::mem::replace(&mut open, rest)
                }
                None => std::mem::take(&mut open),
            };
            for (name, entries) in whole {
                if self.name(kind, name, entries)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            after = page.next;
            if after.is_none() {
                self.uncover(kind)?;
                return Ok((self.tell)(&self.done));
            }
            if (self.tell)(&self.done).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn entry(&mut self, version: Version) -> Result<(String, Entry), StorageError> {
        let Some(at) = version.modified else {
            return Err(self.client.unexpected(&version.name, "a version of it has no time".to_owned()));
        };
        self.done.oldest = Some(self.done.oldest.map_or(at, |oldest| oldest.min(at)));
        let Version { name, id, is_latest, is_delete_marker: is_mark, bytes, etag, .. } = version;
        Ok((name, Entry { id, etag, at, bytes, is_latest, is_mark }))
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

/// Makes a call that may be made twice once more where it failed for now.
fn patiently<T>(call: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    for pause in AGAIN_AFTER {
        match call() {
            Err(StorageError::Busy { .. } | StorageError::Web(_) | StorageError::NoAnswer { .. }) => {
                std::thread::sleep(pause);
            }
            done => return done,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_restic_gives_are_looked_at() {
        let id = "ab".repeat(32);
        for (kind, name) in [
            (Kind::Config, "config".to_owned()),
            (Kind::Key, format!("keys/{id}")),
            (Kind::Snapshot, format!("snapshots/{id}")),
            (Kind::Index, format!("index/{id}")),
            (Kind::Data, format!("data/ab/{id}")),
            (Kind::Data, format!("data/{id}")),
        ] {
            let owners: Vec<Kind> = Kind::ALL.into_iter().filter(|each| each.is_of(&name)).collect();
            assert_eq!(owners, [kind], "{name}");
        }
        for name in [
            format!("locks/{id}"),
            "larder-probe-01".to_owned(),
            "config-old".to_owned(),
            "config/x".to_owned(),
            "keys/x".to_owned(),
            format!("keys/{id}/x"),
            format!("data/cd/{id}"),
            format!("data/ab/{id}\n"),
            format!("snapshots/../{id}"),
        ] {
            assert!(!Kind::ALL.iter().any(|kind| kind.is_of(&name)), "{name}");
        }
    }
}
