//! Holds that end because somebody accepts them, by RPC or in Git, and the weekly reminder of those that do not.

use jiff::Timestamp;

use crate::config::model::Config;
use crate::daemon::keeper::Keeper;
use crate::daemon::undo;
use crate::error::Trouble;
use crate::run::hold::{self, Finding, Hold, HoldKind, Judged};
use crate::run::holdings::{Holdings, mark};
use crate::runner::control::Acceptance;
use crate::runner::{clock, holdings, lost};
use crate::store::damage::Damage;
use crate::store::record::JobRecord;
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name};

impl Keeper {
    /// Notes the rules that a job's first run is made by, so that a later cut of them is seen even if no run before it
    /// came as far as its retention.
    pub(super) fn note_rules(&mut self, config: &Config, id: &JobId) {
        let (Some(job), Some(policy)) = (self.jobs.get(id), config.policies.get(&id.policy)) else { return };
        if job.last_run.is_some() || job.usual.began.is_some() || !job.usual.retained.is_empty() {
            return;
        }
        let mut job = job.clone();
        job.usual.began = Some(policy.retention.clone());
        let mut batch = Batch::default();
        match batch.put_job(&job).and_then(|()| self.world.ledger.commit(batch)) {
            Ok(()) => drop(self.jobs.insert(id.clone(), job)),
            Err(error) => tracing::error!(job = %id, error = %crate::error::chain(&error), "cannot note a job's rules"),
        }
    }

    /// Ends the holds of `target` that are shown with `value`.
    pub(super) fn accept(&mut self, target: &Name, value: &str) -> Result<Vec<Acceptance>, Trouble> {
        // A clock that was set meanwhile is not what is shown.
        self.look_at_clock();
        let now = self.world.clock.now();
        let value = &self.fitting(target, value)?;
        let in_git = self.config.borrow().targets.get(target).map(|each| each.accept.clone()).unwrap_or_default();
        let changed: Vec<(JobRecord, Vec<Hold>)> = self
            .jobs
            .values()
            .filter(|job| job.id.target == *target)
            .filter_map(|job| {
                accepted(job, &|hold| hold.is_accepted_by(&|shown| hold::is_value(shown, value)), &in_git, now)
            })
            .collect();
        let of_target = |job: &JobId| (job.target == *target).then(|| vec![value.clone()]);
        if changed.is_empty()
            && let Some(told) = self.accept_loss_without_jobs(value, now).map_err(|error| error.trouble())?
        {
            return Ok(vec![told]);
        }
        if changed.is_empty()
            && let Some(told) = undo::accept(&self.world, target, value)?
        {
            self.changed.notify_one();
            return Ok(vec![told]);
        }
        let mut told = self.accept_older_losses(of_target).map_err(|error| error.trouble())?;
        if changed.is_empty() && told.is_empty() {
            return Err(self.not_held(target, value));
        }
        told.extend(changed.iter().flat_map(|(job, holds)| holds.iter().map(|hold| Acceptance::of(&job.id, hold))));
        if !changed.is_empty() {
            self.write_accepted(changed, now).map_err(|error| error.trouble())?;
        }
        Ok(told)
    }

    /// Ends the holds whose value the config accepts.
    pub(super) fn accept_from_config(&mut self) {
        let now = self.world.clock.now();
        let config = self.config.borrow().clone();
        let changed: Vec<(JobRecord, Vec<Hold>)> = self
            .jobs
            .values()
            .filter_map(|job| {
                let values = &config.targets.get(&job.id.target)?.accept;
                // What is in Git stays there: it accepts what fits one finding only.
                // A record of before has no list of what is spent.
                let spent = || job.spent.iter().chain(&job.accepted);
                let accepts = |hold: &Hold, value: &str| {
                    let is_meant = |shown: &str| !mark::fits_many(shown) && hold::is_value(shown, value);
                    hold.is_accepted_by(&is_meant) && !hold::is_spent(spent(), hold, value)
                };
                accepted(job, &|hold| values.iter().any(|value| accepts(hold, value)), values, now)
            })
            .collect();
        let values = |job: &JobId| {
            let values = config.targets.get(&job.target)?.accept.iter();
            Some(values.filter(|value| !mark::fits_many(value)).cloned().collect())
        };
        if let Err(error) = self.accept_older_losses(values) {
            tracing::error!(error = %crate::error::chain(&error), "cannot note what the config accepts; it is tried again");
        }
        if changed.is_empty() {
            return;
        }
        if let Err(error) = self.write_accepted(changed, now) {
            tracing::error!(error = %crate::error::chain(&error), "cannot note what the config accepts; it is tried again");
        }
    }

