//! Databases in a volume that somebody writes to while it is read: exchanged in the tar for copies of one instant where
//! that can be had, and told where not.
//!
//! Where the volume's files lie on this host, SQLite's own online backup copies them. Elsewhere a database and its log are
//! read again, one after the other, until both are found twice as they were: between the end of the first reading of
//! the one and the beginning of the second of the other, both were so at the same time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::content::{self, Fate};
use crate::plugin::apps::docker::inventory::Item;
use crate::plugin::apps::docker::list::{Found, Quiet};
use crate::plugin::apps::docker::read::{self, Place};
use crate::plugin::apps::docker::settings::DockerSettings;
use crate::plugin::apps::docker::unwritable;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::live::Kind;
use crate::plugin::kit::live::sqlite::{self, Copied};
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::sqlite_files::{BESIDE, READ};
use crate::plugin::protocol::Verdict;

/// How often a database is read in search of two readings that are the same.
const READINGS_MAX: usize = 5;

pub(super) struct Still<'a> {
    pub(super) engine: &'a Engine,
    pub(super) item: &'a Item,
    pub(super) place: &'a Place<'a>,
    pub(super) tar: &'a Path,
    pub(super) settings: &'a DockerSettings,
}

/// What becomes of the tar's members, by their names.
type Fates = BTreeMap<Vec<u8>, Option<PathBuf>>;

