//! A state store that was lost, in whatever way: it is told everywhere, nothing that has the data is forgotten, and it ends by
//! the value that is shown. Through the whole daemon on real repositories.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::alert::server::Server;
use crate::site::{Site, text};
use crate::support::wait_for;

/// Within this an incident must be said everywhere.
const SOON: Duration = Duration::from_secs(60);

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn said(site: &Site, words: &[&str]) -> (i32, String) {
    let done = site.command().args(words).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn shell(script: &str, dir: &Path) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {}", text(&done));
}

/// A stopped site with `last: 2`: two good runs, then its source shrank, and one run is held. Mails go to the server.
fn shrunken() -> (Site, Server) {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    std::fs::create_dir_all(site.path("post")).unwrap();
    let server = Server::start(&site.path("post"), "plain", "", 0);
    let email = format!(
        "keep_runs: 3}}\nemail: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
        server.port
    );
    site.edit("config/site.yaml", "keep_runs: 3}\n", &email);
    site.write("data/large", &"x".repeat(300_000));
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_file(site.path("data/large")).unwrap();
    let held = site.run("files");
    assert_eq!((outcome(&held), &held["trouble"]["code"]), ("partial", &json!("shrank")), "{held}");
    server.wait_for(1);
    site.stop();
    (site, server)
}

fn with_data(site: &Site) -> usize {
    let large = |each: &&Value| each["summary"]["total_bytes_processed"].as_u64().unwrap() > 300_000;
    site.snapshots("restic").iter().filter(large).count()
}

/// Everything that tells of the whole site tells of the loss; answers with the value that accepts it.
fn is_told(site: &Site, cause: &str) -> String {
    let status = wait_for("the loss", SOON, || {
        let status = site.call("system.status", json!({})).ok()?;
        let first = &status["attention"][0];
        // Before the config is applied anew there is no job to be named.
        let names_a_job = first["problem"]["commands"][0].as_str()?.starts_with("larder accept files ");
        (first["kind"] == "loss" && names_a_job && status["ready"] == false).then_some(status)
    });
    let why = status["attention"][0]["problem"]["why"].as_str().unwrap();
    assert!(why.contains(cause), "{cause}: {why}");
    let sentence = status["verdict"]["sentence"].as_str().unwrap();
    assert_eq!(status["verdict"]["health"], "failed", "{status}");
    assert!(sentence.contains("state store was lost"), "{sentence}");
    let command = status["attention"][0]["problem"]["commands"][0].as_str().unwrap().to_owned();
    for words in [["status"], ["doctor"]] {
        let (code, shown) = said(site, &words);
        assert_eq!(code, 1, "{words:?}: {shown}");
        assert!(shown.contains("store was lost") && shown.contains(&command), "{words:?}: {shown}");
    }
    let metrics = site.get("/metrics");
    assert!(metrics.lines().any(|line| line == "larder_state_lost 1"), "{metrics}");
    wait_for("the page", SOON, || {
        let page = site.get("/");
        (page.contains("store was lost") && page.contains(&command)).then_some(())
    });
    command.strip_prefix("larder accept files ").unwrap_or_else(|| panic!("{command}")).to_owned()
}

