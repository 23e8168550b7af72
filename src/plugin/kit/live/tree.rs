//! Databases below a directory of this host, and whether a program works with them.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::plugin::kit::live::{FoundDatabases, HEAD_BYTES, Kind, is_worth_a_look, recognise};
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::sqlite_files::BESIDE;

/// What was written so lately is taken for in use even where nobody has it open here: its program may be on another
/// host, or open it for each change.
const RECENT: Duration = Duration::from_mins(15);

/// A database on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    pub(crate) in_use: bool,
}

/// What was found below all roots.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) databases: Vec<Database>,
    /// Roots that were not looked through to their end: there may be more databases below them.
    pub(crate) unknown: Vec<PathBuf>,
}

/// How far a look goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Entries that are looked at, of all roots together.
    pub(crate) entries_max: u64,
    pub(crate) time_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries_max: 5_000_000, time_max: Duration::from_mins(5) }
    }
}

/// Looks below `roots`, within the usual bounds; what `excluded` says yes to is passed over.
pub(crate) fn look(roots: &[PathBuf], excluded: &dyn Fn(&Path) -> bool) -> Looked {
    look_within(Bounds::default(), roots, excluded)
}

pub(crate) fn look_within(bounds: Bounds, roots: &[PathBuf], excluded: &dyn Fn(&Path) -> bool) -> Looked {
    let started = Instant::now();
    let now = SystemTime::now();
    let mut looked = Looked::default();
    let mut entries = 0;
    let open = OpenFiles::default();
    for root in roots {
        let mut found = FoundDatabases::default();
        let mut busy: BTreeSet<PathBuf> = BTreeSet::new();
        let mut left = vec![root.clone()];
        while let Some(path) = left.pop() {
            entries += 1;
            if entries > bounds.entries_max || started.elapsed() > bounds.time_max {
                looked.unknown.push(root.clone());
                break;
            }
            if excluded(&path) {
                continue;
            }
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
                continue;
            }
            if !metadata.is_file() {
                continue;
            }
            let age = metadata.modified().ok().map(|time| now.duration_since(time).unwrap_or_default());
            if age.is_some_and(|age| age < RECENT) {
                busy.insert(path.clone());
            }
            let name = path.as_os_str().as_bytes();
            if is_worth_a_look(name, metadata.len())
                && let Some(kind) = recognise(name, &head(&path))
            {
                found.add(name, kind);
            }
        }
        for (name, kind) in found.databases() {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(name));
            // What lies in a directory comes right behind it.
            let within = busy.range(path.clone()..).next().is_some_and(|first| first.starts_with(&path));
            let beside = || BESIDE.iter().any(|end| busy.contains(&with_suffix(&path, end)));
            let in_use = within || beside() || open.has(&path);
            looked.databases.push(Database { kind, path, in_use });
        }
    }
    looked
}

fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    // What cannot be read is told by whoever keeps it.
    let _ = std::fs::File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    head
}

/// What processes have open, looked for where there is a database: every file of every process is asked for.
#[derive(Default)]
struct OpenFiles(OnceCell<HashSet<(u64, u64)>>);

impl OpenFiles {
    /// Whether a process has a file of the database at `path` open: it, one below it, or one beside it.
    fn has(&self, path: &Path) -> bool {
        let open = self.0.get_or_init(open_files);
        let mut left: Vec<PathBuf> = BESIDE.iter().map(|end| with_suffix(path, end)).collect();
        left.push(path.to_owned());
        while let Some(path) = left.pop() {
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            } else if open.contains(&(metadata.dev(), metadata.ino())) {
                return true;
            }
        }
        false
    }
}

