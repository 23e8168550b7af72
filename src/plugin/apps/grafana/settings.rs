//! Which Grafana, and how to get in.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::endpoint::endpoint_settings;
use crate::plugin::kit::settings::Secret;

endpoint_settings! {
    /// Which Grafana, and how to get in.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct GrafanaSettings {
        /// Address as the browser shows it, with a sub-path if there is one: `https://grafana.lan`.
        #[schemars(regex(pattern = "^https?://[^@]+$"))]
        pub(super) url: String,
        /// A service account token (`glsa_…`) with the role Admin. It, or `username` and `password`.
        #[serde(default)]
        pub(super) token: Option<Secret>,
        /// An organisation admin, where no token is used.
        #[serde(default)]
        pub(super) username: Option<String>,
        /// The password that belongs to `username`.
        #[serde(default)]
        pub(super) password: Option<Secret>,
        /// The organisation's number, with `username`; a token belongs to one.
        #[serde(default)]
        #[schemars(range(min = 1))]
        pub(super) org: Option<u64>,
        /// Accept a backup with fewer objects than the one before: for the run after a big clean-up.
        #[serde(default)]
        pub(super) allow_fewer: bool,
        /// Dashboards, by their uid, that Grafana lists but does not give, and that the backup may be without.
        #[serde(default)]
        pub(super) accept_unseen: Vec<String>,
        /// Whether Grafana may be without any dashboard, folder and data source.
        #[serde(default)]
        pub(super) allow_empty: bool,
    }
}
