//! What is gone and can be accepted, and what a config accepts although nothing is held for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::Config;
use crate::error::chain;
use crate::run::hold;
use crate::run::holdings::{Holdings, Missing, mark};
use crate::store::ledger::Ledger;
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// How many values one line names.
pub(super) const NAMED_MAX: usize = 10;

/// A loss of older snapshots, which holds no job.
pub(super) struct Loss {
    pub(super) value: String,
    pub(super) what: String,
}

/// What every repository was seen to hold the last time.
pub(super) fn held_by_all(ledger: &Ledger) -> Vec<(Name, Holdings)> {
    ledger.all_holdings().unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "cannot read what the repositories hold");
        Vec::new()
    })
}

/// What is gone of `target` from `all` and holds no job.
pub(super) fn losses(all: &[(Name, Holdings)], target: &Name) -> Vec<Loss> {
    let missing = all.iter().flat_map(|(name, seen)| seen.missing.iter().map(move |missing| (name, missing)));
    let of_target = missing.filter(|(_, missing)| !missing.newest && missing.job.target == *target);
    let loss = |(name, missing): (&Name, &Missing)| Loss {
        value: missing.value(),
        what: crate::runner::holdings::vanished(name, missing).message,
    };
    of_target.map(loss).collect()
}

/// What `desired` accepts anew of targets that are held, and what holds them for something else; and what it accepts by a
/// number alone, which would fit every later loss of as many.
pub(super) fn accepted_for_nothing(
    before: &Config,
    desired: &Config,
    jobs: &BTreeMap<JobId, JobRecord>,
    ledger: &Ledger,
) -> Vec<String> {
    let (mut lines, mut all) = (Vec::new(), None);
    for target in desired.targets.values().filter(|target| !target.accept.is_empty()) {
        let known = before.targets.get(&target.name).map(|before| before.accept.as_slice()).unwrap_or_default();
        let of_target: Vec<&JobRecord> = jobs.values().filter(|job| job.id.target == target.name).collect();
        let losses = losses(all.get_or_insert_with(|| held_by_all(ledger)), &target.name);
        let holds = of_target.iter().flat_map(|job| &job.holds);
        let values: BTreeSet<&String> =
            holds.filter_map(|hold| hold.value.as_ref()).chain(losses.iter().map(|loss| &loss.value)).collect();
        if values.is_empty() {
            continue;
        }
        for value in &target.accept {
            let is_it = |shown: &str| hold::is_value(shown, value);
            let whole: Vec<String> = values
                .iter()
                .filter(|shown| mark::without(shown).is_some_and(is_it))
                .map(|shown| format!("`accept: ['{shown}']`"))
                .collect();
            if mark::fits_many(value) && !whole.is_empty() {
                lines.push(format!(
                    "! `accept: [{value}]` of {} accepts nothing, since it would fit every later loss of as many: write {}",
                    target.name,
                    whole.join(" or ")
                ));
                continue;
            }
            let is_meant = |job: &JobRecord| {
                job.holds.iter().any(|hold| hold.is_accepted_by(&is_it))
                    || job.accepted.iter().any(|each| is_it(&each.value))
            };
            let is_loss = losses.iter().any(|loss| is_it(&loss.value));
            if known.contains(value) || is_loss || of_target.iter().any(|job| is_meant(job)) {
                continue;
            }
            let commands = values.iter().map(|value| hold::accept_command(&target.name, value)).take(NAMED_MAX);
            lines.push(format!(
                "! `accept: [{value}]` of {} accepts nothing: what it is held for is accepted by {}",
                target.name,
                commands.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    lines
}
