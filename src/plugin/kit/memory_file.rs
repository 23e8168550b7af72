//! A secret as a file that lies on no disk: a program that this process starts opens it through `/proc/<pid>/fd`.
//!
//! It is gone with the plugin however that ends, so a kill leaves no password and no key behind.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Lives as long as the programs that read it.
pub(crate) struct MemoryFile {
    /// Keeps it there.
    _file: File,
    path: PathBuf,
}

impl MemoryFile {
    pub(crate) fn new(content: &[u8]) -> io::Result<Self> {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let mut file = File::from(nix::sys::memfd::memfd_create(c"larder", flags)?);
        // Programs refuse or ignore a secret that others may read.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Ok(Self { _file: file, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_again_and_again_by_its_path_alone() {
        let file = MemoryFile::new(b"secret").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"secret");
        assert_eq!(std::fs::read(file.path()).unwrap(), b"secret");
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
    }
}
