//! What a run is weighed by, and which mounts are missed: without what is Larder's own, and as the patterns say it. Through
//! the whole daemon, on real repositories and real mounts.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::holds::Mounted;
use crate::site::{Site, text};

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn held_for(record: &Value) -> Value {
    assert_eq!(outcome(record), "partial", "{record}");
    record["trouble"]["code"].clone()
}

/// A site whose policy keeps the newest two snapshots.
fn keeping_two() -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    site
}

/// Bytes that no program makes smaller; another `seed` gives others.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn put(site: &Site, at: &str, content: impl AsRef<[u8]>) {
    let path = site.path(at);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn what_is_our_own_below_a_source_is_no_weight_of_it_so_nothing_hides_behind_it_and_a_prune_is_no_loss() {
    let mut site = keeping_two();
    let root = site.root().display().to_string();
    site.write(
        "config/targets.yaml",
        &format!("kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/home, {root}/big]}}\n"),
    );
    site.edit("config/destinations.yaml", "/restic}", "/home/restic, create: true}");
    site.edit("config/site.yaml", "/backups,", "/home/backups,");
    (0..6).for_each(|n| put(&site, &format!("home/{n}"), noise(n, 5000)));
    put(&site, "big/file", noise(99, 600_000));
    site.start_and_push();
    for night in 0..6 {
        put(&site, "big/file", noise(100 + night, 600_000));
        let record = site.run("files");
        assert_eq!(outcome(&record), "success", "{record}");
    }
    let pruned = site.command().args(["destination", "prune", "local"]).output().unwrap();
    assert!(pruned.status.success(), "{}", text(&pruned));
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "the repository is smaller, the documents are not: {record}");

    // Of 30 KB beside a repository of more than 1 MB.
    (1..6).for_each(|n| std::fs::remove_file(site.path(&format!("home/{n}"))).unwrap());
    for _ in 0..3 {
        let record = site.run("files");
        assert_eq!(held_for(&record), json!("shrank"));
        let said = record["trouble"]["message"].as_str().unwrap();
        assert!(said.contains(&format!("{root}/home has")), "{said}");
    }
    let documents = |each: &Value| each["summary"]["total_bytes_processed"].as_u64() > Some(625_000);
    assert!(site.snapshots("home/restic").iter().any(documents), "none that has them is forgotten");
}

#[test]
fn another_file_system_with_nothing_of_anybodys_in_it_does_not_stand_for_the_one_that_is_lost() {
    let mut site = keeping_two();
    let mounted = Mounted::new(site.path("data/docs"));
    put(&site, "data/docs/deed.txt", "a deed\n");
    put(&site, "data/large", noise(1, 100_000));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    mounted.away();
    let _fresh = Mounted::new(site.path("data/docs"));
    for made in ["lost+found", "letters/2024", ".Trash-1000/files", "System Volume Information", "$RECYCLE.BIN"] {
        std::fs::create_dir_all(site.path("data/docs").join(made)).unwrap();
        assert_eq!(held_for(&site.run("files")), json!("lost_mount"), "{made}");
    }
    put(&site, "data/docs/.Trash-1000/files/old", "thrown away\n");
    put(&site, "data/docs/System Volume Information/WPSettings.dat", "12 bytes");
    assert_eq!(held_for(&site.run("files")), json!("lost_mount"));
    put(&site, "data/docs/letters/2024/deed.txt", "a deed\n");
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");
}

#[test]
fn patterns_say_by_the_path_of_the_source_as_it_is_written_which_mounts_are_missed() {
    let mut site = keeping_two();
    let root = site.root().display().to_string();
    let target = |name: &str, path: &str, exclude: &str| {
        format!(
            "kind: Target\nname: {name}\nplugin: files\nwith: {{paths: [{root}/{path}], exclude: ['{root}/{exclude}']}}\n"
        )
    };
    site.write(
        "config/targets.yaml",
        &[target("left-out", "link/t", "link/t/docs"), target("kept", "link/u", "real/u/docs")].join("---\n"),
    );
    let mounted = ["t", "u"].map(|each| Mounted::new(site.path(&format!("real/{each}/docs"))));
    for each in ["t", "u"] {
        put(&site, &format!("real/{each}/docs/deed"), noise(1, 50_000));
        put(&site, &format!("real/{each}/base"), noise(2, 200_000));
    }
    std::os::unix::fs::symlink("real", site.path("link")).unwrap();
    site.start_and_push();
    for name in ["left-out", "kept"] {
        assert_eq!(outcome(&site.run(name)), "success");
    }
    mounted.iter().for_each(Mounted::away);
    for _ in 0..3 {
        let record = site.run("left-out");
        assert_eq!(outcome(&record), "success", "nobody wants what is mounted there: {record}");
        assert_eq!(held_for(&site.run("kept")), json!("lost_mount"), "no pattern leaves it out");
    }
    let size = |each: &Value| each["summary"]["total_bytes_processed"].as_u64() > Some(250_000);
    assert_eq!(site.snapshots("restic").iter().filter(|each| size(each)).count(), 1, "what was mounted is kept");
}

