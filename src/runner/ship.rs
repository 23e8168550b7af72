//! One run into one destination: identity, snapshot, and afterwards retention.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::artifact::mount;
use crate::config::model::{Destination, Repository, Retention, Tolerate};
use crate::engine::{BackupReport, BackupRequest, Progress, RepositoryAccess, Restic};
use crate::error::Trouble;
use crate::process::Context;
use crate::run::judgement;
use crate::runner::world::World;
use crate::store::record::{RunRecord, Shipment};
use crate::types::{ByteSize, Outcome};

/// Paths of unreadable files that a trouble names.
const UNREADABLE_SHOWN: usize = 5;

/// What is shipped, the same for every destination.
#[derive(Clone, Debug)]
pub struct Cargo {
    pub paths: Vec<PathBuf>,
    pub excludes: Vec<String>,
    pub tags: Vec<String>,
    pub host: String,
    pub tolerate: Tolerate,
    /// Files of the artifacts, which are read beside the sources.
    pub artifact_files: u64,
    /// What the plugin counted in the sources; none where that says nothing of what is read.
    pub counted: Option<Counted>,
}

/// Files and bytes in the sources, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub files: u64,
    pub bytes: u64,
}

/// A shipment, and what was tolerated in it.
#[derive(Clone, Debug)]
pub struct Shipped {
    pub shipment: Shipment,
    pub notices: Vec<Trouble>,
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

/// Refuses to make a repository where the disk that should hold it seems to be away: it would lie on the system's disk, be
/// hidden by the next mount, and there would be two.
fn may_be_made(destination: &Destination) -> Result<(), Trouble> {
    let Repository::Local { path, create, .. } = &destination.repository;
    if *create || path.join("config").exists() {
        return Ok(());
    }
    let Some(place) = mount::missing_below(path) else { return Ok(()) };
    Err(Trouble::new(
        "destination_unmounted",
        format!(
            "destination {}: there is no repository at {}, and nothing is mounted there although it lies below {}",
            destination.name,
            path.display(),
            place.display()
        ),
    )
    .with_hint("mount its disk; if the repository is meant to lie on the system's disk, write `create: true` beside its `path`"))
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
            may_be_made(&self.destination)?;
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
) -> Shipped {
    let start = Instant::now();
    let made = attempt(route, cargo, parent, |progress| on_progress(progress.bytes_done, progress.bytes_total)).await;
    let shipped = shipment(route, cargo, made, start.elapsed());
    let shipment = &shipped.shipment;
    let (trouble, now) = (shipment.trouble.clone(), route.world.clock.now());
    let noted = route.world.note_destination(&route.destination, |record| {
        record.trouble = trouble;
        record.last_used = Some(now);
    });
    if let Err(error) = noted {
        tracing::warn!(destination = %route.destination.name, error = %crate::error::chain(&error), "cannot note the shipment");
    }
    shipped
}

fn shipment(route: &Route, cargo: &Cargo, made: Result<BackupReport, Trouble>, took: Duration) -> Shipped {
    let mut notices = Vec::new();
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
            let judged = judge(cargo, &report);
            shipment.outcome = if judged.trouble.is_some() { Outcome::Partial } else { Outcome::Success };
            shipment.trouble = judged.trouble;
            notices = judged.notices;
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
    Shipped { shipment, notices }
}

/// What came of a snapshot that is there: what is missing, and what may be missing.
struct Judged {
    trouble: Option<Trouble>,
    notices: Vec<Trouble>,
}

fn judge(cargo: &Cargo, report: &BackupReport) -> Judged {
    let read = report.files.saturating_sub(cargo.artifact_files);
    let allowed = cargo.tolerate.vanished_of(read + report.vanished_total);
    let mut judged = Judged { trouble: None, notices: Vec::new() };
    if report.tolerated_total > 0 {
        let what =
            told(report.tolerated_total, "could not be read, as `tolerate.unreadable` allows", &report.tolerated);
        judged.notices.push(Trouble::new("unreadable_tolerated", what));
    }
    if report.partial {
        judged.trouble = Some(
            Trouble::new("files_unreadable", told(report.unreadable_total, "could not be read", &report.unreadable))
                .with_hint("give the daemon's user read access, exclude them, or name them in `tolerate.unreadable`"),
        );
    } else if report.vanished_total > allowed {
        let what = told(report.vanished_total, "vanished while they were read", &report.vanished);
        judged.trouble = Some(Trouble::new("files_vanished", what).with_hint(
            "exclude what comes and goes, back up when it is quiet, or raise the target's `tolerate: {vanished: 1%}`",
        ));
    } else if let Some(trouble) = cargo.counted.and_then(|counted| fewer(counted, read, report, cargo)) {
        judged.trouble = Some(trouble);
    } else if report.vanished_total > 0 {
        let what = told(report.vanished_total, "vanished while they were read", &report.vanished);
        judged.notices.push(Trouble::new("files_vanished", format!("{what} (up to {allowed} are tolerated)")));
    }
    judged
}

/// Whether restic read much less than there was a moment before: then something was left out that nobody meant.
fn fewer(counted: Counted, read: u64, report: &BackupReport, cargo: &Cargo) -> Option<Trouble> {
    let met = read + report.vanished_total + report.tolerated_total;
    let files_missing = counted.files.saturating_sub(met);
    let files_allowed = counted.files.div_ceil(10).max(cargo.tolerate.vanished_of(counted.files));
    // Under accepted directories nobody knows how much there is.
    let known = report.tolerated_total == 0;
    let bytes_short = report.bytes_processed < counted.bytes / 2 && report.vanished_total == 0;
    (known && (files_missing > files_allowed || (counted.files > 0 && met == 0) || bytes_short)).then(|| {
        let message = format!(
            "{} files with {} were counted in the sources, but only {read} files with {} were read",
            counted.files,
            ByteSize(counted.bytes),
            ByteSize(report.bytes_processed)
        );
        Trouble::new("fewer_than_counted", message)
            .with_hint("look whether `exclude` leaves out more than it should, or whether files were deleted meanwhile")
    })
}

/// `1500 files could not be read: a, b and 1498 more`
fn told(total: u64, what: &str, named: &[String]) -> String {
    let shown: Vec<&str> = named.iter().take(UNREADABLE_SHOWN).map(String::as_str).collect();
    let more = total.saturating_sub(shown.len() as u64);
    let tail = if more > 0 && !shown.is_empty() { format!(" and {more} more") } else { String::new() };
    let noun = if total == 1 { "file" } else { "files" };
    format!("{total} {noun} {what}: {}{tail}", shown.join(", "))
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
        tolerated: cargo.tolerate.unreadable.clone(),
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
