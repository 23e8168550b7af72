//! One server and how to talk to it.

use std::ffi::OsString;
use std::path::Path;

use super::client::{self, Client, OptionFile};
use super::explain::explain;
use super::reach::{Program, Reach};
use super::{DATABASES_MAX, MariadbSettings};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Ran, Tools};
use crate::process::Exit;

/// The server's own databases.
const SYSTEM: &str = "'information_schema', 'performance_schema', 'mysql', 'sys'";

/// What a restore that is going on, or was killed, has beside.
const OURS: &str = "^larder_[0-9a-z]{26}_[0-9]+(_old)?$";

/// Names are read and written as they are, whatever the system's language.
const UTF8: &str = "--default-character-set=utf8mb4";

/// Has a server answer and understand the same whatever its own mode is: with ANSI_QUOTES it shows names otherwise.
pub(super) const PLAIN: &str = "SET SESSION sql_mode = '', sql_quote_show_create = 1";

pub(super) struct Server<'a> {
    pub(super) settings: &'a MariadbSettings,
    pub(super) tools: Tools,
    pub(super) client: Client,
    /// None: the programs log in by themselves.
    options: Option<OptionFile>,
    /// None: the programs of this host.
    pub(super) reach: Option<&'a dyn Reach>,
    pub(super) version: Version,
}

/// The server's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// `10.11.19`.
    number: String,
    pub(super) is_mariadb: bool,
}

impl Version {
    /// From `SELECT version()`: `10.11.19-MariaDB-0+deb12u1`, `8.0.36`.
    fn parse(text: &str) -> Option<Self> {
        let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        number.contains('.').then(|| Self { number, is_mariadb: text.to_ascii_lowercase().contains("mariadb") })
    }

    pub(super) fn shown(&self) -> String {
        format!("{} {}", if self.is_mariadb { "MariaDB" } else { "MySQL" }, self.number)
    }
}

/// A version as people read it, from what a server says of itself.
pub(super) fn shown(told: &str) -> Option<String> {
    Version::parse(told).map(|version| version.shown())
}

/// `MariaDB 10.11` of `MariaDB 10.11.19`: what must be the same for dumps to look the same.
pub(super) fn series(shown: &str) -> &str {
    shown.match_indices('.').nth(1).and_then(|(at, _)| shown.get(..at)).unwrap_or(shown)
}

/// A table as the server lists it.
pub(super) struct Listed {
    pub(super) name: String,
    /// BASE TABLE, SYSTEM VERSIONED, VIEW, SEQUENCE, …
    kind: String,
    engine: String,
    pub(super) bytes: u64,
}

impl Listed {
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED")
    }

    pub(super) fn engine(&self) -> String {
        self.engine.to_ascii_lowercase()
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.kind == "SYSTEM VERSIONED"
    }

    pub(super) fn is_sequence(&self) -> bool {
        self.kind == "SEQUENCE"
    }

    pub(super) fn is_view(&self) -> bool {
        self.kind.contains("VIEW")
    }

    /// Whether one transaction sees it as of one instant.
    pub(super) fn is_transactional(&self) -> bool {
        let engine = self.engine.to_ascii_lowercase();
        !self.is_table() || matches!(engine.as_str(), "innodb" | "rocksdb" | "tokudb" | "ndbcluster" | "spider" | "")
    }
}

impl<'a> Server<'a> {
    /// Finds the programs and asks the server for its version.
    pub(super) fn connect(settings: &'a MariadbSettings, staging: &Path) -> Result<Self, Failure> {
        let secrets = settings.password.iter().map(|password| password.0.clone()).collect();
        let tools = Tools::new(Vec::new(), secrets, staging)?;
        let mut clients = client::find(settings.bin_dir.as_deref(), &tools)?;
        let client = clients.remove(0);
        let options = OptionFile::new(settings, &client)?;
        let version = Version::default();
        let mut server = Self { settings, tools, client, options: Some(options), reach: None, version };
        server.version = server.ask_version()?;
        if !server.is_of_one_kind()
            && let Some(other) = clients.into_iter().find(|client| client.is_mariadb == server.version.is_mariadb)
        {
            server.options = Some(OptionFile::new(settings, &other)?);
            server.client = other;
        }
        Ok(server)
    }

    /// A server whose programs are reached in another way.
    pub(super) fn reached(
        settings: &'a MariadbSettings,
        reach: &'a dyn Reach,
        staging: &Path,
    ) -> Result<Self, Failure> {
        let mut told = Vec::new();
        let hear = &mut |bytes: &[u8]| told.extend_from_slice(bytes);
        let ran = reach.run(Program::Dump, vec!["--version".into()], None, hear, &mut || {})?;
        if ran.exit != Exit::Success {
            return Err(explain("the dump program", &settings.place(), "", &ran));
        }
        let told = String::from_utf8_lossy(&told).trim().to_owned();
        let (dump, shell) = ("mariadb-dump".into(), "mariadb".into());
        let client = Client { dump, shell, is_mariadb: told.contains("MariaDB"), told };
        let tools = Tools::new(Vec::new(), Vec::new(), staging)?;
        let mut server =
            Self { settings, tools, client, options: None, reach: Some(reach), version: Version::default() };
        server.version = server.ask_version()?;
        Ok(server)
    }

    fn ask_version(&self) -> Result<Version, Failure> {
        let rows = self.query("", "SELECT version()")?;
        let told = rows.first().map(String::as_str).unwrap_or_default();
        let place = || self.settings.place();
        Version::parse(told)
            .ok_or_else(|| Failure::new(codes::NOT_MARIADB, format!("{} told no version but {told:?}", place())))
    }

