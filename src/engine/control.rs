//! What is asked of a repository's storage without restic: in milliseconds, and with an end where it does not answer.

use std::time::Duration;

use super::{EngineError, RepositoryAccess};
use crate::storage::{self, ControlClient, Probe, StorageError};

/// How long the storage may say nothing.
const PATIENCE: Duration = Duration::from_secs(5);

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
    match done.await {
        Ok(done) => done.map_err(EngineError::Storage),
        Err(_) => Err(EngineError::Cancelled),
    }
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
