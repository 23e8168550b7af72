//! The bounds of a scan, as one pure function for every store, and walking a tree page by page.

use std::ops::{Bound, ControlFlow};

use super::{ScanOrder, Store, StoreError, Tree};

/// How many entries a walk reads at a time.
const PAGE_ENTRIES: usize = 256;

/// A range of keys.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The keys that start with `prefix` and, if `after` is given, come strictly behind it in `order`; none: there can be no such key.
#[must_use]
pub fn key_range(prefix: &[u8], after: Option<&[u8]>, order: ScanOrder) -> Option<KeyRange> {
    let mut low = Bound::Included(prefix.to_vec());
    let mut high = next_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    match (after, order) {
        (Some(after), ScanOrder::Ascending) if after >= prefix => low = Bound::Excluded(after.to_vec()),
        (Some(after), ScanOrder::Descending) => match &high {
            Bound::Excluded(end) if end.as_slice() <= after => {}
            _ => high = Bound::Excluded(after.to_vec()),
        },
        _ => {}
    }
    // An ordered map panics on a range whose start is behind its end.
    let possible = match (&low, &high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low < high,
        _ => true,
    };
    possible.then_some((low, high))
}

/// The smallest key above all that start with `prefix`; none when there is no such key.
fn next_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Calls `each` with every entry below `prefix` in `order` until it breaks; reads a page at a time.
///
/// # Errors
/// When the tree cannot be read, or the first error of `each`.
pub fn walk(
    store: &dyn Store,
    tree: Tree,
    prefix: &[u8],
    after: Option<&[u8]>,
    order: ScanOrder,
    mut each: impl FnMut(Vec<u8>, Vec<u8>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut after = after.map(<[u8]>::to_vec);
    loop {
        let page = store.scan(tree, prefix, after.as_deref(), order, PAGE_ENTRIES)?;
        let full = page.len() == PAGE_ENTRIES;
        for (key, value) in page {
            after = Some(key.clone());
            if each(key, value)?.is_break() {
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}
