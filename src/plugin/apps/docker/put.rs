//! One volume or bind mount gets exactly what the backup has; what was there stays beside.
//!
//! Where the volume's directory can be reached on this host (as root, and proven to be the one that the container has),
//! the archive is unpacked beside it, read back, compared, and only then put in its place (see [`crate::plugin::kit::exact`]).
//! So nothing goes through the container: not into what other mounts of it cover, and not into a mount that is read-only.
//! Elsewhere the engine has to unpack it: then a copy of what is there is saved first and put back on a failure. An
//! engine can remove nothing, so what cannot be left safely is refused before anything is changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::content::{self, Contents, Only};
use crate::plugin::apps::docker::holes;
use crate::plugin::apps::docker::read;
use crate::plugin::apps::docker::restore::place::Place;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::exact::{self, Swap};
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::sqlite_files::BESIDE;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::protocol::{Verb, Verdict};
use crate::process::Exit;

/// Names that are told of many.
const NAMES_MAX: usize = 5;
/// Files that only the data directory of a database server has.
const SERVERS: [&[u8]; 6] =
    [b"PG_VERSION", b"ibdata1", b"aria_log_control", b"dump.rdb", b"appendonlydir", b"WiredTiger"];

/// What is left to do for one of them.
pub(super) struct Part {
    pub(super) place: Place,
    /// The archive with names relative to its root, without what is left alone.
    rebased: PathBuf,
    wanted: Contents,
    /// Files beside databases that only the live volume has, and that the engine cannot remove.
    companions: Vec<Vec<u8>>,
    entry: String,
    note: Note,
}

/// The journal's note of a volume that is changed.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    volume: Way,
    shown: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// On this host.
    Here(Swap),
    /// Through a container; where the copy of what is there lies.
    Through { container: String, destination: String, before: PathBuf, changed: bool },
}

/// One that nothing stands against, as far as can be seen without touching it.
pub(super) struct Checked {
    pub(super) place: Place,
    number: usize,
    rebased: PathBuf,
    wanted: Contents,
    /// Whether its directory is reached on this host.
    is_here: bool,
}

impl Checked {
    /// Looks at everything that could keep it from being put back; nothing outside of `staging` is touched.
    pub(super) fn of(
        engine: &Engine,
        place: Place,
        number: usize,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<Self, Failure> {
        let tar = staging.join(&place.artifact);
        let shown = place.shown();
        let kept = &place.kept.contents;
        let found = content::read(&tar, &Only::All, &mut |_| events.progress(0, 0))?;
        if found.digest != kept.digest || found.owners != kept.owners {
            return Err(Failure::new(
                codes::ARCHIVE_DAMAGED,
                format!("the archive of {shown} is not what was captured"),
            )
            .hint("nothing was changed; take another snapshot"));
        }
        let rebased = staging.join(format!(".larder-restore-{number}.tar"));
        let left_out = content::rebase(&tar, &rebased, &place.without)?;
        if left_out > 0 {
            let container = &place.container_name;
            events.log(format!("{shown}: {left_out} entries are left out: other mounts of {container} cover them"));
        }
        let wanted = content::read(&rebased, &Only::All, &mut |_| {})?;
        let is_here = is_here(engine, &place)?;
        if is_here {
            let room = exact::room_at(&place.source).map_err(|error| unreachable_here(&place.source, &error))?;
            has_room(&place, &wanted, room)?;
        } else if !place.writable {
            return Err(Failure::new(codes::VOLUME_READ_ONLY, format!("every container mounts {shown} read-only"))
                .hint(
                    "nothing was changed; restore on the engine's host as root, or start a container that may write",
                ));
        }
        Ok(Self { place, number, rebased, wanted, is_here })
    }

    /// Makes ready to put it back: how its directory can be exchanged is tried beside it.
    pub(super) fn part(self, staging: &Path, run: &str) -> Result<Part, Failure> {
        let Self { place, number, rebased, wanted, is_here } = self;
        let shown = place.shown();
        let way = if is_here {
            let swap = Swap::plan(&place.source, run, &place.without)
                .map_err(|error| unreachable_here(&place.source, &error))?;
            // It may have become less since.
            let room = swap.room().map_err(|error| unreachable_here(&place.source, &error))?;
            has_room(&place, &wanted, room)?;
            Way::Here(swap)
        } else {
            Way::Through {
                container: place.container.clone(),
                destination: place.destination.clone(),
                before: staging.join(format!(".larder-before-{number}.tar")),
                changed: false,
            }
        };
        let entry = format!("volume-{number:05}");
        Ok(Part { place, rebased, wanted, companions: Vec::new(), entry, note: Note { volume: way, shown } })
    }
}

fn has_room(place: &Place, wanted: &Contents, room: u64) -> Result<(), Failure> {
    if room >= wanted.bytes {
        return Ok(());
    }
    let (needed, there) = (crate::types::ByteSize(wanted.bytes), crate::types::ByteSize(room));
    let told =
        format!("{} needs {needed} beside what is there, and {} has {there}", place.shown(), place.source.display());
    Err(Failure::new(codes::DISK_FULL, told).hint("nothing was changed; make room there"))
}

impl Part {
    /// Makes the new content ready and compares it, or saves what is there; the live data stays as it is.
    pub(super) fn prepare(
        &mut self,
        engine: &Engine,
        journal: &Journal,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self.note.volume.clone() {
            Way::Here(swap) => {
                swap.prepare(&mut self.noting(journal)).map_err(|broken| broken.of(&self.note.shown))?;
                unpack(&self.rebased, swap.new_content(), events)?;
                holes::dig(swap.new_content(), &mut || events.progress(0, 0));
                let back = staging.join(".larder-read-back.tar");
                let at = read::Place { source: swap.new_content(), without: &[], ..self.place.read_at() };
                let compared = read::by_tar(&at, &back, &mut |bytes| events.progress(bytes, 0))
                    .and_then(|_| self.compare(&back, &Only::All, events));
                let _ = fs::remove_file(&back);
                compared
            }
            Way::Through { before, .. } => {
                if read::save(engine, &self.place.read_at(), &before, &mut |bytes| events.progress(bytes, 0))?.is_none()
                {
                    return Err(Failure::new(codes::VOLUME_MISSING, format!("{} cannot be read", self.note.shown)));
                }
                self.judge_extras(&before)
            }
        }
    }