/// Device and inode of what processes have open, as far as they may be seen.
fn open_files() -> HashSet<(u64, u64)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &std::ffi::OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let own = std::process::id().to_string();
    processes
        .filter(|entry| is_process(&entry.file_name()) && entry.file_name() != own.as_str())
        .flat_map(|entry| std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten())
        // Links to sockets and pipes lead to no device of files; they do no harm.
        .filter_map(|descriptor| {
            let target = std::fs::read_link(descriptor.path()).ok()?;
            if !target.is_absolute() || target.starts_with("/dev") {
                return None;
            }
            let found = std::fs::metadata(descriptor.path()).ok()?;
            found.is_file().then(|| (found.dev(), found.ino()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_in_use_while_it_is_open_or_was_written_just_now() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let long_ago = SystemTime::now() - Duration::from_hours(24);
        let old = |path: &Path| {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        };
        std::fs::write(at("old.db"), [&b"SQLite format 3\0"[..], &[0; 496]].concat()).unwrap();
        old(&at("old.db"));
        std::fs::create_dir_all(at("pg/base")).unwrap();
        std::fs::write(at("pg/PG_VERSION"), "15\n").unwrap();
        std::fs::write(at("pg/base/1"), "x").unwrap();
        old(&at("pg/PG_VERSION"));
        old(&at("pg/base/1"));
        std::fs::write(at("logged.db"), [&b"SQLite format 3\0"[..], &[0; 496]].concat()).unwrap();
        std::fs::write(at("logged.db-wal"), "x").unwrap();
        old(&at("logged.db"));
        old(&at("logged.db-wal"));
        std::fs::write(at("skipped.db"), [&b"SQLite format 3\0"[..], &[0; 496]].concat()).unwrap();
        let told = || {
            let looked = look(&[directory.path().to_owned()], &|path| path.ends_with("skipped.db"));
            assert_eq!(looked.unknown, Vec::<PathBuf>::new());
            let mut told: Vec<(String, bool)> = looked
                .databases
                .into_iter()
                .map(|each| (each.path.file_name().unwrap().to_string_lossy().into_owned(), each.in_use))
                .collect();
            told.sort();
            told
        };
        let all = |logged, old, pg| {
            [("logged.db", logged), ("old.db", old), ("pg", pg)].map(|(name, used)| (name.to_owned(), used)).to_vec()
        };
        assert_eq!(told(), all(false, false, false));
        // Another process has it open.
        let mut reader = std::process::Command::new("sleep");
        let log = std::fs::File::open(at("logged.db-wal")).unwrap();
        let mut child = reader.arg("60").stdin(std::fs::File::open(at("old.db")).unwrap()).stdout(log).spawn().unwrap();
        let opened = told();
        std::fs::write(at("pg/base/1"), "y").unwrap();
        let written = told();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((opened, written), (all(true, true, false), all(true, true, true)));
    }
    #[test]
    fn a_look_that_a_bound_ended_names_the_roots_that_it_did_not_come_through() {
        let directory = tempfile::tempdir().unwrap();
        let roots = ["first", "second", "third"].map(|name| directory.path().join(name));
        for root in &roots {
            std::fs::create_dir(root).unwrap();
            for name in ["a.db", "b.db", "c.db"] {
                std::fs::write(root.join(name), [&b"SQLite format 3\0"[..], &[0; 496]].concat()).unwrap();
            }
        }
        let look = |bounds: Bounds| look_within(bounds, &roots, &|_| false);
        // The directory itself is an entry.
        let some = look(Bounds { entries_max: 6, ..Bounds::default() });
        assert_eq!((some.databases.len(), some.unknown.as_slice()), (4, &roots[1..]));
        let none = look(Bounds { time_max: Duration::ZERO, ..Bounds::default() });
        assert_eq!((none.databases.len(), none.unknown.as_slice()), (0, &roots[..]));
        let all = look(Bounds { entries_max: 12, ..Bounds::default() });
        assert_eq!((all.databases.len(), all.unknown.len()), (9, 0));
    }

    #[test]
    fn no_database_is_forgotten_where_there_are_many() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..1_000 {
            let name = directory.path().join(format!("user-{n}"));
            std::fs::write(name, [&b"SQLite format 3\0"[..], &[0; 496]].concat()).unwrap();
        }
        let looked = look(&[directory.path().to_owned()], &|_| false);
        assert_eq!(looked.databases.iter().filter(|each| each.in_use).count(), 1_000);
    }
}
