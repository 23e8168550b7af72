//! One copy: what a destination lacks of another one is copied there by one call, listed, and compared with what was wanted.
//!
//! Nothing that is gone from the source is gone from the copy for that: what the copy gives up is decided over its own listing,
//! by the rules of the policies, and not while a job is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::model::{Artifacts, Config, CopyRule, Destination, Retention};
use crate::engine::{CopyProgress, EngineError, Snapshot};
use crate::error::{Kind, Trouble, codes};
use crate::run::copying::{self, Standing, Wanted};
use crate::run::retention::{self, Candidate};
use crate::runner::forget::{Rules, holding};
use crate::runner::holdings::{self, Inventory, blocking};
use crate::runner::route::{Route, named, present};
use crate::runner::ship::Asks;
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::record::{JobRecord, WholeCopy};
use crate::types::{JobId, Name};

/// What is copied, from where, and what of it is kept.
#[derive(Clone, Debug)]
pub struct CopyOrder {
    pub from: Destination,
    rule: CopyRule,
    rules: Rules,
}

impl CopyOrder {
    /// That of `config` for the destination `name`; none: it is no copy, or the source is not there.
    #[must_use]
    pub fn of(config: &Config, name: &Name) -> Option<Self> {
        let rule = config.destinations.get(name)?.copy.clone()?;
        let from = config.destinations.get(&rule.from)?.clone();
        Some(Self { from, rule, rules: Rules::of(config, name) })
    }

    fn artifacts(&self) -> &Artifacts {
        &self.rules.artifacts
    }

    /// By what rules the copy keeps snapshots of `job`.
    fn kept_by(&self, job: &JobId) -> Option<(Retention, TimeZone)> {
        let (retention, zone) = self.rules.by_job.get(job)?;
        Some((retention.clone(), TimeZone::get(zone).unwrap_or(TimeZone::UTC)))
    }

    /// What the ledger says that the copy `to` lacks; nothing of a job that is `held` is superfluous.
    fn standing(
        &self,
        ledger: &Ledger,
        to: &Name,
        held: &BTreeSet<JobId>,
        now: Timestamp,
    ) -> Result<Standing, StoreError> {
        let (source, copy) = (ledger.books(&self.from.name)?, ledger.books(to)?);
        let rules = |job: &JobId| self.kept_by(job).filter(|_| !held.contains(job));
        Ok(copying::standing(&source, &copy, &|job| self.rule.takes(job), &rules, now))
    }
}

/// What is in each copy of `config`, against where it is copied from, as far as the repositories were listed.
///
/// # Errors
/// When the store cannot be read.
pub fn standings(ledger: &Ledger, config: &Config, now: Timestamp) -> Result<BTreeMap<Name, Standing>, StoreError> {
    let orders = config.destinations.keys().filter_map(|name| Some((name, CopyOrder::of(config, name)?)));
    let mut held = None;
    let mut all = BTreeMap::new();
    for (name, order) in orders {
        let held = match &held {
            Some(held) => held,
            None => held.insert(held_jobs(&ledger.jobs()?)),
        };
        all.insert(name.clone(), order.standing(ledger, name, held, now)?);
    }
    Ok(all)
}

fn held_jobs(jobs: &[JobRecord]) -> BTreeSet<JobId> {
    jobs.iter().filter(|job| !job.holds.is_empty()).map(|job| job.id.clone()).collect()
}

/// A copy behind which all is there that was wanted.
#[derive(Clone, Debug)]
pub struct Copied {
    pub whole: WholeCopy,
    pub lines: Vec<String>,
    /// What is wrong with one of the two all the same, such as snapshots that vanished.
    pub trouble: Option<Trouble>,
}

/// A copy that did not come to its end, and which of the two destinations that is about.
#[derive(Debug)]
pub struct Broken {
    pub of: Name,
    pub trouble: Trouble,
}

