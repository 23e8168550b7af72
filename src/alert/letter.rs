//! What a mail says, from records: the facts first as values, then through the templates `mail/*`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::edge::Edge;
use crate::config::model::Site;
use crate::error::Trouble;
use crate::run::hold::Hold;
use crate::runner::lost;
use crate::status::job::accept_command;
use crate::status::render;
use crate::store::damage::Damage;
use crate::store::record::{DestinationRecord, Incident, JobRecord, OutboxMail, RunRecord, RunSummary, Upkeep};
use crate::store::unfinished::Unfinished;
use crate::types::{JobId, Name, Revision, show_duration};

/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 140;
/// Most holds of one job that a mail names.
const HOLDS_TOLD_MAX: usize = 5;
/// Longest message or hint, in characters.
const MESSAGE_CHARS_MAX: usize = 1000;
/// Longest line of a config error, in characters.
const LINE_CHARS_MAX: usize = 300;
/// Most config errors that are told; the push output and the page have all.
const ERRORS_MAX: usize = 20;
/// Largest texts, in bytes: a record of the store has at most 32 KiB.
const TEXT_BYTES_MAX: usize = 8 * 1024;
const HTML_BYTES_MAX: usize = 16 * 1024;

/// Which pair of files in `templates/mail` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Template {
    Failed,
    Overdue,
    Recovered,
    Config,
    Held,
}

impl Template {
    /// Name and content of the text and of the HTML.
    fn files(self) -> ((&'static str, &'static str), (&'static str, &'static str)) {
        match self {
            Self::Failed => (
                ("mail/failed.txt", include_str!("../../templates/mail/failed.txt")),
                ("mail/failed.html", include_str!("../../templates/mail/failed.html")),
            ),
            Self::Overdue => (
                ("mail/overdue.txt", include_str!("../../templates/mail/overdue.txt")),
                ("mail/overdue.html", include_str!("../../templates/mail/overdue.html")),
            ),
            Self::Recovered => (
                ("mail/recovered.txt", include_str!("../../templates/mail/recovered.txt")),
                ("mail/recovered.html", include_str!("../../templates/mail/recovered.html")),
            ),
            Self::Held => (
                ("mail/held.txt", include_str!("../../templates/mail/held.txt")),
                ("mail/held.html", include_str!("../../templates/mail/held.html")),
            ),
            Self::Config => (
                ("mail/config.txt", include_str!("../../templates/mail/config.txt")),
                ("mail/config.html", include_str!("../../templates/mail/config.html")),
            ),
        }
    }
}

/// What a template sees. Plain text without control characters; the HTML template escapes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Letter {
    #[serde(skip)]
    template: Template,
    subject: String,
    site: String,
    /// `bad`, `warning` or `good`.
    mood: &'static str,
    headline: String,
    /// What went wrong, and what to do next.
    message: Option<String>,
    hint: Option<String>,
    facts: Vec<Fact>,
    /// Lines of a revision's errors.
    errors: Vec<String>,
    /// How many more there are.
    errors_more: usize,
    /// What to type next.
    commands: Vec<String>,
    /// The page that shows it.
    link: Option<String>,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

pub(super) fn of_run(site: &Site, edge: Edge, before: &JobRecord, after: &JobRecord, run: &RunRecord) -> Letter {
    match edge {
        Edge::Failed => {
            let headline = format!("The backup {} failed", run.job);
            of_trouble(site, after, run, "FAILED", "bad", headline)
        }
        Edge::Incomplete => {
            let headline = format!("The backup {} kept only a part", run.job);
            of_trouble(site, after, run, "Incomplete", "warning", headline)
        }
        Edge::Recovered => of_recovery(site, before, after, run),
    }
}

fn of_trouble(
    site: &Site,
    after: &JobRecord,
    run: &RunRecord,
    word: &str,
    mood: &'static str,
    headline: String,
) -> Letter {
    let job = &run.job;
    let ended = run.finished.unwrap_or(run.queued);
    let trouble = run.trouble.as_ref().or_else(|| run.warnings.first());
    let subject = match trouble {
        Some(trouble) => format!("{word}: {job}: {}", trouble.message),
        None => format!("{word}: {job}"),
    };
    let mut letter = Letter::new(site, Template::Failed, &subject, mood, headline).about(site, job).trouble(trouble);
    letter.fact("run", run.id.to_string());
    letter.fact("ended", say_time(site, ended));
    letter.fact("last success", say_success(site, after.last_success.as_ref(), ended));
    letter.fact("next run", say_next(site, after));
    letter.commands = vec![format!("larder log {}", run.id), format!("larder run {}", job.target)];
    letter
}

