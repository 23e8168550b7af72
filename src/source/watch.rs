//! Says "look again" when the watched branch may have moved: inotify for milliseconds, a poll for certainty.
//!
//! A signal carries nothing, since only what is read afterwards counts: a missed, doubled or early one does no harm.
//! `pack-refs` and `gc` remove the file of a ref that still exists, so a removal means no more than any other event.
//! Reading a ref makes `Access` events; they are ignored, or every look would cause the next.
//! File systems that report nothing (NFS) are covered by the poll alone.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::bare::Bare;

/// How often to look although nothing was reported.
pub const POLL_DEFAULT: Duration = Duration::from_secs(30);

/// How often to look where the system cannot watch (its inotify limit is reached).
const POLL_UNWATCHED: Duration = Duration::from_secs(5);

/// How often to see whether a repository that is gone is back.
const RETURN_POLL: Duration = Duration::from_millis(200);

/// A directory on the way to the ref was made: its files may be there before it was watched, so look once more.
const SETTLE: Duration = Duration::from_millis(50);

/// Shortest time between two watches of a repository that is being replaced.
const REPLACED_PAUSE: Duration = Duration::from_millis(20);

/// Watches `branch` of the repository at `path` and sends a signal whenever it should be looked at again: at once, on
/// every change, and every `poll_interval`. Signals that nobody took yet are one signal.
///
/// It goes on while the repository is missing or replaced, and ends when `cancel` is cancelled or the receiver dropped.
/// Must be called inside a tokio runtime.
pub fn watch(path: &Path, branch: &str, poll_interval: Duration, cancel: CancellationToken) -> mpsc::Receiver<()> {
    let (path, branch) = (path.to_owned(), branch.to_owned());
    let (wake, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = wake.closed() => {}
            () = keep_watching(&path, &branch, poll_interval, &wake) => {}
        }
    });
    receiver
}

/// What an event is to the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    /// The ref may have moved.
    Moved,
    /// So may it, and again a moment later.
    Unsettled,
    /// The repository itself came, went or was exchanged.
    Replaced,
}

/// Signals from the watcher's thread; each coalesces.
#[derive(Default)]
struct Signals {
    moved: Notify,
    unsettled: Notify,
    replaced: Notify,
}

/// The paths that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    git_dir: PathBuf,
    refs: PathBuf,
    branch: PathBuf,
}

/// How well the repository is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Watched,
    /// The repository is not there or cannot be opened; its parent may be watched for its return.
    Missing,
    Unwatchable,
}

/// One attempt to watch; the watches end with it.
struct Watch {
    standing: Standing,
    identity: Option<Identity>,
    _watcher: Option<RecommendedWatcher>,
}

async fn keep_watching(path: &Path, branch: &str, poll_interval: Duration, wake: &mpsc::Sender<()>) {
    let mut warned = false;
    let mut before = None;
    loop {
        let signals = Arc::new(Signals::default());
        let watch = establish(path, branch, &signals).await;
        // A repository that stays away is told about once, then with every poll.
        if watch.standing != Standing::Missing || before != Some(Standing::Missing) {
            let _ = wake.try_send(());
        }
        if watch.standing == Standing::Unwatchable && !warned {
            warned = true;
            tracing::warn!(
                path = %path.display(),
                "the system cannot watch this repository, so it is polled every {} s; \
                 hint: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances",
                POLL_UNWATCHED.min(poll_interval).as_secs_f32()
            );
        }
        before = Some(watch.standing);
        stand(path, poll_interval, wake, &watch, &signals).await;
        sleep(REPLACED_PAUSE).await;
    }
}

/// Passes signals on until the repository has to be watched anew.
async fn stand(path: &Path, poll_interval: Duration, wake: &mpsc::Sender<()>, watch: &Watch, signals: &Signals) {
    let poll_interval = match watch.standing {
        Standing::Unwatchable => poll_interval.min(POLL_UNWATCHED),
        Standing::Watched | Standing::Missing => poll_interval,
    };
    let mut next_poll = Instant::now() + poll_interval;
    let mut settle: Option<Instant> = None;
    loop {
        let returned = async {
            match watch.standing {
                Standing::Missing => sleep(RETURN_POLL).await,
                Standing::Watched | Standing::Unwatchable => std::future::pending().await,
            }
        };
        let settled = async {
            match settle {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.replaced.notified() => return,
            () = signals.moved.notified() => {}
            () = signals.unsettled.notified() => settle = Some(Instant::now() + SETTLE),
            () = settled => settle = None,
            () = returned => match identify(path).await {
                Some(_) => return,
                None => continue,
            },
            () = sleep_until(next_poll) => {
                next_poll = Instant::now() + poll_interval;
                if watch.standing == Standing::Unwatchable || identify(path).await != watch.identity {
                    return;
                }
            }
        }
        // Full means that a signal waits already.
        let _ = wake.try_send(());
    }
}

/// Device and inode of the repository and of its refs: they change when the directory is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity([(u64, u64); 2]);

async fn identify(path: &Path) -> Option<Identity> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || find(&path).1).await.ok().flatten()
}

