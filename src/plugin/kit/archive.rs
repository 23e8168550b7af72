//! Archives that applications hand out: looked at whole before anything is unpacked, then read to the last byte.
//!
//! A zip is judged by its central directory first: names that lead outside, links, a million members or a bomb's
//! ratio are refused before a byte is inflated. Then every member is inflated and its checksum compared. A visitor gets
//! each as a stream and takes what it wants; none is written under its own name.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};
use tempfile::NamedTempFile;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;

/// What an archive may be at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) members: u64,
    /// Of all members together, unpacked.
    pub(crate) bytes: u64,
    /// Unpacked to packed; small archives (below 1 MiB unpacked) may have any.
    pub(crate) ratio: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { members: 100_000, bytes: 256 << 30, ratio: 500 }
    }
}

/// Below this an archive is no bomb whatever its ratio.
const RATIO_MATTERS_BYTES: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative, with `/`, without `..`.
    pub(crate) name: String,
    /// Unpacked, in bytes, as the archive says.
    pub(crate) bytes: u64,
}

/// What an archive holds; directories are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) members: u64,
    pub(crate) bytes: u64,
}

/// Gets each file of an archive; what it leaves unread is read (and checked) after it.
pub(crate) type Visitor<'v> = &'v mut dyn FnMut(&Member, &mut dyn Read) -> Result<(), Failure>;

/// Reads a whole zip, each member with its checksum.
pub(crate) fn read_zip(path: &Path, bounds: Bounds, visit: Visitor<'_>) -> Result<Survey, Failure> {
    let damaged = |error: &dyn std::fmt::Display| damaged(path, "zip", error);
    let file = File::open(path).map_err(|error| damaged(&error))?;
    let packed = file.metadata().map_err(|error| damaged(&error))?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(|error| damaged(&error))?;
    let survey = judge_zip(path, &archive, &mut buffer, packed, bounds)?;
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| damaged(&error))? {
        if entry.is_dir() {
            continue;
        }
        let member =
            Member { name: name_of(path, entry.file_path().as_bytes())?, bytes: entry.uncompressed_size_hint() };
        let method = entry.compression_method();
        let local = archive.get_entry(entry.wayfinder()).map_err(|error| damaged(&error))?;
        let whole = |source: &mut dyn Read, visit: Visitor<'_>| -> Result<(), Failure> {
            visit(&member, source)?;
            let rest = io::copy(source, &mut io::sink());
            rest.map(drop).map_err(|error| damaged(&format!("{}: {error}", member.name)))
        };
        match method {
            CompressionMethod::STORE => whole(&mut local.verifying_reader(local.reader()), visit)?,
            CompressionMethod::DEFLATE => {
                whole(&mut local.verifying_reader(DeflateDecoder::new(local.reader())), visit)?;
            }
            other => {
                return Err(damaged(&format!("{} is packed by a method that is not known ({other:?})", member.name)));
            }
        }
    }
    Ok(survey)
}

/// Looks at the directory alone: nothing is inflated.
fn judge_zip(
    path: &Path,
    archive: &ZipArchive<rawzip::FileReader>,
    buffer: &mut [u8],
    packed: u64,
    bounds: Bounds,
) -> Result<Survey, Failure> {
    let mut survey = Survey::default();
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| damaged(path, "zip", &error))? {
        let name = name_of(path, entry.file_path().as_bytes())?;
        if entry.mode().is_symlink() {
            return Err(unsafe_member(path, &name, "is a symbolic link"));
        }
        if !entry.is_dir() {
            survey.members += 1;
            survey.bytes = survey.bytes.saturating_add(entry.uncompressed_size_hint());
        }
        check(path, survey, packed, bounds)?;
    }
    Ok(survey)
}

/// Reads a whole tar, packed by gzip when `gzip` says so; the checksum of gzip is compared at its end.
pub(crate) fn read_tar(path: &Path, gzip: Gzip, bounds: Bounds, visit: Visitor<'_>) -> Result<Survey, Failure> {
    let file = File::open(path).map_err(|error| damaged(path, "tar", &error))?;
    let packed = file.metadata().map_err(|error| damaged(path, "tar", &error))?.len();
    let file = BufReader::with_capacity(256 << 10, file);
    match gzip {
        Gzip::Yes => read_tar_stream(path, MultiGzDecoder::new(file), packed, bounds, Links::Refused, visit),
        Gzip::No => read_tar_stream(path, file, packed, bounds, Links::Refused, visit),
    }
}

/// Reads a tar that is itself a member of an archive, here called `path`, with `packed` bytes; links in it are passed
/// over.
pub(crate) fn read_inner_tar(
    path: &Path,
    source: &mut dyn Read,
    packed: u64,
    gzip: Gzip,
    bounds: Bounds,
    visit: Visitor<'_>,
) -> Result<Survey, Failure> {
    let source = BufReader::with_capacity(256 << 10, source);
    match gzip {
        Gzip::Yes => read_tar_stream(path, MultiGzDecoder::new(source), packed, bounds, Links::Passed, visit),
        Gzip::No => read_tar_stream(path, source, packed, bounds, Links::Passed, visit),
    }
}

/// What is done about links: nothing is written, so they lead nowhere, but most exports have no business with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Refused,
    Passed,
}

/// Whether a tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gzip {
    Yes,
    No,
}

