//! What should be mounted (`/etc/fstab`) and what is (`/proc/self/mountinfo`); parsing is pure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;

/// The mount points of one instant.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    mounted: BTreeSet<PathBuf>,
    /// With whether it is mounted at boot (no `noauto`).
    wanted: Vec<(PathBuf, bool)>,
}

/// A mount point of `/etc/fstab` on which nothing is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmounted {
    pub(crate) point: PathBuf,
    pub(crate) automatic: bool,
}

impl Mounts {
    pub(crate) fn read() -> Result<Self, Failure> {
        let mountinfo = std::fs::read("/proc/self/mountinfo").map_err(|error| {
            Failure::new(codes::MOUNTS_UNKNOWN, format!("/proc/self/mountinfo cannot be read: {error}"))
                .hint("mount /proc where larder runs")
        })?;
        let fstab = match std::fs::read("/etc/fstab") {
            Ok(fstab) => fstab,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(Failure::new(codes::MOUNTS_UNKNOWN, format!("/etc/fstab cannot be read: {error}")));
            }
        };
        Ok(Self::parse(&mountinfo, &fstab))
    }

    pub(crate) fn parse(mountinfo: &[u8], fstab: &[u8]) -> Self {
        let mounted = lines(mountinfo).filter_map(|fields| fields.get(4).map(|point| unescape(point))).collect();
        let wanted = lines(fstab)
            .filter_map(|fields| {
                let (point, kind) = (fields.get(1)?, fields.get(2)?);
                let options = fields.get(3).copied().unwrap_or_default();
                let automatic = !options.split(|byte| *byte == b',').any(|option| option == b"noauto");
                (point.starts_with(b"/") && *point != b"/" && *kind != b"swap").then(|| (unescape(point), automatic))
            })
            .collect();
        Self { mounted, wanted }
    }

    pub(crate) fn is_mounted(&self, point: &Path) -> bool {
        // Through its components, so a trailing slash makes no difference.
        let point: PathBuf = point.components().collect();
        self.mounted.contains(&point)
    }

    /// The mount points that `path` lies on or holds, and that are not mounted.
    pub(crate) fn unmounted_around(&self, path: &Path) -> Vec<Unmounted> {
        self.wanted
            .iter()
            .filter(|(point, _)| path.starts_with(point) || point.starts_with(path))
            .filter(|(point, _)| !self.is_mounted(point))
            .map(|(point, automatic)| Unmounted { point: point.clone(), automatic: *automatic })
            .collect()
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect::<Vec<_>>())
        .filter(|fields| fields.first().is_some_and(|first| !first.starts_with(b"#")))
}

/// Both files write a space as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSTAB: &[u8] = b"# comment\nUUID=1 / ext4 defaults 0 1\nnas:/photos /srv/my\\040photos nfs4 _netdev 0 0\n\
        /dev/sdb1 /mnt/usb ext4 noauto,user 0 0\n/dev/sdc1 none swap sw 0 0\n/dev/sdd1 /data xfs defaults 0 0\n";
    const MOUNTINFO: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:33 / /data rw - xfs /dev/sdd1 rw\n";

    fn around(path: &str) -> Vec<(String, bool)> {
        Mounts::parse(MOUNTINFO, FSTAB)
            .unmounted_around(Path::new(path))
            .into_iter()
            .map(|each| (each.point.display().to_string(), each.automatic))
            .collect()
    }

    #[test]
    fn a_path_on_an_unmounted_mount_point_is_found() {
        assert_eq!(around("/srv/my photos/2024"), [("/srv/my photos".to_owned(), true)]);
        assert_eq!(around("/srv/my photos"), [("/srv/my photos".to_owned(), true)]);
        assert_eq!(around("/mnt/usb/x"), [("/mnt/usb".to_owned(), false)]);
    }

    #[test]
    fn a_path_that_holds_an_unmounted_mount_point_is_found() {
        assert_eq!(around("/srv"), [("/srv/my photos".to_owned(), true)]);
    }

    #[test]
    fn mounted_ones_and_others_of_a_similar_name_are_not() {
        assert_eq!(around("/data/app"), []);
        assert_eq!(around("/srv/my photos and more"), []);
        assert_eq!(around("/home/me"), []);
    }

    #[test]
    fn a_mount_point_is_known_with_a_trailing_slash_too() {
        let mounts = Mounts::parse(MOUNTINFO, FSTAB);
        assert!(mounts.is_mounted(Path::new("/data/")) && mounts.is_mounted(Path::new("/")));
        assert!(!mounts.is_mounted(Path::new("/data/app")));
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mounts = Mounts::parse(&bytes, &bytes);
            mounts.unmounted_around(Path::new("/srv"));
        }
    }
}
