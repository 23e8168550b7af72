//! The plugins `opnsense` and `pfsense` against simulated ones: a 200 is never proof.

use super::support::simulator::Simulator;
use super::*;

const SECRET: &str = "S3cret/of+Larder=Otter";

pub(super) fn opnsense(options: &[&str]) -> (Simulator, Bench) {
    let simulator = Simulator::start("opnsense", &[&["--key", "w86XN", "--secret", SECRET], options].concat());
    let mut bench = Bench::new("opnsense", json!({"url": simulator.url, "key": "w86XN", "silence": patience(options)}));
    bench.target.settings["secret"] = secret_file(bench.directory.path(), SECRET);
    (simulator, bench)
}

pub(super) fn pfsense(options: &[&str]) -> (Simulator, Bench) {
    let simulator = Simulator::start("pfsense", &[&["--user", "larder", "--password", SECRET], options].concat());
    let mut bench =
        Bench::new("pfsense", json!({"url": simulator.url, "user": "larder", "silence": patience(options)}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), SECRET);
    (simulator, bench)
}

/// Damage that both must refuse, with the code of each.
const DAMAGE: &[(&str, &str)] = &[
    ("truncated", "cut_short"),
    ("reset", "cut_short"),
    ("silence", "silent"),
    ("huge", "too_large"),
    ("half-closed", "xml_broken"),
    ("six-bytes", "xml_broken"),
    ("empty", "export_empty"),
    ("html", "export_is_a_page"),
    ("html-as-export", "export_is_a_page"),
    ("redirect", "redirected"),
    ("wrong-root", "wrong_root"),
    ("no-interfaces", "export_incomplete"),
    ("encrypted", "export_encrypted"),
];

fn refused_with_the_next_step(bench: &Bench, fault: &str, code: &str) {
    let failure = bench.refused(code);
    assert!(failure.trouble.hint.is_some() || fault == "huge", "{fault}: {failure}");
    assert!(!failure.to_string().contains(SECRET) && !bench.log().contains(SECRET), "{fault}");
}

#[test]
fn an_opnsense_is_captured_proven_and_counted() {
    let (_simulator, bench) = opnsense(&["--firmware", "yes"]);
    let captured = bench.proven();
    assert_eq!(captured.app_version.as_deref(), Some("OPNsense 24.7.9"));
    let figures =
        ["interfaces", "filter_rules", "nat_rules", "certificates", "users"].map(|name| captured.figures[name]);
    assert_eq!(figures, [2, 2, 1, 1, 1]);
    let (simulator, bench) = opnsense(&["--old", "yes", "--tls", "good"]);
    let mut bench = bench;
    bench.target.settings["tls"] = json!({"ca": simulator.ca});
    assert_eq!(bench.proven().app_version, None);
    assert!(bench.log().contains("System: Firmware"));
}

#[test]
fn no_damage_of_an_opnsense_becomes_a_backup() {
    for (fault, code) in DAMAGE.iter().chain(&[("error", "app_failed"), ("forbidden", "forbidden")]) {
        let (_simulator, bench) = opnsense(&["--fault", fault]);
        refused_with_the_next_step(&bench, fault, code);
    }
    let (_simulator, mut bench) = opnsense(&[]);
    bench.target.settings["key"] = json!("another");
    refused_with_the_next_step(&bench, "", "unauthorized");
    bench.target.settings["url"] = json!("http://fw.example.org");
    refused_with_the_next_step(&bench, "", "clear_text");
}

#[test]
fn a_pfsense_is_captured_proven_counted_and_logged_out_of() {
    let (simulator, bench) = pfsense(&["--tls", "self-signed"]);
    let mut bench = bench;
    bench.target.settings["tls"] = json!({"fingerprint": simulator.fingerprint});
    let captured = bench.proven();
    assert_eq!(captured.app_version.as_deref(), Some("configuration 23.3"));
    assert_eq!(["interfaces", "filter_rules", "users"].map(|name| captured.figures[name]), [2, 1, 1]);
    let text = std::fs::read_to_string(bench.staging().join("config.xml")).unwrap();
    assert!(!text.contains("rrddata"));
    let state = simulator.state();
    assert_eq!((&state["open"], &state["logged_out"]), (&json!(0), &json!(1)));
    bench.again();
    bench.target.settings["rrd"] = json!(true);
    bench.proven();
    assert!(std::fs::read_to_string(bench.staging().join("config.xml")).unwrap().contains("rrddata"));
}

#[test]
fn no_damage_of_a_pfsense_becomes_a_backup_and_nobody_stays_logged_in() {
    let own = [("session-ends", "session_ended"), ("bad-token", "form_refused"), ("not-pfsense", "not_pfsense")];
    for (fault, code) in DAMAGE.iter().chain(&own) {
        let (simulator, bench) = pfsense(&["--fault", fault]);
        refused_with_the_next_step(&bench, fault, code);
        assert_eq!(simulator.state()["open"], 0, "{fault}");
    }
    let (_simulator, bench) = pfsense(&["--fault", "locked"]);
    assert_eq!(bench.refused("locked_out").outcome, Outcome::Deferred);
    let (simulator, bench) = pfsense(&["--no-right", "yes"]);
    refused_with_the_next_step(&bench, "", "forbidden");
    assert_eq!(simulator.state()["open"], 0);
    let (_simulator, mut bench) = pfsense(&[]);
    bench.target.settings["user"] = json!("another");
    refused_with_the_next_step(&bench, "", "unauthorized");
}

#[test]
fn a_restore_checks_the_configuration_and_says_what_a_person_has_to_do() {
    let (_simulator, bench) = opnsense(&[]);
    let captured = bench.proven();
    let told = bench.restore_app(&captured, json!({}), true).unwrap();
    assert!(told.steps.iter().filter(|step| step.to_string().starts_with("by hand")).count() >= 2, "{:#?}", told.steps);
    let told = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&told.validations), Verdict::CouldNotVerify);
    std::fs::write(bench.staging().join("config.xml"), "<pfsense/>").unwrap();
    assert_eq!(bench.restore_app(&captured, json!({}), true).unwrap_err().trouble.code, "wrong_root");
    let (_simulator, bench) = pfsense(&[]);
    let captured = bench.proven();
    assert!(bench.restore_app(&captured, json!({}), true).is_ok());
    assert_eq!(bench.restore_app(&captured, json!({"x": 1}), true).unwrap_err().trouble.code, "restore_options");
}

#[test]
fn a_configuration_that_changed_after_the_capture_is_not_proven() {
    let (_simulator, bench) = pfsense(&[]);
    let captured = bench.proven();
    let path = bench.staging().join("config.xml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("em1", "em2")).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
}

#[test]
fn a_configuration_in_other_clothes_is_captured_proven_and_counted_as_in_its_own() {
    for clothes in ["gzip", "bom", "utf-16", "latin-1", "gzip+gzip", "utf-16+gzip", "latin-1+gzip"] {
        for (simulator, bench) in [opnsense(&[]), pfsense(&[])] {
            simulator.set("clothes", &clothes.replace('+', "%2B"));
            let captured = bench.proven();
            assert_eq!(
                ["interfaces", "filter_rules", "users"].map(|name| captured.figures[name] > 0),
                [true; 3],
                "{clothes}"
            );
            // And what is wrong with it is seen behind them.
            bench.again();
            simulator.set("fault", "wrong-root");
            bench.refused("wrong_root");
            bench.again();
            simulator.set("fault", "no-interfaces");
            bench.refused("export_incomplete");
        }
    }
}
