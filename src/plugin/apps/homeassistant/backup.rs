//! Has a backup made, fetches it, and removes it from the server.
//!
//! It has a name that no other run has, so it can be found again whatever happens: the name is in the journal before the
//! backup is ordered.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::codes;
use crate::plugin::apps::homeassistant::TAR_BYTES_MAX;
use crate::plugin::apps::homeassistant::api::{Listed, Talk};
use crate::plugin::apps::homeassistant::settings::HaSettings;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::types::show_duration;
use crate::web::Saved;

/// The only entry of the journal.
pub(super) const ENTRY: &str = "backup";

/// The name of a backup that is to be removed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) name: String,
}

/// Where the backup is to be made, when Home Assistant has nothing else to do.
pub(super) fn ready(settings: &HaSettings, talk: &mut Talk<'_>) -> Result<String, Failure> {
    let agent = match &settings.agent {
        Some(agent) => agent.clone(),
        None => talk.local_agent()?,
    };
    let info = talk.info()?;
    if info.state == "idle" {
        return Ok(agent);
    }
    let busy = format!("Home Assistant is busy with a backup already ({})", info.state);
    Err(Failure::new(codes::BACKUP_RUNNING, busy)
        .hint("it is tried again; choose another time than its automatic backups"))
}

pub(super) fn make_and_fetch(
    settings: &HaSettings,
    talk: &mut Talk<'_>,
    agent: &str,
    name: &str,
    path: &Path,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
) -> Result<Saved, Failure> {
    if let Some(journal) = journal {
        journal.note(ENTRY, &Note { name: name.to_owned() })?;
    }
    talk.ask("backup/generate", order(settings, agent, name))?;
    let made = wait(settings, talk, name, events)?;
    check(&made, agent)?;
    let path_of_it = format!("/api/backup/download/{}", made.backup_id);
    let answer = talk.call(|web| web.get(&path_of_it)).query("agent_id", agent).send()?;
    match answer.status() {
        200 if answer.content_type().contains("html") => return Err(download::a_page(answer.what())),
        200 => {}
        300..=399 => return Err(download::redirected(&answer)),
        status => {
            return Err(Failure::new(
                codes::DOWNLOAD_FAILED,
                format!("{} was answered with {status}: {}", answer.what().to_owned(), answer.said()),
            )
            .hint("look at Settings, System, Logs in Home Assistant"));
        }
    }
    let saved = download::save(answer, path, TAR_BYTES_MAX, events)?;
    let told = made.agents.get(agent).map_or(0, |copy| copy.size);
    if told != 0 && told != saved.bytes {
        return Err(Failure::new(
            codes::CUT_SHORT,
            format!("the backup has {} bytes, Home Assistant says {told}", saved.bytes),
        )
        .hint("look in the log of a proxy in between, and run it again"));
    }
    Ok(saved)
}

fn order(settings: &HaSettings, agent: &str, name: &str) -> Value {
    let mut order = json!({
        "agent_ids": [agent],
        "include_database": settings.include_database,
        "include_homeassistant": true,
        "name": name,
        "password": null,
    });
    // Only Home Assistant OS has these; others refuse the fields.
    if let (true, Value::Object(fields)) = (agent.starts_with("hassio."), &mut order) {
        fields.insert("include_all_addons".to_owned(), settings.include_addons.into());
        fields.insert("include_folders".to_owned(), json!(settings.folders));
    }
    order
}

fn wait(
    settings: &HaSettings,
    talk: &mut Talk<'_>,
    name: &str,
    events: &mut EventWriter<'_>,
) -> Result<Listed, Failure> {
    let started = Instant::now();
    loop {
        let mut info = talk.info()?;
        if info.state == "idle" {
            if let Some(at) = info.backups.iter().position(|each| each.name == name) {
                return Ok(info.backups.swap_remove(at));
            }
            let event = info.last_action_event.as_ref();
            let reason = event.and_then(|event| event.reason.as_deref()).unwrap_or("no reason is told");
            let failed = event.and_then(|event| event.state.as_deref()) == Some("failed");
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            let what = if failed { format!("failed: {reason}") } else { "left no backup behind".to_owned() };
            // It may be a moment between the order and its start.
            if failed || started.elapsed() > settings.poll.0 * 5 {
                return Err(Failure::new(codes::BACKUP_FAILED, format!("the backup of Home Assistant {what}"))
                    .hint("look at Settings, System, Logs in Home Assistant, and at the room on its disk"));
            }
        }
        if started.elapsed() >= settings.wait.0 {
            return Err(Failure::new(
                codes::BACKUP_NOT_READY,
                format!("the backup was not ready after {}", show_duration(settings.wait.0)),
            )
            .hint("raise `wait`, or look at Settings, System, Logs in Home Assistant"));
        }
        std::thread::sleep(settings.poll.0);
        events.progress(0, 0);
    }
}

fn check(made: &Listed, agent: &str) -> Result<(), Failure> {
    if made.failed_agent_ids.iter().any(|failed| failed == agent) || !made.agents.contains_key(agent) {
        return Err(Failure::new(codes::AGENT_FAILED, format!("Home Assistant could not write its backup to {agent}"))
            .hint("look at Settings, System, Backups: is there room, is the place there?"));
    }
    if made.agents.get(agent).is_some_and(|copy| copy.protected) {
        return Err(Failure::new(codes::BACKUP_ENCRYPTED, format!("Home Assistant encrypted its backup on {agent}"))
            .hint("larder encrypts all that it keeps: switch the encryption of this place off in Home Assistant"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if made.backup_id.is_empty() || !made.backup_id.chars().all(plain) {
        return Err(Failure::new(codes::UNEXPECTED_ANSWER, "Home Assistant names its backup in an unexpected way"));
    }
    Ok(())
}

/// Removes the backup of that name, if it is there; then nothing is left to undo.
pub(super) fn tidy(talk: &mut Talk<'_>, name: &str, journal: Option<&Journal>) -> Result<(), Failure> {
    let info = talk.info()?;
    let ours: Vec<&Listed> = info.backups.iter().filter(|each| each.name == name).collect();
    if ours.is_empty() && info.state != "idle" {
        return Err(Failure::new(codes::BACKUP_RUNNING, "Home Assistant is still making the backup"));
    }
    for each in ours {
        let told = talk.ask("backup/delete", json!({ "backup_id": each.backup_id }))?;
        // It asks every place, also those that never had it and are down.
        let errors = told.get("agent_errors").and_then(Value::as_object);
        if errors.is_some_and(|errors| each.agents.keys().any(|agent| errors.contains_key(agent))) {
            return Err(Failure::new(codes::NOT_REMOVED, "Home Assistant could not remove it"));
        }
    }
    match journal {
        Some(journal) => journal.done(ENTRY),
        None => Ok(()),
    }
}
