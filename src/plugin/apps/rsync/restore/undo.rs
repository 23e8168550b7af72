//! The way back from a restore that failed or was killed, by the notes in the journal.
//!
//! It removes nothing on the device but what rsync had half there, and what gave way when all of that is back. Where the
//! restore would have put something new, somebody else may have made it, or written to what was put there: it is moved
//! into a directory beside, and told. And the other side may go on for a while; so what it needs for that is taken away
//! first, and an undo is done only when nothing of it is there any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::changes::{Name, outermost, told};
use super::super::ends::Outcome;
use super::super::remote::{ASIDE, Remote, UNDONE};
use super::super::settings::RsyncSettings;
use super::attributes::forget;
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::settings;
use crate::plugin::protocol::Request;

/// The entry that says that all is in place.
pub(super) const COMMITTED: &str = "committed";
/// How the directory in the journal's begins where attributes are kept.
const KEPT: &str = "attributes-";
/// How long the other side is given to end when this one was killed or failed; what it does later is seen by what it leaves.
const GOES_ON: Duration = Duration::from_secs(2);

/// Directories that one restore may need for what stands in its way back.
const UNDONE_MAX: usize = 99;

/// What undoes the work at one path.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Note {
    /// A directory of the device; all names are below it.
    pub(super) base: String,
    /// The directory in it where what gave way is.
    pub(super) aside: String,
    /// What was not there before.
    pub(super) created: Vec<Name>,
    /// What files that did not come to their place lie in.
    #[serde(default)]
    pub(super) partial: Vec<Name>,
    /// Names at its top when the restore began.
    #[serde(default)]
    pub(super) had: Vec<Name>,
    /// Whether anything may have been changed there; else what is there is somebody else's.
    #[serde(default = "settings::yes")]
    pub(super) begun: bool,
}

/// Both causes. The hint is that of the second, which may lead to what was there; that of the first says that it is there.
pub(super) fn not_undone(failure: &Failure, second: &Failure) -> Failure {
    let hints = second
        .trouble
        .hint
        .as_deref()
        .into_iter()
        .chain(["Larder tries again every few minutes to put back what was there"]);
    Failure::new(codes::NOT_UNDONE, failure.and(second.clone()).trouble.message)
        .hint(hints.collect::<Vec<_>>().join("; "))
}

/// Puts right what a restore that was killed left.
pub(in super::super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let journal = Journal::of(request)?;
    let is_committed = journal.entries::<serde_json::Value>()?.iter().any(|(entry, _)| entry == COMMITTED);
    if is_committed || !journal.entries::<Note>()?.iter().any(|(_, note)| note.begun) {
        return clear(&journal);
    }
    let remote = Remote::open(&settings, &request.staging)?;
    undo(&remote, &journal, events)
}

pub(super) fn clear(journal: &Journal) -> Result<(), Failure> {
    for (entry, _) in journal.entries::<serde_json::Value>()?.iter().filter(|(entry, _)| entry != COMMITTED) {
        journal.done(entry)?;
    }
    // Also of one that was killed before its note was written.
    let left = std::fs::read_dir(journal.directory()).into_iter().flatten().flatten();
    for each in left.filter(|each| each.file_name().as_encoded_bytes().starts_with(KEPT.as_bytes())) {
        remove(&each.path());
    }
    journal.done(COMMITTED)
}

/// Removes a part of the journal, that nobody asks for any more.
fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Where the attributes of what stays are kept for the path of this entry.
pub(super) fn kept(journal: &Journal, entry: &str) -> PathBuf {
    journal.directory().join(format!("{KEPT}{entry}"))
}

