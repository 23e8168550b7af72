//! Which Home Assistant, and what of it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::web::Web;

endpoint_settings! {
    /// Which Home Assistant, and what of it.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct HaSettings {
        /// Where it is, such as `http://homeassistant.lan:8123`.
        #[schemars(regex(pattern = "^https?://"))]
        pub(super) url: String,
        /// A long-lived access token of an administrator.
        pub(super) token: Secret,
        /// Keep the recorder's database (history) too.
        #[serde(default = "crate::plugin::kit::settings::yes")]
        pub(super) include_database: bool,
        /// On Home Assistant OS: keep the add-ons with their data.
        #[serde(default = "crate::plugin::kit::settings::yes")]
        pub(super) include_addons: bool,
        /// On Home Assistant OS: which folders to keep besides the configuration.
        #[serde(default = "folders_default")]
        pub(super) folders: Vec<Folder>,
        /// Leave the backup on the server too.
        #[serde(default)]
        pub(super) keep_on_server: bool,
        /// Where Home Assistant makes it; by default its own disk (`hassio.local` or `backup.local`).
        #[serde(default)]
        pub(super) agent: Option<String>,
        /// How long the backup may take.
        #[serde(default = "wait_default")]
        pub(super) wait: Patience,
        /// How often to look whether it is ready.
        #[serde(default = "poll_default")]
        pub(super) poll: Patience,
    }
}

/// A folder of Home Assistant OS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
pub(super) enum Folder {
    #[serde(rename = "addons/local")]
    LocalAddons,
    #[serde(rename = "media")]
    Media,
    #[serde(rename = "share")]
    Share,
    #[serde(rename = "ssl")]
    Ssl,
}

fn folders_default() -> Vec<Folder> {
    vec![Folder::LocalAddons, Folder::Share, Folder::Ssl]
}

fn wait_default() -> Patience {
    Patience(std::time::Duration::from_hours(2))
}

fn poll_default() -> Patience {
    Patience(std::time::Duration::from_secs(2))
}

impl HaSettings {
    pub(super) fn web(&self) -> Result<Web, Failure> {
        let url = self.url.trim_end_matches('/').trim_end_matches("/api");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, self.silence)
    }
}
