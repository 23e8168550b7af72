//! Schedules over every transition of every zone.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, zone).unwrap()
}

/// The next `count` times after `from`, as civil time with offset.
fn times(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, zone);
    schedule
        .upcoming(at(from))
        .take(count)
        .map(|t| t.to_zoned(schedule.zone().clone()).strftime("%Y-%m-%d %H:%M%:z").to_string())
        .collect()
}

#[test]
fn a_time_in_a_gap_fires_right_after_it_and_swallowed_times_collapse() {
    // Europe/Berlin goes from 02:00 to 03:00 on 2027-03-28.
    let berlin = |expression, count| times(expression, "Europe/Berlin", "2027-03-27T12:00:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["2027-03-28 03:00+02:00", "2027-03-29 02:30+02:00"]);
    assert_eq!(berlin("*/20 2 * * *", 2), ["2027-03-28 03:00+02:00", "2027-03-29 02:00+02:00"]);
    assert_eq!(berlin("30 2,3 * * *", 2), ["2027-03-28 03:00+02:00", "2027-03-28 03:30+02:00"]);
    assert_eq!(berlin("0 3 * * *", 2), ["2027-03-28 03:00+02:00", "2027-03-29 03:00+02:00"]);
    assert_eq!(
        times("30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2),
        ["2027-03-28 01:30+01:00", "2027-03-28 03:30+02:00"]
    );
}

#[test]
fn a_time_in_a_fold_fires_once_but_wildcards_run_through_both_passes() {
    // Europe/Berlin goes from 03:00 back to 02:00 on 2027-10-31.
    let berlin = |expression, count| times(expression, "Europe/Berlin", "2027-10-30T23:50:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["2027-10-31 02:30+02:00", "2027-11-01 02:30+01:00"]);
    assert_eq!(
        berlin("*/30 * * * *", 6),
        [
            "2027-10-31 02:00+02:00",
            "2027-10-31 02:30+02:00",
            "2027-10-31 02:00+01:00",
            "2027-10-31 02:30+01:00",
            "2027-10-31 03:00+01:00",
            "2027-10-31 03:30+01:00"
        ]
    );
    // Asked in the middle of the second pass, a fixed time in it is over.
    assert_eq!(times("45 2 * * *", "Europe/Berlin", "2027-10-31T01:30:00Z", 1), ["2027-11-01 02:45+01:00"]);
}

#[test]
fn odd_zones_are_right() {
    assert_eq!(
        times("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z", 2),
        ["2027-10-03 02:30+11:00", "2027-10-04 02:15+11:00"]
    );
    assert_eq!(
        times("50 2 * * *", "Pacific/Chatham", "2027-09-25T00:00:00Z", 2),
        ["2027-09-26 03:45+13:45", "2027-09-27 02:50+13:45"]
    );
    assert_eq!(
        times("30 2 * * *", "Antarctica/Troll", "2027-03-27T12:00:00Z", 2),
        ["2027-03-28 03:00+02:00", "2027-03-29 02:30+02:00"]
    );
    // Samoa had no 30 December 2011.
    assert_eq!(
        times("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
        ["2011-12-29 12:00-10:00", "2011-12-31 00:00+14:00", "2011-12-31 12:00+14:00"]
    );
    assert_eq!(
        times("0 * 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z", 2),
        ["2011-12-31 00:00+14:00", "2012-12-30 00:00+14:00"]
    );
}

#[test]
fn years_and_leap_days_turn_over() {
    assert_eq!(times("59 23 31 12 *", "UTC", "2026-12-31T23:59:00Z", 1), ["2027-12-31 23:59+00:00"]);
    assert_eq!(times("0 0 * * *", "Asia/Singapore", "2026-12-31T15:59:59Z", 1), ["2027-01-01 00:00+08:00"]);
    assert_eq!(times("0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", 1), ["2104-02-29 00:00+00:00"]);
    // 1 March is a Friday in 2097 and then not before 2109.
    assert_eq!(times("0 0 */31 3 5", "UTC", "2097-03-02T00:00:00Z", 1), ["2109-03-01 00:00+00:00"]);
    assert_eq!(schedule("* * * * *", "UTC").next_after(Timestamp::MAX), None);
}

#[test]
fn weekdays_are_as_in_crontab() {
    // 2026-11-01 is a Sunday.
    let first = |expression| times(expression, "UTC", "2026-10-31T23:59:59Z", 1).remove(0);
    for sunday in
        ["0 1 * * 0", "0 1 * * 7", "0 1 * * sun", "0 1 * * SUNDAY", "0 1 * * 5-7", "0 1 * * fri-sun", "0 1 * * 7-2"]
    {
        assert_eq!(first(sunday), "2026-11-01 01:00+00:00", "{sunday}");
    }
    assert_eq!(first("0 1 * * 1"), "2026-11-02 01:00+00:00");
    assert_eq!(first("0 1 * * sat-mon"), "2026-11-01 01:00+00:00");
    assert_eq!(first("0 1 * jan *"), "2027-01-01 01:00+00:00");
    assert_eq!(first("0 1 * * 2-6/2"), "2026-11-03 01:00+00:00");
}

#[test]
fn either_day_is_enough_unless_one_begins_with_a_star() {
    let days = |expression: &str| {
        times(expression, "UTC", "2026-10-31T23:59:59Z", 4).into_iter().map(|t| t[5..10].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(days("0 0 4 * 1"), ["11-02", "11-04", "11-09", "11-16"]);
    assert_eq!(days("0 0 */2 * 1"), ["11-09", "11-23", "12-07", "12-21"]);
    assert_eq!(days("0 0 1-31/2 * 1"), ["11-01", "11-02", "11-03", "11-05"]);
    assert_eq!(days("0 0 4 * *"), ["11-04", "12-04", "01-04", "02-04"]);
}

#[test]
fn macros_stand_for_their_fields() {
    let first = |expression| times(expression, "UTC", "2026-11-03T10:20:00Z", 1).remove(0);
    assert_eq!(first("@hourly"), "2026-11-03 11:00+00:00");
    assert_eq!(first("@daily"), "2026-11-04 00:00+00:00");
    assert_eq!(first("@midnight"), "2026-11-04 00:00+00:00");
    assert_eq!(first("@weekly"), "2026-11-08 00:00+00:00");
    assert_eq!(first("@monthly"), "2026-12-01 00:00+00:00");
    assert_eq!(first("@yearly"), "2027-01-01 00:00+00:00");
    assert_eq!(first("@annually"), "2027-01-01 00:00+00:00");
}

#[test]
fn errors_name_the_field_the_value_and_what_is_expected() {
    let tell = |expression: &str| {
        let error = Schedule::parse(expression, "UTC").unwrap_err();
        let marked = error.span().map(|span| format!(" [{}]", &expression[span])).unwrap_or_default();
        format!("{expression} => {error}{marked}\n  {}\n", error.hint().unwrap_or_default())
    };
    let all = [
        "",
        "0 2 * *",
        "0 0 2 * * *",
        "61 2 * * *",
        "0 24 * * *",
        "0 2 0 * *",
        "0 2 * 13 *",
        "0 2 * foo *",
        "0 2 * * 8",
        "0 22-4 * * *",
        "*/90 * * * *",
        "*/0 * * * *",
        "5/15 * * * *",
        "0 2,,3 * * *",
        "0 2 L * *",
        "0 2 ? * 1",
        "0 2 * * 1#2",
        "-5 * * * *",
        "0 2 * * mon-",
        "@reboot",
        "@every 5m",
        "@dayly",
        "0 0 31 2,4 *",
        "0 0 29 2 */2",
        "0 é * * *",
    ];
    insta::assert_snapshot!(all.map(tell).concat(), @r###"
     => a schedule has 5 fields (minute, hour, day of month, month, day of week), found 0
      write for example "0 2 * * *" for every day at 02:00
    0 2 * * => a schedule has 5 fields (minute, hour, day of month, month, day of week), found 4
      write for example "0 2 * * *" for every day at 02:00, in quotes so that YAML keeps the stars
    0 0 2 * * * => a schedule has 5 fields (minute, hour, day of month, month, day of week), found 6
      seconds and years are not supported: write for example "0 2 * * *" for every day at 02:00
    61 2 * * * => the minute "61" is not allowed, expected 0-59 [61]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 24 * * * => the hour "24" is not allowed, expected 0-23 [24]
      midnight is hour 0 of the next day
    0 2 0 * * => the day of month "0" is not allowed, expected 1-31 [0]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 2 * 13 * => the month "13" is not allowed, expected 1-12 or jan-dec [13]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 2 * foo * => the month "foo" is not allowed, expected 1-12 or jan-dec [foo]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 2 * * 8 => the day of week "8" is not allowed, expected 0-7 (0 and 7 are Sunday) or mon-sun [8]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 22-4 * * * => the range "22-4" in the hour runs backwards [22-4]
      to go over the end, write 22-23,0-4
    */90 * * * * => the step in "*/90" of the minute must be from 1 to 59 [*/90]
      a step restarts with every hour; for longer pauses set the hour, such as "0 */2 * * *"
    */0 * * * * => the step in "*/0" of the minute must be from 1 to 59 [*/0]
      a step restarts with every hour; for longer pauses set the hour, such as "0 */2 * * *"
    5/15 * * * * => the step in "5/15" of the minute needs '*' or a range before the '/' [5/15]
      write 5-59/15 to go on to the end
    0 2,,3 * * * => an item of the hour is empty, expected 0-23 []
      remove the stray comma, or write the missing value
    0 2 L * * => "L" in the day of month is not supported, expected 1-31 [L]
      L, W and # are not supported: name the days, such as "0 2 1-7 * *" for the first week
    0 2 ? * 1 => "?" in the day of month is not supported, expected 1-31 [?]
      write '*' instead
    0 2 * * 1#2 => "1#2" in the day of week is not supported, expected 0-7 (0 and 7 are Sunday) or mon-sun [1#2]
      L, W and # are not supported: name the days, such as "0 2 1-7 * *" for the first week
    -5 * * * * => the minute "-5" is not allowed, expected 0-59 [-5]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    0 2 * * mon- => the day of week "" is not allowed, expected 0-7 (0 and 7 are Sunday) or mon-sun []
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    @reboot => a backup cannot be scheduled with @reboot
      missed runs are made up on start by themselves (on_missed: run); use @daily or "0 2 * * *"
    @every 5m => the schedule "@every 5m" is not known
      write the times instead, such as "*/15 * * * *" for every 15 minutes
    @dayly => the schedule "@dayly" is not known
      known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually
    0 0 31 2,4 * => the schedule "0 0 31 2,4 *" never fires
      no year, or hardly any, has such a day: look at day of month and month
    0 0 29 2 */2 => the schedule "0 0 29 2 */2" never fires
      no year, or hardly any, has such a day: look at day of month and month
    0 é * * * => the hour "é" is not allowed, expected 0-23 [é]
      write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)
    "###);
}

#[test]
fn an_unknown_zone_gets_a_suggestion() {
    let hint = |zone| Schedule::parse("0 2 * * *", zone).unwrap_err().hint().unwrap();
    assert_eq!(hint("Europe/Berln"), "did you mean \"Europe/Berlin\"?");
    assert_eq!(hint("Berlin"), "did you mean \"Europe/Berlin\"?");
    assert_eq!(hint("America/New York"), "did you mean \"America/New_York\"?");
    assert_eq!(hint(""), "use an IANA name, such as \"Europe/Berlin\" or \"UTC\"");
    assert_eq!(hint("../../etc/passwd"), "use an IANA name, such as \"Europe/Berlin\" or \"UTC\"");
    assert!(Schedule::parse(&"1,".repeat(400), "UTC").is_err());
}

#[test]
fn easy_schedules_are_described_in_english() {
    let all = [
        "* * * * *",
        "*/15 * * * *",
        "5 * * * *",
        "0 */6 * * *",
        "0 2 * * *",
        "0 2,14 * * *",
        "30 3 * * 0",
        "0 2 * * 1-5",
        "0 2 * * 6,0",
        "0 2 1,15 * *",
        "0 2 1 1 *",
        "@monthly",
        "7,23 1-9 * * *",
        "0 2 1 * mon",
    ];
    let lines = all.map(|expression| format!("{expression} => {}\n", schedule(expression, "UTC").describe()));
    insta::assert_snapshot!(lines.concat(), @r###"
    * * * * * => every minute
    */15 * * * * => every 15 minutes
    5 * * * * => hourly at :05
    0 */6 * * * => every 6 hours at :00
    0 2 * * * => daily at 02:00
    0 2,14 * * * => daily at 02:00 and 14:00
    30 3 * * 0 => Sundays at 03:30
    0 2 * * 1-5 => Monday to Friday at 02:00
    0 2 * * 6,0 => Saturdays and Sundays at 02:00
    0 2 1,15 * * => on the 1st and 15th of each month at 02:00
    0 2 1 1 * => every 1 January at 02:00
    @monthly => on the 1st of each month at 00:00
    7,23 1-9 * * * => 7,23 1-9 * * *
    0 2 1 * mon => 0 2 1 * mon
    "###);
}

#[test]
fn jitter_is_pinned_to_the_job() {
    let jitter = |id: &str, max| super::jitter(&id.parse().unwrap(), Duration::from_secs(max)).as_secs();
    assert_eq!([jitter("photos/daily", 600), jitter("db/daily", 600), jitter("db/hourly", 3600)], [402, 487, 355]);
    assert_eq!(jitter("photos/daily", 0), 0);
    assert_eq!(jitter("photos/daily", 1), 0);
    let spread = (0..1000).map(|n| jitter(&format!("t{n}/daily"), 10)).fold([0; 10], |mut counts, second| {
        counts[usize::try_from(second).unwrap()] += 1;
        counts
    });
    assert!(spread.iter().all(|count| (60..140).contains(count)), "{spread:?}");
}

#[test]
fn the_key_changes_only_with_schedule_zone_or_jitter() {
    let key = super::key("0  2 * * * ", "UTC", Duration::from_mins(10));
    assert_eq!(key, "0 2 * * *|UTC|600s");
}

#[test]
fn the_last_time_before_an_instant_is_found() {
    for (expression, zone) in [
        ("30 2 * * *", "Europe/Berlin"),
        ("* * * * *", "UTC"),
        ("0 0 29 2 *", "UTC"),
        ("*/20 1-3 * * 0", "Australia/Lord_Howe"),
    ] {
        let schedule = schedule(expression, zone);
        for now in ["2027-03-28T00:59:59Z", "2027-03-28T01:00:00Z", "2027-10-31T01:30:00.5Z", "2028-02-29T00:00:00Z"] {
            let now = at(now);
            let found = schedule.previous_at_or_before(now).unwrap();
            assert!(found <= now);
            assert!(schedule.next_after(found).unwrap() > now, "{expression} {now} {found}");
            assert_eq!(schedule.next_after(found - SignedDuration::from_nanos(1)), Some(found));
        }
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn field(low: u8, high: u8) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_owned()),
            3 => (low..=high).prop_map(|n| n.to_string()),
            1 => (1..=high).prop_map(|n| format!("*/{n}")),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    fn expression() -> impl Strategy<Value = String> {
        (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
            .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
    }

    fn zone() -> impl Strategy<Value = String> {
        let names: Vec<_> =
            jiff::tz::TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect();
        prop::sample::select(names)
    }

    proptest! {
        #[test]
        fn times_increase_match_and_none_lies_between(expression in expression(), zone in zone(), second in 0..4_000_000_000_i64, into in 0.0..1.0) {
            let Ok(schedule) = Schedule::parse(&expression, &zone) else { return Ok(()) };
            let start = Timestamp::from_second(second).unwrap();
            let times: Vec<_> = schedule.upcoming(start).take(4).collect();
            prop_assert_eq!(times.len(), 4);
            let mut last = start;
            for time in times {
                prop_assert!(time > last);
                let civil = schedule.zone.to_datetime(time);
                let matches = schedule.fields.next_at_or_after(civil, 9999) == Some(civil);
                let after_gap = schedule.zone.to_datetime(time - SignedDuration::from_secs(1)).date() != civil.date()
                    || schedule.zone.to_offset(time - SignedDuration::from_secs(1)) != schedule.zone.to_offset(time);
                prop_assert!(matches || after_gap, "{time}");
                // From anywhere between two times the later one is next, and the earlier one was last.
                #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any place will do")]
                let inside = last + SignedDuration::from_secs(((time.as_second() - last.as_second() - 1) as f64 * into) as i64);
                prop_assert_eq!(schedule.next_after(inside), Some(time));
                prop_assert_eq!(schedule.previous_at_or_before(time), Some(time));
                last = time;
            }
        }

        #[test]
        fn no_text_panics(expression in "\\PC{0,40}", stars in "[0-9*,/a-z@ -]{0,30}") {
            let _ = Schedule::parse(&expression, &expression);
            let _ = Schedule::parse(&stars, "UTC").map_err(|error| (error.hint(), error.trouble()));
        }
    }
}
