//! What is usual for a job, from its good runs, and what of a new run is less than that. Pure.
//!
//! Only whole runs and what somebody accepted become usual, so nothing that is missing ever does by time. What arrived in
//! the newest runs is in no usual yet: so the newest whole run counts too, and the most that a kept backup has.

pub mod mounts;
pub mod peaks;
pub mod range;
pub mod recall;
pub mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::mounts::Noted;
use self::peaks::Peaks;
use self::range::Range;
use self::recall::{Read, Recalled};
use crate::config::model::Retention;
use crate::run::judgement::SIZES_MAX;
use crate::types::{ByteSize, Name, RunId};

/// Parts of which every one of the newest runs is remembered; of more only the most.
const PARTS_MAX: usize = 16;

/// Longest name of a part that is kept as it is, in bytes; a longer one is kept by its hash.
const PART_BYTES_MAX: usize = 160;

/// A hold that is shown stays as it is while what is there is at least nine tenths of it.
const NO_WORSE_TENTHS: u64 = 9;

/// So many files less are a loss beside the newest run or a kept backup: the journal of a closed database is none.
const FILES_LESS_MIN: u64 = 3;

/// Losses that are named one by one.
const NAMED_MAX: usize = 5;

/// Bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    pub bytes: u64,
    pub files: u64,
}

impl Weight {
    fn less(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), files: self.files.saturating_sub(other.files) }
    }

    fn most(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), files: self.files.max(other.files) }
    }
}

/// What one run kept, as a whole and by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub total: Weight,
    #[serde(default)]
    pub parts: BTreeMap<String, Weight>,
}

/// What a run's snapshots have, and what is needed to weigh it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weighed {
    pub load: Load,
    /// The first run of which a snapshot is kept, where every destination told.
    pub oldest: Option<RunId>,
    /// The sources that the config names; none when it is the application that names them.
    pub paths: Option<BTreeSet<PathBuf>>,
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
    /// Mount points at and below the sources at the newest good run; an empty one is left out. The store keeps them beside the
    /// record, since they may be many; an older Larder had them in it.
    #[serde(default, skip_serializing)]
    pub mounts: BTreeSet<PathBuf>,
    /// By what they were noted, see [`mounts::Noted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts_own: Option<BTreeSet<String>>,
    /// By which rules each destination was kept last.
    #[serde(default)]
    pub retained: BTreeMap<Name, Retention>,
    /// The rules that the job's first run was made by; none when it had runs before this was noted.
    #[serde(default)]
    pub began: Option<Retention>,
    /// Between what each part goes up and down; that of the whole has no name.
    #[serde(default)]
    pub ranges: BTreeMap<String, Range>,
    /// The most that kept backups have, of every part; the store keeps it beside the record, since it may be long.
    #[serde(skip)]
    pub peaks: Peaks,
    /// What was read of the snapshots that the state may have known nothing of, by destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<Name, Read>,
}

/// The name of the whole among the parts.
const WHOLE: &str = "";

/// How a part is named in what is kept: short names as they are.
fn kept_name(part: &str) -> String {
    if part.len() <= PART_BYTES_MAX { part.to_owned() } else { format!("#{}", short_hash(part)) }
}

/// Eight bytes of a hash, in hex.
fn short_hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes())).chars().take(16).collect()
}

impl Load {
    /// Adds what a source has.
    pub fn add(&mut self, part: &str, weight: Weight) {
        self.parts.insert(part.to_owned(), weight);
    }

    /// As it is kept: few parts, with short names.
    fn kept(&self) -> Self {
        let parts = self.parts.iter().take(PARTS_MAX).map(|(part, weight)| (kept_name(part), *weight));
        Self { total: self.total, parts: parts.collect() }
    }

    /// The whole, without a name, and the parts.
    fn all(&self) -> impl Iterator<Item = (&str, Weight)> {
        let parts = self.parts.iter().map(|(part, weight)| (part.as_str(), *weight));
        parts.chain([(WHOLE, self.total)])
    }

    fn of(&self, kept_name: &str) -> Option<Weight> {
        if kept_name == WHOLE { Some(self.total) } else { self.parts.get(kept_name).copied() }
    }

    /// What it has of a part becomes what `measure` makes of it.
    fn lower(&mut self, kept_name: &str, measure: impl Fn(Weight) -> Weight) {
        let weight = if kept_name == WHOLE { Some(&mut self.total) } else { self.parts.get_mut(kept_name) };
        if let Some(weight) = weight {
            *weight = measure(*weight);
        }
    }

