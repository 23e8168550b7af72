//! What a run kept, weighed: restic's own totals, the counts of each source, and the mounts that the sources lie on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::artifact::mount;
use crate::config::model::Target;
use crate::plugin::{Source, count, is_excluded};
use crate::run::usual::{Load, Weight, part_name};
use crate::store::record::Shipment;
use crate::types::Outcome;

/// The plugin whose sources are what its settings name.
const FILES: &str = "files";

/// Kinds of file systems that come and go by themselves or hold nothing of anybody's: their absence is no loss.
const FLEETING: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Where mounts come and go with containers, sessions and packages.
const FLEETING_PLACES: &[&str] = &[
    "/dev",
    "/proc",
    "/run",
    "/snap",
    "/sys",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run",
];

/// What the snapshots of a run have; none when no destination took it.
///
/// restic's totals are of the whole snapshot; where there are several sources, each is counted besides. Blocking.
pub(super) fn load(shipments: &[Shipment], sources: &[Source]) -> Option<Load> {
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
        if let Some((files, bytes)) = count(source) {
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

/// The mount points at, above and below `sources` that hold something; none when the kernel does not tell. Blocking.
pub(super) fn mounts(sources: &[Source], one_file_system: bool) -> Option<BTreeSet<PathBuf>> {
    let table = mount::parse(&std::fs::read("/proc/self/mountinfo").ok()?);
    let mut found = BTreeSet::new();
    for source in sources {
        let Ok(path) = source.path.canonicalize() else { continue };
        let above = mount::of(&table, &path).filter(|mount| mount.point != Path::new("/"));
        let below = table.iter().filter(|mount| {
            mount.point.starts_with(&path)
                && !one_file_system
                && !is_fleeting(&mount.point, &path)
                && !is_excluded(source, &mount.point)
        });
        for mount in above.into_iter().chain(below) {
            if !FLEETING.contains(&mount.kind.as_str()) && holds_something(&mount.point) {
                found.insert(mount.point.clone());
            }
        }
    }
    Some(found)
}

fn is_fleeting(point: &Path, source: &Path) -> bool {
    FLEETING_PLACES.iter().any(|place| point.starts_with(place) && !source.starts_with(place))
}

fn holds_something(point: &Path) -> bool {
    point.is_file() || std::fs::read_dir(point).is_ok_and(|mut entries| entries.next().is_some())
}

/// Those of `before` that belong to `sources` still and are not among `now`; what the config leaves out does not.
pub(super) fn lost(
    before: &BTreeSet<PathBuf>,
    now: &BTreeSet<PathBuf>,
    sources: &[Source],
    one_file_system: bool,
) -> Vec<PathBuf> {
    let concerns = |point: &Path| {
        sources.iter().any(|source| {
            let path = source.path.canonicalize().unwrap_or_else(|_| source.path.clone());
            let below = point.starts_with(&path) && !one_file_system && !is_excluded(source, point);
            below || path.starts_with(point)
        })
    };
    before.difference(now).filter(|point| concerns(point)).cloned().collect()
}
