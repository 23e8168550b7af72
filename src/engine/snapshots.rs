//! Lists snapshots and what is in them; forgets the ones that a retention does not keep.

use super::messages::{self, Entry, Message, Snapshot};
use super::repository::garbled;
use super::{Call, EngineError, RepositoryAccess, Restic, job_tags, keep};
use crate::config::model::Retention;
use crate::process::{Context, Exit};
use crate::types::JobId;

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

    /// Forgets the snapshots of `job` that `retention` does not keep; returns their ids. Data stays until
    /// [`Restic::prune`]. Only snapshots with all three tags of the job are looked at.
    ///
    /// # Errors
    /// A retention that keeps nothing is refused; and everything that restic can fail with.
    pub async fn forget(
        &self,
        access: &RepositoryAccess,
        job: &JobId,
        retention: &Retention,
        context: &Context,
    ) -> Result<Vec<String>, EngineError> {
        self.forget_or_tell(access, job, retention, false, context).await
    }

    /// What [`Restic::forget`] would forget; changes nothing.
    ///
    /// # Errors
    /// As `forget`.
    pub async fn would_forget(
        &self,
        access: &RepositoryAccess,
        job: &JobId,
        retention: &Retention,
        context: &Context,
    ) -> Result<Vec<String>, EngineError> {
        self.forget_or_tell(access, job, retention, true, context).await
    }

    async fn forget_or_tell(
        &self,
        access: &RepositoryAccess,
        job: &JobId,
        retention: &Retention,
        only_tell: bool,
        context: &Context,
    ) -> Result<Vec<String>, EngineError> {
        let rules = keep_rules(retention);
        if rules.is_empty() {
            return Err(EngineError::EmptyRetention { job: job.to_string() });
        }
        self.check_identity(access, context).await?;
        // One group: the tags choose it, whatever paths and host the snapshots have.
        let mut call = Call::new("forget", &["--json", "--group-by="]);
        call = call.arg(format!("--tag={}", job_tags(job).join(",")));
        for rule in rules {
            call = call.arg(rule);
        }
        if only_tell {
            // Only reads, so no lock of anybody is in its way.
            call = call.arg("--dry-run").without_lock();
        }
        let mut output = String::new();
        let answer = self.call_locking(access, context, call, &mut |line| keep(&mut output, line)).await?;
        answer.success("forget", access)?;
        if output.trim().is_empty() {
            // No snapshot has these tags.
            return Ok(Vec::new());
        }
        messages::forgotten(&output).ok_or_else(|| garbled("forget"))
    }
}

/// restic's arguments for what is kept; empty when nothing is.
fn keep_rules(retention: &Retention) -> Vec<String> {
    let Retention { last, hourly, daily, weekly, monthly, yearly } = retention;
    [("last", last), ("hourly", hourly), ("daily", daily), ("weekly", weekly), ("monthly", monthly), ("yearly", yearly)]
        .into_iter()
        .filter_map(|(name, count)| count.filter(|count| *count > 0).map(|count| format!("--keep-{name}={count}")))
        .collect()
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

    #[test]
    fn a_retention_of_zeros_keeps_nothing_and_is_seen_as_that() {
        assert_eq!(keep_rules(&Retention::default()), [""; 0]);
        let zeros = Retention { last: Some(0), daily: Some(0), ..Retention::default() };
        assert_eq!(keep_rules(&zeros), [""; 0]);
        let some = Retention { last: Some(0), daily: Some(7), yearly: Some(1), ..Retention::default() };
        assert_eq!(keep_rules(&some), ["--keep-daily=7", "--keep-yearly=1"]);
    }

    #[test]
    fn only_hex_digits_are_a_snapshot_id() {
        for bad in ["", "latest", "--help", "abc", "../../../x", "1234567g", &"a".repeat(65)] {
            assert_eq!(snapshot_id(bad).unwrap_err().code(), "bad_snapshot_id", "{bad}");
        }
        assert!(snapshot_id("0123abcd").is_ok());
    }
}