async fn establish(path: &Path, branch: &str, signals: &Arc<Signals>) -> Watch {
    let (path, branch, signals) = (path.to_owned(), branch.to_owned(), Arc::clone(signals));
    let unwatchable = Watch { standing: Standing::Unwatchable, identity: None, _watcher: None };
    tokio::task::spawn_blocking(move || establish_now(&path, &branch, signals)).await.unwrap_or(unwatchable)
}

fn establish_now(path: &Path, branch: &str, signals: Arc<Signals>) -> Watch {
    // The identity is taken before the watches are set: if the directory is exchanged in between, the poll notices.
    let (git_dir, identity) = find(path);
    let places = Places::new(&git_dir, branch);
    let refs = places.refs.clone();
    let handler = move |event: notify::Result<notify::Event>| match event.map(|event| meaning(&event, &places)) {
        Ok(Meaning::Nothing) => {}
        Ok(Meaning::Moved) => signals.moved.notify_one(),
        Ok(Meaning::Unsettled) => {
            signals.moved.notify_one();
            signals.unsettled.notify_one();
        }
        // An error: the watcher could not go on with some path, so the watch is set up anew.
        Ok(Meaning::Replaced) | Err(_) => signals.replaced.notify_one(),
    };
    let watch = |standing, watcher| Watch { standing, identity, _watcher: watcher };
    let Ok(mut watcher) = notify::recommended_watcher(handler) else { return watch(Standing::Unwatchable, None) };
    // Only the parent sees a repository come back. Where it cannot be watched, the poll does.
    let _ = git_dir.parent().map(|parent| watcher.watch(parent, RecursiveMode::NonRecursive));
    if identity.is_none() {
        return watch(Standing::Missing, Some(watcher));
    }
    let watched = watcher
        .watch(&git_dir, RecursiveMode::NonRecursive)
        .and_then(|()| watcher.watch(&refs, RecursiveMode::Recursive));
    match watched {
        Ok(()) => watch(Standing::Watched, Some(watcher)),
        // It went away just now; the next look says whether it stays away.
        Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => watch(Standing::Missing, Some(watcher)),
        Err(_) => watch(Standing::Unwatchable, None),
    }
}

impl Places {
    fn new(git_dir: &Path, branch: &str) -> Self {
        let refs = git_dir.join("refs");
        Self { git_dir: git_dir.to_owned(), branch: refs.join("heads").join(branch), refs }
    }
}

/// What `event` means for the watched branch.
fn meaning(event: &notify::Event, places: &Places) -> Meaning {
    if event.need_rescan() {
        return Meaning::Unsettled;
    }
    if matches!(event.kind, EventKind::Access(_)) {
        return Meaning::Nothing;
    }
    let touches_content = !matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_)));
    let mut strongest = Meaning::Nothing;
    for path in &event.paths {
        if (path == &places.git_dir || path == &places.refs) && touches_content {
            return Meaning::Replaced;
        }
        if path != &places.branch && places.branch.starts_with(path) && path.starts_with(&places.refs) {
            strongest = Meaning::Unsettled;
        } else if (path == &places.branch
            || path == &places.git_dir.join("packed-refs")
            || path == &places.git_dir.join("HEAD"))
            && strongest == Meaning::Nothing
        {
            strongest = Meaning::Moved;
        }
    }
    strongest
}

/// Where the repository's refs are, with links resolved as far as they exist, and which it is.
///
/// One that cannot be opened has no identity: it may be half made, and what completes it need not be a ref.
fn find(path: &Path) -> (PathBuf, Option<Identity>) {
    let opened = Bare::open(path).ok().map(|bare| bare.git_dir());
    let git_dir = opened.as_deref().unwrap_or(path);
    let git_dir =
        git_dir.canonicalize().or_else(|_| std::path::absolute(git_dir)).unwrap_or_else(|_| git_dir.to_owned());
    let identity = opened.and_then(|_| identity_of(&git_dir));
    (git_dir, identity)
}

