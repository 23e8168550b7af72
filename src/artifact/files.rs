//! The few file operations that the shelf is made of, each with its path in the error.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::libc;

use super::ArtifactError;

/// Of `.larder` and what is in it: a dump that is not validated yet is nobody else's business.
pub(super) const PRIVATE_MODE: u32 = 0o700;
/// Of published directories: the operator's group may read.
pub(super) const DIRECTORY_MODE: u32 = 0o750;
/// Of published files.
pub(super) const FILE_MODE: u32 = 0o640;

/// Deepest directory of one run.
pub const DEPTH_MAX: usize = 64;

/// Makes a directory that must not be there yet, with exactly this mode.
pub(super) fn make_new(path: &Path, mode: u32) -> Result<(), ArtifactError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| set_mode(path, mode))
        .map_err(|source| ArtifactError::Make { path: path.to_owned(), source })
}

/// Makes a directory of ours unless it is there, and makes its name durable; a link in its place is refused.
///
/// The parent must be there: an unmounted root is never made by accident.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), ArtifactError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            set_mode(path, mode).map_err(|e| ArtifactError::write(path, e))?;
            path.parent().map_or(Ok(()), sync_directory)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(|e| ArtifactError::read(path, e))?;
            if found.is_dir() {
                Ok(())
            } else {
                Err(ArtifactError::Make { path: path.to_owned(), source: io::ErrorKind::NotADirectory.into() })
            }
        }
        Err(source) => Err(ArtifactError::Make { path: path.to_owned(), source }),
    }
}

pub(super) fn make_private(path: &Path) -> Result<(), ArtifactError> {
    make(path, PRIVATE_MODE)
}

/// Sets a mode where the file system knows modes; FAT and some network shares don't, and that is no reason not to back up.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
        result => result,
    }
}

/// Makes the names in a directory durable; some network file systems can't and say `EINVAL`.
pub(super) fn sync_directory(path: &Path) -> Result<(), ArtifactError> {
    let result = File::open(path).and_then(|directory| directory.sync_all());
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(()),
        Err(error) => Err(ArtifactError::write(path, error)),
        Ok(()) => Ok(()),
    }
}

/// Writes a file that must not be there yet and makes its content durable; leaves nothing when it fails.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ArtifactError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        set_mode(path, mode)?;
        file.sync_all()
    };
    write().map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            // The first error is the one to tell.
            let _ = fs::remove_file(path);
        }
        ArtifactError::write(path, error)
    })
}

/// Opens a plain file for reading and never follows a link or waits for a pipe's other end.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

/// Removes a directory and everything in it (links are removed, not followed), or a file; nothing there is fine.
///
/// A directory that a plugin left without write permission is opened up first, as far as we own it.
pub(super) fn remove_tree(path: &Path) -> Result<(), ArtifactError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArtifactError::read(path, error)),
    };
    let remove = || if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    let result = match remove() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && found.is_dir() => {
            open_up(path, 0);
            remove()
        }
        result => result,
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ArtifactError::Remove { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn open_up(path: &Path, depth: usize) {
    let _ = fs::set_permissions(path, Permissions::from_mode(PRIVATE_MODE));
    if depth >= DEPTH_MAX * 2 {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path(), depth + 1);
        }
    }
}
