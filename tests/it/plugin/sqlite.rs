//! The plugin `sqlite` against databases in use, locked and damaged ones.

use std::sync::atomic::{AtomicBool, Ordering};

use larder::plugin::Verb;
use rusqlite::Connection;

use super::database::{never_proven_when_damaged, not_put_back, put_back, rehearse, restored, steps};
use super::*;

pub(super) fn sqlite(path: &Path) -> Bench {
    Bench::new("sqlite", json!({ "path": path, "busy_timeout": 1 }))
}

pub(super) fn database(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_that_is_written_to_is_copied_at_one_instant() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    // Money moves between two accounts: at every committed instant the sum is the same.
    let writer = database(
        &path,
        "PRAGMA journal_mode=WAL; CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER);
         INSERT INTO account VALUES (1, 1000000), (2, 0); CREATE TABLE log (n INTEGER, text TEXT);",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = std::thread::spawn(move || {
        let mut moves = 0;
        while !stopped.load(Ordering::Relaxed) {
            writer
                .execute_batch(
                    "BEGIN; UPDATE account SET money = money - 1 WHERE id = 1; INSERT INTO log VALUES (1, hex(randomblob(200)));
                     UPDATE account SET money = money + 1 WHERE id = 2; COMMIT;",
                )
                .unwrap();
            moves += 1;
        }
        // The last one is not committed while the copy is looked at.
        writer.execute_batch("BEGIN; UPDATE account SET money = 0;").unwrap();
        (moves, writer)
    });
    support::wait_for("some writes", Duration::from_secs(20), || {
        (number(&path, "SELECT count(*) FROM log") > 50).then_some(())
    });
    for _ in 0..3 {
        let bench = sqlite(&path);
        let captured = bench.proven();
        let copy = bench.staging().join("app.db");
        assert_eq!(number(&copy, "SELECT sum(money) FROM account"), 1_000_000);
        let (moved, logged) =
            (number(&copy, "SELECT money FROM account WHERE id = 2"), number(&copy, "SELECT count(*) FROM log"));
        assert_eq!(moved, logged);
        assert_eq!(captured.figures["rows"], 2 + u64::try_from(logged).unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    let (moves, _writer) = writing.join().unwrap();
    let bench = sqlite(&path);
    bench.proven();
    assert_eq!(number(&bench.staging().join("app.db"), "SELECT money FROM account WHERE id = 2"), moves);
}

#[test]
fn a_restored_copy_has_the_content_of_the_source() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("a%20b?mode=rwc#\"'.db");
    drop(database(
        &path,
        "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, x'0011'), (NULL, 1.5); CREATE INDEX i ON t (a);
         CREATE VIEW v AS SELECT a FROM t; CREATE VIRTUAL TABLE s USING fts5(words); INSERT INTO s VALUES ('to find');",
    ));
    let before = std::fs::read(&path).unwrap();
    let bench = sqlite(&path);
    let captured = bench.proven();
    assert_eq!(std::fs::read(&path).unwrap(), before, "the source is untouched");
    let copy = bench.staging().join(&captured.artifacts[0].path);
    assert_eq!(number(&copy, "SELECT count(*) FROM s WHERE s MATCH 'find'"), 1);
    // The copy, put in place and captured again, has the same numbers table by table.
    let again = sqlite(&copy).proven();
    assert!(captured.figures.contains_key("content.t"));
    assert_eq!(captured.figures, again.figures);
    let made: Vec<_> = std::fs::read_dir(data.path()).unwrap().collect();
    assert_eq!(made.len(), 1, "nothing was made beside the source");
}

#[test]
fn a_missing_database_is_an_error_and_is_not_made() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("gone.db");
    sqlite(&path).refused("path_missing");
    assert!(!path.exists());
    sqlite(data.path()).refused("path_kind");
}

