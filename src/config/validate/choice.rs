//! Values that may have one of several shapes: the one that was meant is found first, then checked alone.
//!
//! "Does not match any of three schemas" helps nobody.

use serde_json::{Map, Value as Json};

use super::{Validator, accepts, words};
use crate::config::spans::{Entry, Node, Value};
use crate::config::suggest;
use crate::config::text::{Finding, Span};
use crate::error::codes;

/// How the one shape that was meant is told from the others.
enum Tag<'s> {
    /// By a field that is constant in every shape (`type: local`).
    Constant(&'s str, Vec<&'s Map<String, Json>>),
    /// By the only field (`{file: ...}`).
    OnlyField(Vec<&'s Map<String, Json>>),
}

impl<'s> Validator<'s> {
    pub(super) fn choice(
        &mut self,
        node: &Node,
        schema: &'s Map<String, Json>,
        choices: &'s [Json],
        at: Span,
    ) -> Option<Node> {
        let shapes: Vec<&'s Map<String, Json>> = choices.iter().filter_map(|choice| self.resolve(choice)).collect();
        let shapes: Vec<_> =
            shapes.into_iter().filter(|shape| shape.get("type") != Some(&Json::from("null"))).collect();
        let nullable = shapes.len() < choices.len();
        if node.value == Value::Null && nullable {
            return Some(node.clone());
        }
        if let Some(allowed) = texts(&shapes) {
            return self.unless_told(node, |this| this.one_of(node, &allowed));
        }
        if matches!(node.value, Value::Mapping(_)) {
            match tag(&shapes) {
                Some(Tag::Constant(tag, objects)) => return self.by_constant(node, tag, &objects, at),
                Some(Tag::OnlyField(objects)) => return self.by_field(node, &objects, at),
                None => {}
            }
        }
        let fitting: Vec<_> = shapes.iter().copied().filter(|shape| accepts(shape, node)).collect();
        match fitting.as_slice() {
            [] if schema.contains_key("x-larder-expected") => self.wrong_type(node, &[schema]),
            [] => self.wrong_type(node, &shapes),
            [only] => return self.one_shape(node, only, at),
            several => return self.nearest_shape(node, several, at),
        }
        None
    }

    fn by_constant(&mut self, node: &Node, tag: &'s str, objects: &[&'s Map<String, Json>], at: Span) -> Option<Node> {
        let allowed: Vec<&'s str> = objects.iter().filter_map(|shape| constant(shape, tag)).collect();
        let of = |value: &str| objects.iter().copied().find(|shape| constant(shape, tag) == Some(value));
        let Some(written) = node.get(tag) else {
            return self.without_tag(node, tag, objects, at);
        };
        if let Some(shape) = written.text().and_then(of) {
            return self.one_shape(node, shape, at);
        }
        self.path.push(tag.to_owned());
        self.one_of(written, &allowed);
        self.path.pop();
        // What else is there can be looked at when the shape is clear all the same.
        let meant = match (written.text(), allowed.as_slice()) {
            (Some(text), _) => suggest::nearest(text, allowed.iter().copied())?,
            (None, [only]) => only,
            (None, _) => constant(whole(node, tag, objects)?, tag)?,
        };
        self.one_shape(&retagged(node, tag, tag, Some(meant)), of(meant)?, at)
    }

    /// The field that tells the shape is misspelt, or not there.
    fn without_tag(&mut self, node: &Node, tag: &'s str, objects: &[&'s Map<String, Json>], at: Span) -> Option<Node> {
        let unknown = |name: &str| objects.iter().all(|shape| !has_field(shape, name));
        let near = |entry: &&Entry| unknown(&entry.key) && suggest::nearest(&entry.key, [tag]).is_some();
        if let Some(entry) = node.entries().iter().find(near) {
            let message = format!("{} has no field `{}`", self.here(), suggest::shown(&entry.key));
            let finding = Finding::error(entry.key_span, codes::UNKNOWN_FIELD, message);
            self.push(finding.hint(format!("did you mean `{tag}`?")));
            return self.by_constant(&retagged(node, &entry.key, tag, None), tag, objects, at);
        }
        let allowed: Vec<&'s str> = objects.iter().filter_map(|shape| constant(shape, tag)).collect();
        let message = format!("{} has no `{tag}`", self.here());
        let hint = match allowed.as_slice() {
            [only] => format!("add `{tag}: {only}`"),
            _ => format!("it can be {}", suggest::list(&allowed)),
        };
        self.push(Finding::error(at, codes::MISSING_FIELD, message).hint(hint));
        let shape = if let [only] = objects { only } else { whole(node, tag, objects)? };
        let mut entries = node.entries().to_vec();
        entries.push(Entry::stand_in(tag, Node::stand_in(&Json::from(constant(shape, tag)?))));
        self.one_shape(&node.with(Value::Mapping(entries)), shape, at)
    }

    fn by_field(&mut self, node: &Node, objects: &[&'s Map<String, Json>], at: Span) -> Option<Node> {
        let field = |shape: &'s Map<String, Json>| shape.get("properties").and_then(Json::as_object)?.keys().next();
        let allowed: Vec<&'s str> = objects.iter().filter_map(|shape| field(shape)).map(String::as_str).collect();
        let chosen = objects.iter().find(|shape| field(shape).is_some_and(|name| node.get(name).is_some()));
        if let Some(shape) = chosen {
            return self.one_shape(node, shape, at);
        }
        let Some(entry) = node.entries().first() else {
            let message = format!("{} is empty", self.here());
            self.push(
                Finding::error(at, codes::TOO_FEW, message).hint(format!("it can have {}", suggest::list(&allowed))),
            );
            return None;
        };
        let message = format!("{} has no field `{}`", self.here(), suggest::shown(&entry.key));
        let hint = suggest::hint(&entry.key, &allowed, "it can have one of");
        self.push(Finding::error(entry.key_span, codes::UNKNOWN_FIELD, message).maybe_hint(hint));
        None
    }

    /// Several shapes fit by type: the one with the fewest findings was meant.
    fn nearest_shape(&mut self, node: &Node, shapes: &[&'s Map<String, Json>], at: Span) -> Option<Node> {
        let before = self.findings.len();
        let mut best: Option<(Vec<Finding>, Option<Node>)> = None;
        for shape in shapes {
            let left = self.one_shape(node, shape, at);
            let findings = self.findings.split_off(before);
            if best.as_ref().is_none_or(|(best, _)| findings.len() < best.len()) {
                best = Some((findings, left));
            }
        }
        // Secrets that any shape found stay masked.
        let (findings, left) = best?;
        self.findings.extend(findings);
        left
    }

    fn one_shape(&mut self, node: &Node, shape: &'s Map<String, Json>, at: Span) -> Option<Node> {
        match super::alternatives(shape) {
            Some(choices) => self.choice(node, shape, choices, at),
            None => self.shape(node, shape, at),
        }
    }
}

/// The one shape that what is there is a whole of, but for its tag.
fn whole<'s>(node: &Node, tag: &str, objects: &[&'s Map<String, Json>]) -> Option<&'s Map<String, Json>> {
    let fits = |shape: &&&'s Map<String, Json>| {
        let required = shape.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        node.entries().iter().all(|entry| entry.key == tag || has_field(shape, &entry.key))
            && required.into_iter().all(|name| name == tag || node.get(name).is_some())
    };
    let mut fitting = objects.iter().filter(fits);
    let only = fitting.next()?;
    fitting.next().is_none().then_some(*only)
}