fn of_recovery(site: &Site, before: &JobRecord, after: &JobRecord, run: &RunRecord) -> Letter {
    let job = &run.job;
    let ended = run.finished.unwrap_or(run.queued);
    let troubles = match (before.failing, before.incomplete) {
        (0, 0) => "after it was overdue".to_owned(),
        (0, incomplete) => format!("after {}", plural(incomplete, "incomplete run")),
        (failing, 0) => format!("after {}", plural(failing, "failure")),
        (failing, incomplete) => {
            format!("after {} and {}", plural(failing, "failure"), plural(incomplete, "incomplete run"))
        }
    };
    let headline = format!("The backup {job} works again, {troubles}");
    let subject = format!("Recovered: {job} {troubles}");
    let mut letter = Letter::new(site, Template::Recovered, &subject, "good", headline).about(site, job);
    letter.fact("run", run.id.to_string());
    letter.fact("ended", say_time(site, ended));
    if let Some(since) = before.troubled_since {
        letter.fact("in trouble since", format!("{} ({})", say_time(site, since), say_age(since, ended)));
    }
    letter.fact("success before", say_success(site, before.last_success.as_ref(), ended));
    letter.fact("next run", say_next(site, after));
    letter.commands = vec![format!("larder log {}", run.id)];
    letter
}

/// What is told of a job's holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldNews {
    Begun,
    Reminder,
    Ended,
    Accepted,
}

/// `holds` are never empty.
pub(super) fn of_holds(site: &Site, news: HoldNews, job: &JobRecord, holds: &[&Hold], now: Timestamp) -> Letter {
    let first = holds.first().map(|hold| hold.trouble.message.clone()).unwrap_or_default();
    let more = match holds.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let since = holds.iter().map(|hold| hold.since).min().unwrap_or(now);
    let (template, mood, word, headline) = match news {
        HoldNews::Begun => {
            let headline = format!("The backup {} is held: its old backups are kept until you look", job.id);
            (Template::Held, "warning", "Held", headline)
        }
        HoldNews::Reminder => {
            let headline = format!("The backup {} is still held, for {}", job.id, say_age(since, now));
            (Template::Held, "warning", "Still held", headline)
        }
        HoldNews::Ended => (
            Template::Recovered,
            "good",
            "Hold ended",
            format!("A hold of the backup {} ended: it is well again", job.id),
        ),
        HoldNews::Accepted => (
            Template::Recovered,
            "good",
            "Hold accepted",
            format!("A hold of the backup {} ended: it was accepted", job.id),
        ),
    };
    let subject = format!("{word}: {}: {first}{more}", job.id);
    let mut letter = Letter::new(site, template, &subject, mood, headline)
        .about(site, &job.id)
        .trouble(holds.first().map(|hold| &hold.trouble));
    letter.fact("held since", say_time(site, since));
    for hold in holds.iter().skip(1).take(HOLDS_TOLD_MAX) {
        letter.fact("also", plain(&hold.trouble.message, MESSAGE_CHARS_MAX));
    }
    letter.fact("last success", say_success(site, job.last_success.as_ref(), now));
    letter.fact("next run", say_next(site, job));
    let open = matches!(news, HoldNews::Begun | HoldNews::Reminder);
    letter.commands = holds
        .iter()
        .take(HOLDS_TOLD_MAX)
        .filter(|_| open)
        .filter_map(|hold| accept_command(&job.id.target, hold))
        .chain(job.last_run.iter().map(|run| format!("larder log {}", run.id)))
        .collect();
    letter
}

