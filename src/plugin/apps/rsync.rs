//! The plugin `rsync`: paths of another device over ssh, into a copy on this host that is shipped from where it lies.
//!
//! The copy stays from run to run, so only what changed goes over the network, and what is shipped lies at the same path
//! in every run. Before anything is deleted in it, a dry run tells what the other side has: a disk that is not mounted
//! there looks like one from which everything was deleted.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::live;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES, Source, Verdict};

mod changes;
mod ends;
mod remote;
mod restore;
mod stats;

use ends::Outcome;
use remote::Remote;
use stats::Stats;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "rsync",
    summary: "Paths of another device over ssh, by rsync",
    guide: GUIDE,
    schema: || schemars::schema_for!(RsyncSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore {
        options: || schemars::schema_for!(restore::RsyncRestore).to_value(),
        run: restore::restore,
    }),
    recover: Some(restore::recover),
};

const GUIDE: &str = "
In the backup: the named paths with their rights, owners, times, links, ACLs and extended attributes as far as both sides
can, by way of a copy on this host (`copy`), which is brought up to date and then shipped.

Not in it: what the login may not read there (told as a warning, the run is partial then), and an instant: files that
change while they are read may be of different moments. Databases that were written to lately are recognised: SQLite ones
are checked, of the others the run says that nobody can vouch for them. Use their own plugin.

What changed is found by size and time, as rsync does: a file that got other content and kept both is not fetched again. A
restore reads both sides whole and compares their content.

Least privilege: a login of its own on the device, with a key of its own that may only read:
  restrict,command=\"rrsync -ro /\" ssh-ed25519 AAAA…   in ~/.ssh/authorized_keys there
rsync is needed on both sides. The host's key must be in `known_hosts` (`ssh-keyscan -p PORT HOST`, compared with the
device's own): a device with another key is refused. To keep owners, the daemon should be root here.

Restore: `larder restore TARGET --into TARGET`, first with --dry-run, sends the files back to their paths. The login needs
the right to read all of them and to write then: where not everything can be compared, nothing is begun. What `exclude`
names by now is left alone, also where the backup has it (patterns that begin with a slash aside): that is told, with a
warning where the device has it not. A `-wal`, `-shm` or `-journal` goes with its database or not at all. The device needs
room for both: all of it is there before the first old file gives way, and what gives way is kept in a directory
`.larder-before-…` there, to be removed by hand. The state directory here needs room for the files that get only other
rights, owners or times: they are noted there with their content until the restore ends. When something fails, also when
Larder is killed, the old files come back from that directory, and it goes only when each of them lies at its place again.
What the backup has not stays and is told; only what a database of the backup would read (a stale `-wal`, anything in the
data directory of a server), and what stands where a file of the backup goes, is moved there too. So stop what works with a
database first: if such a file is back after the transfer, everything is put back; if a new one has appeared, the restore is
not called proven. Or `larder restore TARGET --to DIR`.";

/// Which device, and what of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RsyncSettings {
    /// The device's name or address.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:%-]+$"))]
    host: String,
    /// The login there.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    user: String,
    /// The port of its ssh.
    #[serde(default = "port_default")]
    #[schemars(range(min = 1))]
    port: u16,
    /// The private key, without a passphrase.
    key: Secret,
    /// A file with the device's host key, as `ssh-keyscan` writes it.
    #[schemars(regex(pattern = "^/"))]
    known_hosts: PathBuf,
    /// Absolute paths on the device.
    #[schemars(length(min = 1), inner(regex(pattern = "^/")))]
    paths: Vec<String>,
    /// Where the copy lies on this host: a directory for this target alone, with room for everything.
    #[schemars(regex(pattern = "^/"))]
    copy: PathBuf,
    /// Patterns as rsync's `--exclude` reads them.
    #[serde(default)]
    exclude: Vec<String>,
    /// Databases that may be fetched while they are in use, by their paths on the device, or directories of such ones.
    #[serde(default)]
    #[schemars(inner(regex(pattern = "^/")))]
    accept: Vec<String>,
    /// Accept a source that has less than half of what it had before: for the run after a big clean-up.
    #[serde(default)]
    allow_fewer: bool,
    /// At most so many KiB a second; 0: no bound.
    #[serde(default)]
    bandwidth_kib: u64,
    /// How long the device may say nothing before it is given up.
    #[serde(default = "Patience::silence")]
    silence: Patience,
}

