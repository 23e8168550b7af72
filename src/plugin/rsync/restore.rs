//! The way back: to the paths on the device, all of it or nothing, with what gives way kept there.
//!
//! Everything is on the device under other names before the first old file gives way. What gives way goes into a directory
//! there; so after a failure, or after a kill by `recover`, the old files come back from it and what was new is taken away.
//! Beside a database nothing is left that the backup has not: what a killed program left there (a `-wal`) would be read
//! into the restored one. Other files that the backup has not stay, and are told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::changes::{Changes, outermost};
use super::remote::{Outcome, PARTIAL, Remote};
use super::{RsyncSettings, TREE};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::journal::Journal;
use crate::plugin::live::{self, sqlite};
use crate::plugin::protocol::{Request, Verb};
use crate::plugin::transcript::tidy;

/// The entry that says that all is in place.
const COMMITTED: &str = "committed";
/// How the directory begins where a restore keeps what gave way.
pub(super) const ASIDE: &str = ".larder-before-";
/// Names that are told of many.
const NAMES_MAX: usize = 5;
/// How long the other side may go on when this one was killed.
const GOES_ON: Duration = Duration::from_secs(2);

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RsyncRestore {
    /// Put everything below this directory of the device instead of at its own paths.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    below: Option<String>,
}

/// One path and what is to be done there.
struct Work {
    from: PathBuf,
    to: String,
    note: Note,
    changes: Changes,
    /// What has to leave, by names below the note's directory.
    leaves: Vec<String>,
    /// What the backup has not and nobody reads into it.
    stays: Vec<String>,
}

/// What undoes the work at one path.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    /// A directory of the device; all names are below it.
    base: String,
    /// The directory in it where what gave way is.
    aside: String,
    /// What was not there before.
    created: Vec<String>,
    /// What files that did not come to their place lie in.
    #[serde(default)]
    partial: Vec<String>,
}

pub(super) fn restore(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let options: RsyncRestore = builtin::options(request)?;
    let order = request.restore.clone().unwrap_or_default();
    let refused = |path: &str| !path.starts_with('/') || path.split('/').any(|part| part == "..");
    if options.below.as_deref().is_some_and(refused) {
        return Err(
            Failure::new("restore_options", "`below` is no absolute path").hint("write a whole path of the device")
        );
    }
    let remote = Remote::open(&settings, &request.staging)?;
    let facts = request.capture.clone().unwrap_or_default();
    let mut work = Vec::new();
    for (path, from) in remote.places(&tree_in(&facts, &order.tree, &settings)) {
        if !from.exists() {
            return Err(Failure::new("nothing_to_restore", format!("the backup has no {path}"))
                .hint("choose another snapshot: `larder snapshots TARGET`"));
        }
        let to = match &options.below {
            Some(below) => format!("{}{path}", below.trim_end_matches('/')),
            None => path.to_owned(),
        };
        work.push(Work::plan(&remote, request, from, to, voice)?);
    }
    for each in &work {
        each.tell(&settings.host, voice);
    }
    if order.dry_run {
        return Ok(());
    }
    let journal = Journal::of(request).or_else(|_| Journal::within(&request.staging))?;
    for (number, each) in work.iter().enumerate() {
        journal.note(&format!("{number:05}"), &each.note)?;
    }
    let done = work.iter().try_for_each(|each| each.put(&remote, request, voice));
    match done.and_then(|()| journal.note(COMMITTED, &json!({ COMMITTED: true }))) {
        Ok(()) => clear(&journal),
        Err(failure) => Err(match undo(&remote, &journal, &request.staging, voice) {
            Ok(()) => failure,
            Err(second) => {
                let message = format!("{}; and {}", failure.trouble.message, second.trouble.message);
                Failure::new("not_undone", message)
                    .hint("Larder tries again every few minutes to put back what was there")
            }
        }),
    }
}

