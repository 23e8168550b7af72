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
