//! Alerts: one mail at each edge, kept in the store until a mail server has taken it.
//!
//! What to say and when is pure ([`edge`]): the first failure, a success that is too old, a refused revision and the
//! recovery each say something once; repeats are counted. The mails are written in the same batch as what they tell
//! of, so a crash loses neither. One task ([`deliver`]) empties the outbox.
//!
//! A deferred run says nothing by itself; when it lasts, the policy's `max_age` does.
//! Deliberately absent: other channels than mail, and digests.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::model::{Config, Email, Site};
use crate::error::Trouble;
use crate::run::hold::{self, Hold};
use crate::store::damage::Damage;
use crate::store::ledger::Ledger;
use crate::store::record::{DestinationRecord, Incident, JobRecord, OutboxMail, RunRecord, Upkeep};
use crate::store::unfinished::Unfinished;
use crate::types::{Name, Outcome, Revision};

use edge::Edge;
use letter::HoldNews;

mod compose;
mod courier;
pub mod edge;
mod hello;
mod letter;
pub mod outbox;
mod smtp;

/// Notes in `after` what later decisions need of a run that ended with `outcome`; for whoever writes the job's record.
pub fn track(before: &JobRecord, after: &mut JobRecord, run: &RunRecord, outcome: Outcome, now: Timestamp) {
    edge::track(before, after, run, outcome, now);
}

/// The mails that the end of `run` calls for: none, or one for the first failure, the first partial run or the recovery.
#[must_use]
pub fn mails_for(
    site: &Site,
    before: &JobRecord,
    after: &JobRecord,
    run: &RunRecord,
    now: Timestamp,
) -> Vec<OutboxMail> {
    let edge = edge::of_run(before, after, run);
    let begun = edge::begun(before, after);
    let ended = edge::ended(before, after);
    let letter = match edge {
        // One mail tells of both.
        None | Some(Edge::Incomplete) if !begun.is_empty() => {
            letter::of_holds(site, HoldNews::Begun, after, &begun, now)
        }
        None if !ended.is_empty() => letter::of_holds(site, HoldNews::Ended, after, &ended, now),
        None => return Vec::new(),
        Some(edge) => letter::of_run(site, edge, before, after, run),
    };
    letter.mail(site, now).into_iter().collect()
}

/// The mail that reminds of what holds `job`, and the record that remembers it was said; none while it is too early.
#[must_use]
pub fn reminder(site: &Site, job: &JobRecord, now: Timestamp) -> Option<(JobRecord, Option<OutboxMail>)> {
    if edge::is_resting(job, now) || !hold::reminder_is_due(&job.holds, now) {
        return None;
    }
    let holds: Vec<&Hold> = job.holds.iter().collect();
    let mail = letter::of_holds(site, HoldNews::Reminder, job, &holds, now).mail(site, now);
    let mut after = job.clone();
    after.holds.iter_mut().for_each(|hold| hold.told = now);
    Some((after, mail))
}

/// The mail that says that somebody accepted `holds`; `job` is the record afterwards.
#[must_use]
pub fn mail_for_accepted(site: &Site, job: &JobRecord, holds: &[Hold], now: Timestamp) -> Option<OutboxMail> {
    let holds: Vec<&Hold> = holds.iter().collect();
    letter::of_holds(site, HoldNews::Accepted, job, &holds, now).mail(site, now)
}

/// The mail that says that `job` has had no success for longer than `max_age`, and the record that remembers it was said.
#[must_use]
pub fn overdue(
    site: &Site,
    job: &JobRecord,
    max_age: std::time::Duration,
    now: Timestamp,
) -> Option<(JobRecord, Option<OutboxMail>)> {
    let age = edge::overdue(job, max_age, now)?;
    let mail = letter::of_overdue(site, job, age, max_age).mail(site, now);
    Some((JobRecord { overdue_told: Some(now), ..job.clone() }, mail))
}

/// The mail about a revision that is invalid; for the caller to send once per revision.
#[must_use]
pub fn mail_for_rejected(site: &Site, revision: &Revision, errors: &[String], now: Timestamp) -> Option<OutboxMail> {
    letter::of_rejected(site, revision, errors).mail(site, now)
}

