//! What of a source is left out by itself: what is Larder's own, and file systems that hold no data (`/proc`).
//!
//! A backup of the home directory that takes along the repository, the artifacts and the state grows by itself each
//! night; `/proc` is no end of unreadable files. Found through links and bind mounts too, from the kernel's own list.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// File systems that the kernel makes up.
pub(crate) const NO_DATA: [&str; 21] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "configfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "binfmt_misc",
    "efivarfs",
    "rpc_pipefs",
    "nsfs",
    "selinuxfs",
    "fuse.portal",
];
/// Where a file system in memory is the system's own.
const RUNTIME: [&str; 4] = ["/run", "/dev", "/sys", "/proc"];

/// A directory that is Larder's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Own {
    pub path: PathBuf,
    pub kind: OwnKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnKind {
    Repository,
    Artifacts,
    State,
    Cache,
}

impl OwnKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Artifacts => "artifacts",
            Self::State => "state",
            Self::Cache => "cache",
        }
    }
}

/// Something below a source that is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// As it is reached through the source.
    pub path: PathBuf,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Own(OwnKind),
    /// The type of the file system that is mounted there; the empty directory stays.
    NoData(String),
}

/// The mounts of one instant.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    /// What of its file system is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: String,
}

impl Mounts {
    /// The kernel's list; where it cannot be read, none.
    #[must_use]
    pub fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    #[must_use]
    pub fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// The mount that a path (without links) is seen through: the deepest, and of those the newest.
    fn of(&self, path: &Path) -> Option<&Mount> {
        self.0
            .iter()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
    }

    /// Where else a directory (without links) is seen, itself first.
    #[must_use]
    pub fn everywhere(&self, path: &Path) -> Vec<PathBuf> {
        let mut places = vec![path.to_owned()];
        let Some(home) = self.of(path) else { return places };
        let Ok(inside) = path.strip_prefix(&home.point) else { return places };
        let within = if inside.as_os_str().is_empty() { home.root.clone() } else { home.root.join(inside) };
        for mount in self.0.iter().filter(|mount| mount.device == home.device) {
            let place = if let Ok(rest) = within.strip_prefix(&mount.root) {
                if rest.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(rest) }
            } else if mount.root.starts_with(&within) {
                mount.point.clone()
            } else {
                continue;
            };
            // Something else may be mounted over it.
            if self.of(&place).is_some_and(|seen| seen == mount) && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Where `path` (without links) is mounted, with the type of that.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<(&Path, &str)> {
        self.of(path).map(|mount| (mount.point.as_path(), mount.kind.as_str()))
    }

    /// The mount points below `path`, with the types of what is mounted there.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Path, &'a str)> {
        let mut seen = BTreeSet::new();
        // The newest of several at one point is the one that is seen.
        let newest = self.0.iter().rev().filter(move |mount| seen.insert(&mount.point));
        newest
            .filter(move |mount| mount.point.starts_with(path) && mount.point != path)
            .map(|mount| (mount.point.as_path(), mount.kind.as_str()))
    }

    /// Whether what is mounted at `point` is the very directory that lies there without it: engines bind their own so.
    #[must_use]
    pub fn is_bound_to_itself(&self, point: &Path) -> bool {
        let Some(mount) = self.0.iter().rfind(|mount| mount.point == point) else { return false };
        let under = self.0.iter().filter(|other| other.point != point && point.starts_with(&other.point));
        under.max_by_key(|other| other.point.components().count()).is_some_and(|under| {
            let there = point.strip_prefix(&under.point).map(|rest| under.root.join(rest));
            under.device == mount.device && there.is_ok_and(|there| there == mount.root)
        })
    }

    /// The type of the file system that `path` (without links) lies on, where it holds no data.
    #[must_use]
    pub fn no_data_at(&self, path: &Path) -> Option<&str> {
        let mount = self.of(path)?;
        holds_no_data(&mount.point, &mount.kind).then_some(mount.kind.as_str())
    }
}

fn holds_no_data(point: &Path, kind: &str) -> bool {
    let runtime = || RUNTIME.iter().any(|directory| point.starts_with(directory));
    NO_DATA.contains(&kind) || (matches!(kind, "tmpfs" | "ramfs") || kind.starts_with("fuse.")) && runtime()
}

/// What is left out of `source`; `own` without links and in all places ([`spread`]).
#[must_use]
pub fn cuts(source: &Path, own: &[Own], mounts: &Mounts) -> Vec<Cut> {
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let through = |path: &Path| Some(source.join(path.strip_prefix(&real).ok()?));
    let mut cuts: Vec<Cut> = own
        .iter()
        .filter(|each| each.path != real)
        .filter_map(|each| Some(Cut { path: through(&each.path)?, why: Why::Own(each.kind) }))
        .collect();
    cuts.extend(
        mounts
            .below(&real)
            .filter(|(point, kind)| holds_no_data(point, kind))
            .filter_map(|(point, kind)| Some(Cut { path: through(point)?, why: Why::NoData(kind.to_owned()) })),
    );
    cuts.sort();
    let all = cuts.clone();
    let inside = |cut: &Cut| all.iter().any(|other| cut.path != other.path && cut.path.starts_with(&other.path));
    cuts.retain(|cut| !inside(cut));
    cuts.dedup_by(|one, other| one.path == other.path);
    cuts
}

