//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has something in it, or
//! that is in use. What is there stays as it is until another one was loaded beside it and compared; whatever fails
//! before is dropped again.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::bound::silent;
use super::scan::Scan;
use super::server::{Server, identifier, literal};
use super::{FORMAT_DUMP, FORMAT_GLOBALS, Globals, MAINTENANCE, PostgresSettings, dump, excluded, globals, validate};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::listed;
use crate::plugin::kit::database::{Choice, Goal, figure_key};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{CaptureFacts, Step, Verb, Verdict};
use crate::process::Exit;
use crate::types::ByteSize;

mod compare;
mod load;
mod roles;
mod swap;

use load::{How, SearchPath};
pub(in crate::plugin) use swap::recover;
use swap::{Place, Places};

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct PostgresRestore {
    /// The databases to put back; by default all of the backup.
    #[serde(default)]
    databases: Vec<String>,
    /// Put the one database back under this name.
    #[serde(default)]
    into: Option<String>,
    /// Replace a database that has something in it, when the new one is whole.
    #[serde(default)]
    overwrite: bool,
    /// Replace a database also when it has tables that `exclude_tables` left out of the backup: they are dropped then.
    #[serde(default)]
    drop_excluded: bool,
    /// Make the roles and tablespaces of the backup first; those that are there stay as they are.
    #[serde(default)]
    globals: bool,
    /// How many tables are restored at the same time.
    #[serde(default = "jobs_default")]
    #[schemars(range(min = 1, max = 64))]
    jobs: u32,
    /// Give things to the roles that owned them, with their rights; else all belongs to the role of the target.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    owner: bool,
    /// Read every restored table back and compare it with the backup.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    compare: bool,
}

/// Says whether a database that was filled by other means is what its dump was.
pub(in crate::plugin) fn compare(goal: &str, wanted: &Scan, found: &Scan, events: &mut EventWriter<'_>) {
    compare::tell(goal, wanted, found, wanted.major == found.major, true, events);
}

fn jobs_default() -> u32 {
    1
}

/// One dump and where it goes.
pub(in crate::plugin) struct Plan {
    file: PathBuf,
    name: String,
    goal: String,
    scan: Scan,
    bytes: u64,
    exists: bool,
    is_full: bool,
}

type Job<'j> = RestoreJob<'j, PostgresSettings, PostgresRestore>;

/// Puts dumps of databases back.
pub(in crate::plugin) struct Postgres;

/// What was decided of all of them.
pub(in crate::plugin) struct Decided {
    plans: Vec<Plan>,
    roles: Option<Globals>,
    same_major: bool,
}

impl Restorer for Postgres {
    type Settings = PostgresSettings;
    type Options = PostgresRestore;
    type Work = Decided;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Decided>, Failure> {
        let server = Server::connect(&job.settings, job.staging, MAINTENANCE)?;
        events.version(format!("PostgreSQL {}", server.version));
        let same_major = tell_version(job.facts, &server, events);
        let plans = plans(&server, job, events)?;
        let mut steps = Vec::new();
        let mut roles = None;
        if job.options.globals {
            let (of_backup, step) = globals_of(job)?;
            roles = Some(of_backup);
            steps.push(step);
        }
        steps.extend(plans.iter().map(Plan::step));
        Ok(Planned::of(steps, Decided { plans, roles, same_major }))
    }

    fn execute(
        job: &Job<'_>,
        Decided { plans, roles, same_major }: Decided,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let server = Server::connect(&job.settings, job.staging, MAINTENANCE)?;
        let apart = apart(plans.iter().map(|plan| plan.goal.as_str()));
        for plan in plans.iter().filter(|plan| plan.exists) {
            swap::unused(&server, apart, &plan.goal)?;
        }
        if let Some(globals) = &roles {
            roles::restore(&server, apart, globals, job.staging, events)?;
        }
        let mut places = Places::new(&server, journal, apart);
        let work = Work { server: &server, options: &job.options, staging: job.staging, apart, same_major };
        work.all(&plans, job.run, &mut places, events).inspect_err(|_| places.give_up(events))
    }
}

