//! What of the backup is sent, and what is left alone: what `exclude` names by now, and what belongs to a database that is
//! not sent.
//!
//! What a database that is a whole directory would read of it, and `exclude` names, is left as well: it is somebody's who
//! asked that nobody touches it. So it is told, and the restore is not proven.
//!
//! The log of a database is nothing by itself: sent beside the live one it would be read into that. So what lies beside a
//! database goes with it or not at all, and databases are looked for only among what is sent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::super::changes::{Name, outermost};
use super::super::ends::Outcome;
use super::super::remote::{Apply, Remote, exactly, not_kept, within};
use super::attributes::there;
use super::reads::Reads;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::live::tree::Bounds;
use crate::plugin::kit::live::{sqlite, tree};
use crate::plugin::kit::sqlite_files::BESIDE;

/// What is sent of a directory of the backup, by names below it.
pub(super) struct Sent {
    /// Directories without their slash.
    all: BTreeSet<Vec<u8>>,
    pub(super) directories: Vec<Name>,
}

/// What is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// `exclude` names it by now.
    pub(super) excluded: Vec<Name>,
    /// It belongs to a database that is not sent.
    pub(super) parted: Vec<Name>,
    /// Of what is excluded, what the device will not have either.
    pub(super) missing: Vec<Name>,
    /// Of how many that are excluded nobody can say whether the device has them.
    pub(super) unseen: usize,
    /// What a database of the backup would read on the device, and stays there, since `exclude` names it.
    pub(super) read: Vec<Name>,
    /// Why it is not known whether there is more of that.
    pub(super) unlisted: Option<String>,
    /// The backup has more files than are looked at for databases.
    pub(super) is_unlooked: bool,
}

/// Tells what is sent of the directory `from`, and what is left.
pub(super) fn choose(remote: &Remote<'_>, from: &Path, events: &mut EventWriter<'_>) -> Result<(Sent, Left), Failure> {
    let sent = remote.of_backup(from, remote.excluded(&[]).collect(), events)?;
    let all = if remote.excludes() { remote.of_backup(from, Vec::new(), events)? } else { Vec::new() };
    Ok(told_apart(sent, all, |name| sqlite::is_own(&from.join(name.as_path()))))
}

/// By what is sent, all that the backup has, and whether something is a file that SQLite keeps beside a database.
fn told_apart(sent: Vec<Name>, all: Vec<Name>, is_own: impl Fn(&Name) -> bool) -> (Sent, Left) {
    let mut names: BTreeSet<Vec<u8>> = sent.iter().map(|name| name.plain().to_vec()).collect();
    let excluded = all.into_iter().filter(|name| !names.contains(name.plain())).collect();
    let is_parted = |name: &&Name| main_of(name).is_some_and(|main| !names.contains(main)) && is_own(name);
    let parted: Vec<Name> = sent.iter().filter(is_parted).cloned().collect();
    for name in &parted {
        names.remove(name.plain());
    }
    let directories = sent.into_iter().filter(Name::is_directory).collect();
    (Sent { all: names, directories }, Left { excluded, parted, ..Left::default() })
}

/// The name of the database that a file of this name would belong to.
fn main_of(name: &Name) -> Option<&[u8]> {
    let ends = BESIDE.iter();
    ends.filter(|_| !name.is_directory()).find_map(|end| name.0.strip_suffix(end.as_bytes()))
}

impl Sent {
    /// The databases in it, as far as the bounds let them be found.
    pub(super) fn databases(&self, from: &Path, bounds: Bounds) -> tree::Looked {
        let is_left = |path: &Path| {
            let name = path.strip_prefix(from).map_or(path, |name| name).as_os_str().as_encoded_bytes();
            !name.is_empty() && !self.all.contains(name)
        };
        tree::look_within(bounds, &[from.to_owned()], &is_left)
    }

    /// What would be read into the database files on the device, and is not seen there by a look, since `exclude` names it.
    pub(super) fn unseen(&self, remote: &Remote<'_>, reads: &Reads) -> Vec<Name> {
        if remote.excludes() {
            reads.beside().filter(|name| !self.all.contains(name.plain())).collect()
        } else {
            Vec::new()
        }
    }

    /// Whether an excluded file is of no use to the database that it belongs to.
    fn is_idle(&self, name: &Name, from: &Path) -> bool {
        main_of(name).is_some_and(|main| self.all.contains(main))
            && (name.0.ends_with(b"-shm") || sqlite::is_done_with(&from.join(name.as_path())))
    }
}

