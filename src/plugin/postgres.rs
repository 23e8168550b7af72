//! The plugin `postgres`: one `pg_dump -Fc` a database, and the roles, over the network or a socket.
//!
//! Dumps are not compressed (`--compress=0`): restic deduplicates and compresses better than two layers do. Without
//! zlib there is no checksum in the file, so its SHA-256 is taken and checked again before it is published.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::plugin::builtin::{self, Builtin, Failure, Voice};
use crate::plugin::digest;
use crate::plugin::protocol::Request;
use crate::plugin::settings::{Secret, exactly_one_of};
use crate::plugin::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Tools, file_name};
use crate::process::Exit;

mod client;
mod explain;
mod verify;

use client::Client;
use explain::explain;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "postgres",
    summary: "PostgreSQL databases by pg_dump, and the roles",
    guide: GUIDE,
    schema: || schemars::schema_for!(PostgresSettings).to_value(),
    capture,
    validate: verify::validate,
    restore: None,
    recover: None,
};

const GUIDE: &str = "
In the backup: each database whole (tables, data, large objects, functions, rights) as <database>.dump in PostgreSQL's
custom format, consistent in itself. With `all: true` every database that is no template, and globals.sql with roles,
their passwords (as hashes) and tablespaces.

Not in it: without `all`, the roles (say `globals: true` to have them); what `exclude_tables` names; WAL, so there is
no recovery to a point between two runs; server settings (postgresql.conf, pg_hba.conf: use `files`).

Least privilege: a role with LOGIN and `GRANT pg_read_all_data TO backup` (PostgreSQL 14 and newer; older: SELECT on all
tables and sequences, USAGE on the schemas). Role passwords are read by a superuser or with pg_read_all_data, but not
where the provider manages the server: there say `role_passwords: false`. Tables under row-level security need
BYPASSRLS.

It needs pg_dump, pg_restore and psql of the server's major version or a newer one (Debian: postgresql-client-N).

Restore: `pg_restore --create --exit-on-error -d postgres <database>.dump` after `psql -X -f globals.sql`.";

/// The file with roles and tablespaces.
const GLOBALS: &str = "globals.sql";
const FORMAT_DUMP: &str = "postgres-custom";
const FORMAT_GLOBALS: &str = "postgres-globals";

/// How long pg_dump waits for a table that is locked.
const LOCK_WAIT_MS: u32 = 300_000;
/// More databases than this in one server are an error.
const DATABASES_MAX: usize = 1_000;

