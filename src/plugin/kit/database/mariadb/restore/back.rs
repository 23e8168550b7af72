//! Puts back what was there before a restore that failed or was killed.
//!
//! The tables of all databases come first, then the code that was written down, and the views that could not be.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::feed::Part;
use super::objects::Objects;
use super::rights::some_of;
use super::swap::{Place, Stage, Swap, renames};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::inside;
use crate::plugin::kit::database::mariadb::server::{identifier, literal};

impl Swap<'_> {
    /// Puts all back as it was; does nothing twice. One that somebody changed since an attempt failed is left to him.
    pub(super) fn put_back(&self, places: &[Place]) -> Result<(), Failure> {
        let mut first = None;
        let mut back = Vec::new();
        for place in places.iter().rev() {
            match self.tables_back(place) {
                Ok(None) => back.push(place),
                // Whoever changed it since has it.
                Ok(Some(changed)) => drop(first.get_or_insert(changed)),
                Err(failure) => self.is_left(place, failure, &mut first),
            }
        }
        for place in back {
            // The tables of all are there now, so views of other databases can be made.
            if let Err(failure) = self.code_back(place).and_then(|()| self.sweep(place)) {
                self.is_left(place, failure, &mut first);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn is_left(&self, place: &Place, failure: Failure, first: &mut Option<Failure>) {
        if let Ok(left) = self.looks(place) {
            let _ = self.note(&Place { left: Some(left), ..place.clone() });
        }
        first.get_or_insert(failure);
    }

    /// What a database is like, as one text that changes with it.
    fn looks(&self, place: &Place) -> Result<String, Failure> {
        let objects = Objects::of(self.server, &place.goal, &[])?;
        let objects = Objects { rights: Vec::new(), passing: Vec::new(), ..objects };
        let goal = literal(&place.goal);
        let sql = format!(
            "SELECT HEX(table_name), IFNULL(create_time, '') FROM information_schema.tables WHERE table_schema = {goal} \
             UNION ALL SELECT HEX(routine_name), last_altered FROM information_schema.routines WHERE routine_schema = {goal} \
             UNION ALL SELECT HEX(event_name), last_altered FROM information_schema.events WHERE event_schema = {goal}"
        );
        let mut rows = self.server.query(&place.goal, &sql)?;
        rows.sort();
        let text = format!("{objects:?}{}", rows.concat());
        Ok(hex::encode(Sha256::digest(text.as_bytes())))
    }

    /// Answers with a failure where somebody changed the database since, and then does nothing.
    fn tables_back(&self, place: &Place) -> Result<Option<Failure>, Failure> {
        if let Some(left) = &place.left
            && *left != self.looks(place)?
        {
            let changed = Failure::new(
                codes::CHANGED_SINCE,
                format!("{} was changed since a restore of it failed, so nothing is put back by itself", place.goal),
            );
            return Ok(Some(changed.hint(format!(
                "its tables from before the restore are in {0} or called {0}_N, views that were invalid {0}_vN, the rest is \
                 in {1}; when all is right, drop what is called so and remove the file {2}.json beside it",
                place.aside,
                self.kept(place).display(),
                place.beside
            ))));
        }
        let back = match place.stage {
            Stage::Beside if !place.users.is_empty() => inside::unmake(self.server, &place.users),
            Stage::Beside | Stage::Done => Ok(()),
            Stage::Refilling => self.renamed_back(place),
            Stage::Swapping if !place.exists => self.drop_goal(place),
            Stage::Swapping => self.swapped_back(place),
        };
        back.map(|()| None)
    }

    /// Whether nothing but what is kept tells whose the code is that is there.
    pub(super) fn is_code_alone(&self, place: &Place) -> bool {
        // What is kept goes when all is back.
        place.had.tables.is_empty() && self.kept(place).exists()
    }

    fn swapped_back(&self, place: &Place) -> Result<(), Failure> {
        let server = self.server;
        let now = self.replaceable(place)?;
        let had = place.writable();
        let old = Objects::of(server, &place.aside, &[])?;
        let mut sql = String::new();
        if !old.tables.is_empty() || now.tables != place.had.tables {
            let _ = writeln!(sql, "CREATE DATABASE IF NOT EXISTS {};", identifier(&place.beside));
            sql.push_str(&now.trigger_drops(&place.goal));
            sql.push_str(&now.view_drops(&place.goal));
            sql.push_str(&renames(&[
                (&place.goal, &now.tables, &place.beside),
                (&place.aside, &old.tables, &place.goal),
            ]));
        }
        let is_moved = !old.tables.is_empty() || now.tables != had.tables;
        if now.counts() != had.counts() || is_moved || self.is_code_alone(place) {
            if !is_moved {
                sql.push_str(&now.trigger_drops(&place.goal));
                sql.push_str(&now.view_drops(&place.goal));
            }
            sql.push_str(&now.body_drops(&place.goal));
        }
        let _ = writeln!(sql, "ALTER DATABASE {} {};", identifier(&place.goal), place.made);
        self.script(place, &sql)
    }

    /// Makes the code again that was there, from what was written down.
    fn code_back(&self, place: &Place) -> Result<(), Failure> {
        if !matches!(place.stage, Stage::Swapping | Stage::Refilling) || !place.exists {
            return Ok(());
        }
        let now = self.replaceable(place)?;
        let had = place.writable();
        let (left, wanted) = (now.code(), had.code());
        if left != wanted {
            if now.has_code() {
                self.script(place, &now.drops(&place.goal))?;
            }
            if had.has_code() {
                self.feed(place, &self.kept(place), Part::Bodies)?;
                self.feed(place, &self.kept(place), Part::Views)?;
            }
        }
        self.invalid_back(place)?;
        let found = Objects::of(self.server, &place.goal, &place.besides())?;
        if found.counts() != place.had.counts() {
            return Err(Failure::new(
                codes::NOT_PUT_BACK,
                format!("{} is not as it was before the restore", place.goal),
            )
            .hint(format!("its triggers, views, routines and events are in {}", self.kept(place).display())));
        }
        let lacking = self.give_rights(place)?;
        if lacking.is_empty() {
            return Ok(());
        }
        let (shown, more) = some_of(&lacking);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Failure::new(codes::NOT_PUT_BACK, format!("rights on routines of {} are not as they were", place.goal))
            .hint(format!("run what gives them: {}{more}", shown.join(" "))))
    }

    pub(super) fn drop_goal(&self, place: &Place) -> Result<(), Failure> {
        // Where there is none, perhaps none may be dropped either.
        if self.server.exists(&place.goal)? {
            self.script(place, &format!("DROP DATABASE IF EXISTS {};", identifier(&place.goal)))?;
        }
        Ok(())
    }
}
