//! Figures counted by hand.

use super::*;

fn day(number: i8, stored: u64) -> Day {
    Day { date: Date::constant(2026, 11, number), stored, logical: 2 * stored }
}

fn days(stored: &[u64]) -> Vec<Day> {
    (1..).zip(stored).map(|(number, stored)| day(number, *stored)).collect()
}

fn usd(per_tb_month_millionths: u64) -> Cost {
    Cost { per_tb_month_millionths, currency: "USD".to_owned() }
}

#[test]
fn what_deduplication_and_compression_save_is_what_lies_between_logical_and_stored() {
    // Three snapshots of 1.3, 3.0 and 1.5 MB; 3 503 846 bytes of pieces and trees; 1 502 232 of them stored.
    let size = Size { snapshots: 3, logical: 5_800_000, uncompressed: 3_503_846, stored: 1_502_232 };
    assert_eq!((size.saved_by_deduplication(), size.saved_by_compression()), (2_296_154, 2_001_614));
    assert_eq!(size.saved_by_deduplication() + size.saved_by_compression(), 5_800_000 - 1_502_232);
    let once = Size { snapshots: 1, logical: 1_300_000, uncompressed: 1_301_187, stored: 1_300_688 };
    assert_eq!((once.saved_by_deduplication(), once.saved_by_compression()), (-1187, 499), "its trees are paid for");
    let none = Size::default();
    assert_eq!((none.saved_by_deduplication(), none.saved_by_compression()), (0, 0));
    let absurd = Size { snapshots: 1, logical: 0, uncompressed: u64::MAX, stored: 0 };
    assert_eq!((absurd.saved_by_deduplication(), absurd.saved_by_compression()), (i64::MIN, i64::MAX));
}

#[test]
fn growth_is_not_known_before_the_seventh_daily_figure() {
    assert_eq!(growth(&[]), None);
    assert_eq!(growth(&days(&[100, 110, 120, 130, 140, 150])), None);
    assert_eq!(growth(&days(&[100, 110, 120, 130, 140, 150, 160])), Some(10));
}

#[test]
fn neither_a_first_backup_nor_a_bad_day_bends_the_growth() {
    // Seven days, of which the first had next to nothing, and the fifth ten times as much as it should.
    assert_eq!(growth(&days(&[1, 1010, 1020, 1030, 9000, 1050, 1060, 1070, 1080])), Some(10));
    assert_eq!(growth(&days(&[500, 500, 500, 500, 500, 500, 500])), Some(0));
    // It shrinks by 7 a day.
    assert_eq!(growth(&days(&[700, 693, 686, 679, 672, 665, 658, 651])), Some(-7));
}

#[test]
fn days_without_a_figure_count_and_what_is_older_than_thirty_days_does_not() {
    let apart: Vec<Day> = (0..7).map(|step| day(1 + 4 * step, 1000 + 40 * u64::try_from(step).unwrap())).collect();
    assert_eq!(growth(&apart), Some(10), "40 in four days");
    // A month of standing still behind months in which it grew.
    let from = Date::constant(2026, 1, 1);
    let date = |after: i64| from.saturating_add(jiff::Span::new().days(after));
    let mut all: Vec<Day> = (0..60u64)
        .map(|after| Day { date: date(i64::try_from(after).unwrap()), stored: 1000 * after.min(30), logical: 0 })
        .collect();
    assert_eq!(growth(&all), Some(0));
    all.truncate(31);
    assert_eq!(growth(&all), Some(1000));
}

#[test]
fn the_last_figure_of_a_day_counts_and_only_so_many_days_are_kept() {
    let mut kept = days(&[1, 2, 3, 4]);
    put_day(&mut kept, day(4, 5), 100);
    assert_eq!(kept, days(&[1, 2, 3, 5]));
    put_day(&mut kept, day(9, 9), 3);
    assert_eq!(kept, [day(3, 3), day(4, 5), day(9, 9)]);
    put_day(&mut kept, day(4, 7), 3);
    assert_eq!(kept, [day(3, 3), day(4, 7)], "the clock was ahead on the ninth");
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(text, r#"[["2026-11-03",3,6],["2026-11-04",7,14]]"#);
    assert_eq!(serde_json::from_str::<Vec<Day>>(&text).unwrap(), kept);
}

#[test]
fn a_month_costs_what_the_terabytes_of_ten_to_the_twelve_bytes_cost() {
    let seven = usd(7_000_000);
    assert_eq!(monthly(&seven, 1_000_000_000_000), 7_000_000);
    assert_eq!(monthly(&seven, 500_000_000_000), 3_500_000);
    // 123 456 789 bytes are 0.000 864 197 523 USD: 864 millionths.
    assert_eq!(monthly(&seven, 123_456_789), 864);
    assert_eq!((monthly(&seven, 71_428), monthly(&seven, 71_429)), (0, 1), "half a millionth is rounded up");
    assert_eq!(
        (monthly(&usd(0), u64::MAX), monthly(&usd(1_000_000_000_000), u64::MAX)),
        (0, 18_446_744_073_709_551_615)
    );
    // 100 GB that grow by 1 GB a day are 190 GB in 90 days.
    assert_eq!(ahead(100_000_000_000, 1_000_000_000, AHEAD_DAYS), 190_000_000_000);
    assert_eq!(monthly(&seven, ahead(100_000_000_000, 1_000_000_000, AHEAD_DAYS)), 1_330_000);
    assert_eq!(ahead(100, -10, AHEAD_DAYS), 0, "nothing is less than empty");
    assert_eq!((ahead(u64::MAX, i64::MAX, AHEAD_DAYS), ahead(0, i64::MIN, AHEAD_DAYS)), (u64::MAX, 0));
}