    /// Without the parts that `is_gone`, and what they had of the whole.
    fn without(&mut self, is_gone: &impl Fn(&str) -> bool) {
        let total = &mut self.total;
        self.parts.retain(|part, weight| {
            let gone = is_gone(part);
            if gone {
                *total = total.less(*weight);
            }
            !gone
        });
    }
}

impl Usual {
    /// The rules by which the snapshots in `destination` were made and kept so far, as far as that is known.
    #[must_use]
    pub fn rules(&self, destination: &Name) -> Option<&Retention> {
        self.retained.get(destination).or(self.began.as_ref())
    }

    /// The mounts of the newest good run.
    #[must_use]
    pub fn noted(&self) -> Noted {
        Noted { points: self.mounts.clone(), own: self.mounts_own.clone() }
    }

    /// A good run had these mounts.
    pub fn note(&mut self, noted: &Noted) {
        self.mounts.clone_from(&noted.points);
        self.mounts_own.clone_from(&noted.own);
    }

    /// A good run had `load`.
    pub fn remember(&mut self, load: &Load) {
        self.hold(None);
        self.turn(load);
        self.loads.push(load.kept());
        let excess = self.loads.len().saturating_sub(SIZES_MAX);
        self.loads.drain(..excess);
        let Some(newest) = self.loads.last().cloned() else { return };
        // A part that left the config is no measure for one of its name that comes later.
        let loads = &self.loads;
        self.ranges.retain(|name, _| name == WHOLE || loads.iter().any(|load| load.parts.contains_key(name)));
        for (name, _) in newest.all() {
            let Some(usual) = usual_of(&self.before(name)) else { continue };
            self.ranges.entry(name.to_owned()).or_insert_with(|| Range::of(usual)).widen(usual);
        }
    }

    /// What fell as it does in its cycle begins anew, as if that was accepted again.
    fn turn(&mut self, load: &Load) {
        for (part, now) in load.all() {
            let name = kept_name(part);
            let Some(range) = self.ranges.get_mut(&name) else { continue };
            let before = *range;
            let measure = |then: Weight| before.unless_it_turns(then, now);
            for load in &mut self.loads {
                load.lower(&name, measure);
            }
            self.peaks.lower(part, measure);
            range.turn(now);
            range.grow(now);
        }
    }

    /// The snapshot of `run` has `load`, and `oldest` is the first run of which one is kept still.
    pub fn keep(&mut self, load: &Load, run: RunId, oldest: Option<RunId>) {
        self.peaks.take_in(load, run, oldest);
    }

    /// The job is held for `load`; none: it is not held any more.
    pub fn hold(&mut self, load: Option<&Load>) {
        self.held = load.map(Load::kept);
        self.peaks.hold(load);
    }

    /// Whether the job is held for something, and nothing in `load` is notably less than in that.
    #[must_use]
    pub fn is_no_worse(&self, load: &Load) -> bool {
        let enough = |now: u64, then: u64| now >= then / 10 * NO_WORSE_TENTHS;
        let fine = |now: Weight, then: Weight| enough(now.bytes, then.bytes) && enough(now.files, then.files);
        let shown = |name: &str| {
            let held = self.held.as_ref()?;
            held.of(&kept_name(name)).or_else(|| self.peaks.held(name))
        };
        self.held.is_some() && load.all().all(|(name, now)| shown(name).is_none_or(|then| fine(now, then)))
    }

    /// What the job is held for was said to be right, so it is what later runs are compared with.
    pub fn begin_anew(&mut self) {
        let newest = self.loads.last().cloned().unwrap_or_default();
        self.loads = self.held.take().into_iter().collect();
        self.peaks.begin_anew();
        let before = std::mem::take(&mut self.ranges);
        for load in &self.loads {
            let begun = |(name, weight): (&str, Weight)| {
                let then = newest.of(name).unwrap_or_default();
                let range = before.get(name).map_or_else(|| Range::of(weight), |range| range.fallen_to(then, weight));
                (name.to_owned(), range)
            };
            self.ranges.extend(load.all().map(begun));
        }
    }

