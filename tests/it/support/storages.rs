//! Storages for repositories: rclone as a server of S3, REST and SFTP, an sshd, moto; on the loopback, ended on drop.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use larder::config::model::{BucketStyle, Tls};
use larder::storage::S3Place;
use secrecy::SecretString;

use super::skip::{Lack, skip};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(30);

fn tool(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(path)
}

/// A running server, and the directory that is its own.
pub struct Server {
    name: String,
    child: Child,
    command: Command,
    pub port: u16,
    pub directory: tempfile::TempDir,
}

impl Server {
    fn start(name: &str, directory: tempfile::TempDir, port: u16, mut command: Command) -> Self {
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        command
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().expect(name);
        let server = Self { name: name.to_owned(), child, command, port, directory };
        server.listens();
        server
    }

    fn listens(&self) {
        super::wait_for(&self.name, START_MAX, || TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop));
    }

    /// Ends it at once; what it serves stays.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again behind [`Self::kill`], at the same port.
    pub fn start_again(&mut self) {
        self.child = self.command.spawn().expect(&self.name);
        self.listens();
    }

    /// What it serves; for rclone the root, for sshd nothing special.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn place() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("larder-storage-").tempdir_in("/tmp").unwrap();
    std::fs::create_dir(directory.path().join("files")).unwrap();
    directory
}

/// `rclone serve KIND …`; none, and said: it is not here. `fill` gets the directory that is served, before it starts.
pub fn rclone(kind: &str, options: &[&str], fill: impl FnOnce(&Path)) -> Option<Server> {
    let program = tool("rclone/rclone");
    if !program.is_file() {
        skip(Lack::Rclone, "rclone is not there (tests/setup/rclone.sh)");
        return None;
    }
    let (directory, port) = (place(), super::free_port());
    fill(&directory.path().join("files"));
    let mut command = Command::new(program);
    command.args(["serve", kind, "--config", "/dev/null", "--addr", &format!("127.0.0.1:{port}")]).args(options);
    if kind != "restic" {
        // What is put is there at once. What it knows of directories stays: without that it takes seconds a call.
        command.args(["--vfs-cache-mode", "off"]);
    }
    command.arg("files");
    Some(Server::start(&format!("rclone serve {kind}"), directory, port, command))
}

/// moto's server; none, and said: it is not here.
pub fn moto() -> Option<Server> {
    let program = tool("moto/bin/python");
    if !program.is_file() {
        skip(Lack::Moto, "moto is not there (tests/setup/moto.sh)");
        return None;
    }
    let (directory, port) = (place(), super::free_port());
    let mut command = Command::new(program);
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    Some(Server::start("moto", directory, port, command))
}

/// An sshd of this user, with keys `host`, `other-host`, `login`, `other-login` in its directory.
pub fn sshd() -> Server {
    let (directory, port) = (place(), super::free_port());
    for name in ["host", "other-host", "login", "other-login"] {
        key(&directory.path().join(name));
    }
    std::fs::copy(directory.path().join("login.pub"), directory.path().join("authorized")).unwrap();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n\
         Subsystem sftp internal-sftp\n",
        directory.path().display()
    );
    std::fs::write(directory.path().join("config"), config).unwrap();
    if nix::unistd::geteuid().is_root() {
        // Debian's sshd wants it; the package makes it at its start.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-f"]).arg(directory.path().join("config"));
    Server::start("sshd", directory, port, command)
}

/// Makes a key of SSH and its `.pub`.
pub fn key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen").success());
}

/// `TYPE KEY` of a public key, without its comment.
pub fn public(path: &Path) -> String {
    let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// One call of HTTP without any credentials; answers with the whole answer.
pub fn http(port: u16, method: &str, path: &str, headers: &[&str], body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let headers = headers.iter().fold(String::new(), |all, header| all + header + "\r\n");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server that answers each connection as `play` says, which is handed the head of the request. Ends with the test.
pub fn toxic(play: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let play = std::sync::Arc::new(play);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let play = std::sync::Arc::clone(&play);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                play(&String::from_utf8_lossy(&head), &mut stream);
            });
        }
    });
    port
}

/// A server that accepts, and says nothing ever.
pub fn black_hole() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    port
}

/// What opens the buckets of the tests; who looks for a leak looks for these.
pub const ACCESS_KEY: &str = "LARDERTESTACCESS";
pub const SECRET_KEY: &str = "canary-secret-of-the-bucket";

/// The part of a bucket below `prefix`, for the client of storages.
pub fn s3_place(port: u16, bucket: &str, prefix: &str) -> S3Place {
    let _ = rustls::crypto::ring::default_provider().install_default();
    S3Place {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: "us-east-1".to_owned(),
        style: BucketStyle::Path,
        access_key: SecretString::from(ACCESS_KEY),
        secret_key: SecretString::from(SECRET_KEY),
        tls: Tls::default(),
        allow_http: false,
        locked: None,
    }
}
