//! What becomes of a child's output: lines for the caller, redacted lines for the log, the tail of standard error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use super::lines::{Line, Lines};
use super::{Command, Context, Exit, Finished, LeftAlive, Log, LogStdout, Redactor, Watch};

/// Longest tail of standard error that is kept, in bytes.
const TAIL_BYTES_MAX: usize = 4096;

pub(super) struct Output {
    out: Lines,
    err: Lines,
    sink: Sink,
}

impl Output {
    pub(super) fn new(command: &Command, context: &Context) -> Self {
        Self {
            out: Lines::new(command.limits.line_bytes_max),
            err: Lines::new(command.limits.line_bytes_max),
            sink: Sink {
                log: context.log.clone(),
                redact: context.redact.clone(),
                log_stdout: matches!(command.log_stdout, LogStdout::Yes),
                log_bytes_left: command.limits.log_bytes_max,
                tail: VecDeque::new(),
                tail_bytes: 0,
            },
        }
    }

    pub(super) fn stdout(&mut self, chunk: &[u8], watch: &mut impl Watch) {
        self.out.push(chunk, |line| self.sink.out(&line, watch));
    }

    pub(super) fn stderr(&mut self, chunk: &[u8], watch: &mut impl Watch) {
        self.err.push(chunk, |line| self.sink.err(&line, watch));
    }

    /// Hands out what came without a line end.
    pub(super) fn flush(&mut self, watch: &mut impl Watch) {
        self.out.finish(|line| self.sink.out(&line, watch));
        self.err.finish(|line| self.sink.err(&line, watch));
    }

    /// Writes a remark of ours.
    pub(super) fn note(&mut self, text: &str) {
        self.sink.write(text, false);
    }

    pub(super) fn finished(self, exit: Exit, started: Instant) -> Finished {
        let (wall, stderr_tail) = (started.elapsed(), self.sink.tail());
        Finished { exit, wall, stderr_tail, left_alive: LeftAlive::default() }
    }
}

/// The places where lines go.
struct Sink {
    log: Log,
    redact: Redactor,
    log_stdout: bool,
    log_bytes_left: u64,
    /// The last lines of standard error, not yet redacted, so that a secret over several lines is found.
    tail: VecDeque<String>,
    tail_bytes: usize,
}

impl Sink {
    fn out(&mut self, line: &Line<'_>, watch: &mut impl Watch) {
        let text = text_of(line);
        if self.log_stdout {
            self.write(&text, line.dropped > 0);
        }
        watch.line(&marked(&text, line.dropped));
    }

    fn err(&mut self, line: &Line<'_>, watch: &mut impl Watch) {
        let text = text_of(line);
        watch.error_line(&marked(&text, line.dropped));
        self.write(&text, line.dropped > 0);
        self.keep_tail(text.into_owned(), line.dropped > 0);
    }

    fn write(&mut self, text: &str, cut: bool) {
        // A flood that the log has no room for costs no redaction.
        if self.log_bytes_left == 0 || self.log.is_full() {
            self.log.count_dropped(text.len() as u64);
            return;
        }
        let clean = if cut { self.redact.redact_cut(text) } else { self.redact.redact(text) };
        let written = self.log.append(&if cut { Cow::Owned(format!("{clean} [cut]")) } else { clean });
        self.log_bytes_left = self.log_bytes_left.saturating_sub(written);
    }

    fn keep_tail(&mut self, text: String, cut: bool) {
        let text = if text.len() > TAIL_BYTES_MAX {
            let clean = if cut { self.redact.redact_cut(&text) } else { self.redact.redact(&text) };
            last_bytes(&clean, TAIL_BYTES_MAX).to_owned()
        } else {
            text
        };
        self.tail_bytes += text.len() + 1;
        self.tail.push_back(text);
        while self.tail_bytes > 2 * TAIL_BYTES_MAX {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.len() + 1;
        }
    }

    fn tail(self) -> String {
        let lines: Vec<String> = self.tail.into();
        last_bytes(&self.redact.redact(&lines.join("\n")), TAIL_BYTES_MAX).to_owned()
    }
}

fn text_of<'a>(line: &Line<'a>) -> Cow<'a, str> {
    String::from_utf8_lossy(line.bytes)
}

fn marked(text: &str, dropped: u64) -> Cow<'_, str> {
    if dropped == 0 { Cow::Borrowed(text) } else { Cow::Owned(format!("{text} [cut: {dropped} bytes more]")) }
}

/// The last `bytes_max` bytes of `text`, from the next character on.
fn last_bytes(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}
