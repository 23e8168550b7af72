//! Compares two trees bit for bit: names, kinds, contents, modes and link targets.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What was found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Equal {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Compares `left` with `right`, both directories.
///
/// # Errors
/// The first difference, or why something could not be read.
pub(crate) fn trees(left: &Path, right: &Path) -> Result<Equal, String> {
    let (ours, theirs) = (list(left)?, list(right)?);
    if let Some(missing) = ours.keys().find(|path| !theirs.contains_key(*path)) {
        return Err(format!("{} is missing in {}", missing.display(), right.display()));
    }
    if let Some(extra) = theirs.keys().find(|path| !ours.contains_key(*path)) {
        return Err(format!("{} is too much in {}", extra.display(), right.display()));
    }
    let mut equal = Equal::default();
    for (path, kind) in &ours {
        if theirs.get(path) != Some(kind) {
            return Err(format!("{} is of another kind or mode", path.display()));
        }
        if let Kind::File { .. } = kind {
            equal.bytes += same_content(&left.join(path), &right.join(path))?;
            equal.files += 1;
        }
    }
    Ok(equal)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Directory { mode: u32 },
    File { mode: u32, bytes: u64 },
    Link { to: PathBuf },
    Other,
}

fn list(root: &Path) -> Result<BTreeMap<PathBuf, Kind>, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| format!("{}: {error}", dir.display()))?.path();
            let meta = std::fs::symlink_metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mode = meta.permissions().mode() & 0o7777;
            let kind = if meta.is_dir() {
                waiting.push(path.clone());
                Kind::Directory { mode }
            } else if meta.is_file() {
                Kind::File { mode, bytes: meta.len() }
            } else if meta.is_symlink() {
                Kind::Link { to: std::fs::read_link(&path).map_err(|error| format!("{}: {error}", path.display()))? }
            } else {
                Kind::Other
            };
            found.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), kind);
        }
    }
    Ok(found)
}

fn same_content(left: &Path, right: &Path) -> Result<u64, String> {
    let open = |path: &Path| std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()));
    let (mut ours, mut theirs) = (open(left)?, open(right)?);
    let (mut ours_chunk, mut theirs_chunk) = (vec![0_u8; 1 << 16], vec![0_u8; 1 << 16]);
    let mut bytes = 0_u64;
    loop {
        let count = ours.read(&mut ours_chunk).map_err(|error| format!("{}: {error}", left.display()))?;
        let (Some(mine), Some(other)) = (ours_chunk.get(..count), theirs_chunk.get_mut(..count)) else { break };
        if count == 0 {
            break;
        }
        theirs.read_exact(other).map_err(|error| format!("{}: {error}", right.display()))?;
        if mine != other {
            return Err(format!("{} differs within the 64 KiB from byte {bytes} on", left.display()));
        }
        bytes += count as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_equal_only_to_the_last_bit() {
        let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [left.path(), right.path()] {
            std::fs::create_dir(root.join("d")).unwrap();
            std::fs::write(root.join("d/a"), vec![7_u8; 100_000]).unwrap();
            std::os::unix::fs::symlink("a", root.join("d/link")).unwrap();
        }
        assert_eq!(trees(left.path(), right.path()), Ok(Equal { files: 1, bytes: 100_000 }));
        let mut bytes = vec![7_u8; 100_000];
        bytes[99_999] = 8;
        std::fs::write(right.path().join("d/a"), bytes).unwrap();
        assert!(trees(left.path(), right.path()).unwrap_err().contains("differs"));
        std::fs::remove_file(right.path().join("d/a")).unwrap();
        assert!(trees(left.path(), right.path()).unwrap_err().contains("missing"));
    }
}
