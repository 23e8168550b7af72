//! YAML events to a tree of text with places; everything that a config may not use is refused here.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::{DEPTH_MAX, Duplicates, Entry, Node, Value, syntax};
use crate::config::suggest;
use crate::config::text::{Finding, SourceText, Span};
use crate::error::codes;

/// Most findings in one document at this stage.
const FINDINGS_MAX: usize = 50;

pub(super) struct Read {
    pub root: Option<Node>,
    pub findings: Vec<Finding>,
    pub duplicates: Duplicates,
    /// Something stands in it that makes the rest meaningless.
    pub refused: bool,
}

/// Reads the document `text`, which starts at byte `offset` of `source`.
pub(super) fn read(source: &SourceText, text: &str, offset: usize) -> Read {
    let mut builder = Builder {
        source,
        places: Places::new(text, offset),
        stack: Vec::new(),
        root: None,
        findings: Vec::new(),
        duplicates: Duplicates::Absent,
        refused: false,
    };
    builder.run(text, offset);
    Read { root: builder.root, findings: builder.findings, duplicates: builder.duplicates, refused: builder.refused }
}

struct Builder<'a> {
    source: &'a SourceText,
    places: Places,
    stack: Vec<Frame>,
    root: Option<Node>,
    findings: Vec<Finding>,
    duplicates: Duplicates,
    refused: bool,
}

enum Frame {
    Sequence { start: Span, items: Vec<Node> },
    Mapping { start: Span, entries: Vec<Entry>, seen: HashMap<String, Span>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    fn run(&mut self, text: &str, offset: usize) {
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = self.places.byte(error.marker());
                    self.refuse(syntax::from_saphyr(&error, text, offset, at));
                    return;
                }
            };
            let span = Span::new(self.places.byte(&span.start), self.places.byte(&span.end));
            if self.findings.len() >= FINDINGS_MAX || !self.take(event, span) {
                return;
            }
        }
    }

    /// Takes one event; answers whether to go on.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_anchor(anchor, tag.is_some(), span);
                self.scalar(text.into_owned(), style, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_anchor(anchor, tag.is_some(), span);
                self.open(Frame::Sequence { start: span, items: Vec::new() }, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_anchor(anchor, tag.is_some(), span);
                let frame = Frame::Mapping { start: span, entries: Vec::new(), seen: HashMap::new(), key: None };
                self.open(frame, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(_) => {
                self.refuse(syntax::alias(span));
                self.pass_over();
                true
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                self.refuse(Finding::error(
                    span,
                    codes::YAML_SYNTAX,
                    "a second document starts here without a line `---`",
                ));
                false
            }
            _ => true,
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) -> bool {
        let plain = style == ScalarStyle::Plain;
        if let Some(Frame::Mapping { seen, key: key @ None, .. }) = self.stack.last_mut() {
            let span = trimmed(self.source, span);
            if plain && text == "<<" {
                let finding = Finding::error(span, codes::MERGE_KEY, "merge keys (`<<`) are not supported");
                self.refuse(finding.hint("write the fields out; what several targets share belongs into a policy"));
                self.pass_over();
                return true;
            }
            if let Some(first) = seen.get(&text) {
                let related = self.source.related(*first, "the first one is here");
                let message = format!("`{}` stands twice in the same place", suggest::shown(&text));
                self.findings.push(
                    Finding::error(span, codes::DUPLICATE_KEY, message).hint("delete one of them").related(related),
                );
                self.duplicates = Duplicates::Present;
            } else {
                seen.insert(text.clone(), span);
            }
            *key = Some((text, span));
            return true;
        }
        let span = match style {
            ScalarStyle::Plain => trimmed(self.source, span),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => quoted(self.source, span),
            _ => span,
        };
        self.put(Node { span, value: Value::String(text), plain });
        true
    }

    fn open(&mut self, frame: Frame, span: Span) -> bool {
        if matches!(self.stack.last(), Some(Frame::Mapping { key: None, .. })) {
            self.refuse(Finding::error(span, codes::COMPLEX_KEY, "a key must be a word, not a list or a mapping").hint(
                "a value that starts with `{` or `[` after `{` must be quoted, for example a template such as \"{{ x }}\"",
            ));
            return false;
        }
        if self.stack.len() >= DEPTH_MAX {
            let message = format!("this is nested deeper than {DEPTH_MAX} levels");
            self.refuse(Finding::error(span, codes::TOO_DEEP, message));
            return false;
        }
        self.stack.push(frame);
        true
    }

    fn close(&mut self, span: Span) -> bool {
        let node = match self.stack.pop() {
            Some(Frame::Sequence { start, items }) => {
                let end = items.last().map(|item| item.span);
                Node { span: around(start, end, span), value: Value::Sequence(items), plain: false }
            }
            Some(Frame::Mapping { start, entries, .. }) => {
                let end = entries.last().map(|entry| entry.value.span);
                let first = entries.first().map(|entry| entry.key_span).filter(|_| start.is_empty());
                let span = around(first.unwrap_or(start), end, span);
                Node { span, value: Value::Mapping(entries), plain: false }
            }
            None => return false,
        };
        self.put(node);
        true
    }

    fn put(&mut self, mut node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, .. }) => {
                let Some((key, key_span)) = key.take() else { return };
                if node.span.is_empty() {
                    // A value that is not there is shown at its key.
                    node.span = key_span;
                }
                entries.push(Entry { key, key_span, value: node });
            }
        }
    }

    fn refuse_anchor(&mut self, anchor: usize, tagged: bool, span: Span) {
        if anchor != 0 {
            let finding = Finding::error(span, codes::ANCHOR, "anchors (`&name`) are not supported");
            self.refuse(finding.hint("write the value out, or put it in quotes if it is text that starts with `&`"));
        }
        if tagged {
            let finding = Finding::error(span, codes::TAG, "tags (`!name`) are not supported");
            self.refuse(finding.hint(
                "for a secret write {file: PATH}, {env: NAME} or {credential: NAME}; put text that starts with `!` in quotes",
            ));
        }
    }

    fn refuse(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.refused = true;
    }

    /// Counts an alias or a merge key as the key or value that stands in its place.
    fn pass_over(&mut self) {
        if let Some(Frame::Mapping { key, .. }) = self.stack.last_mut() {
            *key = match key.take() {
                Some(_) => None,
                None => Some((String::new(), Span::default())),
            };
        }
    }
}

