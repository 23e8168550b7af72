//! Runs as they go over the wire: what starts, lists and reads them, and what is said of one.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::runner::live::RunUpdate;
use crate::store::record::{RunEvent, RunRecord, Shipment, Trigger};
use crate::types::{Name, Outcome, Revision, RunId};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunStartParams {
    pub target: Name,
    /// Every policy of the target when not given.
    #[serde(default)]
    pub policy: Option<Name>,
}

/// The runs that were queued, or were already in progress.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunsStarted {
    pub runs: Vec<RunId>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunParams {
    pub run: RunId,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunListParams {
    #[serde(default)]
    pub target: Option<Name>,
    #[serde(default)]
    pub policy: Option<Name>,
    /// The `next` of the page before: a run's id.
    #[serde(default)]
    pub cursor: Option<RunId>,
    /// 1 to 500; 100 when not given.
    #[serde(default)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunLogParams {
    pub run: RunId,
    /// In bytes, the `next` of the part before; the end of the log when not given.
    #[serde(default)]
    pub offset: Option<u64>,
    /// In bytes, at most 262,144; 65,536 when not given.
    #[serde(default)]
    pub limit: Option<u64>,
}

/// A part of a run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPart {
    pub text: String,
    /// Where `text` starts, in bytes.
    pub offset: u64,
    /// The `offset` of the next part.
    pub next: u64,
    /// How long the log is at this moment.
    pub size: u64,
    /// Whether the run is finished and `next` is the end.
    pub complete: bool,
}

/// Which runs to follow.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSubscribeParams {
    /// Only this one; the subscription ends with it. Every run when not given.
    #[serde(default)]
    pub run: Option<RunId>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    pub id: RunId,
    pub target: Name,
    pub policy: Name,
    pub plugin: Name,
    /// `queued`, `capturing`, … or `finished`.
    pub state: String,
    pub outcome: Option<Outcome>,
    /// `scheduled`, `missed`, `manual` or `retry`; `found-again` of a run that the state lost and its manifest tells of.
    pub trigger: String,
    pub slot: Option<Timestamp>,
    pub revision: Option<Revision>,
    pub queued: Timestamp,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub bytes: u64,
    pub trouble: Option<Trouble>,
    pub warnings: Vec<Trouble>,
    /// What was left out by design, by itself or accepted.
    #[serde(default)]
    pub notices: Vec<Trouble>,
    pub artifact: Option<ArtifactInfo>,
    pub shipments: Vec<ShipmentInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactInfo {
    pub path: String,
    pub files: u64,
    pub bytes: u64,
    pub present: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShipmentInfo {
    pub destination: Name,
    pub outcome: Outcome,
    pub snapshot: Option<String>,
    pub bytes_added: u64,
    pub files: u64,
    pub duration_ms: u64,
    pub forgotten: Option<u64>,
    pub trouble: Option<Trouble>,
}

/// A run with its steps and, while it goes on, how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    pub run: RunInfo,
    pub events: Vec<RunStep>,
    pub progress: Option<RunUpdate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunStep {
    pub at: Timestamp,
    pub state: String,
    pub note: Option<String>,
}

impl From<RunEvent> for RunStep {
    fn from(event: RunEvent) -> Self {
        Self { at: event.at, state: event.state.as_str().to_owned(), note: event.note }
    }
}

impl From<RunRecord> for RunInfo {
    fn from(run: RunRecord) -> Self {
        let outcome = match run.state {
            crate::run::RunState::Finished(outcome) => Some(outcome),
            _ => None,
        };
        let (trigger, slot) = match run.trigger {
            Trigger::Scheduled { slot } => ("scheduled", Some(slot)),
            Trigger::Missed { slot } => ("missed", Some(slot)),
            Trigger::Manual => ("manual", None),
            Trigger::Retry { .. } => ("retry", None),
            Trigger::Returned { .. } => ("returned", None),
            Trigger::FoundAgain => ("found-again", None),
        };
        Self {
            id: run.id,
            target: run.job.target,
            policy: run.job.policy,
            plugin: run.plugin,
            state: if outcome.is_some() { "finished".to_owned() } else { run.state.as_str().to_owned() },
            outcome,
            trigger: trigger.to_owned(),
            slot,
            revision: run.revision,
            queued: run.queued,
            started: run.started,
            finished: run.finished,
            bytes: run.bytes,
            trouble: run.trouble,
            warnings: run.warnings,
            notices: run.notices,
            artifact: run.artifact.map(|artifact| ArtifactInfo {
                path: artifact.path,
                files: artifact.files,
                bytes: artifact.bytes,
                present: artifact.present,
            }),
            shipments: run.shipments.into_iter().map(ShipmentInfo::from).collect(),
        }
    }
}

impl From<Shipment> for ShipmentInfo {
    fn from(shipment: Shipment) -> Self {
        Self {
            destination: shipment.destination,
            outcome: shipment.outcome,
            snapshot: shipment.snapshot,
            bytes_added: shipment.bytes_added,
            files: shipment.files,
            duration_ms: shipment.duration_ms,
            forgotten: shipment.forgotten,
            trouble: shipment.trouble,
        }
    }
}
