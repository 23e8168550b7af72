//! Proves what was kept, file by file and by promtool.

use super::settings::PrometheusSettings;
use super::{blocks, files, promtool};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Request;

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PrometheusSettings> { settings, facts } = ValidateJob::of(request)?;
    digest::check_all(&facts.artifacts, &request.staging, events);
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
