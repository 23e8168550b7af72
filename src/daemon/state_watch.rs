//! Whether the state directory is still the one that was opened, and takes what is written.
//!
//! A daemon whose directory was moved away, unmounted or removed writes into files that nobody will find. So it starts
//! nothing then, says so everywhere, and goes on by itself when the directory is back. It does not end itself: the next one
//! would begin anew in an empty mount point, and look well.
//! Deliberately absent: a trial write at every look, which would keep the disk of an idle daemon awake.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::model::Config;
use crate::error::{Kind, Trouble, codes};
use crate::rpc::ready::Readiness;
use crate::runner::world::World;
use crate::store::layout::StateDir;
use crate::store::record::{Incident, OutboxMail};

/// Between two looks, and soon after one that found something.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How many looks in a row must find something.
const LOOKS: u32 = 2;

/// What is read of a file's begin, in bytes.
const PAGE_BYTES: u64 = 4096;

/// A directory that does not answer for this long hangs.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Before each try of a mail: it cannot wait in a store that is lost.
const MAIL_TRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(30), Duration::from_mins(5), Duration::from_mins(30)];

/// The file with the records is never smaller than one segment of it, less a byte.
const SEGMENT_BYTES: u64 = (512 << 10) - 1;

type Identity = (u64, u64);

/// What was opened: the directory, the store in it, and the lock.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    root: PathBuf,
    marks: Vec<(PathBuf, Option<Identity>)>,
    contents: Vec<(PathBuf, Content)>,
}

/// What a file of the store has, as far as a cheap look tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    /// Whether its first page has anything but zeros: a file that was cut off and written on has a hole there.
    begins: bool,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    There(Identity),
    Gone,
    Unreadable(String),
}

/// What can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Room {
    Some,
    ReadOnly,
    Refused(String),
    Full,
}

impl Opened {
    /// Remembers what is there now.
    pub(crate) fn look(paths: &StateDir) -> Self {
        let store = paths.store();
        let marks = [paths.root().to_owned(), store.clone(), store.join("db"), paths.lock_file()];
        let files = [store.join("db"), store.join("conf")];
        let contents = files.into_iter().filter_map(|path| Some((path.clone(), content(&path)?))).collect();
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
        Self {
            root: paths.root().to_owned(),
            marks: marks.into_iter().map(|path| (path.clone(), identity(&path))).collect(),
            contents,
        }
    }

    /// What is wrong with it now. Blocking.
    fn trouble(&self) -> Option<Trouble> {
        let seen = |(path, opened): &(PathBuf, Option<Identity>)| Some((path.clone(), (*opened)?, see(path)));
        let contents = self.contents.iter().filter_map(|(path, opened)| Some((path, *opened, content(path)?)));
        lost(&self.root, self.marks.iter().filter_map(seen))
            .or_else(|| emptied(contents))
            .or_else(|| cramped(&self.root, &room(&self.root)))
    }
}

fn see(path: &Path) -> Seen {
    match std::fs::metadata(path) {
        Ok(about) => Seen::There((about.dev(), about.ino())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Seen::Gone,
        Err(error) => Seen::Unreadable(error.to_string()),
    }
}

/// None when it cannot be read, which is told otherwise.
fn content(path: &Path) -> Option<Content> {
    let mut page = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    file.take(PAGE_BYTES).read_to_end(&mut page).ok()?;
    Some(Content { bytes, begins: page.iter().any(|byte| *byte != 0) })
}

/// The first file that has less than no working store ever leaves; pure.
fn emptied<'a>(contents: impl Iterator<Item = (&'a PathBuf, Content, Content)>) -> Option<Trouble> {
    for (path, opened, now) in contents {
        if now.bytes >= opened.bytes.min(SEGMENT_BYTES) && (now.begins || !opened.begins) {
            continue;
        }
        let message =
            format!("{} was emptied or cut off while it was in use: it has {} bytes", path.display(), now.bytes);
        let hint = "find out who did that. What the daemon knows was written to the newest file in its directory `export`, where \
                    that was possible; restart the daemon: it sets aside what is left and begins from there";
        return Some(Trouble::new(codes::STATE_EMPTIED, message).with_hint(hint));
    }
    None
}

fn room(root: &Path) -> Room {
    match statvfs(root) {
        Err(error) => Room::Refused(error.to_string()),
        Ok(about) if about.flags().contains(FsFlags::ST_RDONLY) => Room::ReadOnly,
        Ok(about) if about.blocks() > 0 && about.blocks_available() == 0 => Room::Full,
        Ok(_) => match access(root, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) => Room::Some,
            Err(error) => Room::Refused(error.to_string()),
        },
    }
}

