//! The way back from a restore that failed or was killed, by the notes in the journal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::changes::{Name, outermost, told};
use super::super::ends::Outcome;
use super::super::remote::Remote;
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
/// How long the other side may go on when this one was killed or failed.
const GOES_ON: Duration = Duration::from_secs(2);

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
    let hint = match second.trouble.known_code() {
        // Its hint is of a restore that has not begun.
        Some(codes::JOURNAL_UNWRITABLE) => Some("make room in the state directory"),
        _ => second.trouble.hint.as_deref(),
    };
    let hints = hint.into_iter().chain(["Larder tries again every few minutes to put back what was there"]);
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
    for (entry, mut note) in notes.into_iter().rev().filter(|(_, note)| note.begun) {
        let gave_way = remote.scratch()?;
        let aside = format!("{}/{}", note.base.trim_end_matches('/'), note.aside);
        // What is in `aside` may be the only copy: it goes when all of it was read and lies at its place.
        let whole = |outcome: &Outcome| match outcome.lacks() {
            Some(said) => {
                let told = format!("{} is not what it was: {said}", note.base);
                Err(Failure::new(codes::NOT_UNDONE, told).hint(format!("what was there is in {aside} on the device")))
            }
            None => Ok(()),
        };
        let brought = remote.bring(&aside, gave_way.path(), events)?;
        brought.as_ref().map_or(Ok(()), whole)?;
        let attributes = kept(journal, &entry);
        if brought.is_none() && attributes.is_dir() {
            still_there(remote, &note, &attributes, events)?;
        }
        // What came first: it may stand where something of another kind was.
        let away = outermost(note.created.iter().chain(&note.partial).cloned());
        whole(&remote.take_away(&note.base, &away, None, events)?)?;
        // Another attempt takes away nothing that somebody made meanwhile.
        (note.created, note.partial) = (Vec::new(), Vec::new());
        journal.note(&entry, &note)?;
        let has_attributes = attributes.is_dir();
        if brought.is_some() {
            // Directories first: what gave way lies in them.
            if has_attributes {
                let (_, changed) = remote.give_directories_back(&attributes, &note.base, events)?;
                tell_changed(&changed, &note.base, events);
            }
            whole(&remote.send_entries(gave_way.path(), &note.base, Some(&note.aside), events)?)?;
            let aside = [Name(format!("{}/", note.aside).into_bytes())];
            whole(&remote.take_away(&note.base, &aside, None, events)?)?;
        }
        if has_attributes {
            give_back(remote, &attributes, &note.base, events)?;
        }
        events.log(format!("{} is what it was", note.base));
        journal.done(&entry)?;
        forget(&attributes);
    }
    clear(journal)
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
    let names = |names: &[Name]| -> BTreeSet<Vec<u8>> { names.iter().map(|name| name.plain().to_vec()).collect() };
    let mut had = names(&note.had);
    let beside = std::fs::read_dir(noted).into_iter().flatten().flatten();
    had.extend(beside.map(|entry| entry.file_name().into_encoded_bytes()));
    let there = remote.top(base, events)?.map(|(there, _)| names(&there));
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
        let full = told(Failure::new(codes::JOURNAL_UNWRITABLE, "no room").hint("nothing was changed"));
        assert_eq!(full.hint, Some(format!("make room in the state directory; {again}")));
    }

    #[test]
    fn a_note_of_an_older_version_is_one_of_work_that_began() {
        let note: Note = serde_json::from_str(r#"{"base":"/data","aside":".kept","created":[]}"#).unwrap();
        assert!(note.begun);
    }
}
