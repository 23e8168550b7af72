//! Makes a database's dump, and reads it to its end before it counts.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::explain::explain;
use super::scan::{Scan, Scanner};
use super::server::{Listed, Server, literal, unhex};
use super::{Accepted, gaps};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

const CHUNK_BYTES: usize = 1 << 20;
const TELL_EVERY_BYTES: u64 = 64 << 20;

pub(super) struct Dumped {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) scan: Scan,
    pub(super) remarks: Vec<Remark>,
}

/// The options that say what is in a dump; the same for a backup and for the reading back after a restore.
pub(super) fn what<S: AsRef<str>>(server: &Server<'_>, database: &str, excluded: &[S], history: bool) -> Vec<OsString> {
    let mut args = all_of(server);
    let at = args.len() - 1;
    let ignored = excluded.iter().map(|table| format!("--ignore-table={database}.{}", table.as_ref()).into());
    args.splice(at..at, ignored);
    if history {
        args.insert(at, "--dump-history".into());
    }
    args
}

/// The same without exceptions.
pub(super) fn all_of(server: &Server<'_>) -> Vec<OsString> {
    let mut args = server.dump_args();
    args.extend(
        ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob", "--databases"]
            .map(OsString::from),
    );
    args
}

/// Dumps one database into `file`.
pub(super) fn dump(
    server: &Server<'_>,
    database: &str,
    file: &Path,
    bytes_before: u64,
    events: &mut EventWriter<'_>,
) -> Result<Dumped, Failure> {
    let listed = server.tables(database)?;
    let excluded = server.settings.excluded(database);
    let kept: Vec<&Listed> =
        listed.iter().filter(|table| table.is_table() && !excluded.contains(&table.name.as_str())).collect();
    fits(server, database)?;
    let (history, mut remarks) = gaps::history(server, database, &kept)?;
    remarks.extend(gaps::by_design(server, database, &kept)?);
    remarks.extend(changing(server, database, &kept));
    let size: u64 = kept.iter().map(|table| table.bytes).sum();
    let mut args = what(server, database, &excluded, history);
    if listed.iter().any(Listed::is_sequence) {
        // A default value that a sequence gives can't be loaded by hand while only its table is locked.
        args.insert(1, "--skip-add-locks".into());
    }
    let result_file = format!("--result-file={}", file.display());
    args.insert(1, result_file.into());
    // Behind `--`, a name with a leading dash is a name.
    args.extend([OsString::from("--"), database.into()]);
    let mut told = u64::MAX;
    let ran = server.tools.run(
        &server.client.dump,
        args,
        &[],
        DEADLINE_OF_WORK,
        |_| {},
        || {
            let written = bytes_of(file);
            // Only what grew is progress: a dump that hangs is noticed.
            if written != told {
                told = written;
                events.progress(bytes_before + written, (bytes_before + size).max(bytes_before + written));
            }
        },
    );
    if ran.exit != Exit::Success {
        // It has a head all the same; nobody shall take it for a dump.
        let _ = std::fs::remove_file(file);
        return Err(explain("mariadb-dump", &server.settings.place(), database, &ran));
    }
    for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
        events.log(line.trim());
    }
    let bytes = bytes_of(file);
    let (scan, sha256) = read_whole(file, |read| events.progress(bytes_before + read, bytes_before + bytes))?;
    judge(server, database, &scan, kept.len() as u64).inspect_err(|_| {
        let _ = std::fs::remove_file(file);
    })?;
    remarks.extend(gaps::missing(server, database, &listed, &scan.counts)?);
    remarks.extend(gaps::of_excluded(server, database)?);
    remarks.extend(gaps::too_long(server, database, scan.row_bytes)?);
    Ok(Dumped { bytes, sha256, scan, remarks })
}