/// The first of what was opened that is not there as it was; pure.
fn lost(root: &Path, marks: impl Iterator<Item = (PathBuf, Identity, Seen)>) -> Option<Trouble> {
    let back = "bring it back (mount its disk, undo the move) and the daemon goes on by itself; if it is lost for good, restart \
                the daemon, which begins anew: no backup is lost, and none is forgotten until you accept the loss";
    for (path, opened, seen) in marks {
        let shown = path.display();
        let (code, message, hint) = match seen {
            Seen::There(now) if now == opened => continue,
            Seen::There(_) if path == root => {
                (codes::STATE_REPLACED, format!("another directory is at {shown} than the one that was opened"), back)
            }
            Seen::There(_) => (codes::STATE_REPLACED, format!("{shown} is not the file that was opened"), back),
            Seen::Gone if path == root => (codes::STATE_GONE, format!("the state directory {shown} is gone"), back),
            Seen::Gone if path.ends_with("lock") => (
                codes::STATE_UNLOCKED,
                format!("the lock {shown} is gone, so a second daemon could open the same state"),
                "restart the daemon: it makes a new one",
            ),
            Seen::Gone => (codes::STATE_GONE, format!("{shown} is gone from the state directory"), back),
            Seen::Unreadable(why) => (
                codes::STATE_UNREADABLE,
                format!("{shown} cannot be read: {why}"),
                "look at its disk, and who may read it",
            ),
        };
        return Some(Trouble::new(code, message).with_hint(hint));
    }
    None
}

fn cramped(root: &Path, room: &Room) -> Option<Trouble> {
    let shown = root.display();
    let (code, message, hint) = match room {
        Room::Some => return None,
        Room::ReadOnly => (
            codes::STATE_READ_ONLY,
            format!("the state directory {shown} is on a read-only file system"),
            format!("see `dmesg` for errors of its disk, then `mount -o remount,rw`; `findmnt -T {shown}` names it"),
        ),
        Room::Refused(why) => (
            codes::STATE_NOT_WRITABLE,
            format!("the state directory {shown} cannot be written: {why}"),
            "give the daemon's user write access".to_owned(),
        ),
        Room::Full => (
            codes::STATE_FULL,
            format!("the disk of the state directory {shown} is full"),
            format!("make room there: `df -h {shown}`"),
        ),
    };
    Some(Trouble::new(code, message).with_hint(hint))
}

/// Looks until `cancel`, and says what changes: on the board, to readiness, in the log and by mail.
pub(super) async fn keep(
    world: Arc<World>,
    opened: Opened,
    config: watch::Receiver<Arc<Config>>,
    readiness: Readiness,
    changed: Arc<Notify>,
    cancel: CancellationToken,
) {
    let mut found_in_a_row = 0;
    loop {
        let pause = if found_in_a_row > 0 { LOOK_AGAIN } else { LOOK_EVERY };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let trouble = look(&opened).await;
        found_in_a_row = if trouble.is_some() { found_in_a_row + 1 } else { 0 };
        let known = world.live.state();
        let now = world.clock.now();
        let next = match (&known, trouble) {
            (None, None) => continue,
            (None, Some(_)) if found_in_a_row < LOOKS => continue,
            (Some(known), Some(trouble)) if known.trouble == trouble => continue,
            (_, None) => None,
            (known, Some(trouble)) => {
                tracing::error!(%trouble, "the state directory is lost; nothing is started until it is back");
                Some(Incident { since: known.as_ref().map_or(now, |known| known.since), trouble })
            }
        };
        if next.is_none() {
            tracing::info!("the state directory is there again");
        }
        if next.as_ref().is_some_and(|incident| incident.trouble.is_of(Kind::Damaged)) && known.is_none() {
            keep_what_is_known(&world).await;
        }
        world.live.state_is(next.clone());
        readiness.state_is(next.as_ref().map(|incident| incident.trouble.message.clone()));
        changed.notify_one();
        let site = config.borrow().site.clone();
        let mail = match (&known, &next) {
            (None, Some(incident)) => crate::alert::mail_for_state(&site, incident, now),
            (Some(incident), None) => crate::alert::mail_for_state_back(&site, incident, now),
            _ => None,
        };
        if let (Some(mail), Some(email)) = (mail, site.email) {
            tokio::spawn(send(email, mail, cancel.clone()));
        }
    }
}

