//! What is inside of a file of free content: through gzip, xz, lzma, lz4, lzip, zstd, bzip2, tar and zip, in any order, down to what was meant
//! to be kept.
//!
//! `pg_dump … | gzip` of a dump that failed is a whole gzip of nothing. So nothing, however wrapped, is refused when it is
//! captured, which reads only as far as the first byte that is something. What `inside` asks for is looked at afterwards,
//! to the end. What can't be opened (encrypted, or an unknown kind) is something, and no more is said of it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::error::{Code, codes};
use crate::plugin::kit::archive::{self, Bounds};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Tools};
use crate::plugin::protocol::Verdict;
use crate::process::Exit;
use crate::types::ByteSize;

mod sql;

use sql::Reading;

/// So much of the beginning tells what it is.
const HEAD_BYTES: usize = 512;
/// Wrappers in each other.
const DEPTH_MAX: usize = 8;
/// Files that an archive may hold.
const LEAVES_MAX: u64 = 1_000_000;

/// What must be true of what is inside, whatever it is wrapped in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inside {
    /// All files inside together have at least so many bytes: `10KiB`, or a number.
    #[serde(default)]
    min_size: Option<AtLeast>,
    /// This text is in one of the files inside.
    #[serde(default)]
    contains: Option<Texts>,
    /// A whole SQL dump of this kind of database, as text, with at least one table, is inside.
    #[serde(default)]
    sql_dump: Option<sql::Kind>,
    /// At least so many files are inside.
    #[serde(default)]
    min_files: Option<u64>,
}

/// One text, or several that must all be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Texts {
    One(String),
    All(Vec<String>),
}

/// A size: `10KiB`, or a number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeText")]
pub(crate) struct AtLeast(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

impl JsonSchema for AtLeast {
    fn schema_name() -> Cow<'static, str> {
        "AtLeast".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$" },
            ]
        })
    }
}

impl TryFrom<SizeText> for AtLeast {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Number(bytes) => Ok(Self(bytes)),
            SizeText::Text(text) => text.parse().map(|ByteSize(bytes)| Self(bytes)).map_err(|error| format!("{error}")),
        }
    }
}

/// Whether there is anything in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Something,
    /// In words: `a gzip of nothing`.
    Nothing(String),
    /// It can't be told, and why.
    Unknown(String),
}

/// Why a walk ended early.
enum Stop {
    Enough,
    Damaged(String),
    Unknown(String),
    Failed(Failure),
}

/// Gets each file inside.
type Leaf<'l> = &'l mut dyn FnMut(&mut dyn Read) -> Result<(), Stop>;

