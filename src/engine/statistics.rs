//! How much lies in a repository, and how much of it would go. Nothing here takes a lock or writes.

use serde_json::Value;

use super::messages;
use super::repository::garbled;
use super::snapshots::absent;
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::Context;

/// Snapshots of one call that reads each of them whole: a call has a deadline.
const READ_WHOLE_MAX: usize = 1_000;

/// What some snapshots need of a repository; what several of them need is counted once.
///
/// From `restic stats --mode raw-data`: data and the trees that name it, without indexes and the heads of packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    pub snapshots: u64,
    /// As it lies there, in bytes: compressed and encrypted.
    pub stored: u64,
    /// The same before it was compressed, in bytes; `stored` in a repository of version 1, which compresses nothing.
    pub uncompressed: u64,
}

/// What a prune would do, in bytes. restic rounds them: from 1 KiB on they are right to a thousandth of their unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldFree {
    pub freed: u64,
    /// What no snapshot needs and would lie there even so: packing it anew would cost more.
    pub unused: u64,
}

impl Restic {
    /// What exactly the snapshots `ids` need.
    ///
    /// # Errors
    /// One is no whole id or is not there (any more), and everything that restic can fail with.
    pub async fn needed(
        &self,
        access: &RepositoryAccess,
        ids: &[&str],
        context: &Context,
    ) -> Result<Needed, EngineError> {
        // Without an id it would speak of all that are there.
        if ids.is_empty() {
            return Ok(Needed::default());
        }
        let output = self.stats(access, "raw-data", ids, context).await?;
        let needed = needed(&output).ok_or_else(|| garbled("stats"))?;
        if needed.snapshots == ids.len() as u64 {
            return Ok(needed);
        }
        // It leaves out what it does not find, and calls that a success.
        let named: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let gone = absent(access, &named).await.and_then(|gone| gone.into_iter().next());
        Err(gone.map_or_else(
            || garbled("stats"),
            |id| EngineError::SnapshotMissing { id, location: access.location.clone() },
        ))
    }

    /// How many bytes a restore of each of the snapshots `ids` would write, all together. It reads each of them whole.
    ///
    /// # Errors
    /// As [`Self::needed`].
    pub async fn restore_size(
        &self,
        access: &RepositoryAccess,
        ids: &[&str],
        context: &Context,
    ) -> Result<u64, EngineError> {
        let mut bytes: u64 = 0;
        for some in ids.chunks(READ_WHOLE_MAX) {
            let output = self.stats(access, "restore-size", some, context).await?;
            bytes = bytes.saturating_add(total(&output).ok_or_else(|| garbled("stats"))?);
        }
        Ok(bytes)
    }

    async fn stats(
        &self,
        access: &RepositoryAccess,
        mode: &str,
        ids: &[&str],
        context: &Context,
    ) -> Result<String, EngineError> {
        whole(ids.iter().copied())?;
        self.check_identity(access, context).await?;
        let call = Call::new("stats", &["--json", "--mode", mode]).without_lock();
        let call = call.naming(ids);
        let (answer, output) = self.collect(access, context, &call).await?;
        answer.success("stats", access)?;
        Ok(output)
    }

    /// What a prune would free now, if the snapshots `ids` were forgotten before it: restic tries it and changes nothing.
    ///
    /// # Errors
    /// One is no whole id, or restic does not say it as it used to, and everything that it can fail with.
    pub async fn would_free(
        &self,
        access: &RepositoryAccess,
        ids: &[String],
        context: &Context,
    ) -> Result<WouldFree, EngineError> {
        whole(ids.iter().map(String::as_str))?;
        self.check_identity(access, context).await?;
        // No version says these figures in JSON.
        let call = match ids {
            [] => Call::new("prune", &["--dry-run"]),
            _ => Call::new("forget", &["--dry-run", "--prune"]),
        };
        let call = call.without_lock().naming(ids);
        let (mut freed, mut unused) = (None, None);
        let mut hear = |line: &str| {
            if let Some(figure) = line.trim_start().strip_prefix("total prune:") {
                freed = messages::amount(figure);
            } else if let Some(figure) = line.trim_start().strip_prefix("unused size after prune:") {
                unused = messages::amount(figure);
            }
        };
        let answer = self.call(access, context, &call, &mut hear).await?;
        answer.success(call.operation, access)?;
        let (Some(freed), Some(unused)) = (freed, unused) else { return Err(garbled(call.operation)) };
        Ok(WouldFree { freed, unused })
    }
}

/// A part of an id would name another snapshot once there is a second one.
fn whole<'a>(mut ids: impl Iterator<Item = &'a str>) -> Result<(), EngineError> {
    match ids.find(|id| !messages::is_id(id)) {
        Some(bad) => Err(EngineError::SnapshotId { id: bad.chars().take(80).collect() }),
        None => Ok(()),
    }
}

/// The answer of `stats --mode raw-data`.
fn needed(output: &str) -> Option<Needed> {
    let value: Value = serde_json::from_str(output).ok()?;
    let stored = value.get("total_size")?.as_u64()?;
    Some(Needed {
        snapshots: value.get("snapshots_count")?.as_u64()?,
        stored,
        // Left out where it is zero, and of version 1.
        uncompressed: value.get("total_uncompressed_size").map_or(Some(stored), Value::as_u64)?,
    })
}

/// The bytes in the answer of `stats --mode restore-size`.
fn total(output: &str) -> Option<u64> {
    serde_json::from_str::<Value>(output).ok()?.get("total_size")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    // As restic 0.18.0 and 0.19.1 answered, alike, of the same repository; then of an empty one, and of version 1.
    const OF_THREE: &str = r#"{"total_size":1502232,"total_uncompressed_size":3503846,"compression_ratio":2.332426682429878,"compression_progress":100,"compression_space_saving":57.12619789796698,"total_blob_count":10,"snapshots_count":3}"#;
    const OF_NONE: &str = r#"{"total_size":0,"snapshots_count":0}"#;
    const OF_VERSION_1: &str = r#"{"total_size":1501566,"total_blob_count":5,"snapshots_count":1}"#;
    const RESTORE_SIZE: &str = r#"{"total_size":5800000,"total_file_count":10,"snapshots_count":3}"#;

    #[test]
    fn what_restic_answers_is_read_and_nothing_else_is_believed() {
        let of = |snapshots, stored, uncompressed| Some(Needed { snapshots, stored, uncompressed });
        assert_eq!(needed(OF_THREE), of(3, 1_502_232, 3_503_846));
        assert_eq!(needed(OF_NONE), of(0, 0, 0));
        assert_eq!(needed(OF_VERSION_1), of(1, 1_501_566, 1_501_566));
        assert_eq!((total(RESTORE_SIZE), total(OF_NONE)), (Some(5_800_000), Some(0)));
        for bad in [
            "",
            "[]",
            "null",
            r#"{"snapshots_count":1}"#,
            r#"{"total_size":1}"#,
            r#"{"total_size":-1,"snapshots_count":1}"#,
            r#"{"total_size":"1","snapshots_count":1}"#,
            r#"{"total_size":1.5,"snapshots_count":1}"#,
            r#"{"total_size":1,"total_uncompressed_size":null,"snapshots_count":1}"#,
        ] {
            assert_eq!(needed(bad), None, "{bad}");
        }
        assert_eq!((total(""), total(r#"{"total_size":-1}"#)), (None, None));
    }
}
