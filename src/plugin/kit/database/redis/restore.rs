//! Puts an RDB file in the place from which a stopped instance reads it.
//!
//! A running instance would write its own data over the file when it stops, and where it keeps an AOF it does not read
//! the file at all. So a running one is refused, an AOF is set aside only when that is said, and starting is left to a
//! person: what starts a service on somebody's machine is nothing that a backup may choose. Who starts it meanwhile
//! gets its content compared; who does not is told that nothing was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{self, Checked, Found};
use super::compare::{self, Compared};
use super::instance::Instance;
use super::{FORMAT, RedisSettings};
use crate::error::{Kind, Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::place::{Placing, aside};
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::types::ByteSize;

const COMPARISON: &str = "the instance holds what the backup holds";
const SAVES_OVER_IT: &str = "with `method: bgsave` the instance would save over the restored file: start it, and when its \
                             data look right compare with `--option compare_only=true`";
/// How often the instance is looked for.
const POLL: Duration = Duration::from_millis(500);

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct RedisRestore {
    /// The instance's data directory (`dir` in redis.conf), as seen from here; required.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    dir: Option<PathBuf>,
    /// The file in it (`dbfilename` in redis.conf).
    #[serde(default = "file_default")]
    dbfilename: String,
    /// Replace a file that is there; it is kept beside.
    #[serde(default)]
    overwrite: bool,
    /// Rename an AOF that is there; Redis would read it and not the restored file.
    #[serde(default)]
    set_aside_aof: bool,
    /// How long to wait for the instance to be started, so that its content can be compared with the backup.
    #[serde(default = "wait_default")]
    wait: Patience,
    /// Restore nothing: compare the content of the running instance with the backup. It needs no `dir`.
    #[serde(default)]
    compare_only: bool,
}

fn file_default() -> String {
    super::FILE.to_owned()
}

fn wait_default() -> Patience {
    Patience(Duration::from_mins(5))
}

type Job<'j> = RestoreJob<'j, RedisSettings, RedisRestore>;

/// Puts an RDB file back.
pub(in crate::plugin) struct Redis;

/// What was decided.
pub(in crate::plugin) enum Work {
    Place(Box<Placement>),
    /// Only a comparison was wanted, which changes nothing.
    Compared,
}

/// A file and the place that it gets.
pub(in crate::plugin) struct Placement {
    backup: Backup,
    goal: PathBuf,
    /// What Redis would read instead.
    logs: Vec<PathBuf>,
    start: Step,
}

impl Restorer for Redis {
    type Settings = RedisSettings;
    type Options = RedisRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let RestoreJob { settings, options, .. } = job;
        settings.check()?;
        if options.compare_only {
            compare_only(job, events)?;
            return Ok(Planned::of(Vec::new(), Work::Compared));
        }
        let directory = options.directory()?;
        let instance = Instance::find(settings, job.staging)?;
        let backup = Backup::read(&instance, job, events)?;
        let (mut steps, mut refusals) = (Vec::new(), Vec::new());
        if let Some(version) = running(&instance)? {
            events.version(version.clone());
            let told = format!("{version} runs at {}", settings.place());
            refusals.push(Failure::new(codes::STILL_RUNNING, told.clone()).hint(
                "nothing was changed; stop it first (`systemctl stop redis-server`): it would overwrite the file",
            ));
            steps.push(Step::new(Verb::Manual, "stop the instance", told));
        }
        let goal = directory.join(&options.dbfilename);
        let logs = append_only(directory)?;
        if let Some(log) = logs.first().filter(|_| !options.set_aside_aof) {
            let told = format!("{} is there: Redis would read it and not the restored file", log.display());
            refusals.push(
                Failure::new(codes::AOF_WINS, told).hint("nothing was changed; say `set_aside_aof: true` to rename it"),
            );
        }
        let is_there = goal.symlink_metadata().is_ok();
        if is_there && !options.overwrite {
            refusals.push(
                Failure::new(codes::FILE_EXISTS, format!("{} is there", goal.display()))
                    .hint("nothing was changed; say `overwrite: true` to replace it, it is kept beside"),
            );
        }
        for log in &logs {
            let kept = format!("kept as {}", aside(log, job.run).display());
            steps.push(Step::new(Verb::Replace, log.display().to_string(), kept));
        }
        let Found { keys, expires, .. } = backup.found;
        let detail = format!("{keys} keys, {}", ByteSize(backup.bytes()));
        steps.push(if is_there {
            let kept = aside(&goal, job.run);
            let detail = format!("{detail}; the old one is kept as {}", kept.display());
            Step::new(Verb::Replace, goal.display().to_string(), detail)
        } else {
            Step::new(Verb::Create, goal.display().to_string(), detail)
        });
        let tells = format!("then DBSIZE tells at most {keys} keys in all databases ({expires} may have run out)");
        let start = Step::new(Verb::Manual, "start the instance", tells);
        let later = vec![start.clone()];
        let work = Work::Place(Box::new(Placement { backup, goal, logs, start }));
        Ok(Planned { later, refusals, ..Planned::of(steps, work) })
    }

    fn execute(job: &Job<'_>, work: Work, _: Option<&Journal>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Work::Place(placement) = work else { return Ok(()) };
        let Placement { backup, goal, logs, start } = *placement;
        place(&backup, &goal, &logs, job.run, events)?;
        events.planned(start);
        if !logs.is_empty() {
            events.warning(
                Trouble::new(
                    codes::AOF_SET_ASIDE,
                    "the instance kept an AOF: start it with `appendonly no`, or it begins an empty one",
                )
                .with_hint("look at the data, then CONFIG SET appendonly yes, and set it in redis.conf again"),
            );
        }
        let (verdict, detail) = match &job.settings.rdb_file {
            // What it holds may be wrong, and the restored file is all that is right then.
            Some(_) => (Verdict::CouldNotVerify, SAVES_OVER_IT.to_owned()),
            None => started(job, &backup, events)?,
        };
        events.validation(COMPARISON, verdict, detail);
        Ok(())
    }
}

