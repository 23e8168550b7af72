//! What a restore of the plugin `rsync` does with what `exclude` names by now: databases and their logs, and what it tells.

use larder::plugin::Restored;
use rusqlite::Connection;

use super::rsync::{Device, content, lay_out, write};
use super::*;

const LEFT: &str = "of the backup are left alone, as `exclude` names them by now: ";

/// Writes rows and leaves them in the log, as long as this is open.
fn in_log(path: &Path, rows: u32) -> Connection {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE IF NOT EXISTS t (n)")
        .unwrap();
    for n in 0..rows {
        connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
    }
    connection
}

fn rows(path: &Path) -> u32 {
    let connection = Connection::open(path).unwrap();
    assert_eq!(connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// A device with a file, its bench, and what the bench captured of it, laid out for a restore; `exclude` is of later.
fn captured_before(exclude: &[&str], fill: impl FnOnce(&Device)) -> (Device, Bench, Captured) {
    let device = Device::start();
    std::fs::remove_dir_all(device.at("data")).unwrap();
    write(&device.at("data/app.conf"), "old");
    fill(&device);
    let mut bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    bench.target.settings["exclude"] = json!(exclude);
    write(&device.at("data/app.conf"), "live");
    (device, bench, captured)
}

fn restored(bench: &Bench, captured: &Captured) -> Restored {
    bench.restore_app(captured, json!({}), false).unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()))
}

#[test]
fn the_log_of_a_live_database_that_is_excluded_since_stays_beside_it() {
    for pattern in ["*.db", "sub/app.db"] {
        let (device, bench, captured) =
            captured_before(&[pattern], |device| drop(in_log(&device.at("data/sub/app.db"), 3)));
        let path = device.at("data/sub/app.db");
        let open = in_log(&path, 7);
        let log = std::fs::read(device.at("data/sub/app.db-wal")).unwrap();
        assert!(!log.is_empty());
        let plan = bench.restore_app(&captured, json!({}), true).unwrap();
        assert!(plan.steps[0].detail.contains(&format!("1 {LEFT}sub/app.db")), "{plan:#?}");
        let restored = restored(&bench, &captured);
        assert_eq!(std::fs::read(device.at("data/sub/app.db-wal")).unwrap(), log, "{restored:#?}");
        assert_eq!(rows(&path), 10);
        drop(open);
        assert_eq!(std::fs::read_to_string(device.at("data/app.conf")).unwrap(), "old");
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
        let validation = &restored.validations[0];
        assert!(validation.name.ends_with("is as in the backup, but for what is left alone"), "{validation:?}");
        assert!(validation.detail.contains(&format!("1 {LEFT}sub/app.db")), "{validation:?}");
        assert!(restored.warnings.is_empty(), "{restored:#?}");
    }
}

#[test]
fn no_log_of_the_backup_comes_beside_a_live_database_that_is_excluded() {
    for from_the_start in [false, true] {
        let mut open = None;
        let (device, bench, captured) = captured_before(&["*.db"], |device| {
            open = Some(in_log(&device.at("data/app [x].db"), 300));
            write(&device.at("data/2024-journal"), "dear diary");
        });
        drop(open);
        let laid_out = bench.directory.path().join("tree").join(captured.sources[0].path.strip_prefix("/").unwrap());
        assert!(laid_out.join("app [x].db-wal").metadata().unwrap().len() > 0);
        if from_the_start {
            std::fs::remove_file(laid_out.join("app [x].db")).unwrap();
        }
        let path = device.at("data/app [x].db");
        std::fs::remove_file(&path).unwrap();
        drop(in_log(&path, 5));
        std::fs::remove_file(device.at("data/2024-journal")).unwrap();
        let live = std::fs::read(&path).unwrap();
        let restored = restored(&bench, &captured);
        let names: Vec<PathBuf> = content(&device.at("data")).into_keys().collect();
        assert_eq!(names, ["2024-journal", "app [x].db", "app.conf"].map(PathBuf::from), "{restored:#?}");
        assert_eq!(std::fs::read(&path).unwrap(), live);
        assert_eq!(rows(&path), 5);
        let detail = &restored.validations[0].detail;
        assert!(detail.contains("as their database is not sent: app [x].db-shm, app [x].db-wal"), "{detail}");
        assert_eq!(detail.contains(LEFT), !from_the_start, "{detail}");
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
        assert!(restored.warnings.is_empty(), "{restored:#?}");
    }
}

#[test]
fn beside_a_database_that_is_sent_no_log_stays_also_when_exclude_names_it() {
    let (device, bench, captured) =
        captured_before(&["*-wal", "*-shm"], |device| drop(in_log(&device.at("data/app.db"), 3)));
    let path = device.at("data/app.db");
    std::fs::remove_file(&path).unwrap();
    let open = in_log(&path, 70);
    let stale = std::fs::read(device.at("data/app.db-wal")).unwrap();
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert!(plan.steps[0].detail.contains("app.db-wal"), "{plan:#?}");
    let restored = restored(&bench, &captured);
    assert!(!device.at("data/app.db-wal").exists(), "{restored:#?}");
    assert_eq!(rows(&path), 3);
    let aside = device.at(&format!("data/.larder-before-{}", bench.run.to_string().to_lowercase()));
    assert_eq!(std::fs::read(aside.join("app.db-wal")).unwrap(), stale, "it is kept there");
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    drop(open);
}

