//! Which snapshot a restore takes: the one that is named, else the one of our newest run in any destination.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::config::model::Artifacts;
use crate::daemon::upkeep::short;
use crate::engine::Snapshot;
use crate::error::{Code, Trouble, codes};
use crate::run::hold::HoldKind;
use crate::run::holdings::Known;
use crate::run::holdings::newer::Newer;
use crate::runner::control::{OperationId, RestoreRequest};
use crate::runner::holdings::{self, Inventory};
use crate::runner::route::Route;
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::record::JobRecord;
use crate::types::{JobId, Name};

/// Ids that are named where several fit.
const NAMED_MAX: usize = 10;

/// What is restored, and from where.
pub(super) struct Chosen<'r> {
    pub(super) route: &'r Route,
    pub(super) snapshot: Snapshot,
    /// Whose it is, when it was named and is not ours.
    pub(super) of_another_site: Option<String>,
}

/// The order of a run, and its date where two have one order: what turned up late has that of the one that it stands before.
type Place = (u64, Timestamp);

/// What one destination has of what was asked for.
enum Choice {
    Found {
        snapshot: Box<Snapshot>,
        /// Its place in the order of our runs; none: it is not ours.
        place: Option<Place>,
        of_another_site: Option<String>,
    },
    /// What was named begins the ids of several.
    Several(BTreeSet<String>),
    None {
        /// What there is of others, in words.
        of_others: Option<String>,
    },
}

/// One that may be taken.
struct Candidate<'r> {
    place: Place,
    chosen: Chosen<'r>,
    inventory: Inventory,
}

