//! Replaces secrets in text, in the forms in which programs repeat them.
//!
//! Escapes are undone rather than listed: whatever of a line reads as the secret once percent signs, backslashes, quotes or
//! entities are resolved is one. What encodes the secret together with its neighbours (base64 of `user:secret`) is found by
//! the part that depends on the secret alone, at each of the three alignments.

use std::borrow::Cow;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

mod view;

use crate::error::Trouble;
use view::View;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// What a text that is too long ends with.
const CUT_MARK: &str = "…";
/// A line of a secret of several lines is a secret of its own from this length on.
const LINE_BYTES_MIN: usize = 6;
/// So much of a secret's beginning at the end of a cut line is hidden too.
const HEAD_BYTES_MIN: usize = 4;
/// Shorter secrets are not looked for in base64 and hexadecimal: four digits of either are anywhere.
const ENCODED_BYTES_MIN: usize = 4;

/// Replaces secrets in text by `[redacted]`: as they are, in base64 and hexadecimal, and whatever escapes are around any
/// of those; every line of a long one.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<Vec<Needles>>,
}

/// One secret in the forms that are searched.
struct Needles {
    plain: SecretString,
    /// In lower case.
    hexadecimal: SecretString,
    /// What base64 makes of the secret alone when zero, one or two bytes of a group stand before it.
    base64: Vec<(SecretString, Sides)>,
}

/// Whether the digit before and the one behind hold bits of the secret, too.
#[derive(Clone, Copy)]
struct Sides {
    before: bool,
    behind: bool,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// Makes one for `secrets`; empty ones are ignored.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes the secrets over, so that no second owner stays")]
    pub fn new(secrets: Vec<SecretString>) -> Self {
        Self { secrets: Arc::new(needles(&secrets)) }
    }

    /// One that hides `more` secrets too.
    #[must_use]
    pub fn with(&self, more: Vec<SecretString>) -> Self {
        let own = self.secrets.iter().map(|each| each.plain.clone());
        Self::new(own.chain(more).collect())
    }

    /// The text without secrets. Where secrets overlap, all of the overlapping stretch goes.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.replaced(text, Cut::No)
    }

    /// The same of what a person is told.
    #[must_use]
    pub fn trouble(&self, trouble: Trouble) -> Trouble {
        let clean = |text: String| self.redact_cut(&text).into_owned();
        Trouble { code: trouble.code, message: clean(trouble.message), hint: trouble.hint.map(clean) }
    }

    /// Like [`Self::redact`], for text whose tail was cut off: a secret that the cut went through is hidden too, also
    /// where `…` stands at the cut.
    #[must_use]
    pub fn redact_cut<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match text.strip_suffix(CUT_MARK).map(|text| self.replaced(text, Cut::Perhaps)) {
            Some(Cow::Owned(clean)) => Cow::Owned(clean + CUT_MARK),
            _ => self.replaced(text, Cut::Perhaps),
        }
    }

    fn replaced<'t>(&self, text: &'t str, cut: Cut) -> Cow<'t, str> {
        if self.secrets.is_empty() || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut found = Vec::new();
        for view in views(text) {
            let (base64, hexadecimal) = (view.base64(), view.hexadecimal());
            for each in self.secrets.iter() {
                search(&view, each.plain.expose_secret(), cut, &mut found);
                search(&hexadecimal, each.hexadecimal.expose_secret(), cut, &mut found);
                for (core, sides) in &each.base64 {
                    let from = found.len();
                    search(&base64, core.expose_secret(), cut, &mut found);
                    found.iter_mut().skip(from).for_each(|place| widen(text, place, *sides));
                }
            }
        }
        replace(text, found)
    }
}

/// Whether the end of a text may be missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    No,
    Perhaps,
}

