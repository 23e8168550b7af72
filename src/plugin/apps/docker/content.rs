//! The tar of a volume: read whole, told by a digest over names, sizes and contents, and rewritten for a restore.
//!
//! Engines name the members in several ways (`data/x`, `/x`, `./x`); the first member is always the volume's root, so
//! its name is what is taken off the others. A tar has no checksum and an engine that breaks off may end its answer
//! well all the same, so the two empty blocks at the end are asked for.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::codes;
use crate::plugin::apps::docker::member::{DIRECTORY, LINK, Member, Members, REGULAR, SYMLINK, Writer};
use crate::plugin::kit::builtin::Failure;

/// Members of one volume.
const ENTRIES_MAX: u64 = 50_000_000;
const BUFFER_BYTES: usize = 256 << 10;

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
    /// Of the root directory itself; none in what older versions kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<Owner>,
    /// Members (the root included) that have extended attributes or lists of access.
    #[serde(default)]
    pub(super) extended_entries: u64,
    /// Over the names and those, in any order.
    #[serde(default)]
    pub(super) extended: String,
}

/// Whose something is and what they may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mode: u32,
}

/// Members that are looked at.
pub(super) enum Only<'a> {
    All,
    /// Those with these names.
    Names(&'a HashSet<Vec<u8>>),
}

type Reader = Members<BufReader<File>>;
/// Gets a member, its name below the root, and its content.
type OnMember<'o> = &'o mut dyn FnMut(&Member, &[u8], &Root, &mut Reader) -> Result<(), Failure>;
/// Gets a member's name, its size and its beginning.
type OnHead<'o> = &'o mut dyn FnMut(&[u8], u64, &[u8]);

fn open(path: &Path) -> Result<Reader, Failure> {
    let file = File::open(path).map_err(|error| damaged(path, &error))?;
    Ok(Members::new(BufReader::with_capacity(BUFFER_BYTES, file)))
}

/// The members of a tar with their names below its root, which comes first and has none.
fn each(path: &Path, on_member: OnMember<'_>) -> Result<(), Failure> {
    let mut members = open(path)?;
    let mut root: Option<Root> = None;
    while let Some(member) = members.next().map_err(|error| damaged(path, &error))? {
        let root = root.get_or_insert_with(|| Root::of(&member.name));
        let name = root.strip(path, &member.name)?;
        on_member(&member, &name, root, &mut members)?;
    }
    if root.is_none() {
        return Err(damaged(path, &"it holds nothing, not even its root"));
    }
    Ok(())
}

/// Reads a whole tar. `on_name` gets each member's name, relative to the root.
pub(super) fn read(path: &Path, only: &Only<'_>, on_name: &mut dyn FnMut(&[u8])) -> Result<Contents, Failure> {
    read_with_heads(path, only, &mut |name, _, _| on_name(name))
}

