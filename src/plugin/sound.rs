//! Whether a file is a sound SQLite database, and how many rows its tables have.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::chain;
use crate::plugin::archive;

/// Rows by table, after a check of the whole file; else what is wrong with it.
pub(crate) fn tables(path: &Path) -> Result<BTreeMap<String, u64>, String> {
    if !archive::starts_with(path, b"SQLite format 3\0") {
        return Err("it does not start as SQLite files do".to_owned());
    }
    let look = || -> rusqlite::Result<Result<BTreeMap<String, u64>, String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Err(found));
        }
        let mut statement = connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             AND coalesce(sql, '') NOT LIKE 'CREATE VIRTUAL%' ORDER BY name",
        )?;
        let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut rows = BTreeMap::new();
        for name in names {
            let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            let count = connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
            rows.insert(name, count.unsigned_abs());
        }
        Ok(Ok(rows))
    };
    look().unwrap_or_else(|error| Err(chain(&error)))
}
