//! The application's API: what is asked of it, and what its answers mean.

use std::path::Path;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Kind;
use super::settings::ArrSettings;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint;
use crate::plugin::kit::tidy::tidy;
use crate::web::{Answer, Call, Saved, Upload, Web, WebError};

/// Largest backup, in bytes.
const BACKUP_BYTES_MAX: u64 = 32 << 30;
/// Largest list (of movies, say) that is counted, in bytes.
const LIST_BYTES_MAX: u64 = 512 << 20;

/// The application, with a key to it.
pub(super) struct App<'k> {
    kind: &'k Kind,
    web: Web,
    key: SecretString,
}

/// What `system/status` tells.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default)]
    pub(super) app_name: Option<String>,
    pub(super) version: String,
    #[serde(default)]
    database_type: Option<String>,
    /// Another one after a restart.
    #[serde(default)]
    pub(super) start_time: Option<String>,
}

/// A command that the application works on.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Command {
    pub(super) id: i64,
    #[serde(default)]
    name: String,
    pub(super) status: String,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    exception: Option<String>,
    #[serde(default)]
    pub(super) started: Option<Timestamp>,
    #[serde(default)]
    pub(super) ended: Option<Timestamp>,
}

/// A backup that lies with the application.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Backup {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) path: String,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) size: i64,
    #[serde(default)]
    pub(super) time: Option<Timestamp>,
}

impl Status {
    pub(super) fn uses_sqlite(&self) -> bool {
        self.database_type.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("sqlite"))
    }

    /// The target that has the database when the zip will not; refuses when nobody has it.
    pub(super) fn refuse_database_elsewhere<'s>(
        &self,
        kind: &Kind,
        settings: &'s ArrSettings,
    ) -> Result<Option<&'s str>, Failure> {
        match (&settings.database_target, self.uses_sqlite()) {
            (_, true) => Ok(None),
            (Some(target), false) => Ok(Some(target)),
            (None, false) => Err(Failure::new(
                codes::DATABASE_ELSEWHERE,
                format!("{} keeps its data in PostgreSQL: its own backup would have no database in it", kind.title),
            )
            .hint("add a target with the plugin `postgres` for it, and name that one here as `database_target`")),
        }
    }
}

impl Command {
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "queued" | "started")
    }

    pub(super) fn is_backup(&self) -> bool {
        self.name == "Backup"
    }

    /// Whether it made what it should.
    pub(super) fn judge(&self, kind: &Kind) -> Result<(), Failure> {
        if self.status == "completed" && self.result.as_deref() != Some("unsuccessful") {
            return Ok(());
        }
        let said = self.exception.as_deref().or(self.message.as_deref()).unwrap_or("it gave no reason");
        let how = if self.status == "completed" { "unsuccessful" } else { &self.status };
        let message = format!("the backup in {} ended as {}: {}", kind.title, tidy(how, 40), tidy(said, 300));
        Err(Failure::new(codes::BACKUP_FAILED, message)
            .hint("look at System > Tasks and System > Logs of the application, then run it again"))
    }
}

/// An upload that came to nothing.
pub(super) enum NotUploaded {
    /// It was answered, or nothing was sent.
    Refused(Failure),
    /// It may have arrived.
    Unknown(Failure),
}

impl<'k> App<'k> {
    pub(super) fn open(kind: &'k Kind, settings: &ArrSettings) -> Result<Self, Failure> {
        let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
        Ok(Self { kind, web, key: settings.api_key.0.clone() })
    }

    /// The same that does not wait where connections are refused.
    pub(super) fn at_once(self) -> Self {
        Self { web: self.web.at_once(), ..self }
    }

    /// The same with another key.
    pub(super) fn with_key(self, key: SecretString) -> Self {
        Self { key, ..self }
    }

