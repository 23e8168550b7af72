//! The plugin `docker` and databases on a real engine: what was lost since the last capture, and what no dump has.

use larder::plugin::CaptureFacts;

use super::docker::{docker, fresh, server};
use super::support::podman::{POLITE, Podman};
use super::*;

fn codes(captured: &Captured) -> Vec<&str> {
    captured.warnings.iter().map(|trouble| trouble.code.as_str()).collect()
}

/// The next capture of the same target, which knows what the one before told.
fn next(bench: &Bench, before: Option<&Captured>) -> Captured {
    bench.again();
    let facts = before.map(|before| CaptureFacts { figures: before.figures.clone(), ..CaptureFacts::default() });
    bench.capture_with(facts).unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()))
}

/// Waits until a command in a container succeeds, and gives its output.
fn until_it_works(podman: &Podman, container: &str, script: &str) -> String {
    support::wait_for(script, Duration::from_secs(90), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| podman.exec(container, script))).ok()
    })
}

fn postgres(podman: &Podman, name: &str, more: &[&str]) -> bool {
    if !Path::new("/usr/lib/postgresql/15/bin/initdb").exists() {
        skip(Lack::Package, "the image has PostgreSQL 15 only where the host has it");
        return false;
    }
    let script = "initdb -D $PGDATA -U app --auth=trust --no-sync && \
                  exec postgres -D $PGDATA -c listen_addresses= -c fsync=off";
    let data = format!("{name}:/var/lib/postgresql/data");
    let mut env =
        vec!["-e", "PGDATA=/var/lib/postgresql/data", "-e", "PG_MAJOR=15", "-e", "POSTGRES_USER=app", "-v", &data];
    env.extend(more);
    server(podman, name, &env, "postgres:15", script);
    until_it_works(podman, name, "psql -X -U app -d template1 -c 'SELECT 1'");
    true
}

#[test]
fn a_postgresql_database_that_is_emptied_or_dropped_is_never_a_plain_success() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("pg");
    if !postgres(&podman, &name, &[]) {
        return;
    }
    let sql = |database: &str, sql: &str| podman.exec(&name, &format!("psql -X -q -U app -d {database} -c \"{sql}\""));
    sql("template1", "CREATE DATABASE shop");
    sql("shop", "CREATE TABLE t AS SELECT generate_series(1, 20000) n");
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let first = next(&bench, None);
    assert_eq!(codes(&first), Vec::<&str>::new(), "{first:?}");
    assert_eq!(first.figures[&format!("tables.{name}/shop")], 1);
    sql("shop", "DROP TABLE t");
    let emptied = next(&bench, Some(&first));
    assert!(codes(&emptied).contains(&"database_emptied"), "{emptied:?}");
    sql("template1", "DROP DATABASE shop");
    let gone = next(&bench, Some(&emptied));
    assert!(codes(&gone).contains(&"database_gone"), "{gone:?}");
    let gone = next(&bench, Some(&gone));
    assert!(codes(&gone).contains(&"database_gone"), "it is told until it is accepted: {gone:?}");
    let warning = gone.warnings.iter().find(|each| each.code == "database_gone").unwrap();
    assert!(warning.hint.as_ref().unwrap().contains(&format!("accept: [{name}/shop]")), "{warning}");
    let accepting = docker(&podman.socket(), json!({"containers": [name], "accept": [format!("{name}/shop"), name]}));
    assert_eq!(codes(&next(&accepting, Some(&gone))), Vec::<&str>::new());
    // One that nobody may connect to is told, too.
    sql("template1", "CREATE DATABASE closed");
    sql("template1", "ALTER DATABASE closed ALLOW_CONNECTIONS false");
    let closed = next(&accepting, None);
    assert!(closed.warnings.iter().any(|each| each.message.contains("database closed in")), "{closed:?}");
}

