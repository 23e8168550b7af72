//! What tells a whole store from a damaged one: a checksum on each record, and for each tree a count and a running sum.
//!
//! The running sum is that of the records' checksums, so its order does not matter and a write updates it from the old
//! and the new value alone: history stays cheap. It says what a checksum can't: that a record is *missing*, or is one of
//! before. The chain is written in the same transaction as the records, and a second time outside of them (`witness`),
//! since a store that lost the tail of its log is whole in itself.

use sha2::{Digest as _, Sha256};

use super::{FORMAT_KEY, Tree};

/// What a value that carries its checksum starts with. No record starts so: they are JSON, or empty.
const MARK: u8 = 1;

/// The mark and the checksum.
const HEAD_BYTES: usize = 9;

/// What the written form of a chain starts with.
const MAGIC: &[u8; 8] = b"larderc1";

/// Length of the written form.
pub(super) const CHAIN_BYTES: usize = 8 + 8 + Tree::ALL.len() * TREE_BYTES + 8;

/// A count and a sum.
const TREE_BYTES: usize = 24;

/// One tree: how many records, and the sum of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    pub count: u64,
    pub sum: u128,
}

impl Links {
    pub(super) fn add(&mut self, checksum: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u128::from(checksum));
    }

    pub(super) fn take(&mut self, checksum: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u128::from(checksum));
    }
}

/// All trees, and how many writes led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub sequence: u64,
    pub trees: [Links; Tree::ALL.len()],
}

impl Chain {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.sequence.to_be_bytes());
        for links in &self.trees {
            bytes.extend(links.count.to_be_bytes());
            bytes.extend(links.sum.to_be_bytes());
        }
        bytes.extend(short_hash(&[&bytes]).to_be_bytes());
        bytes
    }

    /// None when the bytes are not those of a chain, whole.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != CHAIN_BYTES || !bytes.starts_with(MAGIC) {
            return None;
        }
        let (body, checksum) = bytes.split_at(CHAIN_BYTES - 8);
        if short_hash(&[body]).to_be_bytes() != checksum {
            return None;
        }
        let (sequence, trees) = body.get(MAGIC.len()..)?.split_first_chunk::<8>()?;
        let mut chain = Self { sequence: u64::from_be_bytes(*sequence), ..Self::default() };
        for (links, bytes) in chain.trees.iter_mut().zip(trees.chunks_exact(TREE_BYTES)) {
            let (count, sum) = bytes.split_first_chunk::<8>()?;
            links.count = u64::from_be_bytes(*count);
            links.sum = u128::from_be_bytes(sum.try_into().ok()?);
        }
        Some(chain)
    }

    /// The first tree that is not as `found`, in words; none when all are.
    pub(super) fn differs_from(&self, found: &[Links; Tree::ALL.len()]) -> Option<String> {
        let pairs = Tree::ALL.into_iter().zip(self.trees.iter().zip(found));
        let (tree, (said, is)) = pairs.into_iter().find(|(_, (said, is))| said != is)?;
        Some(if said.count == is.count {
            format!("the tree {} has other records than its chain says", tree.as_str())
        } else {
            format!("the tree {} has {} records, its chain says {}", tree.as_str(), is.count, said.count)
        })
    }
}

/// A record's checksum: of its place and its content, so that two exchanged ones are noticed.
pub(super) fn checksum(tree: Tree, key: &[u8], value: &[u8]) -> u64 {
    short_hash(&[tree.as_str().as_bytes(), &[0], &(key.len() as u64).to_be_bytes(), key, value])
}

/// The stored form of a value, and its checksum.
///
/// The format stays readable for a Larder from before, so that it refuses the store instead of misreading it.
pub(super) fn seal(tree: Tree, key: &[u8], value: &[u8]) -> (Vec<u8>, u64) {
    let checksum = checksum(tree, key, value);
    if is_format(tree, key) {
        return (on_disk_format(value), checksum);
    }
    let mut sealed = Vec::with_capacity(HEAD_BYTES + value.len());
    sealed.push(MARK);
    sealed.extend(checksum.to_be_bytes());
    sealed.extend(value);
    (sealed, checksum)
}

