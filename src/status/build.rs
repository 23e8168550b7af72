//! From values read to the view: pure, total, deterministic.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::model::{Destination, Policy, ScheduleSpec};
use crate::error::{Trouble, codes};
use crate::run::hold::Hold;
use crate::run::holdings::Holdings;
use crate::runner::live::{OthersLock, RunUpdate};
use crate::runner::lost;
use crate::schedule::Schedule;
use crate::status::job::{accept_command, fresh_until, problem, standing};
use crate::status::read::{History, Reading, Shipped};
use crate::status::upkeep::upkeep_view;
use crate::status::verdict::{count, say_time, verdict};
use crate::status::{
    ArtifactView, Attention, ConfigView, DestinationView, DiscoveryView, Health, HeldView, HoldView, ImmutableView,
    JobState, JobView, MailView, Problem, RejectedView, RunBrief, RunningView, STALE_AFTER, ShippedView, SiteView,
    SuspensionView, TargetView, UnreadableView, VIEW_VERSION, View,
};
use crate::status::{causes, copy, discovery, holdings, repository, statistics};
use crate::store::damage::Damage;
use crate::store::record::{ConfigRecord, DestinationRecord, Incident, JobRecord, RunSummary, Upkeep};
use crate::store::unfinished::Unfinished;
use crate::types::Name;

/// How many lines of a rejection the attention plate shows; the config section has all.
const REJECTION_LINES_MAX: usize = 3;

impl View {
    /// Judges what was read, as of `now`.
    #[must_use]
    pub fn build(reading: &Reading, now: Timestamp) -> Self {
        let running: Vec<RunningView> = reading.live.iter().map(running_view).collect();
        let targets = targets(reading, &running, now);
        let destinations = destinations(reading, now);
        let config = config_view(&reading.config);
        let mail = MailView {
            configured: reading.desired.site.email.is_some(),
            waiting: reading.mails_waiting,
            last_error: reading.mail_error.clone(),
        };
        let counts = count(&targets, &destinations, running.len());
        let discovery = discovery::view(reading);
        let state = reading.state.as_ref().map(|incident| state_problem(incident, &reading.zone()));
        let mut attention = attention(reading, &targets, &destinations, &config, &mail, discovery.as_ref());
        let undo = reading.unfinished.iter().map(unfinished_attention);
        attention.splice(0..0, undo);
        if let Some(problem) = reading.loss.as_ref().map(|damage| loss_problem(damage, &reading.jobs)) {
            let (kind, subject) = ("loss".to_owned(), "state store".to_owned());
            attention.insert(0, Attention { health: Health::Failed, kind, subject, target: None, problem });
        }
        if let Some(problem) = &state {
            let (kind, subject) = ("state".to_owned(), "state".to_owned());
            // Nothing else that is said can be relied on before this is mended.
            let first = Attention { health: Health::Failed, kind, subject, target: None, problem: problem.clone() };
            attention.insert(0, first);
        }
        let jobs = || targets.iter().flat_map(|target| &target.jobs);
        Self {
            version: VIEW_VERSION,
            larder: env!("CARGO_PKG_VERSION").to_owned(),
            generated: now,
            stale_after_seconds: STALE_AFTER.as_secs(),
            site: SiteView {
                name: reading.desired.site.name.clone(),
                timezone: reading.desired.site.timezone.clone(),
                url: reading.desired.site.url.clone(),
            },
            verdict: verdict(&counts, &attention, &config),
            counts,
            attention,
            last_success: jobs().filter_map(|job| job.last_success.as_ref()).map(|run| run.finished).max(),
            next_run: jobs().filter_map(|job| job.next_run).filter(|next| *next > now).min(),
            config,
            running,
            targets,
            destinations,
            mail,
            state,
            discovery,
        }
    }
}

fn state_problem(incident: &Incident, zone: &TimeZone) -> Problem {
    Problem {
        code: incident.trouble.code.clone(),
        what: format!(
            "The state directory is lost since {}; no backup is made, since none could be recorded",
            say_time(incident.since, zone)
        ),
        why: Some(incident.trouble.message.clone()),
        hint: incident.trouble.hint.clone(),
        commands: Vec::new(),
    }
}

fn loss_problem(damage: &Damage, jobs: &[JobRecord]) -> Problem {
    let job = jobs.iter().find(|job| job.orphaned_since.is_none());
    let target = job.map_or("state", |job| job.id.target.as_str());
    let trouble = lost::told(damage, target);
    Problem {
        code: trouble.code,
        what: "The state store was lost; nothing is forgotten until that is accepted".to_owned(),
        why: Some(trouble.message),
        hint: trouble.hint,
        commands: vec![damage.accept_command(target)],
    }
}

