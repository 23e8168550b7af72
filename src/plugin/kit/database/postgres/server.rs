//! One server and how to talk to it.

use std::ffi::OsString;
use std::path::Path;

use super::client::{self, Client};
use super::explain::explain;
use super::{DATABASES_MAX, PostgresSettings};
use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;
use crate::plugin::kit::digest;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Ran, Tools};
use crate::process::Exit;

/// Rows of an answer that are kept.
const ROWS_MAX: usize = 20_000;
/// Has a client speak UTF-8 in both directions: else it is what the database it is connected to happens to have.
pub(in crate::plugin) const UTF8: (&str, &str) = ("PGCLIENTENCODING", "UTF8");

pub(crate) struct Server<'a> {
    pub(super) settings: &'a PostgresSettings,
    pub(super) tools: Tools,
    pub(super) client: Client,
    pub(super) major: u32,
    /// `15.18`.
    pub(super) version: String,
}

impl<'a> Server<'a> {
    /// Asks the server for its version in `database`, and picks the programs that fit it.
    pub(crate) fn connect(settings: &'a PostgresSettings, staging: &Path, database: &str) -> Result<Self, Failure> {
        let tools = settings.tools(staging)?;
        let clients = client::find(settings.bin_dir.as_deref(), &tools)?;
        let newest = clients.last().cloned().ok_or_else(|| client::none(settings.bin_dir.as_deref()))?;
        let mut server = Self { settings, tools, client: newest, major: 0, version: String::new() };
        (server.major, server.version) = server.ask_version(database)?;
        server.client = client::choose(&clients, server.major)
            .ok_or_else(|| client::too_old(&clients, server.major, &server.version, &settings.place()))?;
        Ok(server)
    }

    /// The same server, for another thread.
    pub(super) fn again(&self, staging: &Path) -> Result<Self, Failure> {
        Ok(Self {
            settings: self.settings,
            tools: self.settings.tools(staging)?,
            client: self.client.clone(),
            major: self.major,
            version: self.version.clone(),
        })
    }

    /// Asks one question of `database`; answers its rows.
    pub(crate) fn query(&self, database: &str, sql: &str) -> Result<Vec<String>, Failure> {
        let (mut ran, mut rows) = self.asked(sql, &[("PGDATABASE", database), UTF8]);
        if is_in_no_encoding(&ran) {
            (ran, rows) = self.asked(sql, &[("PGDATABASE", database)]);
        }
        match ran.exit {
            Exit::Success => Ok(rows),
            _ => Err(explain("psql", &self.settings.place(), database, &ran)),
        }
    }

    /// `env` names the database: as an argument a name with `=` in it would be read as a connection string.
    fn asked(&self, sql: &str, env: &[(&str, &str)]) -> (Ran, Vec<String>) {
        let mut rows = Vec::new();
        // Functions and operators of the application could stand in for the server's own, with the rights of this role.
        let args = ["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", "SET search_path = ''", "-c", sql];
        let ran = self.tools.run(
            &self.client.tool("psql"),
            args.map(OsString::from).to_vec(),
            env,
            // A DROP of a large database takes its time, a question does not.
            if sql.starts_with("SELECT") { DEADLINE_OF_QUESTION } else { DEADLINE_OF_WORK },
            |line| {
                if rows.len() <= ROWS_MAX && !line.is_empty() {
                    rows.push(line.to_owned());
                }
            },
            || {},
        );
        (ran, rows)
    }

    /// Asks a question of one column, of names or other text.
    pub(super) fn names(&self, database: &str, sql: &str) -> Result<Vec<String>, Failure> {
        names(self.query(database, &in_hex(sql))?)
    }

    fn ask_version(&self, database: &str) -> Result<(u32, String), Failure> {
        let sql = "SELECT current_setting('server_version_num'), split_part(current_setting('server_version'), ' ', 1)";
        let rows = match self.query(database, sql) {
            // A server may be without the database `postgres`.
            Err(failure) if database == "postgres" && failure.trouble.is_of(Kind::NotFound) => {
                self.query("template1", sql)?
            }
            other => other?,
        };
        let row = rows.first().map(String::as_str).unwrap_or_default();
        let parsed = row.split_once('|').and_then(|(number, version)| Some((number.parse::<u32>().ok()?, version)));
        match parsed {
            Some((number, version)) => Ok((number / 10_000, version.to_owned())),
            None => Err(Failure::new(
                codes::NOT_POSTGRES,
                format!("{} did not tell a PostgreSQL version but {row:?}", self.settings.place()),
            )),
        }
    }

