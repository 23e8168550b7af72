//! What a restore changes in Grafana is noted before it is changed, so that it can be made what it was.
//!
//! Grafana takes one object after the other and cannot change many at once. So each object as it is now (or that there is
//! none) is durable in the journal before its call; after a failure, or after a kill by `recover`, the newest change is
//! undone first. Undoing twice does no harm. When all are in place and compared, one note says so, and nothing is undone.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::Api;
use super::apply;
use super::object::Object;
use super::settings::GrafanaSettings;
use crate::error::{self, Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::Request;

/// The entry that says that everything is in place.
const COMMITTED: &str = "committed";
/// Objects that a message names.
const NAMED_MAX: usize = 5;

/// One change.
#[derive(Serialize, Deserialize)]
struct Note {
    object: Object,
    /// What was there.
    before: Option<Object>,
    namespace: String,
}

/// The changes of one restore.
pub(super) struct Changes<'a> {
    api: &'a Api,
    journal: Journal,
    namespace: String,
    count: usize,
}

impl<'a> Changes<'a> {
    pub(super) fn new(api: &'a Api, journal: Journal, namespace: String) -> Self {
        Self { api, journal, namespace, count: 0 }
    }

    /// Creates or replaces one object.
    pub(super) fn put(&mut self, object: &Object, now: Option<&Object>) -> Result<(), Failure> {
        let note = Note { object: object.clone(), before: now.cloned(), namespace: self.namespace.clone() };
        self.journal.note(&format!("{:05}", self.count), &note)?;
        self.count += 1;
        apply::put(self.api, object, now, &self.namespace)
    }

    /// Everything is in place.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        if self.count > 0 {
            self.journal.note(COMMITTED, &json!({ COMMITTED: true }))?;
            clear(&self.journal)?;
        }
        Ok(())
    }

    /// After a failure: says with it what became of what was changed before.
    pub(super) fn undo(&self, failure: Failure, events: &mut EventWriter<'_>) -> Failure {
        if self.count == 0 {
            return failure;
        }
        let said = &failure.trouble.message;
        let (message, hint) = match undo(self.api, &self.journal, events) {
            Ok(()) => (format!("{said}; what was changed before it is as it was"), failure.trouble.hint.clone()),
            Err(stuck) => (
                format!("{said}; and {}", stuck.trouble.message),
                Some("Larder tries again every few minutes to put back what was there".to_owned()),
            ),
        };
        Failure { trouble: Trouble { message, hint, ..failure.trouble }, ..failure }
    }
}

/// Puts right what a restore that was killed left.
pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: GrafanaSettings = builtin::settings(request)?;
    let (api, journal) = (&Api::open(&settings)?, &Journal::of(request)?);
    let entries = journal.entries::<serde_json::Value>()?;
    if entries.iter().any(|(entry, _)| entry == COMMITTED) { clear(journal) } else { undo(api, journal, events) }
}

fn clear(journal: &Journal) -> Result<(), Failure> {
    for (entry, _) in journal.entries::<serde_json::Value>()?.iter().filter(|(entry, _)| entry != COMMITTED) {
        journal.done(entry)?;
    }
    journal.done(COMMITTED)
}

fn undo(api: &Api, journal: &Journal, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let mut stuck = Vec::new();
    for (entry, note) in journal.entries::<Note>()?.into_iter().rev() {
        match undo_one(api, &note).and_then(|()| journal.done(&entry)) {
            Ok(()) => events.log(format!("put back as it was: {}", note.object.shown())),
            Err(why) => stuck.push(format!("{} ({})", note.object.shown(), why.trouble.message)),
        }
    }
    if stuck.is_empty() {
        return Ok(());
    }
    let shown = stuck.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    Err(Failure::new(codes::NOT_UNDONE, format!("these could not be put back as they were: {shown}"))
        .hint("look at Grafana; it is tried again every few minutes"))
}

fn undo_one(api: &Api, note: &Note) -> Result<(), Failure> {
    let Some(before) = &note.before else { return apply::remove(api, &note.object, &note.namespace) };
    // Refused, it may have been deleted meanwhile: then it is made anew.
    match apply::put(api, before, Some(&note.object), &note.namespace) {
        Err(refused) if refused.trouble.is_of(error::Kind::Refused) => {
            apply::put(api, before, None, &note.namespace).map_err(|_| refused)
        }
        put => put,
    }
}
