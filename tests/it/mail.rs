//! Mails through the whole daemon and a real mail server with TLS, a login and an authority of its own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::alert::server::{Server, Taken, certificates};
use crate::site::{Site, text};
use crate::support::disk::SmallDisk;
use crate::support::{free_port, wait_for};

/// What must be in no mail.
const SECRETS: [&str; 2] = ["a password of the test", "right horse"];

fn target(site: &Site, before: &str) {
    let root = site.root().display();
    site.write(
        "config/targets.yaml",
        &format!(
            "kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data]}}\nhooks: {{before: [{{command: {before}, timeout: 20s}}]}}\n"
        ),
    );
}

fn push(site: &Site, message: &str) {
    let pushed = site.push(message);
    assert!(pushed.status.success(), "{}", text(&pushed));
}

/// The decoded part of this type, as a person reads it.
fn part(mail: &Taken, kind: &str) -> String {
    let part = mail.facts["parts"][kind].as_str();
    part.unwrap_or_else(|| panic!("no {kind} in {}", mail.text)).replace("&#x2f;", "/")
}

fn outbox(site: &Site) -> Value {
    site.call("system.status", json!({})).unwrap()["mail"].clone()
}

#[test]
fn a_failure_and_its_recovery_send_one_mail_each_though_the_server_is_down_and_the_daemon_is_killed() {
    let mut site = Site::new();
    let post = site.path("post");
    std::fs::create_dir_all(post.join("server")).unwrap();
    certificates(&post);
    std::fs::write(post.join("server/password"), "right horse\n").unwrap();
    std::fs::write(post.join("server/behaviour"), "login-required\n").unwrap();
    let port = free_port();

    site.base_config("\"0 3 * * *\"");
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    let password = post.join("server/password").display().to_string();
    site.write(
        "config/site.yaml",
        &format!(
            "{config}email: {{smtp: \"smtps://localhost:{port}\", username: larder, password: {{file: {password}}}, from: larder@home.test, to: [me@home.test]}}\n"
        ),
    );
    // The failing hook says a secret, as careless programs do.
    let repository_password = site.path("secrets/repository").display().to_string();
    target(&site, &format!("[sh, -c, \"echo cannot stop the app, $(cat {repository_password}) >&2; exit 7\"]"));
    site.daemon_env("SSL_CERT_FILE", post.join("ca.pem"));
    site.start();
    push(&site, "a hook that fails");

    // The server is down: the mail waits, also over a power cut.
    let failed = site.run("files");
    assert_eq!(failed["outcome"], "failed", "{failed}");
    wait_for("the first try", Duration::from_secs(20), || {
        let outbox = outbox(&site);
        assert_eq!(outbox["waiting"], 1, "{outbox}");
        outbox["last_error"].is_string().then_some(())
    });
    site.kill();
    let server = Server::start(&post, "tls", "good", port);
    site.start();
    let first = server.wait_for(1).remove(0);
    wait_for("the empty outbox", Duration::from_secs(20), || (outbox(&site)["waiting"] == 0).then_some(()));

    assert_eq!((&first.facts["tls"], &first.facts["user"]), (&json!(true), &json!("larder")));
    assert!(first.header("Subject").starts_with("[test] FAILED: files/daily"), "{}", first.text);
    let (plain, html) = (part(&first, "text/plain"), part(&first, "text/html"));
    let run = failed["id"].as_str().unwrap();
    for expected in ["files/daily", "exit code 7", "cannot stop the app, [redacted]", &format!("larder log {run}")] {
        assert!(plain.contains(expected), "{expected:?} is missing in\n{plain}");
        assert!(html.contains(expected), "{expected:?} is missing in\n{html}");
    }
    assert!(plain.contains("hint:") && plain.contains("Next:"), "{plain}");

    // A second failure is counted, not sent.
    assert_eq!(site.run("files")["outcome"], "failed");
    assert_eq!(outbox(&site)["waiting"], 0);
    assert_eq!(site.job("files")["failing"], 2);

    target(&site, "[\"true\"]");
    push(&site, "a hook that works");
    assert_eq!(site.run("files")["outcome"], "success");
    let second = server.wait_for(2).remove(1);
    assert_eq!(second.header("Subject"), "[test] Recovered: files/daily after 2 failures");
    for kind in ["text/plain", "text/html"] {
        let said = part(&second, kind);
        assert!(said.contains("files/daily") && said.contains("works again"), "{said}");
    }
    assert_eq!(site.run("files")["outcome"], "success");
    wait_for("the empty outbox", Duration::from_secs(20), || (outbox(&site)["waiting"] == 0).then_some(()));
    let taken = server.taken();
    assert_eq!(taken.len(), 2, "one mail an edge");
    for said in taken.iter().map(|mail| format!("{}{}", mail.text, mail.facts)).chain([site.log()]) {
        for secret in SECRETS {
            assert!(!said.contains(secret), "{secret:?} is in\n{said}");
        }
    }
}

