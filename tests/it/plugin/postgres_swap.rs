//! A restore over a live PostgreSQL database: whatever fails, and whenever it is killed, the live data is what it was.

use super::database::{not_put_back, put_back_noted, rehearse, restored};
use super::postgres::{SAMPLE, content, fresh, postgres};
use super::support::postgres::Cluster;
use super::*;
use larder::plugin::Restored;

/// All databases but the templates.
fn databases(cluster: &Cluster) -> String {
    let sql = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE NOT datistemplate";
    cluster.sql("postgres", sql)
}

/// A directory with the server's programs, of which `pg_restore` is `script` where it loads something.
fn programs(cluster: &Cluster, script: &str) -> tempfile::TempDir {
    let bin = tempfile::tempdir().unwrap();
    for tool in ["psql", "pg_dump"] {
        write_plugin(bin.path(), tool, &format!("#!/bin/sh\nexec {}/{tool} \"$@\"\n", cluster.bin.display()), 0o755);
    }
    let script = format!(
        "#!/bin/sh\nr={}/pg_restore\nfor a in \"$@\"; do f=$a; done\ncase \"$*\" in *--exit-on-error*) {script};; esac\nexec $r \"$@\"\n",
        cluster.bin.display()
    );
    write_plugin(bin.path(), "pg_restore", &script, 0o755);
    bin
}

#[test]
fn an_overwrite_that_fails_leaves_the_live_database_as_it_was() {
    // Its own server: the list of its databases is looked at.
    let cluster = Cluster::start();
    let name = fresh(&cluster, "live");
    cluster.sql(&name, SAMPLE);
    let mut bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    cluster.sql(&name, "DELETE FROM tag; UPDATE note SET text = text || ' and later'; CREATE TABLE later (a int)");
    let (live, all) = (content(&cluster, &name), databases(&cluster));
    let unharmed = |what: &str| {
        assert_eq!(content(&cluster, &name), live, "{what}");
        assert_eq!(cluster.sql(&name, "SELECT count(*) FROM later"), "0", "{what}");
        assert_eq!(databases(&cluster), all, "{what}");
    };
    let overwrite = json!({"overwrite": true});
    let half = "$r --list \"$f\" | head -20 >$f.l; $r -L $f.l \"$@\"; rm -f $f.l";
    for (script, code) in [
        (format!("{half}; kill -9 $$"), "dump_killed"),
        (format!("{half}; echo 'ERROR:  could not extend file: No space left on device' >&2; exit 1"), "disk_full"),
        (format!("{half}; echo 'ERROR:  permission denied to create extension' >&2; exit 1"), "permission_denied"),
        (
            format!("{half}; echo 'ERROR:  could not open extension control file: No such file' >&2; exit 1"),
            "pg_failed",
        ),
        // One that says that all is well.
        (format!("{half}; exit 0"), "restore_differs"),
    ] {
        let bin = programs(&cluster, &script);
        bench.target.settings["bin_dir"] = json!(bin.path());
        not_put_back(&bench, &captured, overwrite.clone(), code);
        unharmed(&script);
    }
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    // A role that may do everything with this database, but not make another one.
    cluster.sql(
        &name,
        &format!("CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT keeper TO weak; ALTER DATABASE {name} OWNER TO weak"),
    );
    let mut weak = postgres(&cluster, json!({"database": name, "user": "weak"}));
    weak.directory = bench.directory;
    weak.target.settings["password"] = secret_file(weak.directory.path(), "weak");
    let failure = not_put_back(&weak, &captured, overwrite.clone(), "permission_denied");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("CREATEDB"), "{failure}");
    unharmed("a role without CREATEDB");
    rehearse(&weak, &captured, overwrite.clone()).unwrap();
    unharmed("a dry run");
}

