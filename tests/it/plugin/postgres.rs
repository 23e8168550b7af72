//! The plugin `postgres` against a real server: what is kept comes back, and what goes wrong is told.

use super::support::postgres::{Cluster, PASSWORD, SUPERUSER};
use super::*;

/// A target of `cluster` as the superuser.
pub(super) fn postgres(cluster: &Cluster, more: Value) -> Bench {
    let mut bench = Bench::new("postgres", json!({"host": "127.0.0.1", "port": cluster.port, "user": SUPERUSER}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), PASSWORD);
    for (key, value) in more.as_object().unwrap() {
        bench.target.settings[key] = value.clone();
    }
    bench
}

pub(super) fn fresh(cluster: &Cluster, prefix: &str) -> String {
    let name = format!("{prefix}_{}", ulid::Ulid::new().to_string().to_lowercase());
    cluster.create_database(&name);
    name
}

pub(super) const SAMPLE: &str =
    "CREATE TABLE note (id serial PRIMARY KEY, text text, data bytea, at timestamptz DEFAULT now());
    INSERT INTO note (text, data) SELECT 'note ' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n;
    CREATE TABLE tag (note int REFERENCES note (id), name text); INSERT INTO tag VALUES (1, 'süß'), (2, NULL);
    CREATE VIEW recent AS SELECT * FROM note ORDER BY at DESC LIMIT 5;
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
    SELECT lo_from_bytea(4711, 'a large object');";

/// All that the sample holds, as one line.
pub(super) fn content(cluster: &Cluster, database: &str) -> String {
    cluster.sql(
        database,
        "SELECT (SELECT md5(string_agg(n::text, ',' ORDER BY id)) FROM note n),
                (SELECT md5(string_agg(t::text, ',' ORDER BY note)) FROM tag t),
                (SELECT count(*) FROM recent), twice(21), (SELECT last_value FROM note_id_seq),
                (SELECT count(*) FROM pg_constraint WHERE contype = 'f'), convert_from(lo_get(4711), 'UTF8')",
    )
}

#[test]
fn a_database_comes_back_as_it_was() {
    let cluster = Cluster::shared();
    let name = format!("my \"odd\"/db = 'ü' {}", ulid::Ulid::new());
    cluster.create_database(&name);
    cluster.sql(&name, SAMPLE);
    let bench = postgres(&cluster, json!({ "database": name }));
    let captured = bench.proven();

    assert_eq!(captured.figures["tables"], 2);
    assert!(captured.app_version.as_deref().unwrap().starts_with("PostgreSQL "), "{:?}", captured.app_version);
    assert_eq!(captured.artifacts.len(), 1);
    let file = captured.artifacts[0].path.to_str().unwrap();
    assert!(file.starts_with("my%20%22odd%22%2Fdb") && captured.artifacts[0].format == "postgres-custom", "{file}");
    assert_eq!(captured.bytes, std::fs::metadata(bench.staging().join(file)).unwrap().len());
    assert!(!bench.progress.lock().unwrap().is_empty());
    assert!(!bench.log().contains(PASSWORD));
    assert_eq!(bench.staged(), [file], "no password file is left");
    let mode = std::os::unix::fs::PermissionsExt::mode(&bench.staging().join(file).metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "the dump is for its owner alone");

    let second = fresh(&cluster, "restored");
    let dump = bench.staging().join(file);
    let restored = cluster.client(
        "pg_restore",
        "",
        &["--exit-on-error", "--single-transaction", "-d", &second, dump.to_str().unwrap()],
    );
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(content(&cluster, &second), content(&cluster, &name));
}

