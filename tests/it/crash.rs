//! SIGKILL of the daemon in every state of a run, and at random times in a loop: every acknowledged run is in the store
//! afterwards, none stays in progress, no partial artifact is visible, no child survives, the next run succeeds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::{restic, wait_for};

/// A site whose restic and whose plugin `slow` wait wherever a file says so.
fn haltable() -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    // The wrapper stands in for a restic that takes long; the work itself is done by the real one.
    let wrapper = format!(
        "#!/bin/sh\nfor word in \"$@\"; do\n  while [ -e '{root}/halt-'\"$word\" ]; do sleep 0.05; done\ndone\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap_or_else(|_| restic()).display()
    );
    let plugin = format!(
        r#"#!/bin/sh
cat >/dev/null
case "$1" in
describe) echo '{{"event":"description","summary":"slow","settings":{{"type":"object","additionalProperties":false}}}}' ;;
capture)
  head -c 2000000 /dev/urandom >part
  while [ -e '{root}/halt-capture' ]; do sleep 0.05; done
  if [ -e '{root}/large' ]; then head -c 400000000 /dev/zero >large; echo '{{"event":"artifact","path":"large","format":"zero"}}'; fi
  echo '{{"event":"artifact","path":"part","format":"noise"}}' ;;
validate)
  while [ -e '{root}/halt-validate' ]; do sleep 0.05; done
  echo '{{"event":"validation","name":"there","verdict":"proven"}}' ;;
esac
"#
    );
    for (path, script) in [("restic.sh", wrapper), ("plugins/slow", plugin)] {
        site.write(path, &script);
        std::fs::set_permissions(site.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    site.write("config/slow.yaml", "kind: Target\nname: slow\nplugin: slow\n");
    let plugins = site.path("plugins");
    let wrapper = site.path("restic.sh");
    assert!(
        site.git_in(&site.path("larder.git"), &["config", "larder.plugins", plugins.to_str().unwrap()])
            .status
            .success()
    );
    site.serve_with(&["--plugins", plugins.to_str().unwrap(), "--restic", wrapper.to_str().unwrap()]);
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    site
}

fn start(site: &Site, target: &str) -> String {
    site.call("run.start", json!({"target": target})).unwrap()["runs"][0].as_str().unwrap().to_owned()
}

fn wait_for_state(site: &Site, run: &str, state: &str) {
    wait_for(&format!("the state {state}"), Duration::from_secs(60), || {
        let record = site.call("run.get", json!({"run": run})).ok()?["run"].clone();
        assert!(record["outcome"].is_null(), "the run ended before it was {state}: {record}");
        (record["state"] == state).then_some(())
    });
}

/// What must hold after a kill and a restart.
fn assert_mended(site: &Site, acknowledged: &[String]) {
    for run in acknowledged {
        let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
        assert_eq!(record["state"], "finished", "{record}");
    }
    assert_whole(&site.path("backups"));
    let id = std::fs::read_to_string(site.path("state/id")).unwrap();
    // A child that was being started at the very moment of the kill is found a little later.
    wait_for("the end of every child", Duration::from_secs(10), || marked(id.trim()).is_empty().then_some(()));
}

/// Every visible publication has a manifest, and every file that it names with its size.
fn assert_whole(backups: &Path) {
    for target in list(backups) {
        if target.file_name().unwrap().to_string_lossy().starts_with('.') {
            continue;
        }
        for publication in list(&target).iter().flat_map(|day| list(day)) {
            let manifest = std::fs::read(publication.join("manifest.json"))
                .unwrap_or_else(|error| panic!("{} has no manifest: {error}", publication.display()));
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            for file in manifest["files"].as_array().unwrap() {
                let path = publication.join(file["path"].as_str().unwrap());
                assert_eq!(
                    std::fs::metadata(&path).unwrap().len(),
                    file["size"].as_u64().unwrap(),
                    "{}",
                    path.display()
                );
            }
        }
    }
}

fn list(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Processes whose environment carries the mark of this state.
fn marked(id: &str) -> Vec<String> {
    let mark = format!("LARDER_CHILD={id}:");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
        })
        .map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        })
        .collect()
}

