//! Puts PostgreSQL's dumps back into the container that they came from, by the clients in it, and compares what is
//! there afterwards with them.
//!
//! A dump is laid into the container's `/tmp` for as long as it is read. Everything is refused before anything is
//! changed: a server whose databases have something in them is left as it is, unless that is to be replaced.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::docker::database::{self, FORMAT_GLOBALS, FORMAT_POSTGRES, words};
use crate::plugin::docker::engine::{Engine, Switched};
use crate::plugin::docker::exec::{self, Executed, Program};
use crate::plugin::docker::inventory::{Container, State};
use crate::plugin::docker::list::{Dump, Inventory};
use crate::plugin::docker::unwritable;
use crate::plugin::postgres::{self, Content, Scanner, identifier};
use crate::plugin::protocol::Verb;

/// How long a server may take until it answers.
const READY_MAX: Duration = Duration::from_mins(2);
const READY_TICK: Duration = Duration::from_millis(500);
/// Where a dump is laid, in the container.
const TMP: &str = "/tmp";
const LAID: &str = "larder-restore";
/// Says something each second while a program works in silence, so that nobody takes it for stuck.
const TICKING: &str = "\"$@\" & p=$!; while kill -0 $p 2>/dev/null; do echo; sleep 1; done; wait $p";

/// A server that dumps can be put back into.
pub(super) struct Server<'a> {
    container: Container,
    /// Of roles first, then of databases.
    dumps: Vec<&'a Dump>,
    /// Databases that have something in them; none while it is not known.
    full: Option<Vec<String>>,
}

/// The servers of `inventory` whose containers are there and are `wanted`.
pub(super) fn servers<'a>(
    engine: &Engine,
    inventory: &'a Inventory,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Server<'a>>, Failure> {
    let mut servers: Vec<Server<'a>> = Vec::new();
    for dump in inventory.dumps.iter().filter(|dump| is_ours(dump) && wanted(&dump.container)) {
        match servers.iter_mut().find(|server| server.container.name == dump.container) {
            Some(server) => server.dumps.push(dump),
            None => {
                let found = engine.inspect(&dump.container)?.and_then(Container::of);
                // An id would be found too, and the beginning of one.
                let found = found.filter(|container| container.name == dump.container);
                servers.extend(found.map(|container| Server { container, dumps: vec![dump], full: None }));
            }
        }
    }
    for server in &mut servers {
        server.dumps.sort_by_key(|dump| dump.format != FORMAT_GLOBALS);
    }
    Ok(servers)
}

/// Whether dumps of this format are put back here, and not by hand.
fn is_ours(dump: &Dump) -> bool {
    [FORMAT_POSTGRES, FORMAT_GLOBALS].contains(&dump.format.as_str())
}

impl Server<'_> {
    pub(super) fn is(&self, id: &str) -> bool {
        self.container.id == id
    }

    pub(super) fn has(&self, dump: &Dump) -> bool {
        self.dumps.iter().any(|each| each.artifact == dump.artifact)
    }

    /// The databases that would have to be replaced, as `name in container`.
    pub(super) fn full(&self) -> impl Iterator<Item = String> {
        self.full.iter().flatten().map(|name| format!("{name} in {}", self.container.name))
    }

    /// Looks at what is in its databases. A server that stands still is started for it when `start` says so.
    pub(super) fn look(&mut self, engine: &Engine, start: bool, voice: &mut Voice<'_>) -> Result<(), Failure> {
        if self.container.state != State::Running {
            if !start {
                return Ok(());
            }
            voice.step(Verb::Run, format!("start of {}", self.container.name), "its dumps are loaded by itself");
        }
        let login = self.ready(engine, voice)?;
        let there = names(&login.ask("template1", "SELECT datname FROM pg_database WHERE datallowconn")?)?;
        let mut full = Vec::new();
        for dump in self.databases().filter(|dump| there.contains(&dump.database)) {
            let sql = "SELECT 'x' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                       WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' \
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') LIMIT 1";
            if !login.ask(&dump.database, sql)?.is_empty() {
                full.push(dump.database.clone());
            }
        }
        self.full = Some(full);
        Ok(())
    }

    fn databases(&self) -> impl Iterator<Item = &&Dump> {
        self.dumps.iter().filter(|dump| dump.format == FORMAT_POSTGRES)
    }

    /// Says what a restore would do.
    pub(super) fn tell(&self, overwrite: bool, voice: &mut Voice<'_>) {
        for dump in &self.dumps {
            let is_full = self.full.as_ref().map(|full| full.contains(&dump.database));
            let (verb, detail) = match (dump.format == FORMAT_GLOBALS, is_full, overwrite) {
                (true, ..) => (Verb::Create, "those that are there stay"),
                (_, Some(true), true) => (Verb::Replace, "it is not empty, and is dropped first"),
                (_, Some(true), false) => (Verb::Replace, "it is not empty, so this is refused without `overwrite`"),
                (_, Some(false), _) => (Verb::Create, "by pg_restore in the container"),
                (_, None, _) => (Verb::Create, "the server does not run, so what is in it is not known"),
            };
            voice.step(verb, thing(dump), detail);
        }
    }

    /// Loads every dump into the server, which is started where it stands still.
    pub(super) fn load(&self, engine: &Engine, staging: &Path, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let login = self.ready(engine, voice)?;
        let user = login.user()?;
        for dump in &self.dumps {
            let laid = login.lay(&staging.join(&dump.artifact), staging, user)?;
            let loaded = match dump.format.as_str() {
                FORMAT_GLOBALS => login.load_globals(&staging.join(&dump.artifact), &laid, voice),
                _ => login.load_database(dump, &laid, voice),
            };
            let removed = login.output(&["rm", "-f", &laid], None);
            loaded?;
            removed?;
        }
        Ok(())
    }

    /// Waits until the server answers, and gives the way to talk to it.
    fn ready<'e>(&'e self, engine: &'e Engine, voice: &mut Voice<'_>) -> Result<Login<'e>, Failure> {
        let container = &self.container;
        let started = Instant::now();
        // Stopped meanwhile, perhaps by this restore.
        if engine.inspect(&container.id)?.as_ref().map(State::of) != Some(State::Running)
            && let Switched::Refused(said) = engine.switch(&container.id, "start", &[])?
        {
            return Err(Failure::new("start_refused", format!("the engine does not start {}: {said}", container.name))
                .hint("look at the container"));
        }
        loop {
            let last = match Login::open(engine, container).and_then(|login| login.answers().map(|()| login)) {
                Ok(login) => return Ok(login),
                Err(failure) => failure,
            };
            if started.elapsed() > READY_MAX {
                return Err(Failure::new(
                    "server_not_ready",
                    format!("PostgreSQL in {} does not answer: {}", container.name, last.trouble.message),
                )
                .hint("look at the container's log; nothing of its databases was changed"));
            }
            voice.progress(0, 0);
            std::thread::sleep(READY_TICK);
        }
    }
}

