//! The plugin `postgres` puts back what it kept, and only that: into real servers, compared by content.

use larder::plugin::Verb;

use super::database::{never_proven_when_damaged, not_put_back, put_back, rehearse, restored, steps};
use super::postgres::{SAMPLE, content, fresh, postgres};
use super::support::postgres::{Cluster, SUPERUSER};
use super::*;

fn databases(cluster: &Cluster) -> String {
    cluster.sql("postgres", "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database")
}

#[test]
fn a_database_is_put_back_and_compared() {
    let cluster = Cluster::shared();
    let name = format!("my \"odd\"/db = 'ü\\' {}", ulid::Ulid::new());
    cluster.create_database(&name);
    cluster.sql(&name, SAMPLE);
    cluster.sql(&name, &format!("ALTER DATABASE \"{}\" SET work_mem = '7MB'", name.replace('"', "\"\"")));
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    assert_eq!(captured.figures["rows"], 5002);
    let before = content(&cluster, &name);

    let second = format!("x=y 'q' {}", ulid::Ulid::new());
    let told = rehearse(&bench, &captured, json!({ "into": second })).unwrap();
    assert_eq!(steps(&told), [(Verb::Create, format!("database {second}").as_str())]);
    assert!(told.steps[0].detail.contains("2 tables, 5002 rows"), "{:?}", told.steps);
    assert!(!databases(&cluster).contains(&second), "a dry run makes nothing");
    let told = restored(&bench, &captured, json!({"into": second, "jobs": 2}));
    assert_eq!(told.app_version, captured.app_version);
    assert_eq!(content(&cluster, &second), before);

    // One with something in it is dropped only when that is said, and not while somebody uses it.
    cluster.sql(&name, "DELETE FROM tag; UPDATE note SET text = 'lost'; CREATE TABLE later (a int)");
    not_put_back(&bench, &captured, json!({}), "database_not_empty");
    let told = rehearse(&bench, &captured, json!({"overwrite": true})).unwrap();
    assert_eq!(told.steps[0].verb, Verb::Replace);
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM later"), "0", "a dry run drops nothing");
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| cluster.client("psql", &name, &["-X", "-c", "SELECT pg_sleep(60)"]));
        support::wait_for("a connection", Duration::from_secs(20), || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
            (cluster.sql("postgres", sql) == "1").then_some(())
        });
        let failure = not_put_back(&bench, &captured, json!({"overwrite": true}), "database_in_use");
        assert!(failure.trouble.hint.as_deref().unwrap().contains("stop the application"), "{failure}");
        let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
        cluster.sql("postgres", end);
        sleeping.join().unwrap();
    });
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM later"), "0", "it was not touched");
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(content(&cluster, &name), before);
    assert_eq!(cluster.sql(&name, "SHOW work_mem"), "7MB", "what is said of the database itself is back too");
    // Into one that is there and empty.
    let empty = fresh(&cluster, "empty");
    restored(&bench, &captured, json!({ "into": empty }));

    not_put_back(&bench, &captured, json!({"databases": ["other"]}), "not_in_backup");
    not_put_back(&bench, &captured, json!({"globals": true, "into": "y"}), "no_globals");
    not_put_back(&bench, &captured, json!({"in": "x"}), "restore_options");
}

