//! Locks in a repository, and the removal of those that are certainly ours and certainly dead.
//!
//! `restic unlock` removes every lock that it thinks stale: one older than half an hour, whosever it is. That is not what
//! is wanted here. Each lock is read and judged, and exactly those that are proven dead are removed, by deleting the
//! file `locks/<id>` of the repository, which is all that restic does as well.
//!
//! Whose is it? What a lock says (machine, user, pid, time) is compared with what we wrote down of our children when they
//! started, not with how this machine is called now: a container that was made anew has another name. Why a live lock is
//! never removed: whoever runs here under the lock's pid and may have made it counts as its holder. What ran in another
//! boot or in another namespace of pids is dead, since one state has one daemon at a time and a restic whose daemon is gone
//! ends with its pipe. Without our memory of it (another machine may have our name) a lock must also be older than
//! restic lets a live one become, since it refreshes it every five minutes. See `named` for all others.

mod named;
mod others;

use jiff::{SignedDuration, Timestamp};

use super::children::{Child, Children, host_name, user_name};
use super::control::on_storage;
use super::error::ToldLock;
use super::messages::{self, LockInfo};
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::{self, Context, Habitat, ProcessSeen};
use crate::storage::StorageError;
use crate::types::Name;

pub use others::has_locks;

/// A live restic refreshes its lock every five minutes; this much is no hiccup.
const REFRESH_MAX: SignedDuration = SignedDuration::from_mins(15);
/// restic's own bound: a lock that was not refreshed for so long is nobody's.
const STALE: SignedDuration = SignedDuration::from_mins(30);
/// Hex digits of an id that are shown; two locks that share them don't happen.
const SHORT_CHARS: usize = 10;
/// Clocks of the kernel and of the lock differ by rounding.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(3);
/// Most locks that are read at once; each costs a call of restic.
const LOCKS_MAX: usize = 50;

/// One lock of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub id: String,
    pub info: LockInfo,
}

impl Lock {
    /// Whether restic itself would call it stale: for so long no living process leaves one unrefreshed.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.info.created) > STALE
    }

    /// `lock 0123abcd of root@pi (process 4495), exclusive, refreshed 1h 30m ago`
    #[must_use]
    pub fn show(&self, now: Timestamp) -> String {
        let LockInfo { created, exclusive, .. } = &self.info;
        let age = now.duration_since(*created);
        let age = match std::time::Duration::try_from(age) {
            Ok(age) => format!("refreshed {} ago", crate::types::show_duration(age)),
            Err(_) => format!("dated {} in the future", crate::types::show_duration(age.unsigned_abs())),
        };
        let kind = if *exclusive { "exclusive" } else { "shared" };
        format!("lock {} of {}, {kind}, {age}", self.short(), self.holder())
    }

    /// `root@pi (process 4495)`
    #[must_use]
    pub fn holder(&self) -> String {
        let LockInfo { host, user, pid, .. } = &self.info;
        let user = if user.is_empty() { "somebody" } else { user };
        format!("{user}@{host} (process {pid})")
    }

    pub(super) fn told(&self, destination: &Name, now: Timestamp) -> ToldLock {
        let command = format!("larder destination unlock {destination} --lock {}", self.short());
        ToldLock { shown: self.show(now), stale: self.is_stale(now), command }
    }

    /// As much of the id as a command takes.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..SHORT_CHARS).unwrap_or(&self.id)
    }
}

/// What came of looking for dead locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unlocked {
    pub removed: Vec<Lock>,
    pub left: Vec<Lock>,
}

/// Whether a lock may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    OursAndDead,
    Alive,
    /// Somebody else's, or not proven to be ours.
    Foreign,
}

/// Who we are, as a lock would say it.
struct Here {
    host: String,
    user: Option<String>,
    habitat: Option<Habitat>,
    now: Timestamp,
}

impl Restic {
    /// The locks of the repository, at most [`LOCKS_MAX`].
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn locks(&self, access: &RepositoryAccess, context: &Context) -> Result<Vec<Lock>, EngineError> {
        let call = Call::new("list", &["locks"]).without_lock();
        let (answer, output) = self.collect(access, context, &call).await?;
        answer.success("list locks", access)?;
        let mut locks = Vec::new();
        for id in output.lines().map(str::trim).filter(|line| messages::is_id(line)).take(LOCKS_MAX) {
            let call = Call::new("cat", &["lock", id]).without_lock();
            let (answer, output) = self.collect(access, context, &call).await?;
            // One that vanished meanwhile, or that can't be read, is not judged.
            if answer.success("cat lock", access).is_ok()
                && let Some(info) = messages::lock(&output)
            {
                locks.push(Lock { id: id.to_owned(), info });
            }
        }
        Ok(locks)
    }

