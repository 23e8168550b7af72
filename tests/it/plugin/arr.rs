//! The plugins `radarr`, `sonarr`, `lidarr`, `prowlarr` and `readarr` against a simulated application with its traps.

use super::simulated::{Simulated, facts};
use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "p&ss word=ü";

pub(super) fn app(name: &str) -> Simulated {
    Simulated::start("arr.py", &[name])
}

pub(super) fn bench(name: &str, app: &Simulated) -> Bench {
    Bench::of_app(name, json!({"url": app.url(), "wait": "5s", "silence": patience(&[])}), &[("api_key", KEY)])
}

/// Only the backup that a person made before is there.
fn nothing_of_ours_stays(app: &Simulated) {
    let state = app.state();
    assert_eq!(state["manual"].as_array().unwrap().len(), 1, "{state:#}");
    assert_eq!(state["scheduled"], 1, "{state:#}");
}

#[test]
fn each_of_the_five_is_captured_proven_and_leaves_nothing_of_ours() {
    for (name, title, figure) in [
        ("radarr", "Radarr", "movies"),
        ("sonarr", "Sonarr", "series"),
        ("lidarr", "Lidarr", "artists"),
        ("prowlarr", "Prowlarr", "indexers"),
        ("readarr", "Readarr", "books"),
    ] {
        let app = app(name);
        let bench = bench(name, &app);
        let captured = bench.proven_app();
        assert_eq!(captured.figures[figure], 12);
        assert_eq!(captured.app_version.as_deref(), Some(format!("{title} 6.0.3.10276").as_str()));
        assert_eq!(bench.staged(), ["backup.zip"]);
        assert!(!bench.log().contains(KEY));
        nothing_of_ours_stays(&app);
    }
}

#[test]
fn a_download_behind_a_login_is_reached_by_form_by_basic_or_by_the_folder() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    app.set(json!({"authentication": "forms"}));
    let failure = bench.refused_app(&["download_needs_login"]);
    assert!(failure.trouble.hint.unwrap().contains("`folder`"));
    nothing_of_ours_stays(&app);

    bench.target.settings["username"] = json!("keeper");
    bench.target.settings["password"] = secret_file(bench.directory.path(), "wrong");
    bench.again();
    bench.refused_app(&["login_refused"]);
    bench.target.settings["password"] = secret_file(bench.directory.path(), PASSWORD);
    bench.again();
    bench.proven_app();
    app.set(json!({"authentication": "basic"}));
    bench.again();
    bench.proven_app();
    assert!(!bench.log().contains(PASSWORD));

    app.set(json!({"authentication": "forms"}));
    let settings = bench.target.settings.as_object_mut().unwrap();
    settings.remove("username");
    settings.remove("password");
    settings.insert("folder".to_owned(), json!(app.directory.path().join("Backups")));
    bench.again();
    bench.proven_app();
    nothing_of_ours_stays(&app);
    // Somebody else's Backups directory, and one that is not mounted.
    bench.target.settings["folder"] = json!(bench.directory.path());
    bench.again();
    bench.refused_app(&["backup_not_in_folder"]);
    nothing_of_ours_stays(&app);
}

#[test]
fn what_the_application_gives_is_never_believed_unseen() {
    let app = app("radarr");
    let bench = bench("radarr", &app);
    for (zip, code) in [
        ("no-db", "backup_without_database"),
        ("no-config", "backup_incomplete"),
        ("bad-config", "backup_incomplete"),
        ("no-info", "backup_incomplete"),
        ("not-sqlite", "not_a_database"),
    ] {
        app.set(json!({ "zip": zip }));
        bench.again();
        bench.refused_app(&[code]);
        nothing_of_ours_stays(&app);
    }
    // A database that opens but is damaged, or is another program's, fails at the capture or is not proven.
    for zip in ["corrupt", "no-tables"] {
        app.set(json!({ "zip": zip }));
        bench.again();
        match bench.capture_with(None) {
            Ok(captured) => {
                let validations = bench.validate_with(&captured, None).unwrap();
                assert_eq!(verdict(&validations), Verdict::Failed, "{zip}: {validations:#?}");
            }
            Err(failure) => assert_eq!(failure.trouble.code, "database_damaged", "{zip}: {failure}"),
        }
        nothing_of_ours_stays(&app);
    }
}

