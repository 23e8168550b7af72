//! What plugins whose sources are shipped from where they lie do about databases in them: SQLite gets a copy of one
//! instant beside, the others are told as what nobody can vouch for.

use std::path::{Path, PathBuf};

use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::live::sqlite::Copied;
use crate::plugin::kit::live::tree::Looked;
use crate::plugin::kit::live::{Kind, NAMED_MAX, sqlite, tree::Database};
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::sqlite_files::READ;
use crate::plugin::kit::tool::file_name;
use crate::plugin::protocol::Verdict;

/// The format of a copy.
const FORMAT: &str = "sqlite";
/// Where the copies lie, among the artifacts.
const DIRECTORY: &str = "databases";

/// Databases that are accepted and named.
const ACCEPTED_TOLD_MAX: usize = 12;

/// What a path is called in the settings.
pub(crate) type Shown<'s> = &'s dyn Fn(&Path) -> PathBuf;

/// What a person would do about it.
const ADVICE: &str = "stop its program in a hook (`before`, `after`), use the database's own plugin, or accept it";

/// What a person would do where databases are not known.
const ADVICE_UNKNOWN: &str = "make parts of it targets of their own, or accept what may be there";

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
    for each in of_interest(looked, accept).take(NAMED_MAX).filter(|each| each.kind == Kind::Sqlite) {
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
    let mut accepted: Vec<String> = looked
        .databases
        .iter()
        .filter(|each| each.in_use && accept.iter().any(|path| each.path.starts_with(path)))
        .map(|each| each.path.display().to_string())
        .collect();
    if !accepted.is_empty() {
        let more = accepted.len().saturating_sub(ACCEPTED_TOLD_MAX);
        accepted.truncate(ACCEPTED_TOLD_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let told = format!("read while they are in use, as the config accepts: {}{more}", accepted.join(", "));
        events.notice(Trouble::new(codes::DATABASE_IN_USE, told));
    }
    let unknown: Vec<String> = unknown(looked, accept).map(|root| root.display().to_string()).collect();
    if !unknown.is_empty() {
        let roots = unknown.join(", ");
        let told = format!("databases unknown: {roots} has too many files to look at each one for any that is in use");
        let hint = format!("{ADVICE_UNKNOWN} (`accept: [{roots}]`)");
        events.warning(Trouble::new(codes::DATABASES_UNKNOWN, told).with_hint(hint));
    }
    Ok(())
}

/// Roots below which there may be databases that nobody looked at or accepted.
fn unknown<'l>(looked: &'l Looked, accept: &'l [PathBuf]) -> impl Iterator<Item = &'l Path> {
    let is_accepted = |root: &Path| accept.iter().any(|path| root.starts_with(path));
    looked.unknown.iter().map(PathBuf::as_path).filter(move |root| !is_accepted(root))
}

/// Says what was not looked at; `shown` is what a path is called in the settings.
fn tell_unknown(looked: &Looked, accept: &[PathBuf], shown: Shown<'_>, events: &mut EventWriter<'_>) {
    for root in unknown(looked, accept) {
        let root = shown(root).display().to_string();
        let name = format!("the databases in {root} are known");
        let told = "databases unknown: there are too many files to look at each one";
        let detail = format!("{told}; {ADVICE_UNKNOWN} (`accept: [{root}]`)");
        events.validation(name, Verdict::CouldNotVerify, detail);
    }
    let more = of_interest(looked, accept).count().saturating_sub(NAMED_MAX);
    if more > 0 {
        let first = of_interest(looked, accept).nth(NAMED_MAX).map(|each| shown(&each.path).display().to_string());
        let detail = format!(
            "more than {NAMED_MAX} are in use, and no more are looked at, such as {}: {ADVICE} (`accept`)",
            first.unwrap_or_default()
        );
        events.validation(format!("{more} more databases are of one instant"), Verdict::CouldNotVerify, detail);
    }
}

/// Says of each database that somebody works with whether a copy of one instant is kept.
pub(crate) fn judge(looked: &Looked, staging: &Path, accept: &[PathBuf], events: &mut EventWriter<'_>) {
    let shown: Shown<'_> = &Path::to_owned;
    tell_unknown(looked, accept, shown, events);
    for each in of_interest(looked, accept).take(NAMED_MAX) {
        let copy = staging.join(artifact(&each.path));
        let (verdict, detail) = match each.kind {
            Kind::Sqlite if copy.exists() => with_copy(sqlite::check(&copy)),
            kind => in_use(kind),
        };
        tell(each, verdict, detail, shown, events);
    }
}

fn with_copy((verdict, checked): (Verdict, String)) -> (Verdict, String) {
    match verdict {
        Verdict::Proven => (verdict, format!("copied by SQLite's online backup; {checked}")),
        // The copy is faithful; the database itself is not whole, or needs its application to be checked.
        _ => (Verdict::CouldNotVerify, format!("copied by SQLite's online backup; {checked}")),
    }
}

/// Says of each database in a copy of another device whether it is whole. Nothing is changed in the copy; `shown` is what a
/// path in it is called on the device.
pub(crate) fn judge_copies(
    looked: &Looked,
    scratch: &Path,
    accept: &[PathBuf],
    shown: Shown<'_>,
    events: &mut EventWriter<'_>,
) {
    tell_unknown(looked, accept, shown, events);
    for each in of_interest(looked, accept).take(NAMED_MAX) {
        let (verdict, detail) = match each.kind {
            Kind::Sqlite => match checked_aside(&each.path, scratch) {
                Ok((Verdict::Proven, told)) => (Verdict::Proven, told),
                Ok((_, told)) => (Verdict::CouldNotVerify, format!("fetched while it was written to; {told}")),
                Err(error) => (Verdict::CouldNotVerify, format!("it cannot be copied for a check: {error}")),
            },
            kind => in_use(kind),
        };
        tell(each, verdict, detail, shown, events);
    }
}

/// A check replays the log, so it works on a copy.
fn checked_aside(path: &Path, scratch: &Path) -> std::io::Result<(Verdict, String)> {
    let directory = tempfile::Builder::new().prefix(".larder-check-").tempdir_in(scratch)?;
    let copy = directory.path().join("database");
    for end in READ {
        let file = with_suffix(path, end);
        if end.is_empty() || file.exists() {
            std::fs::copy(&file, with_suffix(&copy, end))?;
        }
    }
    Ok(sqlite::check(&copy))
}

fn in_use(kind: Kind) -> (Verdict, String) {
    let told = format!("{} is in use, so what is read of it may not fit together: {ADVICE}", kind.shown());
    (Verdict::CouldNotVerify, told)
}

fn tell(each: &Database, verdict: Verdict, detail: String, shown: Shown<'_>, events: &mut EventWriter<'_>) {
    let path = shown(&each.path).display().to_string();
    let detail = match verdict {
        Verdict::Proven => detail,
        _ => format!("{detail} (`accept: [{path}]`)"),
    };
    events.validation(format!("the {} database {path} is of one instant", each.kind.shown()), verdict, detail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kit::live::tree::{Bounds, look_within};

    /// What is told of copies below `root`, looked at within `bounds`.
    fn told(root: &Path, bounds: Bounds, accept: &[PathBuf]) -> Vec<serde_json::Value> {
        let looked = look_within(bounds, &[root.to_owned()], &|_| false);
        let scratch = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        let shown = |path: &Path| Path::new("/volume1").join(path.strip_prefix(root).unwrap());
        judge_copies(&looked, scratch.path(), accept, &shown, &mut EventWriter { out: &mut out });
        out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    fn database(path: &Path) {
        rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    }

    #[test]
    fn what_was_not_looked_through_for_databases_is_no_proof_and_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        database(&directory.path().join("app.db"));
        let cut = Bounds { entries_max: 1, ..Bounds::default() };
        let said = told(directory.path(), cut, &[]);
        let [said] = &said[..] else { panic!("{said:?}") };
        assert_eq!(said["verdict"], "could_not_verify", "{said}");
        assert!(said["name"] == "the databases in /volume1/ are known", "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.starts_with("databases unknown: ") && detail.contains("`accept: [/volume1/]`"), "{detail}");
        // Who accepts all of it needs to know of none.
        assert_eq!(told(directory.path(), cut, &[directory.path().to_owned()]), Vec::<serde_json::Value>::new());
        let whole = told(directory.path(), Bounds::default(), &[]);
        let [whole] = &whole[..] else { panic!("{whole:?}") };
        assert_eq!(whole["verdict"], "proven", "{whole}");
        assert_eq!(whole["name"], "the SQLite database /volume1/app.db is of one instant");
    }

    #[test]
    fn of_more_databases_than_are_looked_after_it_is_said_how_many_are_not() {
        let directory = tempfile::tempdir().unwrap();
        database(&directory.path().join("000"));
        for n in 1..NAMED_MAX + 3 {
            std::fs::copy(directory.path().join("000"), directory.path().join(format!("{n:03}"))).unwrap();
        }
        let said = told(directory.path(), Bounds::default(), &[]);
        assert_eq!(said.len(), NAMED_MAX + 1);
        let more: Vec<_> = said.iter().filter(|each| each["verdict"] != "proven").collect();
        assert_eq!(more.len(), 1, "{more:?}");
        assert_eq!(
            (&more[0]["name"], &more[0]["verdict"]),
            (&serde_json::json!("3 more databases are of one instant"), &serde_json::json!("could_not_verify"))
        );
    }
}
