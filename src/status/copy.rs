//! How a copy stands against where it is copied from: on its card, and among the destinations of a job.

use jiff::Timestamp;

use crate::config::model::{Destination, Policy};
use crate::run::copying::Standing;
use crate::status::job::problem;
use crate::status::read::Reading;
use crate::status::upkeep::upkeep_view;
use crate::status::{CopyView, Health, Problem, ShippedView};
use crate::store::record::{CopyRecord, DestinationRecord, JobRecord, Upkeep};
use crate::types::{Name, Outcome};

/// How the copy `desired` stands; none: it is no copy.
#[must_use]
pub fn view(
    desired: &Destination,
    record: Option<&DestinationRecord>,
    standing: Option<&Standing>,
    now: Timestamp,
) -> Option<CopyView> {
    let (rule, name) = (desired.copy.as_ref()?, &desired.name);
    let record = record.map(|record| record.copy.clone()).unwrap_or_default();
    let mut upkeep = upkeep_view(name, "copy", true, &record.upkeep, now);
    let commands = || vec![format!("larder destination copy {name}")];
    match &record {
        CopyRecord { upkeep: Upkeep { trouble: Some(trouble), .. }, told_overdue: true, .. } => {
            upkeep.problem =
                Some(problem(format!("The copy of {} in {name} is overdue", rule.from), trouble, commands()));
        }
        CopyRecord { upkeep: known, waits: Some(trouble), .. } if known.trouble.is_none() => {
            upkeep.health = Health::Warning;
            let what = format!("The copy of {} in {name} waits, and is tried again by itself", rule.from);
            upkeep.problem = Some(problem(what, trouble, commands()));
        }
        _ => {}
    }
    Some(CopyView {
        from: rule.from.clone(),
        upkeep,
        missing: standing.map_or(0, |standing| standing.wanted.len() as u64),
        oldest_missing: standing.and_then(Standing::oldest_missing),
        due_since: record.due_since,
    })
}

/// The copies of what a job ships, each as safe as it is: what is not copied yet is not there.
pub(super) fn of_job<'r>(
    reading: &'r Reading,
    job: &'r JobRecord,
    policy: Option<&'r Policy>,
) -> impl Iterator<Item = ShippedView> + 'r {
    let wanted = reading.desired.copies_of(&job.id).filter(move |_| policy.is_some());
    // Between two times of a copy nothing is wrong.
    let is_late = |name: &Name| {
        let record = reading.destinations.iter().find(|record| record.name == *name);
        record.is_some_and(|record| record.copy.due_since.is_some() || record.copy.upkeep.trouble.is_some())
    };
    wanted.map(move |name| {
        let standing = reading.copies.get(name);
        let newest = standing.and_then(|standing| standing.newest.get(&job.id));
        let missing = standing.and_then(|standing| standing.missing_of(&job.id));
        ShippedView {
            destination: name.clone(),
            outcome: newest.map(|_| match missing {
                None => Outcome::Success,
                Some(_) if is_late(name) => Outcome::Partial,
                Some(_) => Outcome::Deferred,
            }),
            at: newest.map(|(_, at)| *at),
            snapshot: newest.map(|(id, _)| id.clone()),
            bytes_added: 0,
            last_success: newest.map(|(_, at)| *at),
            problem: missing.map(|(count, oldest)| behind(count, oldest)),
        }
    })
}

fn behind(count: u64, oldest: Timestamp) -> Problem {
    let (noun, verb) = if count == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
    Problem {
        code: "copy_behind".to_owned(),
        what: format!("{count} {noun} {verb} not copied yet, the oldest of {} UTC", oldest.strftime("%Y-%m-%d %H:%M")),
        why: None,
        hint: None,
        commands: Vec::new(),
    }
}
