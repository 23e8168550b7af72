//! What is shown of a destination's figures, with the time that they are of.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Cost, Destination};
use crate::run::statistics::{
    AHEAD_DAYS, Figures, GROWTH_FIGURES_MIN, NextForget, Statistics, TargetStatistics, ahead, growth, monthly,
};
use crate::status::Problem;
use crate::status::job::problem;
use crate::types::{ByteSize, Name};

/// What is known of a destination's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatisticsView {
    /// When they were last tried to be gathered.
    pub tried: Option<Timestamp>,
    /// The newest ones; none: it never came to any.
    pub figures: Option<FiguresView>,
    /// Why the newest try failed; the figures are older ones then.
    pub problem: Option<Problem>,
}

/// A destination in figures. `logical_bytes` − `stored_bytes` is what deduplication and compression save together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FiguresView {
    /// Of when all of them are.
    pub at: Timestamp,
    pub snapshots: u64,
    /// How many of the snapshots are no target's of this site.
    pub other_snapshots: u64,
    /// What the backups read, all snapshots added up.
    pub logical_bytes: u64,
    /// What the snapshots need in the repository, compressed; without indexes and what no snapshot needs.
    pub stored_bytes: u64,
    /// What is not there a second time; below zero where less repeats than the trees take.
    pub dedup_saved_bytes: i64,
    /// What compression takes off that.
    pub compression_saved_bytes: i64,
    /// What no snapshot needs and the next prune may free, as restic rounds it; none: not known.
    pub unneeded_bytes: Option<u64>,
    /// By how much `stored_bytes` grows, from the last 30 days; none: there are fewer than seven daily figures.
    pub growth_bytes_per_day: Option<i64>,
    /// How many daily figures there are.
    pub daily_figures: u64,
    pub next_forget: NextForgetView,
    /// None: the config does not say what the storage costs.
    pub cost: Option<CostView>,
}

/// What forgetting what the runs gave up, and a prune behind it, would free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextForgetView {
    /// None: not known.
    pub snapshots: Option<u64>,
    /// As restic rounds it, with what no snapshot needs already; none: not known.
    pub bytes: Option<u64>,
    /// Why it is not known.
    pub unknown: Option<String>,
}

/// What is paid a month for what lies there, needed or not: bytes / 10^12 × `per_tb_month`, rounded to a millionth.
///
/// Versions that a bucket keeps of what was deleted, calls and traffic are not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostView {
    pub currency: String,
    pub per_tb_month: f64,
    pub monthly: f64,
    /// If it grows on like this; none while the growth is not known.
    pub monthly_in_90_days: Option<f64>,
}

/// A target in figures, in one destination. What several targets share is counted for each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatisticsView {
    pub target: Name,
    pub destination: Name,
    /// Of when all of them are.
    pub at: Timestamp,
    pub snapshots: u64,
    /// What the backup of the newest snapshot read; none: it does not say it.
    pub newest_logical_bytes: Option<u64>,
    /// The same of all, added up.
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub dedup_saved_bytes: i64,
    pub compression_saved_bytes: i64,
    pub growth_bytes_per_day: Option<i64>,
    pub daily_figures: u64,
}

/// None: nobody ever tried to gather them.
#[must_use]
pub fn view(name: &Name, desired: Option<&Destination>, known: Option<&Statistics>) -> Option<StatisticsView> {
    let known = known.filter(|known| known.tried.is_some())?;
    let growth = growth(&known.days);
    let cost = desired.and_then(|desired| desired.cost.as_ref());
    let figures = known.figures.as_ref().map(|figures| FiguresView {
        at: figures.at,
        snapshots: figures.size.snapshots,
        other_snapshots: figures.others,
        logical_bytes: figures.size.logical,
        stored_bytes: figures.size.stored,
        dedup_saved_bytes: figures.size.saved_by_deduplication(),
        compression_saved_bytes: figures.size.saved_by_compression(),
        unneeded_bytes: figures.unneeded,
        growth_bytes_per_day: growth,
        daily_figures: known.days.len() as u64,
        next_forget: match &figures.next_forget {
            NextForget::Frees { snapshots, bytes } => {
                NextForgetView { snapshots: Some(*snapshots), bytes: Some(*bytes), unknown: None }
            }
            NextForget::Unknown { why } => NextForgetView { snapshots: None, bytes: None, unknown: Some(why.clone()) },
        },
        cost: cost.map(|cost| cost_view(cost, figures, growth)),
    });
    // What left the config can't be mended any more.
    let trouble = known.trouble.as_ref().filter(|_| desired.is_some());
    let problem = trouble.map(|trouble| {
        problem(
            format!("The statistics of {name} cannot be gathered"),
            trouble,
            vec![format!("larder destination stats {name}")],
        )
    });
    Some(StatisticsView { tried: known.tried, figures, problem })
}

