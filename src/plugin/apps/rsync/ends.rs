//! What the ends of rsync and ssh mean: how far a transfer came, or why it failed and what is the next step; pure.

use super::settings::RsyncSettings;
use super::stats::Stats;
use crate::error::{Code, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::kit::tool::Ran;
use crate::process::Exit;
use crate::types::show_duration;

/// Whose disk a call writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onto {
    Copy,
    /// What this host notes of the device, or has of it for a while.
    Here,
    Device,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    /// Files vanished meanwhile (24).
    Vanished,
    /// Some could not be read or written (23); what was said.
    Partial(String),
}

impl Outcome {
    /// What is lacking, in words; none: nothing.
    pub(super) fn lacks(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Vanished => Some("files vanished while they were read"),
            Self::Partial(said) => Some(said),
        }
    }

    /// Of two, what lacks more; the first of two that lack alike.
    pub(super) fn worse(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Partial(_), _) | (_, Self::Whole) | (Self::Vanished, Self::Vanished) => self,
            _ => other,
        }
    }
}

/// The outcome, unless rsync told nothing of what it did: then nobody knows that it did anything.
pub(super) fn heard(outcome: Outcome, stats: &Stats) -> Result<Outcome, Failure> {
    match outcome {
        Outcome::Whole | Outcome::Vanished if !stats.is_heard => {
            Err(Failure::new(codes::UNHEARD, "rsync ended well and did not tell what it did")
                .hint("is `rsync` on this host a program of another kind, or a wrapper that hides what it says?"))
        }
        outcome => Ok(outcome),
    }
}

/// Whether rsync says that the directory is not there.
pub(super) fn is_gone(said: &str) -> bool {
    said.contains("change_dir") && said.contains("(2)")
}

fn lacks_path(code: i32, said: &str, stderr: &str) -> bool {
    match code {
        // What else it lacks is told as a part.
        23 => stderr.contains("link_stat") && stderr.contains("no such file"),
        _ => is_gone(said),
    }
}

/// What it means that rsync, which wrote there, ended so.
pub(super) fn judge(settings: &RsyncSettings, onto: Onto, ran: &Ran) -> Result<Outcome, Failure> {
    let host = &settings.host;
    let said = said(&ran.stderr);
    let silence = show_duration(settings.silence.0);
    let code = match &ran.exit {
        Exit::Success => return Ok(Outcome::Whole),
        Exit::Code(code) => *code,
        other => {
            return Err(
                Failure::new(codes::RSYNC_FAILED, format!("rsync was ended ({other:?}): {said}")).hint("run it again")
            );
        }
    };
    let fail = |code: Code, message: String, hint: &str| Err(Failure::new(code, message).hint(hint.to_owned()));
    let stderr = ran.stderr.to_ascii_lowercase();
    if stderr.contains("host identification has changed")
        || (stderr.contains("host key for") && stderr.contains("has changed"))
    {
        return fail(
            codes::HOST_KEY_CHANGED,
            format!("{host} has another host key than known_hosts says"),
            "if the device was set up again, put its new key into `known_hosts`; else somebody stands in between",
        );
    }
    if stderr.contains("host key verification failed")
        || stderr.contains("no ed25519 host key is known")
        || stderr.contains("host key is known for")
    {
        return fail(
            codes::HOST_KEY_UNKNOWN,
            format!("the host key of {host} is not in {}", settings.known_hosts.display()),
            "`ssh-keyscan -p PORT HOST`, compare it with the device's own, and put it there",
        );
    }
    if ["publickey", "password", "keyboard-interactive"]
        .iter()
        .any(|way| stderr.contains(&format!("permission denied ({way}")))
    {
        return fail(
            codes::UNAUTHORIZED,
            format!("{host} does not take the key for {}", settings.user),
            "put the public key into ~/.ssh/authorized_keys of that login on the device",
        );
    }
    if stderr.contains("could not resolve hostname") {
        return fail(
            codes::UNKNOWN_HOST,
            format!("the host {host} is not known"),
            "correct `host`, or look at the DNS of this host",
        );
    }
    if stderr.contains("connection refused")
        || stderr.contains("no route to host")
        || stderr.contains("connection timed out")
    {
        return Err(Failure::new(
            codes::UNREACHABLE,
            format!("{host} cannot be reached on port {}: {said}", settings.port),
        )
        .hint("is it switched on, and does its ssh listen there?")
        .later());
    }
    // A full disk ends a transfer, or only keeps a name from being made; the word of the other end may be lost on the way.
    let is_full = ["no space left", "quota exceeded"].iter().any(|words| stderr.contains(words));
    if matches!(code, 10..=12 | 23) && is_full
        || code == 11 && stderr.lines().all(|line| line.starts_with("rsync error:"))
    {
        return Err(full(settings, onto, &said));
    }
    match code {
        24 => Ok(Outcome::Vanished),
        _ if lacks_path(code, &said, &stderr) => fail(
            codes::PATH_MISSING,
            format!("a path is not there on {host}: {said}"),
            "correct `paths`, or mount what they lie on",
        ),
        23 => Ok(Outcome::Partial(said)),
        12 | 10 => fail(
            codes::CUT_SHORT,
            format!("the connection to {host} ended in the middle: {said}"),
            "look at the network and at the device; is rsync installed there? What was fetched is kept for the next run",
        ),
        30 | 35 => fail(
            codes::SILENT,
            format!("{host} said nothing for {silence}"),
            "look whether the device hangs; or raise `silence`",
        ),
        127 => fail(codes::RSYNC_MISSING_THERE, format!("{host} has no rsync"), "install rsync on the device"),
        255 => fail(
            codes::SSH_FAILED,
            format!("ssh to {host} failed: {said}"),
            "try `ssh -i KEY USER@HOST` with the same login",
        ),
        _ => fail(
            codes::RSYNC_FAILED,
            format!("rsync ended with code {code}: {said}"),
            "the message says what; run it again",
        ),
    }
}