/// Whether there is anything inside of the file; reads only as far as that needs.
///
/// # Errors
/// When the wrapper is damaged before anything was found in it.
pub(crate) fn content(path: &Path, scratch: &Path) -> Result<Content, Failure> {
    let walker = Walker { scratch };
    let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    let mut layers: Vec<&'static str> = Vec::new();
    let mut something = |source: &mut dyn Read| -> Result<(), Stop> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let length = source.read(&mut chunk).map_err(|error| Stop::Damaged(error.to_string()))?;
            let read = chunk.get(..length).unwrap_or_default();
            if read.iter().any(|byte| *byte != 0 && !byte.is_ascii_whitespace()) {
                return Err(Stop::Enough);
            }
            if read.is_empty() {
                return Ok(());
            }
        }
    };
    let mut source: Box<dyn Read> = Box::new(BufReader::with_capacity(256 << 10, file));
    match walker.walk(&mut source, 0, &mut layers, &mut something) {
        Err(Stop::Enough) => Ok(Content::Something),
        Ok(()) => Ok(Content::Nothing(match layers.as_slice() {
            [] => "nothing but white space or zeros".to_owned(),
            layers => format!("{} of nothing", layers.join(" of ")),
        })),
        Err(Stop::Unknown(why)) => Ok(Content::Unknown(why)),
        Err(Stop::Damaged(why)) => {
            Err(Failure::new(codes::ARCHIVE_DAMAGED, format!("{shown} is no whole {}: {why}", layers.join(" of ")))
                .hint("it was cut or changed on its way; look at what made it, and run it again"))
        }
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Refuses nothing, however it is wrapped; `what` begins the sentence.
pub(crate) fn refuse_nothing(
    code: Code,
    what: &str,
    path: &Path,
    scratch: &Path,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    match content(path, scratch)? {
        Content::Something => Ok(()),
        Content::Unknown(why) => {
            events.log(format!("{what}: whether there is anything inside is not known: {why}"));
            Ok(())
        }
        Content::Nothing(how) => Err(Failure::new(code, format!("{what} is {how}"))
            .hint("what should be inside failed before it was packed: run it by hand without the packing (in a shell, `set -o pipefail`)")),
    }
}

impl Inside {
    /// Looks at the whole file and tells what is true of it.
    pub(crate) fn tell(&self, path: &Path, scratch: &Path, events: &mut EventWriter<'_>) {
        let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let texts = match &self.contains {
            None => Vec::new(),
            Some(Texts::One(text)) => vec![text.clone()],
            Some(Texts::All(texts)) => texts.clone(),
        };
        let mut reading = Reading::new(texts, self.sql_dump);
        let mut files = 0_u64;
        let mut each = |source: &mut dyn Read| -> Result<(), Stop> {
            files += 1;
            if files > LEAVES_MAX {
                return Err(Stop::Unknown(format!("it holds more than {LEAVES_MAX} files")));
            }
            reading.file(source).map_err(|error| Stop::Damaged(error.to_string()))
        };
        let opened = File::open(path).map_err(|error| Stop::Damaged(error.to_string()));
        let walked = opened.and_then(|file| {
            let mut source: Box<dyn Read> = Box::new(BufReader::with_capacity(256 << 10, file));
            Walker { scratch }.walk(&mut source, 0, &mut Vec::new(), &mut each)
        });
        let name = |what: &str| format!("inside of {shown}: {what}");
        let trouble = match walked {
            Ok(()) | Err(Stop::Enough) => None,
            Err(Stop::Unknown(why)) => Some((Verdict::CouldNotVerify, why)),
            Err(Stop::Damaged(why)) => Some((Verdict::Failed, why)),
            Err(Stop::Failed(failure)) => Some((Verdict::Failed, failure.trouble.message)),
        };
        if let Some((verdict, why)) = trouble {
            events.validation(name("read to its end"), verdict, why);
            return;
        }
        events.validation(
            name("read to its end"),
            Verdict::Proven,
            format!("{files} files, {}", ByteSize(reading.bytes)),
        );
        let mut judged = |what: &str, good: bool, detail: String| {
            events.validation(name(what), if good { Verdict::Proven } else { Verdict::Failed }, detail);
        };
        if let Some(AtLeast(wanted)) = self.min_size {
            let detail = format!("{} bytes, at least {wanted}", reading.bytes);
            judged("it is large enough", reading.bytes >= wanted, detail);
        }
        if let Some(wanted) = self.min_files {
            judged("it has files enough", files >= wanted, format!("{files} files, at least {wanted}"));
        }
        for (text, found) in &reading.texts {
            let detail = if *found { "found".to_owned() } else { format!("{text:?} is in none of its files") };
            judged("it contains what it must", *found, detail);
        }
        if self.sql_dump.is_some() {
            match reading.dump() {
                Ok(detail) => events.validation(name("a whole SQL dump"), Verdict::Proven, detail),
                Err((verdict, why)) => events.validation(name("a whole SQL dump"), verdict, why),
            }
        }
    }
}

/// What a file is, by its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapper {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    Lz4,
    Lzma,
    Lzip,
    Lzop,
    Compress,
    Zip,
    Tar,
}

