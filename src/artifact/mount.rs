//! Says on which mount a path lies, from the kernel's own list.
//!
//! Comparing device numbers is not enough: a bind mount of the same disk has the same number.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// `ext4`, `nfs4`, `autofs`…
    pub kind: String,
}

/// Whether `path` lies on a mount other than `/`.
///
/// A parent that is a mount counts (`/mnt/disk` for `/mnt/disk/backups`), a bind mount counts, an automount that
/// did not mount anything does not.
///
/// # Errors
/// When the path is not there or the kernel's list cannot be read.
pub fn holds(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    // An automount mounts only when somebody looks inside.
    std::fs::read_dir(&path)?;
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(of(&parse(&table), &path).is_some_and(|mount| mount.point != Path::new("/") && mount.kind != "autofs"))
}

/// The mount that `path` (absolute, without links) is seen through: the deepest, and of those the newest.
#[must_use]
pub fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count())
}

/// Whether `path` itself is a mount point; an absent path is none.
#[must_use]
pub fn is_point(path: &Path) -> bool {
    let (Ok(path), Ok(table)) = (path.canonicalize(), std::fs::read("/proc/self/mountinfo")) else { return false };
    parse(&table).iter().any(|mount| mount.point == path && mount.kind != "autofs")
}

/// The place below which a disk or share seems to be missing: `path` lies on the root file system, but below a directory
/// where one mounts things, or below a mount point of `/etc/fstab`.
#[must_use]
pub fn missing_below(path: &Path) -> Option<PathBuf> {
    let known = path.ancestors().find_map(|above| above.canonicalize().ok())?;
    let table = parse(&std::fs::read("/proc/self/mountinfo").ok()?);
    let fstab = std::fs::read("/etc/fstab").unwrap_or_default();
    let seen = of(&table, &known)?;
    (seen.point == Path::new("/") || seen.kind == "autofs").then(|| looks_like_a_mount_point(path, &fstab)).flatten()
}

/// Where people mount things; what lies one level below such a directory is a mount point.
const MOUNTS_LIE_IN: [&str; 6] = ["/mnt", "/media", "/run/media", "/net", "/srv/nas", "/srv/nfs"];

fn looks_like_a_mount_point(path: &Path, fstab: &[u8]) -> Option<PathBuf> {
    let wanted = fstab.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let device = fields.next().filter(|device| !device.starts_with(b"#"))?;
        let point = unescape(fields.next()?);
        (!device.is_empty() && point.is_absolute() && point != Path::new("/") && path.starts_with(&point))
            .then_some(point)
    });
    wanted
        .max_by_key(|point| point.components().count())
        .or_else(|| MOUNTS_LIE_IN.iter().find(|directory| path.starts_with(directory)).map(PathBuf::from))
}

/// The mount point that a path, or what of it is there, is seen through; none on the root file system.
#[must_use]
pub fn point_of(path: &Path) -> Option<PathBuf> {
    let known = path.ancestors().find_map(|above| above.canonicalize().ok())?;
    let table = parse(&std::fs::read("/proc/self/mountinfo").ok()?);
    let mount = of(&table, &known)?;
    (mount.point != Path::new("/") && mount.kind != "autofs").then(|| mount.point.clone())
}

/// Reads the kernel's list; lines that make no sense are left out.
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { point, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// The kernel writes blank, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            let value = digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
            out.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

impl Mount {
    /// The mount point's bytes as text for a person.
    #[must_use]
    pub fn show(&self) -> String {
        OsStr::from_bytes(self.point.as_os_str().as_bytes()).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
30 27 254:0 /data /srv/data rw,relatime - ext4 /dev/vda rw\n\
31 27 0:40 / /mnt/auto rw - autofs systemd-1 rw\n\
32 27 0:41 / /mnt/my\\040disk rw - nfs4 nas:/x rw\n\
nonsense\n";

    fn point(path: &str) -> String {
        of(&parse(TABLE), Path::new(path)).map(Mount::show).unwrap_or_default()
    }

    #[test]
    fn a_path_is_seen_through_its_deepest_mount() {
        assert_eq!(point("/backups"), "/");
        assert_eq!(point("/srv/data/backups"), "/srv/data");
        assert_eq!(point("/srv/database"), "/");
        assert_eq!(point("/mnt/my disk/x"), "/mnt/my disk");
    }

    #[test]
    fn an_automount_is_told_from_what_it_mounts() {
        let mounts = parse(TABLE);
        assert_eq!(of(&mounts, Path::new("/mnt/auto/x")).map(|mount| mount.kind.as_str()), Some("autofs"));
        let mut mounted = mounts.clone();
        mounted.push(Mount { point: "/mnt/auto".into(), kind: "ext4".into() });
        assert_eq!(of(&mounted, Path::new("/mnt/auto/x")).map(|mount| mount.kind.as_str()), Some("ext4"));
    }

    #[test]
    fn an_empty_mount_point_is_known_by_its_place_or_by_the_table_of_mounts() {
        let fstab = b"# /dev/x /home/x ext4\nnas:/b /home/me/my\\040nas nfs4 _netdev 0 0\nUUID=1 / ext4 defaults 0 1\n";
        let looks =
            |path: &str| looks_like_a_mount_point(Path::new(path), fstab).map(|point| point.display().to_string());
        assert_eq!(looks("/home/me/my nas/restic").as_deref(), Some("/home/me/my nas"));
        assert_eq!(looks("/mnt/usb/restic").as_deref(), Some("/mnt"));
        assert_eq!(looks("/srv/nas/restic").as_deref(), Some("/srv/nas"));
        assert_eq!((looks("/home/x/restic"), looks("/var/lib/larder/restic"), looks("/mntx")), (None, None, None));
    }

    #[test]
    fn nothing_in_the_list_makes_it_panic() {
        for line in [&b"\\"[..], b"a b c d \\", b"a b c d \\777 -", b"- - - - - - -", b"", b"\n\n"] {
            let _ = parse(line);
        }
    }
}
