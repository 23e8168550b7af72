//! A state directory that was put back from an older copy, beside a repository that went on: through the whole daemon.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

/// A site with `last: 2` whose state is of its second run, and whose repository has its fourth and fifth; the newest state
/// is beside it.
fn put_back() -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    site.start_and_push();
    for run in 1..=5 {
        site.write("data/a.txt", &format!("of run {run}\n"));
        assert_eq!(outcome(&site.run("files")), "success");
        if run == 2 {
            site.stop();
            copy(&site.path("state"), &site.path("state.old"));
            site.start();
        }
    }
    site.stop();
    std::fs::rename(site.path("state"), site.path("state.new")).unwrap();
    std::fs::rename(site.path("state.old"), site.path("state")).unwrap();
    site.start();
    site
}

/// Status, page, doctor and check say the same, and what is to be typed.
fn told_everywhere(site: &Site, command: &str) {
    let job = wait_for("the hold", Duration::from_secs(20), || {
        let job = site.job("files");
        (job["holds"][0]["kind"] == "older_state").then_some(job)
    });
    assert_eq!((&job["health"], job["holds"].as_array().unwrap().len()), (&json!("warning"), 1), "{job}");
    for args in
        [["status"].as_slice(), &["doctor"], &["destination", "check", "local"], &["destination", "test", "local"]]
    {
        let (code, shown) = said(site, args);
        assert!(code == 1 || args == ["status"], "{args:?}: {code} {shown}");
        assert!(shown.contains("older than the repository") && shown.contains(command), "{args:?}: {shown}");
        assert!(!shown.contains("did not forget"), "{args:?}: {shown}");
    }
    wait_for("the page", Duration::from_secs(20), || {
        let page = site.get("/");
        (page.contains("older than the repository") && !page.contains("Everything is proven")).then_some(())
    });
}

#[test]
fn a_state_that_was_put_back_is_told_to_be_older_than_the_repository_until_that_is_accepted() {
    let site = put_back();
    let (code, shown) = said(&site, &["doctor"]);
    assert!(code == 1 && shown.contains("older than the repository"), "{code} {shown}");
    assert!(shown.contains("2 snapshots of files/daily"), "{shown}");
    told_everywhere(&site, "larder accept files newer:2");

    // The newest is the newest run by the repository.
    let to = site.path("back");
    let (code, shown) = said(&site, &["restore", "files", "--to", to.to_str().unwrap()]);
    assert!(code == 0 && shown.contains("older than the repository"), "{code} {shown}");
    let back = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back).unwrap(), "of run 5\n");

    for there in [3, 4] {
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("older_state")), "{run}");
        assert_eq!(site.snapshots("restic").len(), there, "nothing is forgotten");
    }
    let (code, shown) = said(&site, &["accept", "files", "newer:3"]);
    assert!(code == 1 && shown.contains("newer:2"), "{code} {shown}");
    let (code, shown) = said(&site, &["accept", "files", "newer:2"]);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(site.job("files")["holds"], json!([]));
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    assert_eq!(site.snapshots("restic").len(), 2);
    is_well(&site);
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
}

fn is_well(site: &Site) {
    let (code, shown) = said(site, &["doctor"]);
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn whoever_lists_first_finds_it_and_the_newest_state_ends_it() {
    for first in [["snapshots"].as_slice(), &["destination", "check", "local"], &["run", "files"]] {
        let mut site = put_back();
        said(&site, first);
        told_everywhere(&site, "larder accept files newer:2");
        site.stop();
        std::fs::remove_dir_all(site.path("state")).unwrap();
        std::fs::rename(site.path("state.new"), site.path("state")).unwrap();
        if first == ["run", "files"] {
            // That one's run is unknown to the newest state in turn.
            continue;
        }
        site.start();
        is_well(&site);
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
        assert_eq!(site.snapshots("restic").len(), 2);
    }
}

#[test]
fn what_is_said_of_an_older_state_for_one_target_is_said_for_all() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{targets}---\n{}", targets.replace("name: files", "name: more")));
    site.start_and_push();
    for name in ["files", "more"] {
        assert_eq!(outcome(&site.run(name)), "success");
    }
    site.stop();
    copy(&site.path("state"), &site.path("state.old"));
    site.start();
    for name in ["files", "more", "more"] {
        assert_eq!(outcome(&site.run(name)), "success");
    }
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::rename(site.path("state.old"), site.path("state")).unwrap();
    site.start();
    said(&site, &["snapshots"]);
    for (name, value) in [("files", "newer:1-"), ("more", "newer:2-")] {
        let hold = wait_for("the hold", Duration::from_secs(20), || {
            let hold = site.job(name)["holds"][0].clone();
            hold.is_object().then_some(hold)
        });
        assert_eq!(hold["kind"], "older_state", "{hold}");
        assert!(hold["value"].as_str().unwrap().starts_with(value), "{hold}");
    }
    assert_eq!(said(&site, &["accept", "more", "newer:2"]).0, 0);
    for name in ["files", "more"] {
        assert_eq!(site.job(name)["holds"], json!([]), "{name}");
        assert_eq!(outcome(&site.run(name)), "success");
    }
    is_well(&site);
}

/// A site of two destinations that keeps the newest snapshot, and whose state is of its first run, while both have its
/// second.
fn put_back_with_two_destinations() -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 1}");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let at = site.path("restic").display().to_string();
    let away = local.replace("name: local", "name: away").replace(&at, &site.path("away").display().to_string());
    site.write("config/destinations.yaml", &format!("{local}---\n{away}"));
    site.edit("config/policies.yaml", "[local]", "[local, away]");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    site.stop();
    copy(&site.path("state"), &site.path("state.old"));
    site.start();
    site.write("data/much.txt", &"of the second run\n".repeat(2000));
    assert_eq!(outcome(&site.run("files")), "success");
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::rename(site.path("state.old"), site.path("state")).unwrap();
    site
}

