//! What a backup of Home Assistant holds: a tar with backup.json and a tar.gz for each part, read to the last byte.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::archive::{self, Bounds, Gzip, Member};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::{json, sqlite_check};

const INDEX: &str = "backup.json";
const DATABASE: &str = "data/home-assistant_v2.db";
/// Empty as a rule; the rest of the database when somebody read it while Home Assistant made the backup.
const DATABASE_LOG: &str = "data/home-assistant_v2.db-wal";
/// What an encrypted part starts with.
const ENCRYPTED: &[u8] = b"SecureTar";
const INDEX_BYTES_MAX: u64 = 4 << 20;
const DATABASE_BYTES_MAX: u64 = 256 << 30;
/// The configuration compresses well, and an inner tar is no bomb for being large.
const BOUNDS: Bounds = Bounds { members: 2_000_000, bytes: 1 << 40, ratio: 2_000 };

/// A backup that is whole.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Files of the configuration directory.
    pub(super) files: u64,
    storage_files: u64,
    addons: u64,
    folders: u64,
    has_configuration: bool,
    has_storage: bool,
    /// Rows of the recorder's database, when it is there.
    pub(super) database_rows: Option<u64>,
}

/// backup.json, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Index {
    slug: String,
    #[serde(default)]
    protected: bool,
    #[serde(default)]
    homeassistant: Option<serde_json::Value>,
    #[serde(default)]
    addons: Vec<serde_json::Value>,
    #[serde(default)]
    folders: Vec<String>,
}

impl Contents {
    /// What was asked for and is not there.
    pub(super) fn missing(&self, database: bool) -> Option<Failure> {
        let missing = |what: &str, hint: &str| {
            Failure::new(codes::EXPORT_INCOMPLETE, format!("the backup of Home Assistant has no {what}")).hint(hint)
        };
        if !self.has_configuration {
            return Some(missing("configuration.yaml", "look at Settings, System, Logs in Home Assistant"));
        }
        if !self.has_storage {
            return Some(missing("directory .storage", "look at Settings, System, Logs in Home Assistant"));
        }
        (database && self.database_rows.is_none()).then(|| {
            missing(
                "database of the recorder",
                "say `include_database: false` if the recorder keeps it elsewhere, and keep it from there",
            )
        })
    }

    pub(super) fn told(&self) -> String {
        format!(
            "the configuration, {} files of .storage, {} add-ons, {} folders",
            self.storage_files, self.addons, self.folders
        )
    }

