//! The locks on everything that a bucket's repository has: looked at, extended where they end soon, and how long they hold.
//!
//! What it costs: a list call for each thousand versions, a `HEAD` for each object every time, and where a lock is extended
//! (each some days) a `PUT` and another `HEAD`, since only what the storage shows is believed. Of one look at 10,000 objects
//! AWS wants some half a cent; with 20 ms a call it takes half a minute by [`WORKERS`] at once. `locks/` is never touched:
//! restic deletes those, and they would be paid for as long as the data.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::bulk::Kept;
use super::horizon::{Horizon, Look, extension, there};
use super::names::{Kind, Names, patiently};
use super::versions::Lock;
use super::{S3, Version};
use crate::config::model::ObjectLock;
use crate::storage::{ControlClient as _, S3Place, StorageError};

/// Calls that are on their way at once.
const WORKERS: usize = 8;
/// How many that could not be extended are named.
const FAILURES_MAX: usize = 5;
/// After so many that could not, and none that could, the rest is looked at only.
const REFUSED_MAX: u64 = 50;
/// By how much the storage's clock may differ from ours, in seconds: a lock that was put for years by mistake stays.
const SKEW_S_MAX: i64 = 300;

/// What was found, and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    pub horizon: Horizon,
    /// Of which instant it speaks, by our clock.
    pub at: Timestamp,
    /// Snapshots that were there.
    pub snapshots: u64,
    /// Versions that were looked at.
    pub objects: u64,
    pub extended: u64,
    /// Could not be looked at, or not extended.
    pub failed: u64,
    /// The first of those.
    pub failures: Vec<Kept>,
    /// It was stopped before the end, so the horizon says nothing.
    pub is_stopped: bool,
}

/// One version that is to be looked at.
struct Wanted {
    name: String,
    id: String,
    is_latest: bool,
}

/// What became of it.
enum Seen {
    /// The lock that the storage shows, whether it was extended, and why not where it should have been.
    Lock {
        lock: Option<Lock>,
        extended: bool,
        failure: Option<Kept>,
    },
    /// An older version that is gone for good.
    Gone,
    Unknown(Kept),
    /// Nobody is there to ask.
    Over(StorageError),
}

