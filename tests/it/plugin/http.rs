//! The plugin `http` against an application that exports, also when it is damaged or asks who one is.

use std::io::Write as _;

use super::support::simulator::Simulator;
use super::*;

const TOKEN: &str = "t0ken-of-Larder-Brunch";

pub(super) fn bench(url: &str, settings: Value) -> Bench {
    let mut bench = Bench::new("http", json!({"url": url, "silence": patience(&[])}));
    for (name, value) in settings.as_object().unwrap() {
        bench.target.settings[name] = value.clone();
    }
    bench
}

/// Each kind of export with its checks.
fn kinds() -> Vec<(&'static str, Value)> {
    vec![
        ("/export.zip", json!(["zip", {"min_size": "1KiB"}])),
        ("/export.tar", json!(["tar"])),
        ("/export.tar.gz", json!(["tar.gz"])),
        ("/export.json", json!(["json", {"contains": "\"rules\""}])),
        ("/export.json.gz", json!(["gzip"])),
        ("/export.db", json!(["sqlite"])),
        ("/export.xml", json!([{"xml": "/backup"}])),
    ]
}

#[test]
fn every_kind_of_export_is_captured_and_proven_by_its_checks() {
    let simulator = Simulator::start("exporter", &[]);
    for (path, checks) in kinds() {
        let bench = bench(&format!("{}{path}", simulator.url), json!({"validate": checks}));
        let captured = bench.proven();
        assert_eq!(captured.artifacts[0].path, Path::new(&path[1..]));
        assert_eq!(captured.app_version.as_deref(), Some("9.1.4"));
        assert!(!captured.figures.is_empty(), "{path}");
    }
    let bench = bench(&simulator.url, json!({"file_name": "my rules.json"}));
    let captured = bench.capture().unwrap();
    assert_eq!(captured.artifacts[0].path, Path::new("my%20rules.json"));
    assert_eq!(
        verdict(&bench.validate(&captured).unwrap()),
        Verdict::CouldNotVerify,
        "what is not checked is not green"
    );
}

#[test]
fn credentials_are_sent_as_the_settings_say_and_appear_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret_file(directory.path(), TOKEN);
    for (options, settings) in [
        (&["--token", TOKEN][..], json!({"bearer": secret})),
        (&["--user", "larder", "--password", TOKEN], json!({"basic": {"user": "larder", "password": secret}})),
        (&["--key", TOKEN], json!({"secret_query": {"key": secret}})),
        (&["--header", TOKEN], json!({"secret_headers": {"X-Api-Key": secret}})),
    ] {
        let simulator = Simulator::start("exporter", options);
        let url = format!("{}/export.json?format=full", simulator.url);
        let mut given = settings.clone();
        given["validate"] = json!(["json"]);
        let with = bench(&url, given);
        with.proven();
        assert!(!with.log().contains(TOKEN));
        let without = bench(&url, json!({"validate": ["json"]}));
        let failure = without.refused("unauthorized");
        assert!(failure.trouble.message.contains("Who are you?") || failure.trouble.message.contains("Forbidden"));
        simulator.set("fault", "error");
        let failed = bench(&url, settings).refused("app_failed");
        assert!(!failed.to_string().contains(TOKEN) && failed.to_string().contains("disk is on fire"), "{failed}");
    }
}

#[test]
fn method_body_and_headers_are_those_of_the_settings() {
    let simulator = Simulator::start("exporter", &[]);
    let settings = json!({
        "method": "POST", "body": "{\"all\": true}", "headers": {"X-Tenant": "home"},
        "content_type": "application/json", "validate": ["json"],
    });
    bench(&format!("{}/export.json", simulator.url), settings).proven();
    let wanted = json!({"method": "POST", "body": "{\"all\": true}", "type": "application/json",
                        "accept": "application/json", "tenant": "home"});
    assert_eq!(simulator.state()["sent"], wanted);
}

