//! What is known of one job: a pure judgement of its record, its policy and the clock.

use jiff::{SignedDuration, Timestamp};

use crate::config::model::Policy;
use crate::error::{Kind, Trouble};
use crate::run::hold::{self, Hold, HoldKind};
use crate::run::retention::is_future;
use crate::status::{Health, JobState, Problem};
use crate::store::record::{JobRecord, RunSummary};
use crate::types::{Name, Outcome, show_duration};

/// How long after its time a run may wait to be queued before it counts as missed.
pub const MISSED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStanding {
    pub state: JobState,
    pub health: Health,
    pub problem: Option<Problem>,
}

/// Judges a job. `policy` is none once it left the config; `running` says that a run of it is in progress.
#[must_use]
pub fn standing(job: &JobRecord, policy: Option<&Policy>, running: bool, now: Timestamp) -> JobStanding {
    let quiet = |state, health| JobStanding { state, health, problem: None };
    let Some(policy) = policy.filter(|_| job.orphaned_since.is_none()) else {
        return quiet(JobState::Orphaned, Health::Inactive);
    };
    if job.suspended.as_ref().is_some_and(|suspension| suspension.until > now) {
        return quiet(JobState::Suspended, Health::Inactive);
    }
    if let Some(problem) = failure(job) {
        return JobStanding { state: JobState::Failed, health: Health::Failed, problem: Some(problem) };
    }
    if let Some(problem) = overdue(job, policy, running, now) {
        return JobStanding { state: JobState::Overdue, health: Health::Failed, problem: Some(problem) };
    }
    if let Some(problem) = held(job) {
        if is_lost(job) {
            return JobStanding { state: JobState::Failed, health: Health::Failed, problem: Some(problem) };
        }
        return JobStanding { state: JobState::Warning, health: Health::Warning, problem: Some(problem) };
    }
    if let Some(since) = job.bare_since {
        return JobStanding { state: JobState::Warning, health: Health::Unknown, problem: Some(bare(job, since)) };
    }
    if let Some(problem) = ahead(job, now) {
        return JobStanding { state: JobState::Warning, health: Health::Warning, problem: Some(problem) };
    }
    match (&job.last_run, &job.last_success) {
        (None, _) if running => quiet(JobState::Running, Health::Unknown),
        (None, _) => quiet(JobState::NeverRun, Health::Unknown),
        (Some(last), success) => match remark(job, last, success.is_some()) {
            Some((health, problem)) => JobStanding { state: JobState::Warning, health, problem: Some(problem) },
            None if running => quiet(JobState::Running, Health::Proven),
            None => quiet(JobState::Ok, Health::Proven),
        },
    }
}

/// The newest success plus what the policy allows.
#[must_use]
pub fn fresh_until(job: &JobRecord, policy: Option<&Policy>) -> Option<Timestamp> {
    let allowed = SignedDuration::try_from(policy?.max_age?).ok()?;
    job.last_success.as_ref()?.finished.checked_add(allowed).ok()
}

/// A trouble as a problem, with `what` in front and `commands` behind.
#[must_use]
pub fn problem(what: impl Into<String>, trouble: &Trouble, commands: Vec<String>) -> Problem {
    Problem {
        code: trouble.code.clone(),
        what: what.into(),
        why: Some(trouble.message.clone()),
        hint: trouble.hint.clone(),
        commands,
    }
}

/// How the last run ended, as a problem.
fn ended(what: impl Into<String>, last: &RunSummary, commands: Vec<String>) -> Problem {
    let (code, what) = (last.outcome.as_str().to_owned(), what.into());
    match &last.trouble {
        Some(trouble) => problem(what, trouble, commands),
        None => Problem { code, what, why: None, hint: None, commands },
    }
}

/// The last run failed, or runs keep failing with something else in between.
fn failure(job: &JobRecord) -> Option<Problem> {
    let last = job.last_run.as_ref()?;
    let failed = last.outcome == Outcome::Failed
        || (job.failing > 0 && matches!(last.outcome, Outcome::Interrupted | Outcome::Deferred));
    if !failed {
        return None;
    }
    let what = match job.failing {
        0 | 1 => "The last run failed".to_owned(),
        n => format!("The last {n} runs failed"),
    };
    Some(ended(what, last, vec![log_command(last), run_command(job)]))
}

