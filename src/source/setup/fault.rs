//! Why a repository could not be made ready for Larder.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Trouble, chain, codes};
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
            Self::NoGit(_) => (codes::GIT_MISSING, "install it, e.g. `apt install git`".to_owned()),
            Self::OldGit { .. } => (codes::GIT_TOO_OLD, "install a newer Git".to_owned()),
            Self::Git { .. } | Self::GitHung { .. } => {
                (codes::GIT_FAILED, "run the command yourself to see more".to_owned())
            }
            Self::NotEmpty { .. } => (codes::DIRECTORY_NOT_EMPTY, "give a path that does not exist yet".to_owned()),
            Self::NotBare { path } => (
                codes::REPOSITORY_NOT_BARE,
                format!("make a bare copy and use that: `git clone --bare {} NEW.git`", path.display()),
            ),
            Self::ForeignHook { path } => (
                codes::FOREIGN_HOOK,
                format!(
                    "rename it to {}.local and run this again: Larder's hook runs it first, with the same input",
                    path.display()
                ),
            ),
            Self::HooksPath { .. } => {
                (codes::HOOKS_PATH, "remove it (`git config --unset core.hooksPath`) and run this again".to_owned())
            }
            Self::Write { .. } => {
                (codes::NOT_WRITTEN, "check the owner, the permissions and the free space".to_owned())
            }
        };
        Trouble::new(code, chain(self)).with_hint(hint)
    }
}
