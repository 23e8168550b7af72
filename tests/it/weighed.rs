//! What a run is weighed by, and which mounts are missed: without what is Larder's own, and as the patterns say it. Through
//! the whole daemon, on real repositories and real mounts.

use serde_json::{Value, json};

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
