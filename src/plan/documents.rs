//! The documents of a config against those in force: what to write, and what to tell.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::config::model::{Config, Target};
use crate::plan::difference;
use crate::plan::{Change, ChangeKind, DocumentKind, Recorded, Step};
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// The steps and changes of the documents.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) steps: Vec<Step>,
    pub(super) changes: Vec<Change>,
}

pub(super) fn compare(desired: &Config, recorded: &Recorded<'_>) -> Documents {
    let mut found = Documents::default();
    let (old, new) = (recorded.config, desired);
    if old.site != new.site {
        let details = difference::site(&old.site, &new.site);
        found.change(ChangeKind::Changed, DocumentKind::Site, &new.site.name, details);
        found.steps.push(Step::PutSite(Box::new(new.site.clone())));
    }
    for (name, old, new) in differing(&old.destinations, &new.destinations) {
        let (step, details) = match (old, new) {
            (Some(old), Some(new)) => (Step::PutDestination(Box::new(new.clone())), difference::destination(old, new)),
            (_, Some(new)) => (Step::PutDestination(Box::new(new.clone())), vec![new.repository.location()]),
            _ => (
                Step::RemoveDestination(name.clone()),
                vec!["no more upkeep; the repository and its snapshots stay".to_owned()],
            ),
        };
        found.change(kind(old, new), DocumentKind::Destination, name, details);
        found.steps.push(step);
    }
    for (name, old, new) in differing(&old.policies, &new.policies) {
        let (step, details) = match (old, new) {
            (Some(old), Some(new)) => (Step::PutPolicy(Box::new(new.clone())), difference::policy(old, new)),
            (_, Some(new)) => (Step::PutPolicy(Box::new(new.clone())), difference::new_policy(new)),
            _ => (Step::RemovePolicy(name.clone()), Vec::new()),
        };
        found.change(kind(old, new), DocumentKind::Policy, name, details);
        found.steps.push(step);
    }
    for (name, old, new) in differing(&old.targets, &new.targets) {
        let (step, details) = match (old, new) {
            (old, Some(new)) => (Step::PutTarget(Box::new(new.clone())), target_details(old, new, recorded.jobs)),
            _ => (Step::RemoveTarget(name.clone()), vec![orphaned(name, recorded.jobs)]),
        };
        found.change(kind(old, new), DocumentKind::Target, name, details);
        found.steps.push(step);
    }
    found
}

impl Documents {
    fn change(&mut self, change: ChangeKind, kind: DocumentKind, name: &Name, details: Vec<String>) {
        self.changes.push(Change { change, kind, name: name.clone(), details });
    }
}

fn target_details(old: Option<&Target>, new: &Target, jobs: &BTreeMap<JobId, JobRecord>) -> Vec<String> {
    let mut details = old.map_or_else(|| difference::new_target(new), |old| difference::target(old, new));
    let runs = runs(&new.name, jobs);
    if old.is_none() && runs > 0 {
        details.push(format!("back again: {runs} runs known"));
    }
    if old.is_some_and(|old| old.enabled) && !new.enabled {
        details.push(orphaned(&new.name, jobs));
    }
    details
}

/// What is told of a target without jobs from now on.
fn orphaned(target: &Name, jobs: &BTreeMap<JobId, JobRecord>) -> String {
    match runs(target, jobs) {
        0 => "orphaned: no runs yet".to_owned(),
        1 => "orphaned: 1 run kept, no backup is deleted".to_owned(),
        runs => format!("orphaned: {runs} runs kept, no backup is deleted"),
    }
}

fn runs(target: &Name, jobs: &BTreeMap<JobId, JobRecord>) -> u64 {
    // "0" sorts before every other name, so this is where the target's jobs begin.
    let Ok(first) = Name::parse("0") else { return 0 };
    let first = JobId { target: target.clone(), policy: first };
    let of_target = jobs.range(first..).take_while(|(id, _)| id.target == *target);
    of_target.map(|(_, job)| job.success_total + job.failure_total).sum()
}

fn kind<T>(old: Option<&T>, new: Option<&T>) -> ChangeKind {
    match (old, new) {
        (_, None) => ChangeKind::Removed,
        (None, _) => ChangeKind::Added,
        _ => ChangeKind::Changed,
    }
}

/// The entries that are not equal in both, in order of their names; one walk over both.
fn differing<'a, T: PartialEq>(
    old: &'a BTreeMap<Name, T>,
    new: &'a BTreeMap<Name, T>,
) -> impl Iterator<Item = (&'a Name, Option<&'a T>, Option<&'a T>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let pairs = std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some((before, _)), Some((after, _))) => before.cmp(after),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let before = if order == Ordering::Greater { None } else { old.next() };
        let after = if order == Ordering::Less { None } else { new.next() };
        let (name, _) = before.or(after)?;
        Some((name, before.map(|(_, value)| value), after.map(|(_, value)| value)))
    });
    pairs.filter(|(_, before, after)| before != after)
}
