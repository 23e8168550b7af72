//! A restore over a live MariaDB database: whatever fails, and whenever it is killed, the live data is what it was.

use super::database::{not_put_back, put_back_noted, restored};
use super::mariadb::{content, fails_once, fed, fresh, mariadb, programs, sample};
use super::mariadb_stays::confined;
use super::support::mariadb::Server;
use super::*;

const CHANGE: &str = "DELETE FROM tag; UPDATE note SET text = CONCAT(text, ' and later'); CREATE TABLE later (a INT);
    CREATE PROCEDURE afterwards() SELECT 2; DROP VIEW recent; CREATE VIEW recent AS SELECT id, text FROM note WHERE id < 4;
    ALTER DATABASE CHARACTER SET latin1";

/// What the content of a database tells, without what using it changes.
fn state(server: &Server, database: &str) -> String {
    let sql = |sql: &str| server.sql(database, sql);
    [
        sql("CHECKSUM TABLE note, tag, `odd ``name`, nothing").replace(&format!("{database}."), ""),
        sql("SELECT * FROM recent; SELECT twice(21)"),
        sql("SELECT trigger_name, action_statement, definer, database_collation FROM information_schema.triggers WHERE trigger_schema = DATABASE()"),
        sql("SELECT event_name, status, definer, database_collation FROM information_schema.events WHERE event_schema = DATABASE()"),
        sql("SELECT routine_name, database_collation FROM information_schema.routines WHERE routine_schema = DATABASE() ORDER BY 1"),
        sql("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"),
        sql("SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = DATABASE()"),
        sql("SELECT user, routine_name, proc_priv FROM mysql.procs_priv WHERE db = DATABASE() AND user = 'caller'"),
    ]
    .join("\n")
}

pub(super) fn databases(server: &Server) -> String {
    server.sql("", "SHOW DATABASES")
}

#[test]
fn a_view_whose_definer_is_gone_comes_back_too() {
    let server = Server::start();
    let name = fresh(&server, "definer");
    server.sql(
        &name,
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)); INSERT INTO t VALUES (1, 'a'), (2, 'b');
         CREATE USER gone@localhost; CREATE DEFINER = gone@localhost VIEW seen AS SELECT * FROM t; DROP USER gone@localhost",
    );
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    server.sql(&name, "DELETE FROM t; DROP VIEW seen");
    let view = "SELECT table_name, definer FROM information_schema.views WHERE table_schema = DATABASE()";
    let other = format!("{name}_other");
    for (options, into) in [(json!({"overwrite": true}), &name), (json!({"into": other}), &other)] {
        restored(&bench, &captured, options);
        assert_eq!(server.sql(into, "SELECT COUNT(*) FROM t"), "2");
        assert_eq!(server.sql(into, view), "seen\tgone@localhost");
        server.sql(into, "CREATE OR REPLACE USER gone@localhost; GRANT ALL ON *.* TO gone@localhost");
        assert_eq!(server.sql(into, "SELECT COUNT(*) FROM seen"), "2");
        server.sql(into, "DROP USER gone@localhost");
    }
}

