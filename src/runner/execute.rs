//! One run, from `Queued` to its outcome: intent is written before each effect, what came of it after.
//!
//! The executor owns the run's record while it lives. It finishes nothing by itself: the outcome goes back to the one
//! task that owns the jobs, which writes run, job and mail in one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::artifact::Shelf;
use crate::config::model::{Destination, Policy, Retention, Site, Target};
use crate::error::{Kind, Trouble, codes};
use crate::look;
use crate::plugin::kit::apart::Own;
use crate::plugin::{Call, CaptureInputs};
use crate::process::{Context, Limits, Redactor, Spared};
use crate::run::hold::{Finding, HoldKind, Judged};
use crate::run::judgement::{self, Coverage};
use crate::run::usual::Weighed;
use crate::run::usual::mounts::Noted;
use crate::run::usual::recall::Recalled;
use crate::run::{self, Event, RunState};
use crate::runner::cut::Shape;
use crate::runner::holdings::Inventory;
use crate::runner::hooks::during::During;
use crate::runner::hooks::{self, Moment};
use crate::runner::live::RunUpdate;
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::store::Batch;
use crate::store::record::{JobRecord, REMARKS_MAX, RunEvent, RunRecord};
use crate::types::site::SiteId;
use crate::types::{Name, Outcome};

mod away;
mod beside;
mod capturing;
mod clock;
mod holding;
mod ready;
mod retaining;
mod shipping;

/// What is kept of one run's output, in bytes.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// How long a child may be silent before it counts as hung; restic reports progress every second.
const SILENCE_MAX: Duration = Duration::from_secs(30 * 60);

/// How long what a run left may take to be cleared.
const CLEAR_MAX: Duration = Duration::from_mins(2);

/// How long a look at the mounts may take: a share whose server is gone hangs.
const MOUNTS_MAX: Duration = Duration::from_secs(30);

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Everything that one run needs to know; taken when it starts, so a push during the run does not change it.
#[derive(Clone, Debug)]
pub struct RunOrder {
    pub run: RunRecord,
    pub job: JobRecord,
    pub target: Target,
    pub policy: Policy,
    pub site: Site,
    pub destinations: Vec<Destination>,
    /// What Larder itself keeps on this machine.
    pub own: Vec<Own>,
    /// Set while the run only waits for some of its destinations: then it takes nobody's place.
    pub waits: Arc<AtomicBool>,
}

/// A run that is over but not yet written as finished.
#[derive(Clone, Debug)]
pub struct Ended {
    pub run: RunRecord,
    pub outcome: Outcome,
    /// New snapshots by destination: the parents of the next run.
    pub parents: BTreeMap<Name, String>,
    /// What was looked at that may hold retention, and what was found.
    pub judged: Judged,
    /// What the snapshots have, and the mounts that were there.
    pub load: Option<Weighed>,
    pub mounted: Option<Noted>,
    /// What the repositories have that the state may not have known.
    pub recalled: Option<Recalled>,
    /// Where the policy's retention was applied.
    pub retained: BTreeSet<Name>,
    pub retention: Retention,
}

impl Ended {
    /// Of a run that did nothing which counts for its job's next ones.
    #[must_use]
    pub fn bare(run: RunRecord, outcome: Outcome) -> Self {
        Self {
            run,
            outcome,
            parents: BTreeMap::new(),
            judged: Judged::default(),
            load: None,
            mounted: None,
            recalled: None,
            retained: BTreeSet::new(),
            retention: Retention::default(),
        }
    }
}

/// Why a run stops before its end.
struct Stop {
    outcome: Outcome,
    trouble: Trouble,
}

impl Stop {
    fn failed(trouble: Trouble) -> Self {
        let outcome = if trouble.kind() == Some(Kind::Cancelled) { Outcome::Cancelled } else { Outcome::Failed };
        Self { outcome, trouble }
    }
}

/// Runs `order` to its outcome. It always returns, with all of its children gone.
pub async fn execute(world: Arc<World>, order: RunOrder, cancel: CancellationToken) -> Ended {
    let mut executor = RunExecutor::begin(world, order, cancel);
    executor.hide_passwords().await;
    let outcome = match executor.run_stages().await {
        Ok(outcome) => outcome,
        Err(stop) => {
            executor.context.log.line(&format!("{}: {}", stop.outcome, stop.trouble));
            executor.record.trouble = Some(stop.trouble);
            stop.outcome
        }
    };
    executor.close(outcome).await
}

struct RunExecutor {
    world: Arc<World>,
    target: Target,
    policy: Policy,
    site: Site,
    destinations: Vec<Destination>,
    job: JobRecord,
    record: RunRecord,
    sequence: u32,
    context: Context,
    deadline: Instant,
    shelf: Shelf,
    /// Which site this is; none before the run looked.
    identity: Option<SiteId>,
    inputs: CaptureInputs,
    own: Vec<Own>,
    waits: Arc<AtomicBool>,
    shape: Shape,
    after_is_due: bool,
    during: During,
    judged: Judged,
    load: Option<Weighed>,
    mounted: Option<Noted>,
    recalled: Option<Recalled>,
    retained: BTreeSet<Name>,
    /// The first remark that is no hold of a kind of its own.
    remark: Option<Trouble>,
    /// What each repository holds since this run shipped to it.
    inventories: BTreeMap<Name, Arc<Inventory>>,
}

