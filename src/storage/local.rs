//! A directory of this host, or a share that is mounted here: looked at with an end, as every path that somebody named.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::name;
use super::probe::{LEFT_S, PROBE_MAX, Probe, Question, skew_shown};
use super::{ControlClient, LISTED_MAX, Listed, Stat, StorageError};
use crate::look;

/// Entries of a directory that are looked through for probes of ours, at most.
const LOOKED_MAX: usize = 1_000;

/// A repository in a directory.
pub(super) struct Local {
    root: PathBuf,
    patience: Duration,
}

impl Local {
    pub(super) fn open(root: &Path, patience: Duration) -> Result<Self, StorageError> {
        if root.is_absolute() {
            return Ok(Self { root: root.to_owned(), patience });
        }
        let value = root.display().to_string();
        Err(StorageError::BadPlace { what: "the directory", value, why: "it is not absolute".to_owned() })
    }

    /// Does `work` on the directory off this thread.
    fn look<T: Send + 'static>(
        &self,
        bound: Duration,
        work: impl FnOnce(PathBuf) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let root = self.root.clone();
        look::within(&self.root, bound, move || work(root)).map_err(StorageError::Hangs)?
    }
}

impl ControlClient for Local {
    fn stat(&self, name: &str) -> Result<Option<Stat>, StorageError> {
        let name = name::laid_out(name)?;
        self.look(self.patience, move |root| {
            let path = root.join(name);
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => Ok(Some(stat_of(&found))),
                Ok(_) => Ok(None),
                Err(error) if is_missing(&error) => Ok(None),
                Err(source) => Err(StorageError::Read { path, source }),
            }
        })
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        name::check_directory(directory)?;
        let (directory, place) = (directory.to_owned(), self.shown());
        self.look(self.patience, move |root| list(&root.join(&directory), &place, &directory))
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let (name, place) = (name::laid_out(name)?, self.shown());
        self.look(self.patience, move |root| {
            let path = root.join(&name);
            let unreadable = |source| StorageError::Read { path: path.clone(), source };
            let file = match look::open_file(&path) {
                Ok(Some(file)) => file,
                Ok(None) => return Ok(None),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(unreadable(error)),
            };
            let mut bytes = Vec::new();
            file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
            if bytes.len() as u64 > bytes_max {
                return Err(StorageError::TooLarge { place, name, bytes_max });
            }
            Ok(Some(bytes))
        })
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let (name, place, bytes) = (name::laid_out(name)?, self.shown(), bytes.to_vec());
        self.look(self.patience, move |root| {
            let path = root.join(&name);
            match put_new(&root, &path, &bytes) {
                Ok(()) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(StorageError::Exists { place, name }),
                Err(error) if is_missing(&error) => {
                    let path = path.parent().unwrap_or(&root).display().to_string();
                    Err(StorageError::DirectoryMissing { place, path })
                }
                Err(source) => Err(StorageError::Write { path, source }),
            }
        })
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let (name, place) = (name::laid_out(name)?, self.shown());
        self.look(self.patience, move |root| {
            let path = root.join(&name);
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(()),
                Err(error) if is_missing(&error) => Err(StorageError::NotFound { place, name }),
                Err(source) => Err(StorageError::Write { path, source }),
            }
        })
    }

    fn probe(&self) -> Probe {
        let place = self.shown();
        let probed = self.look(self.patience.min(PROBE_MAX), move |root| Ok(probe(&root, &place)));
        probed.unwrap_or_else(|error| {
            let mut probe = Probe::new();
            probe.failed(Question::Reachable, error);
            probe.done()
        })
    }

    fn shown(&self) -> String {
        self.root.display().to_string()
    }
}