pub(super) fn of_overdue(site: &Site, job: &JobRecord, age: Duration, max_age: Duration) -> Letter {
    let what = match &job.last_success {
        None => format!("no success yet, after {}", show_duration(age)),
        Some(_) => format!("the last success is {} old", show_duration(age)),
    };
    let headline = format!("The backup {} is overdue: {what}", job.id);
    let subject = format!("OVERDUE: {}: {what}", job.id);
    let trouble = job.last_run.as_ref().and_then(|run| run.trouble.as_ref());
    let mut letter =
        Letter::new(site, Template::Overdue, &subject, "bad", headline).about(site, &job.id).trouble(trouble);
    letter.fact("allowed", format!("{} (max_age)", show_duration(max_age)));
    let newest = job.last_success.as_ref().map_or("never".to_owned(), |run| say_time(site, run.finished));
    letter.fact("last success", newest);
    if let Some(run) = &job.last_run {
        letter.fact("last run", format!("{}, {}", run.outcome, say_time(site, run.finished)));
    }
    letter.fact("next run", say_next(site, job));
    letter.commands = vec![format!("larder run {}", job.id.target), "larder doctor".to_owned()];
    letter
}

pub(super) fn of_rejected(site: &Site, revision: &Revision, errors: &[String]) -> Letter {
    let count = u32::try_from(errors.len()).unwrap_or(u32::MAX);
    let subject = format!("Config rejected: {} has {}", revision.short(), plural(count, "error"));
    let headline = format!("Revision {} was rejected; the config before it stays in force", revision.short());
    let mut letter = Letter::new(site, Template::Config, &subject, "bad", headline);
    letter.fact("revision", revision.to_string());
    letter.errors = errors.iter().take(ERRORS_MAX).map(|error| plain(error, LINE_CHARS_MAX)).collect();
    letter.errors_more = errors.len().saturating_sub(ERRORS_MAX);
    letter.hint =
        Some("mend it and push again; `larder check` in the repository says the same before a push".to_owned());
    letter.commands = vec!["larder check".to_owned()];
    letter.link = page(site, "");
    letter
}

pub(super) fn of_held(site: &Site, revision: &Revision, reason: &str) -> Letter {
    let subject = format!("Config held: {} waits for your confirmation", revision.short());
    let headline = format!("Revision {} is held; the config before it stays in force", revision.short());
    let mut letter = Letter::new(site, Template::Config, &subject, "warning", headline);
    letter.message = Some(plain(reason, MESSAGE_CHARS_MAX));
    letter.fact("revision", revision.to_string());
    letter.hint = Some("confirm it when that is what you want; else push a revision that is right".to_owned());
    letter.commands = vec![format!("larder confirm {}", revision.short())];
    letter.link = page(site, "");
    letter
}

pub(super) fn of_unreadable(site: &Site, incident: &Incident) -> Letter {
    let subject = format!("Config cannot be read: {}", incident.trouble.message);
    let headline = "The watched repository cannot be read; the config in force stays, and no change arrives".to_owned();
    let mut letter = Letter::new(site, Template::Config, &subject, "bad", headline).trouble(Some(&incident.trouble));
    letter.fact("since", say_time(site, incident.since));
    letter.commands = vec!["larder doctor".to_owned()];
    letter.link = page(site, "");
    letter
}

pub(super) fn of_readable(site: &Site, incident: &Incident, now: Timestamp) -> Letter {
    let headline = "The watched repository can be read again".to_owned();
    let mut letter =
        Letter::new(site, Template::Recovered, "Recovered: the config can be read again", "good", headline);
    letter.fact("could not be read since", say_time(site, incident.since));
    letter.fact("for", say_age(incident.since, now));
    letter.fact("because", plain(&incident.trouble.message, MESSAGE_CHARS_MAX));
    letter.link = page(site, "");
    letter
}

pub(super) fn of_state(site: &Site, incident: &Incident) -> Letter {
    let subject = format!("FAILED: {}", incident.trouble.message);
    let headline = "The state directory is lost: no backup is made until it is back".to_owned();
    let mut letter = Letter::new(site, Template::Failed, &subject, "bad", headline).trouble(Some(&incident.trouble));
    letter.fact("since", say_time(site, incident.since));
    letter.link = page(site, "");
    letter
}

pub(super) fn of_loss(site: &Site, damage: &Damage, target: &str) -> Letter {
    let trouble = lost::told(damage, target);
    let headline = "The state store was lost and made anew: nothing is forgotten until that is accepted".to_owned();
    let subject = "FAILED: the state store was lost";
    let mut letter = Letter::new(site, Template::Failed, subject, "bad", headline).trouble(Some(&trouble));
    letter.fact("noticed", say_time(site, damage.at));
    letter.commands = vec![damage.accept_command(target)];
    letter.link = page(site, "");
    letter
}

