//! The plugin `mariadb` against a real server: what is kept comes back, and what goes wrong is told.

use larder::plugin::Verb;

use super::database::{never_proven_when_damaged, not_put_back, put_back, rehearse, restored, steps};
use super::support::mariadb::{ADMIN, PASSWORD, Server};
use super::*;

/// A target of `server` as the administrator.
pub(super) fn mariadb(server: &Server, more: Value) -> Bench {
    let mut bench = Bench::new("mariadb", json!({"host": "127.0.0.1", "port": server.port, "user": ADMIN}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), PASSWORD);
    for (key, value) in more.as_object().unwrap() {
        bench.target.settings[key] = value.clone();
    }
    bench
}

pub(super) fn fresh(server: &Server, prefix: &str) -> String {
    let name = format!("{prefix}_{}", ulid::Ulid::new().to_string().to_lowercase());
    server.create_database(&name);
    name
}

pub(super) const SAMPLE: &str = "CREATE TABLE note (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT, data BLOB, n DOUBLE, d DECIMAL(20,8));
    INSERT INTO note (text, data, n, d) SELECT CONCAT('note ', seq), UNHEX(MD5(seq)), seq / 7, seq / 3 FROM seq_1_to_3000;
    INSERT INTO note (text, data) VALUES ('it''s \\\\ a \\n\\r\\t\\0 \"süß\" ', ''), ('', x'00ff5c27'), (NULL, NULL);
    CREATE TABLE tag (note INT, name VARCHAR(20), FOREIGN KEY (note) REFERENCES note (id)); INSERT INTO tag VALUES (1, 'süß'), (2, NULL);
    CREATE TABLE `odd ``name` (a INT); INSERT INTO `odd ``name` VALUES (5);
    CREATE TABLE nothing (a INT);
    CREATE VIEW recent AS SELECT id, text FROM note ORDER BY id DESC LIMIT 5;
    CREATE TRIGGER loud BEFORE INSERT ON tag FOR EACH ROW SET NEW.name = UPPER(NEW.name);
    CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
    CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO DELETE FROM nothing;
    CREATE SEQUENCE numbers START WITH 42;";

/// All that the sample holds, as one text.
pub(super) fn content(server: &Server, database: &str) -> String {
    let sql = |sql: &str| server.sql(database, sql);
    [
        sql("CHECKSUM TABLE note, tag, `odd ``name`, nothing").replace(&format!("{database}."), ""),
        sql("SELECT * FROM recent; SELECT twice(21); SELECT NEXT VALUE FOR numbers"),
        sql("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()"),
        sql("SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()"),
        sql("SELECT constraint_name FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE()"),
        sql("SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = DATABASE()"),
    ]
    .join("\n")
}

pub(super) fn sample(server: &Server, name: &str) {
    server.sql(name, SAMPLE);
}

#[test]
fn a_database_comes_back_as_it_was() {
    let server = Server::shared();
    let name = format!("my od`d-db ü {}", ulid::Ulid::new());
    server.create_database(&name);
    sample(&server, &name);
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();

    assert_eq!((captured.figures["tables"], captured.figures["rows"]), (4, 3006));
    assert!(captured.app_version.as_deref().unwrap().starts_with("MariaDB "), "{:?}", captured.app_version);
    let file = captured.artifacts[0].path.to_str().unwrap();
    assert!(file.starts_with("my%20od%60d-db"), "{file}");
    assert_eq!(bench.staged(), [file], "nothing else is left");
    assert!(!bench.log().contains(PASSWORD) && captured.warnings.is_empty(), "{:?}", captured.warnings);
    let mode = std::os::unix::fs::PermissionsExt::mode(&bench.staging().join(file).metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "the dump is for its owner alone");
    // Taken before the sequence is used below.
    let before = content(&server, &name);

    let second = format!("b`ack_{}", ulid::Ulid::new());
    let told = rehearse(&bench, &captured, json!({ "into": second })).unwrap();
    assert_eq!(steps(&told), [(Verb::Create, format!("database {second}").as_str())]);
    assert!(!server.sql("", "SHOW DATABASES").contains("b`ack_"), "a dry run makes nothing");

    let told = restored(&bench, &captured, json!({ "into": second }));
    assert_eq!(told.app_version, captured.app_version);
    assert_eq!(content(&server, &second).replace(&second, ""), before.replace(&name, ""));

    // A database with tables is dropped only when that is said.
    server.sql(&second, "DROP TABLE tag; UPDATE note SET text = 'lost'; CREATE TABLE later (a INT)");
    let failure = not_put_back(&bench, &captured, json!({ "into": second }), "database_not_empty");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("overwrite"), "{failure}");
    let told = rehearse(&bench, &captured, json!({"into": second, "overwrite": true})).unwrap();
    assert_eq!(told.steps[0].verb, Verb::Replace);
    assert_eq!(server.sql(&second, "SELECT COUNT(*) FROM later"), "0", "a dry run drops nothing");
    restored(&bench, &captured, json!({"into": second, "overwrite": true}));
    assert_eq!(content(&server, &second).replace(&second, ""), before.replace(&name, ""));
    not_put_back(&bench, &captured, json!({"databases": ["other"]}), "not_in_backup");
    not_put_back(&bench, &captured, json!({"users": true, "into": "x"}), "no_users");
    not_put_back(&bench, &captured, json!({"in": "x"}), "restore_options");
}