fn read_tar_stream(
    path: &Path,
    source: impl Read,
    packed: u64,
    bounds: Bounds,
    links: Links,
    visit: Visitor<'_>,
) -> Result<Survey, Failure> {
    let damaged = |error: &dyn std::fmt::Display| damaged(path, "tar", error);
    let mut archive = tar::Archive::new(source);
    let mut survey = Survey::default();
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let raw = entry.path_bytes().into_owned();
        let name = name_of(path, &raw)?;
        let kind = entry.header().entry_type();
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if kind.is_dir() || (is_link && links == Links::Passed) {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() && !kind.is_gnu_sparse() {
            return Err(unsafe_member(path, &name, "is neither a file nor a directory"));
        }
        survey.members += 1;
        survey.bytes = survey.bytes.saturating_add(entry.size());
        check(path, survey, packed, bounds)?;
        let member = Member { name, bytes: entry.size() };
        visit(&member, &mut entry)?;
        let rest = io::copy(&mut entry, &mut io::sink());
        rest.map_err(|error| damaged(&format!("{}: {error}", member.name)))?;
    }
    // The end of the stream: gzip compares its checksum only there.
    let rest = io::copy(&mut archive.into_inner(), &mut io::sink());
    rest.map_err(|error| damaged(&error))?;
    if survey.members == 0 {
        return Err(damaged(&"it holds no file"));
    }
    Ok(survey)
}

/// Reads a member into memory.
pub(crate) fn take(member: &Member, source: &mut dyn Read, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = source.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(codes::ARCHIVE_DAMAGED, format!("{} cannot be read: {error}", member.name)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::new(
            codes::ARCHIVE_UNEXPECTED,
            format!("{} has more than {bytes_max} bytes", member.name),
        ));
    }
    Ok(bytes)
}

/// Unpacks a member into a file below `scratch` that is gone when dropped.
pub(crate) fn unpack(
    member: &Member,
    source: &mut dyn Read,
    scratch: &Path,
    bytes_max: u64,
) -> Result<NamedTempFile, Failure> {
    const CHUNK_BYTES: usize = 256 << 10;
    let unwritable = |error: io::Error| {
        let told = format!("{} cannot be unpacked to be looked at: {error}", member.name);
        Failure::unwritten(codes::UNPACK_FAILED, &error, told).hint("make room where the artifacts lie")
    };
    let mut file = tempfile::Builder::new().prefix(".look-").tempfile_in(scratch).map_err(unwritable)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let length = source.read(&mut chunk).map_err(|error| {
            Failure::new(codes::ARCHIVE_DAMAGED, format!("{} is damaged: {error}", member.name))
                .hint("the archive was cut or changed on its way; run it again")
        })?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { return Ok(file) };
        bytes += length as u64;
        if bytes > bytes_max {
            let most = crate::types::ByteSize(bytes_max);
            return Err(Failure::new(codes::ARCHIVE_UNEXPECTED, format!("{} has more than {most}", member.name))
                .hint("look at what the application exported"));
        }
        file.write_all(read).map_err(unwritable)?;
    }
}

/// Whether the file starts as a zip with at least one member does.
pub(crate) fn looks_like_zip(path: &Path) -> bool {
    starts_with(path, b"PK\x03\x04")
}

/// Whether the file starts with `magic`.
pub(crate) fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut head = vec![0; magic.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == magic
}

fn check(path: &Path, survey: Survey, packed: u64, bounds: Bounds) -> Result<(), Failure> {
    let refuse = |why: String| {
        Err(Failure::new(codes::ARCHIVE_BOMB, format!("{} {why}", path.display()))
            .hint("look at what the application exported; it was not unpacked"))
    };
    if survey.members > bounds.members {
        return refuse(format!("has more than {} members", bounds.members));
    }
    if survey.bytes > bounds.bytes {
        return refuse(format!("would unpack to more than {}", crate::types::ByteSize(bounds.bytes)));
    }
    if survey.bytes > RATIO_MATTERS_BYTES && survey.bytes / packed.max(1) > bounds.ratio {
        return refuse(format!("would unpack to more than {} times its size", bounds.ratio));
    }
    Ok(())
}

/// A member's name, when it stays below the place where it would be unpacked.
fn name_of(path: &Path, raw: &[u8]) -> Result<String, Failure> {
    let shown = String::from_utf8_lossy(raw).into_owned();
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(unsafe_member(path, &shown, "has a name that is no UTF-8"));
    };
    let inside = !name.starts_with('/')
        && !name.contains(['\\', '\0'])
        && name.split('/').all(|part| part != "..")
        && name.get(1..3).is_none_or(|drive| drive != ":/");
    if name.is_empty() || !inside {
        return Err(unsafe_member(path, &shown, "leads outside of the archive"));
    }
    Ok(name.trim_start_matches("./").to_owned())
}

fn unsafe_member(path: &Path, name: &str, why: &str) -> Failure {
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    Failure::new(codes::ARCHIVE_UNSAFE, format!("the member {name:?} of {} {why}", path.display()))
        .hint("look at what the application exported; it was not unpacked")
}

fn damaged(path: &Path, kind: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(codes::ARCHIVE_DAMAGED, format!("{} is no whole {kind}: {error}", path.display()))
        .hint("the export was cut or changed on its way; look in the application's log and run it again")
}

#[cfg(test)]
mod tests;
