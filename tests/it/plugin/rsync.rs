//! The plugin `rsync` against a real sshd and rsync on the loopback.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use super::*;

/// A device: an sshd of our own, with a tree of files to keep.
pub(super) struct Device {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
    user: String,
}

impl Device {
    pub(super) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("larder-sshd-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["host", "other-host", "login", "other-login"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(name))
                .status()
                .expect("ssh-keygen");
            assert!(made.success());
        }
        let port = support::free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n",
            directory.path().display()
        );
        std::fs::write(at("config"), config).unwrap();
        if nix::unistd::geteuid().is_root() {
            // Debian's sshd wants it; the package makes it at its start.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(at("config"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd");
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        let device = Self { child, port, directory, user };
        device.allow("");
        device.knows("host");
        support::wait_for("sshd", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        device.fill(40);
        device
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether the login is taken, and what it may do: a forced command, or everything.
    pub(super) fn allow(&self, command: &str) {
        let key = std::fs::read_to_string(self.at("login.pub")).unwrap();
        let forced = if command.is_empty() { String::new() } else { format!("command=\"{command}\" ") };
        std::fs::write(self.at("authorized"), format!("{forced}{key}")).unwrap();
    }

    /// Which host key is in known_hosts.
    fn knows(&self, name: &str) {
        let key = std::fs::read_to_string(self.at(&format!("{name}.pub"))).unwrap();
        std::fs::write(self.at("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    fn fill(&self, files: usize) {
        std::fs::create_dir_all(self.at("data/a dir")).unwrap();
        for n in 0..files {
            std::fs::write(self.at("data/a dir").join(format!("file {n}.txt")), format!("content {n}\n").repeat(200))
                .unwrap();
        }
        let _ = std::os::unix::fs::symlink("a dir", self.at("data/link"));
    }

    pub(super) fn bench(&self) -> Bench {
        let settings = json!({
            "host": "127.0.0.1", "port": self.port, "user": self.user, "known_hosts": self.at("known_hosts"),
            "paths": [self.at("data")], "copy": self.at("copy"), "silence": "3s",
        });
        let key = std::fs::read_to_string(self.at("login")).unwrap();
        Bench::of_app("rsync", settings, &[("key", &key)])
    }

    /// Where `data` lies in the copy.
    fn copied(&self) -> PathBuf {
        self.at("copy/tree").join(self.at("data").strip_prefix("/").unwrap())
    }
}

/// Lays what the copy has into the restored tree, as restic would.
pub(super) fn lay_out(bench: &Bench, device: &Device) {
    let place = bench.directory.path().join("tree").join(device.copied().strip_prefix("/").unwrap());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(device.copied()).arg(&place).status().unwrap().success());
}

/// Every file below a directory with its content; not what a restore kept there.
pub(super) fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_kept = [".larder-before-", ".larder-undone-"].iter().any(|begin| name.starts_with(begin));
            if kind.is_dir() && !is_kept {
                open.push(path.clone());
            } else if kind.is_file() {
                all.insert(path.strip_prefix(directory).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

pub(super) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("a dir")).map_or(0, Iterator::count)
}

#[test]
fn a_device_is_copied_followed_and_put_back() {
    let device = Device::start();
    let bench = device.bench();
    let captured = bench.proven_app();
    assert_eq!(captured.figures["source_files"], 40);
    assert_eq!(captured.sources[0].path, device.copied());
    assert_eq!(std::fs::read_link(device.copied().join("link")).unwrap(), Path::new("a dir"));
    assert!(!bench.log().contains("PRIVATE KEY"));
    assert_eq!(bench.staged(), Vec::<String>::new(), "no key is left");

    // What is gone there is gone in the copy, what is new is new.
    std::fs::remove_file(device.at("data/a dir/file 3.txt")).unwrap();
    std::fs::write(device.at("data/new $(id).txt"), "new").unwrap();
    let again = bench.capture_with(Some(super::simulated::facts(&captured))).unwrap();
    assert_eq!((again.figures["source_files"], again.figures["deleted_in_copy"]), (40, 1));
    assert!(!device.copied().join("a dir/file 3.txt").exists() && device.copied().join("new $(id).txt").exists());

    // Put back: what is missing there is there again, and nothing else is deleted.
    let tree = bench.directory.path().join("tree");
    let place = tree.join(device.copied().strip_prefix("/").unwrap());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let copy = Command::new("cp").arg("-a").arg(device.copied()).arg(&place).status().unwrap();
    assert!(copy.success());
    std::fs::remove_dir_all(device.at("data/a dir")).unwrap();
    std::fs::write(device.at("data/own.txt"), "made since").unwrap();
    let plan = bench.restore_app(&again, json!({}), true).unwrap();
    assert!(plan.steps[0].detail.starts_with("39 of 40 files"), "{plan:#?}");
    assert_eq!(files(&device.at("data")), 0);
    let restored = bench.restore_app(&again, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    assert_eq!(files(&device.at("data")), 39);
    assert!(device.at("data/own.txt").exists());
    let beside = bench.restore_app(&again, json!({"below": device.at("elsewhere")}), false).unwrap();
    assert_eq!(verdict(&beside.validations), Verdict::Proven, "{beside:#?}");
    assert_eq!(files(&device.at("elsewhere").join(device.at("data").strip_prefix("/").unwrap())), 39);
}

#[test]
fn a_device_that_lost_most_of_its_files_does_not_empty_the_copy() {
    let device = Device::start();
    let mut bench = device.bench();
    let captured = bench.proven_app();
    let before = || Some(super::simulated::facts(&captured));
    std::fs::remove_dir_all(device.at("data")).unwrap();
    device.fill(10);
    let failure = bench.capture_with(before()).unwrap_err();
    assert_eq!(failure.trouble.code, "source_shrunk");
    assert!(failure.trouble.message.contains("10 files") && failure.trouble.message.contains("it had 40"), "{failure}");
    assert_eq!(files(&device.copied()), 40, "nothing was deleted");
    std::fs::remove_dir_all(device.at("data/a dir")).unwrap();
    assert_eq!(bench.capture_with(before()).unwrap_err().trouble.code, "source_empty");
    std::fs::remove_dir_all(device.at("data")).unwrap();
    assert_eq!(bench.capture_with(before()).unwrap_err().trouble.code, "path_missing");
    assert_eq!(files(&device.copied()), 40);
    device.fill(10);
    bench.target.settings["allow_fewer"] = json!(true);
    assert_eq!(bench.capture_with(before()).unwrap().figures["source_files"], 10);
    assert_eq!(files(&device.copied()), 10);
}

#[test]
fn each_way_to_fail_is_told_and_leaves_the_copy_alone() {
    let device = Device::start();
    let mut bench = device.bench();
    bench.proven_app();
    for (command, codes) in [
        ("true", &["cut_short"][..]),
        // rsync may see the end of the connection before that of ssh; the hint names both.
        ("exit 127", &["rsync_missing_there", "cut_short"]),
        ("cat /dev/zero", &["rsync_failed", "cut_short"]),
        ("echo '<html>login</html>'", &["rsync_failed", "cut_short"]),
        ("sleep 60", &["silent"]),
        ("$SSH_ORIGINAL_COMMAND | head -c 700", &["cut_short", "silent"]),
        ("exit 255", &["ssh_failed", "cut_short"]),
    ] {
        device.allow(command);
        bench.refused_app(codes);
        assert_eq!(files(&device.copied()), 40, "{command}");
    }
    device.allow("");
    device.knows("other-host");
    let failure = bench.refused_app(&["host_key_changed"]);
    assert!(failure.trouble.hint.unwrap().contains("somebody stands in between"));
    std::fs::write(device.at("known_hosts"), "").unwrap();
    bench.refused_app(&["host_key_unknown"]);
    device.knows("host");
    let other = std::fs::read_to_string(device.at("other-login")).unwrap();
    let key = bench.target.settings["key"].clone();
    bench.target.settings["key"] = secret_file(bench.directory.path(), &other);
    let failure = bench.refused_app(&["unauthorized"]);
    assert!(!failure.to_string().contains("PRIVATE"));
    bench.target.settings["key"] = key;
    bench.target.settings["port"] = json!(support::free_port());
    assert_eq!(bench.refused_app(&["unreachable"]).outcome, Outcome::Deferred);
    bench.target.settings["port"] = json!(device.port);
    bench.proven_app();
}

#[test]
fn files_that_may_not_be_read_there_make_the_run_partial() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can become nobody");
    }
    let device = Device::start();
    chmod(device.directory.path(), 0o755);
    chmod(&device.at("data/a dir/file 7.txt"), 0o600);
    device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
    let captured = device.bench().capture_with(None).unwrap();
    assert_eq!(captured.warnings[0].code, "files_unreadable", "{:?}", captured.warnings);
    assert!(captured.warnings[0].message.contains("file 7.txt"), "{:?}", captured.warnings);
    assert_eq!(files(&device.copied()), 39);
}

#[test]
fn a_directory_that_may_not_be_read_is_no_proof_and_its_copy_stays() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can become nobody");
    }
    let device = Device::start();
    chmod(device.directory.path(), 0o755);
    std::fs::create_dir(device.at("data/locked")).unwrap();
    for n in 0..5 {
        std::fs::write(device.at("data/locked").join(format!("{n}.txt")), "content").unwrap();
    }
    let bench = device.bench();
    let whole = bench.proven_app();
    assert_eq!(whole.figures["source_files"], 45);
    // rsync ends with 23 then: nothing of it is listed, so nothing of it is left to be fetched either.
    chmod(&device.at("data/locked"), 0o700);
    device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
    let captured = bench.capture_with(Some(super::simulated::facts(&whole))).unwrap();
    assert_eq!(captured.warnings[0].code, "files_unreadable", "{:?}", captured.warnings);
    assert!(captured.warnings[0].message.contains("locked"), "{:?}", captured.warnings);
    let locked = device.copied().join("locked");
    assert_eq!(std::fs::read_dir(locked).unwrap().count(), 5, "what was fetched before is not deleted");
    let validations = bench.validate_with(&captured, None).unwrap();
    let same = validations.iter().find(|each| each.name == "rsync finds both sides the same").unwrap();
    assert!(same.verdict == Verdict::CouldNotVerify && same.detail.contains("locked"), "{validations:#?}");
    assert_ne!(verdict(&validations), Verdict::Proven);
}

