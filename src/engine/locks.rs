//! Locks in a repository, and the removal of those that are certainly ours and certainly dead.
//!
//! `restic unlock` removes every lock that it thinks stale: one older than half an hour, whosever it is. That is not what
//! is wanted here. Each lock is read and judged, and exactly those that are proven dead are removed, by deleting the
//! file `locks/<id>` of a local repository, which is all that restic does as well. In other repositories nothing is
//! removed yet: there a lock is reported with who holds it.
//!
//! Why a live lock is never removed: it names its host, user and pid. A pid that runs as restic here is alive. One that
//! does not run is ours beyond doubt when we remember having started it; without that memory (another machine may have
//! our name) the lock must also be older than restic lets a live one become, since it refreshes it every five minutes.

use jiff::{SignedDuration, Timestamp};

use super::children::{Child, Children};
use super::messages::{self, LockInfo};
use super::repository::local_path;
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::{self, Context, ProcessSeen};

/// A live restic refreshes its lock every five minutes; this much is no hiccup.
const REFRESH_MAX: SignedDuration = SignedDuration::from_mins(15);
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
        let children = Children::open(&access.cache)?;
        let here = Here { host: host_name(), user: user_name(), now: Timestamp::now() };
        let mut unlocked = Unlocked::default();
        for lock in locks {
            let child = children.get(lock.info.pid, here.now);
            let process = process::seen(lock.info.pid);
            let dead = judge(&lock.info, &here, child.as_ref(), process.as_ref()) == Standing::OursAndDead;
            if dead && remove(access, &lock.id) {
                unlocked.removed.push(lock);
            } else {
                unlocked.left.push(lock);
            }
        }
        Ok(unlocked)
    }
}

fn judge(lock: &LockInfo, here: &Here, child: Option<&Child>, process: Option<&ProcessSeen>) -> Standing {
    if lock.host != here.host || lock.host.is_empty() || here.user.as_ref().is_none_or(|user| *user != lock.user) {
        return Standing::Foreign;
    }
    if let Some(process) = process {
        // A pid that was given to another program since is not the holder; a clock that was set must not fool us, so
        // anything that calls itself restic counts as the holder.
        let started_later = process.started > lock.created.saturating_add(CLOCK_SLACK).unwrap_or(lock.created);
        if process.name == "restic" || !started_later {
            return Standing::Alive;
        }
    }
    let was_ours = child.is_some_and(|child| child.started.duration_since(lock.created) < CLOCK_SLACK);
    let unrefreshed = here.now.duration_since(lock.created) > REFRESH_MAX;
    if was_ours || unrefreshed { Standing::OursAndDead } else { Standing::Foreign }
}

fn remove(access: &RepositoryAccess, id: &str) -> bool {
    let Some(path) = local_path(access).filter(|_| messages::is_id(id)) else { return false };
    match std::fs::remove_file(path.join("locks").join(id)) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn user_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn judged(lock: (&str, &str), age: i64, child_started: Option<i64>, process: Option<(&str, i64)>) -> Standing {
        let here = Here { host: "nas".to_owned(), user: Some("root".to_owned()), now: at(0) };
        let info =
            LockInfo { created: at(-age), exclusive: true, host: lock.0.to_owned(), user: lock.1.to_owned(), pid: 42 };
        let child = child_started.map(|started| Child { pid: 42, started: at(started) });
        let process = process.map(|(name, started)| ProcessSeen { name: name.to_owned(), started: at(started) });
        judge(&info, &here, child.as_ref(), process.as_ref())
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
}
