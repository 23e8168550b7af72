//! Puts volumes, bind mounts, compose files and dumps of databases back, and compares what is there afterwards.
//!
//! First all that could keep any part from being put back is looked at; nothing is changed by that. Then each part is
//! made ready beside what is there and compared, then all of them take the place of what is there, and only then do the
//! containers work again. Each step is in the journal before it is done: on a failure, or after a kill by the plugin's
//! `recover`, every part becomes what it was before any container starts, so no application sees a mixture.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Kind, codes};
use crate::plugin::apps::docker::api::{Engine, Listed, Mount};
use crate::plugin::apps::docker::choose;
use crate::plugin::apps::docker::content;
use crate::plugin::apps::docker::database::{FORMAT_GLOBALS, FORMAT_POSTGRES, FORMAT_SQL};
use crate::plugin::apps::docker::halt::{self, Halted, How};
use crate::plugin::apps::docker::inventory::{Container, ItemKind, LABEL_SERVICE, State, key, start_order};
use crate::plugin::apps::docker::list::{Dump, Inventory, Kept};
use crate::plugin::apps::docker::load::{self, Loaded, Server};
use crate::plugin::apps::docker::put::{self, Checked, Part};
use crate::plugin::apps::docker::settings::{Chosen, DockerSettings};
use crate::plugin::apps::docker::stack_files::{self, Replaced};
use crate::plugin::apps::docker::{PATIENCE, validate};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb};

pub(super) mod place;

use place::{Job, Options, Place, thing};

/// The journal's entry that everything is put back: what is left is to start containers.
const COMMITTED: &str = "committed";

/// Puts volumes, files and dumps back.
pub(super) struct PutBack;

/// What was decided.
pub(super) struct Work {
    engine: Engine,
    chosen: Chosen,
    parts: Vec<Checked>,
    servers: Vec<Server>,
    files: Vec<Replaced>,
    /// What is left to a person afterwards.
    by_hand: Vec<Step>,
}

impl Restorer for PutBack {
    type Settings = DockerSettings;
    type Options = Options;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let RestoreJob { settings, options, staging, .. } = job;
        let chosen = settings.chosen()?;
        let inventory = validate::inventory(staging)?;
        known(&inventory, options)?;
        let engine = Engine::open(&settings.socket, settings.patience(PATIENCE))?;
        events.version(engine.version()?);
        let listed = engine.containers(None)?;
        let mut steps = Vec::new();
        let places = places(&engine, job, &inventory, &listed, &mut steps)?;
        let is_wanted = |container: &str| options.only.is_empty() || options.only.iter().any(|name| name == container);
        let mut servers = load::servers(&engine, &inventory, is_wanted)?;
        servers.iter_mut().try_for_each(|server| server.look(&engine, staging, events))?;
        let files = if settings.compose_files { stack_files::plan(job, &inventory, events)? } else { Vec::new() };
        let mut refusals = Vec::new();
        let filled: Vec<&str> = places.iter().filter(|each| each.filled).map(|each| each.kept.name.as_str()).collect();
        if !filled.is_empty() && !options.overwrite {
            let hint =
                "nothing was changed; say `--option overwrite=true` to replace what is in them; it is kept beside";
            let told = format!("not empty: {}", filled.join(", "));
            refusals.push(Failure::new(codes::VOLUME_NOT_EMPTY, told).hint(hint));
        }
        refusals.extend(full(&servers, options));
        let by_hand = by_hand(job, &inventory, &places, &servers);
        let later = places.iter().map(|place| place.step(options));
        let later = later.chain(servers.iter().flat_map(|server| server.steps(options.overwrite, job.run)));
        let later = later.chain(files.iter().map(Replaced::step)).chain(by_hand.iter().cloned()).collect();
        let stopped = to_stop(&engine, &chosen, &places.iter().collect::<Vec<_>>(), &servers);
        refusals.extend(stopped.and_then(|stopped| may_stop(&stopped)).err());
        let mut parts = Vec::new();
        for (number, place) in places.into_iter().enumerate() {
            match Checked::of(&engine, place, number, staging, events) {
                Ok(part) => parts.push(part),
                Err(failure) => refusals.push(failure),
            }
        }
        refusals.extend(files.iter().filter_map(|file| file.may_be_put().err()));
        Ok(Planned { steps, later, refusals, work: Work { engine, chosen, parts, servers, files, by_hand } })
    }

    fn execute(
        job: &Job<'_>,
        work: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let journal = Journal::or_within(journal, job.staging)?;
        let Work { engine, chosen, parts, mut servers, files, by_hand } = work;
        servers.iter_mut().try_for_each(|server| server.start(&engine, job.staging, events))?;
        // What was not known before of those that stood still.
        full(&servers, &job.options).map_or(Ok(()), Err)?;
        // Looked at once more: somebody may have started, paused or made one anew since.
        let places: Vec<&Place> = parts.iter().map(|part| &part.place).collect();
        let stopped = to_stop(&engine, &chosen, &places, &servers)?;
        may_stop(&stopped)?;
        let doing = Doing { job, engine: &engine, journal: &journal };
        doing.put_all(parts, &servers, &files, &stopped, events)?;
        for step in by_hand {
            events.planned(step);
        }
        Ok(())
    }
}

