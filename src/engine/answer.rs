//! What came of one call of restic, and which error that is.

use std::time::Duration;

use jiff::Timestamp;

use super::complaints::{Complaints, classify};
use super::locks::Lock;
use super::{EngineError, RepositoryAccess};
use crate::process::Exit;

/// What came of one call.
pub(super) struct Answer {
    pub(super) exit: Exit,
    pub(super) complaints: Complaints,
    /// Locks that were in the way and are not ours to remove.
    pub(super) locks: Vec<Lock>,
    pub(super) wall: Duration,
}

impl Answer {
    /// The error that this answer means, whatever its exit code.
    pub(super) fn error(&self, operation: &str, access: &RepositoryAccess) -> EngineError {
        match classify(operation, &access.location, &self.exit, &self.complaints) {
            EngineError::Locked { location, by, .. } => {
                let now = Timestamp::now();
                let left = self.locks.iter().map(|lock| lock.told(&access.destination, now)).collect();
                EngineError::Locked { location, by, left }
            }
            other => other,
        }
    }

    /// Whether nothing but locks that nobody refreshes is in the way.
    pub(super) fn is_locked_by_the_dead(&self) -> bool {
        let now = Timestamp::now();
        !self.locks.is_empty() && self.locks.iter().all(|lock| lock.is_stale(now))
    }

    /// An exit code of 0 is none where restic complained.
    pub(super) fn success(self, operation: &str, access: &RepositoryAccess) -> Result<Self, EngineError> {
        let fine = self.exit == Exit::Success && !self.complaints.is_fatal(0) && self.complaints.items_total == 0;
        if fine { Ok(self) } else { Err(self.error(operation, access)) }
    }
}
