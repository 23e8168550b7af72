//! The way back: to the paths on the device, all of it or nothing, with what gives way kept there.
//!
//! Everything is on the device under other names before the first old file gives way. What gives way goes into a directory
//! there; so after a failure, or after a kill by `recover`, what was new is moved away and the old files come back from it.
//! That directory may be the only copy then: it is removed only when all of it was read, and sent to its place. And what
//! cannot be compared is not taken for new, since what is new is moved away.
//! What stays in its place and would get other attributes is noted here first, files with their content, and gets them back.
//! Beside a database nothing is left that the backup has not: what a killed program left there (a `-wal`) would be read
//! into the restored one; but what `exclude` names in the data directory of a server stays, so that restore is not proven.
//! And what is in a directory that stands where the backup has a file gives way with it. Other files that the backup has
//! not stay, and are told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::changes::{Changes, Name, outermost, told};
use super::ends::Outcome;
use super::remote::{ASIDE, PARTIAL, Remote};
use super::settings::{RsyncSettings, TREE};
use crate::error::{Kind, Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::live::tree::{self, Bounds};
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{CaptureFacts, Step, Verb, Verdict};

mod attributes;
mod left;
mod reads;
pub(super) mod undo;

use attributes::{Touched, at_both_ends, forget};
use left::{Left, Sent};
use reads::Reads;
use undo::{COMMITTED, Note, clear, kept, not_undone, undo};

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RsyncRestore {
    /// Put everything below this directory of the device instead of at its own paths.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    below: Option<String>,
}

type Job<'j> = RestoreJob<'j, RsyncSettings, RsyncRestore>;

/// Sends the copy back to the device.
pub(super) struct PutBack;

/// One path and what is to be done there.
pub(super) struct Work {
    from: PathBuf,
    to: String,
    note: Note,
    touched: Touched,
    changes: Changes,
    /// None: a single file.
    sent: Option<Sent>,
    /// What the databases of the backup would read, by names below the note's directory.
    reads: Reads,
    /// Of that, what a look does not see, and the backup has not.
    unseen: Vec<Name>,
    /// What has to leave.
    leaves: Vec<Name>,
    /// What the backup has not and nobody reads into it.
    stays: Vec<Name>,
    left: Left,
}

impl Restorer for PutBack {
    type Settings = RsyncSettings;
    type Options = RsyncRestore;
    type Work = Vec<Work>;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Vec<Work>>, Failure> {
        let RestoreJob { settings, options, facts, tree, .. } = job;
        settings.check()?;
        let refused = |path: &str| !path.starts_with('/') || path.split('/').any(|part| part == "..");
        if options.below.as_deref().is_some_and(refused) {
            return Err(Failure::new(codes::RESTORE_OPTIONS, "`below` is no absolute path")
                .hint("write a whole path of the device"));
        }
        let remote = Remote::open(settings, job.staging)?;
        let mut work = Vec::new();
        for (path, from) in remote.places(&tree_in(facts, tree, settings)) {
            if !from.exists() {
                return Err(Failure::new(codes::NOTHING_TO_RESTORE, format!("the backup has no {path}"))
                    .hint("choose another snapshot: `larder snapshots TARGET`"));
            }
            let to = match &options.below {
                Some(below) => format!("{}{path}", below.trim_end_matches('/')),
                None => path.to_owned(),
            };
            work.push(Work::plan(&remote, job.run, from, to, events)?);
        }
        for each in &work {
            each.warn(&settings.host, events);
        }
        Ok(Planned::of(work.iter().map(|each| each.step(&settings.host)).collect(), work))
    }

    fn execute(
        job: &Job<'_>,
        mut work: Vec<Work>,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let remote = Remote::open(&job.settings, job.staging)?;
        let journal = Journal::or_within(journal, job.staging)?;
        // Nothing is changed on the device before all of it is noted.
        for (number, each) in work.iter_mut().enumerate() {
            let entry = entry_of(number);
            let kept = each.keep(&remote, &journal, &entry, events);
            if let Err(failure) = kept.and_then(|()| journal.note(&entry, &each.note)) {
                return Err(failure.after(clear(&journal)));
            }
        }
        let done = work.iter_mut().enumerate().try_for_each(|(number, each)| {
            each.note.begun = true;
            journal.note(&entry_of(number), &each.note)?;
            each.put(&remote, events)
        });
        match done.and_then(|()| journal.note(COMMITTED, &json!({ COMMITTED: true }))) {
            Ok(()) => clear(&journal),
            Err(failure) => Err(match undo(&remote, &journal, events) {
                Ok(()) => as_it_was(failure),
                Err(second) => not_undone(&failure, &second),
            }),
        }
    }
}

/// A failure behind which nothing is changed any more; what is said of a full disk says nothing of that.
fn as_it_was(failure: Failure) -> Failure {
    match (failure.trouble.kind(), failure.trouble.hint.clone()) {
        (Some(Kind::Full), Some(hint)) => failure.hint(format!("what was there is as it was; {hint}")),
        _ => failure,
    }
}

/// How the note of a path is called.
fn entry_of(number: usize) -> String {
    format!("{number:05}")
}

impl Work {
    fn plan(
        remote: &Remote<'_>,
        run: &str,
        from: PathBuf,
        to: String,
        events: &mut EventWriter<'_>,
    ) -> Result<Self, Failure> {
        let chosen = if from.is_dir() { Some(left::choose(remote, &from, events)?) } else { None };
        let parted = chosen.as_ref().map_or(&[][..], |(_, left)| &left.parted);
        let (changes, outcome) = remote.look(&from, &to, parted, events)?;
        // What is there and cannot be seen would count as new, and be taken away to undo a restore.
        remote.unread(&to, &outcome).map_or(Ok(()), Err)?;
        let aside = format!("{ASIDE}{}", run.to_lowercase());
        let partial =
            changes.into.iter().map(|directory| Name([directory.0.as_slice(), PARTIAL.as_bytes(), b"/"].concat()));
        let partial = partial.collect();
        if let Some((sent, mut left)) = chosen {
            let looked = sent.databases(&from, Bounds::default());
            let reads = Reads::of(&looked.databases, &from);
            left.is_unlooked = !looked.unknown.is_empty();
            let files: BTreeSet<&[u8]> =
                changes.created.iter().filter(|created| !created.is_directory()).map(Name::plain).collect();
            // A directory that is a file in the backup: rsync gives way to none that has something in it.
            let stands_for = |name: &Name| {
                (name.is_directory() && files.contains(name.plain())) || name.parents().any(|at| files.contains(at))
            };
            let (mut leaves, stays): (Vec<Name>, Vec<Name>) =
                changes.extra.iter().cloned().partition(|name| reads.has(name) || stands_for(name));
            let unseen = sent.unseen(remote, &reads);
            let (found, outcome) = remote.seen(&to, &unseen, events)?;
            remote.unread(&to, &outcome).map_or(Ok(()), Err)?;
            let extra: BTreeSet<&Name> = changes.extra.iter().collect();
            leaves.extend(found.into_iter().filter(|name| !extra.contains(name)));
            left.look((&sent, &from), (remote, &to), &leaves, events)?;
            left.look_into((&sent, &reads), (remote, &to), &changes.extra, events)?;
            let touched = Touched::of(sent.directories.clone(), &changes, &leaves);
            let created = outermost(changes.created.iter().cloned());
            let note = Note { base: to.clone(), aside, created, partial, had: Vec::new(), begun: false };
            let leaves = outermost(leaves);
            let sent = Some(sent);
            return Ok(Self { from, to, note, touched, changes, sent, reads, unseen, leaves, stays, left });
        }
        let looked = tree::look(std::slice::from_ref(&from), &|_| false);
        // A single file: what belongs to a database lies beside it.
        let (base, name) = to.rsplit_once('/').unwrap_or(("", to.as_str()));
        let base = if base.is_empty() { "/".to_owned() } else { base.to_owned() };
        let reads = Reads::of(&looked.databases, from.parent().unwrap_or(Path::new("/")));
        let unseen: Vec<Name> =
            reads.beside().filter(|beside| !from.with_file_name(beside.as_path()).exists()).collect();
        let created = if changes.created.is_empty() { Vec::new() } else { vec![Name::from(name)] };
        let note = Note { base, aside, created, partial, had: Vec::new(), begun: false };
        // Also where the database itself is not there.
        let (leaves, outcome) = remote.seen(&note.base, &unseen, events)?;
        remote.unread(&note.base, &outcome).map_or(Ok(()), Err)?;
        let touched = Touched::of(Vec::new(), &changes, &leaves);
        let left = Left { is_unlooked: !looked.unknown.is_empty(), ..Left::default() };
        Ok(Self { from, to, note, touched, changes, sent: None, reads, unseen, leaves, stays: Vec::new(), left })
    }

    /// Notes here what undoes a change of attributes, and what lies there; nothing is changed on the device.
    fn keep(
        &mut self,
        remote: &Remote<'_>,
        journal: &Journal,
        entry: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let (base, into) = (&self.note.base, kept(journal, entry));
        let noted = match remote.top(base, events)? {
            Some((names, Outcome::Whole | Outcome::Vanished)) => {
                self.note.had = at_both_ends(names);
                remote.note(base, &self.touched, &into, events)?
            }
            Some((_, partial)) => Some(partial),
            None => None,
        };
        match noted {
            Some(Outcome::Partial(said)) => {
                let told = format!("owners and rights below {base} cannot be noted, to be put back: {said}");
                Err(Failure::new(codes::ATTRIBUTES_UNKNOWN, told).hint(
                    "nothing was changed; give the login the right to read there, or leave that out by `exclude`",
                ))
            }
            Some(_) => Ok(()),
            // There is nothing yet.
            None => {
                forget(&into);
                Ok(())
            }
        }
    }

    fn step(&self, host: &str) -> Step {
        let stats = &self.changes.stats;
        let verb = if stats.transferred == 0 && self.leaves.is_empty() { Verb::Keep } else { Verb::Replace };
        let mut detail = format!(
            "{} of {} files would be sent; what gives way is kept in {}/{}",
            stats.transferred, stats.files, self.note.base, self.note.aside
        );
        if !self.leaves.is_empty() {
            detail.push_str("; moved there too, since a database would read it or it stands where a file goes: ");
            detail.push_str(&told(&self.leaves));
        }
        if !self.stays.is_empty() {
            detail.push_str("; not in the backup, and stays: ");
            detail.push_str(&told(&self.stays));
        }
        detail.push_str(&self.left.told(told));
        Step::new(verb, format!("{} on {host}", self.to), detail)
    }

    /// Tells before anything is done what will not be as in the backup, or may not be.
    fn warn(&self, host: &str, events: &mut EventWriter<'_>) {
        if !self.left.missing.is_empty() {
            let missing = outermost(self.left.missing.iter().cloned());
            let message = format!(
                "{} of the backup are not in {} on {host} and are not sent, as `exclude` names them by now: {}",
                self.left.missing.len(),
                self.to,
                told(&missing)
            );
            events.warning(Trouble::new(codes::LEFT_OUT, message).with_hint(
                "take the pattern out of `exclude` and restore again, or get them by `larder restore TARGET --to DIR`",
            ));
        }
        if !self.left.read.is_empty() {
            let names = told(&outermost(self.left.read.iter().cloned()));
            let message = format!(
                "{} in {} on {host} stay, as `exclude` names them by now, though a database of the backup would read them: \
                 {names}",
                self.left.read.len(),
                self.to,
            );
            events.warning(Trouble::new(codes::LEFT_OUT, message).with_hint(
                "take the pattern out of `exclude` and restore again: what is sent may not fit to what stays",
            ));
        }
        if self.left.is_unlooked {
            let message = format!("databases unknown: {} has too many files to look at each one", self.to);
            events.warning(Trouble::new(codes::DATABASES_UNKNOWN, message).with_hint(
                "look yourself for what a database there would read beside its files in the backup (a `-wal`), or make \
                 parts of it targets of their own",
            ));
        }
    }

    fn put(&mut self, remote: &Remote<'_>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let aside = Some(self.note.aside.as_str());
        if !self.leaves.is_empty() {
            let (_, outcome) = remote.take_away(&self.note.base, &self.leaves, aside, events)?;
            unsent(&self.to, &outcome).map_or(Ok(()), Err)?;
        }
        let parted = &self.left.parted.clone();
        let outcome = remote.send(&self.from, &self.to, parted, aside, events)?;
        // Both ways: what differs or is missing there, and what is there beside.
        let (left, compared) = remote.look(&self.from, &self.to, parted, events)?;
        // What vanished here is neither sent nor compared; nor may be what could be read neither time.
        let is_less = outcome == Outcome::Vanished || (outcome != Outcome::Whole && compared != Outcome::Whole);
        if left.stats.transferred > 0 || is_less {
            return Err(unsent(&self.to, &outcome).unwrap_or_else(|| {
                let (differ, files) = (left.stats.transferred, left.stats.files);
                Failure::new(
                    codes::RESTORE_DIFFERS,
                    format!("{differ} of {files} files of {} are not as in the backup", self.to),
                )
                .hint("what was there is there again; does something else write to them?")
            }));
        }
        if let Some(sent) = &self.sent {
            self.left.look_into((sent, &self.reads), (remote, &self.to), &left.extra, events)?;
        }
        let (unseen, beside) = remote.seen(&self.note.base, &self.unseen, events)?;
        let there = left.extra.into_iter().chain(unseen);
        let (again, came): (BTreeSet<Name>, BTreeSet<Name>) = there.partition(self.leaving());
        if !again.is_empty() {
            let told = told(&again.into_iter().collect::<Vec<_>>());
            let message = format!("what a database of {} would read did not leave, or is there again: {told}", self.to);
            return Err(Failure::new(codes::RESTORE_DIFFERS, message)
                .hint("what was there is there again; stop what works with the database, and restore again"));
        }
        if let Outcome::Partial(said) = outcome {
            events.warning(
                Trouble::new(
                    codes::ATTRIBUTES_NOT_KEPT,
                    format!("the files are there, but not all that belongs to them: {said}"),
                )
                .with_hint("owners and attributes need root on the device"),
            );
        }
        let stays: BTreeSet<&Name> = self.stays.iter().collect();
        let came = came.into_iter().filter(|name| !stays.contains(name));
        let (read, came): (Vec<Name>, Vec<Name>) = came.partition(|name| self.reads.has(name));
        let others = |what: &str, names: &[Name]| match names {
            [] => String::new(),
            names => format!("; {} {what}: {}", names.len(), told(names)),
        };
        let mut detail = format!("{} files, 0 differ by their content", left.stats.files);
        detail.push_str(&others("stay that the backup has not", &self.stays));
        detail.push_str(&others("came since", &came));
        detail.push_str(&others("came since and a database of the backup would read them", &read));
        detail.push_str(&self.left.told(told));
        let verdict = match compared.worse(beside).lacks() {
            Some(said) => {
                detail = format!("{detail}; not all could be compared: {said}");
                Verdict::CouldNotVerify
            }
            // What is not sent and is not there is not as in the backup, nor is a database that reads something else.
            None if !self.left.is_proof() || !read.is_empty() => Verdict::CouldNotVerify,
            None => Verdict::Proven,
        };
        let is_all = self.left.excluded.is_empty() && self.left.parted.is_empty();
        let but = if is_all { "" } else { ", but for what is left alone" };
        events.validation(format!("{} is as in the backup{but}", self.to), verdict, detail);
        Ok(())
    }

    /// Whether a name is of what has to leave.
    fn leaving(&self) -> impl Fn(&Name) -> bool {
        let leaves: BTreeSet<&[u8]> = self.leaves.iter().map(Name::plain).collect();
        move |name| leaves.contains(name.plain()) || name.parents().any(|at| leaves.contains(at))
    }
}

/// Why a path is not restored whose transfer lacks something; none: it lacks nothing.
fn unsent(path: &str, outcome: &Outcome) -> Option<Failure> {
    let said = outcome.lacks()?;
    let next = match outcome {
        Outcome::Vanished => "restore again: the copy here changed while it was sent",
        _ => "give the login write permission on the device",
    };
    let failure = Failure::new(codes::FILES_UNWRITABLE, format!("some files of {path} could not be sent: {said}"));
    Some(failure.hint(format!("what was there is there again; {next}")))
}

/// The copy was shipped from where it lay: below `tree` its files lie at that path, as the capture named it.
fn tree_in(facts: &CaptureFacts, tree: &Path, settings: &RsyncSettings) -> std::path::PathBuf {
    let inside = |copy: &Path| tree.join(copy.strip_prefix("/").unwrap_or(copy));
    let named = facts.sources.iter().zip(&settings.paths).find_map(|(source, path)| {
        let shown = source.path.to_str()?;
        shown.strip_suffix(path.trim_end_matches('/')).filter(|copy| copy.ends_with(TREE)).map(std::path::PathBuf::from)
    });
    named.map_or_else(|| inside(&settings.tree()), |copy| inside(&copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanished_here_asks_for_another_restore_and_not_for_permission_there() {
        let hint = |outcome: Outcome| unsent("/data", &outcome).map(|failure| failure.trouble.hint.unwrap());
        assert_eq!(hint(Outcome::Whole), None);
        assert!(hint(Outcome::Partial("denied".to_owned())).unwrap().ends_with("write permission on the device"));
        assert!(hint(Outcome::Vanished).unwrap().ends_with("restore again: the copy here changed while it was sent"));
    }
}
