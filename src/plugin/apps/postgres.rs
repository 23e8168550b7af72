//! The plugin `postgres`: what it says of itself. Its work is in `kit/database/postgres`, which others use as well.

use crate::plugin::kit::builtin::{Builtin, Restore};
use crate::plugin::kit::database::postgres;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "postgres",
    summary: "PostgreSQL databases by pg_dump, and the roles",
    guide: GUIDE,
    schema: || schemars::schema_for!(postgres::PostgresSettings).to_value(),
    capture: postgres::capture,
    validate: postgres::validate::validate,
    restore: Some(Restore::by::<postgres::restore::Postgres>()),
    recover: Some(postgres::restore::recover),
};

const GUIDE: &str = "
In the backup: each database whole (tables, data, large objects, functions, rights) as <database>.dump in PostgreSQL's
custom format, consistent in itself. With `all: true` every database that is no template, and globals.sql with roles,
their passwords (as hashes) and tablespaces.

Not in it: without `all`, the roles (say `globals: true` to have them); what `exclude_tables` names; WAL, so there is
no recovery to a point between two runs; server settings (postgresql.conf, pg_hba.conf: use `files`). The rows of foreign
tables and of extensions' own tables are left out and named. With `all`, a database that is gone since the last run, or
that allows no connections, makes the run partial until `except` names it; so does one that lost all its rows.

Least privilege: a role with LOGIN and `GRANT pg_read_all_data TO backup` (PostgreSQL 14 and newer; older: SELECT on all
tables and sequences, USAGE on the schemas). Role passwords are read by a superuser or with pg_read_all_data, but not
where the provider manages the server: there say `role_passwords: false`. Tables under row-level security need
BYPASSRLS, large objects of others `ALTER ROLE backup SET lo_compat_privileges = on` (as a superuser).

It needs pg_dump, pg_restore and psql of the server's major version or a newer one (Debian: postgresql-client-N).

Restore: `larder restore TARGET --into TARGET`, into a server of the same major version or a newer one. The role must be a
superuser, or have CREATEDB and be a member of the roles that own things (or say `owner: false`): name a second target
with such a role. A database that has something in it is touched only with `overwrite`: the backup is loaded under another
name beside it (so there must be room for both), read back and compared with the backup, table by table, and only then both
change their names, in one transaction; whatever fails before, the live database is as it was. While somebody is connected
to it, or it has replication slots or subscriptions that work, nothing is done. Nor where it has tables that
`exclude_tables` leaves out, which would go: restore `into` another name then, or say `drop_excluded: true`. Roles that are
there stay as they are with `globals: true`. What loads only with the application's search_path is loaded with it. By hand: `psql -X -f globals.sql`, then `pg_restore --create --exit-on-error -d postgres <database>.dump`.";