#[test]
fn a_dump_that_no_pg_restore_of_this_host_reads_is_read_by_the_one_in_the_container() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("pgv");
    if !postgres(&podman, &name, &[]) {
        return;
    }
    podman.exec(&name, "psql -X -q -U app -d postgres -c 'CREATE TABLE t AS SELECT generate_series(1, 100) n'");
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let captured = bench.proven_docker();
    // Its head says that it is of a version that nobody here knows.
    let path = bench.staging().join(format!("dumps/{name}/postgres.dump"));
    let mut dump = std::fs::read(&path).unwrap();
    dump[6] = 99;
    std::fs::write(&path, dump).unwrap();
    let told = || {
        let all = bench.validate(&captured).unwrap();
        all.into_iter().find(|each| each.name.starts_with("the dump of postgres in")).unwrap()
    };
    let asked = told();
    assert_eq!(asked.verdict, Verdict::CouldNotVerify, "{asked:?}");
    assert!(asked.detail.contains(&format!("pg_restore in {name} ended with code 1")), "{asked:?}");
    podman.podman(&["stop", "-t", "3", &name]);
    let asked = told();
    assert!(asked.verdict == Verdict::CouldNotVerify && asked.detail.ends_with("does not run"), "{asked:?}");
}

#[test]
fn what_lies_beside_the_data_of_a_database_is_kept_or_told() {
    let Some(podman) = Podman::shared() else { return };
    let (name, sidecar) = (fresh("pgx"), fresh("side"));
    let exports = format!("{name}-exports:/var/lib/postgresql/exports");
    if !postgres(&podman, &name, &["-v", &exports]) {
        return;
    }
    podman.exec(&name, "psql -X -q -U app -d postgres -c 'CREATE TABLE t (x int)'");
    std::fs::write(podman.volume(&format!("{name}-exports")).join("report.csv"), "1,2\n").unwrap();
    std::fs::write(podman.volume(&name).join("before-upgrade.sql"), "-- by hand\n").unwrap();
    // Made from the same image, and no server.
    let cron = ["-e", "PGDATA=/var/lib/postgresql/data", "-e", "PG_MAJOR=15", "-v", &format!("{sidecar}:/backups")];
    server(&podman, &sidecar, &cron, "postgres:15", POLITE);
    std::fs::write(podman.volume(&sidecar).join("kept"), "x").unwrap();
    let bench = docker(&podman.socket(), json!({"containers": [name, sidecar]}));
    let captured = bench.proven_docker();
    let all = super::docker::artifacts(&captured);
    for wanted in
        [format!("volumes/{name}-exports.tar"), format!("volumes/{sidecar}.tar"), format!("dumps/{name}/postgres.dump")]
    {
        assert!(all.contains(&wanted), "{wanted} is not in {all:?}");
    }
    assert!(
        !all.contains(&format!("volumes/{name}.tar"))
            && !all.iter().any(|each| each.contains(&format!("dumps/{sidecar}")))
    );
    assert_eq!(codes(&captured), ["left_out"], "{captured:?}");
    assert!(captured.warnings[0].message.contains("before-upgrade.sql"), "{captured:?}");

    // A server whose data is a directory of its volume: what is beside it is kept.
    let (parent, volume) = (fresh("pgp"), fresh("volume"));
    let script = "initdb -D $PGDATA -U app --auth=trust --no-sync && exec postgres -D $PGDATA -c listen_addresses=";
    let env =
        ["-e", "PGDATA=/data/pgdata", "-e", "PG_MAJOR=15", "-e", "POSTGRES_USER=app", "-v", &format!("{volume}:/data")];
    server(&podman, &parent, &env, "postgres:15", script);
    until_it_works(&podman, &parent, "psql -X -q -U app -d postgres -c 'CREATE TABLE t (x int)'");
    // Nothing is beside it: no word, and no archive that would say so at a restore.
    let captured = docker(&podman.socket(), json!({"containers": [parent]})).proven_docker();
    assert_eq!((codes(&captured), captured.figures["volumes"]), (vec![], 0), "{captured:?}");
    assert!(captured.artifacts.iter().all(|each| !each.path.starts_with("volumes")), "{captured:?}");
    assert_eq!(
        codes(&docker(&podman.socket(), json!({"containers": [parent], "in_place": true})).kept()),
        Vec::<&str>::new()
    );
    std::fs::write(podman.volume(&volume).join("beside"), "x").unwrap();
    let bench = docker(&podman.socket(), json!({"containers": [parent]}));
    bench.proven_docker();
    let inventory: Value =
        serde_json::from_slice(&std::fs::read(bench.staging().join("inventory.json")).unwrap()).unwrap();
    let kept = &inventory["volumes"][0];
    assert_eq!(
        (&kept["name"], &kept["without"], &kept["contents"]["files"]),
        (&json!(volume), &json!(["pgdata"]), &json!(1))
    );
}

