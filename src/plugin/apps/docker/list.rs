//! The file `inventory.json`: what an artifact of the plugin `docker` holds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plugin::apps::docker::content::{Contents, Owner};
use crate::plugin::apps::docker::inventory::{ItemKind, LeftOut, State};

/// The file `inventory.json`: what the artifact holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Inventory {
    pub(super) version: u32,
    pub(super) engine: String,
    pub(super) project: Option<String>,
    pub(super) containers: Vec<Brief>,
    pub(super) volumes: Vec<Kept>,
    pub(super) dumps: Vec<Dump>,
    pub(super) files: Vec<KeptFile>,
    /// Directories on the way to those files.
    #[serde(default)]
    pub(super) directories: Vec<KeptDirectory>,
    /// What is not in the backup, and by whose choice.
    #[serde(default)]
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Brief {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) image: String,
    pub(super) state: State,
    /// The artifact with all of it.
    pub(super) artifact: String,
}

/// A volume or bind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) kind: ItemKind,
    pub(super) name: String,
    pub(super) container: String,
    pub(super) destination: String,
    /// None: shipped in place from `source`.
    pub(super) artifact: Option<String>,
    pub(super) source: PathBuf,
    pub(super) contents: Contents,
    /// Which directory of the volume it is; none: all of it. `name` is `volume/subpath` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subpath: Option<String>,
    /// What is left out of it, relative to its root: what other mounts of the container cover, and the data of databases
    /// that have a dump. A restore leaves these alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) without: Vec<String>,
    /// Databases of programs that were found in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) databases: Vec<Found>,
}

/// A database of a program among the files of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Relative to the volume's root.
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) state: Quiet,
    pub(super) detail: String,
}

/// Whether the copy of a database is one of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Quiet {
    /// It is: nobody wrote, or it was copied by its own backup.
    Sound,
    /// Nobody knows: its program worked meanwhile.
    Unknown,
    /// It is, but the program's own check finds it damaged.
    Damaged,
    /// As `Unknown`, and the config accepts it.
    Accepted,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dump {
    pub(super) artifact: String,
    pub(super) format: String,
    pub(super) container: String,
    pub(super) database: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptFile {
    pub(super) artifact: String,
    /// On the host.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    #[serde(default)]
    pub(super) owner: Option<Owner>,
}

/// A directory that a kept file lies in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptDirectory {
    /// On the host.
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
}
