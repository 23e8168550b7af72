//! What a job is held for and how that is told, on real repositories: what arrived in the newest runs, many sources, what
//! is accepted, and what is no loss at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

/// A site whose policy keeps the newest two snapshots.
fn keeping_two(paths: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    let root = site.root().display().to_string();
    site.write("config/targets.yaml", &target(&root, paths, ""));
    site
}

fn target(root: &str, paths: &str, more: &str) -> String {
    let paths: Vec<String> = paths.split(' ').map(|path| format!("{root}/{path}")).collect();
    format!("kind: Target\nname: files\nplugin: files\nwith: {{paths: [{}]}}\n{more}", paths.join(", "))
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

/// What is between the back-quotes behind `larder accept files`.
fn accepting(hint: &Value) -> String {
    let hint = hint.as_str().unwrap();
    let command = hint.split('`').find(|part| part.starts_with("larder accept files ")).unwrap();
    command.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn what_arrived_in_the_newest_run_and_is_lost_is_held_and_every_value_that_was_shown_accepts_it() {
    let mut site = keeping_two("data");
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    (0..30).for_each(|n| site.write(&format!("data/photos/{n}"), &format!("{n}").repeat(20_000)));
    assert_eq!(outcome(&site.run("files")), "success");
    std::fs::remove_dir_all(site.path("data/photos")).unwrap();
    let mut shown = Vec::new();
    for night in 0..4 {
        site.write("data/a.txt", &"the first file, and some more of it\n".repeat(8 + night % 2));
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
        shown.push((accepting(&record["trouble"]["hint"]), record["bytes"].as_u64().unwrap().to_string()));
    }
    let photos = || {
        site.snapshots("restic")
            .iter()
            .filter(|each| each["summary"]["total_files_processed"].as_u64() > Some(20))
            .count()
    };
    assert_eq!(photos(), 1, "{:?}", site.snapshots("restic"));
    // One value everywhere, and status and doctor end alike.
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(shown.last().unwrap().0, value, "{shown:?}");
    let (code, status) = said(&site, &["status"]);
    assert!(code == 3 && status.contains(&format!("larder accept files {value}")), "{code} {status}");
    let (code, doctor) = said(&site, &["doctor"]);
    assert!(code == 3 && !doctor.contains("bad "), "{code} {doctor}");
    // Git is told when what it accepts is something else.
    let root = site.root().display().to_string();
    site.write("config/targets.yaml", &target(&root, "data", "accept: [12345]\n"));
    let pushed = text(&site.push("accept another size"));
    assert!(pushed.contains("accepts nothing") && pushed.contains(&format!("larder accept files {value}")), "{pushed}");
    assert_eq!(said(&site, &["accept", "files", "12345"]).0, 1);
    let (code, accepted) = said(&site, &["accept", "files", &shown[3].1]);
    assert_eq!(code, 0, "{shown:?} {accepted}");
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success", "once only");
    }
    assert_eq!((site.snapshots("restic").len(), photos()), (2, 0));
    assert_eq!((said(&site, &["status"]).0, said(&site, &["doctor"]).0), (0, 0));
}

/// A site with four files in each source, after two good runs.
fn backed_up_twice(sources: &[impl AsRef<str>]) -> Site {
    let sources: Vec<&str> = sources.iter().map(AsRef::as_ref).collect();
    let mut site = keeping_two(&sources.join(" "));
    for path in sources {
        (0..4).for_each(|n| site.write(&format!("{path}/{n}"), &format!("{n}").repeat(5000)));
    }
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    site
}

#[test]
fn the_twentieth_source_is_weighed_and_one_with_a_long_name() {
    let long = "x".repeat(200);
    let many: Vec<String> = (10..30).map(|n| format!("many/{n}")).chain([format!("many/{long}")]).collect();
    let site = backed_up_twice(&many);
    for lost in ["many/29", &format!("many/{long}")] {
        (1..4).for_each(|n| std::fs::remove_file(site.path(&format!("{lost}/{n}"))).unwrap());
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
        assert!(record["trouble"]["message"].as_str().unwrap().contains(&format!("/{lost} has ")), "{record}");
        (1..4).for_each(|n| site.write(&format!("{lost}/{n}"), &format!("{n}").repeat(5000)));
        assert_eq!(outcome(&site.run("files")), "success");
    }
}

#[test]
fn a_source_that_left_the_config_is_no_loss() {
    let many = ["many/9", "many/10", "many/11"];
    let site = backed_up_twice(&many);
    // All but two, and then all but one.
    let root = site.root().display().to_string();
    for left in ["many/10 many/11", "many/11"] {
        site.write("config/targets.yaml", &target(&root, left, ""));
        assert!(site.push("fewer sources").status.success());
        for _ in 0..2 {
            let record = site.run("files");
            assert_eq!(outcome(&record), "success", "{left}: {record}");
        }
    }
    (1..4).for_each(|n| std::fs::remove_file(site.path(&format!("many/11/{n}"))).unwrap());
    assert_eq!(outcome(&site.run("files")), "partial", "what is left is weighed");
}

#[test]
fn snapshots_that_are_tagged_by_hand_are_the_same_and_an_accepted_loss_of_all_is_no_backup() {
    let mut site = keeping_two("data");
    let (code, said_of_none) = {
        site.start_and_push();
        std::fs::rename(site.path("config/targets.yaml"), site.path("targets.yaml")).unwrap();
        assert!(site.push_with("no target", &["-o", "confirm"]).status.success());
        let none = said(&site, &["run", "--all"]);
        std::fs::rename(site.path("targets.yaml"), site.path("config/targets.yaml")).unwrap();
        assert!(site.push("a target").status.success());
        none
    };
    assert_ne!(code, 0, "{said_of_none}");
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    for at in ["restic/data/x", "state/back"] {
        let to = site.path(at).display().to_string();
        let (code, refused) = said(&site, &["restore", "files", "--to", &to]);
        assert!(code == 1 && refused.contains("Larder's own") && !site.path(at).exists(), "{code} {refused}");
    }
    for word in ["mine", "again"] {
        site.restic("restic", &["tag", "--add", word]);
        let (code, tested) = said(&site, &["destination", "test", "local"]);
        assert!(code == 0 && tested.contains("none is missing"), "{code} {tested}");
    }
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");
    assert_eq!(site.snapshots("restic").len(), 2);
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");

    for snapshot in std::fs::read_dir(site.path("restic/snapshots")).unwrap().flatten() {
        std::fs::remove_file(snapshot.path()).unwrap();
    }
    assert_eq!(said(&site, &["destination", "check", "local"]).0, 1);
    let value = wait_for("the hold", Duration::from_secs(20), || {
        site.job("files")["holds"][0]["value"].as_str().map(str::to_owned)
    });
    assert_eq!(said(&site, &["status"]).0, 1);
    assert_eq!(said(&site, &["accept", "files", &value]).0, 0);
    let job = site.job("files");
    assert_eq!((&job["health"], &job["problem"]["code"]), (&json!("unknown"), &json!("no_backup")), "{job}");
    for args in [["status"], ["doctor"]] {
        let (code, shown) = said(&site, &args);
        assert!(
            code == 3 && !shown.contains("verything is proven") && shown.contains("no backup"),
            "{args:?}: {code} {shown}"
        );
    }
    wait_for("the page", Duration::from_secs(20), || (!site.get("/").contains("Everything is proven")).then_some(()));
    assert!(site.get("/metrics").contains("larder_everything_proven 0"));
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(
        (&site.job("files")["health"], said(&site, &["status"]).0, said(&site, &["doctor"]).0),
        (&json!("proven"), 0, 0)
    );
}
