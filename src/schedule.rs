//! When a job is due: five-field cron in civil time of an IANA zone, as pure functions of an instant.
//!
//! The fields are read by the `cron` crate behind [`fields`]; its evaluation is not used, because it skips what a
//! DST gap swallows and runs twice in a fold. Here the time line is walked in stretches of constant offset instead:
//!
//! - A time that a gap swallows fires at the first instant after the gap; several swallowed times collapse into one.
//!   A schedule of every hour goes on by itself after the gap and gets no extra run.
//! - A time that a fold doubles fires in the first pass only. A schedule whose minute or hour field is a wildcard
//!   (`*`, `*/n`, or the whole range) means "every so often" and runs through both passes without a pause.
//! - Day of month and day of week are as in crontab(5): when both are restricted, either is enough; when one of
//!   them begins with `*` (also `*/2`), both must match.
//!
//! Absent on purpose: seconds, years, `L`, `W`, `#`, `@reboot`.

mod describe;
mod error;
mod fields;
mod offset;
pub mod slots;
mod zone;

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

pub use crate::schedule::error::{CronField, ScheduleError};
use crate::schedule::fields::Fields;
use crate::types::JobId;

/// How far a time is looked for: 29 February may be eight years away (2096 to 2104), and a day of the year that must be
/// one certain weekday (`0 0 */31 1 1`) twelve.
const HORIZON_YEARS: i16 = 13;

/// Stretches of constant offset that are walked for one answer; the liveliest zones have four a year.
const STRETCHES_MAX: usize = 200;

/// The times of a cron expression in one zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: String,
    zone: TimeZone,
    fields: Fields,
}

impl Schedule {
    /// Reads `expression` (five fields, or `@daily` and friends) and the IANA name `timezone`.
    ///
    /// Costs twenty times as much as `next_after`: parse once for a policy, not once for a job.
    ///
    /// # Errors
    /// What is wrong with a field or the zone, or that the schedule never fires.
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let fields = Fields::parse(expression)?;
        Ok(Self { expression: tidy(expression), zone: zone::find(timezone)?, fields })
    }

    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The expression in short English where that is easy (`daily at 02:00`), else the expression itself.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(&self.fields).unwrap_or_else(|| self.expression.clone())
    }

    /// The first time strictly after `instant`; none only near the end of jiff's range (year 9999).
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(instant);
        let mut anchor = instant;
        let now = offset.to_datetime(instant);
        let mut from = floor_to_minute(now).checked_add(MINUTE).ok()?;
        let year_max = now.year().saturating_add(HORIZON_YEARS);
        for _ in 0..STRETCHES_MAX {
            let mut following = self.zone.following(anchor);
            let transition = following.next();
            let end = transition.as_ref().map_or(Timestamp::MAX, TimeZoneTransition::timestamp);
            let candidate = match self.first_within(from, offset, end, year_max)? {
                Found::At(at) => return Some(at),
                Found::Behind(civil) => civil,
            };
            let transition = transition?;
            let (before, after) = (offset.to_datetime(end), transition.offset().to_datetime(end));
            let swallowed = before <= candidate && candidate < after;
            if swallowed && !self.fields.goes_on_at(after.date()) {
                return Some(end);
            }
            from = ceil_to_minute(after)?;
            (offset, anchor) = (transition.offset(), end);
        }
        None
    }

    /// The last time at or before `instant`; none when there was none in the thirteen years before.
    #[must_use]
    pub fn previous_at_or_before(&self, instant: Timestamp) -> Option<Timestamp> {
        let window_max_s = i64::from(HORIZON_YEARS) * 366 * 86_400;
        let hit = |from: i64| self.next_after(Timestamp::from_second(from).ok()?).filter(|found| *found <= instant);
        let end = instant.as_second();
        let mut window = 3600;
        while hit(end - window).is_none() {
            if window == window_max_s {
                return None;
            }
            window = (window * 2).min(window_max_s);
        }
        // From `low` on there is a hit; narrow until it is the last one.
        let (mut low, mut high) = (end - window, end);
        loop {
            let found = hit(low)?;
            if self.next_after(found).is_none_or(|next| next > instant) {
                return Some(found);
            }
            let middle = low + (high - low) / 2;
            if hit(middle).is_some() {
                low = middle.max(found.as_second());
            } else {
                high = middle;
                low = found.as_second();
            }
        }
    }

    /// The next times after `instant`, in order.
    pub fn upcoming(&self, instant: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(instant), |last| self.next_after(*last))
    }

    /// The first match from `from` on, as an instant when it comes before `end`.
    fn first_within(&self, from: DateTime, offset: Offset, end: Timestamp, year_max: i16) -> Option<Found> {
        let mut from = from;
        loop {
            let civil = self.fields.next_at_or_after(from, year_max)?;
            match offset.to_timestamp(civil) {
                Ok(at) if at < end => {
                    if self.fields.is_wildcard_time() || !self.is_second_pass(civil, offset) {
                        return Some(Found::At(at));
                    }
                    from = civil.checked_add(MINUTE).ok()?;
                }
                _ => return Some(Found::Behind(civil)),
            }
        }
    }

    fn is_second_pass(&self, civil: DateTime, offset: Offset) -> bool {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Fold { after, .. } => after == offset,
            _ => false,
        }
    }
}

/// What a look into one stretch of constant offset found.
enum Found {
    At(Timestamp),
    /// The first match in civil time lies behind the end of the stretch.
    Behind(DateTime),
}

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

fn floor_to_minute(civil: DateTime) -> DateTime {
    civil.with().second(0).subsec_nanosecond(0).build().unwrap_or(civil)
}

fn ceil_to_minute(civil: DateTime) -> Option<DateTime> {
    let floor = floor_to_minute(civil);
    if floor == civil { Some(civil) } else { floor.checked_add(MINUTE).ok() }
}

/// A job's fixed share of its policy's jitter, from 0 to below `max`, in whole seconds.
///
/// It comes from the job's id alone, so a job keeps its place over restarts, machines and versions.
#[must_use]
pub fn jitter(job: &JobId, max: Duration) -> Duration {
    let digest: [u8; 32] = Sha256::digest(job.to_string().as_bytes()).into();
    let share = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let seconds = (u128::from(share) * u128::from(max.as_secs())) >> 64;
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What decides a job's times, as one string: the next run moves only when this changes.
#[must_use]
pub fn key(expression: &str, timezone: &str, jitter: Duration) -> String {
    format!("{}|{timezone}|{}s", tidy(expression), jitter.as_secs())
}

fn tidy(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
