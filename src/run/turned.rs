//! Whether the clock jumped since it was looked at last: the wall clock against one that nobody sets, and against what was
//! recorded. Pure.
//!
//! A wall clock that shows less than what was recorded was turned back, or was ahead before. One that is days ahead of the
//! time since the machine's start was set ahead; after another start nobody can tell, since the machine may have been off.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A clock that is corrected by less than this did not jump.
const BACK_LEEWAY: SignedDuration = SignedDuration::from_hours(1);

/// A machine without a battery for its clock wakes days behind and is set ahead by the network's time.
const AHEAD_LEEWAY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Two clocks at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub wall: Timestamp,
    /// Since the machine started, sleep included; nobody can set it.
    pub awake_ms: i64,
    /// Another one after each start of the machine.
    pub boot: String,
}

/// What is remembered between two looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The newest look that was believed.
    pub look: Look,
    /// The clock is ahead of it and nobody said that this is right.
    #[serde(default)]
    pub ahead: Option<Ahead>,
}

/// A clock that was set ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// What it should have shown, and what it showed.
    pub expected: Timestamp,
    pub shown: Timestamp,
}

/// What a look tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As far as anybody can tell it is right.
    None,
    /// It shows `now`, but `recorded` was written before.
    Back {
        recorded: Timestamp,
    },
    Ahead(Ahead),
}

/// Judges a look; answers with what is to be remembered. `recorded` is the newest instant that the ledger has, `accepted`
/// whether somebody said of this jump ahead that it is right.
#[must_use]
pub fn judge(
    anchor: Option<&Anchor>,
    look: &Look,
    recorded: Option<Timestamp>,
    accepted: impl Fn(&Ahead) -> bool,
) -> (Turn, Anchor) {
    let believed = || Anchor { look: look.clone(), ahead: None };
    let now = look.wall;
    // The clock itself may be right now; what it wrote then is not.
    if let Some(recorded) = recorded.filter(|recorded| recorded.duration_since(now) > BACK_LEEWAY) {
        return (Turn::Back { recorded }, believed());
    }
    let Some(anchor) = anchor else { return (Turn::None, believed()) };
    let expected = expected(&anchor.look, look);
    if expected.is_some_and(|expected| expected.duration_since(now) > BACK_LEEWAY) {
        return (Turn::Back { recorded: anchor.look.wall }, believed());
    }
    let jumped = expected.filter(|expected| now.duration_since(*expected) > AHEAD_LEEWAY);
    let ahead = match (&anchor.ahead, jumped) {
        (Some(ahead), Some(_)) => Some(ahead.clone()),
        (None, Some(expected)) => Some(Ahead { expected, shown: now }),
        // Another start of the machine: it stays doubtful while the clock shows what it showed then, or more.
        (Some(ahead), None) if expected.is_none() && now >= ahead.shown => Some(ahead.clone()),
        _ => None,
    };
    match ahead.filter(|ahead| !accepted(ahead)) {
        Some(ahead) => (Turn::Ahead(ahead.clone()), Anchor { ahead: Some(ahead), ..anchor.clone() }),
        None => (Turn::None, believed()),
    }
}

/// What the wall clock should show by the other one; none after another start.
fn expected(before: &Look, now: &Look) -> Option<Timestamp> {
    let passed = SignedDuration::from_millis(now.awake_ms.checked_sub(before.awake_ms)?);
    (before.boot == now.boot && now.awake_ms >= before.awake_ms).then_some(())?;
    before.wall.checked_add(passed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn look(day: i64, awake_days: i64, boot: &str) -> Look {
        let wall = Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        Look { wall, awake_ms: awake_days * DAY_MS, boot: boot.to_owned() }
    }

    fn anchor(look: Look) -> Anchor {
        Anchor { look, ahead: None }
    }

    fn never(_: &Ahead) -> bool {
        false
    }

    #[test]
    fn a_clock_that_goes_on_as_time_does_is_believed_also_when_the_machine_was_off_or_asleep() {
        for (before, now) in [
            (None, look(0, 1, "a")),
            (Some(look(0, 1, "a")), look(30, 31, "a")),
            (Some(look(0, 1, "a")), look(400, 0, "b")),
            (Some(look(0, 1, "a")), look(7, 1, "a")),
        ] {
            let before = before.map(anchor);
            let recorded = before.as_ref().map(|before| before.look.wall);
            let (turn, after) = judge(before.as_ref(), &now, recorded, never);
            assert_eq!((turn, after), (Turn::None, anchor(now)));
        }
    }

    #[test]
    fn a_clock_behind_what_was_recorded_is_told_once() {
        let recorded = look(400, 0, "a").wall;
        let now = look(0, 0, "b");
        let (turn, after) = judge(None, &now, Some(recorded), never);
        assert_eq!(turn, Turn::Back { recorded });
        assert_eq!(judge(Some(&after), &look(1, 1, "b"), Some(now.wall), never).0, Turn::None);
        // Back to the right time, although nothing was recorded at the wrong one.
        let (turn, _) = judge(Some(&anchor(look(400, 1, "a"))), &look(0, 1, "a"), None, never);
        assert!(matches!(turn, Turn::Back { .. }));
    }

    #[test]
    fn a_clock_that_was_set_ahead_is_doubted_until_it_is_back_or_somebody_says_that_it_is_right() {
        let first = anchor(look(0, 1, "a"));
        let (turn, doubted) = judge(Some(&first), &look(400, 1, "a"), Some(first.look.wall), never);
        let Turn::Ahead(ahead) = turn else { panic!("{turn:?}") };
        assert_eq!((ahead.expected, ahead.shown), (look(0, 1, "a").wall, look(400, 1, "a").wall));
        for later in [look(401, 2, "a"), look(500, 1, "b")] {
            let (turn, after) = judge(Some(&doubted), &later, Some(ahead.shown), never);
            assert_eq!((turn, after.ahead), (Turn::Ahead(ahead.clone()), Some(ahead.clone())));
            let (turn, after) = judge(Some(&doubted), &later, Some(ahead.shown), |_| true);
            assert_eq!((turn, after), (Turn::None, anchor(later)));
        }
        let (turn, after) = judge(Some(&doubted), &look(2, 3, "a"), None, never);
        assert_eq!((turn, after.ahead), (Turn::None, None), "it was set right again");
    }
}