impl RunExecutor {
    fn begin(world: Arc<World>, order: RunOrder, cancel: CancellationToken) -> Self {
        let log = world.log(order.run.id, LOG_BYTES_MAX);
        let context =
            Context { cancel, log, redact: Redactor::default(), mark: format!("{}:{}", world.state_id, order.run.id) };
        Self {
            shelf: Shelf::new(&order.site.artifacts),
            deadline: Instant::now() + order.policy.timeout,
            identity: None,
            world,
            target: order.target,
            policy: order.policy,
            site: order.site,
            destinations: order.destinations,
            job: order.job,
            record: order.run,
            sequence: 0,
            context,
            inputs: CaptureInputs::default(),
            own: order.own,
            waits: order.waits,
            shape: Shape::default(),
            after_is_due: false,
            during: During::default(),
            judged: Judged::default(),
            load: None,
            mounted: None,
            recalled: None,
            retained: BTreeSet::new(),
            remark: None,
            inventories: BTreeMap::new(),
        }
    }

    async fn run_stages(&mut self) -> Result<Outcome, Stop> {
        self.record.started = Some(self.world.clock.now());
        self.advance(Event::Started, None).await?;
        self.preconditions().await?;
        self.settings_answer().await?;
        let id = self.world.site(&self.site.artifacts).await;
        let id = id.map_err(|trouble| Stop { outcome: Outcome::Deferred, trouble })?;
        self.shelf = self.shelf.clone().of_site(id.clone());
        self.identity = Some(id);
        // From here on `after` runs, whatever happens: what `before` stopped must not stay stopped.
        self.after_is_due = true;
        self.hook(Moment::Before).await.map_err(Stop::failed)?;
        self.begin_during().await?;
        let captured = self.capture().await;
        let captured = self.judge_during(captured).await?;

        self.advance(
            Event::Captured,
            Some(format!("{} artifacts, {} sources", captured.artifacts.len(), captured.sources.len())),
        )
        .await?;
        let validations = self.validate(&captured).await?;

        self.advance(Event::Validated, Some(format!("{} validations", validations.len()))).await?;
        let published = self.publish(&captured, validations).await?;

        self.advance(Event::Published, Some(published.relative.clone())).await?;
        let before = self.mounts(&captured).await;
        self.record.shipments = self.ship(&captured, &published).await?;
        self.end_during().await;
        let after = self.mounts(&captured).await;

        if self.verdict() == judgement::RunVerdict::Failed {
            let first = self.record.shipments.iter().find_map(|each| each.trouble.clone());
            return Err(Stop::failed(
                first.unwrap_or_else(|| Trouble::new(codes::NOT_SHIPPED, "no destination took the backup")),
            ));
        }
        self.advance(Event::Shipped, None).await?;
        self.miss_mounts(before, after, &captured).await;
        self.look_for_a_lost_state();
        self.recall().await;
        self.weigh(&captured).await;
        self.take_stock();
        self.look_at_clock().await;
        let remark = self.remark.clone();
        self.judged
            .add(HoldKind::Incomplete, remark.map(|trouble| Finding::without_value(HoldKind::Incomplete, trouble)));
        if self.held_otherwise() {
            self.context.log.line("retention waits: the job is held");
        } else {
            self.retain().await;
        }
        self.look_again().await;
        self.hold_on();
        self.expire().await;
        // Before the verdict, since a failed `after` hook is a remark on it.
        self.after().await;
        let first = self.record.shipments.iter().find_map(|each| each.trouble.clone());
        self.record.trouble = first.or_else(|| self.record.warnings.first().cloned());
        Ok(self.verdict().outcome())
    }

    fn verdict(&self) -> judgement::RunVerdict {
        let coverage = if self.record.warnings.is_empty() { Coverage::Whole } else { Coverage::Part };
        judgement::verdict(self.record.shipments.iter().map(|each| each.outcome), coverage)
    }

    async fn after(&mut self) {
        self.end_during().await;
        if std::mem::take(&mut self.after_is_due)
            && let Err(trouble) = self.hook(Moment::After).await
        {
            self.warn(trouble);
        }
    }

