//! Puts volumes, bind mounts, compose files and PostgreSQL's dumps back, and compares what is there afterwards.
//!
//! Nothing is changed before all of it was looked at: a volume or a database that is not empty is refused first. A restore keeps no
//! journal on purpose: an application that is half restored is better left stopped when the restore was killed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::docker::choose;
use crate::plugin::docker::content::{self, Only};
use crate::plugin::docker::database::{FORMAT_GLOBALS, FORMAT_POSTGRES, FORMAT_SQL};
use crate::plugin::docker::engine::{Engine, Listed, Mount};
use crate::plugin::docker::halt::{Halted, How};
use crate::plugin::docker::inventory::{Container, ItemKind, start_order};
use crate::plugin::docker::list::{Dump, Inventory, Kept, KeptFile};
use crate::plugin::docker::load::{self, Server};
use crate::plugin::docker::settings::DockerSettings;
use crate::plugin::docker::{PATIENCE, read, unwritable, verify};
use crate::plugin::protocol::{Request, Verb};

/// What the operator may choose.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Write into volumes that are not empty, over compose files that differ, and replace databases that have something
    /// in them. Files that the backup doesn't have stay.
    #[serde(default)]
    overwrite: bool,
    /// Only these volumes (by name), bind mounts (by path) and databases (by the container's name); none: all.
    #[serde(default)]
    only: Vec<String>,
}

/// A volume or bind and where it is mounted now.
struct Place<'a> {
    kept: &'a Kept,
    artifact: &'a str,
    /// Its id.
    container: String,
    container_name: String,
    destination: String,
    source: PathBuf,
    filled: bool,
}

pub(super) fn restore(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let options: Options = builtin::options(request)?;
    let dry_run = request.restore.as_ref().is_some_and(|order| order.dry_run);
    let chosen = settings.chosen()?;
    let inventory = verify::inventory(&request.staging)?;
    let engine = Engine::open(&settings.socket, settings.patience(PATIENCE))?;
    voice.version(engine.version()?);
    let listed = engine.containers(None)?;
    let places = places(&engine, &inventory, &options, &listed, voice)?;
    let refused: Vec<&str> =
        places.iter().filter(|each| each.filled && !options.overwrite).map(|each| each.kept.name.as_str()).collect();
    if !refused.is_empty() && !dry_run {
        return Err(Failure::new("volume_not_empty", format!("not empty: {}", refused.join(", ")))
            .hint("nothing was changed; say `--option overwrite=true` to write into them all the same"));
    }
    let wanted = |container: &str| options.only.is_empty() || options.only.iter().any(|name| name == container);
    let mut servers = load::servers(&engine, &inventory, wanted)?;
    servers.iter_mut().try_for_each(|server| server.look(&engine, !dry_run, voice))?;
    let full: Vec<String> = servers.iter().flat_map(Server::full).collect();
    if !full.is_empty() && !dry_run && !options.overwrite {
        return Err(Failure::new("database_not_empty", format!("not empty: {}", full.join(", ")))
            .hint("nothing was changed; say `--option overwrite=true` to replace them"));
    }
    if settings.compose_files {
        for file in &inventory.files {
            put_file(request, file, &options, dry_run, voice)?;
        }
    }
    let missing = absent(&inventory, &options, &places);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|kept| kept.name.as_str()).collect();
        voice.step(Verb::Manual, "the containers", make_again(&inventory, &names));
    }
    if dry_run {
        for place in &places {
            let verb = if place.filled { Verb::Replace } else { Verb::Create };
            voice.step(verb, thing(place.kept), detail(place, &options));
        }
        for server in &servers {
            server.tell(options.overwrite, voice);
        }
    } else {
        let stopped = to_stop(&engine, &chosen, &places, &servers)?;
        let mut halted = Halted::new(&engine, None, settings.stop_timeout);
        let done = halted
            .halt(How::Stop, &stopped.iter().collect::<Vec<_>>(), voice)
            .and_then(|()| places.iter().try_for_each(|place| put_volume(request, &engine, place, &options, voice)))
            .and_then(|()| servers.iter().try_for_each(|server| server.load(&engine, &request.staging, voice)));
        let put_back = halted.put_back(voice);
        done.and(put_back)?;
    }
    for kept in inventory.volumes.iter().filter(|kept| kept.artifact.is_none()) {
        let tree = request.restore.as_ref().map(|order| order.tree.display().to_string()).unwrap_or_default();
        let from = format!("{tree}{}", kept.source.display());
        voice.step(
            Verb::Manual,
            thing(kept),
            format!("it was shipped in place: copy {from} to {}", kept.source.display()),
        );
    }
    let loaded = |dump: &Dump| servers.iter().any(|server| server.has(dump));
    for dump in inventory.dumps.iter().filter(|dump| wanted(&dump.container) && !loaded(dump)) {
        voice.step(Verb::Manual, format!("{} in {}", dump.database, dump.container), load_command(request, dump));
    }
    Ok(())
}

