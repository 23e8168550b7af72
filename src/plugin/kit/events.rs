//! Where a plugin says its events, one line each.

use std::io::Write;

use crate::error::Trouble;
use crate::plugin::protocol::{ArtifactFile, Event, Source, Step, Validation, Verb, Verdict};

/// Where a plugin says its events.
pub(crate) struct EventWriter<'a> {
    pub(crate) out: &'a mut dyn Write,
}

impl EventWriter<'_> {
    /// Writes one event at once, so a crash later loses none. Nobody listening is no error: the host is gone then.
    pub(crate) fn say(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.out.write_all(&line).and_then(|()| self.out.flush());
        }
    }

    pub(crate) fn log(&mut self, message: impl Into<String>) {
        self.say(&Event::Log { message: message.into() });
    }

    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        self.say(&Event::Progress { done, total });
    }

    pub(crate) fn artifact(&mut self, path: &str, format: &str, sha256: String) {
        self.say(&Event::Artifact(ArtifactFile { path: path.into(), format: format.to_owned(), sha256: Some(sha256) }));
    }

    pub(crate) fn source(&mut self, source: Source) {
        self.say(&Event::Source(source));
    }

    pub(crate) fn version(&mut self, app: impl Into<String>) {
        self.say(&Event::Version { app: app.into() });
    }

    pub(crate) fn figure(&mut self, name: impl Into<String>, value: u64) {
        self.say(&Event::Figure { name: name.into(), value });
    }

    pub(crate) fn warning(&mut self, trouble: Trouble) {
        let Trouble { code, message, hint } = trouble;
        self.say(&Event::Warning { code, message, hint });
    }

    /// What is left out by design, by itself or accepted; the run stays a success.
    pub(crate) fn notice(&mut self, trouble: Trouble) {
        let Trouble { code, message, hint } = trouble;
        self.say(&Event::Notice { code, message, hint });
    }

    /// Something that a restore does, or would do.
    pub(crate) fn step(&mut self, verb: Verb, thing: impl Into<String>, detail: impl Into<String>) {
        self.planned(Step::new(verb, thing, detail));
    }

    /// The same, of a step that was decided before.
    pub(crate) fn planned(&mut self, step: Step) {
        let Step { verb, thing, detail } = step;
        self.say(&Event::Step { verb, thing, detail });
    }

    pub(crate) fn validation(&mut self, name: impl Into<String>, verdict: Verdict, detail: impl Into<String>) {
        self.say(&Event::Validation(Validation { name: name.into(), verdict, detail: detail.into() }));
    }
}
