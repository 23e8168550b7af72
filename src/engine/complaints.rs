//! What one call of restic said, and which error a restic that did not succeed means.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::error::EngineError;
use super::messages::Message;
use crate::process::{Exit, Redactor};

/// Longest detail that an error carries, in characters.
const DETAIL_CHARS_MAX: usize = 600;

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
    // What a server can say is in the name of a file, too.
    let is_remote = !location.starts_with('/');
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
    let said = complaints.last_word().to_lowercase();
    let says = |any: &[&str]| any.iter().any(|part| said.contains(part));
    if says(&["no space left on device", "disk quota exceeded", "file too large", "not enough space"]) {
        EngineError::DiskFull { location: location(), detail }
    } else if says(&["repository is already locked", "unable to create lock in backend: repository is"]) {
        locked(location(), complaints)
    } else if says(&["wrong password or no key found"]) {
        EngineError::WrongPassword { location: location() }
    } else if is_remote && says(&["x509: ", "tls: failed to verify"]) {
        EngineError::Certificate { location: location(), detail }
    } else if is_remote && says(&DENIED) {
        EngineError::Denied { location: location(), detail }
    } else if is_remote && says(&BUSY) {
        EngineError::Busy { location: location(), detail }
    } else if is_remote && says(&UNREACHABLE) {
        EngineError::Unreachable { location: location(), detail }
    } else if says(&["repository does not exist", "unable to open config file"]) {
        EngineError::RepositoryMissing { location: location() }
    } else if says(&["read-only file system", "permission denied", "operation not permitted"]) {
        EngineError::NotWritable { location: location(), detail }
    } else if says(&DAMAGE) {
        EngineError::Damaged { location: location(), detail }
    } else if complaints.in_vain {
        EngineError::InVain { location: location(), detail }
    } else {
        EngineError::Failed { operation: operation.to_owned(), how: how(exit), detail }
    }
}

/// How a server's refusal reads in restic's words.
const DENIED: [&str; 12] = [
    "access denied",
    "accessdenied",
    "the access key id you provided does not exist",
    "invalidaccesskeyid",
    "the request signature we calculated does not match",
    "signaturedoesnotmatch",
    "(401)",
    "401 unauthorized",
    "(403)",
    "403 forbidden",
    "host key verification failed",
    "permission denied (",
];

/// How a server that takes no more for now reads in restic's words.
const BUSY: [&str; 8] = [
    "slow down",
    "slowdown",
    "please reduce your request rate",
    "too many requests",
    "(429)",
    "(503)",
    "503 service unavailable",
    "service unavailable",
];

/// How a server's absence reads in restic's words.
const UNREACHABLE: [&str; 13] = [
    "connection refused",
    "no such host",
    "i/o timeout",
    "no route to host",
    "network is unreachable",
    "connection timed out",
    "connection reset by peer",
    "broken pipe",
    ": eof",
    "unexpected eof",
    "use of closed network connection",
    "could not resolve hostname",
    "unable to start the sftp session",
];

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
    use std::time::Duration;

    use super::*;
    use crate::error::Code;

    fn after(line: &str) -> Complaints {
        let mut complaints = Complaints::default();
        complaints.hear(line);
        complaints
    }

    fn code_at(location: &str, exit: &Exit, line: &str) -> Code {
        classify("backup", location, exit, &after(line)).code()
    }

    fn code_of(exit: &Exit, line: &str) -> Code {
        code_at("/r", exit, line)
    }

    #[test]
    fn what_a_server_says_names_the_cause_and_a_file_of_this_host_is_no_server() {
        for (line, code) in [
            ("Fatal: unable to open config file: unexpected HTTP response (401): 401 Unauthorized", "unauthorized"),
            ("Fatal: unable to open config file: Stat: Access Denied.", "unauthorized"),
            (
                r#"Fatal: unable to open config file: Head "http://n:1/config": dial tcp n:1: connect: connection refused"#,
                "unreachable",
            ),
            ("subprocess ssh: larder@nas: Permission denied (publickey).", "unauthorized"),
            (
                "Fatal: unable to open config file: x509: certificate is valid for a.lan, not nas.lan",
                "certificate_untrusted",
            ),
        ] {
            assert_eq!(code_at("s3:https://n/b", &Exit::Code(1), line), code, "{line}");
        }
        let file = "Fatal: open /r/A film (403)/x: permission denied";
        assert_eq!(code_of(&Exit::Code(1), file), "not_writable");
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
