//! What the ledger knows of snapshots that leave a repository: given up by a run, kept after all, gone.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::blocking;
use crate::error::Trouble;
use crate::run::holdings::{Known, KnownById};
use crate::runner::route::Route;
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name};

/// What was given up waits no longer than this for a moment in which nothing else is to be done there.
pub const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Gives up exactly these snapshots of the job; the next forget of the destination removes what is then still given up. In
/// the ledger before anything is removed: a kill in between must not make them look lost.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn give_up(route: &Route, job: &JobId, ids: &[String]) -> Result<(), Trouble> {
    set(route, job, ids.iter().cloned().collect(), |leaving, _| leaving).await?;
    if ids.is_empty() {
        return Ok(());
    }
    // Also where all were marked before: a forget that was lost on the way is wanted again.
    let now = route.world.clock.now();
    let wanted = route.world.note_destination(&route.destination, |record| {
        record.forget.next.get_or_insert(now.saturating_add(FORGOTTEN_AFTER).unwrap_or(now));
    });
    wanted.map_err(|error| error.trouble())?;
    route.world.given_up.note(&route.destination.name, now);
    Ok(())
}

/// Takes back that these snapshots were given up.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn keep(route: &Route, job: &JobId, ids: &[String]) -> Result<(), Trouble> {
    set(route, job, ids.iter().cloned().collect(), |named, before| before && !named).await
}

/// Marks what is there of the job by whether it is `named` and was marked before.
async fn set(
    route: &Route,
    job: &JobId,
    named: BTreeSet<String>,
    leaves: fn(named: bool, before: bool) -> bool,
) -> Result<(), Trouble> {
    change(route, job, move |batch, name, job, all| {
        for (id, known) in all.iter().filter(|(_, known)| !known.missing) {
            let leaving = leaves(named.contains(id), known.leaving);
            if leaving != known.leaving {
                batch.put_known(name, job, id, &Known { leaving, ..known.clone() })?;
            }
        }
        Ok(())
    })
    .await
}

/// Takes snapshots out that are gone.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn take_out(route: &Route, job: &JobId, ids: &[String]) -> Result<(), Trouble> {
    let ids = ids.to_vec();
    change(route, job, move |batch, name, job, all| {
        ids.iter().filter(|id| all.contains_key(*id)).for_each(|id| batch.remove_known(name, job, id));
        Ok(())
    })
    .await
}

async fn change(
    route: &Route,
    job: &JobId,
    write: impl FnOnce(&mut Batch, &Name, &JobId, &KnownById) -> Result<(), StoreError> + Send + 'static,
) -> Result<(), Trouble> {
    let (world, name, job) = (route.world.clone(), route.destination.name.clone(), job.clone());
    blocking(move || {
        world.with_destinations(|ledger| {
            let books = ledger.books(&name)?;
            let Some(known) = books.by_job.get(&job) else { return Ok(()) };
            let mut batch = Batch::default();
            write(&mut batch, &name, &job, known)?;
            if batch.is_empty() { Ok(()) } else { ledger.commit(batch) }
        })
    })
    .await
}
