//! What a run came to, and whether its size looks wrong: pure decisions over what was recorded.

use serde::{Deserialize, Serialize};

use crate::types::Outcome;

/// How many earlier successes the shrink guard compares with at most.
pub const SIZES_MAX: usize = 5;

/// Below this many successes there is nothing to compare with: the second backup of a target that is being filled or
/// cleared differs as it likes, and one odd size must not be able to be the median.
const SIZES_MIN: usize = 3;

/// What a run that went through all its steps came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunVerdict {
    Success,
    Partial,
    Failed,
}

impl RunVerdict {
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Success => Outcome::Success,
            Self::Partial => Outcome::Partial,
            Self::Failed => Outcome::Failed,
        }
    }
}

/// How much of the target the capture got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    Whole,
    /// Something was left out and named in a warning: a file that could not be read, a part that the application refused.
    Part,
}

/// What a run came to, from the outcome of its shipments (one for each destination of its policy).
///
/// All of them good and the capture whole: success. At least one usable: partial. None usable, or nowhere to ship to: failed.
#[must_use]
pub fn verdict(shipments: impl IntoIterator<Item = Outcome>, coverage: Coverage) -> RunVerdict {
    let mut usable = false;
    let mut whole = coverage == Coverage::Whole;
    for outcome in shipments {
        usable |= matches!(outcome, Outcome::Success | Outcome::Partial);
        whole &= outcome == Outcome::Success;
    }
    match (usable, whole) {
        (false, _) => RunVerdict::Failed,
        (true, false) => RunVerdict::Partial,
        (true, true) => RunVerdict::Success,
    }
}

/// Whether `bytes` is suspiciously little: under half of the median of the last five successes (`sizes`, newest last).
///
/// With fewer than three of them it never is. Of an even number, the lower middle one counts as the median: a doubt is not
/// enough for an alarm.
#[must_use]
pub fn shrink_guard(sizes: &[u64], bytes: u64) -> bool {
    let mut last: Vec<u64> = sizes.iter().rev().take(SIZES_MAX).copied().collect();
    if last.len() < SIZES_MIN {
        return false;
    }
    last.sort_unstable();
    let median = last.get((last.len() - 1) / 2).copied().unwrap_or(0);
    bytes < median.div_ceil(2)
}

/// Snapshots that may go at once without anybody being asked.
const FORGOTTEN_MAX: usize = 10;

/// Whether forgetting `more` of the `there` snapshots than the rules before would have is too much to do unasked: more
/// than a quarter of them, or more than ten. Where no rules of before are known, one is what every run forgets.
#[must_use]
pub fn cuts_much(more: usize, there: usize, rules_before: bool) -> bool {
    more > FORGOTTEN_MAX || (more.saturating_mul(4) > there && (rules_before || more > 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_destinations_good_is_success_some_is_partial_none_is_failed() {
        use Outcome::{Failed, Partial, Success};
        let table = [
            (vec![Success], Coverage::Whole, RunVerdict::Success),
            (vec![Success, Success], Coverage::Whole, RunVerdict::Success),
            (vec![Success, Success], Coverage::Part, RunVerdict::Partial),
            (vec![Success, Failed], Coverage::Whole, RunVerdict::Partial),
            (vec![Failed, Partial], Coverage::Whole, RunVerdict::Partial),
            (vec![Partial], Coverage::Whole, RunVerdict::Partial),
            (vec![Failed], Coverage::Whole, RunVerdict::Failed),
            (vec![Failed, Failed], Coverage::Part, RunVerdict::Failed),
            (vec![], Coverage::Whole, RunVerdict::Failed),
            (vec![Outcome::Deferred, Outcome::Cancelled], Coverage::Whole, RunVerdict::Failed),
        ];
        for (shipments, coverage, expected) in table {
            assert_eq!(verdict(shipments.clone(), coverage), expected, "{shipments:?} {coverage:?}");
        }
    }

    #[test]
    fn more_than_a_quarter_or_more_than_ten_snapshots_are_too_many_to_go_at_once() {
        for (more, there, before, much) in [
            (0, 0, true, false),
            (1, 4, true, false),
            (2, 7, true, true),
            (10, 40, true, false),
            (11, 1000, true, true),
            (4091, 4094, true, true),
            (1, 3, true, true),
            (1, 3, false, false),
            (2, 3, false, true),
        ] {
            assert_eq!(cuts_much(more, there, before), much, "{more} of {there}");
        }
    }

    #[test]
    fn a_backup_under_half_of_the_usual_size_is_suspicious() {
        assert!(shrink_guard(&[100, 100, 100], 49));
        assert!(!shrink_guard(&[100, 100, 100], 50));
        assert!(!shrink_guard(&[100, 100], 0), "too few to compare with");
        assert!(!shrink_guard(&[], 0));
        assert!(!shrink_guard(&[0, 0, 0], 0));
        assert!(shrink_guard(&[100, 1, 100, 100, 100], 49), "one odd size changes nothing");
        assert!(!shrink_guard(&[100, 100, 100, 100, 100, 10, 10, 10], 9), "only the last five count");
        assert!(!shrink_guard(&[10, 10, 100, 100], 9), "of four, the lower middle one");
        assert!(shrink_guard(&[u64::MAX; 5], 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_at_least_half_of_the_largest_is_never_suspicious(
            sizes in prop::collection::vec(0..=u64::MAX, 0..8), extra in 0..1000_u64
        ) {
            let largest = sizes.iter().copied().max().unwrap_or(0);
            prop_assert!(!shrink_guard(&sizes, largest.div_ceil(2).saturating_add(extra)));
        }

        #[test]
        fn more_bytes_are_never_more_suspicious(
            sizes in prop::collection::vec(0..1000_u64, 0..8), bytes in 0..1000_u64
        ) {
            prop_assert!(shrink_guard(&sizes, bytes) || !shrink_guard(&sizes, bytes + 1));
        }
    }
}
