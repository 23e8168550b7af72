//! What can be wrong with a schedule, told with the field, the value and what was expected.

use std::fmt;
use std::ops::Range;

use super::offset::Offset;
use crate::error::{Code, Trouble, codes};

/// One of the five fields, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronField {
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

impl CronField {
    pub(super) const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        }
    }

    /// Smallest and greatest number that may be written.
    pub(super) fn bounds(self) -> (u8, u8) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Minute => "0-59",
            Self::Hour => "0-23",
            Self::DayOfMonth => "1-31",
            Self::Month => "1-12 or jan-dec",
            Self::DayOfWeek => "0-7 (0 and 7 are Sunday) or mon-sun",
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a schedule has at most {max} bytes, this one has {found}")]
    TooLong { found: usize, max: usize },
    #[error("a schedule has 5 fields (minute, hour, day of month, month, day of week), found {found}")]
    FieldCount { found: usize },
    #[error("the {field} {value:?} is not allowed, expected {}", field.expected())]
    Value { field: CronField, value: String, span: Range<usize> },
    #[error("the range {value:?} in the {field} runs backwards")]
    Backwards { field: CronField, value: String, span: Range<usize> },
    #[error("the step in {value:?} of the {field} must be from 1 to {max}")]
    Step { field: CronField, value: String, max: u8, span: Range<usize> },
    #[error("the step in {value:?} of the {field} needs '*' or a range before the '/'")]
    StepBase { field: CronField, value: String, max: u8, span: Range<usize> },
    #[error("an item of the {field} is empty, expected {}", field.expected())]
    Item { field: CronField, span: Range<usize> },
    #[error("{value:?} in the {field} is not supported, expected {}", field.expected())]
    Extension { field: CronField, value: String, span: Range<usize> },
    #[error("a backup cannot be scheduled with @reboot")]
    Reboot,
    #[error("the schedule {name:?} is not known")]
    Macro { name: String },
    #[error("the schedule {expression:?} never fires")]
    NeverFires { expression: String },
    #[error("the time zone {name:?} is not known")]
    Zone { name: String, nearest: Option<String> },
}

impl ScheduleError {
    /// Stable, for `Trouble` and diagnostics.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Zone { .. } => codes::UNKNOWN_TIMEZONE,
            Self::NeverFires { .. } => codes::SCHEDULE_NEVER_FIRES,
            _ => codes::INVALID_SCHEDULE,
        }
    }

    /// The bytes of the expression that are meant; none when it is all of it, or the zone.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Value { span, .. }
            | Self::Backwards { span, .. }
            | Self::Step { span, .. }
            | Self::StepBase { span, .. }
            | Self::Item { span, .. }
            | Self::Extension { span, .. } => Some(span.clone()),
            _ => None,
        }
    }

    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooLong { .. } => "use ranges and steps instead of long lists".to_owned(),
            Self::FieldCount { found: 0 } => "write for example \"0 2 * * *\" for every day at 02:00".to_owned(),
            Self::FieldCount { found: 6 | 7 } => {
                "seconds and years are not supported: write for example \"0 2 * * *\" for every day at 02:00".to_owned()
            }
            Self::FieldCount { .. } => {
                "write for example \"0 2 * * *\" for every day at 02:00, in quotes so that YAML keeps the stars"
                    .to_owned()
            }
            Self::Value { field: CronField::Hour, value, .. } if value == "24" => {
                "midnight is hour 0 of the next day".to_owned()
            }
            Self::Value { .. } => {
                "write a value, '*', a range (a-b), a step (*/n), or several of them (a,b)".to_owned()
            }
            Self::Backwards { field, value, .. } => match value.split_once('-') {
                Some((first, last)) => {
                    let (low, high) = field.bounds();
                    format!("to go over the end, write {first}-{high},{low}-{last}")
                }
                None => return None,
            },
            Self::Step { field: CronField::Minute, .. } => {
                "a step restarts with every hour; for longer pauses set the hour, such as \"0 */2 * * *\"".to_owned()
            }
            Self::Step { max, .. } => format!("write a step such as */{}", max.div_ceil(4)),
            Self::StepBase { value, max, .. } => match value.split_once('/') {
                Some((first, step)) => format!("write {first}-{max}/{step} to go on to the end"),
                None => return None,
            },
            Self::Item { .. } => "remove the stray comma, or write the missing value".to_owned(),
            Self::Extension { value, .. } if value == "?" => "write '*' instead".to_owned(),
            Self::Extension { .. } => {
                "L, W and # are not supported: name the days, such as \"0 2 1-7 * *\" for the first week".to_owned()
            }
            Self::Reboot => {
                "missed runs are made up on start by themselves (on_missed: run); use @daily or \"0 2 * * *\""
                    .to_owned()
            }
            Self::Macro { name } if name.starts_with("@every") => {
                "write the times instead, such as \"*/15 * * * *\" for every 15 minutes".to_owned()
            }
            Self::Macro { .. } => {
                "known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually".to_owned()
            }
            Self::NeverFires { .. } => {
                "no year, or hardly any, has such a day: look at day of month and month".to_owned()
            }
            Self::Zone { name, .. } if Offset::of(name).is_some() => Offset::of(name)?.hint(),
            Self::Zone { nearest: Some(nearest), .. } => format!("did you mean {nearest:?}?"),
            Self::Zone { nearest: None, .. } => "use an IANA name, such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
        })
    }

    #[must_use]
    pub fn trouble(&self) -> Trouble {
        let trouble = Trouble::new(self.code(), self.to_string());
        match self.hint() {
            Some(hint) => trouble.with_hint(hint),
            None => trouble,
        }
    }
}
