//! Whether the ledger is older than the repository: it holds snapshots of this very site by runs that the ledger does not
//! know, later than all that it knows. Pure.
//!
//! So it is when a state directory was put back from an older copy, or when two machines run with copies of one state.
//! What the ledger knows and is gone then says nothing: a later state may have forgotten it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Books, JOBS_MAX, Known, Question, Seen};
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
    /// The lowest place among them in the order of runs; what is gone from below it is explained.
    pub order: u64,
}

impl Newer {
    /// What is typed to take the repository as it is.
    #[must_use]
    pub fn value(&self) -> String {
        format!("newer:{}", self.snapshots)
    }

    /// Whether a later state may have forgotten it.
    #[must_use]
    pub fn explains(&self, known: &Known) -> bool {
        known.order < self.order
    }
}

/// The runs that the snapshots which are not in the books were made by: whether the ledger has them is to be looked up.
pub fn unknown_runs<'a>(listing: &'a [Seen], books: &'a Books) -> impl Iterator<Item = RunId> + 'a {
    let unknown = |seen: &&Seen| seen.job.as_ref().is_some_and(|job| !books.knows(job, &seen.id));
    listing.iter().filter(unknown).filter_map(|seen| seen.run)
}

/// What was found before and nobody accepted, and what is `adopted` now by runs that are not in the ledger.
pub(super) fn newer(
    adopted: &[(JobId, String, Known)],
    missing: &BTreeMap<JobId, Vec<(String, Known)>>,
    question: &Question<'_>,
) -> Vec<Newer> {
    let before = question.before.map(|before| before.newer.as_slice()).unwrap_or_default();
    let mut found: BTreeMap<JobId, Newer> = before.iter().map(|each| (each.job.clone(), each.clone())).collect();
    let newest_known = question.books.by_job.values().flat_map(BTreeMap::values).filter_map(|known| known.run).max();
    let is_later = |run: RunId| newest_known.is_some_and(|newest| run > newest) && question.unknown_runs.contains(&run);
    for (job, _, known) in adopted.iter().filter(|(_, _, known)| known.run.is_some_and(is_later)) {
        let each = found.entry(job.clone()).or_insert_with(|| Newer {
            job: job.clone(),
            snapshots: 0,
            gone: 0,
            since: question.now,
            from: known.time,
            to: known.time,
            order: known.order,
        });
        each.snapshots += 1;
        each.from = each.from.min(known.time);
        each.to = each.to.max(known.time);
        each.order = each.order.min(known.order);
    }
    for each in found.values_mut() {
        let gone = missing.get(&each.job).into_iter().flatten();
        each.gone = gone.filter(|(_, known)| each.explains(known)).count() as u64;
    }
    found.into_values().take(JOBS_MAX).collect()
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
