//! One backup on the application: command, wait, fetch, delete; and what a killed capture left is deleted later.
//!
//! Which backup is ours: one of type `manual` that was not there before the command, within the command's time if that
//! is known, the oldest of those. At most one is ever deleted, so a backup that a person made meanwhile stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Kind;
use super::api::{App, Backup, Command};
use super::settings::ArrSettings;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;
use crate::types::show_duration;

/// The journal's one entry.
const ENTRY: &str = "backup";
/// Pauses between two questions: short for small applications, not a burden for slow ones.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A file's time has whole seconds, and is that of its end.
const TIME_SLACK: SignedDuration = SignedDuration::from_secs(3);

/// What is needed to find our backup again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    /// Manual backups that were there before.
    known: BTreeSet<i64>,
    command: Option<i64>,
}

/// Has a backup made, and brings it to `zip`. Answers with its SHA-256.
pub(super) fn fetch(
    app: &App<'_>,
    settings: &ArrSettings,
    journal: &Journal,
    zip: &Path,
    events: &mut EventWriter<'_>,
) -> Result<String, Failure> {
    let deadline = Instant::now() + settings.wait();
    let mut note = begin(app, settings, journal, deadline, events)?;
    let fetched = make(app, settings, journal, &mut note, deadline, zip, events);
    // Also after a failure: nothing of ours stays. What cannot be undone now is left to `recover`, by the journal.
    match (undo(app, &note, deadline), &fetched) {
        (Ok(()), _) => journal.done(ENTRY)?,
        (Err(failure), Ok(_)) => events.warning(failure.trouble),
        (Err(failure), Err(_)) => events.log(format!("cleaning up is left for later: {}", failure.trouble.message)),
    }
    fetched
}

