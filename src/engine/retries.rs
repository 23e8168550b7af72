//! What restic tries again by itself, and when that is in vain.
//!
//! It repeats every access to a repository for a quarter of an hour, whatever the reason (observed with 0.18 and 0.19 on
//! a read-only file system), and says so in plain lines or, asked for JSON, in objects, on either output. What can't get
//! better by itself is given up at the first such line; anything else when one access failed for [`SAME_MAX`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::messages;

/// For so long one and the same access may be tried again.
const SAME_MAX: Duration = Duration::from_mins(5);

/// What was tried again for so long when restic's time was over is why it was over.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// Accesses that are remembered at once; restic makes far fewer in parallel.
const ACCESSES_MAX: usize = 256;

const AGAIN: &str = " returned error, retrying after ";
const AT_LAST: &str = " operation successful after ";

/// How the system or a server says what does not end while one waits.
const LASTING: [&str; 12] = [
    "read-only file system",
    "permission denied",
    "operation not permitted",
    "not a directory",
    "no space left on device",
    "disk quota exceeded",
    "access denied.",
    "the specified bucket does not exist",
    "the access key id you provided does not exist in our records.",
    "401 unauthorized",
    "403 forbidden",
    "host key verification failed.",
];

/// Why a restic need not be waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vain {
    /// The reason does not end by itself.
    Lasting(String),
    /// The same was tried for too long.
    TooLong(String),
}

/// The accesses that failed and are being tried again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failing: BTreeMap<String, Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    /// What restic said of it last.
    text: String,
}

impl Retries {
    /// Hears a line of either output; answers when waiting is in vain.
    pub(super) fn hear(&mut self, line: &str, now: Instant) -> Option<Vain> {
        let text = about_retries(line)?;
        if let Some((access, _)) = text.split_once(AT_LAST) {
            self.failing.remove(access);
            return None;
        }
        let lower = text.trim_end().to_ascii_lowercase();
        if LASTING.iter().any(|reason| lower.ends_with(reason)) {
            return Some(Vain::Lasting(text));
        }
        let (access, _) = text.split_once(AGAIN)?;
        if self.failing.len() >= ACCESSES_MAX && !self.failing.contains_key(access) {
            return None;
        }
        let failing = self.failing.entry(access.to_owned()).or_insert(Failing { since: now, text: String::new() });
        failing.text.clone_from(&text);
        (now.duration_since(failing.since) >= SAME_MAX).then_some(Vain::TooLong(text))
    }

    /// What is being tried again for the longest time; none for a moment only.
    pub(super) fn under_way(&self, now: Instant) -> Option<&str> {
        let oldest = self.failing.values().min_by_key(|each| each.since)?;
        (now.duration_since(oldest.since) >= TOLD_AFTER).then_some(&oldest.text)
    }
}

/// What a line says of a repetition, JSON or not; none when it is about something else.
pub(super) fn about_retries(line: &str) -> Option<String> {
    if !is_about_retries(line) {
        return None;
    }
    let text = match messages::parse(line) {
        Some(messages::Message::ItemError { message, .. }) => message,
        Some(_) => return None,
        None => line.to_owned(),
    };
    is_about_retries(&text).then_some(text)
}

fn is_about_retries(text: &str) -> bool {
    text.contains(AGAIN) || text.contains(AT_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        serde_json::json!({"message_type": "error", "message": text}).to_string()
    }

    #[test]
    fn what_cannot_get_better_is_given_up_at_once_in_plain_words_and_in_json() {
        let line = "Save(<lock/408e>) returned error, retrying after 1.5s: open /r/locks/4-tmp-2: ";
        for reason in LASTING {
            let said = format!("{line}{reason}");
            for form in [said.clone(), json(&said)] {
                assert_eq!(Retries::default().hear(&form, Instant::now()), Some(Vain::Lasting(said.clone())), "{form}");
            }
        }
        for other in ["input/output error", "connection refused"] {
            assert_eq!(Retries::default().hear(&format!("{line}{other}"), Instant::now()), None);
        }
        assert_eq!(Retries::default().hear("open /home/x: permission denied", Instant::now()), None);
        assert_eq!(Retries::default().hear(&json("open /home/x: permission denied"), Instant::now()), None);
    }

    #[test]
    fn the_same_access_is_not_tried_for_ever() {
        let (mut retries, start) = (Retries::default(), Instant::now());
        let failed = |what: &str| {
            json(&format!("Load(<data/{what}>, 0, 0) returned error, retrying after 9s: input/output error"))
        };
        assert_eq!(retries.hear(&failed("a"), start), None);
        assert_eq!(retries.hear(&failed("b"), start), None);
        // One that came to an end begins anew.
        retries.hear("Load(<data/b>, 0, 0) operation successful after 1 retries", start);
        let late = start + SAME_MAX;
        assert_eq!(retries.hear(&failed("b"), late), None);
        assert!(matches!(retries.hear(&failed("a"), late), Some(Vain::TooLong(text)) if text.contains("<data/a>")));
    }

    #[test]
    fn what_is_tried_again_when_the_time_is_over_is_known_and_what_went_well_at_last_is_not() {
        let (mut retries, start) = (Retries::default(), Instant::now());
        let failed = |why: &str| format!("Save(<data/a>) returned error, retrying after 2s: {why}");
        retries.hear(&failed("503 Slow Down"), start);
        assert_eq!(retries.under_way(start), None, "it may go well the next time");
        retries.hear(&failed("unexpected EOF"), start + TOLD_AFTER);
        assert_eq!(retries.under_way(start + TOLD_AFTER), Some(failed("unexpected EOF").as_str()));
        retries.hear("Save(<data/a>) operation successful after 2 retries", start + TOLD_AFTER);
        assert_eq!(retries.under_way(start + SAME_MAX), None);
    }
}
