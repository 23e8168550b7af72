//! The mounts of a job's newest good run, beside its record: they may be many, and each has a path of up to 4 KiB.
//!
//! ```text
//! meta  mounts/<target>/<policy>/<number>   Chunk
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, parse};
use super::{Batch, StoreError, Tree};
use crate::store::record::JobRecord;
use crate::types::JobId;

const MOUNTS: &str = "mounts/";

/// Paths in one value, in bytes as they are written; one alone has six times 4096 at most.
const CHUNK_BYTES: usize = 20 << 10;

/// Values behind the last that are removed, too. What a longer list of before leaves is not read, see [`Chunk::of`].
const STALE_MAX: usize = 16;

#[derive(Default, Serialize, Deserialize)]
struct Chunk {
    /// How many there are; those behind are of a longer list of before.
    of: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    points: Vec<String>,
    /// Those that are no UTF-8, in hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    raw: Vec<String>,
}

impl Chunk {
    fn paths(self) -> impl Iterator<Item = PathBuf> {
        let raw = self.raw.into_iter().filter_map(|hex| Some(OsString::from_vec(hex::decode(hex).ok()?).into()));
        self.points.into_iter().map(PathBuf::from).chain(raw)
    }
}

impl Ledger {
    /// Puts the mounts that lie beside the records back into them.
    pub(super) fn join_mounts(&self, jobs: &mut [JobRecord]) -> Result<(), StoreError> {
        let prefix = match jobs {
            [] => return Ok(()),
            [one] => format!("{MOUNTS}{}/", one.id),
            _ => MOUNTS.to_owned(),
        };
        let mut found: BTreeMap<JobId, BTreeMap<usize, Chunk>> = BTreeMap::new();
        self.each(Tree::Meta, prefix.as_bytes(), |key, value| {
            let Some((job, number)) = place(key) else { return };
            let Some(chunk) = parse::<Chunk>(Tree::Meta, key, value) else { return };
            found.entry(job).or_default().insert(number, chunk);
        })?;
        for job in jobs {
            let Some(chunks) = found.remove(&job.id) else { continue };
            let of = chunks.get(&0).map_or(0, |first| first.of);
            job.usual
                .mounts
                .extend(chunks.into_iter().filter(|(number, _)| *number < of).flat_map(|(_, each)| each.paths()));
        }
        Ok(())
    }
}

impl Batch {
    /// Puts the mounts beside the record of the job, also that there are none.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn put_mounts(&mut self, job: &JobId, mounts: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut bytes = 0;
        for point in mounts {
            let more = written(point);
            if chunks.is_empty() || bytes + more > CHUNK_BYTES {
                chunks.push(Chunk::default());
                bytes = 0;
            }
            bytes += more;
            if let Some(chunk) = chunks.last_mut() {
                add(chunk, point);
            }
        }
        let of = chunks.len();
        for (number, chunk) in chunks.into_iter().enumerate() {
            self.meta_put(&key(job, number), &Chunk { of, ..chunk })?;
        }
        for number in of..of + STALE_MAX {
            self.meta_remove(&key(job, number));
        }
        Ok(())
    }
}

fn add(chunk: &mut Chunk, point: &Path) {
    match point.to_str() {
        Some(text) => chunk.points.push(text.to_owned()),
        None => chunk.raw.push(hex::encode(point.as_os_str().as_bytes())),
    }
}

/// How long it is in the JSON.
fn written(point: &Path) -> usize {
    let of = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    let length: usize = match point.to_str() {
        Some(text) => text.bytes().map(of).sum(),
        None => point.as_os_str().len() * 2,
    };
    length + r#"",""#.len()
}

fn key(job: &JobId, number: usize) -> String {
    format!("{MOUNTS}{job}/{number}")
}

fn place(key: &[u8]) -> Option<(JobId, usize)> {
    let (job, number) = std::str::from_utf8(key).ok()?.strip_prefix(MOUNTS)?.rsplit_once('/')?;
    Some((job.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::Arc;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{export, import};

    fn job(mounts: impl Iterator<Item = PathBuf>) -> JobRecord {
        let mut job = serde_json::from_value::<JobRecord>(serde_json::json!({
            "id": {"target": "tank", "policy": "daily"}, "schedule_key": ""
        }))
        .unwrap();
        job.usual.mounts = mounts.collect();
        job
    }

    fn put(ledger: &Ledger, job: &JobRecord) {
        let mut batch = Batch::default();
        batch.put_job(job).unwrap();
        batch.put_mounts(&job.id, &job.usual.mounts).unwrap();
        ledger.commit(batch).unwrap();
    }

    fn read(ledger: &Ledger, job: &JobRecord) -> BTreeSet<PathBuf> {
        ledger.job(&job.id).unwrap().unwrap().usual.mounts
    }

    #[test]
    fn every_mount_comes_back_however_many_long_and_odd_they_are_and_from_an_export_too() {
        let store = Arc::new(MemoryStore::default());
        let ledger = Ledger::new(store.clone());
        let long = |n: usize| PathBuf::from(format!("/tank/{}/{n}", "\u{1}".repeat(4080)));
        let odd = PathBuf::from(OsStr::from_bytes(&[b"/tank/".as_slice(), &[0xff; 4000]].concat()));
        let many = (0..2000).map(|n| PathBuf::from(format!("/tank/data/{n}"))).chain((0..9).map(long)).chain([odd]);
        let all = job(many);
        put(&ledger, &all);
        assert_eq!(read(&ledger, &all), all.usual.mounts);
        assert_eq!(ledger.jobs().unwrap(), std::slice::from_ref(&all));
        let mut exported = Vec::new();
        export::export(&*store, &mut exported).unwrap();
        let other = Arc::new(MemoryStore::default());
        import::import(&*other, &mut exported.as_slice()).unwrap();
        assert_eq!(read(&Ledger::new(other), &all), all.usual.mounts);
        // Fewer, none, and more again: nothing of a longer list comes back.
        for fewer in [1, 0, 60] {
            let less = job(all.usual.mounts.iter().take(fewer).cloned());
            put(&ledger, &less);
            assert_eq!(read(&ledger, &less), less.usual.mounts, "{fewer}");
        }
    }

    #[test]
    fn what_an_older_larder_kept_in_the_record_is_read() {
        let ledger = Ledger::new(Arc::new(MemoryStore::default()));
        let mut value = serde_json::to_value(job(std::iter::empty())).unwrap();
        value["usual"]["mounts"] = serde_json::json!(["/tank/docs"]);
        let mut batch = Batch::default();
        batch.put_json(Tree::Jobs, "tank/daily", &value).unwrap();
        ledger.commit(batch).unwrap();
        let mut old = ledger.jobs().unwrap().remove(0);
        assert_eq!(old.usual.mounts, BTreeSet::from([PathBuf::from("/tank/docs")]));
        old.usual.mounts.clear();
        put(&ledger, &old);
        assert_eq!(read(&ledger, &old), BTreeSet::new());
    }
}
