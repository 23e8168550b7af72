//! Has pg_restore fill a database; where that cannot find what the application's search_path would find, with that.
//!
//! A dump is loaded under an empty search_path. A function without one of its own, which a generated column, an index or
//! a check calls, then does not find its tables and functions by their bare names. So the dump is read as SQL, and the
//! one statement that empties the path sets it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::postgres::PathChanger;
use crate::plugin::kit::database::postgres::explain::explain;
use crate::plugin::kit::database::postgres::scan::Scan;
use crate::plugin::kit::database::postgres::server::{Server, connection, literal};
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::process::Exit;

const CHUNK_BYTES: usize = 256 << 10;
/// Paths that are tried.
const PATHS_MAX: usize = 8;

/// How a dump is loaded.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// With owners and rights.
    pub(super) owner: bool,
    pub(super) jobs: u32,
    /// All of it or nothing.
    pub(super) single: bool,
}

impl How {
    fn args(self) -> Vec<OsString> {
        let rights: &[&str] = if self.owner { &[] } else { &["--no-owner", "--no-privileges"] };
        rights.iter().map(OsString::from).collect()
    }
}

/// Loads `file` into `database`.
pub(super) fn plain(server: &Server<'_>, file: &Path, database: &str, how: How, on_tick: impl FnMut()) -> Ran {
    let mut args: Vec<OsString> = ["-w", "--exit-on-error", "-d"].map(OsString::from).to_vec();
    args.push(connection(database).into());
    args.extend(how.args());
    if how.single {
        args.push("--single-transaction".into());
    } else if how.jobs > 1 {
        args.push(format!("--jobs={}", how.jobs).into());
    }
    args.push(file.into());
    server.tools.run(&server.client.tool("pg_restore"), args, &[], DEADLINE_OF_WORK, |_| {}, on_tick)
}

/// Loads `file` into `database` with a search_path, as the setting's value.
pub(super) fn with_path(
    server: &Server<'_>,
    file: &Path,
    staging: &Path,
    database: &str,
    path: &str,
    how: How,
    on_tick: impl FnMut(),
) -> Result<Ran, Failure> {
    let broken = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("loading a dump failed: {error}"));
    let (from, into) = std::io::pipe().map_err(broken)?;
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let mut sql_args = how.args();
    sql_args.push(file.into());
    if server.client.major >= 12 {
        sql_args.extend(["-f".into(), "-".into()]);
    }
    let mut args: Vec<OsString> = ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1"].map(OsString::from).to_vec();
    if how.single {
        args.push("--single-transaction".into());
    }
    std::thread::scope(|scope| {
        let making = scope.spawn(move || {
            let own = server.again(staging)?;
            let ends = Ends { stdin: None, stdout: Some(File::from(OwnedFd::from(into))) };
            Ok(own.tools.pipe(&own.client.tool("pg_restore"), sql_args, &[], DEADLINE_OF_WORK, ends, || {}))
        });
        let changing = scope.spawn(move || change(from, BufWriter::new(writer), path));
        let ends = Ends { stdin: Some(File::from(OwnedFd::from(reader))), stdout: None };
        let env = [("PGDATABASE", database)];
        let ran = server.tools.pipe(&server.client.tool("psql"), args, &env, DEADLINE_OF_WORK, ends, on_tick);
        let stopped = || std::io::Error::other("reading it stopped");
        let changed = changing.join().unwrap_or_else(|_| Err(stopped()));
        let made: Ran = making.join().unwrap_or_else(|_| Err(broken(stopped())))?;
        match (&ran.exit, &made.exit, changed) {
            (Exit::Success, Exit::Success, Ok(())) => Ok(ran),
            // psql took a piece for all.
            (Exit::Success, Exit::Success, Err(error)) => Err(broken(error)),
            (Exit::Success, ..) => Ok(made),
            _ => Ok(ran),
        }
    })
}

