//! What a long history costs: memory, start, disk, lists, import and export, with 70 targets of 1,000 runs each and with
//! 1,000 of them.
//!
//! `cargo bench --bench history` prints the figures; nothing here can fail by being slow. `cargo bench --bench history -- 70`
//! measures only what is named. The history is made: an export of the older format, in which each step of a run's log is
//! a line, is written and imported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/it/site.rs"]
mod site;
#[path = "../tests/it/support.rs"]
mod support;

use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::store::record::RunRecord;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use site::{Site, text};
use support::wait_for;

/// Runs of each target: as many as are kept.
const RUNS: u64 = 1000;

/// The first run's time, in seconds since 1970; one run a day.
const BEGIN: i64 = 1_700_000_000;

/// The steps of a run.
const STEPS: [&str; 7] = ["queued", "capturing", "validating", "publishing", "shipping", "retaining", "finished"];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for targets in [0, 70, 1000] {
        if wanted.is_empty() || wanted.contains(&targets.to_string()) {
            with_history_of(targets);
        }
    }
}

fn with_history_of(targets: u64) {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    for target in 0..targets.max(70) {
        let document = format!("kind: Target\nname: t{target:05}\nplugin: files\nwith: {{paths: [{root}/data]}}\n");
        site.write(&format!("config/targets/{target:05}.yaml"), &document);
    }
    let runs = targets * RUNS;
    if targets > 0 {
        let export = site.path("made.ndjson");
        write_made(&export, targets);
        let begun = Instant::now();
        let mut child = site.command().arg("import").arg(&export).spawn().unwrap();
        let peak = peak_of(&mut child);
        println!(
            "{runs} runs: import of {:.0} MB of lines in {:.1} s, at most {:.0} MB resident",
            megabytes(export.metadata().unwrap().len()),
            begun.elapsed().as_secs_f64(),
            megabytes(peak)
        );
        std::fs::remove_file(export).unwrap();
    }
    // The config once, as every site has it at a restart.
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    site.stop();
    let begun = Instant::now();
    site.spawn();
    wait_for("readyz", Duration::from_secs(60), || is_ready(&site.path("state/larder.sock")).then_some(()));
    let ready = begun.elapsed();
    std::thread::sleep(Duration::from_secs(15));
    println!(
        "{runs} runs: ready {} ms after the start, {:.1} MB resident 15 s later (at most {:.1}), {:.1} MB of store on the disk",
        ready.as_millis(),
        megabytes(status_of(site.daemon_pid(), "VmRSS:")),
        megabytes(status_of(site.daemon_pid(), "VmHWM:")),
        megabytes(size(&site.path("state/store"))),
    );
    if targets > 0 {
        let deep = site.call("run.list", json!({"target": "t00007", "limit": 200})).unwrap();
        let deep = deep["items"][150]["id"].clone();
        ask(&site, runs, "run.list", json!({}));
        ask(&site, runs, "run.list", json!({"target": "t00007"}));
        ask(&site, runs, "run.list", json!({"target": "t00007", "cursor": deep}));
        ask(&site, runs, "run.list", json!({"cursor": deep}));
        ask(&site, runs, "run.get", json!({"run": deep}));
    }
    site.stop();
    let begun = Instant::now();
    let mut child = site.command().arg("export").arg(site.path("out.ndjson")).spawn().unwrap();
    let peak = peak_of(&mut child);
    println!(
        "{runs} runs: export of {:.1} MB in {:.1} s, at most {:.0} MB resident",
        megabytes(site.path("out.ndjson").metadata().unwrap().len()),
        begun.elapsed().as_secs_f64(),
        megabytes(peak)
    );
}

/// Prints how long a call takes over the local socket, on one connection: from the first byte sent to the last one read.
fn ask(site: &Site, runs: u64, method: &str, params: Value) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let length = body.len();
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut socket = BufReader::new(UnixStream::connect(site.path("state/larder.sock")).unwrap());
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..1000 {
        let begun = Instant::now();
        socket.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = answer_of(&mut socket);
        times.push(begun.elapsed());
        assert!(answer.starts_with(b"{") && !answer.windows(8).any(|part| part == b"\"error\":"), "{method}");
        bytes = answer.len();
    }
    times.sort();
    println!(
        "{runs} runs: {method} {params}: median {:.2} ms, 99th of a hundred {:.2} ms, {bytes} bytes",
        times[500].as_secs_f64() * 1e3,
        times[989].as_secs_f64() * 1e3
    );
}

/// The body of an answer.
fn answer_of(socket: &mut BufReader<UnixStream>) -> Vec<u8> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    body
}

