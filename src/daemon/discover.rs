//! Looks at the container engine now and then, for what no target covers. The keeper is never made to wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::model::{Config, Discover};
use crate::discovery::docker::{self, EngineInventory};
use crate::error::{Trouble, codes};
use crate::look;
use crate::runner::live::Discovery;
use crate::runner::world::World;

/// Between two looks.
const EVERY: Duration = Duration::from_mins(5);

/// The same while the engine does not answer.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// A look that takes longer makes what is there unknown.
const LOOK_MAX: Duration = Duration::from_mins(1);

/// Looks until `cancel`: at the start, every five minutes, and when the config says something else.
pub(super) async fn keep(
    world: Arc<World>,
    mut config: watch::Receiver<Arc<Config>>,
    seen: Arc<Notify>,
    changed: Arc<Notify>,
    cancel: CancellationToken,
) {
    loop {
        let discover = config.borrow_and_update().site.discover.clone();
        let found = match &discover {
            None => Discovery::None,
            Some(discover) => tokio::select! {
                () = cancel.cancelled() => return,
                found = look(&world, discover) => found,
            },
        };
        let pause = match (&found, &discover) {
            (_, None) => Duration::MAX,
            (Discovery::Known { .. }, _) => EVERY,
            _ => AGAIN_AFTER,
        };
        if let Discovery::Unknown { trouble, .. } = &found {
            tracing::warn!(%trouble, "the container engine does not answer; what is there is not known");
        }
        world.live.discovered(found);
        seen.notify_one();
        changed.notify_one();
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = &mut next => break,
                told = config.changed() => {
                    if told.is_err() || config.borrow().site.discover != discover {
                        break;
                    }
                }
            }
        }
        if config.has_changed().is_err() {
            return;
        }
    }
}

async fn look(world: &World, discover: &Discover) -> Discovery {
    let socket = discover.socket.clone();
    // It has bounds of its own for each answer; one that is late all the same ends by itself, unheard.
    let place = std::path::PathBuf::from(discover.socket.clone());
    let late = || Trouble::new(codes::ENGINE_SILENT, format!("{} does not answer in time", discover.socket));
    let told: Result<EngineInventory, Trouble> =
        look::at(&place, LOOK_MAX, move || docker::look(&socket)).await.unwrap_or_else(|_| Err(late()));
    let at = world.clock.now();
    match told {
        Ok(inventory) => Discovery::Known { inventory: Arc::new(inventory), at },
        Err(trouble) => Discovery::Unknown { trouble, at },
    }
}
