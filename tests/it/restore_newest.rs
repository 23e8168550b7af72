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
