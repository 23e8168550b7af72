//! What a run kept, weighed: restic's own totals, the counts of each source, and the mounts that the sources lie on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::model::Target;
use crate::plugin::kit::apart::{Mounts, NO_DATA};
use crate::plugin::{Source, count, is_excluded};
use crate::run::usual::mounts::{self, Noted};
use crate::run::usual::{Load, Weight, part_name};
use crate::store::record::Shipment;
use crate::types::Outcome;

mod emptiness;
mod fleeting;

use emptiness::holds_something;
use fleeting::{comes_and_goes, is_fleeting};

/// The plugin whose sources are what its settings name.
const FILES: &str = "files";

/// Kinds of file systems that come and go by themselves, besides those that hold no data.
const FLEETING: [&str; 3] = ["autofs", "fuse.gvfsd-fuse", "fuse.lxcfs"];

/// Of this kind are the roots of containers; another one is somebody's.
const OVERLAY: &str = "overlay";

/// Names so unlike that a pattern which matches all of them matches every name.
const ANY_NAMES: [&str; 3] = ["#any~name#", "any-name", "7"];

/// What the snapshots of a run have; none when no destination took it.
///
/// restic's totals are of the whole snapshot; where there are several sources, each is counted besides, without what is
/// Larder's `own`: that is left out of the snapshot, and what it has would hide what a source lost. Blocking.
pub(super) fn load(shipments: &[Shipment], sources: &[Source], own: &[PathBuf]) -> Option<Load> {
    let usable = || shipments.iter().filter(|each| matches!(each.outcome, Outcome::Success | Outcome::Partial));
    let mut load = Load::default();
    load.total.bytes = usable().map(|each| each.bytes).max()?;
    load.total.files = usable().map(|each| each.files).max()?;
    if let [only] = sources {
        // Counted by restic already.
        load.add(&part_name(&only.path), load.total);
        return Some(load);
    }
    for source in sources {
        if let Some((files, bytes)) = count(source, own) {
            load.add(&part_name(&source.path), Weight { bytes, files });
        }
    }
    Some(load)
}

/// The sources that the config names itself. One that is not there any more was taken out by somebody.
pub(super) fn named(target: &Target) -> Option<BTreeSet<PathBuf>> {
    if target.plugin.as_str() != FILES {
        return None;
    }
    let paths = target.settings.get("paths")?.as_array()?;
    Some(paths.iter().filter_map(|path| path.as_str()).map(PathBuf::from).collect())
}

/// Of which mounts the absence is a loss.
#[derive(Clone, Debug)]
pub(super) struct Concern {
    pub(super) sources: Vec<Source>,
    pub(super) one_file_system: bool,
    /// What is Larder's own; it is in no backup of a source above it.
    pub(super) own: Vec<PathBuf>,
    /// The mounts of the last good run.
    pub(super) noted: Noted,
    /// The names of those that are told as lost already.
    pub(super) held: BTreeSet<String>,
}

/// The mounts of the sources at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MountsSeen {
    /// Those that hold something besides other mounts and what is Larder's own.
    full: BTreeSet<PathBuf>,
    /// Those that do not, but hold what counted when they were noted.
    as_noted: BTreeSet<PathBuf>,
}

impl MountsSeen {
    /// What is to be noted when it was seen at both instants.
    pub(super) fn noted(&self, other: &Self, own: &[PathBuf]) -> Noted {
        Noted::new(self.full.intersection(&other.full).cloned().collect(), own)
    }

    fn has(&self, point: &Path) -> bool {
        self.full.contains(point) || self.as_noted.contains(point)
    }
}