/// Every run of `before` is in the history again, and none of those that only a manifest tells of is a success.
fn runs_are_there(site: &Site, before: &Value, damage: &str) {
    let ids = |runs: &Value| -> Vec<String> {
        runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let runs = wait_for("the runs", SOON, || {
        let runs = site.call("run.list", json!({"target": "files"})).ok()?["items"].clone();
        (ids(&runs).len() >= 3).then_some(runs)
    });
    assert_eq!(ids(&runs), ids(before), "{damage}");
    for (run, before) in runs.as_array().unwrap().iter().zip(before.as_array().unwrap()) {
        if run["trigger"] == "found-again" {
            assert_eq!((outcome(run), &run["trouble"]["code"]), ("partial", &json!("found_again")), "{damage}: {run}");
            assert_eq!((&run["artifact"], &run["revision"]), (&before["artifact"], &before["revision"]), "{damage}");
        } else {
            assert_eq!(run, before, "{damage}");
        }
    }
    if runs.as_array().unwrap().iter().any(|run| run["trigger"] == "found-again") {
        wait_for("what is said of them", SOON, || {
            let status = site.call("system.status", json!({})).ok()?;
            status["attention"][0]["problem"]["why"].as_str()?.contains("found again in").then_some(())
        });
    }
}

#[test]
fn no_identity_is_drawn_and_no_run_given_up_while_the_mount_of_the_artifacts_is_away() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    // As where its disk is not mounted: nothing is mounted there.
    site.edit("config/site.yaml", "keep_runs: 3}", "keep_runs: 3, require_mount: true}");
    assert!(site.push("on a mount").status.success());
    site.stop();
    shell("rm -rf state/store state/export", site.root());
    site.start();
    is_told(&site, "is gone or empty");
    assert_eq!(outcome(&site.run("files")), "deferred");
    let marks = || -> Vec<String> {
        let mark = |snapshot: &Value| {
            let tags = snapshot["tags"].as_array().unwrap().iter().filter_map(Value::as_str);
            tags.filter(|tag| tag.starts_with("site:")).collect()
        };
        site.snapshots("restic").iter().map(mark).collect()
    };
    let before = marks();
    // Nothing is ours until it is told, and nobody is told that it is another site's.
    said(&site, &["destination", "test", "local"]);
    let page = site.get("/");
    assert!(!page.contains("another site"), "{page}");
    let named = site.snapshots("restic")[0]["short_id"].as_str().unwrap().to_owned();
    let (code, shown) =
        said(&site, &["restore", "files", "--to", site.path("out").to_str().unwrap(), "--snapshot", &named]);
    assert_eq!(code, 0, "{shown}");
    site.edit("config/site.yaml", ", require_mount: true", "");
    assert!(site.push("it is there again").status.success());
    wait_for("the runs", SOON, || {
        let runs = site.call("run.list", json!({"target": "files"})).ok()?["items"].clone();
        (runs.as_array()?.iter().filter(|run| run["trigger"] == "found-again").count() == 2).then_some(())
    });
    assert_eq!(outcome(&site.run("files")), "partial", "held until the loss is accepted");
    let after = marks();
    assert_eq!(
        (after.len(), after.iter().collect::<std::collections::BTreeSet<_>>().len()),
        (3, 1),
        "{before:?} {after:?}"
    );
}

#[test]
fn however_the_store_is_lost_what_has_the_data_stays_until_both_the_loss_and_the_size_are_accepted() {
    let (mut site, server) = shrunken();
    let root = site.root().to_owned();
    site.start();
    let before = site.call("run.list", json!({"target": "files"})).unwrap()["items"].clone();
    site.stop();
    shell("cp -a state state.good; cp -a restic restic.good; cp -a backups backups.good", &root);
    let mut losses = 0;
    for (damage, cause) in [
        ("truncate -s 0 state/store/db", "from the export of"),
        ("truncate -s 0 state/store/db; rm -rf state/export/*", "without an export"),
        ("rm -rf state/store", "is gone or empty"),
        ("rm -rf state/store; mkdir state/store", "is gone or empty"),
        ("rm -f state/store/db state/store/chain state/store/snap*", "is gone or empty"),
        ("rm -rf state/store; for e in state/export/*; do truncate -s 100 $e; done", "without an export"),
        ("rm -rf state; mkdir state", "the manifests in"),
    ] {
        shell(
            &format!(
                "rm -rf state restic backups; cp -a state.good state; cp -a restic.good restic; cp -a backups.good backups; {damage}"
            ),
            &root,
        );
        site.start();
        let value = is_told(&site, cause);
        runs_are_there(&site, &before, damage);
        for there in 4..7 {
            let run = site.run("files");
            assert_eq!(outcome(&run), "partial", "{damage}: {run}");
            let codes = run["warnings"].to_string();
            assert!(codes.contains("lost_state") && codes.contains("shrank"), "{damage}: {run}");
            assert_eq!((with_data(&site), site.snapshots("restic").len()), (2, there), "{damage}");
        }
        losses += 1;
        let told = || {
            let mails = server.wait_for(1);
            mails.iter().filter(|mail| mail.header("Subject").contains("FAILED: the state store was lost")).count()
        };
        wait_for("the mail", SOON, || (told() >= losses).then_some(()));
        assert_eq!(told(), losses, "{damage}: one mail for one loss");

        let (code, shown) = said(&site, &["accept", "files", "lost:2020-01-01T00:00:00"]);
        assert!(code == 1 && shown.contains(&value), "{shown}");
        assert_eq!(said(&site, &["accept", "files", &value]).0, 0);
        let status = site.call("system.status", json!({})).unwrap();
        assert!(status["attention"].as_array().unwrap().iter().all(|each| each["kind"] != "loss"), "{status}");
        // What shrank is held still.
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("shrank")), "{damage}: {run}");
        assert_eq!(with_data(&site), 2, "{damage}");
        site.stop();
    }
    // The size comes back, or is accepted: then it is a site like any other.
    site.start();
    let hold = site.job("files")["holds"][0].clone();
    assert_eq!(said(&site, &["accept", "files", hold["value"].as_str().unwrap()]).0, 0, "{hold}");
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    assert_eq!(site.snapshots("restic").len(), 2);
    assert_eq!(said(&site, &["status"]).0, 0);
    let status = site.call("system.status", json!({})).unwrap();
    assert_eq!((&status["verdict"]["sentence"], &status["ready"]), (&json!("Everything is proven"), &json!(true)));
}

