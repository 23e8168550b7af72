//! Which Invoice Ninja: an installation, or a company of one.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::web::{Call, Web};

endpoint_settings! {
    /// Which Invoice Ninja.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[schemars(transform = exactly_one_of(&["directory", "url"]))]
    pub(super) struct NinjaSettings {
        /// Where it is installed on this host. Exactly one of `directory` and `url` is given.
        #[serde(default)]
        #[schemars(regex(pattern = "^/"))]
        pub(super) directory: Option<PathBuf>,
        /// With `directory`: what is to be used instead of what .env says of the database.
        #[serde(default)]
        pub(super) database: Option<DatabaseSettings>,
        /// Where a company is that is kept by its export, such as `https://invoices.lan`.
        #[serde(default)]
        #[schemars(regex(pattern = "^https?://"))]
        pub(super) url: Option<String>,
        /// With `url`: an API token of an administrator of the company.
        #[serde(default)]
        pub(super) token: Option<Secret>,
        /// How long the export may take.
        #[serde(default = "wait_default")]
        pub(super) wait: Patience,
        /// How often to look whether it is ready.
        #[serde(default = "poll_default")]
        pub(super) poll: Patience,
    }
}

/// How to reach the database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseSettings {
    /// Name or address of the server.
    #[serde(default)]
    pub(super) host: Option<String>,
    /// Port of the server.
    #[serde(default)]
    pub(super) port: Option<u16>,
    /// The server's Unix socket.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    pub(super) socket: Option<PathBuf>,
    /// The user to log in as.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// The password of `user`.
    #[serde(default)]
    pub(super) password: Option<Secret>,
}

fn wait_default() -> Patience {
    Patience(std::time::Duration::from_mins(30))
}

fn poll_default() -> Patience {
    Patience(std::time::Duration::from_secs(5))
}

impl NinjaSettings {
    pub(super) fn web(&self, silence: Patience) -> Result<Web, Failure> {
        let url = self.url.as_deref().unwrap_or_default().trim_end_matches('/').trim_end_matches("/api/v1");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, silence)
    }

    pub(super) fn dress<'w>(&self, call: Call<'w>) -> Call<'w> {
        // Without the second an error is a redirect to a page.
        let call = call.header("accept", "application/json").header("x-requested-with", "XMLHttpRequest");
        match &self.token {
            Some(token) => call.secret_header("x-api-token", &token.0),
            None => call,
        }
    }
}
