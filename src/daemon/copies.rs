//! When a destination gets its copies: at its times, once on return where it was away, again where it failed; who is told.
//!
//! A copy that is due stays due until one is whole. Where a destination is away nothing is wrong yet; after hours somebody is
//! told, and so of a copy that takes so long.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::upkeep::{Locks, Start, slots};
use crate::config::model::{Config, CopyRule, Destination, Site};
use crate::error::{Kind, Trouble, codes};
use crate::runner::control::OperationId;
use crate::runner::copy::{self, Broken, Copied, CopyOrder};
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::schedule::Schedule;
use crate::schedule::slots::{UpkeepDecision, decide_upkeep};
use crate::store::record::{CopyRecord, DestinationRecord, is_of_who_is_away};
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// The longest that one may take: the first of a large repository over a thin line.
const COPY_MAX: Duration = Duration::from_hours(7 * 24);

/// Between two attempts while one is due.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

const VERB: &str = "copy";

/// What an earlier daemon was to copy and did not is tried at once.
pub(super) fn resume(world: &World) {
    let resumed = world.ledger.destinations().and_then(|all| {
        let due = all.into_iter().filter(|record| record.copy.due_since.is_some() && record.copy.upkeep.next.is_some());
        for record in due {
            change(world, None, &record.name, |record, now| record.copy.upkeep.next = Some(now))?;
        }
        Ok(())
    });
    if let Err(error) = resumed {
        tracing::error!(error = %crate::error::chain(&error), "cannot resume what was to be copied; it is at its next time");
    }
}

/// Starts what is due, and tells of what is overdue; the time is claimed in the store before anything is done.
pub(super) fn start_due(
    world: &Arc<World>,
    config: &Config,
    now: Timestamp,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) {
    for destination in config.destinations.values() {
        let Some(rule) = &destination.copy else { continue };
        let due = match claim(world, config, destination, rule, now) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(destination = %destination.name, error = %crate::error::chain(&error), "cannot claim the copy");
                continue;
            }
        };
        if due && let Some(order) = CopyOrder::of(config, &destination.name) {
            let title = format!("{VERB} {} from {} (scheduled)", destination.name, rule.from);
            begin(Start { world, config, destination, title, tasks, cancel }, order);
        }
    }
}

/// Whether a copy is to be started.
fn claim(
    world: &World,
    config: &Config,
    destination: &Destination,
    rule: &CopyRule,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(schedule) = schedule(rule) else { return Ok(false) };
    let is_under_way = world.quiet.is_copied_to(&destination.name);
    let mut due = false;
    change(world, Some(&config.site), &destination.name, |DestinationRecord { copy, .. }, _| {
        let (decision, own) = decide_upkeep(&schedule, copy.upkeep.next, now);
        if decision == UpkeepDecision::Run {
            due = !is_under_way;
            copy.due_since = copy.due_since.or(copy.upkeep.next);
            // Should this attempt come to nothing, not even to an end of its own.
            copy.upkeep.next = own.into_iter().chain([later(now)]).min();
        } else {
            copy.upkeep.next = own;
        }
        if copy.upkeep.trouble.is_none() && copy.overdue_at().is_some_and(|at| at <= now) {
            copy.upkeep.trouble = Some(overdue(&destination.name, rule, copy, is_under_way));
            copy.told_overdue = true;
        }
    })?;
    Ok(due)
}

fn overdue(name: &Name, rule: &CopyRule, copy: &CopyRecord, is_under_way: bool) -> Trouble {
    let since = copy
        .due_since
        .map_or_else(String::new, |at| format!(" since it was due on {}", at.strftime("%Y-%m-%d %H:%M UTC")));
    let why = match &copy.waits {
        _ if is_under_way => "it is still under way".to_owned(),
        Some(trouble) => trouble.message.clone(),
        None => "it came to no end".to_owned(),
    };
    let hint = copy.waits.as_ref().and_then(|trouble| trouble.hint.clone());
    Trouble::new(codes::COPY_OVERDUE, format!("{name} has had no whole copy of {}{since}: {why}", rule.from))
        .with_hint(hint.unwrap_or_else(|| "what was copied so far is there, and it goes on by itself".to_owned()))
}