/// The roles and tablespaces of the backup, and what is done about them.
fn globals_of(job: &Job<'_>) -> Result<(Globals, Step), Failure> {
    let Some(globals) = job.facts.artifacts.iter().find(|artifact| artifact.format == FORMAT_GLOBALS) else {
        return Err(Failure::new(codes::NO_GLOBALS, "the backup holds no roles").hint("leave `globals` out"));
    };
    let file = job.staging.join(&globals.path);
    let whole = globals::ends_well(&file).unwrap_or(false);
    let same = globals.sha256.is_none() || globals.sha256 == digest::sha256(&file, |_| {}).ok();
    if !whole || !same {
        return Err(damaged(&globals.path, "it is not as it was captured"));
    }
    let step = Step::new(Verb::Run, globals.path.display().to_string(), "roles and tablespaces that are missing");
    Ok((Globals::read(&file)?, step))
}

impl Plan {
    fn step(&self) -> Step {
        let (tables, rows) = (self.scan.count("TABLE"), self.scan.rows());
        let detail = format!("{tables} tables, {rows} rows, {}", ByteSize(self.bytes));
        let (verb, detail) = match (self.is_full, self.exists) {
            (true, _) => (Verb::Replace, format!("{detail}; what is there stays until the new one is whole beside it")),
            (false, true) => (Verb::Replace, format!("{detail}; nothing is in it now")),
            (false, false) => (Verb::Create, detail),
        };
        Step::new(verb, format!("database {}", self.goal), detail)
    }
}

/// A restore that was decided.
struct Work<'w> {
    server: &'w Server<'w>,
    options: &'w PostgresRestore,
    staging: &'w Path,
    apart: &'static str,
    same_major: bool,
}