pub(super) fn of_unfinished(site: &Site, unfinished: &Unfinished) -> Letter {
    let whose = unfinished.target.as_ref().map_or_else(|| unfinished.run.to_string(), ToString::to_string);
    let subject = format!("FAILED: the application of {whose} is not put back as it was");
    let headline = format!("What was changed on the application of {whose} could not be put back");
    let trouble = Trouble { hint: Some(unfinished.hint()), ..unfinished.trouble.clone() };
    let mut letter = Letter::new(site, Template::Failed, &subject, "bad", headline).trouble(Some(&trouble));
    letter.fact("since", say_time(site, unfinished.since));
    letter.commands = vec![unfinished.accept_command()];
    letter.link = page(site, "");
    letter
}

pub(super) fn of_finished(site: &Site, unfinished: &Unfinished, now: Timestamp) -> Letter {
    let whose = unfinished.target.as_ref().map_or_else(|| unfinished.run.to_string(), ToString::to_string);
    let subject = format!("Recovered: the application of {whose} is put back");
    let headline = format!("What was changed on the application of {whose} is put back as it was");
    let mut letter = Letter::new(site, Template::Recovered, &subject, "good", headline);
    letter.fact("since", say_time(site, unfinished.since));
    letter.fact("for", say_age(unfinished.since, now));
    letter.fact("because", plain(&unfinished.trouble.message, MESSAGE_CHARS_MAX));
    letter.link = page(site, "");
    letter
}

pub(super) fn of_state_back(site: &Site, incident: &Incident, now: Timestamp) -> Letter {
    let headline = "The state directory is there again, and backups go on".to_owned();
    let subject = "Recovered: the state directory is there again";
    let mut letter = Letter::new(site, Template::Recovered, subject, "good", headline);
    letter.fact("lost since", say_time(site, incident.since));
    letter.fact("for", say_age(incident.since, now));
    letter.fact("because", plain(&incident.trouble.message, MESSAGE_CHARS_MAX));
    letter.link = page(site, "");
    letter
}

/// None when nothing began or ended.
pub(super) fn of_upkeep(
    site: &Site,
    destination: &Name,
    work: &str,
    before: &Upkeep,
    after: &Upkeep,
) -> Option<Letter> {
    let mut letter = match (&before.trouble, &after.trouble) {
        (None, Some(trouble)) => {
            let subject = format!("FAILED: {work} of {destination}: {}", trouble.message);
            let headline = format!("The {work} of the destination {destination} failed");
            let mut letter = Letter::new(site, Template::Failed, &subject, "bad", headline).trouble(Some(trouble));
            letter.commands = vec![format!("larder destination {work} {destination}")];
            letter
        }
        (Some(_), None) => {
            let subject = format!("Recovered: {work} of {destination}");
            let headline = format!("The {work} of the destination {destination} works again");
            Letter::new(site, Template::Recovered, &subject, "good", headline)
        }
        _ => return None,
    };
    letter.fact("destination", destination.to_string());
    letter.fact("last success", after.last_success.map_or("never".to_owned(), |at| say_time(site, at)));
    if let Some(next) = after.next {
        letter.fact("next", say_time(site, next));
    }
    letter.link = page(site, "");
    Some(letter)
}

/// A destination that is away (`trouble` says why), or is back.
pub(super) fn of_destination(
    site: &Site,
    record: &DestinationRecord,
    trouble: Option<&Trouble>,
    jobs: usize,
    now: Timestamp,
) -> Letter {
    let name = &record.name;
    let mut letter = match trouble {
        Some(trouble) => {
            // Most of them begin with whose they are.
            let of = format!("destination {name}: ");
            let why = trouble.message.strip_prefix(&of).unwrap_or(&trouble.message);
            let subject = format!("Away: {of}{why}");
            let headline = format!("The destination {name} is away");
            let mut letter = Letter::new(site, Template::Failed, &subject, "warning", headline).trouble(Some(trouble));
            letter.commands = vec![format!("larder destination test {name}")];
            letter
        }
        None => {
            let subject = format!("Back: destination {name}");
            let headline = format!("The destination {name} takes what is shipped again");
            Letter::new(site, Template::Recovered, &subject, "good", headline)
        }
    };
    letter.fact("destination", format!("{name} ({})", record.location));
    letter.fact("jobs that ship there", jobs.to_string());
    if let Some(since) = record.away_since.filter(|_| trouble.is_none()) {
        letter.fact("away since", format!("{} ({})", say_time(site, since), say_age(since, now)));
    }
    letter.fact("last used", record.last_used.map_or("never".to_owned(), |at| say_time(site, at)));
    letter.link = page(site, "");
    letter
}