    /// Reminds of holds once a week.
    pub(super) fn remind(&mut self, config: &Config, now: Timestamp) {
        let due: Vec<_> = self.jobs.values().filter_map(|job| crate::alert::reminder(&config.site, job, now)).collect();
        for (job, mail) in due {
            let write = || -> Result<(), StoreError> {
                let mut batch = Batch::default();
                batch.put_job(&job)?;
                if let Some(mail) = &mail {
                    batch.enqueue_mail(mail)?;
                }
                self.world.ledger.commit(batch)
            };
            match write() {
                Ok(()) => {
                    tracing::warn!(job = %job.id, holds = job.holds.len(), "the job is still held");
                    self.jobs.insert(job.id.clone(), job);
                    self.mail.notify_one();
                }
                Err(error) => tracing::error!(error = %crate::error::chain(&error), "cannot note a reminder"),
            }
        }
    }

    /// Ends the loss of older snapshots, which holds no job, where the `values` for its job have the one that is shown.
    fn accept_older_losses(
        &self,
        values: impl Fn(&JobId) -> Option<Vec<String>>,
    ) -> Result<Vec<Acceptance>, StoreError> {
        let mut told = Vec::new();
        for (destination, seen) in self.world.ledger.all_holdings()? {
            for missing in seen.missing.iter().filter(|missing| !missing.newest) {
                let shown = missing.value();
                if !values(&missing.job).is_some_and(|values| values.iter().any(|value| hold::is_value(&shown, value)))
                {
                    continue;
                }
                holdings::accept_missing(&self.world, &destination, &missing.job)?;
                told.push(Acceptance {
                    policy: missing.job.policy.clone(),
                    kind: HoldKind::Vanished,
                    since: missing.since,
                    reason: holdings::vanished(&destination, missing).message,
                });
            }
        }
        if !told.is_empty() {
            self.changed.notify_one();
        }
        Ok(told)
    }

    /// Accepts a loss of the state that no job shows: the config has none, or none of `target` yet.
    fn accept_loss_without_jobs(&mut self, value: &str, now: Timestamp) -> Result<Option<Acceptance>, StoreError> {
        let Some(damage) = self.world.ledger.loss()?.filter(|damage| hold::is_value(&damage.value(), value)) else {
            return Ok(None);
        };
        lost::accept(&self.world)?;
        holdings::older::accept(&self.world)?;
        tracing::info!(value, "the loss of the state was accepted");
        self.take_holdings();
        self.changed.notify_one();
        let Ok(policy) = Name::parse("state") else { return Ok(None) };
        let since = damage.at.min(now);
        Ok(Some(Acceptance { policy, kind: HoldKind::LostState, since, reason: damage.sentence() }))
    }

