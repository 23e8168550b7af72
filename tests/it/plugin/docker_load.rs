//! Dumps of MariaDB and Redis in containers go back by themselves, on a real engine: whole, or everything as it was.

use super::docker::{docker, fresh, server};
use super::docker_restore::{killed_or_ended, recovered, restore, restored};
use super::support::podman::{Gate, Podman};
use super::*;

/// The password of root; awkward on purpose.
const PASSWORD: &str = "pä\"ss'wo$rd-4711";

fn until_it_works(podman: &Podman, container: &str, script: &str) -> String {
    support::wait_for(script, Duration::from_secs(90), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| podman.exec(container, script))).ok()
    })
}

/// A MariaDB in a container whose file system is read-only but for its data.
struct Maria<'p> {
    podman: &'p Podman,
    name: String,
}

impl<'p> Maria<'p> {
    fn start(podman: &'p Podman, env: &[&str], data: &[&str]) -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            skip(Lack::Package, "the image has MariaDB only where the host has it");
            return None;
        }
        let name = fresh("maria");
        let script = "[ -e /var/lib/mysql/mysql ] || mariadb-install-db --no-defaults --datadir=/var/lib/mysql \
                      --auth-root-authentication-method=normal --skip-test-db >/tmp/made 2>&1; \
                      exec mariadbd --no-defaults --datadir=/var/lib/mysql --skip-networking --skip-name-resolve \
                      --innodb-buffer-pool-size=32M --innodb-use-native-aio=0 --socket=/run/mysqld/mysqld.sock";
        let volume = format!("{name}:/var/lib/mysql");
        let mut args = vec!["-v", volume.as_str()];
        if !data.is_empty() {
            args = data.to_vec();
        }
        args.extend(env.iter().flat_map(|each| ["-e", each]));
        server(podman, &name, &args, "mariadb:10", script);
        let maria = Self { podman, name };
        until_it_works(
            podman,
            &maria.name,
            "mariadb --user=root -e 'SELECT 1' || mariadb --user=root --password=\"$MARIADB_ROOT_PASSWORD\" -e 'SELECT 1'",
        );
        Some(maria)
    }

    /// With a password of root, which all that follows needs.
    fn secured(podman: &'p Podman) -> Option<Self> {
        let maria = Self::start(podman, &[&format!("MARIADB_ROOT_PASSWORD={PASSWORD}")], &[])?;
        let set = "DELETE FROM mysql.global_priv WHERE User = '' OR Host NOT IN ('localhost'); FLUSH PRIVILEGES; SET PASSWORD = PASSWORD('PW')"
            .replace("PW", &PASSWORD.replace('\'', "\\'"));
        maria.podman.podman(&["exec", &maria.name, "mariadb", "--user=root", "-e", &set]);
        Some(maria)
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let script = "MYSQL_PWD=\"$MARIADB_ROOT_PASSWORD\" exec mariadb --user=root --default-character-set=utf8mb4 -N -B \"$@\"";
        let mut args = vec!["exec", &self.name, "sh", "-c", script, "x", "-e", sql];
        if !database.is_empty() {
            args.extend(["-D", database]);
        }
        self.podman.podman(&args)
    }

    fn sample(&self) {
        self.sql(
            "",
            "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE DATABASE `a``b-ü`; CREATE TABLE `a``b-ü`.t (n INT PRIMARY KEY); \
             INSERT INTO `a``b-ü`.t VALUES (1), (2); CREATE USER caller@'%' IDENTIFIED BY 'hunter2'; \
             GRANT SELECT, EXECUTE ON shop.* TO caller@'%'; CREATE USER stays@'%' IDENTIFIED BY 'one'",
        );
        self.sql(
            "shop",
            "CREATE TABLE item (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(60), raw BLOB); \
             CREATE TABLE part (id INT PRIMARY KEY, item INT, FOREIGN KEY (item) REFERENCES item (id)); \
             INSERT INTO item (name, raw) SELECT CONCAT('Item ', seq, '\\n-- Current Database: `mysql`;'), UNHEX('00ff270a') FROM seq_1_to_500; \
             INSERT INTO part SELECT seq, seq FROM seq_1_to_50; CREATE VIEW few AS SELECT id FROM item WHERE id < 4; \
             CREATE TRIGGER named BEFORE INSERT ON item FOR EACH ROW SET NEW.name = UPPER(NEW.name); \
             CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2; \
             CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM part",
        );
    }

    /// What the databases tell; not what `live` changes.
    fn state(&self) -> String {
        let all = "SELECT schema_name FROM information_schema.schemata ORDER BY 1";
        let objects = "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema IN ('shop', 'a`b-ü') ORDER BY 1, 2";
        let code = "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop'; \
                    SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'shop' ORDER BY 1; \
                    SELECT event_name, status FROM information_schema.events WHERE event_schema = 'shop'";
        let sums = "CHECKSUM TABLE shop.item, shop.part, `a``b-ü`.t; SELECT COUNT(*) FROM shop.few";
        [all, objects, code, sums].map(|sql| self.sql("", sql)).join("\n--\n")
    }

    fn change(&self) {
        self.sql("shop", "DELETE FROM part WHERE id > 3; DELETE FROM item WHERE id > 9; DROP FUNCTION IF EXISTS twice; CREATE TABLE IF NOT EXISTS later (n INT); \
                          CREATE OR REPLACE VIEW few AS SELECT id FROM item WHERE id < 2; DELETE FROM `a``b-ü`.t WHERE n = 2");
    }

    fn bench(&self, socket: &Path) -> Bench {
        docker(socket, json!({"containers": [self.name], "stop_timeout": 5}))
    }
}

