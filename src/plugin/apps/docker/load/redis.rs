//! The dump of a Redis or Valkey in a container goes back as the file that it reads at its start.
//!
//! A server that runs would write its own data over the file, so it stands still meanwhile. Where it keeps an append-only
//! file, it reads that and not the dump: then the dump becomes the base of a new one. Nothing of the old is removed: an
//! engine can only put files in, so the old dump gets a second name and old parts of an append-only file stay where they
//! are, and what names them is saved first and put back when the server does not come up with what the dump holds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Place, READY_MAX, READY_TICK, start, stopped, until_ready};
use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::database::{self, Login, words};
use crate::plugin::apps::docker::inventory::{Container, State};
use crate::plugin::apps::docker::list::Dump;
use crate::plugin::apps::docker::{exec, halt, rdb, unwritable};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::redis::compare::{self, Compared};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Step, Verb, Verdict};

/// How long a container may stand still before it counts as one that does not come up.
const ENDED_MAX: Duration = Duration::from_secs(10);
/// How long it may read its file.
const LOADING_MAX: Duration = Duration::from_hours(6);
/// An RDB file of nothing, which every version reads.
const NOTHING: &[u8] = b"REDIS0006\xff\0\0\0\0\0\0\0\0";
const CLI: &str = "p=redis-cli; command -v $p >/dev/null 2>&1 || p=valkey-cli; exec $p \"$@\"";

/// A server and its dump.
pub(in crate::plugin::apps::docker) struct Server {
    pub(super) container: Container,
    pub(super) dump: Dump,
    number: usize,
    /// None while it is not known.
    layout: Option<Layout>,
}

/// Where it keeps what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    directory: String,
    file: String,
    log: Option<AppendOnly>,
    owner: (u64, u64),
    keys: u64,
    /// It writes its keys into its dump before it ends.
    saves: bool,
}

impl Layout {
    /// Whether a stop loses nothing.
    fn is_saved(&self) -> bool {
        self.saves || self.log.is_some()
    }
}

/// The append-only file that it reads instead of the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AppendOnly {
    /// Of version 7 and newer: where the parts lie.
    directory: Option<String>,
    file: String,
}

/// What is put back.
pub(in crate::plugin::apps::docker) struct Loaded {
    container: Container,
    artifact: PathBuf,
    new: PathBuf,
    entry: String,
    note: Note,
    kept: String,
}

/// What undoes it.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    /// The container's id.
    redis: String,
    name: String,
    directory: String,
    /// The archive of what is replaced, with names below the directory.
    before: PathBuf,
    /// What is replaced was to be saved first: the files may be the new ones already, or the keys be in no file at all.
    changed: bool,
    /// It was not stopped yet.
    #[serde(default)]
    early: bool,
}

impl Server {
    pub(super) fn new(container: Container, dump: Dump, number: usize) -> Self {
        Self { container, dump, number, layout: None }
    }

    pub(super) fn full(&self) -> Vec<String> {
        let full = self.layout.iter().filter(|layout| layout.keys > 0);
        full.map(|layout| format!("{} keys in {}", layout.keys, self.container.name)).collect()
    }

    /// Looks at the dump.
    pub(super) fn read(&self, staging: &Path) -> Result<(), Failure> {
        let artifact = staging.join(&self.dump.artifact);
        rdb::trim(&artifact).map_err(|error| unwritable(&artifact, &error))?;
        let told = rdb::look(&artifact).map_err(|error| unwritable(&artifact, &error))?;
        if told.is_damaged() {
            return Err(Failure::new(codes::DUMP_DAMAGED, format!("{} is no whole RDB file", artifact.display()))
                .hint("nothing was changed; take another snapshot"));
        }
        Ok(())
    }

    /// Looks at where it keeps what.
    pub(super) fn ask(&mut self, engine: &Engine, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let what = format!("the Redis in {}", self.container.name);
        let layout = until_ready(&what, events, || {
            let asked = Asked::open(engine, &self.container)?;
            asked.layout()
        })?;
        self.layout = Some(layout);
        Ok(())
    }

