//! SIGKILL of the plugin and of the daemon at each step of stop, capture and start, and an engine that answers with
//! rubbish: the containers work afterwards.

use super::docker::{Project, docker};
use super::support::podman::{Gate, POLITE, Podman, STUBBORN, Spoil};
use super::*;
use crate::site::{Site, text};
use larder::plugin::{Call, CaptureInputs};

/// As soon as it works there.
pub(super) fn plugin_in(staging: &Path) -> i32 {
    support::wait_for("the plugin's process", Duration::from_secs(20), || super::plugin_of(staging))
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Kills the plugin when `held` is asked for once more than `pass` times, and has the host recover.
fn killed_at(stop: &str, held: &str, pass: usize, meanwhile: &[&str]) {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let gate = Gate::before(&podman.socket());
    let bench = docker(&gate.socket(), json!({"project": project.name, "stop": stop, "stop_timeout": 2}));
    gate.hold(held, pass);
    let journal = bench.journal();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let inputs = CaptureInputs { journal: Some(journal.clone()), ..CaptureInputs::default() };
            let (staging, context) = (bench.staging(), bench.context());
            let (target, limits) = (&bench.target, bench.limits);
            runtime().block_on(bench.catalogue.capture(
                &Call { target, run: bench.run, staging: &staging, inputs: &inputs, context: &context, limits },
                |_, _| {},
            ))
        });
        gate.wait();
        assert_eq!(project.states(&podman), meanwhile, "while {held} waits");
        kill(plugin_in(&bench.staging()));
        assert_eq!(running.join().unwrap().unwrap_err().trouble.code, "plugin_killed");
    });
    gate.release();
    assert!(std::fs::read_dir(&journal).unwrap().next().is_some(), "the journal knows what is to be put back");
    bench.put_right();
    assert_eq!(project.states(&podman), ["running", "running"]);
    assert_eq!(std::fs::read_dir(&journal).unwrap().count(), 0);
}

#[test]
fn killed_before_the_first_stop() {
    killed_at("stop", "/stop", 0, &["running", "running"]);
}

#[test]
fn killed_between_two_stops() {
    killed_at("stop", "/stop", 1, &["running", "exited"]);
}

#[test]
fn killed_while_the_files_are_read() {
    killed_at("stop", "/archive", 0, &["exited", "exited"]);
}

#[test]
fn killed_before_the_first_start() {
    killed_at("stop", "/start", 0, &["exited", "exited"]);
}

#[test]
fn killed_between_two_starts() {
    killed_at("stop", "/start", 1, &["running", "exited"]);
}

#[test]
fn killed_while_paused() {
    killed_at("pause", "/archive", 0, &["paused", "paused"]);
    killed_at("pause", "/unpause", 0, &["paused", "paused"]);
}

#[test]
fn a_stop_that_comes_after_its_asker_died_is_undone_too() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, STUBBORN);
    let bench = docker(&podman.socket(), json!({"project": project.name, "stop": "stop", "stop_timeout": 3}));
    let journal = bench.journal();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let inputs = CaptureInputs { journal: Some(journal.clone()), ..CaptureInputs::default() };
            let (staging, context) = (bench.staging(), bench.context());
            let (target, limits) = (&bench.target, bench.limits);
            runtime().block_on(bench.catalogue.capture(
                &Call { target, run: bench.run, staging: &staging, inputs: &inputs, context: &context, limits },
                |_, _| {},
            ))
        });
        let noted = || std::fs::read_dir(&journal).unwrap().flatten().next();
        support::wait_for("the note", Duration::from_secs(30), noted);
        std::thread::sleep(Duration::from_millis(500));
        kill(plugin_in(&bench.staging()));
        running.join().unwrap().unwrap_err();
    });
    bench.put_right();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(project.states(&podman), ["running", "running"]);
}