impl RedisRestore {
    /// The directory that the file goes to.
    fn directory(&self) -> Result<&Path, Failure> {
        let refuse = |what: &str, hint: &str| Err(Failure::new(codes::RESTORE_OPTIONS, what).hint(hint));
        let Some(directory) = self.dir.as_deref().filter(|directory| directory.is_absolute()) else {
            return refuse("`dir` is missing", "give the instance's data directory: `--option dir=/var/lib/redis`");
        };
        if Path::new(&self.dbfilename).components().count() != 1 || self.dbfilename.starts_with('.') {
            return refuse("`dbfilename` is no file name", "give it without a directory");
        }
        if !directory.is_dir() {
            return Err(Failure::new(codes::PATH_MISSING, format!("{} is no directory here", directory.display()))
                .hint("Larder must run where the instance's files are, or see them mounted"));
        }
        Ok(directory)
    }
}

/// Puts the file of the backup in the place of `goal`, and what is in its way aside.
fn place(
    backup: &Backup,
    goal: &Path,
    logs: &[PathBuf],
    run: &str,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let broken = |error: std::io::Error| {
        Failure::new(codes::PATH_UNWRITABLE, format!("{} cannot be written: {error}", goal.display()))
            .hint("give the daemon's user write permission on the directory, and room")
    };
    let bytes = backup.bytes();
    let placing = Placing::prepare(&backup.file, goal, run, |done| events.progress(done, bytes)).map_err(broken)?;
    placing.keep_old(&aside(goal, run)).map_err(broken)?;
    placing.finish().map_err(broken)?;
    // Last: until then an instance that is started reads the old data from them, whole.
    for log in logs {
        std::fs::rename(log, aside(log, run)).map_err(broken)?;
    }
    let there = digest::sha256(goal, |_| {})?;
    let verdict = if there == backup.sha256 { Verdict::Proven } else { Verdict::Failed };
    events.validation(format!("{} is the backup", goal.display()), verdict, format!("sha256 {there}"));
    Ok(())
}

/// The RDB file of the backup, looked at.
struct Backup {
    file: PathBuf,
    sha256: String,
    found: Found,
}

impl Backup {
    fn read(instance: &Instance<'_>, job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Self, Failure> {
        let RestoreJob { settings, facts, .. } = job;
        let Some(artifact) = facts.artifacts.iter().find(|artifact| artifact.format == FORMAT) else {
            return Err(Failure::new(codes::NOT_IN_BACKUP, "the backup holds no RDB file"));
        };
        let file = job.staging.join(&artifact.path);
        let sha256 = digest::sha256(&file, |done| events.progress(done, 0))?;
        match check::read(&instance.tools, settings.bin_dir.as_deref(), &file)? {
            _ if artifact.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) => {
                Err(damaged("it changed since the capture"))
            }
            // The server that wrote it reads it.
            Checked::Unknown(why) => {
                events.warning(
                    Trouble::new(codes::NOT_CHECKED, format!("the RDB file cannot be read here: {why}"))
                        .with_hint("install redis-tools of the server's version, or a newer one"),
                );
                let keys = facts.figures.get("keys_before").copied().unwrap_or(0);
                Ok(Self { file, sha256, found: Found { keys, ..Found::default() } })
            }
            Checked::Sound(found) => Ok(Self { file, sha256, found }),
            Checked::Damaged(why) => Err(damaged(&why)),
        }
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }
}

