//! What a program said, made fit for a log line, a page and a mail.

/// One line without control characters, at most `chars_max` long: it goes to logs, pages and mails.
pub(crate) fn tidy(text: &str, chars_max: usize) -> String {
    let mut tidied: String =
        text.trim().chars().take(chars_max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(chars_max).is_some() {
        tidied.push('…');
    }
    tidied
}
