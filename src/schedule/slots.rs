//! What to do with a job now: wait, fire, skip, or set its times anew. Pure, so a turned clock is only another value.
//!
//! A slot is a time of the schedule; a job's jitter moves its run behind the slot, never the slot itself. All
//! comparisons are therefore made at `now - jitter`. The rules, each with a property test:
//!
//! - A slot fires at most once: only slots after `last_slot` count.
//! - Slots that passed unseen collapse into the newest of them, which fires or is skipped once.
//! - A clock set back by up to [`CLOCK_BACK_MAX`] waits until it has caught up with `last_slot`. Set back further,
//!   the clock was wrong when that slot fired; `last_slot` no longer holds and the job does not stall.
//! - A next slot further away than the schedule's own next is a leftover of such a clock and is set anew.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::schedule::Schedule;

/// A slot that is found later than this after its time was missed.
pub const MISSED_AFTER: Duration = Duration::from_mins(5);

/// How far behind `last_slot` the clock may be and still be the same clock.
pub const CLOCK_BACK_MAX: Duration = Duration::from_hours(24);

/// When a job runs.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    pub schedule: &'a Schedule,
    /// The job's own share, from [`super::jitter`].
    pub jitter: Duration,
    pub on_missed: WhenMissed,
}

/// What happens to a missed slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissed {
    RunOnce,
    Skip,
}

/// Where a job stands in its schedule; the fields of its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleStanding {
    pub next_slot: Option<Timestamp>,
    /// `next_slot` plus jitter, or earlier for a retry.
    pub next_run: Option<Timestamp>,
    pub last_slot: Option<Timestamp>,
}

/// A time in which nothing fires: `since` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub since: Timestamp,
    pub until: Timestamp,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing; look again at this time.
    NotYet { at: Timestamp },
    /// Run for `slot`.
    Fire { slot: Timestamp, missed: bool },
    /// Run again what was deferred; no slot is used.
    Retry,
    /// Let the slots from `first` to `last` pass.
    Skip { first: Timestamp, last: Timestamp, reason: SkipReason },
    /// The recorded times were missing or a leftover of another clock: store the new ones.
    Reset,
    /// The schedule has no further time (near the year 9999).
    Never,
}

/// Why slots passed without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    Suspended,
    Missed,
}

/// A decision, and the standing to store with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    pub decision: Decision,
    pub standing: ScheduleStanding,
}

/// The standing of a job that is new or whose schedule changed: it waits for its next time and never fires at once.
#[must_use]
pub fn begin(schedule: &Schedule, jitter: Duration, last_slot: Option<Timestamp>, now: Timestamp) -> ScheduleStanding {
    let last_slot = trusted(last_slot, now);
    let after = last_slot.map_or(back(now, jitter), |last| last.max(back(now, jitter)));
    let next_slot = schedule.next_after(after);
    ScheduleStanding { next_slot, next_run: next_slot.map(|slot| forth(slot, jitter)), last_slot }
}

/// Decides what to do with a job at `now`.
#[must_use]
pub fn decide(timing: &Timing<'_>, standing: &ScheduleStanding, pause: Option<Pause>, now: Timestamp) -> Decided {
    let Timing { schedule, jitter, on_missed } = *timing;
    let fresh = begin(schedule, jitter, standing.last_slot, now);
    let seen = back(now, jitter);
    let Some(next_slot) = standing.next_slot.filter(|slot| fresh.last_slot.is_none_or(|last| *slot > last)) else {
        let decision = if fresh.next_slot.is_some() { Decision::Reset } else { Decision::Never };
        return Decided { decision, standing: fresh };
    };
    if next_slot > seen {
        return before_slot(standing, &fresh, next_slot, jitter, pause, now);
    }
    let slot = schedule.previous_at_or_before(seen).map_or(next_slot, |newest| newest.max(next_slot));
    let standing = begin(schedule, jitter, Some(slot), now);
    let missed = seen.duration_since(slot) > signed(MISSED_AFTER);
    let decision = if pause.is_some_and(|pause| pause.covers(now) || pause.covers(forth(slot, jitter))) {
        Decision::Skip { first: next_slot, last: slot, reason: SkipReason::Suspended }
    } else if missed && on_missed == WhenMissed::Skip {
        Decision::Skip { first: next_slot, last: slot, reason: SkipReason::Missed }
    } else {
        Decision::Fire { slot, missed }
    };
    Decided { decision, standing }
}

/// Before the next slot is due: wait, retry, or notice that the clock was turned.
fn before_slot(
    standing: &ScheduleStanding,
    fresh: &ScheduleStanding,
    next_slot: Timestamp,
    jitter: Duration,
    pause: Option<Pause>,
    now: Timestamp,
) -> Decided {
    if fresh.next_slot.is_some_and(|own| own < next_slot) {
        return Decided { decision: Decision::Reset, standing: *fresh };
    }
    let due = forth(next_slot, jitter);
    let next_run = standing.next_run.map_or(due, |run| run.min(due));
    let mut standing = ScheduleStanding { next_run: Some(next_run), ..*standing };
    if next_run > now {
        return Decided { decision: Decision::NotYet { at: next_run }, standing };
    }
    standing.next_run = Some(due);
    let paused = pause.is_some_and(|pause| pause.covers(now));
    Decided { decision: if paused { Decision::Reset } else { Decision::Retry }, standing }
}

/// What upkeep of a destination (prune, check) does now, and its next time.
///
/// Like a job without jitter: missed times collapse into one, which runs, and a clock set back does not stall it.
#[must_use]
pub fn decide_upkeep(
    schedule: &Schedule,
    next: Option<Timestamp>,
    now: Timestamp,
) -> (UpkeepDecision, Option<Timestamp>) {
    let own = schedule.next_after(now);
    match next {
        Some(at) if at <= now => (UpkeepDecision::Run, own),
        Some(at) if own.is_none_or(|own| at <= own) => (UpkeepDecision::NotYet, Some(at)),
        _ => (UpkeepDecision::NotYet, own),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpkeepDecision {
    Run,
    NotYet,
}

impl Pause {
    fn covers(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// `last_slot`, unless it is so far ahead that another clock must have made it.
fn trusted(last_slot: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    last_slot.filter(|last| *last <= forth(now, CLOCK_BACK_MAX))
}

fn forth(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(signed(by)).unwrap_or(Timestamp::MAX)
}

fn back(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(signed(by)).unwrap_or(Timestamp::MIN)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
