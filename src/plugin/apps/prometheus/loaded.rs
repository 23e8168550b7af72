//! What the server says that it has loaded, against what is kept: a file that was not followed is seen here.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::api::Server;
use super::references::References;
use crate::error::{Code, Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;

/// Names that a message lists.
const NAMES_MAX: usize = 5;

/// Warns of rules and scrape jobs that the server has and the backup has not.
pub(super) fn compare(
    server: &Server<'_>,
    found: &References,
    config: &Path,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    // The server may see the files under another path than this host does, so only the name is compared; as often as
    // it is there.
    let mut kept: Vec<_> = found.files.iter().filter_map(|path| path.file_name()).collect();
    let mut strange = Vec::new();
    let told = server.data(server.web.get("/api/v1/rules"))?;
    let groups = told.get("groups").and_then(Value::as_array);
    let files: BTreeSet<&str> = groups.into_iter().flatten().filter_map(|group| group.get("file")?.as_str()).collect();
    for file in files {
        let name = Path::new(file).file_name();
        match kept.iter().position(|each| Some(*each) == name) {
            Some(at) => drop(kept.swap_remove(at)),
            None => strange.push(file.to_owned()),
        }
    }
    warn(codes::RULES_NOT_KEPT, "rules from files", &strange, config, events);
    // Older servers don't tell.
    let Some(pools) = server.data_if_there(server.web.get("/api/v1/scrape_pools"))? else { return Ok(()) };
    let pools = pools.get("scrapePools").and_then(Value::as_array);
    let names = pools.into_iter().flatten().filter_map(Value::as_str);
    let unknown = names.filter(|name| !found.jobs.contains(*name) && !found.jobs_elsewhere.contains(*name));
    let unknown: Vec<String> = unknown.map(str::to_owned).collect();
    warn(codes::JOBS_NOT_KEPT, "scrape jobs", &unknown, config, events);
    Ok(())
}

fn warn(code: Code, what: &str, names: &[String], config: &Path, events: &mut EventWriter<'_>) {
    if names.is_empty() {
        return;
    }
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message =
        format!("Prometheus has loaded {what} that {} does not lead to here: {shown}{tail}", config.display());
    events.warning(Trouble::new(code, message).with_hint(
        "mount what the configuration names on this host under the same path, or reload Prometheus if it was changed",
    ));
}
