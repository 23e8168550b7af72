//! The plugin `http`: any application that gives its export at an address.
//!
//! What came is believed only after the checks that the settings name; a page in HTML where something else was wanted,
//! a redirect and an empty body are refused without any.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Code, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Builtin, Failure};
use crate::plugin::kit::endpoint::{self, TlsSettings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::inside::{self, Inside};
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::tool::file_name;
use crate::plugin::kit::{digest, download, plain};
use crate::plugin::protocol::{Request, Verdict};
use crate::web::{Answer, Call, Web};

mod checks;

use checks::{Check, Size};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "http",
    summary: "Whatever an application exports at an address",
    guide: GUIDE,
    schema: || schemars::schema_for!(HttpSettings).to_value(),
    capture,
    validate,
    restore: None,
    recover: None,
};

const GUIDE: &str = "
A target:
  plugin: http
  with:
    url: https://app.lan/api/export
    bearer: {env: APP_TOKEN}
    content_type: application/json
    validate: [json, {min_size: 10KiB}, {contains: '\"rules\"'}]

In the backup: the body of one answer, as one file, streamed to the disk.

Not in it: whatever the application leaves out of its export; look into one. What is not checked is not known: without
`validate` only the size and the kind of the answer are. `inside: {sql_dump: mysql, contains: TEXT, min_size: 10KiB}` looks
through gzip, xz, zstd, bzip2, tar and zip at what was packed; nothing in a wrapper is refused without being asked.

Least privilege: a token that may read or export and nothing else. Redirects are not followed (behind them is a login
page), pages in HTML are refused unless `content_type: text/html` is wanted.

Restore: `larder restore TARGET --to DIR`, then import the file into the application.";

const SIZE_MAX: u64 = 64 << 30;

/// Where the export is, and what it must be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpSettings {
    /// The whole address; what is secret in its query belongs into `secret_query`.
    #[schemars(regex(pattern = "^https?://"))]
    url: String,
    /// How it is asked for.
    #[serde(default)]
    method: Method,
    /// Headers that are no secret.
    #[serde(default)]
    headers: BTreeMap<String, String>,
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
    bearer: Option<Secret>,
    /// What is sent with POST or PUT.
    #[serde(default)]
    body: Option<String>,
    /// Of what kind `body` is.
    #[serde(default = "body_type_default")]
    body_type: String,
    /// The kind that the answer must have, such as `application/zip`.
    #[serde(default)]
    content_type: Option<String>,
    /// The name of the file in the backup; by default the last part of the address.
    #[serde(default)]
    file_name: Option<String>,
    /// What must be true of the answer: `json`, `zip`, `tar`, `tar.gz`, `gzip`, `sqlite`, `{xml: /root}`,
    /// `{min_size: 10KiB}`, `{contains: TEXT}`.
    #[serde(default)]
    validate: Vec<Check>,
    /// What must be true of what is inside, through gzip, xz, zstd, bzip2, tar and zip.
    #[serde(default)]
    inside: Option<Inside>,
    /// The most that is taken.
    #[serde(default = "size_max_default")]
    max_size: Size,
    /// Whose certificate to trust.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send credentials over http:// to a host that is not of the own network.
    #[serde(default)]
    allow_http: bool,
    /// How long the application may say nothing.
    #[serde(default = "Patience::silence")]
    silence: Patience,
}

/// A user and the password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user.
    user: String,
    /// The password.
    password: Secret,
}

