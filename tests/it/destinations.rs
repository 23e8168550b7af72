//! Destinations that can't be used as they should: read-only, partly closed, lost. Whoever looks, status and page are true.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::disk::SmallDisk;
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

/// A site whose repository is at `below` its root.
fn site_with(below: &str) -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    site.edit("config/destinations.yaml", &format!("path: {root}/restic"), &format!("path: {root}/{below}"));
    site.start_and_push();
    site
}

/// Exit code and words, which come promptly.
fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let start = Instant::now();
    let done = site.command().args(args).output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(60), "{args:?} took {:?}", start.elapsed());
    (done.status.code().unwrap(), text(&done))
}

fn destination(site: &Site) -> Value {
    site.call("destination.list", json!({})).unwrap()["items"][0].clone()
}

/// Status and page say that the destination does not work, and why.
fn told(site: &Site, why: &str) {
    let shown = destination(site);
    assert_eq!(shown["health"], "failed", "{shown}");
    let (code, status) = said(site, &["status"]);
    assert!(code != 0 && status.contains(why), "{code} {status}");
    wait_for("the page", Duration::from_secs(20), || {
        let page = site.get("/").replace("&#x2f;", "/");
        (page.contains(why) && !page.contains("Everything is proven")).then_some(())
    });
}

fn will_fail(site: &Site, args: &[&str], why: &str) {
    let (code, shown) = said(site, args);
    assert!(
        code == 1 && shown.contains("backups to local will fail") && shown.contains(why),
        "{args:?}: {code} {shown}"
    );
    told(site, why);
}

#[test]
fn a_repository_that_can_only_be_read_is_told_by_check_test_and_doctor_at_once() {
    let site = site_with("disk/restic");
    let disk = SmallDisk::mount(site.path("disk"), "16m");
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(said(&site, &["destination", "check", "local"]).0, 0);
    assert_eq!(said(&site, &["doctor"]).0, 0);
    disk.read_only();
    for args in [["destination", "check", "local"].as_slice(), &["destination", "test", "local"], &["doctor"]] {
        will_fail(&site, args, "Read-only file system");
    }
    let (_, shown) = said(&site, &["destination", "check", "local"]);
    assert!(shown.contains("no errors were found"), "it was read all the same: {shown}");
    let run = site.run("files");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("failed", &json!("not_writable")), "{run}");

    // Writable again: each look takes its own words back.
    let again = Command::new("mount").args(["-o", "remount,rw"]).arg(site.path("disk")).status().unwrap();
    assert!(again.success());
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(said(&site, &["destination", "check", "local"]).0, 0);
    assert_eq!(destination(&site)["health"], "proven");
    assert_eq!(said(&site, &["doctor"]).0, 0);
}

#[test]
fn one_directory_that_takes_no_pack_is_told_too() {
    let site = site_with("restic");
    assert_eq!(outcome(&site.run("files")), "success");
    let data = site.path("restic/data");
    let bind = |args: &[&str]| Command::new("mount").args(args).arg(&data).status().unwrap().success();
    assert!(bind(&["--bind", data.to_str().unwrap()]) && bind(&["-o", "remount,bind,ro"]), "this test needs root");
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        will_fail(&site, &["destination", "check", "local"], "restic/data");
        will_fail(&site, &["doctor"], "restic/data");
    }));
    assert!(Command::new("umount").arg(&data).status().unwrap().success());
    found.unwrap();
    assert_eq!(said(&site, &["destination", "test", "local"]).0, 0);
    assert_eq!(said(&site, &["destination", "check", "local"]).0, 0);
    assert_eq!(destination(&site)["health"], "proven");
}

#[test]
fn a_read_only_repository_that_nothing_is_backed_up_to_is_only_said_to_be_one() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    let destinations = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let old = destinations.replace("name: local", "name: archive").replace("/restic", "/archive/restic");
    site.write("config/destinations.yaml", &format!("{destinations}---\n{old}"));
    let disk = SmallDisk::mount(site.path("archive"), "8m");
    let made = Command::new(crate::support::restic())
        .args(["-r", &format!("{root}/archive/restic"), "init"])
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    disk.read_only();
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    let (code, shown) = said(&site, &["destination", "check", "archive"]);
    assert!(code == 0 && shown.contains("nothing is backed up to archive"), "{code} {shown}");
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
}

