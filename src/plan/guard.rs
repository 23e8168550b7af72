//! What a push must not remove by accident: an empty directory, a wrong branch, a lost mount all look like "remove it all".

use serde::Serialize;

use crate::config::model::Config;
use crate::plan::{Change, ChangeKind, DocumentKind};
use crate::types::Name;

/// A plan that removes more than one in this many targets (and more than one) is held.
const TARGETS_PER_REMOVAL_MIN: usize = 4;

/// How many removed targets a reason names.
const NAMED_MAX: usize = 5;

/// Why a plan waits for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    pub code: GuardCode,
    /// One sentence for a person.
    pub reason: String,
    /// The targets that would lose their schedule; their backups stay in any case.
    pub removed: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardCode {
    EmptyConfig,
    ManyRemoved,
    RetentionCut,
}

/// None when `changes` may replace `recorded` by `desired` without asking.
pub(super) fn guard(changes: &[Change], desired: &Config, recorded: &Config) -> Option<Guard> {
    let removed: Vec<Name> = changes
        .iter()
        .filter(|each| each.kind == DocumentKind::Target && each.change == ChangeKind::Removed)
        .map(|each| each.name.clone())
        .collect();
    let (before, count) = (recorded.targets.len(), removed.len());
    if desired.targets.is_empty() && before > 0 {
        let reason = format!("the config is empty and would remove {} ({})", all(before), names(&removed));
        return Some(Guard { code: GuardCode::EmptyConfig, reason, removed });
    }
    if count > 1 && count * TARGETS_PER_REMOVAL_MIN > before {
        let reason = format!("{count} of {before} targets would be removed ({})", names(&removed));
        return Some(Guard { code: GuardCode::ManyRemoved, reason, removed });
    }
    None
}

/// One guard of two, for one confirmation.
pub(super) fn both(removals: Option<Guard>, cuts: Option<Guard>) -> Option<Guard> {
    match (removals, cuts) {
        (Some(removals), Some(cuts)) => {
            Some(Guard { reason: format!("{}; and {}", removals.reason, cuts.reason), ..removals })
        }
        (removals, cuts) => removals.or(cuts),
    }
}

fn all(count: usize) -> String {
    if count == 1 { "the only target".to_owned() } else { format!("all {count} targets") }
}

fn names(removed: &[Name]) -> String {
    let mut shown: Vec<String> = removed.iter().take(NAMED_MAX).map(Name::to_string).collect();
    if removed.len() > NAMED_MAX {
        shown.push(format!("and {} more", removed.len() - NAMED_MAX));
    }
    shown.join(", ")
}
