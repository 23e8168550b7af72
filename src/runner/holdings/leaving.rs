//! What the ledger knows of snapshots that leave a repository: given up by a run, kept after all, gone.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::blocking;
use crate::error::Trouble;
use crate::run::holdings::{Books, Known};
use crate::run::retention::leaving::Ids;
use crate::runner::route::Route;
use crate::runner::world::World;
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
    let (of, named) = (job.clone(), ids.iter().cloned().collect::<BTreeSet<String>>());
    change(route, move |batch, name, books| {
        mark(batch, name, books, |job, id, known| if *job == of { named.contains(id) } else { known.leaving })
    })
    .await?;
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
pub async fn keep(route: &Route, ids: &Ids) -> Result<(), Trouble> {
    let ids = ids.clone();
    change(route, move |batch, name, books| {
        let stays = |job: &JobId, id: &String| ids.get(job).is_some_and(|ids| ids.contains(id));
        mark(batch, name, books, |job, id, known| known.leaving && !stays(job, id))
    })
    .await
}

/// Takes back all that was given up in a destination from which nothing is forgotten any more: what goes from there now is
/// missed.
///
/// # Errors
/// When the store cannot be read or written.
pub fn keep_all(world: &World, name: &Name) -> Result<(), StoreError> {
    change_now(world, name, |batch, name, books| mark(batch, name, books, |_, _, _| false))
}

/// Takes snapshots out that are gone.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn take_out(route: &Route, gone: Ids) -> Result<(), Trouble> {
    change(route, move |batch, name, books| {
        let known = gone.iter().flat_map(|(job, ids)| ids.iter().map(move |id| (job, id)));
        known.filter(|(job, id)| books.knows(job, id)).for_each(|(job, id)| batch.remove_known(name, job, id));
        Ok(())
    })
    .await
}

/// Marks those that are there as leaving, or no longer, where that is not what is known of them.
fn mark(
    batch: &mut Batch,
    name: &Name,
    books: &Books,
    leaves: impl Fn(&JobId, &String, &Known) -> bool,
) -> Result<(), StoreError> {
    for (job, all) in &books.by_job {
        for (id, known) in all.iter().filter(|(_, known)| !known.missing) {
            let leaving = leaves(job, id, known);
            if leaving != known.leaving {
                batch.put_known(name, job, id, &Known { leaving, ..known.clone() })?;
            }
        }
    }
    Ok(())
}

async fn change(
    route: &Route,
    write: impl FnOnce(&mut Batch, &Name, &Books) -> Result<(), StoreError> + Send + 'static,
) -> Result<(), Trouble> {
    let (world, name) = (route.world.clone(), route.destination.name.clone());
    blocking(move || change_now(&world, &name, write)).await
}

fn change_now(
    world: &World,
    name: &Name,
    write: impl FnOnce(&mut Batch, &Name, &Books) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let mut batch = Batch::default();
        write(&mut batch, name, &ledger.books(name)?)?;
        if batch.is_empty() { Ok(()) } else { ledger.commit(batch) }
    })
}