/// Refuses before anything is stopped when a stop of one of them could not be undone.
fn may_stop(containers: &[Container]) -> Result<(), Failure> {
    halt::may_halt(How::Stop, &containers.iter().collect::<Vec<_>>())
}

/// Refuses databases that have something in them, unless that is to be replaced.
fn full(servers: &[Server], options: &Options) -> Option<Failure> {
    let full: Vec<String> = servers.iter().flat_map(Server::full).collect();
    (!full.is_empty() && !options.overwrite).then(|| {
        Failure::new(codes::DATABASE_NOT_EMPTY, format!("not empty: {}", full.join(", ")))
            .hint("nothing was changed; say `--option overwrite=true` to replace them")
    })
}

/// What is left to a person when all that can be put back is.
fn by_hand(job: &Job<'_>, inventory: &Inventory, places: &[Place], servers: &[Server]) -> Vec<Step> {
    let mut steps = Vec::new();
    let missing: Vec<&str> =
        absent(inventory, &job.options, places).into_iter().map(|kept| kept.name.as_str()).collect();
    if !missing.is_empty() {
        steps.push(Step::new(Verb::Manual, "the containers", make_again(inventory, &missing)));
    }
    for kept in inventory.volumes.iter().filter(|kept| kept.artifact.is_none()) {
        let from = format!("{}{}", job.tree.display(), kept.source.display());
        let how = format!("it was shipped in place: copy {from} to {}", kept.source.display());
        steps.push(Step::new(Verb::Manual, thing(kept), how));
    }
    let only = &job.options.only;
    let is_wanted = |dump: &&Dump| only.is_empty() || only.contains(&dump.container);
    let loaded = |dump: &&Dump| servers.iter().any(|server| server.has(dump));
    for dump in inventory.dumps.iter().filter(is_wanted).filter(|dump| !loaded(dump)) {
        let thing = format!("{} in {}", dump.database, dump.container);
        steps.push(Step::new(Verb::Manual, thing, load_command(job.target, dump)));
    }
    steps
}

/// Refuses names that the backup does not have: whoever gives them waits for something else than for nothing.
fn known(inventory: &Inventory, options: &Options) -> Result<(), Failure> {
    let volumes = inventory.volumes.iter().map(|kept| kept.name.as_str());
    let names: BTreeSet<&str> = volumes.chain(inventory.dumps.iter().map(|dump| dump.container.as_str())).collect();
    match options.only.iter().find(|name| !names.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let names: Vec<&str> = names.into_iter().collect();
            Err(Failure::new(codes::RESTORE_OPTIONS, format!("the backup has no {name:?} to restore `only`"))
                .hint(format!("it has {}", names.join(", "))))
        }
    }
}

/// What a restore works with.
struct Doing<'a> {
    job: &'a Job<'a>,
    engine: &'a Engine,
    journal: &'a Journal,
}

