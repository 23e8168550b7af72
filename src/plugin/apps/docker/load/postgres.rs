//! Puts PostgreSQL's dumps back into the container that they came from, by the clients in it.
//!
//! Each dump is loaded into a database of its own beside the live one and compared there with what the dump holds; only
//! when everything of the restore is so far do the two change their names, in one transaction ([`swap`]). So whatever
//! fails, the live database is what it was. A dump goes through the program's standard input: nothing is laid into the
//! container, whose file system may be read-only.

use std::fs::File;
use std::path::Path;

use secrecy::SecretString;

use super::{Place, TICKING, past_entrypoint, start, until_ready};
use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::database::{self, FORMAT_GLOBALS, FORMAT_POSTGRES, words};
use crate::plugin::apps::docker::exec::{self, Executed, Program};
use crate::plugin::apps::docker::inventory::Container;
use crate::plugin::apps::docker::list::Dump;
use crate::plugin::apps::docker::unwritable;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::postgres::{
    self, Content, Globals, KEEP_ON, PathChanger, Scanner, There, UTF8, identifier, in_hex, names,
};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Event, Step, Verb, Verdict};

mod own;
mod swap;

use own::Own;
pub(in crate::plugin::apps::docker) use swap::{Loaded, recover};

/// Gives the program so many bytes of standard input and says nothing itself: its output is what is read.
const QUIET: &str = "n=$1; shift; head -c \"$n\" | \"$@\"";

/// A server and its dumps.
pub(in crate::plugin::apps::docker) struct Server {
    pub(super) container: Container,
    /// Of roles first, then of databases.
    pub(super) dumps: Vec<Dump>,
    /// Databases that have something in them; none while it is not known.
    pub(super) full: Option<Vec<String>>,
}

impl Server {
    /// The databases that would have to be replaced, as `name in container`.
    pub(super) fn full(&self) -> Vec<String> {
        self.full.iter().flatten().map(|name| format!("{name} in {}", self.container.name)).collect()
    }

    /// Looks at what is in its databases.
    pub(super) fn ask(&mut self, engine: &Engine, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let login = answering(engine, &self.container, events)?;
        let there = login.names("template1", "SELECT datname FROM pg_database WHERE datallowconn")?;
        let mut full = Vec::new();
        for dump in self.databases().filter(|dump| there.contains(&dump.database)) {
            let sql = "SELECT 'x' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                       WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' \
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') LIMIT 1";
            if !login.names(&dump.database, sql)?.is_empty() {
                swap::unbound(&login, &dump.database, &self.container.name)?;
                full.push(dump.database.clone());
            }
        }
        self.full = Some(full);
        Ok(())
    }

    fn databases(&self) -> impl Iterator<Item = &Dump> {
        self.dumps.iter().filter(|dump| dump.format == FORMAT_POSTGRES)
    }

    /// What a restore does, as far as it is known.
    pub(super) fn steps(&self, overwrite: bool) -> Vec<Step> {
        let step = |dump: &Dump| {
            let is_full = self.full.as_ref().map(|full| full.contains(&dump.database));
            let (verb, detail) = match (dump.format == FORMAT_GLOBALS, is_full, overwrite) {
                (true, ..) => (Verb::Create, "those that are there stay"),
                (_, Some(true), true) => {
                    (Verb::Replace, "it is not empty; it is loaded beside, compared, and takes its place")
                }
                (_, Some(true), false) => (Verb::Replace, "it is not empty, so this is refused without `overwrite`"),
                (_, Some(false), _) => (Verb::Create, "by pg_restore in the container"),
                (_, None, _) => (Verb::Create, "the server does not run, so what is in it is not known"),
            };
            Step::new(verb, thing(dump), detail)
        };
        self.dumps.iter().map(step).collect()
    }