fn identity_of(git_dir: &Path) -> Option<Identity> {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    Some(Identity([of(git_dir)?, of(&git_dir.join("refs"))?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, AccessMode, CreateKind, Event, Flag, MetadataKind, RemoveKind, RenameMode};

    fn of(kind: EventKind, paths: &[&str]) -> Meaning {
        let places = Places::new(Path::new("/srv/r.git"), "team/main");
        let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(PathBuf::from(path)));
        meaning(&event, &places)
    }

    #[test]
    fn reading_the_ref_is_never_a_reason_to_read_it() {
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        for path in ["/srv/r.git/refs/heads/team/main", "/srv/r.git/packed-refs", "/srv/r.git/refs", "/srv/r.git"] {
            assert_eq!(of(open, &[path]), Meaning::Nothing);
        }
    }

    #[test]
    fn a_branch_moves_by_a_rename_onto_it_or_by_packed_refs() {
        let both = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let lock = "/srv/r.git/refs/heads/team/main.lock";
        assert_eq!(of(both, &[lock, "/srv/r.git/refs/heads/team/main"]), Meaning::Moved);
        assert_eq!(of(both, &["/srv/r.git/packed-refs.new", "/srv/r.git/packed-refs"]), Meaning::Moved);
        assert_eq!(of(EventKind::Remove(RemoveKind::File), &["/srv/r.git/refs/heads/team/main"]), Meaning::Moved);
        assert_eq!(of(EventKind::Create(CreateKind::File), &[lock]), Meaning::Nothing);
        assert_eq!(of(both, &["/srv/r.git/refs/heads/other.lock", "/srv/r.git/refs/heads/other"]), Meaning::Nothing);
        assert_eq!(of(both, &["/srv/r.git/refs/heads/team/mainline"]), Meaning::Nothing);
    }

    #[test]
    fn a_directory_on_the_way_to_the_branch_is_looked_at_twice() {
        let made = EventKind::Create(CreateKind::Folder);
        assert_eq!(of(made, &["/srv/r.git/refs/heads/team"]), Meaning::Unsettled);
        assert_eq!(of(made, &["/srv/r.git/refs/heads"]), Meaning::Unsettled);
        assert_eq!(of(made, &["/srv/r.git/refs/heads/else"]), Meaning::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_system_cannot_watch_the_repository_is_polled_faster() {
        let (wake, mut woken) = mpsc::channel(1);
        let unwatchable = Watch { standing: Standing::Unwatchable, identity: None, _watcher: None };
        let watched = Watch { standing: Standing::Watched, identity: None, _watcher: None };
        let path = Path::new("/nonexistent/r.git");

        let start = Instant::now();
        stand(path, POLL_DEFAULT, &wake, &unwatchable, &Signals::default()).await;
        assert_eq!(start.elapsed(), POLL_UNWATCHED, "then it is tried again, which looks at once");

        let still = Signals::default();
        let polled = tokio::time::timeout(POLL_DEFAULT * 2, stand(path, POLL_DEFAULT, &wake, &watched, &still)).await;
        assert!(polled.is_err(), "nothing was replaced");
        assert_eq!(woken.try_recv(), Ok(()), "and yet it was looked at");
    }

    #[test]
    fn lost_events_are_made_up_for_by_looking() {
        let places = Places::new(Path::new("/srv/r.git"), "main");
        assert_eq!(meaning(&Event::new(EventKind::Other).set_flag(Flag::Rescan), &places), Meaning::Unsettled);
    }

    #[test]
    fn an_exchanged_repository_is_watched_anew_and_a_changed_owner_is_nothing() {
        assert_eq!(of(EventKind::Remove(RemoveKind::Folder), &["/srv/r.git"]), Meaning::Replaced);
        assert_eq!(of(EventKind::Modify(ModifyKind::Name(RenameMode::To)), &["/srv/r.git"]), Meaning::Replaced);
        assert_eq!(of(EventKind::Create(CreateKind::Folder), &["/srv/r.git/refs"]), Meaning::Replaced);
        assert_eq!(of(EventKind::Create(CreateKind::File), &["/srv/else.git"]), Meaning::Nothing);
        assert_eq!(of(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), &["/srv/r.git"]), Meaning::Nothing);
    }
}
