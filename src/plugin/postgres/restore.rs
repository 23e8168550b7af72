//! Puts dumps back into a server, and compares what is there afterwards with them, table by table.
//!
//! All that can be refused is refused before anything is changed: a damaged dump, a database that has something in it.
//! What is half made when pg_restore fails is dropped again, so nobody takes it for the database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::explain::explain;
use super::scan::Scan;
use super::server::{Server, connection, identifier, literal};
use super::{FORMAT_DUMP, FORMAT_GLOBALS, PostgresSettings, dump, verify};
use crate::error::Trouble;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::databases::{Choice, Goal};
use crate::plugin::protocol::{CaptureFacts, Request, Verb};
use crate::plugin::tool::DEADLINE_OF_WORK;
use crate::plugin::{Verdict, digest};
use crate::process::Exit;
use crate::types::ByteSize;

mod compare;
mod roles;

pub(in crate::plugin) use roles::names as roles_made;

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresRestore {
    /// The databases to put back; by default all of the backup.
    #[serde(default)]
    databases: Vec<String>,
    /// Put the one database back under this name.
    #[serde(default)]
    into: Option<String>,
    /// Drop and replace a database that has something in it.
    #[serde(default)]
    overwrite: bool,
    /// Make the roles and tablespaces of the backup first; those that are there stay.
    #[serde(default)]
    globals: bool,
    /// How many tables are restored at the same time.
    #[serde(default = "jobs_default")]
    #[schemars(range(min = 1, max = 64))]
    jobs: u32,
    /// Give things to the roles that owned them, with their rights; else all belongs to the role of the target.
    #[serde(default = "crate::plugin::settings::yes")]
    owner: bool,
    /// Read every restored table back and compare it with the backup.
    #[serde(default = "crate::plugin::settings::yes")]
    compare: bool,
}

/// Says whether a database that was filled by other means is what its dump was.
pub(in crate::plugin) fn compare(goal: &str, wanted: &Scan, found: &Scan, voice: &mut Voice<'_>) {
    compare::tell(goal, wanted, found, wanted.major == found.major, true, voice);
}

fn jobs_default() -> u32 {
    1
}

/// One dump and where it goes.
struct Plan {
    file: PathBuf,
    name: String,
    goal: String,
    scan: Scan,
    bytes: u64,
    exists: bool,
    is_full: bool,
}

pub(super) fn run(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: PostgresSettings = builtin::settings(request)?;
    let options: PostgresRestore = builtin::options(request)?;
    let (Some(facts), Some(order)) = (&request.capture, &request.restore) else {
        return Err(Failure::new("request", "`restore` needs what the capture told, and an order"));
    };
    let server = Server::connect(&settings, &request.staging, "postgres")?;
    voice.version(format!("PostgreSQL {}", server.version));
    let same_major = tell_version(facts, &server, voice);
    let plans = plan(&server, &options, facts, &request.staging, voice)?;
    let globals = facts.artifacts.iter().find(|artifact| artifact.format == FORMAT_GLOBALS && options.globals);
    if options.globals && globals.is_none() {
        return Err(Failure::new("no_globals", "the backup holds no roles").hint("leave `globals` out"));
    }
    if let Some(globals) = globals {
        let file = request.staging.join(&globals.path);
        let whole = verify::ends_well(&file).unwrap_or(false);
        let same = globals.sha256.is_none() || globals.sha256 == digest::sha256(&file, |_| {}).ok();
        if !whole || !same {
            return Err(damaged(&globals.path, "it is not as it was captured"));
        }
        voice.step(Verb::Run, globals.path.display().to_string(), "roles and tablespaces that are missing");
        if !order.dry_run {
            roles::restore(&server, &file, voice)?;
        }
    }
    for plan in &plans {
        let detail = format!(
            "{} tables, {} rows, {}",
            plan.scan.objects.get("TABLE").unwrap_or(&0),
            plan.scan.rows(),
            ByteSize(plan.bytes)
        );
        let (verb, detail) = match (plan.is_full, plan.exists) {
            (true, _) => (Verb::Replace, format!("{detail}; what is there is dropped first")),
            (false, true) => (Verb::Replace, format!("{detail}; nothing is in it now")),
            (false, false) => (Verb::Create, detail),
        };
        voice.step(verb, format!("database {}", plan.goal), detail);
        if !order.dry_run {
            fill(&server, plan, &options, voice)?;
            if options.compare {
                let found = dump::read_back(&server, &plan.goal, || voice.progress(0, plan.bytes))?;
                compare::tell(&plan.goal, &plan.scan, &found, same_major, options.owner, voice);
            } else {
                let name = format!("database {} holds what the backup does", plan.goal);
                voice.validation(name, Verdict::CouldNotVerify, "it was not compared, as `compare: false` says");
            }
        }
    }
    Ok(())
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new("dump_damaged", format!("{} cannot be used: {why}", path.display()))
        .hint("nothing was changed; take another snapshot")
}

