//! The plugin `homeassistant` against a simulated one that talks as Core 2025.4 was seen to.

use super::support::simulator::Simulator;
use super::*;

const TOKEN: &str = "eyJhbGciOi.Larder-Wombat.Long-Lived";

pub(super) fn homeassistant(options: &[&str]) -> (Simulator, Bench) {
    let simulator = Simulator::start("homeassistant", &[&["--token", TOKEN], options].concat());
    let settings = json!({"url": simulator.url, "silence": patience(options), "poll": "100ms", "wait": "10s"});
    let mut bench = Bench::new("homeassistant", settings);
    bench.target.settings["token"] = secret_file(bench.directory.path(), TOKEN);
    bench.inputs.journal = Some(bench.journal());
    (simulator, bench)
}

/// Only the backup of somebody else is on the server, and the journal has nothing to undo.
fn nothing_left(simulator: &Simulator, bench: &Bench) {
    assert_eq!(simulator.state()["backups"], json!(["automatic backup"]));
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn a_backup_is_made_fetched_proven_and_removed_from_the_server() {
    let (simulator, bench) = homeassistant(&["--seconds", "1"]);
    let captured = bench.proven();
    assert_eq!(captured.app_version.as_deref(), Some("Home Assistant 2025.4.4"));
    let figures = ["files", "storage_files", "database_rows", "addons"].map(|name| captured.figures[name]);
    assert_eq!(figures, [7, 3, 400, 0]);
    assert_eq!(bench.staged(), ["backup.tar"], "what was unpacked to be looked at is gone");
    nothing_left(&simulator, &bench);
    let order = json!([{"agent_ids": ["backup.local"], "include_database": true, "include_homeassistant": true, "password": null}]);
    assert_eq!(simulator.state()["orders"], order);
    assert!(!bench.log().contains(TOKEN));
}

#[test]
fn what_is_kept_is_what_the_settings_say() {
    let (simulator, mut bench) = homeassistant(&["--os", "yes", "--tls", "good"]);
    bench.target.settings["tls"] = json!({"ca": simulator.ca});
    bench.target.settings["keep_on_server"] = json!(true);
    bench.target.settings["folders"] = json!(["media", "addons/local"]);
    let captured = bench.proven();
    assert_eq!((captured.figures["addons"], captured.figures["folders"]), (1, 2));
    assert_eq!(simulator.state()["backups"].as_array().unwrap().len(), 2);
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());

    let (simulator, mut bench) = homeassistant(&[]);
    bench.target.settings["include_database"] = json!(false);
    assert!(!bench.proven().figures.contains_key("database_rows"));
    nothing_left(&simulator, &bench);
}

#[test]
fn the_log_of_the_recorders_database_is_a_part_of_it() {
    let (simulator, bench) = homeassistant(&["--fault", "being-read"]);
    assert_eq!(bench.proven().figures["database_rows"], 400);
    assert_eq!(bench.staged(), ["backup.tar"]);
    nothing_left(&simulator, &bench);
}

#[test]
fn a_place_that_never_had_the_backup_and_does_not_answer_leaves_none_behind() {
    let (simulator, bench) = homeassistant(&["--fault", "other-place-down"]);
    assert!(bench.proven().warnings.is_empty());
    nothing_left(&simulator, &bench);
}

#[test]
fn no_damage_becomes_a_backup_and_nothing_stays_on_the_server() {
    for (fault, code) in [
        ("truncated", "cut_short"),
        ("reset", "cut_short"),
        ("half-closed", "cut_short"),
        ("silence", "silent"),
        ("huge", "too_large"),
        ("empty", "export_empty"),
        ("six-bytes", "cut_short"),
        ("html", "export_is_a_page"),
        ("redirect", "redirected"),
        ("error", "download_failed"),
        ("wrong-size", "cut_short"),
        ("agent-fails", "agent_failed"),
        ("job-fails", "backup_failed"),
        ("job-lost", "backup_failed"),
        ("protected", "backup_encrypted"),
        ("securetar", "backup_encrypted"),
        ("no-index", "backup_broken"),
        ("bad-index", "backup_broken"),
        ("no-core", "backup_broken"),
        ("missing-addon", "backup_broken"),
        ("cut-inner", "archive_damaged"),
        ("damaged-database", "backup_broken"),
        ("no-storage", "export_incomplete"),
        ("no-configuration", "export_incomplete"),
        ("no-database", "export_incomplete"),
    ] {
        let options: &[&str] = if fault == "missing-addon" { &["--os", "yes"] } else { &[] };
        let (simulator, bench) = homeassistant(&[&["--fault", fault], options].concat());
        let failure = bench.refused(code);
        assert!(failure.trouble.hint.is_some() || fault == "huge", "{fault}: {failure}");
        assert!(!failure.to_string().contains(TOKEN), "{fault}");
        nothing_left(&simulator, &bench);
    }
}

