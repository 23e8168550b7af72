//! What is remembered of a store that was damaged: so that a person hears of it who never reads the daemon's log.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where the newest [`Damage`] is in the tree `meta`; it goes when the directory that was set aside is gone.
pub const KEY: &str = "store/damage";

/// A store that was set aside, and what the present one was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub at: Timestamp,
    /// What did not add up.
    pub detail: String,
    /// Where the damaged store is now.
    pub set_aside: PathBuf,
    /// The export that the present one was filled from.
    pub restored: Option<PathBuf>,
    /// How many runs were brought back from manifests; none: that was not done yet.
    #[serde(default)]
    pub from_manifests: Option<u64>,
}

impl Damage {
    pub(super) fn new(set_aside: &Path, detail: &str, restored: Option<&Path>) -> Self {
        Self {
            at: Timestamp::now(),
            detail: detail.to_owned(),
            set_aside: set_aside.to_owned(),
            restored: restored.map(Path::to_owned),
            from_manifests: None,
        }
    }

    /// In one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let from = match &self.restored {
            Some(export) => format!("from the export {}", export.display()),
            None => "from nothing but Git and the manifests, since no export could be read".to_owned(),
        };
        format!("the state store was damaged ({}) and was made anew {from}", self.detail)
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "no backup is lost, history since the export may be; look at the disk (dmesg, smartctl), then remove {}",
            self.set_aside.display()
        )
    }
}
