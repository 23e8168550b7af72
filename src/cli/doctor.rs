//! `larder doctor`: looks at everything that the site needs and says what to type where something is missing.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::args::{Doctor, Global, Output};
use crate::cli::client::{CallError, Client};
use crate::cli::output::{self, Colour};
use crate::cli::{Code, Done, runs};
use crate::error::{Trouble, codes};

/// The oldest git whose hooks and push options Larder is tested with.
const GIT_OLDEST: (u32, u32) = (2, 39);

/// How long one destination is waited for: it may wait for a run that uses it.
const TEST_MAX: Duration = Duration::from_mins(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Good,
    Warning,
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    what: String,
    grade: Grade,
    seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn good(what: &str, seen: impl Into<String>) -> Self {
        Self { what: what.to_owned(), grade: Grade::Good, seen: seen.into(), hint: None }
    }

    fn warning(what: &str, seen: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.to_owned(), grade: Grade::Warning, seen: seen.into(), hint: Some(hint.into()) }
    }

    fn bad(what: &str, trouble: &Trouble) -> Self {
        Self { what: what.to_owned(), grade: Grade::Bad, seen: trouble.message.clone(), hint: trouble.hint.clone() }
    }
}

pub(crate) fn doctor(global: &Global, args: &Doctor) -> Done {
    let mut findings = vec![git()];
    let (others, known) = daemon(global, args)?;
    findings.extend(others);
    let bad = findings.iter().any(|each| each.grade == Grade::Bad);
    if global.output == Output::Json {
        output::json(&findings);
    } else {
        show(&findings);
    }
    Ok(if bad { Code::Failed } else { known })
}

fn show(findings: &[Finding]) {
    let terminal = std::io::stdout().is_terminal();
    for each in findings {
        let (word, colour) = match each.grade {
            Grade::Good => ("ok", Colour::Green),
            Grade::Warning => ("warning", Colour::Yellow),
            Grade::Bad => ("bad", Colour::Red),
        };
        output::line(&format!(
            "{} {:<24} {}",
            output::paint(&format!("{word:<8}"), colour, terminal),
            each.what,
            each.seen
        ));
        if let Some(hint) = &each.hint {
            output::line(&format!("         {:<24} hint: {hint}", ""));
        }
    }
}

fn git() -> Finding {
    let hint = "install the package git, 2.39 or newer";
    let Some(text) = said("git", &["--version"]) else {
        return Finding::bad("git", &Trouble::new(codes::GIT_MISSING, "no git was found").with_hint(hint));
    };
    let numbers: Vec<u32> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    match numbers.as_slice() {
        [major, minor, ..] if (*major, *minor) >= GIT_OLDEST => Finding::good("git", text),
        _ => Finding::warning("git", text, hint),
    }
}

/// The first line of what a program says, if it can be started.
fn said(program: impl AsRef<Path>, args: &[&str]) -> Option<String> {
    let done = Command::new(program.as_ref()).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&done.stdout).lines().next()?.trim().to_owned();
    done.status.success().then_some(text)
}

/// What only the daemon can tell: it knows the config, the secrets and the mounts. Whatever one look comes to, the others
/// are made too. Beside them, what `larder status` exits with.
fn daemon(global: &Global, args: &Doctor) -> Result<(Vec<Finding>, Code), CallError> {
    let client = Client::connect(global)?;
    let status = match runs::status_of(&client) {
        Ok(status) => status,
        Err(CallError::NotReachable(trouble)) => return Ok((vec![Finding::bad("daemon", &trouble)], Code::Failed)),
        Err(refused) => return Err(refused),
    };
    let mut findings =
        vec![Finding::good("daemon", format!("larder {} answers", status["version"].as_str().unwrap_or("?")))];
    findings.push(readiness(&status));
    findings.extend(said_or(local_checks(&client), "machine"));
    findings.push(backups(&status["verdict"]));
    findings.push(config(&status["config"]));
    findings.extend(attention(&status["attention"]));
    findings.extend(targets(&status));
    findings.extend(said_or(destinations(&client, global), "destinations"));
    findings.extend(said_or(mail(&client, args).map(|finding| vec![finding]), "mail"));
    // The looks may have found something that the jobs are judged by.
    let known = runs::status_of(&client).map_or(Code::Failed, |status| runs::code_of(&status));
    Ok((findings, known))
}

/// The findings, or as one what kept them from being made.
fn said_or(findings: Result<Vec<Finding>, CallError>, what: &str) -> Vec<Finding> {
    findings.unwrap_or_else(|error| vec![Finding::bad(what, &trouble_in(error))])
}

