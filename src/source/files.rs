//! The config files of one commit: the tree is walked at once, a blob is read when it is asked for.

use std::path::Path;
use std::sync::Arc;

use gix::objs::tree::EntryKind;
use tempfile::TempDir;

use super::admit::{Admission, FILE_BYTES_MAX, Gathered, Kind, admit, not_utf8, too_large};
use super::{FileEntry, FileSet, SourceError};
use crate::error::{Trouble, chain, codes};
use crate::types::Revision;

/// The config files of one revision of a repository.
pub struct GitFiles {
    repository: gix::Repository,
    gathered: Gathered,
    /// Keeps the view of pushed objects alive while blobs may be read through it.
    _scratch: Option<Arc<TempDir>>,
}

impl std::fmt::Debug for GitFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitFiles").field("gathered", &self.gathered).finish_non_exhaustive()
    }
}

impl GitFiles {
    pub(super) fn walk(
        mut repository: gix::Repository,
        scratch: Option<Arc<TempDir>>,
        path: &Path,
        revision: &Revision,
        root: &str,
    ) -> Result<Self, SourceError> {
        repository.object_cache_size_if_unset(4 << 20);
        let unreadable = |source: gix::Error| SourceError::Revision {
            path: path.to_owned(),
            revision: revision.to_string(),
            source: Box::new(source),
        };
        let root = config_root(&repository, path, revision, &root_parts(root)?)?;
        let mut gathered = Gathered::new(format!("the revision {}", revision.short()));
        let mut pending = vec![(root, String::new(), 0)];
        while let Some((id, shown, depth)) = pending.pop() {
            let tree = repository.find_tree(id).map_err(unreadable)?;
            for entry in tree.iter() {
                let entry = entry.map_err(unreadable)?;
                gathered.count()?;
                match admit(&shown, entry.filename(), kind_of(entry.mode().kind()), depth) {
                    Admission::Take(shown) => {
                        let bytes = repository.find_header(entry.object_id()).map_err(unreadable)?.size();
                        gathered.take(shown, bytes, entry.object_id().to_string())?;
                    }
                    Admission::Seal(shown) => {
                        let bytes = repository.find_header(entry.object_id()).map_err(unreadable)?.size();
                        gathered.seal(shown, bytes, entry.object_id().to_string())?;
                    }
                    Admission::Descend(shown) => pending.push((entry.object_id(), shown, depth + 1)),
                    Admission::Skip => {}
                    Admission::Refuse(shown, why) => gathered.refuse(shown, why),
                }
            }
        }
        gathered.sort();
        Ok(Self { repository, gathered, _scratch: scratch })
    }
}

impl FileSet for GitFiles {
    fn entries(&self) -> &[FileEntry] {
        &self.gathered.entries
    }

    fn sealed(&self) -> &[FileEntry] {
        &self.gathered.sealed
    }

    fn refused(&self) -> &[(String, Trouble)] {
        &self.gathered.refused
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble> {
        let missing = |detail: String| {
            Trouble::new(codes::OBJECT_UNREADABLE, format!("its content cannot be read: {detail}"))
                .with_hint("`git fsck --full` in the repository says more; pushing again restores missing objects")
        };
        let id = gix::ObjectId::from_hex(entry.content_id.as_bytes()).map_err(|e| missing(e.to_string()))?;
        let mut blob = self.repository.find_blob(id).map_err(|e| missing(chain(&e)))?;
        let bytes = blob.take_data();
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(too_large(bytes.len() as u64));
        }
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(not_utf8(e.valid_up_to())),
        }
    }
}

/// The tree of the config root in `revision`.
fn config_root(
    repository: &gix::Repository,
    path: &Path,
    revision: &Revision,
    parts: &[&str],
) -> Result<gix::ObjectId, SourceError> {
    let unreadable = |source: gix::Error| SourceError::Revision {
        path: path.to_owned(),
        revision: revision.to_string(),
        source: Box::new(source),
    };
    let id = object_id(path, revision)?;
    let tree = repository.find_commit(id).and_then(|commit| commit.tree()).map_err(unreadable)?;
    if parts.is_empty() {
        return Ok(tree.id);
    }
    let inside = tree.lookup_entry(parts.iter().map(|part| part.as_bytes())).map_err(unreadable)?;
    let inside = inside
        .filter(|entry| entry.mode().is_tree())
        .ok_or_else(|| SourceError::NoRoot { revision: revision.short().to_owned(), root: parts.join("/") })?;
    Ok(inside.object_id())
}

/// The directories that lead to the config root; none for the root of the tree.
fn root_parts(root: &str) -> Result<Vec<&str>, SourceError> {
    let parts: Vec<&str> = root.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if root.starts_with('/') || parts.contains(&"..") || root.chars().any(char::is_control) {
        return Err(SourceError::RootName { root: root.chars().take(80).collect() });
    }
    Ok(parts)
}

fn kind_of(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::Tree => Kind::Directory,
        EntryKind::Blob | EntryKind::BlobExecutable => Kind::File,
        EntryKind::Link => Kind::Symlink,
        EntryKind::Commit => Kind::Submodule,
    }
}

/// The id of a revision as gix has it.
pub(super) fn object_id(path: &Path, revision: &Revision) -> Result<gix::ObjectId, SourceError> {
    gix::ObjectId::from_hex(revision.as_str().as_bytes()).map_err(|source| SourceError::Revision {
        path: path.to_owned(),
        revision: revision.to_string(),
        source: source.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_root_is_a_relative_path_that_stays_inside() {
        assert_eq!(root_parts("").unwrap(), Vec::<&str>::new());
        assert_eq!(root_parts("./").unwrap(), Vec::<&str>::new());
        assert_eq!(root_parts("a/b/").unwrap(), ["a", "b"]);
        for bad in ["/etc", "../x", "a/../b", "a\nb"] {
            assert!(matches!(root_parts(bad), Err(SourceError::RootName { .. })), "{bad:?}");
        }
    }
}
