//! What a plugin is asked for, read at once: its settings, what the capture told, the order.

use serde::de::DeserializeOwned;

use crate::error::codes;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::protocol::{CaptureFacts, Request, RestoreOrder};

/// A capture that is to be proven.
pub(crate) struct ValidateJob<'r, S> {
    pub(crate) settings: S,
    pub(crate) facts: &'r CaptureFacts,
}

impl<'r, S: DeserializeOwned> ValidateJob<'r, S> {
    /// # Errors
    /// `settings` when they do not fit; `request` when it says nothing of the capture.
    pub(crate) fn of(request: &'r Request) -> Result<Self, Failure> {
        Ok(Self { settings: builtin::settings(request)?, facts: facts(request)? })
    }
}

/// What the capture told.
pub(crate) fn facts(request: &Request) -> Result<&CaptureFacts, Failure> {
    request.capture.as_ref().ok_or_else(|| lacks(request, "what the capture told (`capture`)"))
}

/// What to do in a restore.
pub(crate) fn order(request: &Request) -> Result<&RestoreOrder, Failure> {
    request.restore.as_ref().ok_or_else(|| lacks(request, "an order (`restore`)"))
}

fn lacks(request: &Request, what: &str) -> Failure {
    Failure::new(codes::REQUEST, format!("`{}` needs {what}", request.action.as_str()))
}