fn trouble_in(error: CallError) -> Trouble {
    match error {
        CallError::NotReachable(trouble) | CallError::Refused(trouble) => trouble,
    }
}

fn readiness(status: &Value) -> Finding {
    let missing: Vec<&str> = status["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if missing.is_empty() {
        return Finding::good("readiness", "the daemon is ready");
    }
    let hint = "see `larder status` and the daemon's log";
    if status["config"]["state"] == "none" {
        return Finding::warning("readiness", missing.join("; "), hint);
    }
    Finding::bad("readiness", &Trouble::new(codes::NOT_READY, missing.join("; ")).with_hint(hint))
}

/// What the daemon itself looked at: restic, the artifact root, the state, plugins.
fn local_checks(client: &Client) -> Result<Vec<Finding>, CallError> {
    let answer = client.call("system.doctor", json!({}))?;
    let mut findings = Vec::new();
    for item in answer["items"].as_array().into_iter().flatten() {
        let what = item["what"].as_str().unwrap_or_default();
        findings.push(match trouble_of(&item["trouble"]) {
            None => Finding::good(what, item["seen"].as_str().unwrap_or_default()),
            Some(trouble) => Finding::bad(what, &trouble),
        });
    }
    Ok(findings)
}

fn trouble_of(value: &Value) -> Option<Trouble> {
    serde_json::from_value(value.clone()).ok()
}

