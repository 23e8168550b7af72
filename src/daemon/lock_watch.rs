//! Looks from time to time which repositories are locked by somebody else, so that a lock that was left behind is seen
//! before a prune fails because of it.
//!
//! Who has no lock costs one question to the storage; only where there is one is restic asked whose it is. It is done behind
//! what an operator asks for as well. A look that fails changes nothing: that the storage does not answer is told elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::model::{Config, Destination};
use crate::error::Trouble;
use crate::process::{Context, Log, Redactor};
use crate::runner::live::OthersLock;
use crate::runner::route;
use crate::runner::world::World;

/// Between two looks, and from the start to the first.
const LOOK_EVERY: Duration = Duration::from_mins(10);
const FIRST: Duration = Duration::from_mins(1);

/// The longest that one call of restic may take.
const LOOK_MAX: Duration = Duration::from_mins(5);

/// Looks until `cancel`.
pub(super) async fn keep(
    world: Arc<World>,
    config: watch::Receiver<Arc<Config>>,
    changed: Arc<Notify>,
    cancel: CancellationToken,
) {
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = LOOK_EVERY;
        let config = config.borrow().clone();
        world.live.only_locks_of(|name| config.destinations.contains_key(name));
        for destination in config.destinations.values() {
            tokio::select! {
                () = cancel.cancelled() => return,
                has_changed = look(&world, destination, &cancel) => if has_changed {
                    changed.notify_one();
                }
            }
        }
    }
}

/// Looks at one repository; whether it is otherwise than before.
pub(super) async fn look(world: &World, destination: &Destination, cancel: &CancellationToken) -> bool {
    match oldest(world, destination, cancel).await {
        Ok(Some(lock)) => world.live.locked(destination.name.clone(), lock),
        // What was seen before says nothing of now.
        Ok(None) => world.live.unknown_lock(&destination.name),
        Err(trouble) => {
            tracing::debug!(destination = %destination.name, %trouble, "cannot look for locks");
            world.live.unknown_lock(&destination.name)
        }
    }
}

/// The oldest lock of others; outer none: there is no repository yet, or it is away.
async fn oldest(
    world: &World,
    destination: &Destination,
    cancel: &CancellationToken,
) -> Result<Option<Option<OthersLock>>, Trouble> {
    let known = world.ledger.destination(&destination.name).map_err(|error| error.trouble())?;
    if known.is_none_or(|record| record.repository_id.is_none() || record.away_since.is_some()) {
        return Ok(None);
    }
    route::mounted(destination).await?;
    let restic = world.restic().await.map_err(|error| error.trouble())?.with_deadline(LOOK_MAX);
    let access = world.access(destination).await?;
    let context = Context {
        cancel: cancel.child_token(),
        log: Log::discard(),
        redact: Redactor::default(),
        mark: format!("{}:locks", world.state_id),
    };
    let locks = restic.locks_of_others(&access, &context).await.map_err(|error| error.trouble())?;
    let oldest = locks.into_iter().min_by_key(|lock| lock.info.created);
    Ok(Some(oldest.map(|lock| OthersLock {
        id: lock.short().to_owned(),
        holder: lock.holder(),
        exclusive: lock.info.exclusive,
        since: lock.info.created,
    })))
}
