//! Puts copies in the place of their databases, at once, and keeps the old ones beside.
//!
//! A -wal file belongs to the database it was written for: SQLite would write its pages into the new one. So it is set
//! aside with the old database, after that has its second name and before the new one has the first.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{FORMAT, SqliteSettings, check, content, free_name, open};
use crate::error::{Trouble, chain, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::place::{Placing, aside, with_suffix};
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::kit::sqlite_files::{BESIDE, READ};
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::types::ByteSize;

/// How long a lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Processes that are looked at, and files of each.
const PROCESSES_MAX: usize = 100_000;
const FILES_MAX: usize = 4_096;

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct SqliteRestore {
    /// The databases to put back, by the paths of the target; by default all of them.
    #[serde(default)]
    paths: Vec<PathBuf>,
    /// Where the one database goes instead of its own path.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    into: Option<PathBuf>,
    /// Put it back even while somebody has the old one open: who does goes on with the old file until it is restarted.
    #[serde(default)]
    force: bool,
}

type Job<'j> = RestoreJob<'j, SqliteSettings, SqliteRestore>;

/// One copy and where it goes.
pub(in crate::plugin) struct Plan {
    new: PathBuf,
    goal: PathBuf,
    there: bool,
    bytes: u64,
    sha256: String,
    /// The figures of the copy, which the restored database must have too.
    figures: BTreeMap<String, u64>,
    tables: u64,
    rows: u64,
}

/// Puts databases back.
pub(in crate::plugin) struct Sqlite;

impl Restorer for Sqlite {
    type Settings = SqliteSettings;
    type Options = SqliteRestore;
    type Work = Vec<Plan>;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Vec<Plan>>, Failure> {
        events.version(format!("SQLite {}", rusqlite::version()));
        let plans = plans(job, events)?;
        for plan in &plans {
            let goal = plan.goal.display();
            if let Some(who) = in_use(&plan.goal) {
                if !job.options.force {
                    return Err(Failure::new(codes::DATABASE_IN_USE, format!("{goal} is in use: {who}"))
                        .hint("nothing was changed; stop the application, or say `force: true`"));
                }
                events.warning(
                    Trouble::new(codes::DATABASE_IN_USE, format!("{goal} is in use: {who}"))
                        .with_hint("restart the application at once: what it writes now goes into the old file"),
                );
            }
        }
        Ok(Planned::of(plans.iter().map(|plan| plan.step(job.run)).collect(), plans))
    }

    fn execute(
        job: &Job<'_>,
        plans: Vec<Plan>,
        _: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        replace_all(&plans, job.run, events)?;
        for plan in &plans {
            verify(plan, &job.settings, events);
        }
        Ok(())
    }
}

/// Decides which copy goes where; a damaged one is refused before anything is changed.
fn plans(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Vec<Plan>, Failure> {
    let RestoreJob { settings, options, facts, .. } = job;
    let mut names: Vec<String> = Vec::new();
    let mut plans = Vec::new();
    let all = settings.chosen()?;
    if let Some(missing) = options.paths.iter().find(|path| !all.contains(path)) {
        return Err(Failure::new(
            codes::RESTORE_OPTIONS,
            format!("{} is no database of the target", missing.display()),
        )
        .hint("name paths as the target's settings do"));
    }
    for path in &all {
        // As the capture named them.
        let name = free_name(path, &names);
        names.push(name.clone());
        if !options.paths.is_empty() && !options.paths.contains(path) {
            continue;
        }
        let artifact = facts.artifacts.iter().find(|each| each.format == FORMAT && each.path == Path::new(&name));
        let Some(artifact) = artifact else {
            return Err(Failure::new(
                codes::NOT_IN_BACKUP,
                format!("the backup holds no {name} for {}", path.display()),
            )
            .hint("choose with `paths`, or restore into a target that names the same databases"));
        };
        let new = job.staging.join(&artifact.path);
        let sha256 = digest::sha256(&new, |done| events.progress(done, 0))?;
        let damaged = |why: String| {
            Failure::new(codes::COPY_DAMAGED, format!("the copy {name} cannot be used: {why}"))
                .hint("nothing was changed; take another snapshot")
        };
        if artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
            return Err(damaged("it changed since the capture".to_owned()));
        }
        let looked = open(&new, settings.busy_timeout)
            .and_then(|connection| Ok((check::integrity(&connection, true), content::read(&connection)?)));
        let found = match looked {
            Ok(((Verdict::Failed, why), _)) => return Err(damaged(why)),
            Ok((_, found)) => found,
            Err(error) => return Err(damaged(chain(&error))),
        };
        let goal = options.into.clone().unwrap_or_else(|| path.clone());
        // What a link leads to is replaced, not the link.
        let goal = goal.canonicalize().unwrap_or(goal);
        if !goal.parent().is_some_and(Path::is_dir) {
            return Err(Failure::new(codes::PATH_MISSING, format!("there is no directory for {}", goal.display()))
                .hint("make it, with the owner that the application needs"));
        }
        let there = goal.symlink_metadata().is_ok();
        let bytes = std::fs::metadata(&new).map_or(0, |metadata| metadata.len());
        let figures = found.figures("").into_iter().collect();
        plans.push(Plan { new, goal, there, bytes, sha256, figures, tables: found.tables, rows: found.rows });
    }
    if options.into.is_some() && plans.len() != 1 {
        return Err(Failure::new(
            codes::RESTORE_OPTIONS,
            format!("`into` names one path, but {} databases are chosen", plans.len()),
        )
        .hint("choose one with `paths`"));
    }
    Ok(plans)
}

impl Plan {
    fn step(&self, run: &str) -> Step {
        let detail = format!("{} tables, {} rows, {}", self.tables, self.rows, ByteSize(self.bytes));
        let goal = self.goal.display().to_string();
        if self.there {
            let kept = aside(&self.goal, run);
            Step::new(Verb::Replace, goal, format!("{detail}; the old one is kept as {}", kept.display()))
        } else {
            Step::new(Verb::Create, goal, detail)
        }
    }
}

/// Who keeps the database from being replaced: one who holds a lock, or has it open.
fn in_use(goal: &Path) -> Option<String> {
    if !goal.exists() {
        return None;
    }
    locked(goal).or_else(|| {
        let who = holder(goal).or_else(|| holder(&with_suffix(goal, "-wal")))?;
        Some(format!("process {who} has it open"))
    })
}

/// Tries to lock it for itself alone. In WAL mode that needs everybody else to have closed it.
fn locked(goal: &Path) -> Option<String> {
    // Without its -wal file nobody has such a one open, and opening it would make one.
    if is_in_wal_mode(goal) && !with_suffix(goal, "-wal").exists() {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let lock = || -> rusqlite::Result<()> {
        let connection = Connection::open_with_flags(goal, flags)?;
        // The old -wal file is to stay as it is.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(LOCK_WAIT)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK;")
    };
    match lock() {
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            Some("somebody holds a lock".to_owned())
        }
        // A damaged one is what a restore is for.
        _ => None,
    }
}

fn is_in_wal_mode(goal: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0_u8; 20];
    let read = std::fs::File::open(goal).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.get(18) == Some(&2)
}

