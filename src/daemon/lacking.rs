//! Secrets that the config refers to and that this host lacks: told at the push and by doctor, not first at night.

use std::time::{Duration, Instant};

use crate::config::model::Config;
use crate::error::{Trouble, chain, codes};
use crate::plugin::Catalogue;
use crate::secret::SecretRef;

/// How long one may take to answer; the first look at a path that hangs makes the next ones short.
const ONE_MAX: Duration = Duration::from_secs(1);
/// How long those of a push may take together: somebody waits.
const PUSH_MAX: Duration = Duration::from_secs(3);
/// Most that are told.
const TOLD_MAX: usize = 20;

/// Everything that the config refers to, with where.
pub(super) fn references(config: &Config, catalogue: &Catalogue) -> Vec<(String, SecretRef)> {
    let mut all = Vec::new();
    if let Some(password) = config.site.email.as_ref().and_then(|email| email.password.as_ref()) {
        all.push(("the site's `email.password`".to_owned(), password.clone()));
    }
    for destination in config.destinations.values() {
        all.push((format!("the password of destination {}", destination.name), destination.password.clone()));
        let storage = destination.repository.secrets().into_iter();
        all.extend(storage.map(|each| (format!("the storage of destination {}", destination.name), each.clone())));
    }
    for target in config.targets.values() {
        let found = catalogue.secrets_of(target).into_iter();
        all.extend(found.map(|(path, each)| (format!("`with.{path}` of target {}", target.name), each)));
    }
    all
}

/// What of it cannot be had, looked at within `patience`. Blocking.
pub(super) fn among(references: &[(String, SecretRef)], patience: Duration) -> Vec<Trouble> {
    let start = Instant::now();
    let mut troubles = Vec::new();
    for (place, reference) in references {
        if troubles.len() >= TOLD_MAX || start.elapsed() > patience {
            break;
        }
        if let Err(error) = reference.resolve_within(ONE_MAX) {
            let trouble = Trouble::new(codes::SECRET_MISSING, format!("{place}: {}", chain(&error)));
            troubles.push(trouble.with_hint(error.hint()));
        }
    }
    troubles
}

/// What is referred to anew and is not on this host, for who pushed it. What lies in Git was looked at before.
pub(super) fn told(before: &Config, desired: &Config, catalogue: &Catalogue) -> Vec<String> {
    let known = references(before, catalogue);
    let mut new = references(desired, catalogue);
    new.retain(|each| !matches!(each.1, SecretRef::Secret(_)) && !known.contains(each));
    let line = |trouble: Trouble| {
        let hint = trouble.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("warning: {}{hint}", trouble.message)
    };
    among(&new, PUSH_MAX).into_iter().map(line).collect()
}
