//! When something is said: pure, edge-triggered.

use std::time::Duration;

use jiff::Timestamp;

use crate::run::RunState;
use crate::run::hold::{self, Hold};
use crate::store::record::{JobRecord, RunRecord};
use crate::types::Outcome;

/// What a run's end is worth saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first failure since the last success.
    Failed,
    /// The first run since the last success that kept only a part.
    Incomplete,
    /// A success after something was said.
    Recovered,
}

/// Notes in `after` what [`of_run`] and [`overdue`] need to know later.
///
/// `failing` belongs to the caller, who knows how often an interruption may be repeated.
pub(super) fn track(before: &JobRecord, after: &mut JobRecord, run: &RunRecord, outcome: Outcome, now: Timestamp) {
    match outcome {
        Outcome::Success => {
            after.incomplete = 0;
            after.troubled_since = None;
            after.overdue_told = None;
        }
        Outcome::Partial if is_told_for_all(after, run) => {
            after.troubled_since = before.troubled_since.or(Some(now));
        }
        Outcome::Partial => {
            after.incomplete = before.incomplete.saturating_add(1);
            after.troubled_since = before.troubled_since.or(Some(now));
        }
        Outcome::Failed | Outcome::Deferred | Outcome::Interrupted => {
            after.troubled_since = before.troubled_since.or(Some(now));
        }
        // On purpose, so no trouble.
        Outcome::Skipped | Outcome::Cancelled => {}
    }
}

/// What the end of `run` is worth saying, if anything.
#[must_use]
pub fn of_run(before: &JobRecord, after: &JobRecord, run: &RunRecord) -> Option<Edge> {
    let RunState::Finished(outcome) = run.state else { return None };
    if before.failing == 0 && after.failing > 0 {
        return Some(Edge::Failed);
    }
    match outcome {
        // While runs fail, a partial one is no news: it is better than nothing and worse than a recovery.
        Outcome::Partial if before.incomplete == 0 && before.failing == 0 && !is_told_for_all(after, run) => {
            Some(Edge::Incomplete)
        }
        Outcome::Success if before.failing > 0 || before.incomplete > 0 || before.overdue_told.is_some() => {
            Some(Edge::Recovered)
        }
        _ => None,
    }
}

/// Whether all that keeps the job from being well is told once for all jobs.
fn is_told_for_all(job: &JobRecord, run: &RunRecord) -> bool {
    let held_for_all = job.holds.iter().all(|hold| hold.kind.is_told_for_all());
    held_for_all && (!job.holds.is_empty() || run.lacks_only_who_is_away())
}

/// Holds that began with a run and have their own mail.
pub(super) fn begun<'a>(before: &JobRecord, after: &'a JobRecord) -> Vec<&'a Hold> {
    own(hold::beyond(&after.holds, &before.holds))
}

/// Holds that ended with a run and have their own mail.
pub(super) fn ended<'a>(before: &'a JobRecord, after: &JobRecord) -> Vec<&'a Hold> {
    own(hold::beyond(&before.holds, &after.holds))
}

fn own(mut holds: Vec<&Hold>) -> Vec<&Hold> {
    holds.retain(|hold| !hold.kind.is_told_as_incomplete() && !hold.kind.is_told_for_all());
    holds
}

/// Nobody's worry: a job that left the config or is suspended.
pub(super) fn is_resting(job: &JobRecord, now: Timestamp) -> bool {
    job.orphaned_since.is_some() || job.suspended.as_ref().is_some_and(|suspension| suspension.until > now)
}

