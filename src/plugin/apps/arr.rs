//! The plugins `radarr`, `sonarr`, `lidarr`, `prowlarr` and `readarr`: the application's own backup, fetched and proven.
//!
//! The five share their code, so they share this. The application is told to make a backup, the file is fetched, looked
//! at to the last byte, and deleted on the application again: manual backups are never pruned there. What is ours is
//! written down before the command is sent, so a capture that was killed leaves nothing behind either.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod backup;
mod capture;
mod content;
mod recover;
mod restore;
mod settings;
mod validate;

use capture::capture;
use settings::ArrSettings;
use validate::validate;

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
        recover: Some(|request, events| recover::recover(A::KIND, request, events)),
    }
}

/// The file's name in the staging directory, the same in every run.
const ARTIFACT: &str = "backup.zip";
const FORMAT: &str = "arr-zip";
