//! Tables for people: the status, snapshots, destinations. Built from the wire's JSON, so any daemon's answer shows.

use serde_json::Value;

use crate::cli::output::{self, Colour};

/// Shows what `system.status` answered.
pub(crate) fn status(status: &Value) {
    if let Some(sentence) = text(status, &["verdict", "sentence"]) {
        output::line(&output::paint(&sentence, Colour::Bold, output::terminal()));
    }
    if let Some(detail) = text(status, &["verdict", "detail"]) {
        output::line(&detail);
    }
    config(&status["config"]);
    attention(array(&status["attention"]));
    output::line("");
    let mut rows = Vec::new();
    let mut hints = Vec::new();
    // What a destination tells for all its jobs is not told again.
    let told = |name: &str| {
        let own = |each: &Value| each["kind"] == "job" && each["subject"] == name;
        !array(&status["attention"]).iter().any(own)
    };
    for target in array(&status["targets"]) {
        if target["enabled"].as_bool() == Some(false) && array(&target["jobs"]).is_empty() {
            let cells = [string(&target["name"]), "disabled".to_owned(), "-".to_owned(), "-".to_owned(), String::new()];
            rows.push(cells.to_vec());
        }
        for job in array(&target["jobs"]) {
            let name = format!("{}/{}", string(&job["target"]), string(&job["policy"]));
            for hold in array(&job["holds"]) {
                let (since, reason) = (when(&hold["since"]), string(&hold["reason"]));
                hints.push(format!("  {name}: held since {since}: {reason}"));
                hints.extend(hold["command"].as_str().map(|command| format!("    accept it with: {command}")));
            }
            let own = if told(&name) { &[][..] } else { &["why", "hint"] };
            for said in own.iter().filter_map(|part| job["problem"][*part].as_str()) {
                hints.push(format!("  {name}: {said}"));
            }
            for notice in array(&job["notices"]) {
                hints.push(format!("  {name}: notice: {}", string(&notice["what"])));
            }
            rows.push(vec![
                name,
                string(&job["state"]).replace('_', " "),
                when(&job["last_success"]["finished"]),
                when(&job["next_run"]),
                string(&job["problem"]["what"]).chars().take(70).collect(),
            ]);
        }
    }
    output::table(&["JOB", "STATE", "LAST SUCCESS", "NEXT RUN", "REMARK"], &rows);
    for hint in &hints {
        output::line(hint);
    }
}

/// What needs a person and is no job: jobs have their lines in the table.
fn attention(all: &[Value]) {
    // A rejected or held revision is told whole by `config`.
    let told = |each: &&Value| ["rejected", "held"].iter().any(|code| each["problem"]["code"] == *code);
    for each in all.iter().filter(|each| each["kind"] != "job" && !told(each)) {
        let problem = &each["problem"];
        output::line(&format!("{} {}: {}", string(&each["kind"]), string(&each["subject"]), string(&problem["what"])));
        for (part, label) in [("why", ""), ("hint", "hint: ")] {
            problem[part]
                .as_str()
                .into_iter()
                .flat_map(str::lines)
                .for_each(|line| output::line(&format!("  {label}{line}")));
        }
        for command in array(&problem["commands"]) {
            output::line(&format!("    {}", string(command)));
        }
    }
}

fn config(config: &Value) {
    if let Some(applied) = text(config, &["revision"]) {
        output::line(&format!("config: {} in force since {}", short(&applied), when(&config["applied_at"])));
    } else {
        output::line("config: none applied yet");
    }
    if let Some(rejected) = text(config, &["rejected", "revision"]) {
        output::line(&format!("config: {} was rejected:", short(&rejected)));
        for error in array(&config["rejected"]["errors"]) {
            output::line(&format!("  {}", string(error)));
        }
    }
    if let Some(held) = text(config, &["held", "revision"]) {
        output::line(&format!("config: {} is held: {}", short(&held), string(&config["held"]["reason"])));
        output::line(&format!("  apply it with: larder confirm {}", short(&held)));
    }
}

/// Shows snapshots, newest first as they came.
pub(crate) fn snapshots(items: &[Value]) {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                short8(&string(&item["id"])),
                format!("{}{}", when(&item["at"]), if item["future"] == true { " (future!)" } else { "" }),
                string(&item["destination"]),
                string(&item["target"]),
                string(&item["policy"]),
                match item["ours"].as_bool() {
                    Some(false) if item["target"].is_string() => format!("(another site) {}", string(&item["run"])),
                    _ => string(&item["run"]),
                },
                array(&item["paths"]).iter().map(string).collect::<Vec<_>>().join(" ").chars().take(80).collect(),
            ]
        })
        .collect();
    output::table(&["SNAPSHOT", "TIME", "DESTINATION", "TARGET", "POLICY", "RUN", "PATHS"], &rows);
}

/// Shows destinations and how their upkeep stands.
pub(crate) fn destinations(items: &[Value]) {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            vec![
                string(&item["name"]),
                string(&item["location"]),
                short8(&string(&item["repository_id"])),
                when(&item["prune"]["last_success"]),
                when(&item["check"]["last_success"]),
                immutable(&item["immutable"]),
                copied(&item["copy"]),
                item["problem"]["why"].as_str().map_or_else(|| string(&item["problem"]["what"]), str::to_owned),
            ]
        })
        .collect();
    output::table(
        &["DESTINATION", "LOCATION", "REPOSITORY", "PRUNED", "CHECKED", "IMMUTABLE UNTIL", "COPIED", "REMARK"],
        &rows,
    );
}

/// `2026-12-30 03:10 as of 2026-11-30 03:00`
fn immutable(seen: &Value) -> String {
    match when(&seen["until"]).as_str() {
        "-" => "-".to_owned(),
        until => format!("{until} as of {}", when(&seen["at"])),
    }
}

/// `from nas 2026-11-30 03:10, lacks 2 since 2026-11-29 02:00`
fn copied(copy: &Value) -> String {
    let Some(from) = copy["from"].as_str() else { return "-".to_owned() };
    let whole = match when(&copy["upkeep"]["last_success"]).as_str() {
        "-" => "not yet".to_owned(),
        at => at.to_owned(),
    };
    match copy["missing"].as_u64() {
        None | Some(0) => format!("from {from} {whole}"),
        Some(missing) => format!("from {from} {whole}, lacks {missing} since {}", when(&copy["oldest_missing"])),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text(value: &Value, path: &[&str]) -> Option<String> {
    let found = path.iter().try_fold(value, |value, key| value.get(key))?;
    found.as_str().map(str::to_owned)
}

fn short(revision: &str) -> String {
    revision.chars().take(7).collect()
}

fn short8(id: &str) -> String {
    id.chars().take(8).collect()
}

fn when(value: &Value) -> String {
    let Some(at) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return "-".to_owned() };
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}
