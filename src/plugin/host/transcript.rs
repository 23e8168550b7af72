//! What a plugin said, line by line, into one value with bounds; pure.
//!
//! Nothing here is believed yet: [`crate::plugin::host`] looks at the files before it calls a capture one.

use std::collections::BTreeMap;

use crate::error::{Trouble, codes};
use crate::plugin::kit::tidy::tidy;
use crate::plugin::protocol::{ArtifactFile, Description, Event, Line, Source, Step, Validation, parse_line};

/// More lines than this and the plugin is ended: no honest one has so much to say.
pub(crate) const LINES_MAX: u64 = 1_000_000;
const ARTIFACTS_MAX: usize = 10_000;
const SOURCES_MAX: usize = 1_000;
const FIGURES_MAX: usize = 1_000;
const VALIDATIONS_MAX: usize = 1_000;
/// Steps beyond it are counted.
const STEPS_MAX: usize = 2_000;
/// As many as a run's record keeps.
const WARNINGS_MAX: usize = 20;
const NOTICES_MAX: usize = 20;
/// Lines that are no events are shown in the log up to here, then only counted.
const STRANGE_LINES_MAX: u64 = 20;
/// A longer text is cut.
const TEXT_CHARS_MAX: usize = 1_000;

/// All that a plugin said in one call.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) description: Option<Description>,
    pub(crate) artifacts: Vec<ArtifactFile>,
    pub(crate) sources: Vec<Source>,
    pub(crate) app_version: Option<String>,
    pub(crate) figures: BTreeMap<String, u64>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) steps: Vec<Step>,
    pub(crate) steps_omitted: u64,
    pub(crate) warnings: Vec<Trouble>,
    pub(crate) notices: Vec<Trouble>,
    /// The first `failed`, and whether trying again later can help.
    pub(crate) failed: Option<(Trouble, bool)>,
    /// A bound that was passed, by the name of what there was too much of.
    pub(crate) overflow: Option<&'static str>,
    pub(crate) strange_lines: u64,
    lines: u64,
}

/// What the host does about a line.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Nothing,
    Progress { done: u64, total: u64 },
    Log(String),
    Step(Step),
    Warning(Trouble),
    Notice(Trouble),
    Version(String),
    EndIt,
}

impl Transcript {
    pub(crate) fn read(&mut self, line: &str) -> Heard {
        self.lines += 1;
        if self.lines > LINES_MAX {
            self.overflow = Some("lines");
            return Heard::EndIt;
        }
        if line.trim().is_empty() {
            return Heard::Nothing;
        }
        match parse_line(line) {
            Line::Event(event) => self.take(event),
            Line::Unknown(event) => {
                self.strange(|| format!("the plugin sent an event that this version does not know: {event:?}"))
            }
            Line::Malformed(why) => {
                self.strange(|| format!("the plugin sent an event that cannot be read: {}", tidy(&why, 200)))
            }
            Line::NotJson => self.strange(|| format!("the plugin wrote a line that is no event: {}", tidy(line, 200))),
        }
    }

    fn take(&mut self, event: Event) -> Heard {
        match event {
            Event::Description(description) => self.description = Some(description),
            Event::Progress { done, total } => return Heard::Progress { done, total },
            Event::Log { message } => return Heard::Log(tidy(&message, TEXT_CHARS_MAX)),
            Event::Artifact(artifact) => {
                return self.keep("artifacts", ARTIFACTS_MAX, artifact, |all| &mut all.artifacts);
            }
            Event::Source(source) => return self.keep("sources", SOURCES_MAX, source, |all| &mut all.sources),
            Event::Version { app } => {
                let version = tidy(&app, 100);
                self.app_version = Some(version.clone());
                return Heard::Version(version);
            }
            Event::Figure { name, value } => {
                if self.figures.len() < FIGURES_MAX {
                    self.figures.insert(tidy(&name, 200), value);
                }
            }
            Event::Validation(mut validation) => {
                validation.name = tidy(&validation.name, 200);
                validation.detail = tidy(&validation.detail, TEXT_CHARS_MAX);
                return self.keep("validations", VALIDATIONS_MAX, validation, |all| &mut all.validations);
            }
            Event::Step { verb, thing, detail } => {
                let step = Step { verb, thing: tidy(&thing, 200), detail: tidy(&detail, TEXT_CHARS_MAX) };
                if self.steps.len() < STEPS_MAX {
                    self.steps.push(step.clone());
                } else {
                    self.steps_omitted += 1;
                }
                return Heard::Step(step);
            }
            Event::Warning { code, message, hint } => {
                let warning = trouble(&code, &message, hint.as_deref());
                if self.warnings.len() < WARNINGS_MAX {
                    self.warnings.push(warning.clone());
                }
                return Heard::Warning(warning);
            }
            Event::Notice { code, message, hint } => {
                let notice = trouble(&code, &message, hint.as_deref());
                if self.notices.len() < NOTICES_MAX {
                    self.notices.push(notice.clone());
                }
                return Heard::Notice(notice);
            }
            Event::Failed { code, message, hint, retry } => {
                let told = trouble(&code, &message, hint.as_deref());
                let note = Heard::Log(format!("failed: {}", told.message));
                self.failed.get_or_insert((told, retry));
                return note;
            }
        }
        Heard::Nothing
    }

