//! Names and their values on one line, whatever stands between the two.

use std::ops::Range;

use super::fold::NOTHING;
use super::name::{self, PASSWORD_WORDS, Says};
use super::value::{closed_length, ends_or_goes_on, is_whole, path_length, reference_length, value_length};

/// Ways to log in, which stand where a login may stand.
const WAYS: [&str; 18] = [
    "none", "basic", "digest", "bearer", "plain", "login", "true", "false", "yes", "no", "on", "off", "null", "~",
    "ntlm", "oauth2", "trust", "peer",
];

/// What a web address calls a secret, and nobody else.
const QUERY_WORDS: [&str; 3] = ["code", "sid", "ticket"];

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Line,
    /// What a message repeats: a name, a value, or both.
    Repeated,
}

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Secret,
    /// A path to it.
    Place,
    /// A way to log in, a mapping with fields, or the login itself.
    Login,
}

/// What the names on a line say about what stands behind them.
pub(super) struct Fields {
    pub secrets: Vec<Range<usize>>,
    /// The last name that has a secret, and where its value begins.
    pub last: Option<(usize, Takes)>,
    /// Where the last item begins, if no name and value were told apart in it.
    pub open: Option<usize>,
}

/// The names of a line and the values behind them. `folded` is the folded line.
///
/// A name is all that stands before a sign such as `:`, back to where the item begins.
pub(super) fn fields(line: &str, folded: &str) -> Fields {
    let mut found = Fields { secrets: Vec::new(), last: None, open: Some(0) };
    let (mut begin, mut at, mut item) = (0, 0, 0);
    let (mut is_flow, mut is_glued, mut is_named) = (false, false, false);
    while let Some(sign) = folded.get(at..).and_then(|rest| rest.chars().next()) {
        let mut next = at + sign.len_utf8();
        match sign {
            ':' | '=' | ';' => {
                let name = folded.get(begin..at).unwrap_or_default();
                let named = (is_named && is_value(name)).then_some(Takes::Secret);
                if let Some(takes) = takes(name, sign).or(named) {
                    let start = after(folded, next, &[' ', NOTHING]);
                    found.last = Some((start, takes));
                    match value(line, start, takes) {
                        Seen::Hidden(range) => {
                            next = range.end;
                            found.secrets.push(range);
                            if next >= line.len() {
                                found.open = None;
                                return found;
                            }
                        }
                        // `{secret: x}` is no place that could be read: whoever writes it may mean the secret itself.
                        Seen::Shown(end) if folded.get(start..end).is_some_and(|shown| shown.contains("secret")) => {}
                        Seen::Shown(end) => next = next.max(end),
                    }
                }
                (begin, found.open) = (next, None);
            }
            '{' | '[' if !is_glued => {
                (begin, item, is_flow, found.open) = (next, next, true, Some(next));
                is_named = false;
            }
            ',' if is_flow => {
                is_named = names_a_secret(folded.get(item..at).unwrap_or_default());
                (begin, item, found.open) = (next, next, Some(next));
            }
            _ => {}
        }
        if sign != NOTHING {
            is_glued = !sign.is_whitespace() && !matches!(sign, ':' | '=' | ',' | '[' | '{' | '(' | '-' | '?');
        }
        at = next;
    }
    found
}

/// Whether a field says what the value beside it is called: `name: DB_PASSWORD`.
pub(super) fn names_a_secret(field: &str) -> bool {
    let named = field.split_once(':').filter(|(name, _)| matches!(bare(name), "name" | "header" | "variable"));
    named.is_some_and(|(_, named)| name::says(named) != Says::Nothing)
}

/// Whether this is the name of a value whose own name stands beside it.
pub(super) fn is_value(name: &str) -> bool {
    bare(name) == "value"
}

fn bare(name: &str) -> &str {
    name.trim_matches([' ', '"', '\'', '-', '{', NOTHING])
}

/// What the name before a sign says about the value behind it.
fn takes(region: &str, sign: char) -> Option<Takes> {
    let mut name = region;
    let mut is_query = false;
    if sign == '=' {
        // A parameter of an address, an option: what stands before is another's.
        let last = region.rsplit(['?', '&']).next().unwrap_or_default();
        if last.contains(char::is_alphanumeric) {
            is_query = last.len() < region.len();
            name = last;
        }
        if let Some(option) = name.rsplit(' ').next().filter(|word| word.starts_with('-')) {
            name = option;
        }
    }
    let is_secret = name::says(name) != Says::Nothing || (is_query && QUERY_WORDS.contains(&name));
    match is_secret {
        true if name::is_place(name) => Some(Takes::Place),
        true => Some(Takes::Secret),
        false => name::is_login(name).then_some(Takes::Login),
    }
}