/// Makes every path what it was; may be done twice.
pub(super) fn undo(remote: &Remote<'_>, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    // Whose end could not be noted for sure is undone whole: `recover` must not take it for one that ended, halfway back.
    journal.done(COMMITTED)?;
    let notes = journal.entries::<Note>()?;
    if notes.iter().any(|(_, note)| note.begun) {
        std::thread::sleep(GOES_ON);
    }
    // What never began is only cleared away, at the end.
    for (entry, note) in notes.into_iter().rev().filter(|(_, note)| note.begun) {
        let mut gone = Vec::new();
        let way =
            Way { remote, journal, entry: &entry, noted: kept(journal, &entry), undone: free(remote, &note, events)? };
        let done = way.back(note.clone(), &mut gone, events);
        way.tell_gone(&note, &gone, events);
        done?;
        events.log(format!("{} is what it was", note.base));
        journal.done(&entry)?;
        forget(&way.noted);
    }
    clear(journal)
}

/// The way back at one path.
struct Way<'w> {
    remote: &'w Remote<'w>,
    journal: &'w Journal,
    entry: &'w str,
    /// Where attributes are noted.
    noted: PathBuf,
    /// The directory beside `aside` for what stands in the way.
    undone: String,
}

impl Way<'_> {
    /// Notes how far it came.
    fn note(&self, note: &Note) -> Result<(), Failure> {
        // Its own hint is of a restore that has not begun.
        self.journal.note(self.entry, note).map_err(|failure| failure.hint("make room in the state directory"))
    }

    /// Nothing is removed on the device but what rsync had half there, and what gave way when all of it is back. What
    /// stands in the way may be somebody else's: it is moved, and added to `gone`.
    fn back(&self, mut note: Note, gone: &mut Vec<Name>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let (remote, base) = (self.remote, note.base.clone());
        let aside = note.path_of_aside();
        let whole = |outcome: &Outcome| match outcome.lacks() {
            Some(said) => {
                let told = format!("{base} is not what it was: {said}");
                Err(Failure::new(codes::NOT_UNDONE, told).hint(format!("what was there is in {aside} on the device")))
            }
            None => Ok(()),
        };
        let has_attributes = self.noted.is_dir();
        let there = seen(remote, &note, events)?;
        if has_attributes && !there.contains(&note.aside()) {
            still_there(remote, &note, &self.noted, events)?;
        }
        // Without what it has half, the other side puts nothing in its place any more, and nothing aside.
        let halves: Vec<Name> = there.into_iter().filter(|name| *name != note.aside()).collect();
        if !halves.is_empty() {
            whole(&remote.take_away(&base, &outermost(halves), None, events)?.1)?;
        }
        // What is in `aside` may be the only copy: it goes when all of it was read and lies at its place.
        let gave_way = remote.scratch()?;
        let brought = remote.bring(&aside, gave_way.path(), events)?;
        brought.as_ref().map_or(Ok(()), whole)?;
        // What came first: it may stand where something of another kind was.
        let whole_note = note.clone();
        if !note.created.is_empty() {
            let created = outermost(std::mem::take(&mut note.created));
            let made = plain(created.iter());
            note.partial.retain(|name| !lies_in(name, &made));
            let (moved, outcome) = remote.take_away(&base, &created, Some(&self.undone), events)?;
            gone.extend(moved);
            whole(&outcome)?;
            // Another attempt moves nothing that somebody made meanwhile.
            self.note(&note)?;
        }
        if brought.is_some() {
            // Directories first: what gave way lies in them.
            if has_attributes {
                let (_, changed) = remote.give_directories_back(&self.noted, &base, events)?;
                tell_changed(&changed, &base, events);
            }
            // What comes back replaces at once what the restore put there; but what was written since is kept.
            let newer = remote.newer_there(gave_way.path(), &base, events)?;
            if !newer.is_empty() {
                let (moved, outcome) = remote.take_away(&base, &newer, Some(&self.undone), events)?;
                gone.extend(moved);
                whole(&outcome)?;
            }
            whole(&remote.send_entries(gave_way.path(), &base, Some(&note.aside), events)?)?;
            let (late, outcome) = remote.not_brought(&aside, gave_way.path(), events)?;
            whole(&outcome)?;
            if !late.is_empty() {
                return Err(self.goes_on(&whole_note, &late));
            }
            whole(&remote.take_away(&base, &[note.aside()], None, events)?.1)?;
        }
        if has_attributes {
            give_back(remote, &self.noted, &base, events)?;
        }
        match seen(remote, &whole_note, events)? {
            left if left.is_empty() => Ok(()),
            left => Err(self.goes_on(&whole_note, &left)),
        }
    }

    /// Behind an undo the other side still worked on what is undone: all of it is to be undone again.
    fn goes_on(&self, note: &Note, seen: &[Name]) -> Failure {
        let again = self.journal.note(self.entry, note);
        let message =
            format!("the device went on with the restore in {} while it was undone: {}", note.base, told(seen));
        let failure = Failure::new(codes::NOT_UNDONE, message).hint("is rsync still at work there?").later();
        failure.after(again)
    }

    /// Tells at once what stood in the way and where it is: another attempt does not find it again.
    fn tell_gone(&self, note: &Note, gone: &[Name], events: &mut EventWriter<'_>) {
        if gone.is_empty() {
            return;
        }
        let message = format!(
            "what the restore, or somebody since, put into {} is kept in {}: {}",
            note.base,
            below(&note.base, &self.undone),
            told(gone)
        );
        let hint = "look whether anything in it is not of the backup, then remove that directory";
        events.warning(Trouble::new(codes::KEPT_ASIDE, message).with_hint(hint));
    }
}

