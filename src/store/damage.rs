//! What is remembered of a store that was damaged or is gone: so that a person hears of it who never reads the daemon's log.
//!
//! It stays until somebody accepts it by its value, since the holds and the history that were lost with the store can't
//! say themselves that they are missing.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Batch, StoreError};
use crate::run::hold::accept_command;

/// Where the newest [`Damage`] is in the tree `meta`.
pub const KEY: &str = "store/damage";

/// How many runs were found again, after which loss.
const FOUND_AGAIN_KEY: &str = "store/found-again";

/// The record at [`FOUND_AGAIN_KEY`].
#[derive(Serialize, Deserialize)]
struct FoundAgain {
    /// [`Damage::value`].
    loss: String,
    runs: u64,
}

/// A store that was lost, and what the present one was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub at: Timestamp,
    /// What did not add up.
    pub detail: String,
    /// Where the damaged store is now; none: there was nothing left of it.
    #[serde(default)]
    pub set_aside: Option<PathBuf>,
    /// The export that the present one was filled from.
    pub restored: Option<PathBuf>,
    /// How many runs were found again in the manifests of their artifacts; none: that was not looked for yet. It has a record
    /// of its own, since it is written while somebody accepts the loss.
    #[serde(skip)]
    pub found_again: Option<u64>,
    /// When somebody said that it is known.
    #[serde(default)]
    pub accepted: Option<Timestamp>,
    /// Whether the mail about it was written.
    #[serde(default)]
    pub told: bool,
}

impl Damage {
    #[must_use]
    pub fn new(set_aside: Option<&Path>, detail: &str, restored: Option<&Path>) -> Self {
        Self {
            at: Timestamp::now(),
            detail: detail.to_owned(),
            set_aside: set_aside.map(Path::to_owned),
            restored: restored.map(Path::to_owned),
            found_again: None,
            accepted: None,
            told: false,
        }
    }

    /// What is typed to accept it.
    #[must_use]
    pub fn value(&self) -> String {
        format!("lost:{}", self.at.strftime("%Y-%m-%dT%H:%M:%S"))
    }

    /// What was lost and from what it was made again, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let export = match &self.restored {
            Some(export) => {
                let name = export.file_name().unwrap_or_default().to_string_lossy();
                let of = super::exports::time_of(export).map_or_else(String::new, |at| format!(" of {at}"));
                format!("from the export{of} ({name}), so runs, holds and acceptances since then are lost")
            }
            None => {
                "without an export, since none could be read, so the history of runs, holds and acceptances are lost"
                    .to_owned()
            }
        };
        let again = match self.found_again {
            None | Some(0) => String::new(),
            Some(1) => "; 1 run was found again in its manifest".to_owned(),
            Some(runs) => format!("; {runs} runs were found again in their manifests"),
        };
        format!(
            "the state store was lost ({}), noticed {}, and was made anew {export}{again}",
            self.detail,
            self.at.strftime("%Y-%m-%d %H:%M UTC")
        )
    }

    /// What accepts it.
    #[must_use]
    pub fn accept_command(&self, target: &str) -> String {
        accept_command(target, &self.value())
    }

    /// What to do next, with the command that accepts it.
    #[must_use]
    pub fn hint(&self, target: &str) -> String {
        let aside = match &self.set_aside {
            Some(aside) => format!(", then remove {}", aside.display()),
            None => String::new(),
        };
        format!(
            "no backup is lost, and nothing is forgotten until this is accepted. Look at the disk (dmesg, smartctl){aside}; if \
             a newer copy of the state directory is there, stop the daemon and put it back; if not, see whether each job has \
             what it should, and `{}` goes on for all targets",
            self.accept_command(target)
        )
    }
}

impl Ledger {
    /// The newest loss of the store, accepted or not.
    ///
    /// # Errors
    /// When the store cannot be read or the record cannot be understood.
    pub fn newest_loss(&self) -> Result<Option<Damage>, StoreError> {
        let Some(mut damage) = self.meta_get::<Damage>(KEY)? else { return Ok(None) };
        let found = self.meta_get::<FoundAgain>(FOUND_AGAIN_KEY)?.filter(|found| found.loss == damage.value());
        damage.found_again = found.map(|found| found.runs);
        Ok(Some(damage))
    }

    /// The loss of the store that nobody accepted yet.
    ///
    /// # Errors
    /// As [`Self::newest_loss`].
    pub fn loss(&self) -> Result<Option<Damage>, StoreError> {
        Ok(self.newest_loss()?.filter(|damage| damage.accepted.is_none()))
    }
}

impl Batch {
    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_loss(&mut self, damage: &Damage) -> Result<(), StoreError> {
        self.meta_put(KEY, damage)
    }

    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_found_again(&mut self, damage: &Damage, runs: u64) -> Result<(), StoreError> {
        self.meta_put(FOUND_AGAIN_KEY, &FoundAgain { loss: damage.value(), runs })
    }
}
