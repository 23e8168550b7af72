//! When what the runs gave up is forgotten: once for many of them, as soon as a destination has nothing else to do.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::upkeep::{Locks, Start, UPKEEP_MAX, every_slot, note_upkeep};
use crate::config::model::Config;
use crate::daemon::keeper::Keeper;
use crate::error::{Kind, Trouble};
use crate::runner::control::{DestinationAction, OperationId};
use crate::runner::forget::{self, Rules};
use crate::runner::holdings::leaving::{self, FORGOTTEN_AFTER};
use crate::runner::quiet::Alone;
use crate::runner::world::World;
use crate::store::record::{JobRecord, is_of_who_is_away};
use crate::types::Name;

/// A run that begins so soon is waited for: what it gives up goes along.
const SOON: SignedDuration = SignedDuration::from_mins(3);

/// Who is in the way is asked again so often, and a forget that failed is tried again.
const BUSY_AGAIN: SignedDuration = SignedDuration::from_mins(1);
const FAILED_AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// What waits for so long is not only late: somebody is told.
const TOLD_AFTER: SignedDuration = SignedDuration::from_hours(24);

impl Keeper {
    /// Finds what an earlier daemon left to be forgotten.
    pub(super) fn find_given_up(&self) {
        if let Err(error) = forget::find(&self.world) {
            tracing::error!(error = %crate::error::chain(&error), "cannot read what is to be forgotten; the next run notes it again");
        }
    }

    /// Starts the forgets whose time has come.
    pub(super) fn start_forgetting(&mut self, now: Timestamp, cancel: &CancellationToken) {
        if self.state_trouble().is_some() {
            return;
        }
        let config = self.config.borrow().clone();
        for (name, waiting) in self.world.given_up.all() {
            let Some(destination) = config.destinations.get(&name).filter(|each| !each.append_only) else {
                self.world.given_up.take(&name);
                let world = self.world.clone();
                self.upkeep.spawn(async move {
                    let kept = tokio::task::spawn_blocking(move || leaving::keep_all(&world, &name)).await;
                    if let Ok(Err(error)) = kept {
                        tracing::error!(error = %crate::error::chain(&error), "cannot take back what was given up");
                    }
                });
                continue;
            };
            let is_late = now.duration_since(waiting.since) > FORGOTTEN_AFTER;
            if now < waiting.not_before || !(is_late || self.has_nothing_to_do(&config, &name, now)) {
                continue;
            }
            // Waiting in line keeps every backup waiting for the longest one, so that is the last resort.
            let (width, slots) = self.world.slots(&name, config.site.concurrency.per_destination);
            let permit = slots.try_acquire_many_owned(width).ok();
            let alone = self.world.quiet.alone_now(&name);
            let free = permit.zip(alone);
            if free.is_none() && now.duration_since(waiting.since) < TOLD_AFTER {
                self.world.given_up.put_back(&name, waiting.since, later(now, BUSY_AGAIN));
                continue;
            }
            let turn = Turn { free, since: self.world.given_up.take(&name) };
            let title = format!("forget {name} (scheduled)");
            let (world, tasks) = (&self.world, &mut self.upkeep);
            begin(Start { world, config: &config, destination, title, tasks, cancel }, turn);
        }
    }

    /// Whether no run that ships there is under way, waits, or begins soon.
    pub(super) fn has_nothing_to_do(&self, config: &Config, name: &Name, now: Timestamp) -> bool {
        let is_soon = |job: &JobRecord| job.next_run.is_some_and(|at| at.duration_since(now) <= SOON);
        let mut soon = self.jobs.values().filter(|job| job.orphaned_since.is_none() && is_soon(job));
        !self.ships_to(config, name) && !soon.any(|job| config.ships(&job.id, name))
    }
}

/// Starts a forget that an operator asked for; answers at once.
///
/// # Errors
/// When there is no such destination.
pub(super) fn by_hand(
    world: &Arc<World>,
    config: &Config,
    name: &Name,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<OperationId, Trouble> {
    let destination = world.destination(config, name)?;
    let turn = Turn { free: None, since: world.given_up.take(name) };
    let title = format!("forget {name}");
    Ok(begin(Start { world, config, destination: &destination, title, tasks, cancel }, turn))
}

/// All slots of a destination, and that nobody copies there.
type Free = (OwnedSemaphorePermit, Alone);

/// What a forget has with it.
struct Turn {
    /// All slots of the destination, where nobody copies; none: it waits in line for that.
    free: Option<Free>,
    /// Since when something waited for it.
    since: Option<Timestamp>,
}

/// Starts a forget.
fn begin(start: Start<'_>, turn: Turn) -> OperationId {
    let (site, rules) = (start.config.site.clone(), Rules::of(start.config, &start.destination.name));
    start.operation(UPKEEP_MAX, Locks::Left, move |route, _| async move {
        let name = &route.destination.name;
        let Turn { free, since } = turn;
        let result = forget(&route, &rules, free).await;
        let now = route.world.clock.now();
        let trouble = result.as_ref().err();
        if let (Some(trouble), Some(since)) = (trouble, since) {
            tracing::warn!(destination = %name, %trouble, "cannot forget what was given up; it is tried again");
            route.world.given_up.put_back(name, since, later(now, FAILED_AGAIN));
        }
        // By now, or by a run that gave something up meanwhile.
        let again =
            route.world.given_up.all().get(name).map(|waiting| waiting.not_before.max(later(now, FAILED_AGAIN)));
        let waits = since.is_some_and(|since| now.duration_since(since) < TOLD_AFTER);
        // What is only appended to refuses each, as it is meant to.
        if !route.destination.append_only
            && !trouble.is_some_and(|trouble| passes(trouble, waits))
            && let Err(error) = note_upkeep(&route, &site, DestinationAction::Forget, trouble.cloned(), again, now)
        {
            tracing::error!(error = %crate::error::chain(&error), "cannot note the forget");
        }
        result
    })
}

/// Whether nobody is told of it: who is away is told of by itself, and who is busy will be done while it `waits`.
fn passes(trouble: &Trouble, waits: bool) -> bool {
    trouble.kind() == Some(Kind::Cancelled)
        || is_of_who_is_away(trouble)
        || (waits && trouble.kind() == Some(Kind::Busy))
}

async fn forget(
    route: &crate::runner::route::Route,
    rules: &Rules,
    free: Option<Free>,
) -> Result<Vec<String>, Trouble> {
    if route.destination.append_only {
        return Err(super::probe::only_appended_to(&route.destination.name, "nothing is forgotten"));
    }
    let _free = match free {
        Some(free) => free,
        None => {
            let alone = route.world.quiet.alone(&route.destination.name, &route.context.cancel).await?;
            (every_slot(route).await?, alone)
        }
    };
    forget::forget(route, rules).await
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(now)
}