impl Work<'_> {
    /// Loads and compares all beside first; only then something changes its name.
    fn all(
        &self,
        plans: &[Plan],
        run: &str,
        places: &mut Places<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        // One that is there and empty is filled as it is: it may have an owner and settings of its own.
        let (empty, beside): (Vec<&Plan>, Vec<&Plan>) = plans.iter().partition(|plan| plan.exists && !plan.is_full);
        for (number, plan) in beside.iter().enumerate() {
            let place = Place::new(run, number, &plan.goal, plan.exists);
            places.take(&place, plan.scan.made().as_deref())?;
            self.load(plan, &place.beside, Some((&*places, &place)), events)?;
            if self.compare(plan, &place.beside, events)? == Verdict::Failed && plan.is_full {
                return Err(Failure::new(
                    codes::RESTORE_DIFFERS,
                    format!("what was loaded for {} is not what the backup holds", plan.goal),
                )
                .hint("the database that is there was not touched"));
            }
            self.of_itself(plan, &place.beside, events)?;
        }
        for plan in empty {
            self.load(plan, &plan.goal, None, events)?;
            self.compare(plan, &plan.goal, events)?;
            events.log(format!("rights and settings of the database {} itself are not those of the backup", plan.goal));
        }
        places.swap(events)?;
        for plan in plans {
            self.silent(plan, events);
        }
        Ok(())
    }

    /// Says how the subscriptions of a database go on: a dump has each of them disabled, and without its tables.
    fn silent(&self, plan: &Plan, events: &mut EventWriter<'_>) {
        // All is in its place; who may not look is told nothing.
        let found = silent(&plan.goal, |sql| self.server.names(self.apart, sql)).unwrap_or_default();
        for name in found {
            let alter = format!("ALTER SUBSCRIPTION {}", identifier(&name));
            let told = format!("the subscription {name} of the database {} takes nothing over as it is", plan.goal);
            let hint = if plan.goal == plan.name {
                format!(
                    "when it shall, in {}: {alter} ENABLE; {alter} REFRESH PUBLICATION WITH (copy_data = false). What came \
                     between the backup and now is had only by emptying its tables first and leaving out the WITH",
                    plan.goal
                )
            } else {
                format!(
                    "its slot is that of {}: in {}, {alter} SET (slot_name = NONE) before it is dropped; to follow by itself, \
                     drop it then and make it anew",
                    plan.name, plan.goal
                )
            };
            events.notice(Trouble::new(codes::SUBSCRIPTION_SILENT, told).with_hint(hint));
        }
    }

    /// Fills `database`. What is `beside` is made anew for another attempt.
    fn load(
        &self,
        plan: &Plan,
        database: &str,
        beside: Option<(&Places<'_>, &Place)>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let (server, options) = (self.server, self.options);
        let mut how = How { owner: options.owner, jobs: options.jobs, single: beside.is_none() };
        let mut first = load::plain(server, &plan.file, database, how, || events.progress(0, plan.bytes));
        if how.single && first.exit != Exit::Success && first.stderr.contains("out of shared memory") {
            // Too many tables for one transaction.
            how.single = false;
            first = load::plain(server, &plan.file, database, how, || events.progress(0, plan.bytes));
        }
        if first.exit == Exit::Success {
            return Ok(());
        }
        // The last attempt says what is really wrong: the first one may only have lacked the path.
        let mut failure = load::failure(server, &plan.goal, &first);
        if !load::may_be_path(&first) {
            return Err(failure);
        }
        for SearchPath { path, is_its } in load::paths(server, (&plan.scan, &plan.goal), self.apart)? {
            if let Some((places, place)) = beside {
                places.again(place, plan.scan.made().as_deref())?;
            }
            let tick = || events.progress(0, plan.bytes);
            let ran = load::with_path(server, &plan.file, self.staging, database, &path, how, tick)?;
            if ran.exit != Exit::Success {
                failure = load::failure(server, &plan.goal, &ran);
                failure.trouble.message =
                    format!("{} (with the search_path {path}, and not with none)", failure.trouble.message);
                continue;
            }
            events.notice(
                Trouble::new(
                    codes::LOADED_WITH_SEARCH_PATH,
                    format!("{} was loaded with the search_path {path}: with none it is not loadable", plan.goal),
                )
                .with_hint("ALTER FUNCTION … SET search_path mends that for good"),
            );
            return if is_its { Ok(()) } else { self.guessed(plan, database, &path, events) };
        }
        Err(failure)
    }

    /// What was computed with a guessed path may be something else than the application computes.
    fn guessed(&self, plan: &Plan, database: &str, path: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let names = load::ambiguous(self.server, database)?;
        if names.is_empty() {
            return Ok(());
        }
        let told = format!(
            "{} is in more than one schema, and nothing says with which search_path {} computes",
            names.join(", "),
            plan.goal
        );
        if plan.is_full {
            let hint = format!(
                "the database that is there was not touched; say it on the server, then restore again: \
                 ALTER DATABASE {} SET search_path = …",
                identifier(&plan.goal)
            );
            return Err(Failure::new(codes::SEARCH_PATH_UNKNOWN, told).hint(hint));
        }
        let name = format!("what {} computes is as it was", plan.goal);
        events.validation(name, Verdict::CouldNotVerify, format!("{told}; it was loaded with {path}"));
        Ok(())
    }

    fn compare(&self, plan: &Plan, database: &str, events: &mut EventWriter<'_>) -> Result<Verdict, Failure> {
        if self.options.compare {
            let found = dump::read_back(self.server, database, || events.progress(0, plan.bytes))?;
            return Ok(compare::tell(&plan.goal, &plan.scan, &found, self.same_major, self.options.owner, events));
        }
        let name = format!("database {} holds what the backup does", plan.goal);
        events.validation(name, Verdict::CouldNotVerify, "it was not compared, as `compare: false` says");
        Ok(Verdict::CouldNotVerify)
    }

    /// Gives the database itself the owner, rights and settings that the backup tells.
    fn of_itself(&self, plan: &Plan, database: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        for property in plan.scan.properties().iter().filter(|each| self.options.owner || !each.is_right) {
            match self.server.query(self.apart, &property.about(database)) {
                Ok(_) => {}
                Err(failure) if plan.goal == plan.name => return Err(load::as_administrator(failure)),
                Err(failure) => events.warning(Trouble::new(codes::SETTING_REFUSED, failure.trouble.message)),
            }
        }
        Ok(())
    }
}

/// A database to be in while others are made, renamed or dropped.
fn apart<'g>(mut goals: impl Iterator<Item = &'g str>) -> &'static str {
    if goals.any(|goal| goal == MAINTENANCE) { "template1" } else { MAINTENANCE }
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(codes::DUMP_DAMAGED, format!("{} cannot be used: {why}", path.display()))
        .hint("nothing was changed; take another snapshot")
}

