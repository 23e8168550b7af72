//! A share whose server is gone: a FUSE file system that is mounted and never answers anything.
//!
//! It takes each request, so whoever waits for the answer can't even be killed: the worst that a share can do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Mounts itself, says that it is there, and reads requests without answering them.
const SERVER: &str = r#"
import ctypes, os, struct, sys
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"nas:/gone", sys.argv[1].encode(), b"fuse", 0, options) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
while True:
    request = os.read(fd, 1 << 20)
    _, opcode, unique = struct.unpack_from("<IIQ", request)
    if opcode == 26:
        body = struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0) + bytes(28)
        os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
        print("ready", flush=True)
"#;

pub struct DeadShare {
    point: PathBuf,
    server: Child,
}

impl DeadShare {
    /// Mounts one at `point`, which is made.
    pub fn mount(point: PathBuf) -> Self {
        use std::io::BufRead as _;
        std::fs::create_dir_all(&point).unwrap();
        let mut server = Command::new("python3")
            .args(["-c", SERVER])
            .arg(&point)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a FUSE mount needs root and /dev/fuse");
        Self { point, server }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// Whether `path` hangs for at least `bound`: that the share is what it should be.
    pub fn hangs(path: &Path, bound: Duration) -> bool {
        let mut stat = Command::new("stat").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(bound);
        // It can't be waited for, not even when it is killed.
        stat.try_wait().unwrap().is_none()
    }
}

impl Drop for DeadShare {
    fn drop(&mut self) {
        // With its server the connection ends, and whoever waits gets an error.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}
