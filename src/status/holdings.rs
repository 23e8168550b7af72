//! What a destination's card says of what the repository was seen to hold.

use crate::error::{Trouble, codes};
use crate::run::hold::accept_command;
use crate::run::holdings::altered::Altered;
use crate::run::holdings::newer::Newer;
use crate::run::holdings::{Holdings, Missing};
use crate::runner::holdings::{altered, older, shared, vanished};
use crate::status::Problem;
use crate::status::job::problem;
use crate::types::Name;

/// Problems that a card names one by one.
const SHOWN_MAX: usize = 60;

/// A state that is older than the repository, and snapshots that vanished, one problem a job.
#[must_use]
pub fn missing(name: &Name, seen: &Holdings) -> Vec<Problem> {
    let one = |missing: &Missing| {
        let job = &missing.job;
        let commands = vec![format!("larder destination test {name}"), accept_command(&job.target, &missing.value())];
        problem(format!("Snapshots of {job} vanished from {name}"), &vanished(name, missing), commands)
    };
    let older = |newer: &Newer| {
        let commands =
            vec![format!("larder destination test {name}"), accept_command(&newer.job.target, &newer.value())];
        let what = format!("The state of {} is older than {name}", newer.job);
        problem(what, &older::told(name, newer), commands)
    };
    let altered = |altered: &Altered| {
        let commands =
            vec![format!("larder destination check {name}"), accept_command(&altered.job.target, &altered.value())];
        let what = format!("Snapshots of {} in {name} hold something else than they did", altered.job);
        problem(what, &altered::told(name, altered), commands)
    };
    let all = seen.newer.iter().map(older).chain(seen.altered.iter().map(altered)).chain(seen.missing.iter().map(one));
    let mut shown: Vec<Problem> = all.clone().take(SHOWN_MAX).collect();
    let left = all.count() - shown.len();
    if left > 0 {
        shown.push(Problem {
            code: "more".to_owned(),
            what: format!("{left} more of the kind in {name}: each job is held, and shows its own"),
            why: None,
            hint: None,
            commands: vec!["larder status".to_owned()],
        });
    }
    shown
}

/// Other sites in the same repository, and what is dated in the future.
#[must_use]
pub fn notices(name: &Name, seen: &Holdings) -> Vec<Problem> {
    let say = |trouble: &Trouble| problem(trouble.message.clone(), trouble, Vec::new());
    let mut notices: Vec<Problem> = seen.foreign.iter().map(|other| say(&shared(name, other))).collect();
    if seen.future > 0 {
        let (noun, verb) = if seen.future == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
        notices.push(Problem {
            code: codes::FUTURE_SNAPSHOTS.name().to_owned(),
            what: format!("{} {noun} in {name} {verb} dated in the future: the clock was ahead", seen.future),
            why: None,
            hint: Some("they stay, and push no other one out".to_owned()),
            commands: Vec::new(),
        });
    }
    for notice in &mut notices {
        // It stands for itself.
        notice.why = None;
    }
    notices
}
