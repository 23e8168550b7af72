//! What a dump of PostgreSQL lacks is said, and what became of its databases.

use super::postgres::{SAMPLE, fresh, postgres};
use super::support::postgres::Cluster;
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

#[test]
fn a_database_that_is_gone_closed_or_emptied_is_told_until_that_is_said_to_be_right() {
    let cluster = Cluster::start();
    for name in ["app", "shop", "attic"] {
        cluster.create_database(name);
        cluster.sql(name, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 20000)");
    }
    let mut bench = postgres(&cluster, json!({"all": true}));
    let captured = bench.proven();
    assert!(captured.warnings.is_empty() && captured.notices.is_empty(), "{:?}", captured.warnings);
    bench.inputs.previous = Some(facts(&captured));
    cluster.sql("postgres", "ALTER DATABASE attic ALLOW_CONNECTIONS false");
    cluster.sql("postgres", "DROP DATABASE shop");
    cluster.sql("app", "TRUNCATE t");
    let captured = bench.capture().unwrap();
    let mut codes: Vec<&str> = captured.warnings.iter().map(|warning| warning.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["database_closed", "database_emptied", "database_gone"], "{:?}", captured.warnings);
    let gone = captured.warnings.iter().find(|warning| warning.code == "database_gone").unwrap();
    assert!(gone.message.contains("shop") && !gone.message.contains("attic"), "what is closed is not gone: {gone}");
    let failure = postgres(&cluster, json!({"database": "attic"})).refused("database_closed");
    assert!(failure.to_string().contains("ALLOW_CONNECTIONS"), "{failure}");
    bench.target.settings["except"] = json!(["shop", "attic"]);
    bench.target.settings["allow_empty"] = json!(true);
    let captured = bench.proven();
    assert!(captured.warnings.is_empty() && captured.notices[0].code == "database_emptied", "{:?}", captured.warnings);
    cluster.sql("app", "DROP TABLE t");
    bench.target.settings["allow_empty"] = json!(false);
    bench.refused("database_empty");
}

#[test]
fn a_table_or_schema_that_is_gone_or_emptied_is_said_and_the_run_is_a_success() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "lost");
    cluster.sql(&name, "CREATE SCHEMA old; CREATE TABLE old.t AS SELECT 1 AS a; CREATE TABLE a AS SELECT 1 AS a; CREATE TABLE b AS SELECT 1 AS a; CREATE TABLE c AS SELECT 1 AS a; CREATE TABLE never (a int)");
    let mut bench = postgres(&cluster, json!({ "database": name }));
    bench.inputs.previous = Some(facts(&bench.proven()));
    assert!(bench.proven().notices.is_empty());
    cluster.sql(&name, "DROP SCHEMA old CASCADE; DROP TABLE b; TRUNCATE c; CREATE TABLE new (a int)");
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    let told: Vec<(&str, &str)> =
        captured.notices.iter().map(|notice| (notice.code.as_str(), notice.message.as_str())).collect();
    let of = |code: &str| told.iter().find(|each| each.0 == code).unwrap().1;
    assert!(of("table_gone").contains("public.b of") && of("table_gone").contains("old.t of"), "{told:?}");
    assert!(of("table_emptied").contains("public.c of") && !of("table_emptied").contains("never"), "{told:?}");
}

#[test]
fn what_pg_dump_leaves_out_is_said() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "gaps");
    cluster.sql(&name, SAMPLE);
    cluster.sql(&name, "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE there (a int) SERVER far;
        CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM note; CREATE PROCEDURE p() LANGUAGE sql AS ''; CREATE TYPE r AS RANGE (subtype = float8)");
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    assert_eq!(captured.notices[0].code, "foreign_tables");
    assert!(captured.notices[0].message.contains("there"), "{:?}", captured.notices);

    // A dump program that leaves a view out without a word.
    let bin = tempfile::tempdir().unwrap();
    for tool in ["psql", "pg_restore"] {
        write_plugin(bin.path(), tool, &format!("#!/bin/sh\nexec {}/{tool} \"$@\"\n", cluster.bin.display()), 0o755);
    }
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-Fc*) exec {0}/pg_dump --exclude-table=recent \"$@\";; esac\nexec {0}/pg_dump \"$@\"\n",
        cluster.bin.display()
    );
    write_plugin(bin.path(), "pg_dump", &script, 0o755);
    let captured = postgres(&cluster, json!({"database": name, "bin_dir": bin.path()})).capture().unwrap();
    assert_eq!(captured.warnings[0].code, "objects_missing");
    assert!(captured.warnings[0].message.contains("0 of 1 VIEW"), "{:?}", captured.warnings);
}

#[test]
fn large_objects_of_others_are_told_with_a_step_that_works() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "large");
    let role = format!("reader_{}", ulid::Ulid::new().to_string().to_lowercase());
    cluster.sql(&name, "CREATE TABLE t (a int); SELECT lo_from_bytea(4712, 'mine alone')");
    cluster.sql(&name, &format!("CREATE ROLE {role} LOGIN PASSWORD 'poor'; GRANT pg_read_all_data TO {role}"));
    let mut bench = postgres(&cluster, json!({"database": name, "user": role}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "poor");
    let failure = bench.refused("permission_denied");
    let hint = failure.trouble.hint.as_deref().unwrap();
    assert!(hint.contains("lo_compat_privileges") && !hint.starts_with("GRANT pg_read_all_data"), "{hint}");
    cluster.sql(&name, &format!("ALTER ROLE {role} SET lo_compat_privileges = on"));
    bench.proven();
}

#[test]
fn what_needs_a_table_that_is_left_out_is_told_at_the_capture() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "needs");
    cluster.sql(
        &name,
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent); CREATE TABLE alone (id int);
         CREATE VIEW seen AS SELECT * FROM parent; CREATE VIEW fine AS SELECT * FROM alone; CREATE TABLE \"row of\" (p parent);
         CREATE FUNCTION gives() RETURNS parent LANGUAGE sql AS 'SELECT NULL::parent'; CREATE TABLE heir () INHERITS (parent)",
    );
    let mut bench = postgres(&cluster, json!({"database": name, "exclude_tables": ["parent"]}));
    let captured = bench.capture().unwrap();
    let told = captured.warnings.iter().find(|each| each.code == "needs_excluded").unwrap();
    for wanted in ["public.child", "public.seen", "public.\"row of\"", "public.gives()", "public.heir"] {
        assert!(told.message.contains(wanted), "{wanted}: {told}");
    }
    assert!(!told.message.contains("fine") && !told.message.contains("alone"), "{told}");
    assert!(told.hint.as_deref().unwrap().contains("public.parent"), "{told}");
    bench.target.settings["accept"] = json!(["needs_excluded"]);
    let captured = bench.capture().unwrap();
    assert!(captured.warnings.is_empty() && captured.notices.iter().any(|each| each.code == "needs_excluded"));
    bench.target.settings["exclude_tables"] = json!(["parent", "child", "seen", "row of", "heir", "\"row of\""]);
    cluster.sql(&name, "DROP FUNCTION gives()");
    bench.target.settings["accept"] = json!([]);
    let captured = bench.proven();
    assert!(captured.warnings.is_empty() && captured.notices.is_empty(), "{captured:#?}");
}
