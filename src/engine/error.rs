//! What can go wrong with a repository, and which of it a failed restic means.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Code, Trouble, codes};
use crate::look::Silent;

use super::wanted::literal;

/// Says what was wrong with restic, a repository or a request; never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("restic is not there: {program} ({detail})")]
    ProgramMissing { program: String, detail: String },
    #[error("{program} is not on the PATH, and destination {destination} has `{program}`")]
    PriorityProgram { program: String, destination: String },
    #[error("restic {found} at {program} is too old: 0.17.0 or newer is needed")]
    TooOld { program: String, found: String },
    #[error("{program} does not answer as restic does: {detail}")]
    NotRestic { program: String, detail: String },
    #[error("the repository {location} is not there")]
    RepositoryMissing { location: String },
    #[error("{location} holds another repository: expected {expected}, found {found}")]
    RepositoryReplaced { location: String, expected: String, found: String },
    #[error("the directory above the repository {location} is not there")]
    ParentMissing { location: String },
    #[error("{location} holds files but no repository")]
    NotARepository { location: String },
    #[error("the repository {location} is locked by {by}{}", told(left))]
    Locked {
        location: String,
        by: String,
        /// The locks in the way that are not ours to remove.
        left: Vec<ToldLock>,
    },
    #[error("{id:?} is no lock's id")]
    LockId { id: String },
    #[error("there is no lock {id} in {location}")]
    LockMissing { id: String, location: String, there: Vec<String> },
    #[error("the {lock} is in use: {why}")]
    LockAlive { lock: String, why: String },
    #[error("{location} does not work, however often restic tries the same: {detail}")]
    InVain { location: String, detail: String },
    #[error("the password of the repository {location} is wrong")]
    WrongPassword { location: String },
    #[error("the repository {location} is damaged: {detail}")]
    Damaged { location: String, detail: String },
    #[error("the disk of {location} is full: {detail}")]
    DiskFull { location: String, detail: String },
    #[error("there is no room left for what is restored below {to}: {detail}")]
    RestoreFull { to: String, detail: String },
    #[error("{location} cannot be written: {detail}")]
    NotWritable { location: String, detail: String },
    #[error("none of the paths to back up is there: {}", paths.join(", "))]
    NothingThere { paths: Vec<String> },
    #[error("{path:?} is no absolute path")]
    NotAbsolute { path: String },
    #[error("{pattern:?} is no pattern that restic can read from a file: it has a line end")]
    Pattern { pattern: String },
    #[error("`{pattern}` is no pattern: {why}")]
    NoPattern { pattern: String, why: &'static str },
    #[error("{id:?} is no snapshot id")]
    SnapshotId { id: String },
    #[error("there is no snapshot {id} in {location}")]
    SnapshotMissing { id: String, location: String },
    #[error("nothing in the snapshot {id} matches {}", include.join(", "))]
    NothingMatches { id: String, include: Vec<String> },
    #[error("the restore destination {0} is not empty")]
    DestinationNotEmpty(PathBuf),
    #[error("{failed} of the restored items failed: {detail}")]
    RestoreIncomplete { failed: u64, detail: String },
    #[error("the snapshot {id} that restic reported is not in {location}")]
    SnapshotUnseen { id: String, location: String },
    #[error("the snapshot {id} is not what was asked for: {difference}")]
    SnapshotDiffers { id: String, difference: String },
    #[error("{left} snapshots are still in {location} although restic said that it forgot them")]
    StillThere { left: usize, location: String },
    #[error("{}", trouble.message)]
    Storage { code: Code, trouble: Box<Trouble> },
    #[error("restic does not trust the certificate of {location}: {detail}")]
    Certificate { location: String, detail: String },
    #[error("{location} does not let us: {detail}")]
    Denied { location: String, detail: String },
    #[error("{location} takes no more for now: {detail}")]
    Busy { location: String, detail: String },
    #[error("{location} cannot be reached: {detail}")]
    Unreachable { location: String, detail: String },
    #[error("{silent}")]
    Silent { silent: Silent },
    #[error("restic was cancelled")]
    Cancelled,
    #[error("restic took longer than {}", crate::types::show_duration(*.0))]
    TooSlow(Duration),
    #[error("restic made no progress for {}", crate::types::show_duration(*.0))]
    Stuck(Duration),
    #[error("restic {operation} failed ({how}): {detail}")]
    Failed { operation: String, how: String, detail: String },
    #[error("restic {operation} answered something unknown")]
    Garbled { operation: String },
    #[error("preparing {0}")]
    Files(PathBuf, #[source] std::io::Error),
}

impl EngineError {
    /// The stable code of a [`Trouble`].
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::ProgramMissing { .. } => codes::RESTIC_MISSING,
            Self::PriorityProgram { .. } => codes::PROGRAM_MISSING,
            Self::TooOld { .. } => codes::RESTIC_TOO_OLD,
            Self::NotRestic { .. } => codes::NOT_RESTIC,
            Self::RepositoryMissing { .. } => codes::REPOSITORY_MISSING,
            Self::RepositoryReplaced { .. } => codes::REPOSITORY_REPLACED,
            Self::ParentMissing { .. } => codes::REPOSITORY_PARENT_MISSING,
            Self::NotARepository { .. } => codes::NOT_A_REPOSITORY,
            Self::Locked { .. } => codes::REPOSITORY_LOCKED,
            Self::LockId { .. } => codes::BAD_LOCK_ID,
            Self::LockMissing { .. } => codes::LOCK_MISSING,
            Self::LockAlive { .. } => codes::LOCK_ALIVE,
            Self::Busy { .. } => codes::STORAGE_BUSY,
            Self::InVain { .. } => codes::REPOSITORY_FAILING,
            Self::Silent { .. } => codes::PATH_HANGING,
            Self::Storage { code, .. } => *code,
            Self::Certificate { .. } => codes::CERTIFICATE_UNTRUSTED,
            Self::Denied { .. } => codes::UNAUTHORIZED,
            Self::Unreachable { .. } => codes::UNREACHABLE,
            Self::WrongPassword { .. } => codes::WRONG_PASSWORD,
            Self::Damaged { .. } => codes::REPOSITORY_DAMAGED,
            Self::DiskFull { .. } | Self::RestoreFull { .. } => codes::DISK_FULL,
            Self::NotWritable { .. } => codes::NOT_WRITABLE,
            Self::NothingThere { .. } => codes::SOURCE_MISSING,
            Self::NotAbsolute { .. } => codes::RELATIVE_PATH,
            Self::Pattern { .. } | Self::NoPattern { .. } => codes::BAD_PATTERN,
            Self::SnapshotId { .. } => codes::BAD_SNAPSHOT_ID,
            Self::SnapshotMissing { .. } => codes::SNAPSHOT_MISSING,
            Self::NothingMatches { .. } => codes::NOTHING_MATCHES,
            Self::DestinationNotEmpty(_) => codes::DESTINATION_NOT_EMPTY,
            Self::RestoreIncomplete { .. } => codes::RESTORE_INCOMPLETE,
            Self::SnapshotUnseen { .. } => codes::SNAPSHOT_UNSEEN,
            Self::SnapshotDiffers { .. } => codes::SNAPSHOT_DIFFERS,
            Self::StillThere { .. } => codes::SNAPSHOTS_STILL_THERE,
            Self::Cancelled => codes::CANCELLED,
            Self::TooSlow(_) => codes::DEADLINE_EXCEEDED,
            Self::Stuck(_) => codes::NO_PROGRESS,
            Self::Failed { .. } => codes::RESTIC_FAILED,
            Self::Garbled { .. } => codes::RESTIC_GARBLED,
            Self::Files(..) => codes::FILES,
        }
    }

    /// What to type or look at next; none where there is nothing to add.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ProgramMissing { .. } => {
                "install restic 0.17 or newer, or run deploy/get-restic.sh and pass the path with --restic".to_owned()
            }
            Self::PriorityProgram { program, destination } => {
                let package = if program == "ionice" { "util-linux" } else { "coreutils" };
                format!("install the package {package}, or delete `{program}` in the document of {destination}")
            }
            Self::TooOld { .. } => "run deploy/get-restic.sh and pass the path it prints with --restic".to_owned(),
            Self::NotRestic { program, .. } => format!("try `{program} version`"),
            Self::RepositoryMissing { location } => format!(
                "is its disk mounted and complete? Look at {location}; Larder never makes a second repository where one was"
            ),
            Self::RepositoryReplaced { .. } => {
                "mount the disk that belongs there, or give the destination another name to start anew".to_owned()
            }
            Self::ParentMissing { location } => {
                format!("is its disk mounted? Make the directory above {location} if it is meant to be there")
            }
            Self::NotARepository { location } => {
                format!("choose an empty directory, or move away what is in {location}")
            }
            Self::Locked { left, .. } => unlocking(left),
            Self::LockId { .. } => "give 8 to 64 hex digits as `larder destination unlock NAME` shows them".to_owned(),
            Self::LockMissing { there, .. } if there.is_empty() => "no lock is there any more".to_owned(),
            Self::LockMissing { there, .. } => format!("there are: {}", there.join("; ")),
            Self::LockAlive { .. } => "wait for it to end, or end it".to_owned(),
            Self::Silent { silent } => silent.hint(),
            Self::Storage { trouble, .. } => return trouble.hint.clone(),
            Self::Certificate { .. } => "restic wants a certificate in date and for the name in the address, also where it is pinned: use such a \
                 name, or give its authority as `tls: {ca: FILE}`"
                .to_owned(),
            Self::Denied { .. } => "check the credentials in the destination's `repository`, and what they may do there".to_owned(),
            Self::Unreachable { .. } => "look at the network and at the server; `larder destination test` says how far it gets".to_owned(),
            Self::Busy { .. } => "wait some minutes; if it goes on, fewer at once (`concurrency.per_destination` of the site) or a larger plan help".to_owned(),
            Self::InVain { .. } => "look at the disk and its cables (`dmesg`), or at the network and the server's log".to_owned(),
            Self::WrongPassword { .. } => "check the destination's `password` in the config".to_owned(),
            Self::Damaged { location, .. } => {
                format!("keep a copy, then run `restic -r {location} check --read-data` and follow what it says")
            }
            Self::DiskFull { .. } => "free some space there; `larder destination prune` may help".to_owned(),
            // Nothing that is done to the repository makes room there.
            Self::RestoreFull { to, .. } => format!(
                "restore below another disk, only a part (`--include`), or make room there; `df -h {to}` and `df -i {to}` say how much there is"
            ),
            Self::NotWritable { location, .. } => {
                format!("check how {location} is mounted and who may write there")
            }
            Self::NothingThere { .. } => "is the disk mounted? Check the target's paths".to_owned(),
            Self::NotAbsolute { .. } => "write the path from / on".to_owned(),
            Self::Pattern { .. } => "write one pattern an entry".to_owned(),
            Self::NoPattern { pattern, .. } if pattern.is_empty() => {
                "write a path from / on, or a name with * in it; leave it out to restore everything".to_owned()
            }
            Self::NoPattern { pattern, .. } => {
                format!("where that is a name, write `{}`: `\\` takes a character its meaning", literal(pattern))
            }
            Self::SnapshotId { .. } => "give 8 to 64 hex digits as `larder snapshots` shows them".to_owned(),
            Self::SnapshotMissing { .. } => "`larder snapshots` lists what is there".to_owned(),
            Self::NothingMatches { .. } => {
                "a pattern is a path from / on, or a name with * in it; what there is: `larder restore` without `--include`, or \
                 restic's own `ls` of that snapshot"
                    .to_owned()
            }
            Self::DestinationNotEmpty(path) => {
                format!("restore into a directory that does not exist yet, such as {}/restored", path.display())
            }
            Self::RestoreIncomplete { .. } => "the run's log names each; check the repository".to_owned(),
            Self::SnapshotUnseen { .. } | Self::SnapshotDiffers { .. } | Self::StillThere { .. } => {
                "nothing was forgotten for it; look whether something else changes this repository, and whether restic \
                 is the real one"
                    .to_owned()
            }
            Self::TooSlow(_) => "raise the policy's `timeout` if the work is really that long".to_owned(),
            Self::Stuck(_) => "is the destination's disk or network hanging?".to_owned(),
            Self::Failed { .. } | Self::Garbled { .. } => "the run's log has all that restic said".to_owned(),
            Self::Files(..) => "check that the daemon may write its state and temporary directories".to_owned(),
            Self::Cancelled => return None,
        })
    }

    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble::of(self.code(), self, self.hint())
    }
}

