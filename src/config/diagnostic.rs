//! What is told about a config: where, what is wrong, what to do. Plain data that can be sent and stored.
//!
//! A diagnostic never holds a secret: its excerpt is masked when it is made (`config::text`), not when it is shown.

mod render;

use serde::{Deserialize, Serialize};

use crate::error::Trouble;

/// One finding in one place of a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Relative to the config root.
    pub path: String,
    /// From 1. A finding about a whole file is at 1:1 and has no excerpt.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub severity: Severity,
    /// Stable, lower case with underscores, such as `unknown_field`.
    pub code: String,
    /// One sentence without a full stop.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line that is meant, safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
    /// Other places that belong to it, such as the first of two equal names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The revision is not applied.
    Error,
    /// The revision is applied; a person should look.
    Warning,
}

/// One source line: cut around the place, control characters made visible, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    pub text: String,
    /// What is meant, in characters of `text`; `start < end`, `end` may be one behind the text.
    pub start: u32,
    pub end: u32,
}

/// Another place that belongs to a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    pub path: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// Whether terminal colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Never,
    Always,
}

impl Diagnostic {
    /// A finding about a whole file.
    pub(crate) fn of_file(path: &str, trouble: Trouble) -> Self {
        Self {
            path: path.to_owned(),
            line: 1,
            column: 1,
            severity: Severity::Error,
            code: trouble.code,
            message: trouble.message,
            hint: trouble.hint,
            excerpt: None,
            related: Vec::new(),
        }
    }

    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Counts for the last line of a report: `3 errors, 1 warning in 2 files`; none when there is nothing to say.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let files = diagnostics.iter().map(|d| d.path.as_str()).collect::<std::collections::BTreeSet<_>>().len();
    let count = |number: usize, word: &str| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let found: Vec<String> = [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
    let files = count(files, "file")?;
    Some(format!("{} in {files}", found.join(", ")))
}
