//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has tables. The
//! comparison dumps the restored database again and reads that as a stream, so every row is looked at.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;

use super::explain::explain;
use super::scan::Scan;
use super::server::{Server, identifier, series};
use super::{FORMAT_DUMP, FORMAT_USERS, MariadbSettings, dump, users};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::databases::{Choice, Goal};
use crate::plugin::protocol::{CaptureFacts, Request, Verb};
use crate::plugin::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::process::Exit;
use crate::types::ByteSize;

/// Longest piece of a line that is held at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// Differences that are told.
const DIFFERENCES_MAX: usize = 5;

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MariadbRestore {
    /// The databases to put back; by default all of the backup.
    #[serde(default)]
    databases: Vec<String>,
    /// Put the one database back under this name. Code in it that names its own database keeps the old name.
    #[serde(default)]
    into: Option<String>,
    /// Drop and replace a database that has tables.
    #[serde(default)]
    overwrite: bool,
    /// Make the users and grants of the backup that are missing; those that are there keep their passwords.
    #[serde(default)]
    users: bool,
    /// Read every restored table back and compare it with the backup.
    #[serde(default = "crate::plugin::settings::yes")]
    compare: bool,
}

/// One dump and where it goes.
struct Plan {
    file: PathBuf,
    /// As it stands between backquotes in the file.
    quoted: String,
    goal: String,
    scan: Scan,
    bytes: u64,
    exists: bool,
    is_full: bool,
}

pub(super) fn run(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: MariadbSettings = builtin::settings(request)?;
    settings.check()?;
    let options: MariadbRestore = builtin::options(request)?;
    let (Some(facts), Some(order)) = (&request.capture, &request.restore) else {
        return Err(Failure::new("request", "`restore` needs what the capture told, and an order"));
    };
    let server = Server::connect(&settings, &request.staging)?;
    let version = server.version.shown();
    voice.version(version.clone());
    let same_series = tell_version(facts, &version, voice);
    let plans = plan(&server, &options, facts, &request.staging, voice)?;
    let users = facts.artifacts.iter().find(|artifact| artifact.format == FORMAT_USERS && options.users);
    if options.users && users.is_none() {
        return Err(Failure::new("no_users", "the backup holds no users").hint("leave `users` out"));
    }
    if let Some(users) = users {
        voice.step(Verb::Run, users.path.display().to_string(), "users and grants that are missing");
        if !order.dry_run {
            users::restore(&server, &request.staging.join(&users.path), voice)?;
        }
    }
    for plan in &plans {
        let detail =
            format!("{} tables, {} rows, {}", plan.scan.counts.tables, plan.scan.counts.rows, ByteSize(plan.bytes));
        let (verb, detail) = match (plan.is_full, plan.exists) {
            (true, _) => (Verb::Replace, format!("{detail}; what is there is dropped first")),
            (false, true) => (Verb::Replace, format!("{detail}; it has no table now")),
            (false, false) => (Verb::Create, detail),
        };
        voice.step(verb, format!("database {}", plan.goal), detail);
        if !order.dry_run {
            if plan.exists {
                server.query(&plan.goal, &format!("DROP DATABASE {}", identifier(&plan.goal)))?;
            }
            feed(&server, plan, voice)?;
            if options.compare {
                compare(&server, plan, same_series, voice)?;
            } else {
                count(&server, plan, voice)?;
            }
        }
    }
    Ok(())
}

/// Says first when the backup is of another version. Answers whether dumps of both look the same.
fn tell_version(facts: &CaptureFacts, version: &str, voice: &mut Voice<'_>) -> bool {
    let Some(then) = facts.app_version.as_deref().filter(|then| series(then) != series(version)) else { return true };
    voice.warning(
        Trouble::new("other_version", format!("the backup is of {then}, the server is {version}"))
            .with_hint("an older server may not know all that is in it; try it on a server beside first"),
    );
    false
}

