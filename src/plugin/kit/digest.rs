//! The SHA-256 of a file, by which a change after the capture is noticed where the format has no checksums.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{ArtifactFile, Verdict};

const CHUNK_BYTES: usize = 1 << 20;
const TELL_EVERY_BYTES: u64 = 64 << 20;

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

/// Says whether the file is still what it was when it was captured.
pub(crate) fn check(artifact: &ArtifactFile, path: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let name = format!("{} is unchanged since the capture", artifact.path.display());
    let Some(wanted) = &artifact.sha256 else {
        events.validation(name, Verdict::CouldNotVerify, "the capture told no SHA-256");
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
