//! The path that restic ships, the same in every run.
//!
//! restic finds a snapshot's parent, and groups snapshots for retention, by host and paths. A publication's own path
//! has the date in it, so each run would look like a new thing. Therefore every job has one fixed directory that is
//! filled anew for each run with hard links to what was published: no second copy, same content, same path. Where
//! the file system has no hard links (FAT, some network shares) the files are copied, by reflink where it can.
//!
//! It is per job, not per target: jobs of one target may run at the same time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;

use super::files::DEPTH_MAX;
use super::{ArtifactError, Published, Shelf, files};
use crate::types::JobId;

impl Shelf {
    /// Rebuilds the job's view from `published` (with its manifest) and returns its path:
    /// `<root>/.larder/ship/<target>/<policy>`. Only one run of a job may be between here and the end of its shipping.
    ///
    /// # Errors
    /// When it cannot be built; the old view is gone then or still whole, never mixed.
    pub fn ship_view(&self, job: &JobId, published: &Published) -> Result<PathBuf, ArtifactError> {
        let view = self.ship_of(job);
        files::make_private(&self.private())?;
        files::make_private(&self.ship())?;
        if let Some(target) = view.parent() {
            files::make_private(target)?;
        }
        // Built beside it (a policy's name never starts with a dot), then put in its place.
        let fresh = view.with_file_name(format!(".{}-{}", job.policy, published.run));
        files::remove_tree(&fresh)?;
        link_tree(&published.path, &fresh, 0)?;
        files::remove_tree(&view)?;
        fs::rename(&fresh, &view).map_err(|source| ArtifactError::Move { from: fresh, to: view.clone(), source })?;
        Ok(view)
    }
}

fn link_tree(from: &Path, to: &Path, depth: usize) -> Result<(), ArtifactError> {
    if depth > DEPTH_MAX {
        return Err(ArtifactError::TooMany { what: "nested directories", limit: DEPTH_MAX });
    }
    files::make_new(to, files::DIRECTORY_MODE)?;
    for entry in fs::read_dir(from).map_err(|e| ArtifactError::read(from, e))? {
        let entry = entry.map_err(|e| ArtifactError::read(from, e))?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|e| ArtifactError::read(&source, e))?;
        if kind.is_dir() {
            link_tree(&source, &place, depth + 1)?;
        } else if kind.is_file() {
            link(&source, &place).map_err(|e| ArtifactError::Make { path: place, source: e })?;
        } else {
            return Err(ArtifactError::Refused { path: source, what: "not what was published" });
        }
    }
    Ok(())
}

/// Links, or copies where links are not to be had.
fn link(source: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(source, place) {
        Err(error) if lacks_links(&error) => fs::copy(source, place).map(drop),
        result => result,
    }
}

fn lacks_links(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK | libc::EXDEV | libc::EACCES)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_links_is_told_from_a_full_disk() {
        for code in [libc::EPERM, libc::EOPNOTSUPP, libc::EMLINK, libc::ENOSYS] {
            assert!(lacks_links(&io::Error::from_raw_os_error(code)));
        }
        for code in [libc::ENOSPC, libc::EIO, libc::EROFS, libc::EEXIST] {
            assert!(!lacks_links(&io::Error::from_raw_os_error(code)));
        }
    }
}
