//! The engine: the few calls of Docker's API that are used, over its socket or a socket proxy.
//!
//! Calls name containers by id, never by name: a name can be taken by another container in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint;
use crate::plugin::kit::patience::Patience;
use crate::web::{Answer, Call, Saved, Web, WebError};

/// Longest list of containers or volumes that is read, in bytes.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// How much shows whether a volume is empty, in bytes.
const PEEK_BYTES: usize = 8 << 10;
/// What is said of an engine that isn't asked for its version by a header.
const API_DEFAULT: &str = "1.40";

/// A container engine that answered.
pub(crate) struct Engine {
    web: Web,
    prefix: String,
    place: String,
    /// Podman hands out archives with the owner that the container runs as instead of each file's own.
    pub(crate) podman: bool,
}

/// A container in a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) names: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// `running`, `paused`, `exited`, …
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) mounts: Option<Vec<Mount>>,
}

/// What is mounted into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    /// `volume`, `bind`, `tmpfs`, …
    #[serde(rename = "Type", default)]
    pub(crate) kind: String,
    /// A volume's.
    #[serde(default)]
    pub(crate) name: String,
    /// On the engine's host.
    #[serde(default)]
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) destination: String,
    /// Whether the container may write to it.
    #[serde(rename = "RW", default = "crate::plugin::kit::settings::yes")]
    pub(crate) writable: bool,
    /// Which directory of a volume it is; none: all of it. Engines tell it elsewhere, so it is known of an inspected
    /// container only.
    #[serde(skip)]
    pub(crate) subpath: Option<String>,
}

/// A named volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) mountpoint: String,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

