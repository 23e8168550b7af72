//! The plugin `docker` where Docker answers otherwise than Podman.

use super::docker::{artifacts, docker};
use super::support::engine::Engine;
use super::*;

fn volume(name: &str, at: &str) -> Value {
    json!({"Type": "volume", "Name": name, "Source": format!("/nowhere/{name}"), "Destination": at, "RW": true})
}

#[test]
fn two_directories_of_one_volume_are_both_kept() {
    let part = |target: &str, subpath: &str| json!({"Type": "volume", "Source": "v", "Target": target, "VolumeOptions": {"Subpath": subpath}});
    let mounts = json!([volume("v", "/a"), volume("v", "/b"), volume("w", "/c")]);
    let parts = json!({"Mounts": [part("/a", "one"), part("/b", "two/three")]});
    let engine = Engine::start(&mounts, &parts, &json!({"Running": true}), vec![("/a", "1"), ("/b", "2"), ("/c", "3")]);
    let bench = docker(&engine.socket(), json!({"containers": ["one"]}));
    let captured = bench.proven_docker();
    let all = artifacts(&captured);
    for wanted in ["volumes/v%2Fone.tar", "volumes/v%2Ftwo%2Fthree.tar", "volumes/w.tar"] {
        assert!(all.contains(&wanted.to_owned()), "{wanted} is not in {all:?}");
    }
    let inventory: Value =
        serde_json::from_slice(&std::fs::read(bench.staging().join("inventory.json")).unwrap()).unwrap();
    assert_eq!(
        (&inventory["volumes"][1]["name"], &inventory["volumes"][1]["subpath"]),
        (&json!("v/two/three"), &json!("two/three"))
    );
    // Where another mount has all of the volume, that has its directories, too.
    let mounts = json!([volume("v", "/a"), volume("v", "/b")]);
    let parts = json!({"Mounts": [part("/a", "one")]});
    let engine = Engine::start(&mounts, &parts, &json!({"Running": true}), vec![("/a", "1"), ("/b", "2")]);
    let captured = docker(&engine.socket(), json!({"containers": ["one"]})).proven_docker();
    assert_eq!(captured.figures["volumes"], 1);
    assert!(artifacts(&captured).contains(&"volumes/v.tar".to_owned()));
}

#[test]
fn a_container_between_two_restarts_is_stopped_where_others_are_paused() {
    let restarting = json!({"Running": true, "Paused": false, "Restarting": true});
    let engine = Engine::start(&json!([volume("v", "/data")]), &json!({}), &restarting, vec![("/data", "1")]);
    let bench = docker(&engine.socket(), json!({"containers": ["one"], "stop": "pause", "stop_timeout": 2}));
    bench.proven_docker();
    assert_eq!(engine.calls(), ["stop", "start"]);
    assert_eq!(engine.state()["Running"], true);
}

#[test]
fn what_is_started_with_rm_is_refused_before_any_call_that_changes_something() {
    let engine = Engine::start(
        &json!([volume("v", "/data")]),
        &json!({"AutoRemove": true, "RestartPolicy": {"Name": "no"}}),
        &json!({"Running": true}),
        vec![("/data", "1")],
    );
    let bench = docker(&engine.socket(), json!({"containers": ["one"], "stop": "stop"}));
    bench.refused_docker("stop_would_remove");
    assert_eq!(engine.calls(), Vec::<String>::new());
}
