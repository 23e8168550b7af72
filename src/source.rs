//! Where config comes from: a bare Git repository read in place, or a directory for `larder check`.
//!
//! Only bytes leave this module; what they mean is `config`'s business. Nothing here ever writes to the watched
//! repository but `setup`, which a person asks for. Fetching from a remote is deliberately absent: it is its own issue.

pub mod admit;
pub mod bare;
pub mod denied;
pub mod directory;
pub mod files;
mod git;
pub mod hook;
pub mod quarantine;
pub mod setup;
pub mod watch;

use std::path::PathBuf;

pub use bare::Bare;
pub use directory::Directory;
pub use files::GitFiles;
pub use watch::watch;

use crate::error::{Code, Trouble, chain, codes};

/// One YAML file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the config root, with `/`.
    pub path: String,
    /// Changes exactly when the content changes (a blob id, or a hash).
    pub content_id: String,
}

/// The config files of one revision.
pub trait FileSet {
    /// All `*.yaml` and `*.yml` files but those with secrets, sorted by path; hidden directories are left out.
    fn entries(&self) -> &[FileEntry];

    /// The files with encrypted secrets (`*.sops.yaml`), sorted by path.
    fn sealed(&self) -> &[FileEntry] {
        &[]
    }

    /// Files that are refused before they are read: symlinks, submodules, too large, not UTF-8 (path and reason).
    fn refused(&self) -> &[(String, Trouble)];

    /// The file's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble>;
}

/// Why config could not be read from where it is kept.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("there is nothing at {path}")]
    NoSuchPath { path: PathBuf },
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("{path} is not a Git repository")]
    NoRepository { path: PathBuf },
    #[error("the repository {path} keeps its refs in a reftable, which is not supported")]
    Reftable { path: PathBuf },
    #[error("the repository {path} uses SHA-256 object names, which are not supported")]
    Sha256 { path: PathBuf },
    #[error("the repository {path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{git_dir}/HEAD is damaged: git takes no push into {path}")]
    Head { path: PathBuf, git_dir: PathBuf },
    #[error("{branch:?} cannot be the name of a branch")]
    BranchName { branch: String },
    #[error("the branch {branch} of {path} cannot be read")]
    Branch {
        path: PathBuf,
        branch: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the branch {branch} of {path} points to a {kind}, not to a commit")]
    NotACommit { path: PathBuf, branch: String, kind: String },
    #[error("the revision {revision} cannot be read from {path}")]
    Revision {
        path: PathBuf,
        revision: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{root:?} cannot be a directory inside the repository")]
    RootName { root: String },
    #[error("the revision {revision} has no directory {root:?}")]
    NoRoot { revision: String, root: String },
    #[error("there are more than {max} {what} in {place}")]
    TooMany { place: String, what: &'static str, max: u64 },
    #[error("the pushed objects cannot be reached: {detail}")]
    Quarantine { detail: String },
    #[error("a scratch directory for the pushed objects cannot be made")]
    Scratch(#[source] std::io::Error),
}

impl SourceError {
    /// Stable, lower-case.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchPath { .. } => codes::SOURCE_MISSING,
            Self::Unreadable { .. } => codes::SOURCE_UNREADABLE,
            Self::NotADirectory { .. } => codes::NOT_A_DIRECTORY,
            Self::NoRepository { .. } => codes::NOT_A_REPOSITORY,
            Self::Reftable { .. } => codes::REFTABLE,
            Self::Sha256 { .. } => codes::SHA256_REPOSITORY,
            Self::Open { .. } | Self::Head { .. } => codes::REPOSITORY_DAMAGED,
            Self::BranchName { .. } => codes::BRANCH_NAME,
            Self::Branch { .. } => codes::BRANCH_DAMAGED,
            Self::NotACommit { .. } => codes::BRANCH_NO_COMMIT,
            Self::Revision { .. } => codes::REVISION_UNREADABLE,
            Self::RootName { .. } => codes::CONFIG_ROOT_NAME,
            Self::NoRoot { .. } => codes::CONFIG_ROOT_MISSING,
            Self::TooMany { .. } => codes::TOO_MANY_FILES,
            Self::Quarantine { .. } => codes::QUARANTINE,
            Self::Scratch(_) => codes::SCRATCH,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuchPath { path } => {
                format!("check the path, or make a repository there with `larder init {}`", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("let the user that Larder runs as read {}", path.display())
            }
            Self::NotADirectory { .. } => "give the directory that holds the YAML files".to_owned(),
            Self::NoRepository { path } => {
                format!("make one with `larder init {}`, or give the path of a bare repository", path.display())
            }
            Self::Reftable { path } => {
                format!(
                    "convert it once: `git -C {} refs migrate --ref-format=files` (Git 2.46 or newer)",
                    path.display()
                )
            }
            Self::Sha256 { .. } => {
                "make a new repository with `larder init` (it uses --object-format=sha1) and push there".to_owned()
            }
            Self::Open { path, .. } | Self::Revision { path, .. } => {
                format!(
                    "look at it with `git -C {} fsck --full`; pushing again restores missing objects",
                    path.display()
                )
            }
            Self::Head { git_dir, .. } => {
                format!("write it anew: `echo 'ref: refs/heads/main' > {}/HEAD`", git_dir.display())
            }
            Self::BranchName { .. } => "give a name such as main, without refs/heads/".to_owned(),
            Self::Branch { path, branch, .. } => {
                format!(
                    "look at it with `git -C {} show-ref`; pushing {branch} again mends a damaged ref",
                    path.display()
                )
            }
            Self::NotACommit { branch, .. } => format!("push a commit to {branch}"),
            Self::RootName { .. } => "give a relative path such as larder/, without '..'".to_owned(),
            Self::NoRoot { root, .. } => format!("push a commit that has {root}/, or change the config root"),
            Self::TooMany { .. } => {
                "keep only Larder's config in this repository, or name its subdirectory as config root".to_owned()
            }
            Self::Quarantine { .. } => "this command is for Git hooks; Git sets GIT_DIR for it".to_owned(),
            Self::Scratch(_) => "check TMPDIR and the free space there".to_owned(),
        }
    }

    /// For people: the whole chain of causes, and what to do next.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble::new(self.code(), chain(self)).with_hint(self.hint())
    }
}
