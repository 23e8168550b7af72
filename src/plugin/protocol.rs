//! Plugin protocol 1: one JSON object in, JSON lines out.
//!
//! The request comes on standard input as one compact line; the action is also the only argument of an external plugin,
//! and its working directory is the staging directory, so a shell script of ten lines can be a plugin. Events go to
//! standard output, one JSON object a line; standard error goes to the run's log. An unknown event or field is noted
//! and passed over, so both sides can grow without a new number.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number in each request.
pub const PROTOCOL: u32 = 1;

/// Longest request that the built-in plugins read, in bytes; a capture of ten thousand files takes some 2 MiB.
pub const REQUEST_BYTES_MAX: u64 = 16 << 20;

/// Figure by which a plugin tells how many bytes its sources have (they are not copied, so the host can't measure them).
pub const SOURCE_BYTES: &str = "source_bytes";

/// Figure by which a plugin tells how many files its sources have.
pub const SOURCE_FILES: &str = "source_files";

/// A file that the plugin made in its staging directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactFile {
    /// Relative to the staging directory, without `..`; a regular file.
    pub path: PathBuf,
    /// What kind of file it is, such as `postgres-custom`, `sqlite`, `sql`, `zip`.
    #[serde(default)]
    pub format: String,
    /// SHA-256 in hex, as the plugin saw the file when it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A path that is shipped from where it lies, without a copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Absolute, without `..`.
    pub path: PathBuf,
    /// Patterns as restic's `--exclude` reads them.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// One thing that was checked about a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validation {
    /// What was checked, in a few words: `the dump reads to its end`.
    pub name: String,
    pub verdict: Verdict,
    /// What was seen.
    #[serde(default)]
    pub detail: String,
}

/// What a validation came to; what is not known is never green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Proven,
    Failed,
    CouldNotVerify,
}

/// One thing that a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub verb: Verb,
    pub thing: String,
    #[serde(default)]
    pub detail: String,
}

impl Step {
    pub(crate) fn new(verb: Verb, thing: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verb, thing: thing.into(), detail: detail.into() }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.thing)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Say what you are: one `description` event. No other field of the request has a meaning.
    Describe,
    /// Make the files in `staging`, or name paths to ship in place.
    Capture,
    /// Check what the capture made; at least one `validation` event.
    Validate,
    /// Put a backup back into the application that the settings name; `step` events say what is done.
    Restore,
    /// Undo what a capture or restore that was killed left on the application, by what it wrote into `journal`.
    Recover,
}

impl Action {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Capture => "capture",
            Self::Validate => "validate",
            Self::Restore => "restore",
            Self::Recover => "recover",
        }
    }
}

/// What a plugin can do beyond `capture` and `validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// It answers `restore`, with and without `dry_run`.
    Restore,
    /// It keeps a journal of what it changes on the application, and answers `recover`.
    Recover,
}

/// What a plugin reads on standard input. It holds secrets, so it has no `Debug`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub protocol: u32,
    pub action: Action,
    /// The target's name.
    #[serde(default)]
    pub target: String,
    /// The run's id.
    #[serde(default)]
    pub run: String,
    /// An absolute path to a directory that is there and is for this run alone.
    #[serde(default)]
    pub staging: PathBuf,
    /// The target's settings (`with:`); where the schema says `x-larder-secret`, a string with the secret itself.
    #[serde(default)]
    pub settings: Value,
    /// With `validate` and `restore`: what the capture told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureFacts>,
    /// With `capture` and `validate`: what the target's newest publication holds, to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<CaptureFacts>,
    /// With `capture`, `restore` and `recover`: a directory that outlives the run. What must be undone is written there, flushed to
    /// the disk, before it is done, and removed when it is undone; what is left after a kill is handed to `recover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,
    /// With `capture` and `validate`: directories of Larder itself, which the host leaves out of every source; they need
    /// not be counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<PathBuf>,
    /// With `restore`: what to do. `staging` holds the artifacts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOrder>,
}

impl Request {
    /// A request with nothing in it yet.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            protocol: PROTOCOL,
            action,
            target: String::new(),
            run: String::new(),
            staging: PathBuf::new(),
            settings: Value::Null,
            capture: None,
            previous: None,
            journal: None,
            own: Vec::new(),
            restore: None,
        }
    }
}

/// How a backup is to be put back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreOrder {
    /// Change nothing: only say, by `step` events, what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Below it lies each source at its absolute path: `<tree>/srv/photos` for `/srv/photos`.
    #[serde(default)]
    pub tree: PathBuf,
    /// What the operator chose; fits the description's `restore_options`.
    #[serde(default)]
    pub options: Value,
}

/// What is done to a thing in a restore, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Create,
    Replace,
    Delete,
    /// It is there as it should be.
    Keep,
    /// A program or call that is no object: a restart, a check.
    Run,
    /// Left to a person: the detail says what to do.
    Manual,
}

impl Verb {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Keep => "keep",
            Self::Run => "run",
            Self::Manual => "by hand",
        }
    }
}

/// What a capture told, handed back for its validation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureFacts {
    #[serde(default)]
    pub artifacts: Vec<ArtifactFile>,
    #[serde(default)]
    pub sources: Vec<Source>,
    #[serde(default)]
    pub app_version: Option<String>,
    #[serde(default)]
    pub figures: std::collections::BTreeMap<String, u64>,
}

