//! What others may ask of the daemon: one message type, answered by the one task that owns the schedule.
//!
//! Reading needs no message: readers use the ledger and the live board.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::model::Config;
use crate::error::{Trouble, codes};
use crate::run::hold::{Hold, HoldKind};
use crate::storage::s3::RewindAct;
use crate::types::{JobId, Name, Revision, RunId};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Trouble>>;

/// One request to the daemon.
#[derive(Debug)]
pub enum Request {
    /// Start the jobs of `target` (all its policies, or one) now. Answers at once with the runs' ids; a job that is
    /// already queued or running answers with that run.
    StartRun {
        target: Name,
        policy: Option<Name>,
        reply: Reply<Vec<RunId>>,
    },
    CancelRun {
        run: RunId,
        reply: Reply<()>,
    },
    /// Suspend every job of `target` until `until` (at most 30 days ahead).
    Suspend {
        target: Name,
        until: Timestamp,
        reason: String,
        reply: Reply<()>,
    },
    Resume {
        target: Name,
        reply: Reply<()>,
    },
    /// End the holds of `target` that are shown with `value`.
    Accept {
        target: Name,
        value: String,
        reply: Reply<Vec<Acceptance>>,
    },
    /// Look at the watched branch again and answer with what came of it.
    Reconcile {
        revision: Option<Revision>,
        reply: Reply<Reconciled>,
    },
    /// Apply a held revision.
    Confirm {
        revision: Revision,
        reply: Reply<Reconciled>,
    },
    /// What applying `config` (one that a caller loaded), or `revision`, or the branch's head would change; applies nothing.
    Plan {
        revision: Option<Revision>,
        config: Option<Box<Config>>,
        reply: Reply<PlanText>,
    },
    /// Restore from a snapshot, into a directory on the daemon's host or into an application.
    Restore {
        restore: RestoreRequest,
        reply: Reply<OperationId>,
    },
    /// Prune, check, test or unlock a destination.
    Destination {
        destination: Name,
        action: DestinationAction,
        /// For an unlock: the lock that is said to be dead, by its id.
        lock: Option<String>,
        reply: Reply<OperationId>,
    },
    /// Bring back what was deleted or overwritten in a bucket that keeps versions, or say what that would be.
    Rewind {
        rewind: RewindRequest,
        reply: Reply<OperationId>,
    },
    /// Send a test mail now and say what the server answered.
    TestMail {
        reply: Reply<String>,
    },
}

/// A hold that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    pub policy: Name,
    pub kind: HoldKind,
    pub since: Timestamp,
    /// What was held against.
    pub reason: String,
}

impl Acceptance {
    #[must_use]
    pub fn of(job: &JobId, hold: &Hold) -> Self {
        Self { policy: job.policy.clone(), kind: hold.kind, since: hold.since, reason: hold.trouble.message.clone() }
    }
}

/// What a reconcile came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    pub revision: Option<Revision>,
    pub result: ReconcileResult,
    /// Lines for a person: errors, changes, next runs.
    pub lines: Vec<String>,
    /// From seeing the ref to having applied it.
    pub took_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReconcileResult {
    Applied,
    Unchanged,
    Rejected,
    Held,
    /// It could not be looked at or not be written; what is in force stays, and what is desired is not known.
    Failed,
}

/// A plan for people and for machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanText {
    pub lines: Vec<String>,
    pub plan: serde_json::Value,
}

/// What to restore and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreRequest {
    pub target: Name,
    /// The newest snapshot of the target when not given.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Where the newest run is when not given.
    #[serde(default)]
    pub destination: Option<Name>,
    /// A directory: absolute; made when missing; must be empty. Either it or `into` is given.
    #[serde(default)]
    pub to: Option<std::path::PathBuf>,
    /// restic patterns for a directory; empty: everything.
    #[serde(default)]
    pub include: Vec<String>,
    /// The target whose application is restored into.
    #[serde(default)]
    pub into: Option<Name>,
    /// With `into`: only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// With `into`: what the plugin lets choose.
    #[serde(default)]
    pub options: serde_json::Value,
}

/// Which destination to bring back to which time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindRequest {
    pub destination: Name,
    /// What was deleted or overwritten since then comes back.
    pub to: Timestamp,
    pub act: RewindAct,
}

/// A piece of work that is no run: a restore, a prune, a check. Same shape as a run's id.
pub type OperationId = RunId;

/// How an operation stands; kept in memory, the newest hundred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationStatus {
    pub id: OperationId,
    pub title: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub percent: u8,
    /// Lines for a person, at most a thousand.
    pub lines: Vec<String>,
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DestinationAction {
    Test,
    Check,
    Prune,
    /// Forgets what the runs gave up.
    Forget,
    Unlock,
    /// Lists the repository's keys.
    Keys,
    /// The line that pins the repository in Git.
    Pin,
    /// Copies what it lacks of the destination that it is a copy of.
    Copy,
    /// Extends the locks on its objects, and looks until when all hold.
    ExtendLocks,
    /// Gathers its statistics.
    Gather,
}

/// The sending side, cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    requests: mpsc::Sender<Request>,
}

impl Control {
    /// The two ends; the receiving one belongs to the daemon's main task.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(64);
        (Self { requests }, receiver)
    }

    /// Sends the request that `make` builds around a reply, and waits for the answer.
    ///
    /// # Errors
    /// What the daemon answered, or that it is shutting down.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, Trouble> {
        let gone =
            || Trouble::new(codes::SHUTTING_DOWN, "the daemon is shutting down").with_hint("try again in a moment");
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