#[test]
fn no_damage_becomes_a_backup() {
    for (fault, code) in [
        ("truncated", "cut_short"),
        ("reset", "cut_short"),
        ("silence", "silent"),
        ("huge", "too_large"),
        ("empty", "export_empty"),
        ("html", "export_is_a_page"),
        ("html-as-export", "export_is_a_page"),
        ("redirect", "redirected"),
        ("error", "app_failed"),
        ("forbidden", "unauthorized"),
    ] {
        let simulator = Simulator::start("exporter", &["--fault", fault]);
        let settings = json!({"silence": patience(&[fault])});
        let bench = bench(&format!("{}/export.json", simulator.url), settings);
        let failure = bench.refused(code);
        assert_eq!(failure.outcome, Outcome::Failed);
        assert!(failure.trouble.hint.is_some() || fault == "huge", "{failure}");
        if code != "export_is_a_page" {
            assert_eq!(bench.staged(), Vec::<String>::new(), "{fault}");
        }
    }
}

#[test]
fn what_is_cut_without_the_protocol_showing_it_is_seen_by_every_check() {
    let simulator = Simulator::start("exporter", &[]);
    for fault in ["half-closed", "six-bytes"] {
        simulator.set("fault", fault);
        for (path, checks) in kinds() {
            let bench = bench(&format!("{}{path}", simulator.url), json!({"validate": checks}));
            let failure = bench.capture().expect_err(path);
            assert!(failure.trouble.hint.is_some(), "{path}: {failure}");
        }
    }
    simulator.set("fault", "flipped");
    for (path, checks) in kinds().into_iter().filter(|(path, _)| path.ends_with("gz") || path.ends_with("zip")) {
        let bench = bench(&format!("{}{path}", simulator.url), json!({"validate": checks}));
        assert_eq!(bench.capture().expect_err(path).trouble.code, "archive_damaged", "{path}");
    }
}

#[test]
fn an_export_that_is_not_what_the_settings_say_is_refused() {
    let simulator = Simulator::start("exporter", &[]);
    for (path, settings, code) in [
        ("/export.json", json!({"content_type": "application/zip"}), "wrong_content_type"),
        ("/export.html", json!({"content_type": "application/zip"}), "export_is_a_page"),
        ("/export.html", json!({}), "export_is_a_page"),
        ("/export.json", json!({"validate": ["zip"]}), "archive_damaged"),
        ("/export.json", json!({"validate": [{"min_size": "1MiB"}]}), "export_small"),
        ("/export.json", json!({"validate": [{"contains": "no such text"}]}), "text_missing"),
        ("/export.xml", json!({"validate": [{"xml": "/opnsense"}]}), "wrong_root"),
        ("/export.json", json!({"validate": [{"xml": "/opnsense"}]}), "xml_broken"),
        ("/export.zip", json!({"validate": ["json"]}), "not_json"),
        ("/export.zip", json!({"validate": ["sqlite"]}), "database_damaged"),
        ("/export.json", json!({"max_size": "1KiB"}), "too_large"),
        ("/nothing", json!({}), "export_empty"),
        ("/gone", json!({}), "not_found"),
    ] {
        bench(&format!("{}{path}", simulator.url), settings.clone()).refused(code);
    }
    assert_eq!(bench(&format!("{}/busy", simulator.url), json!({})).refused("app_busy").outcome, Outcome::Deferred);
    bench(
        &format!("{}/export.html", simulator.url),
        json!({"content_type": "text/html", "validate": [{"contains": "form"}]}),
    )
    .proven();
}

#[test]
fn an_export_that_changed_after_the_capture_is_not_proven() {
    let simulator = Simulator::start("exporter", &[]);
    let bench = bench(&format!("{}/export.json", simulator.url), json!({"validate": ["json"]}));
    let captured = bench.proven();
    let path = bench.staging().join("export.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("rule 7", "rule 8", 1)).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
}

#[test]
fn settings_that_cannot_be_meant_are_refused_without_showing_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret_file(directory.path(), TOKEN);
    for (url, settings, code) in [
        ("http://app.example.org/x", json!({"bearer": secret}), "clear_text"),
        ("http://app.example.org/x", json!({"headers": {"Cookie": "a=b"}}), "clear_text"),
        ("https://me:hunter2@app.lan/x", json!({}), "bad_url"),
        ("https://app.lan/x#y", json!({}), "bad_url"),
        ("file:///etc/passwd", json!({}), "bad_url"),
        ("https://app.lan/x", json!({"validate": ["yaml"]}), "settings"),
        ("https://app.lan/x", json!({"methd": "GET"}), "settings"),
        ("https://app.lan/x", json!({"headers": {"X\nY": "z"}}), "http_failed"),
        ("https://app.lan/x", json!({"tls": {"ca": "/x", "fingerprint": "00"}}), "bad_tls"),
    ] {
        let failure = bench(url, settings).refused(code);
        assert!(!failure.to_string().contains("hunter2") && !failure.to_string().contains(TOKEN), "{failure}");
    }
}

