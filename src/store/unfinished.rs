//! What a run or a restore changed on an application and could not put back: said everywhere until it is, or until
//! somebody says that it is right as it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Batch, StoreError};
use crate::error::Trouble;
use crate::run::hold::accept_command;
use crate::types::{Name, RunId};

const PREFIX: &str = "unfinished/";

/// Something that is still to be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The run, or the operation of a restore.
    pub run: RunId,
    /// Whose application; none: the journal cannot be read.
    pub target: Option<Name>,
    pub since: Timestamp,
    /// Of the newest try.
    pub trouble: Trouble,
    /// Whether the mail about it was written.
    #[serde(default)]
    pub told: bool,
    /// It was put back, and the mail about that is not written yet.
    #[serde(default)]
    pub ended: bool,
}

impl Unfinished {
    /// What is typed to say that the application is right as it is.
    #[must_use]
    pub fn value(&self) -> String {
        format!("undo:{}", self.run)
    }

    /// What says so, in a shell.
    #[must_use]
    pub fn accept_command(&self) -> String {
        let target = self.target.as_ref().map_or("TARGET", Name::as_str);
        accept_command(target, &self.value())
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "{}. It is tried again every few minutes. If you put the application right by hand, `{}` ends that and removes \
             what was set aside for it",
            self.trouble.hint.as_deref().unwrap_or("look at the application").trim_end_matches('.'),
            self.accept_command()
        )
    }
}

impl Ledger {
    /// Everything that is still to be put back, oldest first; what ended and was not told is among it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        Ok(self.meta_list(PREFIX)?.into_iter().map(|(_, unfinished)| unfinished).collect())
    }
}

impl Batch {
    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn put_unfinished(&mut self, unfinished: &Unfinished) -> Result<(), StoreError> {
        self.meta_put(&format!("{PREFIX}{}", unfinished.run), unfinished)
    }

    /// It is put back, or was accepted.
    pub fn remove_unfinished(&mut self, run: RunId) {
        self.meta_remove(&format!("{PREFIX}{run}"));
    }
}
