//! Destinations off the machine: S3, SFTP and REST beside a directory, with the servers that people run.

use std::path::Path;
use std::time::{Duration, Instant};

use larder::storage::{ControlClient, Place};
use serde_json::{Value, json};

use crate::site::{RUN_MAX, Site, text};
use crate::support::storages::{self, ACCESS_KEY, SECRET_KEY, Server};
use crate::support::wait_for;

const REST_PASSWORD: &str = "canary-password-of-the-server";

/// The servers of one site; each ends with it.
struct Servers {
    s3: Server,
    rest: Server,
    sshd: Server,
}

fn servers(rest_options: &[&str]) -> Option<Servers> {
    let login = format!("{ACCESS_KEY},{SECRET_KEY}");
    let s3 = storages::rclone("s3", &["--auth-key", &login], |files| {
        std::fs::create_dir(files.join("backups")).unwrap();
    })?;
    let mut options = vec!["--user", "larder", "--pass", REST_PASSWORD];
    options.extend(rest_options);
    let rest = storages::rclone("restic", &options, |_| {})?;
    Some(Servers { s3, rest, sshd: storages::sshd() })
}

fn rest_at(port: u16, root: &str) -> String {
    format!("type: rest, url: \"http://127.0.0.1:{port}/home\", user: larder, password: {{file: {root}/secrets/rest}}")
}

fn sftp_at(sshd: &Server, host_key: &str, root: &str) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    format!(
        "type: sftp, host: 127.0.0.1, port: {}, user: {user}, path: {}/restic, known_hosts: [\"{}\"], \
         key: {{file: {root}/secrets/key}}",
        sshd.port,
        sshd.files().display(),
        storages::public(&sshd.directory.path().join(host_key))
    )
}

/// A site whose one target ships to a directory, a bucket, a host and a server; `more` stands in the server's document.
fn site(servers: &Servers, more: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("secrets/rest", REST_PASSWORD);
    let key = std::fs::read_to_string(servers.sshd.directory.path().join("login")).unwrap();
    site.write("secrets/key", &key);
    let root = site.root().display().to_string();
    let documents = [
        site.destination("bucket", &site.s3_repository(servers.s3.port, "backups"), ""),
        site.destination("host", &sftp_at(&servers.sshd, "host", &root), ""),
        site.destination("server", &rest_at(servers.rest.port, &root), more),
    ];
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{}", documents.concat()));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, bucket, host, server]");
    site
}

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn trouble_of<'r>(run: &'r Value, destination: &str) -> &'r Value {
    let shipments = run["shipments"].as_array().unwrap();
    &shipments.iter().find(|each| each["destination"] == destination).unwrap()["trouble"]
}

/// The bucket as an attacker with its keys has it.
fn bucket_of(server: &Server) -> Box<dyn ControlClient> {
    let place = Place::S3(storages::s3_place(server.port, "backups", "home"));
    larder::storage::open(&place, Duration::from_secs(10)).unwrap()
}

/// Fails where a file below `place` holds one of `canaries`.
fn holds_none_of(place: &Path, canaries: &[&str]) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            holds_none_of(&entry.path(), canaries);
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            for canary in canaries {
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{} holds a secret", entry.path().display());
            }
        }
    }
}

