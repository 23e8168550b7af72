//! Proves a backup: read to its last byte, and what is in it.

use super::settings::ArrSettings;
use super::{Kind, content};
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = ArrSettings::of(request)?;
    let facts = asked::facts(request)?;
    for artifact in &facts.artifacts {
        let zip = request.staging.join(&artifact.path);
        digest::check(artifact, &zip, events)?;
        let content = match content::read(kind, &zip) {
            Ok(content) => content,
            Err(failure) => {
                events.validation("the backup is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        content.judge(kind, &settings, request, events);
    }
    Ok(())
}