fn held_at(site: &Site) -> Vec<String> {
    let job = site.job("files");
    let holds = job["holds"].as_array().unwrap().iter().filter(|hold| hold["kind"] == "older_state");
    holds.map(|hold| hold["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_destination_that_is_away_hides_nothing_of_what_another_shows() {
    let mut site = put_back_with_two_destinations();
    std::fs::rename(site.path("away"), site.path("elsewhere")).unwrap();
    site.start();
    for there in [2, 3] {
        let run = site.run("files");
        assert_ne!(outcome(&run), "success", "{run}");
        assert_eq!(site.snapshots("restic").len(), there, "nothing is forgotten: {run}");
        assert_eq!(held_at(&site), ["local"]);
    }
    // And the other way round: what was found at one that is away now goes on.
    std::fs::rename(site.path("elsewhere"), site.path("away")).unwrap();
    std::fs::rename(site.path("restic"), site.path("elsewhere")).unwrap();
    let run = site.run("files");
    assert_eq!((outcome(&run), site.snapshots("away").len()), ("partial", 2), "{run}");
    assert_eq!(held_at(&site), ["away", "local"]);
    std::fs::rename(site.path("elsewhere"), site.path("restic")).unwrap();
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(said(&site, &["accept", "files", &value]).0, 0);
    assert_eq!(site.job("files")["holds"], json!([]));
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    assert_eq!((site.snapshots("restic").len(), site.snapshots("away").len()), (1, 1));
}

#[test]
fn a_repository_that_has_another_name_is_no_later_state() {
    let mut site = put_back();
    said(&site, &["snapshots"]);
    let rename = |from: &str, to: &str| {
        site.edit("config/destinations.yaml", &format!("name: {from}"), &format!("name: {to}"));
        site.edit("config/policies.yaml", &format!("[{from}]"), &format!("[{to}]"));
        assert!(site.push("another name").status.success());
    };
    // Not accepted, it is the same under the other name.
    rename("local", "disk");
    let run = site.run("files");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("older_state")), "{run}");
    assert_eq!(said(&site, &["accept", "files", "newer:2"]).0, 0);
    assert_eq!(outcome(&site.run("files")), "success");
    rename("disk", "cellar");
    for _ in 0..2 {
        let run = site.run("files");
        assert_eq!((outcome(&run), &site.job("files")["holds"]), ("success", &json!([])), "{run}");
    }
    assert_eq!(site.snapshots("restic").len(), 2);
    site.stop();
}

/// Snapshots of other targets as this very site would have made them, as quickly as restic makes them.
fn made_elsewhere(site: &Site, targets: &[String], like: &Value) {
    let tag = |kind: &str| {
        let tags = like["tags"].as_array().unwrap().iter();
        tags.filter_map(Value::as_str).find(|tag| tag.starts_with(kind)).unwrap().to_owned()
    };
    let run = tag("run:");
    for some in targets.chunks(4) {
        let made: Vec<_> = some
            .iter()
            .map(|target| {
                // Its own run: the last letters are of no time.
                let number: usize = target[1..].parse().unwrap();
                let run = format!("{}{:03}", &run[..run.len() - 3], number);
                Command::new(crate::support::restic())
                    .args(["-q", "-r", site.path("restic").to_str().unwrap(), "--no-cache", "backup"])
                    .args(["--tag", &tag("site:"), "--tag", &format!("target:{target}"), "--tag", &tag("policy:")])
                    .args(["--tag", &run, "--tag", "larder", site.path("data/a.txt").to_str().unwrap()])
                    .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut made in made {
            assert!(made.wait().unwrap().success());
        }
    }
}

#[test]
fn the_last_of_many_jobs_is_held_as_the_first() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 1}");
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    let many: Vec<String> = (101..=161).map(|n| format!("e{n}")).collect();
    let more: Vec<String> = many.iter().map(|name| targets.replace("name: files", &format!("name: {name}"))).collect();
    site.write("config/targets.yaml", &format!("{targets}---\n{}", more.join("---\n")));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    site.stop();
    copy(&site.path("state"), &site.path("state.old"));
    site.start();
    assert_eq!(outcome(&site.run("files")), "success");
    made_elsewhere(&site, &many, &site.snapshots("restic")[0]);
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::rename(site.path("state.old"), site.path("state")).unwrap();
    site.start();
    let run = site.run("files");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("older_state")), "{run}");
    assert_eq!(site.snapshots("restic").len(), 63, "nothing is forgotten");
    for name in ["e101", "e161"] {
        wait_for("the hold", Duration::from_secs(20), || {
            (site.job(name)["holds"][0]["kind"] == "older_state").then_some(())
        });
    }
    // What vanishes of all of them holds all of them.
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(said(&site, &["accept", "files", &value]).0, 0);
    for snapshot in std::fs::read_dir(site.path("restic/snapshots")).unwrap().flatten() {
        std::fs::remove_file(snapshot.path()).unwrap();
    }
    assert_eq!(said(&site, &["destination", "test", "local"]).0, 1);
    for name in ["e101", "e161", "files"] {
        wait_for("the hold", Duration::from_secs(20), || {
            (site.job(name)["holds"][0]["kind"] == "vanished").then_some(())
        });
    }
}
