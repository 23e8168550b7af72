//! Has the application make its backup, fetches it and looks at it.

use super::api::App;
use super::content::Content;
use super::settings::ArrSettings;
use super::{ARTIFACT, FORMAT, Kind, backup, content};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

pub(super) fn capture(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = ArrSettings::of(request)?;
    let journal = Journal::of(request)?;
    let app = App::open(kind, &settings)?;
    let status = app.status()?;
    let elsewhere = status.refuse_database_elsewhere(kind, &settings)?;
    events.version(format!("{} {}", kind.title, status.version));
    let zip = request.staging.join(ARTIFACT);
    let sha256 = backup::fetch(&app, &settings, &journal, &zip, events)?;
    let content = content::read(kind, &zip)?;
    content.refuse_unless_of(kind, &status, &settings, events)?;
    if let Some(target) = elsewhere {
        events.log(format!("the database is in PostgreSQL and not in this backup; the target {target} is to have it"));
    } else if content.database.is_none() {
        return Err(Content::without_database(kind));
    }
    content.tell(events);
    events.artifact(ARTIFACT, FORMAT, sha256);
    Ok(())
}
