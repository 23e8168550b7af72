//! Stand-ins: a value of the right shape for what is missing or does not fit, so that the rest can still be read.
//!
//! A stand-in lies at `Span::NOWHERE`. `check` takes it for nothing, and a document with one has a finding and so is
//! never applied.

use serde_json::{Map, Value as Json, json};

use super::{Validator, alternatives, words};
use crate::config::spans::Node;

/// Deepest nesting of a stand-in; a schema may refer to itself.
const DEPTH_MAX: usize = 8;

impl<'s> Validator<'s> {
    pub(super) fn stand_in(&self, schema: &'s Json) -> Node {
        Node::stand_in(&self.sample(schema, 0))
    }

    /// A value that fits the schema, as far as it can be told.
    fn sample(&self, schema: &'s Json, depth: usize) -> Json {
        if self.is_secret(schema) {
            return json!({ "env": "NOBODY_WROTE_THIS" });
        }
        let Some(resolved) = self.resolve(schema).filter(|_| depth < DEPTH_MAX) else { return Json::Null };
        let first = |keyword: &str| resolved.get(keyword).and_then(Json::as_array).and_then(|values| values.first());
        if let Some(value) = resolved.get("const").or_else(|| first("enum")).or_else(|| first("examples")) {
            return value.clone();
        }
        let choice = alternatives(resolved).and_then(|choices| {
            let is_null = |choice: &&Json| choice.get("type") == Some(&Json::from("null"));
            choices.iter().find(|choice| !is_null(choice))
        });
        if let Some(choice) = choice {
            return self.sample(choice, depth + 1);
        }
        match words::types(resolved).first() {
            Some(&"boolean") => json!(false),
            Some(&"integer" | &"number") => resolved.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            Some(&"string") => json!("x"),
            Some(&"array") => json!([]),
            Some(&"object") => self.object(resolved, depth),
            _ => Json::Null,
        }
    }

    fn object(&self, schema: &'s Map<String, Json>, depth: usize) -> Json {
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        let field = |name: &'s str| {
            let property = schema.get("properties")?.get(name)?;
            Some((name.to_owned(), self.sample(property, depth + 1)))
        };
        Json::Object(required.filter_map(field).collect())
    }
}
