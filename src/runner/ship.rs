//! One run into one destination: identity, snapshot, and afterwards retention.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::artifact::mount;
use crate::config::model::{Destination, Repository, Retention};
use crate::engine::{BackupReport, BackupRequest, Progress, RepositoryAccess, Restic};
use crate::error::Trouble;
use crate::process::Context;
use crate::run::judgement;
use crate::runner::world::World;
use crate::store::record::{RunRecord, Shipment};
use crate::types::Outcome;

/// Paths of unreadable files that a trouble names.
const UNREADABLE_SHOWN: usize = 5;

/// What is shipped, the same for every destination.
#[derive(Clone, Debug)]
pub struct Cargo {
    pub paths: Vec<PathBuf>,
    pub excludes: Vec<String>,
    pub tags: Vec<String>,
    pub host: String,
}

/// Where something goes and under what bounds.
#[derive(Clone)]
pub struct Route {
    pub world: Arc<World>,
    pub destination: Destination,
    pub per_destination: u32,
    pub context: Context,
    /// For each restic command.
    pub deadline: Duration,
}

/// Whether the destination can be used now.
///
/// # Errors
/// When a mount point that it needs is not mounted.
pub fn present(destination: &Destination) -> Result<(), Trouble> {
    let Repository::Local { require_mount, .. } = &destination.repository;
    match require_mount {
        Some(point) if !mount::is_point(point) => Err(Trouble::new(
            "destination_unmounted",
            format!("destination {}: {} is not mounted", destination.name, point.display()),
        )
        .with_hint(format!("mount {}; a deferred run is tried again by itself", point.display()))),
        _ => Ok(()),
    }
}

impl Route {
    /// restic and the way into the repository, which is the pinned one or is pinned now.
    ///
    /// # Errors
    /// When it is not mounted, restic or the password is missing, or the repository is another one.
    pub async fn open(&self) -> Result<(Restic, RepositoryAccess), Trouble> {
        present(&self.destination)?;
        let restic = self.world.restic().await.map_err(|error| error.trouble())?.with_deadline(self.deadline);
        let mut access = self.world.access(&self.destination)?;
        if access.expected_id.is_none() {
            let id = restic.open_or_init(&access, &self.context).await.map_err(|error| error.trouble())?;
            access.expected_id = Some(id.clone());
            self.world
                .note_destination(&self.destination, |record| {
                    record.repository_id = Some(id);
                    record.location.clone_from(&access.location);
                })
                .map_err(|error| error.trouble())?;
        }
        Ok((restic, access))
    }
}

/// Makes one snapshot of `cargo`; what went wrong is in the shipment.
pub async fn ship(
    route: &Route,
    cargo: &Cargo,
    parent: Option<String>,
    mut on_progress: impl FnMut(u64, u64) + Send,
) -> Shipment {
    let start = Instant::now();
    let made = attempt(route, cargo, parent, |progress| on_progress(progress.bytes_done, progress.bytes_total)).await;
    let shipment = shipment(route, made, start.elapsed());
    let (trouble, now) = (shipment.trouble.clone(), route.world.clock.now());
    let noted = route.world.note_destination(&route.destination, |record| {
        record.trouble = trouble;
        record.last_used = Some(now);
    });
    if let Err(error) = noted {
        tracing::warn!(destination = %route.destination.name, error = %crate::error::chain(&error), "cannot note the shipment");
    }
    shipment
}

fn shipment(route: &Route, made: Result<BackupReport, Trouble>, took: Duration) -> Shipment {
    let mut shipment = Shipment {
        destination: route.destination.name.clone(),
        outcome: Outcome::Failed,
        snapshot: None,
        bytes_added: 0,
        files: 0,
        bytes: 0,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        trouble: None,
        forgotten: None,
    };
    match made {
        Ok(report) => {
            shipment.outcome = if report.partial { Outcome::Partial } else { Outcome::Success };
            shipment.trouble = report.partial.then(|| unreadable(&report.unreadable));
            shipment.bytes_added = report.bytes_added;
            shipment.files = report.files;
            shipment.bytes = report.bytes_processed;
            shipment.snapshot = Some(report.snapshot);
        }
        Err(trouble) => {
            if trouble.code == "cancelled" {
                shipment.outcome = Outcome::Cancelled;
            }
            shipment.trouble = Some(trouble);
        }
    }
    shipment
}