#[test]
fn all_databases_and_the_roles_are_kept() {
    // Its own server: other tests make databases that would be kept too.
    let cluster = Cluster::start();
    for name in ["one", "t w o"] {
        cluster.create_database(name);
        cluster.sql(name, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    }
    cluster.sql("one", "CREATE ROLE reader LOGIN PASSWORD 'letmein'; GRANT SELECT ON t TO reader");
    let bench = postgres(&cluster, json!({"all": true, "host": cluster.socket()}));
    let captured = bench.proven();
    let mut files: Vec<&str> = captured.artifacts.iter().map(|artifact| artifact.path.to_str().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(files, ["globals.sql", "one.dump", "postgres.dump", "t%20w%20o.dump"]);
    let globals = std::fs::read_to_string(bench.staging().join("globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE reader") && globals.contains("SCRAM-SHA-256$"));
    let (globals_file, whole) = (bench.staging().join("globals.sql"), globals.clone());
    std::fs::write(&globals_file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);

    // Who may not read passwords is told how to do without.
    let mut settings = json!({"database": "one", "globals": true, "user": "reader"});
    let mut bench = postgres(&cluster, settings.clone());
    bench.target.settings["password"] = secret_file(bench.directory.path(), "letmein");
    let failure = bench.refused("permission_denied");
    assert!(failure.trouble.hint.as_deref().unwrap_or_default().contains("role_passwords: false"), "{failure}");
    settings["role_passwords"] = json!(false);
    let mut bench = postgres(&cluster, settings);
    bench.target.settings["password"] = secret_file(bench.directory.path(), "letmein");
    bench.proven();
    let globals = std::fs::read_to_string(bench.staging().join("globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE reader") && !globals.contains("SCRAM"));
}

#[test]
fn a_wrong_password_is_told() {
    let cluster = Cluster::shared();
    let mut bench = postgres(&cluster, json!({"database": "postgres"}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "wrong-password-1");
    let failure = bench.refused("unauthorized");
    assert_eq!(failure.outcome, Outcome::Failed);
    assert!(failure.trouble.hint.is_some() && !failure.to_string().contains("wrong-password-1"), "{failure}");
    bench.target.settings["user"] = json!("nobody-here");
    bench.refused("unauthorized");
    bench.target.settings.as_object_mut().unwrap().remove("password");
    bench.refused("unauthorized");
}

#[test]
fn a_server_that_is_down_is_told() {
    let place = json!({"host": "127.0.0.1", "port": support::free_port(), "user": "x", "database": "y"});
    let failure = Bench::new("postgres", place).refused("unreachable");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("PostgreSQL runs"), "{failure}");
    let socket = json!({"host": "/nowhere", "user": "x", "database": "y"});
    Bench::new("postgres", socket).refused("unreachable");
}

#[test]
fn a_database_that_is_missing_is_told() {
    let cluster = Cluster::shared();
    let failure = postgres(&cluster, json!({"database": "never made"})).refused("database_missing");
    assert!(failure.trouble.message.contains("never made"), "{failure}");
    let there = fresh(&cluster, "there");
    cluster.sql(&there, "CREATE TABLE t (a int)");
    postgres(&cluster, json!({"databases": [there, "never made"]})).refused("database_missing");
}

#[test]
fn a_role_without_rights_is_told_what_to_grant() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "private");
    let role = format!("poor_{}", ulid::Ulid::new().to_string().to_lowercase());
    cluster.sql(&name, &format!("CREATE TABLE secret (a int); CREATE ROLE {role} LOGIN PASSWORD 'poor'"));
    let mut bench = postgres(&cluster, json!({"database": name, "user": role}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "poor");
    let failure = bench.refused("permission_denied");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("pg_read_all_data"), "{failure}");
    assert_eq!(bench.staged(), Vec::<String>::new());
    cluster.sql(&name, &format!("GRANT pg_read_all_data TO {role}"));
    bench.proven();
}

#[test]
fn a_dump_that_is_cut_or_has_one_bit_flipped_is_rejected() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "sound");
    cluster.sql(&name, SAMPLE);
    let bench = postgres(&cluster, json!({ "database": name }));
    let mut captured = bench.proven();
    let file = bench.staging().join(&captured.artifacts[0].path);
    let whole = std::fs::read(&file).unwrap();
    let verdict_of = |bytes: &[u8], captured: &Captured| {
        std::fs::write(&file, bytes).unwrap();
        verdict(&bench.validate(captured).unwrap())
    };
    for part in [whole.len() / 2, whole.len() - 1, 100, 0] {
        assert_eq!(verdict_of(&whole[..part], &captured), Verdict::Failed, "{part} bytes of {}", whole.len());
    }
    let at = whole.windows(9).position(|part| part == b"note 2500").unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    assert_eq!(verdict_of(&flipped, &captured), Verdict::Failed);
    assert_eq!(verdict_of(&whole, &captured), Verdict::Proven);
    // Even without the hash a cut is seen, since all of the file is read.
    captured.artifacts[0].sha256 = None;
    assert_eq!(verdict_of(&whole[..whole.len() / 2], &captured), Verdict::Failed);
    assert_eq!(verdict_of(&whole, &captured), Verdict::CouldNotVerify);
}

#[test]
fn a_database_without_tables_is_an_error_unless_that_is_meant() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "empty");
    let bench = postgres(&cluster, json!({ "database": name }));
    bench.refused("database_empty");
    postgres(&cluster, json!({"database": name, "allow_empty": true})).proven();
    cluster.sql(&name, "CREATE TABLE big_log (a int); CREATE TABLE kept (a int)");
    let captured = postgres(&cluster, json!({"database": name, "exclude_tables": ["big_*"]})).proven();
    assert_eq!(captured.figures["tables"], 1);
    postgres(&cluster, json!({"database": name, "exclude_tables": ["*"]})).refused("database_empty");
}

#[test]
fn of_all_databases_only_the_one_to_connect_to_may_be_empty() {
    let cluster = Cluster::start();
    let all = || postgres(&cluster, json!({"all": true}));
    all().refused("database_empty");
    cluster.create_database("kept");
    cluster.sql("kept", "CREATE TABLE kept (a int)");
    let captured = all().proven();
    assert_eq!((captured.figures["databases"], captured.figures["tables"]), (2, 1));
    cluster.create_database("forgotten");
    assert!(all().refused("database_empty").trouble.message.contains("forgotten"));
}

/// A database with far more data than any buffer between server and file takes.
fn big(cluster: &Cluster) -> String {
    let name = fresh(cluster, "big");
    cluster.sql(
        &name,
        "CREATE TABLE big (id int, text text);
         INSERT INTO big SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 40000) n",
    );
    name
}

