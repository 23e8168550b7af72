//! What can go wrong with a repository, and which of it a failed restic means.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Trouble, codes};
use crate::look::Silent;
use crate::process::{Exit, Redactor};

use super::messages::Message;
use super::wanted::literal;

/// Longest detail that an error carries, in characters.
const DETAIL_CHARS_MAX: usize = 600;

/// Says what was wrong with restic, a repository or a request; never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("restic is not there: {program} ({detail})")]
    ProgramMissing { program: String, detail: String },
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
    #[error("{location} does not work: restic tried the same for minutes: {detail}")]
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
            Self::InVain { .. } => codes::REPOSITORY_FAILING,
            Self::Silent { .. } => codes::PATH_HANGING,
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
            Self::InVain { .. } => "look at the disk and its cables (`dmesg`), or at the network".to_owned(),
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
        let trouble = Trouble::new(self.code(), crate::error::chain(self));
        match self.hint() {
            Some(hint) => trouble.with_hint(hint),
            None => trouble,
        }
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

/// What one call of restic said on standard error, as far as it matters for what it meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaints {
    /// The message of the last `exit_error`, with its code.
    pub(super) exit: Option<(i64, String)>,
    /// Items that failed: path and why; the first [`ITEMS_MAX`].
    pub(super) items: Vec<(String, String)>,
    pub(super) items_total: u64,
    /// For a backup: what of the items is told apart.
    pub(super) apart: Option<Apart>,
    /// Items that were gone when they were to be read, the first [`ITEMS_MAX`]; not among `items`.
    pub(super) vanished: Vec<String>,
    pub(super) vanished_total: u64,
    /// Items that may be unreadable, the first [`ITEMS_MAX`]; not among `items`.
    pub(super) accepted: Vec<String>,
    pub(super) accepted_total: u64,
    /// Sources that restic left out because they are not there.
    pub(super) skipped: Vec<String>,
    /// Plain lines, the last [`LINES_MAX`].
    pub(super) lines: Vec<String>,
    /// The same was tried again for so long that it was given up.
    pub(super) in_vain: bool,
}

/// What a backup need not complain of.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    /// The sources themselves: they never vanish unnoticed.
    pub(super) sources: Vec<PathBuf>,
    /// What may be unreadable, with all below it.
    pub(super) unreadable: Vec<PathBuf>,
}

/// Most failed items that are named.
const ITEMS_MAX: usize = 100;
/// How a plain line begins that says that restic failed.
const FATAL: [&str; 4] = ["fatal:", "error:", "fatal error:", "panic:"];
/// Most plain lines that are kept.
const LINES_MAX: usize = 50;

impl Complaints {
    pub(super) fn hear(&mut self, line: &str) {
        // What is tried again has not failed yet.
        if let Some(text) = super::retries::about_retries(line) {
            return self.hear_plain(&text);
        }
        match super::messages::parse(line) {
            Some(Message::ExitError { code, message }) => self.exit = Some((code, message)),
            Some(Message::ItemError { item, message }) => self.hear_item(item, message),
            Some(_) => {}
            None => self.hear_plain(line),
        }
    }

    fn hear_item(&mut self, item: String, message: String) {
        if let Some(apart) = &self.apart {
            let path = Path::new(&item);
            let gone = message.ends_with("no such file or directory");
            if gone && !apart.sources.iter().any(|source| source == path) {
                self.vanished_total += 1;
                if self.vanished.len() < ITEMS_MAX {
                    self.vanished.push(item);
                }
                return;
            }
            if !gone && apart.unreadable.iter().any(|accepted| path.starts_with(accepted)) {
                self.accepted_total += 1;
                if self.accepted.len() < ITEMS_MAX {
                    self.accepted.push(item);
                }
                return;
            }
        }
        self.items_total += 1;
        if self.items.len() < ITEMS_MAX {
            self.items.push((item, message));
        }
    }

    fn hear_plain(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if let Some(path) = super::messages::skipped(line) {
            if self.skipped.len() < ITEMS_MAX {
                self.skipped.push(path.to_owned());
            }
        } else {
            if self.lines.len() == LINES_MAX {
                self.lines.remove(0);
            }
            self.lines.push(line.to_owned());
        }
    }

    /// Whether restic said that it failed, whatever its exit code `code` says.
    pub(super) fn is_fatal(&self, code: i64) -> bool {
        let fatal = |line: &String| {
            let line = line.trim_start().to_ascii_lowercase();
            FATAL.iter().any(|word| line.starts_with(word))
        };
        self.exit.as_ref().is_some_and(|(said, _)| *said != code || code == 0) || self.lines.iter().any(fatal)
    }

