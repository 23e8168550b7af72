//! How PostgreSQL databases are captured: one `pg_dump -Fc` a database, and the roles, over the network or a socket.
//!
//! Dumps are not compressed (`--compress=0`): restic deduplicates and compresses better than two layers do. Without
//! zlib there is no checksum in the file, so its SHA-256 is taken and checked again before it is published.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::{self, Chosen, figure_key, remark, since};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::plugin::kit::tool::{Tools, file_name};
use crate::plugin::protocol::Request;

mod bare;
mod bound;
mod client;
mod dump;
mod excluded;
mod explain;
mod gaps;
mod globals;
mod path;
mod property;
pub(in crate::plugin) mod restore;
mod scan;
pub(crate) mod server;
mod statement;
pub(in crate::plugin) mod validate;

pub(in crate::plugin) use bound::{bound, subscriptions};
pub(in crate::plugin) use globals::{Globals, KEEP_ON, There};
pub(in crate::plugin) use path::Changer as PathChanger;
pub(in crate::plugin) use restore::compare;
pub(in crate::plugin) use scan::{Scan as Content, Scanner};
use server::Server;
pub(in crate::plugin) use server::{UTF8, identifier, in_hex, literal, names};
pub(in crate::plugin) use validate::prove_dump;

/// The file with roles and tablespaces.
const GLOBALS: &str = "globals.sql";
const FORMAT_DUMP: &str = "postgres-custom";
const FORMAT_GLOBALS: &str = "postgres-globals";

/// What every server has to connect to; it usually holds nothing.
pub(crate) const MAINTENANCE: &str = "postgres";
/// How long pg_dump waits for a table that is locked.
const LOCK_WAIT_MS: u32 = 300_000;
/// More databases than this in one server are an error.
const DATABASES_MAX: usize = 1_000;
/// Tables that get figures of their own, in all.
const TABLES_TOLD_MAX: usize = 50;

/// Which databases of which server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["database", "databases", "all"]))]
pub(crate) struct PostgresSettings {
    /// Name or address of the server, or the directory of its Unix socket such as `/var/run/postgresql`.
    host: String,
    #[serde(default = "port_default")]
    /// Port of the server.
    port: u16,
    /// The role to log in as.
    user: String,
    /// Its password; not needed where the server trusts the connection.
    #[serde(default)]
    password: Option<Secret>,
    /// The one database to keep. Exactly one of `database`, `databases` and `all` is given.
    #[serde(default)]
    database: Option<String>,
    /// The databases to keep.
    #[serde(default)]
    #[schemars(length(min = 1))]
    databases: Vec<String>,
    /// Keep every database that allows connections and is no template.
    #[serde(default)]
    all: bool,
    /// Keep roles and tablespaces too; by default when `all` is true.
    #[serde(default)]
    globals: Option<bool>,
    /// Keep the roles' password hashes in `globals.sql`; this needs a superuser or pg_read_all_data.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    role_passwords: bool,
    /// Tables to leave out, as `pg_dump --exclude-table` reads them.
    #[serde(default)]
    exclude_tables: Vec<String>,
    /// How the connection is encrypted; libpq's default is `prefer`.
    #[serde(default)]
    sslmode: Option<SslMode>,
    /// A file with the certificates that `verify-ca` and `verify-full` trust.
    #[serde(default)]
    sslrootcert: Option<PathBuf>,
    /// How many seconds to wait for a connection.
    #[serde(default = "connect_timeout_default")]
    #[schemars(range(min = 1, max = 600))]
    connect_timeout: u32,
    /// How many databases are dumped at the same time.
    #[serde(default = "jobs_default")]
    #[schemars(range(min = 1, max = 16))]
    jobs: usize,
    /// Whether a database may be without any table. With `all` only `postgres` may, which servers have for logins.
    #[serde(default)]
    allow_empty: bool,
    /// With `all`: databases to go without. They are neither kept nor missed when they are gone or closed.
    #[serde(default)]
    except: Vec<String>,
    /// What may be missing in the backup: it is still said, and the run is a success all the same.
    #[serde(default)]
    accept: Vec<Accepted>,
    /// Where pg_dump, pg_restore and psql lie, when the right ones are not found by themselves.
    #[serde(default)]
    bin_dir: Option<PathBuf>,
}

/// What an operator may do without.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Accepted {
    /// Subscriptions, which are dumped for superusers only.
    Subscriptions,
    /// Options of user mappings that the role may not see.
    UserMappings,
    /// What needs a table that `exclude_tables` leaves out, and so is not loaded without that table.
    NeedsExcluded,
}

impl Accepted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::UserMappings => "user_mappings",
            Self::NeedsExcluded => "needs_excluded",
        }
    }
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

fn port_default() -> u16 {
    5432
}

fn connect_timeout_default() -> u32 {
    10
}

fn jobs_default() -> usize {
    1
}

impl PostgresSettings {
    /// Whether a database may be without any table.
    fn may_be_empty(&self, database: &str) -> bool {
        self.allow_empty || (self.all && database == MAINTENANCE)
    }

