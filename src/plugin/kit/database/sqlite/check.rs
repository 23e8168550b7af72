//! Whether a database is sound, as far as it can be told without the application.
//!
//! An application may bring its own collations, functions and tokenizers (Plex, Android, Calibre). Without them SQLite
//! refuses to touch what uses them: that is no damage, and no proof either.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{findings, shorten};
use crate::error::chain;
use crate::plugin::protocol::Verdict;

/// Tables that are named.
const NAMES_MAX: usize = 5;

/// Whether SQLite missed something that only the application has.
pub(super) fn needs_the_application(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    [
        "no such collation sequence",
        "no such function",
        "unknown function",
        "no such module",
        "no such tokenizer",
        "unknown tokenizer",
        // A table that is kept in the order of such a collation cannot be read in any.
        "no query solution",
    ]
    .iter()
    .any(|each| said.contains(each))
}

/// What the integrity check of the whole database came to; where the application is missed, table by table.
pub(in crate::plugin) fn integrity(connection: &Connection, accept_unchecked: bool) -> (Verdict, String) {
    let found = findings(connection, "PRAGMA integrity_check(100)");
    if matches!(&found, Ok(found) if found == &["ok"]) {
        return (Verdict::Proven, "ok".to_owned());
    }
    let lacking = lacking(connection);
    let is_of_the_application =
        |said: &str| needs_the_application(said) || lacking.keys().any(|table| is_about(said, table));
    match found {
        Ok(found) if !found.iter().any(|each| is_of_the_application(each)) => (Verdict::Failed, shorten(&found)),
        Err(error) if (lacking.is_empty() || is_damage(&error)) && !needs_the_application(&chain(&error)) => {
            (Verdict::Failed, chain(&error))
        }
        _ => by_table(connection, &lacking, accept_unchecked),
    }
}

/// Virtual tables that do not work without the application, and what SQLite misses for each. A check of one ends with
/// nothing but `SQL logic error`; its use says more. A search is what calls a tokenizer.
fn lacking(connection: &Connection) -> BTreeMap<String, String> {
    let names = || -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%'";
        let mut statement = connection.prepare(sql)?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let mut lacking = BTreeMap::new();
    for name in names().unwrap_or_default() {
        let table = format!("\"{}\"", name.replace('"', "\"\""));
        let uses = [
            format!("SELECT 1 FROM {table} WHERE {table} MATCH 'a' LIMIT 1"),
            format!("SELECT 1 FROM {table} LIMIT 1"),
        ];
        let said = uses.iter().find_map(|sql| {
            let used = connection.prepare(sql).and_then(|mut statement| statement.query([])?.next().map(|_| ()));
            used.err().map(|error| chain(&error)).filter(|said| needs_the_application(said))
        });
        lacking.extend(said.map(|said| (name, said)));
    }
    lacking
}

/// Whether SQLite says of itself that the file is not as it should be.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure)
    )
}

/// Whether a finding is about this table and not about how its rows are kept.
fn is_about(said: &str, table: &str) -> bool {
    said.contains("unable to validate the inverted index") && said.contains(table)
}

fn by_table(connection: &Connection, lacking: &BTreeMap<String, String>, accept_unchecked: bool) -> (Verdict, String) {
    let names = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let names = match names() {
        Ok(names) => names,
        Err(error) => return (Verdict::Failed, chain(&error)),
    };
    let mut unchecked: Vec<String> = Vec::new();
    for name in &names {
        let pragma = format!("PRAGMA integrity_check('{}')", name.replace('\'', "''"));
        let said = match findings(connection, &pragma) {
            Ok(found) if found == ["ok"] => continue,
            Ok(found) => {
                let is_damage = |each: &&String| {
                    !(needs_the_application(each) || lacking.contains_key(name) && is_about(each, name))
                };
                let damage: Vec<String> = found.iter().filter(is_damage).cloned().collect();
                if !damage.is_empty() {
                    return (Verdict::Failed, shorten(&damage));
                }
                shorten(&found)
            }
            Err(error) if needs_the_application(&chain(&error)) => chain(&error),
            Err(error) if !is_damage(&error) && lacking.contains_key(name) => {
                lacking.get(name).cloned().unwrap_or_default()
            }
            Err(error) => return (Verdict::Failed, chain(&error)),
        };
        unchecked.push(format!("{name} ({said})"));
    }
    let checked = names.len() - unchecked.len();
    let shown = unchecked.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = unchecked.len().saturating_sub(NAMES_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "ok for {checked} of {} tables; only the application, with its own collations, functions or tokenizers, can check \
         {shown}{tail}",
        names.len()
    );
    match (unchecked.is_empty(), accept_unchecked) {
        (true, _) => (Verdict::Proven, format!("ok for {checked} tables")),
        (false, true) => (Verdict::Proven, format!("{detail} (accepted)")),
        (false, false) => (Verdict::CouldNotVerify, format!("{detail}; `accept_unchecked: true` takes that")),
    }
}
