//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has tables. Each dump
//! is loaded under a name of its own and compared there; only then it takes the place of what is there. The comparison
//! dumps what was loaded again and reads that as a stream, so every row is looked at.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;

use super::explain::explain;
use super::scan::Scan;
use super::server::{Server, identifier, literal, series};
use super::{FORMAT_DUMP, FORMAT_USERS, MariadbSettings, dump, users};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::databases::{Choice, Goal};
use crate::plugin::protocol::{CaptureFacts, Request, Verb};
use crate::plugin::tool::{DEADLINE_OF_WORK, Ends};
use crate::process::Exit;
use crate::types::ByteSize;

pub(super) mod feed;
mod swap;

use feed::Part;
use swap::{Place, Swap};

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
    /// Replace a database that has tables, when the new one is whole.
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
    }
    for plan in &plans {
        plan.tell(voice);
    }
    if order.dry_run {
        return Ok(());
    }
    for plan in plans.iter().filter(|plan| plan.exists) {
        not_led_into(&server, &plan.goal)?;
    }
    if let Some(users) = users {
        users::restore(&server, &request.staging.join(&users.path), voice)?;
    }
    let swap = Swap::new(&server, request)?;
    let work = Work { swap: &swap, options: &options, same_series };
    let mut places = Vec::new();
    work.all(&plans, &request.run, &mut places, voice).or_else(|failure| {
        for place in places.iter().rev() {
            swap.put_back(place).map_err(|second| Failure {
                trouble: Trouble {
                    message: format!("{}; and {}", failure.trouble.message, second.trouble.message),
                    ..second.trouble
                },
                ..second
            })?;
        }
        Err(failure)
    })
}

/// Puts right what a restore that was killed left.
pub(super) fn recover(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: MariadbSettings = builtin::settings(request)?;
    settings.check()?;
    let server = Server::connect(&settings, &request.staging)?;
    Swap::new(&server, request)?.recover(voice)
}

impl Plan {
    fn tell(&self, voice: &mut Voice<'_>) {
        let (tables, rows) = (self.scan.counts.tables, self.scan.counts.rows);
        let detail = format!("{tables} tables, {rows} rows, {}", ByteSize(self.bytes));
        let (verb, detail) = match (self.is_full, self.exists) {
            (true, _) => (Verb::Replace, format!("{detail}; what is there stays until the new one is whole beside it")),
            (false, true) => (Verb::Replace, format!("{detail}; it has no table now")),
            (false, false) => (Verb::Create, detail),
        };
        voice.step(verb, format!("database {}", self.goal), detail);
    }
}

/// Another database's foreign keys into this one would follow its old tables.
fn not_led_into(server: &Server<'_>, goal: &str) -> Result<(), Failure> {
    let goal_text = literal(goal);
    let sql = format!(
        "SELECT DISTINCT table_schema FROM information_schema.key_column_usage \
         WHERE referenced_table_schema = {goal_text} AND table_schema <> {goal_text} LIMIT 1"
    );
    match server.query(goal, &sql)?.first() {
        None => Ok(()),
        Some(other) => Err(Failure::new(
            "foreign_keys_from_outside",
            format!("foreign keys of the database {other:?} lead into {goal:?}, which is to be replaced"),
        )
        .hint("nothing was changed; drop them first, or restore with `--option into=NAME`")),
    }
}

/// A restore that was decided.
struct Work<'w> {
    swap: &'w Swap<'w>,
    options: &'w MariadbRestore,
    same_series: bool,
}

impl Work<'_> {
    /// Loads and compares all of them beside first; only then something is replaced.
    fn all(&self, plans: &[Plan], run: &str, places: &mut Vec<Place>, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let server = self.swap.server;
        let mut refilled = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let mut place = Place::new(server, run, number, &plan.goal, plan.exists)?;
            let beside = place.beside.clone();
            self.swap.note(&place)?;
            match self.feed(&place, plan, Part::Beside, &beside, voice) {
                // Who may work in his own database only can't make another one.
                Err(failure) if failure.trouble.code == "permission_denied" && !server.exists(&beside)? => {
                    self.swap.put_back(&place)?;
                    place.beside = beside;
                    refilled.push((plan, place));
                    continue;
                }
                fed => {
                    places.push(place);
                    fed?;
                }
            }
            if self.compare(plan, &beside, voice)? == Verdict::Failed && plan.is_full {
                return Err(differs(plan));
            }
        }
        let of_places = plans.iter().filter(|plan| refilled.iter().all(|(other, _)| other.goal != plan.goal));
        for (place, plan) in places.iter_mut().zip(of_places) {
            self.swap.swap(place, &plan.file)?;
        }
        for (plan, place) in &mut refilled {
            voice.log(format!(
                "no database can be made beside {}: it is written down first, and filled anew",
                plan.goal
            ));
            let copy = place.clone();
            self.swap.refill(place, || {
                self.feed(&copy, plan, Part::All, &plan.goal, &mut Voice { out: &mut *voice.out })?;
                match self.compare(plan, &plan.goal, &mut Voice { out: &mut *voice.out })? {
                    Verdict::Failed if plan.is_full => Err(differs(plan)),
                    _ => Ok(()),
                }
            })?;
        }
        for place in &mut std::mem::take(places) {
            // The note stays, so it is tried again.
            if let Err(failure) = self.swap.finish(place) {
                let message = format!("what {} was is still there: {}", place.goal, failure.trouble.message);
                voice.warning(
                    Trouble::new("old_one_left", message).with_hint("it is dropped when the server lets it go"),
                );
            }
        }
        Ok(())
    }

    /// Has the client read the dump under the name of its goal.
    fn feed(&self, place: &Place, plan: &Plan, part: Part, goal: &str, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let names = (format!("`{}`", plan.quoted), identifier(goal));
        self.swap.feed_as(place, &plan.file, part, Some(names), |fed| voice.progress(fed, plan.bytes))
    }

    fn compare(&self, plan: &Plan, database: &str, voice: &mut Voice<'_>) -> Result<Verdict, Failure> {
        if self.options.compare {
            compare(self.swap.server, plan, database, self.same_series, voice)
        } else {
            count(self.swap.server, plan, database, voice)
        }
    }
}

fn differs(plan: &Plan) -> Failure {
    Failure::new("restore_differs", format!("what was loaded for {} is not what the backup holds", plan.goal))
        .hint("the database is as it was before")
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

/// Dumps the restored database again and compares what is in it.
fn compare(
    server: &Server<'_>,
    plan: &Plan,
    database: &str,
    same_series: bool,
    voice: &mut Voice<'_>,
) -> Result<Verdict, Failure> {
    let broken = |error: std::io::Error| Failure::new("internal", format!("reading it back failed: {error}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let read = Arc::new(AtomicU64::new(0));
    let count = read.clone();
    let reading = std::thread::spawn(move || {
        dump::read(reader, |chunk| {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        })
    });
    let mut args = dump::what(server, database, plan.scan.history);
    args.extend(["--".into(), database.into()]);
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
    Ok(verdict)
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
fn count(server: &Server<'_>, plan: &Plan, database: &str, voice: &mut Voice<'_>) -> Result<Verdict, Failure> {
    let found = server.tables(database)?.iter().filter(|table| table.is_table()).count() as u64;
    let wanted = plan.scan.counts.tables;
    let verdict = if found == wanted { Verdict::CouldNotVerify } else { Verdict::Failed };
    let detail = format!("{found} tables of {wanted}; the rows were not compared, as `compare: false` says");
    voice.validation(format!("database {} holds what the backup does", plan.goal), verdict, detail);
    Ok(verdict)
}