#[test]
fn all_databases_and_the_users_are_kept_and_come_back_on_another_server() {
    // Its own server: other tests make databases that would be kept too.
    let server = Server::start();
    for name in ["one", "t w o"] {
        server.create_database(name);
        server.sql(name, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)");
    }
    server.sql("one", "CREATE USER reader@'%' IDENTIFIED BY 'letmein'; GRANT SELECT ON one.* TO reader@'%'");
    let bench = mariadb(&server, json!({"all": true}));
    let captured = bench.proven();
    let mut files: Vec<&str> = captured.artifacts.iter().map(|artifact| artifact.path.to_str().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(files, ["one.sql", "t%20w%20o.sql", "users.sql"]);
    assert_eq!((captured.figures["databases"], captured.figures["rows.one.t"]), (2, 1));

    let other = Server::shared();
    let mut into = mariadb(&other, json!({"all": true}));
    into.directory = bench.directory;
    into.target.settings["password"] = secret_file(into.directory.path(), PASSWORD);
    let told = rehearse(&into, &captured, json!({"users": true})).unwrap();
    assert_eq!(steps(&told).len(), 3);
    assert!(!other.sql("", "SELECT user FROM mysql.user").contains("reader"));
    not_put_back(&into, &captured, json!({"into": "x"}), "restore_options");
    restored(&into, &captured, json!({"users": true}));
    let reads = other.client("mariadb", "", &["-u", "reader", "-pletmein", "-BN", "-e", "SELECT a FROM one.t"]);
    assert_eq!(String::from_utf8_lossy(&reads.stdout).trim(), "1", "{}", String::from_utf8_lossy(&reads.stderr));
}

#[test]
fn a_server_that_refuses_or_is_down_is_told() {
    let server = Server::shared();
    let name = fresh(&server, "there");
    server.sql(&name, "CREATE TABLE t (a INT)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "wrong-password-1");
    let failure = bench.refused("unauthorized");
    assert!(failure.trouble.hint.is_some() && !failure.to_string().contains("wrong-password-1"), "{failure}");
    bench.target.settings.as_object_mut().unwrap().remove("password");
    bench.refused("unauthorized");

    let failure = mariadb(&server, json!({"database": "never made"})).refused("database_missing");
    assert!(failure.trouble.message.contains("never made"), "{failure}");
    mariadb(&server, json!({"databases": [name, "never made"]})).refused("database_missing");
    let place = json!({"host": "127.0.0.1", "port": support::free_port(), "user": "x", "database": "y"});
    Bench::new("mysql", place).refused("unreachable");
    Bench::new("mariadb", json!({"socket": "/nowhere/s", "user": "x", "database": "y"})).refused("unreachable");
    let nothing = tempfile::tempdir().unwrap();
    mariadb(&server, json!({"database": name, "bin_dir": nothing.path()})).refused("no_client");
    for more in [json!({}), json!({"database": "a", "all": true}), json!({"databases": [""]}), json!({"databse": "a"})]
    {
        let mut settings = json!({"host": "127.0.0.1", "user": "x"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Bench::new("mariadb", settings).refused("settings");
    }
    Bench::new("mariadb", json!({"user": "x", "database": "y"})).refused("settings");
}

#[test]
fn the_grants_of_the_guide_are_enough_and_less_is_told() {
    let server = Server::shared();
    let name = fresh(&server, "rights");
    server.sql(&name, "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; CREATE PROCEDURE p() SELECT 1;
        CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1; CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1;
        CREATE SEQUENCE s");
    let user = format!("u{}", &ulid::Ulid::new().to_string().to_lowercase()[10..]);
    server.sql("", &format!("CREATE USER {user}@'%' IDENTIFIED BY 'poor'; GRANT SELECT ON `{name}`.* TO {user}@'%'"));
    let mut bench = mariadb(&server, json!({"database": name, "user": user}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "poor");
    let failure = bench.refused("permission_denied");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("grants"), "{failure}");
    assert_eq!(bench.staged(), Vec::<String>::new());
    server.sql(
        "",
        &format!(
            "GRANT SHOW VIEW, TRIGGER, EVENT ON `{name}`.* TO {user}@'%'; GRANT SELECT ON mysql.proc TO {user}@'%'"
        ),
    );
    let captured = bench.proven();
    assert_eq!(captured.figures["objects"], 5, "view, procedure, event, trigger, sequence");
    // Who may only read can't restore, and is told so before it has done harm.
    not_put_back(&bench, &captured, json!({"into": "elsewhere"}), "permission_denied");
}

#[test]
fn the_connection_is_encrypted_and_the_server_looked_at_when_that_is_said() {
    let server = Server::shared();
    let name = fresh(&server, "tls");
    server.sql(&name, "CREATE TABLE t (a INT)");
    let user = format!("u{}", &ulid::Ulid::new().to_string().to_lowercase()[10..]);
    server.sql(
        "",
        &format!("CREATE USER {user}@'%' IDENTIFIED BY 'tls' REQUIRE SSL; GRANT ALL ON `{name}`.* TO {user}@'%'"),
    );
    let bench = |more: Value| {
        let mut bench = mariadb(&server, json!({"database": name, "user": user, "host": "localhost"}));
        bench.target.settings["password"] = secret_file(bench.directory.path(), "tls");
        bench.target.settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bench
    };
    bench(json!({"ssl_mode": "disable"})).refused("unauthorized");
    let captured = bench(json!({"ssl_mode": "require"})).proven();
    // The password is a part of the database's name too: its figures go by a number.
    assert_eq!(captured.figures["tables.database-1"], 1);
    bench(json!({"ssl_mode": "verify", "ssl_ca": server.certificate()})).proven();
    let other = tempfile::tempdir().unwrap();
    support::certificate(other.path());
    bench(json!({"ssl_mode": "verify", "ssl_ca": other.path().join("server.crt")})).refused("tls");
}

#[test]
fn a_damaged_dump_is_never_proven_and_never_restored() {
    let server = Server::shared();
    let name = fresh(&server, "sound");
    sample(&server, &name);
    let bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.proven();
    let file = bench.staging().join(&captured.artifacts[0].path);
    let whole = std::fs::read(&file).unwrap();
    let at = |text: &[u8]| whole.windows(text.len()).position(|part| part == text).unwrap();
    let flips = [0, at(b"note 1500"), at(b"CREATE TABLE `tag`"), at(b"INSERT INTO"), whole.len() - 2];
    never_proven_when_damaged(&bench, &captured, 0, &flips, b"PGDMP not for this server");

    // A row that is gone is seen without a hash too.
    let mut without_hash = captured.clone();
    without_hash.artifacts[0].sha256 = None;
    let text = String::from_utf8(whole.clone()).unwrap();
    let start = text.find("(1500,").unwrap();
    let end = start + text[start..].find('\n').unwrap() + 1;
    std::fs::write(&file, format!("{}{}", &text[..start], &text[end..])).unwrap();
    assert_eq!(verdict(&bench.validate(&without_hash).unwrap()), Verdict::Failed);
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let into = format!("never_{}", ulid::Ulid::new());
    for captured in [&captured, &without_hash] {
        not_put_back(&bench, captured, json!({ "into": into }), "dump_damaged");
    }
    assert!(!server.sql("", "SHOW DATABASES").contains(&into));
}

/// A directory with the server's programs, of which some are replaced by scripts.
pub(super) fn programs(scripts: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["mariadb", "mariadb-dump"] {
        let text = match scripts.iter().find(|(script, _)| *script == name) {
            Some((_, text)) => format!("#!/bin/sh\ncase \"$*\" in --version) exec {name} --version;; esac\n{text}\n"),
            None => format!("#!/bin/sh\nexec {name} \"$@\"\n"),
        };
        write_plugin(directory.path(), name, &text, 0o755);
    }
    directory
}

/// The script of a client that answers questions, and with what else it is fed, which is in `$0.all`, does `first` this.
pub(super) fn fed(first: &str) -> String {
    format!(
        "case \"$*\" in *--execute=*) exec mariadb \"$@\";; esac; cat >$0.all\n{first}\nexec mariadb \"$@\" <$0.all"
    )
}

/// A client that fails once, `when` it is called so; `before` that it may do what it is to do.
pub(super) fn fails_once(when: &str, before: &str) -> tempfile::TempDir {
    let first = format!("if [ ! -e $0.once ] && {when}; then touch $0.once; {before}; exit 1; fi");
    programs(&[("mariadb", &fed(&first))])
}

#[test]
fn a_dump_program_that_fails_or_stops_half_way_leaves_nothing_that_looks_like_a_dump() {
    let server = Server::shared();
    let name = fresh(&server, "half");
    sample(&server, &name);
    let half = "for a in \"$@\"; do case $a in --result-file=*) f=${a#--result-file=};; esac; done; mariadb-dump \"$@\"; \
                n=$(($(wc -c <\"$f\") / 2)); truncate -s $n \"$f\"";
    for (end, code) in [
        ("kill -9 $$".to_owned(), "dump_killed"),
        ("exit 2".to_owned(), "dump_failed"),
        ("exit 0".to_owned(), "dump_cut"),
        ("head -c 700 \"$f\" >\"$f.h\"; mv \"$f.h\" \"$f\"".to_owned(), "dump_cut"),
        (": >\"$f\"".to_owned(), "dump_cut"),
        ("echo 'mariadb-dump: Got errno 28 on write' >&2; exit 2".to_owned(), "disk_full"),
    ] {
        let bin = programs(&[("mariadb-dump", &format!("{half}; {end}"))]);
        let bench = mariadb(&server, json!({"database": name, "bin_dir": bin.path()}));
        let failure = bench.refused(code);
        assert_eq!(failure.outcome == Outcome::Deferred, code == "disk_full", "{failure}");
        assert_eq!(bench.staged(), Vec::<String>::new(), "{end}");
    }
    // One that leaves a table out without a word.
    let script = format!("first=$1; shift; exec mariadb-dump \"$first\" --ignore-table={name}.tag \"$@\"");
    let bin = programs(&[("mariadb-dump", &script)]);
    let bench = mariadb(&server, json!({"database": name, "bin_dir": bin.path()}));
    assert_eq!(bench.refused("tables_changed").outcome, Outcome::Deferred);
}

#[test]
fn no_password_is_in_the_arguments_or_left_in_a_file() {
    let server = Server::shared();
    let name = fresh(&server, "args");
    server.sql(&name, "CREATE TABLE t (a INT)");
    let told = tempfile::tempdir().unwrap();
    let seen = told.path().join("seen");
    let script = |name: &str| format!("echo \"$0 $*\" >>{0}; env >>{0}; exec {name} \"$@\"", seen.display());
    let bin = programs(&[("mariadb", &script("mariadb")), ("mariadb-dump", &script("mariadb-dump"))]);
    let bench = mariadb(&server, json!({"database": name, "bin_dir": bin.path()}));
    let captured = bench.proven();
    restored(&bench, &captured, json!({"into": format!("{name}_2")}));
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("--defaults-file=/proc/") && !seen.contains(PASSWORD) && !seen.contains("hüter"), "{seen}");
}

#[test]
fn an_old_client_restores_too_and_one_that_loses_a_row_is_found_out() {
    let server = Server::shared();
    let name = fresh(&server, "client");
    sample(&server, &name);
    let old =
        "if head -1 $0.all | grep -q sandbox; then echo \"ERROR at line 1: Unknown command '\\-'.\" >&2; exit 1; fi";
    let bin = programs(&[("mariadb", &fed(old))]);
    let bench = mariadb(&server, json!({"database": name, "bin_dir": bin.path()}));
    let captured = bench.proven();
    restored(&bench, &captured, json!({"into": format!("{name}_old")}));

    let bin = programs(&[("mariadb", &fed("grep -v \"note 1500'\" $0.all | mariadb \"$@\"; exit"))]);
    let mut bench = bench;
    bench.target.settings["bin_dir"] = json!(bin.path());
    let told = put_back(&bench, &captured, json!({"into": format!("{name}_lossy")})).unwrap();
    assert_eq!(verdict(&told.validations), Verdict::Failed);
    assert!(told.validations[0].detail.contains("note has 3002 rows instead of 3003"), "{:?}", told.validations);
    // Without the comparison it is not called proven.
    let told =
        put_back(&bench, &captured, json!({"into": format!("{name}_lossy"), "overwrite": true, "compare": false}));
    assert_eq!(verdict(&told.unwrap().validations), Verdict::CouldNotVerify);
}

#[test]
fn a_database_without_tables_is_an_error_unless_that_is_meant() {
    let server = Server::shared();
    let name = fresh(&server, "empty");
    mariadb(&server, json!({ "database": name })).refused("database_empty");
    let bench = mariadb(&server, json!({"database": name, "allow_empty": true}));
    let captured = bench.proven();
    restored(&bench, &captured, json!({"into": format!("{name}_2")}));
    server
        .sql(&name, "CREATE TABLE big_log (a INT); CREATE TABLE kept (a INT); CREATE TABLE old (a INT) ENGINE=MyISAM");
    let captured =
        mariadb(&server, json!({"database": name, "exclude_tables": ["big_log", "elsewhere.kept"]})).proven();
    assert_eq!(captured.figures["tables"], 2);
    assert_eq!(captured.warnings[0].code, "not_transactional");
    assert!(captured.warnings[0].message.contains("old"), "{:?}", captured.warnings);
    let all = ["big_log", "kept", &format!("{name}.old")];
    mariadb(&server, json!({"database": name, "exclude_tables": all})).refused("database_empty");
}
