//! Where a user may make no second database: the live tables get other names in their own, and the new ones are made there.
//!
//! No row is dropped before what was loaded is compared, and putting back is one RENAME. What cannot be kept so is refused
//! before anything is touched: code that the user could not make again, and foreign keys whose own names are taken as long
//! as the old tables are there.

use std::fmt::Write as _;

use super::objects::Objects;
use super::swap::{Place, Stage, Swap, made};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::gaps::Visibility;
use crate::plugin::kit::database::mariadb::server::{identifier, literal, unhex};

/// The grant by which a database can be loaded beside.
const GRANT: &str = "GRANT ALL ON `larder\\_%`.* to the user, so that the backup can be loaded beside";

impl Swap<'_> {
    /// Refuses what could not be put back.
    pub(super) fn may_refill(&self, goal: &str) -> Result<(), Failure> {
        self.may_make_again(goal)?;
        let sql = format!(
            "SELECT HEX(constraint_name) FROM information_schema.table_constraints WHERE constraint_schema = {} AND \
             constraint_type = 'FOREIGN KEY' AND HEX(constraint_name) NOT LIKE CONCAT(HEX(CONCAT(table_name, '_ibfk_')), '%') LIMIT 1",
            literal(goal)
        );
        match self.server.query(goal, &sql)?.first().and_then(|row| unhex(row)) {
            None => Ok(()),
            Some(name) => Err(Failure::new(
                codes::NOT_KEPT,
                format!("{goal} has the foreign key {name}, so its tables cannot stay while new ones are made in it"),
            )
            .hint(format!("nothing was changed; {GRANT}"))),
        }
    }

    /// Refuses a live database whose code belongs to others, when the user may not make things in their names.
    fn may_make_again(&self, goal: &str) -> Result<(), Failure> {
        let may = ["SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"];
        let visibility = Visibility::of(self.server)?;
        if may.iter().any(|privilege| visibility.has_everywhere(privilege)) {
            return Ok(());
        }
        let of = [
            ("views", "table_schema"),
            ("triggers", "trigger_schema"),
            ("routines", "routine_schema"),
            ("events", "event_schema"),
        ];
        let quoted = literal(goal);
        let parts: Vec<String> = of
            .iter()
            .map(|(table, schema)| format!("SELECT definer FROM information_schema.{table} WHERE {schema} = {quoted}"))
            .collect();
        let sql = format!(
            "SELECT DISTINCT HEX(definer) FROM ({}) d WHERE definer <> CURRENT_USER() LIMIT 1",
            parts.join(" UNION ALL ")
        );
        match self.server.query(goal, &sql)?.first().and_then(|row| unhex(row)) {
            None => Ok(()),
            Some(definer) => Err(Failure::new(
                codes::NOT_KEPT,
                format!("{goal} has code of {definer}, which this user could not put back if the restore failed"),
            )
            .hint("nothing was changed; restore as a user who may make databases, or set other DEFINERs (SET USER)")),
        }
    }

    /// Gives the live tables other names and has `fill` make the new ones, and judge them.
    pub(super) fn refill(
        &self,
        place: &mut Place,
        fill: impl FnOnce(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if place.exists {
            place.had = Objects::of(self.server, &place.goal, &place.stays)?;
            place.made = made(self.server, &place.goal)?;
            self.may_refill(&place.goal)?;
            self.keep_code(place)?;
        }
        place.stage = Stage::Refilling;
        self.note(place)?;
        let goal = identifier(&place.goal);
        let mut sql = place.had.trigger_drops(&place.goal) + &place.views_aside();
        let renames: Vec<String> = renames_within(place, |table, aside| format!("{goal}.{table} TO {goal}.{aside}"));
        if !renames.is_empty() {
            let _ = writeln!(sql, "RENAME TABLE {};", renames.join(", "));
        }
        let rest = Objects { triggers: Vec::new(), ..place.writable() };
        sql.push_str(&rest.drops(&place.goal));
        if !sql.is_empty()
            && let Err(failure) = self.script(place, &sql)
        {
            // Who may not do it changed nothing: then nothing is to be put back.
            if Objects::of(self.server, &place.goal, &place.stays).is_ok_and(|now| now == place.had) {
                place.stage = Stage::Beside;
                self.note(place)?;
            }
            return Err(self.with_damaged(place, failure));
        }
        fill(place)
    }

    /// The statement that drops the old tables.
    pub(super) fn drops_within(&self, place: &Place) -> Result<String, Failure> {
        let there = self.server.tables(&place.goal)?;
        let is_there = |name: &str| there.iter().any(|listed| listed.name == name);
        let old = (0..place.had.tables.len()).map(|number| place.aside_within(number)).filter(|name| is_there(name));
        let goal = identifier(&place.goal);
        let old: Vec<String> = old.map(|name| format!("{goal}.{}", identifier(&name))).collect();
        Ok(if old.is_empty() { String::new() } else { format!("DROP TABLE IF EXISTS {};\n", old.join(", ")) })
    }

    /// Gives the old tables their names back.
    pub(super) fn renamed_back(&self, place: &Place) -> Result<(), Failure> {
        if !place.exists {
            return self.drop_goal(place);
        }
        let goal = identifier(&place.goal);
        let now = self.replaceable(place)?;
        let all = Objects::of(self.server, &place.goal, &place.stays)?;
        let is_aside = all.tables.len() > now.tables.len();
        let mut sql = String::new();
        // Who may rename no table here may not say this either.
        if made(self.server, &place.goal)? != place.made {
            let _ = writeln!(sql, "ALTER DATABASE {goal} {};", place.made);
        }
        if !is_aside && now.tables == place.had.tables && !self.is_code_alone(place) {
            return if sql.is_empty() { Ok(()) } else { self.script(place, &sql) };
        }
        if !is_aside && !place.had.tables.is_empty() {
            return Err(Failure::new(
                codes::NOT_PUT_BACK,
                format!("the tables that {} had are not in it under the names that a restore gave them", place.goal),
            )
            .hint(format!(
                "nothing was dropped; its triggers, views, routines and events are in {}",
                self.kept(place).display()
            )));
        }
        // The new code may be called as the old is, which comes back from what is kept.
        sql.push_str(&now.drops(&place.goal));
        // What the restore made; whatever else is there is somebody's.
        let made = now.tables.iter().filter(|name| place.new.tables.contains(name));
        let new: Vec<String> = made.map(|name| format!("{goal}.{}", identifier(name))).collect();
        if !new.is_empty() {
            let _ = writeln!(sql, "DROP TABLE IF EXISTS {};", new.join(", "));
        }
        let renames = renames_within(place, |table, aside| format!("{goal}.{aside} TO {goal}.{table}"));
        if !renames.is_empty() {
            let _ = writeln!(sql, "RENAME TABLE {};", renames.join(", "));
        }
        if sql.is_empty() { Ok(()) } else { self.script(place, &sql) }
    }
}

/// What is said of each old table, with the name that it has meanwhile.
fn renames_within(place: &Place, each: impl Fn(&str, &str) -> String) -> Vec<String> {
    let numbered = place.had.tables.iter().enumerate();
    numbered.map(|(number, table)| each(&identifier(table), &identifier(&place.aside_within(number)))).collect()
}
