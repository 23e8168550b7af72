//! The plugin `docker` on a real engine: what is kept comes back, what is stopped works again, what goes wrong is told.

use super::support::podman::{POLITE, Podman};
use super::*;
use larder::plugin::{CaptureFacts, CaptureInputs, RestoreOrder, Restored};

/// A name that no other test has.
pub(super) fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", ulid::Ulid::new().to_string().to_lowercase())
}

pub(super) fn docker(socket: &Path, settings: Value) -> Bench {
    let mut bench = Bench::new("docker", settings);
    bench.target.settings["socket"] = json!(socket);
    bench.limits.deadline = Duration::from_secs(180);
    bench
}

impl Bench {
    pub(super) fn capture_docker(&self) -> Result<Captured, PluginFailure> {
        let captured = self.capture_unlooked();
        let left: Vec<_> = std::fs::read_dir(self.journal()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "the journal is not empty: {left:?}\n{captured:?}\n{}", self.log());
        captured
    }

    pub(super) fn capture_unlooked(&self) -> Result<Captured, PluginFailure> {
        let inputs = CaptureInputs { journal: Some(self.journal()), ..CaptureInputs::default() };
        let (staging, context) = (self.staging(), self.context());
        let call = self.call(&staging, &inputs, &context);
        let work = self.catalogue.capture(&call, |_, _| {});
        runtime().block_on(work)
    }

    pub(super) fn kept(&self) -> Captured {
        self.capture_docker().unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()))
    }

    pub(super) fn proven_docker(&self) -> Captured {
        let captured = self.kept();
        let validations = self.validate(&captured).unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()));
        assert!(!validations.is_empty() && verdict(&validations) == Verdict::Proven, "{validations:#?}");
        captured
    }

    pub(super) fn refused_docker(&self, code: &str) -> PluginFailure {
        let failure = self.capture_docker().expect_err("the capture should fail");
        assert_eq!(failure.trouble.code, code, "{failure}\n{}", self.log());
        failure
    }

    pub(super) fn restore_docker(
        &self,
        captured: &Captured,
        dry_run: bool,
        options: Value,
    ) -> Result<Restored, PluginFailure> {
        let facts = CaptureFacts { artifacts: captured.artifacts.clone(), ..CaptureFacts::default() };
        let order = RestoreOrder { dry_run, tree: PathBuf::from("/nowhere"), options };
        let (staging, context) = (self.staging(), self.context());
        runtime().block_on(self.catalogue.restore(
            &self.call(&staging, &CaptureInputs::default(), &context),
            facts,
            order,
            |_| {},
        ))
    }
}

/// A compose project as compose labels one: `web` needs `app`; both mount `data`, `web` a directory of the host too.
pub(super) struct Project {
    pub(super) name: String,
    pub(super) home: tempfile::TempDir,
}

impl Project {
    pub(super) fn start(podman: &Podman, script: &str) -> Self {
        let name = fresh("p");
        let home = tempfile::Builder::new().prefix("larder-compose-").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(home.path().join("conf")).unwrap();
        std::fs::write(home.path().join("conf/app.ini"), "colour = blue\n").unwrap();
        std::fs::write(home.path().join("compose.yaml"), "services: {app: {image: localtest:1}}\n").unwrap();
        std::fs::write(home.path().join(".env"), "TOKEN=env-hunter2\n").unwrap();
        let project = Self { name, home };
        project.container(podman, "app", "", &[], script);
        let bind = format!("{}:/conf", project.home.path().join("conf").display());
        project.container(podman, "web", "app:service_started:false", &["-v", &bind], script);
        podman.exec(
            &project.of("app"),
            "mkdir -p /data/d && echo hello > /data/d/f && ln -s f /data/d/l && ln /data/d/f /data/d/h && \
             dd if=/dev/zero of=/data/big bs=1000 count=3001 && echo x > '/data/sp ace ü' && chmod 640 /data/d/f && chown 1234:2345 /data/d/f",
        );
        project
    }

