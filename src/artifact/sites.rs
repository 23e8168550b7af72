//! Which sites' artifacts lie here, by their manifests.

use std::collections::BTreeSet;

use super::manifest::{self, Manifest};
use super::{Shelf, expire};
use crate::types::site::SiteId;

/// Targets that are looked at.
const TARGETS_MAX: usize = 10_000;

impl Shelf {
    /// The identities in the newest manifest of each target; what can't be read tells nothing.
    #[must_use]
    pub fn sites(&self) -> BTreeSet<SiteId> {
        let targets = expire::directories(self.root()).unwrap_or_default();
        targets.iter().take(TARGETS_MAX).filter_map(|target| self.site_of(target)).collect()
    }

    fn site_of(&self, target: &str) -> Option<SiteId> {
        let target = self.root().join(target);
        let mut days = expire::directories(&target).ok()?;
        days.sort();
        let day = target.join(days.pop()?);
        let mut publications = expire::directories(&day).ok()?;
        publications.sort();
        Manifest::load(&day.join(publications.pop()?).join(manifest::FILE_NAME)).ok()?.site_id
    }
}
