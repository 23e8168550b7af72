//! Puts a restored file in the place of another one, at once, and keeps the old one beside it.
//!
//! Whoever looks sees the old file or the new one, never none and never half of one. The new one gets the owner and the
//! mode of the old one, so the application can read what root restored.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The suffix of what a run set aside.
pub(crate) fn aside(path: &Path, run: &str) -> PathBuf {
    with_suffix(path, &format!(".before-{}", run.to_lowercase()))
}

/// The path with more behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A copy of a file beside its goal, complete and flushed, that becomes it by [`Placing::finish`].
pub(crate) struct Placing {
    half: PathBuf,
    goal: PathBuf,
}

impl Placing {
    /// Copies `new` to beside `goal`. `on_chunk` gets the bytes copied now and then.
    pub(crate) fn prepare(new: &Path, goal: &Path, run: &str, mut on_chunk: impl FnMut(u64)) -> io::Result<Self> {
        let directory = goal.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
        let name = goal.file_name().unwrap_or_default().to_string_lossy();
        let half = directory.join(format!(".{name}.larder-{}", run.to_lowercase()));
        let placing = Self { half, goal: goal.to_owned() };
        let mut from = File::open(new)?;
        let mut into = File::options().write(true).create_new(true).open(&placing.half)?;
        into.set_permissions(fs::Permissions::from_mode(0o600))?;
        let mut done = 0;
        loop {
            let copied = io::copy(&mut io::Read::take(&mut from, 64 << 20), &mut into)?;
            done += copied;
            on_chunk(done);
            if copied == 0 {
                break;
            }
        }
        let (owner, mode) = match fs::metadata(goal) {
            Ok(old) => (old, None),
            Err(_) => (fs::metadata(directory)?, Some(0o640)),
        };
        let own = into.metadata()?;
        if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
            std::os::unix::fs::fchown(&into, Some(owner.uid()), Some(owner.gid()))?;
        }
        into.set_permissions(fs::Permissions::from_mode(mode.unwrap_or(owner.mode() & 0o7777)))?;
        into.sync_all()?;
        Ok(placing)
    }

    /// The complete copy that is to be put in place.
    pub(crate) fn half(&self) -> &Path {
        &self.half
    }

    /// Gives the old file the name `kept` too, where there is one.
    pub(crate) fn keep_old(&self, kept: &Path) -> io::Result<bool> {
        match fs::hard_link(&self.goal, kept) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            // A file system without links: then there is no file for a moment.
            Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                fs::rename(&self.goal, kept).map(|()| true)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        fs::rename(&self.half, &self.goal)?;
        if let Some(directory) = self.goal.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_file_has_the_mode_of_the_old_one_which_stays_beside() {
        let directory = tempfile::tempdir().unwrap();
        let (new, goal) = (directory.path().join("new"), directory.path().join("goal"));
        fs::write(&new, "new").unwrap();
        fs::write(&goal, "old").unwrap();
        fs::set_permissions(&goal, fs::Permissions::from_mode(0o604)).unwrap();
        let placing = Placing::prepare(&new, &goal, "01RUN", |_| {}).unwrap();
        assert!(placing.keep_old(&aside(&goal, "01RUN")).unwrap());
        assert_eq!(fs::read(&goal).unwrap(), b"old");
        placing.finish().unwrap();
        assert_eq!(fs::read(&goal).unwrap(), b"new");
        assert_eq!(fs::read(directory.path().join("goal.before-01run")).unwrap(), b"old");
        assert_eq!(fs::metadata(&goal).unwrap().mode() & 0o777, 0o604);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (new, goal) = (directory.path().join("new"), directory.path().join("goal"));
        fs::write(&new, "new").unwrap();
        let placing = Placing::prepare(&new, &goal, "01RUN", |_| {}).unwrap();
        assert!(!placing.keep_old(&aside(&goal, "01RUN")).unwrap());
        drop(placing);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
