//! Puts an installation back: the database into the server that .env names, the documents to their place, and the key.
//!
//! Nothing is changed before all of it was looked at. Of .env only the key is put back: the rest says how this host's
//! database is reached, which need not be the old one's way.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::Job;
use crate::error::codes;
use crate::plugin::apps::invoiceninja::whole::{ENV, Install, key_in};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb;
use crate::plugin::kit::database::mariadb::restore::{Decided, Mariadb};
use crate::plugin::kit::dotenv;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::place::{Placing, aside};
use crate::plugin::kit::restore::{Planned, Restorer as _};
use crate::plugin::protocol::{CaptureFacts, Step, Verb, Verdict};

const ENV_BYTES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 64;

/// A file of the backup and where it goes.
struct Piece {
    from: PathBuf,
    goal: PathBuf,
}

/// What the backup's files are to what is there.
#[derive(Default)]
struct Files {
    directories: Vec<Piece>,
    links: Vec<Piece>,
    new: Vec<Piece>,
    other: Vec<Piece>,
    same: u64,
}

/// What was decided.
pub(in crate::plugin::apps::invoiceninja) struct Work {
    install: Install,
    files: Files,
    database: Decided,
    key: SecretString,
    has_key: bool,
    done: Step,
}

pub(super) fn plan(install: Install, job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
    let overwrite = job.options.overwrite;
    let old = old(job.facts)?;
    if let Some(version) = install.version() {
        events.version(version);
    }
    let files = Files::of(&install, job)?;
    let key = key_in(&in_tree(job, &old.join(ENV)))?;
    let Some(key) = key else {
        return Err(Failure::new(codes::NO_APP_KEY, "the .env of the backup has no APP_KEY")
            .hint("choose an older snapshot: `larder snapshots TARGET`"));
    };
    let has_key = install.has_key(&key);
    let mut steps = files.steps(overwrite);
    steps.push(match (has_key, overwrite) {
        (true, _) => Step::new(Verb::Keep, ENV, "it has the APP_KEY of the backup"),
        (false, true) => Step::new(Verb::Replace, "APP_KEY in .env", "the rest of it stays; the old one stays beside"),
        (false, false) => {
            Step::new(Verb::Replace, "APP_KEY in .env", "it is another, so this is refused without `overwrite`")
        }
    });
    let mut refusals = Vec::new();
    if !overwrite && !has_key {
        refusals.push(
            Failure::new(codes::OTHER_APP_KEY, "the .env here has another APP_KEY than the backup").hint(
                "nothing was changed; `--option overwrite=true` puts the backup's key in, and keeps the old .env",
            ),
        );
    }
    if let Some(first) = files.other.first().filter(|_| !overwrite) {
        let count = files.other.len();
        refusals.push(
            Failure::new(
                codes::FILES_DIFFER,
                format!("{count} files differ from the backup, {} among them", first.goal.display()),
            )
            .hint("nothing was changed; `--option overwrite=true` replaces them"),
        );
    }
    let facts = of_database(job.facts);
    let mut out = WithoutVersion(&mut *events.out);
    let planned = Mariadb::plan(&database(&install, job, &facts)?, &mut EventWriter { out: &mut out });
    let Planned { steps: of_server, later: _, refusals: of_database, work: database } = match planned {
        Ok(planned) => planned,
        Err(failure) => return Err(refusals.into_iter().next().unwrap_or(failure)),
    };
    steps.extend(of_server);
    refusals.extend(of_database);
    let how = "`php artisan migrate --force`, then `php artisan optimize`";
    let done = Step::new(Verb::Manual, "Invoice Ninja", how);
    let later = vec![done.clone()];
    Ok(Planned { later, refusals, ..Planned::of(steps, Work { install, files, database, key, has_key, done }) })
}

pub(super) fn execute(
    job: &Job<'_>,
    work: Work,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let Work { install, files, database, key, has_key, done } = work;
    // Copied beside their places, so that what can fail fails before the database is replaced.
    let placed = files.prepare(job.run, events)?;
    let facts = of_database(job.facts);
    let mut out = WithoutVersion(&mut *events.out);
    let of_server = &mut EventWriter { out: &mut out };
    Mariadb::execute(&self::database(&install, job, &facts)?, database, journal, of_server)?;
    placed.finish(job.run)?;
    if !has_key {
        put_key(&install.directory().join(ENV), &key, job)?;
    }
    let after = Files::of(&install, job)?;
    let wrong = after.new.len() + after.other.len() + after.links.len();
    let verdict = if wrong == 0 { Verdict::Proven } else { Verdict::Failed };
    events.validation("documents are as in the backup", verdict, format!("{} files, {wrong} are not", after.same));
    let now = key_in(&install.directory().join(ENV))?;
    let same = now.is_some_and(|now| now.expose_secret() == key.expose_secret());
    let verdict = if same { Verdict::Proven } else { Verdict::Failed };
    events.validation("the APP_KEY is the backup's", verdict, "");
    events.planned(done);
    Ok(())
}

