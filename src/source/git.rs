//! The `git` program, for the few things that `setup` leaves to it: one command at a time, within a deadline.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::setup::fault::{GIT_DEADLINE, GIT_OLDEST, SetupError};

/// How often to see whether it has ended.
const GIT_WAIT: Duration = Duration::from_millis(2);
/// Most of its output that is kept, in bytes.
const GIT_OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// The `git` program.
pub(super) struct Git {
    pub(super) program: PathBuf,
}

impl Git {
    /// The repository's own value of `key`, without what the user's or the system's config says.
    pub(super) fn config_value(&self, path: &Path, key: &str) -> Result<Option<Vec<u8>>, SetupError> {
        match self.config(path, &["--get".as_ref(), key.as_ref()]) {
            Ok(mut value) => {
                if value.last() == Some(&b'\n') {
                    value.pop();
                }
                Ok(Some(value))
            }
            // `git config --get` ends with 1 and says nothing when there is no such key.
            Err(SetupError::Git { detail, .. }) if detail == "exit code 1" => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn config(&self, path: &Path, args: &[&OsStr]) -> Result<Vec<u8>, SetupError> {
        let file = path.join("config");
        let mut all: Vec<&OsStr> = vec!["config".as_ref(), "--file".as_ref(), file.as_os_str()];
        all.extend_from_slice(args);
        self.run(&all)
    }

    /// Runs `git` to its end, within a deadline and without the caller's `GIT_*` variables; gives its standard output.
    pub(super) fn run(&self, args: &[&OsStr]) -> Result<Vec<u8>, SetupError> {
        let shown = || args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
            command.env_remove(name);
        }
        // The user's and the system's config could change what is made; --git-dir needs no safe.directory.
        command.env("LC_ALL", "C").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(SetupError::NoGit)?;
        let outputs = [drain(child.stdout.take()), drain(child.stderr.take())];
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(SetupError::NoGit)? {
                break status;
            }
            if started.elapsed() > GIT_DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(SetupError::GitHung { command: shown() });
            }
            std::thread::sleep(GIT_WAIT);
        };
        let [stdout, stderr] = outputs.map(|reader| reader.join().unwrap_or_default());
        if status.success() {
            return Ok(stdout);
        }
        let said = String::from_utf8_lossy(&stderr).trim().chars().take(500).collect::<String>();
        let detail = match (said.is_empty(), status.code()) {
            (false, _) => said,
            (true, Some(code)) => format!("exit code {code}"),
            (true, None) => status.to_string(),
        };
        Err(SetupError::Git { command: shown(), detail })
    }
}

/// Reads a pipe to its end on a thread of its own and keeps the first part.
fn drain(pipe: Option<impl io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(GIT_OUTPUT_BYTES_MAX).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        kept
    })
}

/// `git version 2.39.5 (Apple…)` to its first two numbers.
pub(super) fn git_version(output: &[u8]) -> Result<(u32, u32), SetupError> {
    let text = String::from_utf8_lossy(output);
    let found = text.trim().trim_start_matches("git version ").to_owned();
    let mut numbers = found.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= GIT_OLDEST => Ok((major, minor)),
        _ => Err(SetupError::OldGit { found: found.chars().take(40).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git_are_read_and_old_ones_refused() {
        assert_eq!(git_version(b"git version 2.39.5\n").unwrap(), (2, 39));
        assert_eq!(git_version(b"git version 2.47.3.windows.1\n").unwrap(), (2, 47));
        assert_eq!(git_version(b"git version 3.0.0-rc1\n").unwrap(), (3, 0));
        for bad in ["git version 2.20.1\n", "git version 1.8.3\n", "", "something else"] {
            assert!(matches!(git_version(bad.as_bytes()), Err(SetupError::OldGit { .. })), "{bad:?}");
        }
    }
}