#[test]
fn what_an_engine_mounts_comes_and_goes_wherever_it_keeps_its_data_and_a_volume_with_a_name_does_not() {
    let mut site = keeping_two();
    let id = "3f9c0d6be1a24b7788f0c9d2e4a6b8135f7092c4d6e8fa0b1c2d3e4f50617283";
    let engine = |at: &str| Mounted::new(site.path(&format!("data/engine/{at}")));
    let fleeting = [engine(&format!("overlay2/{id}/merged")), engine(&format!("containers/{id}/mounts/shm"))];
    let volume = engine("volumes/photos/_data");
    put(&site, &format!("data/engine/overlay2/{id}/merged/file"), "a layer\n");
    put(&site, &format!("data/engine/containers/{id}/mounts/shm/file"), "memory\n");
    put(&site, "data/engine/volumes/photos/_data/photo", noise(1, 50_000));
    put(&site, "data/large", noise(2, 200_000));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    fleeting.iter().for_each(Mounted::away);
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");
    volume.away();
    assert_eq!(held_for(&site.run("files")), json!("lost_mount"));
}

/// What an export has of the jobs becomes what `change` makes of it; the site is stopped and starts again.
fn with_jobs_changed(site: &mut Site, change: impl Fn(&mut Value)) {
    site.stop();
    let exported = site.command().args(["export", "-"]).output().unwrap();
    assert!(exported.status.success(), "{}", text(&exported));
    let mut changed = 0;
    let mut lines: Vec<String> = String::from_utf8(exported.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            if line["tree"] == "jobs" {
                change(&mut line["value"]);
                changed += 1;
            }
            format!("{line}\n")
        })
        .collect();
    assert!(changed > 0, "{lines:?}");
    // The last one has the checksum of all before it.
    let mut trailer: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    trailer["sha256"] = json!(hex::encode(Sha256::digest(lines.concat())));
    lines.push(format!("{trailer}\n"));
    site.write("older.ndjson", &lines.concat());
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    let imported = site.command().arg("import").arg(site.path("older.ndjson")).output().unwrap();
    assert!(imported.status.success(), "{}", text(&imported));
    site.start();
}