#[test]
fn a_mariadb_in_a_container_gets_its_databases_back_and_the_users_that_it_lacks() {
    let Some(podman) = Podman::shared() else { return };
    let Some(maria) = Maria::secured(&podman) else { return };
    maria.sample();
    let kept = maria.state();
    let bench = maria.bench(&podman.socket());
    let captured = bench.kept();
    maria.change();
    maria.sql("", "DROP USER caller@'%'; SET PASSWORD FOR stays@'%' = PASSWORD('two'); CREATE DATABASE other");
    let live = maria.state();
    let hashes = || maria.sql("", "SELECT Priv FROM mysql.global_priv WHERE User IN ('stays', 'root') ORDER BY User");
    let before = hashes();

    let plan = bench.restore_docker(&captured, true, json!({})).unwrap();
    let told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|step| step.starts_with("replace database shop in") && step.contains("refused without")),
        "{told:#?}"
    );
    assert!(!told.iter().any(|step| step.starts_with("by hand")), "{told:#?}");
    let failure = restore(&bench, &captured, json!({})).unwrap_err();
    assert_eq!(failure.trouble.code, "database_not_empty", "{failure}");
    assert_eq!(maria.state(), live);

    let done = restored(&bench, &captured);
    assert_eq!(maria.state().replace("other\n", ""), kept, "{done:#?}");
    assert!(maria.sql("", "SHOW DATABASES").contains("other"), "what the backup has not stays");
    assert_eq!(hashes(), before, "who is there keeps the password");
    assert_eq!(maria.sql("", "SHOW GRANTS FOR caller@'%'").lines().count(), 2, "{done:#?}");
    let may = podman.exec(
        &maria.name,
        "mariadb --user=caller --password=hunter2 -N -B -D shop -e 'SELECT twice(21), COUNT(*) FROM item'",
    );
    assert_eq!(may, "42\t500");
    assert_eq!(podman.state(&maria.name), "running");
    assert!(!bench.log().contains("4711") && !format!("{done:?}").contains("4711"));

    // Into a server that has nothing of it.
    maria.sql("", "DROP DATABASE shop; DROP DATABASE `a``b-ü`");
    let done = restored(&bench, &captured);
    assert_eq!(maria.state().replace("other\n", ""), kept, "{done:#?}");
}