#[test]
fn a_file_that_is_no_database_or_an_empty_one_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("notes.txt");
    std::fs::write(&path, "these are notes, not a database ".repeat(100)).unwrap();
    sqlite(&path).refused("not_a_database");
    let zero = data.path().join("zero.db");
    std::fs::write(&zero, "").unwrap();
    sqlite(&zero).refused("database_empty");
    let bare = data.path().join("bare.db");
    drop(database(&bare, "PRAGMA user_version = 3; VACUUM;"));
    let bench = sqlite(&bare);
    bench.refused("database_empty");
    Bench::new("sqlite", json!({"path": bare, "allow_empty": true})).proven();
}

#[test]
fn a_database_that_a_writer_locks_defers_the_run() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    let writer = database(&path, "CREATE TABLE t (a); INSERT INTO t VALUES (1); BEGIN EXCLUSIVE;");
    let bench = sqlite(&path);
    assert_eq!(bench.refused("database_locked").outcome, Outcome::Deferred);
    assert_eq!(bench.staged(), Vec::<String>::new());
    writer.execute_batch("COMMIT").unwrap();
    sqlite(&path).proven();
}

#[test]
fn a_damaged_database_is_never_a_backup() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    let connection = database(&path, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);");
    let rows = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
                INSERT INTO t SELECT n, hex(randomblob(100)) FROM n;";
    connection.execute_batch(rows).unwrap();
    drop(connection);
    let whole = std::fs::read(&path).unwrap();
    for page in [3, 10, 40] {
        let mut damaged = whole.clone();
        damaged[page * 4096..page * 4096 + 200].fill(0xA5);
        std::fs::write(&path, damaged).unwrap();
        sqlite(&path).refused("database_corrupt");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    sqlite(&path).refused("database_corrupt");
}

#[test]
fn a_copy_that_changed_after_the_capture_is_not_proven() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(&path, "CREATE TABLE t (a); INSERT INTO t VALUES ('first content');"));
    let bench = sqlite(&path);
    let captured = bench.proven();
    let copy = bench.staging().join("app.db");
    let whole = std::fs::read(&copy).unwrap();
    // One letter in a row: SQLite itself sees nothing wrong with it.
    let at = whole.windows(5).position(|part| part == b"first").unwrap();
    let mut flipped = whole.clone();
    flipped[at] = b'F';
    std::fs::write(&copy, flipped).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
    std::fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
    std::fs::write(&copy, whole).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Proven);
}

#[test]
fn broken_foreign_keys_are_told_but_the_copy_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(
        &path,
        "PRAGMA foreign_keys = OFF; CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id));
         INSERT INTO c VALUES (7);",
    ));
    let bench = sqlite(&path);
    let validations = bench.validate(&bench.capture().unwrap()).unwrap();
    assert_eq!(verdict(&validations), Verdict::CouldNotVerify);
    assert!(validations.iter().any(|each| each.detail.contains("1 rows point to nothing")), "{validations:?}");
    Bench::new("sqlite", json!({"path": path, "foreign_key_check": false})).proven();
}

#[test]
fn several_databases_of_one_name_are_all_kept() {
    let data = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["a", "b"].iter().map(|name| data.path().join(name).join("app.db")).collect();
    for (n, path) in paths.iter().enumerate() {
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        drop(database(path, &format!("CREATE TABLE t (a); INSERT INTO t VALUES ({n}), (5);")));
    }
    let bench = Bench::new("sqlite", json!({ "paths": paths }));
    let captured = bench.proven();
    assert_eq!((captured.artifacts.len(), captured.figures["rows"], captured.figures["databases"]), (2, 4, 2));
    assert_eq!(number(&bench.staging().join("2-app.db"), "SELECT min(a) FROM t"), 1);
    Bench::new("sqlite", json!({"path": paths[0], "paths": paths})).refused("settings");
    Bench::new("sqlite", json!({})).refused("settings");
}

