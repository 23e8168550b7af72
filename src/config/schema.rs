//! The JSON Schema of a config document: one for editors, for `larder schema` and for Larder's own validator.
//!
//! The committed `schema/larder.schema.json` is this; a test fails when they differ.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::SettingsSchemas;
use super::raw::{KINDS, RawDestination, RawPolicy, RawSite, RawTarget};
use super::validate::together::wants_some_field;

/// The schema's name; it lies beside the program and is fetched from nowhere.
const SCHEMA_ID: &str = "urn:larder:schema:config:1";

/// The schema of a document, with the settings of `plugins` merged in by plugin name when they are given.
#[must_use]
pub fn config_schema(plugins: Option<&dyn SettingsSchemas>) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let _ = generator.subschema_for::<RawSite>();
    let _ = generator.subschema_for::<RawDestination>();
    let _ = generator.subschema_for::<RawPolicy>();
    let _ = generator.subschema_for::<RawTarget>();
    let mut definitions: BTreeMap<String, Value> = generator.take_definitions(true).into_iter().collect();
    for definition in definitions.values_mut() {
        tidy(definition);
    }
    if let Some(plugins) = plugins {
        merge_settings(&mut definitions, plugins);
    }
    let kinds: Vec<Value> = KINDS
        .iter()
        .map(|kind| {
            json!({
                "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
                "then": { "$ref": format!("#/$defs/{kind}") },
            })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Larder config",
        "description": "One document of a Larder config: a Site, Destination, Policy or Target.",
        "type": "object",
        "required": ["kind", "name"],
        "properties": { "kind": { "enum": KINDS, "description": "What this document describes." } },
        "allOf": kinds,
        "$defs": definitions,
    })
}

/// Removes what Rust knows and a person who writes YAML need not: number formats, `null` for "not there".
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("format");
            object.remove("default");
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            for (key, value) in object.iter_mut() {
                match (key.as_str(), value) {
                    ("examples", _) => {}
                    // Names of fields, not keywords.
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(tidy),
                    (_, value) => tidy(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Adds `if plugin is X then with is X's settings` to the targets.
fn merge_settings(definitions: &mut BTreeMap<String, Value>, plugins: &dyn SettingsSchemas) {
    let mut names = plugins.names();
    names.sort();
    let mut rules = Vec::new();
    for name in &names {
        let Some(schema) = plugins.schema(name) else { continue };
        let mut schema = schema.clone();
        let prefix = format!("plugin.{name}");
        let inner = schema.as_object_mut().and_then(|object| object.remove("$defs"));
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
            object.remove("$id");
        }
        move_references(&mut schema, &prefix);
        if let Some(Value::Object(inner)) = inner {
            for (key, mut definition) in inner {
                move_references(&mut definition, &prefix);
                definitions.insert(format!("{prefix}.{key}"), definition);
            }
        }
        let needs_settings = schema.get("required").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
            || schema.as_object().is_some_and(wants_some_field);
        let reference = format!("#/$defs/{prefix}");
        definitions.insert(prefix, schema);
        let mut then = json!({ "properties": { "with": { "$ref": reference } } });
        if let Some(then) = then.as_object_mut().filter(|_| needs_settings) {
            then.insert("required".to_owned(), json!(["with"]));
        }
        rules.push(json!({
            "if": { "properties": { "plugin": { "const": name } }, "required": ["plugin"] },
            "then": then,
        }));
    }
    if let Some(Value::Object(target)) = definitions.get_mut("Target") {
        target.insert("allOf".to_owned(), Value::Array(rules));
        if let Some(Value::Object(plugin)) = target.get_mut("properties").and_then(|p| p.get_mut("plugin")) {
            plugin.insert("examples".to_owned(), json!(names));
        }
    }
}

fn move_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(object) => move_references_in(object, prefix),
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, prefix)),
        _ => {}
    }
}

fn move_references_in(object: &mut Map<String, Value>, prefix: &str) {
    if let Some(Value::String(reference)) = object.get_mut("$ref")
        && let Some(name) = reference.strip_prefix("#/$defs/")
    {
        *reference = format!("#/$defs/{prefix}.{name}");
    }
    object.values_mut().for_each(|value| move_references(value, prefix));
}
