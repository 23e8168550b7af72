//! What tests of plugins for applications share: simulated applications, runs with a journal, faults, restores.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Stdio};

use larder::plugin::{CaptureFacts, CaptureInputs, RestoreOrder, Restored};

use super::*;

/// A simulated application of `tests/support`; it ends with this value.
pub(crate) struct Simulated {
    child: Child,
    _stdin: ChildStdin,
    pub(crate) port: u16,
    pub(super) directory: tempfile::TempDir,
}

impl Simulated {
    /// Starts `tests/support/<script> [args] DIRECTORY`, which prints its port.
    pub(crate) fn start(script: &str, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
        let mut child = std::process::Command::new("python3")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(path)
            .args(args)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the simulator prints its port");
        Self { _stdin: child.stdin.take().unwrap(), child, port, directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn state(&self) -> Value {
        serde_json::from_str(&http(self.port, "GET", "/__state", "")).unwrap()
    }

    pub(super) fn set(&self, values: Value) {
        http(self.port, "POST", "/__set", &values.to_string());
    }

    pub(super) fn fault(&self, fault: Value) {
        http(self.port, "POST", "/__fault", &fault.to_string());
    }

    /// No more faults.
    pub(super) fn mend(&self) {
        http(self.port, "POST", "/__mend", "");
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One call of a server on the loopback; the body of the answer.
pub(super) fn http(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

impl Bench {
    /// A target with its secrets in files.
    pub(super) fn of_app(plugin: &str, settings: Value, secrets: &[(&str, &str)]) -> Self {
        let mut bench = Self::new(plugin, settings);
        for (name, secret) in secrets {
            bench.target.settings[*name] = secret_file(bench.directory.path(), secret);
        }
        bench
    }

    /// What the journal still holds; an entry that a kill left half written is none.
    pub(super) fn noted(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        listed.filter(|path| !path.file_name().unwrap().as_encoded_bytes().starts_with(b".")).collect()
    }

    /// An empty staging directory, as every run has.
    pub(super) fn again(&self) {
        std::fs::remove_dir_all(self.staging()).unwrap();
        std::fs::create_dir(self.staging()).unwrap();
    }

    pub(super) fn capture_with(&self, previous: Option<CaptureFacts>) -> Result<Captured, PluginFailure> {
        let inputs = CaptureInputs { previous, journal: Some(self.journal()), ..CaptureInputs::default() };
        let (staging, context) = (self.staging(), self.context());
        let call = self.call(&staging, &inputs, &context);
        let work = self.catalogue.capture(&call, |_, _| {});
        runtime().block_on(work)
    }

    pub(super) fn validate_with(
        &self,
        captured: &Captured,
        previous: Option<CaptureFacts>,
    ) -> Result<Vec<Validation>, PluginFailure> {
        let inputs = CaptureInputs { previous, ..CaptureInputs::default() };
        let (staging, context) = (self.staging(), self.context());
        let call = self.call(&staging, &inputs, &context);
        let work = self.catalogue.validate(&call, captured);
        runtime().block_on(work)
    }

    /// Captures with a journal, proves it, and sees the journal empty.
    pub(super) fn proven_app(&self) -> Captured {
        let captured = self.capture_with(None).unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()));
        let validations = self.validate_with(&captured, None).unwrap();
        assert!(!validations.is_empty() && verdict(&validations) == Verdict::Proven, "{validations:#?}");
        assert_eq!(self.noted(), Vec::<PathBuf>::new());
        captured
    }

    /// Fails to capture with one of these codes, and tells the next step.
    pub(super) fn refused_app(&self, codes: &[&str]) -> PluginFailure {
        let failure = match self.capture_with(None) {
            Err(failure) => failure,
            Ok(captured) => {
                let validations = self.validate_with(&captured, None);
                panic!("it should fail with {codes:?}: {captured:#?} {validations:#?}")
            }
        };
        assert!(codes.contains(&failure.trouble.code.as_str()), "{codes:?}: {failure}\n{}", self.log());
        assert!(failure.trouble.hint.is_some(), "{failure} has no next step");
        failure
    }

    pub(super) fn restore_app(
        &self,
        captured: &Captured,
        options: Value,
        dry_run: bool,
    ) -> Result<Restored, PluginFailure> {
        let order = RestoreOrder { dry_run, tree: self.directory.path().join("tree"), options };
        let (staging, context) = (self.staging(), self.context());
        let inputs = CaptureInputs { journal: Some(self.journal()), ..CaptureInputs::default() };
        let call = self.call(&staging, &inputs, &context);
        let work = self.catalogue.restore(&call, facts(captured), order, |_| {});
        runtime().block_on(work)
    }

    pub(super) fn recover_app(&self) -> Result<(), PluginFailure> {
        let (journal, context) = (self.journal(), self.context());
        runtime().block_on(self.catalogue.recover(&self.target, self.run, &journal, &context, self.limits))
    }

    /// Puts right what a killed plugin left, as the daemon does.
    pub(super) fn put_right(&self) {
        self.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()));
    }

    /// Restores, and kills the plugin with SIGKILL as soon as `when` is true.
    pub(super) fn killed_in_a_restore(&self, captured: &Captured, options: Value, when: impl Fn() -> bool) {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| self.restore_app(captured, options, false));
            support::wait_for("the moment to kill it", Duration::from_secs(30), || when().then_some(()));
            let pid = super::docker_kill::plugin_in(&self.staging());
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            assert_eq!(running.join().unwrap().unwrap_err().trouble.code, "plugin_killed");
        });
    }

    /// Starts a capture as the host does, kills it with SIGKILL as soon as `when` is true.
    pub(super) fn killed(&self, when: impl Fn() -> bool) {
        let mut settings = self.target.settings.clone();
        for value in settings.as_object_mut().unwrap().values_mut() {
            if let Some(path) = value.get("file").and_then(Value::as_str) {
                *value = Value::String(std::fs::read_to_string(path).unwrap());
            }
        }
        let request = json!({
            "protocol": 1, "action": "capture", "target": "sample", "run": self.run.to_string(),
            "staging": self.staging(), "settings": settings, "journal": self.journal(),
        });
        let mut child = std::process::Command::new(support::larder())
            .args(["plugin", self.target.plugin.as_str()])
            .current_dir(self.staging())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        support::wait_for("the moment to kill it", Duration::from_secs(20), || when().then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

pub(super) fn facts(captured: &Captured) -> CaptureFacts {
    CaptureFacts {
        artifacts: captured.artifacts.clone(),
        sources: captured.sources.clone(),
        app_version: captured.app_version.clone(),
        figures: captured.figures.clone(),
    }
}

/// A vendor's OpenAPI document; none, with a word, where it is not there.
pub(super) fn spec(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/specs");
    let directory = std::env::var_os("LARDER_SPECS").map_or(beside, PathBuf::from);
    let path = directory.join(name);
    if path.is_file() {
        return Some(path);
    }
    skip(Lack::Specs, format_args!("{} is not there (LARDER_SPECS)", path.display()));
    None
}
