//! Desired state: bytes of a revision to a checked [`model::Config`], or every error of it.
//!
//! ```text
//! bytes ─ text ─ spans ─ validate ─ raw ─ check ─ resolve ─> model::Config
//!         (refused as    (shape, by the   (one      (across
//!          a whole)       JSON schema)     document)  documents)
//! ```
//! Each step collects all it finds; [`load::Loader`] keeps what does not change between revisions.

mod check;
pub mod diagnostic;
mod document;
pub mod load;
mod mask;
pub mod model;
pub mod raw;
mod resolve;
pub mod schema;
mod sealed;
mod spans;
mod suggest;
mod text;
mod validate;
mod visible;

pub use diagnostic::{Colour, Diagnostic, Severity};
pub use load::{Loaded, Loader};
pub use schema::config_schema;
pub(crate) use validate::DURATION_PATTERN;

/// What config needs to know of plugins: their names and settings schemas.
pub trait SettingsSchemas: Send + Sync {
    /// All plugin names, for "did you mean".
    fn names(&self) -> Vec<String>;
    /// The JSON Schema (draft 2020-12, an object) of a plugin's settings.
    fn schema(&self, plugin: &str) -> Option<&serde_json::Value>;
}
