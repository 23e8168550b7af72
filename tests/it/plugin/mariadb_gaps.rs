//! What a dump of MariaDB lacks is said, with the grant that mends it.

use super::database::restored;
use super::mariadb::{fresh, mariadb, sample};
use super::support::mariadb::Server;
use super::*;
use larder::plugin::CaptureFacts;

fn facts(captured: &Captured) -> CaptureFacts {
    CaptureFacts {
        artifacts: captured.artifacts.clone(),
        sources: captured.sources.clone(),
        app_version: captured.app_version.clone(),
        figures: captured.figures.clone(),
    }
}

fn as_user(bench: &mut Bench, user: &str) {
    bench.target.settings["user"] = json!(user);
    bench.target.settings["password"] = secret_file(bench.directory.path(), "poor");
}

#[test]
fn what_the_user_may_not_see_is_missed_with_the_grant_to_give() {
    let server = Server::start();
    let name = fresh(&server, "seen");
    sample(&server, &name);
    let whole = mariadb(&server, json!({ "database": name })).proven();
    assert!(whole.warnings.is_empty() && whole.figures["objects"] == 5, "{:?}", whole.warnings);
    for (user, grants, missing, grant) in [
        ("norout", "SHOW VIEW, TRIGGER, EVENT", "routines", "GRANT SELECT ON mysql.proc TO 'norout'@'%'"),
        ("notrig", "SHOW VIEW, EVENT, EXECUTE", "triggers", "GRANT TRIGGER ON `"),
    ] {
        server.sql(
            "",
            &format!("CREATE USER {user}@'%' IDENTIFIED BY 'poor'; GRANT SELECT, {grants} ON `{name}`.* TO {user}@'%'"),
        );
        if user == "notrig" {
            server.sql("", &format!("GRANT SELECT ON mysql.proc TO {user}@'%'"));
        }
        let mut bench = mariadb(&server, json!({ "database": name }));
        bench.inputs.previous = Some(facts(&whole));
        as_user(&mut bench, user);
        let captured = bench.capture().unwrap();
        assert_eq!(captured.warnings.len(), 1, "{:?}", captured.warnings);
        let warning = &captured.warnings[0];
        assert_eq!(warning.code, "unseen");
        assert!(warning.message.contains(missing) && warning.message.contains("1 in the last backup"), "{warning}");
        assert!(warning.hint.as_deref().unwrap().contains(grant), "{warning}");
        bench.target.settings["accept"] = json!(["unseen"]);
        let captured = bench.capture().unwrap();
        assert!(captured.warnings.is_empty() && captured.notices[0].code == "unseen");
    }
    // By a role, and a table that is granted alone.
    server.sql("", &format!("CREATE ROLE looker; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `{name}`.* TO looker; GRANT SELECT ON mysql.proc TO looker;
        CREATE USER viarole@'%' IDENTIFIED BY 'poor'; GRANT looker TO viarole@'%'; SET DEFAULT ROLE looker FOR viarole@'%';
        CREATE USER alone@'%' IDENTIFIED BY 'poor'; GRANT SELECT, TRIGGER, SHOW VIEW ON `{name}`.note TO alone@'%'; GRANT EVENT ON `{name}`.* TO alone@'%';
        GRANT SELECT ON mysql.proc TO alone@'%'"));
    let mut bench = mariadb(&server, json!({ "database": name }));
    as_user(&mut bench, "viarole");
    let captured = bench.proven();
    assert_eq!((captured.warnings.len(), captured.figures["objects"]), (0, 5), "{:?}", captured.warnings);
    as_user(&mut bench, "alone");
    let captured = bench.capture().unwrap();
    let told = captured.warnings.iter().find(|warning| warning.code == "unseen").unwrap();
    assert!(told.message.contains("tables") && told.hint.as_deref().unwrap().contains("GRANT SELECT ON `"), "{told}");
    // Who sees that there are routines but not what is in them is refused with the same grant.
    server.sql("", &format!("CREATE USER halfway@'%' IDENTIFIED BY 'poor'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `{name}`.* TO halfway@'%'"));
    as_user(&mut bench, "halfway");
    let failure = bench.refused("permission_denied");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("mysql.proc"), "{failure}");
}

#[test]
fn a_database_that_is_gone_or_emptied_is_told_until_that_is_said_to_be_right() {
    let server = Server::start();
    for name in ["app", "shop"] {
        server.create_database(name);
        server.sql(name, "CREATE TABLE t (a INT); INSERT INTO t SELECT seq FROM seq_1_to_20000");
    }
    server.sql(
        "app",
        "CREATE TABLE u (a INT); INSERT INTO u VALUES (1); CREATE TABLE v (a INT); INSERT INTO v VALUES (1)",
    );
    let mut bench = mariadb(&server, json!({"all": true}));
    bench.inputs.previous = Some(facts(&bench.proven()));
    server.sql("app", "DROP TABLE u; TRUNCATE v");
    let captured = bench.proven();
    let told: Vec<&str> = captured.notices.iter().map(|notice| notice.message.as_str()).collect();
    assert!(captured.warnings.is_empty() && told.len() == 2, "{captured:?}");
    assert!(told.concat().contains("u of app (it had 1)") && told.concat().contains("v of app (it had 1)"), "{told:?}");
    server.sql("app", "DROP TABLE v");
    bench.inputs.previous = None;
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    bench.inputs.previous = Some(facts(&captured));
    server.sql("", "DROP DATABASE shop; TRUNCATE app.t");
    let captured = bench.capture().unwrap();
    let codes: Vec<&str> = captured.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["database_gone", "database_emptied"], "{:?}", captured.warnings);
    assert!(captured.warnings[0].message.contains("shop") && captured.warnings[1].message.contains("20000"));
    server.sql("app", "DROP TABLE t");
    bench.refused("database_empty");
    server.sql("app", "CREATE TABLE t (a INT)");
    bench.target.settings["except"] = json!(["shop"]);
    bench.target.settings["allow_empty"] = json!(true);
    let captured = bench.proven();
    assert!(captured.warnings.is_empty() && captured.notices[0].code == "database_emptied", "{:?}", captured.warnings);
}

