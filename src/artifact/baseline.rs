//! What a capture is compared with: the newest publication that had everything, not just the newest one.
//!
//! A run that finds a database emptied or gone is published, too. If the next run were compared with that one, it would
//! find nothing missing, and the loss would be over by itself. So as long as no publication is whole, the last whole one
//! goes on to count, together with all that came since.

use super::Shelf;
use super::expire::Publication;
use super::manifest::{self, Manifest};
use crate::plugin::{ArtifactFile, CaptureFacts};
use crate::run::hold::{Accepted, HoldKind};
use crate::types::JobId;

/// Publications behind the last whole one that are looked into, the newest of them.
const PARTS_MAX: usize = 100;

/// Artifacts that are named to the plugin.
const ARTIFACTS_MAX: usize = 10_000;

impl Shelf {
    /// What the job's captures told when they had everything; none when there is no sound publication that can be read.
    ///
    /// A proof that was lacking counts as made where somebody accepted that since.
    #[must_use]
    pub fn baseline(&self, job: &JobId, accepted: &[Accepted]) -> Option<CaptureFacts> {
        let mut publications = self.publications(job).ok()?;
        publications.retain(|publication| publication.sound);
        let whole = publications.iter().rposition(|publication| is_whole(publication, accepted)).unwrap_or(0);
        // The whole one counts however many parts came since.
        let since = (whole + 1).max(publications.len().saturating_sub(PARTS_MAX));
        let parts = publications.get(since..).unwrap_or_default();
        let facts = publications.get(whole).into_iter().chain(parts).filter_map(|publication| {
            let path = self.path_of(&publication.relative).ok()?.join(manifest::FILE_NAME);
            Some(Manifest::load(&path).ok()?.facts())
        });
        facts.map(bounded).reduce(most)
    }
}

/// Whether nothing was missing that nobody accepted.
fn is_whole(publication: &Publication, accepted: &[Accepted]) -> bool {
    let is_accepted = |name: &String| {
        let of = |each: &&Accepted| each.kind == HoldKind::MissingProof && each.subject == *name;
        accepted.iter().filter(of).any(|each| each.at >= publication.started)
    };
    publication.sound && !publication.lacks && publication.unproven.iter().all(is_accepted)
}

/// Without hashes, sources and what has no format of its own: for comparing that is enough.
fn bounded(facts: CaptureFacts) -> CaptureFacts {
    let named = facts.artifacts.into_iter().filter(|artifact| !artifact.format.is_empty()).take(ARTIFACTS_MAX);
    let artifacts = named.map(|artifact| ArtifactFile { sha256: None, ..artifact }).collect();
    CaptureFacts { artifacts, sources: Vec::new(), ..facts }
}

/// All that either had, and the most of what both counted.
fn most(earlier: CaptureFacts, later: CaptureFacts) -> CaptureFacts {
    let mut all = later;
    for (name, count) in earlier.figures {
        let figure = all.figures.entry(name).or_default();
        *figure = count.max(*figure);
    }
    for artifact in earlier.artifacts {
        if all.artifacts.len() < ARTIFACTS_MAX && !all.artifacts.iter().any(|other| other.path == artifact.path) {
            all.artifacts.push(artifact);
        }
    }
    all.app_version = all.app_version.or(earlier.app_version);
    all
}