fn cost_view(cost: &Cost, figures: &Figures, growth: Option<i64>) -> CostView {
    let kept = figures.kept();
    let then = growth.map(|growth| ahead(kept, growth, AHEAD_DAYS));
    CostView {
        currency: cost.currency.clone(),
        per_tb_month: units(cost.per_tb_month_millionths),
        monthly: units(monthly(cost, kept)),
        monthly_in_90_days: then.map(|bytes| units(monthly(cost, bytes))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "an amount of money that somebody pays fits a float")]
fn units(millionths: u64) -> f64 {
    millionths as f64 / 1_000_000.0
}

#[must_use]
pub fn target_view(destination: &Name, target: &Name, known: &TargetStatistics) -> TargetStatisticsView {
    TargetStatisticsView {
        target: target.clone(),
        destination: destination.clone(),
        at: known.at,
        snapshots: known.size.snapshots,
        newest_logical_bytes: known.newest_logical,
        logical_bytes: known.size.logical,
        stored_bytes: known.size.stored,
        dedup_saved_bytes: known.size.saved_by_deduplication(),
        compression_saved_bytes: known.size.saved_by_compression(),
        growth_bytes_per_day: growth(&known.days),
        daily_figures: known.days.len() as u64,
    }
}

/// A number of bytes that may be below zero: `-1.2 KiB`.
#[must_use]
pub fn say_signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", ByteSize(bytes.unsigned_abs()))
}

/// `12 MiB a day`, or how many daily figures are lacking before it is known.
#[must_use]
pub fn say_growth(growth: Option<i64>, daily_figures: u64) -> String {
    match growth {
        Some(growth) => format!("{} a day", say_signed(growth)),
        None => format!("not known yet ({daily_figures} of {GROWTH_FIGURES_MIN} daily figures)"),
    }
}

/// In hundredths, rounded: `7.25 USD`; what is less than half of one and not nothing is `less than 0.01 USD`.
#[must_use]
pub fn say_money(amount: f64, currency: &str) -> String {
    if amount > 0.0 && amount < 0.005 {
        return format!("less than 0.01 {currency}");
    }
    format!("{amount:.2} {currency}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Trouble, codes};
    use crate::run::statistics::{Day, Size};
    use crate::status::sample;
    use jiff::civil::Date;

    fn figures() -> Figures {
        Figures {
            at: sample::now(),
            size: Size {
                snapshots: 10,
                logical: 1_000_000_000_000,
                uncompressed: 150_000_000_000,
                stored: 90_000_000_000,
            },
            others: 3,
            unneeded: Some(10_000_000_000),
            next_forget: NextForget::Unknown { why: "it is append-only".to_owned() },
            measured: None,
        }
    }

    /// So many days, each 1 GB more.
    fn known(days: i8) -> Statistics {
        let day = |number: i8| {
            let stored = 1_000_000_000 * u64::try_from(number).unwrap();
            Day { date: Date::constant(2026, 11, number), stored, logical: 0 }
        };
        let days = (1..=days).map(day).collect();
        Statistics { tried: Some(sample::now()), trouble: None, figures: Some(figures()), days }
    }

    fn priced() -> Destination {
        sample::destination("nas")
    }

    #[test]
    fn a_month_is_paid_for_all_that_lies_there_and_for_what_it_grows_to() {
        let name = Name::parse("nas").unwrap();
        let shown = |days| view(&name, Some(&priced()), Some(&known(days))).unwrap().figures.unwrap();
        let soon = shown(7);
        assert_eq!((soon.dedup_saved_bytes, soon.compression_saved_bytes), (850_000_000_000, 60_000_000_000));
        assert_eq!(soon.growth_bytes_per_day, Some(1_000_000_000));
        // 100 GB now, 190 GB in 90 days, at 7 a terabyte.
        let cost = soon.cost.unwrap();
        assert_eq!(serde_json::json!([cost.monthly, cost.monthly_in_90_days]), serde_json::json!([0.7, 1.33]));
        let young = shown(6);
        assert_eq!((young.growth_bytes_per_day, young.daily_figures), (None, 6));
        assert_eq!(young.cost.unwrap().monthly_in_90_days, None);
        assert_eq!(young.next_forget.unknown.as_deref(), Some("it is append-only"));
        let free = Destination { cost: None, ..priced() };
        let free = view(&name, Some(&free), Some(&known(7))).unwrap().figures.unwrap();
        assert_eq!(free.cost, None);
    }

    #[test]
    fn figures_that_cannot_be_had_now_stay_with_their_date_and_the_reason() {
        let name = Name::parse("nas").unwrap();
        assert_eq!(view(&name, None, None), None);
        assert_eq!(view(&name, None, Some(&Statistics::default())), None);
        let trouble = Some(Trouble::new(codes::UNREACHABLE, "it is off"));
        let failed = Statistics { trouble, ..known(1) };
        assert_eq!(view(&name, None, Some(&failed)).unwrap().problem, None);
        let shown = view(&name, Some(&priced()), Some(&failed)).unwrap();
        assert_eq!(shown.figures.unwrap().at, sample::now());
        let problem = shown.problem.unwrap();
        assert!(
            problem.code == codes::UNREACHABLE.name() && problem.why.as_deref() == Some("it is off"),
            "{problem:?}"
        );
    }

    #[test]
    fn figures_are_said_for_people() {
        assert_eq!(say_signed(-1536), "-1.5 KiB");
        assert_eq!((say_signed(0), say_signed(i64::MIN)), ("0 B".to_owned(), "-8388608.0 TiB".to_owned()));
        assert_eq!(say_growth(Some(2048), 9), "2.0 KiB a day");
        assert_eq!(say_growth(None, 3), "not known yet (3 of 7 daily figures)");
        let money = |amount| say_money(amount, "USD");
        assert_eq!(
            [money(0.0), money(0.004), money(0.005), money(7.254)],
            ["0.00 USD", "less than 0.01 USD", "0.01 USD", "7.25 USD"]
        );
    }
}
