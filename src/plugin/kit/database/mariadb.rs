//! How databases of MariaDB and MySQL are captured: one `mariadb-dump` a database, and the users.
//!
//! Exit code 0 is no proof and a dump that failed still has a head. So the file is read to its end: its trailer, its
//! tables, and each table's rows with a fingerprint, by which a restore is compared afterwards.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::remark::{self, Remark};
use crate::plugin::kit::database::{self, Chosen, figure_key, since};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::plugin::kit::tool::file_name;
use crate::plugin::protocol::Request;

mod client;
mod dump;
mod explain;
mod gaps;
mod grants;
pub(in crate::plugin) mod inside;
pub(in crate::plugin) mod reach;
mod reading;
pub(in crate::plugin) mod restore;
mod scan;
mod server;
mod split;
mod users;
pub(in crate::plugin) mod validate;

use server::Server;

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
pub(in crate::plugin) struct MariadbSettings {
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
            _ => Err(Failure::new(codes::SETTINGS, "the server is not named in one way")
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

pub(in crate::plugin) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: MariadbSettings = builtin::settings(request)?;
    settings.check()?;
    let chosen = database::chosen(settings.database.as_ref(), &settings.databases, settings.all)?;
    let server = Server::connect(&settings, &request.staging)?;
    events.version(server.version.shown());
    events.log(format!("{}, {}", server.version.shown(), server.client.told));
    let (previous, visibility) = (request.previous.as_ref(), gaps::Visibility::of(&server)?);
    let mut remarks = Vec::new();
    let databases = match chosen {
        Chosen::Named(names) => names,
        Chosen::All => {
            let names = server.databases()?;
            let files = |names: &[String]| names.iter().map(|name| dump_name(name)).collect::<Vec<_>>();
            remarks.extend(since::gone(previous, &[FORMAT_DUMP], &files(&names), &files(&settings.except)));
            remarks.extend(visibility.hides_databases().map(|grant| Remark {
                code: codes::UNSEEN,
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
        let dumped = dump::dump(&server, database, &request.staging.join(&name), bytes_before, events)?;
        let key = figure_key(Path::new(&name), number, settings.password.as_ref());
        events.figure(format!("tables.{key}"), dumped.scan.tables.len() as u64);
        events.figure(format!("rows.{key}"), dumped.scan.rows());
        events.figure(format!("content.{key}"), dumped.scan.content());
        let now = &dumped.scan.counts;
        for (what, count) in now.named().into_iter().filter(|(_, count)| *count > 0) {
            events.figure(format!("{what}.{key}"), count);
        }
        let before = |what: &str| previous?.figures.get(&format!("{what}.{key}")).copied();
        remarks.extend(gaps::unseen(&server, &visibility, database, now, &before));
        let emptied = since::emptied(previous, &key, database, now.rows, settings.allow_empty);
        if emptied.is_none() {
            let rows = |name: &str| dumped.scan.tables.get(name).map(|table| table.rows);
            remarks.extend(since::tables_of(previous, &key, database, dumped.scan.tables.len() as u64, &rows));
        }
        remarks.extend(emptied);
        remarks.extend(dumped.remarks);
        for (table, found) in dumped.scan.tables.iter().take(TABLES_TOLD_MAX.saturating_sub(told)) {
            events.figure(format!("rows.{key}.{table}"), found.rows);
            told += 1;
        }
        events.artifact(&name, FORMAT_DUMP, dumped.sha256);
        bytes_before += dumped.bytes;
        totals.add(&dumped.scan);
    }
    if settings.users.unwrap_or(settings.all) {
        if server.client.is_mariadb && server.version.is_mariadb {
            let file = request.staging.join(USERS);
            users::capture(&server, &file)?;
            events.artifact(USERS, FORMAT_USERS, digest::sha256(&file, |_| {})?);
        } else {
            events.warning(
                Trouble::new(codes::USERS_NOT_KEPT, "mysqldump cannot write users and grants")
                    .with_hint("say `users: false`, and keep them as SQL of your own"),
            );
        }
    }
    if !server.is_of_one_kind() {
        events.figure(FOREIGN_TOOL, 1);
        if settings.accepts(Accepted::ForeignTool) {
            let pair = format!("{} reads a server of {}", server.client.told, server.version.shown());
            events.notice(Trouble::new(
                codes::FOREIGN_TOOL,
                format!("{pair}: it is not known to write whole dumps of it"),
            ));
        }
    }
    remark::tell(remarks, events);
    events.figure("databases", databases.len() as u64);
    events.figure("tables", totals.counts.tables);
    events.figure("rows", totals.counts.rows);
    events.figure("objects", totals.counts.objects());
    Ok(())
}
