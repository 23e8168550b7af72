//! Loads of nights after nights, made by hand: what is told, and what is not.

use super::*;

fn load(bytes: u64, files: u64, parts: &[(&str, u64, u64)]) -> Load {
    let mut load = Load { total: Weight { bytes, files }, ..Load::default() };
    for (name, bytes, files) in parts {
        load.add(name, Weight { bytes: *bytes, files: *files });
    }
    load
}

fn usual(loads: &[Load]) -> Usual {
    let mut usual = Usual::default();
    for load in loads {
        usual.remember(load);
    }
    usual
}

#[test]
fn many_small_files_lost_beside_a_large_one_are_seen_by_their_number() {
    let usual = usual(&[load(20_002_000, 2001, &[]), load(20_002_000, 2001, &[])]);
    assert_eq!(usual.losses(&load(20_000_000, 1, &[])), ["the backup has 1 files instead of about 2001"]);
    assert!(usual.losses(&load(20_001_100, 1100, &[])).is_empty());
}

#[test]
fn a_small_source_that_lost_all_is_seen_beside_a_large_one() {
    let usual = usual(&[load(1_000_100, 20, &[("/a", 1_000_000, 10), ("/b", 100, 10)])]);
    let losses = usual.losses(&load(1_000_010, 19, &[("/a", 1_000_000, 10), ("/b", 10, 9)]));
    assert_eq!(losses.len(), 1);
    assert!(losses[0].starts_with("/b has 10 B instead of"), "{losses:?}");
}

#[test]
fn a_first_run_a_new_source_and_one_odd_size_are_no_loss() {
    assert!(usual(&[]).losses(&load(0, 0, &[("/a", 0, 0)])).is_empty());
    let usual = usual(&[load(100, 1, &[]), load(900, 1, &[]), load(100, 1, &[])]);
    assert!(usual.losses(&load(99, 1, &[("/new", 1, 1)])).is_empty());
}

#[test]
fn a_slow_loss_is_seen_as_a_whole_and_by_source_and_begins_anew_where_it_is_accepted() {
    let falls = |usual: &mut Usual| {
        for night in 0..40_u32 {
            let left = 1_000_000 * 88_u64.pow(night.min(9)) / 100_u64.pow(night.min(9));
            let now = load(9_000_000 + left, 20, &[("/a", 9_000_000, 10), ("/b", left, 10)]);
            let losses = usual.losses(&now);
            if !losses.is_empty() {
                return Some((night, losses, now));
            }
            usual.remember(&now);
        }
        None
    };
    let mut usual = usual(&[]);
    let (night, losses, now) = falls(&mut usual).unwrap();
    assert_eq!((night, losses.len()), (6, 1), "{losses:?}");
    assert!(losses[0].starts_with("/b has 453.5 KiB after losing a little each time: it had"), "{losses:?}");
    usual.hold(Some(&now));
    usual.begin_anew();
    assert_eq!(usual.losses(&now), Vec::<String>::new());
}

#[test]
fn only_the_last_five_count_and_what_is_shown_stays_while_nothing_is_worse() {
    let mut usual = usual(&[]);
    (0..9).for_each(|n| usual.remember(&load(n, n, &[])));
    assert_eq!(usual.loads.len(), SIZES_MAX);
    usual.hold(Some(&load(100, 10, &[])));
    assert!(usual.is_no_worse(&load(95, 10, &[])));
    assert!(!usual.is_no_worse(&load(80, 10, &[])));
    assert!(!usual.is_no_worse(&load(100, 5, &[])));
}

fn run(n: u64) -> RunId {
    RunId::from_bytes(u128::from(n).to_be_bytes())
}

/// Whole runs as they are, with the newest `last` kept.
struct Nights {
    usual: Usual,
    night: u64,
    last: u64,
}

impl Nights {
    fn keeping(last: u64) -> Self {
        Self { usual: Usual::default(), night: 0, last }
    }

    /// The losses of a night; where there is none it becomes the usual.
    fn night(&mut self, load: &Load) -> Vec<String> {
        self.night += 1;
        let losses = self.usual.losses(load);
        if losses.is_empty() {
            self.usual.remember(load);
        } else if !self.usual.is_no_worse(load) {
            self.usual.hold(Some(load));
        }
        let oldest = run(self.night.saturating_sub(self.last).max(1));
        self.usual.keep(load, run(self.night), Some(oldest));
        losses
    }
}

