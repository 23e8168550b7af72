//! Desired state: bytes of a revision to a checked [`model::Config`], or every error of it.

pub mod model;

/// What config needs to know of plugins: their names and settings schemas.
pub trait SettingsSchemas: Send + Sync {
    /// All plugin names, for "did you mean".
    fn names(&self) -> Vec<String>;
    /// The JSON Schema (draft 2020-12, an object) of a plugin's settings.
    fn schema(&self, plugin: &str) -> Option<&serde_json::Value>;
}
