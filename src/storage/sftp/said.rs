//! What ssh and sftp say on standard error means; pure.

use std::time::Duration;

use crate::process::Exit;
use crate::storage::StorageError;

/// How much of a message is quoted, in characters.
const QUOTED_CHARS_MAX: usize = 200;
/// What sftp says of each host that it was told of, and nobody wants to read.
const NOISE: [&str; 3] = ["warning: permanently added", "connected to ", "connection closed."];

/// A path as a word of a batch: sftp takes nothing within for a pattern then.
pub(super) fn quoted(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 2);
    text.push('"');
    for character in path.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// A line that says nothing of what went wrong.
pub(super) fn is_noise(line: &str) -> bool {
    let line = line.trim().to_ascii_lowercase();
    line.is_empty() || NOISE.iter().any(|begin| line.starts_with(begin))
}

/// `stat remote: No such file`, `realpath …`, `Can't change directory …`: what `cd` says.
pub(super) fn is_of_cd(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["stat remote:", "remote stat", "can't change directory", "realpath"].iter().any(|begin| line.starts_with(begin))
}

/// `remote rename "…" to "…": Failure`
pub(super) fn is_of_rename(line: &str) -> bool {
    line.to_ascii_lowercase().contains("remote rename")
}

/// What a line means that a command left.
pub(super) fn of_command(line: &str, place: &str, name: &str, what: &str) -> StorageError {
    let (place, lower) = (place.to_owned(), line.to_ascii_lowercase());
    let detail = cut(line.rsplit(": ").next().unwrap_or(line));
    if lower.contains("permission denied") {
        return StorageError::Denied { place, what: what.to_owned(), detail: String::new() };
    }
    if lower.contains("read-only") || lower.contains("operation unsupported") {
        return StorageError::Denied { place, what: what.to_owned(), detail };
    }
    if lower.contains("no such file") || lower.contains("not found") {
        return StorageError::NotFound { place, name: name.to_owned() };
    }
    if lower.contains("no space") || lower.contains("quota") {
        return StorageError::Full { place, detail };
    }
    StorageError::Unexpected { place, what: what.to_owned(), detail }
}

/// Whom a session was with.
pub(super) struct With<'a> {
    /// `user@host:port`
    pub(super) place: &'a str,
    pub(super) host: &'a str,
}

/// Why there was no session, or none any more; none: there was one to the end.
pub(super) fn of_session(exit: &Exit, errors: &[String], wall: Duration, with: &With<'_>) -> Option<StorageError> {
    let place = with.place.to_owned();
    let text = errors.join("\n");
    let lower = text.to_ascii_lowercase();
    let has = |words: &str| lower.contains(words);
    match exit {
        // Commands that fail are told one by one.
        Exit::Success => return None,
        Exit::DeadlineExceeded(waited) | Exit::NoProgress(waited) => {
            return Some(StorageError::NoAnswer { place, waited: *waited });
        }
        Exit::NotStarted { program, detail, .. } => {
            return Some(StorageError::Program { program: program.clone(), detail: detail.clone() });
        }
        _ => {}
    }
    Some(match () {
        () if has("remote host identification has changed") || has("has changed and you have requested strict") => {
            StorageError::HostKeyChanged { place, shown: fingerprint(errors) }
        }
        () if has("host key verification failed") || has("host key is known for") => {
            StorageError::HostKeyUnknown { place, shown: None }
        }
        () if has("permission denied (") || has("too many authentication failures") => {
            StorageError::Login { place, detail: login(&text, &lower) }
        }
        () if has("could not resolve hostname") => StorageError::HostUnknown { host: with.host.to_owned() },
        () if has("connection refused") => StorageError::Refused { place },
        () if has("timed out") => StorageError::NoAnswer { place, waited: wall },
        () if has("no route to host") || has("network is unreachable") || has("host is down") => {
            StorageError::Unreachable { place, detail: last(errors) }
        }
        () if has("subsystem request failed") || has("received message too long") => {
            StorageError::NotSftp { place, detail: first_that_tells(errors) }
        }
        () if has("kex_exchange_identification") || has("banner exchange") || has("no matching") => {
            StorageError::Unreachable { place, detail: first_that_tells(errors) }
        }
        () if has("connection reset") || has("connection closed") || has("broken pipe") => {
            StorageError::Unreachable { place, detail: first_that_tells(errors) }
        }
        () => StorageError::Ssh { place, detail: first_that_tells(errors) },
    })
}

