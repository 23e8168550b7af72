//! A state store that was lost: what it holds, where else it shows, and how it is taken as it is.
//!
//! What the store knew of holds, sizes and acceptances is gone with it, so every job waits with its retention until somebody
//! has seen it. What the repositories still have says what was usual (`recall.rs`).

use crate::error::{Trouble, codes};
use crate::run::hold::{Finding, HoldKind};
use crate::runner::world::World;
use crate::store::damage::Damage;
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// What is said of it, with the command for `target`.
#[must_use]
pub fn told(damage: &Damage, target: &str) -> Trouble {
    Trouble::new(codes::LOST_STATE, damage.sentence()).with_hint(damage.hint(target))
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
