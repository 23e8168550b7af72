//! Restores a snapshot into an empty directory and verifies what was written.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use super::messages::{self, Message, RestoreSummary};
use super::repository::garbled;
use super::snapshots::{missing_or, snapshot_id};
use super::{Call, EngineError, Progress, RepositoryAccess, Restic};
use crate::look::{self, LOOK_MAX};
use crate::process::{Context, Exit};

/// What came of a restore: everything is there and its content was compared with the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files, directories and links.
    pub items: u64,
    pub bytes: u64,
    pub duration: Duration,
}

impl Restic {
    /// Restores `snapshot` below `to`, each item at its full path there; `include` are names or restic
    /// patterns, empty: everything. A name that is there is that name; each must match.
    /// `to` is made when missing.
    ///
    /// # Errors
    /// `to` is not empty; no such snapshot; nothing matches; an item could not be written or is not what was stored (what
    /// was written stays then); and everything that restic can fail with.
    pub async fn restore(
        &self,
        access: &RepositoryAccess,
        snapshot: &str,
        to: &Path,
        include: &[String],
        context: &Context,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<RestoreReport, EngineError> {
        let id = snapshot_id(snapshot)?;
        self.check_identity(access, context).await?;
        let patterns = self.patterns(access, id, include, context).await?;
        let place = to.to_owned();
        look::at(to, LOOK_MAX, move || prepare(&place)).await.map_err(|silent| EngineError::Silent { silent })??;
        let mut call = Call::new("restore", &["--json", "--verify", "--sparse"]).with_figures();
        call = call.arg(long("--target=", to));
        for pattern in patterns {
            call = call.arg(format!("--include={pattern}"));
        }
        let mut summary: Option<RestoreSummary> = None;
        let mut is_garbled = false;
        let mut hear = |line: &str| match messages::parse(line) {
            Some(Message::Status(progress)) => on_progress(progress),
            Some(Message::RestoreSummary(found)) => summary = Some(found),
            Some(Message::Garbled) => is_garbled = true,
            _ => {}
        };
        let answer = self.call_reading(access, context, call.arg(id), &mut hear).await?;
        let complaints = &answer.complaints;
        if complaints.items_total > 0 && matches!(answer.exit, Exit::Success | Exit::Code(_)) {
            let detail = complaints.items.iter().take(3).map(|(item, why)| format!("{item}: {why}"));
            let detail = detail.collect::<Vec<_>>().join("; ");
            return Err(match full(answer.error("restore", access), to) {
                known @ (EngineError::DiskFull { .. }
                | EngineError::RestoreFull { .. }
                | EngineError::Locked { .. }) => known,
                _ if ["no space left on device", "disk quota exceeded"].iter().any(|why| detail.contains(why)) => {
                    EngineError::RestoreFull { to: to.display().to_string(), detail }
                }
                _ => EngineError::RestoreIncomplete { failed: complaints.items_total, detail },
            });
        }
        if answer.exit != Exit::Success || complaints.is_fatal(0) {
            return Err(missing_or(full(answer.error("restore", access), to), id, access));
        }
        let summary = summary.filter(|_| !is_garbled).ok_or_else(|| garbled("restore"))?;
        if summary.items == 0 && !include.is_empty() {
            return Err(EngineError::NothingMatches { id: id.to_owned(), include: include.to_vec() });
        }
        // With patterns, directories above the matches are restored without having been counted.
        if summary.items_restored < summary.items || summary.bytes_restored < summary.bytes {
            let detail = format!("{} of {} bytes", summary.bytes_restored, summary.bytes);
            let failed = summary.items.saturating_sub(summary.items_restored);
            return Err(EngineError::RestoreIncomplete { failed, detail });
        }
        // restic's word is not believed alone: what it counted lies there.
        let place = to.to_owned();
        let there = look::work(to, move || below(&place)).await.map_err(|silent| EngineError::Silent { silent })?;
        let (items, bytes) = there.map_err(|error| EngineError::Files(to.to_owned(), error))?;
        if items < summary.items_restored || bytes < summary.bytes_restored {
            let detail = format!(
                "restic told of {} items and {} bytes, {items} and {bytes} are there",
                summary.items_restored, summary.bytes_restored
            );
            let failed = summary.items_restored.saturating_sub(items).max(1);
            return Err(EngineError::RestoreIncomplete { failed, detail });
        }
        Ok(RestoreReport { items: summary.items_restored, bytes: summary.bytes_restored, duration: answer.wall })
    }
}

/// How many items lie below a directory, and how many bytes are in its files.
fn below(directory: &Path) -> std::io::Result<(u64, u64)> {
    let (mut items, mut bytes) = (0, 0);
    let mut next = vec![directory.to_owned()];
    while let Some(directory) = next.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            items += 1;
            if found.is_dir() {
                next.push(entry.path());
            } else if found.is_file() {
                bytes += found.len();
            }
        }
    }
    Ok((items, bytes))
}

/// Tells a full disk below `to` from a full disk of the repository, which a restore writes nothing to but its lock.
fn full(error: EngineError, to: &Path) -> EngineError {
    match error {
        EngineError::DiskFull { detail, .. } if !detail.to_lowercase().contains("lock") => {
            EngineError::RestoreFull { to: to.display().to_string(), detail }
        }
        other => other,
    }
}

fn long(name: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(name);
    argument.push(path);
    argument
}

/// Makes `to`, for our eyes only, or makes sure that it is empty.
fn prepare(to: &Path) -> Result<(), EngineError> {
    if !to.is_absolute() {
        return Err(EngineError::NotAbsolute { path: to.display().to_string() });
    }
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            EngineError::RestoreFull { to: to.display().to_string(), detail: error.to_string() }
        }
        _ => EngineError::Files(to.to_owned(), error),
    };
    match std::fs::read_dir(to) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(EngineError::DestinationNotEmpty(to.to_owned())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
