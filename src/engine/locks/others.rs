//! The locks that others hold or left behind, for who looks from time to time.

use jiff::Timestamp;

use super::super::children::{Child, Children, host_name, user_name};
use super::super::control::on_storage;
use super::super::{EngineError, RepositoryAccess, Restic};
use super::{Here, Lock, Standing, judge, may_have_made};
use crate::process::{self, Context};

/// Whether there is any lock at all: one question to the storage.
///
/// # Errors
/// The storage does not tell.
pub async fn has_locks(access: &RepositoryAccess) -> Result<bool, EngineError> {
    on_storage(access, |storage| storage.list("locks")).await.map(|locks| !locks.is_empty())
}

impl Restic {
    /// The locks that are neither of a restic that we started nor proven dead; no restic is asked where there are none.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn locks_of_others(
        &self,
        access: &RepositoryAccess,
        context: &Context,
    ) -> Result<Vec<Lock>, EngineError> {
        if !has_locks(access).await? {
            return Ok(Vec::new());
        }
        self.check_identity(access, context).await?;
        let mut locks = self.locks(access, context).await?;
        let here = Here { host: host_name(), user: user_name(), habitat: process::habitat(), now: Timestamp::now() };
        let children = Children::open(&access.cache)?.all(here.now);
        locks.retain(|lock| {
            let is_its_maker =
                |child: &Child| i64::from(child.pid) == lock.info.pid && may_have_made(child, &lock.info, &here);
            let process = process::seen(lock.info.pid);
            !children.iter().any(is_its_maker)
                && judge(&lock.info, &here, &children, process.as_ref()) != Standing::OursAndDead
        });
        Ok(locks)
    }
}
