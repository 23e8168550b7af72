//! What the runs of a night gave up is forgotten by one call behind them, and looked at once more before.

use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::{restic, wait_for};

const JOBS: usize = 6;
/// How long what was given up may lie there behind the last run.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

/// A site with `JOBS` targets whose restic fails to forget where a file says so, and keeps what it was called with.
fn site(retention: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", retention);
    let root = site.root().display().to_string();
    let targets = (0..JOBS).map(|number| {
        site.write(&format!("data/{number}/file"), &format!("{number}\n"));
        format!("---\nkind: Target\nname: t{number}\nplugin: files\nwith: {{paths: [{root}/data/{number}]}}\n")
    });
    site.write("config/targets.yaml", &targets.collect::<String>());
    let script = format!(
        "for word in \"$@\"; do\n  [ \"$word\" = forget ] || continue\n  echo call >>'{root}/forgets'\n  \
         [ -e '{root}/no-forget' ] && {{ echo 'Fatal: the disk is on fire' >&2; exit 1; }}\n  \
         while [ -e '{root}/halt-forget' ]; do sleep 0.05; done\ndone\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    site.program("restic.sh", &script);
    site
}

fn start(site: &mut Site) {
    let wrapper = site.path("restic.sh").display().to_string();
    site.serve_with(&["--restic", &wrapper]);
    site.start_and_push();
}

/// Runs all jobs at once.
fn night(site: &Site) {
    let started = (0..JOBS).map(|number| {
        let answer = site.call("run.start", json!({"target": format!("t{number}")})).unwrap();
        answer["runs"][0].as_str().unwrap().to_owned()
    });
    for run in started.collect::<Vec<String>>() {
        let record = site.finished(&run);
        assert_eq!(record["outcome"], "success", "{record}");
    }
}

fn there(site: &Site) -> usize {
    std::fs::read_dir(site.path("restic/snapshots")).map_or(0, Iterator::count)
}

fn wait_for_snapshots(site: &Site, count: usize) {
    wait_for(&format!("{count} snapshots"), FORGOTTEN_WITHIN, || (there(site) == count).then_some(()));
}

/// A site behind two nights that kept one each, whose forget failed: what was given up lies there.
fn given_up() -> (Site, Value) {
    let mut site = site("{last: 1}");
    start(&mut site);
    night(&site);
    site.write("no-forget", "");
    night(&site);
    let failed = wait_for("the failed forget", FORGOTTEN_WITHIN, || {
        let destination = destination(&site);
        (destination["forget"]["health"] == "failed").then_some(destination)
    });
    assert_eq!(there(&site), 2 * JOBS);
    std::fs::remove_file(site.path("no-forget")).unwrap();
    (site, failed)
}

fn calls(site: &Site) -> usize {
    std::fs::read_to_string(site.path("forgets")).unwrap_or_default().lines().count()
}

fn destination(site: &Site) -> Value {
    site.call("destination.list", json!({})).unwrap()["items"][0].clone()
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

#[test]
fn many_runs_write_at_once_and_what_they_gave_up_goes_by_one_call() {
    let mut site = site("{last: 1}");
    start(&mut site);
    night(&site);
    assert_eq!((there(&site), calls(&site)), (JOBS, 0));
    night(&site);
    wait_for_snapshots(&site, JOBS);
    assert_eq!(calls(&site), 1, "one call for the whole night");
    wait_for("the end of the forget", FORGOTTEN_WITHIN, || {
        destination(&site)["forget"]["last_success"].as_str().map(drop)
    });
    let run = site.runs("t0")[0].clone();
    assert_eq!(run["shipments"][0]["forgotten"], 1, "{run}");
    let left: std::collections::BTreeSet<String> =
        site.snapshots("restic").iter().map(|each| each["paths"][0].to_string()).collect();
    assert_eq!(left.len(), JOBS, "one of each");
    site.restic("restic", &["check"]);
    assert_eq!(destination(&site)["missing"], json!([]));
    let (code, shown) = said(&site, &["destination", "forget", "local"]);
    assert!(code == 0 && shown.contains("nothing of local is to be forgotten"), "{shown}");
    assert_eq!(calls(&site), 1);
}

#[test]
fn a_forget_that_fails_is_told_and_what_was_given_up_waits_and_stays_where_the_policy_keeps_more_by_now() {
    let (site, failed) = given_up();
    let why = failed["forget"]["problem"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("the disk is on fire"), "{failed}");
    assert_eq!(failed["forget"]["problem"]["commands"], json!(["larder destination forget local"]));
    assert_eq!(site.job("t0")["health"], "proven", "the backup itself is whole");
    // As somebody who types what is told; and one job keeps more since.
    site.edit("config/targets.yaml", "name: t0\n", "name: t0\npolicies: [more]\n");
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    let more = policy.replace("name: daily\ndefault: true", "name: more").replace("last: 1", "last: 9");
    site.write("config/policies.yaml", &format!("{policy}---\n{more}"));
    assert!(site.push("more").status.success());
    let (code, shown) = said(&site, &["destination", "forget", "local"]);
    assert!(code == 0 && shown.contains(&format!("{} snapshots of {} jobs", JOBS - 1, JOBS - 1)), "{shown}");
    assert_eq!(there(&site), JOBS + 1, "nothing of a job that left its policy is forgotten");
    assert_eq!(destination(&site)["forget"]["health"], "proven");
    assert_eq!(destination(&site)["missing"], json!([]));
}

#[test]
fn nothing_of_a_job_that_is_held_meanwhile_is_forgotten() {
    let (site, _) = given_up();
    // Somebody takes the newest of t0 away: what was given up is all that is left of it.
    let snapshots = site.snapshots("restic");
    let of_t0 = |each: &&Value| each["tags"].as_array().unwrap().contains(&json!("target:t0"));
    let newest = snapshots.iter().rfind(of_t0).unwrap()["id"].as_str().unwrap().to_owned();
    site.restic("restic", &["forget", &newest]);
    let (_, shown) = said(&site, &["destination", "forget", "local"]);
    assert!(shown.contains(&format!("{} snapshots of {} jobs", JOBS - 1, JOBS - 1)), "{shown}");
    assert_eq!(there(&site), JOBS, "the old one of t0 and the new ones of the others");
    let left = site.snapshots("restic");
    assert_eq!(left.iter().filter(of_t0).count(), 1);
}

#[test]
fn a_daemon_that_is_killed_in_a_forget_goes_on_with_it_and_nothing_is_called_lost() {
    let mut site = site("{last: 1}");
    start(&mut site);
    night(&site);
    site.write("halt-forget", "");
    night(&site);
    wait_for("the call", FORGOTTEN_WITHIN, || (calls(&site) > 0).then_some(()));
    site.kill();
    std::fs::remove_file(site.path("halt-forget")).unwrap();
    assert_eq!(there(&site), 2 * JOBS);
    site.start();
    wait_for_snapshots(&site, JOBS);
    wait_for("the end of the forget", FORGOTTEN_WITHIN, || {
        destination(&site)["forget"]["last_success"].as_str().map(drop)
    });
    assert_eq!(destination(&site)["missing"], json!([]));
    assert_eq!(site.restic("restic", &["list", "locks"]), Value::Null, "a lock of ours stayed");
    night(&site);
    wait_for_snapshots(&site, JOBS);
    assert_eq!(destination(&site)["missing"], json!([]));
}

#[test]
fn a_destination_that_is_slow_delays_no_run_that_has_somewhere_else_to_go() {
    let mut site = site("{last: 1}");
    let root = site.root().display().to_string();
    site.edit("config/site.yaml", "keep_runs: 3}\n", "keep_runs: 3}\nconcurrency: {runs: 1, per_destination: 2}\n");
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, slow]");
    let slow = site.destination("slow", &format!("type: local, path: {root}/slow"), "");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{slow}"));
    // What goes there waits as for a line that is as good as dead.
    let script = std::fs::read_to_string(site.path("restic.sh")).unwrap();
    let waits = format!(
        "case \"$RESTIC_REPOSITORY\" in */slow)\n  while [ -e '{root}/halt-slow' ]; do sleep 0.05; done ;;\nesac\n"
    );
    site.write("restic.sh", &script.replacen('\n', &format!("\n{waits}"), 1));
    site.write("halt-slow", "");
    start(&mut site);
    let started: Vec<String> = (0..JOBS)
        .map(|number| {
            let answer = site.call("run.start", json!({"target": format!("t{number}")})).unwrap();
            answer["runs"][0].as_str().unwrap().to_owned()
        })
        .collect();
    wait_for_snapshots(&site, JOBS);
    for run in &started {
        let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
        assert!(record["outcome"].is_null(), "it is still shipping to the slow one: {record}");
    }
    std::fs::remove_file(site.path("halt-slow")).unwrap();
    for run in &started {
        let record = site.finished(run);
        assert_eq!(record["outcome"], "success", "{record}");
    }
    assert_eq!(std::fs::read_dir(site.path("slow/snapshots")).unwrap().count(), JOBS);
}

#[test]
fn what_was_given_up_stays_and_is_missed_once_nothing_is_to_be_forgotten_from_there() {
    let (site, _) = given_up();
    let root = site.root().display().to_string();
    site.edit(
        "config/destinations.yaml",
        &format!("password: {{file: {root}/secrets/repository}}"),
        &format!("password: {{file: {root}/secrets/repository}}\nappend_only: true"),
    );
    assert!(site.push("append-only").status.success());
    assert_eq!(destination(&site)["forget"], Value::Null, "nothing waits, and nothing failed");
    let (code, shown) = said(&site, &["destination", "forget", "local"]);
    assert!(code == 1 && shown.contains("append-only"), "{shown}");
    assert_eq!(destination(&site)["forget"], Value::Null, "what cannot be is no trouble of the destination");
    assert_eq!(there(&site), 2 * JOBS);
    // Somebody else takes one of those away.
    let oldest = site.snapshots("restic")[0]["id"].as_str().unwrap().to_owned();
    wait_for("that it is missed", FORGOTTEN_WITHIN, || {
        site.restic("restic", &["forget", &oldest]);
        let (code, shown) = said(&site, &["destination", "check", "local"]);
        (code == 1 && shown.contains("gone from local")).then_some(())
    });
}