/// A process of this machine that has the file open, as far as this user may see.
fn holder(file: &Path) -> Option<String> {
    let wanted = std::fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))?;
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    processes
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
        })
        .find(|entry| {
            let files = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().take(FILES_MAX);
            files
                .map(|file| std::fs::metadata(file.path()))
                .any(|metadata| metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == wanted))
        })
        .map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} ({})", entry.file_name().to_string_lossy(), name.trim())
        })
}

fn broken(plan: &Plan, error: std::io::Error) -> Failure {
    let failure = Failure::new(codes::PATH_UNWRITABLE, format!("{} cannot be replaced: {error}", plan.goal.display()));
    match error.kind() {
        std::io::ErrorKind::StorageFull => failure.hint("make room there: old and new one lie side by side"),
        _ => failure.hint("give the daemon's user write permission on the directory, and the right to give files away"),
    }
}

/// Puts all of them in place, or none: each new one is complete and read back before the first old one is touched.
fn replace_all(plans: &[Plan], run: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let mut ready = Vec::new();
    for plan in plans {
        let placing = Placing::prepare(&plan.new, &plan.goal, run, |done| events.progress(done, plan.bytes))
            .map_err(|error| broken(plan, error))?;
        let written = digest::sha256(placing.half(), |done| events.progress(done, plan.bytes))?;
        if written != plan.sha256 {
            return Err(Failure::new(
                codes::COPY_DAMAGED,
                format!("what was written beside {} is not the copy", plan.goal.display()),
            )
            .hint("nothing was changed; look at `dmesg` for the disk"));
        }
        ready.push((plan, placing));
    }
    let mut done: Vec<&Plan> = Vec::new();
    for (plan, placing) in ready {
        if let Err(error) = replace(plan, placing, run) {
            for plan in done.iter().rev() {
                put_back(plan, run);
            }
            return Err(broken(plan, error));
        }
        done.push(plan);
    }
    Ok(())
}

