//! The plugin `redis`: the snapshot of an instance (RDB) over the network, or by BGSAVE where the file can be read.
//!
//! `redis-cli --rdb` asks as a replica does, so the file is of one instant and nothing is written on the server. Every
//! file is read to its end by `redis-check-rdb`, which knows its checksum and counts its keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::Trouble;
use crate::plugin::builtin::{self, Builtin, Failure, Restore, Voice};
use crate::plugin::databases::remark::{self, Remark};
use crate::plugin::protocol::{CaptureFacts, Request};
use crate::plugin::settings::{Secret, exactly_one_of};
use crate::plugin::{Verdict, digest};

mod check;
pub(in crate::plugin) mod checksum;
pub(in crate::plugin) mod compare;
pub(in crate::plugin) mod instance;
mod restore;

use check::Checked;
use instance::{Info, Instance};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "redis",
    summary: "Redis and Valkey, all databases of an instance as one RDB file",
    guide: GUIDE,
    schema: || schemars::schema_for!(RedisSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore { options: || schemars::schema_for!(restore::RedisRestore).to_value(), run: restore::run }),
    recover: None,
};

const GUIDE: &str = "
In the backup: dump.rdb with every database of the instance (keys, values, times to live, functions) as of one instant.

Not in it: redis.conf and the ACL file (use `files`), what was written after that instant, the AOF, other nodes of a
cluster (a target for each).

Least privilege: ACL SETUSER backup on >… resetkeys resetchannels -@all +ping +info +sync +psync +replconf
With `method: bgsave` instead: … -@all +ping +info +bgsave +lastsave, and read permission on `rdb_file`.

It needs redis-cli and redis-check-rdb (Debian: redis-tools), not older than the server's RDB format. The password
reaches redis-cli by its environment.

Restore: a running instance writes its own data over the file when it stops, so it must be stopped first, and Larder
does not stop it. Then `larder restore TARGET --into TARGET --option dir=/var/lib/redis` puts the file in place at once
and keeps the old one beside it as dump.rdb.before-<run>. Where there is an AOF, Redis reads that and not the RDB file:
`set_aside_aof: true` renames it; start Redis with `appendonly no`, look at the data, then CONFIG SET appendonly yes
and set it in redis.conf again.

Start the instance while Larder waits (`wait`), before anything writes to it: Larder takes a snapshot as for a backup and
compares every value and time to live with the backup. It does that in a redis-server of its own (Debian: redis-server)
with room in memory for the data twice. Nothing is written on your instance. `--option compare_only=true` does only this,
at any later time; with `method: bgsave` it is the only way, since the instance saves its file for it.";

const FORMAT: &str = "redis-rdb";
/// The artifact.
const FILE: &str = "dump.rdb";

/// Which instance.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["host", "socket"]))]
struct RedisSettings {
    /// Name or address of the server. Exactly one of `host` and `socket` is given.
    #[serde(default)]
    host: Option<String>,
    /// Port of the server.
    #[serde(default = "port_default")]
    port: u16,
    /// The server's Unix socket, such as `/run/redis/redis-server.sock`.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    socket: Option<PathBuf>,
    /// The ACL user; by default the one named `default`.
    #[serde(default)]
    user: Option<String>,
    /// Its password, or that of `requirepass`.
    #[serde(default)]
    password: Option<Secret>,
    /// Encrypt the connection.
    #[serde(default)]
    tls: bool,
    /// A file with the certificates that are trusted; by default those of the system.
    #[serde(default)]
    tls_ca: Option<PathBuf>,
    /// How the snapshot is had.
    #[serde(default)]
    method: Method,
    /// With `method: bgsave`: where the server writes its RDB file (`dir` and `dbfilename`), as seen from here.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    rdb_file: Option<PathBuf>,
    /// Whether there may be no key.
    #[serde(default)]
    allow_empty: bool,
    /// Where redis-cli and redis-check-rdb lie, when the right ones are not found by themselves.
    #[serde(default)]
    bin_dir: Option<PathBuf>,
}

/// How the snapshot is had.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// Over the connection, as a replica.
    #[default]
    Rdb,
    /// The server writes its file (BGSAVE), which is copied: for servers that allow no SYNC.
    Bgsave,
}

fn port_default() -> u16 {
    6379
}

