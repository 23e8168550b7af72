//! Gives sparse files their holes back after they were unpacked: an archive has none.
//!
//! A disk image or a database of 100 GiB that was mostly hole would fill the disk. What is read is the same, so a file whose
//! holes cannot be made stays as it is; whatever is wrong with it is found by the comparison that follows. Nor is one
//! touched that would lose a right by being written to: the right was unpacked before, and the room is the lesser thing.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};

/// The bytes that are looked at at once; a hole is this long or longer, so that small files and busy ones stay as they are.
const RUN_BYTES: usize = 1 << 20;
/// How often it is said that something is done.
const TICK: Duration = Duration::from_secs(1);

/// Gives the files below `directory` their holes; calls `tick` each second, so that nobody takes it for stuck.
pub(super) fn dig(directory: &Path, tick: &mut dyn FnMut()) {
    Digger { tick, ticked: None }.directory(directory);
}

struct Digger<'t> {
    tick: &'t mut dyn FnMut(),
    ticked: Option<Instant>,
}

impl Digger<'_> {
    /// What cannot be read or opened is skipped: a path may be too long, a file immutable.
    fn directory(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            self.tick();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.directory(&entry.path());
            } else if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() >= RUN_BYTES as u64) {
                let _ = self.file(&entry.path());
            }
        }
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let before = file.metadata()?;
        if before.nlink() > 1 && before.blocks() * 512 < before.len() {
            // Another of its names was here before.
            return Ok(());
        }
        if loses_rights(&file, before.mode()) {
            return Ok(());
        }
        let dug = self.holes(&file);
        // Also behind a part of them.
        file.set_times(FileTimes::new().set_accessed(before.accessed()?).set_modified(before.modified()?))?;
        dug
    }

    fn holes(&mut self, mut file: &File) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (mut buffer, mut at) = (vec![0; RUN_BYTES], 0);
        loop {
            self.tick();
            let mut length = 0;
            while length < RUN_BYTES {
                match file.read(buffer.get_mut(length..).unwrap_or_default())? {
                    0 => return Ok(()),
                    read => length += read,
                }
            }
            let long = i64::try_from(length).map_err(io::Error::other)?;
            if buffer.iter().all(|byte| *byte == 0) {
                fallocate(file, flags, at, long)?;
            }
            at += long;
        }
    }

    fn tick(&mut self) {
        if self.ticked.is_none_or(|ticked| ticked.elapsed() >= TICK) {
            (self.tick)();
            self.ticked = Some(Instant::now());
        }
    }
}

/// Whether the kernel takes something away from the file when it is written to: its capabilities, or whose rights it gives.
fn loses_rights(file: &File, mode: u32) -> bool {
    let mut value = [0_u8; 64];
    let capability = rustix::fs::fgetxattr(file, "security.capability", &mut value[..]);
    mode & 0o6000 != 0 || matches!(capability, Ok(_) | Err(rustix::io::Errno::RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_become_holes_and_what_is_read_and_its_times_stay() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let path = below.join("disk.img");
        let mut content = vec![0; 8 * RUN_BYTES + 17];
        content[5] = 1;
        content[3 * RUN_BYTES + 4_096] = 2;
        *content.last_mut().unwrap() = 3;
        fs::write(&path, &content).unwrap();
        fs::write(below.join("small"), [0; 100]).unwrap();
        std::os::unix::fs::symlink("/nowhere", below.join("link")).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let mut ticks = 0;
        dig(directory.path(), &mut || ticks += 1);
        assert!(ticks > 0);
        assert_eq!(fs::read(&path).unwrap(), content);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.modified().unwrap(), long_ago);
        assert!(metadata.blocks() * 512 <= 4 * RUN_BYTES as u64, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_file_with_capabilities_keeps_them_rather_than_getting_holes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, vec![0; 2 * RUN_BYTES]).unwrap();
        // Effective, to open raw sockets.
        let capability: Vec<u8> =
            [0x0200_0001, 1 << 13, 0, 0, 0].into_iter().flat_map(|word: u32| word.to_le_bytes()).collect();
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(error) = rustix::fs::setxattr(&path, "security.capability", &capability, flags) {
            println!("skipped: no capability can be given here: {error}");
            return;
        }
        dig(directory.path(), &mut || {});
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(&path, "security.capability", &mut value[..]).unwrap();
        assert_eq!(value.get(..length), Some(capability.as_slice()));
    }

    #[test]
    fn what_cannot_be_opened_is_skipped_and_the_rest_gets_its_holes() {
        let directory = tempfile::tempdir().unwrap();
        let zeros = |path: &Path| fs::write(path, vec![0; 2 * RUN_BYTES]).unwrap();
        let deep = |top: &str| {
            let mut path = directory.path().join(top);
            path.extend((0..12).map(|_| "d".repeat(200)));
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (below, above) = (deep("below"), deep("above"));
        zeros(&below.join("disk.img"));
        // Each path alone can be named; one below the other is too long.
        fs::rename(directory.path().join("below"), above.join("below")).unwrap();
        zeros(&directory.path().join("z.img"));
        dig(directory.path(), &mut || {});
        assert_eq!(fs::metadata(directory.path().join("z.img")).unwrap().blocks(), 0);
        dig(&directory.path().join("gone"), &mut || {});
    }
}
