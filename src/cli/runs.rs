//! The commands that talk to the daemon: run, status, runs, log, snapshots, restore, and what an operator does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::args::{
    Accept, Cancel, Confirm, DestinationArgs, DestinationVerb, Global, Log, Output, Restore, Resume, Run, Runs,
    Snapshots, Suspend,
};
use crate::cli::client::{CallError, Client};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::{Code, Done};
use crate::error::{Trouble, codes};
use crate::rpc::wire::RunInfo;
use crate::runner::control::{Acceptance, OperationStatus, ReconcileResult, Reconciled};
use crate::runner::live::RunUpdate;
use crate::types::{ByteSize, Name, Outcome, RunId, show_duration};

/// Between two looks at a run or an operation in progress, and behind the first at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(150);
const LOOK_FIRST: Duration = Duration::from_millis(10);

/// How many entries a page of a list has.
const PAGE: u32 = 200;

pub(crate) fn run(global: &Global, args: &Run) -> Done {
    let client = Client::connect(global)?;
    let targets = if args.all { enabled_targets(&client)? } else { args.targets.clone() };
    if targets.is_empty() {
        // For scripts: no backup was made.
        output::note("there is no enabled target; push one first");
        return Ok(Code::Failed);
    }
    let mut runs = Vec::new();
    for target in &targets {
        let answer = client.call("run.start", json!({"target": target, "policy": args.policy}))?;
        runs.extend(ids(&answer)?);
    }
    if args.detach {
        match global.output {
            Output::Json => output::json(&json!({"runs": runs})),
            _ => runs.iter().for_each(|run| output::line(&run.to_string())),
        }
        return Ok(Code::Done);
    }
    let finished = follow(&client, &runs, global.output)?;
    if global.output == Output::Json {
        output::json(&finished);
    }
    Ok(worst(finished.iter().map(outcome_of)))
}

fn ids(answer: &Value) -> Result<Vec<RunId>, Trouble> {
    serde_json::from_value(answer["runs"].clone())
        .map_err(|error| Trouble::new(codes::BAD_ANSWER, format!("the daemon's answer is not understood: {error}")))
}

