//! What `exclude_tables` leaves out: which tables of a database that is, and what of the rest does not load without them.
//!
//! The patterns are read as `pg_dump --exclude-table` reads them. Catalogs are asked, so no right on a table is needed.

use std::collections::BTreeSet;

use super::PostgresSettings;
use super::server::{Server, literal};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;
use crate::plugin::protocol::CaptureFacts;

/// How a figure begins that names a table which a capture left out.
const FIGURE: &str = "excluded";
/// Tables that are named by a capture, and told.
pub(super) const NAMED_MAX: usize = 200;

/// The figure that says of one table that a capture left it out; `key` is that of the database's figures.
pub(super) fn figure(key: &str, table: &str) -> String {
    format!("{FIGURE}.{key}.{table}")
}

/// The tables of `database` that the settings leave out, or that the capture did: named as SQL has them.
pub(super) fn live(
    server: &Server<'_>,
    database: &str,
    key: &str,
    facts: &CaptureFacts,
) -> Result<BTreeSet<String>, Failure> {
    let mut found = of_settings(server, database)?;
    let prefix = figure(key, "");
    let named: BTreeSet<&str> = facts.figures.keys().filter_map(|name| name.strip_prefix(&prefix)).collect();
    if !named.is_empty() {
        let there = names(server, database, "SELECT c.oid FROM pg_catalog.pg_class c")?;
        found.extend(there.into_iter().filter(|name| named.contains(name.as_str())));
    }
    Ok(found)
}

/// The tables of `database` that the settings leave out.
pub(super) fn of_settings(server: &Server<'_>, database: &str) -> Result<BTreeSet<String>, Failure> {
    match condition(server.settings, server.major) {
        Some(condition) => names(server, database, &matching(&condition)),
        None => Ok(BTreeSet::new()),
    }
}

fn matching(condition: &str) -> String {
    format!(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE ({condition})"
    )
}

/// Asks where the patterns without a schema are looked up as pg_dump does it: by the path of the role and the database.
fn names(server: &Server<'_>, database: &str, oids: &str) -> Result<BTreeSet<String>, Failure> {
    let sql = format!(
        "RESET search_path; SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.format('%I.%I', k.nspname, t.relname), 'UTF8'), 'hex') \
         FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace k ON k.oid OPERATOR(pg_catalog.=) t.relnamespace \
         WHERE t.oid OPERATOR(pg_catalog.=) ANY (ARRAY({oids})) \
         AND t.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[]) \
         AND NOT (k.nspname OPERATOR(pg_catalog.~) '^pg_') AND k.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
         LIMIT 20000"
    );
    Ok(super::names(server.query(database, &sql)?)?.into_iter().collect())
}

