//! What a repository holds against what the ledger knows: one listing, sorted out and written down.
//!
//! The ledger is read before the listing, so what is shipped or forgotten meanwhile is not missed.

pub mod altered;
pub mod leaving;
pub mod older;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use crate::config::model::Artifacts;
use crate::engine::{RepositoryAccess, Restic, Snapshot};
use crate::error::{Kind, Trouble, codes};
use crate::run::hold::{Finding, HoldKind, accept_command};
use crate::run::holdings::{self, Books, Foreign, Holdings, Missing, Question, Seen, Sorted};
use crate::run::holdings::{newer, renamed};
pub use crate::runner::inventory::Inventory;
use crate::runner::listings::Of;
use crate::runner::lost;
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::store::damage::Damage;
use crate::store::ledger::Ledger;
use crate::store::{Batch, StoreError};
use crate::types::site::SiteId;
use crate::types::{JobId, Name, RunId};

/// What `restic repair snapshots` tags what it writes beside the other one.
const REPAIRED: &str = "repaired";

/// Jobs that left the config and miss snapshots, as far as they are named.
const LINES_MAX: usize = 20;

impl Inventory {
    /// An error where the state is older than the repository, or snapshots are gone from it without us.
    ///
    /// # Errors
    /// The worst of what vanished, and how many other jobs miss some, too.
    pub fn complete(&self, name: &Name) -> Result<(), Trouble> {
        if let Some(newer) = self.sorted.holdings.newer.iter().max_by_key(|newer| newer.snapshots) {
            return Err(older::told(name, newer));
        }
        if let Some(altered) = self.sorted.holdings.altered.iter().max_by_key(|each| (each.newest, each.snapshots)) {
            return Err(altered::told(name, altered));
        }
        let missing = &self.sorted.holdings.missing;
        let Some(worst) = missing.iter().max_by_key(|missing| (missing.newest, missing.snapshots)) else {
            return Ok(());
        };
        let mut trouble = vanished(name, worst);
        match missing.len() - 1 {
            0 => {}
            1 => trouble.message.push_str("; another job misses some, too"),
            more => trouble.message.push_str(&format!("; {more} other jobs miss some, too")),
        }
        Err(trouble)
    }

    /// What the repository holds, in a few lines.
    #[must_use]
    pub fn lines(&self, name: &Name) -> Vec<String> {
        let seen = &self.sorted.holdings;
        let none = if seen.missing_orphaned.is_empty() { "none is missing" } else { "none of the config is missing" };
        let mut lines = vec![format!("{} snapshots, {} of them of this site, and {none}", seen.snapshots, seen.ours)];
        lines.extend(seen.missing_orphaned.iter().take(LINES_MAX).map(|missing| {
            let (job, count) = (&missing.job, missing.snapshots);
            let noun = if count == 1 { "snapshot is" } else { "snapshots are" };
            format!(
                "notice: of {job}, which left the config, {count} {noun} gone from {name}; Larder did not forget them"
            )
        }));
        if seen.copies > 0 {
            let noun = if seen.copies == 1 { "snapshot of a run" } else { "snapshots of runs" };
            lines.push(format!(
                "notice: {} second {noun} that {name} has another one of (`restic rewrite` or `copy`): no retention counts \
                 or forgets them",
                seen.copies
            ));
        }
        if seen.future > 0 {
            lines
                .push(format!("{} of them are dated in the future: they stay, and push no other one out", seen.future));
        }
        lines.extend(seen.foreign.iter().map(|other| {
            let trouble = shared(name, other);
            match trouble.hint {
                Some(hint) => format!("notice: {} ({hint})", trouble.message),
                None => format!("notice: {}", trouble.message),
            }
        }));
        lines
    }
}

/// Lists the repository and writes down what it holds.
///
/// # Errors
/// When restic could not list it, or the store cannot be read or written.
pub async fn take(route: &Route, artifacts: &Artifacts) -> Result<Inventory, Trouble> {
    let listed = match route.open().await {
        Ok((restic, access)) => list(route, &restic, &access, artifacts).await,
        Err(trouble) => Err(trouble),
    };
    note_loss(route, listed.as_ref().err());
    listed
}

