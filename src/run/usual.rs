//! What is usual for a job, from its good runs, and what of a new run is less than that. Pure.
//!
//! Only whole runs and what somebody accepted become usual, so nothing that is missing ever does by time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::model::Retention;
use crate::run::judgement::SIZES_MAX;
use crate::types::{ByteSize, Name};

/// Parts that are weighed one by one; more are weighed with the rest.
const PARTS_MAX: usize = 16;

/// Longest name of a part, in bytes: a job's record is bounded.
const PART_BYTES_MAX: usize = 160;

/// A hold that is shown stays as it is while what is there is at least nine tenths of it.
const NO_WORSE_TENTHS: u64 = 9;

/// Bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    pub bytes: u64,
    pub files: u64,
}

/// What one run kept, as a whole and by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub total: Weight,
    #[serde(default)]
    pub parts: BTreeMap<String, Weight>,
}

/// What a job usually has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual {
    /// Of the newest good runs, newest last.
    #[serde(default)]
    pub loads: Vec<Load>,
    /// Of the hold that is shown.
    #[serde(default)]
    pub held: Option<Load>,
    /// Mount points at and below the sources at the newest good run; an empty one is left out.
    #[serde(default)]
    pub mounts: BTreeSet<PathBuf>,
    /// By which rules each destination was kept last.
    #[serde(default)]
    pub retained: BTreeMap<Name, Retention>,
    /// The rules that the job's first run was made by; none when it had runs before this was noted.
    #[serde(default)]
    pub began: Option<Retention>,
}

impl Load {
    /// Adds what a source has; sources beyond the bound are in the total only.
    pub fn add(&mut self, part: &str, weight: Weight) {
        if self.parts.len() < PARTS_MAX && part.len() <= PART_BYTES_MAX {
            self.parts.insert(part.to_owned(), weight);
        }
    }

    /// Whether nothing here is notably less than in `shown`.
    #[must_use]
    pub fn is_no_worse_than(&self, shown: &Self) -> bool {
        let enough = |now: u64, then: u64| now >= then / 10 * NO_WORSE_TENTHS;
        let fine = |now: Weight, then: Weight| enough(now.bytes, then.bytes) && enough(now.files, then.files);
        fine(self.total, shown.total)
            && self.parts.iter().all(|(name, now)| shown.parts.get(name).is_none_or(|then| fine(*now, *then)))
    }
}

impl Usual {
    /// The rules by which the snapshots in `destination` were made and kept so far, as far as that is known.
    #[must_use]
    pub fn rules(&self, destination: &Name) -> Option<&Retention> {
        self.retained.get(destination).or(self.began.as_ref())
    }

    pub fn remember(&mut self, load: Load) {
        self.loads.push(load);
        let excess = self.loads.len().saturating_sub(SIZES_MAX);
        self.loads.drain(..excess);
    }

    /// What of `load` is under half of the usual, a phrase each; empty: nothing.
    #[must_use]
    pub fn losses(&self, load: &Load) -> Vec<String> {
        let mut losses = Vec::new();
        for (name, now) in &load.parts {
            let before: Vec<Weight> = self.loads.iter().filter_map(|load| load.parts.get(name).copied()).collect();
            losses.extend(loss(name, &before, *now));
        }
        let before: Vec<Weight> = self.loads.iter().map(|load| load.total).collect();
        losses.extend(loss("the backup", &before, load.total));
        losses
    }
}

fn loss(name: &str, before: &[Weight], now: Weight) -> Option<String> {
    let bytes = median(before.iter().map(|weight| weight.bytes));
    if now.bytes < bytes.div_ceil(2) {
        return Some(format!("{name} has {} instead of about {}", ByteSize(now.bytes), ByteSize(bytes)));
    }
    let files = median(before.iter().map(|weight| weight.files));
    (now.files < files.div_ceil(2)).then(|| format!("{name} has {} files instead of about {files}", now.files))
}

/// Of an even number, the lower middle one: a doubt is not enough for an alarm.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: u64, files: u64, parts: &[(&str, u64, u64)]) -> Load {
        let mut load = Load { total: Weight { bytes, files }, ..Load::default() };
        for (name, bytes, files) in parts {
            load.add(name, Weight { bytes: *bytes, files: *files });
        }
        load
    }

    fn usual(loads: &[Load]) -> Usual {
        let mut usual = Usual::default();
        for load in loads {
            usual.remember(load.clone());
        }
        usual
    }

    #[test]
    fn many_small_files_lost_beside_a_large_one_are_seen_by_their_number() {
        let usual = usual(&[load(20_002_000, 2001, &[]), load(20_002_000, 2001, &[])]);
        assert_eq!(usual.losses(&load(20_000_000, 1, &[])), ["the backup has 1 files instead of about 2001"]);
        assert!(usual.losses(&load(20_001_100, 1100, &[])).is_empty());
    }

    #[test]
    fn a_small_source_that_lost_all_is_seen_beside_a_large_one() {
        let usual = usual(&[load(1_000_100, 20, &[("/a", 1_000_000, 10), ("/b", 100, 10)])]);
        let losses = usual.losses(&load(1_000_010, 19, &[("/a", 1_000_000, 10), ("/b", 10, 9)]));
        assert_eq!(losses.len(), 1);
        assert!(losses[0].starts_with("/b has 10 B instead of"), "{losses:?}");
    }

    #[test]
    fn a_first_run_a_new_source_and_one_odd_size_are_no_loss() {
        assert!(usual(&[]).losses(&load(0, 0, &[("/a", 0, 0)])).is_empty());
        let usual = usual(&[load(100, 1, &[]), load(900, 1, &[]), load(100, 1, &[])]);
        assert!(usual.losses(&load(99, 1, &[("/new", 1, 1)])).is_empty());
    }

    #[test]
    fn only_the_last_five_count_and_what_is_shown_stays_while_nothing_is_worse() {
        let mut usual = usual(&[]);
        (0..9).for_each(|n| usual.remember(load(n, n, &[])));
        assert_eq!(usual.loads.len(), SIZES_MAX);
        assert!(load(95, 10, &[]).is_no_worse_than(&load(100, 10, &[])));
        assert!(!load(80, 10, &[]).is_no_worse_than(&load(100, 10, &[])));
        assert!(!load(100, 5, &[]).is_no_worse_than(&load(100, 10, &[])));
    }
}
