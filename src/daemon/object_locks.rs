//! Keeping a bucket's locks ahead: when its objects are looked at, what is told of it, and until when nothing can be removed.
//!
//! All is looked at daily, oftener where locks are short, and behind uploads once it is quiet: until then what is new has
//! the lock that the bucket gives it by itself, if any, and no date speaks of it. A look that fails is made again within
//! hours; a storage that is away is told by what is shipped there, and by this only once a whole round was missed. A prune
//! in a bucket with versions only writes marks: the room is free when the locks are over and a lifecycle rule of the
//! bucket removes old versions.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::stop::stopped;
use crate::config::model::{ObjectLock, Site};
use crate::engine;
use crate::error::{Kind, Trouble, codes};
use crate::runner::control::OperationId;
use crate::runner::route::Route;
use crate::storage::s3::{self, Extended, Horizon};
use crate::storage::{Place, StorageError};
use crate::store::record::{DestinationRecord, Immutable, Upkeep, is_of_who_is_away};
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// Between two looks because of something new.
pub(super) const APART_S: i64 = 6 * 3600;
/// Between a look that did not come to its end and the next.
pub(super) const AGAIN_S: i64 = 3600;
/// How long the storage may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two lines that say how far it is.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Between two looks whether another one is over.
const TURN_EVERY: Duration = Duration::from_millis(200);

/// The word for it in commands and mails.
pub(super) const VERB: &str = "extend-locks";

/// What to type where the login may not do it.
pub(super) const RIGHTS: &str = "give the keys the rights s3:PutObjectRetention and s3:GetObjectRetention on the objects (and \
                                 s3:ListBucketVersions on the bucket), then: larder destination extend-locks NAME";

pub(super) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

/// What is there is another than at the last look: it is looked at soon.
pub(super) fn look_soon(record: &mut DestinationRecord, now: Timestamp) {
    if !record.locks.schedule_key.is_empty() {
        record.locks.next = Some(now);
    }
}

/// Looks at all locks, extends those that end soon, and notes until when all of them hold.
///
/// # Errors
/// Something that is there can be removed, or it is not known.
pub(super) async fn extended(route: &Route, id: OperationId, site: &Site) -> Result<Vec<String>, Trouble> {
    let destination = &route.destination;
    let Some(rule) = destination.object_lock else {
        return Err(Trouble::new(
            codes::OBJECT_LOCK_OFF,
            format!("destination {} has no `object_lock`", destination.name),
        )
        .with_hint("declare it in its document: `object_lock: {mode: compliance, days: 30}`"));
    };
    let _alone = loop {
        match Alone::with(&route.world.locks_looked_at, &destination.name) {
            Some(alone) => break alone,
            None => tokio::select! {
                () = tokio::time::sleep(TURN_EVERY) => {}
                () = route.context.cancel.cancelled() => return Err(stopped()),
            },
        }
    };
    // It takes no slot: what it tells is of one instant, whoever puts or deletes meanwhile.
    let access = route.world.access(destination).await?;
    let at = route.world.clock.now();
    let found = on_bucket(route, &access.place, id, rule).await.map_err(|trouble| engine::clean(&access, trouble));
    let at = found.as_ref().map_or(at, |found| found.at);
    let judged = match &found {
        Err(trouble) => Err(trouble.clone()),
        Ok(found) if found.horizon == Horizon::Nothing && access.expected_id.is_none() => {
            Ok(vec![format!("no repository yet in {}", destination.name)])
        }
        Ok(found) => judged(&destination.name, found, at).map_err(|trouble| engine::clean(&access, trouble)),
    };
    let noted = match (&found, &judged) {
        (Ok(found), Ok(_)) if found.horizon == Horizon::Nothing => {
            route.world.note_destination(destination, |record| {
                record.locks = Upkeep { next: None, last: None, trouble: None, ..record.locks.clone() };
            })
        }
        _ => note(route, site, at, found.as_ref().ok().map(|found| immutable(found, at)), judged.as_ref().err()),
    };
    if let Err(error) = noted {
        tracing::error!(error = %crate::error::chain(&error), "cannot note the look at the locks");
    }
    judged
}

/// One look at a destination at a time.
struct Alone<'w> {
    looked_at: &'w Mutex<BTreeSet<Name>>,
    name: Name,
}

