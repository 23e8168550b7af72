//! What the store holds, as serde types: every record is JSON below 32 KiB.
//!
//! A field is only ever added, with a serde default; `Meta::format` says which shape a store has.

mod copy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::model::Destination;
use crate::error::{Kind, Trouble};
use crate::run::RunState;
use crate::run::hold::{Accepted, Hold, HoldKind};
use crate::run::usual::{Usual, mounts};
use crate::types::{JobId, Name, Outcome, Revision, RunId};

pub use copy::{CopyRecord, WholeCopy};

/// A job as the store knows it; key `target/policy` in the tree `jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: JobId,
    /// When the job left the config; none while it is desired.
    pub orphaned_since: Option<Timestamp>,
    /// `expression|zone|jitter`: the next run moves only when this changes.
    pub schedule_key: String,
    /// The next time of the schedule, without jitter; none while orphaned.
    pub next_slot: Option<Timestamp>,
    /// When the next run is due: `next_slot` plus the job's jitter, or earlier retry after a deferred run.
    pub next_run: Option<Timestamp>,
    /// The newest slot that a run was made for.
    pub last_slot: Option<Timestamp>,
    pub suspended: Option<Suspension>,
    /// Again soon, after a run that was deferred or interrupted; none once it ran or the next slot came.
    #[serde(default)]
    pub retry: Option<Retry>,
    #[serde(default)]
    pub success_total: u64,
    #[serde(default)]
    pub failure_total: u64,
    pub last_run: Option<RunSummary>,
    pub last_success: Option<RunSummary>,
    /// Bytes of the last successes, newest last, at most five: what the shrink guard compares with.
    #[serde(default)]
    pub sizes: Vec<u64>,
    /// Failures in a row since the last success; drives the alert's edge.
    #[serde(default)]
    pub failing: u32,
    /// Partial runs in a row since the last success.
    #[serde(default)]
    pub incomplete: u32,
    /// When the first run since the last success ended as anything less (failed, partial, deferred, interrupted).
    #[serde(default)]
    pub troubled_since: Option<Timestamp>,
    /// When somebody was told that the newest success is older than the policy's `max_age`; none once there is a newer one.
    #[serde(default)]
    pub overdue_told: Option<Timestamp>,
    /// When the loss of all its snapshots was accepted; none again once a run made one.
    #[serde(default)]
    pub bare_since: Option<Timestamp>,
    /// Newest snapshot in each destination: the parent of the next.
    #[serde(default)]
    pub parents: BTreeMap<Name, String>,
    /// Why the old backups stay for now; with one, the job is not green.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// The newest holds that somebody accepted, oldest first.
    #[serde(default)]
    pub accepted: Vec<Accepted>,
    /// Values that ended a hold, of which Git may have some still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Accepted>,
    /// What later runs are compared with.
    #[serde(default)]
    pub usual: Usual,
}

impl JobRecord {
    /// What `hold` was about is how the job is from now on.
    pub fn take_as_usual(&mut self, hold: &Hold) {
        match hold.kind {
            HoldKind::Shrank => {
                self.sizes = hold.value.iter().filter_map(|bytes| bytes.parse().ok()).collect();
                self.usual.begin_anew();
            }
            HoldKind::LostMount => {
                let is_it = |point: &Path| mounts::name(point) == hold.subject || point == Path::new(&hold.subject);
                self.usual.mounts.retain(|point| !is_it(point));
            }
            HoldKind::Vanished | HoldKind::OlderState => {
                // Nothing is compared with it any more.
                self.parents.retain(|destination, _| destination.as_str() != hold.subject);
            }
            HoldKind::RetentionCut
            | HoldKind::MissingProof
            | HoldKind::JumpedClock
            | HoldKind::LostState
            | HoldKind::Altered
            | HoldKind::Incomplete => {}
        }
    }
}

/// Another try that is due before the next slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub at: Timestamp,
    pub of: RunId,
    /// Counts from 1.
    pub attempt: u32,
    /// The destination that was away and is back, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Name>,
}