fn stat_of(found: &std::fs::Metadata) -> Stat {
    Stat { bytes: found.len(), modified: found.modified().ok().and_then(|time| Timestamp::try_from(time).ok()) }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn list(path: &Path, place: &str, directory: &str) -> Result<Vec<Listed>, StorageError> {
    let unreadable = |source| StorageError::Read { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        // One that is gone meanwhile is not there, and one whose name is no text is not of restic.
        let (Ok(name), Ok(found)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if !found.is_file() {
            continue;
        }
        if all.len() >= LISTED_MAX {
            let (place, directory) = (place.to_owned(), directory.to_owned());
            return Err(StorageError::TooMany { place, directory, count_max: LISTED_MAX });
        }
        let Stat { bytes, modified } = stat_of(&found);
        all.push(Listed { name, bytes, modified });
    }
    Ok(all)
}

/// Beside it and renamed, never over another; the names of restic's own temporary files are taken for nothing by restic.
fn put_new(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut half =
        tempfile::Builder::new().prefix(&format!("{}-tmp-", name.to_string_lossy())).tempfile_in(directory)?;
    half.write_all(bytes)?;
    half.as_file().sync_all()?;
    // Whoever may read the repository may read it.
    if let Ok(like) = std::fs::metadata(root.join("config")) {
        half.as_file().set_permissions(like.permissions())?;
    }
    half.persist_noclobber(path).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()
}

fn probe(root: &Path, place: &str) -> Probe {
    let mut probe = Probe::new();
    probe.ok(Question::Reachable, "it answers");
    probe.ok(Question::Authorised, "no login is needed");
    // A repository that is yet to be made: where its directory would be.
    let parent = root.parent().unwrap_or(root);
    let (within, is_there) = if root.is_dir() { (root, true) } else { (parent, false) };
    if !within.is_dir() {
        let path = within.display().to_string();
        probe.failed(Question::Place, StorageError::DirectoryMissing { place: place.to_owned(), path });
        return probe.done();
    }
    probe.ok(Question::Place, if is_there { "the directory is there" } else { "the directory above it is there" });
    match std::fs::metadata(root.join("config")) {
        Ok(found) => probe.repository(found.is_file()),
        Err(error) if is_missing(&error) => probe.repository(false),
        Err(source) => {
            probe.failed(Question::Repository, StorageError::Read { path: root.join("config"), source });
            return probe.done();
        }
    }
    clear(within);
    if let Ok(found) = nix::sys::statvfs::statvfs(within) {
        probe.room(found.blocks_available().saturating_mul(found.fragment_size()));
    }
    let path = within.join(name::of_probe());
    let skew_s = match write_and_read(&path) {
        Ok(skew_s) => skew_s,
        Err(source) => {
            let _ = std::fs::remove_file(&path);
            probe.failed(Question::Writable, StorageError::Write { path: within.to_owned(), source });
            return probe.done();
        }
    };
    probe.ok(Question::Writable, "a file was put and read back");
    probe.skew(skew_s, skew_shown(skew_s));
    match std::fs::remove_file(&path) {
        Ok(()) => probe.deletes("yes"),
        Err(error) => probe.keeps(format!("no: {error}")),
    }
    probe.done()
}

/// Answers how far the clock of what lies there (a share has another one) is ahead, in seconds.
fn write_and_read(path: &Path) -> io::Result<i64> {
    let written = path.to_string_lossy().into_owned().into_bytes();
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(&written)?;
    file.sync_all()?;
    if std::fs::read(path)? != written {
        return Err(io::Error::other("what is read is not what was written"));
    }
    let seconds = |time: SystemTime| Timestamp::try_from(time).map_or(0, Timestamp::as_second);
    Ok(seconds(std::fs::metadata(path)?.modified()?) - Timestamp::now().as_second())
}

/// Removes what probes that were killed left.
fn clear(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(LOOKED_MAX);
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name::PROBE_PREFIX)) {
        let found = entry.metadata().ok().filter(std::fs::Metadata::is_file);
        let modified = found.and_then(|found| found.modified().ok()).and_then(|time| Timestamp::try_from(time).ok());
        if modified.is_some_and(|time| Timestamp::now().as_second() - time.as_second() > LEFT_S) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
