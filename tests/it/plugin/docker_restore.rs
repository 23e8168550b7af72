//! Restores of the plugin `docker` on a real engine: exactly what the backup has, all of it or nothing, and nothing
//! written to what it does not name.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::docker::{Project, docker, fresh, server};
use super::support::podman::{Gate, POLITE, Podman, Spoil};
use super::*;
use larder::plugin::{Call, CaptureFacts, CaptureInputs, RestoreOrder, Restored};

/// Puts back as the daemon does, with a journal; kills the plugin when `held` is asked for once more than `pass` times.
pub(super) fn killed_at(
    bench: &Bench,
    gate: &Gate,
    captured: &Captured,
    held: &str,
    pass: usize,
    podman_sees: &dyn Fn(),
) {
    gate.hold(held, pass);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| restore(bench, captured, json!({"overwrite": true})));
        gate.wait();
        podman_sees();
        let pid = super::docker_kill::plugin_in(&bench.staging());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(running.join().unwrap().unwrap_err().trouble.code, "plugin_killed");
    });
    gate.release();
    bench.put_right();
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0, "the journal is empty");
}

/// Puts back as the daemon does, and kills the plugin when a program is run in a container once more than `pass` times;
/// answers whether it came to its end before.
pub(super) fn killed_or_ended(bench: &Bench, gate: &Gate, captured: &Captured, pass: usize) -> bool {
    gate.hold("/exec HTTP", pass);
    let finished = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let done = restore(bench, captured, json!({"overwrite": true}));
            finished.store(true, std::sync::atomic::Ordering::SeqCst);
            done
        });
        support::wait_for("the held program or the end", Duration::from_secs(120), || {
            (gate.arrived() || finished.load(std::sync::atomic::Ordering::SeqCst)).then_some(())
        });
        if gate.arrived() {
            let pid = super::docker_kill::plugin_in(&bench.staging());
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        running.join().unwrap().is_ok()
    });
    gate.release();
    recovered(bench, &format!("killed at {pass}"));
    ended
}

