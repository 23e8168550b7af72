//! Which slot fires when: jitter, missed times, turned clocks.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const TEN_MINUTES: Duration = Duration::from_mins(10);

fn daily() -> Schedule {
    Schedule::parse("0 2 * * *", "UTC").unwrap()
}

fn timing(schedule: &Schedule, on_missed: WhenMissed) -> Timing<'_> {
    Timing { schedule, jitter: TEN_MINUTES, on_missed }
}

#[test]
fn a_new_job_waits_for_its_next_time() {
    let standing = begin(&daily(), TEN_MINUTES, None, at("2026-11-03T12:00:00Z"));
    assert_eq!(standing.next_slot, Some(at("2026-11-04T02:00:00Z")));
    assert_eq!(standing.next_run, Some(at("2026-11-04T02:10:00Z")));
}

#[test]
fn a_slot_fires_after_its_jitter_and_only_once() {
    let schedule = daily();
    let timing = timing(&schedule, WhenMissed::RunOnce);
    let standing = begin(&schedule, TEN_MINUTES, None, at("2026-11-03T12:00:00Z"));
    let early = decide(&timing, &standing, None, at("2026-11-04T02:09:59Z"));
    assert_eq!(early, Decided { decision: Decision::NotYet { at: at("2026-11-04T02:10:00Z") }, standing });
    let fired = decide(&timing, &standing, None, at("2026-11-04T02:10:00Z"));
    assert_eq!(fired.decision, Decision::Fire { slot: at("2026-11-04T02:00:00Z"), missed: false });
    assert_eq!(fired.standing.last_slot, Some(at("2026-11-04T02:00:00Z")));
    let after = decide(&timing, &fired.standing, None, at("2026-11-04T02:10:00Z"));
    assert_eq!(after.decision, Decision::NotYet { at: at("2026-11-05T02:10:00Z") });
}

#[test]
fn missed_slots_collapse_into_the_newest() {
    let schedule = daily();
    let standing = begin(&schedule, TEN_MINUTES, None, at("2026-11-03T12:00:00Z"));
    let late = at("2026-11-09T12:00:00Z");
    let run = decide(&timing(&schedule, WhenMissed::RunOnce), &standing, None, late);
    assert_eq!(run.decision, Decision::Fire { slot: at("2026-11-09T02:00:00Z"), missed: true });
    assert_eq!(run.standing.next_slot, Some(at("2026-11-10T02:00:00Z")));
    let skip = decide(&timing(&schedule, WhenMissed::Skip), &standing, None, late);
    let (first, last) = (at("2026-11-04T02:00:00Z"), at("2026-11-09T02:00:00Z"));
    assert_eq!(skip.decision, Decision::Skip { first, last, reason: SkipReason::Missed });
    assert_eq!(skip.standing, run.standing);
}

#[test]
fn a_slot_on_time_fires_even_when_older_ones_are_skipped() {
    let schedule = daily();
    let standing = begin(&schedule, TEN_MINUTES, None, at("2026-11-03T12:00:00Z"));
    let decided = decide(&timing(&schedule, WhenMissed::Skip), &standing, None, at("2026-11-09T02:12:00Z"));
    assert_eq!(decided.decision, Decision::Fire { slot: at("2026-11-09T02:00:00Z"), missed: false });
}

#[test]
fn a_suspension_lets_slots_pass_and_ends_by_itself() {
    let schedule = daily();
    let timing = timing(&schedule, WhenMissed::RunOnce);
    let standing = begin(&schedule, TEN_MINUTES, None, at("2026-11-03T12:00:00Z"));
    let pause = Some(Pause { since: at("2026-11-03T12:00:00Z"), until: at("2026-11-04T12:00:00Z") });
    let slot = at("2026-11-04T02:00:00Z");
    let skipped = Decision::Skip { first: slot, last: slot, reason: SkipReason::Suspended };
    let during = decide(&timing, &standing, pause, at("2026-11-04T02:10:00Z"));
    assert_eq!(during.decision, skipped);
    // Found only after the end: the slot still lay within the suspension.
    assert_eq!(decide(&timing, &standing, pause, at("2026-11-04T13:00:00Z")).decision, skipped);
    let next = decide(&timing, &during.standing, pause, at("2026-11-05T02:10:00Z"));
    assert_eq!(next.decision, Decision::Fire { slot: at("2026-11-05T02:00:00Z"), missed: false });
}

#[test]
fn a_retry_runs_before_the_next_slot_and_uses_none() {
    let schedule = daily();
    let timing = timing(&schedule, WhenMissed::RunOnce);
    let now = at("2026-11-04T02:10:00Z");
    let mut standing = begin(&schedule, TEN_MINUTES, Some(at("2026-11-04T02:00:00Z")), now);
    standing.next_run = Some(at("2026-11-04T02:40:00Z"));
    let decided = decide(&timing, &standing, None, now);
    assert_eq!(decided.decision, Decision::NotYet { at: at("2026-11-04T02:40:00Z") });
    let decided = decide(&timing, &standing, None, at("2026-11-04T02:41:00Z"));
    assert_eq!(decided.decision, Decision::Retry);
    assert_eq!(decided.standing.next_run, Some(at("2026-11-05T02:10:00Z")));
    let pause = Some(Pause { since: now, until: at("2026-11-06T00:00:00Z") });
    assert_eq!(decide(&timing, &standing, pause, at("2026-11-04T02:41:00Z")).decision, Decision::Reset);
}

