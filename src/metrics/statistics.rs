//! The figures of destinations and of the targets in them; without samples where they are not known.

use super::{DESTINATION, MetricsError, Page, Row, flag, number, seconds};
use crate::status::View;
use crate::status::statistics::{CostView, FiguresView, TargetStatisticsView};

const COST: &[&str] = &["destination", "currency"];
const IN_DESTINATION: &[&str] = &["target", "destination"];

impl Page {
    pub(super) fn statistics(&self, view: &View) -> Result<(), MetricsError> {
        let known = || {
            let desired = view.destinations.iter().filter(|each| each.desired);
            desired.filter_map(|each| Some((each.name.as_str(), each.statistics.as_ref()?)))
        };
        let figures = || known().filter_map(|(name, each)| Some((name, each.figures.as_ref()?)));
        let each = |value: &dyn Fn(&FiguresView) -> Option<f64>| -> Vec<Row<'_>> {
            figures().filter_map(|(name, each)| Some((vec![name], value(each)?))).collect()
        };
        for (name, help, value) in DESTINATION_FIGURES {
            self.gauge(name, help, DESTINATION, each(value))?;
        }
        let failed = known().map(|(name, each)| (vec![name], flag(each.problem.is_some()))).collect();
        self.gauge(
            "larder_destination_statistics_failed",
            "1 when the newest try to gather its statistics failed.",
            DESTINATION,
            failed,
        )?;
        let costs = |value: &dyn Fn(&CostView) -> Option<f64>| -> Vec<Row<'_>> {
            let costs = figures().filter_map(|(name, each)| Some((name, each.cost.as_ref()?)));
            costs.filter_map(|(name, cost)| Some((vec![name, cost.currency.as_str()], value(cost)?))).collect()
        };
        let now = costs(&|cost| Some(cost.monthly));
        self.gauge("larder_destination_cost_monthly", "What a month costs for what lies there.", COST, now)?;
        let then = costs(&|cost| cost.monthly_in_90_days);
        self.gauge(
            "larder_destination_cost_monthly_expected",
            "What a month will cost in 90 days, if it grows on like this.",
            COST,
            then,
        )?;
        let of_targets = || view.targets.iter().flat_map(|target| &target.statistics);
        for (name, help, value) in TARGET_FIGURES {
            let rows: Vec<Row<'_>> = of_targets()
                .filter_map(|each| Some((vec![each.target.as_str(), each.destination.as_str()], value(each)?)))
                .collect();
            self.gauge(name, help, IN_DESTINATION, rows)?;
        }
        Ok(())
    }
}

type Figure<T> = (&'static str, &'static str, &'static (dyn Fn(&T) -> Option<f64> + Sync));

const DESTINATION_FIGURES: &[Figure<FiguresView>] = &[
    ("larder_destination_statistics_timestamp_seconds", "Of when its statistics are.", &|each| Some(seconds(each.at))),
    ("larder_destination_snapshots", "Snapshots in it, whoever made them.", &|each| Some(number(each.snapshots))),
    ("larder_destination_logical_bytes", "What its snapshots hold, added up.", &|each| {
        Some(number(each.logical_bytes))
    }),
    ("larder_destination_stored_bytes", "What its snapshots need in the repository.", &|each| {
        Some(number(each.stored_bytes))
    }),
    (
        "larder_destination_dedup_saved_bytes",
        "Logical bytes that are not stored a second time; below zero where nothing repeats.",
        &|each| Some(signed(each.dedup_saved_bytes)),
    ),
    ("larder_destination_compression_saved_bytes", "Bytes by which compression makes the rest smaller.", &|each| {
        Some(signed(each.compression_saved_bytes))
    }),
    ("larder_destination_unneeded_bytes", "What no snapshot needs and lies there until a prune.", &|each| {
        each.unneeded_bytes.map(number)
    }),
    (
        "larder_destination_growth_bytes_per_day",
        "By how much its stored bytes grow a day; no sample before seven daily figures.",
        &|each| each.growth_bytes_per_day.map(signed),
    ),
    (
        "larder_destination_next_forget_bytes",
        "What forgetting what was given up would free, with a prune behind it.",
        &|each| each.next_forget.bytes.map(number),
    ),
];

const TARGET_FIGURES: &[Figure<TargetStatisticsView>] = &[
    ("larder_target_snapshots", "Snapshots of the target in the destination.", &|each| Some(number(each.snapshots))),
    ("larder_target_logical_bytes", "What the target's snapshots hold, added up.", &|each| {
        Some(number(each.logical_bytes))
    }),
    (
        "larder_target_stored_bytes",
        "What the target's snapshots need in the destination, shared with others or not.",
        &|each| Some(number(each.stored_bytes)),
    ),
    ("larder_target_dedup_saved_bytes", "As of the destination, among the target's own snapshots.", &|each| {
        Some(signed(each.dedup_saved_bytes))
    }),
    ("larder_target_compression_saved_bytes", "As of the destination.", &|each| {
        Some(signed(each.compression_saved_bytes))
    }),
    (
        "larder_target_growth_bytes_per_day",
        "By how much the target's stored bytes grow a day; no sample before seven daily figures.",
        &|each| each.growth_bytes_per_day.map(signed),
    ),
];

#[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
fn signed(value: i64) -> f64 {
    value as f64
}
