//! The way back: files to their paths with the old ones beside, blocks into the data directory of a stopped server.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{Rights, unwritable};
use super::promtool::{Promtool, is_ulid};
use super::{FILES, PrometheusSettings, RIGHTS, Server, TSDB, blocks, files};
use crate::error::codes;
use crate::plugin::kit::asked::RestoreJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{CaptureFacts, Request, Verb, Verdict};
use crate::types::ByteSize;

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrometheusRestore {
    /// Put the configuration and the files that it names back to their paths.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    files: bool,
    /// Put the blocks into this data directory (--storage.tsdb.path); its server must be stopped.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    data_dir: Option<PathBuf>,
}

pub(super) fn restore(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let RestoreJob::<PrometheusSettings, PrometheusRestore> { settings, options, facts, order } =
        RestoreJob::of(request)?;
    let dry_run = order.dry_run;
    let promtool = Promtool::find(settings.promtool.as_deref(), &request.staging, facts.app_version.as_deref())?;
    let has_blocks = facts.artifacts.iter().any(|artifact| artifact.path.starts_with(TSDB));
    let has_files = files::kept(facts).next().is_some();
    if !has_blocks && !has_files {
        return Err(Failure::new(codes::NOTHING_TO_RESTORE, "the backup holds neither files nor blocks of Prometheus")
            .hint("choose a snapshot of this target: `larder snapshots TARGET`"));
    }
    // All that would be refused is, before any file is replaced.
    match &options.data_dir {
        Some(_) if !has_blocks => {
            return Err(Failure::new(codes::NO_BLOCKS, "the backup holds no blocks")
                .hint("nothing was changed; leave out `data_dir`"));
        }
        Some(data_dir) => may_put_blocks(request, data_dir)?,
        None => {}
    }
    if has_files && options.files {
        put_files(request, facts, &settings, promtool.as_ref(), dry_run, events)?;
    }
    match (&options.data_dir, has_blocks) {
        (Some(data_dir), true) => put_blocks(request, data_dir, promtool.as_ref(), dry_run, events)?,
        (None, true) => {
            events.step(Verb::Manual, "blocks", "stop Prometheus and choose `data_dir=PATH` to put them back");
        }
        (_, false) => {}
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

fn put_files(
    request: &Request,
    facts: &CaptureFacts,
    settings: &PrometheusSettings,
    promtool: Option<&Promtool>,
    dry_run: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    if let (Some(promtool), Some(config)) = (promtool, &settings.config_file) {
        let copy = super::mirrored(&request.staging, config);
        let (verdict, said) = promtool.judge(&["check", "config", "--syntax-only"], &copy);
        if verdict == Verdict::Failed {
            return Err(Failure::new(
                codes::CONFIG_BROKEN,
                format!("promtool refuses the configuration of the backup: {said}"),
            )
            .hint("choose an older snapshot, or a newer Prometheus"));
        }
    }
    let rights = rights_of(&request.staging.join(RIGHTS))?;
    let mut planned = Vec::new();
    for relative in files::kept(facts) {
        let copy = request.staging.join(relative);
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
                events.step(Verb::Keep, path.display().to_string(), "");
                continue;
            }
            Some(_) => {
                let beside = beside(&path, &request.run);
                events.step(
                    Verb::Replace,
                    path.display().to_string(),
                    format!("the old one is kept as {}", beside.display()),
                );
            }
            None => events.step(Verb::Create, path.display().to_string(), ""),
        }
        may_put(&path)?;
        planned.push((path, bytes));
    }
    let mut written = Vec::new();
    if !dry_run {
        let journal = Journal::of(request).or_else(|_| Journal::within(&request.staging))?;
        let note = Files::of(planned.iter().map(|(path, _)| path.as_path()), &request.run);
        journal.note(FILES_ENTRY, &note)?;
        for (path, bytes) in planned {
            let rights = rights.iter().find(|each| each.path == path);
            if let Err(error) = put(&path, &bytes, &request.run, rights) {
                let failure = unwritable(&path, &error);
                let undone = note.undo();
                let left = undone.map_err(|left| {
                    Failure::new(codes::NOT_UNDONE, format!("{}; and {left}", failure.trouble.message))
                });
                left?;
                let failure = failure.hint("every file is what it was; give the daemon's user write permission there");
                return Err(failure.after(journal.done(FILES_ENTRY)));
            }
            written.push((path, bytes));
        }
        journal.done(FILES_ENTRY)?;
    }
    reload(settings, dry_run, written.is_empty(), events);
    if !dry_run {
        let bad = written.iter().find(|(path, bytes)| fs::read(path).ok().as_ref() != Some(bytes));
        let (verdict, detail) = match bad {
            None => (Verdict::Proven, format!("{} written", written.len())),
            Some((path, _)) => (Verdict::Failed, format!("{} has another content", path.display())),
        };
        events.validation("the files are as in the backup", verdict, detail);
        if let (Some(promtool), Some(config)) = (promtool, &settings.config_file) {
            let (verdict, detail) = promtool.judge(&["check", "config"], config);
            events.validation("promtool check config in place", verdict, detail);
        }
    }
    Ok(())
}

