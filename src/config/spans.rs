//! One YAML document as a tree in which every key and value knows where it stands.
//!
//! Two readers: saphyr-parser gives the shape and the places, serde_yaml the types of plain scalars. Where they
//! disagree the document is refused, so a value never means one thing to the editor and another to Larder.
//! Anchors, aliases, merge keys and tags are deliberately absent: a short file can not grow into a large config.

mod events;
mod syntax;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::text::{Chunk, Finding, SourceText, Span};

use crate::error::codes;

/// Deepest nesting of mappings and lists.
pub const DEPTH_MAX: usize = 32;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
    /// A scalar without quotes, whose type follows from its text.
    plain: bool,
}

/// What YAML can say in a config: exactly what JSON can.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value; keys are unique within their mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

/// Reads one document; none when there is nothing in it but comments.
///
/// Findings may come with a tree: a duplicate key is one, and the rest can still be checked.
pub(crate) fn read(source: &SourceText, chunk: Chunk) -> (Option<Node>, Vec<Finding>) {
    let text = source.text.get(chunk.start..chunk.end).unwrap_or_default();
    let read = events::read(source, text, chunk.start);
    let Some(mut root) = read.root else { return (None, read.findings) };
    let mut findings = read.findings;
    if read.refused {
        return (None, findings);
    }
    // What was found so far and did not refuse it is told of duplicate keys.
    let duplicates = findings.len();
    match serde_yaml::from_str::<Typed>(text) {
        Ok(typed) => root.take_types(typed, read.duplicates, &mut findings),
        Err(error) => findings.push(syntax::from_serde_yaml(&error, text, chunk.start)),
    }
    let readable = findings.len() == duplicates;
    (readable.then_some(root), findings)
}

impl Node {
    /// A mapping that nobody wrote.
    pub(crate) fn empty_mapping(span: Span) -> Self {
        Self { span, value: Value::Mapping(Vec::new()), plain: false }
    }

    /// The same place with another value.
    pub(crate) fn with(&self, value: Value) -> Self {
        Self { span: self.span, value, plain: self.plain }
    }

    /// A value that nobody wrote, so that what was written can be looked at.
    pub(crate) fn stand_in(json: &serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => Value::Number(number.clone()),
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => Value::Sequence(items.iter().map(Self::stand_in).collect()),
            serde_json::Value::Object(fields) => {
                Value::Mapping(fields.iter().map(|(key, value)| Entry::stand_in(key, Self::stand_in(value))).collect())
            }
        };
        Self { span: Span::NOWHERE, value, plain: false }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the value at `path`, or of the nearest thing above it that is written down.
    pub(crate) fn span_at(&self, path: &[&str]) -> Span {
        let mut node = self;
        for step in path {
            let below = node.get(step).or_else(|| step.parse::<usize>().ok().and_then(|index| node.items().get(index)));
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        node.span
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect(),
        }
    }

    fn take_types(&mut self, typed: Typed, duplicates: Duplicates, findings: &mut Vec<Finding>) {
        let disagree = |span: Span| {
            Finding::error(span, codes::AMBIGUOUS_YAML, "YAML readers disagree about what this means")
                .hint("put it in double quotes, or write it on one line")
        };
        match (&mut self.value, typed) {
            (Value::Sequence(items), Typed::Sequence(typed)) if items.len() == typed.len() => {
                for (item, typed) in items.iter_mut().zip(typed) {
                    item.take_types(typed, duplicates, findings);
                }
            }
            (Value::Mapping(entries), Typed::Mapping(typed)) if entries.len() == typed.len() => {
                for (entry, typed) in entries.iter_mut().zip(typed) {
                    entry.value.take_types(typed, duplicates, findings);
                }
                if duplicates == Duplicates::Present {
                    let mut seen = std::collections::HashSet::new();
                    entries.retain(|entry| seen.insert(entry.key.clone()));
                }
            }
            (Value::String(text), Typed::String(typed)) if *text == typed => {}
            (Value::String(_), scalar) if self.plain => match scalar {
                Typed::Null => self.value = Value::Null,
                Typed::Bool(value) => self.value = Value::Bool(value),
                Typed::Number(number) => self.value = Value::Number(number),
                Typed::NotFinite => {
                    let message = "this is no number that can be used here";
                    findings
                        .push(Finding::error(self.span, codes::WRONG_TYPE, message).hint("put it in double quotes"));
                }
                _ => findings.push(disagree(self.span)),
            },
            _ => findings.push(disagree(self.span)),
        }
    }
}

impl Entry {
    /// A field that nobody wrote.
    pub(crate) fn stand_in(key: &str, value: Node) -> Self {
        Self { key: key.to_owned(), key_span: Span::NOWHERE, value }
    }
}

/// Whether any key stands twice in one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    Absent,
    Present,
}

/// A document as serde_yaml types it; keys are left to the other reader.
enum Typed {
    Null,
    Bool(bool),
    Number(Number),
    NotFinite,
    String(String),
    Sequence(Vec<Typed>),
    Mapping(Vec<Typed>),
}

impl<'de> serde::Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TypedVisitor)
    }
}

struct TypedVisitor;

impl<'de> Visitor<'de> for TypedVisitor {
    type Value = Typed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Typed, E> {
        Ok(Typed::Null)
    }

    fn visit_none<E>(self) -> Result<Typed, E> {
        Ok(Typed::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Typed, D::Error> {
        deserializer.deserialize_any(TypedVisitor)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Typed, E> {
        Ok(Typed::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Typed, E> {
        Ok(Typed::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Typed, E> {
        Ok(Typed::Number(value.into()))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Typed, E> {
        Ok(Typed::NotFinite)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Typed, E> {
        Ok(Typed::NotFinite)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Typed, E> {
        Ok(Number::from_f64(value).map_or(Typed::NotFinite, Typed::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Typed, E> {
        Ok(Typed::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Typed, E> {
        Ok(Typed::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Typed, A::Error> {
        let mut typed = Vec::new();
        while let Some(item) = items.next_element()? {
            typed.push(item);
        }
        Ok(Typed::Sequence(typed))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Typed, A::Error> {
        let mut typed = Vec::new();
        while let Some((_, value)) = entries.next_entry::<IgnoredAny, Typed>()? {
            typed.push(value);
        }
        Ok(Typed::Mapping(typed))
    }
}