/// A dump that stands still half-way: pg_dump writes into a pipe, of which a part is read.
struct Halfway {
    pipe: std::fs::File,
    pid: i32,
}

/// Makes the pipe where the dump will be, before the capture starts.
fn lay_pipe(bench: &Bench, database: &str) -> PathBuf {
    let path = bench.staging().join(format!("{database}.dump"));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

impl Halfway {
    fn of(path: &Path) -> Self {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let mut pipe = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path).unwrap();
        let (mut read, mut chunk) = (0, vec![0; 1 << 16]);
        support::wait_for("a dump that is half-way", Duration::from_secs(60), || {
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                read += length;
            }
            (read > 1_000_000).then_some(())
        });
        let pid = pg_dump_into(path).expect("pg_dump is still at work");
        Self { pipe, pid }
    }

    /// Reads on until pg_dump is gone.
    fn let_go(mut self) {
        use std::io::Read as _;
        let mut chunk = vec![0; 1 << 16];
        support::wait_for("the end of pg_dump", Duration::from_secs(60), || {
            matches!(self.pipe.read(&mut chunk), Ok(0)).then_some(())
        });
    }
}

fn pg_dump_into(file: &Path) -> Option<i32> {
    let wanted = file.to_str().unwrap().as_bytes();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let args = std::fs::read(entry.path().join("cmdline")).ok()?;
        assert!(!args.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "a password is in an argument");
        (args.windows(wanted.len()).any(|part| part == wanted)
            && args.split(|byte| *byte == 0).next()?.ends_with(b"pg_dump"))
        .then_some(pid)
    })
}

#[test]
fn a_dump_that_ends_half_way_leaves_nothing_that_looks_like_one() {
    let cluster = Cluster::shared();
    let name = big(&cluster);

    let bench = postgres(&cluster, json!({ "database": name }));
    let path = lay_pipe(&bench, &name);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| bench.refused("dump_killed"));
        let half = Halfway::of(&path);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(half.pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(running.join().unwrap().outcome, Outcome::Failed);
    });
    assert_eq!(bench.staged(), Vec::<String>::new());

    let bench = postgres(&cluster, json!({ "database": name }));
    let path = lay_pipe(&bench, &name);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| bench.refused("connection_lost"));
        let half = Halfway::of(&path);
        let ended = format!(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE 'COPY%'"
        );
        assert_eq!(cluster.sql("postgres", &ended), "t");
        half.let_go();
        running.join().unwrap();
    });
    assert_eq!(bench.staged(), Vec::<String>::new());

    let bench = postgres(&cluster, json!({ "database": name }));
    let path = lay_pipe(&bench, &name);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| bench.refused("cancelled"));
        let half = Halfway::of(&path);
        bench.cancel.cancel();
        assert_eq!(running.join().unwrap().outcome, Outcome::Cancelled);
        // One that is dead and waits for init to reap it has no arguments any more.
        let args = std::fs::read(format!("/proc/{}/cmdline", half.pid)).unwrap_or_default();
        assert!(args.is_empty(), "pg_dump outlived the plugin");
    });
    cluster.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[test]
fn a_full_disk_defers_the_run_and_leaves_no_piece() {
    let cluster = Cluster::shared();
    let name = fresh(&cluster, "full");
    cluster.sql(&name, SAMPLE);
    let bench = postgres(&cluster, json!({ "database": name }));
    // What pg_dump writes goes where there never is room.
    std::os::unix::fs::symlink("/dev/full", bench.staging().join(format!("{name}.dump"))).unwrap();
    assert_eq!(bench.refused("disk_full").outcome, Outcome::Deferred);
    assert_eq!(bench.staged(), Vec::<String>::new());
}

#[test]
fn a_server_that_is_newer_than_every_client_is_told_with_the_package_to_install() {
    let cluster = Cluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let psql = format!("#!/bin/sh\nexec {}/psql \"$@\"\n", cluster.bin.display());
    write_plugin(directory.path(), "psql", &psql, 0o755);
    for tool in ["pg_dump", "pg_restore"] {
        write_plugin(directory.path(), tool, &format!("#!/bin/sh\necho '{tool} (PostgreSQL) 9.6.24'\n"), 0o755);
    }
    let bench = postgres(&cluster, json!({"database": "postgres", "bin_dir": directory.path()}));
    let failure = bench.refused("server_newer_than_client");
    assert!(failure.trouble.message.contains("9.6.24"), "{failure}");
    assert!(failure.trouble.hint.as_deref().unwrap().contains("postgresql-client-"), "{failure}");
    let nothing = tempfile::tempdir().unwrap();
    postgres(&cluster, json!({"database": "postgres", "bin_dir": nothing.path()})).refused("no_client");
}

#[test]
fn settings_must_name_databases_in_one_way() {
    for more in [json!({}), json!({"database": "a", "all": true}), json!({"databases": [""]}), json!({"databse": "a"})]
    {
        let mut settings = json!({"host": "127.0.0.1", "user": "x"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Bench::new("postgres", settings).refused("settings");
    }
}
