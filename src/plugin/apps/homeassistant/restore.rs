//! Uploads a backup into a running Home Assistant. What then happens to the running one is a person's decision.

use std::path::PathBuf;

use serde_json::Value;

use crate::error::codes;
use crate::plugin::apps::homeassistant::settings::HaSettings;
use crate::plugin::apps::homeassistant::{FILE, FORMAT, api::Talk, contents};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::web::Upload;

type Job<'j> = RestoreJob<'j, HaSettings, NoOptions>;

/// Uploads a backup.
pub(super) struct PutBack;

/// What goes where.
pub(super) struct Work {
    tar: PathBuf,
    agent: String,
}

impl Restorer for PutBack {
    type Settings = HaSettings;
    type Options = NoOptions;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let RestoreJob { settings, facts, staging, .. } = job;
        let Some(artifact) = facts.artifacts.iter().find(|each| each.format == FORMAT) else {
            return Err(Failure::new(codes::NO_EXPORT, "the backup has no backup of Home Assistant")
                .hint("is it one of a target with `plugin: homeassistant`?"));
        };
        let tar = staging.join(&artifact.path);
        let found = contents::read(&tar, staging)?;
        let web = settings.web()?;
        let mut talk = Talk::open(&web, &settings.token.0)?;
        events.version(format!("Home Assistant {}", talk.version));
        let agent = match &settings.agent {
            Some(agent) => agent.clone(),
            None => talk.local_agent()?,
        };
        talk.close();
        let steps = vec![
            Step::new(Verb::Create, format!("backup on {agent}"), format!("uploaded; {}", found.told())),
            Step::new(
                Verb::Manual,
                "the restore itself",
                "Settings, System, Backups: choose the uploaded backup, Restore; Home Assistant restarts",
            ),
        ];
        Ok(Planned::of(steps, Work { tar, agent }))
    }

    fn execute(
        job: &Job<'_>,
        Work { tar, agent }: Work,
        _: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let web = job.settings.web()?;
        let mut talk = Talk::open(&web, &job.settings.token.0)?;
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
}
