//! SQLite files that somebody writes to: copied by SQLite's own online backup, checked on a copy.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::sqlite::check::integrity;
use crate::plugin::kit::live::{Kind, recognise};
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::sqlite_files::{self, BESIDE};
use crate::plugin::protocol::Verdict;

/// How long a copy may be kept from its end by writers.
const COPY_MAX: Duration = Duration::from_mins(10);
/// How long a lock is waited for at a time.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// What a `-shm` file begins with, in the order of its machine.
const INDEX: u32 = 3_007_000;
/// Enough to know such a file by.
const HEAD_BYTES: u64 = 32;

/// What came of a copy.
#[derive(Debug)]
pub(crate) enum Copied {
    Whole,
    /// The database cannot be copied, and why.
    Not(String),
}

/// Copies a database that lies on this host as it is at one instant, while others work with it. Of a copy that is not
/// whole nothing stays.
///
/// # Errors
/// `disk_full`: that is nothing that the database can do for.
pub(crate) fn copy(source: &Path, into: &Path) -> Result<Copied, Failure> {
    let Err(error) = copy_here(source, into) else { return Ok(Copied::Whole) };
    for end in [""].iter().chain(&BESIDE) {
        let _ = std::fs::remove_file(with_suffix(into, end));
    }
    let told = crate::error::chain(&error);
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return Err(Failure::new(codes::DISK_FULL, format!("no room for the copy of {}: {told}", source.display()))
            .hint("make room where the artifacts lie; nothing half-written is kept"));
    }
    Ok(Copied::Not(told))
}

fn copy_here(source: &Path, into: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(source, flags)?;
    from.busy_timeout(BUSY_MAX)?;
    sqlite_files::copy(&from, into, COPY_MAX)
}

/// Has SQLite check a copy; its log, when there is one, lies beside it and is worked in. What only the application can
/// check is no fault of the copy.
pub(crate) fn check(copy: &Path) -> (Verdict, String) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(copy, flags) {
        Ok(connection) => integrity(&connection, true),
        Err(error) => (Verdict::Failed, crate::error::chain(&error)),
    }
}

/// Whether a file with such a name is really one that SQLite keeps beside a database: by how it begins, or done with.
pub(crate) fn is_own(file: &Path) -> bool {
    let name = file.as_os_str().as_encoded_bytes();
    let is_index = |head: &[u8]| [INDEX.to_le_bytes(), INDEX.to_be_bytes()].iter().any(|begin| head.starts_with(begin));
    head(file)
        .is_some_and(|head| is_empty(&head) || is_index(&head) || recognise(name, &head) == Some(Kind::SqliteEncrypted))
}

/// Whether a file beside a database has nothing in it that SQLite would read.
pub(crate) fn is_done_with(file: &Path) -> bool {
    head(file).is_some_and(|head| is_empty(&head))
}

fn is_empty(head: &[u8]) -> bool {
    head.iter().all(|byte| *byte == 0)
}

/// How a file begins; none: it is none that can be read.
fn head(file: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    if !std::fs::symlink_metadata(file).ok()?.is_file() {
        return None;
    }
    std::fs::File::open(file).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_written_to_is_copied_as_it_is_at_one_instant() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        let writer = Connection::open(&path).unwrap();
        writer.busy_timeout(BUSY_MAX).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT);
                 INSERT INTO account SELECT value, 100, hex(randomblob(400)) FROM generate_series(1, 500);",
            )
            .or_else(|_| {
                writer.execute_batch(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                     INSERT INTO account SELECT i, 100, hex(randomblob(400)) FROM n;",
                )
            })
            .unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    writer
                        .execute_batch(
                            "BEGIN; UPDATE account SET amount = amount - 1, note = hex(randomblob(400)) WHERE id % 2 = 0;
                             UPDATE account SET amount = amount + 1, note = hex(randomblob(400)) WHERE id % 2 = 1; COMMIT;",
                        )
                        .unwrap();
                }
            });
            for round in 0..5 {
                let into = directory.path().join(format!("copy-{round}.db"));
                assert!(matches!(copy(&path, &into).unwrap(), Copied::Whole));
                assert_eq!(check(&into).0, Verdict::Proven);
                let sum: i64 = Connection::open(&into)
                    .unwrap()
                    .query_row("SELECT sum(amount) FROM account", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(sum, 50_000, "a transaction is whole or not there");
                assert!(!with_suffix(&into, "-wal").exists());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn what_sqlite_keeps_beside_a_database_is_known_from_a_file_of_such_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        for (end, is_idle) in [("-wal", false), ("-shm", false)] {
            let file = with_suffix(&path, end);
            assert_eq!((is_own(&file), is_done_with(&file)), (true, is_idle), "{end}");
        }
        writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert!(is_own(&with_suffix(&path, "-wal")) && is_done_with(&with_suffix(&path, "-wal")));
        let diary = directory.path().join("2024-journal");
        std::fs::write(&diary, "dear diary").unwrap();
        std::fs::copy(&path, with_suffix(&diary, "-wal")).unwrap();
        assert!(!is_own(&with_suffix(&diary, "-wal")), "a database of such a name");
        assert!(!is_own(&diary) && !is_own(&directory.path().join("nowhere-wal")) && !is_own(directory.path()));
    }

    #[test]
    fn a_broken_copy_is_no_sound_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (x); CREATE INDEX i ON t (x);").unwrap();
        writer.execute_batch("BEGIN").unwrap();
        for n in 0..2000 {
            writer.execute("INSERT INTO t VALUES (?1)", [format!("{n:0100}")]).unwrap();
        }
        writer.execute_batch("COMMIT").unwrap();
        drop(writer);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(check(&path).0, Verdict::Failed);
        std::fs::write(&path, "SQLite format 3\0 and then nothing of it").unwrap();
        assert_ne!(check(&path).0, Verdict::Proven);
    }
}
