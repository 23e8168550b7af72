//! Puts right what a killed capture or restore left, before any container is started.

use std::time::Duration;

use super::api::Engine;
use super::settings::DockerSettings;
use super::{halt, restore};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let engine = Engine::open(&settings.socket, Duration::from_mins(1))?;
    restore::recover(&engine, &journal, &request.staging, events)?;
    halt::recover(&engine, &journal, events)?;
    restore::recovered(&journal)
}