/// Copies a dump, with a path in place of none.
fn change(mut from: impl Read, mut into: impl Write, path: &str) -> std::io::Result<()> {
    let mut changer = PathChanger::new(path);
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let length = match from.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { break };
        into.write_all(&changer.push(read))?;
    }
    into.write_all(&changer.finish())?;
    into.flush()
}

/// Whether a failure may be one of the search_path alone.
pub(super) fn may_be_path(ran: &Ran) -> bool {
    ran.exit != Exit::Success
        && ran.stderr.contains("does not exist")
        && !["role \"", "database \"", "tablespace \""].iter().any(|what| ran.stderr.contains(what))
}

/// A search_path, as the setting's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SearchPath {
    pub(super) path: String,
    /// The backup or the server says that it is this database's.
    pub(super) is_its: bool,
}

/// The paths to try: what the backup and the server say of this database; then guesses: what the server says of roles,
/// and the dump's own schemas.
pub(super) fn paths(server: &Server<'_>, plan: (&Scan, &str), apart: &str) -> Result<Vec<SearchPath>, Failure> {
    let (scan, goal) = plan;
    let of_backup = scan.search_path().into_iter();
    let set = |whose: &str| {
        format!(
            "SELECT DISTINCT substr(each, 13) FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase, \
             unnest(setconfig) each WHERE each LIKE 'search_path=%' AND {whose} ORDER BY 1"
        )
    };
    let of_database = server.query(apart, &set(&format!("setrole = 0 AND datname = {}", literal(goal))))?;
    let roles = format!("setrole <> 0 AND (setdatabase = 0 OR datname = {})", literal(goal));
    let of_roles = server.query(apart, &set(&roles))?;
    let schemas: Vec<&str> = scan.schemas.iter().map(String::as_str).filter(|schema| *schema != "public").collect();
    let public_first = std::iter::once("public").chain(schemas.iter().copied()).collect::<Vec<_>>().join(", ");
    let public_last = schemas.iter().copied().chain(["public"]).collect::<Vec<_>>().join(", ");
    let its = of_backup.chain(of_database).map(|path| SearchPath { path, is_its: true });
    let guesses = of_roles.into_iter().chain(["public".to_owned(), public_first, public_last]);
    let guesses = guesses.map(|path| SearchPath { path, is_its: false });
    let mut paths: Vec<SearchPath> = Vec::new();
    for each in its.chain(guesses) {
        let is_path = !each.path.trim_matches(['\'', '"', ' ']).is_empty() && !each.path.contains([';', '\n']);
        if is_path && paths.len() < PATHS_MAX && !paths.iter().any(|other| other.path == each.path) {
            paths.push(each);
        }
    }
    Ok(paths)
}

/// Names that more than one schema of `database` has: with another search_path they are other things.
pub(super) fn ambiguous(server: &Server<'_>, database: &str) -> Result<Vec<String>, Failure> {
    let sql = "SELECT name FROM (
          SELECT proname AS name, pronamespace AS place FROM pg_proc
          UNION ALL SELECT relname, relnamespace FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
        ) q JOIN pg_namespace n ON n.oid = place WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        GROUP BY name HAVING count(DISTINCT place) > 1 ORDER BY 1 LIMIT 20";
    server.query(database, sql)
}

/// Why a load failed, with the next step.
pub(super) fn failure(server: &Server<'_>, database: &str, ran: &Ran) -> Failure {
    let failure = as_administrator(explain("pg_restore", &server.settings.place(), database, ran));
    if ran.stderr.contains("role \"") && ran.stderr.contains("does not exist") {
        return failure
            .hint("the owner is no role here: say `globals: true` to make the roles first, or `owner: false`");
    }
    failure
}

pub(super) fn as_administrator(failure: Failure) -> Failure {
    match failure.trouble.kind() {
        Some(Kind::Denied) => {
            failure.hint("a restore needs a role with CREATEDB, or a superuser: name a target with one")
        }
        Some(Kind::Full) => {
            failure.hint("the server needs room for the old and the new database at once; nothing was changed")
        }
        _ => failure,
    }
}