    fn keep<T>(&mut self, what: &'static str, max: usize, item: T, list: impl Fn(&mut Self) -> &mut Vec<T>) -> Heard {
        if list(self).len() >= max {
            self.overflow = Some(what);
            return Heard::EndIt;
        }
        list(self).push(item);
        Heard::Nothing
    }

    fn strange(&mut self, say: impl Fn() -> String) -> Heard {
        self.strange_lines += 1;
        if self.strange_lines <= STRANGE_LINES_MAX { Heard::Log(say()) } else { Heard::Nothing }
    }
}

fn trouble(code: &str, message: &str, hint: Option<&str>) -> Trouble {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let code =
        if !code.is_empty() && code.len() <= 64 && code.chars().all(fits) { code } else { codes::PLUGIN_FAILED.name() };
    let message = tidy(message, TEXT_CHARS_MAX);
    let message = if message.is_empty() { "the plugin gave no reason".to_owned() } else { message };
    let trouble = Trouble::told(code, message);
    match hint {
        Some(hint) if !hint.trim().is_empty() => trouble.with_hint(tidy(hint, TEXT_CHARS_MAX)),
        _ => trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_events_are_shown_a_few_times_then_counted() {
        let mut transcript = Transcript::default();
        let shown = (0..5_000).filter(|_| transcript.read("blah \u{1b}[31m") != Heard::Nothing).count();
        assert_eq!(shown as u64, STRANGE_LINES_MAX);
        assert_eq!(transcript.strange_lines, 5_000);
        assert_eq!(transcript.overflow, None);
    }

    #[test]
    fn a_flood_of_artifacts_is_ended() {
        let mut transcript = Transcript::default();
        let line = r#"{"event":"artifact","path":"a"}"#;
        let ended = (0..=ARTIFACTS_MAX).find(|_| transcript.read(line) == Heard::EndIt);
        assert_eq!(ended, Some(ARTIFACTS_MAX));
        assert_eq!(transcript.overflow, Some("artifacts"));
    }

    #[test]
    fn the_first_failure_counts_and_its_code_is_checked() {
        let mut transcript = Transcript::default();
        transcript
            .read(r#"{"event":"failed","code":"No Such Thing!","message":"it\u001b[2J broke\nbadly","retry":true}"#);
        transcript.read(r#"{"event":"failed","code":"later","message":"x"}"#);
        let (told, retry) = transcript.failed.unwrap();
        assert_eq!((told.code.as_str(), told.message.as_str(), retry), ("plugin_failed", "it [2J broke badly", true));
    }

    #[test]
    fn warnings_and_notices_stay_within_what_a_record_keeps() {
        let mut transcript = Transcript::default();
        for n in 0..100 {
            transcript.read(&format!(r#"{{"event":"warning","code":"w","message":"{n}"}}"#));
            transcript.read(&format!(r#"{{"event":"notice","code":"n","message":"{n}"}}"#));
        }
        assert_eq!((transcript.warnings.len(), transcript.notices.len()), (WARNINGS_MAX, NOTICES_MAX));
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,80}|\\{\"event\":\"(artifact|source|figure|failed)\",.{0,60}\\}") {
            Transcript::default().read(&line);
        }
    }
}
