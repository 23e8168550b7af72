//! The plugin `docker` on a real engine: what is in a volume's tar, what is not and who says so, and what is not stopped.

use super::docker::{artifacts, docker, fresh};
use super::support::podman::{Gate, POLITE, Podman, Spoil};
use super::*;

/// The names in a tar, without its root's.
fn members(tar: &Path) -> Vec<String> {
    let listed = std::process::Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(tar).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let plain = |name: &str| name.trim_start_matches("./").trim_end_matches('/').to_owned();
    let mut names: Vec<String> = listed.lines().map(plain).collect();
    // Engines name the root after the directory; what lies below is what counts.
    names.retain(|name| name != "." && !name.is_empty());
    names.sort();
    names
}

fn codes(troubles: &[larder::error::Trouble]) -> Vec<&str> {
    troubles.iter().map(|trouble| trouble.code.as_str()).collect()
}

#[test]
fn what_other_mounts_cover_is_in_no_tar_of_a_volume() {
    let Some(podman) = Podman::shared() else { return };
    let (name, media) = (fresh("nest"), tempfile::tempdir_in("/tmp").unwrap());
    std::fs::write(media.path().join("film"), "not ours").unwrap();
    let (cfg, up) = (format!("{name}-cfg:/config"), format!("{name}-up:/config/uploads"));
    let bind = format!("{}:/config/media", media.path().display());
    podman.start_container(
        &name,
        &["-v", &cfg, "-v", &up, "-v", &bind, "--tmpfs", "/config/run"],
        "localtest:1",
        POLITE,
    );
    podman.exec(&name, "echo a > /config/app.ini; echo b > /config/uploads/photo; echo c > /config/run/pid");
    let gate = Gate::before(&podman.socket());
    for socket in [podman.socket(), gate.socket()] {
        let bench = docker(&socket, json!({"containers": [name], "exclude": [format!("{name}-up")]}));
        let captured = bench.proven_docker();
        let tar = bench.staging().join(format!("volumes/{name}-cfg.tar"));
        let names = members(&tar);
        assert!(names.iter().any(|each| each.ends_with("app.ini")), "{names:?}");
        for covered in ["uploads", "photo", "media", "film", "run", "pid"] {
            assert!(!names.iter().any(|each| each.ends_with(covered)), "{covered} is in {names:?}");
        }
        assert_eq!(codes(&captured.warnings), ["left_out"], "{:?}", captured.warnings);
        let inventory: Value =
            serde_json::from_slice(&std::fs::read(bench.staging().join("inventory.json")).unwrap()).unwrap();
        assert_eq!(inventory["volumes"][0]["without"], json!(["media", "run", "uploads"]), "{inventory}");
    }
    // Through a container that sees all of it, all of it is kept.
    let other = fresh("other");
    podman.start_container(&other, &["-v", &cfg], "localtest:1", POLITE);
    podman.exec(&other, "echo d > /config/uploads/hidden");
    let bench = docker(&podman.socket(), json!({"containers": [name, other], "accept": [media.path()]}));
    let captured = bench.proven_docker();
    assert_eq!(codes(&captured.warnings), Vec::<&str>::new(), "{:?}", captured.warnings);
    let names = members(&bench.staging().join(format!("volumes/{name}-cfg.tar")));
    assert!(names.contains(&"uploads/hidden".to_owned()), "{names:?}");
}

