//! Which scheduled exports lie in a directory, by their names.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// What the names of scheduled exports start with; a sortable time and [`EXPORT_SUFFIX`] follow.
const EXPORT_PREFIX: &str = "state-";
const EXPORT_SUFFIX: &str = ".ndjson";

/// The name of an export that is written now.
pub(super) fn name(now: Timestamp) -> String {
    format!("{EXPORT_PREFIX}{}{EXPORT_SUFFIX}", now.strftime("%Y%m%dT%H%M%S%.3fZ"))
}

/// The time in the name of an export.
pub(super) fn stamp(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(EXPORT_PREFIX)?.strip_suffix(EXPORT_SUFFIX)
}

/// When a scheduled export was written, for people.
pub(super) fn time_of(path: &Path) -> Option<String> {
    let stamp = stamp(path)?;
    let (day, time) = (stamp.get(..8)?, stamp.get(9..13)?);
    Some(format!("{}-{}-{} {}:{} UTC", day.get(..4)?, day.get(4..6)?, day.get(6..)?, time.get(..2)?, time.get(2..)?))
}

/// The scheduled exports in `dir`, newest first.
#[must_use]
pub fn exports(dir: &Path) -> Vec<PathBuf> {
    let is_export = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(EXPORT_PREFIX) && name.ends_with(EXPORT_SUFFIX))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_export).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}