#[test]
fn a_database_whose_wal_cannot_be_read_is_an_error() {
    let data = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let place = data.path().join("data");
    std::fs::create_dir(&place).unwrap();
    let path = place.join("app.db");
    let _writer = database(&path, "PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    chmod(data.path(), 0o755);
    chmod(&place, 0o755);
    chmod(&path, 0o644);
    let staging = data.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    chmod(&staging, 0o777);
    let request =
        json!({"protocol": 1, "action": "capture", "staging": staging, "settings": {"path": path, "busy_timeout": 1}});
    for (file, mode) in [("app.db-wal", 0o600), ("app.db-shm", 0o600), ("app.db", 0o600)] {
        chmod(&place.join(file), mode);
        let Some(answer) = as_nobody(data.path(), "sqlite", &request) else { return };
        assert!(answer.contains(r#""event":"failed","code":"path_unreadable""#), "{file}: {answer}");
        assert!(!answer.contains("artifact") && std::fs::read_dir(&staging).unwrap().next().is_none());
        chmod(&place.join(file), 0o644);
    }
    let answer = as_nobody(data.path(), "sqlite", &request).unwrap();
    assert!(answer.contains(r#""event":"artifact","path":"app.db""#), "{answer}");
}

pub(super) const SAMPLE: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
    INSERT INTO t SELECT n, 'row ' || n || hex(zeroblob(50)) FROM n;";

#[test]
fn a_damaged_copy_is_never_proven_and_never_restored() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(&path, SAMPLE));
    let bench = sqlite(&path);
    let captured = bench.proven();
    let copy = bench.staging().join("app.db");
    let whole = std::fs::read(&copy).unwrap();
    let at = whole.windows(7).position(|part| part == b"row 250").unwrap();
    never_proven_when_damaged(&bench, &captured, 0, &[0, 20, at, 4096 + 3, whole.len() - 1], b"SQLite format 3");
    let before = std::fs::read(&path).unwrap();
    let mut without_hash = captured.clone();
    without_hash.artifacts[0].sha256 = None;
    std::fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    for captured in [&captured, &without_hash] {
        not_put_back(&bench, captured, json!({}), "copy_damaged");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
}

#[test]
fn a_database_is_put_back_at_once_and_the_old_one_stays_beside() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(&path, SAMPLE));
    chmod(&path, 0o640);
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chown(&path, Some(65534.into()), Some(65534.into())).unwrap();
    }
    let bench = sqlite(&path);
    let captured = bench.proven();

    // What came later, a part of it only in the -wal file that a crash left.
    let later = database(&path, "PRAGMA journal_mode=WAL; UPDATE t SET b = 'lost'; CREATE TABLE later (a);");
    let copies: Vec<_> =
        ["", "-wal"].iter().map(|end| std::fs::read(format!("{}{end}", path.display())).unwrap()).collect();
    drop(later);
    for (end, bytes) in ["", "-wal"].iter().zip(&copies) {
        std::fs::write(format!("{}{end}", path.display()), bytes).unwrap();
    }
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(data.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let (owner, before) = (path.metadata().unwrap().uid(), names());
    let told = rehearse(&bench, &captured, json!({})).unwrap();
    assert_eq!(steps(&told), [(Verb::Replace, path.to_str().unwrap())]);
    assert!(names() == before && std::fs::read(&path).unwrap() == copies[0], "a dry run changes nothing");

    restored(&bench, &captured, json!({}));
    assert_eq!(number(&path, "SELECT count(*) FROM t WHERE b LIKE 'row %'"), 500);
    assert_eq!(number(&path, "SELECT count(*) FROM sqlite_schema WHERE name = 'later'"), 0);
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (owner, 0o640));
    let old = data.path().join(format!("app.db.before-{}", bench.run.to_string().to_lowercase()));
    assert_eq!(std::fs::read(&old).unwrap(), copies[0]);
    assert_eq!(std::fs::read(format!("{}-wal", old.display())).unwrap(), copies[1]);
    assert_eq!(number(&old, "SELECT count(*) FROM t WHERE b = 'lost'"), 500, "the old one opens with all it had");
    assert!(!data.path().join("app.db-wal").exists());
}

#[test]
fn a_database_that_is_in_use_is_replaced_only_by_force() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(&path, SAMPLE));
    let bench = sqlite(&path);
    let captured = bench.proven();
    for sql in ["BEGIN IMMEDIATE", "SELECT 1 FROM t", "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE"] {
        let user = Connection::open(&path).unwrap();
        user.execute_batch(sql).unwrap();
        let failure = not_put_back(&bench, &captured, json!({}), "database_in_use");
        assert!(failure.trouble.hint.as_deref().unwrap().contains("force"), "{failure}");
        drop(user);
    }
    let user = Connection::open(&path).unwrap();
    user.execute_batch("PRAGMA journal_mode=DELETE; DELETE FROM t; BEGIN IMMEDIATE").unwrap();
    let told = restored(&bench, &captured, json!({"force": true}));
    assert_eq!(told.warnings[0].code, "database_in_use");
    drop(user);
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 500);
}

