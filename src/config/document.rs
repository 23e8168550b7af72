//! One file to its documents: text, tree, shape and own values. The result depends on the file's bytes alone.

mod foreign;
mod kind;

use serde_json::Value as Json;

use super::check::{self, Item, Sited};
use super::diagnostic::{Diagnostic, Severity};
use super::raw::KINDS;
use super::spans::{self, Node, Value};
use super::text::{Chunk, Finding, SourceText, Span};
use super::validate::{Validated, Validator};
use super::{SettingsSchemas, suggest};
use crate::error::{self, Trouble, codes};
use crate::secret::address::Address;
use crate::types::Name;
use kind::Kind;

/// Most findings that are told of one file.
const FILE_FINDINGS_MAX: usize = 200;

/// A file as far as it can be understood alone.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    /// None when the file was refused as a whole.
    pub source: Option<SourceText>,
    pub documents: Vec<Document>,
    /// The encrypted secrets that it refers to.
    pub sealed: Vec<Sited<Address>>,
    pub diagnostics: Vec<Diagnostic>,
    /// Findings beyond the bound.
    pub omitted: usize,
    /// Why its content could not be had, where that may be another time: the file itself may be right.
    pub unread: Option<Trouble>,
}

impl ParsedFile {
    /// A file that was refused as a whole.
    pub(crate) fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        Self { source: None, documents: Vec::new(), sealed: Vec::new(), diagnostics, omitted: 0, unread: None }
    }
}

/// A document: what it says it is, and its values when they are all right.
#[derive(Debug)]
pub(crate) struct Document {
    /// One of `KINDS`; none when it can't be told.
    pub kind: Option<&'static str>,
    pub name: Option<Sited<String>>,
    pub item: Option<Item>,
    /// The destinations that a policy names, the policies that a target names; only where there is no `item` to ask.
    pub references: Vec<Sited<Name>>,
}

/// Reads the file `path`. `schema` is `config_schema(None)`.
pub(crate) fn parse(path: &str, bytes: Vec<u8>, schema: &Json, plugins: &dyn SettingsSchemas) -> ParsedFile {
    let mut source = match SourceText::read(path, bytes) {
        Ok(source) => source,
        Err(diagnostics) => return ParsedFile::refused(diagnostics),
    };
    if let Some(what) = foreign::what(path, &source.text) {
        let message = format!("this looks like {what}, and every YAML file below the config root must be Larder's");
        let finding = Finding::error(Span::new(0, 1), codes::FOREIGN_FILE, message).hint(foreign::HINT);
        return ParsedFile::refused(vec![source.diagnostic(&finding)]);
    }
    let mut documents = Vec::new();
    let mut found = Validated::default();
    for chunk in source.chunks() {
        documents.extend(document(&source, chunk, schema, plugins, &mut found));
    }
    source.mask(found.secrets);
    // Warnings must not crowd out an error: that would apply a config that is broken.
    found.findings.sort_by_key(|finding| finding.severity);
    let omitted = found.findings.len().saturating_sub(FILE_FINDINGS_MAX);
    found.findings.truncate(FILE_FINDINGS_MAX);
    let diagnostics = found.findings.iter().map(|finding| source.diagnostic(finding)).collect();
    let mut sealed: Vec<_> = found.sealed.into_iter().map(|(value, span)| Sited { value, span }).collect();
    sealed.dedup_by(|a, b| a.span == b.span);
    ParsedFile { source: Some(source), documents, sealed, diagnostics, omitted, unread: None }
}

fn document(
    source: &SourceText,
    chunk: Chunk,
    schema: &Json,
    plugins: &dyn SettingsSchemas,
    found: &mut Validated,
) -> Option<Document> {
    let (root, findings) = spans::read(source, chunk);
    let understood = findings.is_empty();
    found.findings.extend(findings);
    let Some(root) = root else {
        return (!understood).then(|| salvage(source, chunk));
    };
    if matches!(root.value, Value::Null) {
        return None;
    }
    if !matches!(root.value, Value::Mapping(_)) {
        found.findings.push(no_mapping(&root));
        return Some(Document { kind: None, name: None, item: None, references: Vec::new() });
    }
    let name = root.get("name").and_then(|node| Some(Sited { value: node.text()?.to_owned(), span: node.span }));
    let (kind, root, stated) = match kind::read(&root, &mut found.findings) {
        Kind::Stated(kind) => (kind, root, true),
        Kind::Likely(kind, meant) => (kind, meant, false),
        Kind::Unknown => return Some(Document { kind: None, name, item: None, references: Vec::new() }),
    };
    let plugin = plugin(&root, kind, plugins, &mut found.findings);
    let shape = shape(&root, kind, schema, plugin);
    let fits = shape.findings.is_empty() && understood && stated;
    found.findings.extend(shape.findings);
    found.secrets.extend(shape.secrets);
    found.sealed.extend(shape.sealed);
    let known = kind != "Target" || plugin.is_some();
    let item = if fits {
        let (item, findings) = check::check(source, &root, kind);
        found.findings.extend(findings);
        item.filter(|_| known)
    } else {
        // One mistake must not hide the others: with stand-ins for what is wrong, the rest is looked at too.
        let findings = shape.mended.map(|mended| check::check(source, &mended, kind).1).unwrap_or_default();
        // What warns at the name is about something that is not there, and may well be what is wrong.
        let whole = [root.span, name.as_ref().map_or(root.span, |name| name.span)];
        let news = |finding: &Finding| {
            finding.code.kind() != error::Kind::Internal
                && (finding.severity == Severity::Error || !whole.contains(&finding.span))
        };
        found.findings.extend(findings.into_iter().filter(news));
        None
    };
    let references = if item.is_some() { Vec::new() } else { references(&root, kind) };
    Some(Document { kind: stated.then_some(kind), name, item, references })
}

