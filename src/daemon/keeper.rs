//! The one task that owns the jobs: it fires what is due, starts what is queued, writes what ended, and answers requests.
//!
//! Everything comes in as a message or as the clock; the same state in gives the same actions out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::model::Config;
use crate::daemon::reconcile::Reconciler;
use crate::daemon::returns::Returns;
use crate::daemon::{away, copies, finish, first_test, locks_due, restore, upkeep};
use crate::error::{Trouble, codes};
use crate::rpc::ready::Readiness;
use crate::run::RunState;
use crate::runner::control::{ReconcileResult, Reconciled, Request};
use crate::runner::execute::{self, Ended, RunOrder};
use crate::runner::found_again;
use crate::runner::live::{Discovery, RunUpdate};
use crate::runner::world::World;
use crate::schedule::Schedule;
use crate::store::record::{JobRecord, RunEvent, RunRecord, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Outcome, RunId};

mod firing;

/// The clock is looked at again at least this often, so a suspended machine or a turned clock is noticed.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(30);

/// The source is looked at by ourselves at least this often, whatever becomes of its watch; soon after a failed look.
const LOOK_AT_SOURCE_EVERY: Duration = Duration::from_secs(15);
const LOOK_AT_TROUBLED_SOURCE_EVERY: Duration = Duration::from_secs(3);

/// Between two looks for jobs whose newest success is too old.
const LOOK_FOR_OVERDUE_EVERY: Duration = Duration::from_secs(60);

/// How long the runs in progress may take to end when the daemon stops.
const RUNS_END_MAX: Duration = Duration::from_secs(11);

/// What the keeper is made of.
pub(crate) struct Keeper {
    pub(crate) world: Arc<World>,
    pub(crate) reconciler: Reconciler,
    pub(crate) jobs: BTreeMap<JobId, JobRecord>,
    pub(crate) config: watch::Sender<Arc<Config>>,
    /// Told after every change that pages show.
    pub(crate) changed: Arc<tokio::sync::Notify>,
    /// Told when a mail was put into the outbox.
    pub(crate) mail: Arc<tokio::sync::Notify>,
    /// Told when the container engine was looked at.
    pub(crate) seen: Arc<tokio::sync::Notify>,
    pub(crate) readiness: Readiness,
    schedules: BTreeMap<(String, String), Schedule>,
    pub(super) queue: VecDeque<RunRecord>,
    pub(super) running: BTreeMap<RunId, Running>,
    tasks: JoinSet<Ended>,
    /// Ended runs that could not be written yet (disk full); tried again at every turn.
    pub(super) unwritten: Vec<Ended>,
    pub(super) upkeep: JoinSet<()>,
    upkeep_due: Option<Timestamp>,
    pub(super) returns: Returns,
    /// None before the first look: what the clock showed to an earlier daemon is not known.
    clock_seen: Option<(Timestamp, Instant)>,
    /// None: look at the next turn.
    overdue_looked: Option<Instant>,
    source_due: Instant,
    stopping: bool,
}

/// A run in progress.
pub(super) struct Running {
    pub(super) job: JobId,
    pub(super) cancel: CancellationToken,
    task: tokio::task::Id,
    /// It only waits for some of its destinations.
    waits: Arc<AtomicBool>,
}

impl Keeper {
    pub(crate) fn new(
        world: Arc<World>,
        reconciler: Reconciler,
        jobs: BTreeMap<JobId, JobRecord>,
        config: watch::Sender<Arc<Config>>,
    ) -> Self {
        Self {
            world,
            reconciler,
            jobs,
            config,
            changed: Arc::default(),
            mail: Arc::default(),
            seen: Arc::default(),
            readiness: Readiness::default(),
            schedules: BTreeMap::new(),
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            unwritten: Vec::new(),
            upkeep: JoinSet::new(),
            upkeep_due: None,
            returns: Returns::default(),
            clock_seen: None,
            overdue_looked: Some(Instant::now()),
            source_due: Instant::now(),
            stopping: false,
        }
    }

