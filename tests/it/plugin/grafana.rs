//! The plugin `grafana` against a simulated Grafana with its traps.

use super::simulated::{Simulated, facts};
use super::*;

const TOKEN: &str = "glsa_admin0123456789";
const VIEWER: &str = "glsa_viewer0123456789";

pub(super) fn grafana() -> Simulated {
    Simulated::start("grafana.py", &[])
}

pub(super) fn bench(app: &Simulated) -> Bench {
    Bench::of_app("grafana", json!({"url": app.url(), "silence": patience(&[])}), &[("token", TOKEN)])
}

fn read(bench: &Bench, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(bench.staging().join(path)).unwrap()).unwrap()
}

#[test]
fn everything_that_people_made_is_kept_one_file_an_object() {
    let app = grafana();
    let bench = bench(&app);
    let captured = bench.proven_app();
    let wanted = [
        ("folders", 3),
        ("dashboards", 11),
        ("data_sources", 2),
        ("library_panels", 1),
        ("alert_rules", 3),
        ("contact_points", 1),
        ("mute_timings", 1),
        ("templates", 1),
        ("policies", 2),
    ];
    for (figure, count) in wanted {
        assert_eq!(captured.figures[figure], count, "{figure}");
    }
    assert_eq!(captured.app_version.as_deref(), Some("Grafana 12.4.0"));
    assert_eq!(read(&bench, "dashboards/dash1.json")["folderUid"], "infra");
    assert_eq!(read(&bench, "folders/net.json")["parentUid"], "infra");
    let dynamic = read(&bench, "dashboards/dyn1.json");
    assert_eq!(dynamic["object"]["spec"]["title"], "Dynamic dyn1");
    assert!(dynamic["object"]["metadata"].get("resourceVersion").is_none());
    assert!(!bench.log().contains(TOKEN));
    // The same again, byte for byte: restic keeps it once.
    let sums = |captured: &Captured| captured.artifacts.iter().map(|each| each.sha256.clone()).collect::<Vec<_>>();
    bench.again();
    assert_eq!(sums(&bench.proven_app()), sums(&captured));
}

#[test]
fn pages_that_are_short_or_repeat_for_ever_lose_nothing_and_end() {
    let app = grafana();
    let bench = bench(&app);
    app.set(json!({"page_cap": 2}));
    assert_eq!(bench.proven_app().figures["dashboards"], 11);
    app.set(json!({"page_cap": 5000, "repeat": true}));
    bench.again();
    assert_eq!(bench.proven_app().figures["dashboards"], 11);
}

#[test]
fn a_dashboard_that_is_listed_and_not_found_is_missing_and_one_that_was_deleted_meanwhile_is_not() {
    let app = grafana();
    let mut bench = bench(&app);
    app.set(json!({"unseen": ["dash0", "dash1", "dash2", "dash3"]}));
    let captured = bench.capture_with(None).unwrap();
    let warning = &captured.warnings[0];
    assert_eq!((warning.code.as_str(), captured.figures["dashboards"]), ("dashboards_unseen", 7));
    assert!(warning.message.contains("4 dashboards") && warning.message.contains("dash3"), "{warning}");
    assert!(warning.hint.as_deref().unwrap().contains("Admin"));
    app.set(json!({"unseen": ["dash0", "dash1", "dash2", "dash3", "dash4", "dash5"]}));
    bench.again();
    bench.refused_app(&["dashboards_unseen"]);
    // One that is broken in Grafana for ever can be accepted, and is still told.
    app.set(json!({"unseen": ["dash7"]}));
    bench.target.settings["accept_unseen"] = json!(["dash7"]);
    bench.again();
    let captured = bench.proven_app();
    assert_eq!((captured.notices[0].code.as_str(), captured.warnings.len()), ("dashboards_unseen", 0));
    app.set(json!({"unseen": [], "deleted_meanwhile": ["dash5"]}));
    bench.again();
    assert_eq!(bench.proven_app().figures["dashboards"], 10);
    // Alerting that is there without its rules is no alerting that is switched off.
    app.set(json!({"alerting_gone": ["/alert-rules"]}));
    bench.again();
    bench.refused_app(&["unexpected_answer"]);
    app.set(json!({"alerting_gone": ["all"]}));
    bench.again();
    assert_eq!(bench.proven_app().figures["alert_rules"], 0);
}

