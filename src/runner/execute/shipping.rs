//! What leaves a run: its publication, and a snapshot in each destination.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::task::JoinSet;

use super::{PROGRESS_EVERY, RunExecutor, Stop, tell};
use crate::artifact::{PublishRequest, Published};
use crate::engine::run_tags;
use crate::error::{Trouble, codes};
use crate::plugin::Captured;
use crate::plugin::protocol::{SOURCE_BYTES, SOURCE_FILES};
use crate::run::RunState;
use crate::runner::ship::{self, Asks, Counted, SnapshotSpec};
use crate::store::record::{Shipment, Trigger};
use crate::types::Outcome;

impl RunExecutor {
    /// Whether somebody waits at a keyboard.
    pub(super) fn asks(&self) -> Asks {
        if self.record.trigger == Trigger::Manual { Asks::ByHand } else { Asks::ByTime }
    }

    /// What the publication of this run says of itself.
    pub(super) fn publication(
        &self,
        captured: &Captured,
        validations: Vec<crate::plugin::Validation>,
    ) -> PublishRequest {
        PublishRequest {
            site: self.identity.clone(),
            run: self.record.id,
            job: self.record.job.clone(),
            started: self.record.started.unwrap_or(self.record.queued),
            timezone: self.site.timezone.clone(),
            revision: self.record.revision.clone(),
            plugin: self.record.plugin.clone(),
            captured: captured.clone(),
            validations,
        }
    }

    /// Makes one snapshot in each destination, all at once.
    pub(super) async fn ship(&mut self, captured: &Captured, published: &Published) -> Result<Vec<Shipment>, Stop> {
        let (shelf, job, published) = (self.shelf.clone(), self.record.job.clone(), published.clone());
        let (files, published_bytes) = (published.files, published.bytes);
        let root = shelf.root().to_owned();
        let view = self.away("the artifact root", &root, move || shelf.ship_view(&job, &published)).await?;
        let view = view.map_err(|error| Stop::failed(error.trouble()))?;
        let excludes = self.shape.patterns(&view).map_err(Stop::failed)?;
        let mut paths: Vec<PathBuf> = captured.sources.iter().map(|source| source.path.clone()).collect();
        paths.push(view);
        let figure = |name: &str| captured.figures.get(name).copied();
        let counted = match (figure(SOURCE_FILES), figure(SOURCE_BYTES)) {
            // What lies in two sources was counted twice, and is read once.
            (Some(files), Some(bytes)) if self.shape.is_flat() => Some(Counted { files, bytes }),
            _ => None,
        };
        let in_sources = if captured.sources.is_empty() { Some(0) } else { figure(SOURCE_BYTES) };
        let site = self.world.site(&self.site.artifacts).await.map_err(Stop::failed)?;
        let spec = Arc::new(SnapshotSpec {
            job: self.record.job.clone(),
            artifacts: self.site.artifacts.clone(),
            time: self.record.started.unwrap_or(self.record.queued),
            paths,
            excludes,
            tags: run_tags(&site, &self.record.job, self.record.id, self.record.revision.as_ref()),
            host: self.site.name.to_string(),
            asks: self.asks(),
            tolerate: self.target.tolerate.clone(),
            // With the manifest.
            artifact_files: files + 1,
            counted,
            bytes: in_sources.map(|bytes| bytes.saturating_add(published_bytes)),
        });

        let mut underway = JoinSet::new();
        for (index, destination) in self.destinations.iter().enumerate() {
            let route = self.route(destination);
            let parent = self.job.parents.get(&destination.name).cloned();
            let spec = spec.clone();
            let record = self.record.clone();
            let waits = (!self.target.hooks.hold_something()).then(|| self.waits.clone());
            underway.spawn(async move {
                let mut told = Instant::now();
                let world = route.world.clone();
                let name = route.destination.name.to_string();
                let on_progress = |done, total| {
                    if told.elapsed() >= PROGRESS_EVERY {
                        told = Instant::now();
                        tell(&world, &record, RunState::Shipping, Some(name.clone()), done, total);
                    }
                };
                // One storage that is slow, or dead, delays what goes elsewhere no longer, nor does a look into one.
                let on_made = || {
                    if let Some(waits) = waits {
                        waits.store(true, Ordering::Relaxed);
                        world.freed.notify_one();
                    }
                };
                let shipped = ship::ship(&route, &spec, parent, on_progress, on_made).await;
                (index, shipped)
            });
        }
        let mut shipments = Vec::new();
        while let Some(joined) = underway.join_next().await {
            match joined {
                Ok((index, shipped)) => {
                    for notice in shipped.notices {
                        self.note(notice);
                    }
                    if let Some(inventory) = shipped.inventory {
                        self.inventories.insert(shipped.shipment.destination.clone(), inventory);
                    }
                    shipments.push((index, shipped.shipment));
                }
                Err(error) => self.warn(Trouble::new(codes::INTERNAL, format!("a shipment stopped: {error}"))),
            }
        }
        self.waits.store(false, Ordering::Relaxed);
        shipments.sort_by_key(|(index, _)| *index);
        let shipments: Vec<Shipment> = shipments.into_iter().map(|(_, shipment)| shipment).collect();
        if self.context.cancel.is_cancelled() {
            self.record.shipments = shipments;
            return Err(Stop {
                outcome: Outcome::Cancelled,
                trouble: Trouble::new(codes::CANCELLED, "cancelled while shipping"),
            });
        }
        Ok(shipments)
    }
}
