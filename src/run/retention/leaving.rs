//! What runs gave up in one repository, looked at once more before it is forgotten. Pure.
//!
//! A run marks what its policy does not keep; all that is marked goes in one call, later. Until then a push may have made
//! the policy keep more, a run may have found what holds the job, and a target may have left: what was marked then stays.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Candidate, superfluous};
use crate::config::model::Retention;
use crate::run::holdings::{Books, Ours};
use crate::types::JobId;

/// The ids of snapshots, by job.
pub type Ids = BTreeMap<JobId, Vec<String>>;

/// What becomes of the marked ones that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    pub go: Ids,
    /// Marked no longer.
    pub stay: Ids,
}

/// By what rules a job's snapshots may go; none: nothing of it may.
pub type RulesOf<'a> = dyn Fn(&JobId) -> Option<(&'a Retention, TimeZone)> + 'a;

/// Decides over what is marked in `books` and is there, among `ours`.
#[must_use]
pub fn leaving(books: &Books, ours: &BTreeMap<JobId, Vec<Ours>>, rules: &RulesOf<'_>, now: Timestamp) -> Leaving {
    let mut leaving = Leaving::default();
    for (job, known) in &books.by_job {
        let there: Vec<Candidate> = ours.get(job).into_iter().flatten().map(Candidate::from).collect();
        let is_marked = |each: &&Candidate| known.get(&each.id).is_some_and(|known| known.leaving);
        let marked: Vec<&Candidate> = there.iter().filter(is_marked).collect();
        if marked.is_empty() {
            continue;
        }
        let gone: BTreeSet<String> = match rules(job) {
            Some((rules, zone)) => superfluous(&there, rules, &zone, now).into_iter().collect(),
            None => BTreeSet::new(),
        };
        let (go, stay): (Vec<&Candidate>, Vec<&Candidate>) =
            marked.into_iter().partition(|each| gone.contains(&each.id));
        for (of, some) in [(&mut leaving.go, go), (&mut leaving.stay, stay)] {
            if !some.is_empty() {
                of.insert(job.clone(), some.into_iter().map(|each| each.id.clone()).collect());
            }
        }
    }
    leaving
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::holdings::Known;

    fn at(hour: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + i64::try_from(hour).unwrap() * 3600).unwrap()
    }

    fn job(name: &str) -> JobId {
        format!("{name}/daily").parse().unwrap()
    }

    /// Five snapshots of each of `jobs`, `1` the oldest; those of `marked` are given up.
    fn sample(jobs: &[&str], marked: &[&str]) -> (Books, BTreeMap<JobId, Vec<Ours>>) {
        let (mut books, mut ours) = (Books::default(), BTreeMap::<JobId, Vec<Ours>>::new());
        for name in jobs {
            for order in 1..=5 {
                let (id, time) = (format!("{name}{order}"), at(order));
                let known = Known { leaving: marked.contains(&id.as_str()), ..Known::new(order, time) };
                books.by_job.entry(job(name)).or_default().insert(id.clone(), known);
                ours.entry(job(name)).or_default().push(Ours { id, order, time, is_future: false });
            }
        }
        (books, ours)
    }

    fn ids(of: &Ids) -> Vec<String> {
        of.values().flatten().cloned().collect()
    }

    #[test]
    fn only_what_is_marked_and_still_superfluous_goes() {
        let (books, ours) = sample(&["a", "b"], &["a1", "a2", "a3", "b1"]);
        let rules = Retention { last: Some(3), ..Retention::default() };
        let decided = leaving(&books, &ours, &|_| Some((&rules, TimeZone::UTC)), at(9));
        assert_eq!(ids(&decided.go), ["a1", "a2", "b1"], "the policy keeps three by now, and nobody gave b2 up");
        assert_eq!(ids(&decided.stay), ["a3"]);
    }

    #[test]
    fn nothing_of_a_job_that_is_held_or_left_goes() {
        let (books, ours) = sample(&["a", "b"], &["a1", "b1"]);
        let rules = Retention { last: Some(1), ..Retention::default() };
        let of = |id: &JobId| (*id == job("b")).then_some((&rules, TimeZone::UTC));
        let decided = leaving(&books, &ours, &of, at(9));
        assert_eq!((ids(&decided.go), ids(&decided.stay)), (vec!["b1".to_owned()], vec!["a1".to_owned()]));
    }

    #[test]
    fn what_is_marked_and_not_there_is_neither() {
        let (books, mut ours) = sample(&["a"], &["a1", "a2"]);
        ours.get_mut(&job("a")).unwrap().retain(|each| each.id != "a1");
        let rules = Retention { last: Some(1), ..Retention::default() };
        let decided = leaving(&books, &ours, &|_| Some((&rules, TimeZone::UTC)), at(9));
        assert_eq!((ids(&decided.go), ids(&decided.stay)), (vec!["a2".to_owned()], vec![]));
    }
}
