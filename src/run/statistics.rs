//! What a repository holds in figures, how they grow and what that costs. Pure.
//!
//! Of any snapshots together: *logical* is what a restore of each of them would write, *stored* is what they need in the
//! repository, and logical − stored = saved by deduplication + saved by compression.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::config::model::Cost;
use crate::error::Trouble;

/// Daily figures of a destination that are kept, and of a target in it.
pub const DAYS_MAX: usize = 100;
pub const TARGET_DAYS_MAX: usize = 30;

/// A growth is of so many days at most, and of so many daily figures at least.
const GROWTH_DAYS_MAX: i32 = 30;
pub const GROWTH_FIGURES_MIN: usize = 7;

/// How far ahead a cost is told, in days.
pub const AHEAD_DAYS: i64 = 90;

/// What a price is for, in bytes.
const TERABYTE: u128 = 1_000_000_000_000;

/// Some snapshots together; what several of them have is stored once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub snapshots: u64,
    /// Bytes that the backups read, all snapshots added up.
    pub logical: u64,
    /// Bytes that they need in the repository, before compression: each piece once, with the trees that name the pieces.
    pub uncompressed: u64,
    /// The same as it lies there, compressed and encrypted. Indexes and what no snapshot needs are not counted.
    pub stored: u64,
}

impl Size {
    /// Bytes that are not there a second time: logical − uncompressed. Below zero where less repeats than the trees take.
    #[must_use]
    pub fn saved_by_deduplication(&self) -> i64 {
        less(self.logical, self.uncompressed)
    }

    /// Bytes by which compression makes that smaller: uncompressed − stored.
    #[must_use]
    pub fn saved_by_compression(&self) -> i64 {
        less(self.uncompressed, self.stored)
    }
}

fn less(one: u64, other: u64) -> i64 {
    let difference = i128::from(one) - i128::from(other);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

/// What is known of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// When it was last tried to gather them.
    pub tried: Option<Timestamp>,
    /// Why that failed; then the figures are older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// One a day, oldest first.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// The newest figures of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    pub at: Timestamp,
    /// All that lies there.
    pub size: Size,
    /// How many of the snapshots are no target's of this site.
    pub others: u64,
    /// Bytes of data that no snapshot needs: they lie there until the next prune. None: that could not be found out.
    pub unneeded: Option<u64>,
    pub next_forget: NextForget,
    /// What was measured, where snapshots themselves do not say how much they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

impl Figures {
    /// Bytes that are paid for, as far as they are known: what the snapshots need and what a prune would free.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.size.stored.saturating_add(self.unneeded.unwrap_or(0))
    }
}

/// What would come of forgetting what the runs gave up, and a prune behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextForget {
    /// So many snapshots would go and so many bytes with them; those too that no snapshot needs already.
    Frees {
        snapshots: u64,
        bytes: u64,
    },
    Unknown {
        why: String,
    },
}

/// The logical size of snapshots that lack a summary: reading them whole is dear, so it is done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Which ones.
    pub mark: String,
    pub logical: u64,
}

/// What is known of one target in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatistics {
    pub at: Timestamp,
    /// What its snapshots need, shared with others or not; the sum of all targets is more than what lies there.
    pub size: Size,
    /// Bytes of the newest snapshot.
    pub newest_logical: Option<u64>,
    /// Which snapshots were looked at.
    pub mark: String,
    /// One a day, oldest first.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// The figures of one civil day of the site's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Date, u64, u64)", into = "(Date, u64, u64)")]
pub struct Day {
    pub date: Date,
    pub stored: u64,
    pub logical: u64,
}

impl From<(Date, u64, u64)> for Day {
    fn from((date, stored, logical): (Date, u64, u64)) -> Self {
        Self { date, stored, logical }
    }
}

impl From<Day> for (Date, u64, u64) {
    fn from(day: Day) -> Self {
        (day.date, day.stored, day.logical)
    }
}

/// Puts the figures of a day behind those before, at most `days_max` of them; the last of a day is its figure. What is dated
/// later is from a clock that was ahead, and goes.
pub fn put_day(days: &mut Vec<Day>, day: Day, days_max: usize) {
    days.retain(|each| each.date < day.date);
    days.push(day);
    let surplus = days.len().saturating_sub(days_max);
    days.drain(..surplus);
}

/// By how many bytes `stored` grows a day: the median of the slopes between any two of the last 30 days (Theil and Sen), so
/// that a first backup, a prune or a bad day does not bend it. None: there are fewer than seven daily figures.
///
/// It rounds towards zero to whole bytes.
#[must_use]
pub fn growth(days: &[Day]) -> Option<i64> {
    let newest = days.last()?.date;
    let apart = |from: Date, to: Date| to.since((jiff::Unit::Day, from)).map_or(0, |span| span.get_days());
    let recent: Vec<&Day> = days.iter().filter(|day| apart(day.date, newest) < GROWTH_DAYS_MAX).collect();
    if recent.len() < GROWTH_FIGURES_MIN {
        return None;
    }
    let mut slopes: Vec<i128> = Vec::new();
    for (index, from) in recent.iter().enumerate() {
        for to in recent.iter().skip(index + 1) {
            let grown = i128::from(to.stored) - i128::from(from.stored);
            slopes.push(grown / i128::from(apart(from.date, to.date).max(1)));
        }
    }
    slopes.sort_unstable();
    let upper = *slopes.get(slopes.len() / 2)?;
    let lower = *slopes.get((slopes.len() - 1) / 2)?;
    i64::try_from(lower.midpoint(upper)).ok()
}

/// What `bytes` are in `days` from now, where they grow by `growth` a day; never less than none.
#[must_use]
pub fn ahead(bytes: u64, growth: i64, days: i64) -> u64 {
    let then = i128::from(bytes) + i128::from(growth) * i128::from(days);
    u64::try_from(then.max(0)).unwrap_or(u64::MAX)
}

/// What `bytes` cost a month, in millionths of the currency, rounded to the nearest of them.
#[must_use]
pub fn monthly(cost: &Cost, bytes: u64) -> u64 {
    let millionths = u128::from(bytes) * u128::from(cost.per_tb_month_millionths);
    u64::try_from((millionths + TERABYTE / 2) / TERABYTE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
