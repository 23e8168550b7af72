//! What a capture reads, in the order that makes it fit together: applications stop, their databases are dumped, databases
//! whose files are wanted too stop, files are read.

use std::collections::BTreeSet;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::choose::Found;
use crate::plugin::apps::docker::content::{self, Contents, Only};
use crate::plugin::apps::docker::database::{self, Database, FORMAT_RDB, Part, Unasked};
use crate::plugin::apps::docker::halt::{self, Halted};
use crate::plugin::apps::docker::inventory::{
    self, Binds, By, Container, DataDirectory, Item, ItemKind, LeftOut, Wanted,
};
use crate::plugin::apps::docker::list::{self, Dump, Inventory, Kept};
use crate::plugin::apps::docker::read::{self, Attributes, Place};
use crate::plugin::apps::docker::server::{self, Told};
use crate::plugin::apps::docker::settings::{Chosen, Databases, DockerSettings};
use crate::plugin::apps::docker::still::Still;
use crate::plugin::apps::docker::stock::Stock;
use crate::plugin::apps::docker::{FORMAT_TAR, PATIENCE, choose, rdb, unwritable};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::files::survey::Survey;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::tool::file_name;
use crate::plugin::kit::{digest, live};
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES, Source};

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let wanted = settings.chosen()?;
    let journal = Journal::of(request)?;
    let engine = Engine::open(&settings.socket, settings.patience(PATIENCE))?;
    let version = engine.version()?;
    events.version(version.clone());
    let found = choose::look_up(&engine, &wanted)?;
    let mut work = Work::new(request, &settings, &engine);
    let mut halted = Halted::new(&engine, Some(&journal), settings.stop_timeout);
    let captured = work.read_all(&found, &mut halted, events);
    // Whatever came of it.
    let put_back = halted.put_back(events);
    let mut inventory = captured?;
    put_back?;
    choose::still_there(&engine, &found.containers)?;
    inventory.engine = version;
    inventory.project.clone_from(&settings.project);
    work.describe(&found.containers, &mut inventory, events)?;
    work.tell(&wanted, &mut inventory, events);
    for (path, format, sha256) in &work.artifacts {
        events.artifact(path, format, sha256.clone());
    }
    for source in work.sources {
        events.source(source);
    }
    events.figure("containers", inventory.containers.len() as u64);
    events.figure("volumes", inventory.volumes.len() as u64);
    events.figure("dumps", inventory.dumps.len() as u64);
    events.figure("files", inventory.volumes.iter().map(|kept| kept.contents.files).sum());
    let in_place = || inventory.volumes.iter().filter(|kept| kept.artifact.is_none());
    if in_place().next().is_some() {
        events.figure(SOURCE_FILES, in_place().map(|kept| kept.contents.files).sum());
        events.figure(SOURCE_BYTES, in_place().map(|kept| kept.contents.bytes).sum());
    }
    Ok(())
}

/// What is left out is named in one line up to here; the inventory has all.
const LEFT_OUT_NAMED_MAX: usize = 12;

pub(super) struct Work<'a> {
    pub(super) request: &'a Request,
    pub(super) settings: &'a DockerSettings,
    pub(super) engine: &'a Engine,
    /// Path, format, SHA-256.
    pub(super) artifacts: Vec<(String, &'static str, String)>,
    pub(super) sources: Vec<Source>,
    stock: Stock,
    /// Where databases that have a dump keep their data.
    data: Vec<DataDirectory>,
    /// Whose attributes the engine does not hand out.
    without_attributes: Vec<String>,
    empty: Vec<String>,
}

