//! What a restore leaves in its place and gives other attributes: noted here before, and given back to undo it.
//!
//! Only what the restore touches is noted and given back, the directories that it goes through and the files that it
//! leaves but for their attributes. Those files are noted with their content, since only by it can be told whether one is
//! still the same; so the state directory needs room for them until the restore ends. What lies beside them is somebody
//! else's, who may not want it read and goes on writing to it. For the same reason no content is given back: a file that
//! somebody wrote to meanwhile is left as it is, and told.
//! A directory that leaves, since the backup has a file there, is noted apart: it alone is made again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::changes::{Changes, Name, outermost};
use super::super::ends::{Outcome, is_gone};
use super::super::remote::{Apply, Remote, by_content, exactly, with_owners, within};
use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;

/// Names at the top of a directory that are noted of each end, so that a note stays small; new ones come at one end, and
/// old ones go from the other.
const TOP_MAX: usize = 500;
/// Rules by which nothing but directories is seen.
const ONLY_DIRECTORIES: [&str; 2] = ["--include=*/", "--exclude=*"];

/// What a restore gives other attributes, by names below its directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Directories that are in the backup as well.
    directories: Vec<Name>,
    /// What has other attributes in the backup, directories aside.
    files: Vec<Name>,
    /// What leaves, if it is a directory.
    leaving: Vec<Name>,
}

impl Touched {
    /// By the directories of the backup, what its transfer changes, and all that leaves before it.
    pub(super) fn of(mut directories: Vec<Name>, changes: &Changes, leaves: &[Name]) -> Self {
        let created: BTreeSet<&[u8]> = changes.created.iter().map(Name::plain).collect();
        directories.retain(|name| !name.as_path().ancestors().any(|at| created.contains(at.as_os_str().as_bytes())));
        // Behind a new directory may stand a link to elsewhere.
        let replaced = outermost(changes.created.iter().cloned()).into_iter();
        let leaving = replaced.chain(leaves.iter().filter(|name| name.is_directory()).cloned());
        let made: BTreeSet<&Name> = changes.created.iter().filter(|name| name.is_directory()).collect();
        let leaving = leaving.filter(|name| !made.contains(name)).collect();
        Self { directories, files: changes.attributes.clone(), leaving }
    }
}

/// Those that are noted of the names at the top of a directory.
pub(super) fn at_both_ends(mut names: Vec<Name>) -> Vec<Name> {
    names.sort();
    if names.len() > 2 * TOP_MAX {
        names.drain(TOP_MAX..names.len() - TOP_MAX);
    }
    names
}

/// Where directories that leave are noted, beside the others.
pub(super) fn leaving(noted: &Path) -> PathBuf {
    noted.with_extension("leaving")
}

/// Removes all that is noted at `noted`, when nobody asks for it any more.
pub(super) fn forget(noted: &Path) {
    for each in [noted, &leaving(noted)] {
        let _ = std::fs::remove_dir_all(each);
    }
}

