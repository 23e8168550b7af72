//! Simulated applications (`tests/support/*.py`): started, watched, damaged on request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running simulator; it ends with its standard input, so none outlives a test.
pub struct Simulator {
    child: Child,
    pub url: String,
    /// Its private authority, when it speaks TLS.
    pub ca: PathBuf,
    /// Of its certificate, in hex.
    pub fingerprint: String,
    control: String,
}

impl Simulator {
    pub fn start(name: &str, options: &[&str]) -> Self {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(format!("{name}.py"));
        let mut child = Command::new("python3")
            .arg("-B")
            .arg(&program)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} did not start: {line:?}"));
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        Self {
            child,
            url: text("url"),
            ca: text("ca").into(),
            fingerprint: text("fingerprint"),
            control: text("control"),
        }
    }

    fn ask(&self, path: &str) -> Value {
        let mut stream = std::net::TcpStream::connect(&self.control).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub fn state(&self) -> Value {
        self.ask("/__state")
    }

    /// Sets a property of the application, such as `fault`; the value needs no escaping.
    pub fn set(&self, name: &str, value: &str) -> Value {
        self.ask(&format!("/__set?{name}={value}"))
    }

    /// How often `METHOD /path` was called.
    pub fn calls(&self, call: &str) -> usize {
        self.state()["requests"].as_array().unwrap().iter().filter(|each| *each == call).count()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
