//! The log file of one run: append-only, bounded, shared by the run's children.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The last line of a log that reached its bound.
const FULL: &str = "(the log is full: what comes after is not kept)\n";

/// An append-only log file of one run, shared by its children; bounded.
///
/// A line starts with the time in UTC. Writing never fails a run: what can't be written is counted as dropped.
#[derive(Clone, Default)]
pub struct Log {
    inner: Arc<Mutex<LogFile>>,
}

#[derive(Default)]
struct LogFile {
    file: Option<std::fs::File>,
    written: u64,
    bytes_max: u64,
    dropped: u64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Log({} of {} bytes)", inner.written, inner.bytes_max)
    }
}

impl Log {
    /// Opens (or makes, mode 0600) the file at `path`; what is in it already counts against `bytes_max`.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn create(path: &Path, bytes_max: u64) -> std::io::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { inner: Arc::new(Mutex::new(LogFile { file: Some(file), written, bytes_max, dropped: 0 })) })
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn discard() -> Self {
        Self::default()
    }

    /// Appends one line, which must hold no secret; line ends and control characters in it become spaces.
    pub fn line(&self, text: &str) {
        let _ = self.append(text);
    }

    /// Appends one line and says how many bytes that took; none were kept when the log is full.
    pub(super) fn append(&self, text: &str) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = rendered(text, jiff::Timestamp::now());
        inner.append(&line)
    }

    /// Whether nothing more is kept.
    pub(super) fn is_full(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.is_none() || inner.written >= inner.bytes_max
    }

    /// Counts what was not even rendered.
    pub(super) fn count_dropped(&self, bytes: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.dropped = inner.dropped.saturating_add(bytes);
    }

    /// How many bytes were not kept.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

impl LogFile {
    fn append(&mut self, line: &str) -> u64 {
        let length = line.len() as u64;
        let fits = self.written.saturating_add(length) <= self.bytes_max;
        let Some(file) = self.file.as_mut().filter(|_| self.written < self.bytes_max) else {
            self.dropped = self.dropped.saturating_add(length);
            return 0;
        };
        let text = if fits { line } else { FULL };
        match file.write_all(text.as_bytes()) {
            Ok(()) if fits => self.written += length,
            Ok(()) => {
                self.written = self.bytes_max;
                self.dropped = self.dropped.saturating_add(length);
            }
            Err(_) => self.dropped = self.dropped.saturating_add(length),
        }
        if fits { length } else { 0 }
    }
}

fn rendered(text: &str, now: jiff::Timestamp) -> String {
    let seconds = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut line = seconds.to_string();
    line.push(' ');
    line.extend(text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_log_keeps_lines_up_to_its_bound_and_counts_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::create(&path, 200).unwrap();
        for n in 0..100 {
            log.line(&format!("line {n} \u{1b}[31mred\nsecond"));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("line 0  [31mred second\n"), "{text:?}");
        assert!(text.ends_with(FULL), "{text:?}");
        assert!(text.len() < 200 + FULL.len());
        assert!(log.dropped() > 2000 && log.is_full());
    }

    #[test]
    fn a_log_that_is_opened_again_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Log::create(&path, 1000).unwrap().line("first");
        Log::create(&path, 1000).unwrap().line("second");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