/// What is Larder's own, without links, in every place where it is seen.
#[must_use]
pub fn spread(own: &[Own], mounts: &Mounts) -> Vec<Own> {
    let mut all: Vec<Own> = own
        .iter()
        .filter_map(|each| Some((each.kind, real(&each.path)?)))
        .flat_map(|(kind, path)| mounts.everywhere(&path).into_iter().map(move |path| Own { path, kind }))
        .collect();
    all.sort();
    all.dedup_by(|one, other| one.path == other.path);
    all
}

/// A path without links; the last part need not be there yet, as a repository before its first backup.
fn real(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

/// Whose a source is that lies wholly in what is Larder's own. A directory that somebody else made below the artifact
/// root is not: a copy of another device may well lie there.
#[must_use]
pub fn owner<'a>(source: &Path, own: &'a [Own]) -> Option<&'a Own> {
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    own.iter().find(|each| {
        let Ok(rest) = real.strip_prefix(&each.path) else { return false };
        let Some(first) = rest.components().next() else { return true };
        each.kind != OwnKind::Artifacts
            || first.as_os_str() == ".larder"
            || std::fs::read_dir(each.path.join(first))
                .is_ok_and(|days| days.flatten().any(|day| is_day(&day.file_name())))
    })
}

/// `2026-11-28`
fn is_day(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == 10
        && name
            .iter()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() })
}

fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    Some(Mount {
        device: String::from_utf8_lossy(fields.get(2)?).into_owned(),
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        kind: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
    })
}

/// The kernel writes blanks and the like as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 0:5 / /proc rw - proc proc rw\n\
        3 1 0:6 / /run rw - tmpfs tmpfs rw\n\
        4 1 8:1 /var/lib/larder /srv/data/state rw - ext4 /dev/sda1 rw\n\
        5 1 8:1 /var /srv/var rw - ext4 /dev/sda1 rw\n\
        6 1 0:7 / /srv/ram rw - tmpfs tmpfs rw\n\
        7 1 0:5 / /srv/chroot/proc rw - proc proc rw\n\
        8 1 8:1 /var/lib/larder/restic /only/the\\040repository rw - ext4 /dev/sda1 rw\n\
        9 5 8:2 / /srv/hidden rw - ext4 /dev/sdb1 rw\n";

    #[test]
    fn a_directory_is_found_where_it_is_bound_to() {
        let places = Mounts::parse(TABLE).everywhere(Path::new("/var/lib/larder"));
        let wanted = ["/var/lib/larder", "/srv/data/state", "/srv/var/lib/larder", "/only/the repository"];
        assert_eq!(places, wanted.map(PathBuf::from));
    }

    #[test]
    fn a_directory_that_is_bound_to_itself_is_told_from_one_that_lies_elsewhere() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:1 /var/lib/containers/storage/overlay /var/lib/containers/storage/overlay rw - ext4 /dev/sda1 rw\n\
            3 1 8:1 /srv/photos /home/me/photos rw - ext4 /dev/sda1 rw\n\
            4 1 8:2 /srv/docs /srv/docs rw - ext4 /dev/sdb1 rw\n\
            5 1 8:3 / /data rw - ext4 /dev/sdc1 rw\n\
            6 5 8:3 /own /data/own rw - ext4 /dev/sdc1 rw\n";
        let mounts = Mounts::parse(table);
        let bound = |point: &str| mounts.is_bound_to_itself(Path::new(point));
        assert!(bound("/var/lib/containers/storage/overlay") && bound("/data/own"));
        for point in ["/", "/home/me/photos", "/srv/docs", "/data", "/none"] {
            assert!(!bound(point), "{point}");
        }
    }

    #[test]
    fn file_systems_without_data_are_cut_and_others_are_not() {
        let cut = |source: &str| -> Vec<String> {
            let cuts = cuts(Path::new(source), &[], &Mounts::parse(TABLE));
            cuts.into_iter().map(|cut| cut.path.display().to_string()).collect()
        };
        assert_eq!(cut("/"), ["/proc", "/run", "/srv/chroot/proc"]);
        assert_eq!(cut("/srv/chroot"), ["/srv/chroot/proc"]);
        assert_eq!(cut("/srv/ram"), [""; 0]);
        assert_eq!(Mounts::parse(TABLE).no_data_at(Path::new("/proc/1")), Some("proc"));
    }

    #[test]
    fn a_source_in_our_own_is_ours_and_a_strangers_directory_beside_the_artifacts_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for path in ["backups/photos/2026-11-28/x", "backups/copies/2026-11", "backups/.larder/ship"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        let own = [Own { path: root.join("backups"), kind: OwnKind::Artifacts }];
        let ours = |path: &str| owner(&root.join(path), &own).is_some();
        assert!(ours("backups") && ours("backups/photos") && ours("backups/.larder/ship"));
        assert!(!ours("backups/copies") && !ours("elsewhere") && !ours("."));
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mounts = Mounts::parse(&bytes);
            let _ = cuts(Path::new("/"), &[], &mounts);
            let _ = mounts.everywhere(Path::new("/srv"));
        }
    }
}
