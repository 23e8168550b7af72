//! What every run needs and shares: the ledger, the board, the programs, the slots of the destinations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::clock::Clock;
use crate::config::model::{Config, Destination};
use crate::engine::{EngineError, RepositoryAccess, Restic};
use crate::error::{Trouble, codes};
use crate::plugin::Catalogue;
use crate::process::Log;
use crate::runner::given_up::GivenUp;
use crate::runner::inventory::Inventory;
use crate::runner::listings::Listings;
use crate::runner::live::Live;
use crate::runner::operations::Operations;
use crate::runner::place;
use crate::runner::quiet::Quiet;
use crate::runner::silence::Silences;
use crate::store::layout::StateDir;
use crate::store::ledger::Ledger;
use crate::store::record::{CopyRecord, DestinationRecord, Upkeep};
use crate::store::{Batch, StoreError};
use crate::types::Name;
use crate::types::site::SiteId;

/// A destination never gets more than this many users at once, whatever the site says.
const BERTHS_MAX: u32 = 64;

/// Shared by all runs and operations; cheap to share through an `Arc`.
pub struct World {
    pub ledger: Ledger,
    pub live: Live,
    pub operations: Operations,
    pub clock: Arc<dyn Clock>,
    pub catalogue: Arc<Catalogue>,
    pub paths: StateDir,
    /// Marks our children, so that the next start finds what a crash left.
    pub state_id: String,
    /// The restic to use when not the one on the `PATH`.
    pub restic_program: Option<PathBuf>,
    restic: Mutex<Option<Arc<Restic>>>,
    /// Which site this is, once it was asked.
    pub(super) site: tokio::sync::Mutex<Option<SiteId>>,
    slots: Mutex<BTreeMap<Name, (u32, Arc<Semaphore>)>>,
    /// One maker of each destination's repository at a time.
    making: Mutex<BTreeMap<Name, Arc<tokio::sync::Mutex<()>>>>,
    /// One who gathers the statistics of a destination at a time.
    gathering: Mutex<BTreeMap<Name, Arc<tokio::sync::Mutex<()>>>>,
    /// One writer of destination records at a time: a run pins an id while a plan moves a schedule.
    destination_writes: Mutex<()>,
    /// Runs whose journal is in use.
    pub(crate) journals: Mutex<BTreeSet<crate::types::RunId>>,
    /// Targets whose applications are being restored into: no run of them starts.
    pub(crate) restoring: Mutex<BTreeSet<Name>>,
    /// Something on an application could not be put back.
    pub(crate) unfinished: Notify,
    /// A repository was listed.
    pub(crate) listed: Notify,
    /// Who copies from and to which destination, and who wants to be alone there.
    pub(crate) quiet: Quiet,
    /// What waits to be forgotten.
    pub given_up: GivenUp,
    pub(super) listings: Listings<Inventory>,
    /// Storages that did not answer a moment ago.
    pub(super) silences: Silences,
    /// Destinations whose objects' locks are being looked at.
    pub(crate) locks_looked_at: Mutex<BTreeSet<Name>>,
    /// A run only waits for some of its destinations by now: another one may begin.
    pub(crate) freed: Notify,
}

/// What a world is made of.
pub struct WorldParts {
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub catalogue: Arc<Catalogue>,
    pub paths: StateDir,
    pub state_id: String,
    pub restic_program: Option<PathBuf>,
}

impl World {
    #[must_use]
    pub fn new(parts: WorldParts) -> Self {
        place::program();
        Self {
            ledger: parts.ledger,
            live: Live::default(),
            operations: Operations::default(),
            clock: parts.clock,
            catalogue: parts.catalogue,
            paths: parts.paths,
            state_id: parts.state_id,
            restic_program: parts.restic_program,
            restic: Mutex::default(),
            site: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            making: Mutex::default(),
            gathering: Mutex::default(),
            destination_writes: Mutex::default(),
            journals: Mutex::default(),
            restoring: Mutex::default(),
            unfinished: Notify::default(),
            listed: Notify::default(),
            quiet: Quiet::default(),
            given_up: GivenUp::default(),
            listings: Listings::default(),
            silences: Silences::default(),
            locks_looked_at: Mutex::default(),
            freed: Notify::default(),
        }
    }

