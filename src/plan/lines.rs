//! A plan for a terminal, short enough for the answer to a push.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::plan::{Change, ChangeKind, DocumentKind, NextRun, Plan};
use crate::types::show_duration;

const WARNINGS_MAX: usize = 4;
const CHANGES_MAX: usize = 10;
const NEXT_RUNS_MAX: usize = 5;

pub(super) fn lines(plan: &Plan, now: Timestamp) -> Vec<String> {
    if plan.is_empty() {
        return vec!["no changes".to_owned()];
    }
    let zone = TimeZone::get(&plan.timezone).unwrap_or(TimeZone::UTC);
    let mut changes: Vec<&Change> = plan.changes.iter().collect();
    // What is removed must be seen even when the rest is cut off.
    changes.sort_by_key(|change| change.change);
    let mut lines = Vec::new();
    lines.extend(plan.guard.iter().map(|guard| format!("! held: {}", guard.reason)));
    push_some(&mut lines, &plan.warnings, WARNINGS_MAX, "warnings", |warning| format!("! {warning}"));
    push_some(&mut lines, &changes, CHANGES_MAX, "changes", |change| change_line(change));
    push_some(&mut lines, &plan.next_runs, NEXT_RUNS_MAX, "jobs with a new next run", |next| {
        next_line(next, &zone, now)
    });
    if lines.is_empty() {
        lines.push(format!("{} records brought up to date", plan.steps.len()));
    }
    lines
}

fn push_some<T>(lines: &mut Vec<String>, all: &[T], max: usize, what: &str, write: impl Fn(&T) -> String) {
    lines.extend(all.iter().take(max).map(write));
    if all.len() > max {
        lines.push(format!("… and {} more {what}", all.len() - max));
    }
}

fn change_line(change: &Change) -> String {
    let sign = match change.change {
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
        ChangeKind::Added => '+',
    };
    let kind = match change.kind {
        DocumentKind::Site => "site ",
        DocumentKind::Destination => "destination ",
        DocumentKind::Policy => "policy ",
        DocumentKind::Target => "",
    };
    let details = if change.details.is_empty() { String::new() } else { format!(" ({})", change.details.join(", ")) };
    format!("{sign} {kind}{}{details}", change.name)
}

fn next_line(next: &NextRun, zone: &TimeZone, now: Timestamp) -> String {
    let after = next.after.to_zoned(zone.clone());
    let before = next.before.map(|before| before.to_zoned(zone.clone()));
    let when = match before {
        Some(before) if before.date() == after.date() => {
            format!("{} -> {}", day_and_time(&before), after.strftime("%H:%M"))
        }
        Some(before) => format!("{} -> {}", day_and_time(&before), day_and_time(&after)),
        None => day_and_time(&after),
    };
    format!("  next {} {when} ({})", next.job, distance(next.after, now))
}

fn day_and_time(at: &Zoned) -> String {
    at.strftime("%a %-d %b %H:%M").to_string()
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    match Duration::try_from(at.duration_since(now)) {
        Ok(distance) if !distance.is_zero() => format!("in {}", show_duration(distance)),
        _ => "now".to_owned(),
    }
}