impl Retry {
    /// Why the run that comes of it is made.
    #[must_use]
    pub fn trigger(self) -> Trigger {
        match self.returned {
            Some(destination) => Trigger::Returned { of: self.of, destination },
            None => Trigger::Retry { of: self.of, attempt: self.attempt },
        }
    }
}

/// A job that an operator stopped for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub since: Timestamp,
    pub until: Timestamp,
    pub reason: String,
}

/// A run in few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub id: RunId,
    pub outcome: Outcome,
    pub finished: Timestamp,
    pub duration_ms: u64,
    pub bytes: u64,
    pub trouble: Option<Trouble>,
}

/// Why a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Trigger {
    Scheduled {
        slot: Timestamp,
    },
    /// A slot that passed while nobody was there to run it.
    Missed {
        slot: Timestamp,
    },
    Manual,
    /// Again after a run that was deferred or interrupted, or failed for what passes by itself.
    Retry {
        of: RunId,
        attempt: u32,
    },
    /// Once for a destination that the job's newest run lacked, since it was away, and that is back.
    Returned {
        of: RunId,
        destination: Name,
    },
    /// Nobody knows any more: the state was lost, and the run was found again in its manifest. Its destinations are not
    /// known either.
    FoundAgain,
}

/// Warnings of a run that are kept, and as many notices.
pub const REMARKS_MAX: usize = 20;

/// A run; key: the id's sixteen bytes in the tree `runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub job: JobId,
    pub trigger: Trigger,
    pub revision: Option<Revision>,
    pub plugin: Name,
    pub state: RunState,
    pub queued: Timestamp,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    /// The first thing that went wrong.
    pub trouble: Option<Trouble>,
    /// Further remarks: the shrink guard, unreadable files, a failed `after` hook; at most [`REMARKS_MAX`].
    #[serde(default)]
    pub warnings: Vec<Trouble>,
    /// What was left out by design, by itself or accepted: said, but the run stays a success; at most [`REMARKS_MAX`].
    #[serde(default)]
    pub notices: Vec<Trouble>,
    pub artifact: Option<ArtifactSummary>,
    #[serde(default)]
    pub shipments: Vec<Shipment>,
    /// Bytes that the run protects: artifacts plus sources.
    #[serde(default)]
    pub bytes: u64,
}

/// Where a run's artifacts are; the manifest there has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSummary {
    /// Below the artifact root: `<target>/<date>/<HHMMSS>-<run>`.
    pub path: String,
    pub files: u64,
    pub bytes: u64,
    /// False once `keep_runs` removed it.
    pub present: bool,
}

/// What came of one run in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    pub destination: Name,
    /// `Success`, `Partial` or `Failed`.
    pub outcome: Outcome,
    pub snapshot: Option<String>,
    pub bytes_added: u64,
    /// Files and bytes that the snapshot has, as the engine counted them.
    pub files: u64,
    #[serde(default)]
    pub bytes: u64,
    pub duration_ms: u64,
    pub trouble: Option<Trouble>,
    /// How many snapshots retention gave up for the next forget of the destination; none: it did not run.
    pub forgotten: Option<u64>,
}

/// Whether the trouble of a destination is that it does not answer, takes nothing for now, as a proxy says of a server
/// that is down behind it, or is not mounted; a run that took too long is none.
#[must_use]
pub fn is_of_who_is_away(trouble: &Trouble) -> bool {
    trouble.kind().is_some_and(Kind::is_away)
}

impl Shipment {
    /// Of a destination that nothing was tried to be shipped to.
    #[must_use]
    pub fn none(destination: Name, trouble: Trouble) -> Self {
        Self {
            destination,
            outcome: Outcome::Failed,
            snapshot: None,
            bytes_added: 0,
            files: 0,
            bytes: 0,
            duration_ms: 0,
            trouble: Some(trouble),
            forgotten: None,
        }
    }

    /// Whether nothing is wrong with what was shipped: the destination did not answer, or is not mounted.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.outcome == Outcome::Failed && self.trouble.as_ref().is_some_and(is_of_who_is_away)
    }
}

impl RunRecord {
    /// Whether none of its destinations was there.
    #[must_use]
    pub fn found_all_away(&self) -> bool {
        !self.shipments.is_empty() && self.shipments.iter().all(Shipment::is_away)
    }