impl Note {
    /// As a name.
    fn aside(&self) -> Name {
        Name(format!("{}/", self.aside).into_bytes())
    }

    fn path_of_aside(&self) -> String {
        below(&self.base, &self.aside)
    }
}

fn below(base: &str, name: &str) -> String {
    format!("{}/{name}", base.trim_end_matches('/'))
}

/// Whether a name lies in one of these.
fn lies_in(name: &Name, all: &BTreeSet<Vec<u8>>) -> bool {
    name.parents().any(|at| all.contains(at))
}

fn plain<'n>(names: impl Iterator<Item = &'n Name>) -> BTreeSet<Vec<u8>> {
    names.map(|name| name.plain().to_vec()).collect()
}

/// What a restore has on the device as long as it works there or is not undone.
fn seen(remote: &Remote<'_>, note: &Note, events: &mut EventWriter<'_>) -> Result<Vec<Name>, Failure> {
    let made: Vec<Name> = outermost(note.created.iter().filter(|name| name.is_directory()).cloned());
    let is_made = plain(made.iter());
    let (inner, outer): (Vec<Name>, Vec<Name>) = note.partial.iter().cloned().partition(|name| lies_in(name, &is_made));
    // Where a directory of the backup would be, something of another kind may stand: then nothing lies in it.
    let first: Vec<Name> = outer.into_iter().chain([note.aside()]).chain(made).collect();
    let (found, outcome) = remote.seen(&note.base, &first, events)?;
    let (made, mut there): (Vec<Name>, Vec<Name>) = found.into_iter().partition(|name| is_made.contains(name.plain()));
    let open = plain(made.iter().filter(|name| name.is_directory()));
    let inner: Vec<Name> = inner.into_iter().filter(|name| lies_in(name, &open)).collect();
    let (deeper, among_deeper) = remote.seen(&note.base, &inner, events)?;
    there.extend(deeper);
    let outcome = outcome.worse(among_deeper);
    match outcome.lacks() {
        Some(said) => {
            let told = format!("whether {} is what it was cannot be seen: {said}", note.base);
            Err(Failure::new(codes::NOT_UNDONE, told)
                .hint(format!("what was there is in {} on the device, if anything gave way", note.path_of_aside())))
        }
        None => Ok(there),
    }
}

