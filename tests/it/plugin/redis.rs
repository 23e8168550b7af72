//! The plugin `redis` against a real instance: what is kept comes back, and what goes wrong is told.

use std::process::{Child, Command, Stdio};

use larder::plugin::{Restored, Verb};

use super::database::{never_proven_when_damaged, not_put_back, put_back, rehearse, steps};
use super::*;

/// Awkward on purpose.
const PASSWORD: &str = "hüter 'of\" the\\ keys";

/// Undoes RPOPLPUSH of a list into itself.
const TURN_BACK: &str = "redis.call('RPUSH', 'list', redis.call('LPOP', 'list'))";

/// A throwaway instance: private directory, loopback port and socket, gone when dropped.
pub(super) struct Redis {
    pub(super) directory: tempfile::TempDir,
    port: u16,
    daemon: Child,
}

impl Redis {
    pub(super) fn start() -> Self {
        Self::over(tempfile::Builder::new().prefix("larder-rd-").tempdir_in("/tmp").unwrap(), &[])
    }

    /// An instance with what lies in the directory.
    fn over(directory: tempfile::TempDir, more: &[&str]) -> Self {
        let (mut redis, up) = Self::at(support::free_port(), directory, more);
        // Somebody may have taken the port first: then another one.
        if up { redis } else { Self::over(std::mem::replace(&mut redis.directory, tempfile::tempdir().unwrap()), more) }
    }

    /// The same at a port, and whether it came up.
    fn at(port: u16, directory: tempfile::TempDir, more: &[&str]) -> (Self, bool) {
        let daemon = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", directory.path().to_str().unwrap()])
            .args(["--unixsocket", directory.path().join("s").to_str().unwrap()])
            // By default it waits five seconds for more replicas before it sends a snapshot.
            .args(["--requirepass", PASSWORD, "--repl-diskless-sync-delay", "0"])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server (Debian: apt install redis-server)");
        let mut redis = Self { directory, port, daemon };
        let up = support::wait_for("Redis", Duration::from_secs(30), || {
            let ended = redis.daemon.try_wait().unwrap().is_some();
            (ended || redis.cli(&["PING"]) == "PONG").then_some(!ended)
        });
        (redis, up)
    }

    pub(super) fn cli(&self, args: &[&str]) -> String {
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

    pub(super) fn fill(&self) {
        self.cli(&["EVAL", "for i = 1, 500 do redis.call('SET', 'key:' .. i, 'value ' .. i) end", "0"]);
        self.cli(&["RPUSH", "list", "a", "süß", "c"]);
        self.cli(&["-n", "3", "SET", "other", "x", "EX", "5000"]);
    }

    /// What an instance writes in another order and encoding each time, and what is no value.
    fn fill_more(&self) {
        let many = "for i = 1, 2000 do redis.call('HSET', 'hash', 'field ' .. i, i) redis.call('SADD', 'set', 'member ' .. i) \
                    redis.call('ZADD', 'ranks', i, 'member ' .. i) end";
        self.cli(&["EVAL", many, "0"]);
        self.cli(&["XADD", "stream", "1-1", "field", "value"]);
        self.cli(&["SET", "soon", "x", "EX", "25"]);
        self.cli(&["FUNCTION", "LOAD", "#!lua name=own\nredis.register_function('f', function() return 1 end)"]);
    }

    /// All that it holds, as one text.
    pub(super) fn content(&self) -> String {
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

/// Restores, and has `start` start the instance as soon as the file is in its place.
fn restored_and_started(
    bench: &Bench,
    captured: &Captured,
    options: Value,
    goal: &Path,
    start: impl FnOnce() -> Redis + Send,
) -> (Restored, Redis) {
    let backup = std::fs::read(bench.staging().join("dump.rdb")).unwrap();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let placed = || (std::fs::read(goal).ok()? == backup).then_some(());
            support::wait_for("the restored file", Duration::from_secs(30), placed);
            start()
        });
        let told = put_back(bench, captured, options).unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        (told, started.join().unwrap())
    })
}

