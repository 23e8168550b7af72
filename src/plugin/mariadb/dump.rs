//! Makes a database's dump, and reads it to its end before it counts.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::explain::explain;
use super::scan::{Scan, Scanner};
use super::server::{Listed, Server};
use crate::error::Trouble;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

const CHUNK_BYTES: usize = 1 << 20;
const TELL_EVERY_BYTES: u64 = 64 << 20;
/// Names of tables in a remark.
const NAMES_MAX: usize = 5;

pub(super) struct Dumped {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) scan: Scan,
}

/// The options that say what is in a dump; the same for a backup and for the reading back after a restore.
pub(super) fn what(server: &Server<'_>, database: &str) -> Vec<OsString> {
    let mut args = server.dump_args();
    args.extend(
        ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob"].map(OsString::from),
    );
    let excluded = server.settings.excluded(database);
    args.extend(excluded.iter().map(|table| format!("--ignore-table={database}.{table}").into()));
    args.push("--databases".into());
    args
}

/// Dumps one database into `file`.
pub(super) fn dump(
    server: &Server<'_>,
    database: &str,
    file: &Path,
    bytes_before: u64,
    voice: &mut Voice<'_>,
) -> Result<Dumped, Failure> {
    let listed = server.tables(database)?;
    let excluded = server.settings.excluded(database);
    let kept: Vec<&Listed> =
        listed.iter().filter(|table| table.is_table() && !excluded.contains(&table.name.as_str())).collect();
    warn_of_engines(database, &kept, voice);
    let size: u64 = kept.iter().map(|table| table.bytes).sum();
    let mut args = what(server, database);
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
                voice.progress(bytes_before + written, (bytes_before + size).max(bytes_before + written));
            }
        },
    );
    if ran.exit != Exit::Success {
        // It has a head all the same; nobody shall take it for a dump.
        let _ = std::fs::remove_file(file);
        return Err(explain("mariadb-dump", &server.settings.place(), database, &ran));
    }
    for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
        voice.log(line.trim());
    }
    let bytes = bytes_of(file);
    let (scan, sha256) = read_whole(file, |read| voice.progress(bytes_before + read, bytes_before + bytes))?;
    judge(server, database, &scan, kept.len() as u64).inspect_err(|_| {
        let _ = std::fs::remove_file(file);
    })?;
    Ok(Dumped { bytes, sha256, scan })
}

/// What exit code 0 does not say.
fn judge(server: &Server<'_>, database: &str, scan: &Scan, tables: u64) -> Result<(), Failure> {
    if !scan.complete {
        return Err(Failure::new("dump_cut", format!("the dump of {database:?} has no end (`-- Dump completed`)"))
            .hint("mariadb-dump ended well but its file is not whole: look at the disk below the artifacts"));
    }
    if scan.counts.tables == 0 && !server.settings.allow_empty {
        return Err(Failure::new("database_empty", format!("the database {database:?} has no table to keep"))
            .hint("check the name, `exclude_tables` and the user's grants, or say `allow_empty: true`"));
    }
    if scan.counts.tables != tables {
        return Err(Failure::new(
            "tables_changed",
            format!("{database:?} lists {tables} tables to keep, its dump has {}", scan.counts.tables),
        )
        .hint("a table was made or dropped meanwhile, or the user may not read one; it is tried again")
        .later());
    }
    Ok(())
}

fn warn_of_engines(database: &str, tables: &[&Listed], voice: &mut Voice<'_>) {
    let names: Vec<&str> =
        tables.iter().filter(|table| !table.is_transactional()).map(|table| table.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMES_MAX { format!(" and {} more", names.len() - NAMES_MAX) } else { String::new() };
    voice.warning(
        Trouble::new(
            "not_transactional",
            format!(
                "tables of {database} that no transaction covers may be written to while they are dumped: {shown}{more}"
            ),
        )
        .with_hint("ALTER TABLE … ENGINE=InnoDB, or dump while nobody writes"),
    );
}

/// Reads a dump to its end: what is in it, and its SHA-256.
pub(super) fn read_whole(path: &Path, mut on_chunk: impl FnMut(u64)) -> Result<(Scan, String), Failure> {
    let refuse = |error| Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", path.display()));
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
