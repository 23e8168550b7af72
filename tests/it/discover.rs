//! What a real engine has and no target covers: shown, counted, given targets, and proposed by `larder init`.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::site::{Site, text};
use crate::support::podman::{POLITE, Podman};
use crate::support::{larder, wait_for};

fn project(podman: &Podman) -> String {
    let name = format!("d{}", ulid::Ulid::new().to_string().to_lowercase());
    let label = format!("com.docker.compose.project={name}");
    let volume = format!("{name}_data:/data");
    podman.start_container(&format!("{name}-app-1"), &["--label", &label, "-v", &volume], "localtest:1", POLITE);
    podman.exec(&format!("{name}-app-1"), "echo hello > /data/f");
    name
}

fn discovering(socket: &str, auto: bool, exclude: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    write_site(&site, socket, auto, exclude);
    site
}

fn write_site(site: &Site, socket: &str, auto: bool, exclude: &str) {
    let root = site.root().display();
    site.write(
        "config/site.yaml",
        &format!(
            "kind: Site\nname: test\ntimezone: UTC\nartifacts: {{path: {root}/backups, min_free: 1MiB, keep_runs: 3}}\n\
             discover: {{socket: {socket}, auto: {auto}, exclude: [{exclude}]}}\n"
        ),
    );
}

fn status(site: &Site) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(site.path("state/pages/current/status.json")).ok()?).ok()
}

fn uncovered(site: &Site) -> Option<Vec<String>> {
    let discovery = status(site)?["discovery"].clone();
    let all = discovery["uncovered"].as_array()?.iter();
    (discovery["known"] == true).then(|| all.map(|each| each["name"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn a_project_that_no_target_covers_is_shown_until_one_does() {
    let Some(podman) = Podman::shared() else { return };
    let name = project(&podman);
    let socket = podman.socket().display().to_string();
    let mut site = discovering(&socket, false, "unused");
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    wait_for("the uncovered project", Duration::from_secs(60), || uncovered(&site)?.contains(&name).then_some(()));
    let page = std::fs::read_to_string(site.path("state/pages/current/index.html")).unwrap();
    assert!(page.contains("Uncovered") && page.contains(&name));
    site.write(
        "config/app.yaml",
        &format!("kind: Target\nname: app\nplugin: docker\nwith: {{socket: {socket}, project: {name}}}\n"),
    );
    assert!(site.push("cover it").status.success());
    wait_for("a covered project", Duration::from_secs(60), || (!uncovered(&site)?.contains(&name)).then_some(()));
}

#[test]
fn with_auto_a_project_gets_a_target_that_is_orphaned_when_the_project_is_gone() {
    let Some(podman) = Podman::shared() else { return };
    let name = project(&podman);
    let target = format!("compose-{name}");
    let socket = podman.socket().display().to_string();
    let mut site = discovering(&socket, true, "unused");
    site.start();
    assert!(site.push("first").status.success());
    let job = |site: &Site| {
        let targets = status(site)?["targets"].as_array()?.clone();
        targets.into_iter().find(|each| each["name"] == target.as_str())
    };
    wait_for("the derived target", Duration::from_secs(60), || job(&site).filter(|each| each["enabled"] == true));
    let run = site.run(&target);
    assert!(matches!(run["outcome"].as_str(), Some("success" | "partial")), "{run}");
    assert!(!uncovered(&site).unwrap().contains(&name));
    // A restart and a push change nothing of it.
    site.kill();
    site.start();
    site.write("config/note.yaml", "# nothing\n");
    assert!(site.push("a comment").status.success());
    assert_eq!(job(&site).unwrap()["jobs"][0]["orphaned_since"], Value::Null);

    // What was discovered does not outweigh what a push takes away.
    let kept = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    std::fs::remove_file(site.path("config/targets.yaml")).unwrap();
    let held = site.push("no target of its own");
    assert!(text(&held).contains("confirm"), "{}", text(&held));
    site.write("config/targets.yaml", &kept);
    assert!(site.push("back again").status.success());

    podman.podman(&["rm", "-f", "-t", "0", &format!("{name}-app-1")]);
    write_site(&site, &socket, true, "unused, other");
    assert!(site.push("look again").status.success());
    let gone = wait_for("the orphaned target", Duration::from_secs(60), || {
        job(&site).filter(|each| each["jobs"][0]["state"] == "orphaned")
    });
    assert_eq!(gone["jobs"][0]["last_success"]["outcome"].as_str().or(Some("partial")), run["outcome"].as_str());
}

#[test]
fn an_engine_that_does_not_answer_is_shown_as_unknown() {
    let mut site = discovering("/nowhere/engine.sock", true, "unused");
    site.start();
    assert!(site.push("first").status.success());
    let view = wait_for("the answer", Duration::from_secs(60), || {
        status(&site).filter(|view| view["discovery"]["problem"]["code"] == "engine_unreachable")
    });
    assert_eq!(view["discovery"]["known"], false);
    assert_ne!(view["verdict"]["health"], "proven");
    let page = std::fs::read_to_string(site.path("state/pages/current/index.html")).unwrap();
    assert!(page.contains("does not answer"), "{page}");
}

#[test]
fn init_proposes_what_the_engine_has_and_its_config_passes_check() {
    let Some(podman) = Podman::shared() else { return };
    let name = project(&podman);
    let database = format!("db{}", ulid::Ulid::new().to_string().to_lowercase());
    podman.podman(&["create", "--name", &database, "postgres:15", "sh"]);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("config");
    let run = |args: &[&str]| {
        let mut command = Command::new(larder());
        command.args(args).env("HOME", home.path()).env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap()
    };
    let state = home.path().join("state").display().to_string();
    let socket = podman.socket().display().to_string();
    let made = run(&["--state", &state, "init", dir.to_str().unwrap(), "--docker", &socket]);
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains(&format!("saw the compose project {name}")), "{}", text(&made));
    assert!(text(&made).contains(&format!("saw the database container {database}")), "{}", text(&made));
    let targets = std::fs::read_to_string(dir.join("targets.yaml")).unwrap();
    assert!(targets.contains(&format!("project: \"{name}\"")) && targets.contains(&database), "{targets}");
    let checked = run(&["check", dir.to_str().unwrap()]);
    assert!(checked.status.success(), "{}\n{targets}", text(&checked));

    let other = home.path().join("other");
    let refused = run(&["--state", &state, "init", other.to_str().unwrap(), "--docker", "/nowhere/engine.sock"]);
    assert!(!refused.status.success() && text(&refused).contains("/nowhere/engine.sock"), "{}", text(&refused));
}
