//! Buckets whose objects are locked: verified, extended, and told until when; by moto and the real restic.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use larder::config::model::{LockMode, ObjectLock};
use larder::storage::s3::{Extended, Horizon, Lock, extend_locks};
use larder::storage::{ControlClient as _, Question, S3, S3Place, Step, StorageError};
use serde_json::{Value, json};

use crate::alert::server::Server as MailServer;
use crate::site::{Site, text};
use crate::support::storages::{self, SECRET_KEY, Server};
use crate::support::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);
const LOGIN: &str = "authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=0";
const COMPLIANCE_30: ObjectLock = ObjectLock { mode: LockMode::Compliance, days: 30 };

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// A bucket with Object Lock, and with a default retention of so many days.
fn locking_bucket(server: &Server, name: &str, default_days: Option<u32>) {
    storages::http(server.port, "PUT", &format!("/{name}"), &["x-amz-bucket-object-lock-enabled: true"], b"");
    let Some(default_days) = default_days else { return };
    let body = format!(
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
         <Mode>COMPLIANCE</Mode><Days>{default_days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
    );
    let answer = storages::http(server.port, "PUT", &format!("/{name}?object-lock"), &[], body.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn place(port: u16, bucket: &str, locked: Option<LockMode>) -> S3Place {
    S3Place { locked, ..storages::s3_place(port, bucket, "home") }
}

/// What no client of ours would do; moto asks for a signature and looks at none.
fn hostile(port: u16, method: &str, path: &str, headers: &[&str], body: &[u8]) {
    let headers: Vec<&str> = headers.iter().copied().chain([LOGIN]).collect();
    let answer = storages::http(port, method, path, &headers, body);
    assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
}

fn extended(place: &S3Place, rule: ObjectLock) -> Extended {
    extend_locks(place, PATIENCE, rule, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn until(found: &Extended) -> Timestamp {
    let Horizon::Until(until) = found.horizon else { panic!("{found:?}") };
    until
}

/// A site whose one destination `vault` is a bucket; `more` stands in its document.
struct Stand {
    server: Server,
    site: Site,
}

impl Stand {
    fn new(more: &str, bucket: impl FnOnce(&Server)) -> Option<Self> {
        let server = storages::moto()?;
        bucket(&server);
        let mut site = Site::new();
        site.base_config("\"0 3 * * *\"");
        let vault = site.destination("vault", &site.s3_repository(server.port, "vault"), more);
        let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
        site.write("config/destinations.yaml", &format!("{local}{vault}"));
        site.edit("config/policies.yaml", "destinations: [local]", "destinations: [vault]");
        site.start_and_push();
        Some(Self { server, site })
    }

    fn ship(&self, content: &str) {
        self.site.write("data/a.txt", content);
        let run = self.site.run("files");
        assert_eq!(run["outcome"], "success", "{run}");
    }

    fn said(&self, verb: &str) -> (i32, String) {
        let done = self.site.command().args(["destination", verb, "vault"]).output().unwrap();
        (done.status.code().unwrap(), text(&done))
    }

    fn vault(&self) -> Value {
        let all = self.site.call("destination.list", json!({})).unwrap();
        all["items"].as_array().unwrap().iter().find(|each| each["name"] == "vault").unwrap().clone()
    }

    fn immutable_until(&self) -> Option<Timestamp> {
        self.vault()["immutable"]["until"].as_str().map(|text| text.parse().unwrap())
    }

    fn client(&self) -> S3 {
        S3::open(&place(self.server.port, "vault", None), PATIENCE).unwrap()
    }

    /// Every object that the repository has now, with its lock.
    fn locks(&self) -> Vec<(String, Option<Lock>)> {
        let client = self.client();
        let all = client.versions("", None).unwrap();
        assert_eq!(all.next, None);
        let names: BTreeSet<String> = all
            .versions
            .into_iter()
            .filter(|version| version.is_latest && !version.is_delete_marker)
            .map(|version| version.name)
            .collect();
        names.into_iter().map(|name| (name.clone(), client.lock_of(&name).unwrap())).collect()
    }
}

#[test]
fn the_locks_of_all_that_is_there_are_extended_and_the_date_speaks_of_what_was_there() {
    let Some(stand) = Stand::new("object_lock: {mode: compliance, days: 30}\n", |server| {
        locking_bucket(server, "vault", None);
    }) else {
        return;
    };
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains("no repository yet"), "{shown}");
    stand.ship("one");
    assert_eq!(stand.immutable_until(), None);
    let (code, shown) = stand.said("test");
    assert!(code == 0 && shown.contains("locked      ok"), "{shown}");
    let client = stand.client();
    let lock_of_restic = format!("locks/{}", "ab".repeat(32));
    client.put_new(&lock_of_restic, b"x").unwrap();

    let before = Timestamp::now();
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains("immutable until") && shown.contains(": 1 snapshot as of "), "{shown}");
    let until = stand.immutable_until().unwrap();
    assert!(until > before + days(29) && until < Timestamp::now() + days(31), "{until}");
    let soonest = stand
        .locks()
        .into_iter()
        .filter(|(name, _)| *name != lock_of_restic && !name.starts_with("larder-probe-"))
        .map(|(name, lock)| lock.unwrap_or_else(|| panic!("{name} has no lock")).until)
        .min();
    assert_eq!(soonest, Some(until), "the date is that of the lock that ends first");
    assert_eq!(client.lock_of(&lock_of_restic).unwrap(), None, "what restic deletes itself is not locked");
    client.delete(&lock_of_restic).unwrap();

    // A day later it is the same snapshots that it speaks of, until somebody looks again.
    stand.ship("two");
    assert_eq!((stand.immutable_until(), &stand.vault()["immutable"]["snapshots"]), (Some(until), &json!(1)));
    assert!(stand.locks().iter().any(|(name, lock)| name.starts_with("snapshots/") && lock.is_none()));
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains(": 2 snapshots as of "), "{shown}");
    assert!(stand.immutable_until().unwrap() <= until, "those that are locked for long enough are left alone");
    let again = stand.said("extend-locks").1;
    assert!(again.contains(", 0 locks extended"), "{again}");
    // Everywhere.
    let list = stand.site.command().args(["destination", "list"]).output().unwrap();
    assert!(text(&list).contains("IMMUTABLE UNTIL") && text(&list).contains(" as of 20"), "{}", text(&list));
    let metrics = stand.site.get("/metrics");
    let start = "larder_destination_immutable_until_timestamp_seconds{destination=\"vault\"} ";
    let told = metrics.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{metrics}"));
    assert_eq!(told, stand.immutable_until().unwrap().as_second().to_string());
    wait_for("the page that says so", PATIENCE, || stand.site.get("/").contains("2 snapshots as of").then_some(()));

    // Retention and prune go on; what they delete stays as versions, and comes back.
    for round in 0..4 {
        stand.ship(&format!("round {round}"));
    }
    let (code, shown) = stand.said("prune");
    assert_eq!(code, 0, "{shown}");
    wait_for("the look behind the prune", PATIENCE, || {
        (stand.vault()["immutable"]["snapshots"] == 3 && stand.immutable_until().is_some()).then_some(())
    });
    let versions = client.versions("snapshots/", None).unwrap().versions;
    assert!(versions.iter().filter(|version| !version.is_delete_marker).count() >= 6, "{versions:?}");
    assert!(!stand.site.log().contains(SECRET_KEY), "a secret is in the log");
}

#[test]
fn a_pack_whose_lock_ends_first_is_the_date_until_it_is_extended() {
    let Some(stand) = Stand::new("object_lock: {mode: compliance, days: 1}\n", |server| {
        locking_bucket(server, "vault", Some(9));
    }) else {
        return;
    };
    stand.ship("one");
    // As after a week: the bucket's rule holds for each object from its own upload on.
    let pack = stand.locks().into_iter().find(|(name, _)| name.starts_with("data/")).unwrap().0;
    let soon = Timestamp::from_second((Timestamp::now() + days(2)).as_second()).unwrap();
    let retention = format!("<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{soon}</RetainUntilDate></Retention>");
    // moto shortens what no real server does.
    let path = format!("/vault/home/{pack}?retention");
    hostile(stand.server.port, "PUT", &path, &["content-md5: x"], retention.as_bytes());
    stand.ship("two");
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains(", 0 locks extended"), "{shown}");
    assert_eq!(stand.immutable_until(), Some(soon), "not that of the newest, nor the bucket's");
    let before = stand.locks();
    // A longer time in Git is kept at once, without anybody asking.
    let old = "object_lock: {mode: compliance, days: 1}";
    stand.site.edit("config/destinations.yaml", old, "object_lock: {mode: compliance, days: 5}");
    assert!(stand.site.push("longer").status.success());
    let until =
        wait_for("the longer locks", Duration::from_secs(60), || stand.immutable_until().filter(|until| *until > soon));
    assert!(until > Timestamp::now() + days(4), "{until}");
    for (name, lock) in before {
        let now = stand.client().lock_of(&name).unwrap();
        assert!(name == pack || now == lock, "{name} was locked for longer already: {lock:?}, {now:?}");
    }
}

#[test]
fn a_bucket_that_locks_nothing_is_told_with_the_next_step() {
    let Some(server) = storages::moto() else { return };
    for bucket in ["plain", "versions"] {
        storages::http(server.port, "PUT", &format!("/{bucket}"), &[], b"");
    }
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    storages::http(server.port, "PUT", "/versions?versioning", &[], enabled);
    locking_bucket(&server, "vault", Some(30));
    for (bucket, mode, why) in [
        ("plain", LockMode::Compliance, "keeps no versions"),
        ("versions", LockMode::Governance, "Object Lock is off"),
        // moto lets everybody lift those.
        ("vault", LockMode::Governance, "locked by governance"),
    ] {
        let begun = Instant::now();
        let probe = S3::open(&place(server.port, bucket, Some(mode)), PATIENCE).unwrap().probe();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let (question, error) = probe.trouble().unwrap_or_else(|| panic!("{bucket}: {probe:?}"));
        assert_eq!(question, Question::Locked, "{error}");
        let trouble = error.trouble();
        assert!(trouble.message.contains(why) && trouble.hint.is_some(), "{bucket}: {trouble}");
        assert!(matches!(probe.step(Question::Writable), Some(Step::Ok(_))), "{probe:?}");
    }
    let client = S3::open(&place(server.port, "vault", Some(LockMode::Compliance)), PATIENCE).unwrap();
    let probe = client.probe();
    assert!(probe.trouble().is_none() && probe.facts.keeps_locked == Some(true), "{probe:?}");
    // It leaves one small version, that is locked for no longer than it takes although the bucket says 30 days.
    let left: Vec<_> = client.versions("larder-probe-", None).unwrap().versions;
    let left: Vec<_> = left.into_iter().filter(|version| !version.is_delete_marker).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    wait_for("the end of its lock", Duration::from_secs(90), || client.delete_version(&left[0].name, &left[0].id).ok());
    // Where nothing is declared, nothing is asked.
    let plain = S3::open(&place(server.port, "plain", None), PATIENCE).unwrap().probe();
    assert!(plain.step(Question::Locked).is_none(), "{plain:?}");
    let Some(rclone) =
        storages::rclone("s3", &["--auth-key", "LARDERTESTACCESS,canary-secret-of-the-bucket"], |files| {
            std::fs::create_dir(files.join("vault")).unwrap();
        })
    else {
        return;
    };
    let probe = S3::open(&place(rclone.port, "vault", Some(LockMode::Compliance)), PATIENCE).unwrap().probe();
    let (question, error) = probe.trouble().unwrap();
    assert!(question == Question::Locked && matches!(error, StorageError::LockOff { .. }), "{error}");
}

#[test]
fn a_look_extends_all_versions_of_what_is_there_loosens_none_and_takes_many_at_once() {
    let Some(server) = storages::moto() else { return };
    locking_bucket(&server, "vault", None);
    let port = server.port;
    let put = |name: &str, headers: &[&str]| {
        let all: Vec<&str> = headers.iter().copied().chain(["x-amz-sdk-checksum-algorithm: SHA256"]).collect();
        hostile(port, "PUT", &format!("/vault/home/{name}"), &all, b"x");
    };
    let id = |n: usize| format!("{n:064x}");
    let far = Timestamp::from_second((Timestamp::now() + days(90)).as_second()).unwrap();
    let until_far = format!("x-amz-object-lock-retain-until-date: {far}");
    put("config", &[]);
    put(&format!("keys/{}", id(1)), &["x-amz-object-lock-mode: COMPLIANCE", &until_far]);
    put(&format!("index/{}", id(1)), &["x-amz-object-lock-mode: GOVERNANCE", &until_far]);
    put(&format!("snapshots/{}", id(1)), &[]);
    let packs = 1_050;
    (0..packs).for_each(|n| put(&format!("data/00/{}", id(n)), &[]));
    // One was overwritten, one deleted before; of another tool, and a lock of restic's.
    put(&format!("data/00/{}", id(7)), &[]);
    hostile(port, "DELETE", &format!("/vault/home/data/00/{}", id(8)), &[], b"");
    put("notes.txt", &[]);
    put(&format!("locks/{}", id(1)), &[]);
    let place = place(port, "vault", None);
    let client = S3::open(&place, PATIENCE).unwrap();
    // A mark of the last three seconds counts as one of later: a list tells whole ones, and clocks are rounded.
    let then = Timestamp::now();
    wait_for("four seconds", PATIENCE, || (Timestamp::now() > then + SignedDuration::from_secs(4)).then_some(()));

    let begun = Instant::now();
    let found = extended(&place, COMPLIANCE_30);
    println!("{} objects locked in {:?}", found.objects, begun.elapsed());
    assert_eq!((found.objects, found.failed, found.snapshots), (packs as u64 + 4, 0, 1), "{found:?}");
    assert_eq!(found.extended, found.objects - 1, "the key was locked for longer");
    assert!(until(&found) > Timestamp::now() + days(29), "{found:?}");
    let lock = |name: &str| client.lock_of(name).unwrap();
    assert_eq!(lock(&format!("keys/{}", id(1))), Some(Lock { mode: LockMode::Compliance, until: far }));
    assert_eq!(lock(&format!("index/{}", id(1))), Some(Lock { mode: LockMode::Compliance, until: far }));
    assert_eq!((lock("notes.txt"), lock(&format!("locks/{}", id(1)))), (None, None));
    let versions = client.versions(&format!("data/00/{}", id(7)), None).unwrap().versions;
    assert_eq!(versions.len(), 2);
    for version in versions {
        let refused = client.delete_version(&version.name, &version.id).unwrap_err();
        assert!(matches!(refused, StorageError::Denied { .. }), "{refused}");
    }
    let deleted = client.versions(&format!("data/00/{}", id(8)), None).unwrap().versions;
    let deleted = deleted.iter().find(|version| !version.is_delete_marker).unwrap();
    client.delete_version(&deleted.name, &deleted.id).unwrap();

    // Nothing is put where nothing ends soon, and softer or shorter is never put.
    let begun = Instant::now();
    let found = extended(&place, ObjectLock { mode: LockMode::Governance, days: 3 });
    println!("{} objects looked at in {:?}", found.objects, begun.elapsed());
    assert_eq!((found.extended, found.failed), (0, 0), "{found:?}");
    // Without its `config` it is no repository.
    client.delete("config").unwrap();
    let then = Timestamp::now();
    wait_for("four seconds", PATIENCE, || (Timestamp::now() > then + SignedDuration::from_secs(4)).then_some(()));
    assert_eq!(extended(&place, COMPLIANCE_30).horizon, Horizon::Lacking(larder::storage::s3::Kind::Config));
    // It stops where it is told to.
    let stopped = extend_locks(&place, PATIENCE, COMPLIANCE_30, &mut |_| ControlFlow::Break(())).unwrap();
    assert!(stopped.is_stopped, "{stopped:?}");
}

/// A bucket with a whole repository, without any lock, that lets nobody put one.
fn unwilling() -> u16 {
    storages::toxic(|head, stream| {
        let version = |name: &str| {
            format!(
                "<Version><Key>home/{name}</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><Size>1</Size>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"a\"</ETag></Version>"
            )
        };
        let id = "ab".repeat(32);
        let all = ["config".to_owned(), format!("keys/{id}"), format!("index/{id}"), format!("data/ab/{id}")];
        let (status, body) = match head.split(' ').next() {
            Some("GET") if head.contains("versions=") => {
                let asked = |name: &&String| head.contains(&format!("prefix=home%2F{}", &name[..4]));
                let listed: String = all.iter().filter(asked).map(|name| version(name)).collect();
                (200, format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{listed}</ListVersionsResult>"))
            }
            Some("HEAD") => (200, String::new()),
            _ => (403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned()),
        };
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
    })
}

#[test]
fn what_cannot_be_locked_is_a_trouble_of_the_destination_and_mailed_once() {
    let port = unwilling();
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let repository = site.s3_repository(port, "vault");
    let vault = site.destination("vault", &repository, "object_lock: {mode: compliance, days: 30}\n");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{vault}"));
    let mails = MailServer::start(site.root(), "plain", "", 0);
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    let email =
        format!("email: {{smtp: \"smtp+plain://localhost:{}\", from: a@home.test, to: [b@home.test]}}\n", mails.port);
    site.write("config/site.yaml", &format!("{config}{email}"));
    site.start_and_push();
    // What is newly declared is looked at without anybody asking.
    let told = mails.wait_for(1).remove(0);
    assert!(told.header("Subject").starts_with("[test] FAILED: extend-locks of vault: "), "{}", told.text);
    let done = site.command().args(["destination", "extend-locks", "vault"]).output().unwrap();
    let shown = text(&done);
    assert_eq!(done.status.code(), Some(1), "{shown}");
    assert!(shown.contains("4 of 4 objects of vault cannot be locked, so 4 of 4 can be removed now"), "{shown}");
    assert!(shown.contains("s3:PutObjectRetention") && shown.contains("does not let this login lock"), "{shown}");
    let all = site.call("destination.list", json!({})).unwrap();
    let vault = all["items"].as_array().unwrap().iter().find(|each| each["name"] == "vault").unwrap();
    assert_eq!((&vault["health"], &vault["locks"]["health"]), (&json!("failed"), &json!("failed")), "{vault}");
    assert_eq!(
        (&vault["immutable"]["until"], &vault["locks"]["problem"]["code"]),
        (&Value::Null, &json!("not_immutable"))
    );
    let metrics = site.get("/metrics");
    assert!(metrics.contains("larder_destination_extend_locks_failed{destination=\"vault\"} 1"), "{metrics}");
    assert!(!metrics.contains("larder_destination_immutable_until_timestamp_seconds{"), "{metrics}");
    let done = site.command().args(["destination", "extend-locks", "local"]).output().unwrap();
    assert!(done.status.code() == Some(1) && text(&done).contains("has no `object_lock`"), "{}", text(&done));
    assert_eq!(mails.taken().len(), 1, "the second is no news");
}

#[test]
fn an_append_only_destination_that_locks_may_mark_as_deleted_and_forgets_nothing() {
    let more = "append_only: true\nobject_lock: {mode: compliance, days: 2}\n";
    let Some(stand) = Stand::new(more, |server| locking_bucket(server, "vault", Some(30))) else { return };
    for round in 0..4 {
        stand.ship(&format!("round {round}"));
    }
    let (code, shown) = stand.said("test");
    assert!(code == 0 && shown.contains("locked      ok") && shown.contains("4 snapshots"), "{shown}");
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains(": 4 snapshots as of "), "{shown}");
    let (code, shown) = stand.said("prune");
    assert!(code == 1 && shown.contains("append-only"), "{shown}");
    // Without the lock it is a storage that lets us delete.
    stand.site.edit("config/destinations.yaml", "object_lock: {mode: compliance, days: 2}\n", "");
    assert!(stand.site.push("no lock").status.success());
    let (code, shown) = stand.said("test");
    assert!(code == 1 && shown.contains("lets us delete"), "{shown}");
}

#[test]
fn a_copy_that_is_only_appended_to_has_locks_and_its_own_date_and_forgets_nothing() {
    let Some(server) = storages::moto() else { return };
    locking_bucket(&server, "vault", None);
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let more = "append_only: true\nobject_lock: {mode: compliance, days: 30}\n\
                copy: {from: local, schedule: \"0 5 * * *\"}\n";
    let vault = site.destination("vault", &site.s3_repository(server.port, "vault"), more);
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{vault}"));
    site.edit("config/policies.yaml", "retention: {last: 3}", "retention: {last: 1}");
    site.start_and_push();
    let stand = Stand { server, site };
    for round in 0..3 {
        stand.ship(&format!("round {round}"));
        let (code, shown) = stand.said("copy");
        assert!(code == 0 && shown.contains("1 snapshot copied from local to vault"), "{shown}");
    }
    let there = stand.site.call("snapshot.list", json!({"destination": "vault"})).unwrap();
    assert_eq!(there["items"].as_array().unwrap().len(), 3, "nothing is forgotten there: {there}");
    for verb in ["forget", "prune"] {
        let (code, shown) = stand.said(verb);
        assert!(code == 1 && shown.contains("append-only"), "{verb}: {shown}");
    }
    let begun = Timestamp::now();
    let (code, shown) = stand.said("extend-locks");
    assert!(code == 0 && shown.contains(": 3 snapshots as of "), "{shown}");
    let until = stand.immutable_until().unwrap();
    assert!(until > begun + days(29), "{until}");
    for (name, lock) in stand.locks() {
        let needed = !name.starts_with("locks/");
        assert!(!needed || lock.as_ref().is_some_and(|lock| lock.until >= until), "{name}: {lock:?}");
    }
    let (code, shown) = stand.said("test");
    assert!(code == 0 && shown.contains("locked      ok"), "{shown}");
}
