//! Directories for a moment, and what a killed process left of them.
//!
//! A directory is named after the process that made it (`larder-backup-<pid>.<start>-…`), so that a sweep removes only
//! those whose owner is dead.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::table;

/// Makes a directory of this process in the temporary directory; removed when it is dropped.
///
/// # Errors
/// When it cannot be made.
pub fn scratch(purpose: &str) -> io::Result<tempfile::TempDir> {
    let pid = std::process::id();
    let started = i32::try_from(pid).ok().and_then(table::one).map_or(0, |process| process.started);
    tempfile::Builder::new().prefix(&format!("larder-{purpose}-{pid}.{started}-")).tempdir()
}

/// Removes what dead processes of this user left in the temporary directory; answers with what went.
#[must_use]
pub fn sweep_scratch() -> Vec<PathBuf> {
    sweep(&std::env::temp_dir())
}

fn sweep(directory: &Path) -> Vec<PathBuf> {
    let own = nix::unistd::geteuid().as_raw();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| owner(&entry.file_name().to_string_lossy()).is_some_and(is_dead))
        // Not followed: a link of this name is not ours.
        .filter(|entry| entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own))
        .map(|entry| entry.path())
        .filter(|path| std::fs::remove_dir_all(path).is_ok())
        .collect()
}

/// The process in the name of such a directory, with its start.
fn owner(name: &str) -> Option<(i32, u64)> {
    let mut parts = name.strip_prefix("larder-")?.rsplitn(3, '-');
    let (_random, owner, _purpose) = (parts.next()?, parts.next()?, parts.next()?);
    let (pid, started) = owner.split_once('.')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

fn is_dead((pid, started): (i32, u64)) -> bool {
    // Whoever can't tell its start writes 0.
    table::one(pid).is_none_or(|process| started != 0 && process.started != started || process.zombie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_left_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let mine = scratch("test").unwrap();
        let mine = mine.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(mine.starts_with("larder-test-"), "{mine}");
        for name in ["larder-backup-999999999.1-abc", mine.as_str(), "larder-backup-abc", "other-1.1-x"] {
            std::fs::create_dir_all(place.path().join(name).join("deep")).unwrap();
        }
        // A process of the same number that began at another time is another one.
        let recycled = format!("larder-push-{}.1-x", std::process::id());
        std::fs::create_dir(place.path().join(&recycled)).unwrap();
        let mut gone: Vec<String> =
            sweep(place.path()).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        gone.sort();
        let mut wanted = vec!["larder-backup-999999999.1-abc".to_owned(), recycled];
        wanted.sort();
        assert_eq!(gone, wanted);
        assert!(place.path().join(mine).exists() && place.path().join("other-1.1-x").exists());
    }
}
