//! The life of one run as a pure state machine: `next(state, event)`.
//!
//! The runner writes an event as intent before each effect and as outcome after it; recovery folds the log
//! with the same function and so never guesses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Outcome;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "state", content = "outcome")]
pub enum RunState {
    Queued,
    Capturing,
    Validating,
    Publishing,
    Shipping,
    Retaining,
    Finished(Outcome),
}

impl RunState {
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Finished(_))
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Capturing => "capturing",
            Self::Validating => "validating",
            Self::Publishing => "publishing",
            Self::Shipping => "shipping",
            Self::Retaining => "retaining",
            Self::Finished(outcome) => outcome.as_str(),
        }
    }
}