#[test]
fn a_database_can_be_put_elsewhere_and_some_of_several_be_chosen() {
    let data = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["a", "b"].iter().map(|name| data.path().join(name).join("app.db")).collect();
    for (n, path) in paths.iter().enumerate() {
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        drop(database(path, &format!("CREATE TABLE t (a); INSERT INTO t VALUES ({n})")));
    }
    let bench = Bench::new("sqlite", json!({ "paths": paths }));
    let captured = bench.proven();
    let elsewhere = data.path().join("new.db");
    not_put_back(&bench, &captured, json!({ "into": elsewhere }), "restore_options");
    not_put_back(&bench, &captured, json!({ "paths": ["/other.db"] }), "restore_options");
    let told = restored(&bench, &captured, json!({"paths": [paths[1]], "into": elsewhere}));
    assert_eq!(told.steps[0].verb, Verb::Create);
    assert_eq!(number(&elsewhere, "SELECT a FROM t"), 1);
    for path in &paths {
        std::fs::remove_file(path).unwrap();
    }
    restored(&bench, &captured, json!({}));
    assert_eq!((number(&paths[0], "SELECT a FROM t"), number(&paths[1], "SELECT a FROM t")), (0, 1));
    let nowhere = json!({"paths": [paths[0]], "into": "/nowhere/new.db"});
    assert_eq!(put_back(&bench, &captured, nowhere).unwrap_err().trouble.code, "path_missing");
}