    /// Takes the secrets out: a repository's server may repeat what it was told.
    pub(super) fn redact(&mut self, redact: &Redactor) {
        let texts = self.exit.iter_mut().map(|(_, message)| message);
        let texts = texts.chain(self.items.iter_mut().map(|(_, message)| message)).chain(&mut self.lines);
        for text in texts {
            if let Cow::Owned(clean) = redact.redact_cut(text) {
                *text = clean;
            }
        }
    }

    /// The text that tells why restic gave up: its last word, else what it wrote at the end.
    fn last_word(&self) -> String {
        match &self.exit {
            Some((_, message)) => message.clone(),
            None => self.lines.join("\n"),
        }
    }

    /// One line for people.
    pub(super) fn detail(&self) -> String {
        let word = self.last_word();
        let word = word.strip_prefix("Fatal: ").unwrap_or(&word);
        let joined = word.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        let text = if joined.is_empty() {
            self.items.first().map_or_else(|| "no reason given".to_owned(), |(item, why)| format!("{item}: {why}"))
        } else {
            joined
        };
        text.chars().take(DETAIL_CHARS_MAX).collect()
    }
}

/// What a restic that did not succeed meant. Exit codes first (10, 11, 12, 130), then what it said; anything else is a
/// failure, known or not.
pub(super) fn classify(operation: &str, location: &str, exit: &Exit, complaints: &Complaints) -> EngineError {
    let location = || location.to_owned();
    let detail = complaints.detail();
    match exit {
        Exit::Cancelled => return EngineError::Cancelled,
        Exit::DeadlineExceeded(limit) => return EngineError::TooSlow(*limit),
        Exit::NoProgress(limit) => return EngineError::Stuck(*limit),
        Exit::NotStarted { program, detail, .. } => {
            return EngineError::ProgramMissing { program: program.display().to_string(), detail: detail.clone() };
        }
        Exit::Code(10) => return EngineError::RepositoryMissing { location: location() },
        Exit::Code(11) => return locked(location(), complaints),
        Exit::Code(12) => return EngineError::WrongPassword { location: location() },
        Exit::Code(127) => return EngineError::ProgramMissing { program: "restic".to_owned(), detail },
        Exit::Success | Exit::Code(_) | Exit::Signal(_) => {}
    }
    if complaints.in_vain {
        return EngineError::InVain { location: location(), detail };
    }
    let said = complaints.last_word().to_lowercase();
    let says = |any: &[&str]| any.iter().any(|part| said.contains(part));
    if says(&["no space left on device", "disk quota exceeded", "file too large", "not enough space"]) {
        EngineError::DiskFull { location: location(), detail }
    } else if says(&["repository is already locked", "unable to create lock in backend: repository is"]) {
        locked(location(), complaints)
    } else if says(&["wrong password or no key found"]) {
        EngineError::WrongPassword { location: location() }
    } else if says(&["repository does not exist", "unable to open config file"]) {
        EngineError::RepositoryMissing { location: location() }
    } else if says(&["read-only file system", "permission denied", "operation not permitted"]) {
        EngineError::NotWritable { location: location(), detail }
    } else if says(&DAMAGE) {
        EngineError::Damaged { location: location(), detail }
    } else {
        EngineError::Failed { operation: operation.to_owned(), how: how(exit), detail }
    }
}

/// How restic words what only a damaged repository can cause.
const DAMAGE: [&str; 9] = [
    "ciphertext verification failed",
    "invalid data returned",
    "hash does not match",
    "does not match id",
    "repository contains errors",
    "pack file cannot be listed",
    "not found in repository",
    "not found in index",
    "integrity check failed",
];

fn how(exit: &Exit) -> String {
    match exit {
        Exit::Success => "exit code 0".to_owned(),
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        other => format!("{other:?}"),
    }
}

fn locked(location: String, complaints: &Complaints) -> EngineError {
    EngineError::Locked { location, by: locked_by(&complaints.last_word()), left: Vec::new() }
}