#[test]
fn files_that_vanish_while_they_are_fetched_make_the_run_partial() {
    let device = Device::start();
    let mut bench = device.bench();
    let source = device.at("data/a dir");
    for n in 0..200 {
        std::fs::write(source.join(format!("big {n:03}.bin")), vec![b'x'; 32 << 10]).unwrap();
    }
    // Slow enough that the last files are still to be opened when the first has arrived.
    bench.target.settings["bandwidth_kib"] = json!(2000);
    let copied = device.copied().join("a dir");
    let captured = std::thread::scope(|scope| {
        scope.spawn(|| {
            support::wait_for("the first file", Duration::from_secs(30), || {
                std::fs::read_dir(&copied).ok()?.flatten().any(|entry| entry.path().extension().is_some()).then_some(())
            });
            for n in 150..200 {
                std::fs::remove_file(source.join(format!("big {n:03}.bin"))).unwrap();
            }
        });
        bench.capture_with(None).unwrap()
    });
    assert_eq!(captured.warnings.len(), 1, "{:?}", captured.warnings);
    assert_eq!(captured.warnings[0].code, "files_vanished", "{:?}", captured.warnings);
    assert_eq!((captured.figures["source_files"], files(&device.copied())), (240, 190));
    assert_eq!(verdict(&bench.validate_with(&captured, None).unwrap()), Verdict::CouldNotVerify);
    // The next run is whole again.
    bench.proven_app();
}