/// Puts right what a killed plugin left, as the daemon does.
pub(super) fn recovered(bench: &Bench, what: &str) {
    bench.recover_app().unwrap_or_else(|failure| panic!("{what}: {failure}\n{}", bench.log()));
    let left: Vec<_> = std::fs::read_dir(bench.journal()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{what}: the journal is not empty: {left:?}");
}

pub(super) fn restore(bench: &Bench, captured: &Captured, options: Value) -> Result<Restored, PluginFailure> {
    let facts = CaptureFacts { artifacts: captured.artifacts.clone(), ..CaptureFacts::default() };
    let order = RestoreOrder { dry_run: false, tree: PathBuf::from("/nowhere"), options };
    let inputs = CaptureInputs { journal: Some(bench.journal()), ..CaptureInputs::default() };
    let (staging, context, run) = (bench.staging(), bench.context(), bench.run);
    let (target, limits) = (&bench.target, bench.limits);
    runtime().block_on(bench.catalogue.restore(
        &Call { target, run, staging: &staging, inputs: &inputs, context: &context, limits },
        facts,
        order,
        |_| {},
    ))
}

/// A dry run tells exactly these refusals.
fn told_dry(bench: &Bench, captured: &Captured, codes: &[&str], options: Value) {
    let planned = bench.restore_docker(captured, true, options).unwrap_or_else(|failure| panic!("{failure}"));
    let told: Vec<&str> = planned.warnings.iter().map(|trouble| trouble.code.as_str()).collect();
    assert_eq!(told, codes, "{planned:#?}");
}

pub(super) fn restored(bench: &Bench, captured: &Captured) -> Restored {
    let done = restore(bench, captured, json!({"overwrite": true}));
    let done = done.unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    assert_eq!(verdict(&done.validations), Verdict::Proven, "{done:#?}");
    assert_eq!(std::fs::read_dir(bench.journal()).unwrap().count(), 0, "the journal is empty");
    done
}

#[test]
fn a_volume_is_exactly_what_it_was_with_its_own_owner_attributes_and_names_of_any_bytes() {
    let Some(podman) = Podman::shared() else { return };
    let gate = Gate::before(&podman.socket());
    for socket in [podman.socket(), gate.socket()] {
        let name = fresh("exact");
        podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
        let volume = podman.volume(&name);
        let latin = volume.join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt"));
        let long = volume.join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&long).unwrap();
        for (path, text) in [(&latin, "latin"), (&volume.join("two\nlines"), "newline"), (&long.join("deep"), "deep")] {
            std::fs::write(path, text).unwrap();
        }
        std::fs::write(volume.join("app.db"), "the database").unwrap();
        std::fs::File::create(volume.join("disk.img")).unwrap().set_len(64 << 20).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(volume.join("app.db"), "user.colour", b"blue", flags).unwrap();
        std::os::unix::fs::chown(volume.join("app.db"), Some(1000), Some(1000)).unwrap();
        std::os::unix::fs::chown(&volume, Some(1000), Some(1000)).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o700)).unwrap();
        let bench = docker(&socket, json!({"containers": [name], "stop_timeout": 2}));
        let captured = bench.kept();

        // What a killed application left beside its database would be read into the restored one.
        std::fs::write(volume.join("app.db"), "another one").unwrap();
        std::fs::write(volume.join("app.db-wal"), "stale").unwrap();
        for gone in [&latin, &volume.join("two\nlines"), &long.join("deep")] {
            std::fs::remove_file(gone).unwrap();
        }
        std::os::unix::fs::chown(&volume, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o755)).unwrap();
        let done = restored(&bench, &captured);
        assert!(!volume.join("app.db-wal").exists(), "{done:#?}");
        assert_eq!(std::fs::read_to_string(&latin).unwrap(), "latin");
        let disk = std::fs::metadata(volume.join("disk.img")).unwrap();
        assert_eq!((disk.len(), disk.blocks()), (64 << 20, 0), "it is one hole");
        assert_eq!(std::fs::read_to_string(volume.join("two\nlines")).unwrap(), "newline");
        assert_eq!(std::fs::read_to_string(long.join("deep")).unwrap(), "deep");
        let own = std::fs::metadata(&volume).unwrap();
        // Through the gate it looks like Docker, but tells every file as its container's user's.
        let owner = if socket == podman.socket() { 1000 } else { own.uid() };
        assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (owner, owner, 0o700), "{done:#?}");
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(volume.join("app.db"), "user.colour", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"blue");
        assert_eq!(podman.state(&name), "running");
        assert_eq!(podman.exec(&name, "cat /data/app.db"), "the database", "the application sees it");
        let kept = volume.with_file_name(format!("_data.before-{}", bench.run.to_string().to_lowercase()));
        assert_eq!(std::fs::read_to_string(kept.join("app.db-wal")).unwrap(), "stale", "it is kept beside");
    }
}

#[test]
fn a_volume_that_a_paused_container_has_open_is_not_replaced() {
    let Some(podman) = Podman::shared() else { return };
    let name = fresh("paused");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    podman.exec(&name, "echo one > /data/a");
    let bench = docker(&podman.socket(), json!({"containers": [name], "stop_timeout": 2}));
    let captured = bench.kept();
    podman.exec(&name, "echo two > /data/a");
    podman.podman(&["pause", &name]);
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "container_paused", "{failure}");
    // A dry run tells it, too, and what else stands against it, at once.
    let tar = bench.staging().join(format!("volumes/{name}.tar"));
    let whole = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &whole[..700]).unwrap();
    told_dry(&bench, &captured, &["volume_not_empty", "container_paused", "archive_damaged"], json!({}));
    std::fs::write(&tar, &whole).unwrap();
    told_dry(&bench, &captured, &["container_paused"], json!({"overwrite": true}));
    assert_eq!(std::fs::read_to_string(podman.volume(&name).join("a")).unwrap(), "two\n");
    podman.podman(&["unpause", &name]);
    restored(&bench, &captured);
    assert_eq!(podman.exec(&name, "cat /data/a"), "one");
}