#[test]
fn a_bind_mount_outside_of_the_project_is_told_until_the_config_accepts_it() {
    let Some(podman) = Podman::shared() else { return };
    let (name, photos) = (fresh("bind"), tempfile::tempdir_in("/tmp").unwrap());
    std::fs::write(photos.path().join("one.jpg"), "photo").unwrap();
    let bind = format!("{}:/upload", photos.path().display());
    podman.start_container(&name, &["-v", &format!("{name}:/data"), "-v", &bind], "localtest:1", POLITE);
    podman.exec(&name, "echo a > /data/a");
    let shown = photos.path().display().to_string();
    let with = |more: Value| {
        let mut settings = json!({"containers": [name]});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bench = docker(&podman.socket(), settings);
        let captured = bench.proven_docker();
        let inventory: Value =
            serde_json::from_slice(&std::fs::read(bench.staging().join("inventory.json")).unwrap()).unwrap();
        (captured, inventory["left_out"].clone())
    };
    let (captured, left_out) = with(json!({}));
    let warning = captured.warnings.iter().find(|each| each.message.contains(&shown)).expect("it is told");
    assert!(warning.hint.as_ref().unwrap().contains(&format!("accept: [{shown}]")), "{warning}");
    assert_eq!((&left_out[0]["name"], &left_out[0]["by"]), (&json!(shown), &json!("nobody")), "{left_out}");
    for accepted in [json!({"accept": [shown]}), json!({"exclude": [shown]}), json!({"binds": "none"})] {
        let (captured, left_out) = with(accepted.clone());
        assert_eq!(codes(&captured.warnings), Vec::<&str>::new(), "{accepted}");
        assert!(captured.notices.iter().any(|each| each.message.contains(&shown)), "{accepted}: {captured:?}");
        assert_eq!(left_out[0]["by"], "config", "{left_out}");
    }
    let (captured, left_out) = with(json!({"binds": "all"}));
    assert_eq!((captured.figures["volumes"], captured.warnings.len()), (2, 0));
    assert_eq!(left_out, json!([]));
}

#[test]
fn one_empty_volume_beside_others_is_told_and_fails_nothing() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("part");
    let empty = format!("{name}-empty");
    let args = ["-v", &format!("{name}:/data"), "-v", &format!("{empty}:/plugins")];
    podman.start_container(&name, &args, "localtest:1", POLITE);
    podman.exec(&name, "echo a > /data/a");
    let captured = docker(&podman.socket(), json!({"containers": [name]})).proven_docker();
    assert_eq!(codes(&captured.warnings), ["volume_empty"]);
    assert!(captured.warnings[0].message.contains(&empty));
    let captured = docker(&podman.socket(), json!({"containers": [name], "accept": [empty]})).proven_docker();
    assert_eq!((codes(&captured.warnings), codes(&captured.notices)), (vec![], vec!["volume_empty"]));
}

#[test]
fn what_a_stop_would_remove_is_refused_before_anything_is_stopped() {
    let Some(podman) = Podman::shared() else { return };
    let (kept, gone) = (fresh("kept"), fresh("gone"));
    podman.start_container(&kept, &["-v", &format!("{kept}:/data")], "localtest:1", POLITE);
    podman.start_container(&gone, &["--rm", "-v", "/anonymous"], "localtest:1", POLITE);
    podman.exec(&kept, "echo a > /data/a");
    podman.exec(&gone, "echo a > /anonymous/a");
    let settings = |stop: &str| json!({"containers": [kept, gone], "stop": stop, "stop_timeout": 2});
    let bench = docker(&podman.socket(), settings("stop"));
    let failure = bench.refused_docker("stop_would_remove");
    assert!(failure.trouble.message.contains(&gone) && failure.trouble.message.contains("--rm"), "{failure}");
    assert!(!bench.log().contains("stopping"), "{}", bench.log());
    assert_eq!((podman.state(&kept).as_str(), podman.state(&gone).as_str()), ("running", "running"));
    for stop in ["pause", "none"] {
        assert_eq!(docker(&podman.socket(), settings(stop)).proven_docker().figures["volumes"], 2, "{stop}");
    }
    // One that stands still already has nothing to lose.
    docker(&podman.socket(), json!({"containers": [kept], "stop": "stop", "stop_timeout": 2})).proven_docker();
}

#[test]
fn who_lives_in_the_namespaces_of_another_stops_before_it_and_starts_after_it() {
    let Some(podman) = Podman::shared() else { return };
    // By its name it would be the other way round.
    let (host, guest) = (fresh("z-host"), fresh("a-guest"));
    podman.start_container(&host, &["-v", &format!("{host}:/data")], "localtest:1", POLITE);
    podman.exec(&host, "echo a > /data/a");
    let network = format!("container:{host}");
    podman.start_container(&guest, &["--network", &network, "--volumes-from", &host], "localtest:1", POLITE);
    let bench = docker(&podman.socket(), json!({"containers": [guest, host], "stop": "stop", "stop_timeout": 3}));
    bench.proven_docker();
    let log = bench.log();
    let at = |what: String| log.find(&what).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(at(format!("stopping {guest}")) < at(format!("stopping {host}")), "{log}");
    assert!(at(format!("started {host}")) < at(format!("started {guest}")), "{log}");
    assert_eq!((podman.state(&host).as_str(), podman.state(&guest).as_str()), ("running", "running"));
}

