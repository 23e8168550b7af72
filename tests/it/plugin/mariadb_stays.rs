//! What a restore of MariaDB must leave alone stays: excluded tables, users that are there, and what it could not put back.

use super::database::{not_put_back, put_back_noted, rehearse, restored};
use super::mariadb::{fails_once, fed, fresh, mariadb, programs};
use super::mariadb_swap::{NOTHING_IS_SWEPT, databases};
use super::support::mariadb::Server;
use super::*;

/// A user with all rights on one database, and none elsewhere.
pub(super) fn confined(server: &Server, bench: &mut Bench, name: &str) -> String {
    let user = format!("u{}", &ulid::Ulid::new().to_string().to_lowercase()[10..]);
    server.sql(
        "",
        &format!("CREATE USER {user}@'%' IDENTIFIED BY 'own'; GRANT ALL ON `{name}`.* TO {user}@'%'; GRANT SELECT ON mysql.proc TO {user}@'%'"),
    );
    bench.target.settings["user"] = json!(user);
    bench.target.settings["password"] = secret_file(bench.directory.path(), "own");
    user
}

#[test]
fn live_tables_that_the_target_leaves_out_stay() {
    let server = Server::start();
    let name = fresh(&server, "left_out");
    server.sql(
        &name,
        "CREATE TABLE keep (i INT); INSERT INTO keep VALUES (1); CREATE TABLE logs (i INT PRIMARY KEY); INSERT INTO logs VALUES (1), (2), (3);
         CREATE TABLE child (l INT, FOREIGN KEY (l) REFERENCES logs (i)); INSERT INTO child VALUES (2);
         CREATE TRIGGER loud BEFORE INSERT ON logs FOR EACH ROW SET NEW.i = NEW.i + 10; CREATE VIEW recent AS SELECT i FROM logs",
    );
    let mut bench = mariadb(&server, json!({"database": name, "exclude_tables": ["logs"]}));
    let captured = bench.capture().unwrap();
    let told = captured.warnings.iter().find(|warning| warning.code == "view_of_excluded").unwrap();
    assert!(told.message.contains("recent (logs)"), "{told}");
    server.sql(&name, "INSERT INTO keep VALUES (2); DELETE FROM child");
    let plan = rehearse(&bench, &captured, json!({"overwrite": true})).unwrap();
    assert!(plan.steps[0].to_string().contains("left as it is, as `exclude_tables` says: logs"), "{:?}", plan.steps);
    let whole = |name: &str| {
        let table = server.sql(name, "SHOW CREATE TABLE child");
        assert!(table.contains("REFERENCES `logs` (`i`)"), "{table}");
        assert_eq!(
            server
                .sql(name, "SELECT COUNT(*) FROM keep; SELECT i FROM logs; SELECT * FROM recent; SELECT l FROM child"),
            "1\n1\n2\n3\n1\n2\n3\n2"
        );
        server.sql(name, "INSERT INTO logs VALUES (4); DELETE FROM logs WHERE i = 14");
    };
    restored(&bench, &captured, json!({"overwrite": true}));
    whole(&name);
    confined(&server, &mut bench, &name);
    server.sql(&name, &format!("DROP TRIGGER loud; CREATE DEFINER = {}@'%' TRIGGER loud BEFORE INSERT ON logs FOR EACH ROW SET NEW.i = NEW.i + 10", bench.target.settings["user"].as_str().unwrap()));
    server.sql(&name, &format!("CREATE OR REPLACE DEFINER = {}@'%' VIEW recent AS SELECT i FROM logs; INSERT INTO keep VALUES (2); DELETE FROM child", bench.target.settings["user"].as_str().unwrap()));
    let captured = bench.capture().unwrap();
    let server_state = server.sql(&name, "SHOW TABLES");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SHOW TABLES"), server_state);
    // A key from there would follow the old tables.
    let mut bench = mariadb(&server, json!({"database": name, "exclude_tables": ["child", "recent"]}));
    bench.run = RunId::generate(jiff::Timestamp::now());
    let captured = bench.capture().unwrap();
    not_put_back(&bench, &captured, json!({"overwrite": true}), "foreign_keys_from_excluded");
    assert_eq!(
        rehearse(&bench, &captured, json!({"overwrite": true})).unwrap_err().trouble.code,
        "foreign_keys_from_excluded"
    );
}

