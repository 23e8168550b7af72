//! Small work beside: exports of the store when something changed, and no more old logs than are useful.
//!
//! What was written since the newest export is lost with the store, so there is one soon after each change and at the end.
//! Its cost bounds how often: a store that takes long to export is exported less often.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::runner::world::World;
use crate::store::StoreError;

/// Between two looks whether something was written since the last export.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Between two exports at least, and how many times as long as one takes: half a percent of the time.
const EXPORT_EVERY: Duration = Duration::from_mins(5);
const EXPORT_SHARE: u32 = 200;

/// Between two rounds of the rest; the first comes soon after the start.
const ROUND_EVERY: Duration = Duration::from_secs(24 * 3600);
const FIRST: Duration = Duration::from_secs(30);

/// How long the export at the end may take: what manages the service waits for us.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Exports that stay, and days of which one does.
const EXPORTS_KEPT: usize = 7;

/// Log files that stay, the newest; a run's record outlives its log.
const LOGS_KEPT: usize = 5000;

/// What is remembered between two exports.
struct Exports {
    /// How many batches the newest one has; none: none was written since the start.
    writes: Option<u64>,
    not_before: Instant,
}

/// Does its rounds until `cancel`.
pub(super) async fn keep(world: Arc<World>, cancel: CancellationToken) {
    let begun = Instant::now();
    let mut exports = Exports { writes: None, not_before: begun };
    let mut round_due = begun;
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = LOOK_EVERY;
        let now = Instant::now();
        // A day without any change still has its export, so that an old one can be told from a daemon that is dead.
        let is_new = exports.writes != Some(world.ledger.store().writes()) || now >= round_due;
        if is_new && now >= exports.not_before {
            exports = export(&world).await;
        }
        if now >= round_due {
            round_due = now + ROUND_EVERY;
            let world = world.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || round(&world)).await {
                tracing::error!(%error, "the daily round broke");
            }
        }
    }
}

/// Exports once more what the daemon's last work wrote.
pub(super) async fn export_at_the_end(world: Arc<World>) {
    if world.live.state().is_some() {
        // What is there is not what was opened; the newest whole export is the better one.
        return;
    }
    if tokio::time::timeout(LAST_MAX, export(&world)).await.is_err() {
        tracing::warn!("the export at the end takes too long and is left out");
    }
}

async fn export(world: &Arc<World>) -> Exports {
    let (begun, writes) = (Instant::now(), world.ledger.store().writes());
    let theirs = world.clone();
    let done = tokio::task::spawn_blocking(move || write_export(&theirs)).await;
    let made = match done {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::error!(error = %crate::error::chain(&error), "cannot export the store; it is tried again");
            false
        }
        Err(error) => {
            tracing::error!(%error, "the export of the store broke");
            false
        }
    };
    let pause = EXPORT_EVERY.max(begun.elapsed().saturating_mul(EXPORT_SHARE));
    Exports { writes: made.then_some(writes), not_before: Instant::now() + pause }
}

/// Writes an export now; blocking.
pub(super) fn write_export(world: &World) -> Result<PathBuf, StoreError> {
    crate::store::export::write_export(world.ledger.store(), &world.paths.export(), EXPORTS_KEPT, world.clock.now())
}

fn round(world: &World) {
    sweep_scratch();
    if let Err(error) = prune_logs(&world.paths.logs(), LOGS_KEPT) {
        tracing::warn!(%error, "cannot remove old logs");
    }
}

/// What killed processes left in the temporary directory.
pub(super) fn sweep_scratch() {
    for path in crate::process::sweep_scratch() {
        tracing::info!(path = %path.display(), "removed what a killed process left");
    }
}

/// Removes all but the newest `keep` logs; their names begin with the time.
fn prune_logs(dir: &Path, keep: usize) -> std::io::Result<()> {
    let mut logs: Vec<_> = std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let excess = logs.len().saturating_sub(keep);
    for path in logs.iter().take(excess) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["01A.log", "01B.log", "01C.log", "other.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        prune_logs(dir.path(), 2).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["01B.log", "01C.log", "other.txt"]);
    }
}