fn thing(kept: &Kept) -> String {
    match kept.kind {
        ItemKind::Volume => format!("volume {}", kept.name),
        ItemKind::Bind => format!("bind mount {}", kept.name),
    }
}

fn detail(place: &Place<'_>, options: &Options) -> String {
    let what = format!("{} files, through {}", place.kept.contents.files, place.container_name);
    match (place.filled, options.overwrite) {
        (false, _) => what,
        (true, true) => format!("{what}; it is not empty, other files in it stay"),
        (true, false) => format!("{what}; it is not empty, so this is refused without `overwrite`"),
    }
}

/// Where what is to be put back is mounted now.
fn places<'a>(
    engine: &Engine,
    inventory: &'a Inventory,
    options: &Options,
    listed: &[Listed],
    voice: &mut Voice<'_>,
) -> Result<Vec<Place<'a>>, Failure> {
    let mut places = Vec::new();
    for kept in wanted(inventory, options) {
        let Some(artifact) = &kept.artifact else { continue };
        let own_name = format!("/{}", kept.container);
        let mounting = listed.iter().filter_map(|container| {
            Some((container, container.mounts.iter().flatten().find(|mount| is_mount_of(kept, mount))?))
        });
        let mut mounting: Vec<(&Listed, &Mount)> = mounting.collect();
        mounting.sort_by_key(|(container, _)| !container.names.iter().flatten().any(|name| *name == own_name));
        let Some((container, mount)) = mounting.first() else { continue };
        if !kept.contents.directory {
            let how = format!("a single file: `docker cp` cannot replace it; unpack {artifact} to {}", kept.name);
            voice.step(Verb::Manual, thing(kept), how);
            continue;
        }
        let filled = content::holds_something(&engine.peek(&container.id, &mount.destination)?);
        places.push(Place {
            kept,
            artifact,
            container: container.id.clone(),
            container_name: container.names.iter().flatten().next().cloned().unwrap_or_default().replace('/', ""),
            destination: mount.destination.clone(),
            source: PathBuf::from(&mount.source),
            filled,
        });
    }
    Ok(places)
}

fn wanted<'a>(inventory: &'a Inventory, options: &Options) -> impl Iterator<Item = &'a Kept> {
    let only: HashSet<String> = options.only.iter().cloned().collect();
    inventory.volumes.iter().filter(move |kept| only.is_empty() || only.contains(&kept.name))
}

