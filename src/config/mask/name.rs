//! Whether the name of a field says that a secret stands behind it: its letters alone, however it is written.

use super::fold::{NOTHING, folded};

/// Looked for anywhere in a name, whatever signs stand between their letters.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "kennwort",
    "passcode",
    "secret",
    "token",
    "apikey",
    "credential",
    "private",
    "authorization",
    "bearer",
    "cookie",
];

/// Names that nobody gives to anything but a password.
pub(super) const PASSWORD_WORDS: [&str; 6] = ["password", "passwd", "passphrase", "passwort", "kennwort", "passcode"];

/// A secret where they are a word of a short name.
const SHORT_WORDS: &[&str] = &["pass", "key", "keys", "pw", "psk", "otp", "totp", "cred", "creds"];

/// As above, and something else where no sign parts them from what follows.
const FIELD_WORDS: &[&str] = &["pin", "pincode", "salt", "sig", "signature", "hmac", "jwt", "sessionid", "jsessionid"];

/// What may be misspelt, and by how many letters.
const MISSPELT: &[(&str, usize)] = &[
    ("password", 2),
    ("passwort", 2),
    ("passphrase", 2),
    ("kennwort", 1),
    ("passwd", 1),
    ("passcode", 1),
    ("secret", 1),
    ("token", 1),
    ("apikey", 1),
    ("credential", 2),
    ("authorization", 2),
    ("private", 1),
];

/// Words that look like one of the above and are none.
const ORDINARY: &[&str] = &[
    "passed", "passes", "passport", "taken", "compass", "bypass", "monkey", "turkey", "donkey", "whiskey", "hockey",
    "jockey",
];

/// In a name of more words it is prose, and only a whole secret word counts.
const NAME_WORDS_MAX: usize = 4;

/// How sure a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Says {
    Nothing,
    /// Only with a sign between it and its value.
    Field,
    Secret,
}

/// Whether a field of this name usually holds a secret; misspelt ones too.
pub(crate) fn is_secret_name(name: &str) -> bool {
    says(&folded(name)) != Says::Nothing
}

/// What the folded text says as the name of a field.
pub(super) fn says(text: &str) -> Says {
    let plain = says_as(text, |sign| sign);
    if !text.contains(['$', '5', '@', '4', '0', '3', '1', '!']) {
        return plain;
    }
    // `pa$$word` and `passw0rd`.
    let drawn = says_as(text, |sign| match sign {
        '$' | '5' => 's',
        '@' | '4' => 'a',
        '0' => 'o',
        '3' => 'e',
        '1' | '!' => 'i',
        _ => sign,
    });
    plain.max(drawn)
}

/// The words of a folded name, in small letters: `adminKey` has two.
pub(super) fn words(text: &str) -> Vec<String> {
    words_as(text, |sign| sign)
}

fn says_as(text: &str, read: impl Fn(char) -> char) -> Says {
    let words = words_as(text, read);
    let letters = words.concat();
    if SECRET_WORDS.iter().any(|word| letters.contains(word)) || words.iter().any(|word| word.contains("pwd")) {
        return Says::Secret;
    }
    if words.len() > NAME_WORDS_MAX {
        return Says::Nothing;
    }
    let is_short = |word: &str| SHORT_WORDS.contains(&word) || word.ends_with("pass") || word.ends_with("key");
    let mut all = words.iter().map(String::as_str).chain([letters.as_str()]).filter(|word| !ORDINARY.contains(word));
    if all.clone().any(|word| is_short(word) || is_misspelt(word)) {
        return Says::Secret;
    }
    if all.any(|word| FIELD_WORDS.contains(&word)) { Says::Field } else { Says::Nothing }
}

fn is_misspelt(word: &str) -> bool {
    let count = word.chars().count();
    MISSPELT.iter().any(|(meant, letters)| {
        count + 3.min(letters + 1) > meant.len()
            && count <= meant.len() + letters
            && strsim::osa_distance(word, meant) <= *letters
    })
}

fn words_as(text: &str, read: impl Fn(char) -> char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_small = false;
    for sign in text.chars().filter(|sign| *sign != NOTHING) {
        let sign = read(sign);
        let ends = !sign.is_alphanumeric() || (was_small && sign.is_uppercase());
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if sign.is_alphanumeric() {
            word.extend(sign.to_lowercase());
        }
        was_small = sign.is_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether one logs in with what stands behind this name: `auth: S`, `REDISCLI_AUTH=S`.
pub(super) fn is_login(text: &str) -> bool {
    let words = words(text);
    words.len() <= NAME_WORDS_MAX && words.iter().any(|word| word.ends_with("auth"))
}

/// Whether the name says that a place stands behind it: `key_file: /run/x`.
pub(super) fn is_place(text: &str) -> bool {
    words(text).last().is_some_and(|word| matches!(word.as_str(), "file" | "path" | "dir" | "directory" | "folder"))
}
