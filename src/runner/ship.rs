//! One run into one destination: identity, snapshot, and afterwards retention.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::model::{Artifacts, Tolerate};
use crate::engine::{self, BackupReport, BackupRequest, EngineError, Progress, RepositoryAccess, Restic};
use crate::error::{Kind, Trouble, codes};
use crate::runner::holdings::{self, Inventory};
use crate::runner::route::{Route, named};
pub use crate::runner::silence::Asks;
use crate::store::record::{DestinationRecord, Shipment};
use crate::types::{ByteSize, JobId, Outcome};

/// Paths of unreadable files that a trouble names.
const UNREADABLE_SHOWN: usize = 5;

/// What is shipped, the same for every destination.
#[derive(Clone, Debug)]
pub struct SnapshotSpec {
    pub job: JobId,
    /// Where artifacts lie: their manifests tell which site this is.
    pub artifacts: Artifacts,
    /// What the snapshots are dated: when the run started.
    pub time: Timestamp,
    pub paths: Vec<PathBuf>,
    pub excludes: Vec<String>,
    pub tags: Vec<String>,
    pub host: String,
    pub tolerate: Tolerate,
    /// Files of the artifacts, which are read beside the sources.
    pub artifact_files: u64,
    /// Who started the run.
    pub asks: Asks,
    /// What the plugin counted in the sources; none where that says nothing of what is read.
    pub counted: Option<Counted>,
    /// Bytes in artifacts and sources; none where the plugin did not count the sources.
    pub bytes: Option<u64>,
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
    /// What the repository holds since; none: it could not be listed.
    pub inventory: Option<Arc<Inventory>>,
}

/// Makes one snapshot of `spec`, and calls `on_made` when it only has to be seen there; what went wrong is in the shipment.
pub async fn ship(
    route: &Route,
    spec: &SnapshotSpec,
    parent: Option<String>,
    mut on_progress: impl FnMut(u64, u64) + Send,
    on_made: impl FnOnce() + Send,
) -> Shipped {
    let start = Instant::now();
    let on_progress = |progress: Progress| on_progress(progress.bytes_done, progress.bytes_total);
    let made = attempt(route, spec, parent, on_progress, on_made).await;
    let lacks_source = matches!(made, Err(NotMade::Source(_)));
    let shipped = shipment(route, spec, made.map_err(NotMade::trouble), start.elapsed());
    let shipment = &shipped.shipment;
    let (outcome, now) = (shipment.outcome, route.world.clock.now());
    // What is not there to be shipped is no fault of the destination.
    let trouble = shipment.trouble.clone().filter(|_| !lacks_source);
    let noted = route.world.note_destination(&route.destination, |record| note_use(record, outcome, trouble, now));
    if let Err(error) = noted {
        tracing::warn!(destination = %route.destination.name, error = %crate::error::chain(&error), "cannot note the shipment");
    }
    shipped
}

/// What a shipment says of its destination: nothing when it was cancelled, and that it works when only a part was there
/// to be shipped.
fn note_use(record: &mut DestinationRecord, outcome: Outcome, trouble: Option<Trouble>, now: Timestamp) {
    match (outcome, trouble) {
        (Outcome::Failed, Some(trouble)) => record.trouble = Some(trouble),
        (Outcome::Cancelled | Outcome::Failed, _) => {}
        _ => {
            record.trouble = None;
            record.last_used = Some(now);
        }
    }
}

fn shipment(route: &Route, spec: &SnapshotSpec, made: Result<Made, Trouble>, took: Duration) -> Shipped {
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
    let mut inventory = None;
    match made {
        Ok(Made { report, inventory: listed }) => {
            let judged = judge(spec, &report);
            let unproven = listed.as_ref().err().map(|why| not_listed(route, &report, why));
            inventory = listed.ok();
            shipment.trouble = judged.trouble.or(unproven);
            shipment.outcome = if shipment.trouble.is_some() { Outcome::Partial } else { Outcome::Success };
            notices = judged.notices;
            shipment.bytes_added = report.bytes_added;
            shipment.files = report.files;
            shipment.bytes = report.bytes_processed;
            shipment.snapshot = Some(report.snapshot);
        }
        Err(trouble) => {
            if trouble.kind() == Some(Kind::Cancelled) {
                shipment.outcome = Outcome::Cancelled;
            }
            shipment.trouble = Some(trouble);
            if shipment.is_away() {
                shipment.trouble = shipment.trouble.take().map(|trouble| named(&route.destination, trouble));
            }
        }
    }
    Shipped { shipment, notices, inventory }
}

