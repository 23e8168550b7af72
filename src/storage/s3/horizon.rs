//! Until when what a bucket's snapshots need cannot be removed; pure.
//!
//! A bucket's default retention protects each object from its own upload on, so the pack of last month that today's
//! snapshot needs may be open although the snapshot is locked. What is told is therefore the earliest end of a lock over
//! *all* that is there, and an object without a lock makes it none.
//!
//! It speaks of the repository as it was at the instant before the look, however long the look takes: a list of versions
//! tells what is there *and* what was deleted since, by the time of its mark, and what was deleted during the look is
//! looked at like the rest. It stays true whatever comes later: a lock never gets shorter, a deletion in a bucket with
//! versions only writes a mark, and a rewind to that instant removes the marks. What came later is spoken of by no word.
//! What came during the look may be counted, too, which only makes the end earlier.
//!
//! Every object counts that was there, not only what some snapshot needs: a pack that none needs costs a call more, and
//! takes room until its lock ends; to know which those are takes all indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Version;
use super::names::Kind;
use super::versions::Lock;
use crate::config::model::{LockMode, ObjectLock};

const HOUR_S: u32 = 3600;
const DAY_S: u32 = 24 * HOUR_S;
/// How much earlier than it was a mark may be dated.
const MARK_SPARE: SignedDuration = SignedDuration::from_secs(3);

/// How often everything is looked at: daily, and oftener where the locks are short.
#[must_use]
pub fn looked_at_every(rule: ObjectLock) -> Duration {
    Duration::from_secs(u64::from((rule.days * DAY_S / 4).min(DAY_S)))
}

/// How much shorter than declared a lock may be before it is extended: an eighth, so that an object costs a call every some
/// days, and not one a day.
fn spare(rule: ObjectLock) -> SignedDuration {
    SignedDuration::from_secs(i64::from(rule.days * DAY_S / 8))
}

fn held_until(rule: ObjectLock, now: Timestamp) -> Timestamp {
    let end = now.saturating_add(SignedDuration::from_hours(24 * i64::from(rule.days)));
    end.unwrap_or(Timestamp::MAX)
}

/// The lock that an object is to get in the place of `lock`; none: that one does. It never lets more happen.
pub(super) fn extension(rule: ObjectLock, lock: Option<Lock>, now: Timestamp) -> Option<Lock> {
    let until = held_until(rule, now);
    let enough = until.saturating_sub(spare(rule)).unwrap_or(until);
    let wanted = match lock {
        Some(lock) if lock.mode >= rule.mode && lock.until >= enough => return None,
        Some(lock) => Lock { mode: lock.mode.max(rule.mode), until: lock.until.max(until) },
        None => Lock { mode: rule.mode, until },
    };
    Some(Lock { until: whole_second(wanted.until), ..wanted })
}

/// The first whole second that is not before it: some servers read no others, and a lock never gets shorter.
fn whole_second(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at)
}

/// What of a name was there at `at` and has content: none where it was not there. All its versions, since somebody may have
/// put another one on top.
///
/// A list tells whole seconds, so a mark of the second before counts as one of later.
pub(super) fn there(mut versions: Vec<Version>, at: Timestamp) -> Vec<Version> {
    let at = at.saturating_sub(MARK_SPARE).unwrap_or(at);
    let flagged = versions.iter().find(|version| version.is_latest);
    let newest = flagged.or_else(|| versions.iter().max_by_key(|version| version.modified));
    let was_there = newest.is_some_and(|top| !top.is_delete_marker || top.modified.is_none_or(|gone| gone >= at));
    versions.retain(|version| was_there && !version.is_delete_marker);
    versions
}

/// What is known of a repository's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// There is no repository.
    Nothing,
    /// Something that each repository has is not there.
    Lacking(Kind),
    /// So many objects have no lock as it is declared, or none that is known.
    Open(u64),
    /// Nothing that was there can be removed before.
    Until(Timestamp),
}

/// One look at everything.
pub(super) struct Look {
    mode: LockMode,
    /// By the storage's clock.
    now: Timestamp,
    counts: BTreeMap<Kind, u64>,
    until: Option<Timestamp>,
    open: u64,
}

impl Look {
    pub(super) fn begun(mode: LockMode, now: Timestamp) -> Self {
        Self { mode, now, counts: BTreeMap::new(), until: None, open: 0 }
    }

    /// A name was there.
    pub(super) fn named(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// What the storage says of the lock on one version of it.
    pub(super) fn locked(&mut self, lock: Option<Lock>) {
        match lock.filter(|lock| lock.mode >= self.mode && lock.until > self.now) {
            Some(lock) => self.until = Some(self.until.map_or(lock.until, |until| until.min(lock.until))),
            None => self.open += 1,
        }
    }

    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    pub(super) fn horizon(&self) -> Horizon {
        let lacks = |kind: &Kind| self.count(*kind) == 0;
        let needed: &[Kind] = match self.count(Kind::Snapshot) {
            0 => &[Kind::Config, Kind::Key],
            _ => &[Kind::Config, Kind::Key, Kind::Index, Kind::Data],
        };
        match (self.until, needed.iter().copied().find(lacks)) {
            _ if self.counts.is_empty() => Horizon::Nothing,
            (_, Some(kind)) => Horizon::Lacking(kind),
            (Some(until), None) if self.open == 0 => Horizon::Until(until),
            _ => Horizon::Open(self.open),
        }
    }
}

#[cfg(test)]
mod tests;
