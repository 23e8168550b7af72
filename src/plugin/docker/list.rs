//! The file `inventory.json`: what an artifact of the plugin `docker` holds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plugin::docker::content::Contents;
use crate::plugin::docker::inventory::{ItemKind, State};

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
}
