//! A run's end: the run, its job, what the job's history says now, and the mail about it, in one durable batch.

use jiff::{SignedDuration, Timestamp};

use crate::config::model::Site;
use crate::error::Trouble;
use crate::run::hold::{Accepted, HoldKind};
use crate::run::judgement::{RunVerdict, SIZES_MAX};
use crate::run::recovery::{self, RetryAfter};
use crate::run::usual::{Usual, Weighed};
use crate::run::{self, Event, RunState};
use crate::runner::execute::Ended;
use crate::store::ledger::Ledger;
use crate::store::record::{JobRecord, Retry, RunEvent, RunRecord, RunSummary, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::Outcome;

/// Runs kept in the store for each job.
const HISTORY_MAX: usize = 1000;

/// What was written.
pub(crate) struct Written {
    pub(crate) run: RunRecord,
    pub(crate) job: Option<JobRecord>,
    pub(crate) mails: usize,
}

/// Writes the end of a run.
///
/// # Errors
/// When the store cannot be written; nothing is then.
pub(crate) fn write(
    ledger: &Ledger,
    site: &Site,
    job: Option<&JobRecord>,
    ended: &Ended,
    stopping: bool,
    now: Timestamp,
) -> Result<Written, StoreError> {
    // What the daemon's own stop cancelled was interrupted, not cancelled by anybody.
    let outcome = if stopping && ended.outcome == Outcome::Cancelled { Outcome::Interrupted } else { ended.outcome };
    let run = close(&ended.run, outcome, now);
    let mut batch = Batch::default();
    batch.put_run(&run)?;
    ledger.close_log(run.id, &RunEvent { at: now, state: run.state, note: note(&run) }, &mut batch)?;
    let mut mails = 0;
    let job = job.map(|before| {
        let mut after = settle(before, &run, outcome, now);
        after.parents.extend(ended.parents.clone());
        if matches!(outcome, Outcome::Success | Outcome::Partial) {
            after.bare_since = None;
            after.accepted.retain(|each| !ended.judged.is_mended(each));
            // A run that kept nothing ends no hold.
            after.usual = usual(before, &run, ended, outcome);
            for destination in &ended.retained {
                after.usual.retained.insert(destination.clone(), ended.retention.clone());
                // What was accepted is done; the next cut is another.
                let done =
                    |each: &Accepted| each.kind == HoldKind::RetentionCut && each.subject == destination.as_str();
                after.accepted.retain(|each| !done(each));
            }
            after.holds = ended.judged.holds(&before.holds, &before.accepted, run.started.unwrap_or(run.queued));
        }
        crate::alert::track(before, &mut after, &run, outcome, now);
        (before, after)
    });
    if let Some((before, after)) = &job {
        batch.put_job(after)?;
        batch.put_mounts(&after.id, &after.usual.mounts)?;
        for mail in crate::alert::mails_for(site, before, after, &run, now) {
            batch.enqueue_mail(&mail)?;
            mails += 1;
        }
    }
    ledger.tidy_history(&run.job, HISTORY_MAX, &mut batch)?;
    ledger.commit(batch)?;
    Ok(Written { run, job: job.map(|(_, after)| after), mails })
}

fn close(run: &RunRecord, outcome: Outcome, now: Timestamp) -> RunRecord {
    let mut run = run.clone();
    // An outcome that the state does not allow is a bug of the runner: said, and the run still ends.
    run.state = run::next(run.state, ending(outcome)).unwrap_or_else(|error| {
        tracing::error!(run = %run.id, %error, "a run ended out of turn");
        RunState::Finished(outcome)
    });
    run.finished = Some(now);
    run
}

fn ending(outcome: Outcome) -> Event {
    match outcome {
        Outcome::Success => Event::Retained(RunVerdict::Success),
        Outcome::Partial => Event::Retained(RunVerdict::Partial),
        Outcome::Failed => Event::Failed,
        Outcome::Skipped => Event::Skipped,
        Outcome::Deferred => Event::Deferred,
        Outcome::Interrupted => Event::Interrupted,
        Outcome::Cancelled => Event::Cancelled,
    }
}

fn note(run: &RunRecord) -> Option<String> {
    run.trouble.as_ref().map(|trouble| trouble.message.chars().take(500).collect())
}

/// What the job's record says after the run; pure.
pub(crate) fn settle(before: &JobRecord, run: &RunRecord, outcome: Outcome, now: Timestamp) -> JobRecord {
    let mut after = before.clone();
    let started = run.started.unwrap_or(run.queued);
    let summary = RunSummary {
        id: run.id,
        outcome,
        finished: now,
        duration_ms: u64::try_from(now.duration_since(started).as_millis()).unwrap_or(0),
        bytes: run.bytes,
        trouble: run.trouble.clone(),
    };
    let attempt = match run.trigger {
        Trigger::Retry { attempt, .. } => attempt,
        _ => 0,
    };
    let kind = run.trouble.as_ref().and_then(Trouble::kind);
    let again = recovery::retry_after(outcome, kind, attempt).map(|RetryAfter { attempt, delay }| {
        let at = SignedDuration::try_from(delay).ok().and_then(|delay| now.checked_add(delay).ok()).unwrap_or(now);
        Retry { at, of: run.id, attempt, returned: None }
    });
    match outcome {
        Outcome::Success => {
            after.success_total += 1;
            after.failing = 0;
            after.last_success = Some(summary.clone());
            remember_size(&mut after, run.bytes);
        }
        Outcome::Partial => {
            after.failure_total += 1;
            // What was not whole never becomes the usual: only a destination that failed says nothing of the size.
            if run.warnings.is_empty() {
                remember_size(&mut after, run.bytes);
            }
        }
        Outcome::Failed => {
            after.failure_total += 1;
            after.failing += 1;
            // Who started it by hand sees how it ended, and can start it again.
            after.retry = again.filter(|_| run.trigger != Trigger::Manual);
        }
        Outcome::Interrupted | Outcome::Deferred => match again {
            Some(again) => after.retry = Some(again),
            // Its destinations are told of, once for all jobs, and who is away comes back.
            None if run.found_all_away() => after.failure_total += 1,
            // It could not run again and again: that is a failure, and somebody must be told.
            None => {
                after.failure_total += 1;
                after.failing += 1;
            }
        },
        Outcome::Skipped | Outcome::Cancelled => {}
    }
    // What came meanwhile did what the retry is for.
    let is_done = matches!(outcome, Outcome::Success | Outcome::Partial);
    if after.orphaned_since.is_some() || is_done {
        after.retry = None;
    }
    if let Some(retry) = &after.retry {
        after.next_run = Some(after.next_run.map_or(retry.at, |next| next.min(retry.at)));
    }
    if outcome != Outcome::Skipped {
        after.last_run = Some(summary);
    }
    after
}

/// Only a whole run becomes usual; a destination that failed says nothing of what was captured.
fn usual(before: &JobRecord, run: &RunRecord, ended: &Ended, outcome: Outcome) -> Usual {
    let mut usual = before.usual.clone();
    if let Some(recalled) = &ended.recalled {
        usual.recall(recalled);
    }
    if let Some(paths) = ended.load.as_ref().and_then(|weighed| weighed.paths.as_ref()) {
        usual.only(paths);
    }
    if outcome == Outcome::Success || run.warnings.is_empty() {
        usual.hold(None);
        ended.load.iter().for_each(|weighed| usual.remember(&weighed.load));
        if let Some(mounted) = &ended.mounted {
            usual.note(mounted);
        }
    } else if let Some(weighed) = &ended.load
        && !usual.is_no_worse(&weighed.load)
    {
        usual.hold(Some(&weighed.load));
    }
    if let Some(Weighed { load, oldest, .. }) = &ended.load {
        // What only a part of was kept is kept, too, and may be lost.
        usual.keep(load, run.id, *oldest);
    }
    usual
}

fn remember_size(job: &mut JobRecord, bytes: u64) {
    job.sizes.push(bytes);
    let excess = job.sizes.len().saturating_sub(SIZES_MAX);
    job.sizes.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use crate::status::sample;
    use crate::store::record::Shipment;

    /// When it is tried again after such an end, in seconds, and by which number.
    fn again(code: crate::error::Code, trigger: &Trigger) -> Option<(i64, u32)> {
        let now = sample::now();
        let before = sample::job("db");
        let trouble = Some(Trouble::new(code, "it went wrong"));
        let run = RunRecord { trouble, trigger: trigger.clone(), ..sample::run(1, "db", Outcome::Failed, 0) };
        let after = settle(&before, &run, Outcome::Failed, now);
        assert_eq!((after.failing, after.failure_total), (before.failing + 1, before.failure_total + 1));
        let retry = after.retry?;
        assert_eq!((after.next_run, retry.of), (Some(retry.at), run.id), "it comes before the next slot");
        Some((retry.at.duration_since(now).as_secs(), retry.attempt))
    }

    #[test]
    fn who_did_not_answer_is_asked_again_soon_and_nobody_else() {
        let slot = Trigger::Scheduled { slot: sample::now() };
        let retry = |attempt| Trigger::Retry { of: sample::run_id(7), attempt };
        assert_eq!(again(codes::UNREACHABLE, &slot), Some((60, 1)));
        assert_eq!(again(codes::ENGINE_UNREACHABLE, &retry(2)), Some((240, 3)));
        assert_eq!(again(codes::UNREACHABLE, &retry(3)), None, "three times are enough");
        assert_eq!(again(codes::UNREACHABLE, &Trigger::Manual), None, "who started it sees how it ended");
        assert_eq!(again(codes::UNAUTHORIZED, &slot), None);
        assert_eq!(again(codes::DEADLINE, &slot), None, "it would take all of its time again");
    }

    #[test]
    fn a_run_that_shipped_meanwhile_leaves_nothing_to_be_tried_again() {
        let now = sample::now();
        let retry = Retry { at: now, of: sample::run_id(7), attempt: 1, returned: None };
        let before = JobRecord { retry: Some(retry), ..sample::job("db") };
        let after = |outcome| settle(&before, &sample::run(1, "db", outcome, 0), outcome, now);
        assert_eq!(after(Outcome::Success).retry, None);
        assert_eq!(after(Outcome::Partial).retry, None);
        assert!(after(Outcome::Cancelled).retry.is_some());
    }

    #[test]
    fn a_job_whose_destinations_are_all_away_is_no_failure_of_its_own_however_long_that_lasts() {
        let now = sample::now();
        let before = sample::job("db");
        let last = Trigger::Retry { of: sample::run_id(7), attempt: recovery::DEFERRED_RETRIES_MAX };
        let run = RunRecord { trigger: last, shipments: Vec::new(), ..sample::run(1, "db", Outcome::Deferred, 0) };
        let away = |code| Shipment::none("nas".parse().unwrap(), Trouble::new(code, "away"));
        let failing = |shipments| {
            let run = RunRecord { shipments, ..run.clone() };
            let after = settle(&before, &run, Outcome::Deferred, now);
            assert_eq!((after.retry, after.failure_total), (None, before.failure_total + 1));
            after.failing - before.failing
        };
        assert_eq!(failing(vec![away(codes::UNREACHABLE), away(codes::DESTINATION_UNMOUNTED)]), 0);
        assert_eq!(failing(vec![away(codes::UNREACHABLE), away(codes::WRONG_PASSWORD)]), 1);
        assert_eq!(failing(Vec::new()), 1);
    }
}
