//! The shape of a document, checked against a JSON schema, with every finding at its place.
//!
//! The schema is the one that editors use, so an editor and Larder say the same. The subset is what `schemars` and
//! plugin authors write: types, properties, enums, ranges, lengths, `$ref`, choices between objects or types, and which fields go together.
//! Other keywords (`pattern`, `format`, `if`) are deliberately left to `check` and to the plugin: their errors say more.

mod choice;
mod location;
mod object;
mod scalar;
mod secret;
mod stand_in;
pub(super) mod together;
mod words;

pub(crate) use scalar::DURATION_PATTERN;
use serde_json::{Map, Value as Json};

use super::spans::{Node, Value};
use super::text::{Finding, Span};

use crate::error::codes;
use crate::secret::address::Address;

/// Most findings in one document; whoever has more mends the first ones.
const FINDINGS_MAX: usize = 60;
/// Longest chain of `$ref`.
const REFERENCES_MAX: usize = 16;

/// Checks values against a schema and collects what it finds.
pub(crate) struct Validator<'s> {
    root: &'s Json,
    /// Where the value stands in the document: `email`, `to`, `[0]`.
    path: Vec<String>,
    /// What the document is, for messages: `this Policy`.
    thing: String,
    /// A mapping that often loses its fields to the level above, with its schema.
    elsewhere: Option<(&'static str, &'s Json)>,
    findings: Vec<Finding>,
    secrets: Vec<Span>,
    sealed: Vec<(Address, Span)>,
}

/// What was found, and which values must never be shown.
#[derive(Default)]
pub(crate) struct Validated {
    pub findings: Vec<Finding>,
    pub secrets: Vec<Span>,
    /// The encrypted secrets that are referred to.
    pub sealed: Vec<(Address, Span)>,
    /// The value with a stand-in wherever something is missing or does not fit, and misspelt fields by the names that
    /// were meant: it can be read, so one mistake does not hide the others. None when nothing of it can be kept.
    pub mended: Option<Node>,
}

