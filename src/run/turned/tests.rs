//! Clocks that were set back, set ahead, stayed there and were set right again.

use super::*;

const DAY_MS: i64 = 86_400_000;

fn look(day: i64, awake_days: i64, boot: &str) -> Look {
    let wall = Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
    Look { wall, awake_ms: awake_days * DAY_MS, boot: boot.to_owned() }
}

fn anchor(look: Look) -> Anchor {
    Anchor { look, ahead: None, behind: None, disowned: None }
}

/// Looks one after the other, each with what was recorded until then; what each told.
fn seen(looks: &[Look]) -> Vec<Turn> {
    let (mut before, mut recorded, mut turns) = (None, None, Vec::new());
    for look in looks {
        let (turn, after) = judge(before.as_ref(), look, recorded);
        turns.push(turn);
        (before, recorded) = (Some(after), Some(look.wall));
    }
    turns
}

fn kinds(looks: &[Look]) -> Vec<&'static str> {
    let kind = |turn: &Turn| match turn {
        Turn::None => "right",
        Turn::Back(_) => "back",
        Turn::Ahead(_) => "ahead",
    };
    seen(looks).iter().map(kind).collect()
}

#[test]
fn a_clock_that_goes_on_as_time_does_is_believed_also_when_the_machine_was_off_or_asleep() {
    for (before, now) in [
        (None, look(0, 1, "a")),
        (Some(look(0, 1, "a")), look(30, 31, "a")),
        (Some(look(0, 1, "a")), look(400, 0, "b")),
        (Some(look(0, 1, "a")), look(7, 1, "a")),
        // The state came to a machine that was on for longer.
        (Some(look(0, 1, "a")), look(1, 300, "b")),
    ] {
        let before = before.map(anchor);
        let recorded = before.as_ref().map(|before| before.look.wall);
        let (turn, after) = judge(before.as_ref(), &now, recorded);
        assert_eq!((turn, after), (Turn::None, anchor(now)));
    }
}

#[test]
fn a_clock_that_was_set_back_and_stays_there_is_behind_however_often_and_long_it_is_looked_at() {
    for days in [3, 400] {
        let mut looks = vec![look(400, 10, "a")];
        looks.extend((0..50).map(|day| look(400 - days + day, 10 + day, "a")));
        let told = kinds(&looks);
        assert!(told[1..].iter().all(|kind| *kind == "back"), "{days}: {told:?}");
        let Turn::Back(behind) = seen(&looks).pop().unwrap() else { panic!() };
        assert_eq!((behind.latest, behind.shown), (looks[0].wall, looks[1].wall), "what is told does not wander");
        // Right again: as late as it should be, also after another start.
        for (right, boot) in [(look(450, 60, "a"), "a"), (look(450, 0, "b"), "b"), (look(500, 110, "a"), "a")] {
            looks.push(right.clone());
            looks.push(look(460 + 50, 120, boot));
            assert_eq!(kinds(&looks)[51..52], ["right"], "{days} {right:?}");
            looks.truncate(51);
        }
    }
}

#[test]
fn after_another_start_it_is_behind_until_it_shows_what_was_recorded() {
    let looks = [look(400, 10, "a"), look(0, 0, "b"), look(1, 1, "b"), look(1, 0, "c"), look(430, 29, "c")];
    assert_eq!(kinds(&looks), ["right", "back", "back", "back", "right"], "off for weeks, then set by the network");
}

#[test]
fn a_clock_that_was_ahead_before_anybody_looked_is_told_until_somebody_says_that_it_is_right() {
    let (first, now) = (look(400, 1, "a"), look(0, 1, "a"));
    let (turn, held) = judge(Some(&anchor(first.clone())), &now, Some(first.wall));
    let Turn::Back(behind) = turn else { panic!("{turn:?}") };
    assert_eq!((behind.latest, behind.shown), (first.wall, now.wall));
    let said = accept(Some(&held), &look(1, 2, "a"));
    assert!(said.behind.is_none());
    // Neither what this job recorded then nor what another one did comes back.
    let (turn, after) = judge(Some(&said), &look(2, 3, "a"), Some(first.wall));
    assert_eq!(turn, Turn::None);
    // A later jump is another one.
    assert!(matches!(judge(Some(&after), &look(-1, 4, "a"), None).0, Turn::Back(_)));
    let beyond = look(500, 3, "a").wall;
    assert!(matches!(judge(Some(&after), &look(3, 4, "a"), Some(beyond)).0, Turn::Back(_)));
}

#[test]
fn what_a_lost_state_left_dated_in_the_future_is_told_until_it_is_accepted() {
    let (now, recorded) = (look(0, 1, "a"), look(9, 0, "x").wall);
    let (turn, held) = judge(None, &now, Some(recorded));
    assert!(matches!(&turn, Turn::Back(behind) if behind.latest == recorded), "{turn:?}");
    assert!(matches!(judge(Some(&held), &look(5, 6, "a"), None).0, Turn::Back(_)), "five days are not nine");
    let said = accept(Some(&held), &look(1, 2, "a"));
    assert_eq!(judge(Some(&said), &look(1, 2, "a"), Some(recorded)).0, Turn::None);
}

#[test]
fn one_that_is_set_again_while_it_is_behind_is_told_with_what_it_shows_then() {
    let looks = [look(400, 10, "a"), look(0, 10, "a"), look(397, 10, "a"), look(398, 11, "a")];
    let Turn::Back(behind) = seen(&looks).pop().unwrap() else { panic!() };
    assert_eq!((behind.latest, behind.shown), (looks[0].wall, looks[2].wall));
    // And one that is set far ahead from there is ahead.
    assert_eq!(kinds(&[look(400, 10, "a"), look(0, 10, "a"), look(800, 10, "a")]), ["right", "back", "ahead"]);
}

#[test]
fn a_clock_that_was_set_ahead_is_doubted_until_it_is_back_or_somebody_says_that_it_is_right() {
    let first = anchor(look(0, 1, "a"));
    let (turn, doubted) = judge(Some(&first), &look(400, 1, "a"), Some(first.look.wall));
    let Turn::Ahead(ahead) = turn else { panic!("{turn:?}") };
    assert_eq!((ahead.expected, ahead.shown), (look(0, 1, "a").wall, look(400, 1, "a").wall));
    for later in [look(401, 2, "a"), look(500, 1, "b")] {
        let (turn, after) = judge(Some(&doubted), &later, Some(ahead.shown));
        assert_eq!((turn, after.ahead.clone()), (Turn::Ahead(ahead.clone()), Some(ahead.clone())));
        assert_eq!(accept(Some(&after), &later), anchor(later.clone()));
    }
    // Set right again: what is dated in the future is known for what it is, and holds nobody.
    for later in [look(2, 3, "a"), look(2, 0, "b")] {
        let (turn, after) = judge(Some(&doubted), &later, Some(look(401, 0, "a").wall));
        assert_eq!((turn, after.ahead.clone()), (Turn::None, None), "{later:?}");
        let (turn, _) = judge(Some(&after), &look(3, 4, "a"), Some(look(402, 0, "a").wall));
        assert_eq!(turn, Turn::None);
    }
    // Set too far back: that is behind, by what was known before it was ahead.
    let (turn, _) = judge(Some(&doubted), &look(-3, 2, "a"), Some(look(401, 0, "a").wall));
    assert!(matches!(&turn, Turn::Back(behind) if behind.latest == first.look.wall), "{turn:?}");
}
