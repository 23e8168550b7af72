//! The plugin `pihole` against a simulated Pi-hole that behaves as version 6.4 was seen to.

use super::support::simulator::Simulator;
use super::*;

const PASSWORD: &str = "Brunch-Wombat-71";
const APP_PASSWORD: &str = "app/Kx8+zz-mellow==";
const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

fn pihole_with(options: &[&str], settings: Value) -> (Simulator, Bench) {
    let defaults = ["--password", PASSWORD, "--app-password", APP_PASSWORD];
    let simulator = Simulator::start("pihole", &[&defaults, options].concat());
    let mut bench = Bench::new("pihole", json!({"url": simulator.url, "silence": patience(options)}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), APP_PASSWORD);
    bench.inputs.journal = Some(bench.journal());
    for (name, value) in settings.as_object().unwrap() {
        bench.target.settings[name] = value.clone();
    }
    (simulator, bench)
}

pub(super) fn pihole(options: &[&str]) -> (Simulator, Bench) {
    pihole_with(options, json!({}))
}

pub(super) fn full_password(bench: &mut Bench) {
    bench.target.settings["password"] = secret_file(bench.directory.path(), PASSWORD);
}

/// No session of ours is open, and the journal has nothing to undo.
fn nothing_left(simulator: &Simulator, bench: &Bench) {
    let sessions = simulator.state()["sessions"].clone();
    let ours = sessions.as_array().unwrap().iter().filter(|each| each.as_str().unwrap().starts_with("larder"));
    assert_eq!(ours.count(), 0, "{sessions}");
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn an_export_is_captured_proven_counted_and_the_session_is_ended() {
    let (simulator, bench) = pihole(&[]);
    let captured = bench.proven();
    assert_eq!(captured.artifacts[0].path, Path::new("teleporter.zip"));
    assert_eq!(captured.app_version.as_deref(), Some("Core v6.2, Web v6.3, FTL v6.4.1"));
    for (figure, value) in
        [("rows.group", 2), ("rows.domainlist", 3), ("rows.adlist", 1), ("dns_upstreams", 2), ("members", 6)]
    {
        assert_eq!(captured.figures[figure], value, "{figure}");
    }
    assert_eq!(bench.staged(), ["teleporter.zip"], "what was unpacked to be looked at is gone");
    nothing_left(&simulator, &bench);
    assert_eq!(simulator.state()["opened"], 1);
    assert!(!bench.log().contains(APP_PASSWORD));
}

#[test]
fn the_version_is_known_without_the_file_of_versions_too() {
    let (_simulator, bench) = pihole(&["--old-versions", "yes"]);
    assert_eq!(bench.proven().app_version.as_deref(), Some("FTL v6.4.1"));
}

#[test]
fn a_pihole_is_trusted_by_its_own_authority_or_by_fingerprint() {
    let (simulator, mut bench) = pihole(&["--tls", "good"]);
    bench.refused("certificate_untrusted");
    bench.target.settings["tls"] = json!({"ca": simulator.ca});
    bench.proven();
    let (simulator, mut bench) = pihole(&["--tls", "self-signed"]);
    bench.target.settings["tls"] = json!({"fingerprint": simulator.fingerprint});
    bench.proven();
    nothing_left(&simulator, &bench);
}

#[test]
fn the_errors_of_certificates_are_told_apart_and_no_password_is_sent() {
    let hex = |hint: &str| hint.replace(':', "").to_lowercase();
    for (kind, trusted, code) in [
        ("good", false, "certificate_untrusted"),
        ("self-signed", false, "certificate_untrusted"),
        ("other-name", true, "certificate_wrong_name"),
        ("expired", true, "certificate_out_of_date"),
    ] {
        let (simulator, mut bench) = pihole(&["--tls", kind]);
        if trusted {
            bench.target.settings["tls"] = json!({"ca": simulator.ca});
        }
        let hint = bench.refused(code).trouble.hint.unwrap();
        if kind != "expired" {
            assert!(hex(&hint).contains(&simulator.fingerprint), "{kind}: {hint}");
        }
        assert_eq!(simulator.state()["requests"], json!([]), "{kind}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
    let (simulator, mut bench) = pihole(&["--tls", "good"]);
    bench.target.settings["tls"] = json!({"fingerprint": "00".repeat(32)});
    let hint = bench.refused("certificate_changed").trouble.hint.unwrap();
    assert!(hex(&hint).contains(&simulator.fingerprint), "{hint}");
    bench.target.settings["tls"] = json!({"fingerprint": "abcd"});
    bench.refused("bad_tls");
    bench.target.settings["tls"] = json!({"ca": "/nowhere/ca.crt"});
    bench.refused("bad_tls");
    // A port that speaks no TLS.
    let (_plain, mut bench) = pihole(&[]);
    bench.target.settings["url"] = json!(bench.target.settings["url"].as_str().unwrap().replace("http:", "https:"));
    bench.refused("tls_failed");
}

#[test]
fn a_login_that_fails_says_why_and_what_to_do() {
    let (simulator, mut bench) = pihole(&[]);
    bench.target.settings["password"] = secret_file(bench.directory.path(), "wrong-Horse");
    let failure = bench.refused("unauthorized");
    assert!(
        failure.trouble.hint.clone().unwrap().contains("app password") && !failure.to_string().contains("wrong-Horse")
    );
    nothing_left(&simulator, &bench);
    bench.target.settings.as_object_mut().unwrap().remove("password");
    bench.refused("password_missing");

    let (simulator, bench) = pihole(&["--fault", "rate-limit"]);
    assert_eq!(bench.refused("rate_limited").outcome, Outcome::Deferred);
    nothing_left(&simulator, &bench);
}

/// A Pi-hole with a second factor, and a target with the web password and what its codes come from.
fn two_factors(options: &[&str]) -> (Simulator, Bench) {
    let (simulator, mut bench) = pihole(&[&["--totp", TOTP_SECRET], options].concat());
    full_password(&mut bench);
    bench.target.settings["totp_secret"] = secret_file(bench.directory.path(), TOTP_SECRET);
    (simulator, bench)
}

#[test]
fn the_web_password_goes_with_a_code_and_an_app_password_without() {
    let (simulator, mut bench) = two_factors(&[]);
    let captured = bench.proven();
    assert_eq!(captured.figures["rows.domainlist"], 3);
    assert_eq!(simulator.state()["codes_seen"], 1);
    nothing_left(&simulator, &bench);
    let log = bench.log();
    assert!(!log.contains(TOTP_SECRET) && !log.contains(PASSWORD), "{log}");

    bench.again();
    bench.target.settings["password"] = secret_file(bench.directory.path(), APP_PASSWORD);
    bench.proven();
    bench.again();
    bench.target.settings.as_object_mut().unwrap().remove("totp_secret");
    bench.proven();
    assert_eq!(simulator.state()["codes_seen"], 1, "an app password needs none");

    // A secret that the Pi-hole does not ask for is no trouble.
    let (simulator, mut bench) = pihole(&[]);
    full_password(&mut bench);
    bench.target.settings["totp_secret"] = secret_file(bench.directory.path(), TOTP_SECRET);
    bench.proven();
    assert_eq!(simulator.state()["codes_seen"], 0);
}

#[test]
fn a_code_that_is_missing_or_wrong_says_what_to_do() {
    let (simulator, mut bench) = two_factors(&[]);
    let given = bench.target.settings.as_object_mut().unwrap().remove("totp_secret").unwrap();
    let hint = bench.refused("second_factor").trouble.hint.unwrap();
    assert!(hint.contains("app password") && hint.contains("totp_secret"), "{hint}");
    nothing_left(&simulator, &bench);

    let other = "MFRGGZDFMZTWQ2LKMFRGGZDFMZTWQ2LK";
    bench.target.settings["totp_secret"] = secret_file(bench.directory.path(), other);
    let failure = bench.refused("second_factor_refused");
    assert_eq!(failure.outcome, Outcome::Failed);
    assert!(!failure.to_string().contains(other), "{failure}");
    bench.target.settings["totp_secret"] = given;
    simulator.set("clock", "-90");
    let hint = bench.refused("second_factor_refused").trouble.hint.unwrap();
    assert!(hint.contains("clocks") && hint.contains("totp_secret"), "{hint}");
    // Half a minute is what a Pi-hole forgives.
    simulator.set("clock", "-30");
    bench.proven();
    nothing_left(&simulator, &bench);
}

#[test]
fn a_code_that_was_used_just_now_is_followed_by_the_next_one() {
    let (simulator, bench) = two_factors(&[]);
    bench.proven();
    bench.again();
    bench.proven();
    // The first code, the same again unless its time was just over, the next one.
    let seen = simulator.state()["codes_seen"].as_u64().unwrap();
    assert!((2..=4).contains(&seen), "{seen}");
    assert_eq!(simulator.state()["opened"], 2);
    nothing_left(&simulator, &bench);
}

#[test]
fn a_pihole_where_others_use_the_codes_is_left_alone_for_a_while() {
    let (simulator, bench) = two_factors(&["--fault", "codes-busy"]);
    let failure = bench.refused("rate_limited");
    assert_eq!(failure.outcome, Outcome::Deferred);
    assert!(failure.trouble.message.contains("2FA"), "{failure}");
    assert_eq!(simulator.state()["codes_seen"], 4);
    simulator.set("fault", "codes-used");
    assert_eq!(bench.refused("second_factor_used").outcome, Outcome::Deferred);
    assert_eq!(simulator.state()["codes_seen"], 6, "the next code is tried once");
    nothing_left(&simulator, &bench);
    simulator.set("fault", "");
    bench.proven();
}

#[test]
fn a_secret_of_the_second_factor_that_is_none_is_refused_and_not_shown() {
    let (simulator, mut bench) = two_factors(&[]);
    for text in ["otpauth://totp/pi?secret=JBSWY3DP", "123456", "JBSWY3D1"] {
        bench.target.settings["totp_secret"] = secret_file(bench.directory.path(), text);
        let failure = bench.refused("settings");
        assert!(failure.trouble.message.contains("base32"), "{failure}");
        assert!(!failure.to_string().contains(text) && !bench.log().contains(text), "{failure}");
    }
    bench.target.settings["totp_secret"] = secret_file(bench.directory.path(), TOTP_SECRET);
    bench.target.settings.as_object_mut().unwrap().remove("password");
    bench.refused("settings");
    assert_eq!(simulator.state()["requests"], json!([]));
}

#[test]
fn a_restore_logs_in_with_codes_before_and_after_the_restart() {
    let (simulator, bench) = two_factors(&[]);
    let captured = bench.proven();
    simulator.set("forget", "adlist,client");
    simulator.set("used_code", "");
    bench.restore_app(&captured, json!({}), true).unwrap();
    simulator.set("used_code", "");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
    let state = simulator.state();
    assert_eq!((&state["imports"], &state["opened"]), (&json!(1), &json!(4)));
    assert_eq!(state["tables"]["client"].as_array().unwrap().len(), 1);
    nothing_left(&simulator, &bench);

    // The settings that came back have another second factor: what is there can't be looked at any more.
    simulator.set("used_code", "");
    simulator.set("totp_after_import", "MFRGGZDFMZTWQ2LKMFRGGZDFMZTWQ2LK");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify, "{:#?}", restored.validations);
    assert!(
        restored.validations.iter().any(|each| each.detail.contains("second factor")),
        "{:#?}",
        restored.validations
    );
}

#[test]
fn the_session_of_a_killed_run_is_ended_with_a_code_too() {
    let (simulator, bench) = two_factors(&["--fault", "slow"]);
    bench.killed(|| simulator.calls("GET /api/teleporter") > 0);
    let noted = std::fs::read_to_string(&bench.noted()[0]).unwrap();
    assert!(!noted.contains(TOTP_SECRET) && !noted.contains("totp"), "{noted}");
    simulator.set("fault", "");
    simulator.set("used_code", "");
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
}

#[test]
fn a_pihole_without_a_seat_is_tried_again_later() {
    let (simulator, bench) = pihole(&["--seats", "16"]);
    let failure = bench.refused("seats_exceeded");
    assert_eq!(failure.outcome, Outcome::Deferred);
    assert!(failure.trouble.hint.unwrap().contains("max_sessions"));
    nothing_left(&simulator, &bench);
    // Thirty runs on one seat: each ends its session.
    let (simulator, bench) = pihole(&["--seats", "15"]);
    for _ in 0..18 {
        bench.again();
        bench.proven();
    }
    nothing_left(&simulator, &bench);
}

#[test]
fn a_pihole_without_a_password_is_captured_with_a_warning() {
    let simulator = Simulator::start("pihole", &[]);
    let mut bench = Bench::new("pihole", json!({"url": simulator.url}));
    assert_eq!(bench.proven().warnings, []);
    bench.again();
    bench.target.settings["password"] = secret_file(bench.directory.path(), "any");
    assert_eq!(bench.proven().warnings[0].code, "no_password");
}

#[test]
fn no_damage_becomes_a_backup_and_no_session_stays() {
    for (fault, codes) in [
        ("truncated", &["cut_short"][..]),
        ("half-closed", &["archive_damaged"]),
        ("reset", &["cut_short"]),
        ("silence", &["silent"]),
        ("huge", &["too_large"]),
        ("empty", &["export_empty"]),
        ("six-bytes", &["not_a_zip"]),
        ("html", &["export_is_a_page"]),
        ("html-as-export", &["not_a_zip"]),
        ("redirect", &["redirected"]),
        ("error", &["app_failed"]),
        ("compression", &["app_failed"]),
        ("flipped", &["archive_damaged"]),
        ("no-toml", &["export_incomplete"]),
        ("no-gravity", &["export_incomplete"]),
        ("bad-toml", &["config_broken"]),
        ("no-section", &["config_broken"]),
        ("not-a-database", &["database_damaged"]),
        ("damaged-database", &["database_damaged"]),
        ("missing-table", &["database_damaged"]),
        ("extra-table", &["database_damaged"]),
        ("no-group", &["database_incomplete"]),
    ] {
        let (simulator, bench) = pihole(&["--fault", fault]);
        let failure = bench.capture().expect_err(fault);
        let Some(hint) = &failure.trouble.hint else {
            assert_eq!(fault, "huge");
            continue;
        };
        assert!(codes.contains(&failure.trouble.code.as_str()), "{fault}: {failure}");
        assert!(!hint.is_empty() && !failure.to_string().contains(APP_PASSWORD), "{fault}: {failure}");
        nothing_left(&simulator, &bench);
    }
}

#[test]
fn an_artifact_that_changed_after_the_capture_is_not_proven() {
    let (_simulator, bench) = pihole(&[]);
    let captured = bench.proven();
    let path = bench.staging().join("teleporter.zip");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[whole.as_slice(), b"x"].concat(), b"string"] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
    }
}

