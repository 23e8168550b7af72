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
        site.edit(file, from, to);
    }
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
    site.start_and_push();
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
    site.start_and_push();
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
    const PADDING: usize = 100;
    let mut site = keeping_two();
    site.start_and_push();
    site.write("data/padding", &"p".repeat(PADDING));
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

    // What stays in Git accepted that loss; the same again is another one, which the command accepts.
    let bytes = |value: &str| value.parse::<usize>().unwrap();
    // The first is another, which the command accepts: that does not make the value in Git new again.
    let mut padding = PADDING + 7;
    let held_again = (0..8).any(|_| {
        site.write("data/large", &"z".repeat(1_000_000));
        site.write("data/padding", &"p".repeat(padding));
        for _ in 0..2 {
            assert_eq!(outcome(&site.run("files")), "success");
        }
        std::fs::remove_file(site.path("data/large")).unwrap();
        assert_eq!(outcome(&site.run("files")), "partial");
        let hold = site.job("files")["holds"][0].clone();
        let again = hold["value"].as_str().unwrap().to_owned();
        let is_same = again == value;
        // A manifest is some bytes shorter when its time ends with zeros: the next loss makes up for that.
        padding = padding + bytes(&value) - bytes(&again);
        if is_same {
            assert!(site.push("again").status.success());
            assert_eq!(outcome(&site.run("files")), "partial");
            assert!(site.snapshots("restic").iter().any(|snapshot| has(&site, snapshot, "data/large")));
        }
        assert_eq!(accept(&site, &again).0, 0);
        assert_eq!(outcome(&site.run("files")), "success");
        is_same
    });
    assert!(held_again, "no loss came to {value} bytes again");
}

#[test]
fn a_held_job_is_told_once_reminded_of_once_a_week_and_told_at_its_end() {
    let mut site = keeping_two();
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
    site.start_and_push();
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

#[test]
fn a_source_that_loses_a_little_each_night_is_held_when_half_is_gone() {
    let mut site = keeping_two();
    site.start_and_push();
    (0..50).for_each(|n| site.write(&format!("data/docs/{n}.txt"), &format!("{n}").repeat(10_000)));
    assert_eq!(outcome(&site.run("files")), "success");
    let mut left = 50;
    let held = (0..12).find_map(|night| {
        let keep = left * 88 / 100;
        (keep..left).for_each(|n| std::fs::remove_file(site.path(&format!("data/docs/{n}.txt"))).unwrap());
        left = keep;
        let run = site.run("files");
        (outcome(&run) != "success").then_some((night, run))
    });
    let (night, run) = held.unwrap();
    assert!((4..=6).contains(&night) && (18..=25).contains(&left), "night {night}, {left} are left");
    assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("shrank")), "{run}");
    assert!(run["trouble"]["message"].as_str().unwrap().contains("losing a little each time"), "{run}");
    // From here on nothing more is lost, until somebody says that it is right.
    for there in [4, 5] {
        assert_eq!(outcome(&site.run("files")), "partial");
        assert_eq!(site.snapshots("restic").len(), there);
    }
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(accept(&site, &value).0, 0);
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 2);
}

#[test]
fn two_thousand_documents_lost_beside_one_large_file_are_held() {
    let mut site = keeping_two();
    site.start_and_push();
    site.write("data/large", &"x".repeat(20_000_000));
    for n in 0..2000 {
        site.write(&format!("data/docs/{n}.txt"), "a document\n");
    }
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_dir_all(site.path("data/docs")).unwrap();
    for _ in 0..4 {
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
    }
    assert!(site.snapshots("restic").iter().filter(|each| has(&site, each, "data/docs/7.txt")).count() == 2);
}

#[test]
fn a_small_source_that_lost_its_files_beside_a_large_one_is_held_and_named() {
    let mut site = keeping_two();
    let root = site.root().display().to_string();
    site.write(
        "config/targets.yaml",
        &format!("kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data, {root}/small]}}\n"),
    );
    site.write("data/large", &"x".repeat(5_000_000));
    (0..6).for_each(|n| site.write(&format!("small/{n}"), "some text\n"));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    (1..6).for_each(|n| std::fs::remove_file(site.path(&format!("small/{n}"))).unwrap());
    let record = site.run("files");
    assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
    let said = record["trouble"]["message"].as_str().unwrap();
    assert!(said.contains(&format!("{root}/small has 10 B instead of about 60 B")), "{said}");
}

/// A real mount, which needs root; it ends with the test.
pub(crate) struct Mounted(std::path::PathBuf);