/// The line behind `The fingerprint for the … key sent by the remote host is`.
fn fingerprint(errors: &[String]) -> Option<String> {
    let line = errors.iter().find(|line| line.trim_start().starts_with("SHA256:"))?;
    Some(cut(line))
}

/// Which ways the server offers, and whether the key was one at all.
fn login(text: &str, lower: &str) -> String {
    let ways = lower.split("permission denied (").nth(1).and_then(|rest| rest.split(')').next());
    let ways = ways.map(|ways| format!("it takes {}", ways.replace(',', ", ")));
    let broken = text.lines().find(|line| line.starts_with("Load key")).map(|line| {
        let why = line.rsplit(": ").next().unwrap_or_default();
        format!("the key cannot be used ({why}): it is cut, or has a passphrase")
    });
    [broken, ways].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn first_that_tells(errors: &[String]) -> String {
    errors.iter().find(|line| !is_noise(line)).map_or_else(String::new, |line| cut(line))
}

fn last(errors: &[String]) -> String {
    errors.iter().rev().find(|line| line.contains(": ")).map_or_else(String::new, |line| cut(line))
}

fn cut(text: &str) -> String {
    let line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, codes};

    fn code(text: &str) -> Code {
        let errors: Vec<String> = text.lines().map(str::to_owned).collect();
        let with = With { place: "me@nas:22", host: "nas" };
        of_session(&Exit::Code(255), &errors, Duration::from_secs(4), &with).unwrap().code()
    }

    #[test]
    fn the_ends_of_ssh_are_told_apart() {
        for (text, wanted) in [
            ("Permission denied (publickey,password).\nConnection closed", codes::UNAUTHORIZED),
            ("me@nas: Permission denied (publickey).", codes::UNAUTHORIZED),
            ("ssh: Could not resolve hostname nas: Name or service not known", codes::UNKNOWN_HOST),
            ("ssh: connect to host nas port 22: Connection refused\r\nConnection closed", codes::UNREACHABLE),
            ("ssh: connect to host nas port 22: No route to host", codes::UNREACHABLE),
            ("Connection timed out during banner exchange\nConnection to 1 port 22 timed out", codes::SILENT),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
                codes::HOST_KEY_CHANGED,
            ),
            (
                "No ED25519 host key is known for nas and you have requested strict checking.\n\
                 Host key verification failed.",
                codes::HOST_KEY_UNKNOWN,
            ),
            ("subsystem request failed on channel 0\nConnection closed", codes::NOT_SFTP),
            ("Received message too long 1416128883\nEnsure the remote shell produces no output", codes::NOT_SFTP),
            ("kex_exchange_identification: Connection closed by remote host", codes::UNREACHABLE),
            ("command-line: line 0: Bad configuration option: x", codes::SSH_FAILED),
        ] {
            assert_eq!(code(text), wanted, "{text}");
        }
        let broken = "Load key \"/tmp/x/key\": error in libcrypto\nme@nas: Permission denied (publickey,password).";
        let told = login(broken, &broken.to_ascii_lowercase());
        assert_eq!(
            told,
            "the key cannot be used (error in libcrypto): it is cut, or has a passphrase; it takes publickey, password"
        );
        assert_eq!(quoted("/a \"b\" \\c*"), r#""/a \"b\" \\c*""#);
    }

    #[test]
    fn what_a_command_left_is_told_as_what_it_means() {
        let of = |line| of_command(line, "nas", "keys/x", "put keys/x").code();
        assert_eq!(of("dest open \"/srv/keys/x\": Permission denied"), codes::STORAGE_DENIED);
        assert_eq!(of("Can't ls: \"/srv/keys/x\" not found"), codes::NOT_FOUND);
        assert_eq!(of("remote delete /srv/keys/x: No such file or directory"), codes::NOT_FOUND);
        assert_eq!(of("write remote \"/srv/keys/x\": Failure"), codes::UNEXPECTED_ANSWER);
        let full = super::super::told_full(of_command("write remote \"/x\": Failure", "nas", "x", "put x"), Some(0));
        assert_eq!(full.code(), codes::DISK_FULL);
    }
}