#[test]
fn one_job_ships_to_every_kind_side_by_side_and_comes_back_from_each() {
    let Some(servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    site.start_and_push();
    let all = ["local", "bucket", "host", "server"];
    for round in 0..4 {
        site.write("data/a.txt", &format!("round {round}\n"));
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
        assert_eq!(run["shipments"].as_array().unwrap().len(), all.len(), "{run}");
    }
    for name in all {
        let shown = site.call("snapshot.list", json!({"destination": name})).unwrap();
        let count = shown["items"].as_array().unwrap().len();
        assert_eq!(count, 3, "retention keeps the last 3 in {name}: {shown}");
        let to = site.path(&format!("back-{name}"));
        let (code, shown) = said(&site, &["restore", "files", "--destination", name, "--to", to.to_str().unwrap()]);
        assert_eq!(code, 0, "{name}: {shown}");
        let back = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
        assert_eq!(std::fs::read_to_string(back).unwrap(), "round 3\n", "{name}");
        for verb in ["test", "check", "prune", "keys", "unlock"] {
            let (code, shown) = said(&site, &["destination", verb, name]);
            assert_eq!(code, 0, "{verb} {name}: {shown}");
            if verb == "keys" {
                assert!(shown.contains("the machine key of this Larder"), "{name}: {shown}");
            }
        }
    }
    let (code, shown) = said(&site, &["doctor"]);
    assert_eq!(code, 0, "{shown}");
    // What opens the storages is in the files that the operator made, and nowhere else.
    let key = std::fs::read_to_string(site.path("secrets/key")).unwrap();
    let middle = key.lines().nth(2).unwrap();
    let canaries = [SECRET_KEY, REST_PASSWORD, middle];
    for place in ["state", "backups", "larder.git", "config"] {
        holds_none_of(&site.path(place), &canaries);
    }
    let log = site.log();
    assert!(canaries.iter().all(|canary| !log.contains(canary)), "a secret is in the daemon's log");
    assert!(!log.contains(ACCESS_KEY), "the access key is in the daemon's log");
}

#[test]
fn a_test_says_in_lines_how_far_it_gets_and_what_to_type() {
    let Some(servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    let hole = storages::black_hole();
    let root = site.root().display().to_string();
    let broken = [
        site.destination("silent", &site.s3_repository(hole, "backups"), ""),
        site.destination("stranger", &sftp_at(&servers.sshd, "other-host", &root).replace("/restic,", "/other,"), ""),
        site.destination("closed", &rest_at(1, &root), ""),
        site.destination("elsewhere", &site.s3_repository(servers.s3.port, "nobodys"), ""),
        site.destination(
            "intruder",
            &rest_at(servers.rest.port, &root).replace("secrets/rest", "secrets/repository").replace("/home", "/other"),
            "",
        ),
    ];
    let written = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{written}{}", broken.concat()));
    site.start_and_push();
    // The revision that names one tests it; only who works is taken for one that works.
    let seen = |name: &str| {
        let all = site.call("destination.list", json!({})).unwrap();
        all["items"].as_array().unwrap().iter().find(|each| each["name"] == name).unwrap().clone()
    };
    for name in ["bucket", "silent", "stranger", "closed", "elsewhere", "intruder", "host", "server", "local"] {
        let first = wait_for(&format!("the first test of {name}"), Duration::from_secs(60), || {
            Some(seen(name)).filter(|each| each["tested"].is_string())
        });
        let works = ["bucket", "host", "server", "local"].contains(&name);
        assert_eq!(first["problem"].is_null(), works, "{first}");
        let is_told = works || first["problem"]["commands"].to_string().contains(&format!("destination test {name}"));
        assert!(is_told, "{first}");
    }
    let log = site.log();
    assert_eq!(log.matches("the first test failed").count(), 5, "{log}");
    let (code, shown) = said(&site, &["destination", "test", "bucket"]);
    assert!(code == 0 && shown.contains("no repository yet"), "{shown}");
    // Once: another revision tests only what lies elsewhere now.
    let before = seen("closed")["tested"].clone();
    site.edit("config/destinations.yaml", &rest_at(1, &root), &rest_at(1, &root).replace("/home", "/other"));
    site.edit("config/policies.yaml", "last: 3", "last: 4");
    assert!(site.push("elsewhere").status.success());
    wait_for("the test of the new place", Duration::from_secs(60), || {
        (seen("closed")["tested"] != before).then_some(())
    });
    assert_eq!(site.log().matches("the first test failed").count(), 6);
    assert_eq!(outcome(&site.run("files")), "success");
    for (name, word, why) in [
        ("silent", "reachable", "said nothing"),
        ("stranger", "reachable", "key"),
        ("closed", "reachable", "refuses"),
        ("elsewhere", "place", "nobodys"),
        ("intruder", "authorised", "login"),
    ] {
        let begun = Instant::now();
        let (code, shown) = said(&site, &["destination", "test", name]);
        let took = begun.elapsed();
        assert_eq!(code, 1, "{name}: {shown}");
        let failed = shown.lines().find(|line| line.contains("FAILED")).unwrap_or_else(|| panic!("{name}: {shown}"));
        assert!(failed.starts_with(word), "{name}: {shown}");
        assert!(shown.contains(why), "{name}: {shown}");
        assert!(took < Duration::from_secs(20), "{name} took {took:?}");
    }
    for name in ["local", "bucket", "host", "server"] {
        let (code, shown) = said(&site, &["destination", "test", name]);
        assert_eq!(code, 0, "{name}: {shown}");
        assert!(!shown.contains("FAILED") && shown.contains("deletable   ok"), "{name}: {shown}");
        assert!(shown.contains("answers"), "{name}: {shown}");
    }
}

#[test]
fn a_dead_destination_costs_a_run_its_own_shipment_only_and_is_served_again_when_it_is_back() {
    let Some(servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    let rest_port = servers.rest.port;
    drop(servers.rest);
    let run = site.run("files");
    assert_eq!(outcome(&run), "partial", "{run}");
    assert_eq!(trouble_of(&run, "server")["code"], "unreachable", "{run}");
    for name in ["local", "bucket", "host"] {
        assert_eq!(trouble_of(&run, name), &Value::Null, "{run}");
    }
    // A black hole in its place holds a run no longer than it takes to see that.
    let hole = std::net::TcpListener::bind(("127.0.0.1", rest_port)).unwrap();
    let begun = Instant::now();
    let run = site.run("files");
    assert_eq!(outcome(&run), "partial", "{run}");
    assert_eq!(trouble_of(&run, "server")["code"], "silent", "{run}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    drop(hole);
}

#[test]
fn a_bucket_whose_name_stands_in_the_host_is_reached_by_it() {
    let Some(server) = storages::moto() else { return };
    storages::http(server.port, "PUT", "/backups", &[], b"");
    let mut site = Site::new();
    // The server takes the bucket from the first part of the host, so `s3.lan` alone would be the bucket `s3`.
    site.daemon_hosts("127.0.0.1 backups.s3.lan");
    site.base_config("\"0 3 * * *\"");
    let repository = site.s3_repository(server.port, "backups").replace("127.0.0.1", "s3.lan") + ", style: virtual";
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let bucket = site.destination("bucket", &repository, "");
    site.write("config/destinations.yaml", &format!("{local}{bucket}"));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [bucket]");
    site.start_and_push();
    let run = site.run("files");
    assert_eq!(outcome(&run), "success", "{run}");
    for verb in ["test", "check", "keys", "unlock"] {
        let (code, shown) = said(&site, &["destination", verb, "bucket"]);
        assert_eq!(code, 0, "{verb}: {shown}");
    }
    let to = site.path("back");
    let (code, shown) = said(&site, &["restore", "files", "--to", to.to_str().unwrap()]);
    assert_eq!(code, 0, "{shown}");
    // Where it is: in that bucket, at that prefix, as who names the bucket in the path sees it.
    assert!(bucket_of(&server).stat("config").unwrap().is_some());
    let log = std::fs::read_to_string(server.directory.path().join("log")).unwrap();
    assert!(log.contains("/home/config") && !log.contains("/backups/home/data"), "{log}");
}

/// How the runs of `target` ended that were made for a destination that is back, newest first.
fn returned(site: &Site, target: &str) -> Vec<String> {
    let runs = site.runs(target);
    let made = runs.iter().filter(|run| run["trigger"] == "returned" && run["outcome"].is_string());
    made.map(|run| outcome(run).to_owned()).collect()
}

#[test]
fn the_jobs_that_a_dead_destination_lacks_are_run_once_when_it_is_back() {
    let Some(mut servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    site.targets(&["files", "more", "most", "other"]);
    site.start_and_push();
    servers.rest.kill();
    for (name, times) in [("files", 3), ("more", 1), ("other", 1)] {
        for _ in 0..times {
            let run = site.run(name);
            assert_eq!(trouble_of(&run, "server")["code"], "unreachable", "{run}");
        }
    }
    servers.rest.start_again();
    // One that ran since and shipped is not run again.
    let run = site.run("other");
    assert_eq!(outcome(&run), "success", "{run}");
    for name in ["files", "more"] {
        wait_for(&format!("the run of {name}"), RUN_MAX, || (returned(&site, name) == ["success"]).then_some(()));
    }
    let shipped = |name: &str| {
        let asked = json!({"destination": "server", "target": name});
        site.call("snapshot.list", asked).unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!((shipped("files"), shipped("more"), shipped("other")), (1, 1, 1));
    // Once, whatever the daemon looks at again at its next start, and not for who lacks nothing.
    site.stop();
    site.start();
    let _ = site.run("most");
    let runs = |name: &str| (site.runs(name).len(), returned(&site, name).len());
    assert_eq!([runs("files"), runs("more"), runs("most"), runs("other")], [(4, 1), (2, 1), (1, 0), (2, 0)]);
}

#[test]
fn who_is_away_is_asked_until_it_is_there_and_gets_one_job_before_the_others() {
    let Some(mut servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    site.targets(&["files", "more"]);
    // Nothing else is there: the runs wait, and none is captured meanwhile.
    site.edit("config/policies.yaml", "destinations: [local, bucket, host, server]", "destinations: [server]");
    site.start_and_push();
    servers.rest.kill();
    for name in ["files", "more"] {
        let run = site.run(name);
        assert_eq!(outcome(&run), "deferred", "{run}");
        assert_eq!(trouble_of(&run, "server")["code"], "unreachable", "{run}");
    }
    // It takes connections and nothing more.
    let hole = std::net::TcpListener::bind(("127.0.0.1", servers.rest.port)).unwrap();
    let heard = hole.accept();
    assert!(heard.is_ok());
    drop((heard, hole));
    servers.rest.start_again();
    for name in ["files", "more"] {
        wait_for(&format!("the success of {name}"), RUN_MAX, || {
            (site.job(name)["state"] == "ok" || site.runs(name).iter().any(|run| run["outcome"] == "success"))
                .then_some(())
        });
    }
    let away = site.call("destination.list", json!({})).unwrap();
    let server = away["items"].as_array().unwrap().iter().find(|each| each["name"] == "server").unwrap().clone();
    assert_eq!(server["problem"], Value::Null, "{server}");
}

#[test]
fn a_shipment_that_breaks_off_while_those_of_others_arrive_is_made_up_for_once() {
    let Some(rest) = storages::rclone("restic", &[], |_| {}) else { return };
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let url = format!("type: rest, url: \"http://127.0.0.1:{}/home\"", rest.port);
    let server = site.destination("server", &url, "");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{server}"));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, server]");
    site.targets(&["files", "more"]);
    let root = site.root().display().to_string();
    // The line breaks under the snapshot of `more`, as it does in the middle of an upload.
    let script = format!(
        "case \"$RESTIC_REPOSITORY $*\" in rest:*backup*more*)\n  if [ -e '{root}/halt' ]; then\n    \
         touch '{root}/halted'; while [ -e '{root}/halt' ]; do sleep 0.05; done\n    \
         echo 'Fatal: unable to save snapshot: Post: dial tcp 127.0.0.1:1: connect: connection refused' >&2\n    \
         exit 1\n  fi ;;\nesac\nexec '{}' \"$@\"\n",
        crate::support::restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script);
    site.serve_with(&["--restic", wrapper.to_str().unwrap()]);
    site.start_and_push();
    for name in ["files", "more"] {
        assert_eq!(outcome(&site.run(name)), "success");
    }
    site.write("halt", "");
    let started = site.call("run.start", json!({"target": "more"})).unwrap();
    wait_for("the upload of more", RUN_MAX, || site.path("halted").exists().then_some(()));
    assert_eq!(outcome(&site.run("files")), "success");
    std::fs::remove_file(site.path("halt")).unwrap();
    let run = site.finished(started["runs"][0].as_str().unwrap());
    assert_eq!(trouble_of(&run, "server")["code"], "unreachable", "{run}");
    wait_for("the run of more", RUN_MAX, || (returned(&site, "more") == ["success"]).then_some(()));
    assert_eq!(returned(&site, "files"), [""; 0]);
}

/// Nobody but the daemon keeps two from making a repository where no directory has room for a mark.
#[test]
fn the_first_runs_of_a_night_make_one_repository_and_one_machine_key_wherever_it_is() {
    let Some(servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    let names = ["t0", "t1", "t2", "t3"];
    site.targets(&names);
    site.start_and_push();
    let start = |name: &&str| {
        let answer = site.call("run.start", json!({"target": name})).unwrap();
        answer["runs"][0].as_str().unwrap().to_owned()
    };
    for run in names.iter().map(start).collect::<Vec<String>>() {
        let record = site.finished(&run);
        assert_eq!(outcome(&record), "success", "{record}");
    }
    for name in ["local", "bucket", "host", "server"] {
        let shown = site.call("snapshot.list", json!({"destination": name})).unwrap();
        assert_eq!(shown["items"].as_array().unwrap().len(), names.len(), "{name}: {shown}");
        let (code, shown) = said(&site, &["destination", "keys", name]);
        let keys = shown.lines().filter(|line| line.contains("machine key of this Larder")).count();
        assert!(code == 0 && keys == 1, "{name}: {shown}");
        let (code, shown) = said(&site, &["destination", "check", name]);
        assert_eq!(code, 0, "{name}: {shown}");
    }
}

#[test]
fn an_append_only_server_is_only_appended_to_and_one_that_deletes_all_the_same_is_told() {
    let Some(servers) = servers(&["--append-only"]) else { return };
    let mut site = site(&servers, "append_only: true\n");
    site.start_and_push();
    for _ in 0..4 {
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
    }
    let count = |name: &str| {
        site.call("snapshot.list", json!({"destination": name})).unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!((count("bucket"), count("server")), (3, 4));
    let (code, shown) = said(&site, &["destination", "test", "server"]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = said(&site, &["destination", "prune", "server"]);
    assert!(code == 1 && shown.contains("append-only"), "{shown}");
    // Declared wrongly, in both directions.
    site.edit("config/destinations.yaml", "append_only: true\n", "");
    let bucket = site.destination("bucket", &site.s3_repository(servers.s3.port, "backups"), "");
    site.edit("config/destinations.yaml", &bucket, &format!("{bucket}append_only: true\n"));
    assert!(site.push("the other way round").status.success());
    let (code, shown) = said(&site, &["destination", "test", "server"]);
    assert!(code == 1 && shown.contains("refuses to delete") && shown.contains("append_only: true"), "{shown}");
    site.edit("config/destinations.yaml", "name: local\n", "name: local\nappend_only: true\n");
    assert!(site.push("a directory, too").status.success());
    for name in ["bucket", "local"] {
        let (code, shown) = said(&site, &["destination", "test", name]);
        assert!(code == 1 && shown.contains("lets us delete"), "{name}: {shown}");
    }
}

#[test]
fn a_repository_that_is_pinned_in_git_is_never_made_anew_nor_taken_for_another() {
    let Some(servers) = servers(&[]) else { return };
    let mut site = site(&servers, "");
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    let (code, shown) = said(&site, &["destination", "pin", "bucket"]);
    assert_eq!(code, 0, "{shown}");
    let line = shown.lines().find(|line| line.starts_with("repository_id: ")).unwrap().to_owned();
    let bucket = site.destination("bucket", &site.s3_repository(servers.s3.port, "backups"), "");
    let notices = || {
        let all = site.call("destination.list", json!({})).unwrap();
        all["items"].as_array().unwrap().iter().find(|each| each["name"] == "bucket").unwrap()["notices"].clone()
    };
    // The page asks for it.
    assert!(notices().to_string().contains(&line.replace('"', "\\\"")), "{}", notices());
    // One that is mistyped is told before it matters, with both.
    let wrong = format!("repository_id: \"{}\"", "ab".repeat(32));
    site.edit("config/destinations.yaml", &bucket, &format!("{bucket}{wrong}\n"));
    assert!(site.push("pin it wrongly").status.success());
    for args in [["destination", "test", "bucket"], ["destination", "pin", "bucket"]] {
        let (code, shown) = said(&site, &args);
        let id = line.split('"').nth(1).unwrap();
        assert!(code == 1 && shown.contains("abababab") && shown.contains(id), "{args:?}: {shown}");
    }
    site.edit("config/destinations.yaml", &wrong, &line);
    assert!(site.push("pin the bucket").status.success());
    assert_eq!(notices(), json!([]));
    assert_eq!(outcome(&site.run("files")), "success");
    // The bucket is emptied and the state lost: nothing is made in its place.
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    let bucket = bucket_of(&servers.s3);
    for directory in ["keys", "snapshots"] {
        for each in bucket.list(directory).unwrap() {
            bucket.delete(&format!("{directory}/{}", each.name)).unwrap();
        }
    }
    bucket.delete("config").unwrap();
    site.start();
    assert!(site.git(&["commit", "-q", "--allow-empty", "-m", "again"]).status.success());
    assert!(site.push("again").status.success());
    let run = site.run("files");
    assert_eq!(trouble_of(&run, "bucket")["code"], "repository_missing", "{run}");
    assert_eq!(bucket.stat("config").unwrap(), None);
    // Another repository in its place is told by both ids.
    let other = std::process::Command::new(crate::support::restic())
        .args(["-r", &format!("s3:http://127.0.0.1:{}/backups/home", servers.s3.port), "init"])
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .unwrap();
    assert!(other.status.success(), "{}", text(&other));
    let run = site.run("files");
    assert_eq!(trouble_of(&run, "bucket")["code"], "repository_replaced", "{run}");
}

#[test]
fn servers_are_known_by_what_is_pinned_and_a_password_for_ssh_is_told_by_larder_itself() {
    let certificates = tempfile::tempdir().unwrap();
    crate::alert::server::certificates(certificates.path());
    let at = |name: &str| certificates.path().join(name).to_str().unwrap().to_owned();
    let login = ["--user", "larder", "--pass", REST_PASSWORD];
    let (certificate, key, host) = (at("good.crt"), at("good.key"), at("host"));
    let tls = [&login[..], &["--cert", &certificate, "--key", &key]].concat();
    let Some(rest) = storages::rclone("restic", &tls, |_| {}) else { return };
    storages::key(&certificates.path().join("host"));
    let host_key = [&login[..], &["--key", &host]].concat();
    let Some(sftp) = storages::rclone("sftp", &host_key, |files| std::fs::create_dir(files.join("home")).unwrap())
    else {
        return;
    };
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("secrets/rest", REST_PASSWORD);
    let root = site.root().display().to_string();
    let shown = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &certificate])
        .output()
        .unwrap();
    let fingerprint = text(&shown).trim().split_once('=').unwrap().1.to_owned();
    let rest_with = |path: &str, tls: &str| {
        rest_at(rest.port, &root).replace("http://127.0.0.1", "https://localhost").replace("/home", path)
            + ", tls: {"
            + tls
            + "}"
    };
    let by_password = format!(
        "type: sftp, host: 127.0.0.1, port: {}, user: larder, path: /home, known_hosts: [\"{}\"], \
         password: {{file: {root}/secrets/rest}}",
        sftp.port,
        storages::public(&certificates.path().join("host"))
    );
    let documents = [
        site.destination("authority", &rest_with("/a", &format!("ca: {}", at("ca.pem"))), ""),
        site.destination("pinned", &rest_with("/b", &format!("fingerprint: \"{fingerprint}\"")), ""),
        site.destination("ssh", &by_password, ""),
        site.destination("impostor", &rest_with("/c", &format!("fingerprint: \"{}\"", "AB".repeat(32))), ""),
    ];
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{}", documents.concat()));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [authority, pinned, ssh]");
    site.start_and_push();
    for _ in 0..2 {
        let run = site.run("files");
        assert_eq!(outcome(&run), "success", "{run}");
    }
    for name in ["authority", "pinned", "ssh"] {
        let (code, shown) = said(&site, &["destination", "check", name]);
        assert_eq!(code, 0, "{name}: {shown}");
        let to = site.path(&format!("back-{name}"));
        let (code, shown) = said(&site, &["restore", "files", "--destination", name, "--to", to.to_str().unwrap()]);
        assert_eq!(code, 0, "{name}: {shown}");
    }
    let (code, shown) = said(&site, &["destination", "test", "impostor"]);
    assert!(code == 1 && shown.contains("another certificate"), "{shown}");
    holds_none_of(&site.path("state"), &[REST_PASSWORD]);
}

#[test]
fn what_a_server_repeats_of_its_login_is_seen_nowhere_and_a_refusal_is_a_failure_at_once() {
    use std::io::Write as _;
    let port = storages::toxic(|_, stream| {
        let body = format!(
            "<Error><Code>AccessDenied</Code><Message>No such key: {ACCESS_KEY}, nor {SECRET_KEY}</Message></Error>"
        );
        let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    });
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let echo = site.destination("echo", &site.s3_repository(port, "backups"), "");
    site.write("config/destinations.yaml", &format!("{local}{echo}"));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [echo]");
    site.start_and_push();
    let run = site.run("files");
    assert_eq!(outcome(&run), "failed", "not deferred: it does not get better by itself: {run}");
    let (code, shown) = said(&site, &["destination", "test", "echo"]);
    assert!(code == 1 && shown.contains("No such key"), "{shown}");
    let page = site.get("/");
    let seen = [run.to_string(), shown, page, site.get("/status.json"), site.log()];
    for canary in [ACCESS_KEY, SECRET_KEY] {
        assert!(seen.iter().all(|text| !text.contains(canary)), "{canary} is seen");
    }
    for place in ["state", "backups"] {
        holds_none_of(&site.path(place), &[ACCESS_KEY, SECRET_KEY]);
    }
}
