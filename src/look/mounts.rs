//! The kernel's list of mounts, which never hangs: what is mounted at, above and below a path.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The kernel's number; another mount at the same place has another.
    pub(super) id: u64,
    pub(super) point: PathBuf,
    pub(super) kind: String,
}

/// A directory above a mount that is renamed moves it, and no change is told: then the table is that old at most.
const AGE_MAX: Duration = Duration::from_secs(30);

/// The table as it was read last, and the open file by which the kernel tells of a change.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

struct Known {
    file: File,
    table: Arc<[Mount]>,
    read: Instant,
}

/// Those of this process; none when the kernel does not tell. Read anew only when it changed: a host of containers has
/// hundreds, and every look asks.
pub(super) fn all() -> Arc<[Mount]> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = match known.take() {
        Some(now) if now.read.elapsed() < AGE_MAX && !has_changed(&now.file) => {
            let table = now.table.clone();
            *known = Some(now);
            return table;
        }
        Some(before) => Ok(before.file),
        None => File::open("/proc/self/mountinfo"),
    };
    let table = file.and_then(|mut file| {
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        Ok(Known { file, table: Arc::from(read(&text)), read: Instant::now() })
    });
    *known = table.ok();
    known.as_ref().map(|known| known.table.clone()).unwrap_or_default()
}

/// Whether the kernel says that mounts came or went since it was asked last. Asked before the table is read, so what changes
/// meanwhile is seen the next time.
fn has_changed(file: &File) -> bool {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    let news = PollFlags::POLLERR | PollFlags::POLLPRI;
    poll(&mut asked, PollTimeout::ZERO).is_err() || asked[0].revents().is_none_or(|seen| seen.intersects(news))
}

/// The mounts that a look at `path`, as it is written, may come to: the deepest above it and all below.
pub(super) fn at(path: &Path) -> Vec<u64> {
    of(&all(), path)
}

pub(super) fn of(table: &[Mount], path: &Path) -> Vec<u64> {
    let below = table.iter().filter(|mount| mount.point.starts_with(path));
    let mut ids: Vec<u64> = above(table, path).into_iter().chain(below).map(|mount| mount.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The deepest mount at or above `path`; the last of several at one place covers the others.
pub(super) fn above<'a>(table: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = table.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

pub(super) fn read(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = unescaped(fields.nth(3)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { id, point, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// The kernel writes blank, tab, newline and backslash as `\` and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_anew_only_when_the_kernel_says_so_and_is_that_of_now() {
        let now = || read(&std::fs::read("/proc/self/mountinfo").unwrap());
        // Other tests mount meanwhile, so one look may be behind.
        assert!((0..100).any(|_| all()[..] == now()[..]));
        assert!((0..100).any(|_| Arc::ptr_eq(&all(), &all())));
    }

    #[test]
    fn a_mount_at_above_or_below_a_path_concerns_it_and_another_one_in_its_place_is_another() {
        let table = |share: &str| {
            let text = format!("27 1 8:1 / / rw - ext4 /dev/sda rw\n{share}40 27 0:9 / /srv/a rw - tmpfs t rw\n");
            read(text.as_bytes())
        };
        let without = table("");
        let hung = table("31 27 0:40 / /mnt/nas rw - fuse.share x rw\n");
        let anew = table("58 27 0:51 / /mnt/nas rw - fuse.share x rw\n");
        for path in ["/mnt/nas/restic", "/mnt/nas", "/mnt", "/"] {
            let of = |table: &[Mount]| of(table, Path::new(path));
            assert!(of(&hung) != of(&without) && of(&hung) != of(&anew), "{path}");
        }
        assert_eq!(of(&hung, Path::new("/srv/a/b")), of(&without, Path::new("/srv/a/b")));
    }
}