/// No success for too long, or a due run that nobody started.
fn overdue(job: &JobRecord, policy: &Policy, running: bool, now: Timestamp) -> Option<Problem> {
    let missed = !running && job.next_run.is_some_and(|next| now.duration_since(next) > MISSED_AFTER);
    let commands = || {
        let log = job.last_run.as_ref().filter(|last| last.outcome != Outcome::Success).map(log_command);
        log.into_iter().chain([run_command(job)]).collect::<Vec<_>>()
    };
    if fresh_until(job, Some(policy)).is_some_and(|until| until < now) {
        let allowed = show_duration(policy.max_age.unwrap_or_default());
        let why = match &job.last_run {
            _ if missed => "a run was due and did not start".to_owned(),
            Some(last) if last.outcome == Outcome::Success => "no run has been made since".to_owned(),
            Some(last) => match &last.trouble {
                Some(trouble) => format!("the last run was {}: {}", last.outcome, trouble.message),
                None => format!("the last run was {}", last.outcome),
            },
            None => "no run has been made since".to_owned(),
        };
        return Some(Problem {
            code: "overdue".to_owned(),
            what: format!("The newest success is older than the {allowed} that the policy allows"),
            why: Some(why),
            hint: job.last_run.as_ref().and_then(|last| last.trouble.as_ref()).and_then(|t| t.hint.clone()),
            commands: commands(),
        });
    }
    missed.then(|| Problem {
        code: "missed".to_owned(),
        what: "A run was due and did not start".to_owned(),
        why: Some("the scheduler did not reach it: every slot may be taken, or the daemon is not turning".to_owned()),
        hint: Some("see what runs now, then start it by hand".to_owned()),
        commands: vec!["larder status".to_owned(), run_command(job)],
    })
}

/// The last run is neither a failure nor a clean success.
fn remark(job: &JobRecord, last: &RunSummary, succeeded_before: bool) -> Option<(Health, Problem)> {
    let what = match last.outcome {
        Outcome::Success | Outcome::Failed => return None,
        Outcome::Partial => "The last run kept only a part",
        Outcome::Skipped => "The last run was skipped",
        Outcome::Deferred => "The last run was put off until something is there again",
        Outcome::Interrupted => "The last run was interrupted by a restart",
        Outcome::Cancelled => "The last run was cancelled",
    };
    let health = if succeeded_before || last.outcome == Outcome::Partial { Health::Warning } else { Health::Unknown };
    let mut problem = ended(what, last, vec![log_command(last)]);
    if last.trouble.as_ref().is_some_and(|trouble| trouble.is_of(Kind::Clock)) {
        // No hold is left: what was to be done is done.
        problem.hint =
            Some("the clock is right now, or was said to be: the next run forgets again by the policy".to_owned());
        problem.commands.push(run_command(job));
    }
    if matches!(last.outcome, Outcome::Cancelled | Outcome::Interrupted | Outcome::Skipped) {
        problem.commands.push(run_command(job));
    }
    Some((health, problem))
}

/// The newest snapshot is gone, and there was no run since.
fn is_lost(job: &JobRecord) -> bool {
    let since = job.holds.iter().filter(|hold| hold.kind == HoldKind::Vanished).map(|hold| hold.since).min();
    let made = job.last_run.as_ref().filter(|last| matches!(last.outcome, Outcome::Success | Outcome::Partial));
    since.is_some_and(|since| made.is_none_or(|made| made.finished < since))
}

/// All its snapshots are gone, which somebody said to be known: that is no backup.
fn bare(job: &JobRecord, since: Timestamp) -> Problem {
    Problem {
        code: "no_backup".to_owned(),
        what: "There is no backup".to_owned(),
        why: Some(format!(
            "all its snapshots are gone, which was accepted at {}, and no run has made one since",
            since.strftime("%Y-%m-%d %H:%M UTC")
        )),
        hint: None,
        commands: vec![run_command(job)],
    }
}

/// The newest success is dated in the future, so its age says nothing: the clock was ahead, or is behind.
fn ahead(job: &JobRecord, now: Timestamp) -> Option<Problem> {
    let success = job.last_success.as_ref().filter(|last| is_future(last.finished, now))?;
    Some(Problem {
        code: "future_success".to_owned(),
        what: "The newest success is dated in the future".to_owned(),
        why: Some(format!(
            "it ended at {}: the clock was ahead then, or is behind now",
            success.finished.strftime("%Y-%m-%d %H:%M UTC")
        )),
        hint: Some(
            "if the clock is behind, correct it (`timedatectl`); if it is right, the next run mends this or says what to type"
                .to_owned(),
        ),
        commands: vec![run_command(job)],
    })
}

/// What holds the job, the worst first.
fn held(job: &JobRecord) -> Option<Problem> {
    let first = job.holds.iter().find(|hold| !hold.kind.is_told_as_incomplete())?;
    let what = match job.holds.len() {
        1 => "Held: the old backups are kept, and nothing is forgotten".to_owned(),
        n => format!("Held for {n} reasons: the old backups are kept, and nothing is forgotten"),
    };
    let mut commands: Vec<String> = job.holds.iter().filter_map(|hold| accept_command(&job.id.target, hold)).collect();
    commands.extend(job.last_run.as_ref().map(log_command));
    let mut problem = problem(what, &first.trouble, commands);
    first.kind.as_str().clone_into(&mut problem.code);
    Some(problem)
}

/// What is typed to accept the hold; none when it can only be mended.
#[must_use]
pub fn accept_command(target: &Name, hold: &Hold) -> Option<String> {
    Some(hold::accept_command(target, hold.value.as_ref()?))
}

fn log_command(run: &RunSummary) -> String {
    format!("larder log {}", run.id)
}

fn run_command(job: &JobRecord) -> String {
    format!("larder run {}", job.id.target)
}
