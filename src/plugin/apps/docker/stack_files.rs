//! Compose and env files go back to their paths on this host; what was there is kept beside, and comes back on a failure.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::content::Owner;
use crate::plugin::apps::docker::list::{Inventory, KeptDirectory};
use crate::plugin::apps::docker::restore::place::Job;
use crate::plugin::apps::docker::unwritable;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::place::aside;
use crate::plugin::protocol::{Step, Verb};

/// A file that is to be put back, or is there as it should be.
pub(super) struct Replaced {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
    owner: Option<Owner>,
    /// Those on the way to it that are to be made, outermost first.
    directories: Vec<(PathBuf, Option<Owner>)>,
    /// Where what is there goes.
    kept: Option<PathBuf>,
    verb: Verb,
    detail: &'static str,
}

/// The journal's note of a file that is replaced.
#[derive(Serialize, Deserialize)]
struct Note {
    file: PathBuf,
    /// What was there; none: nothing was.
    kept: Option<PathBuf>,
    /// Which file is ours, by its number: what is there otherwise is not touched.
    inode: u64,
}

/// Decides about each file; nothing is changed.
pub(super) fn plan(
    job: &Job<'_>,
    inventory: &Inventory,
    events: &mut EventWriter<'_>,
) -> Result<Vec<Replaced>, Failure> {
    let mut all = Vec::new();
    for file in &inventory.files {
        let from = job.staging.join(&file.artifact);
        let bytes = fs::read(&from).map_err(|error| {
            Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", from.display()))
        })?;
        let shown = file.path.display();
        let (verb, detail) = match fs::read(&file.path) {
            Ok(there) if there == bytes => (Verb::Keep, "it is the same"),
            Ok(_) if !job.options.overwrite => {
                events.warning(
                    Trouble::new(codes::FILE_DIFFERS, format!("{shown} differs from the backup and stays as it is"))
                        .with_hint("`--option overwrite=true` replaces it"),
                );
                (Verb::Keep, "it differs from the backup")
            }
            Ok(_) => (Verb::Replace, "what was there is kept beside"),
            Err(_) => (Verb::Create, ""),
        };
        all.push(Replaced {
            kept: (verb == Verb::Replace).then(|| aside(&file.path, job.run)),
            directories: to_make(&file.path, &inventory.directories),
            path: file.path.clone(),
            bytes,
            mode: file.mode,
            owner: file.owner,
            verb,
            detail,
        });
    }
    Ok(all)
}

fn to_make(path: &Path, known: &[KeptDirectory]) -> Vec<(PathBuf, Option<Owner>)> {
    let missing = path.ancestors().skip(1).take_while(|directory| !directory.exists());
    let owner = |path: &Path| known.iter().find(|each| each.path == path).map(|each| each.owner);
    let mut all: Vec<_> = missing.map(|directory| (directory.to_owned(), owner(directory))).collect();
    all.reverse();
    all
}

impl Replaced {
    pub(super) fn step(&self) -> Step {
        Step::new(self.verb, self.path.display().to_string(), self.detail)
    }

    /// Refuses what could not be written, as far as that can be seen without a trial.
    pub(super) fn may_be_put(&self) -> Result<(), Failure> {
        if self.verb == Verb::Keep {
            return Ok(());
        }
        if self.path.is_dir() {
            let failure =
                Failure::new(codes::UNWRITABLE, format!("{} is a directory, not a file", self.path.display()));
            return Err(failure.hint("nothing was changed; move it away, or say `compose_files: false`"));
        }
        // That a file system is read-only is told, too.
        access(self.place(), AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| self.closed(&errno.into()))
    }

    /// The same, by a trial: it may have changed since, and a file system may have no room for a name.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.may_be_put()?;
        if self.verb == Verb::Keep {
            return Ok(());
        }
        tempfile::NamedTempFile::new_in(self.place()).map(drop).map_err(|error| self.closed(&error))
    }

    /// The nearest directory that is there.
    fn place(&self) -> &Path {
        self.path.ancestors().skip(1).find(|directory| directory.exists()).unwrap_or(Path::new("/"))
    }

    fn closed(&self, error: &std::io::Error) -> Failure {
        unwritable(&self.path, error)
            .hint("nothing was changed; let the daemon's user write there, or say `compose_files: false`")
    }

    pub(super) fn put(&self, number: usize, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        if self.verb != Verb::Keep {
            self.write(number, journal)?;
        }
        events.planned(self.step());
        Ok(())
    }

    fn write(&self, number: usize, journal: &Journal) -> Result<(), Failure> {
        let failed = |error: std::io::Error| unwritable(&self.path, &error);
        for (directory, owner) in &self.directories {
            if !directory.exists() {
                fs::create_dir(directory).map_err(failed)?;
                let mode = owner.map_or(0o755, |owner| owner.mode & 0o7777);
                fs::set_permissions(directory, fs::Permissions::from_mode(mode)).map_err(failed)?;
                own(directory, *owner).map_err(failed)?;
            }
        }
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(&self.bytes).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(self.mode)).map_err(failed)?;
        own(file.path(), self.owner).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        if let Some(kept) = &self.kept {
            fs::hard_link(&self.path, kept).or_else(|_| fs::copy(&self.path, kept).map(drop)).map_err(failed)?;
        }
        let inode = file.as_file().metadata().map_err(failed)?.ino();
        journal
            .note(&format!("file-{number:05}"), &Note { file: self.path.clone(), kept: self.kept.clone(), inode })?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Gives it the owner that it had, where this user may.
fn own(path: &Path, owner: Option<Owner>) -> std::io::Result<()> {
    let Some(owner) = owner.filter(|_| nix::unistd::geteuid().is_root()) else { return Ok(()) };
    let (uid, gid) = (u32::try_from(owner.uid).ok(), u32::try_from(owner.gid).ok());
    let found = fs::metadata(path)?;
    if (Some(found.uid()), Some(found.gid())) == (uid, gid) { Ok(()) } else { std::os::unix::fs::chown(path, uid, gid) }
}

/// Puts right what a restore left; `committed`: it had come to its end.
pub(super) fn recover(journal: &Journal, committed: bool, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    for (entry, value) in journal.entries::<serde_json::Value>()?.into_iter().rev() {
        if value.get("file").is_none() {
            continue;
        }
        let note: Note = serde_json::from_value(value).map_err(|error| {
            Failure::new(codes::JOURNAL_UNREADABLE, format!("the note {entry} of the journal cannot be read: {error}"))
        })?;
        if !committed {
            let is_ours = fs::symlink_metadata(&note.file).is_ok_and(|found| found.ino() == note.inode);
            let back = match &note.kept {
                Some(kept) if is_ours => fs::rename(kept, &note.file),
                // Not replaced yet: the second name is all that there is of it.
                Some(kept) => fs::remove_file(kept),
                None if is_ours => fs::remove_file(&note.file),
                None => Ok(()),
            };
            match back {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(unwritable(&note.file, &error));
                }
                _ => events.log(format!("{} is what it was", note.file.display())),
            }
        }
        journal.done(&entry)?;
    }
    Ok(())
}

/// Forgets what was noted: everything is put back.
pub(super) fn finish(journal: &Journal) -> Result<(), Failure> {
    let entries = journal.entries::<serde_json::Value>()?;
    entries.iter().filter(|(_, value)| value.get("file").is_some()).try_for_each(|(entry, _)| journal.done(entry))
}