    async fn close(mut self, outcome: Outcome) -> Ended {
        self.after().await;
        if outcome == Outcome::Failed
            && let Err(trouble) = self.hook(Moment::OnFailure).await
        {
            self.warn(trouble);
        }
        let (shelf, run, job) = (self.shelf.clone(), self.record.id, self.record.job.clone());
        let root = shelf.root().to_owned();
        // The next start sweeps what could not be cleared.
        let cleared = tokio::time::timeout(CLEAR_MAX, look::work(&root, move || shelf.clear(run, &job))).await;
        if let Ok(Ok(Err(error))) = cleared {
            tracing::warn!(run = %self.record.id, error = %crate::error::chain(&error), "cannot clear what the run left");
        }
        let parents = if matches!(outcome, Outcome::Success | Outcome::Partial) {
            self.record
                .shipments
                .iter()
                .filter_map(|each| Some((each.destination.clone(), each.snapshot.clone()?)))
                .collect()
        } else {
            BTreeMap::new()
        };
        self.context.log.line(&format!("finished: {outcome}"));
        Ended {
            run: self.record,
            outcome,
            parents,
            judged: self.judged,
            load: self.load,
            mounted: self.mounted,
            recalled: self.recalled,
            retained: self.retained,
            retention: self.policy.retention,
        }
    }

    /// Runs the hooks of `moment`. Those behind the work mend what was changed for it, so neither a cancellation nor the
    /// end of the run's time keeps them from it; each has its own timeout.
    async fn hook(&self, moment: Moment) -> Result<(), Trouble> {
        let hooks = match moment {
            Moment::Before => &self.target.hooks.before,
            Moment::After => &self.target.hooks.after,
            Moment::OnFailure => &self.target.hooks.on_failure,
            Moment::During => return Ok(()),
        };
        let spared = Spared::new(self.world.paths.spared());
        if moment == Moment::Before {
            return hooks::run(moment, hooks, &self.record, &self.context, &spared, self.left()).await;
        }
        let context = Context { cancel: CancellationToken::new(), ..self.context.clone() };
        hooks::run(moment, hooks, &self.record, &context, &spared, Duration::MAX).await
    }

    fn route(&self, destination: &Destination) -> Route {
        Route {
            world: self.world.clone(),
            destination: destination.clone(),
            per_destination: self.site.concurrency.per_destination,
            context: self.context.clone(),
            deadline: self.left(),
        }
    }

    fn left(&self) -> Duration {
        // At least a second, so that the child's own end says that the time is over.
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))
    }

    fn call<'a>(&'a self, staging: &'a Path) -> Call<'a> {
        Call {
            target: &self.target,
            run: self.record.id,
            staging,
            inputs: &self.inputs,
            context: &self.context,
            limits: self.limits(),
        }
    }

    fn limits(&self) -> Limits {
        Limits { deadline: self.left(), no_progress: Some(SILENCE_MAX), ..Limits::default() }
    }

    fn warn(&mut self, trouble: Trouble) {
        self.remark.get_or_insert_with(|| trouble.clone());
        self.remark_on(trouble);
    }

    fn remark_on(&mut self, trouble: Trouble) {
        self.context.log.line(&format!("warning: {trouble}"));
        if self.record.warnings.len() < REMARKS_MAX {
            self.record.warnings.push(trouble);
        }
    }

    /// Something that was left out by design, by itself or accepted: said, and the run stays a success.
    fn note(&mut self, trouble: Trouble) {
        if self.record.notices.contains(&trouble) {
            return;
        }
        self.context.log.line(&format!("notice: {trouble}"));
        if self.record.notices.len() < REMARKS_MAX {
            self.record.notices.push(trouble);
        }
    }

    /// Moves the run one state on: durable before anything of that state is done.
    async fn advance(&mut self, event: Event, note: Option<String>) -> Result<(), Stop> {
        if self.context.cancel.is_cancelled() {
            return Err(Stop {
                outcome: Outcome::Cancelled,
                trouble: Trouble::new(codes::CANCELLED, "cancelled by an operator"),
            });
        }
        let state = run::next(self.record.state, event)
            .map_err(|error| Stop::failed(Trouble::new(codes::INTERNAL, error.to_string())))?;
        self.record.state = state;
        self.sequence += 1;
        let at = self.world.clock.now();
        let write = || -> Result<Batch, crate::store::StoreError> {
            let mut batch = Batch::default();
            batch.put_run(&self.record)?;
            batch.push_event(self.record.id, self.sequence, &RunEvent { at, state, note: note.clone() })?;
            Ok(batch)
        };
        let batch = write().map_err(|error| Stop::failed(error.trouble()))?;
        let ledger = self.world.ledger.clone();
        tokio::task::spawn_blocking(move || ledger.commit(batch))
            .await
            .map_err(|error| Stop::failed(Trouble::new(codes::INTERNAL, format!("the store stopped: {error}"))))?
            .map_err(|error| Stop::failed(error.trouble()))?;
        self.context.log.line(&format!(
            "state: {}{}",
            state.as_str(),
            note.map(|n| format!(" ({n})")).unwrap_or_default()
        ));
        tell(&self.world, &self.record, state, None, 0, 0);
        Ok(())
    }
}

fn tell(world: &World, record: &RunRecord, state: RunState, detail: Option<String>, done: u64, total: u64) {
    world.live.publish(RunUpdate {
        run: record.id,
        job: record.job.clone(),
        at: world.clock.now(),
        state,
        detail,
        bytes_done: done,
        bytes_total: total,
    });
}