    /// Removes the locks that are ours and whose process is dead; all others stay.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn unlock_own_dead(&self, access: &RepositoryAccess, context: &Context) -> Result<Unlocked, EngineError> {
        self.check_identity(access, context).await?;
        let locks = self.locks(access, context).await?;
        let here = Here { host: host_name(), user: user_name(), habitat: process::habitat(), now: Timestamp::now() };
        let children = Children::open(&access.cache)?.all(here.now);
        let mut unlocked = Unlocked::default();
        for lock in locks {
            let process = process::seen(lock.info.pid);
            let dead = judge(&lock.info, &here, &children, process.as_ref()) == Standing::OursAndDead;
            if dead && remove(access, &lock.id).await {
                unlocked.removed.push(lock);
            } else {
                unlocked.left.push(lock);
            }
        }
        Ok(unlocked)
    }
}

/// `process` is what runs here under the lock's pid.
fn judge(lock: &LockInfo, here: &Here, children: &[Child], process: Option<&ProcessSeen>) -> Standing {
    let children: Vec<&Child> = children.iter().filter(|child| i64::from(child.pid) == lock.pid).collect();
    // The newest that was there before the lock: of two children with one pid only the later can have made it.
    let maker = children.iter().filter(|child| may_have_made(child, lock, here)).max_by_key(|child| child.started);
    let of_this_host = !lock.host.is_empty() && lock.host == here.host;
    let in_reach = of_this_host || maker.is_some_and(|maker| maker.habitat == here.habitat);
    if let Some(process) = process.filter(|_| in_reach) {
        let started_later = process.started > lock.created.saturating_add(CLOCK_SLACK).unwrap_or(lock.created);
        // A pid that was given to another program since is not the holder; a clock that was set must not fool us, so
        // anything that calls itself restic counts as the holder, unless we know better since we started it.
        let known = children.iter().any(|child| child.is(process, here.habitat.as_ref()));
        if !started_later || (process.name == "restic" && !known) {
            return Standing::Alive;
        }
    }
    if maker.is_some() {
        return Standing::OursAndDead;
    }
    let of_this_user = here.user.as_ref().is_some_and(|user| *user == lock.user);
    let unrefreshed = here.now.duration_since(lock.created) > REFRESH_MAX;
    if of_this_host && of_this_user && unrefreshed { Standing::OursAndDead } else { Standing::Foreign }
}

/// Whether what the lock says is what `child` would have written.
fn may_have_made(child: &Child, lock: &LockInfo, here: &Here) -> bool {
    let (host, user) = (child.host.as_ref().unwrap_or(&here.host), child.user.as_ref().or(here.user.as_ref()));
    // restic leaves the user out where the system does not know its name.
    let same_user = lock.user.is_empty() || user.is_some_and(|user| *user == lock.user);
    !lock.host.is_empty() && *host == lock.host && same_user && child.started.duration_since(lock.created) < CLOCK_SLACK
}

