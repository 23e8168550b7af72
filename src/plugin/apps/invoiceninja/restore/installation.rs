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

use crate::error::codes;
use crate::plugin::apps::invoiceninja::whole::{ENV, Install, key_in};
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb;
use crate::plugin::kit::dotenv;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::place::{Placing, aside};
use crate::plugin::protocol::{Request, Verb, Verdict};

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

pub(super) fn restore(
    install: &Install,
    request: &Request,
    overwrite: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let (facts, order) = (asked::facts(request)?, asked::order(request)?);
    let env = facts.sources.iter().find(|source| source.path.ends_with(ENV));
    let Some(old) = env.and_then(|source| source.path.parent()) else {
        return Err(Failure::new(codes::NO_INSTALLATION, "the backup is none of an installation: it has no .env")
            .hint("a company's export goes into a target with `url` and `token`"));
    };
    if let Some(version) = install.version() {
        events.version(version);
    }
    let in_tree = |path: &Path| order.tree.join(path.strip_prefix("/").unwrap_or(path));
    let mut files = Files::default();
    for source in facts.sources.iter().filter(|source| !source.path.ends_with(ENV)) {
        files.look(&in_tree(&source.path), &goal(install, old, &source.path)?, 0)?;
    }
    let key = key_in(&in_tree(&old.join(ENV)))?;
    let Some(key) = key else {
        return Err(Failure::new(codes::NO_APP_KEY, "the .env of the backup has no APP_KEY")
            .hint("choose an older snapshot: `larder snapshots TARGET`"));
    };
    let has_key = install.has_key(&key);
    files.tell(overwrite, events);
    match (has_key, overwrite) {
        (true, _) => events.step(Verb::Keep, ENV, "it has the APP_KEY of the backup"),
        (false, true) => {
            events.step(Verb::Replace, "APP_KEY in .env", "the rest of it stays; the old one stays beside");
        }
        (false, false) => {
            events.step(Verb::Replace, "APP_KEY in .env", "it is another, so this is refused without `overwrite`");
        }
    }
    if !order.dry_run && !overwrite {
        if !has_key {
            return Err(Failure::new(codes::OTHER_APP_KEY, "the .env here has another APP_KEY than the backup").hint(
                "nothing was changed; `--option overwrite=true` puts the backup's key in, and keeps the old .env",
            ));
        }
        if let Some(first) = files.other.first() {
            let count = files.other.len();
            return Err(Failure::new(
                codes::FILES_DIFFER,
                format!("{count} files differ from the backup, {} among them", first.goal.display()),
            )
            .hint("nothing was changed; `--option overwrite=true` replaces them"));
        }
    }
    // Copied beside their places, so that what can fail fails before the database is replaced.
    let placed = if order.dry_run { None } else { Some(files.prepare(&request.run, events)?) };
    // It refuses by itself, before anything is changed, what it must not replace.
    let options = json!({ "overwrite": overwrite, "into": install.database_name() });
    let of_database = install.of_database(request, options);
    let mut out = WithoutVersion(&mut *events.out);
    let mut of_server = EventWriter { out: &mut out };
    mariadb::restore::run(&of_database, &mut of_server)?;
    let Some(placed) = placed else { return Ok(()) };
    placed.finish(&request.run)?;
    if !has_key {
        put_key(&install.directory().join(ENV), &key, request)?;
    }
    let mut after = Files::default();
    for source in facts.sources.iter().filter(|source| !source.path.ends_with(ENV)) {
        after.look(&in_tree(&source.path), &goal(install, old, &source.path)?, 0)?;
    }
    let wrong = after.new.len() + after.other.len() + after.links.len();
    let verdict = if wrong == 0 { Verdict::Proven } else { Verdict::Failed };
    events.validation("documents are as in the backup", verdict, format!("{} files, {wrong} are not", after.same));
    let now = key_in(&install.directory().join(ENV))?;
    let same = now.is_some_and(|now| now.expose_secret() == key.expose_secret());
    let verdict = if same { Verdict::Proven } else { Verdict::Failed };
    events.validation("the APP_KEY is the backup's", verdict, "");
    events.step(Verb::Manual, "Invoice Ninja", "`php artisan migrate --force`, then `php artisan optimize`");
    Ok(())
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

    fn tell(&self, overwrite: bool, events: &mut EventWriter<'_>) {
        let count = |pieces: &[Piece]| format!("{} files", pieces.len());
        if !self.new.is_empty() {
            events.step(Verb::Create, "documents", count(&self.new));
        }
        if !self.other.is_empty() {
            let how = if overwrite { "they differ" } else { "they differ, so this is refused without `overwrite`" };
            events.step(Verb::Replace, "documents", format!("{}; {how}", count(&self.other)));
        }
        events.step(
            Verb::Keep,
            "documents",
            format!("{} files are the same, and those that the backup has not", self.same),
        );
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
fn put_key(env: &Path, key: &SecretString, request: &Request) -> Result<(), Failure> {
    let put = || -> io::Result<()> {
        let text = dotenv::read(env, ENV_BYTES_MAX)?;
        let is_key = |line: &&str| line.trim_start().trim_start_matches("export ").starts_with("APP_KEY=");
        let mut lines: Vec<&str> = text.lines().filter(|line| !is_key(line)).collect();
        let line = SecretString::from(format!("APP_KEY={}", key.expose_secret()));
        lines.push(line.expose_secret());
        let mut new = tempfile::NamedTempFile::new_in(&request.staging)?;
        new.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
        let placing = Placing::prepare(new.path(), env, &request.run, |_| {})?;
        placing.keep_old(&aside(env, &request.run))?;
        placing.finish()
    };
    put().map_err(|error| {
        Failure::new(codes::UNWRITABLE, format!("{} cannot be written: {error}", env.display()))
            .hint("put the APP_KEY of the backup into it by hand: `larder restore TARGET --to DIR`")
    })
}
