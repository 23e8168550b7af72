//! Looks at paths that somebody named, off the caller's thread and with an end.
//!
//! A share whose server is gone answers never, and a thread in such a call can't be ended. So each look has a thread to
//! itself, its caller waits for a while only, and a path that is being waited for is not looked at a second time: a caller
//! that asks again is told at once. When the path answers after all, the thread ends and the next look is a new one.
//!
//! A thread may be waiting for something that is not at the path any more: an unmounted share, a pipe that was replaced. So
//! a path is looked at anew as soon as other mounts are at it. By time, too, each pause twice as long as the one before: then
//! the caller is told at once as ever, and the look goes on by itself; when it comes back, the path answers again.
//! Deliberately absent: what is looked for.

mod ahead;
mod mounts;
mod threads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahead::Sent;

use crate::error::{Code, Trouble};
use crate::types::show_duration;

/// How long a look that reads little may take; a disk that spins up needs some ten seconds.
pub const LOOK_MAX: Duration = Duration::from_secs(20);

/// Threads that may hang at once, all over the process.
const STUCK_MAX: usize = 256;

/// Of these, so many at the same mount: one share that is gone leaves room for the others.
const OF_ONE_MOUNT_MAX: usize = 64;

/// Before a path that hangs is looked at anew although nothing is seen to have changed.
const AGAIN_FIRST: Duration = Duration::from_secs(45);
const AGAIN_LAST: Duration = Duration::from_hours(6);

/// What hangs, all over the process.
static HUNG: Mutex<Hung> = Mutex::new(Hung { paths: BTreeMap::new(), threads: BTreeMap::new() });

/// What hangs.
#[derive(Debug, Default)]
struct Hung {
    /// Paths that did not answer in time and still don't.
    paths: BTreeMap<PathBuf, Hanging>,
    /// How many threads that nobody waits for any more are at the same mounts.
    threads: BTreeMap<Mounts, usize>,
}

/// By id, from the root to the deepest; see [`mounts::at`].
type Mounts = Vec<u64>;

impl Hung {
    /// Since when the oldest of those hangs that leave no room for a look at `mounts`; none: there is room.
    fn full(&self, mounts: &Mounts, now: Instant) -> Option<Instant> {
        let at_mounts = self.threads.get(mounts).copied().unwrap_or_default();
        let all: usize = self.threads.values().sum();
        let counts = |each: &&Hanging| at_mounts < OF_ONE_MOUNT_MAX || each.mounts == *mounts;
        let oldest = || self.paths.values().filter(counts).map(|each| each.since).min();
        (at_mounts >= OF_ONE_MOUNT_MAX || all >= STUCK_MAX).then(|| oldest().unwrap_or(now))
    }

    fn stuck(&mut self, mounts: &Mounts) {
        *self.threads.entry(mounts.clone()).or_default() += 1;
    }

    fn unstuck(&mut self, mounts: &Mounts) {
        if let Some(count) = self.threads.get_mut(mounts) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.threads.remove(mounts);
            }
        }
    }
}

fn hung() -> MutexGuard<'static, Hung> {
    HUNG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path that hangs.
#[derive(Clone, Debug)]
struct Hanging {
    since: Instant,
    /// Which mounts the newest look went to.
    mounts: Mounts,
    /// When it is looked at anew, and how long after that again.
    again: Instant,
    pause: Duration,
}

impl Hanging {
    /// Whether it is looked at anew: other `mounts` are there, or enough time passed. Counts as looked at, then.
    fn due(&mut self, now: Instant, mounts: Mounts) -> Due {
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
    pub fn trouble(&self, code: Code, what: &str) -> Trouble {
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
    receiver.recv_timeout(bound).map(|found| waiting.answered(found)).map_err(|_| waiting.give_up())
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
        Ok(Ok(found)) => Ok(waiting.answered(found)),
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
    let silent = |_| Silent { path: path.to_owned(), waited: waiting.started.elapsed() };
    receiver.await.map(|found| waiting.answered(found)).map_err(silent)
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
    mounts: Mounts,
    stand: Arc<Mutex<Stand>>,
}

/// How a look stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Looking,
    /// Nobody waits for it any more: its thread is counted.
    GivenUp,
    Done,
}

impl Waiting {
    fn start(path: &Path, kind: Kind, look: impl FnOnce() + Send + 'static) -> Result<Self, Silent> {
        let refused = |waited| Silent { path: path.to_owned(), waited };
        let mounts = mounts::at(path);
        let beside = {
            let (mut hung, now) = (hung(), Instant::now());
            if let Some(oldest) = hung.full(&mounts, now) {
                // What hangs at a mount that is not there any more makes room, whoever asks for what.
                let table = mounts::all();
                let is_over = |(path, each): &(&PathBuf, &Hanging)| mounts::of(&table, path) != each.mounts;
                hung.paths.iter().filter(is_over).for_each(|(path, _)| ahead::end(path));
                return Err(refused(hung.paths.get(path).map_or(oldest, |known| known.since).elapsed()));
            }
            let known = hung.paths.get_mut(path);
            let due = known.map(|known| (known.since, known.due(now, mounts.clone())));
            if let Some((since, _)) = due.filter(|(_, due)| *due == Due::Not) {
                return Err(refused(since.elapsed()));
            }
            if due.is_some() {
                // Where one of before still looks at what is not there any more.
                ahead::end(path);
            }
            let beside = due.filter(|(_, due)| *due == Due::Beside).map(|(since, _)| since);
            if beside.is_some() {
                hung.stuck(&mounts);
            }
            beside
        };
        let stand = Arc::new(Mutex::new(if beside.is_some() { Stand::GivenUp } else { Stand::Looking }));
        // However the look ends, by a panic too, and where there is no thread for it.
        let end = End { path: path.to_owned(), mounts: mounts.clone(), stand: stand.clone(), has_answered: true };
        let spawned = threads::run(move || {
            let mut end = end;
            match (ahead::send(&end.path), kind, beside) {
                // The caller was told, or a newer look is under way: whether the path answers is for that to say.
                (Sent::Ended, ..) => end.has_answered = false,
                (Sent::Back, Kind::Work, Some(_)) => touch(&end.path),
                (Sent::Back, ..) => look(),
            }
        });
        match (spawned, beside) {
            (Err(_), _) => Err(refused(Duration::ZERO)),
            (Ok(()), Some(since)) => Err(refused(since.elapsed())),
            (Ok(()), None) => Ok(Self { path: path.to_owned(), started: Instant::now(), mounts, stand }),
        }
    }

