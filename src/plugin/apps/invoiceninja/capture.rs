//! Keeps an installation, or asks for the export of a company.

use super::settings::NinjaSettings;
use super::whole::Kept;
use super::{FILE, FORMAT, contents, export};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Request;

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    if let Kept::Install(install) = settings.kept()? {
        return install.capture(request, events);
    }
    let link = export::order(&settings)?;
    let path = request.staging.join(FILE);
    let saved = export::fetch(&settings, &link, &path, events)?;
    let contents = contents::read(&path)?;
    events.version(format!("Invoice Ninja {}", contents.app_version));
    for (name, count) in &contents.counts {
        events.figure(name, *count);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}
