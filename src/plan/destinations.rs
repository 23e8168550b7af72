//! The repositories of a config against the recorded ones: location and upkeep. A pinned id always stays.

use jiff::Timestamp;

use crate::config::model::{Config, Destination, ScheduleSpec};
use crate::plan::{Recorded, Step};
use crate::schedule::{self, Schedule};
use crate::store::record::{DestinationRecord, Upkeep};

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
    let upkeep = |known: Option<&Upkeep>, spec| upkeep(known.cloned().unwrap_or_default(), spec, now);
    DestinationRecord {
        name: destination.name.clone(),
        location: destination.repository.location(),
        repository_id: known.and_then(|record| record.repository_id.clone()),
        prune: upkeep(known.map(|record| &record.prune), prune),
        check: upkeep(known.map(|record| &record.check), check),
        forget: known.map(|record| record.forget.clone()).unwrap_or_default(),
        trouble: known.and_then(|record| record.trouble.clone()),
        last_used: known.and_then(|record| record.last_used),
        away_since: known.and_then(|record| record.away_since),
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

/// A repository that left the config is neither pruned nor checked, and never forgotten.
fn unscheduled(known: &DestinationRecord) -> DestinationRecord {
    let stop = |upkeep: &Upkeep| Upkeep { schedule_key: String::new(), next: None, ..upkeep.clone() };
    DestinationRecord {
        prune: stop(&known.prune),
        check: stop(&known.check),
        forget: stop(&known.forget),
        ..known.clone()
    }
}
