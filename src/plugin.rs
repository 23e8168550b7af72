//! Plugins: what knows how an application is backed up, behind one protocol of JSON lines.
//!
//! A plugin is a child process. The built-in ones are `larder plugin NAME`; others are executables in a directory that
//! the operator names, never in Git. Bottom up: [`protocol`] is what crosses the pipe, `kit` what an application is
//! written with, `apps` the applications, `child` the side of the built-in ones, `host` the daemon's side: its
//! [`Catalogue`] knows the settings schema of each, runs them with a deadline, and believes nothing they say about files
//! without looking. Names are shown here for other modules; within, each is imported from its own file.
//!
//! Shipping is deliberately absent: a plugin says what there is to keep, the engine keeps it.

pub use apps::ALL;
pub use child::builtin_main;
pub use host::answer::{Captured, PluginFailure, Restored};
pub use host::catalogue::Catalogue;
pub use host::{Call, CaptureInputs, News};
pub(crate) use kit::files::{count, is_excluded};
pub use protocol::{ArtifactFile, CaptureFacts, RestoreOrder, Source, Step, Validation, Verb, Verdict};

pub(crate) mod apps;
mod child;
mod host;
pub mod kit;
pub mod protocol;
