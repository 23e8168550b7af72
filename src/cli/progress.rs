//! Progress of long work: a live bar for each run on a terminal, a line for each change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output::{self, colour};
use crate::rpc::wire::RunInfo;
use crate::runner::control::OperationStatus;
use crate::runner::live::RunUpdate;
use crate::types::{ByteSize, RunId, show_duration};

/// The stages that a bar counts.
const STAGES: u64 = 5;

/// Shows how far things are.
pub(crate) struct Progress {
    shown: bool,
    terminal: Option<MultiProgress>,
    bars: BTreeMap<RunId, ProgressBar>,
    /// The last line that was printed for each, so that a line is a change.
    said: BTreeMap<RunId, String>,
}

impl Progress {
    pub(crate) fn new(shown: bool) -> Self {
        let terminal = (shown && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self { shown, terminal, bars: BTreeMap::new(), said: BTreeMap::new() }
    }

    /// A run in progress.
    pub(crate) fn update(&mut self, record: &RunInfo, live: Option<&RunUpdate>) {
        if !self.shown {
            return;
        }
        let state = live.map_or(record.state.as_str(), |live| live.state.as_str());
        if self.terminal.is_some() {
            let bar = self.bar(record.id, &job(record));
            bar.set_position(stage(state));
            bar.set_message(describe(state, live));
        } else {
            self.say(record.id, format!("{:<28} {state}", job(record)));
        }
    }

    /// A run that is over.
    pub(crate) fn finished(&mut self, record: &RunInfo) {
        if !self.shown {
            return;
        }
        let line = summary(record, self.terminal.is_some());
        if let (Some(terminal), Some(bar)) = (&self.terminal, self.bars.remove(&record.id)) {
            bar.finish_and_clear();
            let _ = terminal.println(line);
        } else if let Some(terminal) = &self.terminal {
            let _ = terminal.println(line);
        } else {
            self.say(record.id, line);
        }
    }

    /// Another kind of work.
    pub(crate) fn operation(&mut self, status: &OperationStatus) {
        if !self.shown || self.terminal.is_none() {
            return;
        }
        let bar = self.bar(status.id, &status.title);
        bar.set_position(u64::from(status.percent) * STAGES / 100);
        bar.set_message(format!("{} %", status.percent));
    }

    pub(crate) fn close(&mut self) {
        for (_, bar) in std::mem::take(&mut self.bars) {
            bar.finish_and_clear();
        }
    }

    fn bar(&mut self, id: RunId, title: &str) -> ProgressBar {
        if let Some(bar) = self.bars.get(&id) {
            return bar.clone();
        }
        let bar = ProgressBar::new(STAGES);
        let style =
            ProgressStyle::with_template("  {spinner:.cyan} {prefix:<28} [{bar:20.cyan/blue}] {elapsed:>4} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let bar = match &self.terminal {
            Some(terminal) => terminal.add(bar),
            None => bar,
        };
        self.bars.insert(id, bar.clone());
        bar
    }

    fn say(&mut self, id: RunId, line: String) {
        if self.said.get(&id) != Some(&line) {
            output::note(&format!("  {line}"));
            self.said.insert(id, line);
        }
    }
}

fn job(record: &RunInfo) -> String {
    format!("{}/{}", record.target, record.policy)
}

fn stage(state: &str) -> u64 {
    let order = ["queued", "capturing", "validating", "publishing", "shipping"];
    order.iter().position(|each| *each == state).map_or(STAGES, |position| position as u64)
}

fn describe(state: &str, live: Option<&RunUpdate>) -> String {
    let mut text = state.to_owned();
    let Some(live) = live else { return text };
    if let Some(detail) = &live.detail {
        text = format!("{text} to {detail}");
    }
    if live.bytes_total > 0 {
        text = format!("{text} {} of {}", ByteSize(live.bytes_done), ByteSize(live.bytes_total));
    }
    text
}

fn summary(record: &RunInfo, terminal: bool) -> String {
    let Some(outcome) = record.outcome else { return String::new() };
    let took = record
        .started
        .zip(record.finished)
        .map(|(from, to)| show_duration(Duration::try_from(to.duration_since(from)).unwrap_or_default()))
        .unwrap_or_default();
    let word = output::paint(&format!("{:<9}", outcome.as_str()), colour(outcome), terminal);
    let trouble = record.trouble.as_ref().map(|trouble| format!("  {}", trouble.message)).unwrap_or_default();
    let mut line = format!("{:<28} {word} {:>9} in {took}{trouble}", job(record), ByteSize(record.bytes).to_string());
    for notice in &record.notices {
        line.push_str("\n    notice: ");
        line.push_str(&notice.message);
    }
    line
}