/// Reads a whole tar. `on_member` gets each member's name, its size, and of a file the beginning.
pub(super) fn read_with_heads(path: &Path, only: &Only<'_>, on_member: OnHead<'_>) -> Result<Contents, Failure> {
    let (mut contents, mut digest, mut owners) = (Contents::default(), [0_u8; 32], [0_u8; 32]);
    let mut extended = [0_u8; 32];
    let mut chunk = vec![0_u8; BUFFER_BYTES];
    let mut first = true;
    each(path, &mut |member, name, root, members| {
        let is_root = std::mem::take(&mut first);
        if let Only::Names(names) = only
            && !is_root
            && !names.contains(name)
        {
            return Ok(());
        }
        let mut attributes: Vec<&(Vec<u8>, Vec<u8>)> = member.extended().collect();
        attributes.sort();
        if !attributes.is_empty() {
            let mut hash = Sha256::new_with_prefix(name);
            for (key, value) in attributes {
                hash.update(format!("\0{}\0{}\0", key.len(), value.len()));
                hash.update(key);
                hash.update(value);
            }
            contents.extended_entries += 1;
            mix(&mut extended, &hash.finalize());
        }
        if is_root {
            contents.directory = member.is_directory();
        }
        if is_root && member.is_directory() {
            contents.root = Some(Owner { uid: member.uid, gid: member.gid, mode: member.mode });
            return Ok(());
        }
        contents.entries += 1;
        if contents.entries > ENTRIES_MAX {
            return Err(Failure::new(codes::ARCHIVE_TOO_LARGE, format!("{} has too many members", path.display())));
        }
        let link = if member.kind == LINK { root.strip(path, &member.link)? } else { member.link.clone() };
        let mut hash = Sha256::new();
        let (kind, size) = (member.kind.to_string(), member.size.to_string());
        for part in [kind.as_bytes(), name, size.as_bytes(), &link] {
            hash.update(part);
            hash.update([0]);
        }
        let mut is_first = true;
        loop {
            let shown = || crate::plugin::kit::tidy::tidy(&String::from_utf8_lossy(name), 200);
            let read = members.read(&mut chunk).map_err(|error| damaged(path, &format!("{}: {error}", shown())))?;
            match chunk.get(..read) {
                Some(bytes) if !bytes.is_empty() => {
                    if std::mem::take(&mut is_first) {
                        on_member(name, member.size, bytes);
                    }
                    hash.update(bytes);
                }
                _ => break,
            }
        }
        if is_first {
            on_member(name, member.size, &[]);
        }
        mix(&mut digest, &hash.finalize());
        // A link's mode means nothing.
        let mode = if member.kind == SYMLINK { 0 } else { member.mode };
        let mut hash = Sha256::new_with_prefix(name);
        hash.update(format!("\0{}\0{}\0{mode}", member.uid, member.gid));
        mix(&mut owners, &hash.finalize());
        contents.files += u64::from(!member.is_directory());
        contents.bytes = contents.bytes.saturating_add(member.size);
        Ok(())
    })?;
    contents.digest = hex::encode(digest);
    contents.owners = hex::encode(owners);
    contents.extended = hex::encode(extended);
    Ok(contents)
}

/// A digest over names, kinds, sizes and contents that is the same whichever of several names of one file comes first:
/// that depends on the order in which a directory is read.
pub(super) fn canonical(path: &Path, only: &Only<'_>) -> Result<String, Failure> {
    let wanted = |name: &[u8]| match only {
        Only::All => true,
        Only::Names(names) => names.contains(name),
    };
    // By the name that has the content.
    let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    each(path, &mut |member, name, root, _| {
        if member.kind == LINK && wanted(name) {
            groups.entry(root.strip(path, &member.link)?).or_default().push(name.to_vec());
        }
        Ok(())
    })?;
    for (target, names) in &mut groups {
        names.push(target.clone());
        names.sort();
    }
    let mut digest = [0_u8; 32];
    let mut chunk = vec![0_u8; BUFFER_BYTES];
    each(path, &mut |member, name, _, members| {
        if name.is_empty() || member.kind == LINK || !wanted(name) {
            return Ok(());
        }
        let names = groups.get(name).filter(|_| member.kind != DIRECTORY);
        let (first, others) = match names.and_then(|names| names.split_first()) {
            Some((first, others)) => (first.as_slice(), others),
            None => (name, &[] as &[Vec<u8>]),
        };
        let mut hash = Sha256::new();
        let (kind, size) = (member.kind.to_string(), member.size.to_string());
        for part in [kind.as_bytes(), first, size.as_bytes(), &member.link] {
            hash.update(part);
            hash.update([0]);
        }
        loop {
            let read = members.read(&mut chunk).map_err(|error| damaged(path, &error))?;
            match chunk.get(..read) {
                Some(bytes) if !bytes.is_empty() => hash.update(bytes),
                _ => break,
            }
        }
        mix(&mut digest, &hash.finalize());
        for other in others {
            let mut hash = Sha256::new_with_prefix(b"link\0");
            for part in [other.as_slice(), first] {
                hash.update(part);
                hash.update([0]);
            }
            mix(&mut digest, &hash.finalize());
        }
        Ok(())
    })?;
    Ok(hex::encode(digest))
}

/// What becomes of a member when a tar is written anew.
pub(super) enum Fate {
    Keep,
    LeaveOut,
    /// Another content at the same name.
    Instead(std::path::PathBuf),
}