    /// Says once that the state was lost, wherever that showed.
    pub(super) fn tell_loss(&mut self, loss: Option<Damage>) {
        let Some(damage) = loss else {
            self.readiness.loss_is(None);
            return;
        };
        self.readiness.loss_is(Some(damage.sentence()));
        let site = self.config.borrow().site.clone();
        let target = self.jobs.keys().next().map_or("state", |job| job.target.as_str());
        let Some(mail) =
            crate::alert::mail_for_loss(&site, &damage, target, self.world.clock.now()).filter(|_| !damage.told)
        else {
            return;
        };
        let mut batch = Batch::default();
        let written = batch
            .enqueue_mail(&mail)
            .and_then(|_| batch.put_loss(&Damage { told: true, ..damage }))
            .and_then(|()| self.world.ledger.commit(batch));
        match written {
            Ok(()) => self.mail.notify_one(),
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "cannot write the mail about the lost state");
            }
        }
    }

    /// Holds jobs whose newest snapshot was found to be gone, or to be unknown to the state, while no run of theirs was
    /// under way, and ends such holds.
    ///
    /// Writes no mail: whoever looked is told, and a scheduled check tells by its own.
    pub(super) fn take_holdings(&mut self) {
        let now = self.world.clock.now();
        let seen = match self.world.ledger.all_holdings() {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "cannot read what the repositories hold");
                return;
            }
        };
        let loss = match self.world.ledger.loss() {
            Ok(loss) => loss,
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "cannot read whether the state was lost");
                return;
            }
        };
        let config = self.config.borrow().clone();
        let is_running = |job: &JobId| self.running.values().any(|each| each.job == *job);
        let mut changed = Vec::new();
        for job in self.jobs.values().filter(|job| job.orphaned_since.is_none() && !is_running(&job.id)) {
            let mut judged = Judged::default();
            // As a run does: what its policy does not name any more says nothing of it.
            let policy = config.policies.get(&job.id.policy);
            let is_its = |name: &Name| {
                policy.is_none_or(|policy| policy.destinations.contains(name))
                    || config.copies_of(&job.id).any(|copy| copy == name)
            };
            let seen = || seen.iter().filter(|(name, _)| is_its(name));
            judged.add(HoldKind::Vanished, seen().filter_map(|(name, seen)| vanished(name, seen, &job.id)));
            judged.add(HoldKind::OlderState, seen().filter_map(|(name, seen)| older(name, seen, &job.id)));
            judged.add(HoldKind::Altered, seen().filter_map(|(name, seen)| altered(name, seen, &job.id)));
            let found = loss.as_ref().map(|damage| lost::finding(damage, &job.id.target));
            judged.add(HoldKind::LostState, found);
            let holds = judged.holds(&job.holds, &job.accepted, now);
            if holds != job.holds {
                changed.push(JobRecord { holds, ..job.clone() });
            }
        }
        self.write_holds(changed, "what is known of the repositories and the state changed");
        self.tell_loss(loss);
    }

    /// Ends the holds for a clock that jumped as soon as it is right, and tells of it as it is now.
    ///
    /// It is one clock: what is said of it for one job is said for all. Only a run begins such a hold.
    pub(super) fn look_at_clock(&mut self) {
        let is_held = |job: &JobRecord| job.holds.iter().any(|hold| hold.kind == HoldKind::JumpedClock);
        if !self.jobs.values().any(is_held) || self.state_trouble().is_some() {
            return;
        }
        let turn = match clock::look(&self.world, None, None) {
            Ok(turn) => turn,
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "cannot look at the clock");
                return;
            }
        };
        let now = self.world.clock.now();
        let mut changed = Vec::new();
        for job in self.jobs.values().filter(|job| is_held(job)) {
            let mut judged = Judged::default();
            judged.add(HoldKind::JumpedClock, clock::finding(&turn, &job.id.target));
            let holds = judged.holds(&job.holds, &[], now);
            if holds != job.holds {
                changed.push(JobRecord { holds, ..job.clone() });
            }
        }
        self.write_holds(changed, "what is told of the clock changed");
    }

    /// Writes down jobs whose holds changed while no run of theirs ended.
    fn write_holds(&mut self, changed: Vec<JobRecord>, why: &str) {
        for job in changed {
            let mut batch = Batch::default();
            match batch.put_job(&job).and_then(|()| self.world.ledger.commit(batch)) {
                Ok(()) => {
                    tracing::warn!(job = %job.id, holds = job.holds.len(), "{why}");
                    self.jobs.insert(job.id.clone(), job);
                    self.changed.notify_one();
                }
                Err(error) => tracing::error!(error = %crate::error::chain(&error), "cannot note a job's holds"),
            }
        }
    }

    fn write_accepted(&mut self, mut changed: Vec<(JobRecord, Vec<Hold>)>, now: Timestamp) -> Result<(), StoreError> {
        for (job, holds) in &mut changed {
            // That the loss is known is no backup.
            let lost = holds.iter().any(|hold| hold.kind == HoldKind::Vanished);
            if lost && holdings::is_bare(&self.world.ledger, &job.id)? {
                job.bare_since = Some(now);
            }
        }
        let site = self.config.borrow().site.clone();
        let mut batch = Batch::default();
        for (job, holds) in &changed {
            batch.put_job(job)?;
            batch.put_peaks(&job.id, &job.usual.peaks)?;
            batch.put_mounts(&job.id, &job.usual.mounts)?;
            if let Some(mail) = crate::alert::mail_for_accepted(&site, job, holds, now) {
                batch.enqueue_mail(&mail)?;
            }
        }
        self.world.ledger.commit(batch)?;
        if changed.iter().flat_map(|(_, holds)| holds).any(|hold| hold.kind == HoldKind::JumpedClock) {
            clock::accept(&self.world)?;
        }
        for (job, holds) in changed {
            for hold in holds {
                if let Ok(destination) = Name::parse(&hold.subject) {
                    match hold.kind {
                        HoldKind::Vanished => holdings::accept_missing(&self.world, &destination, &job.id)?,
                        HoldKind::OlderState => holdings::older::accept(&self.world)?,
                        HoldKind::Altered => holdings::altered::accept(&self.world, &destination, &job.id)?,
                        _ => {}
                    }
                }
                if hold.kind == HoldKind::LostState {
                    lost::accept(&self.world)?;
                    // It is one state: what it lost may be what the repositories have beyond it.
                    holdings::older::accept(&self.world)?;
                }
                tracing::info!(job = %job.id, kind = hold.kind.as_str(), value = hold.value, "a hold was accepted");
            }
            self.jobs.insert(job.id.clone(), job);
        }
        self.look_at_clock();
        self.take_holdings();
        self.mail.notify_one();
        self.changed.notify_one();
        Ok(())
    }
}

