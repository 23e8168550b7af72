//! The life of one run as a pure state machine: `next(state, event)`.
//!
//! ```text
//! Queued ─Started→ Capturing ─Captured→ Validating ─Validated→ Publishing ─Published→ Shipping ─Shipped→ Retaining ─Retained→ Finished
//!    └─Skipped          └──────────Deferred──────────┘ (nothing was published yet)
//!    └────────────────────── Failed, Cancelled, Interrupted: from every state but the last ──────────────────────────────┘
//! ```
//! The runner writes a state as intent before its effect; recovery reads the log with the same function and so never
//! guesses. What a run came to is decided in `judgement`, what becomes of one that was cut off in `recovery`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Outcome;

pub mod copying;
pub mod hold;
pub mod holdings;
pub mod judgement;
pub mod recovery;
pub mod retention;
pub mod statistics;
pub mod turned;
pub mod usual;

use judgement::RunVerdict;

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

/// What happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It left the queue.
    Started,
    /// The plugin ended well; its artifacts are in the staging directory.
    Captured,
    /// Nothing was found that says the artifacts are bad.
    Validated,
    /// The artifacts are in their place, complete.
    Published,
    /// Every destination was tried and at least one has a snapshot; the shipments are in the record.
    Shipped,
    /// Retention was tried where there is a new snapshot; the run ends with this verdict.
    Retained(RunVerdict),
    /// It cannot go on: a step failed, or no destination has a snapshot.
    Failed,
    /// A precondition is missing for now; only before anything was published.
    Deferred,
    /// It is not to run after all; only from the queue.
    Skipped,
    /// An operator stopped it.
    Cancelled,
    /// The daemon ended in the middle; said by the next one.
    Interrupted,
}

impl Event {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Captured => "captured",
            Self::Validated => "validated",
            Self::Published => "published",
            Self::Shipped => "shipped",
            Self::Retained(_) => "retained",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Says that an event cannot happen in a state: a bug of the runner, or a log that was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {} cannot be {}", state.as_str(), event.as_str())]
pub struct IllegalEvent {
    pub state: RunState,
    pub event: Event,
}

/// The state after `event`.
///
/// # Errors
/// When `event` cannot happen in `state`; a finished run has no further event.
pub fn next(state: RunState, event: Event) -> Result<RunState, IllegalEvent> {
    use RunState::{Capturing, Finished, Publishing, Queued, Retaining, Shipping, Validating};
    Ok(match (state, event) {
        (Queued, Event::Started) => Capturing,
        (Capturing, Event::Captured) => Validating,
        (Validating, Event::Validated) => Publishing,
        (Publishing, Event::Published) => Shipping,
        (Shipping, Event::Shipped) => Retaining,
        (Retaining, Event::Retained(verdict)) => Finished(verdict.outcome()),
        (Queued, Event::Skipped) => Finished(Outcome::Skipped),
        (Queued | Capturing | Validating, Event::Deferred) => Finished(Outcome::Deferred),
        (Queued | Capturing | Validating | Publishing | Shipping | Retaining, Event::Failed) => {
            Finished(Outcome::Failed)
        }
        (Queued | Capturing | Validating | Publishing | Shipping | Retaining, Event::Cancelled) => {
            Finished(Outcome::Cancelled)
        }
        (Queued | Capturing | Validating | Publishing | Shipping | Retaining, Event::Interrupted) => {
            Finished(Outcome::Interrupted)
        }
        (state, event) => return Err(IllegalEvent { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNFINISHED: [RunState; 6] = [
        RunState::Queued,
        RunState::Capturing,
        RunState::Validating,
        RunState::Publishing,
        RunState::Shipping,
        RunState::Retaining,
    ];

    const OUTCOMES: [Outcome; 7] = [
        Outcome::Success,
        Outcome::Partial,
        Outcome::Failed,
        Outcome::Skipped,
        Outcome::Deferred,
        Outcome::Interrupted,
        Outcome::Cancelled,
    ];

    const EVENTS: [Event; 13] = [
        Event::Started,
        Event::Captured,
        Event::Validated,
        Event::Published,
        Event::Shipped,
        Event::Retained(RunVerdict::Success),
        Event::Retained(RunVerdict::Partial),
        Event::Retained(RunVerdict::Failed),
        Event::Failed,
        Event::Deferred,
        Event::Skipped,
        Event::Cancelled,
        Event::Interrupted,
    ];

    /// One line a state, one column an event of `EVENTS`: the first letter of the next state, in capitals an outcome,
    /// `.` for what cannot happen.
    const TABLE: [(&str, &str); 6] = [
        ("queued", "c.......FDSXI"),
        ("capturing", ".v......FD.XI"),
        ("validating", "..p.....FD.XI"),
        ("publishing", "...s....F..XI"),
        ("shipping", "....r...F..XI"),
        ("retaining", ".....OPFF..XI"),
    ];

    fn letter(state: RunState) -> char {
        match state {
            RunState::Finished(Outcome::Success) => 'O',
            RunState::Finished(Outcome::Cancelled) => 'X',
            RunState::Finished(outcome) => outcome.as_str().chars().next().unwrap().to_ascii_uppercase(),
            state => state.as_str().chars().next().unwrap(),
        }
    }

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        for (state, (name, line)) in UNFINISHED.into_iter().zip(TABLE) {
            assert_eq!(state.as_str(), name);
            let found: String = EVENTS.iter().map(|event| next(state, *event).map_or('.', letter)).collect();
            assert_eq!(found, line, "{name}");
        }
    }

    #[test]
    fn a_finished_run_has_no_further_event() {
        for outcome in OUTCOMES {
            for event in EVENTS {
                let state = RunState::Finished(outcome);
                assert_eq!(next(state, event), Err(IllegalEvent { state, event }));
            }
        }
    }

    #[test]
    fn an_illegal_event_says_what_cannot_happen() {
        let error = next(RunState::Shipping, Event::Deferred).unwrap_err();
        assert_eq!(error.to_string(), "a run that is shipping cannot be deferred");
    }

    #[test]
    fn a_state_is_stored_as_it_always_was() {
        let json = |state| serde_json::to_string(&state).unwrap();
        assert_eq!(json(RunState::Queued), r#"{"state":"queued"}"#);
        assert_eq!(json(RunState::Finished(Outcome::Partial)), r#"{"state":"finished","outcome":"partial"}"#);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_a_run_only_goes_forward_and_ends_in_at_most_six_steps(
            events in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..60)
        ) {
            let mut state = RunState::Queued;
            let mut steps = 0;
            let mut published = false;
            for event in events {
                let Ok(after) = next(state, event) else { continue };
                let place = |state| UNFINISHED.iter().position(|each| *each == state).unwrap_or(UNFINISHED.len());
                prop_assert!(place(after) > place(state));
                steps += 1;
                published |= event == Event::Published;
                // What can be relied on was captured, validated, published and shipped.
                if let RunState::Finished(Outcome::Success | Outcome::Partial) = after {
                    prop_assert_eq!(steps, 6);
                }
                if let RunState::Finished(Outcome::Deferred | Outcome::Skipped) = after {
                    prop_assert!(!published);
                }
                state = after;
            }
            prop_assert!(steps <= 6);
        }
    }
}
