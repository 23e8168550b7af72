//! Which program, and what of it is kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::inside::{AtLeast, Inside};
use crate::plugin::kit::settings::{Secret, exactly_one_of};

/// Which program, and what of it is kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["stdout", "files"]))]
pub(super) struct CommandSettings {
    /// The program's file name in the operator's `commands/` directory.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub(super) command: String,
    /// Its arguments, as they are: there is no shell.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// Keep its standard output as a file of this name. Exactly one of `stdout` and `files` is given.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub(super) stdout: Option<String>,
    /// Keep the files in its working directory that one of these patterns matches: `*.sql`, `export/**`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) files: Vec<String>,
    /// Environment variables with secrets.
    #[serde(default)]
    pub(super) env_secrets: BTreeMap<String, Secret>,
    /// What every file must be.
    #[serde(default)]
    pub(super) checks: Checks,
    /// What must be true of what is inside of every file, through gzip, xz, zstd, bzip2, tar and zip.
    #[serde(default)]
    pub(super) inside: Option<Inside>,
    /// What puts the backup back into the application.
    #[serde(default)]
    pub(super) restore: Option<RestoreCommand>,
}

/// A program that gets what `command` gave.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreCommand {
    /// The program's file name in the operator's `commands/` directory.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub(super) command: String,
    /// Its arguments, as they are: there is no shell.
    #[serde(default)]
    pub(super) args: Vec<String>,
}

/// What every file must be.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Checks {
    /// One JSON object or list with something in it, read to its end.
    #[serde(default)]
    pub(super) json: bool,
    /// Compressed by gzip; read to its end, with its checksum.
    #[serde(default)]
    pub(super) gzip: bool,
    /// At least so many bytes: `10KiB`, or a number.
    #[serde(default)]
    pub(super) min_size: AtLeast,
    /// This text is somewhere in it (not in what is compressed).
    #[serde(default)]
    pub(super) contains: Option<String>,
    /// The same as `inside` beside `checks`.
    #[serde(default)]
    pub(super) inside: Option<Inside>,
}

impl Checks {
    pub(super) fn is_any(&self) -> bool {
        self.json || self.gzip || self.min_size.0 > 0 || self.contains.is_some() || self.inside.is_some()
    }
}
