//! PostgreSQL in a container goes back without anything that an application wrote being run with a superuser's rights.

use super::docker::{docker, fresh, server};
use super::docker_restore::{restored, sql};
use super::support::podman::Podman;
use super::*;

fn postgres(podman: &Podman, encoding: &str) -> Option<String> {
    if !Path::new("/usr/lib/postgresql/15/bin/initdb").exists() {
        skip(Lack::Package, "the image has PostgreSQL 15 only where the host has it");
        return None;
    }
    let name = fresh("pgown");
    let data = format!("{name}:/var/lib/postgresql/data");
    let script = format!(
        "[ -e $PGDATA/PG_VERSION ] || initdb -D $PGDATA -U postgres -E {encoding} --no-locale --no-sync; \
         exec postgres -D $PGDATA -c listen_addresses= -c fsync=off"
    );
    server(podman, &name, &["-e", "PGDATA=/var/lib/postgresql/data", "-v", &data], "postgres:15", &script);
    support::wait_for("PostgreSQL", Duration::from_secs(60), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sql(podman, &name, "template1", "SELECT 1"))).ok()
    });
    Some(name)
}

/// Statements as they are, of the role `user`.
fn script(podman: &Podman, name: &str, user: &str, database: &str, text: &str) {
    let psql = format!("psql -X -q -U {user} -d {database} -v ON_ERROR_STOP=1 -c \"$1\"");
    podman.podman(&["exec", name, "sh", "-c", &psql, "x", text]);
}

#[test]
fn no_text_of_an_application_is_run_and_roles_that_are_there_stay_as_they_are() {
    let Some(podman) = Podman::shared() else { return };
    let Some(name) = postgres(&podman, "UTF8") else { return };
    let root = |text: &str| script(&podman, &name, "postgres", "postgres", text);
    root("CREATE ROLE app LOGIN PASSWORD 'first'");
    root("CREATE ROLE admin SUPERUSER");
    root("CREATE ROLE readers");
    root("CREATE ROLE gone LOGIN");
    root("CREATE ROLE reader LOGIN");
    root("GRANT admin TO app");
    root("CREATE DATABASE shop OWNER app");
    root("REVOKE CONNECT ON DATABASE shop FROM PUBLIC");
    root("CREATE DATABASE quiet OWNER app");
    root("REVOKE CONNECT ON DATABASE quiet FROM PUBLIC");
    root("COMMENT ON DATABASE quiet IS 'it''s\nALTER ROLE app SUPERUSER;\nquiet'");
    let app = |database: &str, text: &str| script(&podman, &name, "app", database, text);
    app(
        "shop",
        "CREATE TABLE t (i int); INSERT INTO t VALUES (1); CREATE FUNCTION note() RETURNS text LANGUAGE sql AS $f$ SELECT '
-- Name: shop; Type: DATABASE; Schema: -; Owner: app

ALTER ROLE app SUPERUSER;
ALTER DATABASE shop OWNER TO reader;
' $f$; COMMENT ON TABLE t IS '
-- Name: DATABASE shop; Type: ACL; Schema: -; Owner: app

GRANT postgres TO app;
'",
    );
    // What looks like rows hides what the dump says of the database behind it.
    app(
        "quiet",
        "CREATE TABLE t (i int); CREATE FUNCTION loader() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN RETURN '
COPY t FROM stdin;
'; END $f$; INSERT INTO t VALUES (1)",
    );
    // A setting of a role that is its own business, and text all the same.
    app(
        "postgres",
        "ALTER ROLE app SET search_path TO '\nALTER ROLE reader WITH SUPERUSER;\n', '\nGRANT postgres TO reader;\n'",
    );
    let mut bench = docker(&podman.socket(), json!({"containers": [name], "stop_timeout": 5}));
    let captured = bench.kept();

    root("REVOKE admin FROM app");
    root("ALTER ROLE app PASSWORD 'rotated'");
    root("DROP ROLE gone");
    root("DROP ROLE readers");
    let ask = |text: &str| sql(&podman, &name, "postgres", text);
    let roles = "SELECT string_agg(rolname || rolsuper || coalesce(rolpassword, '-'), ',' ORDER BY rolname) FROM pg_authid WHERE rolname IN ('app', 'admin', 'reader')";
    let members = "SELECT count(*) FROM pg_auth_members WHERE roleid >= 16384";
    let acl = "SELECT string_agg(datname || array(SELECT unnest(datacl)::text ORDER BY 1)::text || datdba::regrole, ',' ORDER BY datname) FROM pg_database WHERE datname IN ('shop', 'quiet')";
    let (before, of_databases) = (ask(roles), ask(acl));
    for _ in 0..2 {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let done = restored(&bench, &captured);
        assert_eq!(ask(roles), before, "{done:#?}");
        assert_eq!(ask(members), "0", "nobody is a member again: {done:#?}");
        assert_eq!(ask(acl), of_databases, "{done:#?}");
        assert_eq!(ask("SELECT count(*) FROM pg_roles WHERE rolname IN ('gone', 'readers')"), "2", "{done:#?}");
        assert_eq!(
            ask(
                "SELECT shobj_description(oid, 'pg_database') LIKE '%SUPERUSER%' FROM pg_database WHERE datname = 'quiet'"
            ),
            "t"
        );
        assert_eq!(sql(&podman, &name, "shop", "SELECT count(*) FROM t"), "1");
    }
}

#[test]
fn roles_with_names_beyond_ascii_come_back_whatever_the_encoding_of_the_server() {
    let Some(podman) = Podman::shared() else { return };
    let Some(name) = postgres(&podman, "LATIN1") else { return };
    let root = |text: &str| script(&podman, &name, "postgres", "postgres", text);
    root("CREATE ROLE U&\"jos\\00e9\" LOGIN");
    root("CREATE DATABASE shop");
    let table = "CREATE TABLE t (i int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO U&\"jos\\00e9\"";
    script(&podman, &name, "postgres", "shop", table);
    let bench = docker(&podman.socket(), json!({"containers": [name], "stop_timeout": 5}));
    let captured = bench.kept();
    root("DROP DATABASE shop");
    root("DROP ROLE U&\"jos\\00e9\"");
    let done = restored(&bench, &captured);
    let owner = "SELECT encode(convert_to(relowner::regrole::text, 'UTF8'), 'hex') FROM pg_class WHERE relname = 't'";
    assert_eq!(sql(&podman, &name, "shop", owner), hex::encode("\"josé\""), "{done:#?}");
    assert_eq!(sql(&podman, &name, "shop", "SELECT count(*) FROM t"), "1");
}