#[test]
fn several_databases_are_dumped_at_the_same_time_and_all_come_back_elsewhere_with_their_roles() {
    // Its own server: other tests make databases that would be kept too.
    let (cluster, other) = (Cluster::start(), Cluster::start());
    for name in ["one", "two", "t w o"] {
        cluster.create_database(name);
        cluster.sql(name, &format!("CREATE TABLE t (a int); INSERT INTO t VALUES (1), ({})", name.len()));
    }
    cluster.sql("one", "CREATE ROLE \"the Reader\" LOGIN PASSWORD 'letmein'; GRANT SELECT ON t TO \"the Reader\"; ALTER TABLE t OWNER TO \"the Reader\"");
    let bench = postgres(&cluster, json!({"all": true, "jobs": 3}));
    let captured = bench.proven();
    assert_eq!((captured.artifacts.len(), captured.figures["databases"], captured.figures["rows"]), (5, 4, 6));
    let failure =
        postgres(&cluster, json!({"databases": ["one", "never made", "two"], "jobs": 2})).refused("database_missing");
    assert!(failure.trouble.message.contains("never made"), "{failure}");

    let mut into = postgres(&other, json!({"all": true}));
    let password = into.target.settings["password"].clone();
    let kept = std::mem::replace(&mut into.directory, bench.directory);
    into.target.settings["password"] = password;
    let told = rehearse(&into, &captured, json!({"globals": true})).unwrap();
    assert_eq!(steps(&told).len(), 5);
    assert_eq!(other.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'the Reader'"), "0");
    // The owner is no role here: what was begun is undone.
    let failure = put_back(&into, &captured, json!({"databases": ["one"]})).unwrap_err();
    assert!(failure.trouble.hint.as_deref().unwrap().contains("globals: true"), "{failure}");
    assert_eq!(databases(&other), "postgres,template0,template1");
    restored(&into, &captured, json!({"databases": ["one"], "owner": false, "into": "mine"}));
    assert_eq!(other.sql("mine", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), SUPERUSER);

    restored(&into, &captured, json!({"globals": true}));
    assert_eq!(
        other.sql("one", "SELECT sum(a), (SELECT tableowner FROM pg_tables WHERE tablename = 't') FROM t"),
        "4|the Reader"
    );
    assert_eq!(other.sql("t w o", "SELECT sum(a) FROM t"), "6");
    // The roles are there already: no trouble.
    let told = restored(&into, &captured, json!({"globals": true, "overwrite": true}));
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);

    // A backup of another version is told first.
    let mut older = captured.clone();
    older.app_version = Some("PostgreSQL 9.6.24".to_owned());
    let told = rehearse(&into, &older, json!({"databases": ["two"], "into": "new"})).unwrap();
    assert_eq!(told.warnings[0].code, "other_version");
    assert!(told.warnings[0].message.contains("9.6.24"), "{:?}", told.warnings);
    drop(kept);
}

#[test]
fn a_damaged_dump_is_never_proven_and_never_restored() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "matrix");
    cluster.sql(&name, SAMPLE);
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    let file = bench.staging().join(&captured.artifacts[0].path);
    let whole = std::fs::read(&file).unwrap();
    let at = |text: &[u8]| whole.windows(text.len()).position(|part| part == text).unwrap();
    let flips = [0, 6, at(b"note 2500"), at(b"CREATE TABLE"), whole.len() / 2, whole.len() - 1];
    never_proven_when_damaged(&bench, &captured, 0, &flips, b"-- PostgreSQL database dump\n");

    // One changed letter in a row: pg_restore sees nothing wrong, the fingerprint does.
    let mut without_hash = captured.clone();
    without_hash.artifacts[0].sha256 = None;
    let mut flipped = whole.clone();
    flipped[at(b"note 2500")] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    assert_eq!(verdict(&bench.validate(&without_hash).unwrap()), Verdict::Failed);
    let into = format!("never_{}", ulid::Ulid::new());
    not_put_back(&bench, &captured, json!({ "into": into }), "dump_damaged");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    for captured in [&captured, &without_hash] {
        not_put_back(&bench, captured, json!({ "into": into }), "dump_damaged");
    }
    assert!(!databases(&cluster).contains(&into));
}

#[test]
fn a_restore_that_loses_something_is_found_out() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "lossy");
    cluster.sql(&name, SAMPLE);
    let captured_by = |bin: Option<&Path>| {
        let bench = postgres(&cluster, json!({ "database": name }));
        let captured = bench.proven();
        let mut bench = bench;
        if let Some(bin) = bin {
            bench.target.settings["bin_dir"] = json!(bin);
        }
        (bench, captured)
    };
    for (left_out, told) in [("TABLE DATA public tag", "public.tag"), ("VIEW public recent", "VIEW")] {
        let bin = tempfile::tempdir().unwrap();
        for tool in ["psql", "pg_dump"] {
            let script = format!("#!/bin/sh\nexec {}/{tool} \"$@\"\n", cluster.bin.display());
            write_plugin(bin.path(), tool, &script, 0o755);
        }
        // One that restores all but one thing, and says that all is well.
        let script = format!(
            "#!/bin/sh\nr={}/pg_restore\nfor a in \"$@\"; do f=$a; done\ncase \"$*\" in *--exit-on-error*) l=$(mktemp); $r --list \"$f\" \
             | grep -v '{left_out} ' >$l; $r -L $l \"$@\"; e=$?; rm $l; exit $e;; esac\nexec $r \"$@\"\n",
            cluster.bin.display()
        );
        write_plugin(bin.path(), "pg_restore", &script, 0o755);
        let (bench, captured) = captured_by(Some(bin.path()));
        let into = format!("{name}_{}", ulid::Ulid::new().to_string().to_lowercase());
        let restored = put_back(&bench, &captured, json!({ "into": into })).unwrap();
        assert_eq!(verdict(&restored.validations), Verdict::Failed, "{left_out}");
        assert!(restored.validations[0].detail.contains(told), "{:?}", restored.validations);
    }
    let (bench, captured) = captured_by(None);
    let unchecked = put_back(&bench, &captured, json!({"into": format!("{name}_2"), "compare": false})).unwrap();
    assert_eq!(verdict(&unchecked.validations), Verdict::CouldNotVerify);
}

