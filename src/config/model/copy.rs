//! A destination that gets its snapshots from another one.

use serde::{Deserialize, Serialize};

use super::ScheduleSpec;
use crate::types::{JobId, Name};

/// From where a destination gets copies of snapshots, when, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRule {
    /// A destination that is no copy itself.
    pub from: Name,
    pub schedule: ScheduleSpec,
    /// Empty: all.
    pub targets: Vec<Name>,
    /// Empty: all.
    pub policies: Vec<Name>,
}

impl CopyRule {
    /// Whether snapshots of `job` are copied, where `from` has some.
    #[must_use]
    pub fn takes(&self, job: &JobId) -> bool {
        let is_named = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
        is_named(&self.targets, &job.target) && is_named(&self.policies, &job.policy)
    }
}
