//! Keeps the configuration with what it names, what is loaded, and a snapshot of the time series.

use super::api::Server;
use super::settings::PrometheusSettings;
use super::{TSDB, TSDB_FORMAT, blocks, files, loaded, references, snapshot};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

const INVENTORY: &str = "inventory/loaded-config.yml";
const INVENTORY_FORMAT: &str = "prometheus-inventory";

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PrometheusSettings = builtin::settings(request)?;
    if settings.config_file.is_none() && settings.tsdb_snapshot.is_none() {
        return Err(Failure::new(
            codes::SETTINGS,
            "neither `config_file` nor `tsdb_snapshot` is given: nothing could be put back",
        )
        .hint("name the configuration as this host sees it: `config_file: /etc/prometheus/prometheus.yml`"));
    }
    let server = Server::open(&settings)?;
    events.version(server.version()?);
    let loaded = server.loaded_config()?;
    if let Some(config) = &settings.config_file {
        let found = references::of(config)?;
        let differs = references::jobs(&loaded) != found.jobs;
        if differs {
            let told = format!("the scrape jobs of {} are not those that Prometheus has loaded", config.display());
            events.warning(Trouble::new(codes::CONFIG_NOT_LOADED, told).with_hint(
                "reload Prometheus, or look in its log for why it does not take the file; is it the right file?",
            ));
        }
        for missing in &found.missing {
            let told = format!("{} names {}, which is not there", config.display(), missing.display());
            events.warning(Trouble::new(codes::FILE_MISSING, told).with_hint("is it mounted on this host?"));
        }
        for (path, why) in &found.unreadable {
            let told = format!("{} names {}, which cannot be followed: {why}", config.display(), path.display());
            events.warning(
                Trouble::new(codes::FILE_UNREADABLE, told)
                    .with_hint("give the daemon's user read permission, or correct what is named"),
            );
        }
        if !found.secrets.is_empty() {
            let shown = found.secrets.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = found.secrets.len().saturating_sub(5);
            let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
            let told = format!("secrets and certificates that the configuration names are not kept: {shown}{tail}");
            events.notice(Trouble::new(codes::SECRETS_NOT_KEPT, told).with_hint("keep them with a target of `files`"));
        }
        if !differs {
            loaded::compare(&server, &found, config, events)?;
        }
        files::keep(request, &found.files, events)?;
    }
    let note = "# Inventory: what Prometheus had loaded, without its secrets. It cannot be put back.\n";
    files::write(&request.staging.join(INVENTORY), format!("{note}{loaded}").as_bytes())?;
    events.artifact(INVENTORY, INVENTORY_FORMAT, digest::sha256(&request.staging.join(INVENTORY), |_| {})?);
    if let Some(tsdb) = &settings.tsdb_snapshot {
        let journal = Journal::of(request)?;
        snapshot::take(&server, &journal, &tsdb.data_dir, &request.staging.join(TSDB), events)?;
        let found = blocks::all(&request.staging.join(TSDB))?;
        for path in blocks::files(&request.staging.join(TSDB))? {
            let relative = path.strip_prefix(&request.staging).unwrap_or(&path).to_string_lossy().into_owned();
            events.artifact(&relative, TSDB_FORMAT, digest::sha256(&path, |_| {})?);
            events.progress(0, 0);
        }
        events.figure("blocks", found.len() as u64);
        events.figure("samples", found.iter().map(|block| block.samples).sum());
        events.figure("series_in_blocks", found.iter().map(|block| block.series).sum());
    }
    Ok(())
}
