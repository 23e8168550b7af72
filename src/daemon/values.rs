//! Which value is meant where one is typed or written into Git to accept what is held, and what is said where none fits.

use std::collections::BTreeSet;

use crate::daemon::acceptance::{Loss, NAMED_MAX, held_by_all, losses};
use crate::daemon::keeper::Keeper;
use crate::error::{Trouble, codes};
use crate::run::hold::{self, Hold};
use crate::run::holdings::mark;
use crate::types::Name;

/// How much of what was typed a refusal repeats.
const TYPED_CHARS_MAX: usize = 100;

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
                    codes::AMBIGUOUS_VALUE,
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
            return Trouble::new(codes::NOT_HELD, format!("nothing of {target} is held"))
                .with_hint("see `larder status`; what ended by itself needs no acceptance");
        }
        Trouble::new(codes::NOT_HELD, format!("nothing of {target} is held with the value {}", typed_short(value)))
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
