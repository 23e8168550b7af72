//! Whether a run may write: mounted, writable, with room. Nothing is made before the mount is known to be there.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

use super::{PRIVATE, Shelf, files, mount};
use crate::error::{Trouble, codes};
use crate::look;
use crate::types::ByteSize;

/// How long the answer may take: a dead NFS server answers never.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// What is known of the root's file system.
#[derive(Clone, Copy, Debug)]
struct Space {
    free_bytes: u64,
    /// None where the file system doesn't count them.
    free_inodes: Option<u64>,
    read_only: bool,
}

/// Asks in a thread of its own, so that a hanging file system costs one thread and not the daemon.
pub(super) fn within(shelf: Shelf, bound: Duration) -> Result<(), Trouble> {
    let root = shelf.root.clone();
    look::within(&root, bound, move || look(&shelf))
        .unwrap_or_else(|silent| Err(silent.trouble(codes::ARTIFACTS_HANGING, "the artifact root")))
}

/// Says whether the root is on its mount, where one is required.
pub(super) fn mounted(shelf: &Shelf) -> Result<(), Trouble> {
    let root = &shelf.root;
    if !shelf.require_mount {
        return Ok(());
    }
    match mount::holds(root) {
        Ok(true) => Ok(()),
        Ok(false) => Err(unmounted(root)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unmounted(root)),
        Err(error) => Err(unreadable(root, &error)),
    }
}

fn look(shelf: &Shelf) -> Result<(), Trouble> {
    let root = &shelf.root;
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(Trouble::new(codes::ARTIFACTS_NOT_A_DIRECTORY, format!("{} is no directory", root.display()))
                .with_hint("set `artifacts.path` in the Site to a directory"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && shelf.require_mount => return Err(unmounted(root)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_root(root)?,
        Err(error) => return Err(unreadable(root, &error)),
    }
    mounted(shelf)?;
    let space = statvfs(root).map_err(|errno| unreadable(root, &errno.into()))?;
    judge(root, Space::from(space), shelf.min_free)?;
    probe(root)
}

/// Judges what the file system says about itself.
fn judge(root: &Path, space: Space, min_free: ByteSize) -> Result<(), Trouble> {
    if space.read_only {
        return Err(read_only(root));
    }
    if space.free_bytes < min_free.0 {
        let message =
            format!("{} has {} free, and {min_free} must stay free", root.display(), ByteSize(space.free_bytes));
        return Err(Trouble::new(codes::DISK_NEARLY_FULL, message)
            .with_hint("make room there, lower `keep_runs`, or lower `artifacts.min_free` in the Site"));
    }
    if space.free_inodes == Some(0) {
        return Err(Trouble::new(
            codes::DISK_NEARLY_FULL,
            format!("{} has no inode left for new files", root.display()),
        )
        .with_hint("many small files fill a file system before its bytes are used: remove some"));
    }
    Ok(())
}

/// Writes and removes a small file: permissions, quotas and root squash show only so.
fn probe(root: &Path) -> Result<(), Trouble> {
    let private = root.join(PRIVATE);
    let tried = files::make_private(&private).and_then(|()| {
        let file = private.join(format!("probe-{}-{:?}", std::process::id(), std::thread::current().id()));
        // A probe of this very name is what a killed daemon left.
        files::remove_tree(&file)?;
        files::write_new(&file, b"larder\n", files::FILE_MODE)?;
        files::remove_tree(&file)
    });
    tried.map_err(|error| if error.is_read_only() { read_only(root) } else { error.trouble() })
}

fn make_root(root: &Path) -> Result<(), Trouble> {
    if !root.parent().is_some_and(Path::is_dir) {
        return Err(Trouble::new(
            codes::ARTIFACTS_MISSING,
            format!("the artifact root {} is not there", root.display()),
        )
        .with_hint(format!("make it (`mkdir -p {}`) or set `artifacts.path` in the Site", root.display())));
    }
    files::make(root, files::DIRECTORY_MODE).map_err(|error| error.trouble())
}

fn unmounted(root: &Path) -> Trouble {
    Trouble::new(codes::ARTIFACTS_UNMOUNTED, format!("nothing is mounted at the artifact root {}", root.display()))
        .with_hint(format!(
            "mount it (`findmnt {}` shows whether it is), or set `require_mount: false` in the Site",
            root.display()
        ))
}

fn read_only(root: &Path) -> Trouble {
    Trouble::new(codes::ARTIFACTS_READ_ONLY, format!("the file system of {} is read-only", root.display()))
        .with_hint("a file system turns read-only after disk errors: see `dmesg`, then remount it read-write")
}

fn unreadable(root: &Path, error: &io::Error) -> Trouble {
    Trouble::new(codes::ARTIFACTS_UNREADABLE, format!("the artifact root {} cannot be read: {error}", root.display()))
        .with_hint("give the daemon's user the right to read and write there")
}

impl From<Statvfs> for Space {
    #[expect(clippy::useless_conversion, reason = "the C types differ in width between platforms")]
    fn from(found: Statvfs) -> Self {
        Self {
            free_bytes: u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())),
            free_inodes: (u64::from(found.files()) > 0).then(|| u64::from(found.files_available())),
            read_only: found.flags().contains(FsFlags::ST_RDONLY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Space = Space { free_bytes: 10 << 30, free_inodes: Some(1000), read_only: false };

    fn code(space: Space) -> Option<String> {
        judge(Path::new("/backups"), space, ByteSize(1 << 30)).err().map(|trouble| trouble.code)
    }

    #[test]
    fn a_disk_is_refused_for_what_it_says_about_itself() {
        assert_eq!(code(ROOM), None);
        assert_eq!(code(Space { free_inodes: None, ..ROOM }), None);
        assert_eq!(code(Space { free_bytes: (1 << 30) - 1, ..ROOM }).as_deref(), Some("disk_nearly_full"));
        assert_eq!(code(Space { free_inodes: Some(0), ..ROOM }).as_deref(), Some("disk_nearly_full"));
        assert_eq!(code(Space { read_only: true, ..ROOM }).as_deref(), Some("artifacts_read_only"));
    }
}
