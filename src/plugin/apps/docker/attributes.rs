//! Whether files of this host have attributes that an engine's archive does not carry.

use std::path::Path;

use crate::plugin::apps::docker::content::lies_below;

/// Entries that are looked at; in a larger volume the host's `tar` is asked in any case.
const ENTRIES_MAX: usize = 2_000_000;

/// Whether anything below `root`, or itself, has extended attributes or lists of access. What lies at `without`
/// (relative to it) does not count.
pub(super) fn any(root: &Path, without: &[String]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let mut open = vec![root.to_owned()];
    let mut entries = 0;
    if has(root) {
        return true;
    }
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return true;
            }
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path);
            if lies_below(name.as_os_str().as_bytes(), without) {
                continue;
            }
            if has(&path) {
                return true;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    false
}

fn has(path: &Path) -> bool {
    let mut names = [0_u8; 4096];
    match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => {
            let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
            // The first one an archive has; the second the system gives to each file anew.
            let carried: [&[u8]; 3] = [b"", b"security.capability", b"security.selinux"];
            names.into_iter().any(|name| !carried.contains(&name))
        }
        // So many that they do not fit.
        Err(rustix::io::Errno::RANGE) => true,
        Err(_) => false,
    }
}
