//! Proves what was kept, file by file and by promtool.

use super::settings::PrometheusSettings;
use super::{blocks, files, promtool};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PrometheusSettings> { settings, facts } = ValidateJob::of(request)?;
    let mut changed = Vec::new();
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        if artifact.sha256.is_none() || digest::sha256(&path, |_| {}).ok() != artifact.sha256 {
            changed.push(artifact.path.display().to_string());
        }
        events.progress(0, 0);
    }
    let shown = changed.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let (verdict, detail) = match changed.len() {
        0 => (Verdict::Proven, format!("{} files", facts.artifacts.len())),
        n => (Verdict::Failed, format!("{n} are not: {shown}")),
    };
    events.validation("every file is unchanged since the capture", verdict, detail);
    let promtool =
        promtool::Promtool::find(settings.promtool.as_deref(), &request.staging, facts.app_version.as_deref())?;
    if let Some(config) = &settings.config_file {
        files::judge(request, facts, config, promtool.as_ref(), events);
    }
    if settings.tsdb_snapshot.is_some() {
        blocks::judge(request, facts, promtool.as_ref(), events);
    }
    Ok(())
}