impl Remote<'_> {
    /// The names at the top of a directory of the device; nothing else of it is read. None: it has no such directory.
    pub(super) fn top(
        &self,
        path: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<(Vec<Name>, Outcome)>, Failure> {
        let scratch = self.scratch()?;
        let mut args = self.base(Apply::No);
        args.extend(["-dlD", "--"].map(OsString::from));
        args.extend([self.directory(path), within(scratch.path())]);
        let listed = there(self.listed(args, events))?;
        Ok(listed.map(|(changes, outcome)| (changes.created, outcome)))
    }

    /// Brings what undoes a change of attributes. None: there is no such directory.
    pub(super) fn note(
        &self,
        path: &str,
        touched: &Touched,
        into: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        let parts: [(&[Name], PathBuf, &[&str]); 3] = [
            (&touched.files, into.to_owned(), &["--no-implied-dirs"]),
            (&touched.directories, into.to_owned(), &ONLY_DIRECTORIES),
            (&touched.leaving, leaving(into), &ONLY_DIRECTORIES),
        ];
        for (names, into, more) in parts {
            std::fs::create_dir_all(&into)
                .map_err(|error| Failure::new(codes::UNWRITABLE, format!("{}: {error}", into.display())))?;
            if names.is_empty() {
                continue;
            }
            match self.bring_named(path, names, more, &into, events)? {
                Some(Outcome::Whole | Outcome::Vanished) => {}
                other => return Ok(other),
            }
        }
        // The directory itself.
        let mut args = self.common(Apply::Yes);
        args.extend(with_owners());
        args.extend(["--exclude=*", "--"].map(OsString::from));
        args.extend([self.directory(path), within(into)]);
        self.brought(args, events)
    }

    /// Brings exactly `names`, of directories nothing that is in them.
    fn bring_named(
        &self,
        path: &str,
        names: &[Name],
        more: &[&str],
        into: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        let list = into.with_extension("names");
        let mut args = self.common(Apply::Yes);
        args.extend(with_owners());
        // Somebody may have removed one since.
        args.extend(exactly(names, &list)?);
        args.extend(more.iter().map(OsString::from));
        args.extend(["--".into(), self.directory(path), within(into)]);
        let brought = self.brought(args, events);
        let _ = std::fs::remove_file(&list);
        brought
    }

    /// Makes directories again that left, and gives those that stayed their attributes, so that files can lie in them.
    /// Tells what somebody changed meanwhile, as [`Self::give_back`] does.
    pub(super) fn give_directories_back(
        &self,
        from: &Path,
        path: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<(Outcome, Vec<Name>), Failure> {
        let changed = self.leave_changed(from, path, &ONLY_DIRECTORIES, events)?;
        let left = leaving(from);
        let made = if left.is_dir() { self.send_entries(&left, path, None, events)? } else { Outcome::Whole };
        let (_, given) = self.run(self.giving(Apply::Yes, from, path, &ONLY_DIRECTORIES), events)?;
        Ok((made.worse(given), changed))
    }

    /// Gives what [`Self::note`] brought its attributes; tells what somebody changed meanwhile, and it stays so.
    pub(super) fn give_back(
        &self,
        from: &Path,
        path: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<(Outcome, Vec<Name>), Failure> {
        let mut changed = self.leave_changed(from, path, &by_content(), events)?;
        // To compare content takes long; what grew meanwhile is seen by its size, at once before it is done.
        changed.extend(self.leave_changed(from, path, &["--size-only"], events)?);
        let (_, outcome) = self.run(self.giving(Apply::Yes, from, path, &["--size-only"]), events)?;
        Ok((outcome, changed))
    }

    /// Removes from the note what is another file on the device by now.
    fn leave_changed(
        &self,
        from: &Path,
        path: &str,
        more: &[impl AsRef<OsStr>],
        events: &mut EventWriter<'_>,
    ) -> Result<Vec<Name>, Failure> {
        let (changes, _) = self.listed(self.giving(Apply::No, from, path, more), events)?;
        let changed: Vec<Name> = changes.created.into_iter().chain(changes.replaced).collect();
        for name in &changed {
            let noted = from.join(name.as_path());
            let removed =
                if name.is_directory() { std::fs::remove_dir_all(&noted) } else { std::fs::remove_file(&noted) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::new(codes::UNWRITABLE, format!("{}: {error}", noted.display())));
                }
                _ => {}
            }
        }
        Ok(changed)
    }

    fn giving(&self, apply: Apply, from: &Path, path: &str, more: &[impl AsRef<OsStr>]) -> Vec<OsString> {
        let mut args = self.common(apply);
        args.extend(with_owners());
        // What somebody removed is not made again.
        args.push("--existing".into());
        args.extend(more.iter().map(OsString::from));
        args.extend(["--".into(), within(from), self.directory(path)]);
        args
    }

    pub(in super::super) fn brought(
        &self,
        args: Vec<OsString>,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        Ok(there(self.run(args, events))?.map(|(_, outcome)| outcome))
    }
}

/// What was heard of a directory; none: the device has it not.
pub(super) fn there<T>(heard: Result<(T, Outcome), Failure>) -> Result<Option<(T, Outcome)>, Failure> {
    match heard {
        Ok((_, Outcome::Partial(said))) if is_gone(&said) => Ok(None),
        Ok(heard) => Ok(Some(heard)),
        // With a list of names it ends at once.
        Err(failure) if failure.trouble.is_of(Kind::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<Name> {
        all.iter().map(|name| Name::from(*name)).collect()
    }

    #[test]
    fn only_what_a_restore_goes_through_is_touched_and_nothing_behind_what_is_new() {
        let backup = names(&["new/", "new/below/", "stays/", "stays/below/"]);
        let changes = Changes {
            created: names(&["new/", "new/below/file", "was-directory"]),
            extra: names(&["beside/", "beside/file", "was-directory/empty/", "was-directory/file"]),
            attributes: names(&["stays/file"]),
            ..Changes::default()
        };
        let leaves = names(&["was-directory/empty/", "was-directory/file"]);
        let touched = Touched::of(backup, &changes, &leaves);
        let wanted = Touched {
            directories: names(&["stays/", "stays/below/"]),
            files: names(&["stays/file"]),
            leaving: names(&["was-directory", "was-directory/empty/"]),
        };
        assert_eq!(touched, wanted);
    }

    #[test]
    fn what_is_noted_of_directories_that_leave_goes_with_the_rest() {
        let journal = tempfile::tempdir().unwrap();
        let noted = journal.path().join("attributes-00000");
        for directory in [&noted, &leaving(&noted), &journal.path().join("attributes-00001")] {
            std::fs::create_dir_all(directory.join("below")).unwrap();
        }
        forget(&noted);
        forget(&noted);
        let left: Vec<_> = std::fs::read_dir(journal.path()).unwrap().map(|each| each.unwrap().file_name()).collect();
        assert_eq!(left, ["attributes-00001"]);
    }

    #[test]
    fn a_note_has_names_of_both_ends_of_a_great_directory() {
        let name = |n: usize| Name::from(format!("{n:05}").as_str());
        let all: Vec<Name> = (0..3_000).rev().map(name).collect();
        let kept = at_both_ends(all.clone());
        assert_eq!(kept.len(), 2 * TOP_MAX);
        assert_eq!((kept.first(), kept.last()), (Some(&name(0)), Some(&name(2_999))));
        assert_eq!(at_both_ends(all[..1_000].to_vec()).len(), 1_000);
    }
}