#[test]
fn what_other_mounts_cover_is_never_written_through() {
    let Some(podman) = Podman::shared() else { return };
    let gate = Gate::before(&podman.socket());
    for socket in [podman.socket(), gate.socket()] {
        let (name, media) = (fresh("cfg"), tempfile::tempdir().unwrap());
        std::fs::write(media.path().join("film"), "as backed up").unwrap();
        let binds = [
            format!("{name}_cfg:/config"),
            format!("{name}_up:/config/uploads"),
            format!("{}:/config/media", media.path().display()),
        ];
        let args: Vec<&str> = binds.iter().flat_map(|bind| ["-v", bind.as_str()]).collect();
        podman.start_container(&name, &args, "localtest:1", POLITE);
        podman.exec(&name, "echo one > /config/app.ini && echo pic > /config/uploads/pic");
        let settings =
            json!({"containers": [name], "exclude": [format!("{name}_up")], "binds": "none", "stop_timeout": 2});
        let bench = docker(&socket, settings);
        let captured = bench.kept();
        podman.exec(&name, "echo two > /config/app.ini && echo newer > /config/uploads/pic");
        std::fs::write(media.path().join("film"), "as it is now").unwrap();
        restored(&bench, &captured);
        assert_eq!(podman.exec(&name, "cat /config/app.ini"), "one");
        assert_eq!(podman.exec(&name, "cat /config/uploads/pic"), "newer");
        assert_eq!(podman.exec(&name, "cat /config/media/film"), "as it is now");
        assert_eq!(std::fs::read_to_string(media.path().join("film")).unwrap(), "as it is now");
        assert!(!podman.volume(&format!("{name}_cfg")).join("media/film").exists(), "nothing hides below the mount");
    }
}

#[test]
fn a_sidecar_that_may_only_read_is_not_asked_to_write_and_an_anonymous_volume_is_found_again() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    // Its name comes before the others.
    let sidecar = format!("{}-a-1", project.name);
    podman.start_container(&sidecar, &["-v", &format!("{}_data:/data:ro", project.name)], "localtest:1", POLITE);
    project.container(&podman, "cache", "", &["-v", "/anonymous"], POLITE);
    podman.exec(&project.of("cache"), "echo kept > /anonymous/x");
    let bench = docker(&podman.socket(), json!({"project": project.name, "stop_timeout": 2}));
    let captured = bench.kept();
    podman.podman(&["rm", "-f", "-v", "-t", "0", &project.of("cache")]);
    project.container(&podman, "cache", "", &["-v", "/anonymous"], POLITE);
    podman.exec(&project.of("cache"), "echo other > /anonymous/x; echo more > /anonymous/y");
    podman.exec(&project.of("app"), "echo changed > /data/d/f");
    let done = restored(&bench, &captured);
    assert_eq!(podman.exec(&project.of("cache"), "cat /anonymous/x; ls /anonymous"), "kept\nx", "{done:#?}");
    assert_eq!(podman.exec(&sidecar, "cat /data/d/f"), "hello");
    assert_eq!(podman.state(&sidecar), "running", "who mounts it too is stopped meanwhile, and works again");
}

