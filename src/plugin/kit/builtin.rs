//! What a plugin that is part of the program is: its actions, why one fails, and what it is asked for as its own types.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Code, Trouble, codes};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Capability, Request};

/// One action of a plugin: answers the request with events.
pub(crate) type Act = fn(&Request, &mut EventWriter<'_>) -> Result<(), Failure>;

/// A plugin that is part of the program.
#[derive(Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What is in the backup, what is not, and the least rights it needs; for people.
    pub(crate) guide: &'static str,
    pub(crate) schema: fn() -> Value,
    pub(crate) capture: Act,
    pub(crate) validate: Act,
    pub(crate) restore: Option<Restore>,
    /// Undoes what the journal of a killed capture holds.
    pub(crate) recover: Option<Act>,
}

/// How a plugin puts a backup back.
#[derive(Debug)]
pub struct Restore {
    /// JSON Schema of what the operator may choose.
    pub(crate) options: fn() -> Value,
    pub(crate) run: Act,
}

impl Builtin {
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let restore = self.restore.is_some().then_some(Capability::Restore);
        restore.into_iter().chain(self.recover.is_some().then_some(Capability::Recover)).collect()
    }

    /// For people: what it keeps, what not, the rights it needs, its settings with defaults.
    pub fn describe(&self) -> String {
        let options = self.restore.as_ref().map(|restore| (restore.options)());
        told(self.name, self.summary, self.guide, &(self.schema)(), options.as_ref())
    }
}

/// One text from what a plugin says of itself and its settings schema.
pub(crate) fn told(name: &str, summary: &str, guide: &str, schema: &Value, options: Option<&Value>) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{name}: {summary}\n");
    if !guide.is_empty() {
        let _ = writeln!(text, "\n{}", guide.trim());
    }
    text.push_str("\nSettings (`with:`)\n");
    text.push_str(&fields(schema));
    if let Some(options) = options {
        text.push_str("\nChoices for a restore (`larder restore --into TARGET --option NAME=VALUE`)\n");
        let fields = fields(options);
        text.push_str(if fields.is_empty() { "  none\n" } else { &fields });
    }
    text
}

/// The properties of a schema, one after the other.
fn fields(schema: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let default = match property.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            None | Some(Value::Null) => "optional".to_owned(),
            Some(value) => format!("default {value}"),
        };
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let _ = writeln!(text, "  {name} ({default})\n      {about}");
    }
    text
}

/// The settings as the plugin's own type.
pub(crate) fn settings<T: DeserializeOwned>(request: &Request) -> Result<T, Failure> {
    settings_in(request.settings.clone())
}

/// The same, of settings that another plugin makes.
pub(crate) fn settings_in<T: DeserializeOwned>(settings: Value) -> Result<T, Failure> {
    serde_json::from_value(settings).map_err(|error| {
        // A serde message quotes the value it didn't like, which may be a secret in the wrong place.
        let shown = match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => "they cannot be read".to_owned(),
        };
        let shown = if shown.contains("unknown field") || shown.contains("missing field") {
            shown
        } else {
            "a value has the wrong type".to_owned()
        };
        Failure::new(codes::SETTINGS, format!("the settings do not fit the plugin: {shown}")).hint("run `larder check`")
    })
}

/// What the operator chose for a restore, as the plugin's own type.
pub(crate) fn options<T: DeserializeOwned>(request: &Request) -> Result<T, Failure> {
    options_in(request.restore.as_ref().map(|order| order.options.clone()).unwrap_or_default())
}

/// The same, of what another plugin chooses.
pub(crate) fn options_in<T: DeserializeOwned>(given: Value) -> Result<T, Failure> {
    let given = if given.is_null() { Value::Object(serde_json::Map::new()) } else { given };
    serde_json::from_value(given).map_err(|error| {
        Failure::new(codes::RESTORE_OPTIONS, format!("the options do not fit the plugin: {error}"))
            .hint("`larder plugin describe NAME` lists what can be chosen")
    })
}

/// Why a plugin could not do its work.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    pub(crate) retry: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { trouble: Trouble::new(code, message), retry: code.kind().waits() }
    }

    /// What could not be written is `code`, unless it is that the disk is full: then it is tried again.
    pub(crate) fn unwritten(code: Code, error: &std::io::Error, message: impl Into<String>) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => {
                Self::new(codes::DISK_FULL, message).hint("make room where the artifacts lie")
            }
            _ => Self::new(code, message),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.trouble = self.trouble.with_hint(hint);
        self
    }

    /// Both, when what had been done could not be undone either: that is what somebody must look at.
    pub(crate) fn and(&self, second: Self) -> Self {
        let message = format!("{}; and {}", self.trouble.message, second.trouble.message);
        Self { trouble: Trouble { message, ..second.trouble }, ..second }
    }

    /// Itself, or both, when what was to be cleared away behind it could not be.
    pub(crate) fn after(self, cleared: Result<(), Self>) -> Self {
        match cleared {
            Ok(()) => self,
            Err(second) => self.and(second),
        }
    }

    /// Trying again later can help, although its kind does not say so.
    pub(crate) fn later(mut self) -> Self {
        self.retry = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_one_and_tried_again() {
        let of = |kind: std::io::ErrorKind| Failure::unwritten(codes::UNWRITABLE, &kind.into(), "it cannot be written");
        let (full, closed) = (of(std::io::ErrorKind::StorageFull), of(std::io::ErrorKind::PermissionDenied));
        assert_eq!((full.trouble.code.as_str(), full.retry), ("disk_full", true));
        assert_eq!((closed.trouble.code.as_str(), closed.retry), ("unwritable", false));
    }

    #[test]
    fn what_cannot_be_cleared_away_does_not_hide_why_it_had_to_be() {
        let failure = || Failure::new(codes::DISK_FULL, "no room");
        let kept = failure().after(Ok(()));
        assert_eq!((kept.trouble.code.as_str(), kept.trouble.message.as_str()), ("disk_full", "no room"));
        let both = failure().after(Err(Failure::new(codes::JOURNAL_UNWRITABLE, "the note stays").hint("look")));
        assert_eq!(both.trouble.message, "no room; and the note stays");
        assert_eq!((both.trouble.code.as_str(), both.trouble.hint.as_deref()), ("journal_unwritable", Some("look")));
    }
}