fn is_ready(socket: &Path) -> bool {
    let Ok(mut socket) = UnixStream::connect(socket) else { return false };
    let asked = socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// Waits for a child's end; answers with the most memory that it had.
fn peak_of(child: &mut std::process::Child) -> u64 {
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        peak = peak.max(status_of(child.id(), "VmHWM:"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A figure of a process, in bytes; 0 when it is gone.
fn status_of(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes that a directory takes on the disk.
fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        about if about.is_dir() => size(&entry.path()),
        about => about.blocks() * 512,
    };
    std::fs::read_dir(dir).unwrap().flatten().map(of).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Numbers that nobody can foresee or make smaller, the same each time.
fn noise(seed: u64) -> [u8; 32] {
    Sha256::digest(seed.to_be_bytes()).into()
}

fn time(run: u64, millis: u64) -> jiff::Timestamp {
    let nanos = u32::from_be_bytes(*noise(run * 31 + millis).first_chunk().unwrap()) % 1_000_000;
    let at = jiff::Timestamp::from_second(BEGIN + i64::try_from(run).unwrap() * 86_400).unwrap();
    at + Duration::from_millis(millis) + Duration::from_nanos(nanos.into())
}

/// The bytes of a run's id.
fn id(target: u64, run: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&time(run, target).as_millisecond().to_be_bytes()[2..]);
    id[6..].copy_from_slice(&noise(target * RUNS + run)[..10]);
    id
}

/// Writes an export of format 1, ordered as an export is: by tree, then by key.
fn write_made(path: &Path, targets: u64) {
    let mut out = BufWriter::new(std::fs::File::create(path).unwrap());
    let (mut sha256, mut entries) = (Sha256::new(), 0_u64);
    let mut push = |line: &str| {
        sha256.update(line);
        sha256.update("\n");
        writeln!(out, "{line}").unwrap();
    };
    push(r#"{"larder_export":1,"store_format":1}"#);
    let all = || {
        (0..RUNS).flat_map(move |run| {
            let mut of_day: Vec<([u8; 16], u64)> = (0..targets).map(|target| (id(target, run), target)).collect();
            of_day.sort_unstable();
            of_day.into_iter().map(move |(id, target)| (id, target, run))
        })
    };
    let first: RunRecord = serde_json::from_value(record(id(0, 0), 0, 0)).unwrap();
    assert!(first.state.is_finished(), "it is made as a daemon writes one");
    for (id, target, run) in all() {
        let value = record(id, target, run);
        push(&format!(r#"{{"tree":"runs","key_hex":"{}","value":{value}}}"#, hex::encode(id)));
        entries += 1;
    }
    for (id, target, run) in all() {
        for (sequence, step) in STEPS.iter().enumerate() {
            let state = if *step == "finished" { finished() } else { json!({"state": step}) };
            let at = time(run, target + 300 * u64::try_from(sequence).unwrap());
            let value = json!({"at": at, "state": state});
            push(&format!(r#"{{"tree":"events","key_hex":"{}{sequence:08x}","value":{value}}}"#, hex::encode(id)));
            entries += 1;
        }
    }
    let sha256 = hex::encode(sha256.finalize());
    writeln!(out, r#"{{"entries":{entries},"sha256":"{sha256}"}}"#).unwrap();
    out.flush().unwrap();
}

fn finished() -> Value {
    json!({"state": "finished", "outcome": "success"})
}

/// A run as the daemon records one of a target with one artifact and one destination.
fn record(id: [u8; 16], target: u64, run: u64) -> Value {
    let id = larder::types::RunId::from_bytes(id);
    let seed = target * RUNS + run;
    let bytes = 1_000_000_000 + u64::from(noise(seed)[11]) * 4096;
    json!({
        "id": id,
        "job": {"target": format!("t{target:05}"), "policy": "daily"},
        "trigger": {"type": "scheduled", "slot": jiff::Timestamp::from_second(BEGIN + i64::try_from(run).unwrap() * 86_400).unwrap()},
        "revision": hex::encode(&noise(run / 20)[..20]),
        "plugin": "files",
        "state": finished(),
        "queued": time(run, target),
        "started": time(run, target + 1),
        "finished": time(run, target + 2400),
        "trouble": null,
        "warnings": [],
        "notices": [],
        "artifact": {"path": format!("t{target:05}/2024-01-01/030000-{id}"), "files": 1, "bytes": bytes / 10, "present": false},
        "shipments": [{
            "destination": "local",
            "outcome": "success",
            "snapshot": hex::encode(noise(seed)),
            "bytes_added": u64::from(noise(seed)[12]) * 1017,
            "files": 4000 + run,
            "bytes": bytes,
            "duration_ms": 900 + u64::from(noise(seed)[13]),
            "trouble": null,
            "forgotten": 1,
        }],
        "bytes": bytes,
    })
}
