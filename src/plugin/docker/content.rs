//! The tar of a volume: read whole, told by a digest over names, sizes and contents, and rewritten for a restore.
//!
//! Engines name the members in several ways (`data/x`, `/x`, `./x`); the first member is always the volume's root, so
//! its name is what is taken off the others. A tar has no checksum and an engine that breaks off may end its answer
//! well all the same, so the two empty blocks at the end are asked for.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, EntryType};

use crate::plugin::builtin::Failure;

const BLOCK_BYTES: u64 = 512;
/// Members of one volume.
const ENTRIES_MAX: u64 = 50_000_000;

/// What a tar holds, apart from its root directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Over the names, kinds, sizes and contents, in any order.
    pub(super) digest: String,
    /// Over the names, owners and modes, in any order.
    pub(super) owners: String,
    /// A volume or directory; else a single file.
    pub(super) directory: bool,
}

/// Members that are looked at.
pub(super) enum Only<'a> {
    All,
    /// Those with these names.
    Names(&'a HashSet<String>),
}

/// Reads a whole tar. `on_name` gets each member's name, relative to the root.
pub(super) fn read(path: &Path, only: &Only<'_>, on_name: &mut dyn FnMut(&str)) -> Result<Contents, Failure> {
    let damaged = |error: &dyn std::fmt::Display| damaged(path, error);
    let file = File::open(path).map_err(|error| damaged(&error))?;
    let length = file.metadata().map_err(|error| damaged(&error))?.len();
    let mut archive = Archive::new(BufReader::with_capacity(256 << 10, file));
    let mut root: Option<Root> = None;
    let (mut contents, mut digest, mut owners) = (Contents::default(), [0_u8; 32], [0_u8; 32]);
    let mut end = 0;
    let mut chunk = vec![0_u8; 256 << 10];
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let kind = entry.header().entry_type();
        let raw = text(path, &entry.path_bytes())?;
        end = entry.raw_file_position() + entry.size().div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        let first = root.is_none();
        let root = root.get_or_insert_with(|| Root::of(&raw));
        let name = root.strip(path, &raw)?;
        if first {
            contents.directory = kind.is_dir();
        }
        if first && kind.is_dir() {
            continue;
        }
        if let Only::Names(names) = only
            && !names.contains(&name)
        {
            continue;
        }
        contents.entries += 1;
        if contents.entries > ENTRIES_MAX {
            return Err(Failure::new("archive_too_large", format!("{} has too many members", path.display())));
        }
        on_name(&name);
        let link = match entry.link_name_bytes() {
            Some(link) if kind == EntryType::Link => root.strip(path, &text(path, &link)?)?,
            Some(link) => text(path, &link)?,
            None => String::new(),
        };
        let mut hash = Sha256::new();
        let size = if kind.is_dir() { 0 } else { entry.size() };
        hash.update(format!("{}\0{name}\0{size}\0{link}\0", kind.as_byte()));
        loop {
            let read = entry.read(&mut chunk).map_err(|error| damaged(&format!("{name}: {error}")))?;
            match chunk.get(..read) {
                Some(bytes) if !bytes.is_empty() => hash.update(bytes),
                _ => break,
            }
        }
        mix(&mut digest, &hash.finalize());
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap_or(u64::MAX), header.gid().unwrap_or(u64::MAX));
        // A link's mode means nothing.
        let mode = if kind.is_symlink() { 0 } else { header.mode().unwrap_or(0) & 0o7777 };
        mix(&mut owners, &Sha256::digest(format!("{name}\0{uid}\0{gid}\0{mode}")));
        contents.files += u64::from(!kind.is_dir());
        contents.bytes = contents.bytes.saturating_add(size);
    }
    if root.is_none() {
        return Err(damaged(&"it holds nothing, not even its root"));
    }
    if length < end + 2 * BLOCK_BYTES {
        return Err(damaged(&"its end is missing"));
    }
    contents.digest = hex::encode(digest);
    contents.owners = hex::encode(owners);
    Ok(contents)
}

/// Writes the same members with names relative to the root, as an engine unpacks them at a volume's place.
pub(super) fn rebase(path: &Path, into: &Path) -> Result<(), Failure> {
    let damaged = |error: &dyn std::fmt::Display| damaged(path, error);
    let write = |error: io::Error| {
        let failure = Failure::new("disk_full", format!("{} cannot be written: {error}", into.display()));
        failure.hint("make room where restores are staged")
    };
    let file = File::open(path).map_err(|error| damaged(&error))?;
    let mut archive = Archive::new(BufReader::with_capacity(256 << 10, file));
    let mut builder = Builder::new(BufWriter::with_capacity(256 << 10, File::create(into).map_err(write)?));
    let mut root: Option<Root> = None;
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let kind = entry.header().entry_type();
        let raw = strict(path, &entry.path_bytes())?;
        let root = root.get_or_insert_with(|| Root::of(&raw));
        let mut name = root.strip(path, &raw)?;
        if name.is_empty() {
            ".".clone_into(&mut name);
        }
        if kind.is_dir() {
            name.push('/');
        }
        let kept: Vec<(String, Vec<u8>)> = match entry.pax_extensions().map_err(|error| damaged(&error))? {
            Some(all) => all
                .flatten()
                .filter_map(|pair| Some((pair.key().ok()?.to_owned(), pair.value_bytes().to_vec())))
                .filter(|(key, _)| !matches!(key.as_str(), "path" | "linkpath" | "size"))
                .collect(),
            None => Vec::new(),
        };
        if !kept.is_empty() {
            let pairs = kept.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            builder.append_pax_extensions(pairs).map_err(write)?;
        }
        let mut header = entry.header().clone();
        match entry.link_name_bytes() {
            Some(link) if kind == EntryType::Link => {
                let target = root.strip(path, &strict(path, &link)?)?;
                builder.append_link(&mut header, &name, target).map_err(write)?;
            }
            Some(link) if kind == EntryType::Symlink => {
                let target = strict(path, &link)?;
                builder.append_link(&mut header, &name, target).map_err(write)?;
            }
            _ => builder.append_data(&mut header, &name, &mut entry).map_err(write)?,
        }
    }
    let mut inner = builder.into_inner().map_err(write)?;
    inner.flush().map_err(write)
}