/// Looks at every destination: the first by name need not have the newest run.
///
/// # Errors
/// When no destination has what is asked for; when the newest run was made by another machine; and, where an application is
/// about to be replaced, when a newer run is known to be in a destination that cannot be read.
pub(super) async fn choose<'r>(
    routes: &'r [Route],
    request: &RestoreRequest,
    artifacts: &Artifacts,
    id: OperationId,
) -> Result<Chosen<'r>, Trouble> {
    let (mut found, mut silent, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut named: Vec<(Chosen<'r>, Inventory)> = Vec::new();
    if request.snapshot.as_deref().is_some_and(str::is_empty) {
        return Err(Trouble::new(codes::INVALID_SNAPSHOT, "`snapshot` is empty, and no snapshot is called so")
            .with_hint(format!(
                "name one (see `larder snapshots {}`), or leave it out for that of the newest run",
                request.target
            )));
    }
    note_loss(routes, id)?;
    for route in routes {
        let inventory = match holdings::take(route, artifacts).await {
            Ok(inventory) => inventory,
            Err(trouble) => {
                silent.push((route, trouble));
                continue;
            }
        };
        note_newer(route, &inventory, request, id);
        match find(route, request, &inventory) {
            Choice::Found { snapshot, place, of_another_site } => {
                let chosen = Chosen { route, snapshot: *snapshot, of_another_site };
                match place.filter(|_| request.snapshot.is_none()) {
                    Some(place) => found.push(Candidate { place, chosen, inventory }),
                    None => {
                        let is_whole = request.snapshot.as_ref() == Some(&chosen.snapshot.id);
                        named.push((chosen, inventory));
                        if is_whole {
                            break;
                        }
                    }
                }
            }
            Choice::Several(ids) => return Err(ambiguous(request, &ids.iter().map(String::as_str).collect())),
            Choice::None { of_others } => others.extend(of_others),
        }
    }
    // A copy of a repository has the same ids.
    let ids: BTreeSet<&str> = named.iter().map(|(each, _)| each.snapshot.id.as_str()).collect();
    if ids.len() > 1 {
        return Err(ambiguous(request, &ids));
    }
    if let Some((chosen, inventory)) = named.into_iter().next() {
        note_altered(chosen.route, &inventory, &chosen.snapshot, id);
        return Ok(chosen);
    }
    let Some(best) = newest(found) else { return Err(nothing(request, silent, others)) };
    of_this_machine(&best, request)?;
    note_altered(best.chosen.route, &best.inventory, &best.chosen.snapshot, id);
    for (route, trouble) in silent {
        let known = known_of(route, &request.target).await?;
        let newer = known.newest.filter(|known| (known.order, known.time) > best.place);
        match (newer, known.doubt) {
            (Some(newer), _) => unread(route, &trouble, &newer, request, id)?,
            (None, Some(doubt)) => doubted(route, &trouble, doubt, request, id)?,
            (None, None) => {
                let name = &route.destination.name;
                let told = format!(
                    "note: {name} could not be looked at ({}); no newer run is known to be there",
                    trouble.message
                );
                route.world.operations.line(id, &told);
            }
        }
    }
    note_holds(&best.chosen, id)?;
    Ok(best.chosen)
}

/// The one of the newest run; of several places that have that run, the first where it is as its run made it.
fn newest(found: Vec<Candidate<'_>>) -> Option<Candidate<'_>> {
    let newest = found.iter().max_by_key(|candidate| candidate.place)?;
    let place = newest.place;
    let run = newest.chosen.snapshot.tag("run").map(str::to_owned);
    let is_it = |each: &Candidate<'_>| match &run {
        Some(run) => each.chosen.snapshot.tag("run") == Some(run),
        None => each.place == place,
    };
    found.into_iter().filter(is_it).min_by_key(|each| each.inventory.is_altered(&each.chosen.snapshot.id))
}

fn nothing(request: &RestoreRequest, silent: Vec<(&Route, Trouble)>, others: Vec<String>) -> Trouble {
    if let Some((_, trouble)) = silent.into_iter().next() {
        return trouble;
    }
    if let Some(other) = others.into_iter().next() {
        return Trouble::new(
            codes::NO_SNAPSHOT,
            format!("no destination has a snapshot of {} that this site made; {other}", request.target),
        )
        .with_hint("`larder snapshots --all` lists them: restore one with `--snapshot ID`, or, if that site is this one before its state was lost, stop the daemon and run `larder rebuild --site IDENTITY`");
    }
    match &request.snapshot {
        Some(snapshot) => Trouble::new(
            codes::UNKNOWN_SNAPSHOT,
            format!("no destination has a snapshot {snapshot} of {}", request.target),
        ),
        None => Trouble::new(codes::NO_SNAPSHOT, format!("no destination has a snapshot of {}", request.target)),
    }
    .with_hint("see `larder snapshots` for what there is")
}

/// What begins a snapshot's id and those of others as well.
fn ambiguous(request: &RestoreRequest, ids: &BTreeSet<&str>) -> Trouble {
    let named: Vec<&str> = ids.iter().take(NAMED_MAX).map(|id| short(id)).collect();
    let more = if ids.len() > NAMED_MAX { ", …" } else { "" };
    Trouble::new(
        codes::AMBIGUOUS_SNAPSHOT,
        format!(
            "{} snapshots of {} begin with {}: {}{more}",
            ids.len(),
            request.target,
            request.snapshot.as_deref().unwrap_or_default(),
            named.join(", ")
        ),
    )
    .with_hint(format!("give more of its id (see `larder snapshots {}`)", request.target))
}

/// Says that the newest run is where nothing could be looked at. An application is not put back to an older state than the
/// one that is asked for.
fn unread(
    route: &Route,
    trouble: &Trouble,
    newer: &Known,
    request: &RestoreRequest,
    id: OperationId,
) -> Result<(), Trouble> {
    let (name, target) = (&route.destination.name, &request.target);
    let message = format!(
        "the newest run of {target} (of {}) is in {name} alone, which cannot be read: {}",
        newer.time.strftime("%Y-%m-%d %H:%M UTC"),
        trouble.message
    );
    older_than_newest(route, codes::NEWEST_UNREADABLE, message, request, id)
}

/// Says that nobody knows whether the newest run is where nothing could be looked at, which is no better.
fn doubted(
    route: &Route,
    trouble: &Trouble,
    doubt: &str,
    request: &RestoreRequest,
    id: OperationId,
) -> Result<(), Trouble> {
    let name = &route.destination.name;
    let message = format!(
        "{name} could not be looked at ({}), and {doubt}, so whether a newer run of {} is there is not known",
        trouble.message, request.target
    );
    older_than_newest(route, codes::NEWEST_UNKNOWN, message, request, id)
}

fn older_than_newest(
    route: &Route,
    code: Code,
    message: String,
    request: &RestoreRequest,
    id: OperationId,
) -> Result<(), Trouble> {
    if request.into.is_some() && !request.dry_run {
        return Err(Trouble::new(code, message).with_hint(format!(
            "bring {} back, or name what is to be put back instead: `--snapshot ID` (see `larder snapshots {}`)",
            route.destination.name, request.target
        )));
    }
    route.world.operations.line(id, &format!("note: {message}; what is restored may be older"));
    Ok(())
}

/// What is known of a destination that could not be looked at.
struct KnownThere {
    /// The newest snapshot of the target by this site's books.
    newest: Option<Known>,
    /// Why the books may know less than is there.
    doubt: Option<&'static str>,
}

async fn known_of(route: &Route, target: &Name) -> Result<KnownThere, Trouble> {
    let (ledger, name, target) = (route.world.ledger.clone(), route.destination.name.clone(), target.clone());
    let read = move || {
        let books = ledger.books(&name)?;
        let of_target = books.by_job.into_iter().filter(|(job, _)| job.target == target);
        let there =
            of_target.flat_map(|(_, known)| known.into_values()).filter(|known| !known.missing && !known.leaving);
        let newest = there.max_by_key(|known| (known.order, known.time));
        let doubt = doubt(&ledger, &name, &target)?;
        Ok::<_, StoreError>(KnownThere { newest, doubt })
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Trouble::new(codes::INTERNAL, error.to_string()))?
        .map_err(|error| error.trouble())
}

/// Why the state may know less of a destination than is there: it was lost, or is older, and this one was not listed since.
fn doubt(ledger: &Ledger, destination: &Name, target: &Name) -> Result<Option<&'static str>, StoreError> {
    let listed = ledger.holdings(destination)?.map(|seen| seen.at);
    let is_before = |at: Timestamp| listed.is_none_or(|listed| listed < at);
    if ledger.newest_loss()?.is_some_and(|loss| is_before(loss.at)) {
        return Ok(Some("the state was lost since it was listed"));
    }
    let jobs = ledger.jobs()?.into_iter().filter(|job| job.id.target == *target);
    let is_older = |job: &JobRecord| {
        job.holds.iter().any(|hold| hold.kind == HoldKind::OlderState)
            || job.accepted.iter().any(|each| each.kind == HoldKind::OlderState && is_before(each.at))
    };
    Ok(jobs.into_iter().any(|job| is_older(&job)).then_some("the state is older than the repositories"))
}