/// Takes the lock's file away, which is all that restic does as well.
async fn remove(access: &RepositoryAccess, id: &str) -> bool {
    if !messages::is_id(id) {
        return false;
    }
    let name = format!("locks/{id}");
    let removed = on_storage(access, move |storage| match storage.delete(&name) {
        Err(StorageError::NotFound { .. }) => Ok(()),
        done => done,
    });
    removed.await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn habitat(name: &str) -> Habitat {
        Habitat { boot: "boot".to_owned(), namespace: name.to_owned() }
    }

    fn child(started: i64, ticks: u64, host: &str, place: &str) -> Child {
        Child {
            pid: 42,
            started: at(started),
            ticks: Some(ticks),
            habitat: Some(habitat(place)),
            host: Some(host.to_owned()),
            user: Some("root".to_owned()),
        }
    }

    /// `process`: name, start, ticks.
    fn judge_of(lock: (&str, &str), age: i64, children: &[Child], process: Option<(&str, i64, u64)>) -> Standing {
        let here =
            Here { host: "nas".to_owned(), user: Some("root".to_owned()), habitat: Some(habitat("here")), now: at(0) };
        let info =
            LockInfo { created: at(-age), exclusive: true, host: lock.0.to_owned(), user: lock.1.to_owned(), pid: 42 };
        let process =
            process.map(|(name, started, ticks)| ProcessSeen { name: name.to_owned(), started: at(started), ticks });
        judge(&info, &here, children, process.as_ref())
    }

    fn judged(lock: (&str, &str), age: i64, child_started: Option<i64>, process: Option<(&str, i64)>) -> Standing {
        let children: Vec<Child> = child_started
            .map(|started| Child { ticks: None, ..child(started, 0, "nas", "here") })
            .into_iter()
            .collect();
        judge_of(lock, age, &children, process.map(|(name, started)| (name, started, 1)))
    }

    #[test]
    fn only_a_lock_that_is_ours_and_dead_may_go() {
        use Standing::{Alive, Foreign, OursAndDead};
        let ours = ("nas", "root");
        // Remembered and gone: at once.
        assert_eq!(judged(ours, 10, Some(-11), None), OursAndDead);
        // Not remembered: only when it is too old to be alive.
        assert_eq!(judged(ours, 10, None, None), Foreign);
        assert_eq!(judged(ours, 3600, None, None), OursAndDead);
        // Remembered, but the lock is from before that process: an older holder of the same pid.
        assert_eq!(judged(ours, 100, Some(-10), None), Foreign);
        // Alive.
        assert_eq!(judged(ours, 10, Some(-11), Some(("restic", -11))), Alive);
        assert_eq!(judged(ours, 3600, None, Some(("restic", -1))), Alive);
        assert_eq!(judged(ours, 10, None, Some(("rclone", -11))), Alive);
        // The pid belongs to something that started after the lock was made.
        assert_eq!(judged(ours, 100, Some(-101), Some(("sh", -10))), OursAndDead);
        // Another machine, another user.
        assert_eq!(judged(("pi", "root"), 99_999, Some(-100_000), None), Foreign);
        assert_eq!(judged(("nas", "me"), 99_999, Some(-100_000), None), Foreign);
        assert_eq!(judged(("", "root"), 99_999, None, None), Foreign);
    }

    #[test]
    fn what_we_started_is_ours_whatever_this_machine_is_called_now() {
        use Standing::{Alive, Foreign, OursAndDead};
        let before = child(-101, 7, "5f0c2b9d77aa", "another");
        let of_then = ("5f0c2b9d77aa", "root");
        assert_eq!(judge_of(of_then, 100, std::slice::from_ref(&before), None), OursAndDead);
        // Exclusive or not, refreshed or not; and where the system knows no name of the user.
        assert_eq!(judge_of(("5f0c2b9d77aa", ""), 3, std::slice::from_ref(&before), None), OursAndDead);
        // In the new container the same pid is somebody else's, even our next restic's.
        assert_eq!(judge_of(of_then, 100, std::slice::from_ref(&before), Some(("larder", -50, 9))), OursAndDead);
        let next = child(-10, 9, "nas", "here");
        assert_eq!(judge_of(of_then, 100, &[before.clone(), next], Some(("restic", -10, 9))), OursAndDead);
        // Another machine, or another process.
        assert_eq!(judge_of(("77aa5f0c2b9d", "root"), 100, std::slice::from_ref(&before), None), Foreign);
        assert_eq!(judge_of(of_then, 200, &[before], None), Foreign);
        // The machine was renamed while our child runs.
        let renamed = child(-101, 7, "oldname", "here");
        assert_eq!(
            judge_of(("oldname", "root"), 100, std::slice::from_ref(&renamed), Some(("restic", -101, 7))),
            Alive
        );
        assert_eq!(judge_of(("oldname", "root"), 100, &[renamed], None), OursAndDead);
    }

    #[test]
    fn a_fixed_name_and_a_small_pid_are_told_apart() {
        use Standing::{Alive, OursAndDead};
        // `hostname: nas` in the compose file: the same name and the same pid in every container.
        let (dead, next) = (child(-101, 7, "nas", "another"), child(-10, 9, "nas", "here"));
        let ours = ("nas", "root");
        let both = [dead, next];
        assert_eq!(judge_of(ours, 100, &both, Some(("restic", -10, 9))), OursAndDead);
        assert_eq!(judge_of(ours, 8, &both, Some(("restic", -10, 9))), Alive);
        // A restic that somebody started by hand, in the same second as far as we can tell.
        assert_eq!(judge_of(ours, 100, &both, Some(("restic", -99, 8))), Alive);
        assert_eq!(judge_of(ours, 100, &both, Some(("restic", -5, 8))), Alive);
    }

    #[test]
    fn a_lock_is_shown_with_its_id_owner_and_age() {
        let info =
            LockInfo { created: at(-5400), exclusive: true, host: "pi".to_owned(), user: "root".to_owned(), pid: 4495 };
        let lock = Lock { id: "0123456789abcdef".repeat(4), info };
        let shown = "lock 0123456789 of root@pi (process 4495), exclusive, refreshed 1h 30m ago";
        assert_eq!(lock.show(at(0)), shown);
        assert!(lock.is_stale(at(0)) && !lock.is_stale(at(-3700)));
        let told = lock.told(&Name::parse("nas").unwrap(), at(0));
        assert_eq!(told.command, "larder destination unlock nas --lock 0123456789");
        assert!(lock.show(at(-6000)).ends_with("dated 10m in the future"), "{}", lock.show(at(-6000)));
    }
}
