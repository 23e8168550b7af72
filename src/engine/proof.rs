//! Whether the snapshot that restic reported is in the repository, and is what was asked for.
//!
//! A well-formed answer is no proof: an id can be of nothing, and a wrapper, a full cache or a second program can make
//! another snapshot of it. What the repository itself lists is compared with the request and with the report.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{BackupReport, BackupRequest, EngineError, RepositoryAccess, Snapshot};
use crate::types::ByteSize;

/// As long as the texts of a listing are at most, in bytes; longer paths are compared by their beginning.
const PATH_BYTES_MAX: usize = 4096;

/// Proves that `report` tells of a snapshot in `listing` that is what `request` asked for.
///
/// # Errors
/// `SnapshotUnseen`, or `SnapshotDiffers` with the first thing that is another one.
pub fn prove(
    access: &RepositoryAccess,
    request: &BackupRequest,
    report: &BackupReport,
    listing: &[Snapshot],
) -> Result<(), EngineError> {
    let Some(snapshot) = listing.iter().find(|snapshot| snapshot.id == report.snapshot) else {
        return Err(EngineError::SnapshotUnseen { id: report.snapshot.clone(), location: access.location.clone() });
    };
    match difference(request, report, snapshot) {
        None => Ok(()),
        Some(difference) => Err(EngineError::SnapshotDiffers { id: report.snapshot.clone(), difference }),
    }
}

/// The first thing that is not as it should be, in words.
fn difference(request: &BackupRequest, report: &BackupReport, snapshot: &Snapshot) -> Option<String> {
    let set = |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<_>>();
    if set(&snapshot.tags) != set(&request.tags) {
        return Some(format!("it has the tags {}, not {}", snapshot.tags.join(","), request.tags.join(",")));
    }
    if !request.host.is_empty() && snapshot.host != request.host {
        return Some(format!("it is of the host {:?}, not {:?}", snapshot.host, request.host));
    }
    if let Some(time) = request.time.filter(|time| time.as_second() != snapshot.time.as_second()) {
        return Some(format!("it is dated {}, not {time}", snapshot.time));
    }
    if let Some(difference) = other_paths(request, report, snapshot) {
        return Some(difference);
    }
    match (snapshot.files, snapshot.bytes) {
        (Some(files), Some(bytes)) if (files, bytes) == (report.files, report.bytes_processed) => None,
        (Some(files), Some(bytes)) => Some(format!(
            "it has {files} files with {}, but {} files with {} were reported",
            ByteSize(bytes),
            report.files,
            ByteSize(report.bytes_processed)
        )),
        _ => Some("it does not say how much it has".to_owned()),
    }
}

/// What was asked for and was there is in it, and nothing else.
fn other_paths(request: &BackupRequest, report: &BackupReport, snapshot: &Snapshot) -> Option<String> {
    let asked: BTreeSet<String> = request.paths.iter().map(|path| listed(path)).collect();
    let there: BTreeSet<String> = snapshot.paths.iter().map(|path| listed(Path::new(path))).collect();
    if let Some(strange) = there.difference(&asked).next() {
        return Some(format!("it has {strange}, which was not asked for"));
    }
    // What is not there is told in the report as unreadable.
    let absent = |path: &&String| !report.absent.iter().any(|absent| listed(absent) == **path);
    asked.difference(&there).find(absent).map(|lost| format!("it is without {lost}"))
}

/// A path as a listing shows it: in its shortest form, and readable.
fn listed(path: &Path) -> String {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    let mut text = clean.to_string_lossy().into_owned();
    text.truncate(text.floor_char_boundary(PATH_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;
    use crate::config::model::Limits;
    use crate::types::Name;

    fn access() -> RepositoryAccess {
        RepositoryAccess {
            destination: Name::parse("nas").unwrap(),
            location: "/mnt/nas".to_owned(),
            place: crate::storage::Place::Local("/mnt/nas".into()),
            password: SecretString::from(String::new()),
            expected_id: None,
            limits: Limits::default(),
            machine_key: true,
            restic_cache: crate::config::model::Cache::Own,
            cache: PathBuf::from("/c"),
        }
    }

    fn request() -> BackupRequest {
        BackupRequest {
            paths: vec!["/srv/a/".into(), "/srv/./b/../c".into(), "/gone".into()],
            tags: vec!["larder".to_owned(), "run:1".to_owned()],
            host: "home".to_owned(),
            time: Some("2026-11-29T02:00:00.75Z".parse().unwrap()),
            ..BackupRequest::default()
        }
    }

    fn report() -> BackupReport {
        BackupReport {
            snapshot: "a".repeat(64),
            files_new: 3,
            files_changed: 0,
            files_unmodified: 0,
            bytes_added: 10,
            bytes_processed: 10,
            files: 3,
            duration: Duration::ZERO,
            unreadable: Vec::new(),
            unreadable_total: 1,
            vanished: Vec::new(),
            vanished_total: 0,
            tolerated: Vec::new(),
            tolerated_total: 0,
            absent: vec!["/gone".into()],
            partial: true,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            id: "a".repeat(64),
            time: "2026-11-29T02:00:00Z".parse().unwrap(),
            host: "home".to_owned(),
            paths: vec!["/srv/a".to_owned(), "/srv/c".to_owned()],
            tags: vec!["run:1".to_owned(), "larder".to_owned()],
            parent: None,
            original: None,
            tree: None,
            bytes: Some(10),
            files: Some(3),
        }
    }

    type Change = fn(&mut Snapshot);

    fn code(change: impl Fn(&mut Snapshot)) -> Option<(&'static str, String)> {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        let error = prove(&access(), &request(), &report(), &[snapshot]).err()?;
        assert!(error.hint().is_some());
        Some((error.code().name(), error.to_string()))
    }

    #[test]
    fn a_snapshot_that_is_what_was_asked_for_is_proven() {
        assert_eq!(code(|_| {}), None);
    }

    #[test]
    fn one_that_is_not_in_the_repository_or_has_another_mark_time_path_or_total_is_not() {
        assert_eq!(code(|snapshot| snapshot.id = "b".repeat(64)).unwrap().0, "snapshot_unseen");
        let changes: [(&str, Change); 9] = [
            ("the tags larder", |snapshot| snapshot.tags = vec!["larder".to_owned()]),
            ("the tags", |snapshot| snapshot.tags.push("more".to_owned())),
            ("of the host", |snapshot| snapshot.host = "other".to_owned()),
            ("it is dated", |snapshot| snapshot.time = "2026-11-28T02:00:00Z".parse().unwrap()),
            ("it is without /srv/a", |snapshot| snapshot.paths = vec!["/srv/c".to_owned()]),
            ("it has /etc, which", |snapshot| snapshot.paths.push("/etc".to_owned())),
            ("it has 2 files", |snapshot| snapshot.files = Some(2)),
            ("it has 3 files with 9 B", |snapshot| snapshot.bytes = Some(9)),
            ("does not say how much", |snapshot| (snapshot.files, snapshot.bytes) = (None, None)),
        ];
        for (words, change) in changes {
            let (code, message) = code(change).unwrap_or_else(|| panic!("{words}"));
            assert!(code == "snapshot_differs" && message.contains(words), "{message}");
        }
    }
}