#[test]
fn what_a_user_writes_into_a_routine_makes_nobody_and_databases_use_each_other() {
    let Some(podman) = Podman::shared() else { return };
    let Some(maria) = Maria::secured(&podman) else { return };
    let user = "{\"access\":18446744073709551615,\"plugin\":\"mysql_native_password\",\"authentication_string\":\"\"}";
    let hex = hex::encode(user);
    let body = format!(
        "\nDELIMITER ;\nUSE `mysql`;\n-- Dumping data for table `global_priv`\nINSERT INTO `global_priv` VALUES (''localhost'',''evil'',0x{hex});\n\
         DELIMITER ;;\n-- "
    );
    maria.sql(
        "",
        &format!(
            "CREATE DATABASE c1; CREATE DATABASE d1; CREATE TABLE d1.t (id INT); INSERT INTO d1.t VALUES (1); CREATE VIEW c1.v AS SELECT id FROM d1.t; \
             CREATE TABLE c1.x (i INT); CREATE PROCEDURE c1.p() SET @x = '{body}'; CREATE USER app@localhost IDENTIFIED BY 'hunter2'"
        ),
    );
    let code = || maria.sql("c1", "SHOW CREATE PROCEDURE p; SELECT * FROM v; SHOW CREATE VIEW v");
    let users = || maria.sql("", "SELECT user, host FROM mysql.user ORDER BY 1, 2");
    let (kept, before) = (code(), users());
    let bench = maria.bench(&podman.socket());
    let captured = bench.kept();
    maria.sql("", "DROP USER app@localhost; DROP VIEW c1.v");
    restored(&bench, &captured);
    assert_eq!((code(), users()), (kept.clone(), before.clone()));
    maria.sql("", "DROP DATABASE c1; DROP DATABASE d1");
    restored(&bench, &captured);
    assert_eq!((code(), users()), (kept, before));
    assert!(!maria.sql("", "SHOW DATABASES").contains("larder"));
}

#[test]
fn a_mariadb_in_a_container_is_what_it_was_whatever_fails_and_whenever_it_is_killed() {
    let Some(podman) = Podman::shared() else { return };
    let Some(maria) = Maria::secured(&podman) else { return };
    maria.sample();
    let kept = maria.state();
    let gate = Gate::before(&podman.socket());
    let mut bench = maria.bench(&gate.socket());
    let captured = bench.kept();
    maria.change();
    let live = maria.state();
    let dump = bench.staging().join(format!("dumps/{}/dump.sql", maria.name));
    let whole = std::fs::read(&dump).unwrap();
    let text = String::from_utf8_lossy(&whole).into_owned();
    for (content, code) in [
        (text[..text.len() / 2].to_owned(), "dump_damaged"),
        (text.replacen("CREATE TABLE `part` (", "CREATE TABLE `part` ( nonsense", 1), "dump_failed"),
        // The second database fails when the first is loaded already.
        (
            text.replacen("INSERT INTO `part` VALUES", "INSERT INTO `gone` VALUES (1);\nINSERT INTO `part` VALUES", 1),
            "dump_failed",
        ),
    ] {
        std::fs::write(&dump, content).unwrap();
        bench.run = RunId::generate(jiff::Timestamp::now());
        let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
        assert_eq!(failure.trouble.code, code, "{failure}");
        assert_eq!(maria.state(), live, "{code}");
        recovered(&bench, code);
    }
    std::fs::write(&dump, &whole).unwrap();
    // A key of another database leads into one that would be replaced.
    maria.sql("", "CREATE DATABASE other; CREATE TABLE other.t (n INT, FOREIGN KEY (n) REFERENCES shop.item (id))");
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "foreign_keys_from_outside", "{failure}");
    maria.sql("", "DROP DATABASE other");

    let (mut olds, mut news) = (0, 0);
    for pass in [25, 55, 85, 115, 1_000] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let ended = killed_or_ended(&bench, &gate, &captured, pass);
        let now = maria.state();
        assert!(now == live || now == kept, "killed at {pass}:\n{now}\n-- was\n{live}\n{}", bench.log());
        if now == kept {
            news += 1;
            maria.change();
        } else {
            olds += 1;
        }
        if ended {
            break;
        }
    }
    assert!(olds > 1 && news > 0, "{olds} times the old one, {news} times the new one");
}