fn note_loss(routes: &[Route], id: OperationId) -> Result<(), Trouble> {
    let Some(Route { world, .. }) = routes.first() else { return Ok(()) };
    if let Some(damage) = world.ledger.loss().map_err(|error| error.trouble())? {
        world.operations.line(id, &format!("note: {}; the newest run by the repository is taken", damage.sentence()));
    }
    Ok(())
}

fn note_newer(route: &Route, inventory: &Inventory, request: &RestoreRequest, id: OperationId) {
    for newer in inventory.sorted.holdings.newer.iter().filter(|newer| newer.job.target == request.target) {
        let told = holdings::older::told(&route.destination.name, newer);
        route.world.operations.line(id, &format!("note: {}", told.message));
    }
}

fn note_altered(route: &Route, inventory: &Inventory, snapshot: &Snapshot, id: OperationId) {
    if inventory.is_altered(&snapshot.id) {
        let line = format!(
            "note: the snapshot {} is not what its run made any more: somebody wrote it anew (`restic repair` or `rewrite`), \
             and files may be missing from it or empty",
            short(&snapshot.id)
        );
        route.world.operations.line(id, &line);
    }
}

/// The newest backup need not have everything: says what is held for having less than usual.
fn note_holds(chosen: &Chosen<'_>, id: OperationId) -> Result<(), Trouble> {
    let Chosen { route, snapshot, .. } = chosen;
    let tag = |name| snapshot.tag(name).and_then(|name| Name::parse(name).ok());
    let (Some(target), Some(policy)) = (tag("target"), tag("policy")) else { return Ok(()) };
    let job = route.world.ledger.job(&JobId { target, policy }).map_err(|error| error.trouble())?;
    let less = |kind| matches!(kind, HoldKind::Shrank | HoldKind::LostMount | HoldKind::Incomplete);
    for hold in job.iter().flat_map(|job| &job.holds).filter(|hold| less(hold.kind)) {
        let since = hold.since.strftime("%Y-%m-%d %H:%M UTC");
        let line = format!("note: held since {since}: {}; an older snapshot may have more", hold.trouble.message);
        route.world.operations.line(id, &line);
    }
    Ok(())
}