#[test]
fn a_mariadb_without_a_password_of_root_tells_what_its_dump_has_not() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/sbin/mariadbd").exists() {
        return skip(Lack::Package, "the image has MariaDB only where the host has it");
    }
    let name = fresh("maria");
    let script = "mariadb-install-db --no-defaults --datadir=/var/lib/mysql --auth-root-authentication-method=normal --skip-test-db >/tmp/made 2>&1; \
                  exec mariadbd --no-defaults --datadir=/var/lib/mysql --skip-networking --socket=/run/mysqld/mysqld.sock";
    let env = [
        "-e",
        "MARIADB_RANDOM_ROOT_PASSWORD=1",
        "-e",
        "MARIADB_USER=app",
        "-e",
        "MARIADB_PASSWORD=hunter2-app",
        "-e",
        "MARIADB_DATABASE=app",
        "-v",
        &format!("{name}:/var/lib/mysql"),
    ];
    server(&podman, &name, &env, "mariadb:10", script);
    let made = "mariadb --user=root -e \"CREATE DATABASE IF NOT EXISTS app; CREATE DATABASE IF NOT EXISTS \\`my-stats\\`; \
                CREATE TABLE IF NOT EXISTS app.t (x INT); CREATE OR REPLACE USER app@localhost IDENTIFIED BY 'hunter2-app'; \
                GRANT ALL ON app.* TO app@localhost\"";
    until_it_works(&podman, &name, made);
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let first = next(&bench, None);
    let told: Vec<&str> = first.warnings.iter().map(|each| each.message.as_str()).collect();
    assert!(told.iter().any(|each| each.contains("users and their rights")), "{told:?}");
    assert!(told.iter().any(|each| each.contains("database my-stats")), "{told:?}");
    assert!(!bench.log().contains("hunter2") && !format!("{first:?}").contains("hunter2"));
    let accept = [format!("{name}/users"), format!("{name}/my-stats")];
    let accepting = docker(&podman.socket(), json!({"containers": [name], "accept": accept}));
    let second = next(&accepting, Some(&first));
    assert_eq!(codes(&second), Vec::<&str>::new(), "{second:?}");
    podman.exec(&name, "mariadb --user=root -e 'DROP TABLE app.t'");
    assert!(codes(&next(&accepting, Some(&second))).contains(&"database_emptied"));
}

#[test]
fn a_redis_that_lost_its_keys_is_told() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/bin/redis-server").exists() {
        return skip(Lack::Package, "the image has Redis only where the host has it");
    }
    let name = fresh("redis");
    server(&podman, &name, &["-v", &format!("{name}:/data")], "redis:7", "exec redis-server --dir /data --save ''");
    until_it_works(&podman, &name, "test \"$(redis-cli set colour blue)\" = OK");
    std::fs::write(podman.volume(&name).join("users.acl.txt"), "x").unwrap();
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let first = next(&bench, None);
    assert_eq!((codes(&first), first.figures[&format!("tables.{name}/keys")]), (vec!["left_out"], 1), "{first:?}");
    podman.exec(&name, "redis-cli -n 3 set a b; redis-cli -x function load <<X\n#!lua name=l\nredis.register_function('f', function() return 1 end)\nX");
    let more = next(&bench, Some(&first));
    assert_eq!(
        (more.figures[&format!("tables.{name}/db3")], more.figures[&format!("tables.{name}/functions")]),
        (1, 1)
    );
    podman.exec(&name, "redis-cli -n 3 flushdb; redis-cli function flush");
    let less = next(&bench, Some(&more));
    let told: Vec<&str> =
        less.warnings.iter().filter(|each| each.code == "database_emptied").map(|each| each.message.as_str()).collect();
    assert!(told.len() == 2 && told[0].contains("db3") && told[1].contains("functions"), "{less:?}");
    podman.exec(&name, "redis-cli flushall");
    assert!(codes(&next(&bench, Some(&first))).contains(&"database_emptied"));
}

