//! Somebody with all our keys empties a bucket that keeps versions, and it is brought back: by moto and the real restic.

use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use larder::storage::s3::{RewindAct, Version};
use larder::storage::{ControlClient as _, S3};
use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::storages::{self, ACCESS_KEY, SECRET_KEY, Server};
use crate::support::{restic, wait_for};

/// What the bucket does with what is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Plain,
    Versions,
    /// With a default retention that nobody can lift.
    Locked,
}

/// A site whose one destination `vault` is a bucket.
struct Stand {
    server: Server,
    site: Site,
}

fn bucket(server: &Server, kind: Bucket) {
    let locks: &[&str] = if kind == Bucket::Locked { &["x-amz-bucket-object-lock-enabled: true"] } else { &[] };
    storages::http(server.port, "PUT", "/vault", locks, b"");
    let (query, body) = match kind {
        Bucket::Plain => return,
        Bucket::Versions => {
            ("versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        }
        Bucket::Locked => (
            "object-lock",
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        ),
    };
    let answer = storages::http(server.port, "PUT", &format!("/vault?{query}"), &[], body.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

impl Stand {
    fn new(kind: Bucket) -> Option<Self> {
        let server = storages::moto()?;
        bucket(&server, kind);
        let mut site = Site::new();
        site.base_config("\"0 3 * * *\"");
        let vault = site.destination("vault", &site.s3_repository(server.port, "vault"), "");
        let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
        site.write("config/destinations.yaml", &format!("{local}{vault}"));
        site.edit("config/policies.yaml", "destinations: [local]", "destinations: [vault]");
        site.edit("config/policies.yaml", "last: 3", "last: 9");
        site.start_and_push();
        Some(Self { server, site })
    }

    fn ship(&self, runs: usize) {
        for round in 0..runs {
            self.site.write("data/a.txt", &format!("round {round}\n"));
            let run = self.site.run("files");
            assert_eq!(run["outcome"], "success", "{run}");
        }
    }

    fn client(&self) -> S3 {
        let place = storages::s3_place(self.server.port, "vault", "home");
        S3::open(&place, Duration::from_secs(20)).unwrap()
    }

    /// The real restic on the bucket, with all that opens it.
    fn restic(&self, args: &[&str]) -> (bool, String) {
        let done = Command::new(restic())
            .args(["-r", &format!("s3:http://127.0.0.1:{}/vault/home", self.server.port), "--no-cache"])
            .args(args)
            .env("RESTIC_PASSWORD_FILE", self.site.path("secrets/repository"))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .output()
            .unwrap();
        (done.status.success(), text(&done))
    }

    fn snapshots(&self) -> Vec<String> {
        let (ok, shown) = self.restic(&["snapshots", "--json", "--quiet"]);
        assert!(ok, "{shown}");
        let all: Value = serde_json::from_str(shown.lines().find(|line| line.starts_with('[')).unwrap()).unwrap();
        all.as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
    }

    /// As somebody who found all our keys; answers with the time before.
    fn attack(&self) -> Timestamp {
        let before = now();
        let ids = self.snapshots();
        let mut args = vec!["forget", "--prune"];
        args.extend(ids.iter().map(String::as_str));
        let (ok, shown) = self.restic(&args);
        assert!(ok, "{shown}");
        let client = self.client();
        for key in client.list("keys").unwrap() {
            client.delete(&format!("keys/{}", key.name)).unwrap();
        }
        client.delete("config").unwrap();
        assert!(client.list("snapshots").unwrap().is_empty());
        before
    }

    /// What no client of ours would do; moto asks for a signature and looks at none.
    fn hostile(&self, method: &str, name: &str, body: &[u8]) {
        let login = "authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=0";
        let answer = storages::http(self.server.port, method, &format!("/vault/home/{name}"), &[login], body);
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {name}: {answer}");
    }

    fn rewind(&self, name: &str, to: Timestamp, more: &[&str]) -> (i32, String) {
        let to = to.to_string();
        let done = self.site.command().args(["destination", "rewind", name, "--to", &to]).args(more).output().unwrap();
        (done.status.code().unwrap(), text(&done))
    }

    /// Everything that the repository's part of the bucket has and had.
    fn versions(&self) -> Vec<Version> {
        let client = self.client();
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = client.versions("", after.as_ref()).unwrap();
            all.extend(page.versions);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn is_whole(&self, snapshots: usize) {
        let (ok, shown) = self.restic(&["check", "--read-data"]);
        assert!(ok && shown.contains("no errors were found"), "{shown}");
        assert_eq!(self.snapshots().len(), snapshots);
    }

    /// Restores the newest, which must be what is in `data`.
    fn comes_back(&self) {
        let to = self.site.path("back");
        let done = self.site.command().args(["restore", "files", "--to"]).arg(&to).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        for file in ["data/a.txt", "data/sub/b.txt"] {
            let back = to.join(self.site.path(file).strip_prefix("/").unwrap());
            assert_eq!(std::fs::read(back).unwrap(), std::fs::read(self.site.path(file)).unwrap(), "{file}");
        }
    }
}

/// An instant that everything so far is before, and everything from now on behind: a bucket tells whole seconds.
fn now() -> Timestamp {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    wait_for("the next second", Duration::from_secs(2), || {
        (Timestamp::now().as_second() > now.as_second()).then_some(())
    });
    now
}

/// Those of `before` that hold data and are gone.
fn taken_away(before: &[Version], after: &[Version]) -> Vec<String> {
    let is_there = |version: &Version| after.iter().any(|each| each.name == version.name && each.id == version.id);
    let data = before.iter().filter(|version| !version.is_delete_marker && !version.name.starts_with("locks/"));
    data.filter(|version| !is_there(version)).map(|version| version.name.clone()).collect()
}

fn everything_is_undone(kind: Bucket) {
    let Some(stand) = Stand::new(kind) else { return };
    stand.ship(5);
    let first = stand.client().versions("config", None).unwrap().versions;
    let before = stand.attack();
    let done = stand.site.command().args(["destination", "test", "vault"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    let run = stand.site.run("files");
    assert_ne!(run["outcome"], "success", "{run}");

    let there = stand.versions();
    let (code, shown) = stand.rewind("vault", before, &[]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("config     1 deleted") && shown.contains("snapshots  5 deleted"), "{shown}");
    assert!(shown.contains(&format!("larder destination rewind vault --to {before} --yes")), "{shown}");
    assert_eq!(stand.versions(), there, "a dry run changes nothing");
    let asked = json!({"destination": "vault", "to": before});
    let status = stand.site.operation(&stand.site.call("destination.rewind", asked).unwrap());
    assert!(status["trouble"].is_null() && status["title"] == "rewind vault (dry run)", "{status}");
    assert_eq!(stand.versions(), there, "nor does a call that does not say what it wants");

    let (code, shown) = stand.rewind("vault", before, &["--yes"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("files are back") && shown.contains("no errors were found"), "{shown}");
    assert!(shown.contains("5 snapshots, 5 of them of this site, and none is missing"), "{shown}");
    assert_eq!(taken_away(&there, &stand.versions()), [""; 0]);
    stand.is_whole(5);
    stand.comes_back();
    let run = stand.site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
    assert_eq!(stand.client().versions("config", None).unwrap().versions, first, "it is the same repository");
    let (code, shown) = stand.rewind("vault", before, &["--yes"]);
    assert!(code == 0 && shown.contains("nothing that was in vault at"), "{shown}");
    let log = stand.site.log();
    assert!(!log.contains(SECRET_KEY) && !log.contains("X-Amz-Signature"), "a secret is in the log");
}

#[test]
fn what_somebody_with_all_keys_deleted_comes_back_from_a_bucket_with_versions() {
    everything_is_undone(Bucket::Versions);
}

#[test]
fn what_somebody_with_all_keys_deleted_comes_back_from_a_bucket_that_locks_what_is_put() {
    everything_is_undone(Bucket::Locked);
}

#[test]
fn what_was_overwritten_comes_back_as_a_new_version_and_what_came_later_stays() {
    let Some(stand) = Stand::new(Bucket::Versions) else { return };
    stand.ship(2);
    let before = now();
    let pack = stand.versions().into_iter().find(|each| each.name.starts_with("data/")).unwrap();
    let hostile = |method: &str, name: &str, body: &[u8]| stand.hostile(method, name, body);
    let garbage = vec![b'x'; usize::try_from(pack.bytes).unwrap()];
    hostile("PUT", &pack.name, &garbage);
    hostile("PUT", "config", b"garbage");
    hostile("DELETE", "config", b"");
    // What nobody gave such a name is nobody's business here; a key is told.
    hostile("PUT", "data/a%01%26%3C", b"x");
    let key = format!("keys/{}", "ab".repeat(32));
    hostile("PUT", &key, b"{}");
    let there = stand.versions();
    let (code, shown) = stand.rewind("vault", before, &[]);
    assert!(code == 0 && shown.contains("data       0 deleted, 1 overwritten"), "{shown}");
    assert!(shown.contains("config     0 deleted, 1 overwritten"), "{shown}");
    assert!(shown.contains("came later, and stays: keys 1") && shown.contains("notice: a key"), "{shown}");
    hostile("DELETE", &key, b"");
    let (code, shown) = stand.rewind("vault", before, &["--yes"]);
    assert!(code == 0 && shown.contains("2 of 2 files are back"), "{shown}");
    assert!(shown.contains("1 file that is gone came later"), "{shown}");
    assert_eq!(taken_away(&there, &stand.versions()), [""; 0]);
    let (code, shown) = stand.rewind("vault", before, &[]);
    assert!(code == 0 && shown.contains("nothing that was in vault at"), "{shown}");
    stand.is_whole(2);
    stand.comes_back();
}

#[test]
fn what_cannot_be_rewound_is_refused_with_what_it_needs() {
    let Some(stand) = Stand::new(Bucket::Plain) else { return };
    let early = now();
    stand.ship(1);
    let (code, shown) = stand.rewind("vault", early, &["--yes"]);
    assert!(code == 1 && shown.contains("keeps no versions") && shown.contains("put-bucket-versioning"), "{shown}");
    let (code, shown) = stand.rewind("local", early, &[]);
    assert!(code != 0 && shown.contains("of the kind local"), "{shown}");
    let (code, shown) = stand.rewind("nobody", early, &[]);
    assert!(code != 0 && shown.contains("there is no destination nobody"), "{shown}");
    let ahead = Timestamp::now() + Duration::from_secs(3600);
    let (code, shown) = stand.rewind("vault", ahead, &[]);
    assert!(code != 0 && shown.contains("is ahead"), "{shown}");
    for (args, why) in [
        (&["destination", "rewind", "vault"][..], "needs --to"),
        (&["destination", "test", "vault", "--yes"], "go with it only"),
        (&["destination", "prune", "vault", "--to", "2026-01-31T13:45:00Z"], "go with it only"),
        (&["destination", "rewind", "vault", "--to", "yesterday"], "it is no time"),
    ] {
        let done = stand.site.command().args(args).output().unwrap();
        assert!(!done.status.success() && text(&done).contains(why), "{}", text(&done));
    }
    // Kept from now on; there was nothing before.
    let port = stand.server.port;
    let set = |status: &str| {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        storages::http(port, "PUT", "/vault?versioning", &[], body.as_bytes());
    };
    set("Enabled");
    let (code, shown) = stand.rewind("vault", early, &["--yes"]);
    assert!(code == 0 && shown.contains("nothing of a repository was in vault"), "{shown}");
    assert!(!shown.contains("no errors were found"), "{shown}");
    // As a person reads it off a list of this machine; from before versions were kept, a file comes back, too.
    stand.client().delete("config").unwrap();
    let (code, shown) = stand.rewind("vault", now(), &[]);
    assert!(code == 0 && shown.contains("nothing that was in vault"), "{shown}");
    let config = stand.client().versions("config", None).unwrap().versions;
    assert!(config.iter().any(|each| each.id == "null"), "{config:?}");
    set("Suspended");
    let (code, shown) = stand.rewind("vault", now(), &["--yes"]);
    assert!(code == 1 && shown.contains("somebody suspended that"), "{shown}");
}

/// Puts packs that no index names, and deletes them; answers with the time before the deletion.
fn many_are_lost(stand: &Stand, count: usize) -> Timestamp {
    let name = |n: usize| format!("data/00/00{n:062x}");
    (0..count).for_each(|n| stand.hostile("PUT", &name(n), b"a pack"));
    let before = now();
    (0..count).for_each(|n| stand.hostile("DELETE", &name(n), b""));
    before
}

#[test]
fn one_that_is_stopped_behind_a_batch_leaves_config_for_last_and_goes_on_where_it_was() {
    let Some(stand) = Stand::new(Bucket::Versions) else { return };
    stand.ship(1);
    let before = many_are_lost(&stand, 1_100);
    stand.attack();
    let client = stand.client();
    let mut stop = |found: &larder::storage::s3::Rewound| {
        if found.sum(|tally| tally.back) > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let cut = client.rewind(before, RewindAct::BringBack, &mut stop).unwrap();
    let back = cut.sum(|tally| tally.back);
    assert!(cut.is_stopped && (1_000..1_100).contains(&back), "{cut:?}");
    assert_eq!(client.stat("config").unwrap(), None);
    let mut go = |_: &larder::storage::s3::Rewound| ControlFlow::Continue(());
    let rest = client.rewind(before, RewindAct::Look, &mut go).unwrap();
    assert!(rest.sum(|tally| tally.unchanged) == back && rest.sum(larder::storage::s3::Tally::lost) > 100, "{rest:?}");
    let (code, shown) = stand.rewind("vault", before, &["--yes"]);
    assert!(code == 0 && shown.contains("no errors were found"), "{shown}");
    stand.is_whole(1);
}

#[test]
fn one_whose_daemon_is_killed_on_the_way_is_typed_again() {
    let Some(mut stand) = Stand::new(Bucket::Versions) else { return };
    stand.ship(2);
    let before = many_are_lost(&stand, 300);
    stand.attack();
    let asked = json!({"destination": "vault", "to": before, "dry_run": false});
    stand.site.call("destination.rewind", asked).unwrap();
    let client = stand.client();
    let first = format!("data/{:064x}", 0);
    wait_for("the first file to come back", Duration::from_secs(60), || client.stat(&first).unwrap());
    stand.site.kill();
    stand.site.start();
    let (code, shown) = stand.rewind("vault", before, &["--yes"]);
    assert!(code == 0 && shown.contains("no errors were found"), "{shown}");
    stand.is_whole(2);
    stand.comes_back();
    let run = stand.site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
}