fn bound_to_itself(site: &Site, at: &str) -> Mounted {
    let point = site.path(at);
    std::fs::create_dir_all(&point).unwrap();
    let done = std::process::Command::new("mount").arg("--bind").args([&point, &point]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    Mounted::at(point)
}

#[test]
fn what_an_older_larder_noted_is_compared_as_that_looked_at_it_and_once() {
    let mut site = keeping_two();
    site.edit("config/destinations.yaml", "/restic}", "/data/disk/restic, create: true}");
    let _disk = Mounted::new(site.path("data/disk"));
    let _tank = Mounted::new(site.path("data/tank"));
    let child = Mounted::new(site.path("data/tank/child"));
    let _bound = bound_to_itself(&site, "data/bound");
    put(&site, "data/tank/child/deed", noise(1, 50_000));
    put(&site, "data/bound/deed", noise(2, 50_000));
    put(&site, "data/large", noise(3, 200_000));
    site.start_and_push();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    // It noted whatever held anything: our own repository, the mount point of a child, what is bound to itself.
    let noted = ["data/disk", "data/tank", "data/bound"].map(|at| site.path(at));
    with_jobs_changed(&mut site, |job| {
        assert_eq!(job["usual"]["mounts_own"], json!([]), "{job}");
        job["usual"].as_object_mut().unwrap().remove("mounts_own");
        job["usual"]["mounts"] = json!(noted);
    });
    for _ in 0..2 {
        let record = site.run("files");
        assert_eq!(outcome(&record), "success", "{record}");
    }
    child.away();
    let record = site.run("files");
    assert_eq!(held_for(&record), json!("lost_mount"));
    let said = record["warnings"].to_string();
    assert!(said.contains("data/tank/child was") && !said.contains("data/tank was"), "{said}");
}

/// Adds a destination in the site's `at`, which the policy ships to as well.
fn add_destination(site: &Site, at: &str) {
    let root = site.root().display();
    let other = format!(
        "---\nkind: Destination\nname: other\nrepository: {{type: local, path: {root}/{at}, create: true}}\npassword: {{file: {root}/secrets/repository}}\n"
    );
    let all = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap() + &other;
    site.write("config/destinations.yaml", &all);
    site.edit("config/policies.yaml", "[local]", "[local, other]");
    assert!(site.push("a second destination").status.success());
}

#[test]
fn a_disk_whose_repository_becomes_our_own_is_not_lost_and_one_that_a_run_made_it_on_is() {
    for is_there in [true, false] {
        let mut site = keeping_two();
        let disk = Mounted::new(site.path("data/disk"));
        put(&site, "data/large", noise(3, 200_000));
        put(&site, "data/disk/photo", noise(1, 100));
        site.start_and_push();
        if is_there {
            std::fs::remove_file(site.path("data/disk/photo")).unwrap();
            let made = std::process::Command::new(crate::support::restic())
                .args(["init", "--no-cache", "-r", site.path("data/disk/repository").to_str().unwrap()])
                .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", text(&made));
        }
        assert_eq!(outcome(&site.run("files")), "success");
        if is_there {
            add_destination(&site, "data/disk/repository");
            for _ in 0..2 {
                let record = site.run("files");
                assert_eq!(outcome(&record), "success", "{record}");
            }
            continue;
        }
        disk.away();
        let _fresh = Mounted::new(site.path("data/disk"));
        add_destination(&site, "data/disk/repository");
        for _ in 0..3 {
            assert_eq!(held_for(&site.run("files")), json!("lost_mount"));
            assert!(site.path("data/disk/repository/config").exists());
        }
    }
}

#[test]
fn a_directory_that_is_bound_to_itself_does_not_stand_for_the_disk_that_did_not_come_up() {
    let mut site = keeping_two();
    put(&site, "data/docs/below", "what lies in the directory below the disk\n");
    let disk = Mounted::new(site.path("data/docs"));
    put(&site, "data/docs/photos/deed", noise(1, 50_000));
    put(&site, "data/large", noise(3, 200_000));
    // What is bound to itself is a part of the disk.
    let part = bound_to_itself(&site, "data/docs/photos");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    part.away();
    assert_eq!(outcome(&site.run("files")), "success", "nothing is lost with that");
    disk.away();
    let _bound = bound_to_itself(&site, "data/docs");
    for _ in 0..3 {
        assert_eq!(held_for(&site.run("files")), json!("lost_mount"));
    }
}

#[test]
fn a_directory_that_becomes_a_mount_is_no_loss_of_the_one_above_and_one_that_was_a_mount_does_not_stand_for_it() {
    let mut site = keeping_two();
    let tank = Mounted::new(site.path("data/tank"));
    put(&site, "data/tank/docs/deed", noise(1, 50_000));
    put(&site, "data/large", noise(3, 200_000));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    std::fs::remove_file(site.path("data/tank/docs/deed")).unwrap();
    let docs = Mounted::new(site.path("data/tank/docs"));
    put(&site, "data/tank/docs/deed", noise(1, 50_000));
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");
    put(&site, "data/tank/list", noise(4, 500));
    assert_eq!(outcome(&site.run("files")), "success");
    docs.away();
    tank.away();
    let _tank = Mounted::new(site.path("data/tank"));
    let _docs = Mounted::new(site.path("data/tank/docs"));
    put(&site, "data/tank/docs/deed", noise(1, 50_000));
    for _ in 0..2 {
        assert_eq!(held_for(&site.run("files")), json!("lost_mount"));
    }
}
