//! Where something waits to be forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::types::Name;

/// Destinations in which something waits to be forgotten; in memory, found again in the ledger at a start.
#[derive(Debug, Default)]
pub struct GivenUp {
    waiting: Mutex<BTreeMap<Name, Waiting>>,
}

/// Since when something waits, and when it is to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub since: Timestamp,
    pub not_before: Timestamp,
}

impl GivenUp {
    /// Something waits there since `now`, if nothing did before.
    pub fn note(&self, name: &Name, now: Timestamp) {
        self.with(|waiting| {
            waiting.entry(name.clone()).or_insert(Waiting { since: now, not_before: now });
        });
    }

    /// It is tried again, not before `not_before`.
    pub fn put_back(&self, name: &Name, since: Timestamp, not_before: Timestamp) {
        self.with(|waiting| {
            let each = waiting.entry(name.clone()).or_insert(Waiting { since, not_before });
            *each = Waiting { since: each.since.min(since), not_before };
        });
    }

    #[must_use]
    pub fn all(&self) -> BTreeMap<Name, Waiting> {
        self.with(|waiting| waiting.clone())
    }

    /// What waits there is being looked at, and waits no longer; since when it did.
    pub fn take(&self, name: &Name) -> Option<Timestamp> {
        self.with(|waiting| waiting.remove(name)).map(|waiting| waiting.since)
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Name, Waiting>) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