#[test]
fn where_only_the_engine_reaches_a_volume_it_is_put_back_through_it_and_what_cannot_be_kept_is_said() {
    let Some(podman) = Podman::shared() else { return };
    let (name, media) = (fresh("far"), tempfile::tempdir().unwrap());
    let binds = [format!("{name}:/srv/config"), format!("{}:/srv/config/media", media.path().display())];
    let reader = format!("a{name}");
    podman.start_container(&reader, &["-v", &format!("{name}:/srv/config:ro")], "localtest:1", POLITE);
    let args: Vec<&str> = binds.iter().flat_map(|bind| ["-v", bind.as_str()]).collect();
    podman.start_container(&name, &args, "localtest:1", POLITE);
    podman.exec(&name, "echo one > /srv/config/app.db && echo x > /srv/config/media/x && chmod 700 /srv/config");
    let gate = Gate::before(&podman.socket());
    // Who answers so may have its volumes on another host.
    gate.spoil("HEAD /", Spoil::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    let settings = json!({"containers": [name], "binds": "none", "stop_timeout": 2});
    let bench = docker(&gate.socket(), settings);
    let captured = bench.kept();
    podman.exec(
        &name,
        "echo two > /srv/config/app.db && echo stale > /srv/config/app.db-wal && echo more > /srv/config/more && \
         echo live > /srv/config/media/x && chmod 755 /srv/config",
    );
    let done = restore(&bench, &captured, json!({"overwrite": true}));
    let done = done.unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    assert_eq!(podman.exec(&name, "cat /srv/config/app.db /srv/config/app.db-wal"), "one", "an empty log is none");
    assert_eq!(podman.exec(&name, "cat /srv/config/media/x"), "live");
    assert_eq!(std::fs::metadata(podman.volume(&name)).unwrap().mode() & 0o7777, 0o700, "{done:#?}");
    let others = done.validations.iter().find(|each| each.name.ends_with("has nothing else")).unwrap();
    assert_eq!((others.verdict, others.detail.contains("more")), (Verdict::CouldNotVerify, true), "{done:#?}");
    assert!(!done.validations.iter().any(|each| each.verdict == Verdict::Failed), "{done:#?}");

    // Killed in between: the copy of what was there comes back.
    podman.exec(&name, "echo live > /srv/config/app.db");
    let mut bench = bench;
    bench.run = RunId::generate(jiff::Timestamp::now());
    killed_at(&bench, &gate, &captured, "PUT /", 1, &|| {});
    assert_eq!(podman.exec(&name, "cat /srv/config/app.db; cat /srv/config/media/x"), "live\nlive");
    assert_eq!(podman.state(&name), "running");

    // The data of a server is never mixed.
    podman.exec(&name, "echo 15 > /srv/config/PG_VERSION && rm /srv/config/app.db-wal /srv/config/more");
    bench.again();
    let captured = bench.kept();
    podman.exec(&name, "echo newer > /srv/config/segment; echo changed > /srv/config/app.db");
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "extra_files", "{failure}");
    assert_eq!(podman.exec(&name, "cat /srv/config/app.db"), "changed");
    assert_eq!(podman.state(&name), "running");

    // Nobody may write: that is said before anything stands still.
    podman.podman(&["rm", "-f", "-t", "0", &name]);
    bench.target.settings["containers"] = json!([reader]);
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "volume_read_only", "{failure}");
    told_dry(&bench, &captured, &["volume_read_only"], json!({"overwrite": true}));
    assert_eq!(podman.state(&reader), "running");
}

#[test]
fn when_one_part_cannot_be_put_back_every_other_one_is_what_it_was() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let bench = docker(&podman.socket(), json!({"project": project.name, "stop_timeout": 2}));
    let captured = bench.kept();
    podman.exec(&project.of("app"), "echo live > /data/d/f");
    std::fs::write(project.home.path().join("conf/app.ini"), "colour = live\n").unwrap();
    let unchanged = |what: &str| {
        assert_eq!(podman.exec(&project.of("app"), "cat /data/d/f"), "live", "{what}");
        assert_eq!(
            std::fs::read_to_string(project.home.path().join("conf/app.ini")).unwrap(),
            "colour = live\n",
            "{what}"
        );
        assert_eq!(project.states(&podman), ["running", "running"], "{what}");
        let beside =
            std::fs::read_dir(podman.volume(&format!("{}_data", project.name)).parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "{what}: nothing is left beside the volume");
    };
    // An archive that is not the captured one is refused before anything stands still.
    let tar = bench.staging().join(format!("volumes/{}_data.tar", project.name));
    let whole = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "archive_damaged", "{failure}");
    assert!(!bench.log().contains("stopping"), "{}", bench.log());
    unchanged("a damaged archive");
    std::fs::write(&tar, whole).unwrap();
    // What cannot be written is seen before, too.
    let file = project.home.path().join("compose.yaml");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "unwritable", "{failure}");
    unchanged("a file that cannot be written");
    std::fs::remove_dir(&file).unwrap();
    let failure = restore(&bench, &captured, json!({"only": ["nothing-like-it"]})).unwrap_err();
    assert_eq!(failure.trouble.code, "restore_options", "{failure}");
    restored(&bench, &captured);
    assert_eq!(podman.exec(&project.of("app"), "cat /data/d/f"), "hello");
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_and_everything_working() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let gate = Gate::before(&podman.socket());
    let mut bench = docker(&gate.socket(), json!({"project": project.name, "stop_timeout": 2}));
    let captured = bench.kept();
    let read = || {
        let conf = std::fs::read_to_string(project.home.path().join("conf/app.ini")).unwrap();
        (podman.exec(&project.of("app"), "cat /data/d/f"), conf)
    };
    for (held, pass, wanted) in
        [("/stop", 0, "live"), ("/stop", 1, "live"), ("/start", 0, "hello"), ("/start", 1, "hello")]
    {
        podman.exec(&project.of("app"), "echo live > /data/d/f; echo stale > /data/stale");
        std::fs::write(project.home.path().join("conf/app.ini"), "live").unwrap();
        bench.run = RunId::generate(jiff::Timestamp::now());
        killed_at(&bench, &gate, &captured, held, pass, &|| {});
        assert_eq!(project.states(&podman), ["running", "running"], "{held} {pass}");
        let conf = if wanted == "live" { "live" } else { "colour = blue\n" };
        assert_eq!(read(), (wanted.to_owned(), conf.to_owned()), "{held} {pass}");
    }
}

