//! Puts the database right when a restore was killed.

use super::settings::NinjaSettings;
use super::whole::Kept;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Request;

/// Puts the database right when a restore was killed; a company's export changes nothing that could be undone.
pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    match settings.kept()? {
        Kept::Install(install) => install.recover(request, events),
        Kept::Company => Ok(()),
    }
}
