//! Proves that a dump is one: unchanged, readable to its last byte, and with tables in it.
//!
//! `pg_restore --list` alone reads only the head: a file cut in half passes it. So all of it is read.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::codes;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::figure_key;
use crate::plugin::kit::database::postgres::client::{self, Client};
use crate::plugin::kit::database::postgres::scan::{self, Scan};
use crate::plugin::kit::database::postgres::{
    FORMAT_DUMP, FORMAT_GLOBALS, Globals, MAINTENANCE, PostgresSettings, dump_name,
};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Tools};
use crate::plugin::protocol::{ArtifactFile, CaptureFacts, Request, Verdict};
use crate::process::Exit;

/// What a dump's table of contents tells.
pub(super) struct Contents {
    pub(super) entries: u64,
    pub(super) tables: u64,
    /// The database that was dumped.
    pub(super) database: Option<String>,
}

pub(in crate::plugin) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PostgresSettings> { settings, facts } = ValidateJob::of(request)?;
    // Its own environment without the connection: reading a file needs no server and no password.
    let tools = Tools::new(Vec::new(), Vec::new(), &request.staging)?;
    // Any newer pg_restore reads older files.
    let clients = client::find(settings.bin_dir.as_deref(), &tools)?;
    let newest = clients.last().ok_or_else(|| client::none(settings.bin_dir.as_deref()))?;
    for (number, artifact) in facts.artifacts.iter().enumerate() {
        let file = request.staging.join(&artifact.path);
        let shown = artifact.path.display();
        digest::check(artifact, &file, events)?;
        match artifact.format.as_str() {
            FORMAT_DUMP => {
                let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
                let read = scan(&tools, newest, &file, |done| events.progress(done, bytes));
                let name = format!("pg_restore reads {shown} to its end");
                match read {
                    Ok(found) => {
                        events.validation(name, Verdict::Proven, format!("{bytes} bytes"));
                        let key = figure_key(&artifact.path, number, settings.password.as_ref());
                        same_rows(artifact, &key, &found, facts, events);
                    }
                    Err(failure) => events.validation(name, Verdict::Failed, failure.trouble.message),
                }
                let name = format!("{shown} has tables");
                let maintenance = artifact.path == Path::new(&dump_name(MAINTENANCE));
                let may_be_empty = settings.allow_empty || (maintenance && settings.may_be_empty(MAINTENANCE));
                match contents(&tools, newest, &file) {
                    Ok(found) if found.tables > 0 || may_be_empty => events.validation(
                        name,
                        Verdict::Proven,
                        format!("{} tables with data, {} entries", found.tables, found.entries),
                    ),
                    Ok(_) => events.validation(name, Verdict::Failed, "no table with data is in it"),
                    Err(failure) => events.validation(name, Verdict::Failed, failure.trouble.message),
                }
            }
            FORMAT_GLOBALS => {
                let (verdict, detail) = Globals::verdict(&file);
                events.validation(format!("{shown} is whole"), verdict, detail);
            }
            other => {
                events.validation(
                    format!("{shown} is known"),
                    Verdict::CouldNotVerify,
                    format!("unknown format {other:?}"),
                );
            }
        }
    }
    Ok(())
}

/// Reads a dump that another plugin made; without pg_restore here nothing is known of it.
pub(in crate::plugin) fn prove_dump(tools: &Tools, file: &Path) -> (Verdict, String) {
    let clients = match client::find(None, tools) {
        Ok(clients) => clients,
        Err(failure) => return (Verdict::CouldNotVerify, failure.trouble.message),
    };
    // Any newer pg_restore reads older files; an older one says that it can't.
    let Some(newest) = clients.last() else { return (Verdict::CouldNotVerify, "there is no pg_restore".to_owned()) };
    let args = vec![OsString::from("-f"), "/dev/null".into(), file.into()];
    let ran = tools.run(&newest.tool("pg_restore"), args, &[], DEADLINE_OF_WORK, |_| {}, || {});
    match (ran.exit == Exit::Success, contents(tools, newest, file)) {
        (true, Ok(found)) => (Verdict::Proven, format!("{} tables with data, {} entries", found.tables, found.entries)),
        _ if ran.stderr.contains("unsupported version") => (
            Verdict::CouldNotVerify,
            format!("the newest pg_restore here ({}) is older than the server that made it", newest.version),
        ),
        (_, Err(failure)) => (Verdict::Failed, failure.trouble.message),
        (false, _) => (Verdict::Failed, unreadable(file, &ran.exit, &ran.stderr).trouble.message),
    }
}

