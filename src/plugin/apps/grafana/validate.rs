//! Proves a backup: each object is read and judged.

use super::capture::NAMES_MAX;
use super::object::{Kind, Object};
use super::settings::GrafanaSettings;
use super::{object, of};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Request, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<GrafanaSettings> { facts, .. } = ValidateJob::of(request)?;
    digest::check_all(&facts.artifacts, &request.staging, events);
    let (mut broken, mut objects) = (Vec::new(), Vec::new());
    for artifact in &facts.artifacts {
        match object::read(&request.staging, &artifact.path) {
            Ok(object) => objects.push(object),
            Err(why) => broken.push(format!("{}: {why}", artifact.path.display())),
        }
    }
    say(events, "every file holds an object that can be put back", objects.len(), &broken);
    let folders: Vec<&str> = of(&objects, Kind::Folder).map(|object| object.name.as_str()).collect();
    let homeless: Vec<String> = objects
        .iter()
        .filter(|object| object.folder().is_some_and(|folder| !folders.contains(&folder)))
        .map(Object::shown)
        .collect();
    say(events, "every folder that is named is there", folders.len(), &homeless);
    for kind in Kind::ALL {
        let found: u64 = of(&objects, *kind).map(Object::weight).sum();
        let told = facts.figures.get(kind.figure()).copied().unwrap_or(0);
        let verdict = if found == told { Verdict::Proven } else { Verdict::Failed };
        let name = format!("{} are those of the capture", kind.figure().replace('_', " "));
        events.validation(name, verdict, format!("{found}, at the capture {told}"));
    }
    Ok(())
}

pub(super) fn say(events: &mut EventWriter<'_>, name: &str, good: usize, bad: &[String]) {
    if bad.is_empty() {
        events.validation(name, Verdict::Proven, format!("{good}"));
    } else {
        let shown: Vec<&str> = bad.iter().take(NAMES_MAX).map(String::as_str).collect();
        let more = bad.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        events.validation(name, Verdict::Failed, format!("{}{more}", shown.join("; ")));
    }
}
