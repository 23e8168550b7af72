//! Remembers which restic processes were ours, so that a lock that one left behind is known to be ours.
//!
//! One small file a process, named by its pid; removed when the process ended by itself. What stays belongs to one that
//! was killed, or to a daemon that crashed. Not synced to disk: losing one only means that a lock is not removed early.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EngineError;

/// Files that are older belong to no lock that still matters.
const AGE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(90 * 24);

/// The directory of these files.
pub(super) struct Children {
    directory: PathBuf,
}

/// One restic process that was ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) started: Timestamp,
}

impl Children {
    pub(super) fn open(cache: &Path) -> Result<Self, EngineError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let directory = cache.join("children");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| EngineError::Files(directory.clone(), error))?;
        Ok(Self { directory })
    }

    pub(super) fn remember(&self, pid: u32) {
        let child = Child { pid, started: Timestamp::now() };
        if let Ok(text) = serde_json::to_string(&child) {
            // Best effort, as the head of this file says.
            let _ = std::fs::write(self.path(pid), text);
        }
    }

    pub(super) fn forget(&self, pid: u32) {
        let _ = std::fs::remove_file(self.path(pid));
    }

    /// The process `pid`, if it was ours; what is too old is forgotten.
    pub(super) fn get(&self, pid: i64, now: Timestamp) -> Option<Child> {
        let pid = u32::try_from(pid).ok()?;
        let child: Child = serde_json::from_str(&std::fs::read_to_string(self.path(pid)).ok()?).ok()?;
        if now.duration_since(child.started) > AGE_MAX {
            self.forget(pid);
            return None;
        }
        Some(child)
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.directory.join(pid.to_string())
    }
}
