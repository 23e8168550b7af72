//! Storages that kept somebody waiting and did not answer: for a while nobody else waits for them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Trouble;
use crate::store::record::is_of_who_is_away;
use crate::types::Name;

/// An answer that took less costs nobody anything.
const LONG: Duration = Duration::from_secs(1);

/// How long what was found holds: for what is due, and for who asks by hand, perhaps having mended it just now.
const HOLDS_FOR: Duration = Duration::from_secs(60);
const HOLDS_BY_HAND: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    ByTime,
    ByHand,
    /// Whoever wants to know whether it answers again.
    Anew,
}

/// What was found of each; in memory.
#[derive(Debug, Default)]
pub struct Silences {
    found: Mutex<BTreeMap<Name, (Instant, Trouble)>>,
}

impl Silences {
    /// What was wrong with it a moment ago; none: ask it.
    pub fn of(&self, name: &Name, asks: Asks) -> Option<Trouble> {
        let holds = match asks {
            Asks::ByTime => HOLDS_FOR,
            Asks::ByHand => HOLDS_BY_HAND,
            Asks::Anew => Duration::ZERO,
        };
        self.with(|found| found.get(name).filter(|(at, _)| at.elapsed() < holds).map(|(_, trouble)| trouble.clone()))
    }

    /// Notes how an attempt that began at `begun` went.
    pub fn note<T>(&self, name: &Name, begun: Instant, went: &Result<T, Trouble>) {
        self.with(|found| match went {
            Ok(_) => drop(found.remove(name)),
            Err(trouble) if is_of_who_is_away(trouble) && begun.elapsed() >= LONG => {
                found.insert(name.clone(), (Instant::now(), trouble.clone()));
            }
            Err(_) => {}
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Name, (Instant, Trouble)>) -> T) -> T {
        act(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    #[test]
    fn only_who_kept_somebody_waiting_is_left_alone_and_only_until_it_answers() {
        let (silences, nas) = (Silences::default(), Name::parse("nas").unwrap());
        let away = || Err::<(), _>(Trouble::new(codes::UNREACHABLE, "nobody answers"));
        let long_ago = Instant::now().checked_sub(LONG).unwrap();
        silences.note(&nas, Instant::now(), &away());
        assert_eq!(silences.of(&nas, Asks::ByTime), None, "it was told at once");
        let other = Err::<(), _>(Trouble::new(codes::DISK_FULL, "no room"));
        silences.note(&nas, long_ago, &other);
        assert_eq!(silences.of(&nas, Asks::ByTime), None, "it answered");
        silences.note(&nas, long_ago, &away());
        assert_eq!(silences.of(&nas, Asks::ByTime).map(|trouble| trouble.message), Some("nobody answers".to_owned()));
        assert_eq!(silences.of(&Name::parse("other").unwrap(), Asks::ByTime), None);
        silences.note(&nas, long_ago, &Ok(()));
        assert_eq!(silences.of(&nas, Asks::ByTime), None);
    }
}
