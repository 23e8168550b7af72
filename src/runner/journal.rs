//! The host's side of plugins' journals: a directory for each run, and `recover` for those that a run left filled.
//!
//! `<state>/journal/<run>/order.json` says for which target with which settings (references, no secrets), so a target
//! that left the config in the meantime is recovered too; `<state>/journal/<run>/notes/` is the plugin's. A journal
//! whose notes are gone is removed; one that cannot be recovered stays, is told, and is tried again until somebody gives it
//! up.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::model::Target;
use crate::error::{Trouble, codes};
use crate::process::{Context, Limits, Log, Redactor};
use crate::runner::world::World;
use crate::store::ledger::Ledger;
use crate::store::unfinished::Unfinished;
use crate::store::{Batch, StoreError};
use crate::types::{Name, RunId};

/// The longest that one `recover` may take.
const RECOVER_MAX: Duration = Duration::from_mins(10);

/// How often what could not be recovered is tried again.
const RECOVER_EVERY: Duration = Duration::from_mins(5);

/// What ends the name of a journal that somebody gave up.
const GIVEN_UP: &str = "given-up";

/// The longest that putting back what a restore replaced may take: it may be a whole volume.
const UNDO_MAX: Duration = Duration::from_hours(12);

/// For whom a journal is.
#[derive(Serialize, Deserialize)]
struct Order {
    target: Name,
    plugin: Name,
    settings: serde_json::Value,
    /// With a restore: what it staged, which its recovery may need; it goes with the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    staged: Option<PathBuf>,
}

/// Makes the journal of `run` when the target's plugin keeps one; durable. Answers with the plugin's directory.
///
/// # Errors
/// When it cannot be written: then nothing may be changed on an application.
pub(crate) async fn open(world: &World, run: RunId, target: &Target) -> Result<Option<PathBuf>, Trouble> {
    make(world, run, target, None).await
}

/// The same for a restore, which staged something below `staged`.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_for_restore(
    world: &World,
    run: RunId,
    target: &Target,
    staged: &Path,
) -> Result<Option<PathBuf>, Trouble> {
    make(world, run, target, Some(staged.to_owned())).await
}

async fn make(world: &World, run: RunId, target: &Target, staged: Option<PathBuf>) -> Result<Option<PathBuf>, Trouble> {
    if !world.catalogue.keeps_a_journal(target.plugin.as_str()) {
        return Ok(None);
    }
    let directory = world.paths.journal().join(run.to_string());
    let notes = directory.join("notes");
    in_use(world).insert(run);
    let (name, plugin, settings) = (target.name.clone(), target.plugin.clone(), target.settings.clone());
    let order = Order { target: name, plugin, settings, staged };
    let (place, made, all) = (directory.clone(), notes.clone(), world.paths.journal());
    // A flush takes as long as the disk likes.
    let make = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        fs::create_dir_all(&made)?;
        let file = fs::File::create(place.join("order.json"))?;
        serde_json::to_writer(&file, &order)?;
        file.sync_all()?;
        fs::File::open(&place)?.sync_all()?;
        fs::File::open(all)?.sync_all()
    });
    make.await.map_err(std::io::Error::other).flatten().map_err(|error| {
        Trouble::new(codes::JOURNAL_UNWRITABLE, format!("the journal {} cannot be made: {error}", directory.display()))
            .with_hint("make room in the state directory")
    })?;
    Ok(Some(notes))
}

fn in_use(world: &World) -> MutexGuard<'_, BTreeSet<RunId>> {
    world.journals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the journal of a run whose plugin is gone: removed when empty, else recovered.
///
/// # Errors
/// When something could not be undone; it is tried again later.
pub(crate) async fn close(world: &World, run: RunId, log: Log) -> Result<(), Trouble> {
    let closed = attempt(world, run, log).await;
    in_use(world).remove(&run);
    if closed.is_err() {
        world.unfinished.notify_one();
    }
    closed
}

/// Whether something of `run` is still to be undone.
pub(crate) fn is_left(world: &World, run: RunId) -> bool {
    world.paths.journal().join(run.to_string()).exists()
}

