//! A login of SSH: the system's own `sftp`, one child a call, with a batch of commands on its input.
//!
//! Every command of a batch may fail (`-` before it), so what worked is read from what the next commands show, and why
//! something did not from standard error. Deliberately absent: an implementation of SSH.

mod listing;
mod said;
mod session;
mod ssh_files;

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::name;
use super::probe::{LEFT_S, PROBE_MAX, Probe, Question, skew_shown};
use super::{ControlClient, LISTED_MAX, Listed, SftpPlace, Stat, StorageError};
use listing::Line;
use session::{Ran, Session};

pub use ssh_files::SshFiles;

/// How long a login takes at most where the machine there is slow.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// What a file or a long list takes at most besides.
const BODY_MAX: Duration = Duration::from_secs(60);
/// Less room than this explains a write that "failed" without a reason, in bytes.
const FULL_BYTES: u64 = 64 << 10;

/// A repository behind SFTP.
pub(super) struct Sftp {
    session: Session,
    root: String,
    patience: Duration,
}

impl Sftp {
    pub(super) fn open(place: &SftpPlace, patience: Duration) -> Result<Self, StorageError> {
        let refuse = |what, value: &str, why: &str| {
            let value = value.chars().take(200).collect();
            Err(StorageError::BadPlace { what, value, why: why.to_owned() })
        };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        let is_user = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | '/' | '"' | '\'');
        match place {
            _ if place.host.is_empty() || place.host.starts_with('-') || !place.host.chars().all(is_host) => {
                return refuse("the host", &place.host, "it is no name or address");
            }
            _ if place.user.is_empty() || place.user.starts_with('-') || !place.user.chars().all(is_user) => {
                return refuse("the user", &place.user, "it is no name of a login");
            }
            _ if !place.path.starts_with('/') || place.path.chars().any(char::is_control) => {
                return refuse("the path", &place.path, "it is not absolute");
            }
            _ if place.key.is_none() && place.password.is_none() => {
                return refuse("the login", &place.user, "it has neither a key nor a password");
            }
            _ => {}
        }
        let root = place.path.trim_end_matches('/').to_owned();
        Ok(Self { session: Session::open(place)?, root, patience })
    }

    fn at(&self, name: &str) -> String {
        if name.is_empty() { format!("{}/", self.root) } else { format!("{}/{name}", self.root) }
    }

    /// For a question.
    fn short(&self) -> Duration {
        self.patience.max(LOGIN_MAX)
    }

    fn run(&self, commands: &[String]) -> Result<Ran, StorageError> {
        self.session.run(commands, self.short())
    }

    /// What standard error says of a path means, where it says anything.
    fn of_path(&self, ran: &Ran, path: &str, name: &str, what: &str) -> Option<StorageError> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let line = ran.errors.iter().find(|line| line.contains(file)).or_else(|| ran.errors.first())?;
        Some(said::of_command(line, &self.shown(), name, what))
    }

    /// What one line of `ls` says of `path`.
    fn one(ran: &Ran, section: usize, path: &str) -> Option<Line> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let lines = ran.section(section).iter().filter_map(|line| listing::line(line, Timestamp::now()));
        lines.into_iter().find(|line| line.is_file && line.name == name)
    }

    /// The lines of a probe of ours within `directory`; the repository's own, or the one above it.
    fn batch(&self, directory: &str, probe: &str, back: &str) -> [String; 9] {
        let (file, own) = (format!("{directory}/{probe}"), self.session.file("probe"));
        [
            format!("-cd {}", said::quoted(&format!("{directory}/"))),
            "-pwd".to_owned(),
            format!("-ls -ln {}", said::quoted(&self.at("config"))),
            format!("-ls -ln {}*", name::PROBE_PREFIX),
            format!("-df {}", said::quoted(&format!("{directory}/"))),
            format!("-put {} {}", said::quoted(&own), said::quoted(&file)),
            format!("-ls -ln {}", said::quoted(&file)),
            format!("-get {} {}", said::quoted(&file), said::quoted(back)),
            format!("-rm {}", said::quoted(&file)),
        ]
    }

    fn asks(&self, probe: &mut Probe) -> Result<(), (Question, StorageError)> {
        let end = Instant::now() + PROBE_MAX;
        let left = || end.saturating_duration_since(Instant::now());
        let name = name::of_probe();
        let local = |source| {
            let path = self.session.file("probe").into();
            (Question::Writable, StorageError::Write { path, source })
        };
        self.session.write("probe", name.as_bytes()).map_err(local)?;
        let parent = self.root.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mut ran = None;
        for (directory, is_there) in [(self.root.as_str(), true), (parent, false)] {
            let back = self.session.new_file();
            let mut commands = self.batch(directory, &name, &back).to_vec();
            let file = said::quoted(&format!("{directory}/{name}"));
            commands.push(format!("-ls -ln {file}"));
            let began = Timestamp::now();
            let got = self.session.run(&commands, left()).map_err(|error| (Question::Place, error))?;
            let entered = got.section(1).iter().any(|line| line.starts_with("Remote working directory:"))
                && !got.errors.iter().any(|line| said::is_of_cd(line));
            if entered {
                ran = Some((got, directory, is_there, back, began));
                break;
            }
            let error = got.errors.first().map(|line| said::of_command(line, &self.shown(), "", "enter its directory"));
            if let Some(error @ StorageError::Denied { .. }) = error {
                return Err((Question::Place, error));
            }
        }
        let missing = || StorageError::DirectoryMissing { place: self.shown(), path: format!("{parent}/") };
        let (ran, directory, is_there, back, began) = ran.ok_or_else(|| (Question::Place, missing()))?;
        probe.ok(Question::Reachable, "it answers, with the host key that is pinned");
        probe.ok(Question::Authorised, "the login is taken");
        let above = "the directory above it is there";
        probe.ok(Question::Place, if is_there { "the directory is there" } else { above });
        probe.repository(Self::one(&ran, 2, "config").is_some());
        let free = listing::free_bytes(ran.section(4));
        if let Some(free) = free {
            probe.room(free);
        }
        let path = format!("{directory}/{name}");
        let put = Self::one(&ran, 6, &path);
        let read = std::fs::read(&back).ok();
        if put.is_none() || read.as_deref() != Some(name.as_bytes()) {
            let error = self.of_path(&ran, &path, &name, "put a file").unwrap_or_else(|| StorageError::Unexpected {
                place: self.shown(),
                what: "a file that was just put".to_owned(),
                detail: "it is not what was put".to_owned(),
            });
            let error = match error {
                // The directory is there: it takes no files.
                StorageError::NotFound { place, .. } => {
                    StorageError::Denied { place, what: "put a file".to_owned(), detail: String::new() }
                }
                error => told_full(error, free),
            };
            return Err((Question::Writable, error));
        }
        probe.ok(Question::Writable, "a file was put and read back");
        if let Some(modified) = put.and_then(|line| line.modified) {
            // To the minute: what lies between is no difference.
            let (theirs, ours) = (modified.as_second(), began.as_second());
            let apart = if theirs <= ours - 60 { theirs + 60 - ours } else { (theirs - ours).max(0) };
            let shown = if apart.abs() < 60 { "the same to a minute or so".to_owned() } else { skew_shown(apart) };
            probe.skew(apart, shown);
        }
        if Self::one(&ran, 9, &path).is_none() {
            probe.deletes("yes");
        } else {
            let why = self.of_path(&ran, &path, &name, "delete a file").map(|error| error.to_string());
            probe.keeps(format!("no: {}", why.unwrap_or_else(|| "the file is still there".to_owned())));
        }
        self.clear(&ran, directory, left());
        Ok(())
    }

    /// Removes what probes that were killed left.
    fn clear(&self, ran: &Ran, directory: &str, left: Duration) {
        let now = Timestamp::now();
        let old = ran.section(3).iter().filter_map(|line| listing::line(line, now)).filter(|line| {
            let is_old = line.modified.is_some_and(|time| now.as_second() - time.as_second() > LEFT_S);
            line.is_file && line.name.starts_with(name::PROBE_PREFIX) && is_old
        });
        let commands: Vec<String> =
            old.map(|line| format!("-rm {}", said::quoted(&format!("{directory}/{}", line.name)))).collect();
        if !commands.is_empty() {
            let _ = self.session.run(&commands, left);
        }
    }
}