/// The journal's entry of files that are replaced.
const FILES_ENTRY: &str = "files";

/// What undoes a change of files.
#[derive(Serialize, Deserialize)]
struct Files {
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
    fn undo(&self) -> Result<(), String> {
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
    // Asked, not tried: a dry run makes nothing.
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

fn reload(settings: &PrometheusSettings, dry_run: bool, unchanged: bool, events: &mut EventWriter<'_>) {
    if dry_run {
        events.step(Verb::Run, "reload of Prometheus", "where it runs with --web.enable-lifecycle");
        return;
    }
    if unchanged {
        return;
    }
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

/// Refuses what could not be put back, before anything is changed.
fn may_put_blocks(request: &Request, data_dir: &Path) -> Result<(), Failure> {
    blocks::all(&request.staging.join(TSDB))?;
    stopped(data_dir)?;
    let needed: u64 = blocks::files(&request.staging.join(TSDB))?
        .iter()
        .map(|path| fs::metadata(path).map_or(0, |found| found.len()))
        .sum();
    let room = nix::sys::statvfs::statvfs(data_dir).map(|found| found.blocks_available() * found.fragment_size());
    // Tried, not asked for: a mount may be read-only.
    let writable = tempfile::tempdir_in(data_dir).map(drop);
    match (writable, room) {
        (Err(error), _) => {
            Err(unwritable(data_dir, &error).hint("nothing was changed; give the daemon's user write permission there"))
        }
        (Ok(()), Ok(room)) if room < needed => Err(Failure::new(
            codes::DISK_FULL,
            format!("the blocks have {}, and {} has room for {}", ByteSize(needed), data_dir.display(), ByteSize(room)),
        )
        .hint("nothing was changed; make room there")),
        _ => Ok(()),
    }
}

/// Whether an entry of a data directory is time series: a block, or what a server has not made one of yet.
fn is_series(name: &str) -> bool {
    is_ulid(name) || ["wal", "wbl", "chunks_head"].contains(&name)
}

/// Gives the data directory the time series of the backup and no others: a log of newer samples beside older blocks, or
/// blocks that were compacted since, would be read into them. What is not of the backup is kept in a directory that
/// Prometheus does not read.
fn put_blocks(
    request: &Request,
    data_dir: &Path,
    promtool: Option<&Promtool>,
    dry_run: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let source = request.staging.join(TSDB);
    let found = blocks::all(&source)?;
    stopped(data_dir)?;
    let same: Vec<&str> = found
        .iter()
        .map(|block| block.name.as_str())
        .filter(|name| is_same(&source.join(name), &data_dir.join(name)).unwrap_or(false))
        .collect();
    let kept = data_dir.join(format!("before-{}", request.run.to_lowercase()));
    let names = fs::read_dir(data_dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut others: Vec<String> = names.filter(|name| is_series(name) && !same.contains(&name.as_str())).collect();
    others.sort();
    for block in &found {
        let verb = if same.contains(&block.name.as_str()) { Verb::Keep } else { Verb::Create };
        events.step(verb, format!("block {}", block.name), format!("{} samples", block.samples));
    }
    for name in &others {
        events.step(Verb::Replace, name.clone(), format!("not of the backup; kept in {}", kept.display()));
    }
    if dry_run {
        return Ok(());
    }
    let new: Vec<&str> = found.iter().map(|block| block.name.as_str()).filter(|name| !same.contains(name)).collect();
    let journal = Journal::of(request).or_else(|_| Journal::within(&request.staging))?;
    put_series(&source, data_dir, &kept, &new, &others, &journal, events)?;
    let now = blocks::all(data_dir)?;
    let (verdict, detail) = if now == found {
        (Verdict::Proven, format!("{} blocks, and nothing else", found.len()))
    } else {
        (Verdict::Failed, format!("{} blocks instead of {}, or others", now.len(), found.len()))
    };
    events.validation("every block is in the data directory", verdict, detail);
    if let Some(promtool) = promtool {
        let (verdict, detail) = match promtool.count_blocks(data_dir) {
            Ok(listed) if listed == found.len() => (Verdict::Proven, format!("{listed} blocks")),
            Ok(listed) => (Verdict::Failed, format!("{listed} blocks")),
            Err(judged) => judged,
        };
        events.validation("promtool tsdb list opens the data directory", verdict, detail);
    }
    events.step(Verb::Manual, "Prometheus", "start it");
    Ok(())
}

/// Copies all blocks first, under names that Prometheus would clear away; only then anything gets another name, and all
/// of that is undone when one step fails.
fn put_series(
    source: &Path,
    data_dir: &Path,
    kept: &Path,
    new: &[&str],
    others: &[String],
    journal: &Journal,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let half = |name: &str| data_dir.join(format!("{name}.tmp-for-creation"));
    let aside = others.iter().map(|name| (data_dir.join(name), kept.join(name)));
    let renames: Vec<(PathBuf, PathBuf)> =
        aside.chain(new.iter().map(|name| (half(name), data_dir.join(name)))).collect();
    let halves = new.iter().map(|name| half(name)).collect();
    let note = Series { data_dir: data_dir.to_owned(), renames, halves, kept: kept.to_owned() };
    journal.note(SERIES, &note)?;
    let copied = new.iter().try_for_each(|name| {
        events.progress(0, 0);
        let owner = fs::metadata(data_dir)?;
        let _ = fs::remove_dir_all(half(name));
        copy_tree(&source.join(name), &half(name), (owner.uid(), owner.gid()))?;
        if is_same(&source.join(name), &half(name))? {
            Ok(())
        } else {
            Err(std::io::Error::other("it reads back otherwise"))
        }
    });
    let placed = copied.and_then(|()| {
        if !others.is_empty() {
            fs::create_dir(kept)?;
        }
        note.renames.iter().try_for_each(|(from, to)| fs::rename(from, to))?;
        File::open(data_dir)?.sync_all()
    });
    if let Err(error) = placed {
        note.undo();
        journal.done(SERIES)?;
        return Err(unwritable(data_dir, &error).hint("the time series are what they were"));
    }
    journal.done(SERIES)
}

/// The journal's entry of time series that change places.
const SERIES: &str = "series";

/// What undoes a change of time series.
#[derive(Serialize, Deserialize)]
struct Series {
    data_dir: PathBuf,
    /// In their order.
    renames: Vec<(PathBuf, PathBuf)>,
    halves: Vec<PathBuf>,
    kept: PathBuf,
}

impl Series {
    /// Makes the time series what they were, however far it came; may be done twice.
    fn undo(&self) {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        for (from, to) in self.renames.iter().rev().filter(|(from, to)| is_there(to) && !is_there(from)) {
            let _ = fs::rename(to, from);
        }
        for half in &self.halves {
            let _ = fs::remove_dir_all(half);
        }
        let _ = fs::remove_dir(&self.kept);
    }
}

/// Puts right what a restore that was killed left of files and of time series.
pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let journal = Journal::of(request)?;
    for (entry, value) in journal.entries::<serde_json::Value>()? {
        if entry == FILES_ENTRY
            && let Ok(files) = serde_json::from_value::<Files>(value.clone())
        {
            files.undo().map_err(|left| Failure::new(codes::NOT_UNDONE, left).later())?;
            events.log("the files of a restore that was killed are what they were");
            journal.done(&entry)?;
        }
        if entry != SERIES {
            continue;
        }
        let Ok(series) = serde_json::from_value::<Series>(value) else { continue };
        stopped(&series.data_dir).map_err(|failure| {
            failure.hint("a restore was killed half-way: stop Prometheus, and what was there is put back by itself")
        })?;
        series.undo();
        events.log(format!("the time series in {} are what they were", series.data_dir.display()));
        journal.done(&entry)?;
    }
    Ok(())
}

/// Whether two directories have the same files with the same bytes.
fn is_same(one: &Path, other: &Path) -> std::io::Result<bool> {
    let names = |path: &Path| -> std::io::Result<Vec<std::ffi::OsString>> {
        let mut names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let all = names(one)?;
    if all != names(other)? {
        return Ok(false);
    }
    for name in all {
        let (a, b) = (one.join(&name), other.join(&name));
        let same = if a.is_dir() {
            is_same(&a, &b)?
        } else {
            fs::metadata(&a)?.len() == fs::metadata(&b)?.len()
                && digest::sha256(&a, |_| {}).ok() == digest::sha256(&b, |_| {}).ok()
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a directory that a server holds. Not every one keeps a lock (Debian's does not), so open files count too.
fn stopped(data_dir: &Path) -> Result<(), Failure> {
    if !data_dir.is_dir() {
        return Err(Failure::new(codes::DATA_DIR, format!("{} is no directory", data_dir.display()))
            .hint("make it, owned by the user that Prometheus runs as"));
    }
    let locked = File::open(data_dir.join("lock"))
        .is_ok_and(|lock| nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).is_err());
    if locked || is_open(data_dir) {
        return Err(Failure::new(
            codes::SERVER_RUNNING,
            format!("a Prometheus uses {} at this moment", data_dir.display()),
        )
        .hint("stop it first"));
    }
    Ok(())
}

/// Whether a process of this host has what every server holds open: its log of queries, or the newest part of its WAL.
/// By number, not by name: a container sees the directory under another path.
fn is_open(data_dir: &Path) -> bool {
    let wal = fs::read_dir(data_dir.join("wal")).into_iter().flatten().flatten().map(|entry| entry.path());
    let held: Vec<(u64, u64)> = wal
        .chain([data_dir.join("queries.active")])
        .filter_map(|path| fs::metadata(path).ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect();
    if held.is_empty() {
        return false;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut open =
        processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten());
    open.any(|file| fs::metadata(file.path()).is_ok_and(|metadata| held.contains(&(metadata.dev(), metadata.ino()))))
}

fn copy_tree(from: &Path, into: &Path, owner: (u32, u32)) -> std::io::Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let own = |path: &Path| if root { std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)) } else { Ok(()) };
    fs::create_dir(into)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, owner)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
            own(&target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    fs::set_permissions(into, fs::Permissions::from_mode(0o755))?;
    own(into)?;
    File::open(into)?.sync_all()
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