/// One line of a plugin's standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The answer to `describe`.
    Description(Description),
    /// How far it is, in bytes; a total of 0 is an unknown one.
    Progress {
        done: u64,
        #[serde(default)]
        total: u64,
    },
    /// A line for the run's log.
    Log { message: String },
    /// A file in the staging directory that is complete and to be kept.
    Artifact(ArtifactFile),
    /// A path to ship in place.
    Source(Source),
    /// The application's version.
    Version { app: String },
    /// A number about what was captured.
    Figure { name: String, value: u64 },
    /// One thing that was checked.
    Validation(Validation),
    /// With `restore`: something was done, or would be.
    Step {
        verb: Verb,
        /// What: `dashboard Home (abc)`.
        thing: String,
        #[serde(default)]
        detail: String,
    },
    /// Something is missing or could not be done, and nobody accepted that: the work goes on, the run is partial.
    Warning {
        code: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// What is left out by design, by itself or because the config accepts it: people should see it, and the run stays a
    /// success. With `restore`: what a restore cannot put back as it was.
    Notice {
        code: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The work failed. The process ends with a code other than 0.
    Failed {
        code: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// True when a precondition is missing for now (disk full, database starting up): tried again later.
        #[serde(default)]
        retry: bool,
    },
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The protocol it speaks; 1 when it isn't given.
    #[serde(default = "protocol_1")]
    pub protocol: u32,
    /// What it backs up, in one line.
    #[serde(default)]
    pub summary: String,
    /// JSON Schema (draft 2020-12) of its settings, an object. A property with `"x-larder-secret": true` is written
    /// as a reference (`{env: NAME}`, `{file: PATH}`, …) in the config and reaches the plugin as a string.
    pub settings: Value,
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// JSON Schema of what an operator may choose in a restore, an object; none: there is nothing to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_options: Option<Value>,
}

fn protocol_1() -> u32 {
    PROTOCOL
}

/// Either side's messages: what the committed `schema/plugin.schema.json` describes.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(title = "Larder plugin protocol 1")]
#[expect(dead_code, reason = "only its schema is used")]
enum Message {
    /// Standard input: one object.
    Request(Box<Request>),
    /// Standard output: one object a line.
    Event(Event),
}

/// The protocol as a JSON Schema.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Message).to_value()
}

/// What a line of standard output is.
#[derive(Debug, PartialEq)]
pub enum Line {
    Event(Event),
    /// JSON with an `event` that this version doesn't know.
    Unknown(String),
    /// An event that this version knows, with fields that are wrong; why.
    Malformed(String),
    NotJson,
}

const EVENTS: &[&str] = &[
    "description",
    "progress",
    "log",
    "artifact",
    "source",
    "version",
    "figure",
    "validation",
    "step",
    "warning",
    "notice",
    "failed",
];

/// Reads one line of a plugin's standard output.
#[must_use]
pub fn parse_line(line: &str) -> Line {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else { return Line::NotJson };
    let Some(Value::String(event)) = object.get("event") else {
        return Line::Malformed("it has no \"event\"".to_owned());
    };
    if !EVENTS.contains(&event.as_str()) {
        return Line::Unknown(event.chars().take(40).collect());
    }
    let event = event.clone();
    match serde_json::from_value(Value::Object(object)) {
        Ok(event) => Line::Event(event),
        Err(error) => Line::Malformed(format!("event {event:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_events_and_fields_are_tolerated() {
        assert_eq!(parse_line(r#"{"event":"sparkle","x":1}"#), Line::Unknown("sparkle".to_owned()));
        assert_eq!(
            parse_line(r#"{"event":"progress","done":3,"colour":"blue"}"#),
            Line::Event(Event::Progress { done: 3, total: 0 })
        );
    }

    #[test]
    fn what_is_no_event_is_told_apart() {
        assert_eq!(parse_line("dumping table users"), Line::NotJson);
        assert_eq!(parse_line("[1,2]"), Line::NotJson);
        assert!(matches!(parse_line(r#"{"evnt":"log"}"#), Line::Malformed(_)));
        assert!(matches!(parse_line(r#"{"event":"figure","name":"rows","value":-1}"#), Line::Malformed(_)));
    }

    #[test]
    fn every_event_is_in_the_list_of_known_ones() {
        let events = serde_json::to_value(schemars::schema_for!(Event)).unwrap();
        let variants = events["oneOf"].as_array().unwrap().iter();
        let made: Vec<&str> = variants.map(|each| each["properties"]["event"]["const"].as_str().unwrap()).collect();
        assert_eq!(made, EVENTS, "a new event is read only when it is in the list");
        let schema = schema().to_string();
        for name in ["describe", "capture", "validate", "restore", "recover"] {
            assert!(schema.contains(&format!("\"{name}\"")), "{name} is not in the schema");
        }
    }

    #[test]
    fn the_committed_schema_is_the_one_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/plugin.schema.json");
        let wanted = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("LARDER_BLESS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(committed, wanted, "run `LARDER_BLESS=1 cargo test --lib plugin::protocol` and commit the result");
    }
}
