//! How SQLite databases are captured and judged: a consistent copy of one in use, by `VACUUM INTO` through a read-only
//! connection.
//!
//! A copy of the file alone would miss what is in the WAL or catch half a transaction. The source is opened read-only
//! and never made: a path that is wrong stays wrong.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{chain, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::{remark, since};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::settings::exactly_one_of;
use crate::plugin::kit::sqlite_files;
use crate::plugin::kit::tool::file_name;
use crate::plugin::protocol::{Request, Verdict};

pub(in crate::plugin) mod check;
mod content;
pub(in crate::plugin) mod restore;

const FORMAT: &str = "sqlite";

/// How often the growth of the copy is told.
const TICK: Duration = Duration::from_millis(500);
/// Findings of a check that are told.
const FINDINGS_MAX: usize = 5;

/// Which databases.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["path", "paths"]))]
pub(in crate::plugin) struct SqliteSettings {
    /// Absolute path of the database. Exactly one of `path` and `paths` is given.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    path: Option<PathBuf>,
    /// Absolute paths of several databases.
    #[serde(default)]
    #[schemars(length(min = 1), inner(regex(pattern = "^/")))]
    paths: Vec<PathBuf>,
    /// Check that foreign keys point to rows that are there.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    foreign_key_check: bool,
    /// Accept tables that only the application can check, by its own collations, functions or tokenizers, as they are.
    #[serde(default)]
    accept_unchecked: bool,
    /// Whether a database may be without any table, or without any row where the backup before had some.
    #[serde(default)]
    allow_empty: bool,
    /// How many seconds to wait for a writer that holds a lock.
    #[serde(default = "busy_timeout_default")]
    #[schemars(range(min = 1, max = 3600))]
    busy_timeout: u32,
}

fn busy_timeout_default() -> u32 {
    30
}

impl SqliteSettings {
    fn chosen(&self) -> Result<Vec<PathBuf>, Failure> {
        let refuse = |what: &str| {
            Err(Failure::new(codes::SETTINGS, what).hint("give exactly one of `path: /…` and `paths: [/…]`"))
        };
        let all: Vec<PathBuf> = self.path.iter().chain(&self.paths).cloned().collect();
        match (self.path.is_some(), self.paths.is_empty()) {
            (false, true) => refuse("no database is named"),
            (true, false) => refuse("both `path` and `paths` are given"),
            _ if all.iter().any(|path| !path.is_absolute()) => refuse("a path is not absolute"),
            _ => Ok(all),
        }
    }
}

pub(in crate::plugin) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: SqliteSettings = builtin::settings(request)?;
    let paths = settings.chosen()?;
    let mut totals = content::Totals::default();
    let mut names: Vec<String> = Vec::new();
    let mut remarks = Vec::new();
    for path in &paths {
        let name = free_name(path, &names);
        let copy = request.staging.join(&name);
        copy_whole(path, &copy, &settings, events)?;
        let found = open(&copy, settings.busy_timeout)
            .and_then(|connection| content::read(&connection))
            .map_err(|error| explain(&error, path))?;
        if found.tables == 0 && !settings.allow_empty {
            return Err(Failure::new(
                codes::DATABASE_EMPTY,
                format!("{} is a database without any table", path.display()),
            )
            .hint("check the path, or say `allow_empty: true` if that is right"));
        }
        let prefix = if paths.len() > 1 { format!("{name}/") } else { String::new() };
        emptied(path, &prefix, &found, request.previous.as_ref(), &settings)?;
        if let Some(previous) = request.previous.as_ref().filter(|_| found.rows > 0) {
            let of_it = format!("{prefix}rows.");
            let shown = path.display().to_string();
            remarks.extend(since::tables(previous, &of_it, &shown, &|_| true, &|name| found.rows_of(name)));
        }
        for (figure, value) in found.figures(&prefix) {
            events.figure(figure, value);
        }
        totals.add(&found);
        events.artifact(&name, FORMAT, digest::sha256(&copy, |_| {})?);
        names.push(name);
    }
    remark::tell(remarks, events);
    events.version(format!("SQLite {}", rusqlite::version()));
    events.figure("databases", paths.len() as u64);
    events.figure("tables", totals.tables);
    events.figure("objects", totals.objects);
    events.figure("rows", totals.rows);
    Ok(())
}

/// Refuses a database whose rows are all gone since the backup before.
fn emptied(
    path: &Path,
    prefix: &str,
    found: &content::Content,
    previous: Option<&crate::plugin::protocol::CaptureFacts>,
    settings: &SqliteSettings,
) -> Result<(), Failure> {
    let Some(previous) = previous.filter(|_| found.rows == 0 && !settings.allow_empty) else { return Ok(()) };
    let own = format!("{prefix}rows.");
    let before: u64 = match previous.figures.get("rows") {
        Some(rows) if prefix.is_empty() => *rows,
        _ => previous.figures.iter().filter(|(name, _)| name.starts_with(&own)).map(|(_, rows)| rows).sum(),
    };
    if before == 0 {
        return Ok(());
    }
    Err(Failure::new(
        codes::DATABASE_EMPTIED,
        format!("{} has no row any more, {before} at the backup before", path.display()),
    )
    .hint("if that is right, say `allow_empty: true`; older backups stay as they are"))
}

