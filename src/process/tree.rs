//! A child with everything that it started: found by mark, group and descent; ended; reaped.
//!
//! How nothing escapes: every descendant inherits the mark, also one that leaves the group with `setsid` and daemonizes.
//! This process is a subreaper, so orphans become its children and can be reaped. How nobody else is hit: only processes
//! that carry this child's own word, are in its group or descend from such, and are not older than it, are ever
//! signalled; only those, and orphans that no one else here can have started, are ever waited for.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getsid};
use tokio::process::Child;

use super::MARK;
use super::table::{self, Process};

/// How long KILL may take to empty a tree; a process in uninterruptible sleep is reported then.
const KILL_MAX: Duration = Duration::from_secs(10);
/// How often dead processes of a tree that was left alive are looked for.
const TEND_EVERY: Duration = Duration::from_secs(15);
/// How long it may take to ask a tree to end.
const TERMINATE_MAX: Duration = Duration::from_secs(5);
/// Between two looks at the process table while a tree is being ended: first, and at most.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Between TERM and KILL for what a crashed daemon left behind: restic removes its lock meanwhile.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// The direct children that tokio will reap; nobody else may.
static LEADERS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// One running child and its descendants. When dropped before it is released, everything in it is killed.
pub(super) struct Tree {
    pub(super) root: Arc<Root>,
    pub(super) released: bool,
}

/// What identifies a tree.
pub(super) struct Root {
    leader: i32,
    leader_reaped: AtomicBool,
    /// The leader's start; no descendant is older.
    started: u64,
    /// The word in the mark that only this tree has.
    pub(super) word: String,
}

/// A process that an earlier daemon left behind and that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub pid: i32,
    /// The program's name, at most 15 bytes.
    pub name: String,
    /// The words of its mark: which run it belonged to.
    pub mark: String,
    /// False when it could not be killed (not permitted, or in uninterruptible sleep).
    pub gone: bool,
}

impl Tree {
    /// Spawns `command`, whose environment already holds `word` in its mark.
    pub(super) fn start(mut command: tokio::process::Command, word: String) -> io::Result<(Child, Self)> {
        become_subreaper();
        // Held over the spawn: a sweep of another tree must not see the new child as a stranger.
        let mut leaders = LEADERS.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let leader = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        leaders.insert(leader);
        drop(leaders);
        let started = table::one(leader).map_or(u64::MAX, |process| process.started);
        let root = Root { leader, leader_reaped: AtomicBool::new(false), started, word };
        Ok((child, Self { root: Arc::new(root), released: false }))
    }

    /// From now on the leader's pid may be anybody's.
    pub(super) fn leader_is_reaped(&self) {
        self.root.leader_reaped.store(true, Ordering::Relaxed);
        LEADERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.root.leader);
    }

    /// Asks everything in the tree to end; what is stopped is continued, so that it can.
    pub(super) async fn terminate(&self) {
        let root = Arc::clone(&self.root);
        // Reading `/proc` can block behind a process in uninterruptible sleep: never on a worker of the runtime, and not
        // for ever.
        let swept = tokio::task::spawn_blocking(move || root.terminate(&mut BTreeSet::new()));
        if tokio::time::timeout(TERMINATE_MAX, swept).await.is_err() {
            self.root.signal_group(Signal::SIGTERM);
        }
    }

    /// Ends everything in the tree, by TERM and after `grace` by KILL (at once when `grace` is zero); returns the pids
    /// that did not go.
    pub(super) async fn end(&self, grace: Duration) -> Vec<i32> {
        let root = Arc::clone(&self.root);
        let ended = tokio::task::spawn_blocking(move || root.end(grace));
        match tokio::time::timeout(grace + KILL_MAX * 2, ended).await {
            Ok(survivors) => survivors.unwrap_or_default(),
            Err(_) => vec![self.root.leader],
        }
    }

    /// Says that the tree is gone.
    pub(super) fn release(mut self) {
        self.released = true;
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let root = Arc::clone(&self.root);
        root.signal_group(Signal::SIGKILL);
        // From here on tokio may reap the leader at any time.
        root.leader_reaped.store(true, Ordering::Relaxed);
        // A plain thread, since the runtime may be on its way down. Without one, the group at least was killed.
        let _ = std::thread::Builder::new().name("larder-end-tree".to_owned()).spawn(move || {
            root.end(Duration::ZERO);
            LEADERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&root.leader);
        });
    }
}