/// Puts right what a restore that was killed left.
pub(super) fn recover(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let journal = Journal::of(request)?;
    if journal.entries::<serde_json::Value>()?.iter().any(|(entry, _)| entry == COMMITTED) {
        return clear(&journal);
    }
    std::thread::sleep(GOES_ON);
    let remote = Remote::open(&settings, &request.staging)?;
    undo(&remote, &journal, &request.staging, voice)
}

fn clear(journal: &Journal) -> Result<(), Failure> {
    for (entry, _) in journal.entries::<serde_json::Value>()?.iter().filter(|(entry, _)| entry != COMMITTED) {
        journal.done(entry)?;
    }
    journal.done(COMMITTED)
}

/// Makes every path what it was; may be done twice.
fn undo(remote: &Remote<'_>, journal: &Journal, staging: &Path, voice: &mut Voice<'_>) -> Result<(), Failure> {
    for (entry, note) in journal.entries::<Note>()?.into_iter().rev() {
        let scratch = |what: &str| {
            tempfile::Builder::new().prefix(what).tempdir_in(staging).map_err(|error| {
                Failure::new("unwritable", format!("{} cannot be written: {error}", staging.display()))
            })
        };
        let kept = scratch(".larder-kept")?;
        let aside = format!("{}/{}", note.base.trim_end_matches('/'), note.aside);
        let whole = |outcome: &Outcome| match outcome {
            Outcome::Partial(said) => {
                let told = format!("{} is not what it was: {said}", note.base);
                Err(Failure::new("not_undone", told).hint(format!("what was there is in {aside} on the device")))
            }
            _ => Ok(()),
        };
        if let Some(outcome) = remote.bring(&aside, kept.path(), voice)? {
            whole(&outcome)?;
            whole(&remote.send_entries(kept.path(), &note.base, voice)?)?;
        }
        let skeleton = scratch(".larder-empty")?;
        let away = note.created.iter().chain(&note.partial).cloned().chain([format!("{}/", note.aside)]);
        let away: Vec<String> = away.collect();
        remote.take_away(&note.base, &away, None, skeleton.path(), voice)?;
        voice.log(format!("{} is what it was", note.base));
        journal.done(&entry)?;
    }
    Ok(())
}

impl Work {
    fn plan(
        remote: &Remote<'_>,
        request: &Request,
        from: PathBuf,
        to: String,
        voice: &mut Voice<'_>,
    ) -> Result<Self, Failure> {
        let changes = remote.look(&from, &to, voice)?;
        let aside = format!("{ASIDE}{}", request.run.to_lowercase());
        let partial = changes.into.iter().map(|directory| format!("{directory}{PARTIAL}/")).collect();
        let databases = live::tree::look(std::slice::from_ref(&from), &|_| false).databases;
        if from.is_dir() {
            let is_read = |name: &String| databases.iter().any(|each| is_read_into(each, &from, name));
            let (leaves, stays): (Vec<String>, Vec<String>) = changes.extra.iter().cloned().partition(is_read);
            let note = Note { base: to.clone(), aside, created: outermost(&changes.created), partial };
            return Ok(Self { from, to, note, changes, leaves: outermost(&leaves), stays });
        }
        // A single file: what belongs to a database lies beside it.
        let (base, name) = to.rsplit_once('/').unwrap_or(("", to.as_str()));
        let base = if base.is_empty() { "/".to_owned() } else { base.to_owned() };
        let beside = sqlite::BESIDE.iter().map(|end| format!("{name}{end}"));
        let beside: Vec<String> =
            beside.filter(|_| !databases.is_empty()).filter(|beside| !from.with_file_name(beside).exists()).collect();
        let created = if changes.created.is_empty() { Vec::new() } else { vec![name.to_owned()] };
        let note = Note { base, aside, created, partial };
        let leaves = if beside.is_empty() || !changes.created.is_empty() {
            Vec::new()
        } else {
            let skeleton = request.staging.join(".larder-empty");
            remote.are_there(&note.base, &beside, &skeleton, voice)?
        };
        Ok(Self { from, to, note, changes, leaves, stays: Vec::new() })
    }

