//! What a database server in a container says of itself: where its data lies, what it has, what a dump of it leaves out.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::database::{self, Database, Kind, Login, MysqlLogin, Unasked};
use crate::plugin::apps::docker::inventory::{By, Container, DataDirectory, LeftOut};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::redis::instance::Keys;

/// More files beside a server's own than this are not named.
const BESIDE_MAX: usize = 20;

/// What a server says of itself.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Its databases with how many tables each has; of a Redis, all its keys.
    pub(super) stock: BTreeMap<String, u64>,
    /// Databases of a Redis whose keys all run out by themselves: they may be empty at any time.
    pub(super) passing: Vec<String>,
    pub(super) data: Vec<DataDirectory>,
    /// What no dump has.
    pub(super) left_out: Vec<LeftOut>,
}

/// The one name under which the keys of a Redis go.
pub(super) const KEYS: &str = "keys";
/// And its libraries of functions.
pub(super) const LIBRARIES: &str = "functions";

pub(super) fn ask(engine: &Engine, container: &Container, database: &Database) -> Result<Told, Unasked> {
    let login = Login { engine, container };
    let (mut told, directories) = match database.kind {
        Kind::Postgres => postgres(&login)?,
        Kind::MySql => mysql(&login)?,
        Kind::Redis => redis(&login)?,
    };
    for directory in &directories {
        let Some(data) = DataDirectory::at(container, directory) else { continue };
        // Only all of a mount is left out for the dump; else what is beside is kept.
        if data.path.is_empty() {
            told.left_out.extend(beside(&login, database.kind, directory, &data));
        }
        told.data.push(data);
    }
    Ok(told)
}

fn left_out(container: &Container, what: &str, named: String, why: &str, by: By) -> LeftOut {
    LeftOut { name: format!("{}/{what}", container.name), what: named, why: why.to_owned(), by }
}

fn postgres(login: &Login<'_>) -> Result<(Told, Vec<String>), Failure> {
    let container = login.container;
    let env = database::postgres_env(login.engine, container)?;
    // In hex, so that any name comes as one line.
    let ask = |database: &str, sql: &str| -> Result<Vec<String>, Failure> {
        let sql = format!("SELECT encode(convert_to(r.c::text, 'UTF8'), 'hex') FROM ({sql}) AS r(c)");
        let database = ("PGDATABASE".to_owned(), SecretString::from(database.to_owned()));
        let told =
            login.ask(&database::psql(&sql), env.iter().cloned().chain([database]).collect(), "what the server has")?;
        Ok(unhex(&told))
    };
    let mut told = Told::default();
    let tables = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
                  AND n.nspname !~ '^pg_(toast|temp)' \
                  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";
    for name in ask("template1", "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate")? {
        let count = ask(&name, tables)?.first().and_then(|count| count.parse().ok()).unwrap_or(0);
        told.stock.insert(name, count);
    }
    let others = "SELECT CASE WHEN datistemplate THEN 't' ELSE 'c' END || datname FROM pg_database \
                  WHERE (datistemplate OR NOT datallowconn) AND datname NOT IN ('template0', 'template1')";
    for other in ask("template1", others)? {
        let (why, by) = match other.get(..1) {
            Some("t") => ("it is a template", By::Nature),
            _ => ("it allows no connections, so nobody can dump it", By::Nobody),
        };
        let name = other.get(1..).unwrap_or_default();
        told.left_out.push(left_out(container, name, format!("database {name} in {}", container.name), why, by));
    }
    let at = "SELECT setting FROM pg_settings WHERE name = 'data_directory' \
              UNION ALL SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''";
    let mut directories = ask("template1", at)?;
    directories.extend(container.env("POSTGRES_INITDB_WALDIR").map(str::to_owned));
    let known = container.env("PGDATA").or_else(|| container.env("POSTGRESQL_DATA_DIR"));
    directories.push(known.unwrap_or("/var/lib/postgresql/data").to_owned());
    directories.sort();
    directories.dedup();
    Ok((told, directories))
}

const MYSQL_OWN: &[&str] = &["mysql", "information_schema", "performance_schema", "sys"];

