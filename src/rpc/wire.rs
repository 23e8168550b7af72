//! What goes over the wire: parameters and results, apart from the domain's own types where those may change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Config, Policy};
use crate::error::{Trouble, codes};
use crate::runner::control::{Acceptance, OperationId, RestoreRequest};
use crate::status::{Attention, ConfigView, Counts, MailView, SiteVerdict, SiteView};
use crate::types::{Name, Revision};

mod runs;
pub mod snapshots;
pub mod statistics;

pub use runs::{
    ArtifactInfo, LogPart, RunDetail, RunInfo, RunListParams, RunLogParams, RunParams, RunStartParams, RunStep,
    RunSubscribeParams, RunsStarted, ShipmentInfo,
};

/// Items of one page at most; also what is given when nothing is asked for.
pub const PAGE_ITEMS_MAX: usize = 500;
pub const PAGE_ITEMS: usize = 100;

/// A method without parameters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// The `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// 1 to 500; 100 when not given.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next part; none at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts the part that is asked for out of `all`; a cursor is a position.
    ///
    /// # Errors
    /// When the cursor or the limit is none.
    pub fn cut(all: Vec<T>, cursor: Option<&str>, limit: Option<usize>) -> Result<Self, Trouble> {
        let limit = page_limit(limit)?;
        let start: usize = match cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| invalid("cursor", text, "the `next` of the page before"))?,
        };
        let end = start.saturating_add(limit);
        let next = (end < all.len()).then(|| end.to_string());
        Ok(Self { items: all.into_iter().skip(start).take(limit).collect(), next })
    }
}

