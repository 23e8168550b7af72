//! Which place what is not known yet has in the order of runs, and what has none of its own. Pure.
//!
//! A snapshot may turn up long after its run: copied from another repository, written anew beside the one that it was made
//! of, or put back by hand. It belongs where its run belongs, else an old one would be the newest and push out what is newer.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Books, Known, Question, Seen, is_ours};
use crate::run::retention::is_future;
use crate::types::{JobId, RunId};

/// The order of runs in other repositories: a run has one for all.
pub type Orders = BTreeMap<JobId, BTreeMap<RunId, u64>>;

/// Before all that are known: nothing tells when it was made.
const FIRST: u64 = 0;

/// The known snapshot that `seen`, which is not known, is a second one of.
#[must_use]
pub fn first_of<'a>(seen: &Seen, books: &'a Books) -> Option<(&'a String, &'a Known)> {
    let known = books.by_job.get(seen.job.as_ref()?)?;
    known.iter().find(|(id, known)| is_of_one_run(seen, id, known))
}

/// Whether one run made both, by its mark or by what restic wrote down of where it comes from.
#[must_use]
pub(super) fn is_of_one_run(seen: &Seen, id: &str, known: &Known) -> bool {
    let by_original =
        seen.original.as_ref().is_some_and(|original| original == id || known.original.as_ref() == Some(original));
    by_original || (seen.job.is_some() && known.run.is_some() && known.run == seen.run)
}

/// Ours that are not known yet and are no second ones.
pub(super) fn adopted(listing: &[Seen], question: &Question<'_>) -> Vec<(JobId, String, Known)> {
    let mut new: Vec<(&JobId, &Seen)> = listing
        .iter()
        .filter(|seen| is_ours(seen, question))
        .filter_map(|seen| Some((seen.job.as_ref()?, seen)))
        .filter(|(job, seen)| !question.books.knows(job, &seen.id) && first_of(seen, question.books).is_none())
        .collect();
    // Of several of one run the one that the others were made of is it.
    new.sort_by_key(|(_, seen)| (seen.original.is_some(), seen.repaired, seen.time, &seen.id));
    let mut runs = BTreeSet::new();
    new.retain(|(job, seen)| seen.run.is_none_or(|run| runs.insert((*job, run))));
    new.sort_by_key(|(_, seen)| (!is_future(seen.time, question.now), seen.run, seen.time, &seen.id));
    let mut next = question.books.highest;
    let mut adopted = Vec::new();
    let mut around = BTreeMap::new();
    for (job, seen) in new {
        let around = around.entry(job).or_insert_with(|| Around::of(job, question));
        let order = order(job, seen, around, question).unwrap_or_else(|| {
            next += 1;
            next
        });
        let known = Known { order, run: seen.run, ..Known::new(order, seen.time) };
        adopted.push((job.clone(), seen.id.clone(), known));
    }
    adopted
}

/// A run whose place is known.
struct Placed {
    run: Option<RunId>,
    time: Timestamp,
    order: u64,
}

/// What tells of a job's places.
struct Around {
    of_job: Vec<Placed>,
    /// Of the other jobs of its target: a restore asks which run of all was the newest.
    of_others: Vec<Placed>,
}

impl Around {
    fn of(job: &JobId, question: &Question<'_>) -> Self {
        Self {
            of_job: placed(|other| other == job, question),
            of_others: placed(|other| other != job && other.target == job.target, question),
        }
    }
}

/// Its place among those that are known; none: behind all of them.
///
/// With the order of another one it stands before that, by its date: that of a run is its begin.
fn order(job: &JobId, seen: &Seen, around: &Around, question: &Question<'_>) -> Option<u64> {
    let same = seen.run.and_then(|run| question.elsewhere.get(job)?.get(&run));
    if same.is_some() {
        return same.copied();
    }
    let Around { of_job, of_others } = around;
    if of_job.is_empty() && of_others.is_empty() {
        return None;
    }
    if seen.run.is_some_and(|run| question.newest_runs.contains(&run)) {
        return None;
    }
    if is_future(seen.time, question.now) {
        return Some(FIRST);
    }
    let is_later = |placed: &&Placed| match (placed.run, seen.run) {
        (Some(placed), Some(seen)) => placed > seen,
        _ => placed.time > seen.time,
    };
    let lowest_later = |all: &[Placed]| all.iter().filter(is_later).map(|placed| placed.order).min();
    // Other jobs of the target say something of its place only where that is behind the earlier ones of its own.
    let highest_earlier = of_job.iter().filter(|placed| !is_later(placed)).map(|placed| placed.order).max();
    let by_others = lowest_later(of_others).filter(|order| highest_earlier.is_none_or(|earlier| earlier <= *order));
    lowest_later(of_job).into_iter().chain(by_others).min()
}

/// The runs of these jobs in whatever repository: one that was away or is new knows few of them. What is dated in the future
/// tells nothing: the clock was wrong then.
fn placed(is_one: impl Fn(&JobId) -> bool, question: &Question<'_>) -> Vec<Placed> {
    let here = question.books.by_job.iter().filter(|(job, _)| is_one(job)).flat_map(|(_, all)| all.values());
    let here = here.map(|known| Placed { run: known.run, time: known.time, order: known.order });
    let elsewhere = question.elsewhere.iter().filter(|(job, _)| is_one(job)).flat_map(|(_, runs)| runs);
    let elsewhere = elsewhere.map(|(run, order)| Placed { run: Some(*run), time: run.time(), order: *order });
    here.chain(elsewhere).filter(|placed| !is_future(placed.time, question.now)).collect()
}
