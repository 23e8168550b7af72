//! Which value is meant where one is typed or written into Git to accept what is held, and what is said where none fits.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::Config;
use crate::daemon::keeper::Keeper;
use crate::error::{Trouble, chain};
use crate::run::hold::{self, Hold};
use crate::run::holdings::{Holdings, Missing, mark};
use crate::store::ledger::Ledger;
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// How many values a refusal names.
const NAMED_MAX: usize = 10;

/// How much of what was typed a refusal repeats.
const TYPED_CHARS_MAX: usize = 100;

/// A loss of older snapshots, which holds no job.
struct Loss {
    value: String,
    what: String,
}

impl Keeper {
    /// The value that is shown for what was typed: the number alone does while it fits one of what is shown now.
    ///
    /// # Errors
    /// It fits several.
    pub(super) fn fitting(&self, target: &Name, typed: &str) -> Result<String, Trouble> {
        let jobs = || self.jobs.values().filter(|job| job.id.target == *target);
        let losses = losses(&held_by_all(&self.world.ledger), target);
        let holds = jobs().flat_map(|job| &job.holds);
        let of_holds = holds.clone().flat_map(|hold| hold.value.iter().chain(&hold.shown));
        let shown: BTreeSet<&String> = of_holds.chain(losses.iter().map(|loss| &loss.value)).collect();
        if shown.iter().any(|shown| hold::is_value(shown, typed)) {
            return Ok(typed.to_owned());
        }
        let is_meant = |shown: &&&String| mark::without(shown).is_some_and(|short| hold::is_value(short, typed));
        let meant: Vec<&String> = shown.iter().filter(is_meant).copied().collect();
        // It is one state: what is said of it for one repository is said for all.
        let is_one = meant.len() < 2 || meant.iter().all(|value| value.starts_with("newer:"));
        match meant.first() {
            None => Ok(typed.to_owned()),
            Some(value) if is_one => Ok((*value).clone()),
            Some(_) => {
                let several = holds.filter(|hold| hold.value.as_ref().is_some_and(|value| meant.contains(&value)));
                let held = several.filter_map(|hold| told_of_hold(target, hold));
                let lost =
                    losses.iter().filter(|loss| meant.contains(&&loss.value)).map(|loss| told_of_loss(target, loss));
                let all: Vec<String> = held.chain(lost).take(NAMED_MAX).collect();
                Err(Trouble::new(
                    "ambiguous_value",
                    format!("{} fits more than one thing that {target} is held for", typed_short(typed)),
                )
                .with_hint(all.join("; ")))
            }
        }
    }

    /// Nothing is held with that value; what is shown instead.
    pub(super) fn not_held(&self, target: &Name, value: &str) -> Trouble {
        let of_target = || self.jobs.values().filter(|job| job.id.target == *target);
        if of_target().next().is_none() {
            return super::requests::unknown_target(&self.config.borrow(), &self.jobs, target);
        }
        let held = of_target().flat_map(|job| &job.holds).map(|hold| {
            told_of_hold(target, hold).unwrap_or_else(|| format!("can only be mended: {}", hold.trouble.message))
        });
        let losses = losses(&held_by_all(&self.world.ledger), target);
        let undo = super::undo::told(&self.world, target);
        let all: Vec<String> =
            held.chain(losses.iter().map(|loss| told_of_loss(target, loss))).chain(undo).take(NAMED_MAX).collect();
        if all.is_empty() {
            return Trouble::new("not_held", format!("nothing of {target} is held"))
                .with_hint("see `larder status`; what ended by itself needs no acceptance");
        }
        Trouble::new("not_held", format!("nothing of {target} is held with the value {}", typed_short(value)))
            .with_hint(all.join("; "))
    }
}

/// What was typed may have any length.
fn typed_short(value: &str) -> String {
    format!("{:?}", value.chars().take(TYPED_CHARS_MAX).collect::<String>())
}

fn told_of_hold(target: &Name, hold: &Hold) -> Option<String> {
    let command = crate::status::job::accept_command(target, hold)?;
    Some(format!("`{command}` for: {}", hold.trouble.message))
}

fn told_of_loss(target: &Name, loss: &Loss) -> String {
    format!("`{}` for: {}", hold::accept_command(target, &loss.value), loss.what)
}

/// What every repository was seen to hold the last time.
fn held_by_all(ledger: &Ledger) -> Vec<(Name, Holdings)> {
    ledger.all_holdings().unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "cannot read what the repositories hold");
        Vec::new()
    })
}

/// What is gone of `target` from `all` and holds no job.
fn losses(all: &[(Name, Holdings)], target: &Name) -> Vec<Loss> {
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