/// Lets Python play the application that brings its own collation, function and tokenizer, on the database `path`.
fn as_the_application(path: &Path, work: &str) -> String {
    let program = format!(
        "import sqlite3, sys\n\
         c = sqlite3.connect(sys.argv[1])\n\
         c.create_collation('icu_root', lambda a, b: (a > b) - (a < b))\n\
         c.create_function('app_slug', 1, lambda t: t and t.lower(), deterministic=True)\n{work}\nc.commit()\nc.close()\n"
    );
    let ran = std::process::Command::new("python3").args(["-c", &program]).arg(path).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

const OF_AN_APPLICATION: &str = r"
c.execute('PRAGMA journal_mode=WAL')
c.executescript('''
CREATE TABLE plain (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX plain_v ON plain (v);
CREATE TABLE title (id INTEGER PRIMARY KEY, name TEXT COLLATE icu_root, slug TEXT AS (app_slug(name)) VIRTUAL);
CREATE INDEX title_name ON title (name COLLATE icu_root);
CREATE INDEX title_slug ON title (app_slug(name));
CREATE TABLE tag (name TEXT COLLATE icu_root PRIMARY KEY, n INT) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts4(t, tokenize=simple);
''')
for n in range(300):
    c.execute('INSERT INTO plain VALUES (?, ?)', (n, 'v%d' % n))
    c.execute('INSERT INTO title (id, name) VALUES (?, ?)', (n, 'Name %d' % n))
    c.execute('INSERT INTO tag VALUES (?, ?)', ('t%d' % n, n))
    c.execute('INSERT INTO words VALUES (?)', ('word %d' % n,))
c.execute('PRAGMA writable_schema=ON')
c.execute(chr(34).join(['UPDATE sqlite_master SET sql = replace(sql, ', 'tokenize=simple', ', ', 'tokenize=mozporter', ') WHERE name = ', 'words', '']))
";

#[test]
fn what_only_the_application_can_check_is_kept_and_could_not_be_verified_and_damage_is_still_damage() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("library.db");
    as_the_application(&path, OF_AN_APPLICATION);
    let mut bench = sqlite(&path);
    let captured = bench.capture_with(None).unwrap();
    assert_eq!(captured.figures["rows.plain"], 300);
    assert_eq!(captured.figures["rows.title"], 300, "the stored columns are read");
    let validations = bench.validate_with(&captured, None).unwrap();
    assert_eq!(verdict(&validations), Verdict::CouldNotVerify, "{validations:#?}");
    let integrity = validations.iter().find(|each| each.name.starts_with("integrity_check")).unwrap();
    assert!(integrity.detail.contains("icu_root") && integrity.detail.contains("accept_unchecked"), "{integrity:?}");
    bench.target.settings["accept_unchecked"] = json!(true);
    let validations = bench.validate_with(&captured, None).unwrap();
    assert_eq!(verdict(&validations), Verdict::Proven, "{validations:#?}");

    // It comes back as the application wrote it.
    let before =
        as_the_application(&path, "print(c.execute('SELECT sum(id), group_concat(slug) FROM title').fetchall())");
    as_the_application(&path, "c.execute('DELETE FROM title')");
    restored(&bench, &captured, json!({}));
    let sum = "print(c.execute('SELECT sum(id), group_concat(slug) FROM title').fetchall())";
    assert_eq!(as_the_application(&path, sum), before);
    let checked = as_the_application(&path, "print(c.execute('PRAGMA integrity_check(\"title\")').fetchall())");
    assert_eq!(checked, "[('ok',)]");

    // Damage is damage, whatever else cannot be checked.
    let copy = bench.staging().join("library.db");
    let whole = std::fs::read(&copy).unwrap();
    let mut damaged = whole.clone();
    let at = whole.windows(4).rposition(|bytes| bytes == b"v299").unwrap();
    damaged[at - 3..at + 4].fill(0xff);
    std::fs::write(&copy, &damaged).unwrap();
    assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::Failed);
}

#[test]
fn a_full_text_index_with_the_applications_own_tokenizer_could_not_be_verified_and_damage_in_it_is_damage() {
    for kind in ["fts4", "fts5"] {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("metadata.db");
        let sql = format!(
            "c.execute('CREATE VIRTUAL TABLE words USING {kind}(t)')\n\
             c.execute('CREATE TABLE books (id INTEGER PRIMARY KEY, t TEXT)')\n\
             c.executemany('INSERT INTO words VALUES (?)', [('word %d' % n,) for n in range(500)])\n\
             c.executemany('INSERT INTO books (t) VALUES (?)', [('book %d' % n,) for n in range(500)])\n\
             c.execute('PRAGMA writable_schema=ON')\n\
             c.execute('UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = ?', ('(t)', '(t, tokenize=calibre)', 'words'))"
        );
        as_the_application(&path, &sql);
        let mut bench = sqlite(&path);
        let captured = bench.capture_with(None).unwrap();
        assert_eq!(captured.figures["rows.books"], 500);
        let validations = bench.validate_with(&captured, None).unwrap();
        assert_eq!(verdict(&validations), Verdict::CouldNotVerify, "{kind}: {validations:#?}");
        let integrity = validations.iter().find(|each| each.name.starts_with("integrity_check")).unwrap();
        assert!(
            integrity.detail.contains("words (") && integrity.detail.contains("tokenizer: calibre"),
            "{integrity:?}"
        );
        bench.target.settings["accept_unchecked"] = json!(true);
        let validations = bench.validate_with(&captured, None).unwrap();
        assert_eq!(verdict(&validations), Verdict::Proven, "{kind}: {validations:#?}");

        let copy = bench.staging().join("metadata.db");
        let mut bytes = std::fs::read(&copy).unwrap();
        let at = bytes.windows(8).rposition(|bytes| bytes == b"book 499").unwrap();
        bytes[at - 5..at + 8].fill(0xff);
        std::fs::write(&copy, &bytes).unwrap();
        assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::Failed, "{kind}");
    }
}