/// Extends the locks on all that is there where they end soon, and tells until when all of them hold. `tell` hears how far
/// it is, and stops it.
///
/// # Errors
/// The storage is not reached, does not know the login, or its clock differs; what fails for one object is in the answer.
pub fn extend_locks(
    place: &S3Place,
    patience: Duration,
    rule: ObjectLock,
    tell: &mut dyn FnMut(&Extended) -> ControlFlow<()>,
) -> Result<Extended, StorageError> {
    let client = S3::open(place, patience)?;
    let now = client.time()?;
    let mut round = Round::begun(rule, now);
    let clients: Vec<S3> = (0..WORKERS).map(|_| S3::open(place, patience)).collect::<Result<_, _>>()?;
    let brakes = Brakes::default();
    let (wants, wanted) = mpsc::sync_channel::<Wanted>(4 * WORKERS);
    let (sees, seen) = mpsc::channel();
    let wanted = Mutex::new(wanted);
    let (wanted, brakes) = (&wanted, &brakes);
    std::thread::scope(|scope| {
        for client in clients {
            let sees = sees.clone();
            scope.spawn(move || {
                loop {
                    let next = wanted.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let (Ok(next), false) = (next, brakes.is_over.load(Ordering::Relaxed)) else { return };
                    let act = if brakes.refuses.load(Ordering::Relaxed) { Act::Look } else { Act::Extend };
                    if sees.send(client.look_at(next, rule, now, act)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sees);
        let listed = round.list(&client, &wants, &seen, brakes, tell);
        drop(wants);
        let all = match listed {
            Ok(()) if !round.done.is_stopped => seen.iter().try_for_each(|each| round.take(each)),
            other => other,
        };
        brakes.is_over.store(true, Ordering::Relaxed);
        all
    })?;
    Ok(round.told())
}

/// What the workers are told while they work.
#[derive(Default)]
struct Brakes {
    /// The storage lets nothing be extended.
    refuses: AtomicBool,
    /// Nobody waits for more.
    is_over: AtomicBool,
}

/// Whether a lock that ends soon is extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Look,
    Extend,
}

impl S3 {
    /// What the clock there says.
    fn time(&self) -> Result<Timestamp, StorageError> {
        patiently(|| self.versions(Kind::Config.prefix(), None))?;
        let skew_s = self.http.skew_s();
        if skew_s.is_some_and(|skew| skew.abs() > SKEW_S_MAX) {
            return Err(StorageError::Clock { place: self.shown(), skew_s });
        }
        let skew = SignedDuration::from_secs(skew_s.unwrap_or(0));
        let ours = Timestamp::now();
        Ok(ours.saturating_add(skew).unwrap_or(ours))
    }

    fn look_at(&self, wanted: Wanted, rule: ObjectLock, now: Timestamp, act: Act) -> Seen {
        let Wanted { name, id, is_latest } = wanted;
        let id = Some(id.as_str()).filter(|id| !id.is_empty());
        let kept = |why: String| Kept { name: name.clone(), why };
        let lock = match patiently(|| self.lock_on(&name, id)) {
            Ok(lock) => lock,
            Err(StorageError::NotFound { .. }) if !is_latest => return Seen::Gone,
            Err(error) if error.is_of_the_way() || error.is_of_the_login() => return Seen::Over(error),
            Err(error) => return Seen::Unknown(kept(error.to_string())),
        };
        let Some(longer) = extension(rule, lock, now) else {
            return Seen::Lock { lock, extended: false, failure: None };
        };
        if act == Act::Look {
            let failure = Some(kept("it was not tried, since all before were refused".to_owned()));
            return Seen::Lock { lock, extended: false, failure };
        }
        match patiently(|| self.put_lock(&name, id, lock, longer)) {
            Ok(()) => {}
            Err(error) if error.is_of_the_way() || error.is_of_the_login() => return Seen::Over(error),
            Err(error) => {
                return Seen::Lock { lock, extended: false, failure: Some(kept(error.to_string())) };
            }
        }
        match patiently(|| self.lock_on(&name, id)) {
            Ok(Some(shown)) if !shown.loosens(longer) => {
                Seen::Lock { lock: Some(shown), extended: true, failure: None }
            }
            Ok(shown) => {
                let shows = shown.map_or("none".to_owned(), |shown| format!("one until {}", shown.until));
                let why = format!("the storage took a lock until {} and shows {shows}", longer.until);
                Seen::Lock { lock: shown, extended: false, failure: Some(kept(why)) }
            }
            Err(error) if error.is_of_the_way() || error.is_of_the_login() => Seen::Over(error),
            Err(error) => Seen::Unknown(kept(error.to_string())),
        }
    }
}

/// One look on its way.
struct Round {
    now: Timestamp,
    look: Look,
    done: Extended,
}

impl Round {
    fn begun(rule: ObjectLock, now: Timestamp) -> Self {
        let done = Extended {
            horizon: Horizon::Nothing,
            at: Timestamp::now(),
            snapshots: 0,
            objects: 0,
            extended: 0,
            failed: 0,
            failures: Vec::new(),
            is_stopped: false,
        };
        Self { now, look: Look::begun(rule.mode, now), done }
    }

    fn list(
        &mut self,
        client: &S3,
        wants: &mpsc::SyncSender<Wanted>,
        seen: &mpsc::Receiver<Seen>,
        brakes: &Brakes,
        tell: &mut dyn FnMut(&Extended) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        for kind in Kind::ALL {
            let mut names = Names::of(client, kind);
            while let Some(page) = names.next_page()? {
                for (_, versions) in page {
                    let there = there(versions, self.now);
                    if !there.is_empty() {
                        self.look.named(kind);
                    }
                    for Version { name, id, is_latest, .. } in there {
                        let next = Wanted { name, id, is_latest };
                        // They are there as long as this end is.
                        let _ = wants.send(next);
                        while let Ok(each) = seen.try_recv() {
                            self.take(each)?;
                        }
                    }
                    if self.done.extended == 0 && self.done.failed >= REFUSED_MAX {
                        brakes.refuses.store(true, Ordering::Relaxed);
                    }
                    if tell(&self.done).is_break() {
                        self.done.is_stopped = true;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, seen: Seen) -> Result<(), StorageError> {
        let (lock, extended, failure) = match seen {
            Seen::Over(error) => return Err(error),
            Seen::Gone => return Ok(()),
            Seen::Unknown(kept) => (None, false, Some(kept)),
            Seen::Lock { lock, extended, failure } => (lock, extended, failure),
        };
        self.look.locked(lock);
        self.done.objects += 1;
        self.done.extended += u64::from(extended);
        if let Some(kept) = failure {
            self.done.failed += 1;
            if self.done.failures.len() < FAILURES_MAX {
                self.done.failures.push(kept);
            }
        }
        Ok(())
    }

    fn told(self) -> Extended {
        Extended { horizon: self.look.horizon(), snapshots: self.look.count(Kind::Snapshot), ..self.done }
    }
}