/// The order to the plugin of the database. It refuses by itself what it must not replace.
fn database<'j>(
    install: &Install,
    job: &Job<'j>,
    facts: &'j CaptureFacts,
) -> Result<mariadb::restore::Job<'j>, Failure> {
    let options = json!({ "overwrite": job.options.overwrite, "into": install.database_name() });
    install.of_database(job, options, facts)
}

/// What the capture told of the database: the version is that of the application.
fn of_database(facts: &CaptureFacts) -> CaptureFacts {
    CaptureFacts { app_version: None, ..facts.clone() }
}

/// Where the installation was that the backup is of.
fn old(facts: &CaptureFacts) -> Result<&Path, Failure> {
    let env = facts.sources.iter().find(|source| source.path.ends_with(ENV));
    env.and_then(|source| source.path.parent()).ok_or_else(|| {
        Failure::new(codes::NO_INSTALLATION, "the backup is none of an installation: it has no .env")
            .hint("a company's export goes into a target with `url` and `token`")
    })
}

/// Where a path of the backup lies now.
fn in_tree(job: &Job<'_>, path: &Path) -> PathBuf {
    job.tree.join(path.strip_prefix("/").unwrap_or(path))
}

/// Keeps the version of the database's server back: that of the application is told.
struct WithoutVersion<'o>(&'o mut dyn Write);

impl Write for WithoutVersion<'_> {
    // An event comes as one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if !event.starts_with(br#"{"event":"version""#) {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where a path of the old installation lies in this one.
fn goal(install: &Install, old: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let relative = path.strip_prefix(old).ok();
    let relative = relative.filter(|relative| relative.components().all(|part| matches!(part, Component::Normal(_))));
    match relative {
        Some(relative) => Ok(install.directory().join(relative)),
        None => Err(Failure::new(codes::PATH_OUTSIDE, format!("{} lies outside {}", path.display(), old.display()))
            .hint("the backup is none that this plugin made: `larder restore TARGET --to DIR`, and look at it")),
    }
}

impl Files {
    /// Compares all of the backup with what is there.
    fn of(install: &Install, job: &Job<'_>) -> Result<Self, Failure> {
        let old = old(job.facts)?;
        let mut files = Self::default();
        for source in job.facts.sources.iter().filter(|source| !source.path.ends_with(ENV)) {
            files.look(&in_tree(job, &source.path), &goal(install, old, &source.path)?, 0)?;
        }
        Ok(files)
    }

    /// Compares what lies at `from` in the backup with what lies at `goal`.
    fn look(&mut self, from: &Path, goal: &Path, depth: usize) -> Result<(), Failure> {
        let unreadable = |error: io::Error| {
            Failure::new(codes::BACKUP_UNREADABLE, format!("{} cannot be read: {error}", from.display()))
                .hint("choose another snapshot: `larder snapshots TARGET`")
        };
        let metadata = fs::symlink_metadata(from).map_err(unreadable)?;
        let piece = Piece { from: from.to_owned(), goal: goal.to_owned() };
        if metadata.is_symlink() {
            let same = fs::read_link(goal).is_ok_and(|there| fs::read_link(from).is_ok_and(|wanted| wanted == there));
            if !same {
                self.links.push(piece);
            }
        } else if metadata.is_dir() {
            if depth >= DEPTH_MAX {
                return Err(Failure::new(codes::BACKUP_UNREADABLE, format!("{} lies too deep", from.display())));
            }
            if !goal.is_dir() {
                self.directories.push(piece);
            }
            for entry in fs::read_dir(from).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                self.look(&entry.path(), &goal.join(entry.file_name()), depth + 1)?;
            }
        } else if metadata.is_file() {
            match same(from, goal) {
                Ok(true) => self.same += 1,
                Ok(false) => self.other.push(piece),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.new.push(piece),
                Err(error) => {
                    return Err(Failure::new(codes::UNREADABLE, format!("{} cannot be read: {error}", goal.display()))
                        .hint("restore as a user that may read and write there"));
                }
            }
        }
        Ok(())
    }

    fn steps(&self, overwrite: bool) -> Vec<Step> {
        let count = |pieces: &[Piece]| format!("{} files", pieces.len());
        let mut steps = Vec::new();
        if !self.new.is_empty() {
            steps.push(Step::new(Verb::Create, "documents", count(&self.new)));
        }
        if !self.other.is_empty() {
            let how = if overwrite { "they differ" } else { "they differ, so this is refused without `overwrite`" };
            steps.push(Step::new(Verb::Replace, "documents", format!("{}; {how}", count(&self.other))));
        }
        let same = format!("{} files are the same, and those that the backup has not", self.same);
        steps.push(Step::new(Verb::Keep, "documents", same));
        steps
    }

    /// Makes what is missing, and copies each file to beside its place.
    fn prepare(&self, run: &str, events: &mut EventWriter<'_>) -> Result<Placed<'_>, Failure> {
        for piece in &self.directories {
            fs::create_dir_all(&piece.goal)
                .and_then(|()| as_in_backup(piece))
                .map_err(|error| unwritable(piece, &error))?;
        }
        for piece in &self.links {
            let made = fs::read_link(&piece.from).and_then(|target| match fs::symlink_metadata(&piece.goal) {
                Err(_) => std::os::unix::fs::symlink(target, &piece.goal),
                Ok(_) => Err(io::Error::other("something else lies there")),
            });
            made.map_err(|error| unwritable(piece, &error))?;
        }
        let mut done = 0;
        let mut placed = Placed(Vec::new());
        for piece in self.new.iter().chain(&self.other) {
            let placing = Placing::prepare(&piece.from, &piece.goal, run, |bytes| events.progress(done + bytes, 0));
            placed.0.push((placing.map_err(|error| unwritable(piece, &error))?, piece));
            done += fs::metadata(&piece.from).map_or(0, |found| found.len());
        }
        Ok(placed)
    }
}

