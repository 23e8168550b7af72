//! Files go back to their paths, all of them or none, with the old ones beside.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::codes;
use crate::plugin::apps::prometheus::api::Server;
use crate::plugin::apps::prometheus::files::{self, Rights, unwritable};
use crate::plugin::apps::prometheus::promtool::Promtool;
use crate::plugin::apps::prometheus::restore::Job;
use crate::plugin::apps::prometheus::settings::PrometheusSettings;
use crate::plugin::apps::prometheus::{FILES, RIGHTS, mirrored};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Step, Verb, Verdict};

/// The files that differ from the backup, with what they are to be.
pub(in crate::plugin::apps::prometheus) struct Configuration {
    files: Vec<(PathBuf, Vec<u8>)>,
    rights: Vec<Rights>,
}

impl Configuration {
    /// Looks at each file, and refuses what could not be put back.
    pub(super) fn plan(job: &Job<'_>, promtool: Option<&Promtool>, steps: &mut Vec<Step>) -> Result<Self, Failure> {
        is_good(job, promtool)?;
        let rights = rights_of(&job.staging.join(RIGHTS))?;
        let mut differ = Vec::new();
        for relative in files::kept(job.facts) {
            let copy = job.staging.join(relative);
            let path = Path::new("/").join(relative.strip_prefix(FILES).unwrap_or(relative));
            let bytes = fs::read(&copy).map_err(|error| {
                Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", copy.display()))
            })?;
            let now = match fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    return Err(Failure::new(
                        codes::PATH_UNREADABLE,
                        format!("{} cannot be read: {error}", path.display()),
                    )
                    .hint("nothing was changed; give the daemon's user read permission"));
                }
            };
            match &now {
                Some(now) if *now == bytes => {
                    steps.push(Step::new(Verb::Keep, path.display().to_string(), ""));
                    continue;
                }
                Some(_) => {
                    let detail = format!("the old one is kept as {}", beside(&path, job.run).display());
                    steps.push(Step::new(Verb::Replace, path.display().to_string(), detail));
                }
                None => steps.push(Step::new(Verb::Create, path.display().to_string(), "")),
            }
            may_put(&path)?;
            differ.push((path, bytes));
        }
        Ok(Self { files: differ, rights })
    }

    /// Puts all of them in their places, or none.
    pub(super) fn put(
        &self,
        job: &Job<'_>,
        promtool: Option<&Promtool>,
        journal: &Journal,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Self { files, rights } = self;
        let note = Files::of(files.iter().map(|(path, _)| path.as_path()), job.run);
        journal.note(FILES_ENTRY, &note)?;
        for (path, bytes) in files {
            let rights = rights.iter().find(|each| each.path == *path);
            if let Err(error) = put(path, bytes, job.run, rights) {
                let failure = unwritable(path, &error);
                let undone = note.undo();
                let left = undone.map_err(|left| {
                    Failure::new(codes::NOT_UNDONE, format!("{}; and {left}", failure.trouble.message))
                });
                left?;
                let failure = failure.hint("every file is what it was; give the daemon's user write permission there");
                return Err(failure.after(journal.done(FILES_ENTRY)));
            }
        }
        journal.done(FILES_ENTRY)?;
        if !files.is_empty() {
            reload(&job.settings, events);
        }
        let bad = files.iter().find(|(path, bytes)| fs::read(path).ok().as_ref() != Some(bytes));
        let (verdict, detail) = match bad {
            None => (Verdict::Proven, format!("{} written", files.len())),
            Some((path, _)) => (Verdict::Failed, format!("{} has another content", path.display())),
        };
        events.validation("the files are as in the backup", verdict, detail);
        if let (Some(promtool), Some(config)) = (promtool, &job.settings.config_file) {
            let (verdict, detail) = promtool.judge(&["check", "config"], config);
            events.validation("promtool check config in place", verdict, detail);
        }
        Ok(())
    }
}

/// Refuses a configuration that promtool refuses.
fn is_good(job: &Job<'_>, promtool: Option<&Promtool>) -> Result<(), Failure> {
    let (Some(promtool), Some(config)) = (promtool, &job.settings.config_file) else { return Ok(()) };
    let copy = mirrored(job.staging, config);
    let (verdict, said) = promtool.judge(&["check", "config", "--syntax-only"], &copy);
    if verdict == Verdict::Failed {
        return Err(Failure::new(
            codes::CONFIG_BROKEN,
            format!("promtool refuses the configuration of the backup: {said}"),
        )
        .hint("choose an older snapshot, or a newer Prometheus"));
    }
    Ok(())
}

