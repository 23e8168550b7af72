//! `larder doctor`: looks at everything that the site needs and says what to type where something is missing.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::args::{Doctor, Global, Output};
use crate::cli::client::{CallError, Client};
use crate::cli::output::{self, Colour};
use crate::cli::{Code, Done, runs};
use crate::error::Trouble;

/// The oldest git whose hooks and push options Larder is tested with.
const GIT_OLDEST: (u32, u32) = (2, 39);

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
    findings.extend(daemon(global, args)?);
    let bad = findings.iter().any(|each| each.grade == Grade::Bad);
    if global.output == Output::Json {
        output::json(&findings);
    } else {
        show(&findings);
    }
    Ok(if bad { Code::Failed } else { Code::Done })
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
        return Finding::bad("git", &Trouble::new("no_git", "no git was found").with_hint(hint));
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

/// What only the daemon can tell: it knows the config, the secrets and the mounts.
fn daemon(global: &Global, args: &Doctor) -> Result<Vec<Finding>, CallError> {
    let client = Client::connect(global)?;
    let status = match runs::status_of(&client) {
        Ok(status) => status,
        Err(CallError::NotReachable(trouble)) => return Ok(vec![Finding::bad("daemon", &trouble)]),
        Err(refused) => return Err(refused),
    };
    let mut findings =
        vec![Finding::good("daemon", format!("larder {} answers", status["version"].as_str().unwrap_or("?")))];
    findings.extend(local_checks(&client)?);
    findings.push(config(&status["config"]));
    findings.extend(targets(&status));
    findings.extend(destinations(&client, global)?);
    findings.push(mail(&client, args)?);
    Ok(findings)
}

/// What the daemon itself looked at: restic, the artifact root, plugins.
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

fn config(config: &Value) -> Finding {
    let short = |value: &Value| value["revision"].as_str().unwrap_or_default().chars().take(7).collect::<String>();
    if config["state"] == "rejected" {
        let first = config["rejected"]["errors"][0].as_str().unwrap_or_default();
        let trouble =
            Trouble::new("rejected", format!("revision {} was rejected: {first}", short(&config["rejected"])))
                .with_hint("mend it and push again; the config before it stays in force");
        return Finding::bad("config", &trouble);
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

fn targets(status: &Value) -> Vec<Finding> {
    let targets = status["targets"].as_array().map_or(&[][..], Vec::as_slice);
    let mut findings = Vec::new();
    let mut well = 0;
    for target in targets {
        let mut fine = true;
        for job in target["jobs"].as_array().into_iter().flatten() {
            if let Some(trouble) = trouble_of(&job["problem"]) {
                fine = false;
                let name =
                    format!("{}/{}", job["target"].as_str().unwrap_or("?"), job["policy"].as_str().unwrap_or("?"));
                findings.push(Finding::bad(&name, &trouble));
            }
        }
        well += usize::from(fine);
    }
    findings.insert(0, Finding::good("targets", format!("{well} of {} without trouble", targets.len())));
    findings
}

fn destinations(client: &Client, global: &Global) -> Result<Vec<Finding>, CallError> {
    let mut findings = Vec::new();
    for item in client.all("destination.list", json!({}), 200)? {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let what = format!("destination {name}");
        let answer = client.call("destination.test", json!({"destination": name}))?;
        let done = runs::follow_operation(
            client,
            &answer,
            if global.output == Output::Json { Output::Json } else { Output::Text },
        )?;
        findings.push(match &done.trouble {
            None => Finding::good(&what, done.lines.join("; ")),
            Some(trouble) => Finding::bad(&what, trouble),
        });
    }
    if findings.len() == 1 {
        findings.push(Finding::warning(
            "second destination",
            "there is only one destination",
            "a backup beside its source is lost with it: add a Destination on another machine",
        ));
    }
    Ok(findings)
}

fn mail(client: &Client, args: &Doctor) -> Result<Finding, CallError> {
    if !args.mail {
        return Ok(Finding::good("mail", "not tested; `larder doctor --mail` sends a test"));
    }
    match client.call("alert.test", json!({})) {
        Ok(answer) => Ok(Finding::good("mail", answer["answer"].as_str().unwrap_or("sent"))),
        Err(CallError::Refused(trouble)) => Ok(Finding::bad("mail", &trouble)),
        Err(unreachable) => Err(unreachable),
    }
}
