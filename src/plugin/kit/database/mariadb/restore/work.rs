//! One restore: what is decided of each database, and the steps that all of them take together.
//!
//! The tables of all databases come before the code of the first: a view may use tables, routines and views of another
//! one. So do the steps by which they take their places, and by which they are put back.

use std::collections::BTreeMap;

use super::compare::{compare, count};
use super::feed::Part;
use super::names::Names;
use super::objects::Objects;
use super::plan::Plan;
use super::rights::some_of;
use super::swap::{self, Place, Swap};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::gaps::{AROUND_ROW_BYTES, Visibility, packet_max};
use crate::plugin::kit::database::mariadb::server::{Server, identifier, literal, unhex};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Verdict;
use crate::types::ByteSize;

/// A run whose databases have such names as those of every run.
const ANY_RUN: &str = "00000000000000000000000000";
/// What comes when the tables of all are there.
const BEHIND_TABLES: [Part; 2] = [Part::Bodies, Part::Views];

/// Refuses when tables that stay have foreign keys into `goal`, which would follow its old tables: those of databases
/// that are not among `goals`, and those that the target leaves out.
fn not_led_into(server: &Server<'_>, goal: &str, stays: &[String], goals: &[&str]) -> Result<(), Failure> {
    let sql = format!(
        "SELECT DISTINCT HEX(table_schema), HEX(table_name), HEX(referenced_table_name) \
         FROM information_schema.key_column_usage WHERE referenced_table_schema = {}",
        literal(goal)
    );
    for row in server.query(goal, &sql)? {
        let columns: Vec<String> = row.split('\t').filter_map(unhex).collect();
        let [database, table, leads_to] = columns.as_slice() else { continue };
        if stays.contains(leads_to) {
            continue;
        }
        if database == goal && stays.contains(table) {
            return Err(Failure::new(
                codes::FOREIGN_KEYS_FROM_EXCLUDED,
                format!(
                    "foreign keys of {table}, which `exclude_tables` names, lead into {goal:?}, which is to be replaced"
                ),
            )
            .hint("nothing was changed; drop them first, or restore with `--option into=NAME`"));
        }
        if database != goal && !goals.contains(&database.as_str()) {
            return Err(Failure::new(
                codes::FOREIGN_KEYS_FROM_OUTSIDE,
                format!("foreign keys of the database {database:?} lead into {goal:?}, which is to be replaced"),
            )
            .hint("nothing was changed; drop them first, or restore with `--option into=NAME`"));
        }
    }
    Ok(())
}

/// A restore that was decided.
pub(in crate::plugin::kit::database::mariadb) struct Work<'w> {
    pub(in crate::plugin::kit::database::mariadb) swap: &'w Swap<'w>,
    /// Whether every row is compared, or the tables are counted.
    pub(in crate::plugin::kit::database::mariadb) compare: bool,
    pub(in crate::plugin::kit::database::mariadb) same_series: bool,
}

