//! A source that is emptied again and again, by its own cycle: told until somebody accepted it twice, and no guard is lost with
//! that. Through the whole daemon.

use serde_json::{Value, json};

use crate::site::{Site, text};

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

/// One more dump of a cycle, and what its run comes to.
fn dump(site: &Site, day: usize) -> Value {
    site.write(&format!("data/dumps/{day}"), &format!("{day}").repeat(60_000));
    site.run("files")
}

#[test]
fn a_cycle_that_was_accepted_twice_is_held_no_more_and_what_arrived_and_is_lost_in_it_is() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    site.start_and_push();
    for week in 1..=4 {
        for day in 1..=6 {
            let record = dump(&site, day);
            if matches!((week, day), (2 | 3, 1)) {
                assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
                let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
                let done = site.command().args(["accept", "files", &value]).output().unwrap();
                assert!(done.status.success(), "{}", text(&done));
            } else {
                assert_eq!(outcome(&record), "success", "week {week}, day {day}: {record}");
            }
        }
        std::fs::remove_dir_all(site.path("data/dumps")).unwrap();
    }
    for day in 1..=2 {
        assert_eq!(outcome(&dump(&site, day)), "success", "{day}");
    }
    (0..30).for_each(|n| site.write(&format!("data/photos/{n}"), &format!("{n}").repeat(20_000)));
    assert_eq!(outcome(&dump(&site, 3)), "success");
    std::fs::remove_dir_all(site.path("data/photos")).unwrap();
    for day in 4..=6 {
        let record = dump(&site, day);
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
    }
    let photos = |each: &&Value| each["summary"]["total_files_processed"].as_u64() > Some(25);
    assert_eq!(site.snapshots("restic").iter().filter(photos).count(), 1);
}

#[test]
fn one_fall_that_was_accepted_is_no_cycle() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.edit("config/policies.yaml", "{last: 3}", "{last: 2}");
    (1..=6).for_each(|day| site.write(&format!("data/dumps/{day}"), &format!("{day}").repeat(60_000)));
    site.start_and_push();
    (0..3).for_each(|_| assert_eq!(outcome(&site.run("files")), "success"));
    // Tidied up, which somebody says is right; what comes then comes little by little, and is lost at once.
    std::fs::remove_dir_all(site.path("data/dumps")).unwrap();
    assert_eq!(outcome(&dump(&site, 1)), "partial");
    let value = site.job("files")["holds"][0]["value"].as_str().unwrap().to_owned();
    let done = site.command().args(["accept", "files", &value]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    for day in 2..=6 {
        let record = dump(&site, day);
        assert_eq!(outcome(&record), "success", "{day}: {record}");
    }
    std::fs::remove_dir_all(site.path("data/dumps")).unwrap();
    site.write("data/dumps/other", &"o".repeat(60_000));
    for _ in 0..3 {
        let record = site.run("files");
        assert_eq!((outcome(&record), &record["trouble"]["code"]), ("partial", &json!("shrank")), "{record}");
    }
    let whole = |each: &&Value| each["summary"]["total_bytes_processed"].as_u64() > Some(350_000);
    assert!(site.snapshots("restic").iter().any(|each| whole(&each)));
}