impl Broken {
    fn of(route: &Route) -> impl Fn(Trouble) -> Self + '_ {
        let of = &route.destination;
        move |trouble| Self { of: of.name.clone(), trouble: named(of, trouble) }
    }
}

/// How long restic may come to no progress: it looks through all that a snapshot holds before it says a word.
const STALL: Duration = Duration::from_hours(2);

/// Copies what `to` lacks.
///
/// # Errors
/// One of the two is away or cannot be used, restic could not copy, or something is not there afterwards.
pub async fn copy(
    to: &Route,
    order: &CopyOrder,
    mut on_progress: impl FnMut(CopyProgress) + Send,
) -> Result<Copied, Broken> {
    let source = Route { destination: order.from.clone(), ..to.clone() };
    let (from, name) = (&order.from.name, &to.destination.name);
    let world = &to.world;
    // In milliseconds, where restic would try for minutes.
    available(&source).await?;
    available(to).await?;
    let (of_source, of_copy) = (Broken::of(&source), Broken::of(to));
    // The source first: nothing is made for a source that is not what it was.
    let (restic, there) = source.open().await.map_err(&of_source)?;
    let at = world.clock.now();
    let in_source = holdings::list(&source, &restic, &there, order.artifacts()).await.map_err(&of_source)?;
    let (restic, here) = to.open_or_make_like(&there).await.map_err(&of_copy)?;
    let restic = restic.with_stall(STALL);
    let before = holdings::list(to, &restic, &here, order.artifacts()).await.map_err(&of_copy)?;
    let decided = decide(to, order, [&in_source, &before]).await.map_err(&of_copy)?;
    let by_id: BTreeMap<&str, &Snapshot> = in_source.listing.iter().map(|each| (each.id.as_str(), each)).collect();
    let lacks = |wanted: &&Wanted, listing: &[Snapshot]| {
        by_id.get(wanted.id.as_str()).is_none_or(|origin| !listing.iter().any(|each| is_copy(each, origin)))
    };
    let missing: Vec<&Wanted> = decided.wanted.iter().filter(|wanted| lacks(wanted, &before.listing)).collect();
    let mut after = before;
    if !missing.is_empty() {
        let ids: Vec<String> = missing.iter().map(|wanted| wanted.id.clone()).collect();
        let call = restic.copy(&there, &here, &ids, &to.context, &mut on_progress);
        let failed = match call.await {
            Ok(()) => None,
            Err(error) => Some(whose(to, &source, error).await),
        };
        // What arrived before it broke off is there.
        let listed = holdings::list(to, &restic, &here, order.artifacts()).await;
        if let Some(broken) = failed {
            return Err(broken);
        }
        after = listed.map_err(&of_copy)?;
        let left = missing.iter().filter(|wanted| lacks(wanted, &after.listing)).count();
        if left > 0 {
            let message = format!(
                "{left} of {} that were to be copied from {from} are not in {name}, although restic says that it copied them",
                plural(missing.len() as u64)
            );
            let hint = format!(
                "it is tried again; if that does not help: `larder destination check {name}` and `larder destination check {from}`"
            );
            return Err(of_copy(Trouble::new(codes::COPY_INCOMPLETE, message).with_hint(hint)));
        }
    }
    let mut lines = vec![match missing.len() as u64 {
        0 => format!("nothing of {from} is missing in {name}"),
        count => format!("{} copied from {from} to {name}", plural(count)),
    }];
    if decided.altered > 0 {
        lines.push(format!(
            "notice: {} in {from} {} not what the runs made any more, and not copied",
            plural(decided.altered),
            if decided.altered == 1 { "is" } else { "are" }
        ));
    }
    lines.extend(retain(to, order, [&in_source, &after]).await.map_err(&of_copy)?);
    let trouble = in_source.complete(from).err().map(|trouble| kept_here(trouble, &in_source, name));
    let trouble = trouble.or(after.complete(name).err());
    Ok(Copied { whole: WholeCopy { at, copied: missing.len() as u64 }, lines, trouble })
}

