//! What is wrong with the whole site is said everywhere, within a minute, and mailed once: its config source cannot be
//! read, its state directory is lost. And what is said on top is never more than what is known.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::alert::server::Server;
use crate::site::{Site, text};
use crate::support::wait_for;

/// Within this an incident must be said everywhere.
const SOON: Duration = Duration::from_secs(60);

/// A site with a mail server, and one success.
fn mailed() -> (Site, Server) {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    std::fs::create_dir_all(site.path("post")).unwrap();
    let server = Server::start(&site.path("post"), "plain", "", 0);
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    let email = format!(
        "email: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
        server.port
    );
    site.write("config/site.yaml", &format!("{config}{email}"));
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(site.run("files")["outcome"], "success");
    (site, server)
}

fn status(site: &Site) -> Value {
    site.call("system.status", json!({})).unwrap()
}

/// The status line and body, whatever the status is.
fn probe(site: &Site, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::os::unix::net::UnixStream::connect(site.path("state/larder.sock")).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn said(site: &Site, words: &[&str]) -> (Option<i32>, String) {
    let done = site.command().args(words).output().unwrap();
    (done.status.code(), text(&done))
}

/// Waits until the source is an incident and looks for it everywhere.
fn is_an_incident_everywhere(site: &Site, reason: &str) {
    let begun = Instant::now();
    let found = wait_for("the incident", SOON, || {
        let status = status(site);
        (status["config"]["state"] == "unreadable").then_some(status)
    });
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(found["verdict"]["health"], "failed", "{found}");
    let sentence = found["verdict"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("config cannot be read"), "{sentence}");
    assert_eq!(found["ready"], false, "{found}");
    let unreadable = &found["config"]["unreadable"];
    assert!(unreadable["reason"].as_str().unwrap().contains(reason), "{unreadable}");
    assert!(unreadable["hint"].is_string(), "{unreadable}");

    // What the store knows is told at once; a daemon that starts is not ready for more than that.
    wait_for("the readiness", SOON, || {
        let ready = probe(site, "/readyz");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        ready.contains("config cannot be read").then_some(())
    });
    let metrics = probe(site, "/metrics");
    for line in ["larder_config_readable 0", "larder_everything_proven 0"] {
        assert!(metrics.lines().any(|each| each == line), "{line} is missing");
    }
    wait_for("the page", SOON, || {
        let page = probe(site, "/");
        (page.contains("onfig cannot be read") && page.contains("watched repository cannot be read")).then_some(())
    });
    let json: Value = serde_json::from_str(probe(site, "/status.json").split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["attention"][0]["kind"], "config", "{json}");

    let (code, shown) = said(site, &["status"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("cannot be read") && shown.contains(reason) && shown.contains("hint:"), "{shown}");
    let (code, shown) = said(site, &["doctor"]);
    assert_eq!(code, Some(1), "{shown}");
    let config = shown.lines().find(|line| line.split_whitespace().nth(1) == Some("config")).unwrap();
    assert!(config.starts_with("bad") && config.contains(reason), "{shown}");
    assert!(shown.contains("destination local") && shown.contains("mail"), "the other looks are made too: {shown}");
}

fn is_over(site: &Site) {
    wait_for("the end of it", SOON, || (status(site)["config"]["state"] == "applied").then_some(()));
    assert_eq!(status(site)["verdict"]["sentence"], "Everything is proven");
    assert!(probe(site, "/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(said(site, &["status"]).0, Some(0));
}

#[test]
fn a_repository_that_was_moved_is_an_incident_everywhere_and_mailed_once_also_over_a_restart() {
    let (mut site, server) = mailed();
    std::fs::rename(site.path("larder.git"), site.path("moved.git")).unwrap();
    is_an_incident_everywhere(&site, "there is nothing at");
    let mail = server.wait_for(1).remove(0);
    assert!(mail.header("Subject").contains("Config cannot be read"), "{}", mail.text);
    assert_eq!(site.run("files")["outcome"], "success", "backups go on");
    site.stop();
    site.start();
    is_an_incident_everywhere(&site, "there is nothing at");
    std::fs::rename(site.path("moved.git"), site.path("larder.git")).unwrap();
    is_over(&site);
    let mails = server.wait_for(2);
    assert!(mails[1].header("Subject").contains("can be read again"), "{}", mails[1].text);
    assert_eq!(mails.len(), 2, "one for its begin, one for its end");
}

#[test]
fn a_branch_that_was_deleted_is_an_incident_and_a_push_ends_it() {
    let site = Site::running();
    assert_eq!(site.run("files")["outcome"], "success");
    let bare = site.path("larder.git");
    assert!(site.git_in(&bare, &["branch", "-q", "-m", "main", "old"]).status.success());
    is_an_incident_everywhere(&site, "it has old");
    let pushed = site.push("again");
    assert!(text(&pushed).contains('✓'), "{}", text(&pushed));
    is_over(&site);
}

#[test]
fn damaged_objects_of_the_revision_in_force_are_an_incident_and_no_rejection() {
    let site = Site::running();
    assert_eq!(site.run("files")["outcome"], "success");
    let blob = text(&site.git(&["rev-parse", "HEAD:targets.yaml"])).trim().to_owned();
    let object = site.path("larder.git/objects").join(&blob[..2]).join(&blob[2..]);
    let whole = std::fs::read(&object).unwrap();
    std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&object, &whole[..whole.len() / 2]).unwrap();
    is_an_incident_everywhere(&site, "targets.yaml");
    assert_eq!(status(&site)["config"]["rejected"], Value::Null);
    std::fs::write(&object, whole).unwrap();
    is_over(&site);
}

#[test]
fn a_push_as_root_that_the_daemon_may_not_read_says_so_and_is_an_incident() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().to_owned();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    for owned in ["state", "backups", "secrets", "data"] {
        let done = Command::new("chown").args(["-R", "65534:65534"]).arg(site.path(owned)).status().unwrap();
        assert!(done.success());
    }
    std::fs::create_dir(site.path("restic")).unwrap();
    std::os::unix::fs::chown(site.path("restic"), Some(65534), Some(65534)).unwrap();
    std::fs::write(site.path("daemon.log"), "").unwrap();
    site.daemon_as(65534);
    site.start();
    let pushed = site.push("first");
    assert!(text(&pushed).contains("applied"), "{}", text(&pushed));
    assert_eq!(site.run("files")["outcome"], "success");
    // An older place of the branch, so that one that cannot be read is not taken for it.
    assert!(site.git_in(&site.path("larder.git"), &["pack-refs", "--all"]).status.success());

    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{targets}---\n{}", targets.replace("name: files", "name: more")));
    assert!(site.git(&["commit", "-q", "-a", "-m", "more"]).status.success());
    let tight = Command::new("sh")
        .args(["-c", "umask 077; exec git push origin main"])
        .current_dir(site.path("config"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let told = text(&tight);
    assert!(tight.status.success(), "{told}");
    assert!(!told.contains("changes nothing") && told.contains("could not take it in"), "{told}");
    assert!(told.contains("may not be read") && told.contains("chmod"), "{told}");
    is_an_incident_everywhere(&site, "may not be read");
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(site.path("larder.git")).status().unwrap().success());
    wait_for("the new target", SOON, || site.call("target.get", json!({"target": "more"})).ok());
    wait_for("the end of it", SOON, || (status(&site)["config"]["state"] == "applied").then_some(()));
}

#[test]
fn a_restore_without_root_says_which_owners_it_could_not_give_back() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().to_owned();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    let suid = site.path("data/suid");
    std::fs::write(&suid, "s").unwrap();
    std::fs::write(site.path("data/other"), "o").unwrap();
    for owned in ["state", "backups", "secrets", "data"] {
        let done = Command::new("chown").args(["-R", "65534:65534"]).arg(site.path(owned)).status().unwrap();
        assert!(done.success());
    }
    std::os::unix::fs::chown(&suid, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(site.path("data/other"), Some(1234), Some(1234)).unwrap();
    std::fs::create_dir(site.path("restic")).unwrap();
    std::fs::create_dir(site.path("out")).unwrap();
    for place in ["restic", "out"] {
        std::os::unix::fs::chown(site.path(place), Some(65534), Some(65534)).unwrap();
    }
    std::fs::write(site.path("daemon.log"), "").unwrap();
    site.daemon_as(65534);
    site.start_and_push();
    assert_eq!(site.run("files")["outcome"], "success");
    for output in [&[][..], &["--output", "json"]] {
        let to = site.path("out").join(if output.is_empty() { "text" } else { "json" });
        let done = site.command().args(["restore", "files", "--to"]).arg(&to).args(output).output().unwrap();
        let told = text(&done);
        assert!(done.status.success(), "{told}");
        for part in ["owners of ", "1 file with the set-uid", "capabilities", "uid 65534"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    // Where all belongs to the daemon's user, nothing is lost and nothing said.
    let to = site.path("out/one");
    let mine = std::fs::read_dir(site.path("data")).unwrap().flatten().map(|entry| entry.path());
    let mut mine = mine.filter(|path| path.is_file() && path != &suid && !path.ends_with("other"));
    let mine = mine.next().unwrap();
    let done = site.command().args(["restore", "files", "--to"]).arg(&to).arg("--include").arg(&mine).output().unwrap();
    assert!(done.status.success() && text(&done).contains("restored and verified"), "{}", text(&done));
}

#[test]
fn a_push_to_another_branch_is_told_which_one_is_watched() {
    let site = Site::running();
    let pushed = site.git(&["push", "origin", "main:master"]);
    let told = text(&pushed);
    assert!(pushed.status.success(), "{told}");
    assert!(told.contains("master is stored, but Larder watches main") && told.contains("master:main"), "{told}");
    let deleted = site.git(&["push", "origin", "main:refs/tags/v1"]);
    assert!(!text(&deleted).contains("watches"), "a tag is no branch: {}", text(&deleted));
}

#[test]
fn a_daemon_that_watches_another_branch_is_not_taken_for_one_that_agrees() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    assert!(site.push("first").status.success());
    assert!(site.git_in(&site.path("larder.git"), &["branch", "other", "main"]).status.success());
    site.serve_with(&["--branch", "other"]);
    site.start();
    let pushed = site.push("second");
    let told = text(&pushed);
    assert!(told.contains("the daemon looks at") && told.contains("--branch"), "{told}");
    assert!(!told.contains('✓'), "{told}");
}

#[test]
fn a_compose_file_beside_the_config_is_explained_and_what_the_hint_says_works() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("config/docker-compose.yml", "services:\n  web:\n    image: nginx\n    labels: *x\n");
    site.serve_with(&["--root", "larder"]);
    site.start();
    let told = text(&site.push("mixed"));
    assert!(told.contains("looks like a Compose file") && told.contains("--root larder"), "{told}");
    assert!(told.contains("1 error in 1 of 5 files"), "{told}");
    std::fs::create_dir(site.path("config/larder")).unwrap();
    for name in ["site.yaml", "destinations.yaml", "policies.yaml", "targets.yaml"] {
        std::fs::rename(site.path("config").join(name), site.path("config/larder").join(name)).unwrap();
    }
    assert!(site.git_in(&site.path("larder.git"), &["config", "larder.root", "larder"]).status.success());
    let pushed = site.push("apart");
    assert!(text(&pushed).contains("applied"), "{}", text(&pushed));
}

#[test]
fn a_target_that_is_switched_off_is_not_everything_and_doctor_names_it() {
    let site = Site::running();
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    let off = targets.replace("name: files", "name: off\nenabled: false");
    site.write("config/targets.yaml", &format!("{targets}---\n{off}"));
    assert!(site.push("one is off").status.success());
    assert_eq!(site.run("files")["outcome"], "success");
    let found = status(&site);
    assert_eq!(found["verdict"]["sentence"], "1 job proven, 1 target is switched off", "{found}");
    assert_ne!(found["verdict"]["health"], "proven");
    assert!(probe(&site, "/metrics").lines().any(|line| line == "larder_everything_proven 0"));
    let (_, shown) = said(&site, &["doctor"]);
    assert!(shown.contains("switched off"), "{shown}");
}

#[test]
fn a_lost_destination_is_named_on_top_and_an_orphaned_one_ends_no_doctor() {
    let site = Site::running();
    let root = site.root().display().to_string();
    site.write(
        "config/second.yaml",
        &format!(
            "kind: Destination\nname: attic\nrepository: {{type: local, path: {root}/attic}}\npassword: {{file: {root}/secrets/repository}}\n"
        ),
    );
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policy.replace("[local]", "[attic, local]"));
    assert!(site.push("two").status.success());
    assert_eq!(site.run("files")["outcome"], "success");
    site.write("config/policies.yaml", &policy);
    std::fs::remove_file(site.path("config/second.yaml")).unwrap();
    let pushed = site.push_with("one again", &["-o", "confirm"]);
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(site.run("files")["outcome"], "success");
    let (code, shown) = said(&site, &["doctor"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("destination attic") && shown.contains("left the config"), "{shown}");
    assert!(shown.contains("destination local") && shown.contains("mail"), "all looks are made: {shown}");

    std::fs::rename(site.path("restic"), site.path("away")).unwrap();
    let failed = site.run("files");
    assert_ne!(failed["outcome"], "success");
    let (code, shown) = said(&site, &["status"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.lines().next().unwrap().contains("1 destination"), "{shown}");
    assert!(shown.contains("Destination local does not work"), "{shown}");
    let (code, shown) = said(&site, &["doctor"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("files/daily") && shown.contains("destination attic"), "{shown}");

    // It is there again: the test says so, and the page with it.
    std::fs::rename(site.path("away"), site.path("restic")).unwrap();
    let (_, shown) = said(&site, &["destination", "test", "local"]);
    assert!(shown.contains("answers"), "{shown}");
    let found = status(&site);
    assert!(!found["verdict"]["sentence"].as_str().unwrap().contains("destination"), "{found}");
}

/// What is answered on the port, whatever the status is: the local socket lies in the directory that is lost.
fn over_tcp(port: u16, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn state_is_lost_everywhere(port: u16, reason: &str) {
    let begun = Instant::now();
    let ready = wait_for("the incident", SOON, || {
        let ready = over_tcp(port, "/readyz");
        ready.contains("state directory is lost").then_some(ready)
    });
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(reason), "{ready}");
    for path in ["/", "/index.html", "/targets/files.html"] {
        let page = over_tcp(port, path);
        assert!(page.starts_with("HTTP/1.1 503") && page.contains("The state directory is lost"), "{path}: {page}");
        assert!(page.contains("no backup is made") && !page.contains("Everything is proven"), "{path}");
    }
    let json = over_tcp(port, "/status.json");
    let json: Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&json["verdict"]["health"], &json["attention"][0]["kind"]), (&json!("failed"), &json!("state")));
    let metrics = over_tcp(port, "/metrics");
    for line in ["larder_state_ok 0", "larder_everything_proven 0"] {
        assert!(metrics.lines().any(|each| each == line), "{line} is missing in {metrics}");
    }
}

fn listening() -> (Site, Server, u16) {
    let (mut site, server) = mailed();
    site.stop();
    let port = crate::support::free_port();
    site.write("secrets/control", "a control token for the test 0123456789\n");
    let tokens = site.path("secrets/control");
    site.serve_with(&["--listen", &format!("127.0.0.1:{port}"), "--control-tokens", tokens.to_str().unwrap()]);
    site.start();
    (site, server, port)
}

fn remote(site: &Site, port: u16, words: &[&str]) -> (Option<i32>, String) {
    let done = site
        .command()
        .args(["--url", &format!("http://127.0.0.1:{port}"), "--token-file"])
        .arg(site.path("secrets/control"))
        .args(words)
        .output()
        .unwrap();
    (done.status.code(), text(&done))
}

#[test]
fn a_state_directory_that_was_moved_away_is_said_everywhere_and_comes_back_by_itself() {
    let (site, server, port) = listening();
    std::fs::rename(site.path("state"), site.path("moved")).unwrap();
    state_is_lost_everywhere(port, "is gone");
    assert!(!site.path("state").exists(), "nothing makes it anew");
    let mail = server.wait_for(1).remove(0);
    assert!(mail.header("Subject").contains("state directory"), "{}", mail.text);
    let (code, shown) = remote(&site, port, &["run", "files"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("is gone") && shown.contains("hint:"), "{shown}");
    let (code, shown) = remote(&site, port, &["status"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.starts_with("The state directory is lost"), "{shown}");
    let (code, shown) = remote(&site, port, &["doctor"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("bad") && line.contains("state directory")), "{shown}");
    // On the machine itself there is no socket to ask.
    let (code, shown) = said(&site, &["doctor"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("state directory") && shown.contains("is not there"), "{shown}");
    assert!(site.log().contains("the state directory is lost"));

    std::fs::rename(site.path("moved"), site.path("state")).unwrap();
    wait_for("the end of it", SOON, || over_tcp(port, "/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(status(&site)["verdict"]["sentence"], "Everything is proven");
    assert_eq!(site.run("files")["outcome"], "success");
    wait_for("the page", SOON, || over_tcp(port, "/").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(server.wait_for(2).len(), 2, "one mail for its begin, one for its end");
}

#[test]
fn a_state_directory_that_was_replaced_by_an_empty_one_is_lost_until_a_restart() {
    let (mut site, _server, port) = listening();
    // The daemon may be writing a page into it meanwhile.
    wait_for("the end of the state directory", SOON, || std::fs::remove_dir_all(site.path("state")).ok());
    std::fs::create_dir(site.path("state")).unwrap();
    state_is_lost_everywhere(port, "another directory");
    assert_eq!(std::fs::read_dir(site.path("state")).unwrap().count(), 0, "nothing is written into it");
    site.stop();
    site.start();
    let ready = wait_for("a new begin", SOON, || {
        let ready = over_tcp(port, "/readyz");
        ready.contains("what the state knew is lost").then_some(ready)
    });
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("was made anew"), "{ready}");
    // It backs up, and holds what it might forget until somebody says that the loss is known.
    assert_eq!(site.run("files")["outcome"], "partial");
    let status = wait_for("its place on top", SOON, || {
        let status = status(&site);
        (status["attention"][0]["kind"] == "loss").then_some(status)
    });
    let command = status["attention"][0]["problem"]["commands"][0].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    assert_eq!(said(&site, &words).0, Some(0), "{command}");
    wait_for("its end", SOON, || over_tcp(port, "/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(site.run("files")["outcome"], "success");
}

#[test]
fn a_state_directory_that_became_read_only_is_lost_until_it_can_be_written() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let state = site.path("state");
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(&state).status().unwrap().success();
    assert!(mount(&["-t", "tmpfs", "-o", "size=64m", "larder-test"]), "only root can mount");
    let port = crate::support::free_port();
    site.serve_with(&["--listen", &format!("127.0.0.1:{port}")]);
    site.start();
    assert!(site.push("first").status.success());
    assert_eq!(site.run("files")["outcome"], "success");
    // Files that are open for writing keep a file system from it, as they do not when its disk fails.
    let read_only = Command::new("mount").args(["--bind"]).arg(&state).arg(&state).status().unwrap().success()
        && mount(&["-o", "remount,bind,ro"]);
    if read_only {
        state_is_lost_everywhere(port, "read-only");
        assert!(Command::new("umount").arg(&state).status().unwrap().success());
        wait_for("the end of it", SOON, || over_tcp(port, "/readyz").starts_with("HTTP/1.1 200").then_some(()));
        assert_eq!(site.run("files")["outcome"], "success");
    }
    site.stop();
    let _ = Command::new("umount").arg("-l").arg(&state).status();
    assert!(read_only, "the directory can be bound read-only");
}
