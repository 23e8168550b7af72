//! What users may do with single routines: it goes with a routine that is dropped, and is given again.

use super::objects::Objects;
use super::swap::{Place, Swap};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::users::COMPLAINTS_MAX;

impl Swap<'_> {
    /// Gives again what is missing, where the routine is there. Answers the statements that were in vain.
    pub(super) fn give_rights(&self, place: &Place) -> Result<Vec<String>, Failure> {
        if place.had.rights.is_empty() {
            return Ok(Vec::new());
        }
        let missing = || -> Result<Vec<String>, Failure> {
            Ok(missing(&place.had, &Objects::of(self.server, &place.goal, &place.besides())?))
        };
        let statements = missing()?;
        if statements.is_empty() || self.script(place, &statements.join("\n")).is_ok() {
            return if statements.is_empty() { Ok(statements) } else { missing() };
        }
        // One that is refused does not take the others along.
        for statement in &statements {
            let _ = self.script(place, statement);
        }
        missing()
    }
}

/// The first of these statements, and how many more there are.
pub(super) fn some_of(statements: &[String]) -> (&[String], usize) {
    let (shown, more) = statements.split_at(statements.len().min(COMPLAINTS_MAX));
    (shown, more.len())
}

/// The statements that give what `had` tells and `now` does not, on routines that are there.
///
/// A right is kept under the name as it was granted, and a routine is found by its name in any case.
fn missing(had: &Objects, now: &Objects) -> Vec<String> {
    let is_one = |one: (&str, &str), other: (&str, &str)| {
        one.0.eq_ignore_ascii_case(other.0) && one.1.to_lowercase() == other.1.to_lowercase()
    };
    let is_there = |kind: &str, name: &str| now.routines.iter().any(|own| is_one((&own.0, &own.1), (kind, name)));
    let is_given = |kind: &str, name: &str, statement: &str| {
        let own = |own: &&(String, String, String)| is_one((&own.0, &own.1), (kind, name));
        now.rights.iter().filter(own).any(|own| gives(&own.2, statement))
    };
    let lacks = had.rights.iter().filter(|(kind, name, sql)| is_there(kind, name) && !is_given(kind, name, sql));
    lacks.map(|(_, _, sql)| sql.clone()).collect()
}

/// Whether a statement gives all that another one does, to the same user: who makes a routine may get more by himself.
fn gives(statement: &str, wanted: &str) -> bool {
    const OPTION: &str = " WITH GRANT OPTION;";
    let parts = |sql: &str| -> Option<(Vec<String>, String, bool)> {
        let (privileges, on) = sql.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (on, may_give) = match on.strip_suffix(OPTION) {
            Some(on) => (on, true),
            None => (on.trim_end_matches(';'), false),
        };
        Some((privileges.split(", ").map(str::to_owned).collect(), on.to_lowercase(), may_give))
    };
    let (Some(own), Some(other)) = (parts(statement), parts(wanted)) else { return statement == wanted };
    let has = |privilege: &String| privilege == "USAGE" || own.0.contains(privilege);
    own.1 == other.1 && (own.2 || !other.2) && other.0.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(name: &str, sql: &str) -> (String, String, String) {
        ("FUNCTION".to_owned(), name.to_owned(), sql.to_owned())
    }

    #[test]
    fn of_many_statements_some_are_shown() {
        let all = vec!["GRANT x;".to_owned(); 13];
        let shown = |count: usize| some_of(all.get(..count).unwrap());
        assert_eq!((shown(3).0.len(), shown(3).1), (3, 0));
        assert_eq!((shown(13).0.len(), shown(13).1), (10, 3));
    }

    #[test]
    fn a_right_is_of_a_routine_in_any_case_and_less_than_it_gives_is_missing() {
        let with = |routine: &str, rights: &[(String, String, String)]| Objects {
            routines: vec![("FUNCTION".to_owned(), routine.to_owned())],
            rights: rights.to_vec(),
            ..Objects::default()
        };
        let one = right("gettotal", "GRANT EXECUTE ON FUNCTION `b`.`gettotal` TO 'u'@'%';");
        let had = with("GetTotal", std::slice::from_ref(&one));
        assert_eq!(missing(&had, &with("GetTotal", &[])), std::slice::from_ref(&one.2));
        assert_eq!(missing(&had, &with("Other", &[])), Vec::<String>::new());
        for (given, is_enough) in [
            ("GRANT EXECUTE, ALTER ROUTINE ON FUNCTION `b`.`GetTotal` TO 'u'@'%' WITH GRANT OPTION;", true),
            ("GRANT ALTER ROUTINE ON FUNCTION `b`.`gettotal` TO 'u'@'%';", false),
            ("GRANT EXECUTE ON FUNCTION `b`.`gettotal` TO 'v'@'%';", false),
        ] {
            let now = with("GetTotal", &[right("GetTotal", given)]);
            assert_eq!(missing(&had, &now).is_empty(), is_enough, "{given}");
        }
    }
}