#[test]
fn a_table_that_is_gone_or_emptied_is_said_and_no_more() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    let sql = "CREATE TABLE a (x); INSERT INTO a VALUES (1); CREATE TABLE \"b c\" (x); INSERT INTO \"b c\" VALUES (1); CREATE TABLE d (x); INSERT INTO d VALUES (1);";
    drop(database(&path, sql));
    let bench = sqlite(&path);
    let previous = super::simulated::facts(&bench.proven());
    drop(database(&path, "DROP TABLE a; DELETE FROM \"b c\";"));
    bench.again();
    let captured = bench.capture_with(Some(previous)).unwrap();
    let told: Vec<&str> = captured.notices.iter().map(|notice| notice.message.as_str()).collect();
    assert!(captured.warnings.is_empty() && told.len() == 2, "{captured:?}");
    assert!(told.concat().contains("a of ") && told.concat().contains("b c of "), "{told:?}");
}

#[test]
fn a_database_that_lost_all_its_rows_is_no_backup() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(database(&path, SAMPLE));
    let mut bench = sqlite(&path);
    let captured = bench.proven();
    drop(database(&path, "DELETE FROM t;"));
    bench.again();
    let previous = super::simulated::facts(&captured);
    let failure = bench.capture_with(Some(previous.clone())).unwrap_err();
    assert_eq!(failure.trouble.code, "database_emptied", "{failure}");
    bench.target.settings["allow_empty"] = json!(true);
    bench.again();
    bench.capture_with(Some(previous)).unwrap();
}

#[test]
fn a_restore_that_is_killed_at_any_instant_leaves_the_old_database_whole_or_the_new_one() {
    use std::io::Write as _;
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    let rows = |n: u32| {
        format!(
            "INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {n}) SELECT hex(randomblob(300)) FROM s;"
        )
    };
    drop(database(&path, &format!("CREATE TABLE t (a); {}", rows(2_000))));
    let bench = sqlite(&path);
    let captured = bench.proven();
    // The old one: half of its rows only in the -wal file of an application that was killed.
    let later = database(
        &path,
        &format!("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; DELETE FROM t; {}", rows(3_000)),
    );
    let ends = ["", "-wal"];
    let old: Vec<_> = ends.map(|end| std::fs::read(format!("{}{end}", path.display())).unwrap()).into();
    drop(later);
    let mut seen = (0, 0);
    for delay_ms in 0..60 {
        for entry in std::fs::read_dir(data.path()).unwrap().flatten() {
            std::fs::remove_file(entry.path()).unwrap();
        }
        for (end, bytes) in ends.iter().zip(&old) {
            std::fs::write(format!("{}{end}", path.display()), bytes).unwrap();
        }
        let request = json!({
            "protocol": 1, "action": "restore", "target": "sample", "run": bench.run.to_string(), "staging": bench.staging(),
            "settings": {"path": path, "busy_timeout": 1}, "capture": super::simulated::facts(&captured),
            "restore": {"dry_run": false, "options": {}},
        });
        let mut child = std::process::Command::new(support::larder())
            .args(["plugin", "sqlite"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms * 3));
        let _ = child.kill();
        child.wait().unwrap();
        match number(&path, "SELECT count(*) FROM t") {
            3_000 => seen.0 += 1,
            2_000 => seen.1 += 1,
            other => panic!("{other} rows after a kill at {} ms", delay_ms * 3),
        }
        assert_eq!(number(&path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    }
    println!("kills that found the old one: {}, the new one: {}", seen.0, seen.1);
    assert!(seen.0 > 0, "{seen:?}");
}
