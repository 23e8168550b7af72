//! A SQLite database as its files: what lies beside one, and a copy of one in use, page by page.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Error, ffi};

/// The ends of the names of what belongs to a database file and lies beside it.
pub(crate) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The ends of the names of what a database is read from: the file itself, and what is not in it yet.
pub(crate) const READ: [&str; 3] = ["", "-wal", "-journal"];
/// Between two attempts to get past a writer.
const PAUSE: Duration = Duration::from_millis(50);

/// Copies every page as of one instant, by SQLite's online backup: it needs nothing of what the application brings.
pub(crate) fn copy(from: &Connection, into: &Path, busy_max: Duration) -> rusqlite::Result<()> {
    let mut copy = Connection::open(into)?;
    {
        let backup = Backup::new(from, &mut copy)?;
        let until = Instant::now() + busy_max;
        // All in one step, so that no writer comes between and makes it begin anew: theirs goes to the log, or waits.
        loop {
            match backup.step(-1)? {
                StepResult::Done => break,
                _ if Instant::now() > until => {
                    return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
    // The copy of one in WAL mode would want a log of its own whenever somebody looks at it. A damaged one is told by the
    // check of the copy, and not here.
    let _: rusqlite::Result<String> = copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0));
    copy.close().map_err(|(_, error)| error)
}
