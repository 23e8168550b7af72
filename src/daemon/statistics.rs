//! When the figures of a destination are gathered: once a day, behind its forget, while nothing runs there.
//!
//! It takes no slot of the destination: it reads without a lock, and a prune that waited for its end would keep every backup
//! waiting. What is changed under it makes it fail, and it is tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::stop::stopped;
use super::upkeep::{Locks, Start};
use crate::daemon::keeper::Keeper;
use crate::error::{Kind, Trouble};
use crate::run::statistics::Statistics;
use crate::runner::control::OperationId;
use crate::runner::forget::Rules;
use crate::runner::statistics;
use crate::runner::world::World;
use crate::store::StoreError;
use crate::store::record::DestinationRecord;
use crate::types::Name;

/// So often, and earlier by some hours where a forget came in between: the nights are not all alike.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
const APART: SignedDuration = SignedDuration::from_hours(20);

/// What failed is tried again behind this.
const FAILED_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// How long nothing was shipped there before the first time.
const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// A forget that waits for so long is not waited for.
const FORGET_WAITS_MAX: SignedDuration = SignedDuration::from_hours(2);

/// A time that is so far ahead is of a clock that was set back since.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The longest that one call of restic may take.
const GATHER_MAX: Duration = Duration::from_hours(2);

impl Keeper {
    /// Starts to gather where the time has come.
    pub(super) fn start_gathering(&mut self, now: Timestamp, cancel: &CancellationToken) {
        if self.state_trouble().is_some() {
            return;
        }
        let config = self.config.borrow().clone();
        let waiting = self.world.given_up.all();
        for (name, destination) in &config.destinations {
            let forget_comes = waiting.get(name).is_some_and(|each| now.duration_since(each.since) < FORGET_WAITS_MAX);
            if forget_comes || !self.has_nothing_to_do(&config, name, now) {
                continue;
            }
            let Ok(turn) = self.world.gathering(name).try_lock_owned() else { continue };
            let (width, slots) = self.world.slots(name, config.site.concurrency.per_destination);
            if slots.try_acquire_many(width).is_err() {
                continue;
            }
            match due(&self.world, name, now) {
                Ok(true) => {
                    let title = format!("statistics of {name} (scheduled)");
                    let (world, tasks) = (&self.world, &mut self.upkeep);
                    let start = Start { world, config: &config, destination, title, tasks, cancel };
                    begin(start, Turn::Taken(turn));
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(destination = %name, error = %crate::error::chain(&error), "cannot read its statistics");
                }
            }
        }
    }

    /// Starts to gather what an operator asked for; answers at once.
    ///
    /// # Errors
    /// When there is no such destination.
    pub(super) fn gather_by_hand(&mut self, name: &Name, cancel: &CancellationToken) -> Result<OperationId, Trouble> {
        let config = self.config.borrow().clone();
        let destination = self.world.destination(&config, name)?;
        let (turn, title) = (Turn::Waits(self.world.gathering(name)), format!("statistics of {name}"));
        let (world, tasks) = (&self.world, &mut self.upkeep);
        let start = Start { world, config: &config, destination: &destination, title, tasks, cancel };
        Ok(begin(start, turn))
    }
}

fn due(world: &World, name: &Name, now: Timestamp) -> Result<bool, StoreError> {
    let Some(record) = world.ledger.destination(name)? else { return Ok(false) };
    Ok(is_due(&record, &world.ledger.statistics(name)?, now))
}

fn is_due(record: &DestinationRecord, known: &Statistics, now: Timestamp) -> bool {
    // Who is away is asked elsewhere.
    let Some(used) = record.last_used.filter(|_| record.repository_id.is_some() && record.away_since.is_none()) else {
        return false;
    };
    let age = |at: Timestamp| now.duration_since(at);
    let Some(tried) = known.tried else { return age(used) >= QUIET || age(used) < -AHEAD };
    let forgotten = record.forget.last_success.is_some_and(|at| at > tried);
    age(tried) < -AHEAD
        || age(tried) >= EVERY
        || (known.trouble.is_some() && age(tried) >= FAILED_AGAIN)
        || (forgotten && age(tried) >= APART)
}

/// The right to gather there.
enum Turn {
    Taken(OwnedMutexGuard<()>),
    Waits(Arc<tokio::sync::Mutex<()>>),
}

fn begin(start: Start<'_>, turn: Turn) -> OperationId {
    let rules = Rules::of(start.config, &start.destination.name);
    let zone = TimeZone::get(&start.config.site.timezone).unwrap_or(TimeZone::UTC);
    start.operation(GATHER_MAX, Locks::Left, move |route, _| async move {
        let name = &route.destination.name;
        let turn = match turn {
            Turn::Taken(turn) => Ok(turn),
            Turn::Waits(turn) => tokio::select! {
                turn = turn.lock_owned() => Ok(turn),
                () = route.context.cancel.cancelled() => Err(stopped()),
            },
        };
        let result = match turn {
            Ok(_turn) => statistics::gather(&route, &rules, &zone).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = result.as_ref()
            && trouble.kind() != Some(Kind::Cancelled)
        {
            tracing::warn!(destination = %name, %trouble, "cannot gather the statistics; it is tried again");
            if let Err(error) = statistics::note_failure(&route.world, name, trouble) {
                tracing::error!(error = %crate::error::chain(&error), "cannot note that");
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use crate::status::sample;

    const HOUR: i64 = 60;
    const DAY: i64 = 24 * HOUR;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn known(tried: i64, failed: bool) -> Statistics {
        let trouble = failed.then(|| Trouble::new(codes::UNREACHABLE, "it is off"));
        Statistics { tried: Some(at(tried)), trouble, ..Statistics::default() }
    }

    fn record(used: Option<i64>, forgotten: Option<i64>) -> DestinationRecord {
        let mut record = sample::destination_record("nas");
        (record.last_used, record.forget.last_success) = (used.map(at), forgotten.map(at));
        record
    }

    #[test]
    fn it_is_due_once_a_day_or_behind_a_forget_and_soon_again_where_it_failed() {
        let due = |record: &DestinationRecord, known: &Statistics, now| is_due(record, known, at(now));
        let (never, none) = (record(None, None), Statistics::default());
        assert!(!due(&never, &none, DAY) && !due(&never, &known(0, true), DAY), "nothing was ever shipped there");
        let used = record(Some(0), None);
        assert!(!due(&used, &none, 9) && due(&used, &none, 10), "the first time");
        assert!(!due(&used, &known(0, false), DAY - 1) && due(&used, &known(0, false), DAY));
        assert!(!due(&used, &known(0, true), HOUR - 1) && due(&used, &known(0, true), HOUR));
        let forgotten = record(Some(0), Some(5));
        assert!(!due(&forgotten, &known(0, false), 20 * HOUR - 1) && due(&forgotten, &known(0, false), 20 * HOUR));
        assert!(!due(&forgotten, &known(6, false), 21 * HOUR), "it was gathered behind that forget");
        assert!(due(&used, &known(9 * DAY, false), 0), "the clock was set back");
    }

    #[test]
    fn who_is_away_or_has_no_repository_yet_is_left_alone() {
        let mut away = record(Some(0), None);
        away.away_since = Some(at(0));
        assert!(!is_due(&away, &Statistics::default(), at(9 * DAY)));
        let mut unmade = record(Some(0), None);
        unmade.repository_id = None;
        assert!(!is_due(&unmade, &Statistics::default(), at(9 * DAY)));
    }
}