/// Turns the parser's character counts into bytes of the file.
struct Places {
    offset: usize,
    /// Byte offsets of all characters, when they are not simply their count.
    bytes: Option<Vec<u32>>,
    length: usize,
}

impl Places {
    fn new(text: &str, offset: usize) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| Span::new(at, at).start).collect());
        Self { offset, bytes, length: text.len() }
    }

    fn byte(&self, marker: &Marker) -> usize {
        let within = match &self.bytes {
            Some(bytes) => bytes.get(marker.index()).map_or(self.length, |byte| *byte as usize),
            None => marker.index().min(self.length),
        };
        self.offset + within
    }
}

/// Without the white space that the parser counts to a plain scalar.
fn trimmed(source: &SourceText, span: Span) -> Span {
    let text = source.text.get(span.range()).unwrap_or_default();
    Span::new(span.range().start, span.range().start + text.trim_end().len())
}

/// Without the comment behind the closing quote that the parser counts to a quoted scalar.
fn quoted(source: &SourceText, span: Span) -> Span {
    let text = source.text.get(span.range()).unwrap_or_default();
    let mut chars = text.char_indices().peekable();
    let Some((_, quote)) = chars.next().filter(|(_, first)| matches!(first, '"' | '\'')) else { return span };
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if quote == '"' => drop(chars.next()),
            // Two single quotes stand for one.
            '\'' if quote == char && chars.peek().is_some_and(|(_, next)| *next == quote) => drop(chars.next()),
            _ if char == quote => return Span::new(span.range().start, span.range().start + at + 1),
            _ => {}
        }
    }
    span
}

fn around(start: Span, last_child: Option<Span>, end: Span) -> Span {
    // A flow collection ends at its bracket; a block ends where its last child does.
    let end = if end.is_empty() { last_child.map_or(start.end, |child| child.end) } else { end.end };
    Span { start: start.start, end: end.max(start.end) }
}
