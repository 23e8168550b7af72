//! What a destination and the targets in it come to in figures: by real restic, against what lies on the disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process_clock::ProcessClock;
use crate::site::{RUN_MAX, Site, text};
use crate::support::{restic, wait_for};

const MB: usize = 1_000_000;

/// Bytes that neither repeat nor can be compressed, other ones for each `seed`.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    noise.truncate(bytes);
    noise
}

fn put(site: &Site, file: &str, content: &[u8]) {
    let path = site.path(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A site with the targets `one` and `two` of `data/one` and `data/two`, at 7 a terabyte; nothing comes by itself.
fn site(retention: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 0 1 1 *\"");
    let root = site.root().display().to_string();
    site.edit("config/policies.yaml", "{last: 3}", &format!("{retention}\non_missed: skip"));
    let destination = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{destination}cost: {{per_tb_month: 7, currency: USD}}\n"));
    let target =
        |name| format!("---\nkind: Target\nname: {name}\nplugin: files\nwith: {{paths: [{root}/data/{name}]}}\n");
    site.write("config/targets.yaml", &(target("one") + &target("two")));
    put(&site, "data/one/file", b"one\n");
    put(&site, "data/two/file", b"two\n");
    site
}

fn success(site: &Site, target: &str) {
    let record = site.run(target);
    assert_eq!(record["outcome"], "success", "{record}");
}

fn typed(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

/// Gathers by the command line; what it gives to programs of `local`.
fn gathered(site: &Site) -> Value {
    let done = site.command().args(["destination", "stats", "local", "--output", "json"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let all: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    all[0].clone()
}

fn known(site: &Site) -> Value {
    site.call("destination.stats", json!({"destination": "local"})).unwrap()["items"][0].clone()
}

fn figure(of: &Value, name: &str) -> i64 {
    of[name].as_i64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

/// Within a hundredth of `wanted`, or 20 kB.
fn is_near(seen: i64, wanted: usize) -> bool {
    let wanted = i64::try_from(wanted).unwrap();
    (seen - wanted).abs() <= (wanted / 100).max(20_000)
}

/// Bytes of the files with the data.
fn on_disk(site: &Site) -> i64 {
    fn below(dir: &Path) -> u64 {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        entries
            .map(|each| if each.path().is_dir() { below(&each.path()) } else { each.metadata().unwrap().len() })
            .sum()
    }
    i64::try_from(below(&site.path("restic/data"))).unwrap()
}

#[test]
fn what_two_targets_share_and_what_compresses_is_said_and_adds_up() {
    let mut site = site("{last: 3}");
    let common = noise(4 * MB, 1);
    put(&site, "data/one/common", &common);
    put(&site, "data/one/own", &noise(2 * MB, 2));
    put(&site, "data/two/common", &common);
    put(&site, "data/two/text", "a line that is there very often\n".repeat(125_000).as_bytes());
    let wrapper = format!(
        "echo \"$@\" >>'{}/calls'\nexec '{}' \"$@\"\n",
        site.root().display(),
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &wrapper).display().to_string();
    site.serve_with(&["--restic", &wrapper]);
    site.start_and_push();
    let (code, shown) = typed(&site, &["destination", "stats"]);
    assert!(code == 0 && shown.contains("not gathered yet"), "there is no repository yet: {shown}");
    success(&site, "one");
    success(&site, "two");
    std::fs::remove_file(site.path("calls")).unwrap();
    let seen = gathered(&site);
    let calls = std::fs::read_to_string(site.path("calls")).unwrap();
    assert!(calls.lines().all(|call| call.contains("--no-lock")), "{calls}");
    let figures = &seen["statistics"]["figures"];
    let (logical, stored) = (figure(figures, "logical_bytes"), figure(figures, "stored_bytes"));
    let (dedup, compression) = (figure(figures, "dedup_saved_bytes"), figure(figures, "compression_saved_bytes"));
    let read = |target: &str| {
        let all = site.snapshots("restic");
        let tag = json!(format!("target:{target}"));
        let of_target = all.iter().filter(|each| each["tags"].as_array().is_some_and(|tags| tags.contains(&tag)));
        of_target.map(|each| figure(&each["summary"], "total_bytes_processed")).sum::<i64>()
    };
    assert_eq!(logical, read("one") + read("two"), "what restic read, manifests included: {seen}");
    assert!(is_near(logical, 14 * MB), "{seen}");
    assert!(is_near(dedup, 4 * MB), "the common file once: {seen}");
    assert!(is_near(compression, 4 * MB), "the text: {seen}");
    assert_eq!(dedup + compression, logical - stored);
    assert!(stored <= on_disk(&site) && is_near(on_disk(&site), usize::try_from(stored).unwrap()), "{seen}");
    assert_eq!((figure(figures, "snapshots"), figure(figures, "other_snapshots")), (2, 0));
    assert_eq!((&figures["growth_bytes_per_day"], &figures["daily_figures"]), (&Value::Null, &json!(1)));
    assert_eq!(figures["next_forget"], json!({"snapshots": 0, "bytes": 0, "unknown": null}));
    assert_eq!(figures["unneeded_bytes"], 0);
    let cost = json!({
        "currency": "USD", "per_tb_month": 7.0, "monthly_in_90_days": null,
        "monthly": f64::from(u32::try_from((stored * 7 + 500_000) / 1_000_000).unwrap()) / 1e6,
    });
    assert_eq!(figures["cost"], cost, "{seen}");
    let [one, two] = seen["targets"].as_array().unwrap().as_slice() else { panic!("{seen}") };
    assert!(is_near(figure(one, "stored_bytes"), 6 * MB) && is_near(figure(two, "stored_bytes"), 4 * MB), "{seen}");
    assert!(is_near(figure(one, "dedup_saved_bytes"), 0) && is_near(figure(two, "compression_saved_bytes"), 4 * MB));
    assert_eq!((one["target"].as_str(), figure(one, "newest_logical_bytes")), (Some("one"), read("one")));

    // Somebody else's snapshot is stored there, too, and no target's. The second of `one` adds nothing.
    put(&site, "elsewhere", &noise(MB, 3));
    site.restic("restic", &["backup", site.path("elsewhere").to_str().unwrap()]);
    success(&site, "one");
    let later = gathered(&site);
    let figures = &later["statistics"]["figures"];
    assert_eq!((figure(figures, "snapshots"), figure(figures, "other_snapshots")), (4, 1));
    assert!(is_near(figure(figures, "stored_bytes") - stored, MB), "{later}");
    assert!(is_near(figure(figures, "dedup_saved_bytes"), 10 * MB), "{later}");
    let one = &later["targets"][0];
    assert_eq!((figure(one, "snapshots"), figure(one, "logical_bytes")), (2, read("one")));
    assert!(is_near(figure(one, "stored_bytes"), 6 * MB) && is_near(figure(one, "dedup_saved_bytes"), 6 * MB));
    everywhere(&site, figures);
}

/// The same figures are in the metrics, on the pages and in the table.
fn everywhere(site: &Site, figures: &Value) {
    let metrics = site.get("/metrics");
    for (name, value) in [
        ("larder_destination_stored_bytes{destination=\"local\"}", &figures["stored_bytes"]),
        ("larder_destination_logical_bytes{destination=\"local\"}", &figures["logical_bytes"]),
        ("larder_destination_dedup_saved_bytes{destination=\"local\"}", &figures["dedup_saved_bytes"]),
        ("larder_destination_snapshots{destination=\"local\"}", &json!(4)),
        ("larder_destination_next_forget_bytes{destination=\"local\"}", &json!(0)),
        ("larder_destination_statistics_failed{destination=\"local\"}", &json!(0)),
        ("larder_target_snapshots{destination=\"local\",target=\"one\"}", &json!(2)),
        ("larder_destination_cost_monthly{currency=\"USD\",destination=\"local\"}", &figures["cost"]["monthly"]),
    ] {
        let line = format!("{name} {value}");
        assert!(metrics.lines().any(|each| each == line), "no {line} in\n{metrics}");
    }
    assert!(!metrics.contains("larder_destination_growth_bytes_per_day{"), "it is not known yet");
    wait_for("the pages", Duration::from_secs(20), || {
        let page = site.get("/");
        let told = ["<dt>Stored</dt>", "in 4 snapshots", "not known yet (1 of 7 daily figures)", "less than 0.01 USD"];
        told.iter().all(|each| page.contains(each)).then_some(())
    });
    assert!(site.get("/targets/one.html").contains("In figures"));
    let (code, shown) = typed(site, &["destination", "stats", "--last"]);
    assert_eq!(code, 0, "{shown}");
    for told in ["DEDUPLICATED", "less than 0.01 USD", "1 snapshot is no target's", "1 of 7 daily figures"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    let (code, shown) = typed(site, &["destination", "test", "local", "--last"]);
    assert!(code != 0 && shown.contains("--last goes with `stats` only"), "{shown}");
    let (code, shown) = typed(site, &["destination", "stats", "nowhere"]);
    assert!(code != 0 && shown.contains("there is no destination nowhere"), "{shown}");
}

#[test]
fn what_the_next_forget_frees_is_near_what_goes_then() {
    let mut site = site("{last: 1}");
    let root = site.root().display().to_string();
    let script = format!(
        "case \" $* \" in *' --dry-run '*) ;; *' forget '*)\n  [ -e '{root}/no-forget' ] && {{ echo 'Fatal: not now' >&2; \
         exit 1; }} ;;\nesac\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script).display().to_string();
    site.serve_with(&["--restic", &wrapper]);
    put(&site, "data/one/big", &noise(3 * MB, 1));
    site.start_and_push();
    success(&site, "two");
    success(&site, "one");
    site.write("no-forget", "");
    put(&site, "data/one/big", &noise(3 * MB, 2));
    success(&site, "one");
    let before = gathered(&site)["statistics"]["figures"].clone();
    let told = figure(&before["next_forget"], "bytes");
    assert_eq!((figure(&before["next_forget"], "snapshots"), &before["unneeded_bytes"]), (1, &json!(0)), "{before}");
    assert!(is_near(told, 3 * MB), "{before}");
    std::fs::remove_file(site.path("no-forget")).unwrap();
    let (code, shown) = typed(&site, &["destination", "forget", "local"]);
    assert!(code == 0 && shown.contains("1 snapshot of 1 job"), "{shown}");
    // It lies there, and is paid for, until the prune.
    let between = gathered(&site)["statistics"]["figures"].clone();
    assert!(is_near(figure(&between, "unneeded_bytes"), 3 * MB), "{between}");
    assert_eq!((figure(&between["next_forget"], "snapshots"), figure(&between["next_forget"], "bytes")), (0, told));
    assert_eq!(between["cost"]["monthly"], before["cost"]["monthly"], "{between}");
    let full = on_disk(&site);
    let (code, shown) = typed(&site, &["destination", "prune", "local"]);
    assert_eq!(code, 0, "{shown}");
    let freed = full - on_disk(&site);
    assert!(is_near(freed, usize::try_from(told).unwrap()), "{told} were told, {freed} are free");
    let after = gathered(&site)["statistics"]["figures"].clone();
    assert_eq!((figure(&after["next_forget"], "bytes"), &after["unneeded_bytes"]), (0, &json!(0)), "{after}");

    // Where nothing is forgotten, nothing is promised.
    site.edit("config/destinations.yaml", "cost:", "append_only: true\ncost:");
    assert!(site.push("append-only").status.success());
    let figures = gathered(&site)["statistics"]["figures"].clone();
    let unknown = "nothing is forgotten here: the destination is append-only";
    assert_eq!(figures["next_forget"], json!({"snapshots": null, "bytes": null, "unknown": unknown}));
    let (_, shown) = typed(&site, &["destination", "stats", "local"]);
    assert!(shown.contains(unknown), "{shown}");
    assert!(!site.get("/metrics").contains("larder_destination_next_forget_bytes{"), "unknown is no sample");
}

#[test]
fn every_restic_says_the_same() {
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let mut found: Vec<PathBuf> = std::fs::read_dir(tools).unwrap().flatten().map(|each| each.path()).collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("restic-"));
    found.sort();
    assert!(found.len() > 1, "{found:?}");
    let mut site = site("{last: 1}");
    put(&site, "data/one/big", &noise(2 * MB, 1));
    let mut all = Vec::new();
    for (number, tool) in found.iter().enumerate() {
        site.serve_with(&["--restic", tool.join("restic").to_str().unwrap()]);
        site.start();
        if number == 0 {
            assert!(site.push("first").status.success());
            success(&site, "one");
            put(&site, "data/one/big", &noise(2 * MB, 2));
            success(&site, "one");
        }
        let mut figures = gathered(&site)["statistics"]["figures"].clone();
        figures.as_object_mut().unwrap().remove("at");
        all.push(figures);
        site.stop();
    }
    assert!(is_near(figure(&all[0], "unneeded_bytes"), 2 * MB), "{all:?}");
    assert!(all.iter().all(|each| *each == all[0]), "{all:?}");
}

#[test]
fn what_cannot_be_gathered_is_said_and_the_older_figures_stay_with_their_date() {
    let mut site = site("{last: 3}");
    site.edit("config/destinations.yaml", "cost:", "machine_key: false\ncost:");
    site.start_and_push();
    success(&site, "one");
    let before = gathered(&site);
    let fails = |why: &str| {
        let (code, shown) = typed(&site, &["destination", "stats", "local"]);
        assert!(code == 1 && shown.contains(why), "{shown}");
        let now = known(&site);
        assert_eq!(now["statistics"]["figures"], before["statistics"]["figures"], "{now}");
        assert_eq!((&now["targets"], &now["days"]), (&before["targets"], &before["days"]));
        assert!(now["statistics"]["problem"]["why"].as_str().unwrap().contains(why), "{now}");
        assert_eq!(site.job("one")["health"], "proven", "the backup is whole");
        assert!(site.get("/metrics").contains("larder_destination_statistics_failed{destination=\"local\"} 1"));
        wait_for("the page", Duration::from_secs(20), || site.get("/").contains("not gathered").then_some(()));
        (shown, now.to_string(), site.get("/"))
    };
    std::fs::rename(site.path("restic"), site.path("away")).unwrap();
    fails("restic");
    std::fs::rename(site.path("away"), site.path("restic")).unwrap();
    assert_eq!(gathered(&site)["statistics"]["problem"], Value::Null);
    let before = gathered(&site);
    site.write("secrets/repository", "swordfish-of-nobody\n");
    let (code, shown) = typed(&site, &["destination", "stats", "local"]);
    let now = known(&site);
    assert!(code == 1 && shown.contains("password"), "{shown}");
    assert_eq!(now["statistics"]["figures"], before["statistics"]["figures"], "{now}");
    let everything = [shown, now.to_string(), site.get("/"), site.get("/metrics"), site.log()].concat();
    assert!(!everything.contains("swordfish"), "{everything}");
}

#[test]
fn of_an_empty_repository_all_is_zero() {
    let mut site = site("{last: 3}");
    site.start_and_push();
    success(&site, "one");
    assert_eq!(gathered(&site)["targets"].as_array().unwrap().len(), 1);
    let only = site.snapshots("restic")[0]["id"].as_str().unwrap().to_owned();
    site.restic("restic", &["forget", &only]);
    let seen = gathered(&site);
    let figures = &seen["statistics"]["figures"];
    for name in ["snapshots", "logical_bytes", "stored_bytes", "dedup_saved_bytes", "compression_saved_bytes"] {
        assert_eq!(figure(figures, name), 0, "{seen}");
    }
    assert!(figure(figures, "unneeded_bytes") > 0, "its data waits for a prune: {seen}");
    assert_eq!(seen["targets"], json!([]));
    let (code, shown) = typed(&site, &["destination", "stats", "--last"]);
    assert!(code == 0 && !shown.contains("TARGET"), "{shown}");
}

#[test]
fn once_a_day_it_is_gathered_by_itself_and_the_history_outlives_a_restart_and_an_import() {
    let mut site = site("{last: 100}");
    let clock = ProcessClock::of(&mut site, "2026-11-20T03:00:00Z");
    site.start_and_push();
    for day in 1..=8_usize {
        put(&site, &format!("data/one/{day}"), &noise(MB, u64::try_from(day).unwrap()));
        success(&site, "one");
        // An hour later each day, so that a whole day lies between.
        clock.turn_and_look(&site, &format!("2026-11-{}T{:02}:00:00Z", 20 + day, 3 + day));
        let seen = wait_for("the figures of the day", RUN_MAX, || {
            let known = known(&site);
            (known["days"].as_array().unwrap().len() == day).then_some(known)
        });
        let growth = &seen["statistics"]["figures"]["growth_bytes_per_day"];
        assert_eq!(growth.is_null(), day < 7, "{seen}");
        assert_eq!(growth.is_null(), seen["targets"][0]["growth_bytes_per_day"].is_null(), "{seen}");
    }
    let seen = known(&site);
    let figures = &seen["statistics"]["figures"];
    assert!(is_near(figure(figures, "growth_bytes_per_day"), MB), "{seen}");
    assert!(is_near(figure(&seen["targets"][0], "growth_bytes_per_day"), MB), "{seen}");
    // 8 MB now, 98 MB in 90 days: at 7 a terabyte 0.000 056 and 0.000 686.
    let cents = |name: &str| figures["cost"][name].as_f64().unwrap();
    assert!((cents("monthly") - 0.000_056).abs() < 0.000_002, "{seen}");
    assert!((cents("monthly_in_90_days") - 0.000_686).abs() < 0.000_01, "{seen}");
    assert_eq!(seen["days"][0]["date"], "2026-11-21");

    site.stop();
    site.start();
    assert_eq!(known(&site), seen);
    site.stop();
    let file = site.path("all.ndjson");
    let done = site.command().arg("export").arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    std::fs::remove_dir_all(site.path("state/store")).unwrap();
    std::fs::rename(site.path("state"), site.path("state-of-before")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    let done = site.command().arg("import").arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    site.start();
    let imported = known(&site);
    assert_eq!((&imported["days"], &imported["targets"]), (&seen["days"], &seen["targets"]));
    assert_eq!(imported["statistics"]["figures"], seen["statistics"]["figures"]);
}
