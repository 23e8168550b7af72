//! Characters that steer a terminal or a reader's eye, written so that they are seen.

use std::fmt::Write as _;

/// Writes control characters so that they are seen and do nothing: `<U+001B>`.
#[must_use]
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        push_visible(&mut out, character);
    }
    out
}

/// Adds one character, visibly.
pub(crate) fn push_visible(out: &mut String, character: char) {
    if is_hidden(character) {
        let _ = write!(out, "<U+{:04X}>", u32::from(character));
    } else {
        out.push(character);
    }
}

/// Whether a character steers a terminal or a reader's eye instead of being seen.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}')
}
