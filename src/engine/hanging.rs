//! Ends a restic whose repository stopped answering: a restic that hangs in the kernel says nothing and waits for ever.

use std::time::Duration;

use super::RepositoryAccess;
use super::repository::local_path;
use crate::look::{self, Silent};
use crate::process::{self, Command, Context, Finished, Watch};

/// How often a repository that is worked on is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// Runs `command`; where the place of a repository that it works on stops answering meanwhile, cancels `context` and says so.
pub(super) async fn run(
    watched: [Option<&RepositoryAccess>; 2],
    command: Command,
    context: &Context,
    watch: &mut impl Watch,
) -> (Finished, Option<Silent>) {
    let running = process::run_watched(command, context, watch);
    tokio::pin!(running);
    let [one, other] = watched.map(|access| async move {
        match access.and_then(local_path) {
            Some(path) => look::until_silent(&path, WATCH_EVERY).await,
            None => std::future::pending().await,
        }
    });
    let silent = async {
        tokio::select! {
            silent = one => silent,
            silent = other => silent,
        }
    };
    tokio::select! {
        finished = &mut running => (finished, None),
        silent = silent => {
            context.cancel.cancel();
            (running.await, Some(silent))
        }
    }
}