#[test]
fn a_dump_that_loads_only_with_the_search_path_of_the_application_is_loaded_with_it() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "path");
    cluster.sql(
        &name,
        "CREATE SCHEMA app;
         CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
         CREATE FUNCTION slug(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT norm(t)';
         CREATE TABLE page (name text, slug text GENERATED ALWAYS AS (slug(name)) STORED);
         INSERT INTO page (name) SELECT 'Page ' || n FROM generate_series(1, 50) n;
         CREATE FUNCTION app.inner(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(t)';
         CREATE FUNCTION app.outer(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN \"inner\"(t); END';
         SET search_path = app, public; CREATE TABLE app.t (name text, CHECK (app.outer(name) <> 'NEVER')); INSERT INTO app.t VALUES ('once')",
    );
    cluster.sql(&name, &format!("ALTER DATABASE {name} SET search_path = app, public"));
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    let notice = captured.notices.iter().find(|notice| notice.code == "needs_search_path").unwrap();
    assert!(notice.message.contains("public.page") && notice.message.contains("app.t"), "{notice}");
    let pages = "SELECT string_agg(slug, ',' ORDER BY slug), (SELECT count(*) FROM app.t) FROM public.page";
    let before = cluster.sql(&name, pages);
    cluster.sql(&name, "DELETE FROM public.page");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(cluster.sql(&name, pages), before);
    assert_eq!(cluster.sql(&name, "SHOW search_path"), "app, public");
    let second = format!("{name}_2");
    restored(&bench, &captured, json!({"into": second, "jobs": 2}));
    assert_eq!(cluster.sql(&second, pages), before);
    // Into one that is there and empty, as one transaction.
    let empty = fresh(&cluster, "path_empty");
    restored(&bench, &captured, json!({"into": empty}));
    assert_eq!(cluster.sql(&empty, pages), before);
    let plain = fresh(&cluster, "plain");
    cluster.sql(&plain, SAMPLE);
    assert!(postgres(&cluster, json!({"database": plain})).proven().notices.is_empty());
}

#[test]
fn partition_keys_and_checks_of_domains_that_need_the_search_path_are_told_at_the_capture_and_loaded_with_it() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "keys");
    cluster.sql(
        &name,
        "CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
         CREATE FUNCTION slug(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN norm(t); END';
         CREATE TABLE part (n text) PARTITION BY HASH (slug(n));
         CREATE TABLE part_0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO part SELECT 'N' || g FROM generate_series(1, 100) g;
         CREATE DOMAIN word AS text CHECK (slug(value) <> 'never'); CREATE TABLE words (w word); INSERT INTO words VALUES ('x')",
    );
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    let told: Vec<&str> = captured.notices.iter().map(|notice| notice.code.as_str()).collect();
    assert_eq!(told, ["needs_search_path"], "{captured:#?}");
    let message = &captured.notices[0].message;
    assert!(message.contains("public.part of") && message.contains("public.word of"), "{message}");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM part"), "100");
}

#[test]
fn a_check_that_reads_rows_which_come_later_is_told_at_the_capture_and_the_last_attempt_says_what_is_wrong() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "later");
    cluster.sql(
        &name,
        "CREATE TABLE zref (x int); INSERT INTO zref SELECT generate_series(1, 10);
         CREATE FUNCTION okx(i int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM zref WHERE x = i); END';
         CREATE TABLE aa (x int CHECK (okx(x))); INSERT INTO aa SELECT generate_series(1, 10);
         CREATE TABLE plain (x int CHECK (x > 0)); CREATE FUNCTION big(i int) RETURNS bool LANGUAGE sql AS 'SELECT i > 0';
         CREATE TABLE calm (x int CHECK (public.big(x)))",
    );
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    let notice = captured.notices.iter().find(|notice| notice.code == "reads_tables").unwrap();
    assert!(notice.message.contains("public.aa of") && !notice.message.contains("calm"), "{notice}");
    let failure = super::database::put_back(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    let told = failure.to_string();
    assert!(told.contains("violates check constraint") && told.contains("search_path"), "{told}");
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM aa"), "10");
}

