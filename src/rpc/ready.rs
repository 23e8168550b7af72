//! Whether the daemon is ready: the store is open, a config is applied, the scheduler turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The scheduler turns at least once a minute; silent for longer than this it is stuck.
///
/// By the steady clock: setting the wall clock makes nothing unready, and hides nothing that is stuck.
pub const TURN_EVERY_MAX: Duration = Duration::from_mins(3);

/// What the daemon's task says about itself; a clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    store_open: AtomicBool,
    config_applied: AtomicBool,
    /// None before the first turn.
    turned: Mutex<Option<Instant>>,
    /// Why the config's source cannot be read.
    source: Mutex<Option<String>>,
    /// What is wrong with the state directory.
    state: Mutex<Option<String>>,
    /// What was lost of the state, until somebody accepts it.
    loss: Mutex<Option<String>>,
}

impl Readiness {
    pub fn store_is_open(&self, open: bool) {
        self.inner.store_open.store(open, Ordering::Relaxed);
    }

    pub fn config_is_applied(&self, applied: bool) {
        self.inner.config_applied.store(applied, Ordering::Relaxed);
    }

    /// Why the config's source cannot be read; none: it can. Answers whether that is news.
    pub fn source_is(&self, trouble: Option<String>) -> bool {
        exchanged(&self.inner.source, trouble)
    }

    /// What is wrong with the state directory; none: nothing. Answers whether that is news.
    pub fn state_is(&self, trouble: Option<String>) -> bool {
        exchanged(&self.inner.state, trouble)
    }

    /// What was lost of the state; none: nothing, or somebody accepted it. Answers whether that is news.
    pub fn loss_is(&self, loss: Option<String>) -> bool {
        exchanged(&self.inner.loss, loss)
    }

    /// The scheduler looked what is due.
    pub fn turned(&self, now: Instant) {
        *self.inner.turned.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// What is missing, in words; empty: ready.
    #[must_use]
    pub fn missing(&self, now: Instant) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.inner.store_open.load(Ordering::Relaxed) {
            missing.push("the state store is not open".to_owned());
        }
        if !self.inner.config_applied.load(Ordering::Relaxed) {
            missing.push("no config has been applied".to_owned());
        }
        for (what, trouble) in [
            ("the state directory is lost", &self.inner.state),
            ("what the state knew is lost", &self.inner.loss),
            ("the config cannot be read", &self.inner.source),
        ] {
            let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            missing.extend(trouble.map(|trouble| format!("{what}: {trouble}")));
        }
        let turned = *self.inner.turned.lock().unwrap_or_else(PoisonError::into_inner);
        match turned.map(|turned| now.saturating_duration_since(turned)) {
            None => missing.push("the scheduler has not started".to_owned()),
            Some(silent) if silent > TURN_EVERY_MAX => {
                missing.push(format!("the scheduler has not turned for {} s", silent.as_secs()));
            }
            Some(_) => {}
        }
        missing
    }
}

fn exchanged(place: &Mutex<Option<String>>, trouble: Option<String>) -> bool {
    let mut known = place.lock().unwrap_or_else(PoisonError::into_inner);
    let news = *known != trouble;
    *known = trouble;
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_with_store_config_and_a_turning_scheduler() {
        let now = Instant::now();
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(now).len(), 3);
        readiness.store_is_open(true);
        readiness.config_is_applied(true);
        readiness.turned(now);
        assert!(readiness.missing(now).is_empty());
        readiness.source_is(Some("it is gone".to_owned()));
        readiness.state_is(Some("so is this".to_owned()));
        assert_eq!(
            readiness.missing(now),
            ["the state directory is lost: so is this", "the config cannot be read: it is gone"]
        );
        readiness.source_is(None);
        readiness.state_is(None);
        let later = now + TURN_EVERY_MAX + Duration::from_secs(1);
        assert_eq!(readiness.missing(later), ["the scheduler has not turned for 181 s"]);
    }
}
