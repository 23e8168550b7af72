//! What the pages, `status.json`, the metrics and RPC show: one pure view of what was recorded.
//!
//! `read` fetches the values, `View::build` decides what they mean, `pages` writes them. The view has no ages that
//! tick by themselves, only instants: two views of an unchanged state are equal but for `generated`.

pub mod build;

mod causes;
pub mod copy;

pub mod discovery;

pub mod holdings;

pub mod job;

pub mod pages;

pub mod read;

pub mod render;

pub mod repository;

pub mod statistics;

pub mod upkeep;

pub mod verdict;

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::hold::HoldKind;
use crate::status::statistics::{StatisticsView, TargetStatisticsView};
use crate::types::{Name, Outcome, Revision, RunId};

/// The version of the view's shape; a field is only ever added within one.
pub const VIEW_VERSION: u32 = 1;
/// How old a page may be before it says so in the browser.
pub const STALE_AFTER: Duration = Duration::from_mins(15);
/// How many runs of a job its strip shows.
pub const STRIP_RUNS_MAX: usize = 30;

/// Everything that is shown, at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct View {
    pub version: u32,
    pub larder: String,
    pub generated: Timestamp,
    /// A page older than this is out of date: the daemon renews it long before.
    pub stale_after_seconds: u64,
    pub site: SiteView,
    pub verdict: SiteVerdict,
    pub counts: Counts,
    /// What needs a person, worst first.
    pub attention: Vec<Attention>,
    pub config: ConfigView,
    pub running: Vec<RunningView>,
    pub targets: Vec<TargetView>,
    pub destinations: Vec<DestinationView>,
    pub mail: MailView,
    /// What is wrong with the daemon's own state directory; none: nothing.
    #[serde(default)]
    pub state: Option<Problem>,
    /// What the container engine has that no target covers; none: the site does not look.
    #[serde(default)]
    pub discovery: Option<DiscoveryView>,
    /// The newest success of any job.
    pub last_success: Option<Timestamp>,
    /// The next run of any job.
    pub next_run: Option<Timestamp>,
}

/// The site, in few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteView {
    pub name: Name,
    pub timezone: String,
    pub url: Option<String>,
}

/// How sure we are: the third and fourth are never green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not watched on purpose: suspended, orphaned, switched off.
    Inactive,
    Proven,
    /// Could not be verified, or nothing happened yet.
    Unknown,
    Warning,
    Failed,
}

impl Health {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Proven => "proven",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// What is known of a job, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Ok,
    Warning,
    Failed,
    /// No success for longer than allowed, or a due run that did not happen.
    Overdue,
    /// In progress, and nothing was wrong before.
    Running,
    NeverRun,
    Suspended,
    /// No longer in the config; its backups stay and can be restored.
    Orphaned,
}

/// The sentence on top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteVerdict {
    pub health: Health,
    pub sentence: String,
    pub detail: String,
}

/// How many jobs there are in each state; a running one counts for what it was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub targets: u64,
    /// Jobs of the config in force, suspended ones too.
    pub jobs: u64,
    pub proven: u64,
    pub warning: u64,
    pub failed: u64,
    pub overdue: u64,
    pub never_run: u64,
    pub suspended: u64,
    pub orphaned: u64,
    pub running: u64,
    /// Targets with `enabled: false`, of which nothing is backed up.
    #[serde(default)]
    pub switched_off: u64,
    /// Destinations of the config in force that jobs use and that hold no backup yet.
    #[serde(default)]
    pub unused_destinations: u64,
}

/// What is wrong, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Stable, for machines: the trouble's code, or `overdue`, `missed`, `rejected`, …
    pub code: String,
    pub what: String,
    pub why: Option<String>,
    pub hint: Option<String>,
    /// What to type, line by line.
    pub commands: Vec<String>,
}

/// A problem and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attention {
    pub health: Health,
    /// `state`, `config`, `job`, `destination`, `mail` or `discovery`.
    pub kind: String,
    pub subject: String,
    /// The target whose page says more.
    pub target: Option<Name>,
    pub problem: Problem,
}