/// What the comparison with the instance came to, and why.
fn compared(restored: &Restored) -> (Verdict, &str) {
    let found = restored.validations.iter().find(|each| each.name == "the instance holds what the backup holds");
    let found = found.unwrap_or_else(|| panic!("nothing was compared: {:#?}", restored.validations));
    (found.verdict, &found.detail)
}

pub(super) fn redis(instance: &Redis, more: Value) -> Bench {
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
    let port = instance.port;
    let directory = instance.stop();
    not_put_back(&bench, &captured, json!({ "dir": dir }), "file_exists");
    let old = std::fs::read(&goal).unwrap();
    let options = json!({"dir": dir, "overwrite": true});
    let (told, instance) =
        restored_and_started(&bench, &captured, options, &goal, || Redis::at(port, directory, &[]).0);
    assert_eq!(told.steps[0].verb, Verb::Replace);
    assert_eq!(verdict(&told.validations), Verdict::Proven, "{:#?}", told.validations);
    assert_eq!(compared(&told), (Verdict::Proven, "the values and times to live of 502 keys"));
    assert_eq!(
        std::fs::read(dir.join(format!("dump.rdb.before-{}", bench.run.to_string().to_lowercase()))).unwrap(),
        old
    );
    assert_eq!(instance.content(), before);
    assert_eq!(bench.staged(), ["dump.rdb"]);
}

#[test]
fn what_was_restored_is_compared_to_the_last_value() {
    let instance = Redis::start();
    instance.fill();
    instance.fill_more();
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let (dir, port) = (instance.directory.path().to_owned(), instance.port);
    let directory = instance.stop();
    // Nobody starts it: nothing is proven.
    let told = put_back(&bench, &captured, json!({"dir": dir, "wait": "1s"})).unwrap();
    let (verdict_then, why) = compared(&told);
    assert!(verdict_then == Verdict::CouldNotVerify && why.contains("compare_only"), "{why}");
    not_put_back(&bench, &captured, json!({"compare_only": true}), "unreachable");

    // Started later, by another order and encoding of the same.
    let (instance, up) =
        Redis::at(port, directory, &["--hash-max-listpack-entries", "4", "--list-max-listpack-size", "1"]);
    assert!(up);
    let ask = || rehearse(&bench, &captured, json!({"compare_only": true})).unwrap();
    let told = ask();
    assert_eq!(
        compared(&told),
        (Verdict::Proven, "the values and times to live of 506 keys; 1 more run out within 30s")
    );
    assert_eq!(told.steps, []);

    // Each leaves the number of keys as it is, but for the last two.
    let delete = ["FUNCTION", "DELETE", "own"];
    let load = ["FUNCTION", "LOAD", "#!lua name=own\nredis.register_function('f', function() return 1 end)"];
    let expires = instance.cli(&["-n", "3", "PEXPIRETIME", "other"]);
    let rename = [&["RENAME", "key:7", "key:seven"][..], &["RENAME", "key:seven", "key:7"]];
    let changes: [(&[&str], &[&str], &str); 10] = [
        (&["SET", "key:250", "value 25x"], &["SET", "key:250", "value 250"], "of 506 keys some"),
        (rename[0], rename[1], "of 506 keys some"),
        (&["HDEL", "hash", "field 1999"], &["HSET", "hash", "field 1999", "1999"], "of 506 keys some"),
        (&["SREM", "set", "member 3"], &["SADD", "set", "member 3"], "of 506 keys some"),
        (&["ZADD", "ranks", "7.5", "member 7"], &["ZADD", "ranks", "7", "member 7"], "of 506 keys some"),
        (&["RPOPLPUSH", "list", "list"], &["EVAL", TURN_BACK, "0"], "of 506 keys some"),
        (&["-n", "3", "EXPIRE", "other", "6000"], &["-n", "3", "PEXPIREAT", "other", &expires], "of 506 keys some"),
        (&delete, &load, "the functions are others"),
        (&["SET", "new", "x"], &["DEL", "new"], "database 0 has 506 keys, in the backup 505"),
        (
            &["-n", "3", "MOVE", "other", "4"],
            &["-n", "4", "MOVE", "other", "3"],
            "database 3 has 0 keys, in the backup 1",
        ),
    ];
    for (change, back, why) in changes {
        instance.cli(change);
        let failure = ask();
        let (verdict, detail) = compared(&failure);
        assert!(verdict == Verdict::Failed && detail.contains(why), "{change:?}: {detail}");
        instance.cli(back);
    }
    instance.cli(&["DEL", "soon"]);
    let changes =
        || instance.cli(&["INFO", "persistence"]).lines().find(|line| line.contains("changes")).map(str::to_owned);
    let before = changes();
    assert_eq!(compared(&ask()).0, Verdict::Proven);
    assert_eq!(changes(), before, "nothing was written");
}