#[test]
fn killed_at_random_instants_a_mariadb_in_a_container_has_the_old_or_the_new() {
    let Some(podman) = Podman::shared() else { return };
    let Some(maria) = Maria::start(&podman, &["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"], &[]) else { return };
    maria.sample();
    let kept = maria.state();
    let mut bench = maria.bench(&podman.socket());
    let captured = bench.kept();
    maria.change();
    let live = maria.state();
    for wait in [900, 2_700, 4_300, 6_100, 8_300] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let _ = super::database::put_back_noted(
            &bench,
            &captured,
            json!({"overwrite": true}),
            Some(Duration::from_millis(wait)),
        );
        recovered(&bench, "a kill");
        let now = maria.state();
        assert!(now == live || now == kept, "killed after {wait} ms:\n{now}\n-- was\n{live}\n{}", bench.log());
        if now == kept {
            maria.change();
        }
    }
}

#[test]
fn a_mariadb_whose_user_has_one_database_gets_it_back_or_keeps_it() {
    let Some(podman) = Podman::shared() else { return };
    let env =
        ["MARIADB_RANDOM_ROOT_PASSWORD=1", "MARIADB_USER=app", "MARIADB_PASSWORD=hunter2-app", "MARIADB_DATABASE=app"];
    let Some(maria) = Maria::start(&podman, &env, &[]) else { return };
    let root = |sql: &str| podman.podman(&["exec", &maria.name, "mariadb", "--user=root", "-N", "-B", "-e", sql]);
    root(
        "CREATE DATABASE app; CREATE USER app@localhost IDENTIFIED BY 'hunter2-app'; GRANT ALL ON app.* TO app@localhost",
    );
    root(
        "CREATE TABLE app.t (n INT PRIMARY KEY); INSERT INTO app.t SELECT seq FROM app.seq_1_to_300; CREATE DEFINER = app@localhost VIEW app.v AS SELECT n FROM app.t",
    );
    let gate = Gate::before(&podman.socket());
    let mut bench = maria.bench(&gate.socket());
    bench.target.settings["accept"] = json!([format!("{}/users", maria.name)]);
    let captured = bench.kept();
    let state = || root("CHECKSUM TABLE app.t; SELECT COUNT(*) FROM app.v; SHOW DATABASES");
    let kept = state();
    let change = "DELETE FROM app.t WHERE n > 7";
    root(change);
    let live = state();
    // What belongs to somebody else could not be put back by this user.
    root("CREATE PROCEDURE app.foreign_one() SELECT 1");
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "not_kept", "{failure}");
    root("DROP PROCEDURE app.foreign_one");
    assert_eq!(state(), live);
    restored(&bench, &captured);
    assert_eq!(state(), kept);
    root(change);
    for pass in [10, 16, 22, 28, 34] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let ended = killed_or_ended(&bench, &gate, &captured, pass);
        let now = state();
        assert!(now == live || now == kept, "killed at {pass}:\n{now}\n-- was\n{live}\n{}", bench.log());
        root(change);
        if ended {
            break;
        }
    }
}

/// A Redis in a container.
fn redis(podman: &Podman, more: &str) -> Option<String> {
    if !Path::new("/usr/bin/redis-server").exists() {
        skip(Lack::Package, "the image has Redis only where the host has it");
        return None;
    }
    Some(redis_by(podman, &format!("exec redis-server --dir /data {more}")))
}

