//! Replaces secrets in text, in the forms in which programs repeat them.

use std::borrow::Cow;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// A line of a secret of several lines is a secret of its own from this length on.
const LINE_BYTES_MIN: usize = 6;
/// So much of a secret's beginning at the end of a cut line is hidden too.
const HEAD_BYTES_MIN: usize = 4;

/// Replaces secrets in text by `[redacted]`: as they are, JSON-escaped and percent-encoded; every line of a long one.
#[derive(Clone, Default)]
pub struct Redactor {
    forms: Arc<Vec<SecretString>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} forms)", self.forms.len())
    }
}

impl Redactor {
    /// Makes one for `secrets`; empty ones are ignored.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes the secrets over, so that no second owner stays")]
    pub fn new(secrets: Vec<SecretString>) -> Self {
        let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms_of(secret.expose_secret())).collect();
        forms.retain(|form| !form.is_empty());
        forms.sort();
        forms.dedup();
        Self { forms: Arc::new(forms.into_iter().map(SecretString::from).collect()) }
    }

    /// One that hides `more` secrets too.
    #[must_use]
    pub fn with(&self, more: Vec<SecretString>) -> Self {
        let more = Self::new(more);
        Self { forms: Arc::new(self.forms.iter().chain(more.forms.iter()).cloned().collect()) }
    }

    /// The text without secrets. Where secrets overlap, all of the overlapping stretch goes.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for form in self.forms.iter() {
            let form = form.expose_secret();
            found.extend(text.match_indices(form).map(|(at, _)| (at, at + form.len())));
        }
        replace(text, found)
    }

    /// Like [`Self::redact`], for text whose tail was cut off: a secret that the cut went through is hidden too.
    #[must_use]
    pub fn redact_cut<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let head = self.forms.iter().filter_map(|form| head_at_end(text, form.expose_secret())).max();
        match head {
            Some(length) => {
                let kept = text.get(..text.len() - length).unwrap_or_default();
                Cow::Owned(format!("{}{REDACTED}", self.redact(kept)))
            }
            None => self.redact(text),
        }
    }
}

/// The secret as it is, and as programs write it into JSON and URLs.
fn forms_of(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), percent_encoded(secret, "%20"), percent_encoded(secret, "+")];
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json.trim_matches('"').to_owned());
    // Go's encoder escapes these three in JSON, and restic is written in Go.
    forms.push(json.trim_matches('"').replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
    forms.extend(secret.lines().filter(|line| line.len() >= LINE_BYTES_MIN).map(str::to_owned));
    forms
}

fn percent_encoded(text: &str, space: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b' ' => encoded.push_str(space),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// How long a beginning of `form` the end of `text` is, from [`HEAD_BYTES_MIN`] on.
fn head_at_end(text: &str, form: &str) -> Option<usize> {
    (HEAD_BYTES_MIN..form.len())
        .rev()
        .filter_map(|length| form.get(..length))
        .find(|head| text.ends_with(head))
        .map(str::len)
}

/// Replaces the stretches `found`, joined where they overlap.
fn replace(text: &str, mut found: Vec<(usize, usize)>) -> Cow<'_, str> {
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in found {
        if start >= done {
            clean.push_str(text.get(done..start).unwrap_or_default());
            clean.push_str(REDACTED);
        }
        done = done.max(end);
    }
    clean.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|s| SecretString::from((*s).to_owned())).collect())
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_in_json_and_in_a_url() {
        let redactor = redactor(&["p\"a s&s/\u{fc}", ""]);
        for text in [
            "password p\"a s&s/\u{fc}!",
            r#"{"pw":"p\"a s&s/ü"}"#,
            r#"{"pw":"p\"a s\u0026s/ü"}"#,
            "https://u:p%22a%20s%26s%2F%C3%BC@host",
            "q=p%22a+s%26s%2F%C3%BC",
        ] {
            let clean = redactor.redact(text);
            assert!(clean.contains(REDACTED) && !clean.contains("a s"), "{clean}");
        }
        assert_eq!(redactor.redact("nothing here"), "nothing here");
    }

    #[test]
    fn overlapping_secrets_leave_nothing() {
        assert_eq!(redactor(&["abcd", "cdef"]).redact("xabcdefx"), "x[redacted]x");
        assert_eq!(redactor(&["red", "act"]).redact("red act"), "[redacted] [redacted]");
    }

    #[test]
    fn each_line_of_a_long_secret_is_hidden() {
        assert_eq!(redactor(&["BEGIN KEY\nMIIEvQIBADA\nEND KEY"]).redact("> MIIEvQIBADA <"), "> [redacted] <");
    }

    #[test]
    fn a_secret_that_a_cut_went_through_is_hidden() {
        assert_eq!(redactor(&["hunter2hunter2"]).redact_cut("password: hunter2hun"), "password: [redacted]");
        assert_eq!(redactor(&["hunter2"]).redact_cut("no such thing"), "no such thing");
    }

    #[test]
    fn debug_output_has_no_secret() {
        assert!(!format!("{:?}", redactor(&["hunter2"])).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_secret_survives(secrets in proptest::collection::vec("[a-dé]{1,6}", 1..4), text in "[a-dé ]{0,60}") {
            let clean = redactor(&secrets.iter().map(String::as_str).collect::<Vec<_>>()).redact(&text).into_owned();
            let rest = clean.replace(REDACTED, "\u{0}");
            for secret in &secrets {
                prop_assert!(!rest.contains(secret.as_str()), "{secret:?} in {rest:?}");
            }
        }
    }
}