/// Whoever found that the repository is lost: the pages say so from then on, until somebody finds it.
fn note_loss(route: &Route, trouble: Option<&Trouble>) {
    let is_loss = |trouble: &Trouble| trouble.is_of(Kind::Lost);
    let noted = match trouble {
        None => route.world.note_destination(&route.destination, |record| {
            record.trouble = record.trouble.take().filter(|before| !is_loss(before));
        }),
        Some(trouble) if is_loss(trouble) => {
            route.world.note_destination(&route.destination, |record| record.trouble = Some(trouble.clone()))
        }
        Some(_) => return,
    };
    if let Err(error) = noted {
        tracing::error!(destination = %route.destination.name, error = %crate::error::chain(&error), "cannot note a loss");
    }
    route.world.listed.notify_one();
}

/// As [`take`], with the repository open.
///
/// # Errors
/// As [`take`].
pub async fn list(
    route: &Route,
    restic: &Restic,
    access: &RepositoryAccess,
    artifacts: &Artifacts,
) -> Result<Inventory, Trouble> {
    take_stock(route, artifacts, listed(route, restic, access)).await
}

/// As [`list`], perhaps by the look of another run that began since.
///
/// # Errors
/// As [`list`].
pub async fn list_with_others(
    route: &Route,
    restic: &Restic,
    access: &RepositoryAccess,
    artifacts: &Artifacts,
) -> Result<Arc<Inventory>, Trouble> {
    let of =
        Of { name: route.destination.name.clone(), location: access.location.clone(), artifacts: artifacts.clone() };
    let own = Box::pin(list(route, restic, access, artifacts));
    route.world.listings.newest(of, &route.context.cancel, own).await
}

type Listing<'a> = Pin<Box<dyn Future<Output = Result<Vec<Snapshot>, Trouble>> + Send + 'a>>;

fn listed<'a>(route: &'a Route, restic: &'a Restic, access: &'a RepositoryAccess) -> Listing<'a> {
    Box::pin(async { restic.snapshots(access, &[], &route.context).await.map_err(|error| error.trouble()) })
}

async fn take_stock(route: &Route, artifacts: &Artifacts, listing: Listing<'_>) -> Result<Inventory, Trouble> {
    let known = route.world.site_if_known(artifacts).await?;
    // Nothing bears it: nothing is ours then, nothing of that is written down, and what is named can be restored.
    let (is_known, site) = (known.is_some(), known.unwrap_or_else(SiteId::generate));
    let name = route.destination.name.clone();
    let ledger = route.world.ledger.clone();
    let read = move || ledger.books(&name);
    let before = blocking(read).await?;
    let mut listing = listing.await?;
    let (world, name) = (route.world.clone(), route.destination.name.clone());
    let (seen, now, for_site) = (listing.iter().map(seen).collect::<Vec<_>>(), world.clock.now(), site.clone());
    let sorted = blocking(move || {
        let write = |ledger: &Ledger| {
            let (sorted, from_before, batch) = sort_out(ledger, &name, &for_site, &seen, &before, now)?;
            if is_known {
                ledger.commit(batch)?;
            }
            Ok((sorted, from_before))
        };
        let (sorted, from_before) = world.with_destinations(write)?;
        if from_before > 0 {
            let noun = if from_before == 1 { "snapshot" } else { "snapshots" };
            lost::note(
                &world,
                &format!("{name} holds {from_before} {noun} of this site by runs that it does not know"),
            )?;
        }
        Ok(sorted)
    })
    .await?;
    // What it means for the jobs is seen at once, whoever looked.
    route.world.listed.notify_one();
    mark(&mut listing, &sorted, &site);
    Ok(Inventory { listing, sorted, site })
}

