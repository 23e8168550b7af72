//! What of a snapshot a person means: a name that is there is that name, whatever characters it has; only else a pattern.
//!
//! restic knows patterns alone, so `/src/[ab].txt` means `a.txt` to it although a file `[ab].txt` is there, and a
//! backslash in a name takes the next character for itself. So names are looked up first and escaped.

use super::messages::{self, Message, RestoreSummary};
use super::repository::garbled;
use super::snapshots::missing_or;
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::{Context, Exit};
use crate::types::pattern::Pattern;

/// What a pattern of restic gives a meaning to.
const SPECIAL: [char; 4] = ['*', '?', '[', '\\'];

/// What a person asked for, and how restic is asked for it.
struct Wanted<'i> {
    text: &'i str,
    pattern: String,
    /// An item of this very name is there.
    is_there: bool,
}

impl Restic {
    /// restic's patterns for what a person asked for.
    ///
    /// # Errors
    /// `NothingMatches` with each that matches nothing; and everything that restic can fail with.
    pub(super) async fn patterns(
        &self,
        access: &RepositoryAccess,
        id: &str,
        include: &[String],
        context: &Context,
    ) -> Result<Vec<String>, EngineError> {
        let mut wanted: Vec<Wanted<'_>> =
            include.iter().map(|text| Wanted { text, pattern: text.clone(), is_there: false }).collect();
        let (absolute, relative): (Vec<&str>, Vec<&str>) =
            include.iter().map(String::as_str).partition(|text| text.starts_with('/'));
        let mut there: Vec<String> = Vec::new();
        if !absolute.is_empty() {
            // Only these directories are read.
            there.extend(self.names(access, id, &absolute, &absolute, context).await?);
        }
        let relative: Vec<&str> = relative.into_iter().filter(|text| is_special(text)).collect();
        if !relative.is_empty() {
            there.extend(self.names(access, id, &relative, &[], context).await?);
        }
        for each in &mut wanted {
            each.is_there = there.iter().any(|name| name == each.text);
            if each.is_there {
                each.pattern = literal(each.text);
            }
        }
        let mut missing = Vec::new();
        for each in wanted.iter().filter(|each| !each.is_there) {
            if !self.matches(access, id, &each.pattern, context).await? {
                missing.push(each.text.to_owned());
            }
        }
        if !missing.is_empty() {
            return Err(EngineError::NothingMatches { id: id.to_owned(), include: missing });
        }
        Ok(wanted.into_iter().map(|each| each.pattern).collect())
    }

    /// Which of `names` the snapshot has, as a whole path or as the end of one; `below` bounds what is read.
    async fn names(
        &self,
        access: &RepositoryAccess,
        id: &str,
        names: &[&str],
        below: &[&str],
        context: &Context,
    ) -> Result<Vec<String>, EngineError> {
        let mut found: Vec<String> = Vec::new();
        let mut understood = false;
        let mut hear = |line: &str| {
            let Some(message) = messages::parse(line) else { return };
            understood = true;
            let Message::Node(entry) = message else { return };
            found.extend(names.iter().filter(|name| is_named(&entry.path, name)).map(|name| (*name).to_owned()));
        };
        let mut call = Call::new("ls", &["--json"]).without_lock().arg("--").arg(id);
        for path in below {
            call = call.arg(trimmed(path));
        }
        let answer = self.call(access, context, &call, &mut hear).await?;
        if answer.exit != Exit::Success {
            return Err(missing_or(answer.error("ls", access), id, access));
        }
        if !understood {
            return Err(garbled("ls"));
        }
        Ok(found)
    }

    /// Whether a restore with this pattern would restore anything.
    async fn matches(
        &self,
        access: &RepositoryAccess,
        id: &str,
        pattern: &str,
        context: &Context,
    ) -> Result<bool, EngineError> {
        let mut summary: Option<RestoreSummary> = None;
        let mut hear = |line: &str| {
            if let Some(Message::RestoreSummary(found)) = messages::parse(line) {
                summary = Some(found);
            }
        };
        // Nothing is written there.
        let call = Call::new("restore", &["--json", "--dry-run", "--target=/larder-writes-nothing"]);
        let call = call.arg(format!("--include={pattern}")).arg(id);
        let answer = self.call_reading(access, context, call, &mut hear).await?;
        if answer.exit != Exit::Success {
            return Err(missing_or(answer.error("restore", access), id, access));
        }
        Ok(summary.ok_or_else(|| garbled("restore"))?.items > 0)
    }
}

/// Refuses what is no pattern, before anything is read: restic would say so late, and in its own words.
///
/// # Errors
/// The first that is none, with what is wrong with it.
pub fn check_wanted(include: &[String]) -> Result<(), EngineError> {
    include.iter().try_for_each(|text| {
        Pattern::check_wanted(text).map_err(|error| EngineError::NoPattern { pattern: text.clone(), why: error.why })
    })
}

/// Whether restic would read a pattern where a person may have meant a name.
pub(super) fn is_special(text: &str) -> bool {
    text.contains(SPECIAL) || text.starts_with('!')
}

/// The pattern that matches this name alone.
pub(super) fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 4);
    for (at, character) in name.char_indices() {
        match character {
            // At the beginning it would turn the meaning round.
            '!' if at == 0 => pattern.push_str("[!]"),
            special if SPECIAL.contains(&special) => pattern.extend(['\\', special]),
            other => pattern.push(other),
        }
    }
    pattern
}

/// Whether the item at `path` is the one that `name` names: the whole path, or its end where it does not begin with `/`.
fn is_named(path: &str, name: &str) -> bool {
    let name = trimmed(name);
    if name.starts_with('/') {
        return path == name;
    }
    path.strip_suffix(name).is_some_and(|before| before.ends_with('/'))
}

fn trimmed(name: &str) -> &str {
    match name.trim_end_matches('/') {
        "" => name,
        trimmed => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_restic_takes_it_for_one() {
        for (name, pattern) in [
            ("/src/[ab].txt", "/src/\\[ab].txt"),
            ("a\\b.txt", "a\\\\b.txt"),
            ("!x", "[!]x"),
            ("/x/!y", "/x/!y"),
            ("**", "\\*\\*"),
            ("wh?t", "wh\\?t"),
            ("plain ünï", "plain ünï"),
        ] {
            assert_eq!(literal(name), pattern);
        }
        assert!(is_special("a\\b") && is_special("!x") && !is_special("/a b/!c"));
    }

    #[test]
    fn a_name_without_a_root_is_the_end_of_a_path() {
        assert!(is_named("/src/d/[ab].txt", "[ab].txt") && is_named("/src/d/[ab].txt", "d/[ab].txt"));
        assert!(is_named("/src/d", "/src/d/") && !is_named("/src/d", "/d") && !is_named("/src/xd", "d"));
    }
}
