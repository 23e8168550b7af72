//! All documents of a revision together: one of each name, every reference found, defaults filled in.
//!
//! A document that is broken still counts with its name, so one mistake is not reported a hundred times by all that
//! refer to it.

mod copies;

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::check::{DestinationItem, Item, Sited, built_in};
use super::diagnostic::Diagnostic;
use super::document::{Document, ParsedFile};
use super::model::{Config, Policy, Site};
use super::suggest;
use super::text::{Finding, SourceText, Span};
use crate::error::codes;
use crate::types::Name;

/// What the documents say together.
pub(crate) struct Resolved {
    /// None when any file or document has an error.
    pub config: Option<Config>,
    pub diagnostics: Vec<Diagnostic>,
    /// Findings beyond the bound.
    pub omitted: usize,
}

/// Resolves the documents of `files`, in their order. `found` is what is known of the files before.
pub(crate) fn resolve<'a>(files: impl Iterator<Item = &'a ParsedFile>, found: &[Diagnostic]) -> Resolved {
    let mut revision = Revision::gather(files);
    revision.one_of_each_name();
    revision.one_site();
    revision.one_default();
    revision.one_destination_a_repository();
    revision.no_repository_in_another();
    revision.references();
    revision.copies();
    revision.something_for_every_target();
    revision.data_of_its_own();
    revision.used();
    let whole = !found.iter().chain(&revision.diagnostics).any(Diagnostic::is_error);
    let config = whole.then(|| revision.config());
    Resolved { config, diagnostics: revision.diagnostics, omitted: revision.omitted }
}

/// A document and the file it stands in.
#[derive(Clone, Copy)]
struct Placed<'a> {
    source: &'a SourceText,
    document: &'a Document,
}

struct Revision<'a> {
    documents: Vec<Placed<'a>>,
    /// By kind and name in lower case, the first of each.
    names: HashMap<(&'static str, Cow<'a, str>), Placed<'a>>,
    /// A file or document has no name that could be told, so a name that is not found may be there.
    unreadable: bool,
    diagnostics: Vec<Diagnostic>,
    omitted: usize,
    suggestions_left: usize,
}

/// Most findings that are told of documents together.
const FINDINGS_MAX: usize = 1_000;

/// Most unknown references that get a "did you mean": each costs a look at all names.
const SUGGESTIONS_MAX: usize = 100;

impl<'a> Revision<'a> {
    fn gather(files: impl Iterator<Item = &'a ParsedFile>) -> Self {
        let mut documents = Vec::new();
        let mut unreadable = false;
        for file in files {
            match &file.source {
                Some(source) => documents.extend(file.documents.iter().map(|document| Placed { source, document })),
                None => unreadable = true,
            }
        }
        unreadable |= documents.iter().any(|placed| placed.document.kind.is_none() || placed.document.name.is_none());
        Self {
            documents,
            names: HashMap::new(),
            unreadable,
            diagnostics: Vec::new(),
            omitted: 0,
            suggestions_left: SUGGESTIONS_MAX,
        }
    }

    fn one_of_each_name(&mut self) {
        for placed in self.documents.clone() {
            let (Some(kind), Some(name)) = (placed.document.kind, &placed.document.name) else { continue };
            let first = match self.names.entry((kind, folded(&name.value))) {
                Entry::Vacant(place) => {
                    place.insert(placed);
                    continue;
                }
                Entry::Occupied(first) => *first.get(),
            };
            let Some(first_name) = &first.document.name else { continue };
            let shown = suggest::shown(&name.value);
            let finding = if first_name.value == name.value {
                Finding::error(
                    name.span,
                    codes::DUPLICATE_NAME,
                    format!("there are two documents `{kind}` with the name `{shown}`"),
                )
                .hint("rename or delete one of them")
            } else {
                let message = format!(
                    "`{shown}` and `{}` differ only in upper and lower case",
                    suggest::shown(&first_name.value)
                );
                Finding::error(name.span, codes::NAME_DIFFERS_IN_CASE, message)
                    .hint("names become directories, and not every file system tells these apart: rename one")
            };
            let related = first.source.related(first_name.span, "the first one is here");
            self.tell(placed.source, &finding.related(related));
        }
    }

