//! The plugin `prometheus`: its configuration and rules from the disk, and its blocks by a snapshot if wanted.
//!
//! What the API tells as the loaded configuration has `<secret>` in the place of each secret, no comments, and promtool
//! finds nothing wrong with it: it is kept as an inventory, to compare with, and never counts as what can be put back.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::digest;
use crate::plugin::kit::endpoint::{self, TlsSettings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::{Request, Verdict};
use crate::web::{Answer, Call, Web};

mod blocks;
mod files;
mod loaded;
mod promtool;
mod references;
mod restore;
mod snapshot;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "prometheus",
    summary: "Prometheus: configuration and rules from disk, its time series by a snapshot",
    guide: GUIDE,
    schema: || schemars::schema_for!(PrometheusSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(|request, events| {
        restore::recover(request, events)?;
        snapshot::recover(request)
    }),
};

const GUIDE: &str = "
In the backup: with `config_file` that file and what it names as rule files, scrape config files and file_sd files; with
`tsdb_snapshot` every block of the time series, the newest samples included, by Prometheus's own snapshot, which is
deleted on the server again. Beside them the configuration that is loaded, as the API tells it, as an inventory: the
secrets in it are `<secret>`, so it cannot be put back.

Not in it: files that the configuration names for secrets and certificates (`password_file`, `credentials_file`, …): keep
them with `files`. Also not: the flags that Prometheus is started with, remote storage, Alertmanager.

Least privilege: read permission on the configuration. A snapshot needs --web.enable-admin-api at the server, and write
permission in <data_dir>/snapshots, which must be mounted on this host: there is no download. The blocks are copied, so
there must be room for them where the artifacts lie.

Restore: `larder restore TARGET --into TARGET` puts the files back to their paths, after promtool found them good; what
was there is kept beside. Blocks go into a data directory with `--option data_dir=PATH`, whose server is stopped: it
has the time series of the backup then and no others, which are kept in its directory `before-…`.";

/// Which Prometheus.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PrometheusSettings {
    /// Address, with its route prefix if it has one: `http://prometheus.lan:9090`.
    #[schemars(regex(pattern = "^https?://[^@]+$"))]
    url: String,
    /// Its configuration as this host sees it: `/etc/prometheus/prometheus.yml`.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    config_file: Option<PathBuf>,
    /// Keep the time series too.
    #[serde(default)]
    tsdb_snapshot: Option<Tsdb>,
    /// Login, where the server wants one.
    #[serde(default)]
    username: Option<String>,
    /// The password that belongs to `username`.
    #[serde(default)]
    password: Option<Secret>,
    /// Bearer token, where a proxy wants one.
    #[serde(default)]
    token: Option<Secret>,
    /// The program promtool; without it the one on the PATH. Without any, files and blocks are checked less deeply.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    promtool: Option<PathBuf>,
    /// How long Prometheus may say nothing before a call is given up.
    #[serde(default = "Patience::silence")]
    silence: Patience,
    /// Whose certificate to trust with https; without it the system's authorities.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send credentials over plain http to a host that is not in the own network.
    #[serde(default)]
    allow_http: bool,
}

/// Where the time series lie.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tsdb {
    /// The server's `--storage.tsdb.path` as this host sees it.
    #[schemars(regex(pattern = "^/"))]
    data_dir: PathBuf,
}

const INVENTORY: &str = "inventory/loaded-config.yml";
const INVENTORY_FORMAT: &str = "prometheus-inventory";
const FILES: &str = "files";
const FILE_FORMAT: &str = "prometheus-file";
const RIGHTS: &str = "files.json";
const RIGHTS_FORMAT: &str = "prometheus-file-rights";
const TSDB: &str = "tsdb";
const TSDB_FORMAT: &str = "prometheus-block";

/// The server, with the right to call it.
struct Server<'s> {
    web: Web,
    settings: &'s PrometheusSettings,
}

