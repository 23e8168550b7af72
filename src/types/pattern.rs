//! Exclude patterns in restic's sense: Go's `filepath.Match` in each part, `**` for any directories, `!` brings back.
//!
//! restic reads one list for a whole backup. Here a pattern is read once, checked, and written anew for the one source
//! that it belongs to ([`Pattern::below`]), so that it can match nothing else; the same value answers what is counted.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// In a plugin's schema, true: the text is such a pattern, and is checked when it is pushed.
pub const PATTERN_KEYWORD: &str = "x-larder-pattern";
/// Most `**` in one pattern.
const DOUBLE_STARS_MAX: usize = 5;
/// Steps of one match of a name at most: a pattern full of `*` against a long name must end.
const STEPS_MAX: u32 = 10_000;

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    negated: bool,
    anchored: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of directories, also none.
    Any,
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Why a text is no pattern, and which of its characters are to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct PatternError {
    pub why: &'static str,
    /// In bytes of the text.
    pub at: std::ops::Range<usize>,
}

impl Pattern {
    /// Reads a pattern; blanks in it are part of it.
    ///
    /// # Errors
    /// What restic refuses, and what its files of patterns cannot say.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let whole = |why| PatternError { why, at: 0..text.len() };
        if let Some(at) = text.find(['\n', '\r', '\0']) {
            return Err(PatternError { why: "it has a line end in it", at: at..at + 1 });
        }
        let body = text.strip_prefix('!').unwrap_or(text);
        if body.is_empty() {
            return Err(whole("it is empty"));
        }
        let (negated, anchored) = (body.len() < text.len(), body.starts_with('/'));
        let mut parts: Vec<Part> = Vec::new();
        let mut start = text.len() - body.len();
        // As Go's `Clean` does it, which restic calls first.
        for piece in body.split('/') {
            match piece {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() && !anchored {
                        return Err(PatternError { why: "no path has `..` in it", at: start..start + 2 });
                    }
                }
                "**" => parts.push(Part::Any),
                name => parts.push(Part::Name(tokens(name, start)?)),
            }
            start += piece.len() + 1;
        }
        if parts.is_empty() && !anchored {
            return Err(whole("it matches nothing"));
        }
        parts.dedup_by(|one, other| (&*one, &*other) == (&Part::Any, &Part::Any));
        // What matches a directory matches all below it, so that a last `**` says nothing; alone it is everything.
        while parts.last() == Some(&Part::Any) {
            parts.pop();
        }
        if parts.iter().filter(|part| **part == Part::Any).count() > DOUBLE_STARS_MAX {
            return Err(whole("it has more than five `**`"));
        }
        let anchored = anchored || parts.is_empty();
        Ok(Self { parts, negated, anchored })
    }

    /// Whether a text can be read as a pattern of what is wanted; a name may have line ends in it.
    ///
    /// # Errors
    /// What restic refuses.
    pub fn check_wanted(text: &str) -> Result<(), PatternError> {
        Self::parse(&text.replace(['\n', '\r'], "?")).map(|_| ())
    }

    /// Whether it brings back what an earlier one excluded.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether it matches this very path: the whole of it when it begins with `/`, else the end of it.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let names = names(path);
        let mut states = self.start();
        for name in &names {
            states = self.step(&states, name);
        }
        states.contains(&self.parts.len())
    }

    /// Whether it matches the path or a directory above it.
    #[must_use]
    pub fn covers(&self, path: &Path) -> bool {
        let mut states = self.start();
        if states.contains(&self.parts.len()) {
            return true;
        }
        names(path).iter().any(|name| {
            states = self.step(&states, name);
            states.contains(&self.parts.len())
        })
    }

    /// The pattern written for what lies in `source` alone: lines of absolute patterns that match there what this one
    /// does, and nothing anywhere else.
    #[must_use]
    pub fn below(&self, source: &Path) -> Vec<String> {
        let mut states = self.start();
        let names = names(source);
        let mut whole = states.contains(&self.parts.len());
        for name in &names {
            states = self.step(&states, name);
            whole |= states.contains(&self.parts.len());
        }
        let sign = if self.negated { "!" } else { "" };
        let base = format!("{sign}{}", literal(source));
        if whole {
            return vec![base];
        }
        let mut lines = Vec::new();
        for state in states {
            let rest = self.parts.get(state..).unwrap_or_default();
            let floating = state == 0 && !self.anchored && rest.first() != Some(&Part::Any);
            for parts in variants(rest, floating) {
                lines.push(format!("{}{parts}", base.strip_suffix('/').unwrap_or(&base)));
            }
        }
        lines.sort();
        lines.dedup();
        lines
    }

    fn start(&self) -> Vec<usize> {
        self.closed(vec![0])
    }

    /// Where in the pattern one may stand after one more name.
    fn step(&self, states: &[usize], name: &[char]) -> Vec<usize> {
        let mut next = Vec::new();
        for state in states {
            match self.parts.get(*state) {
                Some(Part::Any) => next.push(*state),
                Some(Part::Name(tokens)) if name_matches(tokens, name, &mut 0) => next.push(state + 1),
                _ => {}
            }
        }
        if !self.anchored {
            next.push(0);
        }
        self.closed(next)
    }

    /// With what can be reached without a name: `**` may be no directory at all.
    fn closed(&self, mut states: Vec<usize>) -> Vec<usize> {
        let mut index = 0;
        while let Some(state) = states.get(index).copied() {
            if self.parts.get(state) == Some(&Part::Any) && !states.contains(&(state + 1)) {
                states.push(state + 1);
            }
            index += 1;
        }
        states.sort_unstable();
        states.dedup();
        states
    }
}

