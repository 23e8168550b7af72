//! The start after whatever happened: children of an earlier daemon are ended, unfinished runs are closed as
//! interrupted and tried again soon, what they staged is swept away.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::artifact::Shelf;
use crate::config::model::Config;
use crate::daemon::finish;
use crate::error::{Trouble, codes};
use crate::look;
use crate::process::{Context, Redactor, Spared};
use crate::runner::execute::Ended;
use crate::runner::hooks::{self, Moment};
use crate::runner::journal;
use crate::runner::world::World;
use crate::store::record::{JobRecord, RunRecord};
use crate::types::{JobId, Outcome, RunId};

/// What is kept of the hooks' output, in bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// How long the start waits for the artifact root to be swept.
const SWEEP_MAX: Duration = Duration::from_mins(2);

/// When stragglers are looked for, each pause after the one before.
const STRAGGLERS_AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(10)];

/// Mends what an earlier daemon left, and answers with the jobs.
pub(super) async fn recover(world: &World, config: &Config) -> Result<BTreeMap<JobId, JobRecord>, Trouble> {
    let (state_id, spared) = (world.state_id.clone(), Spared::new(world.paths.spared()));
    let leftovers = tokio::task::spawn_blocking(move || {
        spared.tidy();
        let leftovers = crate::process::reap_leftovers(&state_id, &spared.words());
        super::housekeeping::sweep_scratch();
        leftovers
    })
    .await;
    for leftover in leftovers.unwrap_or_default() {
        tracing::warn!(?leftover, "ended a child of an earlier daemon");
    }
    let mut jobs: BTreeMap<JobId, JobRecord> =
        world.ledger.jobs().map_err(|error| error.trouble())?.into_iter().map(|job| (job.id.clone(), job)).collect();
    let now = world.clock.now();
    for mut run in world.ledger.open_runs().map_err(|error| error.trouble())? {
        run.trouble = Some(
            Trouble::new(codes::INTERRUPTED, format!("the daemon ended while the run was {}", run.state.as_str()))
                .with_hint("the run is tried again by itself"),
        );
        tracing::warn!(run = %run.id, job = %run.job, state = run.state.as_str(), "closing an interrupted run");
        if run.started.is_some() {
            after(world, config, &run).await;
        }
        let ended = Ended::bare(run, Outcome::Interrupted);
        let written = finish::write(&world.ledger, &config.site, jobs.get(&ended.run.job), &ended, false, now)
            .map_err(|error| error.trouble())?;
        if let Some(job) = written.job {
            jobs.insert(job.id.clone(), job);
        }
    }
    // What a killed restore set aside is wanted by its recovery.
    sweep(config, journal::unfinished_restores(world)).await;
    Ok(jobs)
}

/// Looks again, soon after the start, for children that were just being started when the earlier daemon ended.
pub(super) async fn look_for_stragglers(state_id: String, spared: Spared, cancel: CancellationToken) {
    for pause in STRAGGLERS_AFTER {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let (state_id, spared) = (state_id.clone(), spared.clone());
        let looked = move || crate::process::reap_stragglers(&state_id, &spared.words());
        let found = tokio::task::spawn_blocking(looked).await;
        for straggler in found.unwrap_or_default() {
            tracing::warn!(?straggler, "ended a late child of an earlier daemon");
        }
    }
}

/// What `before` hooks of an interrupted run changed is mended by its `after` hooks, as at any other end.
async fn after(world: &World, config: &Config, run: &RunRecord) {
    let Some(target) = config.targets.get(&run.job.target).filter(|target| !target.hooks.after.is_empty()) else {
        return;
    };
    let context = Context {
        cancel: CancellationToken::new(),
        log: world.log(run.id, LOG_BYTES_MAX),
        redact: Redactor::default(),
        mark: format!("{}:{}", world.state_id, run.id),
    };
    let spared = Spared::new(world.paths.spared());
    if let Err(trouble) = hooks::run(Moment::After, &target.hooks.after, run, &context, &spared, Duration::MAX).await {
        tracing::error!(run = %run.id, %trouble, "an after hook of an interrupted run failed");
    }
}

async fn sweep(config: &Config, live: Vec<RunId>) {
    let shelf = Shelf::new(&config.site.artifacts);
    let root = shelf.root().to_owned();
    let looked = root.clone();
    match look::at(&root, look::LOOK_MAX, move || looked.exists()).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(silent) => return tracing::warn!(%silent, "the artifact root is not swept"),
    }
    match tokio::time::timeout(SWEEP_MAX, look::work(&root, move || shelf.sweep(&live))).await {
        Ok(Ok(Ok(swept))) => tracing::debug!(?swept, "swept the artifact root"),
        Err(_) | Ok(Err(_)) => tracing::warn!(root = %root.display(), "the artifact root is still being swept"),
        Ok(Ok(Err(error))) => {
            tracing::warn!(error = %crate::error::chain(&error), "cannot sweep the artifact root; it is tried at the next start");
        }
    }
}