#[test]
fn a_lost_repository_is_told_by_status_and_page_whoever_found_it() {
    let site = site_with("restic");
    assert_eq!(outcome(&site.run("files")), "success");
    for args in [
        ["destination", "test", "local"].as_slice(),
        &["destination", "check", "local"],
        &["destination", "prune", "local"],
        &["doctor"],
        &["run", "files"],
        &["restore", "files", "--to", "/nowhere/at/all"],
        &["snapshots"],
    ] {
        std::fs::rename(site.path("restic"), site.path("moved")).unwrap();
        let (code, shown) = said(&site, args);
        assert!(code == 1 && shown.contains("is not there"), "{args:?}: {code} {shown}");
        told(&site, "is not there");
        std::fs::rename(site.path("moved"), site.path("restic")).unwrap();
        for mend in ["test", "check", "prune"] {
            assert_eq!(said(&site, &["destination", mend, "local"]).0, 0, "{mend}");
        }
        assert_eq!(destination(&site)["health"], "proven", "{args:?}: {}", destination(&site));
    }
}

#[test]
fn a_dead_lock_of_another_machine_is_removed_by_the_command_that_the_hint_prints_and_by_its_id_alone() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    // Each lock is told as one that nobody has refreshed for ninety minutes, restic's own bound being thirty.
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(90);
    let real = crate::support::restic().display().to_string();
    let late = site.program(
        "restic-late",
        &format!(
            "case \" $* \" in *\" cat lock \"*) {real} \"$@\" | sed 's/\"time\": *\"[^\"]*\"/\"time\": \"{time}\"/' ;; *) exec {real} \"$@\" ;; esac\n"
        ),
    );
    site.daemon_env("LARDER_RESTIC", late);
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");

    // A restic of another machine that reads from a pipe, until it is killed.
    // Under its own name it is whole.
    let locks = || {
        let names = std::fs::read_dir(site.path("restic/locks")).unwrap().flatten().map(|each| each.file_name());
        names.filter(|name| name.len() == 64)
    };
    let repository = site.path("restic").display().to_string();
    let mut killed = Command::new("unshare")
        .args(["-u", "sh", "-c", "hostname otherhost && exec \"$@\"", "sh", &real, "-r", &repository])
        .args(["--no-cache", "backup", "--stdin"])
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("its lock", Duration::from_secs(30), || locks().next());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let id = locks().next().unwrap().into_string().unwrap();

    let (code, shown) = said(&site, &["destination", "prune", "local"]);
    let command = format!("larder destination unlock local --lock {}", &id[..10]);
    assert!(code == 1 && shown.contains(&command), "{code} {shown}");
    for part in ["root@otherhost", "refreshed 1h 30m ago"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let age = || {
        let metrics = site.get("/metrics");
        let name = "larder_destination_lock_age_seconds{destination=\"local\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).map(|age| age.parse::<f64>().unwrap())
    };
    wait_for("the age of the lock", Duration::from_secs(30), || age().filter(|age| *age > 5_000.0));
    let lock = destination(&site)["lock"].clone();
    assert!(lock["holder"].as_str().unwrap().starts_with("root@otherhost") && lock["stale"] == true, "{lock}");
    assert_eq!(lock["command"], command);
    wait_for("the page", Duration::from_secs(30), || {
        let page = site.get("/");
        (page.contains("root@otherhost") && page.contains(&command)).then_some(())
    });
    // What is ours and dead is removed without a word; this one is another's.
    let (code, shown) = said(&site, &["destination", "unlock", "local"]);
    assert!(code == 0 && shown.contains("1 others left alone") && shown.contains(&command), "{code} {shown}");
    for (args, why) in [
        (&["destination", "unlock", "local", "--lock", "0123456789"][..], &id[..10]),
        (&["destination", "unlock", "local", "--lock", "0123"], "8"),
        (&["destination", "unlock", "local", "--lock", "../config"], "8"),
        (&["destination", "prune", "local", "--lock", &id], "--lock goes with `unlock` only"),
        (&["destination", "unlock", "elsewhere", "--lock", &id], "there is no destination elsewhere"),
    ] {
        let (code, shown) = said(&site, args);
        assert!(code != 0 && shown.contains(why), "{args:?}: {code} {shown}");
        assert_eq!(locks().count(), 1, "{args:?}");
    }
    let typed: Vec<&str> = command.split(' ').skip(1).collect();
    let (code, shown) = said(&site, &typed);
    assert!(code == 0 && shown.contains("removed the lock") && shown.contains("root@otherhost"), "{code} {shown}");
    assert_eq!(locks().count(), 0);
    wait_for("no lock", Duration::from_secs(30), || age().filter(|age| *age < 0.5));
    assert_eq!(destination(&site)["lock"], Value::Null);
    assert_eq!(said(&site, &["destination", "prune", "local"]).0, 0);
    assert_eq!(outcome(&site.run("files")), "success");
}

