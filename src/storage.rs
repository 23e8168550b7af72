//! Where repositories lie: a thin client that does on the same storage what restic cannot do quickly.
//!
//! restic moves the data. This looks, lists, puts one new file, deletes one, and answers for `destination test` what works
//! and what does not, in seconds and in words. It blocks, each call has a bound, and no call overwrites. Deliberately
//! absent: packs, encryption, retries over minutes, and any look at what a file means.

pub mod askpass;
mod error;
mod http;
mod local;
mod name;
mod probe;
mod rest;
pub mod s3;
pub mod sftp;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::config::model::{BucketStyle, LockMode, Tls};
use crate::web;

pub use error::StorageError;
pub use probe::{Facts, Probe, Question, Step};
pub use s3::S3;
pub use sftp::SshFiles;

/// Files of one directory that are listed at most.
pub const LISTED_MAX: usize = 200_000;

/// Where a repository lies, with what opens it: resolved, so it is never shown.
#[derive(Clone, Debug)]
pub enum Place {
    Local(PathBuf),
    S3(S3Place),
    Rest(RestPlace),
    Sftp(SftpPlace),
}

/// A bucket, and the repository in it.
#[derive(Clone, Debug)]
pub struct S3Place {
    /// `https://s3.example:9000`
    pub endpoint: String,
    pub bucket: String,
    /// Without `/` at its ends: empty, or `a/b`.
    pub prefix: String,
    pub region: String,
    pub style: BucketStyle,
    pub access_key: SecretString,
    pub secret_key: SecretString,
    pub tls: Tls,
    /// Plain HTTP also to a host that is not local.
    pub allow_http: bool,
    /// How its objects are declared to be locked: a probe tries it.
    pub locked: Option<LockMode>,
}

/// A repository behind a REST server.
#[derive(Clone, Debug)]
pub struct RestPlace {
    /// `https://host:port/path`, of the repository.
    pub url: String,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub tls: Tls,
    /// Plain HTTP also to a host that is not local.
    pub allow_http: bool,
}

/// A repository behind a login of SSH.
#[derive(Clone, Debug)]
pub struct SftpPlace {
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Of the repository, absolute.
    pub path: String,
    /// The text of a private key as OpenSSH writes it.
    pub key: Option<SecretString>,
    pub password: Option<SecretString>,
    /// The keys that the host may have, `TYPE KEY` each.
    pub known_hosts: Vec<String>,
    /// The program that answers ssh's question for the password: Larder itself (see [`askpass`]).
    pub askpass: PathBuf,
    /// Marks its children, so that the next start finds what a crash left.
    pub mark: String,
}

impl Place {
    /// What opens it, to be hidden from logs.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretString> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::S3(s3) => vec![s3.access_key.clone(), s3.secret_key.clone()],
            Self::Rest(rest) => rest.password.iter().cloned().collect(),
            Self::Sftp(sftp) => sftp.key.iter().chain(&sftp.password).cloned().collect(),
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub bytes: u64,
    /// Where the storage tells it; SFTP tells minutes, or days where it is old.
    pub modified: Option<Timestamp>,
}

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Without the directory.
    pub name: String,
    pub bytes: u64,
    pub modified: Option<Timestamp>,
}

/// What is asked of the storage of one repository.
///
/// Names are relative to the repository: `config`, `keys/<64 hex>`, `data/<64 hex>` (where packs lie in directories by
/// their first two digits, that is seen to). Every call blocks, and ends within the patience that the client was opened
/// with, plus what a body of honest speed takes.
pub trait ControlClient: Send {
    /// What `name` is; none: it is not there.
    fn stat(&self, name: &str) -> Result<Option<Stat>, StorageError>;

    /// The files directly in `directory` (`keys`, `locks`, `snapshots`, `index`), in no order; one that is not there is
    /// empty. More than [`LISTED_MAX`] are an error.
    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError>;

    /// The whole content; none: it is not there.
    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError>;

    /// Puts a whole file where none is: `Exists` otherwise. Where the storage itself cannot refuse (some servers of S3,
    /// REST and SFTP), it is looked first, and two that put at the same moment are not told apart.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// `NotFound` where it is not there.
    fn delete(&self, name: &str) -> Result<(), StorageError>;

    /// What works and what does not, without harm to a repository, within five seconds.
    fn probe(&self) -> Probe;

    /// The place as people may see it.
    fn shown(&self) -> String;
}

/// A client for `place`, which is not spoken to before the first call. `patience` bounds each wait for an answer.
///
/// # Errors
/// What is told of the place cannot be used: an address, a name, a file of certificates.
pub fn open(place: &Place, patience: Duration) -> Result<Box<dyn ControlClient>, StorageError> {
    Ok(match place {
        Place::Local(path) => Box::new(local::Local::open(path, patience)?),
        Place::S3(place) => Box::new(S3::open(place, patience)?),
        Place::Rest(place) => Box::new(rest::Rest::open(place, patience)?),
        Place::Sftp(place) => Box::new(sftp::Sftp::open(place, patience)?),
    })
}

/// The certificate that is pinned for a server, in PEM: asked of the server, and taken only when it is the one.
///
/// # Errors
/// The server cannot be reached, or has another one.
pub(crate) fn certificate(base: &str, fingerprint: &str) -> Result<String, StorageError> {
    Ok(web::pinned_certificate(base, fingerprint)?)
}