#[test]
fn an_instance_that_came_up_with_other_data_is_a_failed_restore() {
    let instance = Redis::start();
    instance.fill();
    instance.cli(&["SAVE"]);
    instance.cli(&["SET", "last", "x"]);
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let (dir, port) = (instance.directory.path().to_owned(), instance.port);
    let goal = dir.join("dump.rdb");
    let directory = instance.stop();
    let older = std::fs::read(&goal).unwrap();
    let options = json!({"dir": dir, "overwrite": true});
    let (told, _instance) = restored_and_started(&bench, &captured, options, &goal, || {
        std::fs::write(&goal, &older).unwrap();
        Redis::at(port, directory, &[]).0
    });
    let (verdict, detail) = compared(&told);
    assert!(verdict == Verdict::Failed && detail.contains("has 501 keys, in the backup 502"), "{detail}");
}

#[test]
fn an_instance_that_would_save_over_the_restored_file_is_compared_only_when_that_is_said() {
    let instance = Redis::start();
    instance.fill();
    let (dir, port) = (instance.directory.path().to_owned(), instance.port);
    let file = dir.join("dump.rdb");
    let bench = redis(&instance, json!({"method": "bgsave", "rdb_file": file}));
    let captured = bench.proven();
    let directory = instance.stop();
    let told = put_back(&bench, &captured, json!({"dir": dir, "overwrite": true})).unwrap();
    let (verdict, why) = compared(&told);
    assert!(verdict == Verdict::CouldNotVerify && why.contains("compare_only"), "{why}");
    let (instance, up) = Redis::at(port, directory, &[]);
    assert!(up);
    let ask = || rehearse(&bench, &captured, json!({"compare_only": true})).unwrap();
    assert_eq!(compared(&ask()), (Verdict::Proven, "the values and times to live of 502 keys"));
    instance.cli(&["SET", "key:9", "value X"]);
    assert_eq!(compared(&ask()).0, Verdict::Failed);
}

