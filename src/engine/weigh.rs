//! What a snapshot has below each of some paths: its own totals are of the whole.

use std::collections::BTreeMap;
use std::path::Path;

use super::messages::{self, Entry, Message};
use super::repository::garbled;
use super::snapshots::{missing_or, snapshot_id};
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::{Context, Exit};

/// Files and bytes.
pub type Counts = (u64, u64);

impl Restic {
    /// Counts what the snapshot has at and below each of `paths`; one that it has nothing of is left out.
    ///
    /// # Errors
    /// No such snapshot, and everything that restic can fail with.
    pub async fn weigh(
        &self,
        access: &RepositoryAccess,
        snapshot: &str,
        paths: &[String],
        context: &Context,
    ) -> Result<BTreeMap<String, Counts>, EngineError> {
        let id = snapshot_id(snapshot)?;
        self.check_identity(access, context).await?;
        let mut counted: BTreeMap<&Path, Option<Counts>> = paths.iter().map(|path| (Path::new(path), None)).collect();
        // The snapshot itself comes first, also where it holds nothing.
        let mut understood = false;
        let mut hear = |line: &str| {
            let Some(message) = messages::parse(line) else { return };
            understood = true;
            if let Message::Node(entry) = message {
                count(&mut counted, &entry);
            }
        };
        let call = Call::new("ls", &["--json"]).without_lock().arg(id);
        let answer = self.call(access, context, &call, &mut hear).await?;
        if answer.exit != Exit::Success {
            return Err(missing_or(answer.error("ls", access), id, access));
        }
        if !understood {
            return Err(garbled("ls"));
        }
        Ok(counted.into_iter().filter_map(|(path, counts)| Some((path.display().to_string(), counts?))).collect())
    }
}

fn count(counted: &mut BTreeMap<&Path, Option<Counts>>, entry: &Entry) {
    let is_file = entry.kind == "file";
    for above in Path::new(&entry.path).ancestors() {
        let Some(counts) = counted.get_mut(above) else { continue };
        let (files, bytes) = counts.get_or_insert_default();
        *files += u64::from(is_file);
        *bytes = bytes.saturating_add(if is_file { entry.bytes } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_for_each_path_that_it_lies_below_and_a_directory_tells_that_one_is_there() {
        let paths = ["/a", "/a/b", "/c", "/gone"];
        let mut counted: BTreeMap<&Path, Option<Counts>> = paths.iter().map(|path| (Path::new(*path), None)).collect();
        for (path, kind, bytes) in [
            ("/a", "dir", 0),
            ("/a/b", "dir", 0),
            ("/a/b/x", "file", 5),
            ("/ab", "file", 90),
            ("/a/l", "symlink", 7),
            ("/c", "file", 3),
        ] {
            count(&mut counted, &Entry { path: path.to_owned(), kind: kind.to_owned(), bytes, modified: None });
        }
        let of = |path: &str| counted[Path::new(path)];
        assert_eq!([of("/a"), of("/a/b"), of("/c"), of("/gone")], [Some((1, 5)), Some((1, 5)), Some((1, 3)), None]);
    }
}