/// Whose the files were. A backup from before they were noted has no such file; one that is damaged gives nothing away.
fn rights_of(file: &Path) -> Result<Vec<Rights>, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", file.display()))
            .hint("nothing was changed; take another snapshot")
    };
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(broken(&error)),
    }
}

/// The journal's entry of files that are replaced.
pub(super) const FILES_ENTRY: &str = "files";

/// What undoes a change of files.
#[derive(Serialize, Deserialize)]
pub(super) struct Files {
    /// With the name under which the old one is kept; none: there was no old one.
    files: Vec<(PathBuf, Option<PathBuf>)>,
    /// Directories that were not there, the inner ones first.
    directories: Vec<PathBuf>,
}

impl Files {
    fn of<'p>(paths: impl Iterator<Item = &'p Path>, run: &str) -> Self {
        let (mut files, mut directories) = (Vec::new(), std::collections::BTreeSet::new());
        for path in paths {
            files.push((path.to_owned(), path.exists().then(|| beside(path, run))));
            directories.extend(path.ancestors().skip(1).filter(|each| !each.exists()).map(Path::to_owned));
        }
        Self { files, directories: directories.into_iter().rev().collect() }
    }

    /// Makes every file what it was, however far it came; may be done twice.
    pub(super) fn undo(&self) -> Result<(), String> {
        for (path, kept) in &self.files {
            let done = match kept {
                // The old one has its second name from before it gave way; it may not have given way.
                Some(kept) if kept.exists() && fs::read(kept).ok() == fs::read(path).ok() => fs::remove_file(kept),
                Some(kept) if kept.exists() => fs::rename(kept, path),
                Some(_) => Ok(()),
                None => fs::remove_file(path),
            };
            match done {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{} is not what it was: {error}", path.display()));
                }
                _ => {}
            }
        }
        for directory in &self.directories {
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

/// Refuses a file that could not be written, before any is.
fn may_put(path: &Path) -> Result<(), Failure> {
    let directory = path.ancestors().skip(1).find(|each| each.exists()).unwrap_or(Path::new("/"));
    // Asked, not tried: a plan makes nothing.
    nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK).map_err(|error| {
        unwritable(directory, &error.into())
            .hint("nothing was changed; give the daemon's user write permission there, or mount it writable")
    })
}

fn beside(path: &Path, run: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".before-{run}"));
    path.with_file_name(name)
}

/// Whole or not at all; the old one stays beside under its own name.
fn put(path: &Path, bytes: &[u8], run: &str, rights: Option<&Rights>) -> std::io::Result<()> {
    use std::io::Write as _;
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    // Prometheus has to read it: as it was in the backup, else as the one in its place.
    let old = fs::metadata(path).ok();
    let (mode, owner) = match (rights, &old) {
        (Some(rights), _) => (rights.mode, Some((rights.uid, rights.gid))),
        (None, Some(old)) => (old.mode() & 0o7777, Some((old.uid(), old.gid()))),
        (None, None) => (0o644, None),
    };
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner
        && nix::unistd::geteuid().is_root()
    {
        std::os::unix::fs::fchown(file.as_file(), Some(uid), Some(gid))?;
    }
    file.as_file().sync_all()?;
    if old.is_some() {
        let kept = beside(path, run);
        if !kept.exists() {
            fs::hard_link(path, &kept).or_else(|_| fs::copy(path, &kept).map(drop))?;
        }
    }
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// What is said of the reload before it is known how that goes.
pub(super) fn reload_step() -> Step {
    Step::new(Verb::Run, "reload of Prometheus", "where it runs with --web.enable-lifecycle")
}

fn reload(settings: &PrometheusSettings, events: &mut EventWriter<'_>) {
    let reloaded = Server::open(settings)
        .and_then(|server| {
            let server = Server { web: server.web.at_once(), settings };
            server.send(server.web.post("/-/reload")).map(|answer| answer.is_ok())
        })
        .unwrap_or(false);
    if reloaded {
        events.step(Verb::Run, "reload of Prometheus", "");
    } else {
        events.step(Verb::Manual, "reload of Prometheus", "`kill -HUP` it, or start it again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_cannot_be_read_are_refused_and_none_are_those_of_an_older_backup() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rights.json");
        assert!(rights_of(&file).unwrap().is_empty());
        for damaged in ["", "[{", "{}"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(rights_of(&file).unwrap_err().trouble.code, "artifact_unreadable", "{damaged:?}");
        }
        fs::write(&file, "[]").unwrap();
        assert!(rights_of(&file).unwrap().is_empty());
    }
}
