//! Gathers the figures of a repository: without a lock, so nobody waits for it, and nothing is written there.
//!
//! What is said of single targets is asked again only where their snapshots are others than at the last time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::forget::{Rules, decide};
use super::holdings::{self, Inventory};
use super::route::{Opened, Route};
use super::world::World;
use crate::engine::{IDS_MAX, RepositoryAccess, Restic, Snapshot, WouldFree};
use crate::error::{Kind, Trouble, codes};
use crate::run::holdings::{Ours, mark};
use crate::run::statistics::{
    DAYS_MAX, Day, Figures, Measured, NextForget, Size, Statistics, TARGET_DAYS_MAX, TargetStatistics, put_day,
};
use crate::store::{Batch, StoreError};
use crate::types::{ByteSize, Name};

/// Gathers the figures and writes them down; says them in a few lines.
///
/// # Errors
/// When the repository cannot be opened or listed, restic could not do it, or the store cannot be read or written.
pub async fn gather(route: &Route, rules: &Rules, zone: &TimeZone) -> Result<Vec<String>, Trouble> {
    let name = route.destination.name.clone();
    let (restic, access) = match route.open_if_made().await? {
        Opened::Made(restic, access) => (restic, access),
        Opened::NotMade(trouble) => return Ok(vec![trouble.message]),
    };
    let inventory = holdings::list(route, &restic, &access, rules.artifacts()).await?;
    let at = route.world.clock.now();
    let (world, of) = (route.world.clone(), name.clone());
    let read = move || Ok((world.ledger.statistics(&of)?, world.ledger.target_statistics(&of)?));
    let (before, targets_before) = holdings::blocking(read).await?;
    let asked = Asked { route, restic: &restic, access: &access };
    let all: Vec<&Snapshot> = inventory.listing.iter().collect();
    let measured = before.figures.and_then(|figures| figures.measured);
    let (logical, measured) = asked.logical(&all, measured).await?;
    let size = asked.size(&all, logical).await?;
    let by_target = by_target(&inventory);
    let ours: u64 = by_target.values().map(|some| some.len() as u64).sum();
    let (unneeded, next_forget) = asked.forgotten(rules, &inventory).await?;
    let others = size.snapshots.saturating_sub(ours);
    let figures = Figures { at, size, others, unneeded, next_forget, measured };
    let date = at.to_zoned(zone.clone()).date();
    let mut targets = BTreeMap::new();
    for (target, snapshots) in by_target {
        let known = asked.target(&snapshots, targets_before.get(&target), at, date).await?;
        targets.insert(target, known);
    }
    let line = told(&name, &figures);
    let world = route.world.clone();
    holdings::blocking(move || write(&world, &name, figures, date, &targets)).await?;
    Ok(vec![line])
}

/// Notes that gathering failed: the figures stay, with their date.
///
/// # Errors
/// When the store cannot be read or written.
pub fn note_failure(world: &World, name: &Name, trouble: &Trouble) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let known = ledger.statistics(name)?;
        let mut batch = Batch::default();
        let (tried, trouble) = (Some(world.clock.now()), Some(trouble.clone()));
        batch.put_statistics(name, &Statistics { tried, trouble, ..known })?;
        ledger.commit(batch)
    })
}

fn write(
    world: &World,
    name: &Name,
    figures: Figures,
    date: Date,
    targets: &BTreeMap<Name, TargetStatistics>,
) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let mut known = ledger.statistics(name)?;
        put_day(&mut known.days, Day { date, stored: figures.size.stored, logical: figures.size.logical }, DAYS_MAX);
        let known = Statistics { tried: Some(figures.at), trouble: None, figures: Some(figures), days: known.days };
        let mut batch = Batch::default();
        batch.put_statistics(name, &known)?;
        for target in ledger.target_statistics(name)?.into_keys().filter(|target| !targets.contains_key(target)) {
            batch.put_target_statistics(name, &target, None)?;
        }
        for (target, known) in targets {
            batch.put_target_statistics(name, target, Some(known))?;
        }
        ledger.commit(batch)
    })
}

/// The snapshots of each target, in the order of runs.
fn by_target(inventory: &Inventory) -> BTreeMap<Name, Vec<&Snapshot>> {
    let by_id: BTreeMap<&str, &Snapshot> = inventory.listing.iter().map(|each| (each.id.as_str(), each)).collect();
    let mut ordered: BTreeMap<&Name, Vec<&Ours>> = BTreeMap::new();
    for (job, ours) in &inventory.sorted.ours {
        ordered.entry(&job.target).or_default().extend(ours);
    }
    let named = ordered.into_iter().map(|(target, mut ours)| {
        ours.sort_by_key(|each| each.order);
        let snapshots: Vec<&Snapshot> = ours.iter().filter_map(|each| by_id.get(each.id.as_str()).copied()).collect();
        (target.clone(), snapshots)
    });
    named.filter(|(_, snapshots)| !snapshots.is_empty()).collect()
}

