//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has tables. Each dump
//! is loaded under a name of its own and compared there; only then it takes the place of what is there. The comparison
//! dumps what was loaded again and reads that as a stream, so every row is looked at.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;

use super::explain::explain;
use super::reach::Program;
use super::scan::Scan;
use super::scan::Scanner;
use super::server::{Server, identifier, literal, series};
use super::{FORMAT_DUMP, FORMAT_USERS, MariadbSettings, dump, users};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::databases::{Choice, Goal};
use crate::plugin::protocol::{CaptureFacts, Request, Verb};
use crate::plugin::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::process::Exit;
use crate::types::ByteSize;

pub(super) mod feed;
mod objects;
pub(super) mod swap;

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
pub(super) struct Plan {
    pub(super) file: PathBuf,
    /// As it stands between backquotes in the file.
    pub(super) quoted: String,
    pub(super) goal: String,
    pub(super) scan: Scan,
    pub(super) bytes: u64,
    pub(super) exists: bool,
    pub(super) is_full: bool,
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
    let work = Work { swap: &swap, compare: options.compare, same_series };
    let (mut places, all) = (Vec::new(), plans.iter().collect::<Vec<_>>());
    work.all(&all, &request.run, &mut places, voice).or_else(|failure| {
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
    pub(super) fn tell(&self, voice: &mut Voice<'_>) {
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
pub(super) fn not_led_into(server: &Server<'_>, goal: &str) -> Result<(), Failure> {
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
pub(super) struct Work<'w> {
    pub(super) swap: &'w Swap<'w>,
    /// Whether every row is compared, or the tables are counted.
    pub(super) compare: bool,
    pub(super) same_series: bool,
}

impl Work<'_> {
    /// Loads and compares all of them beside first; only then something is replaced.
    fn all(&self, plans: &[&Plan], run: &str, places: &mut Vec<Place>, voice: &mut Voice<'_>) -> Result<(), Failure> {
        for (number, plan) in plans.iter().enumerate() {
            let place = Place::new(self.swap.server, run, number, &plan.goal, plan.exists)?;
            self.beside(plan, place, places, voice)?;
        }
        // First what changes in one instant.
        for is_refilled in [false, true] {
            for (place, plan) in places.iter_mut().zip(plans).filter(|(place, _)| place.is_refilled == is_refilled) {
                self.put(plan, place, voice)?;
            }
        }
        let mut done = places.clone();
        // All of them before the first is swept: a kill in between leaves no mixture of databases.
        done.iter_mut().try_for_each(|place| self.swap.is_done(place))?;
        places.clear();
        for place in &mut done {
            self.finish(place, voice);
        }
        Ok(())
    }

    /// Loads one beside and compares it; what can be loaded in its own place only waits.
    ///
    /// The place is in `places` also after a failure, to be put back.
    pub(super) fn beside(
        &self,
        plan: &Plan,
        mut place: Place,
        places: &mut Vec<Place>,
        voice: &mut Voice<'_>,
    ) -> Result<(), Failure> {
        let (server, beside) = (self.swap.server, place.beside.clone());
        self.swap.note(&place)?;
        let fed = self.feed(&place, plan, Part::Beside, &beside, voice);
        // Who may work in his own database only can't make another one.
        place.is_refilled = match &fed {
            Err(failure) => failure.trouble.code == "permission_denied" && !server.exists(&beside).unwrap_or(true),
            Ok(()) => false,
        };
        let is_refilled = place.is_refilled;
        places.push(place);
        if is_refilled {
            return Ok(());
        }
        fed?;
        if self.compared(plan, &beside, voice)? == Verdict::Failed && plan.is_full {
            return Err(differs(plan));
        }
        Ok(())
    }

    /// Puts one in its place.
    pub(super) fn put(&self, plan: &Plan, place: &mut Place, voice: &mut Voice<'_>) -> Result<(), Failure> {
        if !place.is_refilled {
            return self.swap.swap(place, &plan.file, &format!("`{}`", plan.quoted));
        }
        voice.log(format!("no database can be made beside {}: it is written down first, and filled anew", plan.goal));
        let copy = place.clone();
        self.swap.refill(place, || {
            self.feed(&copy, plan, Part::All, &plan.goal, &mut Voice { out: &mut *voice.out })?;
            match self.compared(plan, &plan.goal, &mut Voice { out: &mut *voice.out })? {
                Verdict::Failed if plan.is_full => Err(differs(plan)),
                _ => Ok(()),
            }
        })
    }

    /// Drops what was there before. The note stays where that fails, so it is tried again.
    pub(super) fn finish(&self, place: &mut Place, voice: &mut Voice<'_>) {
        if let Err(failure) = self.swap.finish(place) {
            let message = format!("what {} was is still there: {}", place.goal, failure.trouble.message);
            voice.warning(Trouble::new("old_one_left", message).with_hint("it is dropped when the server lets it go"));
        }
    }

    /// Has the client read the dump under the name of its goal.
    fn feed(&self, place: &Place, plan: &Plan, part: Part, goal: &str, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let names = (format!("`{}`", plan.quoted), identifier(goal));
        self.swap.feed_as(place, &plan.file, part, Some(names), |fed| voice.progress(fed, plan.bytes))
    }

    fn compared(&self, plan: &Plan, database: &str, voice: &mut Voice<'_>) -> Result<Verdict, Failure> {
        if self.compare {
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
    let mut args = dump::what(server, database, plan.scan.history);
    args.extend(["--".into(), database.into()]);
    let (ran, scan) = match server.reach {
        Some(reach) => {
            let mut scanner = Scanner::default();
            let hear = &mut |bytes: &[u8]| scanner.push(bytes);
            let ran = reach.run(Program::Dump, args, None, hear, &mut || voice.progress(0, 0))?;
            (ran, scanner.finish())
        }
        None => read_back(server, args, plan.bytes, voice)?,
    };
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

/// What the dump program of this host writes.
fn read_back(
    server: &Server<'_>,
    args: Vec<OsString>,
    bytes: u64,
    voice: &mut Voice<'_>,
) -> Result<(Ran, Scan), Failure> {
    let broken = |error: std::io::Error| Failure::new("internal", format!("reading it back failed: {error}"));
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
        voice.progress(read.load(Ordering::Relaxed), bytes);
    });
    let scan = reading.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped"))).map_err(broken)?;
    Ok((ran, scan))
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
