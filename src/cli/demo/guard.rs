//! Whatever ends the demo (done, failed, Ctrl-C, TERM), its daemon, its cluster and its temporary directory go with it.

use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::demo::postgres::Cluster;
use crate::error::{Trouble, codes};

/// How long the daemon may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// What has to go, in this order.
#[derive(Default)]
struct Kept {
    daemon: Option<Child>,
    cluster: Option<Cluster>,
    directory: Option<TempDir>,
}

/// Holds what has to go; a clone is the same guard.
#[derive(Clone, Default)]
pub(crate) struct Guard {
    kept: Arc<Mutex<Kept>>,
    /// The steps are over: a signal is the wanted end.
    waiting: Arc<AtomicBool>,
}

impl Guard {
    /// A guard that cleans up and ends the process on SIGINT and SIGTERM.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub(crate) fn watch_signals() -> Result<Self, Trouble> {
        let guard = Self::default();
        let failed =
            |error: std::io::Error| Trouble::new(codes::INTERNAL, format!("cannot listen for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
        };
        let theirs = guard.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            theirs.clean_up();
            let code = if theirs.waiting.load(Ordering::SeqCst) { 0 } else { 130 };
            // The steps run in another thread that cannot be told to unwind.
            std::process::exit(code);
        });
        Ok(guard)
    }

    pub(crate) fn temporary_directory(&self) -> Result<PathBuf, Trouble> {
        let directory = tempfile::Builder::new().prefix("larder-demo-").tempdir().map_err(|error| {
            Trouble::new(codes::CANNOT_WRITE, format!("cannot make a temporary directory: {error}"))
        })?;
        let path = directory.path().to_owned();
        self.with(|kept| kept.directory = Some(directory));
        Ok(path)
    }

    pub(crate) fn keep_cluster(&self, cluster: Cluster) {
        self.with(|kept| kept.cluster = Some(cluster));
    }

    pub(crate) fn keep_daemon(&self, daemon: Child) {
        self.with(|kept| kept.daemon = Some(daemon));
    }

    pub(crate) fn daemon_ended(&self) -> bool {
        self.with(|kept| kept.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None))))
    }

    /// Returns when the daemon has ended by itself; a signal ends the process before.
    pub(crate) fn wait_for_signal(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        while !self.daemon_ended() {
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Stops and removes everything; a second call finds nothing to do.
    pub(crate) fn clean_up(&self) {
        // The lock is held to the end, so that a signal that comes now waits for it.
        self.with(|kept| {
            if let Some(daemon) = kept.daemon.take() {
                stop(daemon);
            }
            drop(kept.cluster.take());
            drop(kept.directory.take());
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Closes the daemon's standard input, which stops it; kills it where that does not help.
fn stop(mut daemon: Child) {
    drop(daemon.stdin.take());
    let start = Instant::now();
    while start.elapsed() < STOP_MAX {
        if !matches!(daemon.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}
