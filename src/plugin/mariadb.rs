//! The plugin `mariadb` (and `mysql`, the same under another name): one `mariadb-dump` a database, and the users.
//!
//! Exit code 0 is no proof and a dump that failed still has a head. So the file is read to its end: its trailer, its
//! tables, and each table's rows with a fingerprint, by which a restore is compared afterwards.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Trouble;
use crate::plugin::builtin::{self, Builtin, Failure, Restore, Voice};
use crate::plugin::databases::remark::{self, Remark};
use crate::plugin::databases::{self, Chosen, figure_key, since};
use crate::plugin::digest;
use crate::plugin::protocol::Request;
use crate::plugin::settings::{Secret, exactly_one_of};
use crate::plugin::tool::file_name;

mod client;
mod dump;
mod explain;
mod gaps;
mod grants;
pub(in crate::plugin) mod inside;
pub(in crate::plugin) mod reach;
mod reading;
mod restore;
mod scan;
mod server;
mod split;
mod users;
mod verify;

use server::Server;

pub(crate) const BUILTIN: Builtin = named("mariadb", "MariaDB and MySQL databases by mariadb-dump, and the users");
pub(crate) const MYSQL: Builtin = named("mysql", "MySQL and MariaDB databases; the plugin `mariadb` by another name");

const fn named(name: &'static str, summary: &'static str) -> Builtin {
    Builtin {
        name,
        summary,
        guide: GUIDE,
        schema: || schemars::schema_for!(MariadbSettings).to_value(),
        capture,
        validate: verify::validate,
        restore: Some(Restore {
            options: || schemars::schema_for!(restore::MariadbRestore).to_value(),
            run: restore::run,
        }),
        recover: Some(restore::recover),
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

const FORMAT_DUMP: &str = "mariadb-sql";
const FORMAT_USERS: &str = "mariadb-users";
/// The file with users and grants.
const USERS: &str = "users.sql";
/// More databases than this in one server are an error.
const DATABASES_MAX: usize = 1_000;
/// Figure by which a capture tells that the dump program is not of the server's kind.
const FOREIGN_TOOL: &str = "foreign_tool";
/// Tables that get figures of their own, in all.
const TABLES_TOLD_MAX: usize = 50;

/// Which databases of which server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["database", "databases", "all"]))]
struct MariadbSettings {
    /// Name or address of the server. Exactly one of `host` and `socket` is given.
    #[serde(default)]
    host: Option<String>,
    /// Port of the server.
    #[serde(default = "port_default")]
    port: u16,
    /// The server's Unix socket, such as `/run/mysqld/mysqld.sock`.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    socket: Option<PathBuf>,
    /// The user to log in as.
    user: String,
    /// Its password; not needed where the server knows the user by the socket.
    #[serde(default)]
    password: Option<Secret>,
    /// The one database to keep. Exactly one of `database`, `databases` and `all` is given.
    #[serde(default)]
    database: Option<String>,
    /// The databases to keep.
    #[serde(default)]
    #[schemars(length(min = 1))]
    databases: Vec<String>,
    /// Keep every database but mysql, sys, information_schema and performance_schema.
    #[serde(default)]
    all: bool,
    /// Keep users and grants too; by default when `all` is true. MariaDB's mariadb-dump only.
    #[serde(default)]
    users: Option<bool>,
    /// Tables to leave out, as `table` or `database.table`.
    #[serde(default)]
    exclude_tables: Vec<String>,
    /// How the connection is encrypted; by default as the client does it.
    #[serde(default)]
    ssl_mode: Option<SslMode>,
    /// A file with the certificates that `verify` trusts.
    #[serde(default)]
    ssl_ca: Option<PathBuf>,
    /// How many seconds to wait for a connection.
    #[serde(default = "connect_timeout_default")]
    #[schemars(range(min = 1, max = 600))]
    connect_timeout: u32,
    /// Whether a database may be without any table.
    #[serde(default)]
    allow_empty: bool,
    /// With `all`: databases to go without. They are neither kept nor missed when they are gone.
    #[serde(default)]
    except: Vec<String>,
    /// What may be missing in the backup or uncertain about it: it is still said, and the run is a success all the same.
    #[serde(default)]
    accept: Vec<Accepted>,
    /// Where mariadb-dump and mariadb lie, when the right ones are not found by themselves.
    #[serde(default)]
    bin_dir: Option<PathBuf>,
}

/// What an operator may do without.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Accepted {
    /// What the user has no right to see.
    Unseen,
    /// Tables of MyISAM, Aria or MEMORY may change while they are dumped.
    NotTransactional,
    /// The history of system-versioned tables, where the tool cannot write it.
    History,
    /// MariaDB's tool reads a MySQL server, or MySQL's a MariaDB.
    ForeignTool,
}

/// How a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum SslMode {
    Disable,
    /// Encrypted, with whoever answers.
    Require,
    /// Encrypted, with a server whose certificate and name are right.
    Verify,
}

fn port_default() -> u16 {
    3306
}

fn connect_timeout_default() -> u32 {
    10
}

