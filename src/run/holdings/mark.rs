//! What tells one finding from another of the same number, in a few letters that can be typed.
//!
//! An acceptance in Git stays there, so what it says must fit one finding only.

use sha2::{Digest as _, Sha256};

/// Bytes of the hash that are shown: eight letters.
const BYTES: usize = 4;

/// The same for the same `parts` in the same order.
#[must_use]
pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize().iter().take(BYTES).copied().collect::<Vec<u8>>())
}

/// What is typed for `count` of a `kind`. What an older Larder wrote down bears no `mark` until the next listing.
#[must_use]
pub fn value(kind: &str, count: u64, mark: &str) -> String {
    if mark.is_empty() { format!("{kind}:{count}") } else { format!("{kind}:{count}-{mark}") }
}