#[test]
fn a_token_that_sees_less_is_no_backup() {
    let app = grafana();
    let mut bench = bench(&app);
    let captured = bench.proven_app();
    bench.target.settings["token"] = secret_file(bench.directory.path(), VIEWER);
    bench.again();
    let failure = bench.refused_app(&["forbidden"]);
    assert!(failure.trouble.hint.unwrap().contains("Admin"));
    bench.target.settings["token"] = secret_file(bench.directory.path(), "glsa_wrong");
    bench.again();
    bench.refused_app(&["unauthorized"]);

    bench.target.settings["token"] = secret_file(bench.directory.path(), TOKEN);
    app.set(json!({"drop_dashboards": 2}));
    bench.again();
    let fewer = bench.capture_with(Some(facts(&captured))).unwrap();
    assert_eq!(fewer.warnings[0].code, "fewer_objects", "{:?}", fewer.warnings);
    app.set(json!({"drop_dashboards": 4}));
    bench.again();
    let failure = bench.capture_with(Some(facts(&captured))).unwrap_err();
    assert_eq!(failure.trouble.code, "fewer_objects");
    assert!(failure.trouble.message.contains("5 dashboards where there were 11"), "{failure}");
    bench.target.settings["allow_fewer"] = json!(true);
    bench.again();
    assert!(bench.capture_with(Some(facts(&captured))).unwrap().warnings.is_empty());
    let fresh = Simulated::start("grafana.py", &["fresh"]);
    bench.target.settings["url"] = json!(fresh.url());
    bench.again();
    bench.refused_app(&["nothing_seen"]);
}

