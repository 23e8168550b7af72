//! Work that is no run: scheduled prune and check of destinations, and what an operator asks for.
//!
//! Each is an operation on the board; a destination's slots keep it apart from the runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lock_watch;
use super::object_locks;
use super::probe::{only_appended_to, probed};
use super::stop::stopped;
use crate::config::model::{Config, Destination, ScheduleSpec, Site};
use crate::engine::{self, KeyUse, RepositoryAccess, Restic};
use crate::error::{Kind, Trouble, codes};
use crate::process::{Context, Redactor};
use crate::runner::control::{DestinationAction, OperationId};
use crate::runner::holdings;
use crate::runner::route::{Opened, Route};
use crate::runner::world::World;
use crate::schedule::Schedule;
use crate::schedule::slots::{self, UpkeepDecision};
use crate::store::record::{DestinationRecord, Tested, Upkeep};
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// The longest that one piece of upkeep may take.
pub(super) const UPKEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is kept of an operation's output, in bytes.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// What is to be done with a destination.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) action: DestinationAction,
    /// For an unlock: the lock that is said to be dead, by its id.
    pub(crate) lock: Option<String>,
}

/// The next time that some destination wants upkeep.
pub(crate) fn next_due(world: &World) -> Option<Timestamp> {
    let destinations = world
        .ledger
        .destinations()
        .inspect_err(|error| tracing::error!(error = %crate::error::chain(error), "cannot read the destinations"))
        .unwrap_or_default();
    destinations.iter().flat_map(|each| [each.prune.next, each.check.next, each.copy.next_look()]).flatten().min()
}

/// Starts what is due; the slot is claimed in the store before anything is done.
pub(crate) fn start_due(
    world: &Arc<World>,
    config: &Config,
    now: Timestamp,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) {
    for destination in config.destinations.values() {
        let specs = [
            (DestinationAction::Prune, destination.prune.as_ref().map(|prune| &prune.schedule)),
            (DestinationAction::Check, destination.check.as_ref().map(|check| &check.schedule)),
        ];
        for (action, spec) in specs {
            let Some(spec) = spec else { continue };
            match claim(world, destination, action, spec, now) {
                Ok(true) => {
                    let title = format!("{} {} (scheduled)", verb(action), destination.name);
                    let start = Start { world, config, destination, title, tasks, cancel };
                    begin(start, Wanted { action, lock: None });
                }
                Ok(false) => {}
                Err(trouble) => tracing::error!(destination = %destination.name, %trouble, "cannot claim the upkeep"),
            }
        }
    }
}

fn claim(
    world: &World,
    destination: &Destination,
    action: DestinationAction,
    spec: &ScheduleSpec,
    now: Timestamp,
) -> Result<bool, Trouble> {
    let schedule = Schedule::parse(&spec.expression, &spec.timezone)
        .map_err(|error| Trouble::new(codes::INVALID_SCHEDULE, error.to_string()))?;
    let mut due = false;
    world
        .note_destination(destination, |record| {
            let upkeep = upkeep_of(record, action);
            let (decision, next) = slots::decide_upkeep(&schedule, upkeep.next, now);
            upkeep.next = next;
            if decision == UpkeepDecision::Run {
                due = true;
                upkeep.last = Some(now);
            }
        })
        .map_err(|error| error.trouble())?;
    Ok(due)
}

fn upkeep_of(record: &mut DestinationRecord, action: DestinationAction) -> &mut Upkeep {
    match action {
        DestinationAction::Prune => &mut record.prune,
        DestinationAction::Forget => &mut record.forget,
        DestinationAction::ExtendLocks => &mut record.locks,
        DestinationAction::Copy => &mut record.copy.upkeep,
        _ => &mut record.check,
    }
}

fn verb(action: DestinationAction) -> &'static str {
    match action {
        DestinationAction::Test => "test",
        DestinationAction::Check => "check",
        DestinationAction::Prune => "prune",
        DestinationAction::Forget => "forget",
        DestinationAction::Unlock => "unlock",
        DestinationAction::Keys => "keys of",
        DestinationAction::Pin => "pin",
        DestinationAction::ExtendLocks => object_locks::VERB,
        DestinationAction::Gather => "statistics of",
        DestinationAction::Copy => "copy",
    }
}

