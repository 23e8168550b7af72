//! What a repository held when somebody looked.

use crate::engine::Snapshot;
use crate::run::holdings::Sorted;
use crate::types::site::SiteId;

/// A listing, and what it means.
#[derive(Clone, Debug)]
pub struct Inventory {
    pub listing: Vec<Snapshot>,
    pub sorted: Sorted,
    pub site: SiteId,
}

impl Inventory {
    /// Whether it is a second snapshot of a run of ours.
    #[must_use]
    pub fn is_copy(&self, id: &str) -> bool {
        self.sorted.copies.contains(id)
    }

    /// Whether it holds something else than its run put there.
    #[must_use]
    pub fn is_altered(&self, id: &str) -> bool {
        self.sorted.altered.contains(id)
    }

    /// The order of a snapshot of ours; none: it is not ours, or a second one.
    #[must_use]
    pub fn order(&self, id: &str) -> Option<u64> {
        self.sorted.ours.values().flatten().find(|ours| ours.id == id).map(|ours| ours.order)
    }
}
