//! The restic engine: every operation on a repository is a child process that speaks JSON lines.
//!
//! The password goes in through the child's standard input (`RESTIC_PASSWORD_FILE=/dev/stdin`), so no file holds it and
//! no crash leaves one behind. A repository's identity is pinned: where an id is expected, every operation checks it
//! first, and nothing is ever made in its place. Deliberately absent: restic's own scheduling of anything.

mod answer;
mod backup;
mod call;
mod children;
mod complaints;
mod control;
mod copy;
mod error;
mod find;
mod hanging;
mod hearing;
mod kept;
mod keys;
mod locks;
mod machine_key;
mod making;
mod messages;
mod pinned;
mod priority;
mod proof;
mod reach;
mod repository;
mod restore;
mod retries;
mod rights;
mod snapshots;
mod statistics;
mod stillborn;
mod tags;
mod upkeep;
mod wanted;
mod weigh;
mod writable;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::config::model::{Cache, Limits};
use crate::process::{self, Command, Context, Exit, LogStdout, Stdin};
use crate::storage::Place;
use crate::types::Name;

pub use backup::{BackupReport, BackupRequest};
pub use call::IDS_MAX;
pub use control::{answers, clean, probe};
pub use copy::CopyProgress;
pub use error::EngineError;
pub use find::FoundFile;
pub use keys::{Key, KeyUse};
pub use locks::{Lock, Unlocked, has_locks};
pub use machine_key::has_machine_key;
pub use messages::{Entry, LockInfo, Progress, Snapshot};
pub use proof::prove;
pub use restore::RestoreReport;
pub use rights::Unkept;
pub use snapshots::{FileList, absent};
pub use statistics::{Needed, WouldFree};
pub use tags::{job_tags, machine, run_tags};
pub use upkeep::{CheckReport, PruneReport};
pub use wanted::check_wanted;
pub use writable::{fits, writable};

use answer::Answer;
use call::{Call, Figures};
use children::Children;
use complaints::{Complaints, classify};
use copy::Second;
use hearing::Hearing;
use machine_key::{MachineKey, Opened};
use reach::Reach;
use retries::{Retries, Vain};

/// The oldest restic that is used: exit codes 10 to 12 and `--retry-lock` mean what we think.
const VERSION_MIN: (u32, u32, u32) = (0, 17, 0);
/// From here on `check` speaks JSON.
const CHECK_JSON_MIN: (u32, u32, u32) = (0, 18, 0);
/// Longest answer that is collected: some hundred thousand snapshots.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest wait for `restic version`.
const PROBE_MAX: Duration = Duration::from_secs(20);
/// For one operation, unless [`Restic::with_deadline`] says otherwise.
const DEADLINE: Duration = Duration::from_hours(12);
/// A backup or restore whose figures stand still for so long is ended, unless [`Restic::with_stall`] says otherwise.
const STALL: Duration = Duration::from_mins(30);
/// How long somebody else's lock is waited for, unless [`Restic::with_lock_wait`] says otherwise.
const LOCK_WAIT: Duration = Duration::from_mins(1);
/// Between TERM and KILL: restic removes its lock and temporary files.
const GRACE: Duration = Duration::from_secs(20);
/// Progress reports a second.
const PROGRESS_FPS: &str = "1";

/// A restic program that is known to be new enough. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Restic {
    program: PathBuf,
    version: (u32, u32, u32),
    nice: Option<PathBuf>,
    deadline: Duration,
    stall: Duration,
    lock_wait: Duration,
    opened: Opened,
    /// Never with the machine key.
    by_password: bool,
}

/// How to reach one repository.
#[derive(Clone, Debug)]
pub struct RepositoryAccess {
    pub destination: Name,
    /// As restic's `-r` takes it; an absolute path for a local one. Holds no secret.
    pub location: String,
    /// The same for us, with what opens the storage.
    pub place: Place,
    pub password: SecretString,
    /// The pinned id; none only until the repository was opened for the first time.
    pub expected_id: Option<String>,
    pub limits: Limits,
    /// Whether this machine may have a key of its own in it.
    pub machine_key: bool,
    /// Where restic keeps what it has read.
    pub restic_cache: Cache,
    /// A private directory that lasts: restic's own cache, remembered identities, machine keys, our children.
    pub cache: PathBuf,
}

