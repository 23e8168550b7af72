//! Secrets over several lines: what is open at the end of one line, and which of the next belong to it.

use std::ops::Range;

use super::argument::is_secret_option;
use super::field::{Takes, fields};
use super::fold::folded;
use super::looks_secret;
use super::name::{self, Says, is_secret_name};
use super::value::{closed_length, ends_or_goes_on, reference_length};

/// A name that stands alone on its line has no more words; what has is prose.
const ALONE_WORDS_MAX: usize = 3;

/// The value of a secret field that goes on behind a line.
struct Open {
    /// Of the field; deeper lines are in it.
    indent: usize,
    rest: Rest,
}

/// What of a value is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// All up to this sign.
    Quote(char),
    /// Deeper lines.
    Deeper,
    /// Nothing of it stood on the line: a list may follow at the field's own indentation, and what isn't a field.
    Bare,
    /// It was whole, and fields may follow; what is none belongs to it.
    Beside,
    /// The next item of the list.
    Argument,
}

/// The values in `text` that look like secrets, those over several lines too.
pub(crate) fn secrets_of(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let content = line.get(indent..).unwrap_or_default();
        if let Some(field) = open.as_mut().filter(|field| field.holds(indent, content)) {
            let shown = reference_length(&format!("{{{content}")).map(|length| length - 1);
            match shown.filter(|_| !matches!(field.rest, Rest::Quote(_) | Rest::Argument)) {
                None => {
                    let end = match field.rest {
                        Rest::Quote(quote) => line.find(quote).map(|at| at + 1),
                        _ => None,
                    };
                    // What is behind the quote may have been meant to be in it.
                    let shown = end.filter(|end| line.get(*end..).is_some_and(ends_or_goes_on));
                    found.push(at + indent..at + shown.unwrap_or(line.len()).max(indent));
                    // What isn't deeper is one line, or the next argument.
                    let is_last = indent <= field.indent && !content.is_empty() && !content.starts_with('-');
                    let is_over = field.rest == Rest::Argument || (field.rest == Rest::Bare && is_last);
                    if end.is_some() || is_over {
                        open = None;
                    }
                }
                Some(shown) => {
                    let rest = line.get(indent + shown..).unwrap_or_default();
                    if !rest.trim_start().starts_with('#') && !rest.trim_matches([' ', '}', ',']).is_empty() {
                        found.push(at + indent + shown..at + line.len());
                    }
                    field.rest = Rest::Beside;
                }
            }
            at += whole.len();
            continue;
        }
        found.extend(looks_secret(line).into_iter().map(|range| at + range.start..at + range.end));
        open = goes_on(content, indent);
        at += whole.len();
    }
    found.retain(|range| !range.is_empty());
    found
}

impl Open {
    /// Whether a line belongs to the value.
    fn holds(&self, indent: usize, content: &str) -> bool {
        if content.is_empty() {
            return true;
        }
        let is_deeper = indent > self.indent;
        let is_sign = content.starts_with([':', '=']);
        match self.rest {
            Rest::Quote(_) => true,
            Rest::Deeper => is_deeper || is_sign,
            Rest::Bare => {
                let is_beside = indent == self.indent && (content.starts_with('-') || !is_field(content));
                is_deeper || is_sign || (is_beside && !is_marker(content))
            }
            Rest::Beside => is_deeper && !is_field(content) && !is_marker(content),
            Rest::Argument => indent == self.indent && content.starts_with("- "),
        }
    }
}

/// Whether a line has a name and a value.
fn is_field(content: &str) -> bool {
    let name = content.trim_start_matches(['-', ' ', '"', '\'', '{']);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let behind = name.trim_start_matches(is_name);
    let value = behind.trim_start_matches(['"', '\'']).trim_start_matches(' ').strip_prefix(':');
    behind.len() < name.len() && value.is_some_and(|value| value.is_empty() || value.starts_with([' ', '\t']))
}

/// Whether a line ends a flow or a document, or is a comment.
fn is_marker(content: &str) -> bool {
    content.starts_with(['}', ']', ',', '#']) || content.starts_with("---") || content.starts_with("...")
}

/// Whether the value of the last secret field on this line goes on behind it.
fn goes_on(content: &str, indent: usize) -> Option<Open> {
    // A key on a line of its own. Its value may stand anywhere in what follows, deeper or not.
    if let Some((before, key)) = content.rsplit_once('?')
        && (before.is_empty() || before.ends_with([' ', '{', ',', '[']))
        && is_secret_name(key.trim().trim_matches(['"', '\'']))
        && !key.contains([':', '='])
    {
        return Some(Open { indent: 0, rest: Rest::Bare });
    }
    let item = content.trim_start_matches(['-', ' ']);
    let own = indent + content.len() - item.len();
    let signs = folded(item);
    let fields = fields(item, &signs);
    if let Some((at, takes)) = fields.last {
        let value = item.get(at..)?.trim();
        return rest_of(value, takes).map(|rest| Open { indent: own, rest });
    }
    let argument = content.strip_prefix("- ").map(|argument| argument.trim_matches([' ', '"', '\'']));
    if argument.is_some_and(|argument| is_secret_option(&folded(argument))) {
        return Some(Open { indent, rest: Rest::Argument });
    }
    // A name alone.
    let name = signs.get(fields.open?..)?;
    let is_alone = name::words(name).len() <= ALONE_WORDS_MAX && !name.contains([']', '}', '#']);
    (is_alone && name::says(name) != Says::Nothing).then_some(Open { indent: own, rest: Rest::Deeper })
}

fn rest_of(value: &str, takes: Takes) -> Option<Rest> {
    if let Some(length) = reference_length(value) {
        let behind = value.get(length..)?;
        let is_whole = value.get(..length)?.ends_with('}');
        return match (is_whole, behind.is_empty()) {
            (true, true) => Some(Rest::Beside),
            (false, _) => Some(Rest::Deeper),
            _ => None,
        };
    }
    // A block has only its sign on the line of its name.
    let is_nothing =
        value.is_empty() || value.starts_with('#') || value.trim_end_matches(['+', '-']).ends_with(['|', '>']);
    match takes {
        Takes::Login => return Some(Rest::Beside),
        Takes::Place if !is_nothing => return None,
        _ if is_nothing => return Some(Rest::Bare),
        _ => {}
    }
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    match (quote, closed_length(value)) {
        (Some(_), Some(length)) => (length == value.len()).then_some(Rest::Beside),
        (Some(quote), None) => Some(Rest::Quote(quote)),
        (None, _) => Some(Rest::Deeper),
    }
}
