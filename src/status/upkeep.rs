//! How a piece of upkeep stands: well, failed, or due and not begun.

use jiff::{SignedDuration, Timestamp};

use crate::status::job::problem;
use crate::status::{Health, Problem, UpkeepView};
use crate::store::record::Upkeep;
use crate::types::Name;

/// How long after its time a prune or check may start before that is remarked.
const UPKEEP_MISSED_AFTER: SignedDuration = SignedDuration::from_hours(6);

/// The upkeep `what` (`prune`, `check`, `copy`) of the destination `name`, which is `wanted` by the config.
#[must_use]
pub(super) fn upkeep_view(name: &Name, what: &str, wanted: bool, upkeep: &Upkeep, now: Timestamp) -> UpkeepView {
    let commands = || vec![format!("larder destination {what} {name}")];
    let problem = match &upkeep.trouble {
        Some(trouble) => {
            Some((Health::Failed, problem(format!("The last {what} of {name} failed"), trouble, commands())))
        }
        None if wanted && upkeep.next.is_some_and(|next| now.duration_since(next) > UPKEEP_MISSED_AFTER) => Some((
            Health::Warning,
            Problem {
                code: "missed".to_owned(),
                what: format!("The {what} of {name} is overdue"),
                why: Some("it was due and did not start".to_owned()),
                hint: None,
                commands: commands(),
            },
        )),
        None => None,
    };
    let health = match &problem {
        Some((health, _)) => *health,
        None if upkeep.last_success.is_some() => Health::Proven,
        None => Health::Unknown,
    };
    UpkeepView {
        health,
        next: upkeep.next.filter(|_| wanted),
        last: upkeep.last,
        last_success: upkeep.last_success,
        problem: problem.map(|(_, problem)| problem),
    }
}
