//! The plugin `prometheus` against the real one, and against a simulated one that fails on request.

use std::process::{Child, Stdio};

use super::simulated::{Simulated, http};
use super::*;

/// A real Prometheus with its own directory.
pub(super) struct Real {
    child: Child,
    pub(super) port: u16,
    pub(super) directory: tempfile::TempDir,
}

const RULES: &str = "groups:\n- name: hosts\n  rules:\n  # a comment that the API does not tell\n  - alert: Down\n    expr: up == 0\n    for: 5m\n";

impl Real {
    pub(super) fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = support::free_port();
        std::fs::create_dir(directory.path().join("rules")).unwrap();
        std::fs::write(directory.path().join("rules/hosts.yml"), RULES).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nrule_files: [\"rules/*.yml\"]\nscrape_configs:\n- job_name: self\n  \
             basic_auth: {{username: me, password: s3cret-hunter2}}\n  static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n"
        );
        std::fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let child = Self::run(directory.path(), &directory.path().join("data"), port, flags);
        Self { child, port, directory }
    }

    fn run(directory: &Path, data: &Path, port: u16, flags: &[&str]) -> Child {
        let child = std::process::Command::new("prometheus")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus");
        support::wait_for("Prometheus", Duration::from_secs(30), || {
            let up = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            (up && http(port, "GET", "/-/ready", "").contains("Ready")).then_some(())
        });
        child
    }

    pub(super) fn samples(port: u16) -> u64 {
        let answer = http(port, "GET", "/api/v1/query?query=count_over_time(up%5B1h%5D)", "");
        let start = answer.find('{').unwrap_or(0);
        let end = answer.rfind('}').map_or(answer.len(), |at| at + 1);
        let answer: Value = serde_json::from_str(&answer[start..end]).unwrap_or_default();
        answer.pointer("/data/result/0/value/1").and_then(Value::as_str).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(super) fn bench(&self) -> Bench {
        let settings = json!({
            "url": format!("http://127.0.0.1:{}", self.port),
            "config_file": self.directory.path().join("prometheus.yml"),
            "silence": "5s",
        });
        Bench::of_app("prometheus", settings, &[])
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn a_real_prometheus_comes_back_with_its_files_and_its_samples() {
    let mut real = Real::start(&["--web.enable-admin-api", "--web.enable-lifecycle"]);
    let mut bench = real.bench();
    bench.target.settings["tsdb_snapshot"] = json!({ "data_dir": real.data() });
    support::wait_for("some samples", Duration::from_secs(30), || (Real::samples(real.port) >= 3).then_some(()));
    let captured = bench.proven_app();
    assert_eq!((captured.figures["files"], captured.figures["rule_files"]), (2, 1));
    assert!(captured.figures["blocks"] >= 1 && captured.figures["samples"] > 100, "{:?}", captured.figures);
    assert!(captured.app_version.as_deref().unwrap().starts_with("Prometheus 2."), "{:?}", captured.app_version);
    assert_eq!(entries(&real.data().join("snapshots")), 0, "the snapshot is deleted");
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    let inventory = std::fs::read_to_string(bench.staging().join("inventory/loaded-config.yml")).unwrap();
    assert!(inventory.starts_with("# Inventory") && inventory.contains("<secret>") && !inventory.contains("hunter2"));
    assert!(!bench.log().contains("hunter2"));

    // The files: the old ones stay beside, the server loads the new ones.
    let config = real.directory.path().join("prometheus.yml");
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, "global: {}\n").unwrap();
    std::fs::remove_file(real.directory.path().join("rules/hosts.yml")).unwrap();
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "global: {}\n");
    let told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|step| step.starts_with("replace ") && step.contains("kept as")), "{told:?}");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert!(restored.steps.iter().any(|step| step.to_string() == "run reload of Prometheus"), "{restored:#?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), whole);
    assert_eq!(std::fs::read_to_string(real.directory.path().join("rules/hosts.yml")).unwrap(), RULES);
    let beside = config.with_file_name(format!("prometheus.yml.before-{}", bench.run));
    assert_eq!(std::fs::read_to_string(beside).unwrap(), "global: {}\n");

    // The blocks: never under a server that runs.
    let running = bench.restore_app(&captured, json!({"files": false, "data_dir": real.data()}), false).unwrap_err();
    assert_eq!(running.trouble.code, "server_running");
    // What is refused for the blocks leaves the files alone, too.
    std::fs::write(&config, "global: {}\n").unwrap();
    for (data_dir, code) in [(real.data(), "server_running"), (PathBuf::from("/nowhere/at-all"), "data_dir")] {
        let refused = bench.restore_app(&captured, json!({ "data_dir": data_dir }), false).unwrap_err();
        assert_eq!(refused.trouble.code, code);
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "global: {}\n", "{code}");
    }
    real.stop();
    // A log of newer samples would be read into the blocks of the backup.
    let restored = bench.restore_app(&captured, json!({"files": false, "data_dir": real.data()}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let kept = real.data().join(format!("before-{}", bench.run.to_string().to_lowercase()));
    assert!(kept.join("wal").is_dir() && !real.data().join("wal").exists(), "{restored:#?}");
    let data = real.directory.path().join("new-data");
    std::fs::create_dir(&data).unwrap();
    let restored = bench.restore_app(&captured, json!({"files": false, "data_dir": data}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let port = support::free_port();
    real.child = Real::run(real.directory.path(), &data, port, &[]);
    support::wait_for("the old samples", Duration::from_secs(20), || (Real::samples(port) >= 3).then_some(()));
}

#[test]
fn a_broken_rule_file_a_file_with_masked_secrets_and_another_config_are_told() {
    let real = Real::start(&[]);
    let mut bench = real.bench();
    bench.proven_app();
    bench.target.settings["tsdb_snapshot"] = json!({ "data_dir": real.data() });
    bench.again();
    let failure = bench.refused_app(&["admin_api_off"]);
    assert!(failure.trouble.hint.unwrap().contains("--web.enable-admin-api"));
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    bench.target.settings.as_object_mut().unwrap().remove("tsdb_snapshot");

    let rules = real.directory.path().join("rules/hosts.yml");
    std::fs::write(&rules, RULES.replace("up == 0", "up == == 0")).unwrap();
    bench.again();
    let captured = bench.capture_with(None).unwrap();
    assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::Failed);
    std::fs::write(&rules, RULES).unwrap();

    let config = real.directory.path().join("prometheus.yml");
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, whole.replace("s3cret-hunter2", "<secret>").replace("job_name: self", "job_name: other"))
        .unwrap();
    bench.again();
    let captured = bench.capture_with(None).unwrap();
    assert_eq!(captured.warnings[0].code, "config_not_loaded");
    let validations = bench.validate_with(&captured, None).unwrap();
    assert!(
        validations.iter().any(|each| each.verdict == Verdict::Failed && each.detail.contains("<secret>")),
        "{validations:#?}"
    );

    std::fs::write(&config, &whole).unwrap();
    bench.again();
    let captured = bench.proven_app();
    bench.target.settings["promtool"] = json!("/nowhere/promtool");
    let validations = bench.validate_with(&captured, None).unwrap();
    assert_eq!(verdict(&validations), Verdict::CouldNotVerify, "{validations:#?}");
    std::fs::remove_file(&config).unwrap();
    bench.again();
    bench.refused_app(&["path_missing"]);
}

#[test]
fn rules_above_the_configuration_are_kept_and_rules_that_this_host_does_not_see_are_told() {
    let mut real = Real::start(&[]);
    real.stop();
    let root = real.directory.path().to_owned();
    std::fs::create_dir(root.join("etc")).unwrap();
    let config = std::fs::read_to_string(root.join("prometheus.yml")).unwrap();
    let config = config.replace("\"rules/*.yml\"", "\"../rules/*.yml\", \"../empty/*.yml\"");
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::write(root.join("etc/prometheus.yml"), &config).unwrap();
    std::fs::remove_file(root.join("prometheus.yml")).unwrap();
    std::os::unix::fs::symlink("etc/prometheus.yml", root.join("prometheus.yml")).unwrap();
    // Prometheus joins paths by the text, so it has to be started on the file itself.
    real.child = std::process::Command::new("prometheus")
        .arg(format!("--config.file={}", root.join("etc/prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", root.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{}", real.port))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let rules = || http(real.port, "GET", "/api/v1/rules", "").contains("hosts.yml").then_some(());
    support::wait_for("its rules", Duration::from_secs(30), || {
        std::net::TcpStream::connect(("127.0.0.1", real.port)).ok().and_then(|_| rules())
    });
    let mut bench = real.bench();
    bench.target.settings["config_file"] = json!(root.join("etc/prometheus.yml"));
    let captured = bench.proven_app();
    assert_eq!((captured.figures["files"], captured.figures["rule_files"]), (2, 1));
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    let kept = root.strip_prefix("/").unwrap().join("rules/hosts.yml");
    assert_eq!(std::fs::read_to_string(bench.staging().join("files").join(kept)).unwrap(), RULES);

    // The same file mounted elsewhere, without what it names.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("etc")).unwrap();
    std::fs::write(elsewhere.path().join("etc/prometheus.yml"), &config).unwrap();
    bench.target.settings["config_file"] = json!(elsewhere.path().join("etc/prometheus.yml"));
    bench.again();
    let captured = bench.capture_with(None).unwrap();
    let codes: Vec<&str> = captured.warnings.iter().map(|each| each.code.as_str()).collect();
    assert_eq!(codes, ["file_missing", "file_missing", "rules_not_kept"], "{:?}", captured.warnings);
    assert!(captured.warnings[2].message.contains("hosts.yml"), "{:?}", captured.warnings);
    // There, and empty: nothing is missing by its path, and the server has rules all the same.
    for place in ["rules", "empty"] {
        std::fs::create_dir(elsewhere.path().join(place)).unwrap();
    }
    bench.again();
    let captured = bench.capture_with(None).unwrap();
    assert_eq!(captured.warnings[0].code, "rules_not_kept", "{:?}", captured.warnings);
    let validations = bench.validate_with(&captured, None).unwrap();
    assert!(
        validations.iter().all(|each| each.name != "promtool check rules"),
        "0 files prove nothing: {validations:#?}"
    );
}

#[test]
fn scrape_jobs_of_files_that_are_not_followed_are_told() {
    let app = Simulated::start("prometheus.py", &[]);
    let mut bench = simulated(&app);
    let place = tempfile::tempdir().unwrap();
    let config = "scrape_config_files: [\"scrape/*.yml\"]\nscrape_configs:\n- job_name: self\n";
    std::fs::write(place.path().join("p.yml"), config).unwrap();
    std::fs::create_dir(place.path().join("scrape")).unwrap();
    let scrape = "scrape_configs:\n- job_name: hosts\n  file_sd_configs: [{files: [hosts.json]}]\n  \
                  basic_auth: {username: a, password_file: /run/secrets/prom}\n";
    std::fs::write(place.path().join("scrape/hosts.yml"), scrape).unwrap();
    std::fs::write(place.path().join("scrape/hosts.json"), "[]").unwrap();
    bench.target.settings =
        json!({"url": app.url(), "silence": patience(&[]), "config_file": place.path().join("p.yml")});
    app.set(json!({"pools": ["self", "hosts"], "rules": []}));
    let captured = bench.capture_with(None).unwrap();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    assert_eq!(captured.figures["files"], 3);
    let told = captured.notices.iter().find(|each| each.code == "secrets_not_kept").expect("a notice");
    assert!(told.message.contains("/run/secrets/prom"), "{told}");
    app.set(json!({"pools": ["self", "hosts", "cameras"], "rules": ["/etc/prometheus/rules/x.yml"]}));
    bench.again();
    let captured = bench.capture_with(None).unwrap();
    let codes: Vec<&str> = captured.warnings.iter().map(|each| each.code.as_str()).collect();
    assert_eq!(codes, ["rules_not_kept", "jobs_not_kept"]);
    assert!(captured.warnings[1].message.contains("cameras"), "{:?}", captured.warnings);
}

#[test]
fn a_promtool_of_another_version_than_the_server_cannot_condemn_what_the_server_takes() {
    let app = Simulated::start("prometheus.py", &[]);
    let mut bench = simulated(&app);
    let place = tempfile::tempdir().unwrap();
    // A field that the promtool of this host does not know.
    std::fs::write(place.path().join("p.yml"), "of_tomorrow: {a: 1}\nscrape_configs:\n- job_name: self\n").unwrap();
    bench.target.settings =
        json!({"url": app.url(), "silence": patience(&[]), "config_file": place.path().join("p.yml")});
    for (version, expected) in [("99.5.0", Verdict::CouldNotVerify), ("2.42.0", Verdict::Failed)] {
        app.set(json!({"version": version}));
        bench.again();
        let captured = bench.capture_with(None).unwrap();
        let validations = bench.validate_with(&captured, None).unwrap();
        assert_eq!(verdict(&validations), expected, "{validations:#?}");
        let judged = validations.iter().find(|each| each.name == "promtool check config").unwrap();
        assert_eq!(
            judged.detail.contains("the server is Prometheus 99.5"),
            expected == Verdict::CouldNotVerify,
            "{judged:?}"
        );
    }
}

fn simulated(app: &Simulated) -> Bench {
    let settings =
        json!({"url": app.url(), "silence": patience(&[]), "tsdb_snapshot": {"data_dir": app.directory.path()}});
    Bench::of_app("prometheus", settings, &[])
}

#[test]
fn damaged_answers_and_snapshots_are_no_backup_and_nothing_stays_on_the_server() {
    let app = Simulated::start("prometheus.py", &[]);
    let mut bench = simulated(&app);
    bench.capture_with(None).unwrap();
    assert_eq!(app.state()["snapshots"], json!([]));
    for (path, mode, codes) in [
        ("/api/v1/status/buildinfo", "html", &["unexpected_answer"][..]),
        ("/api/v1/status/config", "empty", &["unexpected_answer"]),
        ("/api/v1/status/config", "half-json", &["unexpected_answer"]),
        ("/api/v1/status/config", "truncate", &["cut_short"]),
        ("/api/v1/status/config", "huge", &["too_large"]),
        ("/api/v1/status/config", "silence", &["silent"]),
        ("/api/v1/admin", "html", &["unexpected_answer"]),
        ("/api/v1/admin", "empty", &["unexpected_answer"]),
        ("/api/v1/admin", "hangup", &["cut_short", "http_failed"]),
        ("/api/v1/admin", "silence", &["silent"]),
        ("/api/v1/admin", "unauthorized", &["unauthorized"]),
    ] {
        app.fault(json!({"path": path, "mode": mode}));
        bench.target.settings["silence"] = json!(patience(&[mode]));
        bench.again();
        bench.refused_app(codes);
        app.mend();
        assert_eq!(app.state()["snapshots"], json!([]), "{path} {mode}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
    for (switch, code) in [
        (json!({"blocks": 0}), "snapshot_empty"),
        (json!({"blocks": 1, "samples": 0}), "block_damaged"),
        (json!({"samples": 5, "admin": false}), "admin_api_off"),
    ] {
        app.set(switch);
        bench.again();
        bench.refused_app(&[code]);
        assert_eq!(app.state()["snapshots"], json!([]));
    }
}

#[test]
fn a_snapshot_of_a_capture_that_was_killed_is_deleted_by_recover() {
    let app = Simulated::start("prometheus.py", &[]);
    let bench = simulated(&app);
    let somebodys = app.directory.path().join("snapshots/20250101T000000Z-00000000000000aa");
    std::fs::create_dir_all(&somebodys).unwrap();
    app.fault(json!({"path": "/api/v1/admin", "mode": "silence"}));
    bench.killed(|| app.state()["snapshots"].as_array().unwrap().len() == 2);
    assert_eq!(bench.noted().len(), 1);
    bench.recover_app().unwrap();
    assert_eq!(app.state()["snapshots"], json!(["20250101T000000Z-00000000000000aa"]));
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    let app = Simulated::start("prometheus.py", &[]);
    for (settings, code) in [
        (json!({"url": app.url()}), "settings"),
        (json!({"url": app.url(), "config_flie": "/x"}), "settings"),
        (json!({"url": app.url(), "username": "me", "config_file": "/x"}), "settings"),
        (json!({"url": "http://me:hunter2@prometheus.lan", "config_file": "/x"}), "bad_url"),
        (json!({"url": "http://prometheus.example.org", "config_file": "/x"}), "clear_text"),
    ] {
        let failure = Bench::of_app("prometheus", settings, &[]).refused_app(&[code]);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    let mut bench = simulated(&app);
    bench.target.settings["tsdb_snapshot"]["data_dir"] = json!("/nowhere");
    bench.refused_app(&["data_dir"]);
    assert_eq!(app.state()["snapshots"], json!([]));
}

#[test]
fn a_restore_of_files_of_which_one_cannot_be_written_changes_none() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can mount");
    }
    let real = Real::start(&["--web.enable-admin-api", "--web.enable-lifecycle"]);
    let bench = real.bench();
    let captured = bench.capture_with(None).unwrap();
    let (config, rules) = (real.directory.path().join("prometheus.yml"), real.directory.path().join("rules"));
    std::fs::write(&config, "global: {}\n").unwrap();
    std::fs::write(rules.join("hosts.yml"), "groups: []\n").unwrap();
    let unharmed = |what: &str| {
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "global: {}\n", "{what}");
        assert_eq!(std::fs::read_to_string(rules.join("hosts.yml")).unwrap(), "groups: []\n", "{what}");
        let names = std::fs::read_dir(real.directory.path()).unwrap().chain(std::fs::read_dir(&rules).unwrap());
        assert!(!names.flatten().any(|each| each.file_name().to_string_lossy().contains(".before-")), "{what}");
    };
    let ran =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).arg(&rules).status().unwrap().success();
    let there = rules.display().to_string();
    if ran(&["mount", "--bind", &there]) && ran(&["mount", "-o", "remount,ro,bind"]) {
        for dry_run in [true, false] {
            let refused = bench.restore_app(&captured, json!({}), dry_run).unwrap_err();
            assert!(
                refused.to_string().contains("rules") && refused.to_string().contains("nothing was changed"),
                "{refused}"
            );
            unharmed("a mount that is read-only");
        }
        assert!(ran(&["umount"]));
    }
    // What only shows when it is tried.
    let file = rules.join("hosts.yml");
    if std::process::Command::new("chattr").arg("+i").arg(&file).status().unwrap().success() {
        let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
        assert!(std::process::Command::new("chattr").arg("-i").arg(&file).status().unwrap().success());
        assert!(failure.to_string().contains("every file is what it was"), "{failure}");
        unharmed("a file that may not be replaced");
    }
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}
