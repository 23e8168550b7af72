//! Whether a file is a sound SQLite database, and how many rows its tables have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::chain;
use crate::plugin::kit::archive;
use crate::plugin::kit::place::with_suffix;

/// What every database starts with.
pub(crate) const MAGIC: &[u8] = b"SQLite format 3\0";

/// Rows by table, after a check of the whole file; else what is wrong with it.
pub(crate) fn tables(path: &Path) -> Result<BTreeMap<String, u64>, String> {
    if !archive::starts_with(path, MAGIC) {
        return Err("it does not start as SQLite files do".to_owned());
    }
    let look = || -> rusqlite::Result<Result<BTreeMap<String, u64>, String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(path), flags)?;
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

/// The file as one that nobody changes, unless a write-ahead log beside it has a part of it.
///
/// Else SQLite makes files beside a database that was in WAL mode, and leaves them there.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    if !std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0) {
        uri.push_str("?immutable=1");
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_in_wal_mode_is_read_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let writer = Connection::open(at("made")).unwrap();
        let made = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
            CREATE TABLE states (id INTEGER); INSERT INTO states VALUES (1), (2);";
        writer.execute_batch(made).unwrap();

        // All of it is in the log still.
        let name = "with a log? 100% #1";
        std::fs::create_dir(at("copy")).unwrap();
        std::fs::copy(at("made"), at("copy").join(name)).unwrap();
        std::fs::copy(at("made-wal"), at("copy").join(format!("{name}-wal"))).unwrap();
        assert_eq!(tables(&at("copy").join(name)).unwrap()["states"], 2);

        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        std::fs::create_dir(at("alone")).unwrap();
        std::fs::copy(at("made"), at("alone").join(name)).unwrap();
        assert_eq!(tables(&at("alone").join(name)).unwrap()["states"], 2);
        assert_eq!(std::fs::read_dir(at("alone")).unwrap().count(), 1);
    }
}
