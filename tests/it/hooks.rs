//! Programs around a run: what they start lives on, and what is meant for the run ends with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::{free_port, restic, wait_for};

const SOON: Duration = Duration::from_secs(20);

/// A site whose target `files` has these hooks.
fn site_with(hooks: &str) -> Site {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    target(&site, "files", &format!("{{paths: [{}/data]}}", site.root().display()), hooks);
    site.start();
    site
}

fn target(site: &Site, plugin: &str, with: &str, hooks: &str) {
    let root = site.root().display().to_string();
    let hooks = hooks.replace("ROOT", &root);
    site.write(
        "config/targets.yaml",
        &format!("kind: Target\nname: files\nplugin: {plugin}\nwith: {with}\nhooks: {hooks}\n"),
    );
}

fn push(site: &Site) {
    let pushed = site.push("hooks");
    assert!(pushed.status.success(), "{}", text(&pushed));
}

fn script(site: &Site, name: &str, content: &str) {
    site.write(name, &format!("#!/bin/sh\n{content}\n"));
    std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn pid(path: &Path) -> i32 {
    wait_for("the pid", SOON, || std::fs::read_to_string(path).ok()?.trim().parse().ok())
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether the application goes on with its work, which it tells on its standard output, too.
fn works(site: &Site, name: &str) -> bool {
    let beats = || std::fs::read_to_string(site.path(name)).unwrap_or_default().len();
    let before = beats();
    wait_for("a sign of life", SOON, || (beats() > before).then_some(()));
    true
}

fn log(site: &Site, run: &Value) -> String {
    std::fs::read_to_string(site.path(&format!("state/logs/{}.log", run["id"].as_str().unwrap()))).unwrap()
}

/// Ends with the test.
struct App(i32);

impl Drop for App {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn an_application_that_a_hook_starts_lives_on_whatever_becomes_of_the_daemon() {
    let mut site = site_with("{after: [[ROOT/start.sh]], before: [[ROOT/daemonize.sh]]}");
    let root = site.root().display().to_string();
    // It talks all the time, into the pipe that the hook left it.
    let app = |name: &str| {
        format!(
            "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo a line of {name} || exit 1; echo x >> {root}/{name}.beats; sleep 0.05; done"
        )
    };
    script(&site, "start.sh", &format!("sh -c '{}' & echo $! > {root}/plain.pid; echo started", app("plain")));
    // Another session, and none of our marks.
    script(
        &site,
        "daemonize.sh",
        &format!("env -i PATH=$PATH setsid sh -c 'echo $$ > {root}/daemon.pid; {}' & sleep 0.3", app("daemon")),
    );
    push(&site);
    let run = site.run("files");
    assert_eq!(run["outcome"], "success", "{run}");
    let apps = [App(pid(&site.path("plain.pid"))), App(pid(&site.path("daemon.pid")))];
    let told = log(&site, &run);
    assert!(told.contains(&format!("process {} (sh) lives on", apps[0].0)) && told.contains("started"), "{told}");
    let took = run["finished"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = took.duration_since(run["started"].as_str().unwrap().parse().unwrap());
    assert!(took < jiff::SignedDuration::from_secs(20), "the hooks were over at once: {took:?}");

    let both = |site: &Site| works(site, "plain.beats") && works(site, "daemon.beats");
    assert!(both(&site));
    site.stop();
    assert!(both(&site), "it wrote into a pipe whose reader was gone");
    site.start();
    assert!(both(&site));
    site.kill();
    site.start();
    // The late look for what a crash left is over then.
    std::thread::sleep(Duration::from_secs(3));
    assert!(both(&site) && apps.iter().all(|app| lives(app.0)), "{}", site.log());
    // What hooks leave is no reason for the next run to be another.
    std::fs::write(site.path("start.sh"), "#!/bin/sh\ntrue\n").unwrap();
    std::fs::write(site.path("daemonize.sh"), "#!/bin/sh\ntrue\n").unwrap();
    assert_eq!(site.run("files")["outcome"], "success");
    assert!(lives(apps[0].0));
}

#[test]
fn what_a_failing_or_late_hook_started_is_ended() {
    let site = site_with("{before: [{command: [ROOT/bad.sh], timeout: 3s}]}");
    let root = site.root().display().to_string();
    for end in ["exit 3", "sleep 600"] {
        script(&site, "bad.sh", &format!("sleep 601 & echo $! > {root}/bad.pid; {end}"));
        push(&site);
        let run = site.run("files");
        assert_eq!(run["outcome"], "failed", "{run}");
        let left = pid(&site.path("bad.pid"));
        wait_for("the end of what it started", SOON, || (!lives(left)).then_some(()));
        std::fs::remove_file(site.path("bad.pid")).unwrap();
    }
}

#[test]
fn a_program_beside_the_run_is_there_for_it_and_gone_behind_it() {
    let site = site_with("{}");
    let port = free_port();
    let root = site.root().display().to_string();
    site.write("served/export.txt", "what is behind the tunnel\n");
    // Slow to come up, with a child of its own.
    script(
        &site,
        "tunnel.sh",
        &format!(
            "echo $$ > {root}/tunnel.pid; sleep 1; python3 -m http.server {port} --bind 127.0.0.1 --directory {root}/served; exit 4"
        ),
    );
    // The order of all, and that it is gone when `after` runs.
    script(&site, "after.sh", &format!("kill -0 $(cat {root}/tunnel.pid) && exit 5; touch {root}/after"));
    target(
        &site,
        "http",
        &format!("{{url: \"http://127.0.0.1:{port}/export.txt\", validate: [{{contains: tunnel}}]}}"),
        &format!(
            "{{before: [[touch, ROOT/before]], during: [{{command: [ROOT/tunnel.sh], ready: {{tcp: \"127.0.0.1:{port}\"}}}}], after: [[ROOT/after.sh]]}}"
        ),
    );
    push(&site);
    let run = site.run("files");
    assert_eq!(run["outcome"], "success", "{run} {}", log(&site, &run));
    assert!(site.path("before").exists() && site.path("after").exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the tunnel is closed");
    assert!(log(&site, &run).contains("hook during: ended"), "{}", log(&site, &run));
}

#[test]
fn a_program_beside_the_run_that_fails_is_the_runs_trouble() {
    let site = site_with("{}");
    let root = site.root().display().to_string();
    let paths = format!("{{paths: [{root}/data]}}");
    let trouble = |hooks: &str| {
        target(&site, "files", &paths, hooks);
        push(&site);
        let run = site.run("files");
        (run["outcome"].as_str().unwrap().to_owned(), run["trouble"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let (outcome, message) =
        trouble("{during: [[sh, -c, \"echo no route >&2; exit 7\"]], after: [[touch, ROOT/after]]}");
    assert_eq!(outcome, "failed");
    assert!(
        message.contains("during hook sh ended with exit code 7: no route, before the run was through"),
        "{message}"
    );
    assert!(site.path("after").exists(), "what `before` changed is mended all the same");

    let port = free_port();
    let (outcome, message) = trouble(&format!(
        "{{during: [{{command: [sleep, \"602.5\"], ready: {{tcp: \"127.0.0.1:{port}\"}}, timeout: 1s}}]}}"
    ));
    assert_eq!(outcome, "failed");
    assert!(message.contains(&format!("during hook sleep was not ready at 127.0.0.1:{port} within 1s")), "{message}");
    let (outcome, message) =
        trouble(&format!("{{during: [{{command: [\"true\"], ready: {{tcp: \"127.0.0.1:{port}\"}}}}]}}"));
    assert!(outcome == "failed" && message.contains("ended before it was ready"), "{message}");
    // One that had nothing more to do is fine.
    assert_eq!(trouble("{during: [[\"true\"]]}").0, "success");
    // A shell's sleep is no leftover of a run.
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("602.5"), "it was not ended");
    }
}

/// Whether a run of `more` begins while one of `files`, which has these hooks, waits for a look into the destination.
fn another_begins_while_it_is_looked_at(hooks: &str) -> bool {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/site.yaml", "keep_runs: 3}\n", "keep_runs: 3}\nconcurrency: {runs: 1}\n");
    let root = site.root().display().to_string();
    let script = format!(
        "for word in \"$@\"; do\n  [ \"$word\" = snapshots ] || continue\n  \
         while [ -e '{root}/halt' ]; do touch '{root}/looking'; sleep 0.05; done\ndone\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script);
    site.serve_with(&["--restic", wrapper.to_str().unwrap()]);
    site.targets(&["files", "more"]);
    site.edit("config/targets.yaml", "name: files\n", &format!("name: files\nhooks: {hooks}\n"));
    site.start_and_push();
    let _ = site.run("files");
    site.write("halt", "");
    let start = |name: &str| {
        let answer = site.call("run.start", json!({"target": name})).unwrap();
        answer["runs"][0].as_str().unwrap().to_owned()
    };
    let first = start("files");
    wait_for("the look into the destination", SOON, || site.path("looking").exists().then_some(()));
    let second = start("more");
    let begun = || site.call("run.get", json!({"run": second})).unwrap()["run"]["started"].is_string();
    let begins = (0..30).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        begun()
    });
    std::fs::remove_file(site.path("halt")).unwrap();
    for run in [first, second.clone()] {
        let run = site.finished(&run);
        assert_eq!(run["outcome"], "success", "{run}");
    }
    begins
}

#[test]
fn a_run_that_only_has_to_be_seen_is_in_nobodys_way_unless_its_hooks_hold_something() {
    assert!(another_begins_while_it_is_looked_at("{}"));
    // What it stopped is stopped until it is over, and no other one is stopped meanwhile beyond the limit.
    assert!(!another_begins_while_it_is_looked_at("{before: [{command: [/bin/true]}]}"));
}
