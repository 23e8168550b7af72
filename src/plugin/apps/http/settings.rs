//! What to download, and what it must be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SIZE_MAX;
use super::checks::{Check, Size};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::inside::Inside;
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::tool::file_name;
use crate::web::{Call, Web};

endpoint_settings! {
    /// Where the export is, and what it must be.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub(super) struct HttpSettings {
        /// The whole address; what is secret in its query belongs into `secret_query`.
        #[schemars(regex(pattern = "^https?://"))]
        pub(super) url: String,
        /// How it is asked for.
        #[serde(default)]
        pub(super) method: Method,
        /// Headers that are no secret.
        #[serde(default)]
        pub(super) headers: BTreeMap<String, String>,
        /// Headers that are, such as `X-Api-Key: {env: APP_KEY}`.
        #[serde(default)]
        secret_headers: BTreeMap<String, Secret>,
        /// Secrets of the query, such as `token: {env: APP_TOKEN}`.
        #[serde(default)]
        secret_query: BTreeMap<String, Secret>,
        /// Log in by user and password (HTTP Basic).
        #[serde(default)]
        basic: Option<Basic>,
        /// Log in by a token (`Authorization: Bearer`).
        #[serde(default)]
        pub(super) bearer: Option<Secret>,
        /// What is sent with POST or PUT.
        #[serde(default)]
        pub(super) body: Option<String>,
        /// Of what kind `body` is.
        #[serde(default = "body_type_default")]
        body_type: String,
        /// The kind that the answer must have, such as `application/zip`.
        #[serde(default)]
        pub(super) content_type: Option<String>,
        /// The name of the file in the backup; by default the last part of the address.
        #[serde(default)]
        pub(super) file_name: Option<String>,
        /// What must be true of the answer: `json`, `zip`, `tar`, `tar.gz`, `gzip`, `sqlite`, `{xml: /root}`,
        /// `{min_size: 10KiB}`, `{contains: TEXT}`.
        #[serde(default)]
        pub(super) validate: Vec<Check>,
        /// What must be true of what is inside, through gzip, xz, zstd, bzip2, tar and zip.
        #[serde(default)]
        pub(super) inside: Option<Inside>,
        /// The most that is taken.
        #[serde(default = "size_max_default")]
        pub(super) max_size: Size,
    }
}

/// A user and the password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user.
    user: String,
    /// The password.
    pub(super) password: Secret,
}

/// A method of HTTP.
#[derive(Clone, Copy, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Method {
    #[default]
    Get,
    Post,
    Put,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

fn body_type_default() -> String {
    "application/json".to_owned()
}

fn size_max_default() -> Size {
    Size(SIZE_MAX)
}

impl HttpSettings {
    /// The server, and what lies behind it with its query.
    fn parts(&self) -> (&str, &str) {
        let host = self.url.find("://").map_or(0, |at| at + 3);
        let path =
            self.url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(self.url.len(), |at| host + at);
        self.url.split_at(path)
    }

    fn has_credentials(&self) -> bool {
        let named = |name: &str| matches!(name.to_ascii_lowercase().as_str(), "authorization" | "cookie");
        self.bearer.is_some()
            || self.basic.is_some()
            || !self.secret_headers.is_empty()
            || !self.secret_query.is_empty()
            || self.headers.keys().any(|name| named(name))
    }

    pub(super) fn web(&self) -> Result<Web, Failure> {
        let (server, path) = self.parts();
        if path.contains('#') {
            return Err(
                Failure::new(codes::BAD_URL, "the address must end before `#`").hint("leave out what is behind it")
            );
        }
        let allow_http = self.allow_http || !self.has_credentials();
        endpoint::open(server, self.tls.as_ref(), allow_http, self.silence)
    }

    pub(super) fn call<'w>(&self, web: &'w Web) -> Call<'w> {
        let (_, path) = self.parts();
        let mut call = web.call(self.method.as_str(), path);
        let named = |wanted: &str| self.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        if !named("accept") {
            call = call.header("accept", self.content_type.as_deref().unwrap_or("*/*"));
        }
        for (name, value) in &self.headers {
            call = call.header(name, value);
        }
        for (name, value) in &self.secret_headers {
            call = call.secret_header(name, &value.0);
        }
        for (name, value) in &self.secret_query {
            call = call.query(name, secrecy::ExposeSecret::expose_secret(&value.0));
        }
        if let Some(Basic { user, password }) = &self.basic {
            call = call.basic(user, &password.0);
        }
        if let Some(token) = &self.bearer {
            call = call.bearer(&token.0);
        }
        match &self.body {
            Some(body) => call.body(&self.body_type, body.clone().into_bytes()),
            None => call,
        }
    }

    pub(super) fn file_name(&self) -> String {
        let (_, path) = self.parts();
        let last = path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        match &self.file_name {
            Some(name) => file_name(name),
            None if last.is_empty() => "export".to_owned(),
            None => file_name(last),
        }
    }

    /// Whether the file is meant to be packed.
    pub(super) fn wants_gzip(&self, name: &str) -> bool {
        let ending = std::path::Path::new(name).extension().map(std::ffi::OsStr::to_ascii_lowercase);
        let packed = self.validate.iter().any(|check| matches!(check, Check::Gzip | Check::TarGz));
        packed || ending.is_some_and(|ending| ending == "gz" || ending == "tgz")
    }

    pub(super) fn wants_a_page(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
    }
}