#[test]
fn a_copy_of_somebody_else_is_never_touched_and_bad_input_is_refused() {
    let device = Device::start();
    let mut bench = device.bench();
    std::fs::create_dir(device.at("mine")).unwrap();
    std::fs::write(device.at("mine/diary.txt"), "dear diary").unwrap();
    bench.target.settings["copy"] = json!(device.at("mine"));
    bench.refused_app(&["copy_taken"]);
    assert!(device.at("mine/diary.txt").exists());
    for (name, value) in [
        ("host", json!("-oProxyCommand=touch /tmp/x")),
        ("host", json!("me@nas")),
        ("user", json!("-l root")),
        ("paths", json!(["relative"])),
        ("paths", json!(["/a/../b"])),
        ("paths", json!([])),
        ("copy", json!("/srv")),
        ("hots", json!("nas")),
    ] {
        let mut bench = device.bench();
        bench.target.settings[name] = value;
        bench.refused_app(&["settings"]);
    }
    let mut bench = device.bench();
    bench.target.settings["known_hosts"] = json!("/nowhere/known_hosts");
    bench.refused_app(&["known_hosts_missing"]);
}

#[test]
fn beside_a_database_nothing_is_left_that_the_backup_has_not_and_other_files_are_told() {
    let device = Device::start();
    let mut bench = device.bench();
    let sqlite = |path: &Path, rows: u32| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER); DELETE FROM t").unwrap();
        for n in 0..rows {
            connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
    };
    sqlite(&device.at("data/app [x]/app.db"), 30);
    write(&device.at("data/pg/PG_VERSION"), "15\n");
    write(&device.at("data/pg/base/1"), "page");
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    let kept = content(&device.at("data"));

    sqlite(&device.at("data/app [x]/app.db"), 7);
    write(&device.at("data/app [x]/app.db-wal"), "stale");
    write(&device.at("data/app [x]/app.db-walnut"), "no part of it");
    write(&device.at("data/pg/base/2"), "newer page");
    write(&device.at("data/pg/pg_wal/0001"), "newer log");
    write(&device.at("data/a dir/own *.txt"), "made since");
    let live = content(&device.at("data"));
    // What a killed restore left in its directory hides no database from the next one.
    for left in [".larder-empty/pg", ".larder-empty/app [x]", ".larder-scratch-0/skeleton/pg"] {
        std::fs::create_dir_all(bench.staging().join(left)).unwrap();
    }
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    let detail = &plan.steps[0].detail;
    for wanted in ["app.db-wal", "pg/base/2", "pg/pg_wal/", "stays: ", "own *.txt", "app.db-walnut"] {
        assert!(detail.contains(wanted), "{wanted}: {detail}");
    }
    assert_eq!(content(&device.at("data")), live, "a dry run changes nothing");
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let mut wanted = kept.clone();
    wanted.insert("app [x]/app.db-walnut".into(), b"no part of it".to_vec());
    wanted.insert("a dir/own *.txt".into(), b"made since".to_vec());
    assert_eq!(content(&device.at("data")).keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    assert_eq!(content(&device.at("data")), wanted);
    let told = &restored.validations[0].detail;
    assert!(told.contains("2 stay that the backup has not") && told.contains("own *.txt"), "{told}");
    let aside = device.at(&format!("data/.larder-before-{}", bench.run.to_string().to_lowercase()));
    assert_eq!(std::fs::read(aside.join("app [x]/app.db-wal")).unwrap(), b"stale", "it is kept there");
    assert_eq!(std::fs::read(aside.join("pg/pg_wal/0001")).unwrap(), b"newer log");
    assert_eq!(std::fs::read(aside.join("app [x]/app.db")).unwrap(), live[Path::new("app [x]/app.db")]);
    // What a restore kept is no part of the next backup.
    bench.capture_with(None).unwrap();
    assert!(!content(&device.copied()).keys().any(|path| path.to_string_lossy().contains(".larder-before")));

    // A single file that is a database.
    bench.target.settings["paths"] =
        json!([device.at("data/app [x]/app.db").display().to_string().replace("[x]", "x")]);
    std::fs::rename(device.at("data/app [x]"), device.at("data/app x")).unwrap();
    bench.target.settings["copy"] = json!(device.at("copy2"));
    let captured = bench.capture_with(None).unwrap();
    let place = bench.directory.path().join("tree").join(captured.sources[0].path.strip_prefix("/").unwrap());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(&captured.sources[0].path, &place).unwrap();
    write(&device.at("data/app x/app.db-journal"), "stale");
    bench.run = RunId::generate(jiff::Timestamp::now());
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert!(!device.at("data/app x/app.db-journal").exists(), "{restored:#?}");
    assert!(device.at("data/app x/app.db-walnut").exists());
}

