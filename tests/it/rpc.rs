//! The server over real sockets: what a friendly client gets, and what a hostile one does not.

mod hostile;
mod site;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use jsonrpsee::core::client::{ClientT as _, Subscription, SubscriptionClientT as _};
use jsonrpsee::core::params::ObjectParams;
use larder::rpc::bind_unix;
use larder::run::RunState;
use larder::runner::live::RunUpdate;
use larder::types::Outcome;
use serde_json::{Value, json};

use site::{CONTROL, READ, TestSite, body_of, status_of, update};

#[test]
fn pages_status_metrics_and_health_are_served_with_safe_headers() {
    let site = TestSite::start();
    let page = site.get("/");
    assert_eq!(status_of(&page), 200);
    assert!(body_of(&page).contains("<!doctype html>"));
    for header in [
        "content-security-policy: default-src 'none'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "x-frame-options: DENY",
        "cache-control: no-cache",
        "content-type: text/html",
    ] {
        assert!(page.contains(header), "{header} is missing in\n{}", page.split("\r\n\r\n").next().unwrap());
    }
    assert!(body_of(&site.get("/targets/photos.html")).contains("photos"));
    let status: Value = serde_json::from_str(body_of(&site.get("/status.json"))).unwrap();
    assert_eq!(status["version"], 1);
    let metrics = site.get("/metrics");
    assert!(metrics.contains(r#"larder_job_success_total{policy="daily",target="photos"} 3"#), "{metrics}");
    assert!(metrics.contains("cache-control: no-store"));
    assert_eq!(body_of(&site.get("/healthz")), "ok\n");
}

#[test]
fn readiness_says_what_is_missing() {
    let site = TestSite::start();
    let answer = site.get("/readyz");
    assert_eq!(status_of(&answer), 503);
    assert!(answer.contains("the scheduler has not started"));
    site.readiness.store_is_open(true);
    site.readiness.config_is_applied(true);
    site.readiness.turned(Instant::now());
    assert_eq!(status_of(&site.get("/readyz")), 200);
}

#[test]
fn every_method_of_the_document_is_served_and_the_other_way_round() {
    let site = TestSite::start();
    let document = site.call("rpc.discover", &json!({}));
    let methods: BTreeSet<&str> =
        document["methods"].as_array().unwrap().iter().map(|method| method["name"].as_str().unwrap()).collect();
    for method in &methods {
        let answer = site.call_with(CONTROL, method, &json!({"surely": "unknown"}));
        assert_ne!(answer["error"]["code"], -32601, "{method} is described and not served");
    }
    assert_eq!(methods, larder::rpc::method_names(&site.rpc).into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn reading_methods_answer_from_the_ledger() {
    let site = TestSite::start();
    let targets = site.call_with(READ, "target.list", &json!({}))["result"].clone();
    assert_eq!(targets["items"][0]["name"], "paperless");
    assert_eq!(targets["next"], Value::Null);
    assert_eq!(site.call("target.get", &json!({"target": "photos"}))["jobs"][0]["state"], "ok");
    assert_eq!(site.call("target.get", &json!({"target": "photos"}))["jobs"][0]["strip"].as_array().unwrap().len(), 3);
    assert_eq!(site.call("policy.list", &json!({}))["items"][0]["retention"]["daily"], 7);
    let next = site.call("schedule.next", &json!({"target": "photos", "times": 3}));
    let times: Vec<&str> = next["items"].as_array().unwrap().iter().map(|item| item["at"].as_str().unwrap()).collect();
    assert_eq!(times, ["2026-11-22T18:00:00Z", "2026-11-23T18:00:00Z", "2026-11-24T18:00:00Z"]);
    assert_eq!(site.call("config.status", &json!({}))["state"], "applied");
    assert_eq!(site.call("destination.list", &json!({}))["items"], json!([]));
    let system = site.call("system.status", &json!({}));
    assert_eq!((system["ready"].clone(), system["counts"]["jobs"].clone()), (json!(false), json!(2)));
}

#[test]
fn runs_are_listed_newest_first_page_by_page() {
    let site = TestSite::start();
    let first = site.call("run.list", &json!({"target": "photos", "limit": 3}));
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["items"][0]["id"], site.runs[3].to_string());
    assert_eq!(first["items"][0]["state"], "capturing");
    let second = site.call("run.list", &json!({"target": "photos", "limit": 3, "cursor": first["next"]}));
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["next"], Value::Null);
    let run = site.call("run.get", &json!({"run": site.runs[0]}));
    assert_eq!((run["run"]["outcome"].as_str(), run["events"][0]["state"].as_str()), (Some("success"), Some("queued")));
    let pages = site.call("snapshot.list", &json!({"limit": 2, "cursor": "4"}));
    assert_eq!((pages["items"].as_array().unwrap().len(), pages["next"].clone()), (1, Value::Null));
}

#[test]
fn a_log_is_read_part_by_part() {
    let site = TestSite::start();
    let part = site.call("run.log", &json!({"run": site.runs[0], "offset": 0, "limit": 11}));
    assert_eq!((part["text"].as_str(), part["next"].as_u64()), (Some("first line\n"), Some(11)));
    let rest = site.call("run.log", &json!({"run": site.runs[0], "offset": 11}));
    assert_eq!((rest["text"].as_str(), rest["complete"].as_bool()), (Some("last line\n"), Some(true)));
    let none = site.call_with(READ, "run.log", &json!({"run": site.runs[3]}));
    assert_eq!(none["error"]["data"]["code"], "not_found");
}

#[test]
fn commands_reach_the_daemon_and_its_refusals_come_back_with_a_hint() {
    let site = TestSite::start();
    assert_eq!(site.call("run.start", &json!({"target": "photos"}))["runs"].as_array().unwrap().len(), 1);
    let operation = site.call("destination.check", &json!({"destination": "nas"}))["operation"].clone();
    assert_eq!(site.call("operation.get", &json!({"operation": operation}))["title"], "Check of nas");
    site.call("restore.start", &json!({"target": "photos", "to": "/tmp/x"}));
    assert_eq!(site.call("operation.list", &json!({}))["items"][0]["title"], "restore of photos");
    assert_eq!(site.call("config.reconcile", &json!({}))["result"], "unchanged");
    let until = "2026-11-25T00:00:00Z";
    assert_eq!(site.call("target.suspend", &json!({"target": "photos", "until": until}))["done"], true);
    assert_eq!(site.call("target.resume", &json!({"target": "photos"}))["done"], true);
    assert_eq!(site.call("run.cancel", &json!({"run": site.runs[3]}))["done"], true);
    let config = larder::config::model::Config::default();
    assert_eq!(site.call("config.plan", &json!({"config": config}))["lines"][0], "0 targets");

    let refused = site.call_with(CONTROL, "run.start", &json!({"target": "nobody"}));
    assert_eq!(
        (refused["error"]["code"].clone(), refused["error"]["data"]["code"].clone()),
        (json!(-32004), json!("unknown_target"))
    );
    let wrong = site.call_with(READ, "snapshot.files", &json!({"destination": "nas", "snapshot": "ab"}));
    assert_eq!(wrong["error"]["data"], json!({"code": "wrong_password", "hint": "check the secret"}));
    let relative = site.call_with(CONTROL, "restore.start", &json!({"target": "photos", "to": "here"}));
    assert_eq!(relative["error"]["code"], -32602);
}

#[test]
fn the_unix_socket_needs_no_token_and_belongs_to_its_user() {
    let site = TestSite::start();
    let mode = std::fs::metadata(&site.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&site.socket).unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"run.start","params":{"target":"photos"}}"#;
    write!(
        stream,
        "POST /rpc HTTP/1.1\r\nHost: larder\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""runs":[""#), "{answer}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let site = TestSite::start();
    let stale = site.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let _inside = site.runtime.enter();
    assert!(bind_unix(&stale).is_ok());
    assert_eq!(bind_unix(&site.socket).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(bind_unix(std::path::Path::new("/nowhere/at/all.sock")).is_err());
}

#[test]
fn a_subscription_follows_one_run_to_its_end() {
    let site = TestSite::start();
    site.runtime.block_on(async {
        let client = site.websocket().await;
        let (mine, other) = (site.runs[3], site.runs[2]);
        site.live.publish(update(mine, RunState::Capturing));
        let mut params = ObjectParams::new();
        params.insert("run", mine).unwrap();
        let mut updates: Subscription<RunUpdate> =
            client.subscribe("run.subscribe", params, "run.unsubscribe").await.unwrap();
        assert_eq!(updates.next().await.unwrap().unwrap().state, RunState::Capturing, "where it stands comes at once");
        site.live.publish(update(other, RunState::Shipping));
        site.live.publish(update(mine, RunState::Shipping));
        site.live.publish(update(mine, RunState::Finished(Outcome::Success)));
        assert_eq!(updates.next().await.unwrap().unwrap().state, RunState::Shipping, "others are filtered out");
        assert!(updates.next().await.unwrap().unwrap().state.is_finished());

        // A run that is over already says so.
        let mut params = ObjectParams::new();
        params.insert("run", site.runs[0]).unwrap();
        let mut over: Subscription<RunUpdate> =
            client.subscribe("run.subscribe", params, "run.unsubscribe").await.unwrap();
        assert!(over.next().await.unwrap().unwrap().state.is_finished());

        let system: Value = client.request("system.status", ObjectParams::new()).await.unwrap();
        assert_eq!(system["process"], std::process::id());
    });
}

#[test]
fn stopping_waits_for_what_is_in_progress_and_then_nobody_listens() {
    let mut site = TestSite::start();
    let client = site.runtime.block_on(site.websocket());
    let idle = site.connect();
    let start = Instant::now();
    site.cancel.cancel();
    let server = site.server.take().unwrap();
    site.runtime.block_on(server).unwrap();
    assert!(start.elapsed() < Duration::from_secs(12), "the drain is bounded");
    assert!(std::net::TcpStream::connect(site.address).is_err());
    drop((client, idle));
}
