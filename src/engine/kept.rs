//! What is kept of a repository between two calls: a small file each, of which losing one costs one slow call.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::RepositoryAccess;
use crate::store::layout::write_whole;

/// The file with what is kept of this kind.
pub(super) fn path(access: &RepositoryAccess, kind: &str) -> PathBuf {
    access.cache.join(kind).join(hex::encode(Sha256::digest(access.location.as_bytes())))
}

/// The file with what is kept of this kind under `name`.
pub(super) fn named(access: &RepositoryAccess, kind: &str, name: &str) -> PathBuf {
    access.cache.join(kind).join(name)
}

/// Writes it whole or not at all, for its owner alone; makes its directory.
///
/// # Errors
/// It cannot be written; one of before is still there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    write_whole(path, bytes)
}
