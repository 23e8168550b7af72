//! A REST server (rest-server, `rclone serve restic`): restic's own protocol, which knows restic's own types only.
//!
//! In append-only mode locks can be deleted and nothing else. Whether something could be deleted is asked with the name of
//! a pack that nobody has.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::http::{Http, moment};
use super::name;
use super::probe::{Probe, Question};
use super::{ControlClient, LISTED_MAX, Listed, RestPlace, Stat, StorageError};
use crate::web::{Answer, WebError};

/// Directories of a repository behind this protocol.
const TYPES: [&str; 5] = ["data", "keys", "locks", "snapshots", "index"];
/// Lists with sizes.
const LIST_V2: &str = "application/vnd.x.restic.rest.v2";
/// Longest list, in bytes: [`LISTED_MAX`] names of 64 characters with their sizes.
const LIST_BYTES_MAX: u64 = 32 << 20;

/// A repository behind a REST server.
pub(super) struct Rest {
    http: Http,
    login: Option<(String, SecretString)>,
}

/// An entry of a list, of version 2 or 1.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Sized { name: String, size: u64 },
    Named(String),
}

impl Rest {
    pub(super) fn open(place: &RestPlace, patience: Duration) -> Result<Self, StorageError> {
        let http = Http::open(&place.url, &place.tls, place.allow_http, patience)?;
        let login = match (&place.user, &place.password) {
            (None, None) => None,
            (user, password) => Some((user.clone().unwrap_or_default(), password.clone().unwrap_or_default())),
        };
        Ok(Self { http, login })
    }

    fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer<'_>, StorageError> {
        let mut call = self.http.call(method, path).header("accept", LIST_V2);
        if let Some((user, password)) = &self.login {
            call = call.basic(user, password);
        }
        if let Some(body) = body {
            call = call.body("application/octet-stream", body.to_vec());
        }
        self.http.send(call)
    }

    fn refusal(&self, answer: Answer<'_>, what: &str) -> StorageError {
        let (place, what, status) = (self.shown(), what.to_owned(), answer.status());
        let said = answer.said();
        let detail = if said.is_empty() { format!("status {status}") } else { format!("status {status}, {said}") };
        match status {
            401 => StorageError::Login { place, detail: String::new() },
            403 => StorageError::Denied { place, what, detail },
            429 | 503 => StorageError::Busy { place, detail },
            405 | 501 => StorageError::Unsupported { place, what },
            413 | 507 => StorageError::Full { place, detail },
            404 => {
                let name = what.split_once(' ').map_or(what.clone(), |(_, name)| name.to_owned());
                StorageError::NotFound { place, name }
            }
            _ => StorageError::Unexpected { place, what, detail },
        }
    }

    fn asks(&self, probe: &mut Probe) -> Result<(), (Question, StorageError)> {
        let config = self.send("HEAD", "/config", None).map_err(|error| (Question::Reachable, error))?;
        probe.ok(Question::Reachable, "it answers");
        let is_there = match config.status() {
            200 => true,
            404 => false,
            _ => return Err((Question::Authorised, self.refusal(config, "look at config"))),
        };
        probe.not_tried(Question::Room, "the protocol does not tell");
        if !is_there {
            // Any web server says so of any path.
            probe.not_tried(Question::Authorised, "nothing is there yet that a login would open");
            probe.not_tried(
                Question::Place,
                "whether this is a REST server shows when the first run makes the repository",
            );
            probe.repository(false);
            probe.not_tried(Question::Writable, "only in a repository a file can be put, and there is none yet");
            probe.not_tried(Question::Deletable, "there is no repository yet");
            return Ok(());
        }
        probe.ok(Question::Authorised, if self.login.is_some() { "the login is taken" } else { "no login is needed" });
        probe.ok(Question::Place, "the server takes the path");
        probe.repository(true);
        let nobody = hex::encode(Sha256::digest(name::of_probe().as_bytes()));
        let asked = self.send("DELETE", &format!("/data/{nobody}"), None);
        let asked = asked.map_err(|error| (Question::Deletable, error))?;
        match asked.status() {
            403 | 405 => {
                probe.keeps("no: the server is append-only");
                probe.not_tried(Question::Writable, "an append-only server would keep what is put for a trial");
                return Ok(());
            }
            200 | 204 | 404 => probe.deletes("yes"),
            _ => return Err((Question::Deletable, self.refusal(asked, "delete a pack"))),
        }
        // A pack that no index names: whatever becomes of the trial, nobody reads it, and a prune removes it. A file of any
        // other type that is none of restic's would keep everybody out.
        let bytes = name::of_probe().into_bytes();
        let pack = format!("data/{}", hex::encode(Sha256::digest(&bytes)));
        let put = self.send("POST", &format!("/{pack}"), Some(&bytes)).map_err(|error| (Question::Writable, error))?;
        if !put.is_ok() {
            return Err((Question::Writable, self.refusal(put, "put a file")));
        }
        let back = self.get(&pack, 1 << 10);
        let gone = self.delete(&pack);
        let back = back.map_err(|error| (Question::Writable, error))?;
        gone.map_err(|error| (Question::Deletable, error))?;
        if back != Some(bytes) {
            let (place, what) = (self.shown(), "a file that was just put".to_owned());
            let detail = "it is not what was put".to_owned();
            return Err((Question::Writable, StorageError::Unexpected { place, what, detail }));
        }
        probe.ok(Question::Writable, "a pack was put, read back and deleted");
        Ok(())
    }
}

