//! The way back: files to their paths with the old ones beside, blocks into the data directory of a stopped server.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::promtool::Promtool;
use super::{PrometheusSettings, TSDB, files};
use crate::error::codes;
use crate::plugin::kit::asked::RestoreJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Request, Verb};

mod configuration;
mod series;

use configuration::{FILES_ENTRY, Files, put_files};
use series::{SERIES, Series, may_put_blocks, put_blocks, stopped};

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

pub(super) fn restore(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let RestoreJob::<PrometheusSettings, PrometheusRestore> { settings, options, facts, order } =
        RestoreJob::of(request)?;
    let dry_run = order.dry_run;
    let promtool = Promtool::find(settings.promtool.as_deref(), &request.staging, facts.app_version.as_deref())?;
    let has_blocks = facts.artifacts.iter().any(|artifact| artifact.path.starts_with(TSDB));
    let has_files = files::kept(facts).next().is_some();
    if !has_blocks && !has_files {
        return Err(Failure::new(codes::NOTHING_TO_RESTORE, "the backup holds neither files nor blocks of Prometheus")
            .hint("choose a snapshot of this target: `larder snapshots TARGET`"));
    }
    // All that would be refused is, before any file is replaced.
    match &options.data_dir {
        Some(_) if !has_blocks => {
            return Err(Failure::new(codes::NO_BLOCKS, "the backup holds no blocks")
                .hint("nothing was changed; leave out `data_dir`"));
        }
        Some(data_dir) => may_put_blocks(request, data_dir)?,
        None => {}
    }
    if has_files && options.files {
        put_files(request, facts, &settings, promtool.as_ref(), dry_run, events)?;
    }
    match (&options.data_dir, has_blocks) {
        (Some(data_dir), true) => put_blocks(request, data_dir, promtool.as_ref(), dry_run, events)?,
        (None, true) => {
            events.step(Verb::Manual, "blocks", "stop Prometheus and choose `data_dir=PATH` to put them back");
        }
        (_, false) => {}
    }
    Ok(())
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