#[test]
fn what_arrived_in_the_newest_runs_is_missed_however_few_they_are() {
    for (small, large) in [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (9, 1)] {
        let mut nights = Nights::keeping(2);
        (0..small).for_each(|_| assert!(nights.night(&load(700, 2, &[])).is_empty()));
        (0..large).for_each(|_| assert!(nights.night(&load(12_000_000, 302, &[])).is_empty()));
        for _ in 0..20 {
            assert_eq!(nights.night(&load(700, 2, &[])).len(), 1, "{small} small and {large} large nights");
        }
        nights.usual.begin_anew();
        for _ in 0..20 {
            assert_eq!(nights.night(&load(700, 2, &[])), Vec::<String>::new(), "accepted");
        }
    }
}

#[test]
fn what_a_kept_backup_has_is_missed_by_source_too_and_no_longer_when_none_is_kept() {
    let parts = |small: u64| load(9_000_000 + small, 100, &[("/a", 9_000_000, 90), ("/b", small, 10)]);
    // Down by a third twice, each time for as long as the usual needs to follow.
    let falls = |last: u64, stay: usize| {
        let mut nights = Nights::keeping(last);
        let mut told = Vec::new();
        for small in [100_000, 68_000, 47_000] {
            (0..stay).for_each(|_| told.extend(nights.night(&parts(small))));
        }
        told
    };
    let told = falls(30, 4);
    assert!(told[0].starts_with("/b has 45.9 KiB where a backup that is still kept has 97.7 KiB"), "{told:?}");
    // The least that it came back from tells it, too, when none is kept any more.
    assert!(falls(2, 9)[0].starts_with("/b has 45.9 KiB after losing a little each time"));
    let mut nights = Nights::keeping(2);
    for bytes in [1000, 700, 700, 700, 700] {
        assert!(nights.night(&load(bytes, 10, &[])).is_empty());
    }
    assert_eq!(nights.usual.peaks.most(WHOLE).unwrap().bytes, 700, "the first is not kept any more");
}

#[test]
fn what_rotates_and_what_only_grows_is_not_told_and_a_peak_is_told_once() {
    let up = || (100_u64..1000).step_by(30);
    let mut nights = Nights::keeping(14);
    let mut told = 0;
    for bytes in (0..20).flat_map(|_| up().chain(up().collect::<Vec<_>>().into_iter().rev())) {
        let losses = nights.night(&load(bytes, 10, &[]));
        if !losses.is_empty() {
            told += 1;
            nights.usual.begin_anew();
        }
    }
    assert!(told <= 6, "told {told} times in 20 cycles of 60 nights");
    let mut nights = Nights::keeping(14);
    (0..400).for_each(|n| assert!(nights.night(&load(1000 + n * 100, 10 + n, &[])).is_empty()));
    let mut nights = Nights::keeping(14);
    (0..9).for_each(|_| assert!(nights.night(&load(1000, 10, &[])).is_empty()));
    assert!(nights.night(&load(9000, 11, &[])).is_empty());
    assert_eq!(nights.night(&load(1000, 10, &[])).len(), 1);
    nights.usual.begin_anew();
    (0..40).for_each(|_| assert!(nights.night(&load(1000, 10, &[])).is_empty(), "the kept peak is known"));
    // The journal of a database that was closed.
    let mut nights = Nights::keeping(14);
    for files in [1, 1, 1, 3, 1, 1, 3, 1] {
        assert!(nights.night(&load(1000, files, &[])).is_empty());
    }
}

/// How often each of `weeks` weeks of seven dumps is told, of which the first two falls that are told are accepted.
fn told_by_week(last: u64, weeks: usize, dump: impl Fn(u64) -> u64, whole: impl Fn(u64, u64) -> Load) -> Vec<usize> {
    let mut nights = Nights::keeping(last);
    let mut accepted = 0;
    let mut night = 0;
    let mut week = |_| {
        let mut told = 0;
        let mut bytes = 0;
        for day in 1..=7 {
            bytes += dump(night);
            night += 1;
            let losses = nights.night(&whole(bytes, day));
            told += usize::from(!losses.is_empty());
            if !losses.is_empty() && accepted < 2 {
                nights.usual.begin_anew();
                accepted += 1;
            }
        }
        told
    };
    (0..weeks).map(&mut week).collect()
}