/// The path of a name; only restic's own types are there.
fn path(name: &str) -> Result<String, StorageError> {
    name::check(name)?;
    let is_known = match name.split_once('/') {
        None => name == "config",
        Some((directory, file)) => TYPES.contains(&directory) && file.bytes().all(|byte| byte.is_ascii_alphanumeric()),
    };
    if is_known {
        return Ok(format!("/{name}"));
    }
    let why = "behind REST there are `config` and the files of data, keys, locks, snapshots and index";
    Err(StorageError::BadName { name: name.to_owned(), why })
}

impl ControlClient for Rest {
    fn stat(&self, name: &str) -> Result<Option<Stat>, StorageError> {
        let answer = self.send("HEAD", &path(name)?, None)?;
        match (answer.status(), answer.announced()) {
            (200, Some(bytes)) => {
                let modified = answer.header("last-modified").and_then(|date| moment(&date));
                Ok(Some(Stat { bytes, modified }))
            }
            (200, None) => {
                let (place, what) = (self.shown(), name.to_owned());
                let detail = "it does not say how long it is".to_owned();
                Err(StorageError::Unexpected { place, what, detail })
            }
            (404, _) => Ok(None),
            _ => Err(self.refusal(answer, &format!("look at {name}"))),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        name::check_directory(directory)?;
        if !TYPES.contains(&directory) {
            let why = "behind REST there are the directories data, keys, locks, snapshots and index";
            return Err(StorageError::BadName { name: directory.to_owned(), why });
        }
        let answer = self.send("GET", &format!("/{directory}/"), None)?;
        match answer.status() {
            200 => {}
            404 => return Ok(Vec::new()),
            _ => return Err(self.refusal(answer, &format!("list {directory}"))),
        }
        let entries: Option<Vec<Entry>> = answer.json_up_to(LIST_BYTES_MAX)?;
        let all: Vec<Listed> = entries
            .unwrap_or_default()
            .into_iter()
            .map(|entry| match entry {
                Entry::Sized { name, size } => Listed { name, bytes: size, modified: None },
                // Version 1 has no sizes.
                Entry::Named(name) => Listed { name, bytes: 0, modified: None },
            })
            .collect();
        if all.len() > LISTED_MAX {
            let (place, directory) = (self.shown(), directory.to_owned());
            return Err(StorageError::TooMany { place, directory, count_max: LISTED_MAX });
        }
        Ok(all)
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let answer = self.send("GET", &path(name)?, None)?;
        match answer.status() {
            200 => match answer.bytes(bytes_max) {
                Err(WebError::TooLarge { .. }) => {
                    Err(StorageError::TooLarge { place: self.shown(), name: name.to_owned(), bytes_max })
                }
                read => Ok(Some(read?)),
            },
            404 => Ok(None),
            _ => Err(self.refusal(answer, &format!("read {name}"))),
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let path = path(name)?;
        let exists = || StorageError::Exists { place: self.shown(), name: name.to_owned() };
        // Not every server refuses to overwrite.
        if self.stat(name)?.is_some() {
            return Err(exists());
        }
        let answer = self.send("POST", &path, Some(bytes))?;
        if answer.is_ok() {
            return Ok(());
        }
        // What an append-only server says of one that is there, and of what it does not take at all.
        if answer.status() == 403 && self.stat(name)?.is_some() {
            return Err(exists());
        }
        Err(self.refusal(answer, &format!("put {name}")))
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let answer = self.send("DELETE", &path(name)?, None)?;
        if answer.is_ok() { Ok(()) } else { Err(self.refusal(answer, &format!("delete {name}"))) }
    }

    fn probe(&self) -> Probe {
        self.http.probed(|probe| self.asks(probe))
    }

    fn shown(&self) -> String {
        self.http.shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_repository_has_is_asked_for() {
        assert_eq!(path("config").unwrap(), "/config");
        assert_eq!(path("keys/ab12").unwrap(), "/keys/ab12");
        for bad in ["larder-probe-x", "keys", "other/ab", "keys/a?b", "keys/a%2e", "data/ab/abcd", "../config"] {
            assert!(matches!(path(bad), Err(StorageError::BadName { .. })), "{bad}");
        }
        let entries: Vec<Entry> = serde_json::from_str("[{\"name\":\"a\",\"size\":1},\"b\"]").unwrap();
        assert!(matches!(&entries[..], [Entry::Sized { size: 1, .. }, Entry::Named(name)] if name == "b"));
    }
}
