//! Values that may have one of several shapes: the one that was meant is found first, then checked alone.
//!
//! "Does not match any of three schemas" helps nobody.

use serde_json::{Map, Value as Json};

use super::{Validator, accepts, words};
use crate::config::spans::{Node, Value};
use crate::config::suggest;
use crate::config::text::{Finding, Span};

impl<'s> Validator<'s> {
    pub(super) fn choice(&mut self, node: &Node, schema: &'s Map<String, Json>, choices: &'s [Json], at: Span) {
        let shapes: Vec<&'s Map<String, Json>> = choices.iter().filter_map(|choice| self.resolve(choice)).collect();
        let shapes: Vec<_> =
            shapes.into_iter().filter(|shape| shape.get("type") != Some(&Json::from("null"))).collect();
        let nullable = shapes.len() < choices.len();
        if node.value == Value::Null && nullable {
            return;
        }
        if let Some(allowed) = texts(&shapes) {
            self.one_of(node, &allowed);
            return;
        }
        if matches!(node.value, Value::Mapping(_)) && self.by_tag(node, &shapes, at) {
            return;
        }
        let fitting: Vec<_> = shapes.iter().copied().filter(|shape| accepts(shape, node)).collect();
        match fitting.as_slice() {
            [] if schema.contains_key("x-larder-expected") => self.wrong_type(node, &[schema]),
            [] => self.wrong_type(node, &shapes),
            [only] => self.shape(node, only, at),
            several => self.nearest_shape(node, several, at),
        }
    }

    /// Chooses by a field that is constant in every shape (`type: local`), or by the only field (`{file: ...}`).
    fn by_tag(&mut self, node: &Node, shapes: &[&'s Map<String, Json>], at: Span) -> bool {
        let objects: Vec<_> = shapes.iter().copied().filter(|shape| shape.contains_key("properties")).collect();
        let Some(first) = objects.first() else { return false };
        let tag = constants(first).find(|tag| objects.iter().all(|shape| constants(shape).any(|other| other == *tag)));
        if let Some(tag) = tag {
            self.by_constant(node, tag, &objects, at);
            return true;
        }
        let only_field = |shape: &Map<String, Json>| {
            let required = shape.get("required").and_then(Json::as_array).map_or(0, Vec::len);
            let fields = shape.get("properties").and_then(Json::as_object).map_or(0, Map::len);
            required == 1 && fields == 1
        };
        if objects.len() < 2 || !objects.iter().all(|shape| only_field(shape)) {
            return false;
        }
        self.by_field(node, &objects, at);
        true
    }

    fn by_constant(&mut self, node: &Node, tag: &'s str, objects: &[&'s Map<String, Json>], at: Span) {
        let allowed: Vec<&'s str> = objects.iter().filter_map(|shape| constant(shape, tag)).collect();
        let Some(written) = node.get(tag) else {
            let message = format!("{} has no `{tag}`", self.here());
            let hint = match allowed.as_slice() {
                [only] => format!("add `{tag}: {only}`"),
                _ => format!("it can be {}", suggest::list(&allowed)),
            };
            self.push(Finding::error(at, "missing_field", message).hint(hint));
            return;
        };
        let chosen =
            objects.iter().find(|shape| constant(shape, tag).is_some_and(|value| written.text() == Some(value)));
        if let Some(shape) = chosen {
            self.shape(node, shape, at);
        } else {
            self.path.push(tag.to_owned());
            self.one_of(written, &allowed);
            self.path.pop();
        }
    }

    fn by_field(&mut self, node: &Node, objects: &[&'s Map<String, Json>], at: Span) {
        let field = |shape: &'s Map<String, Json>| shape.get("properties").and_then(Json::as_object)?.keys().next();
        let allowed: Vec<&'s str> = objects.iter().filter_map(|shape| field(shape)).map(String::as_str).collect();
        let chosen = objects.iter().find(|shape| field(shape).is_some_and(|name| node.get(name).is_some()));
        if let Some(shape) = chosen {
            self.shape(node, shape, at);
            return;
        }
        let Some(entry) = node.entries().first() else {
            let message = format!("{} is empty", self.here());
            self.push(Finding::error(at, "too_few", message).hint(format!("it can have {}", suggest::list(&allowed))));
            return;
        };
        let message = format!("{} has no field `{}`", self.here(), suggest::shown(&entry.key));
        let hint = suggest::hint(&entry.key, &allowed, "it can have one of");
        self.push(Finding::error(entry.key_span, "unknown_field", message).maybe_hint(hint));
    }

    /// Several shapes fit by type: the one with the fewest findings was meant.
    fn nearest_shape(&mut self, node: &Node, shapes: &[&'s Map<String, Json>], at: Span) {
        let before = (self.findings.len(), self.secrets.len());
        let mut best: Option<Vec<Finding>> = None;
        for shape in shapes {
            self.shape(node, shape, at);
            let findings = self.findings.split_off(before.0);
            if best.as_ref().is_none_or(|best| findings.len() < best.len()) {
                best = Some(findings);
            }
        }
        // Secrets that any shape found stay masked.
        self.findings.extend(best.unwrap_or_default());
    }

    fn shape(&mut self, node: &Node, shape: &'s Map<String, Json>, at: Span) {
        if super::alternatives(shape).is_some() {
            self.choice(node, shape, super::alternatives(shape).map_or(&[], Vec::as_slice), at);
            return;
        }
        if !accepts(shape, node) {
            self.wrong_type(node, &[shape]);
            return;
        }
        match &node.value {
            Value::Mapping(entries) => self.mapping(entries, shape, at),
            Value::Sequence(items) => self.sequence(items, shape, node),
            _ => self.scalar(node, shape),
        }
    }
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