#[test]
fn the_connection_is_encrypted_and_the_server_looked_at_when_that_is_said() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "tls");
    cluster.sql(&name, "CREATE TABLE t (a int)");
    let bench = |more: Value| {
        let mut settings = json!({ "database": name, "host": "localhost" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        postgres(&cluster, settings)
    };
    bench(json!({"sslmode": "require"})).proven();
    bench(json!({"sslmode": "verify-full", "sslrootcert": cluster.certificate()})).proven();
    let other = tempfile::tempdir().unwrap();
    support::certificate(other.path());
    bench(json!({"sslmode": "verify-full", "sslrootcert": other.path().join("server.crt")})).refused("tls");
    bench(json!({"sslmode": "verify-full", "sslrootcert": "/nowhere/ca.crt"})).refused("tls");
}

#[test]
fn roles_that_are_there_stay_as_they_are_and_only_what_is_missing_is_made() {
    // Its own server: roles are all of them looked at.
    let cluster = Cluster::start();
    cluster.create_database("shop");
    let root = |sql: &str| cluster.sql("postgres", sql);
    root(
        "CREATE ROLE app LOGIN SUPERUSER PASSWORD 'first'; CREATE ROLE admin SUPERUSER; CREATE ROLE readers; CREATE ROLE gone LOGIN PASSWORD 'gone'; CREATE ROLE \"the Reader\" LOGIN",
    );
    root(
        "GRANT admin, readers TO app; GRANT readers TO gone; GRANT admin TO \"the Reader\"; ALTER ROLE gone SET work_mem = '7MB'",
    );
    root(
        "ALTER ROLE app SET my.note TO E'\nALTER ROLE \"the Reader\" WITH SUPERUSER;\nGRANT admin TO gone;\n'; COMMENT ON ROLE app IS E'x\nCREATE ROLE evil SUPERUSER;\n'",
    );
    cluster.sql("shop", "CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO app");
    let bench = postgres(&cluster, json!({"all": true}));
    let captured = bench.proven();
    root(
        "ALTER ROLE app NOSUPERUSER PASSWORD 'rotated'; REVOKE admin, readers FROM app; REVOKE admin FROM \"the Reader\"; DROP ROLE readers; DROP ROLE gone; ALTER ROLE app RESET my.note; COMMENT ON ROLE app IS 'mine'",
    );
    let state = || {
        root(
            "SELECT string_agg(rolname || rolsuper || rolcanlogin || coalesce(rolpassword, '-') || coalesce(rolconfig::text, '-') || coalesce(shobj_description(a.oid, 'pg_authid'), '-'), ',' ORDER BY rolname)
             FROM pg_authid a LEFT JOIN pg_roles USING (rolname) WHERE rolname NOT IN ('gone', 'readers') AND rolname !~ '^pg_'"
                .replace("rolsuper ||", "a.rolsuper ||")
                .replace("rolcanlogin ||", "a.rolcanlogin ||")
                .replace("coalesce(rolpassword", "coalesce(a.rolpassword")
                .as_str(),
        )
    };
    let before = state();
    let told = restored(&bench, &captured, json!({"globals": true, "overwrite": true}));
    assert_eq!(state(), before, "{told:#?}");
    let members = root(
        "SELECT string_agg(roleid::regrole || '>' || member::regrole, ',') FROM pg_auth_members WHERE roleid >= 16384",
    );
    assert_eq!(members, "readers>gone", "{told:#?}");
    assert_eq!(
        root("SELECT rolcanlogin || array_to_string(rolconfig, ',') FROM pg_roles WHERE rolname = 'gone'"),
        "truework_mem=7MB"
    );
    assert_eq!(root("SELECT count(*) FROM pg_roles WHERE rolname = 'evil'"), "0");
    let left = told.notices.iter().find(|notice| notice.code == "membership_left").unwrap();
    assert!(left.message.contains("readers") && left.message.contains("app"), "{left}");
}

#[test]
fn what_is_said_of_the_database_itself_is_run_and_no_text_that_looks_like_it() {
    let cluster = Cluster::start();
    let name = "my shop";
    cluster.create_database(name);
    let root = |sql: &str| cluster.sql("postgres", sql);
    root("CREATE ROLE app LOGIN; CREATE ROLE evil LOGIN");
    root("ALTER DATABASE \"my shop\" OWNER TO app");
    root(
        "COMMENT ON DATABASE \"my shop\" IS E'it''s\\\\\nALTER DATABASE \"my shop\" OWNER TO evil;\n'; REVOKE CONNECT ON DATABASE \"my shop\" FROM PUBLIC; ALTER DATABASE \"my shop\" SET app.note TO 'a; b''c DATABASE \"my shop\" '; ALTER ROLE app IN DATABASE \"my shop\" SET work_mem = '9MB'",
    );
    cluster.sql(name, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE FUNCTION note() RETURNS text LANGUAGE sql AS $f$ SELECT '
-- Name: my shop; Type: DATABASE; Schema: -; Owner: app

ALTER ROLE app SUPERUSER;
ALTER DATABASE \"my shop\" OWNER TO evil;
COPY t FROM stdin;
' $f$");
    let state = || {
        root(
            "SELECT datdba::regrole, array(SELECT unnest(datacl)::text ORDER BY 1), shobj_description(oid, 'pg_database'), (SELECT string_agg(setrole::text || setconfig::text, ',' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid), (SELECT rolsuper FROM pg_roles WHERE rolname = 'app') FROM pg_database d WHERE datname = 'my shop'",
        )
    };
    let before = state();
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();
    restored(&bench, &captured, json!({"overwrite": true}));
    assert_eq!(state(), before);
}

#[test]
fn roles_with_names_beyond_ascii_come_back_whatever_the_encoding_of_the_server() {
    let cluster = Cluster::start_in("LATIN1");
    cluster.create_database("shop");
    cluster.sql(
        "shop",
        "CREATE ROLE U&\"jos\\00e9\" LOGIN; COMMENT ON ROLE U&\"jos\\00e9\" IS U&'gar\\00e7on'; CREATE TABLE t (a text);
         INSERT INTO t VALUES (U&'\\00fc'); ALTER TABLE t OWNER TO U&\"jos\\00e9\"",
    );
    let bench = postgres(&cluster, json!({"all": true}));
    let captured = bench.proven();
    let globals = std::fs::read_to_string(bench.staging().join("globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE \"josé\""), "{globals}");
    cluster.sql("postgres", "DROP DATABASE shop");
    cluster.sql("postgres", "DROP ROLE U&\"jos\\00e9\"");
    let told = restored(&bench, &captured, json!({"globals": true, "databases": ["shop"]}));
    let hex = |text: &str| format!("encode(convert_to({text}, 'UTF8'), 'hex')");
    let owner = hex("(SELECT tableowner::text FROM pg_tables WHERE tablename = 't')");
    let comment = hex("(SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname ~ '^jos')");
    assert_eq!(
        cluster.sql("shop", &format!("SELECT {owner}, {comment}, {} FROM t", hex("a"))),
        format!("{}|{}|{}", hex::encode("josé"), hex::encode("garçon"), hex::encode("ü")),
        "{told:#?}"
    );
}

#[test]
fn a_role_whose_name_is_in_no_encoding_is_told_and_no_other_one_is_made_of_it() {
    let cluster = Cluster::start_in("SQL_ASCII");
    cluster.create_database("shop");
    cluster.sql("shop", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    cluster.sql("shop", r#"DO $$ BEGIN EXECUTE 'CREATE ROLE "jos' || E'\xe9' || '"'; END $$"#);
    let bench = postgres(&cluster, json!({"all": true}));
    let captured = bench.capture().unwrap();
    let validations = bench.validate(&captured).unwrap();
    let told = validations.iter().find(|each| each.name == "globals.sql is whole").unwrap();
    assert_eq!(told.verdict, Verdict::CouldNotVerify, "{validations:#?}");
    assert!(told.detail.contains("UTF-8"), "{told:?}");
    for failure in [
        rehearse(&bench, &captured, json!({"globals": true, "overwrite": true})).unwrap_err(),
        put_back(&bench, &captured, json!({"globals": true, "overwrite": true})).unwrap_err(),
    ] {
        assert_eq!(failure.trouble.code, "globals_not_utf8", "{failure}");
    }
    restored(&bench, &captured, json!({"overwrite": true, "databases": ["shop"]}));
}

#[test]
fn roles_of_a_killed_restore_are_not_there_and_made_whole_by_the_next() {
    let cluster = Cluster::start();
    cluster.create_database("shop");
    let root = |sql: &str| cluster.sql("postgres", sql);
    let make = "CREATE ROLE grp; CREATE ROLE lost LOGIN PASSWORD 'x'; GRANT grp TO lost; ALTER ROLE lost SET work_mem = '8MB'; CREATE ROLE zed LOGIN";
    root(make);
    cluster.sql("shop", "CREATE TABLE t (a int)");
    let mut bench = postgres(&cluster, json!({"all": true}));
    let captured = bench.proven();
    let state = || {
        root("SELECT count(*), bool_and(rolcanlogin OR rolname = 'grp'), (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_auth_members WHERE member = 'lost'::regrole)
              FROM pg_roles WHERE rolname IN ('grp', 'lost', 'zed')")
    };
    assert_eq!(state(), "3|t|1|1");
    let drop = || root("DROP ROLE lost; DROP ROLE zed; DROP ROLE grp");
    let psql = |script: &str| {
        let bin = tempfile::tempdir().unwrap();
        for tool in ["psql", "pg_dump", "pg_restore"] {
            let real = format!("{}/{tool}", cluster.bin.display());
            let script = if tool == "psql" { script.replace("PSQL", &real) } else { String::new() };
            write_plugin(
                bin.path(),
                tool,
                &format!("#!/bin/sh\nfor f; do :; done\n{script}\nexec {real} \"$@\"\n"),
                0o755,
            );
        }
        bin
    };
    let options = json!({"globals": true, "overwrite": true, "databases": ["shop"]});
    // Between the making of a role and what makes it what it was.
    drop();
    let bin = psql(
        "case \"$f\" in *-roles.sql) sed -i '/^alter role lost with/,$d' \"$f\"; PSQL \"$@\"; touch $0.cut; kill -9 $PPID; exit 1;; esac",
    );
    bench.target.settings["bin_dir"] = json!(bin.path());
    super::database::put_back_noted(&bench, &captured, options.clone(), None).unwrap_err();
    assert!(bin.path().join("psql.cut").exists());
    bench.put_right();
    assert_eq!(root("SELECT count(*) FROM pg_roles WHERE rolname IN ('grp', 'lost', 'zed')"), "0");
    bench.target.settings.as_object_mut().unwrap().remove("bin_dir");
    restored(&bench, &captured, options.clone());
    assert_eq!(state(), "3|t|1|1");
    // One statement that is refused takes no other along, and the name alone proves nothing.
    drop();
    let bin = psql(
        "case \"$f\" in *-roles.sql) sed -i 's/^alter role lost with.*/alter role lost with nothing;/' \"$f\";; esac",
    );
    bench.target.settings["bin_dir"] = json!(bin.path());
    let told = put_back(&bench, &captured, options).unwrap();
    assert_eq!(state(), "3|f|1|1");
    assert!(told.warnings.iter().any(|warning| warning.code == "role_refused"), "{told:#?}");
    let roles = told.validations.iter().find(|each| each.name.contains("roles")).unwrap();
    assert_eq!(roles.verdict, Verdict::CouldNotVerify, "{told:#?}");
}
