//! What a run calls complete: what is left out by pattern, by itself, or because it vanished.

use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};

pub(crate) fn paths_of(site: &Site) -> Vec<String> {
    let done = std::process::Command::new(crate::support::restic())
        .args(["-r", site.path("restic").to_str().unwrap(), "--no-cache", "-q", "ls", "latest"])
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}

fn target(site: &Site, with: &str) {
    site.write("config/targets.yaml", &format!("kind: Target\nname: files\nplugin: files\nwith: {with}\n"));
}

#[test]
fn excludes_of_a_source_leave_the_artifacts_alone_and_mean_what_they_say() {
    let site = Site::running();
    let data = site.path("data").display().to_string();
    for file in ["m.json", "trailing ", "plain", "x/drop", "x/keep/kept.json", "a/b/c"] {
        site.write(&format!("data/{file}"), "12345");
    }
    target(
        &site,
        &format!(
            "{{paths: [{data}], exclude: [\"*.json\", \"trailing \", \"{data}/x/*\", \"!{data}/x/keep\", \"a/**/c\"]}}"
        ),
    );
    let pushed = site.push("excludes");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");
    let paths = paths_of(&site);
    assert!(paths.iter().any(|path| path.ends_with("/manifest.json")), "{paths:?}");
    let has = |name: &str| paths.contains(&format!("{data}/{name}"));
    assert!(has("plain") && has("a.txt") && has("x/keep/kept.json"), "{paths:?}");
    assert!(!has("m.json") && !has("trailing ") && !has("x/drop") && !has("a/b/c"), "{paths:?}");
}

#[test]
fn a_pattern_that_restic_refuses_is_refused_at_the_push_and_one_that_leaves_nothing_fails_the_run() {
    let site = Site::running();
    let data = site.path("data").display().to_string();
    target(&site, &format!("{{paths: [{data}], exclude: [\"*.tmp\", \"[\"]}}"));
    let pushed = site.push("bad");
    assert!(!pushed.status.success() && text(&pushed).contains("bad_pattern"), "{}", text(&pushed));
    target(&site, &format!("{{paths: [{data}], exclude: [\"/\"]}}"));
    assert!(site.push("everything").status.success());
    let record = site.run("files");
    assert_eq!((record["outcome"].as_str(), record["trouble"]["code"].as_str()), (Some("failed"), Some("path_empty")));
}

#[test]
fn what_is_larders_own_is_left_out_of_a_source_that_holds_it_also_through_a_link() {
    let site = Site::running();
    let root = site.root().display().to_string();
    std::os::unix::fs::symlink(site.root(), site.path("secrets/link")).unwrap();
    target(&site, &format!("{{paths: [{root}]}}"));
    assert!(site.push("everything").status.success());
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let record = site.run("files");
        assert_eq!(record["outcome"], "success", "{record}");
        let notices = record["notices"].to_string();
        for what in ["restic (repository)", "backups (artifacts)", "state (state)"] {
            assert!(notices.contains(what), "{what}: {notices}");
        }
        sizes.push(record["bytes"].as_u64().unwrap());
    }
    assert!(sizes[2] < sizes[0] + 200_000, "it grows by itself: {sizes:?}");
    let paths = paths_of(&site);
    assert!(paths.contains(&format!("{root}/data/a.txt")) && paths.iter().any(|path| path.contains("larder.git/")));
    for own in ["/restic/", "/state/", "/backups/files"] {
        assert!(!paths.iter().any(|path| path.starts_with(&format!("{root}{own}"))), "{own}: {paths:?}");
    }
    assert!(paths.iter().any(|path| path.ends_with("/manifest.json")), "{paths:?}");

    target(&site, &format!("{{paths: [{root}/secrets/link/restic/]}}"));
    assert!(site.push("only the repository").status.success());
    let record = site.run("files");
    assert_eq!((record["outcome"].as_str(), record["trouble"]["code"].as_str()), (Some("failed"), Some("only_own")));
}

#[test]
fn two_policies_of_one_target_never_run_at_once() {
    let site = Site::running();
    let root = site.root().display().to_string();
    let policies = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    let second = policies.replace("name: daily\ndefault: true", "name: other");
    site.write("config/policies.yaml", &format!("{policies}---\n{second}"));
    site.write(
        "config/targets.yaml",
        &format!(
            "kind: Target\nname: files\nplugin: files\npolicies: [daily, other]\nwith: {{paths: [{root}/data]}}\nhooks:\n  before: [[mkdir, {root}/stopped]]\n  after: [[rmdir, {root}/stopped]]\n"
        ),
    );
    let pushed = site.push("two policies");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let started = site.call("run.start", json!({"target": "files"})).unwrap();
    let runs: Vec<Value> = started["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 2);
    for run in runs {
        let record = site.finished(run.as_str().unwrap());
        assert_eq!(record["outcome"], "success", "{record}");
    }
}

#[test]
fn what_a_killed_daemon_leaves_in_the_temporary_directory_is_swept_at_the_next_start() {
    let mut site = Site::running();
    let scratch = site.path("tmp");
    let left = scratch.join("larder-backup-999999999.1-abc");
    std::fs::create_dir_all(&left).unwrap();
    site.daemon_env("TMPDIR", scratch.as_os_str());
    site.stop();
    site.start();
    crate::support::wait_for("the sweep", Duration::from_secs(20), || (!left.exists()).then_some(()));
}