/// Kills the daemon while a run of `slow` is in `state`, held there by the file `halt`.
fn kill_while(state: &str, halt: &str) {
    let mut site = haltable();
    site.write(halt, "");
    let run = start(&site, "slow");
    wait_for_state(&site, &run, state);
    site.kill();
    std::fs::remove_file(site.path(halt)).unwrap();
    site.start();
    assert_mended(&site, std::slice::from_ref(&run));
    let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
    assert_eq!(record["outcome"], "interrupted", "{record}");
    assert!(record["trouble"]["message"].as_str().unwrap().contains(state), "{record}");
    let next = site.run("slow");
    assert_eq!(next["outcome"], "success", "{next}");
    assert_eq!(site.restic("restic", &["list", "locks"]), Value::Null, "a lock of ours stayed");
}

#[test]
fn a_daemon_killed_while_capturing_mends_itself() {
    kill_while("capturing", "halt-capture");
}

#[test]
fn a_daemon_killed_while_validating_mends_itself() {
    kill_while("validating", "halt-validate");
}

#[test]
fn a_daemon_killed_while_publishing_mends_itself() {
    kill_while("publishing", "large");
}

#[test]
fn a_daemon_killed_while_shipping_mends_itself() {
    kill_while("shipping", "halt-backup");
}

#[test]
fn a_daemon_killed_while_a_run_is_queued_mends_itself() {
    let mut site = haltable();
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write("config/site.yaml", &format!("{config}concurrency: {{runs: 1}}\n"));
    assert!(site.push("one at a time").status.success());
    site.write("halt-capture", "");
    let first = start(&site, "slow");
    wait_for_state(&site, &first, "capturing");
    let queued = start(&site, "files");
    wait_for_state(&site, &queued, "queued");
    site.kill();
    std::fs::remove_file(site.path("halt-capture")).unwrap();
    site.start();
    assert_mended(&site, &[first, queued]);
    assert_eq!(site.run("files")["outcome"], "success");
}

#[test]
fn a_stopped_daemon_ends_its_run_as_interrupted_and_leaves_no_child() {
    let mut site = haltable();
    site.write("halt-backup", "");
    let run = start(&site, "slow");
    wait_for_state(&site, &run, "shipping");
    site.stop();
    let id = std::fs::read_to_string(site.path("state/id")).unwrap();
    assert!(marked(id.trim()).is_empty());
    std::fs::remove_file(site.path("halt-backup")).unwrap();
    site.start();
    let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
    assert_eq!(record["outcome"], "interrupted", "{record}");
}

/// A small generator, so that a failing round can be repeated from its seed.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn kill_at_random(seed: u64, rounds: u32) {
    let mut site = Site::running();
    let mut noise = Noise(seed);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        site.write("data/a.txt", &format!("round {round} of {seed}\n"));
        let run = site.call("run.start", json!({"target": "files"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
        acknowledged.push(run);
        std::thread::sleep(Duration::from_millis(noise.below(2500)));
        site.kill();
        site.start();
        let newest = acknowledged.len().saturating_sub(3);
        assert_mended(&site, &acknowledged[newest..]);
    }
    assert_mended(&site, &acknowledged);
    let last = site.run("files");
    assert_eq!(last["outcome"], "success", "seed {seed}: {last}");
    let checked = site.operation(&site.call("destination.check", json!({"destination": "local"})).unwrap());
    assert_eq!(checked["trouble"], Value::Null, "{checked}");
    assert!(!site.snapshots("restic").is_empty());
}

// Two hundred kills in four sites, so that two cores have something to do.

#[test]
fn fifty_kills_at_random_times_lose_nothing_in_a_first_site() {
    kill_at_random(0x9e37_79b9_7f4a_7c15, 50);
}

#[test]
fn fifty_kills_at_random_times_lose_nothing_in_a_second_site() {
    kill_at_random(0xbf58_476d_1ce4_e5b9, 50);
}

#[test]
fn fifty_kills_at_random_times_lose_nothing_in_a_third_site() {
    kill_at_random(0x94d0_49bb_1331_11eb, 50);
}

#[test]
fn fifty_kills_at_random_times_lose_nothing_in_a_fourth_site() {
    kill_at_random(0xd6e8_feb8_6659_fd93, 50);
}