/// Decides where each dump goes; refuses what must not be done before anything is.
fn plan(
    server: &Server<'_>,
    options: &MariadbRestore,
    facts: &CaptureFacts,
    staging: &Path,
    voice: &mut Voice<'_>,
) -> Result<Vec<Plan>, Failure> {
    let choice = Choice { databases: &options.databases, into: options.into.as_deref(), overwrite: options.overwrite };
    let mut plans = Vec::new();
    let mut known = Vec::new();
    for artifact in facts.artifacts.iter().filter(|artifact| artifact.format == FORMAT_DUMP) {
        let file = staging.join(&artifact.path);
        let (scan, sha256) = dump::read_whole(&file, |done| voice.progress(done, 0))?;
        let damaged = artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256);
        let Some(quoted) = scan.database.clone().filter(|_| scan.complete && !damaged) else {
            return Err(Failure::new("dump_damaged", format!("{} is not whole", artifact.path.display()))
                .hint("nothing was changed; take another snapshot"));
        };
        let name = quoted.replace("``", "`");
        known.push(name.clone());
        if !choice.has(&name) {
            continue;
        }
        let goal = options.into.clone().unwrap_or(name);
        let exists = server.exists(&goal)?;
        let is_full = exists && !server.tables(&goal)?.is_empty();
        let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        plans.push(Plan { file, quoted, goal, scan, bytes, exists, is_full });
    }
    let goals: Vec<Goal<'_>> = plans.iter().map(|plan| Goal { database: &plan.goal, is_full: plan.is_full }).collect();
    choice.check(&known, &goals, &server.settings.place(), "tables")?;
    Ok(plans)
}

/// Has the client read a dump under the name of its goal.
fn feed(server: &Server<'_>, plan: &Plan, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let names = (format!("`{}`", plan.quoted), identifier(&plan.goal));
    let ran = stream(server, &plan.file, Some(names), server.shell_args(), |fed| voice.progress(fed, plan.bytes))?;
    if ran.exit == Exit::Success {
        return Ok(());
    }
    Err(explain("the restore", &server.settings.place(), &plan.goal, &ran))
}

/// Has the client read a file, with one name in place of another.
pub(super) fn stream(
    server: &Server<'_>,
    file: &Path,
    names: Option<(String, String)>,
    args: Vec<OsString>,
    mut on_tick: impl FnMut(u64),
) -> Result<Ran, Failure> {
    let broken = |error: std::io::Error| Failure::new("artifact_unreadable", format!("{}: {error}", file.display()));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let fed = Arc::new(AtomicU64::new(0));
    let (path, count) = (file.to_owned(), fed.clone());
    let writing = std::thread::spawn(move || write_to(&path, writer, names.as_ref(), &count));
    let ends = Ends { stdin: Some(File::from(OwnedFd::from(reader))), stdout: None };
    let ran = server.tools.pipe(&server.client.shell, args, &[], DEADLINE_OF_WORK, ends, || {
        on_tick(fed.load(Ordering::Relaxed));
    });
    let written = writing.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped")));
    match written {
        // Whoever reads to the end takes a piece for all.
        Err(error) if ran.exit == Exit::Success => Err(broken(error)),
        _ => Ok(ran),
    }
}

/// Writes a dump into the client, without the line that old clients stumble over.
fn write_to(
    path: &Path,
    mut writer: PipeWriter,
    names: Option<&(String, String)>,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut from = BufReader::new(File::open(path)?);
    let mut piece = Vec::new();
    let (mut at_start, mut first) = (true, true);
    loop {
        piece.clear();
        let read = from.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece)?;
        if read == 0 {
            return writer.flush();
        }
        let starts = at_start;
        at_start = piece.ends_with(b"\n");
        count.fetch_add(read as u64, Ordering::Relaxed);
        let sandbox = std::mem::take(&mut first) && piece.starts_with(b"/*M!999999\\-");
        if !sandbox {
            match names.filter(|_| starts).and_then(|(old, new)| renamed(&piece, old, new)) {
                Some(line) => writer.write_all(&line)?,
                None => writer.write_all(&piece)?,
            }
        }
    }
}

/// The line with the new name, if it is one that names the database.
fn renamed(line: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let rest = |head: &str| line.strip_prefix(head.as_bytes())?.strip_prefix(old.as_bytes());
    let heads = ["USE ", "CREATE DATABASE /*!32312 IF NOT EXISTS*/ ", "CREATE DATABASE "];
    let (head, rest) = heads.iter().find_map(|head| Some((head, rest(head)?)))?;
    Some([head.as_bytes(), new.as_bytes(), rest].concat())
}

