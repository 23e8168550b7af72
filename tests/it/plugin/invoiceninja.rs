//! The plugin `invoiceninja` against a simulated one, as versions 5.6 to 2026 answer.

use super::support::simulator::Simulator;
use super::*;

const TOKEN: &str = "Q7rWombatTokenOfLarder0000";

pub(super) fn ninja(options: &[&str]) -> (Simulator, Bench) {
    let simulator = Simulator::start("invoiceninja", &[&["--token", TOKEN], options].concat());
    let settings = json!({"url": simulator.url, "silence": patience(options), "poll": "100ms", "wait": "10s"});
    let mut bench = Bench::new("invoiceninja", settings);
    bench.target.settings["token"] = secret_file(bench.directory.path(), TOKEN);
    (simulator, bench)
}

#[test]
fn an_export_is_waited_for_captured_proven_and_counted() {
    for options in [
        &["--era", "empty", "--polls", "4"][..],
        &["--era", "404", "--polls", "3"],
        // The server thinks that it is called otherwise, and may insist on that.
        &["--app-url", "http://invoices.example.org"],
        &["--app-url", "http://invoices.example.org:81", "--signed-host", "yes"],
        &["--queue", "sync"],
    ] {
        let (simulator, bench) = ninja(options);
        let captured = bench.proven();
        assert_eq!(captured.app_version.as_deref(), Some("Invoice Ninja 5.10.17"));
        let figures =
            ["clients", "client_contacts", "invoices", "users", "payments"].map(|name| captured.figures[name]);
        assert_eq!(figures, [30, 31, 50, 1, 0], "{options:?}");
        assert_eq!(simulator.state()["exports"], 1, "one order, however often it is looked for");
        assert!(!bench.log().contains(TOKEN) && !bench.log().contains("signature"));
    }
}

#[test]
fn no_damage_becomes_a_backup() {
    for (fault, code) in [
        ("truncated", "cut_short"),
        ("reset", "cut_short"),
        ("silence", "silent"),
        ("huge", "too_large"),
        ("half-closed", "archive_damaged"),
        ("flipped", "archive_damaged"),
        ("six-bytes", "not_a_zip"),
        ("not-zip", "not_a_zip"),
        ("html", "export_is_a_page"),
        ("html-as-export", "export_is_a_page"),
        ("redirect", "redirected"),
        ("error", "app_failed"),
        ("no-link", "no_link"),
        ("order-empty", "export_empty"),
        ("order-html", "export_is_a_page"),
        ("order-504", "gateway_timeout"),
        ("not-admin", "unauthorized"),
        ("no-backup-json", "export_incomplete"),
        ("bad-json", "not_json"),
        ("cut-json", "not_json"),
        ("no-clients", "export_incomplete"),
        ("no-users", "export_incomplete"),
        ("no-company", "export_incomplete"),
    ] {
        let (_simulator, bench) = ninja(&["--fault", fault]);
        let failure = bench.refused(code);
        assert!(failure.trouble.hint.is_some() || fault == "huge", "{fault}: {failure}");
        assert!(!failure.to_string().contains(TOKEN) && !bench.log().contains("signature"), "{fault}: {failure}");
    }
}

#[test]
fn an_export_that_never_gets_ready_ends_the_run_with_the_next_step() {
    for fault in ["never-ready", "empty"] {
        let (_simulator, mut bench) = ninja(&["--fault", fault]);
        bench.target.settings["wait"] = json!("1s");
        let failure = bench.refused("export_not_ready");
        assert!(failure.trouble.hint.unwrap().contains("queue"), "{fault}");
    }
}

#[test]
fn a_token_that_is_wrong_or_would_go_in_clear_text_is_told() {
    let (_simulator, mut bench) = ninja(&[]);
    bench.target.settings["token"] = secret_file(bench.directory.path(), "another-token");
    let failure = bench.refused("unauthorized");
    assert!(failure.trouble.message.contains("Invalid token") && !failure.to_string().contains("another-token"));
    bench.target.settings["url"] = json!("http://invoices.example.org");
    bench.refused("clear_text");
    bench.target.settings["url"] = json!("https://a:b@invoices.lan");
    bench.refused("bad_url");
    bench.target.settings["methd"] = json!("export");
    bench.refused("settings");
}

#[test]
fn a_restore_purges_only_when_that_is_said_and_is_not_called_proven() {
    let (simulator, bench) = ninja(&[]);
    let captured = bench.proven();
    let planned = bench.restore_app(&captured, json!({}), true).unwrap();
    let told: Vec<String> = planned.steps.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("delete ALL data of the company \"Larder & Sons\""), "{told:#?}");
    assert!(told.contains(&"create clients: 30".to_owned()), "{told:#?}");
    assert_eq!(bench.restore_app(&captured, json!({}), false).unwrap_err().trouble.code, "purge_not_allowed");
    assert_eq!(simulator.state()["imported"], json!([]));

    let restored = bench.restore_app(&captured, json!({"purge": true}), false).unwrap();
    assert_eq!(restored.warnings[0].code, "purged");
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify);
    let fields = json!({"import_settings": "true", "import_data": "true"});
    assert_eq!(simulator.state()["imported"], json!([{"fields": fields, "clients": 30}]));

    simulator.set("version", "5.9.1");
    let failure = bench.restore_app(&captured, json!({"purge": true}), true).unwrap_err();
    assert_eq!(failure.trouble.code, "backup_newer");
}
