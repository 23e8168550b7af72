//! Removes what a killed capture left on the server.

use super::backup;
use super::capture::tidy;
use super::settings::HaSettings;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HaSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let web = settings.web()?;
    for (_, note) in journal.entries::<backup::Note>()? {
        tidy(&settings, &web, &note.name, Some(&journal))?;
        events.log(format!("the backup {:?} of a killed run is not on the server any more", note.name));
    }
    Ok(())
}
