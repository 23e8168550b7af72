//! Files that never answer: each costs its own target alone, and the daemon answers and ends all the while.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::site::{Site, text};
use crate::support::share::DeadShare;
use crate::support::wait_for;

/// Longest that anything may take that has nothing to do with what hangs.
const PROMPT: Duration = Duration::from_secs(10);

/// Far more than the daemon waits for a path.
const GIVEN_UP: Duration = Duration::from_secs(90);

fn prompt<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = call();
    assert!(start.elapsed() < PROMPT, "{what} took {:?}", start.elapsed());
    answer
}

fn start(site: &Site, target: &str) -> String {
    let answer = prompt("run.start", || site.call("run.start", json!({"target": target})).unwrap());
    answer["runs"][0].as_str().unwrap().to_owned()
}

fn outcome(site: &Site, run: &str) -> (String, String) {
    let record = wait_for("the end of a run that hangs", GIVEN_UP, || {
        let record = site.call("run.get", json!({"run": run})).ok()?["run"].clone();
        record["outcome"].is_string().then_some(record)
    });
    (record["outcome"].as_str().unwrap().to_owned(), record["trouble"]["message"].to_string())
}

/// Sources, a plugin's secret, a repository's password, a mount and a hook's program on a share that is gone.
fn configure(site: &Site, share: &DeadShare) {
    let (root, dead) = (site.root().display().to_string(), share.path("").display().to_string());
    let dead = dead.trim_end_matches('/');
    for (name, path, password, more) in [
        ("password", format!("{root}/restic2"), format!("{dead}/password"), String::new()),
        ("mount", format!("{dead}/restic"), format!("{root}/secrets/repository"), format!(", require_mount: {dead}")),
        ("place", format!("{dead}/restic3"), format!("{root}/secrets/repository"), String::new()),
    ] {
        site.write(
            &format!("config/far-{name}.yaml"),
            &format!(
                "kind: Destination\nname: {name}\nrepository: {{type: local, path: {path}{more}}}\npassword: {{file: {password}}}\n---\n\
                 kind: Policy\nname: to-{name}\nschedule: \"0 3 * * *\"\nretention: {{last: 3}}\ndestinations: [{name}]\n---\n\
                 kind: Target\nname: by-{name}\nplugin: files\npolicies: [to-{name}]\nwith: {{paths: [{root}/data]}}\n"
            ),
        );
    }
    site.write(
        "config/sick.yaml",
        &format!(
            "kind: Target\nname: source\nplugin: files\nwith: {{paths: [{dead}/data]}}\n---\n\
             kind: Target\nname: secret\nplugin: http\nwith: {{url: \"http://localhost:9/x\", bearer: {{file: {dead}/token}}}}\n---\n\
             kind: Target\nname: hook\nplugin: files\nwith: {{paths: [{root}/data]}}\nhooks: {{before: [[{dead}/stop.sh]]}}\n"
        ),
    );
    // As many runs at once as there are targets would hide that one keeps the others waiting.
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write("config/site.yaml", &format!("{config}concurrency: {{runs: 2}}\n"));
}

#[test]
fn a_share_whose_server_is_gone_costs_its_own_targets_alone_and_the_daemon_still_ends() {
    let mut site = Site::new();
    let share = DeadShare::mount(site.path("dead"));
    assert!(DeadShare::hangs(&share.path("x"), Duration::from_secs(2)));
    site.base_config("\"0 3 * * *\"");
    configure(&site, &share);
    site.start();
    let pushed = prompt("the push", || site.push("all of it"));
    assert!(pushed.status.success() && text(&pushed).contains("applied"), "{}", text(&pushed));

    let sick = ["source", "secret", "by-password", "by-mount", "by-place", "hook"];
    let runs: Vec<String> = sick.iter().map(|target| start(&site, target)).collect();
    let well = start(&site, "files");
    for _ in 0..5 {
        prompt("system.status", || site.call("system.status", json!({})).unwrap());
        prompt("target.list", || site.call("target.list", json!({})).unwrap());
    }
    site.write(
        "config/more.yaml",
        &format!("kind: Target\nname: more\nplugin: files\nwith: {{paths: [{}/data]}}\n", site.root().display()),
    );
    let pushed = prompt("a push beside it", || site.push("one more"));
    assert!(text(&pushed).contains("applied"), "{}", text(&pushed));

    let ended: Vec<(String, String)> = runs.iter().map(|run| outcome(&site, run)).collect();
    for (target, (outcome, trouble)) in sick.iter().zip(&ended) {
        assert!(["deferred", "failed"].contains(&outcome.as_str()), "{target}: {outcome} {trouble}");
        assert!(trouble.contains("has not answered") && trouble.contains("/dead"), "{target}: {trouble}");
    }
    assert_eq!(outcome(&site, &well).0, "success");
    assert_eq!(site.run("more")["outcome"], "success");

    // What hangs is known now: it is said at once.
    let again = start(&site, "by-password");
    prompt("a second run", || outcome(&site, &again));
    // Operations, too.
    for (method, params) in [
        ("destination.check", json!({"destination": "place"})),
        ("destination.unlock", json!({"destination": "mount"})),
        ("restore.start", json!({"target": "files", "to": share.path("to")})),
    ] {
        let begun = prompt(method, || site.call(method, params.clone()).unwrap());
        let done = site.operation(&begun);
        assert!(done["trouble"]["message"].to_string().contains("has not answered"), "{method}: {done}");
    }
    let start = Instant::now();
    site.stop();
    assert!(start.elapsed() < Duration::from_secs(20), "SIGTERM took {:?}", start.elapsed());
    drop(share);
}

