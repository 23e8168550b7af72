//! Who is away and was asked whether it is there, and who came back; see `catch_up` for what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::types::Name;

/// Between two questions to a destination: at first, when it is away for long, and when it answered but took nothing.
const ASK_FIRST: Duration = Duration::from_secs(10);
const ASK_LATER: Duration = Duration::from_mins(5);
const ASK_REFUSED: Duration = Duration::from_hours(1);

/// What is known of those that are away.
#[derive(Default)]
pub(super) struct Returns {
    /// None: not since the start, when who came back before it has jobs that wait, too.
    pub(super) looked: Option<Instant>,
    pub(super) asked: BTreeMap<Name, Asked>,
    pub(super) answered: Arc<Mutex<BTreeSet<Name>>>,
    pub(super) back: BTreeSet<Name>,
}

pub(super) struct Asked {
    pub(super) at: Instant,
    /// How often it answered and then took nothing.
    pub(super) refusals: u32,
}

impl Returns {
    /// These take what is shipped again.
    pub(super) fn are_back(&mut self, names: Vec<Name>) {
        for name in names {
            self.asked.remove(&name);
            self.back.insert(name);
        }
    }
}

/// How long to wait before it is asked again.
pub(super) fn pace(away_for: Duration, refusals: u32) -> Duration {
    let usual = (away_for / 10).clamp(ASK_FIRST, ASK_LATER);
    match refusals {
        0 => usual,
        _ => usual.saturating_mul(2_u32.saturating_pow(refusals)).min(ASK_REFUSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_for_long_is_asked_rarely_and_who_answers_but_takes_nothing_rarer() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
        assert_eq!(pace(second, 0), ASK_FIRST);
        assert_eq!(pace(10 * 60 * second, 0), Duration::from_mins(1));
        assert_eq!(pace(300 * hour, 0), ASK_LATER);
        assert_eq!(pace(second, 2), ASK_FIRST * 4);
        assert_eq!(pace(300 * hour, 30), ASK_REFUSED);
    }
}
