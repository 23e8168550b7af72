//! The state store: what was recorded. Desired state is in Git; losing this loses no backup.
//!
//! A small trait over ordered byte trees, with one real implementation (sled) and one in memory for tests.
//! Typed access is `ledger`. Writes are atomic over trees and durable when `commit` returns.

use std::path::PathBuf;

pub mod batch;
mod chain;
pub mod damage;
pub mod desired;
pub mod export;
pub mod exports;
pub mod fit;
pub mod history;
pub mod holdings;
pub mod import;
pub mod layout;
pub mod ledger;
pub mod memory;
mod mounts;
pub mod outbox;
mod pack;
mod packing;
mod peaks;
pub mod record;
mod refill;
pub mod scan;
pub mod sled_store;
pub mod statistics;
pub mod trouble;
pub mod unfinished;
mod witness;

/// Largest value in bytes. sled 0.34 leaks the blob files that it makes of values of 128 KiB and more: 2.5 MiB of
/// live data took 400 MB. Logs and reports are files; the store holds where they are.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Which shape of records a store has; raised only when an old reader would misread a new store.
///
/// 1: each run and each event of a log is a row; 2: finished runs are packed.
pub const FORMAT: u64 = 2;

/// The format in which nothing is packed.
const FORMAT_OF_ROWS: u64 = 1;

/// Where [`FORMAT`] is kept in the tree `meta`.
pub const FORMAT_KEY: &str = "format";

/// The trees. A fixed handful: sled pays for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// The config in force: `site`, `destination/NAME`, `policy/NAME`, `target/NAME`.
    Desired,
    /// `target/policy` to `JobRecord`.
    Jobs,
    /// Run id (16 bytes) to `RunRecord`; old runs are in packs, see `packing`.
    Runs,
    /// Run id + sequence (4 bytes) to `RunEvent`; once it is finished, run id to all of them.
    Events,
    /// `target/policy` NUL run id to nothing: a job's runs in order; its packs behind them.
    JobRuns,
    /// Name to `DestinationRecord`.
    Destinations,
    /// Sequence (8 bytes) to `OutboxMail`.
    Outbox,
    /// `config`, `format`, `open/` + run id (16 bytes), small things of other modules.
    Meta,
}

impl Tree {
    pub const ALL: [Self; 8] = [
        Self::Desired,
        Self::Jobs,
        Self::Runs,
        Self::Events,
        Self::JobRuns,
        Self::Destinations,
        Self::Outbox,
        Self::Meta,
    ];

    /// The name in the store and in exports; never changed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Jobs => "jobs",
            Self::Runs => "runs",
            Self::Events => "events",
            Self::JobRuns => "job_runs",
            Self::Destinations => "destinations",
            Self::Outbox => "outbox",
            Self::Meta => "meta",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| tree.as_str() == name)
    }
}

/// One atomic, durable write. Later writes to a key win over earlier ones. Typed writers are in `batch`.
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

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds the writes of `other` behind those of this one.
    pub fn append(&mut self, mut other: Self) {
        self.writes.append(&mut other.writes);
    }

    /// Checks the bound that every store has.
    ///
    /// # Errors
    /// The first value above [`VALUE_BYTES_MAX`].
    pub fn check(&self) -> Result<(), StoreError> {
        for (tree, key, value) in &self.writes {
            let bytes = value.as_ref().map_or(0, Vec::len);
            if bytes > VALUE_BYTES_MAX {
                return Err(StoreError::ValueTooLarge { key: show_key(*tree, key), bytes });
            }
        }
        Ok(())
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanOrder {
    Ascending,
    Descending,
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state directory {path} is used by another daemon")]
    InUse { path: PathBuf },
    #[error("the state directory {path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the state store at {path} is damaged: {detail}")]
    Damaged { path: PathBuf, detail: String },
    #[error("the state store at {path} has format {found}, this Larder knows formats up to {FORMAT}")]
    Newer { path: PathBuf, found: u64 },
    #[error("the state store cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the state store cannot be written")]
    Write(#[source] std::io::Error),
    #[error("a value of {bytes} bytes for {key} is above the store's limit of {VALUE_BYTES_MAX}")]
    ValueTooLarge { key: String, bytes: usize },
    #[error("the record {key} cannot be understood")]
    Record {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the record {key} cannot be understood: {detail}")]
    Pack { key: String, detail: String },
    #[error("the export {path} cannot be written")]
    Export {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the export cannot be imported, line {line}: {detail}")]
    Import { line: u64, detail: String },
    #[error("an export is imported into an empty store only, this one has records in {tree}")]
    NotEmpty { tree: &'static str },
}

/// What a look at a store's files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// They have so many records.
    Whole(u64),
    /// They were not looked at, and why.
    Not(String),
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
        order: ScanOrder,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Writes everything in `batch` or nothing; durable when it returns.
    ///
    /// # Errors
    /// When a value is too large or the write fails.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// How many batches were committed since it was opened: whether there is anything new.
    fn writes(&self) -> u64 {
        0
    }

    /// Reads everything and compares it with what was ever acknowledged; nothing is written meanwhile.
    ///
    /// # Errors
    /// `Damaged` with what does not add up.
    fn verify(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads a copy of the store's files, made beside them, as a start would read them.
    ///
    /// What is in memory says nothing of the files. The store goes on meanwhile, and whatever is found changes nothing in it.
    ///
    /// # Errors
    /// `Damaged` with what does not add up or cannot be read; another one when there can be no copy.
    fn verify_files(&self) -> Result<Verified, StoreError> {
        Ok(Verified::Not("it has no files".to_owned()))
    }
}

/// A key as a person can read it: `jobs "photos/daily"`, `runs 0192…` in hex where it is not text.
#[must_use]
pub fn show_key(tree: Tree, key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{} {text:?}", tree.as_str()),
        _ => format!("{} {}", tree.as_str(), hex::encode(key)),
    }
}
