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

#[test]
fn what_cannot_be_put_back_is_said_everywhere_and_mailed_once_until_it_is_or_is_given_up() {
    let mut site = site();
    std::fs::create_dir_all(site.path("post")).unwrap();
    let server = crate::alert::server::Server::start(&site.path("post"), "plain", "", 0);
    let smtp = format!("smtp+plain://localhost:{}", server.port);
    let email = format!("email: {{smtp: \"{smtp}\", from: larder@home.test, to: [me@home.test]}}\n");
    site.edit("config/site.yaml", "kind: Site\n", &format!("kind: Site\n{email}"));
    assert!(site.push("mail").status.success());
    assert_eq!(site.run("box")["outcome"], "success");
    site.write("app/hang", "");
    site.write("app/engine-down", "");
    site.call("restore.start", json!({"target": "box", "into": "box"})).unwrap();
    wait_for("the restore", Duration::from_secs(30), || site.path("app/stopped").exists().then_some(()));
    site.kill();
    site.start();
    let problem = |site: &Site| {
        let status = site.call("system.status", json!({})).ok()?;
        let first = status["attention"].as_array()?.iter().find(|each| each["kind"] == "undo")?.clone();
        Some((status["verdict"].clone(), first))
    };
    let (verdict, first) = wait_for("the first look", Duration::from_secs(30), || problem(&site));
    assert_eq!(verdict["health"], "failed", "{verdict}");
    assert!(verdict["sentence"].as_str().unwrap().contains("1 application is not put back as it was"), "{verdict}");
    assert_eq!(first["target"], "box", "{first}");
    assert!(first["problem"]["why"].as_str().unwrap().contains("the engine is down"), "{first}");
    let command = first["problem"]["commands"][0].as_str().unwrap().to_owned();
    assert!(command.starts_with("larder accept box undo:"), "{command}");
    for words in ["status", "doctor"] {
        let shown = site.command().arg(words).output().unwrap();
        assert_eq!(shown.status.code(), Some(1), "{}", text(&shown));
        assert!(text(&shown).contains("the engine is down") && text(&shown).contains(&command), "{}", text(&shown));
    }
    assert!(site.get("/metrics").lines().any(|line| line == "larder_not_put_back 1"));
    wait_for("the page", Duration::from_secs(20), || site.get("/").contains(&command).then_some(()));
    assert_eq!(server.taken().len(), 0, "what may be well at the next try wakes nobody");

    // Ten minutes later, and again: one mail.
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10);
    site.kill();
    let _clock = crate::process_clock::ProcessClock::of(&mut site, &later.to_string());
    for _ in 0..2 {
        site.start();
        let mails = server.wait_for(1);
        assert_eq!(mails.len(), 1);
        assert!(mails[0].header("Subject").contains("the application of box is not put back"), "{}", mails[0].text);
        site.kill();
    }
    let before = site.log().len();
    site.start();
    wait_for("the end of one more try", Duration::from_secs(30), || {
        site.log()[before..].contains("an interrupted run left something behind").then_some(())
    });
    assert!(problem(&site).is_some());

    // The operator puts it right by hand and says so: nothing is tried on it any more.
    std::fs::remove_file(site.path("app/engine-down")).unwrap();
    std::fs::remove_file(site.path("app/hang")).unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let wrong = site.command().args(["accept", "box", "undo:01ARZ3NDEKTSV4RRFFQ69G5FAV"]).output().unwrap();
    assert!(wrong.status.code() == Some(1) && text(&wrong).contains(&command), "{}", text(&wrong));
    let accepted = site.command().args(&words).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
    assert_eq!(problem(&site), None);
    wait_for("the end of the journals", Duration::from_secs(10), || {
        std::fs::read_dir(site.path("state/journal")).unwrap().next().is_none().then_some(())
    });
    assert!(site.path("app/stopped").exists(), "nothing was put back");
    wait_for("what was set aside to go", Duration::from_secs(10), || {
        (std::fs::read_dir(site.path("backups/.larder/staging")).unwrap().count() == 0).then_some(())
    });
}