fn not_listed(route: &Route, report: &BackupReport, why: &Trouble) -> Trouble {
    let id: String = report.snapshot.chars().take(10).collect();
    let message = format!(
        "the snapshot {id} was made, but {} could not be listed to prove it: {}",
        route.destination.name, why.message
    );
    Trouble { hint: why.hint.clone(), ..Trouble::new(codes::SNAPSHOT_UNPROVEN, message) }
}

/// What came of a snapshot that is there: what is missing, and what may be missing.
struct Judged {
    trouble: Option<Trouble>,
    notices: Vec<Trouble>,
}

fn judge(spec: &SnapshotSpec, report: &BackupReport) -> Judged {
    let read = report.files.saturating_sub(spec.artifact_files);
    let allowed = spec.tolerate.vanished_of(read + report.vanished_total);
    let mut judged = Judged { trouble: None, notices: Vec::new() };
    if report.tolerated_total > 0 {
        let what =
            told(report.tolerated_total, "could not be read, as `tolerate.unreadable` allows", &report.tolerated);
        judged.notices.push(Trouble::new(codes::UNREADABLE_TOLERATED, what));
    }
    if report.partial {
        judged.trouble = Some(
            Trouble::new(
                codes::FILES_UNREADABLE,
                told(report.unreadable_total, "could not be read", &report.unreadable),
            )
            .with_hint("give the daemon's user read access, exclude them, or name them in `tolerate.unreadable`"),
        );
    } else if report.vanished_total > allowed {
        let what = told(report.vanished_total, "vanished while they were read", &report.vanished);
        judged.trouble = Some(Trouble::new(codes::FILES_VANISHED, what).with_hint(
            "exclude what comes and goes, back up when it is quiet, or raise the target's `tolerate: {vanished: 1%}`",
        ));
    } else if let Some(trouble) = spec.counted.and_then(|counted| fewer(counted, read, report, spec)) {
        judged.trouble = Some(trouble);
    } else if report.vanished_total > 0 {
        let what = told(report.vanished_total, "vanished while they were read", &report.vanished);
        judged.notices.push(Trouble::new(codes::FILES_VANISHED, format!("{what} (up to {allowed} are tolerated)")));
    }
    judged
}

/// Whether restic read much less than there was a moment before: then something was left out that nobody meant.
fn fewer(counted: Counted, read: u64, report: &BackupReport, spec: &SnapshotSpec) -> Option<Trouble> {
    let met = read + report.vanished_total + report.tolerated_total;
    let files_missing = counted.files.saturating_sub(met);
    let files_allowed = counted.files.div_ceil(10).max(spec.tolerate.vanished_of(counted.files));
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
        Trouble::new(codes::FEWER_THAN_COUNTED, message)
            .with_hint("look whether `exclude` leaves out more than it should, or whether files were deleted meanwhile")
    })
}

/// `1500 files could not be read: a, b and 1498 more`
fn told(total: u64, what: &str, named: &[String]) -> String {
    let shown: Vec<&str> = named.iter().take(UNREADABLE_SHOWN).map(String::as_str).collect();
    let more = total.saturating_sub(shown.len() as u64);
    let tail = if more > 0 && !shown.is_empty() { format!(" and {more} more") } else { String::new() };
    let noun = if total == 1 { "file" } else { "files" };
    if total == 0 {
        return format!("some files {what}, and restic did not name them");
    }
    let names = if shown.is_empty() { String::new() } else { format!(": {}{tail}", shown.join(", ")) };
    format!("{total} {noun} {what}{names}")
}

/// A snapshot that was made, and what the repository holds since; else why that could not be seen.
struct Made {
    report: BackupReport,
    inventory: Result<Arc<Inventory>, Trouble>,
}

/// Why there is no snapshot.
enum NotMade {
    /// What was to be read is not there.
    Source(Trouble),
    Other(Trouble),
}

