//! A database is loaded beside the one that is there, and takes its place when it is whole.
//!
//! A server can't rename a database, but its tables, all of both databases in one statement. Triggers, views, routines
//! and events can't come along: those of the live database are written down first and made again when something fails.
//! Each step is noted before it is done, so a restore that was killed is put right by `recover`: until all is in its
//! place the old tables are there, under their own name or aside.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::objects::Objects;
use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::server::{Server, identifier, literal, unhex};
use crate::plugin::kit::database::mariadb::users::there::unmake;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use serde::{Deserialize, Serialize};

/// How long what a killed restore began may take to end on the server.
const WORK_ENDS_MAX: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(200);
/// How long a program that an engine was asked for may take until it works on the server.
const UNDERWAY: Duration = Duration::from_secs(1);

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Beside only.
    Beside,
    /// The tables or the code may be either ones.
    Swapping,
    /// The live tables have other names in their own database, and the new ones are made beside them there.
    Refilling,
    /// All is in its place.
    Done,
}

/// A database, and the names under which another one is made and the old tables are kept for a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::plugin) struct Place {
    pub(in crate::plugin) goal: String,
    pub(super) beside: String,
    pub(super) aside: String,
    pub(super) stage: Stage,
    /// No database can be made beside it: the new tables are made in it, and the old ones get other names meanwhile.
    #[serde(default)]
    pub(super) is_refilled: bool,
    /// It was there before.
    pub(super) exists: bool,
    /// Its character set and collation before, as SQL has them.
    pub(super) made: String,
    /// What it had before, and what is to be in it.
    pub(super) had: Objects,
    #[serde(default)]
    pub(super) new: Objects,
    /// Tables and views that the target leaves out and the backup has not: they stay as they are.
    #[serde(default)]
    pub(super) stays: Vec<String>,
    /// How it was when it could not be put back: whoever changed it since had a reason.
    #[serde(default)]
    pub(super) left: Option<String>,
    /// Views of it that cannot be written down, for what they use is gone: they have other names meanwhile.
    #[serde(default)]
    pub(super) invalid: Vec<String>,
    /// There is no database to it: users are made by statements, and those of a killed restore are dropped.
    #[serde(default)]
    pub(in crate::plugin::kit::database::mariadb) is_of_users: bool,
    /// Users that were made by this restore, with their hosts.
    #[serde(default)]
    pub(in crate::plugin::kit::database::mariadb) users: Vec<(String, String)>,
    /// The container of its server, where it is in one.
    #[serde(default)]
    pub(in crate::plugin) container: Option<String>,
    /// It lives in a volume that this restore puts back: undoing that is enough.
    #[serde(default)]
    pub(in crate::plugin) in_restored: bool,
}

/// One RENAME of all tables; several databases at once.
pub(super) fn renames(moves: &[(&str, &[String], &str)]) -> String {
    let mut parts = Vec::new();
    for (from, tables, to) in moves {
        let (from, to) = (identifier(from), identifier(to));
        parts.extend(tables.iter().map(|table| format!("{from}.{0} TO {to}.{0}", identifier(table))));
    }
    if parts.is_empty() { String::new() } else { format!("RENAME TABLE {};\n", parts.join(", ")) }
}

impl Place {
    /// Looks at what is there.
    pub(in crate::plugin::kit::database::mariadb) fn new(
        server: &Server<'_>,
        run: &str,
        number: usize,
        goal: &str,
        exists: bool,
        stays: &[String],
    ) -> Result<Self, Failure> {
        let beside = beside(run, number);
        let made = if exists { made(server, goal)? } else { String::new() };
        let had = if exists { Objects::of(server, goal, stays)? } else { Objects::default() };
        Ok(Self {
            goal: goal.to_owned(),
            aside: format!("{beside}_old"),
            beside,
            stage: Stage::Beside,
            is_refilled: false,
            exists,
            made,
            had,
            new: Objects::default(),
            stays: stays.to_vec(),
            left: None,
            invalid: Vec::new(),
            is_of_users: false,
            users: Vec::new(),
            container: None,
            in_restored: false,
        })
    }

