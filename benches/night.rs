//! A night of many small targets, against the shell loop that people write, `restic backup` and `restic forget` for each,
//! and against the same restic calls alone with the machine key, four at a time.
//!
//! `cargo bench --bench night` prints the figures of 70 targets to a directory, to a bucket and to a directory beside a
//! server that never answers; `-- local`, `-- s3`, `-- hole`, `-- snapshots` only one of them, `-- alone` the first without
//! the loop. Nothing here can fail by being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/it/site.rs"]
mod site;
#[path = "../tests/it/support.rs"]
mod support;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use site::{Site, text};
use support::{restic, storages};

const TARGETS: usize = 70;
const FILES: usize = 20;
/// What a policy keeps; so many nights come before the one that is measured, so that it forgets.
const KEPT: usize = 2;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|each| each == name);
    if is_wanted("local") {
        let mut site = fill(Site::new(), &[], "local");
        let loop_took = shell_loop(&site, &Way::Local);
        let night = measured(&mut site, "restic");
        tell("a directory", &night, loop_took);
        restic_alone(&site);
    }
    if wanted.iter().any(|each| each == "alone") {
        let mut site = fill(Site::new(), &[], "local");
        let night = measured(&mut site, "restic");
        tell("a directory", &night, Duration::ZERO);
        restic_alone(&site);
    }
    if is_wanted("s3") {
        let Some(server) = storages::rclone("s3", &["--auth-key", &login()], |files| {
            std::fs::create_dir(files.join("backups")).unwrap();
        }) else {
            return println!("s3: no rclone here");
        };
        let site = Site::new();
        let repository = site.s3_repository(server.port, "backups");
        let mut site = fill(site, &[("bucket", repository.as_str())], "bucket");
        let loop_took = shell_loop(&site, &Way::S3(server.port));
        let night = measured_until(&mut site, &|| files_in(&server.files().join("backups/home/snapshots")));
        tell("a bucket (rclone)", &night, loop_took);
    }
    if is_wanted("hole") {
        let mut alone = fill(Site::new(), &[], "local");
        let night = measured(&mut alone, "restic");
        drop(alone);
        let site = Site::new();
        let repository = site.s3_repository(storages::black_hole(), "backups");
        let mut site = fill(site, &[("hole", repository.as_str())], "local, hole");
        let beside = measured(&mut site, "restic");
        println!(
            "a directory alone: all snapshots there after {}; beside a server that never answers: {} (all runs over after {})",
            seconds(night.shipped),
            seconds(beside.shipped),
            seconds(beside.wall)
        );
    }
    if is_wanted("snapshots") {
        snapshots_of_one();
    }
}

fn login() -> String {
    format!("{},{}", storages::ACCESS_KEY, storages::SECRET_KEY)
}

fn fill(site: Site, others: &[(&str, &str)], destinations: &str) -> Site {
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "destinations: [local]", &format!("destinations: [{destinations}]"));
    site.edit("config/policies.yaml", "last: 3", &format!("last: {KEPT}"));
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let more: String = others.iter().map(|(name, repository)| site.destination(name, repository, "")).collect();
    site.write("config/destinations.yaml", &format!("{local}{more}"));
    let root = site.root().display().to_string();
    let mut documents = String::new();
    for number in 0..TARGETS {
        for file in 0..FILES {
            site.write(&format!("data/t{number:02}/{file:02}"), &format!("file {file} of {number}\n").repeat(50));
        }
        let _ = write!(
            documents,
            "---\nkind: Target\nname: t{number:02}\nplugin: files\nwith: {{paths: [{root}/data/t{number:02}]}}\n"
        );
    }
    site.write("config/targets.yaml", &documents);
    site
}

fn change(site: &Site, round: usize) {
    for number in 0..TARGETS {
        site.write(&format!("data/t{number:02}/00"), &format!("round {round} of {number}\n"));
    }
}

enum Way {
    Local,
    S3(u16),
}