#[test]
fn what_cannot_be_compared_is_not_called_proven() {
    let instance = Redis::start();
    instance.fill();
    let mut bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let bin = tempfile::tempdir().unwrap();
    for name in ["redis-cli", "redis-check-rdb"] {
        write_plugin(bin.path(), name, &format!("#!/bin/sh\nexec {name} \"$@\"\n"), 0o755);
    }
    bench.target.settings["bin_dir"] = json!(bin.path());
    let unproven = |why: &str| {
        let told = put_back(&bench, &captured, json!({"compare_only": true})).unwrap();
        let (verdict, detail) = compared(&told);
        assert!(verdict == Verdict::CouldNotVerify && detail.contains(why), "{why}: {detail}");
    };
    unproven("redis-server");
    write_plugin(bin.path(), "redis-server", "#!/bin/sh\necho '1:M 22 Nov 2026 # Cannot load it' && exit 1\n", 0o755);
    unproven("Cannot load it");
    // One that has no DEBUG.
    let script = "#!/bin/sh\nexec redis-server \"$@\" --enable-debug-command no\n";
    write_plugin(bin.path(), "redis-server", script, 0o755);
    unproven("no digest");
    instance.cli(&["ACL", "SETUSER", "default", "-sync"]);
    unproven("redis-cli --rdb");
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
    let port = instance.port;
    let directory = instance.stop();
    let dir = directory.path().to_owned();
    not_put_back(&bench, &captured, json!({ "dir": dir }), "aof_wins");
    assert!(!dir.join("dump.rdb").exists());
    let options = json!({"dir": dir, "set_aside_aof": true});
    let (told, instance) = restored_and_started(&bench, &captured, options, &dir.join("dump.rdb"), || {
        Redis::at(port, directory, &["--appendonly", "no"]).0
    });
    assert_eq!(verdict(&told.validations), Verdict::Proven, "{:#?}", told.validations);
    assert_eq!(told.warnings[0].code, "aof_set_aside");
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
fn one_database_that_is_emptied_and_functions_that_are_flushed_are_missed() {
    let instance = Redis::start();
    instance.fill();
    instance.fill_more();
    instance.cli(&["-n", "5", "SET", "lasting", "x"]);
    let mut bench = redis(&instance, json!({}));
    let captured = bench.capture().unwrap();
    assert!(captured.warnings.is_empty() && captured.notices.is_empty(), "{captured:?}");
    bench.inputs.previous = Some(super::simulated::facts(&captured));
    // All keys of the one run out by themselves.
    for command in [&["-n", "3", "FLUSHDB"][..], &["-n", "5", "FLUSHDB"], &["FUNCTION", "FLUSH"]] {
        instance.cli(command);
    }
    let captured = bench.capture().unwrap();
    let told: Vec<&str> = captured.warnings.iter().map(|each| each.code.as_str()).collect();
    assert_eq!(told, ["database_emptied"], "{captured:?}");
    let message = &captured.warnings[0].message;
    assert!(
        message.contains("db5 (it had 1 keys)") && message.contains("functions") && !message.contains("db3"),
        "{message}"
    );
    bench.target.settings["allow_empty"] = json!(true);
    let captured = bench.capture().unwrap();
    assert!(captured.warnings.is_empty() && captured.notices.len() == 1, "{captured:?}");
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

/// Gives a snapshot another head and the checksum that belongs to it: as a server of a newer or of the other family writes.
fn with_head(bytes: &[u8], head: &[u8; 9]) -> Vec<u8> {
    let mut body = bytes[..bytes.len() - 8].to_vec();
    body[..9].copy_from_slice(head);
    let crc = body.iter().fold(0_u64, |crc, byte| {
        (0..8).fold(
            crc ^ u64::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 },
        )
    });
    body.extend(crc.to_le_bytes());
    body
}

#[test]
fn a_snapshot_that_is_newer_than_the_tools_here_is_kept_as_not_verified_and_can_be_put_back() {
    let instance = Redis::start();
    instance.fill();
    let bench = redis(&instance, json!({}));
    let captured = bench.proven();
    let file = bench.staging().join("dump.rdb");
    let whole = std::fs::read(&file).unwrap();
    let mut without_hash = captured.clone();
    without_hash.artifacts[0].sha256 = None;
    let dir = instance.directory.path().to_owned();
    let _directory = instance.stop();
    for head in [b"VALKEY080", b"REDIS0099", b"VALKEY011"] {
        let newer = with_head(&whole, head);
        std::fs::write(&file, &newer).unwrap();
        let validations = bench.validate(&without_hash).unwrap();
        assert_eq!(verdict(&validations), Verdict::CouldNotVerify, "{validations:#?}");
        assert!(validations.iter().any(|each| each.detail.contains("checksum is right")), "{validations:#?}");
        let told = rehearse(&bench, &without_hash, json!({ "dir": dir })).unwrap();
        assert!(told.warnings.iter().any(|each| each.code == "not_checked"), "{told:#?}");
        // Not to be read here, and damaged all the same.
        let mut damaged = newer.clone();
        damaged[40] ^= 1;
        for bytes in [&damaged[..], &newer[..newer.len() - 20]] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(verdict(&bench.validate(&without_hash).unwrap()), Verdict::Failed);
            not_put_back(&bench, &without_hash, json!({ "dir": dir }), "dump_damaged");
        }
    }
}