/// Looks, and changes nothing: that is all of it.
fn compare_only(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let instance = Instance::find(&job.settings, job.staging)?;
    let backup = Backup::read(&instance, job, events)?;
    events.version(instance.info()?.version);
    let (verdict, detail) = compare(&instance, job, &backup, events);
    events.validation(COMPARISON, verdict, detail);
    Ok(())
}

/// Waits until somebody has started the instance, and compares it then.
fn started(job: &Job<'_>, backup: &Backup, events: &mut EventWriter<'_>) -> Result<(Verdict, String), Failure> {
    let instance = Instance::find(&job.settings, job.staging)?;
    Ok(match wait(&instance, job.options.wait.0, events) {
        Ok(()) => compare(&instance, job, backup, events),
        Err(why) => (Verdict::CouldNotVerify, why),
    })
}

/// Until somebody has started the instance and it has read its file; or why there is nothing to compare.
fn wait(instance: &Instance<'_>, patience: Duration, events: &mut EventWriter<'_>) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match instance.info() {
            Ok(info) if !info.is_loading() => return Ok(()),
            Ok(_) => {}
            Err(failure) if matches!(failure.trouble.kind(), Some(Kind::Unreachable | Kind::Busy)) => {}
            Err(failure) => return Err(failure.trouble.message),
        }
        if started.elapsed() >= patience {
            let waited = crate::types::show_duration(patience);
            return Err(format!(
                "it was not started within {waited}: start it, then compare with `--option compare_only=true`"
            ));
        }
        events.progress(started.elapsed().as_secs(), patience.as_secs());
        std::thread::sleep(POLL);
    }
}

/// Takes a snapshot as a capture does, and compares it with the backup.
fn compare(
    instance: &Instance<'_>,
    job: &Job<'_>,
    Backup { file, found, .. }: &Backup,
    events: &mut EventWriter<'_>,
) -> (Verdict, String) {
    let again = job.staging.join(".again.rdb");
    let taken = instance.snapshot(&again, events);
    let compared = match &taken {
        Ok(()) => compare::compare(job.settings.bin_dir.as_deref(), file, &again, found.used_bytes),
        Err(failure) => Compared::Unknown(failure.trouble.message.clone()),
    };
    let _ = std::fs::remove_file(&again);
    match compared {
        Compared::Same(detail) => (Verdict::Proven, detail),
        Compared::Different(detail) => {
            (Verdict::Failed, format!("{detail}; that is right only where something wrote to it since its start"))
        }
        Compared::Unknown(why) => (Verdict::CouldNotVerify, why),
    }
}

fn damaged(why: &str) -> Failure {
    Failure::new(codes::DUMP_DAMAGED, format!("the RDB file of the backup cannot be used: {why}"))
        .hint("nothing was changed; take another snapshot")
}

/// The version of the instance, if one answers.
fn running(instance: &Instance<'_>) -> Result<Option<String>, Failure> {
    match instance.info() {
        Ok(info) => Ok(Some(info.version)),
        Err(failure) if failure.trouble.kind() == Some(Kind::Unreachable) => Ok(None),
        // It answers, if only to refuse.
        Err(failure) if matches!(failure.trouble.kind(), Some(Kind::Unauthorized | Kind::Busy)) => {
            Ok(Some("an instance".to_owned()))
        }
        Err(failure) => Err(failure),
    }
}

/// What Redis would read instead: the directory of version 7, the file of older ones.
fn append_only(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_log = |name: &str| name == "appendonlydir" || name == "appendonly.aof";
    let all: std::io::Result<Vec<std::fs::DirEntry>> = std::fs::read_dir(directory).and_then(Iterator::collect);
    let all = all.map_err(|error| {
        let told =
            format!("{} cannot be read, so whether Redis keeps an AOF is not known: {error}", directory.display());
        Failure::new(codes::PATH_UNREADABLE, told)
            .hint("nothing was changed; give the daemon's user read permission on it")
    })?;
    let logs = all.iter().filter(|entry| is_log(&entry.file_name().to_string_lossy()));
    let mut found: Vec<PathBuf> = logs.map(std::fs::DirEntry::path).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_read_does_not_say_that_there_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("dump.rdb"), "").unwrap();
        assert_eq!(append_only(directory.path()).unwrap(), Vec::<PathBuf>::new());
        std::fs::create_dir(directory.path().join("appendonlydir")).unwrap();
        assert_eq!(append_only(directory.path()).unwrap(), [directory.path().join("appendonlydir")]);
        assert_eq!(append_only(&directory.path().join("dump.rdb")).unwrap_err().trouble.code, "path_unreadable");
    }
}
