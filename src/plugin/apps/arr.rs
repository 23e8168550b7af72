//! The plugins `radarr`, `sonarr`, `lidarr`, `prowlarr` and `readarr`: the application's own backup, fetched and proven.
//!
//! The five share their code, so they share this. The application is told to make a backup, the file is fetched, looked
//! at to the last byte, and deleted on the application again: manual backups are never pruned there. What is ours is
//! written down before the command is sent, so a capture that was killed leaves nothing behind either.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::digest;
use crate::plugin::kit::endpoint::TlsSettings;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::{Request, Verdict};

mod api;
mod backup;
mod content;
mod restore;

use api::App;
use content::Content;

pub(crate) const LIDARR: Builtin = builtin::<Lidarr>();
pub(crate) const PROWLARR: Builtin = builtin::<Prowlarr>();
pub(crate) const RADARR: Builtin = builtin::<Radarr>();
pub(crate) const READARR: Builtin = builtin::<Readarr>();
pub(crate) const SONARR: Builtin = builtin::<Sonarr>();

const GUIDE: &str = "
In the backup: the zip that the application makes itself: its database (consistent while it is in use), config.xml, its
version. Before it is kept, every byte is read: checksums, config.xml with its API key, SQLite's integrity_check, the
tables, and how many movies, series, artists, books or indexers there are.

Not in it: the media files, posters (they are fetched again), logs, and the history in logs.db. An application that
keeps its data in PostgreSQL puts no database into its zip: such a backup is refused, unless `database_target` names
the target (plugin `postgres`) that has it.

Least privilege: the API key (Settings > General); there is none with fewer rights. Where the web interface asks for a
login by form, the key does not open the download: give `username` and `password`, or `folder` with the application's
Backups directory as this host sees it (read permission is enough), or set `Authentication Required` to `Disabled for
Local Addresses`. Larder starts one backup, and deletes that one on the application when it has it.

Restore: `larder restore TARGET --into TARGET` uploads the backup, restarts the application and counts afterwards.
What the application has is replaced, config.xml too: API key, port and login are then the backup's. The application
should have the backup's version or a newer one.";

/// What differs between the five.
struct Kind {
    /// As a target names it.
    name: &'static str,
    /// As the application calls itself.
    title: &'static str,
    summary: &'static str,
    /// Where its API begins.
    api: &'static str,
    /// What it is about: the table, which is also the figure, and where the API lists it.
    table: &'static str,
    listed: &'static str,
    /// Other tables that are counted when they are there.
    beside: &'static [&'static str],
}

trait Arr {
    const KIND: &'static Kind;
}

struct Lidarr;
struct Prowlarr;
struct Radarr;
struct Readarr;
struct Sonarr;

impl Arr for Lidarr {
    const KIND: &'static Kind = &Kind {
        name: "lidarr",
        title: "Lidarr",
        summary: "Lidarr: its own backup with database and settings",
        api: "/api/v1",
        table: "Artists",
        listed: "/artist",
        beside: &["Albums", "Tracks", "TrackFiles"],
    };
}

impl Arr for Prowlarr {
    const KIND: &'static Kind = &Kind {
        name: "prowlarr",
        title: "Prowlarr",
        summary: "Prowlarr: its own backup with database and settings",
        api: "/api/v1",
        table: "Indexers",
        listed: "/indexer",
        beside: &["Applications"],
    };
}

impl Arr for Radarr {
    const KIND: &'static Kind = &Kind {
        name: "radarr",
        title: "Radarr",
        summary: "Radarr: its own backup with database and settings",
        api: "/api/v3",
        table: "Movies",
        listed: "/movie",
        beside: &["MovieFiles", "Indexers"],
    };
}

impl Arr for Readarr {
    const KIND: &'static Kind = &Kind {
        name: "readarr",
        title: "Readarr",
        summary: "Readarr: its own backup with database and settings",
        api: "/api/v1",
        table: "Books",
        listed: "/book",
        beside: &["Authors", "BookFiles"],
    };
}