#[test]
fn an_export_of_2_gb_is_streamed_in_less_than_64_mb_of_memory() {
    const SIZE: u64 = 2 << 30;
    let simulator = Simulator::start("exporter", &["--size", &SIZE.to_string()]);
    let staging = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(support::larder())
        .args(["plugin", "http"])
        .current_dir(staging.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({"protocol": 1, "action": "capture", "staging": staging.path(),
                         "settings": {"url": format!("{}/big", simulator.url)}});
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
        said
    });
    let mut peak_kib = 0;
    let ended = support::wait_for("the capture", Duration::from_secs(300), || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0_u64));
        child.try_wait().unwrap()
    });
    let said = reading.join().unwrap();
    assert!(ended.success() && said.contains(r#""event":"artifact""#), "{said}");
    assert_eq!(std::fs::metadata(staging.path().join("big")).unwrap().len(), SIZE);
    println!("peak memory of a capture of 2 GiB: {} MiB", peak_kib / 1024);
    assert!(peak_kib > 0 && peak_kib < 64 << 10, "{peak_kib} KiB");
}

#[test]
fn nothing_in_a_wrapper_is_no_export_and_what_inside_asks_for_is_looked_at_behind_it() {
    let simulator = Simulator::start("exporter", &[]);
    let of = |path: &str, settings: Value| bench(&format!("{}{path}", simulator.url), settings);
    for (path, how) in [("/nothing.sql.gz", "a gzip of nothing"), ("/nothing.tar.gz", "a gzip of a tar of nothing")] {
        for settings in [json!({}), json!({"validate": ["gzip"]}), json!({"inside": {"min_size": 0}})] {
            let failure = of(path, settings.clone()).refused("export_empty");
            assert!(failure.trouble.message.contains(how), "{path} {settings}: {failure}");
        }
    }
    let comes_to = |path: &str, inside: Value| {
        let bench = of(path, json!({"inside": inside}));
        verdict(&bench.validate(&bench.capture().unwrap()).unwrap())
    };
    let all = json!({"sql_dump": "postgres", "min_size": 100, "contains": "public.t"});
    assert_eq!(comes_to("/dump.sql.gz", all.clone()), Verdict::Proven);
    assert_eq!(comes_to("/cut.sql.gz", all), Verdict::Failed);
    for inside in [json!({"sql_dump": "mysql"}), json!({"min_size": "1MiB"}), json!({"contains": "public.u"})] {
        assert_eq!(comes_to("/dump.sql.gz", inside.clone()), Verdict::Failed, "{inside}");
    }
}

#[test]
fn an_export_in_other_clothes_is_read_as_what_it_is() {
    let simulator = Simulator::start("exporter", &[]);
    let of = |name: &str, checks: Value| bench(&format!("{}/{name}.xml", simulator.url), json!({"validate": checks}));
    for name in [
        "gzip",
        "encoded",
        "bom",
        "latin-1",
        "latin-9",
        "windows-1252",
        "utf-16le",
        "utf-16be",
        "utf-16-without-a-mark",
        "gzip-of-utf-16",
        "gzip-of-latin-1",
    ] {
        let checks = json!([{"xml": "/backup"}, {"contains": "Küche &amp; Flur"}]);
        let captured = of(name, checks).proven();
        assert_eq!(captured.figures["elements"], 302, "{name}");
        of(name, json!([{"xml": "/opnsense"}])).refused("wrong_root");
        of(name, json!([{"contains": "Garage"}])).refused("text_missing");
    }
    // What cannot be read is said, not guessed.
    let failure = of("unknown", json!([{"xml": "/backup"}])).refused("xml_broken");
    assert!(failure.trouble.message.contains("KOI8-R"), "{failure}");
}
