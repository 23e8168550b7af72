//! One write to the store, with nothing left to choose.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::config::model::{Destination, Policy, Site, Target};
use crate::store::record::{DestinationRecord, JobRecord};
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// One write of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    PutSite(Box<Site>),
    PutDestination(Box<Destination>),
    RemoveDestination(Name),
    PutPolicy(Box<Policy>),
    RemovePolicy(Name),
    PutTarget(Box<Target>),
    RemoveTarget(Name),
    /// A job that is new, runs at other times, or comes back.
    PutJob(Box<JobRecord>),
    /// A job that left the config: no next run, all of its history.
    OrphanJob(Box<JobRecord>),
    /// A repository that is new, moved, or kept up at other times.
    PutDestinationRecord(Box<DestinationRecord>),
}

impl Step {
    pub(super) fn write(&self, batch: &mut Batch) -> Result<(), StoreError> {
        match self {
            Self::PutSite(site) => batch.put_desired_site(site)?,
            Self::PutDestination(destination) => batch.put_desired_destination(destination)?,
            Self::RemoveDestination(name) => batch.remove_desired_destination(name),
            Self::PutPolicy(policy) => batch.put_desired_policy(policy)?,
            Self::RemovePolicy(name) => batch.remove_desired_policy(name),
            Self::PutTarget(target) => batch.put_desired_target(target)?,
            Self::RemoveTarget(name) => batch.remove_desired_target(name),
            Self::PutJob(job) | Self::OrphanJob(job) => batch.put_job(job)?,
            Self::PutDestinationRecord(record) => batch.put_destination(record)?,
        }
        Ok(())
    }

    /// What is done, to what kind of record, and its name.
    #[must_use]
    pub fn summary(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::PutSite(site) => ("put", "site", site.name.to_string()),
            Self::PutDestination(destination) => ("put", "destination", destination.name.to_string()),
            Self::RemoveDestination(name) => ("remove", "destination", name.to_string()),
            Self::PutPolicy(policy) => ("put", "policy", policy.name.to_string()),
            Self::RemovePolicy(name) => ("remove", "policy", name.to_string()),
            Self::PutTarget(target) => ("put", "target", target.name.to_string()),
            Self::RemoveTarget(name) => ("remove", "target", name.to_string()),
            Self::PutJob(job) => ("put", "job", job.id.to_string()),
            Self::OrphanJob(job) => ("orphan", "job", job.id.to_string()),
            Self::PutDestinationRecord(record) => ("put", "repository", record.name.to_string()),
        }
    }
}

/// Only the summary: ten thousand whole documents would not fit an answer.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (action, kind, name) = self.summary();
        let mut step = serializer.serialize_struct("Step", 3)?;
        step.serialize_field("action", action)?;
        step.serialize_field("kind", kind)?;
        step.serialize_field("name", &name)?;
        step.end()
    }
}