impl Left {
    /// Looks which excluded names the device has, those aside that leave.
    pub(super) fn look(
        &mut self,
        (sent, from): (&Sent, &Path),
        (remote, to): (&Remote<'_>, &str),
        leaves: &[Name],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        if self.excluded.is_empty() {
            return Ok(());
        }
        let plain =
            |names: Vec<Name>| -> BTreeSet<Vec<u8>> { names.iter().map(|name| name.plain().to_vec()).collect() };
        let first = outermost(self.excluded.iter().cloned());
        // What these lie in is sent, so it can be read, also where they themselves cannot be.
        let (found, _) = remote.seen(to, &first, events)?;
        let mut there = plain(found);
        let open: BTreeSet<&[u8]> = first.iter().map(Name::plain).filter(|name| there.contains(*name)).collect();
        let is_deeper = |name: &&Name| name.parents().any(|at| open.contains(at));
        let deeper: Vec<Name> = self.excluded.iter().filter(is_deeper).cloned().collect();
        let (found, outcome) = remote.seen(to, &deeper, events)?;
        there.extend(plain(found));
        for name in leaves {
            there.remove(name.plain());
        }
        let excluded = plain(self.excluded.clone());
        let deeper = plain(deeper);
        for name in self.excluded.iter().filter(|name| !there.contains(name.plain())) {
            // What lies beside a database comes and goes with it.
            if main_of(name).is_some_and(|main| excluded.contains(main)) || sent.is_idle(name, from) {
                continue;
            }
            if outcome.lacks().is_some() && deeper.contains(name.plain()) {
                self.unseen += 1;
            } else {
                self.missing.push(name.clone());
            }
        }
        Ok(())
    }

    /// Looks what the databases that are directories would read on the device beside what is sent and what a look sees
    /// there (`extra`). It cannot leave: what `exclude` names may be somebody's who does not want it moved.
    pub(super) fn look_into(
        &mut self,
        (sent, reads): (&Sent, &Reads),
        (remote, to): (&Remote<'_>, &str),
        extra: &[Name],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let directories: Vec<Name> = reads.whole().collect();
        if directories.is_empty() || !remote.excludes() {
            return Ok(());
        }
        let (found, outcome) = remote.listing("-rlD", to, &directories, events)?;
        let extra: BTreeSet<&[u8]> = extra.iter().map(Name::plain).collect();
        let is_hidden =
            |name: &Name| reads.has(name) && !sent.all.contains(name.plain()) && !extra.contains(name.plain());
        self.read = found.into_iter().filter(is_hidden).collect();
        self.unlisted = outcome.lacks().map(str::to_owned);
        Ok(())
    }

    /// Whether nothing that is left, as far as that is known, keeps the device from being as in the backup.
    pub(super) fn is_proof(&self) -> bool {
        self.missing.is_empty() && self.read.is_empty() && self.unlisted.is_none() && !self.is_unlooked
    }

    /// In words that go on; empty: nothing is left.
    pub(super) fn told(&self, told: impl Fn(&[Name]) -> String) -> String {
        let mut text = String::new();
        if !self.excluded.is_empty() {
            let names = told(&outermost(self.excluded.iter().cloned()));
            let count = self.excluded.len();
            text = format!("; {count} of the backup are left alone, as `exclude` names them by now: {names}");
        }
        if !self.parted.is_empty() {
            let (count, names) = (self.parted.len(), told(&self.parted));
            text = format!("{text}; {count} of the backup are left alone, as their database is not sent: {names}");
        }
        if !self.missing.is_empty() {
            text = format!("{text}; {} of these are not there", self.missing.len());
        }
        if self.unseen > 0 {
            text = format!("{text}; of {} of these it cannot be seen whether they are there", self.unseen);
        }
        if !self.read.is_empty() {
            let names = told(&outermost(self.read.iter().cloned()));
            text = format!("{text}; what a database would read stays there, as `exclude` names it: {names}");
        }
        if let Some(said) = &self.unlisted {
            text = format!("{text}; whether `exclude` names more that a database would read cannot be seen: {said}");
        }
        if self.is_unlooked {
            text.push_str(
                "; databases unknown: the backup has too many files to look at each one, so what a database ",
            );
            text.push_str("would read may have stayed");
        }
        text
    }
}

impl Remote<'_> {
    /// The names of the backup below `from` that these options leave, directories with a slash.
    fn of_backup(
        &self,
        from: &Path,
        options: Vec<OsString>,
        events: &mut EventWriter<'_>,
    ) -> Result<Vec<Name>, Failure> {
        let scratch = self.scratch()?;
        // Both are of this host: rsync is asked, since it alone knows what its patterns leave out.
        let mut args: Vec<OsString> = ["--stats", "--dry-run", "-rlD"].map(OsString::from).to_vec();
        args.extend(options);
        args.extend(["--".into(), within(from), within(scratch.path())]);
        // What cannot be read here is not sent either.
        self.listed(args, events).map(|(changes, _)| changes.created)
    }

    /// Which of `names` the directory `path` of the device has; nothing is read but that they are there.
    pub(super) fn seen(
        &self,
        path: &str,
        names: &[Name],
        events: &mut EventWriter<'_>,
    ) -> Result<(Vec<Name>, Outcome), Failure> {
        if names.is_empty() {
            return Ok((Vec::new(), Outcome::Whole));
        }
        let (found, outcome) = self.listing("-lD", path, names, events)?;
        let wanted: BTreeSet<&[u8]> = names.iter().map(Name::plain).collect();
        // The directories that they lie in are told as well.
        Ok((found.into_iter().filter(|name| wanted.contains(name.plain())).collect(), outcome))
    }

    /// What is there of `names`, and of the directories that they lie in; with `-r` also what is in them.
    fn listing(
        &self,
        options: &str,
        path: &str,
        names: &[Name],
        events: &mut EventWriter<'_>,
    ) -> Result<(Vec<Name>, Outcome), Failure> {
        let (scratch, names_file) = (self.scratch()?, self.scratch()?);
        let mut args = self.base(Apply::No);
        args.push(options.into());
        // Only what lies in the directories: one of these may be asked for by its name.
        if options.contains('r') {
            args.extend(not_kept());
        }
        args.extend(exactly(names, &names_file.path().join("names"))?);
        args.extend(["--".into(), self.directory(path), within(scratch.path())]);
        let listed = there(self.listed(args, events))?;
        Ok(listed.map_or((Vec::new(), Outcome::Whole), |(changes, outcome)| (changes.created, outcome)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<Name> {
        all.iter().map(|name| Name::from(*name)).collect()
    }

    #[test]
    fn what_lies_beside_a_database_is_sent_with_it_or_not_at_all() {
        let sent = names(&["app.db", "app.db-wal", "sub/", "sub/x.db-wal", "sub/x.db-shm", "2024-journal", "my-wal/"]);
        let all = [sent.clone(), names(&["closed/", "closed/one", "sub/x.db"])].concat();
        let (sent, mut left) = told_apart(sent, all, |name| name != &Name::from("2024-journal"));
        assert_eq!(sent.directories, names(&["sub/", "my-wal/"]));
        assert_eq!(left.excluded, names(&["closed/", "closed/one", "sub/x.db"]));
        assert_eq!(left.parted, names(&["sub/x.db-wal", "sub/x.db-shm"]));
        assert!(sent.all.contains(&b"app.db-wal"[..]) && !sent.all.contains(&b"sub/x.db-wal"[..]));
        left.missing = names(&["closed/one"]);
        let told = left.told(|names| names.iter().map(Name::to_string).collect::<Vec<_>>().join(", "));
        let wanted = "; 3 of the backup are left alone, as `exclude` names them by now: closed/, sub/x.db; 2 of the backup \
                      are left alone, as their database is not sent: sub/x.db-wal, sub/x.db-shm; 1 of these are not there";
        assert_eq!(told, wanted);
        assert_eq!(Left::default().told(|_| String::new()), "");
    }
    #[test]
    fn a_backup_that_was_not_looked_through_for_databases_is_told_and_no_proof() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("pg")).unwrap();
        std::fs::write(directory.path().join("pg/PG_VERSION"), "15\n").unwrap();
        let (sent, mut left) = told_apart(names(&["pg/", "pg/PG_VERSION"]), Vec::new(), |_| false);
        let cut = sent.databases(directory.path(), Bounds { entries_max: 2, ..Bounds::default() });
        assert_eq!((cut.databases.len(), cut.unknown.len()), (0, 1));
        let whole = sent.databases(directory.path(), Bounds::default());
        assert_eq!((whole.databases.len(), whole.unknown.len()), (1, 0));
        let told = |left: &Left| left.told(|names| format!("{names:?}"));
        assert_eq!((left.is_proof(), told(&left)), (true, String::new()));
        left.is_unlooked = !cut.unknown.is_empty();
        assert!(!left.is_proof() && told(&left).starts_with("; databases unknown: "), "{}", told(&left));
    }
}
