//! Holds through the whole daemon on real repositories: time never ends one, and only the value that is shown accepts it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::process_clock::ProcessClock;
use crate::site::{Site, text};
use crate::support::wait_for;

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

/// A site whose policy keeps the newest two snapshots, with mail that nobody takes.
fn keeping_two() -> Site {
    let site = Site::new();
    configure(&site);
    site
}

fn configure(site: &Site) {
    site.base_config("\"0 3 * * *\"");
    for (file, from, to) in [
        ("config/policies.yaml", "{last: 3}", "{last: 2}"),
        (
            "config/site.yaml",
            "keep_runs: 3}\n",
            "keep_runs: 2}\nemail: {smtp: \"smtp+plain://127.0.0.1:9\", from: l@t.lan, to: [me@t.lan]}\n",
        ),
    ] {
        let text = std::fs::read_to_string(site.path(file)).unwrap();
        assert!(text.contains(from), "{text}");
        site.write(file, &text.replace(from, to));
    }
}

fn start(site: &mut Site) {
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
}

fn accept(site: &Site, value: &str) -> (i32, String) {
    let done = site.command().args(["accept", "files", value]).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

/// Subjects of the mails that wait, oldest first; stops the daemon, since an export needs the store.
fn subjects(site: &mut Site) -> Vec<String> {
    site.stop();
    let done = site.command().args(["export", "-"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line["value"]["subject"].as_str().map(str::to_owned))
        .collect()
}

/// Whether a snapshot of the repository has the file.
fn has(site: &Site, snapshot: &Value, file: &str) -> bool {
    let path = site.path(file).display().to_string();
    let id = snapshot["id"].as_str().unwrap();
    let done = std::process::Command::new(crate::support::restic())
        .args(["-r", site.path("restic").to_str().unwrap(), "--no-cache", "ls", id])
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/repository"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    String::from_utf8_lossy(&done.stdout).lines().any(|line| line == path)
}

#[test]
fn a_source_that_stays_small_is_held_for_ever_until_somebody_accepts_its_size() {
    let mut site = keeping_two();
    start(&mut site);
    site.write("data/large", &"x".repeat(1_000_000));
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_file(site.path("data/large")).unwrap();
    for run in 0..7 {
        let record = site.run("files");
        assert_eq!(
            (outcome(&record), &record["trouble"]["code"]),
            ("partial", &json!("shrank")),
            "run {run}: {record}"
        );
    }
    let snapshots = site.snapshots("restic");
    assert_eq!(snapshots.iter().filter(|each| has(&site, each, "data/large")).count(), 2, "the good ones stay");
    // Of the local artifacts, as many of before stay as of since.
    let publications = std::fs::read_dir(site.path("backups/files")).unwrap().flatten();
    let publications = publications.flat_map(|day| std::fs::read_dir(day.path()).unwrap().flatten()).count();
    assert_eq!(publications, 4);

    // What is held, since when, and what to type.
    let job = site.job("files");
    assert_eq!((&job["state"], &job["health"]), (&json!("warning"), &json!("warning")), "{job}");
    let hold = &job["holds"][0];
    assert_eq!((&hold["kind"], job["holds"].as_array().unwrap().len()), (&json!("shrank"), 1), "{job}");
    let first_held = site.runs("files")[6].clone();
    assert_eq!(hold["since"], first_held["started"], "since the first run that found it");
    let value = hold["value"].as_str().unwrap().to_owned();
    let command = format!("larder accept files {value}");
    let status = text(&site.command().arg("status").output().unwrap());
    assert!(status.contains(&command) && status.contains("held since"), "{status}");
    assert!(!status.contains("Everything is proven"), "{status}");
    let page = site.get("/targets/files.html");
    assert!(page.contains(&command) && page.contains("Held since"), "{page}");
    assert!(site.get("/metrics").contains("larder_job_held{policy=\"daily\",target=\"files\"} 1"));

    // Nothing but the value accepts.
    for wrong in ["1", "1000000", "yes", "0"] {
        let (code, said) = accept(&site, wrong);
        assert!(code == 1 && said.contains(&command), "{wrong}: {code} {said}");
    }
    assert_eq!(site.job("files")["holds"].as_array().unwrap().len(), 1);
    // It survives a power cut.
    site.kill();
    site.start();
    assert_eq!(site.job("files")["holds"][0]["since"], hold["since"]);
    let (code, said) = accept(&site, &value);
    assert!(code == 0 && said.contains("accepted"), "{code} {said}");
    assert_eq!(site.job("files")["holds"], json!([]));
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 2, "`last: 2` is applied again");
    assert_eq!(outcome(&site.run("files")), "success");

    let said = subjects(&mut site);
    let count = |word: &str| said.iter().filter(|subject| subject.contains(word)).count();
    assert_eq!((said.len(), count("Held:"), count("Hold accepted:")), (2, 1, 1), "{said:?}");
}

#[test]
fn a_hold_ends_by_itself_when_the_size_is_usual_again_and_keeps_what_the_policy_says() {
    let mut site = keeping_two();
    start(&mut site);
    site.write("data/large", &"x".repeat(1_000_000));
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_file(site.path("data/large")).unwrap();
    for _ in 0..4 {
        assert_eq!(outcome(&site.run("files")), "partial");
    }
    site.write("data/large", &"y".repeat(900_000));
    assert_eq!(outcome(&site.run("files")), "success");
    let job = site.job("files");
    assert_eq!((&job["holds"], &job["health"]), (&json!([]), &json!("proven")), "{job}");
    assert_eq!(site.snapshots("restic").len(), 2);
    let said = subjects(&mut site);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("Held:") && said[1].contains("Recovered:"), "{said:?}");
}

#[test]
fn what_git_accepts_ends_the_hold_that_shows_this_value_and_no_other() {
    let mut site = keeping_two();
    start(&mut site);
    site.write("data/large", &"x".repeat(1_000_000));
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{targets}accept: [12345]\n"));
    let pushed = site.push("accept another size");
    assert!(pushed.status.success(), "{}", text(&pushed));
    std::fs::remove_file(site.path("data/large")).unwrap();
    assert_eq!(outcome(&site.run("files")), "partial");
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();

    site.write("config/targets.yaml", &format!("{targets}accept: [{value}]\n"));
    let pushed = site.push("accept what is shown");
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(site.job("files")["holds"], json!([]));
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 2);
}

#[test]
fn a_held_job_is_told_once_reminded_of_once_a_week_and_told_at_its_end() {
    let mut site = keeping_two();
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
    start(&mut site);
    site.write("data/large", &"x".repeat(1_000_000));
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_file(site.path("data/large")).unwrap();
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "partial");
    }
    let reminders = |site: &Site| site.log().matches("the job is still held").count();
    for (now, expected) in [
        ("2026-11-28T12:00:00Z", 0),
        ("2026-11-29T12:30:00Z", 1),
        ("2026-12-05T12:00:00Z", 1),
        ("2026-12-06T13:00:00Z", 2),
    ] {
        clock.turn_and_look(&site, now);
        if expected > reminders(&site) {
            wait_for("the reminder", Duration::from_secs(90), || (reminders(&site) == expected).then_some(()));
        }
        assert_eq!(reminders(&site), expected, "at {now}: {}", site.log());
    }
    assert_eq!(site.job("files")["holds"][0]["kind"], "shrank", "time ends nothing");
    let said = subjects(&mut site);
    let still = said.iter().filter(|each| each.contains("Still held: files/daily")).count();
    assert!(still >= 1 && said.iter().filter(|each| each.contains("] Held:")).count() <= 1, "{said:?}");
}
