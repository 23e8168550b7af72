//! What becomes of a run that was cut off, and when a job is tried again: pure decisions.
//!
//! A run that the store shows unfinished when a daemon starts cannot be going on: the store has one owner. Nothing is
//! continued in the middle. The run ends as interrupted, what it left is cleaned by its id, and the job is tried again
//! soon, a bounded number of times, so that a run that takes the daemon down with it does not do so for ever.

use std::time::Duration;

use super::{Event, IllegalEvent, RunState, next};
use crate::error::Kind;
use crate::types::Outcome;

/// How often a job is tried again after runs that were interrupted, until its next slot.
pub const INTERRUPTED_RETRIES_MAX: u32 = 3;

/// How often a job is tried again after runs that failed for what passes by itself, until its next slot.
pub const FAILED_RETRIES_MAX: u32 = 3;

/// How often a job is tried again after runs that were deferred, until its next slot.
pub const DEFERRED_RETRIES_MAX: u32 = 12;

/// The first delay of a retry; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_mins(1);

/// The longest delay of a retry.
const RETRY_LONGEST: Duration = Duration::from_hours(1);

/// What to do with a run that the store has when a daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It is finished; nothing is to be done.
    Nothing,
    /// It ends here: as interrupted, or as its log says.
    Finish {
        /// The step that it was in; the effects of this step are in doubt, those before it are done.
        during: RunState,
        /// What the run becomes.
        state: RunState,
        /// None: tried often enough, the next slot comes anyway.
        retry: Option<RetryAfter>,
    },
}

/// Another try that a job gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Counts from 1.
    pub attempt: u32,
    pub delay: Duration,
}

/// Decides what becomes of a run in `state` whose log shows the states `log` (oldest first); `attempt` is that of its
/// `Retry` trigger, 0 for a run that is no retry.
///
/// The run's state and the newest of its log are written in one batch. Where they differ all the same (a store that was
/// restored or mended), the further one counts: more may have been done, and cleaning goes by the run's id in any case.
#[must_use]
pub fn recover(state: RunState, log: &[RunState], attempt: u32) -> Recovery {
    let during = log.iter().copied().fold(state, further);
    match next(during, Event::Interrupted) {
        Ok(state) => Recovery::Finish { during, state, retry: retry_after(Outcome::Interrupted, None, attempt) },
        Err(IllegalEvent { .. }) if state.is_finished() => Recovery::Nothing,
        // The log says how it ended, the record was left behind: the log's last word holds.
        Err(IllegalEvent { .. }) => Recovery::Finish { during: state, state: during, retry: None },
    }
}

/// When a job is tried again after a run that ended with `outcome`, for a trouble of this kind where there was one;
/// `attempt` is that of the run's `Retry` trigger, 0 for a run that is no retry.
///
/// Delays double from one minute to one hour.
#[must_use]
pub fn retry_after(outcome: Outcome, kind: Option<Kind>, attempt: u32) -> Option<RetryAfter> {
    let attempts_max = match outcome {
        Outcome::Interrupted => INTERRUPTED_RETRIES_MAX,
        Outcome::Deferred => DEFERRED_RETRIES_MAX,
        Outcome::Failed if kind.is_some_and(Kind::passes) => FAILED_RETRIES_MAX,
        Outcome::Success | Outcome::Partial | Outcome::Failed | Outcome::Skipped | Outcome::Cancelled => return None,
    };
    let doubled = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(attempt));
    (attempt < attempts_max).then(|| RetryAfter { attempt: attempt + 1, delay: doubled.min(RETRY_LONGEST) })
}

/// The one of two states that is further in a run's life; of two that are finished, the first.
fn further(a: RunState, b: RunState) -> RunState {
    if rank(b) > rank(a) { b } else { a }
}

fn rank(state: RunState) -> u8 {
    match state {
        RunState::Queued => 0,
        RunState::Capturing => 1,
        RunState::Validating => 2,
        RunState::Publishing => 3,
        RunState::Shipping => 4,
        RunState::Retaining => 5,
        RunState::Finished(_) => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTED: RunState = RunState::Finished(Outcome::Interrupted);

    #[test]
    fn an_unfinished_run_ends_as_interrupted_and_is_tried_again_in_a_minute() {
        let log = [RunState::Queued, RunState::Capturing];
        let retry = Some(RetryAfter { attempt: 1, delay: Duration::from_mins(1) });
        let expected = Recovery::Finish { during: RunState::Capturing, state: INTERRUPTED, retry };
        assert_eq!(recover(RunState::Capturing, &log, 0), expected);
        assert_eq!(recover(RunState::Queued, &log, 0), expected, "the log went further than the record");
        assert_eq!(recover(RunState::Capturing, &[], 0), expected, "the record went further than the log");
    }

    #[test]
    fn a_job_that_is_interrupted_again_and_again_waits_for_its_next_slot() {
        let retry = |attempt| match recover(RunState::Shipping, &[], attempt) {
            Recovery::Finish { retry, .. } => retry.map(|retry| (retry.attempt, retry.delay.as_secs())),
            Recovery::Nothing => panic!("it is not finished"),
        };
        assert_eq!([0, 1, 2, 3, 99].map(retry), [Some((1, 60)), Some((2, 120)), Some((3, 240)), None, None]);
    }

    #[test]
    fn a_finished_run_is_left_alone_whatever_its_log_says() {
        for outcome in [Outcome::Success, Outcome::Failed, Outcome::Interrupted] {
            let state = RunState::Finished(outcome);
            assert_eq!(recover(state, &[RunState::Queued, RunState::Shipping], 0), Recovery::Nothing);
            assert_eq!(recover(state, &[RunState::Queued, state], 0), Recovery::Nothing);
        }
    }

    #[test]
    fn a_log_that_says_how_the_run_ended_is_believed() {
        let ended = RunState::Finished(Outcome::Success);
        let expected = Recovery::Finish { during: RunState::Retaining, state: ended, retry: None };
        assert_eq!(recover(RunState::Retaining, &[RunState::Queued, ended], 0), expected);
    }

    #[test]
    fn a_deferred_run_is_tried_at_most_hourly_and_a_failed_one_only_for_what_passes() {
        assert_eq!(retry_after(Outcome::Deferred, Some(Kind::Busy), 0).map(|retry| retry.delay.as_secs()), Some(60));
        assert_eq!(
            retry_after(Outcome::Deferred, Some(Kind::Busy), 11).map(|retry| (retry.attempt, retry.delay.as_secs())),
            Some((12, 3600))
        );
        assert_eq!(retry_after(Outcome::Deferred, Some(Kind::Busy), 12), None);
        assert_eq!(retry_after(Outcome::Deferred, Some(Kind::Busy), u32::MAX), None);
        for outcome in [Outcome::Success, Outcome::Partial, Outcome::Failed, Outcome::Skipped, Outcome::Cancelled] {
            assert_eq!(retry_after(outcome, None, 0), None);
            assert_eq!(retry_after(outcome, Some(Kind::Unauthorized), 0), None);
            let passes = retry_after(outcome, Some(Kind::Unreachable), 0).map(|retry| retry.delay.as_secs());
            assert_eq!(passes, (outcome == Outcome::Failed).then_some(60));
        }
        assert_eq!(retry_after(Outcome::Failed, Some(Kind::Unreachable), FAILED_RETRIES_MAX), None);
    }
}