/// Reaps whoever of a tree that was left alive dies, until nobody is left.
pub(super) async fn tend(root: Arc<Root>) {
    let mut known = BTreeSet::new();
    loop {
        let (theirs, mut seen) = (Arc::clone(&root), std::mem::take(&mut known));
        let looked = tokio::task::spawn_blocking(move || {
            let table = table::read();
            let gone = theirs.members(&table, &mut seen).is_empty();
            theirs.reap_orphans(&table, &seen);
            (gone, seen)
        });
        match looked.await {
            Ok((false, seen)) => known = seen,
            _ => return,
        }
        tokio::time::sleep(TEND_EVERY).await;
    }
}

impl Root {
    /// The living processes of the tree. `known` remembers who was seen once, also when their parents are gone.
    pub(super) fn members(&self, table: &[Process], known: &mut BTreeSet<(i32, u64)>) -> Vec<Process> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let candidates: Vec<&Process> =
            table.iter().filter(|process| process.started >= self.started && process.pid != own).collect();
        let mut ours: BTreeSet<i32> = candidates
            .iter()
            .filter(|process| {
                process.group == self.leader
                    || known.contains(&(process.pid, process.started))
                    || (!process.zombie && carries(process.pid, |word| word == self.word))
            })
            .map(|process| process.pid)
            .collect();
        add_descendants(&candidates, &mut ours);
        let members: Vec<Process> =
            candidates.into_iter().filter(|process| ours.contains(&process.pid)).cloned().collect();
        known.extend(members.iter().map(|process| (process.pid, process.started)));
        members.into_iter().filter(|process| !process.zombie).collect()
    }

    fn terminate(&self, known: &mut BTreeSet<(i32, u64)>) {
        let members = self.members(&table::read(), known);
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            self.send(&members, signal);
        }
    }

    /// Signals each member once: those in the group by the group, while its number is certainly still the leader's.
    fn send(&self, members: &[Process], signal: Signal) {
        let by_group = self.signal_group(signal);
        for process in members.iter().filter(|process| !by_group || process.group != self.leader) {
            send(process, signal);
        }
    }

    fn signal_group(&self, signal: Signal) -> bool {
        let certain = self.leader > 1 && !self.leader_reaped.load(Ordering::Relaxed);
        certain && killpg(Pid::from_raw(self.leader), signal).is_ok()
    }

    fn end(&self, grace: Duration) -> Vec<i32> {
        let mut known = BTreeSet::new();
        if !grace.is_zero() {
            // Nearly always: a look at all processes is what a small child costs most.
            if self.living(&mut known).is_empty() {
                return Vec::new();
            }
            self.terminate(&mut known);
            self.wait_until_empty(grace, None, &mut known);
        }
        self.wait_until_empty(KILL_MAX, Some(Signal::SIGKILL), &mut known)
    }

    /// Who lives, behind one look; the dead that fell to us are reaped.
    fn living(&self, known: &mut BTreeSet<(i32, u64)>) -> Vec<Process> {
        let table = table::read();
        let members = self.members(&table, known);
        self.reap_orphans(&table, known);
        if members.is_empty() && known.len() > 1 {
            // A parent may have died behind our look at its child, which fell to us only then.
            self.reap_orphans(&table::read(), known);
        }
        members
    }

    /// Looks again until nobody lives or `bound` is over, with `signal` to all at every look; then who is left.
    fn wait_until_empty(&self, bound: Duration, signal: Option<Signal>, known: &mut BTreeSet<(i32, u64)>) -> Vec<i32> {
        let start = Instant::now();
        let mut pause = LOOK_MIN;
        loop {
            let members = self.living(known);
            if members.is_empty() || start.elapsed() >= bound {
                return members.iter().map(|process| process.pid).collect();
            }
            if let Some(signal) = signal {
                self.send(&members, signal);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// Reaps dead processes that fell to us: members of this tree, and those that left their session before anybody
    /// saw them (a direct child of ours is in our session or among [`LEADERS`], so it is never taken from its owner).
    fn reap_orphans(&self, table: &[Process], known: &BTreeSet<(i32, u64)>) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let session = getsid(None).map_or(0, Pid::as_raw);
        let leaders = LEADERS.lock().unwrap_or_else(PoisonError::into_inner);
        for process in table.iter().filter(|process| process.zombie && process.parent == own) {
            let ours = process.group == self.leader || known.contains(&(process.pid, process.started));
            let left_its_session = process.started >= self.started && process.session != session;
            if (ours || left_its_session) && !leaders.contains(&process.pid) && process.pid != self.leader {
                let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

/// Ends what a crashed daemon with the same state left behind. Call it once, at the start, before any child is run;
/// it blocks for up to some seconds when there is something.
///
/// Only processes whose mark has a word of `state_id` and none that is `spared` are touched; never this process or one
/// that it descends from.
pub fn reap_leftovers(state_id: &str, spared: &BTreeSet<String>) -> Vec<Leftover> {
    let prefix = format!("{state_id}:");
    let mut found: Vec<(Process, String)> = Vec::new();
    let mut pause = LOOK_MIN;
    let start = Instant::now();
    loop {
        let living = marked_with(&prefix, spared);
        for (process, mark) in &living {
            if !found.iter().any(|(known, _)| (known.pid, known.started) == (process.pid, process.started)) {
                send(process, Signal::SIGTERM);
                send(process, Signal::SIGCONT);
                found.push((process.clone(), mark.clone()));
            }
        }
        let waited = start.elapsed();
        if living.is_empty() || waited > LEFTOVER_GRACE + KILL_MAX {
            let gone = |process: &Process| !living.iter().any(|(alive, _)| alive.pid == process.pid);
            return found
                .into_iter()
                .map(|(process, mark)| Leftover { gone: gone(&process), pid: process.pid, name: process.name, mark })
                .collect();
        }
        if waited > LEFTOVER_GRACE {
            for (process, _) in &living {
                send(process, Signal::SIGKILL);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// Ends children of an earlier daemon that [`reap_leftovers`] could not know yet: a child that was being started at the
/// very moment of the crash carries its mark only a little later. Children of this process are spared.
pub fn reap_stragglers(state_id: &str, spared: &BTreeSet<String>) -> Vec<Leftover> {
    let (prefix, own) = (format!("{state_id}:"), std::process::id().to_string());
    let of_another = |mark: &str| {
        // `<state>:<run>:<pid>.<n>`: the first such word was written by the daemon itself.
        let word = mark.split(' ').find(|word| word.starts_with(&prefix));
        word.and_then(|word| word.rsplit(':').next()?.split('.').next()).is_some_and(|pid| pid != own)
    };
    let late = marked_with(&prefix, spared).into_iter().filter(|(_, mark)| of_another(mark));
    late.map(|(process, mark)| {
        send(&process, Signal::SIGKILL);
        Leftover { pid: process.pid, name: process.name, mark, gone: true }
    })
    .collect()
}

/// The living processes with a word that starts with `prefix`, with their marks; without us, our ancestors and those with
/// a word that is `living_on`.
fn marked_with(prefix: &str, living_on: &BTreeSet<String>) -> Vec<(Process, String)> {
    let table = table::read();
    let mut spared = BTreeSet::new();
    let mut next = i32::try_from(std::process::id()).ok();
    while let Some(pid) = next.filter(|pid| *pid > 0 && spared.insert(*pid)) {
        next = table.iter().find(|process| process.pid == pid).map(|process| process.parent);
    }
    table
        .into_iter()
        .filter(|process| !process.zombie && !spared.contains(&process.pid))
        .filter_map(|process| {
            let mark = table::environment(process.pid, MARK)?;
            let left_alive = mark.split(' ').any(|word| living_on.contains(word));
            let ours = mark.split(' ').any(|word| word.starts_with(prefix));
            (ours && !left_alive).then_some((process, mark))
        })
        .collect()
}

fn carries(pid: i32, is_ours: impl Fn(&str) -> bool) -> bool {
    table::environment(pid, MARK).is_some_and(|mark| mark.split(' ').any(is_ours))
}

fn add_descendants(candidates: &[&Process], ours: &mut BTreeSet<i32>) {
    loop {
        let before = ours.len();
        for process in candidates {
            if ours.contains(&process.parent) {
                ours.insert(process.pid);
            }
        }
        if ours.len() == before {
            return;
        }
    }
}

/// Signals the process if it is still the one that was seen.
fn send(process: &Process, signal: Signal) {
    if table::one(process.pid).is_some_and(|now| now.started == process.started && !now.zombie) {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

fn become_subreaper() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // Without it orphans fall to init, which reaps them as well; they are killed all the same.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    });
}
