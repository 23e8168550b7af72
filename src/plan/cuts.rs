//! What a change of a policy's retention would forget at the next run, when that is too much to do unasked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::model::{Config, Policy};
use crate::plan::guard::{Guard, GuardCode};
use crate::plan::{Recorded, Step};
use crate::run::hold::{Accepted, HoldKind, remember_accepted};
use crate::run::retention::{self, Candidate};
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// How many jobs a reason names.
const NAMED_MAX: usize = 3;

/// The snapshots of a job that a destination holds.
#[derive(Clone, Debug)]
pub struct Kept {
    pub job: JobId,
    pub destination: Name,
    pub snapshots: Vec<Candidate>,
}

/// What one job would lose in one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionCut {
    pub job: JobId,
    pub destination: Name,
    /// It is a copy: no run forgets there.
    pub is_copied: bool,
    pub cut: retention::Cut,
}

/// A job's snapshots in one destination, which are to be kept by other rules than are in force.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub job: JobId,
    pub policy: &'a Policy,
    pub destination: &'a Name,
    /// Where runs write them: `destination`, or what that is a copy of.
    pub written_to: &'a Name,
}

/// The jobs and destinations whose snapshots must be known, because `desired` keeps them by other rules than are in force.
pub fn asked<'a>(
    desired: &'a Config,
    recorded: &'a Config,
    jobs: &'a BTreeMap<JobId, JobRecord>,
) -> impl Iterator<Item = Asked<'a>> {
    let changed = desired.jobs().filter(move |(id, _, policy)| {
        let before = recorded.policies.get(&policy.name);
        jobs.contains_key(id) && before.is_none_or(|before| before.retention != policy.retention)
    });
    changed.flat_map(move |(job, _, policy)| {
        let of =
            |destination: &'a Name, written_to: &'a Name| Asked { job: job.clone(), policy, destination, written_to };
        let written = policy.destinations.iter().map(|name| of(name, name));
        let copied = desired.destinations.values().filter_map(|destination| {
            let rule = destination.copy.as_ref()?;
            let is_copied = policy.destinations.contains(&rule.from) && rule.takes(&job);
            is_copied.then(|| of(&destination.name, &rule.from))
        });
        written.chain(copied).collect::<Vec<_>>()
    })
}

pub(super) fn compare(desired: &Config, recorded: &Recorded<'_>, now: Timestamp) -> Vec<RetentionCut> {
    let mut cuts = Vec::new();
    for Asked { job: id, policy, destination, written_to } in asked(desired, recorded.config, recorded.jobs) {
        let kept = recorded.kept.iter().find(|kept| kept.job == id && kept.destination == *destination);
        let (Some(kept), Some(job)) = (kept, recorded.jobs.get(&id)) else { continue };
        let in_force = recorded.config.policies.get(&policy.name).map(|before| &before.retention);
        let before = job.usual.rules(written_to).or(in_force);
        let zone = TimeZone::get(&policy.schedule.timezone).unwrap_or(TimeZone::UTC);
        cuts.extend(retention::cut(&kept.snapshots, before, &policy.retention, &zone, now).map(|cut| RetentionCut {
            job: id,
            destination: destination.clone(),
            is_copied: destination != written_to,
            cut,
        }));
    }
    cuts
}

/// Why the plan must be confirmed because of `cuts`.
pub(super) fn guard(cuts: &[RetentionCut], timezone: &str) -> Option<Guard> {
    let zone = TimeZone::get(timezone).unwrap_or(TimeZone::UTC);
    let shown = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
    let sum = |of: fn(&retention::Cut) -> usize| cuts.iter().map(|each| of(&each.cut)).sum::<usize>();
    let (oldest, newest) =
        (cuts.iter().map(|each| each.cut.oldest).min()?, cuts.iter().map(|each| each.cut.newest).max()?);
    let mut named: Vec<String> =
        cuts.iter().take(NAMED_MAX).map(|each| format!("{} in {}", each.job, each.destination)).collect();
    if cuts.len() > NAMED_MAX {
        named.push(format!("and {} more", cuts.len() - NAMED_MAX));
    }
    let reason = format!(
        "the new retention would forget {} of {} snapshots at the next runs, from {} to {} ({})",
        sum(|cut| cut.forgotten),
        sum(|cut| cut.there),
        shown(oldest),
        shown(newest),
        named.join(", ")
    );
    Some(Guard { code: GuardCode::RetentionCut, reason, removed: Vec::new() })
}

/// Notes in the jobs' records that `cuts` were confirmed, so that no run asks again.
pub(super) fn accept(cuts: &[RetentionCut], jobs: &BTreeMap<JobId, JobRecord>, steps: &mut Vec<Step>, now: Timestamp) {
    for each in cuts.iter().filter(|each| !each.is_copied) {
        let known = steps.iter_mut().find_map(|step| match step {
            Step::PutJob(job) if job.id == each.job => Some(job),
            _ => None,
        });
        let accepted = Accepted {
            kind: HoldKind::RetentionCut,
            subject: each.destination.to_string(),
            value: each.cut.forgotten.to_string(),
            at: now,
        };
        if let Some(job) = known {
            remember_accepted(&mut job.accepted, accepted);
        } else if let Some(job) = jobs.get(&each.job) {
            let mut job = Box::new(job.clone());
            remember_accepted(&mut job.accepted, accepted);
            steps.push(Step::PutJob(job));
        }
    }
}