#[test]
fn a_restore_that_fails_or_is_killed_leaves_the_files_as_they_were_or_as_in_the_backup() {
    let device = Device::start();
    let mut bench = device.bench();
    for n in 0..60 {
        write(&device.at(&format!("data/many/{n:02}.bin")), &format!("{n}").repeat(30_000));
    }
    write(&device.at("data/pg/PG_VERSION"), "15\n");
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    let kept = content(&device.at("data"));
    let change = || {
        for n in 0..50 {
            write(&device.at(&format!("data/many/{n:02}.bin")), "live");
        }
        for n in 50..60 {
            let _ = std::fs::remove_file(device.at(&format!("data/many/{n:02}.bin")));
        }
        let _ = std::fs::remove_dir_all(device.at("data/a dir"));
        write(&device.at("data/pg/newer"), "live");
        for entry in std::fs::read_dir(device.at("data")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".larder-before-") {
                std::fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    };
    change();
    let live = content(&device.at("data"));
    if nix::unistd::geteuid().is_root() {
        // Who may not write leaves everything as it is.
        chmod(device.directory.path(), 0o755);
        device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
        let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
        assert_eq!(failure.trouble.code, "files_unwritable", "{failure}");
        assert_eq!(content(&device.at("data")), live);
        device.allow("");
        bench.recover_app().unwrap();
    }
    bench.target.settings["bandwidth_kib"] = json!(4000);
    let (mut olds, mut news) = (0, 0);
    for wait in [50, 300, 500, 700, 850, 1000, 1200, 1500, 2500, 20_000] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let ended = super::database::put_back_noted(&bench, &captured, json!({}), Some(Duration::from_millis(wait)));
        bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        let now = content(&device.at("data"));
        let names = |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
        let is_whole = now == live || now == kept;
        assert!(is_whole, "killed after {wait} ms: {:?}\n{ended:?}\n{}", names(&now), bench.log());
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
        if now == kept {
            news += 1;
            change();
        } else {
            olds += 1;
        }
        if ended.is_ok() {
            break;
        }
    }
    assert!(olds > 1 && news > 0, "{olds} times the old ones, {news} times the new ones");
}

