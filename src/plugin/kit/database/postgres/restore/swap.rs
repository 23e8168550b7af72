//! A database is loaded beside the one that is there, and takes its place when it is whole: the names of both change in
//! one transaction. At every instant there is one database of the name, the old or the new one, and each is whole.
//!
//! What is noted in the journal before it is made is swept when this process is killed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::load::as_administrator;
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::postgres::PostgresSettings;
use crate::plugin::kit::database::postgres::bound::{Bound, bound, subscriptions};
use crate::plugin::kit::database::postgres::server::{Server, identifier, literal};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

/// How long sessions that are ending may take.
const SESSIONS_END_MAX: Duration = Duration::from_secs(5);
/// How long what a killed restore began may take to end on the server.
const WORK_ENDS_MAX: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(200);

/// A database, and the names under which another one is made and the old one is kept for a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) goal: String,
    pub(super) beside: String,
    aside: String,
    /// Something of that name is there.
    exists: bool,
}

impl Place {
    pub(super) fn new(run: &str, number: usize, goal: &str, exists: bool) -> Self {
        // Matched by `OURS` of the server.
        let beside = format!("larder_{}_{number}", run.to_ascii_lowercase());
        Self { goal: goal.to_owned(), aside: format!("{beside}_old"), beside, exists }
    }
}

/// The places of one restore, and what is noted of them.
pub(super) struct Places<'s> {
    server: &'s Server<'s>,
    journal: Option<Journal>,
    apart: &'static str,
    taken: Vec<Place>,
}

impl<'s> Places<'s> {
    /// `apart` is a database that is none of them, to be in meanwhile.
    pub(super) fn new(server: &'s Server<'s>, journal: Option<&Journal>, apart: &'static str) -> Self {
        Self { server, journal: journal.cloned(), apart, taken: Vec::new() }
    }

    /// Makes an empty database beside; `made` says how, from `WITH` on.
    pub(super) fn take(&mut self, place: &Place, made: Option<&str>) -> Result<(), Failure> {
        if let Some(journal) = &self.journal {
            journal.note(&place.beside, place)?;
        }
        if !self.taken.contains(place) {
            self.taken.push(place.clone());
        }
        self.make(place, made)
    }

    /// Makes what is beside anew, for another attempt.
    pub(super) fn again(&self, place: &Place, made: Option<&str>) -> Result<(), Failure> {
        drop_database(self.server, self.apart, &place.beside)?;
        self.make(place, made)
    }

    fn make(&self, place: &Place, made: Option<&str>) -> Result<(), Failure> {
        let made = made.unwrap_or("WITH TEMPLATE = template0");
        let sql = format!("CREATE DATABASE {} {made}", identifier(&place.beside));
        self.server.query(self.apart, &sql).map(drop).map_err(as_administrator)
    }

    /// Gives all of them their names at once, then drops what had these before.
    pub(super) fn swap(&mut self, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let mut sql = "BEGIN;".to_owned();
        let mut rename = |from: &str, to: &str| {
            sql.push_str(&format!(" ALTER DATABASE {} RENAME TO {};", identifier(from), identifier(to)));
        };
        for place in &self.taken {
            if place.exists {
                rename(&place.goal, &place.aside);
            }
            rename(&place.beside, &place.goal);
        }
        sql.push_str(" COMMIT");
        self.server.query(self.apart, &sql).map_err(as_administrator)?;
        for place in std::mem::take(&mut self.taken) {
            let dropped = if place.exists { drop_database(self.server, self.apart, &place.aside) } else { Ok(()) };
            match dropped {
                Ok(()) => self.done(&place)?,
                // The note stays, so it is tried again.
                Err(failure) => events.warning(
                    Trouble::new(
                        codes::OLD_ONE_LEFT,
                        format!("what {} was is still there: {}", place.goal, failure.trouble.message),
                    )
                    .with_hint(format!("DROP DATABASE {}", identifier(&place.aside))),
                ),
            }
        }
        Ok(())
    }

    /// Drops what was made beside: all is as it was.
    pub(super) fn give_up(&mut self, events: &mut EventWriter<'_>) {
        for place in std::mem::take(&mut self.taken) {
            let dropped = drop_database(self.server, self.apart, &place.beside).and_then(|()| self.done(&place));
            if let Err(failure) = dropped {
                events.warning(
                    Trouble::new(
                        codes::HALF_ONE_LEFT,
                        format!("{} is left: {}", place.beside, failure.trouble.message),
                    )
                    .with_hint(format!("DROP DATABASE {}", identifier(&place.beside))),
                );
            }
        }
    }

    fn done(&self, place: &Place) -> Result<(), Failure> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.done(&place.beside))
    }
}