    /// What a restore does, as far as it is known.
    pub(super) fn step(&self, overwrite: bool, run: &str) -> Step {
        let thing = format!("all keys in {}", self.container.name);
        let Some(layout) = &self.layout else {
            return Step::new(Verb::Create, thing, "the server does not run, so what is in it is not known");
        };
        let how = match &layout.log {
            Some(_) => "it becomes the base of its append-only file; the old parts stay there",
            None => "it becomes the file that the server reads at its start",
        };
        let how = if layout.is_saved() {
            how.to_owned()
        } else {
            format!("{how}; it saves nothing when it stops, so its keys are dumped first")
        };
        let kept = format!("{}/{}", layout.directory, kept_name(run));
        let (verb, detail) = match (layout.keys > 0, overwrite) {
            (true, true) => (
                Verb::Replace,
                format!(
                    "{} keys are there; {how}; the server stands still meanwhile; the old dump is kept as {kept}",
                    layout.keys
                ),
            ),
            (true, false) => {
                (Verb::Replace, format!("{} keys are there, so this is refused without `overwrite`", layout.keys))
            }
            (false, _) => (Verb::Create, format!("{how}; the server stands still meanwhile")),
        };
        Step::new(verb, thing, detail)
    }

    /// Dumps the keys of a server that would not save them when it is stopped.
    pub(super) fn keep(&self, engine: &Engine, place: &Place<'_>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Some(layout) = self.layout.as_ref().filter(|layout| !layout.is_saved() && layout.keys > 0) else {
            return Ok(());
        };
        let live = self.live(place);
        Asked::open(engine, &self.container)?.dump(&live, events)?;
        rdb::trim(&live).map_err(|error| unwritable(&live, &error))?;
        if rdb::look(&live).map_err(|error| unwritable(&live, &error))?.is_damaged() {
            let told =
                format!("the Redis in {} saves nothing when it stops, and gives no whole dump", self.container.name);
            let _ = std::fs::remove_file(&live);
            return Err(
                Failure::new(codes::NOT_KEPT, told).hint("nothing was changed; look at its log, or set `save` in it")
            );
        }
        let before = self.before(place);
        let pack = Pack { engine, container: &self.container, layout, run: place.run };
        let packed = File::create(&before).map(tar::Builder::new).and_then(|mut builder| {
            pack.file(&mut builder, &layout.file, &live)?;
            builder.into_inner()?.sync_all()
        });
        packed.map_err(|error| unwritable(&before, &error))?;
        place.journal.note(&self.entry(), &self.note(layout, before, true))
    }

    fn entry(&self) -> String {
        format!("redis-{:05}", self.number)
    }

    /// The keys of the live server.
    fn live(&self, place: &Place<'_>) -> PathBuf {
        place.journal.directory().join(format!("{}.rdb", self.entry()))
    }

    /// The archive of what is replaced; it outlives this process.
    fn before(&self, place: &Place<'_>) -> PathBuf {
        place.journal.directory().join(format!("{}.tar", self.entry()))
    }

    fn note(&self, layout: &Layout, before: PathBuf, early: bool) -> Note {
        let (redis, name) = (self.container.id.clone(), self.container.name.clone());
        Note { redis, name, directory: layout.directory.clone(), before, changed: early, early }
    }

    /// Saves what will be replaced, and makes ready what comes; the server stands still by now.
    pub(super) fn prepare(
        &self,
        engine: &Engine,
        place: &Place<'_>,
        loaded: &mut Vec<super::Loaded>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Some(layout) = &self.layout else { return Ok(()) };
        stopped(engine, &self.container.id, events)?;
        let at = |what: &str| place.staging.join(format!(".larder-redis-{}-{what}.tar", self.number));
        let artifact = place.staging.join(&self.dump.artifact);
        let live = Some(self.live(place)).filter(|path| path.is_file());
        // The one that is there stays whole until the other is.
        let paths = Paths { before: at("before"), new: at("new"), scratch: at("scratch") };
        let pack = Pack { engine, container: &self.container, layout, run: place.run };
        pack.all(&artifact, live.as_deref(), &paths, events)?;
        let before = self.before(place);
        let half = before.with_extension("half");
        std::fs::copy(&paths.before, &half)
            .and_then(|_| File::open(&half)?.sync_all())
            .and_then(|()| std::fs::rename(&half, &before))
            .map_err(|error| unwritable(&before, &error))?;
        let _ = std::fs::remove_file(&paths.before);
        let mut note = self.note(layout, before, false);
        note.changed = live.is_some();
        let entry = self.entry();
        place.journal.note(&entry, &note)?;
        let kept = format!("{}/{}", layout.directory, kept_name(place.run));
        let (container, new) = (self.container.clone(), paths.new);
        loaded.push(super::Loaded::Redis(Box::new(Loaded { container, artifact, new, entry, note, kept })));
        Ok(())
    }
}

