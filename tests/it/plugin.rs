//! Plugins as the daemon runs them: real child processes, real applications.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder::config::SettingsSchemas as _;
use larder::config::model::{Hooks, Target};
use larder::plugin::{Call, CaptureInputs, Captured, Catalogue, PluginFailure, Validation, Verdict};
use larder::process::{Context, Limits, Log, Redactor};
use larder::types::{Name, Outcome, RunId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::support;
use super::support::skip::{Lack, skip};

mod arr;
mod command;
mod conformance;
mod contract;
mod database;
mod docker;
mod docker_database;
mod docker_kill;
mod docker_load;
mod docker_postgres;
mod docker_restore;
mod docker_simulated;
mod docker_whole;
mod files;
mod firewall;
mod grafana;
mod homeassistant;
mod homeassistant_core;
mod http;
mod invoiceninja;
mod invoiceninja_whole;
mod mariadb;
mod mariadb_code;
mod mariadb_gaps;
mod mariadb_stays;
mod mariadb_swap;
mod pihole;
mod postgres;
mod postgres_gaps;
mod postgres_restore;
mod postgres_swap;
mod prometheus;
mod redis;
mod rsync;
mod rsync_exclude;
mod rsync_kept;
mod rsync_undo;
pub(crate) mod simulated;
mod sqlite;

/// One target with its staging directory and log, as a run has them.
struct Bench {
    directory: tempfile::TempDir,
    catalogue: Catalogue,
    target: Target,
    run: RunId,
    /// What the host gives beside the settings: the figures of the run before, a journal.
    inputs: CaptureInputs,
    cancel: CancellationToken,
    limits: Limits,
    progress: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Bench {
    fn new(plugin: &str, settings: Value) -> Self {
        Self::with_plugins(plugin, settings, &plugins_dir())
    }

    fn with_plugins(plugin: &str, settings: Value, plugins: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("staging")).unwrap();
        Self {
            directory,
            catalogue: Catalogue::discover(larder::plugin::ALL, Some(plugins), &support::larder()).unwrap(),
            target: Target {
                name: Name::parse("sample").unwrap(),
                plugin: Name::parse(plugin).unwrap(),
                settings,
                policies: Vec::new(),
                enabled: true,
                hooks: Hooks::default(),
                accept: Vec::new(),
                tolerate: larder::config::model::Tolerate::default(),
            },
            run: RunId::generate(jiff::Timestamp::now()),
            inputs: CaptureInputs::default(),
            cancel: CancellationToken::new(),
            limits: Limits { deadline: Duration::from_mins(3), grace: Duration::from_secs(1), ..Limits::default() },
            progress: Arc::default(),
        }
    }

    fn staging(&self) -> PathBuf {
        self.directory.path().join("staging")
    }

    /// The directory that outlives a run.
    fn journal(&self) -> PathBuf {
        let journal = self.directory.path().join("journal");
        std::fs::create_dir_all(&journal).unwrap();
        journal
    }

    /// What is in the way of an entry of the journal while it stands: the name that the entry has while it is written.
    fn in_the_way_of(&self, entry: &str) -> PathBuf {
        self.journal().join(format!(".{entry}.half"))
    }

    fn staged(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.staging()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn context(&self) -> Context {
        Context {
            cancel: self.cancel.clone(),
            log: Log::create(&self.directory.path().join("log"), 1 << 20).unwrap(),
            redact: Redactor::default(),
            mark: format!("test:{}", self.run),
        }
    }

    fn call<'a>(&'a self, staging: &'a Path, inputs: &'a CaptureInputs, context: &'a Context) -> Call<'a> {
        Call { target: &self.target, run: self.run, staging, inputs, context, limits: self.limits }
    }

    fn capture(&self) -> Result<Captured, PluginFailure> {
        let progress = self.progress.clone();
        let (staging, context) = (self.staging(), self.context());
        runtime().block_on(self.catalogue.capture(&self.call(&staging, &self.inputs, &context), move |done, total| {
            progress.lock().unwrap().push((done, total));
        }))
    }

    fn validate(&self, captured: &Captured) -> Result<Vec<Validation>, PluginFailure> {
        let (staging, context) = (self.staging(), self.context());
        runtime().block_on(self.catalogue.validate(&self.call(&staging, &self.inputs, &context), captured))
    }

    /// Captures, and proves it.
    fn proven(&self) -> Captured {
        let captured = self.capture().unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()));
        let validations = self.validate(&captured).unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()));
        assert!(!validations.is_empty() && verdict(&validations) == Verdict::Proven, "{validations:#?}");
        captured
    }

    /// Fails to capture with this code.
    fn refused(&self, code: &str) -> PluginFailure {
        let failure = self.capture().expect_err("the capture should fail");
        assert_eq!(failure.trouble.code, code, "{failure}\n{}", self.log());
        failure
    }
}

