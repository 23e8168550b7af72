//! Snapshots that hold something else than what their runs put there. Pure.
//!
//! `restic tag` leaves what a snapshot holds, which its tree's id tells; `restic rewrite` leaves files out of it, and `restic
//! repair snapshots` all that cannot be read any more, down to nothing. Where that says so (its tag) beside the one that it
//! could not read, that one is not whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Known, Ours, Question, Seen, mark, places};
use crate::types::JobId;

/// Snapshots of a job that somebody wrote anew with something else in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    pub job: JobId,
    pub snapshots: u64,
    /// The newest of the job is among them.
    pub newest: bool,
    /// When it was noticed.
    pub since: Timestamp,
    /// What the oldest and newest of them are dated.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Which they are, in short.
    #[serde(default)]
    pub mark: String,
}

impl Altered {
    /// What is typed to take them as they are.
    #[must_use]
    pub fn value(&self) -> String {
        mark::value("altered", self.snapshots, &self.mark)
    }
}

/// What is not known, by the known one that it is a second one of.
pub(super) type Copies<'a> = BTreeMap<(&'a JobId, &'a String), Vec<&'a Seen>>;

/// The second snapshots of runs that are known.
pub(super) fn copies<'a>(listing: &'a [Seen], question: &Question<'a>) -> Copies<'a> {
    let mut copies = Copies::new();
    for seen in listing {
        let Some(job) = seen.job.as_ref().filter(|_| super::is_ours(seen, question)) else { continue };
        if question.books.knows(job, &seen.id) {
            continue;
        }
        if let Some((id, _)) = places::first_of(seen, question.books) {
            copies.entry((job, id)).or_default().push(seen);
        }
    }
    copies
}

/// `known` as it is now that it was `seen`, with the `copies` of it.
pub(super) fn noted(known: &Known, seen: &Seen, copies: &[&Seen]) -> Known {
    let mut after = known.clone();
    let repaired = copies.iter().find(|each| each.repaired && !after.may_hold(each));
    after.altered = match (repaired, &seen.tree) {
        _ if !after.trees.is_empty() && !after.may_hold(seen) => seen.tree.clone(),
        (Some(repaired), tree) => {
            // Nobody noted what the one beside it holds: it is what its run made.
            after.trees.extend(tree.clone().filter(|_| after.trees.is_empty() && !seen.repaired));
            repaired.tree.clone()
        }
        // Nobody noted what it held.
        (None, Some(tree)) if after.trees.is_empty() && seen.repaired => Some(tree.clone()),
        (None, Some(tree)) => {
            after.trees.insert(tree.clone());
            None
        }
        (None, None) => None,
    };
    after
}

impl Known {
    /// Whether that is what its run put there, or somebody accepted; what restic does not tell is no reproach.
    fn may_hold(&self, seen: &Seen) -> bool {
        seen.tree.as_ref().is_none_or(|tree| self.trees.contains(tree))
    }

    /// What it holds now is right from now on.
    pub fn accept_altered(&mut self) {
        self.trees.extend(self.altered.take());
    }
}

/// What is said of those that are `altered`, by job.
pub(super) fn altered(
    altered: &BTreeMap<&JobId, Vec<(&String, &Known)>>,
    ours: &BTreeMap<JobId, Vec<Ours>>,
    question: &Question<'_>,
) -> Vec<Altered> {
    let before = question.before.map(|before| before.altered.as_slice()).unwrap_or_default();
    let summary = |(job, all): (&&JobId, &Vec<(&String, &Known)>)| {
        let newest = ours.get(*job).and_then(|ours| ours.last()).map(|newest| &newest.id);
        // In one order, whoever found them first.
        let by_id: BTreeMap<&String, &Known> = all.iter().copied().collect();
        let parts = by_id.iter().flat_map(|(id, known)| [id.as_str(), known.altered.as_deref().unwrap_or_default()]);
        Some(Altered {
            job: (*job).clone(),
            snapshots: all.len() as u64,
            newest: all.iter().any(|(id, _)| Some(*id) == newest),
            since: before.iter().find(|each| each.job == **job).map_or(question.now, |each| each.since),
            from: all.iter().map(|(_, known)| known.time).min()?,
            to: all.iter().map(|(_, known)| known.time).max()?,
            mark: mark::of(question.destination, parts),
        })
    };
    altered.iter().filter_map(summary).collect()
}