#[test]
fn what_the_tool_leaves_out_or_rounds_is_said_and_history_is_kept() {
    let server = Server::shared();
    let name = fresh(&server, "design");
    server.sql(
        &name,
        "CREATE TABLE v (id INT PRIMARY KEY, t TEXT) WITH SYSTEM VERSIONING; INSERT INTO v VALUES (1, 'a'), (2, 'b');
         UPDATE v SET t = 'c' WHERE id = 1; DELETE FROM v WHERE id = 2;
         CREATE TABLE exact (f FLOAT, d DOUBLE); INSERT INTO exact VALUES (0.1, 1/3), (1e10, 0), (NULL, NULL);
         CREATE TABLE old (a INT) ENGINE=MyISAM; INSERT INTO old VALUES (1)",
    );
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.capture().unwrap();
    assert_eq!(captured.warnings.len(), 1, "{:?}", captured.warnings);
    assert_eq!(captured.warnings[0].code, "not_transactional");
    assert!(captured.notices.is_empty(), "{:?}", captured.notices);
    server.sql(&name, "INSERT INTO exact VALUES (16777217, 0)");
    bench.target.settings["accept"] = json!(["not_transactional"]);
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    let codes: Vec<&str> = captured.notices.iter().map(|notice| notice.code.as_str()).collect();
    assert_eq!(codes, ["floats_rounded", "not_transactional"]);
    assert!(captured.notices[0].message.contains("exact (f)"), "{:?}", captured.notices);
    // All that the table ever held comes back.
    let history = "SELECT id, t, ROW_START, ROW_END FROM v FOR SYSTEM_TIME ALL ORDER BY id, ROW_START";
    let before = server.sql(&name, history);
    assert_eq!(before.lines().count(), 3);
    server.sql(&name, "DELETE FROM exact WHERE f = 16777217");
    let captured = bench.proven();
    restored(&bench, &captured, json!({"into": format!("{name}_2")}));
    assert_eq!(server.sql(&format!("{name}_2"), history), before);
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(server.sql(&name, history), before);
}

#[test]
fn mariadbs_tool_is_not_trusted_with_mysql_and_refused_where_its_dump_is_of_no_use() {
    // It says to be another one, as what is asked of it first; the rest is the real thing.
    let server = Server::start_as(Some("8.0.36"));
    let name = fresh(&server, "mysql");
    server.sql(&name, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)");
    let mut bench = mariadb(&server, json!({ "database": name }));
    let captured = bench.capture().unwrap();
    assert_eq!(captured.app_version.as_deref(), Some("MySQL 8.0.36"));
    let validations = bench.validate(&captured).unwrap();
    assert_eq!(verdict(&validations), Verdict::CouldNotVerify, "{validations:?}");
    bench.target.settings["accept"] = json!(["foreign_tool"]);
    let captured = bench.proven();
    assert_eq!(captured.notices[0].code, "foreign_tool");
    server.sql(&name, "CREATE TABLE g (a INT, twice INT AS (a * 2) STORED)");
    let failure = bench.refused("wrong_tool");
    assert!(
        failure.trouble.message.contains("g.twice") && failure.trouble.hint.as_deref().unwrap().contains("mysqldump")
    );
    bench.target.settings["exclude_tables"] = json!(["g"]);
    bench.proven();
}

#[test]
fn rights_are_understood_whatever_the_mode_of_the_server_is() {
    let server = Server::start();
    let name = fresh(&server, "mode");
    server.sql(
        &name,
        "CREATE SEQUENCE s; CREATE TABLE t (i INT DEFAULT NEXTVAL(s), v INT); INSERT INTO t (v) VALUES (1)",
    );
    server.sql("", &format!("CREATE USER moody@'%' IDENTIFIED BY 'poor'; GRANT ALL ON `{name}`.* TO moody@'%'; GRANT SELECT ON mysql.proc TO moody@'%';
        GRANT ALL ON `larder\\_%`.* TO moody@'%'"));
    for mode in ["ANSI_QUOTES", "ANSI", "ORACLE", "NO_BACKSLASH_ESCAPES"] {
        server.sql("", &format!("SET GLOBAL sql_mode = '{mode}'"));
        let mut bench = mariadb(&server, json!({ "database": name }));
        as_user(&mut bench, "moody");
        let captured = bench.proven();
        assert!(captured.warnings.is_empty(), "{mode}: {:?}", captured.warnings);
        restored(&bench, &captured, json!({"overwrite": true}));
        assert_eq!(
            server.sql(&name, "INSERT INTO t (v) VALUES (2); SELECT COUNT(*) FROM t; DELETE FROM t WHERE v = 2"),
            "2"
        );
        let default = "SELECT column_default FROM information_schema.columns WHERE table_schema = DATABASE() AND column_name = 'i'";
        assert!(!server.sql(&name, default).contains("larder"), "{mode}");
    }
}
