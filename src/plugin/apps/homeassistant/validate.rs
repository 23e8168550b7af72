//! Proves a backup: read to its end, with all that was asked for.

use super::contents;
use super::settings::HaSettings;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<HaSettings> { settings, facts } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        let contents = match contents::read(&path, &request.staging) {
            Ok(contents) => contents,
            Err(failure) => {
                events.validation("the backup is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        let detail = format!("{} files of the configuration, not encrypted", contents.files);
        events.validation("the backup reads to its end", Verdict::Proven, detail);
        match contents.missing(settings.include_database) {
            Some(failure) => {
                events.validation("all that was asked for is in it", Verdict::Failed, failure.trouble.message);
            }
            None => {
                events.validation("all that was asked for is in it", Verdict::Proven, contents.told());
            }
        }
        if let Some(rows) = contents.database_rows {
            events.validation(
                "integrity_check of the recorder's database",
                Verdict::Proven,
                format!("ok; {rows} rows"),
            );
        }
        let same = contents.figures().iter().all(|(figure, value)| facts.figures.get(figure) == Some(value));
        let verdict = if same { Verdict::Proven } else { Verdict::Failed };
        events.validation("the figures are those of the capture", verdict, "");
    }
    Ok(())
}
