//! Makes one snapshot.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::messages::{self, BackupSummary, Message};
use super::repository::garbled;
use super::snapshots::is_about_a_missing_snapshot;
use super::{Answer, Call, EngineError, Progress, RepositoryAccess, Restic};
use crate::look::{self, LOOK_MAX};
use crate::process::{Context, Exit};

/// Most unreadable files that a report names.
pub const UNREADABLE_MAX: usize = 100;

/// What goes into a snapshot, and what is written on it.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// Absolute; taken literally, whatever bytes they have.
    pub paths: Vec<PathBuf>,
    /// restic patterns, each taken literally (`$` and `#` have no meaning of their own here).
    pub excludes: Vec<String>,
    pub tags: Vec<String>,
    /// Empty: this machine's name.
    pub host: String,
    /// The snapshot to compare with; one that is not there any more is left out. None: everything is read.
    pub parent: Option<String>,
    /// What may be unreadable, with all below it.
    pub tolerated: Vec<PathBuf>,
    /// What the snapshot says about its time, to the second; none: restic's now.
    pub time: Option<Timestamp>,
    /// Bytes that are to be read, where they were counted.
    pub bytes: Option<u64>,
}

/// Up to so many bytes one processor is as fast as all.
const SMALL_MAX: u64 = 64 << 20;

/// What came of a backup: a snapshot is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// 64 hex digits.
    pub snapshot: String,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    /// What the repository grew by, compressed.
    pub bytes_added: u64,
    pub bytes_processed: u64,
    pub files: u64,
    pub duration: Duration,
    /// `path: reason`, the first [`UNREADABLE_MAX`].
    pub unreadable: Vec<String>,
    pub unreadable_total: u64,
    /// Files that were gone when they were to be read, the first [`UNREADABLE_MAX`]; not among the unreadable.
    pub vanished: Vec<String>,
    pub vanished_total: u64,
    /// What could not be read and need not be, the first [`UNREADABLE_MAX`].
    pub tolerated: Vec<String>,
    pub tolerated_total: u64,
    /// Paths that were asked for and are not there; among the unreadable, too.
    pub absent: Vec<PathBuf>,
    /// Something that should be in the snapshot is not, beside what vanished or is tolerated.
    pub partial: bool,
}

impl Restic {
    /// Makes a snapshot. `on_progress` is called about once a second.
    ///
    /// # Errors
    /// No snapshot was made. Files that could not be read are no error: the report is `partial` then.
    pub async fn backup(
        &self,
        access: &RepositoryAccess,
        request: &BackupRequest,
        context: &Context,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<BackupReport, EngineError> {
        let paths = request.paths.clone();
        let first = paths.first().cloned().unwrap_or_default();
        let missing = look::at(&first, LOOK_MAX, move || missing_paths(&paths))
            .await
            .map_err(|silent| EngineError::Silent { silent })??;
        self.check_identity(access, context).await?;
        let lists = Lists::write(request, &missing)?;
        let mut request = request.clone();
        let mut summary: Option<BackupSummary> = None;
        let mut is_garbled = false;
        let mut hear = |line: &str| match messages::parse(line) {
            Some(Message::Status(progress)) => on_progress(progress),
            Some(Message::BackupSummary(found)) => summary = Some(*found),
            Some(Message::Garbled) => is_garbled = true,
            _ => {}
        };
        let mut answer = self.call_locking(access, context, lists.call(&request)?, &mut hear).await?;
        if let Some(parent) = request.parent.clone().filter(|_| parent_is_gone(&answer)) {
            context.log.line(&format!("the parent snapshot {parent} is not there any more; going on without"));
            request.parent = None;
            answer = self.call_locking(access, context, lists.call(&request)?, &mut hear).await?;
        }
        let code = match answer.exit {
            Exit::Success => 0,
            Exit::Code(3) => 3,
            _ => return Err(answer.error("backup", access)),
        };
        if answer.complaints.is_fatal(code) {
            return Err(answer.error("backup", access));
        }
        // Exit code 0 is no proof: the snapshot's id is, once it was seen in the repository (`prove`).
        let summary = summary.filter(|summary| !is_garbled && messages::is_id(&summary.snapshot));
        let summary = summary.ok_or_else(|| garbled("backup"))?;
        Ok(report(summary, &answer, &missing))
    }
}

fn report(summary: BackupSummary, answer: &Answer, missing: &[PathBuf]) -> BackupReport {
    let gone = |path: &str| format!("{path}: is not there");
    let mut unreadable: Vec<String> = missing.iter().map(|path| gone(&path.display().to_string())).collect();
    // restic before 0.19 leaves out a source that is not there and still says 0.
    unreadable.extend(answer.complaints.skipped.iter().map(|path| gone(path)));
    let total = unreadable.len() as u64 + answer.complaints.items_total;
    unreadable.extend(answer.complaints.items.iter().map(|(item, why)| format!("{item}: {why}")));
    unreadable.truncate(UNREADABLE_MAX);
    let (vanished_total, tolerated_total) = (answer.complaints.vanished_total, answer.complaints.accepted_total);
    let explained = vanished_total + tolerated_total > 0 && answer.exit == Exit::Code(3);
    BackupReport {
        snapshot: summary.snapshot,
        files_new: summary.files_new,
        files_changed: summary.files_changed,
        files_unmodified: summary.files_unmodified,
        bytes_added: summary.bytes_added,
        bytes_processed: summary.bytes_processed,
        files: summary.files,
        duration: answer.wall,
        unreadable,
        unreadable_total: total,
        vanished: answer.complaints.vanished.clone(),
        vanished_total,
        tolerated: answer.complaints.accepted.clone(),
        tolerated_total,
        absent: missing.iter().cloned().chain(answer.complaints.skipped.iter().map(PathBuf::from)).collect(),
        partial: total > 0 || (answer.exit != Exit::Success && !explained),
    }
}

/// The paths that are not there; an error when none is, or one is not absolute.
fn missing_paths(paths: &[PathBuf]) -> Result<Vec<PathBuf>, EngineError> {
    let shown = |path: &PathBuf| path.display().to_string();
    if let Some(relative) = paths.iter().find(|path| !path.is_absolute()) {
        return Err(EngineError::NotAbsolute { path: shown(relative) });
    }
    let missing: Vec<PathBuf> = paths.iter().filter(|path| path.symlink_metadata().is_err()).cloned().collect();
    if missing.len() == paths.len() {
        return Err(EngineError::NothingThere { paths: paths.iter().map(shown).collect() });
    }
    Ok(missing)
}

fn parent_is_gone(answer: &Answer) -> bool {
    answer.exit == Exit::Code(1) && is_about_a_missing_snapshot(&answer.complaints.detail())
}

/// The paths and patterns, in files: no bound of the command line, no meaning for a name's bytes.
struct Lists {
    directory: tempfile::TempDir,
}

impl Lists {
    fn write(request: &BackupRequest, missing: &[PathBuf]) -> Result<Self, EngineError> {
        let failed = |error| EngineError::Files(std::env::temp_dir(), error);
        let directory = crate::process::scratch("backup").map_err(failed)?;
        let lists = Self { directory };
        let mut paths = Vec::new();
        for path in request.paths.iter().filter(|path| !missing.contains(path)) {
            paths.extend_from_slice(path.as_os_str().as_bytes());
            paths.push(0);
        }
        let mut patterns = String::new();
        for pattern in &request.excludes {
            patterns.push_str(&pattern_line(pattern)?);
            patterns.push('\n');
        }
        write_file(&lists.paths(), &paths)?;
        write_file(&lists.patterns(), patterns.as_bytes())?;
        Ok(lists)
    }

