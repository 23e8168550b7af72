//! Which publications stay, and how the others leave: moved out of sight first, then removed.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::manifest::{self, Manifest, ManifestVerdict};
use super::{ArtifactError, Shelf, files};
use crate::types::site::SiteId;
use crate::types::{JobId, RunId};

/// Most publications of one target that are looked at.
const PUBLICATIONS_MAX: usize = 100_000;

/// A publication on disk whose manifest says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub relative: String,
    /// None: it was made before sites had an identity.
    pub site: Option<SiteId>,
    pub run: RunId,
    pub started: Timestamp,
    /// No validation failed.
    pub sound: bool,
    /// The plugin said that something is missing.
    pub lacks: bool,
    /// Validations that came to no verdict.
    pub unproven: Vec<String>,
}

impl Shelf {
    /// The publications of `job`, in the order of their runs, by the manifests on disk. Dates say nothing: the clock may
    /// have been ahead.
    ///
    /// What is of another site, and what can't be attributed (no manifest, damaged, of another job, not where its manifest says) is left out.
    ///
    /// # Errors
    /// When the target's directory cannot be read.
    pub fn publications(&self, job: &JobId) -> Result<Vec<Publication>, ArtifactError> {
        let target = self.root.join(job.target.as_str());
        let mut found = Vec::new();
        for day in directories(&target)? {
            for directory in directories(&target.join(&day))? {
                if found.len() >= PUBLICATIONS_MAX {
                    return Err(ArtifactError::TooMany { what: "publications", limit: PUBLICATIONS_MAX });
                }
                let relative = format!("{}/{day}/{directory}", job.target);
                let file = target.join(&day).join(&directory).join(manifest::FILE_NAME);
                found.extend(Manifest::load(&file).ok().and_then(|manifest| attribute(job, &relative, &manifest)));
            }
        }
        found.retain(|each| each.site.is_none() || self.site.is_none() || each.site == self.site);
        found.sort_by_key(|publication| publication.run);
        Ok(found)
    }

    /// Removes the oldest publications of `job` beyond the newest `keep_runs` (at least one), and returns their paths
    /// below the root.
    ///
    /// The newest one without a failed validation stays whatever its age: only a proven copy earns the right to
    /// remove older ones. While the job is held, since `held`, those of before are counted apart: nothing that was made
    /// since pushes one of them out.
    ///
    /// # Errors
    /// At the first that cannot be removed; it and younger ones are whole or gone.
    pub fn expire(&self, job: &JobId, keep_runs: u32, held: Option<Timestamp>) -> Result<Vec<String>, ArtifactError> {
        let mut removed = Vec::new();
        let publications = self.publications(job)?.into_iter();
        let (before, since): (Vec<_>, Vec<_>) =
            publications.partition(|each| held.is_some_and(|held| each.started < held));
        for publication in superfluous(&before, keep_runs).into_iter().chain(superfluous(&since, keep_runs)) {
            self.remove(publication)?;
            removed.push(publication.relative.clone());
        }
        Ok(removed)
    }

    fn remove(&self, publication: &Publication) -> Result<(), ArtifactError> {
        let path = self.path_of(&publication.relative)?;
        files::make_private(&self.private())?;
        files::make_private(&self.trash())?;
        let trash = self.trash().join(publication.run.to_string());
        files::remove_tree(&trash)?;
        fs::rename(&path, &trash).map_err(|source| ArtifactError::Move {
            from: path.clone(),
            to: trash.clone(),
            source,
        })?;
        if let Some(day) = path.parent() {
            files::sync_directory(day)?;
            // A day with other publications stays.
            let _ = fs::remove_dir(day);
        }
        files::remove_tree(&trash)
    }
}

/// Those of `publications` (oldest first) that may go.
fn superfluous(publications: &[Publication], keep_runs: u32) -> Vec<&Publication> {
    let keep = usize::try_from(keep_runs.max(1)).unwrap_or(usize::MAX);
    let proven = publications.iter().rposition(|publication| publication.sound);
    publications
        .iter()
        .enumerate()
        .take(publications.len().saturating_sub(keep))
        .filter(|(index, _)| proven.is_some_and(|newest| *index != newest))
        .map(|(_, publication)| publication)
        .collect()
}

fn attribute(job: &JobId, relative: &str, manifest: &Manifest) -> Option<Publication> {
    let at_home = manifest.job() == *job && relative.ends_with(&format!("-{}", manifest.run));
    let (lacks, unproven) = manifest.lacking();
    at_home.then(|| Publication {
        relative: relative.to_owned(),
        site: manifest.site_id.clone(),
        run: manifest.run,
        started: manifest.started,
        lacks,
        unproven,
        sound: manifest.validations.iter().all(|validation| validation.verdict != ManifestVerdict::Failed),
    })
}

/// The names of the real directories in `path`; none when it is missing. Others (files, links, odd names) are not ours.
pub(super) fn directories(path: &Path) -> Result<Vec<String>, ArtifactError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(ArtifactError::read(path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| ArtifactError::read(path, e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publications(sound: &[bool]) -> Vec<Publication> {
        sound
            .iter()
            .enumerate()
            .map(|(day, sound)| Publication {
                relative: day.to_string(),
                site: None,
                run: RunId::from_bytes([0; 16]),
                started: Timestamp::UNIX_EPOCH,
                sound: *sound,
                lacks: false,
                unproven: Vec::new(),
            })
            .collect()
    }

    fn gone(sound: &[bool], keep: u32) -> Vec<String> {
        superfluous(&publications(sound), keep).into_iter().map(|publication| publication.relative.clone()).collect()
    }

    #[test]
    fn the_newest_stay_and_at_least_one() {
        assert_eq!(gone(&[true, true, true], 2), ["0"]);
        assert_eq!(gone(&[true, true, true], 0), ["0", "1"]);
        assert!(gone(&[true, true], 14).is_empty());
        assert!(gone(&[], 1).is_empty());
    }

    #[test]
    fn failed_proofs_never_push_out_the_last_proven_copy() {
        assert_eq!(gone(&[true, true, false, false], 2), ["0"]);
        assert_eq!(gone(&[true, false, true, false], 1), ["0", "1"]);
        assert!(gone(&[false, false, false], 1).is_empty(), "without any proof nothing is removed");
    }
}