    pub(super) fn databases(&self) -> Result<Vec<String>, Failure> {
        let sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
                   AND datname !~ '^larder_[0-9a-z]{26}_[0-9]+(_old)?$' ORDER BY datname";
        let rows = self.ask_apart(&in_hex(sql))?;
        if rows.len() > DATABASES_MAX {
            return Err(Failure::new(
                codes::TOO_MANY_DATABASES,
                format!("there are more than {DATABASES_MAX} databases"),
            ));
        }
        let names = names(rows).unwrap_or_default();
        if names.is_empty() {
            return Err(Failure::new(
                codes::NO_DATABASES,
                format!("{} lists no database to keep", self.settings.place()),
            )
            .hint("only templates are there, or a name is not UTF-8: name them with `databases`"));
        }
        Ok(names.into_iter().filter(|name| !self.settings.except.contains(name)).collect())
    }

    /// Databases that nobody may connect to, and so nobody can dump.
    pub(super) fn closed(&self) -> Result<Vec<Remark>, Failure> {
        let sql = "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' ORDER BY datname";
        let names = names(self.ask_apart(&in_hex(sql))?)?.into_iter();
        let remark = |name: String| Remark {
            code: codes::DATABASE_CLOSED,
            sentence: "databases that allow no connections are not in this backup",
            hint: format!("ALTER DATABASE {} ALLOW_CONNECTIONS true, or name it in `except`", identifier(&name)),
            name,
            is_missing: true,
        };
        Ok(names.filter(|name| !self.settings.except.contains(name)).map(remark).collect())
    }

    /// Asks where every server answers.
    fn ask_apart(&self, sql: &str) -> Result<Vec<String>, Failure> {
        match self.query("postgres", sql) {
            // A server may be without the database `postgres`.
            Err(failure) if failure.trouble.is_of(Kind::NotFound) => self.query("template1", sql),
            other => other,
        }
    }

    /// Writes roles and tablespaces.
    pub(super) fn globals(&self, file: &Path) -> Result<String, Failure> {
        let mut args: Vec<OsString> = ["-w", "--globals-only"].map(OsString::from).to_vec();
        if !self.settings.role_passwords {
            args.push("--no-role-passwords".into());
        }
        args.extend([OsString::from("-f"), file.into()]);
        let run = |env: &[(&str, &str)]| {
            self.tools.run(&self.client.tool("pg_dumpall"), args.clone(), env, DEADLINE_OF_WORK, |_| {}, || {})
        };
        let mut ran = run(&[UTF8]);
        if is_in_no_encoding(&ran) {
            ran = run(&[]);
        }
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

/// Whether a server has something that is no text in its own encoding, and so in no other; it gives that only as it is.
fn is_in_no_encoding(ran: &Ran) -> bool {
    ran.exit != Exit::Success && ran.stderr.contains("UTF8")
}

/// A question of one column, to be answered in hex: so any name comes as one line.
pub(in crate::plugin) fn in_hex(sql: &str) -> String {
    format!("SELECT encode(convert_to(r.c::text, 'UTF8'), 'hex') FROM ({sql}) AS r(c)")
}

/// What such a question is answered with.
pub(in crate::plugin) fn names(rows: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<String>, Failure> {
    let name = |row: &str| String::from_utf8(hex::decode(row).ok()?).ok();
    let names: Option<Vec<String>> = rows.into_iter().map(|row| name(row.as_ref())).collect();
    names.ok_or_else(|| {
        Failure::new(codes::SERVER_UNEXPECTED, "the server's answer is no list of names in UTF-8")
            .hint("a name at the server is not UTF-8: rename it there, with ALTER … RENAME TO")
    })
}

/// A string in SQL.
pub(in crate::plugin) fn literal(text: &str) -> String {
    // With E, backslashes mean the same whatever the server's settings say.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name in SQL.
pub(in crate::plugin) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A database's name for `-d`, where anything with `=` in it would be read as a connection string.
pub(super) fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_list_of_names_says_what_to_do() {
        assert_eq!(names(["6a6f73c3a9", ""]).unwrap(), ["josé", ""]);
        for row in ["e9", "6", "josé"] {
            let failure = names([row]).unwrap_err();
            assert_eq!(failure.trouble.code, "server_unexpected", "{row}");
            assert!(failure.trouble.hint.unwrap().contains("rename it there"), "{row}");
        }
    }
}
