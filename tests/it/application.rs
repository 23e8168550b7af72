//! Restores into an application, and what a killed capture left on it: through the daemon, with a plugin of the
//! operator's whose application is a directory.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::wait_for;

/// The application keeps `data`; while it is stopped a file `stopped` is there. A file `hang` makes a capture wait.
const PLUGIN: &str = r#"#!/bin/sh
request=$(cat)
field() { printf '%s' "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
app=$(field app)
journal=$(field journal)
case "$1" in
describe)
  echo '{"event":"description","summary":"a box","capabilities":["restore","recover"],"settings":{"type":"object","properties":{"app":{"type":"string"}},"required":["app"],"additionalProperties":false}}' ;;
capture)
  echo '{}' >"$journal/stop.json"
  touch "$app/stopped"
  while [ -e "$app/hang" ]; do sleep 0.05; done
  cp "$app/data" data
  rm "$app/stopped" "$journal/stop.json"
  case "$request" in *'"previous":{'*) echo '{"event":"log","message":"there was one before"}' ;; esac
  echo '{"event":"version","app":"1.0"}'
  echo '{"event":"figure","name":"bytes","value":'"$(wc -c <data)"'}'
  echo '{"event":"artifact","path":"data","format":"box"}' ;;
validate)
  echo '{"event":"validation","name":"there","verdict":"proven"}' ;;
restore)
  echo '{"event":"version","app":"2.0"}'
  case "$request" in *'"dry_run":true'*)
    echo '{"event":"step","verb":"replace","thing":"the data"}'
    exit 0 ;;
  esac
  echo '{}' >"$journal/stop.json"
  touch "$app/stopped"
  while [ -e "$app/hang" ]; do sleep 0.05; done
  cp data "$app/data"
  rm "$app/stopped" "$journal/stop.json"
  echo '{"event":"step","verb":"replace","thing":"the data","detail":"'"$(field note)"'"}'
  cmp -s data "$app/data" && verdict=proven || verdict=failed
  [ -e "$app/lies" ] && verdict=failed
  echo '{"event":"validation","name":"the data is back","verdict":"'"$verdict"'"}' ;;
recover)
  [ -e "$app/engine-down" ] && { echo '{"event":"failed","code":"unreachable","message":"the engine is down"}'; exit 1; }
  rm -f "$app/stopped" "$journal/stop.json" ;;
esac
"#;