fn mysql(login: &Login<'_>) -> Result<(Told, Vec<String>), Unasked> {
    let container = login.container;
    let MysqlLogin { user, env, database } = database::mysql_login(login)?;
    let script = "cli=mariadb; command -v $cli >/dev/null 2>&1 || cli=mysql; exec $cli \"$@\"";
    let user = format!("--user={user}");
    let ask = |sql: &str| -> Result<Vec<String>, Failure> {
        let words = ["sh", "-c", script, "larder", &user, "-N", "-B", "-e", sql];
        login.ask(&words, env.clone(), "what the server has").map(|told| told.lines().map(str::to_owned).collect())
    };
    let mut told = Told::default();
    let sql = "SELECT hex(s.schema_name), count(t.table_name) FROM information_schema.schemata s \
               LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name GROUP BY s.schema_name";
    for line in ask(sql)? {
        let Some((name, count)) = line.split_once('\t') else { continue };
        let Some(name) = unhex(name).pop().filter(|name| !MYSQL_OWN.contains(&name.as_str())) else { continue };
        told.stock.insert(name, count.trim().parse().unwrap_or(0));
    }
    let directory = ask("SELECT @@datadir")?.pop().unwrap_or_default();
    let directory = directory.trim().trim_end_matches('/');
    let directory = if directory.is_empty() { "/var/lib/mysql" } else { directory };
    if let Some(database) = &database {
        told.stock.retain(|name, _| name == database);
        let why = "the container's environment has no password of root, and its user has that one database alone";
        let users = format!("users and their rights in {}", container.name);
        told.left_out.push(left_out(container, "users", users, why, By::Nobody));
        for name in listed(login, directory).into_iter().filter_map(|entry| mysql_database(&entry)) {
            if &name != database {
                let named = format!("database {name} in {}", container.name);
                told.left_out.push(left_out(container, &name, named, why, By::Nobody));
            }
        }
    }
    Ok((told, vec![directory.to_owned()]))
}

/// The database whose directory it is; `ls -p` marks those with a slash.
fn mysql_database(entry: &str) -> Option<String> {
    let name = entry.strip_suffix('/')?;
    let own = MYSQL_OWN.contains(&name) || name.starts_with('#') || name.starts_with('.') || name == "lost+found";
    // Other characters stand as `@002d`.
    let mut parts = name.split('@');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..4).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        match code {
            Some(code) => {
                plain.push(code);
                plain.push_str(part.get(4..).unwrap_or_default());
            }
            None => {
                plain.push('@');
                plain.push_str(part);
            }
        }
    }
    (!own).then_some(plain)
}

fn redis(login: &Login<'_>) -> Result<(Told, Vec<String>), Failure> {
    let env = database::redis_env(login)?;
    let script = "cli=redis-cli; command -v $cli >/dev/null 2>&1 || cli=valkey-cli; exec $cli \"$@\"";
    let ask = |words: &[&str]| {
        let words: Vec<&str> = ["sh", "-c", script, "larder"].iter().chain(words).copied().collect();
        login.ask(&words, env.clone(), "what the server has")
    };
    let mut told = Told::default();
    let keyspace = ask(&["info", "keyspace"])?;
    let databases = keyspace.lines().filter_map(|line| line.split_once(':'));
    let databases: Vec<(&str, Keys)> =
        databases.filter_map(|(name, value)| Some((name, Keys::of(name, value)?))).collect();
    told.stock.insert(KEYS.to_owned(), databases.iter().map(|(_, keys)| keys.all).sum());
    for (name, keys) in databases {
        if keys.lasting > 0 {
            told.stock.insert(name.to_owned(), keys.all);
        } else {
            told.passing.push(name.to_owned());
        }
    }
    // Servers before version 7 have none and do not tell.
    let memory = ask(&["info", "memory"]).unwrap_or_default();
    let libraries = memory.lines().find_map(|line| line.strip_prefix("number_of_libraries:")?.trim().parse().ok());
    told.stock.extend(libraries.map(|count| (LIBRARIES.to_owned(), count)));
    // Some forbid the question.
    let directory = ask(&["config", "get", "dir"]).ok().and_then(|said| said.lines().nth(1).map(str::to_owned));
    let directory = directory.filter(|directory| directory.starts_with('/')).unwrap_or_else(|| "/data".to_owned());
    Ok((told, vec![directory.trim_end().to_owned()]))
}

