//! Programs that a plugin runs in turn (`pg_dump`): blocking calls over [`crate::process`], bounded, quiet.
//!
//! Their tree carries the plugin's mark, so whoever ends the plugin ends them too.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::process::{self, Command, Context, Exit, Limits, Log, LogStdout, Redactor, Stdin};

/// For work whose length nobody knows: the run's own deadline, which the host keeps, comes first.
pub(crate) const DEADLINE_OF_WORK: Duration = Duration::from_hours(7 * 24);

/// For questions that are answered at once.
pub(crate) const DEADLINE_OF_QUESTION: Duration = Duration::from_mins(2);

/// How often `on_tick` is called.
const TICK: Duration = Duration::from_millis(500);

/// What programs run with.
pub(crate) struct Tools {
    runtime: tokio::runtime::Runtime,
    context: Context,
    env: Vec<(String, SecretString)>,
    current_dir: PathBuf,
}

/// What a program reads and writes; none: nothing, and nowhere.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
}

/// How a program ended.
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    /// The last 4 KiB of standard error, without secrets.
    pub(crate) stderr: String,
}

impl Tools {
    /// `env` goes to every program; `secrets` are hidden from what they write.
    pub(crate) fn new(
        env: Vec<(String, SecretString)>,
        secrets: Vec<SecretString>,
        current_dir: &Path,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(codes::INTERNAL, format!("the plugin cannot run programs: {error}")))?;
        let context = Context {
            cancel: CancellationToken::new(),
            log: Log::discard(),
            redact: Redactor::new(secrets),
            mark: "plugin:tool".to_owned(),
        };
        Ok(Self { runtime, context, env, current_dir: current_dir.to_owned() })
    }

    /// Ends what runs, from another thread.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.context.cancel.clone()
    }

    /// Runs a program to its end. `on_line` gets its standard output, `on_tick` is called twice a second.
    pub(crate) fn run(
        &self,
        program: &Path,
        args: Vec<OsString>,
        extra_env: &[(&str, &str)],
        deadline: Duration,
        on_line: impl FnMut(&str) + Send,
        on_tick: impl FnMut(),
    ) -> Ran {
        self.go(self.command(program, args, extra_env, deadline), on_line, on_tick)
    }

    /// Like [`Tools::run`], for bytes: standard input from a file or pipe, standard output into one.
    ///
    /// Both are closed on this side when it returns, so whoever reads the pipe comes to its end.
    pub(crate) fn pipe(
        &self,
        program: &Path,
        args: Vec<OsString>,
        extra_env: &[(&str, &str)],
        deadline: Duration,
        ends: Ends,
        on_tick: impl FnMut(),
    ) -> Ran {
        let mut command = self.command(program, args, extra_env, deadline);
        if let Some(file) = ends.stdin {
            command.stdin = Stdin::From(Arc::new(file));
        }
        if let Some(file) = ends.stdout {
            command.log_stdout = LogStdout::Into(Arc::new(file));
        }
        self.go(command, |_| {}, on_tick)
    }

    fn command(&self, program: &Path, args: Vec<OsString>, extra_env: &[(&str, &str)], deadline: Duration) -> Command {
        let mut env = self.env.clone();
        env.extend(extra_env.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from((*value).to_owned()))));
        Command {
            program: program.to_owned(),
            args,
            env,
            current_dir: Some(self.current_dir.clone()),
            stdin: Stdin::Null,
            limits: Limits { deadline, log_bytes_max: 0, ..Limits::default() },
            log_stdout: LogStdout::No,
        }
    }

    fn go(&self, command: Command, on_line: impl FnMut(&str) + Send, mut on_tick: impl FnMut()) -> Ran {
        let finished = self.runtime.block_on(async {
            let work = process::run(command, &self.context, on_line);
            tokio::pin!(work);
            let mut tick = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    finished = &mut work => return finished,
                    _ = tick.tick() => on_tick(),
                }
            }
        });
        Ran { exit: finished.exit, stderr: finished.stderr_tail }
    }
}

/// A file name for a thing of any name: letters, digits, `.`, `_` and `-` stay, all else is percent-encoded.
pub(crate) fn file_name(thing: &str) -> String {
    use std::fmt::Write as _;
    // A name of 63 bytes of which each is encoded still fits into what file systems allow (255).
    const BYTES_MAX: usize = 200;
    let mut name = String::with_capacity(thing.len());
    for (index, byte) in thing.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'_' || (index > 0 && matches!(byte, b'.' | b'-'));
        if plain {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > BYTES_MAX {
        use sha2::Digest as _;
        let digest = hex::encode(sha2::Sha256::digest(thing.as_bytes()));
        name.truncate(BYTES_MAX);
        name.push('-');
        name.push_str(digest.get(..16).unwrap_or(&digest));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_of_any_name_gets_a_safe_file_name() {
        assert_eq!(file_name("paperless"), "paperless");
        assert_eq!(file_name("my db/../\"x\" ü"), "my%20db%2F..%2F%22x%22%20%C3%BC");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("-rf"), "%2Drf");
        assert!(file_name(&"ü".repeat(300)).len() < 255);
        assert_ne!(file_name(&format!("{}a", "x".repeat(300))), file_name(&format!("{}b", "x".repeat(300))));
    }

    proptest::proptest! {
        #[test]
        fn no_two_short_names_share_a_file(a in "\\PC{1,20}", b in "\\PC{1,20}") {
            proptest::prop_assert_eq!(a == b, file_name(&a) == file_name(&b));
            proptest::prop_assert!(!file_name(&a).contains('/') && !file_name(&a).starts_with(['.', '-']));
        }
    }
}