fn full(settings: &RsyncSettings, onto: Onto, said: &str) -> Failure {
    let full = |message: String| Failure::new(codes::DISK_FULL, message);
    match onto {
        Onto::Copy => {
            full(format!("there is no room for the copy: {said}")).hint("make room where `copy` lies").later()
        }
        Onto::Here => full(format!("this host has no room for what a restore notes: {said}"))
            .hint("make room on this host, in the state directory and where the artifacts lie")
            .later(),
        Onto::Device => full(format!("{} has no room for what is restored: {said}", settings.host))
            .hint("make room on the device: old and new lie there side by side"),
    }
}

/// What was said, without the lines that only say that something was said.
fn said(stderr: &str) -> String {
    let useless = |line: &&str| {
        !line.trim().is_empty()
            && !line.starts_with("rsync error:")
            && !line.starts_with('@')
            && !line.starts_with("sending incremental")
    };
    let lines: Vec<&str> = stderr.lines().filter(useless).take(3).collect();
    if lines.is_empty() { tidy(stderr.lines().last().unwrap_or("nothing"), 300) } else { tidy(&lines.join("; "), 400) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_word_is_no_whole_transfer() {
        let partial = || Outcome::Partial("denied".to_owned());
        for outcome in [Outcome::Whole, Outcome::Vanished] {
            assert_eq!(heard(outcome.clone(), &Stats::default()).unwrap_err().trouble.code, "unheard");
            let mut stats = Stats::default();
            stats.read("Number of files: 0");
            assert_eq!(heard(outcome.clone(), &stats).unwrap(), outcome);
        }
        assert_eq!(heard(partial(), &Stats::default()).unwrap(), partial());
    }

    #[test]
    fn a_full_disk_is_told_wherever_it_shows_and_whose_it_is() {
        let settings = serde_json::json!({"host": "nas", "user": "me", "key": "k", "known_hosts": "/k",
            "paths": ["/data"], "copy": "/srv/copies/nas"});
        let settings: RsyncSettings = serde_json::from_value(settings).unwrap();
        let ended = |code: i32, stderr: &str, onto: Onto| {
            judge(&settings, onto, &Ran { exit: Exit::Code(code), stderr: stderr.to_owned() })
        };
        for (code, stderr) in [
            (11, "rsync: [receiver] write failed on \"/data/x\": No space left on device (28)"),
            (11, "rsync error: error in file IO (code 11) at receiver.c(380) [receiver=3.2.7]"),
            (11, "rsync: [receiver] write failed on \"/data/x\": Disk quota exceeded (122)"),
            (
                12,
                "rsync: [receiver] mkstemp failed: No space left on device (28)\nrsync: connection unexpectedly closed",
            ),
            (23, "rsync: [generator] delete_file: make_backup(app.db-wal) failed: No space left on device (28)"),
            (23, "rsync: [receiver] mkstemp \"/data/.x.Ab12\" failed: Disk quota exceeded (122)"),
        ] {
            for (onto, whose, next) in [
                (Onto::Copy, "no room for the copy", "where `copy` lies"),
                (Onto::Here, "this host has no room", "in the state directory"),
                (Onto::Device, "nas has no room", "on the device"),
            ] {
                let trouble = ended(code, stderr, onto).unwrap_err().trouble;
                assert_eq!(trouble.code, "disk_full", "{code} {stderr}");
                assert!(trouble.message.contains(whose), "{trouble:?}");
                assert!(trouble.hint.as_deref().is_some_and(|hint| hint.contains(next)), "{trouble:?}");
            }
        }
        let denied = "rsync: [receiver] mkstemp \"/data/.x.Ab12\" failed: Permission denied (13)";
        assert!(matches!(ended(23, denied, Onto::Device), Ok(Outcome::Partial(_))));
    }

    #[test]
    fn of_two_outcomes_that_counts_which_lacks_more() {
        let partial = |said: &str| Outcome::Partial(said.to_owned());
        let from_least = [Outcome::Whole, Outcome::Vanished, partial("denied")];
        for (less, one) in from_least.iter().enumerate() {
            for (more, other) in from_least.iter().enumerate() {
                assert_eq!(&one.clone().worse(other.clone()), from_least.get(less.max(more)).unwrap());
            }
        }
        assert_eq!(partial("first").worse(partial("second")), partial("first"));
    }
}
