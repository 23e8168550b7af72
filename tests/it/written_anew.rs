//! Snapshots that somebody wrote anew with restic, or put back: the same ones, second ones, and ones that hold something
//! else, on real repositories.

use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn ids(site: &Site) -> Vec<String> {
    site.snapshots("restic").iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}

/// A site that keeps by `rules`.
fn keeping(rules: &str) -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", rules);
    site.start_and_push();
    site
}

fn restored(site: &Site, to: &str) -> String {
    let to = site.path(to);
    let (code, shown) = said(site, &["restore", "files", "--to", to.to_str().unwrap()]);
    assert_eq!(code, 0, "{shown}");
    std::fs::read_to_string(to.join(site.path("data/a.txt").strip_prefix("/").unwrap())).unwrap()
}

#[test]
fn a_snapshot_that_was_repaired_to_nothing_is_told_and_holds_its_job_until_that_is_accepted() {
    let site = keeping("{last: 2}");
    for n in 0..3_u64 {
        let mut state = n + 1;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from(state >> 60).unwrap())
        };
        site.write(&format!("data/{n}"), &(0..300_000).map(|_| random()).collect::<String>());
    }
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let packs = walk(&site.path("restic/data"));
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    site.restic("restic", &["repair", "index"]);
    site.restic("restic", &["repair", "snapshots", "--forget"]);
    let (code, shown) = said(&site, &["destination", "test", "local"]);
    assert!(code == 1 && shown.contains("not what their runs made any more"), "{code} {shown}");
    let job = wait_for("the hold", Duration::from_secs(20), || {
        let job = site.job("files");
        (job["holds"][0]["kind"] == "altered").then_some(job)
    });
    let value = job["holds"][0]["value"].as_str().unwrap().to_owned();
    assert!(job["health"] == "warning" && value.starts_with("altered:2-"), "{job}");
    for args in [["status"].as_slice(), &["doctor"], &["destination", "prune", "local"]] {
        let (code, shown) = said(&site, args);
        assert!(code != 0 || args == ["status"], "{args:?}: {code} {shown}");
        assert!(shown.contains(&format!("larder accept files {value}")), "{args:?}: {shown}");
    }
    let (code, shown) = said(&site, &["restore", "files", "--to", site.path("back").to_str().unwrap()]);
    assert!(code == 0 && shown.contains("not what its run made any more"), "{code} {shown}");
    for there in [3, 4] {
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("snapshots_altered")), "{run}");
        assert_eq!(ids(&site).len(), there, "nothing is forgotten");
    }
    assert_eq!(site.job("files")["holds"][0]["value"], value.as_str(), "the same while it is the same");
    assert_eq!(said(&site, &["accept", "files", &value]).0, 0);
    let run = site.run("files");
    assert_eq!((outcome(&run), ids(&site).len()), ("success", 2), "{run}");
    assert_eq!(said(&site, &["doctor"]).0, 0);
}

fn walk(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_second_snapshot_of_an_old_run_is_not_the_newest_and_pushes_nothing_out() {
    let site = keeping("{last: 2}");
    for run in ["OLD", "MID"] {
        site.write("data/a.txt", run);
        site.write("data/secret", "s");
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let [old, mid] = &ids(&site)[..] else { panic!() };
    let aside = site.path("aside");
    std::fs::copy(site.path("restic/snapshots").join(old), &aside).unwrap();
    site.restic("restic", &["rewrite", "--exclude", "secret", old]);
    assert_eq!(ids(&site).len(), 3);
    let (code, shown) = said(&site, &["destination", "test", "local"]);
    assert!(code == 0 && shown.contains("1 second snapshot"), "{code} {shown}");
    assert_eq!(restored(&site, "back"), "MID");
    site.write("data/a.txt", "NEW");
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    assert!(ids(&site).contains(mid) && !ids(&site).contains(old), "{:?}", ids(&site));
    assert_eq!(restored(&site, "again"), "NEW");
    // Nor is one that somebody puts back.
    std::fs::copy(&aside, site.path("restic/snapshots").join(old)).unwrap();
    assert_eq!(restored(&site, "third"), "NEW");
    // Both go as their run goes, one after the other.
    site.write("data/a.txt", "NEWEST");
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    assert_eq!((ids(&site).len(), restored(&site, "fourth").as_str()), (2, "NEWEST"));
    assert_eq!(said(&site, &["doctor"]).0, 0);
}

#[test]
fn a_snapshot_whose_marks_somebody_replaced_is_still_that_of_its_run() {
    let site = keeping("{last: 2}");
    for run in ["OLD", "NEW"] {
        site.write("data/a.txt", run);
        assert_eq!(outcome(&site.run("files")), "success");
    }
    for word in ["keep", "more"] {
        site.restic("restic", &["tag", "--add", word]);
        assert_eq!(said(&site, &["destination", "test", "local"]).0, 0);
    }
    site.restic("restic", &["tag", "--set", "mine", ids(&site).last().unwrap()]);
    let (code, shown) = said(&site, &["destination", "test", "local"]);
    assert!(code == 0 && shown.contains("none is missing"), "{code} {shown}");
    assert_eq!(restored(&site, "back"), "NEW");
    let run = site.run("files");
    assert_eq!((outcome(&run), ids(&site).len()), ("success", 2), "{run}");
    let run = site.run("files");
    assert_eq!((outcome(&run), ids(&site).len()), ("success", 2), "it is forgotten as any other: {run}");
}
