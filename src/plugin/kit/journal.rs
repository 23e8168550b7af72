//! A plugin's notes of what must be undone on the application, durable before it is done.
//!
//! A capture that stops a container, opens a session or makes a snapshot on a server first writes an entry, and removes
//! it when that is undone. A capture that was killed in between leaves its entries, and `recover` gets them: nothing of
//! ours stays behind on the application. Entries hold no secret; `recover` gets the settings again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tool::file_name;
use crate::plugin::protocol::Request;

/// What the name of an entry ends with while it is written.
const HALF: &str = ".half";

/// More entries than this are no journal of ours.
const ENTRIES_MAX: usize = 10_000;

/// The journal of one run.
#[derive(Clone)]
pub(crate) struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal that the host gave.
    pub(crate) fn of(request: &Request) -> Result<Self, Failure> {
        match &request.journal {
            Some(directory) => Ok(Self { directory: directory.clone() }),
            None => Err(Failure::new(codes::NO_JOURNAL, "the request names no journal")
                .hint("this program is started by larder; a newer one gives `journal`")),
        }
    }

    /// The one that the host gave, else one of our own below `directory`.
    pub(crate) fn or_within(given: Option<&Self>, directory: &Path) -> Result<Self, Failure> {
        given.map_or_else(|| Self::within(directory), |given| Ok(given.clone()))
    }

    /// One of our own below `directory`, for a caller who keeps none: it outlives no kill.
    pub(crate) fn within(directory: &Path) -> Result<Self, Failure> {
        let directory = directory.join(".larder-journal");
        match fs::create_dir_all(&directory) {
            Ok(()) => Ok(Self { directory }),
            Err(error) => {
                Err(Failure::new(codes::JOURNAL_UNWRITABLE, format!("{} cannot be made: {error}", directory.display())))
            }
        }
    }

    /// Where what must outlive this process may lie, too.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes an entry, durable when this returns; one of the same name is replaced.
    pub(crate) fn note(&self, name: &str, what: &impl Serialize) -> Result<(), Failure> {
        let (path, half) = (self.entry(name), self.directory.join(format!(".{}{HALF}", file_name(name))));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&half)?;
            file.write_all(&serde_json::to_vec(what)?)?;
            file.sync_all()?;
            fs::rename(&half, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| {
            Failure::new(
                codes::JOURNAL_UNWRITABLE,
                format!("the journal {} cannot be written: {error}", path.display()),
            )
            .hint("nothing was changed on the application; make room in the state directory")
            .later()
        })
    }

    /// Removes an entry: what it stood for is undone. Durable when this returns, so after a power failure entries are gone in
    /// the order in which they were removed.
    pub(crate) fn done(&self, name: &str) -> Result<(), Failure> {
        let path = self.entry(name);
        let removed = match fs::remove_file(&path) {
            // By an attempt that may not have come to the flush.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        match removed.and_then(|()| File::open(&self.directory)?.sync_all()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(codes::JOURNAL_UNWRITABLE, format!("{} cannot be removed: {error}", path.display()))
                    .hint("look at the disk of the state directory, and make room there"))
            }
            _ => Ok(()),
        }
    }

    /// What is still to be undone, by name, in the order of the names. Removes what a process that was killed had written of
    /// one: nothing was done for that yet.
    pub(crate) fn entries<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, Failure> {
        let broken = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::new(codes::JOURNAL_UNREADABLE, format!("the journal {} cannot be read: {error}", path.display()))
        };
        let listed = fs::read_dir(&self.directory).map_err(|error| broken(&self.directory, &error))?;
        let listed: Vec<PathBuf> = listed
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .map_err(|error| broken(&self.directory, &error))?;
        let is_half = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with('.') && name.ends_with(HALF)
        };
        for half in listed.iter().filter(|path| is_half(path)) {
            let _ = fs::remove_file(half);
        }
        let mut paths: Vec<PathBuf> = listed
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
            .take(ENTRIES_MAX)
            .collect();
        paths.sort();
        let mut entries = Vec::new();
        for path in paths {
            let bytes = fs::read(&path).map_err(|error| broken(&path, &error))?;
            let entry = serde_json::from_slice(&bytes).map_err(|error| broken(&path, &error))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            entries.push((name, entry));
        }
        Ok(entries)
    }

    fn entry(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}.json", file_name(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_until_it_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal { directory: directory.path().to_owned() };
        journal.note("b", &2).unwrap();
        journal.note("a", &1).unwrap();
        journal.note("a", &3).unwrap();
        assert_eq!(journal.entries::<u32>().unwrap(), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
        fs::write(directory.path().join(".c.half"), "{\"of one who was kil").unwrap();
        fs::write(directory.path().join(".d"), "something else").unwrap();
        assert_eq!(journal.entries::<u32>().unwrap().len(), 2);
        assert!(!directory.path().join(".c.half").exists() && directory.path().join(".d").exists());
        journal.done("a").unwrap();
        journal.done("a").unwrap();
        assert_eq!(journal.entries::<u32>().unwrap(), [("b".to_owned(), 2)]);
    }
}