fn unfinished_attention(unfinished: &Unfinished) -> Attention {
    let subject = unfinished.target.as_ref().map_or_else(|| unfinished.run.to_string(), Name::to_string);
    let problem = Problem {
        code: unfinished.trouble.code.clone(),
        what: format!("What was changed on the application of {subject} is not put back"),
        why: Some(unfinished.trouble.message.clone()),
        hint: Some(unfinished.hint()),
        commands: vec![unfinished.accept_command()],
    };
    let (kind, target) = ("undo".to_owned(), unfinished.target.clone());
    Attention { health: Health::Failed, kind, subject, target, problem }
}

fn running_view(update: &RunUpdate) -> RunningView {
    RunningView {
        run: update.run,
        target: update.job.target.clone(),
        policy: update.job.policy.clone(),
        state: update.state.as_str().to_owned(),
        detail: update.detail.clone(),
        bytes_done: update.bytes_done,
        bytes_total: update.bytes_total,
    }
}

/// Every desired target, and those that only have history; what needs attention comes first.
fn targets(reading: &Reading, running: &[RunningView], now: Timestamp) -> Vec<TargetView> {
    let mut jobs: BTreeMap<&Name, Vec<JobView>> = BTreeMap::new();
    for job in &reading.jobs {
        jobs.entry(&job.id.target).or_default().push(job_view(reading, job, running, now));
    }
    let names: BTreeSet<&Name> = reading.desired.targets.keys().chain(jobs.keys().copied()).collect();
    let mut targets: Vec<TargetView> = names
        .into_iter()
        .map(|name| {
            let desired = reading.desired.targets.get(name);
            let jobs = jobs.remove(name).unwrap_or_default();
            TargetView {
                name: name.clone(),
                plugin: desired.map(|target| target.plugin.clone()),
                enabled: desired.is_some_and(|target| target.enabled),
                health: jobs.iter().map(|job| job.health).max().unwrap_or(match desired {
                    Some(target) if target.enabled => Health::Unknown,
                    _ => Health::Inactive,
                }),
                jobs,
                statistics: reading
                    .target_statistics
                    .iter()
                    .filter_map(|(destination, known)| {
                        Some(statistics::target_view(destination, name, known.get(name)?))
                    })
                    .collect(),
            }
        })
        .collect();
    targets.sort_by_key(|target| std::cmp::Reverse(target.health.max(Health::Proven)));
    // What is suspended comes late, what is orphaned or switched off last.
    targets.sort_by_key(|target| match target.health {
        Health::Inactive if !target.enabled => 2,
        Health::Inactive => 1,
        _ => 0,
    });
    targets
}

fn job_view(reading: &Reading, job: &JobRecord, running: &[RunningView], now: Timestamp) -> JobView {
    let policy = reading.desired.policies.get(&job.id.policy).filter(|_| job.orphaned_since.is_none());
    let running = running.iter().find(|run| run.target == job.id.target && run.policy == job.id.policy);
    let standing = standing(job, policy, running.is_some(), now);
    let none = History::default();
    let history = reading.history.get(&job.id).unwrap_or(&none);
    JobView {
        target: job.id.target.clone(),
        policy: job.id.policy.clone(),
        state: standing.state,
        health: standing.health,
        schedule: policy.map(describe),
        last_run: job.last_run.as_ref().map(brief),
        last_success: job.last_success.as_ref().map(brief),
        next_run: job
            .next_run
            .into_iter()
            .chain(job.retry.as_ref().map(|retry| retry.at))
            .min()
            .filter(|_| policy.is_some()),
        max_age_seconds: policy.and_then(|policy| policy.max_age).map(|age| age.as_secs()),
        fresh_until: fresh_until(job, policy),
        suspended: job.suspended.as_ref().filter(|suspension| suspension.until > now).map(|suspension| {
            SuspensionView { since: suspension.since, until: suspension.until, reason: suspension.reason.clone() }
        }),
        orphaned_since: job.orphaned_since,
        success_total: job.success_total,
        failure_total: job.failure_total,
        failing: job.failing,
        running: running.cloned(),
        problem: standing.problem,
        strip: history.cells.clone(),
        destinations: shipped(policy, history).into_iter().chain(copy::of_job(reading, job, policy)).collect(),
        artifact: history.artifact.as_ref().map(|(run, artifact)| ArtifactView {
            run: *run,
            path: reading.desired.site.artifacts.path.join(&artifact.path).display().to_string(),
            files: artifact.files,
            bytes: artifact.bytes,
            present: artifact.present,
        }),
        warnings: history.warnings.iter().map(|trouble| plain(&trouble.message, trouble)).collect(),
        notices: history.notices.iter().map(|trouble| plain(&trouble.message, trouble)).collect(),
        holds: job.holds.iter().map(|hold| hold_view(job, hold)).collect(),
    }
}

