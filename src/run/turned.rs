//! Whether the clock jumped since it was looked at last: the wall clock against one that nobody sets, and against what was
//! recorded. Pure.
//!
//! A wall clock that shows less than what was recorded is behind, or was ahead before: nobody can tell which, so that
//! lasts until it shows enough again or somebody says that it is right. The least that the time can be goes on with the
//! machine's own clock, so a clock that stays behind does not catch up by waiting. One that is days ahead of the time
//! since the machine's start was set ahead; after another start nobody can tell, since the machine may have been off.

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
    /// The newest look that was believed; while the clock is behind, with the least that the time could be then.
    pub look: Look,
    /// The clock is ahead of it and nobody said that this is right.
    #[serde(default)]
    pub ahead: Option<Ahead>,
    /// The clock is behind it and nobody said that this is right.
    #[serde(default)]
    pub behind: Option<Behind>,
    /// What is dated later than it was made is dated up to here: it was written while the clock was ahead.
    #[serde(default)]
    pub disowned: Option<Timestamp>,
}

/// A clock that was set ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// What it should have shown, and what it showed.
    pub expected: Timestamp,
    pub shown: Timestamp,
}

/// A clock that shows less than what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The newest instant that was recorded before.
    pub latest: Timestamp,
    /// What it showed when that was noticed.
    pub shown: Timestamp,
    /// What it showed at the newest look.
    pub wall: Timestamp,
    /// When it was set back is not known, so what it should show is not either.
    #[serde(default)]
    pub vague: bool,
}

/// What a look tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As far as anybody can tell it is right.
    None,
    Back(Behind),
    Ahead(Ahead),
}

/// Judges a look; answers with what is to be remembered. `recorded` is the newest instant that was written down.
#[must_use]
pub fn judge(anchor: Option<&Anchor>, look: &Look, recorded: Option<Timestamp>) -> (Turn, Anchor) {
    let now = look.wall;
    let disowned = anchor.and_then(|anchor| anchor.disowned);
    let later = recorded.filter(|recorded| disowned.is_none_or(|until| *recorded > until));
    let later = later.filter(|recorded| recorded.duration_since(now) > BACK_LEEWAY);
    let vaguely_behind = |latest| {
        let behind = Behind { latest, shown: now, wall: now, vague: true };
        let look = Look { wall: latest, ..look.clone() };
        (Turn::Back(behind.clone()), Anchor { look, ahead: None, behind: Some(behind), disowned })
    };
    let Some(anchor) = anchor else {
        return later.map_or_else(|| (Turn::None, believed(look, disowned)), vaguely_behind);
    };
    let least = least(&anchor.look, look);
    if least.duration_since(now) > BACK_LEEWAY {
        let behind = still_behind(anchor, look, later);
        let after = Anchor {
            look: Look { wall: least, ..look.clone() },
            ahead: None,
            behind: Some(behind.clone()),
            // What was written while it was ahead says nothing of now.
            disowned: anchor.ahead.as_ref().map_or(disowned, |ahead| disowned.max(Some(written_ahead(ahead, now)))),
        };
        return (Turn::Back(behind), after);
    }
    let same_start = is_same_start(&anchor.look, look) && !anchor.behind.as_ref().is_some_and(|behind| behind.vague);
    let by = now.duration_since(least);
    match &anchor.ahead {
        Some(ahead) if if same_start { by > BACK_LEEWAY } else { now >= ahead.shown } => {
            (Turn::Ahead(ahead.clone()), anchor.clone())
        }
        // It is where it should be, or was set back at another start: what it wrote in between is known for what it is.
        Some(ahead) => (Turn::None, believed(look, disowned.max(Some(written_ahead(ahead, now))))),
        None if same_start && by > AHEAD_LEEWAY => {
            let ahead = Ahead { expected: least, shown: now };
            (Turn::Ahead(ahead.clone()), Anchor { ahead: Some(ahead), behind: None, ..anchor.clone() })
        }
        None => later.map_or_else(|| (Turn::None, believed(look, disowned)), vaguely_behind),
    }
}

/// What is remembered when somebody says that what the clock shows is right.
#[must_use]
pub fn accept(anchor: Option<&Anchor>, look: &Look) -> Anchor {
    let Some(anchor) = anchor else { return believed(look, None) };
    let later = anchor.behind.as_ref().map(|behind| behind.latest.max(least(&anchor.look, look)));
    believed(look, anchor.disowned.max(later))
}

fn believed(look: &Look, disowned: Option<Timestamp>) -> Anchor {
    // What is past by now is as right as anything else.
    let disowned = disowned.filter(|until| *until > look.wall);
    Anchor { look: look.clone(), ahead: None, behind: None, disowned }
}

fn still_behind(anchor: &Anchor, look: &Look, later: Option<Timestamp>) -> Behind {
    let now = look.wall;
    let Some(known) = &anchor.behind else {
        // While it was ahead, what was recorded is no measure.
        let latest = later.filter(|_| anchor.ahead.is_none()).unwrap_or(anchor.look.wall).max(anchor.look.wall);
        let vague = !is_same_start(&anchor.look, look);
        return Behind { latest, shown: now, wall: now, vague };
    };
    let passed = if is_same_start(&anchor.look, look) {
        SignedDuration::from_millis(look.awake_ms - anchor.look.awake_ms)
    } else {
        now.duration_since(known.wall).max(SignedDuration::ZERO)
    };
    let was_set_again = (now.duration_since(known.wall) - passed).abs() > BACK_LEEWAY;
    Behind {
        latest: known.latest.max(later.unwrap_or(known.latest)),
        shown: if was_set_again { now } else { known.shown },
        wall: now,
        vague: known.vague || !is_same_start(&anchor.look, look),
    }
}

/// Up to when a clock that was `ahead` and is right `now` may have dated what it wrote.
fn written_ahead(ahead: &Ahead, now: Timestamp) -> Timestamp {
    let by = ahead.shown.duration_since(ahead.expected).saturating_add(BACK_LEEWAY);
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The least that the time can be at `now`. Between two starts of the machine any time may have passed, and a state may
/// have come from another machine.
fn least(before: &Look, now: &Look) -> Timestamp {
    if !is_same_start(before, now) {
        return before.wall;
    }
    let passed = SignedDuration::from_millis(now.awake_ms - before.awake_ms);
    before.wall.checked_add(passed).unwrap_or(before.wall)
}

fn is_same_start(before: &Look, now: &Look) -> bool {
    before.boot == now.boot && now.awake_ms >= before.awake_ms
}

#[cfg(test)]
mod tests;
