//! The repositories of a config against the recorded ones: location and upkeep. A pinned id always stays.

use jiff::Timestamp;

use crate::config::model::{Config, CopyRule, Destination, ObjectLock, ScheduleSpec};
use crate::plan::{Recorded, Step};
use crate::schedule::{self, Schedule};
use crate::store::record::{CopyRecord, DestinationRecord, Upkeep};

/// Upkeep is not moved: one daemon, few destinations.
const JITTER: std::time::Duration = std::time::Duration::ZERO;

pub(super) fn compare(
    desired: &Config,
    recorded: &Recorded<'_>,
    now: Timestamp,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) {
    for destination in desired.destinations.values() {
        let known = recorded.destinations.iter().find(|record| record.name == destination.name);
        let wanted = wanted(destination, known, now);
        if let Some(known) = known
            && known.location != wanted.location
            && let Some(id) = &known.repository_id
        {
            let id = id.get(..8).unwrap_or(id);
            warnings.push(format!(
                "destination {} moves from {} to {}: its repository id {id} stays pinned, so another repository there is refused",
                known.name, known.location, wanted.location
            ));
        }
        if known != Some(&wanted) {
            steps.push(Step::PutDestinationRecord(Box::new(wanted)));
        }
    }
    for known in recorded.destinations {
        let wanted = unscheduled(known);
        if !desired.destinations.contains_key(&known.name) && wanted != *known {
            steps.push(Step::PutDestinationRecord(Box::new(wanted)));
        }
    }
}

fn wanted(destination: &Destination, known: Option<&DestinationRecord>, now: Timestamp) -> DestinationRecord {
    let prune = destination.prune.as_ref().map(|prune| &prune.schedule);
    let check = destination.check.as_ref().map(|check| &check.schedule);
    let is_same_place = known.is_some_and(|record| record.location == destination.repository.location());
    let upkeep = |known: Option<&Upkeep>, spec| upkeep(known.cloned().unwrap_or_default(), spec, now);
    DestinationRecord {
        name: destination.name.clone(),
        location: destination.repository.location(),
        repository_id: known.and_then(|record| record.repository_id.clone()),
        prune: upkeep(known.map(|record| &record.prune), prune),
        check: upkeep(known.map(|record| &record.check), check),
        // From an append-only one nothing is forgotten any more.
        forget: known.filter(|_| !destination.append_only).map(|record| record.forget.clone()).unwrap_or_default(),
        trouble: known.and_then(|record| record.trouble.clone()),
        last_used: known.and_then(|record| record.last_used),
        away_since: known.and_then(|record| record.away_since),
        locks: locks(known.filter(|_| is_same_place).map(|record| &record.locks), destination.object_lock, now),
        copy: copy(known.map(|record| &record.copy), destination.copy.as_ref(), now),
        immutable: known.filter(|_| is_same_place).and_then(|record| record.immutable.clone()),
        tested: known.and_then(|record| record.tested.clone()),
        document: Some(Box::new(destination.clone())),
    }
}

/// The next time moves only when the schedule changed; what was done stays known.
fn upkeep(known: Upkeep, spec: Option<&ScheduleSpec>, now: Timestamp) -> Upkeep {
    let Some(spec) = spec else { return Upkeep { schedule_key: String::new(), next: None, ..known } };
    let schedule_key = schedule::key(&spec.expression, &spec.timezone, JITTER);
    if known.schedule_key == schedule_key && known.next.is_some() {
        return known;
    }
    let next = Schedule::parse(&spec.expression, &spec.timezone).ok().and_then(|schedule| schedule.next_after(now));
    Upkeep { schedule_key, next, ..known }
}

/// What is newly declared is looked at at once.
fn locks(known: Option<&Upkeep>, rule: Option<ObjectLock>, now: Timestamp) -> Upkeep {
    let known = known.cloned().unwrap_or_default();
    let Some(rule) = rule else {
        return Upkeep { schedule_key: String::new(), next: None, trouble: None, ..known };
    };
    let schedule_key = format!("{} {}", rule.mode.word(), rule.days);
    if known.schedule_key == schedule_key { known } else { Upkeep { schedule_key, next: Some(now), ..known } }
}

/// What is no copy any more is late with nothing.
fn copy(known: Option<&CopyRecord>, rule: Option<&CopyRule>, now: Timestamp) -> CopyRecord {
    let known = known.cloned().unwrap_or_default();
    let scheduled = upkeep(known.upkeep.clone(), rule.map(|rule| &rule.schedule), now);
    match rule {
        Some(_) => CopyRecord { upkeep: scheduled, ..known },
        None => CopyRecord {
            told_overdue: false,
            upkeep: Upkeep { trouble: None, ..scheduled },
            due_since: None,
            waits: None,
            whole: known.whole,
        },
    }
}

/// A repository that left the config is neither pruned nor checked nor locked anew, and never forgotten.
fn unscheduled(known: &DestinationRecord) -> DestinationRecord {
    let stop = |upkeep: &Upkeep| Upkeep { schedule_key: String::new(), next: None, ..upkeep.clone() };
    DestinationRecord {
        prune: stop(&known.prune),
        check: stop(&known.check),
        forget: stop(&known.forget),
        locks: stop(&known.locks),
        copy: CopyRecord { upkeep: stop(&known.copy.upkeep), due_since: None, ..known.copy.clone() },
        ..known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::LockMode;
    use crate::plan::tests::destination;
    use crate::store::record::Immutable;

    #[test]
    fn a_lock_that_is_newly_declared_or_changed_is_looked_at_at_once_and_another_bucket_is_another_one() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let later = now + jiff::SignedDuration::from_hours(1);
        let mut document = destination("vault");
        document.object_lock = Some(ObjectLock { mode: LockMode::Compliance, days: 30 });
        let mut record = wanted(&document, None, now);
        assert_eq!(record.locks.next, Some(now));
        record.locks = Upkeep { next: Some(later), last_success: Some(now), ..record.locks };
        record.immutable = Some(Immutable { at: now, until: Some(later), snapshots: 1, objects: 9 });
        assert_eq!(wanted(&document, Some(&record), later), record);
        let longer =
            Destination { object_lock: Some(ObjectLock { mode: LockMode::Compliance, days: 31 }), ..document.clone() };
        let changed = wanted(&longer, Some(&record), later).locks;
        assert_eq!((changed.next, changed.last_success), (Some(later), Some(now)));
        let none = Destination { object_lock: None, ..document.clone() };
        let undeclared = wanted(&none, Some(&record), later);
        assert_eq!(
            (undeclared.locks.next, undeclared.immutable),
            (None, record.immutable.clone()),
            "the locks are there"
        );
        assert_eq!(unscheduled(&record).locks.next, None);
        let elsewhere = Destination { repository: destination("other").repository, ..document };
        let moved = wanted(&elsewhere, Some(&record), later);
        assert_eq!((moved.locks.next, moved.locks.last_success, moved.immutable), (Some(later), None, None));
    }
}