/// Starts what an operator asked for on a destination; answers at once.
///
/// # Errors
/// When there is no such destination.
pub(crate) fn start_action(
    world: &Arc<World>,
    config: &Config,
    name: &Name,
    wanted: Wanted,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<OperationId, Trouble> {
    let destination = world.destination(config, name)?;
    let title = format!("{} {}", verb(wanted.action), destination.name);
    Ok(begin(Start { world, config, destination: &destination, title, tasks, cancel }, wanted))
}

/// What an operation on a destination is started with.
pub(super) struct Start<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) config: &'a Config,
    pub(super) destination: &'a Destination,
    /// What the board calls it.
    pub(super) title: String,
    pub(super) tasks: &'a mut JoinSet<()>,
    pub(super) cancel: &'a CancellationToken,
}

/// Whether the locks of the repository are looked at when an operation is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    Looked,
    Left,
}

impl Start<'_> {
    /// Puts the operation on the board and does its `work` in a task of its own; what that comes to is the operation's end.
    /// `longest` is for each call of restic.
    pub(super) fn operation<W>(
        self,
        longest: Duration,
        locks: Locks,
        work: impl FnOnce(Arc<Route>, OperationId) -> W,
    ) -> OperationId
    where
        W: Future<Output = Result<Vec<String>, Trouble>> + Send + 'static,
    {
        let Self { world, config, destination, title, tasks, cancel } = self;
        let id = world.operations.start(title, world.clock.now());
        let route = Arc::new(route(world, config, destination, id, cancel, longest));
        let work = work(route.clone(), id);
        tasks.spawn(async move {
            let result = work.await;
            route.world.operations.finish(id, route.world.clock.now(), said(&route.world, id, result));
            if locks == Locks::Looked {
                lock_watch::look(&route.world, &route.destination, &route.context.cancel).await;
            }
        });
        id
    }
}

pub(super) fn begin(start: Start<'_>, wanted: Wanted) -> OperationId {
    let site = start.config.site.clone();
    let used = Used::of(start.config, &start.destination.name);
    let locks = match wanted.action {
        DestinationAction::Keys | DestinationAction::Pin => Locks::Left,
        _ => Locks::Looked,
    };
    start.operation(UPKEEP_MAX, locks, move |route, id| async move {
        let action = wanted.action;
        let result = match &wanted.lock {
            Some(lock) => unlock_named(&route, id, lock).await,
            None => act(&route, id, &site, action, used).await,
        };
        let now = route.world.clock.now();
        if matches!(action, DestinationAction::Prune | DestinationAction::Check) {
            let trouble = result.as_ref().err().filter(|trouble| trouble.kind() != Some(Kind::Cancelled)).cloned();
            if let Err(error) = note_upkeep(&route, &site, action, trouble, None, now) {
                tracing::error!(error = %crate::error::chain(&error), "cannot note the upkeep");
            }
        }
        if action == DestinationAction::Test {
            note_test(&route, result.as_ref().err());
        }
        if let Err(trouble) = &result {
            tracing::error!(destination = %route.destination.name, %trouble, action = verb(action), "upkeep failed");
        }
        result
    })
}

/// Notes how a prune, check or forget ended, when a forget is tried `again`, and who is to be told of the change, in one batch.
pub(super) fn note_upkeep(
    route: &Route,
    site: &Site,
    action: DestinationAction,
    trouble: Option<Trouble>,
    again: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    route.world.with_destinations(|ledger| {
        let Some(mut record) = ledger.destination(&route.destination.name)? else { return Ok(()) };
        let before = upkeep_of(&mut record, action).clone();
        let mut after = Upkeep { last: Some(now), ..before.clone() };
        if trouble.is_none() {
            after.last_success = Some(now);
        }
        if action == DestinationAction::Forget {
            after.next = again;
        }
        after.trouble = trouble;
        let mut batch = Batch::default();
        if let Some(mail) =
            crate::alert::mail_for_upkeep(site, &route.destination.name, verb(action), &before, &after, now)
        {
            batch.enqueue_mail(&mail)?;
        }
        if action == DestinationAction::Prune && after.trouble.is_none() {
            object_locks::look_soon(&mut record, now);
        }
        *upkeep_of(&mut record, action) = after;
        batch.put_destination(&record)?;
        ledger.commit(batch)
    })
}

/// What a test found is what the pages say of the destination from then on; a lock of somebody who works there is no fault.
pub(super) fn note_test(route: &Route, trouble: Option<&Trouble>) {
    if matches!(trouble.and_then(Trouble::kind), Some(Kind::Cancelled | Kind::Busy)) {
        return;
    }
    // It answers; what vanished from it, or is newer than the state, is told apart.
    let trouble = trouble.filter(|trouble| !trouble.kind().is_some_and(Kind::is_of_snapshots));
    let now = route.world.clock.now();
    if let Err(error) = route.world.note_destination(&route.destination, |record| {
        record.tested = Some(Tested::now(&route.destination, now));
        record.trouble = trouble.cloned();
    }) {
        tracing::error!(error = %crate::error::chain(&error), "cannot note the test");
    }
}

