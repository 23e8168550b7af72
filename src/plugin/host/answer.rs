//! What a plugin's answer came to, when the host has looked at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::plugin::protocol::{ArtifactFile, Source, Step, Validation};
use crate::types::Outcome;

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

/// What a restore into an application did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub steps: Vec<Step>,
    /// Steps beyond the bound.
    pub steps_omitted: u64,
    /// What was checked on the application afterwards.
    pub validations: Vec<Validation>,
    pub warnings: Vec<Trouble>,
    /// What cannot be put back as it was.
    pub notices: Vec<Trouble>,
    /// Of the application that was restored into.
    pub app_version: Option<String>,
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
