//! Whether a repository can be written, without writing into it: one that can only be read looks well until the next
//! backup.
//!
//! restic itself tells that too, but only by the first file that it can't make, and asking it costs a lock.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::repository::{config_of, local_path, room};
use super::{EngineError, RepositoryAccess};
use crate::look::{self, LOOK_MAX};

/// Where a backup writes.
const PLACES: [&str; 4] = ["locks", "snapshots", "index", "data"];

/// Packs lie below `data` in so many, by the first byte of their names.
const PACK_DIRECTORIES: usize = 256;

/// Directories below `data` that are looked at.
const PACK_DIRECTORIES_MAX: usize = 1024;

/// Makes sure that a backup could write everywhere in a repository on this machine.
///
/// # Errors
/// `NotWritable` with the first place that takes no file; the repository's disk does not answer.
pub async fn writable(access: &RepositoryAccess) -> Result<(), EngineError> {
    let Some(path) = local_path(access) else { return Ok(()) };
    let looked = path.clone();
    let found = look::at(&path, LOOK_MAX, move || first_closed(&looked, may_write)).await;
    match found.map_err(|silent| EngineError::Silent { silent })? {
        Some((place, why)) => Err(EngineError::NotWritable {
            location: access.location.clone(),
            detail: format!("{}: {why}", place.display()),
        }),
        None => Ok(()),
    }
}

/// Whether a directory of this machine has a repository that can be written, or room for one; restic is not asked.
///
/// # Errors
/// What a first run would meet.
pub async fn fits(access: &RepositoryAccess) -> Result<(), EngineError> {
    if config_of(access).await? == Some(None) { room(access).await } else { writable(access).await }
}

fn may_write(place: &Path) -> Result<(), Errno> {
    access(place, AccessFlags::W_OK | AccessFlags::X_OK)
}

/// The first directory that takes no file, and why. One that has all it needs need not take more.
fn first_closed(repository: &Path, may_write: impl Fn(&Path) -> Result<(), Errno>) -> Option<(PathBuf, String)> {
    let data = repository.join("data");
    let packs = std::fs::read_dir(&data).into_iter().flatten().flatten().map(|entry| entry.path());
    let packs: Vec<PathBuf> = packs.filter(|path| path.is_dir()).take(PACK_DIRECTORIES_MAX).collect();
    let places = PLACES.map(|place| repository.join(place));
    let mut all = packs;
    if all.len() < PACK_DIRECTORIES {
        all.push(data);
    }
    if places.iter().any(|place| !place.is_dir()) {
        all.push(repository.to_owned());
    }
    all.extend(places.into_iter().filter(|place| !place.ends_with("data")));
    for place in all {
        match may_write(&place) {
            // What is not there is made, by whoever may write above it.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Some((place, std::io::Error::from(errno).to_string())),
        }
    }
    // A server may allow what it refuses afterwards. The file never gets a name.
    let locks = repository.join("locks");
    match tempfile::tempfile_in(&locks) {
        Err(error) if locks.is_dir() => Some((locks, error.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_with_all_its_directories_need_not_take_more_of_them() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::create_dir_all(root.path().join(name)).unwrap();
        for place in PLACES {
            make(place);
        }
        for n in 0..PACK_DIRECTORIES {
            make(&format!("data/{n:02x}"));
        }
        let closed = |name: &str| {
            let place = root.path().join(name);
            let refuse = |asked: &Path| if asked == place { Err(Errno::EACCES) } else { Ok(()) };
            first_closed(root.path(), refuse).map(|(closed, _)| closed)
        };
        for place in ["locks", "snapshots", "index", "data/7f"] {
            assert_eq!(closed(place), Some(root.path().join(place)));
        }
        assert_eq!((closed("data"), closed("")), (None, None));
        std::fs::remove_dir(root.path().join("data/7f")).unwrap();
        assert_eq!(closed("data"), Some(root.path().join("data")));
        std::fs::remove_dir(root.path().join("index")).unwrap();
        assert_eq!(closed(""), Some(root.path().join("")));
        assert_eq!(first_closed(root.path(), may_write), None);
    }
}
