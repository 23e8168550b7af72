//! The state store: what was recorded. Desired state is in Git; losing this loses no backup.
//!
//! A small trait over ordered byte trees, with one real implementation (sled) and one in memory for tests.
//! Typed access is `ledger`. Writes are atomic over trees and durable when `commit` returns.

pub mod record;

/// The trees. A fixed handful: sled pays for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// The config in force: `site`, `destination/NAME`, `policy/NAME`, `target/NAME`.
    Desired,
    /// `target/policy` to `JobRecord`.
    Jobs,
    /// Run id (16 bytes) to `RunRecord`.
    Runs,
    /// Run id + sequence (4 bytes) to `RunEvent`.
    Events,
    /// `target/policy` NUL run id to nothing: a job's runs in order.
    JobRuns,
    /// Name to `DestinationRecord`.
    Destinations,
    /// Sequence (8 bytes) to `OutboxMail`.
    Outbox,
    /// `config`, `format`, counters.
    Meta,
}

/// One atomic, durable write.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub writes: Vec<(Tree, Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((tree, key.into(), Some(value.into())));
    }

    pub fn remove(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.writes.push((tree, key.into(), None));
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state directory {path} is used by another daemon")]
    InUse { path: std::path::PathBuf },
    #[error("the state directory {path} cannot be opened")]
    Open {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the state store at {path} is damaged: {detail}")]
    Damaged { path: std::path::PathBuf, detail: String },
    #[error("the state store cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the state store cannot be written")]
    Write(#[source] std::io::Error),
    #[error("a value of {bytes} bytes for {key} is above the store's limit")]
    ValueTooLarge { key: String, bytes: usize },
    #[error("the record {key} cannot be understood")]
    Record {
        key: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Ordered byte trees with atomic, durable batches.
pub trait Store: Send + Sync + 'static {
    /// # Errors
    /// When the tree cannot be read.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The entries whose key starts with `prefix`, at most `limit`; when `after` is given, only those that come
    /// strictly behind it in `order`.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Writes everything in `batch` or nothing; durable when it returns.
    ///
    /// # Errors
    /// When a value is too large or the write fails.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;
}
