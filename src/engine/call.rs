//! One call of restic before it is made: its words, and what else it needs.

use std::ffi::OsString;

use super::RepositoryAccess;
use super::complaints::Apart;

/// Ids that one call names; more go by several calls, or are not asked about.
///
/// Linux takes 2 MiB of words and environment (a quarter of the stack, which is 8 MiB as a rule), and an id takes 73 bytes
/// of that: 64 digits, an end and a pointer. So these are 1.5 MB, and the rest is for the environment.
pub const IDS_MAX: usize = 20_000;

/// One call of restic.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    pub(super) args: Vec<OsString>,
    pub(super) figures: Figures,
    /// There is little to do: one processor is enough. Go's runtime spends a quarter of the time of such a call on
    /// looking for work for the others.
    pub(super) small: bool,
    /// For a backup.
    pub(super) apart: Option<Apart>,
    /// Where snapshots or parameters are copied from.
    pub(super) from: Option<Box<RepositoryAccess>>,
}

/// Whether the operation reports figures all the time, so that their standing still means something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Figures {
    Yes,
    No,
}

impl Call {
    pub(super) fn new(operation: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(OsString::from).collect();
        Self { operation, args, figures: Figures::No, small: false, apart: None, from: None }
    }

    pub(super) fn without_lock(mut self) -> Self {
        self.args.push("--no-lock".into());
        self
    }

    pub(super) fn with_figures(mut self) -> Self {
        self.figures = Figures::Yes;
        self
    }

    pub(super) fn copying_from(mut self, from: &RepositoryAccess) -> Self {
        self.from = Some(Box::new(from.clone()));
        self
    }

    /// With at most [`IDS_MAX`] ids behind it.
    pub(super) fn naming<S: AsRef<str>>(mut self, ids: &[S]) -> Self {
        self.args.extend(ids.iter().map(|id| OsString::from(id.as_ref())));
        self
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
}