pub(in crate::plugin) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<SqliteSettings> { settings, facts } = ValidateJob::of(request)?;
    let mut totals = content::Totals::default();
    let mut changed: Vec<(String, u64)> = Vec::new();
    for artifact in &facts.artifacts {
        let copy = request.staging.join(&artifact.path);
        let shown = artifact.path.display();
        digest::check(artifact, &copy, events)?;
        let connection = match open(&copy, settings.busy_timeout) {
            Ok(connection) => connection,
            Err(error) => {
                events.validation(format!("{shown} opens"), Verdict::Failed, chain(&error));
                continue;
            }
        };
        let (verdict, detail) = check::integrity(&connection, settings.accept_unchecked);
        events.validation(format!("integrity_check of {shown}"), verdict, detail);
        if settings.foreign_key_check {
            // The copy is faithful all the same: the source has these rows too.
            let (verdict, detail) = match findings(&connection, "PRAGMA foreign_key_check") {
                Ok(found) if found.is_empty() => (Verdict::Proven, "every foreign key points to a row".to_owned()),
                Ok(found) => (
                    Verdict::CouldNotVerify,
                    format!(
                        "{} rows point to nothing, as in the source (in {}); `foreign_key_check: false` if the \
                         application means it so",
                        found.len(),
                        shorten(&found)
                    ),
                ),
                Err(error) if settings.accept_unchecked && check::needs_the_application(&chain(&error)) => {
                    (Verdict::Proven, format!("{} (accepted)", chain(&error)))
                }
                Err(error) => (Verdict::CouldNotVerify, chain(&error)),
            };
            events.validation(format!("foreign_key_check of {shown}"), verdict, detail);
        }
        match content::read(&connection) {
            Ok(found) => {
                if let Some(unread) = found.unread.first() {
                    let (verdict, tail) = if settings.accept_unchecked {
                        (Verdict::Proven, " (accepted)")
                    } else {
                        (Verdict::CouldNotVerify, "; `accept_unchecked: true` takes that")
                    };
                    let detail = format!("{} are not: {unread}{tail}", found.unread.len());
                    events.validation(format!("every table of {shown} was read"), verdict, detail);
                }
                totals.add(&found);
                let prefix = if facts.artifacts.len() > 1 { format!("{shown}/") } else { String::new() };
                let figures = found.figures(&prefix);
                changed.extend(
                    figures.into_iter().filter(|(name, now)| facts.figures.get(name).is_some_and(|then| then != now)),
                );
            }
            Err(error) => {
                events.validation(format!("{shown} can be read"), Verdict::Failed, chain(&error));
            }
        }
    }
    let wanted = |name: &str| facts.figures.get(name).copied().unwrap_or(0);
    let same = (wanted("tables"), wanted("rows")) == (totals.tables, totals.rows);
    let has_tables = totals.tables > 0 || settings.allow_empty;
    events.validation(
        "tables and rows are those of the capture",
        if same && has_tables && changed.is_empty() { Verdict::Proven } else { Verdict::Failed },
        format!(
            "{} tables, {} rows; at the capture {} tables, {} rows{}",
            totals.tables,
            totals.rows,
            wanted("tables"),
            wanted("rows"),
            changed.first().map(|(name, _)| format!("; {name} differs")).unwrap_or_default()
        ),
    );
    Ok(())
}

/// Opens read-only, so that nothing is ever made. The path is absolute and so never read as a URI.
fn open(path: &Path, busy_timeout_s: u32) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(u64::from(busy_timeout_s)))?;
    Ok(connection)
}

fn copy_whole(
    path: &Path,
    copy: &Path,
    settings: &SqliteSettings,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(codes::PATH_MISSING, format!("{shown} is not there"))
            .hint("correct `path`, or mount what it lies on"),
        _ => Failure::new(codes::PATH_UNREADABLE, format!("{shown} cannot be read: {error}"))
            .hint("give the daemon's user read permission"),
    })?;
    if !metadata.is_file() {
        return Err(
            Failure::new(codes::PATH_KIND, format!("{shown} is no regular file")).hint("name the database file itself")
        );
    }
    let (source, into, timeout) = (path.to_owned(), copy.to_owned(), settings.busy_timeout);
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        let copied = open(&source, timeout).and_then(|connection| copy_all(&connection, &into, timeout));
        // The receiver waits for it.
        let _ = done.send(copied);
    });
    let mut told = u64::MAX;
    let copied = loop {
        match result.recv_timeout(TICK) {
            Ok(copied) => break copied,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let written = std::fs::metadata(copy).map_or(0, |copy| copy.len());
                if written != told {
                    told = written;
                    events.progress(written, metadata.len().max(written));
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(codes::INTERNAL, format!("copying {shown} stopped without a word")));
            }
        }
    };
    copied.map_err(|error| {
        let _ = std::fs::remove_file(copy);
        explain(&error, path)
    })?;
    std::fs::File::open(copy).and_then(|file| file.sync_all()).map_err(|error| {
        Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be synced: {error}", copy.display()))
    })
}

