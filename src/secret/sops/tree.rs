//! The YAML of a SOPS file as its values in order, each with its keys and its place in the text. Pure.
//!
//! Files are changed by replacing what stands at such a place, so comments, order and whatever else a person wrote stay.

use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::SopsError;

/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most values and mappings of one file.
const NODES_MAX: usize = 10_000;
/// The key of what SOPS itself writes into a file.
pub(super) const METADATA: &str = "sops";

/// A value that is neither list nor mapping.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// The keys that lead to it, without the places in lists: what is authenticated.
    pub(super) keys: Vec<String>,
    /// The keys and places that lead to it.
    pub(super) path: Vec<String>,
    pub(super) text: String,
    /// Without quotes, so its type has to be told.
    pub(super) plain: bool,
    /// Written below its key (`|`, `>`), as SOPS never writes a value: it is read and not replaced.
    pub(super) block: bool,
    /// Where it stands, quotes included.
    pub(super) span: Range<usize>,
}

/// A mapping in block form, to which a key can be added.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) path: Vec<String>,
    /// Where its first key stands.
    pub(super) first_key: usize,
}

/// A file's values, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// All but the metadata.
    pub(super) leaves: Vec<Leaf>,
    pub(super) metadata: Vec<Leaf>,
    pub(super) blocks: Vec<Block>,
    /// Where the line with the key `sops` starts, and where the next key of the same level does.
    pub(super) metadata_span: Option<Range<usize>>,
}

impl Tree {
    /// Reads `text`.
    ///
    /// # Errors
    /// When it is no YAML mapping, or uses what SOPS does not keep.
    pub(super) fn read(text: &str) -> Result<Self, SopsError> {
        let mut builder = Builder {
            text,
            bytes: byte_offsets(text),
            tree: Self::default(),
            stack: Vec::new(),
            documents: 0,
            nodes: 0,
        };
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| SopsError::Yaml {
                line: error.marker().line(),
                what: error.info().chars().take(80).collect(),
            })?;
            builder.take(event, &span.start, &span.end)?;
        }
        let mut tree = builder.tree;
        if let Some(span) = &mut tree.metadata_span
            && span.end == 0
        {
            span.end = text.len();
        }
        Ok(tree)
    }
}

enum Frame {
    Mapping { key: Option<String>, first: bool, flow: bool },
    List { index: usize },
}

struct Builder<'a> {
    text: &'a str,
    bytes: Option<Vec<usize>>,
    tree: Tree,
    stack: Vec<Frame>,
    documents: usize,
    nodes: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, start: &Marker, end: &Marker) -> Result<(), SopsError> {
        let line = start.line();
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(SopsError::Shape { line, what: "more values than are read" });
        }
        match event {
            Event::Alias(_) => Err(SopsError::Shape { line, what: "an alias" }),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 { Err(SopsError::Shape { line, what: "a second document" }) } else { Ok(()) }
            }
            Event::Scalar(_, _, anchor, _) if anchor != 0 => Err(SopsError::Shape { line, what: "an anchor" }),
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if anchor != 0 => {
                Err(SopsError::Shape { line, what: "an anchor" })
            }
            Event::Scalar(_, _, _, Some(tag)) if tag.suffix != "str" => Err(SopsError::Shape { line, what: "a tag" }),
            Event::Scalar(text, style, _, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let span = self.scalar_span(style, start, end);
                let leaf = Leaf { keys: Vec::new(), path: Vec::new(), text: text.into_owned(), plain, block, span };
                self.scalar(leaf, line)
            }
            Event::MappingStart(..) => {
                let flow = self.text.get(self.byte(start)..).is_some_and(|rest| rest.starts_with('{'));
                self.open(Frame::Mapping { key: None, first: true, flow }, line)
            }
            Event::SequenceStart(..) if self.stack.is_empty() => {
                Err(SopsError::Shape { line, what: "a list as a whole" })
            }
            Event::SequenceStart(..) => self.open(Frame::List { index: 0 }, line),
            Event::MappingEnd | Event::SequenceEnd => {
                self.stack.pop();
                self.advance();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, frame: Frame, line: usize) -> Result<(), SopsError> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(SopsError::Shape { line, what: "deeper nesting than is read" });
        }
        if matches!(self.stack.last(), Some(Frame::Mapping { key: None, .. })) {
            return Err(SopsError::Shape { line, what: "a key that is no word" });
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(&mut self, leaf: Leaf, line: usize) -> Result<(), SopsError> {
        let depth = self.stack.len();
        let path = self.path();
        match self.stack.last_mut() {
            None => return Err(SopsError::Shape { line, what: "a value as a whole" }),
            Some(Frame::Mapping { key: key @ None, first, flow }) => {
                if *first && !*flow {
                    self.tree.blocks.push(Block { path, first_key: leaf.span.start });
                }
                *first = false;
                *key = Some(leaf.text.clone());
                if depth == 1 {
                    self.top_key(&leaf.text, leaf.span.start, line)?;
                }
                return Ok(());
            }
            Some(_) => {}
        }
        let keys = self.stack.iter().filter_map(|frame| match frame {
            Frame::Mapping { key, .. } => key.clone(),
            Frame::List { .. } => None,
        });
        let leaf = Leaf { keys: keys.collect(), path, ..leaf };
        let metadata = leaf.path.first().is_some_and(|first| first == METADATA);
        let into = if metadata { &mut self.tree.metadata } else { &mut self.tree.leaves };
        into.push(leaf);
        self.advance();
        Ok(())
    }

    fn top_key(&mut self, key: &str, at: usize, line: usize) -> Result<(), SopsError> {
        match &mut self.tree.metadata_span {
            Some(_) if key == METADATA => return Err(SopsError::Shape { line, what: "the key `sops` twice" }),
            Some(span) if span.end == 0 => span.end = at,
            None if key == METADATA => self.tree.metadata_span = Some(at..0),
            _ => {}
        }
        Ok(())
    }

    /// Behind a whole value.
    fn advance(&mut self) {
        match self.stack.last_mut() {
            Some(Frame::Mapping { key, .. }) => *key = None,
            Some(Frame::List { index }) => *index += 1,
            None => {}
        }
    }

    fn path(&self) -> Vec<String> {
        let parts = self.stack.iter().filter_map(|frame| match frame {
            Frame::Mapping { key, .. } => key.clone(),
            Frame::List { index } => Some(index.to_string()),
        });
        parts.collect()
    }

    fn byte(&self, marker: &Marker) -> usize {
        match &self.bytes {
            Some(bytes) => bytes.get(marker.index()).copied().unwrap_or(self.text.len()),
            None => marker.index().min(self.text.len()),
        }
    }

    /// The place without what the parser counts to a value: white space, and what stands behind the closing quote.
    fn scalar_span(&self, style: ScalarStyle, start: &Marker, end: &Marker) -> Range<usize> {
        let (start, end) = (self.byte(start), self.byte(end));
        let text = self.text.get(start..end).unwrap_or_default();
        match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => start..start + quoted_length(text),
            ScalarStyle::Plain => start..start + text.trim_end().len(),
            _ => start..end,
        }
    }
}

/// The length of a quoted text at the beginning of `text`.
fn quoted_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let Some((_, quote)) = chars.next() else { return 0 };
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => drop(chars.next()),
            '\'' if quote == c && chars.peek().is_some_and(|(_, next)| *next == quote) => drop(chars.next()),
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The parser counts characters; none where these are bytes.
fn byte_offsets(text: &str) -> Option<Vec<usize>> {
    (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect())
}
