//! What settings of built-in plugins are made of: secrets, patterns, one of several.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::secret::SecretRef;

/// For `#[serde(default = ..)]` of a setting that is on unless it is switched off.
pub(crate) fn yes() -> bool {
    true
}

/// Says in a schema that exactly one of `fields` is given; a switch is given when it is true.
///
/// For `#[schemars(transform = ..)]`. It is plain JSON Schema: editors see it, and `larder check` words it.
pub(crate) fn exactly_one_of(fields: &'static [&'static str]) -> impl FnMut(&mut Schema) {
    move |schema| {
        let is_switch = |field: &str| {
            let property = schema.get("properties").and_then(|properties| properties.get(field));
            property.and_then(|property| property.get("type")).is_some_and(|name| name == "boolean")
        };
        let branch = |field: &&str| {
            if is_switch(field) {
                json!({ "required": [field], "properties": { *field: { "const": true } } })
            } else {
                json!({ "required": [field] })
            }
        };
        let branches: Vec<Value> = fields.iter().map(branch).collect();
        schema.insert("oneOf".to_owned(), Value::Array(branches));
    }
}

/// An exclude pattern in the settings of a plugin: `x-larder-pattern` in its schema has `larder check` look at it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PatternText(pub(crate) String);

impl JsonSchema for PatternText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "x-larder-pattern": true })
    }
}

/// A secret in the settings of a built-in plugin: a reference in the schema, the secret itself in the request.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) SecretString);

impl Secret {
    /// Whether the text holds the secret: such a text is not the same any more when it has gone through a log.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let secret = secrecy::ExposeSecret::expose_secret(&self.0);
        !secret.is_empty() && text.contains(secret)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SecretRef::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SecretRef::json_schema(generator)
    }
}
