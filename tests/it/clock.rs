//! A daemon whose clock is set while it runs: no slot twice, none too many, none lost for years; and what was deferred
//! comes back by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::process_clock::{ProcessClock, at};
use crate::site::Site;
use crate::support::disk::SmallDisk;
use crate::support::{free_port, wait_for};

/// The daemon looks at its clock every half minute by itself; the rest is for a loaded machine.
const NOTICED_MAX: Duration = Duration::from_secs(90);

fn site_at(now: &str, schedule: &str) -> (Site, ProcessClock) {
    let mut site = Site::new();
    site.base_config(schedule);
    let clock = ProcessClock::of(&mut site, now);
    (site, clock)
}

/// Waits until `files` has `count` finished runs; newest first.
fn finished(site: &Site, count: usize) -> Vec<Value> {
    wait_for(&format!("finished run number {count}"), NOTICED_MAX, || {
        let runs = site.runs("files");
        assert!(runs.len() <= count, "more than {count} runs: {runs:?}");
        (runs.len() == count && runs.iter().all(|run| run["outcome"].is_string())).then_some(runs)
    })
}

/// What started a run, for which time, and what came of it.
fn told(run: &Value) -> (&str, Option<Timestamp>, &str) {
    let slot = run["slot"].as_str().map(at);
    (run["trigger"].as_str().unwrap(), slot, run["outcome"].as_str().unwrap())
}

fn next_run(site: &Site) -> Timestamp {
    at(site.job("files")["next_run"].as_str().unwrap())
}

#[test]
fn a_clock_set_back_by_an_hour_runs_no_slot_twice_and_does_not_stop_the_schedule() {
    let (mut site, clock) = site_at("2026-11-22T12:01:00Z", "\"*/10 * * * *\"");
    site.start_and_push();
    clock.turn_and_look(&site, "2026-11-22T12:09:58Z");
    let runs = finished(&site, 1);
    assert_eq!(told(&runs[0]), ("scheduled", Some(at("2026-11-22T12:10:00Z")), "success"));

    for back in ["2026-11-22T11:05:00Z", "2026-11-22T11:10:30Z", "2026-11-22T12:10:02Z"] {
        clock.turn_and_look(&site, back);
        assert_eq!(site.runs("files").len(), 1, "at {back}");
        assert_eq!(next_run(&site), at("2026-11-22T12:20:00Z"), "at {back}");
    }
    clock.turn_and_look(&site, "2026-11-22T12:19:58Z");
    let runs = finished(&site, 2);
    assert_eq!(told(&runs[0]), ("scheduled", Some(at("2026-11-22T12:20:00Z")), "success"));
    assert_eq!(next_run(&site), at("2026-11-22T12:30:00Z"));
}

#[test]
fn a_clock_set_ahead_over_many_slots_gives_one_run_and_nobody_has_to_tell_the_daemon() {
    let (mut site, clock) = site_at("2026-11-22T12:01:00Z", "\"*/10 * * * *\"");
    site.start_and_push();
    assert_eq!(next_run(&site), at("2026-11-22T12:10:00Z"));
    clock.turn(&site, "2026-11-22T14:07:00Z");
    let status = site.call("system.status", json!({})).unwrap();
    assert_eq!(status["missing"], json!([]), "a turned clock is no stuck scheduler");
    let runs = finished(&site, 1);
    assert_eq!(told(&runs[0]), ("missed", Some(at("2026-11-22T14:00:00Z")), "success"));
    assert_eq!(next_run(&site), at("2026-11-22T14:10:00Z"));
    clock.turn_and_look(&site, "2026-11-22T14:09:58Z");
    let runs = finished(&site, 2);
    assert_eq!(told(&runs[0]), ("scheduled", Some(at("2026-11-22T14:10:00Z")), "success"));
    assert_eq!(runs[1]["trigger"], "missed");
}

#[test]
fn a_clock_that_was_years_ahead_leaves_neither_jobs_nor_upkeep_waiting_for_years() {
    let (mut site, clock) = site_at("2036-05-01T12:01:00Z", "\"*/10 * * * *\"");
    let destinations = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{destinations}check: {{schedule: \"30 * * * *\"}}\n"));
    site.start_and_push();
    let next_check = |site: &Site| {
        let list = site.call("destination.list", json!({})).unwrap();
        at(list["items"][0]["check"]["next"].as_str().unwrap())
    };
    assert_eq!(next_check(&site), at("2036-05-01T12:30:00Z"));
    clock.turn_and_look(&site, "2036-05-01T12:09:58Z");
    finished(&site, 1);

    // While it runs.
    clock.turn_and_look(&site, "2026-11-22T08:03:00Z");
    assert_eq!(next_run(&site), at("2026-11-22T08:10:00Z"));
    assert_eq!(next_check(&site), at("2026-11-22T08:30:00Z"));
    clock.turn_and_look(&site, "2026-11-22T08:09:58Z");
    let run = wait_for("the run of the right year", NOTICED_MAX, || {
        let runs = site.runs("files");
        let right = runs.iter().find(|run| run["slot"].as_str().map(at) == Some(at("2026-11-22T08:10:00Z")))?;
        right["outcome"].is_string().then(|| right.clone())
    });
    // It made its backup, and forgot nothing: the clock jumped.
    assert_eq!((&run["outcome"], &run["trouble"]["code"]), (&json!("partial"), &json!("jumped_clock")), "{run}");
    // While it is off.
    site.stop();
    clock.write("2024-02-29T23:03:00Z");
    site.start();
    let expected = (at("2024-02-29T23:10:00Z"), at("2024-02-29T23:30:00Z"));
    wait_for("the times of the right year after a start", Duration::from_secs(10), || {
        ((next_run(&site), next_check(&site)) == expected).then_some(())
    });
}