#[test]
fn a_run_that_waits_for_a_share_is_cancelled_and_a_daemon_with_it_is_stopped() {
    let mut site = Site::new();
    let share = DeadShare::mount(site.path("dead"));
    site.base_config("\"0 3 * * *\"");
    configure(&site, &share);
    site.start();
    assert!(site.push("all of it").status.success());
    let (one, two) = (start(&site, "source"), start(&site, "hook"));
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    site.call("run.cancel", json!({"run": one})).unwrap();
    assert_eq!(outcome(&site, &one).0, "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // The other one still waits.
    let begun = Instant::now();
    site.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "SIGTERM took {:?}", begun.elapsed());
    drop(share);
    // What was left is mended.
    site.start();
    assert!(["interrupted", "failed", "deferred", "cancelled"].contains(&outcome(&site, &two).0.as_str()));
}

#[test]
fn an_artifact_root_that_hangs_keeps_nobody_from_starting_the_daemon() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.start();
    assert!(site.push("first").status.success());
    site.stop();
    let share = DeadShare::mount(site.path("backups"));
    site.start();
    let run = start(&site, "files");
    let (ended, trouble) = outcome(&site, &run);
    assert_eq!(ended, "deferred", "{trouble}");
    assert!(trouble.contains("has not answered"), "{trouble}");
    let begun = Instant::now();
    site.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "SIGTERM took {:?}", begun.elapsed());
    drop(share);
}

#[test]
fn a_pipe_in_the_place_of_a_secret_is_refused_at_once() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    std::fs::remove_file(site.path("secrets/repository")).unwrap();
    nix::unistd::mkfifo(&site.path("secrets/repository"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    site.start();
    assert!(site.push("first").status.success());
    let record = prompt("the run", || site.run("files"));
    assert_eq!(record["outcome"], "failed");
    assert!(record["trouble"]["message"].as_str().unwrap().contains("is no regular file"), "{record}");
}

#[test]
fn what_hung_is_looked_at_anew_once_the_share_is_unmounted() {
    let mut site = Site::new();
    site.write("far/token", "a token of the test");
    site.write("far/data/x.txt", "what lies below the mount point\n");
    let share = DeadShare::mount(site.path("far"));
    site.base_config("\"0 3 * * *\"");
    site.write(
        "config/far.yaml",
        &format!("kind: Target\nname: far\nplugin: files\nwith: {{paths: [{}/far/data]}}\n", site.root().display()),
    );
    site.start();
    assert!(site.push("first").status.success());
    let (ended, trouble) = outcome(&site, &start(&site, "far"));
    assert!(ended != "success" && trouble.contains("has not answered"), "{ended}: {trouble}");
    // As the hint says; the server is there still and never answers.
    assert!(Command::new("umount").arg("-l").arg(site.path("far")).status().unwrap().success());
    assert_eq!(prompt("the run", || outcome(&site, &start(&site, "far"))).0, "success");
    site.stop();
    drop(share);
}

#[test]
fn a_pipe_in_the_place_of_the_watched_branch_is_over_when_the_branch_is_back() {
    let mut site = Site::running();
    let branch = site.path("larder.git/refs/heads/main");
    let head = std::fs::read(&branch).unwrap();
    std::fs::remove_file(&branch).unwrap();
    nix::unistd::mkfifo(&branch, nix::sys::stat::Mode::S_IRWXU).unwrap();
    wait_for("the incident", GIVEN_UP, || {
        let status = site.call("system.status", json!({})).ok()?;
        (status["config"]["state"] == "unreadable").then_some(())
    });
    std::fs::remove_file(&branch).unwrap();
    std::fs::write(&branch, head).unwrap();
    wait_for("the end of it", GIVEN_UP, || {
        let status = site.call("system.status", json!({})).ok()?;
        (status["ready"] == true).then_some(())
    });
    site.stop();
}

#[test]
fn a_share_at_which_as_many_looks_hang_as_may_is_refused_at_once_and_costs_nobody_else_anything() {
    let mut site = Site::new();
    let share = DeadShare::mount(site.path("far"));
    site.base_config("\"0 3 * * *\"");
    site.start_and_push();
    assert_eq!(outcome(&site, &start(&site, "files")).0, "success");
    let restore = |name: &str| {
        let params = json!({"target": "files", "to": share.path(name)});
        prompt("restore.start", || site.call("restore.start", params).unwrap())
    };
    let begun: Vec<_> = (0..70).map(|number| restore(&format!("to{number}"))).collect();
    prompt("system.status", || site.call("system.status", json!({})).unwrap());
    for operation in &begun {
        let done = site.operation(operation);
        assert!(done["trouble"]["message"].to_string().contains("has not answered"), "{done}");
    }
    // From now on nothing more is looked at there.
    for number in 70..75 {
        let done = prompt("one more", || site.operation(&restore(&format!("to{number}"))));
        assert!(done["trouble"]["message"].to_string().contains("has not answered"), "{done}");
    }
    let threads = || std::fs::read_dir(format!("/proc/{}/task", site.daemon_pid())).unwrap().count();
    assert!(threads() < 140, "{} threads", threads());
    let run = start(&site, "files");
    assert_eq!(prompt("a run beside it", || outcome(&site, &run)).0, "success");
    let pushed = prompt("a push beside it", || site.push("beside it"));
    assert!(pushed.status.success(), "{}", text(&pushed));

    // As the hint says; its server never answers, and there is room all the same.
    assert!(Command::new("umount").arg("-l").arg(site.path("far")).status().unwrap().success());
    wait_for("a restore to where the share was", Duration::from_secs(30), || {
        site.operation(&restore("anew"))["trouble"].is_null().then_some(())
    });
    let begun = Instant::now();
    site.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "SIGTERM took {:?}", begun.elapsed());
    drop(share);
}
