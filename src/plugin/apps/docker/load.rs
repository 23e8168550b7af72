//! Puts the dumps of databases back into the containers that they came from, by the clients in them.
//!
//! Whatever kind of server it is: everything is made ready beside what is there and compared, then all of it takes its
//! place, and what was there goes only when the whole restore came to its end. So whatever fails, and whenever it is
//! killed, the live data is what it was. Nothing is laid into a container to be loaded: its file system may be read-only,
//! so what a program reads goes through its standard input.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::codes;
use crate::plugin::apps::docker::api::{Engine, Switched};
use crate::plugin::apps::docker::database::{FORMAT_GLOBALS, FORMAT_POSTGRES, FORMAT_RDB, FORMAT_SQL, Login};
use crate::plugin::apps::docker::inventory::{Container, DataDirectory, State};
use crate::plugin::apps::docker::list::{Dump, Inventory};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Step, Verb};

mod mysql;
mod postgres;
mod redis;

/// How long a server may take until it answers.
const READY_MAX: Duration = Duration::from_mins(2);
const READY_TICK: Duration = Duration::from_millis(500);
const STOP_MAX: Duration = Duration::from_mins(2);
const STOP_TICK: Duration = Duration::from_millis(300);
/// Gives the program so many bytes of standard input (the rest of the connection stays open), and says something each
/// second while it works in silence, so that nobody takes it for stuck. What runs behind `&` would read nothing.
pub(super) const TICKING: &str = "n=$1; shift; exec 3<&0; { head -c \"$n\" <&3 | \"$@\"; } & p=$!; exec 3<&-; \
                       while kill -0 $p 2>/dev/null; do echo; sleep 1; done; wait $p";

pub(super) use postgres::Unread;

/// Has pg_restore in a container read a whole dump; answers what is in it, in words.
pub(super) fn read_inside(
    engine: &Engine,
    container: &Container,
    dump: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Result<String, Unread>, Failure> {
    postgres::read(engine, container, dump, events)
}

/// What belongs together in one restore.
pub(super) struct Place<'a> {
    pub(super) staging: &'a Path,
    pub(super) journal: &'a Journal,
    pub(super) run: &'a str,
    /// The server's own volume was put back just before: what is in it goes with that when something fails.
    pub(super) own: bool,
}

/// A server that dumps can be put back into.
pub(super) enum Server {
    Postgres(postgres::Server),
    MySql(mysql::Server),
    Redis(redis::Server),
}

/// What was loaded beside the live data.
pub(super) enum Loaded {
    Postgres(Box<postgres::Loaded>),
    MySql(Box<mysql::Loaded>),
    Redis(Box<redis::Loaded>),
}