impl MariadbSettings {
    /// Says what the schema can't.
    fn check(&self) -> Result<(), Failure> {
        match (&self.host, &self.socket) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(Failure::new("settings", "the server is not named in one way")
                .hint("give exactly one of `host: NAME` and `socket: /PATH`")),
        }
    }

    /// The server in words.
    fn place(&self) -> String {
        match (&self.host, &self.socket) {
            (Some(host), _) => format!("{host}:{}", self.port),
            (None, Some(socket)) => socket.display().to_string(),
            (None, None) => String::new(),
        }
    }

    fn accepts(&self, what: Accepted) -> bool {
        self.accept.contains(&what)
    }

    /// The tables of `database` that are left out.
    fn excluded<'a>(&'a self, database: &str) -> Vec<&'a str> {
        let of = |entry: &'a String| match entry.split_once('.') {
            Some((qualifier, table)) if qualifier == database => Some(table),
            Some(_) => None,
            None => Some(entry.as_str()),
        };
        self.exclude_tables.iter().filter_map(of).collect()
    }
}

/// The name of a database's file.
fn dump_name(database: &str) -> String {
    format!("{}.sql", file_name(database))
}

fn capture(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: MariadbSettings = builtin::settings(request)?;
    settings.check()?;
    let chosen = databases::chosen(settings.database.as_ref(), &settings.databases, settings.all)?;
    let server = Server::connect(&settings, &request.staging)?;
    voice.version(server.version.shown());
    voice.log(format!("{}, {}", server.version.shown(), server.client.told));
    let (previous, sight) = (request.previous.as_ref(), gaps::Sight::of(&server)?);
    let mut remarks = Vec::new();
    let databases = match chosen {
        Chosen::Named(names) => names,
        Chosen::All => {
            let names = server.databases()?;
            let files = |names: &[String]| names.iter().map(|name| dump_name(name)).collect::<Vec<_>>();
            remarks.extend(since::gone(previous, &[FORMAT_DUMP], &files(&names), &files(&settings.except)));
            remarks.extend(sight.hides_databases().map(|grant| Remark {
                code: "unseen",
                sentence: "databases that the user has no right to see are not in this backup, if there are any",
                name: settings.user.clone(),
                hint: grant,
                is_missing: !settings.accepts(Accepted::Unseen),
            }));
            names
        }
    };
    let mut totals = scan::Scan::default();
    let (mut bytes_before, mut told) = (0, 0);
    for (number, database) in databases.iter().enumerate() {
        let name = dump_name(database);
        let dumped = dump::dump(&server, database, &request.staging.join(&name), bytes_before, voice)?;
        let key = figure_key(Path::new(&name), number, settings.password.as_ref());
        voice.figure(format!("tables.{key}"), dumped.scan.tables.len() as u64);
        voice.figure(format!("rows.{key}"), dumped.scan.rows());
        voice.figure(format!("content.{key}"), dumped.scan.content());
        let now = &dumped.scan.counts;
        for (what, count) in now.named().into_iter().filter(|(_, count)| *count > 0) {
            voice.figure(format!("{what}.{key}"), count);
        }
        let before = |what: &str| previous?.figures.get(&format!("{what}.{key}")).copied();
        remarks.extend(gaps::unseen(&server, &sight, database, now, &before));
        let emptied = since::emptied(previous, &key, database, now.rows, settings.allow_empty);
        if emptied.is_none() {
            let rows = |name: &str| dumped.scan.tables.get(name).map(|table| table.rows);
            remarks.extend(since::tables_of(previous, &key, database, dumped.scan.tables.len() as u64, &rows));
        }
        remarks.extend(emptied);
        remarks.extend(dumped.remarks);
        for (table, found) in dumped.scan.tables.iter().take(TABLES_TOLD_MAX.saturating_sub(told)) {
            voice.figure(format!("rows.{key}.{table}"), found.rows);
            told += 1;
        }
        voice.artifact(&name, FORMAT_DUMP, dumped.sha256);
        bytes_before += dumped.bytes;
        totals.add(&dumped.scan);
    }
    if settings.users.unwrap_or(settings.all) {
        if server.client.is_mariadb && server.version.is_mariadb {
            let file = request.staging.join(USERS);
            users::capture(&server, &file)?;
            voice.artifact(USERS, FORMAT_USERS, digest::sha256(&file, |_| {})?);
        } else {
            voice.warning(
                Trouble::new("users_not_kept", "mysqldump cannot write users and grants")
                    .with_hint("say `users: false`, and keep them as SQL of your own"),
            );
        }
    }
    if !server.is_of_one_kind() {
        voice.figure(FOREIGN_TOOL, 1);
        if settings.accepts(Accepted::ForeignTool) {
            let pair = format!("{} reads a server of {}", server.client.told, server.version.shown());
            voice.notice(Trouble::new("foreign_tool", format!("{pair}: it is not known to write whole dumps of it")));
        }
    }
    remark::tell(remarks, voice);
    voice.figure("databases", databases.len() as u64);
    voice.figure("tables", totals.counts.tables);
    voice.figure("rows", totals.counts.rows);
    voice.figure("objects", totals.counts.objects());
    Ok(())
}