fn told(name: &Name, figures: &Figures) -> String {
    let Size { snapshots, logical, stored, .. } = figures.size;
    let noun = if snapshots == 1 { "snapshot" } else { "snapshots" };
    format!("{name}: {snapshots} {noun} of {}, stored in {}", ByteSize(logical), ByteSize(stored))
}

fn too_many(snapshots: usize) -> Option<String> {
    (snapshots > IDS_MAX)
        .then(|| format!("{snapshots} snapshots are more than {IDS_MAX}, which restic can be asked about"))
}

/// The repository that is asked.
struct Asked<'a> {
    route: &'a Route,
    restic: &'a Restic,
    access: &'a RepositoryAccess,
}

impl Asked<'_> {
    /// What the snapshots say that they hold; those that do not say it (of a restic before 0.17) are measured once.
    async fn logical(
        &self,
        snapshots: &[&Snapshot],
        before: Option<Measured>,
    ) -> Result<(u64, Option<Measured>), Trouble> {
        let told = snapshots.iter().filter_map(|each| each.bytes).fold(0, u64::saturating_add);
        let lacking: Vec<&str> =
            snapshots.iter().filter(|each| each.bytes.is_none()).map(|each| each.id.as_str()).collect();
        if lacking.is_empty() {
            return Ok((told, None));
        }
        let mark = mark::of(&self.route.destination.name, lacking.iter().copied());
        let measured = match before.filter(|before| before.mark == mark) {
            Some(before) => before,
            None => {
                let asked = self.restic.restore_size(self.access, &lacking, &self.route.context).await;
                Measured { mark, logical: asked.map_err(|error| error.trouble())? }
            }
        };
        Ok((told.saturating_add(measured.logical), Some(measured)))
    }

    async fn size(&self, snapshots: &[&Snapshot], logical: u64) -> Result<Size, Trouble> {
        let ids: Vec<&str> = snapshots.iter().map(|each| each.id.as_str()).collect();
        if let Some(why) = too_many(ids.len()) {
            return Err(Trouble::new(codes::TOO_MANY_SNAPSHOTS, format!("{}: {why}", self.route.destination.name))
                .with_hint("let policies keep fewer, or spread them over several destinations"));
        }
        let needed = self.restic.needed(self.access, &ids, &self.route.context).await;
        let needed = needed.map_err(|error| error.trouble())?;
        Ok(Size { snapshots: needed.snapshots, logical, uncompressed: needed.uncompressed, stored: needed.stored })
    }

    async fn target(
        &self,
        snapshots: &[&Snapshot],
        before: Option<&TargetStatistics>,
        at: Timestamp,
        date: Date,
    ) -> Result<TargetStatistics, Trouble> {
        let mark = mark::of(&self.route.destination.name, snapshots.iter().map(|each| each.id.as_str()));
        let size = match before.filter(|before| before.mark == mark) {
            Some(before) => before.size,
            None => {
                let (logical, _) = self.logical(snapshots, None).await?;
                self.size(snapshots, logical).await?
            }
        };
        let mut days = before.map(|before| before.days.clone()).unwrap_or_default();
        put_day(&mut days, Day { date, stored: size.stored, logical: size.logical }, TARGET_DAYS_MAX);
        let newest_logical = snapshots.last().and_then(|newest| newest.bytes);
        Ok(TargetStatistics { at, size, newest_logical, mark, days })
    }

    /// What no snapshot needs, and what would come of forgetting what was given up: by restic's own trial. That it cannot be
    /// tried costs no other figure.
    async fn forgotten(&self, rules: &Rules, inventory: &Inventory) -> Result<(Option<u64>, NextForget), Trouble> {
        let unknown = |why: String| NextForget::Unknown { why };
        let now = match self.tried(&[]).await? {
            Ok(now) => now,
            Err(why) => return Ok((None, unknown(why))),
        };
        let unneeded = Some(now.freed.saturating_add(now.unused));
        if self.route.destination.append_only {
            return Ok((unneeded, unknown("nothing is forgotten here: the destination is append-only".to_owned())));
        }
        let (world, name) = (self.route.world.clone(), self.route.destination.name.clone());
        let (rules, inventory) = (rules.clone(), inventory.clone());
        let decided = holdings::blocking(move || decide(&world, &name, &rules, &inventory)).await?;
        let ids: Vec<String> = decided.go.into_values().flatten().collect();
        let then = if ids.is_empty() { Ok(now) } else { self.tried(&ids).await? };
        let snapshots = ids.len() as u64;
        Ok((unneeded, then.map_or_else(unknown, |then| NextForget::Frees { snapshots, bytes: then.freed })))
    }

    /// The trial, or why there is none.
    async fn tried(&self, ids: &[String]) -> Result<Result<WouldFree, String>, Trouble> {
        if let Some(why) = too_many(ids.len()) {
            return Ok(Err(why));
        }
        match self.restic.would_free(self.access, ids, &self.route.context).await.map_err(|error| error.trouble()) {
            Err(trouble) if trouble.kind() == Some(Kind::Cancelled) => Err(trouble),
            Err(trouble) => Ok(Err(trouble.message)),
            Ok(tried) => Ok(Ok(tried)),
        }
    }
}
