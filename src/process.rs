//! The one module for child processes: own process group, bounded output, deadlines, TERM then KILL of the tree, reaped.
//!
//! Every descendant carries the environment variable [`MARK`], so a tree is found again even where a child left its
//! group, and what a crashed daemon left behind is found at the next start. Deliberately absent: a shell.

mod left_alive;
mod lines;
mod log;
mod output;
mod program;
mod redact;
mod scratch;
mod spawn;
mod table;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio_util::sync::CancellationToken;

pub use left_alive::{Alive, LeftAlive, Spared};
pub use log::Log;
pub use program::find_program;
pub use redact::Redactor;
pub use scratch::{scratch, sweep_scratch};
pub use table::{Habitat, ProcessSeen, habitat, seen, seen_inside};
pub use tree::{Leftover, reap_leftovers, reap_stragglers};

use output::Output;
use tree::Tree;

/// In the environment of every child: who started it, as words `<state-id>:<run-id>:<pid>.<count>`, the innermost last.
///
/// A child that runs children itself adds a word, so the whole tree carries the word of its root.
pub const MARK: &str = "LARDER_CHILD";

/// How much is read from a child's output at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What an output may still hold when everyone who could write to it is gone is read at most for so long.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long a killed child may take to be gone (one in uninterruptible sleep takes longer and is left to the kernel).
const REAP_MAX: Duration = Duration::from_secs(10);
/// Between TERM and KILL for what a child left behind when it ended by itself.
const LEFT_BEHIND_GRACE: Duration = Duration::from_millis(500);
/// Stands for "no limit": far beyond any run, and safe to add to an instant.
const FOREVER: Duration = Duration::from_hours(10 * 366 * 24);

/// What a child gets on its standard input.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    #[default]
    Null,
    /// Written whole, then closed. A secret, since it often holds some.
    Bytes(SecretString),
    /// An open file, from where it stands, or the reading end of a pipe.
    From(Arc<std::fs::File>),
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
    pub left_behind: LeftBehind,
}

/// What becomes of what a child started when it ends by itself, with success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeftBehind {
    #[default]
    Ended,
    /// It was started to stay: [`Finished::left_alive`] tells it.
    Lives,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_hours(1),
            no_progress: None,
            grace: Duration::from_secs(10),
            line_bytes_max: 1 << 20,
            log_bytes_max: 16 << 20,
            left_behind: LeftBehind::Ended,
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
#[derive(Clone, Debug)]
pub enum LogStdout {
    Yes,
    No,
    /// It goes, as it is, into an open file or the writing end of a pipe: nobody hears its lines.
    Into(Arc<std::fs::File>),
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
    /// What goes on although the child is gone; only where that is wanted.
    pub left_alive: LeftAlive,
}

/// Hears a child while it runs. Lines are unredacted, since callers parse them; at most `line_bytes_max` bytes plus a
/// mark; bytes that are no UTF-8 are replaced.
pub trait Watch: Send {
    /// The child runs as this process.
    fn started(&mut self, _pid: u32) {}
    /// A line of its standard output.
    fn line(&mut self, line: &str);
    /// A line of its standard error.
    fn error_line(&mut self, _line: &str) {}
}

/// Runs `command` to its end and calls `on_line` with each line of its standard output (unredacted: callers parse it).
///
/// It always returns after the whole tree is gone, but for what [`LeftBehind::Lives`] lets live. When the returned future is dropped, the tree is killed behind it.
pub async fn run(command: Command, context: &Context, on_line: impl FnMut(&str) + Send) -> Finished {
    struct Lines<F>(F);
    impl<F: FnMut(&str) + Send> Watch for Lines<F> {
        fn line(&mut self, line: &str) {
            (self.0)(line);
        }
    }
    run_watched(command, context, &mut Lines(on_line)).await
}

/// Like [`run`], for callers that also want the pid or the lines of standard error.
pub async fn run_watched(command: Command, context: &Context, watch: &mut impl Watch) -> Finished {
    let started = Instant::now();
    let mut output = Output::new(&command, context);
    if context.cancel.is_cancelled() {
        return output.finished(Exit::Cancelled, started);
    }
    let limits = command.limits;
    let spawned = match spawn::program_answers(&command).await {
        Ok(()) => spawn::spawn(&command, &context.mark),
        Err(failure) => Err(failure),
    };
    let (mut child, tree) = match spawned {
        Ok(spawned) => spawned,
        Err(failure) => {
            output.note(&format!("{} did not start: {}", command.program.display(), failure.detail));
            let exit = Exit::NotStarted { program: command.program, kind: failure.kind, detail: failure.detail };
            return output.finished(exit, started);
        }
    };
    if let Some(pid) = child.id() {
        watch.started(pid);
    }
    let pipes = Pipes { stdout: child.stdout.take(), stderr: child.stderr.take() };
    let feed = feed(child.stdin.take(), command.stdin);
    let mut running = Running { child: &mut child, pipes, output: &mut output, listener: watch };

    let end = running.watch(&limits, &context.cancel, feed, started).await;
    let exit = match end {
        End::Exited(Exit::Success) if limits.left_behind == LeftBehind::Lives => {
            tree.leader_is_reaped();
            running.listen(LEFT_BEHIND_GRACE).await;
            left_alive::hand_over(running.pipes.stdout.take(), running.pipes.stderr.take());
            let left_alive = tree.leave().await;
            output.flush(watch);
            return Finished { left_alive, ..output.finished(Exit::Success, started) };
        }
        End::Exited(exit) => {
            tree.leader_is_reaped();
            running.clear(&tree, LEFT_BEHIND_GRACE).await;
            exit
        }
        End::Ours(exit) => {
            running.stop(&tree, limits.grace).await;
            exit
        }
    };
    tree.release();
    running.drain().await;
    output.flush(watch);
    output.finished(exit, started)
}