/// What is to be put back and is mounted by nobody.
fn absent<'a>(inventory: &'a Inventory, options: &Options, places: &[Place<'_>]) -> Vec<&'a Kept> {
    wanted(inventory, options)
        .filter(|kept| kept.artifact.is_some() && kept.contents.directory)
        .filter(|kept| !places.iter().any(|place| place.kept.name == kept.name && place.kept.kind == kept.kind))
        .collect()
}

fn make_again(inventory: &Inventory, names: &[&str]) -> String {
    let again = "then restore once more";
    match (&inventory.project, inventory.files.is_empty()) {
        (Some(project), false) => {
            let files: Vec<String> = inventory
                .files
                .iter()
                .map(|file| &file.path)
                .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"))
                .map(|path| format!("-f {}", path.display()))
                .collect();
            format!(
                "nobody mounts {}: `docker compose -p {project} {} up --no-start`, {again}",
                names.join(", "),
                files.join(" ")
            )
        }
        _ => format!(
            "nobody mounts {}: make the containers again from your compose file or from containers/*.json, {again}",
            names.join(", ")
        ),
    }
}

fn load_command(request: &Request, dump: &Dump) -> String {
    let command = match dump.format.as_str() {
        FORMAT_POSTGRES => "pg_restore --create --clean --if-exists --exit-on-error -U USER -d postgres",
        FORMAT_GLOBALS => "psql -X -U USER -d postgres",
        FORMAT_SQL => "mariadb --user=root --password",
        _ => {
            return format!(
                "stop {}, put {} as dump.rdb into its data volume, switch appendonly off for the first start",
                dump.container, dump.artifact
            );
        }
    };
    format!(
        "`larder restore {} --to DIR`, then `docker exec -i {} {command} < DIR/…/{}`",
        request.target, dump.container, dump.artifact
    )
}

fn is_mount_of(kept: &Kept, mount: &Mount) -> bool {
    match kept.kind {
        ItemKind::Volume => mount.kind == "volume" && mount.name == kept.name,
        ItemKind::Bind => mount.kind == "bind" && mount.source == kept.name,
    }
}

/// Everything of the target, and whoever else mounts what is written to. A server that dumps are loaded into goes on.
fn to_stop(
    engine: &Engine,
    chosen: &crate::plugin::docker::settings::Chosen,
    places: &[Place<'_>],
    servers: &[Server<'_>],
) -> Result<Vec<Container>, Failure> {
    if places.is_empty() && servers.is_empty() {
        return Ok(Vec::new());
    }
    let written = |mount: &Mount| places.iter().any(|place| is_mount_of(place.kept, mount));
    let mut containers = match choose::look_up(engine, chosen) {
        Ok(found) => found.containers,
        Err(failure) if failure.trouble.code == "container_missing" => Vec::new(),
        Err(failure) => return Err(failure),
    };
    for listed in engine.containers(None)? {
        let mounts = listed.mounts.iter().flatten().any(written);
        if mounts && !containers.iter().any(|each| each.id == listed.id) {
            containers.extend(engine.inspect(&listed.id)?.and_then(Container::of));
        }
        if !mounts && servers.iter().any(|server| server.is(&listed.id)) {
            containers.retain(|each| each.id != listed.id);
        }
    }
    Ok(start_order(containers))
}

fn put_volume(
    request: &Request,
    engine: &Engine,
    place: &Place<'_>,
    options: &Options,
    voice: &mut Voice<'_>,
) -> Result<(), Failure> {
    let tar = request.staging.join(place.artifact);
    let rebased = request.staging.join(".larder-restore.tar");
    content::rebase(&tar, &rebased)?;
    let loaded = engine.load(&place.container, &place.destination, &rebased);
    let _ = fs::remove_file(&rebased);
    loaded?;
    let verb = if place.filled { Verb::Replace } else { Verb::Create };
    voice.step(verb, thing(place.kept), detail(place, options));

    let mut names = HashSet::new();
    content::read(&tar, &Only::All, &mut |name| {
        names.insert(name.to_vec());
    })?;
    let back = request.staging.join(".larder-read-back.tar");
    let at = read::Place {
        container: &place.container,
        destination: &place.destination,
        source: &place.source,
        without: &place.kept.without,
    };
    let saved = read::save(engine, &at, &back, &mut |bytes| voice.progress(bytes, 0))?;
    let found = match saved {
        Some(_) => content::read(&back, &Only::Names(&names), &mut |_| {}),
        None => Err(Failure::new("volume_missing", "it cannot be read back")),
    };
    let _ = fs::remove_file(&back);
    let name = format!("{} reads back as it was", place.kept.name);
    match found {
        Ok(found) if found.digest == place.kept.contents.digest => {
            voice.validation(name, Verdict::Proven, format!("{} files, {} bytes", found.files, found.bytes));
            let (verdict, detail) = if found.owners == place.kept.contents.owners {
                (Verdict::Proven, "every one")
            } else {
                (Verdict::CouldNotVerify, "the engine tells others than at the capture")
            };
            voice.validation(format!("owners and modes of {}", place.kept.name), verdict, detail);
        }
        Ok(found) => {
            let detail = format!("{} of {} files, or others", found.files, place.kept.contents.files);
            voice.validation(name, Verdict::Failed, detail);
        }
        Err(failure) => voice.validation(name, Verdict::Failed, failure.trouble.message),
    }
    Ok(())
}

fn put_file(
    request: &Request,
    file: &KeptFile,
    options: &Options,
    dry_run: bool,
    voice: &mut Voice<'_>,
) -> Result<(), Failure> {
    let from = request.staging.join(&file.artifact);
    let wanted = fs::read(&from)
        .map_err(|error| Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", from.display())))?;
    let shown = file.path.display().to_string();
    let verb = match fs::read(&file.path) {
        Ok(there) if there == wanted => {
            voice.step(Verb::Keep, shown, "it is the same");
            return Ok(());
        }
        Ok(_) if !options.overwrite => {
            voice.warning(
                Trouble::new("file_differs", format!("{shown} differs from the backup and stays as it is"))
                    .with_hint("`--option overwrite=true` replaces it"),
            );
            voice.step(Verb::Keep, shown, "it differs from the backup");
            return Ok(());
        }
        Ok(_) => Verb::Replace,
        Err(_) => Verb::Create,
    };
    if !dry_run {
        write(&file.path, &wanted, file.mode).map_err(|error| unwritable(&file.path, &error))?;
    }
    voice.step(verb, shown, "");
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