fn thing(dump: &Dump) -> String {
    match dump.format.as_str() {
        FORMAT_GLOBALS => format!("roles in {}", dump.container),
        _ => format!("database {} in {}", dump.database, dump.container),
    }
}

/// Names, each as a line of hex.
fn names(told: &str) -> Result<Vec<String>, Failure> {
    let decoded =
        told.lines().filter(|line| !line.is_empty()).map(|line| String::from_utf8(hex::decode(line).ok()?).ok());
    decoded
        .collect::<Option<_>>()
        .ok_or_else(|| Failure::new("server_unexpected", "the server's answer is no list of names"))
}

/// The way to talk to a server.
struct Login<'e> {
    engine: &'e Engine,
    container: &'e Container,
    env: Vec<(String, SecretString)>,
}

impl<'e> Login<'e> {
    fn open(engine: &'e Engine, container: &'e Container) -> Result<Self, Failure> {
        Ok(Self { engine, container, env: database::postgres_env(engine, container)? })
    }

    /// Fails while the server starts, or while the image's entrypoint prepares a fresh one with a server of its own.
    fn answers(&self) -> Result<(), Failure> {
        let first = self.output(&["cat", "/proc/1/comm"], None).unwrap_or_default();
        if first.starts_with("docker-ent") {
            return Err(Failure::new("server_not_ready", "its entrypoint has not come to its end"));
        }
        self.ask("template1", "SELECT 'x'").map(drop)
    }

    /// What the server answers, in hex, a line for each row.
    fn ask(&self, database: &str, sql: &str) -> Result<String, Failure> {
        // One column, whatever its name.
        let sql = format!("SELECT encode(convert_to(r.c::text, 'UTF8'), 'hex') FROM ({sql}) AS r(c)");
        let words = ["psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", &sql];
        self.output(&words, Some(database))
    }

