//! Secrets over several lines: what is open at the end of one line, and which of the next belong to it.

use std::ops::Range;

use super::argument::is_secret_option;
use super::field::{self, Seen, Takes, fields, is_value, names_a_secret};
use super::fold::folded;
use super::known::{KEY_END, private_key};
use super::looks_secret;
use super::name::{self, Says, is_secret_name};
use super::value::{behind_name, closed_length, ends_or_goes_on, is_whole, path_length, reference_length};

/// A name that stands alone on its line has no more words; what has is prose.
const ALONE_WORDS_MAX: usize = 3;

/// The value of a secret field that goes on behind a line.
struct Open {
    /// Of the field; deeper lines are in it.
    indent: usize,
    rest: Rest,
    /// The value that a private key stands in: it goes on behind the key.
    around: Option<Box<Open>>,
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
    /// All, in a field called `value`: what it holds was said in another.
    Named,
    /// All lines of a private key, from this part of it on.
    Key(Part),
    /// The login of an address, up to its `@`.
    Address,
}

/// What of a private key comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Fields that say how it is written, or the key itself.
    Begin,
    /// What goes on behind a field of this indentation, or as above.
    Field(usize),
    /// What stands behind its fields and an empty line: no field belongs to it.
    Body,
}

/// The values in `text` that look like secrets, those over several lines too.
pub(crate) fn secrets_of(text: &str) -> Vec<Range<usize>> {
    let mut lines = Lines { found: Vec::new(), open: None, before: None };
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        lines.read(at, whole.trim_end_matches(['\n', '\r']));
        at += whole.len();
    }
    lines.found.retain(|range| !range.is_empty());
    lines.found
}

/// What is known of the lines up to one.
struct Lines<'t> {
    found: Vec<Range<usize>>,
    open: Option<Open>,
    before: Option<Before<'t>>,
}

