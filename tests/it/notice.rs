//! Notices: what is left out by design, by itself or accepted is said everywhere, and the run stays a success.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::larder;

const PLUGIN: &str = r#"#!/bin/sh
case "$1" in
describe) echo '{"event":"description","summary":"x","capabilities":["restore"],"settings":{"type":"object","properties":{"more":{"type":"boolean"}},"additionalProperties":false}}' ;;
capture)
  echo kept > kept.txt
  echo '{"event":"artifact","path":"kept.txt"}'
  echo '{"event":"notice","code":"bind_left_out","message":"/srv/photos <b> is not in the backup","hint":"make it a target of its own"}'
  grep -q '"more":true' && echo '{"event":"warning","code":"lost","message":"a table is missing"}' ;;
validate) echo '{"event":"validation","name":"kept","verdict":"proven"}' ;;
restore)
  echo '{"event":"step","verb":"create","thing":"kept.txt"}'
  echo '{"event":"notice","code":"owners","message":"owners are not put back"}'
  echo '{"event":"validation","name":"kept","verdict":"proven"}' ;;
esac
exit 0
"#;

fn site() -> Site {
    let mut site = with_plugin("remarks", PLUGIN);
    site.start_and_push();
    site
}

/// A site whose target `files` is captured by an operator's plugin, which is this script.
pub(crate) fn with_plugin(name: &str, script: &str) -> Site {
    let mut site = Site::new();
    let place = format!("plugins/{name}");
    site.write(&place, script);
    std::fs::set_permissions(site.path(&place), std::fs::Permissions::from_mode(0o755)).unwrap();
    site.base_config("\"0 3 * * *\"");
    site.write("config/targets.yaml", &format!("kind: Target\nname: files\nplugin: {name}\nwith: {{}}\n"));
    let plugins = site.path("plugins").display().to_string();
    let settings = larder::source::setup::Settings {
        larder: larder(),
        socket: Some(site.path("state/larder.sock")),
        plugins: Some(site.path("plugins")),
        root: String::new(),
        git: None,
    };
    larder::source::setup::init_bare(&site.path("larder.git"), "main", &settings).unwrap();
    site.serve_with(&["--plugins", &plugins]);
    site
}

fn said(command: &mut std::process::Command) -> String {
    text(&command.output().unwrap())
}

#[test]
fn a_notice_is_said_everywhere_and_the_run_stays_a_success() {
    let site = site();
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");
    assert_eq!(record["warnings"], json!([]));
    assert_eq!(
        record["notices"],
        json!([{"code": "bind_left_out", "message": "/srv/photos <b> is not in the backup", "hint": "make it a target of its own"}])
    );
    let manifest = site.path("backups").join(record["artifact"]["path"].as_str().unwrap()).join("manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["notices"], record["notices"]);
    let run = record["id"].as_str().unwrap();
    let wanted = "/srv/photos <b> is not in the backup";
    for args in [&["log", run][..], &["runs"], &["status"], &["run", "files"]] {
        let shown = said(site.command().args(args));
        assert!(shown.contains("notice") && shown.contains(wanted), "{args:?}: {shown}");
    }
    assert!(site.job("files")["notices"].to_string().contains(wanted));
    let page = crate::support::wait_for("the page", std::time::Duration::from_secs(30), || {
        Some(site.get("/targets/files.html")).filter(|page| page.contains("photos"))
    });
    assert!(page.contains("photos &lt;b&gt; is not in the backup") && page.contains("make it a target of its own"));
    assert!(site.get("/status.json").contains(wanted));

    let restored = said(site.command().args(["restore", "files", "--into", "files"]));
    assert!(restored.contains("notice: owners are not put back"), "{restored}");
}

#[test]
fn a_warning_beside_a_notice_makes_the_run_partial() {
    let site = site();
    site.write("config/targets.yaml", "kind: Target\nname: files\nplugin: remarks\nwith: {more: true}\n");
    assert!(site.push("more").status.success());
    let record = site.run("files");
    assert_eq!(record["outcome"], "partial", "{record}");
    assert_eq!(record["trouble"]["code"], "lost");
    assert_eq!(record["notices"].as_array().unwrap().len(), 1);
}