impl<'s> Server<'s> {
    fn open(settings: &'s PrometheusSettings) -> Result<Self, Failure> {
        if settings.username.is_some() != settings.password.is_some() {
            return Err(Failure::new(codes::SETTINGS, "only one of `username` and `password` is given")
                .hint("give both, or none"));
        }
        let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
        Ok(Self { web, settings })
    }

    fn send<'w>(&self, call: Call<'w>) -> Result<Answer<'w>, Failure> {
        let call = call.header("accept", "application/json");
        let call = match (&self.settings.token, &self.settings.username, &self.settings.password) {
            (Some(token), _, _) => call.bearer(&token.0),
            (None, Some(user), Some(password)) => call.basic(user, &password.0),
            _ => call,
        };
        Ok(call.send()?)
    }

    /// The same; none when the server has no such place.
    fn data_if_there(&self, call: Call<'_>) -> Result<Option<Value>, Failure> {
        match self.data(call) {
            Ok(data) => Ok(Some(data)),
            Err(failure) if failure.trouble.is(codes::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// `data` of an answer with `"status":"success"`.
    fn data(&self, call: Call<'_>) -> Result<Value, Failure> {
        let answer = self.send(call)?;
        let (status, what) = (answer.status(), answer.what().to_owned());
        match status {
            200..=299 => {}
            401 | 403 => {
                return Err(Failure::new(codes::UNAUTHORIZED, format!("{what} is not allowed (status {status})"))
                    .hint("give `username` and `password`, or `token`"));
            }
            404 => {
                return Err(Failure::new(codes::NOT_FOUND, format!("{what} is not there"))
                    .hint("check `url`: a route prefix belongs to it"));
            }
            300..=399 => {
                return Err(Failure::new(codes::REDIRECTED, format!("{what} was redirected (status {status})"))
                    .hint("write `url` with its route prefix, as the browser shows it before /graph"));
            }
            _ => {
                let said = answer.said();
                let failure = Failure::new(codes::APP_FAILED, format!("{what} answered with status {status}: {said}"))
                    .hint("look in Prometheus's log, then run it again");
                return Err(if matches!(status, 502..=504) { failure.later() } else { failure });
            }
        }
        let whole: Value = answer.json()?;
        match (whole.get("status").and_then(Value::as_str), whole.get("data")) {
            (Some("success"), Some(data)) => Ok(data.clone()),
            _ => {
                Err(Failure::new(codes::UNEXPECTED_ANSWER, format!("{what} gave another answer than Prometheus does"))
                    .hint("check `url`: another application may answer there"))
            }
        }
    }

    fn version(&self) -> Result<String, Failure> {
        let told = self.data(self.web.get("/api/v1/status/buildinfo"))?;
        let version = told.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
        Ok(format!("Prometheus {version}"))
    }

    fn loaded_config(&self) -> Result<String, Failure> {
        let told = self.data(self.web.get("/api/v1/status/config"))?;
        let yaml = told.get("yaml").and_then(Value::as_str).unwrap_or_default();
        if yaml.trim().is_empty() {
            return Err(Failure::new(codes::UNEXPECTED_ANSWER, "Prometheus tells no loaded configuration")
                .hint("check `url`: another application may answer there"));
        }
        Ok(yaml.to_owned())
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PrometheusSettings = builtin::settings(request)?;
    if settings.config_file.is_none() && settings.tsdb_snapshot.is_none() {
        return Err(Failure::new(
            codes::SETTINGS,
            "neither `config_file` nor `tsdb_snapshot` is given: nothing could be put back",
        )
        .hint("name the configuration as this host sees it: `config_file: /etc/prometheus/prometheus.yml`"));
    }
    let server = Server::open(&settings)?;
    events.version(server.version()?);
    let loaded = server.loaded_config()?;
    if let Some(config) = &settings.config_file {
        let found = references::of(config)?;
        let differs = references::jobs(&loaded) != found.jobs;
        if differs {
            let told = format!("the scrape jobs of {} are not those that Prometheus has loaded", config.display());
            events.warning(Trouble::new(codes::CONFIG_NOT_LOADED, told).with_hint(
                "reload Prometheus, or look in its log for why it does not take the file; is it the right file?",
            ));
        }
        for missing in &found.missing {
            let told = format!("{} names {}, which is not there", config.display(), missing.display());
            events.warning(Trouble::new(codes::FILE_MISSING, told).with_hint("is it mounted on this host?"));
        }
        for (path, why) in &found.unreadable {
            let told = format!("{} names {}, which cannot be followed: {why}", config.display(), path.display());
            events.warning(
                Trouble::new(codes::FILE_UNREADABLE, told)
                    .with_hint("give the daemon's user read permission, or correct what is named"),
            );
        }
        if !found.secrets.is_empty() {
            let shown = found.secrets.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = found.secrets.len().saturating_sub(5);
            let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
            let told = format!("secrets and certificates that the configuration names are not kept: {shown}{tail}");
            events.notice(Trouble::new(codes::SECRETS_NOT_KEPT, told).with_hint("keep them with a target of `files`"));
        }
        if !differs {
            loaded::compare(&server, &found, config, events)?;
        }
        files::keep(request, &found.files, events)?;
    }
    let note = "# Inventory: what Prometheus had loaded, without its secrets. It cannot be put back.\n";
    files::write(&request.staging.join(INVENTORY), format!("{note}{loaded}").as_bytes())?;
    events.artifact(INVENTORY, INVENTORY_FORMAT, digest::sha256(&request.staging.join(INVENTORY), |_| {})?);
    if let Some(tsdb) = &settings.tsdb_snapshot {
        let journal = Journal::of(request)?;
        snapshot::take(&server, &journal, &tsdb.data_dir, &request.staging.join(TSDB), events)?;
        let found = blocks::all(&request.staging.join(TSDB))?;
        for path in blocks::files(&request.staging.join(TSDB))? {
            let relative = path.strip_prefix(&request.staging).unwrap_or(&path).to_string_lossy().into_owned();
            events.artifact(&relative, TSDB_FORMAT, digest::sha256(&path, |_| {})?);
            events.progress(0, 0);
        }
        events.figure("blocks", found.len() as u64);
        events.figure("samples", found.iter().map(|block| block.samples).sum());
        events.figure("series_in_blocks", found.iter().map(|block| block.series).sum());
    }
    Ok(())
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PrometheusSettings> { settings, facts } = ValidateJob::of(request)?;
    let mut changed = Vec::new();
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        if artifact.sha256.is_none() || digest::sha256(&path, |_| {}).ok() != artifact.sha256 {
            changed.push(artifact.path.display().to_string());
        }
        events.progress(0, 0);
    }
    let shown = changed.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let (verdict, detail) = match changed.len() {
        0 => (Verdict::Proven, format!("{} files", facts.artifacts.len())),
        n => (Verdict::Failed, format!("{n} are not: {shown}")),
    };
    events.validation("every file is unchanged since the capture", verdict, detail);
    let promtool =
        promtool::Promtool::find(settings.promtool.as_deref(), &request.staging, facts.app_version.as_deref())?;
    if let Some(config) = &settings.config_file {
        files::judge(request, facts, config, promtool.as_ref(), events);
    }
    if settings.tsdb_snapshot.is_some() {
        blocks::judge(request, facts, promtool.as_ref(), events);
    }
    Ok(())
}

/// Below `files` in the staging directory lies each file at its absolute path.
fn mirrored(staging: &Path, path: &Path) -> PathBuf {
    staging.join(FILES).join(path.strip_prefix("/").unwrap_or(path))
}

/// No secret goes to promtool.
fn no_secrets() -> Vec<SecretString> {
    Vec::new()
}
