//! Whether a mount holds something of somebody's, or only what every new file system has. Blocking.
//!
//! A new disk in the place of a lost one has `lost+found`, one that was in a desktop a bin for waste: it stands for nothing.

use std::ffi::OsStr;
use std::path::Path;

/// Entries that are looked at; where so many are no file either, it is not called empty.
const ENTRIES_MAX: usize = 20_000;

/// What systems make at the root of a file system by themselves, whatever is in it.
const BY_SYSTEMS: &[&str] =
    &["$RECYCLE.BIN", ".Spotlight-V100", ".Trash", ".Trashes", ".fseventsd", "RECYCLER", "System Volume Information"];

/// A bin for what one user threw away.
const BIN_OF_USER: &str = ".Trash-";

/// Whose files are no readable ones, and mostly none.
const FOUND: &str = "lost+found";

/// Whether there is more at `point` than empty directories and what systems make by themselves. What lies in `others` (other
/// mounts, what is Larder's own) is not looked into: a run makes such anew.
pub(super) fn holds_something(point: &Path, others: &dyn Fn(&Path) -> bool) -> bool {
    if point.is_file() {
        return true;
    }
    let mut open = vec![point.to_owned()];
    let mut looked = 0;
    while let Some(directory) = open.pop() {
        let is_root = directory == point;
        let Ok(entries) = std::fs::read_dir(&directory) else {
            if is_root || directory.file_name() == Some(OsStr::new(FOUND)) {
                continue;
            }
            // What may not be looked into may hold anything.
            return true;
        };
        for entry in entries {
            let Ok(entry) = entry else { return true };
            looked += 1;
            if (is_root && is_by_systems(&entry.file_name())) || others(&entry.path()) {
                continue;
            }
            if looked > ENTRIES_MAX || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                return true;
            }
            open.push(entry.path());
        }
    }
    false
}

fn is_by_systems(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    BY_SYSTEMS.iter().any(|each| each.eq_ignore_ascii_case(name)) || name.starts_with(BIN_OF_USER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_directories_and_what_systems_make_by_themselves_are_nothing() {
        let point = tempfile::tempdir().unwrap();
        let put = |file: &str| {
            let path = point.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        let holds = || holds_something(point.path(), &|_| false);
        assert!(!holds());
        for directory in ["lost+found", "letters/2024/may", ".Trash-1000/files"] {
            std::fs::create_dir_all(point.path().join(directory)).unwrap();
            assert!(!holds(), "{directory}");
        }
        for file in [
            ".Trash-1000/files/old",
            ".Trashes/501/old",
            "System Volume Information/WPSettings.dat",
            "$Recycle.Bin/S-1-5/desktop.ini",
        ] {
            put(file);
            assert!(!holds(), "{file}");
        }
        put("letters/2024/may/deed");
        assert!(holds());
    }

    #[test]
    fn a_file_anywhere_is_something_and_what_a_check_of_the_disk_found_too() {
        for file in ["deed", "lost+found/#42", "a/b/c/d/deed", "letters/.Trash-1000/deed"] {
            let point = tempfile::tempdir().unwrap();
            let path = point.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let holds = |path: &Path| holds_something(path, &|_| false);
            assert!(holds(point.path()) && holds(&path), "{file}");
            assert!(!holds(Path::new("/there/is/none")));
            let top = point.path().join(Path::new(file).components().next().unwrap());
            assert!(!holds_something(point.path(), &|path| path == top), "{file}: another's");
        }
    }
}
