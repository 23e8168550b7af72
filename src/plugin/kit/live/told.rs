//! What plugins whose sources are shipped from where they lie do about databases in them: SQLite gets a copy of one
//! instant beside, the others are told as what nobody can vouch for.

use std::path::{Path, PathBuf};

use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::live::sqlite::Copied;
use crate::plugin::kit::live::tree::Looked;
use crate::plugin::kit::live::{Kind, sqlite, tree::Database};
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::tool::file_name;
use crate::plugin::protocol::Verdict;

/// The format of a copy.
const FORMAT: &str = "sqlite";
/// Where the copies lie, among the artifacts.
const DIRECTORY: &str = "databases";

/// What a person would do about it.
const ADVICE: &str = "stop its program in a hook (`before`, `after`), use the database's own plugin, or accept it";

fn of_interest<'l>(looked: &'l Looked, accept: &'l [PathBuf]) -> impl Iterator<Item = &'l Database> {
    let is_accepted = |each: &Database| accept.iter().any(|path| each.path.starts_with(path));
    looked.databases.iter().filter(move |each| each.in_use && !is_accepted(each))
}

/// The artifact with the copy of a database.
fn artifact(database: &Path) -> String {
    format!("{DIRECTORY}/{}", file_name(&database.display().to_string()))
}

/// Copies each SQLite database that somebody works with into the artifacts.
pub(crate) fn copy(
    looked: &Looked,
    staging: &Path,
    accept: &[PathBuf],
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    for each in of_interest(looked, accept).filter(|each| each.kind == Kind::Sqlite) {
        let artifact = artifact(&each.path);
        let into = staging.join(&artifact);
        std::fs::create_dir_all(staging.join(DIRECTORY)).map_err(|error| {
            Failure::unwritten(codes::UNWRITABLE, &error, format!("{} cannot be written: {error}", into.display()))
        })?;
        events.log(format!("{} is in use: a copy by SQLite's online backup is kept too", each.path.display()));
        match sqlite::copy(&each.path, &into)? {
            Copied::Whole => events.artifact(&artifact, FORMAT, digest::sha256(&into, |_| {})?),
            Copied::Not(why) => events.log(format!("{} cannot be copied: {why}", each.path.display())),
        }
    }
    let accepted: Vec<String> = looked
        .databases
        .iter()
        .filter(|each| each.in_use && accept.iter().any(|path| each.path.starts_with(path)))
        .map(|each| each.path.display().to_string())
        .take(12)
        .collect();
    if !accepted.is_empty() {
        let told = format!("read while they are in use, as the config accepts: {}", accepted.join(", "));
        events.notice(Trouble::new(codes::DATABASE_IN_USE, told));
    }
    if looked.cut {
        events.warning(Trouble::new(
            codes::DATABASES_UNKNOWN,
            "there are too many files to look at each one for databases that are in use",
        ));
    }
    Ok(())
}

/// Says of each database that somebody works with whether a copy of one instant is kept.
pub(crate) fn judge(looked: &Looked, staging: &Path, accept: &[PathBuf], events: &mut EventWriter<'_>) {
    for each in of_interest(looked, accept) {
        let copy = staging.join(artifact(&each.path));
        let (verdict, detail) = match each.kind {
            Kind::Sqlite if copy.exists() => with_copy(sqlite::check(&copy)),
            kind => unknown(kind),
        };
        tell(each, verdict, detail, events);
    }
}

fn with_copy((verdict, checked): (Verdict, String)) -> (Verdict, String) {
    match verdict {
        Verdict::Proven => (verdict, format!("copied by SQLite's online backup; {checked}")),
        // The copy is faithful; the database itself is not whole, or needs its application to be checked.
        _ => (Verdict::CouldNotVerify, format!("copied by SQLite's online backup; {checked}")),
    }
}

/// Says of each database in a copy of another device whether it is whole. Nothing is changed in the copy.
pub(crate) fn judge_copies(looked: &Looked, scratch: &Path, accept: &[PathBuf], events: &mut EventWriter<'_>) {
    for each in of_interest(looked, accept) {
        let (verdict, detail) = match each.kind {
            Kind::Sqlite => match checked_aside(&each.path, scratch) {
                Ok((Verdict::Proven, told)) => (Verdict::Proven, told),
                Ok((_, told)) => (Verdict::CouldNotVerify, format!("fetched while it was written to; {told}")),
                Err(error) => (Verdict::CouldNotVerify, format!("it cannot be copied for a check: {error}")),
            },
            kind => unknown(kind),
        };
        tell(each, verdict, detail, events);
    }
}

/// A check replays the log, so it works on a copy.
fn checked_aside(path: &Path, scratch: &Path) -> std::io::Result<(Verdict, String)> {
    let directory = tempfile::Builder::new().prefix(".larder-check-").tempdir_in(scratch)?;
    let copy = directory.path().join("database");
    std::fs::copy(path, &copy)?;
    for end in ["-wal", "-journal"] {
        let beside = with_suffix(path, end);
        if beside.exists() {
            std::fs::copy(&beside, with_suffix(&copy, end))?;
        }
    }
    Ok(sqlite::check(&copy))
}

fn unknown(kind: Kind) -> (Verdict, String) {
    let told = format!("{} is in use, so what is read of it may not fit together: {ADVICE}", kind.shown());
    (Verdict::CouldNotVerify, told)
}

fn tell(each: &Database, verdict: Verdict, detail: String, events: &mut EventWriter<'_>) {
    let detail = match verdict {
        Verdict::Proven => detail,
        _ => format!("{detail} (`accept: [{}]`)", each.path.display()),
    };
    events.validation(
        format!("the {} database {} is of one instant", each.kind.shown(), each.path.display()),
        verdict,
        detail,
    );
}
