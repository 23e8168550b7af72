//! Mappings: unknown fields, missing fields, the fields' values.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::{Validator, accepts, alternatives, count, words};
use crate::config::spans::{Entry, Node};
use crate::config::suggest;
use crate::config::text::{Finding, Span};
use crate::error::codes;

impl<'s> Validator<'s> {
    pub(super) fn mapping(&mut self, entries: &[Entry], schema: &'s Map<String, Json>, at: Span) -> Option<Vec<Entry>> {
        let properties = schema.get("properties").and_then(Json::as_object);
        let property = |name: &str| properties.and_then(|properties| properties.get(name));
        let rest = schema.get("additionalProperties");
        let required: Vec<&'s str> =
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        let written: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut left: Vec<Entry> = Vec::new();
        for entry in entries {
            if self.is_full() {
                return None;
            }
            if let Some(property) = property(&entry.key) {
                left.push(self.field(entry, property));
            } else if rest == Some(&Json::Bool(false)) {
                let known: Vec<&'s str> = properties
                    .into_iter()
                    .flat_map(|properties| properties.keys().map(String::as_str))
                    .filter(|name| !written.contains(name))
                    .collect();
                self.unknown_field(entry, properties, &known);
                // A misspelt field is one finding, not also a missing one; its value is looked at all the same.
                let meant = suggest::nearest(&entry.key, known.iter().copied())
                    .filter(|name| left.iter().all(|entry| entry.key != *name));
                if let Some((name, property)) = meant.and_then(|name| Some((name, property(name)?))) {
                    left.push(self.misspelt_field(entry, name, property));
                }
            } else if let Some(rest) = rest.filter(|rest| rest.is_object()) {
                left.push(self.field(entry, rest));
            } else {
                left.push(entry.clone());
            }
        }
        for name in required {
            if left.iter().all(|entry| entry.key != name) {
                self.missing_field(name, property(name), at);
                left.extend(property(name).map(|property| Entry::stand_in(name, self.stand_in(property))));
            }
        }
        self.together(&left, schema, at);
        if entries.is_empty() && count(schema, "minProperties").is_some_and(|min| min > 0) {
            let message = format!("{} is empty, but needs at least one field", self.here());
            self.push(Finding::error(at, codes::TOO_FEW, message).maybe_hint(words::example_hint(schema)));
        }
        Some(left)
    }

    fn field(&mut self, entry: &Entry, schema: &'s Json) -> Entry {
        self.path.push(entry.key.clone());
        let value = self.value(&entry.value, schema, entry.key_span);
        self.path.pop();
        Entry { value: value.unwrap_or_else(|| self.stand_in(schema)), ..entry.clone() }
    }

    /// A field that was most likely meant to be `name`. Where not even the type is right, something else was meant.
    fn misspelt_field(&mut self, entry: &Entry, name: &str, schema: &'s Json) -> Entry {
        let entry = Entry { key: name.to_owned(), ..entry.clone() };
        if self.is_secret(schema) || self.takes(&entry.value, schema) {
            return self.field(&entry, schema);
        }
        Entry { value: self.stand_in(schema), ..entry }
    }

    /// Whether the value has a type that the schema, or any choice in it, allows.
    fn takes(&self, node: &Node, schema: &'s Json) -> bool {
        let Some(resolved) = self.resolve(schema) else { return true };
        match alternatives(resolved) {
            Some(choices) => {
                choices.iter().filter_map(|choice| self.resolve(choice)).any(|choice| accepts(choice, node))
            }
            None => accepts(resolved, node),
        }
    }

    fn unknown_field(&mut self, entry: &Entry, properties: Option<&'s Map<String, Json>>, free: &[&'s str]) {
        let message = format!("{} has no field `{}`", self.here(), suggest::shown(&entry.key));
        let taken = properties.into_iter().flatten().map(|(name, _)| name.as_str());
        let hint = match (suggest::nearest(&entry.key, free.iter().copied()), suggest::nearest(&entry.key, taken)) {
            (Some(nearest), _) => Some(format!("did you mean `{nearest}`?")),
            (None, Some(taken)) => Some(format!("`{taken}` is there already; delete this line")),
            (None, None) => match self.deeper(&entry.key, properties) {
                Some(container) => Some(format!("it belongs below `{container}:`")),
                None => suggest::hint(&entry.key, free, "still free are").or_else(|| Some("delete it".to_owned())),
            },
        };
        self.push(Finding::error(entry.key_span, codes::UNKNOWN_FIELD, message).maybe_hint(hint));
    }

    /// The mapping one level deeper that has such a field.
    fn deeper(&self, name: &str, properties: Option<&'s Map<String, Json>>) -> Option<&'s str> {
        let has = |schema: &Map<String, Json>| {
            schema.get("properties").and_then(Json::as_object).is_some_and(|fields| fields.contains_key(name))
        };
        let below = properties?.iter().find(|(_, schema)| self.resolve(schema).is_some_and(has));
        if let Some((container, _)) = below {
            return Some(container);
        }
        let (container, schema) = self.elsewhere.filter(|_| self.path.is_empty())?;
        schema.as_object().is_some_and(has).then_some(container)
    }

    fn missing_field(&mut self, name: &str, schema: Option<&'s Json>, at: Span) {
        let message = format!("{} has no `{name}`", self.here());
        let described = schema.and_then(Json::as_object);
        let resolved = schema.and_then(|schema| self.resolve(schema));
        let secret = schema.is_some_and(|schema| self.is_secret(schema));
        let example = [described, resolved].into_iter().flatten().find_map(words::example);
        let hint = match (secret, example) {
            (true, _) => format!("add `{name}: {{file: /path}}`, {{env: NAME}} or {{credential: NAME}}"),
            (false, Some(example)) => format!("add for example `{name}: {example}`"),
            (false, None) => match resolved.map(words::expected) {
                Some(expected) if expected != "something else" => format!("add `{name}: ` with {expected}"),
                _ => format!("add `{name}: `"),
            },
        };
        self.push(Finding::error(at, codes::MISSING_FIELD, message).hint(hint));
    }
}