#[test]
fn a_talk_that_fails_says_why_and_what_to_do() {
    for (options, code, outcome) in [
        (&["--admin", "no"][..], "forbidden", Outcome::Failed),
        (&["--fault", "old"], "too_old", Outcome::Failed),
        (&["--fault", "quiet"], "silent", Outcome::Failed),
        (&["--fault", "starting"], "app_busy", Outcome::Deferred),
    ] {
        let (simulator, bench) = homeassistant(options);
        let failure = bench.refused(code);
        assert!(failure.outcome == outcome && failure.trouble.hint.is_some(), "{failure}");
        nothing_left(&simulator, &bench);
    }
    let (_simulator, mut bench) = homeassistant(&[]);
    bench.target.settings["token"] = secret_file(bench.directory.path(), "another-token");
    let failure = bench.refused("unauthorized");
    assert!(!failure.to_string().contains("another-token"));
    bench.target.settings["url"] = json!("http://ha.example.org");
    bench.refused("clear_text");
    bench.target.settings["folders"] = json!(["root"]);
    bench.refused("settings");
    // Another server altogether.
    let other = Simulator::start("exporter", &[]);
    bench.target.settings["folders"] = json!([]);
    bench.target.settings["url"] = json!(other.url);
    bench.refused("not_homeassistant");
    let (_simulator, mut bench) = homeassistant(&["--tls", "good"]);
    bench.refused("certificate_untrusted");
    bench.target.settings["wait"] = json!("forever");
    bench.refused("settings");
}

#[test]
fn what_a_killed_run_left_on_the_server_is_removed_by_the_recovery() {
    let (simulator, bench) = homeassistant(&["--fault", "slow"]);
    bench.killed(|| {
        let requests = simulator.state()["requests"].clone();
        requests.as_array().unwrap().iter().any(|each| each.as_str().unwrap().contains("/download/"))
    });
    assert_eq!(simulator.state()["backups"].as_array().unwrap().len(), 2);
    assert!(!std::fs::read_to_string(bench.directory.path().join("journal/backup.json")).unwrap().contains(TOKEN));
    simulator.set("fault", "");
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);

    // Killed while Home Assistant still works on it: it is removed as soon as it is there.
    let (simulator, bench) = homeassistant(&["--seconds", "3"]);
    bench.killed(|| simulator.state()["generated"] == 1);
    assert_eq!(bench.recover_app().unwrap_err().trouble.code, "backup_running");
    support::wait_for("the end of the backup", Duration::from_secs(10), || {
        (simulator.state()["busy"] == "idle").then_some(())
    });
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
}

#[test]
fn a_backup_that_cannot_be_removed_is_told_and_tried_again() {
    let (simulator, bench) = homeassistant(&["--fault", "not-deleted"]);
    assert_eq!(bench.capture().unwrap().warnings[0].code, "backup_left");
    assert_eq!(bench.noted().len(), 1);
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
    let (simulator, bench) = homeassistant(&["--fault", "hangs-up"]);
    bench.refused("cut_short");
    support::wait_for("the end of the backup", Duration::from_secs(10), || {
        (simulator.state()["busy"] == "idle").then_some(())
    });
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
}

#[test]
fn a_backup_that_changed_after_the_capture_is_not_proven() {
    let (_simulator, bench) = homeassistant(&[]);
    let captured = bench.proven();
    let path = bench.staging().join("backup.tar");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &flipped] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
    }
}

#[test]
fn a_restore_uploads_the_backup_and_leaves_the_rest_to_a_person() {
    let (simulator, bench) = homeassistant(&[]);
    let captured = bench.proven();
    let planned = bench.restore_app(&captured, json!({}), true).unwrap();
    assert_eq!(simulator.state()["uploaded"], 0);
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(planned.steps, restored.steps);
    assert!(restored.steps[1].to_string().starts_with("by hand"));
    assert_eq!(restored.validations[0].verdict, Verdict::Proven);
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify);
    assert_eq!(simulator.state()["uploaded"], 1);
    assert_eq!(bench.restore_app(&captured, json!({"x": 1}), true).unwrap_err().trouble.code, "restore_options");
}
