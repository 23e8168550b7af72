//! A whole site for a test: config repository, bare repository with hooks, data, restic repository, and the daemon.
#![allow(dead_code)]

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{larder, restic, storages, wait_for};

/// How long the daemon may take to answer for the first time on a loaded machine.
const START_MAX: Duration = Duration::from_secs(30);
/// Looks whether what was given up is forgotten, 20 ms apart; at a clock that a test made there may be runs in between.
const FORGET_LOOKS: usize = 300;
/// How long one run may take on a loaded machine.
pub const RUN_MAX: Duration = Duration::from_secs(120);

pub struct Site {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    extra: Vec<String>,
    env: Vec<(String, OsString)>,
    user: Option<u32>,
    hosts: Option<PathBuf>,
}

impl Site {
    /// A site with an empty config repository; no daemon yet.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("larder-it-").tempdir().unwrap();
        let site = Self { dir, daemon: None, extra: Vec::new(), env: Vec::new(), user: None, hosts: None };
        for name in ["state", "backups", "secrets", "data", "config"] {
            std::fs::create_dir(site.path(name)).unwrap();
        }
        site.write("secrets/repository", "a password of the test\n");
        site.write("data/a.txt", "the first file\n");
        site.write("data/sub/b.txt", "the second file\n");
        let bare = site.path("larder.git");
        let settings = larder::source::setup::Settings {
            larder: larder(),
            socket: Some(site.path("state/larder.sock")),
            plugins: None,
            root: String::new(),
            git: None,
        };
        larder::source::setup::init_bare(&bare, "main", &settings).unwrap();
        assert!(site.git(&["init", "-q", "-b", "main"]).status.success());
        assert!(site.git(&["remote", "add", "origin", bare.to_str().unwrap()]).status.success());
        site
    }

    /// A site whose target `files` protects `data`, pushed, with the daemon running.
    pub fn running() -> Self {
        let mut site = Self::new();
        site.base_config("\"0 3 * * *\"");
        site.start_and_push();
        site
    }

    /// Site, one destination, one default policy with `schedule`, and the target `files`.
    pub fn base_config(&self, schedule: &str) {
        let root = self.root().display().to_string();
        self.write(
            "config/site.yaml",
            &format!("kind: Site\nname: test\ntimezone: UTC\nartifacts: {{path: {root}/backups, min_free: 1MiB, keep_runs: 3}}\n"),
        );
        self.write(
            "config/destinations.yaml",
            &format!(
                "kind: Destination\nname: local\nrepository: {{type: local, path: {root}/restic}}\npassword: {{file: {root}/secrets/repository}}\n"
            ),
        );
        self.write(
            "config/policies.yaml",
            &format!(
                "kind: Policy\nname: daily\ndefault: true\nschedule: {schedule}\njitter: 0s\nretention: {{last: 3}}\ndestinations: [local]\n"
            ),
        );
        self.write(
            "config/targets.yaml",
            &format!("kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data]}}\n"),
        );
    }

    /// Targets of these names, which all protect `data`, in the place of the one of [`Self::base_config`].
    pub fn targets(&self, names: &[&str]) {
        let root = self.root().display();
        let document =
            |name: &&str| format!("---\nkind: Target\nname: {name}\nplugin: files\nwith: {{paths: [{root}/data]}}\n");
        self.write("config/targets.yaml", &names.iter().map(document).collect::<String>());
    }

    /// A program for this site, in the shell's words.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        self.write(name, &format!("#!/bin/sh\n{script}"));
        let path = self.path(name);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// The fields of a `repository` below `home` in a bucket of this server, whose keys are written beside it.
    pub fn s3_repository(&self, port: u16, bucket: &str) -> String {
        self.write("secrets/access", storages::ACCESS_KEY);
        self.write("secrets/secret", storages::SECRET_KEY);
        let root = self.root().display();
        format!(
            "type: s3, endpoint: \"http://127.0.0.1:{port}\", bucket: {bucket}, prefix: home, \
             access_key: {{file: {root}/secrets/access}}, secret_key: {{file: {root}/secrets/secret}}"
        )
    }

    /// The document of a destination behind others; `repository` are the fields of it, `more` further lines.
    pub fn destination(&self, name: &str, repository: &str, more: &str) -> String {
        let root = self.root().display();
        format!(
            "---\nkind: Destination\nname: {name}\nrepository: {{{repository}}}\npassword: {{file: {root}/secrets/repository}}\n{more}"
        )
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    pub fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Replaces what a file has, which must be there, by something else.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{text}");
        self.write(file, &text.replace(from, to));
    }

    /// Options that the daemon gets from its next start on.
    pub fn serve_with(&mut self, options: &[&str]) {
        self.extra = options.iter().map(|each| (*each).to_owned()).collect();
    }

    /// A variable that the daemon gets from its next start on.
    pub fn daemon_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.to_owned(), value.into()));
    }

    /// The user that the daemon runs as from its next start on.
    pub fn daemon_as(&mut self, user: u32) {
        self.user = Some(user);
    }

    /// The names of hosts that the daemon knows from its next start on, beside those of this host.
    pub fn daemon_hosts(&mut self, lines: &str) {
        let known = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        self.write("hosts", &format!("{known}\n{lines}\n"));
        self.hosts = Some(self.path("hosts"));
    }

    pub fn command(&self) -> Command {
        self.command_of(Command::new(larder()))
    }

    /// larder itself; with hosts of its own in a mount namespace of its own, under the same pid.
    fn daemon_command(&self) -> Command {
        let Some(hosts) = &self.hosts else { return self.command() };
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(hosts).arg(larder());
        self.command_of(command)
    }

    fn command_of(&self, mut command: Command) -> Command {
        command
            .env_remove("LARDER_URL")
            .env("LARDER_STATE", self.path("state"))
            .env("LARDER_RESTIC", restic())
            .env("HOME", self.root())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        wait_for("the daemon's first answer", START_MAX, || self.call("system.status", json!({})).ok());
    }

    /// Starts the daemon and pushes the config that is written.
    pub fn start_and_push(&mut self) {
        self.start();
        let pushed = self.push("first");
        assert!(pushed.status.success(), "{}", text(&pushed));
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = std::fs::File::options().append(true).create(true).open(self.path("daemon.log")).unwrap();
        let mut command = self.daemon_command();
        command
            .args(["serve", "--stop-with-stdin", "--repo"])
            .arg(self.path("larder.git"))
            .args(if self.extra.iter().any(|each| each == "--listen") { &[][..] } else { &["--listen", "none"][..] })
            .args(&self.extra)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            // Whatever ends the test ends the daemon: the pipe closes.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        self.daemon = Some(command.spawn().unwrap());
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Ends the daemon at once, as a power cut would.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        clean_up_after(daemon.id());
    }

    /// Stops the daemon as an init system does.
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        wait_for("the daemon's end", Duration::from_secs(40), || daemon.try_wait().unwrap());
        clean_up_after(daemon.id());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// One RPC call over the local socket.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        larder::cli::socket::call(&self.path("state/larder.sock"), method, &params, Duration::from_secs(30))
            .map_err(|error| format!("{error:?}"))
    }

    /// What is served at `path`, asked over the local socket.
    pub fn get(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(self.path("state/larder.sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The target's runs, newest first, as the command line gives them to programs.
    pub fn runs(&self, target: &str) -> Vec<Value> {
        let done = self.command().args(["runs", target, "--limit", "100", "--output", "json"]).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        let runs: Value = serde_json::from_slice(&done.stdout).unwrap();
        runs["items"].as_array().unwrap_or_else(|| panic!("no items in {runs}")).clone()
    }

    /// The first job of a target, as the pages show it.
    pub fn job(&self, target: &str) -> Value {
        self.call("target.get", json!({"target": target})).unwrap()["jobs"][0].clone()
    }

    pub fn git(&self, args: &[&str]) -> Output {
        self.git_in(&self.path("config"), args)
    }

    pub fn git_in(&self, dir: &Path, args: &[&str]) -> Output {
        Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"])
            .args(args)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("HOME", self.root())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Commits everything and pushes; the answer is git's.
    pub fn push(&self, message: &str) -> Output {
        self.push_with(message, &[])
    }

    pub fn push_with(&self, message: &str, options: &[&str]) -> Output {
        assert!(self.git(&["add", "-A"]).status.success());
        let committed = self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        assert!(committed.status.success(), "{}", text(&committed));
        let mut args = vec!["push"];
        args.extend(options);
        args.extend(["origin", "main"]);
        self.git(&args)
    }

    /// Starts the target's run and waits for its end; answers with its record.
    pub fn run(&self, target: &str) -> Value {
        let answer = self.call("run.start", json!({"target": target})).unwrap();
        let run = answer["runs"][0].as_str().unwrap().to_owned();
        let record = self.finished(&run);
        self.forgotten();
        record
    }

    /// Waits until what the runs gave up is forgotten, unless that is not to be soon.
    pub fn forgotten(&self) {
        for _ in 0..FORGET_LOOKS {
            let Ok(shown) = self.call("destination.list", json!({})) else { return };
            let items = shown["items"].as_array().cloned().unwrap_or_default();
            if items.iter().all(|each| each["forget"]["next"].is_null() || each["forget"]["health"] == "failed") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a run is over; answers with its record.
    pub fn finished(&self, run: &str) -> Value {
        wait_for("the run's end", RUN_MAX, || {
            let record = self.call("run.get", json!({"run": run})).ok()?["run"].clone();
            record["outcome"].is_string().then_some(record)
        })
    }

    /// Follows an operation to its end.
    pub fn operation(&self, started: &Value) -> Value {
        wait_for("the operation's end", RUN_MAX, || {
            let status = self.call("operation.get", json!({"operation": started["operation"]})).unwrap();
            (!status["finished"].is_null()).then_some(status)
        })
    }

    /// Calls the real restic on the site's repository; standard output as JSON.
    pub fn restic(&self, repository: &str, args: &[&str]) -> Value {
        let done = Command::new(restic())
            .args(["-r", self.path(repository).to_str().unwrap(), "--json", "--no-cache"])
            .args(args)
            .env("RESTIC_PASSWORD_FILE", self.path("secrets/repository"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done));
        serde_json::from_slice(&done.stdout).unwrap_or(Value::Null)
    }

    /// By their time, which is told to the second; those of one second by the order of their runs.
    pub fn snapshots(&self, repository: &str) -> Vec<Value> {
        let mut all = self.restic(repository, &["snapshots"]).as_array().cloned().unwrap_or_default();
        let run = |snapshot: &Value| {
            let tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
            tags.into_iter()
                .find(|tag| tag.as_str().is_some_and(|tag| tag.starts_with("run:")))
                .map(|tag| tag.to_string())
        };
        for second in all.chunk_by_mut(|a, b| a["time"] == b["time"]) {
            second.sort_by_key(run);
        }
        all
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            clean_up_after(daemon.id());
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// Removes what libfaketime leaves in shared memory when its process is killed; see `ProcessClock`.
fn clean_up_after(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// What a program said, both outputs.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
