//! The body of an answer on its way into the staging directory, and what can be said of a body that is no export.

use std::path::Path;

use crate::plugin::builtin::{Failure, Voice};
use crate::web::{Answer, Saved};

/// How often progress is told.
const TELL_EVERY_BYTES: u64 = 4 << 20;

/// What a page starts with, after white space; in lower case.
const PAGE_STARTS: &[&str] = &["<!doctype html", "<html", "<head", "<body", "<script"];

/// Streams the body into a new file, flushed to the disk; an empty one is an error, and so is one that is cut.
pub(crate) fn save(answer: Answer<'_>, path: &Path, bytes_max: u64, voice: &mut Voice<'_>) -> Result<Saved, Failure> {
    let what = answer.what().to_owned();
    let mut told = 0;
    let saved = answer.save(path, bytes_max, |done, total| {
        if done - told >= TELL_EVERY_BYTES {
            told = done;
            voice.progress(done, total.max(done));
        }
    })?;
    if saved.bytes == 0 {
        let _ = std::fs::remove_file(path);
        return Err(empty(&what));
    }
    Ok(saved)
}

/// An answer of the right status with nothing in it.
pub(crate) fn empty(what: &str) -> Failure {
    Failure::new("export_empty", format!("{what} was answered with an empty body"))
        .hint("look in the application's log; an export that is empty is none")
}

/// A page came where an export should.
pub(crate) fn a_page(what: &str) -> Failure {
    Failure::new("export_is_a_page", format!("{what} was answered with a page in HTML, not with an export"))
        .hint("a login page, or one of a proxy in between: check the address and the credentials")
}

/// The application answered with a redirect; nothing is followed.
pub(crate) fn redirected(answer: &Answer<'_>) -> Failure {
    let to = answer.header("location").unwrap_or_default();
    // A query may hold a token.
    let to: String = to.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let to: String = to.chars().take(200).collect();
    Failure::new("redirected", format!("{} was answered with {}, a redirect to {to:?}", answer.what(), answer.status()))
        .hint("a login page behind it means other credentials; else correct the address (https, host, path)")
}

/// Whether the file starts as a page does.
pub(crate) fn is_a_page(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut head));
    read.is_ok() && starts_as_a_page(&head)
}

/// Whether these first bytes are those of a page.
pub(crate) fn starts_as_a_page(head: &[u8]) -> bool {
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
