//! A snapshot on the server: made, taken over by hard links or a copy, and deleted there at once.
//!
//! Prometheus never deletes one, and nobody knows its name before it is made. So what was there before is written down
//! first; of what is new after a kill, the oldest is ours.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::Server;
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

const ENTRY: &str = "snapshot";

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    snapshots: PathBuf,
    known: BTreeSet<String>,
    name: Option<String>,
    since: Timestamp,
}

/// Brings all blocks of the server to `into`.
pub(super) fn take(
    server: &Server<'_>,
    journal: &Journal,
    data_dir: &Path,
    into: &Path,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let snapshots = data_dir.join("snapshots");
    ready(data_dir, &snapshots)?;
    let mut note = Note { known: names(&snapshots), snapshots, name: None, since: Timestamp::now() };
    journal.note(ENTRY, &note)?;
    let name = match make(server) {
        Ok(name) => name,
        Err(failure) => {
            return Err(if undo(&note).is_ok() { failure.after(journal.done(ENTRY)) } else { failure });
        }
    };
    note.name = Some(name.clone());
    journal.note(ENTRY, &note)?;
    let made = note.snapshots.join(&name);
    let taken = if made.is_dir() {
        link_tree(&made, into).map_err(|(path, error)| super::files::unwritable(&path, &error))
    } else {
        Err(Failure::new(codes::SNAPSHOT_NOT_THERE, format!("Prometheus made the snapshot {name}, but {} is not there", made.display()))
            .hint("`data_dir` is not this server's --storage.tsdb.path, or it is not mounted here; delete the snapshot there by hand"))
    };
    match undo(&note) {
        Ok(()) => journal.done(ENTRY)?,
        Err(failure) if taken.is_ok() => events.warning(failure.trouble),
        Err(_) => {}
    }
    taken
}

/// Deletes what a killed capture left on the server.
pub(super) fn recover(request: &Request) -> Result<(), Failure> {
    let journal = Journal::of(request)?;
    for (name, value) in journal.entries::<Value>()? {
        // Others are of what a restore changes.
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        undo(&note)?;
        journal.done(&name)?;
    }
    Ok(())
}

/// Whether a snapshot would be of use: before one is made that nobody can fetch or delete.
fn ready(data_dir: &Path, snapshots: &Path) -> Result<(), Failure> {
    if !data_dir.join("wal").is_dir() && !data_dir.join("chunks_head").is_dir() {
        return Err(Failure::new(
            codes::DATA_DIR,
            format!("{} is no data directory of Prometheus", data_dir.display()),
        )
        .hint("`data_dir` is the server's --storage.tsdb.path as this host sees it; is it mounted?"));
    }
    let may = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::X_OK;
    if snapshots.is_dir() && nix::unistd::access(snapshots, may).is_err() {
        return Err(Failure::new(
            codes::DATA_DIR,
            format!("{} is not writable: a snapshot could not be deleted", snapshots.display()),
        )
        .hint("give the daemon's user write permission there"));
    }
    Ok(())
}

fn make(server: &Server<'_>) -> Result<String, Failure> {
    let answer = server.data(server.web.post("/api/v1/admin/tsdb/snapshot")).map_err(|failure| {
        let said = &failure.trouble.message;
        if said.contains("admin APIs disabled") {
            Failure::new(codes::ADMIN_API_OFF, "Prometheus makes no snapshot: its admin API is off")
                .hint("start it with --web.enable-admin-api (and let nobody else reach its port), or leave out `tsdb_snapshot`")
        } else if said.contains("Prometheus Agent") {
            Failure::new(codes::AGENT, "a Prometheus Agent has no time series to keep").hint("leave out `tsdb_snapshot`")
        } else {
            failure
        }
    })?;
    let name = answer.get("name").and_then(Value::as_str).unwrap_or_default();
    if is_snapshot(name) {
        Ok(name.to_owned())
    } else {
        Err(Failure::new(codes::UNEXPECTED_ANSWER, "Prometheus tells no name of its snapshot")
            .hint("check `url`: another application may answer there"))
    }
}

/// Deletes the one that is ours, and nothing else.
fn undo(note: &Note) -> Result<(), Failure> {
    let ours = match &note.name {
        Some(name) => Some(name.clone()),
        None => {
            names(&note.snapshots).into_iter().find(|name| !note.known.contains(name) && made_since(name, note.since))
        }
    };
    let Some(path) = ours.filter(|name| is_snapshot(name)).map(|name| note.snapshots.join(name)) else { return Ok(()) };
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let trouble = Trouble::new(
                codes::SNAPSHOT_LEFT,
                format!("the snapshot {} cannot be deleted: {error}", path.display()),
            )
            .with_hint("delete it by hand; give the daemon's user write permission in `snapshots`");
            Err(Failure { trouble, retry: true })
        }
        _ => Ok(()),
    }
}

/// In order of their time.
fn names(snapshots: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(snapshots).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_snapshot(name)).collect()
}

/// `20261122T021938Z-014fac7a0d571004`
fn is_snapshot(name: &str) -> bool {
    let Some((time, random)) = name.split_once('-') else { return false };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    time.len() == 16
        && time.get(..8).is_some_and(digits)
        && time.get(8..9) == Some("T")
        && time.get(9..15).is_some_and(digits)
        && time.ends_with('Z')
        && !random.is_empty()
        && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// By the name; a minute is allowed between two clocks.
fn made_since(name: &str, since: Timestamp) -> bool {
    let from = since.checked_sub(jiff::SignedDuration::from_secs(60)).unwrap_or(since);
    let from = from.strftime("%Y%m%dT%H%M%SZ").to_string();
    name.get(..16).is_some_and(|time| time >= from.as_str())
}

/// The same tree. A file that only the snapshot has is linked; one that the server shares (a link to a live block) is
/// copied, since what is published gets other rights, and those belong to the file and not to its name.
fn link_tree(from: &Path, into: &Path) -> Result<(), (PathBuf, io::Error)> {
    let told = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    fs::create_dir_all(into).map_err(told(into))?;
    for entry in fs::read_dir(from).map_err(told(from))? {
        let entry = entry.map_err(told(from))?;
        let (path, target) = (entry.path(), into.join(entry.file_name()));
        let kind = entry.file_type().map_err(told(&path))?;
        if kind.is_dir() {
            link_tree(&path, &target)?;
        } else if kind.is_file() {
            let own = entry.metadata().is_ok_and(|metadata| metadata.nlink() == 1);
            if !own || fs::hard_link(&path, &target).is_err() {
                fs::copy(&path, &target).map_err(told(&target))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_as_a_snapshot_is_ever_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = ("20250101T000000Z-014fac7a0d571004", "20991122T021938Z-014fac7a0d571004");
        for name in [old, new, "keep-me", "20261122T021938Z-../x"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let mut note = Note {
            snapshots: directory.path().to_owned(),
            known: BTreeSet::from([new.to_owned()]),
            name: None,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        undo(&note).unwrap();
        assert!(directory.path().join(new).exists() && directory.path().join(old).exists());
        note.known.clear();
        undo(&note).unwrap();
        assert!(!directory.path().join(new).exists() && directory.path().join(old).exists());
        note.name = Some("../keep-me".to_owned());
        undo(&note).unwrap();
        assert!(directory.path().join("keep-me").exists());
    }
}
