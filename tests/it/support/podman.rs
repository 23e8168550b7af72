//! A throwaway container engine: Podman's Docker-compatible service with private storage, gone when dropped.
//!
//! No image is pulled: one is made of a static busybox, one lets the host's `/usr` in, so that real servers run in it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::skip::{Lack, skip};
use super::wait_for;

const CONTAINERS_CONF: &str = "[engine]
runtime=\"runc\"
cgroup_manager=\"cgroupfs\"
events_logger=\"none\"
[containers]
default_ulimits=[\"nofile=1024:1024\",\"nproc=1000:1000\"]
netns=\"none\"
";

/// A program that ends at once when it is asked to.
pub const POLITE: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
/// One that has to be killed.
pub const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.05; done";

pub struct Podman {
    directory: tempfile::TempDir,
    service: Option<Child>,
}

impl Podman {
    /// The engine that all tests of this process share; none, with a word why, where Podman cannot run at all.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Podman>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        match Self::start() {
            Ok(podman) => {
                let podman = Arc::new(podman);
                *shared = Arc::downgrade(&podman);
                Some(podman)
            }
            Err(why) => {
                skip(Lack::Engine, format_args!("no container engine for the test: {why}"));
                None
            }
        }
    }

    fn start() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("larder-podman-").tempdir_in("/tmp").unwrap();
        std::fs::write(directory.path().join("containers.conf"), CONTAINERS_CONF).unwrap();
        let mut podman = Self { directory, service: None };
        let version = podman.command().arg("--version").output().map_err(|error| format!("podman: {error}"))?;
        assert!(version.status.success(), "{}", String::from_utf8_lossy(&version.stderr));
        podman.make_images();
        // Whether it can run anything here, such as without the rights for it.
        let tried = podman.try_run(&["run", "--rm", "localtest:1", "true"]);
        if !tried.status.success() {
            return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
        }
        let mut command = podman.command();
        command.args(["system", "service", "--time=0"]).arg(format!("unix://{}", podman.socket().display()));
        podman.service =
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let socket = podman.socket();
        wait_for("the engine's socket", Duration::from_secs(30), || UnixStream::connect(&socket).ok());
        Ok(podman)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    fn command(&self) -> Command {
        let at = |name: &str| self.directory.path().join(name);
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", at("containers.conf"))
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            .args(["--storage-driver", "vfs"]);
        command
    }

    fn try_run(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Calls podman; answers its standard output.
    pub fn podman(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        assert!(output.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn make_images(&self) {
        let folder = self.directory.path().join("image");
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox (Debian: apt install busybox-static)");
        std::fs::copy(busybox, folder.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "ls", "mkdir", "true", "rm", "chown", "chmod", "ln", "dd", "test"] {
            std::os::unix::fs::symlink("busybox", folder.join("bin").join(applet)).unwrap();
        }
        std::fs::create_dir(folder.join("tmp")).unwrap();
        self.import(&folder, &["localtest:1"]);
        // The host's programs, by a mount of /usr; the data directories belong to nobody.
        let folder = self.directory.path().join("usr-image");
        for name in
            ["usr", "tmp", "etc", "run/postgresql", "run/mysqld", "data", "var/lib/postgresql/data", "var/lib/mysql"]
        {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["run/postgresql", "run/mysqld", "data", "tmp", "var/lib/postgresql/data", "var/lib/mysql"] {
            std::os::unix::fs::chown(folder.join(name), Some(65534), Some(65534)).unwrap_or(());
        }
        std::os::unix::fs::symlink("/run", folder.join("var/run")).unwrap();
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
            .unwrap();
        std::fs::write(folder.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
        self.import(&folder, &["postgres:15", "redis:7", "mariadb:10"]);
    }

    fn import(&self, folder: &Path, names: &[&str]) {
        let tar = self.directory.path().join("image.tar");
        let made = Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&tar).arg(".").status().unwrap();
        assert!(made.success());
        for name in names {
            self.podman(&["import", "-q", tar.to_str().unwrap(), name]);
        }
    }

    /// `running`, `paused`, `exited`, `created`, …
    pub fn state(&self, container: &str) -> String {
        self.podman(&["inspect", "--type", "container", "--format", "{{.State.Status}}", container])
    }

    /// Where a volume lies on this host.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.podman(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into()
    }

    /// Starts a container in the background; `args` come before the image.
    pub fn start_container(&self, name: &str, args: &[&str], image: &str, script: &str) {
        let mut all = vec!["run", "-d", "--name", name];
        all.extend(args);
        all.extend([image, "sh", "-c", script]);
        self.podman(&all);
    }

    /// Runs a script in a container; answers its output.
    pub fn exec(&self, container: &str, script: &str) -> String {
        self.podman(&["exec", container, "sh", "-c", script])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // One container that is just being changed must not let the others live on.
        for _ in 0..5 {
            let removed = self.try_run(&["rm", "--all", "--force", "--time", "0"]);
            let left = self.try_run(&["ps", "--all", "--quiet"]);
            if removed.status.success() && left.stdout.is_empty() {
                break;
            }
            eprintln!("containers are left: {}", String::from_utf8_lossy(&removed.stderr));
            let _ = self.try_run(&["unpause", "--all"]);
            std::thread::sleep(Duration::from_millis(500));
        }
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        // Who watched over a program in a container waits for minutes before he goes.
        let ours = self.directory.path().to_str().unwrap().as_bytes().to_vec();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let watcher = line.split(|byte| *byte == 0).next().is_some_and(|program| program.ends_with(b"conmon"));
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (true, true, Some(pid)) = (watcher, line.windows(ours.len()).any(|part| part == ours), pid) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// A socket before the engine's that holds calls back: those whose request has a certain text in it.
pub struct Gate {
    directory: tempfile::TempDir,
    state: Arc<GateState>,
}

/// What becomes of an answer on its way.
#[derive(Clone, Debug)]
pub enum Spoil {
    /// Another one comes, and the engine is not asked.
    Answer(&'static str),
    /// It ends after so many bytes.
    CutAfter(usize),
    /// So much comes, and then nothing more.
    Silence(&'static str),
    /// The first time nothing comes; then all is well.
    HangUpOnce,
}

struct GateState {
    pattern: Mutex<Option<String>>,
    spoilt: Mutex<Option<(String, Spoil)>>,
    /// How many of its calls pass before.
    pass: AtomicUsize,
    arrived: AtomicBool,
    /// Of a connection that has most.
    calls: AtomicUsize,
}

impl Gate {
    pub fn before(engine: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("larder-gate-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(directory.path().join("gate.sock")).unwrap();
        let state = Arc::new(GateState {
            pattern: Mutex::new(None),
            spoilt: Mutex::new(None),
            pass: AtomicUsize::new(0),
            arrived: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
        });
        let (shared, engine) = (state.clone(), engine.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, engine) = (shared.clone(), engine.clone());
                std::thread::spawn(move || forward(client, &engine, &shared));
            }
        });
        Self { directory, state }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("gate.sock")
    }

    /// From now on, a request with `pattern` in its head waits; `pass` of them go through before.
    pub fn hold(&self, pattern: &str, pass: usize) {
        self.state.pass.store(pass, Ordering::SeqCst);
        self.state.arrived.store(false, Ordering::SeqCst);
        *self.state.pattern.lock().unwrap() = Some(pattern.to_owned());
    }

    /// From now on, the answer to a request with `pattern` in its head is spoilt.
    pub fn spoil(&self, pattern: &str, how: Spoil) {
        *self.state.spoilt.lock().unwrap() = Some((pattern.to_owned(), how));
    }

    pub fn mend(&self) {
        *self.state.spoilt.lock().unwrap() = None;
    }

    pub fn is_spoilt(&self) -> bool {
        self.state.spoilt.lock().unwrap().is_some()
    }

    pub fn most_calls_of_a_connection(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// Waits until one is held.
    pub fn wait(&self) {
        wait_for("the held call", Duration::from_secs(60), || self.state.arrived.load(Ordering::SeqCst).then_some(()));
    }

    /// Whether one is held now.
    pub fn arrived(&self) -> bool {
        self.state.arrived.load(Ordering::SeqCst)
    }

    pub fn release(&self) {
        *self.state.pattern.lock().unwrap() = None;
    }
}

fn forward(mut client: UnixStream, engine: &Path, gate: &GateState) {
    let Ok(mut server) = UnixStream::connect(engine) else { return };
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let left_back = left.clone();
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = back_from.read(&mut chunk) {
            let left = left_back.load(Ordering::SeqCst);
            let length = length.min(left);
            if left != usize::MAX {
                left_back.store(left - length, Ordering::SeqCst);
            }
            // Behind the gate it looks like Docker, so that volumes come through the engine.
            let name = b"Libpod-Api-Version";
            while let Some(at) = chunk[..length].windows(name.len()).position(|part| part == name) {
                chunk[at] = b'X';
            }
            if back_to.write_all(&chunk[..length]).is_err() || left == length {
                break;
            }
        }
        let _ = back_to.shutdown(std::net::Shutdown::Both);
    });
    let mut chunk = vec![0; 64 << 10];
    let mut calls = 0;
    while let Ok(length @ 1..) = client.read(&mut chunk) {
        let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
        calls += usize::from(["GET /", "HEAD /", "POST /", "PUT /"].iter().any(|verb| text.starts_with(verb)));
        gate.calls.fetch_max(calls, Ordering::SeqCst);
        let spoilt = gate.spoilt.lock().unwrap().clone();
        match spoilt.filter(|(pattern, _)| text.contains(pattern)) {
            Some((_, Spoil::CutAfter(bytes))) => left.store(bytes, Ordering::SeqCst),
            Some((_, Spoil::Answer(answer))) => {
                let _ = client.write_all(answer.as_bytes());
                break;
            }
            Some((_, Spoil::HangUpOnce)) => {
                *gate.spoilt.lock().unwrap() = None;
                break;
            }
            Some((_, Spoil::Silence(beginning))) => {
                let _ = client.write_all(beginning.as_bytes());
                while gate.spoilt.lock().unwrap().is_some() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                break;
            }
            None => {}
        }
        let held =
            |gate: &GateState| gate.pattern.lock().unwrap().as_ref().is_some_and(|pattern| text.contains(pattern));
        let mut was_held = held(gate);
        if was_held && gate.pass.load(Ordering::SeqCst) > 0 {
            gate.pass.fetch_sub(1, Ordering::SeqCst);
            was_held = false;
        }
        while was_held && held(gate) {
            gate.arrived.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
        }
        // Whoever asked may be dead by now: then the engine never hears of it.
        if was_held && client_is_gone(&client) {
            break;
        }
        if server.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

fn client_is_gone(client: &UnixStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let gone = matches!((&*client).read(&mut byte), Ok(0));
    client.set_nonblocking(false).unwrap();
    gone
}
