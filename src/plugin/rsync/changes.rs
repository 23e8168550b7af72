//! What rsync says that it does or would do, name by name, and names as its patterns; pure.

use std::collections::BTreeSet;

use super::stats::Stats;

/// What a transfer would do.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) stats: Stats,
    /// What is not there yet; directories end with a slash.
    pub(super) created: Vec<String>,
    /// What is there and is not sent.
    pub(super) extra: Vec<String>,
    /// Directories that get files, with a slash, but for the root.
    pub(super) into: BTreeSet<String>,
}

impl Changes {
    /// Takes what rsync says of one name: eleven letters of what happens, a blank, the name.
    pub(super) fn hear(&mut self, change: &str) {
        let Some((what, name)) = change.split_at_checked(12) else { return };
        // A name of other bytes cannot be given back.
        let Some(name) = unescaped(name).filter(|name| name != "./") else { return };
        if what.starts_with("<f") || what.starts_with(">f") {
            self.into.insert(name.rfind('/').and_then(|at| name.get(..=at)).unwrap_or_default().to_owned());
        }
        if what.starts_with("*deleting") {
            self.extra.push(name);
        } else if what.contains("+++++") {
            self.created.push(name);
        }
    }
}

/// Those that lie in none of the others.
pub(super) fn outermost(names: &[String]) -> Vec<String> {
    let mut sorted = names.to_vec();
    sorted.sort();
    let mut kept: Vec<String> = Vec::new();
    for name in sorted {
        if !kept.last().is_some_and(|last| last.ends_with('/') && name.starts_with(last.as_str())) {
            kept.push(name);
        }
    }
    kept
}

/// A name as rsync says it, with `\#ooo` for what is not plain.
fn unescaped(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\#") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..)?;
            }
            None => {
                bytes.extend_from_slice(b"\\#");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// A name of which nothing is a pattern.
pub(super) fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(letter);
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
            "cd+++++++++ ./",
            "short",
        ] {
            changes.hear(line);
        }
        assert_eq!(changes.extra, ["app.db-wal", "old/", "old/f\u{fc}r\nx"]);
        assert_eq!(outermost(&changes.extra), ["app.db-wal", "old/"]);
        assert_eq!(changes.into.iter().collect::<Vec<_>>(), ["", "dir/"]);
        assert_eq!(outermost(&changes.created), ["dir/", "new file"]);
        assert_eq!(escaped("a*[b]\\"), "a\\*\\[b]\\\\");
    }
}
