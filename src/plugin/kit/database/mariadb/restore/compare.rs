//! What was loaded is dumped again and compared with the backup, row by row.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::Plan;
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::dump;
use crate::plugin::kit::database::mariadb::explain::explain;
use crate::plugin::kit::database::mariadb::reach::Program;
use crate::plugin::kit::database::mariadb::scan::{Scan, Scanner};
use crate::plugin::kit::database::mariadb::server::Server;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::plugin::protocol::Verdict;
use crate::process::Exit;

/// Differences that are told.
const DIFFERENCES_MAX: usize = 5;

/// Dumps the restored database again and compares what is in it.
pub(super) fn compare(
    server: &Server<'_>,
    plan: &Plan,
    database: &str,
    besides: &[String],
    same_series: bool,
    events: &mut EventWriter<'_>,
) -> Result<Verdict, Failure> {
    let mut args = dump::what(server, database, besides, plan.scan.history);
    args.extend(["--".into(), database.into()]);
    let (ran, scan) = match server.reach {
        Some(reach) => {
            let mut scanner = Scanner::default();
            let hear = &mut |bytes: &[u8]| scanner.push(bytes);
            let ran = reach.run(Program::Dump, args, None, hear, &mut || events.progress(0, 0))?;
            (ran, scanner.finish())
        }
        None => read_back(server, args, plan.bytes, events)?,
    };
    if ran.exit != Exit::Success || !scan.complete {
        return Err(explain("the reading back", &server.settings.place(), &plan.goal, &ran));
    }
    let passed: Vec<&str> = passed(&plan.scan, &scan).collect();
    if !passed.is_empty() {
        let message =
            format!("events of {} that ended since the backup are not made again: {}", plan.goal, passed.join(", "));
        events.warning(Trouble::new(codes::EVENT_ENDED, message).with_hint("make them anew, for another time"));
    }
    let told = differences(&plan.scan, &scan);
    let (verdict, detail) = match (told.is_empty(), same_series || plan.scan.counts.rows != scan.counts.rows) {
        (true, _) => (Verdict::Proven, format!("{} tables, {} rows", scan.counts.tables, scan.counts.rows)),
        (false, true) => (Verdict::Failed, told.join("; ")),
        // Servers of two versions may write the same value in two ways.
        (false, false) => (Verdict::CouldNotVerify, format!("{}; the versions differ", told.join("; "))),
    };
    events.validation(format!("database {} holds what the backup does", plan.goal), verdict, detail);
    Ok(verdict)
}

/// What the dump program of this host writes.
fn read_back(
    server: &Server<'_>,
    args: Vec<OsString>,
    bytes: u64,
    events: &mut EventWriter<'_>,
) -> Result<(Ran, Scan), Failure> {
    let broken = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("reading it back failed: {error}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let read = Arc::new(AtomicU64::new(0));
    let count = read.clone();
    let reading = std::thread::spawn(move || {
        dump::read(reader, |chunk| {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        })
    });
    let ends = Ends { stdin: None, stdout: Some(File::from(OwnedFd::from(writer))) };
    let ran = server.tools.pipe(&server.client.dump, args, &[], DEADLINE_OF_WORK, ends, || {
        events.progress(read.load(Ordering::Relaxed), bytes);
    });
    let scan = reading.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped"))).map_err(broken)?;
    Ok((ran, scan))
}

/// Events whose time was over when they were loaded: a server does not make these.
fn passed<'s>(wanted: &'s Scan, found: &'s Scan) -> impl Iterator<Item = &'s str> {
    let missing = wanted.events.iter().filter(|(name, _)| !found.events.contains_key(*name));
    missing.filter(|(_, passes)| **passes).map(|(name, _)| name.as_str())
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
        ("events", then.events - passed(wanted, found).count() as u64, now.events),
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
pub(super) fn count(
    server: &Server<'_>,
    plan: &Plan,
    database: &str,
    besides: &[String],
    events: &mut EventWriter<'_>,
) -> Result<Verdict, Failure> {
    let is_of_it = |name: &String| !besides.contains(name);
    let found = server.tables(database)?.iter().filter(|each| each.is_table() && is_of_it(&each.name)).count() as u64;
    let wanted = plan.scan.counts.tables;
    let verdict = if found == wanted { Verdict::CouldNotVerify } else { Verdict::Failed };
    let detail = format!("{found} tables of {wanted}; the rows were not compared, as `compare: false` says");
    events.validation(format!("database {} holds what the backup does", plan.goal), verdict, detail);
    Ok(verdict)
}
