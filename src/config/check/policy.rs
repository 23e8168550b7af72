//! A policy document, and the policy that there is when nobody wrote one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Checker, Sited, values};
use crate::config::model::{OnMissed, Policy, Retention, ScheduleSpec};
use crate::config::raw::{RawOnMissed, RawPolicy};
use crate::config::text::Span;
use crate::error::codes;
use crate::schedule::Schedule;
use crate::types::{Name, show_duration};

const HOUR: Duration = Duration::from_hours(1);
/// Without `timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_hours(6);
const TIMEOUT_MAX: Duration = Duration::from_hours(14 * 24);
const JITTER_MAX: Duration = Duration::from_hours(24);
const MAX_AGE_MAX: Duration = Duration::from_hours(10 * 366 * 24);
/// Times that are looked at for the longest pause of a schedule: a week of hourly ones, but no more than two months.
const PAUSES_MAX: usize = 170;
const PAUSES_WITHIN: SignedDuration = SignedDuration::from_hours(62 * 24);
/// Where counting starts: any instant would do, a fixed one gives the same answer every day.
const PAUSES_FROM_S: i64 = 1_767_225_600;

/// A policy; its zone and destinations may still have to come from elsewhere.
#[derive(Debug)]
pub(crate) struct PolicyItem {
    policy: Policy,
    /// Its own zone; none: the site's.
    timezone: Option<String>,
    /// As written; none: all.
    pub destinations: Option<Vec<Sited<Name>>>,
    /// Where `default: true` stands.
    pub default: Option<Span>,
}

impl PolicyItem {
    pub(crate) fn resolve(&self, timezone: &str, all: &[Name]) -> Policy {
        let timezone = self.timezone.as_deref().unwrap_or(timezone).to_owned();
        let destinations = match &self.destinations {
            Some(names) => names.iter().map(|name| name.value.clone()).collect(),
            None => all.to_vec(),
        };
        let schedule = ScheduleSpec { timezone, expression: self.policy.schedule.expression.clone() };
        Policy { schedule, destinations, ..self.policy.clone() }
    }
}

/// What targets get when there is no policy at all: every night, to every destination.
pub(crate) fn built_in(timezone: &str, destinations: &[Name]) -> Option<Policy> {
    Some(Policy {
        name: Name::parse("daily").ok()?,
        default: true,
        schedule: ScheduleSpec { expression: "0 2 * * *".to_owned(), timezone: timezone.to_owned() },
        jitter: Duration::from_mins(10),
        retention: Retention { daily: Some(7), weekly: Some(4), monthly: Some(6), ..Retention::default() },
        destinations: destinations.to_vec(),
        max_age: Some(26 * HOUR),
        timeout: TIMEOUT_DEFAULT,
        on_missed: OnMissed::Run,
    })
}

pub(super) fn check(checker: &mut Checker<'_>, raw: RawPolicy) -> Option<PolicyItem> {
    let name = checker.name(&["name"], &raw.name.0);
    let timezone = checker.maybe(&["timezone"], raw.timezone.map(|text| values::timezone(&text.0)));
    let schedule = checker.take(&["schedule"], values::schedule(&raw.schedule.0, timezone.as_deref()));
    let jitter = checker.maybe(&["jitter"], raw.jitter.map(|text| values::duration_or_zero(&text.0, JITTER_MAX)));
    let timeout = checker.maybe(&["timeout"], raw.timeout.map(|text| values::duration(&text.0, TIMEOUT_MAX)));
    let aged = raw.max_age.is_some();
    let max_age = checker.maybe(&["max_age"], raw.max_age.map(|text| values::duration(&text.0, MAX_AGE_MAX)));
    let destinations = raw.destinations.map(|names| {
        let names: Vec<String> = names.into_iter().map(|name| name.0).collect();
        checker.names(&["destinations"], &names)
    });
    let retention = Retention {
        last: raw.retention.last,
        hourly: raw.retention.hourly,
        daily: raw.retention.daily,
        weekly: raw.retention.weekly,
        monthly: raw.retention.monthly,
        yearly: raw.retention.yearly,
    };
    if let Some(schedule) = &schedule {
        warn_of_age(checker, schedule, jitter.unwrap_or_default(), max_age, aged);
    }
    let default = raw.default.unwrap_or(false);
    Some(PolicyItem {
        policy: Policy {
            name: name?,
            default,
            schedule: ScheduleSpec { expression: schedule?.expression().to_owned(), timezone: String::new() },
            jitter: jitter.unwrap_or_default(),
            retention,
            destinations: Vec::new(),
            max_age,
            timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
            on_missed: match raw.on_missed {
                None | Some(RawOnMissed::Run) => OnMissed::Run,
                Some(RawOnMissed::Skip) => OnMissed::Skip,
            },
        },
        timezone,
        destinations,
        default: default.then(|| checker.span(&["default"])),
    })
}

/// A `max_age` below the schedule's longest pause is an incident every day; none at all is silence.
fn warn_of_age(
    checker: &mut Checker<'_>,
    schedule: &Schedule,
    jitter: Duration,
    max_age: Option<Duration>,
    aged: bool,
) {
    let Some(pause) = longest_pause(schedule) else { return };
    let enough = pause + jitter;
    match max_age {
        Some(max_age) if max_age < enough => {
            let message = format!(
                "every backup will be late: `max_age` is {}, but up to {} pass between two runs",
                show_duration(max_age),
                show_duration(enough),
            );
            let hint = format!("write at least `max_age: {}`", hours(enough + 2 * HOUR));
            checker.warn(&["max_age"], codes::MAX_AGE_TOO_SHORT, message, hint);
        }
        None if !aged => {
            let message = "nobody is told when backups of this policy stop: it has no `max_age`";
            checker.warn(&["name"], codes::NO_MAX_AGE, message, format!("add `max_age: {}`", hours(enough + 2 * HOUR)));
        }
        _ => {}
    }
}

fn longest_pause(schedule: &Schedule) -> Option<Duration> {
    let first = schedule.next_after(Timestamp::from_second(PAUSES_FROM_S).ok()?)?;
    let mut last = first;
    let mut longest = Duration::ZERO;
    for _ in 0..PAUSES_MAX {
        let Some(next) = schedule.next_after(last) else { break };
        longest = longest.max(Duration::try_from(next.duration_since(last)).unwrap_or_default());
        last = next;
        if last.duration_since(first) > PAUSES_WITHIN {
            break;
        }
    }
    Some(longest)
}

fn hours(duration: Duration) -> String {
    format!("{}h", duration.as_secs().div_ceil(3600))
}