    fn one_site(&mut self) {
        let sites: Vec<Placed<'a>> = self.of_kind("Site").collect();
        let Some((first, rest)) = sites.split_first() else { return };
        for placed in rest {
            let same = |placed: &Placed<'_>| placed.document.name.as_ref().map(|name| name.value.clone());
            if same(placed) == same(first) {
                continue; // Reported as two of one name.
            }
            let related = first.source.related(span_of(first), "the first one is here");
            let finding =
                Finding::error(span_of(placed), codes::SECOND_SITE, "this is a second Site; there can be only one")
                    .hint("merge the two, or delete one of them")
                    .related(related);
            self.tell(placed.source, &finding);
        }
    }

    fn one_default(&mut self) {
        let mut first: Option<(&SourceText, Span)> = None;
        for placed in self.documents.clone() {
            let Some(Item::Policy(policy)) = &placed.document.item else { continue };
            let Some(span) = policy.default else { continue };
            if let Some((source, at)) = first {
                let related = source.related(at, "the first one is here");
                let finding = Finding::error(
                    span,
                    codes::SECOND_DEFAULT,
                    "a second policy is the default; there can be only one",
                )
                .hint("delete `default: true` in one of them")
                .related(related);
                self.tell(placed.source, &finding);
            } else {
                first = Some((placed.source, span));
            }
        }
    }

    fn one_destination_a_repository(&mut self) {
        let mut seen: HashMap<&str, Placed<'a>> = HashMap::new();
        for placed in self.documents.clone() {
            let Some(Item::Destination(destination)) = &placed.document.item else { continue };
            let Some(first) = seen.get(destination.location.value.as_str()) else {
                seen.insert(&destination.location.value, placed);
                continue;
            };
            let message = format!("another destination already has the repository `{}`", destination.location.value);
            let related = first.source.related(span_of(first), "it is this one");
            let finding = Finding::error(destination.location.span, codes::SAME_REPOSITORY, message)
                .hint("let policies name that destination, or give this one a directory of its own")
                .related(related);
            self.tell(placed.source, &finding);
        }
    }

