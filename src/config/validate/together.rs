//! Which fields go together: "exactly one of" and "at least one of".
//!
//! In JSON Schema that is `oneOf` or `anyOf` with branches that only say which fields are there, and which value makes
//! a switch count: `{"required": ["all"], "properties": {"all": {"const": true}}}`. Editors read the same.

use serde_json::{Map, Value as Json};

use super::Validator;
use crate::config::spans::{Entry, Value};
use crate::config::suggest;
use crate::config::text::{Finding, Span};
use crate::error::codes;

/// The rules of a mapping, beside the shapes that `oneOf` and `anyOf` mean elsewhere.
fn rules(schema: &Map<String, Json>) -> impl Iterator<Item = (&'static str, &Vec<Json>)> {
    ["oneOf", "anyOf"]
        .into_iter()
        .filter_map(|keyword| Some((keyword, schema.get(keyword)?.as_array()?)))
        .filter(|(_, branches)| is_rule(branches))
}

/// Whether a mapping without any field breaks a rule.
pub(in crate::config) fn wants_some_field(schema: &Map<String, Json>) -> bool {
    rules(schema).next().is_some()
}

/// Whether the branches say nothing but which fields are there.
pub(super) fn is_rule(branches: &[Json]) -> bool {
    let only_presence = |branch: &Json| {
        let Some(branch) = branch.as_object() else { return false };
        let constant = |field: &Json| field.as_object().is_some_and(|field| field.keys().all(|key| key == "const"));
        names(branch).next().is_some()
            && branch.iter().all(|(keyword, value)| match keyword.as_str() {
                "required" => true,
                "properties" => value.as_object().is_some_and(|fields| fields.values().all(constant)),
                _ => false,
            })
    };
    !branches.is_empty() && branches.iter().all(only_presence)
}

impl<'s> Validator<'s> {
    /// Checks the rules against the fields that are left; a stand-in counts as given, but is held against nobody.
    pub(super) fn together(&mut self, entries: &[Entry], schema: &'s Map<String, Json>, at: Span) {
        for (keyword, branches) in rules(schema) {
            let branches: Vec<&'s Map<String, Json>> = branches.iter().filter_map(Json::as_object).collect();
            let all: Vec<String> = branches.iter().map(|branch| words(branch)).collect();
            let given: Vec<Given<'s>> = branches.iter().filter_map(|branch| given(branch, entries)).collect();
            if given.is_empty() {
                let needs = if keyword == "oneOf" { "one of" } else { "at least one of" };
                let message = format!("{} needs {needs} {}", self.here(), all.join(", "));
                let finding = Finding::error(at, codes::MISSING_FIELD, message);
                let hint = branches.iter().find_map(|branch| off(branch, entries));
                self.push(finding.hint("add one of them").maybe_hint(hint));
            }
            let mut sure: Vec<Given<'s>> = given.into_iter().filter(|given| given.at != Span::NOWHERE).collect();
            sure.sort_by_key(|given| given.at.start);
            if let [first, second, ..] = sure.as_slice()
                && keyword == "oneOf"
            {
                let both = format!("both {} and {}", words(first.branch), words(second.branch));
                let of = if all.len() > 2 { all.join(", ") } else { "the two".to_owned() };
                let message = format!("{} has {both}, but takes only one of {of}", self.here());
                self.push(Finding::error(second.at, codes::CONFLICTING_FIELDS, message).hint("delete one of them"));
            }
        }
    }
}

/// A branch whose fields are all there, and where the last of them stands.
struct Given<'s> {
    branch: &'s Map<String, Json>,
    at: Span,
}

fn given<'s>(branch: &'s Map<String, Json>, entries: &[Entry]) -> Option<Given<'s>> {
    let mut at = Span::default();
    for name in names(branch) {
        let entry = entries.iter().find(|entry| entry.key == name)?;
        let stands_in = entry.value.span == Span::NOWHERE;
        if stands_in {
            at = Span::NOWHERE;
        } else if entry.value.value == Value::Null
            || wanted(branch, name).is_some_and(|it| *it != entry.value.to_json())
        {
            return None;
        } else if entry.key_span.start >= at.start {
            at = entry.key_span;
        }
    }
    Some(Given { branch, at })
}

/// What to say of a switch that is there but off.
fn off(branch: &Map<String, Json>, entries: &[Entry]) -> Option<String> {
    let (name, value) = names(branch).find_map(|name| Some((name, wanted(branch, name)?)))?;
    let is_written = entries.iter().any(|entry| entry.key == name);
    is_written.then(|| format!("`{name}` counts only as `{name}: {value}`"))
}

/// The only value of the field that counts.
fn wanted<'s>(branch: &'s Map<String, Json>, name: &str) -> Option<&'s Json> {
    branch.get("properties")?.get(name)?.get("const")
}

fn names(branch: &Map<String, Json>) -> impl Iterator<Item = &str> {
    branch.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

fn words(branch: &Map<String, Json>) -> String {
    let names: Vec<String> = names(branch).map(|name| format!("`{}`", suggest::shown(name))).collect();
    names.join(" with ")
}
