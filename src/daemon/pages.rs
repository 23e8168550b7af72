//! Keeps the status pages fresh: soon after every change, and now and then so that they don't grow old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::runner::world::World;
use crate::status::View;
use crate::status::pages::Pages;
use crate::status::read::{Depth, Reading};

/// Changes that come closer than this are written together.
const GATHER: Duration = Duration::from_millis(300);

/// In a busy night the pages are written no more often than this: they show all targets, and nobody reads so fast.
const APART: Duration = Duration::from_secs(2);

/// A round even when nothing changed: progress, ages and overdue jobs move by themselves.
const EVERY: Duration = Duration::from_secs(60);

/// Writes pages until `cancel`, and once more then.
pub(super) async fn keep(world: Arc<World>, changed: Arc<Notify>, cancel: CancellationToken) {
    let mut pages = match Pages::open(&world.paths.pages(), None) {
        Ok(pages) => pages,
        Err(error) => {
            tracing::error!(error = %crate::error::chain(&error), "there are no status pages");
            return;
        }
    };
    loop {
        let begun = Instant::now();
        let (theirs, kept) = (world.clone(), pages);
        let written = tokio::task::spawn_blocking(move || {
            let mut pages = kept;
            write(&theirs, &mut pages);
            pages
        });
        pages = match written.await {
            Ok(pages) => pages,
            Err(error) => {
                tracing::error!(%error, "writing the pages broke");
                return;
            }
        };
        if cancel.is_cancelled() {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = changed.notified() => {
                let pause = APART.saturating_sub(begun.elapsed()).max(GATHER);
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

fn write(world: &World, pages: &mut Pages) {
    if world.live.state().is_some() {
        // They would go where nobody finds them; the server answers by itself meanwhile.
        return;
    }
    let reading = match Reading::take(&world.ledger, &world.live, Depth::Strips, world.clock.now()) {
        Ok(reading) => reading,
        Err(error) => {
            tracing::error!(error = %crate::error::chain(&error), "cannot read what the pages show");
            return;
        }
    };
    if let Err(error) = pages.write(&View::build(&reading, world.clock.now())) {
        tracing::error!(error = %crate::error::chain(&error), "cannot write the status pages");
    }
}