fn unreadable(files: &[String]) -> Trouble {
    let shown: Vec<&str> = files.iter().take(UNREADABLE_SHOWN).map(String::as_str).collect();
    let more = files.len().saturating_sub(shown.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    Trouble::new("files_unreadable", format!("{} files could not be read: {}{tail}", files.len(), shown.join(", ")))
        .with_hint("give the daemon's user read access, or exclude them")
}

async fn attempt(
    route: &Route,
    cargo: &Cargo,
    parent: Option<String>,
    on_progress: impl FnMut(Progress) + Send,
) -> Result<BackupReport, Trouble> {
    let (_, berths) = route.world.berths(&route.destination.name, route.per_destination);
    let stopped = || Trouble::new("cancelled", format!("cancelled before shipping to {}", route.destination.name));
    let _berth = tokio::select! {
        berth = berths.acquire_owned() => berth.map_err(|_| stopped())?,
        () = route.context.cancel.cancelled() => return Err(stopped()),
    };
    let (restic, access) = route.open().await?;
    let request = BackupRequest {
        paths: cargo.paths.clone(),
        excludes: cargo.excludes.clone(),
        tags: cargo.tags.clone(),
        host: cargo.host.clone(),
        parent,
        time: None,
    };
    restic.backup(&access, &request, &route.context, on_progress).await.map_err(|error| error.trouble())
}

/// A retention that would forget many snapshots that the rules before kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub forgotten: usize,
    pub there: usize,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

/// What `retention` would forget of the job that `before` would not have, when that is too much to do unasked.
///
/// # Errors
/// When restic could not tell; nothing is forgotten then.
pub async fn cut(
    route: &Route,
    run: &RunRecord,
    before: Option<&Retention>,
    retention: &Retention,
) -> Result<Option<Cut>, Trouble> {
    let (_, berths) = route.world.berths(&route.destination.name, route.per_destination);
    let _berth = berths.acquire_owned().await.map_err(|_| Trouble::new("cancelled", "the daemon is stopping"))?;
    let (restic, access) = route.open().await?;
    let failed = |error: crate::engine::EngineError| error.trouble();
    let mut gone = restic.would_forget(&access, &run.job, retention, &route.context).await.map_err(failed)?;
    if gone.is_empty() {
        return Ok(None);
    }
    if let Some(before) = before {
        let usual = restic.would_forget(&access, &run.job, before, &route.context).await.map_err(failed)?;
        gone.retain(|id| !usual.contains(id));
    }
    let tags = crate::engine::job_tags(&run.job);
    let there = restic.snapshots(&access, &tags, &route.context).await.map_err(failed)?;
    let times = || there.iter().filter(|snapshot| gone.contains(&snapshot.id)).map(|snapshot| snapshot.time);
    let (Some(oldest), Some(newest)) = (times().min(), times().max()) else { return Ok(None) };
    let much = judgement::cuts_much(gone.len(), there.len(), before.is_some());
    Ok(much.then_some(Cut { forgotten: gone.len(), there: there.len(), oldest, newest }))
}

/// Applies the policy's keep rules to the job's snapshots; answers how many went.
///
/// # Errors
/// When restic could not do it; nothing is lost then.
pub async fn retain(route: &Route, run: &RunRecord, retention: &Retention) -> Result<u64, Trouble> {
    let (_, berths) = route.world.berths(&route.destination.name, route.per_destination);
    let _berth = berths.acquire_owned().await.map_err(|_| Trouble::new("cancelled", "the daemon is stopping"))?;
    let (restic, access) = route.open().await?;
    let removed = restic.forget(&access, &run.job, retention, &route.context).await.map_err(|error| error.trouble())?;
    Ok(removed.len() as u64)
}