/// The snapshot that is named, else the one of our newest run, whatever the dates say.
fn find(route: &Route, request: &RestoreRequest, inventory: &Inventory) -> Choice {
    let of_target = inventory.listing.iter().filter(|each| each.tag("target") == Some(request.target.as_str()));
    let wanted = request.snapshot.as_deref();
    let found: Vec<&Snapshot> =
        of_target.filter(|each| wanted.is_none_or(|prefix| each.id.starts_with(prefix))).collect();
    if found.len() > 1 && wanted.is_some() {
        return Choice::Several(found.iter().map(|each| each.id.clone()).collect());
    }
    let ours = found.iter().filter_map(|each| Some(((inventory.order(&each.id)?, each.time), *each)));
    if let Some((place, snapshot)) = ours.max_by_key(|(place, _)| *place) {
        return Choice::Found { snapshot: Box::new(snapshot.clone()), place: Some(place), of_another_site: None };
    }
    let other = found.into_iter().max_by_key(|snapshot| snapshot.time);
    match (other, wanted) {
        (Some(snapshot), Some(_)) => {
            let of_another_site = Some(if inventory.is_copy(&snapshot.id) {
                "a second one of its run, as `restic rewrite` and `copy` make them".to_owned()
            } else {
                whose(snapshot)
            });
            Choice::Found { snapshot: Box::new(snapshot.clone()), place: None, of_another_site }
        }
        (Some(snapshot), None) => Choice::None {
            of_others: Some(format!(
                "the newest in {} is {}, {}",
                route.destination.name,
                short(&snapshot.id),
                whose(snapshot)
            )),
        },
        (None, _) => Choice::None { of_others: None },
    }
}

/// What another machine made by a copy of this state is restored by name only.
fn of_this_machine(best: &Candidate<'_>, request: &RestoreRequest) -> Result<(), Trouble> {
    let Candidate { chosen: Chosen { route, snapshot, .. }, inventory, .. } = best;
    let (on, name) = (snapshot.tag("on"), &route.destination.name);
    let of_target =
        |newer: &&Newer| newer.job.target == request.target && newer.on.is_some() && newer.on.as_deref() == on;
    let Some(newer) = inventory.sorted.holdings.newer.iter().find(of_target) else { return Ok(()) };
    let target = &request.target;
    let before =
        inventory.listing.iter().filter(|each| each.tag("target") == Some(target.as_str()) && each.tag("on") != on);
    let own = before.filter_map(|each| Some((inventory.order(&each.id)?, each))).max_by_key(|(order, _)| *order);
    let own = own.map_or_else(
        || "none of this machine is left".to_owned(),
        |(_, each)| format!("the newest of this machine is `--snapshot {}`", short(&each.id)),
    );
    Err(Trouble::new(
        codes::OLDER_STATE,
        format!(
            "the newest snapshot of {target} in {name} was made on {} by a run that this state does not know: which one is meant?",
            on.unwrap_or_default()
        ),
    )
    .with_hint(format!(
        "`larder restore {target} --snapshot {}` takes that one, {own}; {}",
        short(&snapshot.id),
        holdings::older::told(name, newer).hint.unwrap_or_default()
    )))
}

fn whose(snapshot: &Snapshot) -> String {
    match snapshot.tag("site") {
        Some(site) => format!("of another site ({}, identity {site})", snapshot.host),
        None => format!("of an older Larder ({}) that this site's history does not have", snapshot.host),
    }
}