/// The same, and leaves it on the application too until [`forget`]: what it has now, before a restore replaces it.
pub(super) fn keep(
    app: &App<'_>,
    settings: &ArrSettings,
    journal: &Journal,
    zip: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Note, Failure> {
    let deadline = Instant::now() + settings.wait();
    let mut note = begin(app, settings, journal, deadline, events)?;
    let made = make(app, settings, journal, &mut note, deadline, zip, events);
    if made.is_err() {
        undo(app, &note, deadline)?;
    }
    journal.done(ENTRY)?;
    made.map(|_| note)
}

/// Takes away what [`keep`] left on the application.
pub(super) fn forget(app: &App<'_>, note: &Note) -> Result<(), Failure> {
    match ours(&app.backups()?, &note.known, None) {
        Some(made) => app.delete(made),
        None => Ok(()),
    }
}

/// Waits until the application makes no backup, and notes what there is before ours.
fn begin(
    app: &App<'_>,
    settings: &ArrSettings,
    journal: &Journal,
    deadline: Instant,
    events: &mut EventWriter<'_>,
) -> Result<Note, Failure> {
    // One that somebody else asked for would be answered in our name (the same command is not queued twice).
    while let Some(other) = app.commands()?.into_iter().find(|each| each.is_backup() && !each.is_over()) {
        wait_for(app, &other, deadline, settings, events)?;
    }
    let note = Note { known: manual(&app.backups()?), command: None };
    journal.note(ENTRY, &note)?;
    Ok(note)
}

fn make(
    app: &App<'_>,
    settings: &ArrSettings,
    journal: &Journal,
    note: &mut Note,
    deadline: Instant,
    zip: &Path,
    events: &mut EventWriter<'_>,
) -> Result<String, Failure> {
    let command = app.start_backup()?;
    note.command = Some(command.id);
    journal.note(ENTRY, note)?;
    let ended = wait_for(app, &command, deadline, settings, events)?;
    ended.judge(app.kind())?;
    let backups = app.backups()?;
    let made = ours(&backups, &note.known, window(&ended)).ok_or_else(|| {
        Failure::new(codes::NO_BACKUP, format!("{} says it made a backup, but lists none", app.kind().title))
            .hint("look at System > Backup there; is its Backups directory writable for the application?")
    })?;
    bring(app, settings, made, zip, events)
}

/// Deletes what the journal of a killed capture names.
pub(super) fn recover(kind: &Kind, request: &Request) -> Result<(), Failure> {
    let settings = ArrSettings::of(request)?;
    let journal = Journal::of(request)?;
    for (name, value) in journal.entries::<serde_json::Value>()? {
        // Others are of what a restore changes.
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        let app = App::open(kind, &settings)?;
        undo(&app, &note, Instant::now() + settings.wait())?;
        journal.done(&name)?;
    }
    Ok(())
}

fn undo(app: &App<'_>, note: &Note, deadline: Instant) -> Result<(), Failure> {
    let command = match note.command {
        Some(id) => app.command(id)?,
        // Killed between the note and the answer: it may be at work.
        None => app.commands()?.into_iter().find(|each| each.is_backup() && !each.is_over()),
    };
    let command = match command {
        Some(command) if !command.is_over() => end(app, command, deadline)?,
        other => other,
    };
    let backups = app.backups()?;
    match ours(&backups, &note.known, command.as_ref().and_then(window)) {
        Some(made) => app.delete(made),
        None => Ok(()),
    }
}

/// Takes it off the queue, or waits until it is over.
fn end(app: &App<'_>, command: Command, deadline: Instant) -> Result<Option<Command>, Failure> {
    if command.status == "queued" {
        app.cancel(command.id)?;
    }
    let mut pause = PAUSE_MIN;
    loop {
        match app.command(command.id)? {
            Some(now) if !now.is_over() => {}
            other => return Ok(other),
        }
        // It is asked at least once after the deadline, so a queue that was just emptied is seen.
        if Instant::now() >= deadline {
            return Err(Failure::new(
                codes::BACKUP_STILL_RUNNING,
                format!("{} still works on a backup of ours", app.kind().title),
            )
            .hint("it is deleted there later; or restart the application"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn wait_for(
    app: &App<'_>,
    command: &Command,
    deadline: Instant,
    settings: &ArrSettings,
    events: &mut EventWriter<'_>,
) -> Result<Command, Failure> {
    let mut pause = PAUSE_MIN;
    let mut now = command.clone();
    while !now.is_over() {
        if Instant::now() >= deadline {
            let message = format!(
                "the backup in {} was still {} after {}",
                app.kind().title,
                now.status,
                show_duration(settings.wait())
            );
            return Err(Failure::new(codes::BACKUP_STUCK, message)
                .hint("look at System > Tasks for what is before it; restart the application, or raise `wait`"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
        events.progress(0, 0);
        now = app.command(command.id)?.ok_or_else(|| {
            Failure::new(codes::BACKUP_FAILED, format!("{} forgot the backup that it was asked for", app.kind().title))
                .hint("it may have been restarted meanwhile; run it again")
                .later()
        })?;
    }
    Ok(now)
}

/// Copies it from the mounted folder, or downloads it.
fn bring(
    app: &App<'_>,
    settings: &ArrSettings,
    made: &Backup,
    zip: &Path,
    events: &mut EventWriter<'_>,
) -> Result<String, Failure> {
    let Some(folder) = &settings.folder else {
        let login = settings.username.as_deref().zip(settings.password.as_ref().map(|password| &password.0));
        let saved = app.download(made, zip, login, |done, total| events.progress(done, total))?;
        return Ok(saved.sha256);
    };
    let name = Path::new(&made.name).file_name().filter(|name| *name == made.name.as_str()).ok_or_else(|| {
        Failure::new(codes::UNEXPECTED_ANSWER, "the list of backups names a file with an odd name")
            .hint("leave out `folder` to have it downloaded")
    })?;
    let places = [folder.join("manual").join(name), folder.join(name)];
    let file = places.iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(codes::BACKUP_NOT_IN_FOLDER, format!("{} is not in {}", made.name, folder.display()))
            .hint("`folder` is the directory with `manual` and `scheduled` in it, as this host sees it; is it mounted?")
    })?;
    let copied = std::fs::copy(file, zip).and_then(|bytes| {
        std::fs::File::open(zip)?.sync_all()?;
        Ok(bytes)
    });
    let bytes = copied.map_err(|error| {
        Failure::new(codes::FOLDER_UNREADABLE, format!("{} cannot be copied: {error}", file.display()))
            .hint("give the daemon's user read permission there, and room where the artifacts lie")
    })?;
    if u64::try_from(made.size).is_ok_and(|size| size > 0 && size != bytes) {
        return Err(Failure::new(
            codes::CUT_SHORT,
            format!("{} has {bytes} bytes, the application says {}", file.display(), made.size),
        )
        .hint("`folder` may show an old state of it (a cache of a network file system); run it again"));
    }
    digest::sha256(zip, |done| events.progress(done, bytes))
}

fn manual(backups: &[Backup]) -> BTreeSet<i64> {
    backups.iter().filter(|each| each.kind == "manual").map(|each| each.id).collect()
}

/// When the command worked, by the application's clock.
fn window(command: &Command) -> Option<(Timestamp, Timestamp)> {
    Some((command.started?.checked_sub(TIME_SLACK).ok()?, command.ended?.checked_add(TIME_SLACK).ok()?))
}

fn ours<'b>(
    backups: &'b [Backup],
    known: &BTreeSet<i64>,
    window: Option<(Timestamp, Timestamp)>,
) -> Option<&'b Backup> {
    let within = |each: &&Backup| match (window, each.time) {
        (Some((from, to)), Some(time)) => from <= time && time <= to,
        _ => true,
    };
    let new = || backups.iter().filter(|each| each.kind == "manual" && !known.contains(&each.id));
    // The clock of the file system may differ from the application's: then the window says nothing.
    new().filter(within).min_by_key(|each| each.time).or_else(|| new().min_by_key(|each| each.time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(id: i64, kind: &str, time: i64) -> Backup {
        Backup {
            id,
            name: format!("b{id}.zip"),
            path: format!("/backup/manual/b{id}.zip"),
            kind: kind.to_owned(),
            size: 1,
            time: Some(Timestamp::from_second(time).unwrap()),
        }
    }

    #[test]
    fn ours_is_the_manual_one_that_the_command_made() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let all =
            [backup(5, "manual", 500), backup(4, "manual", 310), backup(3, "scheduled", 305), backup(2, "manual", 9)];
        let known = BTreeSet::from([2]);
        let id = |window| ours(&all, &known, window).map(|each| each.id);
        assert_eq!(id(Some((at(300), at(320)))), Some(4));
        assert_eq!(id(Some((at(490), at(520)))), Some(5));
        assert_eq!(id(None), Some(4), "a later one is somebody's own");
        assert_eq!(id(Some((at(900), at(901)))), Some(4), "the clocks differ");
        assert_eq!(ours(&all, &BTreeSet::from([2, 4, 5]), None), None);
    }
}