    /// What is there and not in the backup, where it cannot be removed.
    fn judge_extras(&mut self, before: &Path) -> Result<(), Failure> {
        let extras = self.extras(before)?;
        let is_server =
            |name: &[u8]| SERVERS.iter().any(|each| name.split(|byte| *byte == b'/').any(|part| part == *each));
        let names = self.names()?;
        if extras.iter().any(|name| !is_companion(name, &names)) && names.iter().any(|name| is_server(name)) {
            return Err(Failure::new(
                codes::EXTRA_FILES,
                format!(
                    "{} has files that the backup has not ({}), and the engine can remove none",
                    self.note.shown,
                    told(&extras)
                ),
            )
            .hint("nothing was changed; empty the volume first, or restore on the engine's host as root"));
        }
        self.companions = extras.into_iter().filter(|name| is_companion(name, &names)).collect();
        Ok(())
    }

    fn names(&self) -> Result<BTreeSet<Vec<u8>>, Failure> {
        names_in(&self.rebased)
    }

    fn extras(&self, live: &Path) -> Result<Vec<Vec<u8>>, Failure> {
        let names = self.names()?;
        let left_alone = |name: &[u8]| content::lies_below(name, &self.place.without);
        Ok(names_in(live)?.into_iter().filter(|name| !names.contains(name) && !left_alone(name)).collect())
    }

    /// Puts the new content in its place.
    pub(super) fn swap(
        &mut self,
        engine: &Engine,
        journal: &Journal,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match self.note.volume.clone() {
            Way::Here(mut swap) => {
                let done = swap.swap(&mut self.noting(journal)).map_err(|broken| broken.of(&self.note.shown));
                self.note.volume = Way::Here(swap);
                done
            }
            Way::Through { container, destination, before, .. } => {
                self.note.volume = Way::Through {
                    container: container.clone(),
                    destination: destination.clone(),
                    before: before.clone(),
                    changed: true,
                };
                journal.note(&self.entry, &self.note)?;
                engine.load(&container, &destination, &self.rebased)?;
                if !self.companions.is_empty() {
                    let empty = staging.join(".larder-empty.tar");
                    content::empties(&self.rebased, &empty, &self.companions)?;
                    engine.load(&container, &destination, &empty)?;
                }
                self.root_through(engine, &container, &destination, staging, events);
                let back = staging.join(".larder-read-back.tar");
                let saved = read::save(engine, &self.place.read_at(), &back, &mut |bytes| events.progress(bytes, 0));
                let looked = saved.and_then(|_| self.look_through(&back, events));
                let _ = fs::remove_file(&back);
                looked
            }
        }
    }

