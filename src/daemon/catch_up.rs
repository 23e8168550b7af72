//! Destinations that come back: the jobs whose newest run lacked one are run once, without waiting for their next slot.
//!
//! Who is away is asked whether it answers, the rarer the longer it is away. One that answers gets one job first: what
//! takes a connection need not take a backup, and a run may stop an application. Only when that was shipped is it back, and
//! all other jobs follow, as many at once as the site lets. Each is the retry of its job, so a suspension, a push and a
//! restart are as for any other. `on_missed: skip` says that a backup outside its slots is not wanted: it waits for the next.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::keeper::Keeper;
use super::returns::{Asked, pace};
use crate::config::model::{Config, OnMissed};
use crate::runner::route;
use crate::runner::ship::Asks;
use crate::store::record::{JobRecord, Retry, RunRecord, Shipment, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name, Outcome};

/// Between two looks who is away.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Keeper {
    /// Asks who is away, and lets the jobs of who is back be run.
    pub(super) fn catch_up(&mut self, now: Timestamp) {
        if self.state_trouble().is_some() {
            return;
        }
        let is_first = self.returns.looked.is_none();
        if !is_first
            && self.returns.back.is_empty()
            && self.returns.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY)
        {
            return;
        }
        self.returns.looked = Some(Instant::now());
        let config = self.config.borrow().clone();
        let away: BTreeMap<Name, Timestamp> = match self.world.ledger.destinations() {
            Ok(all) => all.into_iter().filter_map(|record| Some((record.name, record.away_since?))).collect(),
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "cannot read who is away");
                return;
            }
        };
        let mut back = std::mem::take(&mut self.returns.back);
        if is_first {
            back.extend(config.destinations.keys().cloned());
        }
        for name in back.into_iter().filter(|name| !away.contains_key(name)) {
            for job in self.owed(&config, &name) {
                self.run_soon(&job, &name, now);
            }
        }
        let answered = std::mem::take(&mut *self.returns.answered.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, since) in away.into_iter().filter(|(name, _)| config.destinations.contains_key(name)) {
            // What is under way tells soon enough.
            if self.ships_to(&config, &name) {
                continue;
            }
            let Some(first) = self.owed(&config, &name).into_iter().next() else { continue };
            if answered.contains(&name) {
                if let Some(asked) = self.returns.asked.get_mut(&name) {
                    asked.refusals = asked.refusals.saturating_add(1);
                }
                self.run_soon(&first, &name, now);
            } else {
                self.ask(&config, &name, Duration::try_from(now.duration_since(since)).unwrap_or_default());
            }
        }
    }

    /// Asks at its pace whether it is there; a later look takes the answer.
    fn ask(&mut self, config: &Config, name: &Name, away_for: Duration) {
        let Some(destination) = config.destinations.get(name).cloned() else { return };
        let Some(asked) = self.returns.asked.get_mut(name) else {
            // It was just told to be away.
            self.returns.asked.insert(name.clone(), Asked { at: Instant::now(), refusals: 0 });
            return;
        };
        if asked.at.elapsed() < pace(away_for, asked.refusals) {
            return;
        }
        asked.at = Instant::now();
        let (world, answered) = (self.world.clone(), self.returns.answered.clone());
        self.upkeep.spawn(async move {
            if route::present(&world, &destination, Asks::Anew).await.is_ok() {
                answered.lock().unwrap_or_else(PoisonError::into_inner).insert(destination.name);
            }
        });
    }

    /// The jobs that wait for `name` to come back.
    fn owed(&self, config: &Config, name: &Name) -> Vec<JobId> {
        let wanted = config.jobs_to(name).filter(|(_, _, policy)| policy.on_missed == OnMissed::Run);
        let idle = wanted.map(|(id, _, _)| id).filter(|id| !self.is_busy(id));
        idle.filter(|id| self.jobs.get(id).is_some_and(|job| self.lacked(job, name))).collect()
    }

    /// Whether the newest run of `job` lacked `name` because it was away.
    fn lacked(&self, job: &JobRecord, name: &Name) -> bool {
        let Some(last) = job.last_run.as_ref().filter(|last| last.outcome != Outcome::Success) else { return false };
        let rests = job.orphaned_since.is_some() || job.suspended.is_some();
        let lacks = |shipment: &Shipment| shipment.destination == *name && shipment.is_away();
        // What it does not take although it is there is tried at the next slot: each run is one more in the others, too.
        let was_for_it =
            |run: &RunRecord| matches!(&run.trigger, Trigger::Returned { destination, .. } if destination == name);
        let run = self.world.ledger.run(last.id).ok().flatten();
        !rests && run.is_some_and(|run| run.shipments.iter().any(lacks) && !was_for_it(&run))
    }

    /// Whether a run that is queued or in progress may ship to `name`.
    pub(super) fn ships_to(&self, config: &Config, name: &Name) -> bool {
        let mut busy = self.queue.iter().map(|run| &run.job).chain(self.running.values().map(|each| &each.job));
        busy.any(|job| config.ships(job, name))
    }

    fn run_soon(&mut self, id: &JobId, name: &Name, now: Timestamp) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(of) = job.last_run.as_ref().map(|run| run.id) else { return };
        let mut after = job.clone();
        after.retry = Some(Retry { at: now, of, attempt: 0, returned: Some(name.clone()) });
        after.next_run = Some(now);
        let write = || -> Result<(), StoreError> {
            let mut batch = Batch::default();
            batch.put_job(&after)?;
            self.world.ledger.commit(batch)
        };
        match write() {
            Ok(()) => {
                tracing::info!(job = %id, destination = %name, "run once more for a destination that was away");
                self.jobs.insert(id.clone(), after);
            }
            Err(error) => {
                tracing::error!(job = %id, error = %crate::error::chain(&error), "cannot write that a job is to be run");
            }
        }
    }
}
