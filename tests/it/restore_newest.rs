//! Which snapshot a restore takes where there are several destinations: the one of the newest run, wherever it is.

use rusqlite::Connection;

use crate::site::{Site, text};

/// Target `files` and the database `db`, nightly to `local` and weekly to `cloud`.
fn site() -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    site.write(
        "config/cloud.yaml",
        &format!(
            "kind: Destination\nname: cloud\nrepository: {{type: local, path: {root}/cloud}}\npassword: {{file: {root}/secrets/repository}}\n---\n\
             kind: Policy\nname: weekly\nschedule: \"0 4 * * 0\"\njitter: 0s\nretention: {{last: 3}}\ndestinations: [cloud]\n"
        ),
    );
    site.write(
        "config/targets.yaml",
        &format!(
            "kind: Target\nname: files\nplugin: files\npolicies: [daily, weekly]\nwith: {{paths: [{root}/data]}}\n---\n\
             kind: Target\nname: db\nplugin: sqlite\npolicies: [daily, weekly]\nwith: {{path: {root}/db.sqlite}}\n"
        ),
    );
    rows(&site, "CREATE TABLE t (day TEXT); INSERT INTO t VALUES ('lastweek')");
    site.write("data/day.txt", "lastweek\n");
    site.start_and_push();
    site
}

fn rows(site: &Site, sql: &str) {
    Connection::open(site.path("db.sqlite")).unwrap().execute_batch(sql).unwrap();
}

fn run(site: &Site, target: &str, policy: &str) {
    let done = site.command().args(["run", target, "--policy", policy]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
}

/// What a restore of `files` says, and the day that it brings.
fn restored(site: &Site, to: &str) -> (String, String) {
    let to = site.path(to);
    let done = site.command().args(["restore", "files", "--to"]).arg(&to).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let day = to.join(site.path("data").strip_prefix("/").unwrap()).join("day.txt");
    (text(&done), std::fs::read_to_string(day).unwrap())
}

fn into(site: &Site, words: &[&str]) -> (Option<i32>, String) {
    let done = site.command().args(["restore", "db", "--into", "db"]).args(words).output().unwrap();
    (done.status.code(), text(&done))
}

#[test]
fn the_newest_run_is_restored_in_whatever_destination_it_is() {
    let site = site();
    for target in ["files", "db"] {
        run(&site, target, "weekly");
    }
    site.write("data/day.txt", "today\n");
    rows(&site, "UPDATE t SET day = 'today'");
    for target in ["files", "db"] {
        run(&site, target, "daily");
    }
    let (said, day) = restored(&site, "first");
    assert_eq!(day, "today\n", "{said}");
    assert!(said.contains("in local") && !said.contains("note:"), "{said}");

    // It can't be read: a directory gets what there is, and is told; an application stays as it is.
    std::fs::rename(site.path("restic"), site.path("away")).unwrap();
    let (said, day) = restored(&site, "second");
    assert_eq!(day, "lastweek\n", "{said}");
    assert!(said.contains("note: the newest run of files (of 20") && said.contains("is in local alone"), "{said}");
    let (code, said) = into(&site, &["--dry-run"]);
    assert!(code == Some(0) && said.contains("is in local alone"), "{code:?} {said}");
    let (code, said) = into(&site, &[]);
    assert!(code == Some(1) && said.contains("is in local alone") && said.contains("--snapshot ID"), "{code:?} {said}");
    let live = || -> String {
        let open = Connection::open(site.path("db.sqlite")).unwrap();
        open.query_row("SELECT day FROM t", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(live(), "today");

    // What is named is taken.
    let ids = site.snapshots("cloud");
    let of_db = ids.iter().find(|each| each["tags"].to_string().contains("target:db")).unwrap();
    let (code, said) = into(&site, &["--snapshot", of_db["id"].as_str().unwrap()]);
    assert_eq!((code, live().as_str()), (Some(0), "lastweek"), "{said}");

    // The other way round nothing newer is lost with it.
    std::fs::rename(site.path("away"), site.path("restic")).unwrap();
    std::fs::rename(site.path("cloud"), site.path("away")).unwrap();
    let (said, day) = restored(&site, "third");
    assert_eq!(day, "today\n", "{said}");
    assert!(said.contains("note: cloud could not be looked at") && said.contains("no newer run is known"), "{said}");
}

#[test]
fn a_restore_of_what_is_held_for_having_shrunk_says_that_an_older_one_may_have_more() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("data/large.bin", &"0123456789abcdef".repeat(16_384));
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(site.run("files")["outcome"], "success");
    }
    std::fs::remove_file(site.path("data/large.bin")).unwrap();
    site.write("data/day.txt", "today\n");
    assert_eq!(site.run("files")["outcome"], "partial");
    let (said, _) = restored(&site, "restored");
    assert!(said.contains("note: held since") && said.contains("an older snapshot may have more"), "{said}");
}

#[test]
fn after_a_loss_of_the_state_the_newest_run_is_the_newest_whichever_destination_is_listed_first() {
    let mut site = site();
    site.edit("config/targets.yaml", "policies: [daily, weekly]\nwith: {paths", "policies: [daily]\nwith: {paths");
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, cloud]");
    site.push("both");
    let day = |site: &Site, away: &str, days: &[&str]| {
        std::fs::rename(site.path(away), site.path("away")).unwrap();
        for day in days {
            site.write("data/day.txt", &format!("{day}\n"));
            site.run("files");
        }
        std::fs::rename(site.path("away"), site.path(away)).unwrap();
    };
    site.run("files");
    for (away, other) in [("restic", "cloud"), ("cloud", "restic")] {
        day(&site, away, &["monday", "tuesday"]);
        day(&site, other, &["wednesday", "thursday"]);
        site.stop();
        for lost in ["state/store", "state/export"] {
            std::fs::remove_dir_all(site.path(lost)).unwrap();
        }
        site.start();
        crate::support::wait_for("the config", std::time::Duration::from_secs(60), || {
            site.call("target.get", serde_json::json!({"target": "files"})).ok()
        });
        let (said, day) = restored(&site, &format!("after-{away}"));
        assert_eq!(day, "thursday\n", "{said}");
    }
}