fn needles(secrets: &[SecretString]) -> Vec<Needles> {
    let mut plain: Vec<&str> = Vec::new();
    for secret in secrets {
        let secret = secret.expose_secret();
        plain.extend([secret, secret.trim_end_matches(['\r', '\n'])]);
        plain.extend(secret.lines().filter(|line| line.len() >= LINE_BYTES_MIN));
    }
    plain.retain(|each| !each.is_empty());
    plain.sort_unstable();
    plain.dedup();
    plain.into_iter().map(Needles::of).collect()
}

impl Needles {
    fn of(secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let encoded = bytes.len() >= ENCODED_BYTES_MIN;
        Self {
            plain: secret.into(),
            hexadecimal: if encoded { hex::encode(bytes).into() } else { String::new().into() },
            base64: if encoded { (0..3).map(|before| core(bytes, before)).collect() } else { Vec::new() },
        }
    }
}

/// The digits of base64 that depend on `secret` alone when `before` bytes of its first group are another's.
fn core(secret: &[u8], before: usize) -> (SecretString, Sides) {
    let mut bytes = vec![0; before];
    bytes.extend(secret);
    let first = (before * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    let digits = data_encoding::BASE64_NOPAD.encode(&bytes);
    let sides = Sides { before: before > 0, behind: !(bytes.len() * 8).is_multiple_of(6) };
    (digits.get(first..end).unwrap_or_default().to_owned().into(), sides)
}

/// The text as it is and with its escapes undone, also two layers of them: JSON in JSON, a URL in JSON.
fn views(text: &str) -> Vec<View> {
    let plain = View::of(text);
    let mut views: Vec<View> = [plain.percent(), plain.backslash(), plain.quotes(), plain.doubled(), plain.entities()]
        .into_iter()
        .flatten()
        .collect();
    let second: Vec<View> = views
        .iter()
        .flat_map(|view| [view.percent(), view.backslash(), view.quotes(), view.doubled(), view.entities()])
        .flatten()
        .collect();
    views.push(plain);
    // In a form a space is `+`, and a plus is escaped: so this comes first.
    let forms = views.iter().filter_map(View::plus).map(|view| view.percent().unwrap_or(view)).collect::<Vec<_>>();
    views.extend(second);
    views.extend(forms);
    views
}

/// Adds the places in the text where `view` has `needle`, and the one where a cut went through it.
fn search(view: &View, needle: &str, cut: Cut, found: &mut Vec<(usize, usize)>) {
    let (needle, bytes) = (needle.as_bytes(), view.bytes.as_slice());
    let Some(first) = needle.first() else { return };
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| byte == first)) {
        let start = from + at;
        from = start + 1;
        let rest = bytes.get(start..).unwrap_or_default();
        if rest.starts_with(needle) {
            found.extend(view.place(start, start + needle.len()));
        } else if cut == Cut::Perhaps && rest.len() >= HEAD_BYTES_MIN && needle.starts_with(rest) {
            found.extend(view.place(start, bytes.len()));
        }
    }
}