/// The value in a stored form, and its checksum; none when the checksum is not that of the content.
///
/// A record from before there were checksums has none of its own: the chain alone answers for it.
pub(super) fn unseal(tree: Tree, key: &[u8], stored: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (value, said) = match stored.split_first() {
        _ if is_format(tree, key) => (format_of_disk(stored), None),
        Some((&MARK, rest)) => {
            let (said, value) = rest.split_first_chunk::<8>()?;
            (value.to_vec(), Some(u64::from_be_bytes(*said)))
        }
        _ => (stored.to_vec(), None),
    };
    let is = checksum(tree, key, &value);
    said.is_none_or(|said| said == is).then_some((value, is))
}

/// The checksum that a stored form counts with in the chain.
pub(super) fn counted(tree: Tree, key: &[u8], stored: &[u8]) -> u64 {
    match stored.split_first() {
        Some((&MARK, rest)) if !is_format(tree, key) => {
            rest.split_first_chunk::<8>().map_or(0, |(said, _)| u64::from_be_bytes(*said))
        }
        _ => unseal(tree, key, stored).map_or(0, |(_, is)| is),
    }
}

fn is_format(tree: Tree, key: &[u8]) -> bool {
    tree == Tree::Meta && key == FORMAT_KEY.as_bytes()
}

/// On the disk the format is one higher than that of the records, since values carry checksums.
fn on_disk_format(value: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<u64>(value) {
        Ok(format) => format.saturating_add(1).to_string().into_bytes(),
        Err(_) => value.to_vec(),
    }
}

/// The records' format; 1 on the disk is from before there were checksums.
fn format_of_disk(stored: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<u64>(stored) {
        Ok(format) => format.saturating_sub(1).max(1).to_string().into_bytes(),
        Err(_) => stored.to_vec(),
    }
}

fn short_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let hash = hash.finalize();
    hash.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_that_is_changed_in_any_bit_is_none() {
        let mut chain = Chain { sequence: 7, ..Chain::default() };
        chain.trees[2].add(checksum(Tree::Runs, b"k", b"v"));
        let bytes = chain.to_bytes();
        assert_eq!(bytes.len(), CHAIN_BYTES);
        assert_eq!(Chain::from_bytes(&bytes), Some(chain));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Chain::from_bytes(&changed), None, "bit {bit}");
        }
        assert_eq!(Chain::from_bytes(&bytes[..CHAIN_BYTES - 1]), None);
    }

    #[test]
    fn what_is_added_and_taken_again_leaves_nothing() {
        let mut links = Links::default();
        for each in [1, u64::MAX, 77] {
            links.add(each);
        }
        for each in [77, 1, u64::MAX] {
            links.take(each);
        }
        assert_eq!(links, Links::default());
    }

    #[test]
    fn the_format_is_told_to_an_older_larder_as_one_that_it_does_not_know() {
        let key = FORMAT_KEY.as_bytes();
        assert_eq!(seal(Tree::Meta, key, b"1").0, b"2");
        assert_eq!(unseal(Tree::Meta, key, b"2").unwrap().0, b"1");
        assert_eq!(unseal(Tree::Meta, key, b"1").unwrap().0, b"1", "from before there were checksums");
        assert_eq!(unseal(Tree::Meta, key, b"3").unwrap().0, b"2");
    }

    proptest! {
        #[test]
        fn a_sealed_value_comes_back_and_no_changed_bit_is_believed(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            value in proptest::collection::vec(any::<u8>(), 0..80),
            bit in any::<prop::sample::Index>(),
        ) {
            let (sealed, sum) = seal(Tree::Jobs, &key, &value);
            prop_assert_eq!(unseal(Tree::Jobs, &key, &sealed), Some((value.clone(), sum)));
            prop_assert_eq!(counted(Tree::Jobs, &key, &sealed), sum);
            prop_assert_eq!(unseal(Tree::Runs, &key, &sealed), None, "in another tree");
            let mut changed = sealed;
            let bit = bit.index(changed.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            // Without its mark it is a record from before: the chain answers for those.
            if let Some((read, sum_of_read)) = unseal(Tree::Jobs, &key, &changed) {
                prop_assert!(bit < 8 && read != value && sum_of_read != sum);
            }
        }
    }
}