/// Exports what the daemon has in its memory, where that is whole: the next start finds nothing else. Answers whether it
/// did.
pub(super) async fn keep_what_is_known(world: &Arc<World>) -> bool {
    let theirs = world.clone();
    let kept = tokio::task::spawn_blocking(move || {
        theirs.ledger.store().verify().and_then(|()| super::housekeeping::write_export(&theirs))
    });
    let kept = kept.await;
    match &kept {
        Ok(Ok(path)) => tracing::warn!(path = %path.display(), "what the state had was exported from memory"),
        Ok(Err(error)) => {
            tracing::error!(error = %crate::error::chain(error), "what the state had cannot be exported any more");
        }
        Err(error) => tracing::error!(%error, "the export from memory broke"),
    }
    kept.is_ok_and(|kept| kept.is_ok())
}

async fn look(opened: &Opened) -> Option<Trouble> {
    let (theirs, root) = (opened.clone(), opened.root.display().to_string());
    match tokio::time::timeout(LOOK_MAX, tokio::task::spawn_blocking(move || theirs.trouble())).await {
        Ok(Ok(trouble)) => trouble,
        Ok(Err(_)) => None,
        Err(_) => Some(
            Trouble::new(codes::STATE_HANGS, format!("the state directory {root} does not answer"))
                .with_hint("look at its disk or its server"),
        ),
    }
}

/// Sends a mail past the outbox, which may be lost itself.
async fn send(email: crate::config::model::Email, mail: OutboxMail, cancel: CancellationToken) {
    for pause in MAIL_TRIES {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match crate::alert::send_now(&email, &mail).await {
            Ok(_) => return,
            Err(trouble) => tracing::error!(%trouble, "the mail about the state directory is not sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(trouble: Option<Trouble>) -> String {
        trouble.map_or_else(String::new, |trouble| trouble.code)
    }

    fn made() -> (tempfile::TempDir, StateDir, Opened) {
        let dir = tempfile::tempdir().unwrap();
        let paths = StateDir::new(&dir.path().join("state"));
        paths.make().unwrap();
        std::fs::create_dir(paths.store()).unwrap();
        std::fs::write(paths.store().join("db"), "x").unwrap();
        std::fs::write(paths.lock_file(), "").unwrap();
        let opened = Opened::look(&paths);
        (dir, paths, opened)
    }

    #[test]
    fn what_was_opened_is_well_while_it_is_there_and_lost_in_every_other_way() {
        let (dir, paths, opened) = made();
        assert_eq!(opened.trouble(), None);
        let away = dir.path().join("away");
        std::fs::rename(paths.root(), &away).unwrap();
        assert_eq!(code(opened.trouble()), "state_gone");
        paths.make().unwrap();
        assert_eq!(code(opened.trouble()), "state_replaced", "an empty directory in its place is another one");
        std::fs::remove_dir_all(paths.root()).unwrap();
        std::fs::rename(&away, paths.root()).unwrap();
        assert_eq!(opened.trouble(), None, "it is back");

        std::fs::rename(paths.store().join("db"), dir.path().join("db")).unwrap();
        assert_eq!(code(opened.trouble()), "state_gone");
        std::fs::write(paths.store().join("db"), "other").unwrap();
        assert_eq!(code(opened.trouble()), "state_replaced");
        std::fs::rename(dir.path().join("db"), paths.store().join("db")).unwrap();
        std::fs::remove_file(paths.lock_file()).unwrap();
        assert_eq!(code(opened.trouble()), "state_unlocked");
    }

    #[test]
    fn a_file_that_was_emptied_cut_off_or_has_a_hole_for_its_begin_is_told_and_one_that_shrinks_by_itself_is_not() {
        let content = |bytes, begins| Content { bytes, begins };
        let path = PathBuf::from("/state/store/db");
        let told = |opened, now| code(emptied([(&path, opened, now)].into_iter()));
        let opened = content(3 * SEGMENT_BYTES, true);
        for now in [content(0, false), content(100_000, true), content(3 * SEGMENT_BYTES, false)] {
            assert_eq!(told(opened, now), codes::STATE_EMPTIED.name(), "{now:?}");
        }
        assert_eq!(told(opened, content(SEGMENT_BYTES, true)), "");
        assert_eq!(told(content(62, true), content(0, false)), codes::STATE_EMPTIED.name());
        assert_eq!(told(content(62, true), content(62, true)), "");
    }

    #[test]
    fn a_directory_that_takes_nothing_is_as_lost_as_one_that_is_gone() {
        let root = Path::new("/var/lib/larder");
        for (room, expected) in [
            (Room::Some, ""),
            (Room::ReadOnly, "state_read_only"),
            (Room::Full, "state_full"),
            (Room::Refused("EACCES".to_owned()), "state_not_writable"),
        ] {
            assert_eq!(code(cramped(root, &room)), expected);
        }
    }
}