impl Concern {
    /// The mount points at, above and below the sources that hold something; none when the kernel does not tell. Blocking.
    pub(super) fn mounts(&self) -> Option<MountsSeen> {
        let mounts = Mounts::parse(&std::fs::read("/proc/self/mountinfo").ok()?);
        // What is bound to itself is a part of what it lies in.
        let all: BTreeSet<&Path> = mounts
            .below(Path::new("/"))
            .map(|(point, _)| point)
            .filter(|point| !mounts.is_bound_to_itself(point))
            .collect();
        let is_own = |path: &Path| self.own.iter().any(|own| own == path);
        let is_another = |path: &Path| all.contains(path);
        let (full, bare): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = self
            .candidates(&mounts)
            .into_iter()
            .partition(|point| holds_something(point, &|path| is_another(path) || is_own(path)));
        let holds_what_counted = |point: &Path| {
            // What is Larder's own may be of the run that told that it is lost.
            let is_held = self.held.contains(&mounts::name(point));
            holds_something(point, &|path| {
                let was_another = !self.noted.is_old() && (self.noted.points.contains(path) || !full.contains(path));
                (is_another(path) && was_another) || (is_own(path) && (is_held || self.noted.was_own(path)))
            })
        };
        let as_noted = bare.into_iter().filter(|point| self.noted.points.contains(point) && holds_what_counted(point));
        Some(MountsSeen { as_noted: as_noted.collect(), full })
    }

    /// The noted mounts that belong to the sources still and were not seen `before` or `after`; what the config leaves out
    /// does not belong. Blocking.
    pub(super) fn lost(&self, before: &MountsSeen, after: &MountsSeen) -> Vec<PathBuf> {
        let reals: Vec<(&Source, PathBuf)> = self
            .sources
            .iter()
            .map(|source| (source, source.path.canonicalize().unwrap_or_else(|_| source.path.clone())))
            .collect();
        let belongs = |point: &Path| {
            reals.iter().any(|(source, real)| real.starts_with(point) || self.is_kept(source, real, point))
        };
        let mounts = Mounts::read();
        // An older Larder noted what is bound to itself; now that stands where a disk did not come up.
        let was_none = |point: &Path| self.noted.is_old() && mounts.is_bound_to_itself(point);
        let missing = self.noted.points.iter().filter(|point| !(before.has(point) && after.has(point)));
        missing.filter(|point| belongs(point) && !was_none(point)).cloned().collect()
    }

    /// Those of `mounts` that are somebody's.
    fn candidates(&self, mounts: &Mounts) -> BTreeSet<PathBuf> {
        let is_root_of_container = |point: &Path, kind: &str| kind == OVERLAY && comes_and_goes(point);
        let mut found = BTreeSet::new();
        for source in &self.sources {
            let Ok(real) = source.path.canonicalize() else { continue };
            let above = disk_of(mounts, &real)
                .filter(|(point, kind)| *point != Path::new("/") && !is_root_of_container(point, kind));
            // What holds no data is left out by itself, and what is bound to itself is there without the mount, too.
            let below = mounts.below(&real).chain(mounts.at(&real)).filter(|(point, _)| {
                self.is_kept(source, &real, point)
                    && mounts.no_data_at(point).is_none()
                    && !mounts.is_bound_to_itself(point)
            });
            let stays = |kind: &str| !FLEETING.contains(&kind) && !NO_DATA.contains(&kind);
            let kept = above.into_iter().chain(below).filter(|(_, kind)| stays(kind));
            found.extend(kept.map(|(point, _)| point.to_owned()));
        }
        found
    }

    /// Whether what is mounted at `point`, `real`ly below the source, is in its backup and stays by itself.
    fn is_kept(&self, source: &Source, real: &Path, point: &Path) -> bool {
        let Ok(rest) = point.strip_prefix(real) else { return false };
        // The kernel knows no links, and patterns are matched against the source's path as it is written.
        let written: PathBuf = source.path.join(rest).components().collect();
        // A source may lie below the artifact root: then it is somebody's, and that root cuts nothing from it.
        let is_own = |own: &PathBuf| own != real && own.starts_with(real) && point.starts_with(own);
        !self.one_file_system
            && !is_fleeting(point, real)
            && !self.own.iter().any(is_own)
            && !is_excluded(source, &written)
            && !is_emptied(source, &written)
    }
}