fn port_default() -> u16 {
    22
}

/// Below the copy: the files themselves, so that nothing of ours is mixed with them.
const TREE: &str = "tree";
/// Says whose copy it is: a directory of somebody else is never deleted in.
const OWNER: &str = "larder-copy.json";

impl RsyncSettings {
    fn of(request: &Request) -> Result<Self, Failure> {
        let settings: Self = builtin::settings(request)?;
        let refuse = |what: &str, hint: &str| Err(Failure::new(codes::SETTINGS, what).hint(hint));
        let plain = |text: &str| !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_control);
        if !plain(&settings.host) || settings.host.contains(['@', '/', ' ']) {
            return refuse(
                "`host` is no name or address",
                "write the host alone; the login has its own setting `user`",
            );
        }
        if !plain(&settings.user) || settings.user.contains(['@', '/', ':', ' ']) {
            return refuse("`user` is no login", "write the login's name alone");
        }
        let bad = |path: &String| {
            !path.starts_with('/')
                || path.contains(char::is_control)
                || path.contains(['*', '?', '['])
                || path.split('/').any(|part| part == "..")
        };
        if settings.paths.is_empty() || settings.paths.iter().any(bad) {
            return refuse(
                "a path is not absolute, or has `..` or a wildcard in it",
                "write whole paths of the device: `/volume1/photos`",
            );
        }
        if !settings.copy.is_absolute() || settings.copy.components().count() < 3 {
            return refuse(
                "`copy` is no directory for this target alone",
                "write a path such as `/srv/larder-copies/NAME`",
            );
        }
        Ok(settings)
    }

    fn tree(&self) -> PathBuf {
        self.copy.join(TREE)
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    own(request, &settings)?;
    let remote = Remote::open(&settings, &request.staging)?;
    if let Some(version) = remote.version() {
        events.version(format!("rsync {version}"));
    }
    let tree = settings.tree();
    // Nothing is changed by this one: it tells what the other side has.
    let (looked, outcome) = remote.fetch(&tree, remote::Apply::No, events)?;
    if outcome == Outcome::Vanished {
        events.log("files vanished on the device while it was looked at");
    }
    let (before_files, before_bytes) = before(request);
    judge(&settings, &looked, before_files, before_bytes)?;
    let (fetched, outcome) = remote.fetch(&tree, remote::Apply::Yes, events)?;
    match outcome {
        Outcome::Whole => {}
        Outcome::Vanished => events.warning(
            Trouble::new(codes::FILES_VANISHED, "some files vanished on the device while they were fetched")
                .with_hint("right for files that come and go; name them in `exclude`"),
        ),
        Outcome::Partial(said) => events.warning(
            Trouble::new(codes::FILES_UNREADABLE, format!("some files could not be fetched: {said}"))
                .with_hint("give the login read permission on the device, or name them in `exclude`"),
        ),
    }
    judge(&settings, &fetched, before_files, before_bytes)?;
    events.figure(SOURCE_FILES, fetched.files);
    events.figure(SOURCE_BYTES, fetched.bytes);
    events.figure("deleted_in_copy", fetched.deleted);
    for path in &settings.paths {
        events.source(Source { path: below(&tree, path), exclude: Vec::new() });
    }
    Ok(())
}

/// Where a path of the device lies in the copy.
fn below(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/').trim_end_matches('/'))
}

fn before(request: &Request) -> (u64, u64) {
    let figure = |name: &str| request.previous.as_ref().and_then(|facts| facts.figures.get(name).copied()).unwrap_or(0);
    (figure(SOURCE_FILES), figure(SOURCE_BYTES))
}