impl Mounted {
    pub(crate) fn new(point: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&point).unwrap();
        let done = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point).output().unwrap();
        assert!(done.status.success(), "this test mounts a file system and needs root: {}", text(&done));
        Self(point)
    }

    /// One that the test made itself.
    pub(crate) fn at(point: std::path::PathBuf) -> Self {
        Self(point)
    }

    pub(crate) fn away(&self) {
        assert!(std::process::Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

#[test]
fn a_mount_below_a_source_that_went_away_is_named_and_held_until_it_is_back_or_accepted() {
    let mut site = keeping_two();
    let point = site.path("data/docs");
    let mounted = Mounted::new(point.clone());
    site.write("data/docs/deed.txt", "a deed\n");
    site.write("data/large", &"x".repeat(100_000));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    mounted.away();
    for _ in 0..3 {
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("lost_mount")), "{record}");
        assert!(record["trouble"]["message"].as_str().unwrap().contains(point.to_str().unwrap()), "{record}");
    }
    assert_eq!(site.snapshots("restic").iter().filter(|each| has(&site, each, "data/docs/deed.txt")).count(), 1);

    let mounted = Mounted::new(point.clone());
    assert_eq!(outcome(&site.run("files")), "partial", "mounted, but empty");
    site.write("data/docs/deed.txt", "a deed\n");
    assert_eq!(outcome(&site.run("files")), "success");
    mounted.away();
    assert_eq!(outcome(&site.run("files")), "partial");
    let (code, said) = accept(&site, site.path("data").to_str().unwrap());
    assert_eq!(code, 1, "{said}");
    let (code, said) = accept(&site, point.to_str().unwrap());
    assert_eq!(code, 0, "{said}");
    assert_eq!(outcome(&site.run("files")), "success");
}

#[test]
fn of_many_mounts_and_those_with_long_paths_every_one_is_missed_also_after_a_restart() {
    let mut site = keeping_two();
    let long = format!("data/{}/{}", "x".repeat(150), "y".repeat(150));
    let many: Vec<String> = (100..160).map(|n| format!("data/m{n}")).chain([long]).collect();
    let mounted: Vec<Mounted> = many.iter().map(|at| Mounted::new(site.path(at))).collect();
    for at in &many {
        site.write(&format!("{at}/file"), "here\n");
    }
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    site.stop();
    site.start();
    for (index, shown) in [(60, "yyy#"), (59, "data/m159")] {
        mounted[index].away();
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("lost_mount")), "{record}");
        assert!(record["trouble"]["message"].as_str().unwrap().contains(shown), "{record}");
        let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
        assert_eq!(accept(&site, &value).0, 0, "{value}");
        assert_eq!(outcome(&site.run("files")), "success");
    }
}

/// A site with eight snapshots of a policy that keeps a hundred, and the text of its policies with `last: N` in it.
fn eight_of_a_hundred() -> (Site, String) {
    let mut site = keeping_two();
    let policies = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap().replace("last: 2", "last: N");
    site.write("config/policies.yaml", &policies.replace("last: N", "last: 100"));
    site.start_and_push();
    for _ in 0..8 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    (site, policies)
}

#[test]
fn a_push_that_cuts_a_retention_is_held_and_says_what_it_would_forget() {
    let (site, policies) = eight_of_a_hundred();
    site.write("config/policies.yaml", &policies.replace("last: N", "last: 3"));
    let pushed = text(&site.push("cut"));
    assert!(pushed.contains("held"), "{pushed}");
    assert!(pushed.contains("would forget 5 of 8 snapshots") && pushed.contains(", from 20"), "{pushed}");
    assert_eq!(outcome(&site.run("files")), "success", "the config before is in force");
    assert_eq!(site.snapshots("restic").len(), 9);
    let revision = text(&site.git(&["rev-parse", "HEAD"])).trim().to_owned();
    let confirmed = site.command().args(["confirm", &revision]).output().unwrap();
    assert!(confirmed.status.success(), "{}", text(&confirmed));
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");
    assert_eq!(site.snapshots("restic").len(), 3);
}

/// A policy can change while its job is away; then no push is about its snapshots.
#[test]
fn a_cut_that_no_push_could_show_forgets_nothing_until_the_number_is_accepted() {
    let (site, policies) = eight_of_a_hundred();
    let other = policies.replace("name: daily\ndefault: true", "name: other").replace("last: N", "last: 100");
    let daily = |last: &str| format!("{}---\n{other}", policies.replace("last: N", last));
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/policies.yaml", &daily("last: 100"));
    site.write("config/targets.yaml", &format!("{targets}policies: [other]\n"));
    assert!(site.push("another policy").status.success());
    site.write("config/policies.yaml", &daily("last: 3"));
    assert!(site.push("a cut of what nobody uses").status.success());
    site.write("config/targets.yaml", &format!("{targets}policies: [daily]\n"));
    let pushed = site.push("back again");
    assert!(pushed.status.success() && text(&pushed).contains("applied"), "{}", text(&pushed));

    let record = site.run("files");
    assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("retention_cut")), "{record}");
    let said = record["trouble"]["message"].as_str().unwrap();
    assert!(said.contains("forget 6 of 9 snapshots in local") && said.contains("from 20"), "{said}");
    assert_eq!(outcome(&site.run("files")), "partial");
    assert_eq!(site.snapshots("restic").len(), 10);
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!(accept(&site, &value).0, 0);
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 3);
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    assert_eq!(site.snapshots("restic").len(), 3);
}

