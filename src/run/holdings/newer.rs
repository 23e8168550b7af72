//! Whether the repository holds snapshots of this very site by runs that the ledger does not know. Pure.
//!
//! So it is when a state directory was put back from an older copy, when two machines run with copies of one state, or when
//! the state was lost. Where they are later than all that the ledger knows it is the older one, and what it knows and is
//! gone says nothing: a later state may have forgotten it. Where they are among its own, another machine made them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Books, Known, Question, Seen, Sorted, mark};
use crate::types::{JobId, RunId};

/// Snapshots of a job that the ledger should know and does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    pub job: JobId,
    pub snapshots: u64,
    /// Those that it knows and that are gone.
    pub gone: u64,
    /// When it was noticed.
    pub since: Timestamp,
    /// What the oldest and newest of the unknown ones are dated.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Behind all that was known when it was noticed, in the order of runs; what is gone from below it is explained.
    pub order: u64,
    /// Some of them are of the time of runs that the ledger knows: another machine made them beside this one.
    #[serde(default)]
    pub beside: bool,
    /// Where one of them was made, as its machine calls itself, where neither this one nor the one that made the newest that
    /// the ledger knows calls itself so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Which they are, in short.
    #[serde(default)]
    pub mark: String,
}

impl Newer {
    /// What is typed to take the repository as it is.
    #[must_use]
    pub fn value(&self) -> String {
        mark::value("newer", self.snapshots, &self.mark)
    }

    /// Whether a later state may have forgotten it.
    #[must_use]
    pub fn explains(&self, known: &Known) -> bool {
        known.order < self.order
    }
}

/// The runs that the snapshots which are not in the books were made by: whether the ledger has them is to be looked up.
pub fn unknown_runs<'a>(listing: &'a [Seen], books: &'a Books) -> impl Iterator<Item = (&'a JobId, RunId)> + 'a {
    let unknown =
        |seen: &&Seen| seen.site.is_some() && seen.job.as_ref().is_some_and(|job| !books.knows(job, &seen.id));
    listing.iter().filter(unknown).filter_map(|seen| seen.job.as_ref().zip(seen.run))
}

/// How many snapshots of ours tell that there was a ledger before this one, which knows of no snapshot anywhere.
#[must_use]
pub fn from_before(sorted: &Sorted, question: &Question<'_>) -> u64 {
    let is_unknown = |known: &Known| known.run.is_some_and(|run| question.unknown_runs.contains(&run));
    if question.books.highest > 0 {
        return 0;
    }
    sorted.adopted.iter().filter(|(_, _, known)| is_unknown(known)).count() as u64
}

/// What was found before and nobody accepted, and what is `adopted` now by runs that are not in the ledger.
///
/// A ledger that knows of no snapshot anywhere is no older one: it was lost, see [`from_before`].
pub(super) fn newer(
    listing: &[Seen],
    adopted: &[(JobId, String, Known)],
    missing: &BTreeMap<JobId, Vec<(String, Known)>>,
    question: &Question<'_>,
) -> Vec<Newer> {
    let before = question.before.map(|before| before.newer.as_slice()).unwrap_or_default();
    let mut found: BTreeMap<JobId, Newer> = before.iter().map(|each| (each.job.clone(), each.clone())).collect();
    let known_runs = question.books.by_job.values().flat_map(BTreeMap::iter);
    let newest_known = known_runs.filter_map(|(id, known)| Some((known.run?, id))).max();
    let on = |id: &String| listing.iter().find(|seen| seen.id == *id)?.on.as_deref();
    let own = [question.machine, newest_known.and_then(|(_, id)| on(id))];
    let is_unknown = |run: &RunId| question.books.highest > 0 && question.unknown_runs.contains(run);
    for (job, id, known) in adopted {
        let Some(run) = known.run.filter(is_unknown) else { continue };
        let each = found.entry(job.clone()).or_insert_with(|| Newer {
            job: job.clone(),
            snapshots: 0,
            gone: 0,
            since: question.now,
            from: known.time,
            to: known.time,
            order: behind(question, job),
            beside: false,
            on: None,
            mark: String::new(),
        });
        each.beside |= newest_known.is_some_and(|(newest, _)| run < newest);
        if let Some(machine) = on(id).filter(|machine| !own.contains(&Some(*machine))) {
            each.on = Some(machine.to_owned());
        }
        each.snapshots += 1;
        each.mark = mark::of(question.destination, [each.mark.as_str(), id.as_str()]);
        each.from = each.from.min(known.time);
        each.to = each.to.max(known.time);
    }
    for each in found.values_mut() {
        let gone = missing.get(&each.job).into_iter().flatten();
        each.gone = gone.filter(|(_, known)| each.explains(known)).count() as u64;
    }
    found.into_values().collect()
}

fn behind(question: &Question<'_>, job: &JobId) -> u64 {
    let known = question.books.by_job.get(job).into_iter().flat_map(BTreeMap::values);
    known.map(|known| known.order).max().map_or(0, |order| order + 1)
}

/// The missing without those that a later state may have forgotten.
pub(super) fn unexplained(
    missing: &BTreeMap<JobId, Vec<(String, Known)>>,
    newer: &[Newer],
) -> BTreeMap<JobId, Vec<(String, Known)>> {
    let explained = |job: &JobId, known: &Known| newer.iter().any(|each| each.job == *job && each.explains(known));
    let left = missing.iter().map(|(job, gone)| {
        let left: Vec<(String, Known)> = gone.iter().filter(|(_, known)| !explained(job, known)).cloned().collect();
        (job.clone(), left)
    });
    left.filter(|(_, gone)| !gone.is_empty()).collect()
}