#[test]
fn a_key_to_a_table_that_is_nowhere_stays_one() {
    let server = Server::start();
    let name = fresh(&server, "dangling");
    server.sql(&name, "SET foreign_key_checks = 0; CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES nothere (id)); INSERT INTO child VALUES (1)");
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let kept = server.sql(&name, "SHOW CREATE TABLE child");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SHOW CREATE TABLE child"), kept);
    server.sql("", &format!("DROP DATABASE `{name}`"));
    restored(&bench, &captured, json!({}));
    assert_eq!(server.sql(&name, "SHOW CREATE TABLE child"), kept);
    // It would go with the old tables.
    server.sql(&name, "CREATE TABLE nothere (id INT PRIMARY KEY); INSERT INTO nothere VALUES (1)");
    not_put_back(&bench, &captured, json!({"overwrite": true}), "foreign_keys_to_missing");
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM nothere"), "1");
}

#[test]
fn users_that_are_there_keep_their_passwords_and_rights() {
    let server = Server::start();
    let name = fresh(&server, "users");
    server.sql(
        &name,
        "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE ROLE rl; CREATE USER rot@'%' IDENTIFIED BY 'first'; GRANT rl TO rot@'%';
         CREATE USER lost@'%' IDENTIFIED BY 'lost'; CREATE USER ''@'nowhere'",
    );
    server.sql("", &format!("GRANT ALL ON `{name}`.* TO rot@'%'; GRANT SELECT ON `{name}`.* TO lost@'%'"));
    let bench = mariadb(&server, json!({"database": name, "users": true}));
    let captured = bench.proven();
    let grants = |user: &str| server.sql("", &format!("SHOW GRANTS FOR {user}@'%'"));
    let lost = grants("lost");
    server.sql("", &format!("SET PASSWORD FOR rot@'%' = PASSWORD('rotated'); REVOKE ALL ON `{name}`.* FROM rot@'%'; REVOKE rl FROM rot@'%'; DROP USER lost@'%'"));
    let rot = grants("rot");
    restored(&bench, &captured, json!({"overwrite": true, "users": true}));
    assert_eq!((grants("rot"), grants("lost")), (rot, lost));
    // A restore that fails makes none.
    server.sql("", "DROP USER lost@'%'");
    let bin = programs(&[("mariadb", &fed("grep -v '^(1)' $0.all | mariadb \"$@\"; exit"))]);
    let mut bench = bench;
    bench.target.settings["bin_dir"] = json!(bin.path());
    let _ = super::database::put_back(&bench, &captured, json!({"overwrite": true, "users": true})).unwrap_err();
    assert!(!server.sql("", "SELECT user FROM mysql.user").contains("lost"));
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "1");
}