fn redis_by(podman: &Podman, script: &str) -> String {
    let name = fresh("redis");
    server(podman, &name, &["-v", &format!("{name}:/data")], "redis:7", script);
    until_it_works(podman, &name, "test \"$(redis-cli ping)\" = PONG");
    name
}

fn keys(podman: &Podman, name: &str) -> String {
    until_it_works(podman, name, "redis-cli info persistence | grep -q loading:0");
    podman.exec(name, "redis-cli --raw sort all by nosort; redis-cli --raw lrange list 0 -1; redis-cli get colour; redis-cli -n 3 hgetall h; redis-cli dbsize")
}

fn fill(podman: &Podman, name: &str) {
    let script = "redis-cli set colour blue; redis-cli rpush list a b c; redis-cli -n 3 hset h x 1 y 2; redis-cli set soon x ex 9000";
    podman.exec(name, script);
}

#[test]
fn a_redis_in_a_container_reads_its_dump_again_whatever_it_keeps_beside_it() {
    let Some(podman) = Podman::shared() else { return };
    for more in [
        "--save ''",
        "--save 1 1",
        "--appendonly yes",
        "--appendonly yes --appenddirname logs --appendfilename a.aof --dbfilename d.rdb",
    ] {
        let Some(name) = redis(&podman, more) else { return };
        fill(&podman, &name);
        let kept = keys(&podman, &name);
        let bench = docker(&podman.socket(), json!({"containers": [name], "stop_timeout": 5}));
        let captured = bench.kept();
        podman.exec(&name, "redis-cli flushall; redis-cli set other 1; redis-cli rpush list z");
        let live = keys(&podman, &name);
        let plan = bench.restore_docker(&captured, true, json!({})).unwrap();
        let told: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        assert!(
            told.iter().any(|step| step.starts_with("replace all keys in") && step.contains("refused without")),
            "{told:#?}"
        );
        let failure = restore(&bench, &captured, json!({})).unwrap_err();
        assert_eq!(failure.trouble.code, "database_not_empty", "{failure}");
        assert_eq!(keys(&podman, &name), live, "{more}");
        let done = restored(&bench, &captured);
        assert_eq!(keys(&podman, &name), kept, "{more}: {done:#?}");
        // And once more after a start of its own.
        podman.podman(&["restart", "-t", "5", &name]);
        assert_eq!(keys(&podman, &name), kept, "{more}, started again");
        podman.exec(&name, "redis-cli set after 1");
        podman.podman(&["restart", "-t", "5", &name]);
        let after = podman.exec(&name, "redis-cli get after");
        assert_eq!(after, if more.contains("''") { "" } else { "1" }, "{more}: it goes on keeping what is written");
        bench.again();
        let second = bench.kept();
        assert!(!second.warnings.iter().any(|each| each.message.contains("before-")), "{second:?}");
    }
}

/// A restore whose plugin is killed when it makes a call, where it comes so far.
fn restore_killed_at(gate: &Gate, bench: &Bench, captured: &Captured, held: &str, pass: usize) {
    gate.hold(held, pass);
    restore_killed_when(bench, captured, || gate.arrived());
}

fn restore_killed_when(bench: &Bench, captured: &Captured, is_so_far: impl Fn() -> bool) {
    let finished = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let _ = restore(bench, captured, json!({"overwrite": true}));
            finished.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        support::wait_for("what it is killed at, or the end", Duration::from_secs(120), || {
            (is_so_far() || finished.load(std::sync::atomic::Ordering::SeqCst)).then_some(())
        });
        if is_so_far() {
            let pid = super::docker_kill::plugin_in(&bench.staging());
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        running.join().unwrap();
    });
}

