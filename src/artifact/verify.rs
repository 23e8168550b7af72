//! Whether a publication is still what its manifest says.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::DEPTH_MAX;
use super::manifest::{self, ManifestFile};
use super::publish::{self, FILES_MAX};
use super::{ArtifactError, Shelf, Watch, files};

/// Most faults that are told; more than these say nothing new.
pub const FAULTS_MAX: usize = 100;

/// What a verification found; no faults: proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub files: u64,
    pub bytes: u64,
    pub faults: Vec<Fault>,
}

/// One thing that is not as the manifest says; the path is below the publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Missing(String),
    /// Another size or hash, or no plain file any more.
    Changed(String),
    /// Not in the manifest.
    Extra(String),
}

impl Shelf {
    /// Reads every file of a publication again and compares it with the manifest.
    ///
    /// # Errors
    /// When it could not be verified: no manifest, unreadable, stopped by `watch`. Differences are no errors.
    pub fn verify(&self, relative: &str, watch: Watch<'_>) -> Result<Verified, ArtifactError> {
        let root = self.path_of(relative)?;
        let manifest = self.load_manifest(relative)?;
        let mut verified = Verified::default();
        let mut known = BTreeSet::from([PathBuf::from(manifest::FILE_NAME)]);
        for file in &manifest.files {
            let Some(path) = file.relative() else {
                verified.tell(Fault::Changed(file.path.clone()));
                continue;
            };
            if let Some(fault) = compare(&root.join(&path), file, watch)? {
                verified.tell(fault);
            } else {
                verified.files += 1;
                verified.bytes += file.size;
            }
            known.insert(path);
        }
        extras(&root, Path::new(""), 0, &known, &mut verified)?;
        Ok(verified)
    }
}

impl Verified {
    fn tell(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

fn compare(path: &Path, expected: &ManifestFile, watch: Watch<'_>) -> Result<Option<Fault>, ArtifactError> {
    let changed = || Ok(Some(Fault::Changed(expected.path.clone())));
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.len() == expected.size => {}
        Ok(_) => return changed(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Some(Fault::Missing(expected.path.clone())));
        }
        Err(error) => return Err(ArtifactError::read(path, error)),
    }
    let mut file = files::open_plain(path).map_err(|e| ArtifactError::read(path, e))?;
    let (size, sha256) = publish::hash(&mut file, path, watch)?;
    if size == expected.size && sha256 == expected.sha256 { Ok(None) } else { changed() }
}

fn extras(
    root: &Path,
    relative: &Path,
    depth: usize,
    known: &BTreeSet<PathBuf>,
    verified: &mut Verified,
) -> Result<(), ArtifactError> {
    let here = root.join(relative);
    if depth > DEPTH_MAX {
        return Err(ArtifactError::TooMany { what: "nested directories", limit: DEPTH_MAX });
    }
    for (count, entry) in fs::read_dir(&here).map_err(|e| ArtifactError::read(&here, e))?.enumerate() {
        if count >= FILES_MAX {
            return Err(ArtifactError::TooMany { what: "files", limit: FILES_MAX });
        }
        let entry = entry.map_err(|e| ArtifactError::read(&here, e))?;
        let path = relative.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            extras(root, &path, depth + 1, known, verified)?;
        } else if !known.contains(&path) {
            verified.tell(Fault::Extra(path.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}
