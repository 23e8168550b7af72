//! What stands in the code of a MariaDB database is text, whatever it looks like, and comes back as it was.

use super::database::{not_put_back, restored};
use super::mariadb::{fails_once, fed, fresh, mariadb, programs};
use super::mariadb_swap::databases;
use super::support::mariadb::Server;
use super::*;

/// Has the client read statements with delimiters of their own.
fn load(server: &Server, database: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let source = format!("source {}", file.path().display());
    let done = server.client("mariadb", database, &["-u", "root", "--comments", "-e", &source]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// All code of a database, as it was written.
fn code(server: &Server, database: &str) -> String {
    let here = "schema = DATABASE() ORDER BY 1";
    [
        format!("SELECT routine_name, routine_type, routine_definition FROM information_schema.routines WHERE routine_{here}, 2"),
        format!("SELECT trigger_name, event_object_table, action_statement FROM information_schema.triggers WHERE trigger_{here}"),
        format!("SELECT table_name, view_definition FROM information_schema.views WHERE table_{here}"),
        format!("SELECT event_name, event_definition, status FROM information_schema.events WHERE event_{here}"),
    ]
    .map(|sql| server.sql(database, &sql))
    .join("\n--\n")
    .replace(database, "DATABASE")
}

const TRAPS: &str = "DELIMITER $$
CREATE PROCEDURE remark()
BEGIN
  /* To load by hand:
DELIMITER ;
CALL p();
  */
  -- it's a line
  INSERT INTO t VALUES (99);
END $$
CREATE PROCEDURE string()
BEGIN
  SET @help = 'it''s \\'
DELIMITER ;
USE `mysql`;
DROP TABLE t;
';
END $$
SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES' $$
CREATE PROCEDURE plain() BEGIN SET @a = '\\'; SET @b = '
DELIMITER ;
-- Dump completed on
'; END $$
SET sql_mode = 'ANSI_QUOTES' $$
CREATE PROCEDURE ansi() BEGIN SELECT 1 AS \"\\\"; SET @b = '
DELIMITER ;;
'; END $$
SET sql_mode = '' $$
CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1 $$
CREATE TRIGGER tr BEFORE INSERT /* on all */ ON t FOR EACH ROW BEGIN SET NEW.id = NEW.id; -- it's
END $$
CREATE EVENT `e PRESERVE ENABLE x` ON SCHEDULE EVERY 1 DAY DO BEGIN SET @x = '
DELIMITER ;
'; END $$
DELIMITER ;
";

#[test]
fn a_line_with_a_delimiter_in_a_remark_or_a_string_is_text() {
    let server = Server::start();
    let name = fresh(&server, "traps");
    server.sql(&name, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2); CREATE VIEW v AS SELECT 'x;y\nDELIMITER ;\n' AS a, id FROM t");
    load(&server, &name, TRAPS);
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    assert_eq!(captured.figures["objects"], 8, "{:?}", captured.figures);
    let (kept, all) = (code(&server, &name), databases(&server));
    let other = format!("{name}_other");
    server.sql(&name, "DROP PROCEDURE remark; DROP VIEW v; INSERT INTO t VALUES (3)");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(code(&server, &name), kept);
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "2");
    assert_eq!(databases(&server), all);
    restored(&bench, &captured, json!({"into": other}));
    assert_eq!(code(&server, &other), kept);
    // What fails at the end brings the same back.
    server.sql(&name, "DROP FUNCTION f; INSERT INTO t VALUES (3)");
    let live = code(&server, &name);
    let bin = fails_once(&has_database(&name), "head -c 3000 $0.all | mariadb \"$@\"");
    let mut bench = bench;
    bench.target.settings["bin_dir"] = json!(bin.path());
    not_put_back(&bench, &captured, json!({"overwrite": true}), "dump_failed");
    assert_eq!(code(&server, &name), live);
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "3");
}

/// The words by which a client's script knows that it is fed what belongs into this database.
fn has_database(name: &str) -> String {
    format!("case \"$*\" in *--database={name}*) true;; *) false;; esac")
}

/// The character set of a database, and the collation that each of its code was made with.
fn collations(server: &Server, database: &str) -> String {
    let of = |what: &str, kind: &str| {
        format!(
            "SELECT {what}_name, database_collation FROM information_schema.{kind} WHERE {what}_schema = DATABASE() ORDER BY 1"
        )
    };
    let made = "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = DATABASE()";
    [made.to_owned(), of("trigger", "triggers"), of("routine", "routines"), of("event", "events")]
        .map(|sql| server.sql(database, &sql))
        .join("\n--\n")
}