impl Loaded {
    /// Puts the files in, and has the server come up with them.
    pub(super) fn swap(
        &mut self,
        engine: &Engine,
        at: &Place<'_>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        self.note.changed = true;
        at.journal.note(&self.entry, &self.note)?;
        engine.load(&self.container.id, &self.note.directory, &self.new)?;
        start(engine, &self.container)?;
        let asked = up(engine, &self.container, events)?;
        let name = &self.container.name;
        let again = at.staging.join(".larder-redis-again.rdb");
        let taken = asked.dump(&again, events);
        let compared = match taken {
            Ok(()) => compare::compare(None, &self.artifact, &again, None),
            Err(failure) => Compared::Unknown(failure.trouble.message),
        };
        let _ = std::fs::remove_file(&again);
        let (verdict, detail) = match compared {
            Compared::Same(detail) => (Verdict::Proven, detail),
            Compared::Unknown(why) => (Verdict::CouldNotVerify, why),
            Compared::Different(why) => {
                let told = format!("the Redis in {name} has not what the dump holds: {why}");
                return Err(Failure::new(codes::RESTORE_DIFFERS, told).hint(
                    "what was there is there again; does something outside of the target write to it? stop that first",
                ));
            }
        };
        events.validation(format!("{name} holds what the dump does"), verdict, detail);
        let keys = asked.layout().map_or(0, |layout| layout.keys);
        let detail = format!("{keys} keys; the old dump, if there was one, is kept as {}", self.kept);
        events.step(Verb::Replace, format!("all keys in {name}"), detail);
        Ok(())
    }

    pub(super) fn finish(self, at: &Place<'_>) -> Result<(), Failure> {
        done(at.journal, &self.entry)
    }
}

/// Removes an entry with what was kept for it.
fn done(journal: &Journal, entry: &str) -> Result<(), Failure> {
    journal.done(entry)?;
    for kind in ["rdb", "tar", "half"] {
        let _ = std::fs::remove_file(journal.directory().join(format!("{entry}.{kind}")));
    }
    Ok(())
}

/// Puts right what a restore that was killed left.
pub(super) fn recover(
    engine: &Engine,
    journal: &Journal,
    (entry, value): (&str, serde_json::Value),
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let note: Note = serde_json::from_value(value).map_err(|error| {
        Failure::new(codes::JOURNAL_UNREADABLE, format!("the note {entry} of the journal cannot be read: {error}"))
    })?;
    let is_there = engine.inspect(&note.redis)?.is_some();
    // One that was never stopped has its keys, and newer ones.
    if !committed && note.changed && is_there && !(note.early && halt::goes_on(engine, journal, &note.redis, events)?) {
        stopped(engine, &note.redis, events)?;
        engine.load(&note.redis, &note.directory, &note.before)?;
        events.log(format!("the files of {} are what they were", note.name));
    }
    done(journal, entry)
}

/// Waits until a server that was started has read its files.
fn up<'e>(engine: &'e Engine, container: &'e Container, events: &mut EventWriter<'_>) -> Result<Asked<'e>, Failure> {
    let started = Instant::now();
    let (mut last_heard, mut last_seen) = (Instant::now(), Instant::now());
    loop {
        let opened = Asked::open(engine, container);
        let asked = opened.and_then(|asked| Ok((asked.ask(&["INFO", "persistence"])?, asked)));
        let last = match asked {
            Ok((told, asked)) if told.lines().any(|line| line.trim() == "loading:0") => return Ok(asked),
            Ok((told, _)) => {
                if told.contains("loading:1") || told.contains("LOADING") {
                    last_heard = Instant::now();
                }
                told
            }
            Err(failure) => failure.trouble.message,
        };
        if engine.inspect(&container.id)?.as_ref().map(State::of) == Some(State::Running) {
            last_seen = Instant::now();
        }
        if last_seen.elapsed() > ENDED_MAX || last_heard.elapsed() > READY_MAX || started.elapsed() > LOADING_MAX {
            let said = crate::plugin::kit::tidy::tidy(last.lines().next().unwrap_or_default(), 300);
            return Err(Failure::new(
                codes::SERVER_NOT_READY,
                format!("the Redis in {} does not come up with the restored dump: {said}", container.name),
            )
            .hint("what was there is there again; look at the container's log: it may be older than the dump"));
        }
        events.progress(0, 0);
        std::thread::sleep(READY_TICK);
    }
}

/// The way to talk to a server.
struct Asked<'e> {
    engine: &'e Engine,
    container: &'e Container,
    env: Vec<(String, SecretString)>,
}