/// Writes to a database in WAL mode until it is told to end; all amounts together stay the same.
fn busy(path: &Path, stop: &std::sync::atomic::AtomicBool, ready: &std::sync::Barrier) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let made = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
        CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT); CREATE INDEX note ON account (note);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO account SELECT i, 100, hex(randomblob(200)) FROM n;";
    connection.execute_batch(made).unwrap();
    let mut rounds = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        connection
            .execute_batch(
                "BEGIN; UPDATE account SET amount = amount + 1, note = hex(randomblob(200)) WHERE id % 2;
                 UPDATE account SET amount = amount - 1, note = hex(randomblob(200)) WHERE NOT id % 2; COMMIT;",
            )
            .unwrap();
        rounds += 1;
        if rounds == 2 {
            ready.wait();
        }
    }
}

/// The database of a tar: whether it is whole, and the sum of its amounts.
fn unpacked(tar: &Path) -> (String, i64) {
    let into = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("tar").arg("-C").arg(into.path()).arg("-xf").arg(tar).status().unwrap();
    assert!(made.success());
    let at = ["app.db", "data/app.db"].iter().map(|name| into.path().join(name)).find(|path| path.exists()).unwrap();
    let connection = rusqlite::Connection::open(at).unwrap();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    match (one("PRAGMA integrity_check"), one("SELECT sum(amount) FROM account")) {
        (rusqlite::types::Value::Text(check), rusqlite::types::Value::Integer(sum)) => (check, sum),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_sqlite_database_that_is_written_to_is_kept_as_it_was_at_one_instant_or_not_called_proven() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("live");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    let volume = podman.volume(&name);
    std::fs::write(volume.join("beside"), "x").unwrap();
    let gate = Gate::before(&podman.socket());
    let (stop, ready) = (std::sync::atomic::AtomicBool::new(false), std::sync::Barrier::new(2));
    let tar = format!("volumes/{name}.tar");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| busy(&volume.join("app.db"), &stop, &ready));
        ready.wait();
        for socket in [podman.socket(), podman.socket(), gate.socket()] {
            let bench = docker(&socket, json!({"containers": [name]}));
            let captured = bench.proven_docker();
            assert_eq!(unpacked(&bench.staging().join(&tar)), ("ok".to_owned(), 200_000));
            let names = members(&bench.staging().join(&tar));
            assert!(!names.iter().any(|each| each.ends_with("-wal") || each.ends_with("-shm")), "{names:?}");
            assert_eq!(captured.warnings, []);
        }
        // On an engine elsewhere only two readings that are the same would tell.
        gate.spoil("HEAD /", Spoil::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
        let bench = docker(&gate.socket(), json!({"containers": [name]}));
        let captured = bench.kept();
        let validations = bench.validate(&captured).unwrap();
        let told = validations.iter().find(|each| each.name.contains("SQLite app.db")).unwrap();
        assert_eq!(told.verdict, Verdict::CouldNotVerify, "{told:?}");
        assert!(told.detail.contains("stop: stop"), "{told:?}");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writing.join().unwrap();
    });
    // Once nobody writes, they are.
    let bench = docker(&gate.socket(), json!({"containers": [name]}));
    bench.proven_docker();
    assert_eq!(unpacked(&bench.staging().join(&tar)), ("ok".to_owned(), 200_000));
}

