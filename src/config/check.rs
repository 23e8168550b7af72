//! One document that has the right shape, to checked values. What needs other documents is left to `resolve`.
//!
//! An [`Item`] depends on its own document only, so it is kept as long as the file does not change.

mod destination;
mod mail;
mod policy;
mod repository;
mod site;
mod target;
mod values;

use super::model;
use super::raw::{RawDestination, RawPolicy, RawSite, RawTarget};
use super::spans::Node;
use super::text::{Finding, SourceText, Span};
use crate::error::{Code, codes};
use crate::types::Name;
use values::Refusal;

pub(crate) use destination::{CopyItem, DestinationItem};
pub(crate) use policy::{PolicyItem, built_in};
pub(crate) use target::TargetItem;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Sited<T> {
    pub value: T,
    pub span: Span,
}

/// A document whose own values are all right.
#[derive(Debug)]
pub(crate) enum Item {
    Site(model::Site),
    Destination(Box<DestinationItem>),
    Policy(PolicyItem),
    Target(TargetItem),
}

/// Checks one document of the named kind; none when something is wrong, and then a finding says what.
pub(crate) fn check(source: &SourceText, root: &Node, kind: &str) -> (Option<Item>, Vec<Finding>) {
    let mut checker = Checker { source, root, findings: Vec::new() };
    let json = root.to_json();
    let item = match kind {
        "Site" => checker.raw::<RawSite>(json).and_then(|raw| site::check(&mut checker, raw)).map(Item::Site),
        "Destination" => checker
            .raw::<RawDestination>(json)
            .and_then(|raw| destination::check(&mut checker, raw))
            .map(|item| Item::Destination(Box::new(item))),
        "Policy" => checker.raw::<RawPolicy>(json).and_then(|raw| policy::check(&mut checker, raw)).map(Item::Policy),
        _ => checker.raw::<RawTarget>(json).and_then(|raw| target::check(&mut checker, raw)).map(Item::Target),
    };
    let broken = checker.findings.iter().any(|finding| finding.severity == super::diagnostic::Severity::Error);
    (item.filter(|_| !broken), checker.findings)
}

/// Collects what is wrong with the values of one document.
struct Checker<'a> {
    source: &'a SourceText,
    root: &'a Node,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn raw<T: serde::de::DeserializeOwned>(&mut self, json: serde_json::Value) -> Option<T> {
        let raw = serde_json::from_value(json).ok();
        if raw.is_none() {
            // The cause is not told: it could quote a value. A test keeps schema and types together.
            let message = "this document fits the schema but can not be read";
            let finding = Finding::error(self.root.span, codes::UNREADABLE_DOCUMENT, message);
            self.findings.push(finding.hint("please report this with the document, without its secrets"));
        }
        raw
    }

    /// Takes what could be read of the value at `path`, or notes why not. A stand-in is read as nothing: so no rule
    /// that compares it with something written says anything.
    fn take<T>(&mut self, path: &[&str], read: Result<T, Refusal>) -> Option<T> {
        let span = self.span(path);
        if span == Span::NOWHERE {
            return None;
        }
        match read {
            Ok(value) => Some(value),
            Err(refusal) => {
                let span = self.narrowed(span, refusal.within.clone());
                self.findings.push(Finding::error(span, refusal.code, refusal.message).maybe_hint(refusal.hint));
                None
            }
        }
    }

    /// Like `take`, for a value that need not be there.
    fn maybe<T>(&mut self, path: &[&str], read: Option<Result<T, Refusal>>) -> Option<T> {
        read.and_then(|read| self.take(path, read))
    }

    fn warn(&mut self, path: &[&str], code: Code, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.span(path);
        if span != Span::NOWHERE {
            self.findings.push(Finding::warning(span, code, message).hint(hint));
        }
    }

    fn span(&self, path: &[&str]) -> Span {
        self.root.span_at(path)
    }

    /// The name, or something in its place so that the rest can still be checked.
    fn name(&mut self, path: &[&str], text: &str) -> Option<Name> {
        self.take(path, values::name(text))
    }

    /// A list of names, each once.
    fn names(&mut self, at: &[&str], texts: &[String]) -> Vec<Sited<Name>> {
        let field = at.last().copied().unwrap_or_default();
        let mut names: Vec<Sited<Name>> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let index = index.to_string();
            let path = [at, &[index.as_str()]].concat();
            let Some(name) = self.name(&path, text) else { continue };
            if names.iter().any(|other| other.value == name) {
                let finding = Finding::error(
                    self.span(&path),
                    codes::DUPLICATE_NAME,
                    format!("`{name}` is named twice in `{field}`"),
                );
                self.findings.push(finding.hint("delete one of them"));
                continue;
            }
            names.push(Sited { value: name, span: self.span(&path) });
        }
        names
    }

    /// A part of a text, where the text stands in the file as it is meant.
    fn narrowed(&self, span: Span, within: Option<std::ops::Range<usize>>) -> Span {
        let Some(within) = within else { return span };
        let written = self.source.text.get(span.range()).unwrap_or_default();
        let quotes = usize::from(written.starts_with(['"', '\'']));
        let start = span.range().start + quotes + within.start;
        let end = start + (within.end - within.start).max(1);
        let simple = !written.contains(['\\', '\n']) && end + quotes <= span.range().end + usize::from(quotes == 0);
        if simple { Span::new(start, end.min(span.range().end)) } else { span }
    }
}
