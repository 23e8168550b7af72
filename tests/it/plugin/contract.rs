//! Plugins against mocks that Prism makes of the vendors' own OpenAPI documents.
//!
//! A mock answers what the document allows: it shows that requests are as documented (it answers 4xx otherwise), and it is
//! full of traps (the same page for ever, dashboards that are `{}`, commands that stay queued). None is ever a success.

use std::process::{Child, Stdio};

use super::simulated::{http, spec};
use super::support::simulator::Simulator;
use super::*;

struct Prism {
    child: Child,
    port: u16,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Prism {
    fn start(document: &str) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/prism/node_modules/.bin/prism");
        let document = spec(document)?;
        if !program.is_file() {
            skip(Lack::Prism, format_args!("{} is not there (tests/setup/prism.sh)", program.display()));
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let port = support::free_port();
        let child = std::process::Command::new(program)
            .args(["mock", "-h", "127.0.0.1", "-p", &port.to_string()])
            .arg(document)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prism = Self { child, port, log, _directory: directory };
        support::wait_for("Prism", Duration::from_secs(60), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        Some(prism)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What Prism found wrong with the requests.
    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let wrong = |line: &&str| {
            line.contains("Violation: request") || line.contains("ROUTE") || line.contains("Request did not pass")
        };
        log.lines().filter(wrong).map(str::to_owned).collect()
    }
}

impl Drop for Prism {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_arr_applications_are_called_as_their_documents_say_and_a_stuck_command_is_no_backup() {
    for (name, document) in [
        ("radarr", "radarr-v3.openapi.json"),
        ("sonarr", "sonarr-v3.openapi.json"),
        ("prowlarr", "prowlarr-v1.openapi.json"),
        ("lidarr", "lidarr-v1.openapi.json"),
    ] {
        let Some(prism) = Prism::start(document) else { return };
        let settings = json!({"url": prism.url(), "wait": "2s", "silence": "5s"});
        let bench = Bench::of_app(name, settings, &[("api_key", "0123456789abcdef")]);
        let failure = bench.capture_with(None).unwrap_err();
        assert_eq!(failure.trouble.code, "backup_stuck", "{name}: {failure}");
        assert_eq!(prism.complaints(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn grafana_is_called_as_its_document_says_and_an_empty_dashboard_is_no_backup() {
    let Some(prism) = Prism::start("grafana-trimmed.prism.json") else { return };
    let settings = json!({"url": prism.url(), "silence": "10s"});
    let bench = Bench::of_app("grafana", settings, &[("token", "glsa_0123456789")]);
    let failure = bench.capture_with(None).unwrap_err();
    assert!(["object_incomplete", "unexpected_answer"].contains(&failure.trouble.code.as_str()), "{failure}");
    assert_eq!(prism.complaints(), Vec::<String>::new());
    assert!(http(prism.port, "GET", "/api/search", "").len() < 10_000, "the mock is still well");
}

#[test]
fn a_pihole_is_called_as_its_document_says_and_a_zip_of_six_bytes_is_no_backup() {
    let Some(prism) = Prism::start("pihole-ftl/main.prism.yaml") else { return };
    let of =
        |url: String| Bench::of_app("pihole", json!({"url": url, "silence": "20s"}), &[("password", "abcdef-larder")]);
    let bench = of(prism.url());
    assert!(bench.refused_app(&["not_a_zip"]).trouble.message.contains("6 bytes"));
    assert_eq!(bench.noted(), Vec::<PathBuf>::new(), "the session was ended");
    let note = json!({"user_agent": "larder/0.0.0 (run of another day)", "at_s": jiff::Timestamp::now().as_second()});
    std::fs::write(bench.journal().join("session.json"), note.to_string()).unwrap();
    bench.recover_app().unwrap();
    assert_eq!(prism.complaints(), Vec::<String>::new());
    let log = std::fs::read_to_string(&prism.log).unwrap();
    for call in
        ["post /api/auth", "get /api/info/version", "get /api/teleporter", "delete /api/auth", "get /api/auth/sessions"]
    {
        assert!(log.contains(call), "{call} was not called:\n{log}");
    }
    for (prefer, code, outcome) in [
        ("code=429, example=no_seats", "seats_exceeded", Outcome::Deferred),
        ("code=429, example=totp_rate_limit", "rate_limited", Outcome::Deferred),
        ("code=400, example=totp_missing", "second_factor", Outcome::Failed),
        ("code=401, example=totp_invalid", "unauthorized", Outcome::Failed),
    ] {
        let options = ["--to", &prism.url(), "--call", "POST /api/auth", "--prefer", prefer];
        let passer = Simulator::start("prefer", &options);
        assert_eq!(of(passer.url.clone()).refused_app(&[code]).outcome, outcome, "{prefer}");
        assert_eq!(passer.calls("GET /api/teleporter"), 0);
    }
}

#[test]
fn an_invoice_ninja_is_called_as_its_document_says_and_an_order_without_a_link_is_no_backup() {
    let Some(prism) = Prism::start("invoiceninja-v5.api-docs.yaml") else { return };
    let of = |url: String| Bench::of_app("invoiceninja", json!({"url": url}), &[("token", "abcdef-larder")]);
    of(prism.url()).refused_app(&["export_empty"]);
    assert_eq!(prism.complaints(), Vec::<String>::new());
    for (prefer, code) in [("code=401", "unauthorized"), ("code=403", "unauthorized"), ("code=422", "refused")] {
        let options = ["--to", &prism.url(), "--call", "POST /api/v1/export", "--prefer", prefer];
        let passer = Simulator::start("prefer", &options);
        of(passer.url.clone()).refused_app(&[code]);
    }
}