/// A problem as the pages show it, as a trouble: what first, then why.
fn problem_of(value: &Value) -> Option<Trouble> {
    let what = value["what"].as_str()?;
    let message = match value["why"].as_str() {
        Some(why) => format!("{what}: {why}"),
        None => what.to_owned(),
    };
    let typed = value["commands"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let hints: Vec<String> =
        value["hint"].as_str().map(str::to_owned).into_iter().chain(typed.map(|each| format!("`{each}`"))).collect();
    let trouble = Trouble::told(value["code"].as_str().unwrap_or_default(), message);
    Some(if hints.is_empty() { trouble } else { trouble.with_hint(hints.join("; ")) })
}

/// The sentence on top of the pages.
fn backups(verdict: &Value) -> Finding {
    let text = |field: &str| verdict[field].as_str().unwrap_or_default();
    let seen = format!("{} ({})", text("sentence"), text("detail"));
    match text("health") {
        "proven" => Finding::good("backups", seen),
        "failed" => Finding::bad("backups", &Trouble::new(codes::FAILED, seen).with_hint("each is told below")),
        _ => Finding::warning("backups", seen, "see `larder status`"),
    }
}

fn config(config: &Value) -> Finding {
    let short = |value: &Value| value["revision"].as_str().unwrap_or_default().chars().take(7).collect::<String>();
    if let Some(reason) = config["unreadable"]["reason"].as_str() {
        let trouble = Trouble::new(codes::UNREADABLE, format!("the watched repository cannot be read: {reason}"));
        let hint = config["unreadable"]["hint"].as_str().unwrap_or("look at it with `git fsck --full`");
        return Finding::bad("config", &trouble.with_hint(hint));
    }
    if config["state"] == "rejected" {
        let first = config["rejected"]["errors"][0].as_str().unwrap_or_default();
        let trouble =
            Trouble::new(codes::REJECTED, format!("revision {} was rejected: {first}", short(&config["rejected"])))
                .with_hint("mend it and push again; the config before it stays in force");
        return graded("config", false, trouble);
    }
    if config["state"] == "held" {
        let revision = short(&config["held"]);
        return Finding::warning(
            "config",
            format!("revision {revision} is held"),
            format!("larder confirm {revision}"),
        );
    }
    if config["revision"].is_null() {
        return Finding::warning("config", "none was applied yet", "push one to the watched repository");
    }
    Finding::good("config", format!("revision {} is in force", short(config)))
}

/// What needs a person and has no finding of its own: mails that wait, containers that nothing covers, the state.
fn attention(all: &Value) -> Vec<Finding> {
    let own = ["job", "destination", "config"];
    let others = all.as_array().into_iter().flatten().filter(|each| !own.iter().any(|kind| each["kind"] == *kind));
    others
        .filter_map(|each| {
            let trouble = problem_of(&each["problem"])?;
            let what = each["subject"].as_str().unwrap_or_default();
            Some(graded(what, each["health"] == "failed", trouble))
        })
        .collect()
}

fn graded(what: &str, failed: bool, trouble: Trouble) -> Finding {
    if failed {
        return Finding::bad(what, &trouble);
    }
    Finding { what: what.to_owned(), grade: Grade::Warning, seen: trouble.message, hint: trouble.hint }
}

fn targets(status: &Value) -> Vec<Finding> {
    let targets = status["targets"].as_array().map_or(&[][..], Vec::as_slice);
    let mut findings = Vec::new();
    let (mut wanted, mut well) = (0, 0);
    for target in targets {
        let name = target["name"].as_str().unwrap_or("?");
        let jobs = target["jobs"].as_array().map_or(&[][..], Vec::as_slice);
        if target["plugin"].is_null() {
            // It left the config: its backups stay and need nobody.
            continue;
        }
        wanted += 1;
        if target["enabled"] == false {
            let hint = "write `enabled: true` in Git, or remove the target there";
            findings.push(Finding::warning(name, "switched off, so nothing of it is backed up", hint));
            continue;
        }
        let mut fine = true;
        for job in jobs.iter().filter(|job| job["state"] != "orphaned") {
            let what = format!("{name}/{}", job["policy"].as_str().unwrap_or("?"));
            let found = unwell(&what, name, job);
            fine &= found.is_none();
            findings.extend(found);
        }
        well += usize::from(fine);
    }
    let seen = format!("{well} of {wanted} proven and without trouble");
    let all = if well == wanted {
        Finding::good("targets", seen)
    } else {
        Finding::warning("targets", seen, "each of the others is told below")
    };
    findings.insert(0, all);
    findings
}

/// What is not well with a job; none when it is proven.
fn unwell(what: &str, target: &str, job: &Value) -> Option<Finding> {
    if let Some(trouble) = problem_of(&job["problem"]) {
        return Some(graded(what, job["health"] == "failed", trouble));
    }
    if let Some(until) = job["suspended"]["until"].as_str() {
        let hint = format!("`larder resume {target}` schedules it again");
        return Some(Finding::warning(what, format!("suspended until {until}"), hint));
    }
    match job["health"].as_str() {
        Some("proven") => None,
        _ => Some(Finding::warning(what, "not proven yet", format!("`larder run {target}` makes the first backup"))),
    }
}

fn destinations(client: &Client, global: &Global) -> Result<Vec<Finding>, CallError> {
    let shown = if global.output == Output::Json { Output::Json } else { Output::Text };
    let mut findings = Vec::new();
    let mut wanted = 0;
    for item in client.all("destination.list", json!({}), 200)? {
        let name = item["name"].as_str().unwrap_or_default();
        let what = format!("destination {name}");
        if item["desired"] == false {
            let place = item["location"].as_str().unwrap_or_default();
            findings.push(Finding::good(&what, format!("left the config; its backups stay in {place}, not tested")));
            continue;
        }
        wanted += 1;
        findings.push(match test(client, name, shown) {
            Ok(seen) => Finding::good(&what, seen),
            Err(trouble) => Finding::bad(&what, &trouble),
        });
        for work in ["prune", "check", "forget"] {
            let upkeep = &item[work];
            if let Some(trouble) = problem_of(&upkeep["problem"]) {
                findings.push(graded(&format!("{work} of {name}"), upkeep["health"] == "failed", trouble));
            }
        }
    }
    if wanted == 1 {
        findings.push(Finding::warning(
            "second destination",
            "there is only one destination",
            "a backup beside its source is lost with it: add a Destination on another machine",
        ));
    }
    Ok(findings)
}

/// Opens the repository; what was seen, or why not.
fn test(client: &Client, name: &str, shown: Output) -> Result<String, Trouble> {
    let answer = client.call("destination.test", json!({"destination": name})).map_err(trouble_in)?;
    let done = runs::follow_operation(client, &answer, shown, Some(TEST_MAX)).map_err(trouble_in)?;
    // How far the storage was asked is for whoever asks for one destination.
    let answers = done.lines.iter().position(|line| line.contains(" answers, ")).unwrap_or(0);
    let lines = done.lines.get(answers..).unwrap_or_default();
    done.trouble.map_or_else(|| Ok(lines.join("; ")), Err)
}

fn mail(client: &Client, args: &Doctor) -> Result<Finding, CallError> {
    if !args.mail {
        return Ok(Finding::good("mail", "not tested; `larder doctor --mail` sends a test"));
    }
    let answer = client.call("alert.test", json!({}))?;
    Ok(Finding::good("mail", answer["answer"].as_str().unwrap_or("sent")))
}
