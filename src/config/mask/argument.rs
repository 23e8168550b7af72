//! Secrets among the arguments of a command: behind an option, or in the same word.

use std::ops::Range;

use super::field::{after, hides_the_rest};
use super::fold::NOTHING;
use super::name::{self, Says};
use super::value::value_length;

/// Programs that take a password behind a single letter, by how their names begin.
const PROGRAMS: [(&str, char); 13] = [
    ("mysql", 'p'),
    ("mariadb", 'p'),
    ("mongo", 'p'),
    ("sshpass", 'p'),
    ("influx", 'p'),
    ("rabbitmqadmin", 'p'),
    ("7z", 'p'),
    ("rar", 'p'),
    ("redis-cli", 'a'),
    ("ldap", 'w'),
    ("zip", 'P'),
    ("unzip", 'P'),
    ("mosquitto", 'P'),
];

/// A shorter word behind `-p` is too common to be a password, where no program is named.
const PASSWORD_BYTES_MIN: usize = 4;

/// Letters of other options before the `u` in one word: `-su`.
const LETTERS_MAX: usize = 3;

/// The arguments on a line that are secrets.
pub(super) fn secrets(line: &str, folded: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut letter = None;
    let mut signs = Signs::of(folded);
    let is_edge = |c: char| " ,[]{}\"'`()".contains(c);
    let mut start = 0;
    for word in folded.split(is_edge) {
        let end = start + word.len();
        let program = word.rsplit('/').next().unwrap_or_default();
        letter = PROGRAMS.iter().find(|(name, _)| program.starts_with(name)).map(|(_, letter)| *letter).or(letter);
        let option = word.trim_end_matches(NOTHING);
        let range = login(folded, start, word, &mut signs)
            .or_else(|| single_letter(folded, start, option, letter, &mut signs))
            .or_else(|| {
                let at = is_secret_option(option).then(|| behind(folded, end))??;
                let value = line.get(at..)?;
                Some(at..at + value_length(value).unwrap_or(value.len()))
            });
        start = end + 1;
        if hides_the_rest(&mut found, range, line) {
            break;
        }
    }
    found
}

/// Where the signs stand that end what is behind an option, or say what it is. What stands far off would be looked for
/// again and again.
struct Signs<'l> {
    blank: Next<'l>,
    comma: Next<'l>,
    colon: Next<'l>,
    slash: Next<'l>,
    /// What ends a word.
    end: Next<'l>,
}

impl<'l> Signs<'l> {
    fn of(line: &'l str) -> Self {
        Self {
            blank: Next::of(line, &[' ']),
            comma: Next::of(line, &[',']),
            colon: Next::of(line, &[':', '%']),
            slash: Next::of(line, &['/']),
            end: Next::of(line, &[' ', ',', '"', '\'', ']', '}']),
        }
    }
}

/// The next of some signs on a line, which is looked through once.
struct Next<'l> {
    line: &'l str,
    signs: &'static [char],
    /// There is none between the two.
    known: Range<usize>,
}

impl<'l> Next<'l> {
    fn of(line: &'l str, signs: &'static [char]) -> Self {
        Self { line, signs, known: 0..0 }
    }

    /// The first place from `at` on, or the end of the line.
    fn from(&mut self, at: usize) -> usize {
        if !self.known.contains(&at) {
            let length = self.line.get(at..).and_then(|rest| rest.find(self.signs));
            self.known = at..length.map_or(self.line.len(), |length| at + length);
        }
        self.known.end
    }
}

/// `--password`, `-token`; what says that there is none takes none.
pub(super) fn is_secret_option(word: &str) -> bool {
    let name = word.trim_start_matches('-');
    let is_option = name.len() < word.len() && name.starts_with(char::is_alphabetic);
    is_option
        && !name.contains(['=', ':'])
        && !["no-", "skip-", "without-"].iter().any(|none| name.starts_with(none))
        && name::says(name) == Says::Secret
        && !name::is_place(name)
}

/// Where the argument begins behind the one that ends at `end`.
fn behind(folded: &str, end: usize) -> Option<usize> {
    let at = after(folded, end, &[' ', '"', '\'', NOTHING]);
    let rest = folded.get(at..)?;
    let at = if rest.starts_with(',') { after(folded, at + 1, &[' ', NOTHING]) } else { at };
    let rest = folded.get(at..)?;
    (at > end && !rest.is_empty() && !rest.starts_with([']', '}', '#', ':', '='])).then_some(at)
}

/// `user:secret` behind `-u` or in its word, and in a field whose name says that one logs in with it.
fn login(folded: &str, start: usize, word: &str, signs: &mut Signs) -> Option<Range<usize>> {
    let letters = word.strip_prefix('-').and_then(|letters| letters.find(['u', 'U'])).unwrap_or(usize::MAX);
    let is_short = letters <= LETTERS_MAX
        && word.get(1..=letters).is_some_and(|word| word.bytes().all(|b| b.is_ascii_alphabetic()));
    let is_glued = is_short && word.contains(':');
    let name = word.get(..word.find([':', '=']).unwrap_or(word.len()))?;
    let at = if is_glued {
        start + "-u".len() + letters
    } else {
        let options = ["-u", "--user", "--proxy-user", "auth", "basic", "login"];
        let is_last = is_short && name.len() == letters + "-u".len();
        if !is_last && !options.contains(&name.to_ascii_lowercase().as_str()) {
            return None;
        }
        let end = start + name.len();
        Some(after(folded, end, &[' ', ':', '=', ',', '"', '\'', NOTHING])).filter(|at| *at > end)?
    };
    let value = folded.get(at..)?;
    if value.starts_with('{') {
        return None;
    }
    let (comma, colon, end) = (signs.comma.from(at), signs.colon.from(at), signs.blank.from(at));
    // A list of a name and its password.
    if value.starts_with('[') && comma < folded.len() {
        return Some(comma + 1..folded.len());
    }
    (colon < end && !folded.get(colon..)?.starts_with("://")).then_some(colon + 1..end)
}

/// `-p secret` and `-psecret`, where a program is named that takes it, or where it looks like nothing else.
fn single_letter(
    folded: &str,
    start: usize,
    word: &str,
    letter: Option<char>,
    signs: &mut Signs,
) -> Option<Range<usize>> {
    let tail = word.strip_prefix('-')?.strip_prefix(letter.unwrap_or('p'))?;
    let at = if tail.is_empty() { behind(folded, start + word.len())? } else { start + word.len() - tail.len() };
    let quoted = after(folded, at, &['"', '\'']);
    let end = signs.end.from(quoted);
    let value = folded.get(quoted..end)?;
    let is_one = match letter {
        Some(_) => !value.starts_with('-'),
        None => signs.slash.from(quoted) >= end && is_no_word(value),
    };
    is_one.then(|| at..signs.blank.from(at).min(signs.comma.from(at)))
}

/// Whether it is no number, port, option or plain word.
fn is_no_word(value: &str) -> bool {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || b":.-".contains(&byte));
    let is_plain = value.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-.".contains(&byte));
    value.len() >= PASSWORD_BYTES_MIN && !is_number && !is_plain && !value.starts_with(['-', '~', '$', '.'])
}
