//! Small questions about a store's files and what a panic or an error says.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Drops sled; it writes when it is dropped and may panic there too.
pub(super) fn close<T>(open: Option<T>) {
    if catch_unwind(AssertUnwindSafe(|| drop(open))).is_err() {
        tracing::warn!("the state store panicked while it was closed");
    }
}

/// Device and inode of a directory; none when it is not there.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Whether a directory is a store that somebody began: an empty one is none, and one that is no directory is refused.
pub(super) fn is_begun(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some() || std::fs::remove_dir(path).is_err(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Whether the file system refused, rather than that what it gave made no sense.
///
/// By kind alone: sled copies errors by kind and text, so the number of the system's error is lost.
pub(super) fn is_of_the_system(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => false,
        ErrorKind::Other => is_held(error),
        _ => true,
    }
}

/// Whether sled's lock on its file is held; sled says that with an error of its own making.
pub(super) fn is_held(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