    /// What lies in a repository is restic's alone.
    fn no_repository_in_another(&mut self) {
        let places: Vec<(Placed<'a>, &DestinationItem, (String, PathBuf))> = self
            .documents
            .iter()
            .filter_map(|placed| {
                let Some(Item::Destination(destination)) = &placed.document.item else { return None };
                Some((*placed, &**destination, destination.place()))
            })
            .collect();
        for (placed, inner, (storage, path)) in &places {
            let outer = places
                .iter()
                .find(|(_, _, (other, above))| storage == other && path != above && path.starts_with(above));
            let Some((outer, whole, (_, above))) = outer else { continue };
            // A path says enough within one host, where an address would name a login, too.
            let told = |item: &DestinationItem, path: &Path| {
                if path.is_absolute() { path.display().to_string() } else { item.location.value.clone() }
            };
            let message = format!("`{}` lies in the repository `{}`", told(inner, path), told(whole, above));
            let hint = match inner.directory() {
                Some(_) => "give it a directory beside it",
                None => "give it a place beside it: another prefix or path",
            };
            let finding = Finding::error(inner.location.span, codes::NESTED_REPOSITORY, message)
                .hint(hint)
                .related(outer.source.related(span_of(outer), "it is of this destination"));
            self.tell(placed.source, &finding);
        }
    }

    fn references(&mut self) {
        for placed in self.documents.clone() {
            match &placed.document.item {
                Some(Item::Policy(policy)) => {
                    self.all_exist(placed, policy.destinations.as_deref().unwrap_or_default(), "Destination");
                }
                Some(Item::Target(target)) => {
                    self.all_exist(placed, target.policies.as_deref().unwrap_or_default(), "Policy");
                }
                Some(Item::Destination(destination)) => {
                    let Some(copy) = &destination.copy else { continue };
                    self.all_exist(placed, std::slice::from_ref(&copy.from), "Destination");
                    self.all_exist(placed, &copy.targets, "Target");
                    self.all_exist(placed, &copy.policies, "Policy");
                }
                Some(_) => {}
                None => {
                    let kind = if placed.document.kind == Some("Target") { "Policy" } else { "Destination" };
                    self.all_exist(placed, &placed.document.references, kind);
                }
            }
        }
    }

    fn all_exist(&mut self, placed: Placed<'a>, names: &[Sited<Name>], kind: &'static str) {
        for name in names {
            if self.unreadable || self.exists(kind, name.value.as_str()) {
                continue;
            }
            self.suggestions_left = self.suggestions_left.saturating_sub(1);
            let looked_at = if self.suggestions_left > 0 { usize::MAX } else { 0 };
            let of_kind = self.of_kind(kind).filter_map(|placed| Some(placed.document.name.as_ref()?.value.as_str()));
            let mut known: Vec<&str> = of_kind.take(looked_at).collect();
            known.sort_unstable();
            let word = kind.to_lowercase();
            let hint = match (suggest::nearest(name.value.as_str(), known.iter().copied()), known.as_slice()) {
                (None, []) if looked_at == 0 => format!("add a document with `kind: {kind}` of this name"),
                (Some(nearest), _) => format!("did you mean `{nearest}`?"),
                (None, []) if kind == "Policy" => {
                    "there is no policy document yet; without `policies` the built-in daily policy is used".to_owned()
                }
                (None, []) => format!("add a document with `kind: {kind}` and `name: {}`", name.value),
                (None, known) => format!("there is: {}", suggest::list(known)),
            };
            let message = format!("there is no {word} `{}`", name.value);
            let code = match kind {
                "Policy" => codes::UNKNOWN_POLICY,
                "Target" => codes::UNKNOWN_TARGET,
                _ => codes::UNKNOWN_DESTINATION,
            };
            self.tell(placed.source, &Finding::error(name.span, code, message).hint(hint));
        }
    }

    fn exists(&self, kind: &'static str, name: &str) -> bool {
        let found = self.names.get(&(kind, folded(name))).and_then(|placed| placed.document.name.as_ref());
        found.is_some_and(|found| found.value == name)
    }

    /// A target needs a policy, and a policy needs somewhere to write to.
    fn something_for_every_target(&mut self) {
        if self.unreadable {
            return;
        }
        let nowhere = self.of_kind("Destination").next().is_none();
        let default = self.documents.iter().any(|placed| {
            placed.document.kind == Some("Policy")
                && placed
                    .document
                    .item
                    .as_ref()
                    .is_none_or(|item| matches!(item, Item::Policy(p) if p.default.is_some()))
        });
        let any_policy = self.of_kind("Policy").next().is_some();
        let mut told_of_nowhere = false;
        for placed in self.documents.clone() {
            let Some(Item::Target(target)) = &placed.document.item else { continue };
            if !target.enabled() {
                continue;
            }
            let finding = if nowhere && !told_of_nowhere {
                told_of_nowhere = true;
                Finding::error(
                    span_of(&placed),
                    codes::NO_DESTINATION,
                    "there are targets but no destination to back them up to",
                )
                .hint("add a document with `kind: Destination`, a `repository` and a `password`")
            } else if target.policies.is_none() && any_policy && !default {
                let message = "this target has no `policies`, and no policy is the default";
                Finding::error(span_of(&placed), codes::NO_POLICY, message)
                    .hint("add `policies: [NAME]` here, or `default: true` to one policy")
            } else {
                continue;
            };
            self.tell(placed.source, &finding);
        }
    }

    /// What Larder itself writes is left out of every backup, so a target needs something else.
    fn data_of_its_own(&mut self) {
        let own = self.own_directories();
        for placed in self.documents.clone() {
            let Some(Item::Target(target)) = &placed.document.item else { continue };
            let owner = |path: &Path| own.iter().find(|(own, _)| path.starts_with(own));
            let Some(first) = target.paths.first() else { continue };
            let Some((_, whose)) = owner(&first.value) else { continue };
            if !target.paths.iter().all(|path| owner(&path.value).is_some()) {
                continue;
            }
            let message = format!("`{}` is Larder's own ({whose}): nothing is left to back up", first.value.display());
            let finding = Finding::error(first.span, codes::ONLY_OWN, message);
            self.tell(placed.source, &finding.hint("name the directories that hold your data"));
        }
    }

    /// Where this config lets Larder write, and what that is called.
    fn own_directories(&self) -> Vec<(PathBuf, String)> {
        let items = || self.documents.iter().filter_map(|placed| placed.document.item.as_ref());
        let site = items().find_map(|item| if let Item::Site(site) = item { Some(site.clone()) } else { None });
        let broken = site.is_none() && self.of_kind("Site").next().is_some();
        let artifacts = (!broken).then(|| (site.unwrap_or_default().artifacts.path, "its artifacts".to_owned()));
        let of_destinations = items().flat_map(|item| match item {
            Item::Destination(destination) => {
                let repository = destination.directory().map(|path| (path, "a repository of a destination"));
                let cache = destination.cache().map(|path| (path, "the cache of a destination"));
                repository.into_iter().chain(cache).map(|(path, what)| (path.to_owned(), what.to_owned())).collect()
            }
            _ => Vec::new(),
        });
        artifacts.into_iter().chain(of_destinations).collect()
    }

    /// Warns of what is there and does nothing.
    fn used(&mut self) {
        if self.of_kind("Target").next().is_none() {
            return;
        }
        let mut policies: HashSet<&str> = HashSet::new();
        let mut destinations: HashSet<&str> = HashSet::new();
        // A document that is broken may use anything; a policy that names no destination uses all.
        let mut any_policy = false;
        let (mut without_policies, mut default) = (false, false);
        let mut any_destination = self.of_kind("Policy").next().is_none();
        for placed in &self.documents {
            match (&placed.document.item, placed.document.kind) {
                (Some(Item::Target(target)), _) if target.enabled() => {
                    policies.extend(target.policies.iter().flatten().map(|name| name.value.as_str()));
                    without_policies |= target.policies.is_none();
                }
                (Some(Item::Policy(policy)), _) => {
                    default |= policy.default.is_some();
                    match &policy.destinations {
                        Some(names) => destinations.extend(names.iter().map(|name| name.value.as_str())),
                        None => any_destination = true,
                    }
                }
                (None, Some("Target") | None) => any_policy = true,
                (None, Some("Policy")) => any_destination = true,
                _ => {}
            }
        }
        // Whoever still has to name a policy may name any.
        any_policy |= without_policies && !default;
        for placed in self.documents.clone() {
            let Some(name) = &placed.document.name else { continue };
            let finding = match &placed.document.item {
                Some(Item::Policy(policy))
                    if policy.default.is_none() && !any_policy && !policies.contains(name.value.as_str()) =>
                {
                    Finding::warning(name.span, codes::UNUSED_POLICY, "no target that is switched on uses this policy")
                        .hint("name it in a target's `policies`, or delete it")
                }
                Some(Item::Destination(destination))
                    if destination.copy.is_none()
                        && !any_destination
                        && !destinations.contains(name.value.as_str()) =>
                {
                    Finding::warning(name.span, codes::UNUSED_DESTINATION, "no policy writes to this destination")
                        .hint("name it in a policy's `destinations`, or delete it")
                }
                _ => continue,
            };
            self.tell(placed.source, &finding);
        }
    }

    fn config(&self) -> Config {
        let items = || self.documents.iter().filter_map(|placed| placed.document.item.as_ref());
        let site = items().find_map(|item| if let Item::Site(site) = item { Some(site.clone()) } else { None });
        let site: Site = site.unwrap_or_default();
        let destinations: BTreeMap<_, _> = items()
            .filter_map(
                |item| if let Item::Destination(item) = item { Some(item.resolve(&site.timezone)) } else { None },
            )
            .map(|destination| (destination.name.clone(), destination))
            .collect();
        // A copy gets its snapshots from the one that it names.
        let shipped_to = destinations.values().filter(|destination| destination.copy.is_none());
        let all: Vec<Name> = shipped_to.map(|destination| destination.name.clone()).collect();
        let mut policies: BTreeMap<Name, Policy> = items()
            .filter_map(
                |item| if let Item::Policy(item) = item { Some(item.resolve(&site.timezone, &all)) } else { None },
            )
            .map(|policy| (policy.name.clone(), policy))
            .collect();
        if policies.is_empty() && !all.is_empty() {
            policies.extend(built_in(&site.timezone, &all).map(|policy| (policy.name.clone(), policy)));
        }
        let default = policies.values().find(|policy| policy.default).map(|policy| policy.name.clone());
        let targets = items()
            .filter_map(|item| if let Item::Target(item) = item { Some(item.resolve(default.as_ref())) } else { None })
            .map(|target| (target.name.clone(), target))
            .collect();
        Config { site, destinations, policies, targets }
    }

    fn tell(&mut self, source: &SourceText, finding: &Finding) {
        if self.diagnostics.len() < FINDINGS_MAX {
            self.diagnostics.push(source.diagnostic(finding));
        } else {
            self.omitted += 1;
        }
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = Placed<'a>> + '_ {
        self.documents.iter().copied().filter(move |placed| placed.document.kind == Some(kind))
    }
}

fn span_of(placed: &Placed<'_>) -> Span {
    placed.document.name.as_ref().map_or(Span::new(0, 1), |name| name.span)
}

/// In lower case; most names are already.
fn folded(name: &str) -> Cow<'_, str> {
    let lower = name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_lowercase()) }
}
