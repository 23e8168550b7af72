//! Small daily work: an export of the store, and no more old logs than are useful.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::runner::world::World;

/// Between two rounds; the first comes soon after the start.
const EVERY: Duration = Duration::from_secs(24 * 3600);
const FIRST: Duration = Duration::from_secs(60);

/// Exports that stay.
const EXPORTS_KEPT: usize = 7;

/// Log files that stay, the newest; a run's record outlives its log.
const LOGS_KEPT: usize = 5000;

/// Does its rounds until `cancel`.
pub(super) async fn keep(world: Arc<World>, cancel: CancellationToken) {
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = EVERY;
        let world = world.clone();
        let round = tokio::task::spawn_blocking(move || round(&world)).await;
        if let Err(error) = round {
            tracing::error!(%error, "the daily round broke");
        }
    }
}

fn round(world: &World) {
    sweep_scratch();
    let made = crate::store::export::write_export(
        world.ledger.store(),
        &world.paths.export(),
        EXPORTS_KEPT,
        world.clock.now(),
    );
    if let Err(error) = made {
        tracing::error!(error = %crate::error::chain(&error), "cannot export the store");
    }
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