/// Whether the beginning of a tar has a member beside its root directory.
pub(super) fn holds_something(beginning: &[u8]) -> bool {
    let mut archive = Archive::new(beginning);
    let Ok(entries) = archive.entries() else { return true };
    // What breaks off has more to come.
    entries
        .enumerate()
        .any(|(index, entry)| index > 0 || entry.map_or(true, |entry| !entry.header().entry_type().is_dir()))
}

/// The first member's name.
struct Root(String);

impl Root {
    fn of(raw: &str) -> Self {
        Self(raw.trim_end_matches('/').to_owned())
    }

    /// The name below the root, without slashes at its ends; empty for the root itself.
    fn strip(&self, path: &Path, raw: &str) -> Result<String, Failure> {
        let whole = raw.trim_end_matches('/');
        let outside = || {
            let shown = crate::plugin::transcript::tidy(raw, 200);
            Failure::new("archive_unsafe", format!("the member {shown:?} of {} leads outside", path.display()))
        };
        let root = self.0.as_str();
        // A link in an archive whose names begin with `/` may be without it.
        let below = match root {
            // Below `.`, names may be without it.
            "." => whole.strip_prefix("./").unwrap_or(if whole == "." { "" } else { whole }),
            "" => whole,
            _ => {
                let below = whole.strip_prefix(root).or_else(|| whole.strip_prefix(root.trim_start_matches('/')));
                below.filter(|below| below.is_empty() || below.starts_with('/')).ok_or_else(outside)?
            }
        };
        let below = below.trim_start_matches('/');
        if below.split('/').any(|part| part == "..") || below.contains('\0') {
            return Err(outside());
        }
        Ok(below.to_owned())
    }
}

fn text(path: &Path, raw: &[u8]) -> Result<String, Failure> {
    // Names need not be UTF-8; what is none is kept apart by its bytes.
    match std::str::from_utf8(raw) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if raw.len() < 4096 => Ok(raw.iter().map(|byte| char::from(*byte)).collect()),
        Err(_) => Err(damaged(path, &"a name is too long")),
    }
}

/// For writing: only a name that is written as it was read.
fn strict(path: &Path, raw: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(raw).map(str::to_owned).map_err(|_| {
        Failure::new("name_not_utf8", format!("{} has a name that is no UTF-8", path.display()))
            .hint("unpack this archive by hand: `docker cp - CONTAINER:PATH < FILE`")
    })
}

fn mix(all: &mut [u8; 32], one: &[u8]) {
    for (all, one) in all.iter_mut().zip(one) {
        *all ^= one;
    }
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new("archive_damaged", format!("{} is no whole tar: {error}", path.display()))
        .hint("the engine broke off: look in its log and run it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path, root: &str, link_root: &str) {
        let mut builder = Builder::new(File::create(path).unwrap());
        let mut member = |name: &str, kind: EntryType, body: &[u8], link: Option<&str>| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(body.len() as u64);
            header.set_mode(0o640);
            header.set_uid(1000);
            header.set_gid(1001);
            // As engines write them, also with a leading slash.
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(link) = link {
                header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, body).unwrap();
        };
        member(&format!("{root}/"), EntryType::Directory, b"", None);
        member(&format!("{root}/d/"), EntryType::Directory, b"", None);
        member(&format!("{root}/d/f"), EntryType::Regular, b"hello", None);
        member(&format!("{root}/d/h"), EntryType::Link, b"", Some(&format!("{link_root}d/f")));
        member(&format!("{root}/d/l"), EntryType::Symlink, b"", Some("../../outside"));
        builder.into_inner().unwrap();
    }

    #[test]
    fn a_volume_has_one_digest_however_its_members_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        for (root, link_root) in [("data", "data/"), ("", ""), (".", "./"), ("", "/")] {
            let (path, other) = (directory.path().join("a.tar"), directory.path().join("b.tar"));
            make(&path, root, link_root);
            found.push(read(&path, &Only::All, &mut |_| {}).unwrap());
            rebase(&path, &other).unwrap();
            found.push(read(&other, &Only::All, &mut |_| {}).unwrap());
        }
        assert_eq!((found[0].entries, found[0].files, found[0].bytes, found[0].directory), (4, 3, 5, true));
        assert!(found.iter().all(|each| *each == found[0]), "{found:#?}");
    }

    #[test]
    fn a_tar_that_is_cut_or_leads_outside_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        make(&path, "data", "data/");
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 100, 512, 1024 + 5, whole.len() - 1024, whole.len() - 600] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let failure = read(&path, &Only::All, &mut |_| {}).unwrap_err();
            assert_eq!(failure.trouble.code, "archive_damaged", "{length}");
        }
        for (root, link_root) in [("data", "data/../../"), ("data", "other/")] {
            make(&path, root, link_root);
            assert_eq!(read(&path, &Only::All, &mut |_| {}).unwrap_err().trouble.code, "archive_unsafe");
        }
    }
}