fn tag<'s>(shapes: &[&'s Map<String, Json>]) -> Option<Tag<'s>> {
    let objects: Vec<_> = shapes.iter().copied().filter(|shape| shape.contains_key("properties")).collect();
    let first = objects.first()?;
    let tag = constants(first).find(|tag| objects.iter().all(|shape| constants(shape).any(|other| other == *tag)));
    if let Some(tag) = tag {
        return Some(Tag::Constant(tag, objects));
    }
    let only_field = |shape: &Map<String, Json>| {
        let required = shape.get("required").and_then(Json::as_array).map_or(0, Vec::len);
        let fields = shape.get("properties").and_then(Json::as_object).map_or(0, Map::len);
        required == 1 && fields == 1
    };
    (objects.len() > 1 && objects.iter().all(|shape| only_field(shape))).then_some(Tag::OnlyField(objects))
}

/// The mapping with the field `from` as `to`, and `text` for its value when that is known better.
fn retagged(node: &Node, from: &str, to: &str, text: Option<&str>) -> Node {
    let entry = |entry: &Entry| {
        if entry.key != from {
            return entry.clone();
        }
        let value = text.map_or_else(|| entry.value.clone(), |text| Node::stand_in(&Json::from(text)));
        Entry { key: to.to_owned(), key_span: entry.key_span, value }
    };
    node.with(Value::Mapping(node.entries().iter().map(entry).collect()))
}

fn has_field(shape: &Map<String, Json>, name: &str) -> bool {
    shape.get("properties").and_then(Json::as_object).is_some_and(|fields| fields.contains_key(name))
}

/// All texts that the shapes allow, when they are nothing but texts.
fn texts<'s>(shapes: &[&'s Map<String, Json>]) -> Option<Vec<&'s str>> {
    let lists: Option<Vec<Vec<&str>>> = shapes.iter().map(|shape| words::enumeration(shape)).collect();
    lists.map(|lists| lists.into_iter().flatten().collect())
}

fn constants(shape: &Map<String, Json>) -> impl Iterator<Item = &str> {
    let properties = shape.get("properties").and_then(Json::as_object);
    properties.into_iter().flatten().filter(|(_, schema)| schema.get("const").is_some()).map(|(name, _)| name.as_str())
}

fn constant<'s>(shape: &'s Map<String, Json>, tag: &str) -> Option<&'s str> {
    shape.get("properties")?.get(tag)?.get("const")?.as_str()
}
