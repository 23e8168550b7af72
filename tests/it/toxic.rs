//! A run to a bucket and to a server of REST through a network that spoils it: what reached them is never called more than
//! it is, the other destination is served, and the next run behind it makes all good.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::site::{Site, text};
use crate::support::disk::SmallDisk;
use crate::support::storages::{self, ACCESS_KEY, SECRET_KEY, Server};
use crate::support::wait_for;

/// What a run may take at most, so that the tries of restic end.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Behind that: to end the children, to publish, to finish.
const SLACK: Duration = Duration::from_secs(30);
/// What is let through of a pack before the line is cut, in bytes.
const CUT_AFTER: usize = 300_000;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poison {
    None,
    /// Every request is answered so.
    Status(u16, &'static str),
    /// Packs are answered so, all else passes.
    Packs(u16, &'static str),
    /// The line breaks in the middle of a pack.
    Cut,
    /// A byte a second comes back.
    Drip,
    /// Nothing comes back.
    Hole,
}

struct Proxy {
    port: u16,
    poison: Arc<Mutex<Poison>>,
    over: Arc<AtomicBool>,
}

impl Proxy {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (poison, over) = (Arc::new(Mutex::new(Poison::None)), Arc::new(AtomicBool::new(false)));
        let (of, is_over) = (poison.clone(), over.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (of, is_over) = (of.clone(), is_over.clone());
                std::thread::spawn(move || serve(client, server, &of, &is_over));
            }
        });
        Self { port, poison, over }
    }

    fn set(&self, poison: Poison) {
        *self.poison.lock().unwrap() = poison;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut client: TcpStream, server: u16, poison: &Arc<Mutex<Poison>>, over: &Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (of, is_over) = (poison.clone(), over.clone());
    let answering = std::thread::spawn(move || {
        let mut chunk = [0; 16_384];
        while let Ok(length @ 1..) = answers.read(&mut chunk) {
            let now = *of.lock().unwrap();
            let sent = match now {
                Poison::Drip => chunk[..length].iter().try_for_each(|byte| {
                    std::thread::sleep(Duration::from_secs(1));
                    if is_over.load(Ordering::Relaxed) || *of.lock().unwrap() != Poison::Drip {
                        return Err(std::io::ErrorKind::BrokenPipe.into());
                    }
                    back.write_all(&[*byte])
                }),
                Poison::Hole => Ok(()),
                _ => back.write_all(&chunk[..length]),
            };
            if sent.is_err() {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let (mut chunk, mut of_pack, mut in_pack) = ([0; 16_384], 0, false);
    while let Ok(length @ 1..) = client.read(&mut chunk) {
        let asked = &chunk[..length];
        if [&b"PUT "[..], b"POST ", b"GET ", b"HEAD ", b"DELETE "].iter().any(|verb| asked.starts_with(verb)) {
            let line = String::from_utf8_lossy(&asked[..asked.len().min(200)]).into_owned();
            in_pack = (line.starts_with("PUT ") || line.starts_with("POST ")) && line.contains("/data/");
            of_pack = 0;
        }
        let answer = match *poison.lock().unwrap() {
            Poison::Status(status, code) => Some((status, code)),
            Poison::Packs(status, code) if in_pack => Some((status, code)),
            Poison::Cut if in_pack => {
                of_pack += length;
                if of_pack > CUT_AFTER {
                    break;
                }
                None
            }
            _ => None,
        };
        if let Some((status, code)) = answer {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
            let head =
                format!("HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {}", body.len());
            let _ = client.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes());
            // Who still sends reads no answer when the line is cut under it.
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.set_read_timeout(Some(Duration::from_secs(2)));
            while matches!(client.read(&mut chunk), Ok(1..)) {}
            break;
        }
        if server.write_all(asked).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = answering.join();
}

fn servers() -> Option<(Server, Server)> {
    let login = format!("{ACCESS_KEY},{SECRET_KEY}");
    let s3 = storages::rclone("s3", &["--auth-key", &login], |files| {
        std::fs::create_dir(files.join("backups")).unwrap();
    })?;
    Some((s3, storages::rclone("restic", &[], |_| {})?))
}

fn site(bucket: u16, server: u16) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let documents = [
        site.destination("bucket", &site.s3_repository(bucket, "backups"), ""),
        site.destination("server", &format!("type: rest, url: \"http://127.0.0.1:{server}/home\""), ""),
    ];
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{}", documents.concat()));
    let destinations = format!("destinations: [local, bucket, server]\ntimeout: {}s", TIMEOUT.as_secs());
    site.edit("config/policies.yaml", "destinations: [local]", &destinations);
    site
}

fn shipment<'r>(run: &'r Value, destination: &str) -> &'r Value {
    run["shipments"].as_array().unwrap().iter().find(|each| each["destination"] == destination).unwrap()
}

/// Some megabytes that are in no pack yet.
fn fill(site: &Site, round: u64) {
    let mut state = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let bytes: Vec<u8> = (0..3_000_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    std::fs::write(site.path("data/large.bin"), bytes).unwrap();
}

#[test]
fn a_network_that_spoils_a_run_spoils_its_own_shipment_only_and_the_next_run_is_whole() {
    let Some((s3, rest)) = servers() else { return };
    let (bucket, server) = (Proxy::before(s3.port), Proxy::before(rest.port));
    let mut site = site(bucket.port, server.port);
    site.start_and_push();
    fill(&site, 0);
    assert_eq!(site.run("files")["outcome"], "success");
    let poisons = [
        (Poison::Status(503, "SlowDown"), ["storage_busy", "storage_busy"]),
        (Poison::Status(403, "AccessDenied"), ["storage_denied", "storage_denied"]),
        (Poison::Status(403, "RequestTimeTooSkewed"), ["clock_skewed", "storage_denied"]),
        (Poison::Packs(503, "SlowDown"), ["storage_busy", "storage_busy"]),
        (Poison::Packs(403, "AccessDenied"), ["unauthorized", "unauthorized"]),
        (Poison::Cut, ["unreachable", "unreachable"]),
        (Poison::Drip, ["silent", "silent"]),
        (Poison::Hole, ["silent", "silent"]),
    ];
    for (round, (poison, codes)) in (1..).zip(poisons) {
        fill(&site, round);
        bucket.set(poison);
        server.set(poison);
        let begun = Instant::now();
        let run = site.run("files");
        let took = begun.elapsed();
        assert!(took < TIMEOUT + SLACK, "{poison:?}: {took:?}");
        assert_eq!(shipment(&run, "local")["outcome"], "success", "{poison:?}: {run}");
        for (name, code) in ["bucket", "server"].into_iter().zip(codes) {
            let spoiled = shipment(&run, name);
            println!("{poison:?} {name}: {} after {took:?}", spoiled["trouble"]);
            assert!(spoiled["snapshot"].is_null() && spoiled["outcome"] != "success", "{poison:?}: {spoiled}");
            assert_eq!(spoiled["trouble"]["code"], code, "{poison:?} {name}: {spoiled}");
        }
        bucket.set(Poison::None);
        server.set(Poison::None);
    }
    fill(&site, 99);
    let run = site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
    for name in ["bucket", "server"] {
        let done = site.command().args(["destination", "check", name]).output().unwrap();
        assert!(done.status.success(), "{name}: {}", text(&done));
        let to = site.path(&format!("back-{name}"));
        let done = site.command().args(["restore", "files", "--destination", name, "--to"]).arg(&to).output().unwrap();
        assert!(done.status.success(), "{name}: {}", text(&done));
        let large = site.path("data/large.bin");
        let back = to.join(large.strip_prefix("/").unwrap());
        assert!(std::fs::read(back).unwrap() == std::fs::read(large).unwrap(), "{name} gave back something else");
    }
}

#[test]
fn a_storage_whose_disk_is_full_is_told_as_such_and_takes_the_next_run_when_there_is_room() {
    let login = format!("{ACCESS_KEY},{SECRET_KEY}");
    let mut disks = Vec::new();
    let mut mounted = |files: &std::path::Path| disks.extend(SmallDisk::try_mount(files, "8m"));
    let Some(s3) = storages::rclone("s3", &["--auth-key", &login], |files| {
        mounted(files);
        std::fs::create_dir(files.join("backups")).unwrap();
    }) else {
        return;
    };
    let Some(rest) = storages::rclone("restic", &[], |files| mounted(files)) else { return };
    assert_eq!(disks.len(), 2, "mounting a small tmpfs needs root");
    let mut site = site(s3.port, rest.port);
    site.start_and_push();
    fill(&site, 0);
    assert_eq!(site.run("files")["outcome"], "success");
    let fillers = [s3.files().join("filler"), rest.files().join("filler")];
    for filler in &fillers {
        let mut file = std::fs::File::create(filler).unwrap();
        while file.write_all(&[7; 16_384]).is_ok() {}
    }
    fill(&site, 1);
    let run = site.run("files");
    assert_eq!(shipment(&run, "local")["outcome"], "success", "{run}");
    for name in ["bucket", "server"] {
        let spoiled = shipment(&run, name);
        println!("{name}: {}", spoiled["trouble"]);
        assert!(spoiled["snapshot"].is_null(), "{spoiled}");
        assert_ne!(spoiled["trouble"]["code"], "deadline_exceeded", "{spoiled}");
    }
    for filler in &fillers {
        std::fs::remove_file(filler).unwrap();
    }
    let run = site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
    for name in ["bucket", "server"] {
        let done = site.command().args(["destination", "check", name]).output().unwrap();
        assert!(done.status.success(), "{name}: {}", text(&done));
    }
    drop((site, s3, rest));
}

#[test]
fn a_storage_that_answers_again_and_takes_nothing_costs_one_run_and_no_other_until_it_takes_that() {
    let Some((s3, mut rest)) = servers() else { return };
    let (bucket, server) = (Proxy::before(s3.port), Proxy::before(rest.port));
    let mut site = site(bucket.port, server.port);
    site.targets(&["files", "more"]);
    site.start_and_push();
    fill(&site, 0);
    for name in ["files", "more"] {
        assert_eq!(site.run(name)["outcome"], "success");
    }
    rest.kill();
    for name in ["files", "more"] {
        let run = site.run(name);
        assert!(shipment(&run, "server")["snapshot"].is_null(), "{run}");
    }
    fill(&site, 1);
    server.set(Poison::Packs(503, "SlowDown"));
    rest.start_again();
    let returned = |name: &str| {
        let runs = site.runs(name);
        runs.into_iter().filter(|run| run["trigger"] == "returned").collect::<Vec<_>>()
    };
    let outcomes =
        || ["files", "more"].map(|name| returned(name).iter().filter(|run| run["outcome"].is_string()).count());
    wait_for("the first one to end", TIMEOUT * 4, || (outcomes().iter().sum::<usize>() > 0).then_some(()));
    // Longer than between two questions to who is away and says nothing.
    std::thread::sleep(Duration::from_secs(12));
    let made: Vec<Value> = ["files", "more"].into_iter().flat_map(returned).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(shipment(&made[0], "server")["trouble"]["code"], "storage_busy", "{made:?}");
    server.set(Poison::None);
    // The other one has its turn; what was tried in vain is tried again at its own time.
    wait_for("the run of more", TIMEOUT * 4, || {
        returned("more").iter().any(|run| run["outcome"] == "success").then_some(())
    });
    assert_eq!(returned("files").len(), 1);
    let run = site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
}