#[test]
fn a_source_that_is_emptied_every_week_is_told_until_that_is_accepted_twice() {
    let uneven = |night: u64| 60_000 + night * 7919 % 5 * 4000;
    for last in [2, 7, 14, 60] {
        let alone = |bytes: u64, files: u64| load(700 + bytes, 1 + files, &[]);
        let mut twice = vec![0; 12];
        (twice[1], twice[2]) = (1, 1);
        assert_eq!(told_by_week(last, 12, |_| 60_000, alone), twice, "{last}");
        assert_eq!(told_by_week(last, 12, uneven, alone), twice, "{last} uneven");
        let beside = |bytes: u64, files: u64| {
            load(9_000_000 + bytes, 90 + files, &[("/a", 9_000_000, 90), ("/dumps", bytes, files)])
        };
        assert_eq!(told_by_week(last, 12, uneven, beside), twice, "{last} beside another source");
        // One file that grows and is begun anew.
        assert_eq!(told_by_week(last, 12, uneven, |bytes, _| load(bytes, 2, &[])), twice, "{last} one file");
    }
}

#[test]
fn what_arrives_at_once_and_is_lost_is_told_each_time_whatever_was_accepted() {
    let (small, large) = (load(700, 2, &[]), load(12_000_000, 302, &[]));
    let mut nights = Nights::keeping(2);
    for time in 0..6 {
        (0..3).for_each(|_| assert!(nights.night(&small).is_empty()));
        (0..=time).for_each(|_| assert!(nights.night(&large).is_empty()));
        assert_eq!(nights.night(&small).len(), 1, "{time}");
        nights.usual.begin_anew();
    }
}

#[test]
fn one_fall_that_was_accepted_is_no_cycle_however_what_came_since_grew() {
    let grown = |step: u64| load(60_000 + step * 60_000, 1 + step, &[]);
    let mut nights = Nights::keeping(2);
    (0..3).for_each(|_| assert!(nights.night(&grown(6)).is_empty()));
    assert_eq!(nights.night(&grown(0)).len(), 1, "tidied up");
    nights.usual.begin_anew();
    (1..=6).for_each(|step| assert_eq!(nights.night(&grown(step)), Vec::<String>::new(), "{step}"));
    for _ in 0..9 {
        assert_eq!(nights.night(&grown(0)).len(), 1, "what came since is lost");
    }
}

#[test]
fn in_a_source_that_is_emptied_every_week_what_else_is_lost_is_told() {
    let dumps = |day: u64, photos: u64| load(day * 60_000 + photos * 30_000, day + photos, &[]);
    let known = || {
        let mut nights = Nights::keeping(2);
        for week in 0..4 {
            for day in 1..=7 {
                let losses = nights.night(&dumps(day, 0));
                assert_eq!(losses.is_empty(), !matches!((week, day), (1 | 2, 1)), "{week} {day} {losses:?}");
                if !losses.is_empty() {
                    nights.usual.begin_anew();
                }
            }
        }
        nights
    };
    // Photos that arrived in the newest run, on each day of the week and also in the night of the fall.
    for day in 1..=7 {
        let mut nights = known();
        (1..day).for_each(|before| assert!(nights.night(&dumps(before, 0)).is_empty()));
        assert!(nights.night(&dumps(day, 40)).is_empty(), "{day}");
        let next = if day == 7 { 1 } else { day + 1 };
        assert_eq!(nights.night(&dumps(next, 0)).len(), 1, "{day}");
        assert_eq!(nights.night(&dumps(next + 1, 0)).len(), 1, "{day}, and it stays so");
    }
    // The dumps themselves: before it is time, and more than ever.
    let mut nights = known();
    (1..=4).for_each(|day| assert_eq!(nights.night(&dumps(day, 0)), Vec::<String>::new(), "{day}"));
    assert_eq!(nights.night(&dumps(1, 0)).len(), 1, "in the middle of the week");
    let mut nights = known();
    assert_eq!(nights.night(&load(0, 0, &[])).len(), 1, "all of them");
}