/// Whether it may be believed that the device has so little.
fn judge(settings: &RsyncSettings, now: &Stats, files: u64, bytes: u64) -> Result<(), Failure> {
    let hint =
        "look whether its disk is mounted there; if it was tidied up on purpose, say `allow_fewer: true` for one run";
    if now.files == 0 {
        return Err(Failure::new(codes::SOURCE_EMPTY, format!("{} has no file at all below the paths", settings.host))
            .hint(hint));
    }
    let shrunk = now.files < files.div_ceil(2) || now.bytes < bytes.div_ceil(2);
    if shrunk && !settings.allow_fewer {
        let message = format!(
            "{} has {} files with {} bytes where it had {files} with {bytes}; the copy was left as it is",
            settings.host, now.files, now.bytes
        );
        return Err(Failure::new(codes::SOURCE_SHRUNK, message).hint(hint));
    }
    Ok(())
}

/// Makes the copy's directory, or sees that it is this target's.
fn own(request: &Request, settings: &RsyncSettings) -> Result<(), Failure> {
    let mark = settings.copy.join(OWNER);
    let unwritable = |error: std::io::Error| {
        Failure::new(codes::COPY_UNWRITABLE, format!("the copy {} cannot be used: {error}", settings.copy.display()))
            .hint("make the directory, owned by the daemon's user, or correct `copy`")
    };
    let wanted = serde_json::json!({ "target": request.target, "host": settings.host });
    match std::fs::read(&mark) {
        Ok(bytes) => {
            let owner: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if owner != wanted {
                return Err(Failure::new(
                    codes::COPY_TAKEN,
                    format!("{} is the copy of another target or host", settings.copy.display()),
                )
                .hint("give each target a `copy` of its own; delete this one if it is not needed any more"));
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&settings.copy).map_err(unwritable)?;
            if std::fs::read_dir(&settings.copy).map_err(unwritable)?.next().is_some() {
                return Err(Failure::new(
                    codes::COPY_TAKEN,
                    format!("{} holds files that are not ours", settings.copy.display()),
                )
                .hint("name a directory that is empty or not there yet"));
            }
            std::fs::create_dir_all(settings.tree()).map_err(unwritable)?;
            std::fs::write(&mark, wanted.to_string()).map_err(unwritable)
        }
        Err(error) => Err(unwritable(error)),
    }
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let facts = asked::facts(request)?;
    let told = |name: &str| facts.figures.get(name).copied().unwrap_or(0);
    let mut found = Stats::default();
    for source in &facts.sources {
        stats::count(&source.path, &mut found);
    }
    // Of a partial run the copy has less than the other side told.
    let same = found.files == told(SOURCE_FILES) && found.bytes == told(SOURCE_BYTES);
    let detail = format!(
        "{} files with {} bytes; the device told {} with {}",
        found.files,
        found.bytes,
        told(SOURCE_FILES),
        told(SOURCE_BYTES)
    );
    let verdict = match same {
        true => Verdict::Proven,
        false if found.files.saturating_mul(2) < told(SOURCE_FILES) => Verdict::Failed,
        false => Verdict::CouldNotVerify,
    };
    events.validation("the copy has what the device told", verdict, detail);
    let roots: Vec<PathBuf> = facts.sources.iter().map(|source| source.path.clone()).collect();
    let accept: Vec<PathBuf> = settings.accept.iter().map(|path| below(&settings.tree(), path)).collect();
    let looked = live::tree::look(&roots, &|_| false);
    live::told::judge_copies(&looked, &request.staging, &accept, events);
    let remote = Remote::open(&settings, &request.staging)?;
    // With checksums would read both sides whole in every run; a restore compares by them.
    let (verdict, detail) = match remote.fetch(&settings.tree(), remote::Apply::No, events) {
        // What cannot be read is not even listed: nothing left to fetch would prove nothing.
        Ok((_, Outcome::Partial(said))) => (Verdict::CouldNotVerify, format!("not all could be read there: {said}")),
        Ok((looked, _)) if looked.transferred == 0 => {
            (Verdict::Proven, "nothing is left to be fetched, by size and time".to_owned())
        }
        Ok((looked, _)) => {
            let detail = format!(
                "{} files changed on the device since, by size and time: the next run has them",
                looked.transferred
            );
            (if looked.transferred * 10 <= looked.files { Verdict::Proven } else { Verdict::CouldNotVerify }, detail)
        }
        Err(failure) => (Verdict::CouldNotVerify, failure.trouble.message),
    };
    events.validation("rsync finds both sides the same", verdict, detail);
    Ok(())
}
