//! Prune and check of a destination at their times, with real restic: seen when they worked, told when they did not.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::alert::server::Server;
use crate::process_clock::{ProcessClock, at};
use crate::site::{RUN_MAX, Site, text};
use crate::support::wait_for;

fn destination(site: &Site) -> Value {
    site.call("destination.list", json!({})).unwrap()["items"][0].clone()
}

/// Waits until the newest prune or check began at `slot` or later and is over; answers with its view.
fn ended(site: &Site, action: &str, slot: &str) -> Value {
    wait_for(&format!("the {action} of {slot}"), RUN_MAX, || {
        let upkeep = destination(site)[action].clone();
        let last = upkeep["last"].as_str().map(at)?;
        let over = !upkeep["problem"].is_null()
            || upkeep["last_success"].as_str().is_some_and(|success| at(success) >= at(slot));
        (last >= at(slot) && over).then_some(upkeep)
    })
}

fn metric(site: &Site, name: &str) -> f64 {
    let metrics = site.get("/metrics");
    let start = format!("{name}{{destination=\"local\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

/// The pack files of the repository with their sizes.
fn packs(site: &Site) -> Vec<(u64, PathBuf)> {
    let directories = std::fs::read_dir(site.path("restic/data")).unwrap().flatten();
    let files = directories.flat_map(|each| std::fs::read_dir(each.path()).unwrap().flatten());
    files.map(|file| (file.metadata().unwrap().len(), file.path())).collect()
}

#[test]
fn prune_and_check_run_at_their_times_and_damage_is_told_once_until_it_is_mended() {
    let mut site = Site::new();
    site.base_config("\"0 23 * * *\"");
    let destinations = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write(
        "config/destinations.yaml",
        &format!(
            "{destinations}prune: {{schedule: \"0 4 * * *\"}}\ncheck: {{schedule: \"0 5-8 * * *\", read_data: 100%}}\n"
        ),
    );
    let server = Server::start(site.root(), "plain", "", 0);
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write(
        "config/site.yaml",
        &format!(
            "{config}email: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
            server.port
        ),
    );
    let clock = ProcessClock::of(&mut site, "2026-11-22T03:30:00Z");
    site.start();
    let pushed = site.push("first");
    assert!(pushed.status.success(), "{}", text(&pushed));
    // Four runs and `last: 3`: the first one's data is left for prune.
    for number in 0..4_u8 {
        site.write("data/a.txt", &char::from(b'a' + number).to_string().repeat(100_000));
        assert_eq!(site.run("files")["outcome"], "success");
    }
    let before: u64 = packs(&site).iter().map(|(bytes, _)| bytes).sum();

    clock.turn_and_look(&site, "2026-11-22T03:59:58Z");
    let prune = ended(&site, "prune", "2026-11-22T04:00:00Z");
    assert_eq!((&prune["health"], &prune["problem"]), (&json!("proven"), &Value::Null), "{prune}");
    assert_eq!(prune["next"], "2026-11-23T04:00:00Z");
    let after: u64 = packs(&site).iter().map(|(bytes, _)| bytes).sum();
    assert!(after < before, "{before} bytes before the prune, {after} after");
    let pruned = metric(&site, "larder_destination_last_prune_timestamp_seconds");
    assert!((pruned - seconds("2026-11-22T04:00:00Z")).abs() < 120.0, "{pruned}");
    assert!(destination(&site)["check"]["last"].is_null(), "it is not yet time for a check");

    clock.turn_and_look(&site, "2026-11-22T04:59:58Z");
    let check = ended(&site, "check", "2026-11-22T05:00:00Z");
    assert_eq!((&check["health"], &check["next"]), (&json!("proven"), &json!("2026-11-22T06:00:00Z")), "{check}");
    let checked = metric(&site, "larder_destination_last_check_timestamp_seconds");
    assert!((checked - seconds("2026-11-22T05:00:00Z")).abs() < 120.0, "{checked}");
    assert!((metric(&site, "larder_destination_check_failed")).abs() < 0.5);

    // The disk loses a file of the repository.
    let (_, pack) = packs(&site).into_iter().max().unwrap();
    let away = site.path("pack");
    std::fs::rename(&pack, &away).unwrap();
    clock.turn_and_look(&site, "2026-11-22T05:59:58Z");
    let check = ended(&site, "check", "2026-11-22T06:00:00Z");
    assert_eq!(check["health"], "failed", "{check}");
    assert!(check["problem"]["why"].as_str().unwrap().contains("damaged"), "{check}");
    assert!(check["problem"]["hint"].is_string(), "{check}");
    assert_eq!(destination(&site)["health"], "failed");
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "failed");
    assert!(metric(&site, "larder_destination_check_failed") > 0.5);
    let told = server.wait_for(1).remove(0);
    assert!(told.header("Subject").starts_with("[test] FAILED: check of local: "), "{}", told.text);
    wait_for("the page that says so", Duration::from_secs(20), || {
        site.get("/").contains("The last check of local failed").then_some(())
    });

    // A second failing check is no news.
    clock.turn_and_look(&site, "2026-11-22T06:59:58Z");
    wait_for("the second failing check", RUN_MAX, || (site.log().matches("upkeep failed").count() == 2).then_some(()));
    std::fs::rename(&away, &pack).unwrap();
    clock.turn_and_look(&site, "2026-11-22T07:59:58Z");
    wait_for("the good check", RUN_MAX, || (destination(&site)["check"]["health"] == "proven").then_some(()));
    assert_eq!(server.wait_for(2)[1].header("Subject"), "[test] Recovered: check of local");
    assert!((metric(&site, "larder_destination_check_failed")).abs() < 0.5);
    assert_eq!(server.taken().len(), 2);
}

fn seconds(time: &str) -> f64 {
    use std::str::FromStr as _;
    f64::from_str(&at(time).as_second().to_string()).unwrap()
}

#[test]
fn what_vanished_is_seen_by_the_check_at_its_time_and_no_prune_takes_what_brings_it_back() {
    let mut site = Site::new();
    site.base_config("\"0 23 * * *\"");
    let destinations = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write(
        "config/destinations.yaml",
        &format!("{destinations}check: {{schedule: \"0 4,5 * * *\"}}\nprune: {{schedule: \"0 6 * * *\"}}\n"),
    );
    let clock = ProcessClock::of(&mut site, "2026-11-22T03:30:00Z");
    site.start_and_push();
    for _ in 0..3 {
        assert_eq!(site.run("files")["outcome"], "success");
    }
    let forget = |which: usize| {
        let id = site.snapshots("restic")[which]["id"].as_str().unwrap().to_owned();
        site.restic("restic", &["forget", &id]);
    };
    let health = || (destination(&site)["health"].clone(), site.job("files")["health"].clone());
    // An older one is missing: a trouble of the destination.
    forget(0);
    assert_eq!(health(), (json!("proven"), json!("proven")), "nobody has looked yet");
    clock.turn_and_look(&site, "2026-11-22T03:59:58Z");
    let check = ended(&site, "check", "2026-11-22T04:00:00Z");
    assert!(check["problem"]["why"].as_str().unwrap().contains("1 snapshot of files/daily"), "{check}");
    assert_eq!(site.job("files")["health"], "proven");
    assert_ne!(destination(&site)["health"], "proven");
    // The newest: one of the job.
    forget(1);
    clock.turn_and_look(&site, "2026-11-22T04:59:58Z");
    let check = ended(&site, "check", "2026-11-22T05:00:00Z");
    assert_ne!(check["health"], "proven", "{check}");
    wait_for("the job's trouble", Duration::from_secs(20), || {
        let job = site.job("files");
        (job["holds"][0]["kind"] == "vanished" && job["health"] == "failed").then_some(())
    });
    assert_eq!(site.call("system.status", json!({})).unwrap()["verdict"]["health"], "failed");
    assert!(metric(&site, "larder_destination_missing_snapshots") > 1.5);
    // Their data can still be brought back.
    let before = packs(&site);
    clock.turn_and_look(&site, "2026-11-22T05:59:58Z");
    let prune = ended(&site, "prune", "2026-11-22T06:00:00Z");
    assert_ne!(prune["health"], "proven", "{prune}");
    assert_eq!(packs(&site), before);
}
