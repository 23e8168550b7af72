//! The plugin `homeassistant` against a real Home Assistant Core (`tests/setup/homeassistant.sh`).

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::*;

const AGENT: &str = "backup.local";
/// What a person made in it: the value is kept in `.storage`, its past in the recorder's database.
const HELPER: &str = "/api/states/input_text.wombat";
const PAST: &str =
    "/api/history/period/2020-01-01T00:00:00Z?end_time=2100-01-01T00:00:00Z&filter_entity_id=sensor.burrow";

/// A real one; it ends with this value, or with the test's process.
struct Core {
    child: Child,
    pipes: RefCell<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    directory: tempfile::TempDir,
    told: Value,
}

impl Core {
    /// None, with a word, where it could not be installed.
    fn start(kind: &[&str]) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/tools/homeassistant/bin/python");
        if !python.exists() {
            skip(Lack::HomeAssistant, format_args!("{} is not there (tests/setup/homeassistant.sh)", python.display()));
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(python)
            .arg("-B")
            .arg(root.join("tests/support/homeassistant_core.py"))
            .arg(directory.path())
            .args(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = RefCell::new((child.stdin.take(), BufReader::new(child.stdout.take().unwrap())));
        let mut core = Self { child, pipes, directory, told: Value::Null };
        core.told = core.answer();
        Some(core)
    }

    fn answer(&self) -> Value {
        let mut line = String::new();
        self.pipes.borrow_mut().1.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let fine = said.is_object() && said.get("trouble").is_none();
        let output = || std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default();
        assert!(fine, "{line}\n{}", output());
        said
    }

    /// One order of `tests/support/homeassistant_core.py`; that program bounds the time of each.
    fn ask(&self, order: &Value) -> Value {
        let mut pipes = self.pipes.borrow_mut();
        writeln!(pipes.0.as_mut().unwrap(), "{order}").unwrap();
        drop(pipes);
        self.answer()
    }

    /// A command that it does.
    fn command(&self, order: &Value) -> Value {
        let answer = self.ask(order);
        assert_eq!(answer["success"], true, "{order}: {answer}");
        answer["result"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask(&json!({"post": path, "body": body}));
        assert!(answer["status"].as_u64().unwrap() < 300, "{path}: {answer}");
        answer["body"].clone()
    }

    fn config(&self) -> PathBuf {
        self.told["config"].as_str().unwrap().into()
    }

    fn info(&self) -> Value {
        self.command(&json!({"command": "backup/info"}))
    }

    fn idle(&self) -> Value {
        support::wait_for("the end of the backup", Duration::from_secs(60), || {
            let info = self.info();
            (info["state"] == "idle").then_some(info)
        })
    }

    fn backups(&self) -> Vec<String> {
        let info = self.idle();
        let names = info["backups"].as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// Gives it something to lose. Only what it wrote to its disk is in a backup, and it writes all when it restarts.
    fn live_in(&self) {
        self.command(&json!({"command": "input_text/create", "name": "Wombat"}));
        let value = json!({"entity_id": "input_text.wombat", "value": "tasty"});
        self.post("/api/services/input_text/set_value", &value);
        self.post("/api/states/sensor.burrow", &json!({"state": "41"}));
        self.post("/api/services/homeassistant/restart", &json!({}));
        self.ask(&json!({"restarts": 1}));
    }

    /// Looks whether what `live_in` made is there, in the name of `token` or of the first owner.
    fn is_lived_in(&self, token: &Value) -> bool {
        let get = |path| self.ask(&json!({"get": path, "token": token}))["body"].clone();
        get(HELPER)["state"] == "tasty" && get(PAST)[0][0]["state"] == "41"
    }

    fn bench(&self, token: &str) -> Bench {
        let settings = json!({"url": self.told["url"], "silence": "30s", "poll": "100ms", "wait": "50s"});
        let mut bench = Bench::new("homeassistant", settings);
        bench.target.settings["token"] =
            secret_file(bench.directory.path(), self.told[token].as_str().unwrap_or("of nobody"));
        bench.inputs.journal = Some(bench.journal());
        bench
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.pipes.get_mut().0.take());
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !matches!(self.child.try_wait(), Ok(None))
        });
        // Home Assistant is told by the kernel to end with it.
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The owner's automatic backups are encrypted, and there is one.
fn with_an_automatic_backup(core: &Core) -> Vec<String> {
    core.command(&json!({
        "command": "backup/config/update",
        "create_backup": {"agent_ids": [AGENT], "password": "hunter2", "name": "automatic"},
        "agents": {AGENT: {"protected": true}},
    }));
    core.command(&json!({"command": "backup/generate_with_automatic_settings"}));
    let backups = core.backups();
    assert_eq!(backups.len(), 1, "{backups:?}");
    backups
}

#[test]
fn a_real_one_is_captured_without_a_trace_and_refuses_who_may_not() {
    let Some(core) = Core::start(&["unreachable"]) else { return };
    core.live_in();
    let theirs = with_an_automatic_backup(&core);

    let bench = core.bench("token");
    let captured = bench.proven();
    let version = captured.app_version.as_deref().unwrap();
    assert!(version.starts_with("Home Assistant 20"), "{version}");
    let figure = |name: &str| captured.figures[name];
    assert!(figure("files") > 10 && figure("storage_files") > 5 && figure("database_rows") > 5, "{captured:?}");
    assert_eq!(bench.staged(), ["backup.tar"]);
    assert!(captured.warnings.is_empty(), "{captured:?}");
    let nothing_left = |bench: &Bench| {
        assert_eq!(core.backups(), theirs, "only ours is removed");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
        assert!(!bench.log().contains(core.told["token"].as_str().unwrap()));
    };
    nothing_left(&bench);

    // What Home Assistant encrypted is neither proven nor uploaded.
    let encrypted = std::fs::read_dir(core.config().join("backups")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(encrypted, bench.staging().join("backup.tar")).unwrap();
    let validations = bench.validate(&captured).unwrap();
    assert!(validations.iter().any(|each| each.detail.contains("is encrypted")), "{validations:#?}");
    assert_eq!(verdict(&validations), Verdict::Failed);
    assert_eq!(bench.restore_app(&captured, json!({}), false).unwrap_err().trouble.code, "backup_encrypted");

    let mut bench = core.bench("token");
    bench.target.settings["include_database"] = json!(false);
    bench.target.settings["keep_on_server"] = json!(true);
    assert!(!bench.proven().figures.contains_key("database_rows"));
    let info = core.info();
    let kept = info["backups"].as_array().unwrap().iter().find(|each| each["name"] != theirs[0].as_str()).unwrap();
    core.command(&json!({"command": "backup/delete", "backup_id": kept["backup_id"]}));
    nothing_left(&bench);

    for (token, code) in [("user_token", "forbidden"), ("no token", "unauthorized")] {
        let bench = core.bench(token);
        assert!(bench.refused(code).trouble.hint.is_some());
        nothing_left(&bench);
    }
    bench.target.settings["agent"] = json!("backup.nowhere");
    assert!(bench.refused("app_failed").trouble.message.contains("backup.nowhere"));
    nothing_left(&bench);

    bench.target.settings["agent"] = json!("unreachable.far");
    assert!(bench.refused("backup_failed").trouble.message.contains("upload_failed"));
    nothing_left(&bench);

    // It cannot write where it keeps its backups.
    let [backups, aside] = ["backups", "aside"].map(|name| core.config().join(name));
    std::fs::rename(&backups, &aside).unwrap();
    std::fs::write(&backups, "").unwrap();
    let bench = core.bench("token");
    let failure = bench.refused("backup_failed");
    assert!(failure.trouble.message.contains("upload_failed"), "{failure}");
    std::fs::remove_file(&backups).unwrap();
    std::fs::rename(&aside, &backups).unwrap();
    nothing_left(&bench);

    // Killed while Home Assistant still works on it, for which it takes a while.
    let large = std::fs::File::create(core.config().join("large")).unwrap();
    large.set_len(512 << 20).unwrap();
    let bench = core.bench("token");
    bench.killed(|| core.info()["state"] == "create_backup");
    let busy = bench.refused("backup_running");
    assert_eq!(busy.outcome, Outcome::Deferred);
    assert_eq!(bench.recover_app().unwrap_err().trouble.code, "backup_running");
    assert_eq!((core.backups().len(), bench.noted().len()), (2, 1));
    bench.recover_app().unwrap();
    nothing_left(&bench);
}

#[test]
fn a_backup_of_a_real_one_is_uploaded_and_brings_back_it_and_a_fresh_one() {
    let Some(core) = Core::start(&[]) else { return };
    core.live_in();
    let bench = core.bench("token");
    let captured = bench.proven();

    core.command(&json!({"command": "input_text/delete", "input_text_id": "wombat"}));
    assert!(!core.is_lived_in(&core.told["token"]));
    let planned = bench.restore_app(&captured, json!({}), true).unwrap();
    assert_eq!(core.backups(), Vec::<String>::new(), "a dry run");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(planned.steps, restored.steps);
    assert_eq!(restored.validations[0].verdict, Verdict::Proven);
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify);
    let uploaded = core.info()["backups"][0].clone();
    assert_eq!(uploaded["name"], format!("larder sample {}", bench.run));
    assert_eq!(uploaded["agents"], json!({AGENT: {"protected": false, "size": captured.bytes}}));

    // What is left to a person. It goes down before it can answer, and starts once more when all is unpacked.
    let order = json!({
        "command": "backup/restore", "backup_id": uploaded["backup_id"], "agent_id": AGENT,
        "restore_database": true, "restore_homeassistant": true,
    });
    core.ask(&order);
    core.ask(&json!({"restarts": 3}));
    assert!(core.is_lived_in(&core.told["token"]));

    // The other way: the first page of a fresh one.
    let fresh = Core::start(&["fresh"]).unwrap();
    let path = bench.staging().join("backup.tar");
    let upload = json!({"upload": [format!("/api/onboarding/backup/upload?agent_id={AGENT}"), path]});
    // While it still starts it takes none, and says so.
    let uploaded = support::wait_for("the upload", Duration::from_secs(60), || {
        let uploaded = fresh.ask(&upload);
        let is_busy = uploaded["status"] == 500 && uploaded["body"].as_str().unwrap().contains("busy");
        assert!(is_busy || uploaded["status"] == 201, "{uploaded}");
        (!is_busy).then_some(uploaded)
    });
    let order = json!({"backup_id": uploaded["body"]["backup_id"], "agent_id": AGENT});
    fresh.post("/api/onboarding/backup/restore", &order);
    fresh.ask(&json!({"restarts": 2}));
    let login = fresh.ask(&json!({"login": ["owner", "owner's wombat"]}));
    support::wait_for("the state of before", Duration::from_secs(30), || {
        fresh.is_lived_in(&login["token"]).then_some(())
    });
}