/// Puts the lines of a good end on the board.
pub(super) fn said(world: &World, id: OperationId, result: Result<Vec<String>, Trouble>) -> Result<(), Trouble> {
    for line in result? {
        world.operations.line(id, &line);
    }
    Ok(())
}

pub(super) fn route(
    world: &Arc<World>,
    config: &Config,
    destination: &Destination,
    id: OperationId,
    cancel: &CancellationToken,
    longest: Duration,
) -> Route {
    Route {
        world: world.clone(),
        destination: destination.clone(),
        per_destination: config.site.concurrency.per_destination,
        context: Context {
            cancel: cancel.child_token(),
            log: world.log(id, LOG_BYTES_MAX),
            // The engine hides the password from whatever it says.
            redact: Redactor::default(),
            mark: format!("{}:{id}", world.state_id),
        },
        deadline: longest,
    }
}

async fn act(
    route: &Route,
    id: OperationId,
    site: &Site,
    action: DestinationAction,
    used: Used,
) -> Result<Vec<String>, Trouble> {
    // It goes by the storage alone, also where no repository opens any more.
    if action == DestinationAction::ExtendLocks {
        return object_locks::extended(route, id, site).await;
    }
    // What is asked of the storage alone waits for no run.
    if action == DestinationAction::Test {
        probed(route, id, used == Used::Yes).await?;
    }
    // Both shut out who copies from there or to there for hours, and wait for that before they keep a run waiting.
    let _alone = match action {
        DestinationAction::Prune | DestinationAction::Check => {
            Some(route.world.quiet.alone(&route.destination.name, &route.context.cancel).await?)
        }
        _ => None,
    };
    // Prune rewrites the repository.
    let _slots = if action == DestinationAction::Prune { every_slot(route).await? } else { slots(route, 1).await? };
    if action == DestinationAction::Prune && route.destination.append_only {
        return Err(only_appended_to(&route.destination.name, "nothing is pruned"));
    }
    let (restic, access) = match route.open_if_made().await? {
        Opened::Made(restic, access) => (restic, access),
        Opened::NotMade(trouble) => return Ok(vec![trouble.message]),
    };
    let name = &route.destination.name;
    // What is asked for by hand or at its time shows whether the password that a person has opens the repository.
    let restic = restic.by_password();
    match action {
        DestinationAction::Test => {
            // Listing needs the key, so it proves the password too.
            let found = holdings::list(route, &restic, &access, &site.artifacts).await?;
            found.complete(name)?;
            let id = access.expected_id.as_deref().map_or("", short);
            let mut lines = found.lines(name);
            if let Some(first) = lines.first_mut() {
                *first = format!("{}: repository {id} answers, {first}", access.location);
            }
            lines.extend(written_to(name, &access, used, "it can be read").await?);
            if used == Used::Yes && !engine::has_machine_key(&access) {
                lines.push(no_machine_key(name, access.machine_key));
            }
            Ok(lines)
        }
        // These went their own ways before.
        DestinationAction::ExtendLocks
        | DestinationAction::Forget
        | DestinationAction::Gather
        | DestinationAction::Copy => Ok(Vec::new()),
        DestinationAction::Check => check(route, site, (&restic, &access), used).await,
        DestinationAction::Prune => {
            // What vanished without us can be brought back only while its data is there.
            holdings::list(route, &restic, &access, &site.artifacts).await?.complete(name)?;
            let report = restic.prune(&access, &route.context).await.map_err(|error| error.trouble())?;
            Ok(report.lines)
        }
        DestinationAction::Pin => {
            let written = route.destination.repository_id.is_some();
            let id = access.expected_id.as_deref().unwrap_or_default();
            let hint = if written {
                format!("the document of {name} has it already")
            } else {
                format!(
                    "commit this line in the document of {name}: no other repository is ever taken for it, whatever is lost"
                )
            };
            Ok(vec![format!("repository_id: \"{id}\""), hint])
        }
        DestinationAction::Keys => {
            let keys = restic.keys(&access, &route.context).await.map_err(|error| error.trouble())?;
            let mut lines: Vec<String> = keys.iter().map(|key| key.line(name.as_str())).collect();
            match (access.machine_key, keys.iter().any(|key| key.used_for == KeyUse::ThisMachine)) {
                (true, true) => {}
                (_, false) => lines.push(no_machine_key(name, access.machine_key)),
                (false, true) => lines.push(format!(
                    "the machine key is not used (`machine_key: false` in the document of {name}); `restic key remove` removes it"
                )),
            }
            Ok(lines)
        }
        DestinationAction::Unlock => {
            let unlocked = restic.unlock_own_dead(&access, &route.context).await.map_err(|error| error.trouble())?;
            let now = Timestamp::now();
            let mut lines = vec![format!(
                "{} locks of ended processes of ours removed, {} others left alone",
                unlocked.removed.len(),
                unlocked.left.len()
            )];
            lines.extend(unlocked.left.iter().map(|lock| {
                format!(
                    "left: {}; if its process is surely dead: larder destination unlock {} --lock {}",
                    lock.show(now),
                    route.destination.name,
                    lock.short()
                )
            }));
            Ok(lines)
        }
    }
}