/// Checks a page's limit.
///
/// # Errors
/// When it is zero or too large.
pub fn page_limit(limit: Option<usize>) -> Result<usize, Trouble> {
    match limit {
        None => Ok(PAGE_ITEMS),
        Some(limit) if (1..=PAGE_ITEMS_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(invalid("limit", limit, &format!("1 to {PAGE_ITEMS_MAX}"))),
    }
}

/// A parameter that has the right shape and a wrong value.
pub fn invalid(name: &str, value: impl std::fmt::Display, expected: &str) -> Trouble {
    Trouble::new(codes::INVALID_PARAMS, format!("the parameter {name} is {value}"))
        .with_hint(format!("expected: {expected}"))
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetParams {
    pub target: Name,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptParams {
    pub target: Name,
    /// As the hold shows it.
    pub value: String,
}

/// The holds that ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HoldsAccepted {
    pub accepted: Vec<Acceptance>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendParams {
    pub target: Name,
    /// At most thirty days ahead.
    pub until: Timestamp,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotFilesParams {
    pub destination: Name,
    pub snapshot: String,
    /// Only what is below it.
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A file in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileInfo {
    pub path: String,
    /// `file`, `dir`, `symlink`, …
    pub kind: String,
    pub size: u64,
    pub modified: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindParams {
    /// A name or a restic pattern: `*.sqlite`.
    pub pattern: String,
    #[serde(default)]
    pub target: Option<Name>,
    #[serde(default)]
    pub destination: Option<Name>,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A file and the snapshot that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundFile {
    pub destination: Name,
    pub snapshot: String,
    pub at: Timestamp,
    pub target: Option<Name>,
    pub file: FileInfo,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreParams {
    pub target: Name,
    /// The newest of the target when not given.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Where the newest run is when not given.
    #[serde(default)]
    pub destination: Option<Name>,
    /// A directory on the daemon's host: absolute; made when missing; must be empty. Either it or `into` is given.
    #[serde(default)]
    pub to: Option<PathBuf>,
    /// restic patterns for a directory; empty: everything.
    #[serde(default)]
    pub include: Vec<String>,
    /// The target whose application is restored into; it is in the config, with the same plugin.
    #[serde(default)]
    pub into: Option<Name>,
    /// With `into`: only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// With `into`: what the plugin lets choose (`larder plugin describe`).
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
}

impl From<RestoreParams> for RestoreRequest {
    fn from(params: RestoreParams) -> Self {
        let RestoreParams { target, snapshot, destination, to, include, into, dry_run, options } = params;
        let options = if options.is_empty() { serde_json::Value::Null } else { options.into_iter().collect() };
        Self { target, snapshot, destination, to, include, into, dry_run, options }
    }
}

/// Work that goes on; ask `operation.get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationStarted {
    pub operation: OperationId,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationParams {
    pub operation: OperationId,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationParams {
    pub destination: Name,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlockParams {
    pub destination: Name,
    /// The lock that is said to be dead, by 8 or more digits of its id; none: those of ended processes of ours.
    #[serde(default)]
    pub lock: Option<String>,
}

/// What brings a destination back to a time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewindParams {
    pub destination: Name,
    /// What was deleted or overwritten since then comes back.
    pub to: Timestamp,
    /// Only say what would come back.
    #[serde(default = "by_default")]
    pub dry_run: bool,
}

fn by_default() -> bool {
    true
}

/// A policy of the config in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyInfo {
    pub name: Name,
    pub default: bool,
    pub schedule: String,
    pub timezone: String,
    /// In words where they are shorter.
    pub described: String,
    pub jitter_seconds: u64,
    pub retention: RetentionInfo,
    pub destinations: Vec<Name>,
    pub max_age_seconds: Option<u64>,
    pub timeout_seconds: u64,
    /// Targets that use it and are switched on.
    pub targets: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionInfo {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
}

impl PolicyInfo {
    /// Describes `policy` as `config` uses it.
    #[must_use]
    pub fn of(policy: &Policy, config: &Config) -> Self {
        let spec = &policy.schedule;
        let described = crate::schedule::Schedule::parse(&spec.expression, &spec.timezone)
            .map_or_else(|_| spec.expression.clone(), |schedule| schedule.describe());
        let keep = &policy.retention;
        Self {
            name: policy.name.clone(),
            default: policy.default,
            schedule: spec.expression.clone(),
            timezone: spec.timezone.clone(),
            described,
            jitter_seconds: policy.jitter.as_secs(),
            retention: RetentionInfo {
                last: keep.last,
                hourly: keep.hourly,
                daily: keep.daily,
                weekly: keep.weekly,
                monthly: keep.monthly,
                yearly: keep.yearly,
            },
            destinations: policy.destinations.clone(),
            max_age_seconds: policy.max_age.map(|age| age.as_secs()),
            timeout_seconds: policy.timeout.as_secs(),
            targets: config.jobs().filter(|(job, ..)| job.policy == policy.name).map(|(job, ..)| job.target).collect(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleNextParams {
    #[serde(default)]
    pub target: Option<Name>,
    #[serde(default)]
    pub policy: Option<Name>,
    /// Times of each job, 1 to 10; 1 when not given.
    #[serde(default)]
    pub times: Option<usize>,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// When a job runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upcoming {
    pub target: Name,
    pub policy: Name,
    pub at: Timestamp,
    /// The policy's zone, for showing `at`.
    pub timezone: String,
    pub suspended: bool,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanParams {
    /// The branch's head when not given.
    #[serde(default)]
    pub revision: Option<Revision>,
    /// A checked config instead of a revision, as `larder check --output json` gives it.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub config: Option<Box<Config>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileParams {
    #[serde(default)]
    pub revision: Option<Revision>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmParams {
    /// The held one.
    pub revision: Revision,
}

/// What the mail server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailTested {
    pub answer: String,
}

/// Done, and nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    pub done: bool,
}

/// One thing that the daemon needs on its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkup {
    pub what: String,
    /// What was found.
    pub seen: String,
    /// None: all is well.
    pub trouble: Option<Trouble>,
}

/// The daemon at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemStatus {
    pub version: String,
    pub started: Timestamp,
    pub now: Timestamp,
    pub process: u32,
    pub ready: bool,
    /// What keeps it from being ready.
    pub missing: Vec<String>,
    pub site: SiteView,
    pub verdict: SiteVerdict,
    pub counts: Counts,
    pub config: ConfigView,
    pub mail: MailView,
    /// What needs a person, worst first.
    #[serde(default)]
    pub attention: Vec<Attention>,
}
