//! How an instance of Redis or Valkey is captured and judged: its snapshot (RDB), over the network or by BGSAVE where
//! the file can be read.
//!
//! `redis-cli --rdb` asks as a replica does, so the file is of one instant and nothing is written on the server. Every
//! file is read to its end by `redis-check-rdb`, which knows its checksum and counts its keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::remark::{self, Remark};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::plugin::protocol::{CaptureFacts, Request, Verdict};

pub(in crate::plugin) mod check;
pub(in crate::plugin) mod checksum;
pub(in crate::plugin) mod compare;
pub(in crate::plugin) mod instance;
pub(in crate::plugin) mod restore;

use check::Checked;
use instance::{Info, Instance};

const FORMAT: &str = "redis-rdb";
/// The artifact.
const FILE: &str = "dump.rdb";

/// Which instance.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["host", "socket"]))]
pub(in crate::plugin) struct RedisSettings {
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
        let refuse = |what: &str, hint: &str| Err(Failure::new(codes::SETTINGS, what).hint(hint));
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

pub(in crate::plugin) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: RedisSettings = builtin::settings(request)?;
    settings.check()?;
    let instance = Instance::find(&settings, &request.staging)?;
    let before = instance.info()?;
    events.version(before.version.clone());
    let file = request.staging.join(FILE);
    instance.snapshot(&file, events)?;
    let after = instance.info()?;
    let checked = check::read(&instance.tools, settings.bin_dir.as_deref(), &file)?;
    match &checked {
        Checked::Sound(found) => {
            if found.keys == 0 && !settings.allow_empty {
                let _ = std::fs::remove_file(&file);
                return Err(Failure::new(codes::DATABASE_EMPTY, format!("{} holds no key", settings.place()))
                    .hint("check `host` and `port`, or say `allow_empty: true` if that is right"));
            }
            events.figure("keys", found.keys);
            events.figure("expires", found.expires);
        }
        Checked::Damaged(why) => {
            let _ = std::fs::remove_file(&file);
            return Err(Failure::new(
                codes::DUMP_CUT,
                format!("the RDB file of {} is not whole: {why}", settings.place()),
            )
            .hint("the connection or the server ended half-way; look at the server's log"));
        }
        Checked::Unknown(why) => events.warning(
            Trouble::new(codes::NOT_CHECKED, format!("the RDB file cannot be read here: {why}"))
                .with_hint("install redis-tools of the server's version, or a newer one"),
        ),
    }
    for (name, keys) in &after.databases {
        events.figure(format!("keys.{name}"), keys.lasting);
    }
    if let Some(libraries) = after.libraries() {
        events.figure("function_libraries", libraries);
    }
    remark::tell(lost(request.previous.as_ref(), [&before, &after], settings.allow_empty), events);
    events.figure("keys_before", before.keys);
    events.figure("keys_after", after.keys);
    events.artifact(FILE, FORMAT, digest::sha256(&file, |_| {})?);
    Ok(())
}

/// Databases and functions of the last capture that are no more, neither before nor after this one.
fn lost(previous: Option<&CaptureFacts>, now: [&Info; 2], may_be_empty: bool) -> Vec<Remark> {
    let remark = |name: String| Remark {
        code: codes::DATABASE_EMPTIED,
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

pub(in crate::plugin) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<RedisSettings> { settings, facts } = ValidateJob::of(request)?;
    // No connection: reading a file needs no server and no password.
    let tools = crate::plugin::kit::tool::Tools::new(Vec::new(), Vec::new(), &request.staging)?;
    for artifact in &facts.artifacts {
        let file = request.staging.join(&artifact.path);
        let shown = artifact.path.display();
        digest::check(artifact, &file, events)?;
        let name = format!("redis-check-rdb reads {shown} to its end");
        let found = match check::read(&tools, settings.bin_dir.as_deref(), &file)? {
            Checked::Damaged(why) => {
                events.validation(name, Verdict::Failed, why);
                continue;
            }
            Checked::Unknown(why) => {
                events.validation(name, Verdict::CouldNotVerify, why);
                continue;
            }
            Checked::Sound(found) => found,
        };
        events.validation(name, Verdict::Proven, format!("{} keys, {}", found.keys, found.about));
        let (verdict, detail) = check::judge(&found, &facts.figures, settings.allow_empty);
        events.validation(format!("{shown} has the keys of the instance"), verdict, detail);
    }
    Ok(())
}
