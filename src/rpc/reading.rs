//! The methods that only read.

use jiff::SignedDuration;

use crate::config::model::Config;
use crate::error::{Trouble, chain, codes};
use crate::rpc::Rpc;
use crate::rpc::access::Access::Read;
use crate::rpc::log_tail;
use crate::rpc::register::Register;
use crate::rpc::wire::snapshots::{SnapshotInfo, SnapshotListParams};
use crate::rpc::wire::statistics::{DayInfo, DestinationStatistics, StatisticsParams};
use crate::rpc::wire::{
    Checkup, FileInfo, FindParams, FoundFile, LogPart, NoParams, OperationParams, Page, PageParams, PolicyInfo,
    RunDetail, RunInfo, RunListParams, RunLogParams, RunParams, RunStep, ScheduleNextParams, SnapshotFilesParams,
    SystemStatus, TargetParams, Upcoming, invalid, page_limit,
};
use crate::runner::control::OperationStatus;
use crate::schedule::{Schedule, jitter};
use crate::status::read::{Depth, Reading};
use crate::status::{ConfigView, DestinationView, TargetView, View};
use crate::store::StoreError;
use crate::store::history::RunFilter;
use crate::store::ledger::Ledger;
use crate::store::record::JobRecord;
use crate::types::RunId;

/// How many coming times of one job are told.
const TIMES_MAX: usize = 10;

pub(super) fn register(to: &mut impl Register) {
    to.method("system.status", Read, "The daemon, the verdict and the config at a glance.", system_status);
    to.method("system.doctor", Read, "What the daemon needs on its machine, looked at now.", system_doctor);
    to.method("target.list", Read, "Every target with its jobs, by name; without their strips of runs.", target_list);
    to.method("target.get", Read, "One target with its jobs and their last runs.", target_get);
    to.method("policy.list", Read, "The policies of the config in force.", policy_list);
    to.method("schedule.next", Read, "When jobs run next, soonest first.", schedule_next);
    to.method("run.list", Read, "Runs, newest first.", run_list);
    to.method("run.get", Read, "One run with its steps.", run_get);
    to.method("run.log", Read, "A part of a run's log; its end when no offset is given.", run_log);
    to.method("snapshot.list", Read, "Snapshots, newest first.", snapshot_list);
    to.method("snapshot.files", Read, "The files of a snapshot.", snapshot_files);
    to.method("snapshot.find", Read, "Files by name in all snapshots.", snapshot_find);
    to.method("operation.get", Read, "How a restore, prune, check or test stands.", operation_get);
    to.method("operation.list", Read, "The newest operations.", operation_list);
    to.method("destination.list", Read, "Every destination.", destination_list);
    to.method(
        "destination.stats",
        Read,
        "What was gathered last of each destination, and of the targets in it: size, savings, growth and cost.",
        destination_stats,
    );
    to.method("config.status", Read, "The revision in force, and one that was rejected or is held.", config_status);
}

/// The view as of now. Reads where blocking is allowed.
pub(super) async fn view(rpc: &Rpc, depth: Depth) -> Result<View, Trouble> {
    let now = rpc.clock.now();
    let live = rpc.live.clone();
    ask(rpc, move |ledger| Ok(View::build(&Reading::take(ledger, &live, depth, now)?, now))).await
}

/// Asks the ledger where blocking is allowed.
async fn ask<T: Send + 'static>(
    rpc: &Rpc,
    question: impl FnOnce(&Ledger) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Trouble> {
    let ledger = rpc.ledger.clone();
    match tokio::task::spawn_blocking(move || question(&ledger)).await {
        Ok(answer) => answer.map_err(|error| {
            Trouble::new(codes::STORE, chain(&error))
                .with_hint("see the daemon's log; `larder doctor` checks the state directory")
        }),
        Err(_) => Err(Trouble::new(codes::SHUTTING_DOWN, "the daemon is shutting down")),
    }
}

async fn system_status(rpc: Rpc, _: NoParams) -> Result<SystemStatus, Trouble> {
    let view = view(&rpc, Depth::Jobs).await?;
    let missing = rpc.readiness.missing(std::time::Instant::now());
    Ok(SystemStatus {
        version: view.larder,
        started: rpc.started,
        now: view.generated,
        process: std::process::id(),
        ready: missing.is_empty(),
        missing,
        site: view.site,
        verdict: view.verdict,
        counts: view.counts,
        config: view.config,
        mail: view.mail,
        attention: view.attention,
    })
}

