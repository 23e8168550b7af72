//! A database is loaded beside the one that is there, and takes its place when it is whole.
//!
//! A server can't rename a database, but its tables, all of both databases in one statement. Triggers, views, routines
//! and events can't come along: those of the live database are written down first and made again when something fails.
//! Each step is noted before it is done, so a restore that was killed is put right by `recover`: until all is in its
//! place the old tables are there, under their own name or aside.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::feed::{Feed, Part, stream};
use super::objects::Objects;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::journal::Journal;
use crate::plugin::mariadb::dump;
use crate::plugin::mariadb::explain::explain;
use crate::plugin::mariadb::gaps::Sight;
use crate::plugin::mariadb::reach::{Input, Program};
use crate::plugin::mariadb::server::{Server, identifier, literal, unhex};
use crate::plugin::memory_file::MemoryFile;
use crate::plugin::protocol::Request;
use crate::plugin::tool::{DEADLINE_OF_WORK, Ends};
use crate::process::Exit;

/// How long what a killed restore began may take to end on the server.
const WORK_ENDS_MAX: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(200);
/// How long a program that an engine was asked for may take until it works on the server.
const UNDERWAY: Duration = Duration::from_secs(1);
/// Said first by every script and feed: which of them works is known by the lock, and a wait for the application ends.
const LOCK_WAIT_SECONDS: u32 = 60;

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Beside only.
    Beside,
    /// The tables or the code may be either ones.
    Swapping,
    /// The live database is dropped and filled again; its own dump is whole.
    Refilling,
    /// All is in its place.
    Done,
}

/// A database, and the names under which another one is made and the old tables are kept for a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::plugin) struct Place {
    pub(in crate::plugin) goal: String,
    pub(super) beside: String,
    aside: String,
    stage: Stage,
    /// No database can be made beside it: it is written down, dropped and filled anew.
    #[serde(default)]
    pub(super) is_refilled: bool,
    /// It was there before.
    exists: bool,
    /// Its character set and collation before, as SQL has them.
    made: String,
    /// What it had before.
    had: Objects,
    /// The container of its server, where it is in one.
    #[serde(default)]
    pub(in crate::plugin) container: Option<String>,
    /// It lives in a volume that this restore puts back: undoing that is enough.
    #[serde(default)]
    pub(in crate::plugin) in_restored: bool,
}

/// One RENAME of all tables; several databases at once.
fn renames(moves: &[(&str, &[String], &str)]) -> String {
    let mut parts = Vec::new();
    for (from, tables, to) in moves {
        let (from, to) = (identifier(from), identifier(to));
        parts.extend(tables.iter().map(|table| format!("{from}.{0} TO {to}.{0}", identifier(table))));
    }
    if parts.is_empty() { String::new() } else { format!("RENAME TABLE {};\n", parts.join(", ")) }
}

impl Place {
    /// Looks at what is there.
    pub(in crate::plugin::mariadb) fn new(
        server: &Server<'_>,
        run: &str,
        number: usize,
        goal: &str,
        exists: bool,
    ) -> Result<Self, Failure> {
        // Matched by `OURS` of the server.
        let beside = format!("larder_{}_{number}", run.to_ascii_lowercase());
        let (made, had) = if exists { (made(server, goal)?, Objects::of(server, goal)?) } else { Default::default() };
        let aside = format!("{beside}_old");
        let (goal, stage) = (goal.to_owned(), Stage::Beside);
        let (container, in_restored, is_refilled) = (None, false, false);
        Ok(Self { goal, beside, aside, stage, is_refilled, exists, made, had, container, in_restored })
    }

    pub(in crate::plugin) fn beside(&self) -> &str {
        &self.beside
    }

    /// It is gone with its server: nothing is left to be put right.
    pub(in crate::plugin) fn forget(&self, journal: &Journal) -> Result<(), Failure> {
        let _ = std::fs::remove_file(kept(journal.directory(), self));
        journal.done(&self.beside)
    }
}

