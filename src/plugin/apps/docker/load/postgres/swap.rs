//! A loaded database takes the live one's name, in one transaction, and gives it back when something else fails.
//!
//! The note of it is durable before the database is made. What names there are on the server tells how far it came, so
//! undoing is the same after a failure and after a kill, and may be done twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Login, Named, ready};
use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::inventory::Container;
use crate::plugin::apps::docker::load::postgres::own::Own;
use crate::plugin::apps::docker::load::stopped;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::postgres::{self, identifier, literal};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Verb;

/// How often somebody else's sessions are ended before a database counts as in use.
const TRIES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(300);

/// A database that is loaded, or being loaded, beside the live one.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::plugin::apps::docker) struct Loaded {
    /// Marks the journal's entry as one of these.
    database: Names,
    /// The container's id.
    container: String,
    shown: String,
    own: Own,
    step: Step,
    /// It lives in a volume that this restore puts back: undoing that is enough.
    #[serde(default)]
    in_restored: bool,
    #[serde(skip)]
    entry: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Names {
    live: String,
    temporary: String,
    /// What the live one is called when the loaded one has its name; none: there was no live one.
    before: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Loading,
    /// The names may be changed already.
    Swapping,
}

impl Loaded {
    /// Notes what is about to be made.
    pub(super) fn note(
        place: &super::Place<'_>,
        container: &Container,
        entry: String,
        named: &Named,
        replaces: bool,
        own: Own,
    ) -> Result<Self, Failure> {
        let run = place.run.to_lowercase();
        let name = |what: &str| format!("larder_{what}_{}_{run}", entry.trim_start_matches("db-"));
        let database =
            Names { live: named.live.clone(), temporary: name("new"), before: replaces.then(|| name("before")) };
        let (container, shown) = (container.id.clone(), named.shown.clone());
        let loaded = Self { database, container, shown, own, step: Step::Loading, in_restored: place.own, entry };
        place.journal.note(&loaded.entry, &loaded)?;
        Ok(loaded)
    }

    pub(super) fn temporary(&self) -> &str {
        &self.database.temporary
    }

    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// The live database that is replaced.
    pub(super) fn replaces(&self) -> Option<&str> {
        self.database.before.as_ref().map(|_| self.database.live.as_str())
    }