    pub(super) fn container(&self, podman: &Podman, service: &str, needs: &str, more: &[&str], script: &str) {
        let dir = self.home.path().display();
        let labels = [
            format!("com.docker.compose.project={}", self.name),
            format!("com.docker.compose.service={service}"),
            format!("com.docker.compose.depends_on={needs}"),
            format!("com.docker.compose.project.working_dir={dir}"),
            format!("com.docker.compose.project.config_files={dir}/compose.yaml,{dir}/gone.yaml"),
        ];
        let volume = format!("{}_data:/data", self.name);
        let mut args = vec!["-v", volume.as_str(), "-e", "TOKEN=hunter2-token"];
        for label in &labels {
            args.extend(["--label", label]);
        }
        args.extend(more);
        podman.start_container(&self.of(service), &args, "localtest:1", script);
    }

    pub(super) fn of(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    pub(super) fn states(&self, podman: &Podman) -> Vec<String> {
        ["app", "web"].iter().map(|service| podman.state(&self.of(service))).collect()
    }
}

pub(super) fn artifacts(captured: &Captured) -> Vec<String> {
    let mut all: Vec<String> = captured.artifacts.iter().map(|each| each.path.display().to_string()).collect();
    all.sort();
    all
}

#[test]
fn a_project_is_kept_whole_while_it_works() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let bench = docker(&podman.socket(), json!({"project": project.name}));
    let captured = bench.proven_docker();
    let all = artifacts(&captured);
    let of = |service: &str| format!("containers/{}.json", project.of(service));
    for wanted in [of("app"), of("web"), "inventory.json".to_owned(), format!("volumes/{}_data.tar", project.name)] {
        assert!(all.contains(&wanted), "{wanted} is not in {all:#?}");
    }
    assert_eq!(
        all.iter().filter(|each| each.starts_with("binds/") && each.ends_with("conf.tar")).count(),
        1,
        "{all:?}"
    );
    assert_eq!(all.iter().filter(|each| each.starts_with("files/")).count(), 2, "{all:?}");
    assert_eq!((captured.figures["containers"], captured.figures["volumes"], captured.figures["files"]), (2, 2, 6));
    assert!(captured.app_version.as_deref().unwrap().starts_with("Podman "));
    assert!(captured.warnings.iter().any(|warning| warning.code == "compose_file_unreadable"), "{captured:?}");
    // The environment is in the artifact and nowhere else.
    let record = std::fs::read_to_string(bench.staging().join(of("web"))).unwrap();
    assert!(record.contains("TOKEN=hunter2-token") && record.contains("restart_policy"), "{record}");
    assert!(!bench.log().contains("hunter2"), "{}", bench.log());
    assert_eq!(project.states(&podman), ["running", "running"]);

    let without = docker(&podman.socket(), json!({"project": project.name, "env": false}));
    let captured = without.proven_docker();
    for artifact in &captured.artifacts {
        let bytes = std::fs::read(without.staging().join(&artifact.path)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", artifact.path.display());
    }

    // A tar that was changed or cut is seen.
    let tar = without.staging().join(format!("volumes/{}_data.tar", project.name));
    let whole = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    let validations = without.validate(&captured).unwrap();
    let failed = validations.iter().filter(|each| each.verdict == Verdict::Failed).count();
    assert_eq!(failed, 2, "{validations:#?}");
}

#[test]
fn what_is_stopped_or_paused_for_the_capture_works_again_and_the_rest_is_left_alone() {
    let Some(podman) = Podman::shared() else { return };
    for (stop, quiet) in [("stop", "stopped"), ("pause", "paused")] {
        let project = Project::start(&podman, POLITE);
        project.container(&podman, "idle", "", &[], POLITE);
        project.container(&podman, "frozen", "", &[], POLITE);
        podman.podman(&["stop", "-t", "0", &project.of("idle")]);
        podman.podman(&["pause", &project.of("frozen")]);
        let bench = docker(&podman.socket(), json!({"project": project.name, "stop": stop, "stop_timeout": 5}));
        bench.proven_docker();
        assert_eq!(project.states(&podman), ["running", "running"]);
        assert_eq!(podman.state(&project.of("idle")), "exited");
        assert_eq!(podman.state(&project.of("frozen")), "paused");
        // What needs another stops before it and starts after it.
        let log = bench.log();
        let at = |what: &str, service: &str| {
            log.find(&format!("{what} {}", project.of(service))).unwrap_or_else(|| panic!("{what} {service}: {log}"))
        };
        let verb = if quiet == "paused" { "pausing" } else { "stopping" };
        assert!(at(verb, "web") < at(verb, "app") && at(verb, "app") < log.find("reading ").unwrap(), "{log}");
        if quiet == "stopped" {
            assert!(at("started", "app") < at("started", "web"), "{log}");
        }
        podman.podman(&["unpause", &project.of("frozen")]);
    }
}

#[test]
fn a_volume_comes_back_as_it_was() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let bench = docker(&podman.socket(), json!({"project": project.name, "stop": "stop", "stop_timeout": 5}));
    let captured = bench.proven_docker();
    let volume = podman.volume(&format!("{}_data", project.name));
    std::fs::write(project.home.path().join("compose.yaml"), "something else\n").unwrap();