/// Which config is in force, and what became of a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// `applied`, `rejected`, `held` or `none`, of the newest revision; `unreadable` while nobody can tell what that is.
    pub state: String,
    pub revision: Option<Revision>,
    pub applied_at: Option<Timestamp>,
    pub took_us: Option<u64>,
    pub rejected: Option<RejectedView>,
    pub held: Option<HeldView>,
    pub rejected_total: u64,
    /// Why the watched repository cannot be read; none: it can.
    #[serde(default)]
    pub unreadable: Option<UnreadableView>,
}

/// The watched repository cannot be read: what is in force stays, and nobody knows what is desired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadableView {
    pub since: Timestamp,
    /// The trouble's code.
    pub code: String,
    pub reason: String,
    pub hint: Option<String>,
}

/// A revision that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedView {
    pub revision: Revision,
    pub at: Timestamp,
    pub errors: Vec<String>,
}

/// A revision that waits for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldView {
    pub revision: Revision,
    pub at: Timestamp,
    pub reason: String,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunningView {
    pub run: RunId,
    pub target: Name,
    pub policy: Name,
    /// `queued`, `capturing`, `validating`, `publishing`, `shipping` or `retaining`.
    pub state: String,
    pub detail: Option<String>,
    pub bytes_done: u64,
    /// Zero when unknown.
    pub bytes_total: u64,
}

/// One target with its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetView {
    pub name: Name,
    /// None once the target left the config.
    pub plugin: Option<Name>,
    /// False: switched off in the config, so nothing of it is backed up.
    pub enabled: bool,
    /// The worst of its jobs.
    pub health: Health,
    pub jobs: Vec<JobView>,
    /// Its figures in each destination where it has snapshots.
    #[serde(default)]
    pub statistics: Vec<TargetStatisticsView>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    pub target: Name,
    pub policy: Name,
    pub state: JobState,
    pub health: Health,
    /// `daily at 02:00 (0 2 * * *, Asia/Singapore)`; none while orphaned.
    pub schedule: Option<String>,
    pub last_run: Option<RunBrief>,
    pub last_success: Option<RunBrief>,
    pub next_run: Option<Timestamp>,
    pub max_age_seconds: Option<u64>,
    /// The newest success plus `max_age`: after it the job is overdue.
    pub fresh_until: Option<Timestamp>,
    pub suspended: Option<SuspensionView>,
    pub orphaned_since: Option<Timestamp>,
    pub success_total: u64,
    pub failure_total: u64,
    /// Failures in a row.
    pub failing: u32,
    pub running: Option<RunningView>,
    pub problem: Option<Problem>,
    /// The last runs, oldest first, at most [`STRIP_RUNS_MAX`].
    pub strip: Vec<RunCell>,
    pub destinations: Vec<ShippedView>,
    /// The newest run that produced an artifact.
    pub artifact: Option<ArtifactView>,
    /// Remarks of the newest run.
    pub warnings: Vec<Problem>,
    /// What the backups leave out by design, by themselves or accepted.
    #[serde(default)]
    pub notices: Vec<Problem>,
    /// Why the old backups stay for now.
    #[serde(default)]
    pub holds: Vec<HoldView>,
}

/// Something that keeps a job's old backups until it is well again or accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldView {
    pub kind: HoldKind,
    /// What of the job: a mount point, a destination, a validation; empty: the job as a whole.
    pub subject: String,
    pub since: Timestamp,
    pub reason: String,
    pub hint: Option<String>,
    /// What `larder accept` takes; none: it can only be mended.
    pub value: Option<String>,
    /// What to type to accept it.
    pub command: Option<String>,
}

/// A suspension that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuspensionView {
    pub since: Timestamp,
    pub until: Timestamp,
    pub reason: String,
}

/// A run in few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunBrief {
    pub id: RunId,
    pub outcome: Outcome,
    pub finished: Timestamp,
    pub duration_ms: u64,
    pub bytes: u64,
}

/// One cell of the strip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCell {
    pub id: RunId,
    pub outcome: Outcome,
    pub at: Timestamp,
    pub duration_ms: u64,
    pub bytes: u64,
    /// What went wrong, cut short.
    pub trouble: Option<String>,
}