/// What the loop takes, on a repository of its own that has had `KEPT` nights.
fn shell_loop(site: &Site, way: &Way) -> Duration {
    let repository = match way {
        Way::Local => site.path("loop").display().to_string(),
        Way::S3(port) => format!("s3:http://127.0.0.1:{port}/backups/loop"),
    };
    let call = |args: &[&str]| {
        let done = Command::new(restic())
            .args(["-q", "-r", &repository])
            .args(args)
            .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
            .env("RESTIC_CACHE_DIR", site.path("cache-of-the-loop"))
            .env("AWS_ACCESS_KEY_ID", storages::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", storages::SECRET_KEY)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done));
    };
    call(&["init"]);
    let mut took = Duration::ZERO;
    // The nights before are short: one snapshot of all, and the targets' own are the first.
    for night in 0..2 {
        change(site, night);
        let begun = Instant::now();
        for number in 0..TARGETS {
            let tag = format!("t{number:02}");
            let path = site.path(&format!("data/{tag}")).display().to_string();
            call(&["backup", "--tag", &tag, &path]);
            call(&["forget", "--tag", &tag, "--keep-last", "1"]);
        }
        took = begun.elapsed();
    }
    took
}

/// What the restic calls of a night take by themselves, in the repository of the site.
fn restic_alone(site: &Site) {
    let kept = std::fs::read_dir(site.path("state/cache/machine-keys")).unwrap().next().unwrap().unwrap().path();
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    site.write("secrets/machine", kept["secret"].as_str().unwrap());
    change(site, 100);
    let call = |args: &[&str]| {
        let mut command = Command::new(restic());
        command.args(["-q", "-r", &site.path("restic").display().to_string()]).args(args);
        command.env("RESTIC_PASSWORD_FILE", site.path("secrets/machine"));
        command.env("RESTIC_KEY_HINT", kept["key"].as_str().unwrap());
        command.env("RESTIC_CACHE_DIR", site.path("state/cache/restic"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
    };
    let (begun, before) = (Instant::now(), cpu(std::process::id()).1);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= TARGETS {
                        return;
                    }
                    call(&["backup", &site.path(&format!("data/t{number:02}")).display().to_string()]);
                }
            });
        }
    });
    println!(
        "the {TARGETS} backups alone with the machine key, four at a time: {}; CPU {:.1} s",
        seconds(begun.elapsed()),
        cpu(std::process::id()).1 - before
    );
}

struct Night {
    /// Until all of its snapshots were there, and until all was over.
    shipped: Duration,
    wall: Duration,
    daemon: f64,
    children: f64,
}

fn measured(site: &mut Site, repository: &str) -> Night {
    let snapshots = site.path(repository).join("snapshots");
    measured_until(site, &|| files_in(&snapshots))
}

fn files_in(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// The night behind those that make the policy full.
fn measured_until(site: &mut Site, there: &dyn Fn() -> usize) -> Night {
    site.serve_with(&["--listen", "127.0.0.1:0"]);
    site.start_and_push();
    for round in 0..KEPT {
        change(site, 10 + round);
        night(site, there, TARGETS * (round + 1), TARGETS * (round + 1));
    }
    change(site, 99);
    night(site, there, TARGETS * (KEPT + 1), TARGETS * KEPT)
}

/// Starts all and waits until `most` snapshots were there, all runs are over and `left` snapshots stay.
fn night(site: &Site, there: &dyn Fn() -> usize, most: usize, left: usize) -> Night {
    let pid = site.daemon_pid();
    let before = cpu(pid);
    let begun = Instant::now();
    let mut runs = Vec::new();
    for number in 0..TARGETS {
        let started = site.call("run.start", json!({"target": format!("t{number:02}")})).unwrap();
        runs.push(started["runs"][0].as_str().unwrap().to_owned());
    }
    let mut shipped = None;
    let mut open = runs;
    while !open.is_empty() || there() != left {
        if shipped.is_none() && there() >= most {
            shipped = Some(begun.elapsed());
        }
        if there() == left {
            // Asking takes the daemon's time, too.
            open.retain(|run| site.call("run.get", json!({"run": run})).unwrap()["run"]["outcome"].is_null());
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_mins(10), "{} open, {} there\n{}", open.len(), there(), site.log());
    }
    let wall = begun.elapsed();
    let after = cpu(pid);
    Night { shipped: shipped.unwrap_or(wall), wall, daemon: after.0 - before.0, children: after.1 - before.1 }
}

/// What a process and those of its children that ended took of the processor, in seconds.
fn cpu(pid: u32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    ((fields[11] + fields[12]) / 100.0, (fields[13] + fields[14]) / 100.0)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn tell(where_to: &str, night: &Night, loop_took: Duration) {
    println!(
        "{TARGETS} targets to {where_to}: {} (all snapshots there after {}); the shell loop {}: 1/{:.1} of it; CPU {:.1} s in \
         children, {:.2} s in the daemon",
        seconds(night.wall),
        seconds(night.shipped),
        seconds(loop_took),
        loop_took.as_secs_f64() / night.wall.as_secs_f64(),
        night.children,
        night.daemon
    );
}

/// `larder snapshots` of one target, where there are more than a thousand.
fn snapshots_of_one() {
    let mut site = fill(Site::new(), &[], "local");
    site.edit("config/policies.yaml", &format!("last: {KEPT}"), "last: 100");
    site.start_and_push();
    let directory = site.path("restic/snapshots");
    let there = || files_in(&directory);
    let nights = 1000_usize.div_ceil(TARGETS);
    for round in 0..nights {
        change(&site, round);
        night(&site, &there, TARGETS * (round + 1), TARGETS * (round + 1));
    }
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let done = site.command().args(["snapshots", "t07"]).output().unwrap();
            assert!(done.status.success(), "{}", text(&done));
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "`larder snapshots` of one target among {} snapshots: {:.0} ms (median of 9)",
        there(),
        times[4].as_secs_f64() * 1e3
    );
}