impl<'s> Validator<'s> {
    /// For a document: `root` is the whole schema.
    pub(crate) fn of_document(root: &'s Json, kind: &str) -> Self {
        let thing = format!("this {kind}");
        Self {
            root,
            path: Vec::new(),
            thing,
            elsewhere: None,
            findings: Vec::new(),
            secrets: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// For a plugin's settings below `with`; `root` is the plugin's schema.
    pub(crate) fn of_settings(root: &'s Json) -> Self {
        let path = vec!["with".to_owned()];
        Self {
            root,
            path,
            thing: "with".to_owned(),
            elsewhere: None,
            findings: Vec::new(),
            secrets: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Names a mapping whose fields are often written one level too high.
    pub(crate) fn with_elsewhere(mut self, name: &'static str, schema: Option<&'s Json>) -> Self {
        self.elsewhere = schema.map(|schema| (name, schema));
        self
    }

    /// Checks `node` against `schema`; `at` is where a missing part is shown.
    pub(crate) fn run(mut self, node: &Node, schema: &'s Json, at: Span) -> Validated {
        let mended = self.value(node, schema, at);
        Validated { findings: self.findings, secrets: self.secrets, sealed: self.sealed, mended }
    }

    /// Tells what is wrong and gives back what fits; none when the value as such does not.
    fn value(&mut self, node: &Node, schema: &'s Json, at: Span) -> Option<Node> {
        if self.is_full() {
            return None;
        }
        let Some(resolved) = self.resolve(schema) else { return Some(node.clone()) };
        if self.is_secret(schema) {
            return self.unless_told(node, |this| this.secret(node, at));
        }
        if let Some(choices) = alternatives(resolved) {
            return self.choice(node, resolved, choices, at);
        }
        if let Some(Json::Array(all)) = resolved.get("allOf") {
            for schema in all {
                self.value(node, schema, at);
            }
        }
        self.shape(node, resolved, at)
    }

    /// A value against a schema that leaves no choice.
    fn shape(&mut self, node: &Node, schema: &'s Map<String, Json>, at: Span) -> Option<Node> {
        if !accepts(schema, node) {
            self.wrong_type(node, &[schema]);
            return None;
        }
        match &node.value {
            Value::Mapping(entries) => self.mapping(entries, schema, at).map(|left| node.with(Value::Mapping(left))),
            Value::Sequence(items) => self.sequence(items, schema, node).map(|left| node.with(Value::Sequence(left))),
            _ => self.unless_told(node, |this| this.scalar(node, schema)),
        }
    }

    /// The value as it is, when `look` finds nothing wrong with it.
    fn unless_told(&mut self, node: &Node, look: impl FnOnce(&mut Self)) -> Option<Node> {
        let before = self.findings.len();
        look(self);
        (self.findings.len() == before && !self.is_full()).then(|| node.clone())
    }

    fn sequence(&mut self, items: &[Node], schema: &'s Map<String, Json>, node: &Node) -> Option<Vec<Node>> {
        let (min, max) = (count(schema, "minItems"), count(schema, "maxItems"));
        if let Some(min) = min.filter(|min| items.len() < *min) {
            let message = match items.len() {
                0 => format!("{} is empty, but needs at least {min}", self.here()),
                n => format!("{} has {n}, but needs at least {min}", self.here()),
            };
            self.push(Finding::error(node.span, codes::TOO_FEW, message).maybe_hint(words::example_hint(schema)));
        }
        if let Some(max) = max.filter(|max| items.len() > *max) {
            let message = format!("{} has {}, but may have at most {max}", self.here(), items.len());
            self.push(Finding::error(node.span, codes::TOO_MANY, message));
            return None;
        }
        let Some(item_schema) = schema.get("items") else { return Some(items.to_vec()) };
        // Among items of several shapes a stand-in of one shape would be at odds with the others.
        let has_stand_in = self.resolve(item_schema).is_some_and(|schema| alternatives(schema).is_none());
        let mut left = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.path.push(format!("[{index}]"));
            let fitting = self.value(item, item_schema, item.span);
            self.path.pop();
            left.extend(fitting.or_else(|| has_stand_in.then(|| self.stand_in(item_schema))));
        }
        Some(left)
    }

    /// Follows `$ref` within the schema.
    fn resolve(&self, schema: &'s Json) -> Option<&'s Map<String, Json>> {
        let mut schema = schema;
        for _ in 0..REFERENCES_MAX {
            let object = schema.as_object()?;
            let Some(reference) = object.get("$ref").and_then(Json::as_str) else { return Some(object) };
            schema = self.root.pointer(reference.strip_prefix('#')?)?;
        }
        None
    }

    /// Whether the schema, or any choice in it, is marked as a secret.
    fn is_secret(&self, schema: &'s Json) -> bool {
        let marked = |object: &Map<String, Json>| object.get("x-larder-secret") == Some(&Json::Bool(true));
        let direct =
            |schema: &'s Json| schema.as_object().is_some_and(marked) || self.resolve(schema).is_some_and(marked);
        direct(schema) || self.resolve(schema).and_then(alternatives).is_some_and(|choices| choices.iter().any(direct))
    }

    fn push(&mut self, finding: Finding) {
        if !self.is_full() {
            self.findings.push(finding);
        }
    }

    fn is_full(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX
    }

    /// The place for a message: `` `email.to[0]` `` or `this Policy`.
    fn here(&self) -> String {
        if self.path.is_empty() { self.thing.clone() } else { format!("`{}`", words::join(&self.path)) }
    }
}

fn alternatives(schema: &Map<String, Json>) -> Option<&Vec<Json>> {
    let shapes =
        |keyword: &str| schema.get(keyword).and_then(Json::as_array).filter(|branches| !together::is_rule(branches));
    shapes("oneOf").or_else(|| shapes("anyOf"))
}

fn count(schema: &Map<String, Json>, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Json::as_u64).and_then(|number| usize::try_from(number).ok())
}

/// Whether the value has one of the schema's types.
fn accepts(schema: &Map<String, Json>, node: &Node) -> bool {
    match schema.get("type") {
        Some(Json::String(name)) => is_of_type(node, name),
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).any(|name| is_of_type(node, name)),
        _ => match schema.get("properties") {
            // A schema of properties without a type is still meant for a mapping.
            Some(_) => matches!(node.value, Value::Mapping(_)),
            None => true,
        },
    }
}

fn is_of_type(node: &Node, name: &str) -> bool {
    match (&node.value, name) {
        (Value::Number(number), "integer") => number.is_i64() || number.is_u64(),
        (Value::Null, "null")
        | (Value::Bool(_), "boolean")
        | (Value::Number(_), "number")
        | (Value::String(_), "string")
        | (Value::Sequence(_), "array")
        | (Value::Mapping(_), "object") => true,
        _ => false,
    }
}