#[test]
fn a_full_disk_on_the_device_leaves_every_file_as_it_was() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can mount");
    }
    let device = Device::start();
    let mounted =
        |args: &[&str]| Command::new(args[0]).args(&args[1..]).arg(device.at("data")).status().unwrap().success();
    if !mounted(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]) {
        return skip(Lack::Mount, "nothing can be mounted here");
    }
    let bench = device.bench();
    for n in 0..20 {
        write(&device.at(&format!("data/{n:02}.bin")), &format!("{n:02}").repeat(60_000));
    }
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    for n in 0..20 {
        write(&device.at(&format!("data/{n:02}.bin")), &format!("{n:02}live").repeat(20_000));
    }
    let live = content(&device.at("data"));
    let failure = bench.restore_app(&captured, json!({}), false);
    let now = content(&device.at("data"));
    bench.recover_app().unwrap();
    assert!(mounted(&["umount"]));
    let failure = failure.unwrap_err();
    assert_eq!(failure.trouble.code, "disk_full", "{failure}");
    assert!(now == live, "{failure}: {:?}", now.keys());
    assert!(failure.to_string().contains("make room on the device"), "{failure}");
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

/// What every name below a directory is: kind, rights, owner, time, links and content; not what an undo kept there.
pub(super) fn state(directory: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        let metadata = std::fs::symlink_metadata(&next).unwrap();
        let what = if metadata.is_dir() {
            let inside = std::fs::read_dir(&next).unwrap().flatten();
            let is_kept = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".larder-undone-");
            open.extend(inside.filter(|entry| !is_kept(&entry.file_name())).map(|entry| entry.path()));
            String::new()
        } else if metadata.is_symlink() {
            return_link(&next)
        } else {
            format!("{} {}", metadata.nlink(), String::from_utf8_lossy(&std::fs::read(&next).unwrap()))
        };
        let time = if metadata.is_symlink() { 0 } else { metadata.mtime() };
        let told = format!("{:o} {}:{} {time} {what}", metadata.mode(), metadata.uid(), metadata.gid());
        all.insert(next.strip_prefix(directory).unwrap().to_owned(), told);
    }
    all
}

