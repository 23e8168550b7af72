//! The mounts that are noted at a good run, and how one is named: by its path, and by a hash where that is long or no text.
//! Pure.
//!
//! The name stands in holds and acceptances, which have a bound and are typed; the paths themselves are kept as they are.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Longest path that is a name by itself, in bytes.
const NAME_BYTES_MAX: usize = 112;

/// Of a longer one people see its beginning and its end, in bytes: with its hash no name is longer than what the store
/// leaves of a string in a record that is too large.
const SHOWN_BEGIN: usize = 56;
const SHOWN_END: usize = 36;

/// Directories of Larder's own that are remembered beside the mounts; one that is not counts as somebody's.
const OWN_MAX: usize = 64;

/// The mounts of a good run, and by what they were noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    pub points: BTreeSet<PathBuf>,
    /// The names of what was Larder's own in them then. That and other mounts did not count; none: an older Larder noted
    /// whatever held anything, also what is bound to itself.
    pub own: Option<BTreeSet<String>>,
}

impl Noted {
    #[must_use]
    pub fn new(points: BTreeSet<PathBuf>, own: &[PathBuf]) -> Self {
        let within = own.iter().filter(|own| points.iter().any(|point| own.starts_with(point)));
        let own = within.take(OWN_MAX).map(|own| name(own)).collect();
        Self { points, own: Some(own) }
    }

    #[must_use]
    pub fn is_old(&self) -> bool {
        self.own.is_none()
    }

    /// Whether `path` was known as Larder's own, so that it did not count.
    #[must_use]
    pub fn was_own(&self, path: &Path) -> bool {
        self.own.as_ref().is_some_and(|own| own.contains(&name(path)))
    }
}

/// What `point` is called: a path that is long or no UTF-8 is shortened and has its hash, so that no two have one name.
#[must_use]
pub fn name(point: &Path) -> String {
    let bytes = point.as_os_str().as_bytes();
    let shown = point.display().to_string();
    if bytes.len() <= NAME_BYTES_MAX && std::str::from_utf8(bytes).is_ok() {
        return shown;
    }
    let hash: String = hex::encode(Sha256::digest(bytes)).chars().take(16).collect();
    if shown.len() <= SHOWN_BEGIN + SHOWN_END {
        return format!("{shown}#{hash}");
    }
    let (begin, end) = (shown.floor_char_boundary(SHOWN_BEGIN), shown.ceil_char_boundary(shown.len() - SHOWN_END));
    let part = |range: std::ops::Range<usize>| shown.get(range).unwrap_or_default();
    format!("{}...{}#{hash}", part(0..begin), part(end..shown.len()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_is_its_own_name_until_it_is_long_or_no_text_and_no_two_have_one_name() {
        assert_eq!(name(Path::new("/srv/my docs")), "/srv/my docs");
        let long = |last: &str| format!("/srv/{}/{last}/{}", "x".repeat(300), "y".repeat(100));
        let (one, other) = (name(Path::new(&long("one"))), name(Path::new(&long("other"))));
        assert!(one.starts_with("/srv/xxx") && one.len() <= 128 && one != other, "{one} {other}");
        let raw = |byte: u8| name(Path::new(OsStr::from_bytes(&[b'/', b's', byte])));
        assert!(raw(0xff).starts_with("/s\u{fffd}#") && raw(0xff) != raw(0xfe), "{}", raw(0xff));
    }
}
