//! What a restore may be told, and the places that it puts things into.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::apps::docker::inventory::ItemKind;
use crate::plugin::apps::docker::list::Kept;
use crate::plugin::apps::docker::load::Server;
use crate::plugin::apps::docker::read;
use crate::plugin::apps::docker::settings::DockerSettings;
use crate::plugin::kit::restore::RestoreJob;
use crate::plugin::protocol::{Step, Verb};

/// What the operator may choose.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin::apps::docker) struct Options {
    /// Put volumes in the place of some that are not empty, replace compose files that differ, and databases that have
    /// something in them. What was in a volume is kept beside it.
    #[serde(default)]
    pub(in crate::plugin::apps::docker) overwrite: bool,
    /// Only these volumes (by name), bind mounts (by path) and databases (by the container's name); none: all.
    #[serde(default)]
    pub(in crate::plugin::apps::docker) only: Vec<String>,
}

pub(in crate::plugin::apps::docker) type Job<'j> = RestoreJob<'j, DockerSettings, Options>;

/// A volume or bind and where it is mounted now.
pub(in crate::plugin::apps::docker) struct Place {
    pub(in crate::plugin::apps::docker) kept: Kept,
    pub(in crate::plugin::apps::docker) artifact: String,
    /// Its id.
    pub(in crate::plugin::apps::docker) container: String,
    pub(in crate::plugin::apps::docker) container_name: String,
    pub(in crate::plugin::apps::docker) destination: String,
    pub(in crate::plugin::apps::docker) source: PathBuf,
    /// What it is called now: an anonymous volume gets another name with each container.
    pub(in crate::plugin::apps::docker) named: (ItemKind, String),
    /// Whether any container may write to it; then the one above may.
    pub(in crate::plugin::apps::docker) writable: bool,
    /// What stays as it is, relative to its root: other mounts cover it, or a database lives there that is put back by
    /// its dump.
    pub(in crate::plugin::apps::docker) without: Vec<String>,
    pub(in crate::plugin::apps::docker) filled: bool,
}

impl Place {
    /// Whether the data of a server is put back with it.
    pub(in crate::plugin::apps::docker) fn holds(&self, server: &Server) -> bool {
        let subpath = self.kept.subpath.as_deref();
        server.data().is_some_and(|data| data.is_part_of(&self.named, subpath, &self.without))
    }

    pub(in crate::plugin::apps::docker) fn shown(&self) -> String {
        thing(&self.kept)
    }

    /// What is done with it.
    pub(super) fn step(&self, options: &Options) -> Step {
        let verb = if self.filled { Verb::Replace } else { Verb::Create };
        let what = format!("{} files, through {}", self.kept.contents.files, self.container_name);
        let detail = match (self.filled, options.overwrite) {
            (false, _) => what,
            (true, true) => format!("{what}; it is not empty; what is there is kept beside"),
            (true, false) => format!("{what}; it is not empty, so this is refused without `overwrite`"),
        };
        Step::new(verb, self.shown(), detail)
    }

    pub(in crate::plugin::apps::docker) fn read_at(&self) -> read::Place<'_> {
        let (container, destination) = (self.container.as_str(), self.destination.as_str());
        read::Place { container, destination, source: &self.source, without: &self.without }
    }
}

pub(super) fn thing(kept: &Kept) -> String {
    match kept.kind {
        ItemKind::Volume => format!("volume {}", kept.name),
        ItemKind::Bind => format!("bind mount {}", kept.name),
    }
}