/// The names that a broken document refers to, as far as they can be told.
fn references(root: &Node, kind: &str) -> Vec<Sited<Name>> {
    let field = match kind {
        "Policy" => "destinations",
        "Target" => "policies",
        "Destination" => {
            let from = root.get("copy").and_then(|copy| copy.get("from"));
            let name = from.and_then(|node| Some((Name::parse(node.text()?).ok()?, node.span)));
            return name.map(|(value, span)| Sited { value, span }).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    let nodes = root.get(field).map(Node::items).unwrap_or_default();
    nodes.iter().filter_map(|node| Some(Sited { value: Name::parse(node.text()?).ok()?, span: node.span })).collect()
}

fn shape(root: &Node, kind: &str, schema: &Json, plugin: Option<&Json>) -> Validated {
    let Some(definition) = schema.get("$defs").and_then(|definitions| definitions.get(kind)) else {
        return Validated::default();
    };
    let at = root.get("name").map_or(root.span, |name| name.span);
    let mut found = Validator::of_document(schema, kind).with_elsewhere("with", plugin).run(root, definition, at);
    if let Some(plugin) = plugin {
        let below = match root.entry("with") {
            Some(with) if matches!(with.value.value, Value::Mapping(_)) => {
                Some(Validator::of_settings(plugin).run(&with.value, plugin, with.key_span))
            }
            Some(_) => None,
            None if wrongly_above(root, plugin) => None,
            None => {
                // Settings that are not there are empty settings: what is required is missing.
                let at = root.get("plugin").map_or(at, |plugin| plugin.span);
                let empty = Node::empty_mapping(at);
                Some(Validator::of_settings(plugin).run(&empty, plugin, at))
            }
        };
        if let Some(below) = below {
            found.findings.extend(below.findings);
            found.secrets.extend(below.secrets);
            found.sealed.extend(below.sealed);
        }
    }
    found
}

/// Whether settings stand beside `plugin` instead of below `with`: that is told, so nothing is missing.
fn wrongly_above(root: &Node, plugin: &Json) -> bool {
    let fields = plugin.get("properties").and_then(Json::as_object);
    fields.is_some_and(|fields| root.entries().iter().any(|entry| fields.contains_key(&entry.key)))
}

/// The settings schema of a target's plugin.
fn plugin<'a>(
    root: &Node,
    kind: &str,
    plugins: &'a dyn SettingsSchemas,
    findings: &mut Vec<Finding>,
) -> Option<&'a Json> {
    let node = root.get("plugin").filter(|_| kind == "Target")?;
    let name = node.text()?;
    let schema = plugins.schema(name);
    if schema.is_none() {
        let names = plugins.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = format!("there is no plugin `{}`", suggest::shown(name));
        let hint = suggest::hint(name, &names, "the plugins are");
        findings.push(Finding::error(node.span, codes::UNKNOWN_PLUGIN, message).maybe_hint(hint));
    }
    schema
}

fn no_mapping(root: &Node) -> Finding {
    let finding = Finding::error(
        root.span,
        codes::WRONG_TYPE,
        "a document must have fields such as `kind: Target`, but this has none",
    );
    match root.text() {
        Some(text) if text.contains(':') => finding.hint("put a space behind each colon: `name: value`"),
        None if !root.items().is_empty() => {
            finding.hint("write no `- ` before the fields; a line `---` stands between two documents")
        }
        _ => finding.hint("write one `name: value` a line"),
    }
}

/// What a document that can't be read probably is, so that what refers to it is not reported as well.
fn salvage(source: &SourceText, chunk: Chunk) -> Document {
    let text = source.text.get(chunk.start..chunk.end).unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(": ")?;
            let value = value.split(" #").next().unwrap_or_default().trim();
            Some(value.trim_matches(['"', '\'']).to_owned())
        })
    };
    let kind = field("kind").and_then(|text| KINDS.into_iter().find(|kind| *kind == text));
    let name = field("name").map(|value| Sited { value, span: Span::new(chunk.start, chunk.start + 1) });
    Document { kind, name, item: None, references: Vec::new() }
}