/// SFTP says only "Failure" where a disk is full.
fn told_full(error: StorageError, free: Option<u64>) -> StorageError {
    match (error, free) {
        (StorageError::Unexpected { place, detail, .. }, Some(free)) if free < FULL_BYTES => {
            StorageError::Full { place, detail }
        }
        (error, _) => error,
    }
}

impl ControlClient for Sftp {
    fn stat(&self, name: &str) -> Result<Option<Stat>, StorageError> {
        let name = name::laid_out(name)?;
        let path = self.at(&name);
        let ran = self.run(&[format!("-ls -ln {}", said::quoted(&path))])?;
        match Self::one(&ran, 0, &path) {
            Some(line) => Ok(Some(Stat { bytes: line.bytes, modified: line.modified })),
            None => match self.of_path(&ran, &path, &name, &format!("look at {name}")) {
                None | Some(StorageError::NotFound { .. }) => Ok(None),
                Some(error) => Err(error),
            },
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        name::check_directory(directory)?;
        let path = self.at(directory);
        let ran = self.session.run(&[format!("-ls -ln {}", said::quoted(&path))], self.short() + BODY_MAX)?;
        match self.of_path(&ran, &path, directory, &format!("list {directory}")) {
            None => {}
            Some(StorageError::NotFound { .. }) => return Ok(Vec::new()),
            Some(error) => return Err(error),
        }
        if ran.is_cut {
            let (place, directory) = (self.shown(), directory.to_owned());
            return Err(StorageError::TooMany { place, directory, count_max: LISTED_MAX });
        }
        let now = Timestamp::now();
        let lines = ran.section(0).iter().filter_map(|line| listing::line(line, now)).filter(|line| line.is_file);
        Ok(lines.map(|line| Listed { name: line.name, bytes: line.bytes, modified: line.modified }).collect())
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        use std::io::Read as _;
        let Some(found) = self.stat(name)? else { return Ok(None) };
        let name = name::laid_out(name)?;
        let too_large = || StorageError::TooLarge { place: self.shown(), name: name.clone(), bytes_max };
        if found.bytes > bytes_max {
            return Err(too_large());
        }
        let (path, got) = (self.at(&name), self.session.new_file());
        let commands = [format!("-get {} {}", said::quoted(&path), said::quoted(&got))];
        let ran = self.session.run(&commands, self.short() + BODY_MAX)?;
        if let Some(error) = self.of_path(&ran, &path, &name, &format!("read {name}")) {
            let _ = std::fs::remove_file(&got);
            return match error {
                StorageError::NotFound { .. } => Ok(None),
                error => Err(error),
            };
        }
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(&got).and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes));
        let _ = std::fs::remove_file(&got);
        read.map_err(|source| StorageError::Read { path: got.into(), source })?;
        if bytes.len() as u64 > bytes_max { Err(too_large()) } else { Ok(Some(bytes)) }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let name = name::laid_out(name)?;
        let path = self.at(&name);
        let exists = || StorageError::Exists { place: self.shown(), name: name.clone() };
        let looks = [&path, &self.at("config")].map(|path| format!("-ls -ln {}", said::quoted(path)));
        let looked = self.run(&looks)?;
        if Self::one(&looked, 0, &path).is_some() {
            return Err(exists());
        }
        let own = self.session.new_file();
        // Whoever may read the repository may read it: sftp gives a file the rights that it has here.
        let mode = Self::one(&looked, 1, "config").map_or(0o600, |config| config.mode);
        let written = std::fs::write(&own, bytes)
            .and_then(|()| std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode | 0o600)));
        written.map_err(|source| StorageError::Write { path: own.clone().into(), source })?;
        // A name that restic takes for nothing, and a rename of the old kind, which does not overwrite.
        let half = format!("{path}-tmp-{}", ulid::Ulid::new());
        let [from, there, to] = [&own, &half, &path].map(|path| said::quoted(path));
        let commands = [
            format!("-put -f {from} {there}"),
            format!("-rename -l {there} {to}"),
            format!("-ls -ln {to}"),
            format!("-ls -ln {there}"),
            format!("-rm {there}"),
        ];
        let ran = self.session.run(&commands, self.short() + BODY_MAX);
        let _ = std::fs::remove_file(&own);
        let ran = ran?;
        let there = Self::one(&ran, 2, &path);
        let was_moved = !ran.errors.iter().any(|line| said::is_of_rename(line));
        match there {
            Some(line) if was_moved && line.bytes == bytes.len() as u64 => Ok(()),
            Some(_) if !was_moved => Err(exists()),
            _ => {
                let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
                match self.of_path(&ran, &half, &name, &format!("put {name}")) {
                    Some(StorageError::NotFound { place, .. }) => {
                        Err(StorageError::DirectoryMissing { place, path: parent.to_owned() })
                    }
                    Some(error) => Err(error),
                    None => Err(StorageError::Unexpected {
                        place: self.shown(),
                        what: format!("put {name}"),
                        detail: "the file is not there whole".to_owned(),
                    }),
                }
            }
        }
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let name = name::laid_out(name)?;
        let path = self.at(&name);
        let ran = self.run(&[format!("-rm {}", said::quoted(&path))])?;
        self.of_path(&ran, &path, &name, &format!("delete {name}")).map_or(Ok(()), Err)
    }

    fn probe(&self) -> Probe {
        let mut probe = Probe::new();
        if let Err((question, error)) = self.asks(&mut probe) {
            probe.failed(question, error);
        }
        probe.done()
    }

    fn shown(&self) -> String {
        format!("{}{}", self.session.shown(), self.root)
    }
}
