//! What several plates would say of one cause is said by one of them. Pure.

use std::collections::BTreeMap;

use super::{DestinationView, JobState, JobView, Problem};
use crate::types::{Name, Outcome};

/// How many jobs a destination's plate names.
const NAMED_MAX: usize = 3;

/// The destination that tells all that the newest run of `job` lacked: each one that it lacks has a plate of its own, with
/// what the job would say.
pub(super) fn told_by<'d>(job: &JobView, destinations: &'d [DestinationView]) -> Option<&'d Name> {
    let problem = job.problem.as_ref()?;
    let lacks_a_part =
        job.last_run.as_ref().is_some_and(|run| matches!(run.outcome, Outcome::Partial | Outcome::Deferred));
    if job.state != JobState::Warning || !lacks_a_part || !job.holds.is_empty() {
        return None;
    }
    let mut first = None;
    for lacking in job.destinations.iter().filter(|shipped| shipped.problem.is_some()) {
        let named = |each: &&DestinationView| each.desired && each.name == lacking.destination;
        let destination = destinations.iter().find(named).filter(|each| each.problem.is_some())?;
        let same = |other: &Problem| Some(&other.what) == problem.why.as_ref();
        if first.is_none() && lacking.problem.as_ref().is_some_and(same) {
            first = Some(&destination.name);
        }
    }
    first
}

/// `2 jobs lack it: a/daily, b/daily`
pub(super) fn lacking(jobs: &[&JobView]) -> String {
    let mut named: Vec<String> =
        jobs.iter().take(NAMED_MAX).map(|job| format!("{}/{}", job.target, job.policy)).collect();
    if jobs.len() > NAMED_MAX {
        named.push(format!("and {} more", jobs.len() - NAMED_MAX));
    }
    let lack = if jobs.len() == 1 { "1 job lacks it".to_owned() } else { format!("{} jobs lack it", jobs.len()) };
    format!("{lack}: {}", named.join(", "))
}

/// The jobs of which nothing is to be said but what the plate of their destination says.
pub(super) fn by_destination<'v>(
    jobs: impl Iterator<Item = &'v JobView>,
    destinations: &'v [DestinationView],
) -> BTreeMap<&'v Name, Vec<&'v JobView>> {
    let mut all: BTreeMap<&Name, Vec<&JobView>> = BTreeMap::new();
    for job in jobs {
        if let Some(name) = told_by(job, destinations) {
            all.entry(name).or_default().push(job);
        }
    }
    all
}