#[test]
fn all_of_a_thousand_sources_are_weighed_and_those_with_long_names() {
    let long = |n: u64| format!("/srv/{}/{n}", "x".repeat(190));
    for name in [&long as &dyn Fn(u64) -> String, &|n| format!("/srv/{n:04}")] {
        let many = |lost: Option<u64>| {
            let mut all = load(900_000_000, 3000, &[]);
            for n in 0..1000 {
                let weight =
                    if lost == Some(n) { Weight { bytes: 2, files: 1 } } else { Weight { bytes: 900_000, files: 3 } };
                all.add(&name(n), weight);
            }
            all
        };
        let mut nights = Nights::keeping(2);
        (0..5).for_each(|_| assert!(nights.night(&many(None)).is_empty()));
        for lost in [0, 15, 16, 500, 999] {
            let losses = nights.usual.losses(&many(Some(lost)));
            assert!(losses.len() == 1 && losses[0].starts_with(&format!("{} has 2 B", name(lost))), "{losses:?}");
        }
        let all = Load {
            parts: many(None).parts.keys().map(|part| (part.clone(), Weight::default())).collect(),
            ..many(None)
        };
        assert_eq!(nights.usual.losses(&all).len(), NAMED_MAX + 1);
    }
}

#[test]
fn a_path_that_was_taken_out_of_the_config_is_no_loss_and_one_that_is_there_is() {
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
    let both = load(1_000_000, 30, &[("/a", 900_000, 20), ("/b", 100_000, 10)]);
    let mut nights = Nights::keeping(2);
    (0..6).for_each(|_| assert!(nights.night(&both).is_empty()));
    let one = load(100_000, 10, &[("/b", 100_000, 10)]);
    assert!(!nights.usual.losses(&one).is_empty());
    let mut usual = nights.usual.clone();
    usual.only(&paths(&["/b/"]));
    assert_eq!(usual.losses(&one), Vec::<String>::new());
    assert_eq!(usual.losses(&load(10_000, 10, &[("/b", 10_000, 10)])).len(), 1, "what is left is weighed");
    let kept = usual.clone();
    usual.only(&paths(&["/b"]));
    assert_eq!(usual, kept, "once only");
    let mut usual = nights.usual.clone();
    usual.only(&paths(&["/a", "/c"]));
    assert_eq!(usual.losses(&load(900_000, 20, &[("/a", 900_000, 20), ("/c", 0, 0)])), Vec::<String>::new());
    // What another path holds now is still there to be lost.
    let mut usual = nights.usual.clone();
    usual.only(&paths(&["/"]));
    assert_eq!(usual.losses(&load(100_000, 10, &[("/", 100_000, 10)])).len(), 1);
}

fn recalled(load: Load) -> Recalled {
    Recalled { load, ..Recalled::default() }
}

#[test]
fn after_a_loss_of_the_state_the_most_that_is_still_there_was_usual() {
    let there = recalled(load(1000, 20, &[]));
    for mut usual in [usual(&[]), usual(&[load(10, 1, &[("/a", 9, 1)]), load(11, 1, &[])])] {
        usual.recall(&there);
        assert_eq!(usual.losses(&load(300, 20, &[])).len(), 1, "{usual:?}");
        assert_eq!(usual.losses(&load(1000, 9, &[])).len(), 1, "{usual:?}");
        assert!(usual.losses(&load(600, 12, &[])).is_empty());
        usual.hold(Some(&load(300, 20, &[])));
        usual.begin_anew();
        assert!(usual.losses(&load(300, 20, &[])).is_empty(), "what was accepted since is usual");
    }
    let mut more = usual(&[load(5000, 50, &[])]);
    more.recall(&there);
    assert_eq!(more.losses(&load(1000, 20, &[])).len(), 1);
}

#[test]
fn what_each_source_had_comes_back_too_however_many_they_are() {
    let many = |lost: Option<u64>| {
        let mut all = load(900_000_000, 90_000, &[]);
        for n in 0..40 {
            let weight = if lost == Some(n) { Weight { bytes: 2, files: 1 } } else { Weight { bytes: 9000, files: 9 } };
            all.add(&format!("/srv/{n:02}"), weight);
        }
        all
    };
    // One of before, and one whose state knew that source only when it was small.
    for mut usual in [usual(&[]), usual(&[many(Some(3)), many(Some(30))])] {
        usual.recall(&recalled(many(None)));
        for lost in [3, 30] {
            let losses = usual.losses(&many(Some(lost)));
            assert!(losses.len() == 1 && losses[0].starts_with(&format!("/srv/{lost:02} has 2 B")), "{losses:?}");
        }
        assert_eq!(usual.losses(&many(None)), Vec::<String>::new());
    }
}