    /// Gives the loaded database the live one's name.
    pub(in crate::plugin::apps::docker) fn swap(
        &mut self,
        engine: &Engine,
        journal: &Journal,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        self.step = Step::Swapping;
        journal.note(&self.entry, self)?;
        let container = self.container(engine)?;
        let login = ready(engine, &container, events)?;
        let Names { live, temporary, before } = &self.database;
        let renames = match before {
            Some(before) => {
                login.sql("template1", &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", identifier(live)))?;
                format!("{}; {}", rename(live, before), rename(temporary, live))
            }
            None => rename(temporary, live),
        };
        alone(&login, &[live, temporary], &renames, events)?;
        for statement in &self.own.statements {
            if let Err(failure) = login.sql("template1", statement) {
                let said = format!("{} itself: {}", self.shown, failure.trouble.message);
                events.warning(Trouble::new(codes::DATABASE_PROPERTY_REFUSED, said));
            }
        }
        let verb = if before.is_some() { Verb::Replace } else { Verb::Create };
        events.step(
            verb,
            self.shown.clone(),
            "loaded beside by pg_restore in the container, compared, and put in its place",
        );
        Ok(())
    }

    /// Drops what was replaced: everything succeeded.
    pub(in crate::plugin::apps::docker) fn finish(
        self,
        engine: &Engine,
        journal: &Journal,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        if let Some(before) = &self.database.before {
            let container = self.container(engine)?;
            let login = ready(engine, &container, events)?;
            dropped(&login, before, events)?;
        }
        journal.done(&self.entry)
    }

    /// Makes the live database what it was, and drops the loaded one.
    pub(in crate::plugin::apps::docker) fn undo(
        &self,
        engine: &Engine,
        journal: &Journal,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let container = self.container(engine)?;
        let login = ready(engine, &container, events)?;
        let there = login.names("template1", "SELECT datname FROM pg_database")?;
        let is_there = |name: &String| there.contains(name);
        let Names { live, temporary, before } = &self.database;
        let swapped = self.step == Step::Swapping && is_there(live) && !is_there(temporary);
        match before {
            Some(before) if is_there(before) => {
                let back = rename(before, live);
                let renames = if is_there(live) { format!("{}; {back}", rename(live, temporary)) } else { back };
                alone(&login, &[live, before, temporary], &renames, events)?;
            }
            None if swapped => alone(&login, &[live, temporary], &rename(live, temporary), events)?,
            _ => {}
        }
        if before.is_some() && self.step == Step::Swapping {
            login.sql("template1", &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", identifier(live)))?;
        }
        dropped(&login, temporary, events)?;
        events.log(format!("{} is what it was", self.shown));
        journal.done(&self.entry)
    }

    fn container(&self, engine: &Engine) -> Result<Container, Failure> {
        engine.inspect(&self.container)?.and_then(Container::of).ok_or_else(|| {
            Failure::new(codes::CONTAINER_GONE, format!("the container of the {} was removed", self.shown))
        })
    }
}

/// Refuses a live database that replication hangs on: what it gives or takes would be another one's without a word.
pub(super) fn unbound(login: &Login<'_>, live: &str, container: &str) -> Result<(), Failure> {
    let bound = postgres::bound(live, |sql| login.names("template1", sql))?;
    for (code, what, names, hint) in [
        (
            codes::REPLICATION_SLOTS,
            "replication slots, which would go with it",
            bound.slots,
            "end what reads from them and drop them",
        ),
        (codes::SUBSCRIPTION_ENABLED, "subscriptions that work", bound.subscriptions, "ALTER SUBSCRIPTION … DISABLE"),
    ] {
        if !names.is_empty() {
            let told = format!("the database {live} in {container} has {what}: {}", names.join(", "));
            return Err(Failure::new(code, told).hint(format!("nothing was changed; {hint}, then restore again")));
        }
    }
    Ok(())
}

/// Drops a database with its subscriptions; what these read from keeps its slots.
fn dropped(login: &Login<'_>, database: &String, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    for name in postgres::subscriptions(database, |sql| login.names("template1", sql))? {
        let (name, database_name) = (identifier(&name), identifier(database));
        login.sql("template1", &format!("ALTER DATABASE {database_name} WITH ALLOW_CONNECTIONS true"))?;
        login.sql(database, &format!("ALTER SUBSCRIPTION {name} DISABLE"))?;
        login.sql(database, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"))?;
        login.sql(database, &format!("DROP SUBSCRIPTION {name}"))?;
    }
    alone(login, &[database], &format!("DROP DATABASE IF EXISTS {}", identifier(database)), events)
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to))
}

/// Runs what needs a database for itself: ends the sessions in it, and tries again where one comes back.
fn alone(login: &Login<'_>, databases: &[&String], sql: &str, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let list = databases.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({list}) AND pid <> pg_backend_pid()"
    );
    let mut tries = 0;
    loop {
        login.names("template1", &end)?;
        match login.sql("template1", sql) {
            Err(failure) if tries < TRIES_MAX && failure.trouble.message.contains("accessed by other users") => {
                tries += 1;
                events.progress(0, 0);
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Puts right what a restore that was killed left of one database; `committed`: it had come to its end.
pub(in crate::plugin::apps::docker) fn recover(
    engine: &Engine,
    journal: &Journal,
    (entry, value): (String, Value),
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let Ok(loaded) = serde_json::from_value::<Loaded>(value) else { return Ok(()) };
    let loaded = Loaded { entry, ..loaded };
    match engine.inspect(&loaded.container)? {
        // With its container went its databases.
        None => journal.done(&loaded.entry),
        Some(_) if committed => loaded.finish(engine, journal, events),
        Some(_) if loaded.in_restored => {
            stopped(engine, &loaded.container, events).and_then(|()| journal.done(&loaded.entry))
        }
        Some(_) => loaded.undo(engine, journal, events),
    }
}
