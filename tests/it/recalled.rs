//! Accepting that the state is lost or old is not accepting that data shrank: whatever was accepted by then, the first run
//! behind it weighs itself against what the repository has, as a whole and by source. Through the whole daemon.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn said(site: &Site, words: &[&str]) -> (i32, String) {
    let done = site.command().args(words).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// A site with `last: 2` and these targets of these sources, that is not started yet.
fn with_targets(targets: &[(&str, &str)]) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    let root = site.root().display().to_string();
    let one = |(name, paths): &(&str, &str)| {
        let paths: Vec<String> = paths.split(' ').map(|path| format!("{root}/{path}")).collect();
        format!("kind: Target\nname: {name}\nplugin: files\nwith: {{paths: [{}]}}\n", paths.join(", "))
    };
    let all: Vec<String> = targets.iter().map(one).collect();
    site.write("config/targets.yaml", &all.join("---\n"));
    site
}

/// Ten files of 30 kB, which restic cannot make small.
fn fill(site: &Site, at: &str) {
    (0..10).for_each(|n| site.write(&format!("{at}/{n}"), &format!("{at}{n}").repeat(3000)));
}

fn empty(site: &Site, at: &str) {
    (1..10).for_each(|n| std::fs::remove_file(site.path(&format!("{at}/{n}"))).unwrap());
}

/// How many snapshots of the target have a file `9` in `directory`.
fn with_data(site: &Site, target: &str, directory: &str) -> usize {
    let file = site.path(&format!("{directory}/9")).display().to_string();
    let found = site.restic("restic", &["find", "--tag", &format!("target:{target}"), &file]);
    found.as_array().map_or(0, Vec::len)
}

fn lose_the_store(site: &mut Site) {
    site.stop();
    for gone in ["state/store", "state/export"] {
        std::fs::remove_dir_all(site.path(gone)).unwrap();
    }
    site.start();
}

/// The value of the hold of this kind.
fn shown(site: &Site, target: &str, kind: &str) -> String {
    wait_for("the hold", Duration::from_secs(20), || {
        // Before the config is applied anew there is no job.
        let job = site.call("target.get", json!({"target": target})).ok()?;
        let hold = job["jobs"][0]["holds"].as_array()?.iter().find(|hold| hold["kind"] == kind)?.clone();
        hold["value"].as_str().map(str::to_owned)
    })
}

/// The next runs are held for what shrank and for nothing else, and all that is there stays, until the size is accepted.
fn is_held_for_its_size(site: &Site, target: &str, directory: &str, word: &str) {
    let there = with_data(site, target, directory);
    assert!(there > 0);
    for _ in 0..2 {
        let run = site.run(target);
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("shrank")), "{target}: {run}");
        assert!(run["trouble"]["message"].as_str().unwrap().contains(word), "{run}");
        assert_eq!(run["warnings"].as_array().unwrap().len(), 1, "{run}");
        assert_eq!(with_data(site, target, directory), there, "{target}");
    }
    let value = shown(site, target, "shrank");
    assert_eq!(said(site, &["accept", target, &value]).0, 0);
    for _ in 0..2 {
        assert_eq!(outcome(&site.run(target)), "success", "once only");
    }
    assert_eq!(with_data(site, target, directory), 0);
}

#[test]
fn a_loss_that_is_accepted_before_any_run_is_no_accepted_size_of_any_job_or_source() {
    // One source, another job, and a small source beside a large one.
    let mut site = with_targets(&[("one", "one"), ("two", "two"), ("both", "docs media")]);
    for at in ["one", "two", "docs"] {
        fill(&site, at);
    }
    site.write("media/film", &"a film ".repeat(400_000));
    site.start_and_push();
    for target in ["one", "two", "both", "one", "two", "both"] {
        assert_eq!(outcome(&site.run(target)), "success");
    }
    for at in ["one", "two", "docs"] {
        empty(&site, at);
    }
    // Held, and that is lost with the store.
    assert_eq!(outcome(&site.run("both")), "partial");
    lose_the_store(&mut site);
    let value = shown(&site, "two", "lost_state");
    assert_eq!(said(&site, &["accept", "two", &value]).0, 0);
    assert_eq!(site.job("one")["holds"], json!([]), "accepted for all");
    is_held_for_its_size(&site, "one", "one", "the backup has");
    is_held_for_its_size(&site, "two", "two", "the backup has");
    is_held_for_its_size(&site, "both", "docs", "/docs has");
}

#[test]
fn an_older_state_that_is_accepted_is_no_accepted_size() {
    let mut site = with_targets(&[("one", "one"), ("both", "docs media")]);
    site.write("one/0", "small\n");
    site.write("docs/0", "small\n");
    site.write("media/film", &"a film ".repeat(400_000));
    site.start_and_push();
    for target in ["one", "both", "one", "both"] {
        assert_eq!(outcome(&site.run(target)), "success");
    }
    site.stop();
    copy(&site.path("state"), &site.path("state.old"));
    site.start();
    fill(&site, "one");
    fill(&site, "docs");
    for target in ["one", "both"] {
        assert_eq!(outcome(&site.run(target)), "success");
    }
    empty(&site, "one");
    empty(&site, "docs");
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::rename(site.path("state.old"), site.path("state")).unwrap();
    site.start();
    assert_eq!(said(&site, &["destination", "test", "local"]).0, 1);
    let value = shown(&site, "one", "older_state");
    assert_eq!(said(&site, &["accept", "one", &value]).0, 0);
    wait_for("both to be accepted", Duration::from_secs(20), || (site.job("both")["holds"] == json!([])).then_some(()));
    is_held_for_its_size(&site, "one", "one", "the backup has");
    is_held_for_its_size(&site, "both", "docs", "/docs has");
    assert_eq!(said(&site, &["doctor"]).0, 0);
}

#[test]
fn a_state_that_is_lost_or_old_while_nothing_shrank_is_well_once_that_is_accepted() {
    let mut site = with_targets(&[("both", "docs media")]);
    fill(&site, "docs");
    fill(&site, "media");
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("both")), "success");
    }
    // A source that leaves the config while its size is lost is no loss either.
    lose_the_store(&mut site);
    let value = shown(&site, "both", "lost_state");
    assert_eq!(said(&site, &["accept", "both", &value]).0, 0);
    assert_eq!(outcome(&site.run("both")), "success");
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    let one = targets.replace(&format!("{}, ", site.path("docs").display()), "");
    lose_the_store(&mut site);
    site.write("config/targets.yaml", &one);
    assert!(site.push("one source").status.success());
    let value = shown(&site, "both", "lost_state");
    assert_eq!(said(&site, &["accept", "both", &value]).0, 0);
    for _ in 0..2 {
        let run = site.run("both");
        assert_eq!(outcome(&run), "success", "{run}");
    }
}
