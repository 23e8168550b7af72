//! Which Pi-hole, and how to log in.

use schemars::JsonSchema;
use serde::Deserialize;

use super::login::Credential;
use super::totp::Seed;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::settings::Secret;
use crate::web::Web;

endpoint_settings! {
    /// Which Pi-hole.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct PiholeSettings {
        /// Where it answers, such as `https://pihole.lan`, without `/admin`.
        #[schemars(regex(pattern = "^https?://"))]
        pub(super) url: String,
        /// The app password, or the web password; not needed where the Pi-hole has none.
        #[serde(default)]
        pub(super) password: Option<Secret>,
        /// Where the web password needs a second factor: its secret, as the Pi-hole showed it beside the QR code (base32).
        #[serde(default)]
        pub(super) totp_secret: Option<Secret>,
    }
}

impl PiholeSettings {
    pub(super) fn web(&self) -> Result<Web, Failure> {
        let url = self.url.trim_end_matches('/').trim_end_matches("/admin").trim_end_matches("/api");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, self.silence)
    }

    pub(super) fn credential(&self) -> Result<Credential, Failure> {
        let refuse = |what: &str, hint: &str| Failure::new(codes::SETTINGS, what).hint(hint);
        let seed = match (&self.totp_secret, &self.password) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(refuse("`totp_secret` is given without `password`", "a code goes with the web password"));
            }
            // The text is not shown, whatever it is.
            (Some(text), Some(_)) => Some(Seed::read(&text.0).ok_or_else(|| {
                refuse(
                    "`totp_secret` is not base32",
                    "give the 32 letters and digits beside the QR code, not a code of six digits and no address",
                )
            })?),
        };
        Ok(Credential { password: self.password.as_ref().map(|password| password.0.clone()), seed })
    }
}