/// What vanished from the source is not gone from the copy for that.
fn kept_here(trouble: Trouble, source: &Inventory, name: &Name) -> Trouble {
    if source.sorted.holdings.missing.is_empty() {
        return trouble;
    }
    Trouble { message: format!("{}; {name} keeps what it has of them", trouble.message), ..trouble }
}

async fn available(route: &Route) -> Result<(), Broken> {
    present(&route.world, &route.destination, Asks::Anew).await.map_err(Broken::of(route))
}

/// Whose fault it is that a copy broke off: one call works on both.
async fn whose(to: &Route, source: &Route, error: EngineError) -> Broken {
    let trouble = error.trouble();
    let of = to.destination.name.clone();
    if trouble.kind() == Some(Kind::Cancelled) {
        return Broken { of, trouble };
    }
    for route in [source, to] {
        if let Err(away) = available(route).await {
            return away;
        }
    }
    let message = format!("copying from {} to {of}: {}", source.destination.name, trouble.message);
    Broken { of, trouble: Trouble { message, ..trouble } }
}

/// Whether `each` is of the run that made `origin`, and holds the same.
fn is_copy(each: &Snapshot, origin: &Snapshot) -> bool {
    let of_one = |kind: &str| each.tag(kind) == origin.tag(kind);
    let by_run = origin.tag("run").is_some() && ["run", "target", "policy", "site"].into_iter().all(of_one);
    let by_original = each
        .original
        .as_ref()
        .is_some_and(|original| *original == origin.id || origin.original.as_ref() == Some(original));
    (by_run || by_original) && each.tree == origin.tree
}

async fn decide(to: &Route, order: &CopyOrder, seen: [&Inventory; 2]) -> Result<Standing, Trouble> {
    let found = found(seen);
    let (world, order, name) = (to.world.clone(), order.clone(), to.destination.name.clone());
    blocking(move || {
        let mut held = held_jobs(&world.ledger.jobs()?);
        held.extend(found);
        order.standing(&world.ledger, &name, &held, world.clock.now())
    })
    .await
}

/// The jobs that the listings hold.
fn found(seen: [&Inventory; 2]) -> BTreeSet<JobId> {
    seen.into_iter().flat_map(|inventory| holding(&inventory.sorted.holdings)).collect()
}

/// Gives up what the policies do not keep in the copy; what was not given up for a reason is said.
async fn retain(to: &Route, order: &CopyOrder, seen: [&Inventory; 2]) -> Result<Option<String>, Trouble> {
    if to.destination.append_only {
        return Ok(None);
    }
    let [_, here] = seen;
    let (world, found) = (to.world.clone(), found(seen));
    let jobs = blocking(move || world.ledger.jobs()).await?;
    let now = to.world.clock.now();
    let mut waits = Vec::new();
    for job in jobs.iter().filter(|job| job.holds.is_empty() && !found.contains(&job.id)) {
        let Some((rules, zone)) = order.kept_by(&job.id) else { continue };
        let there: Vec<Candidate> = here.sorted.ours.get(&job.id).into_iter().flatten().map(Candidate::from).collect();
        let gone = retention::superfluous(&there, &rules, &zone, now);
        if gone.is_empty() {
            continue;
        }
        // Who changed the rules is asked by the runs, where they ship to; what is asked there goes for the copy, too.
        let before = job.usual.rules(&order.from.name);
        if before != Some(&rules) && retention::cut(&there, before, &rules, &zone, now).is_some() {
            waits.push(job.id.to_string());
            continue;
        }
        holdings::leaving::give_up(to, &job.id, &gone).await?;
    }
    Ok((!waits.is_empty()).then(|| {
        format!(
            "notice: nothing of {} is forgotten there: its policy keeps far less than before, and no run into {} has \
             forgotten by it yet",
            waits.join(", "),
            order.from.name
        )
    }))
}

fn plural(count: u64) -> String {
    format!("{count} {}", if count == 1 { "snapshot" } else { "snapshots" })
}
