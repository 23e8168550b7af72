//! When a config source that cannot be read is an incident: once it has lasted, and until it can be read again.
//!
//! A repository that is exchanged, packed or pushed to may be unreadable for a moment, which is nobody's worry.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::Trouble;
use crate::store::record::Incident;

/// How long a source must have been unreadable.
const LASTS: Duration = Duration::from_secs(10);

/// Between two looks at everything that the revision in force has.
const DEEP_EVERY: Duration = Duration::from_secs(20);

/// A deep look costs at most this share of one core.
const DEEP_SHARE: u32 = 500;

/// What was seen of the source since the start.
#[derive(Debug, Default)]
pub(super) struct Watch {
    failing: Option<(Instant, Trouble)>,
    lasted: bool,
    deep_due: Option<Instant>,
}

impl Watch {
    /// Takes in what a look at the source came to.
    pub(super) fn saw(&mut self, trouble: Option<&Trouble>, now: Instant) {
        let Some(trouble) = trouble else {
            (self.failing, self.lasted) = (None, false);
            return;
        };
        let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
        self.lasted = now.saturating_duration_since(since) >= LASTS;
        self.failing = Some((since, trouble.clone()));
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.failing.is_some()
    }

    /// What has lasted.
    pub(super) fn incident(&self) -> Option<&Trouble> {
        self.failing.as_ref().filter(|_| self.lasted).map(|(_, trouble)| trouble)
    }

    /// Makes the deep look when it is due; one that failed is due again.
    pub(super) fn look_deeply<E>(&mut self, look: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let start = Instant::now();
        if self.deep_due.is_some_and(|due| due > start) {
            return Ok(());
        }
        self.deep_due = None;
        look()?;
        self.deep_due = Some(Instant::now() + DEEP_EVERY.max(start.elapsed() * DEEP_SHARE));
        Ok(())
    }
}

/// What changes of what is recorded of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    /// It could be read until now, or the reason is another one.
    Unreadable(Incident),
    Readable,
}

/// Tells the news: `before` is what is recorded, `trouble` what the newest look met, which has `lasted` or not.
pub(super) fn news(before: Option<&Incident>, trouble: Option<&Trouble>, lasted: bool, now: Timestamp) -> News {
    match (before, trouble) {
        (Some(_), None) => News::Readable,
        (None, Some(trouble)) if lasted => News::Unreadable(Incident { since: now, trouble: trouble.clone() }),
        (Some(known), Some(trouble)) if known.trouble != *trouble => {
            News::Unreadable(Incident { since: known.since, trouble: trouble.clone() })
        }
        _ => News::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    fn trouble(text: &str) -> Trouble {
        Trouble::new(codes::SOURCE_MISSING, text)
    }

    #[test]
    fn a_moment_is_no_incident_and_what_lasts_is_one_until_it_is_over() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let gone = trouble("gone");
        watch.saw(Some(&gone), start);
        assert!(watch.is_troubled() && watch.incident().is_none());
        watch.saw(None, start + Duration::from_secs(1));
        watch.saw(Some(&gone), start + Duration::from_secs(12));
        assert!(watch.incident().is_none(), "it counts from its own beginning");
        watch.saw(Some(&trouble("other")), start + Duration::from_secs(22));
        assert_eq!(watch.incident(), Some(&trouble("other")));
        watch.saw(None, start + Duration::from_secs(23));
        assert!(!watch.is_troubled() && watch.incident().is_none());
    }

    #[test]
    fn an_incident_begins_once_changes_its_reason_and_ends_once() {
        let (now, gone) = (Timestamp::UNIX_EPOCH, trouble("gone"));
        assert_eq!(news(None, Some(&gone), false, now), News::Nothing);
        let News::Unreadable(begun) = news(None, Some(&gone), true, now) else { panic!("it begins") };
        assert_eq!(news(Some(&begun), Some(&gone), true, now), News::Nothing, "said once");
        assert_eq!(news(Some(&begun), Some(&gone), false, now), News::Nothing, "also after a restart");
        let later = Timestamp::from_second(60).unwrap();
        let denied = trouble("denied");
        let other = Incident { since: now, trouble: denied.clone() };
        assert_eq!(news(Some(&begun), Some(&denied), true, later), News::Unreadable(other.clone()));
        assert_eq!(news(Some(&other), None, false, later), News::Readable);
        assert_eq!(news(None, None, false, later), News::Nothing);
    }

    #[test]
    fn a_deep_look_that_failed_is_made_again_at_once_and_one_that_was_well_later() {
        let mut watch = Watch::default();
        let mut made = 0;
        for well in [false, false, true, true] {
            let _ = watch.look_deeply(|| {
                made += 1;
                if well { Ok(()) } else { Err(()) }
            });
        }
        assert_eq!(made, 3);
    }
}