/// Recovers what earlier runs left: now, when something could not be put back, and every few minutes. `tell` is called after
/// each round, with what is known by then.
pub(crate) async fn keep_recovering(
    world: Arc<World>,
    tell: impl Fn(&World) + Send + Sync + 'static,
    cancel: CancellationToken,
) {
    let (tell, theirs) = (Arc::new(tell), world.clone());
    // It may take long, and nothing waits for it.
    tokio::task::spawn_blocking(move || sweep_given_up(&theirs));
    loop {
        for run in left(&world) {
            if !in_use(&world).insert(run) {
                continue;
            }
            let attempted = attempt(&world, run, Log::discard()).await;
            in_use(&world).remove(&run);
            if let Err(trouble) = attempted {
                tracing::error!(%run, %trouble, "an interrupted run left something behind");
            }
        }
        let (theirs, telling) = (world.clone(), tell.clone());
        let told = tokio::task::spawn_blocking(move || {
            let dropped = drop_records_without_journal(&theirs);
            telling(&theirs);
            dropped
        });
        if let Ok(Err(error)) = told.await {
            tracing::error!(error = %crate::error::chain(&error), "cannot read what is still to be put back");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = world.unfinished.notified() => {}
            () = tokio::time::sleep(RECOVER_EVERY) => {}
        }
    }
}

/// Gives up what is still to be put back after `run`, since somebody put the application right.
///
/// # Errors
/// When it is being put back at this moment, or the journal cannot be removed.
pub(crate) fn give_up(world: &World, run: RunId) -> Result<(), Trouble> {
    // From here on nobody else takes it up.
    if !in_use(world).insert(run) {
        return Err(Trouble::new(
            codes::TARGET_BUSY,
            format!("what the run {run} changed is being put back at this moment"),
        )
        .with_hint("wait for the end of that (`larder status`)"));
    }
    let renamed = set_aside(world, run);
    in_use(world).remove(&run);
    let given_up = renamed?;
    // What a restore staged may be a whole volume. Where there is no thread, the next start removes it.
    let _ = std::thread::Builder::new().spawn(move || remove_given_up(&given_up));
    let mut batch = Batch::default();
    batch.remove_unfinished(run);
    world.ledger.commit(batch).map_err(|error| error.trouble())?;
    world.unfinished.notify_one();
    Ok(())
}

/// Renames the journal, so that nothing is put back by it any more.
fn set_aside(world: &World, run: RunId) -> Result<PathBuf, Trouble> {
    let directory = world.paths.journal().join(run.to_string());
    let given_up = directory.with_extension(GIVEN_UP);
    match fs::rename(&directory, &given_up) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Trouble::new(
            codes::JOURNAL_UNWRITABLE,
            format!("the journal {} cannot be given up: {error}", directory.display()),
        )),
        _ => Ok(given_up),
    }
}

fn sweep_given_up(world: &World) {
    for entry in fs::read_dir(world.paths.journal()).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == GIVEN_UP) {
            remove_given_up(&entry.path());
        }
    }
}

fn remove_given_up(directory: &Path) {
    if let Some(staged) = order(directory).ok().and_then(|order| order.staged) {
        let _ = fs::remove_dir_all(staged);
    }
    let _ = fs::remove_dir_all(directory);
}

/// A record whose journal is gone says nothing any more.
fn drop_records_without_journal(world: &World) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for unfinished in world.ledger.unfinished()?.iter().filter(|each| !each.ended && !is_left(world, each.run)) {
        batch.remove_unfinished(unfinished.run);
    }
    world.ledger.commit(batch)
}

/// Tries to put back what `run` changed, and notes how that went.
async fn attempt(world: &World, run: RunId, log: Log) -> Result<(), Trouble> {
    let directory = world.paths.journal().join(run.to_string());
    let target = order(&directory).ok().map(|order| order.target);
    let done = close_as_it_is(world, run, log).await;
    let (ledger, now) = (world.ledger.clone(), world.clock.now());
    let trouble = done.as_ref().err().cloned();
    let noted = tokio::task::spawn_blocking(move || note(&ledger, run, target, trouble, now)).await;
    if let Ok(Err(error)) = noted {
        tracing::error!(%run, error = %crate::error::chain(&error), "cannot note what is still to be put back");
    }
    done
}

fn note(
    ledger: &Ledger,
    run: RunId,
    target: Option<Name>,
    trouble: Option<Trouble>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = ledger.unfinished()?.into_iter().find(|known| known.run == run);
    let mut batch = Batch::default();
    match (known, trouble) {
        (None, None) => return Ok(()),
        (Some(known), None) if known.told => batch.put_unfinished(&Unfinished { ended: true, ..known })?,
        (Some(_), None) => batch.remove_unfinished(run),
        (Some(known), Some(trouble)) => batch.put_unfinished(&Unfinished { trouble, ended: false, ..known })?,
        (None, Some(trouble)) => {
            let unfinished = Unfinished { run, target, since: now, trouble, told: false, ended: false };
            batch.put_unfinished(&unfinished)?;
        }
    }
    ledger.commit(batch)
}

