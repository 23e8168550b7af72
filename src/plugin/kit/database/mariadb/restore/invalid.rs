//! Views of the live database that are invalid, and tables that are damaged.
//!
//! No dump program writes down a view that uses what is gone, and no statement makes such a view again. But under
//! another name it stays what it is, so it gets one as long as the restore is not done.

use std::fmt::Write as _;

use super::objects::Objects;
use super::swap::{Place, Swap};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::explain::{Answer, answer};
use crate::plugin::kit::database::mariadb::server::identifier;

/// Names in a sentence.
const NAMES_MAX: usize = 5;

impl Place {
    /// The name that an invalid view has meanwhile, by its number.
    pub(super) fn view_aside(&self, number: usize) -> String {
        format!("{}_v{number}", self.aside)
    }

    /// What it had and what can be made again.
    pub(super) fn writable(&self) -> Objects {
        self.had.without(&self.invalid)
    }

    /// The statement that gives the invalid views other names.
    pub(super) fn views_aside(&self) -> String {
        self.invalid_renamed(|_| true, |view, aside| (view, aside))
    }

    fn invalid_renamed(&self, is: impl Fn(usize) -> bool, way: impl Fn(String, String) -> (String, String)) -> String {
        let goal = identifier(&self.goal);
        let mut sql = String::new();
        for (number, view) in self.invalid.iter().enumerate().filter(|(number, _)| is(*number)) {
            let (from, to) = way(identifier(view), identifier(&self.view_aside(number)));
            let _ = writeln!(sql, "RENAME TABLE {goal}.{from} TO {goal}.{to};");
        }
        sql
    }
}

impl Swap<'_> {
    /// Which of the invalid views have another name now, by their numbers.
    fn are_aside(&self, place: &Place) -> Result<Vec<usize>, Failure> {
        if place.invalid.is_empty() {
            return Ok(Vec::new());
        }
        let there = self.server.tables(&place.goal)?;
        let is_aside = |number: &usize| there.iter().any(|listed| listed.name == place.view_aside(*number));
        Ok((0..place.invalid.len()).filter(is_aside).collect())
    }

    /// What is in a database and may be dropped to put back what was: all but what stays and the invalid views.
    pub(super) fn replaceable(&self, place: &Place) -> Result<Objects, Failure> {
        let now = Objects::of(self.server, &place.goal, &place.besides())?;
        let aside = self.are_aside(place)?;
        let numbered = place.invalid.iter().enumerate();
        let in_place: Vec<String> =
            numbered.filter(|(number, _)| !aside.contains(number)).map(|(_, view)| view.clone()).collect();
        Ok(now.without(&in_place))
    }

    /// Gives the invalid views their names back.
    pub(super) fn invalid_back(&self, place: &Place) -> Result<(), Failure> {
        let aside = self.are_aside(place)?;
        let sql = place.invalid_renamed(|number| aside.contains(&number), |view, aside| (aside, view));
        if sql.is_empty() { Ok(()) } else { self.script(place, &sql) }
    }

    /// The statements that drop the invalid views, when all is in its place.
    pub(super) fn invalid_drops(&self, place: &Place) -> Result<String, Failure> {
        let views = self.are_aside(place)?.into_iter().map(|number| place.view_aside(number)).collect();
        Ok(Objects { views, ..Objects::default() }.drops(&place.goal))
    }

    /// Looks which views the server itself cannot read. One that uses what is gone is refused as one that is not allowed.
    pub(super) fn invalid_views(&self, place: &Place) -> Vec<String> {
        self.unreadable(place, &place.had.views, &[Answer::Wrong, Answer::Denied])
    }

    /// Looks which tables the server itself cannot read. What a user may not see is not damaged for that.
    pub(super) fn damaged_tables(&self, place: &Place) -> Vec<String> {
        self.unreadable(place, &place.had.tables, &[Answer::Wrong])
    }

    /// Asks for each of these that is there under its name now; answers none where the server does not say.
    fn unreadable(&self, place: &Place, names: &[String], signs: &[Answer]) -> Vec<String> {
        let Ok(there) = self.server.tables(&place.goal) else { return Vec::new() };
        let goal = identifier(&place.goal);
        let mut found = Vec::new();
        for name in names.iter().filter(|name| there.iter().any(|listed| listed.name == **name)) {
            let asked = self.server.ask(&format!("SHOW FIELDS FROM {goal}.{}", identifier(name)));
            match asked.map_or(Answer::Nothing, |(ran, _)| answer(&ran)) {
                Answer::Nothing => return Vec::new(),
                told if signs.contains(&told) => found.push(name.clone()),
                _ => {}
            }
        }
        found
    }

    /// Says which tables are damaged where that is why nothing can be put aside.
    pub(super) fn with_damaged(&self, place: &Place, failure: Failure) -> Failure {
        match self.damaged_tables(place).as_slice() {
            [] => failure,
            tables => failure.hint(hint_of(place, tables)),
        }
    }
}

/// What to do about damaged tables.
pub(super) fn hint_of(place: &Place, tables: &[String]) -> String {
    let goal = identifier(&place.goal);
    let named: Vec<String> = tables.iter().take(NAMES_MAX).map(|name| format!("{goal}.{}", identifier(name))).collect();
    format!(
        "the live database is as it was; the server cannot read its own {0}: mend it, or when nothing of it is needed \
         DROP TABLE {0}, then restore again",
        named.join(", ")
    )
}
