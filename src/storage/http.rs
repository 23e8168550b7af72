//! What S3 and REST have in common: calls with an end, and the clock that each answer tells.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::StorageError;
use super::probe::{PROBE_MAX, Probe, Question, skew_shown};
use crate::config::model::Tls;
use crate::web::{Answer, Call, ClearText, Trust, Web};

/// Longest that one call may take with its body, however it drips.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A server of HTTP.
pub(super) struct Http {
    web: Web,
    /// When what is going on has to be over; none: each call has its own bound.
    end: Cell<Option<Instant>>,
    /// The server's clock less this host's, by the last answer.
    skew_s: Cell<Option<i64>>,
}

impl Http {
    /// # Errors
    /// The address or the certificates cannot be used, or secrets would go in clear text.
    pub(super) fn open(base: &str, tls: &Tls, allow_http: bool, patience: Duration) -> Result<Self, StorageError> {
        let trust = Trust::from_settings(tls.ca.as_deref(), tls.fingerprint.as_deref())?;
        let clear_text = if allow_http { ClearText::Allowed } else { ClearText::Refused };
        let web = Web::open(base, trust, clear_text)?.patient(patience)?.at_once();
        Ok(Self { web, end: Cell::default(), skew_s: Cell::default() })
    }

    pub(super) fn shown(&self) -> String {
        self.web.shown()
    }

    pub(super) fn call(&self, method: &str, path: &str) -> Call<'_> {
        let end = self.end.get().unwrap_or_else(|| Instant::now() + CALL_MAX);
        self.web.call(method, path).until(Some(end))
    }

    /// Sends it, and notes what the clock there says.
    pub(super) fn send<'w>(&self, call: Call<'w>) -> Result<Answer<'w>, StorageError> {
        let before = Timestamp::now();
        let answer = call.send()?;
        let middle = before.as_second().midpoint(Timestamp::now().as_second());
        let theirs = answer.header("date").and_then(|date| moment(&date));
        if let Some(theirs) = theirs {
            self.skew_s.set(Some(theirs.as_second() - middle));
        }
        Ok(answer)
    }

    pub(super) fn skew_s(&self) -> Option<i64> {
        self.skew_s.get()
    }

    /// Asks all questions within the time that a probe has, and tells how far the clocks differ.
    pub(super) fn probed(&self, asks: impl FnOnce(&mut Probe) -> Result<(), (Question, StorageError)>) -> Probe {
        let mut probe = Probe::new();
        self.end.set(Some(Instant::now() + PROBE_MAX));
        if let Err((question, error)) = asks(&mut probe) {
            probe.failed(question, error);
        }
        self.end.set(None);
        if let Some(skew_s) = self.skew_s.get() {
            probe.skew(skew_s, skew_shown(skew_s));
        }
        probe.done()
    }
}

/// A date as HTTP has it.
pub(super) fn moment(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(date).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        let wanted: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(moment("Sun, 06 Nov 1994 08:49:37 GMT"), Some(wanted));
        assert_eq!(moment("yesterday"), None);
    }
}
