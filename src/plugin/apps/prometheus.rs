//! The plugin `prometheus`: its configuration and rules from the disk, and its blocks by a snapshot if wanted.
//!
//! What the API tells as the loaded configuration has `<secret>` in the place of each secret, no comments, and promtool
//! finds nothing wrong with it: it is kept as an inventory, to compare with, and never counts as what can be put back.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod blocks;
mod capture;
mod files;
mod loaded;
mod promtool;
mod recover;
mod references;
mod restore;
mod settings;
mod snapshot;
mod validate;

use settings::PrometheusSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "prometheus",
    summary: "Prometheus: configuration and rules from disk, its time series by a snapshot",
    guide: GUIDE,
    schema: || schemars::schema_for!(PrometheusSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
};

const GUIDE: &str = "
In the backup: with `config_file` that file and what it names as rule files, scrape config files and file_sd files; with
`tsdb_snapshot` every block of the time series, the newest samples included, by Prometheus's own snapshot, which is
deleted on the server again. Beside them the configuration that is loaded, as the API tells it, as an inventory: the
secrets in it are `<secret>`, so it cannot be put back.

Not in it: files that the configuration names for secrets and certificates (`password_file`, `credentials_file`, …): keep
them with `files`. Also not: the flags that Prometheus is started with, remote storage, Alertmanager.

Least privilege: read permission on the configuration. A snapshot needs --web.enable-admin-api at the server, and write
permission in <data_dir>/snapshots, which must be mounted on this host: there is no download. The blocks are copied, so
there must be room for them where the artifacts lie.

Restore: `larder restore TARGET --into TARGET` puts the files back to their paths, after promtool found them good; what
was there is kept beside. Blocks go into a data directory with `--option data_dir=PATH`, whose server is stopped: it
has the time series of the backup then and no others, which are kept in its directory `before-…`.";

const FILES: &str = "files";
const FILE_FORMAT: &str = "prometheus-file";
const RIGHTS: &str = "files.json";
const RIGHTS_FORMAT: &str = "prometheus-file-rights";
const TSDB: &str = "tsdb";
const TSDB_FORMAT: &str = "prometheus-block";

/// Below `files` in the staging directory lies each file at its absolute path.
fn mirrored(staging: &Path, path: &Path) -> PathBuf {
    staging.join(FILES).join(path.strip_prefix("/").unwrap_or(path))
}

/// No secret goes to promtool.
fn no_secrets() -> Vec<SecretString> {
    Vec::new()
}
