//! Looks at paths that somebody named, off the caller's thread and with an end.
//!
//! A share whose server is gone answers never, and a thread in such a call can't be ended. So each look has a thread of
//! its own, its caller waits for a while only, and a path that is being waited for is not looked at a second time: a caller
//! that asks again is told at once. When the path answers after all, the thread ends and the next look is a new one.
//!
//! A thread may be waiting for something that is not at the path any more: an unmounted share, a pipe that was replaced. So
//! a path is looked at anew as soon as other mounts are at it. By time, too, each pause twice as long as the one before: then
//! the caller is told at once as ever, and the look goes on by itself; when it comes back, the path answers again.
//! Deliberately absent: what is looked for.

mod ahead;
mod mounts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Trouble;
use crate::types::show_duration;

/// How long a look that reads little may take; a disk that spins up needs some ten seconds.
pub const LOOK_MAX: Duration = Duration::from_secs(20);

/// Looks that may hang at once, all over the process; each costs a thread.
const HANGING_MAX: usize = 256;

/// Of these, so many at the same mount: one share that is gone leaves room for the others.
const OF_ONE_MOUNT_MAX: usize = 64;

/// Before a path that hangs is looked at anew although nothing is seen to have changed.
const AGAIN_FIRST: Duration = Duration::from_secs(45);
const AGAIN_LAST: Duration = Duration::from_hours(6);

/// Paths that did not answer in time and still don't.
static HANGING: Mutex<BTreeMap<PathBuf, Hanging>> = Mutex::new(BTreeMap::new());

/// Threads that nobody waits for any more.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// A path that hangs.
#[derive(Clone, Debug)]
struct Hanging {
    since: Instant,
    /// Which mounts the newest look went to.
    mounts: Vec<u64>,
    /// When it is looked at anew, and how long after that again.
    again: Instant,
    pause: Duration,
}

impl Hanging {
    /// Whether it is looked at anew: other `mounts` are there, or enough time passed. Counts as looked at, then.
    fn due(&mut self, now: Instant, mounts: Vec<u64>) -> Due {
        let due = match (self.mounts == mounts, now < self.again) {
            (true, true) => return Due::Not,
            (true, false) => Due::Beside,
            (false, _) => Due::Anew,
        };
        if due == Due::Anew {
            self.pause = AGAIN_FIRST;
        }
        self.mounts = mounts;
        self.again = now + self.pause;
        self.pause = (self.pause * 2).min(AGAIN_LAST);
        due
    }
}

/// Whether a path that hangs is looked at anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Not,
    /// It is, and nobody waits for it.
    Beside,
    /// As one that was never looked at.
    Anew,
}

/// Ends the programs that look ahead where a look hangs; for the end of the process, which must leave none behind.
pub fn end_all() {
    ahead::end_all();
}

/// A path that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} has not answered for {}", path.display(), show_duration(*waited))]
pub struct Silent {
    pub path: PathBuf,
    pub waited: Duration,
}

impl Silent {
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "a network share whose server is gone hangs: look with `findmnt -T {0}`, bring the server back, or unmount it \
             with `umount -l`",
            self.path.display()
        )
    }

    /// With what the path is to the caller: `the artifact root`.
    #[must_use]
    pub fn trouble(&self, code: &str, what: &str) -> Trouble {
        Trouble::new(code, format!("{what} {self}")).with_hint(self.hint())
    }
}

/// Waits at most `bound` for `look`, which touches `path`. Blocking.
///
/// # Errors
/// The path does not answer in time, or did not answer an earlier look yet.
pub fn within<T: Send + 'static>(
    path: &Path,
    bound: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Silent> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let waiting = Waiting::start(path, Kind::Look, move || {
        // Nobody waits any more when this fails.
        let _ = sender.send(look());
    })?;
    receiver.recv_timeout(bound).map_err(|_| waiting.give_up())
}

/// Like [`within`], for async callers.
///
/// # Errors
/// As `within`.
pub async fn at<T: Send + 'static>(
    path: &Path,
    bound: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Silent> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let waiting = Waiting::start(path, Kind::Look, move || {
        let _ = sender.send(look());
    })?;
    match tokio::time::timeout(bound, receiver).await {
        Ok(Ok(found)) => Ok(found),
        _ => Err(waiting.give_up()),
    }
}

/// Does `work` on what lies at `path`, however long that takes; the caller gives up by dropping the future, and says by
/// [`until_silent`] when. That says nothing of the path.
///
/// # Errors
/// The path did not answer an earlier look yet, or the work broke.
pub async fn work<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Silent> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let waiting = Waiting::start(path, Kind::Work, move || {
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(|_| Silent { path: path.to_owned(), waited: waiting.started.elapsed() })
}

/// Comes back only when `path` stops answering: it is looked at every `every`.
pub async fn until_silent(path: &Path, every: Duration) -> Silent {
    loop {
        tokio::time::sleep(every).await;
        let looked = path.to_owned();
        if let Err(silent) = at(path, LOOK_MAX, move || touch(&looked)).await {
            return silent;
        }
    }
}

/// Has the file system that `path` lies on answer, whatever it answers. Blocking.
pub fn touch(path: &Path) {
    let _ = std::fs::metadata(path);
    let _ = nix::sys::statvfs::statvfs(path);
}

/// Opens a regular file for reading without waiting for anybody: none when `path` is a pipe, a device, a directory.
///
/// # Errors
/// It is not there or may not be read.
pub fn open_file(path: &Path) -> std::io::Result<Option<std::fs::File>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // What an opening has effects on, such as a tape, is not even opened.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = std::fs::File::options().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Look,
    /// What nobody waits for is not done: the path is looked at only.
    Work,
}