    // Nothing is written over what is there, and a dry run says so.
    let told = bench.restore_docker(&captured, true, json!({})).unwrap();
    assert!(told.steps.iter().any(|step| step.detail.contains("refused without `overwrite`")), "{told:#?}");
    let failure = bench.restore_docker(&captured, false, json!({})).unwrap_err();
    assert_eq!(failure.trouble.code, "volume_not_empty", "{failure}");
    assert_eq!(std::fs::read_to_string(project.home.path().join("compose.yaml")).unwrap(), "something else\n");

    for entry in std::fs::read_dir(&volume).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    std::fs::remove_file(project.home.path().join("conf/app.ini")).unwrap();
    std::fs::remove_file(project.home.path().join(".env")).unwrap();
    let dry = bench.restore_docker(&captured, true, json!({})).unwrap();
    assert!(dry.steps.iter().any(|step| step.thing.contains("_data")), "{dry:#?}");
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0, "a dry run changes nothing");
    let done = bench.restore_docker(&captured, false, json!({})).unwrap_or_else(|f| panic!("{f}\n{}", bench.log()));
    assert_eq!(verdict(&done.validations), Verdict::Proven, "{done:#?}");
    assert_eq!(project.states(&podman), ["running", "running"]);
    assert_eq!(std::fs::read_to_string(volume.join("d/f")).unwrap(), "hello\n");
    assert_eq!(std::fs::read_link(volume.join("d/l")).unwrap(), Path::new("f"));
    assert_eq!(std::fs::metadata(volume.join("big")).unwrap().len(), 3_001_000);
    let metadata = std::fs::metadata(volume.join("d/h")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&metadata), 2, "a hard link stays one");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o640);
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    assert_eq!(owner(&volume.join("d/f")), 1234);
    assert_eq!(std::fs::read_to_string(project.home.path().join("conf/app.ini")).unwrap(), "colour = blue\n");
    assert_eq!(std::fs::read_to_string(project.home.path().join(".env")).unwrap(), "TOKEN=env-hunter2\n");
    assert_eq!(std::fs::read_to_string(project.home.path().join("compose.yaml")).unwrap(), "something else\n");

    std::fs::write(volume.join("d/f"), "changed\n").unwrap();
    std::fs::write(volume.join("newer"), "goes aside\n").unwrap();
    let done = bench.restore_docker(&captured, false, json!({"overwrite": true})).unwrap();
    assert_eq!(verdict(&done.validations), Verdict::Proven, "{done:#?}");
    assert_eq!(std::fs::read_to_string(volume.join("d/f")).unwrap(), "hello\n");
    assert!(!volume.join("newer").exists(), "the volume is exactly what the backup has");
    let kept = volume.with_file_name(format!("_data.before-{}", bench.run.to_string().to_lowercase()));
    assert_eq!(std::fs::read_to_string(kept.join("newer")).unwrap(), "goes aside\n");
    assert_eq!(std::fs::read_to_string(kept.join("d/f")).unwrap(), "changed\n");
    let step = done.steps.iter().find(|step| step.thing.contains("_data")).unwrap();
    assert!(step.detail.contains(kept.to_str().unwrap()), "{done:#?}");
    assert!(std::fs::read_to_string(project.home.path().join("compose.yaml")).unwrap().contains("localtest"));
}

