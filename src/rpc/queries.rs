//! Questions that only a repository can answer: the daemon gives the object, since they run restic.

use std::future::Future;
use std::pin::Pin;

use crate::error::Trouble;
use crate::rpc::wire::snapshots::{SnapshotInfo, SnapshotListParams};
use crate::rpc::wire::{Checkup, FileInfo, FindParams, FoundFile, SnapshotFilesParams};

/// An answer that takes a while.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send>>;

/// Reads repositories. Each answer is bounded by what implements it; the server pages it.
pub trait Queries: Send + Sync + 'static {
    /// The snapshots, newest first.
    fn snapshots(&self, query: SnapshotListParams) -> Answer<Vec<SnapshotInfo>>;
    /// The files of a snapshot below a path, in order of their paths.
    fn files(&self, query: SnapshotFilesParams) -> Answer<Vec<FileInfo>>;
    /// What the daemon needs on its machine, looked at now.
    fn doctor(&self) -> Answer<Vec<Checkup>>;
    /// The files of any snapshot whose name matches, newest snapshot first.
    fn find(&self, query: FindParams) -> Answer<Vec<FoundFile>>;
}
