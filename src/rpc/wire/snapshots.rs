//! Snapshots over the wire: which are asked for, and what is told of each.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{Name, RunId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotListParams {
    #[serde(default)]
    pub target: Option<Name>,
    /// Every destination when not given.
    #[serde(default)]
    pub destination: Option<Name>,
    /// Those of other sites, too.
    #[serde(default)]
    pub all: bool,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A snapshot in a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    pub destination: Name,
    pub id: String,
    pub at: Timestamp,
    /// None for one that Larder did not make.
    pub target: Option<Name>,
    pub policy: Option<Name>,
    pub run: Option<RunId>,
    pub paths: Vec<String>,
    pub bytes: Option<u64>,
    pub files: Option<u64>,
    /// The identity of the site that made it; none for one from before sites had an identity.
    #[serde(default)]
    pub site: Option<String>,
    /// This site made it.
    #[serde(default)]
    pub ours: bool,
    /// It is dated in the future: the clock was ahead when it was made.
    #[serde(default)]
    pub future: bool,
}