#[test]
fn where_the_containers_are_gone_the_restore_puts_the_files_back_and_says_what_to_type() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let bench = docker(&podman.socket(), json!({"project": project.name}));
    let captured = bench.proven_docker();
    podman.podman(&["rm", "-f", "-t", "0", &project.of("app"), &project.of("web")]);
    std::fs::remove_file(project.home.path().join("compose.yaml")).unwrap();
    let told = bench.restore_docker(&captured, false, json!({})).unwrap_or_else(|f| panic!("{f}\n{}", bench.log()));
    let by_hand = told.steps.iter().find(|step| step.detail.contains("docker compose")).unwrap();
    assert!(by_hand.detail.contains(&format!("-p {}", project.name)) && by_hand.detail.contains("up --no-start"));
    assert!(project.home.path().join("compose.yaml").exists());
    bench.refused_docker("container_missing");
}

#[test]
fn containers_and_volumes_are_named_too() {
    let Some(podman) = Podman::shared() else { return };
    let project = Project::start(&podman, POLITE);
    let volume = format!("{}_data", project.name);
    let captured = docker(&podman.socket(), json!({"containers": [project.of("app")]})).proven_docker();
    assert_eq!((captured.figures["containers"], captured.figures["volumes"]), (1, 1));
    let captured = docker(&podman.socket(), json!({ "volumes": [volume] })).proven_docker();
    assert_eq!((captured.figures["volumes"], captured.figures["files"]), (1, 5));
    let label = format!("com.docker.compose.project={}", project.name);
    let captured = docker(&podman.socket(), json!({ "label": label, "exclude": [volume] })).proven_docker();
    assert_eq!((captured.figures["containers"], captured.figures["volumes"]), (2, 1));
    // In place, nothing is copied.
    let captured = docker(&podman.socket(), json!({"volumes": [volume], "in_place": true})).proven_docker();
    assert_eq!(captured.sources.len(), 1);
    assert_eq!(captured.sources[0].path, podman.volume(&volume));
    // A volume that nobody mounts can't be had from the engine, but from this host.
    let lonely = fresh("v");
    podman.podman(&["volume", "create", &lonely]);
    docker(&podman.socket(), json!({ "volumes": [lonely] })).refused_docker("volume_empty");
    std::fs::write(podman.volume(&lonely).join("x"), "x").unwrap();
    assert_eq!(docker(&podman.socket(), json!({ "volumes": [lonely] })).proven_docker().sources.len(), 1);
}

#[test]
fn what_goes_wrong_is_told() {
    let Some(podman) = Podman::shared() else { return };
    let socket = podman.socket();
    let gone = docker(Path::new("/nowhere/docker.sock"), json!({"project": "x"})).refused_docker("engine_unreachable");
    assert!(gone.trouble.hint.unwrap().contains("socket"));
    docker(&socket, json!({"project": "never-made"})).refused_docker("container_missing");
    docker(&socket, json!({"containers": ["never-made"]})).refused_docker("container_missing");
    docker(&socket, json!({"volumes": ["never-made"]})).refused_docker("volume_missing");
    for settings in [json!({}), json!({"project": "a", "volumes": ["b"]}), json!({"containers": ["../x"]})] {
        docker(&socket, settings).refused_docker("settings");
    }
    docker(&socket, json!({"project": "a", "stop": "stop", "in_place": true})).refused_docker("settings");
    let name = fresh("empty");
    podman.start_container(&name, &["-v", &format!("{name}:/data")], "localtest:1", POLITE);
    let failure = docker(&socket, json!({"containers": [name]})).refused_docker("volume_empty");
    assert!(failure.trouble.hint.unwrap().contains("allow_empty"));
    docker(&socket, json!({"containers": [name], "allow_empty": true})).proven_docker();
    let bare = fresh("bare");
    podman.start_container(&bare, &[], "localtest:1", POLITE);
    docker(&socket, json!({"containers": [bare]})).refused_docker("nothing_to_keep");
}

/// A container with the host's programs, as nobody.
pub(super) fn server(podman: &Podman, name: &str, args: &[&str], image: &str, script: &str) {
    let path = "PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin:/bin";
    let mut all = vec!["-v", "/usr:/usr:ro", "--user", "65534", "-e", path];
    all.extend(args);
    podman.start_container(name, &all, image, script);
}

const PASSWORD: &str = "pä\"ss'wo$rd-4711";

