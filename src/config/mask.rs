//! What looks like a secret in text that could not be understood.
//!
//! The validator knows secrets by the schema; this is the second net, for misspelt fields, unknown plugins and broken
//! YAML. It may mask too much, never the name of a field.

mod address;
mod argument;
mod block;
mod field;
mod fold;
mod known;
mod name;
#[cfg(test)]
mod tests;
mod value;

use std::ops::Range;

pub(crate) use block::secrets_of;
use field::Reading;
use fold::folded;
pub(crate) use name::is_secret_name;
use value::{PLACE_BYTES_MAX, REFERENCES, reference_length};

/// How many lines before a syntax error are looked at for the key that it belongs to.
const LINES_BACK_MAX: usize = 50;

/// A value that is shorter is not looked for in messages: it is part of any word.
const REPEATED_BYTES_MIN: usize = 4;

/// A word of a value that could not be understood is a secret, too, if it is longer than most words of a message.
const REPEATED_WORD_MIN: usize = 8;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "***";

/// The values on `line` that look like secrets: after a name such as `password:`, in `//user:secret@host`, behind an option.
pub(crate) fn looks_secret(line: &str) -> Vec<Range<usize>> {
    secrets_in(line, Reading::Line)
}

fn secrets_in(line: &str, reading: Reading) -> Vec<Range<usize>> {
    let signs = folded(line);
    let mut found = address::secrets(&signs);
    found.extend(known::secrets(&signs));
    found.extend(argument::secrets(line, &signs));
    found.extend(field::fields(line, &signs).secrets);
    found.extend(field::forgotten(line, &signs, reading));
    of_whole_signs(line, found)
}

/// Places in a folded line as places in the line itself, where a sign may be longer.
fn of_whole_signs(line: &str, places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let whole = |at: usize| (at..line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
    places.into_iter().map(|place| whole(place.start)..whole(place.end)).collect()
}

/// The secrets that a message could repeat: the values themselves, without quotes and marks.
pub(crate) fn repeated<'t>(text: &'t str, places: &[Range<usize>]) -> Vec<&'t str> {
    let mut found = Vec::new();
    for place in places {
        if text.get(..place.start).is_some_and(names_a_place) {
            continue;
        }
        let value = text.get(place.clone()).unwrap_or_default();
        let inner = value.trim().trim_end_matches(['}', ']', ',', ' ']).trim_matches(['"', '\'']);
        let parts = inner.split([':', '\n']).map(str::trim);
        found.extend([value.trim(), inner].into_iter().chain(parts).filter(|each| each.len() >= REPEATED_BYTES_MIN));
        let words = inner.split([' ', '\t', '\n', '"', '\'', '\\', ',', '{', '}', '[', ']']);
        found.extend(words.filter(|each| each.len() >= REPEATED_WORD_MIN));
    }
    found.sort_by_key(|each| std::cmp::Reverse(each.len()));
    found.dedup();
    found
}

/// Whether what stands before a value says that it is the name of a place: a kind of reference behind `{` or on a deeper
/// line, in a field that holds a secret. Anywhere else a field that is called `secret` is one.
fn names_a_place(before: &str) -> bool {
    let before = before.trim_end_matches([' ', '\t', ':', '=', '"', '\'']);
    let Some(outer) = REFERENCES.iter().find_map(|kind| before.strip_suffix(kind)) else { return false };
    let blank = outer.trim_end_matches(['"', '\'']);
    let outer = blank.trim_end_matches([' ', '\t']);
    let field = match outer.chars().next_back() {
        Some('\n') => field_above(outer, blank.len() - outer.len()),
        Some('{') => outer.strip_suffix('{'),
        // The second place of a reference.
        Some(',') => last_of(outer, &['{', '\n']).and_then(|at| {
            let flow = outer.get(at..)?;
            let length = reference_length(flow)?;
            flow.get(length..).filter(|rest| rest.trim() == ",").and(outer.get(..at))
        }),
        _ => None,
    };
    let name = |field: &str| {
        let start = last_of(field, &['{', '[', ',', '\n']).map_or(0, |at| at + 1);
        field.get(start..).is_some_and(is_secret_name)
    };
    field.is_some_and(name)
}

/// The field without a value that lines of this indentation are the value of.
fn field_above(text: &str, indent: usize) -> Option<&str> {
    let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let mut lines = text.lines().rev().take(LINES_BACK_MAX).filter(|line| !line.trim().is_empty());
    lines.find(|line| indent_of(line) < indent)?.trim_end().strip_suffix(':')
}

/// Where the last of these signs stands, not too far from the end.
fn last_of(text: &str, signs: &[char]) -> Option<usize> {
    text.char_indices().rev().take(PLACE_BYTES_MAX).find(|(_, sign)| signs.contains(sign)).map(|(at, _)| at)
}

/// A message without what it repeats of `secrets`, and without what is between `//` and `@`.
pub(crate) fn cleaned(message: &str, secrets: &[&str]) -> String {
    let mut text = message.to_owned();
    for secret in secrets {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
    }
    let mut places = of_whole_signs(&text, address::userinfo(&folded(&text)));
    // What is repeated may be a field and its value, which nobody read as that.
    let mut at = 0;
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            places
                .extend(secrets_in(part, Reading::Repeated).into_iter().map(|range| at + range.start..at + range.end));
        }
        at += part.len() + 1;
    }
    places.sort_by_key(|place| place.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for place in places.into_iter().filter(|place| text.get(place.clone()) != Some(MASK)) {
        if place.start >= done {
            out.push_str(text.get(done..place.start).unwrap_or_default());
            out.push_str(MASK);
        }
        done = done.max(place.end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Whether the line at `start` may be the rest of a secret that began on a line before: an unclosed quote, a block.
pub(crate) fn continues_a_secret(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    for line in before.lines().rev().take(LINES_BACK_MAX) {
        let Some((name, value)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
        let value = value.trim();
        return is_secret_name(name) && reference_length(value).is_none();
    }
    false
}