#[test]
fn code_that_is_older_than_the_character_set_of_its_database_comes_back_with_its_own() {
    let server = Server::start();
    let name = fresh(&server, "al`ter");
    let other = format!("{name}_other");
    let code = "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.i = 1;
         CREATE PROCEDURE p() SELECT 1; CREATE VIEW v AS SELECT i FROM t; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1";
    // A quote in its name and events do not go together in mariadb-dump.
    server.sql(&name, code.split(" CREATE EVENT").next().unwrap());
    let plain = fresh(&server, "alter");
    server.sql(&plain, code);
    for (name, other) in [(&name, &other), (&plain, &format!("{plain}_other"))] {
        server.sql(name, "ALTER DATABASE CHARACTER SET latin1");
        let mut bench = mariadb(&server, json!({ "database": name }));
        let captured = bench.proven();
        let kept = collations(&server, name);
        assert!(kept.starts_with("latin1_swedish_ci") && kept.contains("p\tutf8mb4_general_ci"), "{kept}");
        // The live one is of another character set now, and its code of two.
        server.sql(name, "ALTER DATABASE CHARACTER SET ucs2; CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1");
        let live = collations(&server, name);
        for options in [json!({ "into": other }), json!({"into": other, "overwrite": true})] {
            restored(&bench, &captured, options);
            assert_eq!((collations(&server, other), collations(&server, name)), (kept.clone(), live.clone()));
        }
        let fails = "case \"$*\" in *--database=*) echo \"$*\" >>$0.fed; \
                     [ $(grep -c . $0.fed) -ne 3 ] || { sed '/^CREATE DEFINER/,$d' $0.all | mariadb \"$@\"; exit 1; };; esac";
        let bin = programs(&[("mariadb", &fed(fails))]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        not_put_back(&bench, &captured, json!({"overwrite": true}), "dump_failed");
        assert!(std::fs::read_to_string(bin.path().join("mariadb.fed")).unwrap().lines().count() > 3);
        assert_eq!(collations(&server, name), live, "after a restore that failed");
        bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
        restored(&bench, &captured, json!({"overwrite": true}));
        assert_eq!(collations(&server, name), kept);
        server.sql(
            "",
            &format!("DROP DATABASE `{0}`; DROP DATABASE `{1}`", name.replace('`', "``"), other.replace('`', "``")),
        );
        restored(&bench, &captured, json!({ "into": other }));
        assert_eq!(collations(&server, other), kept);
        restored(&bench, &captured, json!({}));
        assert_eq!(collations(&server, name), kept);
    }
}

#[test]
fn packages_come_back_and_the_live_ones_stay_when_something_fails() {
    let server = Server::start();
    let name = fresh(&server, "packages");
    server.sql(&name, "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT * FROM t");
    let package = |value: u32| {
        format!(
            "SET sql_mode = ORACLE;\nDELIMITER $$\nCREATE OR REPLACE PACKAGE pa AS FUNCTION f RETURN INT; END $$\n\
             CREATE OR REPLACE PACKAGE BODY pa AS FUNCTION f RETURN INT AS BEGIN RETURN {value}; END; END $$\nDELIMITER ;\n"
        )
    };
    load(&server, &name, &package(7));
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let kept = code(&server, &name);
    load(&server, &name, &package(8));
    let live = code(&server, &name);
    let bin = fails_once(&has_database(&name), ":");
    bench.target.settings["bin_dir"] = json!(bin.path());
    let _ = super::database::put_back(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(code(&server, &name), live);
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(code(&server, &name), kept);
}

#[test]
fn a_name_of_the_own_database_in_a_statement_never_reaches_the_live_one() {
    let server = Server::start();
    let name = fresh(&server, "own");
    let other = format!("{name}_2");
    server.sql(
        &name,
        &format!(
            "CREATE SEQUENCE sq START WITH 100; CREATE TABLE t (id INT DEFAULT NEXTVAL(sq) PRIMARY KEY, v VARCHAR(20)) COMMENT '`{name}`.x';
             INSERT INTO t (v) VALUES ('a'), ('b'); CREATE TABLE `{name}` (x INT); CREATE VIEW same AS SELECT `{name}`.x FROM `{name}`;
             CREATE TRIGGER {name} . tr BEFORE INSERT /* on a.b */ ON `{name}`.t FOR EACH ROW SET NEW.v = CONCAT(NEW.v, '!')"
        ),
    );
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let table = |database: &str| {
        server.sql(database, "SHOW CREATE TABLE t").replace(&format!("nextval(`{database}`."), "nextval(`OWN`.")
    };
    let kept = table(&name);
    server.sql(&name, "DROP TRIGGER tr; INSERT INTO t (v) VALUES ('c')");
    let works = |database: &str| {
        assert_eq!(table(database), kept);
        server.sql(database, "INSERT INTO t (v) VALUES ('d')");
        assert_eq!(server.sql(database, "SELECT v FROM t ORDER BY id"), "a\nb\nd!");
        assert!(!server.sql("", "SHOW DATABASES").contains("larder"));
    };
    restored(&bench, &captured, json!({ "into": other }));
    assert_eq!(server.sql(&name, "SHOW TRIGGERS; SELECT COUNT(*) FROM t"), "3", "the live one has none now");
    works(&other);
    restored(&bench, &captured, json!({"overwrite": true}));
    works(&name);
    server.sql("", &format!("DROP DATABASE `{name}`"));
    restored(&bench, &captured, json!({}));
    works(&name);
    // By hand, as the guide says.
    server.sql("", &format!("DROP DATABASE `{name}`"));
    load(&server, "", &std::fs::read_to_string(bench.staging().join(&captured.artifacts[0].path)).unwrap());
    works(&name);
}

#[test]
fn databases_that_use_each_other_come_back_together() {
    let server = Server::start();
    let (one, two) = (fresh(&server, "a_one"), fresh(&server, "b_two"));
    server.sql(
        "",
        &format!(
            "CREATE TABLE {two}.p (id INT PRIMARY KEY); INSERT INTO {two}.p VALUES (1); CREATE TABLE {one}.c (id INT, FOREIGN KEY (id) REFERENCES {two}.p (id));
             INSERT INTO {one}.c VALUES (1); CREATE FUNCTION {two}.f() RETURNS INT DETERMINISTIC RETURN 5; CREATE VIEW {two}.w AS SELECT id FROM {one}.c;
             CREATE VIEW {one}.v AS SELECT c.id, {two}.f() AS f FROM {one}.c JOIN {two}.w ON w.id = c.id JOIN {two}.p ON p.id = c.id"
        ),
    );
    let bench = mariadb(&server, json!({"databases": [one, two]}));
    let captured = bench.proven();
    let state = || {
        server.sql(&one, "SELECT * FROM v; SHOW CREATE TABLE c; SHOW CREATE VIEW v")
            + &server.sql(&two, "SELECT * FROM w; SHOW CREATE VIEW w")
    };
    let (kept, all) = (state(), databases(&server));
    server.sql("", &format!("DROP VIEW {one}.v; INSERT INTO {two}.p VALUES (2); INSERT INTO {one}.c VALUES (2)"));
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!((state(), databases(&server)), (kept.clone(), all.clone()));
    let failure =
        not_put_back(&bench, &captured, json!({"overwrite": true, "databases": [two]}), "foreign_keys_from_outside");
    assert!(failure.trouble.message.contains(&one), "{failure}");
    server.sql("", &format!("DROP DATABASE {one}; DROP DATABASE {two}"));
    restored(&bench, &captured, json!({}));
    assert_eq!((state(), databases(&server)), (kept, all));
}

#[test]
fn an_event_whose_time_is_over_does_not_hold_up_a_restore() {
    let server = Server::start();
    let name = fresh(&server, "events");
    server.sql(
        &name,
        "CREATE TABLE t (i INT); INSERT INTO t VALUES (1); CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO SET @x = 1;
         CREATE EVENT once ON SCHEDULE AT NOW() + INTERVAL 4 SECOND DO SET @x = 1;
         CREATE EVENT fin ON SCHEDULE EVERY 1 SECOND ENDS NOW() + INTERVAL 4 SECOND DO SET @x = 1",
    );
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    assert_eq!(captured.figures["objects"], 3);
    std::thread::sleep(Duration::from_secs(5));
    for options in [json!({"overwrite": true}), json!({"into": format!("{name}_2")})] {
        let told = restored(&bench, &captured, options);
        assert!(
            told.warnings.iter().any(|warning| warning.code == "event_ended" && warning.message.contains("once")),
            "{told:?}"
        );
        assert_eq!(
            server.sql(&name, "SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()"),
            "daily"
        );
    }
}

#[test]
fn rows_and_tables_that_a_stricter_server_would_refuse_come_back() {
    let server = Server::start();
    let name = fresh(&server, "lax");
    let columns: Vec<String> = (0..190).map(|n| format!("c{n} VARCHAR(60)")).collect();
    server.sql(
        &name,
        &format!(
            "CREATE TABLE c (n INT); INSERT INTO c VALUES (5); SET check_constraint_checks = 0; ALTER TABLE c ADD CONSTRAINT pos CHECK (n < 0);
             SET innodb_strict_mode = 0; CREATE TABLE w ({}) CHARSET utf8mb4 ROW_FORMAT = COMPACT",
            columns.join(", ")
        ),
    );
    server.sql(&name, "CREATE TABLE `a\nCREATE TABLE b` (i INT); INSERT INTO `a\nCREATE TABLE b` VALUES (1)");
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    assert_eq!((captured.figures["tables"], captured.figures["rows"]), (3, 2));
    restored(&bench, &captured, json!({"overwrite": true}));
    server.sql("", &format!("DROP DATABASE `{name}`"));
    restored(&bench, &captured, json!({}));
    assert_eq!(server.sql(&name, "SELECT n FROM c"), "5");
}

#[test]
fn who_may_call_a_routine_may_after_a_restore_and_after_one_that_failed_however_its_name_was_written() {
    let server = Server::start();
    let name = fresh(&server, "rights");
    server.sql(
        &name,
        "CREATE TABLE t (i INT PRIMARY KEY); INSERT INTO t VALUES (1); CREATE FUNCTION GetTotal() RETURNS INT DETERMINISTIC RETURN 5;
         CREATE PROCEDURE `Über`() SELECT 6; CREATE USER caller@'%'",
    );
    server.sql(&name, "GRANT EXECUTE ON FUNCTION gettotal TO caller@'%'; GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE `üBER` TO caller@'%' WITH GRANT OPTION");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let rights = || server.sql("", "SHOW GRANTS FOR caller@'%'");
    let may = || {
        let called =
            server.client("mariadb", &name, &["-u", "caller", "-BN", "-e", "SELECT GetTotal(); CALL `Über`()"]);
        String::from_utf8_lossy(&called.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let before = rights();
    assert_eq!(may(), "5 6");
    let told = restored(&bench, &captured, json!({"overwrite": true}));
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);
    assert_eq!((rights(), may()), (before.clone(), "5 6".to_owned()));
    // Failed at once, and killed when the code was there again but not yet the rights.
    for (end, is_killed) in [("exit 1", false), ("exit 1", true)] {
        let fails = format!(
            "case \"$*\" in *--database={name}*) [ -e $0.once ] || {{ touch $0.once; mariadb \"$@\" <$0.all; {end}; }};; esac; \
             if {is_killed} && grep -q '^GRANT ' $0.all && [ ! -e $0.killed ]; then touch $0.killed; kill -9 $PPID; exit 1; fi"
        );
        let bin = programs(&[("mariadb", &fed(&fails))]);
        bench.target.settings["bin_dir"] = json!(bin.path());
        super::database::put_back_noted(&bench, &captured, json!({"overwrite": true}), None).unwrap_err();
        assert_eq!(bin.path().join("mariadb.killed").exists(), is_killed);
        bench.put_right();
        assert_eq!((rights(), may()), (before.clone(), "5 6".to_owned()), "killed: {is_killed}");
        assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
    }
}

#[test]
fn a_right_on_a_routine_that_cannot_be_given_again_is_told_with_its_statement() {
    let server = Server::start();
    let name = fresh(&server, "lost");
    server.sql(&name, "CREATE TABLE t (i INT); CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 5; CREATE FUNCTION g() RETURNS INT DETERMINISTIC RETURN 5;
         CREATE USER caller@'%'; CREATE USER other@'%'");
    server.sql(&name, "GRANT EXECUTE ON FUNCTION f TO caller@'%'; GRANT EXECUTE ON FUNCTION g TO other@'%'");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let refused = "sed \"s/^GRANT EXECUTE\\(.*caller\\)/GRANT NOTHING\\1/\" $0.all | mariadb \"$@\"; exit";
    let bin = programs(&[("mariadb", &fed(refused))]);
    bench.target.settings["bin_dir"] = json!(bin.path());
    let told = super::database::put_back(&bench, &captured, json!({"overwrite": true})).unwrap();
    let codes: Vec<&str> = told.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["right_lost"], "{told:#?}");
    let hint = told.warnings[0].hint.as_deref().unwrap();
    assert!(hint.contains(&format!("GRANT EXECUTE ON FUNCTION `{name}`.`f` TO 'caller'@'%';")), "{hint}");
    server.sql("", hint.split_once(": ").unwrap().1);
    for user in ["caller", "other"] {
        assert!(server.sql("", &format!("SHOW GRANTS FOR {user}@'%'")).contains("GRANT EXECUTE ON FUNCTION"), "{user}");
    }
    // Not one by one without end.
    for number in 0..11 {
        server
            .sql(&name, &format!("CREATE USER caller{number}@'%'; GRANT EXECUTE ON FUNCTION f TO caller{number}@'%'"));
    }
    let told = super::database::put_back(&bench, &captured, json!({"overwrite": true})).unwrap();
    let messages: Vec<&str> = told.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(messages.len(), 11, "{told:#?}");
    assert!(messages[10].starts_with("2 more rights on routines"), "{told:#?}");
}