    /// Its thread is at its end, and is not counted.
    fn answered<T>(&self, found: T) -> T {
        *self.stand.lock().unwrap_or_else(PoisonError::into_inner) = Stand::Done;
        found
    }

    /// From now on the path hangs, until this look ends.
    fn give_up(&self) -> Silent {
        let mut since = self.started;
        if let Some(mut hung) = self.leave() {
            let known = hung.paths.entry(self.path.clone()).or_insert_with(|| Hanging {
                since: self.started,
                mounts: self.mounts.clone(),
                again: Instant::now() + AGAIN_FIRST,
                pause: AGAIN_FIRST * 2,
            });
            since = known.since;
        }
        Silent { path: self.path.clone(), waited: since.elapsed() }
    }

    /// Counts the thread as one that nobody waits for; none where it ended.
    fn leave(&self) -> Option<MutexGuard<'static, Hung>> {
        let mut stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        if *stand != Stand::Looking {
            return None;
        }
        *stand = Stand::GivenUp;
        let mut hung = hung();
        hung.stuck(&self.mounts);
        Some(hung)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The end of a look's thread.
struct End {
    path: PathBuf,
    mounts: Mounts,
    stand: Arc<Mutex<Stand>>,
    /// The path hangs no more.
    has_answered: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hung = hung();
        if std::mem::replace(&mut *stand, Stand::Done) == Stand::GivenUp {
            hung.unstuck(&self.mounts);
        }
        if self.has_answered {
            hung.paths.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
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
    fn so_many_threads_hang_at_once_and_no_more_and_there_is_room_again_when_they_end() {
        let (mut hung, first) = (Hung::default(), Instant::now());
        let (since, now) = (first + LOOK_MAX, first + 2 * LOOK_MAX);
        let (share, other) = (vec![1, 7], vec![1]);
        // However few paths they are at.
        (0..OF_ONE_MOUNT_MAX - 1).for_each(|_| hung.stuck(&share));
        assert_eq!(hung.full(&share, now), None);
        hung.stuck(&share);
        assert_eq!((hung.full(&share, now), hung.full(&other, now)), (Some(now), None));
        let of = |mounts: &Mounts, since| Hanging { since, mounts: mounts.clone(), again: now, pause: AGAIN_FIRST };
        hung.paths.insert("/share/a".into(), of(&share, since));
        hung.paths.insert("/other".into(), of(&other, first));
        assert_eq!(hung.full(&share, now), Some(since), "the oldest there");
        (0..STUCK_MAX - OF_ONE_MOUNT_MAX).for_each(|number| hung.stuck(&vec![100 + number as u64]));
        assert_eq!(hung.full(&other, now), Some(first), "the oldest of all");
        hung.unstuck(&vec![100]);
        assert_eq!(hung.full(&other, now), None);
        (0..OF_ONE_MOUNT_MAX).for_each(|_| hung.unstuck(&share));
        assert_eq!((hung.full(&share, now), hung.threads.contains_key(&share)), (None, false));
    }

    #[test]
    fn a_look_that_was_ended_for_a_newer_one_leaves_the_path_to_that() {
        let (path, now) = (PathBuf::from("/ended/for/another"), Instant::now());
        let known = Hanging { since: now, mounts: Mounts::new(), again: now + LOOK_MAX, pause: AGAIN_FIRST };
        hung().paths.insert(path.clone(), known);
        for has_answered in [false, true] {
            let stand = Arc::new(Mutex::new(Stand::Looking));
            drop(End { path: path.clone(), mounts: Mounts::new(), stand, has_answered });
            assert_eq!(hung().paths.contains_key(&path), !has_answered);
        }
    }

    #[tokio::test]
    async fn work_that_its_caller_leaves_is_counted_until_it_ends() {
        let path = Path::new("/left/work");
        let threads = || hung().threads.get(&mounts::at(path)).copied().unwrap_or_default();
        let before = threads();
        let (answer, asked) = mpsc::channel::<()>();
        let left = tokio::time::timeout(SHORT, work(path, move || asked.recv().is_ok())).await;
        assert!(left.is_err() && threads() > before, "{before}, {}", threads());
        // It says nothing of the path.
        assert_eq!(work(path, || 1).await, Ok(1));
        answer.send(()).unwrap();
        assert!((0..100_000).any(|_| {
            std::thread::yield_now();
            threads() <= before
        }));
    }

    #[tokio::test]
    async fn an_async_caller_waits_no_longer_either() {
        let path = Path::new("/silent/async");
        let (_answer, asked) = mpsc::channel::<()>();
        let silent = at(path, SHORT, move || asked.recv().is_ok()).await.unwrap_err();
        assert!(silent.waited >= SHORT, "{silent}");
        let trouble = silent.trouble(codes::PATH_HANGING, "the secret file");
        assert!(trouble.message.starts_with("the secret file /silent/async has not answered for "), "{trouble}");
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