#[test]
fn what_the_backup_has_and_a_restore_leaves_out_is_told_and_no_proof_where_the_device_lacks_it() {
    let (device, mut bench, captured) = captured_before(&["*.log", "cache/", "thumbs"], |device| {
        for name in ["one.log", "sub/two.log", "cache/a", "cache/b", "thumbs/c"] {
            write(&device.at("data").join(name), "old");
        }
    });
    // All of it is there: nobody is warned.
    let all = restored(&bench, &captured);
    assert_eq!(verdict(&all.validations), Verdict::Proven, "{all:#?}");
    let told = format!("7 {LEFT}cache/, one.log, sub/two.log, thumbs/");
    assert!(all.validations[0].detail.contains(&told), "{all:#?}");
    assert!(all.steps[0].detail.contains(&told) && all.warnings.is_empty(), "{all:#?}");

    std::fs::remove_dir_all(device.at("data/sub")).unwrap();
    std::fs::remove_file(device.at("data/cache/b")).unwrap();
    for dry_run in [true, false] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let lacking = bench.restore_app(&captured, json!({}), dry_run).unwrap();
        assert!(lacking.steps[0].detail.contains(&told), "{lacking:#?}");
        assert_eq!(lacking.warnings.len(), 1, "{lacking:#?}");
        let warning = &lacking.warnings[0];
        assert!(warning.message.starts_with("2 of the backup are not in"), "{warning:?}");
        assert!(warning.message.ends_with("by now: cache/b, sub/two.log"), "{warning:?}");
        assert!(warning.hint.as_deref().is_some_and(|hint| hint.contains("`exclude`")), "{warning:?}");
        if !dry_run {
            assert_eq!(verdict(&lacking.validations), Verdict::CouldNotVerify, "{lacking:#?}");
            assert!(lacking.validations[0].detail.contains("2 of these are not there"), "{lacking:#?}");
        }
    }
    assert!(!device.at("data/sub/two.log").exists() && !device.at("data/cache/b").exists());
    // Elsewhere there is nothing of it at all.
    bench.run = RunId::generate(jiff::Timestamp::now());
    let beside = bench.restore_app(&captured, json!({"below": device.at("elsewhere")}), false).unwrap();
    assert_eq!(verdict(&beside.validations), Verdict::CouldNotVerify, "{beside:#?}");
    assert!(beside.warnings[0].message.starts_with("7 of the backup are not in"), "{beside:#?}");
    // Without the patterns all of it comes.
    bench.target.settings["exclude"] = json!([]);
    bench.run = RunId::generate(jiff::Timestamp::now());
    let whole = restored(&bench, &captured);
    assert_eq!(verdict(&whole.validations), Verdict::Proven, "{whole:#?}");
    assert!(whole.validations[0].name.ends_with("is as in the backup"), "{whole:#?}");
    assert!(device.at("data/sub/two.log").exists() && device.at("data/cache/b").exists());
}

#[test]
fn what_exclude_names_in_the_data_directory_of_a_server_stays_is_told_and_is_no_proof() {
    // The backup has it, too, or only the device.
    for in_backup in [true, false] {
        let (device, mut bench, captured) = captured_before(&["pg_wal/", "*.tmp"], |device| {
            write(&device.at("data/pg/PG_VERSION"), "15\n");
            write(&device.at("data/pg/base/1"), "old page");
            if in_backup {
                write(&device.at("data/pg/pg_wal/0001"), "old log");
            }
        });
        write(&device.at("data/pg/base/1"), "newer page");
        write(&device.at("data/pg/base/2"), "newer page");
        write(&device.at("data/pg/pg_wal/0001"), "newer log");
        write(&device.at("data/beside.tmp"), "no part of it");
        for dry_run in [true, false] {
            bench.run = RunId::generate(jiff::Timestamp::now());
            let restored = bench.restore_app(&captured, json!({}), dry_run);
            let restored = restored.unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
            let told = "what a database would read stays there, as `exclude` names it: pg/pg_wal/";
            assert!(restored.steps[0].detail.contains(told), "{in_backup}: {restored:#?}");
            assert_eq!(restored.warnings.len(), 1, "{in_backup}: {restored:#?}");
            let warning = &restored.warnings[0];
            assert!(warning.code == "left_out" && warning.message.contains("pg/pg_wal/"), "{warning:?}");
            assert!(warning.hint.as_deref().is_some_and(|hint| hint.contains("`exclude`")), "{warning:?}");
            if !dry_run {
                assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify, "{in_backup}: {restored:#?}");
                assert!(restored.validations[0].detail.contains(told), "{in_backup}: {restored:#?}");
            }
        }
        assert_eq!(std::fs::read_to_string(device.at("data/pg/pg_wal/0001")).unwrap(), "newer log");
        assert!(!device.at("data/pg/base/2").exists(), "what is not excluded leaves");
        std::fs::remove_dir_all(device.at("data/pg/pg_wal")).unwrap();
        bench.target.settings["exclude"] = json!(["*.tmp"]);
        bench.run = RunId::generate(jiff::Timestamp::now());
        let whole = restored(&bench, &captured);
        assert_eq!(verdict(&whole.validations), Verdict::Proven, "{whole:#?}");
        assert!(whole.warnings.is_empty(), "{whole:#?}");
    }
}