/// Writes the tar anew, with names as they are; `fate` gets each name relative to the root.
pub(super) fn rewrite(path: &Path, into: &Path, fate: &mut dyn FnMut(&[u8]) -> Fate) -> Result<(), Failure> {
    let mut writer = writer(into)?;
    each(path, &mut |member, name, _, members| match fate(name) {
        Fate::LeaveOut => Ok(()),
        Fate::Keep => writer.append(member, members).map_err(|error| unwritten(path, into, error)),
        Fate::Instead(other) => {
            let opened = File::open(&other).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (size, mut file) = opened.map_err(|error| damaged(&other, &error))?;
            let mut member = member.clone();
            member.size = size;
            writer.append(&member, &mut file).map_err(|error| unwritten(path, into, error))
        }
    })?;
    finished(writer, path, into)
}

/// Writes the same members with names relative to the root, as an engine unpacks them at a volume's place; what lies at
/// `without` is left out. Answers how many that were.
pub(super) fn rebase(path: &Path, into: &Path, without: &[String]) -> Result<u64, Failure> {
    let mut writer = writer(into)?;
    let mut left_out = 0;
    each(path, &mut |member, name, root, members| {
        if lies_below(name, without) {
            left_out += 1;
            return Ok(());
        }
        let mut member = member.clone();
        member.name = if name.is_empty() { b".".to_vec() } else { name.to_vec() };
        if member.kind == DIRECTORY {
            member.name.push(b'/');
        }
        if member.kind == LINK {
            member.link = root.strip(path, &member.link)?;
        }
        writer.append(&member, members).map_err(|error| unwritten(path, into, error))
    })?;
    finished(writer, path, into)?;
    Ok(left_out)
}

/// Writes an archive with the root alone, as a directory called `name`; answers whether there is such a root.
pub(super) fn root_only(path: &Path, into: &Path, name: &str) -> Result<bool, Failure> {
    let mut members = open(path)?;
    let first = members.next().map_err(|error| damaged(path, &error))?;
    let Some(mut root) = first.filter(Member::is_directory) else { return Ok(false) };
    root.name = format!("{name}/").into_bytes();
    let mut writer = writer(into)?;
    writer.append(&root, &mut io::empty()).map_err(|error| unwritten(path, into, error))?;
    finished(writer, path, into).map(|()| true)
}

/// Writes an archive with an empty file for each of `names`, with the owner and mode of the member that its name begins
/// with.
pub(super) fn empties(path: &Path, into: &Path, names: &[Vec<u8>]) -> Result<(), Failure> {
    let mut writer = writer(into)?;
    each(path, &mut |member, name, _, _| {
        let of_it = names.iter().filter(|each| member.kind == REGULAR && !name.is_empty() && each.starts_with(name));
        for each in of_it.filter(|each| each.len() - name.len() <= "-journal".len()) {
            let mut member = member.clone();
            (member.name, member.size) = (each.clone(), 0);
            member.records.clear();
            writer.append(&member, &mut io::empty()).map_err(|error| unwritten(path, into, error))?;
        }
        Ok(())
    })?;
    finished(writer, path, into)
}

/// What of owners, modes and attributes is not as it was, in words.
pub(super) fn differs_in_rights(wanted: &Contents, found: &Contents) -> Option<&'static str> {
    match () {
        () if wanted.owners != found.owners => {
            Some("some are not those of the backup: the way to the volume keeps no others")
        }
        () if wanted.root != found.root => Some("those of the volume's own directory are not those of the backup"),
        () if (wanted.extended_entries, &wanted.extended) != (found.extended_entries, &found.extended) => {
            Some("extended attributes and lists of access are not all there: the way to the volume does not carry them")
        }
        () => None,
    }
}

fn writer(into: &Path) -> Result<Writer<BufWriter<File>>, Failure> {
    let file = File::create(into).map_err(|error| unwritten(into, into, error))?;
    Ok(Writer::new(BufWriter::with_capacity(BUFFER_BYTES, file)))
}

fn finished(writer: Writer<BufWriter<File>>, path: &Path, into: &Path) -> Result<(), Failure> {
    let inner = writer.finish().map_err(|error| unwritten(path, into, error))?;
    inner.get_ref().sync_all().map_err(|error| unwritten(path, into, error))
}

