//! Texts, numbers and switches: type, choice, range, length.

use serde_json::{Map, Value as Json};

use super::{Validator, count, location, words};
use crate::config::spans::{Node, Value};
use crate::config::suggest;
use crate::config::text::Finding;
use crate::error::codes;
use crate::types::pattern::{PATTERN_KEYWORD, Pattern};

/// A duration in a plugin's settings, as its schema says it.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

impl<'s> Validator<'s> {
    pub(super) fn scalar(&mut self, node: &Node, schema: &'s Map<String, Json>) {
        if let Some(allowed) = words::enumeration(schema) {
            self.one_of(node, &allowed);
            return;
        }
        match &node.value {
            Value::Number(number) => self.range(node, schema, number.as_f64().unwrap_or_default()),
            Value::String(text) => self.length(node, schema, text),
            _ => {}
        }
    }

    /// A text that must be one of `allowed`.
    pub(super) fn one_of(&mut self, node: &Node, allowed: &[&str]) {
        let Some(text) = node.text() else {
            let quoted: Vec<String> = allowed.iter().map(|word| format!("`{word}`")).collect();
            let message = format!(
                "{} must be {}, but this is {}",
                self.here(),
                words::either(&quoted),
                words::seen(node, &self.path)
            );
            self.push(Finding::error(node.span, codes::WRONG_TYPE, message));
            return;
        };
        if allowed.contains(&text) {
            return;
        }
        let message = match allowed {
            [only] => format!("{} is `{}`, but can only be `{only}`", self.here(), suggest::shown(text)),
            _ => format!("{} can not be `{}`", self.here(), suggest::shown(text)),
        };
        let hint = match allowed {
            [_] => None,
            _ => suggest::hint(text, allowed, "it can be"),
        };
        self.push(Finding::error(node.span, codes::UNKNOWN_VALUE, message).maybe_hint(hint));
    }

