//! What others ask of the keeper, answered one after the other.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::config::model::Config;
use crate::daemon::keeper::Keeper;
use crate::daemon::upkeep::Wanted;
use crate::daemon::{copies, forget, restore, rewind, upkeep};
use crate::error::{Trouble, codes};
use crate::runner::control::{DestinationAction, Request};
use crate::runner::execute::Ended;
use crate::store::Batch;
use crate::store::record::{JobRecord, Suspension, Trigger};
use crate::types::{JobId, Name, Outcome, RunId};

/// How many runs may wait in the queue.
const QUEUE_MAX: usize = 10_000;

/// How far ahead a target may be suspended.
const SUSPEND_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Keeper {
    pub(super) fn handle(&mut self, request: Request, cancel: &CancellationToken) {
        let Some(request) = self.refuse_without_state(request) else { return };
        match request {
            Request::StartRun { target, policy, reply } => {
                let _ = reply.send(self.start_now(&target, policy.as_ref()));
            }
            Request::CancelRun { run, reply } => {
                let _ = reply.send(self.cancel_run(run));
            }
            Request::Suspend { target, until, reason, reply } => {
                let _ = reply.send(self.suspend(&target, Some((until, reason))));
            }
            Request::Resume { target, reply } => {
                let _ = reply.send(self.suspend(&target, None));
            }
            Request::Accept { target, value, reply } => {
                let _ = reply.send(self.accept(&target, &value));
            }
            Request::Reconcile { reply, .. } => {
                let _ = reply.send(Ok(self.look(None)));
            }
            Request::Confirm { revision, reply } => {
                let _ = reply.send(Ok(self.look(Some(&revision))));
            }
            Request::Plan { revision, config, reply } => {
                let now = self.world.clock.now();
                let world = self.world.clone();
                let (jobs, reconciler) = (&self.jobs, &mut self.reconciler);
                let answer = tokio::task::block_in_place(|| {
                    reconciler.plan_only(&world, jobs, revision.as_ref(), config.as_deref(), now)
                });
                let _ = reply.send(answer);
            }
            Request::Restore { restore: order, reply } => {
                let config = self.config.borrow().clone();
                let running = self.running.values().map(|each| each.job.target.clone()).collect();
                let started = restore::start(&self.world, &config, order, &running, &mut self.upkeep, cancel);
                let _ = reply.send(started);
            }
            Request::Destination { destination, action: DestinationAction::Forget, reply, .. } => {
                let config = self.config.borrow().clone();
                let _ = reply.send(forget::by_hand(&self.world, &config, &destination, &mut self.upkeep, cancel));
            }
            Request::Destination { destination, action: DestinationAction::Gather, reply, .. } => {
                let _ = reply.send(self.gather_by_hand(&destination, cancel));
            }
            Request::Destination { destination, action: DestinationAction::Copy, reply, .. } => {
                let config = self.config.borrow().clone();
                let _ = reply.send(copies::by_hand(&self.world, &config, &destination, &mut self.upkeep, cancel));
            }
            Request::Destination { destination, action, lock, reply } => {
                let config = self.config.borrow().clone();
                let _ = reply.send(upkeep::start_action(
                    &self.world,
                    &config,
                    &destination,
                    Wanted { action, lock },
                    &mut self.upkeep,
                    cancel,
                ));
            }
            Request::Rewind { rewind: order, reply } => {
                let config = self.config.borrow().clone();
                let _ = reply.send(rewind::start(&self.world, &config, order, &mut self.upkeep, cancel));
            }
            Request::TestMail { reply } => {
                let email = self.config.borrow().site.email.clone();
                tokio::spawn(async move {
                    let _ = reply.send(match email {
                        Some(email) => crate::alert::send_test(&email).await,
                        None => Err(Trouble::new(
                            codes::NO_EMAIL,
                            "the site has no `email`, so nobody would be told of a failure",
                        )
                        .with_hint("add `email:` to the Site document (see the README) and push it")),
                    });
                });
            }
        }
    }

    /// Refuses what would be written into a state that is lost; looking, cancelling and restoring go on.
    fn refuse_without_state(&self, request: Request) -> Option<Request> {
        let Some(trouble) = self.state_trouble() else { return Some(request) };
        match request {
            Request::StartRun { reply, .. } => drop(reply.send(Err(trouble))),
            Request::Suspend { reply, .. } | Request::Resume { reply, .. } => drop(reply.send(Err(trouble))),
            Request::Accept { reply, .. } => drop(reply.send(Err(trouble))),
            Request::Destination { reply, .. } | Request::Rewind { reply, .. } => drop(reply.send(Err(trouble))),
            other => return Some(other),
        }
        None
    }

    fn start_now(&mut self, target: &Name, policy: Option<&Name>) -> Result<Vec<RunId>, Trouble> {
        let config = self.config.borrow().clone();
        let wanted = config.targets.get(target).ok_or_else(|| unknown_target(&config, &self.jobs, target))?;
        if let Some(policy) = policy
            && !wanted.policies.contains(policy)
        {
            let has: Vec<&str> = wanted.policies.iter().map(Name::as_str).collect();
            return Err(Trouble::new(codes::UNKNOWN_POLICY, format!("target {target} has no policy {policy}"))
                .with_hint(format!("it has: {}", has.join(", "))));
        }
        if !wanted.enabled {
            return Err(Trouble::new(codes::TARGET_DISABLED, format!("target {target} has `enabled: false`"))
                .with_hint("enable it in Git first"));
        }
        let now = self.world.clock.now();
        let mut ids = Vec::new();
        for name in wanted.policies.iter().filter(|name| policy.is_none_or(|only| only == *name)) {
            let id = JobId { target: target.clone(), policy: name.clone() };
            if let Some(run) = self.current_run(&id) {
                ids.push(run);
                continue;
            }
            if self.queue.len() >= QUEUE_MAX {
                return Err(Trouble::new(codes::QUEUE_FULL, format!("{QUEUE_MAX} runs are waiting already"))
                    .with_hint("wait until some are done"));
            }
            let mut batch = Batch::default();
            let run = self
                .queue_run(&id, Trigger::Manual, now, &mut batch)
                .and_then(|run| self.world.ledger.commit(batch).map(|()| run))
                .map_err(|error| error.trouble())?;
            ids.push(run.id);
            self.queue.push_back(run);
        }
        self.changed.notify_one();
        Ok(ids)
    }

    fn current_run(&self, id: &JobId) -> Option<RunId> {
        let running = self.running.iter().find(|(_, each)| each.job == *id).map(|(run, _)| *run);
        running.or_else(|| self.queue.iter().find(|run| run.job == *id).map(|run| run.id))
    }

    fn cancel_run(&mut self, run: RunId) -> Result<(), Trouble> {
        if let Some(each) = self.running.get(&run) {
            each.cancel.cancel();
            return Ok(());
        }
        if let Some(position) = self.queue.iter().position(|each| each.id == run)
            && let Some(mut record) = self.queue.remove(position)
        {
            record.trouble = Some(Trouble::new(codes::CANCELLED, "cancelled before it started"));
            self.unwritten.push(Ended::bare(record, Outcome::Cancelled));
            self.write_unwritten();
            return Ok(());
        }
        Err(match self.world.ledger.run(run) {
            Ok(Some(record)) => {
                Trouble::new(codes::NOT_RUNNING, format!("run {run} is over ({})", record.state.as_str()))
            }
            _ => Trouble::new(codes::UNKNOWN_RUN, format!("there is no run {run}")).with_hint("see `larder runs`"),
        })
    }

    fn suspend(&mut self, target: &Name, until: Option<(Timestamp, String)>) -> Result<(), Trouble> {
        let now = self.world.clock.now();
        if let Some((until, _)) = &until
            && (*until <= now || until.duration_since(now) > SUSPEND_MAX)
        {
            return Err(Trouble::new(
                codes::BAD_TIME,
                format!("a target is suspended until a time within 30 days, not {until}"),
            )
            .with_hint("to stop it for good, set `enabled: false` in Git"));
        }
        let mut changed: Vec<JobRecord> = self
            .jobs
            .values()
            .filter(|job| job.id.target == *target && job.orphaned_since.is_none())
            .cloned()
            .collect();
        if changed.is_empty() {
            return Err(unknown_target(&self.config.borrow(), &self.jobs, target));
        }
        let mut batch = Batch::default();
        for job in &mut changed {
            job.suspended = until.clone().map(|(until, reason)| Suspension {
                since: now,
                until,
                reason: reason.chars().take(200).collect(),
            });
            batch.put_job(job).map_err(|error| error.trouble())?;
        }
        self.world.ledger.commit(batch).map_err(|error| error.trouble())?;
        for job in changed {
            self.jobs.insert(job.id.clone(), job);
        }
        self.changed.notify_one();
        Ok(())
    }
}

pub(super) fn unknown_target(config: &Config, jobs: &BTreeMap<JobId, JobRecord>, target: &Name) -> Trouble {
    let trouble = Trouble::new(codes::UNKNOWN_TARGET, format!("there is no target {target}"));
    if jobs.keys().any(|id| id.target == *target) {
        return trouble.with_hint("it left the config and is orphaned: its backups are kept and can be restored");
    }
    let near = config
        .targets
        .keys()
        .map(|name| (strsim::jaro_winkler(name.as_str(), target.as_str()), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, name)) => trouble.with_hint(format!("did you mean {name}?")),
        None => trouble.with_hint("see `larder status` for the targets"),
    }
}
