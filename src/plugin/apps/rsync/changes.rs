//! What rsync says that it does or would do, name by name, and names as its patterns; pure.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stats::Stats;
use crate::plugin::kit::tidy::tidy;

/// Names that are told of many.
const NAMES_MAX: usize = 5;

/// A name below a directory of the device, of any bytes; directories end with a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Name(pub(super) Vec<u8>);

/// A name as a note has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Written> for Name {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(text) => Self(text.into_bytes()),
            Written::Bytes(bytes) => Self(bytes),
        }
    }
}

impl From<Name> for Written {
    fn from(name: Name) -> Self {
        String::from_utf8(name.0).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Name {
    pub(super) fn is_directory(&self) -> bool {
        self.0.ends_with(b"/")
    }

    /// Without the slash of a directory.
    pub(super) fn plain(&self) -> &[u8] {
        self.0.strip_suffix(b"/").unwrap_or(&self.0)
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.plain()))
    }

    /// The directories that it lies in, without their slash; the last is the root, which has no name.
    pub(super) fn parents(&self) -> impl Iterator<Item = &[u8]> {
        self.as_path().ancestors().skip(1).map(|at| at.as_os_str().as_bytes())
    }
}

/// What a transfer would do.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) stats: Stats,
    /// What is not there yet; directories end with a slash.
    pub(super) created: Vec<Name>,
    /// What is there and is not sent.
    pub(super) extra: Vec<Name>,
    /// What stays as it is but for its attributes, directories aside.
    pub(super) attributes: Vec<Name>,
    /// What is there and would become something else, directories aside.
    pub(super) replaced: Vec<Name>,
    /// Directories that get files, with a slash, but for the root.
    pub(super) into: BTreeSet<Name>,
}

impl Changes {
    /// Takes what rsync says of one name: eleven letters of what happens, a blank, the name.
    pub(super) fn hear(&mut self, change: &str) {
        let Some((what, name)) = change.split_at_checked(12) else { return };
        let name = Name(unescaped(name));
        if name.0 == b"./" {
            return;
        }
        if what.starts_with("<f") || what.starts_with(">f") {
            let end = name.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            self.into.insert(Name(name.0.get(..end).unwrap_or_default().to_vec()));
        }
        if what.starts_with("*deleting") {
            self.extra.push(name);
        } else if what.contains("+++++") {
            self.created.push(name);
        } else if (what.starts_with('.') || what.starts_with('h')) && !name.is_directory() {
            if what.starts_with('h') {
                self.replaced.push(name.clone());
            }
            self.attributes.push(name);
        } else if !name.is_directory() {
            self.replaced.push(name);
        }
    }
}

/// Those that lie in none of the others.
pub(super) fn outermost(names: impl IntoIterator<Item = Name>) -> Vec<Name> {
    let mut kept: Vec<Name> = Vec::new();
    for name in names.into_iter().collect::<BTreeSet<Name>>() {
        if !kept.last().is_some_and(|last| last.is_directory() && name.0.starts_with(&last.0)) {
            kept.push(name);
        }
    }
    kept
}

/// The first of many names, for people.
pub(super) fn told(names: &[Name]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(Name::to_string).collect::<Vec<_>>().join(", ");
    let shown = tidy(&shown, 300);
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

/// A name as rsync says it, with `\#ooo` for what is not plain.
fn unescaped(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\#") {
        bytes.extend_from_slice(before.as_bytes());
        match after.split_at_checked(3).and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 8).ok()?, rest))) {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => {
                bytes.extend_from_slice(b"\\#");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The pattern that means exactly this name.
pub(super) fn pattern(name: &[u8]) -> Vec<u8> {
    // A backslash is one of the name's own where nothing in it is a pattern.
    let has_pattern = name.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
    if has_pattern { escaped(name) } else { name.to_vec() }
}

/// A name of which nothing is a pattern, in one.
pub(super) fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for letter in name {
        if matches!(letter, b'*' | b'?' | b'[' | b'\\') {
            text.push(b'\\');
        }
        text.push(*letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_says_of_names_is_read_and_only_the_outermost_is_taken() {
        let mut changes = Changes::default();
        for line in [
            "*deleting   app.db-wal",
            "*deleting   old/",
            "*deleting   old/f\\#303\\#274r\\#012x",
            "<f+++++++++ new file",
            "cd+++++++++ dir/",
            "<f+++++++++ dir/x",
            "<f.st...... changed",
            "cLc........ to",
            "hf......... second",
            "cd+++++++++ ./",
            ".f...po.... attr",
            ".d..t...... dir2/",
            "<f+++++++++ latin\\#351",
            "short",
        ] {
            changes.hear(line);
        }
        let names = |all: &[&str]| all.iter().map(|name| Name::from(*name)).collect::<Vec<_>>();
        assert_eq!(changes.extra, names(&["app.db-wal", "old/", "old/f\u{fc}r\nx"]));
        assert_eq!(outermost(changes.extra), names(&["app.db-wal", "old/"]));
        assert_eq!(changes.into.into_iter().collect::<Vec<_>>(), names(&["", "dir/"]));
        assert_eq!(changes.attributes, names(&["second", "attr"]));
        assert_eq!(changes.replaced, names(&["changed", "to", "second"]));
        let mut wanted = names(&["dir/", "new file"]);
        wanted.insert(1, Name(b"latin\xe9".to_vec()));
        assert_eq!(outermost(changes.created), wanted);
        assert_eq!(escaped(b"a*[b]\\"), b"a\\*\\[b]\\\\");
        assert_eq!((pattern(b"a*\\"), pattern(b"a\\")), (b"a\\*\\\\".to_vec(), b"a\\".to_vec()));
        for name in wanted {
            let written = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<Name>(&written).unwrap(), name, "{written}");
        }
        for (name, parents) in [("a/b/c", &[&b"a/b"[..], b"a", b""][..]), ("ab/c/", &[b"ab", b""]), ("a/", &[b""])] {
            assert_eq!(Name::from(name).parents().collect::<Vec<_>>(), parents);
        }
    }
}