/// Says first when the backup is of another major version. Answers whether it is of the same.
fn tell_version(facts: &CaptureFacts, server: &Server<'_>, voice: &mut Voice<'_>) -> bool {
    let then = facts.app_version.as_deref().unwrap_or_default();
    let digits: String = then.trim_start_matches("PostgreSQL ").chars().take_while(char::is_ascii_digit).collect();
    let Some(major) = digits.parse::<u32>().ok().filter(|major| *major != server.major) else { return true };
    let hint = if major > server.major {
        "an older server may not know all that is in it: restore into the same major version or a newer one"
    } else {
        "extensions and what depends on the version may need care; run ANALYZE afterwards"
    };
    let message = format!("the backup is of {then}, the server is PostgreSQL {}", server.version);
    voice.warning(Trouble::new("other_version", message).with_hint(hint));
    false
}

/// Decides where each dump goes; refuses what must not be done before anything is.
fn plan(
    server: &Server<'_>,
    options: &PostgresRestore,
    facts: &CaptureFacts,
    staging: &Path,
    voice: &mut Voice<'_>,
) -> Result<Vec<Plan>, Failure> {
    let choice = Choice { databases: &options.databases, into: options.into.as_deref(), overwrite: options.overwrite };
    let mut plans = Vec::new();
    let mut known = Vec::new();
    for artifact in facts.artifacts.iter().filter(|artifact| artifact.format == FORMAT_DUMP) {
        let file = staging.join(&artifact.path);
        let contents = verify::contents(&server.tools, &server.client, &file)
            .map_err(|failure| damaged(&artifact.path, &failure.trouble.message))?;
        let Some(name) = contents.database else {
            return Err(damaged(&artifact.path, "it does not tell its database"));
        };
        known.push(name.clone());
        if !choice.has(&name) {
            continue;
        }
        let bytes = dump::bytes_of(&file);
        let sha256 = digest::sha256(&file, |done| voice.progress(done, bytes))?;
        if artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
            return Err(damaged(&artifact.path, "it changed since the capture"));
        }
        let scan = verify::scan(&server.tools, &server.client, &file, |done| voice.progress(done, bytes))
            .map_err(|failure| damaged(&artifact.path, &failure.trouble.message))?;
        let goal = options.into.clone().unwrap_or_else(|| name.clone());
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(&goal));
        let exists = !server.query(maintenance(&goal), &sql)?.is_empty();
        let is_full = exists && has_content(server, &goal)?;
        plans.push(Plan { file, name, goal, scan, bytes, exists, is_full });
    }
    let goals: Vec<Goal<'_>> = plans.iter().map(|plan| Goal { database: &plan.goal, is_full: plan.is_full }).collect();
    choice.check(&known, &goals, &server.settings.place(), "something in it")?;
    Ok(plans)
}

/// A database to be in while another one is made or dropped.
fn maintenance(goal: &str) -> &'static str {
    if goal == "postgres" { "template1" } else { "postgres" }
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

/// Makes the database and has pg_restore fill it.
fn fill(server: &Server<'_>, plan: &Plan, options: &PostgresRestore, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let apart = maintenance(&plan.goal);
    let as_administrator = |failure: Failure| match failure.trouble.code.as_str() {
        "permission_denied" => {
            failure.hint("a restore needs a role with CREATEDB, or a superuser: name a target with one")
        }
        _ => failure,
    };
    if plan.is_full {
        server.query(apart, &format!("DROP DATABASE {}", identifier(&plan.goal))).map_err(as_administrator)?;
    }
    let is_new = !plan.exists || plan.is_full;
    // pg_restore also gives the database itself its settings and rights, but only under its own name.
    let by_itself = is_new && plan.goal == plan.name;
    if is_new && !by_itself {
        let made = plan.scan.made.as_deref().unwrap_or("WITH TEMPLATE = template0");
        server.query(apart, &format!("CREATE DATABASE {} {made}", identifier(&plan.goal))).map_err(as_administrator)?;
    }
    if !by_itself {
        voice.log(format!("rights and settings of the database {} itself are not those of the backup", plan.goal));
    }
    let mut args: Vec<OsString> = ["-w", "--exit-on-error"].map(OsString::from).to_vec();
    if by_itself {
        args.extend(["--create".into(), "-d".into(), apart.into()]);
    } else {
        args.extend(["-d".into(), connection(&plan.goal).into()]);
    }
    if !options.owner {
        args.extend(["--no-owner".into(), "--no-privileges".into()]);
    }
    if options.jobs > 1 {
        args.push(format!("--jobs={}", options.jobs).into());
    }
    args.push((&plan.file).into());
    let program = server.client.tool("pg_restore");
    let ran = server.tools.run(&program, args, &[], DEADLINE_OF_WORK, |_| {}, || voice.progress(0, plan.bytes));
    if ran.exit == Exit::Success {
        return Ok(());
    }
    let failure = as_administrator(explain("pg_restore", &server.settings.place(), &plan.goal, &ran));
    if is_new {
        voice.step(Verb::Delete, format!("database {}", plan.goal), "pg_restore failed, so what it made is dropped");
        if let Err(left) = server.query(apart, &format!("DROP DATABASE IF EXISTS {}", identifier(&plan.goal))) {
            voice.warning(Trouble::new(
                "half_restored",
                format!("{} is there half: {}", plan.goal, left.trouble.message),
            ));
        }
    }
    let missing_role = ran.stderr.contains("role \"") && ran.stderr.contains("does not exist");
    Err(if missing_role {
        failure.hint("the owner is no role here: say `globals: true` to make the roles first, or `owner: false`")
    } else {
        failure
    })
}