#[test]
fn every_damage_on_the_way_fails_with_a_next_step_and_leaves_nothing() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    for (mode, codes) in [
        ("truncate", &["cut_short"][..]),
        ("flip", &["archive_damaged", "not_a_database", "database_damaged", "backup_incomplete"]),
        ("empty", &["cut_short"]),
        ("html", &["not_a_zip"]),
        ("hangup", &["cut_short", "http_failed"]),
        ("silence", &["silent"]),
        ("drip", &["silent"]),
        ("huge", &["too_large", "cut_short"]),
        ("error", &["app_failed"]),
    ] {
        app.fault(json!({"path": "/backup/", "mode": mode}));
        bench.target.settings["silence"] = json!(patience(&[mode]));
        bench.again();
        let failure = bench.refused_app(codes);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
        app.mend();
        nothing_of_ours_stays(&app);
        assert_eq!(bench.noted(), Vec::<PathBuf>::new(), "{mode}");
    }
    for (path, mode, codes) in [
        ("/api/v3/system/status", "html", &["unexpected_answer"][..]),
        ("/api/v3/system/status", "empty", &["unexpected_answer"]),
        ("/api/v3/system/status", "half-json", &["unexpected_answer"]),
        ("/api/v3/system/status", "unauthorized", &["unauthorized"]),
        ("/api/v3/system/status", "gateway", &["app_failed"]),
        ("/api/v3/system/status", "silence", &["silent"]),
        ("/api/v3/command", "html", &["unexpected_answer"]),
        ("/api/v3/system/backup", "half-json", &["unexpected_answer"]),
        ("/api/v3/system/backup", "huge", &["too_large"]),
    ] {
        app.fault(json!({"path": path, "mode": mode}));
        bench.target.settings["silence"] = json!(patience(&[mode]));
        bench.again();
        bench.refused_app(codes);
        app.mend();
        nothing_of_ours_stays(&app);
    }
    bench.again();
    bench.proven_app();
}

#[test]
fn a_command_that_fails_or_is_stuck_is_told_and_taken_back() {
    let app = app("sonarr");
    let mut bench = bench("sonarr", &app);
    bench.target.settings["wait"] = json!("1s");
    app.set(json!({"stuck": true}));
    let failure = bench.refused_app(&["backup_stuck"]);
    assert!(failure.trouble.message.contains("queued"), "{failure}");
    assert_eq!(app.state()["commands"][0]["status"], "cancelled");
    nothing_of_ours_stays(&app);
    app.set(json!({"stuck": false}));
    for outcome in ["failed", "aborted"] {
        app.set(json!({ "outcome": outcome }));
        bench.again();
        let failure = bench.refused_app(&["backup_failed"]);
        assert!(failure.trouble.message.contains("No space left"), "{failure}");
    }
    nothing_of_ours_stays(&app);
}

#[test]
fn a_capture_that_was_killed_is_tidied_up_by_recover() {
    let app = app("radarr");
    let bench = bench("radarr", &app);
    // While the application works: the backup is made after the kill.
    app.set(json!({"work_s": 1.0}));
    bench.killed(|| !app.state()["commands"].as_array().unwrap().is_empty());
    assert_eq!(bench.noted().len(), 1);
    bench.recover_app().unwrap();
    nothing_of_ours_stays(&app);
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    // While it is fetched, and a person made one meanwhile, which stays.
    app.set(json!({"work_s": 0.0}));
    app.fault(json!({"path": "/backup/", "mode": "silence"}));
    bench.again();
    bench.killed(|| {
        app.state()["calls"].as_array().unwrap().iter().any(|call| call.as_str().unwrap().contains("/backup/manual"))
    });
    std::thread::sleep(Duration::from_millis(1100));
    app.set(json!({"manual_now": true}));
    assert_eq!(app.state()["manual"].as_array().unwrap().len(), 3);
    bench.recover_app().unwrap();
    assert_eq!(app.state()["manual"].as_array().unwrap().len(), 2, "the person's two stay");
    bench.recover_app().unwrap();
    assert_eq!(app.state()["manual"].as_array().unwrap().len(), 2);
}

#[test]
fn an_application_on_postgresql_is_refused_unless_a_target_has_its_database() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    app.set(json!({"database_type": "postgreSQL"}));
    let failure = bench.refused_app(&["database_elsewhere"]);
    assert!(failure.trouble.hint.unwrap().contains("`database_target`"));
    bench.target.settings["database_target"] = json!("radarr-db");
    let captured = bench.proven_app();
    assert!(!captured.figures.contains_key("movies"));
    assert!(bench.log().contains("radarr-db"));
    assert_eq!(bench.restore_app(&captured, json!({}), true).unwrap_err().trouble.code, "database_elsewhere");
}

#[test]
fn a_restore_puts_the_library_back_and_counts_it() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    bench.target.settings["wait"] = json!("20s");
    let captured = bench.proven_app();
    app.set(json!({"rows": 3, "version": "6.1.0.1"}));
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    let told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("12 movies instead of 3") && told[0].contains("migrated"), "{told:?}");
    assert_eq!(app.state()["rows"], 3, "a dry run changes nothing");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert_eq!(app.state()["rows"], 12);
    assert_eq!(restored.steps, plan.steps);

    // Into a fresh instance with a key of its own, which becomes the backup's.
    let fresh = Simulated::start("arr.py", &["radarr"]);
    fresh.set(json!({"key": "ffffffffffffffffffffffffffffffff", "rows": 0}));
    bench.target.settings["url"] = json!(fresh.url());
    bench.target.settings["api_key"] = secret_file(bench.directory.path(), "ffffffffffffffffffffffffffffffff");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert!(restored.steps.iter().any(|step| step.to_string().starts_with("by hand setting api_key")));
    assert_eq!((&fresh.state()["rows"], &fresh.state()["key_is_default"]), (&json!(12), &json!(true)));
    assert!(!bench.log().contains(KEY));
}

