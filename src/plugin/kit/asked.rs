//! What a plugin is asked for, read at once: its settings, what the operator chose, what the capture told.

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

/// A backup that is to be put back, or of which is to be said what that would do.
pub(crate) struct RestoreJob<'r, S, O> {
    pub(crate) settings: S,
    pub(crate) options: O,
    pub(crate) facts: &'r CaptureFacts,
    pub(crate) order: &'r RestoreOrder,
}

impl<'r, S: DeserializeOwned, O: DeserializeOwned> RestoreJob<'r, S, O> {
    /// # Errors
    /// `settings` or `restore_options` when they do not fit; `request` when it says nothing of the capture, or gives no
    /// order: nothing is put back, and nothing is called a dry run, that nobody asked for.
    pub(crate) fn of(request: &'r Request) -> Result<Self, Failure> {
        Ok(Self {
            settings: builtin::settings(request)?,
            options: builtin::options(request)?,
            facts: facts(request)?,
            order: order(request)?,
        })
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::plugin::protocol::Action;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[test]
    fn a_restore_without_an_order_or_without_a_capture_is_refused_and_a_dry_run_stays_one() {
        let mut request = Request::new(Action::Restore);
        request.settings = serde_json::json!({});
        let refused =
            |request: &Request| RestoreJob::<Nothing, Nothing>::of(request).err().map(|failure| failure.trouble);
        assert!(refused(&request).unwrap().message.contains("`capture`"));
        request.capture = Some(CaptureFacts::default());
        assert!(refused(&request).unwrap().message.contains("`restore`"));
        request.restore = Some(RestoreOrder { dry_run: true, ..RestoreOrder::default() });
        assert!(RestoreJob::<Nothing, Nothing>::of(&request).is_ok_and(|job| job.order.dry_run));
        request.restore = Some(RestoreOrder { options: serde_json::json!({"force": 1}), ..RestoreOrder::default() });
        assert_eq!(refused(&request).unwrap().code, "restore_options");
    }
}
