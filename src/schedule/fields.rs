//! The five fields as sets of bits, and the next civil minute that they match.
//!
//! Every item is checked here, for errors that name it, and handed on to the `cron` crate in the one form that it
//! reads as crontab(5) means it: numbers only, Sunday as 1, ranges that never wrap.

use std::ops::Range;
use std::str::FromStr;

use cron::TimeUnitSpec;
use jiff::civil::{Date, DateTime, date};

use crate::schedule::error::{CronField, ScheduleError};

/// Longest expression; all sixty minutes as a list take 169 bytes.
const EXPRESSION_BYTES_MAX: usize = 512;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// Sets of bits: bit `n` stands for the number `n` (Sunday is 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: u64,
    pub(super) months: u64,
    pub(super) weekdays: u64,
    /// Day of month or day of week begins with `*`: both must match, else either does.
    both_days: bool,
    /// Minute or hour is a wildcard: "every so often", not "at".
    wildcard_time: bool,
}

const ALL_MINUTES: u64 = (1 << 60) - 1;
const ALL_HOURS: u64 = (1 << 24) - 1;
pub(super) const ALL_DAYS: u64 = (1 << 32) - 2;
pub(super) const ALL_MONTHS: u64 = (1 << 13) - 2;
pub(super) const ALL_WEEKDAYS: u64 = (1 << 7) - 1;

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ScheduleError::TooLong { found: text.len(), max: EXPRESSION_BYTES_MAX });
        }
        let trimmed = text.trim();
        if trimmed.starts_with('@') {
            return Self::parse(expand_macro(trimmed)?);
        }
        let words = words(text);
        let [minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(ScheduleError::FieldCount { found: words.len() });
        };
        let normal = [minute, hour, day, month, weekday]
            .into_iter()
            .zip(CronField::ALL)
            .map(|(word, field)| normalise(text, word.clone(), field))
            .collect::<Result<Vec<_>, _>>()?;
        let begins_with_star = |word: &Range<usize>| text.get(word.clone()).is_some_and(|word| word.starts_with('*'));
        let fields = Self::read(
            &normal.join(" "),
            begins_with_star(day) || begins_with_star(weekday),
            begins_with_star(minute) || begins_with_star(hour),
        )
        .ok_or_else(|| ScheduleError::NeverFires { expression: trimmed.to_owned() })?;
        if fields.fires() { Ok(fields) } else { Err(ScheduleError::NeverFires { expression: trimmed.to_owned() }) }
    }

    /// Lets the `cron` crate read five fields in its own form, behind a zero for the seconds.
    fn read(normal: &str, both_days: bool, star_time: bool) -> Option<Self> {
        let schedule = cron::Schedule::from_str(&format!("0 {normal}")).ok()?;
        let minutes = bits(schedule.minutes());
        let hours = bits(schedule.hours());
        Some(Self {
            minutes,
            hours,
            days: bits(schedule.days_of_month()),
            months: bits(schedule.months()),
            weekdays: bits(schedule.days_of_week()) >> 1,
            both_days,
            wildcard_time: star_time || minutes == ALL_MINUTES || hours == ALL_HOURS,
        })
    }

    /// Whether some day within any twelve years matches.
    ///
    /// With "either day" a weekday always comes. With "both", a day of the month must exist in one of the months; and a
    /// 29 February that must be one certain weekday comes once in 28 years, which no backup means.
    fn fires(&self) -> bool {
        if !self.both_days {
            return true;
        }
        (1..=12_u8).filter(|month| self.months >> month & 1 == 1).any(|month| {
            let days_max = match month {
                2 if self.weekdays == ALL_WEEKDAYS => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            self.days & ((1 << (days_max + 1)) - 1) != 0
        })
    }

    pub(super) fn is_wildcard_time(&self) -> bool {
        self.wildcard_time
    }

    /// Whether the schedule runs every hour of `date`: then nothing needs to be made up after a gap.
    pub(super) fn goes_on_at(&self, date: Date) -> bool {
        self.hours == ALL_HOURS
            && self.months >> date.month() & 1 == 1
            && self.days_in(date.first_of_month()) >> date.day() & 1 == 1
    }

    /// The first matching minute at or after `from` (a whole minute), up to the end of `year_max`.
    pub(super) fn next_at_or_after(&self, from: DateTime, year_max: i16) -> Option<DateTime> {
        let mut month_start = from.date().first_of_month();
        // In the month of `from`, days before it are cut off; in later months none is.
        let mut day_min = from.day();
        while month_start.year() <= year_max {
            if self.months >> month_start.month() & 1 == 1 {
                let mut days = self.days_in(month_start) & at_least(day_min);
                while days != 0 {
                    let day = lowest(days)?;
                    let date = date(month_start.year(), month_start.month(), day);
                    let (hour, minute) = if date == from.date() { (from.hour(), from.minute()) } else { (0, 0) };
                    if let Some((hour, minute)) = self.next_time(hour, minute) {
                        return Some(date.at(hour, minute, 0, 0));
                    }
                    days &= days - 1;
                }
            }
            month_start = next_month(month_start)?;
            day_min = 1;
        }
        None
    }

    /// The first matching time of a day at or after the one given.
    fn next_time(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        if self.hours >> hour & 1 == 1
            && let Some(minute) = lowest(self.minutes & at_least(minute))
        {
            return Some((hour, minute));
        }
        Some((lowest(self.hours & at_least(hour + 1))?, lowest(self.minutes)?))
    }

    /// The matching days of the month that begins with `first`.
    fn days_in(&self, first: Date) -> u64 {
        let exist = (1_u64 << (first.days_in_month() + 1)) - 2;
        let mut by_weekday = 0;
        let offset = first.weekday().to_sunday_zero_offset();
        for day in 1..=first.days_in_month() {
            by_weekday |= (self.weekdays >> ((day - 1 + offset) % 7) & 1) << day;
        }
        exist & if self.both_days { self.days & by_weekday } else { self.days | by_weekday }
    }
}

