//! Proves what was kept.

use super::contents;
use super::settings::NinjaSettings;
use super::whole::Kept;
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    if let Kept::Install(install) = settings.kept()? {
        return install.validate(request, events);
    }
    let facts = asked::facts(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        match contents::read(&path) {
            Ok(contents) => {
                let lists = contents.counts.len();
                let detail = format!("of version {}, with {lists} lists", contents.app_version);
                events.validation("backup.json is whole", Verdict::Proven, detail);
                let same = contents.counts.iter().all(|(name, count)| facts.figures.get(name) == Some(count));
                let verdict = if same { Verdict::Proven } else { Verdict::Failed };
                events.validation("lists are as long as at the capture", verdict, "list by list");
            }
            Err(failure) => events.validation("the export is whole", Verdict::Failed, failure.trouble.message),
        }
    }
    Ok(())
}
