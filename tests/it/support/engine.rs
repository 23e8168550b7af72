//! A simulated Docker engine, for what Podman answers otherwise: one container and its state, told by a test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What the engine has. The container's name is `one`.
pub struct Simulation {
    /// As `docker inspect` shows it.
    pub container: Value,
    /// What lies at the paths of the container, as one file each.
    pub files: Vec<(&'static str, &'static str)>,
    /// All calls but those that only ask, in order.
    pub calls: Vec<String>,
    /// How long it thinks before each answer.
    pub pause: Duration,
}

pub struct Engine {
    directory: tempfile::TempDir,
    simulation: Arc<Mutex<Simulation>>,
}

impl Engine {
    /// With a container of these mounts and this `HostConfig`, in this state.
    pub fn start(mounts: &Value, host_config: &Value, state: &Value, files: Vec<(&'static str, &'static str)>) -> Self {
        let directory = tempfile::Builder::new().prefix("larder-engine-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let container = json!({
            "Id": "1".repeat(64), "Name": "/one", "State": state, "Mounts": mounts, "HostConfig": host_config,
            "Config": {"Image": "app:1", "Labels": {}, "Env": []}, "Image": "sha256:1",
        });
        let simulation =
            Arc::new(Mutex::new(Simulation { container, files, calls: Vec::new(), pause: Duration::ZERO }));
        let shared = simulation.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        Self { directory, simulation }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    pub fn calls(&self) -> Vec<String> {
        self.simulation.lock().unwrap().calls.clone()
    }

    /// From now on it thinks so long before each answer.
    pub fn is_slow(&self, pause: Duration) {
        self.simulation.lock().unwrap().pause = pause;
    }

    pub fn state(&self) -> Value {
        self.simulation.lock().unwrap().container["State"].clone()
    }
}

fn serve(client: UnixStream, shared: &Mutex<Simulation>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut first = String::new();
    let mut length = 0;
    let _ = reader.read_line(&mut first);
    loop {
        let mut line = String::new();
        // Who is killed before it asked has not asked.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = first.split(' ');
    let (verb, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let pause = shared.lock().unwrap().pause;
    std::thread::sleep(pause);
    let (status, kind, answer) = shared.lock().unwrap().answer(verb, target);
    let head = format!(
        "HTTP/1.1 {status} X\r\nApi-Version: 1.45\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let mut client = client;
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&answer));
}

impl Simulation {
    fn answer(&mut self, verb: &str, target: &str) -> (u16, &'static str, Vec<u8>) {
        const JSON: &str = "application/json";
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = path.rsplit('/').next().unwrap_or_default();
        let told = |value: Value| (200, JSON, value.to_string().into_bytes());
        if !matches!(verb, "GET" | "HEAD") {
            self.calls.push(call.to_owned());
        }
        match (verb, call) {
            ("GET", "_ping") => (200, "text/plain", b"OK".to_vec()),
            ("GET", "version") => told(json!({"Version": "26.1.0"})),
            ("GET", "json") if path.ends_with("/containers/json") => told(json!([{
                "Id": self.container["Id"], "Names": ["/one"], "Image": "app:1", "Mounts": self.container["Mounts"],
                "State": if self.container["State"]["Running"] == true { "running" } else { "exited" },
            }])),
            ("GET", "json") if path.contains("/containers/") => told(self.container.clone()),
            ("GET", "archive") => {
                let at = query.strip_prefix("path=").unwrap_or_default().replace("%2F", "/");
                match self.files.iter().find(|(path, _)| *path == at) {
                    Some((path, content)) => (200, "application/x-tar", tar_of(path, content)),
                    None => (404, JSON, b"{}".to_vec()),
                }
            }
            // As Docker does with a container whose program ended and is to be started again.
            ("POST", "pause") if self.container["State"]["Restarting"] == true => {
                let said = "Container one is restarting, wait until the container is running";
                (409, JSON, json!({ "message": said }).to_string().into_bytes())
            }
            ("POST", verb @ ("stop" | "start" | "pause" | "unpause")) => {
                let (running, paused) = (verb != "stop", verb == "pause");
                self.container["State"] = json!({"Running": running, "Paused": paused, "Restarting": false});
                (204, JSON, Vec::new())
            }
            _ => (404, JSON, b"{}".to_vec()),
        }
    }
}

/// A directory with one file in it.
fn tar_of(path: &str, content: &str) -> Vec<u8> {
    let root = path.rsplit('/').next().unwrap_or_default();
    let mut builder = tar::Builder::new(Vec::new());
    let mut member = |name: String, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, content).unwrap();
    };
    member(format!("{root}/"), tar::EntryType::Directory, b"");
    member(format!("{root}/file"), tar::EntryType::Regular, content.as_bytes());
    builder.into_inner().unwrap()
}
