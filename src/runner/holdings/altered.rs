//! Snapshots that hold something else than their runs put there: what is said of it, what it holds, and how it is accepted.

use super::forgive;
use crate::error::{Kind, Trouble, codes};
use crate::run::hold::{Finding, HoldKind, accept_command};
use crate::run::holdings::altered::Altered;
use crate::runner::world::World;
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name};

/// What is said of snapshots that hold something else than their runs put there.
#[must_use]
pub fn told(name: &Name, altered: &Altered) -> Trouble {
    let (count, job) = (altered.snapshots, &altered.job);
    let accept = accept_command(&job.target, &altered.value());
    let dated = super::dated(altered.from, altered.to);
    let (noun, verb, whose) =
        if count == 1 { ("snapshot", "is", "its run") } else { ("snapshots", "are", "their runs") };
    let newest = if altered.newest { ", the newest among them," } else { "" };
    let message = format!(
        "{count} {noun} of {job} {dated}{newest} in {name} {verb} not what {whose} made any more: somebody wrote what is in \
         there anew (`restic repair snapshots` leaves out what cannot be read, `restic rewrite` what it is told to)"
    );
    Trouble::new(codes::SNAPSHOTS_ALTERED, message).with_hint(format!(
        "find out what is missing from there (`larder destination check {name}`, `larder snapshots {}`), and do not prune: \
         nothing is forgotten. What the source still has is in the next backup (`larder run {}`); `{accept}` says that the \
         rest is right as it is",
        job.target, job.target
    ))
}

/// What holds a job while snapshots of it hold something else.
#[must_use]
pub fn held(name: &Name, altered: &Altered) -> Finding {
    Finding {
        kind: HoldKind::Altered,
        subject: name.to_string(),
        trouble: told(name, altered),
        value: Some(altered.value()),
        no_worse: false,
    }
}

/// What the snapshots of a job hold now is right from now on.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept(world: &World, name: &Name, job: &JobId) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let mut batch = Batch::default();
        for (id, known) in ledger.books(name)?.by_job.get(job).into_iter().flatten() {
            if known.altered.is_some() {
                let mut known = known.clone();
                known.accept_altered();
                batch.put_known(name, job, id, &known)?;
            }
        }
        if let Some(mut seen) = ledger.holdings(name)? {
            seen.altered.retain(|altered| altered.job != *job);
            ledger.put_holdings(&mut batch, name, &seen)?;
            if seen.altered.is_empty() {
                forgive(ledger, name, Kind::Altered, &mut batch)?;
            }
        }
        ledger.commit(batch)
    })
}
