//! "Did you mean": the nearest known word, and words that are safe to repeat in a message.

use std::fmt::Write as _;

/// Longest word that is compared; nobody mistypes a longer one by two letters.
const COMPARED_CHARS_MAX: usize = 64;
/// Longest part of a user's word that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// The known word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let chars = word.chars().count();
    if chars == 0 || chars > COMPARED_CHARS_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let length = candidate.chars().count();
        if length > COMPARED_CHARS_MAX || length.abs_diff(chars) > 4 {
            continue;
        }
        let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
        let allowed = match chars.max(length) {
            0..=3 => 1,
            4..=7 => 2,
            8..=14 => 3,
            _ => 4,
        };
        if distance <= allowed && distance < chars && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The hint for an unknown word: the nearest one, else what there is.
pub(crate) fn hint(word: &str, known: &[&str], what: &str) -> Option<String> {
    if let Some(nearest) = nearest(word, known.iter().copied()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    if known.is_empty() {
        return None;
    }
    Some(format!("{what}: {}", list(known)))
}

/// A short list in backquotes; a long one is cut.
pub(crate) fn list(words: &[&str]) -> String {
    const LISTED_MAX: usize = 14;
    let mut text = words.iter().take(LISTED_MAX).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    if words.len() > LISTED_MAX {
        let _ = write!(text, " and {} more", words.len() - LISTED_MAX);
    }
    text
}

/// A user's word as a message repeats it.
pub(crate) fn shown(word: &str) -> String {
    let mut text: String = word.chars().take(SHOWN_CHARS_MAX).collect();
    if text.len() < word.len() {
        text.push_str("...");
    }
    super::visible::visible(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_the_word_and_nonsense_does_not() {
        let known = ["schedule", "retention", "destinations", "on_missed", "paths"];
        assert_eq!(nearest("shedule", known), Some("schedule"));
        assert_eq!(nearest("Schedule", known), Some("schedule"));
        assert_eq!(nearest("destination", known), Some("destinations"));
        assert_eq!(nearest("path", known), Some("paths"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