#[test]
fn a_destination_that_left_the_config_is_still_listed_and_gives_back_what_it_has() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let written = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let old = written.replace("name: local", "name: old").replace("/restic", "/old-restic");
    site.write("config/destinations.yaml", &format!("{written}---\n{old}"));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, old]");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    site.write("config/destinations.yaml", &written);
    site.edit("config/policies.yaml", "destinations: [local, old]", "destinations: [local]");
    let pushed = site.push_with("the old disk is full", &["-o", "confirm"]);
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(outcome(&site.run("files")), "success");

    let listed = site.call("destination.list", json!({})).unwrap()["items"].clone();
    let left = listed.as_array().unwrap().iter().find(|each| each["name"] == "old").unwrap();
    assert_eq!(left["desired"], false, "{left}");
    let shown = site.call("snapshot.list", json!({"destination": "old"})).unwrap();
    assert_eq!(shown["items"].as_array().unwrap().len(), 1, "{shown}");
    let to = site.path("back");
    let (code, shown) = said(&site, &["restore", "files", "--destination", "old", "--to", to.to_str().unwrap()]);
    assert_eq!(code, 0, "{shown}");
    let back = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back).unwrap(), "the first file\n");
    for verb in ["test", "check", "keys", "pin"] {
        let (code, shown) = said(&site, &["destination", verb, "old"]);
        assert_eq!(code, 0, "{verb}: {shown}");
    }
    assert_eq!(said(&site, &["doctor"]).0, 0);
    // A name that there never was is told with those that there are.
    let (code, shown) = said(&site, &["destination", "test", "older"]);
    assert!(code == 1 && shown.contains("local, old (left the config)"), "{shown}");
    // A run is never shipped there again, also with its disk away, and nothing fails for it.
    std::fs::rename(site.path("old-restic"), site.path("away")).unwrap();
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(said(&site, &["doctor"]).0, 0);
    assert_eq!(said(&site, &["destination", "list"]).0, 0);
}

#[test]
fn restic_lets_others_go_first_as_a_destination_says_and_keeps_its_cache_where_that_says() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    let at = |name: &str| format!("type: local, path: {root}/{name}");
    let polite = format!("nice: 15\nionice: idle\ncache: {root}/elsewhere\n");
    let documents = [
        site.destination("polite", &at("polite"), &polite),
        site.destination("bare", &at("bare"), "nice: 3\nionice: best-effort:6\ncache: false\n"),
    ];
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{}", documents.concat()));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, polite, bare]");
    // The process that becomes restic says what the kernel has of it.
    let real = crate::support::restic().display().to_string();
    let told = site.program(
        "restic-told",
        &format!(
            "case \" $* \" in *\" backup \"*) {{ cut -d' ' -f19 /proc/$$/stat; ionice -p $$; }} >{root}/seen-$(basename \"$RESTIC_REPOSITORY\");; esac\nexec {real} \"$@\"\n"
        ),
    );
    site.daemon_env("LARDER_RESTIC", told);
    std::fs::create_dir(site.path("elsewhere")).unwrap();
    site.start_and_push();
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    let seen = |name: &str| {
        let text = std::fs::read_to_string(site.path(&format!("seen-{name}"))).unwrap();
        let (nice, disk) = text.split_once('\n').unwrap();
        (nice.parse::<i32>().unwrap(), disk.trim().to_owned())
    };
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    let own: i32 = own.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap();
    assert_eq!(seen("polite"), (own.max(15), "idle".to_owned()));
    assert_eq!(seen("bare"), (own.max(3), "best-effort: prio 6".to_owned()));
    assert_eq!(seen("restic").0, (own + 10).min(19));
    // restic names a directory of its cache by the repository's id.
    let id = |name: &str| {
        let all = site.call("destination.list", json!({})).unwrap();
        let one = all["items"].as_array().unwrap().iter().find(|each| each["name"] == name).unwrap().clone();
        one["repository_id"].as_str().unwrap().to_owned()
    };
    let own_cache = site.path("state/cache/restic");
    assert!(own_cache.join(id("local")).is_dir() && !own_cache.join(id("polite")).exists());
    assert!(site.path("elsewhere").join(id("polite")).is_dir() && !own_cache.join(id("bare")).exists());
    assert!(!site.path(".cache").exists(), "restic's usual place");

    // Without the program that is asked for it says so, and who does not need it goes on.
    site.stop();
    site.write("few/empty", "");
    std::os::unix::fs::symlink("/usr/bin/nice", site.path("few/nice")).unwrap();
    site.daemon_env("LARDER_RESTIC", real);
    site.daemon_env("PATH", site.path("few"));
    site.start();
    let run = site.run("files");
    assert_eq!(outcome(&run), "partial", "{run}");
    let shipments = run["shipments"].as_array().unwrap();
    for (index, name) in [(1, "polite"), (2, "bare")] {
        let trouble = &shipments[index]["trouble"];
        assert_eq!(trouble["code"], "program_missing", "{run}");
        let why = trouble["message"].as_str().unwrap();
        assert!(why.contains("ionice") && why.contains(name), "{why}");
        assert!(trouble["hint"].as_str().unwrap().contains("util-linux"), "{trouble}");
    }
}
