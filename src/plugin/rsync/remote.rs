//! The other side: rsync over ssh with exactly one key and one known host, and what its ends mean.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::stats::Stats;
use super::{RsyncSettings, below};
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::memory_file::MemoryFile;
use crate::plugin::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Ran, Tools};
use crate::plugin::transcript::tidy;
use crate::process::{self, Exit};
use crate::types::show_duration;

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apply {
    Yes,
    No,
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

pub(super) struct Remote<'s> {
    settings: &'s RsyncSettings,
    tools: Tools,
    program: PathBuf,
    /// The key is there as long as this.
    _key: MemoryFile,
    shell: String,
}

impl<'s> Remote<'s> {
    pub(super) fn open(settings: &'s RsyncSettings, staging: &Path) -> Result<Self, Failure> {
        let program = |name: &str| {
            process::find_program(Path::new(name)).map_err(|error| {
                Failure::new("program_missing", format!("{name} cannot be used: {error}"))
                    .hint(format!("install it: `apt install {}`", if name == "ssh" { "openssh-client" } else { name }))
            })
        };
        let (rsync, ssh) = (program("rsync")?, program("ssh")?);
        if !settings.known_hosts.is_file() {
            return Err(Failure::new(
                "known_hosts_missing",
                format!("{} is not there", settings.known_hosts.display()),
            )
            .hint(format!(
                "`ssh-keyscan -p {} {} > FILE`, then compare it with the device's own key",
                settings.port, settings.host
            )));
        }
        // It has to end with a line's end.
        let text = SecretString::from(format!("{}\n", settings.key.0.expose_secret().trim_end()));
        let key = MemoryFile::new(text.expose_secret().as_bytes())
            .map_err(|error| Failure::new("unwritable", format!("the key cannot be given to ssh: {error}")))?;
        let option = |name: &str, path: &Path| format!("-o {name}={}", quoted(&path.display().to_string()));
        let shell = [
            quoted(&ssh.display().to_string()),
            format!("-p {}", settings.port),
            "-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes".to_owned(),
            "-o GlobalKnownHostsFile=/dev/null -o PasswordAuthentication=no -o UpdateHostKeys=no".to_owned(),
            "-o ControlMaster=no -o ControlPath=none -o ForwardAgent=no -o LogLevel=ERROR".to_owned(),
            format!(
                "-o ConnectTimeout={0} -o ServerAliveInterval={0} -o ServerAliveCountMax=2",
                settings.silence.0.as_secs().max(1)
            ),
            option("UserKnownHostsFile", &settings.known_hosts),
            option("IdentityFile", key.path()),
        ]
        .join(" ");
        let tools = Tools::new(Vec::new(), vec![settings.key.0.clone()], staging)?;
        Ok(Self { settings, tools, program: rsync, _key: key, shell })
    }

    /// Of rsync on this side.
    pub(super) fn version(&self) -> Option<String> {
        let mut first = None;
        let on_line = |line: &str| {
            first.get_or_insert_with(|| line.to_owned());
        };
        self.tools.run(&self.program, vec!["--version".into()], &[], DEADLINE_OF_QUESTION, on_line, || {});
        first?.split_whitespace().nth(2).map(|version| tidy(version, 40))
    }

    /// Brings the paths into `tree`; what is not on the device any more is deleted there, and nowhere else.
    pub(super) fn fetch(&self, tree: &Path, apply: Apply, voice: &mut Voice<'_>) -> Result<(Stats, Outcome), Failure> {
        let mut args = self.common(apply);
        args.push("--delete".into());
        args.push("--delete-excluded".into());
        // Each path is kept at its whole name below the tree.
        args.push("--relative".into());
        args.extend(self.settings.exclude.iter().map(|pattern| format!("--exclude={pattern}").into()));
        args.push("--".into());
        for path in &self.settings.paths {
            args.push(format!("{}:{}", self.login(), path.trim_end_matches('/')).into());
        }
        let mut into = tree.as_os_str().to_owned();
        into.push("/");
        args.push(into);
        self.run(args, voice)
    }

    /// Sends what lies at `from` back to its path on the device; deletes nothing there.
    pub(super) fn send(
        &self,
        from: &Path,
        path: &str,
        apply: Apply,
        voice: &mut Voice<'_>,
    ) -> Result<(Stats, Outcome), Failure> {
        let mut args = self.common(apply);
        args.push("--mkpath".into());
        args.push("--".into());
        let mut source = from.as_os_str().to_owned();
        let is_directory = from.is_dir();
        if is_directory {
            source.push("/");
        }
        args.push(source);
        let slash = if is_directory { "/" } else { "" };
        args.push(format!("{}:{}{slash}", self.login(), path.trim_end_matches('/')).into());
        self.run(args, voice)
    }

