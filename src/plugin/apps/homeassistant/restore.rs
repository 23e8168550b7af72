//! Uploads a backup into a running Home Assistant. What then happens to the running one is a person's decision.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::error::codes;
use crate::plugin::apps::homeassistant::{FILE, FORMAT, HaSettings, api::Talk, contents};
use crate::plugin::kit::asked::RestoreJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verb, Verdict};
use crate::web::Upload;

/// There is nothing to choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreOptions {}

pub(super) fn options_schema() -> Value {
    schemars::schema_for!(RestoreOptions).to_value()
}

pub(super) fn restore(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let RestoreJob::<HaSettings, RestoreOptions> { settings, facts, order, .. } = RestoreJob::of(request)?;
    let dry_run = order.dry_run;
    let Some(artifact) = facts.artifacts.iter().find(|each| each.format == FORMAT) else {
        return Err(Failure::new(codes::NO_EXPORT, "the backup has no backup of Home Assistant")
            .hint("is it one of a target with `plugin: homeassistant`?"));
    };
    let tar = request.staging.join(&artifact.path);
    let found = contents::read(&tar, &request.staging)?;
    let web = settings.web()?;
    let mut talk = Talk::open(&web, &settings.token.0)?;
    events.version(format!("Home Assistant {}", talk.version));
    let agent = match &settings.agent {
        Some(agent) => agent.clone(),
        None => talk.local_agent()?,
    };
    events.step(Verb::Create, format!("backup on {agent}"), format!("uploaded; {}", found.told()));
    events.step(
        Verb::Manual,
        "the restore itself",
        "Settings, System, Backups: choose the uploaded backup, Restore; Home Assistant restarts",
    );
    if dry_run {
        talk.close();
        return Ok(());
    }
    let file = Upload {
        field: "file".to_owned(),
        path: tar,
        file_name: FILE.to_owned(),
        content_type: "application/x-tar".to_owned(),
    };
    let call = talk.call(|web| web.post("/api/backup/upload")).query("agent_id", &agent).upload(&[], file);
    let answer = call.send()?;
    if answer.status() != 201 {
        let what = answer.what().to_owned();
        return Err(Failure::new(
            codes::UPLOAD_FAILED,
            format!("{what} was answered with {}: {}", answer.status(), answer.said()),
        )
        .hint("is there room on its disk? a proxy in between may limit the size of uploads"));
    }
    let uploaded: Value = answer.json()?;
    let id = uploaded.get("backup_id").and_then(Value::as_str).unwrap_or_default();
    let listed = talk.info()?.backups.iter().any(|each| each.backup_id == id && each.agents.contains_key(&agent));
    talk.close();
    if listed {
        events.validation("Home Assistant lists the uploaded backup", Verdict::Proven, format!("as {id}"));
    } else {
        events.validation("Home Assistant lists the uploaded backup", Verdict::Failed, "it is not in its list");
    }
    events.validation(
        "the backup is in force",
        Verdict::CouldNotVerify,
        "a person has to choose it at Settings, System, Backups",
    );
    Ok(())
}