#[test]
fn a_restore_into_an_older_application_or_one_that_stays_away_is_told() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    let captured = bench.proven_app();
    app.set(json!({"version": "5.9.1.2"}));
    let failure = bench.restore_app(&captured, json!({}), true).unwrap_err();
    assert_eq!(failure.trouble.code, "app_older");
    assert!(bench.restore_app(&captured, json!({"allow_older": true}), true).is_ok());
    assert_eq!(
        bench.restore_app(&captured, json!({"allow_odler": true}), true).unwrap_err().trouble.code,
        "restore_options"
    );
    app.set(json!({"version": "6.0.3.10276", "comes_back": false}));
    bench.target.settings["wait"] = json!("2s");
    assert_eq!(bench.restore_app(&captured, json!({}), false).unwrap_err().trouble.code, "not_back");
    // A backup that was cut is not even uploaded.
    let zip = bench.staging().join("backup.zip");
    let whole = std::fs::read(&zip).unwrap();
    std::fs::write(&zip, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(bench.restore_app(&captured, json!({}), false).unwrap_err().trouble.code, "archive_damaged");
}

#[test]
fn what_an_application_had_before_a_restore_stays_on_it_until_the_restore_is_seen_to_be_right() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    bench.target.settings["wait"] = json!("20s");
    let captured = bench.proven_app();
    app.set(json!({"rows": 3, "loses": 1}));
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    let counted = restored.validations.iter().find(|each| each.verdict == Verdict::Failed).expect("a failed count");
    assert!(counted.detail.contains("3 now, 12 in the backup; what it had before was put back"), "{counted:?}");
    assert_eq!(app.state()["rows"], 3);
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert_eq!(app.state()["rows"], 12);
    app.set(json!({"comes_back": false}));
    bench.target.settings["wait"] = json!("2s");
    let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
    assert!(failure.trouble.hint.unwrap().contains("System > Backup"));
}

#[test]
fn a_backup_that_changed_or_lost_everything_is_not_proven() {
    let app = app("radarr");
    let bench = bench("radarr", &app);
    let captured = bench.proven_app();
    let zip = bench.staging().join("backup.zip");
    let whole = std::fs::read(&zip).unwrap();
    for damage in 0..3 {
        let mut damaged = whole.clone();
        match damage {
            0 => damaged.truncate(whole.len() / 2),
            1 => damaged[whole.len() / 2] ^= 0x10,
            _ => damaged.clear(),
        }
        std::fs::write(&zip, damaged).unwrap();
        let validations = bench.validate_with(&captured, None).unwrap();
        assert_eq!(verdict(&validations), Verdict::Failed, "{validations:#?}");
    }
    app.set(json!({"rows": 0}));
    bench.again();
    let empty = bench.capture_with(None).unwrap();
    let validations = bench.validate_with(&empty, Some(facts(&captured))).unwrap();
    assert_eq!(verdict(&validations), Verdict::Failed, "{validations:#?}");
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    let app = app("radarr");
    for (settings, code) in [
        (json!({"url": app.url(), "wiat": 3}), "settings"),
        (json!({"url": "http://me:hunter2@radarr.lan"}), "bad_url"),
        (json!({"url": "http://radarr.example.org"}), "clear_text"),
        (json!({"url": "ftp://radarr.lan"}), "bad_url"),
        (json!({"url": app.url(), "username": "me"}), "settings"),
    ] {
        let bench = Bench::of_app("radarr", settings, &[("api_key", KEY)]);
        let failure = bench.refused_app(&[code]);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    let wrong = Bench::of_app("radarr", json!({"url": app.url()}), &[("api_key", "another")]);
    wrong.refused_app(&["unauthorized"]);
    let other = bench("sonarr", &app);
    assert!(other.refused_app(&["other_app"]).trouble.message.contains("is radarr"));
    assert_eq!(app.state()["commands"], json!([]));
}

#[test]
fn a_restore_that_was_killed_behind_its_upload_is_brought_to_its_end() {
    let app = app("radarr");
    let mut bench = bench("radarr", &app);
    bench.target.settings["wait"] = json!("20s");
    let captured = bench.proven_app();
    app.set(json!({"rows": 3, "key": "ffffffffffffffffffffffffffffffff"}));
    bench.target.settings["api_key"] = secret_file(bench.directory.path(), "ffffffffffffffffffffffffffffffff");
    app.fault(json!({"path": "/api/v3/system/backup/restore", "mode": "silence"}));
    bench.killed_in_a_restore(&captured, json!({}), || app.state()["key_is_default"] == true);
    app.mend();
    assert_eq!(app.state()["rows"], 3, "the new key and the old rows");
    bench.recover_app().unwrap();
    support::wait_for("the restart", Duration::from_secs(20), || {
        // Nobody answers while it starts again.
        let rows = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.state()["rows"].clone()));
        rows.is_ok_and(|rows| rows == 12).then_some(())
    });
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}