async fn close_as_it_is(world: &World, run: RunId, log: Log) -> Result<(), Trouble> {
    let directory = world.paths.journal().join(run.to_string());
    let broken = |error: std::io::Error| unreadable(&directory, &error);
    if !directory.try_exists().map_err(broken)? {
        return Ok(());
    }
    if !is_empty(&directory.join("notes")).map_err(broken)? {
        recover(world, run, &directory, log).await?;
    }
    match order(&directory) {
        Ok(order) => {
            if let Some(staged) = order.staged {
                let _ = fs::remove_dir_all(staged);
            }
        }
        // Killed before it was whole, so nothing was changed yet.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {}
        Err(error) => return Err(broken(error)),
    }
    fs::remove_dir_all(&directory).map_err(|error| {
        Trouble::new(codes::JOURNAL_UNWRITABLE, format!("{} cannot be removed: {error}", directory.display()))
    })
}

/// The runs that left a journal and are over, oldest first.
fn left(world: &World) -> Vec<RunId> {
    let in_use = in_use(world).clone();
    let entries = fs::read_dir(world.paths.journal()).inspect_err(|error| {
        if error.kind() != ErrorKind::NotFound {
            tracing::error!(%error, "the journals of interrupted runs cannot be read");
        }
    });
    let mut runs: Vec<RunId> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|run| !in_use.contains(run))
        .collect();
    runs.sort();
    runs
}

/// Restores that were killed: what they staged is still needed.
pub(crate) fn unfinished_restores(world: &World) -> Vec<RunId> {
    let staged = |run: &RunId| match order(&world.paths.journal().join(run.to_string())) {
        Ok(order) => order.staged.is_some(),
        // What cannot be read may be one.
        Err(error) => error.kind() != ErrorKind::NotFound,
    };
    left(world).into_iter().filter(staged).collect()
}

fn order(directory: &Path) -> std::io::Result<Order> {
    Ok(serde_json::from_slice(&fs::read(directory.join("order.json"))?)?)
}

/// Whether nothing was noted; what cannot be read is not empty, since it is removed then.
fn is_empty(notes: &Path) -> std::io::Result<bool> {
    match fs::read_dir(notes) {
        Ok(mut entries) => entries.next().transpose().map(|first| first.is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn unreadable(directory: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::JOURNAL_UNREADABLE, format!("the journal {} cannot be read: {error}", directory.display()))
        .with_hint("look at the application for what a killed run left, then remove the directory")
}

async fn recover(world: &World, run: RunId, directory: &Path, log: Log) -> Result<(), Trouble> {
    let order = order(directory).map_err(|error| unreadable(directory, &error))?;
    let deadline = if order.staged.is_some() { UNDO_MAX } else { RECOVER_MAX };
    let target = Target::bare(order.target, order.plugin, order.settings);
    let context = Context {
        // What a run changed is put back also while the daemon stops.
        cancel: CancellationToken::new(),
        log,
        redact: Redactor::default(),
        mark: format!("{}:{run}", world.state_id),
    };
    let limits = Limits { deadline, ..Limits::default() };
    context.log.line("recover: putting back what the run left changed on the application");
    let recovered = world.catalogue.recover(&target, run, &directory.join("notes"), &context, limits).await;
    recovered.map_err(|failure| {
        let Trouble { message, hint, .. } = failure.trouble;
        let told = format!("{}: what the run {run} changed on the application is not put back: {message}", target.name);
        Trouble::new(codes::NOT_RECOVERED, told).with_hint(hint.unwrap_or_else(|| "look at the application".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_cannot_be_read_are_not_empty_ones() {
        let directory = tempfile::tempdir().unwrap();
        let notes = directory.path().join("notes");
        assert!(is_empty(&notes).unwrap(), "none was written yet");
        fs::write(&notes, "").unwrap();
        assert!(is_empty(&notes).is_err());
        fs::remove_file(&notes).unwrap();
        fs::create_dir(&notes).unwrap();
        assert!(is_empty(&notes).unwrap());
        fs::write(notes.join("1.json"), "{}").unwrap();
        assert!(!is_empty(&notes).unwrap());
    }
}
