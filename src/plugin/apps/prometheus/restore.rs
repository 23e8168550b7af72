//! The way back: files to their paths with the old ones beside, blocks into the data directory of a stopped server.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::promtool::Promtool;
use super::settings::PrometheusSettings;
use super::{TSDB, files};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Request, Step, Verb};

mod configuration;
mod series;

use configuration::{Configuration, FILES_ENTRY, Files, reload_step};
use series::{Blocks, SERIES, Series, start_step, stopped};

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrometheusRestore {
    /// Put the configuration and the files that it names back to their paths.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    files: bool,
    /// Put the blocks into this data directory (--storage.tsdb.path); its server must be stopped.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    data_dir: Option<PathBuf>,
}

type Job<'j> = RestoreJob<'j, PrometheusSettings, PrometheusRestore>;

/// Puts files and blocks back.
pub(super) struct PutBack;

/// What was decided.
pub(super) struct Work {
    promtool: Option<Promtool>,
    configuration: Option<Configuration>,
    blocks: Option<Blocks>,
}

impl Restorer for PutBack {
    type Settings = PrometheusSettings;
    type Options = PrometheusRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, _: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let RestoreJob { settings, options, facts, staging, .. } = job;
        let promtool = Promtool::find(settings.promtool.as_deref(), staging, facts.app_version.as_deref())?;
        let has_blocks = facts.artifacts.iter().any(|artifact| artifact.path.starts_with(TSDB));
        let has_files = files::kept(facts).next().is_some();
        if !has_blocks && !has_files {
            return Err(Failure::new(
                codes::NOTHING_TO_RESTORE,
                "the backup holds neither files nor blocks of Prometheus",
            )
            .hint("choose a snapshot of this target: `larder snapshots TARGET`"));
        }
        let blocks = match &options.data_dir {
            Some(_) if !has_blocks => {
                return Err(Failure::new(codes::NO_BLOCKS, "the backup holds no blocks")
                    .hint("nothing was changed; leave out `data_dir`"));
            }
            Some(data_dir) => Some(Blocks::plan(job, data_dir)?),
            None => None,
        };
        let (mut steps, mut later) = (Vec::new(), Vec::new());
        let mut configuration = None;
        if has_files && options.files {
            configuration = Some(Configuration::plan(job, promtool.as_ref(), &mut steps)?);
            later.push(reload_step());
        }
        if let Some(blocks) = &blocks {
            steps.extend(blocks.steps());
            later.push(start_step());
        } else if has_blocks {
            let how = "stop Prometheus and choose `data_dir=PATH` to put them back";
            steps.push(Step::new(Verb::Manual, "blocks", how));
        }
        Ok(Planned { later, ..Planned::of(steps, Work { promtool, configuration, blocks }) })
    }

    fn execute(
        job: &Job<'_>,
        work: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let journal = Journal::or_within(journal, job.staging)?;
        let promtool = work.promtool.as_ref();
        if let Some(configuration) = work.configuration {
            configuration.put(job, promtool, &journal, events)?;
        }
        work.blocks.map_or(Ok(()), |blocks| blocks.put(promtool, &journal, events))
    }
}

/// Puts right what a restore that was killed left of files and of time series.
pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let journal = Journal::of(request)?;
    for (entry, value) in journal.entries::<serde_json::Value>()? {
        if entry == FILES_ENTRY
            && let Ok(files) = serde_json::from_value::<Files>(value.clone())
        {
            files.undo().map_err(|left| Failure::new(codes::NOT_UNDONE, left).later())?;
            events.log("the files of a restore that was killed are what they were");
            journal.done(&entry)?;
        }
        if entry != SERIES {
            continue;
        }
        let Ok(series) = serde_json::from_value::<Series>(value) else { continue };
        stopped(&series.data_dir).map_err(|failure| {
            failure.hint("a restore was killed half-way: stop Prometheus, and what was there is put back by itself")
        })?;
        series.undo();
        events.log(format!("the time series in {} are what they were", series.data_dir.display()));
        journal.done(&entry)?;
    }
    Ok(())
}
