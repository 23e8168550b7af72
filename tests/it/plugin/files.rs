//! The plugin `files`: nothing missing, empty or unmounted becomes a backup.

use super::*;

pub(super) fn files(settings: Value) -> Bench {
    Bench::new("files", settings)
}

#[test]
fn paths_are_named_as_sources_with_what_they_hold() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("a/b")).unwrap();
    std::fs::write(data.path().join("a/b/one"), "12345").unwrap();
    std::fs::write(data.path().join("a/two.tmp"), "1234567890").unwrap();
    let single = data.path().join("a/b/one");
    let bench = files(json!({"paths": [data.path(), single], "exclude": ["*.tmp"]}));
    let captured = bench.proven();
    assert_eq!(captured.sources.len(), 2);
    assert_eq!(captured.sources[0].path, data.path());
    assert_eq!(captured.sources[0].exclude, ["*.tmp"]);
    assert_eq!((captured.figures["source_files"], captured.figures["source_bytes"], captured.bytes), (2, 10, 10));
    assert_eq!(bench.staged(), Vec::<String>::new(), "nothing is copied");

    std::fs::remove_dir_all(data.path().join("a")).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
}

#[test]
fn a_missing_path_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("x"), "x").unwrap();
    let gone = data.path().join("gone");
    let failure = files(json!({"paths": [data.path(), gone]})).refused("path_missing");
    assert!(failure.trouble.message.contains("gone"), "{failure}");
}

#[test]
fn a_directory_without_a_single_file_is_an_error_unless_that_is_meant() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("a/b/c")).unwrap();
    files(json!({"paths": [data.path()]})).refused("path_empty");
    std::fs::write(data.path().join("a/b/c/x.tmp"), "x").unwrap();
    files(json!({"paths": [data.path()], "exclude": ["*.tmp"]})).refused("path_empty");
    files(json!({"paths": [data.path()], "exclude": [data.path().join("a")]})).refused("path_empty");
    files(json!({"paths": [data.path()], "exclude": ["*.tmp"], "allow_empty": true})).proven();
    files(json!({"paths": [data.path()]})).proven();
}

#[test]
fn a_symbolic_link_and_a_special_file_are_errors() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("x"), "x").unwrap();
    let link = data.path().join("link");
    std::os::unix::fs::symlink(data.path(), &link).unwrap();
    let failure = files(json!({"paths": [link]})).refused("path_is_link");
    assert!(failure.trouble.message.contains(&*data.path().to_string_lossy()), "{failure}");
    let fifo = data.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    files(json!({"paths": [fifo]})).refused("path_kind");
}

#[test]
fn a_mount_that_is_required_and_absent_defers_the_run() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("x"), "x").unwrap();
    let bench = files(json!({"paths": [data.path()], "require_mount": data.path()}));
    assert_eq!(bench.refused("not_mounted").outcome, Outcome::Deferred);
    // What is always mounted on Linux.
    files(json!({"paths": [data.path()], "require_mount": "/proc/"})).proven();
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    files(json!({"paths": []})).refused("settings");
    files(json!({"paths": ["srv/photos"]})).refused("settings");
    files(json!({"paths": ["/srv/../etc"]})).refused("settings");
    files(json!({"paths": ["/srv"], "exlude": []})).refused("settings");
}

#[test]
fn a_directory_that_cannot_be_read_is_reported() {
    let data = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let open = data.path().join("open");
    let closed = open.join("closed");
    std::fs::create_dir_all(&closed).unwrap();
    std::fs::write(open.join("x"), "x").unwrap();
    std::fs::write(closed.join("y"), "y").unwrap();
    chmod(&closed, 0o000);
    chmod(data.path(), 0o755);
    let ask = |path: &Path| {
        as_nobody(data.path(), "files", &json!({"protocol": 1, "action": "capture", "settings": {"paths": [path]}}))
    };
    let Some(answer) = ask(&open) else {
        // Not root: then this very user can't read it.
        assert!(files(json!({"paths": [open]})).capture().unwrap().warnings.is_empty());
        files(json!({"paths": [closed]})).refused("path_unreadable");
        return chmod(&closed, 0o755);
    };
    // Whether the backup is whole says the engine, which meets the same directory.
    assert!(answer.contains(r#""event":"log""#) && answer.contains("/open/closed"), "{answer}");
    assert!(!answer.contains(r#""event":"warning""#), "{answer}");
    assert!(answer.contains(r#""name":"source_files","value":1"#), "{answer}");
    let answer = ask(&closed).unwrap();
    assert!(answer.contains(r#""event":"failed","code":"path_unreadable""#), "{answer}");
}

#[test]
fn a_database_that_is_in_use_is_copied_at_one_instant_or_nobody_vouches_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("plain"), "x").unwrap();
    let connection = rusqlite::Connection::open(at("app.db")).unwrap();
    let made = "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2), (3);";
    connection.execute_batch(made).unwrap();
    let mut bench = Bench::new("files", json!({ "paths": [directory.path()] }));
    let captured = bench.proven();
    let copies: Vec<_> = captured.artifacts.iter().map(|each| bench.staging().join(&each.path)).collect();
    assert_eq!((copies.len(), captured.sources.len()), (1, 1), "{captured:?}");
    let rows: i64 = rusqlite::Connection::open(&copies[0])
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 3, "with what is in the log only");

    let mut lmdb = vec![0_u8; 8192];
    lmdb[16..20].copy_from_slice(&0xbeef_c0de_u32.to_le_bytes());
    std::fs::write(at("data.mdb"), lmdb).unwrap();
    let told = |bench: &Bench| {
        let captured = bench.capture().unwrap();
        let all = bench.validate(&captured).unwrap();
        let of_it = all.iter().find(|each| each.name.contains("data.mdb"));
        (of_it.map(|each| (each.verdict, each.detail.clone())), captured.notices.len())
    };
    bench = Bench::new("files", json!({ "paths": [directory.path()] }));
    let (of_it, _) = told(&bench);
    let (verdict, detail) = of_it.unwrap();
    assert_eq!(verdict, Verdict::CouldNotVerify);
    assert!(detail.contains("LMDB") && detail.contains("accept:"), "{detail}");
    // Said, and not judged.
    bench = Bench::new("files", json!({"paths": [directory.path()], "accept": [directory.path()]}));
    assert_eq!(told(&bench), (None, 1));
    // What is left out needs no copy.
    bench = Bench::new("files", json!({"paths": [directory.path()], "exclude": ["*.mdb", "app.db*"]}));
    assert_eq!((told(&bench), bench.staged()), ((None, 0), Vec::new()));
}