/// What failed while one tar was read and another one written.
fn unwritten(path: &Path, into: &Path, error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        return damaged(path, &error);
    }
    Failure::new(codes::DISK_FULL, format!("{} cannot be written: {error}", into.display()))
        .hint("make room where tars are staged")
}

/// Takes single files out of a tar: `into` says where to, for each name; none: it stays.
pub(super) fn extract(path: &Path, into: &mut dyn FnMut(&[u8]) -> Option<std::path::PathBuf>) -> Result<(), Failure> {
    each(path, &mut |member, name, _, members| {
        if let Some(to) = into(name).filter(|_| member.kind == REGULAR) {
            let copied = File::create(&to).and_then(|mut file| io::copy(members, &mut file));
            copied.map_err(|error| unwritten(path, &to, error))?;
        }
        Ok(())
    })
}

/// Whether the beginning of a tar has a member beside its root directory and what lies at `without`.
pub(super) fn holds_something(beginning: &[u8], without: &[String]) -> bool {
    let mut members = Members::new(beginning);
    match members.next() {
        // What breaks off has more to come.
        Err(_) => true,
        Ok(None) => false,
        Ok(Some(first)) if !first.is_directory() => true,
        Ok(Some(first)) => {
            let root = Root::of(&first.name);
            loop {
                match members.next() {
                    Err(_) => return true,
                    Ok(None) => return false,
                    Ok(Some(member)) => {
                        let name = root.strip(Path::new(""), &member.name).unwrap_or_default();
                        let on_the_way =
                            without.iter().any(|path| path.as_bytes().starts_with(&[&name, b"/".as_slice()].concat()));
                        if !lies_below(&name, without) && (!on_the_way || !member.is_directory()) {
                            return true;
                        }
                    }
                }
            }
        }
    }
}