impl Arr for Sonarr {
    const KIND: &'static Kind = &Kind {
        name: "sonarr",
        title: "Sonarr",
        summary: "Sonarr: its own backup with database and settings",
        api: "/api/v3",
        table: "Series",
        listed: "/series",
        beside: &["Episodes", "EpisodeFiles", "Indexers"],
    };
}

const fn builtin<A: Arr>() -> Builtin {
    Builtin {
        name: A::KIND.name,
        summary: A::KIND.summary,
        guide: GUIDE,
        schema: || schemars::schema_for!(ArrSettings).to_value(),
        capture: |request, events| capture(A::KIND, request, events),
        validate: |request, events| validate(A::KIND, request, events),
        restore: Some(Restore::by::<restore::PutBack<A>>()),
        recover: Some(|request, events| {
            restore::recover(A::KIND, request, events)?;
            backup::recover(A::KIND, request)
        }),
    }
}

/// Which application, and how to get in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ArrSettings {
    /// Address of the web interface, with its URL base: `http://nas.lan:7878` or `https://media.lan/radarr`.
    #[schemars(regex(pattern = "^https?://[^@]+$"))]
    url: String,
    /// The API key (Settings > General > Security).
    api_key: Secret,
    /// Login of the web interface, for the download where it asks for a login by form.
    #[serde(default)]
    username: Option<String>,
    /// The password that belongs to `username`.
    #[serde(default)]
    password: Option<Secret>,
    /// The application's Backups directory as this host sees it: the file is copied from there, not downloaded.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    folder: Option<PathBuf>,
    /// The target that keeps the application's PostgreSQL database; needed only where it uses one.
    #[serde(default)]
    #[schemars(length(min = 1))]
    database_target: Option<String>,
    /// How long the application may take to make its backup, or to be back after a restore: `10m`.
    #[serde(default = "wait_default")]
    wait: Patience,
    /// How long the application may say nothing before a call is given up.
    #[serde(default = "Patience::silence")]
    silence: Patience,
    /// Whose certificate to trust with https; without it the system's authorities.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send the key over plain http to a host that is not in the own network.
    #[serde(default)]
    allow_http: bool,
}

fn wait_default() -> Patience {
    Patience(Duration::from_mins(10))
}

impl ArrSettings {
    fn of(request: &Request) -> Result<Self, Failure> {
        let settings: Self = builtin::settings(request)?;
        settings.check()?;
        Ok(settings)
    }

    /// Says what the schema can't.
    fn check(&self) -> Result<(), Failure> {
        if self.username.is_some() == self.password.is_some() {
            return Ok(());
        }
        Err(Failure::new(codes::SETTINGS, "only one of `username` and `password` is given")
            .hint("give both for a login by form, or none"))
    }

    fn wait(&self) -> Duration {
        self.wait.0
    }
}

/// The file's name in the staging directory, the same in every run.
const ARTIFACT: &str = "backup.zip";
const FORMAT: &str = "arr-zip";

fn capture(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = ArrSettings::of(request)?;
    let journal = Journal::of(request)?;
    let app = App::open(kind, &settings)?;
    let status = app.status()?;
    let elsewhere = status.refuse_database_elsewhere(kind, &settings)?;
    events.version(format!("{} {}", kind.title, status.version));
    let zip = request.staging.join(ARTIFACT);
    let sha256 = backup::fetch(&app, &settings, &journal, &zip, events)?;
    let content = content::read(kind, &zip)?;
    content.refuse_unless_of(kind, &status, &settings, events)?;
    if let Some(target) = elsewhere {
        events.log(format!("the database is in PostgreSQL and not in this backup; the target {target} is to have it"));
    } else if content.database.is_none() {
        return Err(Content::without_database(kind));
    }
    content.tell(events);
    events.artifact(ARTIFACT, FORMAT, sha256);
    Ok(())
}

fn validate(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = ArrSettings::of(request)?;
    let facts = asked::facts(request)?;
    for artifact in &facts.artifacts {
        let zip = request.staging.join(&artifact.path);
        digest::check(artifact, &zip, events)?;
        let content = match content::read(kind, &zip) {
            Ok(content) => content,
            Err(failure) => {
                events.validation("the backup is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        content.judge(kind, &settings, request, events);
    }
    Ok(())
}
