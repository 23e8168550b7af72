//! Which application, and how to get in.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::endpoint::endpoint_settings;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::Request;

endpoint_settings! {
    /// Which application, and how to get in.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ArrSettings {
        /// Address of the web interface, with its URL base: `http://nas.lan:7878` or `https://media.lan/radarr`.
        #[schemars(regex(pattern = "^https?://[^@]+$"))]
        pub(super) url: String,
        /// The API key (Settings > General > Security).
        pub(super) api_key: Secret,
        /// Login of the web interface, for the download where it asks for a login by form.
        #[serde(default)]
        pub(super) username: Option<String>,
        /// The password that belongs to `username`.
        #[serde(default)]
        pub(super) password: Option<Secret>,
        /// The application's Backups directory as this host sees it: the file is copied from there, not downloaded.
        #[serde(default)]
        #[schemars(regex(pattern = "^/"))]
        pub(super) folder: Option<PathBuf>,
        /// The target that keeps the application's PostgreSQL database; needed only where it uses one.
        #[serde(default)]
        #[schemars(length(min = 1))]
        pub(super) database_target: Option<String>,
        /// How long the application may take to make its backup, or to be back after a restore: `10m`.
        #[serde(default = "wait_default")]
        pub(super) wait: Patience,
    }
}

fn wait_default() -> Patience {
    Patience(Duration::from_mins(10))
}

impl ArrSettings {
    pub(super) fn of(request: &Request) -> Result<Self, Failure> {
        let settings: Self = builtin::settings(request)?;
        settings.check()?;
        Ok(settings)
    }

    /// Says what the schema can't.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.username.is_some() == self.password.is_some() {
            return Ok(());
        }
        Err(Failure::new(codes::SETTINGS, "only one of `username` and `password` is given")
            .hint("give both for a login by form, or none"))
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait.0
    }
}
