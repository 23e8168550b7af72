//! The dump of a MariaDB or MySQL in a container goes back by the client in it (see [`inside`]).
//!
//! One file holds all databases of the server. Each of them is loaded beside the live one and compared; then all of them
//! take their places. Users and rights that are missing are made, and those that are there stay.

use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;

use secrecy::SecretString;
use serde_json::Value;

use super::{Place, TICKING, past_entrypoint, start, stopped, until_ready};
use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::database::{self, Login, MysqlLogin, words};
use crate::plugin::apps::docker::exec::{self, Executed};
use crate::plugin::apps::docker::inventory::Container;
use crate::plugin::apps::docker::list::Dump;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::inside::{self, Called, Dumped, Planned, Reached};
use crate::plugin::kit::database::mariadb::reach::{Input, Program, Reach};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::tool::Ran;
use crate::plugin::protocol::{Step, Verb};
use crate::process::Exit;

/// What a shell says of a program that a signal ended.
const BY_SIGNAL: i64 = 128;

/// A server and its dump.
pub(in crate::plugin::apps::docker) struct Server {
    pub(super) container: Container,
    pub(super) dump: Dump,
    number: usize,
    dumped: Option<Rc<Dumped>>,
    /// Where its databases would go; none while it is not known.
    planned: Option<Vec<Planned>>,
}

/// The databases of a server, which are loaded beside the live ones.
pub(in crate::plugin::apps::docker) struct Loaded {
    container: Container,
    dumped: Rc<Dumped>,
    planned: Vec<Planned>,
    places: Vec<inside::Place>,
    /// The number of its users, which come last.
    number: usize,
    in_restored: bool,
}

impl Server {
    pub(super) fn new(container: Container, dump: Dump, number: usize) -> Self {
        Self { container, dump, number, dumped: None, planned: None }
    }

    pub(super) fn full(&self) -> Vec<String> {
        let full = self.planned.iter().flatten().filter(|planned| planned.is_full());
        full.map(|planned| format!("{} in {}", planned.name(), self.container.name)).collect()
    }

    /// Takes the dump apart.
    pub(super) fn read(&mut self, staging: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let artifact = staging.join(&self.dump.artifact);
        self.dumped = Some(Rc::new(Dumped::read(&artifact, staging, self.number, events)?));
        Ok(())
    }

    /// Looks at where its databases would go.
    pub(super) fn ask(&mut self, engine: &Engine, staging: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Some(dumped) = &self.dumped else { return Ok(()) };
        let planned = answering(engine, &self.container, None, staging, events, |reached, events| {
            reached.tell_version(dumped, events);
            reached.plan(dumped)
        })?;
        self.planned = Some(planned);
        Ok(())
    }

    /// What a restore does, as far as it is known.
    pub(super) fn steps(&self, overwrite: bool) -> Vec<Step> {
        let container = &self.container.name;
        let Some(dumped) = &self.dumped else { return Vec::new() };
        let mut steps = Vec::new();
        if dumped.has_users() {
            steps.push(Step::new(Verb::Create, format!("users in {container}"), "those that are there stay"));
        }
        for planned in self.planned.iter().flatten() {
            let detail = planned.detail();
            let (verb, detail) = match (planned.is_full(), overwrite) {
                (true, true) => (
                    Verb::Replace,
                    format!("{detail}; it is not empty; it is loaded beside, compared, and takes its place"),
                ),
                (true, false) => {
                    (Verb::Replace, format!("{detail}; it is not empty, so this is refused without `overwrite`"))
                }
                (false, _) => (Verb::Create, format!("{detail}; by the client in the container")),
            };
            steps.push(Step::new(verb, format!("database {} in {container}", planned.name()), detail));
        }
        if self.planned.is_none() {
            let detail = "the server does not run, so what is in it is not known";
            let unknown = |name| Step::new(Verb::Create, format!("database {name} in {container}"), detail);
            steps.extend(dumped.names().map(unknown));
        }
        steps
    }

    pub(super) fn prepare(
        &self,
        engine: &Engine,
        place: &Place<'_>,
        loaded: &mut Vec<super::Loaded>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Some(dumped) = &self.dumped else { return Ok(()) };
        let container = &self.container;
        at(engine, container, place.journal, place.staging, events, |reached, events| {
            let planned = reached.plan(dumped)?;
            let mut places = Vec::new();
            let from = self.number * DATABASES_MAX;
            let note = (place.run, from, container.id.as_str(), place.own);
            let done = reached.beside(dumped, &planned, note, &mut places, events);
            let (container, dumped, number) = (container.clone(), dumped.clone(), self.number + USERS_FROM);
            let all = Loaded { container, dumped, planned, places, number, in_restored: place.own };
            loaded.push(super::Loaded::MySql(Box::new(all)));
            done
        })
    }
}

/// A dump has fewer databases.
const DATABASES_MAX: usize = 10_000;
/// The notes of users have numbers from this on, those of databases lower ones.
const USERS_FROM: usize = 1_000_000_000;