/// Takes the digits into a place that hold bits of the secret beside others', and the padding.
fn widen(text: &str, place: &mut (usize, usize), sides: Sides) {
    let bytes = text.as_bytes();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    if sides.before && place.0.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(is_digit) {
        place.0 -= 1;
    }
    if sides.behind && bytes.get(place.1).is_some_and(is_digit) {
        place.1 += 1;
    }
    while bytes.get(place.1) == Some(&b'=') {
        place.1 += 1;
    }
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
        let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
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

    fn base64(before: &str, secret: &str, behind: &str) -> String {
        data_encoding::BASE64.encode(format!("{before}{secret}{behind}").as_bytes())
    }

    /// The secret in every form that is promised.
    fn forms(secret: &str) -> Vec<String> {
        let json = serde_json::to_string(secret).unwrap();
        let bytes = secret.as_bytes();
        let all = |write: fn(u8) -> String| bytes.iter().map(|byte| write(*byte)).collect::<String>();
        let each = |write: fn(char) -> String| secret.chars().map(write).collect::<String>();
        let mut forms = vec![
            json.clone(),
            serde_json::to_string(&json).unwrap(),
            all(|byte| format!("%{byte:02X}")),
            all(|byte| format!("%{byte:02x}")),
            all(|byte| format!("%25{byte:02x}")),
            all(|byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02x}") }),
            all(|byte| format!("{byte:02x}")),
            all(|byte| format!("{byte:02X}")),
            all(|byte| format!("{byte:02x}:")),
            all(|byte| format!("{byte:02x} ")),
            all(|byte| format!("0x{byte:02x}, ")),
            all(|byte| format!("\\x{byte:02x}")),
            all(|byte| format!("\\{byte:03o}")),
            each(|c| format!("\\u{:04X}", u32::from(c))),
            each(|c| format!("&#{};", u32::from(c))),
            format!("'{}'", secret.replace('\'', "'\\''")),
            format!("'{}'", secret.replace('\'', "'\"'\"'")),
            format!("'{}'", secret.replace('\'', "''")),
            secret.chars().map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\{c}") }).collect(),
            secret.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"),
        ];
        for before in ["", "u", "us", "user:", "\0user\0", "me@home.lan:"] {
            for behind in ["", "x", "\n", "@host/"] {
                let plain = base64(before, secret, behind);
                forms.push(plain.replace('/', "\\/"));
                forms.push(plain.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D"));
                forms.push(plain.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned());
                let lines: Vec<_> = plain.as_bytes().chunks(7).map(String::from_utf8_lossy).collect();
                forms.push(format!("{}\n", lines.join("\n")));
                forms.push(plain);
            }
        }
        forms
    }

    #[test]
    fn a_secret_is_hidden_in_every_form_that_programs_write() {
        for secret in ["hunter2", "p\"a s&s/\u{fc}'<\\x", "correct horse battery staple", "3w+/=%41~", "äöü€"] {
            let redactor = redactor(&[secret]);
            for form in forms(secret) {
                let clean = redactor.redact(&form).into_owned();
                let rest = clean.replace(REDACTED, "");
                // What is left of a base64 are the digits of its neighbours.
                assert!(clean.contains(REDACTED) && rest.len() <= 40, "{secret}: {form} -> {clean}");
                let line = format!("504 5.7.4 said <{form}> ünd");
                let clean = redactor.redact(&line);
                assert!(clean.contains(REDACTED) && clean.starts_with("504 5.7.4 said <"), "{clean}");
                assert!(clean.ends_with("> ünd"), "{clean}");
            }
        }
    }

    #[test]
    fn nothing_of_a_secret_can_be_read_from_what_is_left_of_its_base64() {
        let redactor = redactor(&["hunter2"]);
        assert_eq!(redactor.redact("AUTH PLAIN AHVzZXIAaHVudGVyMg=="), "AUTH PLAIN AHVzZXIA[redacted]");
        assert_eq!(redactor.redact("Basic dXNlcjpodW50ZXIy"), "Basic dXNlcj[redacted]");
        assert_eq!(redactor.redact("Basic dXNodW50ZXIyeA"), "Basic dX[redacted]eA");
    }

    #[test]
    fn a_cut_goes_through_an_encoded_secret_too() {
        let redactor = redactor(&["correct horse battery"]);
        let encoded = base64("user:", "correct horse battery", "");
        for cut in 14..encoded.len() {
            let clean = redactor.redact_cut(&encoded[..cut]).into_owned();
            assert!(clean.len() <= 8 + REDACTED.len(), "{cut}: {clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let redactor = redactor(&["hunter2", "p\"a s&s/\u{fc}'<\\x", "abc"]);
        for text in [
            "C:\\temp\\new",
            "100% sure",
            "a+b = &c;",
            "68756e746572",
            "aHVudGVy",
            "'' \"\" \\",
            "%zz \\u12 \\x &#; &x;",
            "Ünïcödé",
        ] {
            assert_eq!(redactor.redact(text), text);
        }
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
        assert_eq!(redactor(&["hunter2hunter2"]).redact_cut("password: hunter2hun…"), "password: [redacted]…");
        assert_eq!(redactor(&["hunter2…"]).redact_cut("password: hunter2…"), "password: [redacted]…");
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
