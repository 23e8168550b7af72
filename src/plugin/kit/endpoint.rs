//! What the settings of plugins that speak HTTP have in common, and their failures.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::patience::Patience;
use crate::web::{ClearText, Trust, Web, WebError};

/// Whose certificates are trusted. Without it: the authorities that the system trusts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// A PEM file with the authorities to trust, such as the application's own.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the one certificate to trust, in hex.
    #[serde(default)]
    pub(crate) fingerprint: Option<String>,
}

/// Makes a struct of settings with what each plugin has that speaks HTTP: `tls`, `allow_http` and `silence`. They are fields
/// of it and no struct of their own, since serde takes no `flatten` beside `deny_unknown_fields`.
macro_rules! endpoint_settings {
    ($(#[$attribute:meta])* $visible:vis struct $name:ident { $($fields:tt)* }) => {
        $(#[$attribute])*
        $visible struct $name {
            $($fields)*
            /// Whose certificate to trust with https; without it the system's authorities.
            #[serde(default)]
            pub(crate) tls: Option<$crate::plugin::kit::endpoint::TlsSettings>,
            /// Send credentials over http:// to a host that is not in the own network.
            #[serde(default)]
            pub(crate) allow_http: bool,
            /// How long the application may say nothing before a call is given up.
            #[serde(default = "crate::plugin::kit::patience::Patience::silence")]
            pub(crate) silence: $crate::plugin::kit::patience::Patience,
        }
    };
}
pub(crate) use endpoint_settings;

/// Opens the application at `url`; credentials go over plain HTTP only within the own network, or with `allow_http`.
/// An answer may pause for as long as `silence`.
pub(crate) fn open(url: &str, tls: Option<&TlsSettings>, allow_http: bool, silence: Patience) -> Result<Web, Failure> {
    let tls = tls.cloned().unwrap_or_default();
    let trust = Trust::from_settings(tls.ca.as_deref(), tls.fingerprint.as_deref())?;
    let clear_text = if allow_http { ClearText::Allowed } else { ClearText::Refused };
    Ok(Web::open(url, trust, clear_text)?.patient(silence.0)?)
}

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        let failure = Self::new(error.code(), crate::error::chain(&error));
        let failure = match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        if error.may_pass() { failure.later() } else { failure }
    }
}
