//! One running instance, and how a snapshot of it is had.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::RedisSettings;
use crate::error::{Code, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Ran, Tools};
use crate::process::{Exit, find_program};

/// LASTSAVE counts whole seconds: a save in the same one could not be told from the last.
const SECOND: Duration = Duration::from_millis(1_100);
/// How often a save in progress is asked for.
const POLL: Duration = Duration::from_millis(500);
/// How long a save may take.
const SAVE_MAX: Duration = Duration::from_hours(6);

pub(super) struct Instance<'a> {
    settings: &'a RedisSettings,
    pub(super) tools: Tools,
    cli: PathBuf,
}

/// What `INFO` told.
pub(super) struct Info {
    /// `Redis 7.0.15`.
    pub(super) version: String,
    /// In all databases.
    pub(super) keys: u64,
    /// By their names, such as `db0`; those without a key are not told.
    pub(super) databases: BTreeMap<String, Keys>,
    fields: BTreeMap<String, String>,
}

/// How many keys a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Keys {
    pub(in crate::plugin) all: u64,
    /// Those that no time takes away.
    pub(in crate::plugin) lasting: u64,
}

impl Keys {
    /// From a line of `INFO keyspace`: `db3` and `keys=2000,expires=0,avg_ttl=0`.
    pub(in crate::plugin) fn of(name: &str, value: &str) -> Option<Self> {
        name.strip_prefix("db").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let field = |wanted: &str| {
            let mut fields = value.trim_end().split(',').filter_map(|field| field.split_once('='));
            fields.find(|(name, _)| *name == wanted)?.1.parse::<u64>().ok()
        };
        let all = field("keys")?;
        Some(Self { all, lasting: all.saturating_sub(field("expires").unwrap_or(0)) })
    }
}

impl Info {
    /// How many libraries of functions there are; none: the server does not tell, as those before version 7.
    pub(super) fn libraries(&self) -> Option<u64> {
        self.fields.get("number_of_libraries")?.parse().ok()
    }

    /// Whether it still reads its file, and holds a part of it only.
    pub(super) fn is_loading(&self) -> bool {
        self.fields.get("loading").is_some_and(|value| value != "0")
    }
}

/// The first of these programs that is there.
pub(super) fn program(bin_dir: Option<&Path>, names: &[&str]) -> Result<PathBuf, Failure> {
    let at = |name: &&str| match bin_dir {
        Some(directory) => find_program(&directory.join(name)),
        None => find_program(Path::new(name)),
    };
    names.iter().find_map(|name| at(name).ok()).ok_or_else(|| match bin_dir {
        Some(directory) => {
            Failure::new(codes::NO_CLIENT, format!("{} does not hold {}", directory.display(), names.join(" or ")))
                .hint("correct `bin_dir`, or leave it out to have them found")
        }
        None => Failure::new(codes::NO_CLIENT, format!("{} is not installed on this machine", names.join(" or ")))
            .hint("apt install redis-tools"),
    })
}

impl<'a> Instance<'a> {
    pub(super) fn find(settings: &'a RedisSettings, staging: &Path) -> Result<Self, Failure> {
        let secrets = settings.secrets();
        // By the environment, which other users can't read.
        let env = secrets.iter().map(|secret| ("REDISCLI_AUTH".to_owned(), secret.clone())).collect();
        let tools = Tools::new(env, secrets, staging)?;
        let cli = program(settings.bin_dir.as_deref(), &["redis-cli", "valkey-cli"])?;
        Ok(Self { settings, tools, cli })
    }