/// Gives those of ours from which somebody took our marks (`restic tag --set`) these back, for whoever looks for them.
fn mark(listing: &mut [Snapshot], sorted: &Sorted, site: &SiteId) {
    for snapshot in listing {
        let Some((job, run)) = sorted.bare.get(&snapshot.id) else { continue };
        let marks =
            [("target", job.target.to_string()), ("policy", job.policy.to_string()), ("site", site.to_string())];
        let run = run.map(|run| ("run", run.to_string()));
        snapshot.tags.extend(marks.into_iter().chain(run).map(|(kind, value)| format!("{kind}:{value}")));
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Trouble> {
    let stopped = |error: tokio::task::JoinError| Trouble::new(codes::INTERNAL, format!("the store stopped: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(stopped)?.map_err(|error| error.trouble())
}

fn seen(snapshot: &Snapshot) -> Seen {
    let name = |kind: &str| snapshot.tag(kind).and_then(|name| Name::parse(name).ok());
    let job = name("target").zip(name("policy")).map(|(target, policy)| JobId { target, policy });
    Seen {
        id: snapshot.id.clone(),
        time: snapshot.time,
        job,
        run: snapshot.tag("run").and_then(|run| run.parse().ok()),
        site: snapshot.tag("site").map(str::to_owned),
        host: snapshot.host.clone(),
        original: snapshot.original.clone(),
        on: snapshot.tag("on").map(str::to_owned),
        tree: snapshot.tree.clone(),
        repaired: snapshot.tags.iter().any(|tag| tag == REPAIRED),
    }
}

/// Sorts out what was seen; with how many snapshots a state of before made, and what is to be written down.
fn sort_out(
    ledger: &Ledger,
    name: &Name,
    site: &SiteId,
    seen: &[Seen],
    before: &Books,
    now: jiff::Timestamp,
) -> Result<(Sorted, u64, Batch), StoreError> {
    let (mut books, mut before) = (ledger.books(name)?, before.clone());
    let renamed = renamed::renamed(seen, &books, site);
    books.rename(&renamed);
    before.rename(&renamed);
    let witnessed = witnessed(ledger, seen, &books)?;
    let jobs = ledger.jobs()?;
    let targets: BTreeSet<Name> =
        jobs.iter().filter(|job| job.orphaned_since.is_none()).map(|job| job.id.target.clone()).collect();
    let last = ledger.holdings(name)?;
    let not_known = |seen: &Seen| !seen.job.as_ref().is_some_and(|job| books.knows(job, &seen.id));
    let of_targets: BTreeSet<&Name> =
        seen.iter().filter(|seen| not_known(seen)).filter_map(|seen| Some(&seen.job.as_ref()?.target)).collect();
    let (elsewhere, right) = ledger.orders_elsewhere(name, &of_targets)?;
    let mut unknown_runs = unknown_runs(ledger, seen, &books)?;
    // Taken in elsewhere, where nothing is said against it: a repository that was renamed, or copied.
    unknown_runs.retain(|run| !right.contains(run));
    let under_way = ledger.open_runs()?.into_iter().map(|run| run.id);
    let newest_runs: BTreeSet<RunId> =
        jobs.iter().filter_map(|job| Some(job.last_run.as_ref()?.id)).chain(under_way).collect();
    let machine = crate::engine::machine();
    let question = Question {
        destination: name,
        site,
        then: &before,
        books: &books,
        witnessed: &witnessed,
        unknown_runs: &unknown_runs,
        elsewhere: &elsewhere,
        newest_runs: &newest_runs,
        machine: machine.as_deref(),
        targets: &targets,
        before: last.as_ref(),
        now,
    };
    let mut sorted = holdings::sort(seen, &question);
    let from_before = newer::from_before(&sorted, &question);
    // What left the config goes by somebody's hand: that is said, and is no trouble.
    let is_desired = |id: &JobId| jobs.iter().any(|job| job.id == *id && job.orphaned_since.is_none());
    let missing = std::mem::take(&mut sorted.holdings.missing);
    (sorted.holdings.missing, sorted.holdings.missing_orphaned) =
        missing.into_iter().partition(|missing| is_desired(&missing.job));
    sorted.holdings.newer.retain(|newer| is_desired(&newer.job));
    sorted.holdings.altered.retain(|altered| is_desired(&altered.job));
    lost_parents(&jobs, name, seen, &books, now, &mut sorted.holdings);
    sorted.holdings.missing.sort_by(|a, b| a.job.cmp(&b.job));
    let mut batch = Batch::default();
    for each in &renamed {
        batch.remove_known(name, &each.job, &each.from);
        batch.put_known(name, &each.job, &each.to, &each.known)?;
    }
    for (job, id, known) in &sorted.adopted {
        batch.put_known(name, job, id, known)?;
    }
    let highest = sorted.adopted.iter().map(|(_, _, known)| known.order).max();
    if let Some(highest) = highest.filter(|highest| *highest > books.highest) {
        batch.put_highest_order(highest)?;
    }
    for (job, id) in &sorted.gone {
        batch.remove_known(name, job, id);
    }
    for (job, id, known) in &sorted.changed {
        batch.put_known(name, job, id, known)?;
    }
    if last.as_ref().is_none_or(|last| Holdings { at: now, ..last.clone() } != sorted.holdings) || !batch.is_empty() {
        ledger.put_holdings(&mut batch, name, &sorted.holdings)?;
    }
    Ok((sorted, from_before, batch))
}

/// Those of the snapshots without a mark that a run in our ledger made.
fn witnessed(ledger: &Ledger, seen: &[Seen], books: &Books) -> Result<BTreeSet<String>, StoreError> {
    let mut witnessed = BTreeSet::new();
    let unmarked: Vec<(&JobId, &str)> = holdings::unmarked(seen, books).collect();
    let jobs: BTreeSet<&JobId> = unmarked.iter().map(|(job, _)| *job).collect();
    for job in jobs {
        let made = ledger.snapshots_made(job)?;
        let of_job = unmarked.iter().filter(|(of, id)| *of == job && made.contains(*id));
        witnessed.extend(of_job.map(|(_, id)| (*id).to_owned()));
    }
    Ok(witnessed)
}

fn unknown_runs(ledger: &Ledger, seen: &[Seen], books: &Books) -> Result<BTreeSet<RunId>, StoreError> {
    let mut unknown = BTreeSet::new();
    let mut oldest: BTreeMap<&JobId, Option<RunId>> = BTreeMap::new();
    // A loss explains what was made before it where nothing was brought back of what was known; beside an export of before,
    // only what an acceptance has covered.
    let knows_none = books.by_job.values().all(BTreeMap::is_empty);
    let explains = |loss: &Damage| loss.restored.is_none() || (knows_none && loss.accepted.is_some());
    let lost = ledger.newest_loss()?.filter(explains).map(|loss| loss.accepted.unwrap_or(loss.at));
    for (job, run) in newer::unknown_runs(seen, books) {
        if lost.is_some_and(|lost| run.time() <= lost) || ledger.remembers(job, run)? {
            continue;
        }
        // A history that is full has lost its oldest runs by itself.
        let pruned = match oldest.get(job) {
            Some(known) => *known,
            None => *oldest.entry(job).or_insert(ledger.oldest_of_full(job)?),
        };
        if pruned.is_none_or(|oldest| run > oldest) {
            unknown.insert(run);
        }
    }
    Ok(unknown)
}

/// Before the first listing that was written down nothing is known of a job's snapshots but the newest, which no
/// retention ever forgets.
fn lost_parents(
    jobs: &[crate::store::record::JobRecord],
    name: &Name,
    seen: &[Seen],
    books: &Books,
    now: jiff::Timestamp,
    holdings: &mut Holdings,
) {
    for job in jobs.iter().filter(|job| job.orphaned_since.is_none() && !books.by_job.contains_key(&job.id)) {
        let Some(parent) = job.parents.get(name) else { continue };
        let listed = holdings.missing.iter().any(|missing| missing.job == job.id);
        if listed || seen.iter().any(|seen| seen.id == *parent) {
            continue;
        }
        let made = job.last_success.as_ref().map_or(now, |last| last.finished);
        holdings.missing.push(Missing {
            job: job.id.clone(),
            snapshots: 1,
            newest: true,
            since: now,
            from: made,
            to: made,
            mark: holdings::mark::of(name, [parent.as_str()]),
        });
    }
}

/// The loss of what is missing of a job is accepted: it is known no longer.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept_missing(world: &World, name: &Name, job: &JobId) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let mut batch = Batch::default();
        for (id, _) in ledger.books(name)?.by_job.get(job).into_iter().flatten().filter(|(_, known)| known.missing) {
            batch.remove_known(name, job, id);
        }
        if let Some(mut seen) = ledger.holdings(name)? {
            seen.missing.retain(|missing| missing.job != *job);
            ledger.put_holdings(&mut batch, name, &seen)?;
            if seen.missing.is_empty() {
                forgive(ledger, name, Kind::Vanished, &mut batch)?;
            }
        }
        ledger.commit(batch)
    })
}

/// Whether no repository has a snapshot of the job any more, as far as they were listed.
///
/// # Errors
/// When the store cannot be read.
pub fn is_bare(ledger: &Ledger, job: &JobId) -> Result<bool, StoreError> {
    for (name, _) in ledger.all_holdings()? {
        let books = ledger.books(&name)?;
        let mut known = books.by_job.get(job).into_iter().flat_map(|known| known.values());
        if known.any(|known| !known.missing && !known.leaving) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The last check or prune that stumbled over what was accepted now found nothing else.
fn forgive(ledger: &Ledger, name: &Name, kind: Kind, batch: &mut Batch) -> Result<(), StoreError> {
    let Some(mut record) = ledger.destination(name)? else { return Ok(()) };
    for upkeep in [&mut record.check, &mut record.prune] {
        upkeep.trouble = upkeep.trouble.take().filter(|trouble| !trouble.is_of(kind));
    }
    batch.put_destination(&record)
}

/// From when they are.
fn dated(from: jiff::Timestamp, to: jiff::Timestamp) -> String {
    let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    if from == to { format!("of {}", day(to)) } else { format!("from {} to {}", day(from), day(to)) }
}

/// What is said of snapshots that are gone without us.
#[must_use]
pub fn vanished(name: &Name, missing: &Missing) -> Trouble {
    let (count, target) = (missing.snapshots, &missing.job.target);
    let (noun, verb) = if count == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
    let dated = dated(missing.from, missing.to);
    let newest = if missing.newest { ", the newest among them," } else { "" };
    Trouble::new(
        codes::SNAPSHOTS_VANISHED,
        format!(
            "{count} {noun} of {} {dated}{newest} {verb} gone from {name}, and Larder did not forget them",
            missing.job
        ),
    )
    .with_hint(format!(
        "find out who removed them, and do not prune: `restic recover` may bring the data back; \
         `{}` says that it is right",
        accept_command(target, &missing.value())
    ))
}

/// What holds a job whose newest snapshot is gone.
#[must_use]
pub fn lost(name: &Name, missing: &Missing) -> Finding {
    Finding {
        kind: HoldKind::Vanished,
        subject: name.to_string(),
        trouble: vanished(name, missing),
        value: Some(missing.value()),
        no_worse: false,
    }
}

/// What is said of another site in the same repository.
#[must_use]
pub fn shared(name: &Name, other: &Foreign) -> Trouble {
    let targets: Vec<&str> = other.targets.iter().map(Name::as_str).collect();
    let of = if targets.is_empty() { String::new() } else { format!(", also of {}", targets.join(", ")) };
    let noun = if other.snapshots == 1 { "snapshot" } else { "snapshots" };
    let (whose, hint) = match &other.site {
        Some(site) => (
            format!("another site ({}, identity {site})", other.host),
            format!(
                "each site keeps to its own; if that one is this site before its state was lost, stop the daemon and \
                 run `larder rebuild --site {site}`"
            ),
        ),
        None => (
            format!("an older Larder ({}) that this site's history does not have", other.host),
            "they are never forgotten by themselves; restore one with `--snapshot ID`".to_owned(),
        ),
    };
    Trouble::new(codes::SHARED_REPOSITORY, format!("{name} holds {} {noun} of {whose}{of}", other.snapshots))
        .with_hint(hint)
}