impl<'e> Asked<'e> {
    fn open(engine: &'e Engine, container: &'e Container) -> Result<Self, Failure> {
        // Its password may be in a file that only a running container shows.
        let env = database::redis_env(&Login { engine, container })?;
        Ok(Self { engine, container, env })
    }

    fn ask(&self, command: &[&str]) -> Result<String, Failure> {
        let login = Login { engine: self.engine, container: self.container };
        let all: Vec<&str> = ["sh", "-c", CLI, "larder"].iter().chain(command).copied().collect();
        login.ask(&all, self.env.clone(), "what the server has")
    }

    /// A setting; none: it does not know it.
    fn setting(&self, name: &str) -> Result<Option<String>, Failure> {
        let told = self.ask(&["CONFIG", "GET", name])?;
        let mut lines = told.lines();
        if lines.next().is_none_or(|first| first.trim() != name) {
            return Ok(None);
        }
        Ok(lines.next().map(|value| value.trim_end().to_owned()).filter(|value| !value.is_empty()))
    }

    fn layout(&self) -> Result<Layout, Failure> {
        let login = Login { engine: self.engine, container: self.container };
        let name = &self.container.name;
        let plain = |text: &String| !text.contains(['/', '"', '\'', ' ', '\n']) && !text.starts_with('.');
        let unknown = |what: &str| {
            Failure::new(codes::LAYOUT_UNKNOWN, format!("the Redis in {name} does not tell {what}"))
                .hint("allow CONFIG GET, or put the dump back by hand: `larder restore TARGET --to DIR`")
        };
        let directory = self.setting("dir")?.filter(|path| path.starts_with('/')).ok_or_else(|| unknown("`dir`"))?;
        let file = self.setting("dbfilename")?.filter(plain).ok_or_else(|| unknown("`dbfilename`"))?;
        let log = match self.setting("appendonly")?.as_deref() {
            Some("yes") => {
                let file = self.setting("appendfilename")?.filter(plain).ok_or_else(|| unknown("`appendfilename`"))?;
                Some(AppendOnly { directory: self.setting("appenddirname")?.filter(plain), file })
            }
            _ => None,
        };
        let listed = login.ask(&["ls", "-ldn", &directory], Vec::new(), "its directory")?;
        let mut columns = listed.split_whitespace().skip(2).map(|column| column.parse::<u64>().ok());
        let owner = columns.next().flatten().zip(columns.next().flatten()).ok_or_else(|| unknown("its owner"))?;
        let keyspace = self.ask(&["INFO", "keyspace"])?;
        let count =
            |line: &str| line.split_once(":keys=").and_then(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok());
        let at_end = self.setting("shutdown-on-sigterm")?.unwrap_or_default();
        let saves = self.setting("save")?.is_some() && !at_end.contains("nosave");
        Ok(Layout { directory, file, log, owner, keys: keyspace.lines().filter_map(count).sum(), saves })
    }

    /// Has it write all its keys into a file here.
    fn dump(&self, into: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        use std::io::Write as _;
        let mut file = File::create(into).map_err(|error| unwritable(into, &error))?;
        let command = words(&["sh", "-c", CLI, "larder", "--rdb", "-"]);
        let program = exec::Program { container: &self.container.id, command, env: self.env.clone() };
        let ran = exec::run(self.engine, &program, &mut |bytes| {
            events.progress(0, 0);
            file.write_all(bytes).map_err(|error| unwritable(into, &error))
        })?;
        if ran.code == 0 {
            return Ok(());
        }
        let said = crate::plugin::kit::tidy::tidy(ran.stderr.lines().next_back().unwrap_or_default(), 300);
        Err(Failure::new(codes::DUMP_FAILED, format!("a new dump of {} failed: {said}", self.container.name)))
    }
}

/// The second name of the old dump; it counts as one of the server's own files.
fn kept_name(run: &str) -> String {
    format!("before-{}.rdb", run.to_lowercase())
}

/// The archives that are made.
struct Paths {
    before: PathBuf,
    new: PathBuf,
    scratch: PathBuf,
}

/// Packs what comes, and what would be put back.
struct Pack<'p> {
    engine: &'p Engine,
    container: &'p Container,
    layout: &'p Layout,
    run: &'p str,
}

