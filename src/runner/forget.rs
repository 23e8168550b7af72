//! What the runs of many jobs gave up in one repository is forgotten by one call: each such call shuts out every backup.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use crate::config::model::{Artifacts, Config, Retention};
use crate::error::Trouble;
use crate::run::holdings::Holdings;
use crate::run::retention::leaving;
use crate::runner::holdings::leaving::FORGOTTEN_AFTER;
use crate::runner::holdings::{self, Inventory};
use crate::runner::route::{Opened, Route};
use crate::runner::world::World;
use crate::store::StoreError;
use crate::types::{JobId, Name};

/// By what rules the jobs' snapshots in one destination may go.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) artifacts: Artifacts,
    pub(super) by_job: BTreeMap<JobId, (Retention, String)>,
}

impl Rules {
    /// Those of `config` for the destination `name`.
    #[must_use]
    pub fn of(config: &Config, name: &Name) -> Self {
        let rules = config
            .jobs_in(name)
            .into_iter()
            .map(|(job, _, policy)| (job, (policy.retention.clone(), policy.schedule.timezone.clone())));
        Self { artifacts: config.site.artifacts.clone(), by_job: rules.collect() }
    }

    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }
}

/// Forgets what was given up and may still go; says it in one line.
///
/// # Errors
/// When the repository cannot be listed, restic could not do it, or the store cannot be read or written.
pub async fn forget(route: &Route, rules: &Rules) -> Result<Vec<String>, Trouble> {
    let name = &route.destination.name;
    let (restic, access) = match route.open_if_made().await? {
        Opened::Made(restic, access) => (restic, access),
        Opened::NotMade(trouble) => return Ok(vec![trouble.message]),
    };
    // What is there now decides, and it may show what holds a job.
    let inventory = holdings::list(route, &restic, &access, &rules.artifacts).await?;
    let (world, of, theirs) = (route.world.clone(), name.clone(), rules.clone());
    let decided = holdings::blocking(move || decide(&world, &of, &theirs, &inventory)).await?;
    for (job, ids) in &decided.stay {
        route.context.log.line(&format!("{} of {job} stay after all", ids.len()));
    }
    if !decided.stay.is_empty() {
        holdings::leaving::keep(route, &decided.stay).await?;
    }
    let ids: Vec<String> = decided.go.values().flatten().cloned().collect();
    if ids.is_empty() {
        return Ok(vec![format!("nothing of {name} is to be forgotten")]);
    }
    restic.forget(&access, &ids, &route.context).await.map_err(|error| error.trouble())?;
    let (count, of) = (ids.len(), decided.go.len());
    holdings::leaving::take_out(route, decided.go).await?;
    let noun = if count == 1 { "snapshot" } else { "snapshots" };
    let jobs = if of == 1 { "job" } else { "jobs" };
    Ok(vec![format!("{count} {noun} of {of} {jobs} forgotten in {name}")])
}

/// What of the marked may go: nothing of a job that is held, here or by what the listing shows.
pub(super) fn decide(
    world: &World,
    name: &Name,
    rules: &Rules,
    inventory: &Inventory,
) -> Result<leaving::Leaving, StoreError> {
    let books = world.ledger.books(name)?;
    let seen = &inventory.sorted.holdings;
    let mut held: BTreeSet<JobId> =
        world.ledger.jobs()?.into_iter().filter(|job| !job.holds.is_empty()).map(|job| job.id).collect();
    held.extend(holding(seen));
    let of = |job: &JobId| {
        let (retention, zone) = rules.by_job.get(job).filter(|_| !held.contains(job))?;
        Some((retention, TimeZone::get(zone).unwrap_or(TimeZone::UTC)))
    };
    Ok(leaving::leaving(&books, &inventory.sorted.ours, &of, world.clock.now()))
}

/// The jobs that a listing holds, whether that was taken in already or not.
pub(super) fn holding(seen: &Holdings) -> impl Iterator<Item = JobId> + '_ {
    let missing = seen.missing.iter().filter(|missing| missing.newest).map(|missing| &missing.job);
    let newer = seen.newer.iter().map(|newer| &newer.job);
    missing.chain(newer).chain(seen.altered.iter().map(|altered| &altered.job)).cloned()
}

/// Finds what an earlier daemon left to be forgotten.
///
/// # Errors
/// When the store cannot be read.
pub fn find(world: &World) -> Result<(), StoreError> {
    for record in world.ledger.destinations()? {
        if let Some(next) = record.forget.next {
            let since = next.saturating_sub(FORGOTTEN_AFTER).unwrap_or(next);
            world.given_up.note(&record.name, since.min(world.clock.now()));
        }
    }
    Ok(())
}
