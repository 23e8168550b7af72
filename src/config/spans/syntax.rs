//! What a YAML reader complains about, in words that say what to do. No text of the file is ever quoted here.

use saphyr_parser::ScanError;

use crate::config::text::{Finding, Span};
use crate::error::codes;

pub(super) fn alias(span: Span) -> Finding {
    Finding::error(
        span,
        codes::ALIAS,
        "a value that starts with `*` is an alias in YAML, and aliases are not supported",
    )
    .hint("put the value in double quotes, as in schedule: \"*/15 * * * *\"")
}

/// Explains an error of the reader of places. `at` is the byte in the file that it names.
pub(super) fn from_saphyr(error: &ScanError, text: &str, offset: usize, at: usize) -> Finding {
    let at = last_content(text, at.saturating_sub(offset));
    explain(error.info(), text, at, offset)
}

/// Explains an error of the reader of types, which sees only what the other one accepted.
pub(super) fn from_serde_yaml(error: &serde_yaml::Error, text: &str, offset: usize) -> Finding {
    let at = error.location().map_or(0, |location| location.index());
    // libyaml's messages are fixed texts, but other errors of this type could quote a value.
    explain("this is not valid YAML", text, last_content(text, at), offset)
}

fn explain(info: &str, text: &str, at: usize, offset: usize) -> Finding {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let value_at = line.find(": ").map_or(line.len() - line.trim_start_matches([' ', '-']).len(), |colon| {
        colon + 2 + line.get(colon + 2..).map_or(0, |rest| rest.len() - rest.trim_start().len())
    });
    let value = line.get(value_at..).unwrap_or_default();
    let value_span = Span::new(offset + start + value_at, offset + start + line.trim_end().len());
    let width = text.get(at..).and_then(|rest| rest.chars().next()).filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let here = Span::new(offset + at, offset + at + width);
    let quoted = |what: &str| {
        Finding::error(
            value_span,
            codes::YAML_SYNTAX,
            format!("a value can not start with {what} in YAML unless it is quoted"),
        )
        .hint("put the value in double quotes")
    };
    match value.chars().next() {
        Some('*') => return alias(value_span),
        Some('@') => return quoted("`@`").hint("write it in double quotes, as in schedule: \"@daily\""),
        Some('`') => return quoted("a backquote"),
        Some('%') => return quoted("`%`"),
        _ => {}
    }
    if line.starts_with('%') {
        return Finding::error(here, codes::YAML_SYNTAX, "YAML directives (`%`) are not supported")
            .hint("delete this line");
    }
    let (message, hint) = plain_words(info);
    Finding::error(here, codes::YAML_SYNTAX, message).maybe_hint(hint.map(str::to_owned))
}

fn plain_words(info: &str) -> (String, Option<&'static str>) {
    let has = |needle: &str| info.contains(needle);
    if has("mapping values are not allowed") {
        let message = "a second `:` stands on this line, or the line is indented deeper than it should be";
        return (message.into(), Some("quote a value that has `: ` in it, and align the field with its neighbours"));
    }
    if has("quoted scalar") {
        return (
            "a quote is opened and never closed".into(),
            Some("close it, or double a single quote inside of single quotes"),
        );
    }
    if has("simple key expect") || has("could not find expected") || has("while scanning a simple key") {
        return (
            "a `:` with a space behind it was expected after the field's name".into(),
            Some("write `name: value`"),
        );
    }
    if has("flow") || has("',' or ") || has("expected ',' ") {
        return ("a `[` or `{` is opened and not closed, or a comma is missing".into(), None);
    }
    if has("block collection") || has("block mapping") || has("block end") || has("wrong indentation") || has("indent")
    {
        return ("the indentation does not fit the lines above".into(), Some("align the field with its neighbours"));
    }
    if has("anchor") {
        return ("anchors (`&`) and aliases (`*`) are not supported".into(), Some("put the value in double quotes"));
    }
    if has("tag") {
        return ("tags (`!`) are not supported".into(), Some("put the value in double quotes"));
    }
    if has("tab") {
        return ("a tab stands where YAML wants spaces".into(), Some("replace the tab by spaces"));
    }
    (format!("this is not valid YAML: {info}"), None)
}

/// The end of the text is a poor place for a caret; the last thing that was written is a good one.
fn last_content(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if text.get(at..).is_some_and(|rest| !rest.trim().is_empty()) {
        return at;
    }
    text.trim_end().char_indices().next_back().map_or(0, |(last, _)| last)
}