impl NotMade {
    fn trouble(self) -> Trouble {
        match self {
            Self::Source(trouble) | Self::Other(trouble) => trouble,
        }
    }
}

impl From<Trouble> for NotMade {
    fn from(trouble: Trouble) -> Self {
        Self::Other(trouble)
    }
}

impl From<EngineError> for NotMade {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NothingThere { .. } => Self::Source(error.trouble()),
            _ => Self::Other(error.trouble()),
        }
    }
}

async fn attempt(
    route: &Route,
    spec: &SnapshotSpec,
    parent: Option<String>,
    on_progress: impl FnMut(Progress) + Send,
    on_made: impl FnOnce() + Send,
) -> Result<Made, NotMade> {
    let waiting = Instant::now();
    let (_, slots) = route.world.slots(&route.destination.name, route.per_destination);
    let stopped = || Trouble::new(codes::CANCELLED, format!("cancelled before shipping to {}", route.destination.name));
    let slot = tokio::select! {
        slot = slots.acquire_owned() => slot.map_err(|_| stopped())?,
        () = route.context.cancel.cancelled() => return Err(stopped().into()),
        () = tokio::time::sleep(route.deadline) => {
            let message = format!("the run's time is over while others ship to {}", route.destination.name);
            let hint = "raise the policy's `timeout`, or `concurrency.per_destination` of the site";
            return Err(Trouble::new(codes::DEADLINE_EXCEEDED, message).with_hint(hint).into());
        }
    };
    // What the wait took is gone.
    let left = route.deadline.saturating_sub(waiting.elapsed()).max(Duration::from_secs(1));
    let route = &Route { deadline: left, ..route.clone() };
    if let Some(trouble) = route.world.silences.of(&route.destination.name, spec.asks) {
        return Err(trouble.into());
    }
    let begun = Instant::now();
    let opened = route.open_or_make().await;
    route.world.silences.note(&route.destination.name, begun, &opened);
    let (restic, access) = opened?;
    let parent = match parent {
        Some(parent) => Some(parent),
        None => newest_of_ours(route, &restic, &access, spec).await?,
    };
    let request = BackupRequest {
        paths: spec.paths.clone(),
        excludes: spec.excludes.clone(),
        tags: spec.tags.clone(),
        host: spec.host.clone(),
        parent,
        tolerated: spec.tolerate.unreadable.clone(),
        time: Some(spec.time),
        bytes: spec.bytes,
    };
    let report = restic.backup(&access, &request, &route.context, on_progress).await?;
    drop(slot);
    on_made();
    // One listing proves the snapshot, decides the retention and shows what vanished.
    let inventory = holdings::list_with_others(route, &restic, &access, &spec.artifacts).await;
    if let Ok(inventory) = &inventory {
        engine::prove(&access, &request, &report, &inventory.listing)?;
    }
    Ok(Made { report, inventory })
}

