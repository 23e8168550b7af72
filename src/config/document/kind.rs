//! The kind of a document: as it says, or, when that is misspelt or missing, as it most likely is.
//!
//! A likely kind is good for finding the document's other mistakes at once, and for nothing else.

use serde_json::Value as Json;

use crate::config::raw::KINDS;
use crate::config::spans::{Entry, Node, Value};
use crate::config::suggest;
use crate::config::text::Finding;
use crate::error::codes;

const FIELD: &str = "kind";

/// What to do with a document that looks like none of Larder's.
const NOT_OURS: &str = "a file that is not Larder's must lie outside of the config root, which `--root` names";

pub(super) enum Kind {
    Stated(&'static str),
    /// With the document as it was most likely meant; a finding says what is wrong.
    Likely(&'static str, Node),
    Unknown,
}

pub(super) fn read(root: &Node, findings: &mut Vec<Finding>) -> Kind {
    let Some(entry) = root.entry(FIELD) else {
        return without_field(root, findings);
    };
    let text = entry.value.text();
    if let Some(kind) = text.and_then(known) {
        return Kind::Stated(kind);
    }
    let (message, hint) = match text {
        Some(text) => {
            (format!("`{}` is no kind of document", suggest::shown(text)), suggest::hint(text, &KINDS, "the kinds are"))
        }
        None => ("`kind` must be text".to_owned(), Some(format!("the kinds are: {}", suggest::list(&KINDS)))),
    };
    findings.push(Finding::error(entry.value.span, codes::UNKNOWN_KIND, message).maybe_hint(hint));
    let likely = match text {
        Some(text) => suggest::nearest(text, KINDS).and_then(known),
        None => guess(root),
    };
    likely.map_or(Kind::Unknown, |kind| Kind::Likely(kind, meant(root, FIELD, kind)))
}

fn without_field(root: &Node, findings: &mut Vec<Finding>) -> Kind {
    let misspelt = |entry: &Entry| {
        let kind = known(entry.value.text()?)?;
        suggest::nearest(&entry.key, [FIELD])?;
        Some((entry.key.clone(), entry.key_span, kind))
    };
    if let Some((key, span, kind)) = root.entries().iter().find_map(misspelt) {
        let message = format!("this document has no `kind` but a field `{}`", suggest::shown(&key));
        findings.push(Finding::error(span, codes::MISSING_FIELD, message).hint(format!("write `kind: {kind}`")));
        return Kind::Likely(kind, meant(root, &key, kind));
    }
    let at = root.entries().first().map_or(root.span, |entry| entry.key_span);
    let guess = guess(root);
    let hint = match guess {
        Some(kind) => format!("add `kind: {kind}`"),
        None => format!("add `kind: ` with one of {}; {NOT_OURS}", suggest::list(&KINDS)),
    };
    findings.push(Finding::error(at, codes::MISSING_FIELD, "this document has no `kind`").hint(hint));
    guess.map_or(Kind::Unknown, |kind| Kind::Likely(kind, meant(root, FIELD, kind)))
}

/// What only documents of one kind have.
fn guess(root: &Node) -> Option<&'static str> {
    let has = |name: &str| root.get(name).is_some();
    match () {
        () if has("plugin") || has("with") => Some("Target"),
        () if has("retention") || has("destinations") || has("max_age") => Some("Policy"),
        () if has("repository") || has("prune") => Some("Destination"),
        () if has("email") || has("artifacts") || has("concurrency") => Some("Site"),
        () => None,
    }
}

fn known(text: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| *kind == text)
}

/// The document with `kind` in the place of the field `key`.
fn meant(root: &Node, key: &str, kind: &str) -> Node {
    let mut entries: Vec<Entry> = root.entries().iter().filter(|entry| entry.key != key).cloned().collect();
    entries.push(Entry::stand_in(FIELD, Node::stand_in(&Json::from(kind))));
    root.with(Value::Mapping(entries))
}