    fn paths(&self) -> PathBuf {
        self.directory.path().join("paths")
    }

    fn patterns(&self) -> PathBuf {
        self.directory.path().join("excludes")
    }

    fn call(&self, request: &BackupRequest) -> Result<Call, EngineError> {
        let mut call = Call::new("backup", &["--json"]).with_figures();
        call.apart =
            Some(super::complaints::Apart { sources: request.paths.clone(), unreadable: request.tolerated.clone() });
        call = call.arg("--files-from-raw").arg(self.paths());
        if !request.excludes.is_empty() {
            call = call.arg("--exclude-file").arg(self.patterns());
        }
        for tag in &request.tags {
            call = call.arg(format!("--tag={tag}"));
        }
        if !request.host.is_empty() {
            call = call.arg(format!("--host={}", request.host));
        }
        if let Some(parent) = &request.parent {
            if !messages::is_id(parent) {
                return Err(EngineError::SnapshotId { id: parent.clone() });
            }
            call = call.arg(format!("--parent={parent}"));
        } else {
            // Else restic takes the newest of the same host and paths, which may be another site's.
            call = call.arg("--force");
        }
        call.small = request.bytes.is_some_and(|bytes| bytes <= SMALL_MAX);
        if let Some(time) = request.time {
            call = call.arg(format!("--time={}", time.strftime("%Y-%m-%d %H:%M:%S")));
        }
        Ok(call)
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let write = || std::fs::File::create(path)?.write_all(bytes);
    write().map_err(|error| EngineError::Files(path.to_owned(), error))
}

/// A pattern as a line of restic's exclude file, where `$` begins a variable and `#` a comment.
fn pattern_line(pattern: &str) -> Result<String, EngineError> {
    if pattern.contains(['\n', '\r', '\0']) {
        return Err(EngineError::Pattern { pattern: pattern.to_owned() });
    }
    let line = pattern.replace('$', "$$");
    Ok(match line.strip_prefix('#') {
        Some(rest) => format!("[#]{rest}"),
        None => line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    #[test]
    fn a_pattern_keeps_its_meaning_in_a_file() {
        assert_eq!(pattern_line("*.tmp").unwrap(), "*.tmp");
        assert_eq!(pattern_line("$HOME/#x").unwrap(), "$$HOME/#x");
        assert_eq!(pattern_line("#recycle").unwrap(), "[#]recycle");
        assert_eq!(pattern_line("a\nb").unwrap_err().code(), codes::BAD_PATTERN);
    }

    #[test]
    fn relative_paths_and_no_paths_are_refused() {
        assert_eq!(missing_paths(&["etc".into()]).unwrap_err().code(), codes::RELATIVE_PATH);
        assert_eq!(missing_paths(&[]).unwrap_err().code(), codes::SOURCE_MISSING);
        assert_eq!(missing_paths(&["/no/such/path".into()]).unwrap_err().code(), codes::SOURCE_MISSING);
        assert_eq!(missing_paths(&["/".into(), "/no/such/path".into()]).unwrap(), [PathBuf::from("/no/such/path")]);
    }
}