/// Whether `name` is one of `parents` or lies below one.
pub(super) fn lies_below(name: &[u8], parents: &[String]) -> bool {
    parents.iter().any(|parent| {
        let rest = name.strip_prefix(parent.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// The first member's name.
struct Root(Vec<u8>);

impl Root {
    fn of(raw: &[u8]) -> Self {
        Self(without_end(raw).to_vec())
    }

    /// The name below the root, without slashes at its ends; empty for the root itself.
    fn strip(&self, path: &Path, raw: &[u8]) -> Result<Vec<u8>, Failure> {
        let whole = without_end(raw);
        let outside = || {
            let shown = crate::plugin::kit::tidy::tidy(&String::from_utf8_lossy(raw), 200);
            Failure::new(codes::ARCHIVE_UNSAFE, format!("the member {shown:?} of {} leads outside", path.display()))
        };
        let root = self.0.as_slice();
        // A link in an archive whose names begin with `/` may be without it.
        let below = match root {
            // Below `.`, names may be without it.
            b"." => whole.strip_prefix(b"./").unwrap_or(if whole == b"." { b"" } else { whole }),
            b"" => whole,
            _ => {
                let bare = root.strip_prefix(b"/").unwrap_or(root);
                let below = whole.strip_prefix(root).or_else(|| whole.strip_prefix(bare));
                below.filter(|below| below.is_empty() || below.starts_with(b"/")).ok_or_else(outside)?
            }
        };
        let mut below = below;
        while let Some(rest) = below.strip_prefix(b"/") {
            below = rest;
        }
        if below.split(|byte| *byte == b'/').any(|part| part == b"..") || below.contains(&0) {
            return Err(outside());
        }
        Ok(below.to_vec())
    }
}

fn without_end(mut name: &[u8]) -> &[u8] {
    while let Some(shorter) = name.strip_suffix(b"/") {
        name = shorter;
    }
    name
}

fn mix(all: &mut [u8; 32], one: &[u8]) {
    for (all, one) in all.iter_mut().zip(one) {
        *all ^= one;
    }
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(codes::ARCHIVE_DAMAGED, format!("{} is no whole tar: {error}", path.display()))
        .hint("the engine broke off: look in its log and run it again")
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType};

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
            rebase(&path, &other, &[]).unwrap();
            found.push(read(&other, &Only::All, &mut |_| {}).unwrap());
        }
        assert_eq!((found[0].entries, found[0].files, found[0].bytes, found[0].directory), (4, 3, 5, true));
        assert!(found.iter().all(|each| *each == found[0]), "{found:#?}");
    }

    #[test]
    fn every_change_of_a_member_or_of_the_root_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let long = "n".repeat(150);
        std::fs::write(tree.join(&long), "1").unwrap();
        std::fs::write(tree.join("two\nlines ü"), "2").unwrap();
        let tar = directory.path().join("a.tar");
        let mut seen: Vec<Contents> = Vec::new();
        let mut look = |changed: &str| {
            let made = std::process::Command::new("tar")
                .arg("-C")
                .arg(&tree)
                .args(["--format=posix", "-cf"])
                .arg(&tar)
                .arg(".")
                .status();
            assert!(made.unwrap().success());
            let found = read(&tar, &Only::All, &mut |_| {}).unwrap();
            assert!(!seen.contains(&found), "{changed} is not seen: {found:#?}");
            seen.push(found);
        };
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        look("nothing");
        mode(&tree, 0o710);
        look("the root's mode");
        mode(&tree.join(&long), 0o600);
        look("a mode");
        std::fs::write(tree.join(&long), "3").unwrap();
        look("a content");
        std::fs::rename(tree.join("two\nlines ü"), tree.join("two\nlines o")).unwrap();
        look("a name behind its newline");
        std::fs::rename(tree.join(&long), tree.join(format!("{}m", "n".repeat(149)))).unwrap();
        look("the end of a long name");
        std::fs::write(tree.join("extra"), "").unwrap();
        look("an empty file more");
        std::fs::create_dir(tree.join("directory")).unwrap();
        look("a directory more");
    }

    #[test]
    fn members_are_left_out_and_exchanged() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.tar"), directory.path().join("b.tar"));
        make(&path, "data", "data/");
        let content = directory.path().join("content");
        std::fs::write(&content, "something longer").unwrap();
        let fate = |name: &[u8]| match name {
            b"d/f" => Fate::Instead(content.clone()),
            b"d/l" | b"d/h" => Fate::LeaveOut,
            _ => Fate::Keep,
        };
        rewrite(&path, &other, &mut { fate }).unwrap();
        let mut names = Vec::new();
        let found = read(&other, &Only::All, &mut |name| names.push(name.to_vec())).unwrap();
        assert_eq!((found.bytes, names), (16, vec![b"d".to_vec(), b"d/f".to_vec()]));
        assert!(lies_below(b"d/f", &["d".to_owned()]) && lies_below(b"d", &["d".to_owned()]));
        assert!(!lies_below(b"dd", &["d".to_owned()]));
    }

    #[test]
    fn whichever_name_of_a_file_comes_first_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, members: &[(&str, &str, &str)]| {
            let path = directory.path().join(name);
            let mut builder = Builder::new(File::create(&path).unwrap());
            for (name, text, link) in [("./", "", "")].iter().chain(members) {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o640);
                header.set_size(text.len() as u64);
                if name.ends_with('/') {
                    header.set_entry_type(EntryType::Directory);
                    builder.append_data(&mut header, name, std::io::empty()).unwrap();
                } else if link.is_empty() {
                    builder.append_data(&mut header, name, text.as_bytes()).unwrap();
                } else {
                    header.set_entry_type(EntryType::Link);
                    builder.append_link(&mut header, name, link).unwrap();
                }
            }
            builder.into_inner().unwrap();
            canonical(&path, &Only::All).unwrap()
        };
        let one = write("one", &[("./a", "x", ""), ("./b", "", "./a"), ("./c", "y", "")]);
        assert_eq!(one, write("two", &[("./c", "y", ""), ("./b", "x", ""), ("./a", "", "./b")]));
        assert_ne!(one, write("three", &[("./a", "x", ""), ("./b", "x", ""), ("./c", "y", "")]));
        assert_ne!(one, write("four", &[("./a", "x", ""), ("./c", "", "./a"), ("./b", "y", "")]));
        assert_ne!(one, write("five", &[("./a", "x", ""), ("./b", "", "./a")]));
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