impl Pack<'_> {
    /// `live` is the dump of a server that saved none itself.
    fn all(
        &self,
        artifact: &Path,
        live: Option<&Path>,
        paths: &Paths,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let layout = self.layout;
        let create = |path: &Path| File::create(path).map(tar::Builder::new).map_err(|error| unwritable(path, &error));
        let (mut before, mut new) = (create(&paths.before)?, create(&paths.new)?);
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| unwritable(&path, &error)
        };
        // The old ones first: their second names, and what puts them back.
        let second = kept_name(self.run);
        if let Some(live) = live {
            let packed = self.file(&mut before, &layout.file, live).and_then(|()| self.file(&mut new, &second, live));
            packed.map_err(broken(&paths.before))?;
        } else if !self.save(&layout.file, &second, (&mut before, &mut new), paths, events)? {
            // What was not there cannot be removed again: a dump of nothing is the same.
            self.bytes(&mut before, &layout.file, NOTHING).map_err(broken(&paths.before))?;
        }
        self.file(&mut new, &layout.file, artifact).map_err(broken(&paths.new))?;
        match &layout.log {
            None => {}
            Some(AppendOnly { directory: None, file }) => {
                let second = format!("before-{}.aof", self.run.to_lowercase());
                if !self.save(file, &second, (&mut before, &mut new), paths, events)? {
                    self.bytes(&mut before, file, b"").map_err(broken(&paths.before))?;
                }
                // An append-only file may begin with a dump.
                self.file(&mut new, file, artifact).map_err(broken(&paths.new))?;
            }
            Some(AppendOnly { directory: Some(directory), file }) => {
                let manifest = format!("{directory}/{file}.manifest");
                let second = format!("{directory}/before-{}.manifest", self.run.to_lowercase());
                if !self.save(&manifest, &second, (&mut before, &mut new), paths, events)? {
                    return Err(Failure::new(
                        codes::LAYOUT_UNKNOWN,
                        format!("{}/{manifest} is not in {}", layout.directory, self.container.name),
                    )
                    .hint("nothing was changed; start the server once, so that it makes its append-only file"));
                }
                // Its own number: none of the files that are there has it.
                let number = jiff::Timestamp::now().as_second();
                let (base, next) = (format!("{file}.{number}.base.rdb"), format!("{file}.{number}.incr.aof"));
                let text = format!("file {base} seq {number} type b\nfile {next} seq {number} type i\n");
                self.file(&mut new, &format!("{directory}/{base}"), artifact)
                    .and_then(|()| self.bytes(&mut new, &format!("{directory}/{next}"), b""))
                    .and_then(|()| self.bytes(&mut new, &manifest, text.as_bytes()))
                    .map_err(broken(&paths.new))?;
            }
        }
        for (builder, path) in [(before, &paths.before), (new, &paths.new)] {
            builder.into_inner().and_then(|file| file.sync_all()).map_err(broken(path))?;
        }
        Ok(())
    }

    /// Saves a file of the server, and gives it a second name; answers whether there is one.
    fn save(
        &self,
        name: &str,
        second: &str,
        (before, new): (&mut tar::Builder<File>, &mut tar::Builder<File>),
        paths: &Paths,
        events: &mut EventWriter<'_>,
    ) -> Result<bool, Failure> {
        let path = format!("{}/{name}", self.layout.directory);
        let saved = self.engine.save(&self.container.id, &path, &paths.scratch, |done, _| events.progress(done, 0))?;
        if saved.is_none() {
            return Ok(false);
        }
        let copy = |into: &mut tar::Builder<File>, name: &str| -> std::io::Result<()> {
            let mut archive = tar::Archive::new(File::open(&paths.scratch)?);
            let mut entries = archive.entries()?;
            let entry = entries.next().ok_or_else(|| std::io::Error::other("the engine's archive is empty"))??;
            let mut header = entry.header().clone();
            into.append_data(&mut header, name, entry)
        };
        let copied = copy(before, name).and_then(|()| copy(new, second));
        let _ = std::fs::remove_file(&paths.scratch);
        copied.map_err(|error| unwritable(&paths.new, &error))?;
        Ok(true)
    }

    fn header(&self, bytes: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(0o640);
        header.set_uid(self.layout.owner.0);
        header.set_gid(self.layout.owner.1);
        header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));
        header
    }

    fn file(&self, into: &mut tar::Builder<File>, name: &str, from: &Path) -> std::io::Result<()> {
        let file = File::open(from)?;
        let mut header = self.header(file.metadata()?.len());
        into.append_data(&mut header, name, file)
    }

    fn bytes(&self, into: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut header = self.header(bytes.len() as u64);
        into.append_data(&mut header, name, bytes)
    }
}
