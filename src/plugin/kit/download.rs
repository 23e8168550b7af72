//! The body of an answer on its way into the staging directory, and what can be said of a body that is no export.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::plain;
use crate::web::{Answer, Saved};

/// How often progress is told.
const TELL_EVERY_BYTES: u64 = 4 << 20;

/// What a page starts with, after white space; in lower case.
const PAGE_STARTS: &[&str] = &["<!doctype html", "<html", "<head", "<body", "<script"];

/// Streams the body into a new file, flushed to the disk; an empty one is an error, and so is one that is cut.
pub(crate) fn save(
    answer: Answer<'_>,
    path: &Path,
    bytes_max: u64,
    events: &mut EventWriter<'_>,
) -> Result<Saved, Failure> {
    let what = answer.what().to_owned();
    save_if_any(answer, path, bytes_max, events)?.ok_or_else(|| empty(&what))
}

/// The same; none: it is empty.
pub(crate) fn save_if_any(
    answer: Answer<'_>,
    path: &Path,
    bytes_max: u64,
    events: &mut EventWriter<'_>,
) -> Result<Option<Saved>, Failure> {
    let mut told = 0;
    let saved = answer.save(path, bytes_max, |done, total| {
        if done - told >= TELL_EVERY_BYTES {
            told = done;
            events.progress(done, total.max(done));
        }
    })?;
    if saved.bytes == 0 {
        let _ = std::fs::remove_file(path);
        return Ok(None);
    }
    Ok(Some(saved))
}

/// Unpacks a gzip that nobody asked for, in its place.
pub(crate) fn unpack(path: &Path, bytes_max: u64, what: &str) -> Result<Saved, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => {
            Failure::new(codes::DISK_FULL, format!("{what}: the answer cannot be unpacked: {error}"))
                .hint("make room where the artifacts lie")
        }
        _ => {
            Failure::new(codes::ARCHIVE_DAMAGED, format!("{what} was answered with a gzip that is not whole: {error}"))
                .hint("it was cut on its way; run it again")
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".unpack-").tempfile_in(directory).map_err(failed)?;
    let packed = io::BufReader::with_capacity(256 << 10, std::fs::File::open(path).map_err(failed)?);
    let mut source = flate2::read::MultiGzDecoder::new(packed);
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0_u64, vec![0; 256 << 10]);
    loop {
        let length = source.read(&mut chunk).map_err(failed)?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { break };
        bytes += length as u64;
        if bytes > bytes_max {
            return Err(Failure::new(
                codes::ARCHIVE_BOMB,
                format!("{what}: the answer unpacks to more than {bytes_max} bytes"),
            )
            .hint("look at what the application exports"));
        }
        file.write_all(read).map_err(failed)?;
        hash.update(read);
    }
    if bytes == 0 {
        return Err(empty(what));
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(Saved { bytes, sha256: hex::encode(hash.finalize()) })
}

/// An answer of the right status with nothing in it.
pub(crate) fn empty(what: &str) -> Failure {
    Failure::new(codes::EXPORT_EMPTY, format!("{what} was answered with an empty body"))
        .hint("look in the application's log; an export that is empty is none")
}

/// A page came where an export should.
pub(crate) fn a_page(what: &str) -> Failure {
    Failure::new(codes::EXPORT_IS_A_PAGE, format!("{what} was answered with a page in HTML, not with an export"))
        .hint("a login page, or one of a proxy in between: check the address and the credentials")
}

/// The application answered with a redirect; nothing is followed.
pub(crate) fn redirected(answer: &Answer<'_>) -> Failure {
    let to = answer.header("location").unwrap_or_default();
    // A query may hold a token.
    let to: String = to.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let to: String = to.chars().take(200).collect();
    Failure::new(
        codes::REDIRECTED,
        format!("{} was answered with {}, a redirect to {to:?}", answer.what(), answer.status()),
    )
    .hint("a login page behind it means other credentials; else correct the address (https, host, path)")
}

/// Whether the file starts as a page does.
pub(crate) fn is_a_page(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = plain::open(path).and_then(|text| text.take(512).read_to_end(&mut head));
    read.is_ok() && starts_as_a_page(&head)
}

/// Whether these first bytes are those of a page.
fn starts_as_a_page(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    PAGE_STARTS.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_start() {
        assert!(starts_as_a_page(b"\n <!DOCTYPE HTML><html>") && starts_as_a_page(b"<html lang=en>"));
        assert!(!starts_as_a_page(b"<?xml version=\"1.0\"?><pfsense>") && !starts_as_a_page(b""));
    }
}