/// Starts a copy that an operator asked for; answers at once.
///
/// # Errors
/// When there is no such destination, or it is no copy.
pub(super) fn by_hand(
    world: &Arc<World>,
    config: &Config,
    name: &Name,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<OperationId, Trouble> {
    let destination = world.destination(config, name)?;
    let Some(order) = CopyOrder::of(config, name) else {
        return Err(Trouble::new(codes::NO_COPY_RULE, format!("{name} is no copy of another destination")).with_hint(
            format!("write `copy: {{from: NAME, schedule: \"…\"}}` in the document of {name} and push it"),
        ));
    };
    let title = format!("{VERB} {name} from {}", order.from.name);
    Ok(begin(Start { world, config, destination: &destination, title, tasks, cancel }, order))
}

fn begin(start: Start<'_>, order: CopyOrder) -> OperationId {
    let site = start.config.site.clone();
    start.operation(COPY_MAX, Locks::Looked, move |route, id| async move {
        let name = &route.destination.name;
        let result = copied(&route, &order, id).await;
        if let Err(error) = note(&route, &site, &result) {
            tracing::error!(destination = %name, error = %crate::error::chain(&error), "cannot note the copy");
        }
        let result = match result {
            Ok(Copied { lines, trouble, .. }) => {
                for line in &lines {
                    route.world.operations.line(id, line);
                }
                trouble.map_or(Ok(Vec::new()), Err)
            }
            Err(Broken { trouble, .. }) => Err(trouble),
        };
        if let Err(trouble) = &result {
            tracing::error!(destination = %name, %trouble, action = VERB, "upkeep failed");
        }
        result
    })
}

async fn copied(route: &Route, order: &CopyOrder, id: OperationId) -> Result<Copied, Broken> {
    let (world, name) = (&route.world, &route.destination.name);
    let own = |trouble: Trouble| Broken { of: name.clone(), trouble };
    let _copying = world.quiet.copying(&order.from.name, name, &route.context.cancel).await.map_err(own)?;
    let _slot = slots(route, 1).await.map_err(own)?;
    copy::copy(route, order, |progress| {
        let percent = progress.saved.saturating_mul(100).checked_div(progress.wanted).unwrap_or(0);
        world.operations.progress(id, u8::try_from(percent).unwrap_or(99));
    })
    .await
}

/// Notes how a copy ended, when it is tried again, and who is to be told of the change, in one batch.
fn note(route: &Route, site: &Site, result: &Result<Copied, Broken>) -> Result<(), StoreError> {
    let (world, destination) = (&route.world, &route.destination);
    let own = destination.copy.as_ref().and_then(schedule).and_then(|each| each.next_after(world.clock.now()));
    if let Ok(copied) = result {
        return change(world, Some(site), &destination.name, |record, now| {
            (record.last_used, record.trouble) = (Some(now), None);
            let copy = &mut record.copy;
            copy.whole = Some(copied.whole.clone());
            (copy.due_since, copy.waits) = (None, None);
            copy.upkeep.next = own;
            copy.upkeep.last = Some(now);
            copy.upkeep.last_success = Some(copied.whole.at);
            copy.upkeep.trouble.clone_from(&copied.trouble);
            copy.told_overdue = false;
        });
    }
    let Err(broken) = result else { return Ok(()) };
    let waits = waits(world, &destination.name, broken)?;
    change(world, Some(site), &destination.name, |DestinationRecord { copy, .. }, now| {
        copy.upkeep.last = Some(now);
        // Who asked for it by hand asks again.
        if copy.due_since.is_some() {
            copy.upkeep.next = own.into_iter().chain([later(now)]).min();
        }
        match broken.trouble.kind() {
            // The daemon stops; the next one resumes what is due.
            Some(Kind::Cancelled) => {}
            _ if waits => copy.waits = Some(broken.trouble.clone()),
            _ => {
                copy.waits = None;
                copy.upkeep.trouble = Some(broken.trouble.clone());
                copy.told_overdue = false;
            }
        }
    })
}

/// Whether it is no failure of the copy: it is away or busy itself, or its source does not work, of which somebody was told
/// already.
fn waits(world: &World, name: &Name, broken: &Broken) -> Result<bool, StoreError> {
    if broken.trouble.kind() == Some(Kind::Busy) {
        return Ok(true);
    }
    if broken.of == *name {
        return Ok(is_of_who_is_away(&broken.trouble));
    }
    let source = world.ledger.destination(&broken.of)?;
    Ok(source.is_some_and(|record| record.away_since.is_some() || record.trouble.is_some()))
}

/// Changes what is known of the copies into a destination; with a `site` somebody is told of what begins and ends by that.
fn change(
    world: &World,
    site: Option<&Site>,
    name: &Name,
    change: impl FnOnce(&mut DestinationRecord, Timestamp),
) -> Result<(), StoreError> {
    let now = world.clock.now();
    world.with_destinations(|ledger| {
        let Some(mut record) = ledger.destination(name)? else { return Ok(()) };
        let whole = record.clone();
        change(&mut record, now);
        if record == whole {
            return Ok(());
        }
        let before = whole.copy;
        let mut batch = Batch::default();
        let mail = site
            .and_then(|site| crate::alert::mail_for_upkeep(site, name, VERB, &before.upkeep, &record.copy.upkeep, now));
        if let Some(mail) = mail {
            batch.enqueue_mail(&mail)?;
        }
        batch.put_destination(&record)?;
        ledger.commit(batch)
    })
}

fn schedule(rule: &CopyRule) -> Option<Schedule> {
    Schedule::parse(&rule.schedule.expression, &rule.schedule.timezone)
        .inspect_err(|error| tracing::error!(expression = rule.schedule.expression, %error, "a stored schedule is not valid any more"))
        .ok()
}

fn later(now: Timestamp) -> Timestamp {
    now.saturating_add(AGAIN).unwrap_or(now)
}