    /// Engines leave the directory itself as it is when they unpack into it; unpacked above it, it is one of the members.
    fn root_through(
        &self,
        engine: &Engine,
        container: &str,
        destination: &str,
        staging: &Path,
        events: &mut EventWriter<'_>,
    ) {
        let Some(name) = Path::new(destination).file_name().and_then(|name| name.to_str()) else { return };
        let parent = Path::new(destination).parent().and_then(Path::to_str).unwrap_or("/");
        let above = staging.join(".larder-root.tar");
        let loaded = content::root_only(&self.rebased, &above, name)
            .and_then(|written| if written { engine.load(container, parent, &above) } else { Ok(()) });
        let _ = fs::remove_file(&above);
        if let Err(failure) = loaded {
            events.log(format!("the directory of {} itself: {}", self.note.shown, failure.trouble.message));
        }
    }

    fn look_through(&self, back: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let extras = self.extras(back)?;
        let names = self.names()?;
        let own = names.iter().cloned().collect();
        self.compare(back, &Only::Names(&own), events)?;
        let others: Vec<Vec<u8>> = extras.into_iter().filter(|name| !is_companion(name, &names)).collect();
        if !others.is_empty() {
            let detail = format!("{} other files stay, the engine can remove none: {}", others.len(), told(&others));
            events.validation(format!("{} has nothing else", self.note.shown), Verdict::CouldNotVerify, detail);
        }
        Ok(())
    }

    /// Fails when what would be (or is) there is not what the backup has.
    fn compare(&self, back: &Path, only: &Only<'_>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let (shown, wanted) = (&self.place.kept.name, &self.wanted);
        let found = content::read(back, only, &mut |_| events.progress(0, 0))?;
        let same = found.digest == wanted.digest
            || content::canonical(back, only)? == content::canonical(&self.rebased, &Only::All)?;
        if !same || found.entries != wanted.entries {
            let told = format!("{shown} would not be as it was: {} of {} files, or others", found.files, wanted.files);
            return Err(Failure::new(codes::RESTORE_DIFFERS, told).hint(
                "what was there is there again; look whether the disk has room and whether names fit its file system",
            ));
        }
        events.validation(
            format!("{shown} reads back as it was"),
            Verdict::Proven,
            format!("{} files, {} bytes", found.files, found.bytes),
        );
        let (verdict, detail) = match content::differs_in_rights(wanted, &found) {
            None => (Verdict::Proven, "every one, and those of its own directory"),
            Some(what) => (Verdict::CouldNotVerify, what),
        };
        events.validation(format!("owners and modes of {shown}"), verdict, detail);
        Ok(())
    }

    /// Says what was done, when all of it is.
    pub(super) fn finish(&self, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let files = self.wanted.files;
        let verb = if self.place.filled { Verb::Replace } else { Verb::Create };
        let detail = match &self.note.volume {
            Way::Here(swap) => match swap.finish() {
                Ok(Some(kept)) => format!("{files} files; what was there is kept as {}", kept.display()),
                Ok(None) => format!("{files} files"),
                Err(error) => {
                    let old = swap.old_content().display();
                    events.warning(Trouble::new(codes::LEFT_BEHIND, format!("{old} cannot be cleared: {error}")));
                    format!("{files} files")
                }
            },
            Way::Through { .. } => format!("{files} files, through {}", self.place.container_name),
        };
        events.step(verb, self.note.shown.clone(), detail);
        journal.done(&self.entry)
    }

    fn noting<'j>(&self, journal: &'j Journal) -> impl FnMut(&Swap) -> Result<(), Broken> + use<'j> {
        noting(journal, self.entry.clone(), self.note.shown.clone())
    }
}

fn noting(journal: &Journal, entry: String, shown: String) -> impl FnMut(&Swap) -> Result<(), Broken> {
    move |swap| {
        journal.note(&entry, &Note { volume: Way::Here(swap.clone()), shown: shown.clone() }).map_err(Broken::Noted)
    }
}

