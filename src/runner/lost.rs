//! A state store that was lost: what it holds, where else it shows, and how it is taken as it is.
//!
//! What the store knew of holds, sizes and acceptances is gone with it, so every job waits with its retention until somebody
//! has seen it. What the repositories still have says what was usual (`recall`).

use crate::error::Trouble;
use crate::run::hold::{Finding, HoldKind};
use crate::run::holdings::{Ours, Sorted};
use crate::run::usual::{Load, Recalled, Weight};
use crate::runner::holdings::Inventory;
use crate::runner::world::World;
use crate::store::damage::Damage;
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name, RunId};

/// The code of a trouble about a state store that was lost.
pub const CODE: &str = "lost_state";

/// What is said of it, with the command for `target`.
#[must_use]
pub fn told(damage: &Damage, target: &str) -> Trouble {
    Trouble::new(CODE, damage.sentence()).with_hint(damage.hint(target))
}

/// What holds the jobs of `target` until the loss is accepted.
#[must_use]
pub fn finding(damage: &Damage, target: &Name) -> Finding {
    Finding {
        kind: HoldKind::LostState,
        subject: String::new(),
        trouble: told(damage, target.as_str()),
        value: Some(damage.value()),
        no_worse: false,
    }
}

/// Notes that what lies elsewhere shows that there was a state before this one, unless that was noted.
///
/// # Errors
/// When the store cannot be read or written.
pub fn note(world: &World, detail: &str) -> Result<(), StoreError> {
    if world.ledger.loss()?.is_some() {
        return Ok(());
    }
    let damage = Damage { at: world.clock.now(), ..Damage::new(None, detail, None) };
    tracing::error!("{}", damage.sentence());
    let mut batch = Batch::default();
    batch.put_loss(&damage)?;
    world.ledger.commit(batch)?;
    world.listed.notify_one();
    Ok(())
}

/// Notes that somebody knows of the loss and takes the state as it is.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept(world: &World) -> Result<(), StoreError> {
    let Some(damage) = world.ledger.loss()? else { return Ok(()) };
    let mut batch = Batch::default();
    batch.put_loss(&Damage { accepted: Some(world.clock.now()), ..damage })?;
    world.ledger.commit(batch)
}

/// What the snapshots of `job` that are still there have, the most of them, without that of `run`; none: nothing.
#[must_use]
pub fn recall<'a>(
    damage: &Damage,
    inventories: impl Iterator<Item = &'a Inventory>,
    job: &JobId,
    run: RunId,
) -> Option<Recalled> {
    let run = run.to_string();
    let mut most = Weight::default();
    for inventory in inventories {
        let ours = |sorted: &Sorted, id: &str| sorted.ours.get(job).is_some_and(|all| has(all, id));
        let listed = inventory.listing.iter().filter(|each| ours(&inventory.sorted, &each.id));
        for snapshot in listed.filter(|each| each.tag("run") != Some(run.as_str())) {
            most.bytes = most.bytes.max(snapshot.bytes.unwrap_or_default());
            most.files = most.files.max(snapshot.files.unwrap_or_default());
        }
    }
    (most != Weight::default()).then(|| Recalled { at: damage.at, load: Load { total: most, ..Load::default() } })
}

fn has(ours: &[Ours], id: &str) -> bool {
    ours.iter().any(|each| each.id == id)
}
