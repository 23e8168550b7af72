//! What a whole site costs: a push among 200 targets, an idle daemon with 70, a change among 10,000 documents, one run.
//!
//! `cargo bench --bench site` prints the figures; nothing here can fail by being slow. `cargo bench --bench site -- push`
//! measures only what is named: push, idle, large, run.
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
use support::{larder, restic};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|each| each == name);
    let size = std::fs::metadata(larder()).unwrap().len();
    println!("binary: {:.1} MB", megabytes(size));
    if is_wanted("push") {
        push_among(200);
    }
    if is_wanted("idle") {
        idle_with(70);
    }
    if is_wanted("large") {
        change_among(9_996);
    }
    if is_wanted("run") {
        run_overhead();
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn with_targets(count: usize, per_file: usize) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    for file in 0..count.div_ceil(per_file) {
        let mut documents = String::new();
        for number in (file * per_file)..((file + 1) * per_file).min(count) {
            let _ = write!(
                documents,
                "---\nkind: Target\nname: t{number:05}\nplugin: files\nwith: {{paths: [{root}/data], exclude: [\"*.tmp\"]}}\n"
            );
        }
        site.write(&format!("config/targets/{file:04}.yaml"), &documents);
    }
    site
}

fn push_among(targets: usize) {
    let mut site = with_targets(targets, 1);
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    for round in 0..31 {
        let root = site.root().display().to_string();
        let document = format!(
            "kind: Target\nname: t00007\nplugin: files\nwith: {{paths: [{root}/data], exclude: [\"*.{round}\"]}}\n"
        );
        site.write("config/targets/0007.yaml", &document);
        assert!(site.git(&["commit", "-qam", "change"]).status.success());
        let start = Instant::now();
        let pushed = site.git(&["push", "origin", "main"]);
        whole.push(start.elapsed());
        assert!(pushed.status.success() && text(&pushed).contains("applied"), "{}", text(&pushed));
        let applied = site.call("config.status", json!({})).unwrap();
        own.push(Duration::from_micros(applied["took_us"].as_u64().unwrap()));
    }
    println!(
        "push of one line among {targets} targets: {} whole, {} the daemon's own part (medians of 31)",
        show(&mut whole),
        show(&mut own)
    );
}

fn show(times: &mut [Duration]) -> String {
    times.sort();
    format!("{:.1} ms", times[times.len() / 2].as_secs_f64() * 1e3)
}

fn idle_with(targets: usize) {
    let mut site = with_targets(targets, 1);
    site.serve_with(&["--listen", "127.0.0.1:0"]);
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    std::thread::sleep(Duration::from_secs(5));
    let pid = site.daemon_pid();
    let before = cpu_ticks(pid);
    let window = Duration::from_secs(60);
    std::thread::sleep(window);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let used = (cpu_ticks(pid) - before) as f64 / 100.0;
    println!(
        "idle daemon with {targets} targets: {:.1} MB resident, {:.2} % of a core over {} s",
        megabytes(resident(pid)),
        used / window.as_secs_f64() * 100.0,
        window.as_secs()
    );
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn change_among(targets: usize) {
    let mut site = with_targets(targets, 100);
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let cold = site.call("config.status", json!({})).unwrap()["took_us"].as_u64().unwrap();
    println!("{targets} targets: cold load and apply {:.0} ms", Duration::from_micros(cold).as_secs_f64() * 1e3);
    let mut changed = Vec::new();
    for round in 0..9 {
        let path = site.path("config/targets/0042.yaml");
        let document = std::fs::read_to_string(&path).unwrap();
        let from = if round == 0 { "*.tmp".to_owned() } else { format!("*.{}", round - 1) };
        std::fs::write(&path, document.replacen(&from, &format!("*.{round}"), 1)).unwrap();
        let pushed = site.push("change");
        assert!(pushed.status.success(), "{}", text(&pushed));
        let applied = site.call("config.status", json!({})).unwrap();
        changed.push(Duration::from_micros(applied["took_us"].as_u64().unwrap()));
    }
    println!("{targets} targets: a change of one file applied in {} (median of 9)", show(&mut changed));
    println!("{targets} targets: daemon {:.1} MB resident", megabytes(resident(site.daemon_pid())));
    let (start, pid) = (Instant::now(), site.daemon_pid());
    site.stop();
    site.start();
    println!("{targets} targets: restart until the first answer {} ms (process {pid})", start.elapsed().as_millis());
}

/// One restic command on the site's repository, as somebody would type it.
fn plain(site: &Site, arguments: &[&std::ffi::OsStr]) -> Vec<u8> {
    let output = Command::new(restic())
        .arg("-r")
        .arg(site.path("restic"))
        .arg("--json")
        .args(arguments)
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .env("RESTIC_CACHE_DIR", site.path("state/cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What a run takes beyond the restic commands in it.
fn run_overhead() {
    let site = Site::running();
    site.run("files");
    let (mut whole, mut commands) = (Vec::new(), Vec::new());
    for round in 0..9 {
        site.write("data/a.txt", &format!("content {round}\n"));
        let data = site.path("data");
        // As a run does it: the snapshot, the listing that proves it, and what is forgotten by its id.
        let start = Instant::now();
        plain(&site, &["backup".as_ref(), "--tag=bench".as_ref(), data.as_os_str()]);
        let listed = plain(&site, &["snapshots".as_ref(), "--no-lock".as_ref()]);
        let snapshots: Vec<serde_json::Value> = serde_json::from_slice(&listed).unwrap();
        let of_it =
            |each: &&serde_json::Value| each["tags"].as_array().is_some_and(|tags| tags.contains(&json!("bench")));
        let ours: Vec<&str> = snapshots.iter().filter(of_it).map(|each| each["id"].as_str().unwrap()).collect();
        if let Some(oldest) = ours.iter().rev().nth(3) {
            plain(&site, &["forget".as_ref(), oldest.as_ref()]);
        }
        commands.push(start.elapsed());
        site.write("data/a.txt", &format!("other content {round}\n"));
        let record = site.run("files");
        let at = |field: &str| record[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        whole.push(Duration::try_from(at("finished").duration_since(at("queued"))).unwrap());
    }
    println!(
        "one run: {} whole; the same restic commands alone (backup, snapshots, forget): {} (medians of 9)",
        show(&mut whole),
        show(&mut commands)
    );
}
