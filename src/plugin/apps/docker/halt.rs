//! Containers that stand still while their data is read, and work again after: the journal of what is stopped.
//!
//! Before a container is stopped or paused, a note of it is durable in the journal; the note goes when the container
//! works again as before. Whatever ends in between (this plugin, the daemon, the machine), the notes that are left are
//! what [`recover`] puts back. A stop that was asked for may still be going on in the engine when its asker is dead, so
//! `recover` waits as long as that stop may take before it believes that a container simply went on working.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::api::{Engine, Switched};
use crate::plugin::apps::docker::inventory::{Container, State};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;

/// How long beyond its own timeout a stop may take before it counts as refused.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How long a container may take to be started again.
const START_MAX: Duration = Duration::from_secs(60);
/// How long the engine may be out of reach then.
const REACHED_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(200);

/// What is done to a container while its data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    Stop,
    Pause,
}

impl How {
    /// The engine's verb.
    fn undone_by(self) -> &'static str {
        match self {
            Self::Stop => "start",
            Self::Pause => "unpause",
        }
    }
}

/// A container that is not to stay as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    id: String,
    name: String,
    how: How,
    /// Set once it is being put back: nothing is being stopped any more.
    putting_back: bool,
    /// Set once it stands still; a container that works before that may never have been stopped.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    halted: bool,
    asked: Timestamp,
    stop_timeout_s: u32,
}

/// Refuses before anything is stopped when a stop of one of them could not be undone.
pub(super) fn may_halt(how: How, containers: &[&Container]) -> Result<(), Failure> {
    let works = |each: &&&Container| each.state == State::Running;
    let lost = containers.iter().filter(works).find_map(|each| Some((each, each.lost_by_a_stop()?)));
    match lost.filter(|_| how == How::Stop) {
        Some((container, why)) => {
            Err(Failure::new(codes::STOP_WOULD_REMOVE, format!("{} {why}, so it is not stopped", container.name))
                .hint("nothing was stopped; make it anew without `--rm`, or say `stop: pause` or `stop: none` for it"))
        }
        None => Ok(()),
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    Done,
    /// It ended by itself, and the engine is about to start it again.
    Restarts,
}

/// Containers that stand still.
pub(super) struct Halted<'a> {
    engine: &'a Engine,
    journal: Option<&'a Journal>,
    stop_timeout_s: u32,
    /// In the order in which they were halted, with the journal's names.
    notes: Vec<(String, Note)>,
}

impl<'a> Halted<'a> {
    pub(super) fn new(engine: &'a Engine, journal: Option<&'a Journal>, stop_timeout_s: u32) -> Self {
        Self { engine, journal, stop_timeout_s, notes: Vec::new() }
    }

    /// Halts those that work, the last of the start order first.
    pub(super) fn halt(
        &mut self,
        how: How,
        start_order: &[&Container],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        may_halt(how, start_order)?;
        for container in start_order.iter().rev().filter(|each| each.state == State::Running) {
            // Looked at again: it may have been stopped by a person a moment ago, and is to stay so then.
            let raw = self.engine.inspect(&container.id)?.ok_or_else(|| gone(container))?;
            if State::of(&raw) != State::Running {
                continue;
            }
            // What has ended and is to be started again in a moment cannot be paused, and would work while its files are
            // read; a start makes the engine go on with its restarts.
            let how = if Container::is_between_restarts(&raw) { How::Stop } else { how };
            may_halt(how, &[container])?;
            let note = Note {
                id: container.id.clone(),
                name: container.name.clone(),
                how,
                putting_back: false,
                halted: false,
                asked: Timestamp::now(),
                stop_timeout_s: self.stop_timeout_s,
            };
            let entry = format!("{:05}-{}", self.notes.len(), container.name);
            if let Some(journal) = self.journal {
                journal.note(&entry, &note)?;
            }
            self.notes.push((entry, note));
            events.log(format!("{} {}", if how == How::Stop { "stopping" } else { "pausing" }, container.name));
            if self.halt_one(how, container)? == Halt::Restarts {
                let how = How::Stop;
                may_halt(how, &[container])?;
                if let Some((entry, note)) = self.notes.last_mut() {
                    note.how = how;
                    if let Some(journal) = self.journal {
                        journal.note(entry, note)?;
                    }
                }
                self.halt_one(how, container)?;
            }
            if let Some((entry, note)) = self.notes.last_mut() {
                note.halted = true;
                self.journal.map_or(Ok(()), |journal| journal.note(entry, note))?;
            }
        }
        Ok(())
    }