#[test]
fn users_of_others_stay_when_those_of_the_backup_cannot_be_made() {
    let server = Server::start();
    let name = fresh(&server, "meanwhile");
    server.sql(&name, "CREATE TABLE t (i INT); CREATE ROLE rl; CREATE USER lost@'%'");
    let mut bench = mariadb(&server, json!({"database": name, "users": true}));
    let captured = bench.proven();
    server.sql("", "DROP ROLE rl; DROP USER lost@'%'");
    let users = || server.sql("", "SELECT user FROM mysql.user WHERE host <> 'localhost' ORDER BY 1");
    let half = fed(&half_made(&server, "CREATE USER guest@'%'; CREATE ROLE helpers", "kill -9 $$"));
    let bin = programs(&[("mariadb", &half)]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    let before = users();
    not_put_back(&bench, &captured, json!({"overwrite": true, "users": true}), "dump_killed");
    were_half_made(&bin);
    let mut wanted: Vec<&str> = before.lines().chain(["guest", "helpers"]).collect();
    wanted.sort_unstable();
    assert_eq!(users().lines().collect::<Vec<_>>(), wanted);
    // What failed first is told also when they cannot be dropped.
    let bin = programs(&[("mariadb", &format!("{NO_USER_IS_DROPPED}{half}"))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    let failure = not_put_back(&bench, &captured, json!({"overwrite": true, "users": true}), "permission_denied");
    assert!(failure.trouble.message.contains("was killed by signal 9; and "), "{failure}");
}

/// The script by which users of others are made, and then half of what the backup has of users; `end` follows.
fn half_made(server: &Server, others: &str, end: &str) -> String {
    let root = format!("mariadb --no-defaults -u root -S {}", server.socket().display());
    format!(
        "case \"$*\" in *--force*) {root} -e \"{others}\"; sed '/^GRANT USAGE/,$d' $0.all | mariadb \"$@\"; \
         {root} -BNe 'SELECT user FROM mysql.user' >$0.seen; {end};; esac"
    )
}

fn were_half_made(bin: &tempfile::TempDir) {
    let seen = std::fs::read_to_string(bin.path().join("mariadb.seen")).unwrap();
    for made in ["lost", "rl", "mariadb_dump_import_role"] {
        assert!(seen.lines().any(|user| user == made), "{made}: {seen}");
    }
}

/// What comes before the rest of a client's script, so that users cannot be dropped.
const NO_USER_IS_DROPPED: &str =
    "case \"$*\" in *'DROP USER'*|*'DROP ROLE'*) echo 'ERROR 1227 (42000): Access denied' >&2; exit 1;; esac\n";

#[test]
fn databases_of_a_killed_restore_are_put_right_also_when_its_users_cannot_be_dropped() {
    let server = Server::start();
    let name = fresh(&server, "both");
    server.sql(&name, "CREATE TABLE t (i INT); CREATE ROLE rl; CREATE USER lost@'%'");
    let mut bench = mariadb(&server, json!({"database": name, "users": true}));
    let captured = bench.proven();
    server.sql(&name, "INSERT INTO t VALUES (1); DROP ROLE rl; DROP USER lost@'%'");
    let (users, all) = (|| server.sql("", "SELECT user, host FROM mysql.user ORDER BY 1, 2"), databases(&server));
    let before = users();
    let half = half_made(&server, "SELECT 1", "kill -9 $PPID; exit 1");
    let bin = programs(&[("mariadb", &fed(&format!("{NOTHING_IS_SWEPT}\n{half}")))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    put_back_noted(&bench, &captured, json!({"overwrite": true, "users": true}), None).unwrap_err();
    were_half_made(&bin);
    assert_ne!(databases(&server), all);
    let bin = programs(&[("mariadb", &format!("{NO_USER_IS_DROPPED}exec mariadb \"$@\""))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    assert_eq!(bench.recover_app().unwrap_err().trouble.code, "permission_denied");
    assert_eq!(databases(&server), all);
    assert_ne!(users(), before);
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    bench.put_right();
    assert_eq!(users(), before);
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "0");
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
}

#[test]
fn users_that_a_killed_restore_made_are_dropped_and_made_whole_by_the_next() {
    let server = Server::start();
    let name = fresh(&server, "half_made");
    server.sql(&name, "CREATE TABLE t (i INT); CREATE ROLE rl; CREATE USER lost@'%' IDENTIFIED BY 'lost'; CREATE USER kept@'%'; GRANT rl TO lost@'%'");
    server.sql("", &format!("GRANT SELECT ON `{name}`.* TO lost@'%'; GRANT SELECT ON `{name}`.* TO kept@'%'; GRANT INSERT ON `{name}`.* TO rl"));
    let mut bench = mariadb(&server, json!({"database": name, "users": true}));
    let captured = bench.proven();
    let users = || server.sql("", "SELECT user, host FROM mysql.user ORDER BY 1, 2");
    let grants = || server.sql("", "SHOW GRANTS FOR lost@'%'; SHOW GRANTS FOR rl; SHOW GRANTS FOR kept@'%'");
    let (whole, all) = (grants(), users());
    server.sql("", "DROP USER lost@'%'; DROP ROLE rl");
    let options = json!({"overwrite": true, "users": true});
    let half = half_made(&server, "CREATE USER guest@'%'", "kill -9 $PPID; exit 1");
    let bin = programs(&[("mariadb", &fed(&half))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    let mut before = users();
    put_back_noted(&bench, &captured, options.clone(), None).unwrap_err();
    were_half_made(&bin);
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    bench.put_right();
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    server.sql("", "DROP USER guest@'%'");
    assert_eq!(users(), before);
    put_back_noted(&bench, &captured, options.clone(), None).unwrap();
    assert_eq!((grants(), users()), (whole.clone(), all));
    // What was refused of one that was made is told, and its name proves nothing.
    server.sql("", "DROP USER lost@'%'");
    before = users();
    let refused = "case \"$*\" in *--force*) sed 's/^GRANT SELECT/GRANT NOTHING/' | mariadb \"$@\"; exit;; esac; exec mariadb \"$@\"";
    let bin = programs(&[("mariadb", refused)]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    let told = put_back_noted(&bench, &captured, options, None).unwrap();
    assert!(told.warnings.iter().any(|warning| warning.code == "grant_refused"), "{told:#?}");
    let users_told = told.validations.iter().find(|each| each.name.contains("users")).unwrap();
    assert_eq!(users_told.verdict, Verdict::CouldNotVerify, "{told:#?}");
    assert_ne!(users(), before);
}

#[test]
fn who_may_make_no_second_database_keeps_his_invalid_views_too() {
    let server = Server::start();
    let name = fresh(&server, "confined_view");
    server.sql(&name, "CREATE TABLE orders (i INT); INSERT INTO orders VALUES (1); CREATE TABLE other (i INT); INSERT INTO other VALUES (3)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let user = confined(&server, &mut bench, &name);
    for (view, table) in [("v", "orders"), ("fine", "other")] {
        server.sql(&name, &format!("CREATE DEFINER={user}@'%' VIEW {view} AS SELECT i FROM {table}"));
    }
    let captured = bench.proven();
    let kept = server.sql(&name, "SHOW FULL TABLES; SELECT * FROM v; SELECT * FROM fine");
    server.sql(&name, "DROP TABLE orders; INSERT INTO other VALUES (4)");
    let shape = || server.sql(&name, "SHOW FULL TABLES; SHOW CREATE VIEW v; SELECT * FROM fine");
    let live = shape();
    for end in ["exit 1", "kill -9 $PPID; exit 1"] {
        let half = format!("sed '/^INSERT/,$d' $0.all | mariadb \"$@\"; {end}");
        let bin = fails_once("grep -q '^INSERT' $0.all", &half);
        bench.target.settings["bin_dir"] = json!(bin.path());
        put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
        assert!(bin.path().join("mariadb.once").exists());
        bench.put_right();
        assert_eq!(shape(), live, "{end}");
        assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    }
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SHOW FULL TABLES; SELECT * FROM v; SELECT * FROM fine"), kept);
}

#[test]
fn users_that_are_damaged_are_refused_before_a_database_is_replaced() {
    let server = Server::start();
    let name = fresh(&server, "damaged");
    server.sql(&name, "CREATE TABLE t (i INT)");
    let bench = mariadb(&server, json!({"database": name, "users": true}));
    let captured = bench.proven();
    server.sql(&name, "INSERT INTO t VALUES (1)");
    let index = captured.artifacts.iter().position(|artifact| artifact.path == Path::new("users.sql")).unwrap();
    let mut without_hash = captured.clone();
    without_hash.artifacts[index].sha256 = None;
    let file = bench.staging().join("users.sql");
    let whole = std::fs::read_to_string(&file).unwrap();
    let other = whole.replace("ACCOUNT LOCK", "");
    assert_ne!(whole, other);
    let options = json!({"overwrite": true, "users": true});
    for (text, captured) in
        [(&whole[..whole.len() / 2], &captured), (&whole[..whole.len() / 2], &without_hash), (&other, &captured)]
    {
        std::fs::write(&file, text).unwrap();
        not_put_back(&bench, captured, options.clone(), "dump_damaged");
        assert_eq!(rehearse(&bench, captured, options.clone()).unwrap_err().trouble.code, "dump_damaged");
        assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "1");
    }
    // Who leaves the users out needs them not.
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "0");
}

#[test]
fn who_may_make_no_second_database_gets_the_character_set_back_that_a_failed_restore_changed() {
    let server = Server::start();
    let name = fresh(&server, "set");
    server.sql(&name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let user = confined(&server, &mut bench, &name);
    let function = |says: u8| format!("CREATE DEFINER={user}@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN {says}");
    let code = format!(
        "CREATE DEFINER={user}@'%' PROCEDURE p() SELECT 1; ALTER DATABASE CHARACTER SET latin1; {}",
        function(1)
    );
    server.sql(&name, &code);
    let captured = bench.proven();
    // The function is called as that of the backup is, and is another one.
    server.sql(
        &name,
        &format!("ALTER DATABASE CHARACTER SET ucs2; INSERT INTO t VALUES (2); DROP FUNCTION f; {}", function(2)),
    );
    let state = || {
        server.sql(
            &name,
            "SELECT default_character_set_name, (SELECT COUNT(*) FROM t), f(), (SELECT GROUP_CONCAT(database_collation ORDER BY routine_name)
             FROM information_schema.routines WHERE routine_schema = DATABASE()) FROM information_schema.schemata WHERE schema_name = DATABASE()",
        )
    };
    let live = state();
    assert_eq!(live, "ucs2\t2\t2\tucs2_general_ci,utf8mb4_general_ci");
    for (end, code) in [
        ("'/^CREATE DEFINER.*PROCEDURE/,$d' $0.all | mariadb \"$@\"; exit 1", "dump_failed"),
        ("'s/^(1)/(7)/' $0.all | mariadb \"$@\"; exit", "restore_differs"),
    ] {
        let bin = programs(&[("mariadb", &fed(&format!("if grep -q '^INSERT' $0.all; then sed {end}; fi")))]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        not_put_back(&bench, &captured, json!({"overwrite": true}), code);
        assert_eq!(state(), live, "{code}");
    }
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(state(), "latin1\t1\t1\tlatin1_swedish_ci,utf8mb4_general_ci");
}

#[test]
fn code_without_a_table_stays_when_that_of_the_backup_is_called_so_and_fails() {
    let server = Server::start();
    let name = fresh(&server, "code");
    let mut bench = mariadb(&server, json!({"database": name, "allow_empty": true}));
    let user = confined(&server, &mut bench, &name);
    let function =
        |says: u8| format!("CREATE OR REPLACE DEFINER={user}@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN {says}");
    server.sql(&name, &function(1));
    let captured = bench.proven();
    server.sql(&name, &function(2));
    let bin = programs(&[("mariadb", &fed("if grep -q '^CREATE DEFINER' $0.all; then exit 1; fi"))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    assert_eq!(
        server.sql(&name, "SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = DATABASE()"),
        "0"
    );
    // As after a kill when all was back and what was kept is gone, but not the note.
    server.sql(&name, &function(2));
    for entry in std::fs::read_dir(bench.journal()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "sql") {
            std::fs::remove_file(entry).unwrap();
        } else {
            let mut note: Value = serde_json::from_slice(&std::fs::read(&entry).unwrap()).unwrap();
            assert_eq!(note["stage"], "refilling");
            note["left"] = Value::Null;
            std::fs::write(&entry, note.to_string()).unwrap();
        }
    }
    bench.put_right();
    assert_eq!(server.sql(&name, "SELECT f()"), "2");
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    // The first one is beside, where that may be.
    for fails_at in [1, 2] {
        if fails_at == 2 {
            server.sql("", &format!("GRANT ALL ON `larder\\_%`.* TO {user}@'%'"));
        }
        let fails = format!(
            "if grep -q '^CREATE DEFINER' $0.all; then echo >>$0.fed; \
             [ $(wc -l <$0.fed) -ne {fails_at} ] || {{ mariadb \"$@\" <$0.all; exit 1; }}; fi"
        );
        let bin = programs(&[("mariadb", &fed(&fails))]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        not_put_back(&bench, &captured, json!({}), "dump_failed");
        assert_eq!(std::fs::read_to_string(bin.path().join("mariadb.fed")).unwrap().lines().count(), fails_at + 1);
        assert_eq!(server.sql(&name, "SELECT f()"), "2", "at {fails_at}");
    }
}

#[test]
fn who_may_make_no_second_database_loses_no_row_whatever_the_new_ones_are() {
    let server = Server::start();
    let name = fresh(&server, "confined");
    server.sql(
        &name,
        "CREATE SEQUENCE sq START WITH 100; CREATE TABLE t (id INT DEFAULT NEXTVAL(sq) PRIMARY KEY, v INT); INSERT INTO t (v) VALUES (1), (2);
         CREATE TABLE c (n INT); INSERT INTO c VALUES (5); SET check_constraint_checks = 0; ALTER TABLE c ADD CONSTRAINT pos CHECK (n < 0)",
    );
    let mut bench = mariadb(&server, json!({ "database": name }));
    confined(&server, &mut bench, &name);
    let captured = bench.proven();
    server.sql(&name, "INSERT INTO t (v) VALUES (77); CREATE TABLE later (i INT); INSERT INTO later VALUES (1)");
    let state = || server.sql(&name, "SELECT * FROM t; SELECT * FROM c; SHOW TABLES; SHOW CREATE TABLE t");
    let live = state();
    let file = bench.staging().join(&captured.artifacts[0].path);
    let whole = std::fs::read_to_string(&file).unwrap();
    let mut broken = captured.clone();
    broken.artifacts[0].sha256 = None;
    for wrong in [
        whole.replacen("CREATE TABLE `t` (", "CREATE TABLE `t` ( nonsense", 1),
        whole.replacen("-- Dump completed", "INSERT INTO `gone` VALUES (1);\n-- Dump completed", 1),
    ] {
        std::fs::write(&file, wrong).unwrap();
        bench.run = RunId::generate(jiff::Timestamp::now());
        let failure = put_back_noted(&bench, &broken, json!({"overwrite": true}), None).unwrap_err();
        assert_eq!(failure.trouble.code, "dump_failed", "{failure}");
        assert_eq!(state(), live);
        assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    }
    std::fs::write(&file, whole).unwrap();
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, "SELECT v FROM t; SELECT n FROM c; SHOW TABLES"), "1\n2\n5\nc\nsq\nt");
    // Names of keys belong to the whole database.
    server.sql(&name, "CREATE TABLE c_d (id INT, CONSTRAINT cxd_ibfk_1 FOREIGN KEY (id) REFERENCES t (id))");
    let captured = bench.proven();
    not_put_back(&bench, &captured, json!({"overwrite": true}), "not_kept");
    server.sql(&name, "DROP TABLE c_d; CREATE TABLE c_d (id INT, FOREIGN KEY (id) REFERENCES t (id))");
    let captured = bench.proven();
    restored(&bench, &captured, json!({"overwrite": true}));
    server.sql(&name, "CREATE TABLE k (id INT, CONSTRAINT named FOREIGN KEY (id) REFERENCES t (id))");
    let captured = bench.proven();
    let failure = not_put_back(&bench, &captured, json!({"overwrite": true}), "not_kept");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("GRANT ALL ON `larder\\_%`.*"), "{failure}");
    assert_eq!(rehearse(&bench, &captured, json!({"overwrite": true})).unwrap_err().trouble.code, "not_kept");
    let user = bench.target.settings["user"].as_str().unwrap().to_owned();
    server.sql("", &format!("GRANT ALL ON `larder\\_%`.* TO {user}@'%'"));
    restored(&bench, &captured, json!({"overwrite": true}));
}

#[test]
fn a_database_that_was_mended_by_hand_is_left_alone() {
    let server = Server::start();
    let name = fresh(&server, "mended");
    server.sql(&name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT i FROM t");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    server.sql(&name, "INSERT INTO t VALUES (2)");
    let bin = programs(&[("mariadb", &fed(&format!("case \"$*\" in *--database={name}*) exit 1;; esac")))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "2", "the rows are back");
    bench.recover_app().unwrap_err();
    server.sql("", &format!("DROP DATABASE `{name}`; CREATE DATABASE `{name}`; CREATE TABLE `{name}`.mended (i INT); INSERT INTO `{name}`.mended VALUES (1), (2), (3)"));
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    for _ in 0..2 {
        assert_eq!(bench.recover_app().unwrap_err().trouble.code, "changed_since");
        assert_eq!(server.sql(&name, "SHOW TABLES; SELECT COUNT(*) FROM mended"), "mended\n3");
    }
}

#[test]
fn rows_that_the_server_would_not_take_again_are_told() {
    let server = Server::start();
    let name = fresh(&server, "long");
    server
        .sql(&name, "CREATE TABLE f (id INT PRIMARY KEY, b LONGBLOB); INSERT INTO f VALUES (1, REPEAT('x', 10000000))");
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.capture().unwrap();
    assert_eq!(captured.warnings[0].code, "row_too_long", "{:?}", captured.warnings);
    assert_eq!(rehearse(&bench, &captured, json!({"overwrite": true})).unwrap_err().trouble.code, "row_too_long");
    server.sql("", "SET GLOBAL max_allowed_packet = 67108864");
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    restored(&bench, &captured, json!({"overwrite": true}));
}

#[test]
fn tables_that_the_server_was_not_asked_for_are_not_called_damaged() {
    let server = Server::start();
    let name = fresh(&server, "unasked");
    server.sql(&name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE PROCEDURE p() SELECT 1");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let dump = "case \"$*\" in *--no-data*) echo 'Error response from daemon: EOF' >&2; exit 1;; esac; exec mariadb-dump \"$@\"";
    for said in ["Error response from daemon: EOF", "mariadb: not found", "ERROR 2026 (HY000): TLS/SSL error: EOF", ""]
    {
        let client = format!("case \"$*\" in *'SHOW FIELDS'*) echo '{said}' >&2; exit 1;; esac; exec mariadb \"$@\"");
        let bin = programs(&[("mariadb", &client), ("mariadb-dump", dump)]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        let failure = not_put_back(&bench, &captured, json!({"overwrite": true}), "not_kept");
        assert!(!failure.trouble.hint.as_deref().unwrap_or_default().contains("DROP TABLE"), "{said}: {failure}");
        assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "1");
    }
}
