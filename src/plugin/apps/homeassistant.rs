//! The plugin `homeassistant`: Home Assistant makes a backup of itself, it is fetched, looked at in depth, and removed
//! from the server again.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod backup;
mod capture;
mod contents;
mod recover;
mod restore;
mod settings;
mod validate;

use settings::HaSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "homeassistant",
    summary: "Home Assistant by a backup that it makes of itself",
    guide: GUIDE,
    schema: || schemars::schema_for!(HaSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
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