fn undo(
    engine: &Engine,
    journal: &Journal,
    entry: &str,
    note: &mut Note,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let shown = note.shown.clone();
    match &mut note.volume {
        Way::Here(swap) => {
            let mut noting = noting(journal, entry.to_owned(), shown.clone());
            swap.undo(&mut noting).map_err(|broken| broken.of(&shown))?;
        }
        Way::Through { container, destination, before, changed } => {
            if *changed && before.exists() {
                let rebased = before.with_extension("again.tar");
                let put = content::rebase(before, &rebased, &[]);
                let put = put.and_then(|_| engine.load(container, destination, &rebased));
                let _ = fs::remove_file(&rebased);
                put?;
            }
        }
    }
    events.log(format!("{shown} is what it was"));
    journal.done(entry)
}

/// Puts right what a restore that was killed left; `committed`: it had come to its end.
pub(super) fn recover(
    engine: &Engine,
    journal: &Journal,
    committed: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    for (entry, value) in journal.entries::<serde_json::Value>()?.into_iter().rev() {
        if value.get("volume").is_none() {
            continue;
        }
        let mut note: Note = serde_json::from_value(value).map_err(|error| {
            Failure::new(codes::JOURNAL_UNREADABLE, format!("the note {entry} of the journal cannot be read: {error}"))
        })?;
        if committed {
            if let Way::Here(swap) = &note.volume {
                let _ = swap.finish();
            }
            journal.done(&entry)?;
        } else {
            undo(engine, journal, &entry, &mut note, events)?;
        }
    }
    Ok(())
}

/// What failed while a directory was changed.
enum Broken {
    Disk(io::Error),
    Noted(Failure),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Broken {
    fn of(self, shown: &str) -> Failure {
        match self {
            Self::Noted(failure) => failure,
            Self::Disk(error) => {
                Failure::new(codes::VOLUME_UNWRITABLE, format!("{shown} cannot be given other content: {error}"))
                    .hint("what was there is there again; look at the disk")
            }
        }
    }
}

fn unreachable_here(source: &Path, error: &io::Error) -> Failure {
    Failure::new(codes::VOLUME_UNREADABLE, format!("{} cannot be used: {error}", source.display()))
        .hint("nothing was changed; look at the volume's directory")
}

/// Whether the directory lies on this host and may be changed with every owner, mode and attribute.
fn is_here(engine: &Engine, place: &Place) -> Result<bool, Failure> {
    if !nix::unistd::geteuid().is_root() || !read::is_here(&place.source) {
        return Ok(false);
    }
    read::is_the_same(engine, &place.read_at())
}

fn unpack(tar: &Path, into: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    // Whatever mode its own directory has in the archive, the members come first.
    let _ = fs::set_permissions(into, fs::Permissions::from_mode(0o700));
    let tools = Tools::new(Vec::new(), Vec::new(), Path::new("/"))?;
    let mut args: Vec<OsString> =
        ["-x", "-p", "--same-owner", "--numeric-owner", "--delay-directory-restore"].map(OsString::from).to_vec();
    args.extend(["--xattrs", "--xattrs-include=*", "--acls", "-C"].map(OsString::from));
    args.extend([into.into(), "-f".into(), tar.into()]);
    let ran = tools.run(Path::new("tar"), args, &[], DEADLINE_OF_WORK, |_| {}, || events.progress(0, 0));
    if ran.exit == Exit::Success {
        return Ok(());
    }
    let said = crate::plugin::kit::tidy::tidy(ran.stderr.lines().next().unwrap_or_default(), 300);
    Err(Failure::new(codes::UNPACK_FAILED, format!("the archive cannot be unpacked at {}: {said}", into.display()))
        .hint("nothing was changed; make room there, or look whether its file system has what the archive needs"))
}

fn names_in(tar: &Path) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let mut names = BTreeSet::new();
    content::read(tar, &Only::All, &mut |name| {
        names.insert(name.to_vec());
    })?;
    Ok(names)
}

fn is_companion(name: &[u8], names: &BTreeSet<Vec<u8>>) -> bool {
    BESIDE.iter().any(|end| name.strip_suffix(end.as_bytes()).is_some_and(|database| names.contains(database)))
}

fn told(names: &[Vec<u8>]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>();
    let shown = crate::plugin::kit::tidy::tidy(&shown.join(", "), 300);
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 { format!("{shown}, and {more} more") } else { shown }
}
