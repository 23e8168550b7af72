//! Puts right what a killed restore left of files and time series, then what a killed capture left of its snapshot.

use super::{restore, snapshot};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Request;

pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    restore::recover(request, events)?;
    snapshot::recover(request)
}