    /// The name that a table has meanwhile in its own database, by its number.
    pub(super) fn aside_within(&self, number: usize) -> String {
        format!("{}_{number}", self.aside)
    }

    /// What does not count for the database: what stays, and what has another name meanwhile.
    pub(super) fn besides(&self) -> Vec<String> {
        let within = (0..self.had.tables.len()).map(|number| self.aside_within(number));
        let views = (0..self.invalid.len()).map(|number| self.view_aside(number));
        self.stays.iter().cloned().chain(within.filter(|_| self.is_refilled)).chain(views).collect()
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

/// The name under which a database is loaded first. Matched by `OURS` of the server.
pub(in crate::plugin::kit::database::mariadb) fn beside(run: &str, number: usize) -> String {
    format!("larder_{}_{number}", run.to_ascii_lowercase())
}

/// Character set and collation of a database, as SQL has them.
pub(super) fn made(server: &Server<'_>, database: &str) -> Result<String, Failure> {
    let sql = format!(
        "SELECT CONCAT('CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name) \
         FROM information_schema.schemata WHERE schema_name = {}",
        literal(database)
    );
    Ok(server.query(database, &sql)?.concat())
}

/// The file with the live database's code.
fn kept(directory: &Path, place: &Place) -> PathBuf {
    directory.join(format!("{}.sql", place.beside))
}

/// What works on the places of one restore.
pub(in crate::plugin::kit::database::mariadb) struct Swap<'s> {
    pub(in crate::plugin::kit::database::mariadb) server: &'s Server<'s>,
    journal: Option<Journal>,
    /// Where what must outlive this process lies.
    directory: PathBuf,
}

impl<'s> Swap<'s> {
    /// Without a journal, what is kept lies in `staging`.
    pub(in crate::plugin::kit::database::mariadb) fn new(
        server: &'s Server<'s>,
        journal: Option<&Journal>,
        staging: &Path,
    ) -> Self {
        let directory = journal.map_or(staging, Journal::directory).to_owned();
        Self { server, journal: journal.cloned(), directory }
    }