/// A PostgreSQL in a container whose file system is read-only, with a database whose functions look where it looks.
fn shop(podman: &Podman) -> Option<String> {
    if !Path::new("/usr/lib/postgresql/15/bin/initdb").exists() {
        skip(Lack::Package, "the image has PostgreSQL 15 only where the host has it");
        return None;
    }
    let name = fresh("pgro");
    let data = format!("{name}:/var/lib/postgresql/data");
    let script = "[ -e $PGDATA/PG_VERSION ] || initdb -D $PGDATA -U postgres --no-sync; \
                  exec postgres -D $PGDATA -c listen_addresses= -c fsync=off";
    let socket = format!("{name}_run:/run/postgresql");
    let env = ["-e", "PGDATA=/var/lib/postgresql/data", "-v", &data, "-v", &socket];
    let args: Vec<&str> = env.into_iter().chain(["--read-only", "--read-only-tmpfs=false"]).collect();
    server(podman, &name, &args, "postgres:15", script);
    support::wait_for("PostgreSQL", Duration::from_secs(60), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sql(podman, &name, "template1", "SELECT 1"))).ok()
    });
    sql(podman, &name, "template1", "CREATE DATABASE shop");
    sql(podman, &name, "template1", "ALTER DATABASE shop SET work_mem TO '7MB'");
    sql(podman, &name, "shop", "CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)'");
    sql(podman, &name, "shop", "CREATE FUNCTION slug(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT norm(t)'");
    sql(podman, &name, "shop", "CREATE TABLE item (name text, slug text GENERATED ALWAYS AS (slug(name)) STORED)");
    sql(podman, &name, "shop", "INSERT INTO item SELECT 'Item ' || n FROM generate_series(1, 500) n");
    Some(name)
}

pub(super) fn sql(podman: &Podman, name: &str, database: &str, sql: &str) -> String {
    podman.exec(name, &format!("psql -X -A -t -q -U postgres -d {database} -v ON_ERROR_STOP=1 -c \"{sql}\""))
}

fn databases(podman: &Podman, name: &str) -> String {
    sql(
        podman,
        name,
        "template1",
        "SELECT string_agg(datname || datallowconn, ',' ORDER BY datname) FROM pg_database WHERE NOT datistemplate",
    )
}