impl Doing<'_> {
    fn put_all(
        &self,
        checked: Vec<Checked>,
        servers: &[Server],
        files: &[Replaced],
        stopped: &[Container],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let staging = self.job.staging;
        let journal = self.journal;
        let stopped: Vec<&Container> = stopped.iter().collect();
        let parts = checked.into_iter().map(|each| each.part(staging, self.job.run));
        let mut parts = parts.collect::<Result<Vec<Part>, Failure>>()?;
        files.iter().try_for_each(Replaced::check)?;
        let mut halted = Halted::new(self.engine, Some(journal), self.job.settings.stop_timeout);
        let mut loaded = Vec::new();
        let done = self.put(&mut parts, servers, files, &stopped, &mut halted, &mut loaded, events);
        let done = done.and_then(|()| journal.note(COMMITTED, &json!({ COMMITTED: true })));
        if let Err(failure) = done {
            if let Err(left) = undo(self.engine, journal, staging, false, events) {
                // What stands still stays so: it would see a mixture of old and new.
                let told = format!(
                    "{}; and what was there is not back yet: {}",
                    failure.trouble.message, left.trouble.message
                );
                return Err(Failure::new(codes::NOT_UNDONE, told).hint(
                    "its containers stay stopped; Larder tries again every few minutes to put back what was there",
                ));
            }
            let put_back = halted.put_back(events);
            return Err(put_back.err().unwrap_or(failure));
        }
        let put_back = halted.put_back(events);
        parts.iter().try_for_each(|part| part.finish(journal, events))?;
        let at = self.at(false);
        loaded.into_iter().try_for_each(|each| each.finish(self.engine, &at, events))?;
        stack_files::finish(journal)?;
        journal.done(COMMITTED)?;
        put_back
    }

    fn at(&self, own: bool) -> load::Place<'_> {
        load::Place { staging: self.job.staging, journal: self.journal, run: self.job.run, own }
    }

    /// Everything up to where only containers are to be started.
    #[expect(clippy::too_many_arguments, reason = "what is done so far is undone by the caller, part by part")]
    fn put(
        &self,
        parts: &mut [Part],
        servers: &[Server],
        files: &[Replaced],
        stopped: &[&Container],
        halted: &mut Halted<'_>,
        loaded: &mut Vec<Loaded>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let (engine, journal, staging) = (self.engine, self.journal, self.job.staging);
        // Undoing a volume undoes what was loaded into a database that lives in it; in others that must be dropped.
        let holding: Vec<&str> =
            servers.iter().filter(|server| parts.iter().any(|part| part.place.holds(server))).map(Server::id).collect();
        // A server that stands still for a volume, perhaps its own, is filled after that.
        let is_late = |server: &&Server| stopped.iter().any(|each| server.is(&each.id));
        let (late, early): (Vec<&Server>, Vec<&Server>) = servers.iter().partition(is_late);
        for server in early {
            server.prepare(engine, &self.at(false), loaded, events)?;
        }
        for server in &late {
            server.keep(engine, &self.at(false), events)?;
        }
        halted.halt(How::Stop, stopped, events)?;
        for part in parts.iter_mut() {
            part.prepare(engine, journal, staging, events)?;
        }
        for part in parts.iter_mut() {
            part.swap(engine, journal, staging, events)?;
        }
        for server in late {
            server.prepare(engine, &self.at(holding.contains(&server.id())), loaded, events)?;
        }
        for each in loaded.iter_mut() {
            each.swap(engine, &self.at(false), events)?;
        }
        for (number, file) in files.iter().enumerate() {
            file.put(number, journal, events)?;
        }
        Ok(())
    }
}

/// Makes every part what it was, or clears up behind a restore that came to its end.
fn undo(
    engine: &Engine,
    journal: &Journal,
    staging: &Path,
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    stack_files::recover(journal, committed, events)?;
    load::recover(engine, journal, staging, committed, events)?;
    if !committed {
        // One that was started to be filled has other volumes yet that go back.
        halt::again(engine, journal, events)?;
    }
    put::recover(engine, journal, committed, events)
}