#[test]
fn the_store_of_another_site_in_the_place_of_ours_is_set_aside_and_a_first_start_is_no_loss() {
    let (mut site, _server) = shrunken();
    let mut other = Site::running();
    assert_eq!(outcome(&other.run("files")), "success");
    let status = other.call("system.status", json!({})).unwrap();
    assert_eq!(status["verdict"]["sentence"], "Everything is proven", "a first start");
    // Killed right after its first run, and started again.
    other.kill();
    other.start();
    wait_for("it to be ready", SOON, || {
        let status = other.call("system.status", json!({})).unwrap();
        assert_eq!(status["verdict"]["health"], "proven", "{status}");
        (status["ready"] == true).then_some(())
    });
    other.stop();
    std::fs::remove_dir_all(site.path("state/store")).unwrap();
    shell(&format!("cp -a {} state/store", other.path("state/store").display()), site.root());
    let identity = |site: &Site| {
        let tags = site.snapshots("restic").last().unwrap()["tags"].clone();
        let tags = tags.as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        tags.into_iter().find(|tag| tag.starts_with("site:")).unwrap()
    };
    let before = identity(&site);
    site.start();
    is_told(&site, "another state directory");
    assert_eq!(outcome(&site.run("files")), "partial");
    assert_eq!((with_data(&site), identity(&site)), (2, before));
}

#[test]
fn a_store_that_is_emptied_under_the_daemon_is_an_incident_and_nothing_is_lost_with_it() {
    for damage in ["for f in $(find state/store -type f); do : > $f; done", "truncate -s 0 state/store/db"] {
        let (mut site, _server) = shrunken();
        site.start();
        assert_eq!(outcome(&site.run("files")), "partial");
        let runs = site.runs("files").len();
        shell(damage, site.root());
        wait_for("the incident", SOON, || {
            let status = site.call("system.status", json!({})).ok()?;
            (status["attention"][0]["problem"]["code"] == "state_emptied").then_some(())
        });
        let (code, shown) = said(&site, &["status"]);
        assert!(code == 1 && shown.contains("emptied or cut off"), "{shown}");
        site.stop();
        site.start();
        is_told(&site, "");
        assert_eq!(site.runs("files").len(), runs, "{damage}");
        let run = site.run("files");
        assert!(run["warnings"].to_string().contains("shrank"), "{run}");
        assert_eq!(with_data(&site), 2);
    }
}

#[test]
fn doctor_says_whether_the_files_of_the_store_add_up_while_the_daemon_uses_them() {
    let (mut site, _server) = shrunken();
    site.start();
    let looked = |site: &Site| {
        let (_, shown) = said(site, &["doctor"]);
        let line = shown.lines().find(|line| line.contains("state store    ")).map(str::to_owned);
        (line.unwrap_or_else(|| panic!("{shown}")), shown)
    };
    let (line, shown) = looked(&site);
    assert!(line.starts_with("ok ") && line.contains("the state store adds up: "), "{shown}");
    let records: u64 = line.rsplit("adds up: ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(records > 10, "{line}");
    // The disk gives back something else than was written; what the daemon has in its memory is whole.
    let db = std::fs::OpenOptions::new().write(true).open(site.path("state/store/db")).unwrap();
    let length = db.metadata().unwrap().len();
    std::os::unix::fs::FileExt::write_all_at(&db, &vec![0xa5; usize::try_from(length).unwrap() - 8192], 8192).unwrap();
    let (line, shown) = looked(&site);
    assert!(line.starts_with("bad ") && line.contains("does not add up any more"), "{shown}");
    assert!(shown.contains("hint: look at its disk (`dmesg`), then restart the daemon"), "{shown}");
    assert!(shown.contains("restart the daemon: what the daemon knows was exported just now"), "{shown}");
    assert!(!site.path("state/store.looked-at").exists());
    assert_eq!(said(&site, &["doctor"]).0, 1);
    // Looking took nothing from the daemon, and the restart does what the hint says.
    assert_eq!(outcome(&site.run("files")), "partial");
    let runs = site.runs("files").len();
    site.stop();
    site.start();
    is_told(&site, "from the export of");
    assert_eq!(site.runs("files").len(), runs);
    let (line, shown) = looked(&site);
    assert!(line.starts_with("ok "), "{shown}");
    assert_eq!(with_data(&site), 2);
}