/// Why calls to it take longer than they need.
fn no_machine_key(name: &Name, wanted: bool) -> String {
    if wanted {
        "no machine key yet: the next run makes one, or its log says why it cannot".to_owned()
    } else {
        format!("no machine key: `machine_key: false` in the document of {name}")
    }
}

/// Slots of the destination: with all of them it waits for the runs, and they for it.
pub(super) async fn slots(route: &Route, count: u32) -> Result<OwnedSemaphorePermit, Trouble> {
    let (width, slots) = route.world.slots(&route.destination.name, route.per_destination);
    tokio::select! {
        slots = slots.acquire_many_owned(count.min(width)) => slots.map_err(|_| stopped()),
        () = route.context.cancel.cancelled() => Err(stopped()),
    }
}

pub(super) async fn every_slot(route: &Route) -> Result<OwnedSemaphorePermit, Trouble> {
    slots(route, u32::MAX).await
}

/// Opens the repository by its password and checks it, for who has the slots already.
pub(super) async fn checked(route: &Route, site: &Site, used: Used) -> Result<Vec<String>, Trouble> {
    let (restic, access) = route.open().await?;
    check(route, site, (&restic.by_password(), &access), used).await
}

async fn check(
    route: &Route,
    site: &Site,
    (restic, access): (&Restic, &RepositoryAccess),
    used: Used,
) -> Result<Vec<String>, Trouble> {
    let name = &route.destination.name;
    let read_data = route.destination.check.as_ref().and_then(|check| check.read_data.as_deref());
    restic.check(access, read_data, &route.context).await.map_err(|error| error.trouble())?;
    // An empty repository has no errors either.
    let found = holdings::list(route, restic, access, &site.artifacts).await?;
    found.complete(name)?;
    let mut lines = vec![match read_data {
        Some(part) => format!("no errors were found ({part} of the data was read)"),
        None => "no errors were found (structure only; set `check.read_data` to read data too)".to_owned(),
    }];
    lines.extend(found.lines(name));
    lines.extend(written_to(name, access, used, "no errors were found").await?);
    Ok(lines)
}

/// Whether backups go to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Used {
    Yes,
    /// No job of the config: what lies there is only kept.
    No,
}

impl Used {
    pub(super) fn of(config: &Config, name: &Name) -> Self {
        let used = !config.jobs_in(name).is_empty();
        if used { Self::Yes } else { Self::No }
    }
}

/// Says that backups will fail where nothing can be written, although all else is `well`.
async fn written_to(name: &Name, access: &RepositoryAccess, used: Used, well: &str) -> Result<Option<String>, Trouble> {
    let Err(error) = engine::writable(access).await else { return Ok(None) };
    if used == Used::No {
        return Ok(Some(format!("notice: {error}; nothing is backed up to {name}")));
    }
    let mut trouble = error.trouble();
    trouble.message = format!("backups to {name} will fail ({well}): {}", trouble.message);
    Err(trouble)
}

/// Removes the lock that somebody names. It takes no slot: it may watch for minutes, and runs don't wait for that.
async fn unlock_named(route: &Route, id: OperationId, lock: &str) -> Result<Vec<String>, Trouble> {
    let (restic, access) = route.open().await?;
    let say = |line: String| route.world.operations.line(id, &line);
    let removed = restic.unlock_named(&access, lock, &route.context, say).await.map_err(|error| error.trouble())?;
    Ok(vec![format!("removed the {}", removed.show(Timestamp::now()))])
}

pub(super) fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}