/// The mount that `path` (without links) is seen through; what is bound to itself is a part of another.
fn disk_of<'m>(mounts: &'m Mounts, path: &Path) -> Option<(&'m Path, &'m str)> {
    let (point, kind) = mounts.at(path)?;
    if mounts.is_bound_to_itself(point) { disk_of(mounts, point.parent()?) } else { Some((point, kind)) }
}

/// Whether the patterns leave out whatever lies in `directory`, though not itself (`/srv/docs/*`).
fn is_emptied(source: &Source, directory: &Path) -> bool {
    let brings_back = source.exclude.iter().any(|text| text.starts_with('!'));
    !brings_back && ANY_NAMES.iter().all(|name| is_excluded(source, &directory.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path, exclude: &[&str]) -> Source {
        Source { path: path.to_owned(), exclude: exclude.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn concern(source: Source) -> Concern {
        let (noted, held) = (Noted::new(BTreeSet::new(), &[]), BTreeSet::new());
        Concern { sources: vec![source], one_file_system: false, own: Vec::new(), noted, held }
    }

    /// What of `points` is lost when nothing of it is there.
    fn lost(concern: Concern, points: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let concern = Concern { noted: Noted::new(points.clone(), &[]), ..concern };
        concern.lost(&MountsSeen::default(), &MountsSeen::default())
    }

    fn table(mounts: &[(&str, &str)]) -> String {
        let line = |(at, (point, kind)): (usize, &(&str, &str))| {
            let (device, root) = if *kind == "bound" { (0, *point) } else { (at, "/") };
            format!("{} 1 8:{device} {root} {point} rw - {kind} none rw\n", at + 20)
        };
        mounts.iter().enumerate().map(line).collect()
    }

    fn found(mounts: &[(&str, &str)], own: &[&str]) -> Vec<String> {
        let own = own.iter().map(PathBuf::from).collect();
        let found = Concern { own, ..concern(source(Path::new("/"), &[])) }
            .candidates(&Mounts::parse(table(mounts).as_bytes()));
        found.iter().map(|point| point.display().to_string()).collect()
    }

    #[test]
    fn a_disk_where_engines_mount_is_missed_and_what_they_mount_there_is_not() {
        let mounts = [
            ("/", "ext4"),
            ("/proc", "proc"),
            ("/run", "tmpfs"),
            ("/run/user/1000", "tmpfs"),
            ("/run/media/me/usb", "exfat"),
            ("/snap/core20/2318", "squashfs"),
            ("/srv/archive", "squashfs"),
            ("/srv/merged", "overlay"),
            ("/var/lib/containers/storage/overlay", "bound"),
            ("/var/lib/docker", "xfs"),
            ("/var/lib/docker/overlay2/x/merged", "overlay"),
            ("/var/lib/docker/containers/x/mounts/shm", "tmpfs"),
            ("/var/lib/kubelet", "ext4"),
            ("/var/lib/kubelet/pods/x/volumes/kubernetes.io~empty-dir/memory", "tmpfs"),
        ];
        let wanted = ["/", "/run/media/me/usb", "/srv/archive", "/srv/merged", "/var/lib/docker", "/var/lib/kubelet"];
        assert_eq!(found(&mounts, &[]), wanted);
    }

    #[test]
    fn where_only_our_own_is_mounted_nothing_of_a_source_is_missed() {
        let mounts = [("/srv/nas", "nfs4"), ("/srv/nas/restic", "nfs4"), ("/srv/docs", "ext4")];
        assert_eq!(found(&mounts, &["/srv/nas/restic"]), ["/srv/docs", "/srv/nas"]);
        assert_eq!(found(&mounts, &["/srv/nas"]), ["/srv/docs"]);
        // A source that lies below the artifact root is no part of it.
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let disk = root.join("copies/disk");
        std::fs::create_dir_all(&disk).unwrap();
        let mounts = Mounts::parse(table(&[("/", "ext4"), (disk.to_str().unwrap(), "ext4")]).as_bytes());
        let below = Concern { own: vec![root.clone()], ..concern(source(&root.join("copies"), &[])) };
        assert_eq!(below.candidates(&mounts), BTreeSet::from([disk]));
    }

    #[test]
    fn a_source_that_is_bound_to_itself_lies_on_the_disk_that_it_is_a_part_of() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("disk/docs")).unwrap();
        let at = |path: &str| root.join(path).display().to_string();
        let bound = format!("3 2 8:2 /docs {} rw - ext4 none rw\n", at("disk/docs"));
        let disk = format!("2 1 8:2 / {} rw - ext4 none rw\n", at("disk"));
        let on_disk = Mounts::parse(format!("1 0 8:1 / / rw - ext4 none rw\n{disk}{bound}").as_bytes());
        let source = concern(source(&root.join("disk/docs"), &[]));
        assert_eq!(source.candidates(&on_disk), BTreeSet::from([root.join("disk")]));
        // The disk did not come up, and its directory is bound to itself all the same.
        let bound = format!("3 1 8:1 {0} {0} rw - ext4 none rw\n", at("disk/docs"));
        let without = Mounts::parse(format!("1 0 8:1 / / rw - ext4 none rw\n{bound}").as_bytes());
        assert_eq!(source.candidates(&without), BTreeSet::new());
    }

    #[test]
    fn patterns_leave_mounts_out_by_the_path_of_the_source_as_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/docs")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let point = root.join("real/docs");
        let shown = point.display().to_string();
        let mounts = Mounts::parse(table(&[("/", "ext4"), (&shown, "ext4")]).as_bytes());
        let all = BTreeSet::from([point.clone()]);
        let at = |path: &str| root.join(path).display().to_string();
        for (path, exclude, is_left_out) in [
            ("link", &[at("real/docs")][..], false),
            ("link", &[at("link/docs")], true),
            ("link", &[at("link/docs/*")], true),
            ("link", &[at("link/docs/*"), format!("!{}", at("link/docs/keep"))], false),
            ("link", &[at("link/docs/[a-z]*"), "*.tmp".to_owned()], false),
            ("link", &["#*#".to_owned(), "*~*".to_owned()], false),
            ("link", &["docs".to_owned()], true),
            ("link", &["real/docs".to_owned()], false),
            ("link", &["link/docs".to_owned()], true),
            ("real", &[at("real/docs")], true),
            ("real", &[at("link/docs")], false),
        ] {
            let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
            let concern = concern(source(&root.join(path), &exclude));
            assert_eq!(concern.candidates(&mounts).is_empty(), is_left_out, "{path}, {exclude:?}");
            assert_eq!(lost(concern, &all).is_empty(), is_left_out, "{path}, {exclude:?}");
        }
        let one = Concern { one_file_system: true, ..concern(source(&root.join("link"), &[])) };
        assert!(one.candidates(&mounts).is_empty() && lost(one, &all).is_empty());
    }

    #[test]
    fn what_an_older_larder_noted_and_is_no_loss_any_more_is_not_missed() {
        let noted = ["/srv/restic", "/var/lib/docker/containers/x/mounts/shm", "/srv/docs"].map(PathBuf::from);
        let concern = Concern { own: vec![PathBuf::from("/srv/restic")], ..concern(source(Path::new("/"), &[])) };
        assert_eq!(lost(concern, &BTreeSet::from(noted)), [PathBuf::from("/srv/docs")]);
    }

    #[test]
    fn a_source_weighs_what_its_backup_has() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for (file, bytes) in [("home/deed", 100), ("home/restic/data", 9000), ("other/file", 10)] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), vec![b'x'; bytes]).unwrap();
        }
        let sources = [source(&root.join("home"), &[]), source(&root.join("other"), &[])];
        let weight = |own: &[PathBuf]| count(&sources[0], own);
        assert_eq!(weight(&[]), Some((2, 9100)));
        assert_eq!(weight(&[root.join("home/restic")]), Some((1, 100)));
        assert_eq!(weight(&[root.join("elsewhere")]), Some((2, 9100)));
    }
}
