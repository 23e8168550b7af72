//! What is asked of a repository's storage without restic: in milliseconds, and with an end where it does not answer.

use std::time::Duration;

use secrecy::SecretString;

use super::{EngineError, RepositoryAccess};
use crate::error::Trouble;
use crate::process::Redactor;
use crate::storage::{self, ControlClient, Probe, StorageError};

/// How long the storage may say nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one piece of work may take, however it drips.
const WORK_MAX: Duration = Duration::from_secs(90);

impl RepositoryAccess {
    /// What must be seen nowhere.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let mut all = self.place.secrets();
        all.push(self.password.clone());
        all
    }
}

/// Does `work` on the storage, off the runtime's threads.
pub(super) async fn on_storage<T: Send + 'static>(
    access: &RepositoryAccess,
    work: impl FnOnce(&dyn ControlClient) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, EngineError> {
    let place = access.place.clone();
    let done = tokio::task::spawn_blocking(move || {
        let client = storage::open(&place, PATIENCE)?;
        work(&*client)
    });
    match tokio::time::timeout(WORK_MAX, done).await {
        Ok(Ok(done)) => done.map_err(|error| told(access, &error)),
        Ok(Err(_)) => Err(EngineError::Cancelled),
        // What it waits for has an end of its own, and nobody waits for that.
        Err(_) => Err(EngineError::Unreachable {
            location: access.location.clone(),
            detail: format!("it was not done within {}", crate::types::show_duration(WORK_MAX)),
        }),
    }
}

/// In words; a server may repeat what it was told.
pub(super) fn told(access: &RepositoryAccess, error: &StorageError) -> EngineError {
    EngineError::Storage { code: error.code(), trouble: Box::new(clean(access, error.trouble())) }
}

/// Without what opens the repository or its storage.
#[must_use]
pub fn clean(access: &RepositoryAccess, trouble: Trouble) -> Trouble {
    Redactor::new(access.secrets()).trouble(trouble)
}

/// Whether the storage answers and lets us in, be there a repository or not; at once on this machine.
///
/// # Errors
/// What keeps us out.
pub async fn answers(access: &RepositoryAccess) -> Result<(), EngineError> {
    on_storage(access, |storage| storage.stat("config")).await.map(|_| ())
}

/// What works at the storage and what does not; over in five seconds, whatever it does.
///
/// # Errors
/// It cannot even be asked: what a person wrote does not fit, or there is no client for it.
pub async fn probe(access: &RepositoryAccess) -> Result<Probe, EngineError> {
    on_storage(access, |storage| Ok(storage.probe())).await
}