/// `PID 4495 on vm by root (UID 0, GID 0)` from restic's message about a lock.
fn locked_by(message: &str) -> String {
    let line = message.lines().find(|line| line.contains("already locked")).unwrap_or_default();
    let by = line.split_once("locked ").map_or("", |(_, rest)| rest.trim());
    let by = by.strip_prefix("exclusively ").unwrap_or(by);
    let by = by.strip_prefix("by ").unwrap_or(by);
    if by.is_empty() { "somebody".to_owned() } else { by.chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str) -> Complaints {
        let mut complaints = Complaints::default();
        complaints.hear(line);
        complaints
    }

    fn code_of(exit: &Exit, line: &str) -> Code {
        classify("backup", "/r", exit, &after(line)).code()
    }

    #[test]
    fn exit_codes_are_what_they_are() {
        for (exit, code) in [
            (Exit::Code(10), "repository_missing"),
            (Exit::Code(11), "repository_locked"),
            (Exit::Code(12), "wrong_password"),
            (Exit::Code(1), "restic_failed"),
            (Exit::Code(3), "restic_failed"),
            (Exit::Code(99), "restic_failed"),
            (Exit::Code(130), "restic_failed"),
            (Exit::Signal(9), "restic_failed"),
            (Exit::Cancelled, "cancelled"),
            (Exit::DeadlineExceeded(Duration::from_secs(1)), "deadline_exceeded"),
            (Exit::NoProgress(Duration::from_secs(1)), "no_progress"),
        ] {
            assert_eq!(code_of(&exit, "x"), code, "{exit:?}");
        }
    }

    #[test]
    fn what_restic_says_names_the_cause() {
        for (line, code) in [
            (
                r#"{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot: write /r/data/1c: no space left on device"}"#,
                "disk_full",
            ),
            ("Fatal: unable to save snapshot: write /r/data/1c: disk quota exceeded", "disk_full"),
            ("Fatal: wrong password or no key found", "wrong_password"),
            ("Load(<lock/1>) failed: ciphertext verification failed", "repository_damaged"),
            ("Fatal: unable to create lock in backend: mkdir /r/locks: read-only file system", "not_writable"),
            ("Fatal: repository does not exist: unable to open config file: stat /r/config", "repository_missing"),
            ("Fatal: something new", "restic_failed"),
        ] {
            assert_eq!(code_of(&Exit::Code(1), line), code, "{line}");
        }
    }

    #[test]
    fn a_lock_names_its_holder() {
        let line = r#"{"message_type":"exit_error","code":11,"message":"unable to create lock in backend: repository is already locked exclusively by PID 4495 on vm by root (UID 0, GID 0)\nlock was created at 2026-11-22\nstorage ID 73825363"}"#;
        let error = classify("prune", "/r", &Exit::Code(11), &after(line));
        assert_eq!(error.to_string(), "the repository /r is locked by PID 4495 on vm by root (UID 0, GID 0)");
    }

    fn failed_item(complaints: &mut Complaints, item: &str, why: &str) {
        let line =
            serde_json::json!({"message_type": "error", "error": {"message": why}, "during": "archival", "item": item});
        complaints.hear(&line.to_string());
    }

    #[test]
    fn what_vanished_is_told_from_what_may_not_be_read_and_both_are_counted_exactly() {
        let apart = Apart { sources: vec!["/srv".into()], unreadable: vec!["/srv/private".into()] };
        let mut complaints = Complaints { apart: Some(apart), ..Complaints::default() };
        for number in 0..1_500 {
            let call = if number % 2 == 0 { "lstat" } else { "open" };
            let item = format!("/srv/cache/{number}");
            failed_item(&mut complaints, &item, &format!("{call} {item}: no such file or directory"));
        }
        for number in 0..250 {
            let item = format!("/srv/root/{number}");
            failed_item(&mut complaints, &item, &format!("open {item}: permission denied"));
        }
        for item in ["/srv/private", "/srv/private/a", "/srv/private/deep/b"] {
            failed_item(
                &mut complaints,
                item,
                &format!("openfile for readdirnames failed: open {item}: permission denied"),
            );
        }
        // A name beside it, an error of the disk, and a source itself are none of either.
        failed_item(&mut complaints, "/srv/private2", "open /srv/private2: permission denied");
        failed_item(&mut complaints, "/srv/bad", "read /srv/bad: input/output error");
        failed_item(&mut complaints, "/srv", "lstat /srv: no such file or directory");
        failed_item(&mut complaints, "/srv/quoted", "open /srv/no such file or directory: permission denied");
        // What may be unreadable may vanish, too.
        failed_item(&mut complaints, "/srv/private/gone", "lstat /srv/private/gone: no such file or directory");
        assert_eq!((complaints.vanished_total, complaints.accepted_total, complaints.items_total), (1_501, 3, 254));
        assert_eq!((complaints.vanished.len(), complaints.accepted.len(), complaints.items.len()), (100, 3, 100));

        // A restore tells nothing apart: what is not there is an error of it.
        let mut complaints = Complaints::default();
        failed_item(&mut complaints, "/srv/a", "lstat /srv/a: no such file or directory");
        assert_eq!((complaints.vanished_total, complaints.items_total), (0, 1));
    }

    #[test]
    fn complaints_are_bounded() {
        let mut complaints = Complaints::default();
        for n in 0..10_000 {
            complaints.hear(&format!("plain {n}"));
            complaints.hear(&format!("/p{n} does not exist, skipping"));
            complaints.hear(&format!(r#"{{"message_type":"error","error":{{"message":"m"}},"item":"{n}"}}"#));
        }
        assert_eq!((complaints.lines.len(), complaints.items.len(), complaints.skipped.len()), (50, 100, 100));
        assert_eq!(complaints.items_total, 10_000);
    }
}
