//! Clocks that were wrong, and days of every zone against a calendar that is made otherwise.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Snapshots in the order of their runs; the id tells the place.
fn made(times: &[&str]) -> Vec<Candidate> {
    let all = times.iter().enumerate();
    all.map(|(n, time)| Candidate { id: n.to_string(), order: n as u64 + 1, time: at(time) }).collect()
}

fn kept(snapshots: &[Candidate], rules: &Retention, zone: &TimeZone, now: Timestamp) -> Vec<String> {
    let gone = superfluous(snapshots, rules, zone, now);
    snapshots.iter().map(|each| each.id.clone()).filter(|id| !gone.contains(id)).collect()
}

fn utc(snapshots: &[Candidate], rules: &Retention, now: &str) -> Vec<String> {
    kept(snapshots, rules, &TimeZone::UTC, at(now))
}

fn last(count: u32) -> Retention {
    Retention { last: Some(count), ..Retention::default() }
}

fn daily(count: u32) -> Retention {
    Retention { daily: Some(count), ..Retention::default() }
}

#[test]
fn what_was_made_while_the_clock_was_ahead_stays_and_pushes_nothing_out() {
    let mut times = vec!["2028-01-01T02:00:00Z", "2028-01-02T02:00:00Z"];
    for day in ["2026-11-27T02:00:00Z", "2026-11-28T02:00:00Z", "2026-11-29T02:00:00Z"] {
        times.push(day);
        let kept = utc(&made(&times), &last(2), day);
        assert!(kept.contains(&(times.len() - 1).to_string()), "the run's own stays: {kept:?}");
        assert!(kept.contains(&"0".to_owned()) && kept.contains(&"1".to_owned()), "{kept:?}");
    }
    assert_eq!(utc(&made(&times), &last(2), "2026-11-29T02:00:00Z"), ["0", "1", "3", "4"]);
    // When their date has come they are what they are: the oldest runs.
    assert_eq!(utc(&made(&times), &last(2), "2028-02-01T00:00:00Z"), ["3", "4"]);
}

#[test]
fn a_run_whose_clock_was_behind_is_the_newest_all_the_same() {
    let snapshots = made(&["2026-11-27T02:00:00Z", "2026-11-28T02:00:00Z", "1970-01-01T00:01:00Z"]);
    for rules in [last(1), daily(1)] {
        assert_eq!(utc(&snapshots, &rules, "1970-01-01T00:02:00Z").last().unwrap(), "2", "{rules:?}");
        assert_eq!(utc(&snapshots, &rules, "2026-11-28T03:00:00Z"), ["2"], "{rules:?}");
    }
}

#[test]
fn a_small_difference_of_clocks_is_no_future() {
    let snapshots = made(&["2026-11-27T02:00:00Z", "2026-11-28T02:05:00Z"]);
    assert_eq!(utc(&snapshots, &last(1), "2026-11-28T02:00:00Z"), ["1"]);
}

#[test]
fn a_day_in_auckland_is_no_day_of_utc() {
    // Three a day at 08:00, 14:00 and 20:00 of six days.
    let zone = TimeZone::get("Pacific/Auckland").unwrap();
    let mut snapshots = Vec::new();
    for day in 0..6 {
        for hour in [8, 14, 20] {
            let civil = jiff::civil::date(2026, 11, 20).at(hour, 0, 0, 0) + day.days();
            let order = snapshots.len() as u64 + 1;
            snapshots.push(Candidate {
                id: format!("{}T{hour}", civil.date()),
                order,
                time: civil.to_zoned(zone.clone()).unwrap().timestamp(),
            });
        }
    }
    let now = snapshots.last().unwrap().time;
    let expected = ["2026-11-22T20", "2026-11-23T20", "2026-11-24T20", "2026-11-25T20"];
    assert_eq!(kept(&snapshots, &daily(4), &zone, now), expected);
    assert_ne!(kept(&snapshots, &daily(4), &TimeZone::UTC, now), expected);
}

#[test]
fn each_rule_keeps_its_own_and_the_oldest_stays_while_a_rule_is_not_full() {
    let days: Vec<String> = (1..=20).map(|day| format!("2026-01-{day:02}T02:00:00Z")).collect();
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let rules = Retention { last: Some(2), weekly: Some(2), monthly: Some(2), ..Retention::default() };
    // The last two, the newest of this ISO week and the one before (18 January is a Sunday), and the oldest, since there
    // is one month only.
    assert_eq!(utc(&made(&days), &rules, "2026-01-20T03:00:00Z"), ["0", "17", "18", "19"]);
    assert_eq!(utc(&made(&days), &daily(30), "2026-01-20T03:00:00Z").len(), 20);
}