fn next_month(first: Date) -> Option<Date> {
    let (year, month) =
        if first.month() == 12 { (first.year().checked_add(1)?, 1) } else { (first.year(), first.month() + 1) };
    Date::new(year, month, 1).ok()
}

fn at_least(number: i8) -> u64 {
    u64::MAX << number
}

fn lowest(set: u64) -> Option<i8> {
    if set == 0 { None } else { i8::try_from(set.trailing_zeros()).ok() }
}

fn bits(unit: &impl TimeUnitSpec) -> u64 {
    unit.iter().fold(0, |set, number| set | 1 << number)
}

fn expand_macro(text: &str) -> Result<&'static str, ScheduleError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@reboot" => return Err(ScheduleError::Reboot),
        _ => return Err(ScheduleError::Macro { name: text.chars().take(40).collect() }),
    })
}

/// Where the words of `text` are.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        if !character.is_whitespace() {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            words.push(start..at);
        }
    }
    words
}

/// Checks one field and writes it as the `cron` crate reads it.
fn normalise(text: &str, word: Range<usize>, field: CronField) -> Result<String, ScheduleError> {
    let mut start = word.start;
    let mut items = Vec::new();
    for item in text.get(word).unwrap_or_default().split(',') {
        items.push(normalise_item(item, start..start + item.len(), field)?);
        start += item.len() + 1;
    }
    Ok(items.join(","))
}

fn normalise_item(item: &str, span: Range<usize>, field: CronField) -> Result<String, ScheduleError> {
    if item.is_empty() {
        return Err(ScheduleError::Item { field, span });
    }
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(step)),
        None => (item, None),
    };
    let (low, high) = field.bounds();
    let step = match step {
        None => None,
        Some(step) => match step.parse::<u8>() {
            Ok(number) if (1..=high).contains(&number) && step.bytes().all(|b| b.is_ascii_digit()) => Some(number),
            _ => return Err(ScheduleError::Step { field, value: item.to_owned(), max: high, span }),
        },
    };
    let (first, last) = if base == "*" {
        // The seventh weekday is Sunday again.
        (low, if field == CronField::DayOfWeek { 6 } else { high })
    } else if let Some((first, last)) = split_range(base) {
        let first_end = span.start + first.len();
        let (mut first, last) = (
            number(first, span.start..first_end, field)?,
            number(last, first_end + 1..first_end + 1 + last.len(), field)?,
        );
        if first > last && field == CronField::DayOfWeek && first == 7 {
            first = 0;
        }
        if first > last && field != CronField::DayOfWeek {
            return Err(ScheduleError::Backwards { field, value: base.to_owned(), span });
        }
        (first, if first > last { last + 7 } else { last })
    } else {
        let end = span.start + base.len();
        let only = number(base, span.start..end, field)?;
        if step.is_some() {
            return Err(ScheduleError::StepBase {
                field,
                value: item.to_owned(),
                max: high.min(if field == CronField::DayOfWeek { 6 } else { high }),
                span,
            });
        }
        (only, only)
    };
    Ok(write_item(field, first, last, step.unwrap_or(1)))
}

/// Writes numbers from `first` to `last`; weekdays one by one, because they wrap and count from 1 there.
fn write_item(field: CronField, first: u8, last: u8, step: u8) -> String {
    if field == CronField::DayOfWeek {
        let days = (first..=last).step_by(step.into()).map(|day| (day % 7 + 1).to_string());
        return days.collect::<Vec<_>>().join(",");
    }
    format!("{first}-{last}/{step}")
}

/// Splits `a-b`; a leading `-` is no range but a wrong number.
fn split_range(base: &str) -> Option<(&str, &str)> {
    base.split_once('-').filter(|(first, _)| !first.is_empty())
}

fn number(text: &str, span: Range<usize>, field: CronField) -> Result<u8, ScheduleError> {
    let value = || text.chars().take(24).collect::<String>();
    let names: &[&str] = match field {
        CronField::Month => &MONTHS,
        CronField::DayOfWeek => &WEEKDAYS,
        _ => &[],
    };
    let lower = text.to_ascii_lowercase();
    if let Some(index) =
        names.iter().position(|name| lower.len() >= 3 && (lower == *name || name.get(..3) == Some(&lower)))
    {
        let index = u8::try_from(index).unwrap_or(0);
        return Ok(if field == CronField::Month { index + 1 } else { index });
    }
    let (low, high) = field.bounds();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u8>() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(ScheduleError::Value { field, value: value(), span }),
        };
    }
    let looks_like_extension = text == "?"
        || text.contains('#')
        || lower == "l"
        || lower == "w"
        || lower == "lw"
        || (lower.ends_with(['l', 'w']) && lower.bytes().next().is_some_and(|b| b.is_ascii_digit()));
    if looks_like_extension {
        return Err(ScheduleError::Extension { field, value: value(), span });
    }
    Err(ScheduleError::Value { field, value: value(), span })
}