    /// The restic program, probed once it is there; a failed probe is tried again by the next run.
    pub async fn restic(&self) -> Result<Arc<Restic>, EngineError> {
        if let Some(known) = self.restic.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(known);
        }
        let probed = Arc::new(Restic::probe(self.restic_program.as_deref()).await?);
        *self.restic.lock().unwrap_or_else(PoisonError::into_inner) = Some(probed.clone());
        Ok(probed)
    }

    /// The queue of one destination: `width` users at once.
    #[must_use]
    pub fn slots(&self, destination: &Name, width: u32) -> (u32, Arc<Semaphore>) {
        let width = width.clamp(1, BERTHS_MAX);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = slots
            .entry(destination.clone())
            .and_modify(|(old, semaphore)| {
                // A changed width takes a new queue; who waits in the old one still gets through.
                if *old != width {
                    *old = width;
                    *semaphore = Arc::new(Semaphore::new(width as usize));
                }
            })
            .or_insert_with(|| (width, Arc::new(Semaphore::new(width as usize))));
        entry.clone()
    }

    /// Held by who makes the repository of `destination`.
    #[must_use]
    pub(super) fn making(&self, destination: &Name) -> Arc<tokio::sync::Mutex<()>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner).entry(destination.clone()).or_default().clone()
    }

    /// Held by who gathers the statistics of `destination`.
    #[must_use]
    pub(crate) fn gathering(&self, destination: &Name) -> Arc<tokio::sync::Mutex<()>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner).entry(destination.clone()).or_default().clone()
    }

    /// How to reach `destination`, with its secret and what is pinned of it.
    ///
    /// # Errors
    /// When the password cannot be had or the store cannot be read.
    pub async fn access(&self, destination: &Destination) -> Result<RepositoryAccess, Trouble> {
        let password = destination.password.resolved().await.map_err(|error| {
            Trouble::new(
                codes::PASSWORD_UNAVAILABLE,
                format!("destination {}: {}", destination.name, crate::error::chain(&error)),
            )
            .with_hint(error.hint())
        })?;
        let known = self.ledger.destination(&destination.name).map_err(|error| error.trouble())?;
        Ok(RepositoryAccess {
            destination: destination.name.clone(),
            location: destination.repository.location(),
            place: place::place(destination, &self.state_id).await?,
            password,
            expected_id: pinned(destination, known.and_then(|record| record.repository_id))?,
            limits: destination.limits,
            machine_key: destination.machine_key,
            restic_cache: destination.cache.clone(),
            cache: self.paths.cache(),
        })
    }

    /// The destination of this name: of the config, or as it was when it left.
    ///
    /// # Errors
    /// When there was never one, or the store cannot be read.
    pub fn destination(&self, config: &Config, name: &Name) -> Result<Destination, Trouble> {
        if let Some(destination) = config.destinations.get(name) {
            return Ok(destination.clone());
        }
        let all = self.ledger.destinations().map_err(|error| error.trouble())?;
        match all.iter().find(|record| record.name == *name) {
            Some(DestinationRecord { document: Some(document), .. }) => Ok(Destination::clone(document)),
            Some(record) => Err(Trouble::new(
                codes::UNKNOWN_DESTINATION,
                format!("destination {name} left the config before this version kept how it is reached"),
            )
            .with_hint(format!(
                "its backups are in {}: push its document again, or use `restic -r {0}` with its password",
                record.location
            ))),
            None => {
                let known: Vec<&str> = config.destinations.keys().map(Name::as_str).collect();
                let left = all.iter().map(|record| record.name.as_str()).filter(|name| !known.contains(name));
                let left: Vec<String> = left.map(|name| format!("{name} (left the config)")).collect();
                let all: Vec<&str> = known.iter().copied().chain(left.iter().map(String::as_str)).collect();
                Err(Trouble::new(codes::UNKNOWN_DESTINATION, format!("there is no destination {name}"))
                    .with_hint(format!("there are: {}", all.join(", "))))
            }
        }
    }

    /// The log of a run or an operation; one that cannot be made is no reason not to back up.
    #[must_use]
    pub fn log(&self, id: crate::types::RunId, bytes_max: u64) -> Log {
        let path = self.paths.log_of(id);
        Log::create(&path, bytes_max).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "this run has no log");
            Log::discard()
        })
    }

    /// Changes the record of a destination: read, `change`, written, durable.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn note_destination(
        &self,
        destination: &Destination,
        change: impl FnOnce(&mut DestinationRecord),
    ) -> Result<(), StoreError> {
        self.with_destinations(|ledger| {
            let mut record = ledger.destination(&destination.name)?.unwrap_or_else(|| blank_destination(destination));
            let before = record.clone();
            change(&mut record);
            if record == before {
                return Ok(());
            }
            let mut batch = Batch::default();
            batch.put_destination(&record)?;
            ledger.commit(batch)
        })
    }

    /// Runs `work` while nobody else writes destination records.
    pub fn with_destinations<T>(&self, work: impl FnOnce(&Ledger) -> T) -> T {
        let _turn = self.destination_writes.lock().unwrap_or_else(PoisonError::into_inner);
        work(&self.ledger)
    }
}

/// The id that the repository must have: as Git says, which must be what is known.
fn pinned(destination: &Destination, known: Option<String>) -> Result<Option<String>, Trouble> {
    match (&destination.repository_id, known) {
        (Some(written), Some(known)) if *written != known => Err(Trouble::new(
            codes::REPOSITORY_REPLACED,
            format!(
                "destination {}: `repository_id` in Git is {written}, and the repository that was used so far is {known}",
                destination.name
            ),
        )
        .with_hint(format!(
            "write `repository_id: \"{known}\"` if it is that one; a new repository belongs to a destination of another name"
        ))),
        (Some(written), _) => Ok(Some(written.clone())),
        (None, known) => Ok(known),
    }
}

fn blank_destination(destination: &Destination) -> DestinationRecord {
    DestinationRecord {
        name: destination.name.clone(),
        location: destination.repository.location(),
        repository_id: None,
        prune: Upkeep::default(),
        check: Upkeep::default(),
        forget: Upkeep::default(),
        trouble: None,
        last_used: None,
        away_since: None,
        locks: Upkeep::default(),
        copy: CopyRecord::default(),
        immutable: None,
        tested: None,
        document: Some(Box::new(destination.clone())),
    }
}
