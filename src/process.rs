//! The one module for child processes: own process group, bounded output, deadlines, TERM then KILL of the tree, reaped.
//!
//! Every descendant carries the environment variable [`MARK`], so a tree is found again even where a child left its
//! group, and what a crashed daemon left behind is found at the next start.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

/// In the environment of every child: the id of the daemon's state and of the work, `<state-id>:<run-id>`.
pub const MARK: &str = "LARDER_CHILD";

/// What a child gets on its standard input.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    #[default]
    Null,
    /// Written whole, then closed. A secret, since it often holds some.
    Bytes(SecretString),
}

/// Bounds of one child.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub deadline: Duration,
    /// Longest silence on both outputs; none: no such limit.
    pub no_progress: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// A longer line is cut, with a mark.
    pub line_bytes_max: usize,
    /// What is written to the log at most; what comes after is counted, not written.
    pub log_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3600),
            no_progress: None,
            grace: Duration::from_secs(10),
            line_bytes_max: 1 << 20,
            log_bytes_max: 16 << 20,
        }
    }
}

/// One child to run. The environment is only what is given here, `PATH`, `HOME`, `LANG`, `TZ`, `TMPDIR` and [`MARK`].
#[derive(Clone, Debug)]
pub struct Command {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Values may be secrets: they are redacted from the log by `redact`.
    pub env: Vec<(String, SecretString)>,
    pub current_dir: Option<PathBuf>,
    pub stdin: Stdin,
    pub limits: Limits,
    /// Whether lines of standard output go to the log too (standard error always does).
    pub log_stdout: LogStdout,
}

/// Whether standard output is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStdout {
    Yes,
    No,
}

/// What a child runs under: who can cancel it, where its output goes, what must not appear there.
#[derive(Clone)]
pub struct Context {
    pub cancel: CancellationToken,
    pub log: Log,
    pub redact: Redactor,
    /// `<state-id>:<run-id>`.
    pub mark: String,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    Code(i32),
    Signal(i32),
    /// Ended by us.
    DeadlineExceeded(Duration),
    NoProgress(Duration),
    Cancelled,
    /// It never ran.
    NotStarted {
        program: PathBuf,
        kind: std::io::ErrorKind,
        detail: String,
    },
}

/// A child that is gone, with its whole tree.
#[derive(Clone, Debug)]
pub struct Finished {
    pub exit: Exit,
    pub wall: Duration,
    /// The last lines of standard error, redacted, at most 4 KiB.
    pub stderr_tail: String,
}

/// Replaces secrets in text by `[redacted]`.
#[derive(Clone, Default)]
pub struct Redactor {
    pub(crate) secrets: Arc<Vec<SecretString>>,
}

/// An append-only log file of one run, shared by its children; bounded.
#[derive(Clone)]
pub struct Log {
    pub(crate) inner: Arc<std::sync::Mutex<LogFile>>,
}

pub(crate) struct LogFile {
    pub(crate) file: Option<std::fs::File>,
    pub(crate) written: u64,
    pub(crate) bytes_max: u64,
}

/// Runs `command` to its end and calls `on_line` with each line of its standard output (unredacted: callers parse it).
///
/// It always returns after the whole tree is gone.
pub async fn run(_command: Command, _context: &Context, _on_line: impl FnMut(&str) + Send) -> Finished {
    todo!("written by the process part")
}
