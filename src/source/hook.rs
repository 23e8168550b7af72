//! What a push asks for, read from what Git gives its hooks, and which of it concerns the watched branch. Pure.
//!
//! Checking, asking the daemon and printing is `cli`'s business.

use std::path::PathBuf;

use crate::types::Revision;

/// Most bytes of a hook's standard input that are read: about 100,000 refs.
pub const INPUT_BYTES_MAX: u64 = 16 << 20;

/// Most push options that are looked at.
const OPTIONS_MAX: usize = 32;

/// One ref that a push moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// None: the ref is made.
    pub old: Option<Revision>,
    /// None: the ref is deleted.
    pub new: Option<Revision>,
    pub name: String,
}

/// What a hook needs to know to do its work, from the repository's config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The daemon's Unix socket.
    pub socket: Option<PathBuf>,
    /// The watched branch; `main` when it was never set.
    pub branch: Option<String>,
    /// Where the daemon's own plugins are.
    pub plugins: Option<PathBuf>,
    /// The config root inside the repository; empty: the whole tree.
    pub root: String,
}

/// What the user asked for with `git push -o …`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// `plan`: show what would change and push nothing.
    pub plan: bool,
    /// `confirm` (then it is empty) or `confirm=REVISION`: apply even if it would be held.
    pub confirm: Option<String>,
    /// Everything else, for a message; other hooks may want it.
    pub unknown: Vec<String>,
}

/// Says that a hook's standard input is not what Git writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("line {line} of the hook's input is not `old new ref`: {text:?}")]
    Line { line: usize, text: String },
    #[error("{0:?} is not a 40-digit commit id; SHA-256 repositories are not supported")]
    Id(String),
}

/// What to do about a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The watched branch is not concerned.
    Pass,
    /// The watched branch would be deleted.
    RefuseDelete,
    /// The watched branch would move to `new`.
    Check { old: Option<Revision>, new: Revision },
}

/// Reads the lines that Git writes to `pre-receive` and `post-receive`.
///
/// # Errors
/// On the first line that is not of the form `old new ref`.
pub fn parse_updates(input: &str) -> Result<Vec<RefUpdate>, InputError> {
    input
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            let refuse = || InputError::Line { line: index + 1, text: line.chars().take(120).collect() };
            let mut words = line.splitn(3, ' ');
            let (old, new, name) = (words.next(), words.next(), words.next());
            let (Some(old), Some(new), Some(name)) = (old, new, name) else { return Err(refuse()) };
            if name.is_empty() {
                return Err(refuse());
            }
            Ok(RefUpdate { old: parse_id(old)?, new: parse_id(new)?, name: name.to_owned() })
        })
        .collect()
}

/// Reads the push options from the variables that Git sets, through `get`.
pub fn push_options(get: impl Fn(&str) -> Option<String>) -> PushOptions {
    let count = get("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    let mut options = PushOptions::default();
    for index in 0..count.min(OPTIONS_MAX) {
        let Some(option) = get(&format!("GIT_PUSH_OPTION_{index}")) else { continue };
        match (option.as_str(), option.strip_prefix("confirm=")) {
            ("plan", _) => options.plan = true,
            ("confirm", _) => options.confirm = Some(String::new()),
            (_, Some(revision)) => options.confirm = Some(revision.to_ascii_lowercase()),
            (other, None) => options.unknown.push(other.chars().filter(|c| !c.is_control()).take(60).collect()),
        }
    }
    options
}

impl PushOptions {
    /// Whether the user confirmed `revision`: without naming one, or by its first digits (at least four).
    #[must_use]
    pub fn confirms(&self, revision: &Revision) -> bool {
        match self.confirm.as_deref() {
            None => false,
            Some("") => true,
            Some(prefix) => prefix.len() >= 4 && revision.as_str().starts_with(prefix),
        }
    }
}

/// Decides what `updates` mean for the watched `branch`. Git lists a ref at most once in a push.
#[must_use]
pub fn decide(updates: &[RefUpdate], branch: &str) -> Decision {
    let watched = format!("refs/heads/{branch}");
    match updates.iter().find(|update| update.name == watched) {
        None => Decision::Pass,
        Some(RefUpdate { new: None, .. }) => Decision::RefuseDelete,
        Some(RefUpdate { old, new: Some(new), .. }) => Decision::Check { old: old.clone(), new: new.clone() },
    }
}

fn parse_id(text: &str) -> Result<Option<Revision>, InputError> {
    let revision = Revision::parse(text).map_err(|_| InputError::Id(text.chars().take(70).collect()))?;
    Ok(if revision.as_str().bytes().all(|digit| digit == b'0') { None } else { Some(revision) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn options(given: &[&str]) -> PushOptions {
        push_options(|name| match name.strip_prefix("GIT_PUSH_OPTION_")? {
            "COUNT" => Some(given.len().to_string()),
            index => given.get(index.parse::<usize>().ok()?).map(|text| (*text).to_owned()),
        })
    }

    #[test]
    fn only_the_watched_branch_is_checked() {
        let updates = parse_updates(&format!("{NONE} {A} refs/tags/main\n{A} {B} refs/heads/other\n")).unwrap();
        assert_eq!(decide(&updates, "main"), Decision::Pass);
        let updates = parse_updates(&format!("{NONE} {B} refs/heads/x\n{A} {B} refs/heads/main\n")).unwrap();
        let checked = Decision::Check { old: Revision::parse(A).ok(), new: Revision::parse(B).unwrap() };
        assert_eq!(decide(&updates, "main"), checked);
        let updates = parse_updates(&format!("{NONE} {B} refs/heads/feature/main\n")).unwrap();
        assert_eq!(decide(&updates, "main"), Decision::Pass);
        assert!(matches!(decide(&updates, "feature/main"), Decision::Check { old: None, .. }));
    }

    #[test]
    fn deleting_the_watched_branch_is_refused_and_another_one_is_not() {
        let updates = parse_updates(&format!("{A} {NONE} refs/heads/main\n")).unwrap();
        assert_eq!(decide(&updates, "main"), Decision::RefuseDelete);
        assert_eq!(decide(&updates, "other"), Decision::Pass);
    }

    #[test]
    fn input_that_git_never_writes_is_an_error_and_not_an_empty_push() {
        for bad in ["x", "a b c", &format!("{A} {B}"), &format!("{A} {B} ")] {
            assert!(parse_updates(bad).is_err(), "{bad:?}");
        }
        let sha256 = "a".repeat(64);
        let error = parse_updates(&format!("{sha256} {sha256} refs/heads/main")).unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
        assert_eq!(parse_updates(""), Ok(Vec::new()));
    }

    #[test]
    fn push_options_are_read_from_what_git_sets() {
        assert_eq!(options(&[]), PushOptions::default());
        assert!(options(&["plan"]).plan);
        let revision = Revision::parse(A).unwrap();
        assert!(!options(&["plan"]).confirms(&revision));
        assert!(options(&["confirm"]).confirms(&revision));
        assert!(options(&["confirm=1111111"]).confirms(&revision));
        assert!(!options(&["confirm=2222222"]).confirms(&revision), "another revision was meant");
        assert!(!options(&["confirm=1"]).confirms(&revision), "that could be any");
        assert_eq!(options(&["ci.skip", "plan"]).unknown, ["ci.skip"]);
        let many = push_options(|name| Some(if name.ends_with("COUNT") { "999999999" } else { "x" }.to_owned()));
        assert_eq!(many.unknown.len(), OPTIONS_MAX);
    }
}