#[test]
fn empty_dashboards_login_pages_and_broken_answers_are_no_backup() {
    let app = grafana();
    let mut bench = bench(&app);
    app.set(json!({"bare_dashboards": true}));
    bench.refused_app(&["object_incomplete"]);
    app.set(json!({"bare_dashboards": false}));
    for (path, mode, codes) in [
        ("/api/health", "html", &["unexpected_answer"][..]),
        ("/api/org", "html", &["unexpected_answer"]),
        ("/api/search", "html", &["unexpected_answer"]),
        ("/api/search", "empty", &["unexpected_answer"]),
        ("/api/search", "half-json", &["unexpected_answer"]),
        ("/api/search", "truncate", &["cut_short"]),
        ("/api/dashboards/uid/dash3", "flip", &["unexpected_answer", "object_incomplete"]),
        ("/api/dashboards/uid/dash3", "truncate", &["cut_short"]),
        ("/api/dashboards/uid/dash3", "hangup", &["cut_short", "http_failed"]),
        ("/api/dashboards/uid/dash3", "silence", &["silent"]),
        ("/api/dashboards/uid/dash3", "drip", &["silent"]),
        ("/api/dashboards/uid/dash3", "huge", &["too_large"]),
        ("/api/dashboards/uid/dash3", "error", &["app_failed"]),
        ("/api/folders", "half-json", &["unexpected_answer"]),
        ("/api/datasources", "gateway", &["app_failed"]),
        ("/api/v1/provisioning/policies", "empty", &["unexpected_answer"]),
        ("/apis/", "html", &["unexpected_answer"]),
    ] {
        app.fault(json!({"path": path, "mode": mode}));
        bench.target.settings["silence"] = json!(patience(&[mode]));
        bench.again();
        // A flip may hit a letter of a title: then the object is another, and nobody can know.
        if mode == "flip" {
            let _ = bench.capture_with(None);
        } else {
            let failure = bench.refused_app(codes);
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
        app.mend();
    }
}

#[test]
fn a_dashboard_whose_folder_is_not_listed_is_kept_with_its_folder_or_not_at_all() {
    let app = grafana();
    let bench = bench(&app);
    app.set(json!({"drop_folder": "net"}));
    let failure = bench.refused_app(&["folder_unseen"]);
    assert!(failure.trouble.message.contains("dash2"), "{failure}");
}

#[test]
fn a_fresh_grafana_becomes_what_the_backup_is_and_a_second_time_nothing_changes() {
    let app = grafana();
    let mut bench = bench(&app);
    let captured = bench.proven_app();
    let fresh = Simulated::start("grafana.py", &["fresh"]);
    fresh.set(json!({"version": "13.0.1"}));
    bench.target.settings["url"] = json!(fresh.url());

    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert_eq!(fresh.state()["folders"], json!({}), "a dry run changes nothing");
    assert_eq!(plan.warnings[0].code, "version_differs");
    let told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(told.contains(&"create dashboard Dashboard 4 (dash4)".to_owned()), "{told:#?}");
    assert!(
        told.contains(&"by hand data source Prometheus (prom): enter again: basicAuthPassword".to_owned()),
        "{told:#?}"
    );
    assert!(told.contains(&"replace notification policies".to_owned()), "{told:#?}");
    let parent = told.iter().position(|step| step.contains("(infra)")).unwrap();
    assert!(parent < told.iter().position(|step| step.contains("(net)")).unwrap());

    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let (before, after) = (app.state(), fresh.state());
    for what in ["folders", "mutes"] {
        assert_eq!(before[what], after[what], "{what}");
    }
    assert_eq!(after["locked"], json!([]), "all can still be changed in the interface");
    assert_eq!(after["dashboards"]["dash4"]["dashboard"]["title"], "Dashboard 4");
    assert_eq!(after["new_dashboards"]["dyn1"]["spec"], before["new_dashboards"]["dyn1"]["spec"]);
    assert_eq!(after["groups"][0]["rules"].as_array().unwrap().len(), 3);

    // Captured again it is the same.
    let again = bench.restore_app(&captured, json!({}), true).unwrap();
    let changes: Vec<String> =
        again.steps.iter().filter(|step| step.verb != larder::plugin::Verb::Keep).map(ToString::to_string).collect();
    assert_eq!(changes, Vec::<String>::new());
    // A change by hand is undone, and only that.
    fresh.set(json!({"rename": "dash4"}));
    let restored = bench.restore_app(&captured, json!({"only": ["dashboard"]}), false).unwrap();
    let replaced: Vec<String> = restored
        .steps
        .iter()
        .filter(|step| step.verb == larder::plugin::Verb::Replace)
        .map(ToString::to_string)
        .collect();
    assert_eq!(replaced, ["replace dashboard Dashboard 4 (dash4)"]);
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert_eq!(fresh.state()["dashboards"]["dash4"]["dashboard"]["title"], "Dashboard 4");
}

#[test]
fn a_restore_that_fails_in_the_middle_leaves_what_was_there() {
    let app = grafana();
    let mut bench = bench(&app);
    let captured = bench.proven_app();
    let what =
        ["folders", "datasources", "panels", "dashboards", "new_dashboards", "points", "mutes", "policies", "groups"];
    let state = |app: &Simulated| what.map(|each| app.state()[each].clone());
    app.set(json!({"rename": "dash4", "refuse": ["Dashboard 8"]}));
    app.set(json!({"drop_dashboards": 1}));
    let title = |app: &Simulated| app.state()["dashboards"]["dash4"]["dashboard"]["title"].clone();
    app.set(json!({"rename": "dash8"}));
    let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
    assert_eq!(failure.trouble.code, "object_refused");
    assert!(failure.trouble.message.ends_with("is as it was"), "{failure}");
    let after = app.state();
    assert_eq!(title(&app), "changed by hand");
    assert_eq!(after["dashboards"].get("dash0"), None, "what was created is gone again");

    let fresh = Simulated::start("grafana.py", &["fresh"]);
    fresh.set(json!({"refuse": ["Dashboard 8"]}));
    bench.target.settings["url"] = json!(fresh.url());
    let before = state(&fresh);
    bench.restore_app(&captured, json!({}), false).unwrap_err();
    assert_eq!(state(&fresh), before);
    fresh.set(json!({"refuse": []}));
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
}

/// Numbers that count how often something was saved are no content.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                !matches!(key.as_str(), "version" | "id" | "resourceVersion" | "updated" | "folderId")
            });
            fields.values_mut().for_each(plain);
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

