//! One run of `sftp`: its batch, what it printed for each command, and how it ended.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::said::{self, With};
use super::ssh_files::{SshFiles, host_in_known_hosts, is_key_type, private};
use crate::process::{self, Command, Context, Exit, Limits, Log, LogStdout, Redactor, Stdin, Watch};
use crate::storage::{LISTED_MAX, SftpPlace, StorageError};

/// What sftp puts before each command that it shows.
const ECHO: &str = "sftp> ";
/// Lines of output that are kept: a directory that may be listed, and what else is asked.
const LINES_MAX: usize = LISTED_MAX + 1_000;
/// Lines of errors that are kept; a warning of a changed key has fifteen.
const ERRORS_MAX: usize = 200;
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_millis(200);
/// How long the host may take to show its keys, for a hint.
const SCAN_MAX: Duration = Duration::from_secs(3);

/// The way to one host, with the files that ssh needs.
pub(super) struct Session {
    host: String,
    port: u16,
    user: String,
    files: SshFiles,
    mark: String,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Ran {
    sections: Vec<Vec<String>>,
    /// Lines of standard error that say something.
    pub(super) errors: Vec<String>,
    /// Whether there was more output than is kept.
    pub(super) is_cut: bool,
    lines: usize,
}

impl Ran {
    /// What the command of this number printed.
    pub(super) fn section(&self, number: usize) -> &[String] {
        self.sections.get(number).map_or(&[], Vec::as_slice)
    }
}

impl Watch for Ran {
    fn line(&mut self, line: &str) {
        if line.starts_with(ECHO) {
            self.sections.push(Vec::new());
            return;
        }
        self.lines += 1;
        self.is_cut = self.lines > LINES_MAX;
        if let Some(section) = self.sections.last_mut().filter(|_| !self.is_cut) {
            section.push(line.to_owned());
        }
    }

    fn error_line(&mut self, line: &str) {
        if self.errors.len() < ERRORS_MAX && !said::is_noise(line) {
            self.errors.push(line.trim_end().to_owned());
        }
    }
}

impl Session {
    pub(super) fn open(place: &SftpPlace) -> Result<Self, StorageError> {
        let unwritable = |source| StorageError::Write { path: std::env::temp_dir(), source };
        let files = SshFiles::write(&[place]).map_err(unwritable)?;
        Ok(Self {
            host: place.host.clone(),
            port: place.port,
            user: place.user.clone(),
            files,
            mark: place.mark.clone(),
        })
    }

    /// `user@host:port`
    pub(super) fn shown(&self) -> String {
        format!("{}@{}", self.user, host_in_known_hosts(&self.host, self.port))
    }

    /// The path of a file of the private directory.
    pub(super) fn file(&self, name: &str) -> String {
        self.files.directory().join(name).to_string_lossy().into_owned()
    }

    /// The same, of one that is not there yet.
    pub(super) fn new_file(&self) -> String {
        self.file(&ulid::Ulid::new().to_string())
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = PathBuf::from(self.file(name));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => private(&path, bytes),
        }
    }

    /// Runs the commands, of which each may fail; an error: there was no session, or it did not come to their end.
    pub(super) fn run(&self, commands: &[String], deadline: Duration) -> Result<Ran, StorageError> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut args: Vec<OsString> = self.files.options().into_iter().map(OsString::from).collect();
        // Behind the options: `-b` switches batch mode on where nothing was said of it.
        args.extend(["-P".to_owned(), self.port.to_string(), "-b".to_owned(), "-".to_owned()].map(OsString::from));
        args.extend(["--".to_owned(), format!("{}@{host}", self.user)].map(OsString::from));
        let mut batch = commands.join("\n");
        batch.push('\n');
        let mut ran = Ran::default();
        let finished = self.child("sftp", args, Stdin::Bytes(SecretString::from(batch)), deadline, &mut ran);
        let with = With { place: &self.shown(), host: &self.host };
        match said::of_session(&finished.exit, &ran.errors, finished.wall, &with) {
            None => Ok(ran),
            Some(StorageError::HostKeyUnknown { place, .. }) => {
                let left = deadline.saturating_sub(finished.wall).min(SCAN_MAX);
                Err(StorageError::HostKeyUnknown { place, shown: self.key_there(left) })
            }
            Some(error) => Err(error),
        }
    }

    /// The key that the host has, as a line to pin: the first of its best kind.
    fn key_there(&self, bound: Duration) -> Option<String> {
        if bound < Duration::from_millis(500) {
            return None;
        }
        let port = self.port.to_string();
        let args = ["-T", "2", "-p", &port, "-t", "ed25519,ecdsa,rsa", "--", &self.host].map(OsString::from);
        let mut scanned = Scanned::default();
        let finished = self.child("ssh-keyscan", args.to_vec(), Stdin::Null, bound, &mut scanned);
        let all = scanned.0;
        let best = || all.iter().find(|key| key.starts_with("ssh-ed25519")).or_else(|| all.first()).cloned();
        (finished.exit == Exit::Success).then(best).flatten()
    }

    fn child(
        &self,
        program: &str,
        args: Vec<OsString>,
        stdin: Stdin,
        deadline: Duration,
        watch: &mut impl Watch,
    ) -> process::Finished {
        let mut env = self.files.env();
        // Times of lists without a zone, and months in English.
        for (name, value) in [("TZ", "UTC"), ("LC_ALL", "C")] {
            env.push((name.to_owned(), SecretString::from(value)));
        }
        let command = Command {
            program: program.into(),
            args,
            env,
            current_dir: Some(self.files.directory().to_owned()),
            stdin,
            limits: Limits { deadline, grace: GRACE, log_bytes_max: 0, ..Limits::default() },
            log_stdout: LogStdout::No,
        };
        let context = Context {
            cancel: CancellationToken::new(),
            log: Log::discard(),
            redact: Redactor::default(),
            mark: self.mark.clone(),
        };
        // One for each: it may be made and dropped on any thread that may block.
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(process::run_watched(command, &context, watch)),
            Err(error) => process::Finished {
                exit: Exit::NotStarted { program: command.program, kind: error.kind(), detail: error.to_string() },
                wall: Duration::ZERO,
                stderr_tail: String::new(),
                left_alive: process::LeftAlive::default(),
            },
        }
    }
}

/// Keys as `ssh-keyscan` prints them, without the host.
#[derive(Default)]
struct Scanned(Vec<String>);

impl Watch for Scanned {
    fn line(&mut self, line: &str) {
        let key = line.split_once(' ').map(|(_, key)| key.trim());
        if let Some(key) = key.filter(|key| is_key_type(key) && self.0.len() < 8) {
            self.0.push(key.to_owned());
        }
    }
}