    /// Loads every dump into a database of its own beside the live ones; the server is started where it stands still.
    ///
    /// What is made is in `loaded`, also after a failure.
    pub(super) fn prepare(
        &self,
        engine: &Engine,
        place: &Place<'_>,
        loaded: &mut Vec<super::Loaded>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let login = ready(engine, &self.container, events)?;
        for dump in &self.dumps {
            let artifact = place.staging.join(&dump.artifact);
            if dump.format == FORMAT_GLOBALS {
                login.load_globals(&artifact, place.staging, events)?;
                continue;
            }
            // Read to its end before anything is made for it.
            let wanted = login.read(&artifact, events)?;
            let own = Own::of(&wanted, &dump.database);
            let named = Named { live: dump.database.clone(), shown: thing(dump) };
            let there = login.names("template1", "SELECT datname FROM pg_database")?;
            let replaces = there.contains(&dump.database);
            let entry = format!("db-{:05}", loaded.len());
            let beside = Loaded::note(place, &self.container, entry, &named, replaces, own)?;
            let temporary = beside.temporary().to_owned();
            loaded.push(super::Loaded::Postgres(Box::new(beside)));
            let Some(super::Loaded::Postgres(beside)) = loaded.last() else { continue };
            login.fill(&artifact, &temporary, beside, place.staging, events)?;
            let found = login.content(&["pg_dump", "-w"], None, Some(&temporary), events)?;
            compare(&format!("{} in {}", dump.database, dump.container), &wanted, &found, events)?;
        }
        Ok(())
    }
}

/// Waits until the server answers, and gives the way to talk to it; one that stands still is started.
fn ready<'e>(engine: &'e Engine, container: &'e Container, events: &mut EventWriter<'_>) -> Result<Login<'e>, Failure> {
    start(engine, container)?;
    answering(engine, container, events)
}

/// Waits until a server that works answers.
fn answering<'e>(
    engine: &'e Engine,
    container: &'e Container,
    events: &mut EventWriter<'_>,
) -> Result<Login<'e>, Failure> {
    until_ready(&format!("PostgreSQL in {}", container.name), events, || {
        let login = Login::open(engine, container)?;
        login.answers().map(|()| login)
    })
}