    fn tell(&self, host: &str, voice: &mut Voice<'_>) {
        let stats = &self.changes.stats;
        let verb = if stats.transferred == 0 && self.leaves.is_empty() { Verb::Keep } else { Verb::Replace };
        let mut detail = format!(
            "{} of {} files would be sent; what gives way is kept in {}/{}",
            stats.transferred, stats.files, self.note.base, self.note.aside
        );
        if !self.leaves.is_empty() {
            detail.push_str("; moved there too, since the database would read it: ");
            detail.push_str(&told(&self.leaves));
        }
        if !self.stays.is_empty() {
            detail.push_str("; not in the backup, and stays: ");
            detail.push_str(&told(&self.stays));
        }
        voice.step(verb, format!("{} on {host}", self.to), detail);
    }

    fn put(&self, remote: &Remote<'_>, request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
        let aside = Some(self.note.aside.as_str());
        let skeleton = request.staging.join(".larder-empty");
        if !self.leaves.is_empty()
            && let Outcome::Partial(said) = remote.take_away(&self.note.base, &self.leaves, aside, &skeleton, voice)?
        {
            return Err(unwritable(&self.to, &said));
        }
        let (_, outcome) = remote.send(&self.from, &self.to, aside, voice)?;
        // Both ways: what differs or is missing there, and what is there beside.
        let left = remote.look(&self.from, &self.to, voice)?;
        if left.stats.transferred > 0 {
            return Err(match outcome {
                Outcome::Partial(said) => unwritable(&self.to, &said),
                _ => Failure::new(
                    "restore_differs",
                    format!(
                        "{} of {} files of {} are not as in the backup",
                        left.stats.transferred, left.stats.files, self.to
                    ),
                )
                .hint("what was there is there again; does something else write to them?"),
            });
        }
        if let Outcome::Partial(said) = outcome {
            voice.warning(
                Trouble::new(
                    "attributes_not_kept",
                    format!("the files are there, but not all that belongs to them: {said}"),
                )
                .with_hint("owners and attributes need root on the device"),
            );
        }
        let came: Vec<String> = left.extra.iter().filter(|name| !self.stays.contains(name)).cloned().collect();
        let others = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("; {} {what}: {}", names.len(), told(names)),
        };
        let mut detail = format!("{} files, 0 differ", left.stats.files);
        detail.push_str(&others("stay that the backup has not", &self.stays));
        detail.push_str(&others("came since", &came));
        voice.validation(format!("{} is as in the backup", self.to), Verdict::Proven, detail);
        Ok(())
    }
}

fn unwritable(path: &str, said: &str) -> Failure {
    Failure::new("files_unwritable", format!("some files of {path} could not be sent: {said}"))
        .hint("what was there is there again; give the login write permission on the device")
}

/// Whether a database of the backup would read what has this name (below `root`), and the backup has not.
fn is_read_into(database: &live::tree::Database, root: &Path, name: &str) -> bool {
    let path = root.join(name.trim_end_matches('/'));
    if database.kind.is_a_directory() {
        return path.starts_with(&database.path);
    }
    sqlite::BESIDE.iter().any(|end| sqlite::beside(&database.path, end) == path)
}

fn told(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    let shown = tidy(&shown, 300);
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}
/// The copy was shipped from where it lay: below `tree` its files lie at that path, as the capture named it.
fn tree_in(facts: &crate::plugin::CaptureFacts, tree: &Path, settings: &RsyncSettings) -> std::path::PathBuf {
    let inside = |copy: &Path| tree.join(copy.strip_prefix("/").unwrap_or(copy));
    let named = facts.sources.iter().zip(&settings.paths).find_map(|(source, path)| {
        let shown = source.path.to_str()?;
        shown.strip_suffix(path.trim_end_matches('/')).filter(|copy| copy.ends_with(TREE)).map(std::path::PathBuf::from)
    });
    named.map_or_else(|| inside(&settings.tree()), |copy| inside(&copy))
}