/// Puts right what a restore that was killed left, before any container is started.
pub(super) fn recover(
    engine: &Engine,
    journal: &Journal,
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let committed = journal.entries::<Value>()?.iter().any(|(entry, _)| entry == COMMITTED);
    undo(engine, journal, staging, committed, events)
}

/// Ends what [`recover`] began, when the containers work again.
pub(super) fn recovered(journal: &Journal) -> Result<(), Failure> {
    journal.done(COMMITTED)
}

/// Where what is to be put back is mounted now.
fn places(
    engine: &Engine,
    job: &Job<'_>,
    inventory: &Inventory,
    listed: &[Listed],
    steps: &mut Vec<Step>,
) -> Result<Vec<Place>, Failure> {
    let mut places: Vec<Place> = Vec::new();
    for kept in wanted(inventory, &job.options) {
        let Some(artifact) = &kept.artifact else { continue };
        let service = service_of(job.staging, inventory, &kept.container);
        let mut mounting: Vec<(Container, Mount)> = Vec::new();
        for container in listed.iter().filter(|each| each.mounts.iter().flatten().any(|mount| mount.kind != "tmpfs")) {
            let names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
            let labels = container.labels.as_ref();
            let is_its = names.into_iter().any(|name| name == kept.container)
                || (service.is_some() && service == labels.and_then(|labels| labels.get(LABEL_SERVICE).cloned()));
            let mut mounts = container.mounts.iter().flatten();
            if !mounts.any(|mount| is_mount_of(kept, mount, is_its)) {
                continue;
            }
            let Some(found) = engine.inspect(&container.id)?.and_then(Container::of) else { continue };
            let mount =
                found.mounts.iter().find(|mount| is_mount_of(kept, mount, is_its) && mount.subpath == kept.subpath);
            let mount = mount.cloned();
            mounting.extend(mount.map(|mount| (found, mount)));
        }
        // Who may write to it first, then its own container, then who sees most of it.
        mounting.sort_by_key(|(container, mount)| {
            (!mount.writable, container.name != kept.container, container.covered(&mount.destination).len())
        });
        let Some((container, mount)) = mounting.into_iter().next() else { continue };
        if !kept.contents.directory {
            let how = format!("a single file: `docker cp` cannot replace it; unpack {artifact} to {}", kept.name);
            steps.push(Step::new(Verb::Manual, thing(kept), how));
            continue;
        }
        let named = key(&mount);
        if places.iter().any(|other| other.named == named && other.kept.subpath == kept.subpath) {
            return Err(Failure::new(
                codes::VOLUME_AMBIGUOUS,
                format!("two volumes of the backup would go to {}", named.1),
            )
            .hint("nothing was changed; choose one with `--option only=NAME`"));
        }
        let mut without = container.covered(&mount.destination);
        without.extend(kept.without.iter().filter(|path| !without.contains(path)).cloned().collect::<Vec<_>>());
        let filled = content::holds_something(&engine.peek(&container.id, &mount.destination)?, &without);
        places.push(Place {
            kept: kept.clone(),
            artifact: artifact.clone(),
            container: container.id,
            container_name: container.name,
            destination: mount.destination,
            source: PathBuf::from(&mount.source),
            named,
            writable: mount.writable,
            without,
            filled,
        });
    }
    Ok(inner_first(places))
}

/// Directories of the host that lie in one another: the inner one is put back by itself, and stays as it is when the
/// outer one changes after it.
fn inner_first(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by_key(|place| std::cmp::Reverse(place.source.components().count()));
    let sources: Vec<PathBuf> = places.iter().map(|place| place.source.clone()).collect();
    for place in &mut places {
        let inner =
            sources.iter().filter_map(|inner| inner.strip_prefix(&place.source).ok()?.to_str().map(str::to_owned));
        let inner: Vec<String> = inner.filter(|path| !path.is_empty() && !place.without.contains(path)).collect();
        place.without.extend(inner);
    }
    places
}