    fn output(&self, command: &[&str], database: Option<&str>) -> Result<String, Failure> {
        let mut said = Vec::new();
        let ran = self.exec(words(command), database, &mut |bytes| {
            said.extend_from_slice(bytes);
            Ok(())
        })?;
        self.succeeded(command.first().unwrap_or(&""), &ran)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn exec(
        &self,
        command: Vec<String>,
        database: Option<&str>,
        on_bytes: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Executed, Failure> {
        // Not by argument: there a name with `=` in it would be read as a connection string.
        let database = database.map(|name| ("PGDATABASE".to_owned(), SecretString::from(name.to_owned())));
        let env = self.env.iter().cloned().chain(database).collect();
        exec::run(self.engine, &Program { container: &self.container.id, command, env }, on_bytes)
    }

    /// Runs what works in silence.
    fn run(&self, command: &[&str], database: Option<&str>, voice: &mut Voice<'_>) -> Result<Executed, Failure> {
        let all: Vec<&str> = ["sh", "-c", TICKING, "larder"].iter().chain(command).copied().collect();
        self.exec(words(&all), database, &mut |_| {
            voice.progress(0, 0);
            Ok(())
        })
    }

    fn succeeded(&self, program: &str, ran: &Executed) -> Result<(), Failure> {
        if ran.code == 0 {
            return Ok(());
        }
        let last = ran.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        let said = crate::plugin::transcript::tidy(last, 400);
        let name = &self.container.name;
        Err(Failure::new("load_failed", format!("{program} in {name} ended with code {}: {said}", ran.code))
            .hint("look at the database's log; the dump is in the backup: `larder restore TARGET --to DIR`"))
    }

    /// The user and the group that programs in the container run as.
    fn user(&self) -> Result<(u64, u64), Failure> {
        let told = self.output(&["sh", "-c", "id -u; id -g"], None)?;
        let numbers: Vec<u64> = told.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            &[user, group] => Ok((user, group)),
            _ => Err(Failure::new("server_unexpected", format!("`id` in {} says no numbers", self.container.name))),
        }
    }

    /// Lays a dump into the container, for its user alone, and says where.
    fn lay(&self, artifact: &Path, staging: &Path, (user, group): (u64, u64)) -> Result<String, Failure> {
        let path = staging.join(".larder-load.tar");
        let write = || -> std::io::Result<()> {
            let mut dump = File::open(artifact)?;
            let mut header = tar::Header::new_gnu();
            header.set_size(dump.metadata()?.len());
            header.set_mode(0o600);
            header.set_uid(user);
            header.set_gid(group);
            let mut builder = tar::Builder::new(File::create(&path)?);
            builder.append_data(&mut header, LAID, &mut dump)?;
            builder.into_inner()?.sync_all()
        };
        let laid = write().map_err(|error| unwritable(&path, &error));
        let laid = laid.and_then(|()| self.engine.load(&self.container.id, TMP, &path));
        let _ = std::fs::remove_file(&path);
        laid.map(|()| format!("{TMP}/{LAID}"))
    }

    fn load_globals(&self, artifact: &Path, laid: &str, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-f", laid];
        let ran = self.run(&command, Some("template1"), voice)?;
        self.succeeded("psql", &ran)?;
        voice.step(Verb::Create, format!("roles in {}", self.container.name), "those that are there stay");
        let there = names(&self.ask("template1", "SELECT quote_ident(rolname) FROM pg_roles")?)?;
        let wanted = postgres::roles_made(artifact).map_err(|error| unwritable(artifact, &error))?;
        let missing: Vec<&String> = wanted.iter().filter(|name| !there.contains(name)).collect();
        let (verdict, detail) = match missing.first() {
            None => (Verdict::Proven, format!("{} roles", wanted.len())),
            Some(name) => (Verdict::Failed, format!("{} are missing, {name} among them", missing.len())),
        };
        voice.validation(format!("the roles of the backup are in {}", self.container.name), verdict, detail);
        for complaint in ran.stderr.lines().filter(|line| line.contains("ERROR:") && !line.contains("already exists")) {
            voice.warning(Trouble::new("role_refused", crate::plugin::transcript::tidy(complaint, 300)));
        }
        Ok(())
    }

    fn load_database(&self, dump: &Dump, laid: &str, voice: &mut Voice<'_>) -> Result<(), Failure> {
        // Read to its end before anything is dropped for it.
        let wanted = self.content(&["pg_restore", "-f", "-", laid], None, voice)?;
        let drop = format!("DROP DATABASE IF EXISTS {}", identifier(&dump.database));
        let drop = |how: &str| {
            let sql = format!("{drop}{how}");
            self.output(&["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", &sql], Some("template1"))
        };
        // Servers older than 13 cannot throw others out.
        drop(" WITH (FORCE)").or_else(|_| drop(""))?;
        let command = ["pg_restore", "--create", "--exit-on-error", "-w", "-d", "template1", laid];
        let ran = self.run(&command, None, voice)?;
        self.succeeded("pg_restore", &ran)?;
        voice.step(Verb::Replace, thing(dump), "by pg_restore in the container");
        let found = self.content(&["pg_dump", "-w"], Some(&dump.database), voice)?;
        postgres::compare(&format!("{} in {}", dump.database, dump.container), &wanted, &found, voice);
        Ok(())
    }

    /// What a program writes as SQL.
    fn content(&self, command: &[&str], database: Option<&str>, voice: &mut Voice<'_>) -> Result<Content, Failure> {
        let mut scanner = Scanner::default();
        let ran = self.exec(words(command), database, &mut |bytes| {
            scanner.push(bytes);
            voice.progress(0, 0);
            Ok(())
        })?;
        self.succeeded(command.first().unwrap_or(&""), &ran)?;
        Ok(scanner.finish())
    }
}