    pub(super) fn kind(&self) -> &'k Kind {
        self.kind
    }

    pub(super) fn status(&self) -> Result<Status, Failure> {
        let status: Status = self.json(self.web.get(&self.at("/system/status")))?;
        let known = |name: &&String| ["lidarr", "prowlarr", "radarr", "readarr", "sonarr"].contains(&name.as_str());
        let told = status.app_name.as_deref().map(str::to_ascii_lowercase);
        if let Some(other) = told.as_ref().filter(known).filter(|name| *name != self.kind.name) {
            let message = format!("{} is {other}, not {}", self.web.shown(), self.kind.name);
            return Err(
                Failure::new(codes::OTHER_APP, message).hint(format!("correct `url`, or use the plugin {other}"))
            );
        }
        if status.version.trim().is_empty() || status.version.len() > 60 {
            return Err(self.unexpected("it tells no version"));
        }
        Ok(status)
    }

    pub(super) fn start_backup(&self) -> Result<Command, Failure> {
        self.json(self.web.post(&self.at("/command")).json(&json!({ "name": "Backup" })))
    }

    /// None: it is forgotten.
    pub(super) fn command(&self, id: i64) -> Result<Option<Command>, Failure> {
        let answer = self.send(self.web.get(&self.at(&format!("/command/{id}"))))?;
        if answer.status() == 404 { Ok(None) } else { self.good(answer)?.json().map(Some).map_err(Failure::from) }
    }

    pub(super) fn commands(&self) -> Result<Vec<Command>, Failure> {
        self.json(self.web.get(&self.at("/command")))
    }

    /// Takes a command that has not begun off the queue; one that is gone or has begun stays as it is.
    pub(super) fn cancel(&self, id: i64) -> Result<(), Failure> {
        self.send(self.web.delete(&self.at(&format!("/command/{id}")))).map(drop)
    }

    pub(super) fn backups(&self) -> Result<Vec<Backup>, Failure> {
        self.json(self.web.get(&self.at("/system/backup")))
    }

    /// One that is gone already is as good as deleted.
    pub(super) fn delete(&self, backup: &Backup) -> Result<(), Failure> {
        let answer = self.send(self.web.delete(&self.at(&format!("/system/backup/{}", backup.id))))?;
        if answer.status() == 404 { Ok(()) } else { self.good(answer).map(drop) }
    }

    /// How many movies (series, …) it lists.
    pub(super) fn count(&self) -> Result<u64, Failure> {
        let answer = self.good(self.send(self.web.get(&self.at(self.kind.listed)))?)?;
        let all: Vec<IgnoredAny> = answer.json_up_to(LIST_BYTES_MAX)?;
        Ok(all.len() as u64)
    }

    pub(super) fn upload(&self, zip: &Path, version: &str) -> Result<(), NotUploaded> {
        let file = Upload {
            field: "restore".to_owned(),
            path: zip.to_owned(),
            file_name: format!("{}_backup_v{version}.zip", self.kind.name),
            content_type: "application/zip".to_owned(),
        };
        let call = self.web.post(&self.at("/system/backup/restore/upload")).upload(&[], file);
        let answer = self.asking(call).send().map_err(|error| {
            let is_lost = matches!(
                error,
                WebError::Refused { .. }
                    | WebError::Unreachable { .. }
                    | WebError::Cut { .. }
                    | WebError::Silent { .. }
                    | WebError::Protocol { .. }
            );
            if is_lost { NotUploaded::Unknown(error.into()) } else { NotUploaded::Refused(error.into()) }
        })?;
        if answer.status() == 413 {
            let refused = Failure::new(codes::BACKUP_TOO_LARGE, format!("{} takes no upload of this size", self.kind.title))
                .hint("put the file into the application's Backups/manual and restore it at System > Backup; a proxy may be the one that refuses");
            return Err(NotUploaded::Refused(refused));
        }
        self.good(answer).map(drop).map_err(NotUploaded::Refused)
    }

    pub(super) fn restart(&self) -> Result<(), Failure> {
        self.good(self.send(self.web.post(&self.at("/system/restart")))?).map(drop)
    }

    /// Saves the file that `backup` names, and logs in where the key does not open it.
    pub(super) fn download(
        &self,
        backup: &Backup,
        into: &Path,
        login: Option<(&str, &SecretString)>,
        on_bytes: impl FnMut(u64, u64),
    ) -> Result<Saved, Failure> {
        let plain = backup.path.starts_with("/backup/") && !backup.path.contains(['?', '#', '%', '\\', ' ']);
        if !plain || backup.path.split('/').any(|part| part == "..") {
            return Err(self.unexpected("the list of backups names a file with an odd path"));
        }
        let first = self.send(self.web.get(&backup.path))?;
        let answer = match (wants_login(&first), login) {
            (false, _) => first,
            (true, None) => return Err(self.closed()),
            (true, Some((user, password))) => {
                let basic = first.headers("www-authenticate").iter().any(|way| way.starts_with("Basic"));
                drop(first);
                let again = if basic {
                    self.web.get(&backup.path).basic(user, password).send()?
                } else {
                    let cookies = self.login(user, password)?;
                    self.web.get(&backup.path).secret_header("cookie", &cookies).send()?
                };
                if wants_login(&again) {
                    return Err(self.refused_login());
                }
                again
            }
        };
        let answer = self.good(answer)?;
        if answer.content_type().contains("html") {
            return Err(Failure::new(
                codes::NOT_A_ZIP,
                format!("{} answered with a page, not with the backup", answer.what()),
            )
            .hint("a login page or a proxy answered: check `url` (with its URL base), or give `folder`"));
        }
        let announced = answer.announced();
        let saved = answer.save(into, BACKUP_BYTES_MAX, on_bytes)?;
        let wanted = u64::try_from(backup.size).ok().filter(|size| *size > 0).or(announced);
        if wanted.is_some_and(|wanted| wanted != saved.bytes) || saved.bytes == 0 {
            let _ = std::fs::remove_file(into);
            let message =
                format!("the backup came with {} bytes, {} says it has {}", saved.bytes, self.kind.title, backup.size);
            return Err(Failure::new(codes::CUT_SHORT, message).hint("look at a proxy on the way; run it again"));
        }
        Ok(saved)
    }

    /// As a browser logs in; answers with the cookies.
    fn login(&self, user: &str, password: &SecretString) -> Result<SecretString, Failure> {
        let fields = [("username", user), ("password", password.expose_secret()), ("rememberMe", "on")];
        let answer = self.web.post("/login").form(&fields).send()?;
        let failed = answer.header("location").is_some_and(|location| location.contains("loginFailed"));
        let cookies: Vec<String> = answer
            .headers("set-cookie")
            .iter()
            .filter_map(|cookie| cookie.split(';').next())
            .map(|pair| pair.trim().to_owned())
            .filter(|pair| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty()))
            .collect();
        if failed || cookies.is_empty() || answer.status() >= 400 {
            return Err(self.refused_login());
        }
        Ok(SecretString::from(cookies.join("; ")))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.kind.api)
    }

    fn send<'w>(&self, call: Call<'w>) -> Result<Answer<'w>, Failure> {
        Ok(self.asking(call).send()?)
    }

    fn asking<'w>(&self, call: Call<'w>) -> Call<'w> {
        call.header("accept", "application/json").secret_header("X-Api-Key", &self.key)
    }

    fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Failure> {
        Ok(self.good(self.send(call)?)?.json()?)
    }

    /// The answer when it is a good one.
    fn good<'w>(&self, answer: Answer<'w>) -> Result<Answer<'w>, Failure> {
        let (status, what) = (answer.status(), answer.what().to_owned());
        match status {
            200..=299 => Ok(answer),
            401 | 403 => Err(Failure::new(codes::UNAUTHORIZED, format!("{} does not take the API key (status {status})", self.kind.title))
                .hint("copy it again from Settings > General > Security; check that `url` is this application's")),
            300..=399 => Err(Failure::new(codes::REDIRECTED, format!("{what} was redirected (status {status})"))
                .hint("a login or another address stands before the API: write `url` as the browser shows it, with https and the URL base")),
            404 => Err(Failure::new(codes::NOT_FOUND, format!("{what} is not there"))
                .hint("check `url`: the URL base (Settings > General) belongs to it")),
            _ => {
                let said = answer.said();
                let failure = Failure::new(codes::APP_FAILED, format!("{what} answered with status {status}: {said}"))
                    .hint("look in the application's log, then run it again");
                Err(if matches!(status, 502..=504) { failure.later() } else { failure })
            }
        }
    }

    fn unexpected(&self, what: &str) -> Failure {
        Failure::new(codes::UNEXPECTED_ANSWER, format!("{} gave an odd answer: {what}", self.kind.title))
            .hint("check `url`, and that the application is of a version that is known")
    }

    fn closed(&self) -> Failure {
        Failure::new(
            codes::DOWNLOAD_NEEDS_LOGIN,
            format!("{} wants a login for the download: the API key does not open it", self.kind.title),
        )
        .hint(
            "give `username` and `password`, or `folder` with its Backups directory, or set `Authentication Required` \
             to `Disabled for Local Addresses` there",
        )
    }

    fn refused_login(&self) -> Failure {
        Failure::new(
            codes::LOGIN_REFUSED,
            format!("{} refuses the login with `username` and `password`", self.kind.title),
        )
        .hint("try them in a browser, then correct the settings")
    }
}

/// Whether an answer to the download means: log in first.
fn wants_login(answer: &Answer<'_>) -> bool {
    matches!(answer.status(), 301..=308 | 401 | 403)
}
