//! A schedule in short English, where that is easy.

use crate::schedule::fields::{ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, Fields};

/// More times a day than this are better read as the expression.
const TIMES_MAX: u32 = 4;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// None where English would be longer than cron.
pub(super) fn describe(fields: &Fields) -> Option<String> {
    let every_day = fields.days == ALL_DAYS && fields.months == ALL_MONTHS && fields.weekdays == ALL_WEEKDAYS;
    if every_day && let Some(interval) = interval(fields) {
        return Some(interval);
    }
    let times = times(fields)?;
    Some(match (fields.days == ALL_DAYS, fields.months == ALL_MONTHS, fields.weekdays == ALL_WEEKDAYS) {
        (true, true, true) => format!("daily at {times}"),
        (true, true, false) => format!("{} at {times}", weekdays(fields.weekdays)),
        (false, true, true) => format!("on the {} of each month at {times}", days(fields.days, ordinal)?),
        (false, false, true) if fields.months.is_power_of_two() => {
            let month = MONTHS.get(fields.months.trailing_zeros() as usize - 1)?;
            format!("every {} {month} at {times}", days(fields.days, |day| day.to_string())?)
        }
        _ => return None,
    })
}

fn interval(fields: &Fields) -> Option<String> {
    let (minutes, hours) = (numbers(fields.minutes), numbers(fields.hours));
    if hours.len() == 24 {
        return match (minutes.as_slice(), even_step(&minutes, 60)) {
            ([minute], _) => Some(format!("hourly at :{minute:02}")),
            (_, Some(1)) => Some("every minute".to_owned()),
            (_, Some(step)) => Some(format!("every {step} minutes")),
            _ => None,
        };
    }
    match (minutes.as_slice(), even_step(&hours, 24)) {
        ([minute], Some(step)) if hours.len() > 2 => Some(format!("every {step} hours at :{minute:02}")),
        _ => None,
    }
}

/// The step of numbers that start with 0 and go round `whole` evenly.
fn even_step(numbers: &[u32], whole: u32) -> Option<u32> {
    let count = u32::try_from(numbers.len()).ok().filter(|count| *count > 1)?;
    let step = whole / count;
    (step * count == whole && numbers.iter().zip(0..).all(|(number, index)| *number == index * step)).then_some(step)
}

fn times(fields: &Fields) -> Option<String> {
    if fields.minutes.count_ones() * fields.hours.count_ones() > TIMES_MAX {
        return None;
    }
    let minutes = numbers(fields.minutes);
    let times = numbers(fields.hours)
        .into_iter()
        .flat_map(|hour| minutes.iter().map(move |minute| format!("{hour:02}:{minute:02}")));
    Some(join(&times.collect::<Vec<_>>()))
}

fn weekdays(set: u64) -> String {
    match set {
        0b011_1110 => "Monday to Friday".to_owned(),
        0b100_0001 => "Saturdays and Sundays".to_owned(),
        _ => join(
            &numbers(set)
                .iter()
                .filter_map(|day| Some(format!("{}s", WEEKDAYS.get(*day as usize)?)))
                .collect::<Vec<_>>(),
        ),
    }
}

fn days(set: u64, write: impl Fn(u32) -> String) -> Option<String> {
    (set.count_ones() <= TIMES_MAX).then(|| join(&numbers(set).into_iter().map(write).collect::<Vec<_>>()))
}

fn ordinal(day: u32) -> String {
    let ending = match day {
        1 | 21 | 31 => "st",
        2 | 22 => "nd",
        3 | 23 => "rd",
        _ => "th",
    };
    format!("{day}{ending}")
}

fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn numbers(set: u64) -> Vec<u32> {
    (0..64).filter(|number| set >> number & 1 == 1).collect()
}