/// A method of HTTP.
#[derive(Clone, Copy, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
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

    fn web(&self) -> Result<Web, Failure> {
        let (server, path) = self.parts();
        if path.contains('#') {
            return Err(
                Failure::new(codes::BAD_URL, "the address must end before `#`").hint("leave out what is behind it")
            );
        }
        let allow_http = self.allow_http || !self.has_credentials();
        endpoint::open(server, self.tls.as_ref(), allow_http, self.silence)
    }

    fn call<'w>(&self, web: &'w Web) -> Call<'w> {
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

    fn file_name(&self) -> String {
        let (_, path) = self.parts();
        let last = path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        match &self.file_name {
            Some(name) => file_name(name),
            None if last.is_empty() => "export".to_owned(),
            None => file_name(last),
        }
    }

    /// Whether the file is meant to be packed.
    fn wants_gzip(&self, name: &str) -> bool {
        let ending = std::path::Path::new(name).extension().map(std::ffi::OsStr::to_ascii_lowercase);
        let packed = self.validate.iter().any(|check| matches!(check, Check::Gzip | Check::TarGz));
        packed || ending.is_some_and(|ending| ending == "gz" || ending == "tgz")
    }

    fn wants_a_page(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HttpSettings = builtin::settings(request)?;
    let web = settings.web()?;
    let answer = judged(settings.call(&web).send()?, &settings)?;
    let what = answer.what().to_owned();
    let version = answer.header("x-app-version");
    let name = settings.file_name();
    let path = request.staging.join(&name);
    let encoded = answer.header("content-encoding").map(|name| name.trim().to_ascii_lowercase());
    let mut saved = download::save(answer, &path, settings.max_size.0, events)?;
    match encoded.as_deref() {
        None | Some("" | "identity") => {}
        // Nobody asked for that, so it is how the body travelled; unless a packed file is what is wanted.
        Some("gzip" | "x-gzip") => {
            if plain::is_gzip(&path) && !settings.wants_gzip(&name) {
                saved = download::unpack(&path, settings.max_size.0, &what)?;
            }
        }
        Some(other) => {
            return Err(Failure::new(
                codes::WRONG_ENCODING,
                format!("{what} was answered in the encoding {other:?}, which nobody asked for"),
            )
            .hint("switch the compression off in the application, or in the proxy before it"));
        }
    }
    if !settings.wants_a_page() && download::is_a_page(&path) {
        return Err(download::a_page(&what));
    }
    inside::refuse_nothing(codes::EXPORT_EMPTY, "the export", &path, &request.staging, events)?;
    for check in &settings.validate {
        for (name, value) in check.look(&path)?.figures {
            events.figure(name, value);
        }
    }
    if let Some(version) = version {
        events.version(version);
    }
    events.artifact(&name, "http-export", saved.sha256);
    Ok(())
}

/// The answer, when its head is that of an export.
fn judged<'w>(answer: Answer<'w>, settings: &HttpSettings) -> Result<Answer<'w>, Failure> {
    let (status, what) = (answer.status(), answer.what().to_owned());
    let failed = |code: Code, answer: Answer<'_>| {
        let said = answer.said();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Failure::new(code, format!("{what} was answered with {status}{said}"))
    };
    match status {
        204 | 205 => return Err(download::empty(&what)),
        200..=299 => {}
        300..=399 => return Err(download::redirected(&answer)),
        401 | 403 => {
            return Err(failed(codes::UNAUTHORIZED, answer).hint("check the token or password, and what it may do"));
        }
        404 | 410 => return Err(failed(codes::NOT_FOUND, answer).hint("correct the address")),
        429 | 503 => return Err(failed(codes::APP_BUSY, answer).hint("it is tried again").later()),
        500..=599 => return Err(failed(codes::APP_FAILED, answer).hint("look into the application's log")),
        _ => return Err(failed(codes::REFUSED, answer).hint("check method, headers and body")),
    }
    let kind = answer.content_type();
    if let Some(wanted) = settings.content_type.as_deref().map(str::to_ascii_lowercase)
        && kind != wanted.split(';').next().unwrap_or_default().trim()
    {
        if kind.contains("html") {
            return Err(download::a_page(&what));
        }
        let kind = if kind.is_empty() { "of no kind".to_owned() } else { kind };
        return Err(Failure::new(codes::WRONG_CONTENT_TYPE, format!("{what} was answered with {kind}, not {wanted}"))
            .hint("correct the address, or `content_type`"));
    }
    if kind.contains("html") && !settings.wants_a_page() {
        return Err(download::a_page(&what));
    }
    Ok(answer)
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<HttpSettings> { settings, facts } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        tell(&settings, &path, events);
        if let Some(inside) = &settings.inside {
            inside.tell(&path, &request.staging, events);
        }
    }
    Ok(())
}

fn tell(settings: &HttpSettings, path: &Path, events: &mut EventWriter<'_>) {
    let checks = &settings.validate;
    if checks.is_empty() && settings.inside.is_none() {
        events.validation(
            "what was exported",
            Verdict::CouldNotVerify,
            "nothing is known of it: name what must be true of it in `validate`",
        );
    }
    for check in checks {
        match check.look(path) {
            Ok(seen) => events.validation(check.name(), Verdict::Proven, seen.detail),
            Err(failure) => events.validation(check.name(), Verdict::Failed, failure.trouble.message),
        }
    }
}