/// What is kept and needs what is left out: a restore of the whole does not come to its end.
pub(super) fn needed(server: &Server<'_>, database: &str, left_out: &[String]) -> Result<Vec<Remark>, Failure> {
    if left_out.is_empty() {
        return Ok(Vec::new());
    }
    let names = left_out.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH gone AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                       WHERE format('%I.%I', nspname, relname) = ANY (ARRAY[{names}]::text[])),
              row AS (SELECT t.oid FROM pg_type t WHERE typrelid IN (SELECT oid FROM gone)),
              type AS (SELECT oid FROM row UNION SELECT t.oid FROM pg_type t WHERE typelem IN (SELECT oid FROM row)),
              uses AS (SELECT classid, objid FROM pg_depend WHERE deptype IN ('n', 'a')
                       AND ((refclassid = 'pg_class'::regclass AND refobjid IN (SELECT oid FROM gone))
                         OR (refclassid = 'pg_type'::regclass AND refobjid IN (SELECT oid FROM type)))),
              user_of AS (
                SELECT ev_class AS oid FROM pg_rewrite WHERE oid IN (SELECT objid FROM uses WHERE classid = 'pg_rewrite'::regclass)
                UNION SELECT adrelid FROM pg_attrdef WHERE oid IN (SELECT objid FROM uses WHERE classid = 'pg_attrdef'::regclass)
                UNION SELECT polrelid FROM pg_policy WHERE oid IN (SELECT objid FROM uses WHERE classid = 'pg_policy'::regclass)
                UNION SELECT conrelid FROM pg_constraint WHERE contype = 'f' AND confrelid IN (SELECT oid FROM gone)
                UNION SELECT inhrelid FROM pg_inherits WHERE inhparent IN (SELECT oid FROM gone)
                UNION SELECT objid FROM uses WHERE classid = 'pg_class'::regclass)
         SELECT name FROM (
           SELECT format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE c.oid IN (SELECT oid FROM user_of) AND c.oid NOT IN (SELECT oid FROM gone) AND relkind IN ('r', 'p', 'v', 'm', 'f')
           UNION
           SELECT format('%I.%I()', nspname, proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
           WHERE p.oid IN (SELECT objid FROM uses WHERE classid = 'pg_proc'::regclass)
         ) q ORDER BY 1 LIMIT {NAMED_MAX}"
    );
    let users = server.names(database, &sql)?.into_iter();
    let is_accepted = server.settings.accept.contains(&super::Accepted::NeedsExcluded);
    let remark = |name: String| Remark {
        code: codes::NEEDS_EXCLUDED,
        sentence: "what needs a table that `exclude_tables` leaves out, so that no restore loads it without that table",
        name: format!("{name} of {database}"),
        hint: format!(
            "name it in `exclude_tables` too, or leave {} in the backup; or accept it: `accept: [needs_excluded]`",
            left_out.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
        ),
        is_missing: !is_accepted,
    };
    Ok(users.map(remark).collect())
}

/// A condition on `c` of `pg_class` and `n` of `pg_namespace`; none: nothing is left out.
fn condition(settings: &PostgresSettings, major: u32) -> Option<String> {
    let of_one = |pattern: &String| {
        let (schema, name) = regexes(pattern);
        // An older server has no such collation for names, and needs none.
        let collate = if major >= 12 { " COLLATE pg_catalog.default" } else { "" };
        let is_like = |column: &str, regex: &str| {
            format!("{column} OPERATOR(pg_catalog.~) {}{collate}", literal(&format!("^({regex})$")))
        };
        match schema {
            Some(schema) => format!("({} AND {})", is_like("n.nspname", &schema), is_like("c.relname", &name)),
            None => format!("({} AND pg_catalog.pg_table_is_visible(c.oid))", is_like("c.relname", &name)),
        }
    };
    let all: Vec<String> = settings.exclude_tables.iter().map(of_one).collect();
    (!all.is_empty()).then(|| all.join(" OR "))
}

/// A pattern of psql and pg_dump as regular expressions: of the schema where it names one, and of the table.
fn regexes(pattern: &str) -> (Option<String>, String) {
    let (mut parts, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                part.push('"');
                characters.next();
            }
            '"' => is_quoted = !is_quoted,
            '$' => part.push_str("\\$"),
            _ if is_quoted => {
                if "|*+?()[]{}.^\\".contains(character) {
                    part.push('\\');
                }
                part.push(character);
            }
            '*' => part.push_str(".*"),
            '?' => part.push('.'),
            '.' => parts.push(std::mem::take(&mut part)),
            '[' if characters.peek() == Some(&']') => part.push_str("\\["),
            _ => part.extend(character.to_lowercase()),
        }
    }
    // In front of the schema stands the database.
    (parts.pop(), part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_pg_dump_reads_them() {
        for (pattern, schema, name) in [
            ("logs", None, "logs"),
            ("Logs_*", None, "logs_.*"),
            ("\"Logs.*\"", None, "Logs\\.\\*"),
            ("app.log?", Some("app"), "log."),
            ("\"a\"\"b\".*", Some("a\"b"), ".*"),
            ("db.app.(a|b)$", Some("app"), "(a|b)\\$"),
        ] {
            assert_eq!(regexes(pattern), (schema.map(str::to_owned), name.to_owned()), "{pattern}");
        }
    }
}