/// What the next line is read together with, as one line.
#[derive(Clone, Copy)]
enum Before<'t> {
    /// An option in a list of this indentation.
    Option(usize, &'t str),
    /// A flow that goes on behind its comma.
    Flow(&'t str),
}

impl<'t> Lines<'t> {
    fn read(&mut self, at: usize, line: &'t str) {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let content = line.get(indent..).unwrap_or_default();
        let (open, before) = (self.open.take(), self.before.take());
        if let Some(field) = open.as_ref().filter(|field| field.holds(indent, content)) {
            self.open = match field.rest {
                Rest::Named => self.named(at, line, indent),
                Rest::Key(part) => {
                    let rest = Rest::Key(part.behind(indent, content));
                    if self.key(at, line, indent) {
                        open.map(|key| Open { rest, ..key })
                    } else {
                        open.and_then(|key| key.around).map(|around| *around)
                    }
                }
                Rest::Address => {
                    let login = first_word(content).rfind('@').unwrap_or(0);
                    self.add(at, Some(indent..indent + login));
                    self.add(at + indent + login, content.get(login..).map_or(Vec::new(), looks_secret));
                    goes_on(content, indent)
                }
                rest => self.held(Open::new(field.indent, rest), at, line, indent),
            };
            return;
        }
        self.add(at, looks_secret(line));
        // What goes on may do so behind empty lines and comments.
        if content.is_empty() || content.starts_with('#') {
            self.open = open.or_else(|| goes_on(content, indent));
            self.before = before;
            return;
        }
        self.open = goes_on(content, indent);
        let item = content.strip_prefix("- ").map(|item| item.trim_matches([' ', '"', '\'']));
        match (before, item) {
            (Some(Before::Option(own, option)), Some(item)) if own == indent => self.together(at, option, item, line),
            (Some(Before::Flow(flow)), _) => self.together(at, flow, content, line),
            _ => {}
        }
        let option = item.filter(|item| item.starts_with('-')).map(|item| Before::Option(indent, item));
        self.before = option.or_else(|| {
            let flow = content.trim_end();
            flow.ends_with(',').then(|| flow.get(flow.rfind(['[', '{'])?..).map(Before::Flow))?
        });
    }

    fn add(&mut self, at: usize, places: impl IntoIterator<Item = Range<usize>>) {
        self.found.extend(places.into_iter().map(|place| at + place.start..at + place.end));
    }

    /// Reads the part of a line that is `next` as what follows `before` on one line.
    fn together(&mut self, at: usize, before: &str, next: &str, line: &str) {
        let both = format!("{before} {next}");
        let start = both.len() - next.len();
        let places = looks_secret(&both).into_iter().filter(|place| place.start >= start);
        let places = places.map(|place| place.start - start..place.end - start);
        self.add(at + line.find(next).unwrap_or(0), places);
    }

    /// A line of a private key, and whether more follow; behind its last one there may be anything.
    fn key(&mut self, at: usize, line: &str, indent: usize) -> bool {
        let end = line.find(KEY_END);
        self.add(at, Some(indent..end.unwrap_or(line.len())));
        if let Some(end) = end {
            self.add(at + end, line.get(end..).map_or(Vec::new(), looks_secret));
        }
        end.is_none()
    }

    /// The value whose name stood on a line before.
    fn named(&mut self, at: usize, line: &str, indent: usize) -> Option<Open> {
        let start = line.find(':')? + 1;
        let value = line.get(start..)?;
        let start = start + value.len() - value.trim_start_matches([' ', '\t']).len();
        if let Seen::Hidden(place) = field::value(line, start, Takes::Secret) {
            self.add(at, Some(place));
        }
        let rest = if opens_a_key(value) { Some(Rest::Key(Part::Begin)) } else { rest_of(value.trim(), Takes::Secret) };
        rest.map(|rest| Open::new(indent, rest))
    }

    /// A line that belongs to the value of a field, and what of the value is to come behind it.
    fn held(&mut self, mut field: Open, at: usize, line: &str, indent: usize) -> Option<Open> {
        let content = line.get(indent..)?;
        let place = reference_length(&format!("{{{content}")).map(|length| length - 1);
        if let Some(shown) = place.filter(|_| !matches!(field.rest, Rest::Quote(_) | Rest::Argument)) {
            let rest = content.get(shown..)?;
            if !rest.trim_start().starts_with('#') && !rest.trim_matches([' ', '}', ',']).is_empty() {
                self.add(at, Some(indent + shown..line.len()));
            }
            return Some(Open { rest: Rest::Beside, ..field });
        }
        let end = match field.rest {
            Rest::Quote(quote) => closed_length(&format!("{quote}{line}")).map(|length| length - 1),
            _ => None,
        };
        // What is behind the quote may have been meant to be in it.
        let shown = end.filter(|end| line.get(*end..).is_some_and(ends_or_goes_on));
        self.add(at, Some(indent..shown.unwrap_or(line.len()).max(indent)));
        match (end, shown.and_then(|shown| line.get(shown..))) {
            (Some(_), None) => field.rest = Rest::Deeper,
            (_, Some("")) => field.rest = Rest::Beside,
            (_, Some(behind)) => {
                self.add(at + line.len() - behind.len(), looks_secret(behind));
                return goes_on(behind, indent);
            }
            // Its lines stand anywhere, and need not be deeper.
            (None, None) if opens_a_key(content) => {
                let around = (field.rest != Rest::Argument).then_some(Box::new(field));
                return Some(Open { around, ..Open::new(indent, Rest::Key(Part::Begin)) });
            }
            // What isn't deeper is one line, or the next argument.
            (None, None) if field.rest == Rest::Argument => return None,
            (None, None) => {
                let is_last = indent <= field.indent && !content.is_empty() && !content.starts_with('-');
                if field.rest == Rest::Bare && is_last {
                    // Behind the sign of a key on a line of its own, deeper lines may follow.
                    return begins_with_sign(content).then_some(Open::new(indent, Rest::Deeper));
                }
            }
        }
        Some(field)
    }
}

impl Part {
    /// What comes behind this line of the key.
    fn behind(self, indent: usize, content: &str) -> Self {
        match self {
            Self::Begin | Self::Field(_) if is_head(content) => Self::Field(indent),
            Self::Field(own) if indent > own && !content.is_empty() => self,
            _ => Self::Body,
        }
    }
}

impl Open {
    fn new(indent: usize, rest: Rest) -> Self {
        Self { indent, rest, around: None }
    }

    /// Whether a line belongs to the value.
    fn holds(&self, indent: usize, content: &str) -> bool {
        if content.is_empty() {
            return !matches!(self.rest, Rest::Argument | Rest::Named | Rest::Address);
        }
        let is_deeper = indent > self.indent;
        let is_sign = begins_with_sign(content);
        match self.rest {
            Rest::Quote(_) => true,
            Rest::Deeper => is_deeper || is_sign,
            Rest::Bare => {
                let is_beside = indent == self.indent && (content.starts_with('-') || !is_field(content));
                is_deeper || is_sign || (is_beside && !is_marker(content))
            }
            Rest::Beside => is_deeper && !is_field(content) && !is_marker(content),
            Rest::Argument => is_deeper || (indent == self.indent && content.starts_with("- ")),
            Rest::Named => indent >= self.indent && content.split_once(':').is_some_and(|(name, _)| is_value(name)),
            Rest::Address => !content.starts_with('#') && first_word(content).contains('@'),
            Rest::Key(part) if part != Part::Body && is_head(content) => true,
            Rest::Key(_) => is_deeper || content.contains(KEY_END) || !(is_field(content) || is_marker(content)),
        }
    }
}

fn first_word(content: &str) -> &str {
    content.split([' ', '\t']).next().unwrap_or_default()
}

fn begins_with_sign(content: &str) -> bool {
    content.starts_with([':', '='])
}

/// Whether a private key begins on this line and goes on behind it.
fn opens_a_key(content: &str) -> bool {
    private_key(content).is_some_and(|key| key.end == content.len())
}

/// Whether a line is a field of a private key, such as `Proc-Type: 4,ENCRYPTED`.
fn is_head(content: &str) -> bool {
    content.starts_with(char::is_alphabetic) && is_field(content)
}

/// Whether a line has a name and a value.
fn is_field(content: &str) -> bool {
    let value = behind_name(content.trim_start_matches(['-', ' ', '"', '\'', '{']));
    value.is_some_and(|value| value.is_empty() || value.starts_with([' ', '\t']))
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
        return Some(Open::new(0, Rest::Bare));
    }
    if opens_a_key(content) {
        // A key has fields, too; they stand where it does.
        let indent = if content.starts_with('-') { indent.saturating_sub(1) } else { indent };
        return Some(Open::new(indent, Rest::Key(Part::Begin)));
    }
    let item = content.trim_start_matches(['-', ' ']);
    let own = indent + content.len() - item.len();
    let signs = folded(item);
    let fields = fields(item, &signs);
    if let Some(rest) = fields.last.and_then(|(at, takes)| rest_of(item.get(at..)?.trim(), takes)) {
        return Some(Open::new(own, rest));
    }
    // Behind what is still open on this line: all that follows a `name:` is taken for what it names.
    if names_a_secret(item.trim_end_matches([' ', ','])) {
        return Some(Open::new(indent, Rest::Named));
    }
    let argument = content.strip_prefix("- ").map(|argument| argument.trim_matches([' ', '"', '\'']));
    if argument.is_some_and(|argument| is_secret_option(&folded(argument))) {
        return Some(Open::new(indent, Rest::Argument));
    }
    let word = signs.trim_end().rsplit([' ', '"', '\'']).next()?;
    if word.split_once("//").is_some_and(|(_, host)| !host.contains(['@', '/'])) {
        return Some(Open::new(indent, Rest::Address));
    }
    // A name alone.
    let name = signs.get(fields.open?..)?;
    let is_alone = name::words(name).len() <= ALONE_WORDS_MAX && !name.contains([']', '}', '#']);
    (is_alone && name::says(name) != Says::Nothing).then_some(Open::new(own, Rest::Deeper))
}

/// What of the value of a field is still to come behind its line.
fn rest_of(value: &str, takes: Takes) -> Option<Rest> {
    // What isn't the next field may have been meant to be in the value, and go on.
    let beside = |length: usize| match value.get(length..)? {
        "" => Some(Rest::Beside),
        behind => (!ends_or_goes_on(behind)).then_some(Rest::Deeper),
    };
    if let Some(length) = reference_length(value) {
        return if is_whole(value.get(..length)?) { beside(length) } else { Some(Rest::Deeper) };
    }
    // A block has only its sign on the line of its name.
    if value.is_empty() || value.starts_with('#') || value.trim_end_matches(['+', '-']).ends_with(['|', '>']) {
        return Some(if takes == Takes::Login { Rest::Beside } else { Rest::Bare });
    }
    match (takes, closed_length(value), path_length(value)) {
        (Takes::Login, ..) => Some(Rest::Beside),
        (_, Some(length), _) | (Takes::Place, _, Some(length)) => beside(length),
        _ => Some(value.chars().next().filter(|c| matches!(c, '"' | '\'')).map_or(Rest::Deeper, Rest::Quote)),
    }
}