/// Has pg_restore turn the whole file into SQL, and reads that. `on_tick` gets the bytes of SQL read so far.
pub(super) fn scan(tools: &Tools, client: &Client, file: &Path, mut on_tick: impl FnMut(u64)) -> Result<Scan, Failure> {
    let broken = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("reading the dump failed: {error}"));
    let (reader, writer) = std::io::pipe().map_err(broken)?;
    let done = Arc::new(AtomicU64::new(0));
    let counted = Counted { from: reader, count: done.clone() };
    let reading = std::thread::spawn(move || scan::read(counted));
    let mut args = vec![OsString::from("--create"), file.into()];
    // Older ones write to standard output when they are told nothing.
    if client.major >= 12 {
        args.extend(["-f".into(), "-".into()]);
    }
    let ends = Ends { stdin: None, stdout: Some(File::from(std::os::fd::OwnedFd::from(writer))) };
    let ran = tools.pipe(&client.tool("pg_restore"), args, &[], DEADLINE_OF_WORK, ends, || {
        on_tick(done.load(Ordering::Relaxed));
    });
    let found = reading.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped"))).map_err(broken)?;
    match ran.exit {
        Exit::Success if found.complete => Ok(found),
        _ => Err(unreadable(file, &ran.exit, &ran.stderr)),
    }
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    count: Arc<AtomicU64>,
}

impl<R: std::io::Read> std::io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Says whether the rows are those of the capture, where it counted them.
fn same_rows(artifact: &ArtifactFile, key: &str, found: &Scan, facts: &CaptureFacts, events: &mut EventWriter<'_>) {
    let wanted = |what: &str| facts.figures.get(&format!("{what}.{key}")).copied();
    let (Some(rows), Some(content)) = (wanted("rows"), wanted("content")) else { return };
    let same = (rows, content) == (found.rows(), found.content());
    events.validation(
        format!("{} has the rows of the capture", artifact.path.display()),
        if same { Verdict::Proven } else { Verdict::Failed },
        format!("{} rows, at the capture {rows}", found.rows()),
    );
}

/// Reads the table of contents.
pub(super) fn contents(tools: &Tools, client: &Client, file: &Path) -> Result<Contents, Failure> {
    let mut found = Contents { entries: 0, tables: 0, database: None };
    let args = vec![OsString::from("--list"), file.into()];
    let ran = tools.run(
        &client.tool("pg_restore"),
        args,
        &[],
        DEADLINE_OF_WORK,
        |line| {
            if let Some(name) = line.strip_prefix(";     dbname: ").filter(|_| found.database.is_none()) {
                found.database = Some(name.to_owned());
            }
            found.entries += u64::from(!line.starts_with(';') && !line.is_empty());
            found.tables += u64::from(is_table_data(line));
        },
        || {},
    );
    if ran.exit == Exit::Success { Ok(found) } else { Err(unreadable(file, &ran.exit, &ran.stderr)) }
}

/// An entry is `3345; 0 16386 TABLE DATA public t1 owner`.
fn is_table_data(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let number = words.next().and_then(|word| word.strip_suffix(';'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
        && words.by_ref().take(2).all(|word| word.parse::<u32>().is_ok())
        && words.next() == Some("TABLE")
        && words.next() == Some("DATA")
}

fn unreadable(file: &Path, exit: &Exit, stderr: &str) -> Failure {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let said = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = crate::plugin::kit::tidy::tidy(said, 400);
    let why = if said.is_empty() { format!("{exit:?}") } else { said };
    Failure::new(codes::DUMP_UNREADABLE, format!("pg_restore cannot read {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_with_a_tables_data_count() {
        assert!(is_table_data("3345; 0 16386 TABLE DATA public t1 postgres"));
        assert!(!is_table_data("215; 1259 16386 TABLE public TABLE DATA postgres"));
        assert!(!is_table_data(";     TABLE DATA"));
        assert!(!is_table_data(""));
        assert!(!is_table_data("3345; 0 x TABLE DATA public t1"));
    }
}