/// The mail about a revision that waits for a confirmation; for the caller to send once per revision.
#[must_use]
pub fn mail_for_held(site: &Site, revision: &Revision, reason: &str, now: Timestamp) -> Option<OutboxMail> {
    letter::of_held(site, revision, reason).mail(site, now)
}

/// The mail about a config source that cannot be read, once that has lasted.
#[must_use]
pub fn mail_for_unreadable(site: &Site, incident: &Incident, now: Timestamp) -> Option<OutboxMail> {
    letter::of_unreadable(site, incident).mail(site, now)
}

/// The mail about the end of that.
#[must_use]
pub fn mail_for_readable(site: &Site, incident: &Incident, now: Timestamp) -> Option<OutboxMail> {
    letter::of_readable(site, incident, now).mail(site, now)
}

/// The mail about a state directory that is lost; not for the outbox, which lies in it.
#[must_use]
pub fn mail_for_state(site: &Site, incident: &Incident, now: Timestamp) -> Option<OutboxMail> {
    letter::of_state(site, incident).mail(site, now)
}

/// The mail about the end of that.
#[must_use]
pub fn mail_for_state_back(site: &Site, incident: &Incident, now: Timestamp) -> Option<OutboxMail> {
    letter::of_state_back(site, incident, now).mail(site, now)
}

/// The mail about a state store that was lost and made anew.
#[must_use]
pub fn mail_for_loss(site: &Site, damage: &Damage, target: &str, now: Timestamp) -> Option<OutboxMail> {
    letter::of_loss(site, damage, target).mail(site, now)
}

/// The mail about what could not be put back on an application, or about the end of that.
#[must_use]
pub fn mail_for_unfinished(site: &Site, unfinished: &Unfinished, now: Timestamp) -> Option<OutboxMail> {
    let letter = if unfinished.ended {
        letter::of_finished(site, unfinished, now)
    } else {
        letter::of_unfinished(site, unfinished)
    };
    letter.mail(site, now)
}

/// The mail about a check or prune (`work`) of a destination that began to fail or works again.
#[must_use]
pub fn mail_for_upkeep(
    site: &Site,
    destination: &Name,
    work: &str,
    before: &Upkeep,
    after: &Upkeep,
    now: Timestamp,
) -> Option<OutboxMail> {
    letter::of_upkeep(site, destination, work, before, after)?.mail(site, now)
}

/// The mail about a destination that is away, or takes what is shipped again since then; for all its jobs at once.
#[must_use]
pub fn mail_for_destination(
    site: &Site,
    record: &DestinationRecord,
    trouble: Option<&Trouble>,
    jobs: usize,
    now: Timestamp,
) -> Option<OutboxMail> {
    letter::of_destination(site, record, trouble, jobs, now).mail(site, now)
}

/// Sends what waits in the outbox until `cancel`: in order, again after a pause when it fails, never forgotten before
/// [`outbox::AGE_MAX`] or [`outbox::WAITING_MAX`].
///
/// `wake` is notified after mails were written. At least once: a crash between the server's answer and our note of it
/// sends a mail again, with the same Message-ID.
pub async fn deliver(
    ledger: Ledger,
    config: watch::Receiver<Arc<Config>>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    cancel: CancellationToken,
) {
    courier::run(ledger, config, clock, wake, cancel).await;
}

/// Sends a mail at once, past the outbox, and returns what the server answered.
///
/// # Errors
/// As [`send_test`].
pub async fn send_now(email: &Email, mail: &OutboxMail) -> Result<String, Trouble> {
    courier::send_now(email, mail).await
}

/// Sends a test mail at once and returns what the server answered.
///
/// # Errors
/// A [`Trouble`] for each thing that is commonly wrong: `mail_dns`, `mail_refused`, `mail_timeout`, `mail_tls_*`,
/// `mail_no_starttls`, `mail_auth_failed`, `mail_rejected`…
pub async fn send_test(email: &Email) -> Result<String, Trouble> {
    courier::send_test(email, Timestamp::now()).await
}
