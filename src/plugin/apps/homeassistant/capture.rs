//! Has Home Assistant make a backup of itself, fetches it, and removes it there.

use super::settings::HaSettings;
use super::{FILE, FORMAT, api, backup, contents};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;
use crate::web::Web;

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HaSettings = builtin::settings(request)?;
    let web = settings.web()?;
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    let mut talk = api::Talk::open(&web, &settings.token.0)?;
    events.version(format!("Home Assistant {}", talk.version));
    let agent = backup::ready(&settings, &mut talk)?;
    let name = format!("larder {} {}", request.target, request.run);
    let path = request.staging.join(FILE);
    let fetched = backup::make_and_fetch(&settings, &mut talk, &agent, &name, &path, journal.as_ref(), events);
    talk.close();
    if settings.keep_on_server && fetched.is_ok() {
        journal.as_ref().map_or(Ok(()), |journal| journal.done(backup::ENTRY))?;
    } else if let Err(failure) = tidy(&settings, &web, &name, journal.as_ref()) {
        events.warning(
            Trouble::new(
                codes::BACKUP_LEFT,
                format!("the backup {name:?} stays on the server: {}", failure.trouble.message),
            )
            .with_hint("it is tried again; it can be removed at Settings, System, Backups"),
        );
    }
    let saved = fetched?;
    let contents = contents::read(&path, &request.staging)?;
    if let Some(missing) = contents.missing(settings.include_database) {
        return Err(missing);
    }
    for (figure, value) in contents.figures() {
        events.figure(figure, value);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

/// In a conversation of its own: a download may take longer than Home Assistant keeps a silent one.
pub(super) fn tidy(settings: &HaSettings, web: &Web, name: &str, journal: Option<&Journal>) -> Result<(), Failure> {
    let mut talk = api::Talk::open(web, &settings.token.0)?;
    let tidied = backup::tidy(&mut talk, name, journal);
    talk.close();
    tidied
}
