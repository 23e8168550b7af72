//! The one sentence on top: counts missed and overdue jobs too, and is green only when everything is proven.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::status::{Attention, ConfigView, Counts, Health, JobState, TargetView, Verdict};

/// Counts the jobs of `targets`.
#[must_use]
pub fn count(targets: &[TargetView], running: usize) -> Counts {
    let mut counts = Counts { targets: targets.len() as u64, running: running as u64, ..Counts::default() };
    for job in targets.iter().flat_map(|target| &target.jobs) {
        if job.state == JobState::Orphaned {
            counts.orphaned += 1;
            continue;
        }
        counts.jobs += 1;
        match (job.state, job.health) {
            (JobState::Suspended, _) => counts.suspended += 1,
            (JobState::Overdue, _) => counts.overdue += 1,
            (JobState::Failed, _) => counts.failed += 1,
            (JobState::Ok | JobState::Running, Health::Proven) => counts.proven += 1,
            (JobState::Warning, Health::Warning) => counts.warning += 1,
            _ => counts.never_run += 1,
        }
    }
    counts
}

/// Says it in one sentence.
#[must_use]
pub fn verdict(counts: &Counts, attention: &[Attention], config: &ConfigView) -> Verdict {
    let (health, sentence) = sentence(counts, attention, config);
    Verdict { health, sentence, detail: detail(counts) }
}

fn sentence(counts: &Counts, attention: &[Attention], config: &ConfigView) -> (Health, String) {
    let failed_jobs = counts.failed + counts.overdue;
    // One destination with two problems is one destination.
    let failed = attention.iter().filter(|a| a.kind == "destination" && a.health == Health::Failed);
    let failed_destinations = failed.map(|a| a.subject.as_str()).collect::<BTreeSet<_>>().len() as u64;
    let other = attention.iter().filter(|a| a.kind != "job" && a.health != Health::Unknown).count() as u64;
    match (failed_jobs, failed_destinations) {
        (0, 0) => {}
        (jobs, 0) => return (Health::Failed, format!("{} attention", needs(jobs, "job"))),
        (0, destinations) => return (Health::Failed, format!("{} attention", needs(destinations, "destination"))),
        (jobs, destinations) => {
            let both = format!("{} and {}", plural(jobs, "job"), plural(destinations, "destination"));
            return (Health::Failed, format!("{both} need attention"));
        }
    }
    if config.revision.is_none() && counts.jobs == 0 {
        return (Health::Unknown, "Nothing is protected yet".to_owned());
    }
    if config.state == "rejected" {
        return (Health::Warning, "The newest config was rejected; the one before stays in force".to_owned());
    }
    if config.state == "held" {
        return (Health::Warning, "The newest config waits for your confirmation".to_owned());
    }
    if counts.warning + other > 0 {
        return (Health::Warning, format!("Backed up, with {}", plural(counts.warning + other, "warning")));
    }
    if counts.never_run > 0 {
        let verb = if counts.never_run == 1 { "is" } else { "are" };
        return (Health::Unknown, format!("{} {verb} not proven yet", plural(counts.never_run, "job")));
    }
    if counts.jobs == 0 {
        return (Health::Unknown, "The config protects nothing".to_owned());
    }
    if counts.proven == 0 {
        return (Health::Unknown, "Every job is suspended".to_owned());
    }
    if counts.suspended > 0 {
        let verb = if counts.suspended == 1 { "is" } else { "are" };
        return (
            Health::Warning,
            format!("{} proven, {} {verb} suspended", plural(counts.proven, "job"), counts.suspended),
        );
    }
    (Health::Proven, "Everything is proven".to_owned())
}

fn detail(counts: &Counts) -> String {
    let parts = [
        (counts.failed, "failed"),
        (counts.overdue, "overdue"),
        (counts.warning, "with a warning"),
        (counts.never_run, "not proven yet"),
        (counts.suspended, "suspended"),
        (counts.orphaned, "orphaned"),
    ];
    let mut text = format!("{} of {} proven", counts.proven, plural(counts.jobs, "job"));
    for (n, word) in parts.into_iter().filter(|(n, _)| *n > 0) {
        text.push_str(", ");
        text.push_str(&n.to_string());
        text.push(' ');
        text.push_str(word);
    }
    text
}

/// `1 job`, `2 jobs`.
#[must_use]
pub fn plural(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

fn needs(n: u64, word: &str) -> String {
    format!("{} {}", plural(n, word), if n == 1 { "needs" } else { "need" })
}

/// An instant for people, in `zone`: `Tue 4 Nov 2026, 14:02`.
#[must_use]
pub fn say_time(at: Timestamp, zone: &TimeZone) -> String {
    let at: Zoned = at.to_zoned(zone.clone());
    at.strftime("%a %-d %b %Y, %H:%M").to_string()
}