#[test]
fn killed_at_any_instant_of_a_restore_grafana_is_what_it_was_or_what_the_backup_is() {
    let app = grafana();
    let mut bench = bench(&app);
    let captured = bench.proven_app();
    let what = [
        "folders",
        "datasources",
        "panels",
        "dashboards",
        "new_dashboards",
        "points",
        "mutes",
        "policies",
        "groups",
        "templates",
    ];
    let state = |app: &Simulated| {
        let whole = app.state();
        what.map(|each| {
            let mut value = whole[each].clone();
            plain(&mut value);
            value
        })
    };
    let wanted = {
        let fresh = Simulated::start("grafana.py", &["fresh"]);
        bench.target.settings["url"] = json!(fresh.url());
        bench.restore_app(&captured, json!({}), false).unwrap();
        state(&fresh)
    };
    let (mut olds, mut news) = (0, 0);
    for step in 0..40 {
        let fresh = Simulated::start("grafana.py", &["fresh"]);
        bench.target.settings["url"] = json!(fresh.url());
        // Something that will be replaced, and not only made.
        if step % 2 == 0 {
            bench.restore_app(&captured, json!({"only": ["folder", "dashboard"]}), false).unwrap();
            fresh.set(json!({"rename": "dash4"}));
        }
        let before = state(&fresh);
        bench.run = RunId::generate(jiff::Timestamp::now());
        let wait = Duration::from_millis(12 * step);
        let ended = super::database::put_back_noted(&bench, &captured, json!({}), Some(wait));
        bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        let now = state(&fresh);
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
        if now == wanted {
            news += 1;
        } else {
            assert_eq!(now, before, "killed after {wait:?}\n{}", bench.log());
            olds += 1;
        }
        if ended.is_ok() && step > 4 {
            break;
        }
    }
    assert!(olds > 2 && news > 0, "{olds} times what it was, {news} times the backup");
}

#[test]
fn what_comes_from_files_on_the_server_is_left_alone() {
    let app = grafana();
    let bench = bench(&app);
    let captured = bench.proven_app();
    app.set(json!({"provisioned": "dash1"}));
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    let told: Vec<String> = restored.steps.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|step| step.starts_with("by hand dashboard Dashboard 1 (dash1): it comes from files")),
        "{told:#?}"
    );
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let failure = bench.restore_app(&captured, json!({"onyl": []}), true).unwrap_err();
    assert_eq!(failure.trouble.code, "restore_options");
}

#[test]
fn a_file_that_changed_or_is_gone_is_not_proven() {
    let app = grafana();
    let bench = bench(&app);
    let captured = bench.proven_app();
    let path = bench.staging().join("dashboards/dash1.json");
    let whole = std::fs::read(&path).unwrap();
    let damages: [&[u8]; 4] = [&whole[..whole.len() / 2], b"", b"<html>", b"{}"];
    for damaged in damages {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::Failed);
        assert_eq!(bench.restore_app(&captured, json!({}), true).unwrap_err().trouble.code, "object_incomplete");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::Failed);
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    let app = grafana();
    let token = &[("token", TOKEN)][..];
    for (settings, secrets, code) in [
        (json!({"url": app.url(), "tokne": 1}), token, "settings"),
        (json!({"url": app.url()}), &[], "settings"),
        (json!({"url": app.url(), "username": "me"}), token, "settings"),
        (json!({"url": app.url(), "org": 2}), token, "settings"),
        (json!({"url": "https://me:hunter2@grafana.lan"}), token, "bad_url"),
        (json!({"url": "http://grafana.example.org"}), token, "clear_text"),
    ] {
        let failure = Bench::of_app("grafana", settings, secrets).refused_app(&[code]);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    assert_eq!(app.state()["calls"], json!([]));
}