fn copy_all(connection: &Connection, into: &Path, busy_timeout_s: u32) -> rusqlite::Result<()> {
    match vacuum_into(connection, into) {
        // It builds every index anew, and lacks what the application brings for that: the pages alone need nothing.
        Err(error) if check::needs_the_application(&chain(&error)) => {
            let _ = std::fs::remove_file(into);
            sqlite_files::copy(connection, into, Duration::from_secs(u64::from(busy_timeout_s)))
        }
        result => result,
    }
}

fn vacuum_into(connection: &Connection, into: &Path) -> rusqlite::Result<()> {
    let into = into.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(into.to_owned()))?;
    connection.execute("VACUUM INTO ?1", [into]).map(|_| ())
}

/// A file name for the copy of `path` that is none of `taken`.
fn free_name(path: &Path, taken: &[String]) -> String {
    let name = file_name(&path.file_name().unwrap_or_default().to_string_lossy());
    let name = if name.is_empty() { "database".to_owned() } else { name };
    if !taken.contains(&name) {
        return name;
    }
    (2..=taken.len() + 2).map(|n| format!("{n}-{name}")).find(|name| !taken.contains(name)).unwrap_or(name)
}

fn findings(connection: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(pragma)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() < 10_000 {
            found.push(row.get::<_, String>(0)?);
        }
    }
    Ok(found)
}

fn shorten(found: &[String]) -> String {
    let mut distinct: Vec<&str> = found.iter().map(String::as_str).collect();
    distinct.dedup();
    let more = distinct.len().saturating_sub(FINDINGS_MAX);
    distinct.truncate(FINDINGS_MAX);
    let shown = distinct.join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

/// From SQLite's error to a code, a sentence and the next step.
fn explain(error: &rusqlite::Error, path: &Path) -> Failure {
    let shown = path.display();
    let extended = error.sqlite_error().map_or(0, |inner| inner.extended_code);
    let told = chain(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Failure::new(codes::NOT_A_DATABASE, format!("{shown} is not an SQLite database (or it is encrypted)"))
                .hint("check the path; for other files use the plugin `files`")
        }
        Some(ErrorCode::DatabaseCorrupt) => Failure::new(codes::DATABASE_CORRUPT, format!("{shown} is damaged: {told}"))
            .hint("older backups may be sound; `sqlite3 FILE .recover` saves what can be read"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Failure::new(codes::DATABASE_LOCKED, format!("a writer holds {shown} locked for longer than `busy_timeout`"))
                .hint("raise `busy_timeout`, or run at a quieter time; it is tried again")
        }
        Some(ErrorCode::DiskFull) => Failure::new(codes::DISK_FULL, format!("no room for the copy of {shown}: {told}"))
            .hint("make room where the artifacts lie; nothing half-written is kept"),
        // SQLITE_READONLY_ROLLBACK: a crashed writer left a journal that only a writer can roll back.
        _ if extended == 776 => Failure::new(
            codes::HOT_JOURNAL,
            format!("{shown} has the journal of a writer that crashed; a reader cannot roll it back"),
        )
        .hint("start the application once, it mends the database"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => Failure::new(
            codes::PATH_UNREADABLE,
            format!("{shown} or its -wal and -shm files cannot be opened: {told}"),
        )
        .hint("give the daemon's user read permission on all three, and write permission on their directory if -shm is missing"),
        Some(ErrorCode::SystemIoFailure) => Failure::new(codes::IO_ERROR, format!("reading {shown} failed: {told}"))
            .hint("look at `dmesg` for the disk; SQLite does not work over NFS or SMB"),
        _ => Failure::new(codes::SQLITE_FAILED, format!("copying {shown} failed: {told}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_databases_with_the_same_name_get_names_of_their_own() {
        let first = free_name(Path::new("/a/app.db"), &[]);
        let second = free_name(Path::new("/b/app.db"), std::slice::from_ref(&first));
        assert_eq!((first.as_str(), second.as_str()), ("app.db", "2-app.db"));
        assert_eq!(free_name(Path::new("/a/my app?.db"), &[]), "my%20app%3F.db");
    }
}