async fn system_doctor(rpc: Rpc, _: NoParams) -> Result<Page<Checkup>, Trouble> {
    Ok(Page { items: rpc.queries.doctor().await?, next: None })
}

async fn target_list(rpc: Rpc, params: PageParams) -> Result<Page<TargetView>, Trouble> {
    let mut targets = view(&rpc, Depth::Remarks).await?.targets;
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Page::cut(targets, params.cursor.as_deref(), params.limit)
}

async fn target_get(rpc: Rpc, params: TargetParams) -> Result<TargetView, Trouble> {
    let targets = view(&rpc, Depth::Strips).await?.targets;
    targets.into_iter().find(|target| target.name == params.target).ok_or_else(|| {
        Trouble::new(codes::UNKNOWN_TARGET, format!("there is no target {}", params.target))
            .with_hint("`target.list` names them; a target appears once its config is applied")
    })
}

async fn policy_list(rpc: Rpc, params: PageParams) -> Result<Page<PolicyInfo>, Trouble> {
    let config = ask(&rpc, Ledger::desired).await?;
    let policies = config.policies.values().map(|policy| PolicyInfo::of(policy, &config)).collect();
    Page::cut(policies, params.cursor.as_deref(), params.limit)
}

async fn schedule_next(rpc: Rpc, params: ScheduleNextParams) -> Result<Page<Upcoming>, Trouble> {
    let times = match params.times {
        None => 1,
        Some(times) if (1..=TIMES_MAX).contains(&times) => times,
        Some(times) => return Err(invalid("times", times, &format!("1 to {TIMES_MAX}"))),
    };
    let (jobs, config) = ask(&rpc, |ledger| Ok((ledger.jobs()?, ledger.desired()?))).await?;
    let wanted = jobs.into_iter().filter(|job| {
        params.target.as_ref().is_none_or(|target| *target == job.id.target)
            && params.policy.as_ref().is_none_or(|policy| *policy == job.id.policy)
    });
    let now = rpc.clock.now();
    let mut all: Vec<Upcoming> = wanted.flat_map(|job| upcoming(&job, &config, times, now)).collect();
    all.sort_by(|a, b| (a.at, &a.target, &a.policy).cmp(&(b.at, &b.target, &b.policy)));
    Page::cut(all, params.cursor.as_deref(), params.limit)
}

/// The job's next run as it is planned, then the times that follow from the schedule.
fn upcoming(job: &JobRecord, config: &Config, times: usize, now: jiff::Timestamp) -> Vec<Upcoming> {
    let Some(policy) = config.policies.get(&job.id.policy).filter(|_| job.orphaned_since.is_none()) else {
        return Vec::new();
    };
    let mut at: Vec<jiff::Timestamp> = job.retry.iter().map(|retry| retry.at).chain(job.next_run).collect();
    at.sort();
    if let (Some(slot), Ok(schedule)) =
        (job.next_slot, Schedule::parse(&policy.schedule.expression, &policy.schedule.timezone))
    {
        let moved = SignedDuration::try_from(jitter(&job.id, policy.jitter)).unwrap_or_default();
        at.extend(schedule.upcoming(slot).take(times).filter_map(|slot| slot.checked_add(moved).ok()));
    }
    let suspended = job.suspended.as_ref().is_some_and(|suspension| suspension.until > now);
    at.into_iter()
        .take(times)
        .map(|at| Upcoming {
            target: job.id.target.clone(),
            policy: job.id.policy.clone(),
            at,
            timezone: policy.schedule.timezone.clone(),
            suspended,
        })
        .collect()
}

async fn run_list(rpc: Rpc, params: RunListParams) -> Result<Page<RunInfo>, Trouble> {
    let limit = page_limit(params.limit)?;
    let RunListParams { target, policy, cursor, .. } = params;
    // One more than asked for says whether there is a next page.
    let filter = RunFilter { target, policy, before: cursor, limit: limit + 1 };
    let mut runs = ask(&rpc, move |ledger| ledger.runs(&filter)).await?;
    let more = runs.len() > limit;
    runs.truncate(limit);
    let next = runs.last().filter(|_| more).map(|run| run.id.to_string());
    Ok(Page { items: runs.into_iter().map(RunInfo::from).collect(), next })
}

async fn run_get(rpc: Rpc, params: RunParams) -> Result<RunDetail, Trouble> {
    let id = params.run;
    let (run, events) = ask(&rpc, move |ledger| Ok((ledger.run(id)?, ledger.events(id)?))).await?;
    let run = run.ok_or_else(|| unknown_run(id))?;
    Ok(RunDetail {
        run: run.into(),
        events: events.into_iter().map(RunStep::from).collect(),
        progress: rpc.live.get(id),
    })
}