/// Says first when the backup is of another major version. Answers whether it is of the same.
fn tell_version(facts: &CaptureFacts, server: &Server<'_>, events: &mut EventWriter<'_>) -> bool {
    let then = facts.app_version.as_deref().unwrap_or_default();
    let digits: String = then.trim_start_matches("PostgreSQL ").chars().take_while(char::is_ascii_digit).collect();
    let Some(major) = digits.parse::<u32>().ok().filter(|major| *major != server.major) else { return true };
    let hint = if major > server.major {
        "an older server may not know all that is in it: restore into the same major version or a newer one"
    } else {
        "extensions and what depends on the version may need care; run ANALYZE afterwards"
    };
    let message = format!("the backup is of {then}, the server is PostgreSQL {}", server.version);
    events.warning(Trouble::new(codes::OTHER_VERSION, message).with_hint(hint));
    false
}

/// Decides where each dump goes; refuses what must not be done before anything is.
fn plans(server: &Server<'_>, job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Vec<Plan>, Failure> {
    let RestoreJob { options, facts, staging, .. } = job;
    let choice = Choice { databases: &options.databases, into: options.into.as_deref(), overwrite: options.overwrite };
    let mut plans = Vec::new();
    let mut known = Vec::new();
    for (number, artifact) in facts.artifacts.iter().enumerate().filter(|(_, each)| each.format == FORMAT_DUMP) {
        let file = staging.join(&artifact.path);
        let contents = validate::contents(&server.tools, &server.client, &file)
            .map_err(|failure| damaged(&artifact.path, &failure.trouble.message))?;
        let Some(name) = contents.database else {
            return Err(damaged(&artifact.path, "it does not tell its database"));
        };
        known.push(name.clone());
        if !choice.has(&name) {
            continue;
        }
        let bytes = dump::bytes_of(&file);
        let sha256 = digest::sha256(&file, |done| events.progress(done, bytes))?;
        if artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
            return Err(damaged(&artifact.path, "it changed since the capture"));
        }
        let scan = validate::scan(&server.tools, &server.client, &file, |done| events.progress(done, bytes))
            .map_err(|failure| damaged(&artifact.path, &failure.trouble.message))?;
        let goal = options.into.clone().unwrap_or_else(|| name.clone());
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(&goal));
        let exists = !server.query(apart(std::iter::once(goal.as_str())), &sql)?.is_empty();
        let is_full = exists && has_content(server, &goal)?;
        if is_full && options.overwrite {
            let key = figure_key(&artifact.path, number, server.settings.password.as_ref());
            replaceable(server, options, &goal, &key, facts)?;
        }
        plans.push(Plan { file, name, goal, scan, bytes, exists, is_full });
    }
    let goals: Vec<Goal<'_>> = plans.iter().map(|plan| Goal { database: &plan.goal, is_full: plan.is_full }).collect();
    choice.check(&known, &goals, &server.settings.place(), "something in it")?;
    Ok(plans)
}

/// Refuses a database that holds what the backup never has, and that would go with it.
fn replaceable(
    server: &Server<'_>,
    options: &PostgresRestore,
    goal: &str,
    key: &str,
    facts: &CaptureFacts,
) -> Result<(), Failure> {
    swap::unbound(server, apart(std::iter::once(goal)), goal)?;
    let excluded = excluded::live(server, goal, key, facts)?;
    if excluded.is_empty() || options.drop_excluded {
        return Ok(());
    }
    let names: Vec<&str> = excluded.iter().map(String::as_str).collect();
    let told = format!(
        "the database {goal:?} at {} has tables that `exclude_tables` leaves out of the backup, and would lose them: {}",
        server.settings.place(),
        listed(&names)
    );
    Err(Failure::new(codes::EXCLUDED_WOULD_GO, told).hint(
        "nothing was changed; restore it beside with `--option into=NAME` and move over what you need, or say \
         `--option drop_excluded=true` to lose them",
    ))
}

/// Whether anything was made in the database since it is there.
fn has_content(server: &Server<'_>, database: &str) -> Result<bool, Failure> {
    let own = "nspname !~ '^pg_' AND nspname <> 'information_schema'";
    let sql = format!(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE {own}) \
         OR EXISTS (SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {own}) \
         OR EXISTS (SELECT 1 FROM pg_namespace WHERE {own} AND nspname <> 'public') \
         OR EXISTS (SELECT 1 FROM pg_largeobject_metadata)"
    );
    Ok(!server.query(database, &sql)?.is_empty())
}