/// Whether the last of `patterns` that matches the path, or a directory above it, excludes it.
#[must_use]
pub fn excludes(patterns: &[Pattern], path: &Path) -> bool {
    patterns.iter().fold(false, |excluded, pattern| {
        if pattern.negated { excluded && !pattern.covers(path) } else { excluded || pattern.covers(path) }
    })
}

/// A path as a pattern that matches it alone (and what lies in it).
#[must_use]
pub fn literal(path: &Path) -> String {
    let mut text = String::new();
    for part in path.components() {
        if let Component::Normal(name) = part {
            text.push('/');
            for chunk in name.as_bytes().utf8_chunks() {
                chunk.valid().chars().for_each(|c| push_char(&mut text, c));
                // A byte that is no text, as Go sees it: one character that only `?` matches.
                chunk.invalid().iter().for_each(|_| text.push('?'));
            }
        }
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

/// The parts as text behind a path. restic does not try every length of the first `**` where a later one is none, so a
/// pattern with several is written with and without each later one.
fn variants(parts: &[Part], floating: bool) -> Vec<String> {
    let stars: Vec<usize> =
        parts.iter().enumerate().filter(|(_, part)| **part == Part::Any).map(|(index, _)| index).collect();
    let optional = if floating { stars.as_slice() } else { stars.get(1..).unwrap_or_default() };
    (0..1_usize << optional.len())
        .map(|choice| {
            let mut text = if floating { "/**".to_owned() } else { String::new() };
            for (index, part) in parts.iter().enumerate() {
                let left_out =
                    optional.iter().position(|star| *star == index).is_some_and(|bit| choice >> bit & 1 == 1);
                match part {
                    Part::Any if left_out => {}
                    Part::Any => text.push_str("/**"),
                    Part::Name(tokens) => {
                        text.push('/');
                        for token in tokens {
                            push_token(&mut text, token);
                        }
                    }
                }
            }
            text
        })
        .collect()
}

fn push_token(text: &mut String, token: &Token) {
    match token {
        Token::Char(c) => push_char(text, *c),
        Token::One => text.push('?'),
        Token::Many => text.push('*'),
        Token::Class { negated, ranges } => {
            text.push_str(if *negated { "[^" } else { "[" });
            for (low, high) in ranges {
                push_in_class(text, *low);
                if low != high {
                    text.push('-');
                    push_in_class(text, *high);
                }
            }
            text.push(']');
        }
    }
}

fn push_char(text: &mut String, c: char) {
    match c {
        '*' | '?' | '[' | '\\' => text.extend(['\\', c]),
        // A line of a file can't hold these.
        '\n' | '\r' | '\0' => text.push('?'),
        // restic takes blanks from the ends of a line.
        blank if blank.is_whitespace() => text.extend(['[', blank, ']']),
        other => text.push(other),
    }
}

fn push_in_class(text: &mut String, c: char) {
    if matches!(c, ']' | '-' | '^' | '\\' | '[') {
        text.push('\\');
    }
    text.push(c);
}

/// Reads one part as Go does; `at` is where it stands in the text.
fn tokens(part: &str, at: usize) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut chars = part.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        tokens.push(match c {
            '*' => {
                while chars.next_if(|(_, next)| *next == '*').is_some() {}
                Token::Many
            }
            '?' => Token::One,
            '\\' => match chars.next() {
                Some((_, literal)) => Token::Char(literal),
                None => {
                    let at = at + start..at + part.len();
                    return Err(PatternError { why: "it ends with a `\\` that escapes nothing", at });
                }
            },
            '[' => class(&mut chars).ok_or(PatternError {
                why: "the `[` begins a set of characters that is not complete, such as [a-z] would be",
                at: at + start..at + part.len(),
            })?,
            other => Token::Char(other),
        });
    }
    Ok(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

/// What stands behind `[`, up to its `]`.
fn class(chars: &mut Chars<'_>) -> Option<Token> {
    let negated = chars.next_if(|(_, c)| *c == '^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if(|(_, c)| *c == ']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if(|(_, c)| *c == '-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut Chars<'_>) -> Option<char> {
    match chars.next()?.1 {
        '-' | ']' => None,
        '\\' => chars.next().map(|(_, c)| c),
        c => Some(c),
    }
}

fn names(path: &Path) -> Vec<Vec<char>> {
    let normal = |part| match part {
        Component::Normal(name) => Some(std::ffi::OsStr::to_string_lossy(name).chars().collect()),
        _ => None,
    };
    path.components().filter_map(normal).collect()
}

fn name_matches(tokens: &[Token], name: &[char], steps: &mut u32) -> bool {
    *steps += 1;
    if *steps > STEPS_MAX {
        return false;
    }
    match (tokens.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((Token::Many, others)), _) => {
            (0..=name.len()).any(|n| name.get(n..).is_some_and(|rest| name_matches(others, rest, steps)))
        }
        (Some((token, others)), Some((first, rest))) => {
            let fits = match token {
                Token::Char(c) => c == first,
                Token::Class { negated, ranges } => {
                    ranges.iter().any(|(low, high)| low <= first && first <= high) != *negated
                }
                Token::One | Token::Many => true,
            };
            fits && name_matches(others, rest, steps)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().covers(Path::new(path))
    }

    #[test]
    fn patterns_cover_what_they_cover_in_restic() {
        for (pattern, path) in [
            ("*.tmp", "/srv/a/b.tmp"),
            ("cache", "/srv/cache/x/y"),
            ("cache/*.jpg", "/srv/x/cache/a.jpg"),
            ("/srv/**/old", "/srv/a/b/old"),
            ("/srv/**/old", "/srv/old"),
            ("a/**/b", "/x/a/b"),
            ("cache/**", "/srv/cache"),
            ("/", "/srv"),
            ("/**", "/srv"),
            ("**", "/srv"),
            ("./x//y/", "/a/x/y"),
            ("img_[0-9]?.png", "/p/img_42.png"),
            ("[^a]*", "/p/bcd"),
            ("a\\*b", "/p/a*b"),
            (" a ", "/p/ a "),
            ("$HOME", "/p/$HOME"),
            ("#x", "/p/#x"),
        ] {
            assert!(covers(pattern, path), "{pattern} should cover {path}");
        }
        for (pattern, path) in [
            ("*.tmp", "/srv/a.tmpx"),
            ("/cache", "/srv/cache"),
            ("cache", "/srv/cache2"),
            ("a\\*b", "/p/axb"),
            ("a", "/p/a "),
        ] {
            assert!(!covers(pattern, path), "{pattern} should not cover {path}");
        }
    }

    #[test]
    fn what_restic_refuses_is_refused_where_it_stands() {
        for (pattern, at) in [
            ("[", 0..1),
            ("/srv/[a", 5..7),
            ("x/[]a]/y", 2..6),
            ("[-a]", 0..4),
            ("[a-]", 0..4),
            ("a\\", 1..2),
            ("!", 0..1),
            ("", 0..0),
            (".", 0..1),
            ("../x", 0..2),
            ("a\nb", 1..2),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err().at, at, "{pattern:?}");
        }
        for good in ["]", "a]", "[a]]", "[!a]", "[\\]]", "-", "a b", "{a,b}", "/a/../b"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_pattern_is_written_for_its_source_alone() {
        let below = |pattern: &str, source: &str| Pattern::parse(pattern).unwrap().below(Path::new(source));
        assert_eq!(below("*.tmp", "/srv/a"), ["/srv/a/**/*.tmp"]);
        assert_eq!(below("!keep", "/srv/a"), ["!/srv/a/**/keep"]);
        assert_eq!(below("a/x", "/srv/a"), ["/srv/a/**/a/x", "/srv/a/x"]);
        assert_eq!(below("/srv/a/x", "/srv/a"), ["/srv/a/x"]);
        assert_eq!(below("/srv/b/x", "/srv/a"), [""; 0]);
        assert_eq!(below("srv", "/srv/a"), ["/srv/a"]);
        assert_eq!(below("/", "/srv/a"), ["/srv/a"]);
        assert_eq!(below("x", "/"), ["/**/x"]);
        assert_eq!(below("x ", "/we[i]rd*"), ["/we\\[i]rd\\*/**/x[ ]"]);
        assert_eq!(below("/srv/**/x", "/srv/a"), ["/srv/a/**/x", "/srv/a/x"]);
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let list: Vec<Pattern> = ["/x/*", "!/x/keep"].iter().map(|text| Pattern::parse(text).unwrap()).collect();
        assert!(excludes(&list, Path::new("/x/a")) && !excludes(&list, Path::new("/x/keep/b")));
        assert!(!excludes(&list, Path::new("/x")));
    }

    #[test]
    fn a_pattern_full_of_stars_ends() {
        assert!(!covers(&format!("{}b", "*a".repeat(100)), &format!("/{}", "a".repeat(250))));
    }
}
