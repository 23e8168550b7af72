//! Between what a job's weight goes up and down, so that a loss of a little each night is seen. Pure.
//!
//! What is usual follows a slow loss and never sees it. So the least is remembered from which the weight came back: a
//! source that rotates comes back every time, and one that only shrinks is told when it has less than half of that. A
//! low from which it came back long ago, or which was before it grew, is forgotten after [`CALM_RUNS`].

use serde::{Deserialize, Serialize};

use super::Weight;
use super::turn::Turn;

/// After so many good runs above half of the most in a row, what was lower before says nothing any more.
const CALM_RUNS: u32 = 90;

/// It is back when it has so many tenths of the most.
const BACK_TENTHS: u64 = 9;

/// By the usual of each time, so that one odd night is none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    bytes: Reach,
    files: Reach,
}

/// The same for one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reach {
    most: u64,
    /// The least that it came back from.
    low: u64,
    /// The least since it was last back.
    dip: u64,
    calm: u32,
    /// As `low`, but only what it came down to and came back from; none: it never did.
    #[serde(default)]
    back: Option<u64>,
    /// A fall that somebody accepted, from where and to where, until it is back.
    #[serde(default)]
    fell: Option<[u64; 2]>,
    /// The newest fall by more than half that somebody accepted, how many like it, and how it grew since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<Turn>,
}

impl Range {
    #[must_use]
    pub fn of(weight: Weight) -> Self {
        Self { bytes: Reach::of(weight.bytes), files: Reach::of(weight.files) }
    }

    /// That it has `now` is right, where the newest whole run had `newest`: it begins anew, but what it came back from is
    /// known.
    #[must_use]
    pub fn fallen_to(&self, newest: Weight, now: Weight) -> Self {
        Self {
            bytes: self.bytes.fallen_to(newest.bytes, now.bytes),
            files: self.files.fallen_to(newest.files, now.files),
        }
    }

    /// Takes in a whole run as it is.
    pub fn grow(&mut self, now: Weight) {
        for (reach, now) in [(&mut self.bytes, now.bytes), (&mut self.files, now.files)] {
            if let Some(turn) = &mut reach.turn {
                turn.grow(now);
            }
        }
    }

    /// What it had `before`, or `now` where that is one more turn of a cycle.
    #[must_use]
    pub fn unless_it_turns(&self, before: Weight, now: Weight) -> Weight {
        let measure = |reach: &Reach, before: u64, now: u64| {
            if reach.turn.is_some_and(|turn| turn.is_due(now)) { before.min(now) } else { before }
        };
        Weight {
            bytes: measure(&self.bytes, before.bytes, now.bytes),
            files: measure(&self.files, before.files, now.files),
        }
    }

    /// Takes in that it has `now`: where that is one more turn, what it had before counts no longer.
    pub fn turn(&mut self, now: Weight) {
        for (reach, now) in [(&mut self.bytes, now.bytes), (&mut self.files, now.files)] {
            if let Some(turn) = reach.turn.as_mut().filter(|turn| turn.is_due(now)) {
                turn.turn(now);
            }
        }
    }

    /// Takes in what is usual after a good run.
    pub fn widen(&mut self, usual: Weight) {
        self.bytes.widen(usual.bytes);
        self.files.widen(usual.files);
    }

    /// Less than half of this was never come back from.
    #[must_use]
    pub fn low(&self) -> Weight {
        Weight { bytes: self.bytes.low, files: self.files.low }
    }

    /// The `most` that is kept, or `now` where it came down to as little by itself before and came back.
    #[must_use]
    pub fn unless_it_rotates(&self, most: Weight, now: Weight) -> Weight {
        let measure = |reach: &Reach, most: u64, now: u64| {
            if reach.back.is_some_and(|back| now >= back.div_ceil(2)) { now } else { most }
        };
        Weight {
            bytes: measure(&self.bytes, most.bytes, now.bytes),
            files: measure(&self.files, most.files, now.files),
        }
    }

    /// What is left where a part with the range `gone` left the config.
    pub fn without(&mut self, gone: &Self) {
        self.bytes.without(gone.bytes);
        self.files.without(gone.files);
    }
}

