//! A state that is older than the repository: what is said of it, what it holds, and how it is taken as it is.

use super::forgive;
use crate::error::{Kind, Trouble, codes};
use crate::run::hold::{Finding, HoldKind, accept_command};
use crate::run::holdings::newer::Newer;
use crate::runner::world::World;
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// What is said of a state that is older than the repository.
#[must_use]
pub fn told(name: &Name, newer: &Newer) -> Trouble {
    let (count, job) = (newer.snapshots, &newer.job);
    let accept = accept_command(&job.target, &newer.value());
    let dated = super::dated(newer.from, newer.to);
    let noun = if count == 1 { "snapshot" } else { "snapshots" };
    let gone = match newer.gone {
        0 => String::new(),
        1 => ", and 1 that it knows is gone, which a later state may have forgotten".to_owned(),
        gone => format!(", and {gone} that it knows are gone, which a later state may have forgotten"),
    };
    let on = newer.on.as_ref().map_or_else(String::new, |on| format!(", made on {on}"));
    let message = if newer.beside {
        format!(
            "another machine runs with a copy of this state: {name} holds {count} {noun} of {job} {dated} by runs of this very \
             site that the state does not know{on}{gone}"
        )
    } else {
        format!(
            "the state directory is older than the repository: {name} holds {count} {noun} of {job} {dated} by later runs \
             of this very site that the state does not know{on}{gone}"
        )
    };
    if newer.beside {
        return Trouble::new(codes::OLDER_STATE, message).with_hint(format!(
            "nothing is forgotten, and no file of the other machine is restored unasked. Stop one of the two: to back up on \
             both, remove the state directory and the artifacts of the copy, and give it another repository. If only this one runs now, \
             `{accept}` takes the repository as it is, for all targets"
        ));
    }
    Trouble::new(codes::OLDER_STATE, message).with_hint(format!(
        "nothing is forgotten, and a restore takes the newest run by the repository. If the newer state or an export of it \
         is still there, stop the daemon and put it back (`larder import FILE` into an empty state directory); if not, \
         `{accept}` takes the repository as it is, for all targets. If another machine runs with a copy of this state, stop one \
         of the two"
    ))
}

/// What holds a job while the state is older than the repository.
#[must_use]
pub fn held(name: &Name, newer: &Newer) -> Finding {
    Finding {
        kind: HoldKind::OlderState,
        subject: name.to_string(),
        trouble: told(name, newer),
        value: Some(newer.value()),
        no_worse: false,
    }
}

/// The repositories are taken as they are: what a later state made counts, and what it may have forgotten is missed no
/// longer. It is one state, so what is said of it for one job is said for all.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept(world: &World) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        for (name, mut seen) in ledger.all_holdings()? {
            let newer = std::mem::take(&mut seen.newer);
            if newer.is_empty() {
                continue;
            }
            let mut batch = Batch::default();
            let books = ledger.books(&name)?;
            for each in &newer {
                let known = books.by_job.get(&each.job).into_iter().flatten();
                for (id, _) in known.filter(|(_, known)| known.missing && each.explains(known)) {
                    batch.remove_known(&name, &each.job, id);
                }
            }
            ledger.put_holdings(&mut batch, &name, &seen)?;
            forgive(ledger, &name, Kind::Older, &mut batch)?;
            ledger.commit(batch)?;
        }
        Ok(())
    })
}
