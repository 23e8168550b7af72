//! Destinations that get copies from others: what they may be copied from, and what restic can do in one call.
//!
//! A copy of a copy is refused: whoever looks for what is missing has one place to look at, and one link that may be down.

use super::{Placed, Revision, span_of};
use crate::config::check::{CopyItem, DestinationItem, Item};
use crate::config::model::{Repository, Tls};
use crate::config::text::Finding;
use crate::error::codes;

impl<'a> Revision<'a> {
    /// Whether each copy has somewhere to be copied from, by one call of restic, and nobody else writes to it.
    pub(super) fn copies(&mut self) {
        for placed in self.documents.clone() {
            match &placed.document.item {
                Some(Item::Destination(destination)) => {
                    let Some(copy) = &destination.copy else { continue };
                    self.copied_from(placed, destination, copy);
                    self.policies_that_ship_elsewhere(placed, copy);
                }
                Some(Item::Policy(policy)) => {
                    for name in policy.destinations.iter().flatten() {
                        let Some((other, item)) = self.destination(name.value.as_str()) else { continue };
                        let Some(copy) = &item.copy else { continue };
                        let message = format!("`{}` gets its snapshots by `copy`: no run writes to it", name.value);
                        let from = &copy.from.value;
                        let names_source = policy.destinations.iter().flatten().any(|each| each.value == *from);
                        let hint = if names_source {
                            format!("delete it here: what goes to `{from}` is copied")
                        } else {
                            format!("name `{from}` here, from which it is copied, or delete `copy` there")
                        };
                        let finding = Finding::error(name.span, codes::COPY_NAMED_BY_POLICY, message)
                            .hint(hint)
                            .related(other.source.related(copy.from.span, "it is copied here"));
                        self.tell(placed.source, &finding);
                    }
                }
                _ => {}
            }
        }
    }

    fn copied_from(&mut self, placed: Placed<'a>, destination: &DestinationItem, copy: &CopyItem) {
        let (from, span) = (copy.from.value.as_str(), copy.from.span);
        if placed.document.name.as_ref().is_some_and(|name| name.value == from) {
            let finding =
                Finding::error(span, codes::COPY_FROM_ITSELF, format!("`{from}` would be copied from itself"));
            return self.tell(placed.source, &finding.hint("name the destination that policies write to"));
        }
        let Some((other, source)) = self.destination(from) else { return };
        if let Some(chained) = &source.copy {
            let message = format!("`{from}` is a copy itself, and only what policies write to is copied from");
            let finding = Finding::error(span, codes::COPY_OF_COPY, message)
                .hint(format!("write `from: {}`", chained.from.value))
                .related(other.source.related(chained.from.span, "it is copied here"));
            return self.tell(placed.source, &finding);
        }
        if let Some(Clash { what, hint }) = clash(source.repository(), destination.repository()) {
            let name = placed.document.name.as_ref().map_or("this", |name| name.value.as_str());
            let message = format!("restic cannot copy from `{from}` to `{name}` in one call: {what}");
            let finding = Finding::error(span, codes::COPY_CLASH, message)
                .hint(hint)
                .related(other.source.related(span_of(&other), "it is this one"));
            self.tell(placed.source, &finding);
        }
    }

    /// A policy that writes elsewhere leaves nothing to be copied.
    fn policies_that_ship_elsewhere(&mut self, placed: Placed<'a>, copy: &CopyItem) {
        for name in &copy.policies {
            let policy = self.documents.iter().find_map(|other| match &other.document.item {
                Some(Item::Policy(policy)) if is_named(other, name.value.as_str()) => Some(policy),
                _ => None,
            });
            let Some(destinations) = policy.and_then(|policy| policy.destinations.as_ref()) else { continue };
            if destinations.iter().any(|each| each.value == copy.from.value) {
                continue;
            }
            let message =
                format!("the policy `{}` does not write to `{}`: nothing of it is copied", name.value, copy.from.value);
            let finding = Finding::warning(name.span, codes::NOTHING_COPIED, message);
            self.tell(placed.source, &finding.hint("name that destination in the policy, or delete this"));
        }
    }

    fn destination(&self, name: &str) -> Option<(Placed<'a>, &'a DestinationItem)> {
        self.documents.iter().find_map(|placed| match &placed.document.item {
            Some(Item::Destination(item)) if is_named(placed, name) => Some((*placed, &**item)),
            _ => None,
        })
    }
}

fn is_named(placed: &Placed<'_>, name: &str) -> bool {
    placed.document.name.as_ref().is_some_and(|own| own.value == name)
}

/// Why one restic cannot reach both.
struct Clash {
    what: String,
    hint: &'static str,
}

/// One process has one environment, one set of options for each kind of storage, and one list of authorities.
fn clash(from: &Repository, to: &Repository) -> Option<Clash> {
    let clash = |what: String, hint: &'static str| Some(Clash { what, hint });
    match (from, to) {
        (Repository::S3(a), Repository::S3(b)) => {
            let differs = [
                ("access_key", a.access_key != b.access_key),
                ("secret_key", a.secret_key != b.secret_key),
                ("region", a.region != b.region),
                ("style", a.style != b.style),
            ];
            let names: Vec<String> =
                differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("`{name}`")).collect();
            if !names.is_empty() {
                return clash(
                    format!("it takes one login and one way for all buckets, and they differ in {}", names.join(", ")),
                    "give one login the rights on both buckets and write the same in both, or reach one of them by \
                     REST or SFTP",
                );
            }
        }
        (Repository::Sftp(a), Repository::Sftp(b)) if a.password != b.password => {
            return clash(
                "it would show the password of one host to the other, and they differ".to_owned(),
                "log in to both by a `key`: each may have its own",
            );
        }
        _ => {}
    }
    match (trust(from), trust(to)) {
        (Some(Trust::System), Some(Trust::Own)) | (Some(Trust::Own), Some(Trust::System)) => clash(
            "one is trusted by its own `tls`, the other by the system's authorities, and restic takes one list"
                .to_owned(),
            "write a `tls: {ca: FILE}` for the other one, too: the file with the authority that signs its certificate",
        ),
        _ => None,
    }
}

/// By what a certificate is trusted.
#[derive(PartialEq)]
enum Trust {
    System,
    Own,
}

/// None: there is no certificate.
fn trust(repository: &Repository) -> Option<Trust> {
    let (url, tls) = match repository {
        Repository::S3(s3) => (&s3.endpoint, &s3.tls),
        Repository::Rest(rest) => (&rest.url, &rest.tls),
        Repository::Local(_) | Repository::Sftp(_) => return None,
    };
    url.starts_with("https:").then_some(if *tls == Tls::default() { Trust::System } else { Trust::Own })
}
