//! Which snapshots of a job stay: restic's keep rules, decided here, in the policy's zone and by the order of runs. Pure.
//!
//! restic orders by date and counts days in the zone of its own process. So a snapshot that was made while the clock was
//! ahead pushed out what came after it, and a day of the policy was two. Here the newest is the newest *run*; a snapshot
//! that is dated in the future stays and takes nobody's place.

pub mod leaving;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::model::Retention;
use crate::run::judgement::cuts_much;

/// A snapshot that is dated later than this after now is dated in the future.
pub const FUTURE_LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// A snapshot of one job, as far as retention cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    /// Its place in the order of runs; the highest is the newest.
    pub order: u64,
    pub time: Timestamp,
}

/// Whether what is dated `time` can't have been made yet.
#[must_use]
pub fn is_future(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > FUTURE_LEEWAY
}

/// The ids of those of `snapshots` that `rules` do not keep.
///
/// As with restic, each rule keeps the newest of each of its newest periods, and the oldest snapshot of all while it has
/// not found as many as it wants. Rules that keep nothing at all forget nothing: that is a mistake, not a wish.
#[must_use]
pub fn superfluous(snapshots: &[Candidate], rules: &Retention, zone: &TimeZone, now: Timestamp) -> Vec<String> {
    let periods = periods(rules);
    if periods.is_empty() {
        return Vec::new();
    }
    let mut ordered: Vec<&Candidate> = snapshots.iter().filter(|each| !is_future(each.time, now)).collect();
    ordered.sort_by(|a, b| (b.order, b.time, &b.id).cmp(&(a.order, a.time, &a.id)));
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for (period, count) in periods {
        let mut seen: BTreeSet<[i64; 5]> = BTreeSet::new();
        for (at, each) in ordered.iter().enumerate() {
            if seen.len() >= count {
                break;
            }
            let is_oldest = at + 1 == ordered.len();
            if seen.insert(period.of(each, at, zone)) || is_oldest {
                kept.insert(&each.id);
            }
        }
    }
    let gone = ordered.iter().filter(|each| !kept.contains(each.id.as_str()));
    let mut gone: Vec<String> = gone.map(|each| each.id.clone()).collect();
    gone.reverse();
    gone
}

/// A retention that would forget many snapshots that the rules before kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub forgotten: usize,
    pub there: usize,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

/// What `rules` would forget that `before` would not have, when that is too much to do unasked.
#[must_use]
pub fn cut(
    snapshots: &[Candidate],
    before: Option<&Retention>,
    rules: &Retention,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<Cut> {
    let usual: BTreeSet<String> = match before {
        Some(before) => superfluous(snapshots, before, zone, now).into_iter().collect(),
        None => BTreeSet::new(),
    };
    let mut gone: BTreeSet<String> = superfluous(snapshots, rules, zone, now).into_iter().collect();
    gone.retain(|id| !usual.contains(id));
    let times = || snapshots.iter().filter(|each| gone.contains(&each.id)).map(|each| each.time);
    let (oldest, newest) = (times().min()?, times().max()?);
    let much = cuts_much(gone.len(), snapshots.len(), before.is_some());
    much.then_some(Cut { forgotten: gone.len(), there: snapshots.len(), oldest, newest })
}

/// What a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Snapshot,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// What is equal for snapshots of the same period, and for no others; `at` is its place among all.
    fn of(self, each: &Candidate, at: usize, zone: &TimeZone) -> [i64; 5] {
        let civil = each.time.to_zoned(zone.clone());
        let (year, month, day) = (i64::from(civil.year()), i64::from(civil.month()), i64::from(civil.day()));
        match self {
            Self::Snapshot => [i64::try_from(at).unwrap_or(i64::MAX), 0, 0, 0, 0],
            // An hour that comes twice when the clocks go back is two hours.
            Self::Hour => [year, month, day, i64::from(civil.hour()), i64::from(civil.offset().seconds())],
            Self::Day => [year, month, day, 0, 0],
            Self::Week => {
                let week = civil.date().iso_week_date();
                [i64::from(week.year()), i64::from(week.week()), 0, 0, 0]
            }
            Self::Month => [year, month, 0, 0, 0],
            Self::Year => [year, 0, 0, 0, 0],
        }
    }
}

fn periods(rules: &Retention) -> Vec<(Period, usize)> {
    let Retention { last, hourly, daily, weekly, monthly, yearly } = rules;
    [
        (Period::Snapshot, last),
        (Period::Hour, hourly),
        (Period::Day, daily),
        (Period::Week, weekly),
        (Period::Month, monthly),
        (Period::Year, yearly),
    ]
    .into_iter()
    .filter_map(|(period, count)| {
        let count = count.filter(|count| *count > 0)?;
        Some((period, usize::try_from(count).unwrap_or(usize::MAX)))
    })
    .collect()
}

#[cfg(test)]
mod tests;