impl Letter {
    fn new(site: &Site, template: Template, subject: &str, mood: &'static str, headline: String) -> Self {
        Self {
            template,
            subject: plain(&format!("[{}] {subject}", site.name), SUBJECT_CHARS_MAX),
            site: site.name.to_string(),
            mood,
            headline,
            message: None,
            hint: None,
            facts: Vec::new(),
            errors: Vec::new(),
            errors_more: 0,
            commands: Vec::new(),
            link: None,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn about(mut self, site: &Site, job: &JobId) -> Self {
        self.fact("target", job.target.to_string());
        self.fact("policy", job.policy.to_string());
        self.link = page(site, &format!("targets/{}.html", job.target));
        self
    }

    fn trouble(mut self, trouble: Option<&Trouble>) -> Self {
        self.message = trouble.map(|trouble| plain(&trouble.message, MESSAGE_CHARS_MAX));
        self.hint = trouble.and_then(|trouble| trouble.hint.as_ref()).map(|hint| plain(hint, MESSAGE_CHARS_MAX));
        self
    }

    fn fact(&mut self, name: &'static str, value: String) {
        self.facts.push(Fact { name, value });
    }

    /// The mail, ready for the outbox; none when the site tells nobody.
    pub(super) fn mail(&self, site: &Site, now: Timestamp) -> Option<OutboxMail> {
        let email = site.email.as_ref().filter(|email| !email.to.is_empty())?;
        let (text, html) = self.template.files();
        let text = self.render(text).unwrap_or_else(|| self.bare());
        // A mail without HTML is better than none.
        let html = self.render(html).filter(|html| html.len() <= HTML_BYTES_MAX).unwrap_or_default();
        Some(OutboxMail {
            created: now,
            to: email.to.clone(),
            subject: self.subject.clone(),
            text: cut(text, TEXT_BYTES_MAX),
            html,
            attempts: 0,
            not_before: now,
            last_error: None,
        })
    }

    /// None, and an error in the log, when the template fails.
    fn render(&self, (name, template): (&str, &str)) -> Option<String> {
        match render::render_mail(name, template, None, self) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::error!(template = name, error = crate::error::chain(&error), "a mail's template fails");
                None
            }
        }
    }

    /// What must be said even when a template is broken.
    fn bare(&self) -> String {
        let lines = [Some(&self.headline), self.message.as_ref(), self.hint.as_ref()];
        let mut text = lines.into_iter().flatten().chain(&self.errors).cloned().collect::<Vec<_>>().join("\n");
        text.push('\n');
        text
    }
}

fn say_time(site: &Site, at: Timestamp) -> String {
    let zone = TimeZone::get(&site.timezone).unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%a %-d %b %Y, %H:%M %Z").to_string()
}

fn say_age(since: Timestamp, now: Timestamp) -> String {
    show_duration(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

fn say_success(site: &Site, success: Option<&RunSummary>, now: Timestamp) -> String {
    success.map_or("never".to_owned(), |run| {
        format!("{} ({} before)", say_time(site, run.finished), say_age(run.finished, now))
    })
}

fn say_next(site: &Site, job: &JobRecord) -> String {
    job.next_run.map_or("none is due".to_owned(), |at| say_time(site, at))
}

fn page(site: &Site, path: &str) -> Option<String> {
    site.url.as_ref().map(|url| format!("{}/{path}", url.trim_end_matches('/')))
}

fn plural(count: u32, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// One line without control or direction characters: what comes from programs must not forge headers or lines.
fn plain(text: &str, chars_max: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line: String =
        text.chars().take(chars_max).map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        line.pop();
        line.push('…');
    }
    line.trim().to_owned()
}

/// The beginning of `text` that fits, whole characters only.
fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
pub(super) mod tests;
