//! The plugin `mariadb`, and `mysql`, the same by another name: what they say of themselves. Their work is in
//! `kit/database/mariadb`, which others use as well.

use crate::plugin::kit::builtin::{Builtin, Restore};
use crate::plugin::kit::database::mariadb;

pub(crate) const BUILTIN: Builtin = named("mariadb", "MariaDB and MySQL databases by mariadb-dump, and the users");
pub(crate) const MYSQL: Builtin = named("mysql", "MySQL and MariaDB databases; the plugin `mariadb` by another name");

const fn named(name: &'static str, summary: &'static str) -> Builtin {
    Builtin {
        name,
        summary,
        guide: GUIDE,
        schema: || schemars::schema_for!(mariadb::MariadbSettings).to_value(),
        capture: mariadb::capture,
        validate: mariadb::validate::validate,
        restore: Some(Restore::by::<mariadb::restore::Mariadb>()),
        recover: Some(mariadb::restore::recover),
    }
}

const GUIDE: &str = "
In the backup: each database as <database>.sql with tables, rows, views, triggers, routines, events and sequences; what
InnoDB keeps is of one instant (--single-transaction). With `all: true` every database but the server's own, and
users.sql with users, their passwords (as hashes), roles and grants (MariaDB; mysqldump cannot write them).

Not in it: what `exclude_tables` names; without `all`, the users (say `users: true` to have them); binary logs, so there
is no recovery to a point between two runs; the server's settings (my.cnf: use `files`). Tables of MyISAM, Aria or
MEMORY may change while they are dumped: the run is partial until `accept: [not_transactional]` says that this is meant.
The history of system-versioned tables is kept where the tool can (10.11 and newer), else missed. Rows that lie elsewhere
(FEDERATED, MERGE) and FLOAT values of more than 6 digits are named. Databases are each of their own instant. With `all`,
one that is gone since the last run makes the run partial until `except` names it; so does one that lost all its rows.

Least privilege:
  CREATE USER backup@'%' IDENTIFIED BY '…';
  GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON app.* TO backup@'%';
  GRANT SELECT ON mysql.proc TO backup@'%';  -- MariaDB, for routines; MySQL 8.0.20 and newer: GRANT SHOW_ROUTINE ON *.*
Tables with sequences need no more. For `all: true` the first on *.*, and GRANT SELECT ON mysql.* for the users. What a
user may not see is in no list and in no backup: where a right is missing the run is partial and names the grant.

It needs mariadb-dump and mariadb for MariaDB, mysqldump and mysql for MySQL (`bin_dir`): Debian's mariadb-client writes dumps
of MySQL that no client can load when there are generated columns, which is refused, and is not known to write whole ones
else (`accept: [foreign_tool]`). The password reaches them by an option file that has no name on any disk. mariadb-dump fails for a database that has events and a quote or a backslash in
its name. mysqldump against a MySQL server is written by its manual and not tested here.

Restore: `larder restore TARGET --into TARGET`. The user must be allowed to CREATE, DROP and fill the databases, and to
set other DEFINERs (SET USER on MariaDB, SUPER or SET_ANY_DEFINER on MySQL): name a second target with such a user.
A database that has tables is touched only with `overwrite`: the backup is loaded under another name beside it (so there must
be room for both), read back and compared with the backup, table by table. Only then all tables change places in one
statement, and triggers, views, routines and events are made anew; those of the live database were written down before and
are put back when something fails. For a user who may make no other database the live tables are renamed inside of theirs
until the new ones are compared, and renamed back when something fails. Tables that the target leaves out stay, and users
that are there stay as they are. By hand: `mariadb < <database>.sql`.";