fn site() -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("plugins/box", PLUGIN);
    std::fs::set_permissions(site.path("plugins/box"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = site.root().display().to_string();
    site.write(
        "config/box.yaml",
        &format!(
            "kind: Target\nname: box\nplugin: box\nwith: {{app: {root}/app}}\n---\n\
             kind: Target\nname: fresh\nplugin: box\nwith: {{app: {root}/fresh}}\nenabled: false\n"
        ),
    );
    site.write("app/data", "the first content\n");
    site.write("fresh/data", "");
    let plugins = site.path("plugins").display().to_string();
    assert!(site.git_in(&site.path("larder.git"), &["config", "larder.plugins", &plugins]).status.success());
    site.serve_with(&["--plugins", &plugins]);
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    site
}

fn read(site: &Site, path: &str) -> String {
    std::fs::read_to_string(site.path(path)).unwrap()
}

fn restore(site: &Site, params: Value) -> Value {
    site.operation(&site.call("restore.start", params).unwrap())
}

fn refused(site: &Site, params: Value) -> String {
    site.call("restore.start", params).unwrap_err()
}

#[test]
fn a_backup_goes_back_into_its_application_or_a_fresh_one_and_a_dry_run_changes_nothing() {
    let site = site();
    let record = site.run("box");
    assert_eq!(record["outcome"], "success", "{record}");
    site.write("app/data", "damaged\n");

    let dry = restore(&site, json!({"target": "box", "into": "box", "dry_run": true}));
    let lines = dry["lines"].to_string();
    for part in ["would replace the data", "of version 1.0, the application is version 2.0", "nothing was changed"] {
        assert!(lines.contains(part), "{part:?} is missing in {lines}");
    }
    assert_eq!(read(&site, "app/data"), "damaged\n");

    let whole = restore(&site, json!({"target": "box", "into": "box", "options": {"note": "as chosen"}}));
    assert_eq!(whole["trouble"], Value::Null, "{whole}");
    let lines = whole["lines"].to_string();
    assert!(lines.contains("replace the data: as chosen") && lines.contains("proven: the data is back"), "{lines}");
    assert_eq!(read(&site, "app/data"), "the first content\n");

    let said = site.command().args(["restore", "box", "--into", "fresh"]).output().unwrap();
    assert!(said.status.success(), "{}", text(&said));
    assert_eq!(read(&site, "fresh/data"), "the first content\n");
    let staged: Vec<_> = std::fs::read_dir(site.path("backups/.larder/staging")).unwrap().collect();
    assert!(staged.is_empty(), "{staged:?}");

    site.write("app/lies", "");
    let said = site.command().args(["restore", "box", "--into", "box"]).output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", text(&said));
    assert!(text(&said).contains("the data is back"), "{}", text(&said));
}

#[test]
fn a_restore_that_makes_no_sense_is_refused_with_the_way_out() {
    let site = site();
    assert_eq!(site.run("box")["outcome"], "success");
    assert_eq!(site.run("files")["outcome"], "success");
    let directory = site.path("restored");
    for (params, part) in [
        (json!({"target": "box"}), "either `to`"),
        (json!({"target": "box", "to": directory, "into": "box"}), "either `to`"),
        (json!({"target": "box", "into": "bax"}), "must be a target in Git"),
        (json!({"target": "box", "into": "box", "include": ["*.x"]}), "into a directory"),
        (json!({"target": "box", "to": directory, "dry_run": true}), "into an application"),
        // Told before anything is read from a repository.
        (json!({"target": "files", "into": "files"}), "the plugin files does not restore"),
    ] {
        let said = refused(&site, params.clone());
        assert!(said.contains(part), "{params}: {said}");
    }
    let other = restore(&site, json!({"target": "files", "into": "box"}));
    assert_eq!(other["trouble"]["code"], "other_plugin", "{other}");
    let usage = site.command().args(["restore", "box", "--to", "/x", "--into", "box"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
}

#[test]
fn runs_and_restores_of_one_application_wait_for_each_other() {
    let site = site();
    assert_eq!(site.run("box")["outcome"], "success");
    site.write("app/hang", "");
    let run = site.call("run.start", json!({"target": "box"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
    wait_for("the capture", Duration::from_secs(30), || site.path("app/stopped").exists().then_some(()));
    assert!(refused(&site, json!({"target": "box", "into": "box"})).contains("in progress"));
    std::fs::remove_file(site.path("app/hang")).unwrap();
    assert_eq!(site.finished(&run)["outcome"], "success");

    site.write("app/hang", "");
    let restoring = site.call("restore.start", json!({"target": "box", "into": "box"})).unwrap();
    let run = site.call("run.start", json!({"target": "box"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
    assert!(refused(&site, json!({"target": "box", "into": "box"})).contains("being restored"));
    let other = site.run("files");
    assert_eq!(other["outcome"], "success", "runs of other targets go on");
    let waiting = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
    assert_eq!(waiting["state"], "queued", "{waiting}");
    std::fs::remove_file(site.path("app/hang")).unwrap();
    assert_eq!(site.operation(&restoring)["trouble"], Value::Null);
    assert_eq!(site.finished(&run)["outcome"], "success");
    let log = site.command().args(["log", &run]).output().unwrap();
    assert!(text(&log).contains("there was one before"), "{}", text(&log));
}

#[test]
fn what_a_cancelled_or_killed_capture_stopped_is_started_again() {
    let mut site = site();
    site.write("app/hang", "");
    let hanging = |site: &Site| {
        let run = site.call("run.start", json!({"target": "box"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
        wait_for("the capture", Duration::from_secs(30), || site.path("app/stopped").exists().then_some(()));
        run
    };
    let run = hanging(&site);
    site.call("run.cancel", json!({"run": run})).unwrap();
    assert_eq!(site.finished(&run)["outcome"], "cancelled");
    assert!(!site.path("app/stopped").exists(), "a cancelled run puts back what it changed");

    hanging(&site);
    site.kill();
    assert!(site.path("app/stopped").exists());
    site.start();
    wait_for("the recovery", Duration::from_secs(30), || (!site.path("app/stopped").exists()).then_some(()));

    // With the engine down and the target gone from Git, it is still known what is to be put back.
    hanging(&site);
    site.write("app/engine-down", "");
    site.kill();
    std::fs::remove_file(site.path("config/box.yaml")).unwrap();
    site.start();
    let pushed = site.push_with("without the box", &["-o", "confirm"]);
    assert!(pushed.status.success(), "{}", text(&pushed));
    wait_for("the failed recovery", Duration::from_secs(30), || {
        site.log().contains("the engine is down").then_some(())
    });
    assert!(site.path("app/stopped").exists());
    std::fs::remove_file(site.path("app/engine-down")).unwrap();
    site.kill();
    site.start();
    wait_for("the recovery", Duration::from_secs(30), || (!site.path("app/stopped").exists()).then_some(()));
    wait_for("the end of the journals", Duration::from_secs(10), || {
        std::fs::read_dir(site.path("state/journal")).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn what_a_killed_restore_left_on_an_application_is_put_right() {
    let mut site = site();
    assert_eq!(site.run("box")["outcome"], "success");
    site.write("app/hang", "");
    site.call("restore.start", json!({"target": "box", "into": "box"})).unwrap();
    wait_for("the restore", Duration::from_secs(30), || site.path("app/stopped").exists().then_some(()));
    site.write("app/engine-down", "");
    site.kill();
    site.start();
    wait_for("the failed recovery", Duration::from_secs(30), || {
        site.log().contains("the engine is down").then_some(())
    });
    let staged = || std::fs::read_dir(site.path("backups/.larder/staging")).unwrap().count();
    assert_eq!(staged(), 1, "what was set aside is kept until all is put back");
    std::fs::remove_file(site.path("app/engine-down")).unwrap();
    std::fs::remove_file(site.path("app/hang")).unwrap();
    site.kill();
    site.start();
    wait_for("the recovery", Duration::from_secs(30), || (!site.path("app/stopped").exists()).then_some(()));
    wait_for("the end of the journals", Duration::from_secs(10), || {
        std::fs::read_dir(site.path("state/journal")).unwrap().next().is_none().then_some(())
    });
    assert_eq!(std::fs::read_dir(site.path("backups/.larder/staging")).unwrap().count(), 0);
}
