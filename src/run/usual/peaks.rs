//! The most that the backups which are still kept have, of the whole and of every source. Pure.
//!
//! What arrived in the newest runs is in no median yet, and losing it must not be green while it can be had back. Two spans
//! of runs are enough to know the most of what is kept: when nothing of the older one is left, the newer takes its place.
//! Parts are known by a hash of eight bytes, so that a job with a thousand sources has a record of some 60 KiB.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Load, WHOLE, Weight, short_hash};
use crate::types::RunId;

/// Parts that are weighed one by one, with the whole; more are in the whole only.
pub const PARTS_MAX: usize = 1001;

/// The most of each part since somebody accepted a loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// The first run of the newer span.
    pub since: Option<RunId>,
    pub parts: BTreeMap<String, Peak>,
}

/// Of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// In the newer span.
    #[serde(default, rename = "n", skip_serializing_if = "Option::is_none")]
    pub newer: Option<Weight>,
    /// In the older one.
    #[serde(default, rename = "o", skip_serializing_if = "Option::is_none")]
    pub older: Option<Weight>,
    /// Of the hold that is shown.
    #[serde(default, rename = "h", skip_serializing_if = "Option::is_none")]
    pub held: Option<Weight>,
}

impl Peak {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn less(&mut self, other: &Self) {
        for (own, other) in
            [(&mut self.newer, other.newer), (&mut self.older, other.older), (&mut self.held, other.held)]
        {
            *own = own.map(|own| own.less(other.unwrap_or_default()));
        }
    }
}

/// What a part is known by.
#[must_use]
pub fn key(part: &str) -> String {
    if part == WHOLE { String::new() } else { short_hash(part) }
}

impl Peaks {
    /// The most that a kept backup has of the part.
    #[must_use]
    pub fn most(&self, part: &str) -> Option<Weight> {
        let peak = self.parts.get(&key(part))?;
        [peak.newer, peak.older].into_iter().flatten().reduce(Weight::most)
    }

    /// What the hold that is shown says of the part.
    #[must_use]
    pub fn held(&self, part: &str) -> Option<Weight> {
        self.parts.get(&key(part))?.held
    }

    /// The whole always has.
    fn has_room_for(&self, key: &str) -> bool {
        let reserved = usize::from(!self.parts.contains_key(WHOLE));
        key == WHOLE || self.parts.contains_key(key) || self.parts.len() + reserved < PARTS_MAX
    }

    /// Takes in what the snapshot of `run` has; `oldest` is the first run of which one is kept, as far as that is known.
    pub fn take_in(&mut self, load: &Load, run: RunId, oldest: Option<RunId>) {
        let since = *self.since.get_or_insert(run);
        if oldest.is_some_and(|oldest| oldest >= since) && since != run {
            // Nothing of the older span is left.
            self.since = Some(run);
            for peak in self.parts.values_mut() {
                peak.older = peak.newer.take();
            }
        }
        for (part, weight) in load.all() {
            let key = key(part);
            if self.has_room_for(&key) {
                let peak = self.parts.entry(key).or_default();
                peak.newer = Some(peak.newer.map_or(weight, |before| before.most(weight)));
            }
        }
        self.parts.retain(|_, peak| !peak.is_empty());
    }

    /// Kept backups that the state may not know have `load`: it goes with the newer span.
    pub fn recall(&mut self, load: &Load) {
        for (part, weight) in load.all().filter(|(_, weight)| *weight != Weight::default()) {
            let key = key(part);
            if self.has_room_for(&key) {
                let peak = self.parts.entry(key).or_default();
                peak.newer = Some(peak.newer.map_or(weight, |before| before.most(weight)));
            }
        }
    }

    /// The job is held for `load`; none: for nothing.
    pub fn hold(&mut self, load: Option<&Load>) {
        for peak in self.parts.values_mut() {
            peak.held = None;
        }
        for (part, weight) in load.into_iter().flat_map(Load::all) {
            let key = key(part);
            if self.has_room_for(&key) {
                self.parts.entry(key).or_default().held = Some(weight);
            }
        }
        self.parts.retain(|_, peak| !peak.is_empty());
    }

    /// What kept backups have of the part becomes what `measure` makes of it.
    pub fn lower(&mut self, part: &str, measure: impl Fn(Weight) -> Weight) {
        let Some(peak) = self.parts.get_mut(&key(part)) else { return };
        peak.newer = peak.newer.map(&measure);
        peak.older = peak.older.map(&measure);
    }

    /// What is held is right, and nothing before it counts.
    pub fn begin_anew(&mut self) {
        self.since = None;
        for peak in self.parts.values_mut() {
            *peak = Peak { newer: peak.held, ..Peak::default() };
        }
        self.parts.retain(|_, peak| !peak.is_empty());
    }

    /// Forgets all parts but those with these keys, and what they had of the whole; what lies `within` one of them stays
    /// in the whole.
    pub fn only(&mut self, keys: &BTreeSet<String>, within: &BTreeSet<String>) {
        let is_gone = |key: &String| key != WHOLE && !keys.contains(key) && !within.contains(key);
        let gone: Vec<(String, Peak)> =
            self.parts.iter().filter(|(key, _)| is_gone(key)).map(|(key, peak)| (key.clone(), *peak)).collect();
        for (key, peak) in gone {
            self.parts.remove(&key);
            if let Some(whole) = self.parts.get_mut(WHOLE) {
                whole.less(&peak);
            }
        }
    }
}