/// Hidden ones too; directories end with a slash.
fn listed(login: &Login<'_>, directory: &str) -> Vec<String> {
    let told =
        login.ask(&["ls", "-A", "-p", "-1", directory], Vec::new(), "the server's directory").unwrap_or_default();
    told.lines().map(str::to_owned).collect()
}

/// What lies in a server's own directory and is none of its files.
fn beside(login: &Login<'_>, kind: Kind, directory: &str, data: &DataDirectory) -> Vec<LeftOut> {
    let foreign = listed(login, directory).into_iter().filter(|entry| !is_own(kind, entry)).take(BESIDE_MAX);
    let container = &login.container.name;
    foreign
        .map(|entry| {
            let entry = entry.trim_end_matches('/');
            LeftOut {
                name: format!("{}/{entry}", data.mount()),
                what: format!("{entry} in {} ({directory} in {container})", data.mount()),
                why: "it lies among the files of a database that has a dump; `database_volumes: true` keeps it"
                    .to_owned(),
                by: By::Nobody,
            }
        })
        .collect()
}

fn is_own(kind: Kind, entry: &str) -> bool {
    let (name, is_directory) = entry.strip_suffix('/').map_or((entry, false), |name| (name, true));
    let begins = |all: &[&str]| all.iter().any(|each| name.starts_with(each));
    let ends = |all: &[&str]| all.iter().any(|each| name.ends_with(each));
    let is = |all: &[&str]| all.contains(&name);
    if is(&["lost+found"]) || ends(&[".pid", ".sock", ".lock", ".tmp"]) {
        return true;
    }
    match kind {
        Kind::Postgres => {
            let names =
                ["base", "global", "log", "PG_VERSION", "current_logfiles", "recovery.signal", "standby.signal"];
            is(&names)
                || begins(&["pg_", "PG_", "postgresql.", "postmaster.", "backup_label", "tablespace_map", "server."])
                || ends(&[".conf", ".log"])
        }
        // A directory is a database, and in the dump.
        Kind::MySql => {
            is_directory
                || begins(&[
                    "ib",
                    "undo",
                    "#",
                    "aria_log",
                    "binlog",
                    "mysql",
                    "mariadb",
                    "relay-log",
                    "relay_log",
                    ".my",
                ])
                || begins(&["ddl_recovery", "ddl-recovery", "multi-master", "master.info", "tc.log", "auto.cnf"])
                || begins(&["performance_schema", "private_key", "public_key", "client-", "server-", "ca", "ddl_"])
                || ends(&[".err", ".log", ".index", ".pem", ".cnf", ".ibd", ".flag", ".info"])
                || name.contains("-bin.")
        }
        Kind::Redis => {
            ends(&[".rdb", ".aof", ".manifest", ".conf", ".log"]) || begins(&["appendonly", "nodes", "temp-", "redis"])
        }
    }
}

fn unhex(told: &str) -> Vec<String> {
    let lines = told.lines().filter(|line| !line.is_empty());
    lines.filter_map(|line| String::from_utf8(hex::decode(line.trim()).ok()?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_among_a_servers_files_is_told_from_them() {
        let own = |kind, entries: &[&str]| entries.iter().all(|entry| is_own(kind, entry));
        assert!(own(Kind::Postgres, &["base/", "global/", "pg_wal/", "PG_VERSION", "postmaster.pid", "pg_hba.conf"]));
        assert!(own(
            Kind::MySql,
            &["ibdata1", "#innodb_redo/", "shop/", "aria_log.00000001", "mysql.ibd", "ca-key.pem"]
        ));
        assert!(own(Kind::Redis, &["dump.rdb", "appendonlydir/", "appendonly.aof", "nodes.conf"]));
        assert!(!is_own(Kind::Postgres, "exports/") && !is_own(Kind::Postgres, "report.csv"));
        assert!(!is_own(Kind::MySql, "before-upgrade.sql") && !is_own(Kind::Redis, "uploads/"));
    }

    #[test]
    fn a_directory_of_mysql_tells_its_database() {
        assert_eq!(mysql_database("shop/").as_deref(), Some("shop"));
        assert_eq!(mysql_database("my@002ddb@0020x/").as_deref(), Some("my-db x"));
        assert_eq!(mysql_database("ibdata1"), None);
        assert_eq!(mysql_database("performance_schema/"), None);
        assert_eq!(mysql_database("#innodb_redo/"), None);
    }
}