/// The servers of `inventory` whose containers are there and are `wanted`.
pub(super) fn servers(
    engine: &Engine,
    inventory: &Inventory,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Server>, Failure> {
    let mut servers: Vec<Server> = Vec::new();
    for dump in inventory.dumps.iter().filter(|dump| wanted(&dump.container)) {
        let is_postgres = [FORMAT_POSTGRES, FORMAT_GLOBALS].contains(&dump.format.as_str());
        let known = servers.iter_mut().find_map(|server| match server {
            Server::Postgres(server) if is_postgres && server.container.name == dump.container => Some(server),
            _ => None,
        });
        if let Some(server) = known {
            server.dumps.push(dump.clone());
            continue;
        }
        let found = engine.inspect(&dump.container)?.and_then(Container::of);
        // An id would be found too, and the beginning of one.
        let Some(container) = found.filter(|container| container.name == dump.container) else { continue };
        match dump.format.as_str() {
            _ if is_postgres => {
                servers.push(Server::Postgres(postgres::Server { container, dumps: vec![dump.clone()], full: None }));
            }
            FORMAT_SQL => servers.push(Server::MySql(mysql::Server::new(container, dump.clone(), servers.len()))),
            FORMAT_RDB => servers.push(Server::Redis(redis::Server::new(container, dump.clone(), servers.len()))),
            _ => {}
        }
    }
    for server in &mut servers {
        if let Server::Postgres(server) = server {
            server.dumps.sort_by_key(|dump| dump.format != FORMAT_GLOBALS);
        }
    }
    Ok(servers)
}

impl Server {
    pub(super) fn is(&self, id: &str) -> bool {
        self.id() == id
    }

    pub(super) fn has(&self, dump: &Dump) -> bool {
        match self {
            Self::Postgres(server) => server.dumps.iter().any(|each| each.artifact == dump.artifact),
            Self::MySql(server) => server.dump.artifact == dump.artifact,
            Self::Redis(server) => server.dump.artifact == dump.artifact,
        }
    }

    /// Whether it must stand still while its dump is put back.
    pub(super) fn is_halted(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    pub(super) fn id(&self) -> &str {
        &self.container().id
    }

    fn container(&self) -> &Container {
        match self {
            Self::Postgres(server) => &server.container,
            Self::MySql(server) => &server.container,
            Self::Redis(server) => &server.container,
        }
    }

    /// Where its data lies as far as its container says it; none: in no mount.
    pub(super) fn data(&self) -> Option<DataDirectory> {
        let (container, directory) = match self {
            Self::Postgres(server) => {
                let container = &server.container;
                let said = container.env("PGDATA").or_else(|| container.env("POSTGRESQL_DATA_DIR"));
                (container, said.unwrap_or("/var/lib/postgresql/data"))
            }
            Self::MySql(server) => (&server.container, "/var/lib/mysql"),
            Self::Redis(server) => (&server.container, "/data"),
        };
        DataDirectory::at(container, directory)
    }

    /// The databases that would have to be replaced, as `name in container`.
    pub(super) fn full(&self) -> Vec<String> {
        match self {
            Self::Postgres(server) => server.full(),
            Self::MySql(server) => server.full(),
            Self::Redis(server) => server.full(),
        }
    }

    /// Reads its dumps, and looks at what is in its databases if it works.
    pub(super) fn look(
        &mut self,
        engine: &Engine,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Postgres(_) => {}
            Self::MySql(server) => server.read(staging, events)?,
            Self::Redis(server) => server.read(staging)?,
        }
        if self.container().state == State::Running { self.ask(engine, staging, events) } else { Ok(()) }
    }

    /// Has one that stood still work, and looks at what is in its databases then.
    pub(super) fn start(
        &mut self,
        engine: &Engine,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        if self.container().state == State::Running {
            return Ok(());
        }
        let why = match self {
            Self::Postgres(_) => "its dumps are loaded by itself",
            Self::MySql(_) => "its dump is loaded by itself",
            Self::Redis(_) => "where it keeps its files is asked for",
        };
        events.step(Verb::Run, format!("start of {}", self.container().name), why);
        start(engine, self.container())?;
        self.ask(engine, staging, events)
    }

    /// Looks at what is in its databases; it works.
    fn ask(&mut self, engine: &Engine, staging: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        match self {
            Self::Postgres(server) => server.ask(engine, events),
            Self::MySql(server) => server.ask(engine, staging, events),
            Self::Redis(server) => server.ask(engine, events),
        }
    }

    /// What a restore does, as far as it is known.
    pub(super) fn steps(&self, overwrite: bool, run: &str) -> Vec<Step> {
        match self {
            Self::Postgres(server) => server.steps(overwrite),
            Self::MySql(server) => server.steps(overwrite),
            Self::Redis(server) => vec![server.step(overwrite, run)],
        }
    }

    /// Keeps what a stop would lose.
    pub(super) fn keep(&self, engine: &Engine, place: &Place<'_>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        match self {
            Self::Redis(server) => server.keep(engine, place, events),
            Self::Postgres(_) | Self::MySql(_) => Ok(()),
        }
    }

    /// Loads every dump beside the live ones; the server is started where it stands still.
    ///
    /// What is made is in `loaded`, also after a failure.
    pub(super) fn prepare(
        &self,
        engine: &Engine,
        place: &Place<'_>,
        loaded: &mut Vec<Loaded>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Postgres(server) => server.prepare(engine, place, loaded, events),
            Self::MySql(server) => server.prepare(engine, place, loaded, events),
            Self::Redis(server) => server.prepare(engine, place, loaded, events),
        }
    }
}