#[test]
fn the_dump_of_a_redis_that_is_newer_than_this_host_is_read_by_the_tool_in_its_container() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/bin/redis-check-rdb").exists() {
        return skip(Lack::Package, "the image has Redis only where the host has it");
    }
    let name = fresh("redis");
    let env = ["-v", &format!("{name}:/data"), "-e", "PATH=/data/bin:/usr/bin:/bin"];
    server(&podman, &name, &env, "redis:7", "exec redis-server --dir /data --save ''");
    until_it_works(&podman, &name, "test \"$(redis-cli set colour blue)\" = OK");
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let captured = bench.proven_docker();
    let path = bench.staging().join(format!("dumps/{name}/dump.rdb"));
    let whole = std::fs::read(&path).unwrap();
    let told = || {
        let all = bench.validate(&captured).unwrap();
        let told = all.into_iter().find(|each| each.name.starts_with("the dump of all keys in")).unwrap();
        (told.verdict, told.detail)
    };
    let (verdict, detail) = told();
    assert_eq!((verdict, detail), (Verdict::Proven, format!("the tool in {name} reads it")));
    // Of a version that nobody here knows, and without a checksum, as `rdbchecksum no` writes it.
    let newer = |magic: &str, body: &[u8]| [magic.as_bytes(), body, &[0; 8]].concat();
    let body = &whole[9..whole.len() - 8];
    for magic in ["REDIS0099", "VALKEY099", "REDIS0012"] {
        std::fs::write(&path, newer(magic, body)).unwrap();
        let (verdict, detail) = told();
        assert_eq!(verdict, Verdict::CouldNotVerify, "{magic}: {detail}");
        assert!(detail.contains(&format!("the tool in {name} cannot read it: ")), "{detail}");
        assert!(detail.contains("redis-check-rdb of this host cannot read it: "), "{detail}");
    }
    // The tool that came with such a server knows it.
    let tool = "#!/bin/sh\n{ printf REDIS0010; tail -c +10 \"$1\"; } >/tmp/dump.rdb; exec /usr/bin/redis-check-rdb /tmp/dump.rdb\n";
    for magic in ["REDIS0099", "VALKEY099"] {
        std::fs::write(&path, newer(magic, body)).unwrap();
        std::fs::create_dir_all(podman.volume(&name).join("bin")).unwrap();
        write_plugin(&podman.volume(&name).join("bin"), "redis-check-rdb", tool, 0o755);
        let (verdict, detail) = told();
        assert_eq!((verdict, detail), (Verdict::Proven, format!("the tool in {name} reads it")), "{magic}");
        std::fs::write(&path, newer(magic, &body[..body.len() / 2])).unwrap();
        let (verdict, detail) = told();
        assert!(verdict == Verdict::Failed && detail.contains(&format!("the tool in {name} cannot")), "{detail}");
    }
    std::fs::write(&path, newer("REDIS0099", body)).unwrap();
    podman.podman(&["stop", "-t", "3", &name]);
    let (verdict, detail) = told();
    assert!(verdict == Verdict::CouldNotVerify && detail.contains("does not run"), "{detail}");
    std::fs::write(&path, &whole).unwrap();
    let (verdict, detail) = told();
    assert_eq!((verdict, detail.as_str()), (Verdict::Proven, "redis-check-rdb of this host reads it"));
}
