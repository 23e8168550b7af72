//! The plugin `docker`: a compose project, containers or volumes, through the engine's own API.
//!
//! Volumes are streamed out of the engine as tars and databases are dumped by their own clients, so it works without
//! access to the host's files, also through a socket proxy and for stopped containers. That is the default, and not the
//! shipping in place, for two reasons: what was stopped is started again before the engine of the snapshots would read
//! a source, and a volume's mountpoint belongs to root. `in_place` is for volumes too large to be staged.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::Trouble;
use crate::plugin::Source;
use crate::plugin::builtin::{self, Builtin, Failure, Restore, Voice};
use crate::plugin::files::survey::Survey;
use crate::plugin::journal::Journal;
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES};
use crate::plugin::tool::file_name;

mod choose;
mod content;
pub(crate) mod database;
pub(crate) mod derive;
mod describe;
pub(crate) mod engine;
mod exec;
mod halt;
mod inventory;
mod list;
mod load;
mod read;
mod restore;
mod settings;
pub(crate) mod sight;
mod verify;

use content::{Contents, Only};
use database::{Database, Part};
use engine::Engine;
use halt::Halted;
use inventory::{Container, Item, ItemKind, Wanted};
use list::{Dump, Inventory, Kept};
use read::Place;
use settings::{Databases, DockerSettings};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "docker",
    summary: "compose projects, containers and volumes through the container engine's API",
    guide: GUIDE,
    schema: || schemars::schema_for!(DockerSettings).to_value(),
    capture,
    validate: verify::validate,
    restore: Some(Restore { options: || schemars::schema_for!(restore::Options).to_value(), run: restore::restore }),
    recover: Some(recover),
};

const GUIDE: &str = "
In the backup: each volume, and each bind mount below the compose project's directory, as a tar (volumes/, binds/);
a native dump of each PostgreSQL, MariaDB, MySQL and Redis that runs in a container (dumps/), made by the client inside
it; the compose and env files that the containers' labels name, where they are on this host (files/); for each container
what is needed to make it again (containers/): image and digest, labels, mounts, environment, networks, restart policy.
It holds passwords: the environment of containers usually does.

Not in it: images (they are pulled again by the digest that is kept); the writable layer of containers; bind mounts
elsewhere on the host (see `binds`, or use `files`); data directories of databases that have a dump
(`database_volumes: true` keeps them too). With `stop: none` volumes are read while they are in use: each file as it was
when it was read, not all of one instant. Use `stop: stop` where that matters; `pause` freezes programs but does not
make them write what they hold in memory. Podman hands out files with the owner that the container runs as, so there the
volumes' directories are read by the host's `tar` where the daemon's user may (as root); a warning says where not.