fn vanished(name: &Name, seen: &Holdings, job: &JobId) -> Option<Finding> {
    let missing = seen.missing.iter().find(|missing| missing.job == *job && missing.newest)?;
    Some(holdings::lost(name, missing))
}

fn older(name: &Name, seen: &Holdings, job: &JobId) -> Option<Finding> {
    let newer = seen.newer.iter().find(|newer| newer.job == *job)?;
    Some(holdings::older::held(name, newer))
}

fn altered(name: &Name, seen: &Holdings, job: &JobId) -> Option<Finding> {
    let altered = seen.altered.iter().find(|altered| altered.job == *job)?;
    Some(holdings::altered::held(name, altered))
}

/// The job without the holds that are `meant`, and these; none when there is none.
fn accepted(
    job: &JobRecord,
    meant: &dyn Fn(&Hold) -> bool,
    in_git: &[String],
    now: Timestamp,
) -> Option<(JobRecord, Vec<Hold>)> {
    let (gone, left): (Vec<Hold>, Vec<Hold>) = job.holds.iter().cloned().partition(meant);
    if gone.is_empty() {
        return None;
    }
    let mut after = job.clone();
    after.holds = left;
    for hold in &gone {
        hold::remember(&mut after.accepted, hold, now);
        hold::spend(&mut after.spent, hold, in_git, now);
        after.take_as_usual(hold);
    }
    if after.holds.is_empty() && after.failing == 0 {
        // It was said that this ended: the next success is no further news.
        after.incomplete = 0;
    }
    Some((after, gone))
}
