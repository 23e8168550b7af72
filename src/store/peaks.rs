//! The most that a job's kept backups have, beside its record: a thousand sources are more than one value may hold.
//!
//! ```text
//! meta  peaks/<target>/<policy>/<number>   Chunk
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, parse};
use super::{Batch, StoreError, Tree};
use crate::run::usual::peaks::{PARTS_MAX, Peak, Peaks};
use crate::store::record::JobRecord;
use crate::types::{JobId, RunId};

const PEAKS: &str = "peaks/";

/// Parts in one value: each has 170 bytes at most.
const CHUNK_PARTS: usize = 150;

#[derive(Serialize, Deserialize)]
struct Chunk {
    #[serde(default)]
    since: Option<RunId>,
    parts: BTreeMap<String, Peak>,
}

impl Ledger {
    /// Puts what lies beside the records back into them.
    pub(super) fn join_peaks(&self, jobs: &mut [JobRecord]) -> Result<(), StoreError> {
        let prefix = match jobs {
            [] => return Ok(()),
            [one] => format!("{PEAKS}{}/", one.id),
            _ => PEAKS.to_owned(),
        };
        let mut found: BTreeMap<JobId, Peaks> = BTreeMap::new();
        self.each(Tree::Meta, prefix.as_bytes(), |key, value| {
            let Some(job) = job_of(key) else { return };
            let Some(chunk) = parse::<Chunk>(Tree::Meta, key, value) else { return };
            let peaks = found.entry(job).or_default();
            peaks.since = chunk.since;
            peaks.parts.extend(chunk.parts);
        })?;
        for job in jobs {
            job.usual.peaks = found.remove(&job.id).unwrap_or_default();
        }
        Ok(())
    }
}

impl Batch {
    /// Puts what lies beside the record of the job, also that nothing does.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put_peaks(&mut self, job: &JobId, peaks: &Peaks) -> Result<(), StoreError> {
        let mut parts = peaks.parts.iter();
        for number in 0..PARTS_MAX.div_ceil(CHUNK_PARTS) {
            let key = format!("{PEAKS}{job}/{number}");
            let parts: BTreeMap<String, Peak> =
                parts.by_ref().take(CHUNK_PARTS).map(|(part, peak)| (part.clone(), *peak)).collect();
            if parts.is_empty() {
                self.meta_remove(&key);
            } else {
                self.meta_put(&key, &Chunk { since: peaks.since, parts })?;
            }
        }
        Ok(())
    }
}

fn job_of(key: &[u8]) -> Option<JobId> {
    let (job, _) = std::str::from_utf8(key).ok()?.strip_prefix(PEAKS)?.rsplit_once('/')?;
    job.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::run::usual::{Load, Weight};
    use crate::store::memory::MemoryStore;

    #[test]
    fn what_a_thousand_sources_have_comes_back_and_goes_with_what_is_accepted() {
        let run_id = |n: u8| RunId::from_bytes([n; 16]);
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        let mut job = serde_json::from_value::<JobRecord>(serde_json::json!({
            "id": {"target": "files", "policy": "daily"}, "schedule_key": ""
        }))
        .unwrap();
        let mut load = Load { total: Weight { bytes: u64::MAX, files: u64::MAX }, ..Load::default() };
        for n in 0..1200_u64 {
            load.add(&format!("/srv/{n}"), Weight { bytes: u64::MAX - n, files: u64::MAX });
        }
        job.usual.hold(Some(&load));
        job.usual.keep(&load, run_id(1), None);
        job.usual.keep(&load, run_id(2), Some(run_id(1)));
        let put = |job: &JobRecord| {
            let mut batch = Batch::default();
            batch.put_job(job).unwrap();
            batch.put_peaks(&job.id, &job.usual.peaks).unwrap();
            ledger.commit(batch).unwrap();
        };
        put(&job);
        assert_eq!(job.usual.peaks.parts.len(), PARTS_MAX);
        assert_eq!(ledger.job(&job.id).unwrap().unwrap(), job);
        assert_eq!(ledger.jobs().unwrap(), [job.clone()]);
        job.usual.peaks = Peaks::default();
        put(&job);
        assert_eq!(ledger.job(&job.id).unwrap().unwrap().usual.peaks, Peaks::default());
    }
}