/// The name of a directory that is not there yet: what one attempt kept is not touched by the next.
fn free(remote: &Remote<'_>, note: &Note, events: &mut EventWriter<'_>) -> Result<String, Failure> {
    let first = format!("{UNDONE}{}", note.aside.strip_prefix(ASIDE).unwrap_or(&note.aside));
    let names: Vec<String> =
        std::iter::once(first.clone()).chain((2..=UNDONE_MAX).map(|n| format!("{first}-{n}"))).collect();
    let asked: Vec<Name> = names.iter().map(|name| Name::from(name.as_str())).collect();
    let (there, _) = remote.seen(&note.base, &asked, events)?;
    let is_free = |name: &String| !there.iter().any(|each| each.plain() == name.as_bytes());
    names.into_iter().find(is_free).ok_or_else(|| {
        let told = format!("{} has {UNDONE_MAX} directories like {first}", note.base);
        Failure::new(codes::NOT_UNDONE, told).hint("look at what is in them, and remove them")
    })
}

/// Gives back the attributes that are noted, and tells what did not get them.
fn give_back(remote: &Remote<'_>, noted: &Path, base: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let (directories, mut changed) = remote.give_directories_back(noted, base, events)?;
    let (files, among_files) = remote.give_back(noted, base, events)?;
    changed.extend(among_files);
    // A login that may write there may still own nothing; another attempt would not change that.
    if let Some(said) = files.worse(directories).lacks() {
        let told = format!("the files of {base} are what they were, but not all times, rights and owners: {said}");
        events.warning(
            Trouble::new(codes::ATTRIBUTES_LEFT, told).with_hint("these need root or the owner on the device"),
        );
    }
    tell_changed(&changed, base, events);
    Ok(())
}

/// Tells what somebody changed meanwhile, at once: it is out of the note, so another attempt does not find it again.
fn tell_changed(changed: &[Name], base: &str, events: &mut EventWriter<'_>) {
    if !changed.is_empty() {
        let told =
            format!("{} in {base} were changed while a restore ran, and stay so: {}", changed.len(), told(changed));
        events.warning(
            Trouble::new(codes::ATTRIBUTES_LEFT, told)
                .with_hint("compare their times, rights and owners: the restore may have set those of the backup"),
        );
    }
}

/// Fails where the device has not what it had when the restore began: then a missing directory says nothing.
fn still_there(remote: &Remote<'_>, note: &Note, noted: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let base = &note.base;
    let mut had = plain(note.had.iter());
    let beside = std::fs::read_dir(noted).into_iter().flatten().flatten();
    had.extend(beside.map(|entry| entry.file_name().into_encoded_bytes()));
    let there = remote.top(base, events)?.map(|(there, _)| plain(there.iter()));
    // Some of it may have been removed by somebody.
    if there.is_some_and(|there| had.is_empty() || !had.is_disjoint(&there)) {
        return Ok(());
    }
    let told = format!("{base} is empty or gone on the device, so what a restore changed there cannot be put back");
    Err(Failure::new(codes::NOT_UNDONE, told).hint("is its disk mounted there? It is tried again by itself").later())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_restore_that_is_not_undone_both_causes_are_told_and_where_to_look() {
        let failure = Failure::new(codes::DISK_FULL, "no room").hint("what was there is as it was");
        let told = |second: Failure| not_undone(&failure, &second).trouble;
        let both = told(Failure::new(codes::CUT_SHORT, "the connection ended").hint("look at the network").later());
        assert_eq!((both.code.as_str(), both.message.as_str()), ("not_undone", "no room; and the connection ended"));
        let again = "Larder tries again every few minutes to put back what was there";
        assert_eq!(both.hint, Some(format!("look at the network; {again}")));
        assert_eq!(told(Failure::new(codes::INTERNAL, "x")).hint.as_deref(), Some(again));
    }

    #[test]
    fn a_note_of_an_older_version_is_one_of_work_that_began() {
        let note: Note = serde_json::from_str(r#"{"base":"/data","aside":".kept","created":[]}"#).unwrap();
        assert!(note.begun);
    }
}
