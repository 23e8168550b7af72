//! What a killed `restic init` leaves: restic's directories, perhaps a key, and no `config`, which is written last.
//!
//! Such a directory holds no backup and never was a repository, so a later `init` may clear it. Anything else in it, a
//! single file of data or an index, makes it somebody's, and it is left alone.

use std::io;
use std::path::Path;

use super::making;

/// The directories that restic makes; `data` has 256 more, with two hex digits each.
const DIRECTORIES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// Entries of the top directory at most; more is nothing of restic's.
const ENTRIES_MAX: usize = 16;

/// Whether `path` holds nothing but the beginning of a repository.
pub(super) fn is(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let mut seen = 0;
    for entry in entries {
        seen += 1;
        let Ok(entry) = entry else { return false };
        let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { return false };
        if making::is_marker(&name) {
            continue;
        }
        let name = name.to_string_lossy();
        let fits = if kind.is_dir() {
            DIRECTORIES.contains(&&*name) && (name == "keys" || is_hollow(&entry.path()))
        } else {
            // restic writes `config` under another name first.
            kind.is_file() && name.starts_with("config-tmp-")
        };
        if !fits || seen > ENTRIES_MAX {
            return false;
        }
    }
    seen > 0
}

/// Whether there is no file below `path`, one level of directories deep.
fn is_hollow(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.flatten().all(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && std::fs::read_dir(entry.path()).is_ok_and(|mut below| below.next().is_none())
    })
}

/// Empties `path`, which [`is`] a stillborn repository; the directory itself stays, since it may be a mount point.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if making::is_marker(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_beginning_of_a_repository_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let at = |relative: &str| dir.path().join(relative);
        assert!(!is(dir.path()), "an empty directory is no beginning");
        for each in ["data/00", "data/ff", "index", "keys", "locks", "snapshots"] {
            std::fs::create_dir_all(at(each)).unwrap();
        }
        std::fs::write(at("keys/0123"), "{}").unwrap();
        std::fs::write(at("config-tmp-1"), "").unwrap();
        assert!(is(dir.path()));
        for somebodys in ["data/00/4567", "index/89ab", "snapshots/cdef", "config", "photo.jpg"] {
            std::fs::write(at(somebodys), "x").unwrap();
            assert!(!is(dir.path()), "{somebodys} is somebody's");
            std::fs::remove_file(at(somebodys)).unwrap();
        }
        clear(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
