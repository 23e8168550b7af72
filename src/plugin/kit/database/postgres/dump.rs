//! Makes the dumps, several at a time where that is said, and reads each before it counts.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use super::explain::explain;
use super::scan::{self, Scan};
use super::server::Server;
use super::{LOCK_WAIT_MS, dump_name, excluded, gaps, validate};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends};
use crate::process::Exit;

/// Dumps up to this size are read row by row at the capture; all of them are when they are validated.
const SCAN_BYTES_MAX: u64 = 4 << 30;

pub(super) struct Dumped {
    pub(super) tables: u64,
    pub(super) sha256: String,
    pub(super) scan: Option<Scan>,
    pub(super) log: Vec<String>,
    /// The tables that the settings leave out.
    pub(super) excluded: Vec<String>,
    pub(super) remarks: Vec<Remark>,
}

/// What a worker says.
enum News {
    Progress { index: usize, done: u64, total: u64 },
    Done { index: usize, result: Box<Result<Dumped, Failure>> },
}

/// Dumps all databases, `jobs` at a time; answers in their order. After a failure none is begun any more.
pub(super) fn all(
    server: &Server<'_>,
    databases: &[String],
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Vec<Dumped>, Failure> {
    let queue: Mutex<VecDeque<(usize, &String)>> = Mutex::new(databases.iter().enumerate().collect());
    let waiting = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let (say, news) = mpsc::channel();
    let mut finished: Vec<Option<Dumped>> = databases.iter().map(|_| None).collect();
    let mut failed = None;
    std::thread::scope(|scope| {
        for _ in 0..server.settings.jobs.clamp(1, databases.len().max(1)) {
            let say = say.clone();
            scope.spawn(move || {
                loop {
                    let Some((index, database)) = waiting().pop_front() else { return };
                    let result = server.again(staging).and_then(|own| one(&own, database, index, staging, &say));
                    let _ = say.send(News::Done { index, result: Box::new(result) });
                }
            });
        }
        drop(say);
        let mut progress = vec![(0, 0); databases.len()];
        for each in news {
            match each {
                News::Progress { index, done, total } => {
                    if let Some(own) = progress.get_mut(index) {
                        *own = (done, total.max(done));
                    }
                    events.progress(progress.iter().map(|own| own.0).sum(), progress.iter().map(|own| own.1).sum());
                }
                News::Done { index, result } => match *result {
                    Ok(dumped) => {
                        if let Some(own) = finished.get_mut(index) {
                            *own = Some(dumped);
                        }
                    }
                    Err(failure) => {
                        waiting().clear();
                        failed.get_or_insert(failure);
                    }
                },
            }
        }
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    finished.into_iter().map(|own| own.ok_or_else(|| Failure::new(codes::INTERNAL, "a dump was lost"))).collect()
}

/// The options that say what is in a dump; the same for a backup and for the reading back after a restore.
pub(super) fn what(server: &Server<'_>) -> Vec<OsString> {
    let mut args = vec![OsString::from("-w"), format!("--lock-wait-timeout={LOCK_WAIT_MS}").into()];
    args.extend(server.settings.exclude_tables.iter().map(|table| format!("--exclude-table={table}").into()));
    args
}

fn one(
    server: &Server<'_>,
    database: &str,
    index: usize,
    staging: &Path,
    say: &Sender<News>,
) -> Result<Dumped, Failure> {
    let file = staging.join(dump_name(database));
    let tell = |done: u64, total: u64| {
        let _ = say.send(News::Progress { index, done, total });
    };
    let size = server.query(database, "SELECT pg_database_size(current_database())")?;
    let size: u64 = size.first().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    tell(0, size);
    let before = gaps::counts(server, database)?;
    let mut args = what(server);
    args.extend(["-Fc".into(), "--compress=0".into(), "-f".into(), OsString::from(&file)]);
    let mut told = u64::MAX;
    let program = server.client.tool("pg_dump");
    let ran = server.tools.run(
        &program,
        args,
        &[("PGDATABASE", database)],
        DEADLINE_OF_WORK,
        |_| {},
        || {
            let written = bytes_of(&file);
            // Only what grew is progress: a dump that hangs is noticed.
            if written != told {
                told = written;
                tell(written, size);
            }
        },
    );
    if ran.exit != Exit::Success {
        // What is there is a piece; nobody shall take it for a dump.
        let _ = std::fs::remove_file(&file);
        return Err(explain("pg_dump", &server.settings.place(), database, &ran));
    }
    let log = ran.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let contents = validate::contents(&server.tools, &server.client, &file).map_err(|failure| {
        failure.hint("pg_dump ended well but its file cannot be read: look at the disk below the artifacts")
    })?;
    if contents.tables == 0 && !server.settings.may_be_empty(database) {
        return Err(Failure::new(codes::DATABASE_EMPTY, format!("the database {database:?} has no table to keep"))
            .hint("check the name, `exclude_tables` and the role's rights, or say `allow_empty: true`"));
    }
    let bytes = bytes_of(&file);
    let scan = if bytes <= SCAN_BYTES_MAX {
        Some(validate::scan(&server.tools, &server.client, &file, |done| tell(done, bytes))?)
    } else {
        None
    };
    let sha256 = digest::sha256(&file, |read| tell(read, bytes))?;
    let mut remarks = gaps::look(server, database)?;
    let excluded: Vec<String> = excluded::of_settings(server, database)?.into_iter().collect();
    remarks.extend(excluded::needed(server, database, &excluded)?);
    if let Some(scan) = scan.as_ref().filter(|_| server.settings.exclude_tables.is_empty()) {
        remarks.extend(gaps::missing(database, scan, &before, &gaps::counts(server, database)?));
    }
    Ok(Dumped { tables: contents.tables, sha256, scan, log, excluded, remarks })
}

/// Dumps a database again, into nothing but its numbers.
pub(super) fn read_back(server: &Server<'_>, database: &str, mut on_tick: impl FnMut()) -> Result<Scan, Failure> {
    let broken = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("reading it back failed: {error}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let reading = std::thread::spawn(move || scan::read(reader));
    let ends = Ends { stdin: None, stdout: Some(File::from(std::os::fd::OwnedFd::from(writer))) };
    let (program, env) = (server.client.tool("pg_dump"), [("PGDATABASE", database)]);
    let ran = server.tools.pipe(&program, what(server), &env, DEADLINE_OF_WORK, ends, &mut on_tick);
    let scan = reading.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped"))).map_err(broken)?;
    if ran.exit != Exit::Success || !scan.complete {
        return Err(explain("reading back", &server.settings.place(), database, &ran));
    }
    Ok(scan)
}

pub(super) fn bytes_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}