#[test]
fn a_clock_set_back_an_hour_waits_and_one_set_back_a_year_does_not_stall() {
    let schedule = daily();
    let timing = timing(&schedule, WhenMissed::RunOnce);
    let standing = begin(&schedule, TEN_MINUTES, Some(at("2026-11-04T02:00:00Z")), at("2026-11-04T02:10:00Z"));
    let hour = decide(&timing, &standing, None, at("2026-11-04T01:20:00Z"));
    assert_eq!(hour, Decided { decision: Decision::NotYet { at: at("2026-11-05T02:10:00Z") }, standing });
    let year = decide(&timing, &standing, None, at("2025-11-04T01:20:00Z"));
    assert_eq!(year.decision, Decision::Reset);
    assert_eq!(year.standing.next_slot, Some(at("2025-11-04T02:00:00Z")));
    assert_eq!(year.standing.last_slot, None);
}

#[test]
fn upkeep_runs_once_for_missed_times_and_does_not_stall() {
    let schedule = daily();
    let tomorrow = Some(at("2026-11-04T02:00:00Z"));
    let decide = |next: Option<&str>, now| decide_upkeep(&schedule, next.map(at), at(now));
    assert_eq!(decide(None, "2026-11-03T12:00:00Z"), (UpkeepDecision::NotYet, tomorrow));
    assert_eq!(decide(Some("2026-11-04T02:00:00Z"), "2026-11-03T12:00:00Z"), (UpkeepDecision::NotYet, tomorrow));
    assert_eq!(decide(Some("2026-10-04T02:00:00Z"), "2026-11-03T12:00:00Z"), (UpkeepDecision::Run, tomorrow));
    assert_eq!(decide(Some("2027-11-04T02:00:00Z"), "2026-11-03T12:00:00Z"), (UpkeepDecision::NotYet, tomorrow));
}

fn expressions() -> impl Strategy<Value = Schedule> {
    let expression =
        prop::sample::select(vec!["0 2 * * *", "*/15 * * * *", "30 */6 * * *", "0 3 * * 0", "17 2,14 * * 1-5"]);
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Singapore"]);
    (expression, zone).prop_map(|(expression, zone)| Schedule::parse(expression, zone).unwrap())
}

/// Moves of the clock in seconds: mostly forwards, sometimes back by up to a day in all.
fn moves() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(prop_oneof![4 => 1..7_200_i64, 2 => 0..400_000_i64, 1 => -20_000..0_i64], 1..120)
}

proptest! {
    #[test]
    fn no_slot_fires_twice_however_the_clock_is_turned_within_a_day(
        schedule in expressions(),
        moves in moves(),
        jitter in 0..1800_u64,
        start in 1_800_000_000..1_900_000_000_i64,
    ) {
        let timing = Timing { schedule: &schedule, jitter: Duration::from_secs(jitter), on_missed: WhenMissed::RunOnce };
        let mut now = start;
        let mut highest = start;
        let mut fired: Vec<Timestamp> = Vec::new();
        let mut standing = begin(&schedule, timing.jitter, None, Timestamp::from_second(now).unwrap());
        for by in moves {
            // Never more than a day behind the latest time seen.
            now = (now + by).max(highest - 86_400);
            highest = highest.max(now);
            let instant = Timestamp::from_second(now).unwrap();
            let decided = decide(&timing, &standing, None, instant);
            if let Decision::Fire { slot, missed } = decided.decision {
                prop_assert!(fired.last().is_none_or(|last| *last < slot), "{slot} after {fired:?}");
                prop_assert!(slot.as_second() + i64::try_from(jitter).unwrap() <= now);
                prop_assert_eq!(missed, now - slot.as_second() - i64::try_from(jitter).unwrap() > 300);
                fired.push(slot);
            }
            standing = decided.standing;
            // Deciding again at the same time does nothing more.
            let again = decide(&timing, &standing, None, instant);
            prop_assert!(matches!(again.decision, Decision::NotYet { at } if at > instant), "{again:?}");
            prop_assert_eq!(again.standing, standing);
        }
    }

    #[test]
    fn no_clock_stalls_a_job(
        schedule in expressions(),
        first in 0..4_000_000_000_i64,
        second in 0..4_000_000_000_i64,
        jitter in 0..1800_u64,
    ) {
        let timing = Timing { schedule: &schedule, jitter: Duration::from_secs(jitter), on_missed: WhenMissed::RunOnce };
        let (first, second) = (Timestamp::from_second(first).unwrap(), Timestamp::from_second(second).unwrap());
        let standing = begin(&schedule, timing.jitter, schedule.previous_at_or_before(first), first);
        let mut standing = decide(&timing, &standing, None, first).standing;
        let own = schedule.next_after(forth(second, CLOCK_BACK_MAX)).unwrap();
        let mut now = second;
        loop {
            let decided = decide(&timing, &standing, None, now);
            standing = decided.standing;
            match decided.decision {
                Decision::Fire { .. } => break,
                Decision::NotYet { at } => now = at,
                Decision::Reset => {}
                other => prop_assert!(false, "{other:?}"),
            }
            prop_assert!(now <= forth(own, timing.jitter), "still waiting for {now}, its next was {own}");
        }
    }
}
