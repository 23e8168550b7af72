//! Whether a file is a sound SQLite database, and how many rows its tables have.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::chain;
use crate::plugin::archive;

/// What every database starts with.
pub(crate) const MAGIC: &[u8] = b"SQLite format 3\0";

/// Rows by table, after a check of the whole file; else what is wrong with it.
pub(crate) fn tables(path: &Path) -> Result<BTreeMap<String, u64>, String> {
    if !archive::starts_with(path, MAGIC) {
        return Err("it does not start as SQLite files do".to_owned());
    }
    let look = || -> rusqlite::Result<Result<BTreeMap<String, u64>, String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(unchanging(path), flags)?;
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

/// The URI of a file that nobody changes: one in WAL mode would get a log and an index beside it from a mere reader.
fn unchanging(path: &Path) -> OsString {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            _ => uri.push(*byte),
        }
    }
    uri.extend(b"?immutable=1");
    OsString::from_vec(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_leaves_nothing_beside_the_database_and_changes_nothing_in_it() {
        let directory = tempfile::tempdir().unwrap();
        // A name that has a meaning in a URI.
        let path = directory.path().join("what? 100% #1.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE states (id); INSERT INTO states VALUES (1)")
            .unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(tables(&path).unwrap(), BTreeMap::from([("states".to_owned(), 1)]));
        let beside: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(beside, std::slice::from_ref(&path));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
