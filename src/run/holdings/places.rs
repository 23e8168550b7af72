//! Which place what is not known yet has in the order of runs, and what has none of its own. Pure.
//!
//! A snapshot may turn up long after its run: copied from another repository, written anew beside the one that it was made
//! of, or put back by hand. It belongs where its run belongs, else an old one would be the newest and push out what is newer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Known, KnownById, Question, Seen, is_ours};
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
    for (job, seen) in new {
        let order = order(job, seen, question).unwrap_or_else(|| {
            next += 1;
            next
        });
        let known = Known { order, run: seen.run, ..Known::new(order, seen.time) };
        adopted.push((job.clone(), seen.id.clone(), known));
    }
    adopted
}

/// Its place among those that are known; none: behind all of them.
///
/// With the order of another one it stands before that, by its date: that of a run is its begin.
fn order(job: &JobId, seen: &Seen, question: &Question<'_>) -> Option<u64> {
    let elsewhere = seen.run.and_then(|run| question.elsewhere.get(job)?.get(&run));
    if elsewhere.is_some() {
        return elsewhere.copied();
    }
    let known = question.books.by_job.get(job).filter(|known| !known.is_empty())?;
    if seen.run.is_some_and(|run| question.newest_runs.contains(&run)) {
        return None;
    }
    if is_future(seen.time, question.now) {
        return Some(FIRST);
    }
    before_which(known, seen, question)
}

/// The lowest order of those whose runs were later. What is dated in the future tells nothing: the clock was wrong then.
fn before_which(known: &KnownById, seen: &Seen, question: &Question<'_>) -> Option<u64> {
    let is_later = |known: &&Known| match (known.run, seen.run) {
        (Some(known), Some(seen)) => known > seen,
        _ => known.time > seen.time,
    };
    let later = known.values().filter(|known| !is_future(known.time, question.now)).filter(is_later);
    later.map(|known| known.order).min()
}
