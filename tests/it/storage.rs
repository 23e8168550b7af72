//! The control client of storages against real servers: one suite that all must pass, and what is hostile.

mod conformance;
mod hostile;
mod versions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::config::model::{BucketStyle, Tls};
use larder::storage::{ControlClient, Place, Question, RestPlace, S3Place, SftpPlace, Step, StorageError, open};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::support::storages::{ACCESS_KEY, SECRET_KEY, s3_place as s3};
use super::support::{self, storages};

const PATIENCE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "p4ssword of the login";
/// What no error may hold.
const SECRETS: [&str; 4] = [SECRET_KEY, PASSWORD, "wr0ng-secret", "X-Amz-Signature"];

fn rest(port: u16) -> RestPlace {
    let _ = rustls::crypto::ring::default_provider().install_default();
    RestPlace {
        url: format!("http://127.0.0.1:{port}/repo/"),
        user: Some("backup".to_owned()),
        password: Some(SecretString::from(PASSWORD)),
        tls: Tls::default(),
        allow_http: false,
    }
}

fn sftp(port: u16, path: &str, known: String) -> SftpPlace {
    SftpPlace {
        host: "127.0.0.1".to_owned(),
        port,
        user: "backup".to_owned(),
        path: path.to_owned(),
        key: None,
        password: None,
        known_hosts: vec![known],
        askpass: support::larder(),
        mark: "test:storage".to_owned(),
    }
}

/// By a key at a server that [`storages::sshd`] started.
fn sftp_by_key(server: &storages::Server, path: &Path) -> SftpPlace {
    let at = |name: &str| server.directory.path().join(name);
    SftpPlace {
        user: nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name,
        key: Some(SecretString::from(std::fs::read_to_string(at("login")).unwrap())),
        ..sftp(server.port, path.to_str().unwrap(), storages::public(&at("host")))
    }
}

fn opened(place: Place) -> Box<dyn ControlClient> {
    let shown = format!("{place:?}");
    assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
    open(&place, PATIENCE).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The error, which tells no secret however it is shown.
fn told<T>(answer: Result<T, StorageError>) -> StorageError {
    let error = answer.err().expect("an error");
    no_secret(&error);
    error
}

fn no_secret(error: &StorageError) {
    let all = format!("{error} {error:?} {:?} {}", error.trouble(), larder::error::chain(error));
    assert!(!SECRETS.iter().any(|secret| all.contains(secret)), "{all}");
}

/// One letter a step: `o`, `F`, `-`.
fn letters(probe: &larder::storage::Probe) -> String {
    probe
        .steps()
        .map(|(_, step)| match step {
            Step::Ok(_) => 'o',
            Step::NotTried(_) => '-',
            Step::Failed(error) => {
                no_secret(error);
                'F'
            }
        })
        .collect()
}

fn detail(probe: &larder::storage::Probe, question: Question) -> String {
    match probe.step(question) {
        Some(Step::Ok(detail)) => detail.clone(),
        other => panic!("{question:?}: {other:?}"),
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() { open.push(entry.path()) } else { all.push(entry.path()) }
        }
    }
    all.sort();
    all
}
