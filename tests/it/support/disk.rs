//! A small file system of its own: what a full disk comes to.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs, unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `size` as mount takes it: `3m`.
    pub fn mount(path: PathBuf, size: &str) -> Self {
        Self::try_mount(&path, size)
            .expect("mounting a small tmpfs needs root; run the tests as root or in a user namespace")
    }

    /// None where nothing can be mounted.
    pub fn try_mount(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status().unwrap();
        mounted.success().then(|| Self(path.to_owned()))
    }

    pub fn read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
