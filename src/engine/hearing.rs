//! What one restic says while it runs, and when it need not be waited for any more.

use std::time::{Duration, Instant};

use super::children::{Child, Children};
use super::complaints::Complaints;
use super::messages::{self, Progress};
use super::retries::{Retries, Vain};
use crate::process::Watch;

/// Listens to one restic.
pub(super) struct Hearing<'a> {
    pub(super) on_line: &'a mut (dyn FnMut(&str) + Send),
    pub(super) complaints: Complaints,
    pub(super) children: &'a Children,
    pub(super) child: Option<Child>,
    /// The newest figures (bytes, files), and since when they stand.
    pub(super) figures: Option<(u64, u64)>,
    pub(super) figures_since: Instant,
    pub(super) stall: Duration,
    pub(super) stuck: bool,
    pub(super) retries: Retries,
    /// Why it need not be waited for.
    pub(super) vain: Option<Vain>,
    pub(super) stop: tokio_util::sync::CancellationToken,
}

impl Hearing<'_> {
    /// restic reports by a timer, also while it hangs; so it is the figures that are watched, not the lines.
    fn watch_figures(&mut self, progress: &Progress) {
        let figures = (progress.bytes_done, progress.files_done);
        if self.figures != Some(figures) {
            self.figures = Some(figures);
            self.figures_since = Instant::now();
        } else if self.figures_since.elapsed() > self.stall && !self.stuck {
            self.stuck = true;
            self.stop.cancel();
        }
    }

    /// restic may say on either output that it tries something again.
    fn watch_retries(&mut self, line: &str) {
        if self.vain.is_none()
            && let Some(vain) = self.retries.hear(line, Instant::now())
        {
            self.vain = Some(vain);
            self.stop.cancel();
        }
    }
}

impl Watch for Hearing<'_> {
    fn started(&mut self, pid: u32) {
        self.child = Some(self.children.remember(pid));
    }

    fn line(&mut self, line: &str) {
        if line.contains("\"status\"")
            && let Some(messages::Message::Status(progress)) = messages::parse(line)
        {
            self.watch_figures(&progress);
        }
        if let Some((done, total)) = super::copy::packs(line) {
            self.watch_figures(&Progress { bytes_done: done, files_done: total, ..Progress::default() });
        } else if super::copy::is_about_the_next(line) {
            // It may begin with the figures that the one before it ended with.
            self.figures = None;
        }
        self.watch_retries(line);
        // Some versions write their complaints to standard output.
        if line.starts_with('{') && (line.contains("\"exit_error\"") || line.contains("\"error\"")) {
            self.complaints.hear(line);
        }
        (self.on_line)(line);
    }

    fn error_line(&mut self, line: &str) {
        self.watch_retries(line);
        self.complaints.hear(line);
    }
}