    /// Whether all that it lacks are destinations that were away: those are told of once, not by each job.
    #[must_use]
    pub fn lacks_only_who_is_away(&self) -> bool {
        let (failed, others): (Vec<&Shipment>, Vec<&Shipment>) =
            self.shipments.iter().partition(|shipment| shipment.outcome != Outcome::Success);
        !failed.is_empty()
            && !others.is_empty()
            && failed.iter().all(|shipment| shipment.is_away())
            && self.warnings.iter().all(|warning| failed.iter().any(|each| each.trouble.as_ref() == Some(warning)))
    }
}

/// One step of a run's log; key: run id + big-endian sequence in the tree `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    pub at: Timestamp,
    pub state: RunState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A repository as the store knows it; tree `destinations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRecord {
    pub name: Name,
    pub location: String,
    /// Pinned at the first `init` or first use: another id later is an error.
    pub repository_id: Option<String>,
    pub prune: Upkeep,
    pub check: Upkeep,
    /// What the runs gave up is forgotten here; it has no schedule of its own.
    #[serde(default)]
    pub forget: Upkeep,
    /// The newest thing that went wrong with it; none once something worked again.
    pub trouble: Option<Trouble>,
    pub last_used: Option<Timestamp>,
    /// Since when it is told to be away; none while it takes what is shipped.
    #[serde(default)]
    pub away_since: Option<Timestamp>,
    /// Looking at the locks of its objects and extending them, where that is declared.
    #[serde(default)]
    pub locks: Upkeep,
    /// Copies into it, where it is a copy of another one.
    #[serde(default)]
    pub copy: CopyRecord,
    /// What was seen of the locks at the newest look that came to an end.
    #[serde(default)]
    pub immutable: Option<Immutable>,
    /// The newest test of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
    /// Its document as it was last in the config: with it the repository is reached once it left.
    #[serde(default)]
    pub document: Option<Box<Destination>>,
}

/// Until when what a bucket holds cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Immutable {
    /// It speaks of what was there then: what came later is not counted.
    pub at: Timestamp,
    /// The earliest end of a lock over all that was there; none: something was open.
    pub until: Option<Timestamp>,
    /// How many snapshots were there.
    pub snapshots: u64,
    /// How many objects were looked at.
    pub objects: u64,
}

/// That a destination was tested, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    pub at: Timestamp,
    /// Where it lay then.
    pub location: String,
}

impl Tested {
    /// Where it lies now.
    #[must_use]
    pub fn now(destination: &Destination, at: Timestamp) -> Self {
        Self { at, location: destination.repository.location() }
    }
}

/// A scheduled piece of work on a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    pub schedule_key: String,
    pub next: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub trouble: Option<Trouble>,
}

/// What is known of the watched branch; key `config` in the tree `meta`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The revision whose config is in force.
    pub applied: Option<Applied>,
    /// A newer revision that was refused; none once a good one was applied.
    pub rejected: Option<Rejected>,
    /// A newer revision that waits for a confirmation.
    pub held: Option<Held>,
    #[serde(default)]
    pub rejected_total: u64,
    /// Targets in force that no document names: they come from what was discovered.
    #[serde(default)]
    pub discovered: BTreeSet<Name>,
    /// Why the source cannot be read, as somebody was told; none while it can.
    #[serde(default)]
    pub unreadable: Option<Incident>,
}

/// Something that is wrong with the whole daemon, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub since: Timestamp,
    pub trouble: Trouble,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub revision: Revision,
    pub at: Timestamp,
    pub took_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub revision: Revision,
    pub at: Timestamp,
    /// Rendered `file:line:column message` lines, at most fifty.
    pub errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub revision: Revision,
    pub at: Timestamp,
    /// Why, and what would be removed.
    pub reason: String,
}

/// A mail that waits to be sent; tree `outbox`, key: big-endian sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMail {
    pub created: Timestamp,
    pub to: Vec<String>,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub attempts: u32,
    pub not_before: Timestamp,
    pub last_error: Option<String>,
}
