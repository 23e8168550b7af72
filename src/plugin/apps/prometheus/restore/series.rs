//! Blocks go into the data directory of a stopped server, all of them or none.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::codes;
use crate::plugin::apps::prometheus::TSDB;
use crate::plugin::apps::prometheus::blocks::{self, Block};
use crate::plugin::apps::prometheus::files::unwritable;
use crate::plugin::apps::prometheus::promtool::{Promtool, is_ulid};
use crate::plugin::apps::prometheus::restore::Job;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::types::ByteSize;

/// Refuses what could not be put back, before anything is changed.
fn may_put_blocks(source: &Path, data_dir: &Path) -> Result<(), Failure> {
    stopped(data_dir)?;
    let files = blocks::files(source)?;
    let needed: u64 = files.iter().map(|path| fs::metadata(path).map_or(0, |found| found.len())).sum();
    let room = nix::sys::statvfs::statvfs(data_dir).map(|found| found.blocks_available() * found.fragment_size());
    // Asked, not tried: a plan makes nothing.
    let writable = nix::unistd::access(data_dir, nix::unistd::AccessFlags::W_OK).map_err(std::io::Error::from);
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

/// What a data directory gets. It has the time series of the backup then and no others: a log of newer samples beside
/// older blocks, or blocks that were compacted since, would be read into them. What is not of the backup is kept in a
/// directory that Prometheus does not read.
pub(in crate::plugin::apps::prometheus) struct Blocks {
    source: PathBuf,
    data_dir: PathBuf,
    /// Where what is not of the backup goes.
    kept: PathBuf,
    found: Vec<Block>,
    /// Blocks of the backup that are not there.
    new: Vec<String>,
    /// What is there and is not of the backup.
    others: Vec<String>,
}

impl Blocks {
    /// Looks at the data directory of a server that is stopped, and refuses what could not be put back.
    pub(super) fn plan(job: &Job<'_>, data_dir: &Path) -> Result<Self, Failure> {
        let source = job.staging.join(TSDB);
        let found = blocks::all(&source)?;
        may_put_blocks(&source, data_dir)?;
        let is_there = |name: &str| is_same(&source.join(name), &data_dir.join(name)).unwrap_or(false);
        let (same, new): (Vec<String>, Vec<String>) =
            found.iter().map(|block| block.name.clone()).partition(|name| is_there(name));
        let names = fs::read_dir(data_dir).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut others: Vec<String> = names.filter(|name| is_series(name) && !same.contains(name)).collect();
        others.sort();
        let kept = data_dir.join(format!("before-{}", job.run.to_lowercase()));
        Ok(Self { source, data_dir: data_dir.to_owned(), kept, found, new, others })
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        let of_backup = self.found.iter().map(|block| {
            let verb = if self.new.contains(&block.name) { Verb::Create } else { Verb::Keep };
            Step::new(verb, format!("block {}", block.name), format!("{} samples", block.samples))
        });
        let others = self.others.iter().map(|name| {
            Step::new(Verb::Replace, name.clone(), format!("not of the backup; kept in {}", self.kept.display()))
        });
        of_backup.chain(others)
    }

    /// Puts all of them in, or none.
    pub(super) fn put(
        &self,
        promtool: Option<&Promtool>,
        journal: &Journal,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Self { data_dir, found, .. } = self;
        // It may have been started since.
        stopped(data_dir)?;
        self.change_places(journal, events)?;
        let now = blocks::all(data_dir)?;
        let (verdict, detail) = if now == *found {
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
        events.planned(start_step());
        Ok(())
    }

    /// Copies all blocks first, under names that Prometheus would clear away; only then anything gets another name, and all
    /// of that is undone when one step fails.
    fn change_places(&self, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Self { source, data_dir, kept, new, others, .. } = self;
        let half = |name: &str| data_dir.join(format!("{name}.tmp-for-creation"));
        let aside = others.iter().map(|name| (data_dir.join(name), kept.join(name)));
        let renames: Vec<(PathBuf, PathBuf)> =
            aside.chain(new.iter().map(|name| (half(name), data_dir.join(name)))).collect();
        let halves = new.iter().map(|name| half(name)).collect();
        let note = Series { data_dir: data_dir.clone(), renames, halves, kept: kept.clone() };
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
}

/// What is left to a person when the blocks are there.
pub(super) fn start_step() -> Step {
    Step::new(Verb::Manual, "Prometheus", "start it")
}

/// The journal's entry of time series that change places.
pub(super) const SERIES: &str = "series";

/// What undoes a change of time series.
#[derive(Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) data_dir: PathBuf,
    /// In their order.
    renames: Vec<(PathBuf, PathBuf)>,
    halves: Vec<PathBuf>,
    kept: PathBuf,
}

impl Series {
    /// Makes the time series what they were, however far it came; may be done twice.
    pub(super) fn undo(&self) {
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
pub(super) fn stopped(data_dir: &Path) -> Result<(), Failure> {
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
