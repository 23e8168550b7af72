//! Who makes a repository: one at a time, whichever process or machine it is.
//!
//! restic looks for `config` first and writes it last, so two that begin at once leave a repository that neither of them
//! can open. Whoever makes one holds a directory in its place meanwhile, which no file system makes twice.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{Habitat, habitat, seen};

/// How the directory that is held begins; a repository has no such name.
const MARKER: &str = ".larder-making";
const OWNER: &str = "owner";
/// Longest that a live one takes; on another machine nobody can look whether it lives.
const OTHERS_MAX: Duration = Duration::from_mins(10);
/// Longest between making the directory and saying whose it is.
const UNSAID_MAX: Duration = Duration::from_secs(30);

/// A process, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    habitat: Option<Habitat>,
    pid: u32,
    ticks: Option<u64>,
}

/// The right to make a repository; ends with it.
#[derive(Debug)]
pub(super) struct Making {
    marker: PathBuf,
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.marker);
    }
}

/// Whether an entry of a repository's place is what stands here while one is made.
pub(super) fn is_marker(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(MARKER)
}

/// Takes the right to make one at `path`; none: somebody else is making it.
pub(super) fn begin(path: &Path) -> io::Result<Option<Making>> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let marker = path.join(MARKER);
    if marker.symlink_metadata().is_ok() && is_dead(path, &marker)? {
        set_aside(path, &marker)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(&marker) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    }
    let making = Making { marker };
    let pid = std::process::id();
    let owner = Owner { habitat: habitat(), pid, ticks: seen(i64::from(pid)).map(|seen| seen.ticks) };
    std::fs::write(making.marker.join(OWNER), serde_json::to_vec(&owner)?)?;
    Ok(Some(making))
}

fn owner(marker: &Path) -> Option<Owner> {
    serde_json::from_slice(&std::fs::read(marker.join(OWNER)).ok()?).ok()
}

fn is_dead(path: &Path, marker: &Path) -> io::Result<bool> {
    let owner = owner(marker);
    if let Some(owner) = owner.as_ref().filter(|owner| owner.habitat.is_some() && owner.habitat == habitat()) {
        return Ok(seen(i64::from(owner.pid)).is_none_or(|seen| Some(seen.ticks) != owner.ticks));
    }
    let modified = match marker.symlink_metadata() {
        Ok(found) => found.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // By the clock of the file system, which may be another machine's.
    let now = tempfile::Builder::new().prefix(MARKER).tempfile_in(path)?.as_file().metadata()?.modified()?;
    let age = now.duration_since(modified).unwrap_or_default();
    Ok(age > if owner.is_some() { OTHERS_MAX } else { UNSAID_MAX })
}

/// Removes what a dead one left, unless another took its place meanwhile.
fn set_aside(path: &Path, marker: &Path) -> io::Result<()> {
    let before = owner(marker);
    let aside = tempfile::Builder::new().prefix(MARKER).tempdir_in(path)?;
    let moved = aside.path().join("it");
    match std::fs::rename(marker, &moved) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if owner(&moved) != before {
        std::fs::rename(&moved, marker)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_makes_it_and_a_dead_one_is_no_bar() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("restic");
        let making = begin(&place).unwrap().unwrap();
        assert!(begin(&place).unwrap().is_none());
        drop(making);
        let making = begin(&place).unwrap().unwrap();
        let dead = Owner { habitat: habitat(), pid: 1, ticks: Some(u64::MAX) };
        std::fs::write(making.marker.join(OWNER), serde_json::to_vec(&dead).unwrap()).unwrap();
        std::mem::forget(making);
        drop(begin(&place).unwrap().unwrap());
        // Of another machine it is believed for a while.
        let making = begin(&place).unwrap().unwrap();
        let elsewhere = Habitat { boot: "other".into(), namespace: "other".into() };
        let far = Owner { habitat: Some(elsewhere), pid: 1, ticks: Some(1) };
        std::fs::write(making.marker.join(OWNER), serde_json::to_vec(&far).unwrap()).unwrap();
        std::mem::forget(making);
        assert!(begin(&place).unwrap().is_none());
        let long_ago = std::time::SystemTime::now() - OTHERS_MAX * 2;
        std::fs::File::open(place.join(MARKER)).unwrap().set_modified(long_ago).unwrap();
        drop(begin(&place).unwrap().unwrap());
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "nothing stays");
    }
}