pub(super) enum Seen {
    Hidden(Range<usize>),
    /// Up to here nothing is to be hidden.
    Shown(usize),
}

/// What of the value that begins at `start` is a secret.
pub(super) fn value(line: &str, start: usize, takes: Takes) -> Seen {
    let value = line.get(start..).unwrap_or_default();
    let shown = match takes {
        Takes::Login if has_its_own_names(value) => return Seen::Shown(start),
        _ if value.starts_with('{') => reference_length(value),
        Takes::Secret => None,
        Takes::Place => path_length(value),
        Takes::Login => way_length(value),
    };
    let (place, behind) = value.split_at_checked(shown.unwrap_or(0)).unwrap_or_default();
    // What stands beside a reference, or in it beside its place, is none.
    let is_shown = !place.is_empty() && is_whole(place) && ends_or_goes_on(behind);
    let length = value_length(value).unwrap_or(value.len());
    if is_shown || length <= place.len() {
        Seen::Shown(start + place.len())
    } else {
        Seen::Hidden(start + place.len()..start + length)
    }
}

/// Whether one is told how to log in by fields, a list or an address, which are looked at elsewhere.
fn has_its_own_names(login: &str) -> bool {
    let word = login.trim_start_matches(['"', '\'']);
    login.starts_with(['{', '[']) || word.trim_start_matches(char::is_alphanumeric).starts_with("://")
}

/// How long a way to log in is, with its quotes.
fn way_length(value: &str) -> Option<usize> {
    let word = value.trim_start_matches(['"', '\'']);
    let word = word.get(..word.find([' ', ',', '}', ']', '"', '\'']).unwrap_or(word.len()))?;
    let is_way = WAYS.contains(&word.to_ascii_lowercase().as_str());
    is_way.then(|| closed_length(value).filter(|length| *length == word.len() + 2).unwrap_or(word.len()))
}

/// Values behind a name that has no sign such as `:` behind it: another sign, a blank, a second item.
pub(super) fn forgotten(line: &str, folded: &str, reading: Reading) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let last_sign = folded.rfind([':', '=']).unwrap_or(0);
    let mut start = 0;
    for item in folded.split(['{', '[', ',', ':']) {
        let places = Item { line, folded, start, last_sign, reading };
        let range = places.of_two(item).or_else(|| places.value(item));
        start += item.len() + 1;
        if hides_the_rest(&mut found, range, line) {
            break;
        }
    }
    found
}

/// What begins at `start`, at the begin of the line or of an item of a flow.
struct Item<'l> {
    line: &'l str,
    folded: &'l str,
    start: usize,
    /// Where the last `:` or `=` of the line stands.
    last_sign: usize,
    reading: Reading,
}

