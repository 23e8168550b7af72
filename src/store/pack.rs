//! A pack: finished runs of one job in one value, with their logs, deflated.
//!
//! ```text
//! value   "P1", length of what follows when it is inflated (u32), then a zlib stream of
//!         job (u32 length, text), number of runs (1 byte),
//!         for each run, oldest first: id (16 bytes), mark (1 byte), record (u32 length, JSON),
//!         for each run: log (u32 length, JSON list of events)
//! index   for each run: id (16 bytes), mark (1 byte)
//! ```
//! A record of a run is some 800 bytes of JSON and its log 500, most of it the same from run to run: 32 of them come to
//! 240 bytes a run. What is packed is kept byte for byte.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::VALUE_BYTES_MAX;
use crate::types::{JobId, RunId};

/// Runs in one pack, at most.
pub(super) const PACK_RUNS_MAX: usize = 32;

/// Bytes of one pack when it is read, so that looking at one run stays cheap; one run alone may have more.
pub(super) const PLAIN_BYTES_MAX: usize = 128 << 10;

/// Bytes that are read of a pack whatever it says; one of ours has fewer.
const READ_BYTES_MAX: usize = 1 << 20;

const MAGIC: &[u8; 2] = b"P1";

/// An id and a mark.
const INDEX_BYTES: usize = 17;

/// What a run is, beside its id, for who does not read it.
const KNOWN: u8 = 0;
const FOUND_AGAIN: u8 = 1;

/// A finished run as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub id: RunId,
    /// Whether only its manifest told of it.
    pub found_again: bool,
    /// A `RunRecord` as JSON.
    pub record: Vec<u8>,
    /// Its events as a JSON list.
    pub log: Vec<u8>,
}

impl Packed {
    /// Bytes that it takes in a pack before that is deflated.
    pub(super) fn plain_bytes(&self) -> usize {
        INDEX_BYTES + self.record.len() + self.log.len()
    }
}

/// Some runs of one job, oldest first; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack {
    pub job: JobId,
    pub runs: Vec<Packed>,
}

impl Pack {
    /// The longest beginning of `runs` (oldest first) that makes one pack, with its value; none: not even one run fits.
    pub(super) fn of(job: &JobId, runs: &[Packed]) -> Option<(Self, Vec<u8>)> {
        let mut plain = 0;
        let fits = |run: &&Packed| {
            plain += run.plain_bytes();
            plain <= PLAIN_BYTES_MAX
        };
        let mut count = runs.iter().take(PACK_RUNS_MAX).take_while(fits).count().max(1);
        while let Some(some) = runs.get(..count).filter(|some| !some.is_empty()) {
            let pack = Self { job: job.clone(), runs: some.to_vec() };
            match pack.to_value() {
                Some(value) if value.len() <= VALUE_BYTES_MAX => return Some((pack, value)),
                _ => count /= 2,
            }
        }
        None
    }

    fn to_value(&self) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        push(&mut plain, self.job.to_string().as_bytes())?;
        plain.push(u8::try_from(self.runs.len()).ok()?);
        // What is alike stands together, and so is told once.
        for run in &self.runs {
            plain.extend(index_of(run.id, run.found_again));
            push(&mut plain, &run.record)?;
        }
        self.runs.iter().try_for_each(|run| push(&mut plain, &run.log))?;
        let mut value = MAGIC.to_vec();
        value.extend(u32::try_from(plain.len()).ok()?.to_be_bytes());
        // Room for what nothing makes smaller.
        value.reserve(plain.len() + plain.len() / 100 + 64);
        match Compress::new(Compression::default(), true).compress_vec(&plain, &mut value, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Some(value),
            _ => None,
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What about it is not as it should be.
    pub(super) fn from_value(value: &[u8]) -> Result<Self, String> {
        let plain = inflate(value)?;
        Self::parse(&plain).ok_or_else(|| "what it holds is no list of runs".to_owned())
    }

    fn parse(mut plain: &[u8]) -> Option<Self> {
        let rest = &mut plain;
        let job = std::str::from_utf8(next(rest)?).ok()?.parse().ok()?;
        let count = usize::from(*rest.split_off_first()?);
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, found_again) = from_index(rest.split_off(..INDEX_BYTES)?)?;
            runs.push(Packed { id, found_again, record: next(rest)?.to_vec(), log: Vec::new() });
        }
        for run in &mut runs {
            run.log = next(rest)?.to_vec();
        }
        let is_whole = rest.is_empty() && !runs.is_empty() && runs.is_sorted_by(|a, b| a.id < b.id);
        is_whole.then_some(Self { job, runs })
    }

    /// What the index says of it.
    pub(super) fn index(&self) -> Vec<u8> {
        self.runs.iter().flat_map(|run| index_of(run.id, run.found_again)).collect()
    }

    /// The newest run, which the pack is named by.
    pub(super) fn newest(&self) -> Option<RunId> {
        self.runs.last().map(|run| run.id)
    }

    pub(super) fn take(self, id: RunId) -> Option<Packed> {
        self.runs.into_iter().find(|run| run.id == id)
    }
}

