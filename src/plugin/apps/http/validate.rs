//! Proves a download by what the config asks of it.

use std::path::Path;

use super::settings::HttpSettings;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<HttpSettings> { settings, facts } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        tell(&settings, &path, events);
        if let Some(inside) = &settings.inside {
            inside.tell(&path, &request.staging, events);
        }
    }
    Ok(())
}

fn tell(settings: &HttpSettings, path: &Path, events: &mut EventWriter<'_>) {
    let checks = &settings.validate;
    if checks.is_empty() && settings.inside.is_none() {
        events.validation(
            "what was exported",
            Verdict::CouldNotVerify,
            "nothing is known of it: name what must be true of it in `validate`",
        );
    }
    for check in checks {
        match check.look(path) {
            Ok(seen) => events.validation(check.name(), Verdict::Proven, seen.detail),
            Err(failure) => events.validation(check.name(), Verdict::Failed, failure.trouble.message),
        }
    }
}