    fn args(&self, more: &[&str]) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        match (&self.settings.socket, &self.settings.host) {
            (Some(socket), _) => args.extend(["-s".into(), socket.into()]),
            (None, host) => {
                let host = host.clone().unwrap_or_default();
                args.extend(["-h".into(), host.into(), "-p".into(), self.settings.port.to_string().into()]);
            }
        }
        if let Some(user) = &self.settings.user {
            args.extend(["--user".into(), user.into()]);
        }
        if self.settings.tls {
            args.push("--tls".into());
        }
        if let Some(ca) = &self.settings.tls_ca {
            args.extend(["--cacert".into(), ca.into()]);
        }
        args.extend(more.iter().map(OsString::from));
        args
    }

    /// Runs a command; answers its lines. What it answers with an error is one here too.
    fn ask(&self, command: &[&str]) -> Result<Vec<String>, Failure> {
        let mut lines: Vec<String> = Vec::new();
        let hear = |line: &str| lines.push(line.trim_end().to_owned());
        let mut ran = self.tools.run(&self.cli, self.args(command), &[], DEADLINE_OF_QUESTION, hear, || {});
        let refusal = ["NOAUTH", "NOPERM", "WRONGPASS", "ERR ", "LOADING", "BUSY ", "MISCONF", "DENIED", "-"];
        let first = lines.first().map(String::as_str).unwrap_or_default();
        if ran.exit == Exit::Success && !refusal.iter().any(|sign| first.starts_with(sign)) {
            return Ok(lines);
        }
        ran.stderr.push('\n');
        ran.stderr.push_str(first);
        Err(explain(command.first().unwrap_or(&""), &self.settings.place(), &ran))
    }

    pub(super) fn info(&self) -> Result<Info, Failure> {
        // Not `INFO everything`, and one section a call: older servers know no more.
        let mut fields = BTreeMap::new();
        for section in ["server", "keyspace", "persistence", "memory"] {
            let lines = self.ask(&["INFO", section])?;
            fields.extend(
                lines
                    .iter()
                    .filter_map(|line| line.split_once(':'))
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        let version = match (fields.get("valkey_version"), fields.get("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => {
                return Err(Failure::new(codes::NOT_REDIS, format!("{} told no Redis version", self.settings.place()))
                    .hint("check `host` and `port`"));
            }
        };
        let databases: BTreeMap<String, Keys> =
            fields.iter().filter_map(|(name, value)| Some((name.clone(), Keys::of(name, value)?))).collect();
        let keys = databases.values().map(|each| each.all).sum();
        Ok(Info { version, keys, databases, fields })
    }

    /// Has a snapshot in `file`, in the way that the settings name.
    pub(super) fn snapshot(&self, file: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        match &self.settings.rdb_file {
            Some(path) => self.bgsave(path, file, events),
            None => self.pull(file, events),
        }
    }

    /// Has the instance send its snapshot as to a replica.
    fn pull(&self, file: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let mut args = self.args(&["--rdb"]);
        args.push(file.into());
        let mut told = u64::MAX;
        let ran = self.tools.run(
            &self.cli,
            args,
            &[],
            DEADLINE_OF_WORK,
            |_| {},
            || {
                let written = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
                if written != told {
                    told = written;
                    events.progress(written, 0);
                }
            },
        );
        if ran.exit == Exit::Success {
            return Ok(());
        }
        // What is there is a piece; nobody shall take it for a snapshot.
        let _ = std::fs::remove_file(file);
        Err(explain("redis-cli --rdb", &self.settings.place(), &ran))
    }

    /// Has the instance write its file, waits for it, and copies it.
    fn bgsave(&self, path: &Path, file: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let started = Instant::now();
        self.wait(started, events)?;
        std::thread::sleep(SECOND);
        let saved = self.lastsave()?;
        self.ask(&["BGSAVE"])?;
        let info = self.wait(started, events)?;
        if info.fields.get("rdb_last_bgsave_status").is_some_and(|status| status != "ok") || self.lastsave()? == saved {
            return Err(Failure::new(
                codes::SAVE_FAILED,
                format!("{} could not write its RDB file", self.settings.place()),
            )
            .hint(
                "look at the server's log: a full disk, no permission, or no memory to fork (vm.overcommit_memory)",
            ));
        }
        let refuse = |error: std::io::Error| {
            Failure::new(codes::PATH_UNREADABLE, format!("{} cannot be copied: {error}", path.display()))
                .hint("correct `rdb_file`, and give the daemon's user read permission")
        };
        let age = std::fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(refuse)?;
        if age.elapsed().is_ok_and(|age| age > started.elapsed() + Duration::from_secs(2)) {
            return Err(Failure::new(codes::STALE_FILE, format!("{} was not written by this save", path.display()))
                .hint("`rdb_file` is not the file of this instance: see CONFIG GET dir and dbfilename"));
        }
        std::fs::copy(path, file).map_err(|error| {
            let _ = std::fs::remove_file(file);
            if error.kind() == std::io::ErrorKind::StorageFull {
                return Failure::new(codes::DISK_FULL, format!("no room for a copy of {}", path.display()))
                    .hint("make room where the artifacts lie; nothing half-written is kept");
            }
            refuse(error)
        })?;
        Ok(())
    }

    fn lastsave(&self) -> Result<String, Failure> {
        Ok(self.ask(&["LASTSAVE"])?.first().cloned().unwrap_or_default())
    }

    /// Waits until no save is in progress.
    fn wait(&self, started: Instant, events: &mut EventWriter<'_>) -> Result<Info, Failure> {
        loop {
            let info = self.info()?;
            if info.fields.get("rdb_bgsave_in_progress").is_none_or(|value| value == "0") {
                return Ok(info);
            }
            if started.elapsed() > SAVE_MAX {
                return Err(Failure::new(
                    codes::SAVE_FAILED,
                    format!("{} does not end its save", self.settings.place()),
                )
                .later());
            }
            events.progress(started.elapsed().as_secs(), 0);
            std::thread::sleep(POLL);
        }
    }
}

/// From what redis-cli writes to a code, a sentence and the next step.
fn explain(what: &str, place: &str, ran: &Ran) -> Failure {
    let about = format!("{what} at {place}");
    let text = ran.stderr.to_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    let line = ran.stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let told = crate::plugin::kit::tidy::tidy(line, 300);
    let failure = |code: Code, hint: &str| Failure::new(code, format!("{about}: {told}")).hint(hint);
    match &ran.exit {
        Exit::NotStarted { program, detail, .. } => {
            return Failure::new(codes::NO_CLIENT, format!("{} cannot be started: {detail}", program.display()))
                .hint("apt install redis-tools");
        }
        Exit::DeadlineExceeded(_) => {
            return Failure::new(codes::UNREACHABLE, format!("{about} got no answer"))
                .hint("check `host`, `port` and the network");
        }
        Exit::Signal(signal) => {
            return Failure::new(codes::DUMP_KILLED, format!("{about} was killed by signal {signal}"));
        }
        _ => {}
    }
    match () {
        () if has(&["no space left", "disk full"]) => {
            failure(codes::DISK_FULL, "make room where the artifacts lie; nothing half-written is kept")
        }
        () if has(&["noperm"]) => failure(codes::PERMISSION_DENIED, "see the ACL in `larder plugin describe redis`"),
        () if has(&[
            "noauth",
            "wrongpass",
            "auth failed",
            "invalid password",
            "denied redis is running in protected",
        ]) =>
        {
            failure(codes::UNAUTHORIZED, "check `user` and the secret that `password` names")
        }
        () if has(&["loading", "busy ", "max number of clients", "masterdown"]) => {
            failure(codes::SERVER_BUSY, "the server takes no command at the moment; it is tried again")
        }
        () if has(&["ssl", "tls", "certificate"]) => failure(codes::TLS, "check `tls` and `tls_ca`"),
        () if has(&["connection refused", "could not connect", "name or service", "no route", "timed out"]) => {
            failure(codes::UNREACHABLE, "check that Redis runs there, `host` and `port` or `socket`")
        }
        // Seen with Valkey 9 where fields of hashes have times to live; a connection that breaks looks the same.
        () if has(&["error reading bulk length"]) => failure(
            codes::CONNECTION_LOST,
            "look at the server's log; if it says nothing, redis-cli does not understand what the server sends to replicas: \
             say `method: bgsave` and name in `rdb_file` the file that the server writes",
        ),
        () if has(&["connection reset", "closed the connection", "i/o error", "error reading"]) => failure(
            codes::CONNECTION_LOST,
            "the server or the network ended the connection half-way; look at the server's log",
        ),
        () => failure(codes::REDIS_FAILED, "the run's log has all that it wrote"),
    }
}
