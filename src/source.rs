//! Where config comes from: a bare Git repository read in place, or a directory for `larder check`.

use crate::error::Trouble;

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
    /// All `*.yaml` and `*.yml` files, sorted by path; hidden directories are left out.
    fn entries(&self) -> &[FileEntry];

    /// Files that are refused before they are read: symlinks, submodules, too large, not UTF-8 (path and reason).
    fn refused(&self) -> &[(String, Trouble)];

    /// The file's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble>;
}
