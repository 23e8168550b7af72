//! What tells one finding from another of the same number, in a few letters that can be typed.
//!
//! An acceptance in Git stays there, so what it says must fit one finding only.

use sha2::{Digest as _, Sha256};

use crate::types::Name;

/// Bytes of the hash that are shown: eight letters.
const BYTES: usize = 4;

/// The kinds whose values bear one.
const KINDS: [&str; 3] = ["missing", "newer", "altered"];

/// The same for the same `parts` in the same order at the same destination.
#[must_use]
pub fn of<'a>(destination: &'a Name, parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(destination.as_str()).chain(parts) {
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

/// What was typed for a `value` before it bore a mark; none: it never bears one, or has none.
#[must_use]
pub fn without(value: &str) -> Option<&str> {
    let (kind, _) = value.split_once(':')?;
    let (short, _) = value.split_once('-')?;
    KINDS.contains(&kind).then_some(short)
}

/// Whether `value` would fit any other finding of the kind with the same number, too.
#[must_use]
pub fn fits_many(value: &str) -> bool {
    value.split_once(':').is_some_and(|(kind, count)| KINDS.contains(&kind) && !count.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_these_at_this_place_and_the_form_without_it_is_told_apart() {
        let (nas, usb) = (Name::parse("nas").unwrap(), Name::parse("usb").unwrap());
        let all = [of(&nas, ["a", "b"]), of(&nas, ["ab"]), of(&nas, ["a", "c"]), of(&usb, ["a", "b"])];
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!((different.len(), of(&nas, ["a", "b"])), (4, all[0].clone()));
        let shown = value("missing", 2, &all[0]);
        assert_eq!((without(&shown), fits_many(&shown)), (Some("missing:2"), false));
        assert_eq!((without("missing:2"), fits_many("missing:2")), (None, true));
        for other in ["lost:2026-11-29T02:00:00", "20971520", "/srv/a-b", "2026-11-29", "a:b-c"] {
            assert_eq!((without(other), fits_many(other)), (None, false), "{other}");
        }
    }
}
