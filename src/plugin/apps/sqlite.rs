//! The plugin `sqlite`: what it says of itself. Its work is in `kit/database/sqlite`, which others use as well.

use crate::plugin::kit::builtin::{Builtin, Restore};
use crate::plugin::kit::database::sqlite;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "sqlite",
    summary: "SQLite databases, copied consistently while they are in use",
    guide: GUIDE,
    schema: || schemars::schema_for!(sqlite::SqliteSettings).to_value(),
    capture: sqlite::capture,
    validate: sqlite::validate,
    restore: Some(Restore::by::<sqlite::restore::Sqlite>()),
    recover: None,
};

const GUIDE: &str = "
In the backup: each database as one file (VACUUM INTO: what was committed at one instant, WAL included, compacted). One
whose application brings collations, functions or tokenizers of its own is copied page by page instead; what only the
application can check there is told as not verified, unless `accept_unchecked: true`.

Not in it: transactions that were not committed; files beside the database (attachments: use `files` for them).

Least privilege: read permission on the database and its -wal and -shm files, and on their directory. With a WAL and
no -shm file there, the daemon's user must be able to make one. Local file systems only: SQLite's locks do not work
over NFS or SMB. Larder writes nothing to the database.

Restore: stop the application, then `larder restore TARGET --into TARGET`. The file is put in place at once, with the
owner and mode of the old one; the old one stays beside it as <name>.before-<run>, with its -wal and -shm files. While
somebody has the database open or locked this is refused, unless `force: true`. Larder must be allowed to write there.";