#[test]
fn a_session_that_could_not_be_ended_is_told_and_ended_by_the_recovery() {
    let (simulator, bench) = pihole(&["--fault", "kept-session"]);
    assert_eq!(bench.capture().unwrap().warnings[0].code, "session_left");
    assert_eq!(bench.noted().len(), 1);
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
}

#[test]
fn the_session_of_a_killed_run_is_ended_by_the_recovery_and_no_other() {
    let (simulator, bench) = pihole_with(&["--fault", "slow", "--seats", "3"], json!({}));
    bench.killed(|| simulator.calls("GET /api/teleporter") > 0);
    assert_eq!(simulator.state()["sessions"].as_array().unwrap().len(), 4);
    let entries = bench.noted();
    assert_eq!(entries.len(), 1);
    let text = std::fs::read_to_string(&entries[0]).unwrap();
    assert!(!text.contains(APP_PASSWORD) && !text.contains("sid"), "{text}");
    simulator.set("fault", "");
    bench.recover_app().unwrap();
    nothing_left(&simulator, &bench);
    assert_eq!(simulator.state()["sessions"].as_array().unwrap().len(), 3, "those of others stay");
}

#[test]
fn a_restore_says_in_a_dry_run_what_it_would_do_and_then_does_it() {
    let (simulator, mut bench) = pihole(&[]);
    let captured = bench.proven();
    full_password(&mut bench);
    simulator.set("forget", "adlist,domainlist,client");
    simulator.set("hostname", "changed");
    let planned = bench.restore_app(&captured, json!({}), true).unwrap();
    assert_eq!(simulator.state()["imports"], 0);
    let told: Vec<String> = planned.steps.iter().map(ToString::to_string).collect();
    assert!(told.contains(&"replace table domainlist: 3 rows".to_owned()), "{told:#?}");
    assert!(told.iter().any(|step| step.starts_with("by hand /etc/dnsmasq.d/99-local.conf")), "{told:#?}");
    nothing_left(&simulator, &bench);

    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(restored.steps, planned.steps, "what was planned is what was done");
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
    let state = simulator.state();
    assert_eq!((&state["imports"], &state["restarts"], &state["gravity_runs"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(state["hostname"], "pihole");
    assert_eq!(state["tables"]["domainlist"].as_array().unwrap().len(), 3);
    nothing_left(&simulator, &bench);
}

#[test]
fn parts_can_be_restored_alone() {
    let (simulator, mut bench) = pihole(&[]);
    let captured = bench.proven();
    full_password(&mut bench);
    simulator.set("forget", "adlist,client");
    simulator.set("hostname", "changed");
    let options = json!({"parts": ["adlist", "adlist_by_group"], "update_lists": false});
    let restored = bench.restore_app(&captured, options, false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
    let state = simulator.state();
    assert_eq!(state["tables"]["adlist"].as_array().unwrap().len(), 1);
    assert_eq!(state["tables"]["client"], json!([]));
    assert_eq!((&state["hostname"], &state["gravity_runs"]), (&json!("changed"), &json!(0)));
    nothing_left(&simulator, &bench);
    for options in [json!({"part": ["adlist"]}), json!({"parts": ["everything"]})] {
        assert_eq!(bench.restore_app(&captured, options, true).unwrap_err().trouble.code, "restore_options");
    }
}

#[test]
fn a_download_of_the_lists_that_fails_behind_an_answer_of_200_is_told() {
    let (simulator, mut bench) = pihole(&[]);
    let captured = bench.proven();
    full_password(&mut bench);
    for fault in ["gravity-fails", "gravity-fails-behind"] {
        simulator.set("fault", fault);
        let restored = bench.restore_app(&captured, json!({}), false).unwrap();
        assert_eq!(verdict(&restored.validations), Verdict::Failed, "{fault}: {:#?}", restored.validations);
        let warning = restored.warnings.iter().find(|each| each.code == "lists_not_updated").expect(fault);
        assert!(warning.hint.as_deref().unwrap().contains("pihole -g"), "{warning}");
        let proven =
            |name: &str| restored.validations.iter().any(|each| each.name == name && each.verdict == Verdict::Proven);
        assert!(proven("table adlist has the rows of the backup"), "{fault}: {:#?}", restored.validations);
        nothing_left(&simulator, &bench);
    }
    // It writes on behind its answer, and all went well: the next answer is not mistaken for what was written.
    simulator.set("fault", "gravity-chatters");
    for _ in 0..5 {
        let restored = bench.restore_app(&captured, json!({}), false).unwrap();
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
    }
    let blocks = |restored: &larder::plugin::Restored| {
        restored.validations.iter().any(|each| each.detail == "1000 domains are blocked, before the restore 1000")
    };
    simulator.set("fault", "");
    assert!(blocks(&bench.restore_app(&captured, json!({}), false).unwrap()));
    let planned = bench.restore_app(&captured, json!({"update_lists": false}), true).unwrap();
    assert!(planned.steps.iter().any(|step| step.to_string().contains("until `pihole -g` ran")), "{planned:#?}");
}

#[test]
fn databases_at_places_of_their_own_are_kept_and_it_is_said_what_a_pihole_does_not_import() {
    for place in ["/mnt/data/lists.sqlite", "/srv/pihole/gravity", "/etc/pihole/my/gravity.db"] {
        let (simulator, mut bench) = pihole(&[]);
        simulator.set("gravity_path", place);
        let captured = bench.proven();
        assert_eq!(captured.notices[0].code, "lists_elsewhere", "{:?}", captured.notices);
        assert!(captured.notices[0].message.contains(place), "{:?}", captured.notices);
        full_password(&mut bench);
        let planned = bench.restore_app(&captured, json!({}), true).unwrap();
        let by_hand = format!("by hand {place}");
        assert!(planned.steps.iter().any(|step| step.to_string().starts_with(&by_hand)), "{planned:#?}");
        let restored = bench.restore_app(&captured, json!({}), false).unwrap();
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
        let refused = bench.restore_app(&captured, json!({"parts": ["adlist"]}), false).unwrap_err();
        assert_eq!(refused.trouble.code, "part_missing");
    }
}

#[test]
fn a_restore_that_the_pihole_refuses_or_does_by_half_is_an_error() {
    let (simulator, mut bench) = pihole(&[]);
    let captured = bench.proven();
    for dry_run in [true, false] {
        let failure = bench.restore_app(&captured, json!({}), dry_run).unwrap_err();
        assert_eq!(failure.trouble.code, "read_only");
        assert!(failure.trouble.hint.unwrap().contains("app_sudo"));
    }
    full_password(&mut bench);
    simulator.set("fault", "import-fails");
    let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
    assert!(failure.trouble.message.contains("central directory"), "{failure}");
    nothing_left(&simulator, &bench);
    simulator.set("fault", "skips-in-silence");
    let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
    assert_eq!(failure.trouble.code, "import_incomplete");
    assert!(failure.trouble.message.contains("adlist"), "{failure}");
    let path = bench.staging().join("teleporter.zip");
    std::fs::write(path, b"PK\x03\x04 and nothing more of a zip that would be one").unwrap();
    let before = simulator.state()["imports"].clone();
    assert_eq!(bench.restore_app(&captured, json!({}), false).unwrap_err().trouble.code, "archive_damaged");
    assert_eq!(simulator.state()["imports"], before);
}

#[test]
fn settings_that_would_give_the_password_away_are_refused() {
    let (_simulator, mut bench) = pihole(&[]);
    for (url, code) in [
        ("http://pihole.example.org", "clear_text"),
        ("http://admin:hunter2@127.0.0.1", "bad_url"),
        ("https://pihole.lan/?sid=hunter2", "bad_url"),
        ("ftp://pihole.lan", "bad_url"),
    ] {
        bench.target.settings["url"] = json!(url);
        let failure = bench.refused(code);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    bench.target.settings["passwrd"] = json!("x");
    bench.refused("settings");
}

#[test]
fn a_pihole_that_is_not_there_is_told() {
    let (simulator, mut bench) = pihole(&[]);
    bench.target.settings["url"] = json!(format!("{}/admin", simulator.url));
    bench.proven();
    bench.target.settings["url"] = json!("http://no-such-host.invalid.test");
    bench.refused("unknown_host");
}

#[test]
fn an_import_that_larder_did_not_outlive_is_undone_by_the_recovery() {
    let (simulator, mut bench) = pihole_with(&[], json!({}));
    let captured = bench.proven();
    full_password(&mut bench);
    simulator.set("forget", "adlist,domainlist,client");
    simulator.set("hostname", "changed");
    let before = simulator.state();
    simulator.set("fault", "import-hangs");
    bench.killed_in_a_restore(&captured, json!({}), || simulator.state()["imports"] == 1);
    assert_ne!(simulator.state()["tables"], before["tables"], "half of it is there");
    simulator.set("fault", "");
    bench.recover_app().unwrap();
    let after = simulator.state();
    assert_eq!((&after["tables"], &after["hostname"]), (&before["tables"], &before["hostname"]));
    nothing_left(&simulator, &bench);
}
