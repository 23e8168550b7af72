//! Removes a lock that somebody names by its id, and so says that he looked whose it is.
//!
//! That word is enough where the lock missed a refresh: a living restic makes a new lock, with a new id, every five
//! minutes. One that is younger is watched until it should have been refreshed. One whose process is seen alive on this
//! machine, in a container too, stays whatever anybody says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::control::on_storage;
use super::super::{EngineError, RepositoryAccess, Restic};
use super::{CLOCK_SLACK, Lock, remove};
use crate::process::{self, Context, ProcessSeen};

/// A live restic has refreshed its lock by then.
const REFRESHED_BY: SignedDuration = SignedDuration::from_mins(6);
/// Between two looks at a lock that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The fewest digits that name a lock.
const DIGITS_MIN: usize = 8;

impl Restic {
    /// Removes the lock whose id begins with `id`. `on_wait` hears, in words, what is waited for.
    ///
    /// # Errors
    /// No such lock, one that is alive, and everything that restic can fail with.
    pub async fn unlock_named(
        &self,
        access: &RepositoryAccess,
        id: &str,
        context: &Context,
        mut on_wait: impl FnMut(String) + Send,
    ) -> Result<Lock, EngineError> {
        if !(DIGITS_MIN..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(EngineError::LockId { id: id.chars().take(80).collect() });
        }
        self.check_identity(access, context).await?;
        let locks = self.locks(access, context).await?;
        let now = Timestamp::now();
        let mut named = locks.iter().filter(|lock| lock.id.starts_with(&id.to_ascii_lowercase()));
        let (Some(lock), None) = (named.next(), named.next()) else {
            let there = locks.iter().map(|lock| lock.show(now)).collect();
            return Err(EngineError::LockMissing { id: id.to_owned(), location: access.location.clone(), there });
        };
        let alive = |why: &str| EngineError::LockAlive { lock: lock.show(now), why: why.to_owned() };
        let seen = process::seen_inside(lock.info.pid);
        if let Some(holder) = seen.iter().find(|process| may_hold(lock, process)) {
            return Err(alive(&format!("process {} ({}) runs on this machine", lock.info.pid, holder.name)));
        }
        if !self.outlived_its_refresh(access, lock, context, &mut on_wait).await? {
            return Err(alive("it was refreshed or released while it was watched"));
        }
        if remove(access, &lock.id).await {
            Ok(lock.clone())
        } else {
            let detail = format!("the lock {} could not be removed", lock.short());
            Err(EngineError::NotWritable { location: access.location.clone(), detail })
        }
    }

    /// Waits until a live holder would have replaced the lock; whether it is still there.
    async fn outlived_its_refresh(
        &self,
        access: &RepositoryAccess,
        lock: &Lock,
        context: &Context,
        on_wait: &mut (impl FnMut(String) + Send),
    ) -> Result<bool, EngineError> {
        let age = Timestamp::now().duration_since(lock.info.created);
        if age >= REFRESHED_BY {
            return Ok(true);
        }
        // A date in the future says nothing of the age.
        let left = if age.is_negative() { REFRESHED_BY } else { REFRESHED_BY - age };
        let left = Duration::try_from(left).unwrap_or_default();
        on_wait(format!(
            "watching the {} for {}: a living restic refreshes it every five minutes",
            lock.show(Timestamp::now()),
            crate::types::show_duration(left)
        ));
        let end = tokio::time::Instant::now() + left;
        while tokio::time::Instant::now() < end {
            tokio::select! {
                () = context.cancel.cancelled() => return Err(EngineError::Cancelled),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !is_there(access, &lock.id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether `process`, which has the lock's pid, may be the one that made it.
fn may_hold(lock: &Lock, process: &ProcessSeen) -> bool {
    let made = lock.info.created.saturating_add(CLOCK_SLACK).unwrap_or(lock.info.created);
    process.name == "restic" && process.started <= made
}

async fn is_there(access: &RepositoryAccess, id: &str) -> Result<bool, EngineError> {
    let name = format!("locks/{id}");
    on_storage(access, move |storage| storage.stat(&name)).await.map(|found| found.is_some())
}