#[test]
fn rules_that_keep_nothing_forget_nothing() {
    let snapshots = made(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    for rules in [Retention::default(), last(0)] {
        assert_eq!(superfluous(&snapshots, &rules, &TimeZone::UTC, at("2026-02-01T00:00:00Z")), [""; 0]);
    }
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let snapshots = made(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
    let hourly = Retention { hourly: Some(3), ..Retention::default() };
    assert_eq!(kept(&snapshots, &hourly, &zone, at("2026-10-25T03:00:00Z")).len(), 3);
}

#[test]
fn a_cut_counts_what_the_rules_before_kept_and_says_from_when_to_when() {
    let days: Vec<String> = (1..=20).map(|day| format!("2026-01-{day:02}T02:00:00Z")).collect();
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let now = at("2026-01-20T03:00:00Z");
    let cut = |before: Option<Retention>, rules: Retention| {
        super::cut(&made(&days), before.as_ref(), &rules, &TimeZone::UTC, now)
    };
    let found = cut(Some(last(100_000)), last(3)).unwrap();
    assert_eq!((found.forgotten, found.there), (17, 20));
    assert_eq!((found.oldest, found.newest), (at("2026-01-01T02:00:00Z"), at("2026-01-17T02:00:00Z")));
    assert_eq!(cut(Some(last(3)), last(3)), None);
    assert_eq!(cut(Some(last(5)), last(3)), None, "two of twenty");
    assert_eq!(cut(None, last(19)), None, "what every run forgets");
    assert!(cut(None, last(18)).is_none() && cut(None, last(3)).is_some());
}

/// The oracle: a calendar of the zone, made from civil dates by the rules of the clock's offset alone.
fn civil_date(time: Timestamp, zone: &TimeZone) -> Date {
    let offset = i64::from(zone.to_offset(time).seconds());
    let days = (time.as_second() + offset).div_euclid(86_400);
    jiff::civil::date(1970, 1, 1) + Span::new().days(days)
}

/// What a person would keep with a calendar on the wall: the last of each of the newest days, weeks, months, years.
fn by_calendar(
    snapshots: &[Candidate],
    count: usize,
    page: impl Fn(Date) -> (i16, i16),
    zone: &TimeZone,
) -> Vec<String> {
    let mut pages: BTreeMap<(i16, i16), &Candidate> = BTreeMap::new();
    for each in snapshots {
        pages.insert(page(civil_date(each.time, zone)), each);
    }
    let full = pages.len() >= count;
    let mut kept: Vec<String> = pages.into_values().rev().take(count).map(|each| each.id.clone()).collect();
    if !full {
        kept.push(snapshots[0].id.clone());
    }
    kept.sort();
    kept.dedup();
    kept
}

fn zones() -> Vec<String> {
    let mut zones: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    zones.sort();
    assert!(zones.len() > 400, "the zones are there: {}", zones.len());
    zones
}

#[test]
fn the_days_are_those_of_the_zone_for_every_zone_over_a_whole_year_with_its_changes_of_the_clock() {
    // Six hours and a bit: three or four a day, at hours that wander through the day.
    let start = at("2026-01-01T00:10:00Z");
    let snapshots: Vec<Candidate> = (0..1500_i32)
        .map(|n| Candidate {
            id: format!("{n:05}"),
            order: u64::try_from(n).unwrap(),
            time: start + SignedDuration::from_secs(i64::from(n) * (6 * 3600 + 977)),
        })
        .collect();
    for zone in zones() {
        let tz = TimeZone::get(&zone).unwrap();
        for window in [0..40, 300..420, 1000..1130] {
            let some = &snapshots[window];
            let now = some.last().unwrap().time;
            let sorted = |rules: &Retention| {
                let mut kept = kept(some, rules, &tz, now);
                kept.sort();
                kept
            };
            let day = |date: Date| (date.year(), date.day_of_year());
            assert_eq!(sorted(&daily(9)), by_calendar(some, 9, day, &tz), "{zone}");
            let month = |date: Date| (date.year(), i16::from(date.month()));
            let monthly = Retention { monthly: Some(2), ..Retention::default() };
            assert_eq!(sorted(&monthly), by_calendar(some, 2, month, &tz), "{zone}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_day_is_kept_twice_and_none_is_left_out_in_any_zone(
        zone in prop::sample::select(zones()),
        start in 1_600_000_000_i64..1_900_000_000,
        steps in prop::collection::vec(1..100_000_i64, 1..80),
        count in 1..12_u32,
    ) {
        let zone = TimeZone::get(&zone).unwrap();
        let mut second = start;
        let mut snapshots = Vec::new();
        for step in steps {
            second += step;
            let order = snapshots.len() as u64;
            let time = Timestamp::from_second(second).unwrap();
            snapshots.push(Candidate { id: format!("{order:03}"), order, time });
        }
        let mut found = kept(&snapshots, &daily(count), &zone, Timestamp::from_second(second).unwrap());
        found.sort();
        let day = |date: Date| (date.year(), date.day_of_year());
        prop_assert_eq!(found, by_calendar(&snapshots, count as usize, day, &zone));
    }

    #[test]
    fn whatever_the_dates_the_newest_run_stays_and_what_is_dated_in_the_future_changes_nothing(
        seconds in prop::collection::vec(0..3_000_000_000_i64, 1..30),
        now in 1_000_000_000..2_000_000_000_i64,
        rules in (0..3_u32, 0..4_u32, 0..3_u32, 0..2_u32).prop_map(|(last, daily, weekly, yearly)| Retention {
            last: Some(last), daily: Some(daily), weekly: Some(weekly), yearly: Some(yearly), ..Retention::default()
        }),
    ) {
        let snapshots: Vec<Candidate> = seconds
            .iter()
            .enumerate()
            .map(|(n, second)| Candidate {
                id: n.to_string(),
                order: n as u64,
                time: Timestamp::from_second(*second).unwrap(),
            })
            .collect();
        let now = Timestamp::from_second(now).unwrap();
        let gone = superfluous(&snapshots, &rules, &TimeZone::UTC, now);
        let past: Vec<Candidate> = snapshots.iter().filter(|each| !is_future(each.time, now)).cloned().collect();
        prop_assert_eq!(&gone, &superfluous(&past, &rules, &TimeZone::UTC, now));
        prop_assert!(!gone.contains(&(snapshots.len() - 1).to_string()));
    }
}