/// Dumps the restored database again and compares what is in it.
fn compare(server: &Server<'_>, plan: &Plan, same_series: bool, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::new("internal", format!("reading it back failed: {error}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let read = Arc::new(AtomicU64::new(0));
    let count = read.clone();
    let reading = std::thread::spawn(move || {
        dump::read(reader, |chunk| {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        })
    });
    let mut args = dump::what(server, &plan.goal);
    args.extend(["--".into(), plan.goal.clone().into()]);
    let ends = Ends { stdin: None, stdout: Some(File::from(OwnedFd::from(writer))) };
    let ran = server.tools.pipe(&server.client.dump, args, &[], DEADLINE_OF_WORK, ends, || {
        voice.progress(read.load(Ordering::Relaxed), plan.bytes);
    });
    let scan = reading.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped"))).map_err(broken)?;
    if ran.exit != Exit::Success || !scan.complete {
        return Err(explain("the reading back", &server.settings.place(), &plan.goal, &ran));
    }
    let told = differences(&plan.scan, &scan);
    let (verdict, detail) = match (told.is_empty(), same_series || plan.scan.counts.rows != scan.counts.rows) {
        (true, _) => (Verdict::Proven, format!("{} tables, {} rows", scan.counts.tables, scan.counts.rows)),
        (false, true) => (Verdict::Failed, told.join("; ")),
        // Servers of two versions may write the same value in two ways.
        (false, false) => (Verdict::CouldNotVerify, format!("{}; the versions differ", told.join("; "))),
    };
    voice.validation(format!("database {} holds what the backup does", plan.goal), verdict, detail);
    Ok(())
}

/// What differs, in a few sentences.
fn differences(wanted: &Scan, found: &Scan) -> Vec<String> {
    let mut told = Vec::new();
    for (name, table) in &wanted.tables {
        match found.tables.get(name) {
            None => told.push(format!("the table {name} is missing")),
            Some(other) if other.rows != table.rows => {
                told.push(format!("{name} has {} rows instead of {}", other.rows, table.rows));
            }
            Some(other) if other != table => told.push(format!("{name} has other values")),
            Some(_) => {}
        }
    }
    told.extend(
        found.tables.keys().filter(|name| !wanted.tables.contains_key(*name)).map(|name| format!("{name} is too many")),
    );
    let (then, now) = (&wanted.counts, &found.counts);
    for (what, then, now) in [
        ("views", then.views, now.views),
        ("triggers", then.triggers, now.triggers),
        ("routines", then.routines, now.routines),
        ("events", then.events, now.events),
        ("sequences", then.sequences, now.sequences),
    ] {
        if then != now {
            told.push(format!("{now} {what} instead of {then}"));
        }
    }
    if told.len() > DIFFERENCES_MAX {
        let more = told.len() - DIFFERENCES_MAX;
        told.truncate(DIFFERENCES_MAX);
        told.push(format!("and {more} more"));
    }
    told
}

/// Looks only whether as many tables are there.
fn count(server: &Server<'_>, plan: &Plan, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let found = server.tables(&plan.goal)?.iter().filter(|table| table.is_table()).count() as u64;
    let wanted = plan.scan.counts.tables;
    let verdict = if found == wanted { Verdict::CouldNotVerify } else { Verdict::Failed };
    let detail = format!("{found} tables of {wanted}; the rows were not compared, as `compare: false` says");
    voice.validation(format!("database {} holds what the backup does", plan.goal), verdict, detail);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_the_database_get_the_new_name() {
        let line =
            |text: &str| renamed(text.as_bytes(), "`a``b`", "`new`").map(|line| String::from_utf8(line).unwrap());
        assert_eq!(line("USE `a``b`;\n").as_deref(), Some("USE `new`;\n"));
        let create = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a``b` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n";
        assert!(line(create).unwrap().starts_with("CREATE DATABASE /*!32312 IF NOT EXISTS*/ `new` /*!40100"));
        assert_eq!(line("USE `other`;\n"), None);
        assert_eq!(line("INSERT INTO `t` VALUES ('USE `a``b`;');\n"), None);
    }
}