impl<'w> Alone<'w> {
    fn with(looked_at: &'w Mutex<BTreeSet<Name>>, name: &Name) -> Option<Self> {
        let is_first = looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        is_first.then(|| Self { looked_at, name: name.clone() })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

async fn on_bucket(route: &Route, place: &Place, id: OperationId, rule: ObjectLock) -> Result<Extended, Trouble> {
    let name = route.destination.name.clone();
    let Place::S3(place) = place.clone() else {
        return Err(Trouble::new(codes::OBJECT_LOCK_OFF, format!("destination {name} is no bucket")));
    };
    let (operations, cancel) = (route.world.operations.clone(), route.context.cancel.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut told_at = Instant::now();
        let mut tell = |found: &Extended| {
            if told_at.elapsed() >= LINE_EVERY {
                told_at = Instant::now();
                let Extended { objects, extended, .. } = found;
                operations.line(id, &format!("{objects} objects looked at, {extended} locks extended"));
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let told = |error: StorageError| {
            let trouble = error.trouble();
            Trouble { message: format!("destination {name}: {}", trouble.message), ..trouble }
        };
        s3::extend_locks(&place, PATIENCE, rule, &mut tell).map_err(told)
    });
    let found = tokio::select! {
        done = work => done.map_err(|_| stopped())??,
        // It ends by itself behind the calls that it is in.
        () = route.context.cancel.cancelled() => return Err(stopped()),
    };
    if found.is_stopped { Err(stopped()) } else { Ok(found) }
}

fn immutable(found: &Extended, at: Timestamp) -> Immutable {
    let until = match found.horizon {
        Horizon::Until(until) => Some(until),
        Horizon::Nothing | Horizon::Lacking(_) | Horizon::Open(_) => None,
    };
    Immutable { at, until, snapshots: found.snapshots, objects: found.objects }
}

/// What was found, in words; an error where something can be removed, or could not be extended.
fn judged(name: &Name, found: &Extended, at: Timestamp) -> Result<Vec<String>, Trouble> {
    let Extended { horizon, snapshots, objects, extended, failed, .. } = found;
    let bad = |message: String, hint: &str| {
        Err(Trouble::new(codes::NOT_IMMUTABLE, message).with_hint(hint.replace("NAME", name.as_str())))
    };
    let until = match horizon {
        Horizon::Nothing | Horizon::Lacking(s3::Kind::Config) => {
            let hint =
                "look who deleted it; `larder destination rewind NAME --to TIME` brings back what the locks kept";
            return bad(format!("the repository of {name} is not there any more: it has no `config`"), hint);
        }
        Horizon::Lacking(kind) => {
            let hint =
                "look who deleted them; `larder destination rewind NAME --to TIME` brings back what the locks kept";
            return bad(format!("the repository of {name} has nothing of what it needs in `{}`", kind.word()), hint);
        }
        Horizon::Open(open) => Err(*open),
        Horizon::Until(until) => Ok(*until),
    };
    if *failed > 0 {
        let reasons: Vec<String> = found.failures.iter().map(|each| format!("{}: {}", each.name, each.why)).collect();
        let until = match until {
            Ok(until) => format!("what was there can be removed from {} on", shown(until)),
            Err(open) => format!("{open} of {objects} can be removed now"),
        };
        let reasons = reasons.join("; ");
        return bad(format!("{failed} of {objects} objects of {name} cannot be locked, so {until}: {reasons}"), RIGHTS);
    }
    let noun = if *snapshots == 1 { "snapshot" } else { "snapshots" };
    match until {
        Err(open) => bad(format!("{open} of {objects} objects of {name} have no lock"), RIGHTS),
        Ok(until) => Ok(vec![
            format!("{objects} objects looked at, {extended} locks extended"),
            format!("immutable until {}: {snapshots} {noun} as of {}", shown(until), shown(at)),
        ]),
    }
}

fn shown(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Notes what was seen and how it ended, and who is to be told of a change, in one batch.
fn note(
    route: &Route,
    site: &Site,
    at: Timestamp,
    seen: Option<Immutable>,
    trouble: Option<&Trouble>,
) -> Result<(), StoreError> {
    let now = route.world.clock.now();
    let Some(rule) = route.destination.object_lock else { return Ok(()) };
    route.world.with_destinations(|ledger| {
        let Some(mut record) = ledger.destination(&route.destination.name)? else { return Ok(()) };
        let before = record.locks.clone();
        record.locks = ended(&before, rule, trouble, at, now);
        record.immutable = seen.or(record.immutable);
        let mut batch = Batch::default();
        let name = &route.destination.name;
        if let Some(mail) = crate::alert::mail_for_upkeep(site, name, VERB, &before, &record.locks, now) {
            batch.enqueue_mail(&mail)?;
        }
        batch.put_destination(&record)?;
        ledger.commit(batch)
    })
}

/// How the work stands behind a look that began `at`.
fn ended(before: &Upkeep, rule: ObjectLock, trouble: Option<&Trouble>, at: Timestamp, now: Timestamp) -> Upkeep {
    let every = SignedDuration::try_from(s3::looked_at_every(rule)).unwrap_or(SignedDuration::from_secs(AGAIN_S));
    let waits = |trouble: &Trouble| is_of_who_is_away(trouble) || trouble.kind().is_some_and(Kind::waits);
    let is_missed = before.last_success.is_none_or(|last| now.duration_since(last) > every * 2);
    let next = |trouble: Option<&Trouble>| match trouble {
        None => after(now, every.as_secs()),
        Some(trouble) if waits(trouble) => after(now, AGAIN_S),
        Some(_) => after(now, APART_S.min(every.as_secs())),
    };
    let told = match trouble {
        Some(trouble) if trouble.kind() == Some(Kind::Cancelled) => before.trouble.clone(),
        // One look that is missed harms nothing, and who is away is told by what is shipped.
        Some(trouble) if waits(trouble) && !is_missed => before.trouble.clone(),
        other => other.cloned(),
    };
    let last_success = if trouble.is_none() { Some(now) } else { before.last_success };
    // Asked for by hand where nothing is declared any more: nothing is planned.
    let wanted_since = before.next.filter(|next| *next >= at && *next <= now);
    let next = Some(wanted_since.unwrap_or(next(trouble))).filter(|_| !before.schedule_key.is_empty());
    Upkeep { next, last: Some(at), last_success, trouble: told, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::LockMode;
    use crate::storage::s3::Kept;

    const RULE: ObjectLock = ObjectLock { mode: LockMode::Compliance, days: 30 };
    const HOUR_S: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_look_that_is_missed_is_made_again_soon_and_told_only_when_a_round_is_missed() {
        let away = Trouble::new(codes::UNREACHABLE, "away");
        let open = Trouble::new(codes::NOT_IMMUTABLE, "open");
        let hours = |count: i64| at(count * HOUR_S);
        let well = Upkeep { schedule_key: "x".to_owned(), last_success: Some(hours(0)), ..Upkeep::default() };
        let after = |before: &Upkeep, trouble, now| ended(before, RULE, trouble, hours(now), hours(now));
        let good = after(&well, None, 24);
        assert_eq!((good.next, good.last_success, good.trouble), (Some(hours(48)), Some(hours(24)), None));
        let missed = after(&well, Some(&away), 24);
        assert_eq!((missed.next, missed.last_success, missed.trouble), (Some(hours(25)), Some(hours(0)), None));
        let missed = after(&well, Some(&away), 49);
        assert_eq!((missed.next, missed.trouble), (Some(hours(50)), Some(away.clone())));
        let told = after(&well, Some(&open), 24);
        assert_eq!((told.next, &told.trouble), (Some(hours(30)), &Some(open.clone())));
        assert_eq!(after(&told, Some(&away), 30).trouble, Some(open.clone()), "that is no better news");
        let cancelled = stopped();
        assert_eq!(after(&told, Some(&cancelled), 30).trouble, Some(open.clone()), "nor is this");
        // What was asked for meanwhile is not forgotten, and what left the config is not planned.
        let asked = Upkeep { next: Some(hours(24)), ..well.clone() };
        assert_eq!(ended(&asked, RULE, None, hours(23), hours(24)).next, Some(hours(24)));
        let gone = Upkeep { schedule_key: String::new(), ..well };
        assert_eq!(after(&gone, None, 24).next, None);
    }

    #[test]
    fn what_can_be_removed_is_told_with_the_first_of_it_and_the_next_step() {
        let failures = vec![Kept { name: "config".to_owned(), why: "denied".to_owned() }];
        let found = |horizon, failed| Extended {
            horizon,
            at: at(0),
            snapshots: 1,
            objects: 9,
            extended: 2,
            failed,
            failures: if failed > 0 { failures.clone() } else { Vec::new() },
            is_stopped: false,
        };
        let name = Name::parse("vault").unwrap();
        let said = |horizon, failed| match judged(&name, &found(horizon, failed), at(0)) {
            Ok(lines) => lines.join("\n"),
            Err(trouble) => {
                assert!(
                    trouble.is(codes::NOT_IMMUTABLE) && trouble.hint.as_ref().unwrap().contains("vault"),
                    "{trouble}"
                );
                format!("{trouble}")
            }
        };
        let good = said(Horizon::Until(at(99)), 0);
        assert!(
            good.contains("2 locks extended\nimmutable until 2027-01-15T08:01:39Z: 1 snapshot as of 2027"),
            "{good}"
        );
        let part = said(Horizon::Until(at(99)), 1);
        assert!(part.contains("what was there can be removed from 2027-01-15T08:01:39Z on: config: denied"), "{part}");
        assert!(said(Horizon::Open(3), 3).contains("so 3 of 9 can be removed now: config: denied"));
        assert!(said(Horizon::Nothing, 0).contains("has no `config`"));
        assert!(said(Horizon::Lacking(s3::Kind::Data), 0).contains("in `data`"));
    }
}
