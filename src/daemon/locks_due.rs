//! When the objects of a bucket are looked at: daily, oftener where locks are short, and behind uploads once it is quiet.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::object_locks::{AGAIN_S, APART_S, VERB, after};
use super::upkeep::{self, Start, Wanted};
use crate::config::model::{Config, Destination};
use crate::runner::control::DestinationAction;
use crate::runner::world::World;
use crate::store::StoreError;
use crate::store::record::{DestinationRecord, Upkeep};

/// How long nothing was shipped before what is new is looked at.
const QUIET_S: i64 = 600;

/// Starts what is due; the time is claimed in the store before anything is done.
pub(super) fn start_due(
    world: &Arc<World>,
    config: &Config,
    now: Timestamp,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) {
    for destination in config.destinations.values().filter(|destination| destination.object_lock.is_some()) {
        // A large bucket takes longer than the pause behind a look that did not come to its end.
        if world.locks_looked_at.lock().unwrap_or_else(PoisonError::into_inner).contains(&destination.name) {
            continue;
        }
        match claim(world, destination, now) {
            Ok(true) => {
                let wanted = Wanted { action: DestinationAction::ExtendLocks, lock: None };
                let title = format!("{VERB} {} (scheduled)", destination.name);
                upkeep::begin(Start { world, config, destination, title, tasks, cancel }, wanted);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(destination = %destination.name, error = %crate::error::chain(&error), "cannot claim the look at its locks");
            }
        }
    }
}

fn claim(world: &World, destination: &Destination, now: Timestamp) -> Result<bool, StoreError> {
    let known = world.ledger.destination(&destination.name)?;
    if !known.as_ref().is_some_and(|record| is_due(record, now)) {
        return Ok(false);
    }
    world.note_destination(destination, |record| {
        record.locks.last = Some(now);
        record.locks.next = Some(after(now, AGAIN_S));
    })?;
    Ok(true)
}

/// Whether all is to be looked at. A clock that was set back makes nobody wait: what lies ahead of `now` by more than any
/// pause is due.
fn is_due(record: &DestinationRecord, now: Timestamp) -> bool {
    let Upkeep { next, last, .. } = record.locks;
    let is_over = |at: Timestamp| at <= now;
    let is_turned = last.is_some_and(|last| last > after(now, AGAIN_S));
    let behind_uploads = match (record.last_used, last) {
        (Some(used), Some(last)) if used > last => Some(after(used, QUIET_S).max(after(last, APART_S))),
        (Some(used), None) => Some(after(used, QUIET_S)),
        _ => None,
    };
    is_turned || next.is_some_and(is_over) || behind_uploads.is_some_and(is_over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    const HOUR_S: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn record(used: Option<i64>, last: Option<i64>, next: Option<i64>) -> DestinationRecord {
        let mut record = sample::destination_record("vault");
        record.last_used = used.map(at);
        let schedule_key = "compliance 30".to_owned();
        record.locks = Upkeep { schedule_key, last: last.map(at), next: next.map(at), ..Upkeep::default() };
        record
    }

    #[test]
    fn all_is_looked_at_at_its_time_and_behind_uploads_once_it_is_quiet() {
        let due = |used, last, next, now| is_due(&record(used, last, next), at(now));
        assert!(!due(None, None, None, 0) && due(None, None, Some(0), 0) && !due(None, Some(0), Some(9), 8));
        // The first upload there ever was.
        assert!(!due(Some(0), None, None, 599) && due(Some(0), None, None, 600));
        // Those behind the last look wait for it to be some hours old; those before it are looked at.
        let (hours, far) = (APART_S, Some(APART_S * 9));
        assert!(!due(Some(50), Some(0), far, hours - 1) && due(Some(50), Some(0), far, hours));
        assert!(!due(Some(hours), Some(0), far, hours + 599) && due(Some(hours), Some(0), far, hours + 600));
        assert!(!due(Some(0), Some(0), far, hours * 8) && due(Some(0), Some(0), far, hours * 9));
        assert!(due(None, Some(100 * HOUR_S), Some(200 * HOUR_S), 0), "the clock was set back");
    }
}