fn hold_view(job: &JobRecord, hold: &Hold) -> HoldView {
    HoldView {
        kind: hold.kind,
        subject: hold.subject.clone(),
        since: hold.since,
        reason: hold.trouble.message.clone(),
        hint: hold.trouble.hint.clone(),
        value: hold.value.clone(),
        command: accept_command(&job.id.target, hold),
    }
}

/// `daily at 02:00 (0 2 * * *, Asia/Singapore)`.
fn describe(policy: &Policy) -> String {
    let ScheduleSpec { expression, timezone } = &policy.schedule;
    match Schedule::parse(expression, timezone).map(|schedule| schedule.describe()) {
        Ok(words) if words != *expression => format!("{words} ({expression}, {timezone})"),
        _ => format!("{expression} {timezone}"),
    }
}

/// The policy's destinations, and those that an older run was shipped to.
fn shipped(policy: Option<&Policy>, history: &History) -> Vec<ShippedView> {
    let wanted = policy.into_iter().flat_map(|policy| &policy.destinations);
    let names: BTreeSet<&Name> = wanted.chain(history.shipped.keys()).collect();
    names
        .into_iter()
        .map(|name| match history.shipped.get(name) {
            None => ShippedView {
                destination: name.clone(),
                outcome: None,
                at: None,
                snapshot: None,
                bytes_added: 0,
                last_success: None,
                problem: None,
            },
            Some(Shipped { newest, at, last_success }) => ShippedView {
                destination: name.clone(),
                outcome: Some(newest.outcome),
                at: Some(*at),
                snapshot: newest.snapshot.clone(),
                bytes_added: newest.bytes_added,
                last_success: *last_success,
                problem: newest.trouble.as_ref().map(|trouble| plain(&trouble.message, trouble)),
            },
        })
        .collect()
}

fn destinations(reading: &Reading, now: Timestamp) -> Vec<DestinationView> {
    let recorded: BTreeMap<&Name, &DestinationRecord> =
        reading.destinations.iter().map(|record| (&record.name, record)).collect();
    let names: BTreeSet<&Name> = reading.desired.destinations.keys().chain(recorded.keys().copied()).collect();
    names
        .into_iter()
        .map(|name| {
            let desired = reading.desired.destinations.get(name);
            let view = destination_view(
                name,
                desired,
                recorded.get(name).copied(),
                reading.holdings.iter().find(|(of, _)| of == name).map(|(_, seen)| seen),
                reading.locks.get(name),
                reading,
                now,
            );
            DestinationView { statistics: statistics::view(name, desired, reading.statistics.get(name)), ..view }
        })
        .collect()
}

