//! Snapshots that have another id than the one that we know: `restic tag` and `restic rewrite` write a snapshot anew. Pure.
//!
//! One run makes one snapshot of a job in a repository. So one of ours that we do not know, by the run of one that is not
//! there any more, is that one.

use std::collections::BTreeSet;

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
    let mut there: BTreeSet<&str> = listing.iter().map(|seen| seen.id.as_str()).collect();
    let mut renamed = Vec::new();
    for seen in listing.iter().filter(|seen| seen.site.as_deref().is_none_or(|of| of == site.as_str())) {
        let Some(job) = &seen.job else { continue };
        let Some(known) = books.by_job.get(job).filter(|known| !known.contains_key(&seen.id)) else { continue };
        let is_the_same = |id: &str, known: &Known| {
            seen.original.as_deref() == Some(id) || (known.run.is_some() && known.run == seen.run)
        };
        let before = known.iter().find(|(id, known)| !there.contains(id.as_str()) && is_the_same(id, known));
        let Some((from, known)) = before else { continue };
        // Two that were made of one are not both that one.
        there.insert(from);
        let known = Known { missing: false, ..known.clone() };
        renamed.push(Renamed { job: job.clone(), from: from.clone(), to: seen.id.clone(), known });
    }
    renamed
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
