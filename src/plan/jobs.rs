//! The jobs of a config against the recorded ones: new, moved, back again, orphaned.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::config::model::{Config, Policy};
use crate::plan::{NextRun, Recorded, Step};
use crate::run::hold::HoldKind;
use crate::run::usual::Usual;
use crate::schedule::slots::{self, ScheduleStanding};
use crate::schedule::{self, Schedule};
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// Adds the steps for jobs; answers with the next runs that are new or move, the earliest first.
pub(super) fn compare(
    desired: &Config,
    recorded: &Recorded<'_>,
    now: Timestamp,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Vec<NextRun> {
    let mut timings = Timings::new(desired);
    let mut next_runs = Vec::new();
    for (id, _, policy) in desired.jobs() {
        let known = recorded.jobs.get(&id);
        let Some(key) = timings.key(&policy.name) else { continue };
        if known.is_some_and(|job| is_settled(job, key)) {
            continue;
        }
        let mut wanted = wanted(id, known, policy, &mut timings, now);
        if known.is_none() {
            inherit(&mut wanted, desired, recorded);
        }
        if known == Some(&wanted) {
            continue;
        }
        let before = known.and_then(|job| job.next_run);
        if let Some(after) = wanted.next_run.filter(|after| before != Some(*after)) {
            next_runs.push(NextRun { job: wanted.id.clone(), before, after });
        }
        steps.push(Step::PutJob(Box::new(wanted)));
    }
    for job in recorded.jobs.values() {
        if job.orphaned_since.is_none() && !is_desired(desired, &job.id) {
            steps.push(Step::OrphanJob(Box::new(orphaned(job, now))));
        }
    }
    warnings.extend(timings.unreadable());
    next_runs.sort_by(|a, b| (a.after, &a.job).cmp(&(b.after, &b.job)));
    next_runs
}

/// Nothing to do: desired before and now, at the same times.
fn is_settled(job: &JobRecord, key: &str) -> bool {
    job.orphaned_since.is_none() && job.schedule_key == key && job.next_slot.is_some()
}

fn is_desired(desired: &Config, id: &JobId) -> bool {
    desired.policies.contains_key(&id.policy)
        && desired.targets.get(&id.target).is_some_and(|target| target.enabled && target.policies.contains(&id.policy))
}

/// The record of a job that is new, runs at other times or comes back; everything else that is known stays.
fn wanted(
    id: JobId,
    known: Option<&JobRecord>,
    policy: &Policy,
    timings: &mut Timings<'_>,
    now: Timestamp,
) -> JobRecord {
    let last_slot = known.and_then(|job| job.last_slot);
    let share = schedule::jitter(&id, policy.jitter);
    let standing = match timings.schedule(&policy.name) {
        Some(schedule) => slots::begin(schedule, share, last_slot, now),
        None => ScheduleStanding { last_slot, ..ScheduleStanding::default() },
    };
    let mut job = known.cloned().unwrap_or_else(|| unknown(id));
    timings.key(&policy.name).unwrap_or_default().clone_into(&mut job.schedule_key);
    job.orphaned_since = None;
    job.next_slot = standing.next_slot;
    job.last_slot = standing.last_slot;
    job.next_run = match &job.retry {
        Some(retry) => Some(standing.next_run.map_or(retry.at, |next| next.min(retry.at))),
        None => standing.next_run,
    };
    job
}

/// A policy with a new name makes a new job of data that is known: what is usual for the target goes on to count, and so
/// does what holds it. Else a new name would be a way around every guard.
fn inherit(job: &mut JobRecord, desired: &Config, recorded: &Recorded<'_>) {
    let plugin = |config: &Config| config.targets.get(&job.id.target).map(|target| target.plugin.clone());
    if plugin(desired) != plugin(recorded.config) {
        return;
    }
    let of_target = recorded.jobs.values().filter(|other| other.id.target == job.id.target && other.id != job.id);
    let newest = of_target.max_by_key(|other| other.last_success.as_ref().map(|last| last.finished));
    let Some(other) = newest.filter(|other| other.last_success.is_some()) else { return };
    let is_of_the_data = |kind: HoldKind| matches!(kind, HoldKind::Shrank | HoldKind::LostMount);
    job.sizes.clone_from(&other.sizes);
    job.usual = Usual { retained: BTreeMap::new(), began: None, ..other.usual.clone() };
    job.holds = other.holds.iter().filter(|hold| is_of_the_data(hold.kind)).cloned().collect();
    job.accepted = other.accepted.iter().filter(|each| is_of_the_data(each.kind)).cloned().collect();
}

fn orphaned(job: &JobRecord, now: Timestamp) -> JobRecord {
    JobRecord { orphaned_since: Some(now), next_slot: None, next_run: None, retry: None, ..job.clone() }
}

fn unknown(id: JobId) -> JobRecord {
    JobRecord {
        id,
        orphaned_since: None,
        schedule_key: String::new(),
        next_slot: None,
        next_run: None,
        last_slot: None,
        suspended: None,
        retry: None,
        success_total: 0,
        failure_total: 0,
        last_run: None,
        last_success: None,
        sizes: Vec::new(),
        failing: 0,
        incomplete: 0,
        troubled_since: None,
        overdue_told: None,
        bare_since: None,
        parents: BTreeMap::new(),
        holds: Vec::new(),
        accepted: Vec::new(),
        spent: Vec::new(),
        usual: Usual::default(),
    }
}

/// The key of each policy, and its schedule read once when it is asked for.
struct Timings<'a> {
    desired: &'a Config,
    keys: BTreeMap<&'a Name, String>,
    schedules: HashMap<Name, Option<Schedule>>,
}

impl<'a> Timings<'a> {
    fn new(desired: &'a Config) -> Self {
        let key =
            |policy: &Policy| schedule::key(&policy.schedule.expression, &policy.schedule.timezone, policy.jitter);
        let keys = desired.policies.iter().map(|(name, policy)| (name, key(policy))).collect();
        Self { desired, keys, schedules: HashMap::new() }
    }

    fn key(&self, policy: &Name) -> Option<&str> {
        self.keys.get(policy).map(String::as_str)
    }

    /// None when it cannot be read: the config was checked, so only a changed zone database leads here.
    fn schedule(&mut self, name: &Name) -> Option<&Schedule> {
        if !self.schedules.contains_key(name) {
            let spec = self.desired.policies.get(name).map(|policy| &policy.schedule);
            let schedule = spec.and_then(|spec| Schedule::parse(&spec.expression, &spec.timezone).ok());
            self.schedules.insert(name.clone(), schedule);
        }
        self.schedules.get(name)?.as_ref()
    }

    fn unreadable(&self) -> impl Iterator<Item = String> + '_ {
        self.keys
            .keys()
            .filter(|name| matches!(self.schedules.get(**name), Some(None)))
            .map(|name| format!("the schedule of the policy {name} cannot be read any more: its jobs have no next run"))
    }
}