/// Why watching ended.
enum End {
    /// The child ended by itself (and is reaped).
    Exited(Exit),
    /// It is to be ended, for this reason.
    Ours(Exit),
}

struct Pipes {
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<tokio::process::ChildStderr>,
}

struct Running<'a, F> {
    child: &'a mut Child,
    pipes: Pipes,
    output: &'a mut Output,
    listener: &'a mut F,
}

impl<F: Watch> Running<'_, F> {
    /// Feeds and reads the child until it exits or has to be ended.
    async fn watch(
        &mut self,
        limits: &Limits,
        cancel: &CancellationToken,
        feed: impl Future<Output = ()>,
        started: Instant,
    ) -> End {
        let deadline = tokio::time::sleep_until((started + limits.deadline.min(FOREVER)).into());
        let silence_max = limits.no_progress.unwrap_or(FOREVER).min(FOREVER);
        let silence = tokio::time::sleep(silence_max);
        tokio::pin!(deadline, silence, feed);
        let mut fed = false;
        // When the last output came; the timer is moved only when it fires, so that a flood costs no timer work.
        let mut heard = tokio::time::Instant::now();
        let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return End::Ours(Exit::Cancelled),
                () = &mut deadline => return End::Ours(Exit::DeadlineExceeded(limits.deadline)),
                () = &mut silence => {
                    if heard.elapsed() >= silence_max {
                        return End::Ours(Exit::NoProgress(silence_max));
                    }
                    silence.as_mut().reset(heard + silence_max);
                }
                () = &mut feed, if !fed => fed = true,
                length = read(&mut self.pipes.stdout, &mut out) => {
                    self.output.stdout(out.get(..length).unwrap_or_default(), self.listener);
                    heard = tokio::time::Instant::now();
                }
                length = read(&mut self.pipes.stderr, &mut err) => {
                    self.output.stderr(err.get(..length).unwrap_or_default(), self.listener);
                    heard = tokio::time::Instant::now();
                }
                status = self.child.wait() => return End::Exited(match status {
                    Ok(status) => exit_of(status),
                    // Somebody else reaped our child; its outcome is unknown, so it is no success.
                    Err(_) => Exit::Signal(0),
                }),
            }
        }
    }

    /// TERM to the tree, and KILL after `grace`; reads on meanwhile, so that nobody hangs in a write.
    async fn stop(&mut self, tree: &Tree, grace: Duration) {
        let end = tokio::time::Instant::now() + grace.min(FOREVER);
        tree.terminate().await;
        if self.read_until_gone(end).await {
            tree.leader_is_reaped();
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            return self.clear(tree, left.min(LEFT_BEHIND_GRACE)).await;
        }
        self.clear(tree, Duration::ZERO).await;
        if self.read_until_gone(tokio::time::Instant::now() + REAP_MAX).await {
            tree.leader_is_reaped();
        }
    }

    /// Ends what is left of the tree.
    async fn clear(&mut self, tree: &Tree, grace: Duration) {
        let survivors = tree.end(grace).await;
        if !survivors.is_empty() {
            self.output.note(&format!("could not be ended: process {survivors:?}"));
        }
    }

    /// Reads until the child is reaped; false when `end` came first.
    async fn read_until_gone(&mut self, end: tokio::time::Instant) -> bool {
        let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return false,
                length = read(&mut self.pipes.stdout, &mut out) => {
                    self.output.stdout(out.get(..length).unwrap_or_default(), self.listener);
                }
                length = read(&mut self.pipes.stderr, &mut err) => {
                    self.output.stderr(err.get(..length).unwrap_or_default(), self.listener);
                }
                _ = self.child.wait() => return true,
            }
        }
    }

    /// Reads what the pipes still hold; nobody writes to them any more.
    async fn drain(&mut self) {
        self.listen(DRAIN_MAX).await;
    }

    /// Reads to the end of the pipes, at most for `bound`.
    async fn listen(&mut self, bound: Duration) {
        let end = tokio::time::Instant::now() + bound;
        let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        while self.pipes.stdout.is_some() || self.pipes.stderr.is_some() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                length = read(&mut self.pipes.stdout, &mut out) => {
                    self.output.stdout(out.get(..length).unwrap_or_default(), self.listener);
                }
                length = read(&mut self.pipes.stderr, &mut err) => {
                    self.output.stderr(err.get(..length).unwrap_or_default(), self.listener);
                }
            }
        }
    }
}

/// Reads a chunk; at the end of the stream, drops the pipe; without a pipe, never answers.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, chunk: &mut [u8]) -> usize {
    let Some(reader) = pipe else { return std::future::pending().await };
    match reader.read(chunk).await {
        Ok(0) | Err(_) => {
            *pipe = None;
            0
        }
        Ok(length) => length,
    }
}

/// Writes the standard input and closes it. A child that does not read it is no error.
async fn feed(pipe: Option<ChildStdin>, stdin: Stdin) {
    if let (Some(mut pipe), Stdin::Bytes(bytes)) = (pipe, stdin) {
        let _ = pipe.write_all(secrecy::ExposeSecret::expose_secret(&bytes).as_bytes()).await;
        let _ = pipe.shutdown().await;
    }
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Success,
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
