//! Whether a fall is one more turn of a cycle that somebody knows of. Pure.
//!
//! Seven dumps a week and then one again is no loss each week, but only a person can say so, and one fall that was right is
//! no cycle: somebody tidied up. Once two falls after one another that are alike were accepted, the next one is the same
//! where it falls from about as high to about as low, and where what fell had grown back in steps: what was put back or
//! arrived at once, and is gone from the next run, is a loss whatever was accepted before.

use serde::{Deserialize, Serialize};

/// So many falls that are alike and that somebody accepted make a cycle.
const ACCEPTED_MIN: u32 = 2;

/// So many steps make a growth; a restore in parts has fewer.
const RISES_MIN: u32 = 4;

/// It falls from about as high with so many quarters of that height.
const TOP_QUARTERS: std::ops::RangeInclusive<u64> = 3..=5;

/// And to about as low with at least so many tenths of that.
const FLOOR_TENTHS: u64 = 7;

/// A fall that was accepted, and how it grew since the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    top: u64,
    floor: u64,
    #[serde(default)]
    rises: u32,
    /// The largest step.
    #[serde(default)]
    step: u64,
    /// Of the newest whole run.
    last: u64,
    /// Falls like this one that were accepted; an older Larder noted the newest only.
    #[serde(default = "one")]
    accepted: u32,
}

fn one() -> u32 {
    1
}

impl Turn {
    /// That it fell is right; none: it did not fall by more than half.
    #[must_use]
    pub fn accepted(from: u64, to: u64) -> Option<Self> {
        (to < from.div_ceil(2)).then_some(Self { top: from, floor: to, rises: 0, step: 0, last: to, accepted: 1 })
    }

    /// That it fell to `now` is right, too: one more where the falls are alike, else `other` is the first of its kind.
    #[must_use]
    pub fn accepted_again(&self, now: u64, other: Self) -> Self {
        if self.is_alike(now) { Self { accepted: self.accepted.saturating_add(1), ..other } } else { other }
    }

    /// Takes in a whole run.
    pub fn grow(&mut self, now: u64) {
        if now > self.last {
            self.rises = self.rises.saturating_add(1);
            self.step = self.step.max(now - self.last);
        }
        self.last = now;
    }

    /// Whether a fall to `now` is one more turn of a cycle.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.accepted >= ACCEPTED_MIN && self.is_alike(now)
    }

    /// Whether a fall to `now` is as the newest that was accepted.
    fn is_alike(&self, now: u64) -> bool {
        let quarters = self.last.saturating_mul(4);
        let as_high = quarters >= self.top.saturating_mul(*TOP_QUARTERS.start())
            && quarters <= self.top.saturating_mul(*TOP_QUARTERS.end());
        let by_steps = self.rises >= RISES_MIN && self.step <= self.last.saturating_sub(self.floor) / 2;
        as_high && by_steps && now < self.last && now.saturating_mul(10) >= self.floor.saturating_mul(FLOOR_TENTHS)
    }

    /// It fell to `now`, as it was due. What it falls to never gets less by itself, and neither does the height.
    pub fn turn(&mut self, now: u64) {
        *self = Self { top: self.top.max(self.last), rises: 0, step: 0, last: now, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(from: u64, to: u64) -> Turn {
        Turn::accepted(from, to).unwrap()
    }

    /// After falls from 420 to 60, of which two were accepted.
    fn cycle() -> Turn {
        let mut turn = accepted(420, 60);
        (120..=420).step_by(60).for_each(|night| turn.grow(night));
        assert!(!turn.is_due(60), "one is none");
        turn.accepted_again(60, accepted(420, 60))
    }

    /// Whether the fall to the last of `nights` is due.
    fn due(nights: &[u64]) -> bool {
        let mut turn = cycle();
        let (now, before) = nights.split_last().unwrap();
        for night in before {
            turn.grow(*night);
        }
        turn.is_due(*now)
    }

    #[test]
    fn what_grows_back_in_steps_to_where_it_fell_from_may_fall_again_and_nothing_else() {
        assert!(due(&[120, 180, 240, 300, 360, 420, 60]));
        assert!(due(&[90, 200, 210, 290, 400, 460, 50]), "as days are");
        for (nights, why) in [
            (&[420, 60][..], "it came back at once"),
            (&[120, 420, 430, 440, 450, 60], "most of it at once"),
            (&[180, 300, 420, 60], "in three parts"),
            (&[120, 180, 240, 300, 60], "not as high"),
            (&[120, 180, 240, 300, 360, 420, 600, 60], "more arrived"),
            (&[120, 180, 240, 300, 360, 420, 30], "lower than ever"),
            (&[120, 180, 240, 300, 360, 420, 0], "all of it"),
        ] {
            assert!(!due(nights), "{why}");
        }
        assert_eq!(Turn::accepted(100, 60), None);
    }

    #[test]
    fn height_and_floor_follow_no_slow_loss() {
        let mut turn = cycle();
        for (top, floor) in [(420, 60), (400, 45), (380, 43), (360, 42), (340, 42)] {
            (1..=6).for_each(|day| turn.grow(floor + (top - floor) / 6 * day));
            assert!(turn.is_due(floor));
            turn.turn(floor);
        }
        (1..=6).for_each(|day| turn.grow(42 + 40 * day));
        assert!(!turn.is_due(42), "{turn:?}");
    }

    #[test]
    fn two_falls_that_were_accepted_and_are_not_alike_are_no_cycle() {
        for (nights, to, why) in [
            (&[420][..], 60, "put back at once"),
            (&[120, 180, 240, 300], 60, "from not as high"),
            (&[120, 180, 240, 300, 360, 420], 30, "to lower"),
        ] {
            let mut turn = accepted(420, 60);
            for night in nights {
                turn.grow(*night);
            }
            let from = nights.last().copied().unwrap();
            let mut turn = turn.accepted_again(to, accepted(from, to));
            (1..=6).for_each(|day| turn.grow(to + (from - to) / 6 * day));
            assert!(!turn.is_due(to), "{why}");
            assert!(turn.accepted_again(to, accepted(from, to)).accepted == 2, "the next may be the second: {why}");
        }
    }

    #[test]
    fn what_an_older_larder_noted_is_one_fall() {
        let old = r#"{"top": 420, "floor": 60, "rises": 6, "step": 60, "last": 420}"#;
        let turn: Turn = serde_json::from_str(old).unwrap();
        assert!(turn.is_alike(60) && !turn.is_due(60));
    }
}
