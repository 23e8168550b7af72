//! Whether a database is sound, as far as it can be told without the application.
//!
//! An application may bring its own collations, functions and tokenizers (Plex, Android, Calibre). Without them SQLite
//! refuses to touch what uses them: that is no damage, and no proof either.

use rusqlite::Connection;

use super::{findings, shorten};
use crate::error::chain;
use crate::plugin::Verdict;

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
    match findings(connection, "PRAGMA integrity_check(100)") {
        Ok(found) if found == ["ok"] => (Verdict::Proven, "ok".to_owned()),
        Ok(found) if found.iter().all(|each| !needs_the_application(each)) => (Verdict::Failed, shorten(&found)),
        Err(error) if !needs_the_application(&chain(&error)) => (Verdict::Failed, chain(&error)),
        _ => by_table(connection, accept_unchecked),
    }
}

fn by_table(connection: &Connection, accept_unchecked: bool) -> (Verdict, String) {
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
                let damage: Vec<String> = found.iter().filter(|each| !needs_the_application(each)).cloned().collect();
                if !damage.is_empty() {
                    return (Verdict::Failed, shorten(&damage));
                }
                shorten(&found)
            }
            Err(error) if needs_the_application(&chain(&error)) => chain(&error),
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