impl Restic {
    /// Finds restic (on the `PATH` when `program` is none) and asks for its version.
    ///
    /// # Errors
    /// It is not there, is no restic, or is older than 0.17.0.
    pub async fn probe(program: Option<&Path>) -> Result<Self, EngineError> {
        let asked = program.unwrap_or(Path::new("restic"));
        let shown = asked.display().to_string();
        let program = process::find_program(asked)
            .map_err(|error| EngineError::ProgramMissing { program: shown.clone(), detail: error.to_string() })?;
        let limits = process::Limits { deadline: PROBE_MAX, ..process::Limits::default() };
        let command = Command {
            program: program.clone(),
            args: vec!["version".into()],
            env: Vec::new(),
            current_dir: None,
            stdin: Stdin::Null,
            limits,
            log_stdout: LogStdout::No,
        };
        let context = Context {
            cancel: tokio_util::sync::CancellationToken::new(),
            log: process::Log::discard(),
            redact: process::Redactor::default(),
            mark: "probe:probe".to_owned(),
        };
        let mut first = None;
        let finished = process::run(command, &context, |line| {
            first.get_or_insert_with(|| line.chars().take(200).collect::<String>());
        })
        .await;
        if let Exit::NotStarted { detail, .. } = finished.exit {
            return Err(EngineError::ProgramMissing { program: shown, detail });
        }
        let line = first.unwrap_or_default();
        let Some(version) = messages::version(&line).filter(|_| finished.exit == Exit::Success) else {
            let detail = if line.is_empty() { finished.stderr_tail } else { line };
            return Err(EngineError::NotRestic { program: shown, detail });
        };
        if version < VERSION_MIN {
            return Err(EngineError::TooOld { program: shown, found: show_version(version) });
        }
        let nice = process::find_program(Path::new("nice")).ok();
        Ok(Self {
            program,
            version,
            nice,
            deadline: DEADLINE,
            stall: STALL,
            lock_wait: LOCK_WAIT,
            opened: Opened::default(),
            by_password: false,
        })
    }

    /// As `0.19.1`.
    #[must_use]
    pub fn version(&self) -> String {
        show_version(self.version)
    }

    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same with another bound for each operation: what is left of the run's time.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same with another bound for figures that stand still.
    #[must_use]
    pub fn with_stall(&self, stall: Duration) -> Self {
        Self { stall, ..self.clone() }
    }

    /// The same, going by the password alone: what shows that it opens the repository.
    #[must_use]
    pub fn by_password(&self) -> Self {
        Self { by_password: true, ..self.clone() }
    }

