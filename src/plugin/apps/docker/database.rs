//! Databases in containers: recognised by image and environment, dumped by their own client inside the container.
//!
//! The client is the one that came with the server, so it always fits. The password goes from the container's
//! environment into the client's, never into its arguments, and never out of this process otherwise.

use secrecy::{ExposeSecret as _, SecretString};

use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::exec::{self, Executed, Program};
use crate::plugin::apps::docker::inventory::{Container, State};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::postgres::{in_hex, names};

/// More databases than this in one server are an error.
const DATABASES_MAX: usize = 1_000;
/// In UTF-8, unless the server has something that is in no encoding, and gives it only as it is.
const ROLES: &str = "if PGCLIENTENCODING=UTF8 pg_dumpall \"$@\" >/dev/null 2>&1; then export PGCLIENTENCODING=UTF8; fi; \
                     exec pg_dumpall \"$@\"";
/// Longest answer to a question, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(super) const FORMAT_POSTGRES: &str = "postgres-custom";
pub(super) const FORMAT_GLOBALS: &str = "postgres-globals";
pub(super) const FORMAT_SQL: &str = "mysql-sql";
pub(super) const FORMAT_RDB: &str = "redis-rdb";

/// What kind of server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    MySql,
    Redis,
}

/// A database server that can be dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Database {
    /// The container's id.
    pub(super) container: String,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// Images by the last part of their name.
const IMAGES: &[(&str, Kind)] = &[
    ("postgres", Kind::Postgres),
    ("postgresql", Kind::Postgres),
    ("postgis", Kind::Postgres),
    ("timescaledb", Kind::Postgres),
    ("timescaledb-ha", Kind::Postgres),
    ("pgvector", Kind::Postgres),
    ("pgvecto-rs", Kind::Postgres),
    ("vectorchord", Kind::Postgres),
    ("vchord-postgres", Kind::Postgres),
    ("mariadb", Kind::MySql),
    ("mysql", Kind::MySql),
    ("mysql-server", Kind::MySql),
    ("percona-server", Kind::MySql),
    ("redis", Kind::Redis),
    ("redis-stack-server", Kind::Redis),
    ("valkey", Kind::Redis),
];

/// What kind of database an image is, by its name: `ghcr.io/x/postgres:16@sha256:…`.
pub(crate) fn kind_of_image(image: &str) -> Option<Kind> {
    let last = image.split('@').next()?.rsplit('/').next()?.split(':').next()?;
    IMAGES.iter().find(|(name, _)| *name == last).map(|(_, kind)| *kind)
}

impl Database {
    pub(super) fn of(container: &Container) -> Option<Self> {
        let by_env = || {
            let has = |name: &str| container.env(name).is_some();
            // An application may be told the password of its database too; only the server has the rest.
            match () {
                () if has("PGDATA") && (has("PG_MAJOR") || has("POSTGRES_PASSWORD")) => Some(Kind::Postgres),
                () if has("MARIADB_VERSION") || has("MYSQL_MAJOR") => Some(Kind::MySql),
                () => None,
            }
        };
        let kind = kind_of_image(&container.image).or_else(by_env)?;
        // Only what works can be asked.
        (container.state == State::Running).then(|| Self {
            container: container.id.clone(),
            name: container.name.clone(),
            kind,
        })
    }

    /// Whether a server works in the container, and not only what was made from the image of one.
    ///
    /// Where the engine does not tell what works in there, it is one.
    pub(super) fn is_served(&self, engine: &Engine) -> bool {
        let names: &[&str] = match self.kind {
            Kind::Postgres => &["postgres", "postgres:", "postmaster"],
            Kind::MySql => &["mysqld", "mariadbd"],
            Kind::Redis => &["redis-server", "valkey-server", "keydb-server", "redis-stack-server"],
        };
        let is_server = |line: &String| {
            let program = line.split_whitespace().next().unwrap_or_default();
            // A fresh one is prepared by the entrypoint at first.
            names.contains(&program.rsplit('/').next().unwrap_or_default()) || line.contains("docker-entrypoi")
        };
        let by_names = || {
            let command = words(&["sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null || true"]);
            let mut said = Vec::new();
            let program = Program { container: &self.container, command, env: Vec::new() };
            let ran = exec::run(engine, &program, &mut |bytes| {
                said.extend_from_slice(bytes);
                Ok(())
            });
            let text = String::from_utf8_lossy(&said).into_owned();
            let all: Vec<String> = text.lines().map(str::to_owned).collect();
            ran.is_ok_and(|ran| ran.code == 0 && !all.is_empty()).then_some(all)
        };
        by_names().or_else(|| engine.processes(&self.container)).is_none_or(|all| all.iter().any(is_server))
    }
}

/// One file that a dump makes.
pub(super) struct Part {
    /// Below `dumps/<container>/`.
    pub(super) file: String,
    pub(super) format: &'static str,
    pub(super) database: String,
    command: Vec<String>,
    env: Vec<(String, SecretString)>,
}

