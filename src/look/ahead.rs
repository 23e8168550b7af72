//! A program that looks first where a look may hang for good.
//!
//! A thread that waits for a FUSE server can't even be killed, so a process with one never ends. On file systems that
//! somebody else serves, `stat` is therefore sent ahead: it may hang in the place of a thread of ours, which waits for it
//! and can be left at any time. Where there is no `stat`, or the way leads over a link, the thread takes the risk.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::mounts::{self, Mount};

/// How the types of file systems begin that a server or another program answers for.
const SERVED: [&str; 13] =
    ["fuse", "nfs", "cifs", "smb", "9p", "ceph", "autofs", "afs", "glusterfs", "lustre", "davfs", "coda", "virtiofs"];

/// Programs that look, and at what; none of them is reaped while it is here, so its pid is its own.
static LOOKING: Mutex<Vec<(Pid, PathBuf)>> = Mutex::new(Vec::new());

/// What became of a program that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It came back, or none was needed or could be had.
    Back,
    /// It hung, and somebody ended it.
    Ended,
}

/// Ends those that look at `path`: the threads that wait for them end, too, without a look.
pub(super) fn end(path: &Path) {
    end_those(|looked| looked == path);
}

pub(super) fn end_all() {
    end_those(|_| true);
}

fn end_those(is_meant: impl Fn(&Path) -> bool) {
    let looking = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    for (pid, _) in looking.iter().filter(|(_, path)| is_meant(path)) {
        // It ended in this moment, when this fails.
        let _ = kill(*pid, Signal::SIGKILL);
    }
}

/// Has `stat` look at `path` where that may hang; comes back when it is gone. Blocking.
pub(super) fn send(path: &Path) -> Sent {
    if !is_served(&mounts::all(), path) {
        return Sent::Back;
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
        .spawn();
    let Ok(mut stat) = stat else { return Sent::Back };
    let pid = i32::try_from(stat.id()).ok().map(Pid::from_raw);
    if let Some(pid) = pid {
        LOOKING.lock().unwrap_or_else(PoisonError::into_inner).push((pid, path.to_owned()));
        // Not reaped yet: until it is out of the list its pid must not be another's.
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        LOOKING.lock().unwrap_or_else(PoisonError::into_inner).retain(|(each, _)| *each != pid);
    }
    // Whatever it found: that it ended by itself is the answer.
    match stat.wait() {
        Ok(status) if status.signal() == Some(Signal::SIGKILL as i32) => Sent::Ended,
        _ => Sent::Back,
    }
}

/// Whether the deepest mount above `path`, as it is written, is one that somebody else answers for.
fn is_served(table: &[Mount], path: &Path) -> bool {
    let deepest = mounts::above(table, path).filter(|mount| mount.point != Path::new("/"));
    deepest.is_some_and(|mount| SERVED.iter().any(|served| mount.kind.starts_with(served)))
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
        let served = |path: &str| is_served(&mounts::read(table), Path::new(path));
        assert!(served("/mnt/my nas/restic") && served("/mnt/auto") && served("/home/me/phone/x"));
        assert!(!served("/mnt/my nas/local/x") && !served("/srv/data/x") && !served("/etc/x") && !served("/"));
    }
}