impl Engine {
    /// Opens the engine at a socket's path or at the address of a socket proxy; `patience` is how long it may be silent.
    pub(crate) fn open(socket: &str, patience: Duration) -> Result<Self, Failure> {
        let plain = socket.strip_prefix("tcp://").map(|rest| format!("http://{rest}"));
        let address = plain.as_deref().unwrap_or(socket);
        let web = if address.starts_with("http://") || address.starts_with("https://") {
            endpoint::open(address, None, false, Patience(patience))?.without_idle_connections()?
        } else {
            let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
            if !path.is_absolute() {
                return Err(Failure::new(codes::SETTINGS, format!("`socket` {address:?} is no absolute path"))
                    .hint("write /var/run/docker.sock, or http://HOST:PORT of a socket proxy"));
            }
            Web::unix(path)?.patient(patience)?.without_idle_connections()?
        };
        let mut engine = Self { web, prefix: String::new(), place: socket.to_owned(), podman: false };
        let answer = engine.ask(|| engine.web.get("/_ping"))?;
        if !answer.is_ok() {
            return Err(engine.refused(answer, "PING"));
        }
        let version = answer.header("api-version").unwrap_or_else(|| API_DEFAULT.to_owned());
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(Failure::new(codes::NOT_AN_ENGINE, format!("{socket} does not answer as a container engine"))
                .hint("correct `socket`"));
        }
        engine.podman = answer.header("libpod-api-version").is_some();
        engine.prefix = format!("/v{version}");
        Ok(engine)
    }

    /// `Docker 27.1.1`.
    pub(crate) fn version(&self) -> Result<String, Failure> {
        let told: Value = self.get("/version", &[], "VERSION")?;
        let version = told.get("Version").and_then(Value::as_str).unwrap_or("of an unknown version");
        Ok(format!("{} {version}", if self.podman { "Podman" } else { "Docker" }))
    }

    /// Every container, running or not; with `label`, those that have it (`key` or `key=value`).
    pub(crate) fn containers(&self, label: Option<&str>) -> Result<Vec<Listed>, Failure> {
        let filters = label.map(|label| json!({ "label": [label] }).to_string());
        let mut query = vec![("all", "true")];
        query.extend(filters.as_deref().map(|filters| ("filters", filters)));
        self.get("/containers/json", &query, "CONTAINERS")
    }

    /// All that the engine knows of a container; none: there is none.
    pub(crate) fn inspect(&self, id: &str) -> Result<Option<Value>, Failure> {
        self.maybe(&format!("/containers/{id}/json"), "CONTAINERS")
    }

    pub(crate) fn volumes(&self) -> Result<Vec<Volume>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Volumes {
            #[serde(default)]
            volumes: Option<Vec<Volume>>,
        }
        Ok(self.get::<Volumes>("/volumes", &[], "VOLUMES")?.volumes.unwrap_or_default())
    }

    pub(crate) fn volume(&self, name: &str) -> Result<Option<Volume>, Failure> {
        self.maybe(&format!("/volumes/{name}"), "VOLUMES")
    }

    /// The digests under which a registry knows the image; none where the proxy hides images.
    pub(crate) fn digests(&self, image: &str) -> Option<Value> {
        let told: Value = self.maybe(&format!("/images/{image}/json"), "IMAGES").ok()??;
        told.get("RepoDigests").cloned()
    }

    /// Streams what lies at `path` in a container into `file`, as a tar.
    pub(crate) fn save(
        &self,
        id: &str,
        path: &str,
        file: &Path,
        on_bytes: impl FnMut(u64, u64),
    ) -> Result<Option<Saved>, Failure> {
        let answer = self.ask(|| self.web.get(&self.at(&format!("/containers/{id}/archive"))).query("path", path))?;
        match answer.status() {
            404 => Ok(None),
            _ if answer.is_ok() => Ok(Some(answer.save(file, u64::MAX, on_bytes)?)),
            _ => Err(self.refused(answer, "CONTAINERS")),
        }
    }

    /// The beginning of what `save` would write.
    pub(crate) fn peek(&self, id: &str, path: &str) -> Result<Vec<u8>, Failure> {
        let mut answer =
            self.ask(|| self.web.get(&self.at(&format!("/containers/{id}/archive"))).query("path", path))?;
        if !answer.is_ok() {
            return Err(self.refused(answer, "CONTAINERS"));
        }
        let mut beginning = Vec::new();
        while beginning.len() < PEEK_BYTES
            && let Some(bytes) = answer.chunk()?
        {
            beginning.extend(bytes);
        }
        Ok(beginning)
    }

    /// What lies at `path` in a container itself; none: nothing does, or the engine does not tell.
    pub(crate) fn stat(&self, id: &str, path: &str) -> Result<Option<Stat>, Failure> {
        let at = self.at(&format!("/containers/{id}/archive"));
        let answer = self.ask(|| self.web.call("HEAD", &at).query("path", path))?;
        let told = answer.header("x-docker-container-path-stat").filter(|_| answer.is_ok());
        Ok(told.and_then(|told| {
            let json = data_encoding::BASE64.decode(told.as_bytes()).ok()?;
            serde_json::from_slice(&json).ok()
        }))
    }

    /// The command lines of what works in a container; none where the engine does not tell.
    pub(crate) fn processes(&self, id: &str) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Top {
            titles: Vec<String>,
            processes: Vec<Vec<String>>,
        }
        let top: Top = self.get(&format!("/containers/{id}/top"), &[], "CONTAINERS").ok()?;
        let column = top.titles.iter().position(|title| matches!(title.as_str(), "CMD" | "COMMAND" | "ARGS"))?;
        Some(
            top.processes
                .into_iter()
                .filter_map(|mut row| (column < row.len()).then(|| row.swap_remove(column)))
                .collect(),
        )
    }

    /// Unpacks a tar at `path` in a container.
    pub(crate) fn load(&self, id: &str, path: &str, file: &Path) -> Result<(), Failure> {
        let call = self.web.put(&self.at(&format!("/containers/{id}/archive"))).query("path", path);
        let call = call.query("noOverwriteDirNonDir", "true").file("application/x-tar", file);
        let answer = call.send().map_err(|error| self.unreachable(&error))?;
        if answer.is_ok() { Ok(()) } else { Err(self.refused(answer, "CONTAINERS and POST (PUT)")) }
    }

    /// `start`, `stop`, `pause` or `unpause`; answers whether something changed. 404: the container is gone.
    pub(crate) fn switch(&self, id: &str, verb: &str, query: &[(&str, &str)]) -> Result<Switched, Failure> {
        let mut call = self.web.post(&self.at(&format!("/containers/{id}/{verb}")));
        for (name, value) in query {
            call = call.query(name, value);
        }
        let answer = call.send().map_err(|error| self.unreachable(&error))?;
        match answer.status() {
            404 => Ok(Switched::Gone),
            304 => Ok(Switched::Already),
            403 => Err(self.refused(answer, &format!("POST and ALLOW_{}", verb.to_uppercase()))),
            _ if answer.is_ok() => Ok(Switched::Done),
            _ => Ok(Switched::Refused(answer.said())),
        }
    }

    pub(super) fn post_json(&self, path: &str, body: &Value, permission: &str) -> Result<Answer<'_>, Failure> {
        let answer = self.web.post(&self.at(path)).json(body).send().map_err(|error| self.unreachable(&error))?;
        if answer.is_ok() || answer.status() == 101 { Ok(answer) } else { Err(self.refused(answer, permission)) }
    }

    /// A call whose connection becomes a stream in both directions; answered with 101.
    pub(super) fn post_stream(&self, path: &str, body: &Value, permission: &str) -> Result<Answer<'_>, Failure> {
        let call = self.web.post(&self.at(path)).header("connection", "Upgrade").header("upgrade", "tcp").json(body);
        let answer = call.send().map_err(|error| self.unreachable(&error))?;
        match answer.status() {
            101 => Ok(answer),
            200..=299 => Err(Failure::new(
                codes::NO_STREAM,
                format!("{}: {} lets nothing be sent to a program in a container", self.place, answer.what()),
            )
            .hint("the proxy before the engine must let connections be upgraded, as for `docker exec -i`")),
            _ => Err(self.refused(answer, permission)),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        permission: &str,
    ) -> Result<T, Failure> {
        let answer = self.ask(|| {
            let call = self.web.get(&self.at(path)).header("accept", "application/json");
            query.iter().fold(call, |call, (name, value)| call.query(name, value))
        })?;
        if !answer.is_ok() {
            return Err(self.refused(answer, permission));
        }
        Ok(answer.json_up_to(LIST_BYTES_MAX)?)
    }

    fn maybe<T: DeserializeOwned>(&self, path: &str, permission: &str) -> Result<Option<T>, Failure> {
        let answer = self.ask(|| self.web.get(&self.at(path)))?;
        match answer.status() {
            404 => Ok(None),
            _ if answer.is_ok() => Ok(Some(answer.json_up_to(LIST_BYTES_MAX)?)),
            _ => Err(self.refused(answer, permission)),
        }
    }

    fn ask<'e>(&'e self, call: impl FnOnce() -> Call<'e>) -> Result<Answer<'e>, Failure> {
        call().send().map_err(|error| self.unreachable(&error))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn unreachable(&self, error: &WebError) -> Failure {
        let failure =
            Failure::new(codes::ENGINE_UNREACHABLE, format!("{}: {}", self.place, crate::error::chain(error)));
        failure.hint(
            "start the container engine, correct `socket`, and let the daemon's user open the socket (group docker)",
        )
    }

    fn refused(&self, answer: Answer<'_>, permission: &str) -> Failure {
        let (status, what) = (answer.status(), answer.what().to_owned());
        let said = answer.said();
        let failure = Failure::new(codes::ENGINE_REFUSED, format!("{}: {what} answered {status}: {said}", self.place));
        match status {
            403 => {
                failure.hint(format!("the socket proxy must allow {permission}; see `larder plugin describe docker`"))
            }
            _ => failure.hint("look in the log of the container engine"),
        }
    }
}

/// A file or directory in a container.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stat {
    /// RFC 3339 with all digits that the file system has.
    pub(crate) mtime: String,
}

/// What came of starting, stopping, pausing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Switched {
    Done,
    /// It was so before.
    Already,
    Gone,
    /// What the engine said.
    Refused(String),
}
