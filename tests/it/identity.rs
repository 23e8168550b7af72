//! Whose a snapshot is: two sites in one repository, clocks that were wrong, and snapshots that vanished, through the
//! whole daemon on real repositories.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process_clock::ProcessClock;
use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

/// A site that keeps by `rules`, in the repository at `repository`.
fn configured(rules: &str, repository: Option<PathBuf>) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", rules);
    if let Some(repository) = repository {
        let own = site.path("restic").display().to_string();
        site.edit("config/destinations.yaml", &own, &repository.display().to_string());
    }
    site
}

fn tag(snapshot: &Value, kind: &str) -> Option<String> {
    let tags = snapshot["tags"].as_array()?;
    tags.iter().find_map(|tag| tag.as_str()?.strip_prefix(kind)?.strip_prefix(':').map(str::to_owned))
}

fn count_of(snapshots: &[Value], site: &str) -> usize {
    snapshots.iter().filter(|each| tag(each, "site").as_deref() == Some(site)).count()
}

fn restored(site: &Site, to: &str, more: &[&str]) -> (i32, String) {
    let to = site.path(to);
    let done = site.command().args(["restore", "files", "--to", to.to_str().unwrap()]).args(more).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn doctor(site: &Site) -> (i32, String) {
    let done = site.command().arg("doctor").output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn ids(site: &Site) -> Vec<String> {
    site.snapshots("restic").iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_sites_with_the_same_target_and_policy_in_one_repository_keep_to_their_own() {
    let mut a = configured("{last: 2}", None);
    let mut b = configured("{last: 2}", Some(a.path("restic")));
    std::fs::copy(a.path("secrets/repository"), b.path("secrets/repository")).unwrap();
    a.write("data/a.txt", "of site a\n");
    b.write("data/a.txt", "of site b\n");
    a.start_and_push();
    b.start_and_push();
    for site in [&a, &b, &a, &b, &a, &b] {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let snapshots = a.snapshots("restic");
    let sites: std::collections::BTreeSet<String> = snapshots.iter().filter_map(|each| tag(each, "site")).collect();
    assert_eq!((snapshots.len(), sites.len()), (4, 2), "two of each: {snapshots:?}");
    assert!(sites.iter().all(|site| count_of(&snapshots, site) == 2));

    // Each restores its own, also the one that ran first.
    assert_eq!(restored(&a, "back", &[]).0, 0);
    let back = a.path("back").join(a.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back).unwrap(), "of site a\n");

    // Each is told of the other, and stays green.
    let run = a.run("files");
    assert_eq!(outcome(&run), "success");
    let notice = run["notices"].as_array().unwrap().iter().find(|each| each["code"] == "shared_repository");
    let other = sites.iter().find(|site| notice.unwrap()["message"].as_str().unwrap().contains(site.as_str()));
    let other = other.unwrap_or_else(|| panic!("{run}")).clone();
    let (code, said) = doctor(&a);
    assert!(code == 0 && said.contains(&format!("identity {other}")), "{code} {said}");
    assert_eq!(a.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
    assert!(a.get("/").contains(&other));

    // Lists are of one's own, unless asked for all; a named one of the other can be had.
    let listed = |all: bool| a.call("snapshot.list", json!({"target": "files", "all": all})).unwrap()["items"].clone();
    assert_eq!(listed(false).as_array().unwrap().len(), 2);
    let all = listed(true);
    assert_eq!(all.as_array().unwrap().len(), 4);
    let theirs = all.as_array().unwrap().iter().find(|each| each["ours"] == false).unwrap();
    assert_eq!(theirs["site"], other.as_str());
    let (code, said) = restored(&a, "theirs", &["--snapshot", theirs["id"].as_str().unwrap()]);
    assert!(code == 0 && said.contains("of another site"), "{code} {said}");
    let found = a.call("file.find", json!({"pattern": "a.txt"}));
    if let Ok(found) = found {
        let items = found["items"].as_array().unwrap();
        assert!(
            items.iter().all(|item| item["file"]["path"].as_str().unwrap().starts_with(a.root().to_str().unwrap()))
        );
    }

    // The first snapshot of each was compared with none of the other's.
    let parents: Vec<&str> = snapshots.iter().filter_map(|each| each["parent"].as_str()).collect();
    for snapshot in &snapshots {
        let Some(parent) = snapshot["parent"].as_str() else { continue };
        let of = snapshots.iter().find(|each| each["id"] == parent);
        assert!(of.is_none_or(|of| tag(of, "site") == tag(snapshot, "site")), "{parents:?}");
    }
}

#[test]
fn a_site_whose_state_was_lost_is_itself_again_by_its_manifests_and_by_its_export() {
    let mut site = configured("{last: 3}", None);
    site.start_and_push();
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let identity = tag(&site.snapshots("restic")[0], "site").unwrap();
    let manifest = walk(&site.path("backups/files")).into_iter().find(|path| path.ends_with("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["site_id"], identity.as_str());
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    site.start();
    assert_eq!(restored(&site, "back", &[]).0, 0);
    accept_the_loss(&site, 4);
    assert_eq!(outcome(&site.run("files")), "success");
    let snapshots = site.snapshots("restic");
    assert_eq!((snapshots.len(), count_of(&snapshots, &identity)), (3, 3), "the ones of before count");
    assert!(snapshots.iter().all(|each| tag(each, "site").as_deref() == Some(&identity)));

    // By an export, where the artifacts are gone.
    site.stop();
    let exported = site.command().args(["export", site.path("out.ndjson").to_str().unwrap()]).output().unwrap();
    assert!(exported.status.success(), "{}", text(&exported));
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::remove_dir_all(site.path("backups")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    std::fs::create_dir(site.path("backups")).unwrap();
    let imported = site.command().args(["import", site.path("out.ndjson").to_str().unwrap()]).output().unwrap();
    assert!(imported.status.success(), "{}", text(&imported));
    site.start();
    assert_eq!(outcome(&site.run("files")), "success");
    let snapshots = site.snapshots("restic");
    assert_eq!((snapshots.len(), count_of(&snapshots, &identity)), (3, 3));

    // With nothing left it is another site, until somebody says which one it was.
    site.stop();
    for directory in ["state", "backups"] {
        std::fs::remove_dir_all(site.path(directory)).unwrap();
        std::fs::create_dir(site.path(directory)).unwrap();
    }
    site.start();
    let (code, said) = restored(&site, "none", &[]);
    assert!(code == 1 && said.contains(&identity) && said.contains("larder rebuild --site"), "{code} {said}");
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 4, "nothing of the old one is forgotten");
    site.stop();
    let rebuilt = site.command().args(["rebuild", "--site", &identity]).output().unwrap();
    assert!(rebuilt.status.success(), "{}", text(&rebuilt));
    site.start();
    accept_the_loss(&site, 5);
    assert_eq!(outcome(&site.run("files")), "success");
    let snapshots = site.snapshots("restic");
    assert_eq!(snapshots.len(), 3, "{snapshots:?}");
}

/// A run forgets nothing, so that there are so many, until it is said that the state was lost.
fn accept_the_loss(site: &Site, snapshots: usize) {
    let held = site.run("files");
    assert_eq!(outcome(&held), "partial", "{held}");
    assert_eq!(site.snapshots("restic").len(), snapshots);
    let holds = site.job("files")["holds"].clone();
    assert_eq!((holds.as_array().unwrap().len(), &holds[0]["kind"]), (1, &serde_json::json!("lost_state")), "{holds}");
    let value = holds[0]["value"].as_str().unwrap();
    let accepted = site.command().args(["accept", "files", value]).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
}

fn walk(root: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        if entry.path().is_dir() { found.extend(walk(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

#[test]
fn snapshots_without_a_mark_are_ours_only_where_our_history_has_them() {
    let mut site = configured("{last: 2}", None);
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    // As an older Larder made them: one that our history has, and one of somebody with the same names.
    site.stop();
    let tags = ["--tag", "larder,target:files,policy:daily", "--host", "home"];
    let data = site.path("data").display().to_string();
    let mut args = vec!["backup", &data];
    args.extend(tags);
    site.restic("restic", &args);
    site.start();
    assert_eq!(outcome(&site.run("files")), "success");
    let snapshots = site.snapshots("restic");
    let unmarked = snapshots.iter().filter(|each| tag(each, "site").is_none()).count();
    assert_eq!((snapshots.len(), unmarked), (3, 1), "two of ours, and what may be somebody's: {snapshots:?}");
}

#[test]
fn runs_while_the_clock_was_400_days_ahead_take_nothing_from_those_after_them() {
    let mut site = configured("{last: 2}", None);
    let clock = ProcessClock::of(&mut site, "2027-12-27T12:00:00Z");
    site.start_and_push();
    site.write("data/a.txt", "from the future\n");
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let future = ids(&site);
    clock.turn_and_look(&site, "2026-11-22T12:00:00Z");
    site.write("data/a.txt", "of today\n");

    // Every run keeps everything and says so, and what is to be typed when the clock is right.
    for there in [3, 4, 5] {
        held_by_the_clock(&site, there);
    }
    let hold = site.job("files")["holds"][0].clone();
    let first = site.runs("files")[2].clone();
    assert_eq!((&hold["value"], &hold["since"]), (&json!("2026-11-22"), &first["started"]), "{hold}");
    let hint = hold["hint"].as_str().unwrap();
    assert!(hint.contains("what is dated later stays") && !hint.contains("set the machine's time"), "{hint}");
    assert!(hold["reason"].as_str().unwrap().contains("runs are dated up to 2027-12-27"), "{hold}");
    for shown in [text(&site.command().arg("status").output().unwrap()), doctor(&site).1, site.get("/")] {
        assert!(shown.contains("larder accept files 2026-11-22"), "{shown}");
    }
    accept(&site, "2026-11-22");
    assert_eq!(site.job("files")["holds"], json!([]));
    for more in [4, 4] {
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
        let there = ids(&site);
        let own = run["shipments"][0]["snapshot"].as_str().unwrap();
        assert!(there.iter().any(|id| id == own), "the run's own snapshot is there: {run}");
        assert!(future.iter().all(|id| there.contains(id)), "what is dated in the future stays");
        assert_eq!(there.len(), more);
        let notices = run["notices"].as_array().unwrap();
        assert!(notices.iter().any(|each| each["code"] == "future_snapshots"), "{run}");
    }
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");

    // The newest is the newest run; the others are shown for what they are.
    assert_eq!(restored(&site, "back", &[]).0, 0);
    let back = site.path("back").join(site.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back).unwrap(), "of today\n");
    let listed = site.call("snapshot.list", json!({"target": "files"})).unwrap()["items"].clone();
    let flags: Vec<bool> = listed.as_array().unwrap().iter().map(|each| each["future"] == true).collect();
    assert_eq!(flags, [false, false, true, true], "{listed}");
    let runs = site.runs("files");
    let started: Vec<&str> =
        runs.iter().map(|run| run["started"].as_str().unwrap().split('T').next().unwrap()).collect();
    assert_eq!(started, [["2026-11-22"; 5].as_slice(), &["2027-12-27"; 2]].concat());
    assert_eq!(std::fs::read_dir(site.path("backups/files")).unwrap().count(), 1, "the newest runs' artifacts stay");
}

/// Runs once, held by the clock; afterwards there are so many snapshots.
fn held_by_the_clock(site: &Site, there: usize) {
    let run = site.run("files");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("jumped_clock")), "{run}");
    assert_eq!(site.snapshots("restic").len(), there, "nothing is forgotten");
    let job = site.job("files");
    assert_eq!((&job["holds"][0]["kind"], &job["health"]), (&json!("jumped_clock"), &json!("warning")), "{job}");
}

fn accept(site: &Site, value: &str) {
    let accepted = site.command().args(["accept", "files", value]).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
}

#[test]
fn a_clock_that_was_set_back_and_stays_there_holds_until_it_is_right_again() {
    for (wrong, later) in
        [("2025-10-18T12:00:00Z", "2025-10-20T12:00:00Z"), ("2026-11-19T12:00:00Z", "2026-11-20T12:00:00Z")]
    {
        let mut site = configured("{last: 2}", None);
        let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
        site.start_and_push();
        for _ in 0..3 {
            assert_eq!(outcome(&site.run("files")), "success");
        }
        let good = ids(&site);
        assert_eq!(good.len(), 2);
        clock.turn_and_look(&site, wrong);
        held_by_the_clock(&site, 3);
        let hold = site.job("files")["holds"][0].clone();
        held_by_the_clock(&site, 4);
        // Neither a restart nor two days at the wrong time end it.
        site.stop();
        clock.write(later);
        site.start();
        held_by_the_clock(&site, 5);
        held_by_the_clock(&site, 6);
        assert!(good.iter().all(|id| ids(&site).contains(id)));
        let now = site.job("files")["holds"][0].clone();
        assert_eq!(now["since"], hold["since"]);
        // This machine's own clock did not go on by those days: to it, the clock was set once more.
        assert_eq!((hold["value"].as_str(), now["value"].as_str()), (wrong.get(..10), later.get(..10)));
        // Right again: that is seen by itself, and said as it is.
        clock.turn_and_look(&site, "2026-11-22T13:00:00Z");
        let job = wait_for("the end of the hold", Duration::from_secs(60), || {
            let job = site.job("files");
            (job["holds"] == json!([])).then_some(job)
        });
        assert!(!job["problem"]["hint"].as_str().unwrap().contains("timedatectl"), "{job}");
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
        assert_eq!(site.snapshots("restic").len(), 2, "`last: 2` is applied again");
        assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
    }
}

#[test]
fn a_clock_that_was_three_days_ahead_pushes_nothing_out_afterwards_and_is_told() {
    let mut site = configured("{daily: 2}", None);
    let clock = ProcessClock::of(&mut site, "2026-11-21T12:00:00Z");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    clock.turn_and_look(&site, "2026-11-22T12:00:00Z");
    assert_eq!(outcome(&site.run("files")), "success");
    clock.turn_and_look(&site, "2026-11-25T12:00:00Z");
    assert_eq!(outcome(&site.run("files")), "success", "days may pass while a machine sleeps");
    let before = ids(&site);
    clock.turn_and_look(&site, "2026-11-22T13:00:00Z");
    held_by_the_clock(&site, 3);
    held_by_the_clock(&site, 4);
    accept(&site, "2026-11-22");
    clock.turn_and_look(&site, "2026-11-23T12:00:00Z");
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    let there = ids(&site);
    assert_eq!(there.len(), 3, "one of each of the two days, and what is dated in the future");
    assert!(there.contains(&before[1]), "what is dated in the future stays: {before:?} {there:?}");
}

#[test]
fn a_clock_that_was_seen_to_be_set_ahead_and_right_again_needs_nobody() {
    let mut site = configured("{last: 1}", None);
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    clock.turn_and_look(&site, "2027-12-27T12:00:00Z");
    held_by_the_clock(&site, 2);
    held_by_the_clock(&site, 3);
    let future = ids(&site);
    clock.turn_and_look(&site, "2026-11-22T12:10:00Z");
    wait_for("the end of the hold", Duration::from_secs(60), || {
        (site.job("files")["holds"] == json!([])).then_some(())
    });
    for _ in 0..2 {
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
    }
    let there = ids(&site);
    assert_eq!(there.len(), 3, "the newest, and two that are dated in the future");
    assert!(future[1..].iter().all(|id| there.contains(id)));
}

#[test]
fn a_clock_that_was_set_ahead_holds_until_it_is_back_or_accepted() {
    let mut site = configured("{last: 1}", None);
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    clock.turn_and_look(&site, "2027-12-27T12:00:00Z");
    for there in [2, 3] {
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("jumped_clock")), "{run}");
        assert_eq!(site.snapshots("restic").len(), there, "nothing is forgotten");
    }
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(value, "2027-12-27");
    let accepted = site.command().args(["accept", "files", &value]).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 1);
}

#[test]
fn snapshots_that_vanish_outside_are_seen_by_doctor_check_and_the_next_run() {
    let mut site = configured("{last: 5}", None);
    site.start_and_push();
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let (code, said) = doctor(&site);
    assert!(code == 0 && said.contains("3 snapshots, 3 of them of this site, and none is missing"), "{code} {said}");

    // An older one: a trouble of the destination, and not of the job.
    let all = ids(&site);
    site.restic("restic", &["forget", &all[0]]);
    let (code, said) = doctor(&site);
    assert!(code == 1 && said.contains("1 snapshot of files/daily"), "{code} {said}");
    let destination = || site.call("destination.list", json!({})).unwrap()["items"][0].clone();
    assert_eq!(destination()["health"], "warning", "{}", destination());
    assert_eq!(site.job("files")["health"], "proven");
    assert_ne!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
    assert!(site.get("/metrics").contains("larder_destination_missing_snapshots{destination=\"local\"} 1"));
    assert_eq!(outcome(&site.run("files")), "success", "its own newest is there");
    assert_eq!(destination()["health"], "warning", "a run does not bring it back");
    let accepted = site.command().args(["accept", "files", "missing:1"]).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
    assert_eq!(destination()["health"], "proven");
    assert_eq!(doctor(&site).0, 0);

    // All of them.
    let all = ids(&site);
    let mut args = vec!["forget"];
    args.extend(all.iter().map(String::as_str));
    site.restic("restic", &args);
    let checked = site.command().args(["destination", "check", "local"]).output().unwrap();
    assert!(!checked.status.success() && text(&checked).contains("gone from local"), "{}", text(&checked));
    let job = wait_for("the hold", Duration::from_secs(20), || {
        let job = site.job("files");
        (job["holds"][0]["kind"] == "vanished").then_some(job)
    });
    assert_eq!((&job["state"], &job["health"]), (&json!("failed"), &json!("failed")), "{job}");
    let status = site.call("system.status", json!({})).unwrap();
    assert_eq!(status["verdict"]["health"], "failed", "{status}");
    assert!(site.get("/metrics").contains("larder_everything_proven 0"));
    wait_for("the page that says so", Duration::from_secs(20), || site.get("/").contains("vanished").then_some(()));
    assert_eq!(doctor(&site).0, 1);
    // Their data stays while nobody said that it may go.
    let pruned = site.command().args(["destination", "prune", "local"]).output().unwrap();
    assert!(!pruned.status.success(), "{}", text(&pruned));
    let run = site.run("files");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("snapshots_vanished")), "{run}");
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert!(value.starts_with("missing:3-"), "{value}");
    let accepted = site.command().args(["accept", "files", &value]).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted));
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    assert_eq!(doctor(&site).0, 0);
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
}