#[test]
fn other_databases_need_their_program_to_stand_still() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("other-live");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    let volume = podman.volume(&name);
    let mut lmdb = vec![0_u8; 8192];
    lmdb[16..20].copy_from_slice(&0xbeef_c0de_u32.to_le_bytes());
    std::fs::create_dir_all(volume.join("pg/base")).unwrap();
    std::fs::write(volume.join("data.mdb"), lmdb).unwrap();
    std::fs::write(volume.join("pg/PG_VERSION"), "15\n").unwrap();
    let told = |settings: Value| {
        let bench = docker(&podman.socket(), settings);
        let captured = bench.kept();
        let all = bench.validate(&captured).unwrap();
        let of = |verdict| all.iter().filter(move |each| each.verdict == verdict).map(|each| each.name.clone());
        assert_eq!(of(Verdict::Failed).count(), 0, "{all:#?}");
        of(Verdict::CouldNotVerify).collect::<Vec<String>>()
    };
    let unsure = told(json!({"containers": [name]}));
    assert!(
        unsure.len() == 2 && unsure[0].contains("LMDB data.mdb") && unsure[1].contains("PostgreSQL pg"),
        "{unsure:?}"
    );
    assert_eq!(told(json!({"containers": [name], "in_place": true})).len(), 2);
    for stop in ["stop", "pause"] {
        assert_eq!(
            told(json!({"containers": [name], "stop": stop, "stop_timeout": 3})),
            Vec::<String>::new(),
            "{stop}"
        );
    }
    let accept = json!([format!("{name}/data.mdb"), format!("{name}/pg")]);
    assert_eq!(told(json!({"containers": [name], "accept": accept})), Vec::<String>::new());
    // Nobody writes to a volume of a container that does not work, or that may only read.
    podman.podman(&["rm", "-f", "-t", "0", &name]);
    podman.start_container(&name, &["-v", &format!("{name}:/data:ro")], "localtest:1", POLITE);
    assert_eq!(told(json!({"containers": [name]})), Vec::<String>::new());
}

#[test]
fn names_of_any_bytes_and_attributes_are_in_the_tar() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("names");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    let volume = podman.volume(&name);
    let long = "l".repeat(140);
    std::fs::write(volume.join(format!("{long}\nü")), "long, with a newline").unwrap();
    let latin = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9");
    std::fs::write(volume.join(latin), "Latin-1").unwrap();
    std::fs::write(volume.join("plain"), "plain").unwrap();
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o710)).unwrap();
    std::os::unix::fs::chown(&volume, Some(1000), Some(1000)).unwrap();
    let attribute = std::process::Command::new("python3")
        .args(["-c", "import os, sys; os.setxattr(sys.argv[1], 'user.colour', b'blue\\nred=1')"])
        .arg(volume.join("plain"))
        .status()
        .unwrap();
    let gate = Gate::before(&podman.socket());
    for socket in [podman.socket(), gate.socket()] {
        let bench = docker(&socket, json!({"containers": [name]}));
        let captured = bench.proven_docker();
        assert_eq!(artifacts(&captured).len(), 3, "{:?}", artifacts(&captured));
        let inventory: Value =
            serde_json::from_slice(&std::fs::read(bench.staging().join("inventory.json")).unwrap()).unwrap();
        let contents = &inventory["volumes"][0]["contents"];
        assert_eq!(contents["root"], json!({"uid": 1000, "gid": 1000, "mode": 0o710}), "{contents}");
        assert_eq!(contents["entries"], 3, "{contents}");
        if attribute.success() {
            assert_eq!(contents["extended_entries"], 1, "{contents}");
        }
        let tar = std::fs::read(bench.staging().join(format!("volumes/{name}.tar"))).unwrap();
        for wanted in [format!("{long}\nü").as_bytes(), b"caf\xe9"] {
            assert!(tar.windows(wanted.len()).any(|part| part == wanted), "{}", String::from_utf8_lossy(wanted));
        }
    }
    // Where the files cannot be seen here, it is said that attributes are not kept.
    gate.spoil("HEAD /", Spoil::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    let captured = docker(&gate.socket(), json!({"containers": [name]})).proven_docker();
    assert_eq!(codes(&captured.notices), ["attributes_not_kept"]);
}

#[test]
fn a_call_that_changes_nothing_is_made_again_where_the_way_to_the_engine_hung_up() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("hung");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    podman.exec(&name, "echo a > /data/a");
    let gate = Gate::before(&podman.socket());
    for call in ["/_ping", "/version", "/json", "/archive"] {
        gate.spoil(call, Spoil::HangUpOnce);
        let bench = docker(&gate.socket(), json!({"containers": [name], "stop": "stop", "stop_timeout": 2}));
        bench.proven_docker();
        assert!(!gate.is_spoilt(), "{call} was asked for");
    }
    assert_eq!(gate.most_calls_of_a_connection(), 1, "no call goes over a connection that was idle");
}