#[test]
fn a_container_that_was_removed_meanwhile_is_not_waited_for() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let bench = docker(&podman.socket(), json!({"project": project.name, "stop": "stop"}));
    let note = json!({"id": "f".repeat(64), "name": project.of("app"), "how": "stop", "putting_back": true,
        "asked": jiff::Timestamp::now(), "stop_timeout_s": 5});
    std::fs::write(bench.journal().join("00000-x.json"), note.to_string()).unwrap();
    bench.put_right();
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
}

#[test]
fn a_daemon_that_is_killed_while_containers_stand_still_starts_them_again() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let gate = Gate::before(&podman.socket());
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let with = format!(
        "{{socket: {}, project: {}, stop: stop, stop_timeout: 2, compose_files: false}}",
        gate.socket().display(),
        project.name
    );
    site.write("config/app.yaml", &format!("kind: Target\nname: app\nplugin: docker\nwith: {with}\n"));
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    gate.hold("/archive", 0);
    let run = site.call("run.start", json!({"target": "app"})).unwrap()["runs"][0].as_str().unwrap().to_owned();
    gate.wait();
    assert_eq!(project.states(&podman), ["exited", "exited"]);
    site.kill();
    gate.release();
    site.start();
    support::wait_for("both containers", Duration::from_secs(60), || {
        (project.states(&podman) == ["running", "running"]).then_some(())
    });
    let record = site.call("run.get", json!({"run": run})).unwrap()["run"].clone();
    assert_eq!(record["outcome"], "interrupted", "{record}");
    support::wait_for("the end of the journal", Duration::from_secs(60), || {
        (std::fs::read_dir(site.path("state/journal")).unwrap().count() == 0).then_some(())
    });
    let next = site.run("app");
    assert_eq!(next["outcome"], "success", "{next}");
    assert_eq!(project.states(&podman), ["running", "running"]);
}

#[test]
fn no_damage_on_the_way_from_the_engine_becomes_a_backup_and_nothing_stays_stopped() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n";
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let gate = Gate::before(&podman.socket());
    let mut bench = docker(&gate.socket(), json!({"project": project.name, "stop": "stop", "stop_timeout": 2}));
    let html: &str = Box::leak(format!("{OK}Content-Length: 17\r\n\r\n<html>hello</html").into_boxed_str());
    let empty: &str = Box::leak(format!("{OK}Content-Length: 0\r\n\r\n").into_boxed_str());
    let huge: &str = Box::leak(format!("{OK}Content-Length: 10737418240\r\n\r\nx").into_boxed_str());
    for (pattern, how) in [
        ("/archive", Spoil::CutAfter(4_000)),
        ("/archive", Spoil::CutAfter(600_000)),
        ("/archive", Spoil::Answer(html)),
        ("/archive", Spoil::Answer(empty)),
        ("/archive", Spoil::Answer(huge)),
        ("/archive", Spoil::Answer("")),
        ("/containers/json", Spoil::Answer(html)),
        ("/containers/json", Spoil::CutAfter(300)),
        ("/stop", Spoil::Answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")),
    ] {
        gate.spoil(pattern, how.clone());
        bench.again();
        let failure = bench.capture_docker().expect_err("no damage is a backup");
        assert!(failure.trouble.hint.is_some(), "{pattern} {how:?}: {failure}");
        assert_eq!(project.states(&podman), ["running", "running"], "{pattern} {how:?}: {failure}");
        gate.mend();
    }
    // Silence is the host's to end; what stands still then is what the journal is for.
    bench.limits.no_progress = Some(Duration::from_secs(3));
    gate.spoil("/archive", Spoil::Silence(huge));
    bench.again();
    let failure = bench.capture_unlooked().unwrap_err();
    assert_eq!(failure.trouble.code, "no_progress", "{failure}");
    gate.mend();
    bench.put_right();
    assert_eq!(project.states(&podman), ["running", "running"]);
    bench.limits.no_progress = None;
    bench.again();
    bench.capture_docker().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
}
