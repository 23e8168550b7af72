//! Puts right what a killed restore left of its upload, then what a killed capture left of its backup.

use super::{Kind, backup, restore};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Request;

pub(super) fn recover(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    restore::recover(kind, request, events)?;
    backup::recover(kind, request)
}