/// A lock that is in the way, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldLock {
    /// `lock 0123abcd of root@pi (process 4495), exclusive, refreshed 1h 30m ago`
    pub shown: String,
    /// Nobody refreshes it any more.
    pub stale: bool,
    /// What removes it.
    pub command: String,
}

/// Locks that an error names.
const LOCKS_TOLD: usize = 3;

fn told(left: &[ToldLock]) -> String {
    let stale: Vec<&str> =
        left.iter().filter(|lock| lock.stale).take(LOCKS_TOLD).map(|lock| lock.shown.as_str()).collect();
    if stale.is_empty() { String::new() } else { format!("; nobody refreshes any more: {}", stale.join("; ")) }
}

fn unlocking(left: &[ToldLock]) -> String {
    if left.is_empty() {
        return "wait for it to end, then try again".to_owned();
    }
    let each = |stale: bool| {
        let of = left.iter().filter(move |lock| lock.stale == stale).take(LOCKS_TOLD);
        of.map(|lock| format!("`{}` removes the {}", lock.command, lock.shown)).collect::<Vec<_>>().join("; ")
    };
    match (each(true), each(false)) {
        (stale, young) if young.is_empty() => format!("make sure that its machine does nothing there, then: {stale}"),
        (stale, young) if stale.is_empty() => format!("wait for it to end; if it is surely dead: {young}"),
        (stale, young) => format!("{stale}; wait for the others to end, or if they are surely dead: {young}"),
    }
}
