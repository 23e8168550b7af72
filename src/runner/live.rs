//! What is going on right now and need not survive a restart: progress of runs, for pages and subscribers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::discovery::docker::EngineInventory;
use crate::error::Trouble;
use crate::run::RunState;
use crate::store::record::Incident;
use crate::types::{JobId, Name, RunId};

/// How many updates a slow subscriber may lag behind before it skips some.
const UPDATES_MAX: usize = 1024;

/// How far a run is, at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunUpdate {
    pub run: RunId,
    pub job: JobId,
    pub at: Timestamp,
    #[serde(flatten)]
    pub state: RunState,
    /// What is being worked on: a destination's name, a file.
    pub detail: Option<String>,
    pub bytes_done: u64,
    /// Zero when unknown.
    pub bytes_total: u64,
}

/// The live board: the newest update of each run in progress, and a stream of all updates.
#[derive(Clone, Debug)]
pub struct Live {
    current: Arc<Mutex<BTreeMap<RunId, RunUpdate>>>,
    updates: broadcast::Sender<RunUpdate>,
    discovery: Arc<Mutex<Discovery>>,
    state: Arc<Mutex<Option<Incident>>>,
    locks: Arc<Mutex<Locks>>,
}

/// The oldest lock of somebody else in each repository that was looked at; none: there was none.
pub type Locks = BTreeMap<Name, Option<OthersLock>>;

/// A lock that is not of a restic that we started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersLock {
    /// As much of it as a command takes.
    pub id: String,
    /// `root@pi (process 4495)`
    pub holder: String,
    pub exclusive: bool,
    /// When it was made or refreshed; a living restic does that every five minutes.
    pub since: Timestamp,
}

/// What the newest look at the container engine came to.
#[derive(Clone, Debug, Default)]
pub enum Discovery {
    /// Nobody looks, or the first look is still to come.
    #[default]
    None,
    Known {
        inventory: Arc<EngineInventory>,
        at: Timestamp,
    },
    /// It does not answer: what is there is not known.
    Unknown {
        trouble: Trouble,
        at: Timestamp,
    },
}

impl Default for Live {
    fn default() -> Self {
        Self {
            current: Arc::default(),
            updates: broadcast::channel(UPDATES_MAX).0,
            discovery: Arc::default(),
            state: Arc::default(),
            locks: Arc::default(),
        }
    }
}

impl Live {
    /// Publishes `update`; a finished run leaves the board.
    pub fn publish(&self, update: RunUpdate) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if update.state.is_finished() {
            current.remove(&update.run);
        } else {
            current.insert(update.run, update.clone());
        }
        drop(current);
        // No subscriber is no error.
        let _ = self.updates.send(update);
    }

    /// The runs in progress, oldest first.
    #[must_use]
    pub fn current(&self) -> Vec<RunUpdate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    #[must_use]
    pub fn get(&self, run: RunId) -> Option<RunUpdate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Notes what a look at the container engine came to.
    pub fn discovered(&self, discovery: Discovery) {
        *self.discovery.lock().unwrap_or_else(PoisonError::into_inner) = discovery;
    }

    #[must_use]
    pub fn discovery(&self) -> Discovery {
        self.discovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what is wrong with the state directory; here, since the store may be what is wrong.
    pub fn state_is(&self, incident: Option<Incident>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = incident;
    }

    #[must_use]
    pub fn state(&self) -> Option<Incident> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the oldest lock of others in a repository; whether that is news.
    pub fn locked(&self, destination: Name, lock: Option<OthersLock>) -> bool {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.insert(destination, lock.clone()) != Some(lock)
    }

    /// Whether there is a lock cannot be seen now; whether it could before.
    pub fn unknown_lock(&self, destination: &Name) -> bool {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(destination).is_some()
    }

    /// Forgets what was seen of all others.
    pub fn only_locks_of(&self, wanted: impl Fn(&Name) -> bool) {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| wanted(name));
    }

    #[must_use]
    pub fn locks(&self) -> Locks {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<RunUpdate> {
        self.updates.subscribe()
    }
}
