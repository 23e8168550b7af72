//! What the repositories tell a job of its size that its record may not know: behind a loss of the state, and behind a state
//! that is older than they are.
//!
//! What is read is decided in `run/usual/recall.rs`; here the listings are asked, and restic for what each source had.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::engine::Snapshot;
use crate::error::Trouble;
use crate::run::usual::recall::{self, Kept, Read, Recalled};
use crate::run::usual::{Load, Weight};
use crate::runner::holdings::Inventory;
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::store::StoreError;
use crate::store::record::JobRecord;
use crate::types::{Name, RunId};

/// How long all the looks into snapshots may take together: what was read by then counts.
const LOOKS_MAX: Duration = Duration::from_secs(10 * 60);

/// Where the artifacts of a job lie in a snapshot, below their root.
const VIEW: &str = "/.larder/ship/";

/// What the destinations have of the job that is to be read now, and what is read with it; none: nothing new.
///
/// A destination that was not listed says nothing, and is read when it is there again.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn unread<'a>(
    world: &World,
    inventories: impl Iterator<Item = (&'a Name, &'a Inventory)>,
    job: &JobRecord,
    run: RunId,
) -> Result<Option<(Vec<Kept>, Recalled)>, StoreError> {
    let ledger = &world.ledger;
    let lost = ledger.newest_loss()?.map(|loss| loss.at);
    // A history that is full has lost its oldest runs by itself.
    let pruned = ledger.oldest_of_full(&job.id)?;
    let (mut told, mut recalled) = (Vec::new(), Recalled::default());
    for (name, inventory) in inventories {
        let kept = kept(name, inventory, job, run);
        let mut unknown = BTreeSet::new();
        for run in kept.iter().filter_map(|each| each.run) {
            if pruned.is_none_or(|oldest| run > oldest) && !ledger.remembers(&job.id, run)? {
                unknown.insert(run);
            }
        }
        let nothing = Read::default();
        let before = job.usual.read.get(name).unwrap_or(&nothing);
        let (new, read) = recall::unread(kept, lost, before, |run| unknown.contains(&run));
        told.extend(new);
        if read != *before {
            recalled.read.insert(name.clone(), read);
        }
    }
    for total in told.iter().filter_map(|each| each.total) {
        recalled.take_in(&Load { total, ..Load::default() });
    }
    Ok((!recalled.read.is_empty() || !told.is_empty()).then_some((told, recalled)))
}

/// The snapshots of the job that are there, without that of `run`.
fn kept(name: &Name, inventory: &Inventory, job: &JobRecord, run: RunId) -> Vec<Kept> {
    let Some(ours) = inventory.sorted.ours.get(&job.id) else { return Vec::new() };
    let ours: BTreeSet<&str> = ours.iter().map(|each| each.id.as_str()).collect();
    let kept = |snapshot: &Snapshot| Kept {
        destination: name.clone(),
        id: snapshot.id.clone(),
        run: snapshot.tag("run").and_then(|run| run.parse().ok()),
        total: snapshot.bytes.zip(snapshot.files).map(|(bytes, files)| Weight { bytes, files }),
        sources: snapshot.paths.iter().filter(|path| !path.contains(VIEW)).cloned().collect(),
    };
    let listed = inventory.listing.iter().filter(|snapshot| ours.contains(snapshot.id.as_str()));
    listed.map(kept).filter(|each| each.run != Some(run)).collect()
}

/// Those of `told` whose sources restic is asked for: its own totals tell of one source alone.
pub(super) fn looked_into(told: &[Kept]) -> Vec<&Kept> {
    let mut chosen = recall::chosen(told);
    let sources: BTreeSet<&String> = told.iter().flat_map(|each| &each.sources).collect();
    chosen.retain(|each| sources.len() > 1 || each.total.is_none());
    chosen
}

/// What each of `chosen`, all of one destination, has; less than all where the time is over.
///
/// # Errors
/// When restic could not tell.
pub(super) async fn look_into(route: &Route, chosen: &[Kept], begun: Instant) -> Result<Vec<Load>, Trouble> {
    let mut loads = Vec::new();
    if chosen.is_empty() {
        return Ok(loads);
    }
    let (restic, access) = route.open().await?;
    for each in chosen {
        // The run itself must end, too.
        let left = LOOKS_MAX.saturating_sub(begun.elapsed()).min(route.deadline / 2);
        if left < Duration::from_secs(1) {
            break;
        }
        let counted = restic.with_deadline(left).weigh(&access, &each.id, &each.sources, &route.context).await;
        let counted = match counted {
            Ok(counted) => counted,
            Err(crate::engine::EngineError::TooSlow(_)) => break,
            // Somebody removed it meanwhile.
            Err(crate::engine::EngineError::SnapshotMissing { .. }) => continue,
            Err(error) => return Err(error.trouble()),
        };
        let mut load = Load::default();
        for (path, (files, bytes)) in counted {
            load.add(&path, Weight { bytes, files });
        }
        load.total = each.total.unwrap_or_else(|| Weight {
            bytes: load.parts.values().map(|part| part.bytes).sum(),
            files: load.parts.values().map(|part| part.files).sum(),
        });
        loads.push(load);
    }
    Ok(loads)
}
