//! A directory of YAML files as it lies on disk, for `larder check DIR`. No Git is involved.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::admit::{Admission, FILE_BYTES_MAX, Gathered, Kind, admit, not_utf8, too_large};
use super::{FileEntry, FileSet, SourceError};
use crate::error::{Trouble, chain, codes};

/// The config files below one directory, read once: later changes on disk are not seen.
#[derive(Debug)]
pub struct Directory {
    gathered: Gathered,
    contents: BTreeMap<String, Vec<u8>>,
}

impl Directory {
    /// Reads every config file below `path`.
    ///
    /// # Errors
    /// When `path` is no readable directory, or holds more than the limits in [`super::admit`] allow. A single file
    /// that cannot be used is refused instead (see [`FileSet::refused`]).
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source: io::Error| SourceError::Unreadable { path: path.to_owned(), source };
        match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(SourceError::NoSuchPath { path: path.to_owned() });
            }
            Err(e) => return Err(unreadable(e)),
            Ok(about) if !about.is_dir() => return Err(SourceError::NotADirectory { path: path.to_owned() }),
            Ok(_) => {}
        }
        let mut directory = Self { gathered: Gathered::new(path.display().to_string()), contents: BTreeMap::new() };
        let mut pending: Vec<(PathBuf, String, usize)> = vec![(path.to_owned(), String::new(), 0)];
        while let Some((place, shown, depth)) = pending.pop() {
            let listing = match fs::read_dir(&place) {
                Ok(listing) => listing,
                Err(e) if depth == 0 => return Err(unreadable(e)),
                Err(e) => {
                    directory.gathered.refuse(shown, cannot_read(&e));
                    continue;
                }
            };
            for entry in listing {
                let entry = entry.map_err(unreadable)?;
                directory.gathered.count()?;
                let kind = entry.file_type().map_or(Kind::Other, kind_of);
                match admit(&shown, entry.file_name().as_bytes(), kind, depth) {
                    Admission::Take(shown) => directory.take(&entry.path(), shown, Gathered::take)?,
                    Admission::Seal(shown) => directory.take(&entry.path(), shown, Gathered::seal)?,
                    Admission::Descend(shown) => pending.push((entry.path(), shown, depth + 1)),
                    Admission::Skip => {}
                    Admission::Refuse(shown, why) => directory.gathered.refuse(shown, why),
                }
            }
        }
        directory.gathered.sort();
        Ok(directory)
    }

    fn take(
        &mut self,
        file: &Path,
        shown: String,
        keep: fn(&mut Gathered, String, u64, String) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match read_text(file.as_os_str()) {
            Err(why) => self.gathered.refuse(shown, why),
            Ok(bytes) => {
                let content_id = hex::encode(Sha256::digest(&bytes));
                keep(&mut self.gathered, shown.clone(), bytes.len() as u64, content_id)?;
                self.contents.insert(shown, bytes);
            }
        }
        Ok(())
    }
}

impl FileSet for Directory {
    fn entries(&self) -> &[FileEntry] {
        &self.gathered.entries
    }

    fn sealed(&self) -> &[FileEntry] {
        &self.gathered.sealed
    }

    fn refused(&self) -> &[(String, Trouble)] {
        &self.gathered.refused
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble> {
        self.contents
            .get(&entry.path)
            .cloned()
            .ok_or_else(|| Trouble::new(codes::FILE_MISSING, format!("{} was not there", entry.path)))
    }
}

/// Reads a regular file of UTF-8 text within the limit; never follows a link and never waits for a pipe's writer.
fn read_text(path: &OsStr) -> Result<Vec<u8>, Trouble> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| cannot_read(&e))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| cannot_read(&e))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(fs::metadata(path).map_or(bytes.len() as u64, |about| about.len())));
    }
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err(not_utf8(e.valid_up_to())),
    }
}

fn cannot_read(error: &io::Error) -> Trouble {
    Trouble::new(codes::FILE_UNREADABLE, format!("it cannot be read: {}", chain(error)))
        .with_hint("check its owner and permissions")
}

fn kind_of(file_type: fs::FileType) -> Kind {
    if file_type.is_symlink() {
        Kind::Symlink
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_file() {
        Kind::File
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(directory: &Directory) -> Vec<(&str, &str)> {
        directory.refused().iter().map(|(path, why)| (path.as_str(), why.code.as_str())).collect()
    }

    #[test]
    fn a_directory_gives_its_yaml_files_in_order_and_with_their_hashes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        fs::write(dir.path().join("z.yaml"), "kind: Site\n").unwrap();
        fs::write(dir.path().join("b/c/a.yml"), "kind: Site\n").unwrap();
        fs::write(dir.path().join("b/note.txt"), "no config").unwrap();
        fs::write(dir.path().join(".git/x.yaml"), "hidden").unwrap();

        let read = Directory::open(dir.path()).unwrap();
        let paths: Vec<&str> = read.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["b/c/a.yml", "z.yaml"]);
        assert_eq!(read.entries()[0].content_id, read.entries()[1].content_id, "same content, same id");
        assert_eq!(read.read(&read.entries()[1]).unwrap(), b"kind: Site\n");
        assert!(read.refused().is_empty());
    }

    #[test]
    fn files_that_cannot_be_config_are_refused_by_path() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("good.yaml"), "a: 1").unwrap();
        fs::write(at("large.yaml"), vec![b'#'; 300 * 1024]).unwrap();
        fs::write(at("latin.yaml"), b"name: caf\xe9").unwrap();
        std::os::unix::fs::symlink("good.yaml", at("link.yaml")).unwrap();
        nix::unistd::mkfifo(&at("pipe.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();

        let read = Directory::open(dir.path()).unwrap();
        assert_eq!(read.entries().len(), 1);
        assert_eq!(
            refusals(&read),
            [
                ("large.yaml", "file_too_large"),
                ("latin.yaml", "not_utf8"),
                ("link.yaml", "symlink"),
                ("pipe.yaml", "not_a_file")
            ]
        );
        assert!(read.refused()[0].1.message.contains("307200"), "{}", read.refused()[0].1);
    }

    #[test]
    fn a_path_that_is_no_directory_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("site.yaml");
        fs::write(&file, "kind: Site").unwrap();
        assert!(matches!(Directory::open(&file), Err(SourceError::NotADirectory { .. })));
        assert!(matches!(Directory::open(&dir.path().join("gone")), Err(SourceError::NoSuchPath { .. })));
    }
}