/// Has pg_restore read a whole dump; answers what is in it.
pub(super) fn read(
    engine: &Engine,
    container: &Container,
    dump: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Result<String, Unread>, Failure> {
    let login = Login::open(engine, container)?;
    Ok(login.look(dump, events)?.map(|content| format!("{} rows", content.rows())))
}

/// Reads a whole dump and touches no server.
const READ: [&str; 4] = ["pg_restore", "--create", "-f", "-"];

/// A dump that pg_restore did not come to the end of.
pub(in crate::plugin::apps::docker) enum Unread {
    /// It began, and something is wrong with the dump.
    Broken(Failure),
    /// It is older than the dump, and did not begin.
    Newer(Failure),
}

fn thing(dump: &Dump) -> String {
    match dump.format.as_str() {
        FORMAT_GLOBALS => format!("roles in {}", dump.container),
        _ => format!("database {} in {}", dump.database, dump.container),
    }
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

    /// Fails while the server starts.
    fn answers(&self) -> Result<(), Failure> {
        past_entrypoint(self.engine, self.container)?;
        self.names("template1", "SELECT 'x'").map(drop)
    }

    /// Asks a question of one column, of names or other text.
    fn names(&self, database: &str, sql: &str) -> Result<Vec<String>, Failure> {
        let told = self.output(&database::psql(&in_hex(sql)), Some(database))?;
        names(told.lines().filter(|line| !line.is_empty()))
    }

    fn output(&self, command: &[&str], database: Option<&str>) -> Result<String, Failure> {
        let mut said = Vec::new();
        let mut program = self.program(words(command), database);
        program.env.push((UTF8.0.to_owned(), SecretString::from(UTF8.1.to_owned())));
        let ran = exec::run(self.engine, &program, &mut |bytes| {
            said.extend_from_slice(bytes);
            Ok(())
        })?;
        self.succeeded(command.first().unwrap_or(&""), &ran)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn program(&self, command: Vec<String>, database: Option<&str>) -> Program<'_> {
        // Not by argument: there a name with `=` in it would be read as a connection string.
        let database = database.map(|name| ("PGDATABASE".to_owned(), SecretString::from(name.to_owned())));
        let env = self.env.iter().cloned().chain(database).collect();
        Program { container: &self.container.id, command, env }
    }

    /// Runs what works in silence; `input` is its standard input.
    fn run(
        &self,
        command: &[&str],
        input: Option<&Path>,
        database: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<Executed, Failure> {
        self.fed(TICKING, command, input, database, &mut |_| events.progress(0, 0))
    }

    fn fed(
        &self,
        script: &str,
        command: &[&str],
        input: Option<&Path>,
        database: Option<&str>,
        on_bytes: &mut dyn FnMut(&[u8]),
    ) -> Result<Executed, Failure> {
        let unreadable = |path: &Path, error: &std::io::Error| {
            Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", path.display()))
        };
        let opened = input.map(|path| {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
            Ok::<_, Failure>((file, bytes))
        });
        let opened = opened.transpose()?;
        let bytes = opened.as_ref().map_or(0, |(_, bytes)| *bytes).to_string();
        let all: Vec<&str> = ["sh", "-c", script, "larder", &bytes].iter().chain(command).copied().collect();
        let program = self.program(words(&all), database);
        let mut on_bytes = |bytes: &[u8]| {
            on_bytes(bytes);
            Ok(())
        };
        match opened {
            Some((file, _)) => exec::feed(self.engine, &program, file, &mut on_bytes),
            None => exec::run(self.engine, &program, &mut on_bytes),
        }
    }

    fn succeeded(&self, program: &str, ran: &Executed) -> Result<(), Failure> {
        if ran.code == 0 {
            return Ok(());
        }
        let lines = || ran.stderr.lines().filter(|line| !line.trim().is_empty());
        // What comes behind it is where and in which command.
        let last = lines().find(|line| line.contains("ERROR:")).or_else(|| lines().next_back()).unwrap_or("nothing");
        let said = crate::plugin::kit::tidy::tidy(last, 400);
        let name = &self.container.name;
        Err(Failure::new(codes::LOAD_FAILED, format!("{program} in {name} ended with code {}: {said}", ran.code)).hint(
            "the databases are what they were; look at the database's log; the dump is in the backup: \
             `larder restore TARGET --to DIR`",
        ))
    }

    fn load_globals(&self, artifact: &Path, staging: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let globals = Globals::read(artifact)?;
        let missing = globals.missing(&self.there()?);
        let missing_only = staging.join(".larder-roles.sql");
        std::fs::write(&missing_only, &missing.sql).map_err(|error| unwritable(&missing_only, &error))?;
        let command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-v", KEEP_ON];
        let ran = self.run(&command, Some(&missing_only), Some("template1"), events);
        let _ = std::fs::remove_file(&missing_only);
        let ran = ran?;
        self.succeeded("psql", &ran)?;
        events.step(Verb::Create, format!("roles in {}", self.container.name), "those that are there stay");
        let name = format!("the roles of the backup are in {}", self.container.name);
        globals.tell(name, &missing, &self.there()?, &ran.stderr, events);
        Ok(())
    }

    /// The roles and tablespaces of the server.
    fn there(&self) -> Result<There, Failure> {
        let ask = |sql| self.names("template1", sql).map(|names| names.into_iter().collect());
        Ok(There {
            roles: ask("SELECT rolname FROM pg_roles")?,
            tablespaces: ask("SELECT spcname FROM pg_tablespace")?,
        })
    }

    /// What a dump holds.
    fn read(&self, artifact: &Path, events: &mut EventWriter<'_>) -> Result<Content, Failure> {
        self.content(&READ, Some(artifact), None, events)
    }

    /// The same; that it cannot be read is an answer.
    fn look(&self, artifact: &Path, events: &mut EventWriter<'_>) -> Result<Result<Content, Unread>, Failure> {
        let (content, ran) = self.scanned(&READ, Some(artifact), None, events)?;
        Ok(match self.succeeded("pg_restore", &ran) {
            Ok(()) => Ok(content),
            Err(failure) if ran.stderr.contains("unsupported version") => Err(Unread::Newer(failure)),
            Err(failure) => Err(Unread::Broken(failure)),
        })
    }

    /// Makes a database and has the dump loaded into it.
    fn fill(
        &self,
        artifact: &Path,
        temporary: &str,
        beside: &Loaded,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let made = beside.own().made.clone();
        let make = || self.sql("template1", &format!("CREATE DATABASE {} {made}", identifier(temporary)));
        make()?;
        let command = ["pg_restore", "--exit-on-error", "-w", "-d", temporary];
        let ran = self.run(&command, Some(artifact), None, events)?;
        let failed = self.succeeded("pg_restore", &ran);
        if failed.is_ok() || !ran.stderr.contains("does not exist") {
            return failed;
        }
        // What a function of it names without a schema is found only where the application looks.
        let path = match (&beside.own().search_path, beside.replaces()) {
            (Some(path), _) => path.clone(),
            (None, Some(live)) => {
                self.names(live, "SELECT reset_val FROM pg_settings WHERE name = 'search_path'")?.concat()
            }
            (None, None) => "\"$user\", public".to_owned(),
        };
        events.log(format!("loading {temporary} again, with the search_path {path}"));
        self.sql("template1", &format!("DROP DATABASE {}", identifier(temporary)))?;
        make()?;
        let sql = staging.join(".larder-load.sql");
        let loaded = self
            .written_out(artifact, &path, &sql, events)
            .and_then(|()| {
                let command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1"];
                self.run(&command, Some(&sql), Some(temporary), events)
            })
            .map(|ran| self.succeeded("psql", &ran));
        let _ = std::fs::remove_file(&sql);
        // The first attempt may only have lacked the path.
        loaded?
    }

    /// The dump as SQL, with a search path.
    fn written_out(
        &self,
        artifact: &Path,
        path: &str,
        into: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        use std::io::Write as _;
        let unwritable = |error: std::io::Error| unwritable(into, &error);
        let mut file = std::io::BufWriter::new(File::create(into).map_err(unwritable)?);
        let (mut changer, mut written) = (PathChanger::new(path), Ok(()));
        let ran = self.fed(QUIET, &["pg_restore", "-f", "-"], Some(artifact), None, &mut |bytes| {
            events.progress(0, 0);
            let changed = changer.push(bytes);
            written = std::mem::replace(&mut written, Ok(())).and_then(|()| file.write_all(&changed));
        })?;
        self.succeeded("pg_restore", &ran)?;
        written.map_err(unwritable)?;
        file.write_all(&changer.finish()).and_then(|()| file.flush()).map_err(unwritable)
    }

    /// What a program writes as SQL.
    fn content(
        &self,
        command: &[&str],
        input: Option<&Path>,
        database: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<Content, Failure> {
        let (content, ran) = self.scanned(command, input, database, events)?;
        self.succeeded(command.first().unwrap_or(&""), &ran)?;
        Ok(content)
    }

    fn scanned(
        &self,
        command: &[&str],
        input: Option<&Path>,
        database: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<(Content, Executed), Failure> {
        let mut scanner = Scanner::default();
        let ran = self.fed(QUIET, command, input, database, &mut |bytes| {
            scanner.push(bytes);
            events.progress(0, 0);
        })?;
        Ok((scanner.finish(), ran))
    }

    /// Statements, as one transaction where they may be in one.
    fn sql(&self, database: &str, sql: &str) -> Result<(), Failure> {
        let command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql];
        self.output(&command, Some(database)).map(drop)
    }
}

/// A database by its name and in words.
pub(super) struct Named {
    live: String,
    shown: String,
}

/// Says whether what was loaded is what the dump holds; what is not so is never put in the place of anything.
fn compare(shown: &str, wanted: &Content, found: &Content, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let mut said = Vec::new();
    postgres::compare(shown, wanted, found, &mut EventWriter { out: &mut said });
    for event in said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok()) {
        if let Event::Validation(validation) = &event
            && validation.verdict == Verdict::Failed
        {
            let told = format!("{shown} is not what the dump holds: {}", validation.detail);
            return Err(Failure::new(codes::LOAD_DIFFERS, told)
                .hint("the databases are what they were; look at the database's log, or take another snapshot"));
        }
        events.say(&event);
    }
    Ok(())
}