    /// Turns until `cancel`; then ends the runs in progress as interrupted and returns.
    pub(crate) async fn turn(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut looks: mpsc::Receiver<()>,
        cancel: CancellationToken,
    ) {
        self.readiness.store_is_open(true);
        self.look(None);
        self.accept_from_config();
        self.take_holdings();
        copies::resume(&self.world);
        self.plan_upkeep();
        self.find_given_up();
        let (seen, world) = (self.seen.clone(), self.world.clone());
        loop {
            let now = self.world.clock.now();
            self.readiness.turned(Instant::now());
            self.readiness.config_is_applied(self.reconciler.applied().is_some());
            self.look_at_source();
            self.write_unwritten();
            self.catch_up(now);
            self.fire_due(now);
            self.look_at_clock();
            self.start_queued();
            self.start_upkeep(now, &cancel);
            self.start_forgetting(now, &cancel);
            self.start_gathering(now, &cancel);
            self.tell_overdue(now);
            let pause = self.pause(self.world.clock.now());
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(joined) = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(joined),
                Some(_) = self.upkeep.join_next(), if !self.upkeep.is_empty() => {
                    self.take_holdings();
                    self.plan_upkeep();
                    self.changed.notify_one();
                    self.mail.notify_one();
                }
                Some(request) = requests.recv() => self.handle(request, &cancel),
                Some(()) = looks.recv() => { self.look(None); }
                () = seen.notified() => self.take_inventory(),
                () = world.listed.notified() => {
                    self.take_holdings();
                    self.changed.notify_one();
                }
                () = world.freed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.stop(requests).await;
    }

    async fn stop(mut self, requests: mpsc::Receiver<Request>) {
        self.stopping = true;
        drop(requests);
        for each in self.running.values() {
            each.cancel.cancel();
        }
        let end = tokio::time::Instant::now() + RUNS_END_MAX;
        while let Ok(Some(joined)) = tokio::time::timeout_at(end, self.tasks.join_next()).await {
            self.ended(joined);
        }
        while let Ok(Some(_)) = tokio::time::timeout_at(end, self.upkeep.join_next()).await {}
        if !self.tasks.is_empty() || !self.upkeep.is_empty() {
            tracing::warn!(
                runs = self.tasks.len(),
                other = self.upkeep.len(),
                "some work does not end in time; the next start closes it as interrupted"
            );
        }
        self.write_unwritten();
    }

    /// How long until something is due.
    fn pause(&self, now: Timestamp) -> Duration {
        if !self.unwritten.is_empty() {
            return Duration::from_secs(1);
        }
        let runs = self.jobs.values().filter_map(|job| job.next_run);
        let next = runs.chain(self.upkeep_due).min();
        let until = next
            .map_or(LOOK_AT_CLOCK_EVERY, |next| Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO));
        let until = until.min(self.source_due.saturating_duration_since(Instant::now()));
        // A due job that cannot start (its run is still going) must not make this spin.
        until.clamp(Duration::from_millis(20), LOOK_AT_CLOCK_EVERY)
    }

    /// What is wrong with the state directory: then nothing is started, since its outcome could not be kept.
    pub(super) fn state_trouble(&self) -> Option<Trouble> {
        self.world.live.state().map(|incident| incident.trouble)
    }

    // ---- the queue ----