    fn halt_one(&self, how: How, container: &Container) -> Result<Halt, Failure> {
        let timeout = self.stop_timeout_s.to_string();
        let switched = match how {
            How::Stop => self.engine.switch(&container.id, "stop", &[("t", &timeout)])?,
            How::Pause => self.engine.switch(&container.id, "pause", &[])?,
        };
        let (verb, wanted) = match how {
            How::Stop => ("stop", State::Stopped),
            How::Pause => ("pause", State::Paused),
        };
        match switched {
            Switched::Gone => return Err(gone(container)),
            // Its program ended between the look and the call.
            Switched::Refused(_) if how == How::Pause && self.restarts(container)? => return Ok(Halt::Restarts),
            Switched::Refused(said) => {
                return Err(Failure::new(
                    codes::STOP_REFUSED,
                    format!("the engine does not {verb} {}: {said}", container.name),
                )
                .hint("look at the container; everything that was stopped is started again"));
            }
            Switched::Done | Switched::Already => {}
        }
        let until = Instant::now() + longest(self.stop_timeout_s);
        loop {
            match self.engine.inspect(&container.id)?.as_ref().map(State::of) {
                None => return Err(gone(container)),
                Some(state) if state == wanted => return Ok(Halt::Done),
                Some(_) if Instant::now() < until => std::thread::sleep(TICK),
                Some(_) => {
                    return Err(Failure::new(codes::STOP_TIMED_OUT, format!("{} does not {verb}", container.name))
                        .hint("raise `stop_timeout`, or see why its restart policy starts it again"));
                }
            }
        }
    }

    fn restarts(&self, container: &Container) -> Result<bool, Failure> {
        let raw = self.engine.inspect(&container.id)?.ok_or_else(|| gone(container))?;
        Ok(Container::is_between_restarts(&raw))
    }

