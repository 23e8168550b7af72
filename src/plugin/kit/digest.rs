//! The SHA-256 of a file, by which a change after the capture is noticed where the format has no checksums.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::{archive, sqlite_check};
use crate::plugin::protocol::{ArtifactFile, Verdict};

const CHUNK_BYTES: usize = 1 << 20;
const TELL_EVERY_BYTES: u64 = 64 << 20;
/// Files that are named of many.
const NAMED_MAX: usize = 5;

/// Reads the whole file; `on_chunk` gets the bytes read so far now and then.
pub(crate) fn sha256(path: &Path, mut on_chunk: impl FnMut(u64)) -> Result<String, Failure> {
    let refuse =
        |error| Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", path.display()));
    let mut file = std::fs::File::open(path).map_err(refuse)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let (mut done, mut told): (u64, u64) = (0, 0);
    loop {
        let length = file.read(&mut chunk).map_err(refuse)?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            return Ok(hex::encode(hasher.finalize()));
        };
        hasher.update(read);
        done += length as u64;
        if done - told >= TELL_EVERY_BYTES {
            told = done;
            on_chunk(done);
        }
    }
}

/// What is said of files whose hash nobody knows: what they hold is judged by their form alone.
pub(crate) const UNTOLD: &str = "the capture told no SHA-256";

/// What is wrong with a file by its form alone, where nothing else can tell: that it is empty, no JSON, no whole database.
fn broken(path: &Path) -> Option<String> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return Some(format!("it cannot be read: {error}")),
    };
    let bytes = file.metadata().map_or(0, |about| about.len());
    if bytes == 0 {
        return Some("it is empty".to_owned());
    }
    if archive::starts_with(path, sqlite_check::MAGIC) {
        // SQLite itself takes a last page that is short.
        let mut head = [0; 18];
        if let Err(error) = file.read_exact(&mut head) {
            return Some(format!("it cannot be read: {error}"));
        }
        let [.., high, low] = head;
        // 1 stands for what two bytes cannot hold.
        let page_bytes = match u64::from(u16::from_be_bytes([high, low])) {
            1 => 65_536,
            told => told.max(1),
        };
        if !bytes.is_multiple_of(page_bytes) {
            return Some(format!("its {bytes} bytes are no whole pages of {page_bytes}"));
        }
        return sqlite_check::tables(path).err();
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        let read = serde_json::from_reader::<_, serde::de::IgnoredAny>(std::io::BufReader::new(file));
        return read.err().map(|error| format!("it is no whole JSON: {error}"));
    }
    None
}

/// Says of many files at once whether they are still what they were when they were captured.
pub(crate) fn check_all<'a>(
    artifacts: impl IntoIterator<Item = &'a ArtifactFile>,
    staging: &Path,
    events: &mut EventWriter<'_>,
) {
    let (mut same, mut changed, mut untold) = (0, Vec::new(), Vec::new());
    for artifact in artifacts {
        let shown = artifact.path.display().to_string();
        match &artifact.sha256 {
            None => match broken(&staging.join(&artifact.path)) {
                None => untold.push(shown),
                Some(why) => changed.push(format!("{shown} ({why})")),
            },
            wanted if sha256(&staging.join(&artifact.path), |_| {}).ok() == *wanted => same += 1,
            Some(_) => changed.push(shown),
        }
        events.progress(0, 0);
    }
    let named = |names: &[String]| {
        let more = names.len().saturating_sub(NAMED_MAX);
        let shown = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let (verdict, detail) = match (changed.len(), untold.len()) {
        (0, 0) => (Verdict::Proven, format!("{same} files")),
        (0, _) => (Verdict::CouldNotVerify, format!("{UNTOLD} of {}", named(&untold))),
        (count, _) => (Verdict::Failed, format!("{count} are not: {}", named(&changed))),
    };
    events.validation("every file is unchanged since the capture", verdict, detail);
}

/// Says whether the file is still what it was when it was captured.
pub(crate) fn check(artifact: &ArtifactFile, path: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let name = format!("{} is unchanged since the capture", artifact.path.display());
    let Some(wanted) = &artifact.sha256 else {
        match broken(path) {
            None => events.validation(name, Verdict::CouldNotVerify, UNTOLD),
            Some(why) => events.validation(name, Verdict::Failed, why),
        }
        return Ok(());
    };
    let found = sha256(path, |done| events.progress(done, 0))?;
    if &found == wanted {
        events.validation(name, Verdict::Proven, format!("sha256 {found}"));
    } else {
        events.validation(name, Verdict::Failed, format!("sha256 is {found}, at the capture it was {wanted}"));
    }
    Ok(())
}