/// How a job stands in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShippedView {
    pub destination: Name,
    /// The newest shipment's outcome; none before the first.
    pub outcome: Option<Outcome>,
    pub at: Option<Timestamp>,
    pub snapshot: Option<String>,
    pub bytes_added: u64,
    /// When the newest good one was made, within the last [`STRIP_RUNS_MAX`] runs.
    pub last_success: Option<Timestamp>,
    pub problem: Option<Problem>,
}

/// Local files of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactView {
    pub run: RunId,
    pub path: String,
    pub files: u64,
    pub bytes: u64,
    pub present: bool,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationView {
    pub name: Name,
    pub location: String,
    pub health: Health,
    /// False once it left the config.
    pub desired: bool,
    pub repository_id: Option<String>,
    pub last_used: Option<Timestamp>,
    /// When it was last tested; the first time when a revision names it.
    #[serde(default)]
    pub tested: Option<Timestamp>,
    pub jobs: u64,
    pub prune: Option<UpkeepView>,
    pub check: Option<UpkeepView>,
    /// What the runs gave up is forgotten behind them, once for many.
    #[serde(default)]
    pub forget: Option<UpkeepView>,
    /// Looking at the locks of its objects, and extending them.
    #[serde(default)]
    pub locks: Option<UpkeepView>,
    /// Until when what it holds cannot be removed.
    #[serde(default)]
    pub immutable: Option<ImmutableView>,
    /// How it stands against the destination that it is a copy of.
    #[serde(default)]
    pub copy: Option<CopyView>,
    pub problem: Option<Problem>,
    /// Snapshots that vanished from it without us, one problem a job.
    #[serde(default)]
    pub missing: Vec<Problem>,
    /// How many they are.
    #[serde(default)]
    pub missing_snapshots: u64,
    /// Who else is there, and what is dated in the future.
    #[serde(default)]
    pub notices: Vec<Problem>,
    /// The oldest lock in it that is somebody else's, as last seen.
    #[serde(default)]
    pub lock: Option<LockView>,
    /// Whether anybody looked for one since the daemon's start.
    #[serde(default)]
    pub locks_known: bool,
    /// How much lies there, how it grows and what it costs; none: nobody tried to gather that yet.
    #[serde(default)]
    pub statistics: Option<StatisticsView>,
}

/// A lock of somebody else in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockView {
    pub id: String,
    /// User, machine and process.
    pub holder: String,
    pub exclusive: bool,
    /// When it was made or refreshed.
    pub since: Timestamp,
    /// Nobody refreshes it any more.
    pub stale: bool,
    /// What removes it, where its process is surely dead.
    pub command: String,
}

/// Until when nobody can remove what a destination held at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImmutableView {
    /// The earliest end of a lock over all that was there; none: something can be removed now.
    pub until: Option<Timestamp>,
    /// It speaks of what was there then, and of nothing that came later.
    pub at: Timestamp,
    /// How many snapshots were there.
    pub snapshots: u64,
}

/// How a copy stands against the destination that it is copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyView {
    pub from: Name,
    /// The `last_success` is when the source was looked at before the newest copy that was whole.
    pub upkeep: UpkeepView,
    /// Snapshots that it lacks, as far as the two were listed.
    pub missing: u64,
    /// When the oldest of them was made: so far it is behind. None: it lacks none.
    pub oldest_missing: Option<Timestamp>,
    /// The first time that came and has had no whole copy since.
    pub due_since: Option<Timestamp>,
}

/// A scheduled prune, check, or look at locks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpkeepView {
    pub health: Health,
    pub next: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub problem: Option<Problem>,
}

/// What no target covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscoveryView {
    pub socket: String,
    /// False while the engine does not answer, or before it was asked for the first time: then `uncovered` says nothing.
    pub known: bool,
    /// When it was looked at last.
    pub at: Option<Timestamp>,
    pub uncovered: Vec<UncoveredView>,
    /// Those beyond the bound.
    pub uncovered_omitted: u64,
    pub problem: Option<Problem>,
}

/// One thing that no target covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UncoveredView {
    /// `project`, `container` or `volume`.
    pub kind: String,
    pub name: String,
}

/// Mails that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailView {
    pub configured: bool,
    pub waiting: u64,
    pub last_error: Option<String>,
}
