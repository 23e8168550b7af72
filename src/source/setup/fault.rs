//! Why a repository could not be made ready for Larder.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Trouble, chain};
use crate::source::SourceError;

/// The oldest Git whose `init` knows `--initial-branch` and `--object-format`.
pub(in crate::source) const GIT_OLDEST: (u32, u32) = (2, 29);
/// How long one `git` command may take.
pub(in crate::source) const GIT_DEADLINE: Duration = Duration::from_secs(30);

/// Why a repository could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the program git cannot be run")]
    NoGit(#[source] io::Error),
    #[error("git {found} is too old, {}.{} is needed", GIT_OLDEST.0, GIT_OLDEST.1)]
    OldGit { found: String },
    #[error("`git {command}` failed: {detail}")]
    Git { command: String, detail: String },
    #[error("`git {command}` was ended after {} s", GIT_DEADLINE.as_secs())]
    GitHung { command: String },
    #[error("{path} is not empty and not a Git repository")]
    NotEmpty { path: PathBuf },
    #[error("{path} is a checkout, and Git refuses pushes to a branch that is checked out")]
    NotBare { path: PathBuf },
    #[error("the hook {path} was not written by Larder")]
    ForeignHook { path: PathBuf },
    #[error("the repository's core.hooksPath is {value:?}, so Git would not run the hooks in {hooks}")]
    HooksPath { value: String, hooks: PathBuf },
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl SetupError {
    /// For people: what, and what to do next.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        let (code, hint) = match self {
            Self::Source(error) => return error.trouble(),
            Self::NoGit(_) => ("git_missing", "install it, e.g. `apt install git`".to_owned()),
            Self::OldGit { .. } => ("git_too_old", "install a newer Git".to_owned()),
            Self::Git { .. } | Self::GitHung { .. } => {
                ("git_failed", "run the command yourself to see more".to_owned())
            }
            Self::NotEmpty { .. } => ("directory_not_empty", "give a path that does not exist yet".to_owned()),
            Self::NotBare { path } => (
                "repository_not_bare",
                format!("make a bare copy and use that: `git clone --bare {} NEW.git`", path.display()),
            ),
            Self::ForeignHook { path } => (
                "foreign_hook",
                format!(
                    "rename it to {}.local and run this again: Larder's hook runs it first, with the same input",
                    path.display()
                ),
            ),
            Self::HooksPath { .. } => {
                ("hooks_path", "remove it (`git config --unset core.hooksPath`) and run this again".to_owned())
            }
            Self::Write { .. } => ("not_written", "check the owner, the permissions and the free space".to_owned()),
        };
        Trouble::new(code, chain(self)).with_hint(hint)
    }
}
