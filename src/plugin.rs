//! Plugins: what knows how an application is backed up, behind one protocol of JSON lines.
//!
//! A plugin is a child process. The built-in ones are `larder plugin NAME`; others are executables in a directory that
//! the operator names, never in Git. [`Catalogue`] is the host's side: it knows the settings schema of each, runs
//! them with a deadline, and believes nothing they say about files without looking. The child's side of the built-in
//! ones is [`builtin_main`].
//!
//! Shipping is deliberately absent: a plugin says what there is to keep, the engine keeps it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::types::Outcome;

pub use builtin::{builtin_main, describe_text};
pub use catalogue::Catalogue;
pub(crate) use files::{count, is_excluded};
pub use host::{Beside, News};
pub use protocol::{CaptureFacts, RestoreOrder, Verb};

pub mod apart;
mod archive;
mod arr;
pub mod builtin;
pub mod catalogue;
mod command;
mod databases;
mod digest;
pub(crate) mod docker;
pub(crate) mod dotenv;
mod download;
mod endpoint;
mod exact;
pub(crate) mod files;
mod firewall;
mod grafana;
mod homeassistant;
pub mod host;
mod http;
mod inside;
mod invoiceninja;
mod journal;
mod json;
mod live;
mod mariadb;
mod memory_file;
mod opnsense;
mod patience;
mod pfsense;
mod pihole;
mod place;
mod plain;
pub(crate) mod postgres;
mod prometheus;
pub mod protocol;
mod redis;
mod rsync;
pub mod settings;
mod sound;
mod sqlite;
mod tool;
mod transcript;
mod xml;

/// What a capture left: files in the staging directory, paths to ship in place, and what is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Never empty together with `sources`.
    pub artifacts: Vec<ArtifactFile>,
    pub sources: Vec<Source>,
    #[serde(default)]
    pub app_version: Option<String>,
    /// Numbers for people and for comparing runs: `tables`, `rows`, `source_files`.
    #[serde(default)]
    pub figures: BTreeMap<String, u64>,
    /// What is missing and was not accepted: the run is partial. At most twenty.
    #[serde(default)]
    pub warnings: Vec<Trouble>,
    /// What is left out by design, by itself or accepted. At most twenty.
    #[serde(default)]
    pub notices: Vec<Trouble>,
    /// Artifacts as measured, plus sources as the plugin counted them.
    #[serde(default)]
    pub bytes: u64,
}

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

/// What a restore into an application did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub steps: Vec<Step>,
    /// Steps beyond the bound.
    pub steps_untold: u64,
    /// What was checked on the application afterwards.
    pub validations: Vec<Validation>,
    pub warnings: Vec<Trouble>,
    /// What cannot be put back as it was.
    pub notices: Vec<Trouble>,
    /// Of the application that was restored into.
    pub app_version: Option<String>,
}

/// One thing that a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub verb: Verb,
    pub thing: String,
    #[serde(default)]
    pub detail: String,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.thing)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// A plugin that did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFailure {
    /// `Failed`, `Deferred` (a precondition is missing for now) or `Cancelled`.
    pub outcome: Outcome,
    pub trouble: Trouble,
}

impl PluginFailure {
    pub(crate) fn failed(trouble: Trouble) -> Self {
        Self { outcome: Outcome::Failed, trouble }
    }
}

impl std::fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.outcome, self.trouble)
    }
}

impl std::error::Error for PluginFailure {}