/// The snapshot that the next one of the job is compared with, where the ledger names none; none: there is none of ours.
async fn newest_of_ours(
    route: &Route,
    restic: &Restic,
    access: &RepositoryAccess,
    spec: &SnapshotSpec,
) -> Result<Option<String>, Trouble> {
    let (ledger, name, job) = (route.world.ledger.clone(), route.destination.name.clone(), spec.job.clone());
    let look = tokio::task::spawn_blocking(move || {
        let books = ledger.books(&name)?;
        let known = books.by_job.get(&job).into_iter().flatten().filter(|(_, known)| !known.leaving && !known.missing);
        let newest = known.max_by_key(|(_, known)| (known.order, known.time)).map(|(id, _)| id.clone());
        Ok::<_, crate::store::StoreError>((newest, ledger.holdings(&name)?.is_some()))
    });
    let stopped = |error: tokio::task::JoinError| Trouble::new(codes::INTERNAL, format!("the store stopped: {error}"));
    let (newest, was_listed) = look.await.map_err(stopped)?.map_err(|error| error.trouble())?;
    if newest.is_some() || was_listed {
        return Ok(newest);
    }
    let inventory = holdings::list(route, restic, access, &spec.artifacts).await?;
    Ok(inventory.sorted.ours.get(&spec.job).and_then(|ours| ours.last()).map(|ours| ours.id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(vanished_ppm: u32, counted: Option<(u64, u64)>) -> SnapshotSpec {
        SnapshotSpec {
            job: "files/daily".parse().unwrap(),
            artifacts: Artifacts::default(),
            time: Timestamp::UNIX_EPOCH,
            paths: Vec::new(),
            excludes: Vec::new(),
            tags: Vec::new(),
            host: String::new(),
            asks: Asks::ByTime,
            tolerate: Tolerate { vanished_ppm, unreadable: Vec::new() },
            artifact_files: 1,
            counted: counted.map(|(files, bytes)| Counted { files, bytes }),
            bytes: None,
        }
    }

    fn report(files: u64, bytes: u64, vanished: u64, unreadable: u64, tolerated: u64) -> BackupReport {
        let named = |count: u64| (0..count.min(100)).map(|number| format!("/srv/{number}")).collect::<Vec<_>>();
        BackupReport {
            snapshot: "0".repeat(64),
            files_new: files,
            files_changed: 0,
            files_unmodified: 0,
            bytes_added: 0,
            bytes_processed: bytes,
            files: files + 1,
            duration: Duration::ZERO,
            unreadable: named(unreadable),
            unreadable_total: unreadable,
            vanished: named(vanished),
            vanished_total: vanished,
            tolerated: named(tolerated),
            tolerated_total: tolerated,
            absent: Vec::new(),
            partial: unreadable > 0,
        }
    }

    fn code(spec: &SnapshotSpec, report: &BackupReport) -> (Option<String>, Vec<String>) {
        let judged = judge(spec, report);
        (judged.trouble.map(|each| each.code), judged.notices.into_iter().map(|each| each.code).collect())
    }

    #[test]
    fn a_share_of_vanished_files_is_tolerated_and_said_and_more_is_partial_without_a_word_of_rights() {
        let counted = Some((1600, 16_000));
        assert_eq!(code(&spec(10_000, counted), &report(1600, 16_000, 0, 0, 0)), (None, vec![]));
        let (trouble, notices) = code(&spec(10_000, counted), &report(1590, 15_900, 10, 0, 0));
        assert_eq!((trouble, notices), (None, vec!["files_vanished".to_owned()]));
        let judged = judge(&spec(10_000, counted), &report(100, 1000, 1500, 0, 0));
        let trouble = judged.trouble.unwrap();
        assert_eq!(trouble.code, "files_vanished");
        assert!(trouble.message.starts_with("1500 files vanished") && trouble.message.ends_with("and 1495 more"));
        assert!(!trouble.to_string().contains("read access"), "{trouble}");
        assert_eq!(code(&spec(950_000, counted), &report(100, 1000, 1500, 0, 0)).0, None);
        assert_eq!(code(&spec(0, None), &report(9, 90, 1, 0, 0)).0.as_deref(), Some("files_vanished"));
    }

    #[test]
    fn what_cannot_be_read_is_partial_unless_the_target_accepts_it() {
        let judged = judge(&spec(10_000, None), &report(100, 1000, 0, 1500, 0));
        let trouble = judged.trouble.unwrap();
        assert_eq!(trouble.code, "files_unreadable");
        assert!(trouble.message.ends_with("and 1495 more"), "{trouble}");
        assert_eq!(
            code(&spec(10_000, Some((105, 1050))), &report(100, 1000, 0, 0, 5)),
            (None, vec!["unreadable_tolerated".to_owned()])
        );
    }

    #[test]
    fn far_fewer_files_or_bytes_than_were_counted_are_a_trouble() {
        for (counted, files, bytes, told) in [
            ((20_002, 200_000), 3, 776, true),
            ((100, 1_000_000), 99, 1000, true),
            ((1, 14), 0, 14, true),
            ((100, 1000), 95, 950, false),
            ((0, 0), 0, 14, false),
        ] {
            let (trouble, _) = code(&spec(10_000, Some(counted)), &report(files, bytes, 0, 0, 0));
            assert_eq!(trouble.as_deref() == Some("fewer_than_counted"), told, "{counted:?} {files} {bytes}");
        }
    }
}
