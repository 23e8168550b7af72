//! Proves that a dump is one: unchanged, whole, and with the tables and rows that it had when it was made.

use std::path::Path;

use super::{Accepted, FOREIGN_TOOL, FORMAT_DUMP, FORMAT_USERS, MariadbSettings, dump};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::figure_key;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{ArtifactFile, CaptureFacts, Request, Verdict};

pub(in crate::plugin) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<MariadbSettings> { settings, facts } = ValidateJob::of(request)?;
    if facts.figures.contains_key(FOREIGN_TOOL) && !settings.accepts(Accepted::ForeignTool) {
        events.validation(
            "the dump program is made for this kind of server",
            Verdict::CouldNotVerify,
            format!(
                "MariaDB's and MySQL's differ, and {} is the other one's: install the right one (`bin_dir`), or accept it: \
                 `accept: [foreign_tool]`",
                facts.app_version.as_deref().unwrap_or("the server")
            ),
        );
    }
    for (number, artifact) in facts.artifacts.iter().enumerate() {
        let key = figure_key(&artifact.path, number, settings.password.as_ref());
        match artifact.format.as_str() {
            FORMAT_DUMP => file(artifact, &key, &request.staging, facts, settings.allow_empty, events)?,
            FORMAT_USERS => {
                unchanged_and_whole(artifact, &request.staging, events)?;
            }
            other => events.validation(
                format!("{} is known", artifact.path.display()),
                Verdict::CouldNotVerify,
                format!("unknown format {other:?}"),
            ),
        }
    }
    Ok(())
}

/// Says whether the file is the one that was captured, and ends as it must.
fn unchanged_and_whole(
    artifact: &ArtifactFile,
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<super::scan::Scan, Failure> {
    let shown = artifact.path.display();
    let (scan, sha256) = dump::read_whole(&staging.join(&artifact.path), |done| events.progress(done, 0))?;
    let (verdict, detail) = match &artifact.sha256 {
        Some(wanted) if *wanted == sha256 => (Verdict::Proven, format!("sha256 {sha256}")),
        Some(wanted) => (Verdict::Failed, format!("sha256 is {sha256}, at the capture it was {wanted}")),
        None => (Verdict::CouldNotVerify, digest::UNTOLD.to_owned()),
    };
    events.validation(format!("{shown} is unchanged since the capture"), verdict, detail);
    let (verdict, detail) = if scan.complete {
        (Verdict::Proven, format!("{} statements, `-- Dump completed` at the end", scan.counts.statements))
    } else {
        (Verdict::Failed, "it does not end with `-- Dump completed`".to_owned())
    };
    events.validation(format!("{shown} is whole"), verdict, detail);
    Ok(scan)
}

fn file(
    artifact: &ArtifactFile,
    key: &str,
    staging: &Path,
    facts: &CaptureFacts,
    allow_empty: bool,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let shown = artifact.path.display();
    let scan = unchanged_and_whole(artifact, staging, events)?;
    let wanted = |what: &str| facts.figures.get(&format!("{what}.{key}")).copied();
    let found = [("tables", scan.counts.tables), ("rows", scan.counts.rows), ("content", scan.content())];
    let detail =
        format!("{} tables, {} rows, {} other objects", scan.counts.tables, scan.counts.rows, scan.counts.objects());
    let (verdict, detail) = if scan.counts.tables == 0 && !allow_empty {
        (Verdict::Failed, "no table is in it".to_owned())
    } else if let Some((what, now)) = found.iter().find(|(what, now)| wanted(what).is_some_and(|then| then != *now)) {
        (Verdict::Failed, format!("{what}: {now}, at the capture {}", wanted(what).unwrap_or_default()))
    } else if found.iter().any(|(what, _)| wanted(what).is_none()) {
        (Verdict::CouldNotVerify, format!("{detail}; the capture told no numbers"))
    } else {
        (Verdict::Proven, detail)
    };
    events.validation(format!("{shown} has the tables and rows of the capture"), verdict, detail);
    Ok(())
}