#[test]
fn what_accepts_a_loss_accepts_no_other_of_as_many() {
    let site = configured("{last: 6}", None);
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let at = site.path("restic").display().to_string();
    let second = local.replace("name: local", "name: second").replace(&at, &site.path("second").display().to_string());
    site.write("config/destinations.yaml", &format!("{local}---\n{second}"));
    site.edit("config/policies.yaml", "[local]", "[local, second]");
    let mut site = site;
    site.start_and_push();
    let value = |subject: &str| {
        wait_for("the hold", Duration::from_secs(20), || {
            let job = site.job("files");
            let hold = job["holds"].as_array()?.iter().find(|hold| hold["subject"] == subject)?;
            Some(hold["value"].as_str()?.to_owned())
        })
    };
    let lose_two = |names: &[&str]| {
        for _ in 0..2 {
            assert_ne!(outcome(&site.run("files")), "failed");
        }
        for (name, directory) in [("local", "restic"), ("second", "second")] {
            let all = site.snapshots(directory);
            for lost in all.iter().rev().take(if names.contains(&name) { 2 } else { 0 }) {
                let id = lost["id"].as_str().unwrap();
                std::fs::remove_file(site.path(directory).join("snapshots").join(id)).unwrap();
            }
            site.command().args(["destination", "test", name]).output().unwrap();
        }
    };
    lose_two(&["local", "second"]);
    let (local, second) = (value("local"), value("second"));
    assert!(local != second && [&local, &second].iter().all(|each| each.starts_with("missing:2-")), "{local} {second}");
    // The number alone fits both.
    let typed = site.command().args(["accept", "files", "missing:2"]).output().unwrap();
    let said = text(&typed);
    assert!(!typed.status.success() && said.contains(&local) && said.contains(&second), "{said}");
    accept(&site, &local);
    assert_eq!(site.job("files")["holds"].as_array().unwrap().len(), 1);
    accept(&site, "missing:2");
    assert_eq!(site.job("files")["holds"], json!([]));

    // In Git it stays, so there it must fit one loss only.
    lose_two(&["local"]);
    let shown = value("local");
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{targets}accept: ['missing:2']\n"));
    let pushed = text(&site.push("by its number"));
    assert!(pushed.contains("accepts nothing") && pushed.contains(&format!("`accept: ['{shown}']`")), "{pushed}");
    assert_eq!(value("local"), shown);
    site.write("config/targets.yaml", &format!("{targets}accept: ['missing:2', '{shown}']\n"));
    let pushed = text(&site.push("by its value"));
    assert_eq!(site.job("files")["holds"], json!([]), "{pushed}");
    lose_two(&["local"]);
    assert_ne!(value("local"), shown, "and the next one is another");
}

#[test]
fn what_our_own_retention_forgot_is_not_missing_and_older_losses_end_when_the_policy_would_have_forgotten_them() {
    let mut site = configured("{last: 2}", None);
    site.start_and_push();
    for _ in 0..4 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    assert_eq!(doctor(&site).0, 0);
    let all = ids(&site);
    assert_eq!(all.len(), 2);
    site.restic("restic", &["forget", &all[0]]);
    assert_eq!(doctor(&site).0, 1);
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    assert_eq!(doctor(&site).0, 0);
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
}

#[test]
fn what_vanished_of_a_job_that_left_the_config_is_said_and_no_trouble() {
    let mut site = configured("{last: 2}", None);
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    let old = ids(&site);
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &targets.replace("name: files", "name: others"));
    assert!(site.push_with("another name", &["-o", "confirm"]).status.success());
    assert_eq!(outcome(&site.run("others")), "success");
    site.restic("restic", &["forget", &old[0]]);
    let checked = site.command().args(["destination", "check", "local"]).output().unwrap();
    let said = crate::site::text(&checked);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("of files/daily, which left the config, 1 snapshot is gone from local"), "{said}");
    assert!(!said.contains("none is missing"), "{said}");
}
