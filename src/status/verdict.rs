//! The one sentence on top: counts missed and overdue jobs too, and is green only when everything is proven.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::status::{Attention, ConfigView, Counts, DestinationView, Health, JobState, SiteVerdict, TargetView};

/// Counts the jobs of `targets`, and what else must be well before everything is proven.
#[must_use]
pub fn count(targets: &[TargetView], destinations: &[DestinationView], running: usize) -> Counts {
    let mut counts = Counts { targets: targets.len() as u64, running: running as u64, ..Counts::default() };
    counts.switched_off = targets.iter().filter(|target| target.plugin.is_some() && !target.enabled).count() as u64;
    let unused = |each: &&DestinationView| each.desired && each.jobs > 0 && each.health == Health::Unknown;
    counts.unused_destinations = destinations.iter().filter(unused).count() as u64;
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
pub fn verdict(counts: &Counts, attention: &[Attention], config: &ConfigView) -> SiteVerdict {
    let (health, sentence) = match failure(counts, attention) {
        Some(sentence) => (Health::Failed, sentence),
        None => short_of_failure(counts, attention, config),
    };
    SiteVerdict { health, sentence, detail: detail(counts) }
}

/// What has failed: the daemon itself, what it is to do, jobs and destinations, in this order.
fn failure(counts: &Counts, attention: &[Attention]) -> Option<String> {
    let failed = |kind: &'static str| attention.iter().filter(move |a| a.kind == kind && a.health == Health::Failed);
    let jobs = counts.failed + counts.overdue;
    // One destination with two problems is one destination.
    let destinations = failed("destination").map(|a| a.subject.as_str()).collect::<BTreeSet<_>>().len() as u64;
    let mut parts = Vec::new();
    parts.extend(failed("state").next().map(|_| "the state directory is lost".to_owned()));
    parts.extend(failed("loss").next().map(|_| "the state store was lost".to_owned()));
    // Two runs may have left something on one application.
    let undo = failed("undo").map(|a| a.subject.as_str()).collect::<BTreeSet<_>>().len() as u64;
    parts.extend((undo > 0).then(|| format!("{} put back as it was", of_applications(undo))));
    parts.extend(failed("config").next().map(|_| "the config cannot be read".to_owned()));
    match (jobs, destinations) {
        (0, 0) => {}
        (jobs, 0) => parts.push(format!("{} attention", needs(jobs, "job"))),
        (0, destinations) => parts.push(format!("{} attention", needs(destinations, "destination"))),
        (jobs, destinations) => {
            let both = format!("{} and {}", plural(jobs, "job"), plural(destinations, "destination"));
            parts.push(format!("{both} need attention"));
        }
    }
    (!parts.is_empty()).then(|| capital(&parts.join(", and ")))
}

fn of_applications(count: u64) -> String {
    if count == 1 { "1 application is not".to_owned() } else { format!("{count} applications are not") }
}

fn short_of_failure(counts: &Counts, attention: &[Attention], config: &ConfigView) -> (Health, String) {
    if config.revision.is_none() && counts.jobs == 0 {
        return (Health::Unknown, "Nothing is protected yet".to_owned());
    }
    if config.state == "rejected" {
        return (Health::Warning, "The newest config was rejected; the one before stays in force".to_owned());
    }
    if config.state == "held" {
        return (Health::Warning, "The newest config waits for your confirmation".to_owned());
    }
    let other = attention.iter().filter(|a| a.kind != "job" && a.health != Health::Unknown).count() as u64;
    let warnings = counts.warning + other;
    let (health, claim) = claim(counts, warnings);
    match warnings {
        0 => (health, claim),
        warnings => (Health::Warning, format!("{claim}, with {}", plural(warnings, "warning"))),
    }
}

/// What can be said of the backups, never more than the counts say.
fn claim(counts: &Counts, warnings: u64) -> (Health, String) {
    let Counts { jobs, proven, never_run, suspended, .. } = *counts;
    if jobs == 0 {
        let what = if counts.switched_off > 0 { "Every target is switched off" } else { "The config protects nothing" };
        return (Health::Unknown, what.to_owned());
    }
    if suspended == jobs {
        return (Health::Unknown, "Every job is suspended".to_owned());
    }
    if never_run > 0 {
        return (Health::Unknown, format!("{} {} not proven yet", plural(never_run, "job"), be(never_run)));
    }
    let mut but = Vec::new();
    if suspended > 0 {
        but.push((Health::Warning, format!("{suspended} {} suspended", be(suspended))));
    }
    if counts.switched_off > 0 {
        let n = counts.switched_off;
        but.push((Health::Unknown, format!("{} {} switched off", plural(n, "target"), be(n))));
    }
    if counts.unused_destinations > 0 {
        let n = counts.unused_destinations;
        but.push((
            Health::Unknown,
            format!("{} {} no backup yet", plural(n, "destination"), if n == 1 { "has" } else { "have" }),
        ));
    }
    let health = but.iter().map(|(health, _)| *health).max().unwrap_or(Health::Proven);
    let head = match (proven == jobs - suspended, but.is_empty()) {
        (true, true) if warnings == 0 => "Everything is proven".to_owned(),
        (true, true) => "Backed up".to_owned(),
        (true, false) => format!("{} proven", plural(proven, "job")),
        // Jobs with a remark: something of them may be there, and it is not proven.
        (false, _) => format!("{proven} of {} proven", plural(jobs, "job")),
    };
    let sentence = std::iter::once(head).chain(but.into_iter().map(|(_, part)| part)).collect::<Vec<_>>().join(", ");
    (health, sentence)
}

fn be(n: u64) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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
    if counts.switched_off > 0 {
        text.push_str(&format!(", {} switched off", plural(counts.switched_off, "target")));
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
