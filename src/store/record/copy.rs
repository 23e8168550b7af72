//! What is known of copies into a destination.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Upkeep;
use crate::error::Trouble;

/// How long a copy that is due may take to be whole before somebody is told.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_hours(6);

/// How the copies into a destination go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    pub upkeep: Upkeep,
    /// The first time that came and has had no whole copy since.
    #[serde(default)]
    pub due_since: Option<Timestamp>,
    /// Why the newest attempt waits for another one, where that is no failure.
    #[serde(default)]
    pub waits: Option<Trouble>,
    /// Whether the trouble of its upkeep is that it is overdue.
    #[serde(default)]
    pub told_overdue: bool,
    /// The newest copy behind which all was there that was wanted.
    #[serde(default)]
    pub whole: Option<WholeCopy>,
}

impl CopyRecord {
    /// From when on it is overdue; none: nothing is due.
    #[must_use]
    pub fn overdue_at(&self) -> Option<Timestamp> {
        self.due_since.map(|since| since.saturating_add(OVERDUE_AFTER).unwrap_or(since))
    }

    /// When it is to be looked at: to be copied, or to be told of.
    #[must_use]
    pub fn next_look(&self) -> Option<Timestamp> {
        let untold = self.overdue_at().filter(|_| self.upkeep.trouble.is_none());
        self.upkeep.next.into_iter().chain(untold).min()
    }
}

/// A copy behind which all was there that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeCopy {
    /// It speaks of what the source had then.
    pub at: Timestamp,
    /// How many snapshots it copied.
    pub copied: u64,
}