/// Which databases of which server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["database", "databases", "all"]))]
struct PostgresSettings {
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
    #[serde(default = "yes")]
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
    /// Whether a database may be without any table.
    #[serde(default)]
    allow_empty: bool,
    /// Where pg_dump, pg_restore and psql lie, when the right ones are not found by themselves.
    #[serde(default)]
    bin_dir: Option<PathBuf>,
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

fn yes() -> bool {
    true
}

/// Which databases are kept.
enum Chosen {
    Named(Vec<String>),
    All,
}

impl PostgresSettings {
    fn chosen(&self) -> Result<Chosen, Failure> {
        let refuse = |what: &str| {
            Err(Failure::new("settings", what)
                .hint("give exactly one of `database: NAME`, `databases: [..]`, `all: true`"))
        };
        let names: Vec<String> = self.database.iter().chain(&self.databases).cloned().collect();
        match (self.database.is_some(), !self.databases.is_empty(), self.all) {
            (false, false, false) => refuse("no database is named"),
            (true, false, false) | (false, true, false) if names.iter().all(|name| !name.is_empty()) => {
                Ok(Chosen::Named(names))
            }
            (true, false, false) | (false, true, false) => refuse("a database's name is empty"),
            (false, false, true) => Ok(Chosen::All),
            _ => refuse("more than one of `database`, `databases` and `all` is given"),
        }
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

/// One server and how to talk to it.
struct Server<'a> {
    settings: &'a PostgresSettings,
    tools: Tools,
    client: Client,
}

fn capture(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: PostgresSettings = builtin::settings(request)?;
    let chosen = settings.chosen()?;
    let tools = settings.tools(&request.staging)?;
    let clients = client::find(settings.bin_dir.as_deref(), &tools)?;
    let newest = clients.last().cloned().ok_or_else(|| client::none(settings.bin_dir.as_deref()))?;
    let mut server = Server { settings: &settings, tools, client: newest };

    let first = match &chosen {
        Chosen::Named(names) => names.first().cloned().unwrap_or_default(),
        Chosen::All => "postgres".to_owned(),
    };
    let (major, version) = server.version(&first)?;
    voice.version(format!("PostgreSQL {version}"));
    server.client =
        client::choose(&clients, major).ok_or_else(|| client::too_old(&clients, major, &version, &settings.place()))?;
    voice.log(format!(
        "PostgreSQL {version}, pg_dump {} in {}",
        server.client.version,
        server.client.directory.display()
    ));

    let databases = match chosen {
        Chosen::Named(names) => names,
        Chosen::All => server.databases()?,
    };
    let mut tables = 0;
    let mut bytes_before = 0;
    for database in &databases {
        let dump = request.staging.join(format!("{}.dump", file_name(database)));
        let dumped = server.dump(database, &dump, bytes_before, voice)?;
        bytes_before += dumped.bytes;
        tables += dumped.tables;
        voice.artifact(&format!("{}.dump", file_name(database)), FORMAT_DUMP, dumped.sha256);
    }
    if settings.globals.unwrap_or(settings.all) {
        let sha256 = server.globals(&request.staging.join(GLOBALS))?;
        voice.artifact(GLOBALS, FORMAT_GLOBALS, sha256);
    }
    voice.figure("databases", databases.len() as u64);
    voice.figure("tables", tables);
    Ok(())
}

struct Dumped {
    bytes: u64,
    tables: u64,
    sha256: String,
}

impl Server<'_> {
    /// Asks one question of `database`; answers its rows.
    fn query(&self, database: &str, sql: &str) -> Result<Vec<String>, Failure> {
        let mut rows = Vec::new();
        let args = ["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql].map(OsString::from).to_vec();
        let ran = self.tools.run(
            &self.client.tool("psql"),
            args,
            // Not by argument: there a name with `=` in it would be read as a connection string.
            &[("PGDATABASE", database)],
            DEADLINE_OF_QUESTION,
            |line| {
                if rows.len() <= DATABASES_MAX && !line.is_empty() {
                    rows.push(line.to_owned());
                }
            },
            || {},
        );
        match ran.exit {
            Exit::Success => Ok(rows),
            _ => Err(explain("psql", &self.settings.place(), database, &ran)),
        }
    }

    fn version(&self, database: &str) -> Result<(u32, String), Failure> {
        let sql = "SELECT current_setting('server_version_num'), split_part(current_setting('server_version'), ' ', 1)";
        let rows = match self.query(database, sql) {
            // A server may be without the database `postgres`.
            Err(failure) if self.settings.all && failure.trouble.code == "database_missing" => {
                self.query("template1", sql)?
            }
            other => other?,
        };
        let row = rows.first().map(String::as_str).unwrap_or_default();
        let parsed = row.split_once('|').and_then(|(number, version)| Some((number.parse::<u32>().ok()?, version)));
        match parsed {
            Some((number, version)) => Ok((number / 10_000, version.to_owned())),
            None => Err(Failure::new(
                "not_postgres",
                format!("{} did not tell a PostgreSQL version but {row:?}", self.settings.place()),
            )),
        }
    }

    fn databases(&self) -> Result<Vec<String>, Failure> {
        // In hex, so that any name comes as one line.
        let sql = "SELECT encode(convert_to(datname, 'UTF8'), 'hex') FROM pg_database \
                   WHERE datallowconn AND NOT datistemplate ORDER BY datname";
        let rows = match self.query("postgres", sql) {
            Err(failure) if failure.trouble.code == "database_missing" => self.query("template1", sql)?,
            other => other?,
        };
        if rows.len() > DATABASES_MAX {
            return Err(Failure::new("too_many_databases", format!("there are more than {DATABASES_MAX} databases")));
        }
        let names: Vec<String> = rows.iter().filter_map(|row| String::from_utf8(hex::decode(row).ok()?).ok()).collect();
        if names.is_empty() || names.len() != rows.len() {
            return Err(Failure::new("no_databases", format!("{} lists no database to keep", self.settings.place()))
                .hint("only templates are there, or a name is not UTF-8: name them with `databases`"));
        }
        Ok(names)
    }

    fn dump(&self, database: &str, file: &Path, bytes_before: u64, voice: &mut Voice<'_>) -> Result<Dumped, Failure> {
        let size = self.query(database, "SELECT pg_database_size(current_database())")?;
        let size: u64 = size.first().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut args: Vec<OsString> = ["-Fc", "--compress=0", "-w"].map(OsString::from).to_vec();
        args.push(format!("--lock-wait-timeout={LOCK_WAIT_MS}").into());
        args.extend(self.settings.exclude_tables.iter().map(|table| format!("--exclude-table={table}").into()));
        args.extend([OsString::from("-f"), file.into()]);
        let mut told = u64::MAX;
        let ran = self.tools.run(
            &self.client.tool("pg_dump"),
            args,
            &[("PGDATABASE", database)],
            DEADLINE_OF_WORK,
            |_| {},
            || {
                let written = bytes_of(file);
                // Only what grew is progress: a dump that hangs is noticed.
                if written != told {
                    told = written;
                    voice.progress(bytes_before + written, (bytes_before + size).max(bytes_before + written));
                }
            },
        );
        if ran.exit != Exit::Success {
            // What is there is a piece; nobody shall take it for a dump.
            let _ = std::fs::remove_file(file);
            return Err(explain("pg_dump", &self.settings.place(), database, &ran));
        }
        for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
            voice.log(line.trim());
        }
        let contents = verify::contents(&self.tools, &self.client, file).map_err(|failure| {
            failure.hint("pg_dump ended well but its file cannot be read: look at the disk below the artifacts")
        })?;
        if contents.tables == 0 && !self.settings.allow_empty {
            return Err(Failure::new("database_empty", format!("the database {database:?} has no table to keep"))
                .hint("check the name, `exclude_tables` and the role's rights, or say `allow_empty: true`"));
        }
        let bytes = bytes_of(file);
        let sha256 = digest::sha256(file, |read| voice.progress(bytes_before + read, bytes_before + bytes))?;
        Ok(Dumped { bytes, tables: contents.tables, sha256 })
    }

    fn globals(&self, file: &Path) -> Result<String, Failure> {
        let mut args: Vec<OsString> = ["-w", "--globals-only"].map(OsString::from).to_vec();
        if !self.settings.role_passwords {
            args.push("--no-role-passwords".into());
        }
        args.extend([OsString::from("-f"), file.into()]);
        let ran = self.tools.run(&self.client.tool("pg_dumpall"), args, &[], DEADLINE_OF_WORK, |_| {}, || {});
        if ran.exit == Exit::Success {
            return digest::sha256(file, |_| {});
        }
        let _ = std::fs::remove_file(file);
        let failure = explain("pg_dumpall", &self.settings.place(), "postgres", &ran);
        Err(if failure.trouble.message.contains("pg_authid") {
            failure.hint(
                "this role may not read role passwords (pg_authid): say `role_passwords: false` or `globals: false`",
            )
        } else {
            failure
        })
    }
}

fn bytes_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}