/// How old the newest success is when that is above `max_age` and nobody was told yet.
///
/// A job that never had a success counts from its first run that came to less. Jobs that left the config or are
/// suspended are nobody's worry.
#[must_use]
pub fn overdue(job: &JobRecord, max_age: Duration, now: Timestamp) -> Option<Duration> {
    if is_resting(job, now) || job.overdue_told.is_some() {
        return None;
    }
    let since = job.last_success.as_ref().map(|run| run.finished).or(job.troubled_since)?;
    let age = Duration::try_from(now.duration_since(since)).ok()?;
    (age > max_age).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{job, run};
    use super::*;
    use crate::error::{Trouble, codes};
    use crate::store::record::Shipment;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// What is said over a series of outcomes, as the daemon keeps its records.
    fn said(outcomes: &[Outcome]) -> Vec<Option<Edge>> {
        let mut record = job();
        let mut said = Vec::new();
        for (index, outcome) in outcomes.iter().enumerate() {
            let mut after = record.clone();
            match outcome {
                Outcome::Success => after.failing = 0,
                Outcome::Failed => after.failing += 1,
                _ => {}
            }
            track(&record, &mut after, &run(*outcome), *outcome, at(i64::try_from(index).unwrap()));
            said.push(of_run(&record, &after, &run(*outcome)));
            record = after;
        }
        said
    }

    #[test]
    fn the_first_failure_and_the_recovery_say_something_once() {
        use Outcome::{Failed, Success};
        assert_eq!(
            said(&[Success, Failed, Failed, Failed, Success, Success, Failed]),
            [None, Some(Edge::Failed), None, None, Some(Edge::Recovered), None, Some(Edge::Failed)]
        );
    }

    #[test]
    fn the_first_partial_run_warns_once_even_with_other_outcomes_between() {
        use Outcome::{Deferred, Failed, Partial, Success};
        assert_eq!(
            said(&[Partial, Deferred, Partial, Success, Partial]),
            [Some(Edge::Incomplete), None, None, Some(Edge::Recovered), Some(Edge::Incomplete)]
        );
        assert_eq!(
            said(&[Partial, Failed, Partial, Failed, Success]),
            [Some(Edge::Incomplete), Some(Edge::Failed), None, None, Some(Edge::Recovered)]
        );
    }

    #[test]
    fn a_run_that_lacks_only_destinations_that_are_away_is_told_by_them() {
        let shipment = |name: String, code: Option<crate::error::Code>| Shipment {
            destination: name.parse().unwrap(),
            outcome: if code.is_some() { Outcome::Failed } else { Outcome::Success },
            snapshot: None,
            bytes_added: 0,
            files: 0,
            bytes: 0,
            duration_ms: 0,
            trouble: code.map(|code| Trouble::new(code, "away")),
            forgotten: None,
        };
        let said = |codes: &[Option<crate::error::Code>]| {
            let mut ended = run(Outcome::Partial);
            ended.warnings.clear();
            ended.shipments = codes.iter().enumerate().map(|(n, code)| shipment(format!("d{n}"), *code)).collect();
            let before = job();
            let mut after = before.clone();
            track(&before, &mut after, &ended, Outcome::Partial, at(0));
            assert!(after.troubled_since.is_some(), "its age is watched all the same");
            of_run(&before, &after, &ended)
        };
        assert_eq!(said(&[None, Some(codes::UNREACHABLE)]), None);
        assert_eq!(said(&[None, Some(codes::DESTINATION_UNMOUNTED), Some(codes::SILENT)]), None);
        for other in [codes::REPOSITORY_MISSING, codes::WRONG_PASSWORD, codes::DISK_FULL, codes::UNAUTHORIZED] {
            assert_eq!(said(&[None, Some(codes::UNREACHABLE), Some(other)]), Some(Edge::Incomplete), "{other}");
        }
    }

    #[test]
    fn what_was_done_on_purpose_or_is_tried_again_says_nothing() {
        use Outcome::{Cancelled, Deferred, Interrupted, Skipped, Success};
        assert_eq!(said(&[Cancelled, Skipped, Deferred, Interrupted, Success]), [None; 5]);
    }

    #[test]
    fn an_old_success_is_said_once_until_there_is_a_newer_one() {
        let hour = Duration::from_hours(1);
        let mut record = job();
        assert_eq!(overdue(&record, hour, at(0)), None, "nothing is known of a job that never ran");
        let mut after = record.clone();
        track(&record, &mut after, &run(Outcome::Deferred), Outcome::Deferred, at(0));
        record = after;
        assert_eq!(overdue(&record, hour, at(3600)), None);
        assert_eq!(overdue(&record, hour, at(3601)), Some(Duration::from_secs(3601)), "deferred for too long");
        record.overdue_told = Some(at(3601));
        assert_eq!(overdue(&record, hour, at(99_999)), None);
        let mut after = record.clone();
        track(&record, &mut after, &run(Outcome::Success), Outcome::Success, at(100_000));
        assert_eq!(of_run(&record, &after, &run(Outcome::Success)), Some(Edge::Recovered));
        assert_eq!(after.overdue_told, None);
        after.troubled_since = Some(at(0));
        assert!(overdue(&after, hour, at(9_999_999)).is_some());
        after.orphaned_since = Some(at(0));
        assert_eq!(overdue(&after, hour, at(9_999_999)), None);
    }
}