impl Part {
    /// And not of roles.
    pub(super) fn is_of_a_database(&self) -> bool {
        self.format != FORMAT_GLOBALS
    }
}

/// Which files make the dump of `database`: asks the server for its databases.
pub(super) fn parts(engine: &Engine, container: &Container, database: &Database) -> Result<Vec<Part>, Failure> {
    let login = Login { engine, container };
    match database.kind {
        Kind::Postgres => postgres(&login),
        Kind::MySql => mysql(&login),
        Kind::Redis => redis(&login),
    }
}

/// Runs one part's program; its output goes to `on_bytes`.
pub(super) fn dump(
    engine: &Engine,
    container: &Container,
    part: &Part,
    on_bytes: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let program = Program { container: &container.id, command: part.command.clone(), env: part.env.clone() };
    let ran = exec::run(engine, &program, on_bytes)?;
    if ran.code == 0 { Ok(()) } else { Err(failed(container, &part.database, &ran)) }
}

fn failed(container: &Container, what: &str, ran: &Executed) -> Failure {
    let last = ran.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    let said = crate::plugin::kit::tidy::tidy(last, 400);
    let failure = Failure::new(
        codes::DUMP_FAILED,
        format!("the dump of {what} in {} ended with code {}: {said}", container.name, ran.code),
    );
    failure.hint("look at the database's log; with `databases: off` its volume is kept instead")
}

pub(super) struct Login<'a> {
    pub(super) engine: &'a Engine,
    pub(super) container: &'a Container,
}