impl Reach {
    fn of(now: u64) -> Self {
        Self { most: now, low: now, dip: now, calm: 0, back: None, fell: None, turn: None }
    }

    fn fallen_to(&self, newest: u64, now: u64) -> Self {
        let fell = if now < self.most { Some([self.most, now]) } else { None };
        let fell = match (self.fell, fell) {
            (Some([from, to]), Some([also, now])) => Some([from.max(also), to.min(now)]),
            (before, fell) => fell.or(before),
        };
        // What falls further than ever is no rotation.
        let back = self.back.filter(|back| now >= back.div_ceil(2));
        let turn = Turn::accepted(newest, now)
            .map(|fall| self.turn.map_or(fall, |before| before.accepted_again(now, fall)))
            .or(self.turn);
        Self { back, fell, turn, ..Self::of(now) }
    }

    fn widen(&mut self, now: u64) {
        if let Some([_, to]) = self.fell.filter(|[from, _]| now >= from / 10 * BACK_TENTHS) {
            self.back = Some(self.back.map_or(to, |back| back.min(to)));
            self.fell = None;
        }
        let near = self.most / 10 * BACK_TENTHS;
        if now >= near {
            if self.dip < near {
                self.low = self.low.min(self.dip);
                self.back = Some(self.back.map_or(self.dip, |back| back.min(self.dip)));
            }
            self.dip = now;
        } else {
            self.dip = self.dip.min(now);
        }
        self.most = self.most.max(now);
        self.calm = if now >= self.most / 2 { self.calm.saturating_add(1) } else { 0 };
        if self.calm >= CALM_RUNS {
            self.low = self.most;
            self.back = None;
            self.turn = None;
        }
    }

    fn without(&mut self, gone: Self) {
        self.most = self.most.saturating_sub(gone.most);
        self.low = self.low.saturating_sub(gone.most);
        self.dip = self.dip.saturating_sub(gone.most);
        self.back = self.back.map(|back| back.saturating_sub(gone.most));
        self.fell = None;
        self.turn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The night, from 1 on, at which the weight is under half of the low, if any.
    fn told(nights: impl Iterator<Item = u64>) -> Option<usize> {
        let mut range: Option<Reach> = None;
        for (night, now) in nights.enumerate() {
            match &mut range {
                Some(range) if now < range.low.div_ceil(2) => return Some(night + 1),
                Some(range) => range.widen(now),
                None => range = Some(Reach::of(now)),
            }
        }
        None
    }

    fn falling(from: u64, percent: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(from), move |now| Some(now * (100 - percent) / 100)).take(400)
    }

    #[test]
    fn a_loss_of_a_little_each_night_is_told_when_half_is_gone_however_little_it_is() {
        for (percent, night) in [(12, 7), (5, 15), (2, 36), (1, 70)] {
            assert_eq!(told(falling(1_000_000, percent)), Some(night), "{percent}");
            let steady = std::iter::repeat_n(1_000_000, 200).chain(falling(1_000_000, percent));
            assert_eq!(told(steady), Some(200 + night), "{percent} after a steady time");
        }
        // What grew long ago from little.
        let grown = (1..=500).map(|night| night * 1000).chain(falling(500_000, 12));
        assert_eq!(told(grown), Some(507));
    }

    #[test]
    fn what_rotates_by_any_factor_is_not_told() {
        for (low, high, step) in [(1_u64, 10_u64, 1_u64), (100, 1000, 30), (10, 1000, 90), (60, 100, 5)] {
            let up = || (low..=high).step_by(usize::try_from(step).unwrap());
            let down = || up().collect::<Vec<_>>().into_iter().rev();
            let cycles = (0..20).flat_map(|_| up().chain(down()));
            assert_eq!(told(cycles), None, "{low} to {high}");
        }
        assert_eq!(told((0..400).map(|night| 100 + night % 7 * 100)), None, "emptied every week");
        assert_eq!(told((0..900).map(|night| 1000 + night * 10)), None, "and what only grows is not either");
    }
}