/// Character set and collation of a database, as SQL has them.
fn made(server: &Server<'_>, database: &str) -> Result<String, Failure> {
    let sql = format!(
        "SELECT CONCAT('CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name) \
         FROM information_schema.schemata WHERE schema_name = {}",
        literal(database)
    );
    Ok(server.query(database, &sql)?.concat())
}

/// The file with the live database's code, or all of it.
fn kept(directory: &Path, place: &Place) -> PathBuf {
    directory.join(format!("{}.sql", place.beside))
}

/// What works on the places of one restore.
pub(in crate::plugin::mariadb) struct Swap<'s> {
    pub(in crate::plugin::mariadb) server: &'s Server<'s>,
    journal: Option<Journal>,
    /// Where what must outlive this process lies.
    directory: PathBuf,
}

impl<'s> Swap<'s> {
    pub(super) fn new(server: &'s Server<'s>, request: &Request) -> Result<Self, Failure> {
        let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
        let directory = request.journal.clone().unwrap_or_else(|| request.staging.clone());
        Ok(Self { server, journal, directory })
    }

    /// For a restore of which databases are a part.
    pub(in crate::plugin::mariadb) fn within(server: &'s Server<'s>, journal: &Journal) -> Self {
        Self { server, journal: Some(journal.clone()), directory: journal.directory().to_owned() }
    }

