//! Brings a store of an older format over: into a new one beside it, which then takes its place by one rename.
//!
//! The old one is only read. Killed before the rename, the next start begins again; killed after it, the next start finds
//! a store of today's format. The old one stays beside until a later start has found the new one whole.

use std::time::Instant;

use jiff::Timestamp;

use super::{Open, SledStore, StateDir, make_with};
use crate::store::refill::{Filler, pack_all, rows_of};
use crate::store::{StoreError, Tree};

/// All but what is made again, or read beside the runs.
const TREES: [Tree; 6] = [Tree::Desired, Tree::Jobs, Tree::Runs, Tree::Destinations, Tree::Outbox, Tree::Meta];

/// Takes a whole store of an older format, and leaves one of today's in its place.
pub(super) fn bring_over(state: &StateDir, open: Open) -> Result<(), StoreError> {
    let begun = Instant::now();
    let path = state.store();
    // The lock of the state directory is held, and this file stands in for it.
    let lock = std::fs::File::open(&path).map_err(|source| StoreError::Open { path: path.clone(), source })?;
    let old = SledStore::of(path, open, lock);
    tracing::info!("the state store is brought over to a smaller format, once");
    make_with(state, |new| {
        let mut filler = Filler::new(new);
        pack_all(rows_of(&old, &TREES), rows_of(&old, &[Tree::Events]), &mut filler)?;
        filler.finish()
    })?;
    drop(old);
    state.exchange_older(Timestamp::now())?;
    tracing::info!(took_ms = begun.elapsed().as_millis(), "the state store was brought over");
    Ok(())
}
