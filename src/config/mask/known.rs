//! Secrets that say by themselves what they are, whatever their field is called.

use std::ops::Range;

/// What tokens and keys begin with, so that they are found where they don't belong.
const BEGINNINGS: [&str; 11] = [
    "AGE-SECRET-KEY-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk_live_",
    "dop_v1_",
    "hvs.",
];

/// Ways to log in with what stands behind them.
const WAYS: [&str; 2] = ["bearer", "basic"];

/// A shorter word behind a way to log in is one of a sentence.
const LOGIN_BYTES_MIN: usize = 6;

/// What ends such a secret in a line.
const ENDS: [char; 12] = [' ', '"', '\'', '`', ',', ';', '{', '}', '[', ']', '(', ')'];

/// The parts of a line that are secrets by themselves.
pub(super) fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = private_key(line).into_iter().collect();
    let mut start = 0;
    let mut is_login = false;
    for word in line.split(ENDS) {
        let end = start + word.len();
        let value = word.rfind(['=', ':', '/']).map_or(word, |at| word.get(at + 1..).unwrap_or_default());
        let kind = BEGINNINGS.iter().find(|kind| value.starts_with(**kind) && value.len() > kind.len());
        match kind {
            Some(kind) => found.push(end - value.len() + kind.len()..end),
            None if is_login && is_drawn(word) => found.push(start..end),
            None => {}
        }
        is_login = WAYS.contains(&value.to_ascii_lowercase().as_str());
        start = end + 1;
    }
    found
}

/// What is behind the first line of a private key, up to its last.
pub(super) fn private_key(line: &str) -> Option<Range<usize>> {
    let (before, rest) = line.split_once("PRIVATE KEY")?;
    let (name, key) = rest.split_once("-----")?;
    let start = line.len() - key.len();
    let is_first = before.contains("-----BEGIN") && name.len() <= " BLOCK".len();
    is_first.then(|| start..key.find(KEY_END).map_or(line.len(), |end| start + end))
}

/// What the last line of a private key begins with.
pub(super) const KEY_END: &str = "-----END";

/// Whether a word looks as if nobody had chosen it: with figures or large letters in it.
fn is_drawn(word: &str) -> bool {
    let is_odd = |sign: char| sign.is_ascii_digit() || sign.is_ascii_uppercase() || sign == '=';
    word.len() >= LOGIN_BYTES_MIN && word.chars().skip(1).any(is_odd)
}
