//! Lists snapshots and what is in them; forgets those that are named.

use std::collections::BTreeSet;

use super::control::on_storage;
use super::messages::{self, Entry, Message, Snapshot};
use super::repository::{garbled, local_path};
use super::{Call, EngineError, IDS_MAX, RepositoryAccess, Restic};
use crate::look::{self, LOOK_MAX};
use crate::process::{Context, Exit};
use crate::storage::{ControlClient, StorageError};

/// The files of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList {
    pub entries: Vec<Entry>,
    /// There are more than were asked for.
    pub truncated: bool,
}

impl Restic {
    /// The snapshots that have all of `tags`, oldest first. No tags: all.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn snapshots(
        &self,
        access: &RepositoryAccess,
        tags: &[String],
        context: &Context,
    ) -> Result<Vec<Snapshot>, EngineError> {
        self.check_identity(access, context).await?;
        let mut call = Call::new("snapshots", &["--json"]).without_lock();
        if !tags.is_empty() {
            call = call.arg(format!("--tag={}", tags.join(",")));
        }
        let (answer, output) = self.collect(access, context, &call).await?;
        answer.success("snapshots", access)?;
        let mut snapshots = messages::snapshots(&output).ok_or_else(|| garbled("snapshots"))?;
        snapshots.sort_by(|one, other| (one.time, &one.id).cmp(&(other.time, &other.id)));
        Ok(snapshots)
    }

    /// What is in a snapshot, at most `entries_max` entries, in restic's order.
    ///
    /// # Errors
    /// No such snapshot, and everything that restic can fail with.
    pub async fn list_files(
        &self,
        access: &RepositoryAccess,
        snapshot: &str,
        entries_max: usize,
        context: &Context,
    ) -> Result<FileList, EngineError> {
        let id = snapshot_id(snapshot)?;
        self.check_identity(access, context).await?;
        let mut list = FileList { entries: Vec::new(), truncated: false };
        let enough = context.cancel.child_token();
        // The snapshot itself comes first, also where it holds nothing.
        let mut understood = false;
        let mut hear = |line: &str| {
            let Some(message) = messages::parse(line) else { return };
            understood = true;
            if let Message::Node(entry) = message {
                if list.entries.len() < entries_max {
                    list.entries.push(entry);
                } else if !list.truncated {
                    list.truncated = true;
                    enough.cancel();
                }
            }
        };
        let inner = Context { cancel: enough.clone(), ..context.clone() };
        let call = Call::new("ls", &["--json"]).without_lock().arg(id);
        let answer = self.call(access, &inner, &call, &mut hear).await?;
        if list.truncated && !context.cancel.is_cancelled() {
            return Ok(list);
        }
        if answer.exit != Exit::Success {
            return Err(missing_or(answer.error("ls", access), id, access));
        }
        if !understood {
            return Err(garbled("ls"));
        }
        Ok(list)
    }

    /// Forgets exactly these snapshots. Data stays until [`Restic::prune`].
    ///
    /// Which ones is decided elsewhere: restic's own rules know neither the site nor the order of its runs.
    ///
    /// # Errors
    /// One is no whole id; one is still there afterwards, where that can be seen; and everything that restic can fail with.
    pub async fn forget(
        &self,
        access: &RepositoryAccess,
        ids: &[String],
        context: &Context,
    ) -> Result<(), EngineError> {
        if let Some(bad) = ids.iter().find(|id| !messages::is_id(id)) {
            return Err(EngineError::SnapshotId { id: bad.chars().take(80).collect() });
        }
        self.check_identity(access, context).await?;
        for some in ids.chunks(IDS_MAX) {
            let call = Call::new("forget", &["--json"]).naming(some);
            self.call_locking(access, context, call, &mut |_| {}).await?.success("forget", access)?;
        }
        let left = absent(access, ids).await.map_or(0, |gone| ids.len() - gone.len());
        if left == 0 { Ok(()) } else { Err(EngineError::StillThere { left, location: access.location.clone() }) }
    }
}

/// Those of `ids` that the repository has no file of; none where that can't be told now. Costs no call of restic.
pub async fn absent(access: &RepositoryAccess, ids: &[String]) -> Option<Vec<String>> {
    let ids = ids.to_vec();
    let Some(directory) = local_path(access).map(|path| path.join("snapshots")) else {
        return on_storage(access, move |storage| gone_from(storage, ids)).await.ok();
    };
    let looked = directory.clone();
    let look = move || {
        let is_absent = |id: &String| looked.join(id).try_exists().map(|there| !there);
        let found: std::io::Result<Vec<(String, bool)>> =
            ids.into_iter().map(|id| is_absent(&id).map(|absent| (id, absent))).collect();
        found.ok().map(|all| all.into_iter().filter(|(_, absent)| *absent).map(|(id, _)| id).collect())
    };
    look::at(&directory, LOOK_MAX, look).await.ok().flatten()
}

/// One question for one snapshot, and one for all of many.
fn gone_from(storage: &dyn ControlClient, mut ids: Vec<String>) -> Result<Vec<String>, StorageError> {
    if let [only] = ids.as_slice() {
        let is_there = storage.stat(&format!("snapshots/{only}"))?.is_some();
        return Ok(if is_there { Vec::new() } else { ids });
    }
    let there: BTreeSet<String> = storage.list("snapshots")?.into_iter().map(|each| each.name).collect();
    ids.retain(|id| !there.contains(id));
    Ok(ids)
}

/// Checks that `text` can be nothing but a snapshot's id.
pub(super) fn snapshot_id(text: &str) -> Result<&str, EngineError> {
    let is_id = (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text) } else { Err(EngineError::SnapshotId { id: text.chars().take(80).collect() }) }
}

/// How restic says it of a part of an id, and of a whole one.
pub(super) fn is_about_a_missing_snapshot(detail: &str) -> bool {
    let file_is_gone = ["no such file or directory", "does not exist"].iter().any(|gone| detail.contains(gone));
    detail.contains("no matching ID found") || (detail.contains("/snapshots/") && file_is_gone)
}

/// `error`, or that the snapshot is missing when that is what restic meant.
pub(super) fn missing_or(error: EngineError, id: &str, access: &RepositoryAccess) -> EngineError {
    match error {
        EngineError::Failed { detail, .. } if is_about_a_missing_snapshot(&detail) => {
            EngineError::SnapshotMissing { id: id.to_owned(), location: access.location.clone() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    #[test]
    fn only_hex_digits_are_a_snapshot_id() {
        for bad in ["", "latest", "--help", "abc", "../../../x", "1234567g", &"a".repeat(65)] {
            assert_eq!(snapshot_id(bad).unwrap_err().code(), codes::BAD_SNAPSHOT_ID, "{bad}");
        }
        assert!(snapshot_id("0123abcd").is_ok());
    }
}
