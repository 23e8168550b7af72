//! Remembers which restic processes were ours, so that a lock that one left behind is known to be ours.
//!
//! One small file a process, named by its pid and start; removed when the process ended by itself. What stays belongs to
//! one that was killed, or to a daemon that crashed. It says what the process would write on a lock, the name of the
//! machine above all: a container that is made anew gets a new one, and its pids begin again. Not synced to disk: losing
//! one only means that a lock is not removed early.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::process::{self, Habitat, ProcessSeen};

/// Files that are older belong to no lock that still matters.
const AGE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(90 * 24);
/// Files that are read at most.
const FILES_MAX: usize = 10_000;

/// The directory of these files.
pub(super) struct Children {
    directory: PathBuf,
}

/// One restic process that was ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Child {
    pub(super) pid: u32,
    /// By the kernel's clock, as the process itself sees it.
    pub(super) started: Timestamp,
    /// Its start in ticks since boot.
    #[serde(default)]
    pub(super) ticks: Option<u64>,
    /// Where its pid means something; none in files of older versions.
    #[serde(default)]
    pub(super) habitat: Option<Habitat>,
    /// The machine's name and the user's, as its locks have them.
    #[serde(default)]
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
}

impl Child {
    /// Whether `process`, seen in `habitat`, is this very one.
    pub(super) fn is(&self, process: &ProcessSeen, habitat: Option<&Habitat>) -> bool {
        self.ticks == Some(process.ticks) && habitat.is_some() && self.habitat.as_ref() == habitat
    }
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

    /// Writes down the process `pid`, which runs.
    pub(super) fn remember(&self, pid: u32) -> Child {
        let process = process::seen(i64::from(pid));
        let child = Child {
            pid,
            started: process.as_ref().map_or_else(Timestamp::now, |process| process.started),
            ticks: process.map(|process| process.ticks),
            habitat: process::habitat(),
            host: Some(host_name()),
            user: user_name(),
        };
        if let Ok(text) = serde_json::to_string(&child) {
            // Best effort, as the head of this file says.
            let _ = std::fs::write(self.path(&child), text);
        }
        child
    }

    pub(super) fn forget(&self, child: &Child) {
        let _ = std::fs::remove_file(self.path(child));
    }

    /// All that are remembered; what is too old is forgotten.
    pub(super) fn all(&self, now: Timestamp) -> Vec<Child> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten().take(FILES_MAX);
        let read = entries.filter_map(|entry| {
            let child: Child = serde_json::from_str(&std::fs::read_to_string(entry.path()).ok()?).ok()?;
            if now.duration_since(child.started) > AGE_MAX {
                let _ = std::fs::remove_file(entry.path());
                return None;
            }
            Some(child)
        });
        read.collect()
    }

    fn path(&self, child: &Child) -> PathBuf {
        self.directory.join(format!("{}-{}", child.pid, child.ticks.unwrap_or(0)))
    }
}

/// The machine's name, as a lock has it.
pub(super) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

pub(super) fn user_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_that_had_the_same_pid_are_both_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let children = Children::open(dir.path()).unwrap();
        let own = children.remember(std::process::id());
        let now = Timestamp::now();
        // A container that was made anew: other names, the same small pid.
        let earlier = Child { ticks: Some(1), host: Some("5f0c2b9d77aa".to_owned()), ..own.clone() };
        std::fs::write(children.path(&earlier), serde_json::to_string(&earlier).unwrap()).unwrap();
        // As an older Larder wrote it.
        std::fs::write(dir.path().join("children/42"), format!(r#"{{"pid":42,"started":"{now}"}}"#)).unwrap();
        assert_eq!(children.all(now).len(), 3);
        children.forget(&own);
        let left = children.all(now);
        assert!(
            left.contains(&earlier) && left.iter().any(|child| child.pid == 42 && child.host.is_none()),
            "{left:?}"
        );
        assert_eq!(children.all(now.saturating_add(AGE_MAX * 2).unwrap()), []);
        assert_eq!(std::fs::read_dir(dir.path().join("children")).unwrap().count(), 0);
    }

    #[test]
    fn a_process_is_told_from_another_by_more_than_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let own = Children::open(dir.path()).unwrap().remember(std::process::id());
        let (seen, here) = (process::seen(i64::from(own.pid)).unwrap(), process::habitat());
        assert!(own.is(&seen, here.as_ref()));
        assert!(!own.is(&ProcessSeen { ticks: seen.ticks + 1, ..seen.clone() }, here.as_ref()));
        assert!(!own.is(&seen, Some(&Habitat { boot: "another".to_owned(), namespace: "pid:[1]".to_owned() })));
    }
}