    pub(super) fn queue_run(
        &self,
        id: &JobId,
        trigger: Trigger,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<RunRecord, StoreError> {
        let config = self.config.borrow();
        let plugin = config.targets.get(&id.target).map_or_else(|| id.target.clone(), |target| target.plugin.clone());
        let run = RunRecord {
            id: RunId::after(self.world.ledger.newest_run_id()?, now),
            job: id.clone(),
            trigger,
            revision: self.reconciler.applied(),
            plugin,
            state: RunState::Queued,
            queued: now,
            started: None,
            finished: None,
            trouble: None,
            warnings: Vec::new(),
            notices: Vec::new(),
            artifact: None,
            shipments: Vec::new(),
            bytes: 0,
        };
        batch.put_run(&run)?;
        batch.push_event(run.id, 0, &RunEvent { at: now, state: RunState::Queued, note: None })?;
        Ok(run)
    }

    pub(super) fn is_busy(&self, id: &JobId) -> bool {
        self.running.values().any(|each| each.job == *id) || self.queue.iter().any(|run| run.job == *id)
    }

    fn start_queued(&mut self) {
        if self.state_trouble().is_some() {
            return;
        }
        let config = self.config.borrow().clone();
        let at_work = |running: &BTreeMap<RunId, Running>| {
            running.values().filter(|each| !each.waits.load(Ordering::Relaxed)).count()
        };
        while at_work(&self.running) < config.site.concurrency.runs.max(1) as usize {
            // A run whose application is being restored into waits; the end of the restore wakes this loop.
            let free = {
                let restoring = restore::being_restored(&self.world);
                // Nor beside another run of its target: what the one stopped, the other would find stopped, or start.
                let running =
                    |target: &crate::types::Name| self.running.values().any(|each| each.job.target == *target);
                self.queue.iter().position(|run| !restoring.contains(&run.job.target) && !running(&run.job.target))
            };
            let Some(run) = free.and_then(|index| self.queue.remove(index)) else { return };
            self.note_rules(&config, &run.job);
            let Some(order) = self.order(&config, &run) else {
                self.withdraw(run);
                continue;
            };
            let cancel = CancellationToken::new();
            let waits = order.waits.clone();
            let task = self.tasks.spawn(execute::execute(self.world.clone(), order, cancel.clone())).id();
            self.running.insert(run.id, Running { job: run.job.clone(), cancel, task, waits });
            self.changed.notify_one();
        }
    }

    fn order(&self, config: &Config, run: &RunRecord) -> Option<RunOrder> {
        let target = config.targets.get(&run.job.target)?;
        let policy = config.policies.get(&run.job.policy)?;
        Some(RunOrder {
            run: run.clone(),
            job: self.jobs.get(&run.job)?.clone(),
            target: target.clone(),
            policy: policy.clone(),
            site: config.site.clone(),
            own: crate::runner::cut::own_of(config, self.world.paths.root()),
            waits: Arc::default(),
            destinations: policy
                .destinations
                .iter()
                .filter_map(|name| config.destinations.get(name))
                .cloned()
                .collect(),
        })
    }

    /// A queued run whose target left the config in the meantime.
    fn withdraw(&mut self, mut run: RunRecord) {
        run.trouble =
            Some(Trouble::new(codes::NOT_DESIRED, format!("{} left the config before its run started", run.job)));
        self.unwritten.push(Ended::bare(run, Outcome::Skipped));
        self.write_unwritten();
    }

    fn ended(&mut self, joined: Result<Ended, tokio::task::JoinError>) {
        match joined {
            Ok(ended) => {
                self.running.remove(&ended.run.id);
                self.unwritten.push(ended);
            }
            Err(error) => self.close_broken(&error),
        }
        self.write_unwritten();
    }

    /// A bug of ours in one run must not take the others along: the run is closed as failed.
    fn close_broken(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(%error, "a run's task broke");
        let Some(id) = self.running.iter().find(|(_, each)| each.task == error.id()).map(|(id, _)| *id) else { return };
        self.running.remove(&id);
        let Ok(Some(mut run)) = self.world.ledger.run(id) else { return };
        run.trouble = Some(
            Trouble::new(codes::INTERNAL, format!("the run broke inside Larder: {error}"))
                .with_hint("this is a bug: please report it with the daemon's log"),
        );
        self.unwritten.push(Ended::bare(run, Outcome::Failed));
    }

    pub(super) fn write_unwritten(&mut self) {
        let now = self.world.clock.now();
        let config = self.config.borrow().clone();
        for ended in std::mem::take(&mut self.unwritten) {
            let job = self.jobs.get(&ended.run.job);
            match finish::write(&self.world.ledger, &config.site, job, &ended, self.stopping, now) {
                Ok(written) => {
                    self.readiness.store_is_open(true);
                    let away = away::note(&self.world, &config, &written.run, now).unwrap_or_else(|error| {
                        tracing::error!(error = %crate::error::chain(&error), "cannot note who is away; the next run does");
                        away::News::default()
                    });
                    self.returns.are_back(away.back);
                    self.world.live.publish(RunUpdate {
                        run: written.run.id,
                        job: written.run.job.clone(),
                        at: now,
                        state: written.run.state,
                        detail: None,
                        bytes_done: written.run.bytes,
                        bytes_total: written.run.bytes,
                    });
                    if let Some(job) = written.job {
                        self.jobs.insert(job.id.clone(), job);
                        self.accept_from_config();
                        // What was accepted for another job while this one ran.
                        self.take_holdings();
                    }
                    if written.mails + away.mails > 0 {
                        self.mail.notify_one();
                    }
                    self.changed.notify_one();
                }
                Err(error) => {
                    self.readiness.store_is_open(false);
                    tracing::error!(run = %ended.run.id, error = %crate::error::chain(&error), "cannot write the outcome; it is tried again");
                    self.unwritten.push(ended);
                }
            }
        }
    }

    /// Says once of a job that its newest success is older than its policy allows.
    fn tell_overdue(&mut self, now: Timestamp) {
        if self.state_trouble().is_some()
            || self.overdue_looked.is_some_and(|looked| looked.elapsed() < LOOK_FOR_OVERDUE_EVERY)
        {
            return;
        }
        self.overdue_looked = Some(Instant::now());
        let config = self.config.borrow().clone();
        self.remind(&config, now);
        let told: Vec<_> = self
            .jobs
            .values()
            .filter_map(|job| {
                let max_age = config.policies.get(&job.id.policy)?.max_age?;
                crate::alert::overdue(&config.site, job, max_age, now)
            })
            .collect();
        for (job, mail) in told {
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
                    tracing::warn!(job = %job.id, "the newest success is older than max_age");
                    self.jobs.insert(job.id.clone(), job);
                    self.mail.notify_one();
                    self.changed.notify_one();
                }
                Err(error) => tracing::error!(error = %crate::error::chain(&error), "cannot note an overdue job"),
            }
        }
    }

    // ---- the config ----

    pub(super) fn look(&mut self, confirm: Option<&crate::types::Revision>) -> Reconciled {
        if let Some(trouble) = self.state_trouble() {
            self.source_due = Instant::now() + LOOK_AT_SOURCE_EVERY;
            let lines = std::iter::once(trouble.message).chain(trouble.hint.map(|hint| format!("hint: {hint}")));
            return Reconciled { revision: None, result: ReconcileResult::Failed, lines: lines.collect(), took_us: 0 };
        }
        let now = self.world.clock.now();
        let world = self.world.clone();
        let (jobs, reconciler) = (&mut self.jobs, &mut self.reconciler);
        let (verdict, applied) = tokio::task::block_in_place(|| reconciler.look(&world, jobs, confirm, now));
        if let Some(config) = applied {
            self.config.send_replace(config);
            self.schedules.clear();
            self.plan_upkeep();
            self.accept_from_config();
            self.take_holdings();
            let config = self.config.borrow().clone();
            first_test::start(&self.world, &config, &mut self.upkeep);
            let (world, site) = (self.world.clone(), config.site.clone());
            self.upkeep.spawn(async move {
                world.look_for_an_earlier_state(&site.artifacts).await;
                found_again::find(&world, &site.artifacts).await;
            });
        }
        let pause = if self.reconciler.is_troubled() { LOOK_AT_TROUBLED_SOURCE_EVERY } else { LOOK_AT_SOURCE_EVERY };
        self.source_due = Instant::now() + pause;
        let unreadable = self.reconciler.unreadable().map(|trouble| trouble.message.clone());
        let news = self.readiness.source_is(unreadable);
        if news || !matches!(verdict.result, ReconcileResult::Unchanged | ReconcileResult::Failed) {
            self.mail.notify_one();
            self.changed.notify_one();
        }
        verdict
    }

    /// Looks at the source by itself: who watches it may have ended, and nothing tells of a file that rots.
    fn look_at_source(&mut self) {
        if Instant::now() >= self.source_due {
            self.look(None);
        }
    }

    /// Gives what was discovered targets, where the site wants that.
    fn take_inventory(&mut self) {
        let Discovery::Known { inventory, .. } = self.world.live.discovery() else { return };
        let now = self.world.clock.now();
        let world = self.world.clone();
        let (jobs, reconciler) = (&mut self.jobs, &mut self.reconciler);
        if let Some(config) = tokio::task::block_in_place(|| reconciler.see(&world, jobs, inventory, now)) {
            self.config.send_replace(config);
            self.changed.notify_one();
        }
    }

    // ---- upkeep of destinations ----

    fn plan_upkeep(&mut self) {
        self.upkeep_due = upkeep::next_due(&self.world);
    }

    fn start_upkeep(&mut self, now: Timestamp, cancel: &CancellationToken) {
        if self.state_trouble().is_some() {
            return;
        }
        let config = self.config.borrow().clone();
        locks_due::start_due(&self.world, &config, now, &mut self.upkeep, cancel);
        if self.upkeep_due.is_none_or(|due| due > now) {
            return;
        }
        upkeep::start_due(&self.world, &config, now, &mut self.upkeep, cancel);
        copies::start_due(&self.world, &config, now, &mut self.upkeep, cancel);
        self.plan_upkeep();
    }
}
