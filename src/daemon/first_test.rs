//! The first test of a destination: asked once when a revision names it, or names another place for it.
//!
//! A push does not wait for it, and nobody gets a mail: who pushed looks at the page, and what is wrong then is told again by
//! the first run. It asks the storage alone, as `destination test` does first, and writes nothing into a directory of this
//! host, in which a first run may be making a repository just now.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::probe::probed;
use super::stop::stopped;
use super::upkeep::{self, Used};
use crate::config::model::Config;
use crate::engine::{self, EngineError};
use crate::error::{Kind, Trouble};
use crate::runner::control::OperationId;
use crate::runner::route::{self, Route};
use crate::runner::world::World;
use crate::store::record::Tested;

/// The longest that one may take; it is usually over in seconds, whatever the storage does.
const TEST_MAX: Duration = Duration::from_mins(2);

/// Tests what `config` names and nobody tested where it lies.
pub(super) fn start(world: &Arc<World>, config: &Config, tasks: &mut JoinSet<()>) {
    let tested = match world.ledger.destinations() {
        Ok(all) => all,
        Err(error) => {
            tracing::error!(error = %crate::error::chain(&error), "cannot read which destinations were tested");
            return;
        }
    };
    for destination in config.destinations.values() {
        let location = destination.repository.location();
        let is_known = tested.iter().any(|record| {
            record.name == destination.name && record.tested.as_ref().is_some_and(|test| test.location == location)
        });
        if is_known {
            continue;
        }
        let now = world.clock.now();
        let id = world.operations.start(format!("test {} (first named)", destination.name), now);
        let route = upkeep::route(world, config, destination, id, &CancellationToken::new(), TEST_MAX);
        let used = Used::of(config, &destination.name);
        tasks.spawn(async move {
            let result = match tokio::time::timeout(TEST_MAX, test(&route, id, used)).await {
                Ok(result) => result,
                // Asked again when the config is applied the next time.
                Err(_) => Err(stopped()),
            };
            if let Err(trouble) = &result {
                tracing::warn!(destination = %route.destination.name, %trouble, "the first test failed");
            }
            note(&route, result.as_ref().err(), now);
            route.world.operations.finish(id, route.world.clock.now(), result);
        });
    }
}

async fn test(route: &Route, id: OperationId, used: Used) -> Result<(), Trouble> {
    if route.destination.repository.local().is_none() {
        return probed(route, id, used == Used::Yes).await;
    }
    route::mounted(&route.destination).await?;
    route::may_be_made(&route.destination).await?;
    let access = route.world.access(&route.destination).await?;
    match engine::fits(&access).await {
        // What nothing is backed up to need not be written.
        Err(EngineError::NotWritable { .. }) if used == Used::No => Ok(()),
        fits => fits.map_err(|error| error.trouble()),
    }
}

/// `begun`: what a run did since then says more.
fn note(route: &Route, trouble: Option<&Trouble>, begun: Timestamp) {
    // What passes by itself is asked again when the config is applied the next time.
    if trouble.and_then(Trouble::kind).is_some_and(|kind| kind == Kind::Cancelled || kind.waits()) {
        return;
    }
    let noted = route.world.note_destination(&route.destination, |record| {
        record.tested = Some(Tested::now(&route.destination, begun));
        if record.trouble.is_none() && record.last_used.is_none_or(|used| used < begun) {
            record.trouble = trouble.cloned();
        }
    });
    if let Err(error) = noted {
        tracing::error!(error = %crate::error::chain(&error), "cannot note the first test");
    }
}
