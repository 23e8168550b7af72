//! What happens to waiting mails, as pure decisions, and how the outbox stands, for status and doctor.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::record::OutboxMail;

/// A mail that waits longer than this is dropped, with an error in the log and a count.
pub const AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// Most mails that wait; beyond, the oldest are dropped.
pub const WAITING_MAX: usize = 1000;
/// First and longest pause before another try.
pub const PAUSE_FIRST: Duration = Duration::from_mins(1);
pub const PAUSE_LONGEST: Duration = Duration::from_hours(1);

/// Where [`Outbox`] is in the tree `meta`.
const KEY: &str = "alert/outbox";

/// How the outbox stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Mails that wait, refused ones among them. Counted when asked.
    #[serde(default, skip_deserializing)]
    pub waiting: u64,
    /// Since when the mail server takes nothing; none while it does.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    /// Why, most recently; none after a delivery.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    #[serde(default)]
    pub last_delivered: Option<Timestamp>,
    #[serde(default)]
    pub delivered_total: u64,
    #[serde(default)]
    pub dropped_total: u64,
    /// Mails that a server refused for good; tried again when the site's `email` changes or the daemon starts.
    #[serde(default)]
    pub refused_total: u64,
}

impl Outbox {
    /// Reads how the outbox stands.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(ledger: &Ledger) -> Result<Self, StoreError> {
        let stored: Option<Self> = ledger.meta_get(KEY)?;
        Ok(Self { waiting: ledger.outbox_len()?, ..stored.unwrap_or_default() })
    }

    pub(super) fn write(&self, batch: &mut crate::store::Batch) -> Result<(), StoreError> {
        batch.meta_put(KEY, self)
    }
}

/// What one try came to, for the mail itself; that the server can't be reached is not the mail's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Delivered,
    /// Not now: these still wait (some may have got it).
    Later {
        to: Vec<String>,
        why: String,
    },
    /// Never, as things are: these were refused (some may have got it).
    Refused {
        to: Vec<String>,
        why: String,
    },
}

/// What becomes of the mail; none: it leaves the outbox.
pub(super) fn after(mail: &OutboxMail, sequence: u64, tried: &Tried, now: Timestamp) -> Option<OutboxMail> {
    let attempts = mail.attempts.saturating_add(1);
    let (to, why, not_before) = match tried {
        Tried::Delivered => return None,
        Tried::Later { to, why } => (to, why, later(now, pause(attempts, sequence))),
        // Kept, so that it is seen and can be sent once the settings are right.
        Tried::Refused { to, why } => (to, why, REFUSED),
    };
    Some(OutboxMail { to: to.clone(), attempts, not_before, last_error: Some(why.clone()), ..mail.clone() })
}

/// Stands for "not until something changes".
const REFUSED: Timestamp = Timestamp::MAX;

pub(super) fn is_refused(mail: &OutboxMail) -> bool {
    mail.not_before == REFUSED
}

/// The mail after the site's `email` changed: due at once; one that was refused goes to those who are told now.
pub(super) fn revived(mail: &OutboxMail, told: &[String], now: Timestamp) -> OutboxMail {
    let still = mail.to.iter().all(|to| told.contains(to));
    let to = if is_refused(mail) && !still && !told.is_empty() { told.to_vec() } else { mail.to.clone() };
    OutboxMail { to, not_before: now, ..mail.clone() }
}

/// The pause after the `attempts`th try: doubled each time, spread by a fifth so that mails don't come in step.
pub(super) fn pause(attempts: u32, seed: u64) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSE_LONGEST);
    let scattered = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(attempts)) >> 32;
    let spread = u32::try_from(scattered % 1000).unwrap_or(0);
    doubled + doubled / 5 * spread / 1000
}

pub(super) fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// The mails that have to go: too old, or the oldest of too many. `mails` are in order, oldest first.
pub(super) fn excess(mails: &[(u64, OutboxMail)], now: Timestamp) -> Vec<u64> {
    let too_many = mails.len().saturating_sub(WAITING_MAX);
    let too_old =
        |mail: &OutboxMail| Duration::try_from(now.duration_since(mail.created)).is_ok_and(|age| age > AGE_MAX);
    mails
        .iter()
        .enumerate()
        .filter(|(index, (_, mail))| *index < too_many || too_old(mail))
        .map(|(_, (sequence, _))| *sequence)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::at;
    use super::*;

    fn mail(created: i64) -> OutboxMail {
        OutboxMail {
            created: at(created),
            to: vec!["a@x".to_owned(), "b@x".to_owned()],
            subject: String::new(),
            text: String::new(),
            html: String::new(),
            attempts: 0,
            not_before: at(created),
            last_error: None,
        }
    }

    #[test]
    fn pauses_double_from_a_minute_to_an_hour_and_are_spread() {
        for attempts in 1..200 {
            for seed in [0, 1, 7, u64::MAX, 1 << 40] {
                let bare = Duration::from_secs(60 * (1_u64 << (attempts - 1).min(6))).min(Duration::from_hours(1));
                let pause = pause(attempts, seed);
                assert!(pause >= bare && pause <= bare + bare / 5, "{pause:?} after {attempts}");
            }
        }
        assert!((0..50).map(|seed| pause(3, seed)).collect::<std::collections::BTreeSet<_>>().len() > 10);
        assert!(pause(0, 0) >= PAUSE_FIRST && pause(u32::MAX, 0) >= PAUSE_LONGEST);
    }

    #[test]
    fn a_mail_leaves_when_delivered_waits_when_told_later_and_rests_when_refused() {
        let to = vec!["b@x".to_owned()];
        assert_eq!(after(&mail(0), 1, &Tried::Delivered, at(5)), None);
        let tried = Tried::Later { to: to.clone(), why: "450 greylisted".to_owned() };
        let later = after(&mail(0), 1, &tried, at(5)).unwrap();
        assert_eq!(
            (later.to.clone(), later.attempts, later.last_error.as_deref()),
            (to.clone(), 1, Some("450 greylisted"))
        );
        assert!(later.not_before >= at(65) && later.not_before <= at(78));
        let refused = after(&later, 1, &Tried::Refused { to: to.clone(), why: "550".to_owned() }, at(5)).unwrap();
        assert!(is_refused(&refused) && refused.attempts == 2);

        let told = vec!["new@x".to_owned()];
        assert_eq!(revived(&refused, &told, at(9)).to, told);
        assert_eq!(revived(&refused, &[], at(9)).to, to);
        assert_eq!(revived(&refused, &["b@x".to_owned(), "c@x".to_owned()], at(9)).to, to, "others had theirs");
        assert_eq!(revived(&later, &told, at(9)).to, to);
        assert_eq!(revived(&refused, &told, at(9)).not_before, at(9));
    }

    #[test]
    fn only_very_old_mails_or_the_oldest_of_very_many_are_dropped() {
        let week = 7 * 86_400;
        let numbered = |mails: Vec<OutboxMail>| (0_u64..).zip(mails).collect::<Vec<_>>();
        assert!(excess(&numbered(vec![mail(0), mail(1)]), at(week)).is_empty());
        assert_eq!(excess(&numbered(vec![mail(0), mail(1)]), at(week + 1)), [0]);
        let many = numbered((0..1002).map(mail).collect());
        assert_eq!(excess(&many, at(2000)), [0, 1]);
        assert!(excess(&many, at(-1_000_000)).len() == 2, "a clock that went back drops nothing more");
    }
}
