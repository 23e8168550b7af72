//! The plugin `redis` against a real instance: what is kept comes back, and what goes wrong is told.

use std::process::{Child, Command, Stdio};

use larder::plugin::Verb;

use super::database::{never_proven_when_damaged, not_put_back, rehearse, restored, steps};
use super::*;

/// Awkward on purpose.
const PASSWORD: &str = "hüter 'of\" the\\ keys";

/// A throwaway instance: private directory, loopback port and socket, gone when dropped.
struct Redis {
    directory: tempfile::TempDir,
    port: u16,
    daemon: Child,
}

impl Redis {
    fn start() -> Self {
        Self::over(tempfile::Builder::new().prefix("larder-rd-").tempdir_in("/tmp").unwrap(), &[])
    }

    /// An instance with what lies in the directory.
    fn over(directory: tempfile::TempDir, more: &[&str]) -> Self {
        let port = support::free_port();
        let daemon = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", directory.path().to_str().unwrap()])
            .args(["--unixsocket", directory.path().join("s").to_str().unwrap()])
            .args(["--requirepass", PASSWORD])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server (Debian: apt install redis-server)");
        let mut redis = Self { directory, port, daemon };
        let up = support::wait_for("Redis", Duration::from_secs(30), || {
            let ended = redis.daemon.try_wait().unwrap().is_some();
            (ended || redis.cli(&["PING"]) == "PONG").then_some(!ended)
        });
        // Somebody may have taken the port first: then another one.
        if up { redis } else { Self::over(redis.stop(), more) }
    }

    fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .env("REDISCLI_AUTH", PASSWORD)
            .args(["-p", &self.port.to_string()])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends it as a crash does; its directory stays.
    fn stop(mut self) -> tempfile::TempDir {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    fn fill(&self) {
        self.cli(&["EVAL", "for i = 1, 500 do redis.call('SET', 'key:' .. i, 'value ' .. i) end", "0"]);
        self.cli(&["RPUSH", "list", "a", "süß", "c"]);
        self.cli(&["-n", "3", "SET", "other", "x", "EX", "5000"]);
    }

    /// All that it holds, as one text.
    fn content(&self) -> String {
        let every = "local r = {} for _, k in ipairs(redis.call('KEYS', 'key:*')) do r[#r + 1] = k .. '=' .. redis.call('GET', k) end \
                     table.sort(r) return redis.sha1hex(table.concat(r, ','))";
        [&["EVAL", every, "0"][..], &["LRANGE", "list", "0", "-1"], &["-n", "3", "GET", "other"], &["DBSIZE"]]
            .map(|args| self.cli(args))
            .join("\n")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn redis(instance: &Redis, more: Value) -> Bench {
    let mut bench = Bench::new("redis", json!({"host": "127.0.0.1", "port": instance.port}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), PASSWORD);
    for (key, value) in more.as_object().unwrap() {
        bench.target.settings[key] = value.clone();
    }
    bench
}

#[test]
fn an_instance_comes_back_as_it_was() {
    let instance = Redis::start();
    instance.fill();
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    assert_eq!((captured.figures["keys"], captured.figures["expires"]), (502, 1));
    assert!(captured.app_version.as_deref().unwrap().starts_with("Redis "), "{:?}", captured.app_version);
    assert_eq!(bench.staged(), ["dump.rdb"]);
    assert!(!bench.log().contains(PASSWORD));
    let before = instance.content();
    assert!(before.ends_with("501"), "{before}");

    // A running one is refused, a dry run says what is to be done.
    let dir = instance.directory.path().to_owned();
    not_put_back(&bench, &captured, json!({ "dir": dir }), "still_running");
    not_put_back(&bench, &captured, json!({}), "restore_options");
    let told = rehearse(&bench, &captured, json!({ "dir": dir })).unwrap();
    let goal = dir.join("dump.rdb");
    let wanted = [
        (Verb::Manual, "stop the instance"),
        (Verb::Create, goal.to_str().unwrap()),
        (Verb::Manual, "start the instance"),
    ];
    assert_eq!(steps(&told), wanted);
    assert!(!goal.exists(), "a dry run makes nothing");

    instance.cli(&["SET", "key:1", "changed"]);
    instance.cli(&["SAVE"]);
    let directory = instance.stop();
    not_put_back(&bench, &captured, json!({ "dir": dir }), "file_exists");
    let old = std::fs::read(&goal).unwrap();
    let told = restored(&bench, &captured, json!({"dir": dir, "overwrite": true}));
    assert_eq!(told.steps[0].verb, Verb::Replace);
    assert_eq!(
        std::fs::read(dir.join(format!("dump.rdb.before-{}", bench.run.to_string().to_lowercase()))).unwrap(),
        old
    );
    let instance = Redis::over(directory, &[]);
    assert_eq!(instance.content(), before);
}

#[test]
fn a_log_that_would_win_over_the_restored_file_is_set_aside_when_that_is_said() {
    let instance = Redis::over(
        tempfile::Builder::new().prefix("larder-rd-").tempdir_in("/tmp").unwrap(),
        &["--appendonly", "yes"],
    );
    instance.fill();
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let before = instance.content();
    instance.cli(&["FLUSHALL"]);
    let directory = instance.stop();
    let dir = directory.path().to_owned();
    not_put_back(&bench, &captured, json!({ "dir": dir }), "aof_wins");
    assert!(!dir.join("dump.rdb").exists());
    let told = restored(&bench, &captured, json!({"dir": dir, "set_aside_aof": true}));
    assert_eq!(told.warnings[0].code, "aof_set_aside");
    let instance = Redis::over(directory, &["--appendonly", "no"]);
    assert_eq!(instance.content(), before);
}

#[test]
fn a_server_that_writes_its_own_file_is_kept_too() {
    let instance = Redis::start();
    instance.fill();
    let file = instance.directory.path().join("dump.rdb");
    let socket = instance.directory.path().join("s");
    let mut bench = redis(&instance, json!({"method": "bgsave", "rdb_file": file, "socket": socket}));
    bench.target.settings.as_object_mut().unwrap().remove("host");
    let captured = bench.proven();
    assert_eq!(captured.figures["keys"], 502);
    let stale = instance.directory.path().join("old.rdb");
    std::fs::copy(&file, &stale).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(&stale).unwrap().set_modified(old).unwrap();
    redis(&instance, json!({"method": "bgsave", "rdb_file": stale})).refused("stale_file");
    redis(&instance, json!({"method": "bgsave", "rdb_file": "/nowhere/dump.rdb"})).refused("path_unreadable");
    redis(&instance, json!({"method": "bgsave"})).refused("settings");
    redis(&instance, json!({"rdb_file": file})).refused("settings");
    redis(&instance, json!({"socket": socket})).refused("settings");
    // Where it can't write, it says so.
    instance.cli(&["CONFIG", "SET", "dbfilename", "dump.rdb"]);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    redis(&instance, json!({"method": "bgsave", "rdb_file": file})).refused("save_failed");
}

#[test]
fn an_instance_that_refuses_is_down_or_empty_is_told() {
    let instance = Redis::start();
    redis(&instance, json!({})).refused("database_empty");
    redis(&instance, json!({"allow_empty": true})).proven();
    instance.fill();
    let mut bench = redis(&instance, json!({}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "wrong-password-1");
    let failure = bench.refused("unauthorized");
    assert!(failure.trouble.hint.is_some() && !failure.to_string().contains("wrong-password-1"), "{failure}");
    bench.target.settings.as_object_mut().unwrap().remove("password");
    bench.refused("unauthorized");

    instance.cli(&[
        "ACL",
        "SETUSER",
        "backup",
        "on",
        ">p",
        "resetkeys",
        "resetchannels",
        "-@all",
        "+ping",
        "+info",
        "+sync",
    ]);
    let mut bench = redis(&instance, json!({"user": "backup"}));
    bench.target.settings["password"] = secret_file(bench.directory.path(), "p");
    instance.cli(&["ACL", "SETUSER", "backup", "-sync"]);
    bench.refused("permission_denied");
    assert_eq!(bench.staged(), Vec::<String>::new());
    // What the guide says is enough.
    instance.cli(&["ACL", "SETUSER", "backup", "+sync", "+psync", "+replconf"]);
    bench.proven();
    instance.cli(&["ACL", "SETUSER", "backup", "-info"]);
    bench.refused("permission_denied");

    let place = json!({"host": "127.0.0.1", "port": support::free_port()});
    Bench::new("redis", place).refused("unreachable");
    let nothing = tempfile::tempdir().unwrap();
    redis(&instance, json!({"bin_dir": nothing.path()})).refused("no_client");
}

#[test]
fn a_damaged_file_is_never_proven_and_never_restored() {
    let instance = Redis::start();
    instance.fill();
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let file = bench.staging().join("dump.rdb");
    let whole = std::fs::read(&file).unwrap();
    let at = whole.windows(9).position(|part| part == b"value 250").unwrap();
    never_proven_when_damaged(&bench, &captured, 0, &[0, 8, at, whole.len() - 1], b"REDIS0011");
    let dir = instance.directory.path().to_owned();
    let directory = instance.stop();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    let mut without_hash = captured.clone();
    without_hash.artifacts[0].sha256 = None;
    for bytes in [&whole[..whole.len() / 2], &flipped] {
        std::fs::write(&file, bytes).unwrap();
        // The format has a checksum of its own.
        assert_eq!(verdict(&bench.validate(&without_hash).unwrap()), Verdict::Failed);
        not_put_back(&bench, &without_hash, json!({ "dir": dir }), "dump_damaged");
    }
    assert!(!directory.path().join("dump.rdb").exists());
}

#[test]
fn a_transfer_that_ends_half_way_leaves_nothing_that_looks_like_a_snapshot() {
    let instance = Redis::start();
    instance.fill();
    let bin = tempfile::tempdir().unwrap();
    write_plugin(bin.path(), "redis-check-rdb", "#!/bin/sh\nexec redis-check-rdb \"$@\"\n", 0o755);
    for (end, code) in [("exit 1", "redis_failed"), ("exit 0", "dump_cut"), ("kill -9 $$", "dump_killed")] {
        let script = format!(
            "#!/bin/sh\nredis-cli \"$@\" || exit\ncase \"$*\" in *--rdb*) truncate -s 300 dump.rdb; {end};; esac\n"
        );
        write_plugin(bin.path(), "redis-cli", &script, 0o755);
        let bench = redis(&instance, json!({"bin_dir": bin.path()}));
        bench.refused(code);
        assert_eq!(bench.staged(), Vec::<String>::new(), "{end}");
    }
}