/// A look in progress.
struct Waiting {
    path: PathBuf,
    started: Instant,
    mounts: Vec<u64>,
    stand: Arc<Mutex<Stand>>,
}

/// How a look stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Looking,
    /// Nobody waits for it any more.
    GivenUp,
    Done,
}

/// Since when the oldest of those hangs that leave no room for a look at `mounts`; none: there is room.
fn full(hanging: &BTreeMap<PathBuf, Hanging>, mounts: &[u64]) -> Option<Instant> {
    let all = || hanging.values().map(|each| each.since);
    let same = || hanging.values().filter(|each| each.mounts == mounts).map(|each| each.since);
    if same().count() >= OF_ONE_MOUNT_MAX {
        return same().min();
    }
    all().min().filter(|_| STUCK.load(Ordering::Relaxed) >= HANGING_MAX)
}

impl Waiting {
    fn start(path: &Path, kind: Kind, look: impl FnOnce() + Send + 'static) -> Result<Self, Silent> {
        let refused = |waited| Silent { path: path.to_owned(), waited };
        let mounts = mounts::at(path);
        let beside = {
            let mut hanging = HANGING.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(oldest) = full(&hanging, &mounts) {
                // What hangs at a mount that is not there any more makes room, whoever asks for what.
                let table = mounts::all();
                let is_over = |(path, each): &(&PathBuf, &Hanging)| mounts::of(&table, path) != each.mounts;
                hanging.iter().filter(is_over).for_each(|(path, _)| ahead::end(path));
                return Err(refused(hanging.get(path).map_or(oldest, |known| known.since).elapsed()));
            }
            let known = hanging.get_mut(path);
            let due = known.map(|known| (known.since, known.due(Instant::now(), mounts.clone())));
            if let Some((since, _)) = due.filter(|(_, due)| *due == Due::Not) {
                return Err(refused(since.elapsed()));
            }
            if due.is_some() {
                // Where one of before still looks at what is not there any more.
                ahead::end(path);
            }
            due.filter(|(_, due)| *due == Due::Beside).map(|(since, _)| since)
        };
        let stand = match beside {
            Some(_) => {
                STUCK.fetch_add(1, Ordering::Relaxed);
                Stand::GivenUp
            }
            None => Stand::Looking,
        };
        let stand = Arc::new(Mutex::new(stand));
        let (theirs, ended) = (path.to_owned(), stand.clone());
        let spawned = std::thread::Builder::new().name("larder-look".to_owned()).spawn(move || {
            // However the look ends, by a panic too.
            let end = End { path: theirs, stand: ended };
            ahead::send(&end.path);
            match (kind, beside) {
                (Kind::Work, Some(_)) => touch(&end.path),
                _ => look(),
            }
        });
        if spawned.is_err() {
            STUCK.fetch_sub(usize::from(beside.is_some()), Ordering::Relaxed);
            return Err(refused(Duration::ZERO));
        }
        if let Some(since) = beside {
            return Err(refused(since.elapsed()));
        }
        Ok(Self { path: path.to_owned(), started: Instant::now(), mounts, stand })
    }

    /// From now on the path hangs, until this look ends.
    fn give_up(&self) -> Silent {
        let mut stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut since = self.started;
        if *stand == Stand::Looking {
            *stand = Stand::GivenUp;
            STUCK.fetch_add(1, Ordering::Relaxed);
            let mut hanging = HANGING.lock().unwrap_or_else(PoisonError::into_inner);
            let known = hanging.entry(self.path.clone()).or_insert_with(|| Hanging {
                since: self.started,
                mounts: self.mounts.clone(),
                again: Instant::now() + AGAIN_FIRST,
                pause: AGAIN_FIRST * 2,
            });
            since = known.since;
        }
        Silent { path: self.path.clone(), waited: since.elapsed() }
    }
}