    /// Fills up what is known from what the snapshots have that the state may not know: in doubt the most that there is was
    /// usual.
    pub fn recall(&mut self, recalled: &Recalled) {
        for (destination, read) in &recalled.read {
            self.read.insert(destination.clone(), read.clone());
        }
        let there = recalled.load.kept();
        let known = |usual: &Self, name: &str| usual_of(&usual.before(name)).unwrap_or_default();
        let is_more = |(name, there): (&str, Weight)| {
            let known = known(self, name);
            there.bytes > known.bytes || there.files > known.files
        };
        if there.all().any(is_more) {
            let parts = self.loads.last().map(|load| load.parts.clone()).unwrap_or_default();
            let mut load = Load { total: there.total.most(known(self, WHOLE)), parts };
            for (part, weight) in &there.parts {
                load.parts.insert(part.clone(), weight.most(known(self, part)));
            }
            for (name, weight) in load.all() {
                self.ranges.entry(name.to_owned()).or_insert_with(|| Range::of(weight));
            }
            self.loads = vec![load];
        }
        self.peaks.recall(&recalled.load);
    }

    /// The config names `paths` and no other source: what others had is no measure any more, for the whole neither.
    ///
    /// One that another source holds now is still there.
    pub fn only(&mut self, paths: &BTreeSet<PathBuf>) {
        let names: BTreeSet<String> = paths.iter().map(|path| kept_name(&part_name(path))).collect();
        let within = |part: &str| paths.iter().any(|path| Path::new(part).starts_with(path));
        let is_gone = |part: &str| !names.contains(part) && !within(part);
        for load in self.loads.iter_mut().chain(&mut self.held) {
            load.without(&is_gone);
        }
        let gone: Vec<(String, Range)> = self
            .ranges
            .iter()
            .filter(|(part, _)| *part != WHOLE && is_gone(part))
            .map(|(part, range)| (part.clone(), *range))
            .collect();
        for (part, range) in gone {
            self.ranges.remove(&part);
            if let Some(whole) = self.ranges.get_mut(WHOLE) {
                whole.without(&range);
            }
        }
        let hashes = paths.iter().map(|path| peaks::key(&part_name(path))).collect();
        let inner = self.loads.iter().flat_map(|load| load.parts.keys()).filter(|part| within(part));
        self.peaks.only(&hashes, &inner.map(|part| peaks::key(part)).collect());
    }

    /// What of `load` is under half of the usual, of the newest whole run, of what a kept backup has, or of the least that
    /// it came back from, a phrase each; empty: nothing.
    #[must_use]
    pub fn losses(&self, load: &Load) -> Vec<String> {
        // One part is the whole.
        let parts = load.all().filter(|(name, _)| *name == WHOLE || load.parts.len() > 1);
        let mut losses: Vec<String> = parts.filter_map(|(name, now)| self.loss(name, now)).collect();
        let more = losses.len().saturating_sub(NAMED_MAX);
        if more > 1 {
            losses.truncate(NAMED_MAX);
            losses.push(format!("and so have {more} others"));
        }
        losses
    }

    fn loss(&self, name: &str, now: Weight) -> Option<String> {
        let shown = if name == WHOLE { "the backup" } else { name };
        let kept = kept_name(name);
        let range = self.ranges.get(&kept);
        let unless_it_turns = |before: Weight| range.map_or(before, |range| range.unless_it_turns(before, now));
        let usual = usual_of(&self.before(&kept)).map(unless_it_turns);
        if let Some(loss) = usual.and_then(|usual| loss(shown, usual, now, "instead of about")) {
            return Some(loss);
        }
        let newest = self.loads.last().and_then(|load| load.of(&kept)).map(unless_it_turns);
        if let Some(loss) = newest.and_then(|newest| marked_loss(shown, newest, now, "where the newest whole run had"))
        {
            return Some(loss);
        }
        let most = self
            .peaks
            .most(name)
            .map(unless_it_turns)
            .map(|most| range.map_or(most, |range| range.unless_it_rotates(most, now)));
        if let Some(loss) = most.and_then(|most| marked_loss(shown, most, now, "where a backup that is still kept has"))
        {
            return Some(loss);
        }
        loss(shown, range?.low(), now, "after losing a little each time: it had")
    }

    /// What the newest good runs had of a part.
    fn before(&self, kept_name: &str) -> Vec<Weight> {
        self.loads.iter().filter_map(|load| load.of(kept_name)).collect()
    }
}

/// How a source is named as a part: one path has one name, however it is written.
#[must_use]
pub fn part_name(path: &Path) -> String {
    path.components().collect::<PathBuf>().display().to_string()
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

/// As [`loss`], but for a few files that come and go.
fn marked_loss(name: &str, before: Weight, now: Weight, instead: &str) -> Option<String> {
    let files = if before.files.saturating_sub(now.files) < FILES_LESS_MIN { now.files } else { before.files };
    loss(name, Weight { files, ..before }, now, instead)
}

/// Of an even number, the lower middle one: a doubt is not enough for an alarm.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