fn destination_view(
    name: &Name,
    desired: Option<&Destination>,
    record: Option<&DestinationRecord>,
    seen: Option<&Holdings>,
    lock: Option<&Option<OthersLock>>,
    reading: &Reading,
    now: Timestamp,
) -> DestinationView {
    let missing = seen.map(|seen| holdings::missing(name, seen)).unwrap_or_default();
    let upkeep = |what: &str, wanted: bool, record: Option<&Upkeep>| {
        let unwatched = Upkeep { trouble: None, ..record.cloned().unwrap_or_default() };
        let record = if desired.is_some() { record } else { record.map(|_| &unwatched) };
        (wanted || record.is_some_and(|r| r.last.is_some()))
            .then(|| upkeep_view(name, what, wanted, record.unwrap_or(&Upkeep::default()), now))
    };
    let prune = upkeep("prune", desired.is_some_and(|d| d.prune.is_some()), record.map(|r| &r.prune));
    let check = upkeep("check", desired.is_some_and(|d| d.check.is_some()), record.map(|r| &r.check));
    let forget = upkeep("forget", record.is_some_and(|r| r.forget.next.is_some()), record.map(|r| &r.forget));
    let locks = desired.is_some_and(|d| d.object_lock.is_some());
    let locks = upkeep("extend-locks", locks, record.map(|r| &r.locks));
    let immutable = record.and_then(|record| record.immutable.as_ref()).map(|seen| ImmutableView {
        until: seen.until.filter(|until| *until > now),
        at: seen.at,
        snapshots: seen.snapshots,
    });
    let copy = desired.and_then(|desired| copy::view(desired, record, reading.copies.get(name), now));
    // What left the config can't be mended any more, so it is nobody's worry.
    let trouble = record.filter(|_| desired.is_some()).and_then(|record| record.trouble.as_ref());
    let problem = trouble.map(|trouble| {
        let commands = vec![format!("larder destination test {name}")];
        problem(format!("Destination {name} does not work"), trouble, commands)
    });
    let own = match record {
        _ if problem.is_some() => Health::Failed,
        _ if desired.is_none() => Health::Inactive,
        _ if !missing.is_empty() => Health::Warning,
        Some(record) if record.last_used.is_some() => Health::Proven,
        _ => Health::Unknown,
    };
    let health = if desired.is_none() && problem.is_none() {
        Health::Inactive
    } else {
        // A check that never ran does not make a used repository unknown: it only has no check yet.
        let copied = copy.as_ref().map(|copy| &copy.upkeep);
        let upkeep = [&prune, &check, &forget, &locks]
            .into_iter()
            .flatten()
            .chain(copied)
            .map(|u| u.health)
            .filter(|h| *h >= Health::Warning)
            .max();
        own.max(upkeep.unwrap_or(own))
    };
    DestinationView {
        name: name.clone(),
        location: desired
            .map(|d| d.repository.location())
            .or_else(|| record.map(|r| r.location.clone()))
            .unwrap_or_default(),
        health,
        desired: desired.is_some(),
        repository_id: record.and_then(|r| r.repository_id.clone()),
        last_used: record.and_then(|r| r.last_used),
        tested: record.and_then(|r| r.tested.as_ref()).map(|tested| tested.at),
        jobs: reading.desired.jobs_in(name).len() as u64,
        prune,
        check,
        forget,
        locks,
        immutable,
        copy,
        problem,
        missing_snapshots: seen.map_or(0, |seen| seen.missing.iter().map(|each| each.snapshots).sum()),
        missing,
        notices: seen
            .map(|seen| holdings::notices(name, seen))
            .unwrap_or_default()
            .into_iter()
            .chain(repository::unpinned(desired, record))
            .collect(),
        locks_known: lock.is_some(),
        statistics: None,
        lock: lock.and_then(Option::as_ref).map(|lock| repository::lock(name, lock, now)),
    }
}

fn config_view(record: &ConfigRecord) -> ConfigView {
    let state = match record {
        ConfigRecord { unreadable: Some(_), .. } => "unreadable",
        ConfigRecord { held: Some(_), .. } => "held",
        ConfigRecord { rejected: Some(_), .. } => "rejected",
        ConfigRecord { applied: Some(_), .. } => "applied",
        _ => "none",
    };
    ConfigView {
        state: state.to_owned(),
        revision: record.applied.as_ref().map(|applied| applied.revision.clone()),
        applied_at: record.applied.as_ref().map(|applied| applied.at),
        took_us: record.applied.as_ref().map(|applied| applied.took_us),
        rejected: record.rejected.as_ref().map(|rejected| RejectedView {
            revision: rejected.revision.clone(),
            at: rejected.at,
            errors: rejected.errors.clone(),
        }),
        held: record.held.as_ref().map(|held| HeldView {
            revision: held.revision.clone(),
            at: held.at,
            reason: held.reason.clone(),
        }),
        rejected_total: record.rejected_total,
        unreadable: record.unreadable.as_ref().map(|incident| UnreadableView {
            since: incident.since,
            code: incident.trouble.code.clone(),
            reason: incident.trouble.message.clone(),
            hint: incident.trouble.hint.clone(),
        }),
    }
}

