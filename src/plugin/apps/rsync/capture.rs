//! A run: the copy is brought up to date, and named as what is shipped.

use std::io::ErrorKind;

use super::ends::Outcome;
use super::remote::{Apply, Remote};
use super::settings::{RsyncSettings, below};
use super::stats::Stats;
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES, Source};

/// Says whose copy it is: a directory of somebody else is never deleted in.
const OWNER: &str = "larder-copy.json";

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    own(request, &settings)?;
    let remote = Remote::open(&settings, &request.staging)?;
    if let Some(version) = remote.version() {
        events.version(format!("rsync {version}"));
    }
    let tree = settings.tree();
    // Nothing is changed by this one: it tells what the other side has.
    let (looked, outcome) = remote.fetch(&tree, Apply::No, events)?;
    if outcome == Outcome::Vanished {
        events.log("files vanished on the device while it was looked at");
    }
    let (before_files, before_bytes) = before(request);
    judge(&settings, &looked, before_files, before_bytes)?;
    let (fetched, outcome) = remote.fetch(&tree, Apply::Yes, events)?;
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
        Err(error) if error.kind() == ErrorKind::NotFound => {
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