impl Loaded {
    pub(super) fn swap(
        &mut self,
        engine: &Engine,
        at: &Place<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Self { container, dumped, planned, places, number, in_restored } = self;
        self::at(engine, container, at.journal, at.staging, events, |reached, events| {
            reached.put(dumped, planned, places, events)?;
            for each in planned.iter() {
                each.tell_done(&container.name, events);
            }
            // What is in the databases is in its place and compared: only then anybody gets rights on it.
            let note = (at.run, *number, container.id.as_str(), *in_restored);
            let users = format!("users in {}", container.name);
            if reached.users(dumped, note, places, events)? {
                events.step(Verb::Create, users, "those that are there stay");
            } else if dumped.has_users() {
                let how =
                    "the dump has them in tables that only MySQL itself may fill: make those that are missing again";
                events.step(Verb::Manual, users, how);
            }
            Ok(())
        })
    }

    pub(super) fn finish(
        mut self,
        engine: &Engine,
        at: &Place<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let places = &mut self.places;
        self::at(engine, &self.container, at.journal, at.staging, events, |reached, _| {
            places.iter_mut().try_for_each(|place| reached.finish(place))
        })
    }
}

/// Puts right what a restore that was killed left of one database.
pub(super) fn recover(
    engine: &Engine,
    journal: &Journal,
    staging: &Path,
    (entry, value): (&str, Value),
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let mut place: inside::Place = serde_json::from_value(value).map_err(|error| {
        Failure::new(codes::JOURNAL_UNREADABLE, format!("the note {entry} of the journal cannot be read: {error}"))
    })?;
    let id = place.container.clone().unwrap_or_default();
    let Some(container) = engine.inspect(&id)?.and_then(Container::of) else {
        // With its container went its databases.
        return place.forget(journal);
    };
    if place.in_restored && !committed {
        return stopped(engine, &id, events).and_then(|()| place.forget(journal));
    }
    at(engine, &container, journal, staging, events, |reached, events| {
        if committed { reached.finish(&mut place) } else { reached.undo(&place, events) }
    })
}

/// Does something at a server, which is started where it stands still.
fn at<T>(
    engine: &Engine,
    container: &Container,
    journal: &Journal,
    staging: &Path,
    events: &mut EventWriter<'_>,
    work: impl FnOnce(&Reached<'_>, &mut EventWriter<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    start(engine, container)?;
    answering(engine, container, Some(journal), staging, events, work)
}

/// The same at one that works.
fn answering<T>(
    engine: &Engine,
    container: &Container,
    journal: Option<&Journal>,
    staging: &Path,
    events: &mut EventWriter<'_>,
    work: impl FnOnce(&Reached<'_>, &mut EventWriter<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let what = format!("the database server in {}", container.name);
    let inside = until_ready(&what, events, || {
        let inside = Inside::open(engine, container)?;
        inside.answers()?;
        Ok(inside)
    })?;
    let called = Called::container(&container.name);
    let reached = Reached::open(&called, &inside, journal, staging)?;
    work(&reached, events)
}

/// The programs in a container.
struct Inside<'e> {
    engine: &'e Engine,
    container: &'e Container,
    user: String,
    env: Vec<(String, SecretString)>,
}

impl<'e> Inside<'e> {
    fn open(engine: &'e Engine, container: &'e Container) -> Result<Self, Failure> {
        let MysqlLogin { user, env, .. } = database::mysql_login(&Login { engine, container })?;
        Ok(Self { engine, container, user, env })
    }

    /// Fails while the server starts.
    fn answers(&self) -> Result<(), Failure> {
        past_entrypoint(self.engine, self.container)?;
        let ran = self.run(
            Program::Shell,
            ["--batch", "--execute=SELECT 1"].map(OsString::from).to_vec(),
            None,
            &mut |_| {},
            &mut || {},
        )?;
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(Failure::new(codes::SERVER_NOT_READY, crate::plugin::kit::tidy::tidy(&ran.stderr, 300))),
        }
    }
}

impl Reach for Inside<'_> {
    fn run(
        &self,
        program: Program,
        args: Vec<OsString>,
        input: Option<Input>,
        on_bytes: &mut dyn FnMut(&[u8]),
        on_tick: &mut dyn FnMut(),
    ) -> Result<Ran, Failure> {
        let script = match program {
            Program::Shell => "p=mariadb; command -v $p >/dev/null 2>&1 || p=mysql; exec $p \"$@\"",
            Program::Dump => "p=mariadb-dump; command -v $p >/dev/null 2>&1 || p=mysqldump; exec $p \"$@\"",
        };
        let bytes = input.as_ref().map(|input| input.bytes.to_string());
        let mut command = match &bytes {
            Some(bytes) => words(&["sh", "-c", TICKING, "larder", bytes]),
            None => Vec::new(),
        };
        command.extend(words(&["sh", "-c", script, "larder"]));
        command.push(format!("--user={}", self.user));
        command.extend(args.into_iter().map(|arg| arg.to_string_lossy().into_owned()));
        let program = exec::Program { container: &self.container.id, command, env: self.env.clone() };
        let mut hear = |bytes: &[u8]| {
            on_tick();
            on_bytes(bytes);
            Ok(())
        };
        let ran = match input {
            Some(input) => exec::feed(self.engine, &program, input.from, &mut hear)?,
            None => exec::run(self.engine, &program, &mut hear)?,
        };
        Ok(ended(ran))
    }
}

fn ended(ran: Executed) -> Ran {
    let exit = match ran.code {
        0 => Exit::Success,
        code if code > BY_SIGNAL => Exit::Signal(i32::try_from(code - BY_SIGNAL).unwrap_or(0)),
        code => Exit::Code(i32::try_from(code).unwrap_or(-1)),
    };
    Ran { exit, stderr: ran.stderr }
}