impl Login<'_> {
    /// A variable of the container, or what the file says that `<name>_FILE` names.
    fn secret(&self, names: &[&str]) -> Result<Option<SecretString>, Failure> {
        for name in names {
            if let Some(value) = self.container.env(name) {
                return Ok(Some(SecretString::from(value.to_owned())));
            }
            if let Some(path) = self.container.env(&format!("{name}_FILE")) {
                let told = self.ask(&["cat", path], Vec::new(), &format!("{name}_FILE"))?;
                return Ok(Some(SecretString::from(told.trim_end_matches(['\r', '\n']).to_owned())));
            }
        }
        Ok(None)
    }

    pub(super) fn ask(
        &self,
        command: &[&str],
        env: Vec<(String, SecretString)>,
        what: &str,
    ) -> Result<String, Failure> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut answer = Vec::new();
        let program = Program { container: &self.container.id, command, env };
        let ran = exec::run(self.engine, &program, &mut |bytes| {
            answer.extend_from_slice(bytes);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(Failure::new(codes::EXEC_STREAM, "the answer of a program in a container is too long"));
            }
            Ok(())
        })?;
        if ran.code != 0 {
            return Err(failed(self.container, what, &ran));
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// How psql is asked one question. Functions and operators of the application could stand in for the server's own, with the
/// rights of this role: no search_path finds them.
pub(super) fn psql(sql: &str) -> [&str; 12] {
    ["psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", "SET search_path = ''", "-c", sql]
}

/// What the clients of PostgreSQL in a container need to log in.
pub(super) fn postgres_env(engine: &Engine, container: &Container) -> Result<Vec<(String, SecretString)>, Failure> {
    let user = container.env("POSTGRES_USER").or_else(|| container.env("POSTGRESQL_USERNAME")).unwrap_or("postgres");
    let mut env = vec![("PGUSER".to_owned(), SecretString::from(user.to_owned()))];
    let names = ["POSTGRES_PASSWORD", "POSTGRESQL_POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"];
    let password = Login { engine, container }.secret(&names)?;
    env.extend(password.map(|password| ("PGPASSWORD".to_owned(), password)));
    Ok(env)
}

fn postgres(login: &Login<'_>) -> Result<Vec<Part>, Failure> {
    let container = login.container;
    let env = postgres_env(login.engine, container)?;
    let sql = in_hex("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname");
    let ask: Vec<&str> = psql(&sql).into_iter().chain(["-d", "template1"]).collect();
    let told = login.ask(&ask, env.clone(), "the list of databases")?;
    let names = names(told.lines().filter(|line| !line.is_empty())).unwrap_or_default();
    if names.is_empty() || names.len() > DATABASES_MAX {
        return Err(Failure::new(
            codes::NO_DATABASES,
            format!("{} lists no databases that can be dumped", container.name),
        ));
    }
    let mut parts: Vec<Part> = names
        .into_iter()
        .map(|name| Part {
            file: format!("{}.dump", crate::plugin::kit::tool::file_name(&name)),
            format: FORMAT_POSTGRES,
            command: words(&["pg_dump", "-Fc", "--compress=0", "-w", "--lock-wait-timeout=300000"]),
            // Not by argument: there a name with `=` in it would be read as a connection string.
            env: env.iter().cloned().chain([("PGDATABASE".to_owned(), SecretString::from(name.clone()))]).collect(),
            database: name,
        })
        .collect();
    parts.push(Part {
        file: "globals.sql".to_owned(),
        format: FORMAT_GLOBALS,
        database: "roles and tablespaces".to_owned(),
        command: words(&["sh", "-c", ROLES, "larder", "--globals-only", "-w"]),
        env,
    });
    Ok(parts)
}

/// How to log in to a MySQL or MariaDB.
pub(super) struct MysqlLogin {
    pub(super) user: String,
    pub(super) env: Vec<(String, SecretString)>,
    /// The one database that this user has; none: it is root and has all.
    pub(super) database: Option<String>,
}

/// Why a server is not asked.
pub(super) enum Unasked {
    /// Nobody here knows a password for it.
    NoPassword(Failure),
    Failed(Failure),
}

impl From<Failure> for Unasked {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unasked> for Failure {
    fn from(unasked: Unasked) -> Self {
        match unasked {
            Unasked::NoPassword(failure) | Unasked::Failed(failure) => failure,
        }
    }
}

pub(super) fn mysql_login(login: &Login<'_>) -> Result<MysqlLogin, Unasked> {
    let container = login.container;
    let empty = ["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "MYSQL_ALLOW_EMPTY_PASSWORD", "ALLOW_EMPTY_PASSWORD"];
    let with = |password: SecretString| vec![("MYSQL_PWD".to_owned(), password)];
    if let Some(password) = login.secret(&["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"])? {
        return Ok(MysqlLogin { user: "root".to_owned(), env: with(password), database: None });
    }
    if empty.iter().any(|name| container.env(name).is_some()) {
        return Ok(MysqlLogin { user: "root".to_owned(), env: Vec::new(), database: None });
    }
    let either = |a: &str, b: &str| container.env(a).or_else(|| container.env(b)).map(str::to_owned);
    let user = either("MARIADB_USER", "MYSQL_USER");
    let database = either("MARIADB_DATABASE", "MYSQL_DATABASE");
    let password = login.secret(&["MARIADB_PASSWORD", "MYSQL_PASSWORD"])?;
    match (user, database, password) {
        (Some(user), Some(database), Some(password)) => {
            Ok(MysqlLogin { user, env: with(password), database: Some(database) })
        }
        _ => {
            let told = format!("the environment of {} names no password to dump its databases with", container.name);
            let hint = "protect it with the plugin `mariadb`, or say `databases: off` and `stop: stop`";
            Err(Unasked::NoPassword(Failure::new(codes::NO_PASSWORD, told).hint(hint)))
        }
    }
}

fn mysql(login: &Login<'_>) -> Result<Vec<Part>, Failure> {
    // The first word after the script is its name; the rest are the client's.
    let script = "if command -v mariadb-dump >/dev/null 2>&1; then exec mariadb-dump \"$@\"; fi; exec mysqldump \"$@\"";
    let mut command = words(&["sh", "-c", script, "larder"]);
    let options = ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob"];
    let MysqlLogin { user, env, database } = mysql_login(login)?;
    command.push(format!("--user={user}"));
    command.extend(words(&options));
    match &database {
        Some(database) => command.extend(["--databases".to_owned(), database.clone()]),
        None => command.push("--all-databases".to_owned()),
    }
    let name = database.unwrap_or_else(|| "all databases".to_owned());
    Ok(vec![Part { file: "dump.sql".to_owned(), format: FORMAT_SQL, database: name, command, env }])
}

/// What the client of a Redis in a container needs to log in.
pub(super) fn redis_env(login: &Login<'_>) -> Result<Vec<(String, SecretString)>, Failure> {
    let mut password = login.secret(&["REDIS_PASSWORD", "VALKEY_PASSWORD"])?;
    if password.is_none() {
        let mut words = login.container.command.iter().flat_map(|word| word.split_whitespace());
        password = words
            .find(|word| *word == "--requirepass")
            .and_then(|_| words.next())
            .map(|word| SecretString::from(word.trim_matches(['"', '\'']).to_owned()));
    }
    let env = password.filter(|each| !each.expose_secret().is_empty()).map(|each| ("REDISCLI_AUTH".to_owned(), each));
    Ok(env.into_iter().collect())
}

fn redis(login: &Login<'_>) -> Result<Vec<Part>, Failure> {
    let env = redis_env(login)?;
    let script = "cli=redis-cli; command -v $cli >/dev/null 2>&1 || cli=valkey-cli; exec $cli --rdb -";
    Ok(vec![Part {
        file: "dump.rdb".to_owned(),
        format: FORMAT_RDB,
        database: "all keys".to_owned(),
        command: words(&["sh", "-c", script]),
        env,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_from_what_only_talks_to_them() {
        for (image, kind) in [
            ("postgres:16-alpine", Some(Kind::Postgres)),
            ("ghcr.io/immich-app/postgres:14-vectorchord0.4.3@sha256:ab", Some(Kind::Postgres)),
            ("registry.lan:5000/library/mariadb", Some(Kind::MySql)),
            ("docker.io/valkey/valkey:8", Some(Kind::Redis)),
            ("prometheuscommunity/postgres-exporter:v0.15", None),
            ("oliver006/redis_exporter", None),
            ("", None),
        ] {
            assert_eq!(kind_of_image(image), kind, "{image}");
        }
    }
}
