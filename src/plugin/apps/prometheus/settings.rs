//! Which Prometheus, and what of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::endpoint::endpoint_settings;
use crate::plugin::kit::settings::Secret;

endpoint_settings! {
    /// Which Prometheus.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct PrometheusSettings {
        /// Address, with its route prefix if it has one: `http://prometheus.lan:9090`.
        #[schemars(regex(pattern = "^https?://[^@]+$"))]
        pub(super) url: String,
        /// Its configuration as this host sees it: `/etc/prometheus/prometheus.yml`.
        #[serde(default)]
        #[schemars(regex(pattern = "^/"))]
        pub(super) config_file: Option<PathBuf>,
        /// Keep the time series too.
        #[serde(default)]
        pub(super) tsdb_snapshot: Option<Tsdb>,
        /// Login, where the server wants one.
        #[serde(default)]
        pub(super) username: Option<String>,
        /// The password that belongs to `username`.
        #[serde(default)]
        pub(super) password: Option<Secret>,
        /// Bearer token, where a proxy wants one.
        #[serde(default)]
        pub(super) token: Option<Secret>,
        /// The program promtool; without it the one on the PATH. Without any, files and blocks are checked less deeply.
        #[serde(default)]
        #[schemars(regex(pattern = "^/"))]
        pub(super) promtool: Option<PathBuf>,
    }
}

/// Where the time series lie.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tsdb {
    /// The server's `--storage.tsdb.path` as this host sees it.
    #[schemars(regex(pattern = "^/"))]
    pub(super) data_dir: PathBuf,
}