fn drop_database(server: &Server<'_>, apart: &str, name: &str) -> Result<(), Failure> {
    let is_template = format!("SELECT 1 FROM pg_database WHERE datistemplate AND datname = {}", literal(name));
    if !server.query(apart, &is_template)?.is_empty() {
        server.query(apart, &format!("ALTER DATABASE {} IS_TEMPLATE false", identifier(name)))?;
    }
    unsubscribed(server, apart, name)?;
    server.query(apart, &format!("DROP DATABASE IF EXISTS {}", identifier(name))).map(drop)
}

/// Refuses a database that replication hangs on: what it gives or takes would be another one's without a word.
pub(super) fn unbound(server: &Server<'_>, apart: &str, goal: &str) -> Result<(), Failure> {
    let Bound { slots, subscriptions } = bound(goal, |sql| server.names(apart, sql))?;
    let shown = format!("the database {goal:?} at {}", server.settings.place());
    if let Some(slot) = slots.first() {
        let told = format!("{shown} has replication slots, which would go with it: {}", slots.join(", "));
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(slot));
        let hint = format!("nothing was changed; end what reads from them, then {drop} in it, and restore again");
        return Err(Failure::new(codes::REPLICATION_SLOTS, told).hint(hint));
    }
    if let Some(first) = subscriptions.first() {
        let told = format!("{shown} has subscriptions that work: {}", subscriptions.join(", "));
        let disable = format!("ALTER SUBSCRIPTION {} DISABLE", identifier(first));
        return Err(Failure::new(codes::SUBSCRIPTION_ENABLED, told)
            .hint(format!("nothing was changed; {disable} in it, then restore again")));
    }
    Ok(())
}

/// Drops the subscriptions of a database that is about to be dropped; what they read from keeps its slots.
fn unsubscribed(server: &Server<'_>, apart: &str, database: &str) -> Result<(), Failure> {
    for name in subscriptions(database, |sql| server.names(apart, sql))? {
        let name = identifier(&name);
        server.query(database, &format!("ALTER SUBSCRIPTION {name} DISABLE"))?;
        server.query(database, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"))?;
        server.query(database, &format!("DROP SUBSCRIPTION {name}"))?;
    }
    Ok(())
}

/// Refuses a database that somebody is connected to: nothing is begun then.
pub(super) fn unused(server: &Server<'_>, apart: &str, goal: &str) -> Result<(), Failure> {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid() \
         AND coalesce(backend_type, 'client backend') <> 'autovacuum worker'",
        literal(goal)
    );
    let started = Instant::now();
    loop {
        let count = server.query(apart, &sql)?.concat();
        if count == "0" {
            return Ok(());
        }
        // Perhaps one of ours that is just ending.
        if started.elapsed() > SESSIONS_END_MAX {
            return Err(Failure::new(
                codes::DATABASE_IN_USE,
                format!("the database {goal:?} at {} is used by {count} others", server.settings.place()),
            )
            .hint("stop the application that uses it; it was not touched"));
        }
        std::thread::sleep(TICK);
    }
}

/// Sweeps what a restore that was killed left: the old databases are there, or the new ones in their place.
pub(in crate::plugin) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PostgresSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let notes = journal.entries::<Place>()?;
    if notes.is_empty() {
        return Ok(());
    }
    let server = Server::connect(&settings, &request.staging, super::super::MAINTENANCE)?;
    let apart = super::apart(notes.iter().map(|(_, place)| place.goal.as_str()));
    for (_, place) in &notes {
        ended(&server, apart, place)?;
        let there = |name: &str| -> Result<bool, Failure> {
            let sql = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(name));
            Ok(!server.query(apart, &sql)?.is_empty())
        };
        if there(&place.aside)? && !there(&place.goal)? {
            // No order of ours leads here; whoever did it, the only one of the two is kept.
            let sql = format!("ALTER DATABASE {} RENAME TO {}", identifier(&place.aside), identifier(&place.goal));
            server.query(apart, &sql)?;
        }
        for name in [&place.beside, &place.aside] {
            if there(name)? {
                drop_database(&server, apart, name)?;
                events.log(format!("the database {name} of a restore that was killed is dropped"));
            }
        }
        journal.done(&place.beside)?;
    }
    Ok(())
}

/// Ends what the killed restore left working on the server, and waits for it: it may be about to make or rename one.
fn ended(server: &Server<'_>, apart: &str, place: &Place) -> Result<(), Failure> {
    let (beside, aside) = (literal(&place.beside), literal(&place.aside));
    let sql = format!(
        "SELECT count(*), count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
         AND application_name IN ('larder', 'pg_restore', 'psql', 'pg_dump') \
         AND (datname IN ({beside}, {aside}) OR (state <> 'idle' AND position({beside} IN query) > 0))"
    );
    let started = Instant::now();
    while server.query(apart, &sql)?.concat() != "0|0" {
        if started.elapsed() > WORK_ENDS_MAX {
            return Err(Failure::new(codes::SERVER_BUSY, "the server does not end what a killed restore began"));
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}
