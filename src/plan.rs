//! What a revision changes: the pure difference between its config and the recorded state.
//!
//! [`plan`] is sync, total and deterministic. A plan is immutable, names the revision that it starts from, and its
//! steps leave nothing to choose: each is one write to the store. Three promises, each with a test:
//!
//! - No step removes a run, an artifact or a snapshot. What leaves the config is orphaned: its history stays.
//! - An equal config (a commit that touches only comments) gives no steps.
//! - A next run moves only when the schedule, zone or jitter changed; a new job waits for its next time.
//!
//! What would remove a lot is guarded: such a plan is held until it is confirmed.

pub mod cuts;
mod destinations;
mod difference;
mod documents;
mod guard;
mod jobs;
mod lines;
mod step;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::model::Config;
use crate::plan::cuts::{Kept, RetentionCut};
use crate::plan::documents::Documents;
pub use crate::plan::guard::Guard;
pub use crate::plan::step::Step;
use crate::store::record::{DestinationRecord, JobRecord};
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name, Revision};

/// What is in force and known before the plan.
#[derive(Clone, Debug)]
pub struct Recorded<'a> {
    /// The revision in force; none before the first.
    pub base: Option<Revision>,
    pub config: &'a Config,
    pub jobs: &'a BTreeMap<JobId, JobRecord>,
    pub destinations: &'a [DestinationRecord],
    /// Of the jobs that [`cuts::asked`] names.
    pub kept: &'a [Kept],
}

/// The way from the recorded state to a desired one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub base: Option<Revision>,
    pub target: Option<Revision>,
    /// Why the plan must be confirmed first; none: it may be applied.
    pub guard: Option<Guard>,
    /// What must not be overlooked, each a sentence.
    pub warnings: Vec<String>,
    /// The difference, for people.
    pub changes: Vec<Change>,
    /// Jobs whose next run is new or moves, the earliest first.
    pub next_runs: Vec<NextRun>,
    /// The difference, for the store.
    pub steps: Vec<Step>,
    /// What the guard asks about, where it is about snapshots.
    #[serde(skip)]
    cuts: Vec<RetentionCut>,
    /// The zone that times are shown in.
    #[serde(skip)]
    timezone: String,
}

/// One document that comes, changes or goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub change: ChangeKind,
    pub kind: DocumentKind,
    pub name: Name,
    /// Short phrases: `files`, `schedule daily at 02:00 -> daily at 03:00`, `orphaned: 212 runs kept`.
    pub details: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Removed,
    Changed,
    Added,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    Site,
    Destination,
    Policy,
    Target,
}

/// When a job ran next before, and when it does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextRun {
    pub job: JobId,
    pub before: Option<Timestamp>,
    pub after: Timestamp,
}

/// Compares what `desired` wants with what is recorded, as of `now`.
#[must_use]
pub fn plan(desired: &Config, revision: Option<&Revision>, recorded: &Recorded<'_>, now: Timestamp) -> Plan {
    let Documents { mut steps, changes } = documents::compare(desired, recorded);
    let mut warnings = Vec::new();
    destinations::compare(desired, recorded, now, &mut steps, &mut warnings);
    let next_runs = jobs::compare(desired, recorded, now, &mut steps, &mut warnings);
    let cuts = cuts::compare(desired, recorded, now);
    let removals = guard::guard(&changes, desired, recorded.config);
    Plan {
        base: recorded.base.clone(),
        target: revision.cloned(),
        guard: guard::both(removals, cuts::guard(&cuts, &desired.site.timezone)),
        warnings,
        changes,
        next_runs,
        steps,
        cuts,
        timezone: desired.site.timezone.clone(),
    }
}

impl Plan {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan once its guard is confirmed: like any other, and no run asks again.
    #[must_use]
    pub fn confirmed(mut self, jobs: &BTreeMap<JobId, JobRecord>, now: Timestamp) -> Self {
        cuts::accept(&self.cuts, jobs, &mut self.steps, now);
        self.guard = None;
        self
    }

    /// The job records that the steps write.
    pub fn job_records(&self) -> impl Iterator<Item = &JobRecord> {
        self.steps.iter().filter_map(|step| match step {
            Step::PutJob(job) | Step::OrphanJob(job) => Some(&**job),
            _ => None,
        })
    }

    /// The steps as one atomic write. Who applies it adds the record of the revision in force.
    ///
    /// # Errors
    /// When a record cannot be written as JSON.
    pub fn batch(&self) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        for step in &self.steps {
            step.write(&mut batch)?;
        }
        Ok(batch)
    }

    /// The plan for a terminal: what warns, what changes, what runs next; about twenty lines at most.
    #[must_use]
    pub fn lines(&self, now: Timestamp) -> Vec<String> {
        lines::lines(self, now)
    }
}

#[cfg(test)]
mod tests;