impl Item<'_> {
    /// `[password, x]`: a name and its value, and no more.
    fn of_two(&self, item: &str) -> Option<Range<usize>> {
        let name = item.trim_matches([' ', '"', '\'', NOTHING]);
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | NOTHING);
        let is_name = !name.starts_with('-') && name.chars().all(is_part) && name::says(name) == Says::Secret;
        if !is_name || !self.begins_behind(&['[', '{']) {
            return None;
        }
        let comma = self.start + item.len();
        self.folded.get(comma..)?.strip_prefix(',')?;
        let start = after(self.folded, comma + 1, &[' ', NOTHING]);
        let value = self.line.get(start..)?;
        let length = closed_length(value).or_else(|| value.find([',', ']', '}'])).unwrap_or(value.len());
        let behind = value.get(length..)?.trim_start();
        (behind.is_empty() || behind.starts_with([']', '}'])).then_some(start..start + length)
    }

    fn begins_behind(&self, signs: &[char]) -> bool {
        self.folded.get(..self.start).is_some_and(|before| before.ends_with(signs))
    }

    fn value(&self, item: &str) -> Option<Range<usize>> {
        let body = item.trim_start_matches(|c: char| !c.is_alphanumeric() && !"#/\\.~$@}]".contains(c));
        let before = item.get(..item.len() - body.len())?;
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@' | NOTHING);
        let word = body.get(..body.find(|c| !is_part(c)).unwrap_or(body.len()))?;
        // Options are looked at elsewhere.
        if before.ends_with('-') || name::says(word) != Says::Secret {
            return None;
        }
        let at = self.start + before.len() + word.len();
        let rest = self.folded.get(at..)?;
        let is_blank = |c: char| matches!(c, ' ' | '"' | '\'' | NOTHING);
        let is_sign = |c: char| !c.is_alphanumeric() && !is_blank(c) && !":=;,#[]{}".contains(c);
        let is_line = self.start == 0 && !before.contains('-') && self.reading == Reading::Line;
        let letters = word.to_ascii_lowercase().replace(NOTHING, "");
        let is_password = PASSWORD_WORDS.iter().any(|password| letters.contains(password));
        let first = rest.chars().next();
        // What has a name already is a value, and may be the name of anything.
        if !is_password && self.begins_behind(&[':']) {
            return None;
        }
        let blank = after(self.folded, at, &[' ', '"', '\'', NOTHING]);
        let start = match first {
            Some(c) if is_blank(c) => match self.folded.get(blank..)? {
                rest if rest.starts_with('#') && !rest.starts_with("# ") => after(self.folded, blank + 1, &[NOTHING]),
                rest if rest.starts_with(',') && is_line && is_password => {
                    after(self.folded, blank + 1, &[' ', NOTHING])
                }
                _ => blank,
            },
            // A word with a sign in it may be a path or a pattern.
            Some('/' | '*' | '\\') if !is_password || self.reading == Reading::Repeated => return None,
            Some(c) if is_sign(c) && (is_line || is_password) => {
                let signs = rest.len() - rest.trim_start_matches(|c| is_sign(c) || is_blank(c)).len();
                at + signs
            }
            // Glued to the name, it begins no comment.
            Some('#') if is_line || is_password => after(self.folded, at + 1, &[NOTHING]),
            // No flow is open, as far as this line says.
            Some(',') if is_line && is_password => after(self.folded, at + 1, &[' ', NOTHING]),
            // `password[x]` is a name where a sign follows.
            Some('[' | '{') if (is_line || is_password) && self.last_sign < at => at,
            None | Some(',' | ']' | '}') if self.reading == Reading::Line && !name::is_place(word) => {
                return joined(word).map(|tail| self.start + before.len() + tail..at);
            }
            _ => return None,
        };
        let behind = self.folded.get(start..)?;
        // The value began in the word, and goes on behind its sign.
        let is_glued = first.is_some_and(is_sign);
        let tail = joined(word).filter(|_| is_glued && self.reading == Reading::Line);
        if behind.is_empty() || behind.starts_with([':', '=', ';', ',', ']', '}', ')', '#']) {
            return None;
        }
        let value = self.line.get(start..)?;
        // A reference whose colon was forgotten is one.
        if (name::is_place(word) && path_length(value).is_some()) || reference_length(value).is_some() {
            return None;
        }
        let end = start + value_length(value).unwrap_or(value.len());
        Some(tail.map_or(start, |tail| self.start + before.len() + tail)..end)
    }
}

/// Where the value begins in `password-x`.
fn joined(word: &str) -> Option<usize> {
    let letters = word.to_ascii_lowercase().replace(NOTHING, "");
    let length = PASSWORD_WORDS.iter().filter_map(|name| Some(letters.find(name)? + name.len())).min()?;
    let mut seen = word.char_indices().filter(|(_, sign)| *sign != NOTHING);
    let tail = word.get(seen.nth(letters.get(..length)?.chars().count() - 1)?.0 + 1..)?;
    let value = tail.trim_start_matches(['-', '_', '.', '$', '@', NOTHING]);
    (value.len() < tail.len() && !value.is_empty()).then_some(word.len() - value.len())
}

/// The first place from `at` on where none of these signs stands.
pub(super) fn after(folded: &str, at: usize, signs: &[char]) -> usize {
    folded.get(at..).map_or(at, |rest| at + rest.len() - rest.trim_start_matches(signs).len())
}

/// Adds what isn't hidden yet, and says whether the line is hidden up to its end.
pub(super) fn hides_the_rest(found: &mut Vec<Range<usize>>, range: Option<Range<usize>>, line: &str) -> bool {
    let Some(range) = range.filter(|range| !range.is_empty()) else { return false };
    let end = range.end;
    if found.last().is_none_or(|last| end > last.end || range.start < last.start) {
        found.push(range);
    }
    end >= line.len()
}