fn return_link(path: &Path) -> String {
    std::fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn a_restore_that_fails_leaves_rights_owners_times_kinds_and_names_of_any_bytes_as_they_were() {
    use std::os::unix::ffi::OsStrExt as _;
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can make a file immutable");
    }
    let device = Device::start();
    let mut bench = device.bench();
    let data = device.at("data");
    let latin = data.join(std::ffi::OsStr::from_bytes(b"latin\xe9"));
    for name in
        ["locked", "a", "attr", "gone", "#x", "was-file", "new\nline", "sub/one", "newdir/x", "was-dir/f", "deep/er/y"]
    {
        write(&data.join(name), &format!("{name} old"));
    }
    write(&latin, "old");
    std::os::unix::fs::symlink("a", data.join("to")).unwrap();
    std::fs::hard_link(data.join("a"), data.join("hard")).unwrap();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    let kept = state(&data);

    let immutable = |flag: &str| Command::new("chattr").arg(flag).arg(data.join("locked")).status().unwrap().success();
    for name in ["locked", "a"] {
        write(&data.join(name), &format!("{name} newer"));
    }
    chmod(&data.join("attr"), 0o600);
    chmod(&data.join("#x"), 0o640);
    std::os::unix::fs::chown(data.join("attr"), Some(1234), Some(1234)).unwrap();
    chmod(&data.join("sub"), 0o700);
    for name in ["gone", "new\nline", "to", "was-file"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    std::fs::remove_file(&latin).unwrap();
    std::os::unix::fs::symlink("attr", data.join("to")).unwrap();
    for name in ["newdir", "was-dir", "deep"] {
        std::fs::remove_dir_all(data.join(name)).unwrap();
    }
    write(&data.join("was-file/inside"), "live");
    std::fs::create_dir(data.join("was-file/empty")).unwrap();
    write(&data.join("was-dir"), "live");
    write(&data.join("only-live"), "live");
    // In the past, so that no time is the same by chance.
    assert!(
        Command::new("find")
            .arg(&data)
            .args(["-exec", "touch", "-h", "-d", "2024-05-06 07:08:09", "{}", "+"])
            .status()
            .unwrap()
            .success()
    );
    if !immutable("+i") {
        return skip(Lack::Immutable, "this file system knows no immutable files");
    }
    let live = state(&data);
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert!(plan.steps[0].detail.contains("was-file/"), "{:?}", plan.steps);
    for _ in 0..2 {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
        assert_eq!(failure.trouble.code, "files_unwritable", "{failure}\n{}", bench.log());
        assert_eq!(state(&data), live, "{failure}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
    assert!(immutable("-i"));
    bench.run = RunId::generate(jiff::Timestamp::now());
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{restored:#?}");
    let mut now = state(&data);
    now.retain(|path, _| {
        !path.to_string_lossy().contains(".larder-before-") && path != Path::new("only-live") && path != Path::new("")
    });
    let mut wanted = kept;
    wanted.remove(Path::new(""));
    assert_eq!(now, wanted);
}

#[test]
fn a_file_of_the_same_size_and_time_gets_its_content_back_and_what_has_holes_keeps_them() {
    use std::os::unix::fs::MetadataExt as _;
    let device = Device::start();
    let mut bench = device.bench();
    let good = device.at("data/good");
    let old =
        || assert!(Command::new("touch").args(["-d", "2024-05-06 07:08:09"]).arg(&good).status().unwrap().success());
    write(&good, "GOOD CONTENT");
    old();
    let sparse = device.at("data/sparse");
    std::fs::File::create(&sparse).unwrap().set_len(20 << 20).unwrap();
    let captured = bench.capture_with(None).unwrap();
    let told = bench.validate_with(&captured, None).unwrap();
    let same = told.iter().find(|each| each.name == "rsync finds both sides the same").unwrap();
    assert!(same.detail.contains("by size and time"), "{same:?}");
    assert!(device.copied().join("sparse").metadata().unwrap().blocks() < 1000, "the copy has holes");
    lay_out(&bench, &device);
    write(&good, "EVIL CONTENT");
    old();
    std::fs::remove_file(&sparse).unwrap();
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert!(plan.steps[0].detail.starts_with("2 of "), "{:?}", plan.steps);
    bench.run = RunId::generate(jiff::Timestamp::now());
    let restored = bench.restore_app(&captured, json!({}), false).unwrap();
    assert_eq!(std::fs::read_to_string(&good).unwrap(), "GOOD CONTENT", "{restored:#?}");
    assert!(restored.validations[0].detail.contains("by their content"), "{restored:#?}");
    assert!(sparse.metadata().unwrap().blocks() < 1000, "the restored file has holes");
}