impl Still<'_> {
    /// Looks after each database; tells what is known of it, and whether the tar was written anew.
    pub(super) fn settle(
        &self,
        databases: &[(Vec<u8>, Kind)],
        events: &mut EventWriter<'_>,
    ) -> Result<(Vec<Found>, bool), Failure> {
        if databases.is_empty() {
            return Ok((Vec::new(), false));
        }
        let directory =
            tempfile::Builder::new().prefix(".larder-live-").tempdir_in(self.tar.parent().unwrap_or(Path::new("/")));
        let directory = directory.map_err(|error| unwritable(self.tar, &error))?;
        let is_here = if self.engine.podman {
            read::is_here(self.place.source)
        } else {
            read::is_the_same(self.engine, self.place)?
        };
        let (mut told, mut fates) = (Vec::new(), Fates::new());
        for (number, (name, kind)) in databases.iter().enumerate() {
            events.progress(0, 0);
            let into = directory.path().join(number.to_string());
            let found = match kind {
                Kind::Sqlite if is_here => self.copied(name, &into, &mut fates)?,
                Kind::Sqlite => self.read_twice(name, &into, &mut fates)?,
                kind => Self::unknown(self.item, self.settings, name, *kind),
            };
            events.log(format!("{} {} in {}: {}", found.kind, found.path, self.item.name, found.detail));
            told.push(found);
        }
        if fates.is_empty() {
            return Ok((told, false));
        }
        let anew = directory.path().join("tar");
        content::rewrite(self.tar, &anew, &mut |name| match fates.get(name) {
            None => Fate::Keep,
            Some(None) => Fate::LeaveOut,
            Some(Some(path)) => Fate::Instead(path.clone()),
        })?;
        std::fs::rename(&anew, self.tar).map_err(|error| unwritable(self.tar, &error))?;
        Ok((told, true))
    }

    /// Copied by SQLite's own online backup.
    fn copied(&self, name: &[u8], into: &Path, fates: &mut Fates) -> Result<Found, Failure> {
        let source = self.place.source.join(on_disk(name));
        if let Copied::Not(why) = sqlite::copy(&source, into)? {
            let detail = format!("it cannot be copied while it is written to: {why}");
            return Ok(Found { detail, ..self.doubtful(name) });
        }
        let checked = sqlite::check(into);
        fates.insert(name.to_vec(), Some(into.to_owned()));
        for end in BESIDE {
            fates.insert([name, end.as_bytes()].concat(), None);
        }
        Ok(self.judged(name, checked, "copied by SQLite's online backup"))
    }

    /// Read until it is found twice as it was, through the engine.
    fn read_twice(&self, name: &[u8], into: &Path, fates: &mut Fates) -> Result<Found, Failure> {
        let Ok(shown) = std::str::from_utf8(name) else { return Ok(self.doubtful(name)) };
        let mut last: Option<Vec<Option<String>>> = None;
        for _ in 0..READINGS_MAX {
            let mut now = Vec::new();
            for end in READ {
                let to = with_suffix(into, end);
                now.push(self.fetch(&format!("{shown}{end}"), &to)?);
            }
            if last.as_ref() == Some(&now) {
                // The check works in its log.
                let copy = into.with_extension("checked");
                for end in READ {
                    let (from, to) = (with_suffix(into, end), with_suffix(&copy, end));
                    if from.exists() {
                        std::fs::copy(&from, &to).map_err(|error| unwritable(&to, &error))?;
                    }
                    let fate = Some(from.clone()).filter(|from| from.exists());
                    fates.insert([name, end.as_bytes()].concat(), fate);
                }
                fates.insert([name, b"-shm"].concat(), None);
                return Ok(self.judged(name, sqlite::check(&copy), "it was the same twice"));
            }
            last = Some(now);
        }
        Ok(self.doubtful(name))
    }

    /// One file, with its digest; none: there is none.
    fn fetch(&self, name: &str, to: &Path) -> Result<Option<String>, Failure> {
        let tar = to.with_extension("tar");
        for old in [to, tar.as_path()] {
            let _ = std::fs::remove_file(old);
        }
        let at = format!("{}/{name}", self.place.destination.trim_end_matches('/'));
        if self.engine.save(self.place.container, &at, &tar, |_, _| {})?.is_none() {
            return Ok(None);
        }
        // A file's tar has it as its root.
        content::extract(&tar, &mut |member| member.is_empty().then(|| to.to_owned()))?;
        let _ = std::fs::remove_file(&tar);
        if to.exists() { digest::sha256(to, |_| {}).map(Some) } else { Ok(None) }
    }

    fn judged(&self, name: &[u8], (verdict, checked): (Verdict, String), how: &str) -> Found {
        let state = match verdict {
            Verdict::Proven => Quiet::Sound,
            // The copy is faithful; the database itself is not whole.
            Verdict::Failed | Verdict::CouldNotVerify => self.accepted(name),
        };
        Found { state, detail: format!("{how}; {checked}"), ..self.doubtful(name) }
    }

    fn doubtful(&self, name: &[u8]) -> Found {
        Self::unknown(self.item, self.settings, name, Kind::Sqlite)
    }

    fn accepted(&self, name: &[u8]) -> Quiet {
        self.doubtful(name).state
    }

    /// A database whose program worked while it was read.
    pub(super) fn unknown(item: &Item, settings: &DockerSettings, name: &[u8], kind: Kind) -> Found {
        let path = crate::plugin::kit::tidy::tidy(&String::from_utf8_lossy(name), 200);
        let whole = if path.is_empty() { item.name.clone() } else { format!("{}/{path}", item.name) };
        let state = if settings.accept.contains(&whole) { Quiet::Accepted } else { Quiet::Unknown };
        let detail = format!(
            "its program worked while its files were read, so they may not fit together; `stop: stop` or `stop: pause`, \
             a dump of it, or `accept: [{whole}]`"
        );
        Found {
            path: if path.is_empty() { ".".to_owned() } else { path },
            kind: kind.shown().to_owned(),
            state,
            detail,
        }
    }

    /// Of databases that nobody looked at; `which` they are goes on behind "any database".
    pub(super) fn unlooked(item: &Item, settings: &DockerSettings, which: &str) -> Found {
        let state = if settings.accept.contains(&item.name) { Quiet::Accepted } else { Quiet::Unknown };
        let detail = format!(
            "there are too many to look at each one while its program works; `stop: stop` or `stop: pause`, or \
             `accept: [{}]`",
            item.name
        );
        Found { path: which.to_owned(), kind: "any database".to_owned(), state, detail }
    }
}

fn on_disk(name: &[u8]) -> &Path {
    Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name))
}