    pub(super) fn figures(&self) -> BTreeMap<String, u64> {
        let mut figures: BTreeMap<String, u64> = [
            ("files", self.files),
            ("storage_files", self.storage_files),
            ("addons", self.addons),
            ("folders", self.folders),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        figures.extend(self.database_rows.map(|rows| ("database_rows".to_owned(), rows)));
        figures
    }
}

/// Reads the whole backup; `scratch` is a directory for the database while it is looked at.
pub(super) fn read(tar: &Path, scratch: &Path) -> Result<Contents, Failure> {
    let mut contents = Contents::default();
    let mut index: Option<Index> = None;
    let mut parts: Vec<String> = Vec::new();
    if crate::plugin::kit::download::is_a_page(tar) {
        return Err(crate::plugin::kit::download::a_page("the download of the backup"));
    }
    archive::read_tar(tar, Gzip::No, BOUNDS, &mut |member, source| {
        if member.name == INDEX {
            let bytes = archive::take(member, source, INDEX_BYTES_MAX)?;
            index = Some(serde_json::from_slice(&bytes).map_err(|error| {
                broken(&format!("{INDEX} breaks at line {} column {}", error.line(), error.column()))
            })?);
        } else if let Some(gzip) = packing(&member.name) {
            read_part(member, source, gzip, scratch, &mut contents)?;
            parts.push(member.name.clone());
        }
        Ok(())
    })?;
    let Some(index) = index else {
        return Err(broken(&format!("it has no {INDEX}")));
    };
    if index.protected {
        return Err(encrypted("the backup"));
    }
    let has_part = |stem: &str| parts.iter().any(|part| part.trim_end_matches(".gz").trim_end_matches(".tar") == stem);
    if index.homeassistant.is_none() || !has_part("homeassistant") {
        return Err(broken("it has no homeassistant.tar.gz"));
    }
    for addon in &index.addons {
        let slug = addon.get("slug").and_then(serde_json::Value::as_str).unwrap_or_default();
        if !has_part(slug) {
            return Err(broken(&format!("the add-on {slug:?} of {INDEX} is not in it")));
        }
    }
    for folder in &index.folders {
        if !has_part(&folder.replace('/', "_")) {
            return Err(broken(&format!("the folder {folder:?} of {INDEX} is not in it")));
        }
    }
    if index.slug.is_empty() {
        return Err(broken(&format!("{INDEX} has no slug")));
    }
    contents.addons = index.addons.len() as u64;
    contents.folders = index.folders.len() as u64;
    Ok(contents)
}

fn broken(why: &str) -> Failure {
    Failure::new(codes::BACKUP_BROKEN, format!("what Home Assistant gave is no whole backup: {why}"))
        .hint("look at Settings, System, Logs in Home Assistant, and run it again")
}

fn encrypted(what: &str) -> Failure {
    Failure::new(codes::BACKUP_ENCRYPTED, format!("{what} is encrypted, so nothing of it can be checked"))
        .hint("larder encrypts all that it keeps: switch the encryption of this place off in Home Assistant")
}

/// How a part is packed; none for what is no part.
fn packing(name: &str) -> Option<Gzip> {
    let unpacked = name.strip_suffix(".gz");
    unpacked.unwrap_or(name).strip_suffix(".tar")?;
    Some(if unpacked.is_some() { Gzip::Yes } else { Gzip::No })
}

/// One inner tar. Only that of Home Assistant itself is known from inside; all are read to their end.
fn read_part(
    member: &Member,
    source: &mut dyn Read,
    gzip: Gzip,
    scratch: &Path,
    contents: &mut Contents,
) -> Result<(), Failure> {
    let mut head = [0; ENCRYPTED.len()];
    let got = read_head(source, &mut head).map_err(|error| broken(&format!("{}: {error}", member.name)))?;
    let head = head.get(..got).unwrap_or_default();
    if head == ENCRYPTED {
        return Err(encrypted(&member.name));
    }
    let mut whole = head.chain(source);
    let own = member.name.trim_end_matches(".gz") == "homeassistant.tar";
    let shown = Path::new(&member.name);
    let mut database = Unpacked::default();
    archive::read_inner_tar(shown, &mut whole, member.bytes, gzip, BOUNDS, &mut |inner, source| {
        if !own {
            return Ok(());
        }
        contents.files += 1;
        contents.has_configuration |= inner.name == "data/configuration.yaml";
        if let Some(name) = inner.name.strip_prefix("data/.storage/") {
            contents.has_storage = true;
            contents.storage_files += 1;
            // Those of Home Assistant itself are JSON; integrations may keep what they like.
            if name.starts_with("core.") || name == "auth" {
                json::read(source).map_err(|_| broken(&format!(".storage/{name} is no JSON")))?;
            }
        } else if inner.name == DATABASE || inner.name == DATABASE_LOG {
            database.unpack(inner, source, scratch)?;
        }
        Ok(())
    })?;
    if own {
        contents.database_rows = database.rows()?;
    }
    Ok(())
}

fn read_head(source: &mut dyn Read, head: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = head.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match source.read(rest)? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

/// The recorder's database, beside the artifacts while it is looked at.
#[derive(Default)]
struct Unpacked {
    directory: Option<tempfile::TempDir>,
}

impl Unpacked {
    fn unpack(&mut self, member: &Member, source: &mut dyn Read, scratch: &Path) -> Result<(), Failure> {
        let lost = |error: &dyn std::fmt::Display| {
            Failure::new(codes::UNPACK_FAILED, format!("{} cannot be unpacked to be looked at: {error}", member.name))
                .hint("make room where the artifacts lie, or say `include_database: false`")
        };
        let path = self.place(scratch, &member.name).map_err(|error| lost(&error))?;
        let beside = path.parent().unwrap_or(scratch);
        let file = archive::unpack(member, source, beside, DATABASE_BYTES_MAX)?;
        file.persist(&path).map(drop).map_err(|error| lost(&error.error))
    }

    fn place(&mut self, scratch: &Path, name: &str) -> io::Result<PathBuf> {
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => tempfile::Builder::new().prefix(".look-").tempdir_in(scratch)?,
        };
        Ok(self.directory.insert(directory).path().join(name.trim_start_matches("data/")))
    }

    fn rows(&self) -> Result<Option<u64>, Failure> {
        let path = self.directory.as_ref().map(|directory| directory.path().join(DATABASE.trim_start_matches("data/")));
        let Some(path) = path.filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let tables = sqlite_check::tables(&path)
            .map_err(|why| broken(&format!("the recorder's database is not sound: {why}")))?;
        match tables.get("states") {
            Some(_) => Ok(Some(tables.values().sum())),
            None => Err(broken("the recorder's database has no table `states`")),
        }
    }
}
