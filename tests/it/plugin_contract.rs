//! Plugins against mocks that Prism makes of the vendors' own OpenAPI documents.
//!
//! A mock answers what the document allows: it shows that requests are as documented (it answers 4xx otherwise), and it is
//! full of traps (the same page for ever, dashboards that are `{}`, commands that stay queued). None is ever a success.

use std::process::{Child, Stdio};

use super::simulated::{http, spec};
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
            println!("skipped: {} is not there (tests/setup/prism.sh)", program.display());
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
        let settings = json!({"url": prism.url(), "wait": 2, "silence": 5});
        let bench = Bench::of_app(name, settings, &[("api_key", "0123456789abcdef")]);
        let failure = bench.capture_beside(None).unwrap_err();
        assert_eq!(failure.trouble.code, "backup_stuck", "{name}: {failure}");
        assert_eq!(prism.complaints(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn grafana_is_called_as_its_document_says_and_an_empty_dashboard_is_no_backup() {
    let Some(prism) = Prism::start("grafana-trimmed.prism.json") else { return };
    let settings = json!({"url": prism.url(), "silence": 10});
    let bench = Bench::of_app("grafana", settings, &[("token", "glsa_0123456789")]);
    let failure = bench.capture_beside(None).unwrap_err();
    assert!(["object_incomplete", "unexpected_answer"].contains(&failure.trouble.code.as_str()), "{failure}");
    assert_eq!(prism.complaints(), Vec::<String>::new());
    assert!(http(prism.port, "GET", "/api/search", "").len() < 10_000, "the mock is still well");
}
