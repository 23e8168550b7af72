//! Puts right what a killed capture or restore left.

use super::settings::PiholeSettings;
use super::{opening, restore};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PiholeSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let (web, credential) = (settings.web()?, settings.credential()?);
    restore::recover(&web, &credential, &request.run, &journal, events)?;
    opening::recover(&web, &credential, &request.run, &journal, events)
}