#[test]
fn a_redis_in_a_container_is_what_it_was_when_the_dump_is_not_for_it_or_larder_is_killed() {
    let Some(podman) = Podman::shared() else { return };
    // One that saves nothing when it stops has its keys in its memory alone.
    for more in ["--save ''", "--save 1 1", "--appendonly yes"] {
        let Some(name) = redis(&podman, more) else { return };
        fill(&podman, &name);
        let kept = keys(&podman, &name);
        let gate = Gate::before(&podman.socket());
        let mut bench = docker(&gate.socket(), json!({"containers": [name], "stop_timeout": 5}));
        let captured = bench.kept();
        podman.exec(&name, "redis-cli flushall; redis-cli set other 1");
        let live = keys(&podman, &name);
        let dump = bench.staging().join(format!("dumps/{name}/dump.rdb"));
        let whole = std::fs::read(&dump).unwrap();
        std::fs::write(&dump, &whole[..whole.len() - 12]).unwrap();
        let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
        assert_eq!(failure.trouble.code, "dump_damaged", "{failure}");
        // Of a newer version than the server knows: it does not come up with that.
        let newer = [b"REDIS0099", &whole[9..whole.len() - 8], &[0; 8]].concat();
        std::fs::write(&dump, newer).unwrap();
        let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
        assert_eq!(failure.trouble.code, "server_not_ready", "{failure}");
        assert_eq!((keys(&podman, &name), podman.state(&name)), (live.clone(), "running".to_owned()), "{more}");
        std::fs::write(&dump, whole).unwrap();
        let (mut olds, mut news) = (0, 0);
        for (held, pass) in
            [("/stop", 0), ("PUT /", 0), ("/start", 0), ("/exec HTTP", 12), ("/exec HTTP", 16), ("/exec HTTP", 1_000)]
        {
            bench.run = RunId::generate(jiff::Timestamp::now());
            restore_killed_at(&gate, &bench, &captured, held, pass);
            gate.release();
            recovered(&bench, held);
            assert_eq!(podman.state(&name), "running", "{more}, killed at {held} {pass}");
            let now = keys(&podman, &name);
            assert!(
                now == live || now == kept,
                "{more}, killed at {held} {pass}: {now}\n-- was\n{live}\n{}",
                bench.log()
            );
            if now == kept {
                news += 1;
            } else {
                olds += 1;
            }
            podman.exec(&name, "redis-cli flushall; redis-cli set other 1");
        }
        assert!(olds > 2 && news > 0, "{more}: {olds} times the old ones, {news} times the new ones");
    }
}

#[test]
fn a_redis_that_saves_nothing_has_its_keys_when_a_stop_comes_late_or_never() {
    let Some(podman) = Podman::shared() else { return };
    if redis(&podman, "").is_none() {
        return;
    }
    for comes in [true, false] {
        // It ends by no signal but the last, and has its keys in its memory alone.
        let script = "trap '' TERM; redis-server --dir /data --save '' & while :; do sleep 0.05; done";
        let name = redis_by(&podman, script);
        fill(&podman, &name);
        let gate = Gate::before(&podman.socket());
        let bench = docker(&gate.socket(), json!({"containers": [name], "stop_timeout": 18}));
        let captured = bench.kept();
        podman.exec(&name, "redis-cli flushall; redis-cli set other 1");
        let live = keys(&podman, &name);
        if comes {
            restore_killed_when(&bench, &captured, || {
                let is_asked = bench.log().contains("stopping ");
                if is_asked {
                    // The engine has heard of it then.
                    std::thread::sleep(Duration::from_secs(1));
                }
                is_asked
            });
        } else {
            restore_killed_at(&gate, &bench, &captured, "/stop", 0);
            gate.release();
        }
        let started = podman.podman(&["inspect", "-f", "{{.State.StartedAt}}", &name]);
        recovered(&bench, "the stop");
        assert_eq!((keys(&podman, &name), podman.state(&name)), (live, "running".to_owned()), "{}", bench.log());
        let again = podman.podman(&["inspect", "-f", "{{.State.StartedAt}}", &name]);
        assert_eq!(again != started, comes, "it is started again when it was stopped: {}", bench.log());
    }
}