#[test]
fn a_postgresql_in_a_container_is_dumped_by_its_own_client() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/lib/postgresql/15/bin/initdb").exists() {
        return skip(Lack::Package, "the image has PostgreSQL 15 only where the host has it");
    }
    let name = fresh("pg");
    let script = "printf %s \"$POSTGRES_PASSWORD\" > /tmp/pw && initdb -D $PGDATA -U app --auth=scram-sha-256 \
                  --pwfile=/tmp/pw --no-sync && exec postgres -D $PGDATA -c listen_addresses= -c fsync=off";
    let password = format!("POSTGRES_PASSWORD={PASSWORD}");
    let data = format!("{name}:/var/lib/postgresql/data");
    let env = ["-e", "PGDATA=/var/lib/postgresql/data", "-e", "POSTGRES_USER=app", "-e", &password, "-v", &data];
    server(&podman, &name, &env, "postgres:15", script);
    let psql = |sql: &str| {
        podman.exec(&name, &format!("PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -X -U app -d template1 -c \"{sql}\""))
    };
    support::wait_for("PostgreSQL", Duration::from_secs(60), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| psql("SELECT 1"))).ok()
    });
    psql("CREATE DATABASE shop");
    podman.exec(
        &name,
        "PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -X -U app -d shop -c \"CREATE TABLE t AS SELECT generate_series(1, 5000) n\"",
    );
    let in_shop = |sql: &str| {
        podman.exec(&name, &format!("PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -X -A -t -U app -d shop -c \"{sql}\""))
    };
    // It would be taken for the server's own.
    in_shop(
        "CREATE SEQUENCE sprung; CREATE FUNCTION public.convert_to(t text, e text) RETURNS bytea LANGUAGE plpgsql AS \
         'BEGIN PERFORM nextval(''public.sprung''); RETURN pg_catalog.convert_to(t, ''UTF8''); END'",
    );
    let bench = docker(&podman.socket(), json!({"containers": [name], "stop": "stop", "stop_timeout": 5}));
    let captured = bench.kept();
    assert_eq!(in_shop("SELECT is_called FROM sprung"), "f", "a capture runs nothing of the application");
    let wanted = format!("dumps/{name}/shop.dump");
    assert!(artifacts(&captured).contains(&wanted), "{:?}", artifacts(&captured));
    assert_eq!((captured.figures["dumps"], captured.figures["volumes"]), (3, 0), "its volume is left out");
    let validations = bench.validate(&captured).unwrap();
    let of_shop = validations.iter().find(|each| each.name.contains("the dump of shop")).unwrap();
    assert_eq!((of_shop.verdict, of_shop.detail.contains("1 tables")), (Verdict::Proven, true), "{validations:#?}");
    assert_eq!(verdict(&validations), Verdict::Proven, "{validations:#?}");
    assert!(!bench.log().contains(PASSWORD) && !bench.log().contains("stopping"), "{}", bench.log());
    let listed = std::process::Command::new("pg_restore").arg("--list").arg(bench.staging().join(&wanted)).output();
    assert!(String::from_utf8_lossy(&listed.unwrap().stdout).contains("TABLE DATA public t"));

    a_dump_is_loaded_again(&podman, &name, &psql);

    let both = docker(&podman.socket(), json!({"containers": [name], "database_volumes": true, "stop": "pause"}));
    assert_eq!(both.kept().figures["volumes"], 1);
    assert_eq!(podman.state(&name), "running");
    // A dump that fails leaves no file, and everything works.
    podman
        .exec(&name, "PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -X -U app -d shop -c \"ALTER ROLE app PASSWORD 'other'\"");
    let broken = docker(&podman.socket(), json!({"containers": [name]}));
    let failure = broken.refused_docker("dump_failed");
    assert!(failure.trouble.message.contains("password authentication failed"), "{failure}");
    assert!(!failure.to_string().contains(PASSWORD));
}

