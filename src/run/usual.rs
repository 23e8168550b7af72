//! What is usual for a job, from its good runs, and what of a new run is less than that. Pure.
//!
//! Only whole runs and what somebody accepted become usual, so nothing that is missing ever does by time.

pub mod range;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::range::Range;
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
    /// Between what each part goes up and down; that of the whole has no name.
    #[serde(default)]
    pub ranges: BTreeMap<String, Range>,
}

/// The name of the whole among the parts.
const WHOLE: &str = "";

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
        let Some(newest) = self.loads.last().cloned() else { return };
        // A part that left the config is no measure for one of its name that comes later.
        let loads = &self.loads;
        self.ranges.retain(|name, _| name == WHOLE || loads.iter().any(|load| load.parts.contains_key(name)));
        for name in newest.parts.keys().map(String::as_str).chain([WHOLE]) {
            let Some(usual) = usual_of(&self.before(name)) else { continue };
            self.ranges.entry(name.to_owned()).or_insert_with(|| Range::of(usual)).widen(usual);
        }
    }

    /// `load` was said to be right, so it is what later ones are compared with.
    pub fn begin_anew(&mut self, load: Option<Load>) {
        self.loads = load.into_iter().collect();
        self.ranges = BTreeMap::new();
        for load in &self.loads {
            let parts = load.parts.iter().map(|(name, weight)| (name.clone(), *weight));
            let all = parts.chain([(WHOLE.to_owned(), load.total)]);
            self.ranges.extend(all.map(|(name, weight)| (name, Range::of(weight))));
        }
    }

    /// What of `load` is under half of the usual, or of the least that it came back from, a phrase each; empty: nothing.
    #[must_use]
    pub fn losses(&self, load: &Load) -> Vec<String> {
        let parts = load.parts.iter().map(|(name, now)| (name.as_str(), *now)).chain([(WHOLE, load.total)]);
        parts.filter_map(|(name, now)| self.loss(name, now)).collect()
    }

    fn loss(&self, name: &str, now: Weight) -> Option<String> {
        let shown = if name == WHOLE { "the backup" } else { name };
        let usual = usual_of(&self.before(name));
        if let Some(loss) = usual.and_then(|usual| loss(shown, usual, now, "instead of about")) {
            return Some(loss);
        }
        loss(shown, self.ranges.get(name)?.low(), now, "after losing a little each time: it had")
    }

    /// What the newest good runs had of a part.
    fn before(&self, name: &str) -> Vec<Weight> {
        let of = |load: &Load| if name == WHOLE { Some(load.total) } else { load.parts.get(name).copied() };
        self.loads.iter().filter_map(of).collect()
    }
}

fn usual_of(before: &[Weight]) -> Option<Weight> {
    (!before.is_empty()).then(|| Weight {
        bytes: median(before.iter().map(|weight| weight.bytes)),
        files: median(before.iter().map(|weight| weight.files)),
    })
}

fn loss(name: &str, before: Weight, now: Weight, instead: &str) -> Option<String> {
    if now.bytes < before.bytes.div_ceil(2) {
        return Some(format!("{name} has {} {instead} {}", ByteSize(now.bytes), ByteSize(before.bytes)));
    }
    (now.files < before.files.div_ceil(2)).then(|| format!("{name} has {} files {instead} {}", now.files, before.files))
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
    fn a_slow_loss_is_seen_as_a_whole_and_by_source_and_begins_anew_where_it_is_accepted() {
        let falls = |usual: &mut Usual| {
            for night in 0..40_u32 {
                let left = 1_000_000 * 88_u64.pow(night.min(9)) / 100_u64.pow(night.min(9));
                let now = load(9_000_000 + left, 20, &[("/a", 9_000_000, 10), ("/b", left, 10)]);
                let losses = usual.losses(&now);
                if !losses.is_empty() {
                    return Some((night, losses, now));
                }
                usual.remember(now);
            }
            None
        };
        let mut usual = usual(&[]);
        let (night, losses, now) = falls(&mut usual).unwrap();
        assert_eq!((night, losses.len()), (6, 1), "{losses:?}");
        assert!(losses[0].starts_with("/b has 453.5 KiB after losing a little each time: it had"), "{losses:?}");
        usual.begin_anew(Some(now.clone()));
        assert_eq!(usual.losses(&now), Vec::<String>::new());
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