    /// The same with another wait for somebody else's lock.
    #[must_use]
    pub fn with_lock_wait(&self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self.clone() }
    }

    /// Runs an operation that takes a lock. When one is in the way, dead ones of ours are removed first, and only then
    /// the rest is waited for.
    async fn call_locking(
        &self,
        access: &RepositoryAccess,
        context: &Context,
        call: Call,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Answer, EngineError> {
        let began = Instant::now();
        let answer = self.call(access, context, &call, on_line).await?;
        let failure = classify(call.operation, &access.location, &answer.exit, &answer.complaints);
        if answer.exit == Exit::Success || !matches!(failure, EngineError::Locked { .. }) {
            return Ok(answer);
        }
        context.log.line(&format!("{failure}; looking whether it is a dead one of ours"));
        let mut unlocked = self.unlock_own_dead(access, context).await?;
        if let Some(from) = &call.from {
            let of_from = self.unlock_own_dead(from, context).await?;
            unlocked.removed.extend(of_from.removed);
            unlocked.left.extend(of_from.left);
        }
        for lock in &unlocked.removed {
            context.log.line(&format!("removed the lock of our dead process {}", lock.info.pid));
        }
        for lock in &unlocked.left {
            context.log.line(&format!("in the way: {}", lock.show(Timestamp::now())));
        }
        let mut call = call;
        // What nobody refreshes any more does not go while one waits.
        let waits = unlocked.left.is_empty() || !unlocked.left.iter().all(|lock| lock.is_stale(Timestamp::now()));
        let wait = if waits { self.lock_wait.as_secs().max(1) } else { 1 };
        call.args.push("--retry-lock".into());
        call.args.push(format!("{wait}s").into());
        let left = self.deadline.saturating_sub(began.elapsed());
        let mut answer = self.with_deadline(left).call(access, context, &call, on_line).await?;
        answer.locks = unlocked.left;
        Ok(answer)
    }

    /// Like [`Self::call_locking`], for an operation that only reads: a repository where no lock can be made can't be
    /// changed by anybody on this machine either, so it is read without one.
    async fn call_reading(
        &self,
        access: &RepositoryAccess,
        context: &Context,
        call: Call,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Answer, EngineError> {
        let unlocked = call.clone().without_lock();
        let answer = self.call_locking(access, context, call, on_line).await?;
        match answer.error("read", access) {
            EngineError::NotWritable { detail, .. } if answer.exit != Exit::Success && is_about_a_lock(&detail) => {
                context.log.line("the repository is read-only; reading it without a lock");
                self.call(access, context, &unlocked, on_line).await
            }
            // A restore is wanted when things are bad already, and reading harms nobody.
            EngineError::Locked { .. } if unlocked.operation == "restore" && answer.is_locked_by_the_dead() => {
                context.log.line("only locks that nobody refreshes any more are in the way; reading without one");
                self.call(access, context, &unlocked, on_line).await
            }
            _ => Ok(answer),
        }
    }

    /// Runs restic once; a second time by the password, where the machine key does not open the repository.
    async fn call(
        &self,
        access: &RepositoryAccess,
        context: &Context,
        call: &Call,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Answer, EngineError> {
        if let Some(key) = self.machine_key(access, call) {
            let answer = self.call_with(access, Some(&key), context, call, on_line).await?;
            let error = classify(call.operation, &access.location, &answer.exit, &answer.complaints);
            if answer.exit == Exit::Success || !matches!(error, EngineError::WrongPassword { .. }) {
                return Ok(answer);
            }
            context.log.line("the machine key does not open the repository (any more); opening it by its password");
            // Of two repositories nobody says which one it is; the next call of each alone does.
            if call.from.is_none() {
                machine_key::forget(access);
            }
        }
        let answer = self.call_with(access, None, context, call, on_line).await?;
        if answer.exit == Exit::Success {
            self.opened.note(access);
        }
        Ok(answer)
    }

    /// Runs restic once, with `key` or the password.
    async fn call_with(
        &self,
        access: &RepositoryAccess,
        key: Option<&MachineKey>,
        context: &Context,
        call: &Call,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Answer, EngineError> {
        let password = key.map_or(&access.password, |key| &key.secret);
        let from = call.from.as_deref().map(|from| Second::of(from, key.and_then(|_| self.machine_key(from, call))));
        let children = Children::open(&access.cache)?;
        let stop = context.cancel.child_token();
        let context = Context {
            cancel: stop.clone(),
            log: context.log.clone(),
            redact: context.redact.with(
                [access.secrets(), vec![password.clone()], from.as_ref().map_or_else(Vec::new, Second::secrets)]
                    .concat(),
            ),
            mark: context.mark.clone(),
        };
        let mut hearing = Hearing {
            on_line,
            complaints: Complaints { apart: call.apart.clone(), ..Complaints::default() },
            children: &children,
            child: None,
            figures: None,
            figures_since: Instant::now(),
            stall: self.stall,
            stuck: false,
            retries: Retries::default(),
            vain: None,
            stop,
        };
        let reached = access.clone();
        let reach = tokio::task::spawn_blocking(move || match from {
            Some(from) => from.reach(&reached),
            None => Reach::of(&reached),
        });
        let reach = reach.await.map_err(|_| EngineError::Cancelled)??;
        let before = priority::before(access, self.nice.as_ref())?;
        let command = self.command(access, key, call, &reach, before);
        context.log.line(&format!("restic {}", call.operation));
        let watched = [Some(access), call.from.as_deref()];
        let (finished, silent) = hanging::run(watched, command, &context, &mut hearing).await;
        if let (Some(child), Exit::Success | Exit::Code(0 | 1 | 3..)) = (&hearing.child, &finished.exit) {
            // It ended by itself, and not in a panic (2), so it took its locks away.
            children.forget(child);
        }
        let Hearing { mut complaints, stuck, mut vain, retries, .. } = hearing;
        if let Some(silent) = silent {
            return Err(EngineError::Silent { silent });
        }
        if stuck || matches!(finished.exit, Exit::DeadlineExceeded(_) | Exit::NoProgress(_)) {
            let tried = retries.under_way(Instant::now());
            vain = vain.or_else(|| tried.map(|text| Vain::TooLong(text.to_owned())));
        }
        let exit = match (stuck, vain) {
            (true, None) => Exit::NoProgress(self.stall),
            (_, Some(vain)) => {
                complaints.in_vain = matches!(vain, Vain::TooLong(_));
                let (Vain::Lasting(text) | Vain::TooLong(text)) = vain;
                complaints.exit = Some((1, text));
                Exit::Code(1)
            }
            (false, None) => finished.exit,
        };
        complaints.redact(&context.redact);
        Ok(Answer { exit, complaints, locks: Vec::new(), wall: finished.wall })
    }

    /// Runs an operation without a lock and collects its standard output.
    async fn collect(
        &self,
        access: &RepositoryAccess,
        context: &Context,
        call: &Call,
    ) -> Result<(Answer, String), EngineError> {
        let mut output = String::new();
        let answer = self.call(access, context, call, &mut |line| keep(&mut output, line)).await?;
        Ok((answer, output))
    }

    /// `before` stands before restic.
    fn command(
        &self,
        access: &RepositoryAccess,
        key: Option<&MachineKey>,
        call: &Call,
        reach: &Reach,
        before: Vec<OsString>,
    ) -> Command {
        let mut words = before.into_iter().chain([self.program.clone().into_os_string()]);
        let program = words.next().map_or_else(|| self.program.clone(), PathBuf::from);
        let mut args: Vec<OsString> = words.collect();
        match &access.restic_cache {
            Cache::Own => args.extend(["--cache-dir".into(), access.cache.join("restic").into_os_string()]),
            Cache::At(path) => args.extend(["--cache-dir".into(), path.into()]),
            Cache::Off => args.push("--no-cache".into()),
        }
        for (name, limit) in [("--limit-upload", access.limits.upload), ("--limit-download", access.limits.download)] {
            if let Some(limit) = limit {
                // restic counts in KiB a second; 0 would mean no limit.
                args.extend([name.into(), (limit.0 / 1024).max(1).to_string().into()]);
            }
        }
        if let Some(mib) = access.limits.pack_mib {
            args.extend(["--pack-size".into(), mib.to_string().into()]);
        }
        args.extend(reach.args.iter().cloned());
        args.push(call.operation.into());
        args.extend(call.args.iter().cloned());
        let plain = |text: &str| SecretString::from(text.to_owned());
        let mut env = vec![
            ("RESTIC_REPOSITORY".to_owned(), reach.location.clone().unwrap_or_else(|| plain(&access.location))),
            ("RESTIC_PASSWORD_FILE".to_owned(), plain("/dev/stdin")),
            ("RESTIC_PROGRESS_FPS".to_owned(), plain(PROGRESS_FPS)),
            // `--time` is civil time of the child's zone.
            ("TZ".to_owned(), plain("UTC")),
        ];
        env.extend(reach.env.iter().cloned());
        // It is tried first; else restic tries them in any order.
        env.extend(key.map(|key| ("RESTIC_KEY_HINT".to_owned(), plain(&key.id))));
        if call.small {
            env.push(("GOMAXPROCS".to_owned(), plain("1")));
        }
        if std::env::var_os("HOME").is_none() {
            env.push(("HOME".to_owned(), plain("/")));
        }
        let no_progress = (call.figures == Figures::Yes).then_some(self.stall);
        Command {
            program,
            args,
            env,
            current_dir: Some(PathBuf::from("/")),
            stdin: Stdin::Bytes(key.map_or(&access.password, |key| &key.secret).clone()),
            limits: process::Limits {
                deadline: self.deadline,
                no_progress,
                grace: GRACE,
                line_bytes_max: ANSWER_BYTES_MAX,
                ..process::Limits::default()
            },
            log_stdout: LogStdout::No,
        }
    }
}

/// Whether it is a lock that could not be made: as restic says it while it tries again, and when it gives up.
fn is_about_a_lock(detail: &str) -> bool {
    detail.contains("<lock/") || detail.contains("create lock in backend")
}

/// Collects a line of an answer that is read whole.
fn keep(output: &mut String, line: &str) {
    if output.len() < ANSWER_BYTES_MAX {
        output.push_str(line);
        output.push('\n');
    }
}

fn show_version((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> RepositoryAccess {
        RepositoryAccess {
            destination: Name::parse("nas").unwrap(),
            location: "/mnt/nas/restic".to_owned(),
            place: Place::Local("/mnt/nas/restic".into()),
            password: SecretString::from("hunter2hunter2".to_owned()),
            expected_id: None,
            limits: Limits { upload: Some(crate::types::ByteSize(512)), ..Limits::default() },
            machine_key: true,
            restic_cache: Cache::Own,
            cache: PathBuf::from("/var/cache/larder"),
        }
    }

    #[test]
    fn the_password_is_neither_in_the_arguments_nor_in_the_environment() {
        let restic = Restic {
            program: "/usr/bin/restic".into(),
            version: (0, 18, 0),
            nice: Some("/usr/bin/nice".into()),
            deadline: DEADLINE,
            stall: STALL,
            lock_wait: LOCK_WAIT,
            opened: Opened::default(),
            by_password: false,
        };
        let command = restic.command(&access(), None, &Call::new("snapshots", &["--json"]), &Reach::default(), vec![]);
        let shown = format!("{:?}", command.args);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\"--limit-upload\", \"1\""), "a small limit must not become no limit: {shown}");
        assert!(!format!("{command:?}").contains("hunter2") && !format!("{:?}", access()).contains("hunter2"));
        for (name, value) in &command.env {
            assert!(!secrecy::ExposeSecret::expose_secret(value).contains("hunter2"), "{name}");
        }
    }
}