    fn login(&self) -> Vec<OsString> {
        self.options.iter().map(|options| options.argument().into()).collect()
    }

    /// Whether the programs are made for this kind of server.
    pub(super) fn is_of_one_kind(&self) -> bool {
        self.client.is_mariadb == self.version.is_mariadb
    }

    /// What every call of the dump program begins with.
    pub(super) fn dump_args(&self) -> Vec<OsString> {
        let mut args = self.login();
        args.extend([UTF8, "--max-allowed-packet=1G"].map(OsString::from));
        if !self.client.is_mariadb {
            // Without these MySQL 8's asks for rights and tables that a backup does not need.
            args.extend(["--no-tablespaces", "--set-gtid-purged=OFF", "--column-statistics=0"].map(OsString::from));
        }
        args
    }

    /// What every call of the client begins with. In binary mode a dump can't run programs (`\!`), and `\r\n` stays.
    /// Remarks are a part of a routine, and without them some clients lose a trigger's end.
    pub(super) fn shell_args(&self) -> Vec<OsString> {
        let mut args = self.login();
        args.extend(
            [UTF8, "--batch", "--skip-column-names", "--binary-mode", "--comments", "--max-allowed-packet=1G"]
                .map(OsString::from),
        );
        args
    }

    /// Runs a statement; answers its rows. `about` is the database it is about.
    pub(super) fn query(&self, about: &str, sql: &str) -> Result<Vec<String>, Failure> {
        let (ran, rows) = self.ask(sql)?;
        match ran.exit {
            Exit::Success => Ok(rows),
            _ => Err(explain("a question", &self.settings.place(), about, &ran)),
        }
    }

    /// Runs a statement, whatever it ends with.
    ///
    /// # Errors
    /// When the way to the client fails.
    pub(super) fn ask(&self, sql: &str) -> Result<(Ran, Vec<String>), Failure> {
        let mut args = self.shell_args();
        args.extend([format!("--init-command={PLAIN}").into(), format!("--execute={sql}").into()]);
        if let Some(reach) = self.reach {
            let mut told = Vec::new();
            let hear = &mut |bytes: &[u8]| told.extend_from_slice(bytes);
            let ran = reach.run(Program::Shell, args, None, hear, &mut || {})?;
            return Ok((ran, String::from_utf8_lossy(&told).lines().map(str::to_owned).collect()));
        }
        let mut rows = Vec::new();
        let hear = |line: &str| rows.push(line.to_owned());
        // A DROP of a large database takes its time, a question does not.
        let deadline = if sql.starts_with("SELECT") { DEADLINE_OF_QUESTION } else { DEADLINE_OF_WORK };
        let ran = self.tools.run(&self.client.shell, args, &[], deadline, hear, || {});
        Ok((ran, rows))
    }

    /// Every database but the server's own.
    pub(super) fn databases(&self) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT HEX(schema_name) FROM information_schema.schemata WHERE LOWER(schema_name) NOT IN ({SYSTEM}) \
             AND schema_name NOT REGEXP '{OURS}' ORDER BY schema_name"
        );
        let names: Vec<String> = self.query("", &sql)?.iter().filter_map(|row| unhex(row)).collect();
        match names.len() {
            0 => Err(Failure::new(codes::NO_DATABASES, format!("{} lists no database to keep", self.settings.place()))
                .hint("a database that the user may not see is not listed: check its grants")),
            count if count > DATABASES_MAX => {
                Err(Failure::new(codes::TOO_MANY_DATABASES, format!("there are more than {DATABASES_MAX} databases")))
            }
            _ => Ok(names.into_iter().filter(|name| !self.settings.except.contains(name)).collect()),
        }
    }

    pub(super) fn exists(&self, database: &str) -> Result<bool, Failure> {
        let sql = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {}", literal(database));
        Ok(!self.query(database, &sql)?.is_empty())
    }

    /// Tables, views and sequences of a database.
    pub(super) fn tables(&self, database: &str) -> Result<Vec<Listed>, Failure> {
        let sql = format!(
            "SELECT HEX(table_name), table_type, IFNULL(engine, ''), IFNULL(data_length, 0) \
             FROM information_schema.tables WHERE table_schema = {}",
            literal(database)
        );
        let read = |row: &String| {
            let mut columns = row.split('\t');
            Some(Listed {
                name: unhex(columns.next()?)?,
                kind: columns.next()?.to_owned(),
                engine: columns.next()?.to_owned(),
                bytes: columns.next()?.parse().ok()?,
            })
        };
        Ok(self.query(database, &sql)?.iter().filter_map(read).collect())
    }
}

/// A string in SQL, whatever the server's mode says about backslashes.
pub(super) fn literal(text: &str) -> String {
    if text.is_empty() { "''".to_owned() } else { format!("_utf8mb4 0x{}", hex::encode(text)) }
}

/// A name in SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(super) fn unhex(text: &str) -> Option<String> {
    String::from_utf8(hex::decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_tell_them() {
        let shown = |text| Version::parse(text).map(|version| version.shown());
        assert_eq!(shown("10.11.19-MariaDB-0+deb12u1").as_deref(), Some("MariaDB 10.11.19"));
        assert_eq!(shown("8.0.36").as_deref(), Some("MySQL 8.0.36"));
        assert_eq!(shown("hello"), None);
        assert_eq!(series("MariaDB 10.11.19"), "MariaDB 10.11");
        assert_eq!(series("MySQL 8.4"), "MySQL 8.4");
    }
}