impl Loaded {
    /// Puts it in the place of the live one.
    pub(super) fn swap(
        &mut self,
        engine: &Engine,
        place: &Place<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Postgres(loaded) => loaded.swap(engine, place.journal, events),
            Self::MySql(loaded) => loaded.swap(engine, place, events),
            Self::Redis(loaded) => loaded.swap(engine, place, events),
        }
    }

    /// Drops what was replaced: everything succeeded.
    pub(super) fn finish(
        self,
        engine: &Engine,
        place: &Place<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Postgres(loaded) => loaded.finish(engine, place.journal, events),
            Self::MySql(loaded) => loaded.finish(engine, place, events),
            Self::Redis(loaded) => loaded.finish(place),
        }
    }
}

/// Puts right what a restore that was killed left on servers; `committed`: it had come to its end.
pub(super) fn recover(
    engine: &Engine,
    journal: &Journal,
    staging: &Path,
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    // What one database needs of another is there when that is put right, too.
    let before = journal.entries::<Value>()?.len();
    let once = recover_once(engine, journal, staging, committed, events);
    if once.is_err() && journal.entries::<Value>()?.len() < before {
        return recover_once(engine, journal, staging, committed, events);
    }
    once
}

fn recover_once(
    engine: &Engine,
    journal: &Journal,
    staging: &Path,
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let mut first = None;
    for (entry, value) in journal.entries::<Value>()?.into_iter().rev() {
        let done = if value.get("database").is_some() {
            postgres::recover(engine, journal, (entry, value), committed, events)
        } else if value.get("beside").is_some() {
            mysql::recover(engine, journal, staging, (&entry, value), committed, events)
        } else if value.get("redis").is_some() {
            redis::recover(engine, journal, (&entry, value), committed, events)
        } else {
            continue;
        };
        if let Err(failure) = done {
            events.log(failure.trouble.message.clone());
            first.get_or_insert(failure);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Has a server's container work, perhaps one that this restore stopped.
fn start(engine: &Engine, container: &Container) -> Result<(), Failure> {
    if engine.inspect(&container.id)?.as_ref().map(State::of) != Some(State::Running)
        && let Switched::Refused(said) = engine.switch(&container.id, "start", &[])?
    {
        return Err(Failure::new(
            codes::START_REFUSED,
            format!("the engine does not start {}: {said}", container.name),
        )
        .hint("look at the container"));
    }
    Ok(())
}

/// Waits until `open` answers; `what` is the server in words.
fn until_ready<T>(
    what: &str,
    events: &mut EventWriter<'_>,
    mut open: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    loop {
        let last = match open() {
            Ok(opened) => return Ok(opened),
            Err(failure) => failure,
        };
        if started.elapsed() > READY_MAX {
            let told = format!("{what} does not answer: {}", last.trouble.message);
            return Err(Failure::new(codes::SERVER_NOT_READY, told)
                .hint("look at the container's log; no database was changed"));
        }
        events.progress(0, 0);
        std::thread::sleep(READY_TICK);
    }
}

/// Fails while the image's entrypoint prepares a fresh server with one of its own.
fn past_entrypoint(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let login = Login { engine, container };
    let first = login.ask(&["cat", "/proc/1/comm"], Vec::new(), "its first program").unwrap_or_default();
    if first.starts_with("docker-ent") {
        return Err(Failure::new(codes::SERVER_NOT_READY, "its entrypoint has not come to its end"));
    }
    Ok(())
}

/// Has a container stand still, whose volume is about to become another one.
fn stopped(engine: &Engine, container: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let _ = engine.switch(container, "stop", &[])?;
    let started = Instant::now();
    while engine.inspect(container)?.as_ref().map(State::of) == Some(State::Running) {
        if started.elapsed() > STOP_MAX {
            return Err(
                Failure::new(codes::STOP_TIMED_OUT, "a database's container does not stop").hint("stop it by hand")
            );
        }
        events.progress(0, 0);
        std::thread::sleep(STOP_TICK);
    }
    Ok(())
}