/// What an application may be silent for. Short only where its silence is what is tried: on a busy machine it answers late.
fn patience(faults: &[&str]) -> &'static str {
    let hangs = |fault: &&str| ["silence", "quiet", "drip"].contains(fault);
    if faults.iter().any(hangs) { "1s" } else { "30s" }
}

/// The plugin that works in `staging`: what it starts works there too, and a pid may be any number, so a child of this
/// process.
fn plugin_of(staging: &Path) -> Option<i32> {
    let place = staging.canonicalize().unwrap();
    let mut entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let plugin = entries.find(|process| {
        parent(process) == Some(std::process::id())
            && std::fs::read_link(process.join("cwd")).is_ok_and(|directory| directory == place)
    })?;
    plugin.file_name()?.to_str()?.parse().ok()
}

/// The parent of the process whose directory in `/proc` this is.
fn parent(process: &Path) -> Option<u32> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name before may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What a built-in plugin says to `request` when nobody in particular runs it, and not root; none: it can't be tried.
fn as_nobody(directory: &Path, plugin: &str, request: &Value) -> Option<String> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        skip(Lack::Root, "only root can become nobody");
        return None;
    }
    // From a place that he can reach.
    let program = directory.join("larder");
    std::fs::copy(support::larder(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = std::process::Command::new("runuser")
        .args(["-u", "nobody", "--"])
        .arg(&program)
        .args(["plugin", plugin])
        .current_dir("/")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    Some(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The worst of all.
fn verdict(validations: &[Validation]) -> Verdict {
    let worst = |wanted| validations.iter().any(|each| each.verdict == wanted);
    match () {
        () if worst(Verdict::Failed) => Verdict::Failed,
        () if worst(Verdict::CouldNotVerify) => Verdict::CouldNotVerify,
        () => Verdict::Proven,
    }
}

fn secret_file(directory: &Path, secret: &str) -> Value {
    let path = directory.join(format!("secret-{}", ulid::Ulid::new()));
    std::fs::write(&path, secret).unwrap();
    json!({ "file": path })
}

fn plugins_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins")
}

fn rogue(misdeed: &str) -> Bench {
    Bench::new("rogue", json!({ "misdeed": misdeed }))
}

#[test]
fn a_shell_script_of_ten_lines_is_a_whole_plugin() {
    let bench = Bench::new("hello", json!({"name": "World"}));
    let captured = bench.proven();
    assert_eq!(std::fs::read_to_string(bench.staging().join("hello.txt")).unwrap(), "Hello World\n");
    assert_eq!(captured.bytes, 12);
    assert_eq!(captured.artifacts[0].format, "text");
    std::fs::write(bench.staging().join("hello.txt"), "Goodbye").unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
}

#[test]
fn a_capture_without_files_inside_the_staging_directory_fails() {
    for (misdeed, code) in [
        ("lies", "nothing_captured"),
        ("absent", "artifact_missing"),
        ("escapes", "artifact_outside"),
        ("absolute", "artifact_outside"),
        ("links", "artifact_outside"),
        ("links-on-the-way", "artifact_outside"),
        ("empties", "artifact_empty"),
        ("directory", "artifact_kind"),
        ("repeats", "artifact_twice"),
        ("relative-source", "source_path"),
    ] {
        let failure = rogue(misdeed).refused(code);
        assert_eq!(failure.outcome, Outcome::Failed, "{misdeed}");
        assert!(failure.trouble.message.contains("rogue"), "{failure}");
    }
}

#[test]
fn a_plugin_that_ends_badly_fails_the_run_with_what_it_said() {
    let crashed = rogue("crashes").refused("plugin_failed");
    assert!(
        crashed.trouble.message.contains("code 3") && crashed.trouble.message.contains("disk on fire"),
        "{crashed}"
    );
    rogue("dies").refused("plugin_killed");
    let half = rogue("lies-in-the-end").refused("half_done");
    assert_eq!((half.outcome, half.trouble.message.as_str()), (Outcome::Failed, "only half"));
}

#[test]
fn a_plugin_that_asks_for_a_later_try_defers_the_run() {
    assert_eq!(rogue("waits").refused("busy").outcome, Outcome::Deferred);
}

#[test]
fn a_plugin_that_hangs_is_ended_at_its_deadline() {
    let mut bench = rogue("hangs");
    bench.limits.deadline = Duration::from_secs(1);
    let started = Instant::now();
    bench.refused("deadline");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_plugin_that_is_cancelled_is_cancelled_not_failed() {
    let bench = rogue("hangs");
    let cancel = bench.cancel.clone();
    let watched = bench.staging().join("a.txt");
    let waiting = std::thread::spawn(move || {
        support::wait_for("the plugin's start", Duration::from_secs(20), || watched.exists().then_some(()));
        cancel.cancel();
    });
    assert_eq!(bench.refused("cancelled").outcome, Outcome::Cancelled);
    waiting.join().unwrap();
}

#[test]
fn a_plugin_that_floods_is_ended() {
    let bench = rogue("floods");
    let failure = bench.refused("plugin_floods");
    assert!(failure.trouble.message.contains("artifacts"), "{failure}");
    assert!(bench.log().len() < 100_000);
}

#[test]
fn lines_that_are_no_events_are_passed_over_and_noted() {
    let bench = rogue("chatters");
    let captured = bench.capture().unwrap();
    assert_eq!(captured.artifacts.len(), 1);
    let log = bench.log();
    assert!(log.contains("line 0 of no use") && !log.contains("line 400 of no use"), "{log}");
    assert!(log.contains("503 lines that are no events"), "{log}");
}

#[test]
fn a_secret_that_a_plugin_repeats_reaches_neither_log_nor_record() {
    let secret = "s3cr3t-hunter2-token";
    let mut bench = rogue("leaks");
    bench.target.settings["token"] = secret_file(bench.directory.path(), secret);
    let failure = bench.refused("refused");
    assert!(!failure.to_string().contains(secret) && failure.trouble.message.contains("is refused"), "{failure}");
    assert!(!failure.trouble.hint.unwrap().contains(secret));
    let log = bench.log();
    assert!(log.contains("token is") && log.contains("stdout too") && !log.contains(secret), "{log}");

    let mut bench = rogue("doubtful");
    bench.target.settings["token"] = secret_file(bench.directory.path(), secret);
    let validations = bench.validate(&bench.capture().unwrap()).unwrap();
    assert_eq!(validations[0].verdict, Verdict::Failed);
    assert!(!validations[0].detail.contains(secret), "{validations:?}");
}

#[test]
fn a_secret_that_is_missing_fails_before_the_plugin_starts() {
    let mut bench = rogue("hangs");
    bench.target.settings["token"] = json!({"file": "/nowhere/token"});
    let failure = bench.refused("secret_missing");
    assert!(failure.trouble.message.contains("`token`"), "{failure}");
    assert_eq!(bench.staged(), Vec::<String>::new());
}

#[test]
fn a_plugin_that_checks_nothing_is_not_proven_and_one_that_cannot_check_fails() {
    let bench = rogue("unproven");
    let captured = bench.capture().unwrap();
    assert_eq!(bench.validate(&captured).unwrap()[0].verdict, Verdict::CouldNotVerify);
    let bench = rogue("lies");
    assert_eq!(bench.validate(&captured).unwrap_err().trouble.code, "plugin_failed");
}

fn write_plugin(directory: &Path, name: &str, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const DESCRIBE: &str = "#!/bin/sh\necho '{\"event\":\"description\",\"settings\":{\"type\":\"object\"}}'\n";

#[test]
fn a_broken_plugin_is_told_and_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_plugin(at, "good.sh", DESCRIBE, 0o755);
    write_plugin(at, "README.md", "not a plugin", 0o644);
    write_plugin(at, ".hidden", DESCRIBE, 0o755);
    for (name, text, mode) in [
        ("files", DESCRIBE, 0o755),
        ("good.py", DESCRIBE, 0o755),
        ("open", DESCRIBE, 0o757),
        ("plain.sh", DESCRIBE, 0o644),
        ("a b", DESCRIBE, 0o755),
        ("silent", "#!/bin/sh\n", 0o755),
        ("schemaless", "#!/bin/sh\necho '{\"event\":\"description\",\"settings\":{\"type\":\"string\"}}'\n", 0o755),
        (
            "newer",
            "#!/bin/sh\necho '{\"event\":\"description\",\"protocol\":2,\"settings\":{\"type\":\"object\"}}'\n",
            0o755,
        ),
        ("crashes", "#!/bin/sh\necho no >&2\nexit 7\n", 0o755),
        ("hangs", "#!/bin/sh\nsleep 1000\n", 0o755),
        ("no-program", "#!/nowhere/interpreter\n", 0o755),
    ] {
        write_plugin(at, name, text, mode);
    }
    let started = Instant::now();
    let catalogue = Catalogue::discover(larder::plugin::ALL, Some(at), &support::larder()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30), "they are asked all at once");
    let names = catalogue.names();
    let external: Vec<&String> =
        names.iter().filter(|name| !larder::plugin::ALL.iter().any(|each| each.name == *name)).collect();
    assert_eq!(external, ["good"]);
    assert!(catalogue.schema("good").is_some() && catalogue.schema("silent").is_none());
    let mut codes: Vec<String> = catalogue
        .broken()
        .map(|trouble| {
            assert!(trouble.message.contains(&*at.to_string_lossy()), "{trouble}");
            trouble.code.clone()
        })
        .collect();
    codes.sort();
    assert_eq!(
        codes,
        [
            "deadline",
            "no_description",
            "plugin_failed",
            "plugin_name",
            "plugin_name_taken",
            "plugin_name_taken",
            "plugin_not_executable",
            "plugin_not_started",
            "plugin_protocol",
            "plugin_schema",
            "plugin_writable",
        ]
    );
    let text = catalogue.describe_text("silent").unwrap_err();
    assert_eq!(text.code, "no_description");
    assert_eq!(catalogue.describe_text("nope").unwrap_err().code, "unknown_plugin");
}

#[test]
fn a_plugins_directory_that_is_open_to_all_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let trouble = Catalogue::discover(larder::plugin::ALL, Some(directory.path()), &support::larder()).unwrap_err();
    assert_eq!(trouble.code, "plugin_writable");
    let missing =
        Catalogue::discover(larder::plugin::ALL, Some(Path::new("/nowhere/plugins")), &support::larder()).unwrap_err();
    assert_eq!(missing.code, "plugin_unreadable");
}

#[test]
fn discovery_works_within_a_runtime_too() {
    let catalogue = runtime()
        .block_on(async { Catalogue::discover(larder::plugin::ALL, Some(&plugins_dir()), &support::larder()) });
    assert!(catalogue.unwrap().schema("hello").is_some());
}

#[test]
fn a_plugin_that_is_not_there_fails_the_run() {
    Bench::new("nope", json!({})).refused("unknown_plugin");
}
