//! The words of the validator: what was seen, what was expected, what could be written.

use serde_json::{Map, Value as Json};

use crate::config::mask;
use crate::config::spans::{Node, Value};
use crate::config::suggest;

/// `email`, `to`, `[0]` as `email.to[0]`.
pub(super) fn join(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if !text.is_empty() && !step.starts_with('[') {
            text.push('.');
        }
        text.push_str(step);
    }
    suggest::shown(&text)
}

/// What stands there, in a person's words. A value below a name that usually holds a secret is not repeated.
pub(super) fn seen(node: &Node, path: &[String]) -> String {
    let hidden = path.iter().any(|step| mask::is_secret_name(step));
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) if hidden => "a value of another type".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", suggest::shown(text)),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping (`name: value`)".to_owned(),
    }
}

/// What a schema wants, in a person's words.
pub(super) fn expected(schema: &Map<String, Json>) -> String {
    if let Some(text) = schema.get("x-larder-expected").and_then(Json::as_str) {
        return text.to_owned();
    }
    if let Some(Json::String(only)) = schema.get("const") {
        return format!("`{only}`");
    }
    if let Some(values) = enumeration(schema) {
        return either(&values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>());
    }
    let words: Vec<String> = types(schema).into_iter().map(type_words).collect();
    if words.is_empty() { "something else".to_owned() } else { either(&words) }
}

/// The types that a schema allows, besides `null`.
pub(super) fn types(schema: &Map<String, Json>) -> Vec<&str> {
    let mut types: Vec<&str> = match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ if schema.contains_key("properties") => vec!["object"],
        _ => Vec::new(),
    };
    types.retain(|name| *name != "null");
    types
}

/// The texts that a schema allows, when it allows nothing else.
pub(super) fn enumeration(schema: &Map<String, Json>) -> Option<Vec<&str>> {
    if let Some(Json::String(only)) = schema.get("const") {
        return Some(vec![only]);
    }
    let values = schema.get("enum")?.as_array()?;
    values.iter().filter(|value| !value.is_null()).map(Json::as_str).collect()
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `for example ...`, from the schema's first example.
pub(super) fn example_hint(schema: &Map<String, Json>) -> Option<String> {
    Some(format!("for example {}", example(schema)?))
}

/// The schema's first example, as it could be typed.
pub(super) fn example(schema: &Map<String, Json>) -> Option<String> {
    let first = schema.get("examples")?.as_array()?.first()?;
    Some(flow(first))
}

/// A JSON value as YAML on one line.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::String(text) if needs_quotes(text) => format!("{value}"),
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {}", flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        _ => value.to_string(),
    }
}

fn needs_quotes(text: &str) -> bool {
    let odd = |c: char| matches!(c, '*' | '#' | ',' | '{' | '}' | '[' | ']' | '@' | '%' | '&' | '!' | '"' | '\'' | ' ');
    text.is_empty() || text.contains(odd) || text.contains(": ")
}

fn type_words(name: &str) -> String {
    match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping (`name: value`)",
        other => other,
    }
    .to_owned()
}