#[test]
fn a_search_path_that_belongs_to_others_is_not_taken_where_it_makes_other_values() {
    // Its own server: other databases' settings are on it.
    let cluster = Cluster::start();
    let name = fresh(&cluster, "whose");
    cluster.sql(
        &name,
        "CREATE SCHEMA app; CREATE SCHEMA legacy;
         CREATE FUNCTION app.norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
         CREATE FUNCTION legacy.norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''OLD-'' || t';
         SET search_path = app, public;
         CREATE FUNCTION app.slug(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN norm(t); END';
         CREATE TABLE app.page (name text, slug text GENERATED ALWAYS AS (app.slug(name)) STORED);
         INSERT INTO app.page (name) VALUES ('One'), ('Two')",
    );
    cluster.sql("postgres", "CREATE DATABASE other");
    cluster.sql("postgres", "ALTER DATABASE other SET search_path = legacy, public");
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    assert!(captured.notices.iter().any(|notice| notice.code == "needs_search_path"), "{captured:#?}");
    let pages = "SELECT string_agg(slug, ',' ORDER BY slug) FROM app.page";
    let failure = not_put_back(&bench, &captured, json!({"overwrite": true}), "search_path_unknown");
    assert!(failure.trouble.message.contains("norm"), "{failure}");
    assert_eq!(cluster.sql(&name, pages), "one,two", "the live database is as it was");
    // Where nothing is lost by it, what cannot be known is not called proven.
    let elsewhere = format!("{name}_elsewhere");
    let done = super::database::put_back(&bench, &captured, json!({"into": elsewhere})).unwrap();
    assert_eq!(verdict(&done.validations), Verdict::CouldNotVerify, "{done:#?}");
    // As soon as the server says it.
    cluster.sql("postgres", &format!("ALTER DATABASE {name} SET search_path = app, public"));
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(cluster.sql(&name, pages), "one,two");
}

#[test]
fn a_backup_runs_nothing_of_the_application() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "trap");
    let spring = "INSERT INTO public.sprung VALUES (current_user)";
    cluster.sql(
        &name,
        &format!(
            "CREATE TABLE sprung (who text); CREATE SEQUENCE number;
             CREATE FUNCTION checked(i int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN {spring}; RETURN true; END';
             CREATE TABLE orders (id int CHECK (public.checked(id))); INSERT INTO orders SELECT generate_series(1, 5);
             CREATE FUNCTION next_number() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT nextval(''public.number'')';
             CREATE MATERIALIZED VIEW numbers AS SELECT public.next_number() FROM generate_series(1, 3);
             CREATE FUNCTION public.spring(a text, b bigint) RETURNS text LANGUAGE plpgsql AS 'BEGIN {spring}; RETURN a; END';
             CREATE OPERATOR public.|| (FUNCTION = public.spring, LEFTARG = text, RIGHTARG = bigint);
             CREATE FUNCTION public.format(a text, b name, c name) RETURNS text LANGUAGE plpgsql AS 'BEGIN {spring}; RETURN a; END'"
        ),
    );
    let state = "SELECT (SELECT count(*) FROM sprung), last_value FROM number";
    let before = cluster.sql(&name, state);
    postgres(&cluster, json!({ "database": name })).proven();
    assert_eq!(cluster.sql(&name, state), before);
}

#[test]
fn killed_at_any_instant_of_a_restore_the_database_is_the_old_or_the_new_one() {
    let cluster = Cluster::start();
    let name = fresh(&cluster, "killed");
    cluster.sql(&name, SAMPLE);
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    let kept = content(&cluster, &name);
    let all = databases(&cluster);
    let change = "UPDATE note SET text = text || ' and later'";
    cluster.sql(&name, change);
    let mut live = content(&cluster, &name);
    let (mut olds, mut news) = (0, 0);
    let mut finished = false;
    for step in 0..80 {
        let wait = Duration::from_millis(50 * step * (1 + step / 10));
        let ended = put_back_noted(&bench, &captured, json!({"overwrite": true}), Some(wait));
        let now = content(&cluster, &name);
        assert!(now == live || now == kept, "killed after {wait:?}");
        bench.put_right();
        assert_eq!(databases(&cluster), all, "killed after {wait:?}: all of ours is swept");
        let now = content(&cluster, &name);
        assert!(now == live || now == kept, "recovered, killed after {wait:?}");
        if now == kept {
            news += 1;
            cluster.sql(&name, change);
            live = content(&cluster, &name);
        } else {
            olds += 1;
        }
        assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0);
        if ended.is_ok() {
            finished = true;
            break;
        }
    }
    assert!(finished && olds > 1 && news > 0, "{olds} times the old one, {news} times the new one");
}

