//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has tables. Each dump
//! is loaded under a name of its own and compared there; only then it takes the place of what is there. The comparison
//! dumps what was loaded again and reads that as a stream, so every row is looked at.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::scan::Scan;
use super::server::{Server, series};
use super::{FORMAT_DUMP, FORMAT_USERS, MariadbSettings, dump, users};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::{Choice, Goal};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{ArtifactFile, CaptureFacts, Request, Step, Verb};

mod back;
mod compare;
pub(super) mod feed;
mod invalid;
mod kept;
pub(super) mod lines;
pub(super) mod names;
mod objects;
pub(super) mod plan;
mod rights;
pub(super) mod swap;
mod within;
pub(super) mod work;

use plan::Plan;
use swap::Swap;
use work::Work;

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct MariadbRestore {
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
    #[serde(default = "crate::plugin::kit::settings::yes")]
    compare: bool,
}

pub(in crate::plugin) type Job<'j> = RestoreJob<'j, MariadbSettings, MariadbRestore>;

/// Puts dumps of databases back.
pub(in crate::plugin) struct Mariadb;

/// What was decided of all of them.
pub(in crate::plugin) struct Decided {
    plans: Vec<Plan>,
    /// The file with users and grants.
    users: Option<PathBuf>,
    same_series: bool,
}

impl Restorer for Mariadb {
    type Settings = MariadbSettings;
    type Options = MariadbRestore;
    type Work = Decided;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Decided>, Failure> {
        let RestoreJob { settings, options, facts, staging, .. } = job;
        settings.check()?;
        let server = Server::connect(settings, staging)?;
        let version = server.version.shown();
        events.version(version.clone());
        let same_series = tell_version(facts, &version, events);
        let plans = plans(&server, job, events)?;
        let mut steps = Vec::new();
        let mut users = None;
        if options.users {
            let Some(of_backup) = facts.artifacts.iter().find(|artifact| artifact.format == FORMAT_USERS) else {
                return Err(Failure::new(codes::NO_USERS, "the backup holds no users").hint("leave `users` out"));
            };
            whole(of_backup, staging, events)?;
            steps.push(Step::new(Verb::Run, of_backup.path.display().to_string(), "users and grants that are missing"));
            users = Some(staging.join(&of_backup.path));
        }
        let swap = Swap::new(&server, None, staging);
        let work = Work { swap: &swap, compare: options.compare, same_series };
        work.check(&plans.iter().collect::<Vec<_>>())?;
        steps.extend(plans.iter().map(Plan::step));
        Ok(Planned::of(steps, Decided { plans, users, same_series }))
    }

    fn execute(
        job: &Job<'_>,
        Decided { plans, users, same_series }: Decided,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let server = Server::connect(&job.settings, job.staging)?;
        let swap = Swap::new(&server, journal, job.staging);
        let work = Work { swap: &swap, compare: job.options.compare, same_series };
        let mut places = Vec::new();
        work.all(&plans.iter().collect::<Vec<_>>(), job.run, &mut places, events).or_else(|failure| {
            swap.put_back(&places).map_err(|second| failure.and(second))?;
            Err(failure)
        })?;
        // Last, for what uses them is in its place and compared.
        users.map_or(Ok(()), |users| users::restore(&swap, job.run, &users, events))
    }
}

/// Puts right what a restore that was killed left.
pub(in crate::plugin) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: MariadbSettings = builtin::settings(request)?;
    settings.check()?;
    let server = Server::connect(&settings, &request.staging)?;
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    Swap::new(&server, journal.as_ref(), &request.staging).recover(events)
}

/// Says first when the backup is of another version. Answers whether dumps of both look the same.
fn tell_version(facts: &CaptureFacts, version: &str, events: &mut EventWriter<'_>) -> bool {
    let Some(then) = facts.app_version.as_deref().filter(|then| series(then) != series(version)) else { return true };
    events.warning(
        Trouble::new(codes::OTHER_VERSION, format!("the backup is of {then}, the server is {version}"))
            .with_hint("an older server may not know all that is in it; try it on a server beside first"),
    );
    false
}

/// Reads a dump to its end; refuses one that is not what was captured.
fn whole(artifact: &ArtifactFile, staging: &Path, events: &mut EventWriter<'_>) -> Result<Scan, Failure> {
    let (scan, sha256) = dump::read_whole(&staging.join(&artifact.path), |done| events.progress(done, 0))?;
    let is_other = artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256);
    if scan.complete && !is_other { Ok(scan) } else { Err(damaged(artifact)) }
}

fn damaged(artifact: &ArtifactFile) -> Failure {
    Failure::new(codes::DUMP_DAMAGED, format!("{} is not whole", artifact.path.display()))
        .hint("nothing was changed; take another snapshot")
}

/// Decides where each dump goes; refuses what must not be done before anything is.
fn plans(server: &Server<'_>, job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Vec<Plan>, Failure> {
    let RestoreJob { options, facts, staging, .. } = job;
    let choice = Choice { databases: &options.databases, into: options.into.as_deref(), overwrite: options.overwrite };
    let mut plans = Vec::new();
    let mut known = Vec::new();
    for artifact in facts.artifacts.iter().filter(|artifact| artifact.format == FORMAT_DUMP) {
        let file = staging.join(&artifact.path);
        let scan = whole(artifact, staging, events)?;
        let quoted = scan.database.clone().ok_or_else(|| damaged(artifact))?;
        let name = quoted.replace("``", "`");
        known.push(name.clone());
        if !choice.has(&name) {
            continue;
        }
        let goal = options.into.clone().unwrap_or(name);
        let exists = server.exists(&goal)?;
        let live = if exists { server.tables(&goal)? } else { Vec::new() };
        let excluded = server.settings.excluded(&quoted.replace("``", "`"));
        let stays = live.iter().map(|listed| listed.name.clone());
        let stays: Vec<String> = stays.filter(|name| excluded.contains(&name.as_str()) && !scan.has(name)).collect();
        let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        plans.push(Plan { file, quoted, goal, scan, bytes, exists, is_full: live.len() > stays.len(), stays });
    }
    let goals: Vec<Goal<'_>> = plans.iter().map(|plan| Goal { database: &plan.goal, is_full: plan.is_full }).collect();
    choice.check(&known, &goals, &server.settings.place(), "tables")?;
    Ok(plans)
}