/// Files that lie whole beside their places.
struct Placed<'f>(Vec<(Placing, &'f Piece)>);

impl Placed<'_> {
    /// Gives all of them their names; when one cannot have it, those that had them before get them back.
    fn finish(self, run: &str) -> Result<(), Failure> {
        let mut changed: Vec<(&Piece, bool)> = Vec::new();
        for (placing, piece) in self.0 {
            let kept = aside(&piece.goal, run);
            let put = placing.keep_old(&kept).and_then(|had| {
                changed.push((piece, had));
                placing.finish()?;
                if had { Ok(()) } else { as_in_backup(piece) }
            });
            if let Err(error) = put {
                for (piece, had) in changed {
                    let _ = if had {
                        fs::rename(aside(&piece.goal, run), &piece.goal)
                    } else {
                        fs::remove_file(&piece.goal)
                    };
                }
                return Err(unwritable(piece, &error));
            }
        }
        for (piece, _) in changed.iter().filter(|(_, had)| *had) {
            let _ = fs::remove_file(aside(&piece.goal, run));
        }
        Ok(())
    }
}

fn unwritable(piece: &Piece, error: &io::Error) -> Failure {
    Failure::new(codes::UNWRITABLE, format!("{} cannot be written: {error}", piece.goal.display()))
        .hint("the files that are there are whole; make room or give the rights, and restore once more")
}

/// Mode and, where this may be done, owner.
fn as_in_backup(piece: &Piece) -> io::Result<()> {
    let wanted = fs::metadata(&piece.from)?;
    fs::set_permissions(&piece.goal, fs::Permissions::from_mode(wanted.mode() & 0o7777))?;
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&piece.goal, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    Ok(())
}

/// Byte for byte.
fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let length = one.read(&mut left)?;
        let (Some(read), Some(room)) = (left.get(..length), right.get_mut(..length)) else { return Ok(false) };
        if length == 0 {
            return Ok(other.read(&mut [0])? == 0);
        }
        match other.read_exact(room) {
            Ok(()) if read == room => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Exchanges the key in `env` and keeps the old file beside it.
fn put_key(env: &Path, key: &SecretString, job: &Job<'_>) -> Result<(), Failure> {
    let put = || -> io::Result<()> {
        let text = dotenv::read(env, ENV_BYTES_MAX)?;
        let is_key = |line: &&str| line.trim_start().trim_start_matches("export ").starts_with("APP_KEY=");
        let mut lines: Vec<&str> = text.lines().filter(|line| !is_key(line)).collect();
        let line = SecretString::from(format!("APP_KEY={}", key.expose_secret()));
        lines.push(line.expose_secret());
        let mut new = tempfile::NamedTempFile::new_in(job.staging)?;
        new.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
        let placing = Placing::prepare(new.path(), env, job.run, |_| {})?;
        placing.keep_old(&aside(env, job.run))?;
        placing.finish()
    };
    put().map_err(|error| {
        Failure::new(codes::UNWRITABLE, format!("{} cannot be written: {error}", env.display()))
            .hint("put the APP_KEY of the backup into it by hand: `larder restore TARGET --to DIR`")
    })
}