impl Wrapper {
    fn of(head: &[u8]) -> Option<Self> {
        const BLOCK: &[u8] = &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
        const END: &[u8] = &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
        let starts = |magic: &[u8]| head.starts_with(magic);
        let bzip2 = starts(b"BZh") && head.get(4..10).is_some_and(|next| next == BLOCK || next == END);
        Some(match () {
            () if starts(&[0x1f, 0x8b, 8]) => Self::Gzip,
            () if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => Self::Xz,
            () if starts(&[0x28, 0xb5, 0x2f, 0xfd]) => Self::Zstd,
            () if bzip2 => Self::Bzip2,
            () if starts(&[0x04, 0x22, 0x4d, 0x18]) || starts(&[0x02, 0x21, 0x4c, 0x18]) => Self::Lz4,
            () if is_lzma(head) => Self::Lzma,
            () if starts(b"LZIP\x01") => Self::Lzip,
            () if starts(&[0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n']) => Self::Lzop,
            () if starts(&[0x1f, 0x9d]) => Self::Compress,
            // Also one without a member, which is its end alone.
            () if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") => Self::Zip,
            () if head.get(257..262).is_some_and(|magic| magic == b"ustar") => Self::Tar,
            () => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "a gzip",
            Self::Xz => "an xz",
            Self::Zstd => "a zstd",
            Self::Bzip2 => "a bzip2",
            Self::Lz4 => "an lz4",
            Self::Lzma => "an lzma",
            Self::Lzip => "an lzip",
            Self::Lzop => "an lzop",
            Self::Compress => "a compress",
            Self::Zip => "a zip",
            Self::Tar => "a tar",
        }
    }
}

/// It has no magic: possible settings, the size of a dictionary that is a power of two or one and a half of it, and a
/// length that is unknown or has zeros at its end. No text has these zeros.
fn is_lzma(head: &[u8]) -> bool {
    const SETTINGS_MAX: u8 = 9 * 5 * 5;
    const DICTIONARY_BYTES_MIN: u32 = 1 << 12;
    let Some(([settings, size @ ..], length)) = head.get(..13).and_then(|head| head.split_first_chunk::<5>()) else {
        return false;
    };
    let size = u32::from_le_bytes(*size);
    let is_size = size.is_power_of_two() || (size % 3 == 0 && (size / 3).is_power_of_two()) || size == u32::MAX;
    let is_length = length.iter().all(|byte| *byte == 0xff) || length.get(5..).is_some_and(|end| end == [0, 0, 0]);
    *settings < SETTINGS_MAX && size >= DICTIONARY_BYTES_MIN && is_size && is_length
}

struct Walker<'w> {
    scratch: &'w Path,
}

impl Walker<'_> {
    /// Calls `leaf` with every file that is no wrapper.
    fn walk(
        &self,
        source: &mut dyn Read,
        depth: usize,
        layers: &mut Vec<&'static str>,
        leaf: Leaf<'_>,
    ) -> Result<(), Stop> {
        let mut head = Vec::new();
        source.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(|error| Stop::Damaged(error.to_string()))?;
        let wrapper = Wrapper::of(&head);
        let mut whole = Cursor::new(head).chain(source);
        let Some(wrapper) = wrapper else { return leaf(&mut whole) };
        if depth >= DEPTH_MAX {
            return Err(Stop::Unknown(format!("it is wrapped more than {DEPTH_MAX} times")));
        }
        // The path to the first one that is empty is what a message names.
        if layers.len() == depth {
            layers.push(wrapper.name());
        }
        match wrapper {
            Wrapper::Gzip => {
                let mut unpacked = MultiGzDecoder::new(BufReader::with_capacity(64 << 10, whole));
                self.walk(&mut unpacked, depth + 1, layers, leaf)
            }
            // The one program knows the older format too.
            Wrapper::Xz | Wrapper::Lzma => self.through("xz", &mut whole, depth, layers, leaf),
            Wrapper::Zstd => self.through("zstd", &mut whole, depth, layers, leaf),
            Wrapper::Bzip2 => self.through("bzip2", &mut whole, depth, layers, leaf),
            Wrapper::Lz4 => self.through("lz4", &mut whole, depth, layers, leaf),
            Wrapper::Lzip => self.through("lzip", &mut whole, depth, layers, leaf),
            Wrapper::Lzop => self.through("lzop", &mut whole, depth, layers, leaf),
            Wrapper::Compress => self.through("gzip", &mut whole, depth, layers, leaf),
            Wrapper::Tar => self.tar(&mut whole, depth, layers, leaf),
            Wrapper::Zip => self.zip(&mut whole, depth, layers, leaf),
        }
    }

    fn tar(
        &self,
        source: &mut dyn Read,
        depth: usize,
        layers: &mut Vec<&'static str>,
        leaf: Leaf<'_>,
    ) -> Result<(), Stop> {
        let damaged = |error: io::Error| Stop::Damaged(error.to_string());
        let mut archive = tar::Archive::new(source);
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                // Where it leads to is what it holds.
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                leaf(&mut target.as_slice())?;
            } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                self.walk(&mut entry, depth + 1, layers, leaf)?;
            }
        }
        Ok(())
    }

    fn zip(
        &self,
        source: &mut dyn Read,
        depth: usize,
        layers: &mut Vec<&'static str>,
        leaf: Leaf<'_>,
    ) -> Result<(), Stop> {
        let spool = self.spool(source)?;
        let mut stop = None;
        let read = archive::read_zip(spool.path(), Bounds::default(), &mut |_, member| {
            if stop.is_none()
                && let Err(why) = self.walk(member, depth + 1, layers, leaf)
            {
                stop = Some(why);
                // Any error ends the reading; this one is not shown.
                return Err(Failure::new(codes::INTERNAL, "enough was read"));
            }
            Ok(())
        });
        match (stop, read) {
            (Some(stop), _) => Err(stop),
            (None, Ok(_)) => Ok(()),
            // Encrypted, packed by another method, or a zip of another kind: not for us to judge.
            (None, Err(failure)) => Err(Stop::Unknown(failure.trouble.message)),
        }
    }

    /// Unpacks with the program of that name.
    fn through(
        &self,
        program: &'static str,
        source: &mut dyn Read,
        depth: usize,
        layers: &mut Vec<&'static str>,
        leaf: Leaf<'_>,
    ) -> Result<(), Stop> {
        let spool = self.spool(source)?;
        let failed = |error: io::Error| Stop::Unknown(format!("{program} cannot be used: {error}"));
        let mut stdin = spool.reopen().map_err(failed)?;
        stdin.seek(SeekFrom::Start(0)).map_err(failed)?;
        let (mut reader, writer) = io::pipe().map_err(failed)?;
        let tools = Tools::new(Vec::new(), Vec::new(), self.scratch).map_err(Stop::Failed)?;
        let ends = Ends { stdin: Some(stdin), stdout: Some(File::from(std::os::fd::OwnedFd::from(writer))) };
        let args = vec!["-d".into(), "-c".into()];
        std::thread::scope(|scope| {
            let work = scope.spawn(|| tools.pipe(Path::new(program), args, &[], DEADLINE_OF_WORK, ends, || {}));
            let walked = self.walk(&mut reader, depth + 1, layers, leaf);
            // Whoever still writes is told that nobody reads.
            drop(reader);
            let Ok(ran) = work.join() else { return Err(Stop::Unknown(format!("{program} could not be watched"))) };
            match (walked, ran.exit) {
                (Err(stop), _) => Err(stop),
                (Ok(()), Exit::Success) => Ok(()),
                (Ok(()), Exit::NotStarted { .. }) => {
                    Err(Stop::Unknown(format!("the program {program} is not installed here")))
                }
                (Ok(()), exit) => {
                    let said = crate::plugin::kit::tidy::tidy(&ran.stderr, 300);
                    // Some say nothing of what stands behind the end.
                    let silent =
                        || format!("{program} ended with {exit:?} and said nothing: something stands behind its end");
                    Err(Stop::Damaged(if said.trim().is_empty() { silent() } else { said }))
                }
            }
        })
    }

    fn spool(&self, source: &mut dyn Read) -> Result<tempfile::NamedTempFile, Stop> {
        let unwritable = |error: io::Error| {
            let told = format!("what is inside cannot be looked at: {error}");
            Stop::Failed(
                Failure::unwritten(codes::UNPACK_FAILED, &error, told).hint("make room where the artifacts lie"),
            )
        };
        let mut file = tempfile::Builder::new().prefix(".look-").tempfile_in(self.scratch).map_err(unwritable)?;
        let bound = Bounds::default().bytes;
        io::copy(&mut source.take(bound), &mut file).map_err(unwritable)?;
        Ok(file)
    }
}

fn unreadable(shown: &str, error: &io::Error) -> Failure {
    Failure::new(codes::ARTIFACT_UNREADABLE, format!("{shown} cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