#[test]
fn a_deferred_run_is_tried_again_by_itself_until_its_cause_is_gone_and_alarms_nobody() {
    let (mut site, clock) = site_at("2026-11-22T10:00:00Z", "\"0 3 * * *\"");
    // Nobody listens there: a mail would be seen waiting.
    let mail = format!(
        "email: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
        free_port()
    );
    let roomy = std::fs::read_to_string(site.path("config/site.yaml")).unwrap() + &mail;
    site.write("config/site.yaml", &roomy);
    site.start_and_push();
    assert_eq!(site.run("files")["outcome"], "success");

    site.write("config/site.yaml", &roomy.replace("min_free: 1MiB", "min_free: 1000TiB"));
    assert!(site.push("more room than there is").status.success());
    let record = site.run("files");
    assert_eq!((&record["outcome"], &record["trouble"]["code"]), (&json!("deferred"), &json!("disk_nearly_full")));
    assert_pending(&site, &record, 60);

    // The first retry meets the same cause.
    clock.turn_and_look(&site, "2026-11-22T10:10:00Z");
    let runs = finished(&site, 3);
    assert_eq!(told(&runs[0]), ("retry", None, "deferred"));
    assert_pending(&site, &runs[0], 120);

    // The second one waits out a power cut, and its cause is gone.
    site.write("config/site.yaml", &roomy);
    assert!(site.push("room again").status.success());
    assert_eq!(site.runs("files").len(), 3, "a push starts no retry before its time");
    site.kill();
    clock.write("2026-11-22T10:30:00Z");
    site.start();
    let runs = finished(&site, 4);
    assert_eq!(told(&runs[0]), ("retry", None, "success"));
    let job = site.job("files");
    assert_eq!((&job["health"], &job["failure_total"]), (&json!("proven"), &json!(0)), "{job}");
    assert_eq!(next_run(&site), at("2026-11-23T03:00:00Z"), "no retry is left");
    assert_eq!(site.call("system.status", json!({})).unwrap()["mail"]["waiting"], 0, "nobody was told");
}

/// A deferred job is neither green nor failed, says why, waits for its retry, and sent nothing.
fn assert_pending(site: &Site, run: &Value, delay_seconds: i64) {
    let job = site.job("files");
    assert_eq!((&job["health"], &job["failing"]), (&json!("warning"), &json!(0)), "{job}");
    assert!(job["problem"]["why"].as_str().unwrap().contains("must stay free"), "{job}");
    let retry = at(run["finished"].as_str().unwrap()) + SignedDuration::from_secs(delay_seconds);
    assert_eq!(next_run(site), retry);
    let status = site.call("system.status", json!({})).unwrap();
    assert_eq!(status["verdict"]["health"], "warning", "{status}");
    assert_eq!(status["mail"]["waiting"], 0, "{status}");
    let metrics = site.get("/metrics");
    for line in [
        "larder_everything_proven 0",
        r#"larder_job_failing_runs{policy="daily",target="files"} 0"#,
        r#"larder_job_failure_total{policy="daily",target="files"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn a_run_whose_only_destination_is_not_mounted_waits_for_its_disk() {
    let (mut site, clock) = site_at("2026-11-22T10:00:00Z", "\"0 3 * * *\"");
    let root = site.root().display().to_string();
    std::fs::create_dir(site.path("disk")).unwrap();
    let destinations = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    let mounted = format!("path: {root}/disk/restic, require_mount: {root}/disk");
    site.write("config/destinations.yaml", &destinations.replace(&format!("path: {root}/restic"), &mounted));
    site.start_and_push();
    let record = site.run("files");
    assert_eq!(record["outcome"], "deferred", "{record}");
    assert!(record["trouble"]["message"].as_str().unwrap().contains("/disk"), "{record}");
    let job = site.job("files");
    assert_eq!((&job["health"], &job["failing"]), (&json!("unknown"), &json!(0)), "{job}");

    let _disk = SmallDisk::mount(site.path("disk"), "64m");
    clock.turn_and_look(&site, "2026-11-22T10:10:00Z");
    let runs = finished(&site, 2);
    assert_eq!(told(&runs[0]), ("retry", None, "success"));
    assert_eq!(site.snapshots("disk/restic").len(), 1);
    assert_eq!(site.job("files")["health"], "proven");
    assert_eq!(std::fs::read_dir(site.path("backups/files")).unwrap().count(), 1, "the deferred run left nothing");
    // The daemon works on the disk, so it goes first.
    site.stop();
}