impl RedisSettings {
    fn check(&self) -> Result<(), Failure> {
        let refuse = |what: &str, hint: &str| Err(Failure::new("settings", what).hint(hint));
        match (&self.host, &self.socket) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => {
                return refuse(
                    "the server is not named in one way",
                    "give exactly one of `host: NAME` and `socket: /PATH`",
                );
            }
        }
        match (self.method, &self.rdb_file) {
            (Method::Bgsave, None) => {
                refuse("`method: bgsave` needs `rdb_file`", "name the file that the server writes")
            }
            (Method::Rdb, Some(_)) => refuse("`rdb_file` is for `method: bgsave`", "leave one of the two out"),
            _ => Ok(()),
        }
    }

    /// The server in words.
    fn place(&self) -> String {
        match (&self.host, &self.socket) {
            (Some(host), _) => format!("{host}:{}", self.port),
            (None, Some(socket)) => socket.display().to_string(),
            (None, None) => String::new(),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.password.iter().map(|password| password.0.clone()).collect()
    }
}

fn capture(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: RedisSettings = builtin::settings(request)?;
    settings.check()?;
    let instance = Instance::find(&settings, &request.staging)?;
    let before = instance.info()?;
    voice.version(before.version.clone());
    let file = request.staging.join(FILE);
    instance.snapshot(&file, voice)?;
    let after = instance.info()?;
    let checked = check::read(&instance.tools, settings.bin_dir.as_deref(), &file)?;
    match &checked {
        Checked::Sound(found) => {
            if found.keys == 0 && !settings.allow_empty {
                let _ = std::fs::remove_file(&file);
                return Err(Failure::new("database_empty", format!("{} holds no key", settings.place()))
                    .hint("check `host` and `port`, or say `allow_empty: true` if that is right"));
            }
            voice.figure("keys", found.keys);
            voice.figure("expires", found.expires);
        }
        Checked::Damaged(why) => {
            let _ = std::fs::remove_file(&file);
            return Err(Failure::new("dump_cut", format!("the RDB file of {} is not whole: {why}", settings.place()))
                .hint("the connection or the server ended half-way; look at the server's log"));
        }
        Checked::Unknown(why) => voice.warning(
            Trouble::new("not_checked", format!("the RDB file cannot be read here: {why}"))
                .with_hint("install redis-tools of the server's version, or a newer one"),
        ),
    }
    for (name, keys) in &after.databases {
        voice.figure(format!("keys.{name}"), keys.lasting);
    }
    if let Some(libraries) = after.libraries() {
        voice.figure("function_libraries", libraries);
    }
    remark::tell(lost(request.previous.as_ref(), [&before, &after], settings.allow_empty), voice);
    voice.figure("keys_before", before.keys);
    voice.figure("keys_after", after.keys);
    voice.artifact(FILE, FORMAT, digest::sha256(&file, |_| {})?);
    Ok(())
}

/// Databases and functions of the last capture that are no more, neither before nor after this one.
fn lost(previous: Option<&CaptureFacts>, now: [&Info; 2], may_be_empty: bool) -> Vec<Remark> {
    let remark = |name: String| Remark {
        code: "database_emptied",
        sentence: "nothing is left of what the last backup has",
        name,
        hint: "look whether it was emptied on purpose; then say `allow_empty: true`".to_owned(),
        is_missing: !may_be_empty,
    };
    let figures = previous.into_iter().flat_map(|facts| &facts.figures).filter(|(_, before)| **before > 0);
    let told = figures.filter_map(|(name, before)| {
        let database = name.strip_prefix("keys.");
        let is_there = match database {
            Some(database) => now.iter().any(|info| info.databases.contains_key(database)),
            None if name == "function_libraries" => now.iter().any(|info| info.libraries() != Some(0)),
            None => true,
        };
        (!is_there).then(|| match database {
            Some(database) => remark(format!("{database} (it had {before} keys)")),
            None => remark(format!("functions (there were {before} libraries)")),
        })
    });
    told.collect()
}

fn validate(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: RedisSettings = builtin::settings(request)?;
    let Some(facts) = &request.capture else {
        return Err(Failure::new("request", "`validate` needs what the capture told"));
    };
    // No connection: reading a file needs no server and no password.
    let tools = crate::plugin::tool::Tools::new(Vec::new(), Vec::new(), &request.staging)?;
    for artifact in &facts.artifacts {
        let file = request.staging.join(&artifact.path);
        let shown = artifact.path.display();
        digest::check(artifact, &file, voice)?;
        let name = format!("redis-check-rdb reads {shown} to its end");
        let found = match check::read(&tools, settings.bin_dir.as_deref(), &file)? {
            Checked::Damaged(why) => {
                voice.validation(name, Verdict::Failed, why);
                continue;
            }
            Checked::Unknown(why) => {
                voice.validation(name, Verdict::CouldNotVerify, why);
                continue;
            }
            Checked::Sound(found) => found,
        };
        voice.validation(name, Verdict::Proven, format!("{} keys, {}", found.keys, found.about));
        let (verdict, detail) = check::judge(&found, &facts.figures, settings.allow_empty);
        voice.validation(format!("{shown} has the keys of the instance"), verdict, detail);
    }
    Ok(())
}
