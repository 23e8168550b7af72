//! Which jobs are due by the clock, and that a run of each is queued once.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::Keeper;
use crate::config::model::OnMissed;
use crate::schedule::Schedule;
use crate::schedule::slots::{self, Decision, Pause, ScheduleStanding, Timing, WhenMissed};
use crate::store::record::{Retry, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::JobId;

/// A clock that is further than this from where it should be was turned.
const CLOCK_TURNED: SignedDuration = SignedDuration::from_secs(60);

impl Keeper {
    pub(super) fn fire_due(&mut self, now: Timestamp) {
        if self.state_trouble().is_some() {
            return;
        }
        // A turned clock may leave next times that are far away: then all are looked at, not only the due ones.
        let turned = self.clock_was_turned(now);
        if turned {
            self.overdue_looked = None;
            self.upkeep_due = self.upkeep_due.map(|due| due.min(now));
        }
        let due: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| job.orphaned_since.is_none() && (turned || job.next_run.is_none_or(|at| at <= now)))
            .map(|job| job.id.clone())
            .collect();
        for id in due {
            if let Err(error) = self.fire(&id, now) {
                tracing::error!(job = %id, error = %crate::error::chain(&error), "cannot write the slot; it is tried again");
            }
        }
    }

    /// Also at the first look: the clock may have been turned while no daemon ran.
    fn clock_was_turned(&mut self, now: Timestamp) -> bool {
        let Some((wall, steady)) = self.clock_seen.replace((now, Instant::now())) else { return true };
        let expected = wall.saturating_add(SignedDuration::try_from(steady.elapsed()).unwrap_or_default());
        let turned = expected.is_ok_and(|expected| now.duration_since(expected).abs() > CLOCK_TURNED);
        if turned {
            tracing::warn!("the clock was turned; all next times are looked at again");
        }
        turned
    }

    fn fire(&mut self, id: &JobId, now: Timestamp) -> Result<(), StoreError> {
        let config = self.config.borrow().clone();
        let Some(policy) = config.policies.get(&id.policy) else { return Ok(()) };
        let Some(schedule) = self.schedule(&policy.schedule.expression, &policy.schedule.timezone) else {
            return Ok(());
        };
        let busy = self.is_busy(id);
        let Some(job) = self.jobs.get(id) else { return Ok(()) };
        let timing = Timing {
            schedule: &schedule,
            jitter: crate::schedule::jitter(id, policy.jitter),
            on_missed: match policy.on_missed {
                OnMissed::Run => WhenMissed::RunOnce,
                OnMissed::Skip => WhenMissed::Skip,
            },
        };
        let standing = ScheduleStanding { next_slot: job.next_slot, next_run: job.next_run, last_slot: job.last_slot };
        let pause = job.suspended.as_ref().map(|each| Pause { since: each.since, until: each.until });
        let decided = slots::decide(&timing, &standing, pause, now);
        let retry = job.retry.clone();
        let trigger = match decided.decision {
            Decision::NotYet { .. } | Decision::Never => return Ok(()),
            // Never two runs of one job: the slot waits for the run in progress to end.
            Decision::Fire { .. } | Decision::Retry if busy => return Ok(()),
            Decision::Fire { slot, missed: true } => Some(Trigger::Missed { slot }),
            Decision::Fire { slot, missed: false } => Some(Trigger::Scheduled { slot }),
            Decision::Retry => retry.map(Retry::trigger),
            Decision::Skip { .. } | Decision::Reset => None,
        };
        let mut after = job.clone();
        after.next_slot = decided.standing.next_slot;
        after.next_run = decided.standing.next_run;
        after.last_slot = decided.standing.last_slot;
        after.retry = None;
        if after.suspended.as_ref().is_some_and(|each| each.until <= now) {
            after.suspended = None;
        }
        let mut batch = Batch::default();
        batch.put_job(&after)?;
        let run = match trigger {
            Some(trigger) => Some(self.queue_run(id, trigger, now, &mut batch)?),
            None => None,
        };
        self.world.ledger.commit(batch)?;
        self.jobs.insert(id.clone(), after);
        self.queue.extend(run);
        self.changed.notify_one();
        Ok(())
    }

    fn schedule(&mut self, expression: &str, timezone: &str) -> Option<Schedule> {
        let key = (expression.to_owned(), timezone.to_owned());
        if let Some(known) = self.schedules.get(&key) {
            return Some(known.clone());
        }
        // Checked when the config was loaded; an older store with a stricter parser is the only way to fail here.
        let schedule = Schedule::parse(expression, timezone)
            .inspect_err(
                |error| tracing::error!(expression, timezone, %error, "a stored schedule is not valid any more"),
            )
            .ok()?;
        self.schedules.insert(key, schedule.clone());
        Some(schedule)
    }
}