#[test]
fn an_overwrite_refuses_to_drop_tables_that_the_target_leaves_out_and_names_them() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "left");
    cluster.sql(&name, "CREATE SCHEMA app; CREATE TABLE keep (a int); INSERT INTO keep VALUES (1); CREATE TABLE \"Big.Log\" AS SELECT 1 AS a; CREATE TABLE app.audit_1 AS SELECT 1 AS a; CREATE TABLE app.audits (a int)");
    let bench = postgres(&cluster, json!({"database": name, "exclude_tables": ["\"Big.Log\"", "app.Audit_?"]}));
    let captured = bench.proven();
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    let rows = || cluster.sql(&name, "SELECT (SELECT count(*) FROM \"Big.Log\"), (SELECT count(*) FROM app.audit_1)");
    let refused = |bench: &Bench, options: Value| {
        for failure in [
            rehearse(bench, &captured, options.clone()).unwrap_err(),
            not_put_back(bench, &captured, options, "excluded_would_go"),
        ] {
            let told = failure.to_string();
            assert!(told.contains("public.\"Big.Log\"") && told.contains("app.audit_1"), "{told}");
            assert!(!told.contains("audits"), "{told}");
            assert_eq!(rows(), "1|1");
        }
    };
    refused(&bench, json!({"overwrite": true}));
    // The target of the restore may be another one, which leaves nothing out; the capture said what it left out.
    let mut other = postgres(&cluster, json!({"database": name}));
    other.directory = bench.directory;
    other.target.settings["password"] = secret_file(other.directory.path(), super::support::postgres::PASSWORD);
    refused(&other, json!({"overwrite": true}));
    restored(&other, &captured, json!({"into": format!("{name}_2")}));
    restored(&other, &captured, json!({"overwrite": true, "drop_excluded": true}));
    assert_eq!(cluster.sql(&name, "SELECT to_regclass('public.\"Big.Log\"') IS NULL"), "t");
    // Nothing of it is there now.
    cluster.sql(&name, "INSERT INTO keep VALUES (2)");
    restored(&other, &captured, json!({"overwrite": true}));
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM keep"), "1");
}

#[test]
fn a_database_that_replication_hangs_on_is_refused_before_anything_is_made_and_a_disabled_subscription_is_no_obstacle()
{
    // Its own server: slots and subscriptions are the server's.
    let cluster = Cluster::start();
    for name in ["pub", "sub"] {
        cluster.create_database(name);
        cluster.sql(name, "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)");
    }
    let publisher = format!("host=127.0.0.1 port={} dbname=pub user=nobody_there", cluster.port);
    cluster.sql(
        "sub",
        &format!(
            "CREATE SUBSCRIPTION sb CONNECTION '{publisher}' PUBLICATION p WITH (connect = false, slot_name = 's1')"
        ),
    );
    let bench = postgres(&cluster, json!({"database": "sub"}));
    let captured = bench.proven();
    let all = databases(&cluster);
    cluster.sql("sub", "ALTER SUBSCRIPTION sb ENABLE");
    for failure in [
        rehearse(&bench, &captured, json!({"overwrite": true})).unwrap_err(),
        not_put_back(&bench, &captured, json!({"overwrite": true}), "subscription_enabled"),
    ] {
        assert!(failure.trouble.hint.as_deref().unwrap().contains("ALTER SUBSCRIPTION \"sb\" DISABLE"), "{failure}");
    }
    assert_eq!(databases(&cluster), all);
    cluster.sql("sub", "ALTER SUBSCRIPTION sb DISABLE; DELETE FROM t");
    // What is made beside has the subscription too, and goes without a trace all the same.
    let mut failing = postgres(&cluster, json!({"database": "sub"}));
    failing.directory = bench.directory;
    failing.target.settings["password"] = secret_file(failing.directory.path(), super::support::postgres::PASSWORD);
    let bin =
        programs(&cluster, "$r \"$@\"; echo 'ERROR:  could not extend file: No space left on device' >&2; exit 1");
    failing.target.settings["bin_dir"] = json!(bin.path());
    not_put_back(&failing, &captured, json!({"overwrite": true}), "disk_full");
    assert_eq!(databases(&cluster), all);
    failing.target.settings.as_object_mut().unwrap().remove("bin_dir");
    let told = restored(&failing, &captured, json!({"overwrite": true}));
    assert!(told.warnings.is_empty(), "{told:#?}");
    let hint = |told: &Restored| {
        let silent = told.notices.iter().find(|notice| notice.code == "subscription_silent").unwrap();
        silent.hint.clone().unwrap()
    };
    let go_on = "in sub: ALTER SUBSCRIPTION \"sb\" ENABLE; ALTER SUBSCRIPTION \"sb\" REFRESH PUBLICATION";
    assert!(hint(&told).contains(go_on), "{told:#?}");
    assert_eq!(databases(&cluster), all);
    let told = restored(&failing, &captured, json!({"into": "copy"}));
    assert!(hint(&told).contains("in copy, ALTER SUBSCRIPTION \"sb\" SET (slot_name = NONE)"), "{told:#?}");
    assert_eq!(
        cluster.sql("sub", "SELECT count(*), (SELECT subslotname || subenabled FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = 'sub') FROM t"),
        "1|s1false"
    );
}
