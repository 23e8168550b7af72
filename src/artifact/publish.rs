//! From staged files to a publication: check, hash, flush, describe, and show it by one rename.
//!
//! The steps are functions of their own, so that tests can stop after each as a kill would:
//! [`seal`] → [`describe`] → [`make_place`] → [`reveal`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::manifest::{self, Manifest, ManifestFile, ManifestNotice, ManifestSource, ManifestValidation};
use super::{ArtifactError, PublishRequest, Published, Shelf, Watch, files};
use crate::plugin::ArtifactFile;

/// Most files of one run; a manifest names each of them.
pub const FILES_MAX: usize = 200_000;
/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

impl Shelf {
    /// Publishes what was staged for `request.run`.
    ///
    /// Every plain file in the staging directory belongs to it, announced or not.
    ///
    /// # Errors
    /// When a file is no plain file, has other hard links, lies on another file system, is announced but missing or
    /// has another hash than announced, or still changes; when a limit is passed; when reading, flushing or renaming
    /// fails. Nothing is visible then, and what was staged is still there.
    pub fn publish(&self, request: &PublishRequest) -> Result<Published, ArtifactError> {
        self.publish_watched(request, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Shelf::publish`]; `watch` is told how many bytes were just read and can stop the work.
    ///
    /// # Errors
    /// As [`Shelf::publish`], and [`ArtifactError::Stopped`].
    pub fn publish_watched(&self, request: &PublishRequest, watch: Watch<'_>) -> Result<Published, ArtifactError> {
        let staging = self.staging(request.run);
        let relative = place(request)?;
        let sealed = seal(&staging, &request.captured.artifacts, watch)?;
        let (count, bytes) = (sealed.len() as u64, sealed.iter().map(|file| file.size).sum());
        describe(&staging, &manifest(request, sealed))?;
        let path = make_place(&self.root, &relative)?;
        reveal(&staging, &path)?;
        Ok(Published { relative, path, files: count, bytes, run: request.run })
    }
}

/// Where the run's files will appear, below the root.
fn place(request: &PublishRequest) -> Result<String, ArtifactError> {
    let zone = TimeZone::get(&request.timezone).map_err(|_| ArtifactError::Zone(request.timezone.clone()))?;
    let started = request.started.to_zoned(zone);
    Ok(format!("{}/{}-{}", request.job.target, started.strftime("%Y-%m-%d/%H%M%S"), request.run))
}

/// Step 1: checks, hashes and flushes everything that was staged, and gives it the modes of a publication.
fn seal(staging: &Path, artifacts: &[ArtifactFile], watch: Watch<'_>) -> Result<Vec<ManifestFile>, ArtifactError> {
    let root = fs::symlink_metadata(staging).map_err(|e| ArtifactError::read(staging, e))?;
    let mut found = Found { device: root.dev(), files: BTreeSet::new(), directories: Vec::new() };
    found.walk(staging, Path::new(""), 0)?;
    let announced = announced(artifacts, &found.files)?;
    let mut sealed = Vec::with_capacity(found.files.len());
    for relative in &found.files {
        let (size, sha256) = seal_file(&staging.join(relative), watch)?;
        let expected = announced.get(relative).and_then(|artifact| artifact.sha256.as_deref());
        if expected.is_some_and(|expected| !expected.eq_ignore_ascii_case(&sha256)) {
            return Err(ArtifactError::Differs(relative.clone()));
        }
        let format = relative.ancestors().find_map(|path| announced.get(path)).map(|artifact| artifact.format.clone());
        sealed.push(ManifestFile::new(relative, size, sha256, format.filter(|format| !format.is_empty())));
    }
    // Deepest first: a name is durable once its directory is.
    for directory in found.directories.iter().rev() {
        files::sync_directory(&staging.join(directory))?;
    }
    Ok(sealed)
}

/// Step 2: writes the manifest into the staging directory and flushes both.
fn describe(staging: &Path, manifest: &Manifest) -> Result<(), ArtifactError> {
    let bytes = manifest.compose()?;
    files::write_new(&staging.join(manifest::FILE_NAME), &bytes, files::FILE_MODE)?;
    files::set_mode(staging, files::DIRECTORY_MODE).map_err(|e| ArtifactError::write(staging, e))?;
    files::sync_directory(staging)
}

/// Step 3: makes the target's and the day's directory; empty ones harm nobody.
fn make_place(root: &Path, relative: &str) -> Result<PathBuf, ArtifactError> {
    let path = root.join(relative);
    if let Some(day) = path.parent() {
        if let Some(target) = day.parent() {
            files::make(target, files::DIRECTORY_MODE)?;
        }
        files::make(day, files::DIRECTORY_MODE)?;
    }
    Ok(path)
}

/// Step 4: the one rename, and both directories flushed.
fn reveal(staging: &Path, path: &Path) -> Result<(), ArtifactError> {
    // A rename replaces an empty directory without a word; nothing may be in the way.
    if fs::symlink_metadata(path).is_ok() {
        return Err(ArtifactError::Make { path: path.to_owned(), source: std::io::ErrorKind::AlreadyExists.into() });
    }
    fs::rename(staging, path).map_err(|source| ArtifactError::Move {
        from: staging.to_owned(),
        to: path.to_owned(),
        source,
    })?;
    for directory in [path.parent(), staging.parent()].into_iter().flatten() {
        files::sync_directory(directory)?;
    }
    Ok(())
}

/// What was announced, by path in plain form; each must be a staged file, or a directory with one in it.
fn announced<'a>(
    artifacts: &'a [ArtifactFile],
    files: &BTreeSet<PathBuf>,
) -> Result<BTreeMap<PathBuf, &'a ArtifactFile>, ArtifactError> {
    let mut plain = BTreeMap::new();
    for artifact in artifacts {
        let path: PathBuf = artifact.path.components().filter(|part| *part != Component::CurDir).collect();
        // Paths sort by component, so what is below a directory follows it at once.
        let is_there = files.range(path.clone()..).next().is_some_and(|file| file.starts_with(&path));
        if !is_there {
            return Err(ArtifactError::Announced(artifact.path.clone()));
        }
        plain.insert(path, artifact);
    }
    Ok(plain)
}

/// What lies in a staging directory; paths below it, a directory before what is in it.
struct Found {
    device: u64,
    files: BTreeSet<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Found {
    fn walk(&mut self, staging: &Path, relative: &Path, depth: usize) -> Result<(), ArtifactError> {
        if depth > files::DEPTH_MAX {
            return Err(ArtifactError::TooMany { what: "nested directories", limit: files::DEPTH_MAX });
        }
        let here = staging.join(relative);
        // Also so that a directory without read permission can be read, where it is ours.
        files::set_mode(&here, files::DIRECTORY_MODE).map_err(|e| ArtifactError::write(&here, e))?;
        self.directories.push(relative.to_owned());
        for entry in fs::read_dir(&here).map_err(|e| ArtifactError::read(&here, e))? {
            let entry = entry.map_err(|e| ArtifactError::read(&here, e))?;
            if self.files.len() + self.directories.len() >= FILES_MAX {
                return Err(ArtifactError::TooMany { what: "files", limit: FILES_MAX });
            }
            let path = relative.join(entry.file_name());
            // Of the entry itself, not of what a link points to.
            let metadata = entry.metadata().map_err(|e| ArtifactError::read(&staging.join(&path), e))?;
            if let Some(what) = self.objection(&path, &metadata) {
                return Err(ArtifactError::Refused { path, what });
            }
            if metadata.is_dir() {
                self.walk(staging, &path, depth + 1)?;
            } else {
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// Why something can't be published; none: it can.
    fn objection(&self, relative: &Path, metadata: &Metadata) -> Option<&'static str> {
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return Some("a symbolic link");
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Some("a pipe, socket or device");
        }
        if metadata.dev() != self.device {
            return Some("on another file system");
        }
        // Its content could be changed from elsewhere, and our mode would reach the file elsewhere.
        if kind.is_file() && metadata.nlink() > 1 {
            return Some("a hard link to a file elsewhere");
        }
        (relative == Path::new(manifest::FILE_NAME)).then_some("in the place of the manifest")
    }
}

/// Hashes and flushes one file; its size and hash.
fn seal_file(path: &Path, watch: Watch<'_>) -> Result<(u64, String), ArtifactError> {
    files::set_mode(path, files::FILE_MODE).map_err(|e| ArtifactError::write(path, e))?;
    let mut file = files::open_plain(path).map_err(|e| ArtifactError::read(path, e))?;
    let before = file.metadata().map_err(|e| ArtifactError::read(path, e))?;
    let (size, sha256) = hash(&mut file, path, watch)?;
    file.sync_all().map_err(|e| ArtifactError::write(path, e))?;
    let after = file.metadata().map_err(|e| ArtifactError::read(path, e))?;
    let still = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    if size != after.len() || still(&before) != still(&after) {
        return Err(ArtifactError::Changing(path.to_owned()));
    }
    Ok((size, sha256))
}

/// Reads a file to its end: its size and SHA-256.
pub(super) fn hash(file: &mut fs::File, path: &Path, watch: Watch<'_>) -> Result<(u64, String), ArtifactError> {
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(|e| ArtifactError::read(path, e))?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        size += count as u64;
        if let ControlFlow::Break(()) = watch(count as u64) {
            return Err(ArtifactError::Stopped);
        }
    }
    Ok((size, hex::encode(hasher.finalize())))
}

fn manifest(request: &PublishRequest, files: Vec<ManifestFile>) -> Manifest {
    Manifest {
        version: manifest::VERSION,
        larder: env!("CARGO_PKG_VERSION").to_owned(),
        site_id: request.site.clone(),
        run: request.run,
        target: request.job.target.clone(),
        policy: request.job.policy.clone(),
        revision: request.revision.clone(),
        plugin: request.plugin.clone(),
        app_version: request.captured.app_version.clone(),
        started: request.started,
        files,
        sources: request.captured.sources.iter().map(ManifestSource::from).collect(),
        figures: request.captured.figures.clone(),
        validations: request.validations.iter().map(ManifestValidation::from).collect(),
        warnings: request.captured.warnings.iter().map(ManifestNotice::from).collect(),
        notices: request.captured.notices.iter().map(ManifestNotice::from).collect(),
    }
}

#[cfg(test)]
mod tests;