    /// The server in words.
    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn tools(&self, staging: &Path) -> Result<Tools, Failure> {
        let mut env = vec![
            ("PGHOST".to_owned(), self.host.clone()),
            ("PGPORT".to_owned(), self.port.to_string()),
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGCONNECT_TIMEOUT".to_owned(), self.connect_timeout.to_string()),
            ("PGAPPNAME".to_owned(), "larder".to_owned()),
            // What the tools say is read here.
            ("LC_MESSAGES".to_owned(), "C".to_owned()),
        ];
        env.extend(self.sslmode.map(|mode| ("PGSSLMODE".to_owned(), mode.as_str().to_owned())));
        env.extend(self.sslrootcert.as_ref().map(|path| ("PGSSLROOTCERT".to_owned(), path.display().to_string())));
        let mut env: Vec<(String, SecretString)> =
            env.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
        let secrets: Vec<SecretString> = self.password.iter().map(|password| password.0.clone()).collect();
        // By the environment, which other users can't read; a password file could be left behind by a kill.
        env.extend(secrets.iter().map(|password| ("PGPASSWORD".to_owned(), password.clone())));
        Tools::new(env, secrets, staging)
    }
}

/// The name of a database's file.
fn dump_name(database: &str) -> String {
    format!("{}.dump", file_name(database))
}

pub(in crate::plugin) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PostgresSettings = builtin::settings(request)?;
    let chosen = database::chosen(settings.database.as_ref(), &settings.databases, settings.all)?;
    let first = match &chosen {
        Chosen::Named(names) => names.first().cloned().unwrap_or_default(),
        Chosen::All => MAINTENANCE.to_owned(),
    };
    let server = Server::connect(&settings, &request.staging, &first)?;
    let (version, client) = (&server.version, &server.client);
    events.version(format!("PostgreSQL {version}"));
    events.log(format!("PostgreSQL {version}, pg_dump {} in {}", client.version, client.directory.display()));

    let previous = request.previous.as_ref();
    let mut remarks = Vec::new();
    let databases = match chosen {
        Chosen::Named(names) => names,
        Chosen::All => {
            let names = server.databases()?;
            let files = |names: &[String]| names.iter().map(|name| dump_name(name)).collect::<Vec<_>>();
            let closed = server.closed()?;
            // What is closed is still there.
            let there: Vec<String> =
                names.iter().chain(closed.iter().map(|remark| &remark.name)).map(|name| dump_name(name)).collect();
            remarks.extend(since::gone(previous, &[FORMAT_DUMP], &there, &files(&settings.except)));
            remarks.extend(closed);
            names
        }
    };
    let (mut tables, mut rows, mut told) = (0, 0, 0);
    let all = dump::all(&server, &databases, &request.staging, events)?;
    for (number, (database, dumped)) in databases.iter().zip(all).enumerate() {
        let name = dump_name(database);
        tables += dumped.tables;
        if let Some(scan) = &dumped.scan {
            let key = figure_key(Path::new(&name), number, settings.password.as_ref());
            events.figure(format!("rows.{key}"), scan.rows());
            events.figure(format!("content.{key}"), scan.content());
            for (table, found) in scan.tables.iter().take(TABLES_TOLD_MAX.saturating_sub(told)) {
                events.figure(format!("rows.{key}.{table}"), found.rows);
                told += 1;
            }
            rows += scan.rows();
            events.figure(format!("tables.{key}"), dumped.tables);
            let emptied = since::emptied(previous, &key, database, scan.rows(), settings.allow_empty);
            if emptied.is_none() {
                let now = |name: &str| scan.tables.get(name).map(|table| table.rows);
                // What has a space in it and no quotes is no table.
                let of_tables =
                    |name: &str| if name.contains(' ') && !name.contains('"') { Some(1) } else { now(name) };
                remarks.extend(since::tables_of(previous, &key, database, dumped.tables, &of_tables));
            }
            remarks.extend(emptied);
        }
        let key = figure_key(Path::new(&name), number, settings.password.as_ref());
        for table in dumped.excluded.iter().take(excluded::NAMED_MAX) {
            // A restore over the database must not drop them.
            events.figure(excluded::figure(&key, table), 1);
        }
        remarks.extend(dumped.remarks);
        dumped.log.iter().for_each(|line| events.log(line));
        events.artifact(&name, FORMAT_DUMP, dumped.sha256);
    }
    if tables == 0 && !settings.allow_empty {
        return Err(Failure::new(codes::DATABASE_EMPTY, format!("no database of {} has a table", settings.place()))
            .hint("check `host` and `port`, or say `allow_empty: true` if that is right"));
    }
    if settings.globals.unwrap_or(settings.all) {
        let sha256 = server.globals(&request.staging.join(GLOBALS))?;
        events.artifact(GLOBALS, FORMAT_GLOBALS, sha256);
    }
    remark::tell(remarks, events);
    events.figure("databases", databases.len() as u64);
    events.figure("tables", tables);
    events.figure("rows", rows);
    Ok(())
}
