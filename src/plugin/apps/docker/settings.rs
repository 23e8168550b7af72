//! The settings of the plugin `docker`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::apps::docker::halt::How;
use crate::plugin::apps::docker::inventory::Binds;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::settings::exactly_one_of;

/// Where the engine of a usual host listens.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// What to keep of which engine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["project", "label", "containers", "volumes"]))]
pub(super) struct DockerSettings {
    /// The engine's socket, or the address of a socket proxy: `http://HOST:2375`, `https://…`.
    #[serde(default = "socket_default")]
    pub(super) socket: String,
    /// The compose project to keep, by its name. Exactly one of `project`, `label`, `containers` and `volumes` is given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) project: Option<String>,
    /// Keep the containers that have this label: `KEY` or `KEY=VALUE`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) label: Option<String>,
    /// Keep these containers, by name.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) containers: Vec<String>,
    /// Keep these volumes, by name; databases are not dumped then.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) volumes: Vec<String>,
    /// What the containers do while their files are read. Databases that are dumped go on.
    #[serde(default)]
    pub(super) stop: WhileRead,
    /// How many seconds a container gets to end by itself before the engine kills it.
    #[serde(default = "stop_timeout_default")]
    #[schemars(range(min = 1, max = 3600))]
    pub(super) stop_timeout: u32,
    /// Keep the volumes of the containers.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    pub(super) with_volumes: bool,
    /// Keep only these volumes, by name; none: all.
    #[serde(default)]
    pub(super) only_volumes: Vec<String>,
    /// Leave these out: volumes by name, bind mounts by their path on the host.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// What may be missing, by the name in the warning that tells of it: a bind mount's path, `CONTAINER/DATABASE` for a
    /// database that is gone, empty or cannot be dumped, `CONTAINER/users`, an empty volume's name, `VOLUME/PATH` for the
    /// files of a database that is written to while they are read.
    #[serde(default)]
    pub(super) accept: Vec<String>,
    /// Which bind mounts are kept: those below the compose project's directory, all (but never the host's own such as
    /// /etc/localtime and sockets), or none.
    #[serde(default)]
    pub(super) binds: Binds,
    /// Keep the compose and env files that the containers' labels name, where they are on this host.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    pub(super) compose_files: bool,
    /// Keep the containers' environment and env files; they usually hold passwords.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    pub(super) env: bool,
    /// Dump databases that run in the containers by their own client.
    #[serde(default)]
    pub(super) databases: Databases,
    /// Keep the data directories of databases that have a dump, too.
    #[serde(default)]
    pub(super) database_volumes: bool,
    /// Read volumes and bind mounts where they lie on this host instead of through the engine; not with `stop`.
    #[serde(default)]
    pub(super) in_place: bool,
    /// Whether a volume may be there without holding a single file.
    #[serde(default)]
    pub(super) allow_empty: bool,
}

fn socket_default() -> String {
    SOCKET.to_owned()
}

fn stop_timeout_default() -> u32 {
    10
}

/// What containers do while their files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhileRead {
    #[default]
    None,
    Pause,
    Stop,
}

impl WhileRead {
    pub(super) fn how(self) -> Option<How> {
        match self {
            Self::None => None,
            Self::Pause => Some(How::Pause),
            Self::Stop => Some(How::Stop),
        }
    }
}

/// Whether databases are dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Databases {
    /// Every one that is recognised and runs.
    #[default]
    Auto,
    Off,
}

/// Which containers or volumes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Project(String),
    Label(String),
    Containers(Vec<String>),
    Volumes(Vec<String>),
}

impl DockerSettings {
    pub(super) fn chosen(&self) -> Result<Chosen, Failure> {
        let refuse = |what: String| {
            Err(Failure::new(codes::SETTINGS, what)
                .hint("give exactly one of `project: NAME`, `label: KEY=VALUE`, `containers: [..]`, `volumes: [..]`"))
        };
        if self.in_place && self.stop != WhileRead::None {
            return Err(Failure::new(codes::SETTINGS, "`in_place` and `stop` exclude each other")
                .hint("in place, the files are read after the containers were started again"));
        }
        if let Some(bad) = self.containers.iter().chain(&self.volumes).find(|name| !is_name(name)) {
            return refuse(format!("{bad:?} is no name of a container or volume"));
        }
        let given = [
            self.project.clone().map(Chosen::Project),
            self.label.clone().map(Chosen::Label),
            Some(self.containers.clone()).filter(|all| !all.is_empty()).map(Chosen::Containers),
            Some(self.volumes.clone()).filter(|all| !all.is_empty()).map(Chosen::Volumes),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(Chosen::Project(text) | Chosen::Label(text)), None) if text.is_empty() => {
                refuse("a name is empty".to_owned())
            }
            (Some(one), None) => Ok(one),
            (None, _) => refuse("nothing is named".to_owned()),
            (Some(_), Some(_)) => refuse("more than one is given".to_owned()),
        }
    }

    /// Longer than a container may take to stop.
    pub(super) fn patience(&self, least: Duration) -> Duration {
        least.max(Duration::from_secs(u64::from(self.stop_timeout) + 60))
    }
}

/// As engines allow them; nothing that would lead a call elsewhere.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && text.len() <= 255
}
