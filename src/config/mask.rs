//! What looks like a secret on a line, for excerpts of text that could not be understood.
//!
//! The validator knows secrets by the schema; this is the second net, for misspelt fields, unknown plugins and broken
//! YAML. It may mask too much, never the name of a field.

use std::ops::Range;

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "private",
];

/// How many lines before a syntax error are looked at for the key that it belongs to.
const LINES_BACK_MAX: usize = 50;

/// Whether a field of this name usually holds a secret; misspelt ones too.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || name.split(['_', '-', '.']).any(|part| {
            matches!(part, "pass" | "key" | "pw")
                || (part.len() >= 5 && strsim::osa_distance(part, "password") <= 2)
                || (part.len() >= 5 && strsim::osa_distance(part, "secret") <= 1)
                || (part.len() >= 4 && strsim::osa_distance(part, "token") <= 1)
        })
}

/// The values on `line` that look like secrets: after a name such as `password:`, and in `//user:secret@host`.
pub(crate) fn looks_secret(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(':') {
        let rest = line.get(at + 1..).unwrap_or_default();
        if let Some(authority) = rest.strip_prefix("//") {
            found.extend(userinfo(authority).map(|range| range.start + at + 3..range.end + at + 3));
            continue;
        }
        let before = line.get(..at).unwrap_or_default().trim_end_matches(['"', '\'', ' ']);
        let name_start =
            before.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))).map_or(0, |at| at + 1);
        if !is_secret_name(before.get(name_start..).unwrap_or_default()) {
            continue;
        }
        let start = at + 1 + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
        let value = line.get(start..).unwrap_or_default();
        if !value.is_empty() && !is_reference(value) {
            found.push(start..start + value_length(value));
        }
    }
    found
}

/// Whether the line at `start` may be the rest of a secret that began on a line before: an unclosed quote, a block.
pub(crate) fn continues_a_secret(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    for line in before.lines().rev().take(LINES_BACK_MAX) {
        let Some((name, value)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
        let value = value.trim();
        return is_secret_name(name.trim_matches(['"', '\''])) && !is_reference(value);
    }
    false
}

/// `{file: ...}` and friends name a place, and a place may be shown.
fn is_reference(value: &str) -> bool {
    let inner = value.strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| ["file:", "env:", "credential:", "secret:"].iter().any(|kind| inner.starts_with(kind)))
}

/// A quoted value ends at its quote, a plain one at the end of the flow item or line.
fn value_length(value: &str) -> usize {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return value.len();
    };
    let mut escaped = false;
    for (at, character) in value.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = quote == '"' && character == '\\' && !escaped;
    }
    value.len()
}

fn userinfo(authority: &str) -> Option<Range<usize>> {
    let end = authority.find(['/', ' ', '"', '\'', '}', ']', '?', '#']).unwrap_or(authority.len());
    let at = authority.get(..end)?.rfind('@')?;
    Some(0..at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        let mut out = line.to_owned();
        for range in looks_secret(line).into_iter().rev() {
            if let Some(end) = out.get(range.start..).map(|_| range.end.min(out.len())) {
                out.replace_range(range.start..end, "***");
            }
        }
        out
    }

    #[test]
    fn values_of_secret_names_are_masked_wherever_they_stand() {
        for line in [
            "password: hunter2",
            "  pasword: hunter2",
            "with: {hots: db, \"password\": \"hun\\\"ter2 hunter2\", user: x}",
            "db-token:   hunter2 # note",
            "password: {plain: hunter2}",
            "smtp: smtps://me:hunter2@mail.lan:465",
            "PGPASSWORD: 'hunter2'",
            "passphrase : \"hunter2",
        ] {
            assert!(!masked(line).contains("hunter2"), "{line} -> {}", masked(line));
        }
    }

    #[test]
    fn references_and_common_fields_are_shown() {
        for line in
            ["password: {file: /run/nas}", "keep_runs: 3", "host: db.lan", "smtp: smtps://mail.lan:465", "password:"]
        {
            assert_eq!(masked(line), line);
        }
    }

    #[test]
    fn a_broken_line_after_a_secret_is_taken_for_its_rest() {
        let text = "user: x\npassword: \"hun\n\nter2: 1\n";
        assert!(continues_a_secret(text, text.find("ter2").unwrap()));
        assert!(!continues_a_secret(text, text.find("password").unwrap()));
    }
}