    pub(in crate::plugin::kit::database::mariadb) fn note(&self, place: &Place) -> Result<(), Failure> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.note(&place.beside, place))
    }

    pub(in crate::plugin::kit::database::mariadb) fn done(&self, place: &Place) -> Result<(), Failure> {
        let _ = std::fs::remove_file(self.kept(place));
        self.journal.as_ref().map_or(Ok(()), |journal| journal.done(&place.beside))
    }

    pub(super) fn kept(&self, place: &Place) -> PathBuf {
        kept(&self.directory, place)
    }

    /// Whether another database can be made beside it; nothing of it stays.
    pub(super) fn can_make(&self, place: &Place) -> Result<bool, Failure> {
        let beside = identifier(&place.beside);
        match self.script(place, &format!("CREATE DATABASE {beside};\nDROP DATABASE {beside};\n")) {
            Ok(()) => Ok(true),
            Err(failure) if failure.trouble.is_of(Kind::Denied) && !self.server.exists(&place.beside)? => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// What stays in the live database is there beside too, without rows, so that views of it can be made.
    pub(super) fn stand_in(&self, place: &Place) -> Result<(), Failure> {
        let (beside, goal) = (identifier(&place.beside), identifier(&place.goal));
        let mut sql = String::new();
        for listed in self.server.tables(&place.goal)?.iter().filter(|each| place.stays.contains(&each.name)) {
            let name = identifier(&listed.name);
            let _ = if listed.is_table() {
                writeln!(sql, "CREATE TABLE {beside}.{name} LIKE {goal}.{name};")
            } else {
                writeln!(sql, "CREATE VIEW {beside}.{name} AS SELECT * FROM {goal}.{name};")
            };
        }
        if sql.is_empty() { Ok(()) } else { self.script(place, &sql) }
    }

    /// Has the tables of what is beside and of what is there change places. `called` are the names beside of all that is
    /// put back, with those that they get.
    pub(super) fn swap(&self, place: &mut Place, called: &[(String, String)]) -> Result<(), Failure> {
        let server = self.server;
        if place.exists {
            // Meanwhile the application worked on.
            place.had = Objects::of(server, &place.goal, &place.stays)?;
            place.made = made(server, &place.goal)?;
        }
        self.keep_code(place)?;
        place.new = Objects::of(server, &place.beside, &place.stays)?;
        self.leads_nowhere(place)?;
        let made_so = made(server, &place.beside)?;
        let defaults = self.defaults(place, called)?;
        place.stage = Stage::Swapping;
        self.note(place)?;
        let (goal, aside) = (identifier(&place.goal), identifier(&place.aside));
        // What comes late to a server, when all was put back already, ends here.
        let mut sql = format!("USE {};\n", identifier(&place.beside));
        sql.push_str(&place.new.trigger_drops(&place.beside));
        if place.exists {
            let _ = writeln!(sql, "CREATE DATABASE {aside};");
            sql.push_str(&place.had.trigger_drops(&place.goal));
            sql.push_str(&place.views_aside());
            // One of them may have the name of a table that comes.
            sql.push_str(&place.writable().view_drops(&place.goal));
        } else {
            let _ = writeln!(sql, "CREATE DATABASE {goal} {made_so};");
        }
        sql.push_str(&renames(&[
            (&place.goal, &place.had.tables, &place.aside),
            (&place.beside, &place.new.tables, &place.goal),
        ]));
        sql.push_str(&defaults);
        if place.exists {
            let _ = writeln!(sql, "ALTER DATABASE {goal} {made_so};");
            sql.push_str(&place.had.body_drops(&place.goal));
        }
        self.script(place, &sql).map_err(|failure| self.with_damaged(place, failure))
    }

    /// Refuses tables whose foreign keys would follow what is taken away.
    fn leads_nowhere(&self, place: &Place) -> Result<(), Failure> {
        let sql = format!(
            "SELECT DISTINCT HEX(table_name), HEX(referenced_table_name) FROM information_schema.key_column_usage \
             WHERE table_schema = {} AND referenced_table_schema = {}",
            literal(&place.beside),
            literal(&place.goal)
        );
        let both = |row: &String| row.split_once('\t').and_then(|(from, to)| Some((unhex(from)?, unhex(to)?)));
        let rows = self.server.query(&place.goal, &sql)?;
        match rows.iter().filter_map(both).find(|(_, to)| place.had.tables.contains(to)) {
            None => Ok(()),
            Some((from, to)) => Err(Failure::new(
                codes::FOREIGN_KEYS_TO_MISSING,
                format!("a foreign key of {from} leads to {to}, which the backup of {} does not have", place.goal),
            )
            .hint(format!("nothing was changed; name {to} in `exclude_tables` so that it stays, or use `into`"))),
        }
    }

    /// The statements that have default values name the sequences as they are called in their place.
    fn defaults(&self, place: &Place, called: &[(String, String)]) -> Result<String, Failure> {
        let sql = format!(
            "SELECT HEX(table_name), HEX(column_name), HEX(column_default) FROM information_schema.columns \
             WHERE table_schema = {} AND column_default LIKE '%val(%larder%'",
            literal(&place.beside)
        );
        let mut script = String::new();
        for row in self.server.query(&place.goal, &sql)? {
            let columns: Vec<String> = row.split('\t').filter_map(unhex).collect();
            let [table, column, default] = columns.as_slice() else { continue };
            let mut value = default.clone();
            for (beside, goal) in called {
                value = value.replace(&format!("{}.", identifier(beside)), &format!("{}.", identifier(goal)));
            }
            if value != *default && place.new.tables.contains(table) {
                let (goal, table, column) = (identifier(&place.goal), identifier(table), identifier(column));
                let _ = writeln!(script, "ALTER TABLE {goal}.{table} ALTER COLUMN {column} SET DEFAULT ({value});");
            }
        }
        if script.is_empty() {
            return Ok(script);
        }
        Ok(format!("SET @@system_versioning_alter_history = 1;\n{script}"))
    }

    /// Looks whether all is in its place.
    pub(super) fn is_whole(&self, place: &Place) -> Result<(), Failure> {
        let found = Objects::of(self.server, &place.goal, &place.besides())?;
        let wrong = found.counts().into_iter().zip(place.new.counts()).find(|(now, wanted)| now != wanted);
        if let Some(((what, now), (_, wanted))) = wrong {
            return Err(Failure::new(
                codes::RESTORE_DIFFERS,
                format!("{} has {now} {what} instead of {wanted} after the swap", place.goal),
            ));
        }
        let sql = format!(
            "SELECT DISTINCT referenced_table_schema FROM information_schema.key_column_usage WHERE table_schema = {} \
             AND referenced_table_schema IN ({}, {})",
            literal(&place.goal),
            literal(&place.beside),
            literal(&place.aside)
        );
        match self.server.query(&place.goal, &sql)?.first() {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                codes::RESTORE_DIFFERS,
                format!("foreign keys of {} lead to {other} after the swap", place.goal),
            )),
        }
    }

    /// Notes that all is in its place.
    pub(super) fn is_done(&self, place: &mut Place) -> Result<(), Failure> {
        place.stage = Stage::Done;
        self.note(place)
    }

    /// Finishes all places of a restore, of which one at least is noted as done.
    fn finish_all(&self, places: &[Place]) -> Result<(), Failure> {
        let mut places = places.to_vec();
        // The last note that says so may not go before all say it.
        places.iter_mut().try_for_each(|place| self.is_done(place))?;
        let swept: Vec<Result<(), Failure>> = places.iter().map(|place| self.sweep(place)).collect();
        swept.into_iter().collect()
    }

    /// All is in its place: what was there before is dropped.
    pub(in crate::plugin::kit::database::mariadb) fn finish(&self, place: &mut Place) -> Result<(), Failure> {
        self.is_done(place)?;
        self.sweep(place)
    }

    pub(super) fn sweep(&self, place: &Place) -> Result<(), Failure> {
        let mut sql = String::new();
        for name in [&place.aside, &place.beside] {
            // Who may not see it did not make it.
            if self.server.exists(name)? {
                let _ = writeln!(sql, "DROP DATABASE IF EXISTS {};", identifier(name));
            }
        }
        if place.is_refilled && place.stage == Stage::Done {
            sql.push_str(&self.drops_within(place)?);
        }
        if place.stage == Stage::Done {
            sql.push_str(&self.invalid_drops(place)?);
        }
        if !sql.is_empty() {
            self.script(place, &sql)?;
        }
        self.done(place)
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
                return Err(Failure::new(codes::SERVER_BUSY, "the server does not end what a killed restore began"));
            }
            // It may be gone in between.
            let _ = self.server.query("", &format!("KILL {holder}"));
            std::thread::sleep(TICK);
        }
    }

    /// Puts right what a restore that was killed left.
    pub(super) fn recover(&self, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let places = journal.entries::<Place>()?.into_iter().map(|(_, place)| place);
        let (of_users, places): (Vec<Place>, Vec<Place>) = places.partition(|place| place.is_of_users);
        let dropped: Vec<Result<(), Failure>> =
            of_users.iter().map(|place| self.without_users(place, events)).collect();
        // A user who cannot be dropped keeps no database from what it was.
        let recovered = self.recover_all(&places, events);
        let dropped: Result<(), Failure> = dropped.into_iter().collect();
        match (dropped, recovered) {
            (Err(first), Err(second)) => Err(first.and(second)),
            (dropped, recovered) => dropped.and(recovered),
        }
    }

    /// Drops the users that a killed restore made.
    fn without_users(&self, place: &Place, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        self.ended(place)?;
        unmake(self.server, &place.users)?;
        self.done(place)?;
        events.log("the users that a killed restore made are dropped: not all of them may have been whole");
        Ok(())
    }

    pub(in crate::plugin::kit::database::mariadb) fn recover_all(
        &self,
        places: &[Place],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        places.iter().try_for_each(|place| self.ended(place))?;
        // It is noted first when all of them are in their places: none goes back when one may not.
        if places.iter().any(|place| place.stage == Stage::Done) {
            self.finish_all(places)?;
        } else {
            self.put_back(places)?;
        }
        for place in places {
            events.log(format!("what a killed restore of {} left is put right", place.goal));
        }
        Ok(())
    }
}