/// The end of a look's thread.
struct End {
    path: PathBuf,
    stand: Arc<Mutex<Stand>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *stand, Stand::Done) == Stand::GivenUp {
            STUCK.fetch_sub(1, Ordering::Relaxed);
        }
        HANGING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn a_path_that_answers_is_seen_and_one_that_hangs_is_looked_at_once() {
        let path = Path::new("/there/and/silent");
        assert_eq!(within(path, LOOK_MAX, || 7), Ok(7));
        let (answer, asked) = mpsc::channel::<()>();
        let first = within(path, SHORT, move || asked.recv().is_ok());
        assert!(first.unwrap_err().waited >= SHORT);
        // At once, without a second thread; and nobody else is kept from looking.
        let looked = Arc::new(Mutex::new(false));
        let mark = looked.clone();
        let second = within(path, LOOK_MAX, move || *mark.lock().unwrap() = true).unwrap_err();
        assert!(second.waited < LOOK_MAX && !*looked.lock().unwrap(), "{second}");
        assert_eq!(within(Path::new("/there/and/well"), LOOK_MAX, || 8), Ok(8));
        // It answers after all.
        answer.send(()).unwrap();
        let again = (0..10_000).find_map(|_| {
            std::thread::yield_now();
            within(path, LOOK_MAX, || 9).ok()
        });
        assert_eq!(again, Some(9));
    }

    #[test]
    fn a_path_that_hangs_is_looked_at_anew_when_other_mounts_are_there_and_ever_more_seldom_by_time() {
        let begun = Instant::now();
        let mut hanging = Hanging { since: begun, mounts: vec![1], again: begun + AGAIN_FIRST, pause: AGAIN_FIRST * 2 };
        assert_eq!(hanging.due(begun, vec![1]), Due::Not);
        assert_eq!(hanging.due(begun, vec![2]), Due::Anew, "another mount is there");
        assert_eq!(hanging.due(begun, vec![2]), Due::Not, "and is looked at once");
        let mut looks = 0;
        for minute in 1..60 * 24 * 30 {
            looks += usize::from(hanging.due(begun + Duration::from_mins(minute), vec![2]) == Due::Beside);
        }
        assert!((100..140).contains(&looks), "{looks} threads in a month");
        let recently = Duration::from_mins(60 * 24 * 30);
        assert_eq!(hanging.due(begun + recently + AGAIN_LAST, vec![2]), Due::Beside);
    }

    #[test]
    fn so_many_looks_hang_at_once_and_no_more_and_there_is_room_again_when_they_end() {
        let begun = Instant::now();
        let (threads, open) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), std::sync::Condvar::new())));
        let hang = |path: PathBuf| {
            let (threads, open) = (threads.clone(), open.clone());
            within(&path, Duration::from_millis(1), move || {
                threads.fetch_add(1, Ordering::Relaxed);
                drop(open.1.wait_while(open.0.lock().unwrap(), |open| !*open));
            })
        };
        // All at one mount, as far as a path tells that is not there.
        for number in 0..OF_ONE_MOUNT_MAX {
            assert!(hang(format!("/bound/{number}").into()).is_err());
        }
        let refused = hang("/bound/one-more".into()).unwrap_err();
        assert!(refused.waited > Duration::from_millis(1) && begun.elapsed() < LOOK_MAX, "{refused}");
        assert!(threads.load(Ordering::Relaxed) <= OF_ONE_MOUNT_MAX);
        // Others are looked at, up to the bound of all.
        let elsewhere = Path::new("/proc/self");
        assert_ne!(mounts::at(elsewhere), mounts::at(Path::new("/bound")));
        assert_eq!(within(elsewhere, LOOK_MAX, || 1), Ok(1));
        STUCK.fetch_add(HANGING_MAX - OF_ONE_MOUNT_MAX, Ordering::Relaxed);
        assert!(within(elsewhere, LOOK_MAX, || 1).is_err());
        STUCK.fetch_sub(HANGING_MAX - OF_ONE_MOUNT_MAX, Ordering::Relaxed);
        *open.0.lock().unwrap() = true;
        open.1.notify_all();
        let again = (0..100_000).find_map(|_| {
            std::thread::yield_now();
            within(Path::new("/bound/one-more"), LOOK_MAX, || 2).ok()
        });
        assert_eq!(again, Some(2));
    }

    #[tokio::test]
    async fn an_async_caller_waits_no_longer_either() {
        let path = Path::new("/silent/async");
        let (_answer, asked) = mpsc::channel::<()>();
        let silent = at(path, SHORT, move || asked.recv().is_ok()).await.unwrap_err();
        let trouble = silent.trouble("path_hanging", "the secret file");
        assert!(trouble.message.starts_with("the secret file /silent/async has not answered for 3"), "{trouble}");
        assert!(trouble.hint.unwrap().contains("findmnt -T /silent/async"));
        assert_eq!(at(Path::new("/well/async"), LOOK_MAX, || 1).await, Ok(1));
    }

    #[test]
    fn a_pipe_is_no_file_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::write(&file, "x").unwrap();
        assert!(open_file(&pipe).unwrap().is_none() && open_file(dir.path()).unwrap().is_none());
        assert!(open_file(Path::new("/dev/zero")).unwrap().is_none() && open_file(&file).unwrap().is_some());
        assert!(open_file(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn a_look_that_breaks_leaves_nothing_behind() {
        let path = Path::new("/breaks");
        let broken: Result<(), Silent> = within(path, LOOK_MAX, || panic!("a bug"));
        assert!(broken.is_err());
        let again = (0..10_000).find_map(|_| {
            std::thread::yield_now();
            within(path, LOOK_MAX, || 1).ok()
        });
        assert_eq!(again, Some(1));
    }
}