    /// Says that the value has none of the types that `schemas` allow.
    pub(super) fn wrong_type(&mut self, node: &Node, schemas: &[&'s Map<String, Json>]) {
        let mut expected: Vec<String> = schemas.iter().map(|schema| words::expected(schema)).collect();
        expected.dedup();
        if node.value == Value::Null {
            let message = format!("{} has no value; it must be {}", self.here(), words::either(&expected));
            let hint = "give it a value, or delete the line if it is not needed";
            self.push(Finding::error(node.span, codes::NO_VALUE, message).hint(hint));
            return;
        }
        let message = format!(
            "{} must be {}, but this is {}",
            self.here(),
            words::either(&expected),
            words::seen(node, &self.path)
        );
        let hint = mend_type(node, schemas);
        self.push(Finding::error(node.span, codes::WRONG_TYPE, message).maybe_hint(hint));
    }

    fn range(&mut self, node: &Node, schema: &'s Map<String, Json>, number: f64) {
        let bound = |keyword: &str| schema.get(keyword).and_then(Json::as_f64);
        let low = bound("minimum").filter(|min| number < *min).map(|min| format!("at least {min}"));
        let above = bound("exclusiveMinimum").filter(|min| number <= *min).map(|min| format!("more than {min}"));
        let high = bound("maximum").filter(|max| number > *max).map(|max| format!("at most {max}"));
        let below = bound("exclusiveMaximum").filter(|max| number >= *max).map(|max| format!("less than {max}"));
        if let Some(rule) = low.or(above).or(high).or(below) {
            let message = format!("{} must be {rule}, but is {number}", self.here());
            self.push(Finding::error(node.span, codes::OUT_OF_RANGE, message));
        }
    }

    /// The patterns that the built-in plugins' schemas have; what others mean by theirs, they say at the run.
    fn form(&self, node: &Node, schema: &Map<String, Json>, text: &str) -> Option<Finding> {
        let must = |code, what: &str, hint: &str| {
            let message = format!("{} must be {what}, but this is {}", self.here(), words::seen(node, &self.path));
            Some(Finding::error(node.span, code, message).hint(hint))
        };
        // Of the documents' own fields `check` says more.
        let settings = self.path.first().is_some_and(|first| first == "with");
        if schema.get(PATTERN_KEYWORD) == Some(&Json::Bool(true))
            && let Err(error) = Pattern::parse(text)
        {
            let message = format!("`{}` is no pattern: {error}", suggest::shown(text));
            let hint =
                "write for example *.tmp, cache or /srv/photos/thumbs; `\\` before a character takes its meaning away";
            return Some(Finding::error(node.span, codes::BAD_PATTERN, message).hint(hint));
        }
        match schema.get("pattern").and_then(Json::as_str)? {
            "^/" if !text.starts_with('/') => must(codes::RELATIVE_PATH, "an absolute path", "a path starts with `/`"),
            "^/" if text.split('/').any(|part| part == "..") => {
                must(codes::INVALID_PATH, "a path without `..`", "write the path that is meant")
            }
            DURATION_PATTERN
                if settings && !crate::types::parse_duration(text).is_ok_and(|duration| !duration.is_zero()) =>
            {
                must(codes::INVALID_DURATION, "a duration", "write for example 30s, 5m or 2h")
            }
            "^https?://" | "^https?://[^@]+$"
                if settings && !text.starts_with("http://") && !text.starts_with("https://") =>
            {
                must(codes::INVALID_URL, "an address", "write http://HOST[:PORT] or https://HOST[:PORT]")
            }
            _ => None,
        }
    }

    fn length(&mut self, node: &Node, schema: &'s Map<String, Json>, text: &str) {
        if text.contains('\0') {
            let message = format!("{} has a NUL character in it", self.here());
            self.push(Finding::error(node.span, codes::CONTROL_CHARACTER, message));
            return;
        }
        if let Some(finding) = self.form(node, schema, text) {
            self.push(finding);
            return;
        }
        let chars = text.chars().count();
        if count(schema, "minLength").is_some_and(|min| chars < min) {
            let message = match chars {
                0 => format!("{} is empty; it must be {}", self.here(), words::expected(schema)),
                _ => format!("{} is too short; it must be {}", self.here(), words::expected(schema)),
            };
            self.push(Finding::error(node.span, codes::OUT_OF_RANGE, message));
        }
        if let Some(max) = count(schema, "maxLength").filter(|max| chars > *max) {
            let message = format!("{} has {chars} characters, but may have at most {max}", self.here());
            self.push(Finding::error(node.span, codes::OUT_OF_RANGE, message));
        }
    }
}

/// The slip that most often leads to this wrong type.
fn mend_type(node: &Node, schemas: &[&Map<String, Json>]) -> Option<String> {
    let wants = |name: &str| {
        schemas.iter().any(|schema| match schema.get("type") {
            Some(Json::String(only)) => only == name,
            Some(Json::Array(names)) => names.iter().any(|one| one == name),
            _ => false,
        })
    };
    let example = schemas.iter().find_map(|schema| words::example_hint(schema));
    match &node.value {
        Value::String(text) if wants("boolean") => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some("write true".to_owned()),
            "no" | "off" | "n" => Some("write false".to_owned()),
            _ => None,
        },
        Value::String(text) if wants("integer") || wants("number") => {
            text.trim().parse::<f64>().is_ok().then(|| "write it without quotes".to_owned())
        }
        Value::String(text) if location::mapping(text, schemas).is_some() => location::mapping(text, schemas),
        Value::String(text) if wants("object") && text.contains(':') => {
            Some("put a space behind the colon: `name: value`".to_owned())
        }
        Value::String(_) | Value::Number(_) if wants("array") => {
            example.or_else(|| Some("put it in brackets, or on a line of its own that starts with `- `".to_owned()))
        }
        Value::Number(_) | Value::Bool(_) if wants("string") => {
            let plain_text = schemas.iter().any(|schema| !schema.contains_key("x-larder-expected"));
            if plain_text { Some("put it in double quotes".to_owned()) } else { example }
        }
        _ => example,
    }
}