#[test]
fn a_restore_that_fails_beside_volumes_leaves_no_copy_in_the_server() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/lib/postgresql/15/bin/initdb").exists() {
        return skip(Lack::Package, "the image has PostgreSQL 15 only where the host has it");
    }
    let name = fresh("pgcopy");
    let script = "[ -e $PGDATA/PG_VERSION ] || initdb -D $PGDATA -U postgres --no-sync; \
                  exec postgres -D $PGDATA -c listen_addresses= -c fsync=off";
    let (data, files) = (format!("{name}:/var/lib/postgresql/data"), format!("{name}_files:/data"));
    server(
        &podman,
        &name,
        &["-e", "PGDATA=/var/lib/postgresql/data", "-v", &data, "-v", &files],
        "postgres:15",
        script,
    );
    support::wait_for("PostgreSQL", Duration::from_secs(60), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sql(&podman, &name, "template1", "SELECT 1"))).ok()
    });
    sql(&podman, &name, "template1", "CREATE DATABASE shop");
    // Loading it writes what the backup does not have, so the comparison fails.
    sql(&podman, &name, "shop", "CREATE TABLE audit (x int)");
    let check =
        "CREATE FUNCTION seen(i int) RETURNS bool LANGUAGE sql AS 'INSERT INTO public.audit VALUES (1); SELECT true'";
    sql(&podman, &name, "shop", check);
    sql(&podman, &name, "shop", "CREATE TABLE z (i int CHECK (seen(i)))");
    sql(&podman, &name, "shop", "INSERT INTO z VALUES (1), (2)");
    podman.exec(&name, "echo one > /data/f");
    let mut bench = docker(&podman.socket(), json!({"containers": [name], "stop_timeout": 5}));
    let captured = bench.kept();
    podman.exec(&name, "echo two > /data/f");
    for _ in 0..2 {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
        assert_eq!(failure.trouble.code, "load_differs", "{failure}");
        support::wait_for("PostgreSQL", Duration::from_secs(60), || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sql(&podman, &name, "template1", "SELECT 1"))).ok()
        });
        assert_eq!(databases(&podman, &name), "postgrestrue,shoptrue", "{}", bench.log());
        assert_eq!((podman.exec(&name, "cat /data/f").as_str(), podman.state(&name).as_str()), ("two", "running"));
        assert_eq!(sql(&podman, &name, "shop", "SELECT count(*) FROM z"), "2");
    }
}

#[test]
fn a_database_in_a_container_is_replaced_only_by_one_that_is_loaded_and_compared() {
    let Some(podman) = Podman::shared() else { return };
    let Some(name) = shop(&podman) else { return };
    let gate = Gate::before(&podman.socket());
    let settings = json!({"containers": [name], "exclude": [format!("{name}_run")], "stop_timeout": 2});
    let mut bench = docker(&gate.socket(), settings);
    let captured = bench.kept();
    let count = || sql(&podman, &name, "shop", "SELECT count(*) FROM item");
    let only_own = "postgrestrue,shoptrue";

    // A function of it is found by the database's search_path only, and the container's file system is read-only.
    sql(&podman, &name, "shop", "DELETE FROM item WHERE name > 'Item 2'");
    let live = count();
    assert_ne!(live, "500");
    restored(&bench, &captured);
    assert_eq!((count().as_str(), databases(&podman, &name).as_str()), ("500", only_own));
    assert_eq!(sql(&podman, &name, "shop", "SHOW work_mem"), "7MB", "what is said of the database itself came too");
    assert_eq!(sql(&podman, &name, "shop", "SELECT slug FROM item WHERE name = 'Item 7'"), "item 7");

    // Whatever fails, the live one is what it was.
    sql(&podman, &name, "shop", "DELETE FROM item WHERE name > 'Item 2'");
    let dump = bench.staging().join(format!("dumps/{name}/shop.dump"));
    let whole = std::fs::read(&dump).unwrap();
    std::fs::write(&dump, &whole[..whole.len() - 3_000]).unwrap();
    let failure = restore(&bench, &captured, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "load_failed", "{failure}");
    assert_eq!((count(), databases(&podman, &name).as_str()), (live.clone(), only_own), "a damaged dump");
    std::fs::write(&dump, whole).unwrap();

    // Killed at each program that is run in the container: the old one, and nothing beside it.
    for pass in [2, 6, 9, 12, 14, 16, 18] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        killed_or_ended(&bench, &gate, &captured, pass);
        assert_eq!(databases(&podman, &name), only_own, "killed at {pass}");
        let now = count();
        assert!(now == live || now == "500", "killed at {pass}: {now} rows\n{}", bench.log());
        sql(&podman, &name, "shop", "DELETE FROM item WHERE name > 'Item 2'");
    }
}