Least privilege: who may open the engine's socket is root on that host. Put a socket proxy before it (such as
tecnativa/docker-socket-proxy) and give `socket: http://HOST:2375`. It needs to allow PING, VERSION, CONTAINERS, VOLUMES,
IMAGES (GET only: containers/*, volumes/*, images/*); POST and ALLOW_STOP, ALLOW_START (`stop: stop`) or ALLOW_PAUSE,
ALLOW_UNPAUSE (`stop: pause`); EXEC and POST for database dumps; POST (with PUT of containers/*/archive) for a restore
only. Without POST, say `databases: off` and `stop: none`. GET of containers/*/archive reads every file of every
container.

What is stopped is noted in a journal first and started again whatever happens: also when Larder is killed.

Restore: `larder restore TARGET --into TARGET` puts volumes, binds and compose files back, with the containers stopped
meanwhile, and compares what is there afterwards. Where the containers are gone it first puts back the compose files and
says what to type. Dumps of PostgreSQL are loaded by the client in the container while the other containers stand still,
and compared; those of MariaDB, MySQL and Redis are put back by hand; the restore lists the command for each.";

/// How long the engine may be silent in the middle of an answer: pg_dump may think for a while.
const PATIENCE: Duration = Duration::from_mins(30);

const INVENTORY: &str = "inventory.json";
const FORMAT_TAR: &str = "tar";

fn capture(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let wanted = settings.chosen()?;
    let journal = Journal::of(request)?;
    let engine = Engine::open(&settings.socket, settings.patience(PATIENCE))?;
    let version = engine.version()?;
    voice.version(version.clone());
    let found = choose::look_up(&engine, &wanted)?;
    let mut work = Work { request, settings: &settings, engine: &engine, artifacts: Vec::new(), sources: Vec::new() };
    let mut halted = Halted::new(&engine, Some(&journal), settings.stop_timeout);
    let captured = work.read_all(&found, &mut halted, voice);
    // Whatever came of it.
    let put_back = halted.put_back(voice);
    let mut inventory = captured?;
    put_back?;
    choose::still_there(&engine, &found.containers)?;
    inventory.engine = version;
    inventory.project.clone_from(&settings.project);
    work.describe(&found.containers, &mut inventory, voice)?;
    for (path, format, sha256) in &work.artifacts {
        voice.artifact(path, format, sha256.clone());
    }
    for source in work.sources {
        voice.source(source);
    }
    voice.figure("containers", inventory.containers.len() as u64);
    voice.figure("volumes", inventory.volumes.len() as u64);
    voice.figure("dumps", inventory.dumps.len() as u64);
    voice.figure("files", inventory.volumes.iter().map(|kept| kept.contents.files).sum());
    let in_place = || inventory.volumes.iter().filter(|kept| kept.artifact.is_none());
    if in_place().next().is_some() {
        voice.figure(SOURCE_FILES, in_place().map(|kept| kept.contents.files).sum());
        voice.figure(SOURCE_BYTES, in_place().map(|kept| kept.contents.bytes).sum());
    }
    Ok(())
}

fn recover(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let engine = Engine::open(&settings.socket, Duration::from_mins(1))?;
    halt::recover(&engine, &journal, voice)
}

struct Work<'a> {
    request: &'a Request,
    settings: &'a DockerSettings,
    engine: &'a Engine,
    /// Path, format, SHA-256.
    artifacts: Vec<(String, &'static str, String)>,
    sources: Vec<Source>,
}

impl Work<'_> {
    /// Dumps and tars, with the containers standing still where that is wanted; the order is what makes them fit
    /// together: applications stop, their databases are dumped, databases whose files are wanted too stop, files are read.
    fn read_all(
        &mut self,
        found: &choose::Found,
        halted: &mut Halted<'_>,
        voice: &mut Voice<'_>,
    ) -> Result<Inventory, Failure> {
        let settings = self.settings;
        let databases: Vec<Database> = match settings.databases {
            Databases::Auto if found.volumes.is_empty() => found.containers.iter().filter_map(Database::of).collect(),
            _ => Vec::new(),
        };
        let is_database = |container: &&Container| databases.iter().any(|each| each.container == container.id);
        let (servers, programs): (Vec<&Container>, Vec<&Container>) = found.containers.iter().partition(is_database);
        if let Some(how) = settings.stop.how() {
            halted.halt(how, &programs, voice)?;
        }
        let mut inventory = Inventory { version: 1, ..Inventory::default() };
        for (database, container) in databases
            .iter()
            .filter_map(|database| Some((database, servers.iter().find(|each| each.id == database.container)?)))
        {
            self.dump(database, container, &mut inventory, voice)?;
        }
        if let (Some(how), true) = (settings.stop.how(), settings.database_volumes) {
            halted.halt(how, &servers, voice)?;
        }
        let dumped: &[Database] = if settings.database_volumes { &[] } else { &databases };
        let include = if found.volumes.is_empty() { &settings.only_volumes } else { &found.volumes };
        let wanted = Wanted {
            volumes: settings.with_volumes,
            include,
            exclude: &settings.exclude,
            binds: if found.volumes.is_empty() { settings.binds } else { inventory::Binds::None },
            dumped,
        };
        let (items, left_out) = inventory::items(&found.containers, &wanted);
        for line in left_out {
            voice.log(format!("left out: {line}"));
        }
        let unowned = |item: &&Item| self.engine.podman && !settings.in_place && !read::is_here(&item.source);
        if let Some(item) = items.iter().find(unowned) {
            let told = "Podman hands out files with the owner that their container runs as, not with their own";
            voice.warning(
                Trouble::new("owners_not_kept", format!("{told} (such as {})", item.name))
                    .with_hint("let the daemon's user read the volumes' directories on this host"),
            );
        }
        let mut done = 0;
        for item in &items {
            let kept = if settings.in_place { self.in_place(item, voice)? } else { self.tar(item, &mut done, voice)? };
            inventory.volumes.push(kept);
        }
        for volume in &found.unmounted {
            inventory.volumes.push(self.in_place(volume, voice)?);
        }
        if inventory.volumes.is_empty() && inventory.dumps.is_empty() && !settings.allow_empty {
            return Err(Failure::new("nothing_to_keep", "no volume, no bind mount and no database is there to keep")
                .hint("see the log for what is left out; say `allow_empty: true` if that is right"));
        }
        Ok(inventory)
    }

    fn dump(
        &mut self,
        database: &Database,
        container: &Container,
        inventory: &mut Inventory,
        voice: &mut Voice<'_>,
    ) -> Result<(), Failure> {
        let parts: Vec<Part> = database::parts(self.engine, container, database)?;
        let directory = format!("dumps/{}", file_name(&database.name));
        self.make_directory(&directory)?;
        for part in &parts {
            let artifact = format!("{directory}/{}", part.file);
            let path = self.request.staging.join(&artifact);
            let unwritable = |error: std::io::Error| unwritable(&path, &error);
            let mut file = std::fs::File::create_new(&path).map_err(unwritable)?;
            let (mut hash, mut bytes, mut told) = (Sha256::new(), 0_u64, 0_u64);
            voice.log(format!("dumping {} of {}", part.database, container.name));
            let dumped = database::dump(self.engine, container, part, &mut |piece| {
                file.write_all(piece).map_err(unwritable)?;
                hash.update(piece);
                bytes += piece.len() as u64;
                if bytes - told > 8 << 20 {
                    told = bytes;
                    voice.progress(bytes, 0);
                }
                Ok(())
            });
            dumped.and_then(|()| file.sync_all().map_err(unwritable)).inspect_err(|_| {
                // What is there is a piece; nobody shall take it for a dump.
                let _ = std::fs::remove_file(&path);
            })?;
            if bytes == 0 {
                return Err(Failure::new("dump_empty", format!("the dump of {} is empty", part.database)));
            }
            self.artifacts.push((artifact.clone(), part.format, hex::encode(hash.finalize())));
            inventory.dumps.push(Dump {
                artifact,
                format: part.format.to_owned(),
                container: container.name.clone(),
                database: part.database.clone(),
            });
        }
        Ok(())
    }

    fn tar(&mut self, item: &Item, done: &mut u64, voice: &mut Voice<'_>) -> Result<Kept, Failure> {
        let directory = if item.kind == ItemKind::Volume { "volumes" } else { "binds" };
        self.make_directory(directory)?;
        let artifact = format!("{directory}/{}.tar", file_name(&item.name));
        let path = self.request.staging.join(&artifact);
        voice.log(format!("reading {} at {} of {}", item.name, item.destination, item.container_name));
        let before = *done;
        let mut told = before;
        let place = Place { container: &item.container, destination: &item.destination, source: &item.source };
        let saved = read::save(self.engine, &place, &path, &mut |bytes| {
            if before + bytes - told > 4 << 20 {
                told = before + bytes;
                voice.progress(told, 0);
            }
        })?;
        let Some(saved) = saved else {
            // 404 is either of two things.
            let what = match self.engine.inspect(&item.container)? {
                None => format!("the container {} was removed meanwhile", item.container_name),
                Some(_) => format!("{} has nothing at {}", item.container_name, item.destination),
            };
            return Err(Failure::new("container_gone", what).hint("nothing is kept of this run").later());
        };
        *done += saved.bytes;
        let contents = content::read(&path, &Only::All, &mut |_| {})?;
        self.refuse_empty(item, &contents)?;
        self.artifacts.push((artifact.clone(), FORMAT_TAR, saved.sha256));
        Ok(kept(item, Some(artifact), contents))
    }

    fn in_place(&mut self, item: &Item, voice: &mut Voice<'_>) -> Result<Kept, Failure> {
        let mut survey = Survey::new(&[]);
        let walked = match std::fs::symlink_metadata(&item.source) {
            Ok(found) if found.is_file() => {
                survey.count_file(found.len());
                Ok(())
            }
            Ok(_) => survey.walk(&item.source),
            Err(error) => Err(error),
        };
        walked.map_err(|error| {
            let message = format!("{} ({}) cannot be read on this host: {error}", item.name, item.source.display());
            let hint = if item.container.is_empty() {
                "no container mounts this volume, so the engine cannot hand it out; let the daemon's user read it"
            } else {
                "let the daemon's user read it, or leave out `in_place`"
            };
            Failure::new("volume_unreadable", message).hint(hint)
        })?;
        for warning in survey.warnings() {
            voice.warning(warning);
        }
        let contents = Contents {
            entries: survey.files,
            files: survey.files,
            bytes: survey.bytes,
            directory: item.source.is_dir(),
            ..Contents::default()
        };
        self.refuse_empty(item, &contents)?;
        self.sources.push(Source { path: item.source.clone(), exclude: Vec::new() });
        Ok(kept(item, None, contents))
    }

    fn refuse_empty(&self, item: &Item, contents: &Contents) -> Result<(), Failure> {
        if contents.files > 0 || self.settings.allow_empty {
            return Ok(());
        }
        Err(Failure::new("volume_empty", format!("{} holds no file at all", item.name)).hint(format!(
            "if it is a cache: `exclude: [{}]`; if all may be empty: `allow_empty: true`; else look what became of it",
            item.name
        )))
    }

    fn make_directory(&self, name: &str) -> Result<(), Failure> {
        let path = self.request.staging.join(name);
        std::fs::create_dir_all(&path).map_err(|error| unwritable(&path, &error))
    }
}

fn kept(item: &Item, artifact: Option<String>, contents: Contents) -> Kept {
    Kept {
        kind: item.kind,
        name: item.name.clone(),
        container: item.container_name.clone(),
        destination: item.destination.clone(),
        artifact,
        source: item.source.clone(),
        contents,
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = |code| Failure::new(code, format!("{} cannot be written: {error}", path.display()));
    if error.kind() == std::io::ErrorKind::StorageFull {
        failure("disk_full").hint("make room where the artifacts lie; nothing half-written is kept").later()
    } else {
        failure("unwritable")
    }
}