/// What exit code 0 does not say.
fn judge(server: &Server<'_>, database: &str, scan: &Scan, tables: u64) -> Result<(), Failure> {
    if !scan.complete {
        return Err(Failure::new(
            codes::DUMP_CUT,
            format!("the dump of {database:?} has no end (`-- Dump completed`)"),
        )
        .hint("mariadb-dump ended well but its file is not whole: look at the disk below the artifacts"));
    }
    if scan.counts.tables == 0 && !server.settings.allow_empty {
        return Err(Failure::new(codes::DATABASE_EMPTY, format!("the database {database:?} has no table to keep"))
            .hint("check the name, `exclude_tables` and the user's grants, or say `allow_empty: true`"));
    }
    if scan.counts.tables != tables {
        return Err(Failure::new(
            codes::TABLES_CHANGED,
            format!("{database:?} lists {tables} tables to keep, its dump has {}", scan.counts.tables),
        )
        .hint("a table was made or dropped meanwhile, or the user may not read one; it is tried again")
        .later());
    }
    Ok(())
}

/// Tables that may change while they are dumped.
fn changing(server: &Server<'_>, database: &str, tables: &[&Listed]) -> Vec<Remark> {
    let remark = |table: &&&Listed| Remark {
        code: codes::NOT_TRANSACTIONAL,
        sentence: "tables that no transaction covers may be written to while they are dumped",
        name: format!("{database}.{}", table.name),
        hint: "ALTER TABLE … ENGINE=InnoDB, or dump while nobody writes and say `accept: [not_transactional]`"
            .to_owned(),
        is_missing: !server.settings.accepts(Accepted::NotTransactional),
    };
    tables.iter().filter(|table| !table.is_transactional()).map(|table| remark(&table)).collect()
}

/// Refuses a tool whose dump of this database no client can load.
fn fits(server: &Server<'_>, database: &str) -> Result<(), Failure> {
    if server.is_of_one_kind() || !server.client.is_mariadb {
        return Ok(());
    }
    let sql = format!(
        "SELECT HEX(CONCAT(table_name, '.', column_name)) FROM information_schema.columns WHERE table_schema = {} \
         AND generation_expression <> ''",
        literal(database)
    );
    let excluded = server.settings.excluded(database);
    let columns: Vec<String> = server.query(database, &sql)?.iter().filter_map(|row| unhex(row)).collect();
    let is_kept = |column: &&String| column.split_once('.').is_none_or(|(table, _)| !excluded.contains(&table));
    let Some(first) = columns.iter().find(is_kept) else { return Ok(()) };
    Err(Failure::new(
        codes::WRONG_TOOL,
        format!(
            "{} writes dumps of {} that no client can load (ERROR 3105): {database:?} has generated columns, {first} among them",
            server.client.told,
            server.version.shown()
        ),
    )
    .hint("install MySQL's own mysqldump and mysql, and name their directory by `bin_dir`"))
}

/// Reads a dump to its end: what is in it, and its SHA-256.
pub(super) fn read_whole(path: &Path, mut on_chunk: impl FnMut(u64)) -> Result<(Scan, String), Failure> {
    let refuse =
        |error| Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", path.display()));
    let mut hasher = Sha256::new();
    let (mut done, mut told): (u64, u64) = (0, 0);
    let scan = read(File::open(path).map_err(refuse)?, |chunk| {
        hasher.update(chunk);
        done += chunk.len() as u64;
        if done - told >= TELL_EVERY_BYTES {
            told = done;
            on_chunk(done);
        }
    })
    .map_err(refuse)?;
    Ok((scan, hex::encode(hasher.finalize())))
}

/// Reads a dump from a file or a pipe.
pub(super) fn read(mut from: impl Read, mut on_chunk: impl FnMut(&[u8])) -> std::io::Result<Scan> {
    let mut scanner = Scanner::default();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let length = match from.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { return Ok(scanner.finish()) };
        on_chunk(read);
        scanner.push(read);
    }
}

fn bytes_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}
