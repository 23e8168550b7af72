//! Long runs of zeros in unpacked files become holes: an archive has none, and a disk image or a database of 100 GiB that was
//! mostly hole would fill the disk. What is read is the same.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

/// The bytes that are looked at at once; a hole is this long or longer, so that small files and busy ones stay as they are.
const RUN_BYTES: usize = 1 << 20;

/// Gives the files below `directory` their holes. How far it came does not matter to what they hold.
///
/// # Errors
/// When something cannot be read, or the holes of a file cannot be made for another reason than that its file system has none.
pub(super) fn dig(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            dig(&entry.path())?;
        } else if kind.is_file() && entry.metadata()?.len() >= RUN_BYTES as u64 {
            dig_file(&entry.path())?;
        }
    }
    Ok(())
}

fn dig_file(path: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let before = file.metadata()?;
    if before.nlink() > 1 && before.blocks() * 512 < before.len() {
        // Another of its names was here before.
        return Ok(());
    }
    let mut buffer = vec![0; RUN_BYTES];
    let (mut at, mut dug) = (0, false);
    loop {
        let mut length = 0;
        while length < RUN_BYTES {
            match file.read(buffer.get_mut(length..).unwrap_or_default())? {
                0 => break,
                read => length += read,
            }
        }
        let long = i64::try_from(length).map_err(io::Error::other)?;
        if length == RUN_BYTES && buffer.iter().all(|byte| *byte == 0) {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(&file, flags, at, long) {
                Ok(()) => dug = true,
                Err(nix::errno::Errno::EOPNOTSUPP) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        at += long;
        if length < RUN_BYTES {
            break;
        }
    }
    if dug {
        file.set_times(FileTimes::new().set_accessed(before.accessed()?).set_modified(before.modified()?))?;
    }
    Ok(())
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
        dig(directory.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.modified().unwrap(), long_ago);
        assert!(metadata.blocks() * 512 <= 4 * RUN_BYTES as u64, "{} blocks", metadata.blocks());
    }
}