    pub(in crate::plugin::mariadb) fn note(&self, place: &Place) -> Result<(), Failure> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.note(&place.beside, place))
    }

    fn done(&self, place: &Place) -> Result<(), Failure> {
        let _ = std::fs::remove_file(self.kept(place));
        self.journal.as_ref().map_or(Ok(()), |journal| journal.done(&place.beside))
    }

    fn kept(&self, place: &Place) -> PathBuf {
        kept(&self.directory, place)
    }

    /// Puts what is beside in the place of what is there. `dump` is what was loaded beside, and `named` how its database
    /// stands in it.
    pub(super) fn swap(&self, place: &mut Place, dump: &Path, named: &str) -> Result<(), Failure> {
        let server = self.server;
        if place.exists {
            // Meanwhile the application worked on.
            place.had = Objects::of(server, &place.goal)?;
        }
        if place.had.has_code() {
            self.keep(place, true)?;
        }
        let new = Objects::of(server, &place.beside)?;
        let made_so = made(server, &place.beside)?;
        place.stage = Stage::Swapping;
        self.note(place)?;
        let (goal, aside) = (identifier(&place.goal), identifier(&place.aside));
        // What comes late to a server, when all was put back already, ends here.
        let mut sql = format!("USE {};\n", identifier(&place.beside));
        sql.push_str(&new.trigger_drops(&place.beside));
        if place.exists {
            let _ = writeln!(sql, "CREATE DATABASE {aside};");
            sql.push_str(&place.had.trigger_drops(&place.goal));
        } else {
            let _ = writeln!(sql, "CREATE DATABASE {goal} {made_so};");
        }
        sql.push_str(&renames(&[
            (&place.goal, &place.had.tables, &place.aside),
            (&place.beside, &new.tables, &place.goal),
        ]));
        if place.exists {
            let _ = writeln!(sql, "ALTER DATABASE {goal} {made_so};");
            let rest = Objects { triggers: Vec::new(), ..place.had.clone() };
            sql.push_str(&rest.drops(&place.goal));
        }
        self.script(place, &sql)?;
        if new.has_code() {
            let names = (named.to_owned(), identifier(&place.goal));
            self.feed_as(place, dump, Part::Code, Some(names), |_| {})?;
        }
        self.give_rights(place)?;
        let found = Objects::of(server, &place.goal)?;
        let wrong = found.counts().into_iter().zip(new.counts()).find(|(now, wanted)| now != wanted);
        match wrong {
            None => Ok(()),
            Some(((what, now), (_, wanted))) => Err(Failure::new(
                "restore_differs",
                format!("{} has {now} {what} instead of {wanted} after the swap", place.goal),
            )),
        }
    }

    /// With a routine that is dropped, what users may do with it goes: given again where it is there.
    fn give_rights(&self, place: &Place) -> Result<(), Failure> {
        let now = Objects::of(self.server, &place.goal)?;
        let is_there = |kind: &String, name: &String| now.routines.iter().any(|own| (&own.0, &own.1) == (kind, name));
        let missing = place.had.rights.iter().filter(|right| !now.rights.contains(right));
        let sql: Vec<&str> =
            missing.filter(|(kind, name, _)| is_there(kind, name)).map(|(_, _, sql)| sql.as_str()).collect();
        let sql = sql.join("\n");
        if sql.is_empty() { Ok(()) } else { self.script(place, &sql) }
    }

    /// Notes that all is in its place.
    pub(super) fn is_done(&self, place: &mut Place) -> Result<(), Failure> {
        place.stage = Stage::Done;
        self.note(place)
    }

    /// All is in its place: what was there before is dropped.
    pub(in crate::plugin::mariadb) fn finish(&self, place: &mut Place) -> Result<(), Failure> {
        self.is_done(place)?;
        self.sweep(place)
    }

    fn sweep(&self, place: &Place) -> Result<(), Failure> {
        let mut sql = String::new();
        for name in [&place.aside, &place.beside] {
            // Who may not see it did not make it.
            if self.server.exists(name)? {
                let _ = writeln!(sql, "DROP DATABASE IF EXISTS {};", identifier(name));
            }
        }
        if !sql.is_empty() {
            self.script(place, &sql)?;
        }
        self.done(place)
    }

    /// Puts all back as it was; does nothing twice.
    pub(super) fn put_back(&self, place: &Place) -> Result<(), Failure> {
        match place.stage {
            Stage::Beside | Stage::Done => {}
            Stage::Refilling => self.refill_from_kept(place).map_err(|failure| {
                Failure::new("not_put_back", format!("{} is not as it was: {}", place.goal, failure.trouble.message))
                    .hint(format!("what it was is in {}; Larder tries again", self.kept(place).display()))
            })?,
            Stage::Swapping if !place.exists => self.drop_goal(place)?,
            Stage::Swapping => self.swap_back(place)?,
        }
        self.sweep(place)
    }

    fn swap_back(&self, place: &Place) -> Result<(), Failure> {
        let server = self.server;
        let now = Objects::of(server, &place.goal)?;
        let old = Objects::of(server, &place.aside)?;
        let mut sql = String::new();
        if !old.tables.is_empty() || now.tables != place.had.tables {
            let _ = writeln!(sql, "CREATE DATABASE IF NOT EXISTS {};", identifier(&place.beside));
            sql.push_str(&now.trigger_drops(&place.goal));
            sql.push_str(&renames(&[
                (&place.goal, &now.tables, &place.beside),
                (&place.aside, &old.tables, &place.goal),
            ]));
        }
        if now.counts() != place.had.counts() || !old.tables.is_empty() {
            sql.push_str(&now.drops(&place.goal));
        }
        let _ = writeln!(sql, "ALTER DATABASE {} {};", identifier(&place.goal), place.made);
        self.script(place, &sql)?;
        let code = |objects: &Objects| Objects { tables: Vec::new(), rights: Vec::new(), ..objects.clone() };
        if code(&Objects::of(server, &place.goal)?) != code(&place.had) && place.had.has_code() {
            self.feed(place, &self.kept(place), Part::Code)?;
            self.give_rights(place)?;
        }
        let found = Objects::of(server, &place.goal)?;
        if found.counts() == place.had.counts() {
            return Ok(());
        }
        Err(Failure::new("not_put_back", format!("{} is not as it was before the restore", place.goal))
            .hint(format!("its triggers, views, routines and events are in {}", self.kept(place).display())))
    }

    /// Where no database can be made beside: the live one is dumped, dropped and filled anew. `fill` fills and judges it.
    pub(super) fn refill(&self, place: &mut Place, fill: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        if place.exists {
            place.had = Objects::of(self.server, &place.goal)?;
            self.may_make_again(place)?;
            self.keep(place, false)?;
        }
        place.stage = Stage::Refilling;
        self.note(place)?;
        if let Err(failure) = self.drop_goal(place) {
            // Who may not drop it changed nothing: then nothing is to be put back.
            if Objects::of(self.server, &place.goal).is_ok_and(|now| now == place.had) {
                place.stage = Stage::Beside;
                self.note(place)?;
            }
            return Err(failure);
        }
        fill()
    }

    /// Refuses a live database whose code belongs to others, when the user may not make things in their names.
    fn may_make_again(&self, place: &Place) -> Result<(), Failure> {
        let may = ["SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"];
        let sight = Sight::of(self.server)?;
        if may.iter().any(|privilege| sight.has_everywhere(privilege)) {
            return Ok(());
        }
        let of = [
            ("views", "table_schema"),
            ("triggers", "trigger_schema"),
            ("routines", "routine_schema"),
            ("events", "event_schema"),
        ];
        let goal = literal(&place.goal);
        let parts: Vec<String> = of
            .iter()
            .map(|(table, schema)| format!("SELECT definer FROM information_schema.{table} WHERE {schema} = {goal}"))
            .collect();
        let sql = format!(
            "SELECT DISTINCT HEX(definer) FROM ({}) d WHERE definer <> CURRENT_USER() LIMIT 1",
            parts.join(" UNION ALL ")
        );
        match self.server.query(&place.goal, &sql)?.first().and_then(|row| unhex(row)) {
            None => Ok(()),
            Some(definer) => Err(Failure::new(
                "not_kept",
                format!(
                    "{} has code of {definer}, which this user could not put back if the restore failed",
                    place.goal
                ),
            )
            .hint("nothing was changed; restore as a user who may make databases, or set other DEFINERs (SET USER)")),
        }
    }

    fn drop_goal(&self, place: &Place) -> Result<(), Failure> {
        // Where there is none, perhaps none may be dropped either.
        if self.server.exists(&place.goal)? {
            self.script(place, &format!("DROP DATABASE IF EXISTS {};", identifier(&place.goal)))?;
        }
        Ok(())
    }

    fn refill_from_kept(&self, place: &Place) -> Result<(), Failure> {
        self.drop_goal(place)?;
        if place.exists {
            self.feed(place, &self.kept(place), Part::All)?;
        }
        Ok(())
    }

    /// Writes the live database down, whole or without rows; durable.
    fn keep(&self, place: &Place, without_rows: bool) -> Result<(), Failure> {
        let file = self.kept(place);
        let refuse = |why: String| {
            Failure::new("not_kept", format!("{} cannot be written down before it is replaced: {why}", place.goal))
                .hint("nothing was changed; free space in the state directory, or give the user all rights on it")
        };
        let mut args = dump::all_of(self.server);
        if without_rows {
            args.insert(1, "--no-data".into());
        }
        args.extend(["--".into(), place.goal.clone().into()]);
        let ran = match self.server.reach {
            Some(reach) => {
                let mut into = File::create(&file).map_err(|error| refuse(error.to_string()))?;
                let mut written = Ok(());
                let hear = &mut |bytes: &[u8]| {
                    if written.is_ok() {
                        written = into.write_all(bytes);
                    }
                };
                let ran = reach.run(Program::Dump, args, None, hear, &mut || {})?;
                written.map_err(|error| refuse(error.to_string()))?;
                ran
            }
            None => {
                args.insert(1, format!("--result-file={}", file.display()).into());
                let tools = &self.server.tools;
                tools.run(&self.server.client.dump, args, &[], DEADLINE_OF_WORK, |_| {}, || {})
            }
        };
        if ran.exit != Exit::Success {
            let told = explain("the dump", &self.server.settings.place(), &place.goal, &ran);
            return Err(refuse(told.trouble.message));
        }
        let (scan, _) = dump::read_whole(&file, |_| {})?;
        let of_code = [
            ("triggers", scan.counts.triggers, place.had.triggers.len()),
            ("views", scan.counts.views, place.had.views.len()),
            ("routines", scan.counts.routines, place.had.routines.len()),
            ("events", scan.counts.events, place.had.events.len()),
        ];
        if !scan.complete {
            return Err(refuse("its dump has no end".to_owned()));
        }
        if let Some((what, now, wanted)) = of_code.iter().find(|(_, now, wanted)| *now != *wanted as u64) {
            return Err(refuse(format!("{now} of {wanted} {what} are in it")));
        }
        File::open(&file).and_then(|file| file.sync_all()).map_err(|error| refuse(error.to_string()))
    }

    fn feed(&self, place: &Place, file: &Path, part: Part) -> Result<(), Failure> {
        self.feed_as(place, file, part, None, |_| {})
    }

    /// Has the client read a dump, with one name of its database in place of another.
    pub(super) fn feed_as(
        &self,
        place: &Place,
        file: &Path,
        part: Part,
        names: Option<(String, String)>,
        on_tick: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let mut args = self.server.shell_args();
        args.push(format!("--init-command={}", Self::first(place)).into());
        if part == Part::Code {
            args.push(format!("--database={}", place.goal).into());
        }
        let ran = stream(self.server, Feed { file, part, names, args }, on_tick)?;
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(explain("the restore", &self.server.settings.place(), &place.goal, &ran)),
        }
    }

    /// Who works on a place holds its lock, so that is known after a kill.
    fn first(place: &Place) -> String {
        format!(
            "SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}, foreign_key_checks = 0, @larder = GET_LOCK({}, {LOCK_WAIT_SECONDS})",
            literal(&place.beside)
        )
    }

    /// Runs statements one after the other, up to the first that fails.
    fn script(&self, place: &Place, sql: &str) -> Result<(), Failure> {
        let broken = |error: std::io::Error| Failure::new("internal", format!("a script cannot be made: {error}"));
        let text = format!("{};\n{sql}", Self::first(place));
        let file = MemoryFile::new(text.as_bytes()).map_err(broken)?;
        let (from, args) = (File::open(file.path()).map_err(broken)?, self.server.shell_args());
        let ran = match self.server.reach {
            Some(reach) => {
                let input = Some(Input { from, bytes: text.len() as u64 });
                reach.run(Program::Shell, args, input, &mut |_| {}, &mut || {})?
            }
            None => {
                let (tools, ends) = (&self.server.tools, Ends { stdin: Some(from), stdout: None });
                tools.pipe(&self.server.client.shell, args, &[], DEADLINE_OF_WORK, ends, || {})
            }
        };
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(explain("the restore", &self.server.settings.place(), &place.goal, &ran)),
        }
    }

    /// Ends what a killed restore left working on the server, and waits for it.
    fn ended(&self, place: &Place) -> Result<(), Failure> {
        let started = Instant::now();
        if self.server.reach.is_some() {
            // What was asked of an engine just before the kill may be on its way.
            std::thread::sleep(UNDERWAY);
        }
        let sql = format!("SELECT IFNULL(IS_USED_LOCK({}), '')", literal(&place.beside));
        loop {
            let holder = self.server.query("", &sql)?.concat();
            if holder.is_empty() {
                return Ok(());
            }
            if started.elapsed() > WORK_ENDS_MAX {
                return Err(Failure::new("server_busy", "the server does not end what a killed restore began").later());
            }
            // It may be gone in between.
            let _ = self.server.query("", &format!("KILL {holder}"));
            std::thread::sleep(TICK);
        }
    }

    /// Puts right what a restore that was killed left.
    pub(super) fn recover(&self, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let Some(journal) = &self.journal else { return Ok(()) };
        for (_, place) in journal.entries::<Place>()? {
            self.recover_one(&place, voice)?;
        }
        Ok(())
    }

    pub(in crate::plugin::mariadb) fn recover_one(&self, place: &Place, voice: &mut Voice<'_>) -> Result<(), Failure> {
        self.ended(place)?;
        self.put_back(place)?;
        voice.log(format!("what a killed restore of {} left is put right", place.goal));
        Ok(())
    }
}
