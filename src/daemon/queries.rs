//! Answers that only a repository can give: snapshots and their files, through restic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::model::{Config, Destination};
use crate::engine::{Entry, Snapshot};
use crate::error::Trouble;
use crate::process::{Context, Log, Redactor};
use crate::rpc::queries::{Answer, Queries};
use crate::rpc::wire::snapshots::{SnapshotInfo, SnapshotListParams};
use crate::rpc::wire::{Checkup, FileInfo, FindParams, FoundFile, SnapshotFilesParams};
use crate::run::retention;
use crate::runner::holdings::{self, Inventory};
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::types::Name;

/// The longest that one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(50);

/// Files of a snapshot, and files found, at most.
const FILES_MAX: usize = 100_000;
const FOUND_MAX: usize = 10_000;

/// The repositories of the config in force.
#[derive(Clone)]
pub(super) struct Repositories {
    pub(super) world: Arc<World>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    cancel: CancellationToken,
}

impl Repositories {
    pub(super) fn new(world: Arc<World>, config: watch::Receiver<Arc<Config>>, cancel: CancellationToken) -> Self {
        Self { world, config, cancel }
    }

    /// The named destination, or all of them.
    fn routes(&self, destination: Option<&Name>) -> Result<Vec<Route>, Trouble> {
        let config = self.config.borrow().clone();
        let chosen: Vec<Destination> = match destination {
            Some(name) => {
                vec![self.world.destination(&config, name)?]
            }
            None => config.destinations.values().cloned().collect(),
        };
        Ok(chosen.into_iter().map(|destination| self.route(destination, &config)).collect())
    }

    fn route(&self, destination: Destination, config: &Config) -> Route {
        Route {
            world: self.world.clone(),
            per_destination: config.site.concurrency.per_destination,
            context: Context {
                cancel: self.cancel.child_token(),
                log: Log::discard(),
                // The engine hides the password from whatever it says.
                redact: Redactor::default(),
                mark: format!("{}:query", self.world.state_id),
            },
            deadline: QUESTION_MAX,
            destination,
        }
    }

    async fn list(self, query: SnapshotListParams) -> Result<Vec<SnapshotInfo>, Trouble> {
        let mut found = Vec::new();
        for (name, inventory) in self.inventories(query.destination.as_ref()).await? {
            let now = self.world.clock.now();
            for snapshot in &inventory.listing {
                let of_target = query.target.as_ref().is_none_or(|name| snapshot.tag("target") == Some(name.as_str()));
                let order = inventory.order(&snapshot.id);
                // What Larder did not make is nobody's.
                let is_ours = order.is_some() || inventory.is_copy(&snapshot.id);
                let is_others = !is_ours && snapshot.tag("target").is_some();
                if of_target && (query.all || !is_others) {
                    found.push((order, info(name.clone(), snapshot, is_ours, now)));
                }
            }
        }
        // The order of runs, not of dates; of others only the dates are known.
        found.sort_by(|(a_order, a), (b_order, b)| (b_order, b.at, &a.id).cmp(&(a_order, a.at, &b.id)));
        Ok(found.into_iter().map(|(_, info)| info).collect())
    }

    /// What each destination holds. With several, one that cannot answer is left out as long as another can.
    async fn inventories(&self, destination: Option<&Name>) -> Result<Vec<(Name, Inventory)>, Trouble> {
        let (mut found, mut first) = (Vec::new(), None);
        let artifacts = self.config.borrow().site.artifacts.clone();
        for route in self.routes(destination)? {
            match holdings::take(&route, &artifacts).await {
                Ok(inventory) => found.push((route.destination.name.clone(), inventory)),
                Err(trouble) => {
                    tracing::warn!(destination = %route.destination.name, %trouble, "cannot list snapshots");
                    first.get_or_insert(trouble);
                }
            }
        }
        match first {
            Some(trouble) if found.is_empty() => Err(trouble),
            _ => Ok(found),
        }
    }

    async fn list_files(self, query: SnapshotFilesParams) -> Result<Vec<FileInfo>, Trouble> {
        let mut files = Vec::new();
        for route in self.routes(Some(&query.destination))? {
            let (restic, access) = route.open().await?;
            let list = restic
                .list_files(&access, &query.snapshot, FILES_MAX, &route.context)
                .await
                .map_err(|error| error.trouble())?;
            files.extend(list.entries.into_iter().filter(|entry| is_below(entry, query.path.as_deref())).map(file));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    async fn find_files(self, query: FindParams) -> Result<Vec<FoundFile>, Trouble> {
        let tags: Vec<String> = query.target.iter().map(|target| format!("target:{target}")).collect();
        let artifacts = self.config.borrow().site.artifacts.clone();
        let mut found = Vec::new();
        for route in self.routes(query.destination.as_ref())? {
            let (restic, access) = route.open().await?;
            let inventory = holdings::list(&route, &restic, &access, &artifacts).await?;
            // Ours only: another site's target of this name is another one.
            let ours = inventory.listing.iter().filter_map(|each| Some((&each.id, (inventory.order(&each.id)?, each))));
            let known: BTreeMap<&String, (u64, &Snapshot)> = ours.collect();
            let hits = restic
                .find(&access, &query.pattern, &tags, FOUND_MAX, &route.context)
                .await
                .map_err(|error| error.trouble())?;
            for hit in hits {
                let Some((order, snapshot)) = known.get(&hit.snapshot) else { continue };
                let file = FoundFile {
                    destination: route.destination.name.clone(),
                    snapshot: hit.snapshot,
                    at: snapshot.time,
                    target: snapshot.tag("target").and_then(|name| Name::parse(name).ok()),
                    file: file(hit.entry),
                };
                found.push((*order, file));
            }
        }
        found.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.file.path.cmp(&b.file.path)));
        Ok(found.into_iter().map(|(_, file)| file).collect())
    }
}

fn info(destination: Name, snapshot: &Snapshot, ours: bool, now: Timestamp) -> SnapshotInfo {
    let name = |kind: &str| snapshot.tag(kind).and_then(|name| Name::parse(name).ok());
    SnapshotInfo {
        destination,
        target: name("target"),
        policy: name("policy"),
        run: snapshot.tag("run").and_then(|run| run.parse().ok()),
        id: snapshot.id.clone(),
        at: snapshot.time,
        paths: snapshot.paths.clone(),
        bytes: snapshot.bytes,
        files: snapshot.files,
        site: snapshot.tag("site").map(str::to_owned),
        ours,
        future: retention::is_future(snapshot.time, now),
    }
}

fn is_below(entry: &Entry, path: Option<&str>) -> bool {
    let Some(path) = path.map(|path| path.trim_end_matches('/')) else { return true };
    entry.path == path || entry.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn file(entry: Entry) -> FileInfo {
    FileInfo { path: entry.path, kind: entry.kind, size: entry.bytes, modified: entry.modified }
}

impl Queries for Repositories {
    fn snapshots(&self, query: SnapshotListParams) -> Answer<Vec<SnapshotInfo>> {
        Box::pin(self.clone().list(query))
    }

    fn files(&self, query: SnapshotFilesParams) -> Answer<Vec<FileInfo>> {
        Box::pin(self.clone().list_files(query))
    }

    fn doctor(&self) -> Answer<Vec<Checkup>> {
        Box::pin(self.clone().look_around())
    }

    fn find(&self, query: FindParams) -> Answer<Vec<FoundFile>> {
        Box::pin(self.clone().find_files(query))
    }
}
