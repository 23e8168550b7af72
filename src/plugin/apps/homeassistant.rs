//! The plugin `homeassistant`: Home Assistant makes a backup of itself, it is fetched, looked at in depth, and removed
//! from the server again.

use schemars::JsonSchema;
use serde::Deserialize;

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
use crate::web::Web;

mod api;
mod backup;
mod contents;
mod restore;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "homeassistant",
    summary: "Home Assistant by a backup that it makes of itself",
    guide: GUIDE,
    schema: || schemars::schema_for!(HaSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover),
};

const GUIDE: &str = "
A target:
  plugin: homeassistant
  with:
    url: http://homeassistant.lan:8123
    token: {env: HOMEASSISTANT_TOKEN}

In the backup: backup.tar as Home Assistant makes it: its configuration directory with .storage (dashboards, users,
integrations and their credentials) and the recorder's SQLite database; on Home Assistant OS also the add-ons and the
folders that `folders` names. It is not encrypted: larder encrypts all that it keeps. secrets.yaml is in it.

Not in it: a recorder's database outside of Home Assistant (keep it by `mariadb` or `postgres`, and say
`include_database: false`); media, unless `folders` names it; what runs beside Home Assistant in containers of its own.

Least privilege: a long-lived access token of an administrator (Profile, Security), others may not make backups. Make a
user `larder` for it, so that it can be taken away alone. The backup that is made on the server is removed after it was
fetched, also after a kill, unless `keep_on_server: true`; no other backup there is touched.

Home Assistant 2025.1 or newer.

Restore: `larder restore TARGET --into TARGET` uploads the backup into a running Home Assistant; choose it there at
Settings, System, Backups. A fresh one takes backup.tar on its first page (Restore from backup).";

const FILE: &str = "backup.tar";
const FORMAT: &str = "homeassistant-backup";
const TAR_BYTES_MAX: u64 = 512 << 30;

/// Which Home Assistant, and what of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HaSettings {
    /// Where it is, such as `http://homeassistant.lan:8123`.
    #[schemars(regex(pattern = "^https?://"))]
    url: String,
    /// A long-lived access token of an administrator.
    token: Secret,
    /// Keep the recorder's database (history) too.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    include_database: bool,
    /// On Home Assistant OS: keep the add-ons with their data.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    include_addons: bool,
    /// On Home Assistant OS: which folders to keep besides the configuration.
    #[serde(default = "folders_default")]
    folders: Vec<Folder>,
    /// Leave the backup on the server too.
    #[serde(default)]
    keep_on_server: bool,
    /// Where Home Assistant makes it; by default its own disk (`hassio.local` or `backup.local`).
    #[serde(default)]
    agent: Option<String>,
    /// How long the backup may take.
    #[serde(default = "wait_default")]
    wait: Patience,
    /// How often to look whether it is ready.
    #[serde(default = "poll_default")]
    poll: Patience,
    /// Whose certificate to trust.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send the token over http:// to a host that is not of the own network.
    #[serde(default)]
    allow_http: bool,
    /// How long it may say nothing.
    #[serde(default = "Patience::silence")]
    silence: Patience,
}

/// A folder of Home Assistant OS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
enum Folder {
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
    fn web(&self) -> Result<Web, Failure> {
        let url = self.url.trim_end_matches('/').trim_end_matches("/api");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, self.silence)
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HaSettings = builtin::settings(request)?;
    let web = settings.web()?;
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    let mut talk = api::Talk::open(&web, &settings.token.0)?;
    events.version(format!("Home Assistant {}", talk.version));
    let agent = backup::ready(&settings, &mut talk)?;
    let name = format!("larder {} {}", request.target, request.run);
    let path = request.staging.join(FILE);
    let fetched = backup::make_and_fetch(&settings, &mut talk, &agent, &name, &path, journal.as_ref(), events);
    talk.close();
    if settings.keep_on_server && fetched.is_ok() {
        journal.as_ref().map_or(Ok(()), |journal| journal.done(backup::ENTRY))?;
    } else if let Err(failure) = tidy(&settings, &web, &name, journal.as_ref()) {
        events.warning(
            Trouble::new(
                codes::BACKUP_LEFT,
                format!("the backup {name:?} stays on the server: {}", failure.trouble.message),
            )
            .with_hint("it is tried again; it can be removed at Settings, System, Backups"),
        );
    }
    let saved = fetched?;
    let contents = contents::read(&path, &request.staging)?;
    if let Some(missing) = contents.missing(settings.include_database) {
        return Err(missing);
    }
    for (figure, value) in contents.figures() {
        events.figure(figure, value);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

/// In a conversation of its own: a download may take longer than Home Assistant keeps a silent one.
fn tidy(settings: &HaSettings, web: &Web, name: &str, journal: Option<&Journal>) -> Result<(), Failure> {
    let mut talk = api::Talk::open(web, &settings.token.0)?;
    let tidied = backup::tidy(&mut talk, name, journal);
    talk.close();
    tidied
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<HaSettings> { settings, facts } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        let contents = match contents::read(&path, &request.staging) {
            Ok(contents) => contents,
            Err(failure) => {
                events.validation("the backup is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        let detail = format!("{} files of the configuration, not encrypted", contents.files);
        events.validation("the backup reads to its end", Verdict::Proven, detail);
        match contents.missing(settings.include_database) {
            Some(failure) => {
                events.validation("all that was asked for is in it", Verdict::Failed, failure.trouble.message);
            }
            None => {
                events.validation("all that was asked for is in it", Verdict::Proven, contents.told());
            }
        }
        if let Some(rows) = contents.database_rows {
            events.validation(
                "integrity_check of the recorder's database",
                Verdict::Proven,
                format!("ok; {rows} rows"),
            );
        }
        let same = contents.figures().iter().all(|(figure, value)| facts.figures.get(figure) == Some(value));
        let verdict = if same { Verdict::Proven } else { Verdict::Failed };
        events.validation("the figures are those of the capture", verdict, "");
    }
    Ok(())
}

fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HaSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let web = settings.web()?;
    for (_, note) in journal.entries::<backup::Note>()? {
        tidy(&settings, &web, &note.name, Some(&journal))?;
        events.log(format!("the backup {:?} of a killed run is not on the server any more", note.name));
    }
    Ok(())
}
