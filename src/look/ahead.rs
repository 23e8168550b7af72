//! A program that looks first where a look may hang for good.
//!
//! A thread that waits for a FUSE server can't even be killed, so a process with one never ends. On file systems that
//! somebody else serves, `stat` is therefore sent ahead: it may hang in the place of a thread of ours, which waits for it
//! and can be left at any time. Where there is no `stat`, or the way leads over a link, the thread takes the risk.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the types of file systems begin that a server or another program answers for.
const SERVED: [&str; 13] =
    ["fuse", "nfs", "cifs", "smb", "9p", "ceph", "autofs", "afs", "glusterfs", "lustre", "davfs", "coda", "virtiofs"];

/// Has `stat` look at `path` where that may hang; comes back when it is gone. Blocking.
pub(super) fn send(path: &Path) {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    if !is_served(&table, path) {
        return;
    }
    let stat = Command::new("stat")
        .arg("-L")
        .arg("--")
        .arg(path)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Whatever it found: that it ended is the answer.
    drop(stat);
}

/// Whether the deepest mount above `path`, as it is written, is one that somebody else answers for.
fn is_served(table: &[u8], path: &Path) -> bool {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(mount);
    let above = mounts.filter(|(point, _)| path.starts_with(point) && point != Path::new("/"));
    let deepest = above.max_by_key(|(point, _)| point.components().count());
    deepest.is_some_and(|(_, kind)| SERVED.iter().any(|served| kind.starts_with(served)))
}

/// Mount point and type in a line of the kernel's list.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescaped(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((point, String::from_utf8_lossy(kind).into_owned()))
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
    fn only_what_somebody_else_serves_needs_somebody_to_look_ahead() {
        let table = b"\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
30 27 254:0 /data /srv/data rw,relatime - ext4 /dev/vda rw\n\
31 27 0:40 / /mnt/auto rw - autofs systemd-1 rw\n\
32 27 0:41 / /mnt/my\\040nas rw shared:4 - nfs4 nas:/x rw\n\
33 32 0:42 / /mnt/my\\040nas/local rw - ext4 /dev/vdb rw\n\
34 27 0:43 / /home/me/phone rw - fuse.sshfs phone:/ rw\n\
nonsense\n\\";
        let served = |path: &str| is_served(table, Path::new(path));
        assert!(served("/mnt/my nas/restic") && served("/mnt/auto") && served("/home/me/phone/x"));
        assert!(!served("/mnt/my nas/local/x") && !served("/srv/data/x") && !served("/etc/x") && !served("/"));
    }
}