impl Work<'_> {
    /// Refuses what can be known to fail, or to leave something that leads nowhere.
    pub(in crate::plugin::kit::database::mariadb) fn check(&self, plans: &[&Plan]) -> Result<(), Failure> {
        let server = self.swap.server;
        let goals: Vec<&str> = plans.iter().map(|plan| plan.goal.as_str()).collect();
        let visibility = Visibility::of(server)?;
        for plan in plans {
            fits_packet(server, plan)?;
            if !plan.exists {
                continue;
            }
            not_led_into(server, &plan.goal, &plan.stays, &goals)?;
            if plan.is_full && !visibility.may_make(&swap::beside(ANY_RUN, 0)) {
                self.swap.may_refill(&plan.goal)?;
            }
        }
        Ok(())
    }

    /// Loads and compares all of them beside first; only then something is replaced.
    pub(super) fn all(
        &self,
        plans: &[&Plan],
        run: &str,
        places: &mut Vec<Place>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let mut fresh = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            fresh.push(Place::new(self.swap.server, run, number, &plan.goal, plan.exists, &plan.stays)?);
        }
        self.beside(plans, fresh, places, events)?;
        self.put(plans, places, events)?;
        let mut done = places.clone();
        let Some((first, rest)) = done.split_first_mut() else { return Ok(()) };
        self.swap.is_done(first)?;
        // From the first note on none goes back, also after a kill; and what is to be swept stays until the last is noted.
        places.clear();
        let noted = rest.iter_mut().try_for_each(|place| self.swap.is_done(place));
        for place in &done {
            let swept = noted.clone().and_then(|()| self.swap.sweep(place));
            swept.unwrap_or_else(|failure| tell_left(place, &failure, events));
        }
        Ok(())
    }

    /// Loads them beside and compares them; what can be loaded in its own place only waits.
    ///
    /// Each place is in `places` also after a failure, to be put back.
    pub(in crate::plugin::kit::database::mariadb) fn beside(
        &self,
        plans: &[&Plan],
        fresh: Vec<Place>,
        places: &mut Vec<Place>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let others: BTreeMap<String, String> =
            plans.iter().zip(&fresh).map(|(plan, place)| (plan.own(), identifier(&place.beside))).collect();
        for (plan, mut place) in plans.iter().zip(fresh) {
            self.swap.note(&place)?;
            // Who may work in his own database only can't make another one.
            let can_make = self.swap.can_make(&place);
            place.is_refilled = matches!(can_make, Ok(false));
            places.push(place.clone());
            can_make?;
            if place.is_refilled {
                if plan.is_full {
                    self.swap.may_refill(&plan.goal)?;
                }
                continue;
            }
            self.feed(&place, plan, Part::Tables, plan.names_beside(&place, &others), events)?;
            self.swap.stand_in(&place)?;
        }
        let made = || plans.iter().zip(places.iter()).filter(|(_, place)| !place.is_refilled);
        for part in BEHIND_TABLES {
            for (plan, place) in made().filter(|(plan, _)| part.is_in(&plan.scan)) {
                self.feed(place, plan, part, plan.names_beside(place, &others), events)?;
            }
        }
        for (plan, place) in made() {
            if self.compared(plan, place, &place.beside, events)? == Verdict::Failed && plan.is_full {
                return Err(differs(plan));
            }
        }
        Ok(())
    }

    /// Puts all of them in their places.
    pub(in crate::plugin::kit::database::mariadb) fn put(
        &self,
        plans: &[&Plan],
        places: &mut [Place],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let called: Vec<(String, String)> =
            places.iter().map(|place| (place.beside.clone(), place.goal.clone())).collect();
        // First what changes in one instant.
        for place in places.iter_mut().filter(|place| !place.is_refilled) {
            self.swap.swap(place, &called)?;
        }
        for part in BEHIND_TABLES {
            let swapped = plans.iter().zip(places.iter()).filter(|(_, place)| !place.is_refilled);
            for (plan, place) in swapped.filter(|(plan, _)| part.is_in(&plan.scan)) {
                let names = Some(Names::own(&plan.own(), &identifier(&place.goal)));
                self.swap.feed_as(place, &plan.file, part, names, |_| {})?;
            }
        }
        for place in places.iter().filter(|place| !place.is_refilled) {
            self.swap.is_whole(place)?;
        }
        for place in places.iter().filter(|place| !place.is_refilled) {
            self.rights(place, events)?;
        }
        for (plan, place) in plans.iter().zip(places.iter_mut()).filter(|(_, place)| place.is_refilled) {
            events.log(format!("no database can be made beside {}: its tables get other names meanwhile", plan.goal));
            let tables = plan.scan.tables.keys().chain(&plan.scan.others);
            place.new = Objects { tables: tables.map(|name| name.replace("``", "`")).collect(), ..Objects::default() };
            // Its number of tables is known when these are renamed.
            self.swap.refill(place, |place| {
                let mut events = EventWriter { out: &mut *events.out };
                self.feed(place, plan, Part::All, plan.names(&plan.goal), &mut events)?;
                match self.compared(plan, place, &plan.goal, &mut events)? {
                    Verdict::Failed if plan.is_full => Err(differs(plan)),
                    _ => Ok(()),
                }
            })?;
            self.rights(place, events)?;
        }
        Ok(())
    }

    /// Gives the rights on single routines again, and says which could not be given.
    fn rights(&self, place: &Place, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let lost = self.swap.give_rights(place)?;
        let (shown, more) = some_of(&lost);
        for statement in shown {
            let message = format!("a right on a routine of {} is gone with the one that was there", place.goal);
            events.warning(
                Trouble::new(codes::RIGHT_LOST, message).with_hint(format!("run as an administrator: {statement}")),
            );
        }
        if more > 0 {
            let message = format!("{more} more rights on routines of {} are gone so", place.goal);
            events.warning(
                Trouble::new(codes::RIGHT_LOST, message).with_hint("SHOW GRANTS of each user says what is left"),
            );
        }
        Ok(())
    }

    /// Has the client read the dump under the name of its goal.
    fn feed(
        &self,
        place: &Place,
        plan: &Plan,
        part: Part,
        names: Names,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        self.swap.feed_as(place, &plan.file, part, Some(names), |fed| events.progress(fed, plan.bytes))
    }

    fn compared(
        &self,
        plan: &Plan,
        place: &Place,
        database: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<Verdict, Failure> {
        let besides = place.besides();
        if self.compare {
            compare(self.swap.server, plan, database, &besides, self.same_series, events)
        } else {
            count(self.swap.server, plan, database, &besides, events)
        }
    }
}

/// Says that what was there before is there still. Its note stays, so it is tried again.
fn tell_left(place: &Place, failure: &Failure, events: &mut EventWriter<'_>) {
    let message = format!("what {} was is still there: {}", place.goal, failure.trouble.message);
    events.warning(Trouble::new(codes::OLD_ONE_LEFT, message).with_hint("it is dropped when the server lets it go"));
}

/// Refuses a server that takes no statement as long as the longest row.
fn fits_packet(server: &Server<'_>, plan: &Plan) -> Result<(), Failure> {
    let limit = packet_max(server)?;
    if plan.scan.row_bytes + AROUND_ROW_BYTES < limit {
        return Ok(());
    }
    Err(Failure::new(
        codes::ROW_TOO_LONG,
        format!(
            "a row of {} takes a statement of {}, and the server takes {}",
            plan.goal,
            ByteSize(plan.scan.row_bytes),
            ByteSize(limit)
        ),
    )
    .hint("nothing was changed; SET GLOBAL max_allowed_packet = 1073741824 for the restore"))
}

fn differs(plan: &Plan) -> Failure {
    Failure::new(codes::RESTORE_DIFFERS, format!("what was loaded for {} is not what the backup holds", plan.goal))
        .hint("the database is as it was before")
}