/// With an application beside the server that must not write meanwhile.
fn a_dump_is_loaded_again(podman: &Podman, name: &str, psql: &dyn Fn(&str) -> String) {
    let app = fresh("app");
    podman.start_container(&app, &[], "localtest:1", POLITE);
    let bench = docker(&podman.socket(), json!({"containers": [name, app], "stop_timeout": 5}));
    psql("CREATE ROLE keeper");
    let captured = bench.kept();
    let in_shop = |sql: &str| {
        podman.exec(name, &format!("PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -X -A -t -U app -d shop -c \"{sql}\""))
    };
    in_shop("DELETE FROM t WHERE n > 10");
    let failure = bench.restore_docker(&captured, false, json!({})).unwrap_err();
    assert_eq!(failure.trouble.code, "database_not_empty", "{failure}");
    assert!(failure.trouble.message.contains(&format!("shop in {name}")), "{failure}");
    let dry = bench.restore_docker(&captured, true, json!({"overwrite": true})).unwrap();
    let step = dry.steps.iter().find(|step| step.thing == format!("database shop in {name}")).unwrap();
    assert!(step.detail.contains("takes its place"), "{dry:#?}");
    assert_eq!(in_shop("SELECT count(*) FROM t"), "10", "neither changed anything");

    let proven = |options: Value| {
        let done = bench.restore_docker(&captured, false, options).unwrap_or_else(|f| panic!("{f}\n{}", bench.log()));
        let of_shop = done.validations.iter().find(|each| each.name.contains("shop")).unwrap();
        assert_eq!((of_shop.verdict, of_shop.detail.contains("5000 rows")), (Verdict::Proven, true), "{done:#?}");
        assert_eq!(verdict(&done.validations), Verdict::Proven, "{done:#?}");
        assert_eq!(in_shop("SELECT sum(n) FROM t"), "12502500");
        assert!(!podman.exec(name, "ls /tmp").contains("larder"));
        assert_eq!((podman.state(&app), podman.state(name)), ("running".to_owned(), "running".to_owned()));
    };
    proven(json!({"overwrite": true}));
    let log = bench.log();
    assert!(log.contains(&format!("stopping {app}")) && !log.contains(&format!("stopping {name}")), "{log}");
    assert!(!log.contains(PASSWORD));
    // As on a fresh server: neither the database nor its role is there.
    psql("DROP DATABASE shop");
    psql("DROP ROLE keeper");
    proven(json!({}));
    assert!(psql("SELECT rolname FROM pg_roles").contains("keeper"));

    // Whoever changes a dump on its way gets no proven restore.
    let dump = bench.staging().join(format!("dumps/{name}/shop.dump"));
    let whole = std::fs::read(&dump).unwrap();
    std::fs::write(&dump, &whole[..whole.len() - 2_000]).unwrap();
    let failure = bench.restore_docker(&captured, false, json!({"overwrite": true})).unwrap_err();
    assert_eq!(failure.trouble.code, "load_failed", "{failure}");
    assert_eq!((podman.state(&app).as_str(), in_shop("SELECT sum(n) FROM t").as_str()), ("running", "12502500"));
    assert!(!podman.exec(name, "ls /tmp").contains("larder"));
    std::fs::write(&dump, &whole).unwrap();
    proven(json!({"overwrite": true}));
    podman.podman(&["rm", "-f", "-t", "0", &app]);
}

#[test]
fn a_redis_in_a_container_is_dumped_by_its_own_client() {
    let Some(podman) = Podman::shared() else { return };
    if !Path::new("/usr/bin/redis-server").exists() {
        return skip(Lack::Package, "the image has Redis only where the host has it");
    }
    let name = fresh("redis");
    let password = format!("REDIS_PASSWORD={PASSWORD}");
    let script = "exec redis-server --dir /data --save '' --requirepass \"$REDIS_PASSWORD\"";
    server(&podman, &name, &["-e", &password, "-v", &format!("{name}:/data")], "redis:7", script);
    let set = || podman.exec(&name, "REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli set colour blue");
    support::wait_for("Redis", Duration::from_secs(30), || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(set)).ok().filter(|said| said == "OK")
    });
    let bench = docker(&podman.socket(), json!({"containers": [name]}));
    let captured = bench.kept();
    let dump = std::fs::read(bench.staging().join(format!("dumps/{name}/dump.rdb"))).unwrap();
    assert!(dump.starts_with(b"REDIS") && dump.windows(6).any(|part| part == b"colour"));
    assert_ne!(verdict(&bench.validate(&captured).unwrap()), Verdict::Failed);
    assert!(!bench.log().contains(PASSWORD));
}
