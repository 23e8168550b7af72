//! What a run calls complete, on disks and trees that change: files that vanish, other file systems, sparse files, and
//! what `larder init` writes about a mount.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use serde_json::{Value, json};

use crate::holds::Mounted;
use crate::site::{Site, text};
use crate::support::wait_for;
use crate::whole::paths_of;

/// Takes `data/z` away just after restic has read the names in it, and gives the run's record.
fn run_while_files_vanish(site: &Site) -> Value {
    let directory = site.path("data/z");
    let (sender, opened) = std::sync::mpsc::channel();
    let within = directory.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_of_a_file = |path: &std::path::PathBuf| path.parent() == Some(&within);
        if event.is_ok_and(|event| event.kind.is_access() && event.paths.iter().any(is_of_a_file)) {
            let _ = sender.send(());
        }
    })
    .unwrap();
    let run = site.call("run.start", json!({"target": "files"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
    wait_for("the shipping", Duration::from_secs(60), || {
        let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
        (record["state"] == "shipping").then_some(())
    });
    watcher.watch(&directory, RecursiveMode::NonRecursive).unwrap();
    // Whoever opens a file has read the names of the directory.
    opened.recv_timeout(Duration::from_secs(60)).expect("restic reads the files");
    std::fs::rename(&directory, site.path("away")).unwrap();
    let record = site.finished(&run);
    std::fs::rename(site.path("away"), &directory).unwrap();
    record
}

const FILES: u64 = 20_000;

/// restic is silent about a file that goes between the reading of a directory's names and its own, so it is the count
/// that tells.
#[test]
fn files_that_vanish_while_they_are_read_are_counted_and_are_no_missing_rights() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    std::fs::create_dir(site.path("data/z")).unwrap();
    for number in 0..FILES {
        std::fs::write(site.path(&format!("data/z/{number:05}")), "some text\n").unwrap();
    }
    site.start_and_push();
    let record = run_while_files_vanish(&site);
    assert_eq!(record["outcome"], "partial", "{record}");
    let code = record["trouble"]["code"].as_str().unwrap();
    assert!(["fewer_than_counted", "files_vanished"].contains(&code), "{record}");
    assert!(!record.to_string().contains("read access"), "{record}");
    assert_eq!(site.run("files")["outcome"], "success");
}

#[test]
fn one_file_system_stays_on_the_one_of_its_source_and_kernel_file_systems_are_left_out_by_themselves() {
    let site = Site::running();
    let root = site.root().display().to_string();
    let disk = Mounted::new(site.path("data/disk"));
    site.write("data/disk/on-another", "text\n");
    let proc = site.path("data/chroot/proc");
    std::fs::create_dir_all(&proc).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "proc", "none"]).arg(&proc).status().unwrap();
    assert!(mounted.success());
    let kernel = Mounted::at(proc);
    let of = |with: &str| format!("kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data]{with}}}\n");
    let has = |name: &str| paths_of(&site).contains(&format!("{root}/data/{name}"));
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");
    assert!(record["notices"].to_string().contains("chroot/proc (proc)"), "{record}");
    assert!(has("disk/on-another") && has("a.txt") && !has("chroot/proc/self") && !has("chroot/proc/version"));

    site.write("config/targets.yaml", &of(", one_file_system: true"));
    let pushed = site.push("one file system");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");
    assert!(!has("disk/on-another") && has("a.txt"), "{record}");
    drop((disk, kernel));
}

#[test]
fn a_sparse_file_comes_back_sparse() {
    let site = Site::running();
    let path = site.path("data/disk.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(256 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 100 << 20).unwrap();
    assert_eq!(site.run("files")["outcome"], "success");
    let to = site.path("restored");
    let done = site.command().args(["restore", "files", "--to"]).arg(&to).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let back = to.join(path.strip_prefix("/").unwrap());
    let metadata = std::fs::metadata(&back).unwrap();
    assert_eq!(metadata.len(), 256 << 20);
    assert!(metadata.blocks() * 512 < 16 << 20, "{} blocks", metadata.blocks());
    assert_eq!(std::fs::read(back).unwrap(), std::fs::read(path).unwrap());
}

#[test]
fn what_init_writes_of_a_repository_on_a_mount_makes_no_second_one_when_the_mount_is_away() {
    let mut site = Site::new();
    let disk = Mounted::new(site.path("disk"));
    std::fs::remove_dir_all(site.path("config")).unwrap();
    std::fs::remove_dir_all(site.path("larder.git")).unwrap();
    let done = site
        .command()
        .arg("init")
        .arg(site.path("config"))
        .arg("--bare")
        .arg(site.path("larder.git"))
        .arg("--repository")
        .arg(site.path("disk/restic"))
        .arg("--protect")
        .arg(site.path("data"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let written = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    assert!(written.contains(&format!("require_mount: \"{}\"", site.path("disk").display())), "{written}");

    // Also where a link leads there.
    std::os::unix::fs::symlink("disk", site.path("backup")).unwrap();
    let linked = site.path("linked");
    let done =
        site.command().arg("init").arg(&linked).arg("--repository").arg(site.path("backup/restic")).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(std::fs::read_to_string(linked.join("destinations.yaml")).unwrap(), written);
    std::fs::remove_dir_all(linked).unwrap();

    site.start();
    let pushed = site.git(&["push", "-q", "origin", "HEAD:main"]);
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(site.run("data")["outcome"], "success");

    // The mount goes, and with it goes what Larder knew.
    site.stop();
    disk.away();
    for entry in std::fs::read_dir(site.path("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("secrets") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    site.start();
    wait_for("the config in force", Duration::from_secs(30), || {
        site.call("run.start", json!({"target": "data"})).ok().map(drop)
    });
    let job = wait_for("the end of a run", Duration::from_secs(60), || {
        site.runs("data").into_iter().find(|run| run["state"] == "finished")
    });
    assert_ne!(job["outcome"], "success", "{job}");
    assert!(job.to_string().contains("is not mounted"), "{job}");
    assert!(std::fs::read_dir(site.path("disk")).unwrap().next().is_none(), "a second repository");
}