#[test]
fn what_fits_several_snapshots_is_none_of_them_and_nothing_is_no_name() {
    let site = site();
    // Sixteen digits begin an id: of seventeen two begin alike.
    let ids = || -> Vec<String> {
        let of_files = |each: &serde_json::Value| Some(each["id"].as_str()?.to_owned());
        site.snapshots("cloud").iter().filter_map(of_files).collect()
    };
    let mut wanted = None;
    for n in 0..17 {
        site.write("data/day.txt", &format!("{n}\n"));
        run(&site, "files", "daily");
        run(&site, "files", "weekly");
        let all: Vec<String> = ids().into_iter().chain(local(&site)).collect();
        let first = |id: &String| id[..1].to_owned();
        let twice = |id: &&String| all.iter().filter(|other| first(other) == first(id)).count() > 1;
        wanted = all.iter().find(twice).map(first);
        if wanted.is_some() {
            break;
        }
    }
    let wanted = wanted.unwrap();
    for (snapshot, code) in [(wanted.as_str(), "begin with"), ("", "empty")] {
        let done =
            site.command().args(["restore", "files", "--snapshot", snapshot, "--to"]).arg(site.path("back")).output();
        let done = done.unwrap();
        assert!(!done.status.success() && text(&done).contains(code), "{snapshot:?}: {}", text(&done));
    }
    let whole = local(&site).pop().unwrap();
    let done = site.command().args(["restore", "files", "--snapshot", &whole, "--to"]).arg(site.path("back")).output();
    assert!(done.as_ref().unwrap().status.success(), "{}", text(&done.unwrap()));
}

fn local(site: &Site) -> Vec<String> {
    site.snapshots("restic").iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}
