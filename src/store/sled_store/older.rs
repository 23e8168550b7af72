//! Brings a store of an older format over: into a new one beside it, which then takes its place by one rename.
//!
//! The old one is only read. Killed before the rename, the next start begins again; killed after it, the next start finds
//! a store of today's format. The old one stays beside until a later start has found the new one whole.

use super::SledStore;
use crate::store::refill::{Filler, pack_all, rows_of};
use crate::store::{StoreError, Tree};

/// All but what is made again, or read beside the runs.
const TREES: [Tree; 6] = [Tree::Desired, Tree::Jobs, Tree::Runs, Tree::Destinations, Tree::Outbox, Tree::Meta];

/// Puts everything of a store of an older format into a new one.
pub(super) fn bring_over(old: &SledStore, new: &SledStore) -> Result<(), StoreError> {
    let mut filler = Filler::new(new);
    pack_all(rows_of(old, &TREES), rows_of(old, &[Tree::Events]), &mut filler)?;
    filler.finish()
}
