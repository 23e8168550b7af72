//! Every transition of every IANA zone from 2026 to 2030, against `croner` as an independent second opinion.
//!
//! Where the two differ, one of the named rules in [`Difference`] must explain it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Zoned;
use jiff::tz::TimeZoneDatabase;

use super::*;

/// Twice a day or less: looked at for a day before and after a transition.
const SPARSE: &[&str] = &[
    "0 0 * * *",
    "30 0 * * *",
    "0 1 * * *",
    "30 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "45 2 * * *",
    "0 3 * * *",
    "30 3 * * *",
    "0 23 * * *",
    "30 23 * * *",
    "15 2 * * 0",
    "45 23 * * 6",
    "30 2 1-7 * 0",
    "0 2 */2 * 1",
    "30 0,1,2,3,23 * * *",
    "0,30 1-3 * * *",
    "*/20 2 * * *",
    "0 */2 * * *",
    "30 */3 * * *",
];

/// Every hour or more often: looked at for some hours.
const DENSE: &[&str] = &["* * * * *", "*/15 * * * *", "7 * * * *", "10-50/20 * * * *", "5 0-23 * * *"];

/// Why Larder fires and croner does not, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// croner takes a list or range of times for an interval and runs it in both passes of a fold; here only a wildcard
    /// is one, as in Vixie cron, because `0,30 2 * * *` means two backups.
    SecondPassOfAList,
    /// croner carries only a single time over a gap; here lists and wildcards that do not run every hour are carried
    /// too, because a backup that is only due at `*/20 2` would be left out for that day.
    GapOfAList,
    /// croner drops a swallowed time when the gap ends on a day that the expression does not name (Nuuk's ends at
    /// midnight); here it fires.
    GapOverMidnight,
    /// croner wants both days only for a bare `*`; crontab(5) also for `*/2`.
    StarStepDay,
}

#[test]
fn every_transition_of_every_zone_agrees_with_croner() {
    let mut seen = BTreeSet::new();
    let mut differences: BTreeMap<Difference, u32> = BTreeMap::new();
    let mut compared = 0_u32;
    for zone in zones() {
        for (at, before, after) in transitions(&zone) {
            if !seen.insert((at, before, after)) {
                continue;
            }
            let sparse = SPARSE.iter().map(|expression| (expression, 26));
            for (expression, hours) in sparse.chain(DENSE.iter().map(|expression| (expression, 3))) {
                let around = Around { zone: &zone, at, before, after, hours };
                for difference in around.differences(expression) {
                    *differences.entry(difference).or_default() += 1;
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 1_000, "only {compared} comparisons");
    assert_eq!(differences.len(), 4, "a rule without a case: {differences:?}");
}

/// One change of offset (in seconds), and how far around it is looked.
struct Around<'a> {
    zone: &'a TimeZone,
    at: Timestamp,
    before: Offset,
    after: Offset,
    hours: i64,
}

impl Around<'_> {
    fn differences(&self, expression: &str) -> Vec<Difference> {
        let schedule = Schedule {
            expression: expression.to_owned(),
            zone: self.zone.clone(),
            fields: Fields::parse(expression).unwrap(),
        };
        let start = self.at - SignedDuration::from_hours(self.hours);
        let end = self.at + SignedDuration::from_hours(self.hours);
        let ours: BTreeSet<_> = schedule.upcoming(start).take_while(|at| *at < end).collect();
        let theirs: BTreeSet<_> = croners(expression, self.zone, start).take_while(|at| *at < end).collect();
        ours.symmetric_difference(&theirs)
            .map(|at| {
                self.explain(&schedule, *at, ours.contains(at)).unwrap_or_else(|| {
                    panic!("{:?} {expression} at {at} around {}: {ours:?} {theirs:?}", self.zone.iana_name(), self.at)
                })
            })
            .collect()
    }

    fn explain(&self, schedule: &Schedule, at: Timestamp, ours: bool) -> Option<Difference> {
        let minute = |civil: DateTime| schedule.fields.next_at_or_after(civil, 2100);
        let (old, new) = (self.before.to_datetime(self.at), self.after.to_datetime(self.at));
        let single = schedule.fields.minutes.is_power_of_two() && schedule.fields.hours.is_power_of_two();
        let civil = self.zone.to_datetime(at);
        if schedule.expression.contains("*/2 * 1") && !ours {
            return Some(Difference::StarStepDay);
        }
        let swallowed = minute(old).filter(|first| *first < new);
        if ours && at == self.at && swallowed.is_some() {
            if schedule.fields.is_wildcard_time() || !single {
                return Some(Difference::GapOfAList);
            }
            return swallowed.filter(|first| first.date() != new.date()).map(|_| Difference::GapOverMidnight);
        }
        let second_pass = new <= civil && civil < old && at >= self.at;
        (!ours && second_pass && !single && !schedule.fields.is_wildcard_time())
            .then_some(Difference::SecondPassOfAList)
    }
}

fn croners(expression: &str, zone: &TimeZone, start: Timestamp) -> impl Iterator<Item = Timestamp> {
    let cron: croner::Cron = expression.parse().unwrap();
    cron.iter_after(start.to_zoned(zone.clone())).map(|zoned: Zoned| zoned.timestamp())
}

fn zones() -> Vec<TimeZone> {
    let bundled = TimeZoneDatabase::bundled();
    bundled.available().map(|name| bundled.get(name.as_str()).unwrap()).collect()
}

/// The changes of offset from 2026 to 2030.
fn transitions(zone: &TimeZone) -> Vec<(Timestamp, Offset, Offset)> {
    let (start, end): (Timestamp, Timestamp) =
        ("2026-01-01T00:00:00Z".parse().unwrap(), "2031-01-01T00:00:00Z".parse().unwrap());
    zone.following(start)
        .take_while(|transition| transition.timestamp() < end)
        .map(|transition| {
            let at = transition.timestamp();
            (at, zone.to_offset(at - SignedDuration::from_secs(1)), transition.offset())
        })
        .filter(|(_, before, after)| before != after)
        .collect()
}
