//! Proves an export: read to its end, as it was when it was made.

use super::settings::PiholeSettings;
use super::teleporter;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PiholeSettings> { facts, .. } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        let contents = match teleporter::read(&path, &request.staging) {
            Ok(contents) => contents,
            Err(failure) => {
                events.validation("the export is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        let members = contents.members.len();
        events.validation("every member's checksum", Verdict::Proven, format!("{members} members"));
        events.validation("pihole.toml", Verdict::Proven, "it can be read, and has [dns] and [webserver]");
        let rows: u64 = contents.gravity.values().sum();
        events.validation(
            "integrity_check of gravity.db",
            Verdict::Proven,
            format!("ok; the {} tables of an export, {rows} rows", contents.gravity.len()),
        );
        if !contents.ftl.is_empty() {
            events.validation("integrity_check of pihole-FTL.db", Verdict::Proven, "ok");
        }
        let same = contents.figures().iter().all(|(name, value)| facts.figures.get(name) == Some(value));
        let verdict = if same { Verdict::Proven } else { Verdict::Failed };
        events.validation("rows are those of the capture", verdict, "table by table");
    }
    Ok(())
}