impl<'a> Work<'a> {
    pub(super) fn new(request: &'a Request, settings: &'a DockerSettings, engine: &'a Engine) -> Self {
        Self {
            request,
            settings,
            engine,
            artifacts: Vec::new(),
            sources: Vec::new(),
            stock: Stock::default(),
            data: Vec::new(),
            without_attributes: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// Dumps and tars, with the containers standing still where that is wanted.
    pub(super) fn read_all(
        &mut self,
        found: &Found,
        halted: &mut Halted<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<Inventory, Failure> {
        let settings = self.settings;
        let databases = self.servers(found, events);
        let is_database = |container: &&Container| databases.iter().any(|each| each.container == container.id);
        let (servers, programs): (Vec<&Container>, Vec<&Container>) = found.containers.iter().partition(is_database);
        if let Some(how) = settings.stop.how() {
            // Of all of them before the first one is stopped.
            let all: Vec<&Container> =
                if settings.database_volumes { found.containers.iter().collect() } else { programs.clone() };
            halt::may_halt(how, &all)?;
            halted.halt(how, &programs, events)?;
        }
        let mut inventory = Inventory { version: 1, ..Inventory::default() };
        for (database, container) in databases
            .iter()
            .filter_map(|database| Some((database, servers.iter().find(|each| each.id == database.container)?)))
        {
            match server::ask(self.engine, container, database) {
                Ok(told) => self.serve(database, container, told, &mut inventory, events)?,
                // Its files are kept instead, as those of any program.
                Err(Unasked::NoPassword(failure)) => {
                    events.warning(failure.trouble);
                    self.stock.unasked.insert(container.name.clone());
                }
                Err(Unasked::Failed(failure)) => return Err(failure),
            }
        }
        if let (Some(how), true) = (settings.stop.how(), settings.database_volumes) {
            halted.halt(how, &servers, events)?;
        }
        let dumped = if settings.database_volumes { Vec::new() } else { self.data.clone() };
        let include = if found.volumes.is_empty() { &settings.only_volumes } else { &found.volumes };
        let wanted = Wanted {
            volumes: settings.with_volumes,
            include,
            exclude: &settings.exclude,
            binds: if found.volumes.is_empty() { settings.binds } else { Binds::None },
            dumped: &dumped,
            accept: &settings.accept,
        };
        let (items, left_out) = inventory::items(&found.containers, &wanted);
        // Whoever names volumes leaves the rest to others.
        let is_said = |each: &LeftOut| found.volumes.is_empty() || each.by == By::Nobody;
        inventory.left_out.extend(left_out.into_iter().filter(is_said));
        let unowned = |item: &&Item| self.engine.podman && !settings.in_place && !read::is_here(&item.source);
        if let Some(item) = items.iter().find(unowned) {
            let told = "Podman hands out files with the owner that their container runs as, not with their own";
            events.warning(
                Trouble::new(codes::OWNERS_NOT_KEPT, format!("{told} (such as {})", item.name))
                    .with_hint("let the daemon's user read the volumes' directories on this host"),
            );
        }
        let writers = self.writers()?;
        let mut done = 0;
        for item in &items {
            let quiet = !writers.contains(&(item.kind, volume_of(item).to_owned()));
            let kept = if settings.in_place {
                Some(self.in_place(item, quiet, events)?)
            } else {
                self.tar(item, quiet, &mut done, events)?
            };
            if kept.is_none() {
                let what = format!("{} ({} in {})", item.name, item.destination, item.container_name);
                let why = "its database has a dump, and nothing lies beside its data".to_owned();
                inventory.left_out.push(LeftOut { name: item.name.clone(), what, why, by: By::Nature });
            }
            inventory.volumes.extend(kept);
        }
        for volume in &found.unmounted {
            inventory.volumes.push(self.in_place(volume, true, events)?);
        }
        if inventory.volumes.is_empty() && inventory.dumps.is_empty() && !settings.allow_empty {
            return Err(Failure::new(
                codes::NOTHING_TO_KEEP,
                "no volume, no bind mount and no database is there to keep",
            )
            .hint("see the log for what is left out; say `allow_empty: true` if that is right"));
        }
        self.judge_empty(&inventory)?;
        Ok(inventory)
    }

    /// The databases that are dumped.
    fn servers(&mut self, found: &Found, events: &mut EventWriter<'_>) -> Vec<Database> {
        if self.settings.databases == Databases::Off || !found.volumes.is_empty() {
            return Vec::new();
        }
        let mut all: Vec<Database> = Vec::new();
        for container in &found.containers {
            match Database::of(container) {
                Some(database) if database.is_served(self.engine) => {
                    all.push(database);
                    continue;
                }
                Some(_) => events.log(format!(
                    "no database server works in {}, so it is kept as any other container",
                    container.name
                )),
                None => {}
            }
            self.stock.unasked.insert(container.name.clone());
        }
        all
    }

    /// Dumps what a server `told` of.
    fn serve(
        &mut self,
        database: &Database,
        container: &Container,
        told: Told,
        inventory: &mut Inventory,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        self.dump(database, container, inventory, events)?;
        let key = |name: &String| format!("{}/{name}", container.name);
        self.stock.tables.extend(told.stock.iter().map(|(name, count)| (key(name), *count)));
        self.stock.passing.extend(told.passing.iter().map(key));
        let by = |each: LeftOut| match each.by {
            By::Nobody if self.settings.accept.contains(&each.name) => LeftOut { by: By::Config, ..each },
            _ => each,
        };
        if !self.settings.database_volumes {
            inventory.left_out.extend(told.left_out.into_iter().map(by));
        }
        self.data.extend(told.data);
        Ok(())
    }

    /// Which volumes and directories are written to by containers that work now.
    fn writers(&self) -> Result<BTreeSet<(ItemKind, String)>, Failure> {
        let listed = self.engine.containers(None)?;
        let works = listed.into_iter().filter(|each| matches!(each.state.as_str(), "running" | "restarting" | ""));
        let mounts = works.flat_map(|each| each.mounts.unwrap_or_default());
        Ok(mounts.filter(|mount| mount.writable).map(|mount| inventory::key(&mount)).collect())
    }

    fn dump(
        &mut self,
        database: &Database,
        container: &Container,
        inventory: &mut Inventory,
        events: &mut EventWriter<'_>,
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
            events.log(format!("dumping {} of {}", part.database, container.name));
            let dumped = database::dump(self.engine, container, part, &mut |piece| {
                file.write_all(piece).map_err(unwritable)?;
                hash.update(piece);
                bytes += piece.len() as u64;
                if bytes - told > 8 << 20 {
                    told = bytes;
                    events.progress(bytes, 0);
                }
                Ok(())
            });
            dumped.and_then(|()| file.sync_all().map_err(unwritable)).inspect_err(|_| {
                // What is there is a piece; nobody shall take it for a dump.
                let _ = std::fs::remove_file(&path);
            })?;
            let mut sha256 = hex::encode(hash.finalize());
            if part.format == FORMAT_RDB && rdb::trim(&path).map_err(unwritable)? {
                sha256 = digest::sha256(&path, |done| events.progress(done, bytes))?;
            }
            if bytes == 0 {
                return Err(Failure::new(codes::DUMP_EMPTY, format!("the dump of {} is empty", part.database)));
            }
            if part.is_of_a_database() {
                self.stock.dumped.insert(format!("{}/{}", container.name, part.database), bytes);
            }
            self.artifacts.push((artifact.clone(), part.format, sha256));
            inventory.dumps.push(Dump {
                artifact,
                format: part.format.to_owned(),
                container: container.name.clone(),
                database: part.database.clone(),
            });
        }
        Ok(())
    }

    fn tar(
        &mut self,
        item: &Item,
        quiet: bool,
        done: &mut u64,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<Kept>, Failure> {
        let directory = if item.kind == ItemKind::Volume { "volumes" } else { "binds" };
        self.make_directory(directory)?;
        let artifact = format!("{directory}/{}.tar", file_name(&item.name));
        let path = self.request.staging.join(&artifact);
        events.log(format!("reading {} at {} of {}", item.name, item.destination, item.container_name));
        let before = *done;
        let mut told = before;
        let place = Place {
            container: &item.container,
            destination: &item.destination,
            source: &item.source,
            without: &item.without,
        };
        let saved = read::save(self.engine, &place, &path, &mut |bytes| {
            // Another way to read it begins anew.
            if (before + bytes).abs_diff(told) > 4 << 20 {
                told = before + bytes;
                events.progress(told, 0);
            }
        })?;
        let Some((saved, attributes)) = saved else {
            // 404 is either of two things.
            let what = match self.engine.inspect(&item.container)? {
                None => format!("the container {} was removed meanwhile", item.container_name),
                Some(_) => format!("{} has nothing at {}", item.container_name, item.destination),
            };
            return Err(Failure::new(codes::CONTAINER_GONE, what).hint("nothing is kept of this run").later());
        };
        if attributes == Attributes::Capabilities {
            self.without_attributes.push(item.name.clone());
        }
        *done += saved.bytes;
        let mut found = live::FoundDatabases::default();
        let mut contents = content::read_with_heads(&path, &Only::All, &mut |name, size, head| {
            if live::is_worth_a_look(name, size)
                && let Some(kind) = live::recognise(name, head)
            {
                found.add(name, kind);
            }
        })?;
        let mut sha256 = saved.sha256;
        let mut databases = Vec::new();
        if !quiet {
            let still = Still { engine: self.engine, item, place: &place, tar: &path, settings: self.settings };
            let mut all = self.undumped(item, &found);
            let more = self.beyond(item, &mut all);
            let (told, changed) = still.settle(&all, events)?;
            databases = told.into_iter().chain(more).collect();
            if changed {
                contents = content::read(&path, &Only::All, &mut |_| {})?;
                sha256 = digest::sha256(&path, |_| {})?;
            }
        }
        if contents.files == 0 && self.is_a_servers(item) {
            // Nothing is beside the data: an archive of that would say that the volume was empty.
            std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
            return Ok(None);
        }
        self.note_empty(item, &contents);
        self.artifacts.push((artifact.clone(), FORMAT_TAR, sha256));
        Ok(Some(Kept { databases, ..kept(item, Some(artifact), contents) }))
    }

    /// The databases in it of which there is no dump beside.
    fn undumped(&self, item: &Item, found: &live::FoundDatabases) -> Vec<(Vec<u8>, live::Kind)> {
        let of_a_server = |kind: live::Kind| {
            use live::Kind;
            matches!(kind, Kind::Postgres | Kind::InnoDb | Kind::MyIsam | Kind::RedisLog)
        };
        let has_dump = |name: &[u8], kind| {
            of_a_server(kind)
                && self.data.iter().any(|data| {
                    let at = data.path.as_bytes();
                    data.mount() == volume_of(item)
                        && (name == at || content::lies_below(name, std::slice::from_ref(&data.path)) || at.is_empty())
                })
        };
        let all = found.databases().into_iter().filter(|(name, kind)| !has_dump(name, *kind));
        all.map(|(name, kind)| (name.to_vec(), kind)).collect()
    }

    /// Leaves those that are looked after one by one, and says that there are more.
    fn beyond(&self, item: &Item, all: &mut Vec<(Vec<u8>, live::Kind)>) -> Option<list::Found> {
        let more = all.len().saturating_sub(live::NAMED_MAX);
        all.truncate(live::NAMED_MAX);
        let which = format!("of {more} behind the first {}", live::NAMED_MAX);
        (more > 0).then(|| Still::unlooked(item, self.settings, &which))
    }

    fn in_place(&mut self, item: &Item, quiet: bool, events: &mut EventWriter<'_>) -> Result<Kept, Failure> {
        let covered: Vec<String> =
            item.without.iter().map(|path| literal(&item.source.join(path).display().to_string())).collect();
        let mut survey = Survey::new(&covered, &self.request.own);
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
            Failure::new(codes::VOLUME_UNREADABLE, message).hint(hint)
        })?;
        if let Some(told) = survey.uncounted() {
            events.log(told);
        }
        let contents = Contents {
            entries: survey.files,
            files: survey.files,
            bytes: survey.bytes,
            directory: item.source.is_dir(),
            ..Contents::default()
        };
        self.note_empty(item, &contents);
        let mut databases = Vec::new();
        if !quiet {
            let excluded =
                |path: &std::path::Path| item.without.iter().any(|each| path.starts_with(item.source.join(each)));
            let looked = live::tree::look(std::slice::from_ref(&item.source), &excluded);
            let mut found = live::FoundDatabases::default();
            for each in &looked.databases {
                let name = each.path.strip_prefix(&item.source).unwrap_or(&each.path);
                found.place(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()), each.kind);
            }
            let mut all = self.undumped(item, &found);
            let more = self.beyond(item, &mut all);
            databases = all.into_iter().map(|(name, kind)| Still::unknown(item, self.settings, &name, kind)).collect();
            databases.extend(more);
            if !looked.unknown.is_empty() {
                databases.push(Still::unlooked(item, self.settings, "behind the last file that was looked at"));
            }
        }
        self.sources.push(Source { path: item.source.clone(), exclude: covered });
        Ok(Kept { databases, ..kept(item, None, contents) })
    }

