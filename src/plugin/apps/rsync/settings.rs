//! The settings of the plugin `rsync`: which device, what of it, and where its copy lies here.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::Request;

/// Which device, and what of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RsyncSettings {
    /// The device's name or address.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:%-]+$"))]
    pub(super) host: String,
    /// The login there.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub(super) user: String,
    /// The port of its ssh.
    #[serde(default = "port_default")]
    #[schemars(range(min = 1))]
    pub(super) port: u16,
    /// The private key, without a passphrase.
    pub(super) key: Secret,
    /// A file with the device's host key, as `ssh-keyscan` writes it.
    #[schemars(regex(pattern = "^/"))]
    pub(super) known_hosts: PathBuf,
    /// Absolute paths on the device.
    #[schemars(length(min = 1), inner(regex(pattern = "^/")))]
    pub(super) paths: Vec<String>,
    /// Where the copy lies on this host: a directory for this target alone, with room for everything.
    #[schemars(regex(pattern = "^/"))]
    pub(super) copy: PathBuf,
    /// Patterns as rsync's `--exclude` reads them.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// Databases that may be fetched while they are in use, by their paths on the device, or directories of such ones.
    #[serde(default)]
    #[schemars(inner(regex(pattern = "^/")))]
    pub(super) accept: Vec<String>,
    /// Accept a source that has less than half of what it had before: for the run after a big clean-up.
    #[serde(default)]
    pub(super) allow_fewer: bool,
    /// At most so many KiB a second; 0: no bound.
    #[serde(default)]
    pub(super) bandwidth_kib: u64,
    /// How long the device may say nothing before it is given up.
    #[serde(default = "Patience::silence")]
    pub(super) silence: Patience,
}

fn port_default() -> u16 {
    22
}

/// Below the copy: the files themselves, so that nothing of ours is mixed with them.
pub(super) const TREE: &str = "tree";

impl RsyncSettings {
    pub(super) fn of(request: &Request) -> Result<Self, Failure> {
        let settings: Self = builtin::settings(request)?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses what no device, login, path or copy can be called.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let refuse = |what: &str, hint: &str| Err(Failure::new(codes::SETTINGS, what).hint(hint));
        let plain = |text: &str| !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_control);
        if !plain(&self.host) || self.host.contains(['@', '/', ' ']) {
            return refuse(
                "`host` is no name or address",
                "write the host alone; the login has its own setting `user`",
            );
        }
        if !plain(&self.user) || self.user.contains(['@', '/', ':', ' ']) {
            return refuse("`user` is no login", "write the login's name alone");
        }
        let bad = |path: &String| {
            !path.starts_with('/')
                || path.contains(char::is_control)
                || path.contains(['*', '?', '['])
                || path.split('/').any(|part| part == "..")
        };
        if self.paths.is_empty() || self.paths.iter().any(bad) {
            return refuse(
                "a path is not absolute, or has `..` or a wildcard in it",
                "write whole paths of the device: `/volume1/photos`",
            );
        }
        if !self.copy.is_absolute() || self.copy.components().count() < 3 {
            return refuse(
                "`copy` is no directory for this target alone",
                "write a path such as `/srv/larder-copies/NAME`",
            );
        }
        Ok(())
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.copy.join(TREE)
    }
}

/// Where a path of the device lies in the copy.
pub(super) fn below(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/').trim_end_matches('/'))
}