#[test]
fn an_overwrite_that_fails_leaves_the_live_database_as_it_was() {
    let server = Server::start();
    let name = fresh(&server, "live");
    sample(&server, &name);
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let kept = content(&server, &name);
    server.sql(&name, CHANGE);
    server.sql(&name, &format!("CREATE USER caller@'%'; GRANT EXECUTE ON FUNCTION `{name}`.twice TO caller@'%'"));
    let (live, all) = (state(&server, &name), databases(&server));
    let once = tempfile::tempdir().unwrap();
    let marker = once.path().join("failed");
    for (script, code) in [
        // While it is loaded beside.
        ("*--binary-mode*) head -c 9000 $0.all | mariadb \"$@\"; kill -9 $$".to_owned(), "dump_killed"),
        (
            "*--binary-mode*) head -c 9000 $0.all | mariadb \"$@\"; echo 'ERROR 1114 (HY000): The table is full' >&2; exit 1"
                .to_owned(),
            "disk_full",
        ),
        ("*--binary-mode*) grep -v \"note 1500'\" $0.all | mariadb \"$@\"; exit".to_owned(), "restore_differs"),
        // When the tables have changed places already.
        (
            format!(
                "*--database=*) [ -e {0} ] || {{ touch {0}; head -c 2000 $0.all | mariadb \"$@\"; exit 1; }}",
                marker.display()
            ),
            "dump_failed",
        ),
    ] {
        let script = fed(&format!("case \"$*\" in {script};; esac"));
        let bin = programs(&[("mariadb", &script)]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        not_put_back(&bench, &captured, json!({"overwrite": true}), code);
        assert_eq!(state(&server, &name), live, "{script}");
        assert_eq!(databases(&server), all, "{script}");
    }
    assert!(marker.exists());
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    // Another database's foreign keys would follow the old tables.
    let other = fresh(&server, "other");
    server.sql(&other, &format!("CREATE TABLE t (n INT, FOREIGN KEY (n) REFERENCES `{name}`.note (id))"));
    not_put_back(&bench, &captured, json!({"overwrite": true}), "foreign_keys_from_outside");
    server.sql("", &format!("DROP DATABASE `{other}`"));
    assert_eq!(state(&server, &name), live);
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(content(&server, &name), kept);
    assert_eq!(databases(&server), all);
    let may = server.client("mariadb", &name, &["-u", "caller", "-BN", "-e", "SELECT twice(21)"]);
    assert_eq!(String::from_utf8_lossy(&may.stdout).trim(), "42", "rights on routines stay");
}

#[test]
fn a_user_who_may_make_no_other_database_gets_the_old_one_back_when_the_new_one_fails() {
    let server = Server::start();
    let name = fresh(&server, "own");
    server.sql(&name, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let plain = bench.proven();
    server.sql("", &format!("CREATE USER own@'%' IDENTIFIED BY 'own'; GRANT ALL ON `{name}`.* TO own@'%'"));
    server.sql(&name, "INSERT INTO t VALUES (3); CREATE VIEW v AS SELECT a FROM t");
    bench.target.settings["user"] = json!("own");
    bench.target.settings["password"] = secret_file(bench.directory.path(), "own");
    let half = fed("if grep -q '^INSERT' $0.all; then sed '/^INSERT/,$d' $0.all | mariadb \"$@\"; exit 1; fi");
    let bin = programs(&[("mariadb", &half)]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    // What it could not put back, it does not take away.
    not_put_back(&bench, &plain, json!({"overwrite": true}), "not_kept");
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM v"), "3");
    server.sql(&name, "CREATE OR REPLACE DEFINER=own@'%' VIEW v AS SELECT a FROM t");
    let failure = put_back_noted(&bench, &plain, json!({"overwrite": true}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "dump_failed", "{failure}");
    assert_eq!(server.sql(&name, "SELECT COUNT(*), (SELECT COUNT(*) FROM v) FROM t"), "3\t3");
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    restored(&bench, &plain, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "2");
    assert!(!server.sql(&name, "SHOW TABLES").contains('v'));
}

#[test]
fn a_user_who_may_not_even_drop_his_database_leaves_it_as_it_is_and_nothing_to_be_put_right() {
    let server = Server::start();
    let name = fresh(&server, "kept");
    server.sql(&name, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    server.sql(&name, "INSERT INTO t VALUES (3)");
    server.sql("", &format!("CREATE USER own@'%' IDENTIFIED BY 'own'; GRANT ALL ON `{name}`.* TO own@'%'; REVOKE DROP ON `{name}`.* FROM own@'%'"));
    bench.target.settings["user"] = json!("own");
    bench.target.settings["password"] = secret_file(bench.directory.path(), "own");
    let failure = put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "permission_denied", "{failure}");
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "3");
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
}

#[test]
fn killed_between_two_notes_that_all_is_in_its_place_no_database_is_another_ones_past() {
    let server = Server::start();
    let (one, two) = (fresh(&server, "a_one"), fresh(&server, "b_two"));
    let sum = || {
        let sql = |name| server.sql(name, "SELECT SUM(i), (SELECT SUM(i) FROM v) FROM t");
        [sql(&one), sql(&two)]
    };
    for name in [&one, &two] {
        server.sql(name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT i FROM t");
    }
    let mut bench = mariadb(&server, json!({"databases": [one, two]}));
    let captured = bench.proven();
    let all = databases(&server);
    let change = || [&one, &two].map(|name| server.sql(name, "UPDATE t SET i = 2"));
    // What was there can't be dropped, so both notes stay; that of the second is then what it was before.
    let kept = fed(NOTHING_IS_SWEPT);
    // The second can't be noted: the name that its note has while it is written is taken when its tables change places.
    let taken = fed(&format!(
        "if grep -q '^RENAME.*b_two' $0.all; then for f in {0}/larder_*_1.json; do n=${{f##*/}}; mkdir -p {0}/.${{n%.json}}.half; done; fi",
        bench.journal().display()
    ));
    for script in [&kept, &taken] {
        change();
        let bin = programs(&[("mariadb", script)]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        let told = put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap();
        assert!(told.warnings.iter().any(|warning| warning.code == "old_one_left"), "{told:?}");
        bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
        let mut stages = Vec::new();
        for number in 0..2 {
            let mut notes = std::fs::read_dir(bench.journal()).unwrap().map(|entry| entry.unwrap().path());
            let end = format!("_{number}.json");
            let note = notes.find(|path| path.to_str().unwrap().ends_with(&end)).unwrap();
            let mut value: Value = serde_json::from_slice(&std::fs::read(&note).unwrap()).unwrap();
            stages.push(value["stage"].as_str().unwrap().to_owned());
            let half = bench.in_the_way_of(note.file_stem().unwrap().to_str().unwrap());
            let _ = std::fs::remove_dir(half);
            if number == 1 {
                value["stage"] = json!("swapping");
                std::fs::write(&note, value.to_string()).unwrap();
            }
        }
        assert_eq!(stages, ["done", if *script == kept { "done" } else { "swapping" }]);
        assert_eq!(sum(), ["1\t1", "1\t1"]);
        bench.put_right();
        assert_eq!(sum(), ["1\t1", "1\t1"], "the second went back");
        assert_eq!(databases(&server), all);
        assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    }
}

#[test]
fn killed_at_any_instant_of_a_restore_the_database_is_the_old_or_the_new_one() {
    let server = Server::start();
    let name = fresh(&server, "killed");
    sample(&server, &name);
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let (kept, all) = (state(&server, &name), databases(&server));
    server.sql(&name, CHANGE);
    let live = state(&server, &name);
    let (mut olds, mut news, mut finished) = (0, 0, false);
    for step in 0..60 {
        let wait = Duration::from_millis(60 * step * (1 + step / 10));
        let ended = put_back_noted(&bench, &captured, json!({"overwrite": true}), Some(wait));
        // Its rows are those of one of both at every instant.
        let rows = server.sql(&name, "SELECT COUNT(*) FROM tag");
        assert!(rows == "0" || rows == "2", "killed after {wait:?}: {rows}");
        bench.put_right();
        assert_eq!(databases(&server), all, "killed after {wait:?}: all of ours is swept");
        let now = state(&server, &name);
        assert!(
            now == live || now == kept,
            "recovered, killed after {wait:?}:\n{now}\n-- was\n{live}\n-- kept\n{kept}"
        );
        let left: Vec<_> = std::fs::read_dir(bench.journal()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "killed after {wait:?}: {left:?}");
        if now == kept {
            news += 1;
            server.sql(&name, CHANGE);
        } else {
            olds += 1;
        }
        if ended.is_ok() {
            finished = true;
            break;
        }
    }
    assert!(finished && olds > 1 && news > 0, "{olds} times the old one, {news} times the new one");
}

/// What was there before a restore can't be dropped after it.
pub(super) const NOTHING_IS_SWEPT: &str =
    "if grep -q '^DROP DATABASE IF EXISTS' $0.all; then echo 'ERROR 1010 (HY000): no' >&2; exit 1; fi";

/// What is in a database, also where it cannot be read.
fn shape(server: &Server, database: &str, views: &[&str]) -> String {
    let views: Vec<String> =
        views.iter().map(|view| server.sql(database, &format!("SHOW CREATE VIEW {view}"))).collect();
    let rest = "SHOW FULL TABLES; SELECT routine_name, routine_definition FROM information_schema.routines WHERE routine_schema = DATABASE() ORDER BY 1;
         SELECT SUM(i) FROM other; SELECT * FROM fine; SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()";
    format!("{}\n{}", views.join("\n"), server.sql(database, rest))
}

#[test]
fn a_view_of_what_is_gone_is_no_obstacle_and_stays_what_it_is_when_the_restore_fails() {
    let server = Server::start();
    let changes = ["DROP TABLE orders", "ALTER TABLE orders DROP COLUMN j", "DROP FUNCTION f"];
    for (number, change) in changes.into_iter().enumerate() {
        let name = fresh(&server, "invalid");
        server.sql(
            &name,
            "CREATE TABLE orders (i INT, j INT); INSERT INTO orders VALUES (1, 2); CREATE TABLE other (i INT); INSERT INTO other VALUES (3);
             CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1; CREATE PROCEDURE p() SELECT 1;
             CREATE VIEW v AS SELECT i, j, f() AS x FROM orders; CREATE VIEW w AS SELECT * FROM v; CREATE VIEW fine AS SELECT i FROM other;
             CREATE TRIGGER tr BEFORE INSERT ON other FOR EACH ROW SET NEW.i = NEW.i",
        );
        let mut bench = mariadb(&server, json!({ "database": name }));
        let captured = bench.proven();
        let (all, kept) = (databases(&server), shape(&server, &name, &["v", "w", "fine"]));
        // One more, which the backup does not have.
        server.sql(&name, "CREATE VIEW late AS SELECT i, j, f() AS y FROM orders");
        server.sql(&name, change);
        let views = ["v", "w", "fine", "late"];
        let live = shape(&server, &name, &views);
        let feed = format!("case \"$*\" in *--database={name}*) true;; *) false;; esac");
        let rename = format!("grep -q '^RENAME TABLE `{name}`' $0.all");
        for (when, before) in [
            (&feed, "mariadb \"$@\" <$0.all"),
            (&feed, "kill -9 $PPID"),
            (&rename, "mariadb \"$@\" <$0.all; kill -9 $PPID"),
            (&rename, "sed '/^RENAME TABLE.*other/,$d' $0.all | mariadb \"$@\"; kill -9 $PPID"),
        ] {
            let bin = fails_once(when, before);
            bench.target.settings["bin_dir"] = json!(bin.path());
            put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
            assert!(bin.path().join("mariadb.once").exists());
            for _ in 0..2 {
                bench.put_right();
                assert_eq!(shape(&server, &name, &views), live, "{change}: {when}: {before}");
            }
            assert_eq!(databases(&server), all);
            assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
            bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
        }
        let options =
            if number == 0 { json!({"overwrite": true, "compare": true}) } else { json!({"overwrite": true}) };
        restored(&bench, &captured, options);
        assert_eq!(shape(&server, &name, &["v", "w", "fine"]), kept, "{change}");
        assert_eq!(server.sql(&name, "SELECT * FROM w"), "1\t2\t1");
        assert_eq!(databases(&server), all);
    }
}

#[test]
fn a_view_may_be_called_as_a_table_of_the_backup_is_and_a_table_as_a_view() {
    let server = Server::start();
    let name = fresh(&server, "named");
    server.sql(&name, "CREATE TABLE a (i INT); INSERT INTO a VALUES (1); CREATE VIEW q AS SELECT i FROM a");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let look = || server.sql(&name, "SHOW FULL TABLES; SELECT SUM(i) FROM a; SELECT SUM(i) FROM q");
    let (kept, all) = (look(), databases(&server));
    let change = "DROP VIEW q; RENAME TABLE a TO a_new; INSERT INTO a_new VALUES (5); CREATE VIEW a AS SELECT i FROM a_new; CREATE TABLE q (i INT); INSERT INTO q VALUES (7)";
    server.sql(&name, change);
    let live = look();
    // The views of the backup are there already when it fails.
    let views = format!("case \"$*\" in *--database={name}*) grep -q '^/.*VIEW `q` AS' $0.all;; *) false;; esac");
    let bin = fails_once(&views, "mariadb \"$@\" <$0.all");
    bench.target.settings["bin_dir"] = json!(bin.path());
    not_put_back(&bench, &captured, json!({"overwrite": true}), "dump_failed");
    assert!(bin.path().join("mariadb.once").exists());
    assert_eq!(look(), live);
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(look(), kept);
    assert_eq!(databases(&server), all);
}

#[test]
fn a_live_table_that_is_damaged_is_replaced_or_named() {
    let server = Server::start();
    let data = std::path::PathBuf::from(server.sql("", "SELECT @@datadir"));
    for (engine, file, trigger, is_refused) in [
        ("MyISAM", "MYI", "", None),
        ("MyISAM", "frm", "", Some("dump_failed")),
        ("MyISAM", "frm", "x", Some("not_kept")),
    ] {
        let name = fresh(&server, "damaged");
        server.sql(
            &name,
            &format!("CREATE TABLE t (i INT) ENGINE = {engine}; INSERT INTO t VALUES (1); CREATE TABLE o (i INT); CREATE PROCEDURE p() SELECT 1; CREATE VIEW v AS SELECT i FROM t"),
        );
        if !trigger.is_empty() {
            server.sql(&name, "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.i = 1");
        }
        let bench = mariadb(&server, json!({"database": name, "accept": ["not_transactional"]}));
        let captured = bench.proven();
        std::fs::write(data.join(&name).join(format!("t.{file}")), "garbage").unwrap();
        server.sql("", "FLUSH TABLES");
        let list = || {
            server.sql(
                &name,
                "SHOW TABLES; SELECT routine_name FROM information_schema.routines WHERE routine_schema = DATABASE()",
            )
        };
        let live = list();
        if let Some(code) = is_refused {
            let failure = put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
            assert!(
                failure.trouble.hint.as_deref().unwrap().contains(&format!("DROP TABLE `{name}`.`t`")),
                "{failure}"
            );
            assert!(
                [code, "database_missing", "permission_denied"].contains(&failure.trouble.code.as_str()),
                "{failure}"
            );
            assert_eq!(list(), live);
            assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
            if !trigger.is_empty() {
                continue;
            }
            server.sql(&name, "DROP TABLE t");
        }
        restored(&bench, &captured, json!({"overwrite": true}));
        assert_eq!(server.sql(&name, "SELECT i FROM v"), "1");
        assert!(!databases(&server).contains("larder_"));
    }
}

#[test]
fn a_script_that_is_refused_when_the_tables_have_other_names_calls_none_of_them_damaged() {
    let server = Server::start();
    for (kind, is_confined) in [("PROCEDURE", false), ("EVENT", false), ("PROCEDURE", true), ("EVENT", true)] {
        let name = fresh(&server, "refused");
        server.sql(&name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1)");
        let mut bench = mariadb(&server, json!({ "database": name }));
        let captured = bench.proven();
        let user = if is_confined { confined(&server, &mut bench, &name) } else { "root".to_owned() };
        server.sql(
            &name,
            &format!(
                "INSERT INTO t VALUES (2); CREATE TABLE later (i INT); INSERT INTO later VALUES (3);
                 CREATE DEFINER = {user}@'%' PROCEDURE p() SELECT 1; CREATE DEFINER = {user}@'%' EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1"
            ),
        );
        let look = || {
            let code = "SELECT routine_name FROM information_schema.routines WHERE routine_schema = DATABASE(); \
                        SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()";
            server.sql(&name, &format!("SHOW TABLES; SELECT * FROM t; SELECT * FROM later; {code}"))
        };
        let live = look();
        let refused = format!(
            "sed '/^DROP {kind}/,$d' $0.all | mariadb \"$@\"; echo 'ERROR 1370 (42000) at line 9: command denied' >&2"
        );
        let bin = fails_once(&format!("grep -q '^DROP {kind}' $0.all"), &refused);
        bench.target.settings["bin_dir"] = json!(bin.path());
        let failure = not_put_back(&bench, &captured, json!({"overwrite": true}), "permission_denied");
        assert!(bin.path().join("mariadb.once").exists());
        let hint = failure.trouble.hint.as_deref().unwrap();
        assert!(hint.starts_with("see the grants") && !hint.contains("DROP TABLE"), "{kind}: {failure}");
        assert_eq!(look(), live, "{kind}, {is_confined}");
    }
}