    /// Whether a part of it is the data of a server that has a dump, and so left out.
    fn is_a_servers(&self, item: &Item) -> bool {
        let is_out = |data: &&DataDirectory| item.without.contains(&data.path);
        self.data.iter().filter(is_out).any(|data| data.mount() == volume_of(item))
    }

    fn note_empty(&mut self, item: &Item, contents: &Contents) {
        if contents.files == 0 && !self.is_a_servers(item) {
            self.empty.push(item.name.clone());
        }
    }

    /// Nothing at all is no backup; one empty volume beside others is told by [`Work::tell`].
    fn judge_empty(&self, inventory: &Inventory) -> Result<(), Failure> {
        let all = inventory.dumps.is_empty() && inventory.volumes.iter().all(|kept| kept.contents.files == 0);
        let accepted = |name: &String| self.settings.accept.contains(name);
        match self.empty.first() {
            Some(name) if all && !self.settings.allow_empty && !self.empty.iter().all(accepted) => {
                Err(Failure::new(codes::VOLUME_EMPTY, format!("{name} holds no file at all")).hint(empty_hint(name)))
            }
            _ => Ok(()),
        }
    }

    /// Says what is not in the backup, and what has less than before. What nobody accepted makes the run incomplete.
    pub(super) fn tell(&mut self, chosen: &Chosen, inventory: &mut Inventory, events: &mut EventWriter<'_>) {
        inventory.left_out.sort();
        inventory.left_out.dedup();
        for each in &inventory.left_out {
            events.log(format!("left out: {}: {}", each.what, each.why));
        }
        let of = |by: By| -> Vec<&LeftOut> { inventory.left_out.iter().filter(|each| each.by == by).collect() };
        for each in of(By::Nobody).into_iter().take(LEFT_OUT_NAMED_MAX) {
            let is_bind = each.name.starts_with('/');
            let more = if is_bind { "`binds: all` keeps it; " } else { "" };
            let told = Trouble::new(codes::LEFT_OUT, format!("{} is not in the backup: {}", each.what, each.why));
            events.warning(told.with_hint(format!("{more}if that is right: `accept: [{}]`", each.name)));
        }
        let omitted = of(By::Nobody).len().saturating_sub(LEFT_OUT_NAMED_MAX);
        if omitted > 0 {
            events.warning(Trouble::new(
                codes::LEFT_OUT,
                format!("{omitted} more are not in the backup; inventory.json has all"),
            ));
        }
        let chosen_out = [of(By::Config), of(By::Nature)].concat();
        if !chosen_out.is_empty() {
            let named: Vec<String> = chosen_out
                .iter()
                .take(LEFT_OUT_NAMED_MAX)
                .map(|each| format!("{} ({})", each.what, each.why))
                .collect();
            let more = chosen_out.len().saturating_sub(LEFT_OUT_NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            events.notice(Trouble::new(codes::LEFT_OUT, format!("not in the backup: {}{more}", named.join("; "))));
        }
        if !self.without_attributes.is_empty() {
            let told = "the engine hands out files without extended attributes and lists of access (ACLs)";
            let all = self.without_attributes.join(", ");
            events.notice(Trouble::new(codes::ATTRIBUTES_NOT_KEPT, format!("{told}: {all}")).with_hint(
                "where files have such ones, let the daemon's user read the volumes' directories on this host",
            ));
        }
        for name in &self.empty {
            let told = Trouble::new(codes::VOLUME_EMPTY, format!("{name} holds no file at all"));
            if self.settings.allow_empty || self.settings.accept.contains(name) {
                events.notice(told);
            } else {
                events.warning(told.with_hint(empty_hint(name)));
            }
        }
        if self.settings.databases == Databases::Auto && !matches!(chosen, Chosen::Volumes(_)) {
            self.compare(chosen, events);
        }
    }

    /// Compares what databases have with what they had.
    fn compare(&mut self, chosen: &Chosen, events: &mut EventWriter<'_>) {
        let before = self.request.previous.as_ref().map(|facts| facts.figures.clone()).unwrap_or_default();
        // Containers that the config is not about any more are no loss.
        if let Chosen::Containers(names) = chosen {
            let of_others = before.keys().filter_map(|name| Some(name.split_once('.')?.1.split_once('/')?.0));
            let others: Vec<String> =
                of_others.filter(|name| !names.iter().any(|each| each == name)).map(str::to_owned).collect();
            self.stock.unasked.extend(others);
        }
        let compared = self.stock.compare(&before, &self.settings.accept);
        compared.warnings.into_iter().for_each(|each| events.warning(each));
        compared.accepted.into_iter().chain(compared.notices).for_each(|each| events.notice(each));
        for (name, value) in compared.figures {
            events.figure(name, value);
        }
    }

    pub(super) fn make_directory(&self, name: &str) -> Result<(), Failure> {
        let path = self.request.staging.join(name);
        std::fs::create_dir_all(&path).map_err(|error| unwritable(&path, &error))
    }
}

fn empty_hint(name: &str) -> String {
    format!(
        "if it may be empty: `accept: [{name}]`, or `allow_empty: true` for all; if it is a cache: `exclude: [{name}]`; else look what became of it"
    )
}

/// The volume's own name, of which it may be a directory only.
fn volume_of(item: &Item) -> &str {
    let subpath = item.subpath.as_ref().and_then(|subpath| item.name.strip_suffix(subpath.as_str())?.strip_suffix('/'));
    subpath.unwrap_or(&item.name)
}

/// A pattern that matches this path alone.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
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
        subpath: item.subpath.clone(),
        without: item.without.clone(),
        databases: Vec::new(),
    }
}
