//! Whether the daemon is ready: the store is open, a config is applied, the scheduler turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The scheduler turns at least once a minute; silent for longer than this it is stuck.
pub const TURN_EVERY_MAX: SignedDuration = SignedDuration::from_mins(3);

/// What the daemon's task says about itself; a clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    store_open: AtomicBool,
    config_applied: AtomicBool,
    /// Milliseconds; zero before the first turn.
    turned: AtomicI64,
}

impl Readiness {
    pub fn store_is_open(&self, open: bool) {
        self.inner.store_open.store(open, Ordering::Relaxed);
    }

    pub fn config_is_applied(&self, applied: bool) {
        self.inner.config_applied.store(applied, Ordering::Relaxed);
    }

    /// The scheduler looked what is due.
    pub fn turned(&self, now: Timestamp) {
        self.inner.turned.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// What is missing, in words; empty: ready.
    #[must_use]
    pub fn missing(&self, now: Timestamp) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.inner.store_open.load(Ordering::Relaxed) {
            missing.push("the state store is not open".to_owned());
        }
        if !self.inner.config_applied.load(Ordering::Relaxed) {
            missing.push("no config has been applied".to_owned());
        }
        let turned = self.inner.turned.load(Ordering::Relaxed);
        let silent_ms = now.as_millisecond().saturating_sub(turned);
        if turned == 0 {
            missing.push("the scheduler has not started".to_owned());
        } else if SignedDuration::from_millis(silent_ms) > TURN_EVERY_MAX {
            missing.push(format!("the scheduler has not turned for {} s", silent_ms / 1000));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_with_store_config_and_a_turning_scheduler() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(now).len(), 3);
        readiness.store_is_open(true);
        readiness.config_is_applied(true);
        readiness.turned(now);
        assert!(readiness.missing(now).is_empty());
        let later = now + TURN_EVERY_MAX + SignedDuration::from_secs(1);
        assert_eq!(readiness.missing(later), ["the scheduler has not turned for 181 s"]);
    }
}
