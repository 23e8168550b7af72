//! Snapshots that have another id than the one that we know: `restic tag` and `restic rewrite` write a snapshot anew. Pure.
//!
//! One run makes one snapshot of a job in a repository. So what was made of one that is not there any more, or by the same
//! run, is that one; `restic tag --set` takes every mark of ours from it. Whether it still holds the same is another
//! question, see `altered`.

use std::collections::BTreeSet;

use super::places::is_of_one_run;
use super::{Books, Known, Seen};
use crate::types::JobId;
use crate::types::site::SiteId;

/// A snapshot that somebody wrote anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    pub job: JobId,
    pub from: String,
    pub to: String,
    pub known: Known,
}

/// Those of `listing` that are known to `books` by another id.
#[must_use]
pub fn renamed(listing: &[Seen], books: &Books, site: &SiteId) -> Vec<Renamed> {
    let there: BTreeSet<&str> = listing.iter().map(|seen| seen.id.as_str()).collect();
    let known: BTreeSet<&str> = books.by_job.values().flatten().map(|(id, _)| id.as_str()).collect();
    let may_be =
        |seen: &&Seen| seen.site.as_deref().is_none_or(|of| of == site.as_str()) && !known.contains(seen.id.as_str());
    let mut unknown: Vec<&Seen> = listing.iter().filter(may_be).collect();
    let mut renamed = Vec::new();
    if unknown.is_empty() {
        return renamed;
    }
    for (job, all) in &books.by_job {
        for (id, known) in all.iter().filter(|(id, _)| !there.contains(id.as_str())) {
            let same = unknown.iter().filter(|seen| is_the_same(seen, job, id, known));
            let holds_another = |seen: &Seen| seen.tree.as_ref().is_none_or(|tree| !known.trees.contains(tree));
            let Some(seen) = same.min_by_key(|seen| (holds_another(seen), seen.repaired)).copied() else { continue };
            // Two that were made of one are not both that one.
            unknown.retain(|each| each.id != seen.id);
            let original = seen.original.clone().or_else(|| known.original.clone()).unwrap_or_else(|| id.clone());
            let known = Known { missing: false, original: Some(original), ..known.clone() };
            renamed.push(Renamed { job: job.clone(), from: id.clone(), to: seen.id.clone(), known });
        }
    }
    renamed
}

fn is_the_same(seen: &Seen, job: &JobId, id: &str, known: &Known) -> bool {
    // To the nanosecond.
    let looks_alike = || seen.time == known.time && seen.tree.as_ref().is_some_and(|tree| known.trees.contains(tree));
    seen.job.as_ref().is_none_or(|of| of == job) && (is_of_one_run(seen, id, known) || looks_alike())
}

impl Books {
    /// Knows the renamed by their new ids, as far as it knew them.
    pub fn rename(&mut self, renamed: &[Renamed]) {
        for each in renamed {
            let Some(known) = self.by_job.get_mut(&each.job) else { continue };
            if known.remove(&each.from).is_some() {
                known.insert(each.to.clone(), each.known.clone());
            }
        }
    }
}