/// At every instant the goal is the old database with all of its transactions, or the new one: whoever is killed in
/// between leaves one of them.
fn replace(plan: &Plan, placing: Placing, run: &str) -> std::io::Result<()> {
    let kept = aside(&plan.goal, run);
    placing.keep_old(&kept)?;
    let companions: Vec<&str> =
        BESIDE.into_iter().filter(|end| with_suffix(&plan.goal, end).symlink_metadata().is_ok()).collect();
    let logs =
        companions.iter().any(|end| std::fs::metadata(with_suffix(&plan.goal, end)).is_ok_and(|log| log.len() > 0));
    if plan.there && logs {
        // What the log holds goes into a copy of the old one, and that into its place: then the log is not needed any
        // more, and does no harm either, since it says the same once more.
        match merged(&plan.goal, run) {
            Ok(merged) => std::fs::rename(merged, &plan.goal)?,
            // A damaged one is what a restore is for.
            Err(why) => tracing::debug!(why, "the old database cannot be merged with its log"),
        }
    }
    for end in companions {
        std::fs::rename(with_suffix(&plan.goal, end), with_suffix(&kept, end))?;
    }
    placing.finish()
}

/// A copy beside the database with all that its log says, as the application would find it.
fn merged(goal: &Path, run: &str) -> Result<PathBuf, String> {
    let name = goal.file_name().unwrap_or_default().to_string_lossy();
    let copy = goal.with_file_name(format!(".{name}.larder-old-{}", run.to_lowercase()));
    let make = || -> Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        let owner = std::fs::metadata(goal).map_err(io)?;
        for end in READ {
            match std::fs::copy(with_suffix(goal, end), with_suffix(&copy, end)) {
                Ok(_) => {}
                Err(error) if !end.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&copy, flags).map_err(|error| chain(&error))?;
        let open = |sql: &str| connection.query_row(sql, [], |_| Ok(())).map_err(|error| chain(&error));
        open("SELECT count(*) FROM sqlite_schema")?;
        open("PRAGMA wal_checkpoint(TRUNCATE)")?;
        connection.close().map_err(|(_, error)| chain(&error))?;
        let file = std::fs::File::options().write(true).open(&copy).map_err(io)?;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(io)?;
        file.set_permissions(owner.permissions()).map_err(io)?;
        file.sync_all().map_err(io)
    };
    let made = make();
    for end in BESIDE {
        let _ = std::fs::remove_file(with_suffix(&copy, end));
    }
    if made.is_err() {
        let _ = std::fs::remove_file(&copy);
    }
    made.map(|()| copy)
}

/// Undoes [`replace`] for a database whose neighbours could not be replaced.
fn put_back(plan: &Plan, run: &str) {
    let kept = aside(&plan.goal, run);
    if !plan.there {
        let _ = std::fs::remove_file(&plan.goal);
        return;
    }
    for end in [""].into_iter().chain(BESIDE) {
        if let Err(error) = std::fs::rename(with_suffix(&kept, end), with_suffix(&plan.goal, end))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %plan.goal.display(), %error, "cannot be put back");
        }
    }
}

/// Looks at what is there now.
fn verify(plan: &Plan, settings: &SqliteSettings, events: &mut EventWriter<'_>) {
    let goal = plan.goal.display();
    let name = format!("{goal} is the backup");
    match digest::sha256(&plan.goal, |done| events.progress(done, plan.bytes)) {
        Ok(found) if found == plan.sha256 => events.validation(name, Verdict::Proven, format!("sha256 {found}")),
        // Somebody may write to it already.
        Ok(_) => events.validation(name, Verdict::CouldNotVerify, "it was written to meanwhile"),
        Err(failure) => events.validation(name, Verdict::Failed, failure.trouble.message),
    }
    let read = open(&plan.goal, settings.busy_timeout).and_then(|connection| {
        Ok((check::integrity(&connection, settings.accept_unchecked), content::read(&connection)?))
    });
    let (verdict, detail) = match read {
        Ok(((Verdict::Failed, why), _)) => (Verdict::Failed, why),
        Ok(((verdict, integrity), found))
            if found.figures("").into_iter().collect::<BTreeMap<_, _>>() == plan.figures =>
        {
            (verdict, format!("integrity_check {integrity}, {} tables, {} rows", found.tables, found.rows))
        }
        Ok((_, found)) => (
            Verdict::Failed,
            format!("{} tables, {} rows; in the backup {} and {}", found.tables, found.rows, plan.tables, plan.rows),
        ),
        Err(error) => (Verdict::Failed, chain(&error)),
    };
    events.validation(format!("{goal} has the tables and rows of the backup"), verdict, detail);
}