async fn run_log(rpc: Rpc, params: RunLogParams) -> Result<LogPart, Trouble> {
    let id = params.run;
    let run = ask(&rpc, move |ledger| ledger.run(id)).await?.ok_or_else(|| unknown_run(id))?;
    let path = rpc.logs.join(format!("{id}.log"));
    let part = tokio::task::spawn_blocking(move || log_tail::read(&path, params.offset, params.limit));
    let mut part = part.await.map_err(|_| Trouble::new(codes::SHUTTING_DOWN, "the daemon is shutting down"))??;
    part.complete = run.state.is_finished() && part.next >= part.size;
    Ok(part)
}

async fn snapshot_list(rpc: Rpc, params: SnapshotListParams) -> Result<Page<SnapshotInfo>, Trouble> {
    let (cursor, limit) = (params.cursor.clone(), params.limit);
    page_limit(limit)?;
    Page::cut(rpc.queries.snapshots(params).await?, cursor.as_deref(), limit)
}

async fn snapshot_files(rpc: Rpc, params: SnapshotFilesParams) -> Result<Page<FileInfo>, Trouble> {
    let (cursor, limit) = (params.cursor.clone(), params.limit);
    page_limit(limit)?;
    Page::cut(rpc.queries.files(params).await?, cursor.as_deref(), limit)
}

async fn snapshot_find(rpc: Rpc, params: FindParams) -> Result<Page<FoundFile>, Trouble> {
    if params.pattern.is_empty() {
        return Err(invalid("pattern", "empty", "a file's name or a pattern such as *.sqlite"));
    }
    let (cursor, limit) = (params.cursor.clone(), params.limit);
    page_limit(limit)?;
    Page::cut(rpc.queries.find(params).await?, cursor.as_deref(), limit)
}

async fn operation_get(rpc: Rpc, params: OperationParams) -> Result<OperationStatus, Trouble> {
    rpc.operations.get(params.operation).ok_or_else(|| {
        Trouble::new(codes::UNKNOWN_OPERATION, format!("there is no operation {}", params.operation))
            .with_hint("only the newest hundred since the daemon's start are known: `operation.list`")
    })
}

async fn operation_list(rpc: Rpc, params: PageParams) -> Result<Page<OperationStatus>, Trouble> {
    Page::cut(rpc.operations.list(), params.cursor.as_deref(), params.limit)
}

async fn destination_list(rpc: Rpc, params: PageParams) -> Result<Page<DestinationView>, Trouble> {
    Page::cut(view(&rpc, Depth::Jobs).await?.destinations, params.cursor.as_deref(), params.limit)
}

async fn destination_stats(rpc: Rpc, params: StatisticsParams) -> Result<Page<DestinationStatistics>, Trouble> {
    let StatisticsParams { destination: wanted, cursor, limit } = params;
    let known = ask(&rpc, Ledger::all_statistics).await?;
    let view = view(&rpc, Depth::Jobs).await?;
    let mut all: Vec<DestinationStatistics> = Vec::new();
    for each in view.destinations.iter().filter(|each| wanted.as_ref().is_none_or(|name| *name == each.name)) {
        let of_it = view.targets.iter().flat_map(|target| &target.statistics);
        let mut targets: Vec<_> = of_it.filter(|of| of.destination == each.name).cloned().collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        let days = known.get(&each.name).map_or_else(Vec::new, |known| known.days.iter().map(DayInfo::from).collect());
        all.push(DestinationStatistics {
            destination: each.name.clone(),
            statistics: each.statistics.clone(),
            targets,
            days,
        });
    }
    match wanted {
        Some(name) if all.is_empty() => {
            Err(Trouble::new(codes::UNKNOWN_DESTINATION, format!("there is no destination {name}"))
                .with_hint("`destination.list` names them"))
        }
        _ => Page::cut(all, cursor.as_deref(), limit),
    }
}

async fn config_status(rpc: Rpc, _: NoParams) -> Result<ConfigView, Trouble> {
    Ok(view(&rpc, Depth::Jobs).await?.config)
}

fn unknown_run(id: RunId) -> Trouble {
    Trouble::new(codes::UNKNOWN_RUN, format!("there is no run {id}"))
        .with_hint("`run.list` names them; old ones are forgotten")
}
