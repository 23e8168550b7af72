//! The one shape in which a refusal or failure is told to a person: what, and what to do next.

mod code;
pub mod codes;

pub use code::{Code, Kind};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something went wrong, told for a person: a stable code, one sentence, and the next step.
///
/// It is data (it is stored with runs and sent over RPC), never holds a secret, and is built at the edge
/// from a module's own error enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// Stable, lower-case, with underscores: `wrong_password`, `repository_replaced`.
    pub code: String,
    /// One sentence without a full stop that names the thing and the value.
    pub message: String,
    /// What to type or look at next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Trouble {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::told(code.name(), message)
    }

    /// What `error` says with all its causes, and the next step.
    #[must_use]
    pub fn of(code: Code, error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self { hint, ..Self::new(code, chain(error)) }
    }

    /// By another program, whose codes are its own.
    #[must_use]
    pub fn told(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None }
    }

    /// Whether it is exactly this. For tests only: what is done next goes by the [`Kind`], or by a value that is told
    /// before there is a trouble.
    #[cfg(test)]
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code.name()
    }

    /// None where another program told a code that is not in the registry.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        codes::find(&self.code).map(Code::kind)
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is_of(&self, kind: Kind) -> bool {
        self.kind() == Some(kind)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}

/// Joins an error and its causes into one line: `reading x: permission denied`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