    fn login(&self) -> String {
        // An IPv6 address has colons of its own.
        let host = &self.settings.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}@{host}", self.settings.user)
    }

    fn common(&self, apply: Apply) -> Vec<OsString> {
        let settings = self.settings;
        let mut args: Vec<OsString> = vec![
            "-aHAX".into(),
            "--numeric-ids".into(),
            "--stats".into(),
            "--no-human-readable".into(),
            "--partial-dir=.larder-partial".into(),
            format!("--timeout={}", settings.silence.0.as_secs().max(1)).into(),
            "-e".into(),
            self.shell.clone().into(),
        ];
        if settings.bandwidth_kib > 0 {
            args.push(format!("--bwlimit={}", settings.bandwidth_kib).into());
        }
        if apply == Apply::No {
            args.push("--dry-run".into());
        }
        args
    }

    fn run(&self, args: Vec<OsString>, voice: &mut Voice<'_>) -> Result<(Stats, Outcome), Failure> {
        let mut stats = Stats::default();
        let on_line = |line: &str| stats.read(line);
        let ran =
            self.tools.run(&self.program, args, &[("LC_ALL", "C")], DEADLINE_OF_WORK, on_line, || voice.progress(0, 0));
        let outcome = self.judge(&ran)?;
        Ok((stats, outcome))
    }

    fn judge(&self, ran: &Ran) -> Result<Outcome, Failure> {
        let host = &self.settings.host;
        let said = said(&ran.stderr);
        let silence = show_duration(self.settings.silence.0);
        let code = match &ran.exit {
            Exit::Success => return Ok(Outcome::Whole),
            Exit::Code(code) => *code,
            other => {
                return Err(
                    Failure::new("rsync_failed", format!("rsync was ended ({other:?}): {said}")).hint("run it again")
                );
            }
        };
        let fail = |code: &str, message: String, hint: &str| Err(Failure::new(code, message).hint(hint.to_owned()));
        let stderr = ran.stderr.to_ascii_lowercase();
        if stderr.contains("host identification has changed")
            || (stderr.contains("host key for") && stderr.contains("has changed"))
        {
            return fail(
                "host_key_changed",
                format!("{host} has another host key than known_hosts says"),
                "if the device was set up again, put its new key into `known_hosts`; else somebody stands in between",
            );
        }
        if stderr.contains("host key verification failed")
            || stderr.contains("no ed25519 host key is known")
            || stderr.contains("host key is known for")
        {
            return fail(
                "host_key_unknown",
                format!("the host key of {host} is not in {}", self.settings.known_hosts.display()),
                "`ssh-keyscan -p PORT HOST`, compare it with the device's own, and put it there",
            );
        }
        if ["publickey", "password", "keyboard-interactive"]
            .iter()
            .any(|way| stderr.contains(&format!("permission denied ({way}")))
        {
            return fail(
                "unauthorized",
                format!("{host} does not take the key for {}", self.settings.user),
                "put the public key into ~/.ssh/authorized_keys of that login on the device",
            );
        }
        if stderr.contains("could not resolve hostname") {
            return fail(
                "unknown_host",
                format!("the host {host} is not known"),
                "correct `host`, or look at the DNS of this host",
            );
        }
        if stderr.contains("connection refused")
            || stderr.contains("no route to host")
            || stderr.contains("connection timed out")
        {
            return Err(Failure::new(
                "unreachable",
                format!("{host} cannot be reached on port {}: {said}", self.settings.port),
            )
            .hint("is it switched on, and does its ssh listen there?")
            .later());
        }
        match code {
            24 => Ok(Outcome::Vanished),
            23 if stderr.contains("link_stat") && stderr.contains("no such file") => fail(
                "path_missing",
                format!("a path is not there on {host}: {said}"),
                "correct `paths`, or mount what they lie on",
            ),
            23 => Ok(Outcome::Partial(said)),
            11 if stderr.contains("no space left") => {
                Err(Failure::new("disk_full", format!("there is no room for the copy: {said}"))
                    .hint("make room where `copy` lies")
                    .later())
            }
            12 | 10 => fail(
                "cut_short",
                format!("the connection to {host} ended in the middle: {said}"),
                "look at the network and at the device; is rsync installed there? What was fetched is kept for the next run",
            ),
            30 | 35 => fail(
                "silent",
                format!("{host} said nothing for {silence}"),
                "look whether the device hangs; or raise `silence`",
            ),
            127 => fail("rsync_missing_there", format!("{host} has no rsync"), "install rsync on the device"),
            255 => fail(
                "ssh_failed",
                format!("ssh to {host} failed: {said}"),
                "try `ssh -i KEY USER@HOST` with the same login",
            ),
            _ => fail(
                "rsync_failed",
                format!("rsync ended with code {code}: {said}"),
                "the message says what; run it again",
            ),
        }
    }

    /// Where each path lies in a tree.
    pub(super) fn places<'t>(&'t self, tree: &'t Path) -> impl Iterator<Item = (&'t str, PathBuf)> {
        self.settings.paths.iter().map(move |path| (path.as_str(), below(tree, path)))
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

/// rsync splits the shell's command at blanks, and knows quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