fn enabled_targets(client: &Client) -> Result<Vec<Name>, CallError> {
    let items = client.all("target.list", json!({}), PAGE)?;
    let mut names = Vec::new();
    for item in items {
        if item["enabled"].as_bool() == Some(true)
            && let Some(name) = item["name"].as_str().and_then(|name| Name::parse(name).ok())
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Follows runs to their end with a live line each; answers with their records in the same order.
pub(crate) fn follow(client: &Client, runs: &[RunId], shown: Output) -> Result<Vec<RunInfo>, CallError> {
    let mut progress = Progress::new(shown == Output::Text);
    let mut records: Vec<Option<RunInfo>> = vec![None; runs.len()];
    while records.iter().any(Option::is_none) {
        for (run, slot) in runs.iter().zip(records.iter_mut()).filter(|(_, slot)| slot.is_none()) {
            let answer = client.call("run.get", json!({"run": run}))?;
            let record: RunInfo = parse(answer["run"].clone())?;
            if record.outcome.is_some() {
                progress.finished(&record);
                *slot = Some(record);
            } else {
                let live: Option<RunUpdate> = parse(answer["progress"].clone())?;
                progress.update(&record, live.as_ref());
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    progress.close();
    Ok(records.into_iter().flatten().collect())
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, CallError> {
    serde_json::from_value(value).map_err(|error| {
        CallError::Refused(Trouble::new(codes::BAD_ANSWER, format!("the daemon's answer is not understood: {error}")))
    })
}

fn outcome_of(record: &RunInfo) -> Outcome {
    record.outcome.unwrap_or(Outcome::Interrupted)
}

fn worst(outcomes: impl Iterator<Item = Outcome>) -> Code {
    let mut code = Code::Done;
    for outcome in outcomes {
        match outcome {
            Outcome::Success | Outcome::Skipped => {}
            Outcome::Partial => code = if code == Code::Done { Code::Partial } else { code },
            _ => code = Code::Failed,
        }
    }
    code
}

pub(crate) fn status(global: &Global) -> Done {
    let client = Client::connect(global)?;
    let status = status_of(&client)?;
    if global.output == Output::Json {
        output::json(&status);
    } else {
        crate::cli::show::status(&status);
    }
    Ok(code_of(&status))
}

/// For scripts, and the same for `status` and `doctor`: what is red on the page is a failure, and what else needs a person
/// (held, partial, put off, rejected) is not all of it.
pub(crate) fn code_of(status: &Value) -> Code {
    if status["verdict"]["health"] == "failed" {
        return Code::Failed;
    }
    let counts = |each: &Value| ["config", "destination", "job"].iter().any(|kind| each["kind"] == *kind);
    let remarked = status["attention"].as_array().into_iter().flatten().any(counts);
    if remarked { Code::Partial } else { Code::Done }
}

/// The daemon at a glance, with every target in `targets`.
pub(crate) fn status_of(client: &Client) -> Result<Value, CallError> {
    let mut status = client.call("system.status", json!({}))?;
    status["targets"] = Value::Array(client.all("target.list", json!({}), PAGE)?);
    Ok(status)
}

pub(crate) fn runs(global: &Global, args: &Runs) -> Done {
    let client = Client::connect(global)?;
    let answer = client.call("run.list", json!({"target": args.target, "limit": args.limit.clamp(1, 500)}))?;
    if global.output == Output::Json {
        output::json(&answer);
        return Ok(Code::Done);
    }
    let records: Vec<RunInfo> = parse(answer["items"].clone())?;
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    output::table(&["RUN", "JOB", "STATE", "STARTED", "TOOK", "BYTES", "REMARK"], &rows);
    Ok(Code::Done)
}

fn row(record: &RunInfo) -> Vec<String> {
    let took = record
        .started
        .zip(record.finished)
        .map(|(from, to)| show_duration(Duration::try_from(to.duration_since(from)).unwrap_or_default()));
    vec![
        record.id.to_string(),
        format!("{}/{}", record.target, record.policy),
        record.outcome.map_or_else(|| record.state.clone(), |outcome| outcome.to_string()),
        local(record.started.unwrap_or(record.queued)),
        took.unwrap_or_default(),
        ByteSize(record.bytes).to_string(),
        remark(record).chars().take(80).collect(),
    ]
}

/// What went wrong first; else how much was left out by design or accepted.
fn remark(record: &RunInfo) -> String {
    match (&record.trouble, record.notices.as_slice()) {
        (Some(trouble), _) => trouble.message.clone(),
        (None, []) => String::new(),
        (None, [notice]) => format!("notice: {}", notice.message),
        (None, [notice, rest @ ..]) => format!("{} notices: {}, …", rest.len() + 1, notice.message),
    }
}

/// An instant in the reader's zone, to the second.
pub(crate) fn local(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(crate) fn log(global: &Global, args: &Log) -> Done {
    let client = Client::connect(global)?;
    let mut offset = 0_u64;
    loop {
        let answer = client.call("run.log", json!({"run": args.run, "offset": offset}))?;
        if global.output == Output::Json {
            output::json(&answer);
        } else if let Some(text) = answer["text"].as_str().filter(|text| !text.is_empty()) {
            output::line(text.trim_end_matches('\n'));
        }
        let next = answer["next"].as_u64().unwrap_or(offset);
        if next <= offset || answer["size"].as_u64().is_some_and(|size| next >= size) {
            return Ok(Code::Done);
        }
        offset = next;
    }
}

pub(crate) fn snapshots(global: &Global, args: &Snapshots) -> Done {
    let client = Client::connect(global)?;
    let asked = json!({"target": args.target, "destination": args.destination, "all": args.all});
    let items = client.all("snapshot.list", asked, PAGE)?;
    if global.output == Output::Json {
        output::json(&items);
        return Ok(Code::Done);
    }
    crate::cli::show::snapshots(&items);
    Ok(Code::Done)
}

pub(crate) fn restore(global: &Global, args: &Restore) -> Done {
    let client = Client::connect(global)?;
    let absolute = |to: &std::path::PathBuf| {
        std::path::absolute(to)
            .map_err(|error| Trouble::new(codes::BAD_PATH, format!("{} is no usable path: {error}", to.display())))
    };
    let to = args.to.as_ref().map(absolute).transpose()?;
    let options: serde_json::Map<String, Value> = args.option.iter().cloned().collect();
    let answer = client.call(
        "restore.start",
        json!({
            "target": args.target,
            "snapshot": args.snapshot,
            "destination": args.destination,
            "to": to,
            "include": args.include,
            "into": args.into,
            "dry_run": args.dry_run,
            "options": options,
        }),
    )?;
    let done = follow_operation(&client, &answer, global.output, None)?;
    Ok(finish_operation(&done, global.output))
}

/// Waits for the end of an operation, at most `longest`.
pub(crate) fn follow_operation(
    client: &Client,
    answer: &Value,
    shown: Output,
    longest: Option<Duration>,
) -> Result<OperationStatus, CallError> {
    let mut progress = Progress::new(shown == Output::Text);
    let begun = std::time::Instant::now();
    loop {
        let status: OperationStatus = parse(client.call("operation.get", json!({"operation": answer["operation"]}))?)?;
        if status.finished.is_some() {
            progress.close();
            return Ok(status);
        }
        if let Some(longest) = longest.filter(|longest| begun.elapsed() > *longest) {
            progress.close();
            let message = format!("{} is not done after {}", status.title, show_duration(longest));
            return Err(Trouble::new(codes::STILL_GOING, message)
                .with_hint("`larder status` says what runs now; it goes on meanwhile")
                .into());
        }
        progress.operation(&status);
        // What is over in a moment is not waited for longer.
        std::thread::sleep((begun.elapsed() / 4).clamp(LOOK_FIRST, LOOK_EVERY));
    }
}

fn finish_operation(status: &OperationStatus, shown: Output) -> Code {
    if shown == Output::Json {
        output::json(status);
    } else {
        status.lines.iter().for_each(|line| output::line(line));
    }
    match &status.trouble {
        None => Code::Done,
        Some(trouble) => {
            output::trouble(trouble);
            Code::Failed
        }
    }
}

pub(crate) fn cancel(global: &Global, args: &Cancel) -> Done {
    Client::connect(global)?.call("run.cancel", json!({"run": args.run}))?;
    output::note(&format!("{} is being cancelled", args.run));
    Ok(Code::Done)
}

pub(crate) fn suspend(global: &Global, args: &Suspend) -> Done {
    let until = jiff::SignedDuration::try_from(args.duration)
        .ok()
        .and_then(|duration| jiff::Timestamp::now().checked_add(duration).ok())
        .ok_or_else(|| Trouble::new(codes::BAD_TIME, "that is too far away").with_hint("at most 30d"))?;
    Client::connect(global)?
        .call("target.suspend", json!({"target": args.target, "until": until, "reason": args.reason}))?;
    output::note(&format!("{} is suspended until {}", args.target, local(until)));
    Ok(Code::Done)
}

pub(crate) fn resume(global: &Global, args: &Resume) -> Done {
    Client::connect(global)?.call("target.resume", json!({"target": args.target}))?;
    output::note(&format!("{} is scheduled again", args.target));
    Ok(Code::Done)
}

pub(crate) fn accept(global: &Global, args: &Accept) -> Done {
    let answer = Client::connect(global)?.call("target.accept", json!({"target": args.target, "value": args.value}))?;
    if global.output == Output::Json {
        output::json(&answer);
        return Ok(Code::Done);
    }
    let accepted: Vec<Acceptance> = parse(answer["accepted"].clone())?;
    for each in accepted {
        output::note(&format!("{}/{}: accepted: {}", args.target, each.policy, each.reason));
    }
    Ok(Code::Done)
}

pub(crate) fn confirm(global: &Global, args: &Confirm) -> Done {
    let client = Client::connect(global)?;
    let status = client.call("config.status", json!({}))?;
    let held = status["held"]["revision"].as_str().unwrap_or_default();
    if held.is_empty() {
        return Err(Trouble::new(codes::NOT_HELD, "no revision is held").with_hint("see `larder status`").into());
    }
    if args.revision.len() < 7 || !held.starts_with(&args.revision) {
        return Err(Trouble::new(codes::NOT_HELD, format!("the held revision is {held}, not {}", args.revision))
            .with_hint(format!("larder confirm {}", held.get(..7).unwrap_or(held)))
            .into());
    }
    let verdict: Reconciled = parse(client.call("config.confirm", json!({"revision": held}))?)?;
    Ok(show_verdict(&verdict, global.output))
}

fn show_verdict(verdict: &Reconciled, shown: Output) -> Code {
    if shown == Output::Json {
        output::json(verdict);
    } else {
        verdict.lines.iter().for_each(|line| output::line(line));
    }
    match verdict.result {
        ReconcileResult::Applied | ReconcileResult::Unchanged => Code::Done,
        ReconcileResult::Rejected => Code::Invalid,
        ReconcileResult::Held | ReconcileResult::Failed => Code::Failed,
    }
}

pub(crate) fn destination(global: &Global, args: &DestinationArgs) -> Done {
    if args.lock.is_some() && args.action != DestinationVerb::Unlock {
        return Err(Trouble::new(codes::LOCK_WITHOUT_UNLOCK, "--lock goes with `unlock` only")
            .with_hint("larder destination unlock NAME --lock ID")
            .into());
    }
    let is_rewind = args.action == DestinationVerb::Rewind;
    if is_rewind != args.to.is_some() || (args.yes && !is_rewind) {
        return Err(Trouble::new(codes::REWIND_OPTIONS, "`rewind` needs --to, and --to and --yes go with it only")
            .with_hint("larder destination rewind NAME --to TIME")
            .into());
    }
    if args.last && args.action != DestinationVerb::Stats {
        return Err(Trouble::new(codes::LAST_WITHOUT_STATS, "--last goes with `stats` only")
            .with_hint("larder destination stats [NAME] --last")
            .into());
    }
    let client = Client::connect(global)?;
    let method = match args.action {
        DestinationVerb::List => {
            let items = client.all("destination.list", json!({}), PAGE)?;
            if global.output == Output::Json {
                output::json(&items);
            } else {
                crate::cli::show::destinations(&items);
            }
            return Ok(Code::Done);
        }
        DestinationVerb::Test => "destination.test",
        DestinationVerb::Check => "destination.check",
        DestinationVerb::Prune => "destination.prune",
        DestinationVerb::Forget => "destination.forget",
        DestinationVerb::Copy => "destination.copy",
        DestinationVerb::Unlock => "destination.unlock",
        DestinationVerb::Keys => "destination.keys",
        DestinationVerb::Pin => "destination.pin",
        DestinationVerb::ExtendLocks => "destination.extend_locks",
        DestinationVerb::Rewind => "destination.rewind",
        DestinationVerb::Stats => "destination.gather",
    };
    let Some(name) = &args.destination else {
        return Err(Trouble::new(codes::MISSING_DESTINATION, "which destination?")
            .with_hint("see `larder destination list`")
            .into());
    };
    let mut params = json!({"destination": name});
    if let Some(lock) = &args.lock {
        params = json!({"destination": name, "lock": lock});
    }
    if let Some(to) = &args.to {
        params = json!({"destination": name, "to": to, "dry_run": !args.yes});
    }
    let answer = client.call(method, params)?;
    let done = follow_operation(&client, &answer, global.output, None)?;
    Ok(finish_operation(&done, global.output))
}