/// The compose service of a container of the backup.
fn service_of(staging: &Path, inventory: &Inventory, container: &str) -> Option<String> {
    let brief = inventory.containers.iter().find(|brief| brief.name == container)?;
    let record: Value = serde_json::from_slice(&fs::read(staging.join(&brief.artifact)).ok()?).ok()?;
    record.get("labels")?.get(LABEL_SERVICE)?.as_str().filter(|service| !service.is_empty()).map(str::to_owned)
}

fn wanted<'a>(inventory: &'a Inventory, options: &Options) -> impl Iterator<Item = &'a Kept> {
    let only: HashSet<String> = options.only.iter().cloned().collect();
    inventory.volumes.iter().filter(move |kept| only.is_empty() || only.contains(&kept.name))
}

/// What is to be put back and is mounted by nobody.
fn absent<'a>(inventory: &'a Inventory, options: &Options, places: &[Place]) -> Vec<&'a Kept> {
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

fn load_command(target: &str, dump: &Dump) -> String {
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
        "`larder restore {target} --to DIR`, then `docker exec -i {} {command} < DIR/…/{}`",
        dump.container, dump.artifact
    )
}

/// `is_its`: the container is the one that the backup read it through, or one of its service.
fn is_mount_of(kept: &Kept, mount: &Mount, is_its: bool) -> bool {
    let volume = kept.subpath.as_ref().and_then(|subpath| kept.name.strip_suffix(subpath.as_str())?.strip_suffix('/'));
    let volume = volume.unwrap_or(&kept.name);
    match kept.kind {
        ItemKind::Volume if mount.kind != "volume" => false,
        ItemKind::Volume if is_anonymous(volume) && mount.name != volume => {
            is_its && is_anonymous(&mount.name) && mount.destination == kept.destination
        }
        ItemKind::Volume => mount.name == volume,
        ItemKind::Bind => mount.kind == "bind" && mount.source == kept.name,
    }
}

/// The engine made up its name, and makes up another one with the next container.
fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Everything of the target, and whoever else mounts what is written to. A server that dumps are loaded into goes on.
fn to_stop(engine: &Engine, chosen: &Chosen, places: &[&Place], servers: &[Server]) -> Result<Vec<Container>, Failure> {
    if places.is_empty() && servers.is_empty() {
        return Ok(Vec::new());
    }
    // Of the host's directories also what lies above or below.
    let overlaps = |place: &&Place, mount: &Mount| {
        let (there, here) = (Path::new(&mount.source), place.source.as_path());
        mount.kind == "bind" && (there.starts_with(here) || here.starts_with(there)) && there != Path::new("/")
    };
    let written = |mount: &Mount| places.iter().any(|place| key(mount) == place.named || overlaps(place, mount));
    let mut containers = match choose::look_up(engine, chosen) {
        Ok(found) => found.containers,
        Err(failure) if failure.trouble.is_of(Kind::NotFound) => Vec::new(),
        Err(failure) => return Err(failure),
    };
    for listed in engine.containers(None)? {
        let mounts = listed.mounts.iter().flatten().any(written);
        if mounts && !containers.iter().any(|each| each.id == listed.id) {
            containers.extend(engine.inspect(&listed.id)?.and_then(Container::of));
        }
        let server = servers.iter().find(|server| server.is(&listed.id));
        if server.is_some_and(Server::is_halted) && !containers.iter().any(|each| each.id == listed.id) {
            containers.extend(engine.inspect(&listed.id)?.and_then(Container::of));
        }
        if !mounts && server.is_some_and(|server| !server.is_halted()) {
            containers.retain(|each| each.id != listed.id);
        }
    }
    // It would go on with the files that it has open, and write into what was replaced.
    let is_paused = |each: &&Container| each.state == State::Paused && each.mounts.iter().any(written);
    match containers.iter().find(is_paused) {
        None => Ok(start_order(containers)),
        Some(paused) => Err(Failure::new(
            codes::CONTAINER_PAUSED,
            format!("{} is paused and has open what is to be replaced", paused.name),
        )
        .hint(format!("nothing was changed; unpause or stop it first: `docker unpause {}`", paused.name))),
    }
}
