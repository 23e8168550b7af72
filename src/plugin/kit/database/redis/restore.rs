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
use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::RestoreJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::place::{Placing, aside};
use crate::plugin::protocol::{CaptureFacts, Request, Verb, Verdict};
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

pub(in crate::plugin) fn run(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let RestoreJob::<RedisSettings, RedisRestore> { settings, options, facts, order } = RestoreJob::of(request)?;
    settings.check()?;
    if options.compare_only {
        return compare_only(&settings, request, facts, events);
    }
    let refuse = |what: &str, hint: &str| Err(Failure::new(codes::RESTORE_OPTIONS, what).hint(hint));
    let Some(directory) = options.dir.as_deref().filter(|directory| directory.is_absolute()) else {
        return refuse("`dir` is missing", "give the instance's data directory: `--option dir=/var/lib/redis`");
    };
    if Path::new(&options.dbfilename).components().count() != 1 || options.dbfilename.starts_with('.') {
        return refuse("`dbfilename` is no file name", "give it without a directory");
    }
    if !directory.is_dir() {
        return Err(Failure::new(codes::PATH_MISSING, format!("{} is no directory here", directory.display()))
            .hint("Larder must run where the instance's files are, or see them mounted"));
    }
    let instance = Instance::find(&settings, &request.staging)?;
    let Backup { file: new, sha256, found } = Backup::read(&instance, &settings, request, facts, events)?;
    let running = running(&instance)?;
    if let Some(version) = &running {
        events.version(version.clone());
        if !order.dry_run {
            return Err(Failure::new(codes::STILL_RUNNING, format!("{version} runs at {}", settings.place())).hint(
                "nothing was changed; stop it first (`systemctl stop redis-server`): it would overwrite the file",
            ));
        }
        events.step(Verb::Manual, "stop the instance", format!("{version} runs at {}", settings.place()));
    }
    let goal = directory.join(&options.dbfilename);
    let logs = append_only(directory)?;
    if let Some(log) = logs.first().filter(|_| !options.set_aside_aof) {
        return Err(Failure::new(
            codes::AOF_WINS,
            format!("{} is there: Redis would read it and not the restored file", log.display()),
        )
        .hint("nothing was changed; say `set_aside_aof: true` to rename it"));
    }
    let is_there = goal.symlink_metadata().is_ok();
    if is_there && !options.overwrite {
        return Err(Failure::new(codes::FILE_EXISTS, format!("{} is there", goal.display()))
            .hint("nothing was changed; say `overwrite: true` to replace it, it is kept beside"));
    }
    let kept = aside(&goal, &request.run);
    let bytes = std::fs::metadata(&new).map_or(0, |metadata| metadata.len());
    for log in &logs {
        events.step(
            Verb::Replace,
            log.display().to_string(),
            format!("kept as {}", aside(log, &request.run).display()),
        );
    }
    let detail = format!("{} keys, {}", found.keys, ByteSize(bytes));
    if is_there {
        events.step(
            Verb::Replace,
            goal.display().to_string(),
            format!("{detail}; the old one is kept as {}", kept.display()),
        );
    } else {
        events.step(Verb::Create, goal.display().to_string(), detail);
    }
    if !order.dry_run {
        place(&new, &sha256, &goal, &logs, &request.run, events)?;
    }
    events.step(
        Verb::Manual,
        "start the instance",
        format!("then DBSIZE tells at most {} keys in all databases ({} may have run out)", found.keys, found.expires),
    );
    if !logs.is_empty() {
        events.warning(
            Trouble::new(
                codes::AOF_SET_ASIDE,
                "the instance kept an AOF: start it with `appendonly no`, or it begins an empty one",
            )
            .with_hint("look at the data, then CONFIG SET appendonly yes, and set it in redis.conf again"),
        );
    }
    if !order.dry_run {
        let (verdict, detail) = match &settings.rdb_file {
            // What it holds may be wrong, and the restored file is all that is right then.
            Some(_) => (Verdict::CouldNotVerify, SAVES_OVER_IT.to_owned()),
            None => match wait(&instance, options.wait.0, events) {
                Ok(()) => compare(&instance, &settings, &new, &found, request, events),
                Err(why) => (Verdict::CouldNotVerify, why),
            },
        };
        events.validation(COMPARISON, verdict, detail);
    }
    Ok(())
}

/// Puts the file `new`, of this digest, in the place of `goal`, and what is in its way aside.
fn place(
    new: &Path,
    sha256: &str,
    goal: &Path,
    logs: &[PathBuf],
    run: &str,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let broken = |error: std::io::Error| {
        Failure::new(codes::PATH_UNWRITABLE, format!("{} cannot be written: {error}", goal.display()))
            .hint("give the daemon's user write permission on the directory, and room")
    };
    let bytes = std::fs::metadata(new).map_or(0, |metadata| metadata.len());
    let placing = Placing::prepare(new, goal, run, |done| events.progress(done, bytes)).map_err(broken)?;
    placing.keep_old(&aside(goal, run)).map_err(broken)?;
    placing.finish().map_err(broken)?;
    // Last: until then an instance that is started reads the old data from them, whole.
    for log in logs {
        std::fs::rename(log, aside(log, run)).map_err(broken)?;
    }
    let there = digest::sha256(goal, |_| {})?;
    let verdict = if there == sha256 { Verdict::Proven } else { Verdict::Failed };
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
    fn read(
        instance: &Instance<'_>,
        settings: &RedisSettings,
        request: &Request,
        facts: &CaptureFacts,
        events: &mut EventWriter<'_>,
    ) -> Result<Self, Failure> {
        let Some(artifact) = facts.artifacts.iter().find(|artifact| artifact.format == FORMAT) else {
            return Err(Failure::new(codes::NOT_IN_BACKUP, "the backup holds no RDB file"));
        };
        let file = request.staging.join(&artifact.path);
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
}

/// Looks, and changes nothing: the same in a dry run.
fn compare_only(
    settings: &RedisSettings,
    request: &Request,
    facts: &CaptureFacts,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let instance = Instance::find(settings, &request.staging)?;
    let backup = Backup::read(&instance, settings, request, facts, events)?;
    events.version(instance.info()?.version);
    let (verdict, detail) = compare(&instance, settings, &backup.file, &backup.found, request, events);
    events.validation(COMPARISON, verdict, detail);
    Ok(())
}

/// Until somebody has started the instance and it has read its file; or why there is nothing to compare.
fn wait(instance: &Instance<'_>, patience: Duration, events: &mut EventWriter<'_>) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match instance.info() {
            Ok(info) if !info.is_loading() => return Ok(()),
            Ok(_) => {}
            Err(failure) if matches!(failure.trouble.known_code(), Some(codes::UNREACHABLE | codes::SERVER_BUSY)) => {}
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
    settings: &RedisSettings,
    backup: &Path,
    found: &Found,
    request: &Request,
    events: &mut EventWriter<'_>,
) -> (Verdict, String) {
    let again = request.staging.join(".again.rdb");
    let taken = instance.snapshot(&again, events);
    let compared = match &taken {
        Ok(()) => compare::compare(settings.bin_dir.as_deref(), backup, &again, found.used_bytes),
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
        Err(failure) if failure.trouble.is(codes::UNREACHABLE) => Ok(None),
        // It answers, if only to refuse.
        Err(failure)
            if matches!(
                failure.trouble.known_code(),
                Some(codes::UNAUTHORIZED | codes::PERMISSION_DENIED | codes::SERVER_BUSY)
            ) =>
        {
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