    /// Puts everything back, in the order of starting. One that fails stops no other.
    pub(super) fn put_back(&mut self, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let mut first = None;
        for (entry, mut note) in std::mem::take(&mut self.notes).into_iter().rev() {
            note.putting_back = true;
            if let Some(journal) = self.journal
                && let Err(failure) = journal.note(&entry, &note)
            {
                // It is started all the same; a recovery only waits a little longer.
                events.log(failure.trouble.message);
            }
            let put_back = put_back(self.engine, &note, events);
            let done = put_back.and_then(|()| self.journal.map_or(Ok(()), |journal| journal.done(&entry)));
            if let Err(failure) = done {
                events.warning(failure.trouble.clone());
                first.get_or_insert(failure);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Puts back what a capture that was killed left halted.
pub(super) fn recover(engine: &Engine, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let mut first = None;
    // The names sort in the order of halting.
    for (entry, value) in journal.entries::<Value>()?.into_iter().rev() {
        // Others are of what a restore changes.
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        let settled = if note.putting_back { Ok(()) } else { settle(engine, &note, events) };
        let done = settled.and_then(|()| put_back(engine, &note, events)).and_then(|()| journal.done(&entry));
        if let Err(failure) = done {
            events.log(failure.trouble.message.clone());
            first.get_or_insert(failure);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Stops those again that were stopped and were started meanwhile for a part of the work.
pub(super) fn again(engine: &Engine, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    for (_, value) in journal.entries::<Value>()? {
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        let works = || Ok::<_, Failure>(engine.inspect(&note.id)?.as_ref().map(State::of) == Some(State::Running));
        if note.how != How::Stop || note.putting_back || !note.halted || !works()? {
            continue;
        }
        events.log(format!("stopping {} again", note.name));
        engine.switch(&note.id, "stop", &[("t", &note.stop_timeout_s.to_string())])?;
        let until = Instant::now() + longest(note.stop_timeout_s);
        while works()? {
            if Instant::now() > until {
                return Err(Failure::new(codes::STOP_TIMED_OUT, format!("{} does not stop", note.name))
                    .hint("stop it by hand: what was there is put back then"));
            }
            events.progress(0, 0);
            std::thread::sleep(TICK);
        }
    }
    Ok(())
}

/// Whether a container works on, when what its note says was asked for can come no more; without a note nothing was.
pub(super) fn goes_on(
    engine: &Engine,
    journal: &Journal,
    container: &str,
    events: &mut EventWriter<'_>,
) -> Result<bool, Failure> {
    let notes = journal.entries::<Value>()?.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok());
    for note in notes.filter(|note: &Note| note.id == container) {
        settle(engine, &note, events)?;
    }
    Ok(engine.inspect(container)?.as_ref().map(State::of) == Some(State::Running))
}

/// How long a stop may take with the engine's last signal to it.
fn longest(stop_timeout_s: u32) -> Duration {
    Duration::from_secs(u64::from(stop_timeout_s)) + STOP_GRACE
}

/// Waits while a stop or pause that was asked for may still come.
fn settle(engine: &Engine, note: &Note, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let longest = longest(note.stop_timeout_s);
    // A clock that was set back makes it wait all of that, and no longer.
    let since = Duration::try_from(Timestamp::now().duration_since(note.asked)).unwrap_or_default();
    let until = Instant::now() + longest.saturating_sub(since);
    while engine.inspect(&note.id)?.as_ref().map(State::of) == Some(State::Running) && Instant::now() < until {
        events.progress(0, 0);
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// A call that breaks off (an engine or a proxy may hang up on a connection) is made again: what stands still is to work.
fn put_back(engine: &Engine, note: &Note, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let (until, until_reached) = (Instant::now() + START_MAX, Instant::now() + REACHED_MAX);
    loop {
        match put_back_once(engine, note, events) {
            Ok(PutBack::Done) => return Ok(()),
            Ok(PutBack::NotYet(said)) if Instant::now() >= until => {
                let verb = note.how.undone_by();
                return Err(Failure::new(
                    codes::START_REFUSED,
                    format!("the engine does not {verb} {}: {said}", note.name),
                )
                .hint(format!("`docker {verb} {}`", note.name)));
            }
            Err(failure) if Instant::now() >= until_reached => return Err(failure),
            Ok(PutBack::NotYet(_)) | Err(_) => std::thread::sleep(TICK),
        }
    }
}

enum PutBack {
    Done,
    /// What the engine said.
    NotYet(String),
}

fn put_back_once(engine: &Engine, note: &Note, events: &mut EventWriter<'_>) -> Result<PutBack, Failure> {
    let Some(raw) = engine.inspect(&note.id)? else {
        return replaced(engine, note, events).map(|()| PutBack::Done);
    };
    match (State::of(&raw), note.how) {
        (State::Running, _) => {
            events.log(format!("{} works again", note.name));
            return Ok(PutBack::Done);
        }
        // Somebody stopped what we had paused, or paused what we had started again: nothing of ours is left.
        (State::Stopped, How::Pause) | (State::Paused, How::Stop) => return Ok(PutBack::Done),
        _ => {}
    }
    Ok(match engine.switch(&note.id, note.how.undone_by(), &[])? {
        // A program that ends at once by itself was started all the same.
        Switched::Done if note.how == How::Stop => {
            events.log(format!("started {}", note.name));
            PutBack::Done
        }
        Switched::Done | Switched::Already => PutBack::NotYet(String::new()),
        Switched::Gone => {
            replaced(engine, note, events)?;
            PutBack::Done
        }
        Switched::Refused(said) => PutBack::NotYet(said),
    })
}

/// The container is gone: whoever removed it answers for what is there now.
fn replaced(engine: &Engine, note: &Note, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let now = engine.inspect(&note.name)?;
    let what = match now.as_ref().and_then(|raw| raw.get("Id")).and_then(Value::as_str) {
        Some(_) => "was replaced by another container of its name",
        None => "was removed",
    };
    events.warning(Trouble::new(
        codes::CONTAINER_GONE,
        format!("{} {what} while it stood still, so it is not started", note.name),
    ));
    Ok(())
}

fn gone(container: &Container) -> Failure {
    Failure::new(codes::CONTAINER_GONE, format!("the container {} was removed meanwhile", container.name))
        .hint("nothing is kept of this run; it is tried again")
        .later()
}