#[test]
fn a_policy_with_a_new_name_is_no_way_around_a_hold() {
    let mut site = keeping_two();
    site.write("data/large", &"x".repeat(3_000_000));
    site.start_and_push();
    assert_eq!(outcome(&site.run("files")), "success");
    std::fs::remove_file(site.path("data/large")).unwrap();
    assert_eq!(outcome(&site.run("files")), "partial");
    let policies = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policies.replace("name: daily", "name: nightly"));
    let pushed = site.push("a new name");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let record = site.run("files");
    assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
    assert_ne!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "proven");
    site.write("data/large", &"x".repeat(3_000_000));
    assert_eq!(outcome(&site.run("files")), "success");
}

/// A plugin whose proof of the rows comes to what the file `verdict` in the site says.
const ROWS: &str = r#"#!/bin/sh
case "$1" in
describe) echo '{"event":"description","summary":"rows","settings":{"type":"object","additionalProperties":false}}' ;;
capture) echo kept > kept.txt; echo '{"event":"artifact","path":"kept.txt"}' ;;
validate)
  echo '{"event":"validation","name":"it is whole","verdict":"proven"}'
  echo '{"event":"validation","name":"all rows","verdict":"'$(cat VERDICT)'","detail":"the server does not let them be counted"}' ;;
esac
exit 0
"#;

#[test]
fn a_proof_that_is_missing_holds_until_it_is_made_or_accepted_and_the_same_later_is_another() {
    let mut site = crate::notice::with_plugin("rows", ROWS);
    site.edit("plugins/rows", "VERDICT", site.path("verdict").to_str().unwrap());
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    site.write("verdict", "proven");
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:00Z");
    site.start_and_push();
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    let proven: Vec<Value> = site.snapshots("restic").iter().map(|each| each["id"].clone()).collect();
    assert_eq!(proven.len(), 2);
    let stay = |site: &Site| {
        let there: Vec<Value> = site.snapshots("restic").iter().map(|each| each["id"].clone()).collect();
        assert!(proven.iter().all(|id| there.contains(id)), "{proven:?} {there:?}");
        there.len()
    };
    let unproven = |site: &Site| {
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("could_not_verify")), "{run}");
        assert!(run["trouble"]["message"].to_string().contains("all rows: the server does not let"), "{run}");
        stay(site)
    };
    // Neither runs nor weeks nor a restart end it.
    site.write("verdict", "could_not_verify");
    for there in 3..6 {
        assert_eq!(unproven(&site), there);
    }
    // By steps that a machine may have slept through.
    for (now, there) in [("2026-11-26T12:00:00Z", 6), ("2026-11-30T12:00:00Z", 7), ("2026-12-04T12:00:00Z", 8)] {
        clock.turn_and_look(&site, now);
        assert_eq!(unproven(&site), there);
    }
    site.stop();
    site.start();
    let job = site.job("files");
    let hold = &job["holds"][0];
    assert_eq!((&hold["kind"], &hold["value"]), (&json!("missing_proof"), &json!("all rows")), "{job}");
    assert_eq!((&job["state"], &job["health"]), (&json!("warning"), &json!("warning")), "{job}");
    assert!(hold["since"].as_str().unwrap().starts_with("2026-11-22"), "{hold}");
    let command = "larder accept files &#x27;all rows&#x27;";
    wait_for("the page", Duration::from_secs(20), || {
        let page = site.get("/targets/files.html");
        (page.contains("Held since") && (page.contains(command) || page.contains("'all rows'"))).then_some(())
    });
    let status = text(&site.command().arg("status").output().unwrap());
    assert!(status.contains("larder accept files 'all rows'") && !status.contains("Everything is proven"), "{status}");
    assert_eq!(accept(&site, "it is whole").0, 1);

    // Accepted: it is still not proven, and holds nothing any more.
    assert_eq!(accept(&site, "all rows").0, 0);
    assert_eq!(site.job("files")["holds"], json!([]));
    for _ in 0..2 {
        let run = site.run("files");
        assert_eq!((outcome(&run), &run["trouble"]["code"]), ("partial", &json!("could_not_verify")), "{run}");
        assert_eq!(site.job("files")["holds"], json!([]));
    }
    assert_eq!(site.snapshots("restic").len(), 2);

    // It is made again, so that it is missing later is another matter.
    site.write("verdict", "proven");
    for _ in 0..2 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    site.write("verdict", "could_not_verify");
    for there in [3, 4] {
        assert_eq!(outcome(&site.run("files")), "partial");
        assert_eq!(site.snapshots("restic").len(), there);
    }
    assert_eq!(site.job("files")["holds"][0]["value"], "all rows");
    site.write("verdict", "proven");
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!((&site.job("files")["holds"], site.snapshots("restic").len()), (&json!([]), 2));

    // What Git accepts is accepted while it stands there.
    site.write("verdict", "could_not_verify");
    assert_eq!(outcome(&site.run("files")), "partial");
    let target = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{target}accept: [all rows]\n"));
    assert!(site.push("accept it").status.success());
    for (verdict, ends) in [("proven", "success"), ("could_not_verify", "partial")] {
        site.write("verdict", verdict);
        assert_eq!(outcome(&site.run("files")), ends);
        assert_eq!((&site.job("files")["holds"], site.snapshots("restic").len()), (&json!([]), 2));
    }
}