/// Everything that needs a person, worst first; within one health config before destinations before jobs,
/// since one broken destination explains many failed jobs.
fn attention(
    reading: &Reading,
    targets: &[TargetView],
    destinations: &[DestinationView],
    config: &ConfigView,
    mail: &MailView,
    discovery: Option<&DiscoveryView>,
) -> Vec<Attention> {
    let zone = reading.zone();
    let mut all: Vec<Attention> = Vec::new();
    let plate = |health, kind: &str, subject: String, problem| Attention {
        health,
        kind: kind.to_owned(),
        subject,
        target: None,
        problem,
    };
    let config = config_problems(config, &zone);
    all.extend(config.map(|(health, problem)| plate(health, "config", "config".to_owned(), problem)));
    let told = causes::by_destination(targets.iter().flat_map(|target| &target.jobs), destinations);
    for destination in destinations.iter().filter(|d| d.desired) {
        let copied = destination.copy.as_ref().map(|copy| &copy.upkeep);
        let upkeep = [&destination.prune, &destination.check, &destination.forget, &destination.locks];
        let upkeep = upkeep.into_iter().flatten().chain(copied);
        let upkeep = upkeep.filter_map(|u| u.problem.clone().map(|problem| (u.health, problem)));
        let own = destination.problem.clone().map(|mut problem| {
            if let Some(jobs) = told.get(&destination.name) {
                problem.what = format!("{}; {}", problem.what, causes::lacking(jobs));
            }
            (Health::Failed, problem)
        });
        let missing = destination.missing.iter().filter(|_| destination.desired);
        let missing = missing.map(|problem| (Health::Warning, problem.clone()));
        for (health, problem) in own.into_iter().chain(upkeep).chain(missing) {
            all.push(plate(health, "destination", destination.name.to_string(), problem));
        }
    }
    if let Some(error) = mail.last_error.as_ref().filter(|_| mail.waiting > 0) {
        let problem = Problem {
            code: "mail_waiting".to_owned(),
            what: "Mail cannot be delivered".to_owned(),
            why: Some(error.clone()),
            hint: Some("it is sent as soon as the mail server takes it".to_owned()),
            commands: Vec::new(),
        };
        all.push(plate(Health::Warning, "mail", "mail".to_owned(), problem));
    }
    if let Some(discovery) = discovery
        && let Some(problem) = discovery.problem.clone()
    {
        all.push(plate(Health::Warning, "discovery", "containers".to_owned(), problem));
    }
    for job in targets.iter().flat_map(|target| &target.jobs) {
        if causes::told_by(job, destinations).is_some() {
            continue;
        }
        let Some(mut problem) = job.problem.clone() else { continue };
        let held = job.holds.iter().filter(|hold| hold.kind.as_str() == problem.code).map(|hold| hold.since).min();
        if let Some(since) = held {
            problem.what = format!("{}, since {}", problem.what, say_time(since, &zone));
        } else if let Some(last) = job.last_run.as_ref().filter(|_| job.state != JobState::Overdue) {
            problem.what = format!("{}, {}", problem.what, say_time(last.finished, &zone));
        }
        all.push(Attention {
            health: job.health,
            kind: "job".to_owned(),
            subject: format!("{}/{}", job.target, job.policy),
            target: Some(job.target.clone()),
            problem,
        });
    }
    all.sort_by_key(|attention| std::cmp::Reverse(attention.health));
    all
}

fn config_problems(config: &ConfigView, zone: &TimeZone) -> impl Iterator<Item = (Health, Problem)> {
    let in_force = match &config.revision {
        Some(revision) => format!("{} stays in force", revision.short()),
        None => "no config is in force".to_owned(),
    };
    let rejected = config.rejected.as_ref().map(|rejected| Problem {
        code: codes::REJECTED.name().to_owned(),
        what: format!("Revision {} was rejected; {in_force}", rejected.revision.short()),
        why: Some(rejected.errors.iter().take(REJECTION_LINES_MAX).cloned().collect::<Vec<_>>().join("\n")),
        hint: Some("mend it, check it where you edit it, and push again".to_owned()),
        commands: vec!["larder check".to_owned()],
    });
    let held = config.held.as_ref().map(|held| Problem {
        code: "held".to_owned(),
        what: format!("Revision {} waits for your confirmation; {in_force}", held.revision.short()),
        why: Some(held.reason.clone()),
        hint: Some("confirm it if you mean it, or push a revision that removes less".to_owned()),
        commands: vec![format!("larder confirm {}", held.revision.short12())],
    });
    let unreadable = config.unreadable.as_ref().map(|unreadable| Problem {
        code: unreadable.code.clone(),
        what: format!(
            "The watched repository cannot be read since {}; {in_force}, and no change arrives",
            say_time(unreadable.since, zone)
        ),
        why: Some(unreadable.reason.clone()),
        hint: unreadable.hint.clone(),
        commands: vec!["larder doctor".to_owned()],
    });
    let warnings = rejected.into_iter().chain(held).map(|problem| (Health::Warning, problem));
    unreadable.map(|problem| (Health::Failed, problem)).into_iter().chain(warnings)
}

fn brief(run: &RunSummary) -> RunBrief {
    RunBrief {
        id: run.id,
        outcome: run.outcome,
        finished: run.finished,
        duration_ms: run.duration_ms,
        bytes: run.bytes,
    }
}

/// A trouble that stands for itself.
fn plain(what: &str, trouble: &Trouble) -> Problem {
    Problem {
        code: trouble.code.clone(),
        what: what.to_owned(),
        why: None,
        hint: trouble.hint.clone(),
        commands: Vec::new(),
    }
}
