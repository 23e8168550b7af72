//! Statistics over the wire.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::statistics::Day;
use crate::status::statistics::{StatisticsView, TargetStatisticsView};
use crate::types::Name;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatisticsParams {
    /// Every destination when not given.
    #[serde(default)]
    pub destination: Option<Name>,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// What is known of a destination in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationStatistics {
    pub destination: Name,
    /// None: nobody tried to gather them yet.
    pub statistics: Option<StatisticsView>,
    /// Those of the targets whose snapshots lie there, by name.
    pub targets: Vec<TargetStatisticsView>,
    /// One figure a day, oldest first, at most a hundred.
    pub days: Vec<DayInfo>,
}

/// The figures of one day of the site's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DayInfo {
    pub date: Date,
    pub stored_bytes: u64,
    pub logical_bytes: u64,
}

impl From<&Day> for DayInfo {
    fn from(day: &Day) -> Self {
        Self { date: day.date, stored_bytes: day.stored, logical_bytes: day.logical }
    }
}
