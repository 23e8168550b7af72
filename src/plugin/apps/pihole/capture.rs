//! Has the Pi-hole export itself, and looks into it.

use serde_json::Value;

use super::api::Session;
use super::settings::PiholeSettings;
use super::{FILE, FORMAT, IMPORT_BYTES_MAX, LISTS_ELSEWHERE_HINT, ZIP_BYTES_MAX, api, opening, teleporter};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::download;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PiholeSettings = builtin::settings(request)?;
    let (web, credential) = (settings.web()?, settings.credential()?);
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    let path = request.staging.join(FILE);
    let (version, saved) =
        opening::with_session(&web, &credential, &request.run, journal.as_ref(), events, |session, events| {
            let version = version(session);
            let answer = session.get("/api/teleporter").send()?;
            if answer.status() != 200 {
                return Err(api::explain(answer, &web));
            }
            if answer.content_type().contains("html") {
                return Err(download::a_page(answer.what()));
            }
            Ok((version, download::save(answer, &path, ZIP_BYTES_MAX, events)?))
        })?;
    let contents = teleporter::read(&path, &request.staging)?;
    if let Some(version) = version.or_else(|| contents.version.clone()) {
        events.version(version);
    }
    if saved.bytes > IMPORT_BYTES_MAX {
        events.warning(
            Trouble::new(codes::EXPORT_LARGE, "the export is larger than a Pi-hole imports (50 MiB)")
                .with_hint("put it back on the Pi-hole itself: `pihole-FTL --teleporter teleporter.zip` takes 128 MiB"),
        );
    }
    if !contents.importable {
        let message =
            format!("the Pi-hole keeps its lists in /{}, from where no Pi-hole imports them", contents.gravity_name);
        events.notice(Trouble::new(codes::LISTS_ELSEWHERE, message).with_hint(LISTS_ELSEWHERE_HINT));
    }
    for (name, value) in contents.figures() {
        events.figure(name, value);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

/// The Pi-hole's version, where it knows it (a container may not).
pub(super) fn version(session: &Session<'_>) -> Option<String> {
    let answer = session.get("/api/info/version").send().ok().filter(|answer| answer.status() == 200)?;
    let told: Value = answer.json().ok()?;
    let part = |name: &str| told.pointer(&format!("/version/{name}/local/version"))?.as_str().map(str::to_owned);
    let parts = [("Core", "core"), ("Web", "web"), ("FTL", "ftl")];
    let known = parts.iter().filter_map(|(shown, name)| Some(format!("{shown} {}", part(name)?)));
    Some(known.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}