/// The runs of a pack by its index, oldest first: ids, and whether each was found again.
pub(super) fn indexed(index: &[u8]) -> impl DoubleEndedIterator<Item = (RunId, bool)> {
    index.chunks_exact(INDEX_BYTES).filter_map(from_index)
}

fn index_of(id: RunId, found_again: bool) -> [u8; INDEX_BYTES] {
    let mut bytes = [if found_again { FOUND_AGAIN } else { KNOWN }; INDEX_BYTES];
    if let Some(place) = bytes.first_chunk_mut::<16>() {
        *place = id.to_bytes();
    }
    bytes
}

fn from_index(bytes: &[u8]) -> Option<(RunId, bool)> {
    let (id, mark) = bytes.split_first_chunk::<16>()?;
    Some((RunId::from_bytes(*id), mark == [FOUND_AGAIN]))
}

fn push(plain: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    plain.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
    plain.extend(part);
    Some(())
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(*rest.split_off(..4)?.first_chunk()?);
    rest.split_off(..usize::try_from(length).ok()?)
}

fn inflate(value: &[u8]) -> Result<Vec<u8>, String> {
    let body = value.strip_prefix(MAGIC).ok_or("it is no pack that this Larder knows")?;
    let (length, body) = body.split_first_chunk::<4>().ok_or("it is cut")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > READ_BYTES_MAX {
        return Err(format!("it says that it has {length} bytes, which is above {READ_BYTES_MAX}"));
    }
    let mut plain = Vec::with_capacity(length);
    match Decompress::new(true).decompress_vec(body, &mut plain, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if plain.len() == length => Ok(plain),
        Ok(_) => Err("it is cut".to_owned()),
        Err(error) => Err(format!("it cannot be inflated: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job() -> JobId {
        "photos/daily".parse().unwrap()
    }

    fn some(sizes: &[(usize, usize)]) -> Vec<Packed> {
        let noise = |seed: usize, length: usize| {
            (0..length).map(|n| (seed * 31 + n * n * 7 + n / 3).to_le_bytes()[0]).collect()
        };
        let run = |(n, (record, log)): (usize, &(usize, usize))| Packed {
            id: RunId::from_bytes((n as u128 * 977 + 5).to_be_bytes()),
            found_again: n % 3 == 1,
            record: noise(n, *record),
            log: noise(n + 7, *log),
        };
        sizes.iter().enumerate().map(run).collect()
    }

    #[test]
    fn a_pack_has_as_many_runs_as_fit_and_never_more() {
        let many = some(&[(800, 500); 40]);
        let (pack, value) = Pack::of(&job(), &many).unwrap();
        assert_eq!(pack.runs.len(), PACK_RUNS_MAX);
        assert!(value.len() <= VALUE_BYTES_MAX);
        let (pack, _) = Pack::of(&job(), &some(&[(30_000, 3000); 40])).unwrap();
        assert_eq!(pack.runs.len(), 3, "they are read whole");
        assert_eq!(Pack::of(&job(), &[]), None);
    }

    #[test]
    fn a_run_that_nothing_makes_small_is_not_packed() {
        // Not one byte of it can be told from those before.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |length: usize| -> Vec<u8> {
            let next = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            };
            (0..length / 8).flat_map(next).collect()
        };
        let run =
            Packed { id: RunId::from_bytes([1; 16]), found_again: false, record: random(30_000), log: random(8000) };
        assert_eq!(Pack::of(&job(), std::slice::from_ref(&run)), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back_byte_for_byte_and_no_cut_value_is_read(
            sizes in prop::collection::vec((0..3000_usize, 0..900_usize), 1..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let runs = some(&sizes);
            let (pack, value) = Pack::of(&job(), &runs).unwrap();
            prop_assert_eq!(&pack.runs, &runs[..pack.runs.len()]);
            prop_assert_eq!(Pack::from_value(&value), Ok(pack.clone()));
            let index = pack.index();
            let told: Vec<(RunId, bool)> = indexed(&index).collect();
            prop_assert_eq!(told, pack.runs.iter().map(|run| (run.id, run.found_again)).collect::<Vec<_>>());
            prop_assert!(Pack::from_value(&value[..cut.index(value.len())]).is_err());
        }
    }
}