#[test]
fn a_destination_that_is_away_is_told_once_for_all_its_jobs_and_so_is_its_return() {
    let mut site = Site::new();
    let post = site.path("post");
    std::fs::create_dir_all(post.join("server")).unwrap();
    certificates(&post);
    let port = free_port();
    let server = Server::start(&post, "tls", "good", port);
    site.base_config("\"0 3 * * *\"");
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write(
        "config/site.yaml",
        &format!("{config}email: {{smtp: \"smtps://localhost:{port}\", from: larder@home.test, to: [me@home.test]}}\n"),
    );
    site.daemon_env("SSL_CERT_FILE", post.join("ca.pem"));
    let root = site.root().display().to_string();
    std::fs::create_dir(site.path("usb")).unwrap();
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write(
        "config/destinations.yaml",
        &format!(
            "{local}---\nkind: Destination\nname: usb\nrepository: {{type: local, path: {root}/usb/restic, require_mount: {root}/usb}}\npassword: {{file: {root}/secrets/repository}}\n"
        ),
    );
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, usb]");
    let names = ["files", "more", "most"];
    site.targets(&names);
    site.start_and_push();
    for name in names {
        let run = site.run(name);
        assert_eq!(run["outcome"], "partial", "{run}");
    }
    let disk = SmallDisk::mount(site.path("usb"), "64m");
    for name in names {
        let run = site.run(name);
        assert_eq!(run["outcome"], "success", "{run}");
    }
    let mails = server.wait_for(2);
    // What would be wrong comes at once, as those did.
    wait_for("the empty outbox", Duration::from_secs(20), || (outbox(&site)["waiting"] == 0).then_some(()));
    assert_eq!(server.wait_for(2).len(), 2);
    let subjects: Vec<String> = mails.iter().map(|mail| mail.header("Subject").clone()).collect();
    assert!(subjects[0].starts_with("[test] Away: destination usb:"), "{subjects:?}");
    assert!(!subjects[0].contains("usb: destination"), "{subjects:?}");
    assert!(subjects[1].starts_with("[test] Back: destination usb"), "{subjects:?}");
    let told = part(&mails[0], "text/plain");
    for each in ["is not mounted", "larder destination test usb", "jobs that ship there: 3"] {
        assert!(told.contains(each), "{each}: {told}");
    }
    drop(disk);
}

#[test]
fn the_only_destination_that_is_away_is_told_at_once_and_once_while_its_jobs_wait() {
    let mut site = Site::new();
    let server = Server::start(site.root(), "plain", "", 0);
    site.base_config("\"0 3 * * *\"");
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write(
        "config/site.yaml",
        &format!(
            "{config}email: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
            server.port
        ),
    );
    let root = site.root().display().to_string();
    std::fs::create_dir(site.path("usb")).unwrap();
    site.edit(
        "config/destinations.yaml",
        &format!("path: {root}/restic"),
        &format!("path: {root}/usb/restic, require_mount: {root}/usb"),
    );
    let names = ["files", "more", "most"];
    site.targets(&names);
    site.start_and_push();
    for name in names {
        let run = site.run(name);
        assert_eq!(run["outcome"], "deferred", "{run}");
        assert_eq!(run["shipments"][0]["trouble"]["code"], "destination_unmounted", "{run}");
    }
    let told = server.wait_for(1).remove(0);
    assert!(told.header("Subject").starts_with("[test] Away: destination local:"), "{}", told.text);
    assert!(part(&told, "text/plain").contains("jobs that ship there: 3"), "{}", told.text);
    let destination = site.call("destination.list", json!({})).unwrap()["items"][0].clone();
    assert_eq!(destination["problem"]["code"], "destination_unmounted", "{destination}");
    // Without anybody's help all of them run once it is back, and that is told once.
    let disk = SmallDisk::mount(site.path("usb"), "64m");
    for name in names {
        wait_for(&format!("the success of {name}"), crate::site::RUN_MAX, || {
            site.runs(name).iter().any(|run| run["outcome"] == "success").then_some(())
        });
    }
    wait_for("the empty outbox", Duration::from_secs(20), || (outbox(&site)["waiting"] == 0).then_some(()));
    let subjects: Vec<String> = server.wait_for(2).iter().map(|mail| mail.header("Subject").clone()).collect();
    assert!(subjects.len() == 2 && subjects[1].starts_with("[test] Back: destination local"), "{subjects:?}");
    assert_eq!(site.snapshots("usb/restic").len(), 3);
    drop(disk);
}
