//! Threads for looks: one that is done waits a moment for the next look, since a run looks some thirty times.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many wait at most; a look that hangs keeps its thread, and the next one has another.
const IDLE_MAX: usize = 4;
/// How long one waits.
const IDLE_FOR: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// Those that wait, the one that came last at the end.
static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

struct Idle {
    thread: std::thread::ThreadId,
    jobs: SyncSender<Job>,
}

fn idle() -> MutexGuard<'static, Vec<Idle>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `job` on a thread that does nothing else meanwhile.
///
/// # Errors
/// There is no thread for it; `job` is dropped then.
pub(super) fn run(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut job: Job = Box::new(job);
    loop {
        let Some(waiting) = idle().pop() else { break };
        match waiting.jobs.send(job) {
            Ok(()) => return Ok(()),
            Err(unsent) => job = unsent.0,
        }
    }
    std::thread::Builder::new().name("larder-look".to_owned()).spawn(move || work(job)).map(drop)
}

fn work(first: Job) {
    let (sender, jobs) = sync_channel(1);
    let mut job = first;
    loop {
        job();
        let Some(next) = wait(&sender, &jobs) else { return };
        job = next;
    }
}

fn wait(sender: &SyncSender<Job>, jobs: &Receiver<Job>) -> Option<Job> {
    let thread = std::thread::current().id();
    {
        let mut idle = idle();
        if idle.len() >= IDLE_MAX {
            return None;
        }
        idle.push(Idle { thread, jobs: sender.clone() });
    }
    match jobs.recv_timeout(IDLE_FOR) {
        Ok(job) => Some(job),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            let mut idle = idle();
            let before = idle.len();
            idle.retain(|each| each.thread != thread);
            let was_taken = idle.len() == before;
            drop(idle);
            // Somebody took this thread just now, and sends it a job.
            if was_taken { jobs.recv().ok() } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_look_behind_another_needs_no_new_thread_and_looks_at_once_have_one_each() {
        let (told, heard) = channel();
        let look = |told: std::sync::mpsc::Sender<std::thread::ThreadId>| {
            run(move || told.send(std::thread::current().id()).unwrap()).unwrap();
        };
        // Other tests look meanwhile, so one may be taken by them.
        let again = (0..100).any(|_| {
            look(told.clone());
            let first = heard.recv().unwrap();
            std::thread::sleep(Duration::from_millis(5));
            look(told.clone());
            heard.recv().unwrap() == first
        });
        assert!(again);
        let (free, held) = channel::<()>();
        let (held, threads) = (std::sync::Arc::new(Mutex::new(held)), 3 * IDLE_MAX);
        for _ in 0..threads {
            let (told, held) = (told.clone(), held.clone());
            run(move || {
                told.send(std::thread::current().id()).unwrap();
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            })
            .unwrap();
        }
        let all: std::collections::HashSet<_> = (0..threads).map(|_| heard.recv().unwrap()).collect();
        assert_eq!(all.len(), threads);
        drop(free);
    }

    #[test]
    fn a_look_that_breaks_takes_no_other_one_along() {
        let (told, heard) = channel();
        run(|| panic!("broken on purpose")).unwrap();
        run(move || told.send(7).unwrap()).unwrap();
        assert_eq!(heard.recv(), Ok(7));
    }
}
